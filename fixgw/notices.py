"""What plugins have to tell the crew: a board of notices in each gateway, which the alert logic presents.

    self.notices.put(self.name, "miscompare IAS", "caution", "IAS MISCOMPARE adc1 101 adc2 88")
    self.notices.clear(self.name, "miscompare IAS")

A notice lasts until its owner clears it or the owner's connection stops or fails. The board is bounded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from fixgw.clock import now as clock_now
from fixgw.kit.complaints import Complaints

__all__ = ["LEVELS", "Level", "Notice", "Notices"]

log = logging.getLogger(__name__)

MAX_OWNERS = 64
MAX_NOTICES = 32  # of one owner
MAX_TEXT_LENGTH = 200  # characters, of a text and of a name

#: Advisory: to be aware of. Caution: to be aware of at once. Warning: to respond to at once.
Level = Literal["advisory", "caution", "warning"]
LEVELS: tuple[Level, ...] = get_args(Level)


class Notice(NamedTuple):
    """One notice. `since` is when it was first put, in seconds of the gateway's clock."""

    owner: str
    name: str
    level: Level
    text: str
    since: float


class Notices:
    """The notices of one gateway. Any thread may call it. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = clock_now) -> None:
        #: Notices that were refused because the board was full.
        self.refused = 0
        self._clock = clock
        self._complain = Complaints(log, clock)
        self._lock = threading.Lock()
        self._board: dict[str, dict[str, Notice]] = {}  # by owner and name
        self._subscribers: tuple[Callable[[], object], ...] = ()

    def put(self, owner: str, name: str, level: Level, text: str) -> bool:
        """Put up a notice, or replace the owner's notice of the same name. Returns False if the board is full.

        `owner` is the connection's name. A full owner's least severe notice makes room for a more severe one. Control
        characters become spaces. Raises ValueError for an unknown level.
        """
        if level not in LEVELS:
            raise ValueError(f"{level!r} is not one of {', '.join(LEVELS)}")
        name, text = _line(name), _line(text)
        with self._lock:
            owned = self._board.get(owner, {})
            before = owned.get(name)
            notice = Notice(owner, name, level, text, before.since if before else self._clock())
            if notice == before:
                return True
            if before is None and not self._has_room(owner, owned, level):
                self.refused += 1
                refused = True
            else:
                self._board.setdefault(owner, owned)[name] = notice
                refused = False
        if refused:
            self._complain("%s has too many notices: %s is left out", owner, name, about=owner)
            return False
        self._tell()
        return True

    def clear(self, owner: str, name: str | None = None) -> None:
        """Take down the owner's notice `name`, or all of the owner's. Does nothing if there is none."""
        with self._lock:
            owned = self._board.get(owner)
            if not owned:
                return
            if name is None:
                owned.clear()
            elif owned.pop(_line(name), None) is None:
                return
            if not owned:
                del self._board[owner]
        self._tell()

    def all(self) -> tuple[Notice, ...]:
        """All notices: each owner's together, in the order in which they were put up."""
        with self._lock:
            return tuple(notice for owned in self._board.values() for notice in owned.values())

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` after every change, on the thread that makes it; it must return at once.

        Returns a function that ends the subscription.
        """
        with self._lock:
            self._subscribers += (callback,)

        def close() -> None:
            with self._lock:
                self._subscribers = tuple(c for c in self._subscribers if c is not callback)

        return close

    def _has_room(self, owner: str, owned: dict[str, Notice], level: Level) -> bool:
        """Make room for a notice of `level`, and return whether there is any. The caller holds the lock."""
        if owner not in self._board:
            return len(self._board) < MAX_OWNERS
        if len(owned) < MAX_NOTICES:
            return True
        least = min(owned.values(), key=lambda notice: LEVELS.index(notice.level))
        if LEVELS.index(least.level) >= LEVELS.index(level):
            return False
        del owned[least.name]
        return True

    def _tell(self) -> None:
        for callback in self._subscribers:
            try:
                callback()
            except Exception as error:
                self._complain("%r failed", callback, about="callback", error=error)


def _line(text: str) -> str:
    """`text` on one line of limited length, without control characters."""
    kept = "".join(c if c.isprintable() else " " for c in str(text)[: MAX_TEXT_LENGTH + 1])
    return kept if len(kept) <= MAX_TEXT_LENGTH else f"{kept[: MAX_TEXT_LENGTH - 1]}…"
