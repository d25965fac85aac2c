"""Garmin G1000 log: CSV with spaces after the commas, which older services read. Its normal acceleration is 0 in level
flight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fixgw.recording.exports.common import Flight, fahrenheit, needs, plain, text
from fixgw.recording.sampling import Row, Samples


class Column(NamedTuple):
    name: str
    unit: str
    key: str
    format: str
    convert: Callable[[float | None], float | None] | None = None
    optional: bool = False  # only if the key was recorded


def _without_gravity(load: float | None) -> float | None:
    return None if load is None else load - 1.0


def _cylinders(name: str, key: str) -> Iterator[Column]:
    for n in range(1, 7):
        yield Column(f"E1 {name}{n}", "deg F", f"{key}1{n}", ".1f", fahrenheit, optional=n > 4)


#: After the four columns of date, time, offset and waypoint.
COLUMNS = (
    Column("Latitude", "degrees", "LAT", ".7f"),
    Column("Longitude", "degrees", "LONG", ".7f"),
    Column("AltB", "ft Baro", "ALT", ".1f"),
    Column("BaroA", "inch", "BARO", ".2f"),
    Column("AltMSL", "ft msl", "TALT", ".1f"),
    Column("OAT", "deg C", "OAT", ".1f"),
    Column("IAS", "kt", "IAS", ".2f"),
    Column("GndSpd", "kt", "GS", ".2f"),
    Column("VSpd", "fpm", "VS", ".1f"),
    Column("Pitch", "deg", "PITCH", ".2f"),
    Column("Roll", "deg", "ROLL", ".2f"),
    Column("LatAc", "G", "ALAT", ".2f"),
    Column("NormAc", "G", "ANORM", ".2f", _without_gravity),
    Column("HDG", "deg", "HEAD", ".1f"),
    Column("TRK", "deg", "TRACK", ".1f"),
    Column("volt1", "volts", "VOLT", ".1f"),
    Column("amp1", "amps", "CURRNT", ".1f"),
    Column("FQtyL", "gals", "FUELQ1", ".1f"),
    Column("FQtyR", "gals", "FUELQ2", ".1f"),
    Column("E1 FFlow", "gph", "FUELF1", ".2f"),
    Column("E1 FPres", "psi", "FUELP1", ".1f"),
    Column("E1 OilT", "deg F", "OILT1", ".1f", fahrenheit),
    Column("E1 OilP", "psi", "OILP1", ".1f"),
    Column("E1 MAP", "Hg", "MAP1", ".2f"),
    Column("E1 RPM", "rpm", "TACH1", ".1f"),
    *_cylinders("CHT", "CHT"),
    *_cylinders("EGT", "EGT"),
    Column("AltGPS", "ft wgs", "TALT", ".1f"),
    Column("TAS", "kt", "TAS", ".2f"),
    Column("CRS", "deg", "COURSE", ".1f", optional=True),
    Column("COM1", "MHz", "COMACTFREQ1", ".3f", optional=True),
    Column("COM2", "MHz", "COMACTFREQ2", ".3f", optional=True),
    Column("HCDI", "fsd", "CDI", ".3f", optional=True),
    Column("VCDI", "fsd", "GSI", ".3f", optional=True),
    Column("WndSpd", "kt", "WINDSPD", ".2f", optional=True),
    Column("WndDr", "deg", "WINDDIR", ".1f", optional=True),
    Column("MagVar", "deg", "MAGVAR", ".1f", optional=True),
)
NEEDS = needs("WPNAME", *(column.key for column in COLUMNS))


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    columns = [c for c in COLUMNS if not c.optional or c.key in samples.keys]
    yield _about(flight)
    yield _line(["#yyy-mm-dd", "hh:mm:ss", "hh:mm", "ident", *(c.unit for c in columns)])
    yield _line(["Lcl Date", "Lcl Time", "UTCOfst", "AtvWpt", *(c.name for c in columns)])
    for row in samples:
        date, _, time = flight.local(row.time).strftime("%Y-%m-%d %H:%M:%S").partition(" ")
        yield _line([date, time, flight.offset_text, _word(row), *(_cell(column, row) for column in columns)])


def _about(flight: Flight) -> str:
    simulated = " SIMULATED" if flight.simulated else ""
    facts = {
        "log_version": "1.00",
        "airframe_name": f"Experimental{simulated}",
        "unit_software_part_number": "fixgw",
        "unit_software_version": f"{flight.version}{simulated}",
        "system_software_part_number": "fixgw",
        "system_id": _bare(flight.ident),
    }
    return ", ".join(("#airframe_info", *(f'{name}="{value}"' for name, value in facts.items()), "mode=NORMAL,\n"))


def _line(cells: list[str]) -> str:
    return ", ".join(cells) + "\n"


def _cell(column: Column, row: Row) -> str:
    value = row.number(column.key)
    return text(column.convert(value) if column.convert else value, column.format)


def _word(row: Row) -> str:
    return _bare(str(row.values.get("WPNAME", "")))


def _bare(word: str) -> str:
    """`word` without what separates cells: the format knows no quotes."""
    return plain(word.replace(",", " ").replace('"', ""))
