"""A virtual Dynon SkyView, with its engine monitor, on a virtual serial port.

It sends 16 rounds a second of the messages in `messages` (1 ADAHRS, 2 system, 3 engine). The thermocouples are wired as
in Dynon's harness, with four cylinders; the coolant is on general purpose input `COOLANT`. It does not know the sensors
in `failed`, a set of keys. Its angle of attack is a percentage of `STALL_ANGLE`. It has no autopilot and no
transponder.
"""

from __future__ import annotations

from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument

STALL_ANGLE = 16.0  # degrees
COOLANT = 12
NOT_WIRED = "ZZZZZZ"


def message(body: str) -> bytes:
    """Append the sum of its characters, and a line ending, to `body`."""
    raw = body.encode("ascii")
    return raw + f"{sum(raw) % 256:02X}\r\n".encode("ascii")


class SkyView(SerialInstrument):
    """The display."""

    NAME = "skyview"
    WHAT = "Dynon SkyView EFIS with its engine monitor"
    BAUD = 115200
    RATE = 16.0

    def __init__(self, line: Line, **more: Any) -> None:
        super().__init__(line, **more)
        self.messages = "123"
        self.failed: set[str] = set()
        self._values: dict[str, float] = {}

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        v = self._values = dict(aircraft.numbers())
        v["BARO"] = aircraft.qnh
        v["AOA"] *= 100.0 / STALL_ANGLE
        time = f"{aircraft.time:%H%M%S}{aircraft.time.microsecond * 16 // 1_000_000:02}"
        makers = {"1": self._adahrs, "2": self._system, "3": self._engine}
        return [message(makers[kind](time, aircraft)) for kind in self.messages]

    def _text(self, key: str, digits: int, unit: float, *, offset: float = 0.0, sign: bool = False) -> str:
        """A key's value in `unit`, with `digits` digits and perhaps a sign; as many X if it is unknown."""
        width = digits + sign
        if key in self.failed:
            return "X" * width
        most = 10**digits - 1
        number = min(max(round((self._values[key] - offset) / unit), -most if sign else 0), most)
        return f"{number:{'+' if sign else ''}0{width}}"

    def _adahrs(self, time: str, aircraft: Aircraft) -> str:
        text = self._text
        wind = round(aircraft.wind_from - aircraft.variation) % 360
        return (
            f"!11{time}"
            + text("PITCH", 3, 0.1, sign=True)
            + text("ROLL", 4, 0.1, sign=True)
            + ("XXX" if "HEAD" in self.failed else f"{round(self._values['HEAD']) % 360:03}")
            + text("IAS", 4, 0.1)
            + text("PALT", 5, 1.0, sign=True)
            + text("ROT", 3, 0.1, sign=True)
            + text("ALAT", 2, -0.01, sign=True)
            + text("ANORM", 2, 0.1, sign=True)
            + text("AOA", 2, 1.0)
            + text("VS", 3, 10.0, sign=True)
            + text("OAT", 2, 1.0, sign=True)
            + text("TAS", 4, 0.1)
            + text("BARO", 3, 0.01, offset=27.5)
            + text("DALT", 5, 1.0, sign=True)
            + f"{wind:03}{min(round(aircraft.wind_speed), 99):02}"
        )

    def _system(self, time: str, aircraft: Aircraft) -> str:
        text = self._text
        course = "XXX" if "COURSE" in self.failed else f"{round(self._values['COURSE']) % 360:03}"
        return (
            f"!22{time}"
            + "X" * 16  # bugs
            + course
            + "0001"  # the first GPS, 0.1 nautical miles
            + text("CDI", 2, 0.01, sign=True)
            + text("GSI", 2, 0.01, sign=True)
            + "00X0X+00XXXXX0+00XXXXX0+00XXXXX0"
            + "XXX" * 2
            + "X"
            + "X" * 10
        )

    def _engine(self, time: str, aircraft: Aircraft) -> str:
        text = self._text
        thermocouples = ["XXXX"] * 14
        for cylinder in range(1, 5):
            thermocouples[12 - 2 * cylinder] = text(f"CHT1{cylinder}", 3, 1.0, sign=True)
            thermocouples[13 - 2 * cylinder] = text(f"EGT1{cylinder}", 3, 1.0, sign=True)
        inputs = [NOT_WIRED] * 13
        inputs[COOLANT - 1] = text("H2OT1", 4, 0.1, sign=True) + ("X" if "H2OT1" in self.failed else "C")
        return (
            f"!32{time}"
            + text("OILP1", 3, 1.0)
            + text("OILT1", 3, 1.0, sign=True)
            + text("TACH1", 4, 1.0) * 2
            + text("MAP1", 3, 0.1)
            + text("FUELF1", 3, 0.1)
            + "000"
            + text("FUELP1", 3, 0.1)
            + text("FUELQ1", 3, 0.1)
            + text("FUELQ2", 3, 0.1)
            + text("FUELQT", 3, 0.1)
            + text("VOLT", 3, 0.1)
            + "XXX"
            + text("CURRNT", 3, 0.1, sign=True)
            + text("HOBBS1", 5, 0.1) * 2
            + "".join(thermocouples)
            + "".join(inputs)
            + "Z" * 16
            + "065X"
        )
