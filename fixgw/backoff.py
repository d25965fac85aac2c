"""`Backoff`: growing delays between attempts."""

from __future__ import annotations


class Backoff:
    """Delays that double from `first` to `cap` seconds until `reset`."""

    def __init__(self, first: float, cap: float) -> None:
        self.first = first
        self.cap = max(first, cap)
        self._next = first

    def next(self) -> float:
        delay, self._next = self._next, min(self._next * 2, self.cap)
        return delay

    def reset(self) -> None:
        self._next = self.first
