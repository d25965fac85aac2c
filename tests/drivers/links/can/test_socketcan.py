"""SocketCAN without a kernel that has it: what is asked of the kernel, and what it says of an interface.

The numbers are those of Linux's headers: can/raw.h, can/netlink.h, rtnetlink.h and if_link.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.drivers.links.can import socketcan
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.can.socketcan import SocketCanPort, link_details
from fixgw.errors import DeviceError

SOL_CAN_RAW = 101
FILTER, ERR_FILTER, LOOPBACK, FD_FRAMES = 1, 2, 3, 5
RXQ_OVFL, RCVBUFFORCE = 40, 33


class Socket:
    """A socket of the kernel. It refuses the `refused` options, and answers with `answers`."""

    refused: frozenset[int] = frozenset()
    unbound: OSError | None = None
    answers: bytes | Exception = b""

    def __init__(self, family: int = 0, kind: int = 0, protocol: int = 0) -> None:
        self.kind = family, kind, protocol
        self.options: dict[tuple[int, int], Any] = {}
        self.sent: list[bytes] = []
        self.bound: Any = None
        self.closed = False
        self.blocking = True

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if option in self.refused:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.options[level, option] = value

    def bind(self, address: Any) -> None:
        if self.unbound is not None:
            raise self.unbound
        self.bound = address

    def setblocking(self, on: bool) -> None:
        self.blocking = on

    def settimeout(self, seconds: float) -> None:
        pass

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        if isinstance(self.answers, Exception):
            raise self.answers
        return len(data)

    def recv(self, size: int) -> bytes:
        assert isinstance(self.answers, bytes)
        return self.answers[:size]

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[Socket]:
    """The sockets that are opened from now on."""
    made: list[Socket] = []

    def make(*args: int) -> Socket:
        made.append(Socket(*args))
        return made[-1]

    monkeypatch.setattr("socket.socket", make)
    monkeypatch.setattr("socket.if_nametoindex", {"can0": 7}.__getitem__)
    return made


def count(what: str, n: int = 1) -> None:
    raise AssertionError(what)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {(SOL_CAN_RAW, LOOPBACK): 1}),
        ({"extra": {"local_loopback": False}, "fd": True}, {(SOL_CAN_RAW, LOOPBACK): 0, (SOL_CAN_RAW, FD_FRAMES): 1}),
    ],
)
def test_a_socket_is_set_up_as_configured(
    sockets: list[Socket], options: dict[str, Any], expected: dict[tuple[int, int], int]
) -> None:
    port = SocketCanPort.open(BusOptions(channel="can0", receive_buffer=8192, **options), count)
    sock = sockets[0]
    assert sock.kind == (socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    assert sock.options == {
        (socket.SOL_SOCKET, RCVBUFFORCE): 8192,
        (socket.SOL_SOCKET, RXQ_OVFL): 1,
        (SOL_CAN_RAW, ERR_FILTER): 0x1FFFFFFF,
        **expected,
    }
    assert sock.bound == ("can0",)
    assert not sock.blocking
    assert port.fd is options.get("fd", False)
    assert not port.blocking
    port.accept({0x123, 0x124})
    assert sock.options[SOL_CAN_RAW, FILTER] == struct.pack("=IIII", 0x123, 0x800007FF, 0x124, 0x800007FF)
    port.accept(None)
    assert sock.options[SOL_CAN_RAW, FILTER] == bytes(8)
    sock.refused = frozenset({FILTER})
    with pytest.raises(DeviceError, match=r"^can0: Operation not permitted$"):
        port.accept(None)
    port.close()
    assert sock.closed


def test_without_privileges_the_receive_buffer_is_as_large_as_the_system_allows(
    sockets: list[Socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Socket, "refused", frozenset({RCVBUFFORCE, RXQ_OVFL}))  # an old kernel does not count losses
    SocketCanPort.open(BusOptions(receive_buffer=8192), count)
    assert sockets[0].options[socket.SOL_SOCKET, socket.SO_RCVBUF] == 8192


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENODEV, "No such device"), "there is no CAN interface can3"),
        (OSError(errno.ENETDOWN, "Network is down"), "can3 is down (bring it up: ip link set can3 up)"),
        (OSError(errno.ENXIO, "No such device or address"), "can3 is gone"),
        (OSError(errno.EPERM, "Operation not permitted"), "can3: Operation not permitted"),
        (OSError("something else"), "can3: something else"),
    ],
)
def test_why_an_interface_cannot_be_opened_is_said_in_words(
    sockets: list[Socket], monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    monkeypatch.setattr(Socket, "unbound", error)
    with pytest.raises(DeviceError) as raised:
        SocketCanPort.open(BusOptions(channel="can3"), count)
    assert str(raised.value) == words
    assert sockets[0].closed


def test_a_system_without_socketcan_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: int) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("socket.socket", refuse)
    with pytest.raises(DeviceError, match=r"^this system does not support SocketCAN$"):
        SocketCanPort.open(BusOptions(), count)
    assert link_details("can0") == {}
    for family in "AF_CAN", "AF_NETLINK":  # only Linux has them
        monkeypatch.delattr(f"socket.{family}")
    with pytest.raises(DeviceError, match=r"^this system does not support SocketCAN$"):
        SocketCanPort.open(BusOptions(), count)
    assert link_details("can0") == {}


# -- what the kernel knows of an interface -----------------------------------------------------------------------------


def attribute(kind: int, data: bytes) -> bytes:
    """An attribute of a netlink message, padded to four bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def newlink(info: bytes | None) -> bytes:
    """A message RTM_NEWLINK with IFLA_IFNAME and, unless None, what a CAN driver says in IFLA_INFO_DATA."""
    head = struct.pack("=IHHII", 0, 16, 0, 0, 0) + struct.pack("=BxHiII", 0, 280, 7, 0x10041, 0)
    name = attribute(3, b"can0\0")
    if info is None:
        return head + name
    return head + name + attribute(18, attribute(1, b"can\0") + attribute(2 | 0x8000, info))  # NLA_F_NESTED


#: IFLA_CAN_BITTIMING, _STATE, _RESTART_MS and _BERR_COUNTER
BITTIMING, STATE, RESTART_MS, COUNTERS = 1, 4, 6, 8


def can(bitrate: int, state: int, restart_ms: int = 0, counters: tuple[int, int] | None = None) -> bytes:
    info = attribute(BITTIMING, struct.pack("=8I", bitrate, 875, 100, 6, 7, 2, 1, 3))
    info += attribute(STATE, struct.pack("=I", state)) + attribute(RESTART_MS, struct.pack("=I", restart_ms))
    return info if counters is None else info + attribute(COUNTERS, struct.pack("=HH", *counters))


@pytest.mark.parametrize(
    ("info", "details"),
    [
        (
            can(250_000, 0, 100, (3, 127)),
            {
                "bit rate": 250_000,
                "controller": "active",
                "error counters": "sending 3, receiving 127",
                "restarts after ms": 100,
            },
        ),
        *(
            (
                can(1_000_000, state),
                {"bit rate": 1_000_000, "controller": word, "error counters": "", "restarts after ms": 0},
            )
            for state, word in enumerate(("active", "warning", "passive", "bus off", "", ""))  # stopped, sleeping
        ),
        (
            attribute(STATE, bytes(4)),
            {"bit rate": 0, "controller": "active", "error counters": "", "restarts after ms": 0},
        ),
        (can(500_000, 0)[:36], {}),  # no state: it is no CAN controller
        (b"", {}),
        (None, {}),  # vcan
    ],
)
def test_the_kernel_is_asked_about_an_interface(
    sockets: list[Socket], monkeypatch: pytest.MonkeyPatch, info: bytes | None, details: dict[str, Any]
) -> None:
    monkeypatch.setattr(Socket, "answers", newlink(info))
    assert link_details("can0") == details
    sock = sockets[0]
    assert sock.kind == (socket.AF_NETLINK, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
    # A message RTM_GETLINK, a request, for the interface with index 7.
    assert sock.sent == [struct.pack("=IHHII", 32, 18, 1, 0, 0) + struct.pack("=BxHiII", 0, 0, 7, 0, 0)]
    assert sock.closed


def test_what_the_kernel_does_not_say_is_unknown(sockets: list[Socket], monkeypatch: pytest.MonkeyPatch) -> None:
    assert link_details("can9") == {}, "there is none"
    for answers in OSError(errno.EPERM, "Operation not permitted"), b"", newlink(can(250_000, 0))[:50]:
        monkeypatch.setattr(Socket, "answers", answers)
        assert link_details("can0") == {}
    endless = struct.pack("=HH", 0, 99) * 3  # attributes without a length
    monkeypatch.setattr(Socket, "answers", newlink(None) + endless)
    assert link_details("can0") == {}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SocketCanPort]:
    """Open an interface of which the kernel knows these details."""

    def make(bitrate: int | None = None, **details: Any) -> SocketCanPort:
        known = {name.replace("_", " "): value for name, value in details.items()}
        monkeypatch.setattr(socketcan, "link_details", lambda channel: known)
        return SocketCanPort(Socket(), "can0", count, bitrate=bitrate)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("actual", "wanted", "trouble"),
    [
        (250_000, 500_000, "can0 is set to 250000 bit/s, not 500000"),
        (250_000, 250_000, ""),
        (250_000, None, ""),
        (0, 250_000, ""),  # virtual interfaces have no rate
        (None, 250_000, ""),
    ],
)
def test_an_interface_at_another_bit_rate_is_reported(
    make: Callable[..., SocketCanPort], actual: int | None, wanted: int | None, trouble: str
) -> None:
    port = make(wanted) if actual is None else make(wanted, bit_rate=actual)
    assert port.trouble() == trouble


def test_the_status_has_what_the_kernel_knows(make: Callable[..., SocketCanPort]) -> None:
    port = make(bit_rate=250_000, controller="passive", error_counters="", restarts_after_ms=0)
    assert port.state() == "passive"
    assert port.facts() == {"bit rate": 250_000, "controller": "passive"}
    assert make().state() == ""


def test_no_more_frames_are_read_at_once_than_a_batch(make: Callable[..., SocketCanPort]) -> None:
    class Flooded(Socket):
        def recv(self, size: int) -> bytes:
            return struct.pack("=IB3x8s", 1, 0, b"")

        def recvmsg(self, size: int, ancillary: int) -> Any:
            return self.recv(size), [], 0, None

    port = make()
    port._socket = Flooded()  # type: ignore[assignment]
    port._ready = type("Ready", (), {"poll": lambda self, ms: True})()
    assert [len(port.read(1.0)) for _ in range(2)] == [256, 256]


def test_what_the_kernel_has_no_room_for_is_sent_later(make: Callable[..., SocketCanPort]) -> None:
    port = make()
    for code, taken in ((errno.ENOBUFS, False), (errno.EAGAIN, False), (errno.ENOMEM, False)):
        port._socket.answers = OSError(code, "")  # type: ignore[attr-defined]
        assert port.write(Frame(1)) is taken
    port._socket.answers = OSError(errno.ENETDOWN, "")  # type: ignore[attr-defined]
    with pytest.raises(DeviceError, match="can0 is down"):
        port.write(Frame(1))
