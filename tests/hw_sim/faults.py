"""What can go wrong between an instrument and its listener: `FAULTS` by name, for bytes and CAN frames alike.

    wire = Wire()
    wire.begin(BitFlips(rate=0.01))
    for frame in wire.carry([b"$GPRMC,...\\r\\n"], now): port.write(frame)

A wire carries frames: whatever an instrument sends in one piece, as bytes, or anything with an attribute ``data`` and a
method ``_replace`` (a CAN frame). Faults on a wire add up; the last one to begin acts last. The fields of a fault are
its options in a scenario; a wrong value raises ValueError. The same `seed` gives the same trouble. Nothing here has a
thread or a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

F = TypeVar("F", bound=Any)

MAX_HELD = 10_000  # frames that a delay holds back; more are lost


class Fault:
    """A perfect wire; the base of all faults."""

    def begin(self, device: Any) -> None:
        """The fault begins on the wire of `device`."""

    def end(self, device: Any) -> None:
        """The fault ends."""

    def carry(self, frames: list[F], now: float) -> list[F]:
        """Return the frames that come out at `now`, in monotonic seconds, when `frames` go in. Also called without
        frames."""
        return [other for frame in frames for other in self.spoil(frame)]

    def spoil(self, frame: F) -> Iterable[F]:
        """Return what comes out in place of one `frame`."""
        return [frame]


@dataclass
class _Sometimes(Fault):
    """Affects a share `rate` of the frames, 0 to 1."""

    rate: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check("rate", self.rate, 0.0, 1.0)
        self.random = Random(self.seed)

    def spoil(self, frame: F) -> Iterable[F]:
        return self.affect(frame) if self.random.random() < self.rate else [frame]

    def affect(self, frame: F) -> Iterable[F]:
        raise NotImplementedError


class Drop(_Sometimes):
    """Frames are lost."""

    def affect(self, frame: F) -> Iterable[F]:
        return []


class Duplicate(_Sometimes):
    """Frames arrive twice."""

    def affect(self, frame: F) -> Iterable[F]:
        return [frame, frame]


class Truncate(_Sometimes):
    """Frames lose their end: at least one byte, at most all but one."""

    def affect(self, frame: F) -> Iterable[F]:
        data = data_of(frame)
        return [with_data(frame, data[: self.random.randrange(1, len(data))])] if len(data) > 1 else []


@dataclass
class BitFlips(Fault):
    """Each bit is wrong with the probability `rate`."""

    rate: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        check("rate", self.rate, 0.0, 1.0)
        self._random = Random(self.seed)

    def spoil(self, frame: F) -> Iterable[F]:
        data = bytearray(data_of(frame))
        for bit in range(8 * len(data)):
            if self._random.random() < self.rate:
                data[bit // 8] ^= 1 << bit % 8
        return [with_data(frame, bytes(data))]


@dataclass
class Delay(Fault):
    """Everything arrives `by` seconds late, plus up to `jitter` seconds, but never out of order."""

    by: float = 0.5
    jitter: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check("by", self.by, 0.0, 60.0)
        check("jitter", self.jitter, 0.0, 60.0)
        self._random = Random(self.seed)
        self._held: list[tuple[float, Any]] = []

    def carry(self, frames: list[F], now: float) -> list[F]:
        for frame in frames[: MAX_HELD - len(self._held)]:
            due = now + self.by + self.jitter * self._random.random()
            self._held.append((max(due, self._held[-1][0]) if self._held else due, frame))
        ready = sum(due <= now for due, _ in self._held)
        out = [frame for _, frame in self._held[:ready]]
        del self._held[:ready]
        return out


@dataclass
class Jitter(Delay):
    """Frames arrive up to `jitter` seconds late."""

    by: float = 0.0
    jitter: float = 0.2


class Stuck(Fault):
    """The first frame after the fault began replaces every later one."""

    def __init__(self) -> None:
        self._first: Any = None

    def spoil(self, frame: F) -> Iterable[F]:
        if self._first is None:
            self._first = frame
        return [self._first]


class Unplug(Fault):
    """The device is unplugged, and plugged in again at the end, by its `unplug` and `plug`."""

    def begin(self, device: Any) -> None:
        device.unplug()

    def end(self, device: Any) -> None:
        device.plug()


class Silent(Fault):
    """Nothing gets through."""

    def carry(self, frames: list[F], now: float) -> list[F]:
        return []


@dataclass
class Garbage(Fault):
    """Up to `most` random bytes precede every frame; on a CAN bus they replace its data."""

    most: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        check("most", self.most, 1, 10_000)
        self._random = Random(self.seed)

    def spoil(self, frame: F) -> Iterable[F]:
        junk = self._random.randbytes(self._random.randint(1, self.most))
        return [with_data(frame, junk + frame if isinstance(frame, bytes) else junk[:8])]


@dataclass
class Flood(Fault):
    """Every frame arrives `times` times."""

    times: int = 10

    def __post_init__(self) -> None:
        check("times", self.times, 1, 1000)

    def spoil(self, frame: F) -> Iterable[F]:
        return [frame] * self.times


@dataclass
class BaudMismatch(Fault):
    """The listener's clock runs at `ratio` times the sender's, so it reads other bits than were sent.

    Each byte is sampled as a UART does: a start bit, eight data bits, a stop bit, each in the middle of what the
    listener takes for a bit. Bytes without a stop bit are dropped, as by a UART whose framing errors are ignored.
    """

    ratio: float = 0.5

    def __post_init__(self) -> None:
        check("ratio", self.ratio, 0.01, 100.0)

    def spoil(self, frame: F) -> Iterable[F]:
        data = data_of(frame)
        line = [bit for byte in data for bit in (0, *(byte >> i & 1 for i in range(8)), 1)]
        line += [1] * 10
        out, at, step = bytearray(), 0.0, 1.0 / self.ratio
        while at + 10 * step <= len(line):
            if line[int(at)]:  # idle: look for the next falling edge
                at = float(int(at) + 1)
                continue
            bits = [line[int(at + (i + 0.5) * step)] for i in range(10)]
            if bits[9]:
                out.append(sum(bit << i for i, bit in enumerate(bits[1:9])))
            at += 9.5 * step
        return [with_data(frame, bytes(out))] if out else []


def data_of(frame: Any) -> bytes:
    return frame if isinstance(frame, bytes) else frame.data


def with_data(frame: F, data: bytes) -> F:
    return data if isinstance(frame, bytes) else frame._replace(data=data)  # type: ignore[return-value]


def check(option: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless `value` is in its range."""
    if not low <= value <= high:
        raise ValueError(f"{option}: {value:g} is not from {low:g} to {high:g}")


#: The faults of wires, by name.
FAULTS: Mapping[str, type[Fault]] = {
    "drop": Drop,
    "delay": Delay,
    "jitter": Jitter,
    "duplicate": Duplicate,
    "truncate": Truncate,
    "bit-flips": BitFlips,
    "stuck": Stuck,
    "unplug": Unplug,
    "silent": Silent,
    "garbage": Garbage,
    "flood": Flood,
    "baud-mismatch": BaudMismatch,
}


class Wire:
    """A wire and its present faults. The last fault to begin acts last."""

    def __init__(self) -> None:
        self._faults: tuple[Fault, ...] = ()

    def begin(self, fault: Fault) -> None:
        self._faults = (*self._faults, fault)

    def end(self, fault: Fault) -> None:
        """Harmless if the fault has ended."""
        self._faults = tuple(f for f in self._faults if f is not fault)

    def carry(self, frames: list[F], now: float) -> list[F]:
        """Return the frames that come out at `now`, in monotonic seconds. Call it often, even without frames."""
        for fault in self._faults:
            frames = fault.carry(frames, now)
        return frames
