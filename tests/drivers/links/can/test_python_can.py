"""The interfaces of python-can, over a bus that does as it is told."""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from queue import Queue
from typing import Any, cast

import can
import pytest

from fixgw.drivers.links.can import python_can
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.can.python_can import (
    PythonCanPort,
    SerialPort,
    SocketcandPort,
    UdpMulticastPort,
    VirtualPort,
    from_message,
)
from fixgw.errors import DeviceError


class Bus:
    """Gives what it is told to give, or raises it."""

    channel_info = "a bus for tests"

    def __init__(self) -> None:
        self.gives: list[can.Message | Exception] = []
        self.sent: list[can.Message] = []
        self.refuses: Exception | None = None
        self.waited: list[float] = []
        self.queue: Queue[int] = Queue()
        self.closed = False

    def recv(self, timeout: float) -> can.Message | None:
        self.waited.append(timeout)
        if not self.gives:
            return None
        if isinstance(given := self.gives.pop(0), Exception):
            raise given
        return given

    def send(self, message: can.Message, timeout: float) -> None:
        assert timeout == 0
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(message)

    def shutdown(self) -> None:
        self.closed = True
        raise OSError("it is gone")


class Rig:
    def __init__(self, kind: type[PythonCanPort] = PythonCanPort, **options: Any) -> None:
        self.bus = Bus()
        self.counts: Counter[str] = Counter()
        self.port = kind(cast(Any, self.bus), BusOptions(interface="virtual", **options), self.count)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


def message(identifier: Any = 1, data: bytes = b"", **more: Any) -> can.Message:
    return can.Message(arbitration_id=identifier, data=data, **{"is_extended_id": False, **more})


def caused(error: can.CanError, by: Exception) -> can.CanError:
    error.__cause__ = by
    return error


def test_what_python_can_is_asked_for() -> None:
    assert PythonCanPort.arguments(BusOptions(interface="gs_usb")) == {"interface": "gs_usb", "channel": "can0"}
    options = BusOptions(interface="kvaser", channel=0, bitrate=250_000, fd=True, extra={"serial": "7"})
    assert PythonCanPort.arguments(options) == {
        "interface": "kvaser",
        "channel": 0,
        "bitrate": 250_000,
        "fd": True,
        "serial": "7",
    }
    for receive_buffer, frames in (4096, 16), (4_194_304, 8192):
        options = BusOptions(interface="virtual", channel="x", receive_buffer=receive_buffer)
        arguments = {"interface": "virtual", "channel": "x", "rx_queue_size": frames}
        assert VirtualPort.arguments(options) == arguments


@pytest.mark.parametrize(
    ("kind", "blocks", "fd"),
    [
        (PythonCanPort, True, False),
        (SerialPort, True, False),
        (VirtualPort, False, True),
        (SocketcandPort, True, False),
    ],
)
def test_what_an_interface_can_do(kind: type[PythonCanPort], blocks: bool, fd: bool) -> None:
    rig = Rig(kind)
    assert (rig.port.blocking, rig.port.fd) == (blocks, fd)
    assert Rig(kind, fd=True).port.fd
    assert rig.port.facts() == {"adapter": "a bus for tests"}
    rig.port.close()
    assert rig.bus.closed


@pytest.mark.parametrize(
    ("given", "frame"),
    [
        (message(0x7FF, b"12345678"), Frame(0x7FF, b"12345678", 0, 5.0)),
        (message(0x1FFFFFFF, is_extended_id=True), Frame(0x1FFFFFFF, b"", EXTENDED, 5.0)),
        (message(1, dlc=5, is_remote_frame=True), Frame(1, bytes(5), REMOTE, 5.0)),
        (message(1, dlc=9, is_remote_frame=True), Frame(1, bytes(8), REMOTE, 5.0)),
        (message(0x1FFFFFFF, b"\1", is_error_frame=True), Frame(0x1FFFFFFF, b"\1", ERROR, 5.0)),
        (message(1, bytes(64), is_fd=True), Frame(1, bytes(64), FD, 5.0)),
        (message(1, b"", is_fd=True, bitrate_switch=True), Frame(1, b"", FD | BRS, 5.0)),
        (message(1, b"", is_fd=True, error_state_indicator=True), Frame(1, b"", FD | ESI, 5.0)),
    ],
)
def test_a_message_is_a_frame(given: can.Message, frame: Frame) -> None:
    assert from_message(given, 5.0) == frame


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (message(0x800), "the identifier is out of range"),
        (message(0x20000000, is_extended_id=True), "the identifier is out of range"),
        (message("1"), "the identifier is out of range"),
        (message(True), "the identifier is out of range"),
        (message(1, bytes(9)), "too many data bytes"),
        (message(1, bytes(65), is_fd=True), "too many data bytes"),
    ],
)
def test_a_malformed_message_is_refused(given: can.Message, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_message(given, 5.0)


@pytest.mark.parametrize("flags", [0, EXTENDED, REMOTE, FD, FD | BRS])
def test_a_frame_is_a_message(flags: int) -> None:
    rig = Rig()
    frame = Frame(0x123, bytes(3), flags)
    assert rig.port.write(frame)
    assert from_message(rig.bus.sent[0], 0.0) == frame
    assert not Rig().port.to_message(Frame(1, b"", BRS)).bitrate_switch


def test_what_waits_is_read_at_once_and_our_own_messages_are_left_out() -> None:
    rig = Rig()
    rig.bus.gives = [message(1), message(2, is_rx=False), message(3)]
    assert [frame.arbitration_id for frame in rig.port.read(0.2)] == [1, 3]
    assert rig.bus.waited == [0.2, 0.0, 0.0, 0.0]
    assert rig.counts == {"own echoes": 1}
    rig.bus.gives = [message(n % 2000) for n in range(300)]
    assert len(rig.port.read(0.2)) == 256
    assert len(rig.port.read(0.2)) == 44


def test_python_cans_serial_protocol_waits_at_each_read() -> None:
    rig = Rig(SerialPort)
    rig.bus.gives = [message(1), message(2)]
    assert [len(rig.port.read(0.2)) for _ in range(3)] == [1, 1, 0]


def test_after_a_hundred_unusable_messages_in_a_row_the_interface_is_gone() -> None:
    rig = Rig()
    rig.bus.gives = [message(0x800)] * 99
    assert rig.port.read(0.0) == []
    rig.bus.gives = [message(1), *[message(0x800)] * 99, message(2)]
    assert len(rig.port.read(0.0)) == 2
    assert rig.counts == {"garbled": 198}
    rig.bus.gives = [message(0x800)] * 100
    with pytest.raises(DeviceError, match=r"^the identifier is out of range$"):
        rig.port.read(0.0)
    rig.bus.gives = [message(0x800)] * 99
    assert rig.port.read(0.0) == [], "the count begins anew"


def test_an_error_is_raised_after_the_frames_before_it() -> None:
    rig = Rig()
    for gone in OSError("Network is down"), caused(can.CanError("receive failed"), OSError("Network is down")):
        rig.bus.gives = [message(1), gone, gone]
        assert len(rig.port.read(0.0)) == 1
        with pytest.raises(DeviceError, match=r"Network is down|receive failed"):
            rig.port.read(0.0)
    rig.bus.gives = [can.CanError("a bad message"), message(1)]
    assert len(rig.port.read(0.0)) == 1
    assert rig.counts == {"garbled": 1}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOBUFS, "No buffer space"),
        TimeoutError("timed out"),
        can.CanError("no room"),
        caused(can.CanError("no room"), OSError(errno.ENOBUFS, "No buffer space")),
        caused(can.CanError("no room"), TimeoutError()),
        caused(can.CanError("no room"), ValueError()),
    ],
)
def test_what_has_no_room_now_is_sent_later(error: Exception) -> None:
    rig = Rig()
    rig.bus.refuses = error
    assert rig.port.write(Frame(1)) is False
    virtual = Rig(VirtualPort)
    virtual.bus.refuses = error
    assert virtual.port.write(Frame(1)) is True
    assert virtual.counts == {"not taken": 1}


def test_an_interface_that_is_gone_is_an_error_when_writing() -> None:
    rig = Rig()
    gone = OSError(errno.ENODEV, "No such device")
    for error in gone, caused(can.CanError("transmit failed"), gone):
        rig.bus.refuses = error
        with pytest.raises(DeviceError, match=r"No such device|transmit failed"):
            rig.port.write(Frame(1))
    rig.bus.refuses = ValueError("no such frame")
    with pytest.raises(ValueError, match="no such frame"):
        rig.port.write(Frame(1))


def test_a_closed_virtual_bus_holds_up_nobody() -> None:
    rig = Rig(VirtualPort)
    for n in range(3):
        rig.bus.queue.put(n)
    rig.port.close()
    assert rig.bus.queue.empty()


def test_a_bus_that_cannot_be_used_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    shut: list[bool] = []
    bus = Bus()
    bus.shutdown = lambda: shut.append(True)  # type: ignore[method-assign]

    def make(**arguments: Any) -> Bus:
        asked.append(arguments)
        return bus

    monkeypatch.setattr(can, "Bus", make)
    port = PythonCanPort.open(BusOptions(interface="kvaser", channel=3, bitrate=250_000), lambda what, n=1: None)
    assert port.bus is bus  # type: ignore[comparison-overlap]
    assert asked == [{"ignore_config": True, "interface": "kvaser", "channel": 3, "bitrate": 250_000}]
    assert shut == []

    class Unusable(PythonCanPort):
        def __init__(self, *args: Any) -> None:
            raise ValueError("unusable")

    with pytest.raises(ValueError, match="unusable"):
        Unusable.open(BusOptions(interface="kvaser"), lambda what, n=1: None)
    assert shut == [True]


def test_python_can_does_not_log_what_we_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(can, "Bus", lambda **arguments: Bus())
    logger = logging.getLogger("can")
    before = logger.level
    try:
        for level, after in (logging.NOTSET, logging.CRITICAL), (logging.DEBUG, logging.DEBUG):
            logger.setLevel(level)
            PythonCanPort.open(BusOptions(interface="kvaser"), lambda what, n=1: None)
            assert logger.level == after, "somebody may want to see it"
    finally:
        logger.setLevel(before)


def test_a_line_that_accepts_nothing_does_not_delay_a_stop() -> None:
    class Serial:
        write_timeout = None

    bus: Any = Bus()
    bus._ser = Serial()
    SerialPort(bus, BusOptions(interface="serial"), lambda what, n=1: None)
    assert bus._ser.write_timeout == 0.5


@pytest.mark.slow
def test_a_socketcand_that_reads_or_says_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, server = socket.socketpair()
    bus: Any = Bus()
    bus._SocketCanDaemonBus__socket = ours
    kept: list[Any] = []
    monkeypatch.setattr(python_can, "keep_alive", lambda sock, give_up: kept.append((sock, give_up)))
    with ours, server:
        port = SocketcandPort(bus, BusOptions(interface="socketcand"), lambda what, n=1: None)
        assert ours.gettimeout() == 1.0
        assert kept == [(ours, True)]
        assert port.read(0.0) == []
        server.send(b"< frame")
        assert port.read(0.0) == [], "the rest may follow"
        bus.gives = [message(1)]
        assert len(port.read(0.0)) == 1
        ours.recv(100)
        server.close()
        bus.gives = [message(1)]
        assert len(port.read(0.0)) == 1
        with pytest.raises(DeviceError, match=r"^the socketcand server closed the connection$"):
            port.read(0.0)
        port.close()


@pytest.mark.slow
def test_a_socketcand_learns_that_we_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_can, "keep_alive", lambda sock, give_up: None)
    ours, server = socket.socketpair()
    bus: Any = Bus()
    bus._SocketCanDaemonBus__socket = ours
    with ours, server:
        server.settimeout(5)
        SocketcandPort(bus, BusOptions(interface="socketcand"), lambda what, n=1: None).close()
        assert server.recv(1) == b""
    assert bus.closed


def test_a_socketcand_that_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(address: Any, timeout: float) -> Any:
        asked.append((address, timeout))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    for extra, address in ({"host": "pi", "port": 29536}, ("pi", 29536)), ({}, ("", 0)):
        with pytest.raises(ConnectionRefusedError):
            SocketcandPort.open(BusOptions(interface="socketcand", extra=extra), lambda what, n=1: None)
        assert asked.pop() == (address, 3.0)


def test_anyone_on_the_network_may_send_anything() -> None:
    assert UdpMulticastPort.max_garbled == float("inf")
    assert not UdpMulticastPort.blocking
