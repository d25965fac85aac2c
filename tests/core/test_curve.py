"""Calibration curves: straight lines, tables, thermistors and resistive senders, from their options."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.configuration.options import problems
from fixgw.configuration.reader import Positions
from fixgw.kit.curve import Curve, CurveSpec, raw_readings, tables


def spec(**options: Any) -> CurveSpec:
    return msgspec.convert(options, CurveSpec, strict=True)


def curve(full_scale: float = 1.0, /, **options: Any) -> Curve:
    return spec(**options).curve(full_scale)


def wrong(**options: Any) -> str:
    found = [p.message for p in problems(options, CurveSpec, Positions(""), "curve")]
    assert len(found) == 1, found
    return found[0]


# -- points ------------------------------------------------------------------------------------------------------------


def test_a_curve_is_linear_between_two_points() -> None:
    pressure = curve(points=[[400, 0.0], [2400, 100.0], [3600, 130.0]])
    assert pressure(400) == 0.0
    assert pressure(1400) == 50.0
    assert pressure(3000) == 115.0
    assert pressure(3600) == 130.0


def test_falling_readings_work_like_rising_ones() -> None:
    level = curve(points=[[240, 0.0], [33, 20.0]])
    assert level(240) == 0.0
    assert level(33) == 20.0
    assert level(136.5) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("beyond", "below", "above"),
    [(None, None, None), ("fail", None, None), ("clamp", 10.0, 30.0), ("extend", 0.0, 40.0)],
)
def test_beyond_its_ends_a_curve_behaves_as_configured(
    beyond: str | None, below: float | None, above: float | None
) -> None:
    ends = curve(points=[[1, 10.0], [3, 30.0]], **({"beyond": beyond} if beyond else {}))
    assert ends(0) == below
    assert ends(4) == above


def test_beyond_its_limits_a_sensor_is_open_or_shorted() -> None:
    level = curve(points=[[1, 10.0], [3, 30.0]], beyond="clamp", limits=[0.5, 3.5])
    assert level(0.5) == 10.0
    assert level(0.49) is None
    assert level(3.51) is None


def test_a_linear_curve_is_evaluated() -> None:
    volts = curve(linear={"factor": 0.5, "offset": -1.0}, limits=[0, 10])
    assert volts(4.0) == 1.0
    assert volts(10.1) is None


def test_the_value_can_be_scaled_to_the_unit_of_the_key() -> None:
    fahrenheit = curve(linear={"factor": 100.0}, scale=1.8, add=32.0)
    assert fahrenheit(1.0) == 212.0


# -- resistors ---------------------------------------------------------------------------------------------------------


def divider(ohms: float, pull_up: float) -> float:
    return ohms / (ohms + pull_up)


def test_a_thermistor_is_25_degrees_at_its_nominal_resistance() -> None:
    ntc = curve(thermistor={"r25": 10000, "beta": 3950, "pull_up": 10000})
    assert ntc(0.5) == pytest.approx(25.0)
    # R = r25 exp(beta (1/T - 1/T25))
    hot = 10000 * math.exp(3950 * (1 / 373.15 - 1 / 298.15))
    assert ntc(divider(hot, 10000)) == pytest.approx(100.0)


def test_steinhart_hart_gives_the_table_of_a_10k_thermistor() -> None:
    """Coefficients and resistances of the usual 10 kΩ "type 3" thermistor."""
    ntc = curve(thermistor={"a": 1.028444e-3, "b": 2.392435e-4, "c": 1.562216e-7, "pull_up": 10000})
    for ohms, degrees in ((29490, 0.0), (10000, 25.0), (3893, 50.0)):
        assert ntc(divider(ohms, 10000)) == pytest.approx(degrees, abs=0.1)


def test_an_open_or_shorted_thermistor_gives_no_value() -> None:
    ntc = curve(4095, thermistor={"r25": 10000, "beta": 3950, "pull_up": 10000})
    assert ntc(4095) is None
    assert ntc(0) is None
    assert ntc(-5) is None
    assert ntc(5000) is None
    assert ntc(2047.5) == pytest.approx(25.0)


def test_the_supply_of_the_pull_up_can_differ_from_the_full_scale() -> None:
    ntc = curve(4.096, thermistor={"r25": 1000, "beta": 3500, "pull_up": 1000}, supply=3.3)
    assert ntc(1.65) == pytest.approx(25.0)


def test_a_sender_can_have_its_own_table() -> None:
    fuel = curve(1023, sender={"pull_up": 100, "ohms": [[0, 0.0], [100, 10.0]]})
    assert fuel(0) == 0.0  # no resistance gives a value
    assert fuel(1023 / 3) == pytest.approx(5.0)
    assert fuel(1023) is None


def test_a_named_table_detects_a_broken_sender() -> None:
    oil = curve(sender={"table": "vdo-pressure-10bar", "pull_up": 220})
    assert oil(divider(10, 220)) == pytest.approx(0.0)
    assert oil(divider(9, 220)) == 0.0  # senders have tolerances
    assert oil(divider(95, 220)) == pytest.approx(72.5, abs=0.1)
    assert oil(divider(1, 220)) is None
    assert oil(1.0) is None


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_named_sender_fails_when_it_is_shorted_or_open(name: str) -> None:
    broken = curve(sender={"table": name, "pull_up": 240})
    assert broken(divider(0.5, 240)) is None
    assert broken(divider(100_000, 240)) is None


def test_a_table_in_fractions_can_be_scaled_to_gallons() -> None:
    tank = curve(sender={"table": "american-level", "pull_up": 240}, scale=19.0)
    assert tank(divider(240, 240)) == 0.0
    assert tank(divider(33, 240)) == pytest.approx(19.0)


@pytest.mark.parametrize("name", tables())
def test_every_packaged_table_is_valid_and_names_its_source(name: str) -> None:
    table = tables()[name]
    assert table["description"]
    assert table["units"]
    assert table["source"]
    assert table["certainty"] in ("stated", "table")
    values = curve(sender={"table": name, "pull_up": 300})
    for ohms, value in table["ohms"]:
        assert table["limits"][0] < ohms < table["limits"][1]
        assert values(divider(ohms, 300)) == pytest.approx(value)


# -- problems ----------------------------------------------------------------------------------------------------------


def test_invalid_curves_are_reported_at_their_position() -> None:
    assert "choose exactly one of points, linear, thermistor and sender" in wrong()
    assert "not points and linear" in wrong(points=[[0, 0], [1, 1]], linear={"factor": 1.0})
    assert "at least two points" in wrong(points=[[0, 0]])
    assert "must rise or fall throughout" in wrong(points=[[0, 0], [2, 1], [1, 2]])
    assert "repeated" in wrong(points=[[0, 0], [1, 1], [1, 2]])
    assert "must rise or fall" in wrong(sender={"pull_up": 100, "ohms": [[0, 0], [2, 1], [1, 2]]})
    assert "r25 and beta, or a, b and c" in wrong(thermistor={"pull_up": 1000, "r25": 1000})
    assert "r25 and beta, or a, b and c" in wrong(thermistor={"pull_up": 1000, "r25": 1e3, "beta": 1.0, "a": 1.0})
    assert "greater than zero" in wrong(thermistor={"pull_up": 1000, "r25": 0, "beta": 3000})
    assert "(did you mean 'american-level'?)" in wrong(sender={"pull_up": 100, "table": "american-leval"})
    assert "either table or ohms" in wrong(sender={"pull_up": 100})
    assert "give the lower one first" in wrong(linear={"factor": 1.0}, limits=[2, 1])
    assert "extend applies only to points and senders" in wrong(linear={"factor": 1.0}, beyond="extend")
    assert "must not be zero" in wrong(linear={"factor": 1.0}, scale=0.0)


def test_a_resistance_may_be_small_but_not_zero() -> None:
    for small in (0.5, 1):
        curve(thermistor={"r25": small, "beta": small, "pull_up": small})
    assert "more than 0, got the number 0" in wrong(thermistor={"r25": 1, "beta": 1, "pull_up": 0})


def test_another_unit_than_that_of_the_key_is_reported_unless_scaled() -> None:
    table = {"table": "vdo-pressure-5bar", "pull_up": 100}
    assert list(spec(sender=table).check_units("psi")) == []
    assert list(spec(sender=table).check_units("bar")) == [
        "the curve gives psi, but the key is in bar: set `scale` (and `add`) to convert"
    ]
    assert list(spec(sender=table, scale=0.0689).check_units("bar")) == []
    ntc = {"r25": 10000, "beta": 3950, "pull_up": 10000}
    assert list(spec(thermistor=ntc).check_units("degC")) == []
    assert len(list(spec(thermistor=ntc).check_units("degF"))) == 1
    assert list(spec(points=[[0, 0], [1, 1]]).check_units("anything")) == []


# -- readings ----------------------------------------------------------------------------------------------------------


def test_the_last_readings_are_shown_with_their_resistance() -> None:
    level = curve(sender={"pull_up": 100, "ohms": [[0, 0.0], [200, 20.0]]}, supply=5.0)
    straight = curve(linear={"factor": 1.0})
    shown = raw_readings({"A": level, "B": straight}, "V")
    assert shown == {key: {"reading": None, "units": "V", "number": 0} for key in "AB"}
    for reading in (1.0, 2.5):
        level(reading)
        straight(reading)
    assert raw_readings({"A": level, "B": straight}, "V") == {
        "A": {"reading": 2.5, "units": "V", "number": 2, "ohms": 100.0},
        "B": {"reading": 2.5, "units": "V", "number": 2},
    }
    for reading, ohms in ((0.0, 0.0), (-0.1, None), (4.0, 400.0), (5.0, None)):
        level(reading)
        assert level.ohms() == pytest.approx(ohms)


# -- robustness --------------------------------------------------------------------------------------------------------

anything = st.floats(allow_nan=True, allow_infinity=True)
CURVES = (
    curve(points=[[400, 0.0], [2400, 100.0]], beyond="extend"),
    curve(points=[[400, 0.0], [2400, 100.0]]),
    curve(linear={"factor": 1e300, "offset": 1e300}),
    curve(thermistor={"r25": 10000, "beta": 3950, "pull_up": 10000}),
    curve(thermistor={"a": 1e-3, "b": -2e-4, "c": 1e-7, "pull_up": 10000}, limits=[0, 1e9]),
    curve(sender={"table": "european-level", "pull_up": 240}),
)


@given(st.sampled_from(CURVES), anything)
def test_a_curve_never_raises_or_returns_nan(which: Curve, reading: float) -> None:
    value = which(reading)
    assert value is None or math.isfinite(value)


@given(
    st.lists(st.tuples(st.integers(0, 4095), st.floats(-1e6, 1e6)), min_size=2, unique_by=lambda p: p[0]),
    st.floats(0, 4095),
)
def test_a_table_never_leaves_the_range_of_its_values(points: list[tuple[int, float]], reading: float) -> None:
    value = curve(points=[[float(r), v] for r, v in sorted(points)], beyond="clamp")(reading)
    assert value is not None
    slack = 1e-9 * max(abs(v) for _, v in points)
    assert min(v for _, v in points) - slack <= value <= max(v for _, v in points) + slack
