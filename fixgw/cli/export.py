"""The command that writes a recorded flight in another program's format: export."""

from __future__ import annotations

import argparse
import sys

from fixgw.cli import EXIT_DONE, Subparsers, add_command, complain
from fixgw.cli.reading import Bar, add_flight, flight_of, local_offset, new_file, note, offset, target
from fixgw.errors import counted, printable
from fixgw.recording.exports import FORMATS, export, file_name

SLOWEST_HZ, FASTEST_HZ = 0.001, 100.0


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    formats = "\n".join(f"  {name:<10} {form.summary}" for name, form in FORMATS.items())
    parser = add_command(
        subparsers,
        "export",
        run,
        f"formats:\n{formats}\n\n"
        "A row has what was good at its instant. What was old, bad, failed or never there is empty. A simulated\n"
        "flight is marked in the name of its file, and in the file where the format has a place. Without --output\n"
        "the file has the usual name of its format and is made in the current directory.",
        "  fixgw export 20260516-140500-1 --to g3x\n"
        "  fixgw export 20260516-140500-1 --to gpx --output flight.gpx --from 14:20 --until 14:50\n"
        "  fixgw export flight.mcap --to csv --rate 5 --output - | head",
    )
    add_flight(parser)
    parser.add_argument("--to", required=True, choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("-o", "--output", metavar="FILE", help="the file or the directory to write to; - is stdout")
    parser.add_argument("--rate", type=rate, default=1.0, metavar="HZ", help="rows a second, 0.001 to 100 (default: 1)")
    parser.add_argument(
        "--utc-offset",
        type=offset,
        metavar="HOURS",
        help="what local time adds to UTC, as -5 or +5.5, in formats with local times (default: as on this computer)",
    )
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")


def run(args: argparse.Namespace) -> int:
    with flight_of(args) as (recording, span):
        about = recording.about
        local = args.utc_offset if args.utc_offset is not None else local_offset(span.since + span.shift)
        path = target(args.output, file_name(about, args.to, span, local), args.force)
        if path is None and FORMATS[args.to].suffix == ".parquet" and sys.stdout.isatty():
            return complain("parquet is not text: choose --output FILE")
        bar = Bar()
        try:
            with new_file(path, args.force) as out:
                rows = export(recording, args.to, out, span, args.rate, local, bar)
        finally:
            bar.close()
        if about.simulated:
            note("the flight is simulated, replayed or has overridden values")
        if path is not None:
            print(printable(f"{path}: {counted(rows, 'row')}"))
    return EXIT_DONE


def rate(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not SLOWEST_HZ <= given <= FASTEST_HZ:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows a second, {SLOWEST_HZ} to {FASTEST_HZ:g}")
    return given
