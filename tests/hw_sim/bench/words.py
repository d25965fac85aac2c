"""What a test expects of a gateway, in the words of the field.

    expect("ALT").within(10, of=5000).by(2 * s)
    expect("CHT1[1-4]", "EGT1[1-4]").becomes_old(within=4 * s)
    expect.alert("oil-pressure").raised("warning").by(3 * s)

The first words say what, the last one says when: `now`, `by`, `throughout` or `becomes_...`. It waits, on the clock of
the gateway, and raises AssertionError with what was seen instead. `fixgw.hw_sim.bench.expect` judges. One thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from fixgw.hw_sim.bench.expect import AlertIs, Claim, Each, Expectation, HasFlags, Holds, Is, SourceIs
from fixgw.kit.update import Value

__all__ = ["Expect", "Fault", "Latencies", "StartGateway", "minutes", "ms", "s"]

#: The types of the fixtures `gateway` and `fault`, for tests with annotations.
StartGateway = Callable[..., Any]
Fault = Callable[..., AbstractContextManager[Any]]

#: Seconds, for readers: ``by(2 * s)``.
s = 1.0
ms = 0.001
minutes = 60.0


class Judge(Protocol):
    """A gateway that can be watched."""

    def judge(self, claim: Claim, within: float = 0.0, lasting: float = 0.0) -> Expectation:
        """Let time pass until the claim is met or has failed. Raises AssertionError if it has failed."""


class _When:
    """The last words."""

    def __init__(self, judge: Judge, open: set[Any]) -> None:
        self._judge = judge
        self._open = open
        open.add(self)

    def _claim(self) -> Claim:
        raise NotImplementedError

    def _decide(self, within: float, lasting: float) -> float:
        __tracebackhide__ = True
        self._open.discard(self)
        took = self._judge.judge(self._claim(), within, lasting).took
        assert took is not None
        return took

    def now(self) -> None:
        """It is so now."""
        __tracebackhide__ = True
        self._decide(0.0, 0.0)

    def by(self, within: float, lasting: float = 0.0) -> float:
        """It is so within so many seconds, and then stays so for `lasting` seconds. Returns the seconds it took."""
        __tracebackhide__ = True
        return self._decide(within, lasting)

    def throughout(self, seconds: float) -> None:
        """It is so now, and stays so for so many seconds."""
        __tracebackhide__ = True
        self._decide(0.0, seconds)


class Keys(_When):
    """What is expected of each of the keys; several words must all be true."""

    def __init__(self, judge: Judge, open: set[Any], keys: tuple[str, ...]) -> None:
        super().__init__(judge, open)
        self._keys = keys
        self._claims: list[Callable[[str], Claim]] = []

    def __repr__(self) -> str:
        return f"expect({', '.join(map(repr, self._keys))})"

    def _claim(self) -> Claim:
        claims = self._claims
        __tracebackhide__ = True
        if not claims:
            raise TypeError(f"{self} says nothing of them: add a word such as good()")
        (key, *others) = self._keys
        if others or len(claims) > 1 or any(mark in key for mark in "*?["):
            return Each(self._keys, lambda key: [claim(key) for claim in claims])
        return claims[0](key)

    def _and(self, claim: Callable[[str], Claim]) -> Keys:
        self._claims.append(claim)
        return self

    def within(self, tolerance: float, *, of: float) -> Keys:
        """Its value is good, and differs from `of` by at most `tolerance`, in the key's units."""
        return self._and(lambda key: Is(key, of, tolerance))

    def reads(self, value: Value) -> Keys:
        """Its value is good, and exactly this."""
        return self._and(lambda key: Is(key, value))

    def between(self, low: float, high: float) -> Keys:
        """Its value is good, and neither below `low` nor above `high`."""
        return self._and(lambda key: Is(key, min=low, max=high))

    def good(self) -> Keys:
        """It is neither old nor bad nor failed."""
        return self._and(HasFlags)

    def flagged(self, *flags: str) -> Keys:
        """It has these flags: "old", "bad", "fail", "annunciate", "secfail", or "not old" and so on."""
        return self._and(lambda key: HasFlags(key, flags))

    def comes_from(self, source: str) -> Keys:
        """Its value is of this source: a name, or a pattern such as ``canfix/*``."""
        return self._and(lambda key: SourceIs(key, source))

    def becomes_good(self, within: float) -> float:
        """It is good within so many seconds. Returns the seconds that it took."""
        __tracebackhide__ = True
        return self.good().by(within)

    def becomes_old(self, within: float) -> float:
        """Nobody has written it within its tolerance, and it says so, within so many seconds."""
        __tracebackhide__ = True
        return self.flagged("old").by(within)

    def becomes_bad(self, within: float) -> float:
        """It is doubtful within so many seconds."""
        __tracebackhide__ = True
        return self.flagged("bad").by(within)

    def fails(self, within: float) -> float:
        """It has no valid value any more within so many seconds."""
        __tracebackhide__ = True
        return self.flagged("fail").by(within)


class Alert(_When):
    """What is expected of an alert of the plugin `alerts`."""

    def __init__(self, judge: Judge, open: set[Any], id: str) -> None:
        super().__init__(judge, open)
        self._id = id
        self._state = "raised"
        self._level = ""

    def __repr__(self) -> str:
        return f"expect.alert({self._id!r})"

    def _claim(self) -> Claim:
        return AlertIs(self._id, self._state, self._level)

    def raised(self, level: str = "") -> Alert:
        """It is active: advisory, caution or warning, if a level is given."""
        self._state, self._level = "raised", level
        return self

    def acknowledged(self) -> Alert:
        self._state = "acknowledged"
        return self

    def cleared(self) -> Alert:
        """It is not shown."""
        self._state = "cleared"
        return self


class That(_When):
    """What an expression says of the gateway."""

    def __init__(self, judge: Judge, open: set[Any], expression: str) -> None:
        super().__init__(judge, open)
        self._expression = expression

    def __repr__(self) -> str:
        return f"expect.that({self._expression!r})"

    def _claim(self) -> Claim:
        return Holds(self._expression)


class Expect:
    """Begins what is expected of one gateway: keys or patterns, such as ``expect("EGT1[1-4]")``."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        #: What was begun and not judged: a test that ends with any of them proves less than it says.
        self.open: set[Any] = set()

    def __call__(self, *keys: str) -> Keys:
        if not keys:
            raise TypeError("expect() needs a key")
        return Keys(self._judge, self.open, keys)

    def alert(self, id: str) -> Alert:
        """An alert, by its id."""
        return Alert(self._judge, self.open, id)

    def that(self, expression: str) -> That:
        """An expression, such as ``IAS > 80 and not ALT.old``; see `fixgw.kit.expression`."""
        return That(self._judge, self.open, expression)


@dataclass(frozen=True)
class Latencies:
    """Measured latencies in seconds, sorted."""

    seconds: Sequence[float]

    def __repr__(self) -> str:
        return f"p50 {self.p50 * 1e3:.1f} ms, p99 {self.p99 * 1e3:.1f} ms, max {self.max * 1e3:.1f} ms"

    def share(self, part: float) -> float:
        """The latency that so great a part of all do not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(part * len(self.seconds)))]

    @property
    def p50(self) -> float:
        return self.share(0.5)

    @property
    def p99(self) -> float:
        return self.share(0.99)

    @property
    def max(self) -> float:
        return self.seconds[-1]
