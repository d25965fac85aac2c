"""A bench in one process and one thread, on a clock that moves only when it flies: `Rig`.

    with Rig(scenario=load("engine-monitor-lost.yaml")) as rig:
        rig.fly(60)
        rig.db.read("ALT"), rig.health(), rig.digest()

The drivers of a configuration run in a `fixgw.stepper.Stepper`. The virtual aircraft and its devices are joined to them
without ports, sockets or threads: bytes, frames and datagrams go through feeds in both directions, chips and pins are
those of the virtual libraries. The same configuration, scenario and steps have the same outcome, to the byte.

Which device a connection finds: the one that `wires` names; that of the path, if it is below `SIM` (``{SIM}`` in a
configuration that is loaded with `VARIABLES`); else that with the name of the connection or of its driver; and a CAN
bus without any of these is ``can0``, with the nodes of the scenario. Where there is none, nothing is connected. No real
device is ever opened.

What differs from a bench of ports and processes: a device answers at the next step; a driver has no delays of its own;
an adapter that is mute is like any other; a plugin that fails is not started again.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from fixgw import configuration as configurations
from fixgw.configuration import Configuration, Connection
from fixgw.database import Database
from fixgw.hw_sim import scenario as scenarios
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.can.slcan import PASSIVE, WARNING
from fixgw.hw_sim.datagrams import whole
from fixgw.hw_sim.devices import instruments
from fixgw.hw_sim.everything import NAMES, ON_BUSES, SMALL, assemble, make
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.i2c import Chip
from fixgw.hw_sim.network import NetworkInstrument
from fixgw.hw_sim.own import apart
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.scenario import Play, Scenario
from fixgw.hw_sim.serial import SerialInstrument
from fixgw.hw_sim.wiring import Wiring
from fixgw.hw_sim.world import World
from fixgw.kit.options import convert
from fixgw.kit.raw import Direction, Feed, Heard, listen
from fixgw.plugin import CONFIGPATH, PluginBase
from fixgw.recording.raw import CanFrame
from fixgw.stepper import Stepper

STEP_S = 0.025
#: Steps that are longer move the clock in one go.
FINE_S = 0.1
#: In a time lapse, steps are fine for so long before and after an event.
BEFORE_S, AFTER_S = 1.0, 10.0
START_S = 1000.0  # of the clock
#: When a flight begins if its scenario does not say.
START = "2025-07-21 15:00:00"
SIM = "/bench"
#: For configurations with ``{SIM}`` in their ports, such as those of `fixgw demo`.
VARIABLES = {"SIM": SIM, "GPS": "sim/gps", "HOST": "127.0.0.1"}
#: What `Rig.sent` keeps by default.
KEPT = 100_000
HEARD = 65536  # bytes that a device has not read yet; more are lost
#: Plugins that a replay does without, but a rig does not.
ALSO = ("fixgw.plugins.demo", "fixgw.drivers.gdl90_out")
VIRTUAL = "fixgw.hw_sim."
#: The virtual library in place of a real one.
LIBRARIES = {"smbus2": "fixgw.hw_sim.i2c", "spidev": "fixgw.hw_sim.spi", "RPi.GPIO": "fixgw.hw_sim.gpio"}
#: Other names of devices in paths.
ALIASES = {"rtl_433": "tyres"}
#: The devices of links that recorders do not hear, by driver.
UNHEARD = {"fixgw.drivers.gdl90_out": "tablet"}
HERE = ("127.0.0.1", 49001)  # what a program on the network takes for the driver
#: Flags of frames, and the identifier of a controller's report, as in SocketCAN.
EXTENDED, REMOTE, ERROR, FD, BRS, CONTROLLER = 0x80000000, 0x40000000, 0x20000000, 0x04, 0x01, 0x004

log = logging.getLogger(__name__)


def demo_configuration(everything: bool = False) -> Configuration:
    """The configuration of `fixgw demo`, or of `fixgw demo --everything`, for a rig."""
    name = "demo-everything.yaml" if everything else "demo.yaml"
    return configurations.load(configurations.packaged() / name, VARIABLES)


class Rig:
    """The bench. One thread; several rigs in a process are apart, and may fly by turns.

    `configuration` is that of `fixgw demo` by default, or with `everything` that of ``--everything``. `scenario` says
    what happens; without it, one node of each kind is on the bus, and nothing happens. A flight without a start begins
    at `START`. `devices` are other people's devices by name: each a class, or a function, that makes the device from
    its line: a `SerialInstrument` on a port, a `CanInstrument` on a segment, a `NetworkInstrument` on a host. `wires`
    names the device of a connection or a bus (``{"engine": "eis", "socketcan can1": "rdac"}``); so does the scenario.
    `tell` is called with every event of the scenario: its time, and words. `keep` is the number of entries in `sent`
    (None: all). With `note` False, nothing is kept there, and there are no digests: it flies a little faster.

    Use it as a context manager, or call `start` and `close`.
    """

    def __init__(
        self,
        configuration: Configuration | None = None,
        scenario: Scenario | None = None,
        *,
        step: float = STEP_S,
        everything: bool = False,
        devices: Mapping[str, Callable[[Any], Any]] | None = None,
        wires: Mapping[str, str] | None = None,
        tell: Callable[[float, str], object] | None = None,
        keep: int | None = KEPT,
        note: bool = True,
    ) -> None:
        self.configuration = _virtual(configuration or demo_configuration(everything))
        self.scenario = _dated(scenario or scenarios.everything())
        #: Seconds of a step.
        self.step = step
        #: Called with this rig after every step.
        self.hooks: list[Callable[[Rig], object]] = []
        #: What was sent on all links, in both directions, latest last: what the gateway's recorders hear.
        self.sent: deque[Heard] = deque(maxlen=keep)
        self._hashes: dict[str, Any] = {}
        self._noted: tuple[float, bytes] = (float("-inf"), b"")  # the time of the last note, and in words
        self._wires = {**self.scenario.wires, **(wires or {})}
        self._devices = dict(devices or {})
        self._tell = tell
        self._notes = note
        self.stepper = Stepper(
            self.configuration,
            START_S,
            utc=lambda: self._began + timedelta(seconds=self.stepper.now - START_S),
            refuse=_refuse,
            link=self._link,
            sent=self._from_driver,
            name="bench",
        )
        self.db: Database = self.stepper.db
        self._things: dict[str, Any] = {"i2c": {}, "spi": {}, "bank": Bank(self.stepper.clock, at_once=True)}
        self._chips_at = 0.0  # the time of the chips, which drivers wait for
        self._ends: dict[str, _End] = {}  # what drivers are joined to, by link
        self._open = False
        self._wiring = _Wiring()
        with self._here():
            self.world: World = self._build()
        self._things["world"] = self.world
        self._began = self.aircraft.time

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def aircraft(self) -> Aircraft:
        return self.world.aircraft

    @property
    def play(self) -> Play:
        """What happens: the scenario in progress."""
        assert self.world.play is not None
        return self.world.play

    @property
    def bank(self) -> Bank:
        """Its pins."""
        bank: Bank = self._things["bank"]
        return bank

    @property
    def named(self) -> dict[str, Any]:
        """The devices beside the bus, by the names that scenarios have for them."""
        return self.world.named

    @property
    def now(self) -> float:
        """Seconds flown."""
        return self.world.now

    @property
    def plugins(self) -> dict[str, PluginBase]:
        """The plugins that have started, by connection."""
        return self.stepper.plugins

    @property
    def failed(self) -> dict[str, str]:
        """Plugins that failed by a defect, and the error."""
        return self.stepper.failed

    @property
    def left_out(self) -> dict[str, str]:
        """Connections that do not run here, and why."""
        return self.stepper.left_out

    def health(self) -> dict[str, str]:
        """What is wrong, by connection; those that are well are left out."""
        troubles = {name: plugin.health() for name, plugin in self.plugins.items()} | self.failed
        return {name: trouble for name, trouble in troubles.items() if trouble}

    def digests(self) -> dict[str, str]:
        """A digest of all that was sent on each link, with its times."""
        return {link: self._hashes[link].hexdigest() for link in sorted(self._hashes)}

    def digest(self) -> str:
        """A digest of all that was sent on all links."""
        whole = blake2b(digest_size=16)
        for link, digest in self.digests().items():
            whole.update(f"{link} {digest}\n".encode())
        return whole.hexdigest()

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the plugins, and let everything do what is due at the first instant."""
        self._open = True
        if self._notes:
            listen(self.db, self._note, log)
        with self._here():
            self.stepper.start()
            for plugin in self.plugins.values():
                if hasattr(plugin, "pause"):  # a driver that waits for its chip
                    plugin.pause = self._pause
            self.stepper.settle()
            self._advance(0.0)

    def close(self) -> None:
        """Stop everything; may be called twice."""
        if self._open:
            self._open = False
            with self._here():
                self.stepper.stop()
                self.world.stop()

    def __enter__(self) -> Rig:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- flying --------------------------------------------------------------------------------------------------------

    def fly(self, seconds: float, step: float | None = None, lapse: float | None = None) -> None:
        """Fly on, by steps of `step` (default: the rig's); by longer ones of `lapse` seconds while nothing happens,
        which is `AFTER_S` after an event of the scenario, or the beginning, to `BEFORE_S` before the next, if nothing
        that it expects is undecided.

        A step above `FINE_S` is a time lapse: the clock moves on by the whole step, then each device sends one round,
        whose data arrive at once, and only then values age. Whoever looks after the step sees what a bench shows; what
        reacts to each value sees fewer of them, and sources that age between two rounds lose their place until their
        next value.
        """
        step = step or self.step
        end = self.now + seconds
        with self._here():
            while (left := round(end - self.now, 6)) > 0.0:
                self._advance(min(self._pace(step, lapse), left))

    def _pace(self, step: float, lapse: float | None) -> float:
        if lapse is None:
            return step
        since, until = self.play.quiet(self.now)
        return step if since < AFTER_S else max(step, min(lapse, round(until - BEFORE_S, 6)))

    def fly_until(
        self, condition: Callable[[], object], seconds: float = 60.0, what: str = "", lapse: float | None = None
    ) -> float:
        """Fly until `condition` holds. Returns the seconds flown; raises AssertionError with `what` after `seconds`.
        `lapse` as for `fly`."""
        began = self.now
        with self._here():
            while not condition():
                assert self.now - began < seconds, f"{what or 'it did not happen'} within {seconds:g} s"
                self._advance(self._pace(self.step, lapse))
        return self.now - began

    def _advance(self, seconds: float) -> None:
        stepper = self.stepper
        lapse = seconds > FINE_S
        at = round(START_S + self.now + seconds, 6)
        pass_until = stepper.set_clock if lapse else stepper.pass_until
        self._send_pulses(seconds, pass_until)
        pass_until(at)
        if lapse:
            for device in self.named.values():
                if isinstance(device, SerialInstrument):
                    device.lapse()
        self.world.advance(seconds)
        self._deliver()
        stepper.settle()
        for hook in self.hooks:
            hook(self)

    def _send_pulses(self, seconds: float, pass_until: Callable[[float], object]) -> None:
        """Send the pulses of the panel's transducer within the next `seconds`, each at its time."""
        panel, began = self.named.get("panel"), self.stepper.now
        if isinstance(panel, Panel):
            for after in panel.pulses(self.aircraft, seconds):
                pass_until(round(began + after, 6))
                panel.pulse()

    def _deliver(self) -> None:
        """Let the drivers take what the devices have sent."""
        for adapter in self._wiring.adapters:
            adapter.flush(self.stepper.now)
        for end in self._ends.values():
            while waiting := len(end.feed.entries):
                if end.connected:
                    self.stepper.turn(end.link)
                if len(end.feed.entries) == waiting:  # the driver does not have it open, or does not listen
                    end.feed.entries.clear()

    @contextmanager
    def _here(self) -> Iterator[None]:
        with apart(self._things):
            yield

    # -- chips ---------------------------------------------------------------------------------------------------------

    def chip_clock(self) -> float:
        """The time of the chips: the drivers' pauses for them take none of the rig's."""
        self._chips_at = max(self._chips_at, self.stepper.now)
        return self._chips_at

    def _pause(self, seconds: float) -> None:
        self._chips_at = self.chip_clock() + seconds

    # -- links ---------------------------------------------------------------------------------------------------------

    def _build(self) -> World:
        """The world with the devices that the connections find, and no others."""
        found: dict[str, str] = {}
        chips = False
        for connection in self.configuration.connections:
            if _refuse(connection):
                continue
            if _is_virtual(connection):
                chips = True
                continue
            for link, place in _places(connection):
                found[link] = name = self._device_at(connection, link, place)
                if place.startswith("udp://") and name in instruments():  # not cut, as bytes are
                    self._devices.setdefault(name, whole(instruments()[name]))
        for link, name in found.items():
            if name:
                self._wiring.ends[name] = self._ends[link] = _End(self.stepper, link)
        wanted = {*found.values(), *(("panel", *ON_BUSES) if chips else ())}
        made = {name: make(name, kind, self._wiring) for name, kind in self._devices.items()}
        names = [name for name in (*SMALL, *NAMES) if name in wanted and name not in made]
        world = assemble(self._wiring, self.scenario, names, self._tell, made, bus="can0" in wanted)
        for device in world.named.values():
            chip = getattr(device, "device", device)
            if isinstance(chip, Chip):
                chip.clock = self.chip_clock
            if isinstance(device, Panel):
                device.paced = True
        return world

    def _device_at(self, connection: Connection, link: str, place: str) -> str:
        """The device that a link finds; empty if there is none."""
        known = {*SMALL, *NAMES, *self._devices, "can0"}
        below = place.removeprefix(SIM + "/") if place.startswith(SIM + "/") else ""
        choices = [self._wires.get(link, ""), self._wires.get(connection.name, ""), ALIASES.get(below, below)]
        if not any(choices):
            choices = [connection.name, connection.module.rpartition(".")[2], "can0" if link != connection.name else ""]
        return next((name for name in choices if name in known), "")

    def _link(self, link: str) -> Feed | None:
        connections = (c for c in self.configuration.connections if c.name == link)
        return None if any(map(_is_virtual, connections)) else self.stepper.feed(link)

    def _from_driver(self, link: str, data: Any) -> object:
        end = self._ends.get(link)
        if isinstance(data, tuple):  # recorders do not hear it
            data, _ = data
            if self._notes:
                self._note(link, self.stepper.now, "out", data)
        return None if end is None else end.from_driver(data)

    def _note(self, link: str, stamp: float, direction: Direction, data: Any) -> None:
        self.sent.append(Heard(link, stamp, direction, data))
        digest = self._hashes.get(link)
        if digest is None:
            digest = self._hashes[link] = blake2b(digest_size=16)
        if stamp != self._noted[0]:
            self._noted = stamp, f"{stamp - START_S:.6f} ".encode()
        words = data if isinstance(data, bytes) else _words(data).encode()
        digest.update(b"%b%b %b\n" % (self._noted[1], direction.encode(), words))


def _words(data: Any) -> str:
    if isinstance(data, list):  # frames
        return " ".join(f"{f.arbitration_id:X}/{f.flags:X}#{f.data.hex()}" for f in data)
    return repr(data)


# -- what configurations say -------------------------------------------------------------------------------------------


def options_of(connection: Connection) -> Any:
    """The options of a connection as its plugin declares them; None if it declares none."""
    kind = connection.plugin.Options
    given = {name: value for name, value in connection.options.items() if name != CONFIGPATH}
    return None if kind is None else convert(given, kind)


def _refuse(connection: Connection) -> str:
    if connection.plugin.replays or connection.module in ALSO:
        return ""
    return f"{connection.module} is no part of a bench in one process"


def _is_virtual(connection: Connection) -> bool:
    """Whether it reaches chips or pins by a virtual library."""
    options = options_of(connection)
    return any(str(getattr(options, name)).startswith(VIRTUAL) for name in getattr(options, "__struct_fields__", ()))


def _virtual(configuration: Configuration) -> Configuration:
    """The configuration with virtual libraries in place of real ones."""

    def libraries(connection: Connection) -> dict[str, str]:
        options = options_of(connection)
        values = {name: getattr(options, name) for name in getattr(options, "__struct_fields__", ())}
        return {n: LIBRARIES[value] for n, value in values.items() if isinstance(value, str) and value in LIBRARIES}

    connections = (
        dataclasses.replace(c, options={**c.options, **changed}) if (changed := libraries(c)) else c
        for c in configuration.connections
    )
    return dataclasses.replace(configuration, connections=tuple(connections))


def _places(connection: Connection) -> Iterator[tuple[str, str]]:
    """The links of a connection, by the names under which recorders hear them, and where their devices are."""
    options = options_of(connection)
    if connection.module in UNHEARD:
        yield connection.name, f"{SIM}/{UNHEARD[connection.module]}"
    for link in connection.plugin.heard_as(connection.name, options):
        if link == connection.name:
            yield link, str(getattr(options, "url", "") or getattr(options, "program", ""))
        else:
            yield link, link.partition(" ")[2]  # the interface is before it


def _dated(scenario: Scenario) -> Scenario:
    flight = scenario.flight
    return scenario if flight.start else scenario._replace(flight=msgspec.structs.replace(flight, start=START))


# -- wires -------------------------------------------------------------------------------------------------------------


class _End:
    """A driver's end of a link; `device` is what is connected to it."""

    def __init__(self, stepper: Stepper, link: str) -> None:
        self.link = link
        self.feed = stepper.feed(link)
        self.device: Any = None
        self._stepper = stepper

    @property
    def connected(self) -> bool:
        """Whether the driver has the device open."""
        task = self._stepper.tasks.get(self.link)
        return task is not None and not self.feed.trouble and bool(getattr(task.worker, "connected", False))

    def hear(self, data: Any) -> bool:
        """Pass on what the device sends; False if the driver does not have it open."""
        if not self.connected:
            return False
        self.feed.entries.append(Heard(self.link, self._stepper.now, "in", data))
        return True

    def from_driver(self, data: Any) -> object:
        return None if self.device is None else self.device.take(data)

    def plug(self) -> None:
        self.feed.trouble = ""

    def unplug(self, trouble: str) -> None:
        """The driver notices at once, as it does when a port hangs up."""
        self.feed.trouble = trouble
        self.feed.entries.clear()
        if (task := self._stepper.tasks.get(self.link)) is not None and getattr(task.worker, "connected", False):
            task.due = self._stepper.now


class _Line:
    """The device's end of a serial line, like a `fixgw.hw_sim.pty.VirtualPort`."""

    def __init__(self, end: _End | None, name: str) -> None:
        self.path = f"{SIM}/{name}"
        #: Bytes that the driver took, and bytes that nobody took.
        self.written = self.dropped = 0
        self.plugged = False
        self._heard = bytearray()
        self._end = end
        if end is not None:
            end.device = self
        self.plug()

    @property
    def opened(self) -> bool:
        return self._end is not None and self._end.connected

    def plug(self) -> None:
        self.plugged = True
        if self._end is not None:
            self._end.plug()

    def unplug(self) -> None:
        self.plugged = False
        self._heard.clear()
        if self._end is not None:
            self._end.unplug(f"{self.path}: no such device")

    close = unplug

    def write(self, data: bytes) -> int:
        taken = len(data) if self._end is not None and self._end.hear(bytes(data)) else 0
        self.written += taken
        self.dropped += len(data) - taken
        return taken

    def read(self, timeout: float = 0.0) -> bytes:
        data = bytes(self._heard[:4096])
        del self._heard[:4096]
        return data

    def take(self, data: bytes) -> None:
        self._heard += data[: HEARD - len(self._heard)]


class _Adapter:
    """A CAN adapter, like a `fixgw.hw_sim.can.slcan.VirtualSlcan`, without the protocol of its serial line."""

    UNABLE = frozenset({"mute"})

    def __init__(self, end: _End | None, segment: Segment, name: str) -> None:
        self.path = f"{SIM}/{name}"
        self.jammed = self.mute = False
        self.overruns = 0
        self._flags = 0
        self._frames: list[tuple[int, bytes, int]] = []  # identifier, data, flags
        self._node = segment.attach("adapter", self._received)
        self._end = end
        if end is not None:
            end.device = self
        self.plug()

    @property
    def opened(self) -> bool:
        return self._end is not None and self._end.connected

    @property
    def sent(self) -> int:
        """How many frames it has put on the bus."""
        return self._node.sent

    @property
    def flags(self) -> int:
        """The errors of its controller, as in slcan. Drivers hear of each change, as a real controller reports it."""
        return self._flags

    @flags.setter
    def flags(self, flags: int) -> None:
        self._flags = flags
        state = 0x30 if flags & PASSIVE else 0x0C if flags & WARNING else 0x40
        self._frames.append((CONTROLLER, bytes((0, state, 0, 0, 0, 0, 0, 0)), ERROR))

    def plug(self) -> None:
        if self._end is not None:
            self._end.plug()

    def unplug(self) -> None:
        self._flags = 0
        self._frames.clear()
        if self._end is not None:
            self._end.unplug(f"{self.path} went away")

    def close(self) -> None:
        self.unplug()
        self._node.detach()

    def _received(self, frame: SimFrame) -> None:
        flags = EXTENDED * frame.extended | REMOTE * frame.remote | FD * frame.fd | BRS * frame.brs
        self._frames.append((frame.arbitration_id, frame.data, flags))

    def flush(self, now: float) -> None:
        """Pass on what has come since the last time."""
        frames, self._frames = self._frames, []
        if frames and self._end is not None:
            self._end.hear([CanFrame(identifier, data, flags, now) for identifier, data, flags in frames])

    def take(self, frame: Any) -> bool:
        flags = frame.flags
        sent = SimFrame(
            frame.arbitration_id,
            frame.data,
            bool(flags & EXTENDED),
            bool(flags & REMOTE),
            bool(flags & FD),
            bool(flags & BRS),
        )
        return not self.jammed and self._node.send(sent)


class _Socket:
    """What a program on the network has in place of a socket: all its datagrams go to one driver, which sees from where
    if they are `addressed`."""

    def __init__(self, end: _End | None, host: str, port: int, addressed: bool = False) -> None:
        self._address = host, port
        self._addressed = addressed
        self._inbox: deque[bytes] = deque(maxlen=1000)
        self._end = end
        if end is not None:
            end.device = self
            end.plug()

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def setsockopt(self, *what: Any) -> None: ...

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        if not self._inbox:
            raise BlockingIOError
        return self._inbox.popleft(), HERE

    def recv(self, size: int) -> bytes:
        return self.recvfrom(size)[0]

    def sendto(self, data: bytes, to: Any) -> int:
        if self._end is not None:
            self._end.hear((bytes(data), self._address) if self._addressed else bytes(data))
        return len(data)

    def take(self, data: bytes) -> None:
        self._inbox.append(data)

    def close(self) -> None:
        if self._end is not None:
            self._end.device = None


class _Wiring(Wiring):
    """Joins devices to drivers in this process."""

    def __init__(self) -> None:
        super().__init__(Path(SIM), HERE[0], stepped=True)
        self.ends: dict[str, _End] = {}  # by device
        self.adapters: list[_Adapter] = []

    def port(self, name: str) -> _Line:
        return _Line(self.ends.get(name), name)

    def printer(self, program: str, name: str) -> _Line:
        return self.port(name)

    def adapter(self, segment: Segment, name: str) -> _Adapter:
        self.adapters.append(_Adapter(self.ends.get(name), segment, name))
        return self.adapters[-1]

    def datagrams(self, name: str) -> _Socket:
        return _Socket(self.ends.get(name), *HERE, addressed=True)

    def program(self, kind: type[NetworkInstrument]) -> NetworkInstrument:
        end = self.ends.get(kind.NAME)
        offline = type(kind.__name__, (kind,), {"open": lambda program: _Socket(end, program.host, program.port)})
        made: NetworkInstrument = offline(self.host)
        return made
