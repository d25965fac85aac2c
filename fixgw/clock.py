"""The gateway's clock: `now`, monotonic seconds that go on while the computer is suspended; and `HoldUp`.

Ages, freshness and deadlines are measured by it, so that what was fresh before a suspend is not fresh after it. On
Linux it is CLOCK_BOOTTIME, and the same as `time.monotonic` until the computer is suspended; elsewhere it is
`time.monotonic`. Steps of the wall clock change nothing. Take it from here by default wherever a clock is injected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["HoldUp", "now"]

LATE_S = 1.0  # a thread may be this late without having been held up

#: Seconds. Any thread; never goes back.
now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


class HoldUp:
    """Notices that a thread comes round later than it should: a stopped process, a swap storm, a suspended computer.

    What has waited meanwhile is old, and must not pass for new. It goes by the gateway's own clock, and not by one that
    a plugin was given, which may stand still or be wound on by a test.
    """

    def __init__(self, clock: Callable[[], float] = now) -> None:
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
