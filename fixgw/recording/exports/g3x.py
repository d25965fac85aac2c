"""Garmin G3X log: CSV with two lines of names, which most services for engine trends and flight logs read.

The columns are in ``g3x-columns.csv``. Parsers look them up by name, so those that we have nothing for are empty, not
missing. Of what identifies a unit of the maker, only what parsers look for is there.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from importlib import resources
from typing import NamedTuple

from fixgw.kit.navigation import bearing_distance
from fixgw.kit.units import KNOTS_PER_MPS
from fixgw.recording.exports.common import UNITS, Flight, csv_line, fahrenheit, needs, plain, text, utc
from fixgw.recording.sampling import Row, Samples


class Column(NamedTuple):
    long_name: str
    short_name: str
    key: str
    conversion: str
    format: str


def _columns() -> tuple[Column, ...]:
    content = resources.files("fixgw.recording.exports").joinpath("g3x-columns.csv").read_text("utf-8")
    return tuple(Column(*line) for line in list(csv.reader(content.splitlines()))[1:])


COLUMNS = _columns()
NEEDS = needs(*dict.fromkeys(key for column in COLUMNS for key in column.key.split(", ") if key in UNITS))
ALERTS = True
MPS_PER_FT_MIN = 0.00508


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    yield _about(flight) + "\n"
    yield csv_line(column.long_name for column in COLUMNS)
    yield csv_line(column.short_name for column in COLUMNS)
    cells = [_cell(column, samples, flight) for column in COLUMNS]
    for row in samples:
        yield csv_line(cell(row) for cell in cells)


def _about(flight: Flight) -> str:
    facts = {
        "log_version": "1.00",
        "log_content_version": "1.02",
        "product": "GDU 460",
        "aircraft_ident": flight.ident,
        "unit_software_part_number": "fixgw",
        "software_version": flight.version + (" SIMULATED" if flight.simulated else ""),
        "system_id": "000000000000",
        "unit": "PFD1",
        "airframe_hours": "",
        "engine_hours": flight.fact("engine hours"),
    }
    quoted = (f'{name}="{value.replace(chr(34), "").replace(",", " ")}"' for name, value in facts.items())
    return ",".join(("#airframe_info", *quoted))


Cell = Callable[[Row], str]


def _cell(column: Column, samples: Samples, flight: Flight) -> Cell:
    """What makes the text of a column from a row."""
    name, key, form = column.long_name, column.key, column.format
    special: dict[str, Cell] = {
        "Date (yyyy-mm-dd)": lambda row: flight.local(row.time).strftime("%Y-%m-%d"),
        "Time (hh:mm:ss)": lambda row: flight.local(row.time).strftime("%H:%M:%S"),
        "UTC Time (hh:mm:ss)": lambda row: utc(row.time)[11:19],
        "UTC Offset (hh:mm)": lambda _: flight.offset_text,
        "GPS Fix Status": _fix("GPS_FIX_TYPE" in samples.keys),
        "GPS Velocity E (m/sec)": lambda row: text(_along(row, math.sin), form),
        "GPS Velocity N (m/sec)": lambda row: text(_along(row, math.cos), form),
        "GPS Velocity U (m/sec)": lambda row: text(_climb(row), form),
        "Nav Distance (nm)": lambda row: text(_to_waypoint(row)[1], form),
        "Nav Bearing (deg)": lambda row: text(_to_waypoint(row)[0], form),
        "Nav Identifier": lambda row: plain(str(row.values.get(key, ""))),
        "CAS Alert": lambda row: ";".join(plain(alert.replace(";", ",")) for alert in row.alerts),
    }
    if name in special:
        return special[name]
    if not key:
        return lambda _: ""
    if column.conversion == "C*1.8+32":
        return lambda row: text(fahrenheit(row.number(key)), form)
    return lambda row: text(row.number(key), form)


def _fix(by_type: bool) -> Cell:
    """The word for a fix in three dimensions, the only one that is known for certain.

    If the type of the fix was not recorded, a position with a GPS altitude shows that it had three dimensions.
    """

    def word(row: Row) -> str:
        if by_type:
            return "3D-" if (row.number("GPS_FIX_TYPE") or 0) >= 3 else ""
        return "" if None in (row.number("LAT"), row.number("LONG"), row.number("TALT")) else "3D-"

    return word


def _along(row: Row, part: Callable[[float], float]) -> float | None:
    speed, track = row.number("GS"), row.number("TRACK")
    return None if speed is None or track is None else speed / KNOTS_PER_MPS * part(math.radians(track))


def _climb(row: Row) -> float | None:
    climb = row.number("VS")
    return None if climb is None else climb * MPS_PER_FT_MIN


def _to_waypoint(row: Row) -> tuple[float | None, float | None]:
    """Bearing in degrees, distance in nautical miles."""
    here, there = (row.number("LAT"), row.number("LONG")), (row.number("WPLAT"), row.number("WPLON"))
    if here[0] is None or here[1] is None or there[0] is None or there[1] is None:
        return None, None
    return bearing_distance(here[0], here[1], there[0], there[1])
