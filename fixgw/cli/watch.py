"""The command watch: values as they change, in place on a terminal, as lines into a pipe."""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, seconds, text
from fixgw.cli.client import asked, connect, expand, is_pattern, new_client
from fixgw.database import OLD, Value
from fixgw.errors import Refused

if TYPE_CHECKING:
    from fixgw.netfix import Sample

RATE_WINDOW = 5.0  # seconds over which updates are counted
REDRAW = 0.2  # seconds
MOST_EXPLAINED = 100  # keys whose age is asked for on connecting: it is one question each
EXIT_TERMINATED = 143


class Row:
    """What is known of one key, or aux value. `updated` and the stamps are monotonic seconds."""

    def __init__(self, key: str, units: str = "", description: str = "") -> None:
        self.key = key
        self.units = units
        self.description = description
        self.value: Value | None = None
        self.flags = 0
        self.updated: float | None = None
        self._stamps: deque[float] = deque(maxlen=64)

    def show(self, value: Value | None, flags: int, updated: float | None) -> None:
        """The state found on connecting; not an update."""
        self.value, self.flags, self.updated = value, flags, updated

    def update(self, value: Value | None, flags: int, now: float) -> None:
        if not flags & OLD:  # becoming old, or a flag while old, is no sign of life
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

    @property
    def silent(self) -> bool:
        """Nothing has been heard of it, and what there is is old."""
        return self.updated is None and bool(self.flags & OLD)

    @property
    def flag_words(self) -> str:
        return "" if "." in self.key else text.flag_words(self.flags)

    @property
    def line(self) -> str:
        """For a pipe: key, exact value, units, flags."""
        value = self.value if isinstance(self.value, str) else repr(self.value)
        return "\t".join((self.key, value, self.units, self.flag_words))


class Table:
    """The keys that are watched, drawn as lines; with `live_only` without those of which nothing is heard.

    Not safe from several threads.
    """

    def __init__(self, rows: Iterable[Row], live_only: bool = False) -> None:
        self.rows = list(rows)
        self.live_only = live_only
        self.top = 0  # first row shown
        self._value_width = 8

    def visible(self) -> list[Row]:
        return [row for row in self.rows if not (self.live_only and row.silent)]

    def draw(self, now: float, width: int, height: int, title: str, colour: bool, away: bool = False) -> list[str]:
        """At most `height` lines of at most `width` visible characters. With `away` no value is vouched for."""
        rows, room = self.visible(), max(1, height - 3)
        self.top = max(0, min(self.top, len(rows) - room))
        shown = rows[self.top : self.top + room]
        values = ["-" if row.value is None else text.short_text(row.value) for row in shown]
        flags = ["unknown" if away else row.flag_words for row in shown]
        # Columns that never shrink do not dance.
        self._value_width = min(24, max([self._value_width, *map(len, values)]))
        key_width = max([3, *(len(row.key) for row in rows)])
        units_width = max([5, *(len(row.units) for row in rows)])
        flags_width = max([7, *map(len, flags)])
        start = key_width + self._value_width + units_width + 5  # where the flags are

        def line(key: str, value: str, units: str, flags: str, age: str, rate: str, description: str) -> str:
            whole = (
                f"{key:<{key_width}}  {value:>{self._value_width}} {units:<{units_width}}  {flags:<{flags_width}}"
                f"  {age:>7}  {rate:>8}  {description}"
            )
            return whole[:width].rstrip()

        header = line("KEY", "VALUE", "UNITS", "FLAGS", "AGE", "RATE", "DESCRIPTION")
        lines = [_painted(title[:width], text.RED if away else text.BOLD, colour), _painted(header, text.DIM, colour)]
        for row, value, words in zip(shown, values, flags, strict=True):
            age, rate = row.age(now), row.rate(now)
            if len(value) > self._value_width:
                value = value[: self._value_width - 1] + "…"
            plain = line(
                row.key,
                value,
                row.units,
                words,
                "-" if age is None else text.duration(age),
                f"{rate:.1f} Hz" if rate >= 0.05 else "-",
                row.description,
            )
            end = start + len(words)
            if away:
                lines.append(_painted(plain, text.DIM, colour))
            else:
                words = _painted(plain[start:end], text.flag_colour(row.flags), colour)
                lines.append(plain[:start] + words + plain[end:])
        hidden = len(rows) > len(shown)
        footer = f"{self.top + 1} to {self.top + len(shown)} of {len(rows)}, arrows scroll, " if hidden else ""
        lines.append(_painted(f"{footer}q ends"[:width], text.DIM, colour))
        return lines[:height]


def _painted(words: str, colour: str, wanted: bool) -> str:
    return f"{colour}{words}{text.RESET}" if wanted and words else words


# -- the command -------------------------------------------------------------------------------------------------------


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "watch",
        run,
        "On a terminal the values change in place: green is good, yellow old or to be noticed, red not to be used.\n"
        "Into a pipe each update is a line: key, value, units, flags, separated by tabs. Ends with q or Ctrl-C; goes\n"
        "on when the gateway is started again. Without KEY: every key of which anything is heard.",
        "  fixgw watch IAS ALT VS HEAD\n  fixgw watch 'EGT*' 'CHT*'\n  fixgw watch ALT --duration 60 | tee climb.txt",
    )
    parser.add_argument("keys", metavar="KEY", nargs="*", help="a key, an aux value (IAS.Vne), or a pattern ('EGT*')")
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many updates (in a pipe: lines)")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="end after so long")
    if connection:
        add_client_options(parser)


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of updates")
    return int(word)


def run(args: argparse.Namespace) -> int:
    watcher = Watcher(args)
    try:
        watcher.connect()
        if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            watcher.on_terminal()
        else:
            watcher.into_pipe()
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        watcher.close()
    return EXIT_DONE


class Watcher:
    """Keeps the rows up to date. `_heard`, `_connected` and `_lost` are called on the client's receiving thread."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._words: list[str] = args.keys
        self._left: int | None = args.count
        self._until = None if args.duration is None else time.monotonic() + args.duration
        self._client = new_client(args, reconnect=True, on_connect=self._connected_again, on_disconnect=self._lost)
        self._rows: dict[str, Row] = {}
        self._early: set[str] | None = set()  # keys heard of before all have been shown once
        self._lock = threading.Lock()  # rows, `_early` and `_away`
        self._done = threading.Event()
        self._away = False
        self._printing = False
        self._broken: OSError | None = None

    def connect(self) -> None:
        """Connect, and learn about the keys. Raises `NotConnected`, `UnknownKey`."""
        client = self._client
        connect(client)
        keys = expand(client, self._words or ["*"])
        for word in self._words:
            if not is_pattern(word):
                asked(client, word, client.read)
        bases = dict.fromkeys(_base(key) for key in keys)
        about = {report.key: report for report in client.report_many(bases)}
        self._rows = {key: Row(key, about[_base(key)].units, about[_base(key)].description) for key in keys}

    def close(self) -> None:
        self._done.set()
        self._client.disconnect()

    # -- what the gateway says -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Take in what there is, then what comes."""
        for base in dict.fromkeys(_base(key) for key in self._rows):
            self._client.subscribe(base, self._heard)
        self._connected()

    def _connected_again(self) -> None:
        if self._early is None:  # the first time it is `_start` that asks
            self._connected()

    def _connected(self) -> None:
        """Nobody tells what has not changed, or did so meanwhile: ask."""
        rows = list(self._rows.values())
        try:
            samples: list[Sample | None] = [*self._client.read_many([row.key for row in rows])]
        except Refused:  # a gateway with other keys than before
            samples = [self._read(row.key) for row in rows]
        explain = len(rows) <= MOST_EXPLAINED
        ages = [self._age(row.key) if explain and sample else None for row, sample in zip(rows, samples, strict=True)]
        now = time.monotonic()
        with self._lock:
            self._away = False
            early, self._early = self._early or (), None
            for row, sample, age in zip(rows, samples, ages, strict=True):
                if row.key not in early:  # what was heard is newer than what was read
                    updated = None if age is None else now - age
                    row.show(sample.value if sample else None, sample.flags if sample else OLD, updated)
                if sample and (self._words or not row.silent):
                    self._say(row)

    def _read(self, key: str) -> Sample | None:
        try:
            return self._client.read(key)
        except Refused:
            return None

    def _age(self, key: str) -> float | None:
        if "." in key:
            return None
        try:
            age = self._client.explain(key).get("age")
        except Refused:  # a gateway that does not explain
            return None
        return age if isinstance(age, int | float) else None

    def _lost(self) -> None:
        with self._lock:
            news, self._away = not self._away, True
        if news and self._printing and not self._done.is_set():
            print("fixgw: gateway away, trying again", file=sys.stderr)

    def _heard(self, sample: Sample) -> None:
        row = self._rows.get(sample.key)
        if row is None or self._done.is_set():
            return
        with self._lock:
            self._away = False
            row.update(sample.value, sample.flags, time.monotonic())
            if self._early is not None:
                self._early.add(row.key)
                return
            self._say(row)
            if self._left is not None and not self._printing:
                self._one_less()

    def _say(self, row: Row) -> None:
        """Print a line, if that is what we do. A reader that is slow holds up the gateway's sending, not its work."""
        if self._printing and not self._done.is_set():
            try:
                _out(row.line + "\n")
            except OSError as error:
                self._broken = error
                self._done.set()
            if self._left is not None:
                self._one_less()

    def _one_less(self) -> None:
        assert self._left is not None
        self._left -= 1
        if self._left <= 0:
            self._done.set()

    # -- showing it ----------------------------------------------------------------------------------------------------

    def into_pipe(self) -> None:
        """Print a line for each update. Raises OSError when nobody reads them any more."""
        self._printing = True
        self._start()
        # In slices: a wait without end could not be interrupted everywhere.
        while not self._done.wait(self._time_left(1.0)) and not self._over():
            pass
        if self._broken is not None:
            raise self._broken

    def on_terminal(self) -> None:
        """Show the values in place, until somebody presses q."""
        table = Table(self._rows.values(), live_only=not self._words)
        colour = not os.environ.get("NO_COLOR")
        address = f"{self._client.host}:{self._client.port}"
        with Terminal() as terminal:
            self._start()
            while not self._done.is_set() and not self._over():
                width, height = size()
                with self._lock:
                    away = self._away
                    title = f"gateway away, trying again ({address})" if away else f"FIX Gateway at {address}"
                    lines = table.draw(time.monotonic(), width, height, title, colour, away)
                terminal.show(lines)
                for key in terminal.keys(self._time_left(REDRAW)):
                    if key in ("q", "Q", "\x04"):
                        return
                    table.top += SCROLLS.get(key, 0)

    def _time_left(self, at_most: float) -> float:
        return at_most if self._until is None else max(0.0, min(at_most, self._until - time.monotonic()))

    def _over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until


def size() -> tuple[int, int]:
    """Columns and lines of the terminal, as it says; where it knows none, as a serial line, of the environment."""
    columns, lines = os.get_terminal_size(sys.stdout.fileno())  # first, as $COLUMNS does not follow a change
    return (columns, lines) if columns and lines else shutil.get_terminal_size()


def _base(key: str) -> str:
    return key.partition(".")[0]


def _out(words: str) -> None:
    """Write all of it to stdout, unbuffered: a thread that hangs in here holds no lock that the exit would need."""
    data = memoryview(words.encode(sys.stdout.encoding or "utf-8", "replace"))
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


# -- the terminal ------------------------------------------------------------------------------------------------------

SCROLLS = {"\x1b[A": -1, "k": -1, "\x1b[B": 1, "j": 1, "\x1b[5~": -20, "\x1b[6~": 20, " ": 20}
_KEYS = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_ENTER = "\x1b[?1049h\x1b[?25l"  # a screen of its own, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Terminal:
    """The terminal as a page that is drawn again and again; as it was before when the block is left, killed or not."""

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
        _out(_ENTER)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)
        if self._stdin is not None:
            import termios

            termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._saved)
        _out(_LEAVE)

    def show(self, lines: list[str], anew: bool = False) -> None:
        """Draw them if they are others than before, or `anew`, since something else may have been drawn over them."""
        page = "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines[:-1]) + f"{lines[-1]}\x1b[K\x1b[J"
        if anew or page != self._last:
            self._last = page
            _out(page)

    def keys(self, timeout: float, *others: int) -> list[str]:
        """The keys pressed, after at most `timeout` seconds; none when one of `others` has something to read."""
        files = [*others] if self._stdin is None else [self._stdin, *others]
        ready, _, _ = select.select(files, [], [], timeout)
        if self._stdin is None or self._stdin not in ready:
            return []
        data = os.read(self._stdin, 256)
        return _KEYS.findall(data.decode("utf-8", "replace")) if data else ["q"]
