"""What may go wrong with which device, and `make_plan`: a random scenario for a seed.

The table of devices is written by hand: which connection reads a device, and what its protocol can notice. Nothing here
asks a driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, NamedTuple

#: Seconds until all that is plugged in has been good for a while; and after the last fault, until all must be so again.
WARM_S, RECOVERY_S = 6.0, 14.0


class Device(NamedTuple):
    """`connection` reads it. With a `checksum`, its protocol notices that a frame has lost its end; if it is not
    `live`, nobody can tell that it repeats itself. Of some only the `plug` can be pulled: chips, programs. That it was
    pulled is noticed within `notice_s`, at the next poll."""

    connection: str
    checksum: bool = True
    live: bool = False
    plug: bool = False
    notice_s: float = 0.6


INSTRUMENTS: Mapping[str, Device] = {
    "gps": Device("gps", live=True),
    "eis": Device("eis"),
    "skyview": Device("skyview", live=True),
    "g3x": Device("g3x", live=True),
    "gnx": Device("gnx", checksum=False, live=True),
    "dynon_d10": Device("dynon_d10", live=True),
    "shadin": Device("shadin"),
    "stratux": Device("stratux", live=True),
    "xgps": Device("xgps", checksum=False),
    "dump1090": Device("dump1090", checksum=False),
    "navigator": Device("navigator", live=True),
    "gpsd": Device("gpsd", checksum=False, live=True),
    "ifly": Device("ifly"),
    "mavlink": Device("mavlink", live=True),
    "tyres": Device("tyres", checksum=False),
    "tp3": Device("tp3"),
    "arduino": Device("arduino"),
    "strompi": Device("second_ups", checksum=False),
    "rdac": Device("rdac"),
    "megasquirt": Device("megasquirt"),
    "bno055": Device("attitude", live=True, plug=True),
    "bmp280": Device("air", live=True, plug=True),
    "ads1115": Device("levers", plug=True),
    "mcp3008": Device("more_levers", plug=True),
    "x728": Device("ups", plug=True, notice_s=2.5),
    "xplane": Device("xplane", plug=True, notice_s=3.5),  # by datagrams: only silence tells
    "fgfs": Device("fgfs", plug=True, notice_s=3.5),
    "autopilot": Device("autopilot", plug=True),
    "tablet": Device("tablets", plug=True),
    "panel": Device("panel", plug=True),
}
#: The nodes of the CAN-FIX bus, and their numbers.
NODES: Mapping[str, int] = {
    "air": 50,
    "ahrs": 49,
    "engine": 64,
    "fuel": 68,
    "gps": 193,
    "controls": 1,
    "panel": 208,
}
#: What an event happens to, and for how long it may happen once at a time.
TARGETS = ("node", "instrument", "fault", "set", "adapter", "aircraft")
#: Instruments whose protocol carries whole frames only: nothing is lost of one.
WHOLE = ("tyres",)

#: What a fault does to what a device says. ``fine``: what gets through is right, and in time. ``late``: right, but old.
#: ``silent``: nothing gets through. ``gone``: the same, and the driver is told. ``stuck``: the same values, again and
#: again. ``flagged``: the device says itself that its values are not good. ``wrong``: anything may get through.
Effect = Literal["fine", "late", "silent", "gone", "stuck", "flagged", "wrong"]

WIRE: Mapping[str, Effect] = {
    "drop": "fine",
    "delay": "late",
    "jitter": "late",
    "duplicate": "fine",
    "truncate": "fine",  # with a checksum
    "bit-flips": "wrong",
    "stuck": "stuck",
    "unplug": "gone",
    "silent": "silent",
    "garbage": "wrong",
    "flood": "late",
    "baud-mismatch": "wrong",
}
NODE: Mapping[str, Effect] = {
    **{name: WIRE[name] for name in ("drop", "delay", "jitter", "duplicate", "bit-flips", "stuck", "silent")},
    "truncate": "wrong",  # CAN has a checksum of its own, so nobody looks for frames that are cut afterwards
    "unplug": "silent",
    "power-off": "silent",
    "bus-off": "silent",
    "deaf": "fine",
    "frozen": "stuck",
    "failed": "flagged",
    "suspect": "flagged",
    "annunciating": "fine",
    "not-a-number": "fine",
    "undefined-meta": "fine",
    "clock-drift": "fine",
    "old-library": "fine",
    "wrong-length": "fine",
    "zero-length": "silent",
    "extended": "silent",
    "remote": "silent",
    "reserved": "fine",
    "babbling": "late",
    "garbage": "wrong",
    "two-way": "fine",
    "duplicate-node": "wrong",
}
#: Faults of a node that concern the whole bus: its load, or frames in the name of others.
WHOLE_BUS = ("babbling", "garbage", "duplicate-node", "two-way", "reserved", "bit-flips")
ADAPTER: Mapping[str, Effect] = {
    "unplugged": "gone",
    "jammed": "fine",
    "mute": "fine",
    "error-warning": "fine",
    "error-passive": "fine",
}
#: Options of faults: what they may be.
OPTIONS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "drop": {"rate": (0.1, 0.3, 0.7)},
    "delay": {"by": (0.2, 0.5, 1.5), "jitter": (0.0, 0.3)},
    "jitter": {"jitter": (0.1, 0.4)},
    "duplicate": {"rate": (0.1, 0.5)},
    "truncate": {"rate": (0.1, 0.5)},
    "bit-flips": {"rate": (0.0005, 0.005)},
    "flood": {"times": (3, 10)},
    "baud-mismatch": {"ratio": (0.5, 2.0, 0.9)},
    "clock-drift": {"by": (-0.3, 0.1, 0.5)},
    "wrong-length": {"by": (-1, -2, 1)},
    "not-a-number": {"infinite": (False, True)},
    "babbling": {"rate": (100.0, 1500.0)},
    "garbage": {"rate": (50.0, 500.0)},
}
SEEDED = ("drop", "delay", "jitter", "duplicate", "truncate", "bit-flips", "garbage")
#: What may be set for one device, or for all, and values that are unusual, but possible. Not what some devices, or
#: their drivers, work out from something else, as the indicated altitude.
VALUES: Mapping[str, tuple[float, ...]] = {
    "OILP1": (12.0, 85.0),
    "OILT1": (40.0, 130.0),
    "CHT11": (60.0, 250.0),
    "EGT12": (300.0, 850.0),
    "VOLT": (11.5, 15.5),
    "FUELQ1": (1.0, 19.0),
    "IAS": (45.0, 160.0),
    "PITCH": (-20.0, 25.0),
    "HEAD": (1.0, 359.0),
    "OAT": (-25.0, 40.0),
    "MAP1": (15.0, 28.0),
}


@dataclass(frozen=True)
class Plan:
    """A scenario: the devices, and what happens, as entries of a scenario file."""

    seed: int
    instruments: tuple[str, ...]
    nodes: tuple[str, ...]
    events: tuple[Mapping[str, Any], ...]
    seconds: float
    step: float = 0.05
    flight: Mapping[str, Any] = field(default_factory=dict)

    def contents(self) -> dict[str, Any]:
        """The scenario file."""
        nodes: dict[str, Any] = dict.fromkeys(self.nodes or ("panel",), None)
        return {
            "description": f"campaign, seed {self.seed}: {', '.join((*self.instruments, *self.nodes))}",
            "flight": dict(self.flight),
            "nodes": nodes,
            "events": [dict(event) for event in self.events],
        }

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections of the demonstration of everything that run."""
        names = [INSTRUMENTS[name].connection for name in self.instruments]
        return (*(["can"] if self.nodes else []), *names, "demo", "compute", "alerts")

    def only(self, events: Iterable[Mapping[str, Any]]) -> Plan:
        """The same with these events only."""
        return replace(self, events=tuple(events))

    @property
    def quiet(self) -> Plan:
        """The same without what happens to single devices."""
        return self.only(event for event in self.events if not concerns(event))


def concerns(event: Mapping[str, Any]) -> str:
    """The beginning of the sources that the event concerns; empty if it happens to the aircraft."""
    if "adapter" in event:
        return "sim/can/"
    if "node" in event:
        return "sim/can/" if event.get("fault") in WHOLE_BUS else f"sim/can/{NODES[event['node']]}"
    if "instrument" in event:
        return source_of(event["instrument"])
    return ""


def source_of(instrument: str) -> str:
    """The source of what an instrument measures."""
    return f"sim/{instrument}"


def effect_of(event: Mapping[str, Any]) -> Effect:
    """What an event does to the values of the device that it concerns."""
    if "adapter" in event:
        return ADAPTER[event["adapter"]]
    fault = event.get("fault")
    if "set" in event:
        return "wrong"
    if fault is None:
        return "fine"
    if "node" in event:
        return NODE[fault]
    if fault == "truncate" and not INSTRUMENTS[event["instrument"]].checksum:
        return "wrong"
    return WIRE[fault]


def make_plan(seed: int) -> Plan:
    """The plan of a seed: some devices, and faults that may meet, all of which are over `RECOVERY_S` before the end."""
    dice = Random(seed)
    instruments = sorted(dice.sample([*INSTRUMENTS], dice.randint(2, 6)))
    nodes = sorted(dice.sample([*NODES], dice.randint(0, 3)))
    flight = {
        "start": "2026-08-01 15:00:00",
        "after": float(dice.randint(0, 20)),
        "seed": dice.randint(0, 999),
        "turbulence": dice.choice((0.0, 0.5, 1.0)),
    }
    span = dice.choice((6.0, 10.0, 20.0))
    dice = Random(seed)
    events: list[dict[str, Any]] = []
    for _ in range(dice.randint(2, 10)):
        begin = round(WARM_S + dice.uniform(0.0, 0.7 * span), 2)
        lasting = round(dice.uniform(0.2, WARM_S + span - begin), 2)
        event = {"at": begin, **_any_event(dice, instruments, nodes), "for": lasting}
        if not any(_clash(event, other) for other in events):
            events.append(_without_duration(event))
    events.sort(key=lambda event: float(event["at"]))
    return Plan(seed, tuple(instruments), tuple(nodes), tuple(events), WARM_S + span + RECOVERY_S, flight=flight)


def cover_everything() -> tuple[Plan, Plan]:
    """Two plans of one short flight with all devices. Every second instrument is disturbed in the first, and the others
    in the second. Between them, every fault happens.

    The silent kinds last longest, so that what should be old by then is seen. The whole bus suffers after its nodes.
    """
    dice = Random(1)
    halves: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []
    faults = [*WIRE]
    for n, name in enumerate(INSTRUMENTS):
        possible = _faults("instrument", name)
        fault = next((fault for fault in faults if fault in possible), dice.choice(possible))
        if fault in faults:
            faults.remove(fault)
        event = {"at": WARM_S + n % 5 * 0.1, **_with_options(dice, "instrument", name, fault), "for": 4.5}
        halves[n % 2].append(event)
    silent = [fault for fault in NODE if NODE[fault] == "silent"]
    others = [fault for fault in NODE if fault not in (*silent, *WHOLE_BUS)]
    for half, names, offset, lasting in (0, silent, 0.0, 4.5), (1, others, 0.0, 2.2), (1, WHOLE_BUS, 2.5, 2.2):
        for n, fault in enumerate(names):
            name = [*NODES][n % len(NODES)]
            halves[half].append({"at": WARM_S + offset, **_with_options(dice, "node", name, fault), "for": lasting})
    for name, effect in ADAPTER.items():
        halves[effect == "gone"].append({"at": WARM_S + 2.5, "adapter": name, "for": 2.2})
    flight = {"start": "2026-08-01 15:00:00", "seed": 1, "turbulence": 0.5}
    one, other = (
        Plan(n, tuple(INSTRUMENTS), tuple(NODES), tuple(half), WARM_S + 5.0 + 5.0, 0.1, flight)
        for n, half in enumerate(halves)
    )
    return one, other


def _clash(event: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the end of one would end the other, too: a plug is put back once."""
    if [event.get(kind) for kind in TARGETS] != [other.get(kind) for kind in TARGETS]:
        return False
    begin, begins = float(event["at"]), float(other["at"])
    return begin < begins + float(other.get("for", 0.0)) and begins < begin + float(event.get("for", 0.0))


def _any_event(dice: Random, instruments: list[str], nodes: list[str]) -> dict[str, Any]:
    kinds = ["instrument"] * 6 + (["node"] * 5 + ["adapter"] if nodes else []) + ["aircraft", "set"]
    kind = dice.choice(kinds)
    if kind == "aircraft":
        return {"aircraft": "oil-leak"}
    if kind == "adapter":
        return {"adapter": dice.choice([*ADAPTER])}
    key = dice.choice([*VALUES])
    if kind == "set":
        return {"set": key, "to": dice.choice(VALUES[key])}
    name = dice.choice(instruments if kind == "instrument" else nodes)
    if name == "panel" and dice.random() < 0.7:
        return {kind: name, **_knob(dice)}
    if kind == "instrument" and INSTRUMENTS[name].plug:
        return {kind: name, "fault": "unplug"}
    if dice.random() < 0.15 and _can_be_set(kind, name):
        return {kind: name, "set": key, "to": dice.choice(VALUES[key])}
    return _fault(dice, kind, name)


def _can_be_set(kind: str, name: str) -> bool:
    return kind == "node" or name not in ("rdac", "megasquirt", "tyres")


def _fault(dice: Random, kind: str, name: str) -> dict[str, Any]:
    return _with_options(dice, kind, name, dice.choice(_faults(kind, name)))


def _faults(kind: str, name: str) -> list[str]:
    """What may happen to a node or an instrument."""
    if kind == "node":
        return [*NODE]
    if INSTRUMENTS[name].plug:
        return ["unplug"]
    if name in WHOLE:
        return ["unplug", "silent", "drop", "delay", "stuck", "duplicate"]
    if name in ("rdac", "megasquirt"):  # on a bus of their own, where frames are whole
        return [fault for fault in WIRE if fault not in ("flood", "baud-mismatch")]
    return [*WIRE]


def _with_options(dice: Random, kind: str, name: str, fault: str) -> dict[str, Any]:
    options = {
        name: dice.choice(values)
        for name, values in OPTIONS.get(fault, {}).items()
        if fault != "garbage" or kind == "node"
    }
    if fault in SEEDED:
        options["seed"] = dice.randint(0, 999)
    return {kind: name, "fault": fault, **options}


def _knob(dice: Random) -> dict[str, Any]:
    return dice.choice(
        (
            {"turn": dice.randint(0, 1), "by": dice.choice((-3, -1, 1, 4))},
            {"press": dice.randint(0, 3)},
            {"switch": dice.randint(0, 1), "to": dice.random() < 0.5},
        )
    )


def _without_duration(event: dict[str, Any]) -> dict[str, Any]:
    """What happens at an instant has no duration."""
    return {key: value for key, value in event.items() if key != "for" or not ("turn" in event or "switch" in event)}


class Span(NamedTuple):
    """From `begin` to `end`, in seconds, the values of `source` (or of those that begin with it) suffer the effect."""

    source: str
    effect: Effect
    begin: float
    end: float
    event: Mapping[str, Any]

    def concerns(self, source: str) -> bool:
        return source == self.source or (self.source.endswith("/") and source.startswith(self.source))


def spans(plan: Plan) -> Iterator[Span]:
    """What the events do to the values of single devices."""
    for event in plan.events:
        if source := concerns(event):
            begin = float(event["at"])
            end = begin + float(event.get("for", 0.0))
            yield Span(source, effect_of(event), begin, end, event)
            if event.get("fault") == "babbling":  # it repeats the last frame, even if that was to be the last
                yield Span(f"sim/can/{NODES[event['node']]}", "wrong", begin, end, event)
