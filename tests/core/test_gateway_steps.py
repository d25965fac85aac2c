"""The gateway step by step, on a clock that the test winds: what it tells people and the service manager, and when."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from fixgw import __version__, logqueue, world
from fixgw import gateway as gateways
from fixgw.configuration import Configuration, Connection
from fixgw.database import FAIL, INITIAL, OLD, Definition
from fixgw.database.hung import Hung
from fixgw.errors import ConfigurationError, DeviceError, Problem
from fixgw.gateway import Gateway, State
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import PluginBase
from fixgw.runner import Runner
from fixgw.service import EXIT_FAILURE, EXIT_HUNG, EXIT_OK, Notifier
from fixgw.world import Way

BUSY = "the gateway is busy starting, stopping or reading its configuration: try again"


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


def all_handled(gateway: Gateway) -> None:
    """Wait until the thread that supervises has handled all that has been asked for so far."""
    handled = threading.Event()
    gateway._events.put(handled.set)
    assert handled.wait(5)


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


def test_the_status_has_each_connection_in_its_order(make: Make) -> None:
    class Telling(Plain):
        def get_status(self) -> dict[str, Any]:
            return {"its name": self.name}

    connections = make(connection("z", Telling), broken("a"), connection("b", Telling)).get_status()["connections"]
    assert [*connections] == ["z", "a", "b"]
    assert [each["health"] for each in connections.values()] == ["ok", "failed: no port", "ok"]
    assert [each["status"] for each in connections.values()] == [{"its name": "z"}, {}, {"its name": "b"}]


def test_without_any_connection_that_runs_it_has_failed(make: Make) -> None:
    assert make(broken("a"), broken("b")).get_status()["health"] == "failed"


def test_the_status_has_the_facts_of_the_process(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make(connection("a"), problems=["one"])
    monkeypatch.setattr(time, "process_time", lambda: 7.5)
    monkeypatch.setattr("fixgw.gateway._resident", lambda: (100 << 20) + 170_000)
    gateway._cpu = clock.now, 7.0
    clock.now += 12.34
    status = gateway.get_status()
    assert status["uptime"] == 12.3
    assert status["configuration"] == {"file": str(gateway.configuration.file), "reloads": 0, "problems": ["one"]}
    assert status["process"].pop("memory MiB") == 100.2
    assert status["process"] == {"pid": os.getpid(), "cpu percent": 4.1, "threads": threading.active_count()}
    clock.now += 1.0
    assert gateway.get_status()["process"]["cpu percent"] == 0.0, "since the last time"
    for seconds, percent in ((0.5, 50.0), (0.0, 25000.0)):
        gateway._cpu = clock.now - seconds, 7.25
        assert gateway.get_status()["process"]["cpu percent"] == percent, "several may ask at once"


def test_the_status_tells_what_the_log_lost(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logqueue, "trouble", lambda: "the log is stuck")
    monkeypatch.setattr(logqueue, "dropped", lambda: {"StreamHandler": 3})
    assert make().get_status()["log"] == {"trouble": "the log is stuck", "dropped": {"StreamHandler": 3}}


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


def test_the_memory_is_the_kernel_s_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *args, **more: io.StringIO("5000 300 20 1 0 40 0\n"))
    assert gateways._resident() == 300 * resource.getpagesize()


@pytest.mark.parametrize("text", [None, "", "5000 many"])
def test_without_the_kernel_s_figure_the_memory_is_the_most_it_ever_was(
    monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    def opened(*args: Any, **more: Any) -> io.StringIO:
        if text is None:
            raise OSError
        return io.StringIO(text)

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=50_000))
    assert gateways._resident() == 51_200_000


def test_while_a_plugin_hangs_the_others_answer_within_the_time_for_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make(connection("a"), connection("b"), connection("c"))
    now = [50.0]
    asked: list[float] = []
    given: list[float] = []

    def answer(self: Runner, patience: float) -> str:
        given.append(patience)
        now[0] += 0.375
        return "" if self.name == "b" else f"{self.name} is cold"

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Runner, "health", answer)
    monkeypatch.setattr(gateway._health, "ask", asked.append)
    assert gateway.troubles() == {"a": "a is cold", "c": "c is cold"}
    assert asked == [0.1]
    assert given == [0.5, 0.125, 0.0]


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
    clock.now += 1.0
    gateway._step(0.0)
    assert fed[3:] == [clock.now]
    del fed[3:]
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


def test_the_manager_learns_when_it_has_started_and_when_it_stops(
    make: Make, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make()

    def supervise(over: Callable[[], bool]) -> None:
        manager.told.append(f"supervised, over: {over()}")
        assert world.first() is gateway.world

    monkeypatch.setattr(gateway, "supervise", supervise)
    monkeypatch.setattr(manager, "close", lambda: manager.told.append("closed"))
    gateway.run_forever(handle_signals=False)
    assert manager.told == [
        *("READY=1", "STATUS=0 of 0 connections well", "supervised, over: False"),
        *("STOPPING=1", "STATUS=stopping", "closed"),
    ]
    assert world.first() is world.alone()


# -- starting ----------------------------------------------------------------------------------------------------------


def test_while_it_starts_it_is_busy(make: Make) -> None:
    answers: list[str] = []
    read: list[bool] = []

    def reload() -> Configuration:
        read.append("b" in gateway.runners)
        return gateway.configuration

    class Asking(Plain):
        def run(self) -> None:
            answers.append(gateway.request_restart(self.name))
            gateway.request_reload()
            if self.name == "a":
                all_handled(gateway)

    gateway = make(reload=reload)
    names = ("a", "b")
    gateway.configuration = replace(gateway.configuration, connections=tuple(connection(n, Asking) for n in names))
    try:
        gateway.start()
        gateway.start()
        assert answers == [BUSY] * 2
        gateway.supervise(lambda: gateway.reloads == 1)
        assert read == [True], "after the start"
        assert gateway.request_restart("a") == ""
    finally:
        gateway.stop()


def test_it_starts_with_the_kept_settings_and_tells_what_it_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []

    class Noted(Electing):
        def run(self) -> None:
            assert not self.quorum.leader
            acts.append(f"{self.db.read('GATEWAY_VERSION').value} {self.db.read('ZZLOADER').value}")

    gateway = make()
    for key in ("GATEWAY_VERSION", "ZZLOADER"):
        gateway.database.define(Definition(key=key, type="str"))
    gateway.configuration = replace(gateway.configuration, connections=(connection("a", Noted),))
    monkeypatch.setattr(gateway.settings, "open", lambda: acts.append("open"))
    monkeypatch.setattr(gateway.settings, "close", lambda: acts.append("close"))
    try:
        gateway.start()
    finally:
        gateway.stop()
    assert gateway.runners["a"].reason == ""
    assert acts == ["open", f"{__version__} Loaded", "close"]
    assert gateway.database.read("GATEWAY_VERSION").source == INITIAL


def test_a_stop_ends_the_start(make: Make) -> None:
    gateway = make()
    gateway.configuration = replace(gateway.configuration, connections=tuple(map(connection, ("a", "b", "c"))))
    gateway.request_stop()
    try:
        gateway.start()
        assert list(gateway.runners) == ["a"], "it sees to requests while it starts one"
    finally:
        gateway.stop()


def test_it_looks_as_often_as_it_is_asked_to(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make(broken("a"))
    waits: list[float] = []
    monkeypatch.setattr(gateway, "_step", waits.append)
    gateway.supervise(lambda: len(waits) == 2, every=0.05)
    gateway.supervise(lambda: len(waits) == 3)
    assert waits == [0.05, 0.05, 0.2]


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


def test_the_time_to_stop_is_shared_and_the_last_ones_get_a_little(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make()
    fed: list[float] = []
    monkeypatch.setattr(gateway, "_feed_watchdog", fed.append)
    slow: list[Any] = [Slow(clock, takes) for takes in (1.0, 1.0, 5.0, 8.0)]
    gateway._stop_runners(slow)
    assert [each.given for each in reversed(slow)] == [[8.0], [4.0], [0.5], [0.5]], "12 s together, and 2 s of grace"
    assert fed == [1008.0, 1013.0, 1014.0, 1015.0], "the service manager sees that it goes on"
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
    gateway.world.history.start()
    for _ in range(2):
        assert gateway.stop() == EXIT_OK
    assert "history" not in {thread.name for thread in threading.enumerate()}
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
    assert not gateway._events.empty(), "it looks at once"
    gateway._step(0.0)
    assert [runner.reason for runner in gateway.runners.values()] == ["", "its thread died: ValueError: x"]


def test_a_dead_thread_that_nobody_holds_is_told_by_its_traceback(make: Make) -> None:
    gateway = make(connection("a"), connection("b"), connection("c"))

    def work(plugin: Any, call: Callable[[], None]) -> None:
        call()

    def called(plugin: Any) -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as caught:
        work(gateway.runners["b"].plugin, partial(called, gateway.runners["a"].plugin))
    assert gateway._thread_died(threading.ExceptHookArgs((ValueError, caught.value, caught.tb, None)))
    gateway._step(0.0)
    assert [runner.reason for runner in gateway.runners.values()] == ["", "its thread died: ValueError: x", ""]


def test_a_subscriber_that_hangs_fails_its_plugin(make: Make) -> None:
    gateway = make(connection("a"), connection("b"))
    ias = gateway.database.item("IAS")
    gateway._subscriber_hangs(Hung(ias, print, 1, [], []))
    gateway._step(0.0)
    assert gateway._events.empty()
    plugin: Any = gateway.runners["b"].plugin
    assert gateway.database.on_hung is not None
    gateway.database.on_hung(Hung(ias, plugin.get_status, 1, [], []))
    assert not gateway._events.empty(), "it looks at once"
    gateway._step(0.0)
    reason = "it hangs: PluginBase.get_status does not return after a change of IAS"
    assert [runner.reason for runner in gateway.runners.values()] == ["", reason]
    plugin = gateway.runners["a"].plugin
    gateway._subscriber_hangs(Hung(ias, partial(_frame, plugin), 1, [_frame(plugin)], []))
    gateway._step(0.0)
    assert gateway.runners["a"].reason == "it hangs: a subscriber does not return after a change of IAS"


def _frame(plugin: Any) -> FrameType:
    return sys._getframe()


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_that_cannot_be_met_says_why(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class New(Plain):
        pass

    monkeypatch.setattr("fixgw.loader.reload_plugin", lambda plugin: New)
    gateway = make(connection("gps"), connection("canfix"))
    assert gateway.request_restart("canfx") == "there is no connection 'canfx' (did you mean 'canfix'?)"
    assert gateway.request_reload() == "this gateway does not run from files"
    gateway._changing = True
    assert gateway.request_restart("canfix") == BUSY
    gateway._changing, gateway._stop_requested = False, True
    assert gateway.request_restart("canfix") == BUSY
    gateway._stop_requested = False
    before = gateway.runners["canfix"].plugin
    assert gateway.request_restart("canfix") == ""
    events(gateway)
    assert gateway.runners["canfix"].plugin not in (before, None)
    assert gateway.runners["canfix"].state is State.RUNNING
    assert gateway.request_restart("canfix") == "", "it is not busy any more"
    assert [(each.name, each.plugin) for each in gateway.configuration.connections] == [("gps", Plain), ("canfix", New)]


def test_while_it_starts_one_again_or_changes_its_configuration_it_is_busy(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.loader.reload_plugin", lambda plugin: plugin)
    answers: list[str] = []

    class Asking(Plain):
        def run(self) -> None:
            answers.append(gateway.request_restart("a"))

    gateway = make()
    gateway.adopt(replace(gateway.configuration, connections=(connection("a", Asking),)))
    assert answers == [BUSY]
    gateway._restart("a")
    assert answers == [BUSY] * 2
    gateway.adopt(replace(gateway.configuration, connections=(connection("a", Asking, n=2),)))
    assert answers == [BUSY] * 3


def test_a_restart_is_not_tried_while_the_old_one_hangs(make: Make) -> None:
    gateway = make(connection("a"))
    runner = gateway.runners["a"]
    runner.hung.append("its thread is stuck")
    gateway._restart("a")
    assert gateway.problems == ["a could not be stopped, so it cannot be restarted: its thread is stuck"]
    assert gateway.runners["a"] is runner
    assert not gateway._changing
    assert gateway.exit_code == EXIT_HUNG


def test_a_restart_that_is_late_is_none(make: Make) -> None:
    """A reload has begun since it was requested, or has removed the connection."""
    gateway = make(connection("a"))
    before = gateway.runners["a"].plugin
    gateway._restart("gone")
    gateway._changing = True
    gateway._restart("a")
    assert [*gateway.runners] == ["a"]
    assert gateway.runners["a"].plugin is before


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


def test_code_that_has_changed_is_read_again_only_for_what_is_started_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Changed(Plain):
        pass

    read: list[type[PluginBase]] = []

    def reload(plugin: type[PluginBase]) -> type[PluginBase]:
        read.append(plugin)
        return Plain

    monkeypatch.setattr("fixgw.loader.code_has_changed", lambda plugin: plugin is not Plain)
    monkeypatch.setattr("fixgw.loader.reload_plugin", reload)
    gateway = make(connection("same", Changed), connection("other", Changed), connection("unchanged", n=1))
    caplog.set_level("INFO")
    new = (connection("same", Changed), connection("other", Changed, n=2), connection("unchanged", n=2))
    gateway.adopt(replace(gateway.configuration, connections=(*new, connection("new", Changed))))
    assert [message for message in caplog.messages if "code" in message] == [
        "the code of other has changed on disk: read again",
        "the code of same has changed on disk, but the old code still runs: `fixgw restart same`",
    ]
    assert read == [Changed]
    assert [each.plugin for each in gateway.configuration.connections] == [Changed, Plain, Plain, Changed]


def test_a_connection_that_cannot_be_stopped_ends_the_gateway_instead_of_a_reload(make: Make) -> None:
    gateway = make(connection("a"), connection("b"))
    gateway.runners["a"].hung.append("its thread is stuck")
    before = gateway.configuration
    gateway.adopt(replace(before, connections=(connection("new"),)))
    assert list(gateway.runners) == ["a"]
    assert gateway.configuration is before
    events(gateway)
    assert gateway._stop_requested
    assert gateway.exit_code == EXIT_HUNG


def test_a_reload_holds_up_neither_the_supervision_nor_the_end_of_the_process(make: Make, manager: Manager) -> None:
    go = threading.Event()
    found: list[Configuration] = []

    def reload() -> Configuration:
        go.wait(10)
        return found[0]

    gateway = make(connection("a"), reload=reload)
    found.append(gateway.configuration)
    gateway._step(0.0)
    assert not any(told.startswith("RELOADING=1") for told in manager.told), "nobody has asked"
    assert gateway.request_reload() == ""
    gateway._step(0.0)
    gateway._step(0.0)
    assert gateway.request_restart("a") == BUSY
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


@pytest.mark.parametrize(
    ("error", "problems"),
    [
        (
            ConfigurationError([Problem("x.yaml", 1, 1, "no"), Problem("x.yaml", 2, 1, "x")]),
            ["x.yaml:1:1: no", "x.yaml:2:1: x"],
        ),
        (ZeroDivisionError("a defect"), ["ZeroDivisionError: a defect"]),
    ],
)
def test_whatever_reading_the_configuration_raises_is_told(make: Make, error: Exception, problems: list[str]) -> None:
    def reload() -> Configuration:
        raise error

    gateway = make(reload=reload)
    gateway._read_again(reload)
    events(gateway)
    assert (gateway.problems, gateway.reloads) == (problems, 0)


def test_a_defect_in_the_supervision_of_one_harms_no_other_and_is_told_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make(connection("a"), connection("b"))
    monkeypatch.setattr(gateway.runners["a"], "tick", lambda: 1 // 0)
    looked: list[int] = []
    monkeypatch.setattr(gateway.runners["b"], "tick", lambda: looked.append(1))
    for _ in range(3):
        gateway._step(0.0)
    assert len(looked) == 3
    assert caplog.messages == ["supervision of a"]
    assert "ZeroDivisionError" in caplog.text


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


def test_votes_have_the_same_ways_as_long_as_their_connections_are_there(make: Make) -> None:
    gateway = make()
    can, more = (replace(connection(name), carries_votes=True) for name in ("can", "more"))
    gateway.adopt(replace(gateway.configuration, connections=(can, connection("gps"), connection("q", Electing))))
    assert not gateway.world.quorum.leader, "until it is elected"
    ways = gateway.world.quorum.ways
    assert {name: type(way) for name, way in ways.items()} == {"can": Way}
    gateway.adopt(replace(gateway.configuration, connections=(more, can)))
    assert gateway.world.quorum.leader
    assert list(gateway.world.quorum.ways) == ["more", "can"]
    assert gateway.world.quorum.ways["can"] is ways["can"]


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
