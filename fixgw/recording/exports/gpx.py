"""GPX 1.1: a track with heights, speeds and courses; a new segment after each gap."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from fixgw.recording.exports.common import GAP, METRES_PER_SECOND_PER_KNOT, Flight, height_key, needs, place, utc
from fixgw.recording.sampling import Row, Samples

NEEDS = needs("LAT", "LONG", "TALT", "ALT", "GS", "TRACK")


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<gpx version="1.1" creator="fixgw" xmlns="http://www.topografix.com/GPX/1/1" '
        'xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">\n'
    )
    desc = "<desc>SIMULATED flight</desc>" if flight.simulated else ""
    yield f"<metadata>{desc}<time>{utc(samples.first)}</time></metadata>\n"
    yield f"<trk><name>{escape(flight.title)}</name>"
    height = height_key(samples)
    before: float | None = None  # the time of the point before
    for row in samples:
        point = _point(row, height)
        if not point:
            continue
        if before is None:
            yield "<trkseg>\n"
        elif row.time - before > GAP * samples.interval:
            yield "</trkseg>\n<trkseg>\n"
        yield point
        before = row.time
    yield ("" if before is None else "</trkseg>") + "</trk>\n</gpx>\n"


def _point(row: Row, height: str | None) -> str:
    """The point of a row; empty if the position was not known."""
    where = place(row, height)
    if where is None:
        return ""
    speed, course = row.number("GS"), row.number("TRACK")
    more = "" if speed is None else f"<gpxtpx:speed>{speed * METRES_PER_SECOND_PER_KNOT:.2f}</gpxtpx:speed>"
    more += "" if course is None else f"<gpxtpx:course>{course:.1f}</gpxtpx:course>"
    if more:
        more = f"<extensions><gpxtpx:TrackPointExtension>{more}</gpxtpx:TrackPointExtension></extensions>"
    ele = "" if where.height is None else f"<ele>{where.height:.1f}</ele>"
    return f'<trkpt lat="{where.lat:.7f}" lon="{where.lon:.7f}">{ele}<time>{utc(row.time)}</time>{more}</trkpt>\n'
