"""TCP connections that notice when the other end has vanished: `keep_alive`, `vanished`, `connect`, `TcpLink`.

A host that loses power or leaves the network sends nothing to end its connections. Keep-alive probes then end an idle
connection. A connection with unacknowledged data sends no probes; TCP_USER_TIMEOUT ends it, or a caller of `vanished`.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixgw.net.endpoint import Endpoint

#: Silence before the first probe, time between probes, and the probes that may go unanswered: 12 s in total.
KEEPALIVE_IDLE_S = 4
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_PROBES = 4
#: The longest time for which the other end may leave data unacknowledged.
UNACKNOWLEDGED_S = 10
CONNECT_TIMEOUT_S = 5.0

# Of struct tcp_info of linux/tcp.h: the numbers of unanswered retransmissions and window probes, and the milliseconds
# since the last acknowledgement.
_TCP_INFO = struct.Struct("=2xBB52xI")
_MIN_UNANSWERED = 2  # of either kind: a single packet may have been lost on the way


def keep_alive(sock: socket.socket, *, give_up: bool = False) -> None:
    """Make the system notice within 15 s that an idle peer has vanished; with `give_up`, also a peer that owes an
    acknowledgement.

    `give_up` also ends the connection to a live peer that does not read that long. Servers that tolerate slow clients
    use `vanished` instead.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_S * 1000 if give_up else None),
    ):
        if value is not None and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def vanished(sock: socket.socket) -> bool:
    """Whether the other end has acknowledged nothing for `UNACKNOWLEDGED_S` despite repeated transmissions.

    A live peer that does not read still acknowledges. Returns False if the system cannot tell.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        retransmits, probes, milliseconds = _TCP_INFO.unpack(info)
    except (OSError, struct.error):
        return False
    return bool(max(retransmits, probes) >= _MIN_UNANSWERED and milliseconds > UNACKNOWLEDGED_S * 1000)


def connect(host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
    """Open a connection that sends without delay and fails within 15 s if the other end vanishes. Raises OSError.

    Opening may take `timeout_s` for each address of the host, and longer to look up its name. `timeout_s` also applies
    to reading and writing.
    """
    sock = socket.create_connection((host, port), timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        keep_alive(sock, give_up=True)
    except OSError:
        sock.close()
        raise
    return sock


class TcpLink:
    """A connection to a server that stands in for a serial line. Never waits. Raises OSError when the link is lost.

    Has the part of pyserial's interface that links use.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.port = str(endpoint)
        self._socket = connect(endpoint.host, endpoint.port)
        self._socket.setblocking(False)
        self.described = f"TCP connection to {':'.join(map(str, self._socket.getpeername()[:2]))}"

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, size: int) -> bytes:
        """Return what has arrived, at most `size` bytes; empty if nothing has."""
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionError("the other end closed the connection")
        return data

    def write(self, data: bytes) -> int:
        """Send as much of `data` as there is room for. Returns the number of bytes sent."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._socket.close()
