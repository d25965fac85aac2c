"""The central database of flight information.

An `Item` has a key (``IAS``), a type, units, a range, a tolerance in milliseconds, named aux values (``IAS.Vne``) and a
current `Reading`: one immutable object, replaced whole, so that nobody ever sees a value from one write with flags from
another. Reading takes no lock.

Threads: every method may be called from any thread. Subscribers are called in the thread that writes (the ageing thread
for what becomes old); when two threads write one item in the same instant, one of them delivers for both, in order, the
newest last.

The module-level functions (`read`, `write`, `listkeys` ...) are the calls that plugins written for other gateways use;
they act on the database of the process's first gateway (`current`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from itertools import count
from typing import Any

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
from fixgw.database.reading import LONGEST_TEXT, PYTHON_TYPES, Clock, Definition, Flags, Reading
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
    "CALLBACK_STRIKES",
    "FAIL",
    "FLAG_LETTERS",
    "FLAG_NAMES",
    "INITIAL",
    "KEPT",
    "LONGEST_TEXT",
    "NEVER",
    "OLD",
    "PYTHON_TYPES",
    "SECFAIL",
    "WRITABLE",
    "AuxCallback",
    "Clock",
    "Database",
    "Definition",
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

CALLBACK_STRIKES = 10  # failures in a row after which a callback is dropped
AGEING_SILENT = 5.0  # seconds after which an ageing thread that has not come round is taken for stuck


class Mailbox:
    """The latest reading of each key that changed since the last `wait`; bounded by the number of keys.

    `conflated` counts the readings that a newer one has replaced before anybody waited for them.

    For a plugin's own thread: writers put, one thread waits. Use as a context manager, or `close` it. Raises
    `UnknownKey` for a key that does not exist.
    """

    def __init__(self, database: Database, keys: Iterable[str]) -> None:
        self._condition = threading.Condition()
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
        with self._condition:
            if not self._pending:
                self._condition.notify()
            elif key in self._pending:
                self.conflated += 1
            self._pending[key] = reading

    def wait(self, timeout: float) -> dict[str, Reading]:
        """What changed, in order of first change; empty after `timeout` seconds, or when woken by `wake`.

        A reading is old if it is overdue by now, however long it has been waiting here.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._woken, timeout)
            self._woken = False
            pending, self._pending = self._pending, {}
        return {key: self._database.item(key).aged(reading) for key, reading in pending.items()}

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
        self.complain = Complaints(log, clock)
        self.callback_errors = 0
        self.legacy_callbacks: list[Added] = []
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

    def matching(self, *patterns: str) -> list[str]:
        """The keys that one of the `patterns` fits (`fnmatch`, in the case given), each once, in the order of the
        patterns. Raises `UnknownKey` for a pattern that no key fits."""
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
        """The current reading of an item, old if it is overdue by now. Takes no lock. Raises `UnknownKey`."""
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
        item.write_aux(name, value, source)
        return None

    def _split(self, key: str) -> tuple[Item, str]:
        base, dot, name = key.partition(".")
        item = self.item(base)
        if not dot or name not in item.aux:
            raise UnknownKey(key, [f"{base}.{a}" for a in item.aux])
        return item, name

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        key: str,
        callback: ReadingCallback | None = None,
        on_aux: AuxCallback | None = None,
        *,
        quick: bool = False,
    ) -> Subscription:
        """Call ``callback(key, reading)`` on every write and flag change, ``on_aux(key, name, value)`` for aux values.

        Both run in the writer's thread and must return at once. `key` ``"*"`` means every item, also ones defined
        later. A callback that raises is counted and logged, and dropped after `CALLBACK_STRIKES` failures in a row.

        With `quick` the callbacks promise that they only take note and never wait, not even for a device or a disk:
        threads that must not wait for a plugin then write the item themselves.
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
                self.complain(
                    "ageing of %s failed",
                    item.key,
                    about=f"ageing {item.key}",
                    error=error,
                    extra={"FIXGW_KEY": item.key},
                )
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
