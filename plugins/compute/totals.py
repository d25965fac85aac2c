"""Totals that survive a restart: fuel, hours, extremes.

They are saved about once a second while they change, by `fixgw.state.Keeper`, which never waits for the disk here.
Totals of simulated data are not saved.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fixgw import state
from fixgw.database import BAD, FAIL, NEVER, OLD, Reading
from fixgw.kit.airdata import Undefined
from fixgw.kit.sources import START, derived_source, mark_of
from fixgw.plugins.compute.engine import FLOW
from fixgw.plugins.compute.entry import Function, Input, Option, Output, Setup
from fixgw.plugins.compute.evaluation import DOUBTFUL, Computation, Moment, Process, failing
from fixgw.plugins.compute.trend import Trend

LONGEST_GAP_S = 5.0
REPEAT_S = 0.9  # a good total that has not changed is not written again sooner
FLOWS_GPH = 0.05  # a smaller flow is that of an engine that stands
HOUR_S = 3600.0
AVERAGE_S = 30.0
LANDED_SHARE = 0.7  # of the speed above which it flies

log = logging.getLogger(__name__)


def boot_id() -> str:
    """Names this run of the computer: clocks of another one say nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _finite(value: Any) -> float:
    """The saved number. Raises ValueError or TypeError."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number


class Kept:
    """The saved totals of one connection, by output."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._keeper = state.Keeper(state.path(f"compute-{name}"), log, clock=clock)
        self._totals: dict[str, Total] = {}
        self._known = self._load()

    def _load(self) -> dict[str, Any]:
        data = self._keeper.load()
        if data is None:
            return {}
        try:
            found = json.loads(data)["totals"]
            if isinstance(found, dict):
                return found
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        log.warning("%s is unusable, starting without it", self._keeper.path)
        return {}

    def add(self, total: Total) -> Mapping[str, Any]:
        """What was saved of a total, which from now on is saved when `save` is called."""
        key = total.outputs[0].key
        self._totals[key] = total
        found = self._known.get(key)
        return found if isinstance(found, dict) else {}

    def save(self) -> None:
        self._keeper.keep(self._document)

    def _document(self) -> bytes:
        """Runs on the keeper's thread. What is no longer configured, or simulated now, stays as it was."""
        for key, total in self._totals.items():
            if not any(total.marks):
                self._known[key] = total.facts_to_keep()
        return json.dumps({"totals": self._known}, indent=1).encode()

    @property
    def trouble(self) -> str:
        return self._keeper.trouble

    def close(self) -> None:
        self._keeper.close()


class Total(Computation):
    """Something that adds up. It judges its inputs itself: what was counted is not lost when an input fails."""

    interval = 1.0
    #: Seconds between updates of a good total that grows all the time.
    PACE_S: ClassVar[float] = 0.4

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.kept = setup.plugin.kept  # type: ignore[attr-defined]
        #: The inputs without which nothing can be counted.
        self.required = self.items
        #: The marks of simulated data in the outputs.
        self.marks = [""] * len(self.outputs)
        #: When the input was last good, by the database's clock.
        self.last: float | None = None
        self._boot = boot_id()
        self._saved: dict[str, Any] = {}
        self._seen: list[tuple[int, float]] = []
        #: Whether all inputs were good when they were last looked at.
        self.clean = False
        self._handled: tuple[Reading | None, ...] = tuple(None for _ in self.outputs)

    # -- to override ---------------------------------------------------------------------------------------------------

    def count(self, now: float, readings: list[Reading]) -> None:
        """Add what has come since the last time; every input is known, and one was written."""
        raise NotImplementedError

    def lost(self, now: float, why: str) -> None:
        """An input is not known now."""

    def values(self) -> tuple[float | None, ...]:
        raise NotImplementedError

    def doubts(self) -> tuple[str, ...]:
        """For each output why it is bad; empty if it is not."""
        return tuple("" for _ in self.outputs)

    def set_by_hand(self, index: int, value: float) -> None:
        """Somebody else has written an output."""

    def restore(self, saved: Mapping[str, Any], gap: float | None) -> None:
        """Go on from what was saved; `gap` is the time since then in seconds, None if it is not known."""
        raise NotImplementedError

    def facts_to_keep(self) -> dict[str, Any]:
        return {**self.state(), "time": self.last, "boot": self._boot}

    def state(self) -> dict[str, Any]:
        raise NotImplementedError

    # -- the contract --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        saved = self.kept.add(self)
        time = saved.get("time")
        gap = None
        if isinstance(time, (int, float)) and saved.get("boot") == self._boot and self._boot:
            gap = self.clock() - time
        if saved:
            try:
                self.restore(saved, gap if gap is not None and gap >= 0.0 else None)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("%s: the saved total is unusable: %r", self.outputs[0].key, error)
        for item in self.outputs:
            self._subscriptions.append(self.plugin.db.subscribe(item.key, self._output_changed))
        super().start()

    def stop(self) -> None:
        super().stop()
        if not any(self.marks) and self.state() != self._saved:
            self.kept.save()

    def tick(self, now: float) -> None:
        self.renew()  # so that it does not age while nothing changes
        kept = self.state()
        if kept != self._saved and not any(self.marks):
            self._saved = kept
            self.kept.save()

    def _output_changed(self, key: str, reading: Reading) -> None:
        if not self.is_ours(reading):
            self._pending = True
            self._settle()

    def evaluate(self) -> None:
        self._look_at_outputs()
        readings = [item.reading for item in self.items]
        now = self.clock()
        unknown = [
            (item, reading)
            for item, reading in zip(self.required, readings, strict=False)
            if reading.flags & (OLD | FAIL) or reading.stamp == NEVER
        ]
        mark = mark_of(self.source_of(readings))
        self.clean = not any(reading.flags & DOUBTFUL for reading in readings[: len(self.required)])
        why = ", ".join(failing(item, reading) for item, reading in unknown)
        if unknown:
            self.lost(now, why)
        else:
            seen = [(item.writes, reading.stamp) for item, reading in zip(self.items, readings, strict=True)]
            if seen != self._seen:
                self._seen = seen
                self.marks = [before or mark for before in self.marks]
                self.count(now, readings)
                self.last = now
        if not self.leads:
            return
        never = any(reading.stamp == NEVER for _, reading in unknown)
        flags = 0 if not unknown else OLD if never or not self.counted else BAD
        bad = ""
        required = readings[: len(self.required)]
        if any(r.flags & BAD for r in required):
            bad = ", ".join(failing(i, r) for i, r in zip(self.required, required, strict=True) if r.flags & BAD)
        for index, (value, doubt) in enumerate(zip(self.values(), self.doubts(), strict=True)):
            if value is None:
                self.withhold(index, "nothing has been counted yet")
                continue
            source = derived_source((self.marks[index], mark), self.own)
            said = self.outputs[index].said
            if not (said.flags or flags or bad or doubt) and said.source == source:
                soon = now - said.stamp < (REPEAT_S if said.value == value else self.PACE_S)
                if soon:
                    continue
            reason = ", ".join(filter(None, (why, bad, doubt)))
            self.put(index, value, flags | (BAD if doubt or bad else 0), reason, source)
            self._handled = (*self._handled[:index], self.outputs[index].said, *self._handled[index + 1 :])

    @property
    def counted(self) -> bool:
        """Whether anything has been counted since the start."""
        return self.last is not None

    def _look_at_outputs(self) -> None:
        """Take over what somebody else has written to an output."""
        for index, item in enumerate(self.outputs):
            reading = item.said
            if (
                reading.stamp == NEVER
                or self.is_ours(reading)
                or reading is self._handled[index]
                or reading.flags & FAIL  # bad is what we have said of it, and who writes just a value leaves it so
            ):
                continue
            self._handled = (*self._handled[:index], reading, *self._handled[index + 1 :])
            if reading.source in START and self.values()[index] is not None:
                continue  # a start value does not replace what was counted
            self.set_by_hand(index, float(reading.value))
            self.marks[index] = mark_of(reading.source)


# -- fuel --------------------------------------------------------------------------------------------------------------


class FuelUsed(Total):
    """Fuel used, and fuel remaining, by the flow of all engines."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._longest_gap: float = setup.option("longest_gap")
        self.used = 0.0
        self.remaining: float | None = None
        self.flow: float | None = None  # when it was last known
        self._why: dict[int, str] = {}  # output -> why it is doubtful from now on
        self._failed = False

    def count(self, now: float, readings: list[Reading]) -> None:
        flow = sum(max(float(r.value), 0.0) for r in readings)
        if self.flow is not None and self.last is not None:
            gap = now - self.last
            if gap <= self._longest_gap and not self._failed:
                self._burn((self.flow + flow) / 2.0 * gap / HOUR_S)
            elif max(self.flow, flow) > FLOWS_GPH:
                self._doubt(f"the flow was not known for {gap:.0f} s")
        if any(r.flags & BAD for r in readings) and flow > FLOWS_GPH:
            self._doubt("the flow was bad for some time")
        self.flow, self._failed = flow, False

    def lost(self, now: float, why: str) -> None:
        gone = self.last is not None and now - self.last > self._longest_gap
        self._failed = self._failed or gone or any(item.reading.fail for item in self.items)
        if self._failed and self.flow is not None and self.flow > FLOWS_GPH:
            self._doubt("the flow was not known for some time")

    def _burn(self, gallons: float) -> None:
        self.used += gallons
        if self.remaining is not None:
            self.remaining -= gallons

    def _doubt(self, why: str) -> None:
        for index in (0, 1):
            self._why.setdefault(index, why)

    def values(self) -> tuple[float | None, ...]:
        remaining = self.remaining
        return (self.used, None if remaining is None else max(remaining, 0.0))[: len(self.outputs)]

    def doubts(self) -> tuple[str, ...]:
        doubts = [self._why.get(0, ""), self._why.get(1, "")]
        if self.remaining is not None and self.remaining < 0.0:
            doubts[1] = "more was used than filled"
        return tuple(doubts[: len(self.outputs)])

    def set_by_hand(self, index: int, value: float) -> None:
        if index == 0:
            self.used = value
        else:
            self.remaining = value
        self._why.pop(index, None)

    def state(self) -> dict[str, Any]:
        return {"used": self.used, "remaining": self.remaining, "flow": self.flow, "doubts": dict(self._why)}

    def restore(self, saved: Mapping[str, Any], gap: float | None) -> None:
        self.used = _finite(saved["used"])
        self.remaining = None if saved["remaining"] is None else _finite(saved["remaining"])
        self._why = {int(index): str(why) for index, why in saved.get("doubts", {}).items()}
        flow = saved.get("flow")
        if flow is None or float(flow) <= FLOWS_GPH:
            return
        if gap is not None and gap <= self._longest_gap:
            self.flow, self.last = float(flow), self.clock() - gap
        else:
            self._doubt("the gateway was off while fuel flowed")


def endurance(remaining_gal: float, flow_gph: float) -> float:
    """Hours. Raises `Undefined` when no fuel flows."""
    if flow_gph <= FLOWS_GPH:
        raise Undefined("no fuel flows")
    return remaining_gal / flow_gph


def fuel_at_destination(remaining_gal: float, flow_gph: float, distance_nm: float, gs_kt: float) -> float:
    """Gallons. Raises `Undefined` when the aircraft does not move."""
    if gs_kt <= 1.0:
        raise Undefined("the aircraft does not move")
    return remaining_gal - flow_gph * distance_nm / gs_kt


def _endurance(setup: Setup) -> Computation:
    average = Trend(setup.option("window"))

    def hours(moment: Moment, remaining: float, *flows: float) -> float:
        if not any(flags & DOUBTFUL for flags in moment.each[1:]):
            average.add(moment.now, sum(flows))
        return endurance(max(remaining, 0.0), average.mean())

    return Process(setup, hours, average.clear)


def _at_destination(setup: Setup) -> Computation:
    average = Trend(setup.option("window"))

    def gallons(moment: Moment, remaining: float, distance: float, speed: float, *flows: float) -> float:
        if not any(flags & DOUBTFUL for flags in moment.each[3:]):
            average.add(moment.now, sum(flows))
        return fuel_at_destination(remaining, average.mean(), distance, speed)

    return Process(setup, gallons, average.clear)


# -- hours -------------------------------------------------------------------------------------------------------------


class Hours(Total):
    """Running time and tachometer time of an engine, in hours, or only the latter. They never go down."""

    def __init__(self, setup: Setup, first: int = 0) -> None:
        super().__init__(setup)
        self._first = first  # the time that the first output is
        self._on_above: float = setup.option("on_above") if first == 0 else 0.0
        self._tach_rpm: float = setup.option("tach_rpm")
        self.seconds = [0.0, 0.0]
        self.rpm: float | None = None

    def count(self, now: float, readings: list[Reading]) -> None:
        rpm = float(readings[0].value)
        if self.rpm is not None and self.last is not None:
            gap = now - self.last
            if 0.0 < gap <= LONGEST_GAP_S:
                if self.rpm > self._on_above:
                    self.seconds[0] += gap
                self.seconds[1] += (self.rpm + rpm) / 2.0 / self._tach_rpm * gap
        self.rpm = rpm

    def lost(self, now: float, why: str) -> None:
        if self.last is not None and now - self.last > LONGEST_GAP_S:
            self.rpm = None

    def values(self) -> tuple[float | None, ...]:
        return tuple(seconds / HOUR_S for seconds in self.seconds[self._first :][: len(self.outputs)])

    def set_by_hand(self, index: int, value: float) -> None:
        index += self._first
        self.seconds[index] = max(self.seconds[index], value * HOUR_S)

    def state(self) -> dict[str, Any]:
        return {"seconds": list(self.seconds)}

    def restore(self, saved: Mapping[str, Any], gap: float | None) -> None:
        running, tach = saved["seconds"]
        self.seconds = [_finite(running), _finite(tach)]


class FlightTime(Total):
    """The time of this flight in hours; the next take-off begins anew."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._flying_above: float = setup.option("on_above")
        self.seconds = 0.0
        self.flies = False

    def count(self, now: float, readings: list[Reading]) -> None:
        speed = float(readings[0].value)
        if self.flies and self.last is not None:
            self.seconds += now - self.last
        if not self.flies and speed > self._flying_above:
            self.flies, self.seconds = True, 0.0
        elif speed < self._flying_above * LANDED_SHARE:
            self.flies = False

    def values(self) -> tuple[float | None, ...]:
        return (self.seconds / HOUR_S,)

    def state(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "flies": self.flies}

    def restore(self, saved: Mapping[str, Any], gap: float | None) -> None:
        self.seconds = _finite(saved["seconds"])
        self.flies = bool(saved["flies"])
        if self.flies and gap is not None:
            self.last = self.clock() - gap


class Extremes(Total):
    """The greatest and the least good value since the reset."""

    PACE_S = 0.0

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.required = self.items[:1]  # a button that was never pressed, or failed, resets nothing
        self.greatest: float | None = None
        self.least: float | None = None

    def changed(self, key: str, reading: Reading) -> None:
        """A good value between the extremes changes nothing."""
        if (
            self.clean
            and key == self.items[0].key
            and not reading.flags
            and self.greatest is not None
            and self.least is not None
            and self.least <= float(reading.value) <= self.greatest
        ):
            return
        super().changed(key, reading)

    def count(self, now: float, readings: list[Reading]) -> None:
        value = float(readings[0].value)
        if len(readings) > 1 and readings[1].value and not readings[1].flags & DOUBTFUL:
            self.greatest = self.least = value
        elif not readings[0].flags & BAD:
            self.greatest = value if self.greatest is None else max(self.greatest, value)
            self.least = value if self.least is None else min(self.least, value)

    def values(self) -> tuple[float | None, ...]:
        return (self.greatest, self.least)[: len(self.outputs)]

    def state(self) -> dict[str, Any]:
        return {"greatest": self.greatest, "least": self.least}

    def restore(self, saved: Mapping[str, Any], gap: float | None) -> None:
        if saved["greatest"] is not None:
            self.greatest, self.least = _finite(saved["greatest"]), _finite(saved["least"])


REMAINING = Input("fuel remaining", "gal")
FUNCTIONS = (
    Function(
        name="fuel_used",
        inputs=(FLOW._replace(many=True),),
        outputs=(Output("fuel used", "gal"), Output("fuel remaining", "gal", optional=True)),
        formula="used: integral of the flow, by trapezoids; remaining: what was filled, which a person writes to that "
        "key, minus what was used since. A gap longer than `longest_gap` is not bridged: both are bad until a person "
        "writes them",
        origin="",
        options=(Option("longest_gap", LONGEST_GAP_S),),
        build=FuelUsed,
    ),
    Function(
        name="endurance",
        inputs=(REMAINING, FLOW._replace(many=True)),
        outputs=(Output("endurance", "h"),),
        formula="remaining / flow, averaged over `window` seconds; nothing when no fuel flows",
        origin="",
        options=(Option("window", AVERAGE_S),),
        build=_endurance,
    ),
    Function(
        name="range",
        inputs=(Input("endurance", "h"), Input("ground speed", "knots")),
        outputs=(Output("range", "nmi"),),
        formula="endurance · ground speed",
        origin="",
        build=lambda setup: Process(setup, lambda moment, hours, speed: hours * speed),
    ),
    Function(
        name="fuel_at_destination",
        inputs=(REMAINING, Input("distance", "nmi"), Input("ground speed", "knots"), FLOW._replace(many=True)),
        outputs=(Output("fuel remaining there", "gal"),),
        formula="remaining − flow · distance / ground speed, the flow averaged over `window` seconds",
        origin="",
        options=(Option("window", AVERAGE_S),),
        build=_at_destination,
    ),
    Function(
        name="hours",
        inputs=(Input("crankshaft speed", "rpm"),),
        outputs=(Output("running time", "h"), Output("tachometer time", "h", optional=True)),
        formula="time with rpm above `on_above`; integral of rpm / `tach_rpm`. They never go down; to begin with the "
        "hours of an older meter, write them to the key",
        origin="",
        options=(Option("on_above", 300.0), Option("tach_rpm", 2400.0)),
        build=Hours,
    ),
    Function(
        name="tach_hours",
        inputs=(Input("crankshaft speed", "rpm"),),
        outputs=(Output("tachometer time", "h"),),
        formula="as the second output of `hours`",
        origin="",
        options=(Option("tach_rpm", 2400.0),),
        build=lambda setup: Hours(setup, first=1),
    ),
    Function(
        name="flight_time",
        inputs=(Input("airspeed", "knots"),),
        outputs=(Output("time of this flight", "h"),),
        formula="time since the speed exceeded `on_above`, until it is below 0.7 times that; each flight begins at 0",
        origin="",
        options=(Option("on_above", 50.0),),
        build=FlightTime,
    ),
    Function(
        name="g_memory",
        inputs=(Input("normal acceleration", "g"), Input("reset", kind="switch", optional=True)),
        outputs=(Output("greatest", "g"), Output("least", "g", optional=True)),
        formula="greatest and least since the reset was true",
        origin="",
        build=Extremes,
    ),
)
