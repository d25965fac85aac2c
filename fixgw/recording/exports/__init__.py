"""Recordings in the formats that other programs read: `FORMATS`, and `export`, which writes one of them.

Each format is a module of its own, with `NEEDS`, the keys that it uses with the units that it needs (None: all keys, as
they were recorded), `ALERTS` if it has a place for them, and `pieces`, which yields the file as text; Parquet has
`write` instead. Every format takes its values from the same rows (`fixgw.recording.sampling`): what was not good at an
instant is empty there, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

from fixgw.recording import About, Recording, RecordingError
from fixgw.recording.exports.common import Flight, plain
from fixgw.recording.sampling import Progress, Samples, Span, sample

__all__ = ["FORMATS", "Format", "export", "file_name", "usual_name"]


class Format(NamedTuple):
    """A format: its module here, the suffix of its files, and what it needs.

    `prefix` begins the names of its files. `dated`: it has no place for times without a date. `whole_seconds`: its
    times have no fractions.
    """

    summary: str
    suffix: str
    prefix: str
    module: str
    dated: bool = True
    whole_seconds: bool = False


FORMATS: dict[str, Format] = {
    "g3x": Format("Garmin G3X log, for engine analysis and most services", ".csv", "log", "g3x", whole_seconds=True),
    "g1000": Format("Garmin G1000 log, for older services", ".csv", "g1000", "g1000", whole_seconds=True),
    "cloudahoy": Format("CloudAhoy's CSV, for debriefing", ".csv", "cloudahoy", "cloudahoy"),
    "gpx": Format("track with heights and speeds, for maps", ".gpx", "flight", "gpx"),
    "kml": Format("track in three dimensions, for Google Earth", ".kml", "flight", "kml"),
    "igc": Format("gliders' log without a signature", ".igc", "flight", "igc", whole_seconds=True),
    "csv": Format("a table of all keys", ".csv", "flight", "table", dated=False),
    "parquet": Format("a table of all keys, for pandas and others", ".parquet", "flight", "parquet", dated=False),
}


def export(
    recording: Recording,
    name: str,
    out: BinaryIO,
    span: Span,
    rate: float = 1.0,
    offset: timedelta = timedelta(),
    progress: Progress | None = None,
) -> int:
    """Write `span` of the recording to `out` in the format called `name`, a row every 1/`rate` seconds.

    `offset` is local time minus UTC. Times without a date are written from the beginning of the recording. Returns the
    number of rows. Raises `RecordingError` if there are none, or if the format cannot hold them, and OSError.
    """
    form = FORMATS[name]
    about = recording.about
    dated = about.dated or span.shift != 0.0
    if form.dated and not dated:
        raise RecordingError(
            f"{about.name} has no date: the gateway's clock was never set. {name} needs one: say when the recording "
            "began with --start, or choose csv"
        )
    if form.whole_seconds and not (1.0 / rate).is_integer():
        raise RecordingError(f"{name} has whole seconds only: choose a rate of 1, 0.5, 0.2, 0.1 ...")
    if not dated:
        span = span._replace(shift=-about.start)
    module: Any = import_module(f"{__name__}.{form.module}")
    needs: Mapping[str, str] | None = module.NEEDS
    alerts = getattr(module, "ALERTS", False)
    samples = Samples(sample(recording, span, rate, needs, needs, progress, alerts), rate)
    try:
        if not samples.count:
            raise RecordingError(f"{about.name}: there is nothing between these times at this rate")
        if dated:
            _check_dates(samples, about)
        flight = Flight(plain(about.ident), about.simulated, offset, dated, about=about)
        if hasattr(module, "write"):
            module.write(samples, flight, out)
        else:
            for piece in module.pieces(samples, flight):
                out.write(piece.encode("utf-8", "replace"))
        return samples.count
    finally:
        samples.close()


def _check_dates(samples: Samples, about: About) -> None:
    try:
        for time in (samples.first, samples.last):
            datetime.fromtimestamp(time + 86400.0, UTC)
            datetime.fromtimestamp(time - 86400.0, UTC)
    except (ValueError, OverflowError, OSError):
        raise RecordingError(f"{about.name}: its times are beyond all dates") from None


def file_name(about: About, name: str, span: Span, offset: timedelta = timedelta()) -> str:
    """The usual name of a file of this format; with local time for the G3X, whose files are named so, otherwise UTC."""
    form = FORMATS[name]
    return usual_name(about, form.prefix, form.suffix, span, offset if name == "g3x" else timedelta())


def usual_name(about: About, prefix: str, suffix: str, span: Span, offset: timedelta = timedelta()) -> str:
    """A file's name with the time of the beginning, the aircraft, and ``SIMULATED`` if the flight is.

    Of the ident, only what is harmless in a file's name is there.
    """
    when = "undated"
    if about.dated or span.shift:
        try:
            when = datetime.fromtimestamp(span.since + span.shift, timezone(offset)).strftime("%Y%m%d_%H%M%S")
        except (ValueError, OverflowError, OSError):
            raise RecordingError(f"{about.name}: its times are beyond all dates") from None
    ident = re.sub(r"[^A-Za-z0-9-]", "", about.ident)[:20].strip("-")
    return "_".join(filter(None, (prefix, when, ident, "SIMULATED" if about.simulated else ""))) + suffix
