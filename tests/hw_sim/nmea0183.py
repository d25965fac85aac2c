"""A virtual GPS receiver that speaks NMEA 0183 on a virtual serial port.

It sends RMC, VTG, GGA, GSA, GSV, GST and ZDA, one epoch after another, no faster than its baud rate allows: like a real
receiver that is asked for more than its line carries, it leaves whole epochs out. It can lose its fix, send wrong
checksums, or fall silent. It does not model errors of position, start-up, or commands.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import ClassVar

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft, Value
from fixgw.hw_sim.serial import Line, SerialInstrument

SENTENCES = ("RMC", "VTG", "GGA", "GSA", "GSV", "GST", "ZDA")


def sentence(body: str, spoiled: bool = False) -> bytes:
    """`body` framed, with its checksum (the exclusive or of its characters), or with a wrong one."""
    checksum = 0
    for character in body.encode("ascii"):
        checksum ^= character
    return f"${body}*{checksum ^ 0x55 * spoiled:02X}\r\n".encode("ascii")


def _angle(degrees: float, digits: int, positive: str, negative: str) -> str:
    """``ddmm.mmmmm,N``; rounded first, so that there are never 60 minutes."""
    units = round(abs(degrees) * 60e5)  # hundred-thousandths of a minute
    whole, rest = divmod(units, 60 * 100_000)
    return f"{whole:0{digits}}{rest / 1e5:08.5f},{positive if degrees >= 0 else negative}"


def epoch(values: dict[str, Value], time: datetime, talker: str = "GP", fix: bool = True) -> list[str]:
    """The bodies of one epoch's sentences, from `values` in the units of the keys, at `time` (UTC)."""
    v = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
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


class Gps(SerialInstrument):
    """The receiver: an instrument of the `World`, which calls `tick`.

    `rate` is in epochs a second (1 to 10), `baud` the line's speed (10 bits a byte), `sentences` those to send. Set
    `fix`, `spoiled` (wrong checksums) and `silent` at any time.
    """

    NAME: ClassVar[str] = "NMEA 0183 GPS"

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
        number = int(aircraft.time.timestamp() * self.rate)
        frames: list[bytes] = []
        if number != self._last_epoch:
            self._last_epoch = number
            if self.busy:
                self.skipped += 1
            elif self.power and not self.silent:
                frames = self.frames(aircraft, now)
                self.rounds += 1
        self.transmit(frames, now)
