"""What events do to their targets: each function begins it, and returns what ends it, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.faults import Station
from fixgw.hw_sim.can.slcan import PASSIVE, WARNING, VirtualSlcan
from fixgw.hw_sim.serial import SerialInstrument

End = Callable[[], None]


def break_(make: Callable[[], Any], target: Station | SerialInstrument) -> End:
    fault = make()
    target.begin(fault)
    return partial(target.end, fault)


def hold(hold: tuple[str, Any], target: Aircraft | SerialInstrument | Station) -> End:
    def let_go() -> None:
        target.holds = tuple(other for other in target.holds if other is not hold)

    target.holds = (*target.holds, hold)
    return let_go


def alarm(code: int, data: bytes, station: Station) -> None:
    station.node.alarm(code, data)


def _panel(target: Any) -> Any:
    """The panel itself, whether it is a node or on pins: both have turn, switch and press."""
    return target.node if isinstance(target, Station) else target


def turn(encoder: int, steps: int, target: Any) -> None:
    _panel(target).turn(encoder, steps)


def switch(number: int, on: bool, target: Any) -> None:
    _panel(target).switch(number, on)


def press(button: int, target: Any) -> End:
    panel = _panel(target)
    panel.press(button)
    return partial(panel.press, button, False)


def _unplug(adapter: VirtualSlcan) -> End:
    adapter.unplug()
    return adapter.plug


def _set(name: str, adapter: VirtualSlcan) -> End:
    setattr(adapter, name, True)
    return partial(setattr, adapter, name, False)


def _raise_flag(flag: int, adapter: VirtualSlcan) -> End:
    def lower() -> None:
        adapter.flags &= ~flag

    adapter.flags |= flag
    return lower


#: What can happen to the adapter: it is unplugged, it accepts no frame to send, it does not answer, its controller
#: reports many errors, or so many that it only listens.
ADAPTER: Mapping[str, Callable[[VirtualSlcan], End]] = {
    "unplugged": _unplug,
    "jammed": partial(_set, "jammed"),
    "mute": partial(_set, "mute"),
    "error-warning": partial(_raise_flag, WARNING),
    "error-passive": partial(_raise_flag, WARNING | PASSIVE),
}


def _leak(aircraft: Aircraft) -> End:
    aircraft.oil_leak = 0.9
    return partial(setattr, aircraft, "oil_leak", 0.0)


#: What can happen to the aircraft: its oil pressure falls to a tenth within some seconds.
AIRCRAFT: Mapping[str, Callable[[Aircraft], End]] = {"oil-leak": _leak}
