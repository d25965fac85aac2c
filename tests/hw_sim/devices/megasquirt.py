"""A virtual MegaSquirt engine computer, broadcasting its advanced real-time data on a virtual CAN bus.

It sends the groups with rpm, pressures, temperatures, throttle, voltage, the first two generic sensors, the exhaust gas
probes and the fuel flow. Its generic sensors are an oil pressure in psi and an oil temperature in °C. Ignition, mixture
and the commands of the vendor's protocol are not modelled.
"""

from __future__ import annotations

import struct

from fixgw.hw_sim.aircraft import INHG, Aircraft
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import Segment, SimFrame

CM3_IN_A_GALLON = 231 * 2.54**3  # a gallon is 231 cubic inches


def tenths_fahrenheit(celsius: float) -> int:
    return round((celsius * 1.8 + 32.0) * 10.0)


class Megasquirt(CanInstrument):
    NAME = "megasquirt"
    BITRATE = 500_000
    RATE = 20.0

    def __init__(self, segment: Segment, base: int = 0x5F0) -> None:
        super().__init__(segment)
        self.base = base

    def frames(self, aircraft: Aircraft, now: float) -> list[SimFrame]:
        v = aircraft.numbers()
        outside, kilopascal = tenths_fahrenheit(v["OAT"]), INHG / 1000.0
        exhaust = [tenths_fahrenheit(v[f"EGT1{i}"]) for i in (1, 2, 3, 4)]
        groups = {
            0: struct.pack(">4H", int(aircraft.flight_time) % 65536, 6500, 6500, round(v["TACH1"])),
            1: struct.pack(">h6B", 250, 0, 1, 140, 140, 0, 0),
            2: struct.pack(
                ">4h",
                round(v["AIRPRESS"] / 100.0),
                round(v["MAP1"] * kilopascal * 10.0),
                outside,
                tenths_fahrenheit(v["H2OT1"]),
            ),
            3: struct.pack(">4h", round(v["THR1"] * 1000.0), round(v["VOLT"] * 10.0), 140, 140),
            13: struct.pack(">4h", round(v["OILP1"] * 10.0), round(v["OILT1"] * 10.0), 0, 0),
            22: struct.pack(">4h", *exhaust),
            52: struct.pack(">4BHH", 0, 0, 0, 0, round(v["FUELF1"] * CM3_IN_A_GALLON / 60.0), 0),
        }
        return [SimFrame(self.base + group, data) for group, data in groups.items()]
