"""What may leave the gateway unmarked: good, fresh and real values, and positions with a fix."""

from __future__ import annotations

import math
from contextlib import nullcontext

import msgspec
import pytest

from fixgw.database import FAIL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit.outward import MaxAge, Outward, Position

KEYS = ("LAT", "LONG", "GS", "BARO")


@pytest.fixture
def db(clock: Clock) -> Database:
    definitions = [Definition(key=key, type="float") for key in KEYS]
    return Database(
        [*definitions, Definition(key="ACID", type="str"), Definition(key="GPS_FIX_TYPE", type="int")], clock
    )


def outward(db: Database, clock: Clock, own: str = "out", simulated: bool = False) -> Outward:
    return Outward(db.read, clock, lambda: own, simulated=simulated)


def test_a_value_leaves_until_it_is_too_old(db: Database, clock: Clock) -> None:
    out = outward(db, clock)
    db.write("GS", 100.0, "gps", 0)
    clock.now += 3.0
    assert (out.number("GS"), out.value("GS")) == (100.0, 100.0)
    clock.now += 0.1
    assert (out.number("GS"), out.reading("GS")) == (None, None)
    assert (out.number("GS", 3.1 + 1e-6), out.lasting("GS")) == (100.0, 100.0)


@pytest.mark.parametrize(("max_age", "fits"), [(0.0, False), (0.1, True), (60.0, True), (60.1, False)])
def test_the_age_that_an_output_may_allow_is_limited(max_age: float, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(msgspec.ValidationError):
        msgspec.convert(max_age, MaxAge)


def test_what_is_not_good_or_no_number_or_no_item_does_not_leave(db: Database, clock: Clock) -> None:
    out = outward(db, clock)
    db.write("ACID", "N1", "gps", 0)
    db.write("GS", 100.0, "gps", FAIL)
    assert (out.number("GS"), out.number("ACID"), out.value("ACID"), out.number("NONE")) == (None, None, "N1", None)
    db.write("BARO", math.inf, "gps", 0)
    assert out.number("BARO") is None


@pytest.mark.parametrize(
    ("source", "own", "simulated", "leaves"),
    [("sim/gps", "out", False, False), ("sim/gps", "out", True, True), ("sim/gps", "sim/out", False, True)],
)
def test_simulated_values_need_permission(
    db: Database, clock: Clock, source: str, own: str, simulated: bool, leaves: bool
) -> None:
    db.write("GS", 100.0, source, 0)
    out = outward(db, clock, own, simulated)
    assert (out.number("GS") is not None) is out.allows(source) is leaves


@pytest.mark.parametrize(
    ("kind", "fix"), [(None, 3), (0, None), (1, None), (2, 2), (3, 3), (5, 5)], ids=lambda each: str(each)
)
def test_a_position_needs_a_fix_if_the_receiver_reports_its_kind(
    db: Database, clock: Clock, kind: int | None, fix: int | None
) -> None:
    out = outward(db, clock)
    db.write("LAT", 47.5, "gps", 0)
    assert out.fix() is None
    db.write("LONG", -122.5, "gps", 0)
    if kind is not None:
        db.write("GPS_FIX_TYPE", kind, "gps", 0)
    assert out.fix() == (None if fix is None else Position(47.5, -122.5, fix))


def test_a_receiver_that_has_stopped_reporting_its_kind_of_fix_has_none(db: Database, clock: Clock) -> None:
    db.write("GPS_FIX_TYPE", 3, "gps", 0)
    clock.now += 3.1
    for key in ("LAT", "LONG"):
        db.write(key, 1.0, "gps", 0)
    assert outward(db, clock).fix() is None
