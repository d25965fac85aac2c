"""What virtual nodes can do wrong: `FAULTS` by name, each a wrapper around a node's sending or around its wire.

    station = Station(Engine())
    station.begin(Babbling(rate=5000))
    station.due(now, view)              # the node's frames, and the babble

The fields of a fault are its options in a scenario; a wrong value raises ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ClassVar

from fixgw.hw_sim import faults as wire
from fixgw.hw_sim.aircraft import Value
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

#: The parameters that are sent as FLOAT.
FLOATS = frozenset({0x1C3, 0x1C4, 0x1D1, 0x1D2, 0x1D4, 0x1D5, 0x481, 0x482, 0x487, 0x488, 0x496, 0x497})
UNDEFINED_META = 13  # no parameter has a meta with this index
MAX_AT_ONCE = 5000  # frames that a babbling node sends in one go, however late it is


def is_value(frame: SimFrame) -> bool:
    """Whether a frame carries a parameter's live value."""
    return 0x100 <= frame.arbitration_id < 0x600 and len(frame.data) > 3 and not frame.data[2] >> 4


class Fault:
    """A perfect node; the base of all faults."""

    #: Whether the node no longer receives.
    deaf: ClassVar[bool] = False

    def begin(self, node: VirtualNode) -> None:
        """The fault begins."""

    def end(self, node: VirtualNode) -> None:
        """The fault ends."""

    def received(self, id: int, data: bytes) -> None:
        """Pass on what the node receives."""

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        """Return what the node sends; `produce` returns what it would have sent."""
        return produce(now, view)


class Each(Fault):
    """A fault of every frame."""

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        return [other for frame in produce(now, view) for other in self.spoil(frame)]

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        """Return what is sent in place of `frame`."""
        raise NotImplementedError


# -- the node is silent or deaf ----------------------------------------------------------------------------------------


class Silent(Fault):
    """Neither sends nor receives: unplugged, while the device runs on."""

    deaf = True

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        produce(now, view)
        return []


class PowerOff(Fault):
    """Is switched off, and restarts afterwards."""

    deaf = True

    def begin(self, node: VirtualNode) -> None:
        node.power_cycle()

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        return []


class BusOff(Silent):
    """Its controller has left the bus after too many failed frames."""

    def begin(self, node: VirtualNode) -> None:
        node.send_errors += 256


class Deaf(Fault):
    """Sends, but answers no request."""

    deaf = True


# -- the values are wrong ----------------------------------------------------------------------------------------------


class Frozen(Fault):
    """Keeps sending the values of the moment when it froze."""

    def __init__(self) -> None:
        self._view: View | None = None

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        if self._view is None:
            self._view = view
        return produce(now, self._view)


@dataclass
class _Flagged(Each):
    """Values of one `parameter`, or all values, carry a flag."""

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
    """Values are marked as being of doubtful quality."""

    flag = QUALITY


class Annunciating(_Flagged):
    """Values ask for the pilot's attention."""

    flag = ANNUNCIATE


@dataclass
class NotANumber(Each):
    """Numbers sent as FLOAT are NaN or infinite."""

    infinite: bool = False

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        if is_value(frame) and frame.arbitration_id in FLOATS:
            value = struct.pack("<f", float("inf" if self.infinite else "nan"))
            frame = frame._replace(data=frame.data[:3] + value)
        return [frame]


class UndefinedMeta(Each):
    """Each value is accompanied by one with an undefined meta index and every bit inverted."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        yield frame
        if is_value(frame):
            node, index, code, *value = frame.data
            yield frame._replace(data=bytes((node, index, code | UNDEFINED_META << 4, *(b ^ 0xFF for b in value))))


@dataclass
class ClockDrift(Fault):
    """Its clock is off by a share: 0.1 is 10 % too fast, -0.5 is half speed."""

    by: float = 0.05

    def __post_init__(self) -> None:
        check("by", self.by, -0.99, 10.0)

    def begin(self, node: VirtualNode) -> None:
        node.clock_rate = 1.0 + self.by

    def end(self, node: VirtualNode) -> None:
        node.clock_rate = 1.0


class OldLibrary(Each):
    """Answers like devices built on the early C libraries.

    Does not answer disable and enable, answers a refused bit rate with 1 instead of 0xFF, and a new node id without the
    zero.
    """

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        if (
            NODE_SPECIFIC < frame.arbitration_id < NODE_SPECIFIC + 256 and frame.data
        ):  # another fault may have emptied it
            control, *body = frame.data
            if control in (DISABLE, ENABLE):
                return []
            if control == BIT_RATE and body[1:] == [0xFF]:
                return [frame._replace(data=bytes((control, body[0], 1)))]
            if control == NODE_ID:
                return [frame._replace(data=frame.data[:2])]
        return [frame]


# -- the form of the frames is wrong -----------------------------------------------------------------------------------


@dataclass
class WrongLength(Each):
    """Every frame has too many or too few bytes, within 0 to 8; additional ones are 0xFF."""

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
    """Every frame has a 29-bit identifier, with the same number."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        return [frame._replace(extended=True)]


class Remote(Each):
    """Requests its own frames instead of sending them."""

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        return [SimFrame(frame.arbitration_id, remote=True)]


# -- the node sends too much -------------------------------------------------------------------------------------------


class Reserved(Each):
    """Sends everything on a reserved identifier as well: 0, or one of 0x600 to 0x6E0."""

    IDS = (0x000, 0x600, 0x6DF, 0x6E0)

    def __init__(self) -> None:
        self._sent = 0

    def spoil(self, frame: SimFrame) -> Iterable[SimFrame]:
        self._sent += 1
        return [frame, frame._replace(arbitration_id=self.IDS[self._sent % len(self.IDS)])]


@dataclass
class Flood(Fault):
    """Sends `rate` additional frames a second, regardless of what the bus can carry."""

    rate: float = 2000.0

    def __post_init__(self) -> None:
        check("rate", self.rate, 0.1, 1e6)
        self._last: float | None = None
        self._owed = 0.0

    def due(self, produce: Producer, now: float, view: View) -> list[SimFrame]:
        frames = produce(now, view)
        self._owed += self.rate * (now - self._last) if self._last is not None else 0.0
        self._last = now
        count = min(int(self._owed), MAX_AT_ONCE)
        self._owed -= int(self._owed)
        return frames + self.more(count, frames)

    def more(self, count: int, frames: list[SimFrame]) -> list[SimFrame]:
        raise NotImplementedError


@dataclass
class Babbling(Flood):
    """Repeats one frame without end: with the identifier `id` if given, else the last one that the node sent."""

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
    """Sends random frames of every kind; the same `seed` gives the same frames."""

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
    """Sends on a two-way `channel` that nobody has requested."""

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
    """A second device of this kind is on the bus, with the same node id or with `id`. It reads 2 % less."""

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
    """A node and its present faults. The last fault to begin acts last."""

    def __init__(self, node: VirtualNode) -> None:
        self.node = node
        #: Keys that it sees at another value than the aircraft has; the last of a key counts.
        self.holds: tuple[tuple[str, Value], ...] = ()
        self._wire = Wire()
        self._faults: list[Fault] = []

    def begin(self, fault: Fault | wire.Fault) -> None:
        if isinstance(fault, wire.Fault):
            self._wire.begin(fault)
            return
        fault.begin(self.node)
        self._faults = [*self._faults, fault]

    def end(self, fault: Fault | wire.Fault) -> None:
        """Harmless if the fault has ended."""
        if isinstance(fault, wire.Fault):
            self._wire.end(fault)
        elif any(f is fault for f in self._faults):
            self._faults = [f for f in self._faults if f is not fault]
            fault.end(self.node)

    def received(self, frame: SimFrame) -> None:
        """Pass on a frame from another node. Any thread."""
        id, data, extended, remote, fd, _ = frame
        if extended or remote or fd:
            return
        faults = self._faults
        if not faults or not any(fault.deaf for fault in faults):
            self.node.received(id, data)
            for fault in faults:
                fault.received(id, data)

    def due(self, now: float, view: View) -> list[SimFrame]:
        """Return what the node sends at `now`, in monotonic seconds."""
        if self.holds:
            view = {**view, **dict(self.holds)}
        produce: Producer = self.node.due
        for fault in self._faults:
            produce = partial(fault.due, produce)
        return self._wire.carry(produce(now, view), now)
