"""Overrides: what a person shows to everybody for a while, whatever the sources say."""

from __future__ import annotations

import pytest

from fixgw.database import BAD, FAIL, OLD, Database, Definition, Item, Reading
from fixgw.errors import BadValue
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit.sources import may_leave

WHO = "override/netfix/127.0.0.1"


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database(
        [
            Definition(key="OILP1", min=0, max=200, tolerance=2000),
            Definition(key="IAS", min=0, max=300, tolerance=1000, sources=("adc", "efis")),
            Definition(key="BARO", min=20, max=35, setting=True),
            Definition(key="ACID", type="str"),
        ],
        clock,
    )


@pytest.fixture
def oil(db: Database) -> Item:
    item = db.item("OILP1")
    item.write(60.0, "eis")
    return item


@pytest.fixture
def heard(db: Database, oil: Item) -> list[Reading]:
    heard: list[Reading] = []
    db.subscribe("OILP1", lambda key, reading: heard.append(reading))
    return heard


def test_it_is_published_at_once_and_the_source_writes_on(oil: Item, heard: list[Reading]) -> None:
    assert oil.override(12, BAD, WHO, "a try-out", 30.0) is oil.reading
    for value in (61.0, 62.0):
        oil.write(value, "eis")
    assert [(r.value, r.flag_text, r.source) for r in heard] == [(12.0, "00100", WHO)]
    assert dict(heard[0].reasons) == {BAD: "a try-out"}
    assert oil.said.value == 62.0
    oil.end_override()
    assert [(r.value, r.flag_text, r.source) for r in heard[1:]] == [(62.0, "00000", "eis")]
    oil.end_override()
    assert len(heard) == 2


def test_it_ends_by_itself_and_does_not_age_before(oil: Item, db: Database, heard: list[Reading], clock: Clock) -> None:
    oil.override(12, 0, WHO, "", 30.0)
    start = clock.now
    while oil.overridden and clock.now < start + 60.0:
        assert oil.reading.value == 12.0
        assert oil.reading.good
        clock.now += 0.5
        db.age()
        oil.write(60.0, "eis")
    assert len([r for r in heard if r.source == WHO]) == 30  # displays hear it each second, as from a live source
    assert clock.now == start + 30.0
    assert (oil.reading.value, oil.reading.source) == (60.0, "eis")
    assert db.overridden() == {}
    assert oil.write(61.0, "eis") is oil.said is oil.reading


def test_it_stays_fresh_on_a_ranked_item_whose_sources_write_on(db: Database, clock: Clock) -> None:
    ias = db.item("IAS")
    ias.override(100, 0, WHO, "", 5.0)
    for tenth in range(40):
        if tenth % 9 == 0:
            for source in ("adc", "efis"):
                ias.write(90, source)
        clock.now += 0.1
        db.age()
        assert (ias.reading.value, ias.reading.good) == (100.0, True)


def test_a_value_that_never_ages_returns_in_time_too(db: Database, clock: Clock) -> None:
    baro = db.item("BARO")
    baro.write(29.92, "panel")
    baro.override(30.5, 0, WHO, "", 60.0)
    clock.now += 59.0
    db.age()
    assert db.overridden()["BARO"][1] == pytest.approx(1.0)
    assert baro.reading.value == 30.5
    clock.now += 1.0
    db.age()
    assert (baro.reading.value, baro.reading.source) == (29.92, "panel")


def test_after_it_the_item_is_as_old_as_its_source(oil: Item, db: Database, clock: Clock) -> None:
    oil.override(12, 0, WHO, "", 10.0)
    clock.now += 10.0
    db.age()
    assert oil.reading.value == 60.0
    assert oil.reading.old


def test_a_process_that_was_held_up_does_not_show_it_as_fresh(oil: Item, db: Database, clock: Clock) -> None:
    oil.override(12, 0, WHO, "", 60.0)
    clock.now += 5.0  # nothing has renewed it
    assert oil.reading.old
    db.age()
    assert oil.reading.good


def test_the_flags_may_say_old(oil: Item, db: Database, clock: Clock) -> None:
    oil.override(12, OLD, WHO, "a try-out", 60.0)
    clock.now += 1.5
    db.age()
    assert oil.reading.flags == OLD


def test_ranked_sources_change_behind_it(db: Database, clock: Clock) -> None:
    ias = db.item("IAS")
    ias.write(100.0, "adc")
    ias.write(101.0, "efis")
    ias.override(50, FAIL, WHO, "", 60.0)
    assert ias.reading.flags == FAIL
    for _ in range(3):
        clock.now += 0.6
        db.age()
        ias.write(102.0, "efis")
    assert (ias.reading.value, ias.reading.flags) == (50.0, FAIL)
    ias.end_override()
    assert (ias.reading.value, ias.reading.source) == (102.0, "efis")
    assert ias.reading.secfail


def test_alerts_see_it_and_their_flag_goes_with_it(oil: Item, heard: list[Reading]) -> None:
    oil.override(12, 0, WHO, "", 60.0)
    oil.annunciate(True, "below lowAlarm", "alerts")
    oil.write(60.0, "eis")
    assert [r.flag_text for r in heard] == ["00000", "10000"]
    oil.end_override()
    assert (heard[-1].value, heard[-1].annunciate) == (60.0, True)
    oil.annunciate(False, owner="alerts")
    oil.write(61.0, "eis")
    assert (oil.reading.value, oil.reading.flags, oil.said) == (61.0, 0, oil.reading)


def test_flags_of_the_source_are_its_own(oil: Item) -> None:
    oil.override(12, 0, WHO, "", 60.0)
    oil.flag(FAIL, FAIL, "eis", "sensor broken")
    assert oil.reading.flags == 0
    oil.end_override()
    assert oil.reading.flags == FAIL


def test_what_cannot_be_is_refused(oil: Item, db: Database) -> None:
    for value in (float("nan"), "abc", None):
        with pytest.raises(BadValue):
            oil.override(value, 0, WHO, "", 60.0)
    with pytest.raises(ValueError, match="is not the source of an override"):
        oil.override(12, 0, "eis", "", 60.0)
    for seconds in (0.0, -1.0, 3601.0, float("nan")):
        with pytest.raises(ValueError, match="at most 60 min"):
            oil.override(12, 0, WHO, "", seconds)
    assert db.overridden() == {}


def test_it_is_clamped_and_says_so_as_a_source_s_value_would(oil: Item) -> None:
    reading = oil.override(500, OLD, WHO, "a try-out", 60.0)
    assert (reading.value, reading.flags) == (200.0, OLD | BAD)
    assert (reading.reason(BAD), reading.reason(OLD)) == ("500.0 is above the range (200.0)", "a try-out")
    assert oil.override(-1, BAD, WHO, "a try-out", 60.0).reason(BAD) == "a try-out"
    assert oil.reading.value == 0.0
    assert not may_leave(oil.reading.source, "canfix")


@pytest.mark.parametrize("seconds", [0.5, 3600.0])
def test_it_lasts_up_to_an_hour(oil: Item, seconds: float) -> None:
    assert oil.override(12, 0, WHO, "", seconds).value == 12.0
    assert oil.overridden == (oil.reading, seconds)


def test_no_time_is_left_when_it_is_over(oil: Item, clock: Clock) -> None:
    oil.override(12, 0, WHO, "", 1.0)
    clock.now += 1.5  # nobody has looked yet
    assert oil.overridden is not None
    assert oil.overridden[1] == 0.0


def test_explain_shows_the_sources_beside_it(oil: Item) -> None:
    oil.override(12, 0, WHO, "", 60.0)
    facts = oil.explain()
    assert (facts["value"], facts["source"], facts["override_seconds"]) == (12.0, WHO, 60.0)
    assert [(s["source"], s["value"], s["published"], s["difference"]) for s in facts["sources"]] == [
        ("eis", 60.0, False, 48.0)
    ]


def test_a_second_override_replaces_the_first(oil: Item, heard: list[Reading], db: Database) -> None:
    oil.override(12, 0, WHO, "", 60.0)
    oil.override(14, 0, "override/web/tablet", "", 5.0)
    assert [r.value for r in heard] == [12.0, 14.0]
    assert db.overridden()["OILP1"][1] == pytest.approx(5.0)
