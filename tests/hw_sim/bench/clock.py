"""A clock that the test controls: `Clock`."""

from __future__ import annotations


class Clock:
    """A monotonic clock in seconds that stands still until the test advances `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
