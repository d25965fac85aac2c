"""What has changed goes out to the clients that have subscribed to it.

Writers leave what changed in a queue (`FanOut._changed`) and wake the server's thread when it sleeps. Each update is
formatted once, and every client is sent the joined lines of the keys that it has subscribed to. Flushes are paced so
that they cost a few percent of the time under load (bursts share a system call), and an idle gateway sends at once:
with few clients in the writer's own thread, as waking another one takes longer than sending.

All memory is bounded. The queue passes on every update while it is short; beyond `QUEUE` entries, and for a client
whose socket is full, only which keys have changed is kept, and the newest reading is sent when there is room.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fixgw.database import ANNUNCIATE, SECFAIL, Database, Item, Reading, Subscription, Value
from fixgw.kit.sources import START, simulated
from fixgw.netfix import sentence
from fixgw.plugins.netfix.mirror import taking
from fixgw.plugins.netfix.peer import Peer, Topic

NOT_OURS = ANNUNCIATE | SECFAIL  # flags that others than the writer add to what it writes
QUEUE = 1024  # updates that wait for the next flush one by one
REFILL_LINES = 200  # made at a time for a client that had fallen behind
DUTY = 0.03  # of the time may go into flushes that could have been fewer;
CREDIT_S = 0.010  # of it may be saved up while there is nothing to send,
LONGEST_PACE_S = 0.010  # and no update waits longer than this
DIRECT_CLIENTS = 4  # at most, to whom a writer sends by itself

Entry = tuple[str, str, Any, Peer | None]  # key, aux name, reading or aux value, the client that wrote the aux value


class Limit:
    """Pace of one key's updates: the newest is held back until its time has come; changed flags are not."""

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
    """Subscriptions, and the updates on their way to those who have subscribed.

    `rates` are updates a second by key or pattern. `wake` wakes the server's thread, and may be called by any; `rearm`
    has the server wait for room to send to a client. Everything else belongs to whoever holds `working`.
    """

    def __init__(
        self,
        database: Database,
        rates: Mapping[str, float],
        wake: Callable[[], None],
        rearm: Callable[[Peer], None],
        clock: Callable[[], float],
    ) -> None:
        #: Held by the server's thread except while it sleeps; by a writer that sends by itself meanwhile.
        self.working = threading.Lock()
        #: Clients whose connection broke while something was sent.
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
        self._followers: dict[Peer, None] = {}  # who has subscribed to anything
        self._groups: list[tuple[frozenset[str], bool, list[Peer]]] = []
        self._regroup = False
        self._gateways: dict[str, Peer] = {}  # links of other gateways, by their identity
        self._pending: deque[Entry] = deque()
        self._overflow: dict[Topic, None] = {}
        self._own: dict[tuple[str, float], tuple[Peer, Reading]] = {}
        self._aux_author: tuple[Peer, str, str, int] | None = None  # with the thread that writes
        self._next_flush = self._last_flush = self._flush_cost = 0.0
        self._asleep = False
        self._stopping = False

    # -- who hears what ------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> int:
        """How many keys somebody has subscribed to. Any thread."""
        return len(self._subscribed)

    def subscribe(self, peer: Peer, item: Item) -> None:
        """The client hears of the item from now on; it has not before."""
        key = item.key
        self.sync(peer)  # what was written before is not for this client
        self._items[key] = item
        if key in self._subscribed:
            self._subscribed[key][1].add(peer)
        else:
            self._subscribed[key] = (self._db.subscribe(key, self._changed, self._aux_changed), {peer})
        peer.subscriptions[key] = self._db.clock()
        self._followers[peer] = None
        self._regroup = True

    def unsubscribe(self, peer: Peer, key: str) -> None:
        """The client, which has subscribed to the key, hears of it no more."""
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
        """The client is a link of this gateway, and is not told what came from there."""
        self._gateways[identity] = peer
        self._regroup = True

    def forget(self, peer: Peer) -> None:
        """The client has gone."""
        for key in list(peer.subscriptions):
            self.unsubscribe(peer, key)
        if self._gateways.get(peer.gateway) is peer:
            del self._gateways[peer.gateway]

    def stop(self) -> None:
        """No writer sends by itself any more. Any thread."""
        self._stopping = True

    def close(self) -> None:
        """Hear of no change any more."""
        for subscription, _ in list(self._subscribed.values()):
            subscription.close()

    # -- what clients write --------------------------------------------------------------------------------------------

    def remember_own(self, peer: Peer, key: str, reading: Reading) -> None:
        """The client need not hear of `reading`: it is its own."""
        if key in peer.subscriptions:
            if len(self._own) > 4 * QUEUE:  # only what never was published is left in there
                self._own.clear()
            self._own[key, reading.stamp] = (peer, reading)

    def write_aux(self, peer: Peer, item: Item, name: str, value: str | None) -> Value | None:
        """Write what the client says of an aux value, of which it need not hear. Raises `BadValue`."""
        self._aux_author = (peer, item.key, name, threading.get_ident())
        taking.gateway = peer.gateway
        try:
            return item.write_aux(name, value)
        finally:
            self._aux_author = None
            taking.gateway = ""

    @property
    def waiting(self) -> int:
        """Updates that wait to be sent."""
        return len(self._pending)

    def hurry(self) -> None:
        """What a client has written goes out soon."""
        self._next_flush = min(self._next_flush, self._last_flush + 2 * self._flush_cost)

    def sync(self, peer: Peer) -> None:
        """Once per batch of input: everything that was written before it arrived goes out first."""
        if not peer.synced:
            peer.synced = True
            if self._pending:
                peer.emit()
                self._flush()

    # -- when to send --------------------------------------------------------------------------------------------------

    def rest(self) -> float:
        """Seconds until something is to be sent, 0 when something is. A writer in the meantime wakes the server."""
        now = self._clock()
        if now < self._next_flush:
            return self._next_flush - now
        self._asleep = True  # a write before this line is seen below; a later one wakes us
        if self._pending or self._overflow:
            self._asleep = False
            return 0.0
        return max(0.0, self._next_release - now)

    def rouse(self) -> None:
        """The server's thread is awake: writers need not wake it."""
        self._asleep = False

    def flush_if_due(self) -> None:
        if (self._pending or self._overflow or self._next_release <= self._clock()) and (
            self._clock() >= self._next_flush
        ):
            self._flush()

    # -- in the thread of whoever writes -------------------------------------------------------------------------------

    def _changed(self, key: str, reading: Reading) -> None:
        """In the writer's thread: note the update, wake the server if it sleeps."""
        if len(self._pending) < QUEUE:
            self._pending.append((key, "", reading, None))
        else:
            self._overflow[key, ""] = None
        if self._asleep:
            self._asleep = False
            if not self._sent_directly():
                self._wake()

    def _sent_directly(self) -> bool:
        """In the writer's thread, while the server sleeps: send what there is, if that is quick and its time has come.

        False when the server has to see to it.
        """
        if len(self._followers) > DIRECT_CLIENTS or self._rates or not self.working.acquire(blocking=False):
            return False
        try:
            if self._stopping or self._clock() < self._next_flush:
                return False
            self._flush()
            self._asleep = True  # as it was; whoever came meanwhile is seen here, whoever comes now does it
            if self._pending or self._overflow or self.broken:
                self._asleep = False
            return self._asleep
        finally:
            self.working.release()

    def _aux_changed(self, key: str, name: str, value: Value | None) -> None:
        author = None
        written = self._aux_author
        if written is not None and written[1:] == (key, name, threading.get_ident()):
            author = written[0]
        elif taking.gateway:
            author = self._gateways.get(taking.gateway)
        if len(self._pending) < QUEUE:
            self._pending.append((key, name, value, author))
        else:
            self._overflow[key, name] = None
        if self._asleep:
            self._asleep = False
            self._wake()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _take(self) -> list[Entry]:
        """The updates to send, in the order of writing; conflated when there were too many."""
        pending = self._pending
        entries = [pending.popleft() for _ in range(len(pending))]
        if self._overflow:
            newest = {(key, name): (key, name, what, author) for key, name, what, author in entries}
            for topic in list(self._overflow):
                del self._overflow[topic]  # before reading: a write from now on comes again
                key, name = topic
                item = self._items[key]
                newest[topic] = (key, name, item.aux[name] if name else item.reading, None)
            self.conflated += len(entries) - len(newest)
            entries = list(newest.values())
        return entries

    def _paced(self, entries: list[Entry], now: float) -> list[Entry]:
        """What of `entries`, and of what was held back, the limited rates let pass now."""
        passing = []
        for entry in entries:
            key, name, what, _ = entry
            limit = None if name else self._limit(key)
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

    def _limit(self, key: str) -> Limit | None:
        if key not in self._limits:
            rates = [rate for pattern, rate in self._rates.items() if fnmatchcase(key, pattern)]
            self._limits[key] = Limit(min(rates)) if rates else None
        return self._limits[key]

    def _flush(self) -> None:
        """Send what has changed to whoever has subscribed to it."""
        cost = time.thread_time()
        entries = self._take()
        if self._rates:
            entries = self._paced(entries, self._clock())
        lines: list[tuple[str, str]] = []
        special: dict[int, tuple[str, str]] = {}  # what gateways are told otherwise
        authors: dict[Peer, set[int]] = {}
        own = self._own
        for n, (key, name, what, author) in enumerate(entries):
            if name:
                line = sentence.aux_update(key, name, what)
            else:
                what = self._items[key].aged(what)  # this process may have been held up since
                line = sentence.update(key, what)
                # What is published of a write differs from it in secfail, with a ranking, and in annunciate.
                mine = own.pop((key, what.stamp), None) if own else None
                if (
                    mine is not None
                    and what.source == mine[1].source
                    and what.flags | NOT_OURS == mine[1].flags | NOT_OURS
                ):
                    author = mine[0]
                elif self._gateways:  # what came from a gateway, over whichever link, is no news to it
                    author = self._gateways.get(what.source.rpartition("/")[2])
                if self._gateways and (what.source in START or simulated(what.source)):
                    special[n] = key, _ended(sentence.for_gateway(line, what.source))
            if author is not None:
                authors.setdefault(author, set()).add(n)
            lines.append((key, line + "\n"))
        to_gateways = [special.get(n, told) for n, told in enumerate(lines)] if special else lines
        for topics, gateways, peers in self._grouped():
            told = to_gateways if gateways else lines
            wanted = [n for n, (key, line) in enumerate(told) if key in topics and line]
            if not wanted:
                continue
            data = "".join([told[n][1] for n in wanted]).encode()
            for peer in peers:
                if peer in authors:
                    self._update_author(peer, entries, told, wanted, authors[peer])
                elif peer.out or peer.behind:
                    self._fall_behind(peer, [entries[n] for n in wanted])
                else:
                    self._update(peer, data, len(wanted))
        # Waiting spares system calls while updates come one by one; a full batch gains nothing by growing.
        self._flush_cost = time.thread_time() - cost
        self._last_flush = now = self._clock()
        pace = self._flush_cost / DUTY * 32 / (32 + len(entries))
        self._next_flush = min(max(self._next_flush, now - CREDIT_S) + pace, now + LONGEST_PACE_S)

    def _grouped(self) -> list[tuple[frozenset[str], bool, list[Peer]]]:
        """Clients by what they have subscribed to, other gateways apart."""
        if self._regroup:
            self._regroup = False
            groups: dict[tuple[frozenset[str], bool], list[Peer]] = {}
            for peer in self._followers:
                groups.setdefault((frozenset(peer.subscriptions), bool(peer.gateway)), []).append(peer)
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
        self, peer: Peer, entries: list[Entry], lines: list[tuple[str, str]], wanted: list[int], mine: set[int]
    ) -> None:
        """Send a client all but its own writes.

        Where somebody else has written the same in the same moment before it, it hears its own too, as the last word.
        """
        heard: set[Topic] = set()
        rest = []
        for n in wanted:
            topic = entries[n][:2]
            if n not in mine or topic in heard:
                heard.add(topic)
                rest.append(n)
        if not rest:
            return
        if peer.out or peer.behind:
            self._fall_behind(peer, [entries[n] for n in rest])
        else:
            self._update(peer, "".join([lines[n][1] for n in rest]).encode(), len(rest))

    def _fall_behind(self, peer: Peer, entries: list[Entry]) -> None:
        """Only note what has changed: the newest is sent when the socket has room again."""
        behind = peer.behind
        before = len(behind)
        for key, name, _, _ in entries:
            behind[key, name] = None
        peer.conflated += len(entries) - (len(behind) - before)

    def catch_up(self, peer: Peer) -> None:
        """The socket has room again: what was kept, then the newest of every key that the client has missed."""
        now = self._clock()
        if peer.out and not peer.drain(now):
            return
        while peer.behind and not peer.out:
            topics = [topic for topic, _ in zip(list(peer.behind), range(REFILL_LINES), strict=False)]
            lines = []
            for topic in topics:
                del peer.behind[topic]
                lines.append(self._current_line(*topic, bool(peer.gateway)))
            peer.sent += len(lines)
            peer.progress = now
            peer.send("".join(lines).encode())

    def _current_line(self, key: str, name: str, gateway: bool) -> str:
        item = self._items[key]
        if name:
            return _ended(sentence.aux_update(key, name, item.aux[name]))
        reading = item.reading
        line = sentence.update(key, reading)
        return _ended(sentence.for_gateway(line, reading.source) if gateway else line)


def _ended(line: str) -> str:
    return line and line + "\n"
