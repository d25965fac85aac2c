"""A virtual Shadin air data and fuel computer on a virtual serial port.

It sends one frame a second in format Z, G or S. It does not know the sensors in `failed`, a set of keys; a failed OAT
is also reported as error 001. Wind, fuel used and a second engine are not modelled.
"""

from __future__ import annotations

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument


class Shadin(SerialInstrument):
    """The computer; `format` is the letter that begins its lines."""

    NAME = "shadin"
    WHAT = "Shadin air data and fuel computer"
    BAUD = 9600
    RATE = 1.0

    def __init__(self, line: Line, baud: int | None = None, format: str = "Z") -> None:
        super().__init__(line, baud)
        self.format = format
        self.failed: set[str] = set()

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = dict(aircraft.numbers())
        values["BARO"] = aircraft.qnh

        def digits(key: str, pattern: str, unit: float = 1.0) -> str:
            """A value in the format specification `pattern`; dashes if it is unknown."""
            known = format(values[key] / unit, pattern)
            return "".join("-" if c.isdigit() else c for c in known) if key in self.failed else known

        lines = {
            "A": digits("IAS", "03.0f"),
            "B": digits("TAS", "03.0f"),
            "C": "---",
            "D": digits("PALT", "+05.0f", 10.0),
            "E": digits("DALT", "+05.0f", 10.0),
            "F": digits("OAT", "+03.0f"),
            "G": digits("OAT", "+03.0f"),
            "H": "---",
            "I": "---",
            "J": digits("ROT", "+03.0f"),
            "K": digits("VS", "+04.0f", 10.0),
            "L": digits("HEAD", "03.0f"),
            "M": "----",
            "N": "-----",
            "O": digits("FUELF1", "04.0f", 0.1),
            "P": "-----",
            "Q": "001" if "OAT" in self.failed else "000",
        }
        if self.format != "Z":
            lines["R"] = digits("FUELQT", "06.1f")
            lines["a"] = digits("ALT", "+05.0f", 10.0)
            lines["b"] = digits("BARO", "05.2f")
        body = b"\x02" + "".join(f"{self.format}{i}{data}\r\n" for i, data in lines.items()).encode("ascii")
        identifier = "R" if self.format == "Z" else "*"
        return [body + f"{self.format}{identifier}{sum(body) % 256:03}\r\n".encode("ascii") + b"\x03"]
