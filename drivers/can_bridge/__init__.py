"""Bridges between CAN buses: chosen frames from one to another, over wires or a network, and never in a circle."""

from __future__ import annotations

import threading
import time
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
from fixgw.errors import PluginFail, Problem, did_you_mean
from fixgw.kit.complaints import Complaints
from fixgw.plugin import Device, Feeds, Finding, Options

JOIN = 2.0  # seconds that a stop waits for the plugin's own thread
LOSSY = 5.0  # seconds after the last loss for which a bus is said not to follow
PAUSE = 0.001  # seconds between two looks at what waits for a rate limit

Identifier = int | str  # as `routing.parse_ids` takes it


class RouteOptions(Options, frozen=True, kw_only=True):
    from_: Annotated[str, Meta(description="The bus that frames come from")] = msgspec.field(name="from")
    to: Annotated[str | list[str], Meta(description="The bus, or buses, that they go to")]
    both: Annotated[bool, Meta(description="The other way too, with the same filters, and identifiers given back")] = (
        False
    )
    ids: Annotated[
        list[Identifier],
        Meta(
            description="Identifiers that pass, as the `from` bus knows them: `0x183`, `0x200-0x27F`, `0x500/0x7F0` "
            "(identifier/mask), `base` (all of 11 bits), `extended` (all of 29). Above 0x7FF they have 29 bits, as "
            "has `ext 0x123`. Empty: all"
        ),
    ] = []
    except_: Annotated[list[Identifier], Meta(description="Identifiers that do not pass, written in the same way")] = (
        msgspec.field(name="except", default_factory=list)
    )
    remap: Annotated[
        dict[Identifier, Identifier],
        Meta(description="Identifiers, or ranges, and what they, or their first, become on the other bus"),
    ] = {}
    rate: Annotated[
        Annotated[float, Meta(gt=0.0, le=10000.0)] | None,
        Meta(description="Most frames a second of each identifier; of more, the newest goes"),
    ] = None
    rate_bytes: Annotated[
        int,
        Meta(ge=0, le=8, description="So many first data bytes tell apart what `rate` counts: 3 for CAN-FIX"),
    ] = 0

    def targets(self) -> list[str]:
        return [self.to] if isinstance(self.to, str) else self.to

    def routes(self) -> Iterator[Route]:
        """Raises ValueError; see `_check_route`."""
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
        Meta(min_length=2, description="Name of each bus, of your choice, and which it is"),
    ]
    routes: Annotated[
        list[RouteOptions],
        Meta(min_length=1, description="What goes where; between two buses, the first that takes a frame decides"),
    ]
    loop_window: Annotated[
        float,
        Meta(
            ge=0.0,
            le=10.0,
            description="Seconds within which the very frame that went to a bus is not taken back from it; "
            "0 for traffic in which nodes answer with what they were sent",
        ),
    ] = 0.5


class Plugin(CanPlugin[BridgeOptions]):
    """One bridge. Frames are forwarded on the bus's threads; those that wait for a rate limit, on one of our own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = time.monotonic
        self.router = Router((r for options in self.options.routes for r in options.routes()), self.options.loop_window)
        self._buses: dict[str, Tap] = {}
        self._lock = threading.Lock()  # the router, and that frames are sent in the order in which it says so
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._wake_at = -inf  # when our thread will look again
        self._thread: threading.Thread | None = None
        self.complain = Complaints(self.log, lambda: self.clock())
        self._dropped: dict[str, tuple[int, object]] = {}
        self._lossy: dict[str, float] = {}

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        with self._lock:  # what comes before all are there waits
            for name, options in self.options.buses.items():
                tap = self.tap(options, partial(self._received, name), self.router.wanted(name))
                for other, known in self._buses.items():
                    if known.bus is tap.bus:
                        raise ValueError(f"{name} and {other} are the same bus")
                self._buses[name] = tap
        if any(route.rate is not None for route in self.options.routes):
            self._thread = threading.Thread(target=self._work, name=f"{self.name} waiting", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        try:
            super().stop()
        finally:
            if self._thread is not None:
                self._thread.join(JOIN)
        if self._thread is not None and self._thread.is_alive():
            raise PluginFail(f"{self.name}: its thread did not stop within {JOIN:g} s")

    def health(self) -> str:
        """The troubles of the buses by name, buses that cannot follow, and rings."""
        if self._failure:
            return self._failure
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
        """The directions with their counters, then the buses."""
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

    def _work(self) -> None:
        """Send what has waited for a rate limit."""
        while not self._stopping.is_set():
            self._wake.clear()
            with self._lock:
                now = self.clock()
                self._forward(self.router.due(now))
                self._wake_at = self.router.next_due()
            self._wake.wait(None if self._wake_at == inf else max(self._wake_at - now, PAUSE))

    def _losses(self, name: str, tap: Tap, now: float) -> str:
        """In words that a bus has lately dropped what was to be sent, though it was there all the time."""
        status = tap.bus.get_status()
        dropped, there = status["dropped"], (status["connected"], status.get("outages", 0))
        before = self._dropped.get(name, (dropped, there))
        self._dropped[name] = dropped, there
        if dropped > before[0] and status["connected"] and there == before[1]:
            self._lossy[name] = now
        if now - self._lossy.get(name, -inf) > LOSSY:
            return ""
        return f"it does not follow; frames dropped so far, the lowest priorities first: {dropped}"

    # -- the configuration ---------------------------------------------------------------------------------------------

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
        decided: set[tuple[str, str]] = set()  # directions in which an earlier route takes everything
        for number, route in enumerate(options.routes):
            problems = list(_check_route(route, buses))
            yield from ((f"routes.{number}{place}", message) for place, message in problems)
            if problems:
                continue
            ends = {(route.from_, target) for target in route.targets()}
            ends |= {(target, source) for source, target in ends if route.both}
            if ends <= decided:
                yield f"routes.{number}", "an earlier route takes everything between these buses"
            if not route.ids and not route.except_:
                decided |= ends


def _check_route(route: RouteOptions, buses: Mapping[str, BusOptions]) -> Iterator[tuple[str, str]]:
    """What is wrong with a route; places begin with a dot."""
    targets = [(".to" if isinstance(route.to, str) else f".to.{n}", name) for n, name in enumerate(route.targets())]
    if not targets:
        yield ".to", "no bus"
    known = True
    for place, name in ((".from", route.from_), *targets):
        if name not in buses:
            known = False
            yield place, f"there is no bus {name!r}{did_you_mean(name, buses)}"
    for number, (place, name) in enumerate(targets):
        if name == route.from_:
            yield place, f"a frame is never returned to where it came from, {name}"
        elif name in (earlier for _, earlier in targets[:number]):
            yield place, f"{name} is there already"
        elif known and buses[name].listen_only:
            yield place, f"{name} is listen_only: nothing can be sent there"
    if route.both and known and buses[route.from_].listen_only:
        yield ".both", f"{route.from_} is listen_only: nothing can be sent there"
    for option, given in (("ids", route.ids), ("except", route.except_)):
        for number, text in enumerate(given):
            try:
                parse_ids(text)
            except ValueError as error:
                yield f".{option}.{number}", str(error)
    yield from _check_remap(route)
    if route.rate_bytes and route.rate is None:
        yield ".rate_bytes", "of no use without a rate"


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
                yield f".remap.{which}", f"{format_id(begin)} has been given another identifier before"
            elif (begin := max(first + offset, other_first + other_offset)) <= min(
                last + offset, other_last + other_offset
            ):
                yield f".remap.{which}", f"something else becomes {format_id(begin)} already"
        earlier.append((first, last, offset))


def _place(bus: BusOptions) -> tuple[object, ...]:
    return bus.interface, str(bus.channel), bus.extra
