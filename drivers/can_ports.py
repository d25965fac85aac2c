"""CAN interfaces behind one shape, `Port`: SocketCAN from the standard library, the others through python-can.

SocketCAN and slcan (`fixgw.drivers.slcan`) do without python-can, which costs 10 MB and some 20 µs a frame.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fixgw.drivers import serial_link
from fixgw.drivers.can_frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame, masks
from fixgw.errors import DeviceError, MissingLibrary, did_you_mean
from fixgw.plugin import Device, Finding

if TYPE_CHECKING:
    import can

BATCH = 256  # frames handed on at once, at most

Count = Callable[..., None]  # what, and how many more of it


class Port:
    """An open CAN interface. `read` and `accept` are for one thread, `write` and `flush` for one at a time."""

    #: Whether `write` may wait for the device.
    blocking = False
    #: Whether CAN FD frames can be sent.
    fd = False

    def read(self, timeout: float) -> list[Frame]:
        """What has come, about `BATCH` frames at most; none after `timeout` seconds. Raises OSError when it is gone."""
        raise NotImplementedError

    def write(self, frame: Frame) -> bool:
        """Send; False when there is no room just now. Raises OSError when the interface is gone, and anything else
        when it cannot send this frame."""
        raise NotImplementedError

    def flush(self) -> bool:
        """Hand over the rest of what has been written; False when there is no room for it just now."""
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        """Let through at least these identifiers (None: all) and errors; for interfaces that can filter."""

    def close(self) -> None:
        """Close; what waits in `write` then fails. Never raises."""

    def state(self) -> str:
        """What the controller is now, as in `BusError`, if that can be asked; otherwise empty."""
        return ""

    def trouble(self) -> str:
        """What is wrong though the interface is open; empty when nothing is. Any thread."""
        return ""

    def facts(self) -> Mapping[str, Any]:
        """What the interface says about itself, for the status. Any thread."""
        return {}


# -- SocketCAN ---------------------------------------------------------------------------------------------------------

_HEAD = struct.Struct("=IBBxx")  # identifier and flags, length, CAN FD flags
_CLASSIC = struct.Struct("=IBxxx8s")
_CLASSIC_SIZE, _FD_SIZE = 16, 72
_MAX_FILTERS = 512  # the kernel takes no more
_RCVBUFFORCE, _RXQ_OVFL, _ERR_FILTER = 33, 40, 2  # socket options that the socket module lacks
_NO_ROOM = {errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM}


class SocketCanPort(Port):
    """A raw CAN socket that is bound already."""

    def __init__(
        self, sock: socket.socket, channel: str, count: Count, fd: bool = False, bitrate: int | None = None
    ) -> None:
        self.fd = fd
        self._socket = sock
        self._bitrate = bitrate
        self._details = link_details(channel)
        self._channel = channel
        self._count = count
        self._overflows = 0
        self._error: OSError | None = None
        sock.setblocking(False)
        self._ready = select.poll()
        self._ready.register(sock, select.POLLIN)

    @classmethod
    def open(cls, options: Any, count: Count) -> SocketCanPort:
        channel, loopback = str(options.channel), options.extra.get("local_loopback", True)
        try:
            sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        except (AttributeError, OSError) as error:
            raise DeviceError("this system has no SocketCAN") from error
        try:
            enlarge_receive_buffer(sock, options.receive_buffer)
            sock.setsockopt(socket.SOL_CAN_RAW, _ERR_FILTER, 0x1FFFFFFF)
            sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_LOOPBACK, int(bool(loopback)))
            if options.fd:
                sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _RXQ_OVFL, 1)
            sock.bind((channel,))
        except OSError as error:
            sock.close()
            raise _explained(error, channel) from error
        return cls(sock, channel, count, options.fd, options.bitrate)

    def read(self, timeout: float) -> list[Frame]:
        if self._error is not None:
            raise _explained(self._error, self._channel) from self._error
        if not self._ready.poll(timeout * 1000):
            return []
        now = time.monotonic()
        receive = self._socket.recv
        raws: list[bytes] = []
        try:
            raw, ancillary, _, _ = self._socket.recvmsg(_FD_SIZE, 64)
            self._see_overflow(ancillary)
            while len(raws) < BATCH - 1:
                raws.append(raw)
                raw = receive(_FD_SIZE)
            raws.append(raw)
        except BlockingIOError:
            pass
        except OSError as error:
            if not raws:
                raise _explained(error, self._channel) from error
            self._error = error  # the kernel says it only once, and the frames before it are good
        return [frame for raw in raws if (frame := unpack(raw, now))]

    def write(self, frame: Frame) -> bool:
        try:
            self._socket.send(pack(frame))
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise _explained(error, self._channel) from error
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        pairs = [(0, 0)] if ids is None else masks(ids)
        if len(pairs) > _MAX_FILTERS:
            pairs = [(0, 0)]
        packed = b"".join(struct.pack("=II", *pair) for pair in pairs)
        try:
            self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, packed)
        except OSError as error:
            raise _explained(error, self._channel) from error

    def close(self) -> None:
        self._socket.close()

    def state(self) -> str:
        return str(self._details.get("controller", ""))

    def trouble(self) -> str:
        actual = self._details.get("bit rate")
        if actual and self._bitrate and actual != self._bitrate:
            return f"{self._channel} has been set up for {actual} bit/s, not {self._bitrate}"
        return ""

    def facts(self) -> Mapping[str, Any]:
        return {name: value for name, value in link_details(self._channel).items() if value}

    def _see_overflow(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _RXQ_OVFL):
                total = int.from_bytes(data[:4], sys.byteorder)
                if total != self._overflows:
                    self._count("lost", (total - self._overflows) & 0xFFFFFFFF)
                    self._overflows = total


def pack(frame: Frame) -> bytes:
    """The kernel's can_frame or canfd_frame."""
    flags, data = frame.flags, frame.data
    word = frame.arbitration_id | flags & (EXTENDED | REMOTE)
    if flags & FD:
        return _HEAD.pack(word, len(data), flags & (BRS | ESI)) + data.ljust(64, b"\0")
    return _CLASSIC.pack(word, len(data), data)


def unpack(raw: bytes, now: float) -> Frame | None:
    """One of the kernel's frames; None when it is neither of the two kinds."""
    size = len(raw)
    if size not in (_CLASSIC_SIZE, _FD_SIZE):
        return None
    word, length, fd_flags = _HEAD.unpack_from(raw)
    flags = word & 0xE0000000
    identifier = word & (0x1FFFFFFF if flags & (EXTENDED | ERROR) else 0x7FF)
    if size == _FD_SIZE:
        flags |= FD | fd_flags & (BRS | ESI)
    return Frame(identifier, raw[8 : 8 + length], flags, now)


def enlarge_receive_buffer(sock: socket.socket, size: int) -> None:
    """Let `sock` hold `size` bytes; without privileges, as many as the system permits (net.core.rmem_max)."""
    for option in (_RCVBUFFORCE, socket.SO_RCVBUF):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            return


_REQUEST = struct.Struct("=IHHIIBxHiII")  # netlink's header, and RTM_GETLINK's
_STATES = ("active", "warning", "passive", "bus off")


def link_details(channel: str) -> dict[str, Any]:
    """What the system says of a CAN interface: bit rate, state of the controller, error counters, time until a restart
    after bus-off in ms. Empty when it says nothing, as of virtual interfaces."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.settimeout(0.2)
            sock.send(_REQUEST.pack(_REQUEST.size, 18, 1, 0, 0, 0, 0, socket.if_nametoindex(channel), 0, 0))
            link = _attributes(sock.recv(65536)[_REQUEST.size :])
            details = _attributes(_attributes(link[18])[2])  # of IFLA_LINKINFO, IFLA_INFO_DATA
            state = int.from_bytes(details[4][:4], sys.byteorder)
            tx, rx = struct.unpack_from("=HH", details.get(8, bytes(4)))
            return {
                "bit rate": int.from_bytes(details.get(1, b"")[:4], sys.byteorder),
                "controller": _STATES[state] if state < len(_STATES) else "",
                "error counters": f"sending {tx}, receiving {rx}" if 8 in details else "",
                "restarts after ms": int.from_bytes(details.get(6, b"")[:4], sys.byteorder),
            }
    except (AttributeError, OSError, LookupError, struct.error):
        return {}


def _attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a netlink message, by type."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, length + 3 & ~3) :]
    return found


def _explained(error: OSError, channel: str) -> DeviceError:
    text = {
        errno.ENETDOWN: f"{channel} is down (bring it up: ip link set {channel} up)",
        errno.ENODEV: f"there is no CAN interface {channel}",
        errno.ENXIO: f"{channel} is gone",
    }.get(error.errno or 0)
    return DeviceError(text or f"{channel}: {error.strerror or error}")


# -- python-can --------------------------------------------------------------------------------------------------------

GARBLED = 100  # unusable messages in a row, after which an interface is opened anew


class PythonCanPort(Port):
    """Any interface of python-can."""

    blocking = True  # who knows
    #: Whether it can be asked, without waiting, if there is more.
    drains = True
    #: Unusable messages in a row after which it is taken for gone.
    patience = float(GARBLED)

    def __init__(self, bus: can.BusABC, options: Any, count: Count) -> None:
        import can

        self.bus = bus
        self.fd = options.fd
        self._message = can.Message
        self._can_error = can.CanError
        self._count = count
        self._garbled = 0

    @classmethod
    def arguments(cls, options: Any) -> dict[str, Any]:
        """What to give to python-can."""
        given: dict[str, Any] = {"interface": options.interface, "channel": options.channel}
        if options.bitrate is not None:
            given["bitrate"] = options.bitrate
        if options.fd:
            given["fd"] = True
        given.update(options.extra)
        return given

    @classmethod
    def open(cls, options: Any, count: Count) -> PythonCanPort:
        import can

        if not (logger := logging.getLogger("can")).level:  # what it complains of, message by message, is counted here
            logger.setLevel(logging.CRITICAL)
        bus = can.Bus(ignore_config=True, **cls.arguments(options))
        try:
            return cls(bus, options, count)
        except BaseException:
            bus.shutdown()
            raise

    def is_own(self, message: can.Message) -> bool:
        """Whether this is the echo of what has been sent here."""
        return not message.is_rx

    def read(self, timeout: float) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(BATCH if self.drains else 1):
            try:
                message = self.bus.recv(timeout)
                if message is None:
                    break
                if self.is_own(message):
                    self._count("own echoes")
                else:
                    frames.append(from_message(message, time.monotonic()))
                self._garbled = 0
            except Exception as error:
                self._garbled += 1
                if not self._garbage(error) or self._garbled >= self.patience:
                    if frames:
                        break  # it will say so again
                    self._garbled = 0
                    raise DeviceError(_words(error)) from error
                self._count("garbled")
            timeout = 0.0
        return frames

    def write(self, frame: Frame) -> bool:
        try:
            self.bus.send(self.to_message(frame), timeout=0)
        except (OSError, self._can_error) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or isinstance(cause, TimeoutError) or cause.errno in _NO_ROOM:
                return False
            raise DeviceError(_words(error)) from error
        return True

    def to_message(self, frame: Frame) -> can.Message:
        flags = frame.flags
        return self._message(
            arbitration_id=frame.arbitration_id,
            is_extended_id=bool(flags & EXTENDED),
            is_remote_frame=bool(flags & REMOTE),
            is_fd=bool(flags & FD),
            bitrate_switch=bool(flags & FD and flags & BRS),
            dlc=len(frame.data),
            data=frame.data,
        )

    def close(self) -> None:
        with suppress(Exception):  # it may be gone
            self.bus.shutdown()

    def facts(self) -> Mapping[str, Any]:
        return {"adapter": str(self.bus.channel_info)}

    def _garbage(self, error: Exception) -> bool:
        """Whether just one message could not be used; otherwise the interface is gone."""
        return not isinstance(error, OSError) and not isinstance(error.__cause__, OSError)


def from_message(message: can.Message, now: float) -> Frame:
    """Raises TypeError or ValueError when `message` is not what python-can promises: it may come from a network."""
    identifier, data, flags = message.arbitration_id, bytes(message.data), 0
    if message.is_extended_id:
        flags = EXTENDED
    if message.is_remote_frame:
        flags |= REMOTE
        data = bytes(min(message.dlc, 8))
    if message.is_error_frame:
        flags |= ERROR
    elif message.is_fd:
        flags |= FD
        if message.bitrate_switch:
            flags |= BRS
        if message.error_state_indicator:
            flags |= ESI
    if type(identifier) is not int or identifier >> (29 if flags & (EXTENDED | ERROR) else 11):
        raise ValueError("no identifier")
    if len(data) > (64 if flags & FD else 8):
        raise ValueError("too much data")
    return Frame(identifier, data, flags, now)


class VirtualPort(PythonCanPort):
    """python-can's bus within the process. Its queue, by itself without end, holds what a socket's buffer would."""

    blocking = False

    def __init__(self, bus: can.BusABC, options: Any, count: Count) -> None:
        super().__init__(bus, options, count)
        self.fd = True

    @classmethod
    def arguments(cls, options: Any) -> dict[str, Any]:
        return {"rx_queue_size": max(16, options.receive_buffer // 512)} | super().arguments(options)

    def write(self, frame: Frame) -> bool:
        if not super().write(frame):  # somebody's queue is full; the others have got it
            self._count("not taken")
        return True

    def close(self) -> None:
        super().close()
        queue = self.bus.queue  # type: ignore[attr-defined]
        with suppress(Exception):  # until it is empty: whoever waits for room in it shall not wait for ever
            while True:
                queue.get_nowait()


_MULTICAST_ALL = ((socket.IPPROTO_IP, 49), (socket.IPPROTO_IPV6, 29))  # socket options that the socket module lacks


class UdpMulticastPort(PythonCanPort):
    """CAN frames in datagrams. What is sent comes back: it is told by the channel that our messages name."""

    blocking = False
    patience = float("inf")  # anybody on the network can send anything

    def __init__(self, bus: can.BusABC, options: Any, count: Count) -> None:
        super().__init__(bus, options, count)
        self.fd = True
        self._mine = f"fixgw-{os.urandom(6).hex()}"
        with socket.socket(fileno=socket.dup(bus.fileno())) as sock:
            enlarge_receive_buffer(sock, options.receive_buffer)
            for option in _MULTICAST_ALL:  # else Linux gives us every group on this port that any program has joined
                with suppress(OSError):
                    sock.setsockopt(*option, 0)

    def is_own(self, message: can.Message) -> bool:
        return message.channel == self._mine

    def to_message(self, frame: Frame) -> can.Message:
        message = super().to_message(frame)
        message.channel = self._mine
        return message


class SerialPort(PythonCanPort):
    """python-can's own serial protocol. It waits its whole time-out whatever it is asked."""

    drains = False

    def __init__(self, bus: can.BusABC, options: Any, count: Count) -> None:
        super().__init__(bus, options, count)
        with suppress(AttributeError):  # a line that takes nothing shall not hold up a stop
            bus._ser.write_timeout = 0.5  # type: ignore[attr-defined]


class SocketcandPort(PythonCanPort):
    """A bus of another machine, through its socketcand."""

    def __init__(self, bus: can.BusABC, options: Any, count: Count) -> None:
        super().__init__(bus, options, count)
        self._socket: socket.socket | None = getattr(bus, "_SocketCanDaemonBus__socket", None)
        if self._socket is not None:
            self._socket.settimeout(1.0)  # so that a server which does not read is noticed

    @classmethod
    def open(cls, options: Any, count: Count) -> PythonCanPort:
        # python-can would try for ten seconds, as fast as it can.
        address = (options.extra.get("host", ""), options.extra.get("port", 0))
        socket.create_connection(address, timeout=3.0).close()
        return super().open(options, count)

    def read(self, timeout: float) -> list[Frame]:
        frames = super().read(timeout)
        sock = self._socket
        if (
            not frames
            and sock is not None
            and select.select([sock], [], [], 0)[0]
            and not sock.recv(1, socket.MSG_PEEK)
        ):
            raise DeviceError("the socketcand server has closed the connection")  # python-can does not see it
        return frames

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        super().close()


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


# -- which is which ----------------------------------------------------------------------------------------------------

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


def check(options: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with `options` and what is not installed for them, as pairs (option, message). Opens nothing."""
    interface, extra = options.interface, options.extra
    try:
        require(interface)
    except (ImportError, ValueError) as error:
        yield "interface", str(error)
        return
    if interface == "slcan":
        from fixgw.drivers.slcan import set_up

        try:
            set_up(options)
        except (ValueError, TypeError) as error:
            yield "extra" if "bitrate" not in str(error) else "bitrate", str(error)
    elif interface == "socketcan" and (unknown := set(extra) - {"local_loopback"}):
        yield "extra", f"SocketCAN has no option {', '.join(sorted(unknown))}"
    elif interface == "socketcand" and not ("host" in extra and "port" in extra):
        yield "extra", "socketcand needs a host and a port"


SYS_NET = "/sys/class/net"
_CAN, _UP = "280", 1  # ARPHRD_CAN, IFF_UP


def preflight(options: Any) -> Iterator[Device | Finding]:
    """What `options` need of this machine, for `PluginBase.preflight`. Opens nothing."""
    channel = str(options.channel)
    if options.interface == "socketcan":
        yield from _look_at_link(channel, options.bitrate)
    elif channel.startswith("/"):
        yield from serial_link.needs(channel)


def _look_at_link(channel: str, bitrate: int | None) -> Iterator[Finding]:
    virtual = channel.startswith("vcan")
    bring_up = f"sudo ip link set {channel} up" + ("" if virtual else f" type can bitrate {bitrate or 250000}")
    kind = _fact(channel, "type")
    if kind != _CAN:
        others = sorted(name for name in _listed(SYS_NET) if _fact(name, "type") == _CAN)
        text = f"{channel} is no CAN interface" if kind else f"there is no CAN interface {channel}"
        text += f"; there is {', '.join(others)}" if others else ": is its adapter plugged in, its overlay loaded?"
        yield Finding("problem", text, f"sudo ip link add {channel} type vcan && {bring_up}" if virtual else "")
        return
    if not int(_fact(channel, "flags") or "0", 16) & _UP:
        yield Finding("problem", f"{channel} is down", bring_up)
        return
    details = link_details(channel)
    actual, state = details.get("bit rate"), details.get("controller")
    anew = f"sudo ip link set {channel} down && sudo ip link set {channel} up type can"
    counters = f" ({details['error counters']})" if details.get("error counters") else ""
    if actual and bitrate and actual != bitrate:
        yield Finding("problem", f"{channel} runs at {actual} bit/s, not {bitrate}", f"{anew} bitrate {bitrate}")
    if state == "bus off":
        yield Finding("problem", f"{channel} is off after too many errors: wiring? resistors? bit rate?", bring_up)
    elif state in ("warning", "passive"):
        yield Finding("warning", f"{channel} has many errors, its controller is {state}{counters}: wiring? resistors?")
    if details and not details.get("restarts after ms"):
        fix = f"{anew} bitrate {actual} restart-ms 100"
        yield Finding("warning", f"{channel} would stay off after a bus-off", fix)
    if state in ("active", None):
        rate = f" at {actual} bit/s" if actual else ""
        yield Finding("ok", f"{channel} is up{rate}{counters}")


def _fact(channel: str, name: str) -> str:
    try:
        with open(os.path.join(SYS_NET, channel, name), encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


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


def open_port(options: Any, count: Count) -> Port:
    """Open what `options` (`fixgw.drivers.can_link.BusOptions`) say. May take seconds. Raises DeviceError."""
    interface = options.interface
    try:
        if interface == "socketcan":
            return SocketCanPort.open(options, count)
        if interface == "slcan":
            from fixgw.drivers.slcan import SlcanPort

            return SlcanPort.open(options, count)
        return _PYTHON_CAN.get(interface, PythonCanPort).open(options, count)
    except DeviceError:
        raise
    except Exception as error:  # python-can's errors, and whatever a backend makes of wrong arguments
        raise DeviceError(f"{interface} {options.channel}: {_words(error)}") from error
