"""The network side of the bridge: clients that get every byte, bounded, and one that is slow costs nobody else."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal

from fixgw.errors import DeviceError
from fixgw.kit.update import begin_counting

CHUNK = 4096  # bytes read at once
CHUNKS_WAITING = 256  # from the serial port; further ones are given up
TICK = 0.25  # s; between two looks at what only time brings
RETRY = 0.02  # s; until the serial port is offered again what it did not take

Network = IPv4Network | IPv6Network
Write = Literal["none", "one", "all"]


def network(text: str) -> Network:
    """``"192.168.1.0/24"`` or a single address. Raises ValueError."""
    return ip_network(text, strict=False)


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, name: str, now: float) -> None:
        self.sock = sock
        self.name = name
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self.counts = counts
        begin_counting(counts, "clients", "clients refused", "sent", "lost", "overrun", "stalled")
        begin_counting(counts, "written", "not allowed", "discarded")
        self._write = write
        self._allow = [network(text) for text in allow]
        self._writers = writers
        self._most = clients
        self._buffer = buffer
        self._stall = stall
        self._log = log
        self._clock = clock
        self._clients: dict[int, Client] = {}  # by file descriptor, the one that came first is the first
        self._incoming: deque[bytes] = deque()
        self._outgoing = bytearray()
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._wakes, self._wake = socket.socketpair()
        self._stopping = False
        self._closed = False

    # -- any thread ----------------------------------------------------------------------------------------------------

    def broadcast(self, data: bytes) -> None:
        """Pass `data` on to every client. Never waits."""
        if len(self._incoming) >= CHUNKS_WAITING:  # our thread does not get to run
            self.counts["overrun"] += len(data)
        else:
            self._incoming.append(data)
        self._interrupt()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True
        self._interrupt()

    def connections(self) -> list[dict[str, Any]]:
        """Who is connected, for people."""
        return [{"from": c.name, "waiting": len(c.out), "lost": c.lost} for c in list(self._clients.values())]

    def _interrupt(self) -> None:
        with suppress(OSError):  # full: it wakes anyway; closed: nobody is there to wake
            self._wake.send(b"\0")

    # -- the server's thread -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises `DeviceError` when the address cannot be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listener = self._listener = socket.create_server((self.host, self.port), family=family, backlog=16)
        except OSError as error:
            self.close()
            raise DeviceError(f"cannot listen on {self.host} port {self.port}: {error.strerror or error}") from error
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wakes, selectors.EVENT_READ)

    def run(self) -> None:
        try:
            while not self._stopping:
                self._turn(self._selector.select(RETRY if self._outgoing else TICK))
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
        for sock in (self._listener, self._wakes, self._wake):
            if sock is not None:
                sock.close()
        self._selector.close()

    def _turn(self, ready: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        for key, events in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wakes:
                with suppress(BlockingIOError):
                    while self._wakes.recv(CHUNK):
                        pass
            elif events & selectors.EVENT_READ and (client := self._clients.get(key.fd)):
                self._receive(client)
        self._distribute()
        self._pass_on()
        now = self._clock()
        for client in list(self._clients.values()):
            self._flush(client, now)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):  # gone again before it was greeted
            sock, (host, port, *_) = self._listener.accept()
            address = ip_address(host.partition("%")[0])
            if isinstance(address, IPv6Address):
                address = address.ipv4_mapped or address
            allowed = any(address in network for network in self._allow)
            if not allowed or len(self._clients) >= self._most:
                self.counts["clients refused"] += 1
                self._log.info("%s port %d: %s", host, port, "too many clients" if allowed else "not allowed")
                sock.close()
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)  # or the system would keep megabytes
            self._clients[sock.fileno()] = Client(sock, f"{address} port {port}", self._clock())
            self._selector.register(sock, selectors.EVENT_READ)
            self.counts["clients"] += 1

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(CHUNK)
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
                self._log.warning("%s takes nothing: dropped", client.name)
                self._drop(client)
                return
        else:
            client.took = now
        # While the serial port is busy nobody is read from: whoever sends too much has to wait.
        events = selectors.EVENT_READ * (len(self._outgoing) < CHUNK) | selectors.EVENT_WRITE * bool(client.out)
        if events != client.events:
            if client.events:
                self._selector.unregister(client.sock)
            if events:
                self._selector.register(client.sock, events)
            client.events = events

    def _drop(self, client: Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        if client.events:
            self._selector.unregister(client.sock)
        client.sock.close()
