"""Which frame goes where: filters, other identifiers, rate limits, no circles. No thread, socket or clock.

    router = Router([Route(source="engine", target="panel"), Route(source="panel", target="engine", ids=...)])
    for direction, frame in router.route("engine", received, now):   # and router.due(now) from time to time
        ...                                                          # send `frame` on the bus `direction.target`

Circles. A router remembers for `window` seconds what it has heard and sent on each bus. What it hears on a bus to which
it has itself sent just that, from another, has come back; what it has just heard on a bus need not go there any more.
Neither is forwarded. So two bridges in parallel, or any number in a ring, pass each frame on a few times, not for ever.
Where one hears a frame first from the other bridge, or the other knows no such rule, it could still go round and round;
hence an identifier that has come back is for `HOLD` seconds forwarded only when its frame is another one than within
the last `window`.

An identifier is here a number with `EXTENDED` added when it has 29 bits.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import NamedTuple

import msgspec

from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame

__all__ = ["Direction", "Ids", "Route", "Router", "Shift", "parse_ids", "parse_shift", "written"]

HOLD = 10.0  # seconds for which a returned frame is held against its identifier, and against the buses
RETURNED = 3  # frames that come back within that time until it is called a ring
REMEMBERED = 4096  # frames remembered for each bus; as many again while these are new
STREAMS = 4096  # streams that one route tells apart for its rate limit
PLANNED = 8192  # identifiers of one bus whose way is known without looking it up
LISTED = 256  # identifiers of 29 bits, in one range, that are worth a filter each

_BASE, _LONG = 0x7FF, 0x1FFFFFFF

# -- identifiers -------------------------------------------------------------------------------------------------------


class Ids(NamedTuple):
    """The identifiers from `first` to `last`; or with a `mask`, those that agree with `first` in its bits."""

    first: int
    last: int
    mask: int | None = None

    def has(self, identifier: int) -> bool:
        if self.mask is not None:
            return identifier & self.mask == self.first
        return self.first <= identifier <= self.last


class Shift(NamedTuple):
    """The identifiers from `first` to `last` become others, `offset` further on."""

    first: int
    last: int
    offset: int


BASE, LONG = Ids(0, _BASE), Ids(EXTENDED, EXTENDED | _LONG)  # all of 11, all of 29 bits

_NUMBER = r"(0[xX][0-9a-fA-F]+|[0-9]+)"
_IDS = re.compile(rf"(ext\s+)?{_NUMBER}(?:\s*([-/])\s*{_NUMBER})?")


def parse_ids(text: int | str) -> Ids:
    """``0x183``, ``"0x200-0x27F"``, ``"0x500/0x7F0"`` (identifier/mask), ``"base"``, ``"extended"``.

    Numbers above 0x7FF are identifiers of 29 bits, others are so with ``ext`` before them. Raises ValueError.
    """
    if isinstance(text, int):
        identifier = _identifier(text, False)
        return Ids(identifier, identifier)
    text = text.strip()
    if text in ("base", "extended"):
        return BASE if text == "base" else LONG
    match = _IDS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no identifier, range (0x200-0x27F), identifier/mask, 'base' or 'extended'")
    extended, sign = bool(match[1]), match[3]
    first = _identifier(_number(match[2]), extended)
    if sign is None:
        return Ids(first, first)
    second = _number(match[4])
    if sign == "-":
        last = _identifier(second, extended)
        if (first ^ last) & EXTENDED:
            raise ValueError(
                f"{text} begins with an identifier of 11 bits and ends with one of 29: write ext before it?"
            )
        if last < first:
            raise ValueError(f"{text} ends before it begins")
        return Ids(first, last)
    if second > (_LONG if first & EXTENDED else _BASE):
        raise ValueError(f"{text}: the mask has more bits than the identifier")
    mask = second | EXTENDED
    return Ids(first & mask, first & mask, mask)


def parse_shift(which: int | str, to: int | str) -> Shift:
    """An identifier or range, and what it, or its first, becomes. Raises ValueError."""
    source, target = parse_ids(which), parse_ids(to)
    if source.mask is not None:
        raise ValueError(f"{which}: a mask cannot be given other identifiers, a range can")
    if target.mask is not None or target.first != target.last:
        raise ValueError(f"{to}: expected the one identifier that the first becomes")
    end = target.first + source.last - source.first
    if end > (EXTENDED | _LONG if target.first & EXTENDED else _BASE):
        raise ValueError(f"{which} does not fit behind {to}")
    return Shift(source.first, source.last, target.first - source.first)


def written(identifier: int) -> str:
    """As `parse_ids` reads it."""
    number = identifier & _LONG
    return f"ext {number:#x}" if identifier & EXTENDED and number <= _BASE else f"{number:#x}"


def _number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _identifier(number: int, extended: bool) -> int:
    if not 0 <= number <= _LONG:
        raise ValueError(f"{number:#x} is no identifier of 11 or 29 bits")
    return number | EXTENDED if extended or number > _BASE else number


# -- routes ------------------------------------------------------------------------------------------------------------


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """From one bus to another. `ids` and `exclude` are the source's identifiers; no `ids` are all.

    With a `rate`, each identifier goes at most so many times a second, the newest frame always, when its time comes.
    `rate_bytes` are how many of the first data bytes tell apart what shares an identifier.
    A `backward` route is another one the other way round: from its target to its source, identifiers given back.
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
        """What a frame from the source gets for its identifier at the target; None when it does not go there."""
        if not self.backward:
            return self._shifted(identifier) if self._passes(identifier) else None
        for _, _, offset in self.shifts:
            if self._shifted(identifier - offset) == identifier and self._passes(identifier - offset):
                return identifier - offset
        if any(shift.first <= identifier <= shift.last for shift in self.shifts):
            return None  # the other side's name for something else
        return identifier if self._passes(identifier) else None

    def pairs(self) -> list[tuple[int, int]] | None:
        """Every identifier that may pass, with what it becomes; None when that is too many to tell."""
        candidates = list(range(_BASE + 1))
        for ids in self.ids or (BASE, LONG):
            if ids.first & EXTENDED:
                if ids.mask is not None or ids.last - ids.first >= LISTED:
                    return None
                candidates += range(ids.first, ids.last + 1)
        pairs = [(i, self._shifted(i)) for i in candidates if self._passes(i)]
        return [(there, here) for here, there in pairs] if self.backward else pairs

    def _passes(self, identifier: int) -> bool:
        if self.ids and not any(ids.has(identifier) for ids in self.ids):
            return False
        return not any(ids.has(identifier) for ids in self.exclude)

    def _shifted(self, identifier: int) -> int:
        for first, last, offset in self.shifts:
            if first <= identifier <= last:
                return identifier + offset
        return identifier


class Direction:
    """From one bus to another, whichever routes lead there, and what has become of the frames."""

    __slots__ = ("forwarded", "refused", "repeated", "returned", "source", "target", "thinned")

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.forwarded = 0
        #: Replaced by newer ones within the time that a rate limit allows one frame.
        self.thinned = 0
        #: Come back from there, or been there already.
        self.returned = 0
        #: Not forwarded because the same had just been, and its identifier comes back.
        self.repeated = 0
        #: Not taken by the bus; for whoever sends to count.
        self.refused = 0


Out = tuple[Direction, Frame]


class _Way(NamedTuple):
    """Where one identifier of one bus goes."""

    direction: Direction
    identifier: int
    limiter: _Limiter | None


# -- rate limits -------------------------------------------------------------------------------------------------------


_Stream = tuple[int, bytes]  # identifier at the source, first data bytes


class _Waiting(NamedTuple):
    """A frame on its way, and what its identifier was at the source."""

    way: _Way
    identifier: int
    frame: Frame


class _Interval:
    """Of a stream: what went out at its beginning, when, and what waits for its end."""

    __slots__ = ("frame", "since", "waiting")

    def __init__(self, frame: Frame, since: float) -> None:
        self.frame = frame
        self.since = since
        self.waiting: _Waiting | None = None


class _Limiter:
    """One frame of each stream in each interval, the first at once and the newest of the others when it is over.

    A repetition within `window` of what has gone out is not worth waiting for; it might be that very frame, come round,
    and would be sent in every interval from then on. Seconds.
    """

    def __init__(self, rate: float, distinct: int, window: float) -> None:
        self.interval = 1.0 / rate
        self.distinct = distinct
        self.window = window
        self.waiting = 0
        self._running: dict[_Stream, _Interval] = {}
        self._ends: deque[tuple[float, _Stream]] = deque()

    def offer(self, offered: _Waiting, now: float) -> tuple[bool, int]:
        """Whether it may go at once, and how many frames are not to go any more."""
        frame = offered.frame
        stream = (offered.identifier, frame.data[: self.distinct])
        running = self._running.get(stream)
        if running is None:
            if len(self._running) >= STREAMS:
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
        """What has waited long enough."""
        while self._ends and self._ends[0][0] <= now:
            _, stream = self._ends.popleft()
            waiting = self._running.pop(stream).waiting
            if waiting is not None:
                self.waiting -= 1
                self._begin(stream, waiting.frame, now)
                yield waiting

    def next_due(self) -> float:
        """When to ask for what is due; infinite while nothing waits."""
        return self._ends[0][0] if self.waiting else inf

    def _begin(self, stream: _Stream, frame: Frame, now: float) -> None:
        self._running[stream] = _Interval(frame, now)
        self._ends.append((now + self.interval, stream))


# -- circles -----------------------------------------------------------------------------------------------------------

_Content = tuple[int, int, bytes]  # identifier, kind, data


class _Trace(NamedTuple):
    """A frame that was on a bus `when`; `origin` is the bus where we heard it, as `identifier`."""

    origin: str
    identifier: int
    when: float


class _Memory:
    """What was on one bus within the last `seconds` at least, in two generations: forgetting costs nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = -inf
        self._new: dict[_Content, _Trace] = {}
        self._old: dict[_Content, _Trace] = {}

    def get(self, content: _Content, after: float) -> _Trace | None:
        """What was there after that time."""
        trace = self._new.get(content) or self._old.get(content)
        return trace if trace is not None and trace.when > after else None

    def put(self, content: _Content, trace: _Trace) -> None:
        if trace.when - self._since >= self._seconds or len(self._new) >= REMEMBERED:
            self._old, self._new = self._new, {}
            self._since = trace.when
        self._new[content] = trace


# -- all of it ---------------------------------------------------------------------------------------------------------


class Router:
    """Routes between buses, of which for every target the first that takes a frame decides.

    `window` is in seconds; 0 lets frames go in circles. The caller locks, and sends what a call returns before the next
    call: then no identifier's frames change places. Times are monotonic seconds.
    """

    def __init__(self, routes: Iterable[Route], window: float = 0.5) -> None:
        self.directions: dict[tuple[str, str], Direction] = {}
        #: Frames that have come back, in all.
        self.returned = 0
        self._window = window
        self._routes: dict[str, list[tuple[Route, Direction, _Limiter | None]]] = {}
        self._plans: dict[str, dict[int, tuple[_Way, ...]]] = {}
        self._memory: dict[str, _Memory] = {}
        self._limiters: list[_Limiter] = []
        self._returning: dict[tuple[str, int], float] = {}  # bus and identifier -> until when
        self._returns: deque[float] = deque(maxlen=RETURNED)
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
        """The identifiers to listen to on `bus`: what is to be forwarded, and what might come back. None for all."""
        wanted: set[int] = set()
        for routes in self._routes.values():
            for route, _, _ in routes:
                if bus == route.source or (bus == route.target and self._window):
                    if (pairs := route.pairs()) is None:
                        return None
                    wanted |= {pair[bus == route.target] for pair in pairs}
        return wanted

    def route(self, bus: str, frame: Frame, now: float) -> list[Out]:
        """What follows from `frame`, heard on `bus`. Never raises, whatever the frame."""
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
            if self._window and self._has_been(way, identifier, frame, now):
                continue
            if way.limiter is not None:
                at_once, thinned = way.limiter.offer(_Waiting(way, identifier, frame), now)
                way.direction.thinned += thinned
                if not at_once:
                    continue
            outs.append(self._send(way, identifier, frame, now))
        return outs

    def due(self, now: float) -> list[Out]:
        """What has waited for a rate limit until `now`."""
        outs: list[Out] = []
        for limiter in self._limiters:
            for way, identifier, frame in limiter.due(now):
                if self._window and self._has_been(way, identifier, frame, now):
                    continue
                fresh = Frame(frame.arbitration_id, frame.data, frame.flags, now)  # its waiting makes it not late
                outs.append(self._send(way, identifier, fresh, now))
        return outs

    def next_due(self) -> float:
        """When to call `due`; infinite while nothing waits."""
        return min((limiter.next_due() for limiter in self._limiters), default=inf)

    def trouble(self, now: float) -> str:
        """In words that the buses form a ring; empty when they do not seem to."""
        if len(self._returns) < RETURNED or now - self._returns[0] > HOLD:
            return ""
        return self._last

    # -- circles -------------------------------------------------------------------------------------------------------

    def _is_new(self, bus: str, identifier: int, frame: Frame, ways: tuple[_Way, ...], now: float) -> bool:
        """Whether `frame`, heard on `bus`, is neither one that we have sent there nor a suspicious repetition."""
        memory = self._memory[bus]
        content = (identifier, frame.flags & (REMOTE | FD), frame.data)
        trace = memory.get(content, now - self._window)
        if trace is not None:
            if trace.origin != bus:
                self._came_back(self.directions[trace.origin, bus], bus, identifier, trace, now)
                return False
            if self._returning and self._returning.get((bus, identifier), now) > now:
                for way in ways:
                    way.direction.repeated += 1
                return False
        memory.put(content, _Trace(bus, identifier, now))
        return True

    def _has_been(self, way: _Way, identifier: int, frame: Frame, now: float) -> bool:
        """Whether what `frame` becomes has just been on the target, and not because we had sent it this way."""
        direction = way.direction
        content = (way.identifier, frame.flags & (REMOTE | FD), frame.data)
        window = self._window if way.limiter is None else self._window + way.limiter.interval  # it may have waited
        trace = self._memory[direction.target].get(content, now - window)
        if trace is None or trace.origin == direction.source:
            return False
        self._came_back(direction, direction.source, identifier, trace, now)
        return True

    def _came_back(self, direction: Direction, bus: str, identifier: int, trace: _Trace, now: float) -> None:
        """Count a frame that is back on `bus`, where it is `identifier`, or would be if we forwarded it."""
        direction.returned += 1
        self.returned += 1
        self._returns.append(now)
        if len(self._returning) >= REMEMBERED:
            self._returning.clear()
        self._returning[bus, identifier] = self._returning[trace.origin, trace.identifier] = now + HOLD
        self._last = (
            f"a ring: what goes from {direction.source} to {direction.target} comes back, the last "
            f"{written(identifier)} (are they bridged elsewhere too, or do two nodes send the same?)"
        )

    # -- ways ----------------------------------------------------------------------------------------------------------

    def _plan(self, bus: str, identifier: int) -> tuple[_Way, ...]:
        ways: dict[str, _Way] = {}
        for route, direction, limiter in self._routes.get(bus, ()):
            if route.target not in ways and (new := route.translate(identifier)) is not None:
                ways[route.target] = _Way(direction, new, limiter)
        plans = self._plans[bus]
        if len(plans) >= PLANNED:
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
