"""Which interface the options of a bus mean, what they need, and what is wrong with them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from msgspec import ValidationError, convert

from fixgw.drivers.links.can import ports, python_can
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.log import Recorded, line, parse, read
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.can.slcan import SlcanPort
from fixgw.drivers.links.can.socketcan import SocketCanPort
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.plugin import Device


def count(what: str, n: int = 1) -> None:
    raise AssertionError(what)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "fit", "unfit"),
    [
        ("bitrate", (1_000, 1_000_000), (999, 1_000_001)),
        ("receive_buffer", (4_096, 67_108_864), (4_095, 67_108_865)),
        ("send_queue", (1, 65_536), (0, 65_537)),
        ("gather", (0.0, 50.0), (-0.1, 50.1)),
        ("interface", ("virtual",), ("",)),
        ("channel", ("can0", 0), (None,)),
    ],
)
def test_an_option_has_its_range(option: str, fit: tuple[Any, ...], unfit: tuple[Any, ...]) -> None:
    for value in fit:
        assert getattr(convert({option: value}, BusOptions), option) == value
    for value in unfit:
        with pytest.raises(ValidationError, match=option):
            convert({option: value}, BusOptions)


def test_a_bus_is_can0_of_this_computer_unless_it_is_said() -> None:
    assert convert({}, BusOptions) == BusOptions(
        interface="socketcan",
        channel="can0",
        bitrate=None,
        fd=False,
        listen_only=False,
        receive_buffer=4 << 20,
        send_queue=1024,
        gather=5.0,
        extra={},
    )


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({}, []),
        ({"extra": {"local_loopback": False}}, []),
        ({"extra": {"b": 1, "a": 2}}, [("extra", "SocketCAN has no option a, b")]),
        ({"interface": "slcan"}, [("bitrate", "an slcan adapter needs a bitrate")]),
        ({"interface": "slcan", "extra": {"btr": "031C"}}, []),
        ({"interface": "slcan", "channel": "tcp://adapter:4000", "bitrate": 250000}, []),
        (
            {"interface": "slcan", "channel": "socket://adapter@115200", "bitrate": 250000},
            [("channel", "no port: write socket://HOST:PORT")],
        ),
        ({"interface": "socketcand", "extra": {"host": "pi", "port": 29536}}, []),
        ({"interface": "socketcand", "extra": {"host": "pi"}}, [("extra", "socketcand needs extra: {host, port}")]),
        ({"interface": "socketcand", "extra": {"port": 1}}, [("extra", "socketcand needs extra: {host, port}")]),
        ({"interface": "kvaser", "extra": {"anything": 1}}, []),
        ({"interface": "no_such"}, [("interface", "there is no CAN interface 'no_such'")]),
    ],
)
def test_options_are_checked_without_hardware(options: dict[str, Any], problems: list[tuple[str, str]]) -> None:
    assert [*ports.check(BusOptions(**options))] == problems


def test_a_wrong_option_of_an_adapter_is_told_from_a_wrong_rate() -> None:
    for bitrate, extra, option in (
        (None, {"timestamps": True}, "bitrate"),
        (123_456, {}, "bitrate"),
        (None, {"btr": "xx"}, "extra"),
        (None, {"btr": 31}, "extra"),
        (250_000, {"baud": 1}, "extra"),
        (250_000, {"data_bitrate": 3}, "extra"),
    ):
        ((where, _),) = ports.check(BusOptions(interface="slcan", bitrate=bitrate, extra=extra))
        assert where == option


@pytest.mark.parametrize(
    ("interface", "library"),
    [("udp_multicast", "msgpack"), ("gs_usb", "gs-usb"), ("serial", "pyserial"), ("slcan", "pyserial")],
)
def test_what_an_interface_needs_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, interface: str, library: str
) -> None:
    monkeypatch.setattr(ports, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=f"^{library} is not installed: .*pip install '{library}"):
        ports.require(interface)
    ((option, message),) = ports.check(BusOptions(interface=interface))
    assert (option, message[: len(library)]) == ("interface", library)
    for other in "socketcan", "virtual", "kvaser":
        ports.require(other)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({"interface": "slcan", "channel": "/dev/ttyACM0"}, Device("/dev/ttyACM0", "dialout")),
        ({"interface": "serial", "channel": "/dev/ttyACM0"}, Device("/dev/ttyACM0", "dialout")),
        ({"interface": "slcan", "channel": "tcp://adapter:4000"}, None),
        ({"interface": "kvaser", "channel": 0}, None),
    ],
)
def test_an_interface_on_a_device_needs_the_device(options: dict[str, Any], device: Device | None) -> None:
    assert [*ports.preflight(BusOptions(**options))] == ([device] if device else [])


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "kind"),
    [
        ("socketcan", SocketCanPort),
        ("slcan", SlcanPort),
        ("virtual", python_can.VirtualPort),
        ("udp_multicast", python_can.UdpMulticastPort),
        ("serial", python_can.SerialPort),
        ("socketcand", python_can.SocketcandPort),
        ("kvaser", python_can.PythonCanPort),
    ],
)
def test_an_interface_is_opened_by_its_kind(monkeypatch: pytest.MonkeyPatch, interface: str, kind: type[Any]) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(kind, "open", lambda options, count: asked.append((options, count)) or "the port")  # type: ignore[func-returns-value]
    options = BusOptions(interface=interface)
    assert ports.open_port(options, count) == "the port"  # type: ignore[comparison-overlap]
    assert asked == [(options, count)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no such adapter"), "kvaser 3: no such adapter"),
        (RuntimeError(), "kvaser 3: RuntimeError"),
        (DeviceError("it is gone"), "it is gone"),
    ],
)
def test_whatever_an_interface_raises_means_that_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(options: BusOptions, count: Any) -> Any:
        raise error

    monkeypatch.setattr(python_can.PythonCanPort, "open", fail)
    with pytest.raises(DeviceError) as raised:
        ports.open_port(BusOptions(interface="kvaser", channel=3), count)
    assert str(raised.value) == words


def test_without_python_can_only_its_interfaces_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "can", None)
    for ours in "socketcan", "slcan":
        ports.require(ours)
    ((option, message),) = ports.check(BusOptions(interface="kvaser"))
    assert (option, message[:10]) == ("interface", "python-can")


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame(0x12, b"\x01\xab"), "012#01AB"),
        (Frame(0x12, b"\x01", EXTENDED), "00000012#01"),
        (Frame(0x1FFFFFFF, b"", EXTENDED), "1FFFFFFF#"),
        (Frame(4, b"\0\x10", ERROR), "20000004#0010"),
        (Frame(0x7FF, b"", REMOTE), "7FF#R"),
        (Frame(0x7FF, bytes(3), REMOTE), "7FF#R3"),
        (Frame(1, bytes(12), FD), "001##0" + "00" * 12),
        (Frame(1, b"\x01", FD | BRS | ESI), "001##301"),
    ],
)
def test_a_frame_is_written_as_candump_does_and_read_back(frame: Frame, text: str) -> None:
    written = line(frame, "can0", 1_700_000_000.25)
    assert written == f"(1700000000.250000) can0 {text}"
    found = parse(written)
    assert found is not None
    assert found.channel == "can0"
    assert found.frame == Frame(frame.arbitration_id, frame.data, frame.flags, 1_700_000_000.25)


def test_the_frames_of_one_channel_or_of_all_are_read() -> None:
    lines = ["(1.0) can0 001#", "(2.0) can1 002#", "no frame", "(3.0) can0 801#", "(4.0) can0 001##0" + "00" * 9]
    first, second = Recorded("can0", Frame(1, b"", 0, 1.0)), Recorded("can1", Frame(2, b"", 0, 2.0))
    assert [*read(lines)] == [first, second], "others cannot have been on a bus"
    assert [*read(lines, "can1")] == [second]
