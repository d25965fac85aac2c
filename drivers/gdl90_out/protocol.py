"""What tablets get, without I/O: readings and traffic in, GDL 90 messages and lines of text out.

A tablet believes what it gets. A value is sent only while it may leave (`fixgw.kit.outward`); otherwise its field says
"not known", and a position that is not known is not 0, 0 but marked as none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from fixgw.drivers import efb_text
from fixgw.drivers.gdl90 import (
    DEGREES_PER_COUNT,
    NACP_METRES,
    AttitudeForeFlight,
    AttitudeLE,
    GeometricAltitude,
    Heartbeat,
    Identity,
    Message,
    Report,
    StratuxHeartbeat,
    encode,
)
from fixgw.kit.outward import Outward, Position
from fixgw.kit.traffic import SELF_ASSIGNED, Target
from fixgw.kit.units import FEET_PER_METRE

NAME: Final = "FIX Gateway"
#: The address of an aircraft whose own is not configured, as other senders have it.
UNASSIGNED: Final = 0xF00000
LIGHT: Final = 1  # emitter category

#: NIC by radius of containment in metres. Better ones would need a receiver that vouches for its integrity.
_NIC_METRES: Final = {8: 185.2, 7: 370.4, 6: 1111.2, 5: 1852.0, 4: 3704.0, 3: 7408.0, 2: 14816.0, 1: 37040.0}
#: The NIC of a fix whose accuracy is not known.
_NIC_UNKNOWN: Final = 6
#: The radius of containment, in terms of the 95 % error.
_CONTAINMENT: Final = 2.5

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)", re.ASCII)
_CALL = re.compile(r"[^A-Z0-9 ]")

MAX_ANNOUNCEMENT_BYTES: Final = 2000
MAX_APP_NAME: Final = 40


class Announcement(NamedTuple):
    """A tablet that wants GDL 90 at this port."""

    app: str
    port: int


def read_announcement(data: bytes) -> Announcement | None:
    """What a tablet broadcasts, ``{"App": "ForeFlight", "GDL90": {"port": 4000}}``; None if it is something else."""
    if len(data) > MAX_ANNOUNCEMENT_BYTES:
        return None
    try:
        said = json.loads(data)
        app, port = said["App"], said["GDL90"]["port"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(app, str) or not isinstance(port, int) or not 0 < int(port) < 65536 or port is True:
        return None
    return Announcement("".join(filter(str.isprintable, app))[:MAX_APP_NAME], port)


class Own(NamedTuple):
    """How this aircraft presents itself: its ICAO address, if known; the GS in knots above which it counts as flying;
    and the placeholder for a call sign that nobody has set."""

    address: int | None = None
    airborne_above_kt: float = 35.0
    no_call: str = ""


class Speaker:
    """Makes messages and lines from the readings that may leave. `clock` returns monotonic seconds."""

    def __init__(self, outward: Outward, clock: Callable[[], float], own: Own) -> None:
        self._number = outward.number
        self._outward = outward
        self._clock = clock
        self._own = own
        self._levelled = False  # whether an attitude has ever been sent

    # -- GDL 90 --------------------------------------------------------------------------------------------------------

    def second(self, as_stratux: bool = False) -> list[bytes]:
        """The messages that are due once a second."""
        fix = self._fix()
        messages: list[Message] = [self._heartbeat(fix), self._ownship(fix), Identity("fixgw", NAME)]
        height = self._number("GPS_ELLIPSOID_ALT")
        if fix is not None and height is not None and abs(height) < 5 * 0x7FFF:
            feet = self._number("GPS_ACCURACY_VERTICAL")
            metres = None if feet is None else math.ceil(feet / FEET_PER_METRE)
            messages.append(GeometricAltitude(round(height), vfom_m=metres))
        if as_stratux:
            messages.append(StratuxHeartbeat(fix is not None, self._level() is not None))
        return [encode(message) for message in messages]

    def attitude(self, foreflight: bool = True, stratux: bool = False) -> list[bytes]:
        """The attitude, in one format or both; nothing as long as there has been none."""
        level = self._level()
        self._levelled |= level is not None
        if not self._levelled:
            return []
        roll, pitch = level or (None, None)
        heading = self._number("HEAD")
        messages: list[Message] = []
        if foreflight:
            knots = (_whole(self._number("IAS")), _whole(self._number("TAS")))
            messages.append(AttitudeForeFlight(roll, pitch, heading, heading is not None, *knots))
        if stratux:
            messages.append(
                AttitudeLE(
                    *(roll, pitch, heading, self._slip(), self._number("ROT"), self._number("ANORM")),
                    pressure_altitude_ft=_whole(self._number("PALT")),
                    vertical_speed_fpm=_whole(self._number("VS")),
                )
            )
        return [encode(message) for message in messages]

    def report(self, target: Target) -> bytes | None:
        """The report of another aircraft: as it was received, or made from what is known. None if it may not leave or
        has no position."""
        if not self._may_leave(target):
            return None
        return target.report or encode(
            Report(
                own=False,
                address=target.address,
                address_type=target.address_type,
                lat=target.lat,
                lon=target.lon,
                altitude_ft=_whole(target.altitude_ft),
                airborne=not target.on_ground,
                track_kind="true_track",
                track_deg=target.track_deg,
                nic=_NIC_UNKNOWN,
                ground_speed_kt=_whole(target.ground_speed_kt),
                vertical_speed_fpm=_whole(target.vertical_speed_fpm),
                emitter=target.emitter or 0,
                callsign=_call(target.callsign or ""),
                emergency=bool(target.emergency),
            )
        )

    # -- text ----------------------------------------------------------------------------------------------------------

    def gps_line(self) -> bytes | None:
        """The line XGPS; None if part of it is not known."""
        fix, feet = self._fix(), self._number("TALT")
        track, speed = self._number("TRACK"), self._number("GS")
        if fix is None or feet is None or track is None or speed is None:
            return None
        return efb_text.gps_line(efb_text.Gps(NAME, fix.latitude, fix.longitude, feet, track % 360.0, speed))

    def attitude_line(self) -> bytes | None:
        """The line XATT; None if part of it is not known, which includes the magnetic variation."""
        level, heading = self._level(), self._number("HEAD")
        true, magnetic = self._number("TRACK"), self._number("TRACKM")
        if level is None or heading is None or true is None or magnetic is None:
            return None
        roll, pitch = level
        return efb_text.attitude_line(efb_text.Attitude(NAME, (heading + true - magnetic) % 360.0, pitch, roll))

    def traffic_line(self, target: Target) -> bytes | None:
        """The line XTRAFFIC; None if part of it is not known."""
        numbers = target.lat, target.lon, target.altitude_ft, target.vertical_speed_fpm
        flight = target.track_deg, target.ground_speed_kt
        if not self._may_leave(target) or None in (*numbers, *flight):
            return None
        said = efb_text.Traffic(
            *(NAME, target.address, *numbers, not target.on_ground, *flight),  # type: ignore[arg-type]
            _call(target.callsign or ""),
        )
        return efb_text.traffic_line(said)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _fix(self) -> Position | None:
        """The position; None also where it would be sent as 0, 0, which tablets take for one that is not known."""
        fix = self._outward.fix()
        if fix is None or not (round(fix.latitude / DEGREES_PER_COUNT) or round(fix.longitude / DEGREES_PER_COUNT)):
            return None
        return fix

    def _heartbeat(self, fix: Position | None) -> Heartbeat:
        match = _TIME.fullmatch(str(self._outward.value("TIMEZ") or ""))
        if match is None:
            return Heartbeat(fix is not None, seconds=int(self._clock()) % 86400)
        hours, minutes, seconds = map(int, match.groups())
        return Heartbeat(fix is not None, utc_ok=True, seconds=min(hours * 3600 + minutes * 60 + seconds, 86399))

    def _ownship(self, fix: Position | None) -> Report:
        nic, nacp = self._integrity()
        speed = self._number("GS")
        address = self._own.address
        return Report(
            own=True,
            address=UNASSIGNED if address is None else address,
            address_type=SELF_ASSIGNED if address is None else 0,
            lat=None if fix is None else fix.latitude,
            lon=None if fix is None else fix.longitude,
            altitude_ft=_whole(self._number("PALT")),
            airborne=speed is not None and speed > self._own.airborne_above_kt,
            track_kind="true_track",
            track_deg=self._number("TRACK"),
            nic=nic,  # of a position: without one it is sent as 0
            nacp=0 if fix is None else nacp,
            ground_speed_kt=_whole(speed),
            vertical_speed_fpm=_whole(self._number("VS")),
            emitter=LIGHT,
            callsign=self._call_sign(),
        )

    def _integrity(self) -> tuple[int, int]:
        """NIC and NACp of the fix."""
        feet = self._number("GPS_ACCURACY_HORIZ")
        if feet is None:
            return _NIC_UNKNOWN, 0
        metres = feet / FEET_PER_METRE
        nacp = next((n for n, most in NACP_METRES.items() if metres < most), 0)
        return next((n for n, most in _NIC_METRES.items() if metres * _CONTAINMENT < most), 0), nacp

    def _call_sign(self) -> str:
        said = str(self._outward.value("ACID", math.inf) or "")
        return "" if said == self._own.no_call else _call(said)

    def _level(self) -> tuple[float, float] | None:
        roll, pitch = self._number("ROLL"), self._number("PITCH")
        return None if roll is None or pitch is None else (roll, pitch)

    def _slip(self) -> float | None:
        side = self._number("ALAT")
        return None if side is None or abs(side) > 1.0 else -math.degrees(math.asin(side))

    def _may_leave(self, target: Target) -> bool:
        return target.lat is not None and target.lon is not None and self._outward.allows(target.source)


class Turns:
    """Which targets are due: each once a second, and only with news."""

    def __init__(self, clock: Callable[[], float], interval_s: float = 0.95) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._sent: dict[tuple[int, int], tuple[float, float]] = {}  # when, and the stamp of the news

    def due(self, targets: Iterable[Target]) -> Iterator[Target]:
        """The targets to send now. Forgets those that are no longer among `targets`."""
        now, before, self._sent = self._clock(), self._sent, {}
        for target in targets:
            sent_at, stamp = before.get(target.id, (-math.inf, -math.inf))
            if target.placed_at > stamp and now - sent_at >= self._interval_s:
                sent_at, stamp = now, target.placed_at
                yield target
            self._sent[target.id] = sent_at, stamp


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _call(text: str) -> str:
    """A call sign in the characters that the specification allows."""
    return _CALL.sub("", text.upper().replace("-", "")).strip()[:8]
