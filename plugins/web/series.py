"""A stretch of a recording as points for a chart: `series`. It runs in a process of its own, see `outside`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fixgw.errors import FixgwError
from fixgw.kit.update import Value
from fixgw.recording import Recording, open_recording
from fixgw.recording.sampling import HOLE_S, State

MOST_KEYS = 40
MOST_POINTS = 2000
MOST_NAMES = 5000  # keys of a recording that are listed
SHORTEST_S = 1.0  # stretch
LARGEST = 1e300
EPSILON = 1e-6  # of a point: times of 1.7e9 s are exact to 2.4e-7 s


class Line:
    """The values of one key by points: the lowest and the highest that was good during each, or None.

    `gaps` are the points during which it was not good for a time, however short.
    """

    def __init__(self, since: float, step: float, points: int) -> None:
        self.low: list[float | None] = [None] * points
        self.high: list[float | None] = [None] * points
        self.gaps: list[int] = []
        self.value: float | None = None  # since `_at`, in points from the beginning
        self._since = since
        self._step = step
        self._at = 0.0

    def set(self, value: float | None, time: float) -> None:
        """From `time` on it is `value`; None: nothing that is good."""
        at = min(max((time - self._since) / self._step, 0.0), float(len(self.low)))
        if at > self._at + EPSILON:
            self._fill(at)
            self._at = at
        self.value = value
        if value is not None and time >= self._since:  # even if it lasts for no time
            self._note(min(int(at + EPSILON), len(self.low) - 1), value)

    def _fill(self, until: float) -> None:
        for point in range(int(self._at + EPSILON), math.ceil(until - EPSILON)):
            if self.value is not None:
                self._note(point, self.value)
            elif not self.gaps or self.gaps[-1] != point:
                self.gaps.append(point)

    def _note(self, point: int, value: float) -> None:
        low, high = self.low[point], self.high[point]
        if low is None or value < low:
            self.low[point] = value
        if high is None or value > high:
            self.high[point] = value


def series(
    recording: Recording, patterns: Collection[str], since: float, until: float | None, points: int
) -> dict[str, Any]:
    """What ``GET /recordings/NAME/series`` answers. Times are in seconds from the beginning of the recording.

    Raises `FixgwError` for a stretch that is not there, and for too many keys.
    """
    about = recording.about
    length = about.end - about.start
    until = max(length, since + SHORTEST_S) if until is None else until
    if since > length:
        raise FixgwError(f"{about.name} lasts {length:.1f} s: there is nothing after {since:g} s")
    first, last = about.start + since, about.start + until
    step = (until - since) / points
    lines: dict[str, Line] = {}
    ours: dict[str, bool] = {}  # every key that has had a number, and whether it is asked for
    state = State(about.units)
    before = -math.inf  # the time of the latest change of any key
    known = min(last, about.end)

    def lose(time: float) -> None:
        """Nothing is known from `HOLE_S` after the latest change until `time`."""
        for line in lines.values():
            value = line.value
            line.set(None, before + HOLE_S)
            line.set(None, time)
            line.value = value  # unless this is the change

    # What was recorded shortly before tells whether anything was recorded at `since`.
    for change in recording.changes(None, first - HOLE_S, last):
        time, key = change.time, change.key
        if time > before + HOLE_S and lines:
            lose(time)
        if time > before:
            before = time
        asked = ours.get(key)
        if asked is None:
            if _number(change.value) is None or len(ours) == MOST_NAMES:
                continue
            asked = ours[key] = any(fnmatchcase(key, pattern) for pattern in patterns)
            if asked:
                lines[key] = Line(first, step, points)
                if len(lines) > MOST_KEYS:
                    raise FixgwError(f"more than {MOST_KEYS} keys: ask for fewer")
        if asked:
            lines[key].set(_number(state.apply(change)), time)
    for line in lines.values():
        line.set(None, min(known, before + HOLE_S))
        line.set(None, last)
    unknown = {pattern: None for pattern in patterns if pattern not in ours and not set(pattern) & set("*?[")}
    return {
        "name": about.name,
        "start": about.start if about.dated else None,
        "length": length,
        "simulated": about.simulated,
        "notes": about.notes(),
        "from": since,
        "until": until,
        "step": step,
        "recorded": sorted(ours),
        "keys": unknown
        | {
            key: {"units": about.units.get(key, ""), "low": line.low, "high": line.high, "gaps": line.gaps}
            for key, line in lines.items()
        },
    }


def _number(value: Value | None) -> float | None:
    """The value if a chart can show it."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return value if good else None  # type: ignore[return-value]


def main(words: Sequence[str]) -> int:
    """Print `series` of the file and the arguments in `words`, both JSON. What is wrong is on stderr."""
    path, arguments = words
    try:
        recording = open_recording(Path(path))
        try:
            sys.stdout.write(json.dumps(series(recording, **json.loads(arguments)), allow_nan=False))
        finally:
            recording.close()
    except (FixgwError, OSError) as error:
        sys.stderr.write(getattr(error, "strerror", None) or str(error))
        return 1
    return 0
