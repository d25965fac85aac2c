"""What happened in a flight: `report` reads a recording once and finds block times, take-offs and landings, the fuel
used, the greatest values, and what was beyond its limits.

The phases of flight are those of `fixgw.kit.phases`. Only values that were good count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from fixgw.kit.phases import Inputs, Phase, Phases
from fixgw.recording import About, Recording
from fixgw.recording.exports.common import UNITS, utc
from fixgw.recording.sampling import EPSILON_S, HOLE_S, STEP, Progress, Span, State

__all__ = ["Excess", "Extreme", "Report", "active_alerts", "as_json", "report"]

STEP_S = 0.2  # between two looks at the phase
MOVING_KT = 3.0  # over the ground: faster than a receiver's noise at rest
SURE_S = 3.0  # how long the aircraft must move, or stand, before that counts
LANDED_S = 3.0  # how long it was slow when the phase says that it has landed
AUX = "/aux"
LEVELS = ("", "advisory", "caution", "warning")
REJOIN_S = 5.0  # the same limit exceeded again within this time is one event
FLOW_KNOWN = 0.9  # the part of the engine's running time in which the fuel flow must have been known
MOST_EXCESSES = 1000
IN_FLIGHT: frozenset[Phase] = frozenset(("takeoff", "air", "landing"))

#: The keys whose greatest values are reported, in this order.
GREATEST = (
    *("IAS", "GS", "ALT", "TALT", "AGL", "VS", "ANORM", "TACH[12]", "MAP[12]", r"CHT\d\d", r"EGT\d\d", "OILT[12]"),
    *("OILP[12]", "FUELP[12]", "FUELF[12]", "H2OT[12]", "VOLT", "CURRNT", "OAT"),
)
#: Those whose least values in flight are reported.
LEAST = ("VS", "ANORM", "OILP[12]", "FUELP[12]", "VOLT", "OAT", "FUELQT", r"FUELQ\d", "FUELREM")
_GREATEST, _LEAST = (re.compile("|".join(keys)) for keys in (GREATEST, LEAST))
#: The aux values that are limits, with whether values above them are beyond.
LIMITS = {"lowWarn": False, "lowAlarm": False, "highWarn": True, "highAlarm": True, "Vne": True}
PHASE_UNITS = {key: UNITS[key] for key in ("IAS", "GS", "TALT", "ALT", "AGL", "VS", "TACH1")} | {"TACH2": "rpm"}
FOLLOWED = frozenset((*PHASE_UNITS, "FUELF1", "FUELF2", "FUELUSED", "FUELQT"))
FUEL_UNITS = {"gal/hr": "gal", "l/h": "l", "lb/h": "lb", "kg/h": "kg"}


class Extreme(NamedTuple):
    """The greatest or least value of a key, in the unit of the recording, and when it was reached first."""

    key: str
    kind: str  # "greatest" or "least in flight"
    value: float
    unit: str
    time: float


@dataclass
class Excess:
    """An alert that was active, or a limit that was exceeded (`limit`), from `since` to `until`.

    `until` is None if it lasted to the end. `worst` is the value that was farthest beyond the limit.
    """

    what: str
    level: str
    since: float
    until: float | None = None
    key: str = ""
    limit: float | None = None
    worst: float | None = None


@dataclass
class Report:
    """What happened; times as in `Change`, None for what cannot be told."""

    about: About
    span: Span
    engine_start: float | None = None
    engine_stop: float | None = None
    block_off: float | None = None
    block_on: float | None = None
    takeoffs: list[float] = field(default_factory=list)
    landings: list[float] = field(default_factory=list)
    flight_s: float = 0.0
    began_in_flight: bool = False
    ended_in_flight: bool = False
    fuel_used: float | None = None
    fuel_unit: str = ""
    fuel_source: str = ""
    extremes: list[Extreme] = field(default_factory=list)
    excesses: list[Excess] = field(default_factory=list)

    @property
    def block_s(self) -> float | None:
        if self.block_off is None or self.block_on is None:
            return None
        return self.block_on - self.block_off


def report(recording: Recording, span: Span, progress: Progress | None = None) -> Report:
    """What happened in `span`. Reads the whole of it once; `progress` is called with the part that has been read."""
    result = Report(recording.about, span)
    watch = _Watch(recording, span, result)
    length = max(span.until - span.since, EPSILON_S)
    for count, change in enumerate(recording.changes(None, span.since, span.until)):
        watch.follow(change)
        if progress is not None and not count % STEP:
            progress(min(1.0, (change.time - span.since) / length))
    watch.finish()
    return result


class _Watch:
    """Follows a flight from one change to the next, and completes the report."""

    def __init__(self, recording: Recording, span: Span, result: Report) -> None:
        about = recording.about
        self.recording = recording
        self.result = result
        self.units = about.units
        self.raw = State(about.units)
        self.state = State(about.units, PHASE_UNITS)
        self.phases = Phases()
        self.now = span.since
        self.due = span.since + STEP_S
        self.known_until = -math.inf  # later, nothing was recorded
        self.moves = _Steady(SURE_S)
        self.airborne_since: float | None = None
        self.rolling_since = 0.0
        self.extremes: dict[tuple[str, str], Extreme] = {}
        #: Whether the greatest and the least values of a key count, and whether it is followed otherwise.
        self.kinds: dict[str, tuple[bool, bool, bool]] = {}
        self.fuel = _Fuel(about.units)
        self.limits = _Limits(recording, span)
        self.has_engine = any(key in about.units for key in ("TACH1", "TACH2"))

    def follow(self, change: Any) -> None:
        while change.time > self.due + EPSILON_S:
            self.now = self.due
            if self.due > self.known_until:
                self.due = change.time
                break
            self._step()
            self.due += STEP_S
        self.known_until = change.time + HOLE_S
        key = change.key
        kinds = self.kinds.get(key)
        if kinds is None:
            kinds = self.kinds[key] = bool(_GREATEST.fullmatch(key)), bool(_LEAST.fullmatch(key)), key in FOLLOWED
        if not any(kinds) and not self.limits.has(key):
            return
        value = self.raw.apply(change)
        if key in PHASE_UNITS:
            self.state.apply(change)
            self.has_engine |= key.startswith("TACH")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if kinds[0]:
                self._compare(key, "greatest", float(value), change.time, 1)
            if kinds[1] and self.phases.phase in IN_FLIGHT:
                self._compare(key, "least in flight", float(value), change.time, -1)
            self.limits.follow(change.time, key, float(value), self.phases.phase != "off")
        else:
            self.limits.lose(change.time, key)

    def finish(self) -> None:
        result, phase = self.result, self.phases.phase
        if self.airborne_since is not None:
            result.flight_s += self.now - self.airborne_since
            result.ended_in_flight = True
        if phase != "off" and self.has_engine:
            result.engine_stop = None
        moves = self.moves
        if moves.ever:
            result.block_off = moves.began
            result.block_on = None if moves.state else moves.ended
        elif not result.began_in_flight:  # its speed over the ground was never known
            result.block_off, result.block_on = result.engine_start, result.engine_stop
        result.fuel_used, result.fuel_unit, result.fuel_source = self.fuel.used()
        result.extremes = sorted(self.extremes.values(), key=lambda e: (_rank(e.key), e.key, e.kind))
        excesses = [*islice(active_alerts(self.recording, result.span), MOST_EXCESSES), *self.limits.finish()]
        result.excesses = sorted(excesses, key=lambda e: e.since)

    def _step(self) -> None:
        now, good = self.now, self.state.good
        speeds = [float(v) for key in ("TACH1", "TACH2") if isinstance(v := good.get(key), (int, float))]
        before = self.phases.phase
        height = _number(good, "TALT")
        inputs = Inputs(
            rpm=max(speeds, default=None),
            ias=_number(good, "IAS"),
            gs=_number(good, "GS"),
            altitude=_number(good, "ALT") if height is None else height,
            height=_number(good, "AGL"),
            climb=_number(good, "VS"),
            vs0=self.limits.aux.get("IAS.Vs0"),
            has_engine=self.has_engine,
        )
        first = self.phases.since is None
        phase = self.phases.step(now, inputs)
        if phase != before or first:
            self._change_phase(before, phase, first)
        running = self.has_engine and phase != "off"
        if inputs.gs is not None:
            self.moves.follow(now, inputs.gs > MOVING_KT and phase != "off")
        self.fuel.follow(now, self.raw.good, running)

    def _change_phase(self, before: Phase, phase: Phase, first: bool) -> None:
        result, now = self.result, self.now
        if self.has_engine and before == "off" and phase != "off" and result.engine_start is None and not first:
            result.engine_start = now
        if before != "off" and phase == "off":
            result.engine_stop = now
        if phase == "takeoff":
            self.rolling_since = now
        if phase == "air" and self.airborne_since is None:
            result.began_in_flight |= before not in IN_FLIGHT
            self.airborne_since = self.rolling_since if before == "takeoff" else now
            if before == "takeoff":
                result.takeoffs.append(self.airborne_since)
        if phase in ("ground", "off") and self.airborne_since is not None:
            result.landings.append(now - LANDED_S)
            result.flight_s += now - LANDED_S - self.airborne_since
            self.airborne_since = None

    def _compare(self, key: str, kind: str, value: float, time: float, sign: int) -> None:
        known = self.extremes.get((key, kind))
        if known is None or sign * value > sign * known.value:
            self.extremes[key, kind] = Extreme(key, kind, value, self.units.get(key, ""), time)


class _Steady:
    """Whether something is so, once it has been for a while. `began` is the first time, `ended` the last."""

    def __init__(self, sure_s: float) -> None:
        self._sure_s = sure_s
        self._since: float | None = None
        self.state: bool | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.from_the_start = False

    @property
    def ever(self) -> bool:
        return self.began is not None or self.from_the_start

    def follow(self, now: float, value: bool) -> None:
        if value == self.state:
            self._since = None
            return
        if self._since is None:
            self._since = now
        if self.state is not None and now - self._since < self._sure_s - EPSILON_S:
            return
        if self.state is None:
            self.from_the_start = value
        elif value:
            if self.began is None and not self.from_the_start:
                self.began = self._since
        else:
            self.ended = self._since
        self.state, self._since = value, None


class _Fuel:
    """How much fuel was used: by the flow if that was known, or else by the totalizer or the quantity."""

    def __init__(self, units: Any) -> None:
        self._units = units
        self._before: float | None = None
        self._running_s = self._known_s = 0.0
        self._burnt = 0.0
        self._flow_unit = ""
        self._total: float | None = None  # of the totalizer, before
        self._counted: float | None = None
        self._first: float | None = None
        self._last: float | None = None

    def follow(self, now: float, good: Any, running: bool) -> None:
        passed = 0.0 if self._before is None else min(now - self._before, 2 * STEP_S)
        self._before = now
        flows = {k: v for k in ("FUELF1", "FUELF2") if (v := _number(good, k)) is not None}
        if running:
            self._running_s += passed
            self._known_s += passed if flows else 0.0
        self._burnt += sum(flows.values()) * passed / 3600.0
        self._flow_unit = next((self._units.get(k, "") for k in flows), self._flow_unit)
        total = _number(good, "FUELUSED")
        if total is not None:
            if self._total is not None and total >= self._total:  # otherwise it has been reset
                self._counted = (self._counted or 0.0) + total - self._total
            self._total = total
        quantity = _number(good, "FUELQT")
        if quantity is not None:
            self._first = quantity if self._first is None else self._first
            self._last = quantity

    def used(self) -> tuple[float | None, str, str]:
        """The amount, its unit, and where that comes from."""
        if self._known_s and self._known_s >= FLOW_KNOWN * self._running_s:
            return self._burnt, FUEL_UNITS.get(self._flow_unit, self._flow_unit.partition("/")[0]), "fuel flow"
        if self._counted is not None:
            return self._counted, self._units.get("FUELUSED", ""), "totalizer"
        if self._first is not None and self._last is not None:
            return self._first - self._last, self._units.get("FUELQT", ""), "fuel quantity"
        return None, "", ""


class _Limits:
    """Which values are beyond the limits in the recording's aux values. Low limits count while the engine runs."""

    def __init__(self, recording: Recording, span: Span) -> None:
        self._changes = iter(_aux(recording, span))
        self._next = next(self._changes, None)
        self.aux: dict[str, float] = {}
        self._of: dict[str, list[str]] = {}  # the limits of a key
        self._open: dict[tuple[str, str], Excess] = {}
        self._done: list[Excess] = []

    def follow(self, time: float, key: str, value: float, running: bool) -> None:
        while self._next is not None and self._next[0] <= time + EPSILON_S:
            self._set(self._next[1], self._next[2])
            self._next = next(self._changes, None)
        for name in self._of.get(key, ()):
            limit = self.aux[f"{key}.{name}"]
            high = LIMITS[name]
            self._judge(time, key, name, value, limit, value > limit if high else value < limit and running)

    def has(self, key: str) -> bool:
        """Whether there are limits of `key` now."""
        return bool(self._of.get(key))

    def lose(self, time: float, key: str) -> None:
        """The value is not good any more: nobody knows whether it is beyond."""
        for name in self._of.get(key, ()):
            self._close(time, (key, name))

    def finish(self) -> list[Excess]:
        return [*(e for e in self._done if e.until is not None), *self._open.values()][:MOST_EXCESSES]

    def _set(self, name: str, value: Any) -> None:
        key, _, limit = name.partition(".")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self.aux[name] = float(value)
            if limit in LIMITS and limit not in self._of.setdefault(key, []):
                self._of[key].append(limit)
        else:
            self.aux.pop(name, None)
            if limit in self._of.get(key, ()):
                self._of[key].remove(limit)

    def _judge(self, time: float, key: str, name: str, value: float, limit: float, beyond: bool) -> None:
        now = self._open.get((key, name))
        if not beyond:
            self._close(time, (key, name))
            return
        if now is None:
            last = next((e for e in reversed(self._done) if (e.key, e.what) == (key, f"{key} {name}")), None)
            if last is not None and last.until is not None and time - last.until < REJOIN_S and last.limit == limit:
                self._done.remove(last)
                now, last.until = last, None
            else:
                level = "warning" if name in ("lowAlarm", "highAlarm", "Vne") else "caution"
                now = Excess(f"{key} {name}", level, time, key=key, limit=limit, worst=value)
            self._open[key, name] = now
        now.worst = value if now.worst is None else (max if LIMITS[name] else min)(now.worst, value)

    def _close(self, time: float, which: tuple[str, str]) -> None:
        now = self._open.pop(which, None)
        if now is not None:
            now.until = time
            if len(self._done) < MOST_EXCESSES:
                self._done.append(now)


def active_alerts(recording: Recording, span: Span) -> Iterator[Excess]:
    """The alerts that were active, each time anew. What `latched` keeps shown is over."""
    active: dict[str, Excess] = {}
    for alert in recording.alerts():
        if alert.time > span.until:
            break
        known = active.get(alert.id)
        if alert.state in ("active", "acknowledged"):
            if known is None:
                active[alert.id] = Excess(alert.text or alert.id, alert.level, max(alert.time, span.since))
            elif alert.level in LEVELS and LEVELS.index(alert.level) > LEVELS.index(known.level):
                known.level = alert.level
        elif known is not None:
            del active[alert.id]
            known.until = alert.time
            if alert.time >= span.since:
                yield known
    yield from active.values()


def _aux(recording: Recording, span: Span) -> Iterator[tuple[float, str, Any]]:
    """The changes of aux values until the end of the span: time, ``KEY.aux``, value."""
    messages = getattr(recording, "messages", None)  # only our own recordings have them
    if messages is None:
        return
    for message in messages(AUX, until=span.until):
        with suppress(ValueError):
            for name, value in msgspec.json.decode(message.data, type=dict[str, Any]).items():
                yield message.time, name, value


def _rank(key: str) -> int:
    return next((n for n, pattern in enumerate(GREATEST) if re.fullmatch(pattern, key)), len(GREATEST))


def _number(good: Any, key: str) -> float | None:
    value = good.get(key)
    return float(value) if isinstance(value, (int, float)) else None


# -- as JSON -----------------------------------------------------------------------------------------------------------


def as_json(found: Report) -> dict[str, Any]:
    """The report for other programs. Times are in ISO 8601, UTC; seconds from the beginning if there is no date."""
    about, span = found.about, found.span
    dated = about.dated or bool(span.shift)

    def when(time: float | None) -> str | float | None:
        if time is None:
            return None
        return utc(round(time + span.shift, 1)) if dated else round(time - about.start, 1)

    return {
        "flight": about.name,
        "ident": about.ident,
        "simulated": about.simulated,
        "complete": about.complete,
        "lost": about.lost,
        "start": when(span.since),
        "end": when(span.until),
        "engine_start": when(found.engine_start),
        "engine_stop": when(found.engine_stop),
        "block_off": when(found.block_off),
        "block_on": when(found.block_on),
        "block_seconds": None if found.block_s is None else round(found.block_s),
        "takeoffs": [when(t) for t in found.takeoffs],
        "landings": [when(t) for t in found.landings],
        "flight_seconds": round(found.flight_s),
        "began_in_flight": found.began_in_flight,
        "ended_in_flight": found.ended_in_flight,
        "fuel_used": None
        if found.fuel_used is None
        else {"value": round(found.fuel_used, 2), "unit": found.fuel_unit, "from": found.fuel_source},
        "extremes": [
            {"key": e.key, "kind": e.kind, "value": e.value, "unit": e.unit, "time": when(e.time)}
            for e in found.extremes
        ],
        "exceedances": [
            {
                "what": e.what,
                "level": e.level,
                "from": when(e.since),
                "until": when(e.until),
                **({"key": e.key, "limit": e.limit, "worst": e.worst} if e.key else {}),
            }
            for e in found.excesses
        ],
    }
