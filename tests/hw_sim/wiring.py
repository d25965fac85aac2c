"""How virtual devices are reached: on paths in a directory, by programs of any kind.

A `fixgw.hw_sim.bench.rig.Rig` has a `Wiring` of its own, which joins the same devices to drivers in the same process.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from fixgw.hw_sim.can.segment import Segment
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.network import NetworkInstrument, own_host
from fixgw.hw_sim.pty import VirtualPort

log = logging.getLogger(__name__)


class Port(Protocol):
    """The device's end of a serial line, with a plug."""

    path: str

    def write(self, data: bytes, /) -> int: ...

    def read(self, timeout: float = 0.0, /) -> bytes: ...

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def close(self) -> None: ...


class Adapter(Protocol):
    """A CAN adapter: a node on a segment, with a plug. What can happen to it is in `fixgw.hw_sim.scenario.ADAPTER`."""

    path: str
    jammed: bool
    mute: bool
    flags: int

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def close(self) -> None: ...


class Wiring:
    """Serial ports and slcan adapters on paths in `directory`, datagrams at a loopback address of this process."""

    #: Whether buses wait for the world's steps, so that the order of frames does not depend on the computer's pace.
    stepped = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = own_host()
        #: The CAN buses.
        self.segments: list[Segment] = []

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def port(self, name: str) -> Any:
        """A serial port (`Port`)."""
        return VirtualPort(self.path(name))

    def printer(self, program: str, name: str) -> Any:
        """A serial port whose data the `program` prints, in place of the real one."""
        script = self.directory / program
        script.write_text(f"#!/bin/sh\nexec cat {self.path(name)}\n")
        script.chmod(0o755)
        return self.port(name)

    def segment(self, bitrate: int | None = None) -> Segment:
        """A CAN bus."""
        self.segments.append(Segment(bitrate, self.stepped))
        return self.segments[-1]

    def adapter(self, segment: Segment, name: str) -> Any:
        """An adapter (`Adapter`) on a bus."""
        return VirtualSlcan(segment, self.path(name))

    def program(self, kind: type[NetworkInstrument]) -> NetworkInstrument:
        """A program at its usual port, or at a free one."""
        try:
            return kind(self.host)
        except OSError as error:  # the real one runs on this computer, and has the port at every address
            log.warning("%s cannot be had at port %d: %s", kind.NAME, kind.PORT, error.strerror)
            return kind(self.host, 0)
