"""The interfaces of python-can. Those that need special care have a class of their own."""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Any

from fixgw.clock import now as clock_now
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.port import BATCH_FRAMES, BusOptions, Count, Port
from fixgw.drivers.links.can.socketcan import NO_ROOM, enlarge_receive_buffer
from fixgw.errors import DeviceError
from fixgw.net.tcp import keep_alive

if TYPE_CHECKING:
    import can

MAX_GARBLED_MESSAGES = 100  # after this many unusable messages in a row an interface is reopened


class PythonCanPort(Port):
    """Any interface of python-can."""

    blocking = True  # back ends differ; assume that sending may block
    #: Whether a read without a time-out returns at once.
    drains = True
    #: After this many unusable messages in a row the interface counts as gone.
    max_garbled = float(MAX_GARBLED_MESSAGES)

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
        """The arguments for `can.Bus`."""
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

        if not (logger := logging.getLogger("can")).level:  # it logs every bad message; we count them instead
            logger.setLevel(logging.CRITICAL)
        bus = can.Bus(ignore_config=True, **cls.arguments(options))
        try:
            return cls(bus, options, count)
        except BaseException:
            bus.shutdown()
            raise

    def is_own(self, message: can.Message) -> bool:
        """Whether this is the echo of a message that we sent."""
        return not message.is_rx

    def read(self, timeout: float) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(BATCH_FRAMES if self.drains else 1):
            try:
                message = self.bus.recv(timeout)
                if message is None:
                    break
                if self.is_own(message):
                    self._count("own echoes")
                else:
                    frames.append(from_message(message, clock_now()))
                self._garbled = 0
            except Exception as error:
                self._garbled += 1
                if not self._is_garbled(error) or self._garbled >= self.max_garbled:
                    if frames:
                        break  # the next read raises the error again
                    self._garbled = 0
                    raise DeviceError(describe_error(error)) from error
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
            raise DeviceError(describe_error(error)) from error
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
        with suppress(Exception):  # the adapter may be gone
            self.bus.shutdown()

    def facts(self) -> Mapping[str, Any]:
        return {"adapter": str(self.bus.channel_info)}

    def _is_garbled(self, error: Exception) -> bool:
        """Whether only this message is unusable; otherwise the interface is gone."""
        return not isinstance(error, OSError) and not isinstance(error.__cause__, OSError)


def from_message(message: can.Message, now: float) -> Frame:
    """Convert a message that was received. Raises TypeError or ValueError if it is malformed: networks carry such."""
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
        raise ValueError("the identifier is out of range")
    if len(data) > (64 if flags & FD else 8):
        raise ValueError("too many data bytes")
    return Frame(identifier, data, flags, now)


class VirtualPort(PythonCanPort):
    """python-can's bus within one process. We bound its queue to about what a socket's buffer would hold."""

    blocking = False

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        self.fd = True

    @classmethod
    def arguments(cls, options: BusOptions) -> dict[str, Any]:
        return {"rx_queue_size": max(16, options.receive_buffer // 512)} | super().arguments(options)

    def write(self, frame: Frame) -> bool:
        if not super().write(frame):  # the queue of one receiver is full; the other receivers have the frame
            self._count("not taken")
        return True

    def close(self) -> None:
        super().close()
        queue = self.bus.queue  # type: ignore[attr-defined]
        with suppress(Empty):  # empty the queue, so that a sender that waits for room does not wait forever
            while True:
                queue.get_nowait()


_MULTICAST_ALL = ((socket.IPPROTO_IP, 49), (socket.IPPROTO_IPV6, 29))  # socket options that the socket module lacks


class UdpMulticastPort(PythonCanPort):
    """CAN frames in datagrams. We receive what we send; the channel that our messages name tells us so."""

    blocking = False
    max_garbled = float("inf")  # anyone on the network can send anything

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        self.fd = True
        self._mine = f"fixgw-{os.urandom(6).hex()}"
        with socket.socket(fileno=socket.dup(bus.fileno())) as sock:
            enlarge_receive_buffer(sock, options.receive_buffer)
            for option in _MULTICAST_ALL:  # otherwise Linux delivers every group that any program has joined here
                with suppress(OSError):
                    sock.setsockopt(*option, 0)

    def is_own(self, message: can.Message) -> bool:
        return message.channel == self._mine

    def to_message(self, frame: Frame) -> can.Message:
        message = super().to_message(frame)
        message.channel = self._mine
        return message


class SerialPort(PythonCanPort):
    """python-can's own serial protocol. A read waits for the whole time-out that the line was opened with."""

    drains = False

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        with suppress(AttributeError):  # a line that accepts no data must not delay a stop
            bus._ser.write_timeout = 0.5  # type: ignore[attr-defined]


class SocketcandPort(PythonCanPort):
    """A bus of another computer, through the socketcand that runs there."""

    def __init__(self, bus: can.BusABC, options: BusOptions, count: Count) -> None:
        super().__init__(bus, options, count)
        self._socket: socket.socket | None = getattr(bus, "_SocketCanDaemonBus__socket", None)
        if self._socket is not None:
            self._socket.settimeout(1.0)  # so that we notice a server that does not read
            keep_alive(self._socket, give_up=True)  # or that has vanished without a word

    @classmethod
    def open(cls, options: BusOptions, count: Count) -> PythonCanPort:
        # python-can would retry for ten seconds without a pause.
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
            raise DeviceError("the socketcand server closed the connection")  # python-can does not notice
        return frames

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        super().close()


def describe_error(error: BaseException) -> str:
    return str(error) or type(error).__name__
