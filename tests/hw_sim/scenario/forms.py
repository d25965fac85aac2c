"""What a scenario consists of, as it is written in a file and as it is played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fixgw.errors import FixgwError, did_you_mean
from fixgw.hw_sim import faults as wire
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.expect import Claim, Level
from fixgw.hw_sim.can.devices import DEVICES
from fixgw.hw_sim.can.faults import FAULTS, Station
from fixgw.hw_sim.can.nodes import BIT_RATES
from fixgw.hw_sim.scenario.actions import End
from fixgw.kit.expression import Expression

MAX_STEPS = 5000  # of a scenario, with all rounds of its loops and all that it plays
MAX_DEPTH = 10  # blocks and played files within one another
MAX_ROUNDS = 1000  # of one loop, and of what happens `whenever` something is true

Seconds = Annotated[float, Meta(ge=0.0, le=86400.0)]
NodeId = Annotated[int, Meta(ge=1, le=255)]

#: The faults of each kind of target.
FAULTS_OF: Mapping[str, Mapping[str, Callable[..., Any]]] = {"node": FAULTS, "instrument": wire.FAULTS}
#: The kinds of events that name what happens to the only one that there is.
ALONE = ("adapter", "aircraft")


# -- the file ----------------------------------------------------------------------------------------------------------


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


class Parameter(Struct, forbid_unknown_fields=True):
    """A value that the command line may give; its type is that of the default."""

    default: float | bool | str
    min: float | None = None
    max: float | None = None
    choices: list[float | bool | str] | None = None
    description: str = ""


class Sender(Struct, forbid_unknown_fields=True):
    """What is wired to an input of a converter: its volts by the value of the key, joined by straight lines."""

    key: str
    points: Annotated[list[tuple[float, float]], Meta(min_length=2)]

    def volts(self, aircraft: Aircraft) -> float:
        """At the ends of the points they stay as they are."""
        value = float(aircraft.values().get(self.key, 0.0))
        points = sorted(self.points)
        if value <= points[0][0]:
            return points[0][1]
        for (low, at_low), (high, at_high) in pairwise(points):
            if value <= high:
                return at_low + (at_high - at_low) * (value - low) / (high - low)
        return points[-1][1]


class File(Struct, forbid_unknown_fields=True):
    nodes: dict[str, NodeOptions | None] | None = None
    description: str = ""
    bit_rate: Literal[125, 250, 500, 1000] = 250
    duration: Seconds | None = None
    flight: Flight | None = None
    configuration: str | None = None
    wires: dict[str, str] = {}
    senders: dict[str, list[Sender]] = {}
    seed: int | None = None
    parameters: dict[str, Any] | None = None
    events: list[dict[str, Any]] | None = None


class Timed(Struct, forbid_unknown_fields=True, kw_only=True):
    """When a step begins; that exactly one of these is given, or `at` with one of the others, is checked elsewhere."""

    at: Annotated[
        Seconds | None,
        Meta(description="Seconds from the beginning of the scenario, or from what the next three name."),
    ] = None
    after: Annotated[str | None, Meta(description="It begins after the event with this `name`.")] = None
    when: Annotated[str | None, Meta(description="It begins when this expression becomes true, once.")] = None
    whenever: Annotated[str | None, Meta(description="The same, each time that it becomes true.")] = None
    deadline: Annotated[
        Seconds | None,
        Meta(description="The expression has to be true within so many seconds, or the scenario has failed."),
    ] = None


class _Step(Timed, kw_only=True):
    name: str | None = None


class _ToNode(_Step, kw_only=True):
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


class _Adapter(_Step, kw_only=True):
    adapter: Literal["unplugged", "jammed", "mute", "error-warning", "error-passive"]
    for_: Seconds | None = msgspec.field(name="for", default=None)


class _Aircraft(_Step, kw_only=True):
    aircraft: Literal["oil-leak"]
    for_: Seconds | None = msgspec.field(name="for", default=None)


class _Set(_ToNode, kw_only=True):
    set: str
    to: float | str | bool
    for_: Seconds | None = msgspec.field(name="for", default=None)


class _Expect(_Step, kw_only=True):
    expect: str | dict[str, Any]
    within: Seconds = 0.0
    for_: Seconds = msgspec.field(name="for", default=0.0)


Texts = str | list[str]


class Expected(Struct, forbid_unknown_fields=True):
    """What an expectation says; one of `key`, `alert` and `unchanged` is given."""

    key: Annotated[
        Texts | None, Meta(description="A key, an aux value (`IAS.Vne`), a pattern (`EGT*`), or several: each of them.")
    ] = None
    is_: Annotated[
        float | bool | str | None, Meta(description="Its value, in its own units; or the state of an alert.")
    ] = msgspec.field(name="is", default=None)
    tolerance: Annotated[
        Annotated[float, Meta(ge=0.0)] | None, Meta(description="By how much the value may differ.")
    ] = None
    min: Annotated[float | None, Meta(description="The least value.")] = None
    max: Annotated[float | None, Meta(description="The greatest value.")] = None
    flags: Annotated[
        Texts | None,
        Meta(
            description="`good`, `old`, `bad`, `fail`, `secfail`, `annunciate`, or `not` and one of these; or several."
        ),
    ] = None
    source: Annotated[str | None, Meta(description="Whose value is published: `sim/eis`, or a pattern.")] = None
    alert: Annotated[
        str | None,
        Meta(
            description="The id of an alert that `is` raised (by default), acknowledged, cleared, latched, shelved or "
            "inhibited."
        ),
    ] = None
    level: Annotated[Level | None, Meta(description="The level of the alert.")] = None
    unchanged: Annotated[
        Texts | None, Meta(description="Keys or patterns whose values, flags and sources do not change: `for` a time.")
    ] = None
    except_: Annotated[Texts, Meta(description="Keys or patterns to leave out.")] = msgspec.field(
        name="except", default=""
    )


class _Block(Timed, kw_only=True):
    events: list[dict[str, Any]]


class _Repeat(_Block, kw_only=True):
    repeat: Annotated[int, Meta(ge=0, le=MAX_ROUNDS)]
    every: Seconds = 0.0
    as_: str | None = msgspec.field(name="as", default=None)


class _Each(_Block, kw_only=True):
    each: Annotated[list[float | bool | str], Meta(max_length=MAX_ROUNDS)]
    every: Seconds = 0.0
    as_: str = msgspec.field(name="as")


class _Play(Timed, kw_only=True):
    play: str
    with_: dict[str, float | bool | str] = msgspec.field(name="with", default_factory=dict)


class _Random(Timed, kw_only=True):
    random: Annotated[int, Meta(ge=0, le=MAX_ROUNDS)]
    during: Seconds
    for_: tuple[Seconds, Seconds] = msgspec.field(name="for", default=(1.0, 5.0))
    faults: list[str] | None = None
    nodes: list[str] | None = None
    instruments: list[str] | None = None


#: The kinds of steps, each by the word that makes it one. The form of a fault depends on the fault.
KINDS: Mapping[str, type[Timed] | None] = {
    "fault": None,
    "turn": _Turn,
    "press": _Press,
    "switch": _Switch,
    "alarm": _Alarm,
    "adapter": _Adapter,
    "aircraft": _Aircraft,
    "set": _Set,
    "expect": _Expect,
}
#: The kinds of steps that stand for others, from the most special to the most general.
BLOCKS: Mapping[str, type[Timed]] = {
    "repeat": _Repeat,
    "each": _Each,
    "play": _Play,
    "random": _Random,
    "events": _Block,
}


@cache
def form_of(fault: Callable[..., Any]) -> type[Struct]:
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


# -- the contents of a file --------------------------------------------------------------------------------------------


class Condition(NamedTuple):
    """Something begins when an expression becomes true, or whenever it does (`always`); it is looked at `since` then,
    and must be true before the `deadline`, both in seconds from the beginning of the scenario."""

    expression: Expression
    always: bool = False
    since: float = 0.0
    deadline: float | None = None


class Event(NamedTuple):
    """Something that happens, `at` seconds into the scenario, to `what`: the name of a node or instrument, or empty for
    the adapter or the aircraft (`kind`).

    `begin` makes it happen to the target of that name (a `Station`, an instrument, the adapter), and returns a function
    that ends it, or None; that is called `lasting` seconds later, or never. The kind "expect" is a `claim` that has to
    be so `within` so many seconds; its target is a `Watch`.

    `at` counts from the beginning of the scenario, from that of the event whose `id` is `after`, or from `when`
    something is true. `place` is where it is written.
    """

    at: float
    kind: str
    what: str
    words: str
    begin: Callable[[Any], End | None]
    lasting: float | None = None
    id: int = -1
    after: int | None = None
    when: Condition | None = None
    claim: Claim | None = None
    within: float = 0.0
    place: str = ""


class Scenario(NamedTuple):
    """The contents of a file. `seed` is that of the random faults, None if there are none; `configuration` the path or
    name that the file gives, and `parameters` the values of the parameters. `wires` names the device of a connection
    whose name and driver do not say it, `senders` what is wired to the inputs of a converter, from the first one on."""

    nodes: Mapping[str, NodeOptions]
    flight: Flight = Flight()
    events: tuple[Event, ...] = ()
    duration: float | None = None
    description: str = ""
    bit_rate: int = 250_000  # bit/s
    configuration: str = ""
    seed: int | None = None
    parameters: Mapping[str, float | bool | str] = {}
    wires: Mapping[str, str] = {}
    senders: Mapping[str, list[Sender]] = {}

    def aircraft(self) -> Aircraft:
        """Build the aircraft, as it is when the scenario begins. Raises ImportError if its model is not installed."""
        flight = self.flight
        start = moment(flight.start) if flight.start else datetime.now(UTC)
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

    @property
    def expectations(self) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.kind == "expect")

    @property
    def end(self) -> float | None:
        """When it ends at the latest, in seconds: after its duration, or when every expectation is decided; without
        expectations, when everything has ended.

        None if it has no duration, and something in it waits for a condition without a deadline.
        """
        if self.duration is not None:
            return self.duration
        latest: dict[int, float] = {}
        by_id = {event.id: event for event in self.events}
        for event in self.events:
            chain = [event]
            while chain[-1].after is not None and chain[-1].after not in latest:
                chain.append(by_id[chain[-1].after])
            for each in reversed(chain):
                if each.when is not None and each.when.deadline is None:
                    return None
                base = latest[each.after] if each.after is not None else each.when.deadline if each.when else 0.0
                latest[each.id] = (base or 0.0) + each.at
        lasting = [e for e in self.events if e.kind == "expect" or e.when is not None] or self.events
        return max((latest[e.id] + e.within + (e.lasting or 0.0) for e in lasting), default=0.0)


def moment(text: str) -> datetime:
    """A date and time, UTC unless it says otherwise. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


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


def find(name: str, folder: Path = Path()) -> Path:
    """The file `name`, in `folder` if that is a relative path, or else the packaged scenario. Raises FixgwError."""
    if (path := folder / name).exists():
        return path
    packaged = shipped()
    if name in packaged:
        return packaged[name]
    meant = did_you_mean(name, packaged)
    raise FixgwError(f"no scenario {name!r}{meant}: give a file, or one of {', '.join(packaged)}")
