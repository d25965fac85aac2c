"""A real server on a free port, and clients that are only sockets."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import Database, Definition
from fixgw.plugins.web import Plugin
from fixgw.world import World

#: Loopback, for options.
HERE = ["127.0.0.0/8"]
DEFINITIONS = [
    Definition(key="IAS", units="knots", min=0, max=1000, tolerance=2000, aux=("Vs", "Vne"), description="Airspeed"),
    Definition(key="GS", units="knots", min=0, max=1000, tolerance=2000, description="Ground speed"),
    Definition(key="ALT", units="ft", min=-1000, max=60000, tolerance=2000, sources=("adc", "gps"), decimals=0),
    Definition(key="BARO", min=0, max=35, initial=29.92, setting=True, units="inHg", description="Altimeter setting"),
    Definition(key="ACID", type="str", description="Call sign"),
]


class Answer:
    """An answer of HTTP."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Raw:
    """A socket to the server."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "127.0.0.1", buffer: int = 0) -> None:
        self.host = f"{host}:{port}"
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(20.0)
        self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self.file = self.sock.makefile("rb")

    def send(self, data: str | bytes) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def answer(self, body: bool = True) -> Answer:
        """The next answer; EOFError if the server hangs up instead."""
        line = self.file.readline()
        if not line:
            raise EOFError
        headers = {}
        while (header := self.file.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0)) if body else 0
        return Answer(int(line.split()[1]), headers, self.file.read(length))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request as a page of the gateway makes it; a header that is empty is left out."""
        text = "" if body is None else json.dumps(body)
        given = {"Host": self.host}
        if method not in ("GET", "HEAD"):
            given |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
            given |= {"Content-Length": str(len(text))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n{text}")
        return self.answer(method != "HEAD")

    def closed(self) -> bool:
        """Whether the server has hung up; waits for it."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Page(Raw):
    """The stream, as a browser opens it."""

    def open(self, **headers: str) -> Answer:
        key = base64.b64encode(os.urandom(16)).decode()
        given = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key}
        given |= {"Sec-WebSocket-Version": "13", "Origin": f"http://{self.host}"}
        return self.ask("GET", "/api/v1/stream", **{**given, **headers})

    def frame(self, data: bytes, opcode: int = 1, mask: bool = True, bits: int = 0x80, size: int | None = None) -> None:
        size = len(data) if size is None else size
        short = size if size < 126 else 126 if size < 65536 else 127
        head = struct.pack("!BB", bits | opcode, short | (0x80 if mask else 0))
        head += b"" if short < 126 else struct.pack("!H" if short == 126 else "!Q", size)
        self.send(head + (b"\0\0\0\0" if mask else b"") + data)

    def want(self, **members: Any) -> None:
        self.frame(json.dumps(members).encode())

    def message(self) -> dict[str, Any]:
        """The next message; EOFError with the code if the stream ends."""
        while True:
            first, short = self._exactly(2)
            size = short & 0x7F
            if size > 125:
                (size,) = struct.unpack("!H" if size == 126 else "!Q", self._exactly(2 if size == 126 else 8))
            data = self._exactly(size)
            if first & 0xF == 8:
                raise EOFError(struct.unpack("!H", data[:2])[0] if data else 1005)
            if first & 0xF == 9:
                self.frame(data, opcode=10)
            if first & 0xF == 1:
                found: dict[str, Any] = json.loads(data)
                return found

    def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first message with which `wanted` is content."""
        for _ in range(200):
            message = self.message()
            if wanted(message):
                return message
        raise AssertionError("no such message")

    def value(self, key: str) -> list[Any]:
        found: list[Any] = self.until(lambda m: key in m.get("v", ()))["v"][key]
        return found

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError
        return data


class Gateway:
    """A database and the plugin, without a gateway."""

    def __init__(self, definitions: Iterable[Definition] = DEFINITIONS, **options: Any) -> None:
        self.db = Database(definitions)
        self.db.start()
        self.status: dict[str, Any] = {"health": "ok", "summary": "all well", "uptime": 1.0, "connections": {}}
        self.world = World(self.db, status=lambda: self.status)
        with self.world.hosting():
            self.plugin = Plugin("web", {"port": 0, **options})
        try:
            self.plugin.start()
        except BaseException:
            self.db.stop()
            raise
        self.clients: list[Raw] = []
        self.reloads = 0

    @property
    def port(self) -> int:
        return self.plugin.port

    def connect(self, **options: Any) -> Raw:
        self.clients.append(Raw(self.port, **options))
        return self.clients[-1]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        client = Raw(self.port)
        try:
            return client.ask(method, path, body, **headers)
        finally:
            client.close()

    def page(self, keys: Any = "*", rate: float = 50, headers: dict[str, str] | None = None, **options: Any) -> Page:
        """A stream with its keys."""
        page = Page(self.port, **options)
        self.clients.append(page)
        assert page.open(**(headers or {})).status == 101
        assert "hello" in page.message()
        page.want(keys=keys, rate=rate)
        return page

    def close(self) -> None:
        for client in self.clients:
            client.close()
        with contextlib.suppress(Exception):
            self.plugin.shutdown()
        self.world.history.stop()
        self.db.stop()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway with these options."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    gateways: list[Gateway] = []

    def start(**options: Any) -> Gateway:
        gateways.append(Gateway(**{"rate": 50, **options}))
        return gateways[-1]

    yield start
    for gateway in gateways:
        gateway.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for tests that leave nothing behind: this computer may write, and use the bench."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        gateway = Gateway(rate=50, write=HERE, bench=True)
        yield gateway
        gateway.close()
