"""The command that shows a gateway on a full screen: tui. Only `fixgw.cli.tui.app` needs the extra `tui`."""

from __future__ import annotations

import argparse
import os
import sys

from fixgw.cli import Subparsers, add_client_options, add_command, add_units_option, complain
from fixgw.cli.feed import ALERT_KEYS, Feed
from fixgw.errors import MissingLibrary


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "tui",
        run,
        "Shows what `watch`, `explain`, `status`, `alerts`, `log` and `sim panel` show, on pages of one screen, for\n"
        "any gateway that speaks NetFIX: one of another make has fewer pages. Without KEY it shows all keys that\n"
        "receive values. It covers itself when nothing is current: the connection is lost, or nobody answers.\n"
        "It needs the extra `tui`; `fixgw watch` does not.\n\n"
        "keys:\n"
        "  1 to 5, left and right   choose a page; F1 to F5 from the panel, too, whose keys are its own\n"
        "  arrows, PgUp, PgDn, Home, End   choose a row, or scroll\n"
        "  Enter   explain the value of the row on all of the screen; Esc: back\n"
        "  / search, s sort, l live only, as in `fixgw watch`\n"
        "  a acknowledge the alert of the row, A all, m mute; v all details of the health\n"
        "  n       red on black, for the night\n"
        "  q       quit",
        "  fixgw tui\n  fixgw tui 'EGT*' 'CHT*' --units us\n  fixgw tui --host 192.168.1.10",
    )
    parser.add_argument("keys", metavar="KEY", nargs="*", help="a key, an aux value (IAS.Vne), or a pattern ('EGT*')")
    add_units_option(parser)
    add_client_options(parser)


def run(args: argparse.Namespace) -> int:
    streams = sys.stdin, sys.stdout, sys.stderr  # the library draws on the last one
    if not all(stream.isatty() for stream in streams) or os.environ.get("TERM", "dumb") == "dumb":
        return complain("tui needs a terminal that draws; `fixgw watch` writes lines to any")
    try:
        from fixgw.cli.tui.app import show
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("textual", "rich"):
            raise MissingLibrary("textual", "tui") from None
        raise
    feed = Feed(args, args.keys, ALERT_KEYS)
    try:
        feed.connect()
        return show(feed, bool(args.keys))
    finally:
        feed.close()
