"""`Batch`, what the gathering thread passes to the one that writes, and the bounded `Queue` between them."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

QUEUE_S = 10.0  # as much waits for a slow disk; older batches are dropped,
QUEUE_BYTES = 16 << 20  # and so are those beyond this


class Entry(NamedTuple):
    """A message; `stamp` in monotonic ns."""

    topic: str
    data: bytes
    stamp: int
    encoding: str = "json"


class Batch(NamedTuple):
    """Messages that were gathered at the instant `at`, in monotonic seconds.

    `flight` is the number of the recording that they belong to, 0 for none: then the last one is complete. `whole`
    means that they contain the state of all keys, so that a recording may begin here. `offset` is UTC minus the
    monotonic time, in seconds, None while nobody knows it.
    """

    flight: int
    at: float
    offset: float | None
    entries: list[Entry]
    whole: bool = False

    @property
    def size(self) -> int:
        """Bytes of data."""
        return sum(len(entry.data) for entry in self.entries)


class Queue:
    """Batches that wait to be written. One thread puts, another takes; the oldest are dropped, never the newest."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._batches: deque[Batch] = deque()
        self._woken = False
        self._size = 0
        #: Batches that were dropped.
        self.lost = 0

    def put(self, batch: Batch) -> bool:
        """Add a batch; return whether others had to be dropped for it."""
        with self._condition:
            before = self.lost
            self._size += batch.size
            while self._batches and (batch.at - self._batches[0].at > QUEUE_S or self._size > QUEUE_BYTES):
                self._size -= self._batches.popleft().size
                self.lost += 1
            self._batches.append(batch)
            return self.lost != before

    def take(self, timeout: float) -> list[Batch]:
        """Wait `timeout` seconds, or less if somebody calls `wake`, and return all batches."""
        with self._condition:
            self._condition.wait_for(lambda: self._woken, timeout)
            self._woken = False
            batches = list(self._batches)
            self._batches.clear()
            self._size = 0
            return batches

    def wake(self) -> None:
        """Let `take` return. Any thread."""
        with self._condition:
            self._woken = True
            self._condition.notify()
