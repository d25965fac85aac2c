"""The gateway's clock: `now`, monotonic seconds that go on while the computer is suspended.

Ages, freshness and deadlines are measured by it, so that what was fresh before a suspend is not fresh after it. On
Linux it is CLOCK_BOOTTIME, and the same as `time.monotonic` until the computer is suspended; elsewhere it is
`time.monotonic`. Steps of the wall clock change nothing. Take it from here by default wherever a clock is injected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["now"]

#: Seconds. Any thread; never goes back.
now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
