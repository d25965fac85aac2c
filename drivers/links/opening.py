"""Opening what may take many seconds to open, without making a stop wait for it: `open_patiently`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Opened = TypeVar("Opened")

LOOK_S = 0.05  # between two looks at the stop flag


def open_patiently(
    name: str,
    open: Callable[[], Opened],
    close: Callable[[Opened], object],
    stopping: threading.Event,
    waiting: Callable[[], object],
) -> Opened | None:
    """What `open` returns; None when `stopping` was set first. Raises what `open` raises.

    Opening may take long (a name to look up, a host that does not answer) and cannot be interrupted, so `open` runs on
    a thread of its own. When we stop first, whatever it opens in the end is closed. `waiting` is called on the caller's
    thread, some twenty times a second.
    """
    result: list[Opened | BaseException] = []
    done = threading.Event()
    lock = threading.Lock()
    abandoned = False

    def work() -> None:
        opened: Opened | BaseException
        try:
            opened = open()
        except BaseException as error:
            opened = error
        with lock:
            result.append(opened)
            if abandoned and not isinstance(opened, BaseException):
                close(opened)
        done.set()

    threading.Thread(target=work, name=f"{name} opening", daemon=True).start()
    while not done.wait(LOOK_S):
        waiting()
        if stopping.is_set():
            with lock:
                abandoned = True
                if result and not isinstance(result[0], BaseException):
                    close(result[0])
            return None
    opened = result[0]
    if isinstance(opened, BaseException):
        raise opened
    return opened
