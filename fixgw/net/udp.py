"""Datagrams: `Datagrams` exchanges them with many hosts, `UdpLink` with one at a time, `UdpSender` only sends."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

from fixgw.clock import now as clock_now
from fixgw.errors import DeviceError
from fixgw.net.access import Address, Networks, address_of
from fixgw.net.endpoint import Endpoint

MAX_DATAGRAM_BYTES = 2048  # longer ones are refused; what instruments send fits into one network packet
MAX_DATAGRAMS = 64  # the most that one read takes
#: After this much silence of the sender, another one is accepted.
SENDER_SILENT_S = 5.0
#: The most datagrams that a link takes in a second. Instruments send some hundreds; a flood must not keep us busy.
MAX_DATAGRAMS_PER_S = 1000
#: The ports from which this process only sends. A broadcast also comes back to those here who listen for it: they would
#: take our own output for a source, which stays fresh for ever.
_sending: set[int] = set()
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # socket options that the socket module lacks
_EVERYBODY = IPv4Address("255.255.255.255")


class Datagrams:
    """Receives datagrams on an address of this computer, or for a broadcast or multicast address, and sends from there.
    Never waits.

    Datagrams from hosts outside `allow` (None: everybody), longer than `limit` bytes, or sent by this process itself,
    are refused: `refuse` is called with the reason and the sender. At port 0 it only sends. `shared`: other programs
    may listen to the same port; a broadcast reaches all of them. Raises OSError if the address is not available.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        refuse: Callable[[str, Address], object] = lambda why, sender: None,
        *,
        allow: Networks | None = None,
        limit: int = MAX_DATAGRAM_BYTES,
        shared: bool = False,
    ) -> None:
        self.port = str(endpoint)
        self._refuse = refuse
        self._allow = allow
        self._limit = limit
        (family, _, _, _, address), *_ = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            _listen(self._socket, address, shared)
        except OSError:
            self._socket.close()
            raise
        if not endpoint.port:
            _sending.add(self._socket.getsockname()[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def join(self, group: str) -> None:
        """Receive what is sent to a multicast group (IPv4), on every interface. Raises OSError if none takes part."""
        joined, error = False, None
        for index, _ in socket.if_nameindex():
            membership = struct.pack("@4s4si", IPv4Address(group).packed, bytes(4), index)
            try:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            except OSError as reason:
                error = error or reason
            else:
                joined = True
        if not joined:
            raise error or OSError("there is no network interface")

    def receive(self) -> Iterator[tuple[bytes, Address, Any]]:
        """The datagrams that have arrived, at most `MAX_DATAGRAMS`: each with its sender, and with the sender's socket
        address for `send`. Empty ones are left out."""
        for _ in range(MAX_DATAGRAMS):
            try:
                datagram, address = self._socket.recvfrom(self._limit + 1)
            except BlockingIOError:
                return
            sender = address_of(address[0])
            if self._allow is not None and sender not in self._allow:
                self._refuse("datagrams not allowed", sender)
            elif address[1] in _sending and _is_here(self._socket.family, address):
                self._refuse("datagrams of our own", sender)
            elif len(datagram) > self._limit:
                self._refuse("datagrams too long", sender)
            elif datagram:
                yield datagram, sender, address

    def send(self, data: bytes, address: Any) -> bool:
        """Send a datagram. Returns False if there is no room for it, or no way at present."""
        try:
            self._socket.sendto(data, address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        _close(self._socket)


class UdpLink(Datagrams):
    """`Datagrams` that stand in for a serial line: they form one stream of bytes; or, if they are to stay `whole`, each
    `read` returns one.

    They must come from one host: the first that sends, until it has been silent for `SENDER_SILENT_S`. Datagrams from
    other hosts are refused, and those in excess of `MAX_DATAGRAMS_PER_S`. `clock` returns monotonic seconds. Has the
    part of pyserial's interface that links use.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        refuse: Callable[[str, Address], object] = lambda why, sender: None,
        clock: Callable[[], float] = clock_now,
        *,
        allow: Networks | None = None,
        whole: bool = False,
        limit: int = MAX_DATAGRAM_BYTES,
    ) -> None:
        super().__init__(endpoint, refuse, allow=allow, limit=limit)
        #: The host whose datagrams are accepted; None before the first.
        self.sender: Address | None = None
        self._answer_to: Any = None
        self._answered_before: Any = None
        self._heard_at = self._mixed_at = self._flooded_at = self._second_began = float("-inf")
        self._taken: int  # datagrams in this second
        self._clock = clock
        self._whole = whole

    @property
    def described(self) -> str:
        """What the link is connected to, for people. Any thread may use this."""
        return f"UDP datagrams from {self.sender}" if self.sender else "UDP: no datagram yet"

    @property
    def trouble(self) -> str:
        """What is wrong although datagrams arrive; empty if nothing is. Any thread may use this."""
        now = self._clock()
        if now - self._flooded_at < SENDER_SILENT_S:
            return f"more than {MAX_DATAGRAMS_PER_S} datagrams a second: not all are read"
        return "two programs send by turns: their values mix" if now - self._mixed_at < SENDER_SILENT_S else ""

    def read(self, size: int) -> bytes:
        """Return what has arrived: the next datagram if they stay whole; otherwise joined, at most `size` bytes, which
        must be `MAX_DATAGRAM_BYTES` or more."""
        data = b""
        for datagram, sender, address in self.receive():
            if not self._accepts(sender):
                self._refuse("datagrams of other hosts", sender)
                continue
            if self._is_flooded():
                self._refuse("datagrams too many", sender)
                continue
            self._note_program(address)
            data += datagram
            if self._whole or len(data) > size - MAX_DATAGRAM_BYTES:
                break
        return data

    def write(self, data: bytes) -> int:
        """Send a datagram to the sender of the last one, provided that `allow` limits who that can be. Returns the
        number of bytes sent."""
        if self._answer_to is None or self._allow is None:
            return 0
        return len(data) if self.send(data, self._answer_to) else 0

    def _accepts(self, sender: Address) -> bool:
        now = self._clock()
        if sender != self.sender and now - self._heard_at < SENDER_SILENT_S:
            return False
        self.sender, self._heard_at = sender, now
        return True

    def _is_flooded(self) -> bool:
        if self._heard_at - self._second_began >= 1.0:
            self._second_began, self._taken = self._heard_at, 0
        self._taken += 1
        if self._taken <= MAX_DATAGRAMS_PER_S:
            return False
        self._flooded_at = self._heard_at
        return True

    def _note_program(self, address: Any) -> None:
        """Notice two programs of the host. One that has restarted has another port, too, but keeps it."""
        if address == self._answer_to:
            return
        if address == self._answered_before:
            self._mixed_at = self._heard_at
        self._answered_before, self._answer_to = self._answer_to, address


def _listen(sock: socket.socket, address: Any, shared: bool) -> None:
    """Bind, and join the group if the address is a multicast group. Raises OSError."""
    host = address_of(address[0])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, True)
    if shared or host.is_multicast or host == _EVERYBODY:  # each of those that listen gets a copy
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    sock.setblocking(False)
    sock.bind(address)
    if not host.is_multicast:
        return
    if host.version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, host.packed + bytes(4))
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, False)  # else also where only others joined it
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, host.packed + struct.pack("=I", address[3]))
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, False)


def _is_here(family: int, address: Any) -> bool:
    """Whether a socket address has a host address of this computer."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


def _close(sock: socket.socket) -> None:
    if sock.fileno() != -1:
        _sending.discard(sock.getsockname()[1])
    sock.close()


class UdpSender:
    """Sends datagrams to a host, a broadcast address or a multicast group. Never waits. Raises OSError."""

    def __init__(self, endpoint: Endpoint) -> None:
        (family, _, _, _, address), *_ = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
        self.port = str(endpoint)
        self.described = "UDP datagrams"
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, True)
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        _sending.add(self._socket.getsockname()[1])

    def send(self, data: bytes) -> bool:
        """Send a datagram. Returns False if there is no room for it, or if no one is listening at present."""
        try:
            self._socket.send(data)
        except (BlockingIOError, ConnectionRefusedError):
            return False
        except OSError as error:
            raise DeviceError(f"{self.port}: {error.strerror or error}") from error
        return True

    def close(self) -> None:
        _close(self._socket)
