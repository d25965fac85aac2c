"""Gateways under test, with their virtual devices: on a clock that moves only when the test waits, or on the real one.

    bed = Bed(directory, real=False)
    gateway = bed.gateway({"engine": {"module": "fixgw.drivers.eis"}}, engine=Eis)
    gateway.expect("OILP1").becomes_good(within=5.0)
    gateway.devices["engine"].unplug()
    ...
    bed.close()

Both kinds have the same words, so that a test can run with either. On the wound clock (`Wound`) everything is on one
thread, and minutes take milliseconds: see `fixgw.hw_sim.bench.rig`. On the real one (`Real`) the gateway has its
threads, and the devices have ports, adapters and sockets. One thread.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fixgw import configuration, database, identity, loader
from fixgw.configuration import Configuration
from fixgw.database import Database, Reading, Value
from fixgw.errors import FixgwError, did_you_mean
from fixgw.gateway import Gateway
from fixgw.hw_sim import gpio, i2c
from fixgw.hw_sim import scenario as scenarios
from fixgw.hw_sim.aircraft import Aircraft, misfit
from fixgw.hw_sim.bench.base import PATIENCE_S, until
from fixgw.hw_sim.bench.chips import numbers
from fixgw.hw_sim.bench.expect import Claim, Expectation, Is, Unchanged, Watch, facts_of
from fixgw.hw_sim.bench.rig import SIM, START_S, STEP_S, Rig, options_of
from fixgw.hw_sim.bench.words import Expect, Latencies
from fixgw.hw_sim.can.faults import FAULTS as NODE_FAULTS
from fixgw.hw_sim.can.faults import Station
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import Segment
from fixgw.hw_sim.everything import Plugged, assemble, make, on_i2c
from fixgw.hw_sim.faults import FAULTS
from fixgw.hw_sim.network import NetworkInstrument
from fixgw.hw_sim.scenario import Scenario
from fixgw.hw_sim.wiring import Wiring
from fixgw.netfix.client import Client
from fixgw.plugin import PluginBase
from fixgw.world import World

T = TypeVar("T")

NETFIX = "fixgw.plugins.netfix"
LOOK_S = 0.01  # between two looks at a real gateway
EXPLAINED = 6  # keys of which a failure says why

#: Makes a device from its line; a class of virtual devices, or a `CanBus`.
Device = Any
Config = str | Path | Mapping[str, Any]


class Tested:
    """What both kinds of gateways have in common. `devices` are the virtual devices, by connection."""

    db: Database
    world: World
    devices: dict[str, Any]
    aircraft: Aircraft

    def __init__(self, bed: Bed, loaded: Configuration) -> None:
        self.configuration = loaded
        self.expect = Expect(self)
        self.watch = Watch(facts_of(loaded.definitions))
        self._bed = bed
        self._chance = random.Random(0)
        self._closing = ExitStack()  # each is closed, even if another fails

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the gateway has started."""
        raise NotImplementedError

    @property
    def plugins(self) -> Mapping[str, PluginBase]:
        """The plugins that run, by connection."""
        raise NotImplementedError

    @property
    def left_out(self) -> Mapping[str, str]:
        """Connections that do not run here, and why."""
        return {}

    @property
    def pins(self) -> gpio.Bank:
        """The virtual pins: `fixgw.hw_sim.gpio`."""
        return gpio.bank()

    def health(self) -> dict[str, str]:
        """What is wrong, by connection; those that are well are left out."""
        raise NotImplementedError

    def read(self, key: str) -> Reading:
        return self.db.read(key)

    def write(self, key: str, value: Value, source: str = "test") -> None:
        """Write a good value, as a plugin does."""
        self.db.write(key, value, source, flags=0)

    def fail(self, key: str, reason: str = "for the test", source: str = "test") -> None:
        """Say that there is no value, as a plugin does."""
        self.db.item(key).fail(reason, source)

    def netfix(self) -> Client:
        """A NetFIX client of this gateway, connected; it is closed at the end of the test."""
        client = Client("127.0.0.1", self.netfix_port)
        client.connect()
        self._closing.callback(client.disconnect)
        return client

    @property
    def netfix_port(self) -> int:
        """The port of its NetFIX server. If it is configured without one, one is started."""
        server = next((p for p in self.plugins.values() if getattr(p, "server", None) is not None), None)
        if server is None:
            with self.world.hosting():
                server = loader.load_plugin(NETFIX)("netfix", {"port": 0})
            server.start()
            self._closing.callback(server.shutdown)
        port: int = server.port  # type: ignore[attr-defined]
        return port

    # -- what is expected ----------------------------------------------------------------------------------------------

    def judge(self, claim: Claim, within: float = 0.0, lasting: float = 0.0) -> Expectation:
        """Let time pass until the claim is met or has failed. Raises AssertionError if it has failed."""
        __tracebackhide__ = True
        expectation = self.watch.expect(claim, within, lasting)
        self.look()
        if expectation.outcome == "pending":
            self._bed.pass_until(lambda: expectation.outcome != "pending", math.inf)
        self._raise_if_failed(expectation)
        return expectation

    @contextmanager
    def no_other_key_changed(self, *but: str) -> Iterator[None]:
        """Meanwhile no key changes but these (keys or patterns): neither its value, nor its flags, nor its source."""
        __tracebackhide__ = True
        title = f"no key changes{' but ' if but else ''}{', '.join(but)}"
        self.look()
        expectation = self.watch.expect(Unchanged(but=but), lasting=math.inf, title=title)
        self.look()
        try:
            yield
            self.look()
            self._raise_if_failed(expectation)
        finally:
            self.watch.forget(expectation)

    def latency(self, key: str, low: float, high: float, samples: int = 20, within: float = 10.0) -> Latencies:
        """How long it takes until the database has what the virtual devices measure.

        The aircraft's value jumps between `low` and `high`, at times that have nothing to do with the device's own.
        """
        __tracebackhide__ = True
        seconds = []
        for n in range(samples):
            self._bed.fly(self._chance.uniform(0.0, 0.3))
            value = (high, low)[n % 2]
            with self._bed.aircraft.holding(key, value):
                took = self.judge(Is(key, value, 0.4 * abs(high - low)), within).took
            assert took is not None
            seconds.append(took)
        return Latencies(sorted(seconds))

    def look(self) -> None:
        """Show the watch what has happened until now."""
        self.watch.pass_to(self.now)

    def _raise_if_failed(self, expectation: Expectation) -> None:
        __tracebackhide__ = True
        if expectation.outcome == "failed":
            lines = [f"expected: {expectation.title}", f"seen: {expectation.words}", *self._why(expectation.claim)]
            raise AssertionError("\n".join(lines))

    def _why(self, claim: Claim) -> Iterator[str]:
        """What else people want to know."""
        keys = claim.keys or frozenset[str]()
        for key in sorted(keys) if len(keys) <= EXPLAINED else ():
            if key in self.db:
                reading = self.db.read(key)
                yield from dict.fromkeys(f"{key}: {reason}" for _, reason in reading.reasons)
        yield from (f"connection {name}: {trouble}" for name, trouble in self.health().items())
        yield from (f"connection {name} does not run: {why}" for name, why in self.left_out.items())

    def _begin_watching(self) -> None:
        for item in self.db.items():
            reading = item.reading
            self.watch.show(self.now, item.key, reading.value, reading.flags, reading.source)
            for name, value in item.aux.items():
                self.watch.show_aux(self.now, f"{item.key}.{name}", value)
        self.db.subscribe("*", self._note, self._note_aux, quick=True)
        self.world.alert_listeners[self._note_alert] = None
        self.look()

    def _note(self, key: str, reading: Reading) -> None:
        self.watch.show(self.now, key, reading.value, reading.flags, reading.source)

    def _note_aux(self, key: str, name: str, value: Value | None) -> None:
        self.watch.show_aux(self.now, f"{key}.{name}", value)

    def _note_alert(self, at: float, entry: dict[str, Any]) -> None:
        self.watch.show_alert(self.now, entry["id"], entry["to"], entry["level"], entry["text"])

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything."""
        raise NotImplementedError

    def advance(self) -> None:
        """Let a step of time pass."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop everything; may be called twice."""
        self._closing.close()


class Wound(Tested):
    """A gateway on a clock that moves only when the test waits."""

    def __init__(self, bed: Bed, loaded: Configuration, devices: Mapping[str, Device], scenario: Scenario) -> None:
        super().__init__(bed, loaded)
        self.rig = rig = Rig(loaded, scenario, devices=devices, wires={name: name for name in devices})
        self.db, self.world, self.aircraft = rig.db, rig.stepper.world, rig.aircraft
        self.devices = {name: rig.named[name] for name in devices}
        self._closing.callback(rig.close)
        identity.assign(self.db, f"bench-{len(bed.gateways) + 1:06x}")  # each has its own, as on separate computers

    def start(self) -> None:
        self.rig.start()
        self._begin_watching()
        for name in self.devices.keys() & self.left_out.keys():
            raise LookupError(f'{name} needs `@pytest.mark.clock("real")`: {self.left_out[name]}')

    @property
    def now(self) -> float:
        return self.rig.stepper.now - START_S

    @property
    def plugins(self) -> Mapping[str, PluginBase]:
        return self.rig.plugins

    @property
    def left_out(self) -> Mapping[str, str]:
        return self.rig.left_out

    @property
    def pins(self) -> gpio.Bank:
        return self.rig.bank

    def health(self) -> dict[str, str]:
        return self.rig.health()

    def advance(self) -> None:
        self.rig.fly(STEP_S)
        self.look()


class Real(Tested):
    """A gateway on its own threads and the real clock."""

    def __init__(
        self, bed: Bed, loaded: Configuration, devices: Mapping[str, Device], scenario: Scenario, wiring: Wiring
    ) -> None:
        super().__init__(bed, loaded)
        self.gateway = gateway = Gateway(loaded)
        self.db, self.world = gateway.database, gateway.world
        self.devices = {name: make(name, kind, wiring) for name, kind in devices.items()}
        self._simulation = assemble(wiring, scenario, (), made=self.devices, bus=False)
        self.aircraft = self._simulation.aircraft
        self._began = gateway.database.clock()
        self._seen: deque[tuple[float, Callable[[float], None]]] = deque()
        self._last = 0.0
        self._thread = threading.Thread(target=gateway.run_forever, args=(False,), name="gateway")
        self._closing.callback(self._stop)

    def start(self) -> None:
        self._begin_watching()
        self._simulation.start()
        self._thread.start()
        until(self._settled, "the gateway does not start its connections")

    def _settled(self) -> bool:
        runners = self.gateway.runners
        return len(runners) == len(self.configuration.connections) and all(r.settled for r in [*runners.values()])

    @property
    def now(self) -> float:
        return self.db.clock() - self._began

    @property
    def plugins(self) -> Mapping[str, PluginBase]:
        return {name: r.plugin for name, r in self.gateway.runners.items() if r.plugin is not None}

    def health(self) -> dict[str, str]:
        troubles = {name: runner.health(1.0) for name, runner in self.gateway.runners.items()}
        return {name: trouble for name, trouble in troubles.items() if trouble}

    def _later(self, show: Callable[[float], None]) -> None:
        self._seen.append((self.now, show))

    def _note(self, key: str, reading: Reading) -> None:
        self._later(lambda at: self.watch.show(at, key, reading.value, reading.flags, reading.source))

    def _note_aux(self, key: str, name: str, value: Value | None) -> None:
        self._later(lambda at: self.watch.show_aux(at, f"{key}.{name}", value))

    def _note_alert(self, at: float, entry: dict[str, Any]) -> None:
        self._later(lambda at: self.watch.show_alert(at, entry["id"], entry["to"], entry["level"], entry["text"]))

    def look(self) -> None:
        now = self.now
        while self._seen and self._seen[0][0] <= now:
            at, show = self._seen.popleft()
            self._last = max(self._last, at)  # several threads write
            show(self._last)
        self._last = max(self._last, now)
        self.watch.pass_to(self._last)

    def advance(self) -> None:
        time.sleep(LOOK_S)
        self.look()

    def _stop(self) -> None:
        self.gateway.request_stop()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        self._simulation.stop()
        assert not self._thread.is_alive(), "the gateway does not stop"


# -- several of them, and what they share ------------------------------------------------------------------------------


class Airplane(MutableMapping[str, Value]):
    """What the virtual devices of a test measure, by key, in the key's units.

    aircraft["OILP1"]            # as it flies
    aircraft["OILP1"] = 12.0     # from now on, for every device
    del aircraft["OILP1"]        # as it flies, again
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._holds: dict[str, Value] = {}

    def __getitem__(self, key: str) -> Value:
        return self._all()[key]

    def _all(self) -> Mapping[str, Value]:
        return next((tested.aircraft.values() for tested in self._bed.gateways), self._holds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __setitem__(self, key: str, value: Value) -> None:
        """Set it on every gateway's aircraft. Raises KeyError or TypeError if there is no such key or value."""
        __tracebackhide__ = True
        self._holds[key] = value
        for tested in self._bed.gateways:
            self._hold(key, value, tested)

    def _hold(self, key: str, value: Value, tested: Tested) -> None:
        __tracebackhide__ = True
        aircraft = tested.aircraft
        flown = aircraft.values()
        if key in flown and (why := misfit(value, flown[key])):
            raise TypeError(f"{key} {why}")
        if key not in flown and key not in tested.db:
            raise KeyError(f"neither the aircraft nor the gateway has {key}{did_you_mean(key, [*tested.db])}")
        aircraft.holds = (*(hold for hold in aircraft.holds if hold[0] != key), (key, value))

    def hold_all(self, tested: Tested) -> None:
        """Let a new gateway's aircraft have what has been set."""
        __tracebackhide__ = True
        for key, value in self._holds.items():
            self._hold(key, value, tested)

    def __delitem__(self, key: str) -> None:
        del self._holds[key]
        for tested in self._bed.gateways:
            aircraft = tested.aircraft
            aircraft.holds = tuple(hold for hold in aircraft.holds if hold[0] != key)

    @contextmanager
    def holding(self, key: str, value: Value) -> Iterator[None]:
        """Meanwhile it is this."""
        self[key] = value
        try:
            yield
        finally:
            del self[key]


class CanBus:
    """A CAN bus that connections of several gateways join: `gateway(..., canfix=can_bus)`. `segment` has its nodes."""

    BITRATE = 250_000

    def __init__(self, stepped: bool) -> None:
        self.segment = Segment(stepped=stepped)

    def join(self, wiring: Wiring, name: str) -> Plugged:
        """An adapter on the bus, for a connection."""
        adapter = wiring.adapter(self.segment, name)
        return Plugged(self.segment, adapter.unplug, adapter.plug, adapter.close)

    def close(self) -> None:
        self.segment.close()


class Bed:
    """The gateways of a test, on one kind of clock, and what they share."""

    def __init__(self, directory: Path, real: bool = False, beside: Path = Path()) -> None:
        self.directory = directory
        #: Where files are that have no absolute path.
        self.beside = beside
        self.real = real
        self.gateways: list[Tested] = []
        self._numbers = itertools.count(1)
        self.aircraft = Airplane(self)
        self.bus = CanBus(stepped=not real)
        #: What is expected of the only gateway.
        self.expect = Expect(self)

    def gateway(self, config: Config, scenario: Scenario | str | Path | None = None, /, **devices: Device) -> Tested:
        """Start a gateway. `config` is the file of a configuration, or its connections, each with its options.

        `devices` are virtual devices by connection: a class of `fixgw.hw_sim.devices` or your own, or a function that
        makes the device from its line, or a `CanBus`. The connections find them wherever the options look for them.
        """
        __tracebackhide__ = True
        place = self.directory / str(next(self._numbers))
        place.mkdir(parents=True)
        wiring = Wiring(place) if self.real else None
        there = place if self.real else Path(SIM, *[place.name] * bool(self.gateways))
        loaded = _load(config, self.beside, place, there, devices)
        plan = scenario if isinstance(scenario, Scenario) else scenarios.everything()
        if isinstance(scenario, str | Path):
            plan = self.scenario(str(scenario))
        made = {name: _made(kind, loaded, name) for name, kind in devices.items()}
        before = database.current()
        tested: Tested = Wound(self, loaded, made, plan) if wiring is None else Real(self, loaded, made, plan, wiring)
        self.gateways.append(tested)
        self.aircraft.hold_all(tested)
        try:
            tested.start()
        finally:
            database.bind(before)
        return tested

    def judge(self, claim: Claim, within: float = 0.0, lasting: float = 0.0) -> Expectation:
        """As the only gateway does."""
        __tracebackhide__ = True
        return self.only.judge(claim, within, lasting)

    @property
    def only(self) -> Tested:
        """The only gateway. Raises LookupError if there are several, or none yet."""
        __tracebackhide__ = True
        if len(self.gateways) != 1:
            which = "say which, as in left.expect(...)" if self.gateways else "start one first, with gateway(...)"
            raise LookupError(f"there are {len(self.gateways)} gateways: {which}")
        return self.gateways[0]

    def scenario(self, what: str) -> Scenario:
        """The scenario in the file with that name, the packaged one, or the text itself. Raises FixgwError."""
        __tracebackhide__ = True
        if "\n" in what:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / "scenario.yaml"
            path.write_text(what)
        else:
            path = _shortly(scenarios.find, what, self.beside)
        return _shortly(scenarios.load, path)

    def fly(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.now + seconds - 1e-6
        self.pass_until(lambda: self.now >= end, seconds)

    @property
    def now(self) -> float:
        """Seconds since the first gateway has started."""
        if not self.gateways:
            raise LookupError("no time passes without a gateway: start one first, with gateway(...)")
        return self.gateways[0].now

    def pass_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Let time pass on all gateways until `done`."""
        end = self.now + seconds
        while not done() and self.now < end:
            for tested in self.gateways:
                tested.advance()

    def device(self, name: str = "") -> Any:
        """The device of a connection, or the only one."""
        found = {n: device for tested in self.gateways for n, device in tested.devices.items()}
        if not name and len(found) == 1:
            return next(iter(found.values()))
        __tracebackhide__ = True
        if name not in found:
            raise LookupError(f"there is no device {name!r}{did_you_mean(name, found)}: there is {', '.join(found)}")
        return found[name]

    @contextmanager
    def fault(self, name: str, on: Any = "", **options: Any) -> Iterator[Any]:
        """Meanwhile something is wrong: a fault of a scenario, by its name there, with its options.

        `on` is a device or the name of its connection; it may be left out if there is only one.
        """
        device = self.device(on) if isinstance(on, str) else on
        faults: Mapping[str, Callable[..., Any]] = NODE_FAULTS if isinstance(device, Station) else FAULTS
        if name not in faults:
            raise LookupError(f"there is no fault {name!r}{did_you_mean(name, faults)}")
        known = getattr(faults[name], "__match_args__", ())  # the fields of a dataclass
        for option in options:
            if option not in known:
                raise LookupError(f"the fault {name} has no option {option!r}{did_you_mean(option, known)}")
        fault = faults[name](**options)
        device.begin(fault)
        try:
            yield device
        finally:
            device.end(fault)

    def close(self) -> None:
        """Stop everything."""
        with ExitStack() as stack:
            stack.callback(self.bus.close)
            for tested in self.gateways:
                stack.callback(tested.stop)

    def forgotten(self) -> str:
        """What was expected, but never judged; empty if there is nothing."""
        every = (self.expect, *(tested.expect for tested in self.gateways))
        return next((repr(words) for expect in every for words in expect.open), "")


def _load(config: Config, beside: Path, place: Path, there: Path, devices: Mapping[str, Device]) -> Configuration:
    """Load the configuration, with the devices where the wiring puts them: below `there`."""
    __tracebackhide__ = True
    found = {name: _options(kind, str(there / name)) for name, kind in devices.items()}
    if isinstance(config, Mapping):
        main = dict(config) if "connections" in config else {"connections": config}
        connections = {name: {**options, **found.get(name, {})} for name, options in main["connections"].items()}
        file = place / configuration.NAME
        file.write_text(json.dumps({**main, "connections": connections}))
        _require(devices, connections)
    else:
        file = beside / config
    loaded = _shortly(configuration.load, file, {"SIM": str(there)})
    _require(devices, [connection.name for connection in loaded.connections])

    def here(name: str, module: str) -> dict[str, Any]:
        return found.get(name) or ({"port": 0} if module == NETFIX else {})

    return replace(
        loaded,
        connections=tuple(replace(c, options={**c.options, **here(c.name, c.module)}) for c in loaded.connections),
    )


def _shortly(read: Callable[..., T], *what: Any) -> T:
    """Read a file. A failure shows what is wrong with it, and not how it was read."""
    __tracebackhide__ = True
    try:
        return read(*what)
    except FixgwError as error:
        raise error.with_traceback(None) from None


def _require(devices: Iterable[str], connections: Collection[str]) -> None:
    __tracebackhide__ = True
    for name in devices:
        if name not in connections:
            raise LookupError(f"there is no connection {name!r}{did_you_mean(name, connections)}")


def _is(kind: Device, *bases: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, bases)


def _options(kind: Device, path: str) -> dict[str, Any]:
    """Where a connection finds the device."""
    if _is(kind, CanInstrument) or isinstance(kind, CanBus):
        return {"interface": "slcan", "channel": path, "bitrate": kind.BITRATE}
    if _is(kind, i2c.Chip):
        return {"library": "fixgw.hw_sim.i2c", "bus": next(numbers)}
    return {} if _is(kind, NetworkInstrument) else {"port": path}


def _made(kind: Device, loaded: Configuration, name: str) -> Device:
    """What makes the device from its line: a chip is put on the bus at the address that the driver expects."""
    if not _is(kind, i2c.Chip):
        return kind
    options = options_of(next(c for c in loaded.connections if c.name == name))
    return lambda line: on_i2c(options.bus, options.address, kind())
