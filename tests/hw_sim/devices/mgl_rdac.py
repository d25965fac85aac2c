"""A virtual MGL Avionics RDAC on a virtual CAN bus.

Its thermocouples are CHT 1 to 4, then EGT 1 to 4. Its analog inputs follow straight lines between the ends in
`SENDERS`. Its settings, a second fuel flow and a second tachometer are not modelled.
"""

from __future__ import annotations

import struct

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import Segment, SimFrame

#: By key: the counts at two values.
SENDERS = {
    "OILT1": ((500, 0.0), (3500, 150.0)),
    "OILP1": ((400, 0.0), (3600, 100.0)),
    "FUELP1": ((400, 0.0), (3600, 15.0)),
    "H2OT1": ((500, 0.0), (3500, 150.0)),
    "FUELQ1": ((200, 0.0), (3800, 20.0)),
    "FUELQ2": ((200, 0.0), (3800, 20.0)),
}
PULSES_PER_GALLON_HOUR = 50.0  # pulses in a message for each gallon an hour
MILLIBAR_PER_INHG = 33.86389
VOLTS_PER_UNIT = 0.017428951


class Rdac(CanInstrument):
    """RDAC `number`. Senders and thermocouples in `failed`, a set of keys, are open; a failed flow meter reports an
    error."""

    NAME = "rdac"
    BITRATE = 250_000
    RATE = 5.0

    def __init__(self, segment: Segment, number: int = 1) -> None:
        super().__init__(segment)
        self.number = number
        self.failed: set[str] = set()

    def frames(self, aircraft: Aircraft, now: float) -> list[SimFrame]:
        v = aircraft.numbers()
        own = round(v["RAT"])

        def analog(key: str) -> int:
            (low, at_low), (high, at_high) = SENDERS[key]
            share = (v[key] - at_low) / (at_high - at_low)
            return 4095 if key in self.failed else min(max(round(low + share * (high - low)), 0), 4095)

        def couples(name: str) -> bytes:
            return struct.pack(
                "<4h",
                *(32767 - own if f"{name}{i}" in self.failed else round(v[f"{name}{i}"]) - own for i in (1, 2, 3, 4)),
            )

        flow = 65535 if "FUELF1" in self.failed else round(v["FUELF1"] * PULSES_PER_GALLON_HOUR)
        messages = {
            1: struct.pack("<4H", flow, 10, 65535, 0),
            2: couples("CHT1"),
            3: couples("EGT1"),
            5: struct.pack("<4H", analog("OILT1"), analog("OILP1"), 0, 0),
            6: struct.pack("<4H", analog("FUELP1"), analog("H2OT1"), analog("FUELQ1"), analog("FUELQ2")),
            7: struct.pack("<2h", own, round(v["VOLT"] / VOLTS_PER_UNIT)),
            8: struct.pack(
                "<4H", round(v["TACH1"]), 0, round(v["MAP1"] * MILLIBAR_PER_INHG), round(v["CURRNT"] * 10.0)
            ),
        }
        return [SimFrame((31 + self.number) * 16 + message, data) for message, data in messages.items()]
