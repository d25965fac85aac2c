"""The command that shows the log of a running gateway: log."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, text
from fixgw.cli.client import talk
from fixgw.errors import FixgwError, Refused, did_you_mean

if TYPE_CHECKING:
    from fixgw.logmemory import Line
    from fixgw.netfix import Client

POLL_S = 1.0


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "log",
        talk,
        "The gateway keeps its latest 1000 lines in memory, in the time zone of this computer here. `journalctl -u\n"
        "fixgw` has the older ones, if systemd runs it. How much it logs is set where it is started (`--verbose`).",
        "  fixgw log\n  fixgw log gps -n 20\n  fixgw log --follow",
    )
    parser.add_argument("connections", metavar="CONNECTION", nargs="*", help="only lines of these")
    parser.add_argument("-f", "--follow", action="store_true", help="show new lines as they come, until Ctrl-C")
    parser.add_argument("-n", type=int, default=50, metavar="N", help="how many of the latest lines (default: 50)")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.set_defaults(action=run)
    if connection:
        add_client_options(parser)


def run(client: Client, args: argparse.Namespace) -> int:
    known = client.status().get("connections") or {}
    for name in args.connections:
        if name not in known:
            raise FixgwError(f"there is no connection {name!r}{did_you_mean(name, known)}")
    lines = _lines(client, args.connections, 0)
    _show(lines[max(0, len(lines) - max(0, args.n)) :], args.json)
    after = lines[-1].number if lines else 0
    while args.follow:
        time.sleep(POLL_S)
        if lines := _lines(client, args.connections, after):
            _show(lines, args.json)
            after = lines[-1].number
    return EXIT_DONE


def _lines(client: Client, connections: Iterable[str], after: int) -> list[Line]:
    try:
        return sorted(line for name in connections or [""] for line in client.log(name, after))
    except Refused:
        raise FixgwError("this gateway keeps no log in memory") from None


def as_text(line: Line) -> list[str]:
    """A line of the log for people; with a traceback, it is several."""
    when = datetime.fromtimestamp(line.time, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    first, *more = line.text.splitlines() or [""]
    return [f"{when} {line.level:<7} {line.connection or 'gateway'}: {first}", *(f"    {each}" for each in more)]


def _show(lines: Iterable[Line], as_json: bool) -> None:
    if as_json:
        for line in lines:
            print(json.dumps(line._asdict()), flush=True)
        return
    for line in lines:
        text.show(*as_text(line))
