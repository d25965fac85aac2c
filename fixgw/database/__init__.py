"""The central database of flight information.

An `Item` has a key (``IAS``), a type, units, a range, a tolerance in milliseconds, named aux values (``IAS.Vne``) and a
current `Reading`. A reading is an immutable object that is replaced as a whole, so that no reader sees the value of
one write with the flags of another. Reading takes no lock.

Threads: every method may be called from any thread. Subscribers are called in the thread that writes, or on a
thread of the database for items that become old; when two threads write one item at the same instant, one of them
delivers for both, in order, the newest last. Only the writer that calls a subscriber waits for it: the ageing thread
calls none. A subscriber that does not return within about a second is given up: its subscription ends, another thread
delivers to the subscribers that it has delayed, and its plugin fails (`Database.on_hung`).

The module-level functions (`read`, `write`, `listkeys` ...) are the calls that plugins written for other gateways use;
they act on the database of the process's first gateway (`current`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from itertools import count
from typing import Any

from fixgw.clock import now as clock_now
from fixgw.database.batch import Batch
from fixgw.database.hung import Hung, Lookout
from fixgw.database.item import AuxCallback, Item, ReadingCallback, Subscription
from fixgw.database.legacy import (
    Added,
    LegacyCallback,
    RawItem,
    bind,
    callback_add,
    callback_del,
    current,
    get_raw_item,
    listkeys,
    read,
    write,
)
from fixgw.database.reading import LONGEST_TEXT, PYTHON_TYPES, Clock, Definition, Derivation, Flags, Reading
from fixgw.errors import UnknownKey
from fixgw.kit.complaints import Complaints
from fixgw.kit.sources import INITIAL, KEPT
from fixgw.kit.update import (
    ANNUNCIATE,
    BAD,
    FAIL,
    FLAG_LETTERS,
    FLAG_NAMES,
    NEVER,
    OLD,
    SECFAIL,
    WRITABLE,
    TypeName,
    Value,
)

__all__ = [
    "ANNUNCIATE",
    "BAD",
    "FAIL",
    "FLAG_LETTERS",
    "FLAG_NAMES",
    "INITIAL",
    "KEPT",
    "LONGEST_TEXT",
    "MAX_CALLBACK_FAILURES",
    "NEVER",
    "OLD",
    "PYTHON_TYPES",
    "SECFAIL",
    "WRITABLE",
    "AuxCallback",
    "Clock",
    "Database",
    "Definition",
    "Derivation",
    "Flags",
    "Item",
    "LegacyCallback",
    "Mailbox",
    "RawItem",
    "Reading",
    "ReadingCallback",
    "Subscription",
    "TypeName",
    "Value",
    "bind",
    "callback_add",
    "callback_del",
    "current",
    "get_raw_item",
    "listkeys",
    "read",
    "write",
]

log = logging.getLogger(__name__)

MAX_CALLBACK_FAILURES = 10  # a callback that fails this often in a row is dropped
LONG_S = 1.0  # items with at least this tolerance are checked together,
GRID_S = 0.1  # at most this late
#: While one is checked, so are those that are due this soon, if they have been written since they were scheduled.
EARLY_S = (0.05, 0.5)
AGEING_SILENT_S = 5.0  # an ageing thread that has not finished a round for this long counts as stuck


Due = tuple[float, int, Item]  # when, an order of those with the same time, and what to check


class Mailbox:
    """Holds the latest reading of each key that changed since the last `wait`, so its size is limited.

    `conflated` counts the readings that newer ones replaced before `wait` returned them.

    For a plugin with its own thread: writers fill the mailbox, and one thread waits for it. Use it as a context
    manager, or `close` it. Raises `UnknownKey` for a key that does not exist.
    """

    def __init__(self, database: Database, keys: Iterable[str]) -> None:
        self._lock = threading.RLock()  # entered as such: that costs writers less than through the condition
        self._condition = threading.Condition(self._lock)
        self._database = database
        self._pending: dict[str, Reading] = {}
        self._woken = False
        self.conflated = 0
        keys = dict.fromkeys((keys,) if isinstance(keys, str) else keys)
        for key in keys:
            if key != "*":
                database.item(key)
        self._subscriptions = [database.subscribe(key, self._put, quick=True) for key in keys]

    def _put(self, key: str, reading: Reading) -> None:
        with self._lock:
            if not self._pending:
                self._condition.notify()
            elif key in self._pending:
                self.conflated += 1
            self._pending[key] = reading

    @property
    def filled(self) -> bool:
        """Whether there are changes to take."""
        return bool(self._pending)

    def wait(self, timeout: float) -> dict[str, Reading]:
        """Wait for changes. Returns them in the order of the first change; empty after `timeout` seconds or a `wake`.

        A reading that has become overdue while it waited here is old.
        """
        with self._lock:
            if not (self._pending or self._woken):
                self._condition.wait_for(lambda: self._pending or self._woken, timeout)
            self._woken = False
            pending, self._pending = self._pending, {}
        return {key: self._database.item(key).aged(reading) for key, reading in pending.items()} if pending else {}

    def wake(self) -> None:
        """Wake the waiting thread, so that it can check its stop flag. If it is not waiting, its next wait returns at
        once. Any thread may call this."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def close(self) -> None:
        """Stop receiving changes, and wake the waiting thread. May be called twice."""
        for subscription in self._subscriptions:
            subscription.close()
        self.wake()

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Database:
    """All items, in the order in which they are defined.

    `clock` is monotonic, in seconds (`fixgw.clock`). `start` starts the threads that age items and notify subscribers
    of items that became old; with an injected clock, call `age` instead. `on_hung`, if set, is called with each
    subscriber that hangs, on the ageing thread.
    """

    def __init__(self, definitions: Iterable[Definition] = (), clock: Clock = clock_now) -> None:
        self.clock = clock
        self._items: dict[str, Item] = {}
        #: ``with database.batch:`` around several writes that belong together.
        self.batch = Batch(self._batch_failed)
        #: For `Item.explain`: how plugins compute items, by key. A plugin replaces the tuple of a key as a whole.
        self.derivations: dict[str, tuple[Derivation, ...]] = {}
        #: For `Item.explain`: the keys that connections may write, by the connection's name.
        self.feeders: dict[str, frozenset[str]] = {}
        self._wildcards: tuple[Subscription, ...] = ()
        self._lock = threading.RLock()
        #: What to check when: items with a short and with a long tolerance. Heaps of the ageing thread.
        self._due: tuple[list[Due], list[Due]] = [], []
        self._arrivals: deque[Due] = deque()
        self._wakes_at = NEVER  # when the ageing thread looks again by itself; `NEVER` while it is awake
        self._undelivered: deque[Item] = deque()
        self._deliver_wake = threading.Event()
        self._deliverer: threading.Thread | None = None
        self._changes: deque[tuple[Item, Reading, Reading]] = deque(maxlen=1000)
        self._lookout = Lookout()
        self._look_due = NEVER
        self.on_hung: Callable[[Hung], None] | None = None
        self._order = count()  # makes entries that are due at the same instant comparable
        self._aged_at = NEVER
        self._wake = threading.Event()
        self._pause = threading.Event()  # never set
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.complain = Complaints(log, clock)
        self.callback_errors = 0
        self.hung_subscribers = 0
        self.ageing_errors = 0
        self.legacy_callbacks: list[Added] = []
        for definition in definitions:
            self.define(definition)

    # -- items ---------------------------------------------------------------------------------------------------------

    def define(self, definition: Definition) -> Item:
        """Add an item. Raises ValueError if the key exists, and `BadValue` for an invalid initial value."""
        with self._lock:
            if definition.key in self._items:
                raise ValueError(f"{definition.key} is defined twice")
            item = self._items[definition.key] = Item(self, definition)
            if self._wildcards:
                item._set_subscriptions(self._wildcards)
            return item

    def item(self, key: str) -> Item:
        """The item `key`. Raises `UnknownKey`, which suggests the nearest key."""
        try:
            return self._items[key]
        except KeyError:
            raise UnknownKey(key, self._items) from None

    def keys(self) -> list[str]:
        return list(self._items)

    def items(self) -> list[Item]:
        return list(self._items.values())

    def readings(self) -> list[Reading]:
        """The readings of all items as they were stored, in the order of `keys`: overdue ones need `Item.aged`.

        For whoever looks at all items several times a second: this costs writers nothing, and a reading that has not
        changed is the same object. Takes no lock.
        """
        return [item._reading for item in self._items.values()]

    def matching(self, *patterns: str) -> list[str]:
        """The keys that match one of the `patterns` (`fnmatch`, case-sensitive), each once, in the patterns' order.
        Raises `UnknownKey` for a pattern that matches no key."""
        found: dict[str, None] = {}
        for pattern in patterns:
            keys = [pattern] if pattern in self._items else [k for k in self._items if fnmatchcase(k, pattern)]
            if not keys:
                raise UnknownKey(pattern, self._items)
            found |= dict.fromkeys(keys)
        return list(found)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._items)

    def read(self, key: str) -> Reading:
        """The current reading of an item; old if it is overdue. Takes no lock. Raises `UnknownKey`."""
        try:
            return self._items[key].reading
        except KeyError:
            raise UnknownKey(key, self._items) from None

    def read_aux(self, key: str) -> Value | None:
        """The aux value ``"IAS.Vne"``; None if it is not set. Raises `UnknownKey`."""
        item, name = self._split(key)
        return item.aux[name]

    def write(
        self, key: str, value: Any, source: str = "", flags: int | None = None, reason: str = ""
    ) -> Reading | None:
        """Write an item (see `Item.write`) or an aux value such as ``"IAS.Vne"``, which returns None."""
        item = self._items.get(key)
        if item is not None:
            return item.write(value, source, flags, reason)
        item, name = self._split(key)
        item.write_aux(name, value, source)
        return None

    def _split(self, key: str) -> tuple[Item, str]:
        base, dot, name = key.partition(".")
        item = self.item(base)
        if not dot or name not in item.aux:
            raise UnknownKey(key, [f"{base}.{a}" for a in item.aux])
        return item, name

    def overridden(self) -> dict[str, tuple[Reading, float]]:
        """What overrides items, and for how many seconds more, by key; see `Item.override`."""
        return {item.key: found for item in self.items() if (found := item.overridden)}

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def release(self, *owners: str) -> None:
        """Release the annunciate flags that `owners` hold, because their alert logic has ended."""
        for item in self.items():
            for owner in item.annunciators.keys() & owners:
                item.annunciate(False, owner=owner)

    def disown(self, source: str, reason: str) -> None:
        """Make old, for `reason`, what never ages and was last written by `source`, or below it: it has ended or hangs.

        Settings stay as they are: nobody has to set them again. Any thread may call this; it calls the subscribers.
        """
        now, below = self.clock(), f"{source}/"  # what is written from now on, while a subscriber hangs, is good
        for item in self.items():
            if item.tolerance or item.definition.setting:
                continue
            for reading in item.readings() if item.ranked else (item.said,):
                ours = reading.source == source or reading.source.startswith(below)
                if ours and reading.stamp <= now and not reading.flags & (OLD | FAIL):
                    item.flag(OLD, OLD, reading.source, reason)

    def subscribe(
        self,
        key: str,
        callback: ReadingCallback | None = None,
        on_aux: AuxCallback | None = None,
        *,
        quick: bool = False,
    ) -> Subscription:
        """Call ``callback(key, reading)`` on every write and flag change, ``on_aux(key, name, value)`` for aux values.

        Both run on the writer's thread and must return at once. One that hangs is given up within two seconds. `key`
        ``"*"`` means every item, even those defined later. A callback that raises is counted and logged, and dropped
        after `MAX_CALLBACK_FAILURES` in a row.

        `quick` promises that the callbacks only note the change and never wait, not even for a device or a disk.
        Threads that must not wait for a plugin may then write the item directly.
        """
        subscription = Subscription(self, key, callback, on_aux, quick)
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
        """Count a failure. Count successes too from the first failure on, and drop the callback after too many."""
        self.callback_errors += 1
        s = _subscription_of(item, callback)
        if s is None:
            return  # it has been closed
        name = s.name
        s.errors += 1
        if s.errors >= MAX_CALLBACK_FAILURES:
            s.close()
            log.error("callback %s on %s dropped after %d errors in a row", name, s.key, s.errors)
            return
        self.complain(
            "callback %s on %s failed",
            name,
            item.key,
            about=f"callback {name}",
            error=error,
            extra={"FIXGW_KEY": item.key},
        )
        if s._call is s.callback and s._call_aux is s.on_aux:
            s._call = s._watched if s.callback else None
            s._call_aux = s._watched_aux if s.on_aux else None
            with self._lock:
                for covered in self._covered_by(s):
                    covered._set_subscriptions(covered._subscriptions)

    def _batch_failed(self, error: Exception) -> None:
        self.callback_errors += 1
        self.complain("a callback at the end of a batch failed", about="batch", error=error)

    # -- subscribers that hang -----------------------------------------------------------------------------------------

    def look_for_hung(self) -> None:
        """Give up subscribers that hang. The ageing thread calls this regularly."""
        for hung in self._lookout.look():
            self.hung_subscribers += 1
            subscription = _subscription_of(hung.item, hung.callback)
            name = subscription.name if subscription else getattr(hung.callback, "__qualname__", "a subscriber")
            if subscription is not None:
                subscription.close()
            for item, reading, callbacks in hung.held:
                if callbacks is not None:
                    for _ in callbacks:  # so that this thread calls no more subscribers if it ever returns
                        pass
                if reading is not None:
                    item._give_up_delivery(reading)
            deliverer = self._deliverer
            if deliverer is not None and deliverer.ident == hung.thread and not self._stopping:
                self._start_delivering()
            log.error("%s does not return after a change of %s: it gets no more changes", name, hung.item.key)
            if self.on_hung is not None:
                self.on_hung(hung)

    def _start_delivering(self) -> None:
        self._deliverer = threading.Thread(target=self._deliver_forever, name="delivery", daemon=True)
        self._deliverer.start()

    def _redeliver(self, item: Item) -> None:
        """Leave the delivery of the newest reading to the delivery thread."""
        self._undelivered.append(item)
        self._deliver_wake.set()

    def _deliver_pending(self) -> None:
        for _ in range(len(self._undelivered)):
            try:
                item = self._undelivered.popleft()
            except IndexError:  # the thread that replaced this one was faster
                return
            item._resume_delivery()

    def _deliver_forever(self) -> None:
        while self._deliverer is threading.current_thread() and not self._stopping:
            self._deliver_wake.clear()
            try:
                self._deliver_pending()
            except Exception as error:  # a defect
                self.complain("delivery failed", about="delivery", error=error)
            if not self._undelivered:
                self._deliver_wake.wait()

    # -- ageing --------------------------------------------------------------------------------------------------------

    def _schedule(self, item: Item, due: float) -> None:
        self._arrivals.append((due, next(self._order), item))
        if due < self._wakes_at and not self._wake.is_set():
            self._wake.set()

    def _source_changed(self, item: Item, before: Reading, after: Reading) -> None:
        """Let the ageing thread log a change of source, so that the writer does not wait for that."""
        self._changes.append((item, before, after))

    def age(self) -> float:
        """Mark overdue items as old, and notify subscribers. Returns the seconds until an item may become old next, or
        infinity.

        For tests with an injected clock. The ageing thread leaves the notifying to another thread. One thread at a
        time.
        """
        self._mark()
        self._deliver_pending()
        return min((due[0][0] for due in self._due if due), default=float("inf")) - self.clock()

    def _mark(self) -> None:
        while self._changes:
            item, before, after = self._changes.popleft()
            why = (
                "; ".join(text for bit, text in before.reasons if bit & (OLD | BAD | FAIL))
                or f"{after.source} is good again"
            )
            self.complain(
                "%s now comes from %s instead of %s: %s",
                item.key,
                after.source,
                before.source,
                why,
                about=f"source of {item.key}",
                extra={"FIXGW_KEY": item.key},
            )
        short, long = self._due
        while True:
            while self._arrivals:
                arrival = self._arrivals.popleft()
                heappush(long if arrival[2].tolerance >= LONG_S else short, arrival)
            now = self.clock()
            for due, early in zip(self._due, EARLY_S, strict=True):
                if not due or due[0][0] > now:
                    continue
                checks = []
                while due and due[0][0] <= now + early:
                    checks.append(heappop(due))
                for check in checks:
                    at, _, item = check
                    if item._due != at:
                        continue  # it has been rescheduled to an earlier time
                    if at > now and item._reading.stamp + item.tolerance <= at:
                        heappush(due, check)
                    else:
                        self._expire(item, now)
            if not self._arrivals:
                return

    def _expire(self, item: Item, now: float) -> None:
        try:
            item._expire(now)
        except Exception as error:  # a defect; the item must still age
            self.ageing_errors += 1
            self.complain(
                "ageing of %s failed",
                item.key,
                about=f"ageing {item.key}",
                error=error,
                extra={"FIXGW_KEY": item.key},
            )
            item._due = now + 0.1
            self._schedule(item, now + 0.1)

    def _next_look(self) -> float:
        """When the ageing thread must look again.

        Items that become old at about the same time are marked together, each within a tenth of its tolerance or 20 ms.
        """
        short, long = self._due
        at = self._look_due
        if long:
            at = min(at, (long[0][0] // GRID_S + 1.0) * GRID_S)
        return min(at, short[0][0] + 0.005) if short else at

    def start(self) -> None:
        """Start the threads that are not running. Called again, it replaces those that have died."""
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._aged_at = self.clock()
            self._thread = threading.Thread(target=self._age_forever, name="ageing", daemon=True)
            self._thread.start()
        if self._deliverer is None or not self._deliverer.is_alive():
            self._start_delivering()

    def stop(self) -> None:
        """Stop the threads. Waits until they have ended, but at most 2 s for each if a subscriber holds it up."""
        self._stopping = True
        self._wake.set()
        self._deliver_wake.set()
        for thread in (self._thread, self._deliverer):
            if thread is not None:
                thread.join(2.0)
        self._thread = self._deliverer = None

    @property
    def ageing_runs(self) -> bool:
        """False if the ageing thread has died and `start` should be called. True if it is not meant to run."""
        thread = self._thread
        return thread is None or self._stopping or thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the ageing thread runs and is on time. Without it, stale values would look good."""
        thread = self._thread
        return thread is not None and thread.is_alive() and self.clock() - self._aged_at < AGEING_SILENT_S

    def _age_forever(self) -> None:
        while not self._stopping:
            self._wakes_at = NEVER
            self._wake.clear()
            try:
                self._age_once()
            except Exception as error:  # whatever it is, ageing must continue
                self.ageing_errors += 1
                self.complain("ageing failed; continuing", about="ageing", error=error)
                self._pause.wait(0.1)

    def _age_once(self) -> None:
        self._mark()
        now = self._aged_at = self.clock()
        if now >= self._look_due:
            self.look_for_hung()
            self._look_due = now + self._lookout.interval
        self._wakes_at = at = self._next_look()
        if not self._arrivals and not self._stopping:  # later ones wake us if we must look earlier
            self._wake.wait(at - now)

    # -- status --------------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """The counters for the status tree."""
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
            "hung subscribers": self.hung_subscribers,
            "ageing errors": self.ageing_errors,
            "source changes": {i.key: i.source_changes for i in items if i.source_changes},
            "conflicts": conflicts,
        }


def _subscription_of(item: Item, callback: object) -> Subscription | None:
    """The subscription of `callback`; None if it has been closed in the meantime."""
    for s in item._subscriptions:
        if any(callback is c for c in (s.callback, s.on_aux, s._call, s._call_aux)):
            return s
    return None
