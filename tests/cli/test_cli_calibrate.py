"""`fixgw calibrate`: filling a tank gives a curve that measures it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fixgw.cli import calibrate
from fixgw.cli.calibrate import Raw, find, fresh
from fixgw.hw_sim import i2c
from fixgw.hw_sim.devices.ads1115 import Ads1115
from fixgw.kit.curve import CurveSpec
from tests.cli.conftest import Bench, Result
from tests.drivers.bus_bench import numbers, until

pytestmark = pytest.mark.slow

VOLTS = {"0": 0.3, "5": 1.1, "10": 2.4}  # of a sender, by the contents of the tank
ADC = """\
  adc:
    module: fixgw.drivers.i2c_ads1115
    library: fixgw.hw_sim.i2c
    bus: %d
    rate: 40
    conversions: 860
    channels:
      - {key: EGT11, input: 0, median: 1, curve: {linear: {factor: 1}}}
      - {key: EGT12, input: 1, curve: {sender: {pull_up: 100, ohms: [[10, 0], [90, 10]]}}}
"""


@pytest.fixture
def chip(bench: Bench) -> Iterator[Ads1115]:
    """A gateway with a converter: a tank at its first input, a sender of 50 ohms at its second."""
    bus = i2c.bus(next(numbers))
    chip = bus.attach(0x48, Ads1115())
    chip.volts[1] = 1.1
    bench.stop()
    bench.connection_options = "write: [127.0.0.0/8]\n" + ADC % bus.number
    bench.start()
    until(lambda: find(bench.gateway.get_status(), "EGT11"))
    yield chip
    bus.detach(0x48)


class Person:
    """Standard input of a person who fills the tank, waits until it has settled, and types."""

    def __init__(self, bench: Bench, chip: Ads1115, *typed: str) -> None:
        self.gateway = bench.gateway
        self.chip = chip
        self.typed = iter(typed)

    def isatty(self) -> bool:
        return False

    def settled(self, volts: float) -> bool:
        return find(self.gateway.get_status(), "EGT11")["adc"].reading == pytest.approx(volts, abs=0.001)

    def readline(self) -> str:
        word = next(self.typed, None)
        if word in VOLTS:
            self.chip.volts[0] = VOLTS[word]
            until(lambda: self.settled(VOLTS[word]))
        return "" if word is None else word + "\n"


@pytest.fixture
def typing(bench: Bench, chip: Ads1115, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(calibrate, "LOOK_S", 0.02)
    return lambda *typed: monkeypatch.setattr(sys, "stdin", Person(bench, chip, *typed))


def calibrated(output: str) -> CurveSpec:
    return msgspec.convert(yaml.safe_load(output)["curve"], CurveSpec)


def test_a_filled_tank_gives_a_curve_that_measures_it(
    typing: Callable[..., None], cli: Callable[..., Result], tmp_path: Path
) -> None:
    typing("0", "5", "10")
    file = tmp_path / "tank.yaml"
    code, out, err = cli("calibrate", "EGT11", "--seconds", "0.1", "--output", str(file))
    assert code == 0
    assert "EGT11 reads 0.3" in err
    assert file.read_text() == out
    curve = calibrated(out).curve()
    assert [curve(volts) for volts in VOLTS.values()] == pytest.approx([0.0, 5.0, 10.0], abs=0.01)
    assert curve(2.45) == 10.0  # a little above full still reads full
    assert curve(3.3) is None  # a broken wire does not read full
    assert cli("calibrate", "EGT11", "--output", str(file)) == (
        1,
        "",
        f"fixgw: {file} exists already: choose another file\n",
    )


def test_an_invalid_point_is_refused_and_undone(typing: Callable[..., None], cli: Callable[..., Result]) -> None:
    typing("undo", "0", "6", "a lot", "nan", "", "5", "10", "undo", "done", "10")
    code, out, err = cli("calibrate", "EGT11", "--seconds", "0.1")
    assert code == 0
    assert [value for _, value in calibrated(out).points] == [0.0, 5.0]
    for complaint in (
        "there is no point yet",
        "it still reads as it did at 0, so this point was not taken",
        "'a lot' is not a number",
        "'nan' is not a number",
        "removed 10",
    ):
        assert complaint in err


def test_a_value_that_reverses_is_reported(
    typing: Callable[..., None], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    typing("0", "10", "5")
    monkeypatch.setitem(VOLTS, "5", 2.8)
    assert "does not rise or fall throughout" in cli("calibrate", "EGT11", "--seconds", "0.1").err


def test_resistances_are_shown_if_the_pull_up_is_known(bench: Bench, chip: Ads1115) -> None:
    def ohms() -> Any:
        return find(bench.gateway.get_status(), "EGT12")["adc"].ohms

    until(lambda: ohms() == pytest.approx(50.0, rel=0.01))
    assert str(Raw(1.1, "V", 7, 50.02)) == "1.1 V (50.02 ohms)"
    assert str(Raw(None, "V", 7, None)) == "no reading"


def test_a_missing_chip_gives_no_reading(bench: Bench, chip: Ads1115, cli: Callable[..., Result]) -> None:
    chip.faults.silent = True
    until(lambda: not find(bench.gateway.get_status(), "EGT11"))
    code, out, err = cli("calibrate", "EGT11")
    assert (code, out) == (1, "")
    assert "no connection has a reading of EGT11" in err


def test_one_point_is_not_a_curve(typing: Callable[..., None], cli: Callable[..., Result]) -> None:
    typing("5")
    assert cli("calibrate", "EGT11", "--seconds", "0.1").code == 1


def test_unknown_keys_and_connections_are_refused(bench: Bench, chip: Ads1115, cli: Callable[..., Result]) -> None:
    assert "no connection has a reading of IAS" in cli("calibrate", "IAS").err
    assert "no item 'NOSUCH'" in cli("calibrate", "NOSUCH").err
    assert "connection 'x' has no reading of EGT11" in cli("calibrate", "EGT11", "--connection", "x").err


def test_a_reading_that_is_not_repeated_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "LOOK_S", 0.0)
    now = iter(range(100))
    assert list(fresh(lambda: Raw(1.0, "V", 7, None), 2.0, lambda: float(next(now)))) == []
