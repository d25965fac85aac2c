"""Flights: the recordings in a directory, found by name, and what the list of them says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fixgw import state
from fixgw.errors import did_you_mean
from fixgw.recording import About, RecordingError, open_recording
from fixgw.recording.container import KEEP, PART, SUFFIX, facts_of, locked, name_of

__all__ = ["Flight", "default_directory", "directories", "find", "flights", "mark"]

SERVICE = Path("/var/lib/fixgw/recordings")  # of the gateway that systemd runs
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
            about = recording.about
            worst = max(
                (a for a in recording.alerts() if a.state == "active" and a.level in LEVELS),
                key=lambda alert: LEVELS.index(alert.level),
                default=None,
            )
        finally:
            recording.close()
        return _from_about(known, about, "" if worst is None else worst.level, "" if worst is None else worst.text)
    except FileNotFoundError:
        raise
    except (OSError, RecordingError) as error:
        return replace(known, trouble=getattr(error, "strerror", None) or str(error), complete=False)


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


def _from_about(known: Flight, about: About, level: str, text: str) -> Flight:
    facts = {k: v for k, v in about.more.items() if isinstance(v, str)}
    shift = about.start - float(facts["first"]) / 1e9 if "first" in facts else 0.0
    takeoff, landing = _number(facts.get("takeoff")), _number(facts.get("landing"))
    return replace(
        known,
        start=about.start,
        end=about.end,
        dated=about.dated,
        takeoff=None if takeoff is None else takeoff + shift,
        landing=None if landing is None else landing + shift,
        level=level,
        alert=text,
        ident=about.ident,
        simulated=about.simulated,
        complete=about.complete,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
