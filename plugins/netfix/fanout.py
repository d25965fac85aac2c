"""Sends what has changed to the clients that have subscribed to it.

Writers put each change in a queue (`FanOut._changed`) and wake the server's thread if it sleeps; in a batch
(`Database.batch`), they do so at its end. If that does not come, the server finds the changes within a second. Each
update is formatted once, and each client gets the lines of the keys that it has subscribed to, joined. Under load,
flushes are paced to cost a few percent of the time, and a burst shares a system call. An idle gateway sends at once;
with few clients, the writer's own thread does it, because waking another thread takes longer than sending.

All memory is bounded. While the queue is short, every update is sent. Beyond `MAX_QUEUED` entries, and for a client
whose socket is full, we only note which keys have changed, and send the newest reading when there is room.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from fixgw.database import ANNUNCIATE, SECFAIL, Database, Item, Reading, Subscription, Value
from fixgw.identity import identity
from fixgw.kit.sources import digits_of, path_of, simulated, unmarked
from fixgw.netfix import sentence
from fixgw.plugins.netfix.mirror import origin
from fixgw.plugins.netfix.peer import Peer, Topic
from fixgw.plugins.netfix.versions import Versions, versions_of

NOT_OURS = ANNUNCIATE | SECFAIL  # flags that the database, not the writer, may add to a write
MAX_QUEUED = 1024  # the most updates that wait for the next flush individually
REFILL_LINES = 200  # the most lines formatted at a time for a client that has fallen behind
# The share of the time that we may spend on flushes that could have been fewer, and the number of updates in one with
# which that is halved, because a full flush gains nothing by growing. With few clients, and with many: then a flush
# costs much.
FEW = (0.03, 32)
MANY = (0.012, 12)
CREDIT_S = 0.010  # the most time for this that idle periods may save up
LONGEST_PACE_S = 0.010  # no update waits longer than this
BURST_S = 0.001  # updates that come this soon after others come several at a time
DIRECT_CLIENTS = 4  # with more clients than this, writers leave the sending to the server's thread

T = TypeVar("T")
Entry = tuple[str, str, Any, Peer | None]  # key, aux name, reading or aux value, the client that wrote it


class Limit:
    """Limits the rate of one key's updates. The newest one is held back until it is due, unless its flags changed."""

    def __init__(self, rate: float) -> None:
        self.interval = 1.0 / rate
        self.due = 0.0
        self.flags = -1
        self.held: Entry | None = None

    def passes(self, reading: Reading, now: float) -> bool:
        if now < self.due and reading.flags == self.flags:
            return False
        self.due = now + self.interval
        self.flags = reading.flags
        self.held = None
        return True


class FanOut:
    """The subscriptions, and the updates on their way to the subscribers.

    `rates` are updates per second by key or pattern. `wake` wakes the server's thread; any thread may call it. `rearm`
    makes the server wait for room to send to a client. All else belongs to the thread that holds `working`.
    """

    def __init__(
        self,
        database: Database,
        rates: Mapping[str, float],
        wake: Callable[[], None],
        rearm: Callable[[Peer], None],
        clock: Callable[[], float],
    ) -> None:
        #: The server's thread holds this except while it sleeps; a writer that sends directly holds it while sending.
        self.working = threading.Lock()
        #: Clients whose connection broke while we sent to them.
        self.broken: list[Peer] = []
        self.conflated = 0
        self._db = database
        self._wake = wake
        self._rearm = rearm
        self._clock = clock
        self._rates = dict(rates)
        self._limits: dict[str, Limit | None] = {}
        self._held: dict[str, Limit] = {}
        self._next_release = float("inf")
        self._items: dict[str, Item] = {}
        self._subscribed: dict[str, tuple[Subscription, set[Peer]]] = {}
        self._followers: dict[Peer, None] = {}  # the clients that have subscribed to anything
        self._groups: list[tuple[frozenset[str], int, list[Peer]]] = []
        self._regroup = False
        self._versions = versions_of(database, identity(database))
        self._versions.listeners.add(self._version_changed)
        database.batch.on_end(self._batch_ended)
        self._gateways: dict[str, Peer] = {}  # the links of other gateways, by identity
        self._by_digits: dict[str, Peer] = {}  # and by its digits
        self._pending: deque[Entry] = deque()
        self._overflow: dict[Topic, None] = {}
        self._own: dict[tuple[str, float], tuple[Peer, Reading]] = {}
        self._authors: dict[int, tuple[Peer, str, str]] = {}  # by thread: the client, the key and the aux name
        self._next_flush = self._last_flush = self._flush_cost = 0.0
        self._asleep = False
        self._bursts = False  # updates come several at a time, so that the first one need not be sent alone
        self._stopping = False

    # -- subscriptions -------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> int:
        """The number of keys with subscribers. Any thread may call this."""
        return len(self._subscribed)

    def subscribe(self, peer: Peer, item: Item) -> None:
        """Send changes of the item to the client, which has not subscribed to it yet."""
        key = item.key
        self.sync(peer)  # the client does not get what was written before
        self._items[key] = item
        if key in self._subscribed:
            self._subscribed[key][1].add(peer)
        else:
            self._subscribed[key] = (self._db.subscribe(key, self._changed, self._aux_changed, quick=True), {peer})
        peer.subscriptions[key] = self._db.clock()
        self._followers[peer] = None
        self._regroup = True

    def unsubscribe(self, peer: Peer, key: str) -> None:
        """Send no more changes of the key to the client, which has subscribed to it."""
        del peer.subscriptions[key]
        for topic in [t for t in peer.behind if t[0] == key]:
            del peer.behind[topic]
        subscription, peers = self._subscribed[key]
        peers.discard(peer)
        if not peers:
            del self._subscribed[key]
            subscription.close()
        if not peer.subscriptions:
            del self._followers[peer]
        self._regroup = True

    def introduce(self, peer: Peer, identity: str) -> None:
        """Note that the client is a link of another gateway: it does not get what came from that gateway."""
        self._gateways[identity] = peer
        if digits := digits_of(identity):
            self._by_digits[digits] = peer
        self._regroup = True

    def trace(self, peer: Peer) -> None:
        """Tell this link of another gateway which gateways each value has passed through."""
        peer.traces = True
        self._regroup = True

    def forget(self, peer: Peer) -> None:
        """Remove a client that is gone."""
        for key in list(peer.subscriptions):
            self.unsubscribe(peer, key)
        if self._gateways.get(peer.gateway) is peer:
            del self._gateways[peer.gateway]
            self._by_digits.pop(digits_of(peer.gateway), None)

    def stop(self) -> None:
        """Stop writers from sending directly. Any thread may call this."""
        self._stopping = True

    def close(self) -> None:
        """Unsubscribe from all changes."""
        self._versions.listeners.discard(self._version_changed)
        self._db.batch.off_end(self._batch_ended)
        for subscription, _ in list(self._subscribed.values()):
            subscription.close()

    # -- what clients write --------------------------------------------------------------------------------------------

    def remember_own(self, peer: Peer, key: str, reading: Reading) -> None:
        """Note that the client wrote `reading`, so that it is not sent back."""
        if key in peer.subscriptions:
            if len(self._own) > 4 * MAX_QUEUED:  # only readings that were never published are left
                self._own.clear()
            self._own[key, reading.stamp] = (peer, reading)

    def write_for(self, peer: Peer, key: str, name: str, write: Callable[[], T]) -> T:
        """Call `write`, and do not send back to the client what it writes to the item or aux value. Any thread."""
        me = threading.get_ident()
        self._authors[me] = peer, key, name
        origin.gateway = peer.gateway if name else ""
        try:
            return write()
        finally:
            del self._authors[me]
            origin.gateway = ""

    @property
    def waiting(self) -> int:
        """The number of updates that wait to be sent."""
        return len(self._pending)

    def hurry(self) -> None:
        """Send soon, because a client has written something."""
        self._next_flush = min(self._next_flush, self._last_flush + 2 * self._flush_cost)

    def sync(self, peer: Peer) -> None:
        """Send what was written before this batch of the client's input. Does so once per batch."""
        if not peer.synced:
            peer.synced = True
            if self._pending:
                peer.emit()
                self._flush()

    # -- when to send --------------------------------------------------------------------------------------------------

    def sleep_time(self) -> float:
        """Seconds until there is something to send. A writer that comes earlier wakes the server."""
        now = self._clock()
        if now < self._next_flush:
            return self._next_flush - now
        self._asleep = True  # a write before this line is picked up below; a later one wakes us
        if self._pending or self._overflow:
            self._asleep = False
            return 0.0
        return max(0.0, self._next_release - now)

    def note_awake(self) -> None:
        """Note that the server's thread is awake, so that writers do not wake it."""
        self._asleep = False

    def flush_if_due(self) -> None:
        if (self._pending or self._overflow or self._next_release <= self._clock()) and (
            self._clock() >= self._next_flush
        ):
            self._flush()

    # -- on the writer's thread ----------------------------------------------------------------------------------------

    def _changed(self, key: str, reading: Reading) -> None:
        """Note the update, and wake the server if it sleeps. Runs on the writer's thread."""
        author = self._author(key, "")
        if author is not None and unmarked(reading.source) != author.source:
            author = None  # it comes from another source
        if len(self._pending) < MAX_QUEUED:
            self._pending.append((key, "", reading, author))
        else:
            self._overflow[key, ""] = None
        if self._asleep and not self._db.batch.is_open:
            self._asleep = False
            if self._bursts or not self._send_directly():
                self._wake()

    def _batch_ended(self) -> None:
        """Send what was written in the batch, unless another thread does. Runs on the writer's thread."""
        if self._asleep and (self._pending or self._overflow):
            self._asleep = False
            if not self._send_directly():
                self._wake()

    def _author(self, key: str, name: str) -> Peer | None:
        """The client for which this thread is writing this item or aux value, if any."""
        if self._authors:
            written = self._authors.get(threading.get_ident())
            if written is not None and written[1:] == (key, name):
                return written[0]
        return None

    def _send_directly(self) -> bool:
        """Send what is queued, if that is quick and it is due. Runs on the writer's thread while the server sleeps.

        Returns False if the server has to do it.
        """
        if len(self._followers) > DIRECT_CLIENTS or self._rates or not self.working.acquire(blocking=False):
            return False
        try:
            now = self._clock()
            if self._stopping or now < self._next_flush or now < self._last_flush + BURST_S:
                self._bursts = True
                return False
            self._flush()
            self._asleep = True  # a write before this line is picked up below; a later one is handled by its writer
            if self._pending or self._overflow or self.broken:
                self._asleep = False
            return self._asleep
        finally:
            self.working.release()

    def _aux_changed(self, key: str, name: str, value: Value | None) -> None:
        author = self._author(key, name)
        if author is None and origin.gateway:
            author = self._gateways.get(origin.gateway)
        if len(self._pending) < MAX_QUEUED:
            self._pending.append((key, name, value, author))
        else:
            self._overflow[key, name] = None
        if self._asleep and not self._db.batch.is_open:
            self._asleep = False
            self._wake()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _take_queued(self) -> list[Entry]:
        """Take the updates to send, in the order of writing; conflated if there were too many."""
        pending = self._pending
        entries = [pending.popleft() for _ in range(len(pending))]
        if self._overflow:
            newest = {(key, name): (key, name, what, author) for key, name, what, author in entries}
            for topic in list(self._overflow):
                del self._overflow[topic]  # before reading it, so that a later write queues it again
                key, name = topic
                item = self._items[key]
                newest[topic] = (key, name, item.aux[name] if name else item.reading, None)
            self.conflated += len(entries) - len(newest)
            entries = list(newest.values())
        return entries

    def _limit_rates(self, entries: list[Entry], now: float) -> list[Entry]:
        """The updates, new and held back, that the rate limits allow now."""
        passing = []
        for entry in entries:
            key, name, what, _ = entry
            limit = None if name else self._find_limit(key)
            if limit is None or limit.passes(what, now):
                passing.append(entry)
            else:
                self.conflated += limit.held is not None
                limit.held = entry
                self._held[key] = limit
        for key, limit in list(self._held.items()):
            if limit.held is not None and now < limit.due:
                continue
            del self._held[key]
            if limit.held is not None:
                passing.append(limit.held)
                limit.passes(limit.held[2], now)
        self._next_release = min((limit.due for limit in self._held.values()), default=float("inf"))
        return passing

    def _find_limit(self, key: str) -> Limit | None:
        if key not in self._limits:
            rates = [rate for pattern, rate in self._rates.items() if fnmatchcase(key, pattern)]
            self._limits[key] = Limit(min(rates)) if rates else None
        return self._limits[key]

    def _flush(self) -> None:
        """Send what has changed to the subscribers."""
        cost = time.thread_time()
        entries = self._take_queued()
        self._bursts = len(entries) > 1
        if self._rates:
            entries = self._limit_rates(entries, self._clock())
        lines: list[str] = []
        special: dict[int, str] = {}  # the sentences that gateways get instead; empty for none
        traced: dict[int, str] = {}  # and those that want to know the path
        authors: dict[Peer, set[int]] = {}
        items, own, gateways, now = self._items, self._own, self._gateways, self._clock()
        for n, (key, name, what, author) in enumerate(entries):
            if name:
                line = sentence.aux_update(key, name, what)
            else:
                item = items[key]
                if item.tolerance and what.stamp + item.tolerance <= now:  # this process may have been delayed since
                    what = item.aged(what)
                line = sentence.update(key, what)
                if own and (mine := own.pop((key, what.stamp), None)) is not None:
                    # The published reading may differ from the written one in annunciate and, if ranked, in secfail.
                    same = what.source == mine[1].source and what.flags | NOT_OURS == mine[1].flags | NOT_OURS
                    author = mine[0] if same else None
                if gateways and author is None:
                    versioned = Versions.has(item, name) and not simulated(what.source)
                    if not versioned:  # a value from a gateway, over any link, is not new to it
                        author = gateways.get(what.source.rpartition("/")[2])
            if gateways:
                if (other := self._for_gateway(key, name, what, line)) != line:
                    special[n] = _ended(other)
                if (pathed := self._with_path(key, name, what, other)) != line:
                    traced[n] = _ended(pathed)
                    for digits in path_of(what.source) if pathed != other else ():
                        if had_it := self._by_digits.get(digits):
                            authors.setdefault(had_it, set()).add(n)
            if author is not None:
                authors.setdefault(author, set()).add(n)
            lines.append(line + "\n")
        kinds = (
            lines,
            [special.get(n, line) for n, line in enumerate(lines)] if special else lines,
            [traced.get(n, line) for n, line in enumerate(lines)] if traced else lines,
        )
        for topics, kind, peers in self._group_peers():
            told = kinds[kind]
            wanted = [n for n, entry in enumerate(entries) if entry[0] in topics and told[n]]
            if not wanted:
                continue
            data = "".join(told if len(wanted) == len(told) else [told[n] for n in wanted]).encode()
            for peer in peers:
                if peer in authors:
                    self._update_author(peer, entries, told, wanted, authors[peer])
                elif peer.out or peer.behind:
                    self._fall_behind(peer, [entries[n] for n in wanted])
                else:
                    self._update(peer, data, len(wanted))
        # Waiting saves system calls while updates arrive one by one.
        self._flush_cost = time.thread_time() - cost
        self._last_flush = now = self._clock()
        duty, full = MANY if len(self._followers) > DIRECT_CLIENTS else FEW
        pace = self._flush_cost / duty * full / (full + len(entries))
        self._next_flush = min(max(self._next_flush, now - CREDIT_S) + pace, now + LONGEST_PACE_S)

    def _group_peers(self) -> list[tuple[frozenset[str], int, list[Peer]]]:
        """Group the clients by their subscriptions and kind: others, gateways, and those that want to know the path."""
        if self._regroup:
            self._regroup = False
            groups: dict[tuple[frozenset[str], int], list[Peer]] = {}
            for peer in self._followers:
                groups.setdefault((frozenset(peer.subscriptions), bool(peer.gateway) + peer.traces), []).append(peer)
            self._groups = [(*group, peers) for group, peers in groups.items()]
        return self._groups

    def _update(self, peer: Peer, data: bytes, count: int) -> None:
        peer.sent += count
        try:
            peer.send(data)
        except OSError:
            self.broken.append(peer)
        else:
            if peer.out:
                self._rearm(peer)

    def _update_author(
        self, peer: Peer, entries: list[Entry], lines: list[str], wanted: list[int], mine: set[int]
    ) -> None:
        """Send a client everything except what it wrote itself.

        If another source wrote the same topic earlier in this batch, the client also gets its own write, which came
        last.
        """
        preceded: set[Topic] = set()
        rest = []
        for n in wanted:
            topic = entries[n][:2]
            if n not in mine or topic in preceded:
                preceded.add(topic)
                rest.append(n)
        if not rest:
            return
        if peer.out or peer.behind:
            self._fall_behind(peer, [entries[n] for n in rest])
        else:
            self._update(peer, "".join([lines[n] for n in rest]).encode(), len(rest))

    def _fall_behind(self, peer: Peer, entries: list[Entry]) -> None:
        """Only note what has changed. The newest readings are sent when the socket has room again."""
        behind = peer.behind
        before = len(behind)
        for key, name, _, _ in entries:
            behind[key, name] = None
        peer.conflated += len(entries) - (len(behind) - before)

    def catch_up(self, peer: Peer) -> None:
        """Send what was kept, then the newest reading of each key that the client missed: its socket has room again."""
        now = self._clock()
        if peer.out and not peer.drain(now):
            return
        while peer.behind and not peer.out:
            topics = [topic for topic, _ in zip(list(peer.behind), range(REFILL_LINES), strict=False)]
            lines = []
            for topic in topics:
                del peer.behind[topic]
                lines.append(self._current_line(peer, *topic))
            peer.sent += len(lines)
            peer.progress = now
            peer.send("".join(lines).encode())

    def _current_line(self, peer: Peer, key: str, name: str) -> str:
        item = self._items[key]
        what = item.aux[name] if name else item.reading
        line = sentence.aux_update(key, name, what) if name else sentence.update(key, what)  # type: ignore[arg-type]
        if peer.gateway:
            line = self._for_gateway(key, name, what, line)
        if peer.traces:
            if not name and digits_of(peer.gateway) in path_of(what.source):  # type: ignore[union-attr]
                return ""
            line = self._with_path(key, name, what, line)
        return _ended(line)

    def _version_changed(self, key: str, name: str) -> None:
        if key in self._subscribed and self._gateways:
            self._overflow[key, name] = None
            self._wake()

    def _for_gateway(self, key: str, name: str, what: Any, line: str) -> str:
        """The update `line` for another gateway: settings with their version."""
        item = self._items[key]
        if Versions.has(item, name) and (name or not what.old):
            return self._versions.line(item, name)
        return line if name else sentence.for_gateway(line, what.source)

    def _with_path(self, key: str, name: str, what: Any, line: str) -> str:
        """The update `line` with the gateways that the measurement has passed through."""
        if Versions.has(self._items[key], name):
            return line
        return sentence.with_path(line, path_of(what.source))


def _ended(line: str) -> str:
    return line and line + "\n"
