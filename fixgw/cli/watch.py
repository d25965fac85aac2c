"""The command watch: values as they change, in place on a terminal, as lines into a pipe."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, seconds
from fixgw.cli.client import asked, connect, expand, is_pattern, new_client
from fixgw.cli.terminal import SCROLLS, Row, Table, Terminal, size, write_out
from fixgw.database import OLD
from fixgw.errors import Refused

if TYPE_CHECKING:
    from fixgw.netfix import Sample

REDRAW = 0.2  # seconds
MOST_EXPLAINED = 100  # keys whose age is asked for on connecting: it is one question each
EXIT_TERMINATED = 143


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
                write_out(row.line + "\n")
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


def _base(key: str) -> str:
    return key.partition(".")[0]
