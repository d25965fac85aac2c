"""Judges what several sources say about one key: `Comparison`. No I/O, no clock, no thread.

Limits and bands: the comparators of the Garmin G1000, as its pilot's guides publish them. How long a difference must
last is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import atan2, cos, pi, sin
from typing import Literal, NamedTuple

__all__ = ["USUAL_LIMITS", "Comparison", "Said", "State", "limit_of_airspeeds"]

State = Literal["ok", "miscompare", "no compare"]
Publish = Literal["best", "middle", "mean"]

OFF_DELAY_S = 2.0  # the agreement that ends a miscompare must have lasted
REHABILITATION_S = 10.0  # a source that lied must have agreed for this long
TOGETHER_S = 0.5  # readings further apart in time are not compared
PATIENCE_S = 3.0  # sources that are good, but never together for this long, are not compared
GAP_S = 5.0  # a difference before a gap that is not longer and one after it are one
EPSILON_S = 1e-6


def limit_of_airspeeds(values: Sequence[float]) -> float | None:
    """The limit for airspeeds in knots; None if all are too slow to be compared."""
    fastest = max(values)
    return 7.0 if fastest > 80.0 else 10.0 if fastest > 35.0 else None


#: The limits of keys for which none is given: a number, or a function of the values.
USUAL_LIMITS: Mapping[str, float | Callable[[Sequence[float]], float | None]] = {
    "IAS": limit_of_airspeeds,
    "ALT": 200.0,
    "HEAD": 6.0,
    "PITCH": 5.0,
    "ROLL": 6.0,
}


class Said(NamedTuple):
    """What a source says: a good value, and when it was stored in monotonic seconds."""

    source: str
    value: float
    stamp: float


class Verdict(NamedTuple):
    """The outcome of one look. `value` is what to publish; None if there is nothing to publish."""

    state: State
    words: str
    value: float | None


class Comparison:
    """The comparison of one key. `lies` are the sources that lie; `differ` says that nobody knows who does."""

    def __init__(
        self,
        limit: float | Callable[[Sequence[float]], float | None],
        wrap: float | None = None,
        on_delay: float = 2.0,
        publish: Publish = "best",
        total: int = 0,
    ) -> None:
        self._limit = limit
        self._wrap = wrap
        self._on_delay = on_delay
        self._publish = publish
        #: How many sources there should be; 0 if that is not known.
        self.total = total
        #: A source that lies -> since when it has agreed again; None while it does not.
        self.lies: dict[str, float | None] = {}
        self.differ = False
        #: Whether there was no majority at the last look, for however short a time.
        self.disagree = False
        self.text = ""  # the values and sources that differ
        self._suspects: dict[str, tuple[float, float]] = {}  # source -> when it began to differ, and was last seen to
        self._differ_since: tuple[float, float] | None = None  # likewise, if nobody knows which is wrong
        self._agree_since: float | None = None
        self._compared_at = float("-inf")

    # -- the outcome ---------------------------------------------------------------------------------------------------

    def look(self, now: float, said: Sequence[Said]) -> Verdict:
        """Judge what the good sources say now. Call this a few times a second."""
        newest = max((s.stamp for s in said), default=now)
        together = [s for s in said if newest - s.stamp < TOGETHER_S]
        for gone in self.lies.keys() - {s.source for s in said}:
            self.lies[gone] = None  # it has to agree without a break
        value: float | None = None
        if len(together) >= 2:
            self._compared_at = now
            value = self._judge(now, together)
        elif len(said) < 2 or now - self._compared_at > PATIENCE_S:
            if now - self._compared_at > GAP_S:
                self.differ = self.disagree = False
                self._differ_since = None
            total = max(self.total, len(said))
            return Verdict("no compare", f"no compare: {len(said)} of {total} sources {_are(len(said))} good", None)
        return Verdict(*self._words(), value)

    def _words(self) -> tuple[State, str]:
        if self.differ or self.lies:
            names = " and ".join(f"{name} lies" for name in sorted(self.lies))
            words = "; ".join(filter(None, (names, "they disagree" if self.differ else "", self.text)))
            return "miscompare", f"miscompare: {words}"
        if self._suspects:
            return "ok", f"ok so far; different: {', '.join(sorted(self._suspects))}"
        return "ok", "ok so far; they disagree" if self._differ_since else "ok"

    # -- judging -------------------------------------------------------------------------------------------------------

    def _judge(self, now: float, said: Sequence[Said]) -> float | None:
        """Note who differs, and return what to publish."""
        values = [s.value for s in said]
        limit = self._limit(values) if callable(self._limit) else self._limit
        middle = self._middle(values)
        if limit is None:
            agreeing = list(said)
        elif len(said) == 2:
            agreeing = list(said) if self._distance(*values) <= limit else []
        else:
            agreeing = [s for s in said if self._distance(s.value, middle) <= limit]
        decided = 2 * len(agreeing) > len(said)
        self.disagree = not decided
        self._note_disagreement(now)
        self._note_suspects(now, said, {s.source for s in agreeing} if decided else None)
        if self.lies or self.differ or self._suspects or self._differ_since:
            self.text = self._describe(said, agreeing if decided else [], middle)
        if not decided or self._publish == "best":
            return None
        if self._publish == "mean" or len(said) == 2:
            return self._mean([s.value for s in agreeing])
        return middle

    def _note_disagreement(self, now: float) -> None:
        """Note since when there is no majority, because two differ, or more do in different directions."""
        if self.disagree:
            self._agree_since = None
            self._differ_since = _continued(self._differ_since, now)
            if now - self._differ_since[0] >= self._on_delay - EPSILON_S and not self.lies:
                self.differ = True
            return
        self._differ_since = None
        if self.differ:
            self._agree_since = now if self._agree_since is None else self._agree_since
            if now - self._agree_since >= OFF_DELAY_S - EPSILON_S:
                self.differ = False

    def _note_suspects(self, now: float, said: Sequence[Said], agreeing: set[str] | None) -> None:
        """`agreeing` are the sources that agree; None if there is no majority, so that nobody can be blamed or
        acquitted."""
        for name in [s.source for s in said]:
            if agreeing is not None and name in agreeing:
                self._suspects.pop(name, None)
                if name in self.lies:
                    since = self.lies[name]
                    self.lies[name] = since = now if since is None else since
                    if now - since >= REHABILITATION_S - EPSILON_S:
                        del self.lies[name]
                continue
            if name in self.lies:
                self.lies[name] = None
            elif agreeing is not None:
                self._suspects[name] = _continued(self._suspects.get(name), now)
                if now - self._suspects[name][0] >= self._on_delay - EPSILON_S:
                    del self._suspects[name]
                    self.lies[name] = None
        for name in [n for n, (_, seen) in self._suspects.items() if now - seen > GAP_S]:
            del self._suspects[name]

    def _describe(self, said: Sequence[Said], agreeing: Sequence[Said], middle: float) -> str:
        """``104 / 96 (adc, efis)``: the values that differ, then their sources."""
        odd = [s for s in said if s not in agreeing] or [s for s in said if s.source in self.lies]
        if not agreeing or len(odd) == len(said):
            return f"{' / '.join(_short(s.value) for s in said)} ({', '.join(s.source for s in said)})"
        return (
            f"{' / '.join(_short(s.value) for s in odd)} ({', '.join(s.source for s in odd)}), others {_short(middle)}"
        )

    # -- values, also on a circle --------------------------------------------------------------------------------------

    def _distance(self, a: float, b: float) -> float:
        return abs(self._turned(a - b))

    def _turned(self, difference: float) -> float:
        """The difference the short way round."""
        wrap = self._wrap
        return (difference + wrap / 2) % wrap - wrap / 2 if wrap else difference

    def _middle(self, values: Sequence[float]) -> float:
        """The median; on a circle, that of the angles from the value that is nearest to all."""
        if not self._wrap:
            return _median(values)
        start = min(values, key=lambda v: sum(self._distance(v, other) for other in values))
        return self._placed(start + _median([self._turned(v - start) for v in values]), values)

    def _mean(self, values: Sequence[float]) -> float:
        """The mean; on a circle, the direction of the sum of the vectors."""
        if not self._wrap:
            return sum(values) / len(values)
        radians = [v / self._wrap * 2 * pi for v in values]
        angle = atan2(sum(map(sin, radians)), sum(map(cos, radians)))
        return self._placed(angle / (2 * pi) * self._wrap, values)

    def _placed(self, value: float, values: Sequence[float]) -> float:
        """`value` in 0 to one turn, or around zero if there are negative ones among `values`."""
        assert self._wrap
        return self._turned(value) if min(values) < 0 else value % self._wrap


def _continued(since: tuple[float, float] | None, now: float) -> tuple[float, float]:
    """When a difference began and was last seen, if it is also seen now."""
    return (since[0] if since is not None and now - since[1] <= GAP_S else now), now


def _median(values: Sequence[float]) -> float:
    """The value in the middle, or the mean of the two in the middle. Several times as fast as that of `statistics`."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
