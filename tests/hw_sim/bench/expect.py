"""What a bench expects of a gateway, and whether it came true. No I/O and no clock: the caller shows what happens.

    watch = Watch(facts_of(configuration.definitions))
    expected = watch.expect(Is("OILP1", 12.0, tolerance=0.5), within=2.0)     # begins at the next `pass_to`
    watch.pass_to(10.0)
    watch.show(10.4, "OILP1", 11.8, 0, "sim/eis")                             # a value with its flags and source
    watch.pass_to(10.4)                                                       # everything of that moment was shown
    expected.outcome, expected.words                     # "met", "OILP1 was 11.8 psi at 10.4 s, after 0.4 s"

A `Claim` says what is so or not at one moment; an `Expectation` says when it has to be so. Times are seconds of any
clock that the caller chooses; they never go back. One thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Protocol, get_args

from fixgw.errors import did_you_mean
from fixgw.kit.expression import Expression, Reference
from fixgw.kit.update import BAD, FAIL, FLAG_NAMES, OLD, Value

__all__ = [
    "ALERT_WORDS",
    "FLAG_WORDS",
    "AlertIs",
    "Claim",
    "Each",
    "Expectation",
    "Facts",
    "HasFlags",
    "Holds",
    "Is",
    "Level",
    "Seen",
    "SeenAlert",
    "SourceIs",
    "Unchanged",
    "View",
    "Watch",
    "facts_of",
]

EPSILON_S = 1e-6  # differences of clock readings are not exact
UNUSABLE = OLD | BAD | FAIL

Outcome = Literal["pending", "met", "failed"]
Level = Literal["advisory", "caution", "warning"]

#: What flags can be expected to be: "good" is neither old nor bad nor failed.
FLAG_WORDS: Mapping[str, int] = {"good": UNUSABLE, **{name: flag for flag, name in FLAG_NAMES.items()}}
#: What an alert can be expected to be, and the states that are so (`fixgw.alerts.states`).
ALERT_WORDS: Mapping[str, frozenset[str]] = {
    "raised": frozenset(("active",)),
    "acknowledged": frozenset(("acknowledged",)),
    "cleared": frozenset(("normal", "pending", "inhibited")),
    **{word: frozenset((word,)) for word in ("latched", "shelved", "inhibited")},
}


# -- what is seen of a gateway -----------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """The value of a key, its flags (bits of `fixgw.kit.update`) and its source, as far as it is known."""

    value: Value | None
    flags: int = 0
    source: str = ""


class SeenAlert(NamedTuple):
    """An alert: its state (`fixgw.alerts.states.State`), level and text."""

    state: str
    level: str = ""
    text: str = ""


class Facts(NamedTuple):
    """The definition of a key, as far as words about it need it; see `fixgw.database.Definition`."""

    units: str = ""
    decimals: int | None = None
    wrap: float | None = None


class _Definition(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def units(self) -> str: ...
    @property
    def decimals(self) -> int | None: ...
    @property
    def wrap(self) -> float | None: ...


def facts_of(definitions: Iterable[_Definition]) -> dict[str, Facts]:
    """The facts of each key, from definitions of a database."""
    return {each.key: Facts(each.units, each.decimals, each.wrap) for each in definitions}


class View:
    """What is known of a gateway at one moment. `aux` is by ``KEY.name``; `facts` has all keys of the gateway."""

    def __init__(self, facts: Mapping[str, Facts]) -> None:
        self.facts = facts
        self.readings: dict[str, Seen] = {}
        self.aux: dict[str, Value | None] = {}
        self.alerts: dict[str, SeenAlert] = {}

    def __getitem__(self, key: str) -> Seen | None:
        """The value of a key or an aux value (without flags); None if it has none."""
        if "." in key:
            return Seen(value) if (value := self.aux.get(key)) is not None else None
        return self.readings.get(key)

    def look(self, reference: Reference) -> Value | None:
        """The value of a reference of an expression; None if it is not known. An old or failed value is not."""
        seen = self.readings.get(reference.key)
        if reference.is_flag:
            return None if seen is None else bool(seen.flags & FLAG_WORDS[reference.attribute])
        if reference.attribute:
            return self.aux.get(str(reference))
        return None if seen is None or seen.flags & (OLD | FAIL) else seen.value

    def matching(self, patterns: Iterable[str]) -> Iterator[str]:
        """The keys of the gateway that match any of `patterns`."""
        wanted = tuple(patterns)
        return (key for key in self.facts if _matches(key, wanted))

    def missing(self, key: str) -> str:
        """Why the gateway has no such key or aux value, or an empty text."""
        name = key.partition(".")[0]
        return "" if name in self.facts else f"the gateway has no key {name}{did_you_mean(name, self.facts)}"

    def words(self, key: str) -> str:
        """The present value of a key, in words: ``ALT was 4,870 ft``."""
        seen = self[key]
        if seen is None or seen.value is None:
            return f"{key} had no value"
        flags = " and ".join(_FLAG_ADJECTIVES[flag] for flag in _FLAG_ADJECTIVES if seen.flags & flag)
        value = self.value(key, seen.value)
        return f"{key} was {flags} ({value})" if flags else f"{key} was {value}"

    def value(self, key: str, value: Value) -> str:
        """A value in the units of `key`, in words: ``4,870 ft``."""
        facts = self.facts.get(key.partition(".")[0], Facts())
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return repr(value)
        return f"{_number(value, facts.decimals)} {facts.units}".rstrip()

    def amount(self, key: str, amount: float) -> str:
        """A difference in the units of `key`, in words, with three digits."""
        return f"{_number(float(f'{amount:.3g}'))} {self.facts.get(key.partition('.')[0], Facts()).units}".rstrip()


_FLAG_ADJECTIVES = {OLD: "old", BAD: "bad", FAIL: "failed"}


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _number(value: float, decimals: int | None = None) -> str:
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if decimals is not None:
        return f"{value:,.{decimals}f}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(0, 5 - magnitude), 15)}f}".rstrip("0").rstrip(".") if magnitude < 5 else f"{value:,.0f}"


# -- claims ------------------------------------------------------------------------------------------------------------


class Claim:
    """Something that is so or not at one moment; its `str` says what. Immutable."""

    #: The keys whose changes can change it; None: it is judged once every change of a moment was shown.
    keys: frozenset[str] | None = None

    def begin(self, view: View) -> Claim:
        """The claim as it is to be judged from now on, for one that compares with the present."""
        return self

    def wrong(self, view: View) -> str:
        """Why it can never be so with this gateway, or an empty text."""
        return ""

    def judge(self, view: View) -> tuple[bool, str]:
        """Whether it is so, and what is so, in words and the past tense: ``ALT was 4,870 ft, 30 ft too low``."""
        raise NotImplementedError


@dataclass(frozen=True)
class _OfKey(Claim):
    key: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset((self.key,)))

    def wrong(self, view: View) -> str:
        return view.missing(self.key)


@dataclass(frozen=True)
class Is(_OfKey):
    """A usable value (neither old nor bad nor failed) of a key or an aux value, ``IAS.Vne``, in the key's units.

    It is `value`, plus or minus `tolerance`, if that is given; and not below `min` or above `max`, if those are.
    """

    value: Value | None = None
    tolerance: float = 0.0
    min: float | None = None
    max: float | None = None

    def __str__(self) -> str:
        words = []
        if self.value is not None:
            value = self.value if isinstance(self.value, str) else View({}).value(self.key, self.value)
            words.append(f"is {value}" + (f" ± {_number(self.tolerance)}" if self.tolerance else ""))
        if self.min is not None:
            words.append(f"is at least {_number(self.min)}")
        if self.max is not None:
            words.append(f"is at most {_number(self.max)}")
        return f"{self.key} {' and '.join(words) or 'is good'}"

    def judge(self, view: View) -> tuple[bool, str]:
        words = view.words(self.key)
        seen = view[self.key]
        if seen is None or seen.value is None or seen.flags & UNUSABLE:
            return False, words
        fault = self._fault(seen.value, view)
        return not fault, words + fault

    def _fault(self, value: Value, view: View) -> str:
        """What is wrong with a value, as the end of a sentence."""
        if self.value is not None and (isinstance(value, str | bool) or isinstance(self.value, str | bool)):
            same = value == self.value and isinstance(value, bool) is isinstance(self.value, bool)
            return "" if same else f", not {view.value(self.key, self.value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return ", which is not a number"
        if isinstance(value, str):
            return ", which is not a number" if self.min is not None or self.max is not None else ""
        beyond = self._beyond(value, view)
        if abs(beyond) <= 1e-9 * max(1.0, abs(value)):
            return ""
        return f", {view.amount(self.key, abs(beyond))} too {'low' if beyond < 0 else 'high'}"

    def _beyond(self, value: float, view: View) -> float:
        """By how much a value is too high, or (negative) too low."""
        if self.value is not None:
            assert not isinstance(self.value, str)
            difference = value - self.value
            if wrap := view.facts.get(self.key, Facts()).wrap:
                difference = (difference + wrap / 2) % wrap - wrap / 2
            if abs(difference) > self.tolerance:
                return math.copysign(abs(difference) - self.tolerance, difference)
        if self.min is not None and value < self.min:
            return value - self.min
        return value - self.max if self.max is not None and value > self.max else 0.0


@dataclass(frozen=True)
class HasFlags(_OfKey):
    """The flags of a key: each of `words` is one of `FLAG_WORDS`, or ``not`` and one of them."""

    words: tuple[str, ...] = ("good",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for word in self.words:
            if word.removeprefix("not ") not in FLAG_WORDS:
                raise ValueError(f"{word!r} is not a flag{did_you_mean(word, FLAG_WORDS)}")

    def __str__(self) -> str:
        return f"{self.key} is {' and '.join(self.words)}"

    def judge(self, view: View) -> tuple[bool, str]:
        seen = view.readings.get(self.key) or Seen(None, OLD)
        names = [name for flag, name in FLAG_NAMES.items() if seen.flags & flag]
        words = f"{self.key} was {' and '.join(names) or 'good'}"
        return all(_has(seen.flags, word) for word in self.words), words


def _has(flags: int, word: str) -> bool:
    name = word.removeprefix("not ")
    is_so = bool(flags & FLAG_WORDS[name]) is not (name == "good")
    return is_so is not word.startswith("not ")


@dataclass(frozen=True)
class SourceIs(_OfKey):
    """The source whose value is published: a name such as ``sim/eis``, or a pattern."""

    pattern: str = "*"

    def __str__(self) -> str:
        return f"{self.key} comes from {self.pattern}"

    def judge(self, view: View) -> tuple[bool, str]:
        seen = view.readings.get(self.key)
        source = seen.source if seen is not None else ""
        words = f"{self.key} came from {source}" if source else f"{self.key} came from nowhere"
        return fnmatchcase(source, self.pattern), words


@dataclass(frozen=True)
class AlertIs(Claim):
    """The state of an alert, one of `ALERT_WORDS`, and its `level`, if that is given."""

    id: str
    state: str = "raised"
    level: str = ""

    def __post_init__(self) -> None:
        if self.state not in ALERT_WORDS:
            raise ValueError(f"{self.state!r} is nothing that an alert can be{did_you_mean(self.state, ALERT_WORDS)}")
        if self.level not in ("", *get_args(Level)):
            raise ValueError(f"{self.level!r} is not a level{did_you_mean(self.level, get_args(Level))}")

    def __str__(self) -> str:
        return f"alert {self.id} is {self.state}" + (f" as {self.level}" if self.level else "")

    def judge(self, view: View) -> tuple[bool, str]:
        seen = view.alerts.get(self.id)
        if seen is None:
            return False, f"there was no alert {self.id}{did_you_mean(self.id, view.alerts)}"
        word = next(word for word, states in (*ALERT_WORDS.items(), ("", {seen.state})) if seen.state in states)
        words = f"alert {self.id} was {word or seen.state}" + (f" as {seen.level}" if self.level else "")
        return seen.state in ALERT_WORDS[self.state] and self.level in ("", seen.level), words


@dataclass(frozen=True)
class Holds(Claim):
    """An expression is true; see `fixgw.kit.expression`. Raises `BadExpression`."""

    text: str
    expression: Expression = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression", Expression(self.text))

    def __str__(self) -> str:
        return self.text

    def wrong(self, view: View) -> str:
        return next(filter(None, (view.missing(reference.key) for reference in self.expression.references)), "")

    def judge(self, view: View) -> tuple[bool, str]:
        result = self.expression(view.look)
        is_so = "not known" if result is None else "true" if result else "false"
        seen = [view.words(name) for name in dict.fromkeys(_shown(each) for each in self.expression.references)]
        return bool(result), f"{self.text} was {is_so}" + (f": {', '.join(seen)}" if seen else "")


def _shown(reference: Reference) -> str:
    return reference.key if reference.is_flag else str(reference)


@dataclass(frozen=True)
class Unchanged(Claim):
    """No key that matches `patterns`, without those that match `but`, gets another value, flags or source."""

    patterns: tuple[str, ...] = ("*",)
    but: tuple[str, ...] = ()
    before: Mapping[str, Seen] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{', '.join(self.patterns)} does not change" + (f", except {', '.join(self.but)}" if self.but else "")

    def begin(self, view: View) -> Claim:
        kept = [key for key in view.matching(self.patterns) if not _matches(key, self.but)]
        began = replace(self, before={key: view.readings.get(key, Seen(None)) for key in kept})
        object.__setattr__(began, "keys", frozenset(kept))
        return began

    def wrong(self, view: View) -> str:
        return _unmatched(view, self.patterns)

    def judge(self, view: View) -> tuple[bool, str]:
        changed = [key for key, seen in self.before.items() if view.readings.get(key, Seen(None)) != seen]
        words = [view.words(key).replace(f"{key} was ", f"{key} became ") for key in changed[:3]]
        more = f", and {len(changed) - 3} more changed" if len(changed) > 3 else ""
        return not changed, f"{', '.join(words)}{more}" or "nothing changed"


@dataclass(frozen=True)
class Each(Claim):
    """Several claims at once: each of those that `make` makes for every key that matches `patterns`, but not `but`."""

    patterns: tuple[str, ...]
    make: Callable[[str], Sequence[Claim]]
    but: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()

    def __str__(self) -> str:
        keys = ", ".join(self.patterns)
        words = "; ".join(str(claim) for claim in self.make(f"each of {keys}" if len(self.patterns) > 1 else keys))
        return f"{words} (except {', '.join(self.but)})" if self.but else words

    def begin(self, view: View) -> Claim:
        found = (k for p in self.patterns for k in ((p,) if "." in p else view.matching([p])))
        keys = [key for key in dict.fromkeys(found) if not _matches(key, self.but)]
        began = replace(self, claims=tuple(claim for key in keys for claim in self.make(key)))
        object.__setattr__(began, "keys", frozenset(keys))
        return began

    def wrong(self, view: View) -> str:
        return _unmatched(view, self.patterns)

    def judge(self, view: View) -> tuple[bool, str]:
        judged = [claim.judge(view) for claim in self.claims]
        failed = [words for holds, words in judged if not holds]
        if failed:
            return False, "; ".join(failed[:3]) + (f"; and {len(failed) - 3} more" if len(failed) > 3 else "")
        words = [words for _, words in judged]
        return True, "; ".join(words) if len(words) <= 3 else f"all {len(self.keys or ())} keys were so"


def _unmatched(view: View, patterns: Iterable[str]) -> str:
    for pattern in patterns:
        if "." in pattern or pattern.isidentifier():
            if missing := view.missing(pattern):
                return missing
        elif not any(view.matching([pattern])):
            return f"the gateway has no key that matches {pattern}"
    return ""


# -- expectations ------------------------------------------------------------------------------------------------------


class Expectation:
    """A claim that has to be so `within` seconds of the beginning, and then to stay so for `lasting` seconds.

    Without both, it has to be so when it begins. One that breaks is met all the same if it is so again within the
    time. `title` says what is expected, and `place` where; `words` say what happened, when the `outcome` is known.
    """

    def __init__(
        self, claim: Claim, within: float = 0.0, lasting: float = 0.0, title: str = "", place: str = ""
    ) -> None:
        self.claim = claim
        self.within = within
        self.lasting = lasting
        self.title = title or f"{claim}{within_and_for(within, lasting)}"
        self.place = place
        self.outcome: Outcome = "pending"
        self.words = ""
        #: When it began, when it last became so, and when it was decided.
        self.began: float | None = None
        self.since: float | None = None
        self.decided: float | None = None
        self._zero = 0.0
        self._last = ""

    @property
    def took(self) -> float | None:
        """Seconds from the beginning until it was so; None if it is not."""
        return None if self.began is None or self.since is None else self.since - self.began

    def fail(self, at: float, words: str) -> None:
        """It has failed for a reason outside of it, for example because the gateway has gone."""
        self._decide("failed", at, words)

    # -- for the watch -------------------------------------------------------------------------------------------------

    def begin(self, at: float, view: View, zero: float) -> None:
        self._zero = zero
        self.began = at
        if wrong := self.claim.wrong(view):
            self._decide("failed", at, wrong)
        else:
            self.claim = self.claim.begin(view)

    def expire(self, at: float) -> None:
        """Nothing has changed until shortly before `at`."""
        assert self.began is not None
        if self.since is not None and self.since + self.lasting < at - EPSILON_S:
            self._meet(self.since + self.lasting)
        elif self.since is None and self.began + self.within < at - EPSILON_S:
            self._miss(self.began + self.within)

    def judge(self, at: float, view: View, settled: bool) -> None:
        """Something has changed, or (`settled`) everything that has changed at `at` was shown."""
        assert self.began is not None
        holds, words = self.claim.judge(view)
        if holds:
            if self.since is None:
                self.since = at
                self._last = words
            if settled and at >= self.since + self.lasting - EPSILON_S:
                self._meet(at)
            return
        was_so = 0.0 if self.since is None else at - self.since
        self.since, self._last = None, words
        if at > self.began + self.within + EPSILON_S or (settled and at >= self.began + self.within - EPSILON_S):
            self._miss(at, was_so)

    def end(self, at: float) -> None:
        """The run is over."""
        if self.since is not None:
            left = self.since + self.lasting - at
            self._decide("failed", at, f"{self._last}, but the run ended {_number(round(left, 3))} s too early")
        else:
            self._decide("failed", at, f"{self._last or 'nothing was seen'}, when the run ended at {self._time(at)}")

    def _meet(self, at: float) -> None:
        assert self.began is not None
        assert self.since is not None
        words = f"{self._last} at {self._time(self.since)}"
        if self.within and self.since > self.began:
            words += f", after {_number(round(self.since - self.began, 3))} s"
        self._decide("met", at, words)

    def _miss(self, at: float, was_so: float = 0.0) -> None:
        before = f", after it had been so for {_number(round(was_so, 3))} s" if was_so else ""
        self._decide("failed", at, f"{self._last} at {self._time(at)}{before}")

    def _decide(self, outcome: Outcome, at: float, words: str) -> None:
        self.outcome, self.decided, self.words = outcome, at, words

    def _time(self, at: float) -> str:
        return f"{_number(round(at - self._zero, 3))} s"


def within_and_for(within: float, lasting: float) -> str:
    """When something is expected, as the end of a sentence."""
    words = f" within {_number(within)} s" if within else ""
    return words + (f" for {_number(lasting)} s" if lasting else "")


class Watch:
    """Judges expectations by what it is shown. Words count time from `zero`.

    Everything of one moment is shown in any order, and then `pass_to` ends the moment; expectations that were added
    meanwhile begin then.
    """

    def __init__(self, facts: Mapping[str, Facts], zero: float = 0.0) -> None:
        self.view = View(facts)
        self.zero = zero
        #: All of them, in the order in which they were added.
        self.expectations: list[Expectation] = []
        self._new: list[Expectation] = []
        self._pending: list[Expectation] = []

    def expect(
        self, claim: Claim, within: float = 0.0, lasting: float = 0.0, title: str = "", place: str = ""
    ) -> Expectation:
        """Expect this, from the end of the present moment on."""
        expectation = Expectation(claim, within, lasting, title, place)
        self.expectations.append(expectation)
        self._new.append(expectation)
        return expectation

    @property
    def pending(self) -> bool:
        return bool(self._new or self._pending)

    def show(self, at: float, key: str, value: Value | None, flags: int = 0, source: str = "") -> None:
        """A key has this value, with these flags and this source."""
        if self._pending:
            self._expire(at)
        self.view.readings[key] = Seen(value, flags, source)
        if self._pending:
            self._judge(at, key)

    def show_aux(self, at: float, key: str, value: Value | None) -> None:
        """An aux value, ``KEY.name``, is this."""
        self._expire(at)
        self.view.aux[key] = value
        self._judge(at, key)

    def show_alert(self, at: float, id: str, state: str, level: str = "", text: str = "") -> None:
        """An alert is in this state."""
        self._expire(at)
        self.view.alerts[id] = SeenAlert(state, level, text)

    def pass_to(self, at: float) -> None:
        """Everything that has happened until `at` was shown."""
        self._expire(at)
        new, self._new = self._new, []
        for expectation in new:
            expectation.begin(at, self.view, self.zero)
        self._pending += new
        for expectation in self._pending:
            if expectation.outcome == "pending":
                expectation.judge(at, self.view, settled=True)
        self._forget_decided()

    def end(self, at: float) -> None:
        """The run is over: what is not decided has failed."""
        self.pass_to(at)
        for expectation in self._pending:
            expectation.end(at)
        self._forget_decided()

    def fail(self, at: float, words: str) -> None:
        """What is not decided has failed, because of this."""
        for expectation in (*self._pending, *self._new):
            expectation.fail(at, words)
        self._new = []
        self._forget_decided()

    def forget(self, expectation: Expectation) -> None:
        """Nobody wants to know any more whether this comes true."""
        for these in (self.expectations, self._new, self._pending):
            if expectation in these:
                these.remove(expectation)

    def _expire(self, at: float) -> None:
        for expectation in self._pending:
            expectation.expire(at)
        self._forget_decided()

    def _judge(self, at: float, key: str) -> None:
        for expectation in self._pending:
            if (keys := expectation.claim.keys) is not None and key in keys:
                expectation.judge(at, self.view, settled=False)
        self._forget_decided()

    def _forget_decided(self) -> None:
        if any(expectation.outcome != "pending" for expectation in self._pending):
            self._pending = [each for each in self._pending if each.outcome == "pending"]
