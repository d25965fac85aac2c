"""CloudAhoy's CSV, version 3: rows of metadata, then a table whose columns are called ``unit/name``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from fixgw.recording.exports.common import Flight, csv_line, needs, text
from fixgw.recording.sampling import Samples


class Column(NamedTuple):
    name: str
    key: str
    format: str
    optional: bool = False  # only if the key was recorded


COLUMNS = (
    Column("degrees/lat", "LAT", ".7f"),
    Column("degrees/lon", "LONG", ".7f"),
    Column("feet/Alt (gps)", "TALT", ".1f"),
    Column("ft baro/AltB", "ALT", ".1f"),
    Column("knots/GS", "GS", ".1f"),
    Column("knots/IAS", "IAS", ".1f"),
    Column("knots/TAS", "TAS", ".1f"),
    Column("degrees/HDG", "HEAD", ".1f"),
    Column("degrees/TRK", "TRACK", ".1f"),
    Column("degrees/Pitch", "PITCH", ".2f"),
    Column("degrees/Roll", "ROLL", ".2f"),
    Column("fpm/VS", "VS", ".0f"),
    Column("rpm/E1 RPM", "TACH1", ".0f"),
    Column("in hg/E1 MAP", "MAP1", ".2f"),
    Column("feet/AGL", "AGL", ".0f", optional=True),
    Column("degrees/MagVar", "MAGVAR", ".1f", optional=True),
    Column("knots/WndSpd", "WINDSPD", ".1f", optional=True),
    Column("degrees/WndDr", "WINDDIR", ".0f", optional=True),
    Column("fsd/HCDI", "CDI", ".3f", optional=True),
    Column("fsd/VCDI", "GSI", ".3f", optional=True),
)
NEEDS = needs(*(column.key for column in COLUMNS))


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    columns = [c for c in COLUMNS if not c.optional or c.key in samples.keys]
    start = math.floor(samples.first)
    yield csv_line(["METADATA", "CA_CSV.3"])
    yield csv_line(["GMT", start])
    yield csv_line(["TAIL", flight.ident or "unknown"])
    yield csv_line(["GPS", "fixgw"])
    if flight.simulated:
        yield csv_line(["ISSIM", 1])
    yield "DATA,\n"
    yield csv_line(["seconds/t", *(c.name for c in columns)])
    for row in samples:
        yield csv_line([f"{row.time - start:.2f}", *(text(row.number(c.key), c.format) for c in columns)])
