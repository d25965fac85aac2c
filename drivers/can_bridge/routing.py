"""Routing of frames between CAN buses: filters, new identifiers, rate limits, loop prevention. No I/O, no clock.

    router = Router([Route(source="engine", target="panel"), Route(source="panel", target="engine", ids=...)])
    for direction, frame in router.route("engine", received, now):   # call router.due(now) from time to time as well
        ...                                                          # send `frame` on the bus `direction.target`

Loops. A router remembers the frames that it has received from and sent to each bus in the last `window` seconds. A
frame that it receives from a bus to which it has just sent the same frame has come back, and is not forwarded. A frame
that it has just received from a bus is not sent there. So two bridges in parallel, or any number in a ring, forward
each frame a few times at most. A frame could still circulate if a router receives it first from the other bridge, or if
the other bridge has no such rule. Therefore, for `HOLD_S` seconds after an identifier has come back, its frames are
forwarded only if they differ from those of the last `window` seconds.

In this module an identifier is a number, with `EXTENDED` added if it has 29 bits.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import NamedTuple

import msgspec

from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame

__all__ = ["Direction", "Ids", "Route", "Router", "Shift", "format_id", "parse_ids", "parse_shift"]

HOLD_S = 10.0  # how long a returned frame restricts its identifier and counts towards a ring
RING_RETURNS = 3  # frames returned within `HOLD_S` that make a ring
MAX_REMEMBERED = 4096  # frames in each of the two generations of a bus's memory
MAX_STREAMS = 4096  # streams that the rate limit of one route distinguishes
MAX_PLANS = 8192  # identifiers per bus with a cached plan
MAX_LISTED = 256  # identifiers of 29 bits in a range that are filtered one by one

_BASE, _LONG = 0x7FF, 0x1FFFFFFF

# -- identifiers -------------------------------------------------------------------------------------------------------


class Ids(NamedTuple):
    """The identifiers from `first` to `last`; or with a `mask`, those that equal `first` in the mask's bits."""

    first: int
    last: int
    mask: int | None = None

    def contains(self, identifier: int) -> bool:
        if self.mask is not None:
            return identifier & self.mask == self.first
        return self.first <= identifier <= self.last


class Shift(NamedTuple):
    """The identifiers from `first` to `last` are shifted by `offset`."""

    first: int
    last: int
    offset: int


BASE, LONG = Ids(0, _BASE), Ids(EXTENDED, EXTENDED | _LONG)  # all of 11, all of 29 bits

_NUMBER = r"(0[xX][0-9a-fA-F]+|[0-9]+)"
_IDS = re.compile(rf"(ext\s+)?{_NUMBER}(?:\s*([-/])\s*{_NUMBER})?")


def parse_ids(text: int | str) -> Ids:
    """``0x183``, ``"0x200-0x27F"``, ``"0x500/0x7F0"`` (identifier/mask), ``"base"``, ``"extended"``.

    Numbers above 0x7FF are identifiers of 29 bits; smaller ones are too with ``ext`` before them. Raises ValueError.
    """
    if isinstance(text, int):
        identifier = _identifier(text, False)
        return Ids(identifier, identifier)
    text = text.strip()
    if text in ("base", "extended"):
        return BASE if text == "base" else LONG
    match = _IDS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not an identifier, a range (0x200-0x27F), an identifier/mask, 'base' or 'extended'"
        )
    extended, sign = bool(match[1]), match[3]
    first = _identifier(_number(match[2]), extended)
    if sign is None:
        return Ids(first, first)
    second = _number(match[4])
    if sign == "-":
        last = _identifier(second, extended)
        if (first ^ last) & EXTENDED:
            raise ValueError(f"{text} begins with an identifier of 11 bits and ends with one of 29: put ext before it?")
        if last < first:
            raise ValueError(f"{text} ends before it begins")
        return Ids(first, last)
    if second > (_LONG if first & EXTENDED else _BASE):
        raise ValueError(f"{text}: the mask has more bits than the identifier")
    mask = second | EXTENDED
    return Ids(first & mask, first & mask, mask)


def parse_shift(which: int | str, to: int | str) -> Shift:
    """Parse an identifier or range, and the new identifier of its first. Raises ValueError."""
    source, target = parse_ids(which), parse_ids(to)
    if source.mask is not None:
        raise ValueError(f"{which}: a mask cannot be remapped, only an identifier or a range")
    if target.mask is not None or target.first != target.last:
        raise ValueError(f"{to}: expected a single identifier, the new one for the first of {which}")
    end = target.first + source.last - source.first
    if end > (EXTENDED | _LONG if target.first & EXTENDED else _BASE):
        raise ValueError(f"{which} does not fit when it begins at {to}")
    return Shift(source.first, source.last, target.first - source.first)


def format_id(identifier: int) -> str:
    """An identifier as text, in the form that `parse_ids` reads."""
    number = identifier & _LONG
    return f"ext {number:#x}" if identifier & EXTENDED and number <= _BASE else f"{number:#x}"


def _number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _identifier(number: int, extended: bool) -> int:
    if not 0 <= number <= _LONG:
        raise ValueError(f"{number:#x} is not an identifier of 11 or 29 bits")
    return number | EXTENDED if extended or number > _BASE else number


# -- routes ------------------------------------------------------------------------------------------------------------


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route from one bus to another. `ids` and `exclude` are identifiers on the source bus; empty `ids` mean all.

    With a `rate`, each identifier is sent at most that many times per second; the newest frame is always sent, as soon
    as the rate allows. `rate_bytes` is the number of leading data bytes that distinguish streams with one identifier.
    A `backward` route is the reverse of another route: it swaps source and target and undoes the shifts.
    """

    source: str
    target: str
    ids: tuple[Ids, ...] = ()
    exclude: tuple[Ids, ...] = ()
    shifts: tuple[Shift, ...] = ()
    rate: float | None = None
    rate_bytes: int = 0
    backward: bool = False

    def reversed(self) -> Route:
        return msgspec.structs.replace(self, source=self.target, target=self.source, backward=not self.backward)

    def translate(self, identifier: int) -> int | None:
        """The identifier on the target bus of a frame from the source; None if the route does not forward it."""
        if not self.backward:
            return self._shift(identifier) if self._passes(identifier) else None
        for _, _, offset in self.shifts:
            if self._shift(identifier - offset) == identifier and self._passes(identifier - offset):
                return identifier - offset
        if any(shift.first <= identifier <= shift.last for shift in self.shifts):
            return None  # on the other bus this identifier means something else
        return identifier if self._passes(identifier) else None

    def pairs(self) -> list[tuple[int, int]] | None:
        """Every identifier that may pass, with its new identifier; None when there are too many to list."""
        candidates = list(range(_BASE + 1))
        for ids in self.ids or (BASE, LONG):
            if ids.first & EXTENDED:
                if ids.mask is not None or ids.last - ids.first >= MAX_LISTED:
                    return None
                candidates += range(ids.first, ids.last + 1)
        pairs = [(i, self._shift(i)) for i in candidates if self._passes(i)]
        return [(there, here) for here, there in pairs] if self.backward else pairs

    def _passes(self, identifier: int) -> bool:
        if self.ids and not any(ids.contains(identifier) for ids in self.ids):
            return False
        return not any(ids.contains(identifier) for ids in self.exclude)

    def _shift(self, identifier: int) -> int:
        for first, last, offset in self.shifts:
            if first <= identifier <= last:
                return identifier + offset
        return identifier


class Direction:
    """Counters for the frames from one bus to another, over all routes between them."""

    __slots__ = ("forwarded", "refused", "repeated", "returned", "source", "target", "thinned")

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.forwarded = 0
        #: Dropped by a rate limit in favour of a newer frame.
        self.thinned = 0
        #: Not forwarded because it came back from there, or had been there already.
        self.returned = 0
        #: Not forwarded because it repeated a recent frame of an identifier that has come back.
        self.repeated = 0
        #: Refused by the bus; the sender counts these.
        self.refused = 0


Out = tuple[Direction, Frame]


class _Way(NamedTuple):
    """A destination for one identifier of one bus."""

    direction: Direction
    identifier: int
    limiter: _Limiter | None


# -- rate limits -------------------------------------------------------------------------------------------------------


_Stream = tuple[int, bytes]  # identifier at the source, first data bytes


class _Waiting(NamedTuple):
    """A frame that waits for a rate limit, with its identifier on the source bus."""

    way: _Way
    identifier: int
    frame: Frame


class _Interval:
    """An interval of a stream: the frame sent at its start, when, and the frame that waits for its end."""

    __slots__ = ("frame", "since", "waiting")

    def __init__(self, frame: Frame, since: float) -> None:
        self.frame = frame
        self.since = since
        self.waiting: _Waiting | None = None


class _Limiter:
    """Sends one frame of each stream per interval: the first at once, the newest of the others when the interval ends.

    A frame that repeats the last one sent within `window` does not wait. It may be the same frame come back, and would
    then be sent again in every interval. Times are in seconds.
    """

    def __init__(self, rate: float, distinct: int, window: float) -> None:
        self.interval = 1.0 / rate
        self.distinct = distinct
        self.window = window
        self.waiting = 0
        self._running: dict[_Stream, _Interval] = {}
        self._ends: deque[tuple[float, _Stream]] = deque()

    def offer(self, offered: _Waiting, now: float) -> tuple[bool, int]:
        """Returns whether to send the frame at once, and how many frames have been dropped."""
        frame = offered.frame
        stream = (offered.identifier, frame.data[: self.distinct])
        running = self._running.get(stream)
        if running is None:
            if len(self._running) >= MAX_STREAMS:
                return False, 1
            self._begin(stream, frame, now)
            return True, 0
        was_waiting = running.waiting is not None
        sent = running.frame
        if now - running.since < self.window and (frame.data, frame.flags) == (sent.data, sent.flags):
            running.waiting = None
            self.waiting -= was_waiting
            return False, 1 + was_waiting
        running.waiting = offered
        self.waiting += not was_waiting
        return False, int(was_waiting)

    def due(self, now: float) -> Iterator[_Waiting]:
        """The frames whose interval has ended by `now`."""
        while self._ends and self._ends[0][0] <= now:
            _, stream = self._ends.popleft()
            waiting = self._running.pop(stream).waiting
            if waiting is not None:
                self.waiting -= 1
                self._begin(stream, waiting.frame, now)
                yield waiting

    def next_due(self) -> float:
        """When to call `due` next; infinite while no frame waits."""
        return self._ends[0][0] if self.waiting else inf

    def _begin(self, stream: _Stream, frame: Frame, now: float) -> None:
        self._running[stream] = _Interval(frame, now)
        self._ends.append((now + self.interval, stream))


# -- memory of frames --------------------------------------------------------------------------------------------------

_Content = tuple[int, int, bytes]  # identifier, kind, data


class _Trace(NamedTuple):
    """A frame seen on a bus at the time `when`. We received it from the bus `origin`, with `identifier`."""

    origin: str
    identifier: int
    when: float


class _Memory:
    """The frames on one bus in at least the last `seconds`, in two generations, so that forgetting costs nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = -inf
        self._new: dict[_Content, _Trace] = {}
        self._old: dict[_Content, _Trace] = {}

    def get(self, content: _Content, after: float) -> _Trace | None:
        """The trace of a frame with this content later than `after`."""
        trace = self._new.get(content) or self._old.get(content)
        return trace if trace is not None and trace.when > after else None

    def put(self, content: _Content, trace: _Trace) -> None:
        if trace.when - self._since >= self._seconds or len(self._new) >= MAX_REMEMBERED:
            self._old, self._new = self._new, {}
            self._since = trace.when
        self._new[content] = trace


# -- the router --------------------------------------------------------------------------------------------------------


class Router:
    """Routes frames between buses. For each target, the first route that accepts a frame decides.

    `window` is in seconds; 0 turns loop prevention off. The caller provides the lock, and sends the returned frames
    before it calls again, so that frames with the same identifier stay in order. Times are in monotonic seconds.
    """

    def __init__(self, routes: Iterable[Route], window: float = 0.5) -> None:
        self.directions: dict[tuple[str, str], Direction] = {}
        #: The number of frames that have come back.
        self.returned = 0
        self._window = window
        self._routes: dict[str, list[tuple[Route, Direction, _Limiter | None]]] = {}
        self._plans: dict[str, dict[int, tuple[_Way, ...]]] = {}
        self._memory: dict[str, _Memory] = {}
        self._limiters: list[_Limiter] = []
        self._returning: dict[tuple[str, int], float] = {}  # bus and identifier -> until when
        self._returns: deque[float] = deque(maxlen=RING_RETURNS)
        self._last = ""
        routes = list(routes)
        longest = window + max((1.0 / route.rate for route in routes if route.rate is not None), default=0.0)
        for route in routes:
            if route.source == route.target:
                raise ValueError(f"a route from {route.source} to itself")
            ends = route.source, route.target
            direction = self.directions.setdefault(ends, Direction(*ends))
            limiter = _Limiter(route.rate, route.rate_bytes, window) if route.rate is not None else None
            if limiter is not None:
                self._limiters.append(limiter)
            self._routes.setdefault(route.source, []).append((route, direction, limiter))
            for bus in ends:
                self._plans.setdefault(bus, {})
                self._memory.setdefault(bus, _Memory(longest))

    def wanted(self, bus: str) -> set[int] | None:
        """The identifiers to receive on `bus`: those to be forwarded and those that might come back. None for all."""
        wanted: set[int] = set()
        for routes in self._routes.values():
            for route, _, _ in routes:
                if bus == route.source or (bus == route.target and self._window):
                    if (pairs := route.pairs()) is None:
                        return None
                    wanted |= {pair[bus == route.target] for pair in pairs}
        return wanted

    def route(self, bus: str, frame: Frame, now: float) -> list[Out]:
        """Take a frame received on `bus` and return the frames to send. Never raises, whatever the frame."""
        if frame.flags & ERROR or bus not in self._plans:
            return []
        outs = self.due(now) if self._limiters else []
        identifier = frame.arbitration_id | frame.flags & EXTENDED
        ways = self._plans[bus].get(identifier)
        if ways is None:
            ways = self._plan(bus, identifier)
        if self._window and not self._is_new(bus, identifier, frame, ways, now):
            return outs
        for way in ways:
            if self._window and self._was_on_target(way, identifier, frame, now):
                continue
            if way.limiter is not None:
                at_once, thinned = way.limiter.offer(_Waiting(way, identifier, frame), now)
                way.direction.thinned += thinned
                if not at_once:
                    continue
            outs.append(self._send(way, identifier, frame, now))
        return outs

    def due(self, now: float) -> list[Out]:
        """The frames that waited for a rate limit and are due by `now`."""
        outs: list[Out] = []
        for limiter in self._limiters:
            for way, identifier, frame in limiter.due(now):
                if self._window and self._was_on_target(way, identifier, frame, now):
                    continue
                fresh = Frame(frame.arbitration_id, frame.data, frame.flags, now)  # the wait must not count as a delay
                outs.append(self._send(way, identifier, fresh, now))
        return outs

    def next_due(self) -> float:
        """When to call `due` next; infinite while no frame waits."""
        return min((limiter.next_due() for limiter in self._limiters), default=inf)

    def trouble(self, now: float) -> str:
        """A message when the buses appear to form a ring; empty otherwise."""
        if len(self._returns) < RING_RETURNS or now - self._returns[0] > HOLD_S:
            return ""
        return self._last

    # -- loops ---------------------------------------------------------------------------------------------------------

    def _is_new(self, bus: str, identifier: int, frame: Frame, ways: tuple[_Way, ...], now: float) -> bool:
        """Whether a frame received on `bus` is neither one that we sent there nor a suspicious repetition."""
        memory = self._memory[bus]
        content = (identifier, frame.flags & (REMOTE | FD), frame.data)
        trace = memory.get(content, now - self._window)
        if trace is not None:
            if trace.origin != bus:
                self._count_return(self.directions[trace.origin, bus], bus, identifier, trace, now)
                return False
            if self._returning and self._returning.get((bus, identifier), now) > now:
                for way in ways:
                    way.direction.repeated += 1
                return False
        memory.put(content, _Trace(bus, identifier, now))
        return True

    def _was_on_target(self, way: _Way, identifier: int, frame: Frame, now: float) -> bool:
        """Whether the forwarded frame has just been on the target bus, other than by our sending it the same way."""
        direction = way.direction
        content = (way.identifier, frame.flags & (REMOTE | FD), frame.data)
        window = self._window if way.limiter is None else self._window + way.limiter.interval  # it may have waited
        trace = self._memory[direction.target].get(content, now - window)
        if trace is None or trace.origin == direction.source:
            return False
        self._count_return(direction, direction.source, identifier, trace, now)
        return True

    def _count_return(self, direction: Direction, bus: str, identifier: int, trace: _Trace, now: float) -> None:
        """Count a frame that has come back to `bus`, with `identifier` there, or would if we forwarded it."""
        direction.returned += 1
        self.returned += 1
        self._returns.append(now)
        if len(self._returning) >= MAX_REMEMBERED:
            self._returning.clear()
        self._returning[bus, identifier] = self._returning[trace.origin, trace.identifier] = now + HOLD_S
        self._last = (
            f"a ring: frames from {direction.source} to {direction.target} come back, most recently "
            f"{format_id(identifier)} (is there another bridge, or do two nodes send the same frames?)"
        )

    # -- plans ---------------------------------------------------------------------------------------------------------

    def _plan(self, bus: str, identifier: int) -> tuple[_Way, ...]:
        ways: dict[str, _Way] = {}
        for route, direction, limiter in self._routes.get(bus, ()):
            if route.target not in ways and (new := route.translate(identifier)) is not None:
                ways[route.target] = _Way(direction, new, limiter)
        plans = self._plans[bus]
        if len(plans) >= MAX_PLANS:
            plans.clear()
        plan = plans[identifier] = tuple(ways.values())
        return plan

    def _send(self, way: _Way, identifier: int, frame: Frame, now: float) -> Out:
        direction, new, _ = way
        if new != identifier:
            flags = frame.flags & ~EXTENDED | new & EXTENDED
            frame = Frame(new & _LONG, frame.data, flags, frame.timestamp)
        if self._window:
            content = (new, frame.flags & (REMOTE | FD), frame.data)
            self._memory[direction.target].put(content, _Trace(direction.source, identifier, now))
        direction.forwarded += 1
        return direction, frame
