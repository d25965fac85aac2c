"""`Item`, an item of the database, and `Subscription`, a callback on its changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from threading import get_ident
from typing import TYPE_CHECKING, Any

from fixgw.database.reading import LONGEST_TEXT, PYTHON_TYPES, WIDEST, Definition, Reading
from fixgw.errors import BadValue, UnknownKey
from fixgw.kit.sources import KEPT, OVERRIDE, START, mark_of
from fixgw.kit.update import (
    ANNUNCIATE,
    BAD,
    FAIL,
    FALSE_WORDS,
    FLAG_NAMES,
    NEVER,
    OLD,
    SECFAIL,
    TRUE_WORDS,
    WRITABLE,
    TypeName,
    Value,
)

if TYPE_CHECKING:
    from fixgw.database import Database

MAX_SOURCES = 16  # kept for each item, besides the published one; more if they are ranked
MAX_ANNUNCIATORS = 16  # owners of one item's annunciate flag
MAX_TURNS = 2  # a value more full circles away from zero is not a direction
DOUBTFUL = OLD | BAD | FAIL
GOOD = 2  # the level of a reading that has none of these flags
LONGEST_OVERRIDE_S = 3600.0
MAX_REDELIVERIES = 100  # rounds in which one writer delivers what was written during its delivery
SINGLE_PRECISION = 2.0**-23  # relative
HEARSAY_S = 3.0  # a device that has been told a setting repeats the one before for so long at most

ReadingCallback = Callable[[str, Reading], object]
AuxCallback = Callable[[str, str, "Value | None"], object]


class Subscription:
    """A callback on one item or on all.

    `errors` counts its failures in a row. `close` ends the subscription, and may be called at any time, even twice; a
    delivery on another thread may still call the callback once.
    """

    __slots__ = ("_call", "_call_aux", "_database", "callback", "errors", "key", "on_aux", "quick")

    def __init__(
        self,
        database: Database,
        key: str,
        callback: ReadingCallback | None,
        on_aux: AuxCallback | None,
        quick: bool,
    ) -> None:
        self._database = database
        self.key = key
        self.callback = self._call = callback
        self.on_aux = self._call_aux = on_aux
        self.errors = 0
        #: Whether the callbacks only note the change and never wait.
        self.quick = quick

    @property
    def name(self) -> str:
        """The name of the function that is called."""
        function = self.callback or self.on_aux
        return getattr(function, "__qualname__", type(function).__name__)

    def close(self) -> None:
        self._database._unsubscribe(self)

    # Callbacks that have failed are called through these, so that the others do not pay for the counting.

    def _watched(self, key: str, reading: Reading) -> None:
        self.callback(key, reading)  # type: ignore[misc]
        self.errors = 0

    def _watched_aux(self, key: str, name: str, value: Value | None) -> None:
        self.on_aux(key, name, value)  # type: ignore[misc]
        self.errors = 0


class Item:
    """An item of the database. Only `Database.define` creates it."""

    __slots__ = (
        "_aux_subscribers",
        "_clock",
        "_conflict",
        "_database",
        "_delivered",
        "_delivering",
        "_due",
        "_fast_type",
        "_generation",
        "_high",
        "_last_good",
        "_left_by",
        "_lock",
        "_low",
        "_never",
        "_others",
        "_overridden_until",
        "_override",
        "_rank_of",
        "_reading",
        "_report",
        "_said",
        "_shown",
        "_since",
        "_subscribers",
        "_subscriptions",
        "_telling",
        "_waiting",
        "annunciators",
        "aux",
        "aux_sources",
        "conflicts",
        "definition",
        "doubts",
        "key",
        "quick",
        "ranked",
        "refused",
        "return_after",
        "source_changes",
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
        #: aux name -> the source that set it, if it is known; `INITIAL` for start values.
        self.aux_sources: dict[str, str] = {}
        #: Counters: accepted writes, refused values, writes that replaced the value of a source that was not yet old,
        #: and changes of rank.
        self.writes = 0
        self.refused = 0
        self.conflicts = 0
        self.source_changes = 0
        #: The ranking of sources, best first; `ranked` says whether there is one.
        self.sources = definition.sources
        self.ranked = bool(self.sources)
        #: A better source that returns is published once it has been good for this many seconds; 0 = at once.
        self.return_after = definition.return_after
        self._database = database
        self._clock = database.clock
        self._lock = threading.Lock()
        self._delivering = False
        self._delivered: Reading | None = None  # the reading that was or is being delivered last
        self._generation = 0  # counts deliveries that were given up, so that one that returns notices that it was
        self._left_by = 0  # the thread that last left the delivery of its reading to another
        self._subscriptions: tuple[Subscription, ...] = ()
        self._subscribers: tuple[ReadingCallback, ...] = ()
        self._aux_subscribers: tuple[AuxCallback, ...] = ()
        #: Whether all subscribers are quick; otherwise a write may have to wait for one.
        self.quick = True
        self._telling: set[tuple[int, str]] = set()  # (thread, aux name) whose callbacks are being called
        self._others: dict[str, Reading] = {}  # the last readings of sources other than the published one
        #: The alert logic that holds the annunciate flag: owner -> reason. Replaced as a whole; see `annunciate`.
        self.annunciators: dict[str, str] = {}
        #: Sources whose readings are taken for bad: source -> reason. Replaced as a whole; see `doubt`.
        self.doubts: dict[str, str] = {}
        self._override: Reading | None = None  # what is published instead, until the time below
        self._overridden_until = NEVER
        #: If it is overridden, or the alert logic holds its flag: the reading that its source gives.
        self._said: Reading | None = None
        #: A setting's published report, if nobody set that value: the report, and the last reading that was set.
        self._report: tuple[Reading, Reading] | None = None
        self._waiting: Reading | None = None  # the last report that waits
        self._rank_of: dict[str, int | None] = {}
        self._conflict: tuple[str, ...] = ()  # the two sources of the last conflict
        #: Ranked source -> since when it has been good, and since when it has been fresh and not failed.
        self._since: dict[str, tuple[float, float]] = {}
        self._shown: set[int] = set()  # ranks that have been published
        self._last_good = NEVER
        self._due: float | None = None  # when the ageing thread must check the item
        python_type = PYTHON_TYPES[definition.type]
        #: Values of exactly this type and in range are stored unchecked; text is always checked.
        self._fast_type: type = _Nothing if definition.type == "str" else python_type
        low, high = WIDEST.get(definition.type, (None, None))
        self._low: Any = low if definition.min is None else python_type(definition.min)
        self._high: Any = high if definition.max is None else python_type(definition.max)
        if self._is_number and not self._low <= self._high:
            raise ValueError(f"{self.key}: the range {definition.min} to {definition.max} is empty")
        value, check, _ = self._admit(python_type() if definition.initial is None else definition.initial)
        if check & FAIL:
            raise BadValue(self.key, "the initial value is not a number", "number")
        self._never = Reading(value, OLD, NEVER, "", ((OLD, "never written"),))
        self._reading = self._never
        if self.ranked:
            self._rerank(self._never)

    # -- facts ---------------------------------------------------------------------------------------------------------

    @property
    def measured(self) -> bool:
        """Whether its value is measured repeatedly, so that an old one is worthless."""
        return self.tolerance > 0 and not self.definition.setting

    @property
    def reading(self) -> Reading:
        """The current reading. If it is overdue it is old, even if this process was delayed and has not marked it yet.
        Takes no lock."""
        reading = self._reading
        if self.tolerance and reading.stamp + self.tolerance <= self._clock():
            return self._aged(reading, self._clock())
        return reading

    @property
    def said(self) -> Reading:
        """The current reading as its source wrote it: not overridden, and without the alert logic's annunciate flag."""
        return self.aged(self._said or self._reading)

    @property
    def overridden(self) -> tuple[Reading, float] | None:
        """What is published instead of the reading of a source, and for how many seconds more; None if nothing is."""
        override = self._override
        return None if override is None else (override, max(0.0, self._overridden_until - self._clock()))

    def said_and_set(self) -> tuple[Reading, Reading]:
        """Of a setting: `said`, and the reading that somebody set last.

        They are the same unless a device has reported (`report`) since, and nobody has turned that device's knob.
        """
        with self._lock:
            said = self.said
            return said, self._set_before(said)

    def _set_before(self, said: Reading) -> Reading:
        report = self._report
        return report[1] if report is not None and _same_write(report[0], said) else said

    def aged(self, reading: Reading) -> Reading:
        """`reading`, which belongs to this item, as we may hand it out now: old if it is overdue."""
        if self.tolerance and reading.stamp + self.tolerance <= self._clock():
            return self._aged(reading, self._clock())
        return reading

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
        """Convert `value` to this item's type, without clamping it.

        Raises `BadValue` if that is not possible, and for NaN and infinity. Text is converted as in NetFIX.
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
                    if value.lower() in TRUE_WORDS:
                        return True
                    if value.lower() in FALSE_WORDS:
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
        old: str = "",
    ) -> Reading:
        """Store `value` and notify subscribers. Returns `source`'s new reading.

        `flags` None leaves annunciate, bad, fail and secfail unchanged; otherwise the flags in `mask` become those in
        `flags`, for `reason`. `old` is the reason why the value is old from the start, because it is derived from old
        ones. A value out of range is clamped, and a measurement is then also flagged bad. NaN and infinity are not
        stored; the item is flagged fail instead. Raises `BadValue` for a wrong type, and then stores nothing. Any
        thread may call this. Calls the subscribers before it returns.
        """
        if type(value) is self._fast_type and self._low <= value <= self._high:
            check = 0
            why = ""
        else:
            value, check, why = self._admit_or_count(value)
        with self._lock:
            self.writes += 1
            previous = self._reading
            known: Reading | None = None
            if not (check or old):
                if source == previous.source:
                    if not (flags or previous.flags):
                        # If a ranked item has no flags, its best source is published and all its backups are live.
                        self._reading = known = Reading(value, 0, self._clock(), source)
                    else:
                        known = self._repeat(previous, value, flags, reason)
                elif not flags and (backup := self._others.get(source)) is not None:
                    known = self._renew(backup, value)
            if known is not None:
                reading = known
            else:
                reading = self._compose(value, source, flags, reason, mask & WRITABLE, check, why)
                if old:
                    reading = _flagged(reading, OLD, OLD, old)
                self._store(reading)
            if self._due is None and self.tolerance:
                self._schedule(reading)
            if not self._subscribers or self._reading is previous:  # no subscribers, or not the best source
                return reading
            if self._delivering:
                self._left_by = get_ident()
                return reading
            self._delivering = True
        self._deliver()
        return reading

    def report(
        self,
        value: Any,
        source: str = "",
        flags: int | None = None,
        reason: str = "",
        mask: int = WRITABLE,
        step: float = 0.0,
        wait: bool = True,
    ) -> Reading | None:
        """`write` what a device says of itself, again and again. Returns None if that has to wait.

        A device that repeats its setting sets nothing: somebody may have set another value since, of which the device
        has not heard yet. So its report waits if the published reading is good, comes from another source, and either

        - was set less than `HEARSAY_S` ago (but a switch that has changed does not wait), or
        - is younger than `HEARSAY_S`, while this device only says what it said before.

        When that time is over, its last report is published: it did not take what was set. Without `wait`, a report is
        published at once; that is for callers that tell the device themselves. `step` is the smallest difference that
        the device can express: a report within half of it confirms the published value. For an item that is no setting
        or has a ranking, this is `write`. Raises `BadValue`. Any thread may call this.
        """
        if not self.definition.setting or self.ranked:
            return self.write(value, source, flags, reason, mask)
        value, check, why = self._admit_or_count(value)
        with self._lock:
            previous, now = self._reading, self._clock()
            said = self.said
            was_set = self._set_before(said)
            before = self._base_of_report(source, said)
            if self._confirms(value, said.value, step):
                value = said.value
            reading = self._compose(value, source, flags, reason, mask & WRITABLE, check, why)
            if self._waiting is not None and self._waiting.source == source:
                self._waiting = None
            changed = before is not None and before.value != reading.value
            self.writes += 1
            by_others = was_set.source not in (source, *START)
            since_set = now - was_set.stamp if by_others else float("inf")
            if wait and said.good and said.source not in (source, *START) and reading.value != said.value:
                unheard = since_set < HEARSAY_S and (not changed or self.type != "bool")
                if unheard or (not changed and now - said.stamp < HEARSAY_S):
                    self._keep_other(reading)
                    self._waiting = reading
                    self._call_at(said.stamp + HEARSAY_S)
                    return None
            self._publish_report(reading, was_set, turned=changed and since_set >= HEARSAY_S)
            if not self._must_deliver(previous):
                return reading
        self._deliver()
        return reading

    def _base_of_report(self, source: str, said: Reading) -> Reading | None:
        """What the device said last. If it has said nothing: the setting that was kept across the restart."""
        if said.source in (source, KEPT):
            return said
        return self._others.get(source)

    def _confirms(self, value: Any, published: Any, step: float) -> bool:
        """Whether a device that says `value` may mean the number that is published."""
        difference = self._difference(value, published)
        if difference is None:
            return False
        return bool(abs(difference) <= max(step / 2, abs(value) * SINGLE_PRECISION) * (1 + SINGLE_PRECISION))

    def _publish_report(self, reading: Reading, was_set: Reading, turned: bool) -> None:
        """Publish a device's report. `turned`: somebody set it at the device. The caller holds the lock."""
        self._report = None if turned else (reading, was_set)
        self._store(reading)
        if self._due is None and self.tolerance:
            self._schedule(reading)

    def _end_waiting(self, now: float) -> None:
        """Publish the report that waits, if its time has come. The caller holds the lock, and ages the item."""
        waiting, said = self._waiting, self.said
        if waiting is None:
            return
        was_set = self._set_before(said)
        if not said.good or now >= said.stamp + HEARSAY_S:
            self._waiting = None
            self._publish_report(self._aged(waiting, now), was_set, turned=False)
        elif said is was_set or now < waiting.stamp + HEARSAY_S:
            self._call_at(said.stamp + HEARSAY_S)
        else:
            self._waiting = None  # another device goes on confirming what was set

    def _call_at(self, due: float) -> None:
        """Have the item examined at `due` or earlier. The caller holds the lock."""
        if self._due is None or due < self._due:
            self._due = due
            self._database._schedule(self, due)

    def flag(self, flags: int, mask: int, source: str = "", reason: str = "") -> Reading:
        """Set the flags in `mask` to those in `flags`, without changing value and age. OLD may be among them.

        A ranked source flags its own reading; any other source flags the published one. OLD cannot be cleared on an
        overdue reading, nor secfail if the ranking sets it. Returns the reading that was flagged.
        """
        with self._lock:
            previous = self._reading
            said = self._said or previous
            base = said if self.rank(source) is None else self._base(source)
            ours = base is said
            mask &= WRITABLE | OLD
            if self._overdue(base, self._clock()):
                base = self._aged(base, self._clock())
                mask &= flags | ~OLD
            reading = _flagged(base, flags, mask, reason or f"set by {source or 'nobody'}")
            reading = self._with_doubt(reading) if self.doubts else reading
            if reading is base:
                return reading
            if not ours:
                self._store(reading)
            elif self.ranked:
                self._rerank(reading)
            else:
                self._publish(reading)
            if self._due is None and self.tolerance:
                self._schedule(reading)
            if not self._must_deliver(previous):
                return reading
        self._deliver()
        return reading

    def fail(self, reason: str, source: str = "") -> Reading:
        """Flag the item failed, for `reason`. For drivers that know that their instrument has no valid value."""
        return self.flag(FAIL, FAIL, source, reason)

    def annunciate(self, on: bool, reason: str = "", owner: str = "") -> None:
        """Set the annunciate flag for `owner`, or release it. For alert logic, which is not the item's source.

        The published flag is set while the item's source sets it or any owner holds it. Neither clears the other's
        flag, so the source's writes never make it flicker. An owner is a connection's name. Another call with the same
        `reason` changes nothing and costs little. Raises ValueError for more than `MAX_ANNUNCIATORS` owners.
        """
        with self._lock:
            owners = dict(self.annunciators)
            if on:
                if owners.get(owner) == reason:
                    return
                owners[owner] = reason
                if len(owners) > MAX_ANNUNCIATORS:
                    raise ValueError(f"{self.key}: more than {MAX_ANNUNCIATORS} owners of its annunciate flag")
            elif owners.pop(owner, None) is None:
                return
            previous = self._reading
            said = self._said or previous
            self.annunciators, self._said = owners, None
            self._publish(self._aged(said, self._clock()))
            if not self._must_deliver(previous):
                return
        self._deliver()

    def override(self, value: Any, flags: int, source: str, reason: str, seconds: float) -> Reading:
        """Publish `value` with the `flags`, whatever the sources say, for so many `seconds` or until `end_override`.

        The `source` must begin with ``override/``, so that nothing passes it on as real. The sources write on: theirs
        is published again afterwards. While it lasts, the reading is renewed and never old, unless `flags` say so.
        Raises `BadValue` for a wrong type and for NaN, and ValueError for another source or more seconds than
        `LONGEST_OVERRIDE_S`. Any thread may call this; it calls the subscribers.
        """
        if mark_of(source) != OVERRIDE:
            raise ValueError(f"{source!r} is not the source of an override")
        if not 0.0 < seconds <= LONGEST_OVERRIDE_S:
            raise ValueError(f"{seconds:g} s: an override lasts at most {LONGEST_OVERRIDE_S / 60:.0f} min")
        value, check, why = self._admit(value)
        if check & FAIL:
            raise BadValue(self.key, why, "number")
        texts = {bit: reason for bit in FLAG_NAMES if bit & flags}
        if check & ~flags:
            texts[check] = why
        pairs = tuple((bit, texts[bit]) for bit in FLAG_NAMES if bit in texts)
        now = self._clock()
        return self._replace_override(Reading(value, flags | check, now, source, pairs), now + seconds)

    def end_override(self) -> None:
        """Publish the readings of the sources again. Does nothing if the item is not overridden. Any thread."""
        if self._override is not None:
            self._replace_override(None, NEVER)

    def _replace_override(self, override: Reading | None, until: float) -> Reading:
        with self._lock:
            previous = self._reading
            said = self._said or previous
            self._override, self._overridden_until, self._said = override, until, None
            self._publish(self._aged(said, self._clock()))
            if override is not None:
                self._schedule_override()
            published = self._reading
            if not self._must_deliver(previous):
                return published
        self._deliver()
        return published

    def _schedule_override(self) -> None:
        """Schedule the renewal of the override, or its end. The caller holds the lock."""
        due = self._overridden_until
        if self.tolerance:
            due = min(due, self._clock() + self.tolerance / 2)
        self._call_at(due)

    def doubt(self, doubts: Mapping[str, str]) -> None:
        """Take the readings of these sources for bad, for the reasons given, and those of others no longer.

        For logic that compares sources. A ranked source that is in doubt is published only while no good one is there;
        when the doubt ends, it gets its rank back at once.
        """
        with self._lock:
            if self.doubts == doubts:
                return
            previous = self._reading
            said = self._said or previous
            cleared = {r.source: _without(BAD, r) for r in (said, *self._others.values()) if self._is_doubted(r)}
            for source in self.doubts.keys() - doubts.keys() & self._since.keys():
                self._since[source] = (NEVER, NEVER)
            self.doubts = dict(doubts)
            for source, reading in self._others.items():
                self._others[source] = self._with_doubt(cleared.get(source, reading))
            said = self._with_doubt(cleared.get(said.source, said))
            if self.ranked:
                self._rerank(said)
            else:
                self._publish(said)
            if not self._must_deliver(previous):
                return
        self._deliver()

    def trusts(self, reading: Reading) -> bool:
        """Whether `reading`, of one of this item's sources, is good apart from a doubt about the source."""
        flags = reading.flags & ~BAD if self._is_doubted(reading) else reading.flags
        return not flags & (OLD | BAD | FAIL)

    def _is_doubted(self, reading: Reading) -> bool:
        """Whether the reading is flagged bad only because of a doubt."""
        return bool(reading.checked & BAD) and reading.reason(BAD) == self.doubts.get(reading.source)

    def _with_doubt(self, reading: Reading) -> Reading:
        """`reading`, bad if its source is in doubt."""
        reason = self.doubts.get(reading.source)
        if reason is None or reading.flags & BAD:
            return reading
        doubted = _flagged(reading, BAD, BAD, reason)
        return Reading(
            doubted.value, doubted.flags, doubted.stamp, doubted.source, doubted.reasons, doubted.checked | BAD
        )

    def write_aux(self, name: str, value: Any, source: str = "") -> Value | None:
        """Set the aux value `name`, clamped to the item's range; None clears it. Returns what is now stored.

        `source` is the source of the value, if it is known. Raises `UnknownKey` for a name that is not defined, and
        `BadValue` for a value of the wrong type.
        """
        if name not in self.aux:
            raise UnknownKey(f"{self.key}.{name}", [f"{self.key}.{a}" for a in self.aux])
        if value is not None:
            value = self.convert(value)
            if self._is_number:
                value = min(max(value, self._low), self._high)
        self.aux[name] = told = value
        if source or self.aux_sources:
            self.aux_sources[name] = source
        teller = (get_ident(), name)
        if not self._aux_subscribers or teller in self._telling:  # if a callback wrote it, its caller notifies
            return value  # type: ignore[no-any-return]
        self._telling.add(teller)
        try:
            for _ in range(MAX_REDELIVERIES):
                callbacks = iter(self._aux_subscribers)
                for callback in callbacks:
                    try:
                        callback(self.key, name, told)
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:
                        self._database._callback_failed(self, callback, error)
                if self.aux[name] == told:  # otherwise it was written in the meantime; deliver the newest last
                    break
                told = self.aux[name]
            else:
                self._complain_of_feedback(f"{self.key}.{name}")
        finally:
            self._telling.discard(teller)
        return self.aux[name]

    def _admit_or_count(self, value: Any) -> tuple[Value, int, str]:
        try:
            return self._admit(value)
        except BadValue:
            with self._lock:
                self.refused += 1
            raise

    def _admit(self, value: Any) -> tuple[Value, int, str]:
        """Check `value`. Returns the value to store, the flags that the checks set, and why. Raises `BadValue`."""
        try:
            value = self.convert(value)
        except BadValue as error:
            if error.reason != "number":
                raise
            return 0, FAIL, f"the value written was {_shown(value)}"
        if not self._is_number or self._low <= value <= self._high:
            return value, 0, ""
        if (wrap := self.definition.wrap) and abs(value) < MAX_TURNS * wrap:
            turned = PYTHON_TYPES[self.type](self._low + (value - self._low) % wrap)
            if turned <= self._high:
                return turned, 0, ""
        bound = self._low if value < self._low else self._high
        if self.definition.setting:
            return bound, 0, ""
        side = "below" if bound == self._low else "above"
        return bound, BAD, f"{_shown(value)} is {side} the range ({bound} {self.units})".replace(" )", ")")

    def _base(self, source: str) -> Reading:
        """The reading whose flags `source` keeps: its own if sources are ranked, otherwise the published one."""
        published = self._said or self._reading
        if not self.ranked or source == published.source:
            return published
        if source in self._others:
            return self._others[source]
        never = self._never
        return Reading(never.value, OLD, NEVER, source, never.reasons)

    def _compose(
        self, value: Value, source: str, flags: int | None, reason: str, mask: int, check: int, why: str
    ) -> Reading:
        """The slow path of `write`: build `source`'s new reading, with flags and reasons. The caller holds the lock."""
        base = self._base(source)
        keep = base.flags & ~OLD & ~base.checked
        if self.ranked:
            keep &= ~SECFAIL  # computed
        if not (keep or flags or check or self.doubts):
            return Reading(value, 0, self._clock(), source)
        reasons = dict(base.reasons)
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
        if check & FAIL:  # do not store it; keep the value and its age
            value, stamp = base.value, base.stamp
            if base.flags & OLD:
                keep |= OLD
                reasons[OLD] = base.reason(OLD)
        pairs = tuple((b, reasons[b]) for b in FLAG_NAMES if b & keep) if keep else ()
        reading = Reading(value, keep, stamp, source, pairs, checked)
        return self._with_doubt(reading) if self.doubts else reading

    def _store(self, reading: Reading) -> None:
        """Store `reading` for its source, and publish the best reading. The caller holds the lock."""
        source = reading.source
        published = self._said or self._reading
        changed = self.ranked and self._note_since(reading)
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
            rank, published_rank = self.rank(source), self.rank(published.source)
            if rank is not None:
                if rank == published_rank:
                    self._count_conflict(published, source)
                if (  # see `_renew`
                    changed
                    or published_rank is None
                    or rank <= published_rank
                    or self._overdue(published, reading.stamp)
                ):
                    self._rerank(published)
            elif source in START and not published.source:
                never = self._never
                self._never = Reading(reading.value, never.flags, NEVER, "", never.reasons)
                self._rerank(self._never)

    def _repeat(self, published: Reading, value: Value, flags: int | None, reason: str) -> Reading | None:
        """Publish another value of the published source, with the flags that it had. Returns None, and stores nothing,
        unless that changes nothing else. The caller holds the lock."""
        if published.flags & OLD or published.checked or self.doubts or self._said is not None:
            return None
        now, source, reasons = self._clock(), published.source, published.reasons
        if not self.ranked:
            if flags is not None and (flags != published.flags or len(reasons) != 1 or reasons[0][1] != reason):
                return None
            self._reading = reading = Reading(value, published.flags, now, source, reasons)
            return reading
        # A backup is missing. The others become neither better nor worse by themselves before the item is due.
        if flags or published.flags != SECFAIL or self.rank(source) is None:
            return None
        if self._due is not None and self._due <= now:
            return None
        self._reading = Reading(value, SECFAIL, now, source, reasons)
        return Reading(value, 0, now, source)

    def _renew(self, backup: Reading, value: Value) -> Reading | None:
        """Store another good value of the source of `backup`, which is not published. Returns None, and stores nothing,
        unless that changes nothing else: the source was as good before, and is of lower rank than a good reading. The
        caller holds the lock."""
        published = self._said or self._reading
        if backup.flags or self.doubts or not self.ranked:
            return None
        source, ranks = backup.source, self._rank_of
        try:
            rank, published_rank = ranks[source], ranks[published.source]
        except KeyError:
            return None
        now = self._clock()
        if rank is not None:
            if published_rank is None or rank <= published_rank:
                return None
            tolerance = self.tolerance
            if tolerance and (backup.stamp + tolerance <= now or published.stamp + tolerance <= now):
                return None
        others = self._others
        del others[source]
        others[source] = reading = Reading(value, 0, now, source)  # the latest last
        return reading

    def _publish(self, reading: Reading) -> None:
        """Publish a source's reading or what overrides it, with the annunciate flag of its owners. The caller holds the
        lock."""
        if self._override is not None:
            self._said = reading
            reading = self._override
            if self.annunciators:
                reading = _annunciated(reading, self.annunciators)
            if reading == self._reading:
                return
        elif self.annunciators:
            if reading is self._said:
                return
            self._said = reading
            reading = _annunciated(reading, self.annunciators)
        if not reading.good and self._reading.good:
            self._last_good = self._reading.stamp
        self._reading = reading

    def _count_conflict(self, published: Reading, source: str) -> None:
        if not self.definition.setting and not published.flags & OLD and published.source not in START:
            self.conflicts += 1
            self._conflict = (published.source, source)

    def _keep_other(self, reading: Reading) -> None:
        others = self._others
        known = others.pop(reading.source, None)
        others[reading.source] = reading  # the latest last
        if known is None and len(others) > MAX_SOURCES:
            for name in [n for n in others if self.rank(n) is None][: len(others) - MAX_SOURCES]:
                del others[name]
            if len(others) > 4 * MAX_SOURCES:  # sources below a ranked name are limited too
                del others[next(iter(others))]

    # -- sources -------------------------------------------------------------------------------------------------------

    def rank(self, source: str) -> int | None:
        """The rank of a source: 0 for the best, None if it is not in the ranking."""
        known = self._rank_of
        try:
            return known[source]
        except KeyError:
            pass
        matching = (
            rank for rank, entry in enumerate(self.sources) if source == entry or source.startswith(entry + "/")
        )
        rank = next(matching, None)
        if len(known) < 4 * MAX_SOURCES:
            known[source] = rank
        return rank

    def rank_sources(self, sources: Iterable[str] = ()) -> None:
        """Rank the sources, best first; empty restores the ranking of the definition. Any thread may call this.

        For a driver whose own configuration ranks its sources: ``canfix/12`` before ``canfix/13``.
        """
        with self._lock:
            previous = self._reading
            self.sources = tuple(sources) or self.definition.sources
            self.ranked = bool(self.sources)
            self._rank_of = {}
            self._since, self._shown = {}, set()
            if self.ranked:
                self._rerank(self._said or previous)
            else:
                self._publish(_without(SECFAIL, self._said or previous))
            if not self._must_deliver(previous):
                return
        self._deliver()

    def _note_since(self, reading: Reading) -> bool:
        """Note since when the source has been good, before `reading` is stored. Returns whether it is now better or
        worse than it was, or neither good nor bad. The caller holds the lock."""
        source = reading.source
        level = _level(reading)
        if not level or self.rank(source) is None:
            return True
        now = self._clock()
        before = self._level_at(self._base(source), now)
        good, live = self._since.get(source, (NEVER, NEVER))
        if len(self._since) > 4 * MAX_SOURCES:
            self._since = {name: since for name, since in self._since.items() if name in self._others}
        self._since[source] = (good if before == level == GOOD else now, live if before else now)
        return before != level

    def _rerank(self, current: Reading) -> None:
        """Publish the best ranked source; `current` stands for the published one. The caller holds the lock.

        Good beats bad, bad beats old or failed, and among equals the better rank wins. A worse reading is replaced at
        once. Otherwise, a source of better rank that returns is published when it has been good for `return_after`
        seconds. While no source is live, the last one stays. Secfail means that an entry of the ranking has no live
        source (except the published entry, which has its own flags).
        """
        now = self._clock()
        current = self._aged(current, now)
        current_rank = self.rank(current.source)
        ours = _level(current)
        live: set[int | None] = {current_rank} if ours else set()
        better: list[tuple[int, int, Reading]] = []  # those that may take its place: level, rank, reading
        ranks, tolerance = self._rank_of, self.tolerance
        for source, other in self._others.items():
            rank = ranks[source] if source in ranks else self.rank(source)
            if rank is None:
                continue
            # This is `rank` and `_level_at`, without the calls: it is done for all sources of an item.
            flags = other.flags & DOUBTFUL
            if (other.stamp + tolerance <= now if tolerance else other.stamp == NEVER) or flags & ~BAD:
                level = 0
            else:
                level = 1 if flags else GOOD
                live.add(rank)
            if current_rank is None or level > ours or (level == ours and rank <= current_rank):
                better.append((level, rank, other))
        best, best_rank, back_at = current, current_rank, None
        if better:
            top = max(level for level, _, _ in better)
            if current_rank is None or ours < top:
                _, best_rank, best = min((r for r in better if r[0] == top), key=lambda r: (r[1], -r[2].stamp))
            elif top:
                for level, rank, reading in better:
                    if rank > best_rank or (rank == best_rank and reading.stamp <= best.stamp):  # type: ignore[operator]
                        continue
                    if rank < current_rank and rank in self._shown and self.return_after:
                        good, fresh = self._since.get(reading.source, (NEVER, NEVER))
                        held_until = (good if level == GOOD else fresh) + self.return_after
                        if held_until > now:
                            back_at = held_until if back_at is None else min(back_at, held_until)
                            continue
                    best, best_rank = reading, rank
        best = self._aged(best, now)
        live.add(best_rank or 0)
        missing = [entry for rank, entry in enumerate(self.sources) if rank not in live]
        if best.source != current.source:
            del self._others[best.source]
            if current.source:
                self._keep_other(_without(SECFAIL, current))
            if current_rank is not None and best_rank != current_rank:
                self.source_changes += 1
                self._database._source_changed(self, current, best)
        if best_rank is not None and _level(best):
            self._shown.add(best_rank)
        self._publish(_flagged(best, SECFAIL if missing else 0, SECFAIL, f"nothing from {', '.join(missing)}"))
        if back_at is not None:
            self._call_at(back_at)

    def readings(self) -> list[Reading]:
        """The last reading of each source, the published one first."""
        with self._lock:
            readings = [self._said or self._reading, *self._others.values()]
        now = self._clock()
        return [self._aged(reading, now) for reading in readings]

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _overdue(self, reading: Reading, now: float) -> bool:
        """Whether `reading` is too old by the clock."""
        return reading.stamp + self.tolerance <= now if self.tolerance else reading.stamp == NEVER

    def _level_at(self, reading: Reading, now: float) -> int:
        """The level of `reading` if it is old as soon as it is overdue."""
        # This is `_overdue`, without the call: it is done for all sources of an item.
        late = reading.stamp + self.tolerance <= now if self.tolerance else reading.stamp == NEVER
        return 0 if late else _level(reading)

    def _aged(self, reading: Reading, now: float) -> Reading:
        # With `_overdue`, without the call, as in `_level_at`.
        late = reading.stamp + self.tolerance <= now if self.tolerance else reading.stamp == NEVER
        if not late or reading.flags & OLD:
            return reading
        who = reading.source or "its source"
        return _flagged(reading, OLD, OLD, f"nothing from {who} within {self.definition.tolerance} ms")

    def _schedule(self, reading: Reading) -> None:
        """Schedule a check for when `reading` becomes old, unless it already is. The caller holds the lock."""
        if not reading.flags & OLD:
            self._due = reading.stamp + self.tolerance
            self._database._schedule(self, self._due)

    def _expire(self, now: float) -> None:
        """Mark readings that are overdue as old, and schedule the next check. Calls no subscribers."""
        with self._lock:
            previous = self._reading
            self._due = None
            current = self._aged(self._said or previous, now)
            fresh = [] if current.flags & OLD else [current.stamp]
            override = self._override
            if override is not None:
                over = now >= self._overridden_until
                self._override = (
                    None if over else Reading(override.value, override.flags, now, override.source, override.reasons)
                )
                if over:
                    self._said = None
            if self.ranked:
                nothing_aged = current is (self._said or previous)
                for name, reading in self._others.items():
                    aged = self._aged(reading, now)
                    if aged is not reading:
                        self._others[name] = aged
                        nothing_aged = False
                    if not aged.flags & OLD:
                        fresh.append(aged.stamp)
                if not (nothing_aged and override is None and self.rank(current.source) == 0):  # no better may be back
                    self._rerank(current)
            else:
                self._publish(current)
            if fresh and self.tolerance:
                self._call_at(min(fresh) + self.tolerance)
            self._end_waiting(now)
            if self._override is not None:
                self._schedule_override()
            if self._reading is not previous and self._subscribers:
                self._database._redeliver(self)

    # -- subscribers ---------------------------------------------------------------------------------------------------

    def _must_deliver(self, previous: Reading) -> bool:
        """Whether the caller, which holds the lock, must call `_deliver` as soon as it has released it."""
        if self._reading is previous or not self._subscribers:
            return False
        if self._delivering:
            self._left_by = get_ident()
            return False
        self._delivering = True
        return True

    def _deliver(self) -> None:
        """Call the subscribers until the newest reading has been delivered. The caller has set `_delivering`.

        The database examines this frame, and that of `write_aux`, to find a subscriber that hangs: see
        `fixgw.database.hung`, which knows the names of the local variables.
        """
        generation = self._generation
        for _ in range(MAX_REDELIVERIES):
            reading = self._delivered = self._reading
            callbacks = iter(self._subscribers)
            while True:
                try:
                    for callback in callbacks:
                        callback(self.key, reading)
                    break
                except KeyboardInterrupt:
                    if generation == self._generation:
                        self._delivering = False
                    raise
                except BaseException as error:
                    self._database._callback_failed(self, callback, error)
            if generation != self._generation:
                return  # it took too long, and another thread has taken over
            self._delivering = False
            if self._reading is self._delivered:
                return
            with self._lock:  # another thread may have written in the meantime and left the delivery to us
                if self._delivering or self._reading is self._delivered:
                    return
                self._delivering = True
        # The subscribers are slower than the writers, or write the item themselves.
        self._delivering = False
        if self._left_by == get_ident():
            self._complain_of_feedback(self.key)
        else:
            self._database._redeliver(self)

    def _complain_of_feedback(self, name: str) -> None:
        self._database.complain(
            "%s: its subscribers keep writing it; delivery was cut short",
            name,
            about=name,
            extra={"FIXGW_KEY": self.key},
        )

    def _resume_delivery(self) -> None:
        """Deliver the newest reading if no other thread has."""
        with self._lock:
            if self._delivering or self._reading is self._delivered:
                return
            self._delivering = True
        self._deliver()

    def _give_up_delivery(self, of: Reading) -> None:
        """Let other threads deliver, because the one that delivers `of` has not returned from a subscriber."""
        with self._lock:
            if self._delivering and self._delivered is of:
                self._generation += 1
                self._delivering = False
                self._delivered = None  # some subscribers did not get it
        self._database._redeliver(self)

    def _set_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        with self._lock:
            self._subscriptions = tuple(subscriptions)
            self.quick = all(s.quick for s in subscriptions)
            self._subscribers = tuple(s._call for s in subscriptions if s._call is not None)
            self._aux_subscribers = tuple(s._call_aux for s in subscriptions if s._call_aux is not None)

    def _difference(self, value: Any, other: Any) -> float | None:
        """`value` minus `other`, for numbers; the short way round for directions."""
        if not self._is_number:
            return None
        difference: float = value - other
        turn = self.definition.wrap
        return (difference + turn / 2) % turn - turn / 2 if turn else difference

    # -- explaining ----------------------------------------------------------------------------------------------------

    def explain(self) -> dict[str, Any]:
        """Where the value comes from, which sources it has, why it is flagged, and how many seconds ago it was good."""
        now = self._clock()
        reading = self.reading
        readings = self.readings()
        last_good = reading.stamp if reading.good else self._last_good
        overridden = self.overridden
        return {
            "key": self.key,
            "description": self.description,
            "value": reading.value,
            "units": self.units,
            "decimals": self.definition.decimals,
            "flags": {FLAG_NAMES[bit]: text for bit, text in reading.reasons},
            "source": reading.source or None,
            "override_seconds": None if overridden is None else _seconds(overridden[1]),
            "annunciated_by": dict(self.annunciators),
            "age": _seconds(reading.age(now)),
            "last_good": _seconds(now - last_good),
            "tolerance": self.tolerance,
            "range": [self.min, self.max],
            "ranking": list(self.sources),
            "return_after": self.return_after,
            "source_changes": self.source_changes,
            "sources": [
                {
                    "source": r.source,
                    "published": r is readings[0] and overridden is None,
                    "rank": self.rank(r.source) if self.ranked else None,
                    "value": r.value,
                    "flags": {FLAG_NAMES[bit]: text for bit, text in r.reasons},
                    "age": _seconds(r.age(now)),
                    "difference": self._difference(r.value, reading.value),
                }
                for r in readings
                if r.source
            ],
            "writes": self.writes,
            "refused": self.refused,
            "conflicts": self.conflicts,
            "conflict_with": next((s for s in self._conflict if s != reading.source), None),
            "aux": dict(self.aux),
            "aux_sources": dict(self.aux_sources),
            "feeders": [name for name, keys in [*self._database.feeders.items()] if self.key in keys],
            "computed": [each._asdict() for each in self._database.derivations.get(self.key, ())],
        }


_A_TYPE = {"float": "a number", "int": "a whole number", "bool": "True or False", "str": "text"}


class _Nothing:
    """The type of no value."""


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int with thousands of digits
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
    """Whether `value` is NaN or really infinite, and not just too large for a float."""
    try:
        return not isfinite(float(value)) and not (isinstance(value, str) and value.strip(" +-").isdecimal())
    except (TypeError, ValueError, OverflowError):
        return False


def _annunciated(said: Reading, owners: dict[str, str]) -> Reading:
    """`said` with the annunciate flag set for its `owners`, and with their reasons."""
    reasons = [said.reason(ANNUNCIATE)] if said.annunciate else []
    for owner, reason in owners.items():
        reasons.append(f"{reason} ({owner})" if reason and owner else reason or f"set by {owner or 'nobody'}")
    return _flagged(said, ANNUNCIATE, ANNUNCIATE, "; ".join(reasons))


def _same_write(reading: Reading, other: Reading) -> bool:
    """Whether both are of one write, whatever flags have been set since."""
    return reading.stamp == other.stamp and reading.source == other.source and reading.value == other.value


def _level(reading: Reading) -> int:
    """The level of a source: 2 good, 1 bad but fresh and not failed, 0 old or failed."""
    flags = reading.flags & DOUBTFUL
    return GOOD if not flags else 1 if flags == BAD else 0


def _without(flag: int, reading: Reading) -> Reading:
    return _flagged(reading, 0, flag, "")


def _flagged(reading: Reading, flags: int, mask: int, reason: str) -> Reading:
    """`reading` with the flags in `mask` set to those in `flags`. Returns `reading` itself if nothing changes."""
    if not (reading.flags | flags) & mask:
        return reading
    wanted = (reading.flags & ~mask) | (flags & mask)
    if wanted & ~mask:
        reasons = dict(reading.reasons)
        pairs = tuple((bit, reason if bit & mask else reasons[bit]) for bit in FLAG_NAMES if bit & wanted)
    else:
        pairs = tuple([(bit, reason) for bit in FLAG_NAMES if bit & wanted]) if wanted else ()
    checked = reading.checked & ~mask
    if wanted == reading.flags and pairs == reading.reasons and checked == reading.checked:
        return reading
    return Reading(reading.value, wanted, reading.stamp, reading.source, pairs, checked)
