"""SocketCAN through the standard library's socket: python-can would cost 10 MB and about 20 µs per frame."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from fixgw.clock import now as clock_now
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame, masks
from fixgw.drivers.links.can.port import BATCH_FRAMES, BusOptions, Count, Port
from fixgw.errors import DeviceError
from fixgw.plugin import Finding

_HEAD = struct.Struct("=IBBxx")  # identifier and flags, length, CAN FD flags
_CLASSIC = struct.Struct("=IBxxx8s")
_CLASSIC_SIZE, _FD_SIZE = 16, 72
_MAX_FILTERS = 512  # the kernel's limit
_RCVBUFFORCE, _RXQ_OVFL, _ERR_FILTER = 33, 40, 2  # socket options that the socket module lacks
NO_ROOM = {errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM}


class SocketCanPort(Port):
    """A raw CAN socket, already bound."""

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
    def open(cls, options: BusOptions, count: Count) -> SocketCanPort:
        channel, loopback = str(options.channel), options.extra.get("local_loopback", True)
        try:
            sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        except (AttributeError, OSError) as error:
            raise DeviceError("this system does not support SocketCAN") from error
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
            raise _to_device_error(error, channel) from error
        return cls(sock, channel, count, options.fd, options.bitrate)

    def read(self, timeout: float) -> list[Frame]:
        if self._error is not None:
            raise _to_device_error(self._error, self._channel) from self._error
        if not self._ready.poll(timeout * 1000):
            return []
        now = clock_now()
        receive = self._socket.recv
        raws: list[bytes] = []
        try:
            raw, ancillary, _, _ = self._socket.recvmsg(_FD_SIZE, 64)
            self._see_overflow(ancillary)
            while len(raws) < BATCH_FRAMES - 1:
                raws.append(raw)
                raw = receive(_FD_SIZE)
            raws.append(raw)
        except BlockingIOError:
            pass
        except OSError as error:
            if not raws:
                raise _to_device_error(error, self._channel) from error
            self._error = error  # the kernel reports it only once, and the frames before it are good
        return [frame for raw in raws if (frame := unpack(raw, now))]

    def write(self, frame: Frame) -> bool:
        try:
            self._socket.send(pack(frame))
        except OSError as error:
            if error.errno in NO_ROOM:
                return False
            raise _to_device_error(error, self._channel) from error
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        pairs = [(0, 0)] if ids is None else masks(ids)
        if len(pairs) > _MAX_FILTERS:
            pairs = [(0, 0)]
        packed = b"".join(struct.pack("=II", *pair) for pair in pairs)
        try:
            self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, packed)
        except OSError as error:
            raise _to_device_error(error, self._channel) from error

    def close(self) -> None:
        self._socket.close()

    def state(self) -> str:
        return str(self._details.get("controller", ""))

    def trouble(self) -> str:
        actual = self._details.get("bit rate")
        if actual and self._bitrate and actual != self._bitrate:
            return f"{self._channel} is set to {actual} bit/s, not {self._bitrate}"
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
    """Convert a frame to the kernel's can_frame or canfd_frame."""
    flags, data = frame.flags, frame.data
    word = frame.arbitration_id | flags & (EXTENDED | REMOTE)
    if flags & FD:
        return _HEAD.pack(word, len(data), flags & (BRS | ESI)) + data.ljust(64, b"\0")
    return _CLASSIC.pack(word, len(data), data)


def unpack(raw: bytes, now: float) -> Frame | None:
    """Convert the kernel's can_frame or canfd_frame to a frame; None if it is neither."""
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
    """Make the receive buffer `size` bytes; without privileges, at most as many as net.core.rmem_max allows."""
    for option in (_RCVBUFFORCE, socket.SO_RCVBUF):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            return


_REQUEST = struct.Struct("=IHHIIBxHiII")  # netlink's header, and RTM_GETLINK's
_STATES = ("active", "warning", "passive", "bus off")


def link_details(channel: str) -> dict[str, Any]:
    """What the system knows about a CAN interface: bit rate, state of the controller, error counters, and the time to
    a restart after bus-off in ms. Empty if it knows nothing, as for virtual interfaces."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.settimeout(0.2)
            sock.send(_REQUEST.pack(_REQUEST.size, 18, 1, 0, 0, 0, 0, socket.if_nametoindex(channel), 0, 0))
            link = _attributes(sock.recv(65536)[_REQUEST.size :])
            details = _attributes(_attributes(link[18])[2])  # IFLA_INFO_DATA in IFLA_LINKINFO
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
    """Parse the attributes of a netlink message, by type."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, length + 3 & ~3) :]
    return found


def _to_device_error(error: OSError, channel: str) -> DeviceError:
    """Say what went wrong, and how to put it right where that is known."""
    text = {
        errno.ENETDOWN: f"{channel} is down (bring it up: ip link set {channel} up)",
        errno.ENODEV: f"there is no CAN interface {channel}",
        errno.ENXIO: f"{channel} is gone",
    }.get(error.errno or 0)
    return DeviceError(text or f"{channel}: {error.strerror or error}")


SYS_NET = "/sys/class/net"
_CAN, _UP = "280", 1  # ARPHRD_CAN, IFF_UP


def preflight(channel: str, bitrate: int | None) -> Iterator[Finding]:
    virtual = channel.startswith("vcan")
    bring_up = f"sudo ip link set {channel} up" + ("" if virtual else f" type can bitrate {bitrate or 250000}")
    kind = _read_attribute(channel, "type")
    if kind != _CAN:
        others = sorted(name for name in _list_directory(SYS_NET) if _read_attribute(name, "type") == _CAN)
        text = f"{channel} is not a CAN interface" if kind else f"there is no CAN interface {channel}"
        text += f"; found {', '.join(others)}" if others else ": is its adapter plugged in, its overlay loaded?"
        yield Finding("problem", text, f"sudo ip link add {channel} type vcan && {bring_up}" if virtual else "")
        return
    if not int(_read_attribute(channel, "flags") or "0", 16) & _UP:
        yield Finding("problem", f"{channel} is down", bring_up)
        return
    details = link_details(channel)
    actual, state = details.get("bit rate"), details.get("controller")
    restart = f"sudo ip link set {channel} down && sudo ip link set {channel} up type can"
    counters = f" ({details['error counters']})" if details.get("error counters") else ""
    if actual and bitrate and actual != bitrate:
        yield Finding("problem", f"{channel} runs at {actual} bit/s, not {bitrate}", f"{restart} bitrate {bitrate}")
    if state == "bus off":
        text = f"{channel} is bus off after too many errors: check wiring, terminators and bit rate"
        yield Finding("problem", text, bring_up)
    elif state in ("warning", "passive"):
        text = f"{channel} has many errors, its controller is {state}{counters}: check wiring and terminators"
        yield Finding("warning", text)
    if details and not details.get("restarts after ms"):
        fix = f"{restart} bitrate {actual} restart-ms 100"
        yield Finding("warning", f"{channel} does not restart after bus-off", fix)
    if state in ("active", None):
        rate = f" at {actual} bit/s" if actual else ""
        yield Finding("ok", f"{channel} is up{rate}{counters}")


def _read_attribute(channel: str, name: str) -> str:
    """Read an attribute of a network interface from sysfs; empty if there is none."""
    try:
        with open(os.path.join(SYS_NET, channel, name), encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def _list_directory(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
