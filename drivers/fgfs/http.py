"""FlightGear's web server as a line: a path is written, ``STATUS PATH BODY`` comes back.

Nothing waits for more than 0.2 s.
"""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections import deque
from typing import Any

from fixgw.clock import now
from fixgw.net.endpoint import Endpoint

CONNECT_S = 0.2
WAIT_S = 0.1  # for the beginning of an answer, and as long for the rest
IDLE_S = 0.02  # between two looks at whether to ask
MAX_ANSWER_BYTES = 4096


class _Socket(socket.socket):
    """Gives up at a `deadline`, however many bytes have come until then."""

    deadline = float("inf")

    def recv_into(self, *args: Any) -> int:
        if (left := self.deadline - now()) <= 0.0:
            raise TimeoutError
        self.settimeout(left)
        return super().recv_into(*args)


class _Connection(http.client.HTTPConnection):
    sock: Any

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(fileno=self.sock.detach())
        self.sock.settimeout(CONNECT_S)


class HttpLine:
    """Has the part of pyserial's interface that links use, without a file descriptor. Raises OSError."""

    in_waiting = 0

    def __init__(self, endpoint: Endpoint) -> None:
        self.described = f"HTTP to {endpoint.host} port {endpoint.port}"
        self._connection = _Connection(endpoint.host, endpoint.port, timeout=CONNECT_S)
        self._connection.connect()
        self._asked: deque[str] = deque()

    def write(self, data: bytes) -> int:
        """Ask for a path. The connection is opened again if the server has closed it."""
        path = data.decode("ascii")
        try:
            self._connection.request("GET", f"/json{path}")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        self._asked.append(path)
        return len(data)

    def read(self, size: int) -> bytes:
        """The answer, whatever `size`; empty if none has begun within `WAIT_S`."""
        if size < 1:
            return b""
        if not self._asked:
            time.sleep(IDLE_S)
            return b""
        connected = self._connection.sock
        poll = select.poll()
        poll.register(connected, select.POLLIN)
        if not poll.poll(WAIT_S * 1000):
            return b""
        connected.deadline = now() + WAIT_S
        try:
            response = self._connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
            if not response.isclosed():
                self._connection.close()  # the rest of a long answer
        except http.client.HTTPException as error:
            raise OSError(f"not understood: {error!r}") from error
        return b"%d %s %s\n" % (response.status, self._asked.popleft().encode(), body.replace(b"\n", b" "))

    def close(self) -> None:
        self._connection.close()
