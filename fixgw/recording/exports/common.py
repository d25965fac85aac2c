"""What several of the export formats need: units, words about the flight, numbers and times as text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

from fixgw import __version__
from fixgw.recording import About
from fixgw.recording.sampling import Row, Samples

#: The units in which the exports expect the keys; the packaged definition has the same.
UNITS: dict[str, str] = {
    **dict.fromkeys(("LAT", "LONG", "TRACK", "HEAD", "PITCH", "ROLL", "COURSE", "MAGVAR", "WINDDIR", "AOA"), "deg"),
    **dict.fromkeys(("WPLAT", "WPLON"), "deg"),
    **dict.fromkeys(("IAS", "TAS", "GS", "WINDSPD"), "knots"),
    **dict.fromkeys(("TALT", "PALT", "ALT", "DALT", "AGL"), "ft"),
    **dict.fromkeys(("ALAT", "ANORM"), "g"),
    **dict.fromkeys(("BARO", "MAP1"), "inHg"),
    **dict.fromkeys(("OILP1", "FUELP1"), "psi"),
    **dict.fromkeys(("OAT", "OILT1", "H2OT1"), "degC"),
    **{f"{kind}1{cylinder}": "degC" for kind in ("CHT", "EGT") for cylinder in range(1, 7)},
    **dict.fromkeys(("FUELQ1", "FUELQ2"), "gal"),
    **dict.fromkeys(("COMACTFREQ1", "COMACTFREQ2"), "MHz"),
    **dict.fromkeys(("CDI", "GSI"), "fraction"),
    **dict.fromkeys(("TRIMP", "TRIMR", "POWER1"), "%"),
    **dict.fromkeys(("WPNAME", "GPS_FIX_TYPE", "GPS_SATS_TRACKED"), ""),
    "VS": "ft/min",
    "XTRACK": "nmi",
    "FUELF1": "gal/hr",
    "TACH1": "rpm",
    "VOLT": "V",
    "CURRNT": "A",
}

METRES_PER_FOOT = 0.3048
METRES_PER_SECOND_PER_KNOT = 1852 / 3600
KMH_PER_KNOT = 1.852
GAP = 1.5  # intervals between two rows: a longer time is a gap


class Flight(NamedTuple):
    """What the formats say about the flight. `offset` is local time minus UTC, for the formats with local times."""

    ident: str
    simulated: bool
    offset: timedelta = timedelta()
    dated: bool = True
    version: str = __version__  # of this program, which writes the file
    about: About | None = None

    def local(self, time: float) -> datetime:
        return datetime.fromtimestamp(time, timezone(self.offset))

    @property
    def offset_text(self) -> str:
        """The offset as ``-05:00``."""
        minutes = round(self.offset.total_seconds() / 60)
        return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"

    @property
    def title(self) -> str:
        """The aircraft, and whether the flight was simulated, in words."""
        return " ".join(filter(None, (self.ident, "SIMULATED" if self.simulated else ""))) or "flight"

    def fact(self, name: str) -> str:
        """Something that the recording says about itself; empty if it does not."""
        return plain(str((self.about.more if self.about else {}).get(name) or ""))


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")


def plain(text: str) -> str:
    """One line of text without control characters.

    >>> plain('N1\\n2')
    'N1 2'
    """
    return _UNPRINTABLE.sub(" ", text).strip()


def csv_line(fields: Iterable[Any]) -> str:
    """One line of a CSV file; None is empty."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def utc(time: float) -> str:
    """A time in ISO 8601 with ``Z``; with a fraction if it has one.

    >>> utc(1778940300.0), utc(1778940300.25)
    ('2026-05-16T14:05:00Z', '2026-05-16T14:05:00.250Z')
    """
    when = datetime.fromtimestamp(round(time, 3), UTC).replace(tzinfo=None)
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds") + "Z"


def text(value: float | None, form: str) -> str:
    """A number in this format; empty if there is none."""
    return "" if value is None else format(value, form)


def fahrenheit(celsius: float | None) -> float | None:
    return None if celsius is None else celsius * 1.8 + 32.0


def metres(feet: float | None) -> float | None:
    return None if feet is None else feet * METRES_PER_FOOT


def height_key(samples: Samples) -> str | None:
    """The key of the height above mean sea level: of the GPS, or else of the altimeter; None if there is neither."""
    return next((key for key in ("TALT", "ALT") if key in samples.keys), None)


def needs(*keys: str) -> dict[str, str]:
    """`UNITS` of these keys."""
    return {key: UNITS[key] for key in keys}


class Place(NamedTuple):
    """A position: degrees north and east, metres above mean sea level if known."""

    lat: float
    lon: float
    height: float | None


def place(row: Row, height: str | None) -> Place | None:
    """Where the aircraft was in a row; None if that was not known."""
    lat, lon = row.number("LAT"), row.number("LONG")
    if lat is None or lon is None or not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0):
        return None
    return Place(lat, lon, metres(row.number(height)) if height else None)
