"""The comparison of sources, in real gateways on the test's clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.cli.text import explanation
from fixgw.database import BAD, Database, Definition
from fixgw.gateway import Gateway
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.compare.comparison import Comparison, Said
from tests.plugins.by_hand import gateway, plugin_of

CASES = json.loads((Path(__file__).parents[1] / "data" / "redundancy.json").read_text())
ITEMS = """\
entries:
  - {{key: IAS, min: 0, max: 1000, tol: 2000, units: knots, sources: {sources}}}
  - {{key: ALT, min: -1000, max: 60000, tol: 2000, sources: {sources}}}
  - {{key: PITCH, min: -90, max: 90, tol: 1000, sources: {sources}}}
  - {{key: HEAD, min: 0, max: 359.9, tol: 1000, wrap: 360, sources: {sources}}}
  - {{key: LOOSE, tol: 1000}}
"""
TEXT = """\
    database file: "{{CONFIG}}/database.yaml"
    connections:
      vote: {{module: fixgw.plugins.compare, keys: {keys}}}
    """


class Bench:
    """A gateway that compares, and the sources that write to it."""

    def __init__(self, running: Gateway, clock: Clock) -> None:
        self.gateway, self.clock, self.db = running, clock, running.database
        self.plugin = plugin_of(running, "vote")

    def run(self, seconds: float, key: str, **values: float | None) -> str:
        """Let the sources write five times a second. Returns the words of the status."""
        for _ in range(round(seconds * 5)):
            self.clock.now = round(self.clock.now + 0.2, 6)
            self.say(key, **values)
        return self.words(key)

    def say(self, key: str, **values: float | None) -> None:
        for source, value in values.items():
            if value is None:
                self.db.item(key).fail("nothing", source)
            else:
                self.db.write(key, float(value), source, flags=0)
        self.plugin.step()

    def words(self, key: str) -> str:
        return str(self.plugin.get_status()[key])

    @property
    def notices(self) -> list[tuple[str, str]]:
        return [(notice.level, notice.text) for notice in self.gateway.world.notices.all()]


Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(keys: str, sources: str = "[vote, a, b, c, d]") -> Bench:
            (tmp_path / "database.yaml").write_text(ITEMS.format(sources=sources))
            running = stack.enter_context(gateway(TEXT.format(keys=keys), tmp_path, clock, monkeypatch))
            return Bench(running, clock)

        yield start


# -- vectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["miscompare"], ids=lambda case: case["id"])
def test_miscompare_vectors(case: dict[str, Any], start: Start, clock: Clock) -> None:
    key = case["key"]
    bench = start(f"{{{key}: {{on_delay: {case['on_s']}}}}}", "[a, b]")
    began, steps = clock.now, case["steps"]
    for n, step in enumerate(steps):
        while clock.now < began + step["t"] - 1e-6:
            clock.now = round(clock.now + 0.1, 6)
            if clock.now < began + step["t"] - 1e-6:
                bench.say(key, a=steps[n - 1]["a"], b=steps[n - 1]["b"])
        bench.say(key, a=step["a"], b=step["b"])
        words = bench.words(key)
        assert words.startswith(step["state"]), step
        if step["state"] == "ok":
            assert "miscompare" not in words
            assert "no compare" not in words


@pytest.mark.parametrize("case", CASES["voting"], ids=lambda case: str(case["values"]))
def test_voting_vectors(case: dict[str, Any], start: Start) -> None:
    bench = start(f"{{IAS: {{limit: {case['limit']}, publish: middle}}}}")
    names = "abcd"[: len(case["values"])]
    words = bench.run(3.0, "IAS", **dict(zip(names, case["values"], strict=True)))
    reading = bench.db.read("IAS")
    if case["published"] is None:
        assert reading.source != "vote"
    else:
        assert reading.source == "vote"
        assert reading.value == case["published"]
    if case["outliers"] == ["disagree"]:
        assert "disagree" in words
        assert words.startswith("miscompare")
    else:
        liars = [n for n, name in enumerate(names) if f"{name} lies" in words]
        assert liars == case["outliers"]


# -- two sources -------------------------------------------------------------------------------------------------------


def test_a_miscompare_names_both_values_and_sources(start: Start) -> None:
    bench = start("{IAS: {}}", "[adc, efis]")
    words = bench.run(2.4, "IAS", adc=104, efis=92)
    assert words == "miscompare: they disagree; 104 / 92 (adc, efis)"
    assert bench.notices == [("caution", "IAS MISCOMPARE 104 / 92 (adc, efis)")]
    assert bench.plugin.health() == f"IAS: {words}"
    assert bench.db.read("IAS").value == 104.0, "the best stays published"
    assert bench.db.read("IAS").good
    bench.run(2.4, "IAS", adc=104, efis=100)
    assert bench.notices == []
    assert bench.plugin.health() == ""


def test_flag_bad_marks_the_key_as_long_as_nobody_knows(start: Start) -> None:
    bench = start("{IAS: {flag: bad}}", "[adc, efis]")
    bench.run(2.4, "IAS", adc=104, efis=92)
    reading = bench.db.read("IAS")
    assert (reading.value, reading.source, reading.bad) == (104.0, "adc", True)
    assert reading.reason(BAD) == "IAS MISCOMPARE"
    bench.db.write("IAS", 104.5, "adc", flags=0)
    assert bench.db.read("IAS").bad, "it does not flicker with the source's own flags"
    bench.run(2.4, "IAS", adc=104, efis=100)
    assert bench.db.read("IAS").good


def test_one_source_alone_is_announced_after_two_seconds(start: Start) -> None:
    bench = start("{ALT: {}}", "[adc, efis]")
    bench.run(1.0, "ALT", adc=5000, efis=5010)
    assert bench.run(1.0, "ALT", adc=5000, efis=None) == "no compare: 1 of 2 sources is good"
    assert bench.notices == []
    bench.run(1.4, "ALT", adc=5000, efis=None)
    assert bench.notices == [("advisory", "ALT NO COMP: 1 of 2 sources is good")]
    bench.run(0.2, "ALT", adc=5000, efis=5010)
    assert bench.notices == []


def test_a_frozen_source_is_not_compared(start: Start) -> None:
    bench = start("{ALT: {}}", "[adc, efis]")
    bench.run(1.0, "ALT", adc=5000, efis=5010)
    assert bench.run(1.0, "ALT", adc=5300).startswith("ok"), "efis wrote more than 0.5 s ago"
    assert bench.run(1.4, "ALT", adc=5600).startswith("no compare"), "and is old now"


def test_a_source_that_is_slower_is_compared_when_it_writes(start: Start) -> None:
    bench = start("{ALT: {}}", "[adc, gps]")
    for _ in range(4):
        words = bench.run(0.2, "ALT", adc=5000, gps=5300)
        words = bench.run(0.8, "ALT", adc=5000)
    assert words.startswith("miscompare")


def test_a_difference_across_a_short_gap_is_one(start: Start) -> None:
    bench = start("{ALT: {}}", "[adc, efis]")
    bench.run(1.0, "ALT", adc=5000, efis=5300)
    assert bench.run(2.0, "ALT", adc=5000, efis=None).startswith("no compare")
    assert bench.run(0.2, "ALT", adc=5000, efis=5300).startswith("miscompare")


def test_only_between_two_of_three(start: Start) -> None:
    bench = start("{IAS: {between: [adc, efis]}}", "[adc, efis, gps]")
    assert bench.run(3.0, "IAS", adc=104, efis=103, gps=150) == "ok"


def test_sources_without_a_ranking_are_compared_too(start: Start) -> None:
    bench = start("{LOOSE: {limit: 1}}")
    bench.run(2.4, "LOOSE", left=1, right=3)
    assert bench.words("LOOSE") == "miscompare: they disagree; 1 / 3 (left, right)"


# -- three sources -----------------------------------------------------------------------------------------------------


def test_the_one_that_lies_is_named_and_loses_its_rank_until_it_agrees_for_ten_seconds(start: Start) -> None:
    bench = start("{IAS: {}}", "[a, b, c]")
    assert bench.run(1.0, "IAS", a=150, b=101, c=100).startswith("ok so far")
    assert bench.db.read("IAS").source == "a"
    assert bench.run(1.2, "IAS", a=150, b=101, c=100) == "miscompare: a lies; 150 (a), others 101"
    assert bench.notices == [("caution", "IAS MISCOMPARE 150 (a), others 101: a lies")]
    assert bench.db.read("IAS").source == "b"
    assert bench.db.read("IAS").good
    bench.run(9.0, "IAS", a=101, b=101, c=100)
    assert bench.db.read("IAS").source == "b"
    bench.run(0.2, "IAS", a=150, b=101, c=100)
    bench.run(9.8, "IAS", a=101, b=101, c=100)
    assert bench.db.read("IAS").source == "b", "the ten seconds begin anew"
    assert bench.run(0.4, "IAS", a=101, b=101, c=100) == "ok"
    assert bench.db.read("IAS").source == "a"


def test_a_liar_that_is_left_alone_is_published_as_bad(start: Start) -> None:
    bench = start("{IAS: {}}", "[a, b, c]")
    bench.run(2.4, "IAS", a=150, b=101, c=100)
    bench.run(0.2, "IAS", a=150, b=None, c=None)
    reading = bench.db.read("IAS")
    assert (reading.source, reading.bad) == ("a", True)
    assert "a" in reading.reason(BAD)


def test_three_of_which_two_lie_in_different_ways_blame_nobody(start: Start) -> None:
    bench = start("{IAS: {publish: middle}}", "[a, b, c]")
    words = bench.run(3.0, "IAS", a=60, b=100, c=150)
    assert words == "miscompare: they disagree; 60 / 100 / 150 (a, b, c)"
    assert bench.db.read("IAS").source == "a", "nothing to publish: the best as before"


def test_a_flapping_source_does_not_get_its_rank_back(start: Start) -> None:
    bench = start("{IAS: {}}", "[a, b, c]")
    bench.run(2.4, "IAS", a=150, b=101, c=100)
    for _ in range(6):
        bench.run(4.0, "IAS", a=101, b=101, c=100)
        bench.run(0.4, "IAS", a=None, b=101, c=100)
        assert bench.db.read("IAS").source == "b"


def test_a_flapping_source_that_differs_each_time_is_found(start: Start) -> None:
    bench = start("{IAS: {}}", "[a, b, c]")
    for _ in range(3):
        words = bench.run(0.6, "IAS", a=150, b=101, c=100)
        bench.run(0.6, "IAS", a=None, b=101, c=100)
    assert "a lies" in words


def test_the_mean_is_of_those_that_agree(start: Start) -> None:
    bench = start("{IAS: {publish: mean}}")
    bench.run(1.0, "IAS", a=100, b=103, c=104, d=190)
    assert bench.db.read("IAS").value == pytest.approx((100 + 103 + 104) / 3)


def test_the_end_of_what_is_published_is_an_ordinary_fall_back(start: Start, clock: Clock) -> None:
    bench = start("{IAS: {publish: middle}}")
    bench.run(1.0, "IAS", a=100, b=103, c=104)
    assert bench.db.read("IAS").source == "vote"
    for _ in range(11):  # the plugin hangs
        clock.now += 0.2
        for source in "abc":
            bench.db.write("IAS", 100.0, source, flags=0)
    bench.db.age()
    assert bench.db.read("IAS").source == "a"
    assert bench.db.read("IAS").secfail, "for a source is missing"


def test_when_it_stops_the_sources_are_as_before(start: Start) -> None:
    bench = start("{IAS: {publish: middle}}")
    bench.run(2.4, "IAS", a=150, b=103, c=104)
    bench.plugin.finish()
    assert bench.db.item("IAS").doubts == {}
    assert bench.db.read("IAS").source == "a"
    assert bench.notices == []


def test_what_simulated_sources_agree_on_is_simulated(start: Start) -> None:
    bench = start("{IAS: {publish: middle, between: [sim/a, sim/b]}}")
    bench.run(1.0, "IAS", **{"sim/a": 100, "sim/b": 102})
    assert bench.db.read("IAS").source == "sim/vote"
    assert bench.db.read("IAS").value == 101.0


# -- directions --------------------------------------------------------------------------------------------------------


def test_headings_on_both_sides_of_north(start: Start) -> None:
    bench = start("{HEAD: {publish: middle}}", "[vote, a, b, c]")
    assert bench.run(2.4, "HEAD", a=359, b=2, c=1) == "ok"
    assert bench.db.read("HEAD").value == pytest.approx(1.0)
    bench.run(0.4, "HEAD", a=359, b=3, c=None)
    assert bench.db.read("HEAD").value == pytest.approx(1.0)
    assert "c lies" in bench.run(2.4, "HEAD", a=359, b=2, c=20)


@pytest.mark.parametrize(
    ("values", "middle"),
    [((359, 1, 2), 1), ((-1, 1, 2), 1), ((350, 10), 0), ((179, -179), 180), ((90, 91, 270), 91), ((0.5, 359.5), 0)],
)
def test_the_middle_of_angles(values: tuple[float, ...], middle: float) -> None:
    comparison = Comparison(1000.0, 360.0, publish="middle")
    value = comparison.look(10.0, [Said(str(n), float(v), 10.0) for n, v in enumerate(values)]).value
    assert value is not None
    assert abs((value - middle + 180) % 360 - 180) < 1e-9


# -- doubt, in the database --------------------------------------------------------------------------------------------


def test_a_doubt_takes_the_rank_and_gives_it_back_at_once(clock: Clock) -> None:
    db = Database([Definition(key="IAS", tolerance=2000, sources=("a", "b"))], clock)
    item = db.item("IAS")
    seen: list[tuple[str, bool]] = []
    db.subscribe("IAS", lambda key, reading: seen.append((reading.source, reading.bad)))
    item.write(1.0, "a", flags=0)
    item.write(2.0, "b", flags=0)
    item.doubt({"a": "it lies"})
    assert item.reading.source == "b"
    item.write(1.5, "a", flags=0)
    assert item.reading.source == "b"
    assert item.trusts(next(r for r in item.readings() if r.source == "a"))
    item.flag(BAD, BAD, "a", "its own")
    assert not item.trusts(next(r for r in item.readings() if r.source == "a"))
    item.write(1.5, "a", flags=0)
    item.doubt({})
    assert (item.reading.source, item.reading.good) == ("a", True)
    item.write(1.6, "a", flags=0)
    assert item.reading.source == "a"
    assert seen[-3:] == [("b", False), ("a", False), ("a", False)]


def test_what_is_out_of_range_is_not_trusted_whoever_is_in_doubt(clock: Clock) -> None:
    item = Database([Definition(key="IAS", max=500.0, tolerance=2000)], clock).item("IAS")
    item.write(999.0, "a", flags=0)
    assert not item.trusts(item.reading)


def test_a_doubt_without_a_ranking_marks_what_is_published(clock: Clock) -> None:
    db = Database([Definition(key="IAS", tolerance=2000)], clock)
    item = db.item("IAS")
    item.doubt({"a": "it lies"})
    item.write(1.0, "a", flags=0)
    assert item.reading.reason(BAD) == "it lies"
    item.write(1.1, "a")
    assert item.reading.bad
    item.doubt({})
    assert item.reading.good


# -- what people see ---------------------------------------------------------------------------------------------------


def test_explain_shows_the_sources_side_by_side(start: Start) -> None:
    bench = start("{IAS: {}}", "[adc, efis]")
    bench.run(1.0, "IAS", adc=104, efis=96)
    lines = explanation(bench.db.item("IAS").explain())
    (line,) = (line for line in lines if "efis  96" in line)
    assert line.split() == ["efis", "96", "knots", "good", "0.00", "s", "ago", "-8", "knots", "rank", "2"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("{IAZ: {}}", "keys.IAZ: no item 'IAZ' (did you mean 'IAS'?)"),
        ("{LOOSE: {}}", "keys.LOOSE: give `limit`"),
        ("{IAS: {between: [a]}}", "keys.IAS.between: name at least two sources"),
        ("{IAS: {publish: median}}", "publish"),
        ("{IAS: {limit: 0}}", "limit"),
        ("{IAS: {limt: 3}}", "did you mean 'limit'?"),
    ],
)
def test_findings(keys: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "database.yaml").write_text(ITEMS.format(sources="[a, b]"))
    path = tmp_path / "default.yaml"
    own = 'database file: "{CONFIG}/database.yaml"\n'
    path.write_text(f"{own}connections: {{c: {{module: fixgw.plugins.compare, keys: {keys}}}}}\n")
    (problem,) = configuration.check(path)
    assert expected in str(problem)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("{IAS: {between: [a, bb]}}", "keys.IAS.between[1]: bb is not among the sources"),
        ("{LOOSE: {limit: 1}}", "keys.LOOSE: its sources are not ranked"),
    ],
)
def test_advice(keys: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "database.yaml").write_text(ITEMS.format(sources="[a, b]"))
    path = tmp_path / "default.yaml"
    own = 'database file: "{CONFIG}/database.yaml"\n'
    path.write_text(f"{own}connections: {{c: {{module: fixgw.plugins.compare, keys: {keys}}}}}\n")
    assert any(expected in str(advice) for advice in configuration.load(path).advice)


def test_two_comparisons_of_one_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    one = "{module: fixgw.plugins.compare, keys: {IAS: {}}}"
    path.write_text(f"connections: {{c: {one}, d: {one}}}\n")
    (problem,) = configuration.check(path)
    assert "IAS, to compare its sources, is already used by connection 'c'" in str(problem)
