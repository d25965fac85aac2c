"""The GPIO driver on the virtual bank of pins: real callbacks on their own thread, a real database."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fixgw import configuration, database, state
from fixgw.configuration import Configuration
from fixgw.database import BAD, FAIL, Database
from fixgw.drivers.gpio import Plugin
from fixgw.drivers.links import pins
from fixgw.drivers.links.pins import Pins
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.hw_sim import gpio
from fixgw.hw_sim.bench.base import Subject, TimedBench
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.panel import KNOBS, Panel
from fixgw.plugin import Feeds

VIRTUAL = "fixgw.hw_sim.gpio"

OVERLAY = """
database overlay:
  entries:
    - {key: TANK, type: str, description: Fuel selector}
    - {key: GEAR, type: int, min: 0, max: 9, tol: 400}
    - {key: HELD, type: bool, tol: 400, setting: true}
    - {key: FUELUSED, min: 0.0, max: 1000.0, units: gal}
    - {key: FLOWL, min: 0.0, max: 1000.0, units: l/hr}
    - {key: HZ, min: 0.0, max: 100000.0}
    - {key: NORANGE, type: float}
connections: {}
"""


def until(condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def bank() -> Iterator[Bank]:
    gpio.bank().reset()
    yield gpio.bank()
    gpio.bank().reset()
    assert not +Pins._users, "a connection has kept the chip"


@cache
def overlaid() -> Configuration:
    with tempfile.TemporaryDirectory() as directory:
        main = Path(directory, "default.yaml")
        main.write_text(OVERLAY)
        return configuration.load(main)


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    db = overlaid().make_database()
    before = database.current()
    database.bind(db)
    yield db
    database.bind(before)


class ByHand:
    """A plugin that the test polls, and whose clock the test controls."""

    def __init__(self, bank: Bank, clock: Clock, **options: Any) -> None:
        self.bank = bank
        self.clock = clock
        self.plugin = Plugin("panel", {"library": VIRTUAL, **options})
        self.plugin.clock = clock
        self.plugin._tie()
        self.plugin.open()
        self.plugin.poll(0.0)

    def after(self, seconds: float) -> None:
        """Deliver the edges so far and poll, then let `seconds` pass in steps of whole milliseconds."""
        self.bank.flush()
        self.plugin.poll(0.0)
        end = self.clock.now + seconds
        while self.clock.now < end - 1e-9:
            self.clock.now = min(end, self.clock.now + 0.01)
            self.plugin.poll(0.0)

    def stop(self) -> None:
        self.plugin.stopping.set()
        self.plugin.close()


@pytest.fixture
def by_hand(bank: Bank, clock: Clock, db: Database) -> Iterator[Callable[..., ByHand]]:
    made: list[ByHand] = []

    def make(**options: Any) -> ByHand:
        made.append(ByHand(bank, clock, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        each.plugin.stop()


Make = Callable[..., ByHand]


class running:
    """Start a plugin, and stop it at the end within a second."""

    def __init__(self, **options: Any) -> None:
        self.plugin = Plugin("panel", {"library": VIRTUAL, **options})

    def __enter__(self) -> Plugin:
        self.plugin.start()
        until(lambda: self.plugin.health() == "" and self.plugin.connected)
        return self.plugin

    def __exit__(self, *exc: object) -> None:
        begin = time.monotonic()
        self.plugin.shutdown()
        assert time.monotonic() - begin < 1.0
        assert not self.plugin.running


# -- buttons -----------------------------------------------------------------------------------------------------------


def test_a_bouncing_button_is_pressed_once(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1"}])
    assert db.read("BTN1").value is False
    assert db.read("BTN1").good
    seen: list[object] = []
    db.subscribe("BTN1", lambda key, reading: seen.append(reading.value))
    bank.press(17, bounce=7)
    panel.after(0.015)
    assert db.read("BTN1").value is False, "it was too short"
    panel.after(0.01)
    assert db.read("BTN1").value is True
    bank.release(17, bounce=7)
    panel.after(0.05)
    assert seen == [True, False]
    assert db.read("BTN1").source == "panel"
    assert panel.plugin.counts["presses"] == 1


def test_a_contact_to_the_supply_gets_a_pull_down_resistor(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1", "active": "high"}])
    assert db.read("BTN1").value is False
    bank.drive(17, True)
    panel.after(0.05)
    assert db.read("BTN1").value is True


def test_a_press_counts_even_if_it_is_over_before_the_thread_sees_it(
    by_hand: Make, bank: Bank, clock: Clock, db: Database
) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1"}])
    seen: list[object] = []
    db.subscribe("BTN1", lambda key, reading: seen.append(reading.value))
    bank.press(17)
    bank.flush()
    clock.now += 0.04
    bank.release(17)
    bank.flush()
    clock.now += 0.04
    panel.plugin.poll(0.0)
    assert seen == [True, False]


def test_a_toggle_inverts_the_current_value_of_the_key(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1", "mode": "toggle"}])

    def press() -> None:
        bank.press(17)
        panel.after(0.05)
        bank.release(17)
        panel.after(0.05)

    press()
    assert db.read("BTN1").value is True
    db.write("BTN1", False, "somebody else")
    press()
    assert db.read("BTN1").value is True
    press()
    assert db.read("BTN1").value is False


def test_a_held_button_repeats(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1", "repeat": 0.2, "repeat_after": 0.5}])
    presses: list[object] = []
    db.subscribe("BTN1", lambda key, reading: presses.append(reading.value) if reading.value else None)
    bank.press(17)
    panel.after(1.5)
    assert 5 <= len(presses) <= 6
    bank.release(17)
    panel.after(1.0)
    assert db.read("BTN1").value is False
    assert len(presses) <= 6


def test_short_and_long_presses_have_separate_keys(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1", "long_key": "BTN2", "long_after": 0.6}])
    seen: list[tuple[str, object]] = []
    for key in ("BTN1", "BTN2"):
        db.subscribe(key, lambda key, reading: seen.append((key, reading.value)))
    bank.press(17)
    panel.after(0.2)
    assert seen == []
    bank.release(17)
    panel.after(0.3)
    assert seen == [("BTN1", True), ("BTN1", False)]
    bank.press(17)
    panel.after(0.7)
    assert seen[2:] == [("BTN2", True)]
    bank.release(17)
    panel.after(0.3)
    assert seen[3:] == [("BTN2", False)]


def test_a_button_held_at_the_start_is_pressed_but_does_not_toggle(by_hand: Make, bank: Bank, db: Database) -> None:
    bank.drive(17, False)
    bank.drive(18, False)
    db.write("BTN2", True)
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1"}, {"pin": 18, "key": "BTN2", "mode": "toggle"}])
    assert db.read("BTN1").value is True
    assert db.read("BTN2").value is True
    bank.release(17)
    panel.after(0.05)
    assert db.read("BTN1").value is False


def test_releasing_a_button_held_at_the_start_is_not_a_short_press(by_hand: Make, bank: Bank, db: Database) -> None:
    bank.drive(17, False)
    bank.drive(18, False)
    panel = by_hand(
        buttons=[
            {"pin": 17, "key": "BTN1", "long_key": "BTN3"},
            {"pin": 18, "key": "BTN2", "mode": "toggle", "long_key": "BTN4"},
        ]
    )
    seen: list[object] = []
    for key in ("BTN1", "BTN2", "BTN3", "BTN4"):
        db.subscribe(key, lambda key, reading: seen.append((key, reading.value)) if reading.value else None)
    for pin in (17, 18):
        bank.release(pin)
    panel.after(2.0)
    assert seen == []
    bank.press(17)
    panel.after(0.1)
    bank.release(17)
    panel.after(0.3)
    assert seen == [("BTN1", True)]


def test_an_edge_that_was_not_reported_is_only_late(by_hand: Make, bank: Bank, db: Database) -> None:
    bank.misses_first_edge = True
    panel = by_hand(buttons=[{"pin": 17, "key": "BTN1"}])
    bank.press(17)
    panel.after(0.25)
    assert db.read("BTN1").value is True


def test_positions_are_rewritten_if_their_keys_age(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(
        buttons=[{"pin": 17, "key": "HELD"}], selectors=[{"pins": [20, 21], "key": "GEAR", "values": [1, 2], "none": 0}]
    )
    before = db.item("HELD").writes, db.item("GEAR").writes

    def written() -> bool:
        panel.after(0.01)
        return db.item("HELD").writes > before[0] and db.item("GEAR").writes > before[1]

    until(written)


# -- knobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detents", [5, -7])
def test_a_turned_knob_adds_to_its_key(by_hand: Make, bank: Bank, db: Database, detents: int) -> None:
    panel = by_hand(encoders=[{"a": 5, "b": 6, "key": "ENC1"}])
    db.write("ENC1", 100)
    bank.turn(5, 6, detents, bounce=2)
    panel.after(0.0)
    assert db.read("ENC1").value == 100 + detents
    assert panel.plugin.counts["detents"] == abs(detents)


def test_a_knob_sets_the_altimeter_within_its_range(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(encoders=[{"a": 5, "b": 6, "key": "BARO", "step": 0.01}])
    db.write("BARO", 29.92)
    bank.turn(5, 6, 3)
    panel.after(0.0)
    assert db.read("BARO").value == 29.95
    db.write("BARO", 34.99)
    bank.turn(5, 6, 3)
    panel.after(0.0)
    assert db.read("BARO").value == 35.0
    assert db.read("BARO").good


def test_a_knob_can_wrap_around(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(encoders=[{"a": 5, "b": 6, "key": "ENC1", "wrap": True}])
    db.write("ENC1", 32767)
    bank.turn(5, 6, 1)
    panel.after(0.0)
    assert db.read("ENC1").value == -32768


def test_a_fast_turn_makes_larger_steps(by_hand: Make, bank: Bank, clock: Clock, db: Database) -> None:
    panel = by_hand(encoders=[{"a": 5, "b": 6, "key": "ENC1", "acceleration": 10}])
    for _ in range(4):
        bank.turn(5, 6, 1)
        panel.after(0.5)
    assert db.read("ENC1").value == 4
    for _ in range(4):
        bank.turn(5, 6, 1)
        panel.after(0.0)
        clock.now += 0.01
    assert db.read("ENC1").value == 4 + 1 + 3 * 10


def test_the_button_of_a_knob_works_as_a_button(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(encoders=[{"a": 5, "b": 6, "key": "ENC1", "button": {"pin": 26, "key": "BTN3"}}])
    bank.press(26)
    panel.after(0.05)
    assert db.read("BTN3").value is True
    assert panel.plugin.get_status()["GPIO26"] == "button BTN3: pressed"


# -- selectors ---------------------------------------------------------------------------------------------------------


def test_a_selector_gives_the_closed_contact(by_hand: Make, bank: Bank, db: Database) -> None:
    bank.drive(20, False)
    panel = by_hand(selectors=[{"pins": [20, 21, 16], "key": "TANK", "values": ["LEFT", "RIGHT", "BOTH"]}])
    assert db.read("TANK").value == "LEFT"
    bank.release(20)
    panel.after(0.05)
    assert db.read("TANK").value == "LEFT", "between two positions no contact is closed"
    bank.drive(16, False)
    panel.after(0.2)
    assert db.read("TANK").value == "BOTH"
    assert db.read("TANK").good


def test_a_selector_with_no_contact_or_two_contacts_closed_fails_with_the_reason(
    by_hand: Make, bank: Bank, db: Database
) -> None:
    panel = by_hand(selectors=[{"pins": [20, 21], "key": "GEAR"}])
    assert db.read("GEAR").reason(FAIL) == "no contact is closed"
    bank.drive(20, False)
    panel.after(0.2)
    assert db.read("GEAR").value == 1
    assert not db.read("GEAR").fail
    bank.drive(21, False)
    panel.after(0.2)
    assert db.read("GEAR").reason(FAIL) == "several contacts are closed: GPIO20, GPIO21"
    assert "several contacts" in panel.plugin.health() or panel.plugin.health() == "not started"


# -- lamps -------------------------------------------------------------------------------------------------------------


def test_a_lamp_lights_while_its_condition_holds(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(outputs=[{"pin": 23, "when": "OILP1 < 20 and TACH1 > 500"}])
    assert not bank.level(23)
    db.write("OILP1", 15.0, "ems", 0)
    db.write("TACH1", 2000, "ems", 0)
    panel.after(0.06)
    assert bank.level(23)
    assert panel.plugin.get_status()["GPIO23"].endswith(": on")
    db.write("OILP1", 60.0, "ems", 0)
    panel.after(0.06)
    assert not bank.level(23)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("active", ["high", "low"])
def test_an_output_is_in_its_safe_state_while_its_value_is_unknown(
    by_hand: Make, bank: Bank, db: Database, safe: bool, active: str
) -> None:
    panel = by_hand(outputs=[{"pin": 23, "when": "OILP1 < 20", "safe": safe, "active": active}])

    def on() -> bool:
        return bank.level(23) is (active == "high")

    assert on() is safe, "never written"
    db.write("OILP1", 15.0 if not safe else 60.0, "ems", 0)
    panel.after(0.06)
    assert on() is not safe
    db.item("OILP1").fail("sender open", "ems")
    panel.after(0.06)
    assert on() is safe
    assert "safe state" in panel.plugin.get_status()["GPIO23"]
    db.write("OILP1", 15.0 if not safe else 60.0, "ems", 0)
    panel.after(0.06)
    assert on() is not safe
    panel.stop()
    assert on() is safe, "stopped"
    assert bank.direction(23) == gpio.OUT, "and driven"


def test_an_output_keeps_its_safe_level_until_the_first_evaluation(by_hand: Make, bank: Bank, db: Database) -> None:
    by_hand(outputs=[{"pin": 23, "when": "not BTN1", "active": "low"}])
    assert [level for _, pin, level in bank.history if pin == 23] == [True, False]


def test_flags_and_aux_values_can_light_a_lamp(by_hand: Make, bank: Bank, db: Database) -> None:
    db.item("OILP1").write_aux("lowAlarm", None)
    panel = by_hand(
        outputs=[{"pin": 23, "when": "OILP1.annunciate"}, {"pin": 24, "when": "OILP1 < OILP1.lowAlarm or OILP1.fail"}]
    )
    db.write("OILP1", 15.0, "ems", database.ANNUNCIATE)
    panel.after(0.06)
    assert bank.level(23)
    assert not bank.level(24), "no limit is set"
    db.write("OILP1.lowAlarm", 20.0)
    panel.after(0.06)
    assert bank.level(24)
    db.write("OILP1.lowAlarm", 10.0)
    db.item("OILP1").fail("sender open", "ems")
    panel.after(0.06)
    assert bank.level(24)


@pytest.mark.parametrize("mark", ["sim/", "replay/", "override/"])
def test_what_is_simulated_moves_no_pin(by_hand: Make, bank: Bank, db: Database, mark: str) -> None:
    outputs = [
        {"pin": 23, "when": "OILP1 < 20"},
        {"pin": 24, "when": "OILP1.annunciate", "safe": True},
        {"pin": 25, "when": "OILP1.lowAlarm > 20"},
    ]
    panel = by_hand(outputs=outputs, dimmers=[{"pin": 12, "key": "DIM", "gamma": 1.0, "safe": 60}])
    db.write("OILP1.lowAlarm", 30.0)
    db.write("OILP1", 15.0, mark + "ems", 0)
    db.write("DIM", 40, mark + "knob")
    db.item("OILP1").write_aux("lowAlarm", 30.0, mark + "ems")
    panel.after(0.06)
    assert (bank.level(23), bank.level(24), bank.level(25)) == (False, True, False), "their safe states"
    assert bank.duty(12) == 60.0
    assert "safe state" in panel.plugin.get_status()["GPIO23"]
    db.write("OILP1", 15.0, "ems", 0)
    db.write("DIM", 40, "knob")
    db.item("OILP1").write_aux("lowAlarm", 30.0, "ems")
    panel.after(0.06)
    assert (bank.level(23), bank.level(24), bank.level(25)) == (True, False, True)
    assert bank.duty(12) == pytest.approx(40.0)


def test_on_a_bench_what_is_simulated_lights_lamps(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(outputs=[{"pin": 23, "when": "OILP1 < 20"}], simulated=True)
    db.write("OILP1", 15.0, "sim/ems", 0)
    panel.after(0.06)
    assert bank.level(23)


def test_an_output_follows_its_key_at_once_but_not_faster_than_50_times_a_second(
    by_hand: Make, bank: Bank, db: Database
) -> None:
    panel = by_hand(outputs=[{"pin": 23, "when": "BTN1"}])
    panel.after(0.1)
    panel.plugin._wake.clear()
    db.write("BTN1", True, "x", 0)
    assert panel.plugin._wake.is_set(), "the thread is woken"
    panel.plugin.poll(0.0)
    assert bank.level(23)
    bank.history.clear()
    for n in range(200):
        db.write("BTN1", bool(n // 3 % 2), "x", 0)
        panel.clock.now += 0.005
        panel.plugin.poll(0.0)
    assert 20 <= len([level for _, pin, level in bank.history if pin == 23]) <= 51


def test_a_lamp_blinks(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(outputs=[{"pin": 23, "when": "BTN1", "blink": 2}])
    db.write("BTN1", True, "x", 0)
    panel.after(0.06)
    bank.history.clear()
    panel.after(3.0)
    changes = [level for _, pin, level in bank.history if pin == 23]
    assert 11 <= len(changes) <= 13
    assert all(a is not b for a, b in itertools.pairwise(changes))


def test_a_dimmer_follows_its_key_and_keeps_to_its_safe_state(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(dimmers=[{"pin": 12, "key": "DIM", "gamma": 1.0, "safe": 60}])
    assert bank.duty(12) == 100.0, "the initial value"
    db.write("DIM", 40)
    panel.after(0.06)
    assert bank.duty(12) == pytest.approx(40.0)
    assert panel.plugin.get_status()["GPIO12"] == "dimmer DIM: 40%"
    db.item("DIM").fail("test")
    panel.after(0.06)
    assert bank.duty(12) == 60.0
    panel.stop()
    assert bank.duty(12) is None
    assert bank.level(12)


# -- pulses ------------------------------------------------------------------------------------------------------------


def tick(panel: ByHand, pin: int, hertz: float, seconds: float) -> None:
    """Pulses on a pin, on the panel's clock."""
    for _ in range(round(hertz * seconds)):
        panel.clock.now += 1.0 / hertz
        panel.bank.drive(pin, False)
        panel.bank.drive(pin, True)
        panel.bank.flush()
        panel.plugin.poll(0.0)


def test_a_tachometer_reads_zero_without_pulses(by_hand: Make, db: Database) -> None:
    panel = by_hand(pulses=[{"pin": 24, "key": "TACH1", "pulses": 2, "per": "revolution"}])
    assert db.read("TACH1").old, "nothing is known yet"
    tick(panel, 24, 80, 2.0)
    assert db.read("TACH1").value == pytest.approx(2400, abs=20)
    assert db.read("TACH1").good
    panel.after(2.2)
    assert db.read("TACH1").value == 0
    assert db.read("TACH1").good


@pytest.mark.slow
@pytest.mark.parametrize(("key", "per", "expected"), [("FUELF1", "gallon", 9.0), ("FLOWL", "gallon", 34.0687)])
def test_fuel_flow_is_in_the_units_of_the_key_and_adds_up(
    by_hand: Make, db: Database, key: str, per: str, expected: float
) -> None:
    panel = by_hand(pulses=[{"pin": 25, "key": key, "pulses": 4000, "per": per, "total_key": "FUELUSED"}])
    db.write("FUELUSED", 2.0)
    tick(panel, 25, 10, 8.0)
    panel.after(0.1)
    assert db.read(key).value == pytest.approx(expected, rel=0.1)
    assert db.read("FUELUSED").value == pytest.approx(2.0 + 80 / 4000)
    assert db.read("FUELUSED").good


FLOW = {"pin": 25, "key": "FUELF1", "pulses": 4000, "per": "gallon", "total_key": "FUELUSED"}


def fresh() -> Database:
    """A database as after a restart of the gateway: nothing has been written yet."""
    db = overlaid().make_database()
    database.bind(db)
    return db


def test_a_total_continues_after_a_restart(by_hand: Make, db: Database, tmp_path: Path) -> None:
    panel = by_hand(pulses=[FLOW])
    db.write("FUELUSED", 2.0)
    tick(panel, 25, 10, 8.0)
    panel.after(3.0)  # the engine is stopped
    panel.stop()
    panel.plugin.stop()
    db = fresh()
    panel = by_hand(pulses=[FLOW])
    assert db.read("FUELUSED").value == pytest.approx(2.02)
    assert db.read("FUELUSED").good
    tick(panel, 25, 10, 2.0)
    panel.after(0.2)
    assert db.read("FUELUSED").value == pytest.approx(2.025)


def test_after_a_kill_a_rising_total_says_what_it_may_lack(by_hand: Make, db: Database, tmp_path: Path) -> None:
    panel = by_hand(pulses=[FLOW])
    tick(panel, 25, 20, 15.0)
    until(lambda: panel.plugin._totals.keeper.saved >= 2)  # type: ignore[union-attr]
    db = fresh()
    by_hand(pulses=[FLOW])
    assert 0.05 <= float(db.read("FUELUSED").value) <= 0.075
    assert db.read("FUELUSED").reason(BAD) == "pulses were missed while the gateway was not running"
    db.write("FUELUSED", 0.0, "reset", 0)
    panel.after(0.2)
    assert db.read("FUELUSED").good


def test_a_total_that_has_already_been_set_is_left_alone(by_hand: Make, db: Database, tmp_path: Path) -> None:
    panel = by_hand(pulses=[FLOW])
    tick(panel, 25, 10, 8.0)
    panel.stop()
    panel.plugin.stop()
    db = fresh()
    db.write("FUELUSED", 7.0, "pilot")
    by_hand(pulses=[FLOW])
    assert db.read("FUELUSED").value == pytest.approx(7.0)


def test_a_total_counts_on_beneath_an_override(by_hand: Make, db: Database, tmp_path: Path) -> None:
    panel = by_hand(pulses=[FLOW])
    db.write("FUELUSED", 2.0)
    tick(panel, 25, 10, 8.0)
    db.item("FUELUSED").override(50.0, 0, "override/netfix/127.0.0.1", "", 600.0)
    tick(panel, 25, 10, 8.0)
    panel.after(0.2)
    db.item("FUELUSED").end_override()
    assert db.read("FUELUSED").value == pytest.approx(2.045, abs=0.01)
    assert not db.read("FUELUSED").source.startswith("override/")


def test_a_damaged_file_of_totals_is_reported_and_starts_afresh(
    by_hand: Make, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    state.save(state.path("gpio-panel"), b'{"FUELUSED": "much"}')
    by_hand(pulses=[FLOW])
    assert db.read("FUELUSED").value == 0.0
    assert "starting again from scratch" in caplog.text


def test_more_interference_than_pulses_is_bad(by_hand: Make, bank: Bank, db: Database) -> None:
    panel = by_hand(pulses=[{"pin": 24, "key": "HZ", "pulses": 1, "per": "second", "shortest": 0.015}])
    tick(panel, 24, 50, 1.5)
    assert db.read("HZ").good
    tick(panel, 24, 300, 1.5)
    assert db.read("HZ").bad
    assert db.read("HZ").reason(BAD) == "more interference than pulses"
    assert panel.plugin.counts["glitches"] > 100


def test_edges_that_overflow_the_queue_are_counted_and_fail_the_value(
    by_hand: Make, bank: Bank, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.drivers.gpio.functions.MAX_EDGES", 50)
    panel = by_hand(pulses=[{"pin": 25, "key": "FUELF1", "pulses": 4000, "per": "gallon", "total_key": "FUELUSED"}])
    tick(panel, 25, 20, 1.0)
    panel.after(0.11)
    assert db.read("FUELF1").good
    with bank.pulses(25, 100_000, count=80) as pulses:
        pulses.wait()
    panel.after(0.11)
    assert panel.plugin.counts["lost edges"] == 30
    assert panel.plugin.counts["pulses"] == 20 + 50
    assert db.read("FUELF1").fail or db.read("FUELF1").value == 0
    assert db.read("FUELUSED").reason(BAD) == "pulses were lost"
    db.write("FUELUSED", 0.0, "reset", 0)
    panel.after(0.11)
    assert db.read("FUELUSED").good, "it has been set again"


def test_there_is_no_rate_without_edge_detection(by_hand: Make, bank: Bank, db: Database) -> None:
    bank.edge_detection = False
    panel = by_hand(
        pulses=[{"pin": 24, "key": "TACH1", "pulses": 2, "per": "revolution"}],
        buttons=[{"pin": 17, "key": "BTN1"}],
        encoders=[{"a": 5, "b": 6, "key": "ENC1"}],
    )
    tick(panel, 24, 10, 1.0)
    assert "no edge detection" in db.read("TACH1").reason(FAIL)
    bank.press(17)
    panel.after(0.05)
    assert db.read("BTN1").value is True
    assert panel.plugin.get_status()["GPIO17"].endswith(", polled")
    for pin, level in [(5, False), (6, False), (5, True), (6, True)]:
        bank.drive(pin, level)
        panel.after(0.01)
    assert db.read("ENC1").value == 1


def test_edge_detection_that_reports_nothing_is_noticed(
    by_hand: Make, bank: Bank, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bank, "_tell", lambda *args: None)
    panel = by_hand(pulses=[{"pin": 24, "key": "TACH1", "pulses": 2, "per": "revolution"}])
    for level in (False, True) * 5:
        bank.drive(24, level)
        panel.after(0.11)
    assert db.read("TACH1").fail


# -- the device --------------------------------------------------------------------------------------------------------

EVERYTHING = {
    "buttons": [{"pin": 17, "key": "BTN1"}, {"pin": 18, "key": "BTN2", "mode": "toggle"}],
    "encoders": [{"a": 5, "b": 6, "key": "ENC1"}],
    "selectors": [{"pins": [20, 21], "key": "TANK", "values": ["LEFT", "RIGHT"], "none": "OFF"}],
    "outputs": [{"pin": 23, "when": "BTN1", "safe": True}],
    "dimmers": [{"pin": 12, "key": "DIM"}],
    "pulses": [
        {"pin": 24, "key": "TACH1", "pulses": 2, "per": "revolution"},
        {"pin": 25, "key": "FUELF1", "pulses": 4000, "per": "gallon", "total_key": "FUELUSED"},
    ],
}


@pytest.mark.slow
def test_no_edge_is_lost_at_a_thousand_a_second(bank: Bank, db: Database) -> None:
    option = {"pin": 25, "key": "HZ", "pulses": 1, "per": "second"}
    with running(pulses=[option], buttons=EVERYTHING["buttons"]) as plugin:
        begin = time.monotonic()
        with bank.pulses(25, 1000, count=2000) as pulses:
            until(lambda: plugin.counts["pulses"] >= 1500)
            rate = plugin.counts["pulses"] / (time.monotonic() - begin)
            assert db.read("HZ").value == pytest.approx(rate, rel=0.5)
            pulses.wait()
        until(lambda: plugin.counts["pulses"] == 2000, "edges were lost")
        assert "lost edges" not in plugin.counts
        assert bank.lost_edges == 0


def test_a_knob_turned_fast_loses_no_step(bank: Bank, db: Database) -> None:
    with running(encoders=[{"a": 5, "b": 6, "key": "ENC1"}]) as plugin:
        bank.turn(5, 6, 150)
        bank.turn(5, 6, -50, bounce=1)
        bank.flush()
        until(lambda: db.read("ENC1").value == 100)
        assert "missed steps" not in plugin.counts


def test_a_press_reaches_the_lamp_through_threads(bank: Bank, db: Database) -> None:
    with running(**EVERYTHING):
        until(lambda: not bank.level(23))
        bank.press(17, bounce=5)
        until(lambda: bank.level(23))
        bank.release(17, bounce=5)
        until(lambda: not bank.level(23))


def test_it_can_be_started_again_after_a_stop(bank: Bank, db: Database) -> None:
    for _ in range(3):
        with running(**EVERYTHING) as plugin:
            assert bank.watched(17)
            assert plugin.get_status()["library"] == VIRTUAL
        assert not bank.watched(17)
        assert bank.direction(17) is None
        assert bank.level(23), "the safe state"
        assert db.read("BTN1").reason(FAIL) == "stopped"
        assert not db.read("BTN2").fail, "settings are unchanged"


def test_a_lost_chip_fails_its_keys_until_it_is_back(bank: Bank, db: Database) -> None:
    with running(**EVERYTHING) as plugin:
        until(lambda: db.read("BTN1").good)
        db.write("BARO", 29.92, "other", 0)
        bank.unplug()
        until(lambda: not plugin.connected)
        for key in ("BTN1", "TANK", "TACH1", "FUELF1", "FUELUSED"):
            until(lambda: db.read(key).fail, key)  # noqa: B023
        assert "does not answer" in db.read("BTN1").reason(FAIL)
        assert plugin.health()
        assert not db.read("ENC1").fail
        assert db.read("BARO").good
        bank.plug()
        until(lambda: plugin.health() == "")
        until(lambda: db.read("BTN1").good and db.read("TANK").good)
        bank.press(17)
        until(lambda: db.read("BTN1").value is True)
        until(lambda: "missed" in db.read("FUELUSED").reason(BAD))
        assert plugin.counts["outages"] == 1


@pytest.mark.parametrize("options", [{"outputs": EVERYTHING["outputs"]}, {"dimmers": EVERYTHING["dimmers"]}])
def test_outputs_alone_notice_a_lost_chip(bank: Bank, db: Database, options: dict[str, Any]) -> None:
    with running(**options) as plugin:
        bank.unplug()
        until(lambda: not plugin.connected)
        bank.plug()
        until(lambda: plugin.connected and plugin.health() == "")


def test_it_stops_at_once_while_the_chip_is_away(bank: Bank, db: Database) -> None:
    with running(**EVERYTHING) as plugin:
        bank.unplug()
        until(lambda: not plugin.connected)
    bank.plug()


def test_two_connections_share_the_chip_and_both_survive_its_reopening(bank: Bank, db: Database) -> None:
    with (
        running(buttons=[{"pin": 17, "key": "BTN1"}]) as first,
        running(buttons=[{"pin": 18, "key": "BTN2"}]) as second,
    ):
        bank.unplug()
        until(lambda: not first.connected and not second.connected)
        bank.plug()
        until(lambda: first.health() == second.health() == "")
        first.shutdown()
        bank.press(18)
        until(lambda: db.read("BTN2").value is True)


def test_the_error_for_a_missing_library_says_what_to_install(db: Database) -> None:
    plugin = Plugin("panel", {"library": "no_such.module", "buttons": [{"pin": 17, "key": "BTN1"}]})
    with pytest.raises(MissingLibrary, match=r"no_such\.module is not installed"):
        plugin.start()
    assert not plugin.running
    assert str(MissingLibrary("RPi.GPIO", "rpi")).endswith("pip install 'rpi-lgpio>=0.6' 'lgpio>=0.2.2'")
    (finding,) = pins.preflight("no_such.module")
    assert "no module no_such.module" in str(finding)
    _, feeds = Plugin.preflight(plugin.options)
    assert feeds == Feeds(("BTN1",))


def test_the_doctor_expects_keys_of_pin_states_to_be_written(db: Database) -> None:
    (feeds,) = Plugin.preflight(Plugin("panel", {"library": VIRTUAL, **EVERYTHING}).options)
    assert feeds == Feeds(("BTN1", "TANK", "TACH1", "FUELF1", "FUELUSED"))


def test_importing_the_driver_imports_no_library() -> None:
    assert "RPi" not in sys.modules


# -- the adapter -------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an importable module from a text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(text: str) -> str:
        name = f"pins_test_{len(made)}_{threading.get_ident()}"
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_a_library_that_refuses_this_machine_counts_as_a_missing_device(library: Callable[[str], str]) -> None:
    pins = Pins(library("raise RuntimeError('This module can only be run on a Raspberry Pi!')"))
    with pytest.raises(DeviceError, match=r"cannot use .*: This module can only be run on a Raspberry Pi"):
        pins.open()
    pins.close()


def test_two_libraries_of_the_same_name_are_told_apart(
    library: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = library("raise RuntimeError('Cannot determine SOC peripheral base address')")
    monkeypatch.setattr("fixgw.drivers.links.pins.REAL", name)
    with pytest.raises(DeviceError, match=r"need rpi-lgpio: .*pip install 'rpi-lgpio.*'\): Cannot determine SOC"):
        Pins(name).open()


def test_lgpio_gets_a_writable_directory_before_it_is_imported(
    library: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = library("import os\nfound = os.environ['LG_WD']\nBCM = 11\nsetmode = setwarnings = print\n")
    monkeypatch.setattr("fixgw.drivers.links.pins.REAL", name)
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/run/other")
    monkeypatch.setenv("LG_WD", "")
    monkeypatch.delenv("LG_WD")
    pins = Pins(name)
    pins.open()
    pins.close()
    module: ModuleType = sys.modules[name]
    assert module.found == str(tmp_path)


def test_a_library_that_cannot_close_a_lost_chip_is_imported_again(library: Callable[[str], str]) -> None:
    """Like rpi-lgpio 0.6, whose cleanup accesses the chip first."""
    name = library("BCM = 11\nsetmode = setwarnings = print\ndef cleanup():\n    raise OSError('No such device')\n")
    first, second = Pins(name), Pins(name)
    first.open()
    second.open()
    old = sys.modules[name]
    first.close(lost=True)
    assert sys.modules[name] is old, "another connection has it"
    second.close(lost=True)
    first.open()
    assert sys.modules[name] is not old
    first.close()


def test_pins_are_read_written_watched_and_released(bank: Bank) -> None:
    edges: list[bool] = []
    mine, other = Pins(VIRTUAL), Pins(VIRTUAL)
    mine.open()
    other.open()
    mine.input(17, "up")
    other.input(18, "down")
    mine.output(23, True)
    assert mine.watch(17, lambda: edges.append(mine.read(17)))
    assert mine.read(17)
    bank.press(17)
    bank.flush()
    assert edges == [False]
    mine.write(23, False)
    assert not bank.level(23)
    mine.dim(23, 0.25, 100.0)
    assert bank.duty(23) == 25.0
    mine.stop_dimming(23, True)
    assert bank.level(23)
    mine.close()
    mine.close()
    assert bank.direction(17) is None
    assert bank.direction(18) == gpio.IN, "another's"
    with pytest.raises(DeviceError):
        mine.read(17)
    with pytest.raises(DeviceError, match="GPIO99"):
        other.input(99)
    other.close()


# -- configuration -----------------------------------------------------------------------------------------------------


def problems(tmp_path: Path, *connections: str) -> list[str]:
    main = tmp_path / "default.yaml"
    text = OVERLAY.replace("connections: {}", "connections:")
    main.write_text(text + "\n".join(f"  c{n}: {{module: fixgw.drivers.gpio, {c}}}" for n, c in enumerate(connections)))
    return [str(problem).replace(f"{main}:", "") for problem in configuration.check(main)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("library: x", "no pin is configured"),
        ("library: ../x", "library: expected text"),
        ("buttons: [{pin: 17, key: BTN99}]", "buttons[0].key: the database has no item 'BTN99'"),
        ("buttons: [{pin: 17, key: OILP1}]", "OILP1 is of type float, not bool"),
        ("buttons: [{pin: 17, key: BTN1, long_key: X}]", "buttons[0].long_key: the database has no item 'X'"),
        ("buttons: [{pin: 17, key: BTN1, long_key: BTN2, repeat: 1}]", "cannot be used together"),
        ("buttons: [{pin: 17, key: BTN1, repeat: 0.01}]", "at least 0.1 s"),
        ("buttons: [{pin: 77, key: BTN1}]", "buttons[0].pin: expected whole number, 0 to 53"),
        (
            "encoders: [{a: 1, b: 2, key: ENC1, step: 0.5}]",
            "encoders[0].step: ENC1 is an int and takes whole numbers only",
        ),
        ("encoders: [{a: 1, b: 2, key: NORANGE, wrap: yes}]", "encoders[0].wrap: NORANGE has no range"),
        ("encoders: [{a: 1, b: 2, key: ACID}]", "ACID is of type str, not float or int"),
        ("selectors: [{pins: [1, 2], key: GEAR, values: [1]}]", "2 pins, but 1 values"),
        ("selectors: [{pins: [1, 2], key: GEAR, values: [1, UP]}]", "selectors[0].values[1]: GEAR: 'UP'"),
        ("selectors: [{pins: [1, 2], key: GEAR, values: [1, 20]}]", "20 is outside GEAR's range"),
        ("selectors: [{pins: [1, 2], key: TANK}]", "selectors[0].key: TANK: 1 is not text"),
        (
            "outputs: [{pin: 1, when: OILPP1 < 20}]",
            "outputs[0].when: the database has no item 'OILPP1' (did you mean 'OILP1'?)",
        ),
        ("outputs: [{pin: 1, when: OILP1.lowWran}]", "no aux value 'OILP1.lowWran' (did you mean 'OILP1.lowWarn'?)"),
        ("outputs: [{pin: 1, when: OILP1 <}]", "outputs[0].when: not a valid expression"),
        ("outputs: [{pin: 1, when: 1 < 2}]", "it refers to no key"),
        ("dimmers: [{pin: 1, key: NORANGE}]", "NORANGE has no range"),
        (
            "pulses: [{pin: 1, key: OILP1, pulses: 2, per: revolution}]",
            "OILP1 is in psi; per revolution it must be in rpm",
        ),
        (
            "pulses: [{pin: 1, key: TACH1, pulses: 2, per: gallon}]",
            "TACH1 is in rpm; per gallon it must be in gal/hr or l/hr",
        ),
        ("pulses: [{pin: 1, key: TACH1, pulses: 2, per: revolution, total_key: HZ}]", "there is no total"),
        (
            "pulses: [{pin: 1, key: TACH1, pulses: 0, per: revolution}]",
            "pulses[0].pulses: expected number, more than 0",
        ),
    ],
)
def test_a_wrong_option_is_reported_with_its_position(tmp_path: Path, options: str, expected: str) -> None:
    found = problems(tmp_path, options)
    assert any(expected in problem for problem in found), found
    assert all(problem[0].isdigit() for problem in found), "line and column"


def test_a_valid_configuration_is_accepted_without_the_library(tmp_path: Path) -> None:
    assert problems(tmp_path, "buttons: [{pin: 17, key: BTN1}], outputs: [{pin: 23, when: 'OILP1 < 20'}]") == []


def test_two_connections_that_claim_one_pin_are_reported_with_both_positions(tmp_path: Path) -> None:
    (found,) = problems(
        tmp_path, "buttons: [{pin: 17, key: BTN1}]", "outputs: [{pin: 23, when: BTN1}, {pin: 17, when: BTN1}]"
    )
    assert "outputs[1].pin: GPIO17 is already used by connection 'c0', at " in found


@pytest.mark.parametrize(
    "options",
    [
        "encoders: [{a: 5, b: 5, key: ENC1}]",
        "encoders: [{a: 5, b: 6, key: ENC1, button: {pin: 6, key: BTN1}}]",
        "selectors: [{pins: [20, 20], key: GEAR}]",
        "dimmers: [{pin: 12, key: DIM}], pulses: [{pin: 12, key: TACH1, pulses: 1, per: revolution}]",
    ],
)
def test_two_entries_that_claim_one_pin_are_reported_too(tmp_path: Path, options: str) -> None:
    (found,) = problems(tmp_path, options)
    assert "is already used by this connection" in found


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class PinBench(TimedBench):
    """The panel on virtual pins."""

    measures = False  # a pin is high or low

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        gpio.BANK.reset()
        self.device = Panel()

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.gpio"}

    def act(self) -> None:
        super().act()
        gpio.BANK.flush()

    def half_a_frame(self) -> None:
        """A knob between two detents."""
        gpio.BANK.press(KNOBS[0].a)

    def hammer(self) -> None:
        self.device.turn(0, 10)
        super().hammer()

    def pull(self) -> None:
        gpio.BANK.unplug()

    def plug(self) -> None:
        gpio.BANK.release(KNOBS[0].a)
        gpio.BANK.plug()
        until(lambda: self.plugin.connected, "the driver does not open the chip again")

    def close(self) -> None:
        super().close()
        gpio.BANK.reset()


class TestContract(Contract):
    subject = PinBench.of(
        "fixgw.drivers.gpio",
        Panel,
        "FUELF1 BTN33",
        options={
            "pulses": [{"pin": 4, "key": "FUELF1", "pulses": 29000, "per": "gallon", "window": 2}],
            "buttons": [{"pin": 17, "key": "BTN33"}],
            "encoders": [{"a": 5, "b": 6, "key": "ENC3"}],
            "outputs": [{"pin": 20, "when": "OILP1 < 25"}],
            "dimmers": [{"pin": 18, "key": "DIM"}],
        },
        truth={"BTN33": False},
        within={"FUELF1": 0.4},
    )
