"""The interfaces of python-can, one class for each that needs looking after."""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.port import BATCH, BusOptions, Count, Port
from fixgw.drivers.links.can.socketcan import NO_ROOM, enlarge_receive_buffer
from fixgw.errors import DeviceError

if TYPE_CHECKING:
    import can

GARBLED_MESSAGES = 100  # unusable ones in a row, after which an interface is opened anew


class PythonCanPort(Port):
    """Any interface of python-can."""

    blocking = True  # who knows
    #: Whether it can be asked, without waiting, if there is more.
    drains = True
    #: Unusable messages in a row after which it is taken for gone.
    most_garbled = float(GARBLED_MESSAGES)

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        import can

        self.bus = bus
        self.fd = options.fd
        self._message = can.Message
        self._can_error = can.CanError
        self._count = count
        self._garbled = 0

    @classmethod
    def arguments(cls, options: BusOptions) -> dict[str, Any]:
        """What to give to python-can."""
        given: dict[str, Any] = {"interface": options.interface, "channel": options.channel}
        if options.bitrate is not None:
            given["bitrate"] = options.bitrate
        if options.fd:
            given["fd"] = True
        given.update(options.extra)
        return given

    @classmethod
    def open(cls, options: BusOptions, count: Count) -> PythonCanPort:
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
                if not self._garbage(error) or self._garbled >= self.most_garbled:
                    if frames:
                        break  # it will say so again
                    self._garbled = 0
                    raise DeviceError(in_words(error)) from error
                self._count("garbled")
            timeout = 0.0
        return frames

    def write(self, frame: Frame) -> bool:
        try:
            self.bus.send(self.to_message(frame), timeout=0)
        except (OSError, self._can_error) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or isinstance(cause, TimeoutError) or cause.errno in NO_ROOM:
                return False
            raise DeviceError(in_words(error)) from error
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

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        self.fd = True

    @classmethod
    def arguments(cls, options: BusOptions) -> dict[str, Any]:
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
    most_garbled = float("inf")  # anybody on the network can send anything

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
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

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        with suppress(AttributeError):  # a line that takes nothing shall not hold up a stop
            bus._ser.write_timeout = 0.5  # type: ignore[attr-defined]


class SocketcandPort(PythonCanPort):
    """A bus of another machine, through its socketcand."""

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        self._socket: socket.socket | None = getattr(bus, "_SocketCanDaemonBus__socket", None)
        if self._socket is not None:
            self._socket.settimeout(1.0)  # so that a server which does not read is noticed

    @classmethod
    def open(cls, options: BusOptions, count: Count) -> PythonCanPort:
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


def in_words(error: BaseException) -> str:
    return str(error) or type(error).__name__
