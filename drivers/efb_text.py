"""Lines of text that simulators and some receivers send to tablets: XGPS, XATT and XTRAFFIC. Without I/O.

    XGPSname,longitude,latitude,metres above mean sea level,true track,metres a second
    XATTname,true heading,pitch,roll
    XTRAFFICname,address,latitude,longitude,ft,ft/min,1 if airborne,true track,knots,call sign

One line a datagram. As read in ForeFlight's page for network GPS, Stratux and X-Plane, which appends nine more numbers
to XATT. A line cannot say that a value is not known, so what is not known makes no line.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS

MAX_LINE_BYTES = 500
BEGINNINGS = (b"XGPS", b"XATT", b"XTRAFFIC")
_MAX_NUMBER = 30  # characters
_OTHER = re.compile(r"X[A-Z]{3,}")


class Gps(NamedTuple):
    """Degrees, feet above mean sea level, knots."""

    name: str
    lat: float
    lon: float
    altitude_ft: float
    track_deg: float
    ground_speed_kt: float


class Attitude(NamedTuple):
    """Degrees. `heading_deg` is true."""

    name: str
    heading_deg: float
    pitch_deg: float
    roll_deg: float


class Traffic(NamedTuple):
    name: str
    address: int
    lat: float
    lon: float
    altitude_ft: float
    vertical_speed_fpm: float
    airborne: bool
    track_deg: float
    ground_speed_kt: float
    callsign: str


def gps_line(said: Gps) -> bytes:
    metres, mps = said.altitude_ft / FEET_PER_METRE, said.ground_speed_kt / KNOTS_PER_MPS
    return f"XGPS{said.name},{said.lon:.6f},{said.lat:.6f},{metres:.1f},{said.track_deg:.2f},{mps:.2f}".encode()


def attitude_line(said: Attitude) -> bytes:
    return f"XATT{said.name},{said.heading_deg:.2f},{said.pitch_deg:.2f},{said.roll_deg:.2f}".encode()


def traffic_line(said: Traffic) -> bytes:
    return (
        f"XTRAFFIC{said.name},{said.address},{said.lat:.6f},{said.lon:.6f},{said.altitude_ft:.0f},"
        f"{said.vertical_speed_fpm:.0f},{said.airborne:d},{said.track_deg:.1f},{said.ground_speed_kt:.0f},"
        f"{said.callsign}"
    ).encode()


def parse(line: bytes) -> Gps | Attitude | Traffic | str:
    """What a line says; or the reason that it says nothing: ``unknown`` (another kind), or ``malformed``.

    What precedes the last beginning of a line is garbage. Ranges are not checked.
    """
    begin = max(map(line.rfind, BEGINNINGS))
    try:
        text = line[max(begin, 0) :].decode("ascii").strip("\r\n\0 ")
    except UnicodeDecodeError:
        return "malformed"
    head, *fields = text.split(",")
    try:
        if head.startswith("XTRAFFIC"):
            address, *six, knots, call = fields[:9]
            lat, lon, feet, climb, airborne, track = map(_number, six)
            if not address.isdecimal() or not 0 < int(address[:9]) <= 0xFFFFFF or airborne not in (0.0, 1.0):
                return "malformed"
            flight = feet, climb, airborne == 1.0, track, _number(knots)
            return Traffic(head[8:], int(address), lat, lon, *flight, call.strip()[:8])
        if head.startswith("XGPS"):
            lon, lat, metres, track, mps = map(_number, fields)
            return Gps(head[4:], lat, lon, metres * FEET_PER_METRE, track, mps * KNOTS_PER_MPS)
        if head.startswith("XATT"):
            return Attitude(head[4:], *map(_number, fields[:3]))
    except (ValueError, TypeError):
        return "malformed"
    return "unknown" if _OTHER.match(text) else "malformed"


def _number(text: str) -> float:
    """Raises ValueError."""
    value = float(text) if len(text) <= _MAX_NUMBER and "_" not in text else math.nan
    if not math.isfinite(value):
        raise ValueError(text)
    return value
