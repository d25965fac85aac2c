"""What all virtual instruments on a serial line have in common: `SerialInstrument`.

class Eis(SerialInstrument):
    BAUD = 9600
    RATE = 5.0

    def frames(self, aircraft, now):
        return [...]                      # one round: what the real one sends in one go, whole frames
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.faults import Fault, Wire

if TYPE_CHECKING:
    from fixgw.hw_sim.pty import VirtualPort

LONGEST_WAIT = 1.0  # s of line time that may wait to be sent; what comes on top is left out, as real instruments do


class Line(Protocol):
    """What an instrument's transmit pin is connected to, for instance a `VirtualPort`."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None: ...


class SerialInstrument:
    """An instrument of the `World`, which calls `tick`: `RATE` rounds a second, no faster than its line allows.

    `baud` is the line's speed (10 bits a byte). Faults may `begin` and `end` at any time, on the wire between the
    instrument and its line; `power` switches it off and on. One thread at a time.
    """

    #: Its name among the instruments, and what it is, for people.
    NAME: ClassVar[str] = ""
    WHAT: ClassVar[str] = ""
    BAUD: ClassVar[int] = 9600
    #: Rounds a second.
    RATE: ClassVar[float] = 1.0

    def __init__(self, line: Line, baud: int | None = None) -> None:
        self.line = line
        self.baud = baud or self.BAUD
        self.power = True
        #: Rounds sent, and frames left out because the line was still busy.
        self.rounds = 0
        self.skipped = 0
        self._wire = Wire()
        self._pending = b""
        self._next: float | None = None
        self._sent_until = 0.0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        """One round, at `now` in monotonic seconds."""
        raise NotImplementedError

    def begin(self, fault: Fault) -> None:
        fault.begin(self)
        self._wire.begin(fault)

    def end(self, fault: Fault) -> None:
        self._wire.end(fault)
        fault.end(self)

    def unplug(self) -> None:
        """Pull its plug, of a line that has one; harmless when it is out."""
        cast("VirtualPort", self.line).unplug()

    def plug(self) -> None:
        """Put it back; harmless when it is there."""
        cast("VirtualPort", self.line).plug()

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Send what is due at `now`, in monotonic seconds."""
        frames: list[bytes] = []
        if self._next is None or now >= self._next:
            period = 1.0 / self.RATE
            self._next = now + period if self._next is None or now - self._next > period else self._next + period
            if self.power:
                frames = self.frames(aircraft, now)
                self.rounds += 1
        self.transmit(frames, now)

    @property
    def busy(self) -> bool:
        """Whether the line still carries what was sent before."""
        return bool(self._pending)

    def transmit(self, frames: list[bytes], now: float) -> None:
        """Put `frames`, with what their wire makes of them, behind what waits, and send what the line carries by `now`.

        To be called often, with no frames too.
        """
        frames = self._wire.carry(frames, now)
        per_second = self.baud / 10
        if not self._pending:
            self._sent_until = now - 0.5 / per_second  # an idle line saves nothing up
        for frame in frames:
            if len(self._pending) + len(frame) > max(LONGEST_WAIT * per_second, len(frame)):
                self.skipped += 1
            else:
                self._pending += frame
        allowed = int((now - self._sent_until) * per_second)
        if allowed and self._pending:
            self._sent_until += allowed / per_second
            self.line.write(self._pending[:allowed])
            self._pending = self._pending[allowed:]

    def close(self) -> None:
        """Close the line."""
        self.line.close()
