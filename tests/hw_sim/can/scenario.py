"""Scenarios: YAML files that say which virtual nodes are on a bus, how the aircraft flies, and what goes wrong when.

    description: The engine monitor falls silent, and comes back
    duration: 30                  # s; without it, the scenario has no end
    flight:                       # all of it may be left out
      start: 2025-07-21 15:00:00  # date and time (UTC) that the aircraft believes in; now, unless given
      after: 600                  # s of flight that are over when the scenario begins
      seed: 1                     # of the turbulence: the same seed, the same bumps
      turbulence: 0.5             # 0 smooth, 1 light
      fuel: 3                     # gal in each of two tanks
    nodes:
      air:                        # a device, see `fixgw.hw_sim.can.devices`, with its usual node id
      engine: {id: 65}            # with another one
      spare: {device: engine, id: 66, disabled: [0x500, 0x502]}
    events:
      - {at: 12.5, node: engine, fault: silent, for: 5}   # a fault, see `fixgw.hw_sim.can.faults`
      - {at: 15, node: air, fault: babbling, rate: 5000}  # with its options; without `for`, to the end
      - {at: 18, node: panel, turn: 0, by: -3}            # an encoder, so many steps
      - {at: 19, node: panel, press: 2, for: 0.5}         # a button
      - {at: 20, node: panel, switch: 9, to: yes}
      - {at: 21, node: engine, alarm: 0x102, data: 2a00}  # a node alarm, with its code and data in hex

Every problem in a file is reported at once, with its place. The same file drives tests, benches and ``fixgw sim can``.
`Play` plays one without threads or clocks of its own, `frames` at once, and `Nodes` in a `World`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fixgw.cfg import Positions, Reader, described
from fixgw.errors import ConfigurationError, Problem, did_you_mean
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.devices import DEVICES, Panel, look
from fixgw.hw_sim.can.faults import FAULTS, Fault, Station
from fixgw.hw_sim.can.nodes import NODE_SPECIFIC, Frame
from fixgw.options import problems

STEP = 0.025  # s of `frames`

Seconds = Annotated[float, Meta(ge=0.0, le=86400.0)]
NodeId = Annotated[int, Meta(ge=1, le=255)]


class Flight(Struct, forbid_unknown_fields=True):
    start: str | None = None
    after: Annotated[float, Meta(ge=0.0, le=7200.0)] = 0.0
    seed: int = 0
    turbulence: Annotated[float, Meta(ge=0.0, le=3.0)] = 1.0
    fuel: Annotated[float, Meta(ge=2.0, le=20.0)] | None = None


class NodeOptions(Struct, forbid_unknown_fields=True):
    device: str | None = None
    id: NodeId | None = None
    disabled: list[Annotated[int, Meta(ge=0x100, le=0x5FF)]] = []


class _File(Struct, forbid_unknown_fields=True):
    nodes: dict[str, NodeOptions | None]
    description: str = ""
    duration: Seconds | None = None
    flight: Flight = msgspec.field(default_factory=Flight)
    events: list[dict[str, Any]] = []


class Event(NamedTuple):
    """Something that happens to a node `at` so many seconds: `begin` does it and returns what ends it, if anything
    does; that comes `lasting` seconds later, or never."""

    at: float
    node: str
    begin: Callable[[Station], Callable[[], None] | None]
    lasting: float | None
    words: str


class Scenario(NamedTuple):
    """What a file says."""

    nodes: Mapping[str, NodeOptions]
    flight: Flight = Flight()
    events: tuple[Event, ...] = ()
    duration: float | None = None
    description: str = ""

    def aircraft(self) -> Aircraft:
        """A new aircraft, as the flight begins."""
        flight = self.flight
        start = _moment(flight.start) if flight.start else datetime.now(UTC)
        aircraft = Aircraft(start, flight.seed, flight.turbulence)
        aircraft.step(flight.after)
        if flight.fuel is not None:
            aircraft.fuel = [flight.fuel, flight.fuel]
        return aircraft

    def stations(self) -> dict[str, Station]:
        """New nodes, by name, in working order."""
        stations = {}
        for name, options in self.nodes.items():
            stations[name] = Station(DEVICES[options.device or name](options.id))
            stations[name].node.memory.disabled.update(options.disabled)
        return stations


def everything() -> Scenario:
    """A scenario with one node of each kind and no faults."""
    return Scenario(dict.fromkeys(DEVICES, NodeOptions()))


def shipped() -> dict[str, Path]:
    """The scenarios that come with the package, by name."""
    folder = Path(str(resources.files("fixgw.hw_sim.can") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(path: Path | str) -> Scenario:
    """Read a scenario. Raises `ConfigurationError` with everything that is wrong with it."""
    reader = Reader(path)
    value, at = reader.read(reader.main)
    if not isinstance(value, dict) and not reader.problems:
        reader.report(at, f"expected a mapping with nodes:, got {described(value)}")
    if not reader.problems:
        reader.problems += problems(value, _File, at)
    scenario = _scenario(value, at, reader.problems) if isinstance(value, dict) else None
    if scenario is None or reader.problems:
        raise ConfigurationError(reader.sorted_problems())
    return scenario


# -- validation --------------------------------------------------------------------------------------------------------


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _scenario(value: dict[str, Any], at: Positions, found: list[Problem]) -> Scenario | None:
    """The scenario, or as many problems as there are; None when its form is too far off."""
    try:
        file = msgspec.convert({**value, "events": []}, _File)
    except msgspec.ValidationError:
        file = None
    nodes = value.get("nodes")
    devices: dict[str, str] = {}
    ids: dict[int, str] = {}
    for name, options in nodes.items() if isinstance(nodes, dict) else ():
        options = options if isinstance(options, dict) else {}
        device, place = options.get("device") or name, at.at(["nodes", name])
        devices[str(name)] = device = str(device)
        if device not in DEVICES:
            where = place.at(["device"]) if "device" in options else at.at(["nodes"]).keys[name]
            found.append(where.problem(f"nodes.{name}: no device {device!r}{did_you_mean(device, DEVICES)}"))
            continue
        id = options.get("id") or DEVICES[device].DEVICE
        if isinstance(id, int) and (other := ids.setdefault(id, str(name))) != name:
            found.append(
                at.at(["nodes"])
                .keys[name]
                .problem(
                    f"nodes.{name}: its node id {id} is that of {other!r}; give it an id of its own, "
                    "or use the fault 'duplicate'"
                )
            )
    if nodes == {}:
        found.append(at.at(["nodes"]).problem("nodes: there is none"))
    start = value.get("flight", {}).get("start") if isinstance(value.get("flight"), dict) else None
    if isinstance(start, str):
        try:
            _moment(start)
        except ValueError:
            found.append(at.at(["flight", "start"]).problem(f"flight.start: {start!r} is not a date and time"))

    events = []
    listed = value.get("events")
    for number, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, dict):
            here, label = at.at(["events", number]), f"events[{number}]"
            event = _event(entry, here, label, devices, found)
            if event is not None:
                events.append(event)
                if file and file.duration is not None and event.at >= file.duration:
                    found.append(here.problem(f"{label}: at {event.at:g} the scenario is over"))
    if file is None:
        return None
    return Scenario(
        {name: options or NodeOptions() for name, options in file.nodes.items()},
        file.flight,
        tuple(sorted(events, key=lambda event: event.at)),
        file.duration,
        file.description,
    )


class _Happens(Struct, forbid_unknown_fields=True, kw_only=True):
    at: Seconds
    node: str


class _Turn(_Happens):
    turn: Annotated[int, Meta(ge=0, le=1)]
    by: Annotated[int, Meta(ge=-1000, le=1000)]


class _Press(_Happens):
    press: Annotated[int, Meta(ge=0, le=7)]
    for_: Seconds = msgspec.field(name="for", default=0.2)


class _Switch(_Happens):
    switch: Annotated[int, Meta(ge=0, le=39)]
    to: bool = True


class _Alarm(_Happens):
    alarm: Annotated[int, Meta(ge=0, le=65535)]
    data: str | int = ""


KINDS: Mapping[str, type[_Happens] | None] = {
    "fault": None,  # depends on the fault
    "turn": _Turn,
    "press": _Press,
    "switch": _Switch,
    "alarm": _Alarm,
}


@cache
def _form(name: str) -> type[Struct]:
    """What an event with this fault may say: the fault's own fields are its options."""
    fault = FAULTS[name]
    hints = get_type_hints(fault)
    options: list[Any] = []
    if is_dataclass(fault):
        options = [(f.name, hints[f.name], f.default) for f in fields(fault) if f.init]
    return msgspec.defstruct(
        fault.__name__,
        [("fault", str), ("for_", Seconds | None, msgspec.field(name="for", default=None)), *options],
        bases=(_Happens,),
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _event(
    entry: dict[str, Any], at: Positions, name: str, devices: Mapping[str, str], found: list[Problem]
) -> Event | None:
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        found.append(at.problem(f"{name}: expected one of {', '.join(KINDS)}, got {' and '.join(kinds) or 'none'}"))
        return None
    kind = kinds[0]
    node = entry.get("node")
    if isinstance(node, str) and devices and node not in devices:
        found.append(at.at(["node"]).problem(f"{name}: no node {node!r}{did_you_mean(node, devices)}"))
    form: type[Struct] | None = KINDS[kind]
    if form is None:
        fault = str(entry["fault"])
        if fault not in FAULTS:
            found.append(at.at(["fault"]).problem(f"{name}: no fault {fault!r}{did_you_mean(fault, FAULTS)}"))
            return None
        form = _form(fault)
    elif kind != "alarm" and isinstance(node, str) and DEVICES.get(devices.get(node, "panel")) is not Panel:
        found.append(at.at(["node"]).problem(f"{name}: {node!r} has nothing to {kind}; a panel has"))
    wrong = list(problems(entry, form, at, name))
    found += wrong
    if wrong:
        return None
    try:
        return _made(kind, entry)
    except ValueError as error:
        found.append(at.problem(f"{name}: {error}"))
        return None


def _made(kind: str, entry: dict[str, Any]) -> Event:
    """Raises ValueError for options that do not go with each other, or are out of range."""
    options = {key: value for key, value in entry.items() if key not in ("at", "node", "for", kind)}
    what, lasting = entry[kind], entry.get("for")
    begin: Callable[[Station], Callable[[], None] | None]
    if kind == "fault":
        make = partial(FAULTS[what], **options)
        make()
        begin = partial(_break, make)
        words = what
    elif kind == "alarm":
        text = str(options.get("data", ""))
        data = bytes.fromhex(text if len(text) % 2 == 0 else "")
        if len(data) > 6 or (text and not data):
            raise ValueError(f"data: {text!r} is not up to six bytes in hex")
        begin = partial(_alarm, what, data)
        words = f"alarm {what}"
    else:
        lasting = entry.get("for", 0.2) if kind == "press" else None
        begin = partial(_operate, kind, what, options)
        words = f"{kind} {what}"
    return Event(float(entry["at"]), entry["node"], begin, lasting, words)


def _break(make: Callable[[], Fault], station: Station) -> Callable[[], None]:
    fault = make()
    station.begin(fault)
    return partial(station.end, fault)


def _alarm(code: int, data: bytes, station: Station) -> None:
    station.node.alarm(code, data)


def _operate(kind: str, number: int, options: Mapping[str, Any], station: Station) -> Callable[[], None] | None:
    panel = cast(Panel, station.node)
    if kind == "turn":
        panel.turn(number, options["by"])
    elif kind == "switch":
        panel.switch(number, options.get("to", True))
    else:
        panel.press(number)
        return partial(panel.press, number, False)
    return None


# -- playing -----------------------------------------------------------------------------------------------------------


class Play:
    """A scenario in progress, from the first `due` on. No thread, socket or clock.

    `received` may be called from any thread, everything else from one.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.stations = scenario.stations()
        #: What happened last, in words, with its time.
        self.log: list[tuple[float, str]] = []
        self.frames = 0
        self._began: float | None = None
        self._order = count()
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        for event in scenario.events:
            self._at(event.at, partial(self._begin, event))

    def over(self, now: float) -> bool:
        """Whether the scenario has an end, and has reached it."""
        duration = self.scenario.duration
        return duration is not None and self._began is not None and now - self._began >= duration

    def received(self, frame: Frame) -> None:
        """A frame from the bus that is none of ours."""
        for station in self.stations.values():
            station.received(frame)

    def due(self, now: float, aircraft: Aircraft) -> list[Frame]:
        """Everything that the nodes send at `now`, in monotonic seconds. They hear each other's node-specific ones."""
        if self._began is None:
            self._began = now
        while self._todo and self._todo[0][0] <= now - self._began:
            heapq.heappop(self._todo)[2]()
        view = look(aircraft)
        sent: list[Frame] = []
        for station in self.stations.values():
            frames = station.due(now, view)
            sent += frames
            for frame in frames:
                if frame.id > NODE_SPECIFIC:
                    for other in self.stations.values():
                        if other is not station:
                            other.received(frame)
        self.frames += len(sent)
        return sent

    def _at(self, time: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._todo, (time, next(self._order), do))

    def _begin(self, event: Event) -> None:
        self._say(event.at, f"{event.node}: {event.words}")
        end = event.begin(self.stations[event.node])
        if end is not None and event.lasting is not None:
            self._at(event.at + event.lasting, partial(self._end, event, end))

    def _end(self, event: Event, end: Callable[[], None]) -> None:
        assert event.lasting is not None
        self._say(event.at + event.lasting, f"{event.node}: {event.words} is over")
        end()

    def _say(self, time: float, words: str) -> None:
        self.log = [*self.log[-99:], (time, words)]


def frames(scenario: Scenario, duration: float | None = None, step: float = STEP) -> Iterator[tuple[float, Frame]]:
    """Play at once, as fast as it goes: (seconds from the beginning, frame), for `duration` seconds.

    Without `duration` it is the scenario's own; one without an end goes on for ever.
    """
    if duration is not None:
        scenario = scenario._replace(duration=duration)
    aircraft, play = scenario.aircraft(), Play(scenario)
    for tick in count():
        now = tick * step
        if play.over(now):
            return
        for frame in play.due(now, aircraft):
            yield now, frame
        aircraft.step(step)
