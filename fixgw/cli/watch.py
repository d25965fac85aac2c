"""The command watch: values as they change, in place on a terminal or as lines in a pipe."""

from __future__ import annotations

import argparse
import os
import sys
import threading

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, add_units_option, seconds, text
from fixgw.cli.feed import ALERT_KEYS, Feed, alert_words
from fixgw.cli.terminal import Row, Segment, Table, Terminal, paint, size, write_out
from fixgw.clock import now

REDRAW_S = 0.2


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
    """Prints or shows what the feed brings."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._words: list[str] = args.keys
        self._left: int | None = args.count
        self._until = None if args.duration is None else now() + args.duration
        self._feed = Feed(args, args.keys, ALERT_KEYS, changed=self._changed, lost=self._lost)
        self._done = threading.Event()
        self._printing = False
        self._broken: OSError | None = None

    def connect(self) -> None:
        """Connect and read the keys' definitions. Raises `NotConnected` or `UnknownKey`."""
        self._feed.connect()

    def close(self) -> None:
        self._done.set()
        self._feed.close()

    # -- updates from the gateway --------------------------------------------------------------------------------------

    def _changed(self, row: Row, update: bool) -> None:
        if self._done.is_set() or self._feed.rows.get(row.key) is not row:
            return
        if self._printing and (update or self._words or not row.silent):
            self._print(row)
        elif self._left is not None and not self._printing and update:
            self._count_down()

    def _lost(self) -> None:
        if self._printing and not self._done.is_set():
            print("fixgw: connection lost, reconnecting", file=sys.stderr)

    def _print(self, row: Row) -> None:
        """Print a line. A slow reader delays the gateway's sending to us, not its other work."""
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
        self._feed.start(ask=False)
        # Wait in slices: Ctrl-C does not interrupt an endless wait on every platform.
        while not self._done.wait(self._time_left(1.0)) and not self._over():
            pass
        if self._broken is not None:
            raise self._broken

    def run_on_terminal(self) -> None:
        """Show the values in place until q is pressed."""
        feed = self._feed
        table = Table((), news_first=not self._words)
        colour = not os.environ.get("NO_COLOR")
        revision = 0
        with Terminal() as terminal:
            feed.start()
            while not self._done.is_set() and not self._over():
                width, height = size()
                with feed.lock:
                    if revision != feed.revision:
                        table.rows, revision = list(feed.rows.values()), feed.revision
                    trouble = feed.trouble(now())
                    title = ", ".join([f"FIX Gateway at {feed.address}", *feed.unreal])
                    notes = [self._override_words(), alert_words(*feed.others.values())]
                    foot = [] if trouble else [paint([note], width, colour) for note in notes if note[0]]
                    lines = table.draw(now(), width, height - len(foot), trouble or title, colour, bool(trouble))
                lines[len(lines) - 1 : len(lines) - 1] = foot
                terminal.show(lines)
                for key in terminal.keys(self._time_left(REDRAW_S)):
                    if key == "\x04" or (not table.press(key) and key in ("q", "Q")):
                        return

    def _override_words(self) -> Segment:
        overridden = ", ".join(self._feed.overridden)
        return text.printable(f"OVERRIDDEN, NOT REAL: {overridden}") if overridden else "", text.YELLOW

    def _time_left(self, at_most: float) -> float:
        return at_most if self._until is None else max(0.0, min(at_most, self._until - now()))

    def _over(self) -> bool:
        return self._until is not None and now() >= self._until
