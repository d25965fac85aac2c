"""The values of the last 15 minutes, kept in memory for people who ask: trends on a page, sparklines on a terminal.

    world.history.start()  # from now on
    past = world.history.read(["CHT11", "OILP1"], seconds=60)

Numbers only, twice a second, at most `MAX_KEYS` of them: the first that are fed, measurements before settings, in the
order in which the database defines them. If there are more, a key that has been old for the whole time makes room.
Whoever asks for another key has it remembered from then on, as one of `MAX_ASKED`, until others have been asked for
more recently. It all takes at most 3 MB, and nothing until it is started.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw.kit.complaints import Complaints
from fixgw.kit.sources import OVERRIDE, SIMULATED, START
from fixgw.kit.update import NEVER, OLD

if TYPE_CHECKING:
    from fixgw.database import Database, Item

__all__ = ["MAX_ASKED", "MAX_KEYS", "OVERRIDDEN", "SPAN_S", "STEP_S", "UNREAL", "History", "Past", "Series"]

log = logging.getLogger(__name__)

STEP_S = 0.5
SPAN_S = 900.0
MAX_KEYS = 120  # that are remembered by themselves
MAX_ASKED = 40  # and because somebody asked for them
LENGTH = int(SPAN_S / STEP_S)
CHOOSE_STEPS = 4  # look for keys that are newly fed each so many steps
#: Bits beside those of a reading's flags: the value was simulated or replayed; it was overridden.
UNREAL, OVERRIDDEN = 32, 64

_NO_VALUES = array("d", [float("nan")]) * LENGTH
_NO_FLAGS = bytes(LENGTH)


class Series(NamedTuple):
    """One key: its values, the newest last, None where there was none; and their flags, with `UNREAL`, `OVERRIDDEN`."""

    values: list[float | None]
    flags: bytes


class Past(NamedTuple):
    """What `History.read` returns: a value each `STEP_S` up to `newest`, in seconds of the database's clock.

    `series` has None for a key that is not remembered.
    """

    newest: float
    series: dict[str, Series | None]

    def tree(self, now: float) -> dict[str, Any]:
        """The same for JSON. Times are relative to `now`, so that no clock of a reader takes part."""
        return {
            "step": STEP_S,
            "age": round(max(0.0, now - self.newest), 3),
            "keys": {
                key: None if found is None else {"values": _short(found.values), "flags": list(found.flags)}
                for key, found in self.series.items()
            },
        }


class _Ring:
    """What is remembered of an item, by the number of the step modulo `LENGTH`."""

    __slots__ = ("flags", "item", "used", "values")

    def __init__(self, item: Item, step: int) -> None:
        self.item = item
        self.values = _NO_VALUES[:]  # NaN for none
        self.flags = bytearray(_NO_FLAGS)
        self.used = step  # the last step at which it was not old


class History:
    """Remembers the values of a database. Any thread may call any method.

    With an injected clock, call `sample` instead of `start`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clock = database.clock
        self._lock = threading.Lock()
        self._fed: dict[str, _Ring] = {}
        self._asked: dict[str, _Ring] = {}
        self._steps = array("q", [-1]) * LENGTH  # which step each entry of the rings belongs to
        self._first = self._last = -1  # steps
        self._complain = Complaints(log, database.clock)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Remember from now on. Called again, it does nothing."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopping = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="history", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop remembering. Waits until the thread has ended, at most 1 s."""
        self._stopping.set()
        if (thread := self._thread) is not None:
            thread.join(1.0)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.wait(STEP_S - self._clock() % STEP_S):
            try:
                self.sample()
            except Exception as error:  # a defect; what is missing appears as a gap
                self._complain("remembering values failed", error=error)

    # -- remembering ---------------------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Remember the present values, unless that has been done in this step."""
        step = int(self._clock() / STEP_S)
        with self._lock:
            if step <= self._last:
                return
            if self._first < 0 or step % CHOOSE_STEPS == 0:
                self._choose(step)
            if self._first < 0:
                self._first = step
            at = step % LENGTH
            for rings in (self._fed, self._asked):
                for ring in rings.values():
                    reading = ring.item.reading
                    source, flags = reading.source, reading.flags
                    if reading.stamp == NEVER:
                        ring.values[at], ring.flags[at] = float("nan"), 0
                        continue
                    if not flags & OLD:
                        ring.used = step
                    if source.startswith(SIMULATED):
                        flags |= OVERRIDDEN if source.startswith(OVERRIDE) else UNREAL
                    ring.values[at] = reading.value  # type: ignore[assignment]
                    ring.flags[at] = flags
            self._steps[at] = step  # from here on it may be read
            self._last = step

    def _choose(self, step: int) -> None:
        """Begin to remember keys that are newly fed, while there is room."""
        readings = self._database.readings()  # as stored: whether they are old does not matter here
        new = [
            item
            for item, reading in zip(self._database.items(), readings, strict=False)  # more may be defined meanwhile
            if reading.stamp != NEVER and item.key not in self._fed and reading.source not in START and _is_number(item)
        ]
        for item in sorted(new, key=lambda item: not item.measured):
            if len(self._fed) >= MAX_KEYS:
                key, idlest = min(self._fed.items(), key=lambda entry: entry[1].used)
                if step - idlest.used < LENGTH:
                    return
                del self._fed[key]
            asked = self._asked.pop(item.key) if item.key in self._asked else None
            self._fed[item.key] = asked or _Ring(item, step)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, keys: Iterable[str], seconds: float = SPAN_S, most: int | None = None) -> Past:
        """The values of these keys in the last so many seconds. Starts to remember those that are not yet remembered.

        What was not remembered is a gap: before the start, while this process was held up or the computer suspended.
        Stops before there are more than `most` values, but not before the first key: ask again for those left out.
        """
        found: dict[str, Series | None] = {}
        with self._lock:
            now = int(self._clock() / STEP_S)
            end = max(self._last, now - 1)  # this step's turn may not have come yet
            count = 0
            if self._first >= 0:
                count = max(0, min(ceil(min(seconds, SPAN_S) / STEP_S), end - self._first + 1))
            start = (end - count + 1) % LENGTH
            gaps = [n for n in range(count) if self._steps[(start + n) % LENGTH] != end - count + 1 + n]
            length = 0
            for key in keys:
                if key in found:
                    continue
                ring = self._ring(key, now)
                length += 0 if ring is None else count
                if found and most is not None and length > most:
                    break
                found[key] = None if ring is None else _series(ring, start, count, gaps)
        return Past(end * STEP_S, found)

    def _ring(self, key: str, step: int) -> _Ring | None:
        """What is remembered of the key, from now on if it is not yet; None if it cannot be."""
        ring = self._fed.get(key)
        if ring is not None:
            return ring
        ring = self._asked.pop(key, None)
        if ring is None:
            if key not in self._database or not _is_number(item := self._database.item(key)):
                return None
            ring = _Ring(item, step)
            if len(self._asked) >= MAX_ASKED:
                del self._asked[next(iter(self._asked))]
        self._asked[key] = ring  # the last one asked for is at the end
        return ring


def _is_number(item: Item) -> bool:
    return item.type in ("float", "int")


def _series(ring: _Ring, start: int, count: int, gaps: list[int]) -> Series:
    """`count` entries of a ring from the index `start`."""
    values = (ring.values[start:] + ring.values[:start])[:count]
    flags = (ring.flags[start:] + ring.flags[:start])[:count]
    found = [None if value != value else value for value in values]
    for n in gaps:
        found[n] = None
        flags[n] = 0
    return Series(found, bytes(flags))


def _short(values: list[float | None]) -> list[float | None]:
    """`values` with the nine digits that no display has more of."""
    return [None if value is None else float(f"{value:.9g}") for value in values]
