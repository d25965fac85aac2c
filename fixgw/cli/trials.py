"""Flies scenarios and judges them: in the virtual time of a rig, or in real time with virtual or real devices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fixgw import configuration
from fixgw.cli.alerts import ABSENT
from fixgw.cli.alerts import MODULE as ALERTS
from fixgw.errors import FixgwError, NetfixError, Refused
from fixgw.hw_sim.bench.expect import AlertIs, Facts, facts_of
from fixgw.hw_sim.bench.judging import Trial, Verdict

if TYPE_CHECKING:
    from fixgw.configuration import Configuration
    from fixgw.database import Database
    from fixgw.hw_sim.scenario import Play, Scenario
    from fixgw.hw_sim.world import World
    from fixgw.netfix import Client, Sample

CANFIX = "fixgw.drivers.canfix"
NETFIX, WEB = "fixgw.plugins.netfix", "fixgw.plugins.web"
LOOK_S = 0.1  # between two looks at the alerts
LOOK_ELSEWHERE_S = 0.25  # the same, and at the sources, at a gateway elsewhere
READY_S = 5.0  # for the drivers of a gateway to listen before the instruments are switched on
TIMEOUT_S = 2.0  # for an answer of a gateway elsewhere
DEMO, EVERYTHING = PACKAGED = ("demo", "demo-everything")

Tell = Callable[[float, str], object]


class Flown(NamedTuple):
    """A trial that is over: the verdicts, and the seconds of flight."""

    verdicts: list[Verdict]
    seconds: float


# -- before the flight -------------------------------------------------------------------------------------------------


def configuration_for(scenario: Scenario, chosen: str, variables: Mapping[str, str]) -> Configuration:
    """The configuration to judge: the `chosen` file, or else the scenario's, or else that of a demonstration.

    Raises `ConfigurationError`.
    """
    name = chosen or scenario.configuration or (EVERYTHING if _needs_everything(scenario) else DEMO)
    path = configuration.packaged() / f"{name}.yaml" if name in PACKAGED else configuration.find(name)
    return configuration.load(path, variables)


def on_free_ports(loaded: Configuration) -> Configuration:
    """The configuration without the page for browsers, and with a NetFIX server that is in nobody's way."""
    connections = [c for c in loaded.connections if c.module != WEB]
    return replace(
        loaded,
        connections=tuple(
            replace(c, options={**c.options, "port": 0}) if c.module == NETFIX else c for c in connections
        ),
    )


def _needs_everything(scenario: Scenario) -> bool:
    """Whether something happens to an instrument that only the large demonstration has."""
    from fixgw.hw_sim.everything import NAMES

    return any(event.kind == "instrument" and event.what in NAMES for event in scenario.events)


def end_of(scenario: Scenario) -> float:
    """When a scenario ends, in seconds. Raises `FixgwError` if it does not."""
    if scenario.end is None:
        raise FixgwError("it waits for something that may never be: give it a duration:, or its conditions a deadline:")
    return scenario.end


def judges_alerts(loaded: Configuration) -> bool:
    """Whether a gateway of this configuration has the alerts that can be expected."""
    return any(connection.module == ALERTS for connection in loaded.connections)


def check(trial: Trial, play: Play, missing: str = "", blind: bool = False, alerts: bool = True) -> None:
    """Raises `FixgwError` with everything in a scenario that cannot be on this bench, or with this gateway, or that has
    no effect there.

    `missing` says how an instrument that is not there could be. If the bench is `blind`, the gateway gets nothing from
    its aircraft. `alerts` says whether the gateway judges any.
    """
    absent = [f"{e.place}: {e.what or f'the {e.kind}'} is not on this bench{missing}" for e in play.targetless()]
    vain = [f"{e.place}: the {e.kind}: {e.words!r} has no effect on this bench" for e in play.without_effect()]
    if blind:
        unseen = (e for e in play.scenario.events if e.kind == "aircraft")
        vain += [f"{e.place}: no instrument of this bench sees what happens to the aircraft{missing}" for e in unseen]
    if not alerts:
        absent += [f"{e.place}: {ABSENT}" for e in play.scenario.expectations if isinstance(e.claim, AlertIs)]
    if impossible := [*absent, *vain, *trial.impossible()]:
        raise FixgwError("\n".join(impossible))


# -- in virtual time ---------------------------------------------------------------------------------------------------


def fly_virtually(
    scenario: Scenario,
    loaded: Configuration,
    tell: Tell | None = None,
    step: float | None = None,
    interrupted: threading.Event | None = None,
    lapse: float | None = None,
) -> Flown:
    """Fly as fast as possible, in a rig, by steps of so many seconds, and by those of `lapse` seconds while nothing
    happens (see `Rig.fly`). The same scenario has the same outcome."""
    from fixgw.hw_sim.bench.rig import STEP_S, Rig

    rig = Rig(loaded, scenario, tell=tell, note=False, step=step or STEP_S)
    end = end_of(scenario)
    trial = Trial(rig.play, facts_of(loaded.definitions), end)
    check(trial, rig.play, alerts=judges_alerts(loaded))
    look_due = 0.0

    def settle(rig: Rig) -> None:
        nonlocal look_due
        if rig.now >= look_due:
            look_due = rig.now + LOOK_S
            for connection in loaded.connections:
                if connection.module == ALERTS and connection.name in rig.plugins:
                    trial.note_alerts(rig.now, rig.plugins[connection.name].get_status())
        trial.settle(rig.now)

    world = rig.world
    _follow(rig.db, trial, lambda: world.now)
    rig.hooks.append(settle)
    with rig:
        rig.fly_until(lambda: _is_set(trial.over, interrupted), end + 2 * rig.step, lapse=lapse)
        return Flown([*trial.finish(), _no_failure(rig.failed)], rig.now)


def _is_set(*events: threading.Event | None) -> bool:
    return any(event is not None and event.is_set() for event in events)


def _follow(database: Database, trial: Trial, now: Callable[[], float]) -> None:
    """Note what a database has and gets."""
    database.subscribe(
        "*",
        lambda key, reading: trial.note(now(), key, reading),
        lambda key, name, value: trial.note_value(now(), f"{key}.{name}", value),
        quick=True,
    )
    for item in database.items():
        trial.note(now(), item.key, item.reading)
        for name, value in item.aux.items():
            trial.note_value(now(), f"{item.key}.{name}", value)


def _no_failure(failed: Mapping[str, str]) -> Verdict:
    """The verdict on the gateway's connections: those that `failed`, and why."""
    words = "; ".join(f"{name}: {why}" for name, why in failed.items())
    return Verdict("no connection of the gateway fails", "", not failed, words or "none failed")


# -- in real time ------------------------------------------------------------------------------------------------------


class Subject(Protocol):
    """A gateway that is judged in real time."""

    @property
    def facts(self) -> Mapping[str, Facts]:
        """Its keys."""

    @property
    def judges_alerts(self) -> bool: ...

    def begin(self, trial: Trial) -> None:
        """Note in the trial what it publishes from now on."""

    def switch_on(self) -> None:
        """The instruments are on."""

    def wait(self, *over: threading.Event) -> str:
        """Wait until one of these is set, or until the gateway has gone; then return why it has."""

    def verdicts(self) -> list[Verdict]:
        """What is to be said of the gateway itself."""

    def close(self) -> None: ...


def fly_live(
    scenario: Scenario, subject: Subject, world: World, interrupted: threading.Event, missing: str = ""
) -> Flown:
    """Fly in real time, with the instruments of a world that has not started. Closes the subject, then the world."""
    assert world.play is not None
    trial = Trial(world.play, subject.facts, end_of(scenario))
    with ExitStack() as stack:
        stack.callback(world.stop)
        stack.callback(subject.close)
        devices = world.named or world.play.stations
        blind = isinstance(subject, GatewayElsewhere) and not devices
        check(trial, world.play, missing, blind, subject.judges_alerts)
        world.attach(trial)
        subject.begin(trial)
        began = time.monotonic()
        world.start()
        subject.switch_on()
        gone = subject.wait(trial.over, interrupted)
        trial.over.set()  # what the gateway publishes while it stops is not judged
        seconds = time.monotonic() - began
        verdicts = subject.verdicts()
    return Flown([*trial.finish(gone), *verdicts], seconds)


class OwnGateway:
    """A gateway in this process. One thread."""

    def __init__(self, loaded: Configuration) -> None:
        from fixgw.gateway import Gateway

        self.facts = facts_of(loaded.definitions)
        self.judges_alerts = judges_alerts(loaded)
        self._loaded = loaded
        # What simulates flies with the world's aircraft, which must be there first.
        first = tuple(c for c in loaded.connections if not c.plugin.simulates)
        self._gateway = Gateway(replace(loaded, connections=first))
        self._trial: Trial | None = None
        self._look_due = 0.0

    def begin(self, trial: Trial) -> None:
        self._trial = trial
        gateway = self._gateway
        gateway.start()
        deadline = time.monotonic() + READY_S
        buses = {c.name for c in self._loaded.connections if c.module == CANFIX}  # nodes report once, at the start
        gateway.supervise(lambda: not buses & gateway.troubles().keys() or time.monotonic() > deadline, every=0.02)
        _follow(gateway.database, trial, time.monotonic)

    def switch_on(self) -> None:
        if self._loaded.connections != self._gateway.configuration.connections:
            self._gateway.adopt(self._loaded)

    def wait(self, *over: threading.Event) -> str:
        def done() -> bool:
            self._look()
            return _is_set(*over)

        self._gateway.supervise(done, every=0.02)
        return "" if _is_set(*over) else "the gateway has stopped"

    def _look(self) -> None:
        """Note the states of the alerts."""
        now = time.monotonic()
        if self._trial is None or now < self._look_due:
            return
        self._look_due = now + LOOK_S
        for runner in self._gateway.runners.values():
            if runner.connection.module == ALERTS and runner.plugin is not None:
                self._trial.note_alerts(now, runner.plugin.get_status())

    def verdicts(self) -> list[Verdict]:
        from fixgw.runner import State

        runners = self._gateway.runners
        return [_no_failure({name: r.health_now() for name, r in runners.items() if r.state is State.FAILED})]

    def close(self) -> None:
        self._gateway.stop()


class GatewayElsewhere:
    """A gateway at an address, seen as a display sees it. Raises `NetfixError` if it cannot be reached."""

    def __init__(self, host: str, port: int) -> None:
        from fixgw.netfix import Client

        self._where = f"{host} port {port}"
        self._lost = threading.Event()
        self._client: Client = Client(host, port, TIMEOUT_S, reconnect=False, on_disconnect=self._lost.set)
        self._client.connect()
        self._lost.clear()
        try:
            self._reports = self._client.report_many(self._client.list())
            self.judges_alerts = any(each.get("module") == ALERTS for each in self._connections())
            try:
                known = self._client.definitions()
            except Refused:
                known = {}
        except BaseException:
            self.close()
            raise
        self.facts = {r.key: Facts(r.units, (known.get(r.key) or {}).get("decimals")) for r in self._reports}
        self._sources: dict[str, str] = {}
        self._last: dict[str, Sample] = {}
        self._trial: Trial | None = None

    def begin(self, trial: Trial) -> None:
        self._trial = trial
        for report in self._reports:
            self._client.subscribe(report.key, self._note)
        self._look()
        keys = [name for r in self._reports for name in (r.key, *(f"{r.key}.{aux}" for aux in r.aux))]
        for sample in self._client.read_many(keys):
            self._note(sample)

    def switch_on(self) -> None:
        """It has its instruments."""

    def _note(self, sample: Sample) -> None:
        assert self._trial is not None
        if "." not in sample.key:
            self._last[sample.key] = sample
        source = self._sources.get(sample.key, "")
        self._trial.note_value(time.monotonic(), sample.key, sample.value, sample.flags, source)

    def wait(self, *over: threading.Event) -> str:
        while not _is_set(*over):
            self._lost.wait(LOOK_ELSEWHERE_S)
            try:
                self._look()
            except NetfixError:
                self._lost.set()
            if self._lost.is_set():
                return f"the gateway at {self._where} has gone"
        return ""

    def _look(self) -> None:
        """Note the states of the alerts, and where values come from."""
        assert self._trial is not None
        try:
            sources = {key: origin.source for key, origin in self._client.sources().items()}
        except Refused:
            sources = {}
        changed = [key for key, source in sources.items() if self._sources.get(key) != source]
        self._sources = sources
        for key in changed:
            if key in self._last:
                self._note(self._last[key])
        for each in self._connections():
            if each.get("module") == ALERTS and each.get("running"):
                self._trial.note_alerts(time.monotonic(), each.get("status", {}))

    def _connections(self) -> Iterable[Mapping[str, Any]]:
        """The status of each connection."""
        connections: Mapping[str, Any] = self._client.status().get("connections", {})
        return connections.values()

    def verdicts(self) -> list[Verdict]:
        return []

    def close(self) -> None:
        self._client.disconnect()


def bench(scenario: Scenario, loaded: Configuration, directory: Path, tell: Tell | None) -> World:
    """A world whose instruments are on virtual devices in `directory`: the small one, or that with everything."""
    from fixgw.hw_sim.everything import NAMES, SMALL, assemble
    from fixgw.hw_sim.wiring import Wiring

    more = _needs_everything(scenario) or loaded.file.stem == EVERYTHING
    return assemble(Wiring(directory), scenario, (*SMALL, *(NAMES if more else ())), tell)


def on_adapters(scenario: Scenario, devices: Mapping[str, str], directory: Path, tell: Tell | None) -> World:
    """A world with these devices, each on its real adapter. Raises OSError if one cannot be opened."""
    from fixgw.hw_sim.adapters import RealWiring
    from fixgw.hw_sim.everything import assemble

    names = [name for name in devices if name != "can"]
    return assemble(RealWiring(directory, devices), scenario, names, tell, bus="can" in devices)
