"""IGC, the log of gliders (FAI technical specification), without a signature: not valid for badges or records.

A second whose position is not known has no B record. The format says that a height is not known by 0 together with
``V`` for the GPS, or with ``NIL`` in the header if there is none in the whole flight; a second without pressure
altitude in a flight that has it gets no B record either.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fixgw.recording.exports.common import KMH_PER_KNOT, Flight, metres, needs, place, utc
from fixgw.recording.sampling import Row, Samples

NEEDS = needs("LAT", "LONG", "TALT", "PALT", "GS", "IAS")


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    ident = _bare(flight.ident)
    has_gps_height, has_pressure = "TALT" in samples.keys, "PALT" in samples.keys
    header = [
        "AXFGFIXGW",
        f"HFDTEDATE:{datetime.fromtimestamp(_first(samples), UTC):%d%m%y},01",
        "HFFXA015",
        "HFPLTPILOTINCHARGE:",
        "HFCM2CREW2:",
        f"HFGTYGLIDERTYPE:EXPERIMENTAL{' SIMULATED' if flight.simulated else ''}",
        f"HFGIDGLIDERID:{ident}",
        "HFDTMGPSDATUM:WGS84",
        f"HFRFWFIRMWAREVERSION:{flight.version}",
        "HFRHWHARDWAREVERSION:1",
        "HFFTYFRTYPE:fixgw",
        "HFGPSRECEIVER:NKN",
        "HFPRSPRESSALTSENSOR:NKN",
        f"HFALGALTGPS:{'GEO' if has_gps_height else 'NIL'}",
        f"HFALPALTPRESSURE:{'ISA' if has_pressure else 'NIL'}",
        "I023638GSP3941IAS",
    ]
    if flight.simulated:
        header.append("LXFGSIMULATED FLIGHT")
    yield from (f"{line}\r\n" for line in header)
    for row in samples:
        if record := _record(row, has_pressure):
            yield f"{record}\r\n"


def _first(samples: Samples) -> float:
    """The time of the first B record, on whose date the day begins."""
    return next((row.time for row in samples if place(row, None)), samples.first)


def _record(row: Row, has_pressure: bool) -> str:
    """The B record of a row; empty if there cannot be one."""
    where = place(row, "TALT")
    pressure = metres(row.number("PALT"))
    if where is None or (has_pressure and pressure is None):
        return ""
    validity = "V" if where.height is None else "A"
    speeds = _speed(row.number("GS")) + _speed(row.number("IAS"))
    time = utc(row.time)[11:19].replace(":", "")
    return (
        f"B{time}{_angle(where.lat, 2, 'NS')}{_angle(where.lon, 3, 'EW')}{validity}"
        f"{_height(pressure)}{_height(where.height)}{speeds}"
    )


def _angle(degrees: float, digits: int, letters: str) -> str:
    """Degrees, minutes and thousandths of a minute: ``4355593N``."""
    whole, thousandths = divmod(round(abs(degrees) * 60_000), 60_000)
    return f"{whole:0{digits}d}{thousandths:05d}{letters[degrees < 0]}"


def _height(height: float | None) -> str:
    return f"{max(-9999, min(99999, round(height or 0.0))):05d}"


def _speed(knots: float | None) -> str:
    """In km/h; dashes if it was not known."""
    return "---" if knots is None else f"{max(0, min(999, round(knots * KMH_PER_KNOT))):03d}"


def _bare(ident: str) -> str:
    """What the format allows in an ident."""
    return "".join(c for c in ident.upper() if c.isascii() and c.isprintable() and c not in '$*!\\^~"')[:40]
