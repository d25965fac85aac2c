"""Scenarios: YAML files that describe the virtual nodes on the bus, the flight, and what goes wrong when.

    description: The engine monitor falls silent and comes back
    bit_rate: 250                 # kbit/s: 125, 250, 500 or 1000
    duration: 30                  # s; if left out, the scenario never ends
    flight:                       # optional
      start: 2025-07-21 15:00:00  # date and time (UTC) at the start; default: now
      after: 600                  # s of flight before the scenario begins
      seed: 1                     # the same seed gives the same turbulence
      turbulence: 0.5             # 0: smooth, 1: light
      fuel: 3                     # gal in each of two tanks
    nodes:                        # default: one of each kind
      air:                        # a device, see `fixgw.hw_sim.can.devices`, with its default node id
      engine: {id: 65}            # with another node id
      spare: {device: engine, id: 66, disabled: [0x500, 0x502]}
    events:
      - {at: 12.5, node: engine, fault: silent, for: 5}   # a fault, see `fixgw.hw_sim.can.faults`
      - {at: 15, node: air, fault: babbling, rate: 5000}  # with its options; without `for` it lasts to the end
      - {at: 18, node: panel, turn: 0, by: -3}            # turn an encoder by that many steps
      - {at: 19, node: panel, press: 2, for: 0.5}         # press a button
      - {at: 20, node: panel, switch: 9, to: yes}
      - {at: 21, node: engine, alarm: 0x102, data: "2a00"}  # a node alarm: its code, and its data in hex
      - {at: 25, adapter: unplugged, for: 3}              # something happens to the adapter, see `ADAPTER`
      - {at: 30, instrument: eis, fault: truncate, rate: 0.5, for: 3}  # a fault of the wire, see `fixgw.hw_sim.faults`
      - {at: 33, instrument: gps, fault: unplug, for: 5}
      - {at: 36, instrument: panel, turn: 0, by: 2}       # knobs, buttons and switches of the panel on pins
      - {at: 40, aircraft: oil-leak, for: 20}             # something happens to the aircraft, see `AIRCRAFT`
      - {at: 45, set: OILP1, to: 12, for: 5}              # every device sees this value, in the key's units
      - {at: 50, instrument: eis, set: CHT13, to: 260}    # this instrument or node alone sees it

Every problem in a file is reported at once, with its place. The same file drives tests, benches and ``fixgw sim can``:
`Play` plays it without threads or clocks of its own, `frames` as fast as possible, and `fixgw.hw_sim.can.bus.CanBus` in
a world, on a bus that other programs can reach.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fixgw.configuration.options import problems
from fixgw.configuration.reader import Positions, Reader, described
from fixgw.errors import ConfigurationError, Problem, did_you_mean
from fixgw.hw_sim import faults as wire
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.devices import DEVICES, Panel, look
from fixgw.hw_sim.can.faults import FAULTS, Station
from fixgw.hw_sim.can.nodes import BIT_RATES
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.can.slcan import PASSIVE, WARNING, VirtualSlcan
from fixgw.hw_sim.serial import SerialInstrument

STEP_S = 0.025  # of `frames`

Seconds = Annotated[float, Meta(ge=0.0, le=86400.0)]
NodeId = Annotated[int, Meta(ge=1, le=255)]


class Flight(Struct, forbid_unknown_fields=True):
    model: Literal["simple", "jsbsim"] = "simple"
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
    nodes: dict[str, NodeOptions | None] | None = None
    description: str = ""
    bit_rate: Literal[125, 250, 500, 1000] = 250
    duration: Seconds | None = None
    flight: Flight | None = None
    events: list[dict[str, Any]] | None = None


End = Callable[[], None]


class Event(NamedTuple):
    """Something that happens, `at` seconds into the scenario, to `what`: the name of a node or instrument, or empty for
    the adapter or the aircraft (`kind`).

    `begin` makes it happen to the target of that name (a `Station`, an instrument, the adapter), and returns a function
    that ends it, or None; that is called `lasting` seconds later, or never.
    """

    at: float
    kind: str
    what: str
    words: str
    begin: Callable[[Any], End | None]
    lasting: float | None = None


class Scenario(NamedTuple):
    """The contents of a file."""

    nodes: Mapping[str, NodeOptions]
    flight: Flight = Flight()
    events: tuple[Event, ...] = ()
    duration: float | None = None
    description: str = ""
    bit_rate: int = 250_000  # bit/s

    def aircraft(self) -> Aircraft:
        """Build the aircraft, as it is when the scenario begins. Raises ImportError if its model is not installed."""
        flight = self.flight
        start = _moment(flight.start) if flight.start else datetime.now(UTC)
        model: type[Aircraft] = Aircraft
        if flight.model == "jsbsim":
            from fixgw.hw_sim.jsbsim_aircraft import JsbsimAircraft as model
        aircraft = model(start, flight.seed, flight.turbulence)
        aircraft.step(flight.after)
        if flight.fuel is not None:
            aircraft.fuel = [flight.fuel, flight.fuel]
        return aircraft

    def stations(self) -> dict[str, Station]:
        """Build the nodes, by name, without faults."""
        stations = {}
        for name, options in self.nodes.items():
            node = DEVICES[options.device or name](options.id)
            node.memory.disabled.update(options.disabled)
            node.memory.bit_rate = next(code for code, rate in BIT_RATES.items() if rate == self.bit_rate)
            stations[name] = Station(node)
        return stations


def everything() -> Scenario:
    """A scenario with one node of each kind and no faults."""
    return Scenario(dict.fromkeys(DEVICES, NodeOptions()))


@cache
def instruments() -> tuple[str, ...]:
    """The names allowed for `instrument:`: those of every virtual instrument except the nodes."""
    from fixgw.hw_sim.devices import instruments
    from fixgw.hw_sim.everything import NAMES
    from fixgw.hw_sim.panel import Panel as Pins

    return tuple(dict.fromkeys((*instruments(), Pins.NAME, *NAMES)))


def shipped() -> dict[str, Path]:
    """The packaged scenarios, by name."""
    folder = Path(str(resources.files("fixgw.hw_sim") / "scenarios"))
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
    """Build the scenario, or append every problem to `found`; None if its form is beyond recognition."""
    try:
        file = msgspec.convert({**value, "events": []}, _File)
    except msgspec.ValidationError:
        file = None
    nodes = value.get("nodes")
    if nodes is None:
        nodes = dict.fromkeys(DEVICES)
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
                    f"nodes.{name}: its node id {id} is already that of {other!r}; give it another, "
                    "or use the fault 'duplicate-node'"
                )
            )
    if nodes == {}:
        found.append(at.at(["nodes"]).problem("nodes: there are none"))
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
                    found.append(here.problem(f"{label}: the scenario is over before {event.at:g} s"))
    if file is None or not isinstance(nodes, dict):
        return None
    return Scenario(
        {name: options or NodeOptions() for name, options in (nodes if file.nodes is None else file.nodes).items()},
        file.flight or Flight(),
        tuple(sorted(events, key=lambda event: event.at)),
        file.duration,
        file.description,
        file.bit_rate * 1000,
    )


class _Happens(Struct, forbid_unknown_fields=True, kw_only=True):
    at: Seconds


class _ToNode(_Happens, kw_only=True):
    """Happens to a node or an instrument; that exactly one of them is given is checked elsewhere."""

    node: str | None = None
    instrument: str | None = None


class _Turn(_ToNode, kw_only=True):
    turn: Annotated[int, Meta(ge=0, le=1)]
    by: Annotated[int, Meta(ge=-1000, le=1000)]


class _Press(_ToNode, kw_only=True):
    press: Annotated[int, Meta(ge=0, le=7)]
    for_: Seconds = msgspec.field(name="for", default=0.2)


class _Switch(_ToNode, kw_only=True):
    switch: Annotated[int, Meta(ge=0, le=39)]
    to: bool = True


class _Alarm(_ToNode, kw_only=True):
    alarm: Annotated[int, Meta(ge=0, le=65535)]
    data: str = ""


class _Adapter(_Happens, kw_only=True):
    adapter: Literal["unplugged", "jammed", "mute", "error-warning", "error-passive"]
    for_: Seconds | None = msgspec.field(name="for", default=None)


class _Aircraft(_Happens, kw_only=True):
    aircraft: Literal["oil-leak"]
    for_: Seconds | None = msgspec.field(name="for", default=None)


class _Set(_ToNode, kw_only=True):
    set: str
    to: float | str | bool
    for_: Seconds | None = msgspec.field(name="for", default=None)


KINDS: Mapping[str, type[_Happens] | None] = {
    "fault": None,  # depends on the fault
    "turn": _Turn,
    "press": _Press,
    "switch": _Switch,
    "alarm": _Alarm,
    "adapter": _Adapter,
    "aircraft": _Aircraft,
    "set": _Set,
}
#: The kinds that name what happens to the only one that there is.
ALONE = ("adapter", "aircraft")


#: The faults of each kind of target.
FAULTS_OF: Mapping[str, Mapping[str, Callable[..., Any]]] = {"node": FAULTS, "instrument": wire.FAULTS}


@cache
def _form(fault: Callable[..., Any]) -> type[Struct]:
    """The form of an event with this fault: the fault's fields are its options."""
    hints = get_type_hints(fault)
    options: list[Any] = []
    if is_dataclass(fault):
        options = [(f.name, hints[f.name], f.default) for f in fields(fault) if f.init]
    return msgspec.defstruct(
        fault.__name__,
        [("fault", str), ("for_", Seconds | None, msgspec.field(name="for", default=None)), *options],
        bases=(_ToNode,),
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
    target = kind
    targets = [t for t in FAULTS_OF if t in entry]
    if kind == "set" and not targets:
        target = "aircraft"
    elif kind not in ALONE:
        if len(targets) != 1:
            found.append(at.problem(f"{name}: expected either node: or instrument:"))
            return None
        target = targets[0]
        whom = entry[target]
        known: Iterable[str] = devices if target == "node" else instruments()
        if isinstance(whom, str) and known and whom not in known:
            found.append(at.at([target]).problem(f"{name}: no {target} {whom!r}{did_you_mean(whom, known)}"))
    form: type[Struct] | None = KINDS[kind]
    if form is None:
        fault, faults = str(entry["fault"]), FAULTS_OF[target]
        if fault not in faults:
            found.append(at.at(["fault"]).problem(f"{name}: no fault {fault!r}{did_you_mean(fault, faults)}"))
            return None
        form = _form(faults[fault])
    elif kind in ("turn", "press", "switch") and not _is_panel(target, str(whom), devices):
        found.append(at.at([target]).problem(f"{name}: {whom!r} has nothing to {kind}; only a panel has"))
    elif kind == "alarm" and target != "node":
        found.append(at.at([target]).problem(f"{name}: {whom!r} has no alarm; only a node has"))
    wrong = list(problems(entry, form, at, name))
    found += wrong
    if wrong:
        return None
    if kind == "set" and (unfit := _unfit(entry, target)):
        option, why = unfit
        found.append(at.at([option]).problem(f"{name}: {why}"))
        return None
    try:
        return _build_event(kind, target, entry)
    except ValueError as error:
        found.append(at.problem(f"{name}: {error}"))
        return None


@cache
def _keys() -> Mapping[str, Any]:
    """What can be set: the keys that the aircraft has, with a value of each."""
    return Aircraft().values()


def _unfit(entry: Mapping[str, Any], target: str) -> tuple[str, str] | None:
    """Which option of an event that sets a value does not fit, and why; None if all do."""
    from fixgw.hw_sim.devices import instruments

    key, value = entry["set"], entry["to"]
    if key not in _keys():
        return "set", f"the aircraft has no {key!r}{did_you_mean(key, _keys())}"
    kind = type(_keys()[key])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (int, float) and not (number and (kind is float or value == int(value))):
        return "to", f"{key} is a {'whole number' if kind is int else 'number'}, not {value!r}"
    if kind in (bool, str) and type(value) is not kind:
        return "to", f"{key} is {'a text' if kind is str else 'true or false'}, not {value!r}"
    if target == "instrument" and entry["instrument"] not in instruments():
        return "instrument", "only instruments on serial lines can see a value of their own: set it for all"
    return None


def _is_panel(target: str, whom: str, devices: Mapping[str, str]) -> bool:
    return whom == "panel" if target == "instrument" else DEVICES.get(devices.get(whom, "panel")) is Panel


def _build_event(kind: str, target: str, entry: dict[str, Any]) -> Event:
    """Raises ValueError for values that are out of range or do not go together."""
    which, lasting = entry[kind], entry.get("for")
    options = {key: value for key, value in entry.items() if key not in ("at", "node", "instrument", "for", kind)}
    words = f"{kind} {which}"
    begin: Callable[[Any], End | None]
    if kind == "fault":
        words = which
        make = partial(FAULTS_OF[target][which], **options)
        make()
        begin = partial(_break, make)
    elif kind == "adapter":
        words = which
        begin = ADAPTER[which]
    elif kind == "aircraft":
        words = which
        begin = AIRCRAFT[which]
    elif kind == "alarm":
        text = options.get("data", "")
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"data: {text!r} is not bytes in hex") from None
        if len(data) > 6:
            raise ValueError(f"data: {len(data)} bytes, but at most 6 fit")
        begin = partial(_alarm, which, data)
    elif kind == "set":
        value = type(_keys()[which])(options["to"])
        words = f"{which} is {value}"
        begin = partial(_hold, (which, value))
    elif kind == "press":
        lasting = entry.get("for", 0.2)
        begin = partial(_press, which)
    elif kind == "turn":
        words += f" by {options['by']}"
        begin = partial(_turn, which, options["by"])
    else:
        on = options.get("to", True)
        words += " on" if on else " off"
        begin = partial(_switch, which, on)
    return Event(float(entry["at"]), target, entry.get(target, "") if kind not in ALONE else "", words, begin, lasting)


# -- events ------------------------------------------------------------------------------------------------------------


def _break(make: Callable[[], Any], target: Station | SerialInstrument) -> End:
    fault = make()
    target.begin(fault)
    return partial(target.end, fault)


def _hold(hold: tuple[str, Any], target: Aircraft | SerialInstrument | Station) -> End:
    def let_go() -> None:
        target.holds = tuple(other for other in target.holds if other is not hold)

    target.holds = (*target.holds, hold)
    return let_go


def _alarm(code: int, data: bytes, station: Station) -> None:
    station.node.alarm(code, data)


def _panel(target: Any) -> Any:
    """The panel itself, whether it is a node or on pins: both have turn, switch and press."""
    return target.node if isinstance(target, Station) else target


def _turn(encoder: int, steps: int, target: Any) -> None:
    _panel(target).turn(encoder, steps)


def _switch(number: int, on: bool, target: Any) -> None:
    _panel(target).switch(number, on)


def _press(button: int, target: Any) -> End:
    panel = _panel(target)
    panel.press(button)
    return partial(panel.press, button, False)


def _unplug(adapter: VirtualSlcan) -> End:
    adapter.unplug()
    return adapter.plug


def _set(name: str, adapter: VirtualSlcan) -> End:
    setattr(adapter, name, True)
    return partial(setattr, adapter, name, False)


def _raise_flag(flag: int, adapter: VirtualSlcan) -> End:
    def lower() -> None:
        adapter.flags &= ~flag

    adapter.flags |= flag
    return lower


#: What can happen to the adapter: it is unplugged, it accepts no frame to send, it does not answer, its controller
#: reports many errors, or so many that it only listens.
ADAPTER: Mapping[str, Callable[[VirtualSlcan], End]] = {
    "unplugged": _unplug,
    "jammed": partial(_set, "jammed"),
    "mute": partial(_set, "mute"),
    "error-warning": partial(_raise_flag, WARNING),
    "error-passive": partial(_raise_flag, WARNING | PASSIVE),
}


def _leak(aircraft: Aircraft) -> End:
    aircraft.oil_leak = 0.9
    return partial(setattr, aircraft, "oil_leak", 0.0)


#: What can happen to the aircraft: its oil pressure falls to a tenth within some seconds.
AIRCRAFT: Mapping[str, Callable[[Aircraft], End]] = {"oil-leak": _leak}


# -- playing -----------------------------------------------------------------------------------------------------------


class Play:
    """A scenario in progress; it begins with the first `due`. No thread, socket or clock; one thread at a time.

    `tell` is called with every event: its time, and words. Events of the adapter need an `adapter`; those of
    instruments find their target among the `instruments`, by name.
    """

    def __init__(
        self,
        scenario: Scenario,
        adapter: VirtualSlcan | None = None,
        tell: Callable[[float, str], object] | None = None,
        instruments: Mapping[str, Any] | None = None,
    ) -> None:
        self.scenario = scenario
        self.stations = scenario.stations()
        self._targets: dict[tuple[str, str], Any] = {("node", name): s for name, s in self.stations.items()}
        self._targets |= {("instrument", name): i for name, i in (instruments or {}).items()}
        if adapter is not None:
            self._targets["adapter", ""] = adapter
        self._tell = tell
        self._began: float | None = None
        self._number = count()
        self._todo: list[tuple[float, int, str, End]] = []
        self._going: dict[int, End] = {}  # what ends the events that have begun
        self._changes: deque[Scenario | None] = deque()  # from other threads
        #: The scenario whose events happen; None if there is none.
        self.current: Scenario | None = scenario if scenario.events else None
        self._plan(scenario)

    def change(self, scenario: Scenario | None) -> None:
        """End what is going on, and let the events of another `scenario` happen instead, from now on; or nothing more.

        Only its events count, and its duration: the nodes and the aircraft stay as they are. Any thread may call this.
        """
        self._changes.append(scenario)

    def over(self, now: float) -> bool:
        """Whether the scenario has an end, and has reached it."""
        duration = self.scenario.duration
        return duration is not None and self._began is not None and now - self._began >= duration

    def due(self, now: float, aircraft: Aircraft) -> list[tuple[str, list[SimFrame]]]:
        """Return what each node sends at `now`, in monotonic seconds."""
        if self._began is None:
            self._began = now
            self._targets["aircraft", ""] = aircraft
        while self._changes:
            self._begin_anew(self._changes.popleft(), now)
        while self._todo and self._todo[0][0] <= now - self._began:
            at, _, words, do = heapq.heappop(self._todo)
            if self._tell is not None:
                self._tell(at, words)
            do()
        view = look(aircraft)
        return [(name, station.due(now, view)) for name, station in self.stations.items()]

    def _at(self, time: float, words: str, do: End) -> None:
        heapq.heappush(self._todo, (time, next(self._number), words, do))

    def _begin(self, event: Event, words: str) -> None:
        whom = self._targets.get((event.kind, event.what))
        end = event.begin(whom) if whom is not None else None
        if end is None:
            return
        number = next(self._number)
        self._going[number] = end
        if event.lasting is not None:
            self._at(event.at + event.lasting, f"{words} is over", partial(self._end, number))

    def _end(self, number: int) -> None:
        if end := self._going.pop(number, None):
            end()

    def _plan(self, scenario: Scenario) -> None:
        for event in scenario.events:
            there = event.kind == "aircraft" or (event.kind, event.what) in self._targets
            words = f"{event.what or f'the {event.kind}'}{'' if there else ' is not here'}: {event.words}"
            self._at(event.at, words, partial(self._begin, event, words))

    def _begin_anew(self, scenario: Scenario | None, now: float) -> None:
        self._todo.clear()
        for number in [*self._going]:
            self._end(number)
        self.scenario = self.scenario._replace(duration=None)
        self._began = now
        self.current = scenario
        if scenario is not None:
            self._plan(scenario)
            if scenario.duration is not None:
                self._at(scenario.duration, "the scenario is over", partial(self.change, None))


class Director:
    """Plays a scenario without a bus, as an instrument of a world; `over` is set at its end."""

    def __init__(self, play: Play, over: threading.Event) -> None:
        self._play = play
        self._over = over

    def tick(self, aircraft: Aircraft, now: float) -> None:
        if self._play.over(now):
            self._over.set()
        else:
            self._play.due(now, aircraft)

    def close(self) -> None:
        """Nothing to release."""


def frames(scenario: Scenario, duration: float | None = None, step: float = STEP_S) -> Iterator[tuple[float, SimFrame]]:
    """Play as fast as possible: yields (seconds from the beginning, frame) for `duration` seconds.

    Without `duration` that of the scenario applies; one without an end continues forever. The nodes receive each
    other's frames; the bus carries everything at once, whatever its bit rate.
    """
    if duration is not None:
        scenario = scenario._replace(duration=duration)
    aircraft, play = scenario.aircraft(), Play(scenario)
    for tick in count():
        now = tick * step
        if play.over(now):
            return
        for name, sent in play.due(now, aircraft):
            for frame in sent:
                for other, station in play.stations.items():
                    if other != name:
                        station.received(frame)
                yield now, frame
        aircraft.step(step)
