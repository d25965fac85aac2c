"""Whether this process has been held up: `HoldUp`. What has waited meanwhile is old, and must not pass for new."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a thread may come late, without having been held up.
LATE_S = 1.0


def real_time() -> float:
    """Seconds since the start of the computer, suspended ones included. No bench winds this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HoldUp:
    """Notices that a thread comes round later than it should: a stopped process, a swap storm, a suspended computer.

    It goes by `clock`, and not by the plugin's, which stands still or is wound on by a test.
    """

    def __init__(self, clock: Callable[[], float] = real_time) -> None:
        self.clock = clock
        self._last: float | None = None

    def reset(self) -> None:
        """Nothing has waited until now: the line has just been opened."""
        self._last = self.clock()

    def noticed(self, allowed_s: float) -> bool:
        """To be called every time round: whether much more than `allowed_s` has passed since the last time."""
        now = self.clock()
        last, self._last = self._last, now
        return last is not None and now - last > allowed_s + LATE_S
