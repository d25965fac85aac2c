"""The central database of flight information.

An `Item` has a key (``IAS``), a type, units, a range, a tolerance in milliseconds, named aux values (``IAS.Vne``) and a
current `Reading`: one immutable object, replaced whole, so that nobody ever sees a value from one write with flags from
another. Reading takes no lock.

Threads: every method may be called from any thread. Subscribers are called in the thread that writes; when two threads
write one item in the same instant, one of them delivers for both, in order, the newest last.

The module-level functions (`read`, `write`, `listkeys` ...) are the calls that plugins written for other gateways use;
they act on the database of the running gateway (`bind`, `current`).
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fixgw.errors import BadValue, UnknownKey

if TYPE_CHECKING:
    from fixgw.rawitem import RawItem

log = logging.getLogger(__name__)

Value = float | int | bool | str
TypeName = Literal["float", "int", "bool", "str"]
Clock = Callable[[], float]

# Flags are bits in the order of the wire's "aobfs".
ANNUNCIATE = 16
OLD = 8
BAD = 4
FAIL = 2
SECFAIL = 1
WRITABLE = ANNUNCIATE | BAD | FAIL | SECFAIL  # OLD belongs to the clock, not to the writer
FLAG_NAMES = {ANNUNCIATE: "annunciate", OLD: "old", BAD: "bad", FAIL: "fail", SECFAIL: "secfail"}
FLAG_LETTERS = {"a": ANNUNCIATE, "o": OLD, "b": BAD, "f": FAIL, "s": SECFAIL}

_FLAG_TUPLES = tuple(tuple(bool(bits & flag) for flag in FLAG_NAMES) for bits in range(32))
_FLAG_TEXTS = tuple("".join("1" if bits & flag else "0" for flag in FLAG_NAMES) for bits in range(32))

NEVER = float("-inf")
LONGEST_TEXT = 1000
SOURCES_KEPT = 16
REDELIVERIES = 100
CALLBACK_STRIKES = 10
LOG_INTERVAL = 10.0
TRUE_WORDS = frozenset(("True", "true", "T", "yes", "1"))
FALSE_WORDS = frozenset(("False", "false", "F", "no", "0"))


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an item says at one moment. Immutable.

    `flags` are bits (`ANNUNCIATE` ... `SECFAIL`), `stamp` is the monotonic time in seconds of the last stored value
    (`NEVER` before the first), `source` names who wrote it, `reasons` pairs each set flag with the reason in words.
    """

    value: Value
    flags: int
    stamp: float
    source: str
    reasons: tuple[tuple[int, str], ...] = ()

    @property
    def annunciate(self) -> bool:
        return bool(self.flags & ANNUNCIATE)

    @property
    def old(self) -> bool:
        return bool(self.flags & OLD)

    @property
    def bad(self) -> bool:
        return bool(self.flags & BAD)

    @property
    def fail(self) -> bool:
        return bool(self.flags & FAIL)

    @property
    def secfail(self) -> bool:
        return bool(self.flags & SECFAIL)

    @property
    def good(self) -> bool:
        """Fresh, not suspect, not failed."""
        return not self.flags & (OLD | BAD | FAIL)

    @property
    def flag_text(self) -> str:
        """The flags as ``aobfs`` characters, ``"01000"`` for old."""
        return _FLAG_TEXTS[self.flags]

    def as_tuple(self) -> tuple[Value, bool, bool, bool, bool, bool]:
        """The plain tuple ``(value, annunciate, old, bad, fail, secfail)`` that existing plugins expect."""
        return (self.value, *_FLAG_TUPLES[self.flags])  # type: ignore[return-value]

    def reason(self, flag: int) -> str:
        """Why `flag` is set, in words; empty when it is not."""
        return next((text for bit, text in self.reasons if bit == flag), "")

    def age(self, now: float) -> float:
        """Seconds since the value was stored; infinite before the first."""
        return now - self.stamp


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed about an item.

    `tolerance` is in milliseconds, 0 = never ages. A `setting` (altimeter setting, bug, trim, encoder, button) is only
    clamped to its range; a measurement out of range is also flagged bad. `sources` ranks the sources, best first:
    an entry stands for itself and for everything below it (``canfix`` covers ``canfix/12``).
    """

    key: str
    type: TypeName = "float"
    description: str = ""
    units: str = ""
    min: float | int | None = None
    max: float | int | None = None
    initial: Value | None = None
    tolerance: int = 0
    aux: tuple[str, ...] = ()
    setting: bool = False
    sources: tuple[str, ...] = ()


_PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str}
_WIDEST: dict[str, tuple[float, float]] = {
    "float": (-sys.float_info.max, sys.float_info.max),
    "int": (-(2**63), 2**63 - 1),
    "bool": (False, True),
}

ReadingCallback = Callable[[str, Reading], object]
AuxCallback = Callable[[str, str, "Value | None"], object]


class Subscription:
    """A callback on one item or on all; `close` ends it and may be called at any time, twice too."""

    __slots__ = ("_database", "callback", "errors", "key", "on_aux")

    def __init__(
        self, database: Database, key: str, callback: ReadingCallback | None, on_aux: AuxCallback | None
    ) -> None:
        self._database = database
        self.key = key
        self.callback = callback
        self.on_aux = on_aux
        self.errors = 0

    def close(self) -> None:
        self._database._unsubscribe(self)


class Item:
    """One item of the database. Made by `Database.define` only."""

    __slots__ = (
        "_aux_subscribers",
        "_checked",
        "_clock",
        "_conflict_with",
        "_database",
        "_delivering",
        "_high",
        "_last_good",
        "_lock",
        "_low",
        "_others",
        "_python_type",
        "_rank_of",
        "_scheduled",
        "_subscribers",
        "_subscriptions",
        "aux",
        "conflicts",
        "definition",
        "key",
        "ranked",
        "reading",
        "refused",
        "tolerance",
        "writes",
    )

    def __init__(self, database: Database, definition: Definition) -> None:
        self.definition = definition
        self.key = definition.key
        #: Seconds; 0 = never ages.
        self.tolerance = definition.tolerance / 1000.0
        #: aux name -> value or None; read freely, write with `write_aux`.
        self.aux: dict[str, Value | None] = dict.fromkeys(definition.aux)
        #: Counters: stored or failed writes, refused values, writes that met another live source.
        self.writes = 0
        self.refused = 0
        self.conflicts = 0
        self.ranked = bool(definition.sources)
        self._database = database
        self._clock = database.clock
        self._lock = threading.Lock()
        self._delivering = False
        self._subscriptions: tuple[Subscription, ...] = ()
        self._subscribers: tuple[ReadingCallback, ...] = ()
        self._aux_subscribers: tuple[AuxCallback, ...] = ()
        self._others: dict[str, Reading] = {}  # what sources other than the published one last said
        self._rank_of: dict[str, int | None] = {}
        self._conflict_with = ""
        self._checked = 0  # flags set by our own checks, to be cleared by a good write
        self._last_good = NEVER
        self._scheduled = False
        self._python_type: type = _PYTHON_TYPES[definition.type]
        low, high = _WIDEST.get(definition.type, (0, 0))
        self._low = low if definition.min is None else self._python_type(definition.min)
        self._high = high if definition.max is None else self._python_type(definition.max)
        if definition.type == "str":
            self._python_type = type(None)  # text always goes the careful way
        value = _PYTHON_TYPES[definition.type]() if definition.initial is None else definition.initial
        value, check, _ = self._admit(value)
        if check & FAIL:
            raise BadValue(self.key, "the initial value is not a number", "number")
        if definition.initial is None and self._is_number:
            value = min(max(value, self._low), self._high)  # type: ignore[type-var]
        self.reading = Reading(value, OLD, NEVER, "", ((OLD, "never written"),))

    # -- facts ---------------------------------------------------------------------------------------------------------

    @property
    def type(self) -> TypeName:
        return self.definition.type

    @property
    def units(self) -> str:
        return self.definition.units

    @property
    def description(self) -> str:
        return self.definition.description

    @property
    def min(self) -> float | int | None:
        return self.definition.min

    @property
    def max(self) -> float | int | None:
        return self.definition.max

    @property
    def _is_number(self) -> bool:
        return self.definition.type in ("float", "int")

    # -- writing -------------------------------------------------------------------------------------------------------

    def convert(self, value: Any) -> Value:
        """`value` as this item's type, not clamped.

        Raises `BadValue` when it cannot be, NaN and infinity included. Text is converted as on the wire.
        """
        kind = self.definition.type
        try:
            if kind == "float":
                if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
                    raise ValueError
                try:
                    number = float(value)
                except OverflowError:
                    number = float("inf")
                if not -sys.float_info.max <= number <= sys.float_info.max:
                    raise BadValue(self.key, f"{number} is not a finite number", "number")
                return number
            if kind == "int":
                if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
                    raise ValueError
                if isinstance(value, str):
                    if not value.lstrip(" +-").isdecimal() and _is_non_finite(value):
                        raise BadValue(self.key, f"{value.strip()} is not a finite number", "number")
                    return int(value)
                if isinstance(value, float) and not value.is_integer():
                    if _is_non_finite(value):
                        raise BadValue(self.key, f"{value} is not a finite number", "number")
                    raise ValueError
                return int(value)
            if kind == "bool":
                if isinstance(value, str):
                    if value in TRUE_WORDS:
                        return True
                    if value in FALSE_WORDS:
                        return False
                elif value in (0, 1):
                    return bool(value)
                raise ValueError
            if not isinstance(value, str):
                raise ValueError
        except BadValue:
            raise
        except (TypeError, ValueError):
            raise BadValue(self.key, f"{_shown(value)} is not {_A_TYPE[kind]}", "type") from None
        if len(value) > LONGEST_TEXT:
            raise BadValue(self.key, f"text of {len(value)} characters, at most {LONGEST_TEXT}", "text")
        if not value.isprintable():
            raise BadValue(self.key, "text with control characters", "text")
        return value

    def write(
        self,
        value: Any,
        source: str = "",
        flags: int | None = None,
        reason: str = "",
        mask: int = WRITABLE,
    ) -> Reading:
        """Store `value` and notify; returns the reading that is now `source`'s.

        `flags` None leaves annunciate, bad, fail and secfail as they are; otherwise the flags in `mask` become those
        in `flags`, with `reason` in words. A value out of range is clamped (a measurement is also flagged bad); one
        that is NaN or infinite is not stored and the item is flagged fail. Raises `BadValue` for a wrong type; then
        nothing is stored. Any thread; subscribers are called before it returns.
        """
        if type(value) is self._python_type and self._low <= value <= self._high:
            check = 0
            why = ""
        else:
            try:
                value, check, why = self._admit(value)
            except BadValue:
                self.refused += 1
                raise
        with self._lock:
            self.writes += 1
            previous = self.reading
            if not (flags or check or previous.flags or self.ranked) and source == previous.source:
                self.reading = reading = Reading(value, 0, self._clock(), source)
            else:
                reading = self._compose(value, source, flags, reason, mask, check, why)
                if self.reading is previous:  # a ranked source that is not the best
                    return reading
            if not self._scheduled and self.tolerance:
                self._scheduled = True
                self._database._schedule(self, reading.stamp + self.tolerance)
            if self._delivering or not self._subscribers:
                return reading
            self._delivering = True
        self._deliver()
        return reading

    def flag(self, flags: int, mask: int, source: str = "", reason: str = "") -> Reading:
        """Set the flags in `mask` to those in `flags`, leaving value and age alone; OLD may be among them."""
        with self._lock:
            previous = self.reading
            base = previous if source == previous.source else self._others.get(source, previous)
            reading = _flagged(base, flags, mask, reason or f"set by {source or 'nobody'}")
            self._checked &= ~mask
            if reading.flags and not base.flags & (OLD | BAD | FAIL):
                self._last_good = base.stamp
            if base is not previous:
                self._others[source] = reading
                self._rerank()
            else:
                self.reading = reading
                if self.ranked:
                    self._rerank()
            if self.reading is previous or self._delivering or not self._subscribers:
                return reading
            self._delivering = True
        self._deliver()
        return reading

    def fail(self, reason: str, source: str = "") -> Reading:
        """Flag the item failed, for `reason`: a driver that knows that its instrument cannot tell."""
        return self.flag(FAIL, FAIL, source, reason)

    def write_aux(self, name: str, value: Any) -> Value | None:
        """Set the aux value `name`, clamped to the item's range; None unsets it. Returns what is now stored.

        Raises `UnknownKey` for a name that the definition lacks and `BadValue` for a value of the wrong type.
        """
        if name not in self.aux:
            raise UnknownKey(f"{self.key}.{name}", (f"{self.key}.{a}" for a in self.aux))
        if value is not None:
            value = self.convert(value)
            if self._is_number:
                value = min(max(value, self._low), self._high)
        self.aux[name] = value
        for callback in self._aux_subscribers:
            try:
                callback(self.key, name, value)
            except (Exception, SystemExit) as error:
                self._database._callback_failed(self, callback, error)
        return value  # type: ignore[no-any-return]

    def _admit(self, value: Any) -> tuple[Value, int, str]:
        """(value, flags, reason): what is stored for `value`, and what the checks say of it. Raises `BadValue`."""
        try:
            value = self.convert(value)
        except BadValue as error:
            if error.reason != "number":
                raise
            return 0, FAIL, f"the value written was {_shown(value)}"
        if not self._is_number or self._low <= value <= self._high:
            return value, 0, ""  # type: ignore[no-any-return]
        bound = self._low if value < self._low else self._high
        if self.definition.setting:
            return bound, 0, ""
        return bound, BAD, f"{value} is {'below' if bound == self._low else 'above'} the range ({bound} {self.units})"

    def _compose(
        self, value: Value, source: str, flags: int | None, reason: str, mask: int, check: int, why: str
    ) -> Reading:
        """The careful half of `write`, lock held: flags, reasons, sources, ranking. Publishes in `self.reading`."""
        published = self.reading
        own = published if source == published.source else self._others.get(source)
        base = own if own is not None and self.ranked else published
        keep = base.flags & ~OLD & ~self._checked
        if self.ranked and (own is None or own.source != source):
            keep = 0  # nobody's flags are inherited by another ranked source
        if self.ranked:
            keep &= ~SECFAIL  # computed
        reasons = {bit: text for bit, text in base.reasons if bit & keep}
        if flags is not None:
            keep = (keep & ~mask) | (flags & mask)
            for bit in FLAG_NAMES:
                if bit & mask & flags:
                    reasons[bit] = reason or f"set by {source or 'nobody'}"
        self._checked = check & ~keep
        if check:
            keep |= check
            reasons[check] = why
        stamp = self._clock()
        if check & FAIL:  # not stored: the value and its age stay
            value, stamp = (base.value, base.stamp) if base.source in ("", source) else (published.value, NEVER)
            if base.flags & OLD or stamp == NEVER:
                keep |= OLD
                reasons[OLD] = base.reason(OLD) or "never written"
        reading = Reading(
            value, keep, stamp, source, tuple((b, reasons.get(b, "")) for b in FLAG_NAMES if b & keep) if keep else ()
        )
        if keep & (BAD | FAIL) and base.good:
            self._last_good = base.stamp
        if self.ranked:
            if source == published.source or not published.source:
                self.reading = reading
                self._others.pop(source, None)
            else:
                self._keep_other(reading)
            self._rerank()
            return reading
        if published.source and source != published.source:
            self._others.pop(source, None)
            self._keep_other(published)
            if not self.definition.setting and not published.flags & OLD and published.source != "initial":
                self.conflicts += 1
                self._conflict_with = published.source
        self.reading = reading
        return reading

    def _keep_other(self, reading: Reading) -> None:
        others = self._others
        others[reading.source] = reading
        if len(others) >= SOURCES_KEPT:
            for name in [n for n in others if self.rank(n) is None][: len(others) - SOURCES_KEPT + 1]:
                del others[name]
            if len(others) >= 4 * SOURCES_KEPT:  # even sources below a ranked name are bounded
                del others[min(others, key=lambda n: others[n].stamp)]

    # -- sources -------------------------------------------------------------------------------------------------------

    def rank(self, source: str) -> int | None:
        """0 for the best ranked source, None for one that is not in the ranking."""
        try:
            return self._rank_of[source]
        except KeyError:
            pass
        for rank, entry in enumerate(self.definition.sources):
            if source == entry or source.startswith(entry + "/"):
                break
        else:
            rank = None  # type: ignore[assignment]
        if len(self._rank_of) < 4 * SOURCES_KEPT:
            self._rank_of[source] = rank
        return rank

    def _rerank(self) -> None:
        """Publish the best live ranked source, lock held; sets or clears secfail."""
        if not self.ranked:
            return
        current = self.reading
        candidates = [r for r in (current, *self._others.values()) if r.source and self.rank(r.source) is not None]
        live = [r for r in candidates if not r.flags & (OLD | FAIL)]
        if live:
            best = min(live, key=lambda r: (self.rank(r.source), -r.stamp))
        elif candidates:
            best = max(candidates, key=lambda r: r.stamp)
        else:  # only unranked sources have written: kept, never published
            if current.source:
                self._others[current.source] = current
                self.reading = Reading(
                    current.value, OLD, NEVER, "", ((OLD, f"no ranked source has written ({current.source} has)"),)
                )
            return
        present = {self.rank(r.source) for r in live}
        missing = [
            name
            for rank, name in enumerate(self.definition.sources)
            if rank not in present and rank != self.rank(best.source)
        ]
        if missing:
            best_published = _flagged(best, SECFAIL, SECFAIL, f"nothing from {', '.join(missing)}")
        else:
            best_published = _flagged(best, 0, SECFAIL, "")
        if current.source and best.source != current.source:
            self._others[current.source] = current
            self._others.pop(best.source, None)
        self.reading = best_published

    def readings(self) -> list[Reading]:
        """What every source last said, the published one first."""
        with self._lock:
            return [self.reading, *self._others.values()]

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> float | None:
        """Mark what has not been rewritten in time as old; the next time to look, or None when all is old."""
        with self._lock:
            previous = self.reading
            tolerance = self.tolerance
            due = None
            if not previous.flags & OLD and previous.stamp != NEVER:
                if previous.stamp + tolerance <= now:
                    if previous.good:
                        self._last_good = previous.stamp
                    text = f"nothing from {previous.source or 'its source'} within {self.definition.tolerance} ms"
                    self.reading = _flagged(previous, OLD, OLD, text)
                else:
                    due = previous.stamp + tolerance
            if self.ranked:
                for name, reading in self._others.items():
                    if not reading.flags & OLD and reading.stamp != NEVER:
                        if reading.stamp + tolerance <= now:
                            text = f"nothing from {name} within {self.definition.tolerance} ms"
                            self._others[name] = _flagged(reading, OLD, OLD, text)
                        else:
                            due = min(due or float("inf"), reading.stamp + tolerance)
                self._rerank()
            self._scheduled = due is not None
            if self.reading is previous or self.reading == previous or self._delivering or not self._subscribers:
                return due
            self._delivering = True
        self._deliver()
        return due

    # -- subscribers ---------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Call the subscribers until the newest reading has been delivered; `_delivering` is ours."""
        for _ in range(REDELIVERIES):
            reading = self.reading
            callbacks = iter(self._subscribers)
            try:
                while True:
                    try:
                        for callback in callbacks:
                            callback(self.key, reading)
                        break
                    except (Exception, SystemExit) as error:
                        self._database._callback_failed(self, callback, error)
            except BaseException:
                self._delivering = False
                raise
            self._delivering = False
            if self.reading is reading:
                return
            with self._lock:  # somebody wrote meanwhile, and may have left the delivery to us
                if self._delivering or self.reading is reading:
                    return
                self._delivering = True
        self._delivering = False
        self._database._complain(self.key, f"{self.key}: its subscribers keep writing it; delivery was cut short")

    def _set_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        with self._lock:
            self._subscriptions = tuple(subscriptions)
            self._subscribers = tuple(s.callback for s in subscriptions if s.callback is not None)
            self._aux_subscribers = tuple(s.on_aux for s in subscriptions if s.on_aux is not None)

    # -- explaining ----------------------------------------------------------------------------------------------------

    def explain(self) -> dict[str, Any]:
        """Where the value comes from, which sources exist, why it is flagged, when it was last good (seconds ago)."""
        now = self._clock()
        readings = self.readings()
        reading = readings[0]
        last_good = reading.stamp if reading.good else self._last_good
        return {
            "key": self.key,
            "description": self.description,
            "value": reading.value,
            "units": self.units,
            "flags": {FLAG_NAMES[bit]: text for bit, text in reading.reasons},
            "source": reading.source or None,
            "age": _seconds(reading.age(now)),
            "last_good": _seconds(now - last_good),
            "tolerance": self.tolerance,
            "range": [self.min, self.max],
            "ranking": list(self.definition.sources),
            "sources": [
                {
                    "source": r.source,
                    "published": r is reading,
                    "rank": self.rank(r.source) if self.ranked else None,
                    "value": r.value,
                    "flags": {FLAG_NAMES[bit]: text for bit, text in r.reasons},
                    "age": _seconds(r.age(now)),
                }
                for r in readings
                if r.source
            ],
            "writes": self.writes,
            "refused": self.refused,
            "conflicts": self.conflicts,
            "conflict_with": self._conflict_with or None,
            "aux": dict(self.aux),
        }


_A_TYPE = {"float": "a number", "int": "a whole number", "bool": "True or False", "str": "text"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _seconds(age: float) -> float | None:
    return None if age == float("inf") else round(age, 3)


def _is_non_finite(value: Any) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return number != number or abs(number) == float("inf")


def _flagged(reading: Reading, flags: int, mask: int, reason: str) -> Reading:
    """`reading` with the flags in `mask` set to those in `flags`; itself when that changes nothing."""
    wanted = (reading.flags & ~mask) | (flags & mask)
    reasons = {bit: text for bit, text in reading.reasons if bit & wanted and not bit & mask}
    reasons.update((bit, reason) for bit in FLAG_NAMES if bit & wanted & mask)
    pairs = tuple((bit, reasons.get(bit, "")) for bit in FLAG_NAMES if bit & wanted)
    if wanted == reading.flags and pairs == reading.reasons:
        return reading
    return Reading(reading.value, wanted, reading.stamp, reading.source, pairs)


class Mailbox:
    """The latest reading of each key that changed since the last `wait`; bounded by the number of keys.

    For a plugin's own thread: writers put, one thread waits. Use as a context manager, or `close` it.
    """

    def __init__(self, database: Database, keys: Iterable[str]) -> None:
        self._condition = threading.Condition()
        self._pending: dict[str, Reading] = {}
        self._subscriptions = [database.subscribe(key, self._put) for key in keys]

    def _put(self, key: str, reading: Reading) -> None:
        with self._condition:
            self._pending[key] = reading
            self._condition.notify()

    def wait(self, timeout: float) -> dict[str, Reading]:
        """What changed, in order of first change; empty after `timeout` seconds, or when woken by `wake`."""
        with self._condition:
            if not self._pending:
                self._condition.wait(timeout)
            pending, self._pending = self._pending, {}
        return pending

    def wake(self) -> None:
        """Let a waiting thread go on, to look at its stop flag. Any thread."""
        with self._condition:
            self._condition.notify_all()

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self.wake()

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Database:
    """All items, in the order of their definition.

    `clock` is monotonic, in seconds. `start` runs the thread that ages items; with an injected clock, call `age`
    instead.
    """

    def __init__(self, definitions: Iterable[Definition] = (), clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._items: dict[str, Item] = {}
        self._wildcards: tuple[Subscription, ...] = ()
        self._lock = threading.RLock()
        self._due: list[tuple[float, int, Item]] = []
        self._arrivals: deque[tuple[float, int, Item]] = deque()
        self._order = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._complaints: dict[str, float] = {}
        self.callback_errors = 0
        for definition in definitions:
            self.define(definition)

    # -- items ---------------------------------------------------------------------------------------------------------

    def define(self, definition: Definition) -> Item:
        """Add an item. Raises ValueError for a key that exists, `BadValue` for an unfit initial value."""
        with self._lock:
            if definition.key in self._items:
                raise ValueError(f"{definition.key} is defined twice")
            item = self._items[definition.key] = Item(self, definition)
            item._set_subscriptions(self._wildcards)
            return item

    def item(self, key: str) -> Item:
        """The item `key`. Raises `UnknownKey`, which names the nearest."""
        try:
            return self._items[key]
        except KeyError:
            raise UnknownKey(key, self._items) from None

    def keys(self) -> list[str]:
        return list(self._items)

    def items(self) -> list[Item]:
        return list(self._items.values())

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._items)

    def read(self, key: str) -> Reading:
        """The current reading of an item. Takes no lock. Raises `UnknownKey`."""
        try:
            return self._items[key].reading
        except KeyError:
            raise UnknownKey(key, self._items) from None

    def read_aux(self, key: str) -> Value | None:
        """The aux value ``"IAS.Vne"``; None when unset. Raises `UnknownKey`."""
        item, name = self._split(key)
        return item.aux[name]

    def write(
        self, key: str, value: Any, source: str = "", flags: int | None = None, reason: str = ""
    ) -> Reading | None:
        """Write an item (see `Item.write`), or with ``"IAS.Vne"`` an aux value (then returns None)."""
        item = self._items.get(key)
        if item is not None:
            return item.write(value, source, flags, reason)
        item, name = self._split(key)
        item.write_aux(name, value)
        return None

    def _split(self, key: str) -> tuple[Item, str]:
        base, dot, name = key.partition(".")
        item = self.item(base)
        if not dot or name not in item.aux:
            raise UnknownKey(key, (f"{base}.{a}" for a in item.aux))
        return item, name

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def subscribe(
        self, key: str, callback: ReadingCallback | None = None, on_aux: AuxCallback | None = None
    ) -> Subscription:
        """Call ``callback(key, reading)`` on every write and flag change, ``on_aux(key, name, value)`` for aux values.

        Both run in the writer's thread and must return at once. `key` ``"*"`` means every item, also ones defined
        later. A callback that raises is counted and logged, and dropped after `CALLBACK_STRIKES` failures in a row.
        """
        subscription = Subscription(self, key, callback, on_aux)
        with self._lock:
            if key == "*":
                self._wildcards += (subscription,)
            for item in self.items() if key == "*" else [self.item(key)]:
                item._set_subscriptions((*item._subscriptions, subscription))
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._wildcards = tuple(s for s in self._wildcards if s is not subscription)
            for item in self.items() if subscription.key == "*" else [self.item(subscription.key)]:
                if subscription in item._subscriptions:
                    item._set_subscriptions([s for s in item._subscriptions if s is not subscription])

    def mailbox(self, keys: Iterable[str] = ("*",)) -> Mailbox:
        """A `Mailbox` for `keys`, or for all."""
        return Mailbox(self, keys)

    def _callback_failed(self, item: Item, callback: object, error: BaseException) -> None:
        self.callback_errors += 1
        for subscription in item._subscriptions:
            if callback in (subscription.callback, subscription.on_aux):
                subscription.errors += 1
                name = getattr(callback, "__qualname__", repr(callback))
                if subscription.errors >= CALLBACK_STRIKES:
                    subscription.close()
                    log.error("callback %s on %s dropped after %d errors", name, item.key, subscription.errors)
                else:
                    self._complain(f"{id(callback)}", f"callback {name} on {item.key} failed: {error!r}")
                return

    def _complain(self, about: str, message: str) -> None:
        """Log at most once per `LOG_INTERVAL` and subject."""
        now = self.clock()
        if now - self._complaints.get(about, NEVER) >= LOG_INTERVAL:
            if len(self._complaints) > 1000:
                self._complaints.clear()
            self._complaints[about] = now
            log.warning("%s", message)

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _schedule(self, item: Item, due: float) -> None:
        self._order += 1
        self._arrivals.append((due, self._order, item))
        if not self._wake.is_set():
            self._wake.set()

    def age(self) -> float:
        """Mark what has become old, now; returns the seconds until something may become old next (infinite: nothing).

        Called by the ageing thread; by tests with an injected clock. One thread at a time.
        """
        due = self._due
        while self._arrivals:
            heappush(due, self._arrivals.popleft())
        now = self.clock()
        while due and due[0][0] <= now:
            _, _, item = heappop(due)
            again = item._expire(now)
            if again is not None:
                self._order += 1
                heappush(due, (again, self._order, item))
        return due[0][0] - now if due else float("inf")

    def start(self) -> None:
        """Start the ageing thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._age_forever, name="ageing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the ageing thread; returns when it has ended. Harmless when it never ran."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None

    @property
    def alive(self) -> bool:
        """True while the ageing thread runs: without it, a stale value would look fine."""
        return self._thread is not None and self._thread.is_alive()

    def _age_forever(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                wait = self.age()
            except Exception:
                log.exception("ageing failed")
                wait = 0.1
            # Lateness of 5 ms lets items that were written together expire together; the promise is 20 ms.
            if wait == float("inf"):
                self._wake.wait()
            elif self._wake.wait(wait + 0.005):
                # Something new to age: nothing of it can be due within 5 ms unless its tolerance is that small.
                time.sleep(0.005)

    # -- facts for status ----------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """Counts for the status tree."""
        items = self.items()
        readings = [i.reading for i in items]
        conflicts = {
            i.key: f"{i.reading.source} and {i._conflict_with} ({i.conflicts} times)" for i in items if i.conflicts
        }
        return {
            "items": len(items),
            "never written": sum(r.stamp == NEVER for r in readings),
            "old": sum(r.old and r.stamp != NEVER for r in readings),
            "bad": sum(r.bad for r in readings),
            "failed": sum(r.fail for r in readings),
            "writes": sum(i.writes for i in items),
            "refused values": sum(i.refused for i in items),
            "callback errors": self.callback_errors,
            "conflicts": conflicts,
        }


# -- the calls that existing plugins use -------------------------------------------------------------------------------

_current = Database()
_legacy_callbacks: dict[tuple[str, str, Any, int], Subscription] = {}

LegacyCallback = Callable[[str, Any, Any], object]


def bind(database: Database) -> None:
    """Make `database` the one that the module-level functions and `PluginBase.db` act on."""
    global _current
    _current = database
    _legacy_callbacks.clear()


def current() -> Database:
    """The running gateway's database."""
    return _current


def read(key: str) -> Any:
    """``(value, annunciate, old, bad, fail, secfail)`` of an item, or the scalar of ``"KEY.aux"``."""
    if "." in key:
        return _current.read_aux(key)
    return _current.read(key).as_tuple()


def write(key: str, value: Any, source: str = "") -> None:
    """Write a scalar, or a tuple as `RawItem.value` takes it."""
    if "." in key:
        _current.write(key, value)
    else:
        get_raw_item(key, source).value = value


def listkeys() -> list[str]:
    return _current.keys()


def get_raw_item(key: str, source: str = "") -> RawItem:
    """The item with its attributes to get and set. Raises `UnknownKey`, a KeyError."""
    from fixgw.rawitem import RawItem

    return RawItem(_current.item(key), source)


def callback_add(name: str, key: str, function: LegacyCallback, udata: Any = None) -> None:
    """Call ``function(key, value, udata)`` in the writer's thread; `value` is the plain 6-tuple, or the scalar of an
    aux value with key ``"KEY.aux"``. `key` ``"*"`` is every item. Adding the same again changes nothing."""
    handle = (name, key, function, id(udata))
    if handle in _legacy_callbacks:
        return

    def on_reading(key: str, reading: Reading) -> None:
        function(key, reading.as_tuple(), udata)

    def on_aux(key: str, aux: str, value: Value | None) -> None:
        function(f"{key}.{aux}", value, udata)

    _legacy_callbacks[handle] = _current.subscribe(key, on_reading, on_aux)


def callback_del(name: str, key: str, function: LegacyCallback, udata: Any = None) -> None:
    """Undo `callback_add`; harmless when there is nothing to undo."""
    subscription = _legacy_callbacks.pop((name, key, function, id(udata)), None)
    if subscription is not None:
        subscription.close()
