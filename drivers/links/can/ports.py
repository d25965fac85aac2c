"""Which interface is which: checks `BusOptions`, and opens the `Port` that they name."""

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
    in_words,
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
#: What some interfaces of python-can need besides: (module, library, our extra).
_NEEDS = {
    "udp_multicast": ("msgpack", "msgpack", "can-udp"),
    "gs_usb": ("gs_usb", "gs-usb", "can-usb"),
    "serial": ("serial", "pyserial", ""),
    "slcan": ("serial", "pyserial", ""),
}


def check(options: BusOptions) -> Iterator[tuple[str, str]]:
    """What is wrong with `options` and what is not installed for them, as pairs (option, message). Opens nothing."""
    interface, extra = options.interface, options.extra
    try:
        require(interface)
    except (ImportError, ValueError) as error:
        yield "interface", str(error)
        return
    if interface == "slcan":
        from fixgw.drivers.links.can.slcan import line_of, set_up

        path, _ = line_of(options)
        if endpoint.scheme_of(path) in serial.TCP:
            try:
                endpoint.parse(path)
            except ValueError as error:
                yield "channel", str(error)
        try:
            set_up(options)
        except (ValueError, TypeError) as error:
            yield "extra" if "bitrate" not in str(error) else "bitrate", str(error)
    elif interface == "socketcan" and (unknown := set(extra) - {"local_loopback"}):
        yield "extra", f"SocketCAN has no option {', '.join(sorted(unknown))}"
    elif interface == "socketcand" and not ("host" in extra and "port" in extra):
        yield "extra", "socketcand needs a host and a port"


def preflight(options: BusOptions) -> Iterator[Device | Finding]:
    """What `options` need of this machine, for `PluginBase.preflight`. Opens nothing."""
    channel = str(options.channel)
    if options.interface == "socketcan":
        yield from socketcan.preflight(channel, options.bitrate)
    elif channel.startswith("/"):
        yield from serial.needs(channel)


def require(interface: str) -> None:
    """Raise MissingLibrary when something that `interface` needs is not installed, ValueError when there is no such."""
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
    """Open what `options` (`fixgw.drivers.links.can.port.BusOptions`) say. May take seconds. Raises DeviceError."""
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
    except Exception as error:  # python-can's errors, and whatever a backend makes of wrong arguments
        raise DeviceError(f"{interface} {options.channel}: {in_words(error)}") from error
