"""`open_patiently` opens a link that may take many seconds, without making a stop wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Opened = TypeVar("Opened")

CHECK_INTERVAL_S = 0.05  # look at the stop flag this often


def open_patiently(
    name: str,
    open: Callable[[], Opened],
    close: Callable[[Opened], object],
    stopping: threading.Event,
    waiting: Callable[[], object],
) -> Opened | None:
    """Return what `open` returns, or None if `stopping` is set first. Raises what `open` raises.

    Opening can take long (a slow name server, a host that does not answer) and cannot be interrupted, so `open` runs on
    a separate thread. If we stop first, that thread closes what it finally opens. `waiting` is called on the caller's
    thread about twenty times a second.
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
    while not done.wait(CHECK_INTERVAL_S):
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
