"""A virtual flight simulator that sends lines of text to tablets, as X-Plane does."""

from __future__ import annotations

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft
from fixgw.hw_sim.devices.stratux import OTHERS
from fixgw.hw_sim.serial import Line, SerialInstrument

RATE_HZ = 10


class Xgps(SerialInstrument):
    """The simulator. Add `pitch_offset` to its pitch to make it absurd."""

    NAME = "xgps"
    WHAT = "flight simulator that sends lines of text: XGPS, XATT, XTRAFFIC"
    BAUD = 115200
    UDP_PORT = 49002
    RATE = float(RATE_HZ)
    CYCLE = RATE_HZ
    WHO = "X-Plane"

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.failed: set[str] = set()
        self.pitch_offset = 0.0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = aircraft.numbers()
        heading = (values["HEAD"] + aircraft.variation) % 360.0
        angles = heading, values["PITCH"] + self.pitch_offset, values["ROLL"], *[0.0] * 9
        lines = ["XATT" + ",".join([self.WHO, *(f"{angle:.1f}" for angle in angles)])]
        if self.rounds % RATE_HZ == 0:
            metres, mps = values["TALT"] * FT, values["GS"] * KNOT
            place = f"{values['LONG']:.5f},{values['LAT']:.5f}"
            lines.append(f"XGPS{self.WHO},{place},{metres:.1f},{values['TRACK']:.2f},{mps:.2f}")
            for number, other in enumerate(OTHERS, 1):
                there = f"{values['LAT'] + other.north / 60:.5f},{values['LONG']:.5f}"
                flight = f"{values['TALT'] + other.above_ft:.1f},{other.climb_fpm},1,{other.track:.1f},{other.knots}"
                lines.append(f"XTRAFFIC{self.WHO},{number},{there},{flight},{other.call}")
        return [line.encode() + b"\n" for line in lines]
