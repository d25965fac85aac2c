"""Datagrams: `UdpLink` receives from one sender at a time, `UdpSender` sends to one address or to many."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from fixgw.clock import now as clock_now
from fixgw.errors import DeviceError
from fixgw.net.access import Address, address_of
from fixgw.net.endpoint import Endpoint

MAX_DATAGRAM_BYTES = 2048  # longer ones are refused; what instruments send fits into one network packet
MAX_DATAGRAMS = 64  # the most that one read takes
#: After this much silence of the sender, another one is accepted.
SENDER_SILENT_S = 5.0
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # socket options that the socket module lacks
_EVERYBODY = IPv4Address("255.255.255.255")


class UdpLink:
    """Listens on an address of this computer, or for a broadcast or multicast address. Reading never waits.

    The datagrams form one stream of bytes, so they must come from one host: the first that sends, until it has been
    silent for `SENDER_SILENT_S`. Datagrams from other hosts, or longer than `MAX_DATAGRAM_BYTES`, are refused: `refuse`
    is called with the reason and the sender. Raises OSError if the address is not available.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        refuse: Callable[[str, Address], object] = lambda why, sender: None,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self.port = str(endpoint)
        #: The host whose datagrams are accepted; None before the first.
        self.sender: Address | None = None
        self._heard_at = float("-inf")
        self._refuse = refuse
        self._clock = clock
        family, _, _, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            _listen(self._socket, address)
        except OSError:
            self._socket.close()
            raise

    @property
    def described(self) -> str:
        """What the link is connected to, for people. Any thread may use this."""
        return f"UDP datagrams from {self.sender}" if self.sender else "UDP: no datagram yet"

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, size: int) -> bytes:
        """Return what has arrived, joined, at most `size` bytes, which must be `MAX_DATAGRAM_BYTES` or more."""
        data = b""
        for _ in range(MAX_DATAGRAMS):
            if len(data) > size - MAX_DATAGRAM_BYTES:
                break
            try:
                datagram, (host, *_) = self._socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                break
            sender = address_of(host)
            if len(datagram) > MAX_DATAGRAM_BYTES:
                self._refuse("datagrams too long", sender)
            elif self._accepts(sender):
                data += datagram
            else:
                self._refuse("datagrams of other hosts", sender)
        return data

    def write(self, data: bytes) -> int:
        """Send nothing: a link that listens has no one to answer."""
        return 0

    def close(self) -> None:
        self._socket.close()

    def _accepts(self, sender: Address) -> bool:
        now = self._clock()
        if sender != self.sender and now - self._heard_at < SENDER_SILENT_S:
            return False
        self.sender, self._heard_at = sender, now
        return True


def _listen(sock: socket.socket, address: Any) -> None:
    """Bind, and join the group if the address is a multicast group. Raises OSError."""
    host = address_of(address[0])
    if host.is_multicast or host == _EVERYBODY:  # several programs may listen to these; each gets a copy
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind(address)
    if not host.is_multicast:
        return
    if host.version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, host.packed + bytes(4))
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # else also groups that others joined
    else:
        interface = address[3] if len(address) > 2 else 0
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, host.packed + interface.to_bytes(4, sys.byteorder))
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)


class UdpSender:
    """Sends datagrams to a host, a broadcast address or a multicast group. Never waits. Raises OSError."""

    def __init__(self, endpoint: Endpoint) -> None:
        family, _, _, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)[0]
        self.port = str(endpoint)
        self.described = "UDP datagrams"
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

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
        self._socket.close()
