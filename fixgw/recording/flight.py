"""Flights: the recordings in a directory, found by name, and what the list of them says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fixgw import state
from fixgw.errors import did_you_mean
from fixgw.kit.phases import Inputs, Phases
from fixgw.kit.update import BAD, FAIL, OLD
from fixgw.recording import About, Change, Recording, RecordingError, open_recording
from fixgw.recording.container import KEEP, PART, SUFFIX, facts_of, locked, name_of

__all__ = ["Flight", "default_directory", "directories", "find", "flights", "mark", "story"]

SERVICE = Path("/var/lib/fixgw/recordings")  # of the gateway that systemd runs
STEP_S = 0.2  # between two looks at the phase of flight
LONGEST_GAP_S = 60.0
FLIES = ("takeoff", "air", "landing")
PHASE_KEYS = {"TACH1": "rpm", "IAS": "ias", "GS": "gs", "ALT": "altitude", "AGL": "height", "VS": "climb"}
LEVELS = ("", "advisory", "caution", "warning")


@dataclass(frozen=True)
class Flight:
    """A recording in the list. Times are in seconds since 1970, UTC, or since the computer started if not `dated`."""

    name: str
    path: Path
    size: int
    start: float = 0.0
    end: float = 0.0
    dated: bool = True
    takeoff: float | None = None
    landing: float | None = None
    level: str = ""  # of the worst alert,
    alert: str = ""  # and its text
    ident: str = ""
    simulated: bool = False
    keep: bool = False
    complete: bool = True
    being_written: bool = False
    trouble: str = ""  # why it cannot be read


def default_directory() -> Path:
    """Where the recorder puts recordings unless its options say otherwise."""
    return state.path("recordings").parent / "recordings"


def directories() -> list[Path]:
    """Where recordings are looked for: those of this user, then those of the service."""
    return list(dict.fromkeys((default_directory(), SERVICE)))


def find(name: str, places: Callable[[], Iterable[Path]]) -> Path:
    """The path of the recording `name`: a path, or a name of the list of `places`. Raises `RecordingError`."""
    path = Path(name).expanduser()
    if path.exists() or os.sep in name:
        return path
    known = []
    for place in places():
        for file in _files(place):
            if name in (file.name, name_of(file)):
                return file
            known.append(name_of(file))
    if path.suffix:
        return path  # that does not exist, as whoever opens it will say
    hint = did_you_mean(name, known) or ": `fixgw flights` lists them"
    raise RecordingError(f"there is no recording {name!r}{hint}")


def flights(place: Path) -> Iterator[Flight]:
    """The recordings in the directory `place`, the oldest first. Raises OSError if it cannot be read."""
    for path in _files(place):
        with suppress(FileNotFoundError):  # deleted meanwhile
            yield summarize(path)


def summarize(path: Path) -> Flight:
    """What the list says about a recording. A finished one of ours is not read for this. Raises FileNotFoundError."""
    size = path.stat().st_size
    known = Flight(
        name_of(path), path, size, keep=_keep(path).exists(), being_written=path.name.endswith(PART) and _busy(path)
    )
    try:
        facts = facts_of(path)
        if facts is not None:
            return _from_facts(known, facts)
        recording = open_recording(path)
        try:
            told = Story() if known.being_written else story(recording)
            return _from_about(known, recording.about, told)
        finally:
            recording.close()
    except FileNotFoundError:
        raise
    except (OSError, RecordingError) as error:
        return replace(known, trouble=getattr(error, "strerror", None) or str(error), complete=False)


class Story(NamedTuple):
    """What the list says about a flight; times as in `fixgw.recording.Change`."""

    takeoff: float | None = None  # the first
    landing: float | None = None  # the last, if the flight ended with it
    level: str = ""
    alert: str = ""


class _Watch:
    """Follows the phase of flight through a recording."""

    def __init__(self, each: Callable[[], object]) -> None:
        self.story = Story()
        self._each = each
        self._phases = Phases()
        self._inputs: dict[str, float | None] = dict.fromkeys(PHASE_KEYS.values())
        self._has_engine = False
        self._flew: bool | None = None
        self._due: float | None = None
        self._steps = 0

    def note(self, change: Change) -> None:
        good = isinstance(change.value, (int, float)) and not change.flags & (OLD | BAD | FAIL)
        self._has_engine = self._has_engine or change.key == "TACH1"
        self._inputs[PHASE_KEYS[change.key]] = float(change.value or 0.0) if good else None

    def until(self, time: float) -> None:
        """Look at the phase regularly up to `time`, but not through a long gap."""
        if self._due is None or time - self._due > LONGEST_GAP_S:
            self._due = time
        while self._due < time:
            self._look(self._due)
            self._due += STEP_S

    def _look(self, now: float) -> None:
        self._steps += 1
        if self._steps % 10 == 0:
            self._each()
        flies = self._phases.step(now, Inputs(**self._inputs, has_engine=self._has_engine)) in FLIES
        if flies and self._flew is False:
            takeoff = now if self.story.takeoff is None else self.story.takeoff
            self.story = self.story._replace(takeoff=takeoff, landing=None)
        elif self._flew and not flies:
            self.story = self.story._replace(landing=now)
        self._flew = flies


def story(recording: Recording, each: Callable[[], object] = bool) -> Story:
    """Take-off, landing and worst alert, found by reading the whole recording. `each` is called now and then."""
    watch = _Watch(each)
    for change in recording.changes(PHASE_KEYS):
        watch.until(change.time)
        watch.note(change)
    watch.until(recording.about.end)
    told = watch.story
    for alert in recording.alerts():
        if alert.state == "active" and alert.level in LEVELS[LEVELS.index(told.level) + 1 :]:
            told = told._replace(level=alert.level, alert=alert.text)
    return told


def mark(path: Path, keep: bool) -> None:
    """Mark a recording as one that is never deleted to make room, or take that back. Raises OSError."""
    if keep:
        _keep(path).touch()
    else:
        _keep(path).unlink(missing_ok=True)


def _files(place: Path) -> list[Path]:
    """The recordings in `place` by their names; a cut one not if it has been completed. Raises OSError."""
    try:
        found = [path for path in place.iterdir() if path.name.endswith((SUFFIX, PART)) and path.is_file()]
    except FileNotFoundError:
        return []
    whole = {path.name for path in found}
    shown = [p for p in found if not p.name.startswith(".") and p.name.removesuffix(".part") not in whole - {p.name}]
    return sorted(shown, key=lambda path: name_of(path))


def _keep(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".part") + KEEP)


def _busy(path: Path) -> bool:
    try:
        return locked(path)
    except OSError:
        return False


def _from_facts(known: Flight, facts: dict[str, str]) -> Flight:
    offset = _number(facts.get("offset"))
    shift = offset or 0.0

    def time(name: str) -> float | None:
        found = _number(facts.get(name))
        return None if found is None else found + shift

    return replace(
        known,
        start=(_number(facts["first"]) or 0.0) / 1e9 + shift,
        end=(_number(facts.get("last")) or 0.0) / 1e9 + shift,
        dated=offset is not None,
        takeoff=time("takeoff"),
        landing=time("landing"),
        level=facts.get("alert level", ""),
        alert=facts.get("alert", ""),
        ident=facts.get("ident", ""),
        simulated=facts.get("simulated") == "true",
    )


def _from_about(known: Flight, about: About, told: Story) -> Flight:
    return replace(
        known,
        start=about.start,
        end=about.end,
        dated=about.dated,
        takeoff=told.takeoff,
        landing=told.landing,
        level=told.level,
        alert=told.alert,
        ident=about.ident,
        simulated=about.simulated,
        complete=about.complete,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
