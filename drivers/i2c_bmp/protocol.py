"""Bosch's pressure sensors BMP085, BMP180, BMP280 and BMP388, and the air data computed from their pressure. No I/O.

Sources: data sheets BST-BMP180-DS000 (3.5), BST-BMP280-DS001 (3.11, 8.1: floating point), BST-BMP388-DS001 (9.2, 9.3).
The tests contain the examples of the first two; the BMP388's has none.
"""

from __future__ import annotations

import math
import struct
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from fixgw.kit.airdata import indicated_altitude, pressure_altitude
from fixgw.kit.update import BAD, Update

KEYS = frozenset(("AIRPRESS", "PALT", "ALT", "VS"))

# -- chips -------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """Part of a measurement: write `command`, a register and its value, if there is one; wait; read `length` bytes at
    `data`."""

    data: int
    length: int
    command: tuple[int, int] | None = None
    wait: float = 0.0


class Chip:
    """One type of sensor, with the calibration of one chip. Raises ValueError if the calibration is impossible."""

    NAME: ClassVar[str]
    #: The identification: its register and possible values.
    ID: ClassVar[tuple[int, tuple[int, ...]]]
    #: The reset: its register and command, and the seconds that it takes.
    RESET: ClassVar[tuple[int, int, float]] = (0xE0, 0xB6, 0.02)
    CALIBRATION: ClassVar[tuple[int, str]]
    #: Registers to write, in order. The last starts the measurements, and reads differently after a loss of power.
    SETUP: ClassVar[tuple[tuple[int, int], ...]] = ()
    STEPS: ClassVar[tuple[Step, ...]]

    def __init__(self, calibration: bytes) -> None:
        if len(set(calibration)) == 1:
            raise ValueError("the chip has no calibration in its memory")
        self.c = struct.unpack(self.CALIBRATION[1], calibration)

    @classmethod
    def calibration_length(cls) -> int:
        return struct.calcsize(cls.CALIBRATION[1])

    def measured(self, raw: bytes) -> tuple[float, float] | None:
        """(°C, Pa) from the bytes that the steps read; None if there is no measurement, or the formula fails. Never
        raises."""
        if len(raw) != sum(step.length for step in self.STEPS):
            return None
        try:
            return self._measured(raw)
        except ArithmeticError:
            return None

    @abstractmethod
    def _measured(self, raw: bytes) -> tuple[float, float] | None: ...


class Bmp180(Chip):
    """BMP085 and BMP180, at their highest oversampling; integer arithmetic, as in the data sheet."""

    NAME = "BMP085/BMP180"
    ID = (0xD0, (0x55,))
    CALIBRATION = (0xAA, ">hhhHHHhhhhh")
    OVERSAMPLING: ClassVar[int] = 3
    NOTHING: ClassVar[tuple[bytes, bytes]] = (b"\x80\x00", b"\x80\x00\x00")  # after power-up
    STEPS = (
        Step(0xF6, 2, (0xF4, 0x2E), 0.005),
        Step(0xF6, 3, (0xF4, 0x34 | OVERSAMPLING << 6), 0.026),
    )

    def _measured(self, raw: bytes) -> tuple[float, float] | None:
        if raw[:2] == self.NOTHING[0] or raw[2:] == self.NOTHING[1]:
            return None
        temperature = int.from_bytes(raw[:2], "big")
        pressure = int.from_bytes(raw[2:], "big") >> 8 - self.OVERSAMPLING
        tenths, pascals = self.compensate(temperature, pressure, self.OVERSAMPLING)
        return tenths / 10.0, float(pascals)

    def compensate(self, ut: int, up: int, oss: int) -> tuple[int, int]:
        """(0.1 °C, Pa); the names are the data sheet's."""
        ac1, ac2, ac3, ac4, ac5, ac6, b1, b2, _, mc, md = self.c
        x1 = (ut - ac6) * ac5 >> 15
        x2 = _quotient(mc << 11, x1 + md)
        b5 = x1 + x2
        b6 = b5 - 4000
        x3 = (b2 * (b6 * b6 >> 12) >> 11) + (ac2 * b6 >> 11)
        b3 = ((ac1 * 4 + x3 << oss) + 2) // 4
        x3 = (ac3 * b6 >> 13) + (b1 * (b6 * b6 >> 12) >> 16) + 2 >> 2
        b4 = ac4 * (x3 + 32768) >> 15
        p = _quotient((up - b3) * (50000 >> oss) * 2, b4)
        x1 = (p >> 8) * (p >> 8) * 3038 >> 16
        x2 = -7357 * p >> 16
        return b5 + 8 >> 4, p + (x1 + x2 + 3791 >> 4)


class Bmp280(Chip):
    """BMP280, and the BME280's pressure: normal mode, pressure x8, filter 4."""

    NAME = "BMP280"
    ID = (0xD0, (0x56, 0x57, 0x58, 0x60))
    CALIBRATION = (0x88, "<HhhHhhhhhhhh")
    SETUP = ((0xF5, 0x08), (0xF4, 0x33))
    STEPS = (Step(0xF7, 6),)
    NOTHING: ClassVar[int] = 0x80000

    def _measured(self, raw: bytes) -> tuple[float, float] | None:
        up, ut = int.from_bytes(raw[:3], "big") >> 4, int.from_bytes(raw[3:], "big") >> 4
        if self.NOTHING in (up, ut):
            return None
        return self.compensate(ut, up)

    def compensate(self, ut: int, up: int) -> tuple[float, float]:
        t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = self.c
        fine = (ut / 16384.0 - t1 / 1024.0) * t2 + (ut / 131072.0 - t1 / 8192.0) ** 2 * t3
        x = math.trunc(fine) / 2.0 - 64000.0
        y = (x * x * p6 / 32768.0 + x * p5 * 2.0) / 4.0 + p4 * 65536.0
        x = (1.0 + (p3 * x * x / 524288.0 + p2 * x) / 524288.0 / 32768.0) * p1
        p = (1048576.0 - up - y / 4096.0) * 6250.0 / x
        return fine / 5120.0, p + (p9 * p * p / 2147483648.0 + p * p8 / 32768.0 + p7) / 16.0


class Bmp388(Chip):
    """BMP388 and BMP390: normal mode at 50 Hz, pressure x8, filter 3."""

    NAME = "BMP388"
    ID = (0x00, (0x50, 0x60))
    RESET = (0x7E, 0xB6, 0.02)
    CALIBRATION = (0x31, "<HHbhhbbHHbbhbb")
    SETUP = ((0x1C, 0x03), (0x1D, 0x02), (0x1F, 0x04), (0x1B, 0x33))
    STEPS = (Step(0x04, 6),)
    NOTHING: ClassVar[int] = 0x800000

    def _measured(self, raw: bytes) -> tuple[float, float] | None:
        up, ut = int.from_bytes(raw[:3], "little"), int.from_bytes(raw[3:], "little")
        if self.NOTHING in (up, ut):
            return None
        return self.compensate(ut, up)

    def compensate(self, ut: int, up: int) -> tuple[float, float]:
        t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = self.c
        d = ut - t1 * 2.0**8
        t = d * t2 / 2.0**30 + d * d * t3 / 2.0**48
        sensitivity = (p1 - 2.0**14) / 2.0**20 + t * ((p2 - 2.0**14) / 2.0**29 + t * (p3 / 2.0**32 + t * p4 / 2.0**37))
        offset = p5 * 2.0**3 + t * (p6 / 2.0**6 + t * (p7 / 2.0**8 + t * p8 / 2.0**15))
        return t, offset + up * (sensitivity + up * (p9 / 2.0**48 + t * p10 / 2.0**48 + up * p11 / 2.0**65))


CHIPS: tuple[type[Chip], ...] = (Bmp180, Bmp280, Bmp388)


def _quotient(a: int, b: int) -> int:
    """a / b, truncated towards zero, as in C."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


# -- air data ----------------------------------------------------------------------------------------------------------

STANDARD_SETTING_INHG = 29.92
POSSIBLE_PA = (25_000.0, 115_000.0)  # 34,000 ft, and lower than any land
POSSIBLE_C = (-45.0, 90.0)


class AirData:
    """Turns pressures into updates. The vertical speed is smoothed over `time_constant` seconds; `clock` is
    monotonic."""

    # After longer without a pressure, or after a leap that is no climb, the vertical speed starts again.
    MAX_GAP_S = 2.0
    LEAP_FT, LEAP_FT_PER_S = 50.0, 500.0
    SETTLED = 6.0  # time constants after its start: it has 98 % of the rate of a climb

    def __init__(self, clock: Callable[[], float], time_constant: float, temperature: str = "") -> None:
        self._clock = clock
        self._tau = time_constant
        self._temperature = temperature
        self._last = float("-inf")
        self._begin(0.0, 0.0)

    def _begin(self, altitude: float, now: float) -> None:
        self._since, self._before, self._slow, self._rate = now, altitude, altitude, 0.0

    def updates(self, celsius: float, pascals: float, setting: object, good: bool = True) -> list[Update] | None:
        """Return the updates, or None if the readings are impossible. `setting` is the altimeter setting in inHg, and
        `good` says whether its reading is."""
        if not (POSSIBLE_PA[0] <= pascals <= POSSIBLE_PA[1] and POSSIBLE_C[0] <= celsius <= POSSIBLE_C[1]):
            return None
        altitude = pressure_altitude(pascals)
        inches = setting if isinstance(setting, float) and setting > 0.0 else STANDARD_SETTING_INHG
        why = "" if good and inches == setting else "the altimeter setting is not good"
        found = [
            Update("AIRPRESS", pascals),
            Update("PALT", altitude),
            Update("ALT", indicated_altitude(altitude, inches), BAD if why else 0, why),
            self._vertical_speed(altitude),
        ]
        if self._temperature:
            found.append(Update(self._temperature, celsius))
        return found

    def _vertical_speed(self, altitude: float) -> Update:
        """The rate at which the altitude leaves its own delayed value, smoothed again: the lag is twice the time
        constant. Between two pressures it climbs steadily, so a missing one does not change the rate of a climb."""
        now, last, before = self._clock(), self._last, self._before
        self._last, self._before = now, altitude
        leap = abs(altitude - before)
        if now - last > self.MAX_GAP_S or leap > self.LEAP_FT + self.LEAP_FT_PER_S * (now - last):
            self._begin(altitude, now)
        elif (passed := now - last) > 0.0:
            left = math.exp(-passed / self._tau)
            lag = (altitude - before) * self._tau / passed  # in a steady climb at the rate since the last pressure
            self._slow = altitude - lag + (self._slow - before + lag) * left
            self._rate += (60.0 * (altitude - self._slow) / self._tau - self._rate) * (1.0 - left)
        settling = now - self._since < self.SETTLED * self._tau
        return Update("VS", self._rate, BAD if settling else 0, "settling" if settling else "")
