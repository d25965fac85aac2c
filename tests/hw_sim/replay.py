"""A recorded NMEA 0183 log as a virtual instrument: its bytes are sent again at the pace of the recording.

Only time stamps are read from the bytes; everything is replayed, including junk and broken sentences.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: The largest log that is replayed, in bytes.
MAX_SIZE = 64 * 1024 * 1024

_DAY = 86400.0
_MAX_GAP_S = 10.0  # longer gaps, and steps back, are cuts in the recording and are replayed as `_CUT_S`
_CUT_S = 1.0
_LINE_INTERVAL_S = 0.1  # between the lines of a log without time stamps

_STAMP = re.compile(
    rb"\$[A-Z]{2}(?:RMC,|GGA,|ZDA,|GNS,|GLL,[\d.]*,[NS]?,[\d.]*,[EW]?,)(\d\d)(\d\d)(\d\d(?:\.\d+)?)(?=[,*])"
)


class Replay:
    """Feeds `log` to `write`, one recorded instant at a time.

    A `factor` of 2 replays at twice the speed; with `loop` it starts again at the end. `clock` returns monotonic
    seconds. Comment lines (``#``) at the head of the log are left out. One thread at a time.
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
            raise ValueError(f"the factor is {factor}; it must be above 0")
        #: The log's bytes by instant: seconds since the first instant, and the bytes sent then.
        self.instants = _instants(_without_head(log[:MAX_SIZE]))
        #: The number of times that the replay has started.
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
        """Replay a file. Raises OSError if it cannot be read."""
        with Path(path).open("rb") as file:
            return cls(file.read(MAX_SIZE), write, factor, loop)

    @property
    def duration(self) -> float:
        """The length of one round in seconds."""
        return self.instants[-1][0] / self._factor if self.instants else 0.0

    def step(self) -> float | None:
        """Write what is due, at most one instant; return the seconds until the next one, or None at the end."""
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
            self._begin(max(now, self._due) + _CUT_S / self._factor)
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
    """Cut the log wherever a sentence has another time of day than the previous one."""
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
            at += gap if gap <= _MAX_GAP_S else _CUT_S
        last = stamp
    if last < 0:
        lines = log.splitlines(keepends=True)
        return [(i * _LINE_INTERVAL_S, line) for i, line in enumerate(lines)]
    instants.append((at, log[start:]))
    return instants
