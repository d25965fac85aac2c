"""A virtual Arduino on USB that prints its sensors' values as lines of text.

    $ENG,2412,623,87.5,388*5A        rpm, oil pressure in tenths of a psi, oil temperature in °C, fuel sender in counts
    $ENV,OAT=12.3;CAT=20.1;VOLT=14.12;COMSTDRX1=on*2F

The fuel sender has 10 ohms when its tank of 20 gallons is empty and 180 when it is full, with a pull-up of 240 ohms;
the converter has 10 bits. A sensor in `failed` sends "nan", as printed by Arduino libraries. Faults of converters are
not modelled.
"""

from __future__ import annotations

from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.checks import CCITT
from fixgw.hw_sim.serial import Line, SerialInstrument

TANK = 20.0  # gallons
PULL_UP = 240.0  # ohms
FULL_SCALE = 1023

#: The options with which the driver `lines` decodes it.
READ_WITH: dict[str, Any] = {
    "baud": 115200,
    "checksum": "nmea-xor",
    "lines": [
        {
            "prefix": "$ENG,",
            "columns": 4,
            "fields": {
                "TACH1": {"from": 1},
                "OILP1": {"from": 2, "factor": 0.1},
                "OILT1": {"from": 3, "min": -50, "max": 200},
                "FUELQ1": {"from": 4, "curve": {"sender": {"table": "european-level", "pull_up": 240}, "scale": TANK}},
            },
        },
        {
            "prefix": "$ENV,",
            "form": "pairs",
            "separator": ";",
            "fields": {"OAT": {}, "CAT": {}, "VOLT": {}, "COMSTDRX1": {}},
        },
    ],
}


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in data:
        crc = CCITT[crc >> 8 ^ byte] ^ (crc << 8 & 0xFFFF)
    return crc


class Arduino(SerialInstrument):
    """Set `failed` to names from `rpm`, `oilp`, `oilt`, `fuel`, `OAT`, `CAT`, `VOLT`.

    `checksum` is ``none``, ``nmea-xor``, ``sum8`` or ``crc16``.
    """

    NAME = "arduino"
    WHAT = "Arduino on USB that prints its sensors as lines of text"
    BAUD = 115200
    RATE = 10.0

    def __init__(self, line: Line, baud: int | None = None, checksum: str = "nmea-xor") -> None:
        super().__init__(line, baud)
        self.checksum = checksum
        self.failed: set[str] = set()

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        v = aircraft.values()
        ohms = 10.0 + 170.0 * float(v["FUELQ1"]) / TANK
        engine = {
            "rpm": f"{v['TACH1']}",
            "oilp": f"{round(float(v['OILP1']) * 10)}",
            "oilt": f"{v['OILT1']:.2f}",
            "fuel": f"{round(FULL_SCALE * ohms / (ohms + PULL_UP))}",
        }
        environment = {
            "OAT": f"{v['OAT']:.2f}",
            "CAT": f"{v['CAT']:.2f}",
            "VOLT": f"{v['VOLT']:.2f}",
            "COMSTDRX1": "on" if v["COMSTDRX1"] else "off",
        }
        told = {name: "nan" if name in self.failed else text for name, text in (engine | environment).items()}
        return [
            self.framed("$ENG," + ",".join(told[name] for name in engine)),
            self.framed("$ENV," + ";".join(f"{name}={told[name]}" for name in environment)),
        ]

    def framed(self, text: str) -> bytes:
        data = text.encode("ascii")
        if self.checksum == "nmea-xor":
            total = 0
            for byte in data[1:]:  # the $ is not included
                total ^= byte
            text += f"*{total:02X}"
        elif self.checksum == "sum8":
            text += f"*{sum(data) % 256:02X}"
        elif self.checksum == "crc16":
            text += f"*{crc16(data):04X}"
        return text.encode("ascii") + b"\r\n"
