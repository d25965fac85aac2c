"""The virtual devices of a bench by name: the small bench, and one of everything else for `fixgw demo --everything`.

Serial instruments are on ports in the bench's directory, each under its name, whichever there are in
`fixgw.hw_sim.devices`. Each CAN instrument has its own slcan adapter, because CAN-FIX uses the same
identifiers; ``can1`` is the far side of a CAN bridge; the chips are on the virtual buses `I2C` and SPI 0. Programs on
the network have an address of this computer to themselves, `own_host`, and their usual ports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fixgw.hw_sim import gpio, i2c, spi
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.instrument import CanInstrument
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
from fixgw.hw_sim.network import NetworkInstrument
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.scenario import Director, Play, Scenario
from fixgw.hw_sim.scenario import everything as healthy
from fixgw.hw_sim.wiring import Wiring
from fixgw.hw_sim.world import Recording, World

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


#: The devices of the small bench beside its bus.
SMALL = ("gps", "eis", "panel")
#: The chips, which have a bus of this process, or of a rig.
ON_BUSES = (*CHIPS, "mcp3008")
#: Those with inputs in volts.
CONVERTERS = ("ads1115", "mcp3008")
#: The names of all others.
NAMES = (
    *SERIAL,
    *("raw", "autopilot", "tablet", *can_instruments(), *network_instruments(), "can1", *ON_BUSES),
)


def bench(
    directory: Path,
    replay: bytes | None = None,
    scenario: Scenario | None = None,
    tell: Callable[[float, str], object] | None = None,
    panel: Panel | None = None,
    more: bool = False,
) -> World:
    """A world with what `fixgw demo` flies with, each on a device in `directory`, all switched on when it starts.

    ``gps`` is a serial port with a GPS at 38400 baud, or with a recorded log if `replay` is given; ``eis`` is one with
    an engine monitor. ``can0`` is an slcan adapter on a bus of 250 kbit/s with a CAN-FIX node of each kind. The `panel`
    is on the virtual pins of `fixgw.hw_sim.gpio`. A `scenario` may change the bus and lets things happen to the
    instruments; `tell` is called with every event. With `more`, there is one of everything.
    """
    wiring = Wiring(directory)
    made: dict[str, Any] = {} if replay is None else {"gps": Recording(replay, wiring.port("gps"))}
    made["panel"] = panel or Panel()
    return assemble(wiring, scenario or healthy(), (*SMALL, *(NAMES if more else ())), tell, made)


def assemble(
    wiring: Wiring,
    scenario: Scenario,
    names: Iterable[str],
    tell: Callable[[float, str], object] | None = None,
    made: Mapping[str, Any] | None = None,
    bus: bool = True,
) -> World:
    """A world with the devices called `names`, and those that are `made` already, by name; with the `bus` of the
    scenario's nodes, whose adapter is ``can0``. What happens is told to `tell`. If this raises, such as OSError for a
    path, nothing is left of it."""
    world = World(scenario.aircraft())
    instruments = dict(made or {})
    try:
        for name in names:
            if name not in instruments:
                instruments[name] = device(name, wiring)
        if bus:
            segment = wiring.segment(scenario.bit_rate)
            nodes = CanBus(scenario, lambda segment: wiring.adapter(segment, "can0"), tell, instruments, segment)
            world.play = nodes.play
            world.attach(nodes)
        else:
            world.play = Play(scenario._replace(nodes={}), None, tell, instruments)
            world.attach(Director(world.play, threading.Event()))
    except BaseException:
        for each in (*instruments.values(), *wiring.segments):
            each.close()
        raise
    for instrument in (*instruments.values(), *wiring.segments):
        world.attach(instrument)
    world.named = instruments
    for name, senders in scenario.senders.items():
        if name in instruments:
            instruments[name].device.senders[:] = [sender.volts for sender in senders]
    return world


def device(name: str, wiring: Wiring) -> Any:
    """Make one of the devices, for a world to attach and a scenario to disturb."""
    if name == "panel":
        return Panel(gpio.bank())
    if name == "gps":
        return Gps(wiring.port(name), baud=38400)
    if name == "raw":  # behind the serial bridge
        return Gps(wiring.port(name))
    if name == "tyres":
        return instruments()[name](wiring.printer("rtl_433", name))
    if name == "autopilot":
        listening = wiring.port(name)
        return Plugged(Autopilot(listening), listening.unplug, listening.plug, listening.close)
    if name == "tablet":
        tablet = Tablet(LOOPBACK_BROADCAST, link=wiring.datagrams(name))
        return Plugged(tablet, tablet.unplug, tablet.plug, tablet.close)
    if name == "can1":
        far = wiring.segment()
        bridged = wiring.adapter(far, name)
        return Plugged(_Nothing(), bridged.unplug, bridged.plug, bridged.close, far.close)
    if name == "mcp3008":
        return _on_spi()
    if name in CHIPS:
        address, model = CHIPS[name]
        chip = model()
        if isinstance(chip, Ads1115):
            chip.senders.extend(LEVERS)
        return on_i2c(I2C, address, chip)
    if name in can_instruments():
        return on_a_bus(can_instruments()[name], wiring, name)
    if name in network_instruments():
        program = wiring.program(network_instruments()[name])
        if name in SEND_TO:
            program.send_to((wiring.host, SEND_TO[name]))
        return program
    return instruments()[name](wiring.port(name))


def make(name: str, kind: Any, wiring: Wiring) -> Any:
    """Make somebody's own device: `kind` makes it from its line, or has a function `join` that makes it."""
    if hasattr(kind, "join"):
        return kind.join(wiring, name)
    if isinstance(kind, type) and issubclass(kind, CanInstrument):
        return on_a_bus(kind, wiring, name)
    if isinstance(kind, type) and issubclass(kind, NetworkInstrument):
        return wiring.program(kind)
    return kind(wiring.port(name))


class _Nothing:
    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Does nothing."""


def on_a_bus(kind: type[CanInstrument], wiring: Wiring, name: str) -> Plugged:
    """A CAN instrument on a bus of its own."""
    segment = wiring.segment(kind.BITRATE)
    adapter = wiring.adapter(segment, name)
    device = kind(segment)
    return Plugged(device, adapter.unplug, adapter.plug, device.close, adapter.close, segment.close)


def _on_spi() -> Plugged:
    converter = spi.attach(0, 0, Mcp3008())
    converter.volts[:] = [0.1] * 8  # before the first tick: at 0 V the chip would seem absent
    converter.senders.extend(LEVERS)
    return Plugged(converter, lambda: spi.detach(0, 0), lambda: spi.attach(0, 0, converter), lambda: spi.detach(0, 0))


def on_i2c(number: int, address: int, chip: i2c.Chip) -> Plugged:
    """A chip on the virtual bus with that number."""
    bus = i2c.bus(number)
    bus.attach(address, chip)
    return Plugged(
        chip, lambda: bus.unplug(address), lambda: bus.plug(address), chip.close, lambda: bus.detach(address)
    )
