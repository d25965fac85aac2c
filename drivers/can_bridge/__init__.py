"""Bridges between CAN buses: forwards selected frames, locally or over a network, and prevents loops."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fixgw.database import Database
from fixgw.drivers.can_bridge.routing import Out, Route, Router, format_id, parse_ids, parse_shift
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.bus import CanPlugin, Tap
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.errors import Problem, did_you_mean
from fixgw.plugin import Device, Feeds, Finding, Options

LOSSY_S = 5.0  # how long after the last dropped frame a bus counts as too slow
MIN_WAIT_S = 0.001  # the shortest wait for frames held back by a rate limit
MAX_WAIT_S = 1.0  # the longest, and the wait when no frame is held back

Identifier = int | str  # in the form that `routing.parse_ids` reads


class RouteOptions(Options, frozen=True, kw_only=True):
    from_: Annotated[str, Meta(description="Source bus")] = msgspec.field(name="from")
    to: Annotated[str | list[str], Meta(description="Target bus or buses")]
    both: Annotated[
        bool, Meta(description="Forward in the other direction too, with the same filters and `remap` undone")
    ] = False
    ids: Annotated[
        list[Identifier],
        Meta(
            description="Identifiers to forward, as on the `from` bus: `0x183`, `0x200-0x27F`, `0x500/0x7F0` "
            "(identifier/mask), `base` (all of 11 bits), `extended` (all of 29 bits). Identifiers above 0x7FF have 29 "
            "bits, and so has `ext 0x123`. Empty: all"
        ),
    ] = []
    except_: Annotated[list[Identifier], Meta(description="Identifiers not to forward, in the same form")] = (
        msgspec.field(name="except", default_factory=list)
    )
    remap: Annotated[
        dict[Identifier, Identifier],
        Meta(description="New identifiers on the other bus: of an identifier, or of the first in a range"),
    ] = {}
    rate: Annotated[
        Annotated[float, Meta(gt=0.0, le=10000.0)] | None,
        Meta(description="Frames per second at most, for each identifier; the newest frame is always sent"),
    ] = None
    rate_bytes: Annotated[
        int,
        Meta(ge=0, le=8, description="Apply `rate` separately to each value of the first data bytes: 3 for CAN-FIX"),
    ] = 0

    def targets(self) -> list[str]:
        return [self.to] if isinstance(self.to, str) else self.to

    def routes(self) -> Iterator[Route]:
        """The routes that these options describe. Raises ValueError if `_check_route` finds problems."""
        for target in self.targets():
            route = Route(
                source=self.from_,
                target=target,
                ids=tuple(map(parse_ids, self.ids)),
                exclude=tuple(map(parse_ids, self.except_)),
                shifts=tuple(parse_shift(which, to) for which, to in self.remap.items()),
                rate=self.rate,
                rate_bytes=self.rate_bytes,
            )
            yield route
            if self.both:
                yield route.reversed()


class BridgeOptions(Options, frozen=True, kw_only=True):
    """Options of a bridge."""

    buses: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[^\s.\[\]]+$")], BusOptions],
        Meta(min_length=2, description="The buses, each under a name of your choice"),
    ]
    routes: Annotated[
        list[RouteOptions],
        Meta(min_length=1, description="The routes; between two buses, the first that accepts a frame decides"),
    ]
    loop_window: Annotated[
        float,
        Meta(
            ge=0.0,
            le=10.0,
            description="Seconds during which a frame sent to a bus is not forwarded back from it; 0 for traffic in "
            "which nodes answer with the frame that they received",
        ),
    ] = 0.5


class Plugin(CanPlugin[BridgeOptions]):
    """One bridge. It forwards frames on the buses' threads, frames that waited for a rate limit on its own thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.router = Router((r for options in self.options.routes for r in options.routes()), self.options.loop_window)
        self._buses: dict[str, Tap] = {}
        self._lock = threading.Lock()  # guards the router, and keeps its frames in order
        self._wake = threading.Event()
        self._wake_at = -inf  # when the thread will call the router next
        self._dropped: dict[str, tuple[int, object]] = {}
        self._lossy: dict[str, float] = {}

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        with self._lock:  # frames wait until all buses are open
            for name, options in self.options.buses.items():
                tap = self.tap(options, partial(self._received, name), self.router.wanted(name), at_once=True)
                for other, known in self._buses.items():
                    if known.bus is tap.bus:
                        raise ValueError(f"{name} and {other} are the same bus")
                self._buses[name] = tap
        if any(route.rate is not None for route in self.options.routes):
            super().run()

    def wake(self) -> None:
        self._wake.set()

    def health(self) -> str:
        """Problems of the buses, buses that are too slow, and rings."""
        if self._trouble:
            return self._trouble
        now = self.clock()
        words = []
        for name, tap in list(self._buses.items()):
            losses = self._losses(name, tap, now)
            if trouble := tap.bus.health() or losses:
                words.append(f"{name}: {trouble}")
        if ring := self.router.trouble(now):
            words.append(ring)
        return "; ".join(words)

    def get_status(self) -> Mapping[str, Any]:
        """The counters of each direction, then the status of the buses."""
        directions = {
            f"{d.source} to {d.target}": {
                "forwarded": d.forwarded,
                "thinned": d.thinned,
                "refused": d.refused,
                "came back": d.returned,
                "repeated": d.repeated,
            }
            for d in self.router.directions.values()
        }
        buses = {name: tap.bus.get_status() for name, tap in list(self._buses.items())}
        return {"ring": bool(self.router.trouble(self.clock())), "directions": directions, "buses": buses}

    # -- work ----------------------------------------------------------------------------------------------------------

    def _received(self, name: str, frames: Sequence[Frame]) -> None:
        now = self.clock()
        with self._lock:
            for frame in frames:
                self._forward(self.router.route(name, frame, now))
            ring = self.router.trouble(now)
            if self.router.next_due() < self._wake_at:
                self._wake.set()
        if ring:
            self.complain("%s", ring)

    def _forward(self, outs: Iterable[Out]) -> None:
        for direction, frame in outs:
            if not self._buses[direction.target].forward(frame):
                direction.refused += 1

    def work(self) -> None:
        """Send the frames that waited for a rate limit."""
        while not self.stopping.is_set():
            self.show_life()
            due = self.turn()
            self._wake.wait(max(due - self.clock(), MIN_WAIT_S))

    def turn(self) -> float:
        self._wake.clear()
        with self._lock:
            now = self.clock()
            self._forward(self.router.due(now))
            self._wake_at = self.router.next_due()
        return min(self._wake_at, now + MAX_WAIT_S)

    def is_waiting(self) -> bool:
        return self._wake.is_set()

    def _losses(self, name: str, tap: Tap, now: float) -> str:
        """A message when a bus has recently dropped frames although it was connected all the time; else empty."""
        status = tap.bus.get_status()
        dropped, connection = status["dropped"], (status["connected"], status.get("outages", 0))
        before = self._dropped.get(name, (dropped, connection))
        self._dropped[name] = dropped, connection
        if dropped > before[0] and status["connected"] and connection == before[1]:
            self._lossy[name] = now
        if now - self._lossy.get(name, -inf) > LOSSY_S:
            return ""
        return f"too slow for the traffic; {dropped} frames dropped so far, the lowest priorities first"

    # -- the configuration ---------------------------------------------------------------------------------------------

    @classmethod
    def heard_as(cls, name: str, options: BridgeOptions) -> Iterable[str]:
        return [can_bus.name_of(bus) for bus in options.buses.values()]

    @classmethod
    def preflight(cls, options: BridgeOptions) -> Iterable[Device | Feeds | Finding]:
        for bus in options.buses.values():
            yield from ports.preflight(bus)

    @classmethod
    def check(cls, options: BridgeOptions, db: Database) -> Iterable[Problem | tuple[str, str]]:
        buses: dict[str, BusOptions] = options.buses
        names = list(buses)
        for number, (name, bus) in enumerate(buses.items()):
            yield from can_bus.check(bus, f"buses.{name}.")
            for other in names[:number]:
                if _place(bus) == _place(buses[other]):
                    yield f"buses.{name}.channel", f"{name} and {other} are the same bus"
        decided: set[tuple[str, str]] = set()  # directions in which an earlier route accepts everything
        for number, route in enumerate(options.routes):
            problems = list(_check_route(route, buses))
            yield from ((f"routes.{number}{place}", message) for place, message in problems)
            if problems:
                continue
            ends = {(route.from_, target) for target in route.targets()}
            ends |= {(target, source) for source, target in ends if route.both}
            if ends <= decided:
                yield f"routes.{number}", "an earlier route accepts everything between these buses"
            if not route.ids and not route.except_:
                decided |= ends


def _check_route(route: RouteOptions, buses: Mapping[str, BusOptions]) -> Iterator[tuple[str, str]]:
    """The problems of a route, as pairs of place and message; places begin with a dot."""
    targets = [(".to" if isinstance(route.to, str) else f".to.{n}", name) for n, name in enumerate(route.targets())]
    if not targets:
        yield ".to", "expected at least one bus"
    known = True
    for place, name in ((".from", route.from_), *targets):
        if name not in buses:
            known = False
            yield place, f"there is no bus {name!r}{did_you_mean(name, buses)}"
    for number, (place, name) in enumerate(targets):
        if name == route.from_:
            yield place, f"{name} is the source bus: frames are never sent back to it"
        elif name in (earlier for _, earlier in targets[:number]):
            yield place, f"{name} appears twice"
        elif known and buses[name].listen_only:
            yield place, f"{name} is listen_only: frames cannot be sent there"
    if route.both and known and buses[route.from_].listen_only:
        yield ".both", f"{route.from_} is listen_only: frames cannot be sent there"
    for option, given in (("ids", route.ids), ("except", route.except_)):
        for number, text in enumerate(given):
            try:
                parse_ids(text)
            except ValueError as error:
                yield f".{option}.{number}", str(error)
    yield from _check_remap(route)
    if route.rate_bytes and route.rate is None:
        yield ".rate_bytes", "it has no effect without a rate"


def _check_remap(route: RouteOptions) -> Iterator[tuple[str, str]]:
    earlier: list[tuple[int, int, int]] = []
    for which, to in route.remap.items():
        try:
            first, last, offset = parse_shift(which, to)
        except ValueError as error:
            yield f".remap.{which}", str(error)
            continue
        for other_first, other_last, other_offset in earlier:
            if (begin := max(first, other_first)) <= min(last, other_last):
                yield f".remap.{which}", f"{format_id(begin)} is remapped twice"
            elif (begin := max(first + offset, other_first + other_offset)) <= min(
                last + offset, other_last + other_offset
            ):
                yield f".remap.{which}", f"another identifier is already remapped to {format_id(begin)}"
        earlier.append((first, last, offset))


def _place(bus: BusOptions) -> tuple[object, ...]:
    return bus.interface, str(bus.channel), bus.extra
