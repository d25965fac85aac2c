"""The NetFIX server: one thread for all clients, which come and go.

The `FanOut` sends what has changed; `Commands` answers what clients ask. If a client asks without reading the answers,
we stop reading from it until it reads them, and drop it if that takes too long.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from fixgw.clock import HoldUp
from fixgw.clock import now as clock_now
from fixgw.database import Database
from fixgw.history import History
from fixgw.kit.complaints import Complaints
from fixgw.net.access import LOOPBACK, Address, Networks
from fixgw.net.listener import ACCEPTED, Caller, Listener
from fixgw.net.tcp import vanished
from fixgw.netfix import sentence
from fixgw.plugins.netfix.commands import Commands
from fixgw.plugins.netfix.fanout import FanOut
from fixgw.plugins.netfix.peer import Peer
from fixgw.plugins.netfix.turns import SLICE_S, Turns
from fixgw.plugins.netfix.writer import Writer
from fixgw.status import Collector

CHUNK_BYTES = 2048  # the most that is read from one client at a time
SHORT_BYTES = 1024  # input up to this size is processed at once; a client that sends more has to queue
SLICE_BYTES = 16384  # the most answers to one client before it is the turn of the next; the last may exceed it
SILENT_S = 5.0  # a connection that is silent for this long may be dropped to make room for another
HOUSEKEEPING_S = 1.0
SETTLE_S = 0.3  # data sent by clients during a hold-up arrives within this time afterwards
STOP_TIMEOUT_S = 1.0


class Server:
    """Listens for clients and serves them. The plugin creates and starts it.

    `open` binds the address; `run` serves on the caller's thread until `stop` is called. The source names of what
    clients write begin with `source`. `quit` is called for ``@xkill``, `restart` for ``@xrestart``, `alive` every
    second with the monotonic time. `offers` finds a command that another connection offers. `history` is the
    gateway's. Buffer sizes are in bytes, `stall_timeout` is in seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        source: str = "netfix",
        host: str = "127.0.0.1",
        port: int = sentence.PORT,
        clients: int = 100,
        clients_per_host: int | None = None,
        allow: Iterable[str] = LOOPBACK,
        write: Iterable[str] = LOOPBACK,
        admin: Iterable[str] = (),
        rate_limit: Mapping[str, float] | None = None,
        refresh: bool = False,
        send_buffer: int = 131072,
        reply_buffer: int = 262144,
        stall_timeout: float = 60.0,
        collect_status: Callable[[], Mapping[str, Any]] = dict,
        alive: Callable[[float], None] = lambda now: None,
        quit: Callable[[], None] = lambda: None,
        restart: Callable[[str], str] = lambda name: "",
        offers: Callable[[str], Callable[[str], str] | None] = lambda name: None,
        history: History | None = None,
        log: logging.Logger | None = None,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self.host = host
        self.source = source
        self.send_buffer = send_buffer
        self.reply_buffer = reply_buffer
        self.stall_timeout = stall_timeout
        self.log = log or logging.getLogger(__name__)
        self._complain = Complaints(self.log, clock)
        self._listener = Listener(
            host,
            port,
            allow=allow,
            most=clients,
            most_per_host=clients_per_host,
            reserved=(LOOPBACK, (*LOOPBACK, *write)),
            send_buffer=send_buffer,
            complain=self._complain,
            clock=clock,
        )
        self._write, self._admin = Networks(write), Networks(admin)
        self._alive = alive
        self._clock = clock
        self._fanout = FanOut(database, rate_limit or {}, self.wake, self._rearm, clock)
        self._status = Collector(collect_status, self.wake)
        self._writer = Writer(self.wake, self._complain)
        self._commands = Commands(
            database,
            self._fanout,
            self._status,
            self._writer,
            source=source,
            refresh=refresh,
            quit=quit,
            restart=restart,
            offers=offers,
            history=history or History(database),
            log=self.log,
            complain=self._complain,
            clock=clock,
        )
        self._peers: dict[int, Peer] = {}
        self._turns = Turns()
        self._stopping = False
        self._poll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)  # edge-triggered, so it need not be read
        self._housekeeping_at = 0.0
        self._hold_up = HoldUp()
        self._settled_at = 0.0  # when all data sent during a hold-up has arrived
        self.dropped = 0
        self.sent = self.received = self.errors = self.conflated = 0  # counts of clients that are gone

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that the server listens on; once it is open, the actual one."""
        return self._listener.port

    def open(self) -> None:
        """Bind and listen. Raises `DeviceError` if the address is not available."""
        self._listener.open()
        self._listener.watch(self._poll)

    def run(self) -> None:
        """Serve until `stop`."""
        working = self._fanout.working
        working.acquire()
        try:
            while not self._stopping:
                timeout = self._timeout()
                working.release()
                try:
                    happened = self._poll.poll(timeout)
                finally:
                    working.acquire()
                self._fanout.note_awake()
                if self._hold_up.noticed(HOUSEKEEPING_S):
                    self._note_hold_up()
                self._handle_events(happened)
        finally:
            try:
                self._close()
            finally:
                working.release()

    def _timeout(self) -> float:
        """How long `run` may wait for events, in seconds."""
        rest = min(self._turns.rest(), self._writer.rest(), self._housekeeping_at - self._clock())
        return max(0.0, min(rest, self._fanout.sleep_time())) if rest > 0.0 else 0.0

    def _handle_events(self, happened: list[tuple[int, int]]) -> None:
        """Handle the events that one poll returned."""
        fanout = self._fanout
        callers = False
        for fd, events in happened:
            if fd in self._peers:
                self._guarded(self._peers[fd], self._on_events, events)
            elif fd != self._wake_fd:
                callers = True
            fanout.flush_if_due()
        if callers:  # last, because new clients reuse the descriptors of dropped ones
            for caller in self._listener.accept(self._make_room):
                self._admit(caller)
        peer = self._turns.next()
        if peer is not None:  # one at a time, so that clients with short requests need not wait for all the long ones
            self._guarded(peer, self._turn)
        for peer in (*self._commands.answer_writes(), *self._commands.answer_status()):
            self._guarded(peer, self._turn)
        now = self._clock()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_S
            self._do_housekeeping(now)
        fanout.flush_if_due()
        while fanout.broken:
            self._drop(fanout.broken.pop())

    def stop(self) -> None:
        """Make `run` return soon. Any thread may call this."""
        self._stopping = True
        self._fanout.stop()
        self.wake()

    def wake(self) -> None:
        """Wake the server's thread. Any thread may call this."""
        with suppress(OSError, ValueError):  # the descriptor may be closed already
            os.eventfd_write(self._wake_fd, 1)

    def _close(self) -> None:
        self._listener.close()  # first, so that dropped clients do not reconnect at once
        self._fanout.close()
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._status.stop()
        self._writer.stop()
        self.close()

    def close(self) -> None:
        """Release the address and all descriptors. The server must not be running. May be called twice."""
        self._listener.close()
        self._poll.close()
        if self._wake_fd >= 0:
            fd, self._wake_fd = self._wake_fd, -1  # so that a late `wake` does not hit a new owner of this number
            os.close(fd)

    def _do_housekeeping(self, now: float) -> None:
        self._alive(now)
        self._listener.resume()
        for peer in list(self._peers.values()):
            if not peer.out:
                peer.progress = now
            elif now - peer.progress > self.stall_timeout:
                self._give_up(peer, f"has not read anything for {self.stall_timeout:g} s")
                continue
            if vanished(peer.sock):
                self._give_up(peer, "vanished without closing the connection")

    # -- clients come and go -------------------------------------------------------------------------------------------

    def _admit(self, caller: Caller) -> None:
        peer = Peer(caller, f"{self.source}/{caller.address}", self._clock())
        peer.may_write = caller.address in self._write
        peer.may_admin = caller.address in self._admin
        peer.settled_at = self._settled_at
        peer.backlog = peer.since < self._settled_at  # it has connected during a hold-up
        try:
            self._poll.register(peer.fd, peer.events)
        except OSError as error:
            self._complain("%s: %s", peer.name, error, about="register")
            peer.sock.close()
            self._listener.left(peer.address)
            return
        self._peers[peer.fd] = peer
        self.log.debug("%s connected", peer.name)

    def _make_room(self, caller: Address) -> bool:
        """Drop a connection to make room for one from `caller`; returns whether there was one.

        Only hosts with no better claim than the caller are considered. A connection is dropped that has sent nothing
        since it was opened, more than `SILENT_S` ago, or whose client has left; failing that, the one of the host with
        the most connections that has been idle for longest, if that host has at least two more than the caller.
        """
        claim = self._listener.claim
        peers = [p for p in self._peers.values() if claim(p.address) <= claim(caller)]
        self._note_who_left(peers)
        limit = self._clock() - SILENT_S
        shares = Counter(p.address for p in peers)
        greediest = max(shares, key=shares.__getitem__, default=caller)
        candidates = [
            p
            for p in peers
            if (p.leaving and p.address in (caller, greediest)) or (p.heard_at is None and p.since < limit)
        ]
        if not candidates and shares[greediest] > shares[caller] + 1:
            candidates = [p for p in peers if p.address == greediest]
        if not candidates:
            return False
        self.dropped += 1
        self._drop(min(candidates, key=lambda p: (not p.leaving, bool(p.subscriptions), p.heard_at or p.since)))
        return True

    def _note_who_left(self, peers: Iterable[Peer]) -> None:
        """Ask the system which clients have closed their connection: the event may not have been handled yet."""
        poll = select.poll()
        for peer in peers:
            poll.register(peer.fd, select.POLLRDHUP)
        for fd, _ in poll.poll(0):
            self._peers[fd].leaving = True

    def _note_hold_up(self) -> None:
        """This process was held up: the data that clients sent in the meantime is old.

        Ignore their measurements until all waiting data has been read. Requests and settings are obeyed.
        """
        poll = select.poll()
        for peer in self._peers.values():
            poll.register(peer.fd, select.POLLIN)
        waiting = {fd for fd, _ in poll.poll(0)}
        self._settled_at = self._clock() + SETTLE_S
        for peer in self._peers.values():
            peer.backlog = peer.fd in waiting or bool(peer.todo)
            peer.drained = False
            peer.settled_at = self._settled_at
        self._complain(
            "held up: ignoring the measurements that %d clients sent in the meantime", len(waiting), about="hold-up"
        )

    def _give_up(self, peer: Peer, why: str) -> None:
        self._complain("%s: %s; dropped", peer.name, why, about=why)
        self.dropped += 1
        self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        """Close the connection and forget the client. May be called in any state, even twice."""
        if peer.closed:
            return
        peer.closed = True
        del self._peers[peer.fd]
        self._poll.unregister(peer.fd)
        peer.sock.close()
        peer.todo.clear()
        self._turns.leave(peer)
        self._fanout.forget(peer)
        self._listener.left(peer.address)
        for name in ("sent", "received", "errors", "conflated"):
            setattr(self, name, getattr(self, name) + getattr(peer, name))
        self.log.debug("%s disconnected", peer.name)

    def _guarded(self, peer: Peer, step: Callable[..., None], *args: Any) -> None:
        """Call `step` for one client. If it raises, only this client is dropped."""
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
        if events & select.EPOLLOUT:
            begun = time.thread_time()
            self._fanout.catch_up(peer)
            if peer.debt:  # it takes its answers; who has only fallen behind pays nothing
                self._turns.spent(peer, time.thread_time() - begun)
        if events & select.EPOLLRDHUP:
            peer.leaving = True
        if events & select.EPOLLIN and peer.events & select.EPOLLIN:
            if not self._turns.is_modest(peer):
                peer.unread = True
                self._rearm(peer)
            elif self._receive(peer) > SHORT_BYTES and peer.todo:
                self._rearm(peer)
            else:
                self._turn(peer)
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self._drop(peer)
        else:
            self._rearm(peer)

    def _receive(self, peer: Peer) -> int:
        """Read from the client, at most `CHUNK_BYTES`; returns the number of bytes. Raises OSError."""
        peer.unread = False
        if peer.backlog and peer.drained and not peer.todo and self._clock() >= peer.settled_at:
            peer.backlog = False
        try:
            data = peer.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            peer.ended = True
            return 0
        if peer.heard_at is None and data.startswith(sentence.TLS_HANDSHAKE):
            peer.foreign = "speaks TLS"
        peer.heard_at = self._clock()
        peer.drained = len(data) < CHUNK_BYTES
        peer.todo.extend(peer.splitter.feed(data))
        peer.synced = False
        return len(data)

    def _turn(self, peer: Peer) -> None:
        """Process some of the client's lines, and decide what to wait for next."""
        begun = time.thread_time()
        end = clock_now() + SLICE_S
        if peer.unread and not peer.todo:
            self._receive(peer)
        todo = peer.todo
        written = self._fanout.waiting
        room = min(self.reply_buffer - len(peer.out), SLICE_BYTES)
        while todo and room >= 0 and not (peer.awaits or peer.foreign):
            line = todo.popleft()
            peer.received += 1
            count = len(peer.replies)
            self._commands.handle(peer, line)
            if len(peer.replies) > count:
                room -= len(peer.replies[-1])
            if clock_now() >= end:
                break
        peer.emit()
        if self._fanout.waiting != written:
            self._fanout.hurry()
        self._turns.spent(peer, time.thread_time() - begun)
        if peer.foreign:
            self._give_up(peer, f"{peer.foreign}, not NetFIX")
        elif peer.splitter.hopeless:
            self._give_up(peer, "sent a line without an end")
        else:
            self._rearm(peer)

    def _rearm(self, peer: Peer) -> None:
        """Choose the events to wait for - input, room to send, or none - by the client's state."""
        full = len(peer.out) > self.reply_buffer
        if (peer.todo or peer.unread) and not (full or peer.awaits):
            self._turns.queue(peer)
        else:
            self._turns.leave(peer)
        if peer.ended and peer.idle:
            self._drop(peer)
            return
        events = 0 if peer.leaving else select.EPOLLRDHUP
        if not (peer.todo or peer.unread or full or peer.ended):
            events |= select.EPOLLIN
        if peer.out or peer.behind:
            events |= select.EPOLLOUT
        if events != peer.events:
            peer.events = events
            self._poll.modify(peer.fd, events)

    # -- status --------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Totals, then an entry for each client. Any thread may call this."""
        peers = list(self._peers.values())
        now = self._clock()
        total = {
            name: getattr(self, name) + sum(getattr(p, name) for p in peers)
            for name in ("sent", "received", "errors", "conflated")
        }
        total["conflated"] += self._fanout.conflated
        return {
            "listening": f"{self.host} port {self.port}",
            "clients": len(peers),
            "accepted": self._listener.counts[ACCEPTED],
            "turned away": self._listener.refused,
            "dropped": self.dropped,
            **total,
            "ignored sentences": self._commands.ignored,
            "ignored after a hold-up": self._commands.late,
            "came back": self._commands.returned,
            "writes not waited for": self._writer.given_up,
            "subscribed keys": self._fanout.keys,
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
