"""The base of all virtual instruments on a CAN bus: `CanInstrument`.

class Rdac(CanInstrument):
    RATE = 5.0

    def frames(self, aircraft, now):
        return [SimFrame(0x201, ...)]     # one round: the frames that the real one sends in one go
"""

from __future__ import annotations

from typing import ClassVar

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.faults import Fault, Wire

DEPTH = 1024  # frames that may wait for the bus


class CanInstrument:
    """An instrument of the `World`, which calls `tick`: a node on `segment` that sends `RATE` rounds a second.

    Faults may `begin` and `end` at any time, between the instrument and the bus; `power` switches it off and on. One
    thread at a time.
    """

    NAME: ClassVar[str] = ""
    BITRATE: ClassVar[int] = 250_000
    #: Rounds per second.
    RATE: ClassVar[float] = 5.0

    def __init__(self, segment: Segment) -> None:
        self.node = segment.attach(self.NAME, depth=DEPTH)
        self.power = True
        #: Rounds sent, and frames that the bus has taken.
        self.rounds = self.sent = 0
        self._wire = Wire()
        self._next: float | None = None

    def frames(self, aircraft: Aircraft, now: float) -> list[SimFrame]:
        """The frames of one round, at `now` in monotonic seconds."""
        raise NotImplementedError

    def begin(self, fault: Fault) -> None:
        self._wire.begin(fault)

    def end(self, fault: Fault) -> None:
        self._wire.end(fault)

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Send what is due at `now`, in monotonic seconds."""
        frames: list[SimFrame] = []
        if self._next is None or now >= self._next:
            period = 1.0 / self.RATE
            self._next = now + period if self._next is None or now - self._next > period else self._next + period
            if self.power:
                frames = self.frames(aircraft, now)
                self.rounds += 1
        for frame in self._wire.carry(frames, now):
            self.sent += self.node.send(frame)

    def close(self) -> None:
        """Leave the bus."""
        self.node.detach()
