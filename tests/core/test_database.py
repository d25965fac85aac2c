"""Items, values, flags, aux values and subscriptions of the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from fixgw.database import (
    ANNUNCIATE,
    BAD,
    FAIL,
    LONGEST_TEXT,
    MAX_CALLBACK_FAILURES,
    OLD,
    SECFAIL,
    Database,
    Definition,
    Derivation,
    Item,
    Reading,
)
from fixgw.errors import BadValue, UnknownKey
from fixgw.hw_sim.bench.clock import Clock

NAN = float("nan")
INFINITY = float("inf")


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database(
        [
            Definition(key="IAS", units="knots", min=0.0, max=500.0, tolerance=2000, aux=("Vs", "Vne")),
            Definition(key="BARO", units="inHg", min=27.5, max=31.5, initial=29.92, setting=True),
            Definition(key="GEAR", type="int", min=-5, max=10, aux=("Most",)),
            Definition(key="FREE", type="int"),
            Definition(key="WIDE"),
            Definition(key="BTN1", type="bool"),
            Definition(key="ACID", type="str", aux=("Note",)),
        ],
        clock,
    )


@pytest.fixture
def ias(db: Database) -> Item:
    return db.item("IAS")


# -- readings ----------------------------------------------------------------------------------------------------------


def test_a_reading_cannot_be_changed(ias: Item) -> None:
    with pytest.raises(AttributeError):
        ias.reading.value = 5.0  # type: ignore[misc]


def test_an_item_that_was_never_written_is_old_and_says_why(ias: Item) -> None:
    assert ias.reading.old
    assert not ias.reading.good
    assert ias.reading.reason(OLD) == "never written"
    assert ias.reading.age(5.0) == INFINITY


def test_the_first_value_is_in_range_even_if_zero_is_not(db: Database) -> None:
    db.define(Definition(key="HOT", min=50.0, max=90.0))
    assert db.read("HOT").value == 50.0
    assert db.read("BARO").value == 29.92


def test_an_item_gives_the_facts_of_its_definition(clock: Clock) -> None:
    definition = Definition(key="IAS", description="Airspeed", units="kt", min=0.0, max=400.0, tolerance=1500)
    item = Database([definition], clock).item("IAS")
    facts = item.key, item.type, item.description, item.units, item.min, item.max, item.tolerance
    assert facts == ("IAS", "float", "Airspeed", "kt", 0.0, 400.0, 1.5)
    assert item.definition is definition
    told = item.explain()
    assert [told[name] for name in ("key", "description", "units", "range", "tolerance")] == [
        *("IAS", "Airspeed", "kt"),
        *([0.0, 400.0], 1.5),
    ]


def test_a_write_replaces_the_whole_reading(ias: Item, clock: Clock) -> None:
    before = ias.reading
    written = ias.write(103.5, "pitot")
    assert before.old
    assert before.value == 0.0
    assert ias.reading is written == Reading(103.5, 0, clock.now, "pitot")
    assert written.good


def test_flags_show_in_every_form(ias: Item) -> None:
    reading = ias.write(1.0, flags=ANNUNCIATE | FAIL | SECFAIL)
    assert reading.flag_text == "10011"
    assert reading.as_tuple() == (1.0, True, False, False, True, True)
    assert type(reading.as_tuple()) is tuple
    ias.write(1.0, flags=ANNUNCIATE | BAD | FAIL | SECFAIL)
    assert ias.flag(OLD, OLD).flag_text == "11111"
    assert ias.reading.as_tuple() == (1.0, True, True, True, True, True)
    assert (reading.annunciate, reading.old, reading.bad, reading.fail, reading.secfail) == reading.as_tuple()[1:]


# -- values and types --------------------------------------------------------------------------------------------------


class Gear(IntEnum):
    UP = 0
    DOWN = 3


class Sign(StrEnum):
    OURS = "N123"


class FloatLike:
    def __float__(self) -> float:
        return 7.5


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("IAS", 5, 5.0),
        ("IAS", "103.2", 103.2),
        ("IAS", " 1e2 ", 100.0),
        ("IAS", Decimal("1.5"), 1.5),
        ("IAS", Fraction(1, 4), 0.25),
        ("IAS", FloatLike(), 7.5),
        ("GEAR", 3, 3),
        ("GEAR", 3.0, 3),
        ("GEAR", "-3", -3),
        ("GEAR", "+3", 3),
        ("GEAR", Gear.DOWN, 3),
        ("GEAR", Decimal("4"), 4),
        ("BTN1", True, True),
        ("BTN1", 1, True),
        ("BTN1", 0.0, False),
        *[("BTN1", word, True) for word in ("True", "true", "TRUE", "T", "yes", "Yes", "on", "1")],
        *[("BTN1", word, False) for word in ("False", "false", "F", "no", "0")],
        ("ACID", "", ""),
        ("ACID", "D-EABC ü", "D-EABC ü"),
        ("ACID", Sign.OURS, "N123"),
    ],
)
def test_values_are_converted_to_the_type_of_the_item(db: Database, key: str, given: Any, stored: Any) -> None:
    reading = db.write(key, given)
    assert reading is not None
    assert (reading.value, reading.flags) == (stored, 0)
    assert type(reading.value) is type(stored)


NOT_FLOAT: list[Any] = [None, "", "fast", True, [], "1_0", "٣", b"5", bytearray(b"5"), "1,5", "0x10", 1j]
NOT_INT: list[Any] = [None, "", 1.5, "42.0", "1e1", True, "1_0", Decimal("1.5"), Fraction(1, 2), b"5", "三", "9" * 5000]
NOT_BOOL: list[Any] = [None, "", 2, "TRUTH", "once", " 1", "None", [], NAN, b"1"]
NOT_TEXT: list[Any] = [None, 5, b"N123", True, []]


@pytest.mark.parametrize(
    ("key", "given"),
    [
        *(("IAS", value) for value in NOT_FLOAT),
        *(("GEAR", value) for value in NOT_INT),
        *(("BTN1", value) for value in NOT_BOOL),
        *(("ACID", value) for value in NOT_TEXT),
    ],
)
def test_a_wrong_type_is_an_error_to_the_writer_and_changes_nothing(db: Database, key: str, given: Any) -> None:
    item = db.item(key)
    before = item.reading
    with pytest.raises(BadValue) as caught:
        item.write(given, flags=FAIL)
    assert caught.value.reason == "type"
    assert caught.value.key == key
    assert item.reading is before
    assert (item.refused, item.writes) == (1, 0)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "\x1b[31m", "\u2028", "\udc80"])
def test_text_with_control_characters_is_refused(db: Database, text: str) -> None:
    with pytest.raises(BadValue, match="control") as caught:
        db.write("ACID", text)
    assert caught.value.reason == "text"


@pytest.mark.parametrize(("text", "shown"), [("x" * 38, f"'{'x' * 38}'"), ("x" * 39, f"'{'x' * 36}...")])
def test_a_long_value_is_cut_in_messages(ias: Item, text: str, shown: str) -> None:
    with pytest.raises(BadValue) as caught:
        ias.write(text)
    assert f"{shown} is not a number" in str(caught.value)


def test_text_is_bounded(db: Database) -> None:
    db.write("ACID", "x" * LONGEST_TEXT)
    with pytest.raises(BadValue, match="1001 characters") as caught:
        db.write("ACID", "x" * (LONGEST_TEXT + 1))
    assert caught.value.reason == "text"


# -- not a number ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["IAS", "GEAR", "WIDE", "BARO"])
@pytest.mark.parametrize(
    "given", [NAN, INFINITY, -INFINITY, "nan", "-inf", "1e400", Decimal("NaN"), Decimal("Infinity")]
)
def test_a_number_that_is_not_finite_is_not_stored_and_fails_the_item(db: Database, key: str, given: Any) -> None:
    db.write(key, 5)
    before = db.read(key)
    reading = db.write(key, given, "", 0)
    assert reading is not None
    assert (reading.value, reading.flags, reading.stamp) == (before.value, before.flags | FAIL, before.stamp)
    assert (
        "nan" in reading.reason(FAIL).lower()
        or "inf" in reading.reason(FAIL).lower()
        or "1e400" in reading.reason(FAIL)
    )


def test_the_next_good_value_clears_the_failure(ias: Item) -> None:
    ias.write(NAN)
    assert not ias.write(80.0).flags


def test_nan_as_the_first_value_leaves_the_item_never_written(ias: Item) -> None:
    reading = ias.write(NAN, "pitot")
    assert (reading.value, reading.flags) == (0.0, OLD | FAIL)
    assert reading.age(0.0) == INFINITY
    assert reading.reason(OLD) == "never written"
    assert reading.source == "pitot"


def test_nan_does_not_refresh_an_item(ias: Item, clock: Clock, db: Database) -> None:
    ias.write(80.0)
    clock.now += 1.5
    ias.write(NAN)
    clock.now += 0.6
    db.age()
    assert ias.reading.flags == OLD | FAIL


def test_a_number_too_large_for_a_float_fails_a_float_and_clamps_an_int(db: Database) -> None:
    assert db.item("WIDE").write(10**400).fail
    reading = db.item("FREE").write(10**400)
    assert (reading.value, reading.flags) == (2**63 - 1, BAD)
    assert db.item("FREE").write(-(10**5000)).value == -(2**63)
    assert db.item("WIDE").write(10**5000).reason(FAIL) == "the value written was a huge number"


# -- range -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "stored"), [(500.1, 500.0), (-1, 0.0), ("1e300", 500.0), (10**30, 500.0)])
def test_a_measurement_out_of_range_is_clamped_and_bad_until_a_good_one(ias: Item, given: Any, stored: float) -> None:
    reading = ias.write(given)
    assert (reading.value, reading.flags) == (stored, BAD)
    assert "the range" in reading.reason(BAD)
    assert "knots" in reading.reason(BAD)
    assert not ias.write(100.0).flags


def test_a_setting_out_of_range_is_only_clamped(db: Database) -> None:
    reading = db.item("BARO").write(99.0)
    assert (reading.value, reading.flags) == (31.5, 0)


@pytest.mark.parametrize("value", [0.0, -0.0, 500.0, 0, 500, "0", "500"])
def test_the_range_includes_its_ends(ias: Item, value: Any) -> None:
    assert not ias.write(value).flags


def test_a_range_may_be_a_single_value() -> None:
    assert Database([Definition(key="K", min=5, max=5)]).write("K", 5.0).good  # type: ignore[union-attr]


def test_an_empty_range_and_an_unfit_initial_value_are_errors(db: Database) -> None:
    with pytest.raises(ValueError, match="range 5 to 1 is empty"):
        db.define(Definition(key="X", min=5, max=1))
    with pytest.raises(ValueError, match="empty"):
        db.define(Definition(key="X", min=NAN))
    with pytest.raises(BadValue):
        db.define(Definition(key="X", initial="fast"))
    with pytest.raises(BadValue):
        db.define(Definition(key="X", initial=NAN))
    assert "X" not in db
    with pytest.raises(ValueError, match="twice"):
        db.define(Definition(key="IAS"))


# -- flags -------------------------------------------------------------------------------------------------------------


def test_flags_written_with_a_value_replace_the_existing_ones(ias: Item) -> None:
    ias.write(1.0, "a", ANNUNCIATE | FAIL, "pump off")
    assert list(ias.reading.reasons) == [(ANNUNCIATE, "pump off"), (FAIL, "pump off")]
    ias.write(1.0, "a", BAD)
    assert list(ias.reading.reasons) == [(BAD, "set by a")]
    ias.write(1.0, "a", 0)
    assert ias.reading.flags == 0


def test_a_value_alone_keeps_the_flags(ias: Item) -> None:
    ias.write(1.0, "a", BAD, "ice")
    reading = ias.write(2.0, "b")
    assert (reading.value, reading.flags, reading.reason(BAD), reading.source) == (2.0, BAD, "ice", "b")


def test_flags_outside_the_mask_are_kept(ias: Item) -> None:
    ias.write(1.0, flags=SECFAIL | BAD, reason="no backup")
    reading = ias.write(2.0, flags=FAIL, mask=BAD | FAIL, reason="unplugged")
    assert dict(reading.reasons) == {SECFAIL: "no backup", FAIL: "unplugged"}


def test_the_same_flags_again_come_with_the_reason_of_the_last_write(ias: Item) -> None:
    for reason in ("ice", "ice", "water"):
        reading = ias.write(1.0, "a", BAD, reason)
        assert ias.reading is reading
        assert reading.reasons == ((BAD, reason),)
    assert ias.write(2.0, "a", BAD).reason(BAD) == "set by a"
    ias.write(1e9, "a", FAIL, "above all")
    assert ias.write(3.0, "a", FAIL | BAD, "above all").checked == 0
    assert ias.write(3.0, "a", FAIL, "above all").flags == FAIL
    assert ias.write(3.0, "a", BAD, "above all").flags == BAD


def test_old_is_no_flag_to_write(ias: Item) -> None:
    assert ias.write(1.0, flags=OLD | BAD).flags == BAD
    assert ias.write(1.0, flags=OLD | BAD, mask=OLD | BAD).flags == BAD


def test_a_derived_value_may_be_old_from_the_start(ias: Item) -> None:
    heard: list[Reading] = []
    ias.write(1.0, "a", 0)
    ias._database.subscribe(ias.key, lambda key, reading: heard.append(reading))
    ias.write(2.0, "a", BAD, "ice", BAD, "EGT13 is old")
    (only,) = heard
    assert (only.value, only.flags, only.reason(BAD), only.reason(OLD)) == (2.0, BAD | OLD, "ice", "EGT13 is old")
    assert ias.write(3.0, "a", 0).flags == 0


def test_a_check_does_not_take_over_a_flag_set_by_hand(ias: Item) -> None:
    ias.write(1.0, "a", BAD, "ice")
    assert ias.write(999.0).reason(BAD) == "ice"
    assert ias.write(2.0).reason(BAD) == "ice", "only the one that set it clears it"


def test_a_flag_set_by_hand_survives_good_writes_but_a_checked_one_does_not(ias: Item) -> None:
    ias.write(999.0)
    ias.flag(BAD, BAD, reason="ice")
    assert ias.write(2.0).bad


def test_a_checked_flag_can_be_cleared_by_hand(ias: Item) -> None:
    ias.write(999.0)
    assert not ias.flag(0, BAD).flags


def test_flags_alone_keep_the_value_and_its_age(ias: Item, clock: Clock) -> None:
    ias.write(1.0)
    stamp = clock.now
    clock.now += 1
    reading = ias.flag(FAIL | ANNUNCIATE, FAIL | ANNUNCIATE | BAD, "client", "unplugged")
    assert (reading.value, reading.stamp, reading.flags) == (1.0, stamp, FAIL | ANNUNCIATE)
    assert reading.reason(FAIL) == "unplugged"
    assert ias.flag(0, FAIL).flags == ANNUNCIATE


def test_fail_keeps_its_reason(ias: Item) -> None:
    ias.write(1.0, "pitot")
    assert ias.fail("no answer", "pitot").reason(FAIL) == "no answer"


def test_a_flag_keeps_its_reason_while_others_come_and_go(ias: Item) -> None:
    ias.write(1.0, flags=BAD | FAIL, reason="unplugged")
    ias.flag(BAD, BAD, reason="ice")
    assert dict(ias.reading.reasons) == {BAD: "ice", FAIL: "unplugged"}
    ias.flag(0, BAD, reason="no more ice")
    assert dict(ias.reading.reasons) == {FAIL: "unplugged"}


def test_unknown_bits_are_ignored(ias: Item) -> None:
    ias.write(1.0, flags=1 << 9, mask=1 << 9)
    ias.flag(1 << 7, 1 << 7)
    assert ias.reading.flag_text == "00000"


def test_a_flag_set_at_the_instant_at_which_the_value_becomes_old_finds_it_old(ias: Item, clock: Clock) -> None:
    ias.write(1.0)
    clock.now += 2.0
    assert ias.flag(BAD, BAD).flags == OLD | BAD


def test_old_set_by_hand_lasts_until_the_next_value(ias: Item) -> None:
    ias.write(1.0)
    assert ias.flag(OLD, OLD, "client").reason(OLD) == "set by client"
    assert not ias.write(2.0).flags


def test_old_can_be_cleared_only_if_the_value_is_not_overdue(db: Database, ias: Item, clock: Clock) -> None:
    assert ias.flag(0, OLD).old, "never written"
    ias.write(1.0)
    ias.flag(OLD, OLD)
    assert not ias.flag(0, OLD).flags
    clock.now += 3
    db.age()
    assert ias.flag(0, OLD).old, "nothing has been written since"
    wide = db.item("WIDE")
    wide.write(1.0)
    wide.flag(OLD, OLD)
    clock.now += 1e6
    assert not wide.flag(0, OLD).flags, "an item without tolerance never ages"


# -- aux ---------------------------------------------------------------------------------------------------------------


def test_aux_values_are_unset_until_written(db: Database, ias: Item) -> None:
    assert ias.aux == {"Vs": None, "Vne": None}
    db.write("IAS.Vne", "140")
    assert db.read_aux("IAS.Vne") == 140.0
    db.write("IAS.Vne", None)
    assert db.read_aux("IAS.Vne") is None


def test_aux_values_have_the_type_and_range_of_the_item(db: Database, ias: Item) -> None:
    assert ias.write_aux("Vs", 1000) == 500.0
    assert db.item("GEAR").write_aux("Most", -99) == -5
    with pytest.raises(BadValue):
        db.write("GEAR.Most", 1.5)
    with pytest.raises(BadValue) as caught:
        db.write("IAS.Vs", NAN)
    assert caught.value.reason == "number"
    assert ias.aux["Vs"] == 500.0


@pytest.mark.parametrize("key", ["IAS.Vx", "IAS.", "XXX.Vs", "IAS.Vs.more", ".", "", ".Vs"])
def test_unknown_aux_values_are_errors(db: Database, key: str) -> None:
    with pytest.raises(UnknownKey):
        db.write(key, 1)
    with pytest.raises(UnknownKey):
        db.read_aux(key)


def test_errors_suggest_the_nearest_name(db: Database) -> None:
    with pytest.raises(UnknownKey, match="did you mean 'BARO'"):
        db.read("BARRO")
    with pytest.raises(KeyError, match=r"did you mean 'IAS\.Vne'"):
        db.write("IAS.Vn", 1)


def test_the_source_of_an_aux_value_is_that_of_its_last_write(ias: Item) -> None:
    ias.write_aux("Vs", 40.0)
    assert ias.aux_sources == {}, "nobody knows"
    ias.write_aux("Vs", 45.0, "netfix/1")
    ias.write_aux("Vne", 150.0, "canfix/12")
    assert ias.explain()["aux_sources"] == {"Vs": "netfix/1", "Vne": "canfix/12"}
    ias.write_aux("Vs", 46.0)
    assert ias.aux_sources == {"Vs": "", "Vne": "canfix/12"}


def test_aux_changes_reach_their_subscribers(db: Database) -> None:
    news: list[tuple[Any, ...]] = []
    subscription = db.subscribe("IAS", on_aux=lambda *a: news.append(a))
    db.write("IAS", 5.0)
    db.write("IAS.Vs", 40)
    db.write("IAS.Vs", None)
    subscription.close()
    db.write("IAS.Vs", 50)
    assert news == [("IAS", "Vs", 40.0), ("IAS", "Vs", None)]


def test_an_aux_subscriber_that_writes_the_same_aux_value_does_not_recurse(db: Database, ias: Item) -> None:
    told: list[Any] = []

    def count_down(key: str, name: str, value: Any) -> None:
        told.append(value)
        if value:
            ias.write_aux(name, value - 1)

    db.subscribe("IAS", on_aux=count_down)
    assert ias.write_aux("Vs", 50) == 0.0
    assert told == [float(n) for n in range(50, -1, -1)]


def test_endless_aux_feedback_is_cut_short(db: Database, ias: Item, caplog: pytest.LogCaptureFixture) -> None:
    db.subscribe("IAS", on_aux=lambda k, name, v: ias.write_aux(name, 0 if v else 1))
    ias.write_aux("Vs", 1)
    assert "cut short" in caplog.text
    assert ias.write_aux("Vne", None) in (0.0, 1.0), "and still works"


# -- the database as a collection --------------------------------------------------------------------------------------


def test_keys_come_in_the_order_of_definition(db: Database) -> None:
    assert (
        db.keys() == list(db) == [i.key for i in db.items()] == ["IAS", "BARO", "GEAR", "FREE", "WIDE", "BTN1", "ACID"]
    )
    assert len(db) == 7
    assert "IAS" in db
    assert "XXX" not in db


def test_readings_come_in_that_order_and_are_the_same_until_they_change(db: Database, ias: Item) -> None:
    before = db.readings()
    assert before == [item.reading for item in db.items()]
    ias.write(1.0)
    after = db.readings()
    assert [b is a for b, a in zip(before, after, strict=True)] == [False] + [True] * 6


def test_patterns_give_the_keys_that_match_each_once(db: Database) -> None:
    assert db.matching("B*", "IAS", "*A*") == ["BARO", "BTN1", "IAS", "GEAR", "ACID"]
    with pytest.raises(UnknownKey, match="OAT"):
        db.matching("*", "OAT*")
    with pytest.raises(UnknownKey, match="IAS"):
        db.matching("ias")


def test_statistics_are_counted(db: Database, ias: Item, clock: Clock) -> None:
    ias.write(1.0)
    db.write("GEAR", 99)
    db.write("WIDE", NAN)
    with pytest.raises(BadValue):
        ias.write("x")
    clock.now += 3
    db.age()
    assert db.statistics() == {
        "items": 7,
        "never written": 5,
        "old": 1,
        "bad": 1,
        "failed": 1,
        "writes": 3,
        "refused values": 1,
        "callback errors": 0,
        "hung subscribers": 0,
        "ageing errors": 0,
        "source changes": {},
        "conflicts": {},
    }
    ias.write(1.0, "adc")
    ias.write(2.0, "efis")
    db.subscribe("WIDE", raising(ValueError()))
    db.write("WIDE", 1.0)
    facts = db.statistics()
    assert facts["conflicts"] == {"IAS": "adc and efis (1 times)"}
    assert (facts["callback errors"], facts["failed"]) == (1, 0)


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain_gives_the_source_of_a_value_and_the_reasons_of_its_flags(
    db: Database, ias: Item, clock: Clock
) -> None:
    ias.write(100.0, "pitot")
    clock.now += 1
    ias.write(999.0, "pitot", ANNUNCIATE, "overspeed")
    clock.now += 0.5123
    facts = ias.explain()
    assert facts["value"] == 500.0
    assert facts["flags"] == {"annunciate": "overspeed", "bad": "999.0 is above the range (500.0 knots)"}
    assert (facts["source"], facts["age"], facts["last_good"]) == ("pitot", 0.512, 1.512)
    assert (facts["writes"], facts["refused"], facts["conflicts"], facts["conflict_with"]) == (2, 0, 0, None)
    assert facts["range"] == [0.0, 500.0]


def test_explain_tells_everything(clock: Clock) -> None:
    def source(name: str, **facts: Any) -> dict[str, Any]:
        return {"source": name, **facts}

    definition = Definition(
        key="HEAD",
        description="Heading",
        units="deg",
        decimals=1,
        min=0.0,
        max=360.0,
        wrap=360.0,
        tolerance=1000,
        aux=("Bug",),
        sources=("ahrs", "compass"),
        return_after=2.0,
    )
    db = Database([definition], clock)
    db.derivations["HEAD"] = (Derivation("compute", "magnetic", "THEAD - VAR", ("THEAD", "VAR")),)
    db.feeders |= {"canfix": frozenset({"IAS", "HEAD"}), "gps": frozenset({"IAS"})}
    head = db.item("HEAD")
    head.write(359.0, "ahrs", 0)
    clock.now += 0.25
    head.write(2.0, "compass", BAD, "tilted")
    head.write(180.0, "other")
    head.write_aux("Bug", 270.0, "panel")
    head.annunciate(True, "off course", "alerts")
    with pytest.raises(BadValue):
        head.write("x", "other")
    clock.now += 0.5
    assert head.explain() == {
        "key": "HEAD",
        "description": "Heading",
        "value": 359.0,
        "units": "deg",
        "decimals": 1,
        "flags": {"annunciate": "off course (alerts)"},
        "source": "ahrs",
        "override_seconds": None,
        "annunciated_by": {"alerts": "off course"},
        "age": 0.75,
        "last_good": 0.75,
        "tolerance": 1.0,
        "range": [0.0, 360.0],
        "ranking": ["ahrs", "compass"],
        "return_after": 2.0,
        "source_changes": 0,
        "sources": [
            source("ahrs", published=True, rank=0, value=359.0, flags={}, age=0.75, difference=0.0),
            source("compass", published=False, rank=1, value=2.0, flags={"bad": "tilted"}, age=0.5, difference=3.0),
            source("other", published=False, rank=None, value=180.0, flags={}, age=0.5, difference=-179.0),
        ],
        "writes": 3,
        "refused": 1,
        "conflicts": 0,
        "conflict_with": None,
        "aux": {"Bug": 270.0},
        "aux_sources": {"Bug": "panel"},
        "feeders": ["canfix"],
        "computed": [{"by": "compute", "function": "magnetic", "formula": "THEAD - VAR", "inputs": ("THEAD", "VAR")}],
    }


def test_explain_describes_an_item_that_was_never_written(ias: Item) -> None:
    facts = ias.explain()
    assert (facts["age"], facts["last_good"], facts["source"], facts["sources"]) == (None, None, None, [])
    assert facts["flags"] == {"old": "never written"}
    msgspec.json.encode(facts)


def test_explain_remembers_when_an_aged_value_was_last_good(db: Database, ias: Item, clock: Clock) -> None:
    ias.write(1.0, "pitot")
    clock.now += 60
    db.age()
    ias.flag(FAIL, FAIL)
    assert ias.explain()["last_good"] == 60.0
    ias.write(2.0, "pitot", FAIL)
    ias.write(3.0, "pitot", FAIL)
    assert (ias.explain()["age"], ias.explain()["last_good"]) == (0.0, 60.0)


# -- subscriptions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def news(db: Database) -> list[tuple[str, Reading]]:
    heard: list[tuple[str, Reading]] = []
    db.subscribe("IAS", lambda key, reading: heard.append((key, reading)))
    return heard


def test_an_item_is_quick_while_all_its_subscribers_are(db: Database, ias: Item) -> None:
    assert ias.quick
    db.subscribe("*", lambda key, reading: None, quick=True)
    assert ias.quick
    slow = db.subscribe("IAS", lambda key, reading: None)
    assert not ias.quick
    assert db.item("WIDE").quick
    slow.close()
    assert ias.quick


def test_subscribing_calls_no_callback(db: Database, ias: Item) -> None:
    ias.write(1.0)
    heard: list[Reading] = []
    db.subscribe("IAS", lambda k, r: heard.append(r))
    db.age()
    assert heard == []


def test_every_write_notifies_even_with_the_same_value(ias: Item, news: list[tuple[str, Reading]]) -> None:
    readings = [ias.write(1.0), ias.write(1.0), ias.write(NAN), ias.write(700)]
    assert news == [("IAS", r) for r in readings]


def test_a_change_of_flags_notifies_but_setting_a_set_flag_does_not(ias: Item, news: list[tuple[str, Reading]]) -> None:
    ias.write(1.0, "a")
    ias.fail("no answer", "a")
    ias.fail("no answer", "a")
    ias.flag(0, BAD)
    assert [r.flags for _, r in news] == [0, FAIL]


def test_a_refused_value_notifies_no_one(ias: Item, news: list[tuple[str, Reading]]) -> None:
    with pytest.raises(BadValue):
        ias.write("x")
    assert news == []


def test_a_star_subscribes_to_every_item_including_later_ones(db: Database) -> None:
    heard: list[str] = []
    subscription = db.subscribe("*", lambda key, reading: heard.append(key))
    db.define(Definition(key="LATER"))
    db.write("IAS", 1)
    db.write("LATER", 1)
    subscription.close()
    subscription.close()
    db.write("LATER", 2)
    db.define(Definition(key="LAST")).write(1)
    assert heard == ["IAS", "LATER"]


def test_subscribing_to_an_unknown_key_is_an_error(db: Database) -> None:
    with pytest.raises(UnknownKey):
        db.subscribe("XXX", lambda k, r: None)


def test_callbacks_can_unsubscribe_themselves_and_others(db: Database, ias: Item) -> None:
    heard: list[str] = []

    def once(key: str, reading: Reading) -> None:
        heard.append("once")
        first.close()
        second.close()

    first = db.subscribe("IAS", once)
    second = db.subscribe("IAS", lambda k, r: heard.append("second"))
    ias.write(1.0)
    ias.write(2.0)
    assert heard == ["once", "second"], "the current delivery is completed, but no more"


def test_a_callback_can_subscribe_and_define_items(db: Database, ias: Item) -> None:
    heard: list[Any] = []

    def grow(key: str, reading: Reading) -> None:
        db.subscribe("IAS", lambda k, r: heard.append(r.value))
        db.define(Definition(key=f"NEW{reading.value:g}"))

    subscription = db.subscribe("IAS", grow)
    ias.write(1.0)
    subscription.close()
    ias.write(2.0)
    assert heard == [2.0]
    assert "NEW1" in db


def test_a_subscriber_that_writes_the_item_is_notified_of_its_write_afterwards(db: Database, ias: Item) -> None:
    heard: list[Any] = []

    def limit(key: str, reading: Reading) -> None:
        if reading.value > 100:  # type: ignore[operator]
            assert ias.write(100.0, "limiter").value == 100.0
            assert ias.flag(BAD, BAD).bad
            assert ias.override(90.0, 0, "override/test", "a test", 1.0).value == 90.0
            ias.end_override()
            assert ias.flag(0, BAD).value == 100.0

    db.subscribe("IAS", limit)
    db.subscribe("IAS", lambda k, r: heard.append((r.value, r.source)))
    assert ias.write(300.0, "pitot").value == 300.0
    assert heard == [(300.0, "pitot"), (100.0, "limiter")]


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item.write(50.0, "pitot", FAIL),
        lambda item: item.fail("ice", "pitot"),
        lambda item: item.annunciate(True, "too slow", "alerts"),
        lambda item: item.doubt({"pitot": "differs"}),
        lambda item: item.override(50.0, FAIL, "override/web", "", 10.0),
        lambda item: item.rank_sources(["adc", "radar"]),
    ],
)
def test_each_change_reaches_all_subscribers_before_the_next_one_that_it_causes(
    db: Database, ias: Item, change: Callable[[Item], object]
) -> None:
    heard: dict[str, list[Reading]] = {"first": [], "second": []}

    def restore(key: str, reading: Reading) -> None:
        heard["first"].append(reading)
        if len(heard["first"]) == 1:
            ias.annunciate(True, "something changed", "watcher")

    ias.write(80.0, "pitot")
    db.subscribe("IAS", restore)
    db.subscribe("IAS", lambda key, reading: heard["second"].append(reading))
    change(ias)
    assert len(heard["first"]) == 2
    assert heard["first"] == heard["second"]
    assert [reading.reason(ANNUNCIATE).endswith("(watcher)") for reading in heard["second"]] == [False, True]


@pytest.mark.parametrize(
    "again", [lambda item, r: item.write(1.0 - r.value), lambda item, r: item.flag(r.flags ^ BAD, BAD)]
)
def test_endless_feedback_is_cut_short_and_logged_once(
    db: Database, ias: Item, caplog: pytest.LogCaptureFixture, again: Callable[[Item, Reading], object]
) -> None:
    calls = 0

    def write_again(key: str, reading: Reading) -> None:
        nonlocal calls
        calls += 1
        again(ias, reading)

    subscription = db.subscribe("IAS", write_again)
    ias.write(1.0)
    ias.write(1.0)
    assert [r.message for r in caplog.records] == ["IAS: its subscribers keep writing it; delivery was cut short"]
    assert vars(caplog.records[0])["FIXGW_KEY"] == "IAS"
    assert not db._undelivered, "it does not go on elsewhere"
    assert calls < 1000
    subscription.close()
    heard: list[Any] = []
    db.subscribe("IAS", lambda k, r: heard.append(r.value))
    ias.write(7.0)
    assert heard == [7.0]


def raising(error: BaseException) -> Callable[..., None]:
    def callback(*arguments: object) -> None:
        raise error

    return callback


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), asyncio.CancelledError(), GeneratorExit(), BaseException("x")], ids=repr
)
def test_a_callback_that_raises_disturbs_neither_the_writer_nor_the_others(
    db: Database, ias: Item, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    db.subscribe("IAS", raising(error), raising(error))
    db.subscribe("IAS", lambda k, r: heard.append(r.value), lambda k, n, v: heard.append(v))
    ias.write(1.0)
    ias.write(2.0)
    ias.write_aux("Vs", 3)
    assert heard == [1.0, 2.0, 3.0]
    assert db.callback_errors == 3
    assert len(caplog.records) == 1, "once per interval"
    assert caplog.records[0].exc_info is not None
    assert vars(caplog.records[0])["FIXGW_KEY"] == "IAS"


def test_an_error_that_cannot_be_printed_does_no_harm(db: Database, ias: Item) -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    db.subscribe("IAS", raising(Nasty()))
    assert ias.write(1.0).good


def test_ctrl_c_in_a_callback_is_raised_and_the_item_still_works(db: Database, ias: Item) -> None:
    errors: Iterator[BaseException] = iter([KeyboardInterrupt()])
    heard: list[Any] = []

    def interrupted(key: str, reading: Reading) -> None:
        for error in errors:
            raise error
        heard.append(reading.value)

    db.subscribe("IAS", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ias.write(1.0)
    ias.write(2.0)
    assert heard == [2.0]


def test_a_callback_that_always_fails_is_dropped(
    db: Database, ias: Item, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []

    def broken(key: str, reading: Reading) -> None:
        calls.append(1)
        raise ValueError

    heard: list[str] = []
    db.subscribe("*", lambda key, reading: heard.append(key))
    db.subscribe("*", broken)
    for n in range(MAX_CALLBACK_FAILURES + 5):
        clock.now += 100  # so that every complaint is due
        (ias if n % 2 else db.item("WIDE")).write(float(n))
    assert len(calls) == MAX_CALLBACK_FAILURES
    assert len(heard) == MAX_CALLBACK_FAILURES + 5, "the others get everything"
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * (MAX_CALLBACK_FAILURES - 1) + [logging.ERROR]
    assert "dropped" in caplog.records[-1].message


def test_a_callback_that_fails_occasionally_is_kept(db: Database, ias: Item) -> None:
    calls: list[float] = []

    def flaky(*news: object) -> None:
        calls.append(1)
        if len(calls) % MAX_CALLBACK_FAILURES:
            raise ValueError

    subscription = db.subscribe("IAS", flaky, flaky)
    for n in range(10 * MAX_CALLBACK_FAILURES):
        ias.write_aux("Vs", n) if n % 3 else ias.write(float(n))
        assert subscription.errors == len(calls) % MAX_CALLBACK_FAILURES
    assert len(calls) == 10 * MAX_CALLBACK_FAILURES
    assert db.callback_errors == 9 * MAX_CALLBACK_FAILURES


def test_closing_works_for_a_callback_that_has_failed(db: Database, ias: Item) -> None:
    calls: list[float] = []

    def failing_once(key: str, reading: Reading) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError

    subscription = db.subscribe("IAS", failing_once)
    ias.write(1.0)
    ias.write(2.0)
    subscription.close()
    ias.write(3.0)
    assert len(calls) == 2


# -- mailboxes ---------------------------------------------------------------------------------------------------------


def test_a_mailbox_holds_the_latest_of_each_key_in_order_of_change(db: Database) -> None:
    with db.mailbox(["IAS", "WIDE", "IAS"]) as box:
        assert not box.filled
        db.write("WIDE", 1)
        assert box.filled
        db.write("IAS", 2)
        db.write("WIDE", 3)
        db.write("GEAR", 4)
        assert [(key, r.value) for key, r in box.wait(0).items()] == [("WIDE", 3.0), ("IAS", 2.0)]
        assert box.wait(0) == {}
    db.write("WIDE", 5)
    assert not box.filled, "it is closed"


def test_a_mailbox_is_bounded_by_its_keys(db: Database) -> None:
    with db.mailbox() as box:
        for n in range(10_000):
            db.write(("IAS", "WIDE")[n % 2], n)
        assert list(box.wait(0)) == ["IAS", "WIDE"]
        assert box.conflated == 9_998


def test_a_mailbox_can_be_for_one_key(db: Database) -> None:
    with db.mailbox("IAS") as box:
        db.write("IAS", 2)
        assert list(box.wait(0)) == ["IAS"]


def test_a_mailbox_receives_changes_of_flags_and_age(db: Database, clock: Clock) -> None:
    with db.mailbox() as box:
        db.write("IAS", 1)
        clock.now += 5
        db.age()
        assert box.wait(0)["IAS"].old


def test_a_mailbox_for_an_unknown_key_leaves_nothing_behind(db: Database, ias: Item) -> None:
    with pytest.raises(UnknownKey):
        db.mailbox(["IAS", "XXX"])
    assert ias._subscriptions == ()


def test_a_wake_before_the_wait_is_not_lost(db: Database) -> None:
    with db.mailbox() as box:
        box.wake()
        assert box.wait(60) == {}
        began = time.monotonic()
        assert box.wait(0.05) == {}
        assert time.monotonic() - began >= 0.04, "one wake ends one wait: a thread would never rest again"


def test_a_closed_mailbox_receives_nothing(db: Database) -> None:
    box = db.mailbox()
    box.close()
    box.close()
    db.write("IAS", 1)
    assert box.wait(60) == {}, "and does not make its owner wait"


@pytest.mark.parametrize(
    ("written", "stored"),
    [(-1.0, 359.0), (361.0, 1.0), (360.0, 360.0), (-0.5, 359.5), (0.0, 0.0), (719.5, 359.5), (-719.5, 0.5)],
)
@pytest.mark.parametrize("setting", [False, True])
def test_a_direction_wraps_around_and_is_not_clamped(written: float, stored: float, setting: bool) -> None:
    db = Database([Definition(key="HEAD", min=0.0, max=360.0, wrap=360.0, setting=setting)])
    reading = db.item("HEAD").write(written)
    assert (reading.value, reading.flags) == (stored, 0)


@pytest.mark.parametrize(("written", "stored"), [(190.0, -170.0), (-190.0, 170.0), (-540.0, -180.0), (180.0, 180.0)])
def test_a_direction_may_have_a_sign(written: float, stored: float) -> None:
    db = Database([Definition(key="LONG", min=-180.0, max=180.0, wrap=360.0)])
    reading = db.item("LONG").write(written)
    assert (reading.value, reading.flags) == (stored, 0)


@pytest.mark.parametrize(("written", "stored", "flags"), [(719, 359, 0), (-1, 359, 0), (360, 0, 0), (-361, 359, 0)])
def test_a_direction_in_whole_degrees_may_end_before_the_circle_is_full(written: int, stored: int, flags: int) -> None:
    db = Database([Definition(key="HEAD", type="int", min=0, max=359, wrap=360)])
    reading = db.item("HEAD").write(written)
    assert (reading.value, reading.flags) == (stored, flags)


def test_an_absurd_direction_is_still_out_of_range() -> None:
    db = Database([Definition(key="HEAD", min=0.0, max=360.0, wrap=360.0)])
    for written in (720.0, -720.0, 9000.0):
        assert db.item("HEAD").write(written).bad
