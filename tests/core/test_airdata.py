"""The standard atmosphere by the tables of ICAO Doc 7488, and what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fixgw.kit import airdata
from fixgw.kit.airdata import Undefined


@pytest.mark.parametrize(
    ("feet", "pascals", "celsius"),
    [(0.0, 101_325.0, 15.0), (10_000.0, 69_681.7, -4.812), (30_000.0, 30_089.6, -44.436), (36_089.0, 22_632.1, -56.5)],
)
def test_the_standard_atmosphere(feet: float, pascals: float, celsius: float) -> None:
    assert airdata.static_pressure(feet) == pytest.approx(pascals, rel=1e-5)
    assert airdata.isa_temperature(feet) == pytest.approx(celsius, abs=1e-3)
    assert airdata.pressure_altitude(pascals) == pytest.approx(feet, abs=0.3)
    assert airdata.density_altitude(feet, celsius) == pytest.approx(feet, abs=0.3)


def test_sound_has_661_knots_at_sea_level() -> None:
    assert airdata.airspeed_of_mach(1.0, 15.0) == pytest.approx(661.479, abs=1e-3)
    assert airdata.mach_number(661.479, 0.0) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("calculate", "why"),
    [
        (lambda: airdata.static_pressure(36_090.0), "36090 ft is above the tropopause"),
        (lambda: airdata.isa_temperature(36_090.0), "36090 ft is above the tropopause"),
        (lambda: airdata.static_pressure(math.nan), "nan ft is above the tropopause"),
        (lambda: airdata.turn(90.0, 100.0), "no turn at 100 knots and 90 deg of bank"),
        (lambda: airdata.turn(-90.0, 100.0), "no turn at 100 knots and -90 deg of bank"),
        (lambda: airdata.turn(10.0, 0.0), "no turn at 0 knots and 10 deg of bank"),
    ],
)
def test_where_there_is_no_result_is_said_in_words(calculate: Callable[[], object], why: str) -> None:
    with pytest.raises(Undefined, match=f"^{why}$"):
        calculate()


@pytest.mark.parametrize(
    ("calculate", "why"),
    [
        (lambda: airdata.pressure_altitude(0.0), "0 Pa is no pressure of air"),
        (lambda: airdata.density_altitude(0.0, -100.1), "no air has -100.1 degC"),
        (lambda: airdata.density_altitude(0.0, 100.1), "no air has 100.1 degC"),
        (lambda: airdata.airspeed_of_mach(0.5, math.nan), "no air has nan degC"),
        (lambda: airdata.static_from_total_temperature(100.1, 0.0), "no air has 100.1 degC"),
    ],
)
def test_what_cannot_be_is_refused(calculate: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$") as raised:
        calculate()
    assert not isinstance(raised.value, Undefined)


def test_the_coldest_and_the_hottest_air_are_believed() -> None:
    for celsius in -100.0, 100.0:
        assert airdata.static_from_total_temperature(celsius, 0.0) == celsius


def test_a_negative_impact_pressure_is_no_speed() -> None:
    assert airdata.calibrated_airspeed(-5.0) == 0.0
    assert airdata.calibrated_airspeed(airdata.impact_pressure(120.0)) == pytest.approx(120.0)


def test_a_probe_warms_up_by_its_recovery() -> None:
    assert airdata.static_from_total_temperature(15.0, 0.5) == pytest.approx(288.15 / 1.05 - 273.15)
    assert airdata.static_from_total_temperature(15.0, 0.5, 0.8) == pytest.approx(288.15 / 1.04 - 273.15)


@pytest.mark.parametrize(
    ("bank", "rate", "load", "radius"),
    [(30.0, 6.3056, 1.15470, 467.4), (-60.0, -18.917, 2.0, 155.8), (0.0, 0.0, 1.0, math.inf)],
)
def test_a_turn_at_a_hundred_knots(bank: float, rate: float, load: float, radius: float) -> None:
    turned, factor, metres = airdata.turn(bank, 100.0)
    assert turned == pytest.approx(rate, abs=1e-3)
    assert factor == pytest.approx(load, abs=1e-5)
    assert metres == radius


def test_the_bank_of_a_standard_turn_turns_three_degrees_a_second() -> None:
    bank = airdata.standard_rate_bank(100.0)
    assert bank == pytest.approx(15.36, abs=0.01)
    assert airdata.turn(bank, 100.0)[0] == pytest.approx(3.0)


def test_an_altimeter_shows_a_thousand_feet_more_for_each_inch() -> None:
    assert airdata.setting_altitude(29.92) == pytest.approx(1.2, abs=0.1)
    assert airdata.indicated_altitude(3000.0, 30.92) == pytest.approx(3915.0, abs=5.0)
    assert airdata.pressure_altitude_from_indicated(airdata.indicated_altitude(3000.0, 28.5), 28.5) == 3000.0


def test_lift_grows_from_no_lift_to_the_stall() -> None:
    k = airdata.lift_constant(5.0, -2.0, 100.0, 1.0)
    assert airdata.aoa_lift(k, -2.0, 100.0, 1.0) == pytest.approx(5.0)
    assert airdata.aoa_lift(k, -2.0, 100.0, 2.0) == pytest.approx(12.0)
    assert airdata.aoa_lift(k, -2.0, 50.0, 1.0) == pytest.approx(26.0)
    assert [airdata.lift_fraction(aoa, -2.0, 14.0) for aoa in (-2.0, 6.0, 14.0)] == [0.0, 0.5, 1.0]
