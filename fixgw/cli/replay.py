"""The command that runs a capture through the drivers: replay."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_command, complain
from fixgw.errors import FixgwError, counted

if TYPE_CHECKING:
    from fixgw.rawreplay import Outcome
    from fixgw.recording.capture import Capture
    from fixgw.recording.golden import Line


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "replay",
        run,
        "Replays the bytes and frames in CAPTURE, as fast as possible, and prints every change of a value: seconds,\n"
        "key, value, flags and source. The same capture always has the same outcome. No device is opened, nothing is\n"
        "sent or saved. --golden compares the outcome with that in a file; the exit code is 0 only if they are\n"
        "equal. CAPTURE is a recording with raw data (`fixgw record --raw`, or `raw: yes` in the recorder), a log of\n"
        "candump, or a file with NMEA sentences.",
        "  fixgw replay flight.mcap\n"
        "  fixgw replay flight.mcap --golden flight.txt --update\n"
        "  fixgw replay flight.mcap --golden flight.txt\n"
        "  fixgw replay candump.log --config ~/.config/fixgw/default.yaml\n"
        "  fixgw replay gps.nmea --connection gps",
    )
    parser.add_argument("capture", metavar="CAPTURE", help="the file to replay, or a flight of `fixgw flights`")
    parser.add_argument("--config", metavar="FILE", help="the configuration; default: the one in the capture")
    parser.add_argument("--connection", metavar="NAME", default="", help="for the data of one link: who reads it")
    parser.add_argument("--golden", metavar="FILE", type=Path, help="compare with the outcome in FILE")
    parser.add_argument("--update", action="store_true", help="write the outcome to the golden file")
    parser.add_argument(
        "--tolerance",
        metavar="KEY=SHARE",
        type=_tolerance,
        action="append",
        default=[],
        help="let the numbers of KEY (or a pattern, `EGT*`) differ by this share; default: 1e-9",
    )
    parser.add_argument("--sent", action="store_true", help="print what the connections send, too")
    parser.set_defaults(usage_error=parser.error)


def _tolerance(word: str) -> tuple[str, float]:
    key, equals, share = word.rpartition("=")
    try:
        if not equals or not key:
            raise ValueError
        return key, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=SHARE, such as ALT=1e-6") from None


def run(args: argparse.Namespace) -> int:
    from fixgw.recording import flight
    from fixgw.recording.capture import open_capture

    if args.update and args.golden is None:
        args.usage_error("--update needs --golden")
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the outcome says it all
    try:
        path = flight.find(args.capture, flight.directories)
        with closing(open_capture(path, args.connection)) as capture:
            return _run(args, capture)
    finally:
        logging.disable(before)


def _run(args: argparse.Namespace, capture: Capture) -> int:
    from fixgw import state
    from fixgw.rawreplay import load, replay
    from fixgw.recording import golden

    known = _read_golden(args.golden) if args.golden is not None else ""
    try:
        old = [] if args.update else list(golden.read(known.splitlines()))
        tolerances = golden.tolerances_in(known.splitlines()) | dict(args.tolerance)
    except ValueError as error:
        raise FixgwError(f"{args.golden}: {error}") from error
    lines: list[Line] = []
    emit = (lambda each: print(each)) if args.golden is None else lines.append
    with tempfile.TemporaryDirectory(prefix="fixgw-replay-") as directory:
        configuration = load(args.config, capture, Path(directory))
        outcome = replay(configuration, capture, emit, args.sent)
    sound = _report(outcome)
    if args.golden is None:
        return EXIT_DONE if sound else EXIT_FAILED
    if args.update:
        state.replace(args.golden, golden.text(lines, known).encode())
        print(f"{args.golden}: {counted(len(lines), 'line')} written")
        return EXIT_DONE if sound else EXIT_FAILED
    comparison = golden.compare(old, lines, tolerances)
    for words in comparison.words():
        print(words)
    if comparison.equal:
        print(f"equal: {counted(len(lines), 'line')}")
    return EXIT_DONE if comparison.equal and sound else EXIT_FAILED


def _read_golden(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise FixgwError(f"{path} is not a golden file: {error}") from error


def _report(outcome: Outcome) -> bool:
    """Say what the outcome does not show; return whether all replayed plugins worked."""
    for name, why in outcome.left_out.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    for name in outcome.silent:
        print(f"{name}: the capture has no data of it", file=sys.stderr)
    for name, entries in outcome.unknown.items():
        print(f"{name}: the configuration does not read it ({entries} entries)", file=sys.stderr)
    for name, error in outcome.failed.items():
        complain(f"{name} failed: {error}")
    names = ", ".join(outcome.replayed) or "no connection"
    print(f"{counted(outcome.changes, 'change')} in {outcome.seconds:.1f} s, by {names}", file=sys.stderr)
    return not outcome.failed
