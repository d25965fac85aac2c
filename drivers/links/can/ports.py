"""Checks `BusOptions`, and opens the `Port` for the interface that they name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from fixgw.drivers.links import serial
from fixgw.drivers.links.can import socketcan
from fixgw.drivers.links.can.port import BusOptions, Count, Port
from fixgw.drivers.links.can.python_can import (
    PythonCanPort,
    SerialPort,
    SocketcandPort,
    UdpMulticastPort,
    VirtualPort,
    describe_error,
)
from fixgw.drivers.links.can.socketcan import SocketCanPort
from fixgw.errors import DeviceError, MissingLibrary, did_you_mean
from fixgw.net import endpoint
from fixgw.plugin import Device, Finding

_PYTHON_CAN: dict[str, type[PythonCanPort]] = {
    "virtual": VirtualPort,
    "udp_multicast": UdpMulticastPort,
    "serial": SerialPort,
    "socketcand": SocketcandPort,
}
#: What some interfaces of python-can need in addition: (module, library, our extra).
_NEEDS = {
    "udp_multicast": ("msgpack", "msgpack", "can-udp"),
    "gs_usb": ("gs_usb", "gs-usb", "can-usb"),
    "serial": ("serial", "pyserial", ""),
    "slcan": ("serial", "pyserial", ""),
}


def check(options: BusOptions) -> Iterator[tuple[str, str]]:
    """Report wrong options and libraries that are not installed, as pairs (option, message). Opens nothing."""
    interface, extra = options.interface, options.extra
    try:
        require(interface)
    except (ImportError, ValueError) as error:
        yield "interface", str(error)
        return
    if interface == "slcan":
        from fixgw.drivers.links.can.slcan import BadBitRate, setup_commands, split_channel

        path, _ = split_channel(options)
        if endpoint.scheme_of(path) in serial.TCP:
            try:
                endpoint.parse(path)
            except ValueError as error:
                yield "channel", str(error)
        try:
            setup_commands(options)
        except (ValueError, TypeError) as error:
            yield "bitrate" if isinstance(error, BadBitRate) else "extra", str(error)
    elif interface == "socketcan" and (unknown := set(extra) - {"local_loopback"}):
        yield "extra", f"SocketCAN has no option {', '.join(sorted(unknown))}"
    elif interface == "socketcand" and not ("host" in extra and "port" in extra):
        yield "extra", "socketcand needs extra: {host, port}"


def preflight(options: BusOptions) -> Iterator[Device | Finding]:
    """What `options` need on this computer, for `PluginBase.preflight`. Opens nothing."""
    channel = str(options.channel)
    if options.interface == "socketcan":
        yield from socketcan.preflight(channel, options.bitrate)
    elif channel.startswith("/"):
        yield from serial.preflight(channel)


def require(interface: str) -> None:
    """Raise MissingLibrary if a library that `interface` needs is not installed, ValueError if it does not exist."""
    module, library, extra = _NEEDS.get(interface, ("", "", ""))
    if interface not in ("socketcan", "slcan"):
        try:
            import can
        except ImportError:
            raise MissingLibrary("python-can") from None
        if interface not in can.VALID_INTERFACES:
            known = can.VALID_INTERFACES
            raise ValueError(f"there is no CAN interface {interface!r}{did_you_mean(interface, known)}")
    if module and find_spec(module) is None:
        raise MissingLibrary(library, extra)


def open_port(options: BusOptions, count: Count) -> Port:
    """Open the interface that `options` name. May take seconds. Raises DeviceError."""
    interface = options.interface
    try:
        if interface == "socketcan":
            return SocketCanPort.open(options, count)
        if interface == "slcan":
            from fixgw.drivers.links.can.slcan import SlcanPort

            return SlcanPort.open(options, count)
        return _PYTHON_CAN.get(interface, PythonCanPort).open(options, count)
    except DeviceError:
        raise
    except Exception as error:  # python-can's own errors, and whatever a back end raises for wrong arguments
        raise DeviceError(f"{interface} {options.channel}: {describe_error(error)}") from error
