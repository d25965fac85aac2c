"""The serial link by itself: ports of every kind, under a driver of five lines."""

from __future__ import annotations

import builtins
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw.database import Database
from fixgw.drivers.links.serial import CHUNK_BYTES, SerialPoller
from fixgw.errors import MissingLibrary
from fixgw.hw_sim.pty import VirtualPort

pytestmark = pytest.mark.slow


class Ear(SerialPoller):
    """Keeps all lines; a line that begins with ``ok`` is valid."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__(name, config)
        self.chunks: list[bytes] = []
        self.idled = threading.Event()

    def received(self, data: bytes) -> bool:
        self.chunks.append(data)
        return data.startswith(b"ok")

    def idle(self) -> None:
        self.idled.set()

    @property
    def heard_all(self) -> bytes:
        return b"".join(self.chunks)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def port() -> Iterator[VirtualPort]:
    with VirtualPort() as virtual:
        yield virtual


def started(port: str, **options: Any) -> Ear:
    ear = Ear("ear", {"port": port, **options})
    ear.start()
    return ear


def test_bytes_arrive_in_order_in_bounded_chunks(port: VirtualPort) -> None:
    ear = started(port.path)
    try:
        until(lambda: ear.connected)
        sent = b""
        for n in range(40):
            data = bytes([n]) * 999
            until(lambda: ear.counts["bytes"] == port.written)
            assert port.write(data) == len(data)
            sent += data
        until(lambda: ear.heard_all == sent)
        assert max(map(len, ear.chunks)) <= CHUNK_BYTES
        assert ear.get_status()["bytes"] == len(sent)
    finally:
        ear.shutdown()


def test_a_quiet_line_idles(port: VirtualPort) -> None:
    ear = started(port.path)
    try:
        assert ear.idled.wait(5)
        assert ear.health() == "no data"
    finally:
        ear.shutdown()


def test_control_characters_and_8_bits_pass_unchanged(port: VirtualPort) -> None:
    ear = started(port.path)
    everything = bytes(range(256))
    try:
        until(lambda: ear.connected)
        port.write(everything)
        until(lambda: ear.heard_all == everything)
        assert port.read(0.05) == b"", "an echo"
    finally:
        ear.shutdown()


@pytest.mark.parametrize("url", ["loop://", "spy://{path}"])
def test_other_urls_work_like_devices(port: VirtualPort, url: str) -> None:
    ear = started(url.format(path=port.path))
    try:
        until(lambda: ear.connected)
        assert ear.port is not None
        write: Callable[[bytes], object] = ear.port.write if url == "loop://" else port.write
        write(b"ok")
        until(lambda: ear.heard_all == b"ok")
        write(b"x" * 5000)
        until(lambda: len(ear.heard_all) == 5002)
        until(lambda: not ear.health())
    finally:
        ear.shutdown()


def test_a_local_port_that_is_open_answers_within_milliseconds(port: VirtualPort) -> None:
    ear = started(port.path)
    try:
        until(lambda: ear.connected)
        assert ear.idled.wait(5)
        begin = time.monotonic()
        port.write(b"ok")
        until(lambda: ear.chunks)
        assert time.monotonic() - begin < ear.poll_timeout
    finally:
        ear.shutdown()


def test_complaints_are_few(caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear("ear", {"port": "loop://"})
    now = 100.0
    ear.clock = lambda: now
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            ear.complain("bad input: %s", "x")
        assert len(caplog.records) == 1
        now += 11.0
        ear.complain("bad input: %s", "x")
        assert len(caplog.records) == 2


def test_without_pyserial_check_and_start_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_serial(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "serial":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_serial)
    ear = Ear("ear", {"port": "/dev/x"})
    ((_, message),) = Ear.check(ear.options, Database())
    assert message.startswith("pyserial is not installed: ")
    with pytest.raises(MissingLibrary, match="pip install 'pyserial"):
        ear.start()
    assert not ear.running


# -- the virtual port --------------------------------------------------------------------------------------------------


def test_a_virtual_port_loses_data_that_nobody_reads(port: VirtualPort) -> None:
    assert not port.opened
    assert port.write(b"lost") == 0
    assert port.dropped == 4
    with open(port.path, "rb", buffering=0) as device:
        assert port.opened
        assert port.write(b"found") == 5
        assert device.read(100) == b"found"
        assert port.write(b"x" * 1_000_000) < 1_000_000, "a write must not wait"


def test_a_virtual_port_keeps_its_path_across_unplugging(tmp_path: Any) -> None:
    path = tmp_path / "gps"
    with VirtualPort(str(path)) as port:
        port.unplug()
        port.unplug()
        assert not path.is_symlink()
        assert port.write(b"x") == 0
        assert port.read(0.01) == b""
        port.plug()
        port.plug()
        with path.open("r+b", buffering=0) as device:
            device.write(b"query")
            assert port.read(1.0) == b"query"
    assert not path.is_symlink()
    port.close()


def test_a_virtual_port_does_not_replace_a_file(tmp_path: Any) -> None:
    (tmp_path / "gps").write_text("precious")
    with pytest.raises(FileExistsError):
        VirtualPort(str(tmp_path / "gps"))
    assert (tmp_path / "gps").read_text() == "precious"
