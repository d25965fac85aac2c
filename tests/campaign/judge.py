"""Judges flights on the rig independently of the drivers: what must hold whatever happens to the devices.

The aircraft's own values and their history say what is true, the plan says what was done to which device. The rules:

- ``wrong``: a good reading equals, within `RESOLUTION`, what the aircraft had within the tolerance of the key and the
  time that the device may take (`LAG_S`), unless anything may get through (`plans.Effect`);
- ``stale``: no reading of a device that is silent, gone, or visibly stuck is good for longer than that;
- ``others``: what no disturbed device feeds, directly or through others, is the same as in the same flight without the
  faults, to the last bit and the millisecond;
- ``recovery``: at the end, every key has the flags of that flight, and every connection is as well;
- ``defect``: no plugin fails, nothing is logged as an error, and every status can be told at any time.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, Item, Reading, Value
from fixgw.database.reading import FLAG_TEXTS
from fixgw.hw_sim.bench.rig import Rig

from .plans import INSTRUMENTS, WARM_S, Plan, Span, concerns, source_of, spans

LOOK_S = 0.25  # between two judgements
TRUTH_S = 0.05  # between two looks at the aircraft
STATUS_S = 1.0
#: How old a value may be when its driver writes it: a round of the device, the time on its line, and a filter.
LAG_S = 1.5
#: How much later than that it may come through a fault that delays it.
LATE_S = 3.0
#: How long it takes a driver to see that a device is stuck, beyond the tolerance of its keys.
STUCK_S = 6.0
UNUSABLE = OLD | BAD | FAIL
MOST = 300  # findings of one flight

#: The most that a good value may differ from the aircraft's, by key or pattern: half a step of the coarsest device that
#: sends it, and what a device's own arithmetic costs. Keys that are not here may differ by 1 %.
RESOLUTION: Mapping[str, float] = {
    "sim/bmp280 VS": 60.0,  # from the change of pressure, over some seconds
    "sim/bno055 ROT": 0.6,
    "sim/tp3 FUELQ1": 0.5,
    "ROLL": 0.11,
    "PITCH": 0.11,
    "ROT": 0.11,
    "HEAD": 0.6,
    "TRACK*": 0.8,
    "COURSE": 0.6,
    "WPHEAD": 1.0,
    "VS": 12.0,
    "*ALT": 16.0,
    "IAS": 0.7,
    "TAS": 0.7,
    "CAS": 0.7,
    "GS": 0.7,
    "LAT": 0.0006,
    "LONG": 0.0006,
    "CDI": 0.011,
    "GSI": 0.011,
    "XTRACK": 0.011,
    "ANORM": 0.06,
    "ALAT": 0.06,
    "ALONG": 0.06,
    "AOA": 0.11,
    "AIRPRESS": 30.0,
    "OAT": 0.6,
    "RAT": 0.6,
    "CAT": 0.6,
    "FTIME": 0.06,
    "HOBBS1": 0.06,
    "CTL*": 0.02,
    "FUELP1": 0.06,
    "FUELF1": 0.12,
    "FUELQ?": 0.2,
    "CURRNT": 0.6,
    "VOLT": 0.06,
    "MAP1": 0.3,
    "OIL*": 1.0,
    "H2OT1": 1.0,
    "CHT*": 1.0,
    "EGT*": 2.0,
    "TACH1": 11.0,
}
#: What the aircraft has under the name of a key, but a device measures at another place or in another way.
NOT_COMPARED = (
    "sim/mavlink YAW",  # the heading
    "GPS_SATS_VISIBLE",
    "GPS_ACCURACY_*",  # a device may tell a category, or a number of its own
)
#: What a driver concludes from what a receiver does not send, while a fault loses messages. GDL90 has no message for
#: the kind of fix: a position without a geometric altitude is two-dimensional.
CONCLUDED = {"sim/stratux GPS_FIX_TYPE": 2}
#: Totals that have missed something stay bad until somebody writes them, and so does what follows from them. A rate of
#: change needs its time again.
SLOW = ("FUELUSED", "FUELREM", "ENDUR", "RANGE", "FUELDEST", "CHTROC11", "CHTROC12", "CHTROC13", "CHTROC14")
#: Keys that follow others, beyond what the configuration of `compute` says.
FOLLOWS: Mapping[str, tuple[str, ...]] = {"ALT": ("BARO",)}


class Finding(NamedTuple):
    """Something that must not happen. `at` in seconds of the flight."""

    rule: str
    at: float
    key: str
    words: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.at:.2f} s: {self.key}: {self.words}"


Change = tuple[float, Value, int, str]  # time, value, flags, source


class Judge:
    """Judges one flight while it lasts. `look` is a hook of the rig."""

    def __init__(self, rig: Rig, plan: Plan, seconds: float) -> None:
        self.findings: list[Finding] = []
        #: What was published, by key, and all sources that ever wrote it.
        self.changes: defaultdict[str, list[Change]] = defaultdict(list)
        self.sources: defaultdict[str, set[str]] = defaultdict(set)
        self.flags: dict[str, int] = {}
        self.health: dict[str, str] = {}
        self._rig = rig
        self._end = seconds
        self._spans = [*spans(plan)]
        self._notice_s = {source_of(name): INSTRUMENTS[name].notice_s for name in plan.instruments}
        self._last: dict[str, Reading] = {}
        self._live = {source_of(name) for name in plan.instruments if INSTRUMENTS[name].live}
        self._times: list[float] = []
        self._truth: list[Mapping[str, Value]] = []
        self._windows: dict[tuple[str, int], tuple[Any, ...]] = {}
        self._said: set[tuple[str, str, str]] = set()
        self._look_at = self._status_at = WARM_S
        self._truth_at = 0.0
        self._turn = 0
        self._log = _ErrorLog(self)
        rig.db.subscribe("*", self._note, quick=True)
        rig.hooks.append(self.look)
        logging.getLogger().addHandler(self._log)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._log)

    def find(self, rule: str, key: str, words: str, source: str = "") -> None:
        """Note a finding, once for each key and source."""
        if len(self.findings) < MOST and (rule, key, source) not in self._said:
            self._said.add((rule, key, source))
            self.findings.append(Finding(rule, self._rig.now, key, words))

    def _note(self, key: str, reading: Reading) -> None:
        before = self._last.get(key)
        self._last[key] = reading
        if before is not None and before.stamp == reading.stamp and before.flags ^ reading.flags == ANNUNCIATE:
            return  # an alert, which follows other keys
        change = round(self._rig.stepper.now, 3), reading.value, reading.flags & ~ANNUNCIATE, reading.source
        self.changes[key].append(change)

    def look(self, rig: Rig) -> None:
        now = rig.now
        if now >= self._truth_at or now >= self._look_at:
            self._truth_at = now + TRUTH_S
            self._times.append(now)
            self._truth.append(rig.aircraft.values())  # not the world's, which are those before the events
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._windows.clear()
            for key in [*self.changes]:
                self._judge_item(rig.db.item(key), now)
        if now >= self._status_at:
            self._status_at = now + STATUS_S
            self._ask_status()

    def finish(self) -> None:
        """The flight is over."""
        for item in self._rig.db.items():
            self.flags[item.key] = item.reading.flags & ~ANNUNCIATE
        self.health = self._rig.health()
        for name, error in self._rig.failed.items():
            self.find("defect", name, error)

    # -- values --------------------------------------------------------------------------------------------------------

    def _judge_item(self, item: Item, now: float) -> None:
        for reading in item.readings():
            source = reading.source
            self.sources[item.key].add(source)
            if reading.flags & UNUSABLE or not source.startswith("sim/"):
                continue
            mine = [span for span in self._spans if span.concerns(source)]
            tolerance = item.tolerance or self._end
            if any(s.effect == "wrong" and s.begin <= now <= s.end + tolerance + LAG_S for s in mine):
                continue
            if self._may_follow_wrong(item.key, now):
                continue
            self._judge_age(item, reading, mine, now)
            self._judge_value(item, reading, mine, now)

    def _may_follow_wrong(self, key: str, now: float) -> bool:
        """Whether what it follows, a setting, may have been wrong, and may still be."""
        sources = [source for followed in FOLLOWS.get(key, ()) for source in self.sources[followed]]
        return any(s.effect == "wrong" and s.begin <= now and any(map(s.concerns, sources)) for s in self._spans)

    def _judge_age(self, item: Item, reading: Reading, mine: list[Span], now: float) -> None:
        for span in mine:
            begin = span.begin
            late = LATE_S * any(s.effect == "late" and s.begin <= now and span.begin <= s.end + LATE_S for s in mine)
            bound = item.tolerance + LAG_S + late if item.tolerance else None
            if span.effect == "gone" and not item.definition.setting:
                # A driver flags what is published, or ranked. What nobody can see ages.
                if reading.source == item.said.source or item.rank(reading.source) is not None:
                    bound = min(self._notice_s.get(reading.source, 0.6), bound or self._end)
            elif span.effect == "stuck":
                bound = bound + STUCK_S if bound is not None and reading.source in self._live else None
            elif span.effect == "flagged":
                bound = LAG_S + late  # what the device says of its values comes with them,
                quiet = (s.end for s in mine if s.effect in ("gone", "silent") and s.begin <= now and s.end > begin)
                begin = max((end + LATE_S for end in quiet), default=begin)  # or when they come again
            elif span.effect != "silent":
                continue
            if bound is not None and begin + bound < now < span.end:
                words = (
                    f"{reading.value!r} of {reading.source} is good {now - span.begin:.1f} s after {_name(span)} began"
                )
                self.find("stale", item.key, words, reading.source)

    def _judge_value(self, item: Item, reading: Reading, mine: list[Span], now: float) -> None:
        key, value = item.key, reading.value
        if reading.source in ("sim/compute", "sim/alerts") or _match(NOT_COMPARED, reading.source, key):
            return
        since = now - (item.tolerance or self._end) - LAG_S
        for span in mine:
            if span.effect == "late" and span.begin <= now <= span.end + item.tolerance + LAG_S + LATE_S:
                since -= LATE_S
            going_on = span.begin <= now <= span.end + item.tolerance + LAG_S
            if going_on and value == CONCLUDED.get(f"{reading.source} {key}"):
                return
            if span.effect == "stuck" and going_on:
                return  # what it says was true once; `stale` says for how long that may last
        first = max(0, bisect_left(self._times, since) - 1)
        turn = item.definition.wrap
        number = isinstance(value, int | float) and not isinstance(value, bool)
        window = self._window(key, first, bool(turn) or not number)
        if not window:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            if value not in window:
                self.find("wrong", key, f"{value!r} of {reading.source}; {_some(window)}", reading.source)
            return
        differences = [_difference(float(truth), value, turn) for truth in window]
        low, high = min(differences), max(differences)
        pattern = _match(tuple(RESOLUTION), reading.source, key)
        allowed = RESOLUTION[pattern] if pattern else abs(value) * 0.01 + 1e-6
        if not low - allowed <= 0.0 <= high + allowed:
            off = low if low > 0.0 else high
            words = f"{value!r} of {reading.source} is off by {-off:.6g}, allowed {allowed:.3g}; {_some(window)}"
            self.find("wrong", key, words, reading.source)

    def _window(self, key: str, first: int, whole: bool) -> tuple[Any, ...]:
        """What the aircraft has had from the look `first` on: all of it, or the least and the most."""
        found = self._windows.get((key, first))
        if found is None:
            window = [truth[key] for truth in self._truth[first:] if key in truth]
            found = tuple(window) if whole or not window else (min(window), max(window))
            self._windows[key, first] = found
        return found

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _ask_status(self) -> None:
        for name, plugin in self._rig.plugins.items():
            try:
                json.dumps([dict(plugin.get_status()), plugin.health()])
            except Exception as error:
                self.find("defect", name, f"its status cannot be told: {type(error).__name__}: {error}")
        items = [*self._rig.db.items()]
        self._turn += 1
        for item in items[self._turn % 17 :: 17]:
            try:
                item.explain()
            except Exception as error:
                self.find("defect", item.key, f"it cannot be explained: {type(error).__name__}: {error}")


class _ErrorLog(logging.Handler):
    """Notes errors and tracebacks. Virtual devices may say that they cannot send what a scenario sets."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.WARNING)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        if "sends nothing while the scenario says" in str(record.msg):
            return
        if record.levelno >= logging.ERROR or record.exc_info:
            error = f": {record.exc_info[1]!r}" if record.exc_info else ""
            self._judge.find("defect", record.name, f"{record.getMessage()}{error}")


def compare(plan: Plan, judge: Judge, quiet: Judge, derived: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """What a flight must have in common with the same one without faults. `derived` says what is computed from what."""
    disturbed = {source for event in plan.events if (source := concerns(event))}
    sources = {key: judge.sources[key] | quiet.sources[key] for key in {*judge.sources, *quiet.sources}}

    def touched(key: str, seen: frozenset[str] = frozenset()) -> bool:
        mine = sources.get(key, ())
        if "sim/alerts" in mine:
            return True
        if any(s == d or (d.endswith("/") and s.startswith(d)) for s in mine for d in disturbed):
            return True
        inputs = (*derived.get(key, ()), *FOLLOWS.get(key, ()))
        return any(touched(each, seen | {key}) for each in inputs if each not in seen)

    for key in sources:
        if touched(key):
            continue
        ours, theirs = judge.changes[key], quiet.changes[key]
        if ours != theirs:
            n = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            yield Finding(
                "others", ours[n][0] if n < len(ours) else 0.0, key, f"{ours[n : n + 1]} instead of {theirs[n : n + 1]}"
            )
    for key, flags in judge.flags.items():
        if key not in SLOW and bool(flags & UNUSABLE) != bool(quiet.flags[key] & UNUSABLE):
            yield Finding(
                "recovery",
                plan.seconds,
                key,
                f"flags {FLAG_TEXTS[flags]} at the end instead of {FLAG_TEXTS[quiet.flags[key]]}",
            )
    for name in {*judge.health, *quiet.health}:
        if judge.health.get(name) != quiet.health.get(name):
            words = f"{judge.health.get(name, 'well')!r} at the end instead of {quiet.health.get(name, 'well')!r}"
            yield Finding("recovery", plan.seconds, name, words)


@lru_cache(10_000)
def _match(patterns: tuple[str, ...], source: str, key: str) -> str:
    """The first of the patterns that fits the key, or ``source key``; empty if none does."""
    return next((p for p in patterns if fnmatchcase(f"{source} {key}" if " " in p else key, p)), "")


def _name(span: Span) -> str:
    event = span.event
    return str(event.get("fault") or event.get("adapter") or event)


def _difference(truth: float, value: float, turn: float | None) -> float:
    difference = truth - value
    return (difference + turn / 2) % turn - turn / 2 if turn else difference


def _some(window: Sequence[Any]) -> str:
    return f"the aircraft had {window[0]!r} to {window[-1]!r}"
