"""The serial link without its thread, by a clock that is wound by hand: what it says, and which rates it tries."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
from ipaddress import ip_address
from typing import Any

import pytest
from msgspec import ValidationError, convert

from fixgw.drivers.links import serial
from fixgw.drivers.links.serial import (
    BAUD_RATES,
    CHUNK_BYTES,
    NetworkOptions,
    NetworkPort,
    SerialOptions,
    SerialPoller,
)
from fixgw.drivers.links.simulator import here_for
from fixgw.errors import DeviceError
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event, Heard
from fixgw.plugin import Device


class Near(NetworkOptions, frozen=True, kw_only=True):
    port: NetworkPort


class Line:
    """A port without a file descriptor. It has `pieces` to read; None stands for an error."""

    in_waiting = CHUNK_BYTES

    def __init__(self) -> None:
        self.pieces: list[bytes | None] = []
        self.read_from = b""
        self.written = b""
        self.asked: list[int] = []
        self.flushed = 0
        self.closed = False
        self.trouble = ""
        self.baudrate = 0

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        if not self.read_from and self.pieces:
            piece = self.pieces.pop(0)
            if piece is None:
                raise OSError("Input/output error")
            self.read_from = piece
        data, self.read_from = self.read_from[:size], self.read_from[size:]
        return data

    def write(self, data: bytes) -> int:
        if self.closed:
            raise OSError("Input/output error")
        self.written += data[:4]
        return len(data[:4])

    def reset_input_buffer(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


class Ear(SerialPoller):
    """What begins with ``ok`` is valid."""

    def __init__(self, port: str = "/dev/ttyS9", **options: Any) -> None:
        super().__init__("ear", {"port": port, **options})
        self.now = 100.0
        self.clock = lambda: self.now
        self.line: Line | None = Line()
        self.heard: list[bytes] = []
        self.idled = self.interrupted = 0
        self.step(0.0)
        self.hold_up.clock = lambda: 0.0
        self.hold_up.reset()

    def _open(self) -> Line | None:
        return self.line

    def received(self, data: bytes) -> bool:
        self.heard.append(data)
        return data.startswith(b"ok")

    def idle(self) -> None:
        self.idled += 1

    def flushed(self) -> None:
        self.interrupted += 1

    def hear(self, *pieces: bytes | None) -> None:
        assert self.line is not None
        self.line.pieces += pieces
        for _ in pieces:
            self.step(0.0)


def test_silence_and_garbage_are_reported_after_three_seconds() -> None:
    ear = Ear(baud=9600)
    assert ear.health() == "no data"
    ear.hear(b"??")
    assert ear.health() == "", "it may have begun in the middle of a sentence"
    ear.now += 3.0
    ear.hear(b"??")
    assert ear.health() == ""
    ear.now += 0.1
    ear.hear(b"??")
    assert ear.health() == "only garbage at 9600 baud: check the baud rate"
    ear.hear(b"ok")
    assert ear.health() == ""
    ear.now += 3.0
    assert ear.health() == ""
    ear.now += 0.1
    assert ear.health() == "no data"
    assert ear.get_status() == {"port": "/dev/ttyS9", "baud": 9600, "connected": True, "bytes": 8}
    assert ear.line is not None
    assert ear.line.flushed == 0


def test_a_line_that_comes_back_has_said_nothing_yet() -> None:
    ear = Ear(baud=9600)
    ear.hear(b"ok", None)
    assert ear.health() == "/dev/ttyS9 went away"
    assert ear.line is not None
    assert ear.line.closed
    ear.step(0.0)
    assert ear.health() == "no data"
    ear.hear(b"??")
    assert ear.health() == ""


def test_the_usual_rates_are_tried_in_turn_while_only_garbage_arrives() -> None:
    ear = Ear()
    line = ear.line
    assert line is not None
    tried = []
    for _ in range(len(BAUD_RATES)):
        ear.now += 3.0
        ear.hear(b"??")
        assert ear.health() == ""
        ear.now += 0.1
        assert ear.health() == f"only garbage at {ear.get_status()['baud']} baud: trying other rates"
        ear.hear(b"??")
        assert ear.health() == "", "the new rate has its time"
        tried.append(line.baudrate)
    assert tried == [*BAUD_RATES[1:], BAUD_RATES[0]]
    assert line.flushed == len(tried)
    ear.hear(b"ok")
    ear.now += 3.0
    ear.hear(b"??")
    assert line.flushed == len(tried)
    ear.now += 3.0
    ear.hear(b"ok")
    assert line.flushed == len(tried), "a rate at which something made sense is the right one"


def test_a_rate_that_the_device_refuses_is_an_outage() -> None:
    ear = Ear()
    assert ear.line is not None

    def refuse() -> None:
        raise ValueError("no such rate")  # termios.error is not an OSError either

    ear.line.reset_input_buffer = refuse  # type: ignore[method-assign]
    ear.now += 3.1
    ear.hear(b"??")
    assert ear.health() == "/dev/ttyS9: no such rate"


def test_a_network_has_no_rate() -> None:
    ear = Ear("tcp://localhost:4000")
    ear.now += 3.1
    ear.hear(b"??")
    assert ear.health() == "only garbage: is this the right instrument?"
    assert ear.line is not None
    ear.line.described = "TCP connection to 127.0.0.1:4000"  # type: ignore[attr-defined]
    assert [*ear.get_status().items()][:2] == [("port", "tcp://localhost:4000"), ("link", ear.line.described)]  # type: ignore[attr-defined]
    ear.hear(b"ok")
    ear.line.trouble = "two programs send by turns"
    assert ear.health() == "two programs send by turns"
    ear.line.pieces.append(None)
    ear.step(0.0)
    assert ear.get_status()["link"] == "none"


def test_a_read_takes_what_waits_up_to_a_chunk() -> None:
    ear = Ear()
    assert ear.line is not None
    ear.hear(b"o" + b"k" * CHUNK_BYTES, b"")
    assert [len(data) for data in ear.heard] == [CHUNK_BYTES, 1]
    assert ear.counts["bytes"] == CHUNK_BYTES + 1
    before = ear.idled
    ear.step(0.0)
    assert ear.idled == before + 1


def test_as_much_is_sent_as_the_port_accepts() -> None:
    ear = Ear()
    assert ear.line is not None
    assert ear.send(b"hello") == 4
    ear.line.write = lambda data: None  # type: ignore[method-assign, assignment, return-value]
    assert ear.send(b"hello") == 0, "pyserial's rfc2217 does not say"

    def full(data: bytes) -> int:
        raise BlockingIOError

    ear.line.write = full  # type: ignore[method-assign]
    assert ear.send(b"hello") == 0
    del ear.line.write
    ear.line.closed = True
    with pytest.raises(DeviceError, match=r"^/dev/ttyS9 went away$"):
        ear.send(b"hello")
    ear.close()
    assert ear.send(b"hello") == 0


def test_the_time_without_a_port_is_no_hold_up() -> None:
    ear, at = Ear(), 0.0
    ear.hold_up.clock = lambda: at
    ear.hear(None)
    at += 60.0
    ear.hear(b"ok")
    assert ear.heard == [b"ok"]


def test_old_bytes_have_been_read_when_nothing_comes_for_20_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    pieces, waits = [b"one", b"two", b"three", b""], []

    def read(timeout: float) -> bytes:
        waits.append(timeout)
        return pieces.pop(0)

    monkeypatch.setattr(ear, "_read", read)
    ear.hold_up.clock = lambda: 5.0
    ear.poll(0.2)
    assert (waits, ear.counts["old bytes discarded"]) == ([0.2, 0.02, 0.02, 0.02], 11)


def test_a_port_is_tried_again_after_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    monkeypatch.setattr(ear, "_open", lambda: SerialPoller._open(ear))

    def fail() -> Any:
        raise OSError("gone")

    monkeypatch.setattr(ear, "_open_now", fail)
    ear.hear(None)
    assert [ear.step(0.0) for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]


def test_recorders_hear_what_was_really_sent() -> None:
    ear, buffer, db = Ear(), Buffer(10), packaged_database()
    assert ear.line is not None
    ear._raw = raw.point(db)
    raw.listen(db, buffer, logging.getLogger("recorder"))
    assert ear.send(b"hello") == 4
    assert buffer.take() == [Heard("ear", 100.0, "out", b"hell")]
    ear.line.write = lambda data: 0  # type: ignore[method-assign]
    assert ear.send(b"hello") == 0
    assert buffer.take() == []


def test_recorders_hear_when_a_port_is_opened_and_at_which_rate() -> None:
    db, buffer = packaged_database(), Buffer(10)
    ears = [Ear(), Ear("tcp://localhost:4000")]
    raw.listen(db, buffer, logging.getLogger("recorder"))
    for ear, name in zip(ears, "ab", strict=True):
        ear.name, ear._raw = name, raw.point(db)
        ear.now = 105.0
        ear.open()
    assert [(h.stamp, h.data) for h in buffer.take()] == [
        (105.0, Event("serial", "opened", "9600")),
        (105.0, Event("serial", "opened", "")),
    ]
    ears[0].now += 3.1
    ears[0].hear(b"??")
    assert [(h.stamp, h.data) for h in buffer.take()] == [
        (108.1, b"??"),
        (108.1, Event("serial", "baud", "4800")),
    ]
    assert [h.data.detail for h in raw.point(db).facts()] == ["4800", ""]
    ears[1].hear(None)
    assert [h.data for h in buffer.take()] == [Event("serial", "lost", "tcp://localhost:4000 went away")]


def test_a_port_that_was_not_opened_because_of_a_stop_is_quiet() -> None:
    ear = Ear()
    ear.line = None
    ear.open()
    ear.poll(0.0)
    assert ear.send(b"x") == 0
    ear.close()


def test_what_waited_while_the_process_was_held_up_is_discarded(caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear()
    line, at = ear.line, 0.0
    assert line is not None
    usual = line.read

    def read(size: int) -> bytes:
        nonlocal at
        at += 0.45 / 2  # there are two for each piece
        return b"x"

    ear.hold_up.clock = lambda: at
    ear.hold_up.reset()
    at += 5.0
    line.read = read  # type: ignore[method-assign]
    ear.step(0.0)
    assert ear.heard == []
    assert ear.counts["bytes"] == ear.counts["old bytes discarded"] == 8, "for a second, though there is always more"
    assert ear.interrupted == 1
    assert caplog.messages == ["held up: discarded 8 old bytes"]
    line.read = usual  # type: ignore[method-assign]
    ear.hear(b"ok")
    assert ear.heard == [b"ok"], "the time that this took was no hold-up"
    at += 5.0
    ear.step(0.0)
    assert ear.interrupted == 2
    assert len(caplog.messages) == 1, "nothing had waited"


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("closed"), TypeError("closed by another thread")])
def test_whatever_a_port_raises_means_that_it_is_gone(error: Exception) -> None:
    def fail(data: object) -> Any:
        raise error

    ear = Ear()
    assert ear.line is not None
    ear.line.read = ear.line.write = fail  # type: ignore[method-assign, assignment]
    for act in (lambda: ear.poll(0.0), lambda: ear.send(b"x")):
        with pytest.raises(DeviceError, match=r"^/dev/ttyS9 went away$"):
            act()


def test_a_url_that_looks_for_hardware_may_find_none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Pyserial()
    monkeypatch.setattr(serial, "_pyserial", lambda: library)
    assert [*SerialPoller.check(SerialOptions(port="hwgrep://0403"), packaged_database())] == []
    assert library.asked == [("hwgrep://0403", True)]

    def fail(url: str, do_not_open: bool = False) -> Any:
        raise OSError("no ports found")

    library.serial_for_url = fail  # type: ignore[method-assign]
    assert [*SerialPoller.check(SerialOptions(port="hwgrep://0403"), packaged_database())] == []


def test_a_port_that_is_ready_but_empty_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is being unplugged may say so, and a socket that had a datagram of another host."""
    reader, writer = os.pipe()
    os.close(writer)
    for port, pause in ("/dev/ttyS9", 0.02), ("udp://127.0.0.1:4000", 0.001):
        ear = Ear(port)
        ear._fd = reader
        paused: list[float] = []
        monkeypatch.setattr(ear.stopping, "wait", paused.append)
        ear.poll(0.0)
        assert paused == [pause]
    os.close(reader)


def test_a_port_with_a_descriptor_is_written_to_when_it_has_room() -> None:
    ear = Ear()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ear._fd = writer
    assert ear.send(b"hello") == 5
    assert os.read(reader, 10) == b"hello"
    while os.write(writer, b"x" * 4096) == 4096 and select.select([], [writer], [], 0)[1]:
        pass
    assert ear.send(b"hello") == 0, "it must not wait"
    os.close(reader)
    with pytest.raises(DeviceError, match=r"^/dev/ttyS9 went away$"):
        ear.send(b"hello")
    os.close(writer)


class Pyserial:
    """Stands for the library, and for a port of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.baudrate = 0
        self.timeout = -1.0
        self.exclusive = False

    def serial_for_url(self, url: str, do_not_open: bool = False) -> Pyserial:
        self.asked.append((url, do_not_open))
        return self

    def open(self) -> None:
        self.asked.append((self.baudrate, self.timeout, self.exclusive))

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        self.asked.append("closed")


@pytest.mark.parametrize(("options", "baud"), [({}, 9600), ({"baud": 57600}, 57600), ({"baud": "auto"}, 9600)])
def test_a_port_is_opened_for_this_program_alone(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], baud: int
) -> None:
    port = Pyserial()
    monkeypatch.setattr(serial, "_pyserial", lambda: port)
    ear = Ear(**options)
    monkeypatch.setattr(ear, "_open", lambda: SerialPoller._open(ear))
    ear.open()
    assert port.asked == [("/dev/ttyS9", True), (baud, 0.2, True)]
    assert (ear._fd, port.timeout) == (7, 0)
    ear.close()
    assert port.asked[2:] == ["closed"]
    assert ear.port is ear._fd is None


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"baud": 50}, True),
        ({"baud": 49}, False),
        ({"baud": 4_000_000}, True),
        ({"baud": 4_000_001}, False),
        ({"baud": "fast"}, False),
        ({"port": ""}, False),
    ],
)
def test_a_port_has_a_name_and_a_rate(options: dict[str, Any], fits: bool) -> None:
    expected = contextlib.nullcontext() if fits else pytest.raises(ValidationError)
    with expected:
        convert({"port": "/dev/ttyS9", **options}, SerialOptions)


def test_the_options_of_a_link_say_whom_it_listens_to() -> None:
    assert SerialOptions(port="/dev/ttyS9").networks is None
    assert SerialOptions(port="/dev/ttyS9").speed == "auto"
    near = Near(port=1)
    assert (near.networks, near.url) == (("127.0.0.0/8", "::1"), "udp://127.0.0.1:1")
    assert convert({"port": 65535, "host": "0.0.0.0", "allow": ["10.0.0.0/8"]}, Near).networks == ("10.0.0.0/8",)
    for wrong in {"port": 0}, {"port": 65536}, {"port": ""}, {"port": 1, "host": ""}:
        with pytest.raises(ValidationError):
            convert(wrong, Near)


@pytest.mark.parametrize(
    ("port", "fix"),
    [
        *(
            (f"/dev/{name}", "sudo raspi-config nonint do_serial_hw 0  # and reboot")
            for name in ("serial0", "serial1", "ttyAMA0", "ttyS0")
        ),
        ("/dev/ttyUSB0", ""),
    ],
)
def test_a_port_on_the_board_has_to_be_enabled(monkeypatch: pytest.MonkeyPatch, port: str, fix: str) -> None:
    monkeypatch.setattr(serial, "CMDLINE", "/nonexistent")
    assert [*serial.preflight(port)] == [Device(port, "dialout", fix)]
    assert [*serial.preflight("loop://")] == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file"), "no such device"),
        (PermissionError(errno.EACCES, "Denied"), "permission denied (is the user in the group 'dialout'?)"),
        (OSError(errno.EBUSY, "Busy"), "in use by another program"),
        (OSError("Could not exclusively lock port"), "in use by another program"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ValueError("no such URL"), "no such URL"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_why_a_port_cannot_be_opened_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    ear = Ear()

    def fail() -> Any:
        raise error

    monkeypatch.setattr(ear, "_open_now", fail)
    with pytest.raises(DeviceError) as raised:
        SerialPoller._open(ear)
    assert str(raised.value) == f"/dev/ttyS9: {words}"


@pytest.mark.parametrize(
    ("port", "claims"),
    [
        ("/dev/null", [("/dev/null", "port")]),
        ("/dev/../dev/null", [("/dev/null", "port")]),
        ("udp://0.0.0.0:4000", [("UDP port 4000", "port")]),
        ("udp://0.0.0.0", []),
        ("tcp://localhost:4000", []),
        ("loop://", []),
    ],
)
def test_a_device_and_a_udp_port_have_one_reader(port: str, claims: list[tuple[str, str]]) -> None:
    assert [*SerialPoller.claims(Ear(port).options)] == claims


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        ("/dev/ttyUSB0", ""),
        ("tcp://localhost:4000", ""),
        ("tcp://localhost", "no port: write tcp://HOST:PORT"),
        ("socket://localhost:0", "the port must be a number from 1 to 65535"),
        ("udp://:4000", "no host: write udp://HOST:PORT"),
        ("nosuch://x", "invalid URL, protocol 'nosuch' not known"),
    ],
)
def test_a_port_is_checked_without_opening_it(port: str, problem: str) -> None:
    found = [*SerialPoller.check(Ear(port).options, packaged_database())]
    assert found == ([("port", problem)] if problem else [])


def test_a_refused_datagram_is_counted_and_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear("udp://127.0.0.1:4000")
    for host in "10.0.0.1", "10.0.0.2":
        ear._refuse_datagram("datagrams not allowed", ip_address(host))
    assert ear.counts["datagrams not allowed"] == 2
    assert caplog.messages == ["refused a datagram from 10.0.0.1: datagrams not allowed"]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.9", "127.0.0.9"),
        ("::1", "::1"),
        ("simulator.local", "0.0.0.0"),
        ("192.168.1.5", "0.0.0.0"),
        ("fe80::1", "::"),
    ],
)
def test_a_simulator_on_this_computer_is_listened_to_where_others_cannot_reach(host: str, here: str) -> None:
    assert here_for(host) == here
