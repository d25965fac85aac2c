"""The recorder on a wound clock: what it records, when, and what it does when the disk is in trouble."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader

from fixgw.database import BAD, OLD, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit import raw as raw_tap
from fixgw.plugins.recorder import Plugin, disk, settings
from fixgw.recording import Change, container, flight, layout, raw
from fixgw.recording.container import McapRecording
from fixgw.world import World

NOON = datetime(2026, 5, 16, 12, 0, 0, tzinfo=UTC)


class Bench:
    """A recorder whose two threads are stepped by hand."""

    def __init__(self, clock: Clock, directory: Path, **options: Any) -> None:
        self.clock = clock
        self.db = Database(
            [
                Definition(key="IAS", max=500.0, tolerance=2000, aux=("Vs0", "Vne"), units="knots"),
                Definition(key="GS", max=500.0, tolerance=2000),
                Definition(key="ALT", max=50000.0),
                Definition(key="TACH1", max=5000.0),
                Definition(key="ACID", type="str"),
            ],
            clock,
        )
        self.db.write("ACID", "N123", "initial")
        self.utc: datetime | None = NOON
        self.began = clock.now
        self.world = World(self.db, status=lambda: {"health": "ok"}, clock=clock, utc=self.time)
        with self.world.hosting():
            self.plugin = Plugin("recorder", {"directory": str(directory), **options})
        self.directory = directory
        self.plugin.begin()

    def time(self) -> datetime:
        if self.utc is None:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock.now - self.began)
        return self.utc + timedelta(seconds=self.clock.now - self.began)

    def fly(self, seconds: float, rpm: float | None = 2400.0, every: float = 0.1) -> None:
        """Let time pass; the engine turns, and IAS counts tenths of seconds."""
        end = self.clock.now + seconds - every / 2
        n = 0
        while self.clock.now < end:
            self.clock.now += every
            if rpm is not None:
                self.db.write("TACH1", rpm, "eis", flags=0)
            self.db.write("IAS", round((self.clock.now - self.began) % 400, 1), "adc", flags=0)
            self.db.age()
            self.plugin.step()
            n += 1
            if n % 9 == 0:
                self.plugin.disk.step(0.0)

    def end(self) -> None:
        self.plugin.finish()
        self.plugin.disk.step(0.0)
        self.plugin.disk.close()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def bench(clock: Clock, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made = []

    def make(**options: Any) -> Bench:
        made.append(Bench(clock, options.pop("directory", tmp_path / "flights"), **options))
        return made[-1]

    yield make
    for each in made:
        each.plugin.disk._abandon()


@pytest.fixture
def read() -> Iterator[Callable[[Path], McapRecording]]:
    opened = []

    def open_it(path: Path) -> McapRecording:
        opened.append(McapRecording(path))
        return opened[-1]

    yield open_it
    for recording in opened:
        recording.close()


Read = Callable[[Path], McapRecording]
Make = Callable[..., Bench]


def only(bench: Bench) -> Path:
    (name,) = bench.files()
    return bench.directory / name


# -- when --------------------------------------------------------------------------------------------------------------


def test_a_flight_begins_a_minute_before_the_engine_and_ends_a_minute_after_it(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(300, rpm=0)
    assert not b.directory.exists()
    b.fly(100)
    b.fly(120, rpm=0)
    assert b.files() == ["20260516-120358-1.mcap"] or b.files()[0].endswith("-1.mcap")
    about = read(only(b)).about
    assert 100 + 60 + 60 <= about.end - about.start <= 100 + 60 + 20 + 60 + 10
    assert about.complete
    before = [c for c in read(only(b)).changes(["TACH1"]) if c.value == 0]
    assert before[0].time == about.start
    speeds = [c.value for c in read(only(b)).changes(["IAS"])]
    assert len(speeds) > 10 * 220


def test_the_gateway_starts_in_flight_and_stops(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(30)
    assert b.files() == ["20260516-120000-1.mcap.part"]
    b.end()
    recording = read(only(b))
    assert recording.about.end - recording.about.start == pytest.approx(30, abs=0.3)
    assert recording.about.ident == "N123"


def test_a_long_flight_goes_on_in_another_file_without_a_gap(bench: Make, read: Read) -> None:
    b = bench(max_minutes=1.0)
    b.fly(150)
    b.end()
    names = b.files()
    assert len(names) == 3
    parts = [read(b.directory / name) for name in names]
    for before, after in itertools.pairwise(parts):
        assert after.about.start - before.about.end == pytest.approx(0, abs=0.11)
        first = {c.key: c for c in after.changes() if c.time == after.about.start}
        assert set(first) == {"IAS", "GS", "ALT", "TACH1", "ACID"}  # the state of all keys
    assert sum(len(list(p.changes(["IAS"]))) for p in parts) in range(1495, 1510)


def test_always(bench: Make) -> None:
    b = bench(always=True)
    b.fly(5, rpm=0)
    assert b.files() == ["20260516-120000-1.mcap.part"]


# -- what --------------------------------------------------------------------------------------------------------------


def test_values_flags_reasons_sources_aux_alerts_and_status(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(2)
    b.db.write("ALT", 1000.0, "sim/adc", BAD, "no static port")
    b.db.write("IAS.Vne", 180.0)
    for listener in b.world.alert_listeners:
        listener(b.clock.now, {"id": "oil", "to": "active", "level": "warning", "text": "OIL PRESSURE"})
    b.fly(61)
    b.clock.now += 5
    b.db.age()
    b.plugin.step()  # IAS is old
    b.end()
    path = only(b)
    recording = read(path)
    alt = [c for c in recording.changes(["ALT"]) if c.value is not None]
    assert [c[1:] for c in alt] == [("ALT", 1000.0, BAD, "sim/adc", {"bad": "no static port"})]
    assert next(recording.changes(["ALT"])).value is None  # never written
    last = list(recording.changes(["IAS"]))[-1]
    assert last.flags & OLD
    assert "old" in last.reasons
    assert [tuple(a)[1:] for a in recording.alerts()] == [("oil", "active", "warning", "OIL PRESSURE")]
    assert [json.loads(m.data) for m in recording.messages(layout.AUX)][-1] == {"IAS.Vne": 180.0}
    assert json.loads(next(recording.messages(layout.STATUS)).data) == {"health": "ok"}
    about = recording.about
    assert (about.simulated, about.units, about.ident) == (True, {"IAS": "knots"}, "N123")
    assert about.more["boot"]
    listed = flight.summarize(path)
    assert (listed.level, listed.alert, listed.simulated) == ("warning", "OIL PRESSURE", True)
    assert (listed.start, listed.end) == pytest.approx((about.start, about.end), abs=1e-3)
    with path.open("rb") as file:
        topics = {channel.topic for _, channel, _ in make_reader(file).iter_messages()}
    assert topics >= {"/flight", "/engine", "/system", "/flags", "/reasons", "/sources", "/aux", "/alerts", "/time"}


def test_what_does_not_change_costs_nothing(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(20)
    b.end()
    assert len(list(read(only(b)).changes(["TACH1"]))) <= 2


@pytest.mark.parametrize("cut", [False, True])
def test_take_off_and_landing_are_noted(cut: bool, bench: Make) -> None:
    b = bench()
    b.fly(10)
    for speed, seconds in (*[(80, 10)] * 6, (10, 10), (10, 10)):
        for _ in range(seconds * 10):
            b.db.write("GS", float(speed), "gps", flags=0)
            b.clock.now += 0.1
            b.db.write("IAS", float(speed), "adc", flags=0)
            b.plugin.step()
        b.plugin.disk.step(0.0)
    for listener in b.world.alert_listeners:
        listener(b.clock.now, {"id": "oil", "to": "active", "level": "warning", "text": "OIL PRESSURE"})
    if cut:
        b.plugin.step()
        b.plugin.disk.step(0.0)
        b.plugin.disk._abandon()
        part = only(b)
        listed = flight.summarize(part)
        assert not listed.complete
        b.end()
        container.recover(part)
        part.unlink()
        assert flight.summarize(only(b)).takeoff == pytest.approx(listed.takeoff)
    else:
        b.end()
        listed = flight.summarize(only(b))
    assert listed.takeoff is not None
    assert listed.landing is not None
    assert listed.takeoff - listed.start == pytest.approx(11, abs=1)
    assert listed.landing - listed.start == pytest.approx(73, abs=1)
    assert (listed.level, listed.alert) == ("warning", "OIL PRESSURE")


def test_only_the_chosen_keys(bench: Make, read: Read) -> None:
    b = bench(keys=["TACH*", "ALT"])
    b.fly(5)
    b.end()
    assert {c.key for c in read(only(b)).changes()} == {"TACH1", "ALT"}


def test_raw_data(bench: Make, read: Read) -> None:
    b = bench(raw=True)
    b.fly(1)
    raw_tap.point(b.db).pass_on("gps", b.clock.now, "in", b"$GP\xff")
    b.fly(2)
    b.end()
    found = [heard for m in read(only(b)).messages("/raw/") for heard in raw.decode("gps", m.data)]
    assert [(h.direction, h.data) for h in found] == [("in", b"$GP\xff")]


def test_much_raw_data_does_not_fill_the_memory(bench: Make) -> None:
    b = bench(raw=True)
    b.fly(1, rpm=0)
    for _ in range(100):
        raw_tap.point(b.db).pass_on("camera", b.clock.now, "in", bytes(500_000))
        b.clock.now += 0.1
        b.plugin.step()
    kept = sum(len(entry.data) for piece in b.plugin._pieces for entry in piece.changes)
    assert 3_000_000 < kept < 20_000_000
    b.db.write("TACH1", 2000.0, "eis", flags=0)
    for _ in range(100):
        raw_tap.point(b.db).pass_on("camera", b.clock.now, "in", bytes(500_000))
        b.clock.now += 0.1
        b.plugin.step()
    assert b.plugin.queue.lost
    assert sum(batch.size for batch in b.plugin.queue.take(0.0)) < 20_000_000


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_in_flight_dates_all_of_it(bench: Make, read: Read) -> None:
    b = bench()
    b.utc = None
    b.fly(20)
    assert b.files() == ["19700101-001640-1.mcap.part"] or b.files()[0].startswith("19700101")
    b.utc = NOON
    b.fly(20)
    b.end()
    assert b.files() == ["20260516-120000-1.mcap"]
    about = read(only(b)).about
    assert about.dated
    assert about.start == pytest.approx(NOON.timestamp(), abs=0.2)
    listed = flight.summarize(only(b))
    assert listed.dated
    assert listed.start == pytest.approx(about.start)


def test_a_clock_that_steps_moves_nothing(bench: Make, read: Read) -> None:
    b = bench()
    b.utc = NOON - timedelta(days=3)  # of the last shutdown
    b.fly(10)
    b.utc = NOON
    b.fly(10)
    b.end()
    recording = read(only(b))
    times = [c.time for c in recording.changes(["IAS"])]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.11
    assert recording.about.start == pytest.approx(NOON.timestamp(), abs=0.2)


def test_a_process_that_was_held_up_goes_on(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(10)
    b.clock.now += 100
    b.fly(10)
    b.end()
    times = [c.time for c in read(only(b)).changes(["IAS"])]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) == pytest.approx(100.1, abs=0.2)


# -- the disk ----------------------------------------------------------------------------------------------------------


statvfs_of = os.statvfs


def room(bytes_free: list[int]) -> Callable[[Any], Any]:
    def statvfs(path: Any) -> Any:
        facts = statvfs_of(path)
        return os.statvfs_result((1, 1, 10**9, 0, bytes_free[0], *facts[5:]))

    return statvfs


def test_the_oldest_recordings_make_room_but_never_those_that_are_kept(
    bench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "flights"
    directory.mkdir()
    names = [f"20260101-12000{n}-1.mcap" for n in range(4)]
    for name in [*names, "notes.mcap", "20260101-120000-1.txt", "20250101-120000-1.mcap.part", "-1.mcap", "\udcff\n"]:
        (directory / os.fsencode(name).decode(errors="surrogateescape")).write_bytes(b"x")
    (directory / "20200101-120000-1.mcap").symlink_to(directory / names[0])
    flight.mark(directory / names[1], True)
    left = [0]

    def statvfs(path: Any) -> Any:
        gone = sum(not (directory / name).exists() for name in names)
        left[0] = 60_000_000 if gone >= 2 else 0
        return room(left)(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    b = bench()
    b.fly(5)
    assert [name for name in names if (directory / name).exists()] == [names[1], names[3]]
    assert b.plugin.get_status()["recordings deleted"] == 2
    assert len(b.files()) == 2 + 1 + 6 + 1  # those, the mark, other people's, ours


def test_a_full_disk_is_said_and_costs_only_the_recording(
    bench: Make, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench()
    b.fly(10)
    free = [0]
    monkeypatch.setattr(os, "statvfs", room(free))
    b.fly(20)
    assert "the disk is full" in b.plugin.health()
    lost = b.plugin.get_status()["batches lost"]
    assert lost > 50
    free[0] = 10**9
    b.db.write("ALT", 777.0, "adc", flags=0)
    b.fly(30)
    assert b.plugin.health() == "not started"
    b.end()
    recording = read(only(b))
    assert recording.about.complete
    assert [c.value for c in recording.changes(["ALT"])][-1] == 777.0
    times = [c.time for c in recording.changes(["IAS"])]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) > 5  # the gap


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses(number: int, bench: Make, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench()
    b.fly(10)
    real = os.write

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    b.fly(20)
    assert os.strerror(number) in b.plugin.health()
    monkeypatch.setattr(os, "write", real)
    b.fly(30)
    assert b.plugin.health() == "not started"
    b.end()
    parts = [read(b.directory / name) for name in b.files()]
    assert len(parts) == (1 if number == errno.ENOSPC else 2)
    assert all(part.about.lost == 0 for part in parts)
    values = sorted({c.time for part in parts for c in part.changes(["IAS"])})
    assert len(values) > 250


def test_a_directory_that_vanishes_is_made_again(bench: Make, tmp_path: Path) -> None:
    b = bench()
    b.fly(10)
    b.directory.rename(tmp_path / "elsewhere")
    b.fly(40)
    assert b.plugin.health() == "not started"
    assert len(b.files()) == 1
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_directory_that_cannot_be_made(bench: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    b = bench(directory=tmp_path / "file" / "flights")
    b.fly(10)
    assert "Not a directory" in b.plugin.health()


def test_a_slow_disk_loses_the_oldest_and_the_next_batch_has_everything(bench: Make, read: Read) -> None:
    b = bench()
    b.fly(5)
    b.plugin.disk.step(0.0)
    b.db.write("ALT", 5.0, "adc", flags=0)
    for _ in range(300):  # the disk takes nothing for 30 s
        b.clock.now += 0.1
        b.plugin.step()
    assert 190 < b.plugin.queue.lost < 210
    b.fly(5)
    b.end()
    assert [c.value for c in read(only(b)).changes(["ALT"])][-1] == 5.0


def test_the_health_says_that_the_disk_hangs(bench: Make) -> None:
    b = bench()
    b.plugin.running = True
    b.plugin.disk.busy_since = b.clock.now
    b.clock.now += 5
    assert "the disk has not answered for 5 s" in b.plugin.health()


def test_two_recorders_share_a_directory(bench: Make, read: Read) -> None:
    a = bench()
    b = bench()
    for _ in range(10):
        a.fly(1)
        b.plugin.step()
        b.db.write("TACH1", 2000.0, "eis", flags=0)
        b.plugin.disk.step(0.0)
    assert disk.recover_all(a.directory, bool) == {"recovered": 0, "empty": 0, "not recovered": 0}
    a.end()
    b.end()
    assert len(a.files()) == 2
    assert all(read(a.directory / name).about.complete for name in a.files())


# -- a loss of power ---------------------------------------------------------------------------------------------------


def test_what_a_loss_of_power_cut_is_completed(bench: Make, read: Read) -> None:
    a = bench()
    a.fly(20)
    a.plugin.disk._abandon()  # as the kernel does when the process dies
    part = only(a)
    before = list(read(part).changes())
    (a.directory / "20260516-110000-1.mcap.part").touch()
    assert disk.recover_all(a.directory, bool) == {"recovered": 1, "empty": 1, "not recovered": 0}
    assert a.files() == [part.name.removesuffix(".part")]
    recording = read(only(a))
    assert recording.about.complete
    assert list(recording.changes()) == before


def test_a_recovery_ends_when_the_gateway_stops(bench: Make) -> None:
    a = bench()
    a.fly(20)
    a.plugin.disk._abandon()
    b = bench()
    b.plugin.stopping.set()
    recovery = threading.Thread(target=b.plugin._recover)  # it lowers its own priority, for good
    recovery.start()
    recovery.join()
    assert a.files() == [only(a).name]
    assert only(a).name.endswith(".part")


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_the_configuration_is_attached_without_secrets(tmp_path: Path) -> None:
    main = tmp_path / "default.yaml"
    main.write_text(
        "connections:\n  mqtt: {host: tcp://joe:hunter2@broker:1883, password: hunter2, port: 1}\n"
        "  web:\n    api_key: 'hunter2'  # hunter3\n    auth-token: hunter2\n    token_name: hunter2\n"
    )
    found = settings.readable([str(main), str(tmp_path / "missing.yaml")])
    text = found["configuration/default.yaml"].decode()
    assert "hunter2" not in text
    assert "port: 1}" in text
    assert "tcp://***@broker:1883" in text


def test_changes_are_what_they_promise() -> None:
    assert container.name_of(Path("20260516-120000-1.mcap.part")) == "20260516-120000-1"
    assert Change._fields[:2] == ("time", "key")
