"""`Gatherer`: turns what happens in the database into the messages of a recording. No files."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import compress
from operator import is_not
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, FLAG_NAMES, NEVER, OLD, SECFAIL, Database, Reading, Value
from fixgw.kit import raw as raw_tap
from fixgw.kit.phases import Inputs, Phase
from fixgw.kit.sources import simulated
from fixgw.plugins.recorder.batch import Entry
from fixgw.recording import layout, raw
from fixgw.recording.layout import encode

AUX_S = 2.0  # between two looks at the aux values
MAX_ALERTS = 1000
MAX_RAW = 20_000  # reads and writes of links that wait
FLIES = ("takeoff", "air", "landing")
LEVELS = ("advisory", "caution", "warning")
PHASE_KEYS = {"ias": "IAS", "gs": "GS", "height": "AGL", "climb": "VS"}


class Gatherer:
    """Finds what has changed. It looks at all items at its own pace, which costs the writers of values nothing.

    `gather` and `whole` are for one thread.
    """

    def __init__(self, db: Database, keys: list[str], engine: str, listen_raw: bool, log: logging.Logger) -> None:
        self._db = db
        self._items = [db.item(key) for key in keys]
        wanted = set(keys)
        self._values: dict[str, dict[str, Any]] = {layout.topic_of(key): {} for key in keys}  # what to record next
        # All items, in the order of the database, with None for those that are not recorded.
        self._places = [(key, self._values[layout.topic_of(key)] if key in wanted else None) for key in db]
        self._known: list[Reading] = []  # all, in the order of the database
        self._aux_due = NEVER
        self._known_aux: dict[str, dict[str, Value | None]] = {}
        self._alerts: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=MAX_ALERTS)
        self._raw = raw_tap.Buffer(MAX_RAW)
        self._tap = raw_tap.listen(db, self._raw, log) if listen_raw else None
        self._raw.take()  # `whole` says which links are open
        self._engine = db.item(engine) if engine in db else None
        self._inputs = {name: db.item(key) for name, key in PHASE_KEYS.items() if key in db}
        altitude = next((key for key in ("PALT", "ALT") if key in db), None)
        if altitude is not None:
            self._inputs["altitude"] = db.item(altitude)
        #: Whether any source so far was simulated.
        self.simulated = False

    def close(self) -> None:
        if self._tap is not None:
            self._tap.close()

    @property
    def raw_trouble(self) -> str:
        """Why raw data is not recorded, or no longer; empty if it is, or is not wanted."""
        return "" if self._tap is None else self._tap.failure

    @property
    def raw_lost(self) -> int:
        return self._raw.lost

    def heard_alert(self, at: float, entry: Mapping[str, Any]) -> None:
        """Note a change of an alert. Any thread."""
        self._alerts.append((at, entry))

    # -- taking --------------------------------------------------------------------------------------------------------

    def gather(self, now: float) -> list[Entry]:
        """What has changed since the last call, as messages of the instant `now`."""
        stamp = round(now * 1e9)
        flags: dict[str, str] = {}
        reasons: dict[str, Any] = {}
        sources: dict[str, str] = {}
        known, self._known = self._known, self._db.readings()
        changed = list(map(is_not, self._known, known))
        for (key, values), reading, before in zip(
            compress(self._places, changed), compress(self._known, changed), compress(known, changed), strict=True
        ):
            if values is None:
                continue
            if (value := reading.value) != before.value or before.stamp == NEVER:
                values[key] = value
            if reading.flags or before.flags:
                if reading.flags != before.flags:
                    flags[key] = reading.flag_text
                if reading.reasons != before.reasons:
                    reasons[key] = _reasons(reading)
            if reading.source != before.source:
                sources[key] = reading.source
        entries = self._take_values(stamp)
        if flags:
            entries.append(Entry(layout.FLAGS, encode(flags), stamp))
        if reasons:
            entries.append(Entry(layout.REASONS, encode(reasons), stamp))
        if sources:
            self._note_sources(sources)
            entries.append(Entry(layout.SOURCES, encode(sources), stamp))
        if not self._aux_due - AUX_S <= now < self._aux_due and (aux := self._changed_aux(now)):
            entries.append(Entry(layout.AUX, encode(aux), stamp))
        for _ in range(len(self._alerts)):
            at, alert = self._alerts.popleft()
            entries.append(Entry(layout.ALERTS, encode(alert), min(stamp, round(at * 1e9))))
        if self._tap is not None:
            entries += _encode_raw(self._raw.take(), stamp)
        return entries

    def whole(self, now: float) -> list[Entry]:
        """The state of all keys, as messages of the instant `now`."""
        stamp = round(now * 1e9)
        reasons = {}
        self._known_aux.clear()
        aux = self._changed_aux(now)
        readings = {}
        self._known = self._db.readings()
        for n, (key, values) in enumerate(self._places):
            if values is None:
                continue
            reading = self._known[n] = readings[key] = self._db.item(key).aged(self._known[n])
            values[key] = None if reading.stamp == NEVER else reading.value
            if reading.reasons:
                reasons[key] = _reasons(reading)
        sources = {key: reading.source for key, reading in readings.items()}
        self._note_sources(sources)
        flags = {key: reading.flag_text for key, reading in readings.items()}
        more = {layout.FLAGS: flags, layout.REASONS: reasons, layout.SOURCES: sources, layout.AUX: aux}
        entries = self._take_values(stamp)
        entries += [Entry(topic, encode(content), stamp) for topic, content in more.items()]
        if self._tap is not None:
            entries += _encode_raw(raw_tap.point(self._db).facts(), stamp)
        return entries

    def _take_values(self, stamp: int) -> list[Entry]:
        """What is noted in `_values`, as messages."""
        entries = []
        for topic, values in self._values.items():
            if values:
                entries.append(Entry(topic, encode(values), stamp))
                values.clear()
        return entries

    def flight(self) -> Inputs:
        """What the phase of flight depends on."""
        vs0 = self._inputs["ias"].aux.get("Vs0") if "ias" in self._inputs else None
        return Inputs(
            **{name: _good(item.reading) for name, item in self._inputs.items()},
            rpm=None if self._engine is None else _good(self._engine.reading),
            vs0=float(vs0) if isinstance(vs0, (int, float)) else None,
            has_engine=self._engine is not None,
        )

    def _changed_aux(self, now: float) -> dict[str, Value | None]:
        """The aux values that have changed since the last call, by ``KEY.name``."""
        self._aux_due = now + AUX_S
        changed: dict[str, Value | None] = {}
        for item in self._items:
            if item.aux and item.aux != (before := self._known_aux.get(item.key)):
                self._known_aux[item.key] = aux = dict(item.aux)
                before = before or {}
                changed |= {f"{item.key}.{name}": aux[name] for name in aux if aux[name] != before.get(name)}
        return changed

    def _note_sources(self, sources: Mapping[str, str]) -> None:
        if not self.simulated:
            self.simulated = any(map(simulated, sources.values()))


_NAMES = [(bit, FLAG_NAMES[bit]) for bit in (ANNUNCIATE, OLD, BAD, FAIL, SECFAIL)]


def _encode_raw(entries: Iterable[raw_tap.Heard], stamp: int) -> list[Entry]:
    by_topic: dict[str, list[raw_tap.Heard]] = {}
    for heard in entries:
        by_topic.setdefault(raw.topic(heard), []).append(heard)
    return [Entry(topic, raw.encode(heard), stamp, raw.ENCODING) for topic, heard in by_topic.items()]


def _reasons(reading: Reading) -> dict[str, str]:
    """Why each flag is set, by its name."""
    return {name: text for bit, name in _NAMES if (text := reading.reason(bit))}


def _good(reading: Reading) -> float | None:
    return float(reading.value) if reading.good and isinstance(reading.value, (int, float)) else None


class Summary:
    """What the list of flights says about a recording; the gathering thread notes it, and the file's end has it."""

    def __init__(self, simulated: Callable[[], bool], phase: Phase) -> None:
        self._simulated = simulated
        self._phase = phase  # a recording may begin in flight
        self._facts: dict[str, str] = {}

    def note_phase(self, phase: Phase, now: float) -> None:
        """Times are monotonic, in seconds; the last landing counts, and the first take-off."""
        if phase != self._phase:
            if phase in FLIES and self._phase not in FLIES:
                self._facts.setdefault("takeoff", repr(now))
                self._facts.pop("landing", None)
            elif self._phase in FLIES and phase not in FLIES:
                self._facts["landing"] = repr(now)
            self._phase = phase

    def note_alert(self, entry: Mapping[str, Any]) -> None:
        level = entry.get("level")
        if entry.get("to") == "active" and level in LEVELS:
            worst = self._facts.get("alert level")
            if worst is None or LEVELS.index(level) > LEVELS.index(worst):
                self._facts |= {"alert level": level, "alert": str(entry.get("text", ""))[:200]}

    def facts(self) -> dict[str, str]:
        """Any thread."""
        return {**self._facts, "simulated": "true" if self._simulated() else "false"}
