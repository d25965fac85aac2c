"""`Listener`, a TCP port that limits who may connect, how many in total, and how many from one host."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fixgw.clock import now as clock_now
from fixgw.errors import DeviceError
from fixgw.kit.complaints import Complaints
from fixgw.kit.update import begin_counting
from fixgw.net.access import Address, Networks, address_of
from fixgw.net.tcp import keep_alive

BACKLOG = 1024  # connections that the system may hold until we accept them
ACCEPTS = 32  # the most connections accepted in a row
PAUSE_S = 1.0  # stop accepting for this long when the process runs out of descriptors or memory
PLACES_PER_RESERVED = 10  # one in this many places is reserved for each group of networks
READABLE = 1  # the value of both select.EPOLLIN and selectors.EVENT_READ
#: The counters.
ACCEPTED = "clients"
REFUSALS = NOT_ALLOWED, TOO_MANY, TOO_MANY_FROM_ONE_HOST = (
    "clients not allowed",
    "clients too many",
    "clients too many from one host",
)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


if TYPE_CHECKING:
    from typing import Protocol

    class Poller(Protocol):
        """A `select.epoll`, or a selector."""

        def register(self, fileobj: int, events: int, /) -> object: ...

        def unregister(self, fileobj: int, /) -> object: ...


def claim(host: str, port: int) -> str:
    """The name of a port in `PluginBase.claims`: that of one address, or of all if `host` is not an address."""
    try:
        address = address_of(host)
    except ValueError:
        return f"TCP port {port}"
    return f"TCP port {port}" if address.is_unspecified else f"TCP port {port} of {address}"


class Caller(NamedTuple):
    """A client that has connected and is allowed to. `sock` does not block."""

    sock: socket.socket
    address: Address
    port: int

    def __str__(self) -> str:
        return f"{self.address} port {self.port}"


class Listener:
    """Listens on `host` and `port`. Call `open` and `watch`, `accept` when it is readable, `left` when a client leaves.

    At most `most` connections are open at a time, and at most `most_per_host` from one address (None: no such limit).
    `reserved` holds groups of networks; each group contains the one before it, and has a tenth of the places to itself.
    `send_buffer` is in bytes; 0 lets the system choose. `counts` holds the counters. Only one thread may use a
    listener, except for `counts`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allow: Iterable[str],
        most: int,
        most_per_host: int | None = None,
        reserved: Sequence[Iterable[str]] = (),
        send_buffer: int = 0,
        complain: Complaints,
        counts: dict[str, int] | None = None,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self.host = host
        self.port = port
        self.counts = begin_counting(counts, ACCEPTED, *REFUSALS)
        self._allow = Networks(allow)
        self._most = most
        self._most_per_host = most_per_host
        self._reserved = [Networks(networks) for networks in reserved]
        self._send_buffer = send_buffer
        self._complain = complain
        self._clock = clock
        self._open: Counter[Address] = Counter()
        self._socket: socket.socket | None = None
        self._poller: Poller | None = None
        self._again_at = float("inf")

    @property
    def refused(self) -> int:
        """The number of connections that were refused, for any reason."""
        return sum(self.counts[refusal] for refusal in REFUSALS)

    def open(self) -> None:
        """Bind and listen; `port` is then the actual one. Raises `DeviceError` if the address is not available."""
        try:
            host = self.host.encode() if self.host.isascii() else self.host  # a str loads the tables of IDNA: 0.5 MB
            found = socket.getaddrinfo(host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            # localhost is 127.0.0.1 for most clients
            family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
            self._socket = sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, False)  # `::` is every interface
            if self._send_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)  # connections inherit it
            sock.bind(address)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            self.close()
            raise DeviceError(f"cannot listen on {self.host} port {self.port}: {error.strerror or error}") from error
        self.port = sock.getsockname()[1]

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def watch(self, poller: Poller) -> None:
        """Register with `poller`. While nothing can be accepted, the listener unregisters itself."""
        self._poller = poller
        self._again_at = float("inf")
        poller.register(self.fileno(), READABLE)

    def resume(self) -> None:
        """Accept again if the pause after running out of descriptors is over. Call this about once a second."""
        if self._clock() >= self._again_at:
            assert self._poller is not None
            self.watch(self._poller)

    def claim(self, address: Address) -> int:
        """The number of groups of `reserved` networks that hold `address`: the more, the better its claim."""
        return sum(address in networks for networks in self._reserved)

    def accept(self, make_room: Callable[[Address], bool] = lambda address: False) -> Iterator[Caller]:
        """Accept some of the waiting connections that are allowed.

        If all places that a caller may have are taken, `make_room` may close a connection, which it reports to `left`;
        it returns whether it did. It gets the caller's address, and may only close connections with no better `claim`.
        """
        for _ in range(ACCEPTS):
            sock = self._socket
            if sock is None:
                return
            try:
                connection, (host, port, *_) = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the caller has hung up already
            try:
                address = address_of(host)
                if not self._admits(address, make_room):
                    connection.close()
                    continue
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                keep_alive(connection)
            except OSError:
                connection.close()
                continue
            self._open[address] += 1
            self.counts[ACCEPTED] += 1
            yield Caller(connection, address, port)

    def left(self, address: Address) -> None:
        """Note that a connection from `address` has been closed."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def close(self) -> None:
        """Stop listening. Connections stay open. May be called twice."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _full(self, address: Address) -> bool:
        """Whether all places that `address` may have are taken."""
        if self._open.total() >= self._most:
            return True
        claim = self.claim(address)
        kept = (len(self._reserved) - claim) * (self._most // PLACES_PER_RESERVED)
        return kept > 0 and sum(n for a, n in self._open.items() if self.claim(a) <= claim) >= self._most - kept

    def _admits(self, address: Address, make_room: Callable[[Address], bool]) -> bool:
        if address not in self._allow:
            self.counts[NOT_ALLOWED] += 1
            self._complain("%s may not connect", address, about="not allowed")
        elif self._most_per_host is not None and self._open[address] >= self._most_per_host:
            self.counts[TOO_MANY_FROM_ONE_HOST] += 1
            self._complain(
                "%s turned away: it has %d connections already", address, self._most_per_host, about="one host"
            )
        elif self._full(address) and not make_room(address):
            self.counts[TOO_MANY] += 1
            self._complain(
                "%s turned away: %d clients are connected already", address, self._open.total(), about="too many"
            )
        else:
            return True
        return False

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a while: without descriptors, the waiting connection would wake us again and again."""
        assert self._poller is not None
        self._poller.unregister(self.fileno())
        self._again_at = self._clock() + PAUSE_S
        self._complain("cannot accept connections: %s", error.strerror, about="accept")
