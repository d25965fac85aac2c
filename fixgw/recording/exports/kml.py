"""KML for Google Earth: the track in three dimensions (``gx:Track``), with attitude, airspeed and engine speed.

After a gap a new track begins. A point without a height would be drawn below the ground, so it is left out, unless no
height was recorded at all: then the track lies on the ground.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO
from xml.sax.saxutils import escape

from fixgw.recording.exports.common import GAP, Flight, Place, height_key, needs, place, text, utc
from fixgw.recording.sampling import Row, Samples

NEEDS = needs("LAT", "LONG", "TALT", "ALT", "HEAD", "PITCH", "ROLL", "IAS", "TACH1")

Array = tuple[str, str, str, str, str]
#: The values along the track: name in the file, type, name for people, key, format.
ARRAYS: tuple[Array, ...] = (("ias", "float", "IAS kt", "IAS", ".1f"), ("rpm", "int", "RPM", "TACH1", ".0f"))


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    height = height_key(samples)
    arrays = [array for array in ARRAYS if array[3] in samples.keys]
    title = escape(flight.title)
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2">\n'
        f"<Document><name>{title}</name>\n"
    )
    fields = (
        f'<gx:SimpleArrayField name="{name}" type="{kind}"><displayName>{words}</displayName></gx:SimpleArrayField>'
        for name, kind, words, _, _ in arrays
    )
    yield f'<Schema id="fixgw">{"".join(fields)}</Schema>\n<Placemark><name>{title}</name>'
    mode = f"<altitudeMode>{'absolute' if height else 'clampToGround'}</altitudeMode>\n"
    begins = _beginnings(samples, height)
    later = frozenset(begins[1:])
    if later:
        yield f"<gx:MultiTrack>{mode}<gx:interpolate>0</gx:interpolate>\n"
    with ExitStack() as stack:
        # A track has all times, then all positions, and so on: each kind waits in a file of its own.
        parts = [stack.enter_context(TemporaryFile("w+", encoding="utf-8")) for _ in range(3 + len(arrays))]
        for row in samples:
            where = _place(row, height)
            if where is None:
                continue
            if row.time in later:
                yield from _track(parts, arrays, mode)
            parts[0].write(f"<when>{utc(row.time)}</when>\n")
            above = "" if where.height is None else f" {where.height:.1f}"
            parts[1].write(f"<gx:coord>{where.lon:.7f} {where.lat:.7f}{above}</gx:coord>\n")
            parts[2].write(f"<gx:angles>{_angles(row)}</gx:angles>\n")
            for part, (_, _, _, key, form) in zip(parts[3:], arrays, strict=True):
                part.write(f"<gx:value>{text(row.number(key), form)}</gx:value>")
        if begins:
            yield from _track(parts, arrays, mode)
    if later:
        yield "</gx:MultiTrack>"
    yield "</Placemark></Document>\n</kml>\n"


def _track(parts: Sequence[IO[str]], arrays: Sequence[Array], mode: str) -> Iterator[str]:
    """The track of which the parts have been collected; afterwards they are empty."""
    yield f"<gx:Track>{mode}"
    for part in parts[:3]:
        yield from _taken(part)
    if arrays:
        yield '<ExtendedData><SchemaData schemaUrl="#fixgw">'
        for part, (name, *_) in zip(parts[3:], arrays, strict=True):
            yield f'<gx:SimpleArrayData name="{name}">'
            yield from _taken(part)
            yield "</gx:SimpleArrayData>"
        yield "</SchemaData></ExtendedData>\n"
    yield "</gx:Track>"


def _taken(part: IO[str]) -> Iterator[str]:
    """The content of `part` piece by piece; afterwards it is empty."""
    part.seek(0)
    while piece := part.read(1 << 16):
        yield piece
    part.seek(0)
    part.truncate()


def _beginnings(samples: Samples, height: str | None) -> list[float]:
    """The times at which the track begins: at first, and after each gap."""
    found: list[float] = []
    before = -math.inf
    for row in samples:
        if _place(row, height) is not None:
            if row.time - before > GAP * samples.interval:
                found.append(row.time)
            before = row.time
    return found


def _place(row: Row, height: str | None) -> Place | None:
    """Where the aircraft was, if that can be drawn."""
    where = place(row, height)
    return None if where is None or (height is not None and where.height is None) else where


def _angles(row: Row) -> str:
    known = [f"{angle:.1f}" for key in ("HEAD", "PITCH", "ROLL") if (angle := row.number(key)) is not None]
    return " ".join(known) if len(known) == 3 else ""
