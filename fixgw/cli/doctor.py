"""The command that checks whether everything is ready for flight: doctor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_client_options, add_command, seconds, text
from fixgw.errors import NotConnected, counted

if TYPE_CHECKING:
    from fixgw.doctor import Result


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "doctor",
        doctor,
        "Checks the configuration, every device that it needs, the computer (clock, disk, card, power, temperature),\n"
        "and, if a gateway is running, the source and rate of its values. It changes nothing. Each problem comes with\n"
        "a suggestion.\n\n"
        "exit codes: 0 ready, possibly with warnings (with --strict: without); 1 problems found; 2 wrong usage",
        "  fixgw doctor\n  fixgw doctor ~/bench/default.yaml --user fixgw\n  fixgw doctor --json --strict",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the configuration; default: as for `fixgw run`")
    parser.add_argument("--config-file", metavar="FILE", help="the same as FILE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true", help="treat warnings as problems")
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="the user who must be able to open the devices; default: the running gateway's user, or fixgw if that "
        "user exists, or you",
    )
    parser.add_argument(
        "--seconds", type=seconds, default=4.0, help="how long to count the running gateway's updates (default: 4)"
    )
    add_client_options(parser)


def doctor(args: argparse.Namespace) -> int:
    from fixgw import configuration
    from fixgw.doctor import PROBLEM, WARNING, Machine, examine, user
    from fixgw.netfix import Client

    who = user(args.user) if args.user else None
    client: Client | None = Client(args.host, args.port, args.timeout)
    assert client is not None
    try:
        client.connect()
    except NotConnected:
        client = None
    caches, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave no cache files beside plugins
    try:
        file = configuration.find(args.file or args.config_file)
        results = list(examine(file, Machine(), client, who, args.seconds))
    finally:
        sys.dont_write_bytecode = caches
        if client is not None:
            client.disconnect()
    problems = sum(result.finding.level == PROBLEM for result in results)
    warnings = sum(result.finding.level == WARNING for result in results)
    if args.json:
        print(json.dumps(facts(results, problems, warnings), indent=2))
    else:
        text.show(*lines(results), "")
        print(
            f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}"
            if problems or warnings
            else _well(results)
        )
    return EXIT_FAILED if problems or (args.strict and warnings) else EXIT_DONE


def _well(results: Iterable[Result]) -> str:
    from fixgw.doctor import NO_INSTRUMENT

    empty = any(result.finding.message == NO_INSTRUMENT for result in results)
    return "nothing is wrong, but no instrument is configured yet" if empty else "all well"


def facts(results: Iterable[Result], problems: int, warnings: int) -> dict[str, Any]:
    """The results as JSON data."""
    found = [{"about": about, **finding._asdict()} for about, finding in results]
    return {"problems": problems, "warnings": warnings, "findings": found}


def lines(results: Iterable[Result]) -> list[str]:
    """The results as lines of text, grouped by subject."""
    grouped: dict[str, list[str]] = {}
    for about, finding in results:
        block = grouped.setdefault(about, [about])
        first, *rest = text.wrapped(finding.message, " " * 11) or [""]
        block += [f"  {finding.level:<9}{first.strip()}", *rest]
        if finding.fix:
            block.append(f"{' ' * 11}> {finding.fix}")
    return [line for block in grouped.values() for line in block]
