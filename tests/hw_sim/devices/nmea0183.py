"""A virtual GPS receiver and a virtual navigator that speak NMEA 0183 on a virtual serial port.

They send RMC, VTG, GGA, GSA, GSV, GST and ZDA, or RMB, APB, XTE and BOD, one epoch after another, as fast as the baud
rate allows: like a real receiver that must send more than its line can carry, they leave out whole epochs. They can
lose the fix, send wrong checksums, or fall silent. Position errors, start-up and commands are not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import datetime

from fixgw.hw_sim.aircraft import FT, KNOT, NMI, Aircraft, Value, numbers, track_and_distance
from fixgw.hw_sim.serial import Line, SerialInstrument

SENTENCES = ("RMC", "VTG", "GGA", "GSA", "GSV", "GST", "ZDA")
ARRIVAL = 0.3  # nmi


def sentence(body: str, spoiled: bool = False) -> bytes:
    """Frame `body` with its checksum (the exclusive or of its characters), or with a wrong one if `spoiled`."""
    checksum = 0
    for character in body.encode("ascii"):
        checksum ^= character
    return f"${body}*{checksum ^ 0x55 * spoiled:02X}\r\n".encode("ascii")


def _angle(degrees: float, digits: int, positive: str, negative: str) -> str:
    """``ddmm.mmmmm,N``; rounded before splitting, so that the minutes never read 60."""
    units = round(abs(degrees) * 60e5)  # hundred-thousandths of a minute
    whole, rest = divmod(units, 60 * 100_000)
    return f"{whole:0{digits}}{rest / 1e5:08.5f},{positive if degrees >= 0 else negative}"


def epoch(values: Mapping[str, Value], time: datetime, talker: str = "GP", fix: bool = True) -> list[str]:
    """The bodies of one epoch's sentences, from `values` in the units of the keys, at `time` (UTC)."""
    v = numbers(values)
    clock = time.strftime("%H%M%S.") + f"{time.microsecond // 10_000:02}"
    visible, used = int(v["GPS_SATS_VISIBLE"]), int(v["GPS_SATS_TRACKED"])
    if fix:
        position = f"{_angle(v['LAT'], 2, 'N', 'S')},{_angle(v['LONG'], 3, 'E', 'W')}"
        variation = (v["TRACK"] - v["TRACKM"] + 180.0) % 360.0 - 180.0
        east_west = f"{abs(variation):.1f},{'E' if variation >= 0 else 'W'}"
        geoid = (v["GPS_ELLIPSOID_ALT"] - v["TALT"]) * FT
        rmc = f"A,{position},{v['GS']:.2f},{v['TRACK']:.2f},{time:%d%m%y},{east_west},A"
        vtg = f"{v['TRACK']:.2f},T,{v['TRACKM']:.2f},M,{v['GS']:.2f},N,{v['GS'] * KNOT * 3.6:.2f},K,A"
        gga = f"{position},1,{used:02},1.1,{v['TALT'] * FT:.1f},M,{geoid:.1f},M,,"
        mode, precision = "3", "1.9,1.1,1.5"
        horizontal, vertical = v["GPS_ACCURACY_HORIZ"] * FT / 2**0.5, v["GPS_ACCURACY_VERTICAL"] * FT
        gst = f"7.0,,,,{horizontal:.1f},{horizontal:.1f},{vertical:.1f}"
    else:
        used = 0
        rmc, vtg = f"V,,,,,,,{time:%d%m%y},,,N", ",T,,M,,N,,K,N"
        gga = ",,,,0,00,99.9,,M,,M,,"
        mode, precision = "1", "99.9,99.9,99.9"
        gst = ",,,,,,"
    satellites = range(2, 2 + visible)
    used_list = ",".join(f"{s:02}" for s in satellites[:used]) + "," * (12 - max(1, used))
    bodies = [
        f"{talker}RMC,{clock},{rmc}",
        f"{talker}VTG,{vtg}",
        f"{talker}GGA,{clock},{gga}",
        f"{talker}GSA,A,{mode},{used_list},{precision}",
    ]
    for first in range(0, visible, 4):
        views = "".join(f",{s:02},{15 + 7 * s % 70:02},{40 * s % 360:03},{30 + s % 17}" for s in satellites[first:][:4])
        bodies.append(f"{talker}GSV,{(visible + 3) // 4},{first // 4 + 1},{visible:02}{views}")
    return [*bodies, f"{talker}GST,{clock},{gst}", f"{talker}ZDA,{clock},{time:%d,%m,%Y},00,00"]


def guidance(values: Mapping[str, Value], talker: str = "GP", guiding: bool = True) -> list[str]:
    """The bodies of a navigator's sentences on the leg, from `values` in the units of the keys.

    As with real ones, names have at most six characters, and the cross-track error at most 9.99 nmi.
    """
    if not guiding:
        return [
            f"{talker}RMB,V,,,,,,,,,,,,V,N",
            f"{talker}APB,V,V,,,N,V,V,,,,,,,,N",
            f"{talker}XTE,V,V,,,N,N",
            f"{talker}BOD,,T,,M,,",
        ]
    v = numbers(values)
    variation = v["TRACK"] - v["TRACKM"]
    name = str(values["WPNAME"])[:6]
    place = f"{_angle(v['WPLAT'], 2, 'N', 'S')},{_angle(v['WPLON'], 3, 'E', 'W')}"
    bearing, metres = track_and_distance(v["LAT"], v["LONG"], v["WPLAT"], v["WPLON"])
    miles = metres / NMI
    closing = max(0.0, v["GS"] * math.cos(math.radians(v["TRACK"] - bearing)))
    off = f"{min(abs(v['XTRACK']), 9.99):.2f},{'L' if v['XTRACK'] > 0.0 else 'R'}"  # right of the track: steer left
    course = f"{v['COURSE']:05.1f},M"
    to_go = f"{(bearing - variation) % 360.0:05.1f},M"
    arrived = "A" if miles < ARRIVAL else "V"
    return [
        f"{talker}RMB,A,{off},,{name},{place},{min(miles, 999.9):05.1f},{bearing:05.1f},{closing:05.1f},{arrived},A",
        f"{talker}APB,A,A,{off},N,{arrived},V,{course},{name},{to_go},{to_go},A",
        f"{talker}XTE,A,A,{off},N,A",
        f"{talker}BOD,{(v['COURSE'] + variation) % 360.0:05.1f},T,{course},{name},",
    ]


class Gps(SerialInstrument):
    """The receiver: an instrument of the `World`, which calls `tick`.

    `rate` is in epochs per second (1 to 10), `baud` is the line's speed (10 bits per byte), `sentences` are those to
    send. Set `fix`, `spoiled` (wrong checksums), `silent` and `hung` (it keeps sending although the
    aircraft's time stands still) at any time.
    """

    NAME = "gps"
    WHAT = "NMEA 0183 GPS receiver"
    UDP_PORT = 10110

    def __init__(
        self,
        line: Line,
        rate: float = 1.0,
        baud: int | None = None,
        talker: str = "GP",
        sentences: Collection[str] = SENTENCES,
    ) -> None:
        super().__init__(line, baud)
        self.rate = rate
        self.talker = talker
        self.sentences = sentences
        self.fix = True
        self.spoiled = False
        self.silent = False
        self.hung = False
        self._last_epoch: int | None = None

    @property
    def epochs(self) -> int:
        """Epochs sent; `skipped` are those left out because the line was still busy."""
        return self.rounds

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        bodies = epoch(aircraft.values(), aircraft.time, self.talker, self.fix)
        return [sentence(b, self.spoiled) for b in bodies if b[2:5] in self.sentences]

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Send what is due at `now`, in monotonic seconds: an epoch begins with the aircraft's second."""
        number = int(now * self.rate) if self.hung else int(aircraft.time.timestamp() * self.rate)
        frames: list[bytes] = []
        if number != self._last_epoch:
            self._last_epoch = number
            if self.busy:
                self.skipped += 1
            elif self.power and not self.silent:
                frames = self.frames(aircraft, now)
                self.rounds += 1
        self.transmit(frames, now)


class Navigator(Gps):
    """A GPS with a flight plan: it sends its position, and guidance along the leg unless `guiding` is False."""

    NAME = "navigator"
    WHAT = "NMEA 0183 GPS navigator with a flight plan"

    def __init__(self, line: Line, rate: float = 1.0, baud: int | None = None, talker: str = "GP") -> None:
        super().__init__(line, rate, baud, talker, ("RMC", "GGA"))
        self.guiding = True

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        bodies = guidance(aircraft.values(), self.talker, self.fix and self.guiding)
        return super().frames(aircraft, now) + [sentence(b, self.spoiled) for b in bodies]
