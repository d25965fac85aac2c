"""`fixgw sim all`, and that the flight of the simulators does not depend on the computer's pace."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from fixgw.cli import main
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.world import MAX_BEHIND_S, RATE_HZ, World
from fixgw.kit.raw import Event, Heard
from fixgw.recording.capture import CaptureWriter, open_capture

SCENARIO = """\
flight: {start: 2025-07-21 15:00:00}
nodes: {air: , engine: }
events:
  - {at: 1, instrument: eis, fault: unplug, for: 0.5}
  - {at: 1.2, node: air, fault: silent, for: 0.3}
"""


class Slow:
    """An instrument that holds up the world once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.times.append(now)
        if len(self.times) == 3:
            time.sleep(self.seconds)

    def close(self) -> None: ...


@pytest.mark.slow
def test_after_a_hold_up_the_flight_has_all_its_steps_and_makes_up_for_a_part_of_it() -> None:
    world, slow = World(Aircraft()), Slow(MAX_BEHIND_S + 0.5)
    world.attach(slow)
    world.duration = 3.0
    began = time.monotonic()
    with world:
        assert world.over.wait(20)
    assert slow.times == [round(n / RATE_HZ, 6) for n in range(120)]
    assert time.monotonic() - began > 3.4


def test_a_stepped_bus_arbitrates_and_takes_the_time_of_its_bit_rate() -> None:
    threads = threading.active_count()
    heard: list[tuple[float, int]] = []
    bus = Segment(100_000, stepped=True)
    assert threading.active_count() == threads
    bus.attach("listener", lambda frame: heard.append((now, frame.arbitration_id)))
    sender, other = bus.attach("sender"), bus.attach("other")
    now = 0.0
    bus.tick(None, now)
    for identifier in (0x300, 0x100):  # a node sends its frames in its own order
        sender.send(SimFrame(identifier, bytes(8)))
    other.send(SimFrame(0x200, bytes(8)))
    for step in range(1, 6):
        now = step / 1000.0
        bus.tick(None, now)
    assert heard == [(0.002, 0x200), (0.003, 0x300), (0.004, 0x100)]  # 1.11 ms each
    bus.close()


@pytest.mark.slow
def test_all_instruments_send_the_same_bytes_each_time_and_what_they_send_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    flights = []
    for seed in ("5", "5", "6"):
        options = ["--dir", str(tmp_path / "bench"), "--scenario", str(tmp_path / "scenario.yaml"), "--seed", seed]
        assert main(["sim", "all", *options, "--duration", "2", "can0", "gps", "eis", "stratux", "rdac"]) == 0
        with closing(open_capture(tmp_path / "bench/sent.mcap")) as capture:
            flights.append([entry for entry in capture.entries() if isinstance(entry, Heard)])
    said = capsys.readouterr().out
    assert f"The instruments of one aircraft, in {tmp_path}/bench:\n  can0     slcan adapter, 250 kbit/s" in said
    assert "  1.00 s  eis: unplug" in said
    assert flights[0] == flights[1] != flights[2]
    links = {f"slcan {tmp_path}/bench/{bus}" for bus in ("can0", "rdac")} | {"gps", "eis", "stratux"}
    assert {heard.connection for heard in flights[0]} == links
    plugs = [h.data.what for h in flights[0] if h.connection == "eis" and isinstance(h.data, Event)]
    assert plugs == ["opened", "lost", "opened", "lost"]
    sentences = b"".join(h.data for h in flights[0] if h.connection == "gps" and isinstance(h.data, bytes))
    assert b"$GPRMC,150001" in sentences
    assert main(["replay", str(tmp_path / "bench/sent.mcap")]) == 0
    assert " sim/can/50\n" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["sent.mcap"]


def test_what_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "all", "--dir", str(tmp_path), "eiss"]) != 0
    assert "no instrument 'eiss' (did you mean 'eis'?)" in capsys.readouterr().err
    (tmp_path / "gps").touch()
    assert main(["sim", "all", "--dir", str(tmp_path), "eis", "rdac", "gps"]) != 0
    assert f"{tmp_path}/gps: File exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["gps"]  # no port is left
    assert main(["sim", "all", "--dir", str(tmp_path), "--host", "300.1.1.1", "xplane"]) != 0
    assert "--host: '300.1.1.1' is not an address" in capsys.readouterr().err


@pytest.mark.slow
def test_a_directory_in_use_is_refused_until_its_user_has_died(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flight = ["sim", "all", "--dir", str(tmp_path), "--no-record", "eis"]
    with subprocess.Popen([sys.executable, "-m", "fixgw", *flight], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            assert any("Press Ctrl-C" in line for line in first.stdout)
            port = (tmp_path / "eis").readlink()
            assert main([*flight, "--duration", "0.1"]) != 0
            said = f"fixgw: {tmp_path} is in use by another `fixgw sim all`: stop that, or give another --dir\n"
            assert capsys.readouterr().err == said
            assert (tmp_path / "eis").readlink() == port
        finally:
            first.kill()
    assert main([*flight, "--duration", "0.1"]) == 0
    assert [*tmp_path.iterdir()] == []


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert main(["sim", "all", "--dir", str(tmp_path), "--no-record", "--duration", "0.1", "eis"]) == 0


@pytest.mark.slow
def test_without_room_for_a_record_the_flight_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(writer: CaptureWriter, entries: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CaptureWriter, "write", full)
    flight = ["sim", "all", "--dir", str(tmp_path), "--duration", "1.5", "gps"]
    assert main(flight) != 0
    assert f"1.5 s flown; {tmp_path}/sent.mcap: the record is not complete: No space" in capsys.readouterr().err
    assert main([*flight, "--no-record"]) == 0
    assert capsys.readouterr().out.endswith("1.5 s flown\n")


@pytest.mark.slow
def test_a_signal_while_it_ends_leaves_nothing_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, missed = World.stop, []

    def stop_and_be_told_again(world: World) -> None:  # `timeout` sends each signal twice
        signal.raise_signal(signal.SIGTERM)
        stop(world)

    monkeypatch.setattr(World, "stop", stop_and_be_told_again)
    before = signal.signal(signal.SIGTERM, lambda number, frame: missed.append(number))
    try:
        assert main(["sim", "all", "--dir", str(tmp_path), "--duration", "0.1", "gps"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not missed
    assert [path.name for path in tmp_path.iterdir()] == ["sent.mcap"]
