"""Instruments whose real ones send datagrams, such as GDL 90 and NMEA 0183 over UDP: each frame is a datagram.

instrument = whole(Stratux)(DatagramLine(("192.168.4.255", 4000)))
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from fixgw.hw_sim.serial import SerialInstrument


class Whole(SerialInstrument):
    """An instrument that hands each of its frames to its line at once and whole, as fast as it comes."""

    def transmit(self, frames: list[bytes], now: float) -> None:
        for frame in self._wire.carry(frames, now):
            self.line.write(frame)


def whole(kind: type[SerialInstrument]) -> Callable[..., SerialInstrument]:
    """The same instrument, `Whole`."""
    return cast("Callable[..., SerialInstrument]", type(kind.__name__, (Whole, kind), {}))


class DatagramLine:
    """Sends what is written to the address `to`, which may be that of a broadcast; the answers from anywhere can be
    read. Raises OSError if it cannot receive at `host` and `port`. Any thread may call `plug` and `unplug`."""

    def __init__(self, to: tuple[str, int], host: str = "", port: int = 0) -> None:
        self.to = to
        self.path = f"udp://{to[0]}:{to[1]}"
        #: Bytes sent, and those that the network did not take.
        self.written = self.dropped = 0
        self._own = host, port
        self._socket: Any = None
        self.plug()

    def write(self, data: bytes) -> int:
        opened = self._socket
        try:
            sent: int = opened.sendto(data, self.to) if opened else 0
        except OSError:  # no network, or nobody there
            sent = 0
        self.written += sent
        self.dropped += len(data) - sent
        return sent

    def read(self, timeout: float = 0.0) -> bytes:
        """One datagram; empty if there is none."""
        if (opened := self._socket) is None:
            return b""
        try:
            opened.settimeout(timeout)
            data: bytes = opened.recv(65536)
        except OSError:
            return b""
        return data

    def plug(self) -> None:
        if self._socket is None:
            family = socket.AF_INET6 if ":" in self.to[0] else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                made.bind(self._own)
            except (OSError, OverflowError):
                made.close()
                raise
            self._socket = made

    def unplug(self) -> None:
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    close = unplug
