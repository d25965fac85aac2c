"""The bench of the pins' driver, and of others that look at the clock: what they do is not sent, but seen."""

from __future__ import annotations

from typing import Any

from fixgw.hw_sim import gpio
from fixgw.hw_sim.panel import KNOBS, Panel
from fixgw.plugin import PluginBase
from tests.contract.bench import Bench, Subject, until


class LookedAtBench(Bench):
    """A step is over when the driver has been round twice since the clock moved."""

    CAN = frozenset({"late", "vanish"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._there = True
        self._alive: Any = None
        self._rounds = 0

    def start(self) -> PluginBase:
        plugin = super().start()
        plugin.poll_timeout = 0.002  # type: ignore[attr-defined]
        if self._there:
            until(lambda: self.plugin.connected, "the driver does not open the device")
        return plugin

    def act(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)
        self._rounds = 0

    def taken(self) -> bool:
        if self.plugin is None or not self.plugin.connected:
            return True
        self._rounds += self.plugin.alive != self._alive
        self._alive = self.plugin.alive
        return self._rounds > 2

    def half_a_frame(self) -> None:
        """There is none."""

    def hammer(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)

    def pull(self) -> None:
        raise NotImplementedError

    def unplug(self) -> None:
        self.pull()
        self._there = False
        for _ in range(400):  # the driver notices when it is time to do something
            if self.plugin is None or not self.plugin.connected:
                return
            self.step()
        until(lambda: not self.plugin.connected, "the driver does not notice that the device is gone")


class PinBench(LookedAtBench):
    """The panel on virtual pins."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        gpio.BANK.reset()
        self.device = Panel()

    def options(self) -> dict[str, Any]:
        return {"library": "fixgw.hw_sim.gpio"}

    def act(self) -> None:
        super().act()
        gpio.BANK.flush()

    def half_a_frame(self) -> None:
        """A knob between two detents."""
        gpio.BANK.press(KNOBS[0].a)

    def hammer(self) -> None:
        self.device.turn(0, 10)
        super().hammer()

    def pull(self) -> None:
        gpio.BANK.unplug()

    def plug(self) -> None:
        gpio.BANK.release(KNOBS[0].a)
        gpio.BANK.plug()
        until(lambda: self.plugin.connected, "the driver does not open the chip again")

    def close(self) -> None:
        super().close()
        gpio.BANK.reset()
