"""The screen itself, with the library textual: it draws the pages of `fixgw.cli.tui.pages`, and passes keys to them.

All texts reach the terminal as they are, cleaned of what a terminal would obey; nothing is taken for markup.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import termios
import threading
from contextlib import suppress
from functools import cache
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from fixgw.cli import text
from fixgw.cli.feed import Feed, alert_words
from fixgw.cli.terminal import EXIT_TERMINATED, REVERSE, Line
from fixgw.cli.tui.model import Model
from fixgw.cli.tui.pages import Alerts, Data, Health, Log, Page, Panel
from fixgw.clock import now

DRAW_S = 0.2
END_S = 2.0  # a terminal that takes nothing holds up the end for no longer
#: What a terminal sends for the keys that textual names.
SENT = {
    "up": "\x1b[A", "down": "\x1b[B", "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "home": "\x1b[H", "end": "\x1b[F",
    "left": "\x1b[D", "right": "\x1b[C", "enter": "\r", "escape": "\x1b", "backspace": "\x7f", "tab": "\t",
    "shift+tab": "\x1b[Z",
}  # fmt: skip
#: How a colour of `fixgw.cli.text` looks by day, and at night.
DAY = {
    text.BOLD: Style(bold=True), text.DIM: Style(dim=True), text.RED: Style(color="red", bold=True),
    text.GREEN: Style(color="green"), text.YELLOW: Style(color="yellow"), REVERSE: Style(reverse=True),
}  # fmt: skip
NIGHT_COLOUR = "#ff5050"  # 6.4:1 on black
NIGHT = {
    text.BOLD: Style(bold=True), text.RED: Style(bold=True, underline=True), text.YELLOW: Style(bold=True),
    REVERSE: Style(reverse=True),
}  # fmt: skip
LIFE = "|/-\\"
COVER = ("No data from the gateway.", "Nothing on this screen is current.")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def show(feed: Feed, asked_for: bool) -> int:
    """Show the gateway until somebody quits. `feed` is connected; `asked_for`: with keys of a person's choice."""
    feed.start()
    screen = Screen(feed, asked_for)
    stdin = sys.stdin.fileno()
    usual = termios.tcgetattr(stdin)

    def give_up() -> None:
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(stdin, termios.TCSANOW, usual)
        os._exit(EXIT_TERMINATED)

    def terminate(*_: object) -> None:
        """End in order, if the terminal takes what that writes."""
        timer = threading.Timer(END_S, give_up)
        timer.daemon = True
        timer.start()
        screen.call_later(screen.exit, EXIT_TERMINATED)

    before = {number: signal.signal(number, terminate) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        code = screen.run()
        return screen.return_code or 0 if code is None else code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Canvas(Widget):
    """Lines that somebody else has laid out."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.lines: list[Line] = []
        self.night = False

    def show(self, lines: list[Line], night: bool) -> None:
        """Draw `lines`; only those that have changed go to the terminal."""
        before, self.lines = self.lines, lines
        if night != self.night:
            self.night = night
            self.refresh()
            return
        count = max(len(before), len(lines))
        changed = [n for n in range(count) if before[n : n + 1] != lines[n : n + 1]]
        if changed:
            self.refresh(*[Region(0, n, self.size.width, 1) for n in changed])

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        line = self.lines[y] if y < len(self.lines) else []
        strip = Strip([Segment(text.printable(words), style(colour, self.night)) for words, colour in line])
        return strip.adjust_cell_length(width, style("", self.night))


@cache
def style(colours: str, night: bool) -> Style:
    """The style of colours of `fixgw.cli.text`, one after the other."""
    known = NIGHT if night else DAY
    found = Style(color=NIGHT_COLOUR, bgcolor="#000000") if night else Style()
    for colour in _COLOUR.findall(colours):
        found += known.get(colour, Style())
    return found


class Screen(App[int]):
    """The head, a page, and the foot."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; background: ansi_default; }
    #head { height: 2; }
    #page { height: 1fr; }
    #foot { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+d", "leave", show=False, priority=True),
    ]

    def __init__(self, feed: Feed, asked_for: bool = False, model: Model | None = None) -> None:
        super().__init__(ansi_color=True)
        self.feed = feed
        self.model = model or Model(feed)
        self.pages: list[Page] = [
            Data(feed, self.model, asked_for), Health(self.model), Alerts(feed, self.model), Log(self.model), Panel()
        ]  # fmt: skip
        self.at = 0
        self.night = False
        self.canvases = Canvas("head"), Canvas("page"), Canvas("foot")

    @property
    def current(self) -> Page:
        return self.pages[self.at]

    def compose(self) -> ComposeResult:
        yield from self.canvases

    def on_mount(self) -> None:
        self.model.page = self.current.name
        self.model.start()
        self.set_interval(DRAW_S, self.redraw)
        self.call_after_refresh(self.redraw)

    def on_unmount(self) -> None:
        self.model.stop()
        for page in self.pages:
            if isinstance(page, Panel):
                page.close()

    # -- drawing -------------------------------------------------------------------------------------------------------

    def redraw(self) -> None:
        """Draw what has changed."""
        head, page, foot = self.canvases
        width, height = page.size
        self.model.tick()
        trouble = self.feed.trouble(now())
        head.show(self._head(width, trouble), self.night)
        if not width or not height:
            return
        if trouble:
            lines = [[("", "")] for _ in range(max(0, height // 2 - 2))]
            lines += [[(words.center(width), text.RED)] for words in (*COVER, "", text.printable(trouble))]
        else:
            lines = self.current.draw(width, height)
        page.show(lines[:height], self.night)
        words = "q quits" if trouble else self.model.said or self.current.footer()
        foot.show([[(words, text.BOLD if self.model.said else text.DIM)]], self.night)

    def _head(self, width: int, trouble: str) -> list[Line]:
        life = LIFE[self.feed.answers % len(LIFE)]
        first: Line = [(f"FIX Gateway {self.feed.address} ", text.BOLD)]
        if trouble:
            first.append(("NOTHING IS CURRENT", text.RED + REVERSE))
        else:
            first += [segment for word in self.feed.unreal for segment in ((word, text.YELLOW + REVERSE), (" ", ""))]
            first.append(self.model.verdict)
        second: Line = []
        for n, page in enumerate(self.pages, 1):
            second += [(f" {n} {page.title} ", REVERSE if page is self.current else ""), (" ", "")]
        if not trouble:
            second.append(alert_words(*self.feed.others.values()))
        return [[*clipped(first, width - 2), (f" {life}", text.DIM if trouble else text.GREEN)], second]

    # -- keys and mouse ------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        event.stop()
        key = SENT.get(event.key, event.character or "")
        page = self.current
        if event.key in ("f1", "f2", "f3", "f4", "f5"):
            self.turn_to(int(event.key[1]) - 1)
        elif page.typing:
            page.press(key)
        elif page.greedy and key == "\x1b":
            self.turn_to(0)
        elif page.greedy and not self.feed.trouble(now()) and page.press(key):
            pass
        elif key in ("q", "Q"):
            self.exit(0)
        elif key == "n":
            self.night = not self.night
        elif key in ("1", "2", "3", "4", "5"):
            self.turn_to(int(key) - 1)
        elif key in ("\x1b[C", "\x1b[D"):
            self.turn_to((self.at + (1 if key == "\x1b[C" else -1)) % len(self.pages))
        elif key:
            page.press(key)
        self.redraw()

    def turn_to(self, number: int) -> None:
        self.at = number
        self.model.page = self.current.name
        self.model.wake()

    def action_leave(self) -> None:
        self.exit(0)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self.canvases[1]:
            self.current.click(event.y)
        elif event.widget is self.canvases[0] and event.y == 1:
            left = 0
            for n, page in enumerate(self.pages):
                left += len(page.title) + 5
                if event.x < left:
                    self.turn_to(n)
                    break
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        self._scroll("\x1b[B")

    def on_mouse_scroll_up(self) -> None:
        self._scroll("\x1b[A")

    def _scroll(self, key: str) -> None:
        if not self.current.greedy:
            for _ in range(3):
                self.current.press(key)
            self.redraw()


def clipped(line: Line, width: int) -> Line:
    """`line` in exactly `width` characters."""
    found: Line = []
    for words, colour in line:
        words = text.printable(words)[: max(0, width)]
        width -= len(words)
        found.append((words, colour))
    return [*found, (" " * max(0, width), "")]
