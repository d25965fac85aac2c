"""How virtual devices are reached: on paths in a directory, by programs of any kind.

A `fixgw.hw_sim.bench.rig.Rig` has a `Wiring` of its own, which joins the same devices to drivers in the same process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fixgw.hw_sim.can.segment import Node, Segment, SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.network import NetworkInstrument, own_host
from fixgw.hw_sim.pty import VirtualPort

log = logging.getLogger(__name__)


class Wiring:
    """Serial ports and slcan adapters on paths in `directory`; datagrams at `host`, by default a loopback address that
    no other process uses.

    With `stepped`, buses wait for the world's steps, so that the order of frames does not depend on the computer's
    pace.
    """

    def __init__(self, directory: Path, host: str = "", stepped: bool = False) -> None:
        self.directory = directory
        self.host = host or own_host()
        self.stepped = stepped
        #: The CAN buses.
        self.segments: list[Segment] = []

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def port(self, name: str) -> Any:
        """A serial port: a `VirtualPort`, or something like it."""
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
        """An adapter on a bus: a `VirtualSlcan`, or something like it."""
        return VirtualSlcan(segment, self.path(name))

    def datagrams(self, name: str) -> Any:
        """What an app has in place of a socket; None: nothing."""
        return None

    def program(self, kind: type[NetworkInstrument]) -> NetworkInstrument:
        """A program at its usual port, or at a free one."""
        try:
            return kind(self.host)
        except OSError as error:  # the real one runs on this computer, and has the port at every address
            log.warning("%s cannot be had at port %d: %s", kind.NAME, kind.PORT, error.strerror)
            return kind(self.host, 0)


#: Called with the name of a device, whether it has sent something (or else got it), and what: bytes, a frame, or a text
#: that says why its plug is out; empty when it is in.
Note = Callable[[str, bool, "bytes | SimFrame | str"], object]


class Noting(Wiring):
    """A `Wiring` that calls `note` with all that is sent in both directions, on the world's thread. Buses are stepped.

    What a device sends is noted whether or not a program has it open.
    """

    def __init__(self, directory: Path, note: Note, host: str = "") -> None:
        super().__init__(directory, host, stepped=True)
        self._note = note

    def port(self, name: str) -> Any:
        return _NotingPort(self.path(name), name, self._note)

    def adapter(self, segment: Segment, name: str) -> Any:
        adapter = _NotingAdapter(segment, self.path(name), name, self._note)

        def heard(sender: Node, frame: SimFrame) -> None:
            self._note(name, sender is not adapter.node, frame)

        segment.listener = heard
        return adapter

    def program(self, kind: type[NetworkInstrument]) -> NetworkInstrument:
        note, name = self._note, kind.NAME

        def send(self: NetworkInstrument, data: bytes, to: Any) -> None:
            if self.socket is not None:
                note(name, True, data)
            kind.send(self, data, to)

        def receive(self: NetworkInstrument) -> Iterator[tuple[bytes, Any]]:
            for data, sender in kind.receive(self):
                note(name, False, data)
                yield data, sender

        note(name, True, "")
        return super().program(type(kind.__name__, (kind,), {"send": send, "receive": receive}))


class _NotingPort(VirtualPort):
    def __init__(self, path: str, name: str, note: Note) -> None:
        self._name, self._note = name, note
        super().__init__(path)

    def plug(self) -> None:
        if not self.plugged:
            self._note(self._name, True, "")
        super().plug()

    def unplug(self) -> None:
        if self.plugged:
            self._note(self._name, True, f"{self.path} went away")
        super().unplug()

    def write(self, data: bytes) -> int:
        if self.plugged and data:
            self._note(self._name, True, bytes(data))
        return super().write(data)

    def read(self, timeout: float = 0.0) -> bytes:
        if data := super().read(timeout):
            self._note(self._name, False, data)
        return data


class _NotingAdapter(VirtualSlcan):
    def __init__(self, segment: Segment, path: str, name: str, note: Note) -> None:
        self._name, self._note = name, note
        note(name, True, "")
        super().__init__(segment, path)

    def plug(self) -> None:
        self._note(self._name, True, "")
        super().plug()

    def unplug(self) -> None:
        self._note(self._name, True, f"{self.path} went away")
        super().unplug()
