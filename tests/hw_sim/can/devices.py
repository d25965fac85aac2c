"""The devices of a virtual panel, each a CAN-FIX node: `DEVICES` by name.

Each `make_outputs` says which key is sent as which parameter, and at which rate; in short:

    air       IAS TAS CAS Mach ALT PALT TALT DALT BARO VS AOA OAT, static and pitot pressure
    ahrs      PITCH ROLL YAW HEAD ROT ANORM ALAT ALONG, rates
    engine    TACH1 PROP1 MAP1 OILP1 OILT1 H2OT1 FUELP1 EGT1x CHT1x VOLT CURRNT HOBBS1 FTIME CAT
    fuel      FUELQ1 FUELQ2 FUELF1
    gps       LAT LONG GS TRACK TRACKM XTRACK COURSE, altitude, CDI and GSI in degrees, waypoint, time, date
    controls  CTLPTCH CTLROLL CTLYAW CTLCOLL CTLATP CTLFLAP CTLLBRK CTLRBRK THR1 MIX1
    panel     two encoders with eight buttons, 40 switches, the dimmer

`air` owns the altimeter setting, `gps` the selected course and `panel` the dimmer: they accept Parameter Set messages
for these.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from fixgw.hw_sim.aircraft import INHG, Aircraft, indicated_altitude
from fixgw.hw_sim.can.nodes import (
    HIGH_ALARM,
    HIGH_WARN,
    LOW_ALARM,
    LOW_WARN,
    MAX,
    MIN,
    Number,
    Output,
    View,
    VirtualNode,
)

FULL_SCALE_LOC = 10.0  # degrees of VOR deviation at full scale, CDI 1
FULL_SCALE_GS = 0.7  # degrees of glide slope deviation at full scale, GSI 1


def look(aircraft: Aircraft) -> dict[str, Any]:
    """What the devices see of the aircraft: its values by key, its clock ``UTC``, the current altimeter setting
    ``QNH`` (inHg), and ``ROLLRATE`` (degrees a second)."""
    return {**aircraft.values(), "UTC": aircraft.time, "QNH": aircraft.qnh, "ROLLRATE": aircraft.roll_rate}


def _limits(*values: float | None) -> dict[int, float]:
    """The limits of an engine parameter: Min, Max, low alarm, low warning, high warning, high alarm; None where
    unset."""
    metas = (MIN, MAX, LOW_ALARM, LOW_WARN, HIGH_WARN, HIGH_ALARM)
    return {meta: value for meta, value in zip(metas, values, strict=True) if value is not None}


def _time_of_day(view: View) -> bytes:
    time = view["UTC"]
    return struct.pack("<BBBH", time.hour, time.minute, time.second, time.microsecond // 1000)


class AirData(VirtualNode):
    """Air data of an EFIS. It uses the correct altimeter setting until another is set."""

    NAME = "Virtual EFIS air data"
    DEVICE = 0x32
    MODEL = 0x010132

    def __init__(self, id: int | None = None, serial: int | None = None) -> None:
        super().__init__(id, serial)
        #: inHg, once it has been set.
        self.setting: float | None = None

    def make_outputs(self) -> list[Output]:
        # Min, Max, Vne, Vfe, Va, Vno, Vs, Vs0, Vx, Vy
        speeds = {MIN: 0.0, MAX: 200.0, 5: 158.0, 6: 85.0, 8: 98.0, 9: 127.0, 10: 53.0, 11: 47.0, 14: 62.0, 15: 76.0}
        # Min, Max, 0 g, warning, stall
        angles = {MIN: -5.0, MAX: 20.0, 7: -3.4, 8: 12.0, 9: 15.0}
        return [
            Number(0x183, "IAS", "H", 10, rate=10, limits=speeds, alarms=(0, 5)),
            Number(0x18E, "CAS", "H", 10, rate=4),
            Number(0x18D, "TAS", "H", 10, rate=4),
            Number(0x18F, lambda v: v["TAS"] / (38.9679 * (v["OAT"] + 273.15) ** 0.5), "H", 100, rate=2),  # knots
            Number(0x184, lambda v: indicated_altitude(v["PALT"], self._setting(v)), "i", rate=10),
            Number(0x191, "PALT", "i", rate=10),
            Number(0x186, "VS", "h", rate=10, limits={MIN: -2000.0, MAX: 2000.0}),
            Number(0x182, "AOA", "h", 100, rate=10, limits=angles, alarms=(0, 9)),
            Number(0x190, self._setting, "H", 1000, rate=1),
            Number(0x404, "AIRPRESS", "H", 1000, rate=2, factor=1.0 / INHG),
            Number(0x405, lambda v: (v["AIRPRESS"] + v["DIFFAIRPRESS"]) / INHG, "H", 1000, rate=2),
            Number(0x406, "OAT", "h", 100, rate=1),
            Number(0x407, "OAT", "h", 100, rate=1),
            Number(0x408, "DALT", "i", rate=2),
            Number(0x409, "TALT", "i", rate=2),
        ]

    def _setting(self, view: View) -> float:
        setting: float = view["QNH"] if self.setting is None else self.setting
        return setting

    def set(self, id: int, index: int, value: bytes) -> bool:
        if (id, index) != (0x190, 0) or len(value) < 2:
            return False
        setting = struct.unpack_from("<H", value)[0] / 1000
        if not 20.0 <= setting <= 35.0:
            return False
        self.setting = setting
        return True


class Ahrs(VirtualNode):
    """Attitude and heading."""

    NAME = "Virtual AHRS"
    DEVICE = 0x31
    MODEL = 0x010131

    def make_outputs(self) -> list[Output]:
        g = {MIN: -1.76, MAX: 4.4}
        return [
            Number(0x180, "PITCH", "h", 100, rate=20),
            Number(0x181, "ROLL", "h", 100, rate=20),
            Number(0x189, "YAW", "h", 100, rate=20),
            Number(0x185, "HEAD", "H", 10, rate=10, circle=True),
            Number(0x18A, "ANORM", "h", 1000, rate=10, limits=g),
            Number(0x18B, "ALAT", "h", 1000, rate=10),
            Number(0x18C, "ALONG", "h", 1000, rate=10),
            Number(0x401, "ROLLRATE", "h", 10, rate=10),
            Number(0x403, "ROT", "h", 10, rate=10),
        ]


class Engine(VirtualNode):
    """Engine monitor of a four-cylinder engine and the electrical system."""

    NAME = "Virtual engine monitor"
    DEVICE = 0x40
    MODEL = 0x010140

    def make_outputs(self) -> list[Output]:
        rpm = _limits(0, 3000, None, 600, 2720, 2800)
        cht, egt = _limits(0, 300, None, 65, 230, 260), _limits(0, 1000, None, None, 850, 900)
        return [
            Number(0x200, "TACH1", "H", rate=10, limits=rpm),
            Number(0x202, "PROP1", "H", rate=10, limits=rpm),
            Number(0x21E, "MAP1", "H", 100, rate=5, limits={MIN: 0.0, MAX: 35.0}),
            Number(0x21C, "FUELP1", "H", 100, rate=5, limits=_limits(0, 15, 0.5, 1, 8, 9)),
            Number(0x220, "OILP1", "H", 100, rate=5, limits=_limits(0, 120, 25, 50, 95, 115)),
            Number(0x222, "OILT1", "H", 10, rate=2, limits=_limits(0, 140, None, 40, 110, 118)),
            Number(0x224, "H2OT1", "H", 10, rate=2, limits=_limits(0, 130, None, 40, 105, 115)),
            *(Number(0x500, f"CHT1{i + 1}", "H", 10, rate=2, index=i, limits=cht) for i in range(4)),
            *(Number(0x502, f"EGT1{i + 1}", "H", 10, rate=2, index=i, limits=egt) for i in range(4)),
            Number(0x50E, "VOLT", "H", 10, rate=2, limits=_limits(0, 16, 11.5, 12, 15, 15.5)),
            Number(0x512, "CURRNT", "H", 10, rate=2, limits=_limits(0, 60, None, None, 50, 58)),
            Number(0x520, "HOBBS1", "H", 10, rate=0.5),
            Number(0x546, "FTIME", "H", 10, rate=0.5),
            Number(0x583, "CAT", "H", 10, rate=1),
        ]


class Fuel(VirtualNode):
    """Fuel computer: two tanks and the flow. The aircraft has no third tank, so none is sent."""

    NAME = "Virtual fuel computer"
    DEVICE = 0x44
    MODEL = 0x010144

    def make_outputs(self) -> list[Output]:
        wing = _limits(0, 20, 2, 4, None, None)
        return [
            Number(0x226, "FUELQ1", "H", 100, rate=2, limits=wing),
            Number(0x227, "FUELQ2", "H", 100, rate=2, limits=wing),
            Number(0x21A, "FUELF1", "H", 100, rate=5, limits={MIN: 0.0, MAX: 20.0}),
        ]


class Gps(VirtualNode):
    """GPS navigator, including needle deviations. Its course is that of the leg until another is set."""

    NAME = "Virtual GPS navigator"
    DEVICE = 0xC1
    MODEL = 0x0101C1

    def __init__(self, id: int | None = None, serial: int | None = None) -> None:
        super().__init__(id, serial)
        #: Degrees, once it has been set.
        self.course: float | None = None

    def make_outputs(self) -> list[Output]:
        return [
            Number(0x1C3, "LAT", "f", rate=5),
            Number(0x1C4, "LONG", "f", rate=5),
            Number(0x1C5, "GS", "H", 10, rate=5),
            Number(0x1C6, "TRACK", "H", 10, rate=5, circle=True),
            Number(0x1C7, "TRACKM", "H", 10, rate=5, circle=True),
            Number(0x1C8, "XTRACK", "h", 100, rate=5),
            Number(0x1C9, lambda v: v["COURSE"] if self.course is None else self.course, "H", 10, rate=2, circle=True),
            # Unsigned: 355° is 5° to the left.
            Number(0x1C0, "CDI", "H", 10, rate=5, factor=FULL_SCALE_LOC, circle=True),
            Number(0x1C1, "GSI", "h", 100, rate=5, factor=FULL_SCALE_GS),
            Number(0x40A, "TALT", "i", rate=5),
            Output(0x480, 1, lambda v: v["WPNAME"].encode("ascii")[:5].ljust(5, b"\0")),
            Number(0x481, "WPLAT", "f", rate=1),
            Number(0x482, "WPLON", "f", rate=1),
            Output(0x580, 5, _time_of_day),
            Output(0x581, 1, lambda v: struct.pack("<HBB", v["UTC"].year, v["UTC"].month, v["UTC"].day)),
        ]

    def set(self, id: int, index: int, value: bytes) -> bool:
        if (id, index) != (0x1C9, 0) or len(value) < 2:
            return False
        course = struct.unpack_from("<H", value)[0] / 10
        if course > 360.0:
            return False
        self.course = course
        return True


class Controls(VirtualNode):
    """Sensors at the flight and engine controls."""

    NAME = "Virtual control position sensors"
    DEVICE = 0x01
    MODEL = 0x010101

    def make_outputs(self) -> list[Output]:
        signed = {
            0x124: "CTLPTCH",
            0x125: "CTLROLL",
            0x126: "CTLYAW",
            0x127: "CTLCOLL",
            0x128: "CTLATP",
            0x129: "CTLFLAP",
        }
        unsigned = {0x12A: "CTLLBRK", 0x12B: "CTLRBRK", 0x12C: "THR1", 0x130: "MIX1"}
        return [
            *(Number(id, key, "h", 100, rate=10, factor=100.0) for id, key in signed.items()),
            *(Number(id, key, "H", 100, rate=10, factor=100.0) for id, key in unsigned.items()),
        ]


class Panel(VirtualNode):
    """A box of knobs and switches. Changes are sent at once, and everything every second."""

    NAME = "Virtual panel of knobs and switches"
    DEVICE = 0xD0
    MODEL = 0x0101D0

    def __init__(self, id: int | None = None, serial: int | None = None) -> None:
        self.dimmer = 100  # %
        self._steps = [0, 0]  # turned since the last message
        self._buttons = self._said_buttons = 0
        self._switches = self._said_switches = 0
        super().__init__(id, serial)

    def make_outputs(self) -> list[Output]:
        self._knobs = Output(0x300, 1, lambda view: self._encode_knobs())
        self._bank = Output(0x308, 1, lambda view: self._encode_switches())
        return [self._knobs, self._bank, Number(0x584, lambda view: self.dimmer, "B", rate=1)]

    def turn(self, encoder: int, steps: int) -> None:
        """Turn encoder 0 or 1, clockwise positive; more than 32767 steps between two messages are lost."""
        self._steps[encoder] = max(-32768, min(self._steps[encoder] + steps, 32767))

    def press(self, button: int, down: bool = True) -> None:
        """Press or release button 0 to 7."""
        self._buttons = self._buttons & ~(1 << button) | down << button

    def switch(self, number: int, on: bool = True) -> None:
        """Set switch 0 to 39."""
        self._switches = self._switches & ~(1 << number) | on << number

    def _encode_knobs(self) -> bytes:
        dx, dy = self._steps
        self._steps = [0, 0]
        self._said_buttons = self._buttons
        return struct.pack("<hhB", dx, dy, self._buttons)

    def _encode_switches(self) -> bytes:
        self._said_switches = self._switches
        return self._switches.to_bytes(5, "little")

    def changed(self) -> list[Output]:
        changed = []
        if any(self._steps) or self._buttons != self._said_buttons:
            changed.append(self._knobs)
        if self._switches != self._said_switches:
            changed.append(self._bank)
        return changed

    def set(self, id: int, index: int, value: bytes) -> bool:
        if (id, index) != (0x584, 0) or not value or value[0] > 100:
            return False
        self.dimmer = value[0]
        return True


DEVICES: Mapping[str, type[VirtualNode]] = {
    "air": AirData,
    "ahrs": Ahrs,
    "engine": Engine,
    "fuel": Fuel,
    "gps": Gps,
    "controls": Controls,
    "panel": Panel,
}
