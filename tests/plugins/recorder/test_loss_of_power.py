"""Losses of power at random instants, and real disks that are full, read-only or hang."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fixgw.backoff import Backoff
from fixgw.database import Database, Definition
from fixgw.errors import PluginFail
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins import recorder
from fixgw.plugins.recorder import Plugin, disk
from fixgw.recording.container import McapRecording, Writer, recover
from fixgw.world import World

#: 300 take some seconds.
CUTS = int(os.environ.get("FIXGW_CUTS", "30"))
BLOCK = 4096
SYNC_S = 5.0


def make_database(clock: Clock | None = None) -> Database:
    definitions = [Definition(key=f"EGT1{n}", max=5000.0) for n in range(1, 7)] + [Definition(key="TACH1", max=5000.0)]
    return Database(definitions, clock) if clock else Database(definitions)


def test_a_loss_of_power_costs_at_most_the_sync_interval(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written since the last fsync is cut, or has holes, or is there; the rest must be read."""
    synced = [0]
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced[0] = max(synced[0], os.fstat(fd).st_size if os.readlink(f"/proc/self/fd/{fd}").endswith(".part") else 0)

    monkeypatch.setattr(os, "fsync", fsync)
    db = make_database(clock)
    world = World(db, clock=clock)
    with world.hosting():
        plugin = Plugin("recorder", {"directory": str(tmp_path / "flights"), "sync": SYNC_S})
    plugin.begin()
    dice = random.Random(4)
    instants = []
    began = clock.now
    for n in range(900):
        clock.now += 0.2
        db.write("TACH1", 2000.0, "eis", flags=0)
        for cylinder in range(1, 7):
            db.write(f"EGT1{cylinder}", dice.uniform(600, 700), "eis", flags=0)
        plugin.step()
        if n % 5 == 4:
            plugin.disk.step(0.0)
            (part,) = (tmp_path / "flights").iterdir()
            instants.append((clock.now, part.stat().st_size, synced[0]))
    content = part.read_bytes()
    cut = tmp_path / "20260101-000000-1.mcap.part"
    for number in range(CUTS):
        now, size, safe = dice.choice(instants)
        now += dice.uniform(0, 0.9)
        assert safe <= size
        left = bytearray(content[:size])
        kind = number % 4
        if kind == 0:
            del left[dice.randrange(safe, size + 1) :]
        elif kind == 1:
            del left[safe:]
        elif kind == 2:  # the length was written, some blocks were not
            for block in range(safe // BLOCK + 1, size // BLOCK + 1):
                if dice.random() < 0.5:
                    left[block * BLOCK : (block + 1) * BLOCK] = bytes(len(left[block * BLOCK : (block + 1) * BLOCK]))
        cut.write_bytes(left)
        if now - began < SYNC_S + 1:
            continue
        whole = recover(cut)
        recording = McapRecording(whole)
        stamps = sorted({m.stamp for m in recording.messages("/engine")})
        recording.close()
        whole.unlink()
        gaps = {
            round(later - earlier, -6)
            for earlier, later in itertools.pairwise(s for s in stamps if s / 1e9 <= now - SYNC_S)
        }
        assert gaps == {200_000_000}, (number, kind)
        assert stamps[0] / 1e9 == pytest.approx(began + 0.2)
        assert stamps[-1] / 1e9 >= now - SYNC_S, (number, kind, now - stamps[-1] / 1e9)
    plugin.disk._abandon()


def test_a_finished_flight_is_on_the_disk_before_it_has_its_name(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(fd: int) -> None:
        fsync(fd)
        events.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))} {os.fstat(fd).st_size}")

    def note_rename(old: Path, new: Path) -> None:
        events.append(f"rename {os.path.getsize(old)}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    db = make_database(clock)
    with World(db, clock=clock).hosting():
        plugin = Plugin("recorder", {"directory": str(tmp_path / "flights"), "always": True})
    plugin.begin()
    plugin.step()
    plugin.disk.step(0.0)
    plugin.finish()
    plugin.disk.step(0.0)
    plugin.disk.close()
    (path,) = (tmp_path / "flights").iterdir()
    size = path.stat().st_size
    assert events[-3:] == [f"sync {path.name}.part {size}", f"rename {size}", events[-1]]
    assert events[-1].startswith("sync flights ")


# -- with its threads --------------------------------------------------------------------------------------------------


def until(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(directory: Path, **options: object) -> Plugin:
    with World(make_database()).hosting():
        plugin = Plugin("recorder", {"directory": str(directory), "always": True, "sync": 1.0, **options})
    plugin.start()
    return plugin


@pytest.mark.slow
def test_a_disk_that_hangs_holds_up_neither_the_database_nor_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, haste: None
) -> None:
    answer, asked = threading.Event(), threading.Event()
    real = os.fsync

    def hang(fd: int) -> None:
        asked.set()
        answer.wait(20.0)
        real(fd)

    monkeypatch.setattr(os, "fsync", hang)
    monkeypatch.setattr(recorder, "DISK_STOP_S", 0.1)
    plugin = run(tmp_path / "flights")
    assert asked.wait(10.0)
    began = time.monotonic()
    for n in range(1000):
        plugin.db.write("TACH1", float(n), "eis", flags=0)
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    with pytest.raises(PluginFail, match="does not answer"):
        plugin.shutdown()
    assert time.monotonic() - began < 2.0
    answer.set()
    assert plugin.disk.closed.wait(10.0)
    (path,) = (tmp_path / "flights").iterdir()
    assert path.name.endswith(".mcap")


@pytest.mark.slow
def test_it_runs_stops_and_completes_what_was_cut(tmp_path: Path, haste: None) -> None:
    cut = Writer(tmp_path / "20260101-120000-1.mcap.part", {}, {})
    cut.write("/engine", b'{"TACH1":2000}', 10**9, None)
    cut.flush()
    cut.abandon()
    plugin = run(tmp_path)
    until(lambda: plugin.get_status().get("recovered after a loss of power"))
    until(lambda: plugin.disk.size)
    plugin.shutdown()
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        recording = McapRecording(path)
        assert recording.about.complete
        recording.close()


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's thread is in a hurry."""
    monkeypatch.setattr(disk, "STEP_S", 0.05)
    monkeypatch.setattr(disk, "Backoff", lambda first, cap: Backoff(0.05, 0.2))


@pytest.fixture
def small_disk(tmp_path: Path, haste: None) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_and_is_emptied(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LEAST_FREE", 0)
    monkeypatch.setattr(disk, "LEAST_FREE_SHARE", 0.0)
    monkeypatch.setattr(disk, "LOOK_S", 0.5)
    plugin = run(small_disk / "flights")
    try:
        until(lambda: plugin.disk.size)
        with suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        dice = random.Random(1)

        def refused() -> bool:
            for n in range(1, 7):
                plugin.db.write(f"EGT1{n}", dice.uniform(0, 1000), "eis", flags=0)
            return "No space" in plugin.health()

        until(refused)
        (small_disk / "ballast").unlink()
        plugin.db.write("TACH1", 1234.0, "eis", flags=0)
        until(lambda: not plugin.health())
    finally:
        plugin.shutdown()
    (path,) = (small_disk / "flights").iterdir()
    recording = McapRecording(path)
    assert recording.about.complete
    assert [c.value for c in recording.changes(["TACH1"])][-1] == 1234.0
    recording.close()


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LEAST_FREE", 0)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    plugin = run(small_disk / "flights")
    try:
        until(lambda: "Read-only file system" in plugin.health())
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        until(lambda: not plugin.health())
    finally:
        plugin.shutdown()
    assert len(list((small_disk / "flights").iterdir())) == 1
