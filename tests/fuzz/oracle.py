"""What must hold for every parser, whatever it is fed: `Parser` for a whole text, `Stream` for bytes cut anywhere.

Both are called with an input, and raise AssertionError, or whatever the parser should not have raised.
"""

from __future__ import annotations

import logging
import random
import sys
import time
import types
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from fixgw.database import BAD, FAIL, LONGEST_TEXT
from fixgw.kit.update import Update

#: The longest input: twice as much as a link reads at a time, and a number that Python does not read.
MAX_INPUT_BYTES = 8192
#: CPU time that one input may take, instrumented and on a slow machine.
CPU_LIMIT_S = 2.0
#: An input is cut into at most so many pieces, and a last one.
MOST_PIECES = 200
#: The outputs that an input may cause: so many, and so many more for each of its bytes.
MOST_OUTPUTS, MOST_OUTPUTS_PER_BYTE = 300, 3


class Clock:
    """Monotonic seconds that only the oracle winds on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Parser:
    """`parse` takes an input whole, and may raise only what `raises` names. It checks its result itself."""

    parse: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()

    def __call__(self, data: bytes) -> None:
        with _limited(), suppress(*self.raises):
            self.parse(data)


@dataclass(frozen=True)
class Stream:
    """`make` makes a decoder for a clock: ``feed(data)`` returns what it has decoded, in order.

    A decoder may also have ``tick()`` and ``interrupt()`` as in `fixgw.drivers.links.instrument.Protocol`, ``counts``
    that add up, and ``reopen()`` for when its driver begins anew. It reads `good` again after any input, once this has
    come `repeats` times, `interval` seconds apart. Fed, it holds at most `held_bytes` more than when it was new.
    """

    make: Callable[[Clock], Any]
    good: bytes
    repeats: int = 3
    interval: float = 0.0
    held_bytes: int = 100_000

    def __call__(self, data: bytes) -> None:
        with _limited():
            whole, outputs = self._feed([data])
            cuts = random.Random(zlib.crc32(data))
            parts = pieces(data, cuts)
            cut, cut_outputs = self._feed(parts)
            self._check(whole[0])
            assert repr(cut_outputs) == repr(outputs), f"cut into {[len(p) for p in parts]}, it says something else"
            assert getattr(cut[0], "counts", None) == getattr(whole[0], "counts", None), "cut, it counts otherwise"
            self._live(parts, cuts)
            self._recover(*whole)

    def flood(self, data: bytes, size: int) -> None:
        """Feed `data` again and again, `size` bytes together: nothing piles up."""
        clock = Clock()
        decoder = self.make(clock)
        with _limited():
            for _ in range(size // max(1, len(data)) + 1):
                check_outputs(decoder.feed(data), len(data))
                clock.now += 0.01
        self._check(decoder)

    def _feed(self, parts: Iterable[bytes]) -> tuple[tuple[Any, Clock], list[Any]]:
        """A new decoder that has been fed, its clock, and what it said."""
        clock = Clock()
        decoder = self.make(clock)
        outputs = [output for part in parts for output in decoder.feed(part)]
        check_outputs(outputs, sum(map(len, parts)))
        return (decoder, clock), outputs

    def _live(self, parts: list[bytes], cuts: random.Random) -> None:
        """Feed a decoder while time passes, and bytes are lost now and then."""
        clock = Clock()
        decoder = self.make(clock)
        tick: Callable[[], list[Any]] = getattr(decoder, "tick", list)
        interrupt: Callable[[], object] = getattr(decoder, "interrupt", bool)
        for part in parts:
            check_outputs(decoder.feed(part), len(part))
            clock.now += cuts.choice((0.0, 0.05, 0.4, 3.0, 20.0))
            check_outputs(tick(), 0)
            if not cuts.randrange(8):
                interrupt()

    def _recover(self, decoder: Any, clock: Clock) -> None:
        """Whatever it has been fed, it reads what is good again."""
        fresh_clock = Clock()
        fresh = self.make(fresh_clock)
        reopen: Callable[[], object] = getattr(decoder, "reopen", bool)
        expected, found = [], []
        for _ in range(self.repeats):
            reopen()
            expected, found = fresh.feed(self.good), decoder.feed(self.good)
            clock.now += self.interval
            fresh_clock.now += self.interval
        missing = known(expected) - known(found)
        assert known(expected), "what is good gives nothing"
        assert not missing, f"after this it does not read {sorted(missing)}"

    @cached_property
    def _size_of_new(self) -> int:
        return size_of(self.make(Clock()))

    def _check(self, decoder: Any) -> None:
        held = size_of(decoder) - self._size_of_new
        assert held <= self.held_bytes, f"holds {held} bytes"
        counts: dict[str, int] | None = getattr(decoder, "counts", None)
        if counts is not None and "received" in counts:
            refused = sum(counts[reason] for reason in decoder.REFUSALS)
            assert counts["received"] == counts.get("used", 0) + counts.get("ignored", 0) + refused, counts


def pieces(data: bytes, cuts: random.Random) -> list[bytes]:
    """`data` cut somewhere, sometimes into single bytes."""
    longest = cuts.choice((1, 2, 7, 40, 400))
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + cuts.randint(1, longest) if len(parts) < MOST_PIECES else len(data)
        parts.append(data[at:end])
        at = end
    return parts


@contextmanager
def _limited() -> Any:
    begun = time.thread_time()
    yield
    spent = time.thread_time() - begun
    assert spent < CPU_LIMIT_S, f"took {spent:.1f} s"


# -- outputs -----------------------------------------------------------------------------------------------------------


def check_outputs(outputs: list[Any], fed_bytes: int) -> None:
    """As many outputs as the input warrants; updates that an item can take, or that fail it."""
    most = MOST_OUTPUTS + MOST_OUTPUTS_PER_BYTE * fed_bytes
    assert len(outputs) <= most, f"{len(outputs)} outputs from {fed_bytes} bytes"
    for output in outputs:
        if isinstance(output, Update):
            check_update(output)


def check_update(update: Update) -> None:
    failed = bool(update.flags & (BAD | FAIL))
    assert update.value is not None or failed, f"{update} says nothing"
    assert update.value is None or failed or is_sane(update.value), f"{update} cannot be stored"
    assert not failed or update.reason, f"{update} gives no reason"
    assert len(update.reason) < 300, f"{update.key} has a reason of {len(update.reason)} characters"


def is_sane(value: object) -> bool:
    """Whether an item could hold the value."""
    if isinstance(value, str):
        return value.isprintable() and len(value) <= LONGEST_TEXT
    return (
        isinstance(value, (bool, int, float))
        and isfinite(value)
        and abs(value) < 2**63 + isinstance(value, float) * 1e308
    )


def known(outputs: Iterable[Any]) -> set[str]:
    """What the outputs say: the keys that have a value, or the outputs themselves."""
    return {
        output.key if isinstance(output, Update) else repr(output)
        for output in outputs
        if not isinstance(output, Update) or output.value is not None
    }


_ATOMS = (bool, int, float, complex, str, bytes, bytearray, type(None))
_NOT_HELD = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    Clock,
    logging.Logger,
)


def size_of(thing: object) -> int:
    """The memory in bytes of an object and all that it holds, without code."""
    seen: set[int] = set()
    size, waiting = 0, [thing]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _NOT_HELD):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        if isinstance(each, _ATOMS):
            continue
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset, deque)):
            waiting += each
        else:
            waiting += vars(each).values() if hasattr(each, "__dict__") else ()
            slots = (name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ()))
            waiting += [getattr(each, name) for name in slots if hasattr(each, name)]
    return size
