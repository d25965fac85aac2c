"""Plays recordings, one after the other: `Player` says what is due. It knows no clock, no thread and no database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo

from fixgw.errors import FixgwError
from fixgw.recording import About, Change, Recording, RecordingError

BREAK_S = 1.0  # between two recordings of which the second is not the later one
_DURATION = re.compile(r"([+-]?)(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)")


class Player:
    """Plays the recordings with these names, which `open_it` opens, in this order. One thread at a time.

    A gap without any change that is longer than `longest_gap_s` is shortened to it. A recording that cannot be read is
    left out, and `trouble` says why. Times are in seconds of the recording, as in `Change`.
    """

    def __init__(self, names: Sequence[str], open_it: Callable[[str], Recording], longest_gap_s: float) -> None:
        self._names = names
        self._open_it = open_it
        self._longest_gap_s = longest_gap_s
        self._number = 0  # of the recording that is open
        self._recording: Recording | None = None
        self._changes: Iterator[Change] = iter(())
        self._next: Change | None = None
        self._time = 0.0  # of the change that was played last
        self._since_s = 0.0  # since then
        self._ends: dict[int, float] = {}  # of the recordings that have been opened
        #: When the first recording begins.
        self.begin = 0.0
        #: Why recordings were left out, by name.
        self.trouble: dict[str, str] = {}

    @property
    def about(self) -> About | None:
        """Facts about the recording that is open."""
        return None if self._recording is None else self._recording.about

    @property
    def ended(self) -> bool:
        """Nothing is left to be played."""
        return self._next is None

    @property
    def position(self) -> float:
        """Where the playing is."""
        if self._next is None:
            return self._time
        return min(self._time + self._since_s, max(self._next.time, self._time))

    @property
    def due_in(self) -> float:
        """Seconds until the next change; infinity if there is none."""
        return float("inf") if self._next is None else max(0.0, self._distance(self._next) - self._since_s)

    def advance(self, seconds: float) -> dict[str, Change]:
        """Play on for `seconds`. Returns the last change of each key."""
        self._since_s += seconds
        changes: dict[str, Change] = {}
        while (change := self._next) is not None:
            distance = self._distance(change)
            if self._since_s < distance - 1e-6:
                break
            self._since_s -= distance
            self._time = change.time
            changes[change.key] = change
            self._next = self._read() or self._read_on()
        return changes

    def seek(self, time: float | None = None, before_s: float = 0.0) -> dict[str, Change]:
        """Go to `time`, or to the beginning. Returns the state there: the last change of each key.

        Changes in the last `before_s` seconds have their own times, older ones the time `before_s` ago. This may take
        seconds. Raises `RecordingError` if no recording can be read.
        """
        self.close()
        self.trouble.clear()
        last = len(self._names) - 1
        for number in range(len(self._names)):
            if time is not None and number < last and self._ends.get(number, time) < time:
                continue
            if (recording := self._open(number)) is not None:
                self._use(number, recording)
                if not self._ends:
                    self.begin = recording.about.start
                self._ends[number] = recording.about.end
                if time is None or recording.about.end >= time:
                    break
        if self._recording is None:
            raise RecordingError("; ".join(self.trouble.values()) or "there is no recording")
        about = self._recording.about
        at = about.start if time is None else min(max(time, about.start), about.end)
        self._changes = self._recording.changes(since=at - before_s)
        self._time, self._since_s = at, 0.0
        state: dict[str, Change] = {}
        while (change := self._read()) is not None and change.time <= at:
            state[change.key] = change
        self._next = change or self._read_on()
        return state

    def close(self) -> None:
        """Close the recording. `seek` opens it again."""
        self._next, recording, self._recording = None, self._recording, None
        if recording is not None:
            recording.close()

    def _distance(self, change: Change) -> float:
        """Seconds of playing from the last change to this one."""
        distance = change.time - self._time
        return min(distance if distance >= 0 else BREAK_S, self._longest_gap_s)

    def _read(self) -> Change | None:
        """The next change of the recording that is open; None at its end, or if it cannot be read any more."""
        try:
            return next(self._changes, None)
        except (OSError, FixgwError) as error:
            self._note(self._number, error)
            return None

    def _read_on(self) -> Change | None:
        """The first change of those recordings that follow; None if there is none."""
        for number in range(self._number + 1, len(self._names)):
            recording = self._open(number)
            if recording is not None:
                self._use(number, recording)
                self._changes = recording.changes()
                if (change := self._read()) is not None:
                    return change
        return None

    def _open(self, number: int) -> Recording | None:
        try:
            return self._open_it(self._names[number])
        except (OSError, FixgwError) as error:
            self._note(number, error)
            return None

    def _use(self, number: int, recording: Recording) -> None:
        if self._recording is not None:
            self._recording.close()
        self._number, self._recording = number, recording

    def _note(self, number: int, error: Exception) -> None:
        name = self._names[number]
        self.trouble[name] = f"{name}: {error.strerror}" if isinstance(error, OSError) else str(error)


def moment(text: str, begin: float, position: float, zone: tzinfo | None = None) -> float:
    """The time that `text` means.

    ``2026-05-16T14:00:00`` is in `zone`, or that of this computer, if it names none; ``30``, ``10:00`` and ``1:10:00``
    count from the beginning, ``+30`` and ``-1:00`` from the position. Raises ValueError.
    """
    if match := _DURATION.fullmatch(text.strip()):
        sign, hours, minutes, seconds = match.groups()
        duration = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
        return begin + duration if not sign else position + (-duration if sign == "-" else duration)
    try:
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is not a time such as 2026-05-16T14:00:00, 10:00 from the beginning, or +30 from here"
        ) from None
