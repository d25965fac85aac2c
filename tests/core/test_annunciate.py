"""The annunciate flag has owners: the flag of the source and that of alert logic are separate."""

from __future__ import annotations

import threading

import pytest

from fixgw import database
from fixgw.database import ANNUNCIATE, BAD, OLD, SECFAIL, Database, Definition, Item, Reading
from fixgw.database.item import MAX_ANNUNCIATORS
from fixgw.hw_sim.bench.clock import Clock

A = "10000"
NONE = "00000"


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database(
        [
            Definition(key="OILP1", min=0, max=200, tolerance=2000),
            Definition(key="LAT", tolerance=1000, sources=("gps1", "gps2")),
        ],
        clock,
    )


@pytest.fixture
def oil(db: Database) -> Item:
    item = db.item("OILP1")
    item.write(60.0, "canfix/12", 0)
    return item


@pytest.fixture
def heard(db: Database, oil: Item) -> list[str]:
    heard: list[str] = []
    db.subscribe("OILP1", lambda key, reading: heard.append(reading.flag_text))
    return heard


def frame(item: Item, value: float = 60.0, flags: int = 0) -> None:
    """A frame that a node sends twenty times a second."""
    item.write(value, "canfix/12", flags, "the node says so", ANNUNCIATE | BAD)


def test_frames_do_not_make_the_flag_flicker(oil: Item, heard: list[str]) -> None:
    oil.annunciate(True, "below lowAlarm", "alerts")
    for value in range(20):
        frame(oil, value)
    assert heard == [A] * 21, "one update a frame, each with the flag"
    assert oil.reading.value == 19.0
    oil.annunciate(False, owner="alerts")
    frame(oil)
    assert heard[21:] == [NONE, NONE]


def test_neither_owner_clears_the_flag_of_the_other(oil: Item, heard: list[str]) -> None:
    frame(oil, flags=ANNUNCIATE)
    oil.annunciate(True, "below lowAlarm", "alerts")
    oil.annunciate(False, owner="alerts")
    assert oil.reading.annunciate, "the node still says so"
    oil.annunciate(True, "below lowAlarm", "alerts")
    frame(oil)
    assert oil.reading.annunciate, "the alert still says so"
    oil.annunciate(False, owner="alerts")
    assert not oil.reading.annunciate
    assert oil.reading.reasons == ()


def test_the_last_value_of_the_source_stays_when_the_flag_is_released(oil: Item) -> None:
    oil.annunciate(True, "below lowAlarm", "alerts")
    for value in (1.0, 2.0):
        oil.write(value, "canfix/12")  # as who never sends flags
        assert (oil.said.value, oil.said.flags) == (value, 0)
    oil.annunciate(False, owner="alerts")
    assert (oil.reading.value, oil.reading.flags) == (2.0, 0)


def test_setting_it_again_notifies_no_one(oil: Item, heard: list[str]) -> None:
    for _ in range(5):
        oil.annunciate(True, "below lowAlarm", "alerts")
    assert heard == [A]
    for _ in range(5):
        oil.annunciate(False, owner="alerts")
        oil.annunciate(False, owner="nobody")
    assert heard == [A, NONE]


def test_the_flag_stays_while_any_owner_holds_it(oil: Item) -> None:
    oil.annunciate(True, "below lowAlarm", "alerts")
    oil.annunciate(True, "differs from OILP2", "compare")
    oil.annunciate(False, owner="alerts")
    assert oil.reading.annunciate
    oil.annunciate(False, owner="compare")
    assert not oil.reading.annunciate


def test_explain_names_the_owners_and_their_reasons(oil: Item) -> None:
    frame(oil, flags=ANNUNCIATE)
    oil.annunciate(True, "below lowAlarm", "alerts")
    oil.annunciate(True, owner="compare")
    facts = oil.explain()
    assert facts["annunciated_by"] == {"alerts": "below lowAlarm", "compare": ""}
    assert facts["flags"] == {"annunciate": "the node says so; below lowAlarm (alerts); set by compare"}
    assert facts["sources"][0]["flags"] == {"annunciate": "the node says so"}, "what the source itself says"
    oil.annunciate(False, owner="alerts")
    oil.annunciate(False, owner="compare")
    assert oil.explain()["annunciated_by"] == {}


def test_the_flag_of_the_source_can_be_read_separately(oil: Item) -> None:
    assert oil.said is oil.reading
    oil.annunciate(True, "below lowAlarm", "alerts")
    assert (oil.said.flags, oil.reading.flags) == (0, ANNUNCIATE)
    assert oil.write(61.0, "canfix/12", 0).flags == 0


def test_other_flags_and_age_are_those_of_the_source(oil: Item, clock: Clock, db: Database) -> None:
    oil.annunciate(True, "below lowAlarm", "alerts")
    frame(oil, flags=BAD)
    assert oil.reading.flags == ANNUNCIATE | BAD
    clock.now += 3
    assert oil.reading.flags == ANNUNCIATE | BAD | OLD
    db.age()
    assert oil.reading.flags == ANNUNCIATE | BAD | OLD
    frame(oil)
    assert oil.reading.flags == ANNUNCIATE


def test_setting_it_does_not_make_an_overdue_value_fresh(oil: Item, heard: list[str], clock: Clock) -> None:
    clock.now += 3
    oil.annunciate(True, "below lowAlarm", "alerts")
    assert heard == ["11000"]


def test_an_item_that_was_never_written_can_be_annunciated(db: Database) -> None:
    lat = db.item("LAT")
    lat.annunciate(True, "no data", "alerts")
    assert lat.reading.flags == ANNUNCIATE | OLD | SECFAIL


def test_the_flag_stays_when_ranked_sources_change(db: Database, clock: Clock) -> None:
    heard: list[str] = []
    lat = db.item("LAT")
    lat.write(48.0, "gps1")
    lat.write(48.1, "gps2")
    lat.annunciate(True, "they differ", "compare")
    db.subscribe("LAT", lambda key, reading: heard.append(f"{reading.source} {reading.flag_text}"))
    for _ in range(20):
        lat.write(48.1, "gps2", 0)
    assert heard == [], "the reading of a backup is not notified"
    clock.now += 0.5
    lat.write(48.1, "gps2", 0)
    clock.now += 0.6
    db.age()
    assert heard == ["gps2 10001"]
    assert not any(r.annunciate for r in lat.readings()), "no source has set it"
    for _ in range(7):
        lat.write(48.0, "gps1", ANNUNCIATE)
        lat.write(48.1, "gps2")
        clock.now += 0.5
        db.age()
    lat.annunciate(False, owner="compare")
    assert (lat.reading.source, lat.reading.flags) == ("gps1", ANNUNCIATE)
    lat.rank_sources()
    assert lat.reading.annunciate


def test_the_number_of_owners_is_bounded(oil: Item) -> None:
    for n in range(MAX_ANNUNCIATORS):
        oil.annunciate(True, owner=f"alert {n}")
    with pytest.raises(ValueError, match="OILP1: more than 16 owners"):
        oil.annunciate(True, owner="one more")
    oil.annunciate(True, "another reason", "alert 3")
    assert oil.reading.annunciate
    assert len(oil.annunciators) == MAX_ANNUNCIATORS


def test_alert_logic_can_set_the_flag_in_its_callback(db: Database, oil: Item) -> None:
    """The callback sets the flag at once: the reading after a write carries it, whatever happens in between."""
    heard: list[tuple[object, str]] = []

    def judge(key: str, reading: Reading) -> None:
        oil.annunciate(float(reading.value) < 20, "below lowAlarm", "alerts")

    db.subscribe("OILP1", judge)
    db.subscribe("OILP1", lambda key, reading: heard.append((reading.value, reading.flag_text)))
    for value in (60.0, 19.0, 18.0, 17.0, 60.0):
        frame(oil, value)
    assert heard == [(60.0, NONE), (19.0, NONE), (19.0, A), (18.0, A), (17.0, A), (60.0, A), (60.0, NONE)]


def test_a_hung_subscriber_delays_no_alert(db: Database, oil: Item) -> None:
    answer, reached = threading.Event(), threading.Event()
    heard: list[str] = []

    def hang(key: str, reading: Reading) -> None:
        heard.append(reading.flag_text)
        reached.set()
        answer.wait(20)

    db.subscribe("OILP1", hang)
    writer = threading.Thread(target=frame, args=(oil,))
    writer.start()
    assert reached.wait(10)
    oil.annunciate(True, "below lowAlarm", "alerts")
    assert oil.reading.annunciate
    oil.annunciate(False, owner="alerts")
    oil.annunciate(True, "below lowAlarm", "alerts")
    answer.set()
    writer.join()
    assert heard == [NONE, A], "the newest is finally delivered"


def test_two_writers_and_two_owners_at_once(db: Database, oil: Item) -> None:
    """While one owner holds the flag throughout, every reading has it, and no trace of the others remains."""
    oil.annunciate(True, "all along", "alerts")
    heard: list[str] = []
    db.subscribe("OILP1", lambda key, reading: heard.append(reading.flag_text))

    def write() -> None:
        for n in range(500):
            frame(oil, n % 100, flags=ANNUNCIATE * (n % 2))
        frame(oil)

    def hold(owner: str) -> None:
        for n in range(501):
            oil.annunciate(n % 2 == 0, str(n), owner)
        oil.annunciate(False, owner=owner)

    threads = [threading.Thread(target=write) for _ in range(2)]
    threads += [threading.Thread(target=hold, args=(owner,)) for owner in ("compare", "web")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(heard) == {A}
    assert oil.annunciators == {"alerts": "all along"}
    oil.annunciate(False, owner="alerts")
    assert oil.reading.flags == 0


# -- plugins written for other gateways -------------------------------------------------------------------------------


def test_a_plugin_that_is_not_the_source_is_an_owner(db: Database, oil: Item, heard: list[str]) -> None:
    database.bind(db)
    theirs = database.get_raw_item("OILP1", "annunciate")
    theirs.annunciate = True
    assert theirs.annunciate
    frame(oil)
    assert heard == [A, A]
    assert oil.annunciators == {"annunciate": ""}
    theirs.annunciate = False
    assert heard == [A, A, NONE]
    frame(oil, flags=ANNUNCIATE)
    theirs.annunciate = False
    assert oil.reading.annunciate, "the node has set it, and others cannot clear it"


def test_the_source_itself_sets_its_own_flag(db: Database, oil: Item) -> None:
    database.bind(db)
    ours = database.get_raw_item("OILP1", "canfix/12")
    ours.annunciate = True
    assert oil.annunciators == {}
    assert oil.said.annunciate
    frame(oil)
    assert not oil.reading.annunciate


def test_an_owner_that_becomes_the_source_can_release_the_flag(db: Database, oil: Item) -> None:
    database.bind(db)
    theirs = database.get_raw_item("OILP1", "theirs")
    theirs.annunciate = True
    theirs.value = 55.0
    theirs.annunciate = False
    assert not oil.reading.annunciate


@pytest.mark.parametrize("written", [(50.0, True, False, False), (50.0, True, False, False, False)])
def test_a_tuple_sets_the_flag_of_its_source(db: Database, oil: Item, written: tuple[object, ...]) -> None:
    database.bind(db)
    database.write("OILP1", written, "theirs")
    assert (oil.said.source, oil.said.flags) == ("theirs", ANNUNCIATE)


def test_a_flag_written_back_as_read_does_not_become_the_flag_of_the_source(db: Database, oil: Item) -> None:
    database.bind(db)
    oil.annunciate(True, "below lowAlarm", "alerts")
    for value in (0.0, 1.0, 2.0):
        oil.write(value, "canfix/12")
        database.write("OILP1", database.read("OILP1"), "theirs")
    assert oil.reading.annunciate
    oil.annunciate(False, owner="alerts")
    assert not oil.reading.annunciate
    database.write("OILP1", (50.0, True, False, False, False, False), "theirs")
    assert oil.reading.annunciate


def test_alert_logic_that_has_ended_annunciates_no_more(db: Database, oil: Item) -> None:
    oil.annunciate(True, "below lowAlarm", "alerts")
    oil.annunciate(True, "a test", "bench")
    db.release("alerts", "nobody")
    assert oil.reading.annunciate, "the other one still does"
    assert set(oil.annunciators) == {"bench"}
    db.release("bench")
    assert not oil.reading.annunciate
