"""Benches for chips on virtual buses, and for boards that are asked."""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import fields

from fixgw.hw_sim import gpio, i2c, spi
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import Options
from tests.bus_bench import numbers
from tests.contract.bench import Bench, Subject, until


class ChipBench(Bench):
    """A chip that is polled; the subject's device makes one. Where it goes, `plug` and `unplug` say."""

    CAN = frozenset({"late", "vanish"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.number = next(numbers)
        self.device = subject.device()
        self.db.write("BARO", self.aircraft.qnh)
        self._polls = 0
        self.attach()

    def attach(self) -> None:
        raise NotImplementedError

    def act(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)
        self._polls = self.plugin.counts["polls"] if self.plugin else 0

    def taken(self) -> bool:
        return not self.plugin or not self.plugin.connected or self.plugin.counts["polls"] > self._polls

    def half_a_frame(self) -> None:
        """A bus carries whole transfers, or none."""

    def hammer(self) -> None:
        self.clock.now += 0.001
        time.sleep(0.0005)


class I2cBench(ChipBench):
    """On I2C, at the address that the driver expects."""

    def attach(self) -> None:
        self.bus = i2c.bus(self.number)
        (self.address,) = (f.default for f in fields(self.plugin_class.Options or Options) if f.name == "address")
        self.bus.attach(self.address, self.device)
        gpio.BANK.reset()

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.i2c", "bus": self.number, "rate": 200.0}

    def unplug(self) -> None:
        self.bus.unplug(self.address)
        if self.plugin is not None:
            self.clock.now += 0.1
            until(lambda: self.plugin.counts.get("outages"), "the driver does not notice that the chip is gone")

    def plug(self) -> None:
        self.bus.plug(self.address)

    def close(self) -> None:
        super().close()
        self.bus.detach(self.address)


class SpiBench(ChipBench):
    """On SPI."""

    def attach(self) -> None:
        spi.attach(self.number, 0, self.device)

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.spi", "bus": self.number, "rate": 200.0}

    def unplug(self) -> None:
        spi.unplug(self.number, 0)
        if self.plugin is not None:
            self.clock.now += 0.1

    def plug(self) -> None:
        spi.attach(self.number, 0, self.device)

    def close(self) -> None:
        super().close()
        spi.detach(self.number, 0)


class BoardBench(Bench):
    """A board on a serial port that speaks when it is asked; the subject's device takes the port."""

    CAN = frozenset({"late", "vanish"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = subject.device(self.port)

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path}

    def act(self) -> None:
        self.device.answer(0.002)

    def unplug(self) -> None:
        self.port.unplug()
        if self.plugin is not None:
            until(lambda: not self.plugin.connected, "the driver does not notice that the board is gone")

    def plug(self) -> None:
        self.port.plug()

    def half_a_frame(self) -> None:
        self.port.write(self.device.report()[:40])

    def hammer(self) -> None:
        self.port.write(self.device.report())

    def close(self) -> None:
        super().close()
        self.device.close()
