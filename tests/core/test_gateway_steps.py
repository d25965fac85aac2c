"""The gateway step by step, on a clock that the test winds: what it tells people and the service manager, and when."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixgw import gateway as gateways
from fixgw import logqueue
from fixgw.configuration import Configuration, Connection
from fixgw.database import FAIL, OLD, Definition
from fixgw.errors import DeviceError
from fixgw.gateway import Gateway, State
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import PluginBase
from fixgw.runner import Runner
from fixgw.service import EXIT_FAILURE, EXIT_HUNG, EXIT_OK, Notifier


class Plain(PluginBase):
    def run(self) -> None:
        if "error" in self.config:
            raise self.config["error"]


class Electing(Plain):
    elects = True


class Manager(Notifier):
    """A service manager that notes what it is told."""

    def __init__(self) -> None:
        super().__init__({})
        self.told: list[str] = []

    @property
    def wanted(self) -> bool:
        return True

    def send(self, *assignments: str) -> bool:
        self.told += assignments
        return True


def connection(name: str, plugin: type[PluginBase] = Plain, on_failure: str = "ignore", **options: Any) -> Connection:
    return Connection(name=name, module="theirs", plugin=plugin, options=options, on_failure=on_failure)


def broken(name: str, **settings: Any) -> Connection:
    return connection(name, error=DeviceError("no port"), **settings)


Make = Callable[..., Gateway]


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def make(clock: Clock, tmp_path: Path, manager: Manager) -> Iterator[Make]:
    made: list[Gateway] = []

    def make(*connections: Connection, **arguments: Any) -> Gateway:
        items = (Definition(key="IAS", tolerance=1000), Definition(key="LEADER", type="bool"))
        configuration = Configuration(
            file=tmp_path / "own.yaml", directory=tmp_path, connections=connections, definitions=items
        )
        gateway = Gateway(configuration, clock=clock, notifier=manager, **arguments)
        made.append(gateway)
        for each in connections:
            gateway._launch(each)
        return gateway

    yield make
    for gateway in made:
        gateway._stop_runners(list(gateway.runners.values()))


def events(gateway: Gateway) -> None:
    """Handle all that has been asked for."""
    for _ in range(gateway._events.qsize()):
        gateway._step(0.0)


# -- what people read --------------------------------------------------------------------------------------------------


def test_the_summary_has_all_that_is_wrong(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make(connection("a"), broken("b"), connection("c"), notice="safe mode: requested", problems=["one"])
    gateway.database.item("IAS").override(50, 0, "override/web/tablet", "", 60.0)
    gateway.settings._keeper.trouble = "no space"
    monkeypatch.setattr(logqueue, "trouble", lambda: "the log is stuck")
    monkeypatch.setattr(gateway, "_started", True)  # but the ageing does not run
    assert gateway.summary() == (
        "safe mode: requested; 2 of 3 connections well; b: failed: no port; configuration: 1 problem; "
        "database: ageing has stopped, so stale values may look good; settings: no space; the log is stuck; "
        "1 override: IAS"
    )


def test_the_summary_of_one_that_is_well_is_short(make: Make) -> None:
    assert make(connection("a"), connection("b")).summary() == "2 of 2 connections well"
    assert make().summary() == "0 of 0 connections well"


@pytest.mark.parametrize("wrong", ["", "connection", "problem", "notice", "override", "settings", "log", "ageing"])
def test_anything_wrong_degrades_the_health(make: Make, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    notice, problems = "safe mode" if wrong == "notice" else "", ["one"] if wrong == "problem" else []
    gateway = make(connection("a"), *[broken("b")] * (wrong == "connection"), notice=notice, problems=problems)
    if wrong == "override":
        gateway.database.item("IAS").override(50, 0, "override/web/tablet", "", 60.0)
    if wrong == "settings":
        gateway.settings._keeper.trouble = "no space"
    if wrong == "log":
        monkeypatch.setattr(logqueue, "trouble", lambda: "the log is stuck")
    if wrong == "ageing":
        monkeypatch.setattr(gateway, "_started", True)
    assert gateway.get_status()["health"] == ("degraded" if wrong else "ok")


def test_without_any_connection_that_runs_it_has_failed(make: Make) -> None:
    assert make(broken("a"), broken("b")).get_status()["health"] == "failed"


def test_the_status_has_the_facts_of_the_process(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make(connection("a"), problems=["one"])
    monkeypatch.setattr(time, "process_time", lambda: 7.5)
    monkeypatch.setattr("fixgw.gateway._resident", lambda: (100 << 20) + 100_000)
    gateway._cpu = clock.now, 7.0
    clock.now += 12.34
    status = gateway.get_status()
    assert status["uptime"] == 12.3
    assert status["configuration"] == {"file": str(gateway.configuration.file), "reloads": 0, "problems": ["one"]}
    assert status["process"].pop("memory MiB") == 100.1
    assert status["process"] == {"pid": os.getpid(), "cpu percent": 4.1, "threads": threading.active_count()}
    clock.now += 1.0
    assert gateway.get_status()["process"]["cpu percent"] == 0.0, "since the last time"


def test_the_handlers_of_signals_are_restored_at_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    gateway = make()
    reasons: list[str] = []
    monkeypatch.setattr(gateway, "request_stop", lambda why: reasons.append(why))
    monkeypatch.setattr(gateway, "supervise", lambda over: [*map(signal.raise_signal, numbers)])
    assert gateway.run_forever() == 0
    assert reasons == ["SIGTERM", "SIGINT", "SIGHUP"]
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_status_tells_who_overrides_what(make: Make, clock: Clock) -> None:
    gateway = make()
    gateway.database.item("IAS").override(50, FAIL | OLD, "override/web/tablet", "", 60.0)
    clock.now += 0.4
    assert gateway.get_status()["overrides"] == {
        "IAS": {"value": 50.0, "flags": ["old", "fail"], "by": "web/tablet", "seconds left": 60}
    }


def test_without_the_kernel_s_figure_the_memory_is_the_most_it_ever_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise OSError

    now = gateways._resident()
    monkeypatch.setattr("builtins.open", refuse)
    assert now / 2 < gateways._resident() < now * 4


# -- what the service manager is told ----------------------------------------------------------------------------------


def test_the_manager_is_told_each_second_what_is_new(make: Make, manager: Manager, clock: Clock) -> None:
    gateway = make(connection("a"))
    clock.now += 10.0
    gateway._step(0.0)
    manager.told.clear()
    gateway.problems.append("one")
    clock.now += 0.9
    gateway._step(0.0)
    assert manager.told == []
    clock.now += 0.1
    gateway._step(0.0)
    assert manager.told == ["STATUS=1 of 1 connections well; configuration: 1 problem"]
    clock.now += 5.0
    gateway._step(0.0)
    assert len(manager.told) == 1


def test_the_watchdog_is_fed_at_its_interval_while_all_is_alive(
    make: Make, manager: Manager, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make(connection("a"))
    alive = True
    monkeypatch.setattr(type(gateway.database), "alive", property(lambda self: alive))
    fed: list[float] = []
    monkeypatch.setattr(manager, "watchdog", lambda: fed.append(clock.now))
    manager.watchdog_interval = 2.0
    start = clock.now
    for _ in range(10):
        gateway._feed_watchdog(clock.now)
        clock.now += 0.5
    assert fed == [start, start + 2.0, start + 4.0]
    alive = False
    gateway._feed_watchdog(clock.now + 10.0)
    alive = True
    plugin = gateway.runners["a"].plugin
    assert plugin is not None
    plugin.alive = clock.now - 10.1
    gateway._feed_watchdog(clock.now)
    assert len(fed) == 3, "nothing alive, or one that hangs"
    manager.watchdog_interval = 0.0
    plugin.alive = clock.now
    gateway._feed_watchdog(clock.now + 20.0)
    assert len(fed) == 3, "no watchdog is wanted"


def test_it_looks_often_while_one_changes_and_seldom_while_all_rest(make: Make, manager: Manager) -> None:
    assert make(connection("a"))._pace() == 1.0
    assert make(broken("a"))._pace() == 0.2
    manager.watchdog_interval = 0.5
    assert make(connection("a"))._pace() == 0.5
    manager.watchdog_interval = 5.0
    assert make(connection("a"))._pace() == 1.0
    electing = make(connection("a"))
    electing._prepare_election(replace(electing.configuration, connections=(connection("q", Electing),)))
    assert electing._pace() == 0.2


# -- stopping ----------------------------------------------------------------------------------------------------------


class Slow:
    """A connection that takes this long to stop."""

    def __init__(self, clock: Clock, takes: float, hung: bool = False) -> None:
        self.name = "slow"
        self.connection = connection("slow")
        object.__setattr__(self.connection, "stop_timeout", 8.0)
        self.hung = ["stop() has not returned"] * hung
        self.given: list[float] = []
        self._clock, self._takes = clock, takes

    def stop(self, timeout: float) -> None:
        self.given.append(timeout)
        self._clock.now += self._takes

    def signs_of_life(self, now: float) -> str:
        return ""


def test_the_time_to_stop_is_shared_and_the_last_ones_get_a_little(make: Make, clock: Clock) -> None:
    gateway = make()
    slow: list[Any] = [Slow(clock, takes) for takes in (1.0, 1.0, 5.0, 8.0)]
    gateway._stop_runners(slow)
    assert [each.given for each in reversed(slow)] == [[8.0], [4.0], [0.5], [0.5]], "12 s together, and 2 s of grace"
    assert gateway.exit_code == EXIT_OK
    gateway._stop_runners([Slow(clock, 1.0, hung=True)])  # type: ignore[list-item]
    assert gateway.exit_code == EXIT_HUNG


def test_the_worst_reason_to_stop_gives_the_exit_code(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    gateway = make(broken("a", on_failure="stop"))
    events(gateway)
    assert gateway.exit_code == EXIT_FAILURE
    gateway.request_stop(why="SIGTERM")
    events(gateway)
    assert gateway.exit_code == EXIT_FAILURE
    assert [m for m in caplog.messages if m.startswith("stopping")] == ["stopping: a failed"], "the first reason"


def test_only_a_failure_that_must_stop_it_does(make: Make) -> None:
    gateway = make(broken("a", on_failure="ignore"), broken("b", on_failure="restart"))
    events(gateway)
    assert not gateway._stop_requested
    assert gateway.exit_code == EXIT_OK


def test_a_second_stop_does_nothing(make: Make, manager: Manager) -> None:
    gateway = make(connection("a"))
    gateway.stop()
    assert gateway.runners["a"].at_rest, "it has not been started"
    assert manager.told.count("STOPPING=1") == 0
    gateway._started = True
    for _ in range(2):
        assert gateway.stop() == EXIT_OK
    assert gateway.runners["a"].state is State.STOPPED
    assert manager.told.count("STOPPING=1") == 1


# -- dead threads ------------------------------------------------------------------------------------------------------


def test_a_dead_thread_fails_the_plugin_that_holds_it(make: Make) -> None:
    gateway = make(connection("a"), connection("b"))
    plugin: Any = gateway.runners["b"].plugin
    plugin.thread, stranger = threading.Thread(), threading.Thread()
    error = ValueError("x")
    assert not gateway._thread_died(threading.ExceptHookArgs((ValueError, error, None, stranger)))
    gateway._step(0.0)
    assert gateway._thread_died(threading.ExceptHookArgs((ValueError, error, None, plugin.thread)))
    gateway._step(0.0)
    assert [runner.reason for runner in gateway.runners.values()] == ["", "its thread died: ValueError: x"]


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_that_cannot_be_met_says_why(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.loader.reload_plugin", lambda plugin: plugin)
    gateway = make(connection("canfix"))
    assert gateway.request_restart("canfx") == "there is no connection 'canfx' (did you mean 'canfix'?)"
    assert gateway.request_reload() == "this gateway does not run from files"
    gateway._changing = True
    busy = "the gateway is busy starting, stopping or reading its configuration: try again"
    assert gateway.request_restart("canfix") == busy
    gateway._changing, gateway._stop_requested = False, True
    assert gateway.request_restart("canfix") == busy
    gateway._stop_requested = False
    before = gateway.runners["canfix"].plugin
    assert gateway.request_restart("canfix") == ""
    events(gateway)
    assert gateway.runners["canfix"].plugin not in (before, None)
    assert gateway.runners["canfix"].state is State.RUNNING
    assert gateway.request_restart("canfix") == "", "it is not busy any more"
    assert [each.name for each in gateway.configuration.connections] == ["canfix"]


def test_a_restart_is_not_tried_while_the_old_one_hangs(make: Make) -> None:
    gateway = make(connection("a"))
    runner = gateway.runners["a"]
    runner.hung.append("its thread is stuck")
    gateway._restart("a")
    assert gateway.problems == ["a could not be stopped, so it cannot be restarted: its thread is stuck"]
    assert gateway.runners["a"] is runner
    assert not gateway._changing
    assert gateway.exit_code == EXIT_HUNG


def test_a_configuration_that_is_refused_is_told_and_changes_nothing(
    make: Make, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make(connection("a"))
    before = gateway.configuration
    manager.told.clear()
    gateway._changing = True
    gateway._refuse(["x.yaml:1:1: no", "x.yaml:2:1: never"])
    assert caplog.messages == [
        "the new configuration has 2 problems; keeping the old one",
        "x.yaml:1:1: no",
        "x.yaml:2:1: never",
    ]
    assert manager.told == ["READY=1", "STATUS=1 of 1 connections well; configuration: 2 problems"]
    assert gateway.get_status()["configuration"]["problems"] == ["x.yaml:1:1: no", "x.yaml:2:1: never"]
    assert not gateway._changing
    assert gateway.configuration is before


def test_only_what_is_new_or_different_is_started(
    make: Make, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gateway = make(connection("same"), connection("other", n=1), connection("gone"), problems=["an earlier one"])
    before: dict[str, Runner] = dict(gateway.runners)
    caplog.clear()
    manager.told.clear()
    new = (connection("new"), connection("other", n=2), connection("same"))
    gateway.adopt(replace(gateway.configuration, connections=new, logging={"version": 1}))
    assert list(gateway.runners) == ["new", "other", "same"]
    assert gateway.runners["same"] is before["same"]
    assert gateway.runners["other"] is not before["other"]
    assert all(runner.state is State.RUNNING for runner in gateway.runners.values())
    assert before["gone"].state is State.STOPPED
    assert set(gateway.database.feeders) == {"new", "other", "same"}
    assert gateway.problems == ["logging changed: restart the gateway to apply it"]
    assert gateway.reloads == 1
    assert caplog.messages == [
        "logging changed: restart the gateway to apply it",
        "configuration reloaded: stopped other, gone",
        "configuration reloaded: started new, other",
    ]
    assert "READY=1" in manager.told
    assert not gateway._changing
    gateway.adopt(replace(gateway.configuration, logging=None))
    assert gateway.problems == [], "it is again as at the start"
    assert caplog.messages[-2:] == ["configuration reloaded: stopped none", "configuration reloaded: started none"]


def test_a_reload_holds_up_neither_the_supervision_nor_the_end_of_the_process(make: Make, manager: Manager) -> None:
    go = threading.Event()
    found: list[Configuration] = []

    def reload() -> Configuration:
        go.wait(10)
        return found[0]

    gateway = make(connection("a"), reload=reload)
    found.append(gateway.configuration)
    assert gateway.request_reload() == ""
    gateway._step(0.0)
    gateway._step(0.0)
    (reading,) = [thread for thread in threading.enumerate() if thread.name == "reload"]
    assert reading.daemon, "one that hangs must not keep the process alive"
    assert any(told.startswith("RELOADING=1") for told in manager.told)
    go.set()
    reading.join()
    events(gateway)
    assert (gateway.reloads, gateway.problems) == (1, [])


def test_an_ageing_thread_that_has_died_is_reported_and_started_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make()
    started: list[bool] = []
    monkeypatch.setattr(type(gateway.database), "ageing_runs", property(lambda self: bool(started)))
    monkeypatch.setattr(gateway.database, "start", lambda: started.append(True))
    for _ in range(2):
        gateway._step(0.0)
    assert started == [True]
    assert caplog.messages == ["the ageing thread has died; restarting it"]


# -- who leads ---------------------------------------------------------------------------------------------------------


def test_it_leads_unless_it_is_in_safe_mode_or_has_to_be_elected(make: Make) -> None:
    for connections, notice, leads in (
        ((connection("a"),), "", True),
        ((connection("a"),), "safe mode", False),
        ((connection("q", Electing),), "", False),
    ):
        gateway = make(notice=notice)
        gateway._prepare_election(replace(gateway.configuration, connections=connections))
        assert gateway.world.quorum.leader is leads
        assert gateway.database.read("LEADER").value is leads


def test_what_was_elected_stays_so_when_the_configuration_changes(make: Make) -> None:
    gateway = make()
    electing = replace(gateway.configuration, connections=(connection("q", Electing),))
    gateway._prepare_election(electing)
    gateway.world.quorum.leader = True
    gateway._prepare_election(electing)
    assert gateway.world.quorum.leader
    gateway.world.quorum.leader = False
    gateway._prepare_election(replace(gateway.configuration, connections=()))
    assert gateway.world.quorum.leader, "nobody elects any more"


def test_one_whose_lease_ran_out_does_not_lead(make: Make, clock: Clock) -> None:
    gateway = make()
    gateway.world.quorum.lead(clock.now + 1.0)
    gateway._show_leader()
    clock.now += 0.9
    gateway._step(0.0)
    assert gateway.database.read("LEADER").value is True
    clock.now += 0.1
    gateway._step(0.0)
    assert gateway.database.read("LEADER").value is False
    assert not gateway.world.quorum.lapsed
