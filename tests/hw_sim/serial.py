"""The base of all virtual instruments on a serial line: `SerialInstrument`.

class Eis(SerialInstrument):
    BAUD = 9600
    RATE = 5.0

    def frames(self, aircraft, now):
        return [...]                      # one round: the whole frames that the real one sends in one go
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from fixgw.hw_sim.aircraft import Aircraft, Seen, Value
from fixgw.hw_sim.faults import Fault, Wire

if TYPE_CHECKING:
    from fixgw.hw_sim.pty import VirtualPort

MAX_BACKLOG_S = 1.0  # line time of the data waiting to be sent; more is left out, as real instruments do


class Line(Protocol):
    """Whatever an instrument's transmit pin is connected to, for instance a `VirtualPort`."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None: ...


class SerialInstrument:
    """An instrument of the `World`, which calls `tick`. It sends `RATE` rounds a second, or as many as its line allows.

    `baud` is the line's speed (10 bits per byte). Faults may `begin` and `end` at any time, on the wire between the
    instrument and its line; `power` switches it off and on. One thread at a time.
    """

    #: Its name among the instruments, and a description for people.
    NAME: ClassVar[str] = ""
    WHAT: ClassVar[str] = ""
    BAUD: ClassVar[int] = 9600
    #: Rounds per second.
    RATE: ClassVar[float] = 1.0
    #: The UDP port to which the real one sends, too, or in place of a line; 0: none. See `fixgw.hw_sim.datagrams`.
    UDP_PORT: ClassVar[int] = 0
    #: Every so many rounds, all of its messages are in one.
    CYCLE: ClassVar[int] = 1

    def __init__(self, line: Line, baud: int | None = None) -> None:
        self.line = line
        self.baud = baud or self.BAUD
        self.power = True
        #: Keys that it sees at another value than the aircraft has; the last of a key counts.
        self.holds: tuple[tuple[str, Value], ...] = ()
        #: Rounds sent, and frames left out because the line was busy.
        self.rounds = 0
        self.skipped = 0
        self._wire = Wire()
        self._pending = b""
        self._next: float | None = None
        self._sent_until = 0.0
        self._lapsing = False

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        """The frames of one round, at `now` in monotonic seconds."""
        raise NotImplementedError

    def begin(self, fault: Fault) -> None:
        fault.begin(self)
        self._wire.begin(fault)

    def end(self, fault: Fault) -> None:
        self._wire.end(fault)
        fault.end(self)

    def unplug(self) -> None:
        """Unplug the line, if it has a plug; harmless if it is unplugged."""
        cast("VirtualPort", self.line).unplug()

    def plug(self) -> None:
        """Plug the line in again; harmless if it is plugged in."""
        cast("VirtualPort", self.line).plug()

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Send what is due at `now`, in monotonic seconds."""
        frames: list[bytes] = []
        if self._next is None or now >= self._next:
            period = 1.0 / self.RATE
            self._next = now + period if self._next is None or now - self._next > period else self._next + period
            if self.power:
                seen = cast("Aircraft", Seen(aircraft, self.holds)) if self.holds else aircraft
                frames = self.frames(seen, now)
                self.rounds += 1
        self.transmit(frames, now)

    def lapse(self) -> None:
        """Let the next tick send a round with all messages, and the line carry it at once: for a time lapse."""
        self.rounds = -(-self.rounds // self.CYCLE) * self.CYCLE
        self._next, self._lapsing = None, True

    @property
    def busy(self) -> bool:
        """Whether the line is still sending earlier data."""
        return bool(self._pending)

    def transmit(self, frames: list[bytes], now: float) -> None:
        """Pass `frames` through the wire, queue the result, and send what the line can carry by `now`.

        Call it often, even without frames.
        """
        frames = self._wire.carry(frames, now)
        per_second = self.baud / 10
        if not self._pending:
            self._sent_until = now - 0.5 / per_second  # an idle line does not accumulate capacity
        for frame in frames:
            if len(self._pending) + len(frame) > max(MAX_BACKLOG_S * per_second, len(frame)):
                self.skipped += 1
            else:
                self._pending += frame
        allowed = len(self._pending) if self._lapsing else int((now - self._sent_until) * per_second)
        if allowed and self._pending:
            self._sent_until += allowed / per_second
            self.line.write(self._pending[:allowed])
            self._pending = self._pending[allowed:]
        self._lapsing = False

    def close(self) -> None:
        """Close the line."""
        self.line.close()
