"""The central database of flight information.

An `Item` has a key (``IAS``), a type, units, a range, a tolerance in milliseconds, named aux values (``IAS.Vne``) and a
current `Reading`: one immutable object, replaced whole, so that nobody ever sees a value from one write with flags from
another. Reading takes no lock.

Threads: every method may be called from any thread. Subscribers are called in the thread that writes (the ageing thread
for what becomes old); when two threads write one item in the same instant, one of them delivers for both, in order, the
newest last.

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
from itertools import count
from math import isfinite
from threading import get_ident
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

NEVER = float("-inf")  # the stamp of what was never written
LONGEST_TEXT = 1000  # characters of a text item
SOURCES_KEPT = 16  # per item, besides the published one; more when they are ranked
INITIAL = "initial"  # the source of values that come from the configuration
REDELIVERIES = 100  # rounds in which one writer tells what was written while it told
FEEDBACK = "its subscribers keep writing it; delivery was cut short"
CALLBACK_STRIKES = 10  # failures in a row after which a callback is dropped
LOG_INTERVAL = 10.0  # seconds between two complaints about the same thing
AGEING_SILENT = 5.0  # seconds after which an ageing thread that has not come round is taken for stuck
TRUE_WORDS = frozenset(("True", "true", "T", "yes", "1"))
FALSE_WORDS = frozenset(("False", "false", "F", "no", "0"))


class Flags:
    """The bits of `flags` by their names, for what has flags."""

    __slots__ = ()
    flags: int

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


class Reading(Flags, msgspec.Struct, frozen=True, gc=False):
    """What an item says at one moment. Immutable.

    `flags` are bits (`ANNUNCIATE` ... `SECFAIL`), `stamp` is the monotonic time in seconds of the last stored value
    (`NEVER` before the first), `source` names who wrote it, `reasons` pairs each set flag with the reason in words.
    `checked` are those of the flags that the database's own checks set: the next good write clears them.
    """

    value: Value
    flags: int
    stamp: float
    source: str
    reasons: tuple[tuple[int, str], ...] = ()
    checked: int = 0

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


PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str}
_WIDEST: dict[str, tuple[float, float]] = {
    "float": (-sys.float_info.max, sys.float_info.max),
    "int": (-(2**63), 2**63 - 1),
    "bool": (False, True),
}

ReadingCallback = Callable[[str, Reading], object]
AuxCallback = Callable[[str, str, "Value | None"], object]


class Subscription:
    """A callback on one item or on all.

    `errors` counts its failures in a row. `close` ends it and may be called at any time, twice too; a delivery that is
    under way in another thread may still call it once.
    """

    __slots__ = ("_call", "_call_aux", "_database", "callback", "errors", "key", "on_aux")

    def __init__(
        self, database: Database, key: str, callback: ReadingCallback | None, on_aux: AuxCallback | None
    ) -> None:
        self._database = database
        self.key = key
        self.callback = self._call = callback
        self.on_aux = self._call_aux = on_aux
        self.errors = 0

    def close(self) -> None:
        self._database._unsubscribe(self)

    # What has failed once is called through these, so that those that never fail do not pay for the counting.

    def _watched(self, key: str, reading: Reading) -> None:
        self.callback(key, reading)  # type: ignore[misc]
        self.errors = 0

    def _watched_aux(self, key: str, name: str, value: Value | None) -> None:
        self.on_aux(key, name, value)  # type: ignore[misc]
        self.errors = 0


class Item:
    """One item of the database. Made by `Database.define` only."""

    __slots__ = (
        "_aux_subscribers",
        "_clock",
        "_conflict",
        "_database",
        "_delivered",
        "_delivering",
        "_fast_type",
        "_high",
        "_last_good",
        "_left_by",
        "_lock",
        "_low",
        "_never",
        "_others",
        "_rank_of",
        "_scheduled",
        "_subscribers",
        "_subscriptions",
        "_telling",
        "aux",
        "conflicts",
        "definition",
        "key",
        "ranked",
        "reading",
        "refused",
        "sources",
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
        #: Counters: accepted writes, refused values, writes that took the item over from a source not yet old.
        self.writes = 0
        self.refused = 0
        self.conflicts = 0
        #: The ranking of sources in force, best first; `ranked` says whether there is one.
        self.sources = definition.sources
        self.ranked = bool(self.sources)
        self._database = database
        self._clock = database.clock
        self._lock = threading.Lock()
        self._delivering = False
        self._delivered: Reading | None = None  # the last that subscribers were, or are being, told
        self._left_by = 0  # the thread that last left the delivery of its reading to another
        self._subscriptions: tuple[Subscription, ...] = ()
        self._subscribers: tuple[ReadingCallback, ...] = ()
        self._aux_subscribers: tuple[AuxCallback, ...] = ()
        self._telling: set[tuple[int, str]] = set()  # (thread, aux name) whose callbacks are being called
        self._others: dict[str, Reading] = {}  # what sources other than the published one last said
        self._rank_of: dict[str, int | None] = {}
        self._conflict: tuple[str, ...] = ()  # the last two that met
        self._last_good = NEVER
        self._scheduled = False
        python_type = PYTHON_TYPES[definition.type]
        #: Values of exactly this type and in range are stored as they are; text always goes the careful way.
        self._fast_type: type = _Nothing if definition.type == "str" else python_type
        low, high = _WIDEST.get(definition.type, (0, 0))
        self._low: Any = low if definition.min is None else python_type(definition.min)
        self._high: Any = high if definition.max is None else python_type(definition.max)
        if self._is_number and not self._low <= self._high:
            raise ValueError(f"{self.key}: the range {definition.min} to {definition.max} is empty")
        value, check, _ = self._admit(python_type() if definition.initial is None else definition.initial)
        if check & FAIL:
            raise BadValue(self.key, "the initial value is not a number", "number")
        self._never = Reading(value, OLD, NEVER, "", ((OLD, "never written"),))
        self.reading = self._never
        if self.ranked:
            self._rerank(self._never)

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
            if kind == "str":
                if not isinstance(value, str):
                    raise ValueError
                if len(value) > LONGEST_TEXT:
                    raise BadValue(self.key, f"text of {len(value)} characters, at most {LONGEST_TEXT}", "text")
                if not value.isprintable():
                    raise BadValue(self.key, "text with control characters", "text")
                return str.__str__(value)
            if kind == "bool":
                if isinstance(value, str):
                    if value in TRUE_WORDS:
                        return True
                    if value in FALSE_WORDS:
                        return False
                elif value in (0, 1):
                    return bool(value)
                raise ValueError
            if isinstance(value, (bool, bytes, bytearray)):  # Python would take these for numbers
                raise ValueError
            if isinstance(value, str) and ("_" in value or not value.isascii()):
                raise ValueError
            if kind == "int" and not _is_infinite(value):
                whole = int(value)
                if not isinstance(value, str) and whole != value:
                    raise ValueError
                return whole
            number = _float(value)
            if not isfinite(number):
                raise BadValue(self.key, f"{_shown(value)} is not a finite number", "number")
            return number
        except BadValue:
            raise
        except (TypeError, ValueError, ArithmeticError):
            raise BadValue(self.key, f"{_shown(value)} is not {_A_TYPE[kind]}", "type") from None

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
        if type(value) is self._fast_type and self._low <= value <= self._high:
            check = 0
            why = ""
        else:
            try:
                value, check, why = self._admit(value)
            except BadValue:
                with self._lock:
                    self.refused += 1
                raise
        with self._lock:
            self.writes += 1
            previous = self.reading
            if source == previous.source and not (flags or check or previous.flags):
                # A ranked item without any flag is published from its best source, with every backup there.
                self.reading = reading = Reading(value, 0, self._clock(), source)
            else:
                reading = self._compose(value, source, flags, reason, mask & WRITABLE, check, why)
                self._store(reading)
            if not self._scheduled and self.tolerance:
                self._schedule(reading)
            if not self._subscribers or self.reading is previous:  # nobody listens, or a source that is not the best
                return reading
            if self._delivering:
                self._left_by = get_ident()
                return reading
            self._delivering = True
        self._deliver()
        return reading

    def flag(self, flags: int, mask: int, source: str = "", reason: str = "") -> Reading:
        """Set the flags in `mask` to those in `flags`, leaving value and age alone; OLD may be among them.

        A ranked source flags what it said itself; anybody else flags what is published. OLD cannot be cleared where
        the clock says otherwise, nor secfail where the ranking does. Returns the reading that was flagged.
        """
        with self._lock:
            previous = self.reading
            base = previous if self.rank(source) is None else self._base(source)
            mask &= WRITABLE | OLD
            if mask & ~flags & OLD and self._overdue(base, self._clock()):
                mask &= ~OLD
            reading = _flagged(base, flags, mask, reason or f"set by {source or 'nobody'}")
            if reading is base:
                return reading
            if base is not previous:
                self._store(reading)
            elif self.ranked:
                self._rerank(reading)
            else:
                self._publish(reading)
            if not self._scheduled and self.tolerance:
                self._schedule(reading)
            if not self._must_deliver(previous):
                return reading
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
            raise UnknownKey(f"{self.key}.{name}", [f"{self.key}.{a}" for a in self.aux])
        if value is not None:
            value = self.convert(value)
            if self._is_number:
                value = min(max(value, self._low), self._high)
        self.aux[name] = told = value
        teller = (get_ident(), name)
        if not self._aux_subscribers or teller in self._telling:  # a callback wrote: the loop that called it tells
            return value  # type: ignore[no-any-return]
        self._telling.add(teller)
        try:
            for _ in range(REDELIVERIES):
                for callback in self._aux_subscribers:
                    try:
                        callback(self.key, name, told)
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:
                        self._database._callback_failed(self, callback, error)
                if self.aux[name] == told:  # else somebody wrote meanwhile: the newest must be the last told
                    break
                told = self.aux[name]
            else:
                self._database._complain(f"{self.key}.{name}", f"{self.key}.{name}: {FEEDBACK}", self.key)
        finally:
            self._telling.discard(teller)
        return self.aux[name]

    def _admit(self, value: Any) -> tuple[Value, int, str]:
        """(value, flags, reason): what is stored for `value`, and what the checks say of it. Raises `BadValue`."""
        try:
            value = self.convert(value)
        except BadValue as error:
            if error.reason != "number":
                raise
            return 0, FAIL, f"the value written was {_shown(value)}"
        if not self._is_number or self._low <= value <= self._high:
            return value, 0, ""
        bound = self._low if value < self._low else self._high
        if self.definition.setting:
            return bound, 0, ""
        side = "below" if bound == self._low else "above"
        return bound, BAD, f"{_shown(value)} is {side} the range ({bound} {self.units})".replace(" )", ")")

    def _base(self, source: str) -> Reading:
        """The reading whose flags `source` keeps: its own where sources are ranked, else what is published."""
        published = self.reading
        if not self.ranked or source == published.source:
            return published
        if source in self._others:
            return self._others[source]
        never = self._never
        return Reading(never.value, OLD, NEVER, source, never.reasons)

    def _compose(
        self, value: Value, source: str, flags: int | None, reason: str, mask: int, check: int, why: str
    ) -> Reading:
        """The careful half of `write`, lock held: what `source` says now, with flags and reasons."""
        base = self._base(source)
        keep = base.flags & ~OLD & ~base.checked
        if self.ranked:
            keep &= ~SECFAIL  # computed
        reasons = {bit: text for bit, text in base.reasons if bit & keep}
        if flags is not None:
            keep = (keep & ~mask) | (flags & mask)
            for bit in FLAG_NAMES:
                if bit & mask & flags:
                    reasons[bit] = reason or f"set by {source or 'nobody'}"
        checked = check & ~keep
        if checked:
            keep |= checked
            reasons[checked] = why
        stamp = self._clock()
        if check & FAIL:  # not stored: the value and its age stay
            value, stamp = base.value, base.stamp
            if base.flags & OLD:
                keep |= OLD
                reasons[OLD] = base.reason(OLD)
        return Reading(
            value, keep, stamp, source, tuple((b, reasons[b]) for b in FLAG_NAMES if b & keep) if keep else (), checked
        )

    def _store(self, reading: Reading) -> None:
        """Make `reading` what its source says, and publish what is the best now; lock held."""
        source = reading.source
        published = self.reading
        if not self.ranked:
            if published.source and source != published.source:
                self._others.pop(source, None)
                self._keep_other(published)
                self._count_conflict(published, source)
            self._publish(reading)
        elif source == published.source and self.rank(source) is not None:
            self._rerank(reading)
        else:
            self._keep_other(reading)
            if self.rank(source) is not None:
                if self.rank(source) == self.rank(published.source):
                    self._count_conflict(published, source)
                self._rerank(published)
            elif source == INITIAL and not published.source:
                never = self._never
                self._never = Reading(reading.value, never.flags, NEVER, "", never.reasons)
                self._rerank(self._never)

    def _publish(self, reading: Reading) -> None:
        if not reading.good and self.reading.good:
            self._last_good = self.reading.stamp
        self.reading = reading

    def _count_conflict(self, published: Reading, source: str) -> None:
        if not self.definition.setting and not published.flags & OLD and published.source != INITIAL:
            self.conflicts += 1
            self._conflict = (published.source, source)

    def _keep_other(self, reading: Reading) -> None:
        others = self._others
        others.pop(reading.source, None)  # the latest last
        others[reading.source] = reading
        if len(others) >= SOURCES_KEPT:
            for name in [n for n in others if self.rank(n) is None][: len(others) - SOURCES_KEPT + 1]:
                del others[name]
            if len(others) >= 4 * SOURCES_KEPT:  # even sources below a ranked name are bounded
                del others[next(iter(others))]

    # -- sources -------------------------------------------------------------------------------------------------------

    def rank(self, source: str) -> int | None:
        """0 for the best ranked source, None for one that is not in the ranking."""
        known = self._rank_of
        try:
            return known[source]
        except KeyError:
            pass
        matching = (
            rank for rank, entry in enumerate(self.sources) if source == entry or source.startswith(entry + "/")
        )
        rank = next(matching, None)
        if len(known) < 4 * SOURCES_KEPT:
            known[source] = rank
        return rank

    def rank_sources(self, sources: Iterable[str] = ()) -> None:
        """Rank the sources by `sources`, best first, from now on; none means as defined. Any thread.

        For a driver whose own configuration ranks what it reads from: ``canfix/12`` before ``canfix/13``.
        """
        with self._lock:
            previous = self.reading
            self.sources = tuple(sources) or self.definition.sources
            self.ranked = bool(self.sources)
            self._rank_of = {}
            if self.ranked:
                self._rerank(previous)
            else:
                self._publish(_flagged(previous, 0, SECFAIL, ""))
            if not self._must_deliver(previous):
                return
        self._deliver()

    def _rerank(self, current: Reading) -> None:
        """Publish the best live ranked source, `current` standing for what is published; lock held.

        While none is live, the last one stays. Secfail says that an entry of the ranking has nothing live to offer
        (but for the one that is published, whose own flags tell).
        """
        best = current
        best_rank = self.rank(current.source)
        dead = bool(current.flags & (OLD | FAIL)) or best_rank is None
        live = set() if dead else {best_rank}
        for reading in self._others.values():
            rank = self.rank(reading.source)
            if rank is None:
                continue
            if not reading.flags & (OLD | FAIL):
                live.add(rank)
                if dead or rank < best_rank or (rank == best_rank and reading.stamp > best.stamp):  # type: ignore[operator]
                    best, best_rank, dead = reading, rank, False
            elif best_rank is None:
                best, best_rank = reading, rank
        missing = [entry for rank, entry in enumerate(self.sources) if rank not in live and rank != (best_rank or 0)]
        if best.source != current.source:
            del self._others[best.source]
            if current.source:
                self._keep_other(_flagged(current, 0, SECFAIL, ""))
        self._publish(_flagged(best, SECFAIL if missing else 0, SECFAIL, f"nothing from {', '.join(missing)}"))

    def readings(self) -> list[Reading]:
        """What every source last said, the published one first."""
        with self._lock:
            return [self.reading, *self._others.values()]

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _overdue(self, reading: Reading, now: float) -> bool:
        """True when `reading` is old by the clock."""
        return reading.stamp == NEVER or (self.tolerance > 0 and reading.stamp + self.tolerance <= now)

    def _aged(self, reading: Reading, now: float) -> Reading:
        if reading.flags & OLD or not self._overdue(reading, now):
            return reading
        who = reading.source or "its source"
        return _flagged(reading, OLD, OLD, f"nothing from {who} within {self.definition.tolerance} ms")

    def _schedule(self, reading: Reading) -> None:
        """Have the item looked at when `reading` becomes old, unless it is; lock held."""
        if not reading.flags & OLD:
            self._scheduled = True
            self._database._schedule(self, reading.stamp + self.tolerance)

    def _expire(self, now: float) -> float | None:
        """Mark what has not been rewritten in time as old; the next time to look, or None when all is old."""
        with self._lock:
            previous = self.reading
            current = self._aged(previous, now)
            fresh = [] if current.flags & OLD else [current.stamp]
            if self.ranked:
                for name, reading in self._others.items():
                    aged = self._others[name] = self._aged(reading, now)
                    if not aged.flags & OLD:
                        fresh.append(aged.stamp)
                self._rerank(current)
            else:
                self._publish(current)
            due = min(fresh) + self.tolerance if fresh and self.tolerance else None
            self._scheduled = due is not None
            if not self._must_deliver(previous):
                return due
        self._deliver()
        return due

    # -- subscribers ---------------------------------------------------------------------------------------------------

    def _must_deliver(self, previous: Reading) -> bool:
        """True when the caller, who holds the lock, must call `_deliver` as soon as it has let go of it."""
        if self.reading is previous or not self._subscribers:
            return False
        if self._delivering:
            self._left_by = get_ident()
            return False
        self._delivering = True
        return True

    def _deliver(self) -> None:
        """Call the subscribers until the newest reading has been delivered; `_delivering` is ours."""
        for _ in range(REDELIVERIES):
            reading = self._delivered = self.reading
            callbacks = iter(self._subscribers)
            while True:
                try:
                    for callback in callbacks:
                        callback(self.key, reading)
                    break
                except KeyboardInterrupt:
                    self._delivering = False
                    raise
                except BaseException as error:
                    self._database._callback_failed(self, callback, error)
            self._delivering = False
            if self.reading is self._delivered:
                return
            with self._lock:  # somebody wrote meanwhile, and may have left the delivery to us
                if self._delivering or self.reading is self._delivered:
                    return
                self._delivering = True
        # The subscribers are slower than the writers, or write the item themselves.
        self._delivering = False
        if self._left_by == get_ident():
            self._database._complain(self.key, f"{self.key}: {FEEDBACK}", self.key)
        else:
            self._database._redeliver(self)

    def _resume_delivery(self) -> None:
        """Deliver the newest reading if nobody has done so."""
        with self._lock:
            if self._delivering or self.reading is self._delivered:
                return
            self._delivering = True
        self._deliver()

    def _set_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        with self._lock:
            self._subscriptions = tuple(subscriptions)
            self._subscribers = tuple(s._call for s in subscriptions if s._call is not None)
            self._aux_subscribers = tuple(s._call_aux for s in subscriptions if s._call_aux is not None)

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
            "ranking": list(self.sources),
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
            "conflict_with": next((s for s in self._conflict if s != reading.source), None),
            "aux": dict(self.aux),
        }


_A_TYPE = {"float": "a number", "int": "a whole number", "bool": "True or False", "str": "text"}


class _Nothing:
    """The type of no value."""


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a huge number"
    return text if len(text) <= 40 else text[:37] + "..."


def _seconds(age: float) -> float | None:
    return None if age == float("inf") else round(age, 3)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _is_infinite(value: Any) -> bool:
    """True for what is NaN or infinite in itself, and not just too great for a float."""
    try:
        return not isfinite(float(value)) and not (isinstance(value, str) and value.strip(" +-").isdecimal())
    except (TypeError, ValueError, OverflowError):
        return False


def _flagged(reading: Reading, flags: int, mask: int, reason: str) -> Reading:
    """`reading` with the flags in `mask` set to those in `flags`; itself when that changes nothing."""
    if not (reading.flags | flags) & mask:
        return reading
    wanted = (reading.flags & ~mask) | (flags & mask)
    reasons = {bit: text for bit, text in reading.reasons if bit & wanted and not bit & mask}
    reasons.update((bit, reason) for bit in FLAG_NAMES if bit & wanted & mask)
    pairs = tuple((bit, reasons[bit]) for bit in FLAG_NAMES if bit & wanted)
    checked = reading.checked & ~mask
    if wanted == reading.flags and pairs == reading.reasons and checked == reading.checked:
        return reading
    return Reading(reading.value, wanted, reading.stamp, reading.source, pairs, checked)


class Mailbox:
    """The latest reading of each key that changed since the last `wait`; bounded by the number of keys.

    For a plugin's own thread: writers put, one thread waits. Use as a context manager, or `close` it. Raises
    `UnknownKey` for a key that does not exist.
    """

    def __init__(self, database: Database, keys: Iterable[str]) -> None:
        self._condition = threading.Condition()
        self._pending: dict[str, Reading] = {}
        self._woken = False
        keys = dict.fromkeys((keys,) if isinstance(keys, str) else keys)
        for key in keys:
            if key != "*":
                database.item(key)
        self._subscriptions = [database.subscribe(key, self._put) for key in keys]

    def _put(self, key: str, reading: Reading) -> None:
        with self._condition:
            if not self._pending:
                self._condition.notify()
            self._pending[key] = reading

    def wait(self, timeout: float) -> dict[str, Reading]:
        """What changed, in order of first change; empty after `timeout` seconds, or when woken by `wake`."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._woken, timeout)
            self._woken = False
            pending, self._pending = self._pending, {}
        return pending

    def wake(self) -> None:
        """Let the waiting thread go on, to look at its stop flag; if it does not wait now, its next wait returns at
        once. Any thread."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def close(self) -> None:
        """Receive nothing more, and wake. May be called twice."""
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
        self._undelivered: deque[Item] = deque()
        self._order = count()  # so that entries due in the same instant compare
        self._aged_at = NEVER
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
            raise UnknownKey(key, [f"{base}.{a}" for a in item.aux])
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
            for item in self._covered_by(subscription):
                item._set_subscriptions((*item._subscriptions, subscription))
        return subscription

    def _covered_by(self, subscription: Subscription) -> list[Item]:
        return self.items() if subscription.key == "*" else [self.item(subscription.key)]

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._wildcards = tuple(s for s in self._wildcards if s is not subscription)
            for item in self._covered_by(subscription):
                if subscription in item._subscriptions:
                    item._set_subscriptions([s for s in item._subscriptions if s is not subscription])

    def mailbox(self, keys: Iterable[str] = ("*",)) -> Mailbox:
        """A `Mailbox` for `keys`, or for all."""
        return Mailbox(self, keys)

    def _callback_failed(self, item: Item, callback: object, error: BaseException) -> None:
        """Count a failure; watch the subscription from the first one on, drop it after too many in a row."""
        self.callback_errors += 1
        for s in item._subscriptions:
            if any(callback is c for c in (s.callback, s.on_aux, s._call, s._call_aux)):
                break
        else:
            return  # closed meanwhile
        told = s.callback or s.on_aux
        name = getattr(told, "__qualname__", type(told).__name__)
        s.errors += 1
        if s.errors >= CALLBACK_STRIKES:
            s.close()
            log.error("callback %s on %s dropped after %d errors in a row", name, s.key, s.errors)
            return
        self._complain(f"callback {name}", f"callback {name} on {item.key} failed", item.key, error)
        if s._call is s.callback and s._call_aux is s.on_aux:
            s._call = s._watched if s.callback else None
            s._call_aux = s._watched_aux if s.on_aux else None
            with self._lock:
                for covered in self._covered_by(s):
                    covered._set_subscriptions(covered._subscriptions)

    def _complain(self, about: str, message: str, key: str, error: BaseException | None = None) -> None:
        """Log at most once per `LOG_INTERVAL` and subject."""
        now = self.clock()
        if now - self._complaints.get(about, NEVER) >= LOG_INTERVAL:
            if len(self._complaints) > 1000:
                self._complaints.clear()
            self._complaints[about] = now
            log.warning("%s", message, exc_info=error, extra={"FIXGW_KEY": key})

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _schedule(self, item: Item, due: float) -> None:
        self._arrivals.append((due, next(self._order), item))
        if not self._wake.is_set():
            self._wake.set()

    def _redeliver(self, item: Item) -> None:
        """Leave the delivery of the newest reading to the ageing thread."""
        self._undelivered.append(item)
        self._wake.set()

    def age(self) -> float:
        """Mark what has become old, now; returns the seconds until something may become old next (infinite: nothing).

        Called by the ageing thread; by tests with an injected clock. One thread at a time.
        """
        due = self._due
        for _ in range(len(self._undelivered)):
            self._undelivered.popleft()._resume_delivery()
        while self._arrivals:
            heappush(due, self._arrivals.popleft())
        now = self.clock()
        while due and due[0][0] <= now:
            _, _, item = heappop(due)
            try:
                again = item._expire(now)
            except Exception as error:  # a defect: no item may be forgotten for it
                self._complain(f"ageing {item.key}", f"ageing of {item.key} failed", item.key, error)
                again = now + 0.1
            if again is not None:
                heappush(due, (again, next(self._order), item))
        return due[0][0] - now if due else float("inf")

    def start(self) -> None:
        """Start the ageing thread; harmless when it runs."""
        if self._thread is None:
            self._stopping = False
            self._aged_at = self.clock()
            self._thread = threading.Thread(target=self._age_forever, name="ageing", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the ageing thread; returns when it has ended, or when a subscriber has kept it for 2 s. Harmless when
        it never ran."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None

    @property
    def alive(self) -> bool:
        """True while the ageing thread runs and is on time: without it, a stale value would look fine."""
        thread = self._thread
        return thread is not None and thread.is_alive() and self.clock() - self._aged_at < AGEING_SILENT

    def _age_forever(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping:  # looked at after the clearing, or a stop in between would be slept through
                return
            wait = min(self.age(), 1.0)
            self._aged_at = self.clock()
            # Lateness of 5 ms lets items that were written together expire together; the promise is 20 ms.
            if self._wake.wait(wait + 0.005):
                # Something new to age: nothing of it can be due within 5 ms unless its tolerance is that small.
                time.sleep(0.005)

    # -- facts for status ----------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """Counts for the status tree."""
        items = self.items()
        readings = [i.reading for i in items]
        conflicts = {i.key: f"{' and '.join(i._conflict)} ({i.conflicts} times)" for i in items if i.conflicts}
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
_legacy_callbacks: list[tuple[str, str, Any, Any, Subscription]] = []

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
    if isinstance(value, tuple) and "." not in key:
        get_raw_item(key, source).value = value
    else:
        _current.write(key, value, source)


def listkeys() -> list[str]:
    return _current.keys()


def get_raw_item(key: str, source: str = "") -> RawItem:
    """The item with its attributes to get and set. Raises `UnknownKey`, a KeyError."""
    from fixgw.rawitem import RawItem

    return RawItem(_current.item(key), source)


def callback_add(name: str, key: str, function: LegacyCallback, udata: Any = None) -> None:
    """Call ``function(key, value, udata)`` in the writer's thread; `value` is the plain 6-tuple, or the scalar of an
    aux value with key ``"KEY.aux"``. `key` ``"*"`` is every item. Adding the same again changes nothing."""
    if any(entry[3] is udata or entry[3] == udata for entry in _added(name, key, function)):
        return

    def on_reading(key: str, reading: Reading) -> None:
        function(key, reading.as_tuple(), udata)

    def on_aux(key: str, aux: str, value: Value | None) -> None:
        function(f"{key}.{aux}", value, udata)

    # By this name a failing one is complained about.
    on_reading.__qualname__ = on_aux.__qualname__ = f"{getattr(function, '__qualname__', function)} of {name}"
    _legacy_callbacks.append((name, key, function, udata, _current.subscribe(key, on_reading, on_aux)))


def callback_del(name: str, key: str, function: LegacyCallback, udata: Any = None) -> None:
    """Undo `callback_add`; harmless when there is nothing to undo. No `udata` means whatever it was added with."""
    for entry in _added(name, key, function):
        if udata is None or entry[3] is udata or entry[3] == udata:
            entry[4].close()
            _legacy_callbacks.remove(entry)


def _added(name: str, key: str, function: LegacyCallback) -> list[tuple[str, str, Any, Any, Subscription]]:
    return [entry for entry in _legacy_callbacks if entry[:3] == (name, key, function)]
