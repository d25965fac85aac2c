"""The world of a bench: the virtual aircraft flies in real time, and virtual instruments look at it.

    with World() as world:
        world.attach(Gps(VirtualPort(path)))
        ...

`bench` is a world with every instrument there is.

Everything happens on one thread, so that an instrument may look at the aircraft as it likes; other threads take
`World.values`, which is replaced whole. Whoever runs in the same process finds the world with `current`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fixgw.hw_sim.aircraft import Aircraft, Value
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.faults import Fault
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.replay import Replay

if TYPE_CHECKING:
    from fixgw.hw_sim.panel import Panel
    from fixgw.hw_sim.scenario import Scenario

log = logging.getLogger(__name__)

RATE = 40.0  # steps a second
LONGEST_STEP = 1.0  # s; after a longer pause of the machine the flight goes on where it was


class Instrument(Protocol):
    """Something that is attached to the world."""

    def tick(self, aircraft: Aircraft, now: float, /) -> None:
        """Do what is due at `now`, in monotonic seconds. Called `RATE` times a second on the world's thread; must not
        block."""

    def close(self) -> None:
        """Let go of everything; called once, when the world has stopped."""


class World:
    """An aircraft that flies from `start` (or entering the context) to `stop`, with the instruments attached to it."""

    def __init__(self, aircraft: Aircraft | None = None) -> None:
        self.aircraft = aircraft or Aircraft(datetime.now(UTC))
        #: The aircraft's values, by key; replaced whole at every step. Any thread; do not change them.
        self.values: Mapping[str, Value] = self.aircraft.values()
        #: The instruments that a scenario knows by name.
        self.named: dict[str, Any] = {}
        self._instruments: tuple[Instrument, ...] = ()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def attach(self, instrument: Instrument) -> None:
        """Have `instrument` look at the aircraft from now on, and closed with the world. Any thread."""
        self._instruments = (*self._instruments, instrument)

    def start(self) -> None:
        """Fly, and become `current`."""
        global _current
        self._stopping.clear()
        thread = threading.Thread(target=self._run, name="world", daemon=True)
        thread.start()
        self._thread = thread  # only now: Ctrl-C may come at any moment, and an unstarted thread cannot be joined
        _current = self

    def stop(self) -> None:
        """Stop flying, and close every instrument; harmless when stopped."""
        global _current
        if _current is self:
            _current = None
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        instruments, self._instruments = self._instruments, ()
        for instrument in instruments:
            instrument.close()

    def __enter__(self) -> World:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        period = 1.0 / RATE
        last = due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            due = max(due + period, now)
            self.aircraft.step(min(now - last, LONGEST_STEP))
            last = now
            self.values = self.aircraft.values()
            for instrument in self._instruments:
                try:
                    instrument.tick(self.aircraft, now)
                except Exception:
                    log.exception("%s failed, and is out of the world", type(instrument).__name__)
                    self._instruments = tuple(i for i in self._instruments if i is not instrument)
                    instrument.close()


class Recording:
    """A recorded log as an instrument: it says what a real one said, over and over, whatever the aircraft does."""

    def __init__(self, log: bytes, port: VirtualPort) -> None:
        self.port = port
        self.replay = Replay(log, port.write, loop=True)

    def begin(self, fault: Fault) -> None:
        """A recording is what it is: only its plug can be pulled."""
        fault.begin(self)

    def end(self, fault: Fault) -> None:
        fault.end(self)

    def unplug(self) -> None:
        self.port.unplug()

    def plug(self) -> None:
        self.port.plug()

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.replay.step()

    def close(self) -> None:
        self.port.close()


def bench(
    directory: Path,
    replay: bytes | None = None,
    scenario: Scenario | None = None,
    tell: Callable[[float, str], object] | None = None,
    panel: Panel | None = None,
    more: bool = False,
) -> World:
    """A world with what `fixgw demo` flies with, each on a device in `directory`, all switched on when it starts.

    ``gps`` is a serial port with a GPS at 38400 baud, or with `replay`, a recorded log, in its place; ``eis`` one with
    an engine monitor. ``can0`` is an slcan adapter on a bus of 250 kbit/s with a CAN-FIX node of each kind. The `panel`
    is on the virtual pins of `fixgw.hw_sim.gpio`. A `scenario` may say otherwise of the bus, and what happens to them
    all; `tell` hears of every event. With `more`, there is one of everything: see `fixgw.hw_sim.everything`.
    """
    from fixgw.hw_sim.can.bus import CanBus
    from fixgw.hw_sim.devices.eis import Eis
    from fixgw.hw_sim.panel import Panel
    from fixgw.hw_sim.scenario import everything

    scenario = scenario or everything()
    world = World(scenario.aircraft())
    port = VirtualPort(str(directory / "gps"))
    gps = Gps(port, baud=38400) if replay is None else Recording(replay, port)
    instruments: dict[str, Any] = {
        "gps": gps,
        "eis": Eis(VirtualPort(str(directory / "eis"))),
        "panel": panel or Panel(),
    }
    if more:
        from fixgw.hw_sim.everything import devices

        instruments |= devices(directory)
    world.attach(CanBus(scenario, str(directory / "can0"), tell, instruments))
    for instrument in instruments.values():
        world.attach(instrument)
    world.named = instruments
    return world


_current: World | None = None


def current() -> World | None:
    """The world that flies in this process, if one does."""
    return _current
