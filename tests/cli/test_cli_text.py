"""The gateway's answers as text."""

from __future__ import annotations

from typing import Any

import pytest

from fixgw.cli import text
from fixgw.database import ANNUNCIATE, BAD, FAIL, INITIAL, KEPT, OLD, SECFAIL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock


@pytest.mark.parametrize(
    ("value", "shown", "short"),
    [
        (103.2, "103.2", "103.2"),
        (103.19999694824219, "103.199997", "103.2"),
        (-117.123456789, "-117.123457", "-117.1235"),
        (0.00000012, "1.2e-07", "1.2e-07"),
        (0.77885141234, "0.778851412", "0.77885"),
        (0.0, "0", "0"),
        (7, "7", "7"),
        (True, "True", "True"),
        ("N12345", "N12345", "N12345"),
        ("", "''", "''"),
        (" x", "' x'", "' x'"),
    ],
)
def test_values_are_shown_with_useful_precision(value: Any, shown: str, short: str) -> None:
    assert text.value_text(value) == shown
    assert text.short_text(value) == short


@pytest.mark.parametrize(
    ("shown", "value", "words"),
    [
        (text.Shown("degC", 0), 768.3333, "768 degC"),
        (text.Shown("degC", 1), -0.04, "0.0 degC"),
        (text.Shown("degC", 0), -0.4, "0 degC"),
        (text.Shown("degC", 0), 1e300, "1e+300 degC"),
        (text.Shown("rpm", 0), 2400, "2400 rpm"),
        (text.Shown("", 0), True, "True"),
        (text.Shown("", 0), "N12345", "N12345"),
        (text.Shown("deg"), 47.123456789, "47.1234568 deg"),
        (text.Shown("degF", 0, 1.8, 32.0), 100.0, "212 degF"),
        (text.Shown("degF", None, 1.8, 32.0), 100, "212 degF"),
        (text.Shown("degF", 0, 1.8, 32.0), False, "False degF"),
    ],
)
def test_values_have_the_decimals_and_units_that_people_see(shown: text.Shown, value: Any, words: str) -> None:
    assert shown.with_units(value) == words


def test_limits_keep_the_decimals_that_a_person_has_given_them() -> None:
    assert text.Shown("V", 0).limit(12.25) == "12.25"
    assert text.Shown("degF", 0, 1.8, 32.0).limit(12.25) == "54"


@pytest.mark.parametrize(
    ("decimals", "factor", "then"), [(2, 33.86, 1), (0, 0.3048, 0), (0, 1.8, 0), (0, 0.00508, 2), (None, 10.0, None)]
)
def test_a_conversion_keeps_the_precision(decimals: int | None, factor: float, then: int | None) -> None:
    assert text.shown_decimals(decimals, factor) == then


def test_numbers_are_aligned_at_their_points_and_other_texts_are_not() -> None:
    assert text.aligned(["768", "-1.25", "good", "29.9", "-", "1e+20"]) == [
        "768   ",
        " -1.25",
        "good",
        " 29.9 ",
        "-",
        "1e+20",
    ]
    assert text.aligned([]) == []


def test_flags_have_names_and_colours() -> None:
    assert text.flag_words(0) == "good"
    assert text.flag_words(ANNUNCIATE | OLD | SECFAIL) == "annunciate, old, secfail"
    assert text.flag_list(BAD | FAIL) == ["bad", "fail"]
    assert [text.flag_colour(f) for f in (0, OLD, SECFAIL, BAD, FAIL | OLD)] == [
        text.GREEN,
        text.YELLOW,
        text.YELLOW,
        text.RED,
        text.RED,
    ]


@pytest.mark.parametrize(("word", "bit"), [("a", ANNUNCIATE), ("Old", OLD), ("s", SECFAIL), ("FAIL", FAIL), ("x", 0)])
def test_a_flag_is_found_by_letter_or_name(word: str, bit: int) -> None:
    assert text.flag_bit(word) == bit


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.00 s"),
        (0.043, "0.04 s"),
        (0.1, "0.1 s"),
        (9.9, "9.9 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (9000, "2.5 h"),
        (200000, "2 days"),
    ],
)
def test_durations_are_rounded_sensibly(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_a_missing_time_is_shown_as_never() -> None:
    assert text.ago(None) == "never"
    assert text.ago(3) == "3 s ago"


def test_columns_of_a_table_are_aligned() -> None:
    assert text.table([["a", "bcd", "e"], ["fg", "h"]], " ") == [" a   bcd  e", " fg  h"]
    assert text.table([]) == []


# -- explain -----------------------------------------------------------------------------------------------------------


def explained(db: Database, key: str = "IAS") -> str:
    return "\n".join(text.explanation(db.item(key).explain()))


def test_a_good_value_is_explained_in_three_sentences(clock: Clock) -> None:
    db = Database([Definition(key="IAS", description="Airspeed", units="knots", min=0, max=300, tolerance=2000)], clock)
    db.write("IAS", 103.2, "canfix/12")
    clock.now += 0.1
    assert explained(db).splitlines() == [
        "IAS: Airspeed",
        "IAS = 103.2 knots, good.",
        "From canfix/12, 0.1 s ago.",
        "It becomes old after 2 s without an update.",
        "Its range is 0 to 300 knots.",
        "Written once.",
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (820.0, "It is above highAlarm, 800 degC: displays show it red."),
        (760.0, "It is above highWarn, 750 degC: displays show it yellow."),
        (700.0, ""),
        (750.0, ""),
        (90.0, "It is below lowWarn, 100 degC: displays show it yellow."),
    ],
)
def test_a_value_beyond_a_limit_is_said_to_be(clock: Clock, value: float, words: str) -> None:
    limits = ("lowWarn", "highWarn", "highAlarm", "lowAlarm")
    db = Database([Definition(key="EGT11", units="degC", aux=limits)], clock)
    assert "It is " not in explained(db, "EGT11")
    for name, limit in zip(limits, (100, 750, 800), strict=False):
        db.write(f"EGT11.{name}", limit)
    assert "It is " not in explained(db, "EGT11"), "a value that was never written is beyond nothing"
    db.write("EGT11", value, "eis")
    assert [line for line in explained(db, "EGT11").splitlines() if line.startswith("It is ")] == [words] * bool(words)


def test_a_value_that_was_never_written_is_described_as_such(clock: Clock) -> None:
    shown = explained(Database([Definition(key="IAS", units="knots")], clock))
    assert "IAS has never been written (it shows 0 knots)." in shown
    assert "From" not in shown
    assert "last good" not in shown
    assert "It never becomes old." in shown


def test_a_start_value_is_described_as_such(clock: Clock) -> None:
    db = Database([Definition(key="BARO", setting=True)], clock)
    db.write("BARO", 29.92, INITIAL)
    assert "From the configuration, a start value not set since (initial), 0.00 s ago." in explained(db, "BARO")
    db.write("BARO", 30.1, KEPT)
    assert "From before the restart, not set since (kept), 0.00 s ago." in explained(db, "BARO")


def test_the_owner_of_an_annunciation_is_named(clock: Clock) -> None:
    db = Database([Definition(key="OILP1")], clock)
    db.write("OILP1", 18, "can")
    db.item("OILP1").annunciate(True, "below lowAlarm", "alerts")
    assert "alert the pilot): below lowAlarm (alerts)." in explained(db, "OILP1")


def test_a_flag_is_shown_with_its_reason_and_the_last_good_time(clock: Clock) -> None:
    db = Database([Definition(key="IAS", units="knots", tolerance=2000)], clock)
    db.write("IAS", 100, "can")
    clock.now += 3
    db.write("IAS", float("nan"), "can")
    clock.now += 1
    db.age()
    shown = explained(db)
    assert "fail (must not be used): the value written was nan." in shown
    assert "It was last good 4 s ago." in shown


def test_a_value_that_has_never_been_good_is_described_as_such(clock: Clock) -> None:
    db = Database([Definition(key="IAS", max=10)], clock)
    db.write("IAS", 100, "can")
    shown = explained(db)
    assert "bad (suspect): 100.0 is above the range" in shown
    assert "It has never been good." in shown


def test_ranked_sources_are_shown_with_their_rank_and_the_published_one(clock: Clock) -> None:
    db = Database([Definition(key="IAS", units="knots", sources=("can", "serial"))], clock)
    db.write("IAS", 101, "serial")
    db.write("IAS", 102, "can")
    lines = explained(db).splitlines()
    start = lines.index("Sources, best first: can, serial.")
    assert lines[start + 1].strip() == "It has changed from one to another once."
    assert [line.split() for line in lines[start + 2 : start + 4]] == [
        ["*", "can", "102", "knots", "good", "0.00", "s", "ago", "rank", "1"],
        ["serial", "101", "knots", "good", "0.00", "s", "ago", "-1", "knots", "rank", "2"],
    ]


def test_two_conflicting_sources_are_named(clock: Clock) -> None:
    db = Database([Definition(key="IAS", tolerance=2000)], clock)
    for source in ("a", "b", "a"):
        db.write("IAS", 1, source)
    assert "Two sources write it, a and b (2 times so far): rank them, or remove one." in explained(db)


def test_an_explanation_works_with_missing_facts() -> None:
    assert text.explanation({"key": "IAS", "value": 1.0})


# -- status ------------------------------------------------------------------------------------------------------------

STATUS: dict[str, Any] = {
    "version": "1.2",
    "health": "degraded",
    "summary": "1 of 2 connections well; gps: no device",
    "uptime": 3700.0,
    "configuration": {"file": "/etc/fixgw/default.yaml", "reloads": 0, "problems": ["a.yaml:1:2: bad"]},
    "process": {"pid": 1, "cpu percent": 1.5, "threads": 6},
    "database": {"items": 1200, "old": 3, "conflicts": {"OAT": "a and b (2 times)"}},
    "connections": {
        "netfix": {"module": "fixgw.plugins.netfix", "state": "running", "health": "ok", "reason": "", "restarts": 0},
        "gps": {
            "module": "fixgw.drivers.nmea0183",
            "state": "waiting",
            "health": "waiting: no device",
            "reason": "no device",
            "restarts": 4,
            "next start in": 7.5,
            "status": {"counts": {"sentences": 12}, "ports": ["a", {"b": 1}], "rate": None},
        },
    },
}


def test_status_shows_health_before_anything_else() -> None:
    lines = text.status_lines(STATUS)
    assert lines[0] == "DEGRADED: 1 of 2 connections well; gps: no device"
    assert lines[1] == "fixgw 1.2, up 62 min, cpu percent 1.5, threads 6"
    assert "  a.yaml:1:2: bad" in lines
    assert lines[5].split() == ["connection", "state", "health", "restarts", "module"]
    assert lines[7].startswith("gps         waiting  waiting: no device (restarts in 7.5 s)  4")
    assert "database: 1,200 items, 3 old" in lines
    assert "  OAT  a and b (2 times)" in lines


@pytest.mark.parametrize(
    ("state", "health", "shown"),
    [("running", "ok", "running"), ("running", "no such device", "not well"), ("failed", "failed: x", "failed")],
)
def test_state_and_health_of_a_connection_agree(state: str, health: str, shown: str) -> None:
    (_, row) = text.status_lines({"connections": {"gps": {"state": state, "health": health}}})[-2:]
    assert row.startswith(f"gps         {shown} ")


def test_verbose_status_shows_the_details_of_each_connection() -> None:
    shown = "\n".join(text.status_lines({**STATUS, "extra": {"x": 1}}, verbose=True))
    assert "gps:\n  counts:\n    sentences: 12\n  ports:\n    - a\n    -\n      b: 1\n  rate: -" in shown
    assert "netfix:\n  no details" in shown
    assert "extra:\n  x: 1" in shown


def test_control_characters_in_a_plugins_status_are_escaped() -> None:
    said = {"last\x1b[2J": "\ud800 \x1b[31m\nred"}
    shown = "\n".join(text.status_lines({"connections": {"gps": {"status": said}}}, verbose=True))
    assert r"last\x1b[2J: \ud800 \x1b[31m\nred" in shown


def test_an_empty_status_is_still_shown() -> None:
    assert text.status_lines({}) == ["UNKNOWN: ", "fixgw ?"]


EVIL = "\x1b]0;owned\x07\x1b[2J\r\u202eABC\x9b31m\x7f\n"


def test_text_from_a_gateway_reaches_the_terminal_only_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    text.show(f"IAS {EVIL}", "", "größe °C")
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == ["", "größe °C"]
    assert out.replace("\n", "").isprintable()
    assert "\\x1b]0;owned\\x07" in out
    for line in (
        text.value_text(EVIL),
        *text.table([[EVIL, "x"]]),
        *text.wrapped(EVIL),
        *text.status_lines({"health": "ok", "summary": "", "connections": {EVIL: {"health": EVIL}}}, verbose=True),
    ):
        assert text.printable(line).isprintable()


def test_an_explanation_in_preferred_units() -> None:
    facts = {
        "key": "OILT1", "units": "degC", "value": 100.04, "age": 1.0, "source": "a", "tolerance": 2.0,
        "range": [-50.0, 150.0], "ranking": ["a", "b"], "aux": {"highWarn": 90.5},
        "sources": [
            {"source": "a", "published": True, "value": 100.04, "age": 1.0, "rank": 0},
            {"source": "b", "published": False, "value": 110.04, "age": 1.0, "rank": 1, "difference": 10.0},
        ],
    }  # fmt: skip
    lines = "\n".join(text.explanation(facts, text.Shown("degF", 0, 1.8, 32.0)))
    assert "OILT1 = 212 degF, good." in lines
    assert "230 degF" in lines
    assert "+18 degF" in lines
    assert "Its range is -58 to 302 degF." in lines
    assert "It is above highWarn, 195 degF: displays show it yellow." in lines
    assert "highWarn 195." in lines


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({"state": "running", "health": "ok"}, "and is well, but does not send it"),
        ({"state": "running", "health": "/dev/x: no such device"}, "and is not well: /dev/x: no such device"),
        ({"state": "stopped", "health": "stopped"}, "but is stopped"),
        (
            {"state": "waiting", "health": "waiting: run() raised", "reason": "run() raised", "next start in": 3.0},
            "but is waiting: run() raised (restarts in 3 s)",
        ),
        (None, "and is not there any more"),
    ],
)
def test_the_connection_that_should_feed_a_missing_key(connection: Any, words: str) -> None:
    facts = {"key": "LAT", "value": 0.0, "age": None, "feeders": ["gps"], "flags": {"old": ""}}
    connections = {} if connection is None else {"gps": connection}
    assert text.feeding(facts, lambda: connections) == [f"Connection gps should feed it, {words}."]
    lines = text.explanation(facts, feeders=text.feeding(facts, lambda: connections))
    assert lines[1].startswith("Connection gps")


@pytest.mark.parametrize(
    ("facts", "count"),
    [
        ({"age": 1.0, "feeders": ["gps"], "flags": {}}, 0),
        ({"age": 1.0, "feeders": ["gps"], "flags": {"bad": ""}}, 0),
        ({"age": 1.0, "feeders": ["gps"], "flags": {"old": ""}}, 1),
        ({"age": 1.0, "feeders": ["gps"], "flags": {"fail": "x"}}, 1),
        ({"age": 1.0, "feeders": [], "flags": {"fail": "x"}}, 0),
        ({"age": None, "feeders": ["gps"] * 9}, text.MOST_FEEDERS),
        ({"age": None, "feeders": [], "computed": [{}]}, 0),
        ({"age": None}, 0),  # a gateway that does not know
    ],
)
def test_feeders_are_named_only_if_the_key_is_missing(facts: dict[str, Any], count: int) -> None:
    assert len(text.feeding(facts, dict)) == count


def test_a_key_that_nobody_feeds() -> None:
    assert text.feeding({"age": None, "feeders": []}, dict)[0].startswith("No connection of the configuration says")
