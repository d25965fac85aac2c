"""The raw data of every link, before any protocol decodes it: a recorder taps it here.

    tap = raw.listen(db, heard, log)       # heard(connection, monotonic seconds, direction, data)
    ...
    tap.close()

A listener first hears which links are open, and what was exchanged to set them up. Every link passes on what it reads
and writes through the `Point` of its gateway's database: the bytes of a serial line or a socket, lists of CAN frames
under the name of the bus, ``(register, bytes)`` of a chip (on SPI the first two bytes of the request instead of a
register), levels of pins, and what happens to the link. While nobody listens, this costs one look at an empty table per
read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import logging

#: Read; written; or read, but discarded as too old, because the process was held up.
Direction = Literal["in", "out", "discarded"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("in", "out", "discarded")
#: Called on the link's thread: it must return at once, and must not change `data`.
Listener = Callable[[str, float, Direction, Any], object]


REGISTERS: Final = 0x7FFF  # registers of chips are below
What = Literal["opened", "lost", "baud", "polled"]


class Event(NamedTuple):
    """Something happened to a link: `link` is its kind ("serial", "can", "chip", "pins").

    ``opened``: the link is open; ``baud``: at another bit rate from now on (`detail`); ``lost``: it is gone or closed,
    or could not be opened, and `detail` says why; ``polled``: a chip has been polled once.
    """

    link: str
    what: What
    detail: str = ""


#: Ends the transfers of one poll of a chip.
POLLED: Final = Event("chip", "polled")


class Failure(NamedTuple):
    """A transfer with a chip failed with an OSError."""

    register: int
    errno: int
    text: str


class PinLevel(NamedTuple):
    """A pin is high or low; with `edge`, the library has reported an edge at this instant."""

    pin: int
    high: bool
    edge: bool = False


class Heard(NamedTuple):
    """One read or write of a link; `stamp` in monotonic seconds."""

    connection: str
    stamp: float
    direction: Direction
    data: Any


class Tap:
    """One listener. `failure` says why it is no longer called; empty while it is."""

    def __init__(self, point: Point, listener: Listener, log: logging.Logger) -> None:
        self.listener = listener
        self.log = log
        self.failure = ""
        self._point = point

    def close(self) -> None:
        """Stop listening; a call in progress may still finish. Any thread; may be called twice."""
        self._point.taps.pop(self, None)


class Feed:
    """Recorded data of one connection, which its link takes in place of a device. One thread.

    Whoever replays puts `entries` here, and lets the link take them. A serial line takes pieces of bytes, a CAN bus
    lists of frames, a chip the transfers of one poll. `levels` are those of pins.
    """

    def __init__(self, sent: Callable[[Any], object]) -> None:
        #: Why the device cannot be opened or is gone; empty while it is there.
        self.trouble = "the recording has no data of it"
        self.entries: deque[Heard] = deque()
        #: Whether the process was held up before the next of `entries`, which the link discarded.
        self.held_up = False
        self.levels: dict[int, bool] = {}
        #: What to call at an edge of a pin.
        self.callbacks: dict[int, Callable[[], object]] = {}
        #: Pins without edge detection.
        self.polled: frozenset[int] = frozenset()
        #: Called with all that the link sends. False: there was no room for it.
        self.sent = sent


#: Returns what a late listener must know of an open link.
Facts = Callable[[], Iterable[Heard]]


class Point:
    """Where the links of one gateway pass on their reads and writes. Any thread.

    if point.taps:
        point.pass_on(self.name, now, "in", data)
    """

    def __init__(self) -> None:
        self.taps: dict[Tap, None] = {}
        #: The open links, by kind and connection.
        self.open: dict[tuple[str, str], Facts] = {}
        #: In a replay or a rig: returns what a link takes, by its name. A link must then not open its device. None for
        #: one whose device is virtual.
        self.feeds: Callable[[str], Feed | None] | None = None

    def feed(self, connection: str) -> Feed | None:
        """What the link takes in place of its device in a replay; None otherwise."""
        return None if self.feeds is None else self.feeds(connection)

    def opened(self, link: str, connection: str, facts: Facts) -> None:
        """Note that a link has been opened. The last of the `facts` is the event itself."""
        self.open[link, connection] = facts
        if self.taps:
            self.pass_on(*[*facts()][-1])

    def lost(self, link: str, connection: str, stamp: float, why: str) -> None:
        """Note that a link is gone or closed, or could not be opened."""
        self.open.pop((link, connection), None)
        if self.taps:
            self.pass_on(connection, stamp, "in", Event(link, "lost", why))

    def facts(self) -> list[Heard]:
        """What a late listener must know."""
        return [heard for facts in list(self.open.values()) for heard in facts()]

    def pass_on(self, connection: str, stamp: float, direction: Direction, data: Any) -> None:
        """Never raises: a listener that raises is logged once, and never called again."""
        for tap in list(self.taps):
            try:
                tap.listener(connection, stamp, direction, data)
            except Exception as error:
                self.fail(tap, error, connection)

    def fail(self, tap: Tap, error: Exception, connection: str = "the links") -> None:
        """Close a tap whose listener has raised an error."""
        tap.close()
        tap.failure = f"{type(error).__name__}: {error}"
        tap.log.error("recording of %s failed, and has stopped: %s", connection, tap.failure)


_points: WeakKeyDictionary[object, Point] = WeakKeyDictionary()


def point(database: object) -> Point:
    """The `Point` of the gateway that owns `database`."""
    return _points.setdefault(database, Point())


def forget(database: object) -> None:
    """Give up the point of a database that has ended. What links have left there would keep both for ever."""
    _points.pop(database, None)


def listen(database: object, listener: Listener, log: logging.Logger) -> Tap:
    """Call `listener` for every read and write of this gateway's links. Any thread.

    On this thread, it first hears of the links that are open, with stamps in the past. A listener that raises is logged
    to `log`, and never called again.
    """
    here = point(database)
    tap = Tap(here, listener, log)
    here.taps[tap] = None
    try:
        for heard in here.facts():
            listener(*heard)
    except Exception as error:
        here.fail(tap, error)
    return tap


class Buffer:
    """A listener that keeps up to `size` entries until they are taken; it loses the oldest first."""

    def __init__(self, size: int) -> None:
        self._kept: deque[Heard] = deque(maxlen=size)
        #: Entries lost. Approximate while several links are active.
        self.lost = 0

    def __call__(self, connection: str, stamp: float, direction: Direction, data: Any) -> None:
        self.lost += len(self._kept) == self._kept.maxlen
        self._kept.append(Heard(connection, stamp, direction, data))

    def take(self) -> list[Heard]:
        """Return and forget the entries since the last call, in order. One thread at a time."""
        kept = self._kept
        return [kept.popleft() for _ in range(len(kept))]
