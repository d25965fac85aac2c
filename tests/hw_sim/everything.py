"""One of each virtual device, in addition to the small bench, for `fixgw demo --everything`.

Serial instruments are on ports in the bench's directory, each under its name, whichever there are in
`fixgw.hw_sim.devices`. Each CAN instrument has its own slcan adapter, because CAN-FIX uses the same
identifiers; ``can1`` is the far side of a CAN bridge; the chips are on the virtual buses `I2C` and SPI 0. Programs on
the network have an address of this computer to themselves, `own_host`, and their usual ports.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixgw.hw_sim import i2c, spi
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import Segment
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.devices import can_instruments, instruments, network_instruments
from fixgw.hw_sim.devices.ads1115 import Ads1115
from fixgw.hw_sim.devices.autopilot import Autopilot
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.hw_sim.devices.mcp3008 import Mcp3008
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.devices.tablet import Tablet
from fixgw.hw_sim.devices.x728 import X728
from fixgw.hw_sim.faults import Fault
from fixgw.hw_sim.network import own_host
from fixgw.hw_sim.pty import VirtualPort

log = logging.getLogger(__name__)

I2C = 1
#: Where a tablet announces itself to all gateways of this computer.
LOOPBACK_BROADCAST = ("127.255.255.255", 63093)
#: Devices that the small bench already has, and another model of one of them.
ALREADY = ("gps", "eis", "eis2004")
SERIAL = tuple(name for name in instruments() if name not in ALREADY)
CHIPS: dict[str, tuple[int, type[i2c.Chip]]] = {
    "bno055": (0x28, Bno055),
    "x728": (0x36, X728),
    "ads1115": (0x48, Ads1115),
    "bmp280": (0x76, Bmp280),
}
#: The ports to which programs send what nobody asks for.
SEND_TO = {"fgfs": 5500}
#: The levers wired to the converters, 0.1 to 3.1 V each.
LEVERS: tuple[Callable[[Aircraft], float], ...] = (
    lambda aircraft: 0.1 + 3.0 * aircraft.throttle,
    lambda aircraft: 0.1 + 3.0 * aircraft.mixture,
)


class Plugged:
    """A device as an instrument that can be unplugged: `unplug` and `plug` say how, `close` removes it."""

    def __init__(
        self,
        device: Any,
        unplug: Callable[[], object],
        plug: Callable[[], object],
        *closing: Callable[[], object],
    ) -> None:
        self.device = device
        self.unplug = unplug
        self.plug = plug
        self._closing = closing

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.device.tick(aircraft, now)

    def begin(self, fault: Fault) -> None:
        fault.begin(self)
        if isinstance(self.device, CanInstrument):
            self.device.begin(fault)

    def end(self, fault: Fault) -> None:
        if isinstance(self.device, CanInstrument):
            self.device.end(fault)
        fault.end(self)

    def close(self) -> None:
        for close in self._closing:
            close()


def devices(directory: Path) -> dict[str, Any]:
    """The instruments, by name, for a world to attach and a scenario to disturb."""

    def port(name: str) -> VirtualPort:
        return VirtualPort(str(directory / name))

    made: dict[str, Any] = {name: instruments()[name](port(name)) for name in SERIAL}
    receiver = directory / "rtl_433"  # in place of the real one: prints what it receives from the tyres
    receiver.write_text(f"#!/bin/sh\nexec cat {directory}/tyres\n")
    receiver.chmod(0o755)
    made["raw"] = Gps(port("raw"))  # behind the serial bridge
    listening = port("autopilot")
    made["autopilot"] = Plugged(Autopilot(listening), listening.unplug, listening.plug, listening.close)
    tablet = Tablet(LOOPBACK_BROADCAST)
    made["tablet"] = Plugged(tablet, tablet.unplug, tablet.plug, tablet.close)
    for name, kind in can_instruments().items():
        made[name] = _on_a_bus(kind, str(directory / name))
    for name, program in network_instruments().items():
        try:
            made[name] = program(own_host())
        except OSError as error:  # the real one runs on this computer, and has the port at every address
            log.warning("%s cannot be had at port %d: %s", name, program.PORT, error.strerror)
            made[name] = program(own_host(), 0)
        if name in SEND_TO:
            made[name].send_to((own_host(), SEND_TO[name]))
    far = Segment()
    bridged = VirtualSlcan(far, str(directory / "can1"))
    made["can1"] = Plugged(_Nothing(), bridged.unplug, bridged.plug, bridged.close, far.close)
    for name, (address, model) in CHIPS.items():
        made[name] = _on_i2c(address, model())
    converter = spi.attach(0, 0, Mcp3008())
    converter.volts[:] = [0.1] * 8  # before the first tick: at 0 V the chip would seem absent
    converter.senders.extend(LEVERS)
    made["mcp3008"] = Plugged(
        converter, lambda: spi.detach(0, 0), lambda: spi.attach(0, 0, converter), lambda: spi.detach(0, 0)
    )
    return made


#: The names of `devices`, for code that needs them before the devices exist.
NAMES = (
    *SERIAL,
    *("raw", "autopilot", "tablet", *can_instruments(), *network_instruments(), "can1", *CHIPS, "mcp3008"),
)


class _Nothing:
    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Does nothing."""


def _on_a_bus(kind: type[CanInstrument], path: str) -> Plugged:
    segment = Segment(kind.BITRATE)
    adapter = VirtualSlcan(segment, path)
    device = kind(segment)
    return Plugged(device, adapter.unplug, adapter.plug, device.close, adapter.close, segment.close)


def _on_i2c(address: int, chip: i2c.Chip) -> Plugged:
    bus = i2c.bus(I2C)
    bus.attach(address, chip)
    if isinstance(chip, Ads1115):
        chip.senders.extend(LEVERS)
    return Plugged(
        chip, lambda: bus.unplug(address), lambda: bus.plug(address), chip.close, lambda: bus.detach(address)
    )
