"""A virtual SPI bus with the interface of spidev, and a virtual MCP3008.

    chip = attach(0, 0, Mcp3008())
    chip.volts[0] = 1.65

A driver that has this module for its library (``library: fixgw.hw_sim.spi``) finds the chip. It does not model clock
rates or the other three SPI modes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from fixgw.hw_sim.aircraft import Aircraft


class SpiChip(Protocol):
    """Something with a chip select."""

    def transfer(self, data: bytes, /) -> bytes:
        """What it puts on its output while `data` is clocked in."""


AnyChip = TypeVar("AnyChip", bound=SpiChip)
_lock = threading.RLock()
#: What is at each chip select: a chip, or the level of a line that nobody holds.
_places: dict[tuple[int, int], SpiChip | bool] = {}


def attach(bus: int, device: int, chip: AnyChip) -> AnyChip:
    """Put `chip` at the chip select `device` of `bus`, in place of what was there. Any thread."""
    with _lock:
        _places[bus, device] = chip
    return chip


def unplug(bus: int, device: int, high: bool = True) -> None:
    """Pull the chip, the bus stays: its line is high from then on, or low, as a Raspberry Pi pulls it."""
    with _lock:
        _places[bus, device] = high


def detach(bus: int, device: int) -> None:
    """Take the chip select away: there is no such device."""
    with _lock:
        _places.pop((bus, device), None)


class SpiDev:
    """As spidev.SpiDev, for what drivers use of it."""

    def __init__(self) -> None:
        self._place: tuple[int, int] | None = None
        self.max_speed_hz = 125_000_000
        self.mode = 0

    def open(self, bus: int, device: int) -> None:
        if (bus, device) not in _places:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._place = (bus, device)

    def close(self) -> None:
        self._place = None

    def xfer2(self, values: Sequence[int]) -> list[int]:
        if self._place is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with _lock:
            if self._place not in _places:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            chip = _places[self._place]
            return [0xFF * chip] * len(values) if isinstance(chip, bool) else list(chip.transfer(bytes(values)))


class Mcp3008:
    """Eight inputs in volts (`volts`), measured against `reference`. Speaks bits, as the real one does."""

    def __init__(self, reference: float = 3.3) -> None:
        self.reference = reference
        self.volts = [0.0] * 8
        #: Called with every tick of the world, to set the first of the `volts` from the aircraft.
        self.senders: list[Callable[[Aircraft], float]] = []

    def tick(self, aircraft: Aircraft, now: float) -> None:
        for i, sender in enumerate(self.senders):
            self.volts[i] = sender(aircraft)

    def close(self) -> None:
        """It stays on its bus."""

    def transfer(self, data: bytes) -> bytes:
        heard = "".join(f"{byte:08b}" for byte in data)
        start = heard.find("1")
        command = heard[start + 1 : start + 5]
        if start < 0 or len(command) < 4:
            return b"\xff" * len(data)
        number = int(command[1:], 2)
        volts = self.volts[number] - (0.0 if command[0] == "1" else self.volts[number ^ 1])
        counts = max(0, min(int(volts / self.reference * 1024.0), 1023))
        # One clock to sample, a null bit, the result; nobody drives the line before.
        said = ("1" * (start + 6) + "0" + f"{counts:010b}" + "0" * len(heard))[: len(heard)]
        return int(said, 2).to_bytes(len(data), "big")
