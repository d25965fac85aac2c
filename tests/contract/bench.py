"""A driver on a bench: the real plugin, its virtual device, and a database whose clock the test winds on.

Time is the bench's: a step moves the clock on, lets the device send what is then due, and waits until the driver has
taken all of it. Minutes of flight take milliseconds, and nothing depends on how fast the machine is. The aircraft
hovers: its instruments must say the same all the time, and whatever else a driver writes is wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from fixgw import configuration, database, loader
from fixgw.database import Reading, Value
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.faults import Fault
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import PluginBase
from tests.conftest import Clock

STEP = 0.05  # s of the bench's time
PATIENCE = 20.0  # s of real time that nothing needs unless it is broken


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


class Hovering(Aircraft):
    """An aircraft that stays where it is, in a turn and beside its track; only its time goes on.

    `absurd` takes the place of what it does, by key; while it is `stopped`, not even its time goes on.
    """

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
        return {**super().values(), "ALAT": -0.06, "XTRACK": 0.25, "CDI": -0.25, **self.absurd}


@dataclass(frozen=True)
class Subject:
    """A driver, as registered.

    `keys` must be good in flight, and tell the aircraft's value `within` so much (else a hundredth of it). `checksum`:
    whether the protocol can tell a frame with wrong bytes.

    `absurd` is what cannot be true: values of the aircraft by key, or attributes of the device, in small letters.
    `unknown` goes to the device's `failed`: what it then does not know, and says so. `repeats`: whether the driver
    notices a device that says the same again and again.
    """

    driver: str
    bench: type[Bench]
    keys: tuple[str, ...]
    device: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    within: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, Value] = field(default_factory=dict)
    checksum: bool = True
    absurd: Mapping[str, Value] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    repeats: bool = False
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.driver

    @property
    def abilities(self) -> frozenset[str]:
        """What the suite can do to it: see `Bench.CAN`."""
        more = {"absurd": self.absurd, "unknown": self.unknown, "repeats": self.repeats}
        without = set() if self.checksum else {"flip"}
        return self.bench.CAN - without | {ability for ability, able in more.items() if able}


class Bench:
    """One driver, one device. To derive from: `begin`, `take`, and what can be done to the device."""

    #: What the suite may do: the names of the tests' markers.
    CAN: ClassVar[frozenset[str]] = frozenset()
    #: Whether the driver knows which device it should hear, and complains when it does not.
    expects: ClassVar[bool] = True
    #: Whether the driver goes by the bench's clock.
    wound: ClassVar[bool] = True
    device: Any

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.clock = Clock()
        self.aircraft = Hovering(datetime(2025, 7, 21, 15, 0, tzinfo=UTC))
        self._before_absurd: dict[str, Any] = {}
        self.db = configuration.load(configuration.packaged() / configuration.NAME).make_database(clock=self.clock)
        self.plugin_class = loader.load_plugin(f"fixgw.drivers.{subject.driver}")
        #: Everything good that anybody has written, by key.
        self.seen: dict[str, set[Value]] = {}
        self.db.subscribe("*", self._note)
        self._before = database.current()
        database.bind(self.db)
        self.plugin: Any = None

    # -- the device ----------------------------------------------------------------------------------------------------

    def options(self) -> dict[str, Any]:
        """Those that lead the driver to the device."""
        raise NotImplementedError

    def act(self) -> None:
        """Let the device do what is due."""

    def taken(self) -> bool:
        """Whether the driver has taken everything that the device has sent."""
        return True

    def unplug(self) -> None:
        raise NotImplementedError

    def plug(self) -> None:
        raise NotImplementedError

    def exchange(self) -> None:
        """Put another device in its place, which talks, but says nothing of use."""
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
        """From now on the device says the same again and again."""
        self.aircraft.stopped = True

    def half_a_frame(self) -> None:
        raise NotImplementedError

    def other_half(self) -> None:
        """What follows `half_a_frame`, if anything can: it must be of no use to the driver."""

    def hurry(self) -> None:
        """From now on the device may send ten times as much as its line carries."""
        raise NotImplementedError

    def hammer(self) -> None:
        """Send as much as fits, as fast as it goes: called again and again, on a thread of its own."""
        raise NotImplementedError

    def go_mad(self, name: str, value: Value) -> None:
        """From now on the device measures what cannot be, one of the subject's `absurd`."""
        if name.islower():
            self._before_absurd[name] = getattr(self.device, name)
            setattr(self.device, name, value)
        else:
            self.aircraft.absurd[name] = value

    def recover(self) -> None:
        """End the madness."""
        self.aircraft.absurd.clear()
        for name, value in self._before_absurd.items():
            setattr(self.device, name, value)

    def refused(self) -> int:
        """Frames and values that the driver has refused."""
        counts: dict[str, int] = self.plugin.counts
        return sum(counts[name] for name in self.plugin._protocol.REFUSALS) + counts.get("absurd values", 0)

    def counters_add_up(self) -> None:
        """Every frame that came has been used, ignored or refused."""
        counts = dict(self.plugin.counts)
        refused = sum(counts[name] for name in self.plugin._protocol.REFUSALS)
        assert counts["received"] == counts["used"] + counts.get("ignored", 0) + refused, counts

    def close(self) -> None:
        """Stop, and take everything away."""
        with suppress(Exception):
            self.stop()
        database.bind(self._before)
        self.db.stop()

    # -- the driver ----------------------------------------------------------------------------------------------------

    def start(self) -> PluginBase:
        """A new plugin, running."""
        plugin = self.plugin_class("bench", {**self.options(), **self.subject.options})
        plugin.source = "bench"
        if self.wound and hasattr(plugin, "clock"):
            plugin.clock = self.clock
        self.plugin = plugin
        plugin.start()
        return plugin

    def stop(self) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        if self.plugin is not None:
            plugin, self.plugin = self.plugin, None
            plugin.shutdown()
        return time.monotonic() - began

    # -- time ----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        self.clock.now += STEP
        self.aircraft.step(STEP)
        self.act()
        until(self.taken, "the driver does not take what its device sends")
        self.db.age()

    def fly(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.step()

    def fly_until(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Let the device work until `condition` holds, at most so many of the bench's seconds.

        They may go by before a busy machine has let the driver open its device: it has so long in any case.
        """
        steps, opened = round(seconds / STEP), time.monotonic() + PATIENCE / 2.0
        while not condition():
            assert steps > 0 or time.monotonic() < opened, f"{what}: {self.plugin.health()} {self.not_good()}"
            steps -= 1
            self.step()

    def good(self) -> bool:
        return not self.not_good() and not self.plugin.health()

    def not_good(self) -> dict[str, tuple[str, Any]]:
        """Which of the keys are not good, and why."""
        readings = {key: self.db.read(key) for key in self.subject.keys}
        return {key: (r.flag_text, r.reasons) for key, r in readings.items() if not r.good}

    def becomes_good(self) -> None:
        """Fly until the keys are good, and the driver complains about nothing."""
        self.fly_until(self.good, "not all becomes good")

    def truth(self) -> dict[str, Value]:
        """What the aircraft's instruments should show."""
        return {**self.aircraft.values(), **self.subject.truth}

    def _note(self, key: str, reading: Reading) -> None:
        if reading.good and reading.source.partition("/")[0] == "bench":
            self.seen.setdefault(key, set()).add(reading.value)

    @contextmanager
    def hammered(self) -> Iterator[None]:
        """While the device sends as fast as it goes."""
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
    """An instrument that sends by itself, over a wire that faults can spoil."""

    def spoil(self, fault: Fault) -> None:
        self.device.begin(fault)

    def heal(self, fault: Fault) -> None:
        self.device.end(fault)

    def silence(self) -> None:
        self.device.power = False

    def speak(self) -> None:
        self.device.power = True


class SerialBench(WiredBench):
    """An instrument on a pseudo-terminal; the subject's device is a `SerialInstrument` class."""

    CAN = frozenset({"late", "vanish", "exchange", "wire", "garbage", "flip", "flood", "silence", "baud", "counters"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = subject.device(self.port)
        self._stranger = False
        self._written = 0

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path, "baud": self.device.BAUD}

    def start(self) -> PluginBase:
        plugin = super().start()
        self._connected()
        return plugin

    def _connected(self) -> None:
        """Wait for the driver to open the port, which empties its buffer."""
        if self.port.plugged:
            until(lambda: self.plugin.connected, "the driver does not open the port")
            self._written = self.port.written - self.plugin.counts["bytes"]

    def act(self) -> None:
        if self._stranger:
            self.port.write(b"Debian GNU/Linux 12 raspberrypi ttyUSB0\r\n\r\nraspberrypi login: \r\n")
        else:
            self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        return bool(self.port.written - self._written <= self.plugin.counts["bytes"]) if self.plugin else True

    def unplug(self) -> None:
        self.port.unplug()
        if self.plugin is not None:
            until(lambda: not self.plugin.connected, "the driver does not notice that the device is gone")

    def plug(self) -> None:
        self.port.plug()
        self._connected()

    def exchange(self) -> None:
        self._stranger = True

    def half_a_frame(self) -> None:
        frame = self.device.frames(self.aircraft, self.clock.now)[0]
        self.port.write(frame[: len(frame) // 2])
        self._rest = frame[len(frame) // 2 :]
        until(self.taken)

    def other_half(self) -> None:
        used = self.plugin.counts["used"]
        self.port.write(self._rest)
        until(self.taken)
        assert self.plugin.counts["used"] == used, "a frame of two halves, before and after the outage, is believed"

    def hurry(self) -> None:
        self.device.baud *= 10

    def hammer(self) -> None:
        self.port.write(b"".join(self.device.frames(self.aircraft, self.clock.now)))

    def close(self) -> None:
        super().close()
        self.device.close()


class CanBench(WiredBench):
    """An instrument on a CAN bus, behind an slcan adapter; the subject's device is a `CanInstrument` class."""

    # A bus has checksums of its own: no bit is wrong. That an instrument sends fewer bytes than it should is possible.
    CAN = frozenset({"late", "vanish", "exchange", "wire", "flood", "silence", "counters"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.segment = Segment()
        self.adapter = VirtualSlcan(self.segment)
        self.port = self.adapter.port
        self.device = subject.device(self.segment)
        self._watch = self.segment.attach("watch", self._delivered)
        self._stranger = self.segment.attach("stranger")
        self._strange = False
        self._seen = self._for_driver = self._base = 0

    def _delivered(self, frame: SimFrame) -> None:
        self._seen += 1
        self._for_driver += self.adapter.opened

    def options(self) -> dict[str, Any]:
        return {"interface": "slcan", "channel": self.adapter.path, "bitrate": self.device.BITRATE}

    def start(self) -> PluginBase:
        plugin = super().start()
        self._connected()
        return plugin

    def _connected(self) -> None:
        if self.port.plugged:
            until(lambda: self.connected and self.adapter.opened, "the driver does not open the adapter")
            self._for_driver, self._base = 0, self._received()

    @property
    def connected(self) -> bool:
        return bool(self.plugin.taps[0].bus.connected)

    def _received(self) -> int:
        received: int = self.plugin.taps[0].bus.get_status()["received"]
        return received

    def act(self) -> None:
        if self._strange:
            self._stranger.send(SimFrame(0x123, b"not ours"))
        else:
            self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        if self._seen < self.device.sent + self._stranger.sent:
            return False
        return self.plugin is None or self._received() - self._base >= self._for_driver - self.adapter.overruns

    def unplug(self) -> None:
        self.adapter.unplug()
        if self.plugin is not None:
            until(lambda: not self.connected, "the driver does not notice that the adapter is gone")
        self._for_driver, self._base = 0, self._received() if self.plugin else 0

    def plug(self) -> None:
        self.adapter.plug()
        self._connected()

    def exchange(self) -> None:
        self._strange = True

    def half_a_frame(self) -> None:
        identifier, data = self.device.frames(self.aircraft, self.clock.now)[0][:2]
        line = b"t%03X%d%s\r" % (identifier, len(data), data.hex().upper().encode())
        self.adapter.tell(line[:9])
        self._rest = line[9:]

    def other_half(self) -> None:
        received = self._received()
        self.adapter.tell(self._rest)
        time.sleep(0.05)
        assert self._received() == received, "a frame of two halves, before and after the outage, is believed"

    def hurry(self) -> None:
        """A bus without a bit rate carries everything."""

    def hammer(self) -> None:
        for frame in self.device.frames(self.aircraft, self.clock.now):
            self._stranger.send(frame)

    def close(self) -> None:
        super().close()
        self.adapter.close()
        self.segment.close()
