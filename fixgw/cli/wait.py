"""The command wait: holds a script or a display back until keys have usable values."""

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
        "Waits until the gateway answers and none of the keys is old, bad or failed, for displays that cannot start\n"
        "before that. The exit code is 1 if the time runs out.",
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
                missing = _unusable(client, args.keys)
            except (NotConnected, RequestTimeout):
                client.disconnect(0.0)
                missing = None
            if missing == []:
                return EXIT_DONE
            if deadline is not None and time.monotonic() >= deadline:
                what = ", ".join(missing) if missing else f"no gateway at {client.host}:{client.port}"
                return complain(f"after {limit:g} s still: {what}")
            time.sleep(INTERVAL_S)
    finally:
        client.disconnect()


def _unusable(client: Client, words: list[str]) -> list[str]:
    """The keys that are not usable, with the reason. Raises `FixgwError` for a key that does not exist."""
    found = []
    for key in expand(client, words):
        sample = ask_about(client, key.partition(".")[0], client.read)
        if sample.old or sample.bad or sample.fail:
            found.append(f"{key} ({'old' if sample.old else 'failed' if sample.fail else 'bad'})")
    return found
