"""The command watch: values as they change, in place on a terminal, as lines into a pipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fixgw.cli import text
from fixgw.database import Value

RATE_WINDOW = 5.0  # seconds over which updates are counted


class Row:
    """What is known of one key. `updated` and the stamps are monotonic seconds."""

    def __init__(self, key: str, units: str = "", description: str = "") -> None:
        self.key = key
        self.units = units
        self.description = description
        self.value: Value | None = None
        self.flags = 0
        self.updated: float | None = None
        self._stamps: deque[float] = deque(maxlen=64)

    def show(self, value: Value, flags: int, updated: float | None) -> None:
        """The state found on connecting; not an update."""
        self.value, self.flags, self.updated = value, flags, updated

    def update(self, value: Value, flags: int, now: float) -> None:
        if not flags & text.OLD:  # becoming old, or a flag while old, is no sign of life
            self.updated = now
            self._stamps.append(now)
        self.value, self.flags = value, flags

    def rate(self, now: float) -> float:
        """Updates a second, lately."""
        while self._stamps and self._stamps[0] < now - RATE_WINDOW:
            self._stamps.popleft()
        n = len(self._stamps)
        return (n - 1) / (now - self._stamps[0]) if n > 1 and now > self._stamps[0] else 0.0

    def age(self, now: float) -> float | None:
        return None if self.updated is None else max(0.0, now - self.updated)


class Table:
    """The keys that are watched, drawn as lines. Not safe from several threads."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)
        self.top = 0  # first row shown
        self._value_width = 8

    def scroll(self, rows: int, height: int) -> None:
        """Move by so many rows, as far as there are any for a screen of `height` lines."""
        self.top = max(0, min(self.top + rows, len(self.rows) - self._room(height)))

    def _room(self, height: int) -> int:
        return max(1, height - 3)  # title, header, footer

    def draw(self, now: float, width: int, height: int, title: str, colour: bool) -> list[str]:
        """At most `height` lines of at most `width` visible characters."""
        room = self._room(height)
        self.top = max(0, min(self.top, len(self.rows) - room))
        shown = self.rows[self.top : self.top + room]
        values = ["-" if row.value is None else text.value_text(row.value) for row in shown]
        # Columns that never shrink do not dance.
        self._value_width = min(24, max([self._value_width, *map(len, values)]))
        key_width = max([3, *(len(row.key) for row in self.rows)])
        units_width = max([5, *(len(row.units) for row in self.rows)])
        flags_width = max([5, *(len(text.flag_words(row.flags)) for row in shown)])

        def line(key: str, value: str, units: str, flags: str, age: str, rate: str, description: str) -> str:
            return (
                f"{key:<{key_width}}  {value:>{self._value_width}} {units:<{units_width}}  {flags:<{flags_width}}"
                f"  {age:>7}  {rate:>8}  {description}"
            )

        lines = [_painted(title[:width], text.BOLD, colour)]
        header = line("KEY", "VALUE", "UNITS", "FLAGS", "AGE", "RATE", "DESCRIPTION")
        lines.append(_painted(header[:width].rstrip(), text.DIM, colour))
        start = key_width + self._value_width + units_width + 5  # where the flags are
        for row, value in zip(shown, values, strict=True):
            age, rate = row.age(now), row.rate(now)
            flags = text.flag_words(row.flags)
            plain = line(
                row.key,
                value if len(value) <= self._value_width else value[: self._value_width - 1] + "…",
                row.units,
                flags,
                "-" if age is None else text.duration(age),
                f"{rate:.1f} Hz" if rate >= 0.05 else "-",
                row.description,
            )[:width].rstrip()
            end = start + len(flags)
            painted = plain[:start] + _painted(plain[start:end], text.flag_colour(row.flags), colour) + plain[end:]
            lines.append(painted)
        hidden = len(self.rows) - len(shown)
        footer = f"{self.top + 1} to {self.top + len(shown)} of {len(self.rows)}, arrows scroll, " if hidden else ""
        lines.append(_painted(f"{footer}q ends"[:width], text.DIM, colour))
        return lines[:height]


def _painted(words: str, colour: str, wanted: bool) -> str:
    return f"{colour}{words}{text.RESET}" if wanted and words else words
