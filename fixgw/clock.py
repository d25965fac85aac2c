"""The gateway's clock: `now`, monotonic seconds that include suspension of the computer; and `HoldUp`.

Ages, freshness and deadlines are measured by it, so that what was fresh before a suspend is not fresh after it. On
Linux it is CLOCK_BOOTTIME, and the same as `time.monotonic` until the computer is suspended; elsewhere it is
`time.monotonic`. Steps of the wall clock change nothing. Take it from here by default wherever a clock is injected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["HoldUp", "now"]

EARLIEST_YEAR = 2025  # a wall clock that shows an earlier year has not been set
LATE_S = 1.0  # a thread may be this late without having been held up

#: Seconds. Any thread; never goes back.
now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


class HoldUp:
    """Notices that a thread runs much later than it should: a stopped process, swapping, a suspended computer.

    Data that waited in the meantime is old, and must not pass for new. This uses the gateway's own clock, not that of a
    plugin, which a test may control.
    """

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self.clock = clock
        self._last: float | None = None

    def reset(self) -> None:
        """Start afresh, because no data can have waited: the line has just been opened."""
        self._last = self.clock()

    def noticed(self, allowed_s: float) -> bool:
        """Whether much more than `allowed_s` has passed since the last call. Call it in every round."""
        now = self.clock()
        last, self._last = self._last, now
        return last is not None and now - last > allowed_s + LATE_S
