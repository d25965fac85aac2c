"""A virtual MGL Avionics TP-3 on a virtual serial port: four inputs, each of a type of your choice.

`inputs` says what is connected: the type of the input in the instrument's numbering, the key whose value it shows, and
the units sent per unit of the key. Inputs whose key is in `failed` are switched off. Alarms are not modelled.
"""

from __future__ import annotations

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument

PRESSURE, TEMPERATURE, CURRENT, LEVEL, VOLTAGE = range(1, 6)


class Tp3(SerialInstrument):
    NAME = "tp3"
    WHAT = "MGL Avionics TP-3 with four inputs"
    BAUD = 57600
    RATE = 5.0

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.address = 1
        self.inputs = [
            (PRESSURE, "OILP1", 10.0),
            (TEMPERATURE, "OILT1", 1.0),
            (VOLTAGE, "VOLT", 10.0),
            (LEVEL, "FUELQ1", 1.0),
        ]
        self.failed: set[str] = set()

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = aircraft.values()
        types, numbers = 0, b""
        for place, (kind, key, factor) in enumerate(self.inputs):
            off = key in self.failed
            types |= (0 if off else kind) << 4 * place
            number = 0 if off else round(float(values[key]) * factor)
            numbers += number.to_bytes(2, "big", signed=True)
        payload = types.to_bytes(2, "big") + numbers
        covered = bytes((self.address, 8, len(payload))) + payload
        checksum = 0xA5
        for byte in covered:
            checksum ^= byte
        return [b"\x02" + covered + bytes((checksum,)) + b"\x03"]
