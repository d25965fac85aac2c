"""Several sources for one item: ranking, fallback, secondary fail, conflicts, and the readings of each source."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fixgw.database import (
    ANNUNCIATE,
    BAD,
    FAIL,
    INITIAL,
    OLD,
    SECFAIL,
    Database,
    Definition,
    Item,
    Reading,
)
from fixgw.database.item import DOUBTFUL, MAX_SOURCES
from fixgw.hw_sim.bench.clock import Clock

NAN = float("nan")


class Bench:
    """A database with one ranked item (``LAT``: gps1, gps2, canfix) and one without ranking (``IAS``)."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.db = Database(
            [
                Definition(key="LAT", min=-90.0, max=90.0, tolerance=1000, sources=("gps1", "gps2", "canfix")),
                Definition(key="IAS", min=0.0, max=500.0, tolerance=1000),
                Definition(key="BARO", setting=True),
                Definition(key="LONE", tolerance=1000, sources=("gps1",)),
            ],
            self.clock,
        )
        self.lat = self.db.item("LAT")
        self.ias = self.db.item("IAS")
        self.heard: list[Reading] = []
        self.db.subscribe("*", lambda key, reading: self.heard.append(reading))

    def news(self) -> list[tuple[Any, str, str]]:
        """The notifications since the last call: (value, flags, source)."""
        news = [(r.value, r.flag_text, r.source) for r in self.heard]
        self.heard.clear()
        return news

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.db.age()

    def keep_up(self, seconds: float, **values: float) -> None:
        """Let these sources write LAT at 10 Hz for `seconds`."""
        for _ in range(round(seconds * 10)):
            all_write(self.lat, **values)
            self.later(0.1)

    def said(self, item: Item) -> dict[str, Reading]:
        return {r.source: r for r in item.readings()}


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lat(bench: Bench) -> Item:
    return bench.lat


def all_write(lat: Item, **values: float) -> None:
    for source, value in values.items():
        lat.write(value, source)


# -- ranking -----------------------------------------------------------------------------------------------------------


def test_a_ranked_item_starts_old_with_its_backups_missing(lat: Item) -> None:
    assert lat.reading.flags == OLD | SECFAIL
    assert lat.reading.reason(SECFAIL) == "nothing from gps2, canfix"


def test_the_best_live_source_is_published_whichever_writes_last(bench: Bench, lat: Item) -> None:
    all_write(lat, canfix=3, gps2=2, gps1=1)
    all_write(lat, gps2=2.5, canfix=3.5)
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (1.0, "gps1", 0)
    assert [n[2] for n in bench.news()] == ["canfix", "gps2", "gps1"], "each was the best when it wrote"


def test_a_lower_ranked_write_is_stored_without_notification(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    bench.news()
    published = lat.reading
    returned = lat.write(2.5, "gps2")
    assert (returned.value, returned.source) == (2.5, "gps2"), "the writer gets its own reading"
    assert lat.reading is published
    assert bench.said(lat)["gps2"].value == 2.5
    assert bench.news() == []


def test_a_source_goes_on_writing_while_a_backup_is_missing(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    bench.news()
    returned = lat.write(1.5, "gps1", 0)
    assert (returned.value, returned.flags) == (1.5, 0), "the writer gets its own reading"
    assert bench.news() == [(1.5, "00001", "gps1")]
    assert lat.reading.reason(SECFAIL) == "nothing from canfix"
    bench.clock.now += 1.0
    lat.write(1.6, "gps1")
    assert lat.reading.reason(SECFAIL) == "nothing from gps2, canfix", "known although nothing has aged the item yet"


def test_a_better_source_returns_in_time_while_a_backup_is_missing(bench: Bench, lat: Item) -> None:
    """At its time, whoever writes then, although nothing has aged the item yet."""
    all_write(lat, gps1=1, gps2=2)
    lat.fail("antenna open", "gps1")
    lat.write(1.1, "gps1", 0)
    bench.keep_up(2.9, gps1=1.2, gps2=2.2)
    assert lat.reading.source == "gps2"
    bench.clock.now += 0.1
    lat.write(2.3, "gps2")
    assert (lat.reading.value, lat.reading.source) == (1.2, "gps1")


def test_a_source_in_doubt_that_writes_on_stays_bad(lat: Item) -> None:
    all_write(lat, gps1=1)
    lat.doubt({"gps1": "differs"})
    lat.write(1.5, "gps1")
    assert (lat.reading.value, lat.reading.reason(BAD)) == (1.5, "differs")


def test_an_entry_covers_what_is_below_it(lat: Item) -> None:
    assert [lat.rank(s) for s in ("gps1", "canfix/12", "canfix", "canfixer", "", "gps1/RMC", "netfix/1")] == [
        0,
        2,
        2,
        None,
        None,
        0,
        None,
    ]
    all_write(lat, **{"gps1/RMC": 1, "gps2": 2, "canfix/12": 3})
    assert (lat.reading.source, lat.reading.flags) == ("gps1/RMC", 0)


def test_it_falls_back_when_the_better_source_ages_and_returns_when_it_recovers(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    bench.news()
    bench.clock.now += 0.6
    all_write(lat, gps2=2.1, canfix=3.1)
    bench.later(0.5)
    assert bench.news() == [(2.1, "00001", "gps2")]
    assert lat.reading.reason(SECFAIL) == "nothing from gps1"
    assert bench.said(lat)["gps1"].reason(OLD) == "nothing from gps1 within 1000 ms"
    lat.write(1.2, "gps1")
    assert bench.news() == [(2.1, "00000", "gps2")], "only the flags change: it must be good for the hold time first"
    bench.keep_up(2.9, gps1=1.3, gps2=2.2, canfix=3.2)
    assert {n[2] for n in bench.news()} == {"gps2"}
    bench.keep_up(0.3, gps1=1.3, gps2=2.2, canfix=3.2)
    assert bench.news()[-1] == (1.3, "00000", "gps1")
    assert bench.said(lat)["gps2"].flags == 0


def test_it_falls_back_when_the_better_source_fails_and_returns_when_it_recovers(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    bench.news()
    lat.fail("antenna open", "gps1")
    assert bench.news() == [(2.0, "00001", "gps2")]
    assert bench.said(lat)["gps1"].reason(FAIL) == "antenna open"
    lat.write(1.1, "gps1")
    assert bench.news() == [], "its failure was set by hand, and holds until it is cleared"
    lat.write(1.2, "gps1", 0)
    assert bench.news() == [(2.0, "00000", "gps2")]
    bench.keep_up(3.2, gps1=1.3, gps2=2, canfix=3)
    assert bench.news()[-1] == (1.3, "00000", "gps1")


def test_a_fallback_after_nan_ends_by_itself(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.write(NAN, "gps1")
    assert (lat.reading.value, lat.reading.source) == (2.0, "gps2")
    assert bench.said(lat)["gps1"].value == 1.0
    bench.keep_up(3.2, gps1=1.1, gps2=2, canfix=3)
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (1.1, "gps1", 0)


def test_good_beats_bad_and_bad_beats_failed(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.write(91, "gps1")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (2.0, "gps2", 0)
    lat.write(-91, "gps2")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (3.0, "canfix", 0)
    lat.fail("gone", "canfix")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (90.0, "gps1", BAD | SECFAIL)
    lat.write(2, "gps2")
    assert (lat.reading.value, lat.reading.source) == (2.0, "gps2"), "good beats bad at once, whichever source returns"


def test_a_bad_value_is_published_while_no_source_is_good(lat: Item) -> None:
    lat.write(91, "gps1")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (90.0, "gps1", BAD | SECFAIL)


def test_checked_flags_belong_to_the_source_that_was_checked(lat: Item) -> None:
    all_write(lat, gps2=2)
    lat.write(91, "gps1")
    lat.write(2.1, "gps2")
    assert lat.write(1, "gps1").flags == 0
    lat.write(95, "gps2")
    lat.write(1.1, "gps1")
    lat.fail("gone", "gps1")
    assert lat.reading.flags == BAD | SECFAIL, "the value of gps2 was out of range"


def test_no_source_inherits_the_flags_of_another(lat: Item) -> None:
    lat.write(1, "gps1", ANNUNCIATE | BAD, "by hand")
    assert lat.reading.flags == ANNUNCIATE | BAD | SECFAIL
    assert lat.write(2, "gps2").flags == 0
    assert lat.reading.flags == SECFAIL


def test_when_all_sources_are_dead_the_last_one_stays_published(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    bench.later(0.5)
    lat.write(2.5, "gps2")
    bench.later(0.6)
    assert lat.reading.source == "gps2"
    bench.news()
    bench.later(1)
    assert bench.news() == [(2.5, "01001", "gps2")]
    assert lat.reading.reason(SECFAIL) == "nothing from gps1, canfix"
    lat.write(NAN, "gps1")
    assert bench.news() == []
    all_write(lat, canfix=3)
    assert bench.news() == [(3.0, "00001", "canfix")]


def test_secondary_fail_is_cleared_when_the_last_backup_appears(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    bench.news()
    lat.write(3, "canfix")
    assert bench.news() == [(1.0, "00000", "gps1")], "a change of flags alone"
    bench.clock.now += 0.9
    all_write(lat, gps1=1, gps2=2)
    bench.later(0.2)
    assert lat.reading.reason(SECFAIL) == "nothing from canfix"


def test_secondary_fail_of_a_ranked_item_cannot_be_set_or_cleared_by_hand(lat: Item) -> None:
    lat.write(1, "gps1", 0)
    assert lat.reading.secfail
    lat.flag(0, SECFAIL, "gps1")
    assert lat.reading.secfail
    all_write(lat, gps2=2, canfix=3)
    lat.write(1, "gps1", SECFAIL)
    assert not lat.reading.secfail


def test_a_single_entry_has_no_missing_backup(bench: Bench) -> None:
    lone = bench.db.item("LONE")
    assert lone.reading.flags == OLD
    assert lone.write(1, "gps1").flags == 0
    bench.later(2)
    assert lone.reading.flags == OLD


def test_two_sources_below_one_entry_are_a_conflict_and_the_last_one_wins(lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    lat.fail("gone", "gps1")
    lat.fail("gone", "gps2")
    lat.write(3, "canfix/3")
    lat.write(4, "canfix/4")
    assert lat.reading.source == "canfix/3", "written at the same instant: no reason to change"
    lat._clock.now += 0.1  # type: ignore[attr-defined]
    lat.write(4, "canfix/4")
    assert lat.reading.source == "canfix/4"
    assert lat.conflicts == 2


# -- the return of a better source -------------------------------------------------------------------------------------


def test_a_primary_at_the_limit_of_its_tolerance_does_not_make_the_value_jump(bench: Bench, lat: Item) -> None:
    published = []
    for tenth in range(600):
        if tenth % 11 == 0:
            lat.write(1, "gps1")
        all_write(lat, gps2=2, canfix=3)
        bench.later(0.1)
        published.append(lat.reading.source)
    changes = sum(a != b for a, b in pairwise(published))
    assert changes == lat.source_changes == lat.explain()["source_changes"] == 1
    assert bench.db.statistics()["source changes"] == {"LAT": 1}


def test_the_hold_time_does_not_apply_to_the_first_value_of_a_source(bench: Bench, lat: Item) -> None:
    bench.keep_up(1, gps2=2, canfix=3)
    lat.fail("no antenna yet", "gps1")
    bench.keep_up(1, gps2=2, canfix=3)
    lat.write(1, "gps1", 0)
    assert lat.reading.source == "gps1"


def test_the_return_needs_no_further_write(bench: Bench) -> None:
    item = bench.db.define(Definition(key="FUELQ", sources=("a", "b")))
    item.write(1.0, "a")
    item.write(2.0, "b")
    item.fail("gone", "a")
    item.write(1.1, "a", 0)
    bench.later(2.9)
    assert item.reading.source == "b"
    bench.news()
    bench.later(0.2)
    assert bench.news() == [(1.1, "00000", "a")]


@pytest.mark.parametrize("seconds", [0.0, 0.5, 10.0])
def test_the_hold_time_is_that_of_the_item(bench: Bench, seconds: float) -> None:
    item = bench.db.define(Definition(key="TAS", sources=("a", "b"), return_after=seconds))
    item.write(1.0, "a")
    item.write(2.0, "b")
    item.fail("gone", "a")
    item.write(1.1, "a", 0)
    assert item.reading.source == ("b" if seconds else "a")
    bench.later(seconds - 0.01)
    item.write(1.2, "a")
    assert item.reading.source == ("b" if seconds else "a")
    bench.later(0.02)
    assert (item.reading.value, item.reading.source) == (1.2, "a")


def test_a_bad_value_restarts_the_hold_time(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.write(NAN, "gps1")
    for _ in range(5):
        bench.keep_up(2.5, gps1=1, gps2=2, canfix=3)
        lat.write(91, "gps1")
    assert lat.reading.source == "gps2"
    bench.keep_up(3.1, gps1=1, gps2=2, canfix=3)
    assert lat.reading.source == "gps1"


def test_the_fallback_happens_at_once(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.write(NAN, "gps1")
    lat.write(NAN, "gps2")
    all_write(lat, gps1=1, gps2=2)
    assert lat.reading.source == "canfix"
    lat.fail("gone", "canfix")
    assert lat.reading.source == "gps1"


def test_a_change_of_source_is_logged_with_the_reason(
    bench: Bench, lat: Item, caplog: pytest.LogCaptureFixture
) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.fail("antenna open", "gps1")
    assert not caplog.messages, "a writer does not wait for a log"
    bench.later(0)
    assert caplog.messages == ["LAT now comes from gps2 instead of gps1: antenna open"]
    assert vars(caplog.records[0])["FIXGW_KEY"] == "LAT"
    bench.clock.now += 11
    all_write(lat, gps2=2)
    lat.write(1, "gps1", 0)
    bench.keep_up(3.1, gps1=1, gps2=2)
    assert caplog.messages[1:] == ["LAT now comes from gps1 instead of gps2: gps1 is good again"]
    bench.keep_up(11.0, gps1=1, gps2=2)
    bench.keep_up(1.1, gps2=2)
    assert caplog.messages[2:] == ["LAT now comes from gps2 instead of gps1: nothing from gps1 within 1000 ms"]


# -- sources outside the ranking ---------------------------------------------------------------------------------------


def test_a_source_outside_the_ranking_is_kept_and_never_published(bench: Bench, lat: Item) -> None:
    for source in ("netfix/127.0.0.1", ""):
        lat.write(9, source)
        assert (lat.reading.value, lat.reading.flags, lat.reading.source) == (0.0, OLD | SECFAIL, "")
    all_write(lat, gps1=1)
    bench.later(2)
    bench.news()
    returned = lat.write(9, "netfix/127.0.0.1")
    assert (returned.value, returned.flags) == (9.0, 0)
    assert (lat.reading.value, lat.reading.source, lat.reading.old) == (1.0, "gps1", True)
    assert bench.news() == []
    assert bench.said(lat)["netfix/127.0.0.1"].value == 9.0


def test_the_value_of_an_unranked_source_ages_too(bench: Bench, lat: Item) -> None:
    lat.write(9, "netfix/127.0.0.1")
    bench.later(2)
    assert bench.said(lat)["netfix/127.0.0.1"].old
    assert bench.news() == []


def test_an_initial_value_shows_until_a_ranked_source_has_written_but_is_not_fresh(bench: Bench, lat: Item) -> None:
    lat.write(48, INITIAL)
    assert (lat.reading.value, lat.reading.flags) == (48.0, OLD | SECFAIL)
    lat.write(1, "gps1")
    lat.write(49, INITIAL)
    assert lat.reading.value == 1.0


# -- flags -------------------------------------------------------------------------------------------------------------


def test_a_ranked_source_flags_its_own_value(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    bench.news()
    assert lat.fail("no answer", "gps2").source == "gps2"
    assert (lat.reading.source, lat.reading.flags) == ("gps1", SECFAIL)
    assert lat.reading.reason(SECFAIL) == "nothing from gps2"
    lat.flag(0, FAIL, "gps2")
    assert lat.reading.flags == 0


def test_a_ranked_source_that_has_never_written_does_not_fail_the_others(bench: Bench, lat: Item) -> None:
    lat.write(2, "gps2")
    lat.fail("no answer", "gps1")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (2.0, "gps2", SECFAIL)
    assert dict(bench.said(lat)["gps1"].reasons) == {OLD: "never written", FAIL: "no answer"}


def test_a_failure_before_any_value_is_published(lat: Item) -> None:
    lat.fail("no answer", "gps1")
    assert lat.reading.reason(FAIL) == "no answer"
    assert lat.reading.flags == OLD | FAIL | SECFAIL


@pytest.mark.parametrize("wrote_before", [False, True])
def test_an_unranked_source_flags_the_published_reading(bench: Bench, lat: Item, wrote_before: bool) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    if wrote_before:
        lat.write(9, "netfix/127.0.0.1")
    assert lat.flag(ANNUNCIATE, ANNUNCIATE, "netfix/127.0.0.1").source == "gps1"
    assert lat.reading.flags == ANNUNCIATE
    lat.flag(OLD, OLD, "netfix/127.0.0.1")
    assert lat.reading.source == "gps2"
    bench.keep_up(3.2, gps1=1, gps2=2, canfix=3)
    assert (lat.reading.source, lat.reading.flags) == ("gps1", ANNUNCIATE), "the source that was flagged is back"


@pytest.mark.parametrize("key", ["LAT", "IAS"])
def test_flags_can_be_set_before_anything_was_written(bench: Bench, key: str) -> None:
    item = bench.db.item(key)
    item.flag(ANNUNCIATE, ANNUNCIATE, "annunciate")
    assert item.reading.annunciate
    assert item.reading.old
    item.flag(0, ANNUNCIATE, "annunciate")
    assert not item.reading.annunciate
    assert item.readings() == [item.reading]


def test_setting_a_set_flag_changes_nothing(lat: Item) -> None:
    lat.write(1, "gps1")
    lat.flag(0, FAIL, "gps1")
    before = lat.reading
    lat.flag(0, ANNUNCIATE, "somebody")
    assert lat.reading is before


# -- without ranking ---------------------------------------------------------------------------------------------------


def test_the_last_writer_wins_and_the_conflict_is_counted_and_reported(bench: Bench) -> None:
    ias = bench.ias
    for n in range(3):
        ias.write(n, "canfix/3")
        ias.write(n + 100, "adc")
    assert (ias.reading.value, ias.reading.source) == (102.0, "adc")
    assert ias.conflicts == 5
    assert bench.db.statistics()["conflicts"] == {"IAS": "canfix/3 and adc (5 times)"}
    assert ias.explain()["conflict_with"] == "canfix/3"
    assert bench.said(ias)["canfix/3"].value == 2.0


def test_taking_over_from_an_old_source_is_not_a_conflict(bench: Bench) -> None:
    bench.ias.write(1, "canfix/3")
    bench.later(2)
    bench.ias.write(2, "adc")
    assert bench.ias.conflicts == 0


def test_settings_can_have_many_writers_and_initial_values_have_no_owner(bench: Bench) -> None:
    baro = bench.db.item("BARO")
    baro.write(29.92, "netfix/1")
    baro.write(30.0, "encoder")
    bench.ias.write(0, INITIAL)
    bench.ias.write(1, "adc")
    assert bench.db.statistics()["conflicts"] == {}


def test_sources_that_have_flagged_an_unranked_item_still_write_it(bench: Bench) -> None:
    for source in ("a", "b"):
        bench.ias.write(1.0, source)
        bench.ias.flag(0, BAD, source)
    for value, source in enumerate("abab"):
        bench.ias.write(float(value), source)
        assert (bench.ias.reading.value, bench.ias.reading.source) == (value, source)


def test_any_source_can_flag_the_reading_of_an_unranked_item(bench: Bench) -> None:
    ias = bench.ias
    ias.write(1, "netfix/1")
    ias.write(2, "adc")
    ias.flag(BAD, BAD, "netfix/1")
    assert (ias.reading.value, ias.reading.flags, ias.reading.reason(BAD)) == (2.0, BAD, "set by netfix/1")


def test_nan_from_another_source_keeps_the_value_and_its_age(bench: Bench) -> None:
    ias = bench.ias
    stamp = ias.write(80, "adc").stamp
    bench.clock.now += 0.5
    reading = ias.write(NAN, "canfix")
    assert (reading.value, reading.stamp, reading.flags, reading.source) == (80.0, stamp, FAIL, "canfix")


# -- limits and explain ------------------------------------------------------------------------------------------------


def test_all_nodes_of_a_busy_bus_are_remembered_if_the_bus_is_ranked(bench: Bench, lat: Item) -> None:
    names = [f"canfix/{n}" for n in range(3 * MAX_SOURCES)]
    all_write(lat, **dict.fromkeys(names, 1))
    assert {reading.source for reading in lat.readings()} == {*names}


@pytest.mark.parametrize("key", ["LAT", "IAS"])
def test_memory_is_bounded_for_many_sources(bench: Bench, key: str) -> None:
    item = bench.db.item(key)
    item.write(1, "gps1")
    for n in range(500):
        bench.clock.now += 0.0001
        item.write(n % 90, f"netfix/10.0.0.{n}")
    latest = {f"netfix/10.0.0.{n}" for n in range(500)[-MAX_SOURCES:]}
    latest.add("gps1" if item.ranked else f"netfix/10.0.0.{499 - MAX_SOURCES}")
    assert {*bench.said(item)} == latest
    for n in range(500):
        bench.clock.now += 0.0001
        item.write(n % 90, f"canfix/{n}")
    assert len(item.readings()) == (4 * MAX_SOURCES if item.ranked else MAX_SOURCES) + 1
    assert "canfix/499" in bench.said(item)
    assert len(item._rank_of) <= 4 * MAX_SOURCES
    assert len(item._since) <= 4 * MAX_SOURCES + 1
    assert item.write(7, "canfix/499").value == 7.0
    if item.ranked:
        assert item.reading.source == "gps1"


def test_a_backup_that_writes_on_is_not_forgotten_for_many_others(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    for n in range(5 * MAX_SOURCES):
        lat.write(2, "gps2")
        lat.write(3, f"canfix/{n}")
        assert "gps2" in bench.said(lat)
    lat.fail("no antenna", "gps1")
    assert lat.reading.source == "gps2"


def test_explain_shows_every_source(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    bench.clock.now += 0.25
    lat.write(9, "netfix/1")
    lat.fail("gone", "gps2")
    facts = lat.explain()
    assert facts["ranking"] == ["gps1", "gps2", "canfix"]
    assert facts["flags"] == {"secfail": "nothing from gps2, canfix"}
    assert {s["source"]: (s["rank"], s["published"], s["value"], s["flags"], s["age"]) for s in facts["sources"]} == {
        "gps1": (0, True, 1.0, {"secfail": "nothing from gps2, canfix"}, 0.25),
        "gps2": (1, False, 2.0, {"fail": "gone"}, 0.25),
        "netfix/1": (None, False, 9.0, {}, 0.0),
    }
    msgspec.json.encode(facts)


def test_a_source_that_is_replaced_loses_its_secondary_fail(bench: Bench, lat: Item) -> None:
    all_write(lat, gps2=2)
    assert lat.reading.secfail
    lat.write(1, "gps1")
    assert not bench.said(lat)["gps2"].secfail


def test_a_driver_can_rank_the_sources_of_an_unranked_item(bench: Bench) -> None:
    bench.ias.write(100.0, "canfix/13")
    bench.ias.rank_sources(["canfix/12", "canfix/13"])
    assert bench.ias.ranked
    assert bench.news()[-1] == (100.0, "00001", "canfix/13"), "the better one has never written"
    bench.ias.write(90.0, "canfix/12")
    bench.ias.write(101.0, "canfix/13")
    assert (bench.ias.reading.value, bench.ias.conflicts) == (90.0, 0)
    assert bench.ias.explain()["ranking"] == ["canfix/12", "canfix/13"]
    bench.ias.fail("broken", "canfix/12")
    assert bench.ias.reading.value == 101.0


def test_a_ranking_made_by_a_driver_can_be_removed(bench: Bench) -> None:
    bench.ias.rank_sources(["canfix/12", "canfix/13"])
    bench.ias.write(90.0, "canfix/12")
    assert bench.ias.reading.secfail
    bench.ias.rank_sources()
    assert not bench.ias.ranked
    assert not bench.ias.reading.secfail
    bench.ias.write(55.0, "anybody")
    assert bench.ias.reading.value == 55.0
    bench.lat.rank_sources(["gps2"])
    bench.lat.rank_sources()
    assert bench.lat.sources == ("gps1", "gps2", "canfix"), "as defined"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "c/1", "other"]),
            st.sampled_from([None, 0, 0, BAD, FAIL]),
            st.sampled_from([0.0, 0.0, 0.125, 0.875, 2.5]),
        ),
        max_size=40,
    ),
    st.sampled_from([0.0, 0.25]),
    st.sampled_from([1000, 0]),
)
@example([("a", None, 0.0), ("a", None, 0.0)], 0.0, 0)
def test_a_write_that_needs_no_ranking_leads_to_the_same_as_one_that_is_ranked(
    steps: list[tuple[str, int | None, float]], hold: float, tolerance: int
) -> None:
    definition = Definition(key="K", tolerance=tolerance, sources=("a", "b", "c"), return_after=hold)

    def published() -> list[Reading]:
        now = [100.0]
        db = Database([definition], lambda: now[0])
        item = db.item("K")
        seen = []
        for n, (source, flags, pause) in enumerate(steps):
            now[0] += pause
            db.age()
            item.write(float(n), source, flags)
            seen.append(item.reading)
        return seen

    quick = published()
    with mock.patch.object(
        Item, "_note_since", lambda item, reading, note=Item._note_since: note(item, reading) or True
    ):
        assert quick == published()


def test_what_a_source_says_of_itself_stays_when_a_doubt_ends(bench: Bench, lat: Item) -> None:
    lat.doubt({"gps1": "differs"})
    lat.write(1.0, "gps1", BAD, "differs")
    lat.write(2.0, "gps2", BAD, "two satellites")
    lat.doubt({"gps2": "differs"})
    lat.doubt({})
    assert {s: r.reason(BAD) for s, r in bench.said(lat).items()} == {"gps1": "differs", "gps2": "two satellites"}


def test_a_doubt_is_not_flagged_away(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    lat.doubt({"gps2": "differs"})
    lat.flag(FAIL, FAIL, "gps2", "no antenna")
    assert lat.flag(0, BAD | FAIL, "gps2").flags & DOUBTFUL == BAD
    lat.write(2.5, "gps2")
    assert bench.said(lat)["gps2"].reason(BAD) == "differs"


def test_the_end_of_a_doubt_helps_no_other_source(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2, canfix=3)
    lat.doubt({"gps2": "differs"})
    lat.fail("no antenna", "gps1")
    lat.write(1, "gps1", 0)
    assert lat.reading.source == "canfix"
    lat.doubt({})
    assert lat.reading.source == "gps2", "at once"
    bench.keep_up(2.9, gps1=1, gps2=2, canfix=3)
    assert lat.reading.source == "gps2", "the antenna may fail again"


def test_one_that_has_to_wait_holds_up_no_other(bench: Bench) -> None:
    item = bench.db.define(Definition(key="FUELQ", sources=("a", "b", "c")))
    all_write(item, a=1, b=2, c=3)
    for source in ("a", "b"):
        item.fail("no probe", source)
    item.write(2, "b", 0)
    bench.later(2.0)
    item.write(1, "a", 0)
    item.write(2, "b")
    bench.later(1.0)
    assert item.reading.source == "b"
    bench.later(2.0)
    assert item.reading.source == "a"


def test_one_of_the_same_rank_holds_up_no_better_one(bench: Bench) -> None:
    item = bench.db.define(Definition(key="FUELQ", sources=("a", "c")))
    for source in ("a", "c/2"):
        item.write(1, source)
    item.fail("no probe", "a")
    item.write(1, "a", 0)
    bench.clock.now += 1.0
    for source in ("c/1", "a"):
        item.write(1, source)
    assert item.reading.source == "c/1"
    bench.later(2.0)
    assert item.reading.source == "a"


def test_many_nodes_do_not_shorten_the_hold_time_of_another_source(bench: Bench, lat: Item) -> None:
    all_write(lat, gps1=1, gps2=2)
    lat.fail("no antenna", "gps1")
    lat.write(1, "gps1", 0)
    for n in range(50):
        all_write(lat, **{f"canfix/{n}": 3, f"canfix/{50 + n}": 3, f"canfix/{100 + n}": 3}, gps1=1, gps2=2)
    assert lat.reading.source == "gps2"
    bench.keep_up(2.9, gps1=1, gps2=2)
    assert lat.reading.source == "gps2"
    bench.keep_up(0.2, gps1=1, gps2=2)
    assert lat.reading.source == "gps1"


@pytest.mark.parametrize("order", [("gps2", "canfix"), ("canfix", "gps2")])
def test_the_next_in_rank_takes_over_whichever_wrote_last(bench: Bench, lat: Item, order: tuple[str, str]) -> None:
    for source in ("gps1", *order):
        lat.write(1, source)
        bench.clock.now += 0.1
    lat.fail("no antenna", "gps1")
    assert lat.reading.source == "gps2"


def test_of_those_with_the_same_rank_the_one_that_wrote_last_takes_over(bench: Bench, lat: Item) -> None:
    for source in ("gps1", "canfix/1", "canfix/2", "canfix/1"):
        lat.write(1, source)
        bench.clock.now += 0.1
    lat.fail("no antenna", "gps1")
    assert lat.reading.source == "canfix/1"


@pytest.mark.parametrize("tolerance", [1000, 0])
def test_a_write_that_changes_only_the_value_costs_no_ranking(monkeypatch: pytest.MonkeyPatch, tolerance: int) -> None:
    clock = Clock()
    db = Database([Definition(key="K", tolerance=tolerance, sources=("a", "b", "c")), Definition(key="L")], clock)
    ranked, lone = db.item("K"), db.item("L")
    rerank, compose = mock.Mock(wraps=Item._rerank), mock.Mock(wraps=Item._compose)
    monkeypatch.setattr(Item, "_rerank", lambda *args: rerank(*args))
    monkeypatch.setattr(Item, "_compose", lambda *args: compose(*args))

    def spare(item: Item, source: str, flags: int | None = None, reason: str = "") -> bool:
        for value in (1.0, 2.0):  # the first may be news
            rerank.reset_mock()
            compose.reset_mock()
            clock.now += 0.125
            assert item.write(value, source, flags, reason).value == value
        return not (rerank.called or compose.called)

    assert spare(ranked, "a"), "while the others are missing"
    assert spare(ranked, "b"), "a backup"
    assert spare(ranked, "other"), "which is not in the ranking"
    assert spare(ranked, "c")
    assert spare(ranked, "a"), "with all its backups"
    assert spare(ranked, "c", 0)
    assert ranked.write(1.0, "b", BAD, "ice").bad
    rerank.reset_mock()
    ranked.write(2.0, "b", BAD, "ice")
    assert not rerank.called, "a backup that is as bad as before"
    assert not spare(ranked, "b", BAD)
    assert spare(lone, "x")
    assert spare(lone, "x", BAD, "computed from what is bad")
    assert spare(lone, "x")


# -- a source that has ended -------------------------------------------------------------------------------------------


def test_what_never_ages_becomes_old_when_its_source_has_ended() -> None:
    keys = ("BARO", "IAS", "SMOKE", "POWER", "MODE", "DOOR", "HATCH", "GEAR")
    ranked = {"GEAR": ("gpio", "canfix")}
    db = Database(
        (
            Definition(key=key, setting=key == "BARO", tolerance=1000 * (key == "IAS"), sources=ranked.get(key, ()))
            for key in keys
        ),
        Clock(),
    )
    for key in keys:
        db.write(key, 1.0, {"MODE": "gpio/7", "DOOR": "gpiox"}.get(key, "gpio"))
    db.write("HATCH", 1.0, "other")
    db.write("GEAR", 0.0, "canfix")
    db.item("SMOKE").fail("unplugged", "gpio")
    db.disown("gpio", "gpio has failed")
    assert {key for key in keys if db.read(key).old} == {"POWER", "MODE"}
    assert db.read("POWER").reason(OLD) == "gpio has failed"
    assert dict(db.read("SMOKE").reasons) == {FAIL: "unplugged"}
    assert (db.read("GEAR").value, db.read("GEAR").source) == (0.0, "canfix")
    db.write("POWER", 0.0, "gpio")
    assert db.read("POWER").good
