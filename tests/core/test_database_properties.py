"""Properties of the database that hold whatever is written, and a step-by-step comparison with a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, WRITABLE, Database, Definition, Item, Reading
from fixgw.database.legacy import RawItem
from fixgw.errors import BadValue

pytestmark = pytest.mark.slow

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=4),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["nan", "inf", "1e999", "1_000", "True", "yes", "0", " 5 ", "5.0", "-0", "٣"]),
)
FLAGS = st.one_of(st.none(), st.integers(0, 31))


def frozen(*definitions: Definition) -> Database:
    return Database(definitions, lambda: 1000.0)


@given(kind=st.sampled_from(["float", "int", "bool", "str"]), value=ANYTHING, flags=FLAGS, setting=st.booleans())
def test_a_reading_stays_valid_whatever_is_written(kind: Any, value: Any, flags: int | None, setting: bool) -> None:
    item = frozen(Definition(key="K", type=kind, min=-10, max=10, setting=setting)).item("K")
    before = item.reading
    try:
        reading = item.write(value, "s", flags)
    except BadValue:
        assert item.reading is before
        return
    assert item.reading is reading
    assert type(reading.value) is {"float": float, "int": int, "bool": bool, "str": str}[kind]
    if kind in ("float", "int"):
        assert -10 <= reading.value <= 10  # type: ignore[operator]
    if kind == "str":
        assert reading.value.isprintable()  # type: ignore[union-attr]
    assert [bit for bit, _ in reading.reasons] == [bit for bit in (16, 8, 4, 2, 1) if bit & reading.flags]
    assert all(text for _, text in reading.reasons)
    assert reading.checked & ~reading.flags == 0


@given(st.floats())
def test_a_float_is_stored_clamped_or_failed(value: float) -> None:
    item = frozen(Definition(key="K", min=-100.0, max=100.0)).item("K")
    item.write(1.0)
    reading = item.write(value)
    if not math.isfinite(value):
        assert (reading.value, reading.flags) == (1.0, FAIL)
    elif -100 <= value <= 100:
        assert (reading.value, reading.flags) == (value, 0)
    else:
        assert (reading.value, reading.flags) == (math.copysign(100, value), BAD)
    assert item.write(2.0).flags == 0


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_conversion_to_text(value: float) -> None:
    item = frozen(Definition(key="K")).item("K")
    assert item.write(repr(value)).value == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive_conversion_to_text(value: int) -> None:
    item = frozen(Definition(key="K", type="int")).item("K")
    assert item.write(str(value)).value == item.write(value).value == value


@given(flags=st.integers(0, 31), value=st.floats(-10, 10))
def test_writing_back_what_was_read_changes_nothing_but_old(flags: int, value: float) -> None:
    raw = RawItem(frozen(Definition(key="K", min=-10, max=10)).item("K"), "s")
    raw.item.write(value, "s", flags)
    raw.item.flag(flags, OLD)
    before = raw.value
    raw.value = before
    assert raw.value == (*before[:2], False, *before[3:])


# -- the model ---------------------------------------------------------------------------------------------------------

TOLERANCE = 1.0
RETURN_AFTER = 1.5
RANKING = ("a", "b", "c")
SOURCES = (*RANKING, "outsider")
VALUES = st.sampled_from([0.0, 5.0, 10.0, 10.5, -1.0, float("nan"), float("inf"), "7", 3])


@dataclass(frozen=True)
class Said:
    """The state of one source, as simple as possible."""

    value: float = 0.0
    stamp: float | None = None
    by_hand: frozenset[int] = frozenset()  # flags set by hand
    by_check: frozenset[int] = frozenset()  # flags set by checks
    old: bool = True

    @property
    def live(self) -> bool:
        return not self.old and FAIL not in self.by_hand | self.by_check

    @property
    def level(self) -> int:
        return 0 if not self.live else 1 if BAD in self.by_hand | self.by_check else 2

    @property
    def flags(self) -> int:
        return sum(self.by_hand | self.by_check) | (OLD if self.old else 0)

    def written(self, value: Any, flags: int | None, now: float) -> Said:
        by_hand = self.by_hand if flags is None else bits(flags & WRITABLE)
        number = float(value)
        if not math.isfinite(number):
            return replace(self, by_hand=by_hand, by_check=frozenset({FAIL}) - by_hand)
        clamped = min(max(number, 0.0), 10.0)
        by_check = frozenset({BAD}) - by_hand if clamped != number else frozenset()
        return Said(clamped, now, by_hand, by_check, False)

    def flagged(self, flag: int, on: bool, now: float) -> Said:
        if flag == OLD:
            overdue = self.stamp is None or self.stamp + TOLERANCE <= now
            return replace(self, old=True if on else self.old and overdue)
        by_hand = self.by_hand | {flag} if on else self.by_hand - {flag}
        return replace(self, by_hand=by_hand, by_check=self.by_check - {flag})

    def aged(self, now: float) -> Said:
        return replace(self, old=self.old or self.stamp is None or self.stamp + TOLERANCE <= now)


def bits(flags: int) -> frozenset[int]:
    return frozenset(bit for bit in (ANNUNCIATE, BAD, FAIL, SECFAIL) if bit & flags)


@dataclass
class Model:
    """All sources of the ranked item, and which one is published."""

    said: dict[str, Said] = field(default_factory=dict)
    published: str = ""
    never: Said = field(default_factory=Said)
    since: dict[tuple[str, int], float] = field(default_factory=dict)  # (source, level) -> since when
    shown: set[str] = field(default_factory=set)

    def choose(self, now: float) -> None:
        levels = {s: self.said[s].level for s in RANKING if s in self.said}
        for source, level in levels.items():
            for n in (1, 2):
                if level < n:
                    self.since.pop((source, n), None)
                else:
                    self.since.setdefault((source, n), now)
        top = max(levels.values(), default=0)
        best = [s for s in levels if levels[s] == top]
        if self.published not in levels:
            self.published = best[0] if best else ""
        elif top > levels[self.published]:
            self.published = best[0]
        elif top:
            better = best[: best.index(self.published)]
            ready = [s for s in better if s not in self.shown or self.since[s, top] + RETURN_AFTER <= now]
            self.published = ready[0] if ready else self.published
        if levels.get(self.published):
            self.shown.add(self.published)

    def expected(self) -> tuple[float, int, str]:
        shown = self.said[self.published] if self.published else self.never
        own = RANKING.index(self.published) if self.published else 0
        missing = [s for n, s in enumerate(RANKING) if n != own and not (s in self.said and self.said[s].live)]
        return shown.value, shown.flags & ~SECFAIL | (SECFAIL if missing else 0), self.published


class Sources(RuleBasedStateMachine):
    """A ranked and an unranked item, compared with the model after every step; every change is notified once."""

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.db = Database(
            [
                Definition(key="RANKED", min=0.0, max=10.0, tolerance=1000, sources=RANKING, return_after=RETURN_AFTER),
                Definition(key="PLAIN", min=0.0, max=10.0, tolerance=1000),
            ],
            lambda: self.now,
        )
        self.ranked = self.db.item("RANKED")
        self.plain = self.db.item("PLAIN")
        self.model = Model()
        self.plain_model = Said()
        self.told: dict[str, Reading] = {k: self.db.read(k) for k in self.db}
        self.untold: list[str] = []
        self.db.subscribe("*", self.hear)

    def hear(self, key: str, reading: Reading) -> None:
        if reading is self.told[key]:
            self.untold.append(f"{key} told twice")
        self.told[key] = reading

    @rule(source=st.sampled_from(SOURCES), value=VALUES, flags=FLAGS)
    def write_ranked(self, source: str, value: Any, flags: int | None) -> None:
        published = self.model.published
        self.ranked.write(value, source, flags)
        said = self.model.said.get(source, Said())
        self.model.said[source] = said.written(value, flags, self.now)
        self.model.choose(self.now)
        if source != published and published:
            assert self.ranked.reading.source == self.model.published

    @rule(source=st.sampled_from(SOURCES), value=VALUES, flags=FLAGS)
    def write_plain(self, source: str, value: Any, flags: int | None) -> None:
        self.plain.write(value, source, flags)
        self.plain_model = self.plain_model.written(value, flags, self.now)

    @rule(source=st.sampled_from(SOURCES), flag=st.sampled_from([ANNUNCIATE, OLD, BAD, FAIL]), on=st.booleans())
    def flag_ranked(self, source: str, flag: int, on: bool) -> None:
        self.ranked.flag(flag if on else 0, flag, source)
        model = self.model
        target = source if source in RANKING else model.published
        if not target:
            model.never = model.never.flagged(flag, on, self.now)
        else:
            if target in model.said or on:  # clearing an unset flag notifies no one
                model.said[target] = model.said.get(target, Said()).flagged(flag, on, self.now)
        model.choose(self.now)

    @rule(flag=st.sampled_from([ANNUNCIATE, OLD, BAD, FAIL, SECFAIL]), on=st.booleans())
    def flag_plain(self, flag: int, on: bool) -> None:
        self.plain.flag(flag if on else 0, flag, "somebody")
        self.plain_model = self.plain_model.flagged(flag, on, self.now)

    @rule(seconds=st.sampled_from([0.125, 0.5, 0.875, 1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.db.age()
        self.plain_model = self.plain_model.aged(self.now)
        self.model.said = {s: said.aged(self.now) for s, said in self.model.said.items()}
        self.model.choose(self.now)

    @rule(sources=st.sets(st.sampled_from(RANKING)), bad=st.booleans(), times=st.integers(1, 5))
    def keep_up(self, sources: set[str], bad: bool, times: int) -> None:
        for _ in range(times):
            for source in sorted(sources):
                self.write_ranked(source, 11.0 if bad else 5.0, 0)
            self.pass_time(0.5)

    @invariant()
    def the_model_agrees(self) -> None:
        reading = self.ranked.reading
        assert (reading.value, reading.flags, reading.source) == self.model.expected()
        plain = self.plain.reading
        assert (plain.value, plain.flags) == (self.plain_model.value, self.plain_model.flags)

    @invariant()
    def every_source_can_be_read(self) -> None:
        said = {r.source: r for r in self.ranked.readings() if r.source}
        assert set(said) == set(self.model.said)
        for source, model in self.model.said.items():
            assert said[source].value == model.value
            assert said[source].flags & ~SECFAIL == model.flags & ~SECFAIL

    @invariant()
    def every_change_has_been_told(self) -> None:
        assert not self.untold
        for item in self.db.items():
            assert self.told[item.key] is item.reading

    @invariant()
    def whatever_can_age_is_being_watched(self) -> None:
        for item in self.db.items():
            readings = item.readings() if item.ranked else [item.reading]
            if any(not r.old for r in readings):
                assert item._due is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([5.0, 11.0, float("nan")]), st.sampled_from([0.0, 0.25, 0.5])
        ),
        min_size=20,
        max_size=120,
    )
)
def test_no_source_waits_longer_than_the_hold_time_and_none_flaps(steps: list[tuple[str, float, float]]) -> None:
    """The published value is never worse than one that another source has provided well for the hold time; and a better
    source does not take over from a good one more often than that."""
    now = 1000.0
    item = Database(
        [Definition(key="K", min=0.0, max=10.0, tolerance=1000, sources=RANKING, return_after=RETURN_AFTER)],
        lambda: now,
    ).item("K")
    good_since: dict[str, float] = {}
    returns: list[float] = []
    for source, value, seconds in steps:
        before = item.reading
        item.write(value, source)
        readings = {r.source: r for r in item.readings() if r.source}
        for name in RANKING:
            if name in readings and readings[name].good:
                good_since.setdefault(name, now)
            else:
                good_since.pop(name, None)
        published = item.reading
        both_good = before.good and published.good and before.source in good_since
        if both_good and RANKING.index(published.source) < RANKING.index(before.source):
            returns.append(now)
        for name, since in good_since.items():
            assert published.good, "good beats everything else"
            if since + RETURN_AFTER <= now:
                assert RANKING.index(published.source) <= RANKING.index(name)
        for _ in range(round(seconds / 0.05)):
            now += 0.05
            item._database.age()
            good_since = {r.source: good_since[r.source] for r in item.readings() if r.good and r.source in good_since}
    # Each of the two better sources may take over at once the first time.
    assert all(b - a >= RETURN_AFTER for a, b in zip(returns, returns[3:], strict=False))


TestSources = Sources.TestCase
TestSources.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_the_model_detects_a_wrong_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison works: it detects a database that forgets to fall back."""
    monkeypatch.setattr(Item, "_rerank", lambda self, current: self._publish(current))
    machine = Sources()
    machine.begin()
    machine.write_ranked("b", 5.0, None)
    with pytest.raises(AssertionError):
        machine.the_model_agrees()
