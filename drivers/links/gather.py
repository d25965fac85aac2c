"""`Gather`: how long to leave input where it is, because waking up costs more than much input does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fixgw.clock import now


class Gather:
    """Input after a pause is read at once. While it arrives in quick succession, the reader rests before each read.

    `seconds` is how long; 0 = never. Call `rest` before waiting for input, and `note` after. One thread.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = now) -> None:
        self.seconds = seconds
        self._clock = clock
        self._dense = False
        self._since = 0.0

    def rest(self, stopping: threading.Event) -> None:
        """Let input gather, if that pays."""
        self._since = self._clock()
        if self._dense:
            stopping.wait(self.seconds)

    def note(self, arrived: bool) -> None:
        """Note whether input has `arrived`, of which more can be left to gather."""
        self._dense = arrived and self._clock() - self._since < 2 * self.seconds
