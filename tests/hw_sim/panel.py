"""The panel of a bench, on the virtual pins of `fixgw.hw_sim.gpio`: knobs, buttons, switches, lamps, a dimmed light.

Beside them, on the same header, is a fuel flow transducer that follows the aircraft. All contacts close to ground and
bounce. `fixgw sim panel` shows the panel on the terminal; in a scenario it is the instrument ``panel``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.faults import Fault, check
from fixgw.hw_sim.gpio import BANK, Bank


class Knob(NamedTuple):
    """A rotary encoder with four steps per detent, and the button under it; BCM numbers of the pins."""

    a: int
    b: int
    push: int


KNOBS = (Knob(5, 6, 13), Knob(19, 26, 12))
BUTTONS = (17, 27, 22, 23)
SWITCHES = (24, 25)
#: Lamps by their labels, and the dimmed light.
LAMPS = {"OIL": 20, "ALTERNATOR": 21, "FUEL": 16, "WARNING": 8, "CAUTION": 7}
LIGHT = 18
#: The fuel flow transducer, and its pulses per gallon.
FLOW = 4
K_FACTOR = 29_000.0

BOUNCES = 3
MAX_PULSES = 1000  # of one step; earlier ones are lost
MAX_TURNS = 1000  # detents waiting to be turned; more are lost


class Panel:
    """The panel: an instrument of the `World`, and the actions of a person at it. Any thread."""

    NAME = "panel"

    def __init__(self, bank: Bank = BANK) -> None:
        self.bank = bank
        #: The detents by which each knob has been turned clockwise.
        self.turned = [0] * len(KNOBS)
        self._moves: tuple[deque[tuple[int, bool, int]], ...] = tuple(deque(maxlen=4 * MAX_TURNS) for _ in KNOBS)
        #: Whether somebody calls `pulse` when each of the `pulses` is due, so that `tick` sends none.
        self.paced = False
        self._flowed = 0.0  # pulses' worth of fuel since the transducer's last pulse: 0 to 1
        self._last: float | None = None

    # -- for hands -----------------------------------------------------------------------------------------------------

    def press(self, button: int, down: bool = True) -> None:
        """Press or release button 0 to 3; 4 and 5 are those under the knobs. Raises ValueError."""
        buttons = (*BUTTONS, *(knob.push for knob in KNOBS))
        check("press", button, 0, len(buttons) - 1)
        (self.bank.press if down else self.bank.release)(buttons[button], BOUNCES)

    def turn(self, knob: int, steps: int) -> None:
        """Turn knob 0 or 1 by `steps` detents, clockwise if positive, within the next moments. Raises ValueError."""
        check("turn", knob, 0, len(KNOBS) - 1)
        a, b, _ = KNOBS[knob]
        first, second, by = (a, b, 1) if steps > 0 else (b, a, -1)
        detent = ((first, True, 0), (second, True, 0), (first, False, 0), (second, False, by))
        self._moves[knob].extend(detent * min(abs(steps), MAX_TURNS))

    def switch(self, number: int, on: bool = True) -> None:
        """Set switch 0 or 1. Raises ValueError."""
        check("switch", number, 0, len(SWITCHES) - 1)
        (self.bank.press if on else self.bank.release)(SWITCHES[number], BOUNCES)

    # -- for eyes ------------------------------------------------------------------------------------------------------

    def lamps(self) -> dict[str, bool]:
        """Which lamps are lit."""
        return {name: self.bank.level(pin) for name, pin in LAMPS.items()}

    def light(self) -> float:
        """Brightness of the dimmed light: its duty cycle in percent."""
        return self.bank.duty(LIGHT) or 0.0

    def down(self, button: int) -> bool:
        """Whether a button, numbered as for `press`, is held down."""
        return not self.bank.level((*BUTTONS, *(knob.push for knob in KNOBS))[button])

    def on(self, number: int) -> bool:
        """Whether a switch is on."""
        return not self.bank.level(SWITCHES[number])

    # -- an instrument of the world ------------------------------------------------------------------------------------

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Turn the knobs a little, and send the transducer's pulses."""
        for knob, moves in enumerate(self._moves):
            if moves:
                pin, close, by = moves.popleft()
                (self.bank.press if close else self.bank.release)(pin)
                self.turned[knob] += by
        if not self.paced:  # what is due since the last tick, all at once
            for _ in self.pulses(aircraft, 0.0 if self._last is None else now - self._last):
                self.pulse()
        self._last = now

    def pulses(self, aircraft: Aircraft, seconds: float) -> Iterator[float]:
        """Yield when the transducer's pulses within the next `seconds` come, counted from now, at the present flow."""
        hertz = float(aircraft.values()["FUELF1"]) * K_FACTOR / 3600.0
        before = self._flowed
        flowed = before + hertz * seconds
        self._flowed = flowed % 1.0
        for n in range(max(1, int(flowed) - MAX_PULSES + 1), int(flowed) + 1):
            yield (n - before) / hertz

    def pulse(self) -> None:
        """Let the transducer send one."""
        self.bank.drive(FLOW, False)
        self.bank.drive(FLOW, True)

    def begin(self, fault: Fault) -> None:
        """Pins have no frames that could be corrupted; the only fault is an unplugged chip."""
        fault.begin(self)

    def end(self, fault: Fault) -> None:
        fault.end(self)

    def unplug(self) -> None:
        """Unplug the chip behind the pins."""
        self.bank.unplug()

    def plug(self) -> None:
        self.bank.plug()

    def close(self) -> None:
        """Release every pin."""
        self.bank.reset()
