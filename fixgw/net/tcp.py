"""TCP connections that notice when the other end has vanished: `keep_alive`, `vanished`, `connect`, `TcpLink`.

A host that loses power or leaves the network says nothing. An idle connection is then ended by keep-alive probes; one
with data under way sends no probes, and is ended by TCP_USER_TIMEOUT, or by whoever asks `vanished`.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixgw.net.endpoint import Endpoint

#: Seconds of silence before the first probe, between probes, and how many may go unanswered: 12 s in all.
KEEPALIVE_IDLE_S = 4
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_PROBES = 4
#: Seconds for which the other end may leave data unacknowledged.
UNACKNOWLEDGED_S = 10
CONNECT_TIMEOUT_S = 5.0

# struct tcp_info of linux/tcp.h: the counts of unanswered retransmissions and window probes, and where the milliseconds
# since the last acknowledgement are.
_RETRANSMITS, _PROBES, _LAST_ACK = 2, 3, 56
_UNANSWERED = 2  # of either kind: one alone may have been lost on the way


def keep_alive(sock: socket.socket, *, give_up: bool = False) -> None:
    """Have the system notice within 15 s that an idle peer has vanished; with `give_up` a peer that owes an
    acknowledgement too.

    `give_up` also ends a connection to a peer that is alive and reads nothing for so long: servers that bear with slow
    clients ask `vanished` instead.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_S * 1000 if give_up else None),
    ):
        if value is not None and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def vanished(sock: socket.socket) -> bool:
    """Whether the other end has acknowledged nothing for `UNACKNOWLEDGED_S` though it was asked to, repeatedly.

    A peer that is alive and does not read acknowledges all the same. False where the system cannot tell.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (milliseconds,) = struct.unpack_from("=I", info, _LAST_ACK)
    except (OSError, struct.error):
        return False
    unanswered: int = max(info[_RETRANSMITS], info[_PROBES])
    return unanswered >= _UNANSWERED and milliseconds > UNACKNOWLEDGED_S * 1000


def connect(host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
    """A connection that sends at once, and fails within 15 s when the other end vanishes. Raises OSError.

    It may wait `timeout_s` for each address of the host, and longer for a name to be looked up; so long its operations
    may wait, too.
    """
    sock = socket.create_connection((host, port), timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock, give_up=True)
    except OSError:
        sock.close()
        raise
    return sock


class TcpLink:
    """A connection to a server that carries what a serial line would; it never waits. Raises OSError when it is lost.

    It has the part of pyserial's interface that links use.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.port = str(endpoint)
        self._socket = connect(endpoint.host, endpoint.port)
        self._socket.setblocking(False)
        self.described = f"TCP connection to {':'.join(map(str, self._socket.getpeername()[:2]))}"

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, size: int) -> bytes:
        """What has come, at most `size` bytes; nothing when nothing has."""
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionError("the other end has closed the connection")
        return data

    def write(self, data: bytes) -> int:
        """Send as much of `data` as there is room for; returns how many bytes that was."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._socket.close()
