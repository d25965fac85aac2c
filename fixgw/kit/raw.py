"""What comes over the links before anybody makes sense of it: where a recorder listens.

    tap = raw.listen(db, heard, log)       # heard(connection, monotonic seconds, direction, data)
    ...
    tap.close()

Every link passes on what it has read or written, by way of the `Point` of its gateway's database: bytes of a serial
line or a socket, lists of CAN frames under the name of the bus, and ``(register, bytes)`` of a chip (on SPI the first
byte of the request instead of a register). While nobody listens, that costs one look at an empty table for each read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import logging

Direction = Literal["in", "out"]
#: Called on the link's thread: it must return at once. `data` is not to be changed.
Listener = Callable[[str, float, Direction, Any], object]


class Heard(NamedTuple):
    """One thing that a link has read or written; `stamp` in monotonic seconds."""

    connection: str
    stamp: float
    direction: Direction
    data: Any


class Tap:
    """One listener. `failure` says why it is not called any more; empty while it is."""

    def __init__(self, point: Point, listener: Listener, log: logging.Logger) -> None:
        self.listener = listener
        self.log = log
        self.failure = ""
        self._point = point

    def close(self) -> None:
        """Hear no more; a call under way may still come to its end. Any thread; may be called twice."""
        self._point.taps.pop(self, None)


class Point:
    """Where the links of one gateway pass on what they read and write. Any thread.

    if point.taps:
        point.pass_on(self.name, now, "in", data)
    """

    def __init__(self) -> None:
        self.taps: dict[Tap, None] = {}

    def pass_on(self, connection: str, stamp: float, direction: Direction, data: Any) -> None:
        """Never raises: a listener that does is heard of once, and called no more."""
        for tap in list(self.taps):
            try:
                tap.listener(connection, stamp, direction, data)
            except Exception as error:
                tap.close()
                tap.failure = f"{type(error).__name__}: {error}"
                tap.log.error("recording %s failed, and ends: %s", connection, tap.failure)


_points: WeakKeyDictionary[object, Point] = WeakKeyDictionary()


def point(database: object) -> Point:
    """The one of the gateway whose database this is."""
    return _points.setdefault(database, Point())


def listen(database: object, listener: Listener, log: logging.Logger) -> Tap:
    """Have `listener` called for all that the links of this gateway read and write. Any thread.

    A listener that raises is called no more, which `log` hears of.
    """
    here = point(database)
    tap = Tap(here, listener, log)
    here.taps[tap] = None
    return tap


class Buffer:
    """A listener that keeps at most `size` of what it hears until somebody takes it; the oldest is lost first."""

    def __init__(self, size: int) -> None:
        self._kept: deque[Heard] = deque(maxlen=size)
        #: How many were lost. Approximate while several links talk at the same time.
        self.lost = 0

    def __call__(self, connection: str, stamp: float, direction: Direction, data: Any) -> None:
        self.lost += len(self._kept) == self._kept.maxlen
        self._kept.append(Heard(connection, stamp, direction, data))

    def take(self) -> list[Heard]:
        """What has been heard since the last call, in order. One thread at a time."""
        kept = self._kept
        return [kept.popleft() for _ in range(len(kept))]
