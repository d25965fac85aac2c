"""The NetFIX server: one thread for all clients, who come and go.

What has changed is sent by the `FanOut`, what clients ask is answered by `Commands`. A client that asks without reading
the answers is not read from until it does, and dropped when that takes too long.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from fixgw.database import Database
from fixgw.kit.complaints import Complaints
from fixgw.net.access import LOOPBACK, Networks
from fixgw.net.listener import ACCEPTED, Caller, Listener
from fixgw.net.tcp import vanished
from fixgw.netfix import sentence
from fixgw.plugins.netfix.commands import Commands, StatusCollector
from fixgw.plugins.netfix.fanout import FanOut
from fixgw.plugins.netfix.peer import Peer

CHUNK_BYTES = 8192  # read from one client at a time
SHORT_BYTES = 1024  # are dealt with as they come; who sends more queues up,
TURN_S = 0.0005  # and has so long before it is the others' turn again
SILENT_S = 5.0  # without a word, after which a connection may have to make room
HOUSEKEEPING_S = 1.0
STOP_TIMEOUT_S = 1.0


class Server:
    """Listens, and serves; made and started by the plugin.

    `open` binds (and raises `DeviceError`); `run` serves until `stop`, on the caller's thread. `source` begins the
    source names of what clients write; `quit` is called for ``@xkill``, `alive` every second with the monotonic time.
    Buffers are in bytes, `stall_timeout` in seconds.
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
        admin: Iterable[str] = LOOPBACK,
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
            send_buffer=send_buffer,
            complain=self._complain,
            clock=clock,
        )
        self._write, self._admin = Networks(write), Networks(admin)
        self._alive = alive
        self._clock = clock
        self._fanout = FanOut(database, rate_limit or {}, self.wake, self._rearm, clock)
        self._status = StatusCollector(collect_status, self.wake)
        self._commands = Commands(
            database,
            self._fanout,
            self._status,
            source=source,
            refresh=refresh,
            quit=quit,
            log=self.log,
            clock=clock,
        )
        self._peers: dict[int, Peer] = {}
        self._ready: dict[Peer, None] = {}  # clients with lines not yet dealt with
        self._stopping = False
        self._poll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)  # so that nobody need read it
        self._housekeeping_at = 0.0
        self.dropped = 0
        self.sent = self.received = self.errors = self.conflated = 0  # of clients that have gone

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port listened on; once open the actual one."""
        return self._listener.port

    def open(self) -> None:
        """Bind and listen. Raises `DeviceError` when the address cannot be had."""
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
                self._fanout.rouse()
                self._turn_around(happened)
        finally:
            try:
                self._close()
            finally:
                working.release()

    def _timeout(self) -> float:
        """Seconds to wait for something to happen; 0 when something has."""
        if self._ready:
            return 0.0
        return max(0.0, min(self._fanout.rest(), self._housekeeping_at - self._clock()))

    def _turn_around(self, happened: list[tuple[int, int]]) -> None:
        """Deal with what has happened, once."""
        fanout = self._fanout
        callers = False
        for fd, events in happened:
            if fd in self._peers:
                self._guarded(self._peers[fd], self._on_events, events)
            elif fd != self._wake_fd:
                callers = True
            fanout.flush_if_due()
        if callers:  # last, as descriptors of dropped clients are used again
            for caller in self._listener.accept(self._make_room):
                self._admit(caller)
        if self._ready:  # one at a time: those with little to say need not wait for all with much
            peer = next(iter(self._ready))
            del self._ready[peer]
            self._guarded(peer, self._turn)
        for peer in self._commands.answer_status():
            self._guarded(peer, self._turn)
        now = self._clock()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_S
            self._keep_house(now)
        fanout.flush_if_due()
        while fanout.broken:
            self._drop(fanout.broken.pop())

    def stop(self) -> None:
        """Let `run` return soon. Any thread."""
        self._stopping = True
        self._fanout.stop()
        self.wake()

    def wake(self) -> None:
        """Let the thread look around. Any thread."""
        with suppress(OSError, ValueError):  # it is closed already
            os.eventfd_write(self._wake_fd, 1)

    def _close(self) -> None:
        self._listener.close()  # first, lest those who are dropped come back at once
        self._fanout.close()
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._status.stop()
        self.close()

    def close(self) -> None:
        """Give the address and all descriptors back; for a server that does not `run` (any more). Twice too."""
        self._listener.close()
        self._poll.close()
        if self._wake_fd >= 0:
            fd, self._wake_fd = self._wake_fd, -1  # so that a late `wake` does not meet what gets the number next
            os.close(fd)

    def _keep_house(self, now: float) -> None:
        self._alive(now)
        self._listener.resume()
        for peer in list(self._peers.values()):
            if not peer.out:
                peer.progress = now
            elif now - peer.progress > self.stall_timeout:
                self._give_up(peer, f"has not read anything for {self.stall_timeout:g} s")
                continue
            if vanished(peer.sock):
                self._give_up(peer, "has vanished")

    # -- clients come and go -------------------------------------------------------------------------------------------

    def _admit(self, caller: Caller) -> None:
        peer = Peer(caller, f"{self.source}/{caller.address}", self._clock())
        peer.may_write = caller.address in self._write
        peer.may_admin = caller.address in self._admin
        try:
            self._poll.register(peer.fd, peer.events)
        except OSError as error:
            self._complain("%s: %s", peer.name, error, about="register")
            peer.sock.close()
            self._listener.left(peer.address)
            return
        self._peers[peer.fd] = peer
        self.log.debug("%s connected", peer.name)

    def _make_room(self) -> bool:
        """Drop a connection that has never said anything, if there is one older than `SILENT_S`."""
        limit = self._clock() - SILENT_S
        for peer in self._peers.values():
            if not peer.received and peer.since < limit:
                self.dropped += 1
                self._drop(peer)
                return True
        return False

    def _give_up(self, peer: Peer, why: str) -> None:
        self._complain("%s: %s; dropped", peer.name, why, about=why)
        self.dropped += 1
        self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        """Close the connection and forget the client. Any state, twice too."""
        if peer.closed:
            return
        peer.closed = True
        del self._peers[peer.fd]
        self._poll.unregister(peer.fd)
        peer.sock.close()
        peer.todo.clear()
        self._ready.pop(peer, None)
        self._fanout.forget(peer)
        self._listener.left(peer.address)
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
            self._fanout.catch_up(peer)
        if events & select.EPOLLIN and peer.events & select.EPOLLIN:
            try:
                data = peer.sock.recv(CHUNK_BYTES)
            except BlockingIOError:
                return
            if data:
                peer.todo.extend(peer.splitter.feed(data))
                peer.synced = False
            else:
                peer.ended = True
            if peer.splitter.hopeless:
                self._give_up(peer, "an endless line")
                return
            much = len(data) > SHORT_BYTES
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
        written = self._fanout.waiting
        room = self.reply_buffer - len(peer.out)
        end = self._clock() + TURN_S
        while todo and room >= 0 and not peer.awaits_status and self._clock() < end:
            line = todo.popleft()
            peer.received += 1
            count = len(peer.replies)
            self._commands.handle(peer, line)
            if len(peer.replies) > count:
                room -= len(peer.replies[-1])
        peer.emit()
        if self._fanout.waiting != written:
            self._fanout.hurry()
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

    # -- facts for status ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Totals, then a line per client. Any thread."""
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
