"""Rows of values at regular instants, from a recording: `sample`, and `Samples`, which keeps them for several readings.

A row has what was good at its instant, and nothing else. While nothing at all was recorded (`HOLE_S`), nothing is
known, and there are no rows.
"""

from __future__ import annotations

import marshal
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from fixgw.kit.units import conversion
from fixgw.kit.update import BAD, FAIL, OLD, Value
from fixgw.recording import Alert, Change, Recording

__all__ = ["HOLE_S", "Row", "Samples", "Span", "State", "sample", "span_of"]

HOLE_S = 10.0  # no change of any key for longer: nothing was recorded
EPSILON_S = 1e-6  # times of 1.7e9 s are exact to 2.4e-7 s
NOT_GOOD = OLD | BAD | FAIL
MEMORY_BYTES = 16 << 20  # of rows; more of them are kept in a temporary file
STEP = 2048  # changes between two calls of `progress`
SHOWN = frozenset(("active", "acknowledged", "latched"))  # the states in which an alert is shown

Progress = Callable[[float], None]


class Span(NamedTuple):
    """The part of a recording to read: from `since` to `until`, times as in `Change`; `shift` is added to them."""

    since: float
    until: float
    shift: float = 0.0


class Row(NamedTuple):
    """What was good at `time`: values by key, and the texts of the alerts that were shown."""

    time: float
    values: Mapping[str, Value]
    alerts: tuple[str, ...] = ()

    def number(self, key: str) -> float | None:
        """The value of `key` if it was good and is a number."""
        value = self.values.get(key)
        return float(value) if isinstance(value, (int, float)) else None


class State:
    """What is good now: `good` has the values by key, followed by `apply`.

    `recorded` are the units of the recording. A value whose unit differs from the one in `wanted` is converted; if it
    cannot be, it is left out.
    """

    def __init__(self, recorded: Mapping[str, str], wanted: Mapping[str, str] | None = None) -> None:
        self.good: dict[str, Value] = {}
        scales = {key: conversion(recorded.get(key, ""), unit) for key, unit in (wanted or {}).items()}
        self._scales = {key: scale for key, scale in scales.items() if scale != (1.0, 0.0)}

    def apply(self, change: Change) -> Value | None:
        """Follow a change. Returns the value if it is good."""
        key, value = change.key, change.value
        if value is None or change.flags & NOT_GOOD or (isinstance(value, float) and not math.isfinite(value)):
            self.good.pop(key, None)
            return None
        if key in self._scales:
            scale = self._scales[key]
            if scale is None or isinstance(value, (str, bool)):
                self.good.pop(key, None)
                return None
            value = value * scale[0] + scale[1]
        self.good[key] = value
        return value


def span_of(recording: Recording) -> Span:
    """The whole recording."""
    return Span(recording.about.start, recording.about.end)


def sample(
    recording: Recording,
    span: Span,
    rate: float = 1.0,
    keys: Collection[str] | None = None,
    units: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    alerts: bool = False,
) -> Iterator[Row]:
    """A row at every multiple of 1/`rate` seconds in `span`, with what `keys` (None: all) were then.

    Times are those of the recording plus `span.shift`. A value whose unit differs from the one in `units` is converted;
    if it cannot be, it is left out. `progress` is called now and then with the part that has been read, 0 to 1. Rows
    have their alerts only on request, because that takes another pass through the file.
    """
    shift = span.shift
    first, last = span.since + shift, span.until + shift
    wanted = None if keys is None else frozenset(keys)
    state = State(recording.about.units, units)
    shown = _Alerts(recording.alerts() if alerts else [], shift)
    good = state.good
    number = math.ceil((first - EPSILON_S) * rate)
    due = number / rate
    before = -math.inf  # the time of the latest change
    count = 0
    # The reader looks at all keys: only so is it known whether anything was recorded.
    for change in recording.changes(None, span.since, span.until):
        time = change.time + shift
        if time > due + EPSILON_S:
            while time > due + EPSILON_S and due <= last + EPSILON_S:
                if due > before + HOLE_S:
                    number = max(number, math.ceil((time - EPSILON_S) * rate))
                    due = number / rate
                    continue
                yield Row(due, dict(good), shown.at(due))
                number += 1
                due = number / rate
        if time > before:
            before = time
        count += 1
        if count == STEP:
            count = 0
            if progress is not None:
                progress(min(1.0, (time - first) / max(last - first, EPSILON_S)))
        if wanted is None or change.key in wanted:
            state.apply(change)
    while due <= min(last, before + HOLE_S) + EPSILON_S:
        yield Row(due, dict(good), shown.at(due))
        number += 1
        due = number / rate


class _Alerts:
    """The alerts that were shown, followed in the order of time."""

    def __init__(self, changes: list[Alert], shift: float) -> None:
        self._changes = changes
        self._shift = shift
        self._next = 0
        self._shown: dict[str, str] = {}

    def at(self, time: float) -> tuple[str, ...]:
        while self._next < len(self._changes) and self._changes[self._next].time + self._shift <= time + EPSILON_S:
            alert = self._changes[self._next]
            self._next += 1
            if alert.state in SHOWN:
                self._shown[alert.id] = alert.text or alert.id
            else:
                self._shown.pop(alert.id, None)
        return tuple(self._shown.values())


class Samples:
    """Rows that can be read several times, while few of them are in memory. Close it: it may have a temporary file.

    `keys` are those that were good at least once, in the order in which they came. `interval` is the time between two
    rows, in seconds; after a longer one there is a gap.
    """

    def __init__(self, rows: Iterator[Row], rate: float) -> None:
        self.interval = 1.0 / rate
        self.count = 0
        self.first = self.last = 0.0
        self._numbers: dict[str, int] = {}
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        for row in rows:
            self._keep(row)

    def _keep(self, row: Row) -> None:
        if not self.count:
            self.first = row.time
        self.last = row.time
        self.count += 1
        numbers = self._numbers
        values = {numbers.setdefault(key, len(numbers)): value for key, value in row.values.items()}
        data = marshal.dumps((row.time, values, row.alerts))
        self._file.write(len(data).to_bytes(4, "little"))
        self._file.write(data)

    @property
    def keys(self) -> list[str]:
        return list(self._numbers)

    def __iter__(self) -> Iterator[Row]:
        """The rows; one iteration at a time."""
        names = self.keys
        self._file.seek(0)
        for _ in range(self.count):
            size = int.from_bytes(self._file.read(4), "little")
            time, values, alerts = marshal.loads(self._file.read(size))
            yield Row(time, {names[number]: value for number, value in values.items()}, alerts)

    def close(self) -> None:
        self._file.close()
