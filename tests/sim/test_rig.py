"""The bench in one process, on a clock that moves only when it flies."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench import rig as rigs
from fixgw.hw_sim.bench.rig import VARIABLES, Rig
from fixgw.hw_sim.scenario import Scenario, load
from fixgw.hw_sim.serial import SerialInstrument

EVENTS = """\
nodes: {air: , engine: }
flight: {seed: 3}
events:
  - {at: 3, instrument: eis, fault: unplug, for: 2}
  - {at: 3, adapter: unplugged, for: 2}
  - {at: 8, node: air, fault: failed, parameter: 0x183, for: 1}
  - {at: 8, set: OILP1, to: 12, for: 1}
  - {at: 8, instrument: panel, press: 0, for: 1}
  - {at: 8, instrument: gps, fault: bit-flips, rate: 0.02, for: 2}
  - {at: 8, adapter: error-passive, for: 1}
"""


def scenario(path: Path, text: str = EVENTS) -> Scenario:
    (path / "scenario.yaml").write_text(text)
    return load(path / "scenario.yaml")


def configured(path: Path, text: str) -> configuration.Configuration:
    (path / "default.yaml").write_text(textwrap.dedent(text))
    return configuration.load(path / "default.yaml", VARIABLES)


def not_good(rig: Rig) -> set[str]:
    return {item.key for item in rig.db.items() if item.reading.source and not item.reading.good}


def test_everything_is_well_on_the_small_bench_and_nothing_needs_a_thread() -> None:
    threads = threading.active_count()
    with Rig() as rig:
        rig.fly(3)
        assert threading.active_count() == threads
        assert (rig.health(), rig.failed, not_good(rig)) == ({}, {}, set())
        assert rig.db.read("LAT").value == pytest.approx(rig.aircraft.lat, abs=0.001)
        assert rig.db.read("FUELF1").source == "sim/panel"
        assert {heard.connection for heard in rig.sent} == {"gps", "eis", "panel", "slcan /bench/can0"}


def test_events_of_a_scenario_act_as_on_the_bench(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    with Rig(scenario=scenario(tmp_path), tell=lambda at, words: told.append((at, words))) as rig:
        rig.fly(2.5)
        assert rig.health() == {}
        rig.fly(1)
        assert rig.health() == {"eis": "/bench/eis: no such device", "can": "/bench/can0 went away"}
        assert rig.db.read("OILP1").fail
        assert rig.db.read("IAS").fail
        assert rig.db.read("LAT").good
        assert rig.fly_until(lambda: not rig.health() and rig.db.read("OILP1").good, 4.0) < 3.6
        rig.fly(8.9 - rig.now)
        assert rig.db.read("IAS").fail
        assert rig.db.read("OILP1").value == 12
        assert rig.db.read("BTN33").value is True
        assert "error-passive" in rig.health()["can"]
        rig.fly(2)
        assert rig.db.read("BTN33").value is False
        assert rig.db.read("OILP1").value > 50  # type: ignore[operator]
        gps: Any = rig.plugins["gps"]
        assert gps.counts["bad checksum"] > 0
        rig.fly(1)
        assert rig.health() == {}
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    assert len(told) == 14


def flown(seconds: float, path: Path, **more: Any) -> str:
    with Rig(scenario=scenario(path), **more) as rig:
        rig.fly(seconds)
        return rig.digest()


def test_the_same_flight_has_the_same_bytes_and_another_seed_has_others(tmp_path: Path) -> None:
    first = flown(2, tmp_path)
    assert flown(2, tmp_path) == first
    with Rig(scenario=scenario(tmp_path, EVENTS.replace("seed: 3", "seed: 4"))) as other:
        other.fly(2)
        assert other.digest() != first


def test_rigs_that_fly_by_turns_are_apart(tmp_path: Path) -> None:
    events = "events:\n  - {at: 0.5, instrument: panel, fault: unplug, for: 0.2}\n"
    with Rig(scenario=scenario(tmp_path, events)) as alone:
        alone.fly(2)
        digest = alone.digest()
    with Rig(scenario=scenario(tmp_path, events)) as one, Rig(scenario=scenario(tmp_path, events)) as two:
        two.aircraft.fuel = [5.0, 5.0]
        for _ in range(6):
            one.fly(0.1)
            two.fly(0.1)
        assert set(one.health()) == set(two.health()) == {"panel"}
        one.fly(1.4)
        two.fly(1.4)
        assert (one.health(), two.health()) == ({}, {})
        assert one.digest() == digest != two.digest()


def test_the_fuel_flow_is_right_from_its_first_pulses_on() -> None:
    """Each pulse of the transducer comes at its own time, and not with all others of a step."""
    with Rig(keep=0, step=0.05) as rig:
        rig.fly(4.0)
        rig.bank.unplug()
        rig.fly(0.5)
        rig.bank.plug()
        rig.fly_until(lambda: rig.db.read("FUELF1").good, 5.0)
        assert rig.db.read("FUELF1").value == pytest.approx(rig.aircraft.values()["FUELF1"], abs=0.05)


@pytest.mark.slow
def test_every_driver_flies_the_same_in_two_processes(tmp_path: Path) -> None:
    """Whatever the order of sets is there."""
    scenario(tmp_path)
    code = (
        "import sys; from fixgw.hw_sim.bench.rig import Rig; from fixgw.hw_sim.scenario import load\n"
        "with Rig(everything=True, scenario=load(sys.argv[1])) as rig:\n"
        "    rig.fly(3)\n"
        "    tablet = rig.named['tablet'].device\n"
        "    print(tablet.position(rig.now), len(tablet.traffic(rig.now)), tablet.complaints)\n"
        "    rig.fly(3, 1.0)\n"
        "    print(rig.failed, sorted(rig.left_out), rig.digest())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "scenario.yaml")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    tablet, rig = said[0].splitlines()
    assert tablet.startswith("Seen(address=")
    assert tablet.endswith(" 6 []")
    assert rig.startswith("{} ['netfix', 'raw', 'web'] ")


@pytest.mark.skipif(sys.gettrace() is not None or sys.getprofile() is not None, reason="something else counts calls")
def test_every_driver_together_flies_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in calls of functions, whose number does not depend on the computer."""
    monkeypatch.setattr(rigs, "AFTER_S", 0.1)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    def calls_in(seconds: float, lapse: float | None) -> float:
        nonlocal calls
        calls = 0
        sys.setprofile(count)
        try:
            rig.fly(seconds, lapse=lapse)
        finally:
            sys.setprofile(None)
        return calls / seconds

    with Rig(everything=True) as rig:
        rig.fly(5, lapse=1.0)
        assert calls_in(2, 1.0) < 29_500
        assert calls_in(0.5, None) < 140_000


class Thermometer(SerialInstrument):
    """Somebody's own instrument."""

    RATE = 10.0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        return [f"{aircraft.values()['OAT']:.1f}\n".encode()]


def test_somebodys_own_device_by_the_name_of_the_connection_or_by_wires(tmp_path: Path) -> None:
    own = configured(
        tmp_path,
        """\
        connections:
          outside: {module: fixgw.drivers.lines, port: /dev/ttyUSB3, lines: [{fields: {OAT: {from: 1}}}]}
          eis: {module: fixgw.drivers.eis, port: /dev/ttyUSB4}
          other: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB5}
          nobody: {module: fixgw.drivers.lines, port: /dev/ttyUSB6, lines: [{fields: {CAT: {from: 1}}}]}
        """,
    )
    with Rig(own, devices={"outside": Thermometer}, wires={"other": "gps"}) as rig:
        rig.fly(2)
        assert rig.db.read("OAT").value == pytest.approx(rig.aircraft.temperature - 273.15, abs=0.1)
        assert rig.db.read("OILP1").good
        assert rig.db.read("LAT").good
        assert rig.health() == {"nobody": "nothing is connected"}
        assert set(rig.named) == {"outside", "gps", "eis"}


def test_a_time_lapse_keeps_everything_good_and_is_none_around_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rigs, "AFTER_S", 2.0)
    steps: list[float] = []
    events = "events:\n  - {at: 30, instrument: panel, press: 0, for: 1}\n"
    with Rig(scenario=scenario(tmp_path, events)) as rig:
        rig.hooks.append(lambda rig: steps.append(rig.now))
        rig.fly(60, lapse=1.0)
        assert (rig.now, rig.health(), not_good(rig)) == (60.0, {}, set())
        long = [round(after - before, 3) for before, after in pairwise(steps) if after - before > 0.1]
        assert sum(long) == pytest.approx(60 - 2 - (1 + 1 + 2), abs=0.1)
        assert rig.db.read("OILP1").stamp == 1060.0
        assert rig.db.read("LAT").value == pytest.approx(rig.aircraft.lat, abs=0.001)
