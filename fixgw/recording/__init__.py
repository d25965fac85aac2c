"""Recordings as files: what they contain (`About`, `Change`), and `open_recording`, which reads any kind of them.

Recordings are MCAP files (`fixgw.recording.container`) or lines of JSON as the incumbent writes them
(`fixgw.recording.incumbent`). Nothing here knows a database, starts a thread or looks at a clock. The libraries of the
extras are imported only when a file needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from fixgw.errors import FixgwError, counted
from fixgw.kit.update import Value

__all__ = ["About", "Alert", "Change", "Recording", "RecordingError", "open_recording"]

MCAP_MAGIC = b"\x89MCAP0\r\n"


class RecordingError(FixgwError):
    """A file is not a recording, or cannot be read; the message says why and what to do."""


_NO_REASONS: Mapping[str, str] = MappingProxyType({})


class Change(NamedTuple):
    """An item changed: its value, flags or source.

    `time` is in seconds since 1970, UTC; in a recording that was never dated (`About.dated`), seconds since the
    computer started. `value` is None while the item has none. `flags` are the bits of `fixgw.database`. `source` is
    empty if the recording does not name it. `reasons` has words for flags, by their names in `FLAG_NAMES`.
    """

    time: float
    key: str
    value: Value | None
    flags: int
    source: str
    reasons: Mapping[str, str] = _NO_REASONS


class Alert(NamedTuple):
    """An alert changed its state: `state` and `level` as in `fixgw.alerts`; `time` as in `Change`."""

    time: float
    id: str
    state: str
    level: str
    text: str


@dataclass(frozen=True)
class About:
    """What a recording says about itself; times as in `Change`."""

    name: str
    path: Path
    start: float
    end: float
    dated: bool = True
    complete: bool = True  # False: cut by a loss of power, or still being written
    lost: int = 0  # pieces that could not be read
    ident: str = ""  # of the aircraft
    version: str = ""  # of the gateway that wrote it
    simulated: bool = False  # whether any of its values is simulated, replayed or overridden
    keep: bool = False  # never deleted to make room
    units: Mapping[str, str] = field(default_factory=dict)  # by key
    more: Mapping[str, Any] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What people should know before they trust it, in sentences."""
        found = []
        if self.simulated:
            found.append("Values of this flight are simulated, replayed or overridden.")
        if not self.complete:
            found.append("The recording was not finished: it ends where the power was lost, or is still being written.")
        if self.lost:
            found.append(f"{counted(self.lost, 'piece')} of the recording could not be read.")
        return found


class Recording(Protocol):
    """An open recording. One thread at a time."""

    about: About

    def changes(
        self, keys: Collection[str] | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[Change]:
        """The changes of `keys` (None: of all) from `since` to `until`, in the order of time.

        If `since` is given, first the state of each key at that instant, as changes at `since`. Never raises for
        damaged pieces: they are left out, and counted in `About.lost`.
        """

    def alerts(self) -> list[Alert]:
        """All changes of alerts, in the order of time."""

    def close(self) -> None: ...


def open_recording(path: Path, zone: tzinfo | None = None) -> Recording:
    """Open the recording at `path`, an MCAP file (finished or cut) or one of the incumbent's.

    `zone` is that of recordings whose times have none; None: that of this computer.

    Raises `RecordingError` if it is neither, or if a library is missing; OSError if it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(MCAP_MAGIC)) == MCAP_MAGIC:
            from fixgw.recording.container import McapRecording

            return McapRecording(path)

    from fixgw.recording.incumbent import Incumbent

    return Incumbent(path, zone)
