"""The world of a bench: the virtual aircraft flies in real time, and virtual instruments observe it.

    with World() as world:
        world.attach(Gps(VirtualPort(path)))
        ...

`fixgw.hw_sim.everything` builds worlds with every instrument.

The flight proceeds in steps of the same length, whatever the clock of the computer says: the same aircraft and
instruments send the same bytes. Everything happens on one thread, so an instrument may read the aircraft freely; other
threads read `World.values`, which is replaced whole. Code in the same process finds the world with `current`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fixgw.hw_sim.aircraft import Aircraft, Value
from fixgw.hw_sim.faults import Fault
from fixgw.hw_sim.own import own
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.replay import Replay

if TYPE_CHECKING:
    from fixgw.hw_sim.scenario import Play

log = logging.getLogger(__name__)

RATE_HZ = 40.0  # steps a second
CATCH_UP = 4.0  # times this fast when the machine has been held up
MAX_BEHIND_S = 1.0  # after a longer hold-up the flight continues where it was


class Instrument(Protocol):
    """Something attached to the world."""

    def tick(self, aircraft: Aircraft, now: float, /) -> None:
        """Do what is due at `now`, in seconds of the flight (`World.now`).

        Called `RATE_HZ` times a second on the world's thread; must not block.
        """

    def close(self) -> None:
        """Release everything; called once, when the world has stopped."""


class World:
    """An aircraft that flies from `start` (or entering the context) until `stop`, with the instruments attached to
    it. Or it is not started, and somebody calls `advance`."""

    def __init__(self, aircraft: Aircraft | None = None) -> None:
        self.aircraft = aircraft or Aircraft(datetime.now(UTC))
        #: Seconds flown, in which instruments measure time.
        self.now = 0.0
        #: The aircraft's values, by key; replaced whole at every step. Any thread may read them; do not change them.
        self.values: Mapping[str, Value] = self.aircraft.values()
        #: The instruments that a scenario knows by name.
        self.named: dict[str, Any] = {}
        #: What happens to them.
        self.play: Play | None = None
        #: When the flight ends, in seconds flown; None: never. `over` is set then.
        self.duration: float | None = None
        self.over = threading.Event()
        self._instruments: tuple[Instrument, ...] = ()
        self._unable: dict[int, object] = {}  # what was held when an instrument could not send it, by its id
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def attach(self, instrument: Instrument) -> None:
        """Let `instrument` observe the aircraft from now on; it is closed with the world. Any thread."""
        self._instruments = (*self._instruments, instrument)

    def start(self) -> None:
        """Start flying, and become `current`."""
        global _current
        self._stopping.clear()
        thread = threading.Thread(target=self._run, name="world", daemon=True)
        thread.start()
        self._thread = thread  # not earlier: Ctrl-C may come at any moment, and an unstarted thread cannot be joined
        _current = self

    def stop(self) -> None:
        """Stop flying and close every instrument; harmless if already stopped."""
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
        period, pause, seconds = 1.0 / RATE_HZ, 0.0, 0.0
        due = time.monotonic()
        while not self._stopping.wait(pause):
            if self.duration is not None and round(self.now + seconds, 6) >= self.duration:
                self.over.set()
                return
            self.advance(seconds)
            now, seconds = time.monotonic(), period
            due = max(due + period, now - MAX_BEHIND_S)
            pause = max(due - now, period / CATCH_UP)

    def advance(self, seconds: float) -> None:
        """Fly on, and let every instrument do what is due."""
        if seconds:
            self.aircraft.step(seconds)
            self.now = round(self.now + seconds, 6)
        self.values = self.aircraft.values()
        for instrument in self._instruments:
            try:
                instrument.tick(self.aircraft, self.now)
            except Exception as error:
                if self._is_unable(instrument, error):
                    continue
                log.exception("%s failed and was removed from the world", type(instrument).__name__)
                self._instruments = tuple(i for i in self._instruments if i is not instrument)
                instrument.close()

    def _is_unable(self, instrument: Instrument, error: Exception) -> bool:
        """Whether a scenario has set values, so that the instrument need not be broken: it may be unable to send them.
        Says so once."""
        held = (*self.aircraft.holds, *getattr(instrument, "holds", ()))
        if held and self._unable.get(id(instrument)) != held:
            self._unable[id(instrument)] = held
            words = " and ".join(f"{key} is {value}" for key, value in held)
            log.error("%s sends nothing while the scenario says that %s: %s", type(instrument).__name__, words, error)
        return bool(held)


class Recording:
    """A recorded log as an instrument: it repeats what a real one sent, whatever the aircraft does."""

    def __init__(self, log: bytes, port: VirtualPort) -> None:
        self.port = port
        self._now = 0.0
        self.replay = Replay(log, port.write, loop=True, clock=lambda: self._now)

    def begin(self, fault: Fault) -> None:
        """A recording cannot be changed: only its plug can be pulled."""
        fault.begin(self)

    def end(self, fault: Fault) -> None:
        fault.end(self)

    def unplug(self) -> None:
        self.port.unplug()

    def plug(self) -> None:
        self.port.plug()

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self._now = now
        self.replay.step()

    def close(self) -> None:
        self.port.close()


_current: World | None = None


def current() -> World | None:
    """The world that is flying in this process, or that of a rig, if any."""
    return own("world", lambda: None) or _current
