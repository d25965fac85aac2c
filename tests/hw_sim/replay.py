"""A recorded NMEA 0183 log as a virtual instrument: its bytes come out again, at the pace at which they were recorded.

The bytes are not looked into any further than for their time stamps; junk, broken sentences and all are replayed.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: Bytes of a log that are replayed, at most.
LARGEST = 64 * 1024 * 1024

_DAY = 86400.0
_LONGEST_GAP = 10.0  # seconds; longer ones, and steps back, are cuts in the recording, and are replayed as `_CUT`
_CUT = 1.0
_WITHOUT_TIME = 0.1  # seconds between the lines of a log without time stamps

_STAMP = re.compile(
    rb"\$[A-Z]{2}(?:RMC,|GGA,|ZDA,|GNS,|GLL,[\d.]*,[NS]?,[\d.]*,[EW]?,)(\d\d)(\d\d)(\d\d(?:\.\d+)?)(?=[,*])"
)


class Replay:
    """Feeds `log` to `write`, one recorded instant at a time.

    `factor` 2 is twice as fast as recorded; with `loop` it begins again at the end. `clock` is monotonic, in seconds.
    Comment lines (``#``) at the head of the log are left out. One thread at a time.
    """

    def __init__(
        self,
        log: bytes,
        write: Callable[[bytes], object],
        factor: float = 1.0,
        loop: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not factor > 0:
            raise ValueError(f"a factor of {factor}: it must be above 0")
        #: The log's bytes by instant: seconds since the first, and what was sent then.
        self.instants = _instants(_without_head(log[:LARGEST]))
        #: Times that the log was begun.
        self.rounds = 0
        self._write = write
        self._factor = factor
        self._loop = loop
        self._clock = clock
        self._next = 0
        self._began = 0.0
        self._due: float | None = None  # when the next instant is; None before the first and after the last

    @classmethod
    def open(
        cls, path: str | Path, write: Callable[[bytes], object], factor: float = 1.0, loop: bool = False
    ) -> Replay:
        """Replay a file. Raises OSError when it cannot be read."""
        with Path(path).open("rb") as file:
            return cls(file.read(LARGEST), write, factor, loop)

    @property
    def duration(self) -> float:
        """Seconds that one round takes."""
        return self.instants[-1][0] / self._factor if self.instants else 0.0

    def step(self) -> float | None:
        """Write what is due, one instant at most; returns the seconds until the next is, or None at the end."""
        now = self._clock()
        if self._due is None:
            if not self.instants or self.rounds:
                return None
            self._begin(now)
        assert self._due is not None
        if now < self._due:
            return self._due - now
        self._write(self.instants[self._next][1])
        self._next += 1
        if self._next < len(self.instants):
            self._due = self._began + self.instants[self._next][0] / self._factor
        elif self._loop:
            self._begin(max(now, self._due) + _CUT / self._factor)
        else:
            self._due = None
            return None
        return max(0.0, self._due - now)

    def _begin(self, at: float) -> None:
        self.rounds += 1
        self._next = 0
        self._began = self._due = at

    def run(self, stop: threading.Event) -> None:
        """Replay to the end, or until `stop` is set."""
        while not stop.is_set() and (wait := self.step()) is not None:
            stop.wait(wait)


def _without_head(log: bytes) -> bytes:
    while log.startswith(b"#"):
        _, _, log = log.partition(b"\n")
    return log


def _instants(log: bytes) -> list[tuple[float, bytes]]:
    """Cut where a sentence has another time of day than the one before."""
    instants: list[tuple[float, bytes]] = []
    start, at, last = 0, 0.0, -1.0
    for match in _STAMP.finditer(log):
        hours, minutes, seconds = map(float, match.groups())
        stamp = hours * 3600 + minutes * 60 + seconds
        if stamp == last:
            continue
        if last >= 0:
            instants.append((at, log[start : match.start()]))
            start = match.start()
            gap = (stamp - last) % _DAY
            at += gap if gap <= _LONGEST_GAP else _CUT
        last = stamp
    if last < 0:
        lines = log.splitlines(keepends=True)
        return [(i * _WITHOUT_TIME, line) for i, line in enumerate(lines)]
    instants.append((at, log[start:]))
    return instants
