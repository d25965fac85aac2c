"""NMEA 0183 output without I/O: readings from the database in, sentences out.

An autopilot may steer by these sentences, so they must be true. A value is sent only while its reading is good and
fresh; otherwise its field is empty, and a sentence that is useless without it is marked void.

Implements RMC, GGA, GLL, VTG, GSA, ZDA, RMB, APB, XTE, BOD, HDG, HDM and HDT of NMEA 0183 4.11, with the mode indicator
introduced in 2.3, as described in receivers' manuals (listed in docs/drivers/nmea0183_out.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import reduce
from operator import xor
from typing import ClassVar, NamedTuple

from fixgw.kit.navigation import bearing_distance, difference
from fixgw.kit.outward import Outward
from fixgw.kit.units import FEET_PER_METRE, KMH_PER_KNOT

MAX_NAME = 6  # characters in a waypoint's name, since NMEA 0183 2.0
MAX_SHOWN_CROSS_TRACK_NMI = 9.99  # larger errors and distances are sent as these
MAX_SHOWN_DISTANCE_NMI = 999.9

#: The computer's date is used if its clock agrees with the GPS's time of day within this.
MAX_CLOCK_DIFFERENCE_S = 10

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)", re.ASCII)
_RESERVED = re.compile(r"[^ -~]|[$*,!\\^~]")


class Fix(NamedTuple):
    """A position that may be sent, in degrees, with its GGA quality, mode and dimensions."""

    latitude: float
    longitude: float
    quality: int
    mode: str
    dimensions: int

    @property
    def place(self) -> str:
        return f"{angle(self.latitude, 2, 'NS')},{angle(self.longitude, 3, 'EW')}"


class Talker:
    """Makes sentences from the readings that may leave.

    `utc` returns the computer's date and time. `arrival` and `full_scale` are in nautical miles. `full_scale` is that
    of CDI, which replaces a missing XTRACK; if None, it does not.
    """

    def __init__(
        self,
        outward: Outward,
        utc: Callable[[], datetime],
        *,
        talker: str = "GP",
        arrival: float = 0.3,
        full_scale: float | None = None,
    ) -> None:
        self._number = outward.number
        self._lasting = outward.lasting
        self._value = outward.value
        self._position = outward.fix
        self._utc = utc
        self._talker = talker
        self._arrival = arrival
        self._full_scale = full_scale

    def sentence(self, kind: str) -> tuple[bytes, bool]:
        """Return the framed sentence of a kind in `KINDS`, and whether it is valid (False: void)."""
        fields, valid = self._KINDS[kind](self)
        body = f"{self._talker}{kind},{','.join(fields)}"
        return f"${body}*{reduce(xor, body.encode('ascii'), 0):02X}\r\n".encode("ascii"), valid

    # -- sentences with a position -------------------------------------------------------------------------------------

    def _rmc(self) -> tuple[Iterable[str], bool]:
        fix, date = self._fix(), self._date()
        day = f"{date:%d%m%y}" if date else ""
        if fix is None:
            return (self._time(), "V", "", "", "", "", "", "", day, "", "", "N"), False
        moving = (number(self._number("GS"), "05.1f"), direction(self._number("TRACK")))
        return (self._time(), "A", fix.place, *moving, day, east_west(self._variation()), fix.mode), True

    def _gga(self) -> tuple[Iterable[str], bool]:
        fix = self._fix()
        if fix is None:
            return (self._time(), "", "", "", "", "0", "", "", "", "M", "", "M", "", ""), False
        altitude, ellipsoid = self._number("TALT"), self._number("GPS_ELLIPSOID_ALT")
        geoid = ellipsoid - altitude if altitude is not None and ellipsoid is not None else None
        satellites = number(self._number("GPS_SATS_TRACKED"), "02.0f")
        heights = (metres(altitude), "M", metres(geoid), "M")
        return (self._time(), fix.place, str(fix.quality), satellites, "", *heights, "", ""), True

    def _gll(self) -> tuple[Iterable[str], bool]:
        fix = self._fix()
        if fix is None:
            return ("", "", "", "", self._time(), "V", "N"), False
        return (fix.place, self._time(), "A", fix.mode), True

    def _vtg(self) -> tuple[Iterable[str], bool]:
        fix, speed = self._fix(), self._number("GS")
        if fix is None or speed is None:
            return ("", "T", "", "M", "", "N", "", "K", "N"), False
        tracks = (direction(self._number("TRACK")), "T", direction(self._number("TRACKM")), "M")
        return (*tracks, number(speed, "05.1f"), "N", number(speed * KMH_PER_KNOT, "05.1f"), "K", fix.mode), True

    def _gsa(self) -> tuple[Iterable[str], bool]:
        fix = self._fix()
        dimensions = fix.dimensions if fix is not None else 1
        return ("A", str(dimensions), *[""] * 12, "", "", ""), dimensions > 1

    def _zda(self) -> tuple[Iterable[str], bool]:
        time, date = self._time(), self._date()
        if not time or date is None:
            return (time, "", "", "", "", ""), False
        return (time, f"{date:%d,%m,%Y}", "00", "00"), True

    # -- guidance ------------------------------------------------------------------------------------------------------

    def _rmb(self) -> tuple[Iterable[str], bool]:
        fix, off, leg = self._fix(), self._off(), self._leg()
        if fix is None or off is None or leg is None:
            return ("V", *[""] * 11, "V", "N"), False
        bearing, to_go = leg
        speed, track = self._number("GS"), self._number("TRACK")
        closing = None
        if speed is not None and track is not None:
            closing = max(0.0, speed * math.cos(math.radians(track - bearing)))  # its field has no sign
        there = f"{angle(self._lasting('WPLAT'), 2, 'NS')},{angle(self._lasting('WPLON'), 3, 'EW')}"
        way = (number(min(to_go, MAX_SHOWN_DISTANCE_NMI), "05.1f"), direction(bearing), number(closing, "05.1f"))
        arrived = "A" if "A" in self._arrived() else "V"
        return ("A", steer(off), "", self._name(), there, *way, arrived, fix.mode), True

    def _apb(self) -> tuple[Iterable[str], bool]:
        fix, off, course = self._fix(), self._off(), self._number("COURSE")
        if fix is None or off is None or course is None:
            return ("V", "V", "", "", "N", "V", "V", *[""] * 7, "N"), False
        bearing = self._bearing()
        leg = (direction(course), "M", self._name(), *bearing, *bearing)
        return ("A", "A", steer(off), "N", *self._arrived(), *leg, fix.mode), True

    def _xte(self) -> tuple[Iterable[str], bool]:
        fix, off = self._fix(), self._off()
        if fix is None or off is None:
            return ("V", "V", "", "", "N", "N"), False
        return ("A", "A", steer(off), "N", fix.mode), True

    def _bod(self) -> tuple[Iterable[str], bool]:
        course, variation = self._number("COURSE"), self._variation()
        if course is None or self._off() is None or self._fix() is None:
            return ("", "T", "", "M", "", ""), False
        true = course + variation if variation is not None else None
        return (direction(true), "T", direction(course), "M", self._name(), ""), True

    # -- heading -------------------------------------------------------------------------------------------------------

    def _hdg(self) -> tuple[Iterable[str], bool]:
        heading = self._number("HEAD")
        if heading is None:
            return ("", "", "", "", ""), False
        return (direction(heading), "", "", east_west(self._variation())), True

    def _hdm(self) -> tuple[Iterable[str], bool]:
        heading = self._number("HEAD")
        return (direction(heading), "M"), heading is not None

    def _hdt(self) -> tuple[Iterable[str], bool]:
        heading, variation = self._number("HEAD"), self._variation()
        true = heading + variation if heading is not None and variation is not None else None
        return (direction(true), "T"), true is not None

    # -- the parts of sentences ----------------------------------------------------------------------------------------

    def _fix(self) -> Fix | None:
        position = self._position()
        if position is None:
            return None
        latitude, longitude, kind = position
        quality, mode = {4: (2, "D"), 5: (4, "D")}.get(kind, (1, "A"))
        return Fix(latitude, longitude, quality, mode, min(kind, 3))

    def _time(self) -> str:
        """The GPS's time of day, hhmmss."""
        match = _TIME.fullmatch(str(self._value("TIMEZ") or ""))
        return "".join(match.groups()) if match else ""

    def _date(self) -> datetime | None:
        """The date of `_time`. No key has it, so we take the computer's, provided that its clock agrees with the
        GPS."""
        time = self._time()
        if not time:
            return None
        now = self._utc()
        seconds = int(time[:2]) * 3600 + int(time[2:4]) * 60 + int(time[4:])
        ahead = (seconds - (now.hour * 3600 + now.minute * 60 + now.second) + 43200) % 86400 - 43200
        return now + timedelta(seconds=ahead) if abs(ahead) <= MAX_CLOCK_DIFFERENCE_S else None

    def _variation(self) -> float | None:
        """Magnetic variation in degrees, east positive: the difference between the two tracks."""
        true, magnetic = self._number("TRACK"), self._number("TRACKM")
        if true is None or magnetic is None:
            return None
        return difference(true, magnetic)

    def _off(self) -> float | None:
        """Nautical miles off the track, right positive."""
        off = self._number("XTRACK")
        if off is None and self._full_scale is not None and (cdi := self._number("CDI")) is not None:
            off = -cdi * self._full_scale  # a command to fly left means that we are right of the track
        return off

    def _leg(self) -> tuple[float, float] | None:
        """Bearing to the waypoint in degrees true, and nautical miles to go."""
        fix, latitude, longitude = self._fix(), self._lasting("WPLAT"), self._lasting("WPLON")
        if fix is None or latitude is None or longitude is None:
            return None
        return bearing_distance(fix.latitude, fix.longitude, latitude, longitude)

    def _bearing(self) -> tuple[str, str]:
        """Bearing to the waypoint and its reference; magnetic if the variation is known."""
        leg, variation = self._leg(), self._variation()
        if leg is not None and variation is not None:
            return direction(leg[0] - variation), "M"
        said = str(self._value("WPHEAD", math.inf) or "")
        if said.isascii() and said.isdigit() and int(said) <= 360:
            return direction(float(said)), "M"
        return (direction(leg[0]), "T") if leg is not None else ("", "")

    def _arrived(self) -> tuple[str, str]:
        """A or V twice: is the aircraft within the arrival circle, and has it passed abeam the waypoint?"""
        leg, course, variation = self._leg(), self._number("COURSE"), self._variation()
        if leg is None:
            return "V", "V"
        bearing, to_go = leg
        passed = (
            course is not None and variation is not None and math.cos(math.radians(bearing - variation - course)) < 0
        )
        return "A" if to_go <= self._arrival else "V", "A" if passed else "V"

    def _name(self) -> str:
        return _RESERVED.sub("", str(self._value("WPNAME", math.inf) or "")).strip()[:MAX_NAME]

    _KINDS: ClassVar[dict[str, Callable[[Talker], tuple[Iterable[str], bool]]]] = {
        "RMC": _rmc,
        "GGA": _gga,
        "GLL": _gll,
        "VTG": _vtg,
        "GSA": _gsa,
        "ZDA": _zda,
        "RMB": _rmb,
        "APB": _apb,
        "XTE": _xte,
        "BOD": _bod,
        "HDG": _hdg,
        "HDM": _hdm,
        "HDT": _hdt,
    }


#: The kinds of sentences.
KINDS = tuple(Talker._KINDS)

#: The maximum length of a sentence in bytes, including its ends, according to the standard.
MAX_SENTENCE = 82


def angle(degrees: float | None, digits: int, hemispheres: str) -> str:
    """``ddmm.mmmm,N``; rounded before splitting, so that the minutes never read 60."""
    if degrees is None:
        return ","
    whole, rest = divmod(round(abs(degrees) * 600_000), 600_000)  # ten-thousandths of a minute
    return f"{whole:0{digits}}{rest / 10_000:07.4f},{hemispheres[degrees < 0]}"


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def metres(feet: float | None) -> str:
    return "" if feet is None else f"{feet / FEET_PER_METRE:.1f}"


def direction(degrees: float | None) -> str:
    return "" if degrees is None else f"{round(degrees, 1) % 360.0:05.1f}"


def east_west(degrees: float | None) -> str:
    return "," if degrees is None else f"{abs(degrees):05.1f},{'W' if degrees < 0 else 'E'}"


def steer(off: float) -> str:
    """The size of the error and the direction to steer: left if we are right of the track (`off` is positive)."""
    return f"{min(abs(off), MAX_SHOWN_CROSS_TRACK_NMI):.2f},{'L' if off > 0 else 'R'}"
