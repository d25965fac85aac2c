"""The command that lists recorded flights, and marks those to keep: flights."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_command, complain, text
from fixgw.errors import printable
from fixgw.recording.flight import Flight, find, flights, mark


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "flights",
        run,
        "What the recorder has recorded: date and duration, take-off and landing, the worst alert, the size. Times\n"
        "are UTC. `--keep` marks recordings that are never deleted to make room on the disk.",
        "  fixgw flights\n  fixgw flights --json\n  fixgw flights --keep 20260516-140500-1",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        help="where the recordings are; default: those of the configuration, of this user and of the service",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, times in seconds since 1970")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep", metavar="FLIGHT", nargs="+", default=[], help="never delete these")
    which.add_argument("--no-keep", metavar="FLIGHT", nargs="+", default=[], help="take that back")


def run(args: argparse.Namespace) -> int:
    from fixgw.cli.reading import places

    directories = places(args.directory)
    for name in (*args.keep, *args.no_keep):
        mark(find(name, lambda: directories), bool(args.keep))
    if args.keep or args.no_keep:
        return EXIT_DONE
    found: list[Flight] = []
    troubles = []
    for directory in directories:
        try:
            found += flights(directory)
        except OSError as error:
            troubles.append(f"{directory}: {error.strerror or error}")
    if args.json:
        print(json.dumps([{**asdict(flight), "path": str(flight.path)} for flight in found], indent=2))
    elif found:
        heads = ("NAME", "DATE", "DURATION", "TAKE-OFF", "LANDING", "WORST ALERT", "SIZE", "")
        text.show(*text.table([heads, *map(_row, found)]))
    else:
        text.show(f"no recordings in {' and '.join(map(str, directories))}")
    for trouble in troubles:
        complain(trouble)
    return EXIT_FAILED if troubles and not found else EXIT_DONE


def _row(flight: Flight) -> tuple[str, ...]:
    name, alert = printable(flight.name), printable(f"{flight.level} {flight.alert}".strip())
    size = f"{flight.size / 1e6:.1f} MB"
    if flight.trouble:
        return name, "", "", "", "", printable(flight.trouble), size, ""
    marks = [
        word
        for word, is_so in (
            ("keep", flight.keep),
            ("simulated", flight.simulated),
            ("being written", flight.being_written),
            ("cut", not flight.complete and not flight.being_written),
        )
        if is_so
    ]
    times = (_clock(flight, "%Y-%m-%d %H:%M", flight.start), text.duration(flight.end - flight.start))
    air = (_clock(flight, "%H:%M", flight.takeoff), _clock(flight, "%H:%M", flight.landing))
    return name, *times, *air, alert, size, ", ".join(marks)


def _clock(flight: Flight, form: str, at: float | None) -> str:
    if at is None:
        return ""
    if not flight.dated:
        return "no date" if at == flight.start else f"+{text.duration(at - flight.start)}"
    try:
        return datetime.fromtimestamp(at, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "?"
