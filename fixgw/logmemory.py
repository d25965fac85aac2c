"""The latest lines of the log, kept in memory for people who ask: `fixgw log`, the bug report, a web page.

    memory.lines("gps", after=41)

Bounded by lines and by characters. If one connection logs much, its own lines make room first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import NamedTuple

__all__ = ["Line", "LogMemory", "memory", "message_of"]

MAX_LINES = 1000
MAX_CHARS = 2000  # of one line, with the traceback
PLUGINS = "fixgw.plugins."
CUT = "…"


class Line(NamedTuple):
    """One line: its number, from 1 up; when, in seconds since 1970, UTC; the level's name, and the connection or, for
    the gateway itself, an empty text."""

    number: int
    time: float
    level: str
    connection: str
    text: str


def message_of(record: logging.LogRecord) -> str:
    """Its message; if its arguments do not fit, or cannot be written as text, which line of code logged it."""
    try:
        return record.getMessage()
    except Exception as error:  # whatever an argument's `__str__` raises
        return f"{record.pathname}:{record.lineno} logs what cannot be formatted: {type(error).__name__}"


class LogMemory(logging.Handler):
    """Keeps the latest lines. Any thread may log and ask."""

    def __init__(self) -> None:
        super().__init__()
        self._rings: dict[str, deque[Line]] = {}  # by connection
        self._number = 0
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        text = message_of(record)
        if record.exc_info:
            text += "\n" + _formatter.formatException(record.exc_info)
        if len(text) > MAX_CHARS:
            text = text[: MAX_CHARS // 2] + CUT + text[-MAX_CHARS // 2 :]
        connection = record.name.removeprefix(PLUGINS) if record.name.startswith(PLUGINS) else ""
        with self._guard:
            self._number += 1
            line = Line(self._number, record.created, record.levelname, connection, text)
            self._rings.setdefault(connection, deque()).append(line)
            if self._number > MAX_LINES:
                largest = max(self._rings, key=lambda name: len(self._rings[name]))
                self._rings[largest].popleft()

    @property
    def last(self) -> int:
        """The number of the latest line; 0 if there is none."""
        return self._number

    def lines(self, connection: str | None = None, after: int = 0) -> list[Line]:
        """The lines with a number greater than `after`, of one connection (None: of all), in their order."""
        with self._guard:
            rings = self._rings.values() if connection is None else [self._rings.get(connection, deque[Line]())]
            found = [line for ring in rings for line in ring if line.number > after]
        return sorted(found)


_formatter = logging.Formatter()

#: That of this process. It is filled when the process runs as a service, `fixgw run` or a demo.
memory = LogMemory()
