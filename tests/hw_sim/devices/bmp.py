"""Bosch pressure sensors on I2C: BMP085 and BMP180, BMP280, BMP388."""

from __future__ import annotations

from collections.abc import Callable

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.i2c import Chip


def solve(function: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Find where the monotonic `function` has the value `wanted`, by bisection."""
    rising = function(high) > function(low)
    for _ in range(60):
        middle = (low + high) / 2.0
        if (function(middle) < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


class Barometer(Chip):
    """The base of the pressure sensors: set `pressure` (Pa), `temperature` (°C), and `noise` (Pa).

    It converts more slowly than it is read: `READS` reads find the same noise.
    """

    READS = 8
    noise = 1.0
    case = 4.0  # K: warmer than the cabin

    def __init__(self, seed: int = 0) -> None:
        self.pressure = 101325.0
        self.temperature = 20.0
        self._reads, self._wobble = 0, 0.0
        self._solved: dict[str, tuple[tuple[float, ...], float]] = {}
        super().__init__(seed)

    def look(self, aircraft: Aircraft) -> None:
        values = aircraft.values()
        self.pressure = float(values["AIRPRESS"])
        self.temperature = float(values["CAT"]) + self.case

    def solve(self, function: Callable[[float], float], wanted: float, high: float) -> float:
        """`solve` from 0 to `high`, for a `function` that depends on nothing but the `temperature`. A chip is read
        several times while nothing changes."""
        given, name = (wanted, self.temperature), function.__name__
        known = self._solved.get(name)
        if known is None or known[0] != given:
            known = self._solved[name] = given, solve(function, wanted, 0, high)
        return known[1]

    def _noisy(self) -> float:
        if self._reads % self.READS == 0:
            self._wobble = self.random.gauss(0.0, self.noise)
        self._reads += 1
        return self.pressure + self._wobble


class Bmp180(Barometer):
    """BMP085 and BMP180, with the calibration of the data sheet's example.

    Its raw values solve the data sheet's formula, in exact arithmetic, for pressure and temperature; the
    chip's own integer arithmetic differs by a few pascals.
    """

    AC1, AC2, AC3, AC4, AC5, AC6 = 408, -72, -14383, 32741, 32757, 23153
    B1, B2, MB, MC, MD = 6190, 4, -32768, -8711, 2868

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.put(0xAA, ">hhhHHHhhhhh", self.AC1, self.AC2, self.AC3, self.AC4, self.AC5, self.AC6,
                 self.B1, self.B2, self.MB, self.MC, self.MD)  # fmt: skip
        self.put(0xD0, "BB", 0x55, 0x02)
        self.registers[0xF6] = 0x80  # the result: nothing has been measured

    def written(self, register: int, value: int) -> None:
        if (register, value) == (0xE0, 0xB6):
            self.power_up()
        if register != 0xF4 or self.faults.stuck:
            return
        if value == 0x2E:
            self.put(0xF6, ">H", self.solve(self._celsius, self.temperature, 65535))
        elif value & 0x3F == 0x34:
            oversampling = value >> 6
            raw = self.solve(self._pascals, self._noisy(), 65535)
            self.registers[0xF6:0xF9] = (round(raw * 2**oversampling) << 8 - oversampling).to_bytes(3, "big")

    def _b5(self, raw: float) -> float:
        x1 = (raw - self.AC6) * self.AC5 / 2**15
        return x1 + self.MC * 2**11 / (x1 + self.MD)

    def _celsius(self, raw: float) -> float:
        return self._b5(raw) / 160.0

    def _pascals(self, raw: float) -> float:
        b6 = self.temperature * 160.0 - 4000.0
        b3 = self.AC1 + (self.B2 * b6 * b6 / 2**12 + self.AC2 * b6) / 2**13
        b4 = self.AC4 * (1.0 + (self.AC3 * b6 / 2**13 + self.B1 * b6 * b6 / 2**28) / 2**17)
        p = (raw - b3) * 100000.0 / b4
        return p + (3038.0 * (p / 2**8) ** 2 / 2**16 - 7357.0 * p / 2**16 + 3791.0) / 2**4


class Bmp280(Barometer):
    """BMP280 (id 0x58), with the calibration of the data sheet's example; its conversions are always ready in time."""

    ID = 0x58
    T1, T2, T3 = 27504, 26435, -1000
    P1, P2, P3, P4, P5, P6, P7, P8, P9 = 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.put(0x88, "<Hhh", self.T1, self.T2, self.T3)
        self.put(0x8E, "<Hhhhhhhhh", self.P1, self.P2, self.P3, self.P4, self.P5, self.P6, self.P7, self.P8, self.P9)
        self.registers[0xD0] = self.ID
        self._data(0x80000, 0x80000)  # nothing has been measured

    def written(self, register: int, value: int) -> None:
        if (register, value) == (0xE0, 0xB6):
            self.power_up()

    def measure(self) -> None:
        control = self.registers[0xF4]
        if control & 3:
            fine = self.solve(self._fine, self.temperature * 5120.0, 2**20)
            self._fine_now = self._fine(fine)
            pressure = self.solve(self._pascals, self._noisy(), 2**20)
            self._data(round(pressure) if control >> 2 & 7 else 0x80000, round(fine) if control >> 5 else 0x80000)

    def _data(self, pressure: int, temperature: int) -> None:
        self.registers[0xF7:0xFD] = (pressure << 4).to_bytes(3, "big") + (temperature << 4).to_bytes(3, "big")

    def _fine(self, raw: float) -> float:
        first = raw / 2**14 - self.T1 / 2**10
        return first * self.T2 + (first / 8.0) ** 2 * self.T3

    def _pascals(self, raw: float) -> float:
        t = self._fine_now / 2.0 - 64000.0
        offset = (t * t * self.P6 / 2**15 + t * self.P5 * 2.0) / 4.0 + self.P4 * 2.0**16
        slope = (1.0 + (self.P3 * t * t / 2**19 + self.P2 * t) / 2**19 / 2**15) * self.P1
        p = (2**20 - raw - offset / 2**12) * 6250.0 / slope
        return p + (self.P9 * p * p / 2**31 + p * self.P8 / 2**15 + self.P7) / 16.0


class Bmp388(Barometer):
    """BMP388 (id 0x50), with coefficients typical of a real one."""

    ID = 0x50
    # T1 T2 T3 P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11, as in the chip's memory from 0x31.
    LAYOUT = "<HHbhhbbHHbbhbb"
    COEFFICIENTS = (27543, 18931, -10, 1238, -2300, 35, 0, 24795, 29936, 3, -8, 16404, 19, -60)

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.put(0x31, self.LAYOUT, *self.COEFFICIENTS)
        self.registers[0x00] = self.ID
        self.registers[0x03] = 0x10  # ready for commands
        self._data(0x800000, 0x800000)

    def written(self, register: int, value: int) -> None:
        if (register, value) == (0x7E, 0xB6):
            self.power_up()

    def measure(self) -> None:
        if self.registers[0x1B] & 0x33 == 0x33:
            raw = self.solve(self._celsius, self.temperature, 2**24)
            self._data(self.solve(self._pascals, self._noisy(), 2**24), raw)
            self.registers[0x03] |= 0x60

    def _data(self, pressure: float, temperature: float) -> None:
        self.registers[0x04:0x0A] = round(pressure).to_bytes(3, "little") + round(temperature).to_bytes(3, "little")

    def _celsius(self, raw: float) -> float:
        t1, t2, t3 = self.COEFFICIENTS[:3]
        above = raw - t1 * 256.0
        return above * t2 / 2**30 + above**2 * t3 / 2**48

    def _pascals(self, raw: float) -> float:
        p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = self.COEFFICIENTS[3:]
        t = self.temperature
        offset = p5 * 8.0 + p6 / 2**6 * t + p7 / 2**8 * t**2 + p8 / 2**15 * t**3
        slope = (p1 - 2**14) / 2**20 + (p2 - 2**14) / 2**29 * t + p3 / 2**32 * t**2 + p4 / 2**37 * t**3
        return offset + raw * slope + raw**2 * (p9 / 2**48 + p10 / 2**48 * t) + raw**3 * p11 / 2**65
