"""The frames in which threads are."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

_one_at_a_time = threading.Lock()


def frames_of_threads() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's identifier. Any thread may call it.

    Before Python 3.12, a garbage collection inside `sys._current_frames` can stop the process for ever: the call holds
    a lock that every thread takes when it starts and ends, and what is collected may let other threads run or take that
    lock itself (CPython's gh-106883). So there is no collection meanwhile.
    """
    with _one_at_a_time:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if enabled:
                gc.enable()
