"""The world of a bench: an aircraft in real time, and the instruments attached to it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from fixgw.hw_sim import world
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.devices.mavlink import MavlinkAutopilot
from fixgw.hw_sim.everything import bench
from fixgw.hw_sim.world import World


class Witness:
    """An instrument that counts its ticks, and fails on request."""

    def __init__(self, fails_at: int = 0) -> None:
        self.times: list[float] = []
        self.closed = 0
        self.enough = threading.Event()
        self.threads: set[str] = set()
        self._fails_at = fails_at

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.threads.add(threading.current_thread().name)
        self.times.append(now)
        if len(self.times) == 10:
            self.enough.set()
        if len(self.times) == self._fails_at:
            raise RuntimeError("broken on purpose")

    def close(self) -> None:
        self.closed += 1


def test_it_flies_in_real_time_and_updates_its_instruments() -> None:
    witness = Witness()
    with World() as flying:
        began, first = time.monotonic(), flying.aircraft.flight_time
        flying.attach(witness)
        assert witness.enough.wait(10)
        flown, real = flying.aircraft.flight_time - first, time.monotonic() - began
        assert flown == pytest.approx(real, abs=0.2)
    assert witness.threads == {"world"}
    assert witness.closed == 1


def test_its_values_are_replaced_not_modified() -> None:
    witness = Witness()
    with World() as flying:
        before = flying.values
        copy = dict(before)
        flying.attach(witness)
        assert witness.enough.wait(10)
        assert flying.values is not before
        assert dict(before) == copy


def test_a_world_is_current_while_it_runs() -> None:
    assert world.current() is None
    with World() as flying:
        assert world.current() is flying
    assert world.current() is None


def test_it_stops_at_once_and_leaves_no_thread() -> None:
    flying = World()
    flying.start()
    began = time.monotonic()
    flying.stop()
    assert time.monotonic() - began < 1.0
    assert not [t for t in threading.enumerate() if t.name == "world"]
    flying.stop()


def test_an_instrument_that_fails_is_removed_and_the_others_continue(caplog: pytest.LogCaptureFixture) -> None:
    broken, witness = Witness(fails_at=2), Witness()
    with caplog.at_level(logging.ERROR), World() as flying:
        flying.attach(broken)
        flying.attach(witness)
        assert witness.enough.wait(10)
    assert len(broken.times) == 2
    assert broken.closed == 1
    assert "Witness failed and was removed from the world" in caplog.text


def test_an_instrument_that_cannot_send_a_value_that_is_set_stays_and_sends_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Line:
        sent = threading.Event()

        def write(self, data: bytes) -> None:
            self.sent.set()

        def close(self) -> None: ...

    line, witness = Line(), Witness()
    with World() as flying:
        flying.aircraft.holds = (("VOLT", 100.0),)  # more than its 16 bits of millivolts
        flying.attach(MavlinkAutopilot(line))
        flying.attach(witness)
        assert witness.enough.wait(10)
        assert not line.sent.is_set()
        flying.aircraft.holds = ()
        assert line.sent.wait(10)
    (record,) = caplog.records
    assert "MavlinkAutopilot sends nothing while the scenario says that VOLT is 100.0: " in record.message
    assert record.exc_info is None


def first_sentence(device: Path) -> str:
    with device.open("rb", buffering=0) as port:
        received = b""
        while b"\n" not in received:
            received += port.read(100)
    return received.partition(b"\n")[0].decode()


@pytest.mark.slow
def test_a_bench_provides_a_gps_on_a_port_for_any_program(tmp_path: Path) -> None:
    with bench(tmp_path):
        assert first_sentence(tmp_path / "gps").startswith("$GPRMC")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bench_can_play_a_recording_instead_of_the_gps(tmp_path: Path) -> None:
    flying = bench(tmp_path, b"$GPZDA,120000.00,01,01,2025,00,00*64\r\n")
    with (tmp_path / "gps").open("rb", buffering=0) as port, flying:
        assert port.read(6) == b"$GPZDA"
    assert list(tmp_path.iterdir()) == []
