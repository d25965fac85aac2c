"""The command that draws a recorded flight: plot."""

from __future__ import annotations

import argparse
import webbrowser

from fixgw.cli import EXIT_DONE, Subparsers, add_command, complain
from fixgw.cli.export import rate
from fixgw.cli.reading import Bar, add_flight, flight_of, new_file, target
from fixgw.errors import printable
from fixgw.recording.exports import usual_name
from fixgw.recording.plot import page


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "plot",
        run,
        "Writes one HTML file that any browser shows, without a network: altitude and speeds, temperatures by\n"
        "cylinder, engine, oil, electrics, fuel, the track, alerts, statistics. What was not good is a gap. It needs\n"
        "the extra `plot`, and is for a desk rather than for the computer in the aircraft.",
        "  fixgw plot 20260516-140500-1 --open\n"
        "  fixgw plot flight.mcap --output climb.html --from 14:20 --until 14:50",
    )
    add_flight(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the file or the directory to write to; - is stdout")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--rate", type=rate, metavar="HZ", help="points a second (default: 1, fewer for a long flight)")
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")


def run(args: argparse.Namespace) -> int:
    with flight_of(args) as (recording, span):
        path = target(args.output, usual_name(recording.about, "plot", ".html", span), args.force)
        if path is None and args.open:
            return complain("--open needs a file: leave out --output -")
        bar = Bar()
        try:
            with new_file(path, args.force) as out:
                for piece in page(recording, span, args.rate, bar):
                    out.write(piece.encode("utf-8", "replace"))
        finally:
            bar.close()
    if path is not None:
        print(printable(str(path)))
        if args.open and not webbrowser.open(path.resolve().as_uri()):
            return complain(f"there is no browser to open: open {path} yourself")
    return EXIT_DONE
