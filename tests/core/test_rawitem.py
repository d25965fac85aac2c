"""The item objects that `db_get_item` hands to plugins written for other gateways."""

from __future__ import annotations

from typing import Any

import pytest

from fixgw.database import BAD, OLD, Database, Definition
from fixgw.database.legacy import RawItem
from fixgw.errors import BadValue, UnknownKey
from fixgw.hw_sim.bench.clock import Clock


@pytest.fixture
def raw(clock: Clock) -> RawItem:
    db = Database(
        [
            Definition(
                key="IAS",
                description="Indicated airspeed",
                units="knots",
                min=0.0,
                max=500.0,
                tolerance=2000,
                aux=("Vs", "Vne"),
            )
        ],
        clock,
    )
    return RawItem(db.item("IAS"), "theirs")


def test_it_gives_the_definition_of_the_item(raw: RawItem) -> None:
    assert (raw.key, raw.description, raw.units, raw.min, raw.max, raw.tol, raw.typestring, raw.dtype) == (
        "IAS",
        "Indicated airspeed",
        "knots",
        0.0,
        500.0,
        2000,
        "float",
        float,
    )


@pytest.mark.parametrize(("kind", "dtype"), [("float", float), ("int", int), ("bool", bool), ("str", str)])
def test_dtype_is_a_python_type(kind: Any, dtype: type) -> None:
    assert RawItem(Database([Definition(key="K", type=kind)]).item("K")).dtype is dtype


def test_its_value_is_a_plain_tuple_of_six(raw: RawItem) -> None:
    raw.value = 103.5
    assert type(raw.value) is tuple
    assert raw.value == (103.5, False, False, False, False, False)
    assert raw.item.reading.source == "theirs"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((1.0, True, False, True), (1.0, True, False, False, True, True)),
        ((1.0, False, True, False), (1.0, False, False, True, False, True)),
        ((1.0, True, True, True, False), (1.0, True, False, True, True, False)),
        ((1.0, 0, 0, 0, 1), (1.0, False, False, False, False, True)),
        ((1.0, True, True, False, True, False), (1.0, True, False, False, True, False)),
        (("7.5", False, False, False, False), (7.5, False, False, False, False, False)),
    ],
    ids=["four leave secfail", "four", "five", "five as numbers", "six as read, old ignored", "text"],
)
def test_tuples_set_value_and_flags_in_one_step(raw: RawItem, given: Any, read: Any) -> None:
    raw.secfail = True
    writes = raw.item.writes
    raw.value = given
    assert raw.value == read
    assert raw.item.writes == writes + 1


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_tuples_of_another_length_are_errors_and_change_nothing(raw: RawItem, length: int) -> None:
    before = raw.item.reading
    with pytest.raises(ValueError, match=f"got a tuple of {length}"):
        raw.value = (1.0,) * length
    assert raw.item.reading is before


def test_a_scalar_leaves_the_flags_alone(raw: RawItem) -> None:
    raw.bad = True
    raw.annunciate = True
    raw.value = "12.5"
    assert raw.value == (12.5, True, False, True, False, False)


def test_a_wrong_value_is_an_error(raw: RawItem) -> None:
    with pytest.raises(BadValue):
        raw.value = "fast"
    with pytest.raises(BadValue):
        raw.value = (None, False, False, False)


@pytest.mark.parametrize("flag", ["annunciate", "old", "bad", "fail", "secfail"])
def test_flags_are_attributes(raw: RawItem, flag: str) -> None:
    raw.value = 1.0
    setattr(raw, flag, True)
    assert getattr(raw, flag) is True
    assert sum(raw.value[1:]) == 1
    assert dict(raw.item.reading.reasons).popitem()[1] == "set by theirs"
    setattr(raw, flag, 0)
    assert getattr(raw, flag) is False


def test_old_depends_on_the_clock(raw: RawItem) -> None:
    raw.old = False
    assert raw.old, "never written"


def test_age_is_in_milliseconds(raw: RawItem, clock: Clock) -> None:
    assert raw.age == float("inf")
    raw.value = 1.0
    clock.now += 1.25
    assert raw.age == pytest.approx(1250)


def test_aux_values_can_be_read_and_set(raw: RawItem) -> None:
    assert raw.get_aux_list() == ["Vs", "Vne"]
    assert raw.get_aux_value("Vs") is None
    raw.set_aux_value("Vs", "45")
    assert raw.get_aux_value("Vs") == 45.0
    assert dict(raw.aux) == {"Vs": 45.0, "Vne": None}
    with pytest.raises(KeyError):
        raw.get_aux_value("Vx")
    with pytest.raises(UnknownKey, match="did you mean"):
        raw.set_aux_value("Vnee", 1)


def test_nothing_else_can_be_set(raw: RawItem) -> None:
    for name in ("min", "max", "tol", "units", "key", "valeu"):
        with pytest.raises(AttributeError):
            setattr(raw, name, 1)


def test_bits_are_those_of_the_database(raw: RawItem) -> None:
    raw.value = (1.0, False, True, False)
    raw.old = True
    assert raw.item.reading.flags == BAD | OLD
