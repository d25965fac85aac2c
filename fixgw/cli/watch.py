"""The command watch: values as they change, in place on a terminal or as lines in a pipe."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, add_units_option, seconds, text
from fixgw.cli.client import ask_about, connect, expand, is_pattern, new_client, presentation
from fixgw.cli.terminal import Row, Table, Terminal, painted, size, write_out
from fixgw.database import FAIL, OLD
from fixgw.errors import FixgwError, Refused

if TYPE_CHECKING:
    from fixgw.netfix import Sample

REDRAW_S = 0.2
#: The keys of the line at the foot.
ALERT_KEYS = ("ALERTLEVEL", "ALERTS", "ALERTMSG")
OVERRIDES_S = 5.0  # seconds between two looks at what is overridden
MAX_EXPLAINED = 100  # keys; beyond that, do not ask for each key's age on connecting: it takes a request per key
EXIT_TERMINATED = 143
ALERT_LEVELS = (("ADVISORY", text.BOLD), ("CAUTION", text.YELLOW), ("WARNING", text.RED))


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "watch",
        run,
        "On a terminal, values are updated in place: green is good, yellow needs attention, red must not be used. In\n"
        "a pipe, each update is a line: key, value, units and flags, separated by tabs. Press q or Ctrl-C to stop.\n"
        "The command reconnects when the gateway restarts. Without KEY it shows all keys that receive values.\n\n"
        "keys on the terminal:\n"
        "  arrows, PgUp, PgDn, Home, End   scroll\n"
        "  /    search keys, units and descriptions; Enter keeps what is found, Esc ends the search\n"
        "  s    sort: as given, by key, by age (the oldest first), by flags (the worst first)\n"
        "  l    live only: hide what is old or was never updated; again: show all\n"
        "  q    quit",
        "  fixgw watch IAS ALT VS HEAD\n  fixgw watch 'EGT*' 'CHT*'\n  fixgw watch ALT --duration 60 | tee climb.txt",
    )
    parser.add_argument("keys", metavar="KEY", nargs="*", help="a key, an aux value (IAS.Vne), or a pattern ('EGT*')")
    parser.add_argument("--count", type=_count, metavar="N", help="stop after N updates (in a pipe: lines)")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    add_units_option(parser, "; on the terminal only")
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
            watcher.run_on_terminal()
        else:
            watcher.run_in_pipe()
    except KeyboardInterrupt:
        pass  # the usual way to stop
    finally:
        watcher.close()
    return EXIT_DONE


class Watcher:
    """Keeps the rows up to date.

    The client calls `_on_update`, `_on_connect` and `_on_disconnect` on its receiving thread.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._words: list[str] = args.keys
        self._units: dict[str, str] = args.units
        self._left: int | None = args.count
        self._until = None if args.duration is None else time.monotonic() + args.duration
        self._client = new_client(args, reconnect=True, on_connect=self._on_connect, on_disconnect=self._on_disconnect)
        self._rows: dict[str, Row] = {}
        self._foot: dict[str, Row] = {}  # the keys of alerts, for the line at the foot of the terminal
        self._early: set[str] | None = set()  # keys updated before the first full read; None after it
        self._lock = threading.Lock()  # rows, `_early` and `_away`
        self._done = threading.Event()
        self._away = False
        self._overridden: tuple[str, ...] = ()
        self._printing = False
        self._broken: OSError | None = None

    def connect(self) -> None:
        """Connect and read the keys' definitions. Raises `NotConnected` or `UnknownKey`."""
        client = self._client
        connect(client)
        keys = expand(client, self._words or ["*"])
        for word in self._words:
            if not is_pattern(word):
                ask_about(client, word, client.read)
        bases = dict.fromkeys(_base(key) for key in keys)
        about = {report.key: report for report in client.report_many(bases)}
        self._rows = {key: Row(key, about[_base(key)].units, about[_base(key)].description) for key in keys}
        units = {key: about[_base(key)].units for key in keys}
        for key, shown in presentation(client, units, self._units).items():
            self._rows[key].shown = shown

    def close(self) -> None:
        self._done.set()
        self._client.disconnect()

    # -- updates from the gateway --------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Subscribe to the keys, then read them all once."""
        for base in dict.fromkeys(_base(key) for key in (*self._rows, *self._foot)):
            self._client.subscribe(base, self._on_update)
        self._read_all()

    def _on_connect(self) -> None:
        if self._early is None:  # on the first connection `_start` reads them
            self._read_all()

    def _read_all(self) -> None:
        """Read every key: the gateway does not send values that have not changed, or that changed in the meantime."""
        rows = [*self._rows.values(), *(row for key, row in self._foot.items() if key not in self._rows)]
        try:
            samples: list[Sample | None] = [*self._client.read_many([row.key for row in rows])]
        except Refused:  # the gateway came back with different keys
            samples = [self._read(row.key) for row in rows]
        explain = len(rows) <= MAX_EXPLAINED
        ages = [self._age(row.key) if explain and sample else None for row, sample in zip(rows, samples, strict=True)]
        now = time.monotonic()
        with self._lock:
            self._away = False
            early, self._early = self._early or (), None
            for row, sample, age in zip(rows, samples, ages, strict=True):
                if row.key not in early:  # an update is newer than the value read
                    updated = None if age is None else now - age
                    row.show(sample.value if sample else None, sample.flags if sample else OLD, updated)
                if sample and (self._words or not row.silent):
                    self._print(row)

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
        except Refused:  # a gateway without `explain`
            return None
        return age if isinstance(age, int | float) else None

    def _on_disconnect(self) -> None:
        with self._lock:
            news, self._away = not self._away, True
        if news and self._printing and not self._done.is_set():
            print("fixgw: connection lost, reconnecting", file=sys.stderr)

    def _on_update(self, sample: Sample) -> None:
        row = self._rows.get(sample.key) or self._foot.get(sample.key)
        if row is None or self._done.is_set():
            return
        with self._lock:
            self._away = False
            row.update(sample.value, sample.flags, time.monotonic())
            if self._early is not None:
                self._early.add(row.key)
                return
            self._print(row)
            if self._left is not None and not self._printing and row.key in self._rows:
                self._count_down()

    def _print(self, row: Row) -> None:
        """Print a line when in a pipe. A slow reader delays the gateway's sending to us, not its other work."""
        if self._printing and not self._done.is_set():
            try:
                write_out(row.line + "\n")
            except OSError as error:
                self._broken = error
                self._done.set()
            if self._left is not None:
                self._count_down()

    def _count_down(self) -> None:
        assert self._left is not None
        self._left -= 1
        if self._left <= 0:
            self._done.set()

    # -- output --------------------------------------------------------------------------------------------------------

    def run_in_pipe(self) -> None:
        """Print a line for each update. Raises OSError when the reader has gone."""
        self._printing = True
        self._start()
        # Wait in slices: Ctrl-C does not interrupt an endless wait on every platform.
        while not self._done.wait(self._time_left(1.0)) and not self._over():
            pass
        if self._broken is not None:
            raise self._broken

    def run_on_terminal(self) -> None:
        """Show the values in place until q is pressed."""
        table = Table(self._rows.values(), news_first=not self._words)
        colour = not os.environ.get("NO_COLOR")
        address = f"{self._client.host}:{self._client.port}"
        known = set(self._client.list())
        if known.issuperset(ALERT_KEYS):
            self._foot = {key: self._rows.get(key) or Row(key, "", "") for key in ALERT_KEYS}
        threading.Thread(target=self._look_for_overrides, name="overrides", daemon=True).start()
        with Terminal() as terminal:
            self._start()
            while not self._done.is_set() and not self._over():
                width, height = size()
                with self._lock:
                    away = self._away
                    title = f"connection lost, reconnecting to {address}" if away else f"FIX Gateway at {address}"
                    alerts = alert_line(*self._foot.values(), width=width, colour=colour)
                    foot = [] if away else [line for line in (self._override_line(width, colour), alerts) if line]
                    lines = table.draw(time.monotonic(), width, height - len(foot), title, colour, away)
                lines[len(lines) - 1 : len(lines) - 1] = foot
                terminal.show(lines)
                for key in terminal.keys(self._time_left(REDRAW_S)):
                    if key == "\x04" or (not table.press(key) and key in ("q", "Q")):
                        return

    def _look_for_overrides(self) -> None:
        """Ask now and then which values are overridden: a sentence does not say so."""
        while True:
            try:
                self._overridden = tuple(self._client.status().get("overrides") or ())
            except FixgwError:
                self._overridden = ()
            if self._done.wait(OVERRIDES_S):
                return

    def _override_line(self, width: int, colour: bool) -> str:
        if not self._overridden:
            return ""
        return painted(
            text.printable(f"OVERRIDDEN, NOT REAL: {', '.join(self._overridden)}")[:width], text.YELLOW, colour
        )

    def _time_left(self, at_most: float) -> float:
        return at_most if self._until is None else max(0.0, min(at_most, self._until - time.monotonic()))

    def _over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until


def alert_line(*rows: Row, width: int, colour: bool) -> str:
    """What the alerts say, given the rows of `ALERT_KEYS`; empty if none were ever judged."""
    if not rows or rows[0].silent:
        return ""
    level, count, message = rows
    if level.flags & (OLD | FAIL) or not isinstance(level.value, int):
        return painted("ALERTS ARE NOT JUDGED: the alert logic has stopped"[:width], text.RED, colour)
    if not level.value or not isinstance(count.value, int):
        return painted("no alerts"[:width], text.DIM, colour)
    more = f" and {count.value - 1} more" if count.value > 1 else ""
    name, shade = ALERT_LEVELS[min(level.value, 3) - 1]
    return painted(text.printable(f"{name} {message.value}{more}")[:width], shade, colour)


def _base(key: str) -> str:
    return key.partition(".")[0]
