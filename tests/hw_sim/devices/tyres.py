"""Virtual tyre sensors, as rtl_433 prints what it receives from them: a line of JSON for each wheel.

Made from rtl_433's DATA_FORMAT.md and what rtl_433 22.11 prints. The sensors send every second, and not every one to
two minutes as real ones, for benches. Set `pressures` (kPa), `temperature` (degrees Celsius), `batteries` at any time.
"""

from __future__ import annotations

import json

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument

DECODER = 275
#: The sensors' ids, by wheel.
IDS = (2018052400, 2017934177, 2017968551)


class Tyres(SerialInstrument):
    """Three wheels with GM-Aftermarket sensors. Its line is the standard output of rtl_433."""

    NAME = "tyres"
    WHAT = "rtl_433 with three tyre pressure sensors"
    BAUD = 1_000_000

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.pressures = [228.25, 226.875, 180.125]
        self.temperature = 21.0
        self.batteries = [True, True, True]

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        return [
            json.dumps(
                {
                    "time": f"{aircraft.time:%Y-%m-%d %H:%M:%S}",
                    "protocol": DECODER,
                    "model": "GM-Aftermarket",
                    "type": "TPMS",
                    "id": ident,
                    "flags": 259,
                    "learn_mode": 0,
                    "battery_ok": int(battery),
                    "pressure_kPa": pressure,
                    "temperature_C": self.temperature,
                    "mic": "CHECKSUM",
                },
                separators=(", ", " : "),
            ).encode()
            + b"\n"
            for ident, pressure, battery in zip(IDS, self.pressures, self.batteries, strict=True)
        ]
