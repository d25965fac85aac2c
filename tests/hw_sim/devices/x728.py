"""The fuel gauge of a Geekworm X728 power supply, on I2C."""

from __future__ import annotations

from fixgw.hw_sim.i2c import Chip


class X728(Chip):
    """The fuel gauge of an X728 UPS board (MAX17040): set `voltage` (V) and `charge` (%)."""

    def __init__(self, seed: int = 0) -> None:
        self.voltage = 4.1
        self.charge = 95.0
        super().__init__(seed)

    def measure(self) -> None:
        self.put(0x02, ">H", round(self.voltage / 0.00125) << 4)
        self.put(0x04, ">H", self.charge * 256.0)
