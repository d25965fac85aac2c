"""Rate-limited warnings: `Complaints`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

INTERVAL_S = 10.0  # minimum time between two warnings about the same subject
MAX_SUBJECTS = 1000


class Complaints:
    """Logs a warning unless it has already warned about the same subject within the last `INTERVAL_S` seconds.

    `clock` returns monotonic seconds. Any thread may call it; if two threads complain at the same instant, both
    warnings may be logged.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._last: dict[str, float] = {}

    def __call__(
        self,
        message: str,
        *details: object,
        about: str = "",
        error: BaseException | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Log `message` % `details`, with the traceback of `error`. Calls without `about` share one subject."""
        if self.due(about):
            self._log.warning(message, *details, exc_info=error, extra=extra)

    def due(self, about: str = "") -> bool:
        """Return whether a complaint about this subject may be logged now; if so, record it as logged."""
        now = self._clock()
        if now - self._last.get(about, float("-inf")) < INTERVAL_S:
            return False
        if len(self._last) >= MAX_SUBJECTS:
            self._last.clear()
        self._last[about] = now
        return True
