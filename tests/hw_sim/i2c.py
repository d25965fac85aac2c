"""A virtual I2C bus with the interface of smbus2, and virtual chips with the registers of the real ones.

    chip = bus(1).attach(0x77, Bmp280())
    world.attach(chip)                     # it then measures the air around the virtual aircraft

A driver that uses this module as its library (``library: fixgw.hw_sim.i2c``) finds the chip. `VirtualBus.unplug` and
`plug` pull chips out and put them back; a chip's `faults` make it misbehave. Clock stretching, arbitration and SMBus
checksums are not modelled; a result is ready as soon as it is requested, unless the chip's model delays it.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.own import own

Vector = tuple[float, float, float]
AnyChip = TypeVar("AnyChip", bound="Chip")


class VirtualBus:
    """The chips on one bus, by address. Any thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.RLock()
        self._chips: dict[int, Chip] = {}
        self._unplugged: dict[int, Chip] = {}

    def attach(self, address: int, chip: AnyChip) -> AnyChip:
        """Put `chip` on the bus, replacing any chip at that address."""
        with self.lock:
            self._chips[address] = chip
            self._unplugged.pop(address, None)
        return chip

    def unplug(self, address: int) -> None:
        """Unplug the chip: nothing answers at its address. Harmless if there is none."""
        with self.lock:
            if address in self._chips:
                self._unplugged[address] = self._chips.pop(address)

    def plug(self, address: int) -> None:
        """Plug the chip in again, freshly powered up."""
        with self.lock:
            if address in self._unplugged:
                chip = self._chips[address] = self._unplugged.pop(address)
                chip.power_up()

    def detach(self, address: int) -> None:
        """Remove the chip for good."""
        with self.lock:
            self._chips.pop(address, None)
            self._unplugged.pop(address, None)

    def chip(self, address: int) -> Chip:
        """The chip that acknowledges `address`. Raises OSError, as the kernel does, if there is none."""
        chip = self._chips.get(address)
        if chip is None or chip.faults.refuses():
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return chip


_buses_lock = threading.Lock()


def _buses() -> dict[int, VirtualBus]:
    return own("i2c", dict[int, VirtualBus])


def bus(number: int) -> VirtualBus:
    """The virtual bus with that number, of this process or of a rig; created on first use."""
    with _buses_lock:
        return _buses().setdefault(number, VirtualBus(number))


class SMBus:
    """Like smbus2.SMBus, as far as drivers use it: consecutive registers at an address."""

    def __init__(self, bus: int | str | None = None, force: bool = False) -> None:
        self._bus: VirtualBus | None = None
        if bus is not None:
            self.open(bus)

    def open(self, bus: int | str) -> None:
        number = int(str(bus).rpartition("-")[2])
        with _buses_lock:
            found = _buses().get(number)
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

    `silent`: it never acknowledges; `refuse`: the share of transfers that it does not acknowledge; `flips`: the share
    of bytes with a flipped bit; `stuck`: it repeats its last answer for every register.
    """

    def __init__(self, seed: int = 0) -> None:
        self.silent = False
        self.refuse = 0.0
        self.flips = 0.0
        self.stuck = False
        self._random = Random(seed)
        #: Transfers refused and bytes corrupted so far.
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
    """A chip of 256 registers, and an instrument of the `World`. Models override `power_up`, `measure` and
    `written`."""

    def __init__(self, seed: int = 0) -> None:
        self.registers = bytearray(256)
        #: Returns monotonic seconds.
        self.clock: Callable[[], float] = time.monotonic
        self.faults = Faults(seed)
        self.random = Random(seed)
        self.power_up()

    def power_up(self) -> None:
        """Set the registers as after a reset."""

    def measure(self) -> None:
        """Bring the data registers up to date; called before every read."""

    def written(self, register: int, value: int) -> None:
        """A byte has been written to `register`."""

    def look(self, aircraft: Aircraft) -> None:
        """Take over the state of the aircraft."""

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.look(aircraft)

    def close(self) -> None:
        """Does nothing: the chip stays on its bus."""

    def read(self, register: int, length: int) -> bytes:
        if not self.faults.stuck:
            self.measure()
        return bytes(self.registers[(register + i) & 0xFF] for i in range(length))

    def write(self, register: int, data: bytes) -> None:
        for i, value in enumerate(data):
            self.registers[(register + i) & 0xFF] = value
            self.written((register + i) & 0xFF, value)

    def put(self, register: int, layout: str, *values: float) -> None:
        """Write numbers to the registers, rounded and clipped to their range."""
        clipped = []
        for letter, value in zip(layout.lstrip("<>"), values, strict=True):
            bits = 8 * struct.calcsize("<" + letter)
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if letter.islower() else (0, (1 << bits) - 1)
            clipped.append(min(max(round(value), low), high))
        data = struct.pack(layout, *clipped)
        self.registers[register : register + len(data)] = data
