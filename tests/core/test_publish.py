"""`Publisher`: writes a driver's values under its source, and fails only those when the device is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixgw import database
from fixgw.database import BAD, FAIL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit.publish import Derived, DerivingPublisher, Publisher, check_changes, check_keys
from fixgw.kit.update import Update
from fixgw.plugin import PluginBase
from fixgw.world import World


@pytest.fixture
def db(clock: Clock) -> Iterator[Database]:
    made = Database(
        [
            Definition(key="OAT", min=-100.0, max=100.0, tolerance=2000),
            Definition(key="RAT", min=-100.0, max=100.0),
            Definition(key="IAS", min=0.0, max=300.0, sources=("best", "mine")),
            Definition(key="TIMEZ", type="str"),
        ],
        clock=clock,
    )
    before = database.current()
    database.bind(made)
    yield made
    database.bind(before)


def publisher(keys: dict[str, str | None] | None = None) -> tuple[Publisher, list[str]]:
    """A publisher, and its complaints."""
    complaints: list[str] = []
    counts: dict[str, int] = {}

    def complain(message: str, *details: object) -> None:
        complaints.append(message % details)
        assert counts["misfits"] == len(complaints)

    return Publisher(PluginBase("mine", {}), counts, complain, keys), complaints


def test_values_carry_the_source_and_their_flags(db: Database) -> None:
    publisher()[0].publish([Update("OAT", 12.5, BAD, "in doubt")])
    reading = db.read("OAT")
    assert (reading.value, reading.source, reading.bad, reading.reason(BAD)) == (12.5, "mine", True, "in doubt")


def test_a_good_value_clears_earlier_flags(db: Database) -> None:
    publish = publisher()[0].publish
    publish([Update("OAT", 12.5, BAD, "in doubt"), Update("OAT", None, FAIL, "no probe"), Update("OAT", 12.0)])
    assert db.read("OAT").good


def test_a_value_that_an_instrument_does_not_know_fails_even_if_never_written(db: Database) -> None:
    publisher()[0].publish([Update("OAT", None, FAIL, "no probe")])
    assert db.read("OAT").fail
    assert db.read("OAT").reason(FAIL) == "no probe"


def test_a_lost_device_fails_only_the_values_that_it_wrote(db: Database) -> None:
    mine, _ = publisher()
    mine.publish([Update("OAT", 12.5)])
    mine.fail("went away")
    assert db.read("OAT").reason(FAIL) == "went away"
    assert not db.read("RAT").fail


def test_a_lost_device_fails_its_values_in_the_order_in_which_it_wrote_them(clock: Clock) -> None:
    """So that two flights of one scenario do not differ."""
    keys = [f"EGT{n}" for n in range(12)]
    db = Database([Definition(key=key) for key in keys], clock)
    with World(db).hosting():
        mine, _ = publisher()
    for _ in range(2):
        mine.publish([Update(key, 1.0) for key in reversed(keys)])
    failed: list[str] = []
    for key in keys:
        db.subscribe(key, lambda key, reading: failed.append(key))
    mine.fail("went away")
    assert failed == keys[::-1]


def test_failing_leaves_newer_values_of_other_sources_alone(db: Database) -> None:
    mine, _ = publisher()
    mine.publish([Update("OAT", 12.5)])
    db.write("OAT", 13.0, "other")
    mine.fail("went away")
    mine.publish([Update("OAT", None, FAIL, "no probe")])
    assert db.read("OAT").good
    assert db.read("OAT").value == 13.0


def test_a_ranked_source_fails_its_own_value_behind_the_published_one(db: Database) -> None:
    mine, _ = publisher()
    mine.publish([Update("IAS", 100.0)])
    db.write("IAS", 101.0, "best")
    mine.fail("went away")
    assert db.read("IAS").value == 101.0
    assert not db.read("IAS").fail
    assert db.read("IAS").secfail


def test_keys_can_be_redirected_or_left_out(db: Database) -> None:
    mine, _ = publisher({"OAT": "RAT", "TIMEZ": None})
    mine.publish([Update("OAT", 5.0), Update("TIMEZ", "12:00:00")])
    assert db.read("RAT").value == 5.0
    assert db.read("OAT").old
    assert db.read("TIMEZ").old
    mine.fail("went away")
    assert db.read("RAT").fail


def test_missing_items_are_skipped_and_values_that_do_not_fit_are_reported(db: Database) -> None:
    mine, complaints = publisher()
    mine.publish([Update("NOSUCH", 1.0), Update("OAT", "warm"), Update("RAT", 3.0)])
    (complaint,) = complaints
    assert complaint.startswith("OAT: ")
    assert db.read("RAT").value == 3.0


def test_wrong_names_in_the_option_are_found(db: Database) -> None:
    found = dict(check_keys({"OAT": "RTA", "OATT": "RAT", "RAT": None}, {"OAT", "RAT"}, db))
    assert set(found) == {"keys.OAT", "keys.OATT"}
    assert "did you mean 'RAT'?" in found["keys.OAT"]
    assert "did you mean 'OAT'?" in found["keys.OATT"]


def test_a_value_that_must_change_fails_when_it_does_not(db: Database, clock: Clock) -> None:
    counts: dict[str, int] = {}
    hearing = Publisher(PluginBase("mine", {}), counts, print, {"PROBE": "OAT"}, {"OAT": 5.0})
    for second in range(10):
        clock.now += 1.0
        hearing.publish([Update("PROBE", 12.0), Update("RAT", 3.0)])
        assert db.read("OAT").fail == (second > 5), second
    assert "not changed for more than 5 s" in db.read("OAT").reason(FAIL)
    assert "OAT" in hearing.trouble
    assert db.read("RAT").good, "it is not required to change"
    hearing.publish([Update("PROBE", 12.1)])
    assert db.read("OAT").good
    assert not hearing.trouble
    clock.now += 100.0
    hearing.fail("gone")
    hearing.publish([Update("PROBE", 12.1)])
    assert db.read("OAT").good, "after an outage the time starts again"


def test_a_wrong_value_does_not_replace_a_good_one_of_another_source(db: Database) -> None:
    hearing = publisher()[0]
    db.write("OAT", 10.0, "another")
    hearing.publish([Update("OAT", 1.0, BAD, "no fix")])
    assert (db.read("OAT").value, db.read("OAT").source, db.read("OAT").good) == (10.0, "another", True)
    db.item("OAT").fail("its probe is broken", "another")
    hearing.publish([Update("OAT", 1.0, BAD, "in doubt")])
    assert (db.read("OAT").value, db.read("OAT").bad) == (1.0, True)


def test_a_key_that_is_not_written_cannot_be_required_to_change() -> None:
    assert list(check_changes({"OAT": 5.0}, ["OAT", "IAS"])) == []
    ((option, message),) = check_changes({"OTA": 5.0}, ["OAT", "IAS"])
    assert option == "changes_within.OTA"
    assert "does not write OTA" in message
    assert "OAT" in message


@pytest.mark.parametrize("update", [Update("RAT", None, FAIL, "no probe"), Update("RAT", 0.0, FAIL, "no probe")])
def test_what_fails_beneath_an_override_is_not_good_after_it(db: Database, update: Update) -> None:
    made, _ = publisher()
    made.publish([Update("RAT", 12.0)])
    item = db.item("RAT")
    item.override(20.0, 0, "override/netfix/127.0.0.1", "", 60.0)
    made.publish([update])
    item.end_override()
    assert db.read("RAT").fail


def test_a_device_that_vanishes_beneath_an_override(db: Database) -> None:
    made, _ = publisher()
    made.publish([Update("RAT", 12.0)])
    item = db.item("RAT")
    item.override(20.0, 0, "override/netfix/127.0.0.1", "", 60.0)
    made.fail("unplugged")
    item.end_override()
    assert db.read("RAT").fail


def test_what_depends_on_another_item_says_so() -> None:
    db = Database(
        [
            *(Definition(key=key, min=-1000.0, max=60_000.0, tolerance=2000) for key in ("PALT", "ALT")),
            *(Definition(key=key, min=0.0, max=360.0) for key in ("HEAD", "MAGVAR")),
            Definition(key="BARO", min=0.0, max=35.0, setting=True),
        ]
    )
    with World(db).hosting():
        plugin = PluginBase("mine", {})
    mine = DerivingPublisher(plugin, {}, lambda *words: None)
    mine.derived = {
        **mine.derived,
        "HEAD": Derived("HEAD", "MAGVAR", "the variation", lambda true, other: true - other),
    }
    mine.publish([Update("PALT", 3000.0), Update("HEAD", 90.0)])
    assert db.read("PALT").good
    assert db.read("ALT").reason(FAIL) == "the altimeter setting is impossible"
    assert db.read("HEAD").reason(BAD) == "the variation is not good"
    db.write("BARO", 29.92, "sim/knob", flags=0)
    db.write("MAGVAR", 3.5, "compute", flags=0)
    mine.publish([Update("PALT", 3000.0), Update("HEAD", 90.0)])
    assert db.read("ALT").value == pytest.approx(3000.0, abs=2.0)
    assert (db.read("PALT").source, db.read("ALT").source) == ("mine", "sim/mine")
    assert (db.read("HEAD").value, db.read("HEAD").source) == (86.5, "mine")
    mine.fail("went away")
    assert {db.read(key).reason(FAIL) for key in ("PALT", "ALT", "HEAD")} == {"went away"}


def test_what_depends_on_an_item_that_is_missing_is_left_out() -> None:
    db = Database([Definition(key=key, min=-1000.0, max=60_000.0) for key in ("PALT", "ALT")])
    with World(db).hosting():
        plugin = PluginBase("mine", {})
    mine = DerivingPublisher(plugin, {}, lambda *words: None)
    mine.publish([Update("PALT", 3000.0)])
    assert (db.read("PALT").value, db.read("ALT").source) == (3000.0, "")
    mine.publish([Update("PALT", None, FAIL, "no sensor")])
    assert db.read("ALT").reason(FAIL) == "no sensor"
