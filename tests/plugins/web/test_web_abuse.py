"""What hostile, broken and slow clients do, with plain sockets: nobody else notices, and nothing grows."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw.plugins.web import server as web_server
from fixgw.plugins.web.stream import Stream

from .conftest import Gateway, Page

pytestmark = pytest.mark.slow
Serve = Callable[..., Gateway]

GET = "GET /api/v1/items HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PUT = (
    "PUT /api/v1/items/IAS HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
    "Content-Type: application/json\r\n"
)


def refused(gateway: Gateway, data: bytes | str) -> bool:
    """Whether the server answers with an error, or hangs up; and still serves others."""
    client = gateway.connect()
    try:
        client.send(data)
    except ConnectionError:
        pass
    try:
        answer = client.answer()
        result = answer.status >= 400
    except (EOFError, ConnectionError):
        result = True
    assert gateway.ask("GET", "/api/v1/items/IAS").status == 200
    assert gateway.db.item("IAS").writes == 0
    return result


@pytest.mark.parametrize(
    "data",
    [
        "GET / HTTP/1.1\r\n\r\n",  # no host
        f"{GET}Host: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1,evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        f"{PUT}Content-Length: 12\r\nContent-Length: 13\r\n\r\n" + '{"value": 5}',
        f"{PUT}Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n" + '{"value": 5}',
        f"{PUT}Content-Length: -1\r\n\r\n",
        f"{PUT}Content-Length: +12\r\n\r\n" + '{"value": 5}',
        f"{PUT}Content-Length: 1_2\r\n\r\n" + '{"value": 5}',
        f"{PUT}Content-Length: {1 << 30}\r\n\r\n",
        f"{PUT}Content-Length: {'9' * 5000}\r\n\r\n",
        f"{PUT}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        f"{PUT}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"{PUT}Transfer-Encoding: gzip\r\n\r\n",
        f"{GET}X: {'a' * 20_000}\r\n\r\n",
        f"{GET}" + "X: y\r\n" * 5000 + "\r\n",
        "A" * 100_000,
        "\r\n" * 50_000,
        b"\xff" * 1000 + b"\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "@wIAS;5\n@xstatus\n\n\n",  # NetFIX
    ],
    ids=lambda data: str(data)[-30:],
)
def test_requests_that_are_none(shared: Gateway, data: bytes | str) -> None:
    assert refused(shared, data)


def test_an_endless_header_is_cut_off(serve: Serve) -> None:
    gateway = serve()
    client = gateway.connect()
    client.send(f"{GET}X: ")
    with pytest.raises(ConnectionError):
        client.send(b"a" * 50_000_000)


@pytest.mark.parametrize(
    "body", [b"{" * 100_000, b"[" * 900_000, b'"' + b"\xff\xfe" + b'"', b"\xef\xbb\xbf{}", b"null", b'{"value": 1e999}']
)
def test_bodies_that_are_no_json(shared: Gateway, body: bytes) -> None:
    assert refused(shared, PUT.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    "send",
    [
        lambda page: page.frame(b"", size=1 << 30),
        lambda page: page.frame(b"", size=(1 << 63) - 1),
        lambda page: page.frame(b"x" * 65_537),
        lambda page: page.frame(b'{"keys": "\xff"}'),
        lambda page: page.frame(b'{"keys": "*"}', mask=False),
        lambda page: page.frame(b"{}", bits=0xC0),  # compressed, though it was not agreed
        lambda page: page.frame(b"{}", bits=0xF0),
        lambda page: page.frame(b"{}", opcode=3),
        lambda page: page.frame(b"{}", opcode=0),  # goes on, but nothing has begun
        lambda page: page.frame(b"x" * 126, opcode=9),  # a long ping
        lambda page: page.frame(b"", opcode=9, bits=0),  # a ping in pieces
    ],
    ids=range(11),
)
def test_frames_that_are_none_end_the_stream(shared: Gateway, send: Callable[[Page], None]) -> None:
    page = shared.page()
    send(page)
    with pytest.raises((EOFError, ConnectionError)):
        page.until(lambda m: False)
    page.close()
    assert shared.ask("GET", "/api/v1/items/IAS").status == 200


def test_pieces_of_a_frame_are_bounded_together(shared: Gateway) -> None:
    page = shared.page()
    page.frame(b" " * 60_000, bits=0)
    page.frame(b" " * 60_000, bits=0, opcode=0)
    with pytest.raises(EOFError):
        page.until(lambda m: False)


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": ""}, {"Host": "evil.example"}])
def test_a_stream_of_a_foreign_page_is_refused(shared: Gateway, headers: dict[str, str]) -> None:
    page = Page(shared.port)
    assert page.open(**headers).status == 403
    page.close()


def test_a_slow_loris_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "IDLE_S", 0.3)
    gateway = serve()
    tls = "\x16\x03\x01\x02\x00\x01\x00\x01" + "\0" * 500
    for begin in ("", tls, "GET / HT", f"{GET}X: ", f"{PUT}Content-Length: 100\r\n\r\n" + "{"):
        client = gateway.connect()
        client.send(begin)
        begun = time.monotonic()
        assert client.closed()
        assert time.monotonic() - begun < 3.0


def test_connections_from_one_host_are_bounded(serve: Serve) -> None:
    gateway = serve(clients=2)
    clients = [gateway.connect() for _ in range(40)]
    assert sum(_is_served(client.sock) for client in clients) == 12
    for client in clients:
        client.close()
    deadline = time.monotonic() + 5
    while gateway.plugin.get_status()["connections"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert gateway.ask("GET", "/api/v1/items/IAS").status == 200


def _is_served(sock: socket.socket) -> bool:
    try:
        sock.sendall(f"{GET}\r\n".encode())
        return sock.recv(20).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def test_hosts_elsewhere_are_refused(serve: Serve) -> None:
    gateway = serve(allow=["127.0.0.1"])
    client = gateway.connect(source="127.0.0.2")
    assert client.closed()
    assert gateway.plugin.get_status()["clients not allowed"] == 1


def test_a_page_that_never_reads_gets_the_newest_and_holds_up_nobody(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "PING_S", 1.0)
    gateway = serve()
    slow = gateway.page(buffer=1024)
    page = gateway.page()
    assert gateway.plugin.server is not None
    streams = gateway.plugin.server.hub.streams
    most, longest, last = 0, 0.0, time.monotonic()
    ended = time.monotonic() + 4.0
    n = 0
    while not (given_up := any(_is_closing(stream) for stream in list(streams))) and time.monotonic() < ended:
        n += 1
        gateway.db.write("ACID", f"{n} {'x' * 200}", "test")
        page.value("ACID")
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        for stream in list(streams):
            if (connection := getattr(stream.ws_connection, "stream", None)) is not None:
                most = max(most, len(connection._write_buffer))
    assert given_up  # it does not answer the pings
    assert most < 100_000
    assert longest < 1.0
    slow.close()


def _is_closing(stream: Stream) -> bool:
    return stream.ws_connection is None or stream.ws_connection.is_closing()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_600_clients_leave_nothing_behind(serve: Serve) -> None:
    gateway = serve()
    after_150 = 0
    for n in range(600):
        if n == 150:
            after_150 = resident()
        page = Page(gateway.port)
        if n % 3:
            assert page.open().status == 101
        if n % 3 == 1:
            page.message()
        page.close()
    deadline = time.monotonic() + 5
    while (status := gateway.plugin.get_status())["connections"] or status["pages"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert resident() - after_150 < 4 * 2**20
