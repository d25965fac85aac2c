"""Recordings in memory, and the sample that the exports in ``tests/data/exports`` were made of."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fixgw.recording import About, Alert, Change

SAMPLES = Path(__file__).parents[1] / "data/exports"
START = 1_778_940_300.0  # 2026-05-16 14:05:00 UTC


@dataclass
class InMemory:
    """A recording of these changes."""

    about: About
    everything: list[Change]
    notices: list[Alert] = field(default_factory=list)

    def changes(
        self, keys: Collection[str] | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[Change]:
        state: dict[str, Change] = {}
        later = []
        for change in self.everything:
            if keys is not None and change.key not in keys:
                continue
            if since is not None and change.time <= since:
                state[change.key] = change._replace(time=since)
            elif until is None or change.time <= until:
                later.append(change)
        yield from (*state.values(), *later)

    def alerts(self) -> list[Alert]:
        return self.notices

    def close(self) -> None:
        pass


def recording(changes: Iterable[tuple[Any, ...]], alerts: Iterable[Alert] = (), **about: Any) -> InMemory:
    """A recording of changes that are tuples ``(time, key, value[, flags])``, times from `START` or absolute."""

    def full(time: float, key: str, value: Any, flags: int = 0, source: str = "") -> Change:
        return Change(time if time > 1e8 or not about.get("dated", True) else START + time, key, value, flags, source)

    everything = [full(*change) for change in changes]
    about.setdefault("start", everything[0].time)
    about.setdefault("end", everything[-1].time)
    facts = {"name": "test", "path": Path("test.mcap"), **about}
    return InMemory(About(**facts), everything, list(alerts))


def sample_flight(**about: Any) -> InMemory:
    """The flight of ``input.csv``, with what the samples say besides: altimeter setting and GPS fix."""
    changes: list[tuple[Any, ...]] = [(0, "BARO", 30.02), (0, "GPS_FIX_TYPE", 3)]
    with open(SAMPLES / "input.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            time = datetime.fromisoformat(line.pop("utc")).timestamp()
            changes += [(time, k, int(v) if k == "TACH1" else float(v)) for k, v in line.items()]
    return recording(changes, **{"ident": "N12345", **about})
