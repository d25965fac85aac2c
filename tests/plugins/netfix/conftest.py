"""A real server on a free port, and a client that is only a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw.database import Database, Definition, Value
from fixgw.plugins.netfix import Plugin
from fixgw.world import World

DEFINITIONS = [
    Definition(key="IAS", units="knots", min=0, max=1000, tolerance=2000, aux=("Vs", "Vne"), description="Airspeed"),
    Definition(key="ALT", units="ft", min=-1000, max=60000, tolerance=2000, description="Altitude"),
    Definition(key="ZZLOADER", type="str", description="Loaded"),
    Definition(key="FREE", description="No limits"),
    Definition(key="COUNT", type="int", min=0, max=100, description="A count"),
    Definition(key="BTN1", type="bool", setting=True, description="A button"),
    Definition(key="ACID", type="str", description="Call; sign\nof the aircraft"),
    Definition(key="BARO", min=0, max=35, initial=29.92, setting=True, units="inHg", description="Altimeter setting"),
    Definition(key="MARK", type="int"),
]


class RawClient:
    """Sends text, receives lines."""

    def __init__(self, port: int, source: str = "127.0.0.1", buffer: int = 0) -> None:
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(5.0)
        self.sock.bind((source, 0))
        self.sock.connect(("127.0.0.1", port))
        self._tail = b""

    def send(self, data: str | bytes) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def line(self) -> str:
        """The next line; AssertionError if the server disconnects, or sends nothing for five seconds."""
        while b"\n" not in self._tail:
            data = self.sock.recv(65536)
            assert data, "the server closed the connection"
            self._tail += data
        line, _, self._tail = self._tail.partition(b"\n")
        return line.decode()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def ask(self, command: str) -> str:
        self.send(command + "\n")
        return self.line()

    def until(self, last: str) -> list[str]:
        """The lines before `last`."""
        lines = []
        while (line := self.line()) != last:
            lines.append(line)
        return lines

    def closed(self) -> bool:
        """Whether the server closes the connection, whatever it sends before."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()


class TestGateway:
    """A database and a running server."""

    __test__ = False

    def __init__(
        self,
        definitions: list[Definition],
        clock: Callable[[], float] = time.monotonic,
        start: tuple[tuple[str, Value, str], ...] = (),
        **options: Any,
    ) -> None:
        """`start`: keys, values and sources that are written before the server starts."""
        self.db = Database(definitions, clock)
        for key, value, source in start:
            self.db.write(key, value, source)
        self.world = World(self.db)
        with self.world.hosting():
            self.plugin = Plugin("netfix", {"port": 0, **options})
        self.plugin.start()
        self.port = self.plugin.port
        self._clients: list[RawClient] = []
        self._marks = 0

    def connect(self, source: str = "127.0.0.1", buffer: int = 0) -> RawClient:
        """`buffer` is the size in bytes of the client's receive buffer."""
        client = RawClient(self.port, source, buffer)
        self._clients.append(client)
        return client

    def heard(self, client: RawClient) -> list[str]:
        """All pending updates for `client`, which has subscribed to MARK."""
        self._marks += 1
        self.db.write("MARK", self._marks, "test")
        return client.until(f"MARK;{self._marks};00000")

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.plugin.shutdown()
        self.world.history.stop()
        self.db.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., TestGateway]]:
    """Create gateways with the given options."""
    made = []

    def make(definitions: list[Definition] | None = None, **options: Any) -> TestGateway:
        made.append(TestGateway(DEFINITIONS if definitions is None else definitions, **options))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def gateway(serve: Callable[..., TestGateway]) -> TestGateway:
    return serve()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds; fail after five seconds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5.0
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within five seconds"
            time.sleep(0.002)

    return wait
