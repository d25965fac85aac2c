"""FlightGear's web server as a line: a path is written, ``STATUS PATH BODY`` comes back. Waits at most `WAIT_S`."""

from __future__ import annotations

import http.client
import time
from collections import deque

from fixgw.net.endpoint import Endpoint

WAIT_S = 0.2
IDLE_S = 0.02  # between two looks at whether to ask
MAX_ANSWER_BYTES = 4096


class HttpLine:
    """Has the part of pyserial's interface that links use, without a file descriptor. Raises OSError."""

    in_waiting = 0

    def __init__(self, endpoint: Endpoint) -> None:
        self.described = f"HTTP to {endpoint.host} port {endpoint.port}"
        self._connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=WAIT_S)
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
        """The answer, whatever `size`; empty if none has come within `WAIT_S`."""
        if size < 1:
            return b""
        if not self._asked:
            time.sleep(IDLE_S)
            return b""
        try:
            response = self._connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
            if not response.isclosed():
                self._connection.close()  # the rest of a long answer
        except TimeoutError:
            return b""
        except http.client.HTTPException as error:
            raise OSError(f"not understood: {error!r}") from error
        return b"%d %s %s\n" % (response.status, self._asked.popleft().encode(), body.replace(b"\n", b" "))

    def close(self) -> None:
        self._connection.close()
