"""A driver on a bench: the real plugin, its virtual device, and a database whose clock the test controls.

A step advances the clock, lets the device send the data that is due, and waits until the driver has read it all.
Minutes of flight take milliseconds, and the speed of the machine does not matter. The aircraft hovers: the readings of
its instruments never change, so any other value that the driver writes is wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from fixgw import configuration, database, loader
from fixgw.configuration import Configuration
from fixgw.database import Database, Reading, Value
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.faults import Fault
from fixgw.plugin import PluginBase

STEP_S = 0.05  # of the bench's time
PATIENCE_S = 20.0  # of real time; only a broken driver takes this long


def until(condition: Callable[[], object], what: str = "it did not happen", seconds: float = PATIENCE_S) -> None:
    """Wait until `condition` holds; raise AssertionError with `what` after that many seconds of real time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@cache
def _packaged() -> Configuration:
    return configuration.load(configuration.packaged() / configuration.NAME)


def packaged_database(clock: Callable[[], float] = time.monotonic) -> Database:
    """A new database of the packaged items, with their real tolerances. It ages only when started, or on request."""
    return _packaged().make_database(clock=clock)


class Hovering(Aircraft):
    """An aircraft that stays in one place, banked and off its track, while time passes. From second to second it sways
    by up to `SWAY` degrees of latitude, because drivers do not trust a position that never changes.

    `absurd` values replace its own, by key. While it is `stopped`, its time stands still as well.
    """

    SWAY = 0.0004

    def __init__(self, start: datetime) -> None:
        self.absurd: dict[str, Value] = {}
        self.stopped = False
        super().__init__(start, turbulence=0.0)
        self.roll, self.turn_rate = -12.0, -3.1

    def step(self, dt: float) -> None:
        self.time += timedelta(seconds=0.0 if self.stopped else dt)

    @property
    def pressure(self) -> float:
        return float(self.absurd.get("AIRPRESS", super().pressure))

    @property
    def load_factor(self) -> float:
        return float(self.absurd.get("ANORM", super().load_factor))

    def values(self) -> dict[str, Value]:
        values = self.measure()
        sway = self.SWAY * (self.time.second % 2)
        return {
            **values,
            "LAT": float(values["LAT"]) + sway,
            "ALAT": -0.06,
            "XTRACK": 0.25,
            "CDI": -0.25,
            **self.absurd,
        }


@dataclass(frozen=True)
class Subject:
    """A driver, and the facts that the contract suite needs to test it. Created by `Bench.of`."""

    #: The driver's module, as a configuration names it.
    module: str
    bench: type[Bench]
    #: Creates the virtual device; the bench documents the arguments.
    device: Callable[..., Any]
    #: Keys that must be good in flight.
    keys: tuple[str, ...] = ()
    #: The driver's options, apart from those that locate its device.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Allowed difference of a key from the aircraft's value; 1 % of the value if not given.
    within: Mapping[str, float] = field(default_factory=dict)
    #: The expected value of a key, if it is not the aircraft's.
    truth: Mapping[str, Value] = field(default_factory=dict)
    #: Whether the protocol detects a frame with wrong bytes.
    checksum: bool = True
    #: Impossible values that the wire can carry, by the aircraft's key, or by the device's attribute in lower case.
    absurd: Mapping[str, Value] = field(default_factory=dict)
    #: Keys that the device can report as unknown: the suite adds them to the device's set `failed`.
    unknown: tuple[str, ...] = ()
    #: Whether the driver notices a device that repeats itself forever.
    repeats: bool = False
    #: The configuration file, beside the test, whose database the driver writes to, if its keys are not all in the
    #: packaged one.
    configuration: str | Path = ""

    @property
    def abilities(self) -> frozenset[str]:
        """What the suite can do to the device: see `Bench.CAN`."""
        more = {"absurd": self.absurd, "unknown": self.unknown, "repeats": self.repeats}
        without = set() if self.checksum else {"flip"}
        return self.bench.CAN - without | {ability for ability, able in more.items() if able}


class Bench:
    """One driver and one device. A subclass knows how to reach the device, and implements the abilities in `CAN`."""

    #: Abilities: what the suite may do to the device, see `contract.needs`.
    CAN: ClassVar[frozenset[str]] = frozenset()
    #: Whether the driver knows which device to expect, and complains if it is missing.
    expects: ClassVar[bool] = True
    #: Whether the device measures anything, so that it can report absurd values.
    measures: ClassVar[bool] = True
    #: Whether the driver uses the bench's clock.
    wound: ClassVar[bool] = True
    device: Any

    @classmethod
    def of(cls, module: str, device: Callable[..., Any], keys: str = "", **more: Any) -> Subject:
        """The driver `module` on this bench, with the keys that must be good in flight, separated by spaces."""
        return Subject(module, cls, device, tuple(keys.split()), **more)

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.clock = Clock()
        self.aircraft = Hovering(datetime(2025, 7, 21, 15, 0, tzinfo=UTC))
        self._before_absurd: dict[str, Any] = {}
        if subject.configuration:
            self.db = configuration.load(subject.configuration).make_database(clock=self.clock)
        else:
            self.db = packaged_database(self.clock)
        self.plugin_class = loader.load_plugin(subject.module)
        #: All good values written so far, by key.
        self.seen: dict[str, set[Value]] = {}
        self.db.subscribe("*", self._note)
        self._before = database.current()
        database.bind(self.db)
        self.plugin: Any = None

    # -- the device ----------------------------------------------------------------------------------------------------

    def options(self) -> dict[str, Any]:
        """The options that locate the device."""
        raise NotImplementedError

    def act(self) -> None:
        """Let the device do what is due."""

    def taken(self) -> bool:
        """Whether the driver has read all data sent by the device."""
        return True

    def unplug(self) -> None:
        raise NotImplementedError

    def plug(self) -> None:
        raise NotImplementedError

    def exchange(self) -> None:
        """Replace the device by another one, which sends but nothing useful."""
        raise NotImplementedError

    def spoil(self, fault: Fault) -> None:
        raise NotImplementedError

    def heal(self, fault: Fault) -> None:
        raise NotImplementedError

    def silence(self) -> None:
        raise NotImplementedError

    def speak(self) -> None:
        """End the silence."""
        raise NotImplementedError

    def repeat(self) -> None:
        """Make the device repeat itself from now on."""
        self.aircraft.stopped = True
        if hasattr(self.device, "hung"):
            self.device.hung = True

    def half_a_frame(self) -> None:
        raise NotImplementedError

    def other_half(self) -> None:
        """Send the rest of `half_a_frame`, if possible: the driver must not use it."""

    def hurry(self) -> None:
        """Let the device send ten times the data rate of its line from now on."""
        raise NotImplementedError

    def hammer(self) -> None:
        """Send as much as fits, as fast as possible; called repeatedly on its own thread."""
        raise NotImplementedError

    def go_mad(self, name: str, value: Value) -> None:
        """Make the device measure one of the subject's `absurd` values from now on."""
        if name.islower():
            self._before_absurd[name] = getattr(self.device, name)
            setattr(self.device, name, value)
        else:
            self.aircraft.absurd[name] = value

    def recover(self) -> None:
        """Make the device measure true values again."""
        self.aircraft.absurd.clear()
        for name, value in self._before_absurd.items():
            setattr(self.device, name, value)

    def refused(self) -> int:
        """The number of frames and values that the driver has refused."""
        counts: dict[str, int] = self.plugin.counts
        return sum(counts[name] for name in self.plugin._protocol.REFUSALS) + counts.get("absurd values", 0)

    def counters_add_up(self) -> None:
        """Check that every received frame has been used, ignored or refused."""
        counts = dict(self.plugin.counts)
        refused = sum(counts[name] for name in self.plugin._protocol.REFUSALS)
        assert counts["received"] == counts["used"] + counts.get("ignored", 0) + refused, counts

    def close(self) -> None:
        """Stop the driver and remove the device."""
        with suppress(Exception):
            self.stop()
        database.bind(self._before)
        self.db.stop()

    # -- the driver ----------------------------------------------------------------------------------------------------

    def start(self) -> PluginBase:
        """Create and start a new plugin."""
        plugin = self.plugin_class("bench", {**self.options(), **self.subject.options})
        plugin.source = "bench"
        if self.wound and hasattr(plugin, "clock"):
            plugin.clock = self.clock
        self.plugin = plugin
        plugin.start()
        return plugin

    def stop(self) -> float:
        """Stop the plugin. Return the seconds that it took."""
        began = time.monotonic()
        if self.plugin is not None:
            plugin, self.plugin = self.plugin, None
            plugin.shutdown()
        return time.monotonic() - began

    # -- time ----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        self.clock.now += STEP_S
        self.aircraft.step(STEP_S)
        self.act()
        until(self.taken, "the driver does not read the data of its device")
        self.db.age()

    def fly(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def fly_until(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Let the device work until `condition` holds, for at most that many seconds of the bench's time.

        On a busy machine these may pass before the driver has opened its device, so it gets real time for that too.
        """
        steps, opened = round(seconds / STEP_S), time.monotonic() + PATIENCE_S / 2.0
        while not condition():
            assert steps > 0 or time.monotonic() < opened, f"{what}: {self.plugin.health()} {self.not_good()}"
            steps -= 1
            self.step()

    def good(self) -> bool:
        return not self.not_good() and not self.plugin.health()

    def not_good(self) -> dict[str, tuple[str, Any]]:
        """The keys that are not good, and why."""
        readings = {key: self.db.read(key) for key in self.subject.keys}
        return {key: (r.flag_text, r.reasons) for key, r in readings.items() if not r.good}

    def becomes_good(self) -> None:
        """Fly until the keys are good and the driver has no complaint."""
        self.fly_until(self.good, "some keys do not become good")

    def truth(self) -> dict[str, Value]:
        """The values that the aircraft's instruments should show."""
        return {**self.aircraft.values(), **self.subject.truth}

    def _note(self, key: str, reading: Reading) -> None:
        if reading.good and reading.source.partition("/")[0] == "bench":
            self.seen.setdefault(key, set()).add(reading.value)

    @contextmanager
    def hammered(self) -> Iterator[None]:
        """Make the device send as fast as possible while the context lasts."""
        over = threading.Event()

        def hammer() -> None:
            while not over.is_set():
                self.hammer()

        thread = threading.Thread(target=hammer, name="hammer")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class WiredBench(Bench):
    """An instrument that sends unasked, over a wire that faults can corrupt."""

    def spoil(self, fault: Fault) -> None:
        self.device.begin(fault)

    def heal(self, fault: Fault) -> None:
        self.device.end(fault)

    def silence(self) -> None:
        self.device.power = False

    def speak(self) -> None:
        self.device.power = True


class TimedBench(Bench):
    """A step is over when the driver has completed two rounds since the clock moved."""

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
        """Does nothing: there are no frames."""

    def hammer(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)

    def pull(self) -> None:
        raise NotImplementedError

    def unplug(self) -> None:
        self.pull()
        self._there = False
        for _ in range(400):  # the driver notices at its next round
            if self.plugin is None or not self.plugin.connected:
                return
            self.step()
        until(lambda: not self.plugin.connected, "the driver does not notice the loss of the device")


class OutwardBench(TimedBench):
    """The database has the aircraft's values from a receiver; the driver sends them to the device, which complains
    about what must not come."""

    def act(self) -> None:
        for key, value in self.aircraft.values().items():
            if key in self.db and not self.db.item(key).definition.setting:
                self.db.write(key, value, "gps")
        super().act()

    def good(self) -> bool:
        assert self.device.complaints == []
        return self.device.position(self.clock.now) is not None and not self.plugin.health()
