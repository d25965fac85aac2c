"""The virtual aircraft's values are consistent: each is checked against the others over an hour of flight."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from fixgw.hw_sim.aircraft import (
    EARTH,
    FT,
    KNOT,
    P0,
    RHO0,
    T0,
    Aircraft,
    density_height,
    indicated_altitude,
    pressure_at,
    pressure_height,
    signed,
)

pytestmark = pytest.mark.slow

STEP = 0.5
Flight = list[dict[str, float]]


@pytest.fixture(scope="module")
def flight() -> Flight:
    """An hour, sampled every half second."""
    aircraft = Aircraft(seed=1)
    samples = []
    for _ in range(int(3600 / STEP)):
        samples.append({k: v for k, v in aircraft.values().items() if isinstance(v, int | float)})
        aircraft.step(STEP)
    return samples


def test_the_standard_atmosphere_matches_the_tables() -> None:
    # ICAO Doc 7488: 5000 m is 540.20 hPa, 11000 m is 226.32 hPa.
    assert pressure_at(0.0) == pytest.approx(P0)
    assert pressure_at(5000.0) == pytest.approx(54_020, abs=5)
    assert pressure_at(11_000.0) == pytest.approx(22_632, abs=5)
    assert pressure_height(pressure_at(3210.0)) == pytest.approx(3210.0)
    assert density_height(RHO0) == pytest.approx(0.0)
    assert density_height(0.7361) == pytest.approx(5000.0, abs=5)
    assert T0 == 288.15


def test_an_altimeter_gains_about_ninety_feet_for_a_tenth_of_an_inch() -> None:
    assert indicated_altitude(5000.0, 29.9213) == pytest.approx(5000.0, abs=1)
    assert indicated_altitude(5000.0, 30.0213) - 5000.0 == pytest.approx(92, abs=3)


def test_the_same_seed_gives_the_same_flight_and_another_does_not() -> None:
    one, same, other = Aircraft(seed=7), Aircraft(seed=7), Aircraft(seed=8)
    for aircraft in (one, same, other):
        aircraft.step(60.0)
    assert one.values() == same.values()
    assert one.values() != other.values()


def test_it_is_in_the_air_and_warm_from_the_start() -> None:
    values = Aircraft().values()
    assert float(values["IAS"]) > 60
    assert float(values["VS"]) > 300
    assert float(values["OILT1"]) > 60
    assert float(values["CHT11"]) > 120
    assert 2000 < float(values["TACH1"]) < 2700


def test_values_are_steady_in_still_air() -> None:
    aircraft = Aircraft(turbulence=0.0)
    aircraft.step(60.0)
    ias = [aircraft.ias]
    for _ in range(100):
        aircraft.step(0.1)
        ias.append(aircraft.ias)
    assert max(ias) - min(ias) < 0.1


def test_vertical_speed_is_the_rate_of_the_altitude(flight: Flight) -> None:
    altitude = flight[0]["ALT"]
    for a, b in pairwise(flight):
        altitude += (a["VS"] + b["VS"]) / 2.0 * STEP / 60.0
        assert abs(b["ALT"] - altitude) < 5.0  # of thousands of feet climbed during the hour


def test_it_climbs_cruises_turns_descends_and_starts_again(flight: Flight) -> None:
    manoeuvres: list[tuple[str, Callable[[dict[str, float]], bool]]] = [
        ("climb", lambda v: v["VS"] > 400),
        ("cruise", lambda v: v["ALT"] > 5400 and abs(v["VS"]) < 100),
        ("turn", lambda v: v["ROLL"] > 15),
        ("descent", lambda v: v["VS"] < -400),
    ]
    for name, happens in manoeuvres:
        seen = [happens(v) for v in flight]
        assert any(seen[: len(seen) // 2]), name
        assert any(seen[len(seen) // 2 :]), name


def test_it_always_stays_near_its_route(flight: Flight) -> None:
    assert all(43.8 < v["LAT"] < 44.2 and -88.9 < v["LONG"] < -88.3 for v in flight)
    assert all(2000 < v["ALT"] < 6000 for v in flight)
    assert all(abs(v["XTRACK"]) < 1.0 for v in flight)


def test_true_airspeed_is_indicated_airspeed_in_thinner_air(flight: Flight) -> None:
    for v in flight:
        density = v["AIRPRESS"] / (287.05287 * (v["OAT"] + 273.15))
        assert v["TAS"] == pytest.approx(v["IAS"] * math.sqrt(RHO0 / density))
        assert v["DIFFAIRPRESS"] == pytest.approx(0.5 * density * (v["TAS"] * KNOT) ** 2)


def test_ground_speed_and_track_follow_from_airspeed_and_wind(flight: Flight) -> None:
    for v in flight:
        track, heading, wind = (
            math.radians(x) for x in (v["TRACK"], v["HEAD"] + Aircraft.variation, Aircraft.wind_from)
        )
        north = v["GS"] * math.cos(track) + Aircraft.wind_speed * math.cos(wind)
        east = v["GS"] * math.sin(track) + Aircraft.wind_speed * math.sin(wind)
        assert math.hypot(north, east) == pytest.approx(v["TAS"], rel=0.01)  # minus the vertical part
        assert abs(signed(math.degrees(math.atan2(east, north) - heading))) < 0.1
        assert signed(v["TRACK"] - v["TRACKM"]) == pytest.approx(Aircraft.variation)


def test_the_position_follows_ground_speed_and_track(flight: Flight) -> None:
    lat, lon = flight[0]["LAT"], flight[0]["LONG"]
    for a, b in pairwise(flight[:1200]):
        for v in (a, b):
            metres = v["GS"] * KNOT * STEP / 2.0
            lat += math.degrees(metres * math.cos(math.radians(v["TRACK"])) / EARTH)
            lon += math.degrees(metres * math.sin(math.radians(v["TRACK"])) / EARTH / math.cos(math.radians(lat)))
        assert abs(b["LAT"] - lat) < 0.0005
        assert abs(b["LONG"] - lon) < 0.0005


def test_turns_are_coordinated(flight: Flight) -> None:
    heading = flight[0]["HEAD"]
    for a, b in pairwise(flight):
        assert b["ROT"] == pytest.approx(1091.0 * math.tan(math.radians(b["ROLL"])) / b["TAS"], rel=0.01, abs=0.01)
        heading += (a["ROT"] + b["ROT"]) / 2.0 * STEP
        assert abs(signed(b["HEAD"] - heading)) < 20.0  # over the whole hour, from half-second samples
        if abs(b["ROLL"]) > 20:
            assert b["ANORM"] > 1.0
    turning = [v["ANORM"] * math.cos(math.radians(v["ROLL"])) for v in flight]
    assert sum(turning) / len(turning) == pytest.approx(1.0, abs=0.01)


def test_pitch_is_flight_path_and_angle_of_attack(flight: Flight) -> None:
    for v in flight:
        path = math.degrees(math.asin(v["VS"] * FT / 60.0 / (v["TAS"] * KNOT)))
        assert v["PITCH"] == pytest.approx(path + v["AOA"] * math.cos(math.radians(v["ROLL"])), abs=0.2)


def test_altitudes_and_temperature_agree(flight: Flight) -> None:
    for v in flight:
        assert v["ALT"] == pytest.approx(indicated_altitude(v["PALT"], Aircraft.qnh))
        assert v["OAT"] == pytest.approx(15.0 + Aircraft.isa_deviation - 0.0019812 * v["PALT"], abs=0.01)
        assert v["DALT"] > v["PALT"]  # it is a warm day
        assert v["DALT"] - v["PALT"] == pytest.approx(
            118.8 * Aircraft.isa_deviation, rel=0.05
        )  # the pilots' rule of thumb
        assert 0 < v["TALT"] - v["ALT"] < 0.04 * v["ALT"]
        assert v["AGL"] == pytest.approx(v["TALT"] - Aircraft.ground)


def test_speed_and_manifold_pressure_drive_the_fuel_flow(flight: Flight) -> None:
    for v in flight:
        useful = (v["MAP1"] - Aircraft.FRICTION_MAP) / (Aircraft.RATED_MAP - Aircraft.FRICTION_MAP)
        power = 160.0 * useful * v["TACH1"] / Aircraft.RATED_RPM
        assert 0.40 < v["FUELF1"] * 6.0 / power < 0.70  # lb/hp/h, with the flow half a second behind
        assert v["MAP1"] <= v["AIRPRESS"] / 3386.389
        assert 1500 < v["TACH1"] < 2700
        assert 0.0 <= v["THR1"] <= 1.0


def test_climbing_needs_more_fuel_than_descending(flight: Flight) -> None:
    climb = [v["FUELF1"] for v in flight if v["VS"] > 400]
    descent = [v["FUELF1"] for v in flight if v["VS"] < -400]
    assert sum(climb) / len(climb) > 1.5 * sum(descent) / len(descent)


def test_the_fuel_in_the_tanks_decreases_by_the_fuel_flow(flight: Flight) -> None:
    left = flight[0]["FUELQT"]
    for a, b in pairwise(flight):
        left -= (a["FUELF1"] + b["FUELF1"]) / 2.0 * STEP / 3600.0
        assert abs(b["FUELQT"] - left) < 0.02
        assert b["FUELQT"] == pytest.approx(b["FUELQ1"] + b["FUELQ2"])


def test_nearly_empty_tanks_are_refilled() -> None:
    aircraft = Aircraft()
    aircraft.fuel = [2.0, 2.0]
    aircraft.step(1.0)
    assert sum(aircraft.fuel) == pytest.approx(2 * Aircraft.TANK, abs=0.1)


def test_each_temperature_lags_with_its_own_time_constant(flight: Flight) -> None:
    """After the change from climb to cruise the exhaust gas settles within seconds, heads and oil only in minutes."""
    power = [v["TACH1"] * (v["MAP1"] - Aircraft.FRICTION_MAP) for v in flight]
    closed = next(i for i in range(600, len(flight)) if power[i] < 0.6 * power[i - 120])

    def settled(key: str, seconds: float) -> float:
        """The fraction of the change over six minutes that has happened after `seconds`."""
        start, now, end = (flight[closed - 120 + int(s / STEP)][key] for s in (0.0, 60.0 + seconds, 420.0))
        return (now - start) / (end - start)

    assert settled("FUELF1", 5.0) > settled("CHT11", 5.0) > settled("OILT1", 5.0)
    assert settled("CHT11", 60.0) > settled("OILT1", 60.0)


def test_engine_values_stay_in_the_green(flight: Flight) -> None:
    for v in flight:
        assert 55 < v["OILP1"] < 95
        assert 38 < v["OILT1"] < 110
        for cylinder in "1234":
            assert 66 < v[f"CHT1{cylinder}"] < 224
            assert 500 < v[f"EGT1{cylinder}"] < 815
        assert 12.8 < v["VOLT"] < 14.8
        assert v["EGTMAX1"] - v["EGTSPAN1"] <= v["EGTAVG1"] <= v["EGTMAX1"]


def test_no_value_ever_jumps(flight: Flight) -> None:
    per_second = {"ALT": 40, "IAS": 4, "ROLL": 12, "PITCH": 4, "OAT": 0.2, "CHT11": 3, "OILT1": 1, "TACH1": 400}
    for key, most in per_second.items():
        assert max(abs(b[key] - a[key]) for a, b in pairwise(flight)) < most * STEP, key


def test_a_long_step_is_the_same_flight_as_many_short_ones() -> None:
    long, short = Aircraft(turbulence=0.0), Aircraft(turbulence=0.0)
    long.step(30.0)
    for _ in range(300):
        short.step(0.1)
    assert long.altitude == pytest.approx(short.altitude, abs=1.0)
    assert long.lat == pytest.approx(short.lat, abs=1e-5)
