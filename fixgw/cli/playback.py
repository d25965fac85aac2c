"""The command that controls the replay of a recording: playback."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, complain, text
from fixgw.cli.client import give, status_of, talk

if TYPE_CHECKING:
    from fixgw.netfix import Client

MODULE = "fixgw.plugins.replay"
ABSENT = "the gateway plays no recording: see `fixgw plugins replay`"
#: What to do, and the name of what it needs.
ACTIONS = {"status": "", "pause": "", "resume": "", "speed": "a number", "seek": "a TIME"}


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "playback",
        talk,
        "`status` shows what is played and where it is. `pause` keeps the picture; `resume` goes on, or begins again\n"
        "after the end. `speed 2` plays twice as fast. `seek TIME` goes to 2026-05-16T14:00:00, to 10:00 (minutes and\n"
        "seconds from the beginning), 30 s on with +30, or a minute back with -1:00. All but `status` need the\n"
        "permission to write.",
        "  fixgw playback\n  fixgw playback pause\n  fixgw playback speed 4\n  fixgw playback seek +5:00",
    )
    parser._negative_number_matcher = re.compile(r"-[0-9][0-9:.]*")  # -1:00 is no option
    parser.add_argument("action_", metavar="|".join(ACTIONS), nargs="?", default="status", choices=list(ACTIONS))
    parser.add_argument("value", metavar="N|TIME", nargs="?", help="the speed, or where to go")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.set_defaults(action=run, usage_error=parser.error)
    if connection:
        add_client_options(parser)


def run(client: Client, args: argparse.Namespace) -> int:
    needed = ACTIONS[args.action_]
    if bool(needed) != (args.value is not None):
        args.usage_error(f"{args.action_} needs {needed or 'no more words'}")
    if args.action_ != "status":
        words = " ".join(filter(None, (args.action_, args.value)))
        if answer := give(client, "playback", words, MODULE, ABSENT):
            return complain(answer)
        return EXIT_DONE
    status = status_of(client, MODULE, ABSENT)
    if args.json:
        print(json.dumps(status, indent=2))
    else:
        text.show(*text.table([(name, str(value)) for name, value in status.items()]))
    return EXIT_DONE
