"""The NetFIX server: one thread for all clients.

Writers leave what changed in a queue (`Server._changed`) and wake the thread when it sleeps. The thread formats each
update once and sends every client the joined lines of the keys that it has subscribed to. Flushes are paced so that
they cost a few percent of the time under load (bursts share a system call), and an idle gateway sends at once: with few
clients in the writer's own thread, as waking another one takes longer than sending.

All memory is bounded. The queue passes on every update while it is short; beyond `QUEUE` entries, and for a client
whose socket is full, only which keys have changed is kept, and the newest reading is sent when there is room. A client
that asks without reading the answers is not read from until it does, and dropped when that takes too long.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from fixgw.database import ANNUNCIATE, FLAG_LETTERS, SECFAIL, Database, Item, Reading, Subscription, Value
from fixgw.errors import BadValue, DeviceError
from fixgw.kit.complaints import Complaints
from fixgw.netfix import sentence
from fixgw.netfix.sentence import (
    NOT_PERMITTED,
    UNKNOWN_COMMAND,
    UNKNOWN_KEY,
    WRONG_FLAG,
    WRONG_SUBSCRIPTION,
    WRONG_VALUE,
    Command,
    Garbage,
    LineSplitter,
)
from fixgw.plugins.netfix.mirror import identity, taking

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Topic = tuple[str, str]  # key and aux name, "" for the item itself

NOT_OURS = ANNUNCIATE | SECFAIL  # flags that others than the writer add to what it writes
QUEUE = 1024  # updates that wait for the next flush one by one
CHUNK = 8192  # bytes read from one client at a time
SHORT = 1024  # bytes that are dealt with as they come; who sends more queues up,
TURN = 0.0005  # and has so many seconds before it is the others' turn again
REFILL = 200  # lines made at a time for a client that had fallen behind
ACCEPTS = 32  # connections accepted in a row
DUTY = 0.03  # of the time may go into flushes that could have been fewer;
CREDIT = 0.010  # seconds of it may be saved up while there is nothing to send,
LONGEST_PACE = 0.010  # and no update waits longer than this
DIRECT = 4  # clients at most to whom a writer sends by itself
SILENT = 5.0  # seconds without a word after which a connection may have to make room
_IDENTITY = re.compile(r"[A-Za-z0-9-]{1,64}")
SECONDS_SEEN = 5.0  # for so long after reading a value, writing it back unchanged is no news
STATUS_TIMEOUT = 3.0
STOP_TIMEOUT = 1.0


def network(text: str) -> Network:
    """``"192.168.1.0/24"`` or a single address. Raises ValueError."""
    return ip_network(text, strict=False)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in n for n in networks)


class Peer:
    """One connected client; touched only by who holds `Server._working`."""

    def __init__(self, sock: socket.socket, address: Address, port: int, source: str, since: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.name = f"{address} port {port}"
        self.source = source
        self.since = since
        self.may_write = False
        self.may_admin = False
        self.splitter = LineSplitter()
        self.todo: deque[str | Garbage] = deque()
        self.subscriptions: dict[str, float] = {}  # key -> when
        self.read_at: dict[str, float] = {}
        self.replies: list[str] = []  # of this turn, not yet sent
        self.out = b""  # what the socket would not take
        self.behind: dict[Topic, None] = {}  # what to send, once it does
        self.events = select.EPOLLIN
        self.gateway = ""  # of which this is a link
        self.awaits_status = False
        self.synced = False
        self.ended = False  # the client has closed its half
        self.progress = since
        self.sent = self.received = self.errors = self.conflated = 0

    @property
    def idle(self) -> bool:
        return not (self.out or self.todo or self.behind or self.awaits_status)

    def reply(self, text: str) -> None:
        self.replies.append(text)

    def emit(self) -> None:
        """Send the replies of this turn."""
        if self.replies:
            self.sent += len(self.replies)
            self.replies.append("")
            data = "\n".join(self.replies).encode("utf-8", "replace")
            self.replies.clear()
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send, or keep what the socket does not take now. Raises OSError when the client has gone."""
        if self.out:
            self.out += data
            return
        try:
            n = self.sock.send(data)
        except BlockingIOError:
            n = 0
        if n < len(data):
            self.out = data[n:]

    def drain(self, now: float) -> bool:
        """Send what was kept; True when the socket took all of it."""
        try:
            n = self.sock.send(self.out)
        except BlockingIOError:
            return False
        if n:
            self.progress = now
            self.out = self.out[n:]
        return not self.out


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


class StatusCollector:
    """Collects the status tree on a thread of its own, as a plugin may be slow to tell."""

    def __init__(self, collect: Callable[[], Mapping[str, Any]], done: Callable[[], None]) -> None:
        self._collect = collect
        self._done = done
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self.result = ""
        self.asked = 0  # requests, and up to which of them `result` answers
        self.answered = 0

    def ask(self) -> int:
        """Ask for the tree as it is from now on; the number to compare with `answered`."""
        self.asked += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="netfix status", daemon=True)
            self._thread.start()
        self._wanted.set()
        return self.asked

    def stop(self) -> None:
        self.asked = -1
        self._wanted.set()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            number = self.asked
            if number < 0:
                return
            try:
                text = json.dumps(self._collect(), default=str)
            except Exception as error:
                text = json.dumps({"health": "failed", "summary": f"no status: {error!r}"})
            self.result = text
            self.answered = number
            self._done()


class Server:
    """Listens, and serves; made and started by the plugin.

    `open` binds (and raises `DeviceError`); `run` serves until `stop`, on the caller's thread. `source` begins the
    source names of what clients write; `quit` is called for ``@xkill``, `alive` every second with the monotonic time.
    """

    def __init__(
        self,
        database: Database,
        *,
        source: str = "netfix",
        host: str = "127.0.0.1",
        port: int = sentence.PORT,
        clients: int = 100,
        allow: Iterable[str] = ("127.0.0.0/8", "::1"),
        write: Iterable[str] = ("127.0.0.0/8", "::1"),
        admin: Iterable[str] = ("127.0.0.0/8", "::1"),
        rate_limit: Mapping[str, float] | None = None,
        refresh: bool = False,
        send_buffer: int = 131072,
        reply_buffer: int = 262144,
        stall_timeout: float = 60.0,
        collect_status: Callable[[], Mapping[str, Any]] = dict,
        alive: Callable[[float], None] = lambda now: None,
        quit: Callable[[], None] = lambda: None,
        log: logging.Logger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.db = database
        self.source = source
        self.host = host
        self.port = port
        self.most_clients = clients
        self.refresh = refresh
        self.send_buffer = send_buffer
        self.reply_buffer = reply_buffer
        self.stall_timeout = stall_timeout
        self.log = log or logging.getLogger(__name__)
        self._allow, self._write, self._admin = ([network(n) for n in names] for names in (allow, write, admin))
        self._alive = alive
        self._quit = quit
        self._clock = clock
        self._rates = dict(rate_limit or {})
        self._limits: dict[str, Limit | None] = {}
        self._held: dict[str, Limit] = {}
        self._next_release = float("inf")
        self._status = StatusCollector(collect_status, self.wake)
        self._awaiting: deque[tuple[int, float, Peer]] = deque()

        self._items: dict[str, Item] = {}
        self._peers: dict[int, Peer] = {}
        self._gateways: dict[str, Peer] = {}  # links of other gateways, by their identity
        self._subscribed: dict[str, tuple[Subscription, set[Peer]]] = {}
        self._groups: list[tuple[frozenset[str], list[Peer]]] = []
        self._regroup = False
        self._pending: deque[Entry] = deque()
        self._overflow: dict[Topic, None] = {}
        self._own: dict[tuple[str, float], tuple[Peer, Reading]] = {}
        self._aux_author: tuple[Peer, str, str] | None = None
        self._thread_id = 0
        self._next_flush = self._last_flush = self._flush_cost = 0.0
        self._ready: dict[Peer, None] = {}  # clients with lines not yet dealt with
        self._broken: list[Peer] = []

        self._asleep = False
        # Held by the server's thread except while it sleeps; by a writer that sends by itself meanwhile.
        self._working = threading.Lock()
        self._stopping = False
        self._listener: socket.socket | None = None
        self._accepting = False
        self._poll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)  # so that nobody need read it
        self._housekeeping = 0.0
        self._complain = Complaints(self.log, clock)
        self._list_reply = ""
        self._list_length = -1

        self.accepted = self.turned_away = self.dropped = 0
        self.sent = self.received = self.errors = self.conflated = self.ignored = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Bind and listen; `port` is then the actual one. Raises `DeviceError` when the address cannot be had."""
        try:
            found = socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # localhost is 127.0.0.1 for most clients
            family, kind, protocol, _, address = found[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise DeviceError(f"cannot listen on {self.host} port {self.port}: {error.strerror or error}") from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
            listener.bind(address)
            listener.listen(1024)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise DeviceError(f"cannot listen on {self.host} port {self.port}: {error.strerror or error}") from error
        self._listener = listener
        self.port = listener.getsockname()[1]
        self._accept_again()

    def run(self) -> None:
        """Serve until `stop`."""
        self._thread_id = threading.get_ident()
        self._working.acquire()
        try:
            while not self._stopping:
                timeout = self._timeout()
                self._working.release()
                try:
                    happened = self._poll.poll(timeout)
                finally:
                    self._working.acquire()
                self._asleep = False
                callers = False
                for fd, events in happened:
                    if fd in self._peers:
                        self._guarded(self._peers[fd], self._on_events, events)
                    elif fd != self._wake_fd:
                        callers = True
                    self._flush_if_due()
                if callers:  # last, as descriptors of dropped clients are used again
                    self._accept()
                if self._ready:  # one at a time: those with little to say need not wait for all with much
                    peer = next(iter(self._ready))
                    del self._ready[peer]
                    self._guarded(peer, self._turn)
                if self._awaiting:
                    self._answer_status()
                now = self._clock()
                if now >= self._housekeeping:
                    self._housekeeping = now + 1.0
                    self._keep_house(now)
                self._flush_if_due()
                while self._broken:
                    self._drop(self._broken.pop())
        finally:
            try:
                self._close()
            finally:
                self._working.release()

    def stop(self) -> None:
        """Let `run` return soon. Any thread."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Let the thread look around. Any thread."""
        with suppress(OSError, ValueError):  # it is closed already
            os.eventfd_write(self._wake_fd, 1)

    def _close(self) -> None:
        if self._listener is not None:  # first, lest those who are dropped come back at once
            self._listener.close()
        for subscription, _ in list(self._subscribed.values()):
            subscription.close()
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._status.stop()
        self.close()

    def close(self) -> None:
        """Give the address and all descriptors back; for a server that does not `run` (any more). Twice too."""
        if self._listener is not None:
            self._listener.close()
        self._poll.close()
        if self._wake_fd >= 0:
            fd, self._wake_fd = self._wake_fd, -1  # so that a late `wake` does not meet what gets the number next
            os.close(fd)

    def _timeout(self) -> float:
        """Seconds to wait for something to happen; 0 when something has."""
        if self._ready:
            return 0.0
        now = self._clock()
        if now < self._next_flush:
            return self._next_flush - now
        # From here on writers wake us: whoever came before that is seen here, whoever comes after it does it.
        self._asleep = True
        if self._pending or self._overflow:
            self._asleep = False
            return 0.0
        return max(0.0, min(self._housekeeping, self._next_release) - now)

    def _keep_house(self, now: float) -> None:
        self._alive(now)
        if not self._accepting:
            self._accept_again()
        for peer in list(self._peers.values()):
            if not peer.out:
                peer.progress = now
            elif now - peer.progress > self.stall_timeout:
                self._complain(
                    "%s: has not read anything for %g s; dropped", peer.name, self.stall_timeout, about="stalled"
                )
                self.dropped += 1
                self._drop(peer)

    # -- clients come and go -------------------------------------------------------------------------------------------

    def _accept_again(self) -> None:
        assert self._listener is not None
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._accepting = True

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        for _ in range(ACCEPTS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Nothing to be had for a while: look again at the next housekeeping, not in a tight loop.
                    self._poll.unregister(listener.fileno())
                    self._accepting = False
                    self._complain("cannot accept connections: %s", error.strerror, about="accept")
                    return
                continue  # that one has gone already
            try:
                self._admit(sock, address[0], address[1])
            except OSError:
                sock.close()

    def _admit(self, sock: socket.socket, host: str, port: int) -> None:
        address = ip_address(host.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not _within(address, self._allow):
            self.turned_away += 1
            self._complain("%s may not connect", address, about="allow")
            sock.close()
            return
        if len(self._peers) >= self.most_clients and not self._make_room():
            self.turned_away += 1
            self._complain("%s turned away: %d clients are connected already", address, self.most_clients, about="full")
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", 15),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", int(self.stall_timeout * 1000)),
        ):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        peer = Peer(sock, address, port, f"{self.source}/{address}", self._clock())
        peer.may_write = _within(address, self._write)
        peer.may_admin = _within(address, self._admin)
        self._poll.register(peer.fd, peer.events)
        self._peers[peer.fd] = peer
        self.accepted += 1
        self.log.debug("%s connected", peer.name)

    def _make_room(self) -> bool:
        """Drop a connection that has never said anything, if there is one older than `SILENT`."""
        limit = self._clock() - SILENT
        for peer in self._peers.values():
            if not peer.received and peer.since < limit:
                self.dropped += 1
                self._drop(peer)
                return True
        return False

    def _drop(self, peer: Peer) -> None:
        """Close the connection and forget the client. Any state, twice too."""
        if self._peers.get(peer.fd) is not peer:
            return
        del self._peers[peer.fd]
        self._poll.unregister(peer.fd)
        peer.sock.close()
        peer.todo.clear()
        self._ready.pop(peer, None)
        for key in list(peer.subscriptions):
            self._unsubscribe(peer, key)
        if self._gateways.get(peer.gateway) is peer:
            del self._gateways[peer.gateway]
        for name in ("sent", "received", "errors", "conflated"):
            setattr(self, name, getattr(self, name) + getattr(peer, name))
        self.log.debug("%s disconnected", peer.name)

    def _guarded(self, peer: Peer, step: Callable[..., None], *args: Any) -> None:
        """Do something for one client; whatever goes wrong ends with this client."""
        try:
            step(peer, *args)
        except OSError:
            self._drop(peer)
        except Exception:
            self.errors += 1
            self.dropped += 1
            if self._complain.due("defect"):
                self.log.exception("%s: dropped", peer.name)
            self._drop(peer)

    # -- input ---------------------------------------------------------------------------------------------------------

    def _on_events(self, peer: Peer, events: int) -> None:
        much = False
        if events & select.EPOLLOUT:
            self._refill(peer)
        if events & select.EPOLLIN and peer.events & select.EPOLLIN:
            try:
                data = peer.sock.recv(CHUNK)
            except BlockingIOError:
                return
            if data:
                peer.todo.extend(peer.splitter.feed(data))
                peer.synced = False
            else:
                peer.ended = True
            if peer.splitter.hopeless:
                self._complain("%s: an endless line; dropped", peer.name, about="endless")
                self.dropped += 1
                self._drop(peer)
                return
            much = len(data) > SHORT
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self._drop(peer)
            return
        if much:
            self._rearm(peer)
        else:
            self._turn(peer)

    def _turn(self, peer: Peer) -> None:
        """Deal with some of the client's lines, and decide what to wait for."""
        todo = peer.todo
        written = len(self._pending)
        room = self.reply_buffer - len(peer.out)
        end = self._clock() + TURN
        while todo and room >= 0 and not peer.awaits_status and self._clock() < end:
            line = todo.popleft()
            peer.received += 1
            count = len(peer.replies)
            self._handle(peer, line)
            if len(peer.replies) > count:
                room -= len(peer.replies[-1])
        peer.emit()
        if len(self._pending) != written:  # a client's write goes out soon
            self._next_flush = min(self._next_flush, self._last_flush + 2 * self._flush_cost)
        self._rearm(peer)

    def _rearm(self, peer: Peer) -> None:
        """Wait for input, for room to send, or for nothing, as the client's state asks for."""
        full = len(peer.out) > self.reply_buffer
        if peer.todo and not (full or peer.awaits_status):
            self._ready[peer] = None
        else:
            self._ready.pop(peer, None)
        if peer.ended and peer.idle:
            self._drop(peer)
            return
        events = 0
        if not (peer.todo or full or peer.ended):
            events |= select.EPOLLIN
        if peer.out or peer.behind:
            events |= select.EPOLLOUT
        if events != peer.events:
            peer.events = events
            self._poll.modify(peer.fd, events)

    def _refill(self, peer: Peer) -> None:
        """The socket has room again: what was kept, then the newest of every key that the client has missed."""
        now = self._clock()
        if peer.out and not peer.drain(now):
            return
        while peer.behind and not peer.out:
            topics = [topic for topic, _ in zip(list(peer.behind), range(REFILL), strict=False)]
            lines = []
            for topic in topics:
                del peer.behind[topic]
                lines.append(self._current_line(*topic))
            peer.sent += len(lines)
            peer.progress = now
            peer.send("".join(lines).encode())

    def _current_line(self, key: str, name: str) -> str:
        item = self._items[key]
        text = sentence.aux_update(key, name, item.aux[name]) if name else sentence.update(key, item.reading)
        return text + "\n"

    # -- commands ------------------------------------------------------------------------------------------------------

    def _item(self, key: str) -> Item | None:
        """The item `key`, without the price of the error that names the nearest."""
        item = self._items.get(key)
        if item is None and key in self.db:
            item = self._items[key] = self.db.item(key)
        return item

    def _topic(self, key: str) -> tuple[Item, str] | None:
        """The item and aux name (or "") that ``KEY`` or ``KEY.aux`` names."""
        base, dot, name = key.partition(".")
        item = self._item(base)
        if item is None or (dot and name not in item.aux):
            return None
        return item, name

    def _handle(self, peer: Peer, line: str | Garbage) -> None:
        if isinstance(line, Garbage):
            peer.errors += 1
            peer.reply(f"{line.echo}!{UNKNOWN_COMMAND}")
            return
        command = sentence.parse(line)
        handler = _HANDLERS.get(command.letter)
        error = UNKNOWN_COMMAND if handler is None else handler(self, peer, command)
        if error:
            peer.errors += 1
            peer.reply(command.error(error))

    def _list(self, peer: Peer, command: Command) -> str | None:
        if len(self.db) != self._list_length:
            keys = self.db.keys()
            self._list_length = len(keys)
            self._list_reply = sentence.key_list(keys)
        peer.reply(self._list_reply)
        return None

    def _read(self, peer: Peer, command: Command) -> str | None:
        topic = self._topic(command.key)
        if topic is None:
            return UNKNOWN_KEY
        item, name = topic
        if name:
            peer.reply("@r" + sentence.aux_update(item.key, name, item.aux[name]))
        else:
            peer.read_at[item.key] = self._clock()
            peer.reply("@r" + sentence.update(item.key, item.reading))
        return None

    def _query(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        peer.reply(sentence.report(item.definition))
        return None

    def _write_command(self, peer: Peer, command: Command) -> str | None:
        if not peer.may_write:
            return NOT_PERMITTED
        topic = self._topic(command.key)
        if topic is None:
            return UNKNOWN_KEY
        if command.rest is None or ";" in command.rest:
            return WRONG_VALUE
        item, name = topic
        try:
            if name:
                value = self._store_aux(peer, item, name, command.rest)
                peer.reply("@w" + sentence.aux_update(item.key, name, value))
            else:
                self._store(peer, item, command.rest)
                peer.reply("@w" + sentence.update(item.key, item.reading))
        except BadValue:
            return WRONG_VALUE
        return None

    def _value_sentence(self, peer: Peer, command: Command) -> str | None:
        """``KEY;value[;flags]``: what cannot be used is counted, and never answered."""
        topic = self._topic(command.key)
        value, semicolon, flags = (command.rest or "").partition(";")
        bits = sentence.flags_of(flags) if semicolon else (0, 0)
        if not peer.may_write or topic is None or bits is None or (topic[1] and semicolon):
            self._ignore(peer)
            return None
        item, name = topic
        try:
            if name:
                self._store_aux(peer, item, name, value)
            else:
                self._store(peer, item, value, *bits)
        except BadValue:
            self._ignore(peer)
        return None

    def _ignore(self, peer: Peer) -> None:
        peer.errors += 1
        self.ignored += 1

    def _store(self, peer: Peer, item: Item, text: str, flags: int = 0, mask: int = 0) -> None:
        """Write what a client says, unless it only repeats what somebody else has published. Raises `BadValue`."""
        value = item.convert(text)
        self._sync(peer)
        current = item.said
        if self._repeats(peer, item, value, current):
            if (current.flags ^ flags) & mask:
                self._mine(peer, item.flag(flags, mask, peer.source), item.key)
            return
        reading = item.write(value, peer.source, flags if mask else None, mask=mask)
        self._mine(peer, reading, item.key)

    def _mine(self, peer: Peer, reading: Reading, key: str) -> None:
        """Remember that the client need not hear of `reading`: it is its own."""
        if key in peer.subscriptions:
            if len(self._own) > 4 * QUEUE:  # only what never was published is left in there
                self._own.clear()
            self._own[key, reading.stamp] = (peer, reading)

    def _repeats(self, peer: Peer, item: Item, value: Value, current: Reading) -> bool:
        """True when a client hands back what it has just been told, which is no news from any sensor."""
        if self.refresh or item.definition.setting or value != current.value or current.source == peer.source:
            return False
        told = current.stamp >= peer.subscriptions.get(item.key, float("inf"))
        return told or self._clock() - peer.read_at.get(item.key, -SECONDS_SEEN) < SECONDS_SEEN

    def _store_aux(self, peer: Peer, item: Item, name: str, text: str) -> Value | None:
        self._sync(peer)
        self._aux_author = (peer, item.key, name)
        taking.gateway = peer.gateway
        try:
            return item.write_aux(name, None if text == "None" else text)
        finally:
            self._aux_author = None
            taking.gateway = ""

    def _flag(self, peer: Peer, command: Command) -> str | None:
        if not peer.may_write:
            return NOT_PERMITTED
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        letter, semicolon, setting = (command.rest or "").partition(";")
        if not semicolon:
            return WRONG_VALUE
        flag = FLAG_LETTERS.get(letter)
        if flag is None:
            return WRONG_FLAG
        if setting not in ("0", "1"):
            return WRONG_VALUE
        ours = item.said.source == peer.source
        if ours or flag != ANNUNCIATE:
            item.flag(flag if setting == "1" else 0, flag, peer.source)
        if flag == ANNUNCIATE and not (ours and setting == "1"):  # all clients are one owner: they come and go
            item.annunciate(setting == "1", "set by a client", self.source)
        peer.reply(command.line)
        return None

    def _subscribe(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        key = item.key
        if key in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._sync(peer)  # what was written before is not for this client
        if key in self._subscribed:
            self._subscribed[key][1].add(peer)
        else:
            self._subscribed[key] = (self.db.subscribe(key, self._changed, self._aux_changed), {peer})
        peer.subscriptions[key] = self.db.clock()
        self._regroup = True
        peer.reply(command.line)
        return None

    def _unsubscribe_command(self, peer: Peer, command: Command) -> str | None:
        if self._item(command.key) is None:
            return UNKNOWN_KEY
        if command.key not in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._unsubscribe(peer, command.key)
        peer.reply(command.line)
        return None

    def _unsubscribe(self, peer: Peer, key: str) -> None:
        del peer.subscriptions[key]
        for topic in [t for t in peer.behind if t[0] == key]:
            del peer.behind[topic]
        subscription, peers = self._subscribed[key]
        peers.discard(peer)
        if not peers:
            del self._subscribed[key]
            subscription.close()
        self._regroup = True

    def _extended(self, peer: Peer, command: Command) -> str | None:
        what, _, key = command.key.partition(" ")
        if command.key == "status":
            peer.awaits_status = True
            self._awaiting.append((self._status.ask(), self._clock() + STATUS_TIMEOUT, peer))
        elif command.key == "kill":
            if not peer.may_admin:
                return NOT_PERMITTED
            self.log.warning("%s asks the gateway to stop", peer.name)
            peer.reply("@xkill")
            peer.emit()
            self._quit()
        elif what == "explain":
            item = self._item(key)
            if item is None:
                return UNKNOWN_KEY
            peer.reply(f"@xexplain {key};{json.dumps(item.explain(), default=str)}")
        elif what == "mirror" and _IDENTITY.fullmatch(key) and not peer.gateway:
            peer.gateway = key
            peer.source += f"/{key}"
            self._gateways[key] = peer
            peer.reply(f"@xmirror {key};{identity(self.db)}")
        else:
            return UNKNOWN_COMMAND
        return None

    def _answer_status(self) -> None:
        """Hand the status to those who wait for it, in the order of their asking."""
        now = self._clock()
        answered, result = self._status.answered, self._status.result
        while self._awaiting and (self._awaiting[0][0] <= answered or self._awaiting[0][1] < now):
            number, _, peer = self._awaiting.popleft()
            if number > answered:
                result = json.dumps({"health": "failed", "summary": "the status could not be collected in time"})
            if self._peers.get(peer.fd) is peer:
                peer.awaits_status = False
                peer.reply(f"@xstatus;{result}")
                self._guarded(peer, self._turn)

    # -- fan-out -------------------------------------------------------------------------------------------------------

    def _changed(self, key: str, reading: Reading) -> None:
        """In the writer's thread: note the update, wake the server if it sleeps."""
        if len(self._pending) < QUEUE:
            self._pending.append((key, "", reading, None))
        else:
            self._overflow[key, ""] = None
        if self._asleep:
            self._asleep = False
            if not self._sent_directly():
                self.wake()

    def _sent_directly(self) -> bool:
        """In the writer's thread, while the server sleeps: send what there is, if that is quick and its time has come.

        False when the server has to see to it.
        """
        if len(self._peers) > DIRECT or self._rates or not self._working.acquire(blocking=False):
            return False
        try:
            if self._stopping or self._clock() < self._next_flush:
                return False
            self._flush()
            self._asleep = True  # as it was; whoever came meanwhile is seen here, whoever comes now does it
            if self._pending or self._overflow or self._broken:
                self._asleep = False
            return self._asleep
        finally:
            self._working.release()

    def _aux_changed(self, key: str, name: str, value: Value | None) -> None:
        author = None
        if self._aux_author is not None and threading.get_ident() == self._thread_id:
            peer, *topic = self._aux_author
            author = peer if topic == [key, name] else None
        elif taking.gateway:
            author = self._gateways.get(taking.gateway)
        if len(self._pending) < QUEUE:
            self._pending.append((key, name, value, author))
        else:
            self._overflow[key, name] = None
        if self._asleep:
            self._asleep = False
            self.wake()

    def _sync(self, peer: Peer) -> None:
        """Once per batch of input: everything that was written before it arrived goes out first."""
        if not peer.synced:
            peer.synced = True
            if self._pending:
                peer.emit()
                self._flush()

    def _flush_if_due(self) -> None:
        if (self._pending or self._overflow or self._next_release <= self._clock()) and (
            self._clock() >= self._next_flush
        ):
            self._flush()

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
            if author is not None:
                authors.setdefault(author, set()).add(n)
            lines.append((key, line + "\n"))
        for topics, peers in self._grouped():
            wanted = [n for n, (key, _) in enumerate(lines) if key in topics]
            if not wanted:
                continue
            data = "".join([lines[n][1] for n in wanted]).encode()
            for peer in peers:
                if peer in authors:
                    self._update_author(peer, entries, lines, wanted, authors[peer])
                elif peer.out or peer.behind:
                    self._fall_behind(peer, [entries[n] for n in wanted])
                else:
                    self._update(peer, data, len(wanted))
        # Waiting spares system calls while updates come one by one; a full batch gains nothing by growing.
        self._flush_cost = time.thread_time() - cost
        self._last_flush = now = self._clock()
        pace = self._flush_cost / DUTY * 32 / (32 + len(entries))
        self._next_flush = min(max(self._next_flush, now - CREDIT) + pace, now + LONGEST_PACE)

    def _grouped(self) -> list[tuple[frozenset[str], list[Peer]]]:
        """Clients by what they have subscribed to."""
        if self._regroup:
            self._regroup = False
            groups: dict[frozenset[str], list[Peer]] = {}
            for peer in self._peers.values():
                if peer.subscriptions:
                    groups.setdefault(frozenset(peer.subscriptions), []).append(peer)
            self._groups = list(groups.items())
        return self._groups

    def _update(self, peer: Peer, data: bytes, count: int) -> None:
        peer.sent += count
        try:
            peer.send(data)
        except OSError:
            self._broken.append(peer)
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

    # -- facts for status ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Totals, then a line per client. Any thread."""
        peers = list(self._peers.values())
        now = self._clock()
        total = {
            name: getattr(self, name) + sum(getattr(p, name) for p in peers)
            for name in ("sent", "received", "errors", "conflated")
        }
        return {
            "listening": f"{self.host} port {self.port}",
            "clients": len(peers),
            "accepted": self.accepted,
            "turned away": self.turned_away,
            "dropped": self.dropped,
            **total,
            "ignored sentences": self.ignored,
            "subscribed keys": len(self._subscribed),
            "connections": {
                p.name: {
                    "connected seconds": round(now - p.since, 1),
                    "subscriptions": len(p.subscriptions),
                    "sent": p.sent,
                    "received": p.received,
                    "errors": p.errors,
                    "conflated": p.conflated,
                    "buffered bytes": len(p.out),
                    "keys behind": len(p.behind),
                }
                for p in peers
            },
        }


_HANDLERS: dict[str, Callable[[Server, Peer, Command], str | None]] = {
    "l": Server._list,
    "r": Server._read,
    "w": Server._write_command,
    "s": Server._subscribe,
    "u": Server._unsubscribe_command,
    "q": Server._query,
    "f": Server._flag,
    "x": Server._extended,
    "=": Server._value_sentence,
}
