"""The command wait: holds a script or a display back until keys have live values."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, complain
from fixgw.cli.client import ask_about, expand, new_client
from fixgw.errors import NotConnected, RequestTimeout

if TYPE_CHECKING:
    from fixgw.netfix import Client

ANSWER_PATIENCE_S = 2.0
INTERVAL_S = 0.2


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "wait",
        run,
        "Waits until the gateway answers and none of the keys is old, for displays that cannot start without them. A\n"
        "value that is bad or failed has arrived, too. The exit code is 1 when the time is over, and 0 before that.",
        "  fixgw wait IAS ALT VS\n  fixgw wait IAS ALT VS --timeout 60",
    )
    parser.add_argument("keys", metavar="KEY", nargs="+", help="a key or a pattern ('EGT*')")
    add_client_options(parser, "longest time to wait (default: no limit)", None)


def run(args: argparse.Namespace) -> int:
    limit: float | None = args.timeout
    deadline = None if limit is None else time.monotonic() + limit
    args.timeout = ANSWER_PATIENCE_S if limit is None else min(ANSWER_PATIENCE_S, limit)
    client = new_client(args)
    try:
        while True:
            try:
                client.connect()
                missing = _old(client, args.keys)
            except (NotConnected, RequestTimeout):
                client.disconnect(0.0)
                missing = None
            if missing == []:
                return EXIT_DONE
            if deadline is not None and time.monotonic() >= deadline:
                what = f"still old: {', '.join(missing)}" if missing else f"no gateway at {client.host}:{client.port}"
                return complain(f"after {limit:g} s {what}")
            time.sleep(INTERVAL_S)
    finally:
        client.disconnect()


def _old(client: Client, words: list[str]) -> list[str]:
    """The keys that are old. Raises `FixgwError` for a key that does not exist."""
    return [key for key in expand(client, words) if ask_about(client, key.partition(".")[0], client.read).old]
