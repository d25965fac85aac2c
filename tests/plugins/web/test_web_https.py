"""The page by https."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw.database import Database
from fixgw.errors import DeviceError
from fixgw.plugins.web import Options, Plugin

from .conftest import HERE, Gateway, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("https")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]
    subprocess.run([*command, *names], cwd=folder, check=True, capture_output=True)
    return folder


def test_the_page_and_its_stream(serve: Callable[..., Gateway], folder: Path) -> None:
    gateway = serve(CONFIGPATH=str(folder), certificate="cert.pem", key="key.pem", write=HERE)
    assert gateway.plugin.address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    page = Page(gateway.port)
    page.sock = context.wrap_socket(page.sock, server_hostname="localhost")
    page.file = page.sock.makefile("rb")
    page.host = f"localhost:{gateway.port}"
    origin = f"https://{page.host}"
    assert page.ask("PUT", "/api/v1/items/IAS", {"value": 5}, Origin=origin).status == 200
    assert page.open(Origin=origin).status == 101
    page.message()
    page.want(keys="*")
    assert page.value("IAS")[0] == 5.0
    gateway.plugin.shutdown()
    with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
        page.until(lambda m: False)
    page.close()


def test_who_does_not_speak_tls_is_turned_away(serve: Callable[..., Gateway], folder: Path) -> None:
    gateway = serve(CONFIGPATH=str(folder), certificate="cert.pem", key="key.pem")
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"HTTP" not in sock.recv(1000)
        except ConnectionError:
            pass
    assert gateway.plugin.is_running()


def test_a_certificate_that_cannot_be_used_says_so(serve: Callable[..., Gateway], folder: Path) -> None:
    for key in ("cert.pem", "none.pem"):
        with pytest.raises(DeviceError, match="cannot be used for https"):
            serve(CONFIGPATH=str(folder), certificate="cert.pem", key=key)


def test_both_options_are_needed() -> None:
    problems = list(Plugin.check(Options(certificate="cert.pem"), Database()))
    assert problems == [("certificate", "https needs both `certificate` and `key`")]


def test_options_that_are_wrong_and_those_that_may_not_be_meant() -> None:
    options = Options(host="0.0.0.0", allow=("10.0.0.0/33",), admin=("x",))
    assert [option for option, _ in Plugin.check(options, Database())] == ["allow.0", "admin.0"]
    assert [option for option, _ in Plugin.advise(Options(host="0.0.0.0"), Database())] == ["host"]
    assert list(Plugin.advise(Options(), Database())) == []
    assert list(Plugin.claims(Options(port=8080))) == [("TCP port 8080 of 127.0.0.1", "port")]
    assert list(Plugin.claims(Options(port=0))) == []
