"""A virtual Dynon D10A or D100 on a virtual serial port.

It sends 20 lines a second (a real one up to 64), alternately with indicated altitude and rate of turn, and with
pressure altitude and vertical speed. Its angle of attack is a percentage of `STALL_ANGLE`. Slow start-up is not
modelled.
"""

from __future__ import annotations

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft
from fixgw.hw_sim.serial import SerialInstrument

STALL_ANGLE = 16.0  # degrees


def line(body: str) -> bytes:
    """Append the sum of its characters, and a line ending, to `body`."""
    raw = body.encode("ascii")
    return raw + f"{sum(raw) % 256:02X}\r\n".encode("ascii")


def number(value: float, digits: int, signed: bool = False) -> str:
    """Format `value`, rounded, with `digits` digits, limited to what they can express."""
    most = 10**digits - 1
    whole = min(max(round(value), -most if signed else 0), most)
    return f"{whole:{f'+0{digits + 1}' if signed else f'0{digits}'}}"


class D10(SerialInstrument):
    """The display."""

    NAME = "dynon_d10"
    WHAT = "Dynon D10A or D100 EFIS"
    BAUD = 115200
    RATE = 20.0

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        v = aircraft.numbers()
        pressure = self.rounds % 2
        height = v["PALT" if pressure else "ALT"] * FT
        other = v["VS"] / 60.0 * 10.0 if pressure else v["ROT"] * 10.0
        return [
            line(
                f"{aircraft.time:%H%M%S}{aircraft.time.microsecond * 64 // 1_000_000:02}"
                + number(v["PITCH"] * 10.0, 3, signed=True)
                + number(v["ROLL"] * 10.0, 4, signed=True)
                + number(round(v["HEAD"]) % 360, 3)
                + number(v["IAS"] * KNOT * 10.0, 4)
                + number(height, 4, signed=True)
                + number(other, 3, signed=True)
                + number(-v["ALAT"] * 100.0, 2, signed=True)
                + number(v["ANORM"] * 10.0, 2, signed=True)
                + number(v["AOA"] / STALL_ANGLE * 100.0, 2)
                + f"{0x3EA0C6 | pressure:06X}"
                + "01"
            )
        ]
