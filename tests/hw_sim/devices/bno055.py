"""The Bosch BNO055 orientation sensor on I2C."""

from __future__ import annotations

import errno
import math
import os

from fixgw.hw_sim.aircraft import Aircraft, G
from fixgw.hw_sim.i2c import Chip, Vector


class Bno055(Chip):
    """BNO055 with its fusion running, mounted with two of its axes (``"x"`` ... ``"-z"``) pointing forward and up.

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
        values = aircraft.values()
        self.roll, self.pitch, self.heading = (float(values[key]) for key in ("ROLL", "PITCH", "HEAD"))
        self.force = (0.0, float(values["ALONG"]), float(values["ANORM"]))
        # A turn to the right is a rotation about the vertical axis, clockwise from above.
        turn_rate = float(values["ROT"])
        self.rates = tuple(-turn_rate * u for u in self._sky())  # type: ignore[assignment]

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.registers[0x00:0x07] = bytes((0xA0, 0xFB, 0x32, 0x0F, 0x11, 0x03, 0x15))
        self.registers[0x36] = self.self_test
        self.registers[0x3B] = 0x80
        self.registers[0x3D] = 0x10
        self.registers[0x41] = 0x24

    def read(self, register: int, length: int) -> bytes:
        if self.clock() < self._awake:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return super().read(register, length)

    def write(self, register: int, data: bytes) -> None:
        if register == 0x07 or register > 0x3A:  # the others are read-only
            super().write(register, data)

    def written(self, register: int, value: int) -> None:
        if register == 0x3F and value & 0x20:
            self.power_up()
            self._awake = self.clock() + self.BOOT

    def _sky(self) -> Vector:
        """The direction of up, along the aircraft's axes right, forward, up."""
        roll, pitch = math.radians(self.roll), math.radians(self.pitch)
        return (-math.sin(roll) * math.cos(pitch), math.sin(pitch), math.cos(roll) * math.cos(pitch))

    def _remapped(self, vector: Vector) -> Vector:
        """Convert a vector from the aircraft's axes to the chip's own, remapped as configured."""
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
