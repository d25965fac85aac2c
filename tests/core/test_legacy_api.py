"""The interface used by plugins written for other gateways: module functions, tuples, callbacks, imports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fixgw.database
import fixgw.plugin as plugin
import fixgw.quorum
from fixgw.database import Database, Definition
from fixgw.errors import BadValue, UnknownKey


@pytest.fixture(autouse=True)
def db() -> Iterator[Database]:
    before = fixgw.database.current()
    db = Database(
        [
            Definition(key="IAS", min=0.0, max=500.0, tolerance=2000, aux=("Vs", "Vne")),
            Definition(key="GEAR", type="int"),
            Definition(key="BTN1", type="bool"),
        ]
    )
    fixgw.database.bind(db)
    yield db
    fixgw.database.bind(before)


class Theirs(plugin.PluginBase):
    """A typical third-party plugin: no declared options, everything through the methods of the base class."""

    def __init__(self, name: str = "theirs") -> None:
        super().__init__(name, {})
        self.heard: list[tuple[Any, ...]] = []

    def hear(self, key: str, value: Any, udata: Any) -> None:
        self.heard.append((key, value, udata))


@pytest.fixture
def theirs() -> Theirs:
    return Theirs()


def test_reading_gives_a_plain_tuple() -> None:
    value = fixgw.database.read("IAS")
    assert type(value) is tuple
    assert value == (0.0, False, True, False, False, False)


def test_reading_an_aux_value_gives_a_scalar_or_none() -> None:
    assert fixgw.database.read("IAS.Vs") is None
    fixgw.database.write("IAS.Vs", 45)
    assert fixgw.database.read("IAS.Vs") == 45.0


def test_unknown_keys_are_key_errors(theirs: Theirs) -> None:
    for call in (
        lambda: fixgw.database.read("XXX"),
        lambda: fixgw.database.read("IAS.Vx"),
        lambda: fixgw.database.write("XXX", 1),
        lambda: fixgw.database.write("XXX", (1, False, False, False)),
        lambda: fixgw.database.write("IAS.Vx", 1),
        lambda: fixgw.database.get_raw_item("XXX"),
        lambda: fixgw.database.callback_add("n", "XXX", print),
        lambda: theirs.db_read("XXX"),
        lambda: theirs.db_get_item("XXX"),
    ):
        with pytest.raises(KeyError) as caught:
            call()
        assert isinstance(caught.value, UnknownKey)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (5, (5.0, False, False, False, False, False)),
        ("103.2", (103.2, False, False, False, False, False)),
        ((5, True, False, True), (5.0, True, False, False, True, False)),
        ((5, False, True, False, True), (5.0, False, False, True, False, True)),
        ((5, False, True, True, False, True), (5.0, False, False, True, False, True)),
    ],
)
def test_scalars_text_and_tuples_can_be_written(theirs: Theirs, written: Any, read: Any) -> None:
    fixgw.database.write("IAS", written)
    assert fixgw.database.read("IAS") == read
    theirs.db_write("IAS", written)
    assert theirs.db_read("IAS") == read


def test_a_reading_can_be_written_back(theirs: Theirs) -> None:
    theirs.db_write("IAS", (5, True, False, True, False))
    before = theirs.db_read("IAS")
    theirs.db_write("IAS", before)
    assert theirs.db_read("IAS") == before


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_other_tuples_are_value_errors(theirs: Theirs, length: int) -> None:
    with pytest.raises(ValueError, match="got a tuple of"):
        theirs.db_write("IAS", (1,) * length)


@pytest.mark.parametrize("value", ["down", [1]])
def test_what_is_no_number_is_refused_by_the_item(theirs: Theirs, value: Any) -> None:
    with pytest.raises(BadValue, match="GEAR"):
        theirs.db_write("GEAR", value)


def test_a_tuple_is_not_an_aux_value(theirs: Theirs) -> None:
    with pytest.raises(BadValue):
        theirs.db_write("IAS.Vs", (1, False, False, False))


def test_writes_carry_the_name_of_the_plugin(theirs: Theirs, db: Database) -> None:
    theirs.db_write("IAS", 5)
    assert db.read("IAS").source == "theirs"
    theirs.db_write("GEAR", (5, False, False, False))
    assert db.read("GEAR").source == "theirs"
    theirs.source = "sim/theirs"
    theirs.db_get_item("IAS").value = 6
    assert db.read("IAS").source == "sim/theirs"


def test_keys_can_be_listed(theirs: Theirs) -> None:
    assert fixgw.database.listkeys() == theirs.db_list() == ["IAS", "GEAR", "BTN1"]


def test_items_can_be_obtained(theirs: Theirs) -> None:
    item = theirs.db_get_item("IAS")
    item.fail = True
    assert fixgw.database.get_raw_item("IAS").fail is True
    assert (item.key, item.tol, item.dtype) == ("IAS", 2000, float)


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_callbacks_get_key_plain_tuple_and_their_own_data(theirs: Theirs) -> None:
    theirs.db_callback_add("IAS", theirs.hear, {"mine": 1})
    theirs.db_write("IAS", 5)
    theirs.db_get_item("IAS").annunciate = True
    assert theirs.heard == [
        ("IAS", (5.0, False, False, False, False, False), {"mine": 1}),
        ("IAS", (5.0, True, False, False, False, False), {"mine": 1}),
    ]
    assert all(type(value) is tuple for _, value, _ in theirs.heard)


def test_callbacks_get_aux_values_as_scalars_under_the_long_key(theirs: Theirs) -> None:
    theirs.db_callback_add("*", theirs.hear)
    theirs.db_write("IAS.Vne", "140")
    assert theirs.heard == [("IAS.Vne", 140.0, None)]


def test_adding_the_same_callback_twice_changes_nothing(theirs: Theirs) -> None:
    for _ in range(3):
        theirs.db_callback_add("IAS", theirs.hear, "".join(["d", "ata"]))
    theirs.db_write("IAS", 5)
    assert len(theirs.heard) == 1
    theirs.db_callback_del("IAS", theirs.hear, "data")
    theirs.db_write("IAS", 6)
    assert len(theirs.heard) == 1


def test_callbacks_with_different_data_are_different(theirs: Theirs) -> None:
    for data in ([1], [2], None):
        theirs.db_callback_add("IAS", theirs.hear, data)
    theirs.db_callback_del("IAS", theirs.hear, [2])
    theirs.db_write("IAS", 5)
    assert [udata for _, _, udata in theirs.heard] == [[1], None]
    assert [udata for _, _, udata in theirs._callbacks] == [[1], None], "the plugin forgets it, too"


def test_deleting_without_data_deletes_all_registrations(theirs: Theirs) -> None:
    theirs.db_callback_add("IAS", theirs.hear, [1])
    theirs.db_callback_add("IAS", theirs.hear, [2])
    theirs.db_callback_add("GEAR", theirs.hear, [3])
    theirs.db_callback_del("IAS", theirs.hear)
    theirs.db_write("IAS", 5)
    theirs.db_write("GEAR", 5)
    assert [key for key, _, _ in theirs.heard] == ["GEAR"]


def test_deleting_what_was_never_added_is_harmless(theirs: Theirs) -> None:
    theirs.db_callback_del("IAS", theirs.hear)
    theirs.db_callback_del("XXX", theirs.hear, 1)
    fixgw.database.callback_del("somebody", "*", theirs.hear)


def test_callbacks_belong_to_the_name_they_were_added_under(theirs: Theirs) -> None:
    fixgw.database.callback_add("one", "IAS", theirs.hear)
    fixgw.database.callback_add("two", "IAS", theirs.hear)
    fixgw.database.callback_del("one", "IAS", theirs.hear)
    fixgw.database.write("IAS", 1)
    assert len(theirs.heard) == 1


def test_a_callback_that_raises_does_not_disturb_the_writer_and_is_named(
    theirs: Theirs, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(key: str, value: Any, udata: Any) -> None:
        raise RuntimeError

    theirs.db_callback_add("IAS", broken)
    theirs.db_callback_add("IAS", theirs.hear)
    theirs.db_write("IAS", 5)
    assert len(theirs.heard) == 1
    assert f"broken of {theirs.name} on IAS failed" in caplog.text


def test_callbacks_that_a_plugin_did_not_delete_end_with_it(theirs: Theirs, db: Database) -> None:
    theirs.db_callback_add("*", theirs.hear, [1])
    theirs.db_callback_add("IAS", theirs.hear)
    theirs.db_callback_add("GEAR", theirs.hear)
    theirs.db_callback_del("GEAR", theirs.hear)
    theirs.shutdown()
    fixgw.database.write("IAS", 5)
    assert theirs.heard == []
    assert db.legacy_callbacks == []
    assert db.item("IAS")._subscriptions == ()


def test_another_database_starts_without_callbacks(theirs: Theirs) -> None:
    theirs.db_callback_add("IAS", theirs.hear)
    fixgw.database.bind(Database([Definition(key="IAS")]))
    theirs.db_write("IAS", 5)
    assert theirs.heard == []
    theirs.db_callback_add("IAS", theirs.hear)
    theirs.db_write("IAS", 6)
    assert len(theirs.heard) == 1


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_a_gateway_that_is_alone_leads(theirs: Theirs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fixgw.quorum.leader is True
    assert (fixgw.quorum.enabled, fixgw.quorum.nodeid, fixgw.quorum.vote_key) == (False, None, None)
    monkeypatch.setattr(fixgw.quorum, "leader", False)
    assert theirs.quorum.leader is False, "plain attributes, visible to all"


def test_the_module_functions_act_on_the_running_gateways_database(theirs: Theirs, db: Database) -> None:
    assert theirs.db is fixgw.database.current() is db


# -- accepted values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "written", "stored"),
    [
        ("int", 42.7, 42),
        ("int", "42.7", 42),
        ("int", -0.9, 0),
        ("int", 42.0, 42),
        ("int", "42", 42),
        ("str", 1234, "1234"),
        ("str", 3.5, "3.5"),
        ("str", None, ""),
        ("bool", None, False),
        ("bool", 5, True),
        ("bool", -0.5, True),
        ("bool", 0.0, False),
        ("bool", "Yes", True),
        ("bool", "YES", True),
        ("bool", "on", True),
        ("bool", "TRUE", True),
        ("bool", "Off", False),
        ("float", "103.2", 103.2),
    ],
)
def test_old_plugins_can_write_in_their_old_ways(kind: Any, written: Any, stored: Any) -> None:
    db = Database([Definition(key="K", type=kind, aux=("A",))])
    fixgw.database.write("K", written, db=db)
    assert db.read("K").value == stored
    assert type(db.read("K").value) is type(stored)
    fixgw.database.write("K", (written, False, True, False), db=db)
    assert (db.read("K").value, db.read("K").bad) == (stored, True)
    fixgw.database.get_raw_item("K", db=db).value = written
    assert db.read("K").value == stored
    fixgw.database.write("K.A", written, db=db)
    assert db.read_aux("K.A") == (None if written is None else stored), "None clears an aux value"
    fixgw.database.get_raw_item("K", db=db).set_aux_value("A", written)
    assert db.read_aux("K.A") == (None if written is None else stored)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        *[("float", True), ("int", True), ("int", "1_0"), ("int", "x"), ("float", None), ("bool", "maybe")],
        *[("bool", float("nan")), ("bool", float("inf")), ("bool", float("-inf"))],
    ],
)
def test_meaningless_values_are_refused_as_before(kind: Any, written: Any) -> None:
    db = Database([Definition(key="K", type=kind)])
    with pytest.raises(BadValue, match=rf"{written!r} is not"):
        fixgw.database.write("K", written, db=db)


def test_deleting_a_callback_with_a_star_removes_it_from_every_key() -> None:
    db = Database([Definition(key="A"), Definition(key="B")])
    heard: list[Any] = []

    def function(key: str, value: Any, udata: Any) -> None:
        heard.append(key)

    for key in "AB":
        fixgw.database.callback_add("p", key, function, db=db)
        fixgw.database.callback_add("other", key, function, db=db)
    fixgw.database.callback_del("p", "*", function, db=db)
    fixgw.database.write("A", 1.0, db=db)
    assert heard == ["A"], "that of the other plugin is still there"
    fixgw.database.callback_del("other", "*", function, db=db)
    fixgw.database.write("B", 1.0, db=db)
    assert heard == ["A"]


def test_a_write_without_a_source_is_notified_like_any_other() -> None:
    db = Database([Definition(key="A")])
    heard: list[Any] = []
    db.subscribe("A", lambda key, reading: heard.append((reading.value, reading.source, reading.good)))
    fixgw.database.write("A", 1.0, db=db)
    assert heard == [(1.0, "", True)]
