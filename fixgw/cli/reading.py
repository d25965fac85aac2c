"""What the commands that read a recorded flight share: its name, the part to read, progress, and the file to write."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from fixgw.errors import FixgwError, counted, printable
from fixgw.recording import About, Recording, open_recording
from fixgw.recording.sampling import Span

DAY_S = 86_400.0
QUIET_S = 1.0  # what takes no longer shows no progress
BAR = 30  # characters
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?Z?")
_OFFSET = re.compile(r"([+-])(\d{1,2}):([0-5]\d)")


FLIGHT_HELP = "a name from `fixgw flights`, or the path of a recording, the incumbent's too"


def add_flight(parser: argparse.ArgumentParser) -> None:
    """Add FLIGHT and the options for the part of it."""
    parser.add_argument("flight", metavar="FLIGHT", help=FLIGHT_HELP)
    add_part(parser)


def add_part(parser: argparse._ActionsContainer) -> None:
    """Add the options for the part of a flight."""
    when = "UTC as HH:MM[:SS], date and time as 2026-05-16T14:05, or minutes from the beginning as +10"
    parser.add_argument("--from", dest="since", metavar="TIME", type=instant, help=f"begin there: {when}")
    parser.add_argument("--until", metavar="TIME", type=instant, help="end there, written likewise")
    parser.add_argument(
        "--start",
        metavar="TIME",
        type=date,
        help="when the recording began, for one made while the clock was not set: 2026-05-16T14:05, UTC",
    )


def places(directory: Path | None = None) -> list[Path]:
    """Where to look for recordings: in `directory`, or else where the configuration, the user and the service have
    them."""
    from fixgw.recording import flight

    if directory is not None:
        return [directory]
    return list(dict.fromkeys((*_configured(), *flight.directories())))


def _configured() -> Iterator[Path]:
    """The directories that recorders of the configuration have in their options."""
    from fixgw import configuration
    from fixgw.configuration.reader import Reader

    main = configuration.find()
    with contextlib.suppress(FixgwError, OSError, ValueError):
        reader = Reader(os.fspath(main), {"PACKAGE": str(configuration.packaged())})
        content, _ = reader.read(reader.main)
        connections = content.get("connections") if isinstance(content, dict) else None
        for section in connections.values() if isinstance(connections, dict) else ():
            if isinstance(section, dict) and section.get("module") == "fixgw.plugins.recorder":
                directory = section.get("directory")
                if isinstance(directory, str) and directory:
                    yield main.parent / Path(directory).expanduser()


@contextmanager
def flight_of(args: argparse.Namespace) -> Iterator[tuple[Recording, Span]]:
    """The recording that the arguments name, and the part of it. Says what is wrong with it. Raises `FixgwError`."""
    from fixgw.recording.flight import find

    recording = open_recording(find(args.flight, places))
    try:
        about = recording.about
        if not about.complete:
            note(f"{about.name} was not finished: it ends where the power was lost, or is still being written")
        if about.lost:
            note(f"{about.name}: {counted(about.lost, 'piece')} could not be read")
        yield recording, span_of(about, args.since, args.until, args.start)
        if recording.about.lost > about.lost:
            note(f"{about.name}: {counted(recording.about.lost, 'piece')} could not be read")
    finally:
        recording.close()


def note(message: str) -> None:
    print(printable(f"fixgw: {message}"), file=sys.stderr)


# -- times -------------------------------------------------------------------------------------------------------------

#: A time in a recording: from what the recording says about itself, seconds as in `fixgw.recording.Change`.
Instant = Callable[[About, float], float]


def instant(text: str) -> Instant:
    """Parse a time in a flight. The function that it returns gets the shift of the recording's times as well."""
    if text.startswith("+"):
        with contextlib.suppress(ValueError):
            minutes = float(text)
            if math.isfinite(minutes):
                return lambda about, _: about.start + 60.0 * minutes
    elif clock := _CLOCK.fullmatch(text):
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3] or 0)
        if int(clock[1]) < 24 and int(clock[2]) < 60 and float(clock[3] or 0) < 61:
            return lambda about, shift: _at(seconds, about, shift)
    else:
        with contextlib.suppress(argparse.ArgumentTypeError):
            absolute = date(text)
            return lambda about, shift: _dated(absolute, about, shift)
    raise argparse.ArgumentTypeError(f"{text!r} is no time: write 14:05, 2026-05-16T14:05 or +10 (minutes)")


def date(text: str) -> float:
    """Parse a date and time, UTC if it names no zone, to seconds since 1970."""
    with contextlib.suppress(ValueError, OverflowError):
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    raise argparse.ArgumentTypeError(f"{text!r} is no date and time: write 2026-05-16T14:05")


def offset(text: str) -> timedelta:
    """Parse what is to be added to UTC: hours, also as ``+05:30``."""
    hours = math.nan
    if given := _OFFSET.fullmatch(text):
        hours = (int(given[2]) + int(given[3]) / 60) * (-1 if given[1] == "-" else 1)
    else:
        with contextlib.suppress(ValueError):
            hours = float(text)
    if not -14.0 <= hours <= 14.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not what to add to UTC: write the hours, -5 or 5.5")
    return timedelta(minutes=round(hours * 60))


def local_offset(time_s: float) -> timedelta:
    """What this computer's time zone adds to UTC at `time_s`."""
    try:
        return datetime.fromtimestamp(time_s).astimezone().utcoffset() or timedelta()
    except (ValueError, OverflowError, OSError):
        return timedelta()


def _at(seconds: float, about: About, shift: float) -> float:
    """The instant within or next to the recording at which a clock shows UTC `seconds` after midnight."""
    if not about.dated and not shift:
        raise FixgwError(f"{about.name} has no date: write +10 for minutes from its beginning, or give --start")
    start, end = about.start + shift, about.end + shift
    midnight = start // DAY_S * DAY_S
    candidates = [midnight + seconds + day * DAY_S for day in (-1, 0, 1, 2)]
    return min(candidates, key=lambda t: max(start - t, t - end, 0.0)) - shift


def _dated(absolute: float, about: About, shift: float) -> float:
    if not about.dated and not shift:
        raise FixgwError(f"{about.name} has no date: write +10 for minutes from its beginning, or give --start")
    return absolute - shift


def span_of(about: About, since: Instant | None, until: Instant | None, start: float | None) -> Span:
    """The part of a recording between two times. Raises `FixgwError` if there is nothing in it."""
    shift = 0.0
    if start is not None:
        if about.dated:
            raise FixgwError(f"{about.name} has a date: --start is for recordings without one")
        shift = start - about.start
    first = max(about.start, since(about, shift)) if since else about.start
    last = min(about.end, until(about, shift)) if until else about.end
    if first > last:
        raise FixgwError(f"{about.name} has nothing between these times: it runs {period(about, shift)}")
    return Span(first, last, shift)


def period(about: About, shift: float = 0.0) -> str:
    """When the recording was made, in words."""
    minutes = f"{(about.end - about.start) / 60.0:.1f} minutes"
    if not about.dated and not shift:
        return f"for {minutes}, and has no date"
    try:
        first, last = (datetime.fromtimestamp(t + shift, UTC) for t in (about.start, about.end))
    except (ValueError, OverflowError, OSError):
        return f"for {minutes}"
    return f"from {first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC ({minutes})"


# -- progress ----------------------------------------------------------------------------------------------------------


class Bar:
    """A progress bar on stderr, if that is a terminal, for what takes longer than a second. Call it with 0 to 1."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._shown = self._began + QUIET_S - 0.2
        self._drawn = False
        self._terminal = sys.stderr.isatty()

    def __call__(self, part: float) -> None:
        now = self._clock()
        if not self._terminal or now - self._shown < 0.2:
            return
        self._shown = now
        self._drawn = True
        full = round(BAR * part)
        left = (now - self._began) * (1.0 - part) / part if part > 0.01 else None
        words = "" if left is None else f", {left:.0f} s left"
        print(
            f"\r[{'#' * full}{'.' * (BAR - full)}] {100 * part:3.0f} %{words} ",
            end="\x1b[K",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# -- the file ----------------------------------------------------------------------------------------------------------


def target(output: str | None, usual: str, force: bool) -> Path | None:
    """Where to write: `output`, in it if it is a directory, or else the file called `usual` here; None for stdout.

    Raises `FixgwError` if there is a file already, unless `force`.
    """
    if output == "-":
        return None
    path = Path(output) if output else Path(usual)
    if path.is_dir():
        path /= usual
    if path.exists() and path.is_file() and not force:
        raise FixgwError(f"{path} exists already: choose another --output, or replace it with --force")
    return path


@contextmanager
def new_file(path: Path | None, force: bool) -> Iterator[BinaryIO]:
    """A file to write, which appears under its name when it is whole. None is stdout. Raises OSError, `FixgwError`."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):  # a device or a pipe
            with path.open("wb") as device:
                yield device
            return
    path = path.resolve() if path.is_symlink() else path
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(new, path)
        else:
            _publish(new, path)
    finally:
        new.unlink(missing_ok=True)


def _publish(new: Path, path: Path) -> None:
    """Give the file its name, but replace none that has appeared meanwhile."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise FixgwError(f"{path} exists already: choose another --output, or replace it with --force") from None
    except OSError:  # a file system without links, as on many USB sticks
        if path.exists():
            raise FixgwError(f"{path} exists already: choose another --output, or replace it with --force") from None
        os.replace(new, path)
