"""The ADS1115 analog-to-digital converter on I2C."""

from __future__ import annotations

from collections.abc import Callable

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.i2c import Chip


class Ads1115(Chip):
    """ADS1115: four inputs in volts to ground (`volts`), one conversion at a time, as long as its rate says."""

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
        busy = self.clock() < self._ready
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
            self._ready = self.clock() + 1.0 / self.RATES[config >> 5 & 7]
