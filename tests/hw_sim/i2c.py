"""A virtual I2C bus with the interface of smbus2, and virtual chips with the registers of the real ones.

    chip = bus(1).attach(0x77, Bmp280())
    world.attach(chip)                     # it then measures what the virtual aircraft flies through

A driver that has this module for its library (``library: fixgw.hw_sim.i2c``) finds the chip. `VirtualBus.unplug` and
`plug` pull chips out and put them back; a chip's `faults` make it misbehave. It does not model clock stretching,
arbitration, or SMBus checksums; a result is there as soon as it is asked for, unless the chip's model says otherwise.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from fixgw.hw_sim.aircraft import Aircraft, G

Vector = tuple[float, float, float]
AnyChip = TypeVar("AnyChip", bound="Chip")

# -- the bus -----------------------------------------------------------------------------------------------------------


class VirtualBus:
    """The chips on one bus, by address. Any thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.RLock()
        self._chips: dict[int, Chip] = {}
        self._unplugged: dict[int, Chip] = {}

    def attach(self, address: int, chip: AnyChip) -> AnyChip:
        """Put `chip` on the bus, in place of what was there."""
        with self.lock:
            self._chips[address] = chip
            self._unplugged.pop(address, None)
        return chip

    def unplug(self, address: int) -> None:
        """Pull the chip: nothing answers at its address. Harmless when there is none."""
        with self.lock:
            if address in self._chips:
                self._unplugged[address] = self._chips.pop(address)

    def plug(self, address: int) -> None:
        """Put the chip back, freshly powered up."""
        with self.lock:
            if address in self._unplugged:
                chip = self._chips[address] = self._unplugged.pop(address)
                chip.power_up()

    def detach(self, address: int) -> None:
        """Take the chip away for good."""
        with self.lock:
            self._chips.pop(address, None)
            self._unplugged.pop(address, None)

    def chip(self, address: int) -> Chip:
        """The chip that acknowledges `address`; OSError as the kernel has it when there is none."""
        chip = self._chips.get(address)
        if chip is None or chip.faults.refuses():
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return chip


_buses: dict[int, VirtualBus] = {}
_buses_lock = threading.Lock()


def bus(number: int) -> VirtualBus:
    """The virtual bus of this process with that number; made when it is first asked for."""
    with _buses_lock:
        return _buses.setdefault(number, VirtualBus(number))


class SMBus:
    """As smbus2.SMBus, for what drivers use of it: registers, one after another, at an address."""

    def __init__(self, bus: int | str | None = None, force: bool = False) -> None:
        self._bus: VirtualBus | None = None
        if bus is not None:
            self.open(bus)

    def open(self, bus: int | str) -> None:
        number = int(str(bus).rpartition("-")[2])
        with _buses_lock:
            found = _buses.get(number)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"/dev/i2c-{number}")
        self._bus = found

    def close(self) -> None:
        self._bus = None

    def __enter__(self) -> SMBus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _transfer(self, address: int, register: int, length: int = 0, data: Sequence[int] = ()) -> list[int]:
        if self._bus is None:
            raise TypeError("argument must be an int, or have a fileno() method.")  # as smbus2 does on a closed bus
        with self._bus.lock:
            chip = self._bus.chip(address)
            if data:
                chip.write(register, bytes(data))
            return list(chip.faults.spoil(chip.read(register, length))) if length else []

    def read_byte_data(self, i2c_addr: int, register: int, force: bool | None = None) -> int:
        return self._transfer(i2c_addr, register, 1)[0]

    def read_word_data(self, i2c_addr: int, register: int, force: bool | None = None) -> int:
        low, high = self._transfer(i2c_addr, register, 2)
        return high << 8 | low

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int, force: bool | None = None) -> list[int]:
        if length > 32:
            raise ValueError(f"Desired block length over {32} bytes")
        return self._transfer(i2c_addr, register, length)

    def write_byte_data(self, i2c_addr: int, register: int, value: int, force: bool | None = None) -> None:
        self._transfer(i2c_addr, register, data=[value])

    def write_word_data(self, i2c_addr: int, register: int, value: int, force: bool | None = None) -> None:
        self._transfer(i2c_addr, register, data=[value & 0xFF, value >> 8])

    def write_i2c_block_data(
        self, i2c_addr: int, register: int, data: Sequence[int], force: bool | None = None
    ) -> None:
        if len(data) > 32:
            raise ValueError(f"Data length cannot exceed {32} bytes")
        self._transfer(i2c_addr, register, data=data)


class Faults:
    """How a chip misbehaves; set the attributes at any time.

    `silent` never acknowledges; `refuse` is the share of transfers that it does not acknowledge; `flips` the share of
    bytes with a bit turned over; `stuck` repeats what it said last, for every register.
    """

    def __init__(self, seed: int = 0) -> None:
        self.silent = False
        self.refuse = 0.0
        self.flips = 0.0
        self.stuck = False
        self._random = Random(seed)
        #: Transfers refused and bytes spoiled so far.
        self.refused = 0
        self.spoiled = 0

    def refuses(self) -> bool:
        refused = self.silent or (self.refuse > 0.0 and self._random.random() < self.refuse)
        self.refused += refused
        return refused

    def spoil(self, data: bytes) -> bytes:
        if not self.flips:
            return data
        spoiled = bytearray(data)
        for i in range(len(spoiled)):
            if self._random.random() < self.flips:
                spoiled[i] ^= 1 << self._random.randrange(8)
                self.spoiled += 1
        return bytes(spoiled)


class Chip:
    """A chip of 256 registers, and an instrument of the `World`. Models override `power_up`, `measure`, `written`."""

    def __init__(self, seed: int = 0) -> None:
        self.registers = bytearray(256)
        self.faults = Faults(seed)
        self.random = Random(seed)
        self.power_up()

    def power_up(self) -> None:
        """The registers as they are after a reset."""

    def measure(self) -> None:
        """Bring the data registers up to date; called before every read."""

    def written(self, register: int, value: int) -> None:
        """A byte has been written to `register`."""

    def look(self, aircraft: Aircraft) -> None:
        """Take over what the aircraft does."""

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.look(aircraft)

    def close(self) -> None:
        """It stays on its bus."""

    def read(self, register: int, length: int) -> bytes:
        if not self.faults.stuck:
            self.measure()
        return bytes(self.registers[(register + i) & 0xFF] for i in range(length))

    def write(self, register: int, data: bytes) -> None:
        for i, value in enumerate(data):
            self.registers[(register + i) & 0xFF] = value
            self.written((register + i) & 0xFF, value)

    def put(self, register: int, layout: str, *values: float) -> None:
        """Numbers into the registers, rounded and clipped to what they hold."""
        clipped = []
        for letter, value in zip(layout.lstrip("<>"), values, strict=True):
            bits = 8 * struct.calcsize("<" + letter)
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if letter.islower() else (0, (1 << bits) - 1)
            clipped.append(min(max(round(value), low), high))
        data = struct.pack(layout, *clipped)
        self.registers[register : register + len(data)] = data


def solve(function: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where the monotonic `function` has the value `wanted`, by bisection."""
    rising = function(high) > function(low)
    for _ in range(60):
        middle = (low + high) / 2.0
        if (function(middle) < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


# -- air pressure ------------------------------------------------------------------------------------------------------


class Barometer(Chip):
    """What the pressure sensors have in common: set `pressure` (Pa), `temperature` (°C), and their `noise` (Pa)."""

    noise = 1.0
    case = 4.0  # K: how much warmer than the cabin

    def __init__(self, seed: int = 0) -> None:
        self.pressure = 101325.0
        self.temperature = 20.0
        super().__init__(seed)

    def look(self, aircraft: Aircraft) -> None:
        self.pressure = aircraft.pressure
        self.temperature = aircraft.cabin + self.case

    def _noisy(self) -> float:
        return self.pressure + self.random.gauss(0.0, self.noise)


class Bmp180(Barometer):
    """BMP085 and BMP180, with the calibration of the data sheet's example.

    Its raw values come from solving the data sheet's formula, in exact arithmetic, for pressure and temperature; the
    chip's own integer arithmetic differs by a few pascals.
    """

    AC1, AC2, AC3, AC4, AC5, AC6 = 408, -72, -14383, 32741, 32757, 23153
    B1, B2, MB, MC, MD = 6190, 4, -32768, -8711, 2868

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.put(0xAA, ">hhhHHHhhhhh", self.AC1, self.AC2, self.AC3, self.AC4, self.AC5, self.AC6,
                 self.B1, self.B2, self.MB, self.MC, self.MD)  # fmt: skip
        self.put(0xD0, "BB", 0x55, 0x02)
        self.registers[0xF6] = 0x80  # the result; nothing has been measured

    def written(self, register: int, value: int) -> None:
        if (register, value) == (0xE0, 0xB6):
            self.power_up()
        if register != 0xF4 or self.faults.stuck:
            return
        if value == 0x2E:
            self.put(0xF6, ">H", solve(self._celsius, self.temperature, 0, 65535))
        elif value & 0x3F == 0x34:
            oversampling = value >> 6
            raw = solve(self._pascals, self._noisy(), 0, 65535)
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
    """BMP280 (id 0x58), with the calibration of the data sheet's example; always in time with its conversions."""

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
            fine = solve(self._fine, self.temperature * 5120.0, 0, 2**20)
            self._fine_now = self._fine(fine)
            pressure = solve(self._pascals, self._noisy(), 0, 2**20)
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
    """BMP388 (id 0x50), with coefficients such as a real one has."""

    ID = 0x50
    # T1 T2 T3 P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11, as they are in the chip's memory from 0x31 on.
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
            raw = solve(self._celsius, self.temperature, 0, 2**24)
            self._data(solve(self._pascals, self._noisy(), 0, 2**24), raw)
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


# -- attitude ----------------------------------------------------------------------------------------------------------


class Bno055(Chip):
    """BNO055 with its fusion running, mounted with two of its axes (``"x"`` ... ``"-z"``) to the nose and to the sky.

    Set `roll`, `pitch`, `heading` (degrees), `force` (what accelerometers feel, g: right, forward, up) and `rates`
    (degrees a second about the same axes, right-handed), or attach it to a world. `calibration` is the register:
    system, gyroscope, accelerometer, magnetometer, two bits each. `error` is the system error code; with one, it stops.
    """

    AXES = {"x": (0, 1), "y": (1, 1), "z": (2, 1), "-x": (0, -1), "-y": (1, -1), "-z": (2, -1)}
    BOOT = 0.05  # s; the real one takes 0.65

    def __init__(self, forward: str = "y", up: str = "z", seed: int = 0) -> None:
        self.forward, self.up = forward, up
        self.roll = self.pitch = self.heading = 0.0
        self.force: Vector = (0.0, 0.0, 1.0)
        self.rates: Vector = (0.0, 0.0, 0.0)
        self.calibration = 0xFF
        self.error = 0
        self.self_test = 0x0F
        self._awake = 0.0
        super().__init__(seed)

    def look(self, aircraft: Aircraft) -> None:
        self.roll, self.pitch = aircraft.roll, aircraft.pitch
        self.heading = (aircraft.heading - aircraft.variation) % 360.0
        along = aircraft.acceleration / G + math.sin(math.radians(self.pitch))
        self.force = (0.0, along, aircraft.load_factor)
        # A turn to the right is a rotation about the vertical axis, clockwise from above.
        self.rates = tuple(-aircraft.turn_rate * u for u in self._sky())  # type: ignore[assignment]

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.registers[0x00:0x07] = bytes((0xA0, 0xFB, 0x32, 0x0F, 0x11, 0x03, 0x15))
        self.registers[0x36] = self.self_test
        self.registers[0x3B] = 0x80
        self.registers[0x3D] = 0x10
        self.registers[0x41] = 0x24

    def read(self, register: int, length: int) -> bytes:
        if time.monotonic() < self._awake:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return super().read(register, length)

    def written(self, register: int, value: int) -> None:
        if register == 0x3F and value & 0x20:
            self.power_up()
            self._awake = time.monotonic() + self.BOOT

    def _sky(self) -> Vector:
        """Which way is up, along the aircraft's axes right, forward, up."""
        roll, pitch = math.radians(self.roll), math.radians(self.pitch)
        return (-math.sin(roll) * math.cos(pitch), math.sin(pitch), math.cos(roll) * math.cos(pitch))

    def _remapped(self, vector: Vector) -> Vector:
        """A vector along the aircraft's axes, as the chip gives it: along its own, then remapped as it was told."""
        own = [0.0, 0.0, 0.0]
        nose, sky = self.AXES[self.forward], self.AXES[self.up]
        third = ({0, 1, 2} - {nose[0], sky[0]}).pop()
        # right = nose x sky
        even = (sky[0] - nose[0]) % 3 == 1
        right = (third, nose[1] * sky[1] * (1 if even else -1))
        for (axis, sign), value in zip((right, nose, sky), vector, strict=True):
            own[axis] = sign * value
        where, signs = self.registers[0x41], self.registers[0x42]
        x, y, z = (own[min(where >> 2 * i & 3, 2)] * (-1.0 if signs >> 2 - i & 1 else 1.0) for i in range(3))
        return x, y, z

    def measure(self) -> None:
        mode = self.registers[0x3D] & 0x0F
        fusing = mode in (0x08, 0x0C) and not self.error
        self.registers[0x39] = 1 if self.error else 5 if fusing else 6 if mode else 0
        self.registers[0x3A] = self.error
        self.registers[0x35] = self.calibration if fusing else 0
        if not fusing:
            self.registers[0x08:0x35] = bytes(0x2D)
            return
        noise = self.random.gauss
        force = [100.0 * G * f + noise(0.0, 3.0) for f in self._remapped(self.force)]
        field = [16.0 * 45.0 * math.cos(math.radians(self.heading + 90 * i)) + noise(0.0, 8.0) for i in range(3)]
        rates = [16.0 * r + noise(0.0, 2.0) for r in self._remapped(self.rates)]
        sky = [100.0 * G * u for u in self._remapped(self._sky())]
        self.put(0x08, "<hhh", *force)
        self.put(0x0E, "<hhh", *field)
        self.put(0x14, "<hhh", *rates)
        self.put(0x1A, "<hhh", round(16.0 * self.heading) % 5760, -16.0 * self.roll, 16.0 * self.pitch)
        self.put(0x2E, "<hhh", *sky)
        self.registers[0x34] = 30


# -- converters and batteries ------------------------------------------------------------------------------------------


class Ads1115(Chip):
    """ADS1115: four inputs in volts against ground (`volts`), one conversion at a time, of the length its rate says."""

    RANGES = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
    RATES = (8, 16, 32, 64, 128, 250, 475, 860)
    PAIRS = ((0, 1), (0, 3), (1, 3), (2, 3), (0, None), (1, None), (2, None), (3, None))

    def __init__(self, seed: int = 0) -> None:
        self.volts = [0.0, 0.0, 0.0, 0.0]
        #: Called with every tick of the world, to set `volts` from the aircraft.
        self.senders: list[Callable[[Aircraft], float]] = []
        super().__init__(seed)

    def look(self, aircraft: Aircraft) -> None:
        for i, sender in enumerate(self.senders):
            self.volts[i] = sender(aircraft)

    def power_up(self) -> None:
        self._config = 0x8583
        self._result = 0
        self._ready = 0.0

    def read(self, register: int, length: int) -> bytes:
        busy = time.monotonic() < self._ready
        word = (self._result & 0xFFFF) if register == 0 else self._config & 0x7FFF | (0 if busy else 0x8000)
        return word.to_bytes(2, "big")[:length]

    def write(self, register: int, data: bytes) -> None:
        if register != 1 or len(data) != 2:
            return
        self._config = config = int.from_bytes(data, "big")
        if config & 0x8000 and not self.faults.stuck:
            plus, minus = self.PAIRS[config >> 12 & 7]
            volts = self.volts[plus] - (self.volts[minus] if minus is not None else 0.0)
            raw = round(volts / self.RANGES[config >> 9 & 7] * 32768.0)
            self._result = min(max(raw, -32768), 32767)
            self._ready = time.monotonic() + 1.0 / self.RATES[config >> 5 & 7]


class X728(Chip):
    """The fuel gauge of an X728 UPS board (MAX17040): set `voltage` (V) and `charge` (%)."""

    def __init__(self, seed: int = 0) -> None:
        self.voltage = 4.1
        self.charge = 95.0
        super().__init__(seed)

    def measure(self) -> None:
        self.put(0x02, ">H", round(self.voltage / 0.00125) << 4)
        self.put(0x04, ">H", self.charge * 256.0)
