"""Virtual instruments on real adapters: serial ports, and whatever CAN interfaces python-can has."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import serial

from fixgw.hw_sim.can.bus import open_bus
from fixgw.hw_sim.can.segment import Leg, Segment
from fixgw.hw_sim.devices import instruments
from fixgw.hw_sim.scenario.actions import ADAPTER
from fixgw.hw_sim.wiring import Wiring

log = logging.getLogger(__name__)

DEFAULT_BAUD = 9600


class RealPort:
    """The serial port at `path`, for this program alone. Raises OSError if it cannot be opened.

    What it does not take at once is lost, as on a line. Unplugged, it is closed, and the other end hears nothing.
    Any thread may call `plug` and `unplug`.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self.baud = baud
        #: Bytes sent, and bytes that the port did not take.
        self.written = self.dropped = 0
        self._port: serial.Serial | None = None
        self._lost = False
        self._open()

    def _open(self) -> None:
        try:
            self._port = serial.Serial(self.path, self.baud, timeout=0, exclusive=True)
        except OSError as error:
            in_use = error.errno == errno.EAGAIN  # it is locked
            why = "another program uses it" if in_use else os.strerror(error.errno) if error.errno else str(error)
            raise OSError(f"cannot open {self.path}: {why}") from error

    def write(self, data: bytes) -> int:
        """Send `data`. Never blocks or raises; returns the number of bytes taken."""
        taken = 0
        if (port := self._port) is not None:
            try:  # not through pyserial, which tries again and again while the buffer is full
                taken = os.write(port.fileno(), data)
            except BlockingIOError:
                pass
            except OSError as error:
                if not self._lost:
                    self._lost = True
                    log.error("%s cannot be written: %s", self.path, error.strerror)
        self.written += taken
        self.dropped += len(data) - taken
        return taken

    def read(self, timeout: float = 0.0) -> bytes:
        """What has arrived; does not wait."""
        if (port := self._port) is None:
            return b""
        try:
            return bytes(port.read(4096))
        except OSError:
            return b""

    def plug(self) -> None:
        """Open it again; harmless if it is open, or if it cannot be."""
        if self._port is None:
            with suppress(OSError):
                self._open()

    def unplug(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    close = unplug


class RealAdapter:
    """A CAN interface of python-can, ``INTERFACE:CHANNEL``, on a segment. Raises OSError if it cannot be opened.

    Unplugged, it carries nothing. A real one cannot be jammed or mute, and has its own errors.
    """

    UNABLE = frozenset(ADAPTER) - {"unplugged"}

    def __init__(self, segment: Segment, path: str) -> None:
        self.path = path
        self._segment = segment
        interface, _, channel = path.partition(":")
        self._bus = open_bus(interface, channel, bitrate=segment.bitrate or 250_000)
        self._leg: Leg | None = None
        self.plug()

    def plug(self) -> None:
        if self._leg is None:
            self._leg = Leg(self._segment, self._bus)

    def unplug(self) -> None:
        if self._leg is not None:
            self._leg.close()
            self._leg = None

    def close(self) -> None:
        self.unplug()
        self._bus.shutdown()


class RealWiring(Wiring):
    """Joins each device to the adapter that `devices` names for it: a path, or ``INTERFACE:CHANNEL`` for a CAN bus.

    The bus of the scenario's nodes is called "can". What `devices` does not name is as in a `Wiring`.
    """

    def __init__(self, directory: Path, devices: Mapping[str, str]) -> None:
        super().__init__(directory)
        self._devices = {"can0" if name == "can" else name: where for name, where in devices.items()}

    def port(self, name: str) -> Any:
        if name not in self._devices:
            return super().port(name)
        kind = instruments().get(name)
        baud = 38400 if name == "gps" else kind.BAUD if kind is not None else DEFAULT_BAUD
        return RealPort(self._devices[name], baud)

    def adapter(self, segment: Segment, name: str) -> Any:
        return RealAdapter(segment, self._devices[name]) if name in self._devices else super().adapter(segment, name)
