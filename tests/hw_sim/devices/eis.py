"""A virtual Grand Rapids EIS engine monitor, model 4000/6000 or 2004, on a virtual serial port.

Its inputs: four cylinders (a 2004 shows two of them), oil, coolant, fuel flow, outside air, and `AUX` on the auxiliary
inputs. It has no airspeed option unless `air_data` is set: without it these fields are zero, as are those of the
sensors in `failed`, a set of keys. Alarms, rates of change and the second tachometer are not modelled.
"""

from __future__ import annotations

import struct
from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument

#: The keys connected to the auxiliary inputs, and their units per unit sent.
AUX = {1: ("FUELP1", 0.1), 2: ("MAP1", 0.1), 3: ("CURRNT", 1.0)}

HEADER = bytes((0xFE, 0xFF, 0xFE))


def fahrenheit(celsius: float) -> int:
    return round(celsius * 9.0 / 5.0 + 32.0)


def frame(payload: bytes) -> bytes:
    """Frame `payload`: the header before it, and the complement of the sum of its bytes after it."""
    return HEADER + payload + bytes((255 - sum(payload) % 256,))


class Eis(SerialInstrument):
    """A 4000 with four cylinders; the 6000 sends the same."""

    NAME = "eis"
    WHAT = "Grand Rapids EIS 4000/6000 engine monitor"
    BAUD = 9600
    RATE = 5.0
    MODEL = 4000

    def __init__(self, line: Line, **more: Any) -> None:
        super().__init__(line, **more)
        self.air_data = False
        #: Keys whose sensors are missing.
        self.failed: set[str] = set()

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = dict(aircraft.numbers())
        values.update(dict.fromkeys(self.failed, 0.0))
        if not self.air_data:
            values.update(IAS=0.0, ALT=0.0, VS=0.0)

        def degrees(key: str) -> int:
            return 0 if key in self.failed else fahrenheit(values[key])

        def words(*numbers: float) -> bytes:
            return b"".join(struct.pack(">H", min(max(round(number), 0), 0xFFFF)) for number in numbers)

        def byte(number: float) -> bytes:
            return struct.pack(">B", min(max(round(number), 0), 0xFF))

        def signed(number: float) -> bytes:
            return struct.pack(">b", min(max(round(number), -128), 127))

        cylinders = range(1, 3 if self.MODEL == 2004 else 5)
        unused = [0] * (0 if self.MODEL == 2004 else 2)
        aux = {n: round(values[key] / unit) for n, (key, unit) in AUX.items()}
        flow, fuel = values["FUELF1"], values["FUELQT"]
        minutes = round(fuel / flow * 60.0) if flow else 0
        seconds = int(aircraft.flight_time)
        oil_pressure = byte(values["OILP1"])

        payload = words(values["TACH1"])
        payload += words(*(degrees(f"CHT1{i}") for i in cylinders), *unused)
        payload += words(*(degrees(f"EGT1{i}") for i in cylinders), *unused)
        if self.MODEL != 2004:
            payload += words(0, 0)  # auxiliary inputs 5 and 6
        payload += words(values["IAS"], values["ALT"], values["VOLT"] * 10.0, flow * 10.0)
        payload += byte(fahrenheit(values["CAT"]))  # the box itself, behind the panel
        climb, outside = signed(values["VS"] / 100.0), signed(degrees("OAT"))
        if self.MODEL == 2004:
            payload += climb + outside + words(degrees("H2OT1"), degrees("OILT1")) + oil_pressure
            payload += words(aux[1], aux[2])
        else:
            payload += signed(degrees("OAT")) + climb + outside + words(degrees("OILT1")) + oil_pressure
            payload += words(aux[1], aux[2], aux[3], 0, degrees("H2OT1"))
        payload += words(values["HOBBS1"] * 10.0, fuel * 10.0)
        payload += bytes((seconds // 3600 % 256, seconds // 60 % 60, seconds % 60, minutes // 60 % 256, minutes % 60))
        payload += words(aircraft.qnh * 100.0, 0) + bytes(1)
        return [frame(payload)]


class Eis2004(Eis):
    """A 2004 on the same engine."""

    NAME = "eis2004"
    WHAT = "Grand Rapids EIS 2004 engine monitor"
    MODEL = 2004
