"""What virtual nodes can do wrong: `FAULTS` by name, each a wrapper around a node's sending, or around its wire.

    station = Station(Engine())
    station.begin(Babbling(rate=5000))
    station.due(now, view)              # the node's frames, and the babble

A fault's fields are its options in a scenario; a wrong one is a ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ClassVar

from fixgw.hw_sim import faults as wire
from fixgw.hw_sim.can.nodes import (
    ANNUNCIATE,
    BIT_RATE,
    DISABLE,
    ENABLE,
    FAILURE,
    NODE_ID,
    NODE_SPECIFIC,
    QUALITY,
    View,
    VirtualNode,
)
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.faults import Wire, check

Producer = Callable[[float, View], list[SimFrame]]

#: The parameters that travel as FLOAT.
FLOATS = frozenset({0x1C3, 0x1C4, 0x1D1, 0x1D2, 0x1D4, 0x1D5, 0x481, 0x482, 0x487, 0x488, 0x496, 0x497})
UNDEFINED_META = 13  # no parameter has one of this index
MOST_AT_ONCE = 5000  # frames that a babbling node sends in one go, however late it is


def is_value(frame: SimFrame) -> bool:
    """Whether a frame is a parameter's live value."""
    return 0x100 <= frame.arbitration_id < 0x600 and len(frame.data) > 3 and not frame.data[2] >> 4


class Fault:
    """A node in perfect order, to derive from."""

    #: Whether the node no longer hears the others.
    deaf: ClassVar[bool] = False

    def begin(self, node: VirtualNode) -> None:
        """It breaks."""

    def end(self, node: VirtualNode) -> None:
        """It is whole again."""

    def received(self, id: int, data: bytes) -> None:
        """What the node hears."""

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        """What the node sends; `produce` is what it would have sent."""
        return produce(now, view)


class Each(Fault):
    """Something is wrong with every frame."""

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        return [other for frame in produce(now, view) for other in self.spoil(frame)]

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        """What is sent in place of `frame`."""
        raise NotImplementedError


# -- it says nothing ---------------------------------------------------------------------------------------------------


class Silent(Fault):
    """Neither sends nor hears; the plug is out, the device runs on."""

    deaf = True

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        produce(now, view)
        return []


class PowerOff(Fault):
    """Is switched off, and starts afterwards."""

    deaf = True

    def begin(self, node: VirtualNode) -> None:
        node.power_cycle()

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        return []


class BusOff(Silent):
    """So many of its frames have failed that its controller has left the bus."""

    def begin(self, node: VirtualNode) -> None:
        node.send_errors += 256


class Deaf(Fault):
    """Sends, but answers nothing."""

    deaf = True


# -- it says wrong things ----------------------------------------------------------------------------------------------


class Frozen(Fault):
    """Sends the values of the moment when it froze, for ever."""

    def __init__(self) -> None:
        self._view: View | None = None

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        if self._view is None:
            self._view = view
        return produce(now, self._view)


@dataclass
class _Flagged(Each):
    """Values carry a flag: those of one `parameter`, or all."""

    parameter: int | None = None

    flag: ClassVar[int] = 0

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        if is_value(frame) and self.parameter in (None, frame.arbitration_id):
            node, index, code, *value = frame.data
            frame = frame._replace(data=bytes((node, index, code | self.flag, *value)))
        return [frame]


class Failed(_Flagged):
    """Values are marked as failed."""

    flag = FAILURE


class Suspect(_Flagged):
    """Values are marked as of doubtful quality."""

    flag = QUALITY


class Annunciating(_Flagged):
    """Values ask for the pilot's attention."""

    flag = ANNUNCIATE


@dataclass
class NotANumber(Each):
    """Numbers that travel as FLOAT are none, or infinite."""

    infinite: bool = False

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        if is_value(frame) and frame.arbitration_id in FLOATS:
            value = struct.pack("<f", float("inf" if self.infinite else "nan"))
            frame = frame._replace(data=frame.data[:3] + value)
        return [frame]


class UndefinedMeta(Each):
    """Beside each value goes one with a meta index that no parameter has, every bit of the value inverted."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        yield frame
        if is_value(frame):
            node, index, code, *value = frame.data
            yield frame._replace(data=bytes((node, index, code | UNDEFINED_META << 4, *(b ^ 0xFF for b in value))))


@dataclass
class ClockDrift(Fault):
    """Its clock is wrong by so much: 0.1 is ten per cent too fast, -0.5 half as fast as it should go."""

    by: float = 0.05

    def __post_init__(self) -> None:
        check("by", self.by, -0.99, 10.0)

    def begin(self, node: VirtualNode) -> None:
        node.clock_rate = 1.0 + self.by

    def end(self, node: VirtualNode) -> None:
        node.clock_rate = 1.0


class OldLibrary(Each):
    """Answers as the devices built on the early C libraries do.

    Disable and enable are not answered, a refused bit rate with 1 instead of 0xFF, a new node id without the zero.
    """

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        if NODE_SPECIFIC < frame.arbitration_id < NODE_SPECIFIC + 256:
            control, *body = frame.data
            if control in (DISABLE, ENABLE):
                return []
            if control == BIT_RATE and body[1:] == [0xFF]:
                return [frame._replace(data=bytes((control, body[0], 1)))]
            if control == NODE_ID:
                return [frame._replace(data=frame.data[:2])]
        return [frame]


# -- its frames have the wrong form ------------------------------------------------------------------------------------


@dataclass
class WrongLength(Each):
    """Every frame has so many bytes more or less than it should, within 0 to 8; additional ones are 0xFF."""

    by: int = -1

    def __post_init__(self) -> None:
        check("by", self.by, -8, 8)

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        length = max(0, min(len(frame.data) + self.by, 8))
        return [frame._replace(data=frame.data[:length].ljust(length, b"\xff"))]


class ZeroLength(Each):
    """Every frame is empty."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        return [frame._replace(data=b"")]


class Extended(Each):
    """Every frame has a 29-bit identifier, of the same number."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        return [frame._replace(extended=True)]


class Remote(Each):
    """Asks for its own frames instead of sending them."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        return [SimFrame(frame.arbitration_id, remote=True)]


# -- it sends what it should not ---------------------------------------------------------------------------------------


class Reserved(Each):
    """Sends everything on a reserved identifier too: 0, or one of 0x600 to 0x6E0."""

    IDS = (0x000, 0x600, 0x6DF, 0x6E0)

    def __init__(self) -> None:
        self._sent = 0

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        self._sent += 1
        return [frame, frame._replace(arbitration_id=self.IDS[self._sent % len(self.IDS)])]


@dataclass
class Flood(Fault):
    """Sends `rate` more frames a second, whatever the bus can carry."""

    rate: float = 2000.0

    def __post_init__(self) -> None:
        check("rate", self.rate, 0.1, 1e6)
        self._last: float | None = None
        self._owed = 0.0

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        frames = produce(now, view)
        self._owed += self.rate * (now - self._last) if self._last is not None else 0.0
        self._last = now
        count = min(int(self._owed), MOST_AT_ONCE)
        self._owed -= int(self._owed)
        return frames + self.more(count, frames)

    def more(self, count: int, frames: list[SimFrame]) -> list[SimFrame]:
        raise NotImplementedError


@dataclass
class Babbling(Flood):
    """Repeats one frame without end: identifier `id` if given, else the last that the node sent."""

    id: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.id is not None:
            check("id", self.id, 0, 0x7FF)
        self._frame = SimFrame(self.id or 0, b"\xff" * 8)

    def more(self, count: int, frames: list[SimFrame]) -> list[SimFrame]:
        if self.id is None and frames:
            self._frame = frames[-1]
        return [self._frame] * count


@dataclass
class Garbage(Flood):
    """Sends random frames of every kind; the same `seed`, the same frames."""

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._random = Random(self.seed)

    def more(self, count: int, frames: list[SimFrame]) -> list[SimFrame]:
        return [self._any() for _ in range(count)]

    def _any(self) -> SimFrame:
        random = self._random
        data = random.randbytes(random.randrange(9))
        if random.random() < 0.1:
            return SimFrame(random.getrandbits(29), data, extended=True)
        if random.random() < 0.02:
            return SimFrame(random.getrandbits(11), remote=True)
        return SimFrame(random.getrandbits(11), data)


@dataclass
class TwoWay(Flood):
    """Talks on a two-way `channel` that nobody has asked for."""

    rate: float = 10.0
    channel: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check("channel", self.channel, 0, 15)
        self._sent = 0

    def more(self, count: int, frames: list[SimFrame]) -> list[SimFrame]:
        self._sent += count
        first = self._sent - count
        return [SimFrame(0x7E0 + 2 * self.channel, struct.pack("<Q", first + i)) for i in range(count)]


@dataclass
class DuplicateNode(Fault):
    """A second device of the kind is on the bus, with the same node id, or with another: `id`. It reads 2 % less."""

    id: int | None = None

    def __post_init__(self) -> None:
        if self.id is not None:
            check("id", self.id, 1, 255)

    def begin(self, node: VirtualNode) -> None:
        self._twin = type(node)(self.id or node.id, serial=node.serial + 1)

    def received(self, id: int, data: bytes) -> None:
        self._twin.received(id, data)

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        less = {key: 0.98 * value if isinstance(value, float) else value for key, value in view.items()}
        return produce(now, view) + self._twin.due(now, less)


FAULTS: Mapping[str, type[Fault] | type[wire.Fault]] = {
    **{name: wire.FAULTS[name] for name in ("drop", "delay", "jitter", "duplicate", "truncate", "bit-flips", "stuck")},
    "silent": Silent,
    "unplug": Silent,
    "power-off": PowerOff,
    "bus-off": BusOff,
    "deaf": Deaf,
    "frozen": Frozen,
    "failed": Failed,
    "suspect": Suspect,
    "annunciating": Annunciating,
    "not-a-number": NotANumber,
    "undefined-meta": UndefinedMeta,
    "clock-drift": ClockDrift,
    "old-library": OldLibrary,
    "wrong-length": WrongLength,
    "zero-length": ZeroLength,
    "extended": Extended,
    "remote": Remote,
    "reserved": Reserved,
    "babbling": Babbling,
    "garbage": Garbage,
    "two-way": TwoWay,
    "duplicate-node": DuplicateNode,
}


class Station:
    """A node and what is wrong with it at present. The last fault to begin has the last word."""

    def __init__(self, node: VirtualNode) -> None:
        self.node = node
        self._wire = Wire()
        self._faults: list[Fault] = []

    def begin(self, fault: Fault | wire.Fault) -> None:
        if isinstance(fault, wire.Fault):
            self._wire.begin(fault)
            return
        fault.begin(self.node)
        self._faults = [*self._faults, fault]

    def end(self, fault: Fault | wire.Fault) -> None:
        """Harmless when it has ended."""
        if isinstance(fault, wire.Fault):
            self._wire.end(fault)
        elif any(f is fault for f in self._faults):
            self._faults = [f for f in self._faults if f is not fault]
            fault.end(self.node)

    def received(self, frame: SimFrame) -> None:
        """A frame that somebody else has sent. Any thread."""
        if frame.extended or frame.remote or frame.fd:
            return
        faults = self._faults
        if not any(fault.deaf for fault in faults):
            self.node.received(frame.arbitration_id, frame.data)
            for fault in faults:
                fault.received(frame.arbitration_id, frame.data)

    def due(self, now: float, view: View) -> list[SimFrame]:
        """What it sends at `now`, in monotonic seconds."""
        produce: Producer = self.node.due
        for fault in self._faults:
            produce = partial(fault.due, produce)
        return self._wire.carry(produce(now, view), now)
