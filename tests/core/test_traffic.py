"""The table of other aircraft: bounded, aged, one source a target, and simulated ones never in place of real ones."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest

from fixgw.database import FAIL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit import traffic
from fixgw.kit.traffic import FORGET_S, FRESH_S, HANDOVER_S, MAX_TARGETS, TISB_ICAO, TISB_TRACK, Table, Target

KLM = Target(0x40621D, callsign="KLM1023", lat=52.0, lon=4.0, ground_speed_kt=400.0, source="sbs", report=b"raw")


@pytest.fixture
def table(clock: Clock) -> Table:
    return Table(clock, lambda: (52.0, 4.0))


def only(table: Table) -> Target:
    (found,) = table.heard_within()
    return found


def test_a_report_replaces_what_was_known(table: Table, clock: Clock) -> None:
    table.put(KLM)
    table.put(Target(0x40621D, source="sbs"))
    assert only(table) == Target(0x40621D, source="sbs", stamp=clock.now, levelled_at=clock.now, moved_at=clock.now)


def test_what_a_source_says_is_added_and_spoils_the_report(table: Table) -> None:
    table.put(KLM)
    table.merge(Target(0x40621D, altitude_ft=38000.0, source="sbs"))
    found = only(table)
    assert (found.callsign, found.altitude_ft, found.report) == ("KLM1023", 38000.0, b"")


def test_positions_and_movements_grow_old_before_their_target_does(table: Table, clock: Clock) -> None:
    table.put(KLM)
    clock.now += FRESH_S
    table.merge(Target(0x40621D, altitude_ft=38000.0, source="sbs"))
    assert only(table).lat == 52.0
    clock.now += 0.1
    found = only(table)
    assert (found.lat, found.lon, found.ground_speed_kt, found.altitude_ft) == (None, None, None, 38000.0)
    table.merge(Target(0x40621D, track_deg=90.0, source="sbs"))
    assert only(table).track_deg == 90.0
    clock.now += FORGET_S + 0.1
    assert table.heard_within() == []
    table.merge(Target(0x40621D, squawk="7000", source="sbs"))
    assert only(table).callsign is None, "it is a new one"


def test_an_altitude_grows_old_although_the_target_moves_on(table: Table, clock: Clock) -> None:
    table.put(KLM._replace(altitude_ft=38000.0))
    clock.now += FRESH_S + 0.1
    table.merge(Target(0x40621D, lat=52.1, lon=4.1, source="sbs"))
    assert (only(table).lat, only(table).altitude_ft) == (52.1, None)
    table.merge(Target(0x40621D, altitude_ft=2000.0, source="sbs"))
    assert (only(table).lat, only(table).altitude_ft) == (52.1, 2000.0)


def test_a_source_that_knows_no_position_gives_way_to_one_that_does(table: Table, clock: Clock) -> None:
    """As one antenna hears only the transponder, and the other one all."""
    deaf = Target(0x40621D, altitude_ft=38000.0, source="deaf")
    table.put(KLM._replace(source="deaf"))
    clock.now += HANDOVER_S + 0.1
    table.merge(deaf)
    assert table.put(KLM)
    clock.now += 1.0
    assert not table.merge(deaf)
    assert (only(table).source, only(table).lat) == ("sbs", 52.0)
    assert not table.put(KLM._replace(source="sim/deaf"))


def test_ages_that_a_receiver_gives_count(table: Table) -> None:
    table.put(KLM, age_s=20.0, position_age_s=FRESH_S + 1)
    assert table.heard_within(10.0) == []
    assert only(table).lat is None


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [("a", "b", "a"), ("sim/a", "b", "b"), ("a", "sim/b", "a"), ("replay/a", "override/b", "replay/a")],
)
def test_one_source_reports_a_target_and_a_real_one_beats_a_simulated_one(
    table: Table, clock: Clock, first: str, second: str, wins: str
) -> None:
    table.put(KLM._replace(source=first))
    clock.now += HANDOVER_S
    table.put(KLM._replace(source=second))
    assert only(table).source == wins
    assert table.duplicates == (wins == first)
    clock.now += HANDOVER_S + 0.1
    table.merge(KLM._replace(source=second))
    assert only(table).source == second


def test_the_same_aircraft_by_two_address_types_is_one_and_a_track_number_is_another(table: Table) -> None:
    table.put(KLM)
    table.put(KLM._replace(address_type=TISB_ICAO))
    assert len(table.heard_within()) == 1
    table.put(KLM._replace(address_type=TISB_TRACK))
    assert len(table.heard_within()) == 2


def test_it_is_bounded_and_keeps_the_nearest(table: Table, clock: Clock) -> None:
    for n in range(MAX_TARGETS):
        assert table.put(KLM._replace(address=n, lat=52.0 + n / 100))
    assert table.put(KLM._replace(address=1000, lat=52.0))
    assert not table.put(KLM._replace(address=1001, lat=60.0))
    assert not table.put(KLM._replace(address=1002, lat=None, lon=None))
    known = {target.address for target in table.heard_within()}
    assert len(known) == MAX_TARGETS
    assert MAX_TARGETS - 1 not in known
    clock.now += FORGET_S
    assert not table.put(KLM._replace(address=1001, lat=60.0))
    clock.now += 1.0
    assert table.put(KLM._replace(address=1001, lat=60.0)), "those that are long silent make room"


def test_those_that_are_forgotten_make_room_before_those_without_a_position(table: Table, clock: Clock) -> None:
    clock.now = 0.0
    table.put(KLM._replace(address=1))
    clock.now = 0.5
    for n in range(2, MAX_TARGETS + 1):
        table.put(KLM._replace(address=n, lat=None if n == 2 else 52.0))
    clock.now = 0.5 + FORGET_S
    assert table.put(KLM._replace(address=1000))
    assert {2, 1000} <= {target.address for target in table.heard_within()}


def test_those_that_are_forgotten_crowd_nobody_out(table: Table, clock: Clock) -> None:
    for n in range(MAX_TARGETS):
        table.put(KLM._replace(address=n))
    clock.now += FORGET_S + 0.1
    assert table.heard_within() == []
    for n in range(MAX_TARGETS):
        assert table.put(KLM._replace(address=1000 + n))
    assert table.crowded_out == 0
    assert table.put(KLM._replace(address=2000))
    assert table.crowded_out == 1


def test_without_a_position_of_ours_the_longest_silent_makes_room(clock: Clock) -> None:
    table = Table(clock)
    for n in range(MAX_TARGETS + 1):
        clock.now += 0.1
        assert table.put(KLM._replace(address=n))
    assert 0 not in {target.address for target in table.heard_within()}


def test_our_own_aircraft_is_known_by_its_address(table: Table) -> None:
    table.own("stratux", 0x40621D)
    table.put(KLM)
    assert table.is_own(KLM)
    assert table.status("sbs") == {}
    table.own("stratux", None)
    assert not table.is_own(KLM)


def test_the_status_has_the_targets_of_a_source(table: Table, clock: Clock) -> None:
    table.put(KLM)
    table.put(KLM._replace(address=5, source="other"))
    clock.now += 1.0
    assert table.status("sbs") == {
        "40621D": {
            "call sign": "KLM1023",
            "latitude": 52.0,
            "longitude": 4.0,
            "pressure altitude ft": None,
            "ground speed kt": 400.0,
            "track": None,
            "vertical speed ft/min": None,
            "on ground": None,
            "seconds ago": 1.0,
        }
    }


def test_the_status_rounds_places_and_says_what_is_not_known(table: Table) -> None:
    table.put(Target(1, lat=52.123456789, lon=-4.987654321, source="sbs"))
    table.put(Target(2, source="sbs"))
    shown = table.status("sbs")
    assert [(t["latitude"], t["longitude"]) for t in shown.values()] == [(52.12346, -4.98765), (None, None)]
    assert shown["000002"]["call sign"] == ""


def test_east_is_nearer_than_as_many_degrees_north(clock: Clock) -> None:
    table = Table(clock, lambda: (60.0, 179.0))
    for n in range(MAX_TARGETS):
        assert table.put(KLM._replace(address=n, lat=60.0, lon=-179.0))  # two degrees east, as one north
    assert not table.put(KLM._replace(address=1000, lat=61.01, lon=179.0))
    assert table.put(KLM._replace(address=1001, lat=60.99, lon=179.0))


def test_a_target_is_heard_within_exactly_so_many_seconds(table: Table, clock: Clock) -> None:
    table.put(KLM._replace(lon=None))
    assert only(table).placed_at == traffic.NEVER, "half a position is none"
    clock.now += 10.0
    assert len(table.heard_within(10.0)) == 1
    assert table.heard_within(9.9) == []
    clock.now += 0.26
    assert table.status("sbs")["40621D"]["seconds ago"] == 10.3


def test_address_types_are_those_of_gdl_90() -> None:
    assert (traffic.ICAO, traffic.SELF_ASSIGNED, TISB_ICAO, TISB_TRACK) == (0, 1, 2, 3)


def test_a_gateway_has_one_which_goes_with_its_database(clock: Clock) -> None:
    places: list[Any] = [Definition(key=key, type="float") for key in ("LAT", "LONG")]
    one, other = Database(places, clock), Database([], clock)
    assert traffic.table(one) is traffic.table(one) is not traffic.table(other)
    for n in range(MAX_TARGETS + 5):
        for db in one, other:
            traffic.table(db).put(KLM._replace(address=n))
    one.write("LAT", 52.0, "gps", 0)
    one.write("LONG", 4.0, "gps", 0)
    assert traffic.table(one).put(KLM._replace(address=999))
    assert (traffic.table(one)._here(), traffic.table(other)._here()) == ((52.0, 4.0), None)
    for key, value in ("LAT", 52.0), ("LONG", 4.0):
        one.write(key, value, "gps", FAIL)
        assert traffic.table(one)._here() is None
        one.write(key, value, "gps", 0)
    gone = weakref.ref(traffic.table(other))
    del other, db
    gc.collect()
    assert gone() is None
    left = traffic.table(one)
    del one
    gc.collect()
    assert (left._clock(), left._here(), left.heard_within()) == (math.inf, None, []), "nobody has it any more"
