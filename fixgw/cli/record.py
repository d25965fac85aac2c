"""The command for recordings: record."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, complain, text
from fixgw.cli.client import give, status_of, talk
from fixgw.errors import FixgwError, counted, printable

if TYPE_CHECKING:
    from fixgw.configuration import Connection
    from fixgw.netfix import Client
    from fixgw.recording.anonymous import Hook

MODULE = "fixgw.plugins.recorder"
ABSENT = (
    "the gateway has no recorder: add `recorder: {module: fixgw.plugins.recorder}` to its connections, and "
    "`fixgw install-extra record` installs what it needs"
)
#: The status of a recorder that has made no capture.
NONE: Mapping[str, Any] = {"file": "", "running": False, "seconds left": 0, "trouble": ""}
MAX_MINUTES = 60.0
LOOK_S = 0.5
PATIENCE_S = 10.0  # for the gateway to complete the file


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "record",
        run,
        "`recover` writes a whole recording beside one that a loss of power has cut, FILE.mcap beside FILE.mcap.part.\n"
        "The gateway does the same at its next start. The old file stays.\n\n"
        "--raw lets the running gateway record all that its links read and write, for two minutes, to replay it with\n"
        "`fixgw replay` or to report a bug. Ctrl-C ends it earlier. It needs the permission to write, and a\n"
        "connection with the plugin `recorder`. --anonymise, or `anonymise` for a capture that exists, shifts all\n"
        "positions by the same degrees and blanks names; it leaves out links that it cannot clean, and says so.",
        "  fixgw record recover /media/card/20260516-140500-1.mcap.part\n"
        "  fixgw record --raw --minutes 2 --anonymise -o report.mcap\n"
        "  fixgw record anonymise 20260516-140500-1.mcap -o report.mcap",
    )
    parser.add_argument("action_", metavar="recover|anonymise", nargs="?", choices=["recover", "anonymise"])
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the recording to recover or anonymise")
    parser.add_argument("--raw", action="store_true", help="record the raw data of the links now")
    parser.add_argument("--minutes", type=_minutes, metavar="N", help="for how long (default: 2)")
    parser.add_argument("--anonymise", action="store_true", help="write the capture without positions and names")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the capture to write")
    add_client_options(parser)
    parser.set_defaults(usage_error=parser.error)


def _minutes(word: str) -> float:
    try:
        minutes = float(word)
    except ValueError:
        minutes = 0.0
    if not 0.0 < minutes <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of minutes, at most {MAX_MINUTES:g}")
    return minutes


def run(args: argparse.Namespace) -> int:
    if args.raw:
        if args.action_ is not None:
            args.usage_error("--raw needs no more words")
        args.action = capture
        return talk(args)
    if args.action_ is None or args.file is None:
        args.usage_error("say `recover FILE`, `anonymise FILE`, or --raw")
    if args.minutes is not None or args.anonymise:
        args.usage_error("--minutes and --anonymise belong to --raw")
    return recover(args) if args.action_ == "recover" else anonymise(args)


def recover(args: argparse.Namespace) -> int:
    from fixgw.recording.container import McapRecording, recover

    if args.output is not None:
        args.usage_error("a recovered recording has the name of the old one")
    try:
        whole = recover(args.file)
    except FileExistsError as error:
        raise FixgwError(f"{error.filename} exists already: move it away first") from None
    with closing(McapRecording(args.file)) as old:
        about = old.about
    lost = f", {counted(about.lost, 'damaged piece')} left out" if about.lost else ""
    text.show(printable(f"{whole}: {text.duration(about.end - about.start)} recovered{lost}"))
    return EXIT_DONE


# -- raw data ----------------------------------------------------------------------------------------------------------


def capture(client: Client, args: argparse.Namespace) -> int:
    seconds = 60.0 * (args.minutes or 2.0)
    before = _status(client)
    if args.output is not None:
        _require_new(args.output)
    if answer := give(client, "capture", f"start {seconds:g}", MODULE, ABSENT):
        return complain(answer)
    try:
        status = _wait(client, seconds, before)
    except KeyboardInterrupt:
        give(client, "capture", "stop", MODULE, ABSENT)
        status = _wait(client, 0.0, before)
    if status["trouble"]:
        complain(str(status["trouble"]))
    file = Path(str(status["file"]))
    if not status["file"] or file.suffix != ".mcap":
        return complain("there is no capture")
    if not file.is_file() or not os.access(file, os.R_OK):
        text.show(printable(f"{client.host}: {file}"))
        if args.anonymise or args.output is not None:
            return complain("that file cannot be read here, or by this user: copy it, then `fixgw record anonymise` it")
        return EXIT_DONE
    if args.anonymise:
        return _anonymise(file, args.output or Path(f"{file.stem}-anonymous.mcap"))
    if args.output is not None:
        shutil.copyfile(file, args.output)
        file = args.output
    text.show(printable(f"{file}: replay it with `fixgw replay {file}`"))
    return EXIT_DONE


def _status(client: Client) -> Mapping[str, Any]:
    status: Mapping[str, Any] = status_of(client, MODULE, ABSENT).get("capture", NONE)
    return status


def _wait(client: Client, seconds: float, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Wait until the capture is complete."""
    from fixgw.cli.reading import Bar

    deadline = time.monotonic() + seconds + PATIENCE_S
    with closing(Bar()) as progress:
        while True:
            status = _status(client)
            if not status["running"] and (status["file"] != before["file"] or status["trouble"]):
                return status
            if time.monotonic() > deadline:
                raise FixgwError("the gateway does not complete the capture: see `fixgw status`")
            if seconds:
                progress(1.0 - min(1.0, float(status["seconds left"]) / seconds))
            time.sleep(LOOK_S if status["seconds left"] else 0.05)


def _require_new(path: Path) -> None:
    if path.suffix != ".mcap":
        raise FixgwError(f"{path}: the name of a capture ends with .mcap")
    if path.exists():
        raise FixgwError(f"{path} exists already: move it away, or choose another name")


def anonymise(args: argparse.Namespace) -> int:
    return _anonymise(args.file, args.output or Path(f"{args.file.name.removesuffix('.mcap')}-anonymous.mcap"))


def _anonymise(source: Path, target: Path) -> int:
    from random import SystemRandom

    from fixgw.kit.anonymous import Shift
    from fixgw.rawreplay import load
    from fixgw.recording import anonymous
    from fixgw.recording.capture import McapCapture

    _require_new(target)
    hooks: dict[str, list[Hook]] = {}
    with closing(McapCapture(source)) as recorded, tempfile.TemporaryDirectory(prefix="fixgw-record-") as directory:
        configuration = load(None, recorded, Path(directory))
        for connection in configuration.connections:
            for name, hook in _hooks(connection):
                hooks.setdefault(name, []).append(hook)
        shift = Shift.random(SystemRandom(), anonymous.latitude_in(recorded.recording))
    left_out = anonymous.anonymise(source, target, hooks, shift)
    for name in left_out:
        text.show(printable(f"{name} is left out: its raw data cannot be cleaned"))
    text.show(printable(f"{target}: positions are shifted, names are blank; the configuration is in it as it is"))
    return EXIT_DONE


def _hooks(connection: Connection) -> Iterator[tuple[str, Hook]]:
    """The links of a connection, and what cleans their data."""
    from fixgw.kit.options import convert
    from fixgw.plugin import CONFIGPATH

    plugin = connection.plugin
    if plugin.Options is None:
        return
    options = convert({k: v for k, v in connection.options.items() if k != CONFIGPATH}, plugin.Options)
    for name in plugin.heard_as(connection.name, options):
        yield name, partial(plugin.anonymise, options)
