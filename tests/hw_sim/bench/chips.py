"""Benches of chips that the driver polls, on I2C and SPI. Each has its own virtual bus."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from msgspec.structs import fields

from fixgw.hw_sim import gpio, i2c, spi
from fixgw.hw_sim.bench.base import Bench, Subject, until
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.plugin import Options, PluginBase

#: Numbers of unused virtual buses.
numbers = count(100)
#: Reasons to refuse a whole reading; an analog input that is out of range affects only its own key.
REFUSALS = ("nothing measured", "absurd values")


class ChipBench(Bench):
    """A chip that is polled; the subject's `device` takes no arguments. `attach` and `detach` connect it."""

    CAN = frozenset({"late", "vanish", "counters"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.number = next(numbers)
        self._stranger = False
        self.device = subject.device()
        self.device.tick(self.aircraft, self.clock.now)
        self.db.write("BARO", self.aircraft.qnh)
        self._polls = 0
        self._plugged = True
        self.attach()

    def attach(self) -> None:
        """Put the chip where the driver finds it."""
        raise NotImplementedError

    def detach(self) -> None:
        """Remove it."""
        raise NotImplementedError

    def start(self) -> PluginBase:
        plugin = super().start()
        self._connected()
        return plugin

    def _connected(self) -> None:
        if self._plugged and not self._stranger:
            until(lambda: self.plugin.connected, "the driver does not find the chip")

    def plug(self) -> None:
        self.attach()
        self._plugged = True
        if self.plugin is not None:
            self._connected()

    def unplug(self) -> None:
        self.detach()
        self._plugged = False

        def noticed() -> bool:
            self.clock.now += 0.05
            return not self.plugin.connected

        if self.plugin is not None:
            until(noticed, "the driver does not notice the loss of the chip")

    def step(self) -> None:
        # Count before the clock advances: the driver may poll at once, and then not until the clock advances again.
        self._polls = self.plugin.counts["polls"] if self.plugin else 0
        super().step()

    def act(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        absent = not self.plugin or not self._plugged or self._stranger
        return absent or self.plugin.counts["polls"] > self._polls

    def half_a_frame(self) -> None:
        """A bus carries a whole transfer or none."""

    def refused(self) -> int:
        return sum(self.plugin.counts.get(name, 0) for name in (*REFUSALS, "out of range"))

    def counters_add_up(self) -> None:
        def whole() -> bool:  # unless a reading is in progress
            counts = self.plugin.counts
            return bool(counts["polls"] == sum(counts.get(name, 0) for name in ("used", "read errors", *REFUSALS)))

        until(whole, f"they do not: {self.plugin.counts}")

    def hammer(self) -> None:
        self.clock.now += 0.001
        time.sleep(0.0005)


class Refusing(i2c.Faults):
    """The chip does not acknowledge every twentieth transfer."""

    def refuses(self) -> bool:
        self.transfers = getattr(self, "transfers", 0) + 1
        self.refused += self.transfers % 20 == 0
        return self.transfers % 20 == 0


class Flipping(i2c.Faults):
    """One bit is wrong in every thirtieth answer."""

    def spoil(self, data: bytes) -> bytes:
        self.answers = getattr(self, "answers", 0) + 1
        if self.answers % 30 or not data:
            return data
        self.spoiled += 1
        place = self._random.randrange(8 * len(data))
        return bytes(byte ^ (1 << place % 8 if n == place // 8 else 0) for n, byte in enumerate(data))


class I2cBench(ChipBench):
    """A chip on I2C, at the address that the driver expects."""

    CAN = ChipBench.CAN | {"exchange", "refuse", "bits"}

    def attach(self) -> None:
        self.bus = i2c.bus(self.number)
        (self.address,) = (f.default for f in fields(self.plugin_class.Options or Options) if f.name == "address")
        self.device.power_up()
        other: i2c.Chip = Bmp280() if isinstance(self.device, Bno055) else Bno055()
        self.bus.attach(self.address, other if self._stranger else self.device)
        gpio.BANK.reset()

    def exchange(self) -> None:
        self._stranger = True

    def repeat(self) -> None:
        self.device.faults.stuck = True

    def flip_bits(self) -> None:
        """Make some answers of the chip have an undetectable wrong bit from now on."""
        self.device.faults = Flipping()

    def refuse(self) -> None:
        """Make the chip fail to acknowledge some transfers from now on."""
        self.device.faults = Refusing()

    def detach(self) -> None:
        self.bus.detach(self.address)

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.i2c", "bus": self.number, "rate": 200.0}

    def close(self) -> None:
        super().close()
        self.detach()


class SpiBench(ChipBench):
    """A chip on SPI, at chip select 0."""

    def attach(self) -> None:
        spi.attach(self.number, 0, self.device)

    def detach(self) -> None:
        spi.unplug(self.number, 0)

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.spi", "bus": self.number, "rate": 200.0}

    def close(self) -> None:
        super().close()
        spi.detach(self.number, 0)
