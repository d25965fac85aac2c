"""The command for recordings: record."""

from __future__ import annotations

import argparse
from pathlib import Path

from fixgw.cli import EXIT_DONE, Subparsers, add_command, text
from fixgw.errors import FixgwError, counted, printable


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "record",
        run,
        "`recover` writes a whole recording beside one that a loss of power has cut, FILE.mcap beside FILE.mcap.part.\n"
        "The gateway does the same at its next start. The old file stays.",
        "  fixgw record recover /media/card/20260516-140500-1.mcap.part",
    )
    parser.add_argument("action_", metavar="recover", choices=["recover"])
    parser.add_argument("file", metavar="FILE", type=Path, help="the cut or damaged recording")


def run(args: argparse.Namespace) -> int:
    from fixgw.recording.container import McapRecording, recover

    try:
        whole = recover(args.file)
    except FileExistsError as error:
        raise FixgwError(f"{error.filename} exists already: move it away first") from None
    old = McapRecording(args.file)
    try:
        about = old.about
    finally:
        old.close()
    lost = f", {counted(about.lost, 'damaged piece')} left out" if about.lost else ""
    text.show(printable(f"{whole}: {text.duration(about.end - about.start)} recovered{lost}"))
    return EXIT_DONE
