"""A virtual Stratux: GDL 90 from an aircraft, and from two others that fly near it.

Written from the GDL 90 specification (560-1058-00 Rev A) and from what Stratux sends: heartbeat, ownship, geometric
altitude, identity and traffic once a second, attitude ten times. The check sequence is computed bit by bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.checks import CCITT
from fixgw.hw_sim.serial import Line, SerialInstrument

RATE_HZ = 10


def sealed(message: bytes) -> bytes:
    """A message as it goes out: check sequence, stuffing, flags."""
    crc = 0
    for byte in message:
        crc = CCITT[crc >> 8] ^ (crc << 8 & 0xFFFF) ^ byte
    out = bytearray(b"\x7e")
    for byte in (*message, crc & 0xFF, crc >> 8):
        out += bytes((0x7D, byte ^ 0x20)) if byte in (0x7D, 0x7E) else bytes((byte,))
    return bytes(out + b"\x7e")


class Other(NamedTuple):
    """Another aircraft: where it is in nautical miles from ours, and how it flies."""

    address: int
    call: str
    north: float
    east: float
    above_ft: float
    knots: int
    track: float
    climb_fpm: int


OTHERS = (
    Other(0x3C6444, "DLH5AC", 3.0, -4.0, 2000.0, 250, 90.0, -640),
    Other(0x4B1A2B, "HBKDM", -1.5, 0.8, -300.0, 95, 180.0, 0),
)


def _bits(value: float, size: int) -> int:
    """A rounded number in two's complement."""
    return round(value) & ((1 << size) - 1)


def report(
    kind: int,
    address: tuple[int, int],
    place: tuple[float, float] | None,
    altitude_ft: float | None,
    knots: float | None,
    track: float | None,
    climb_fpm: float | None,
    call: str,
    nacp: int = 10,
    airborne: bool = True,
) -> bytes:
    """Message 10 (ownship) or 20 (traffic); None is not known. `address` is the type and the address."""
    word = kind
    word = word << 4 | 0
    word = word << 4 | address[0]
    word = word << 24 | address[1]
    for degrees in place or (0.0, 0.0):
        word = word << 24 | _bits(degrees * 0x800000 / 180.0, 24)
    word = word << 12 | (0xFFF if altitude_ft is None else _bits((altitude_ft + 1000.0) / 25.0, 12))
    word = word << 4 | airborne << 3 | (track is not None)
    word = word << 4 | (8 if place else 0)
    word = word << 4 | (nacp if place else 0)
    word = word << 12 | (0xFFF if knots is None else _bits(knots, 12))
    word = word << 12 | (0x800 if climb_fpm is None else _bits(climb_fpm / 64.0, 12))
    word = word << 8 | _bits((track or 0.0) * 256.0 / 360.0, 8)
    word = word << 8 | 1
    return word.to_bytes(19, "big") + call.encode()[:8].ljust(8, b"\0") + b"\0"


class Stratux(SerialInstrument):
    """The receiver. It does not know the keys in `failed`; LAT in it means no GPS position.

    `pitch_offset` spoils its attitude. It repeats its time of day when it has `hung`.
    """

    NAME = "stratux"
    WHAT = "Stratux, an ADS-B receiver with GPS and attitude"
    BAUD = 38400
    UDP_PORT = 4000
    RATE = float(RATE_HZ)
    CYCLE = RATE_HZ

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.failed: set[str] = set()
        self.pitch_offset = 0.0
        self.hung = False
        self._seconds = 0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        frames = [self.attitude(aircraft)]
        if self.rounds % RATE_HZ == 0:
            frames += self.every_second(aircraft)
        return frames

    def attitude(self, aircraft: Aircraft) -> bytes:
        values = aircraft.values()

        def tenths(key: str, of: float | None = None) -> int:
            value = float(values[key]) if of is None else of
            return 0x7FFF if key in self.failed else _bits(value * 10.0, 16)

        slip = -math.degrees(math.asin(float(values["ALAT"])))
        palt = 0xFFFF if "PALT" in self.failed else int(float(values["PALT"]) + 5000.5)
        words = (
            tenths("ROLL"),
            tenths("PITCH", float(values["PITCH"]) + self.pitch_offset),
            tenths("HEAD", float(values["HEAD"]) + 360.0),  # it does not reduce its heading to a circle
            tenths("ALAT", slip),
            tenths("ROT"),
            tenths("ANORM"),
            0x7FFF,
            palt,
            0x7FFF if "VS" in self.failed else _bits(float(values["VS"]), 16),
            0x7FFF,
        )
        return sealed(b"LE\x01\x01" + b"".join(word.to_bytes(2, "big") for word in words))

    def every_second(self, aircraft: Aircraft) -> list[bytes]:
        values = aircraft.values()
        fix = "LAT" not in self.failed
        if not self.hung:
            self._seconds = aircraft.time.hour * 3600 + aircraft.time.minute * 60 + aircraft.time.second
        time = self._seconds
        lat, lon = float(values["LAT"]), float(values["LONG"])
        palt, height = float(values["PALT"]), float(values["GPS_ELLIPSOID_ALT"])
        messages = [
            bytes((0, fix << 7 | 0x11, time >> 16 << 7 | 1, time & 0xFF, time >> 8 & 0xFF, 0, 2)),
            bytes((0xCC, 0x04 | fix << 1 | 1)),
            bytes((0x65, 0, 1)) + b"\xff" * 8 + b"Stratux\0Stratux 1.6\0\0\0\0\0" + bytes(4),
            report(
                10,
                (1, 0xF00000),
                (lat, lon) if fix else None,
                palt,
                float(values["GS"]),
                None if "TRACK" in self.failed else float(values["TRACK"]),
                None,
                "Stratux",
            ),
        ]
        if fix:
            messages.append(bytes((11,)) + _bits(height / 5.0, 16).to_bytes(2, "big") + bytes((0, 5)))
        for other in OTHERS:
            there = lat + other.north / 60.0, lon + other.east / 60.0 / math.cos(math.radians(lat))
            flight = palt + other.above_ft, other.knots, other.track, other.climb_fpm
            messages.append(report(20, (0, other.address), there, *flight, other.call))
        return [sealed(message) for message in messages]
