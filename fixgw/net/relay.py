"""`Relay` passes bytes between the clients of a `Listener` and one server, both ways, unchanged and at once.

What one side does not take, it does not read from the other: whoever sends too much has to wait, as without the relay.
Beside each direction's `BUFFER_BYTES` here, the system's buffers are as small.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal, Protocol

from fixgw.clock import now as clock_now
from fixgw.errors import DeviceError
from fixgw.kit.complaints import Complaints
from fixgw.net.access import LOOPBACK
from fixgw.net.listener import Caller, Listener
from fixgw.net.tcp import CONNECT_TIMEOUT_S, keep_alive, vanished

BUFFER_BYTES = 65536  # that wait in one direction of one connection; then we stop to read
HUNG_S = 5.0  # a side that takes nothing for this long, although something waits for it, is reported
GIVE_UP_S = 60.0  # a connection of which one side has gone, and on which nothing moves for this long, is dropped
TICK_S = 0.5  # between checks of time-outs

Side = Literal["client", "server"]
_ABORT = b"\1\0\0\0\0\0\0\0"  # struct linger: close with a reset


class Watcher(Protocol):
    """Is told what happens, on the relay's thread, with the time of its clock. Must be quick."""

    def opened(self, number: int, at: float, name: str) -> None:
        """A client has connected; `number` counts them from 1."""

    def reached(self, number: int, at: float) -> None:
        """The server has accepted the connection for the client."""

    def passed(self, number: int, at: float, sender: Side, data: bytes) -> None:
        """`data` has arrived from one side, and goes to the other."""

    def hung(self, number: int, at: float, side: Side, waiting: int) -> None:
        """`side` takes nothing although `waiting` bytes wait for it; 0 when it takes them again."""

    def closed(self, number: int, at: float, by: Side | None, why: str) -> None:
        """The connection has been closed: by one side, or by the relay (None)."""


class _End:
    """One socket of a pair. `out` waits to be sent to it."""

    def __init__(self, side: Side, sock: socket.socket, at: float) -> None:
        self.side = side
        self.sock = sock
        self.out = bytearray()
        self.took = at  # when it last took something, or nothing waited for it
        self.ended = False  # it will send nothing more
        self.shut = False  # it has been told that nothing more will come
        self.hung = False
        self.events = 0


class _Lost(Exception):
    """The connection to one side is gone."""

    def __init__(self, end: _End, error: OSError) -> None:
        self.side = end.side
        self.why = error.strerror or str(error)


class _Pair:
    """A client and its connection to the server."""

    def __init__(self, number: int, caller: Caller, server: socket.socket, at: float) -> None:
        self.number = number
        self.address = caller.address
        self.client = _End("client", caller.sock, at)
        self.server = _End("server", server, at)
        self.since = self.moved_at = at
        self.connecting = True
        self.first_to_end: Side | None = None

    def other(self, end: _End) -> _End:
        return self.server if end is self.client else self.client


class Relay:
    """Listens on `host` and `port`, and connects each client to `target`. `open` binds; `run` works until `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        target: tuple[str, int],
        watcher: Watcher,
        complain: Complaints,
        *,
        allow: Iterable[str] = LOOPBACK,
        clients: int = 100,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self._listener = Listener(
            host, port, allow=allow, most=clients, send_buffer=BUFFER_BYTES, complain=complain, clock=clock
        )
        self._target = target
        self._watcher = watcher
        self._clock = clock
        self._address: tuple[int, tuple[object, ...]] | None = None
        self._pairs: dict[int, _Pair] = {}  # by each of their descriptors
        self._poll = select.epoll()
        self._wakes, self._wake = socket.socketpair()
        self._poll.register(self._wakes, select.EPOLLIN)
        self._numbers = 0
        self._stopping = False

    @property
    def port(self) -> int:
        """The port that the relay listens on; once open, the actual one."""
        return self._listener.port

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Look up the server's name, and listen. Raises `DeviceError`."""
        host, port = self._target
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DeviceError(f"{host}: {getattr(error, 'strerror', None) or error}") from error
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        self._address = family, address
        self._listener.open()
        self._listener.watch(self._poll)

    def stop(self) -> None:
        """Let `run` return. Any thread, and signal handlers, may call this."""
        self._stopping = True
        with suppress(OSError):
            self._wake.send(b"!")

    def run(self) -> None:
        """Pass bytes on until `stop`, then close all connections."""
        tick_at = self._clock() + TICK_S
        try:
            while not self._stopping:
                callers = False
                for fd, _ in self._poll.poll(TICK_S):
                    if (pair := self._pairs.get(fd)) is not None:
                        self._handle(pair, fd)
                    else:
                        callers = True
                if callers:  # last: a new client may get the descriptor of one that was dropped
                    for caller in self._listener.accept():
                        self._admit(caller)
                if (now := self._clock()) >= tick_at:
                    tick_at = now + TICK_S
                    self._look_after(now)
        finally:
            self.close()

    def close(self) -> None:
        """Close everything; may be called twice."""
        self._listener.close()
        for pair in set(self._pairs.values()):
            self._drop(pair, None, "the proxy ends")
        for waits in (self._poll, self._wakes, self._wake):
            waits.close()

    # -- clients come and go -------------------------------------------------------------------------------------------

    def _admit(self, caller: Caller) -> None:
        assert self._address is not None
        at = self._clock()
        self._numbers += 1
        number = self._numbers
        self._watcher.opened(number, at, f"{caller.address}:{caller.port}")
        family, address = self._address
        server = None
        try:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.setblocking(False)
            for sock, size in ((server, socket.SO_RCVBUF), (server, socket.SO_SNDBUF), (caller.sock, socket.SO_RCVBUF)):
                sock.setsockopt(socket.SOL_SOCKET, size, BUFFER_BYTES)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            keep_alive(server)
            with suppress(BlockingIOError):
                server.connect(address)
        except OSError as error:
            if server is not None:
                server.close()
            caller.sock.close()
            self._listener.left(caller.address)
            self._watcher.closed(number, at, "server", f"cannot be reached: {error.strerror or error}")
            return
        pair = _Pair(number, caller, server, at)
        for end in (pair.client, pair.server):
            self._pairs[end.sock.fileno()] = pair
        self._rearm(pair)

    def _drop(self, pair: _Pair, by: Side | None, why: str, abort: bool = False) -> None:
        for end in (pair.client, pair.server):
            del self._pairs[end.sock.fileno()]
            if abort:
                with suppress(OSError):
                    end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            end.sock.close()
        self._listener.left(pair.address)
        self._watcher.closed(pair.number, self._clock(), by, why)

    def _look_after(self, now: float) -> None:
        self._listener.resume()
        for pair in set(self._pairs.values()):
            if pair.connecting:
                if now - pair.since > CONNECT_TIMEOUT_S:
                    self._drop(pair, "server", f"cannot be reached: no answer within {CONNECT_TIMEOUT_S:g} s", True)
                continue
            ends = (pair.client, pair.server)
            if now - pair.moved_at > GIVE_UP_S and any(end.ended or _has_left(end.sock) for end in ends):
                self._drop(pair, None, "one side has gone, and the other neither takes nor sends anything", True)
                continue
            for end in ends:
                if end.out and vanished(end.sock):
                    self._drop(pair, end.side, "vanished without closing the connection", True)
                    break
                if end.out and not end.hung and now - end.took > HUNG_S:
                    end.hung = True
                    self._watcher.hung(pair.number, now, end.side, len(end.out))

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _handle(self, pair: _Pair, fd: int) -> None:
        end = pair.client if pair.client.sock.fileno() == fd else pair.server
        try:
            if pair.connecting:
                if not self._finish_connecting(pair):
                    return
            else:
                self._flush(pair, end)
                self._receive(pair, end)
                for each in (pair.client, pair.server):
                    if pair.other(each).ended and not each.out and not each.shut:
                        each.shut = True
                        with suppress(OSError):  # if it has gone, that will show
                            each.sock.shutdown(socket.SHUT_WR)
        except _Lost as lost:
            self._drop(pair, lost.side, lost.why, abort=True)
            return
        if pair.client.shut and pair.server.shut:
            self._drop(pair, pair.first_to_end, "")
        else:
            self._rearm(pair)

    def _finish_connecting(self, pair: _Pair) -> bool:
        """Whether the server has accepted the connection."""
        code = pair.server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._drop(pair, "server", f"cannot be reached: {os.strerror(code)}")
            return False
        pair.connecting = False
        self._watcher.reached(pair.number, self._clock())
        return True

    def _receive(self, pair: _Pair, end: _End) -> None:
        """Read from one side, and pass it on at once. Raises `_Lost`."""
        other = pair.other(end)
        if end.ended or len(other.out) >= BUFFER_BYTES:
            return
        try:
            data = end.sock.recv(BUFFER_BYTES - len(other.out))
        except BlockingIOError:
            return
        except OSError as error:
            raise _Lost(end, error) from error
        at = pair.moved_at = self._clock()
        if not data:
            end.ended = True
            pair.first_to_end = pair.first_to_end or end.side
            return
        if not other.out:
            other.took = at
        other.out += data
        try:
            self._flush(pair, other)
        finally:
            self._watcher.passed(pair.number, at, end.side, data)

    def _flush(self, pair: _Pair, end: _End) -> None:
        """Send one side what waits for it. Raises `_Lost`."""
        if not end.out:
            return
        try:
            sent = end.sock.send(end.out)
        except BlockingIOError:
            return
        except OSError as error:
            raise _Lost(end, error) from error
        del end.out[:sent]
        end.took = pair.moved_at = self._clock()
        if end.hung:
            end.hung = False
            self._watcher.hung(pair.number, end.took, end.side, 0)

    def _rearm(self, pair: _Pair) -> None:
        """Choose what to wait for on both sides."""
        for end in (pair.client, pair.server):
            events = 0
            if pair.connecting:
                events = select.EPOLLOUT if end is pair.server else 0
            else:
                if not end.ended and len(pair.other(end).out) < BUFFER_BYTES:
                    events |= select.EPOLLIN
                if end.out:
                    events |= select.EPOLLOUT
            if events != end.events:
                if not end.events:
                    self._poll.register(end.sock, events)
                elif events:
                    self._poll.modify(end.sock, events)
                else:  # epoll reports a connection that has ended, whatever it waits for
                    self._poll.unregister(end.sock)
                end.events = events


def _has_left(sock: socket.socket) -> bool:
    """Whether the other end of `sock` has closed the connection, even if there is more to read."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
