"""A full-screen terminal (`Terminal`), and the table of values that `fixgw watch` and others draw on it (`Table`)."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fixgw.cli import text
from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, Value
from fixgw.kit.sources import OVERRIDE

EXIT_TERMINATED = 143
RATE_WINDOW_S = 5.0  # the time over which update rates are measured

SCROLLS = {"\x1b[A": -1, "\x1bOA": -1, "k": -1, "\x1b[B": 1, "\x1bOB": 1, "j": 1}  # lines
PAGES = {"\x1b[5~": -1, "b": -1, "\x1b[6~": 1, " ": 1}
ENDS = {
    "\x1b[H": 0,
    "\x1bOH": 0,
    "\x1b[1~": 0,
    "g": 0,
    "\x1b[F": 1 << 30,
    "\x1bOF": 1 << 30,
    "\x1b[4~": 1 << 30,
    "G": 1 << 30,
}
ORDERS = ("", "key", "age", "flags")
WORST_FIRST = (FAIL, BAD, OLD, SECFAIL, ANNUNCIATE)
MAX_SEARCH = 40  # characters
TREND_WIDTH = 16
WIDE = 110  # columns, from which on there is room for trends

Segment = tuple[str, str]  # words and their colour
Line = list[Segment]
_KEYS = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
REVERSE = "\x1b[7m"
_ENTER = "\x1b[?1049h\x1b[?25l"  # alternate screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Row:
    """The latest state of one key or aux value. `updated` and the stamps are in seconds of `fixgw.clock.now`."""

    def __init__(self, key: str, units: str = "", description: str = "") -> None:
        self.key = key
        self.units = text.printable(units)
        self.description = text.printable(description)
        self.shown = text.Shown(self.units)
        self.value: Value | None = None
        self.flags = 0
        self.source = ""  # if it is known
        self.updated: float | None = None
        self._stamps: deque[float] = deque(maxlen=64)

    def show(self, value: Value | None, flags: int, updated: float | None) -> None:
        """Set the state read on connecting, which does not count as an update."""
        self.value, self.flags, self.updated = value, flags, updated

    def update(self, value: Value | None, flags: int, now: float) -> None:
        if not flags & OLD:  # a change while old is not an update of the value
            self.updated = now
            self._stamps.append(now)
        self.value, self.flags = value, flags

    def rate(self, now: float) -> float:
        """Updates per second, within the last `RATE_WINDOW_S`."""
        while self._stamps and self._stamps[0] < now - RATE_WINDOW_S:
            self._stamps.popleft()
        n = len(self._stamps)
        return (n - 1) / (now - self._stamps[0]) if n > 1 and now > self._stamps[0] else 0.0

    def age(self, now: float) -> float | None:
        return None if self.updated is None else max(0.0, now - self.updated)

    @property
    def silent(self) -> bool:
        """Whether it is old and has never been updated."""
        return self.updated is None and bool(self.flags & OLD)

    @property
    def flag_words(self) -> str:
        return "" if "." in self.key else text.flag_words(self.flags)

    @property
    def verdict(self) -> Segment:
        """The flags in words, and their colour. An overridden value says so."""
        words, colour = self.flag_words, text.flag_colour(self.flags)
        if not self.source.startswith(OVERRIDE):
            return words, colour
        return f"overridden, {words}".removesuffix(", good"), text.YELLOW if colour == text.GREEN else colour

    @property
    def line(self) -> str:
        """The line for a pipe: key, exact value, units, flags."""
        value = self.value if isinstance(self.value, str) else repr(self.value)
        return "\t".join(text.printable(cell) for cell in (self.key, value, self.units, self.flag_words))


class Search:
    """What a person searches: `words`. While `typing`, it takes all keys of the keyboard."""

    def __init__(self) -> None:
        self.words = ""
        self.typing = False

    def press(self, key: str) -> bool:
        """React to a key on the keyboard. Returns False if it means nothing here."""
        if not self.typing:
            if key == "/":
                self.typing = True
            elif key == "\x1b" and self.words:
                self.words = ""
            else:
                return False
        elif key in ("\r", "\n"):
            self.typing = False
        elif key == "\x1b":
            self.words, self.typing = "", False
        elif key in ("\x7f", "\b"):
            self.words = self.words[:-1]
        elif len(key) == 1 and key.isprintable():
            self.words = (self.words + key)[:MAX_SEARCH]
        return True

    def finds(self, *texts: str) -> bool:
        return not self.words or self.words.upper() in " ".join(texts).upper()

    def footer(self, count: int) -> str:
        """What it does at present, in words; empty if nothing. `count` lines are found."""
        if self.typing:
            return f"/{self.words}_  Enter keeps, Esc ends the search"
        return f"search {self.words!r}: {count} found, Esc ends it" if self.words else ""


class Table:
    """The watched keys as lines on a screen.

    With `news_first`, rows with updates come first, buttons behind them, because people look for values among hundreds
    of buttons, and rows that have never had a value are hidden.

    Not thread-safe.
    """

    def __init__(self, rows: Iterable[Row], news_first: bool = False) -> None:
        self.rows = list(rows)
        self.news_first = news_first
        #: Show only rows that have been updated, and are not old.
        self.live_only = False
        #: What rows must have in their key, units, description, flags or source.
        self.search = Search()
        #: Draws the last minute of a key in so many characters. Without it there are no trends.
        self.trend: Callable[[str, int], str] | None = None
        self.chosen = ""  # the key of the row to highlight
        self.order = ""  # one of `ORDERS`; empty: as given
        self.top = 0  # first row shown
        self._page = 1  # rows that fit on the last page drawn
        self._shown: list[Row] = []  # those on it
        self._key_width = 3
        self._value_width = 8
        self._fraction = 0  # the most characters from the point on
        self._units_width = 5

    def press(self, key: str) -> bool:
        """React to a key on the keyboard. Returns False if it means nothing here."""
        if self.search.press(key):
            self.top = 0
        elif key == "s":
            self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
            self.top = 0
        elif key == "l":
            self.live_only = not self.live_only
            self.top = 0
        elif key in ENDS:
            self.top = ENDS[key]
        elif key in SCROLLS or key in PAGES:
            self.top += self.step(key)
        else:
            return False
        return True

    def step(self, key: str) -> int:
        """How many rows a key scrolls."""
        return SCROLLS.get(key, 0) + PAGES.get(key, 0) * self._page

    def visible(self, now: float) -> list[Row]:
        rows = self.rows
        if self.news_first:
            rows = [row for row in rows if not row.silent]
            rows.sort(key=lambda row: (row.updated is None, text.BUTTON in row.key))
        if self.live_only:
            rows = [row for row in rows if row.updated is not None and not row.flags & OLD]
        if self.search.words:
            rows = [r for r in rows if self.search.finds(r.key, r.units, r.description, r.verdict[0], r.source)]
        if self.order == "key":
            rows = sorted(rows, key=lambda row: row.key)
        elif self.order == "age":
            rows = sorted(rows, key=lambda row: _rank_by_age(row.age(now)), reverse=True)
        elif self.order == "flags":
            rows = sorted(rows, key=lambda row: [not row.flags & flag for flag in WORST_FIRST])
        return rows

    def draw(self, now: float, width: int, height: int, title: str, colour: bool, away: bool = False) -> list[str]:
        """At most `height` lines of at most `width` visible characters. With `away`, flags are shown as unknown."""
        rows, room = self.visible(now), max(1, height - 3)
        header, *page = self.page(rows, now, width, room, away)
        lines = [[(title, text.RED if away else text.BOLD)], header, *page, [(self.footer(len(rows)), text.DIM)]]
        return [paint(line, width, colour) for line in lines[:height]]

    def page(self, rows: list[Row], now: float, width: int, room: int, away: bool = False) -> list[Line]:
        """The header, and at most `room` of the `rows`, those from `top` on."""
        self._page = room
        self.top = max(0, min(self.top, len(rows) - room))
        self._shown = shown = rows[self.top : self.top + room]
        values = ["-" if row.value is None else row.shown.text(row.value, text.short_text) for row in shown]
        units = [text.printable(row.shown.units) for row in shown]
        flags = [("unknown", text.DIM) if away else row.verdict for row in shown]
        # Never shrink a column, so that the page does not jump about.
        self._fraction = max([self._fraction, *map(text.fraction, values)])
        values = [value + " " * (self._fraction - text.fraction(value)) for value in values]
        self._value_width = min(24, max([self._value_width, *map(len, values)]))
        self._key_width = key_width = max([self._key_width, *(len(row.key) for row in shown)])
        self._units_width = units_width = max([self._units_width, *map(len, units)])
        flags_width = max([7, *(len(words) for words, _ in flags)])
        trend = self.trend if width >= WIDE else None

        def line(key: str, value: str, units: str, flags: Segment, age: str, rate: str, trend: str, rest: str) -> Line:
            start = f"{key:<{key_width}}  {value:>{self._value_width}} {units:<{units_width}}  "
            return [(start, ""), flags, (f"{'':{flags_width - len(flags[0])}}  {age:>7}  {rate:>8}  {trend}{rest}", "")]

        head = f"{'LAST MINUTE':<{TREND_WIDTH}}  " if trend else ""
        header = line("KEY", "VALUE", "UNITS", ("FLAGS", ""), "AGE", "RATE", head, "DESCRIPTION")
        lines = [[("".join(words for words, _ in header), text.DIM)]]
        for row, value, unit, verdict in zip(shown, values, units, flags, strict=True):
            age, rate = row.age(now), row.rate(now)
            if len(value) > self._value_width:
                value = value[: self._value_width - 1] + "…"
            cells = line(
                text.printable(row.key),
                value,
                unit,
                verdict,
                "-" if age is None else text.duration(age),
                f"{rate:.1f} Hz" if rate >= 0.05 else "-",
                f"{trend(row.key, TREND_WIDTH):<{TREND_WIDTH}}  " if trend else "",
                row.description,
            )
            if away:
                cells = [("".join(words for words, _ in cells), text.DIM)]
            elif row.key == self.chosen:
                cells = [(words, colour + REVERSE) for words, colour in cells]
            lines.append(cells)
        return lines

    def footer(self, count: int) -> str:
        """What is shown of `count` rows, and the keys of the keyboard."""
        if self.search.typing:
            return self.search.footer(count)
        shown = len(self._shown)
        parts = [f"{self.top + 1} to {self.top + shown} of {count}, arrows scroll"] if count > shown else []
        if self.search.words:
            parts.append(self.search.footer(count))
        if self.live_only:
            parts.append("live only")
        if self.order:
            parts.append(f"sorted by {self.order}")
        return ", ".join([*parts, "/ search", "s sort", f"l {'all' if self.live_only else 'live only'}", "q quits"])


def _rank_by_age(age: float | None) -> int:
    """Whole seconds, so that rows that are updated often do not change places; those never updated come last."""
    return -1 if age is None else int(age)


def paint(line: Line, width: int, colour: bool) -> str:
    """The line for a terminal, with at most `width` visible characters."""
    painted_line = ""
    for words, shade in line:
        words = words[:width]
        width -= len(words)
        painted_line += painted(words, shade, colour and bool(shade))
    return painted_line if line and line[-1][1] else painted_line.rstrip()


def painted(words: str, colour: str, wanted: bool) -> str:
    return f"{colour}{words}{text.RESET}" if wanted and words else words


def size() -> tuple[int, int]:
    """Columns and lines of the terminal; of the environment when the terminal does not know, as on a serial line."""
    columns, lines = os.get_terminal_size(sys.stdout.fileno())  # ask it first: $COLUMNS does not follow a resize
    return (columns, lines) if columns and lines else shutil.get_terminal_size()


def write_out(words: str) -> None:
    """Write to stdout, unbuffered: a thread that blocks here holds no lock that the exit needs."""
    data = memoryview(words.encode(sys.stdout.encoding or "utf-8", "replace"))
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


class Terminal:
    """A context manager for full-screen output. It restores the terminal on exit, even on SIGTERM."""

    def __enter__(self) -> Terminal:
        self._last = ""
        self._stdin: int | None = None
        self._saved: Any = None
        self._previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
        if sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            self._stdin = sys.stdin.fileno()
            self._saved = termios.tcgetattr(self._stdin)
            tty.setcbreak(self._stdin)
            attributes = termios.tcgetattr(self._stdin)
            attributes[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the shell without a cursor
            termios.tcsetattr(self._stdin, termios.TCSANOW, attributes)
        write_out(_ENTER)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)
        if self._stdin is not None:
            import termios

            termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._saved)
        write_out(_LEAVE)

    def show(self, lines: list[str], anew: bool = False) -> None:
        """Draw the lines if they have changed; with `anew`, draw them in any case."""
        page = "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines[:-1]) + f"{lines[-1]}\x1b[K\x1b[J"
        if anew or page != self._last:
            self._last = page
            write_out(page)

    def keys(self, timeout: float, *others: int) -> list[str]:
        """Wait up to `timeout` seconds for key presses, or for data on one of `others`; return the keys pressed."""
        files = [*others] if self._stdin is None else [self._stdin, *others]
        ready, _, _ = select.select(files, [], [], timeout)
        if self._stdin is None or self._stdin not in ready:
            return []
        data = os.read(self._stdin, 256)
        return _KEYS.findall(data.decode("utf-8", "replace")) if data else ["q"]
