"""The network side of the bridge: every client gets every byte, and a slow one does not affect the others."""

from __future__ import annotations

import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal

from fixgw.clock import now as clock_now
from fixgw.kit.complaints import Complaints
from fixgw.kit.update import begin_counting
from fixgw.net.listener import Caller, Listener
from fixgw.net.tcp import vanished

CHUNK_BYTES = 4096  # read at once
CHUNKS_WAITING = 256  # from the serial port; further ones are discarded
TICK_S = 0.25  # between checks of time-outs
LOOK_S = 1.0  # between checks for vanished clients
RETRY_S = 0.02  # until the rest is offered to the serial port again

Write = Literal["none", "one", "all"]


class Client:
    """One connection."""

    def __init__(self, caller: Caller, now: float) -> None:
        self.sock = caller.sock
        self.address = caller.address
        self.name = str(caller)
        self.out = bytearray()
        self.lost = 0
        #: When it last took something, or there was nothing to take.
        self.took = now
        self.events = selectors.EVENT_READ


class Server:
    """Listens, and passes bytes on. `open` binds; `run` works until `stop`, on the caller's thread.

    ``write(data)`` passes what clients say on to the serial port: it returns how many bytes were taken, or None while
    there is no port, and never waits. `buffer` is in bytes for each client, `stall` the seconds after which one that
    takes nothing is dropped.
    """

    def __init__(
        self,
        host: str,
        port: int,
        write: Callable[[bytes], int | None],
        *,
        allow: Iterable[str],
        writers: Write = "none",
        clients: int = 8,
        buffer: int = 65536,
        stall: float = 30.0,
        counts: dict[str, int],
        log: logging.Logger,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self.counts = counts
        begin_counting(counts, "sent", "lost", "overrun", "stalled", "written", "not allowed", "discarded")
        self._write = write
        self._writers = writers
        self._buffer = buffer
        self._stall = stall
        self._clock = clock
        self._complain = Complaints(log, clock)
        # The system would keep megabytes for a slow client.
        self._listener = Listener(
            host,
            port,
            allow=allow,
            most=clients,
            send_buffer=buffer,
            complain=self._complain,
            counts=counts,
            clock=clock,
        )
        self._clients: dict[int, Client] = {}  # by file descriptor, in the order of connection
        self._incoming: deque[bytes] = deque()
        self._outgoing = bytearray()
        self._selector = selectors.DefaultSelector()
        self._look_at = clock()
        self._wakes, self._wake = socket.socketpair()
        self._stopping = False
        self._closed = False

    @property
    def port(self) -> int:
        """The port that the server listens on; once open, the actual port."""
        return self._listener.port

    # -- any thread ----------------------------------------------------------------------------------------------------

    def broadcast(self, data: bytes) -> None:
        """Pass `data` on to every client. Never waits."""
        if len(self._incoming) >= CHUNKS_WAITING:  # our thread cannot keep up
            self.counts["overrun"] += len(data)
        else:
            self._incoming.append(data)
        self._interrupt()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True
        self._interrupt()

    def connections(self) -> list[dict[str, Any]]:
        """The connected clients, for the status."""
        return [{"from": c.name, "waiting": len(c.out), "lost": c.lost} for c in list(self._clients.values())]

    def _interrupt(self) -> None:
        with suppress(OSError):  # full: it wakes anyway; closed: there is nothing to wake
            self._wake.send(b"\0")

    # -- the server's thread -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the port. Raises `DeviceError` if the address is not available."""
        try:
            self._listener.open()
        except OSError:
            self.close()
            raise
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._listener.watch(self._selector)
        self._selector.register(self._wakes, selectors.EVENT_READ)

    def run(self) -> None:
        try:
            while not self._stopping:
                self._turn(self._selector.select(RETRY_S if self._outgoing else TICK_S))
        finally:
            self.close()

    def close(self) -> None:
        """Close everything; may be called twice."""
        if self._closed:
            return
        self._closed = True
        for client in list(self._clients.values()):
            client.sock.close()
        self._clients.clear()
        for closing in (self._listener, self._wakes, self._wake, self._selector):
            closing.close()

    def _turn(self, ready: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        callers = False
        for key, events in ready:
            if key.fileobj is self._wakes:
                with suppress(BlockingIOError):
                    while self._wakes.recv(CHUNK_BYTES):
                        pass
            elif client := self._clients.get(key.fd):
                if events & selectors.EVENT_READ:
                    self._receive(client)
            else:
                callers = True
        if callers:  # last, as descriptors of those that were dropped are used again
            self._accept()
        self._distribute()
        self._pass_on()
        now = self._clock()
        for client in list(self._clients.values()):
            self._flush(client, now)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._listener.resume()
            for client in list(self._clients.values()):
                if vanished(client.sock):
                    self._complain("%s has vanished: dropped", client.name)
                    self._drop(client)

    def _accept(self) -> None:
        for caller in self._listener.accept():
            self._clients[caller.sock.fileno()] = Client(caller, self._clock())
            self._selector.register(caller.sock, selectors.EVENT_READ)

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
        elif self._writers == "all" or (self._writers == "one" and client is next(iter(self._clients.values()))):
            self._outgoing += data
        else:
            self.counts["not allowed"] += len(data)

    def _distribute(self) -> None:
        while self._incoming:
            data = self._incoming.popleft()
            for client in self._clients.values():
                room = self._buffer - len(client.out)
                client.out += data[:room]
                if room < len(data):
                    client.lost += len(data) - room
                    self.counts["lost"] += len(data) - room

    def _pass_on(self) -> None:
        if not self._outgoing:
            return
        taken = self._write(bytes(self._outgoing))
        if taken is None:  # commands must not come late, when the device is back
            self.counts["discarded"] += len(self._outgoing)
            self._outgoing.clear()
        else:
            self.counts["written"] += taken
            del self._outgoing[:taken]

    def _flush(self, client: Client, now: float) -> None:
        if client.out:
            try:
                sent = client.sock.send(client.out)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(client)
                return
            del client.out[:sent]
            self.counts["sent"] += sent
            if sent:
                client.took = now
            elif now - client.took > self._stall:
                self.counts["stalled"] += 1
                self._complain("%s takes nothing: dropped", client.name)
                self._drop(client)
                return
        else:
            client.took = now
        # While the serial port is busy, read from no client: those that send too much must wait.
        events = selectors.EVENT_READ * (len(self._outgoing) < CHUNK_BYTES) | selectors.EVENT_WRITE * bool(client.out)
        if events != client.events:
            if client.events:
                self._selector.unregister(client.sock)
            if events:
                self._selector.register(client.sock, events)
            client.events = events

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is None:
            return
        if client.events:
            self._selector.unregister(client.sock)
        client.sock.close()
        self._listener.left(client.address)
