"""A virtual SPI bus with the interface of spidev, and a virtual MCP3008.

    chip = attach(0, 0, Mcp3008())
    chip.volts[0] = 1.65

A driver that uses this module as its library (``library: fixgw.hw_sim.spi``) finds the chip. Clock rates and the other
three SPI modes are not modelled.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from typing import Protocol, TypeVar

from fixgw.hw_sim.own import own


class SpiChip(Protocol):
    """Something with a chip select."""

    def transfer(self, data: bytes, /) -> bytes:
        """Return what appears on its output while `data` is clocked in."""


AnyChip = TypeVar("AnyChip", bound=SpiChip)
_lock = threading.RLock()


def _places() -> dict[tuple[int, int], SpiChip | bool]:
    """The chip at each chip select, or the level of the undriven line; of this process or of a rig."""
    return own("spi", dict[tuple[int, int], SpiChip | bool])


def attach(bus: int, device: int, chip: AnyChip) -> AnyChip:
    """Put `chip` at the chip select `device` of `bus`, replacing any other chip there. Any thread."""
    with _lock:
        _places()[bus, device] = chip
    return chip


def unplug(bus: int, device: int, high: bool = True) -> None:
    """Unplug the chip; the bus stays. Its line then reads high, or low as a Raspberry Pi pulls it."""
    with _lock:
        _places()[bus, device] = high


def detach(bus: int, device: int) -> None:
    """Remove the chip select: there is no such device."""
    with _lock:
        _places().pop((bus, device), None)


class SpiDev:
    """Like spidev.SpiDev, as far as drivers use it."""

    def __init__(self) -> None:
        self._place: tuple[int, int] | None = None
        self.max_speed_hz = 125_000_000
        self.mode = 0

    def open(self, bus: int, device: int) -> None:
        if (bus, device) not in _places():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._place = (bus, device)

    def close(self) -> None:
        self._place = None

    def xfer2(self, values: Sequence[int]) -> list[int]:
        if self._place is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with _lock:
            if self._place not in _places():
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            chip = _places()[self._place]
            return [0xFF * chip] * len(values) if isinstance(chip, bool) else list(chip.transfer(bytes(values)))
