"""The pages of the screen: each draws itself in coloured lines, and takes the keys of the keyboard. No library here.

Keys are given as a terminal sends them, as in `fixgw.cli.terminal`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from fixgw.cli import panel, text
from fixgw.cli.alerts import ABSENT, MODULE
from fixgw.cli.client import give
from fixgw.cli.feed import Feed
from fixgw.cli.terminal import ENDS, PAGES, REVERSE, SCROLLS, Line, Row, Search, Table
from fixgw.cli.tui.model import MINUTE_S, STEP_S, Model
from fixgw.clock import now
from fixgw.errors import FixgwError

DETAIL_FROM = 14  # rows of the page, from which on the explanation has a place below the values
WAITING = "waiting for the gateway to report its health"
LEVELS = {"ERROR": text.RED, "CRITICAL": text.RED, "WARNING": text.YELLOW}
ALERT_COLOURS = {"warning": text.RED, "caution": text.YELLOW, "advisory": text.BOLD}


class Page:
    """One page. `name` is its word in the model, `title` that on the screen."""

    name = ""
    title = ""

    #: Whether it takes all keys but those that leave it.
    greedy = False

    @property
    def typing(self) -> bool:
        """Whether a person is typing a text, so that it takes all keys."""
        return False

    def draw(self, width: int, height: int) -> list[Line]:
        """At most `height` lines; they are cut to `width`."""
        raise NotImplementedError

    def footer(self) -> str:
        return "q quits"

    def press(self, key: str) -> bool:
        """React to a key. Returns False if it means nothing here."""
        return False

    def click(self, line: int) -> None:
        """React to a click on a line of the page."""


class Scrolled(Page):
    """A page of text longer than the screen."""

    def __init__(self) -> None:
        self.top = 0
        self._room = 1

    def part(self, lines: list[Line], room: int) -> list[Line]:
        """The lines that are on the screen."""
        self._room = room
        self.top = max(0, min(self.top, len(lines) - room))
        return lines[self.top : self.top + room]

    def press(self, key: str) -> bool:
        if key in ENDS:
            self.top = ENDS[key]
        elif key in SCROLLS or key in PAGES:
            self.top += SCROLLS.get(key, 0) + PAGES.get(key, 0) * self._room
        else:
            return False
        return True


class Data(Page):
    """The values, and the explanation of the chosen one."""

    name, title = "data", "Data"

    def __init__(self, feed: Feed, model: Model, asked_for: bool) -> None:
        self._feed = feed
        self._model = model
        self._revision = -1
        self.table = Table((), news_first=not asked_for)
        self.table.trend = self._last_minute
        self._rows: list[Row] = []
        self._room = 1
        self._detail = Scrolled()

    def draw(self, width: int, height: int) -> list[Line]:
        table, model, at = self.table, self._model, now()
        with self._feed.lock:
            if self._revision != self._feed.revision:
                table.rows, self._revision = list(self._feed.rows.values()), self._feed.revision
            self._rows = table.visible(at)
            if self._rows and self._at() is None:
                table.chosen = self._rows[0].key
            below = 0 if height < DETAIL_FROM else min(12, height // 2)
            self._room = max(1, height - 1 - below)
            lines = table.page(self._rows, at, width, self._room)
        model.visible = tuple(row.key for row in self._rows[table.top : table.top + self._room])
        if model.chosen != table.chosen:
            model.chosen = table.chosen
            model.wake()
        if model.wide:
            return self._detail.part(self._explanation(width), height)
        lines += [[] for _ in range(1 + self._room - len(lines))]
        return [*lines, *self._explanation(width)[:below]][:height]

    def _explanation(self, width: int) -> list[Line]:
        """The trend and the explanation of the chosen row."""
        key, model = self.table.chosen, self._model
        row = self._feed.rows.get(key)
        if row is None:
            return []
        lines: list[Line] = [[(f"{key} ".ljust(width, "─"), text.DIM)]]
        values = list(model.trend(key).values)
        known = [value for value in values if value is not None]
        if known and (low := min(known)) < (high := max(known)):
            span = text.duration(len(values) * STEP_S)
            ends = f" {row.shown.text(low)} to {row.shown.with_units(high)} in the last {span}"
            lines.append([(text.sparkline(values, max(8, width - len(ends))), text.GREEN), (ends, "")])
        if why := model.cannot.get("explain"):
            explained = [f"{key}: {row.description}", why]
        else:
            explained = model.explanation(key.partition(".")[0])
        return [*lines, *wrapped(explained, width)]

    def _last_minute(self, key: str, width: int) -> str:
        steps = int(MINUTE_S / STEP_S)
        return text.sparkline(list(self._model.trend(key).values)[-steps:], width)

    def _at(self) -> int | None:
        """The place of the chosen row."""
        return next((n for n, row in enumerate(self._rows) if row.key == self.table.chosen), None)

    def footer(self) -> str:
        if self._model.wide:
            return "Esc back, arrows scroll, q quits"
        words = self.table.footer(len(self._rows))
        return words if self.table.search.typing else f"Enter explains, {words}"

    def press(self, key: str) -> bool:
        table, model = self.table, self._model
        if model.wide and not table.search.typing:
            if key not in ("\x1b", "\r"):
                return self._detail.press(key)
            model.wide = False
            return True
        moves = key in SCROLLS or key in PAGES or key in ENDS
        if moves and not table.search.typing:
            at = self._at() or 0
            self._choose(ENDS[key] if key in ENDS else at + table.step(key))
        elif key == "\r" and not table.search.typing:
            model.wide, self._detail.top = True, 0
            model.wake()
        else:
            return table.press(key)
        return True

    def _choose(self, at: int) -> None:
        """Choose the row at this place, and bring it onto the screen."""
        if self._rows:
            at = max(0, min(at, len(self._rows) - 1))
            self.table.chosen = self._rows[at].key
            self.table.top = max(at - self._room + 1, min(self.table.top, at))

    def click(self, line: int) -> None:
        if not self._model.wide and 1 <= line <= self._room and self.table.top + line - 1 < len(self._rows):
            self._choose(self.table.top + line - 1)

    @property
    def typing(self) -> bool:
        return self.table.search.typing


class Health(Scrolled):
    """The gateway, its connections, and what is wrong with them."""

    name, title = "health", "Health"

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def draw(self, width: int, height: int) -> list[Line]:
        if why := self._model.cannot.get("health") or (self._model.unknown and WAITING):
            return [[(why, text.YELLOW)]]
        first, *rest = self._model.health
        lines = wrapped([first], width, self._model.verdict[1])
        return self.part([*lines, *wrapped(rest, width)], height)

    def footer(self) -> str:
        return f"v {'the main things' if self._model.verbose else 'all details'}, arrows scroll, q quits"

    def press(self, key: str) -> bool:
        if key == "v":
            self._model.verbose = not self._model.verbose
            self._model.wake()
            return True
        return super().press(key)


class Alerts(Page):
    """What needs attention, to be acknowledged; and what happened lately."""

    name, title = "alerts", "Alerts"

    def __init__(self, feed: Feed, model: Model) -> None:
        self._feed = feed
        self._model = model
        self._chosen = ""  # the id of the highlighted one; empty if none is on the screen
        self._ids: list[str] = []  # those on the screen

    def draw(self, width: int, height: int) -> list[Line]:
        cannot = self._model.cannot
        if why := cannot.get("health") or (self._model.unknown and WAITING) or cannot.get("alerts"):
            self._chosen, self._ids = "", []
            return [[(why, text.YELLOW)]]
        alerts = self._model.alerts
        ids, room = list(alerts), max(1, height - 2)
        if self._chosen not in alerts:
            self._chosen = ids[0] if ids else ""
        top = max(0, ids.index(self._chosen) - room + 1) if ids else 0
        self._ids = ids[top : top + room]
        lines: list[Line] = []
        for words, (id, cells) in zip(text.table(alerts.values()), alerts.items(), strict=True):
            colour = ALERT_COLOURS.get(cells[0], "") + (REVERSE if id == self._chosen else "")
            lines.append([(words.ljust(width), colour)])
        lines = lines[top : top + room] or [[("no alerts", text.DIM)]]
        changes = [[(words, text.DIM)] for words in ("", "latest changes:", *self._model.changes)]
        return [*lines, *(changes if self._model.changes else [])][:height]

    def footer(self) -> str:
        return "a acknowledges, A all, m mutes, arrows choose, q quits"

    def press(self, key: str) -> bool:
        if key in SCROLLS:
            ids = list(self._model.alerts)
            if self._chosen in ids:
                self._chosen = ids[max(0, min(ids.index(self._chosen) + SCROLLS[key], len(ids) - 1))]
        elif key == "a" and self._chosen:
            self._give(f"ack {self._chosen}", "acknowledged")
        elif key == "A" and self._chosen:
            self._give("ack all", "all acknowledged")
        elif key == "m":
            self._give("mute", "no sounds for a minute")
        else:
            return False
        return True

    def _give(self, words: str, done: str) -> None:
        def command() -> str:
            why = give(self._feed.client, "alerts", words, MODULE, ABSENT)
            self._model.wake()
            return why or done

        self._model.do(command)

    def click(self, line: int) -> None:
        if line < len(self._ids):
            self._chosen = self._ids[line]


class Log(Scrolled):
    """The latest lines of the log. It follows, unless somebody has scrolled up."""

    name, title = "log", "Log"

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self.search = Search()
        self._follows = True
        self._found = 0

    def draw(self, width: int, height: int) -> list[Line]:
        if why := self._model.cannot.get("log"):
            return [[(why, text.YELLOW)]]
        lines: list[Line] = []
        for level, words in list(self._model.lines):
            if self.search.finds(words):
                lines += wrapped([words], width, LEVELS.get(level, ""))
        self._found = len(lines)
        if self._follows:
            self.top = len(lines)
        return self.part(lines, height)

    def footer(self) -> str:
        if self.search.typing:
            return self.search.footer(self._found)
        follows = "follows" if self._follows else "End follows again"
        return ", ".join(filter(None, [self.search.footer(self._found), follows, "/ search, arrows scroll, q quits"]))

    def press(self, key: str) -> bool:
        if self.search.press(key):
            return True
        if not super().press(key):
            return False
        self._follows = self.top + self._room >= self._found
        return True

    @property
    def typing(self) -> bool:
        return self.search.typing


class Panel(Page):
    """The virtual panel of a gateway on this computer."""

    name, title = "panel", "Panel"
    greedy = True

    def __init__(self) -> None:
        self._page: panel.Page | None = None
        self._link: panel.Link | None = None
        self._why = ""

    def open(self) -> None:
        """Connect to the panel, unless that has been done."""
        if self._link is None:
            try:
                path, self._link = panel.find()
                self._page, self._why = panel.Page(path, True, "Esc leaves"), ""
            except FixgwError as error:
                self._why = str(error)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def draw(self, width: int, height: int) -> list[Line]:
        self.open()
        if self._link is not None and self._page is not None:
            while self._link.open and self._link.waiting:
                self._page.take(self._link.receive())
            if not self._link.open:
                self._why = self._page.trouble or panel.LOST
                self.close()
        if self._link is None or self._page is None:
            return wrapped([self._why], width, text.YELLOW)
        return self._page.lay_out(width, height) if self._page.state else [[("waiting for the panel", text.DIM)]]

    def footer(self) -> str:
        return "F1 to F5 choose a page, Ctrl-C quits"

    def press(self, key: str) -> bool:
        if self._page is None or self._link is None:
            return False
        commands = self._page.commands(key)
        for command in commands:
            self._link.send(command)
        return True


def wrapped(lines: Iterable[str], width: int, colour: str = "") -> list[Line]:
    """`lines` in lines of at most `width` characters, with what follows indented."""
    found: list[Line] = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        parts = (
            [line]
            if len(line) <= width
            else textwrap.wrap(line, max(8, width), subsequent_indent=indent[: max(0, width - 8)], drop_whitespace=True)
        )
        found += [[(part, colour)] for part in parts or [""]]
    return found
