"""Benches for chips on virtual buses, and for boards that are asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import fields

from fixgw.hw_sim import gpio, i2c, spi
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.devices.ads1115 import Ads1115
from fixgw.hw_sim.devices.bmp import Bmp180, Bmp280, Bmp388
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.hw_sim.devices.mcp3008 import Mcp3008
from fixgw.hw_sim.devices.strompi import StromPi
from fixgw.hw_sim.devices.x728 import X728
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import Options, PluginBase
from tests.contract.bench import Bench, Subject, until
from tests.drivers.bus_bench import numbers

#: What a reading may be refused for; of an analog input out of range only its key suffers.
REFUSALS = ("nothing measured", "absurd values")


class ChipBench(Bench):
    """A chip that is polled; the subject's device makes one. Where it goes, `plug` and `unplug` say."""

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
        """Put the device where the driver finds it."""
        raise NotImplementedError

    def detach(self) -> None:
        """Take it away."""
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
            until(noticed, "the driver does not notice that the chip is gone")

    def act(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)
        self._polls = self.plugin.counts["polls"] if self.plugin else 0

    def taken(self) -> bool:
        absent = not self.plugin or not self._plugged or self._stranger
        return absent or self.plugin.counts["polls"] > self._polls

    def half_a_frame(self) -> None:
        """A bus carries whole transfers, or none."""

    def refused(self) -> int:
        return sum(self.plugin.counts.get(name, 0) for name in (*REFUSALS, "out of range"))

    def counters_add_up(self) -> None:
        def whole() -> bool:  # unless a reading is just going on
            counts = self.plugin.counts
            return bool(counts["polls"] == sum(counts.get(name, 0) for name in ("used", "read errors", *REFUSALS)))

        until(whole, f"they do not: {self.plugin.counts}")

    def hammer(self) -> None:
        self.clock.now += 0.001
        time.sleep(0.0005)


class Refusing(i2c.Faults):
    """Every twentieth transfer is not acknowledged."""

    def refuses(self) -> bool:
        self.transfers = getattr(self, "transfers", 0) + 1
        self.refused += self.transfers % 20 == 0
        return self.transfers % 20 == 0


class I2cBench(ChipBench):
    """On I2C, at the address that the driver expects."""

    CAN = ChipBench.CAN | {"exchange", "refuse"}

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

    def refuse(self) -> None:
        """From now on the chip does not acknowledge a transfer now and then."""
        self.device.faults = Refusing()

    def detach(self) -> None:
        self.bus.detach(self.address)

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.i2c", "bus": self.number, "rate": 200.0}

    def close(self) -> None:
        super().close()
        self.detach()


class SpiBench(ChipBench):
    """On SPI."""

    def attach(self) -> None:
        spi.attach(self.number, 0, self.device)

    def detach(self) -> None:
        spi.unplug(self.number, 0)

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.spi", "bus": self.number, "rate": 200.0}

    def close(self) -> None:
        super().close()
        spi.detach(self.number, 0)


class BoardBench(Bench):
    """A board on a serial port that speaks when it is asked; the subject's device takes the port."""

    CAN = frozenset({"late", "vanish", "counters", "silence"})

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

    def silence(self) -> None:
        self.device.silent = True

    def speak(self) -> None:
        self.device.silent = False

    def half_a_frame(self) -> None:
        self.port.write(self.device.report()[:40])

    def hammer(self) -> None:
        self.port.write(self.device.report())

    def close(self) -> None:
        super().close()
        self.device.close()


def chip(driver: str, device: Callable[..., Any], keys: str, **more: object) -> Subject:
    bench = SpiBench if driver.startswith("spi_") else I2cBench
    return Subject(driver, bench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


def senders(chip: Any) -> Any:
    """A converter with what is wired to its inputs, as `CHANNELS` has it."""

    def sender(key: str, factor: float) -> Callable[[Aircraft], float]:
        return lambda aircraft: float(aircraft.values()[key]) / factor

    chip.senders += (sender("OILP1", 50.0), sender("VOLT", 10.0))
    return chip


#: No sender in order gives more than 3 volts.
CHANNELS = [
    {"input": "0", "key": "OILP1", "curve": {"linear": {"factor": 50.0}, "limits": [0.0, 3.0]}},
    {"input": "1", "key": "VOLT", "curve": {"linear": {"factor": 10.0}}},
]


CHIPS: tuple[Subject, ...] = (
    chip(
        "i2c_ads1115",
        lambda: senders(Ads1115()),
        "OILP1 VOLT",
        options={"conversions": 860, "channels": CHANNELS},
        absurd={"OILP1": 160.0},
    ),
    *(
        chip(
            "i2c_bmp",
            device,
            "AIRPRESS PALT ALT",
            options={"vs_time": 0.1},
            within={"AIRPRESS": 15.0, "PALT": 6.0, "ALT": 8.0},
            absurd={"AIRPRESS": 15_000.0},
            repeats=True,
            name=f"i2c_bmp {device.__name__}",
        )
        for device in (Bmp180, Bmp280, Bmp388)
    ),
    chip(
        "i2c_bno055",
        Bno055,
        "ROLL PITCH HEAD ROT ANORM ALONG ALAT",
        within={"ROLL": 0.2, "PITCH": 0.2, "HEAD": 0.1, "ROT": 0.6, "ANORM": 0.03, "ALONG": 0.03, "ALAT": 0.03},
        truth={"ALAT": 0.0},
        absurd={"ANORM": 30.0},
        repeats=True,
    ),
    chip(
        "spi_mcp3008",
        lambda: senders(Mcp3008()),
        "OILP1 VOLT",
        options={"channels": CHANNELS},
        within={"OILP1": 0.4, "VOLT": 0.1},
        absurd={"OILP1": 160.0},
    ),
    Subject(
        "strompi",
        BoardBench,
        ("BAT_VOLTAGE", "BAT_REMAINING", "BAT_CHARGING", "POWER_FAIL"),
        StromPi,
        truth={"BAT_VOLTAGE": 3.31, "BAT_REMAINING": 100, "BAT_CHARGING": False, "POWER_FAIL": False},
        absurd={"voltage": 90.0},
    ),
    chip(
        "ups_x728",
        X728,
        "BAT_VOLTAGE BAT_REMAINING BAT_CHARGING POWER_FAIL",
        options={"pins": "fixgw.hw_sim.gpio"},
        truth={"BAT_VOLTAGE": 4.1, "BAT_REMAINING": 95, "BAT_CHARGING": True, "POWER_FAIL": False},
        absurd={"voltage": 1.0},
    ),
)
