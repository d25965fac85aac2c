"""A virtual dump1090 that serves BaseStation text about two aircraft that circle around ours, twice a second."""

from __future__ import annotations

import math
from typing import NamedTuple

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import SerialInstrument


class Circling(NamedTuple):
    """How an aircraft circles around ours, with its distance in nautical miles."""

    address: str
    call: str
    distance: float
    feet: int
    knots: int
    period_s: float


CIRCLING = (
    Circling("40621D", "KLM1023", 12.0, 38000, 420, 600.0),
    Circling("4840D6", "SAS92", 6.0, 9000, 240, 300.0),
)


class Dump1090(SerialInstrument):
    """The program, on a line that stands in for its TCP port."""

    NAME = "dump1090"
    WHAT = "dump1090, receiver of ADS-B: BaseStation text"
    BAUD = 2_000_000  # a local connection
    RATE = 2.0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = aircraft.values()
        lat, lon = float(values["LAT"]), float(values["LONG"])
        stamp = aircraft.time.strftime("%Y/%m/%d,%H:%M:%S.000")
        lines = []
        for other in CIRCLING:
            angle = math.tau * (now / other.period_s % 1.0)
            north = lat + other.distance / 60.0 * math.cos(angle)
            east = lon + other.distance / 60.0 * math.sin(angle) / math.cos(math.radians(lat))
            track = (math.degrees(angle) + 90.0) % 360.0
            begin = f"1,1,{other.address},1,{stamp},{stamp}"
            lines += [
                f"MSG,1,{begin},{other.call:8},,,,,,,,,,,0",
                f"MSG,3,{begin},,{other.feet},,,{north:.5f},{east:.5f},,,0,0,0,0",
                f"MSG,4,{begin},,,{other.knots},{track:.0f},,,0,,,,,0",
            ]
        return [line.encode() + b"\r\n" for line in lines]
