"""A web page can make a browser send anything to this port: the server obeys none of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import RawClient, TestGateway

pytestmark = pytest.mark.slow

Wait = Callable[[Callable[[], object]], None]
BODY = "IAS;222;0000\n@wBARO;28.5\n@fALT;f;1\n@xkill\n"
HEADERS = "Host: 127.0.0.1:3490\r\nOrigin: http://page.example\r\nContent-Type: text/plain\r\n\r\n"
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03session\n" + BODY.encode()


@pytest.fixture
def killable(serve: Callable[..., TestGateway]) -> TestGateway:
    return serve(admin=["127.0.0.0/8"])


@pytest.mark.parametrize(
    "request_line",
    [
        *(f"{method} /x HTTP/1.1" for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE")),
        "CONNECT 127.0.0.1:3490 HTTP/1.1", "PRI * HTTP/2.0", "post /x http/1.1", "Post /x HTTP/1.0", "POST /x",
        "POST /a;b;0000 HTTP/1.1", "POST /IAS;222;0000", "\r\n\r\n\nPOST /x HTTP/1.1", " POST /x HTTP/1.1",
        "POST\t/x HTTP/1.1", "SEARCH /x HTTP/1.1", "GET /" + "a" * 5000 + " HTTP/1.1", "POST /\u00e9\u6f22 HTTP/1.1",
        "POST /\0 HTTP/1.1", "Host: 127.0.0.1:3490", "host:x", "Content-Length: 5", "Sec-Fetch-Mode: no-cors",
    ],
)  # fmt: skip
def test_a_web_request_ends_the_connection_before_any_command_runs(
    killable: TestGateway, wait_for: Wait, request_line: str
) -> None:
    refused_whole(killable, wait_for, [f"{request_line}\r\n{HEADERS}{BODY}".encode()])


def test_a_web_request_is_refused_in_any_pieces(killable: TestGateway, wait_for: Wait) -> None:
    request = f"POST /x HTTP/1.1\r\n{HEADERS}{BODY}".encode()
    refused_whole(killable, wait_for, [request[n : n + 1] for n in range(40)] + [request[40:]])
    refused_whole(killable, wait_for, [request * 3])
    refused_whole(killable, wait_for, [b"POST /\xff\xfe HTTP/1.1\r\n" + BODY.encode()])
    refused_whole(killable, wait_for, [TLS_HELLO])
    refused_whole(killable, wait_for, [TLS_HELLO[:1], TLS_HELLO[1:]])
    refused_whole(killable, wait_for, [b"@rIAS\n" + request])


def refused_whole(gateway: TestGateway, wait_for: Wait, pieces: list[bytes]) -> None:
    stopped: list[str] = []
    gateway.world.quit = stopped.append
    before = [item.reading for item in gateway.db.items()]
    dropped = gateway.plugin.get_status()["dropped"]
    page = gateway.connect()
    try:
        for piece in pieces:
            page.send(piece)
    except OSError:
        pass  # it is already closed
    assert page.closed()
    wait_for(lambda: gateway.plugin.get_status()["dropped"] == dropped + 1)
    assert [item.reading for item in gateway.db.items()] == before
    assert not stopped
    assert gateway.connect().ask("@rMARK") == "@rMARK;0;01000"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("@wACID;GET / HTTP/1.1", "@wACID;GET / HTTP/1.1;00000"), ("@wACID;Host: x", "@wACID;Host: x;00000"),
        ("@xPOST / HTTP/1.1", "@xPOST / HTTP/1.1!004"), ("@rGET / HTTP/1.1", "@rGET / HTTP/1.1!001"),
        ("GET", "GET!004"), ("GETTING ready", "GETTING ready!004"), ("POST", "POST!004"), ("hello", "hello!004"),
        ("help me please", "help me please!004"), ("Host", "Host!004"), ("hosts: 5", "hosts: 5!004"),
    ],
)  # fmt: skip
def test_netfix_is_not_taken_for_a_web_request(gateway: TestGateway, line: str, answer: str) -> None:
    client = gateway.connect()
    client.send("PUT;5;000\nHOST;1\nACID;POST / HTTP/1.1;000\n")  # keys that do not exist, and text
    assert client.ask(line) == answer
    assert gateway.plugin.get_status()["ignored sentences"] == 2


def test_no_client_stops_the_gateway_unless_configured(
    gateway: TestGateway, serve: Callable[..., TestGateway], caplog: pytest.LogCaptureFixture, wait_for: Wait
) -> None:
    stopped: list[str] = []
    client: RawClient = gateway.connect()
    gateway.world.quit = stopped.append
    assert client.ask("@xkill") == "@xkill!005"
    assert "may not stop the gateway: the option `admin` does not name its address" in caplog.text
    assert not stopped
    other = serve(admin=["127.0.0.2"])
    other.world.quit = stopped.append
    assert other.connect("127.0.0.1").ask("@xkill") == "@xkill!005"
    assert other.connect("127.0.0.2").ask("@xkill") == "@xkill"
    wait_for(lambda: stopped == ["netfix"])
