"""The life of one connection, on a clock that the test winds: limits, delays, and what people read about it."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import CellType, FrameType, SimpleNamespace
from typing import Any

import pytest

from fixgw import runner
from fixgw.configuration import Connection
from fixgw.database import OLD, Database, Definition
from fixgw.errors import DeviceError, PluginFail
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import PluginBase
from fixgw.runner import Runner, State, owner_of, threads_of
from fixgw.world import World


class Scripted(PluginBase):
    """Its `run`, `stop` and `health` do what the test says."""

    def run(self) -> None:
        self.config["does"]["run"](self)

    def stop(self) -> None:
        self.config["does"]["stop"](self)

    def health(self) -> str:
        return str(self.config["does"]["health"](self))


class Plain(PluginBase):
    pass


class Bench:
    """A connection, and what its plugin does."""

    def __init__(self, clock: Clock, plugin: type[PluginBase] = Scripted, **settings: Any) -> None:
        self.clock = clock
        self.started: list[PluginBase] = []
        self.stopped: list[PluginBase] = []
        self.pokes = 0
        self.does: dict[str, Callable[[Any], Any]] = {
            "run": self.started.append,
            "stop": self.stopped.append,
            "health": lambda plugin: "",
        }
        self.release = threading.Event()
        self.blocked: set[str] = set()
        options = {"does": self.does}
        connection = Connection(name="gps", module="theirs", plugin=plugin, options=options, **settings)
        self.db = Database([Definition(key="POWER_FAIL", type="bool")], clock=clock)
        self.runner = Runner(connection, World(self.db, clock=clock), clock, self._poke)

    def _poke(self) -> None:
        self.pokes += 1

    def block(self, what: str) -> None:
        """From now on, `run` or `stop` returns only when the test ends or sets `release`."""
        self.blocked.add(what)
        self.does[what] = lambda plugin: self.release.wait(10)

    def fail(self, what: str, error: BaseException) -> None:
        def fail(plugin: PluginBase) -> None:
            raise error

        self.does[what] = fail

    def after(self, seconds: float = 0.0) -> State:
        """The state so many seconds later, when what is under way has ended, unless it blocks."""
        self.clock.now += seconds
        self.runner.tick()
        return self.settle()

    def settle(self) -> State:
        task = self.runner._task
        if task is not None:
            task.thread.join(0.0 if task.kind in self.blocked and not self.release.is_set() else 5.0)
            self.runner.tick()
        return self.runner.state

    def start(self) -> State:
        self.runner.start()
        return self.settle()

    def die(self) -> State:
        """It stops running, and is cleaned up."""
        self.plugin.running = False
        self.runner.tick()
        assert self.runner.state is State.FAILED
        return self.after()

    @property
    def plugin(self) -> PluginBase:
        assert self.runner.plugin is not None
        return self.runner.plugin

    @property
    def report(self) -> dict[str, Any]:
        return self.runner.report()


def join(name: str) -> None:
    """Wait for the end of the threads of this name."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(5)


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(clock, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.release.set()
        if bench.runner.state is not State.LOADED:
            bench.runner.stop(5.0)


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- starting ----------------------------------------------------------------------------------------------------------


def test_the_report_of_one_that_runs(bench: Bench) -> None:
    assert bench.report["state"] == "loaded"
    assert bench.report["health"] == "loaded"
    assert bench.report["running"] is False
    bench.start()
    bench.clock.now += 12.3456
    assert bench.report == {
        "module": "theirs",
        "state": "running",
        "for": 12.346,
        "running": True,
        "health": "ok",
        "reason": "",
        "restarts": 0,
        "next start in": None,
        "status": {},
    }


def test_a_run_that_takes_long_is_reported_after_a_second_and_failed_after_its_limit(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.block("run")
    bench.start()
    assert bench.after(1.0) is State.STARTING
    assert (bench.report["reason"], caplog.messages) == ("", [])
    for _ in range(2):
        assert bench.after(0.5) is State.STARTING
    assert bench.report["reason"] == "run() is slow"
    assert bench.report["health"] == "starting: run() is slow"
    assert caplog.messages == ["gps: run() has not returned after 1 s"]
    assert not bench.runner.settled
    assert bench.after(3.0) is State.STARTING, "5 s are allowed"
    assert bench.after(0.001) is State.FAILED
    assert bench.report["reason"] == "run() has not returned within 5 s"
    assert bench.report["running"] is False
    assert caplog.messages[1:] == ["gps failed: run() has not returned within 5 s"]
    assert bench.runner.settled


def test_a_run_that_returns_after_all_is_welcome(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.block("run")
    bench.start()
    assert bench.after(5.1) is State.FAILED
    assert bench.after(1.0) is State.FAILED, "while run() has not returned, nothing is started beside it"
    bench.release.set()
    assert bench.after() is State.RUNNING
    assert caplog.messages[-1] == "run() of gps returned after all"
    assert (bench.report["reason"], bench.report["health"], bench.report["running"]) == ("", "ok", True)
    assert bench.runner.restarts == 0
    assert bench.die() is State.WAITING, "and is dead when it dies"


def test_the_supervision_need_not_look_all_the_time(bench: Bench) -> None:
    bench.start()
    assert bench.pokes == 1
    bench.plugin.done()
    bench.after()
    assert bench.pokes == 2


def test_each_start_is_watched_anew(make: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    bench = make(start_timeout=2.0)
    bench.block("run")
    bench.start()
    bench.after(1.5)
    bench.fail("run", DeviceError("no port"))
    bench.release.set()
    assert bench.after() is State.RUNNING
    assert bench.die() is State.WAITING
    bench.release.clear()
    bench.block("run")
    assert bench.after(1.0) is State.STARTING
    bench.after(1.5)
    assert caplog.messages.count("gps: run() has not returned after 1 s") == 2


def test_only_a_start_that_asks_for_it_reads_the_code_again(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.loader.reload_plugin", {Scripted: Plain}.__getitem__)
    same, new = make(), make()
    same.start()
    new.runner.start(fresh_code=True)
    new.settle()
    assert (type(same.plugin), type(new.plugin)) == (Scripted, Plain)


def test_one_that_runs_is_not_started_again(bench: Bench) -> None:
    bench.start()
    with pytest.raises(RuntimeError, match="gps: running to starting is not an allowed transition"):
        bench.runner.start()


# -- failing and restarting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeviceError("no /dev/ttyUSB0"), "no /dev/ttyUSB0"),
        (OSError(), "OSError"),
        (ValueError("two\nlines"), "run() raised ValueError: two lines"),
        (ZeroDivisionError(), "run() raised ZeroDivisionError"),
        (SystemExit(3), "run() raised SystemExit: 3"),
    ],
)
def test_the_reason_of_a_failure_is_one_line(make: Callable[..., Bench], error: BaseException, reason: str) -> None:
    bench = make(on_failure="ignore")
    bench.fail("run", error)
    assert bench.start() is State.FAILED
    assert (bench.report["reason"], bench.report["health"]) == (reason, f"failed: {reason}")
    assert bench.after(1e6) is State.FAILED, "ignored"


def test_a_defect_is_logged_with_its_traceback_and_a_missing_device_without(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    for error in (ValueError("defect"), DeviceError("no port")):
        bench = make(on_failure="ignore")
        bench.fail("run", error)
        bench.start()
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


def test_a_constructor_that_raises_is_named(clock: Clock) -> None:
    class Broken(PluginBase):
        def __post_init__(self) -> None:
            raise ValueError("no name")

    bench = Bench(clock, Broken, on_failure="ignore")
    assert bench.start() is State.FAILED
    assert bench.report["reason"] == "its constructor raised ValueError: no name"
    assert bench.report["running"] is False


def test_a_constructor_that_blocks_is_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    begun, release = threading.Event(), threading.Event()

    class Blocks(PluginBase):
        def __post_init__(self) -> None:
            begun.set()
            release.wait(10)

    bench = Bench(clock, Blocks, on_failure="ignore")
    bench.runner.start()
    assert begun.wait(5)
    for seconds, reason in ((1.1, "its constructor is slow"), (4.0, "its constructor has not returned within 5 s")):
        clock.now += seconds
        bench.runner.tick()
        assert bench.report["reason"] == reason
    assert caplog.messages[0] == "gps: its constructor has not returned after 1 s"
    release.set()
    assert bench.settle() is State.RUNNING
    bench.runner.stop(5.0)


def test_restarts_are_delayed_more_and_more_up_to_a_limit(make: Callable[..., Bench]) -> None:
    bench = make(restart_delay=1.0, restart_delay_max=3.0)
    bench.fail("run", DeviceError("no port"))
    assert bench.start() is State.FAILED
    for n, delay in enumerate((1.0, 2.0, 3.0, 3.0)):
        assert bench.after() is State.WAITING
        assert bench.report["next start in"] == delay
        assert (bench.report["reason"], bench.report["restarts"]) == ("no port", n)
        assert bench.after(delay - 0.25) is State.WAITING
        assert bench.report["next start in"] == 0.2, "to a tenth of a second"
        assert bench.after(0.25) is State.FAILED, "started at that time, and failed again"
    assert bench.report["next start in"] is None
    assert bench.runner.restarts == 4
    assert bench.after() is State.WAITING
    bench.clock.now += 5.0
    assert bench.report["next start in"] == 0.0, "it is overdue"


def test_the_delay_begins_anew_after_it_has_run_for_longer_than_the_longest_delay(make: Callable[..., Bench]) -> None:
    bench = make(restart_delay=1.0, restart_delay_max=4.0)

    def fails_after(seconds: float) -> float:
        bench.after(seconds)
        assert bench.die() is State.WAITING
        delay = float(bench.report["next start in"])
        assert bench.after(delay) is State.RUNNING
        return delay

    bench.start()
    assert [fails_after(seconds) for seconds in (100.0, 4.0, 0.0, 4.1, 0.0)] == [1.0, 2.0, 4.0, 1.0, 2.0]
    assert len(bench.started) == 6
    assert len({id(plugin) for plugin in bench.started}) == 6, "a fresh plugin each time"


def test_no_call_that_hangs_keeps_the_process_alive(
    make: Callable[..., Bench], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[threading.Thread] = []

    def begin(call: threading.Thread) -> None:
        calls.append(call)
        threading.Thread.start(call)

    monkeypatch.setattr(runner._Call, "start", begin)
    bench = make()
    bench.start()
    bench.runner._look_for_life(clock.now)
    monkeypatch.setattr(bench.runner, "signs_of_life", lambda now: "none for 10 s")
    for _ in range(5):
        clock.now += 2.5
        bench.runner._look_for_life(clock.now)
    assert sum(call.name == "gps: disown" for call in calls) == 1, "once, as long as it hangs"
    bench.runner.report()
    bench.die()
    assert {call.name.partition(": ")[2] for call in calls} >= {"run", "disown", "release", "stop"}
    assert all(call.daemon for call in calls)


def test_what_goes_wrong_in_the_clean_up_is_told_too(bench: Bench) -> None:
    bench.fail("run", DeviceError("no port"))
    bench.fail("stop", PluginFail("its thread is stuck"))
    assert bench.start() is State.FAILED
    assert bench.after() is State.WAITING
    assert bench.report["reason"] == "no port; stop() raised PluginFail: its thread is stuck"
    bench.does["stop"] = bench.stopped.append


def test_a_stop_that_raises_after_a_failure_is_no_reason_to_keep_the_plugin(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fail("run", DeviceError("no port"))
    bench.fail("stop", AttributeError("port"))
    bench.start()
    assert bench.after() is State.WAITING
    assert bench.report["reason"] == "no port"
    assert "stop() of gps raised AttributeError('port') after the plugin had failed" in caplog.messages
    assert bench.runner.plugin is None


# -- dying -------------------------------------------------------------------------------------------------------------


def test_one_that_has_stopped_running_tells_why_if_it_knows(bench: Bench) -> None:
    bench.start()
    bench.plugin.running = False
    bench.does["health"] = lambda plugin: "its battery is empty"
    bench.runner.tick()
    assert (bench.runner.state, bench.runner.reason) == (State.FAILED, "its battery is empty")


def test_a_thread_that_has_ended_is_a_failure_and_one_that_was_never_started_is_none(bench: Bench) -> None:
    bench.start()
    plugin: Any = bench.runner.plugin
    plugin.later = threading.Thread(target=lambda: None)
    assert bench.after() is State.RUNNING
    plugin.thread = threading.Thread(target=lambda: bench.release.wait(10))
    plugin.thread.start()
    assert bench.after() is State.RUNNING
    bench.release.set()
    plugin.thread.join()
    bench.runner.tick()
    assert (bench.runner.state, bench.runner.reason) == (State.FAILED, "its thread ended")


def test_a_crash_belongs_to_one_run(bench: Bench) -> None:
    bench.start()
    first = bench.plugin
    bench.runner.crashed(first, "ValueError: x")
    bench.runner.tick()
    assert (bench.runner.state, bench.runner.reason) == (State.FAILED, "its thread died: ValueError: x")
    bench.after()
    assert bench.after(1.0) is State.RUNNING
    bench.runner.crashed(first, "ValueError: told late")
    assert bench.after() is State.RUNNING
    bench.runner.gave_up(bench.plugin, "IAS", "their function")
    bench.runner.tick()
    assert bench.runner.reason == "it hangs: their function does not return after a change of IAS"


def test_ten_seconds_without_a_sign_of_life_count_as_hung(bench: Bench) -> None:
    bench.start()
    plugin = bench.plugin
    assert bench.runner.signs_of_life(bench.clock.now + 1e6) == "", "it has never given any"
    plugin.alive = bench.clock.now
    bench.clock.now += 10.0
    assert bench.report["health"] == "ok"
    bench.clock.now += 2.0
    assert bench.report["health"] == "no sign of life for 12 s"
    assert bench.runner.health_now() == "no sign of life for 12 s"
    assert bench.after() is State.RUNNING, "reported, and left alone"
    plugin.running = False
    bench.runner.tick()
    assert bench.runner.signs_of_life(bench.clock.now) == "", "what has failed is not hung"


def test_what_never_ages_is_old_once_its_plugin_has_been_silent_for_twelve_seconds(bench: Bench) -> None:
    item = bench.db.item("POWER_FAIL")

    def old_after(seconds: float) -> bool:
        bench.after(seconds)
        join("gps: disown")
        return item.reading.old

    bench.start()
    for _ in range(2):
        bench.plugin.alive = bench.clock.now
        item.write(False, "gps", flags=0)
        assert not old_after(0.0)
        assert not old_after(10.125)
        assert not old_after(2.0), "the whole process may have been held up"
        assert old_after(0.125)
        assert item.reading.reason(OLD) == "gps hangs"


def test_threads_are_looked_for_in_collections_of_up_to_256() -> None:
    plugin: Any = Plain("gps", {})
    thread = threading.Thread()
    for kept in (thread, [thread], (thread,), {thread}, {"x": thread}, [thread, *[None] * 255]):
        plugin.kept = kept
        assert list(threads_of(plugin)) == [thread]
    plugin.kept = [thread, *[None] * 256]
    assert list(threads_of(plugin)) == [], "these are values"
    plugin.kept = threading.Timer(1.0, lambda: None)
    assert list(threads_of(plugin)) == [], "a timer is meant to end"


def test_threads_are_looked_for_in_what_a_plugin_is_made_of() -> None:
    plugin: Any = Plain("gps", {})
    thread = threading.Thread()
    for module, found in ((__name__, [thread]), (f"{__name__}.parts", [thread]), (f"{__name__}s", []), ("os", [])):
        plugin.part = type("Part", (), {"__module__": module})()
        plugin.part.thread = thread
        assert list(threads_of(plugin)) == found


def test_whose_a_callback_is() -> None:
    one, other = Plain("a", {}), Plain("b", {})

    def closure() -> str:
        return other.name

    assert owner_of([], one.health, [other, one]) is one
    assert owner_of([], closure, [one, other]) is other
    assert owner_of([], Plain, [one]) is one, "the only plugin of that module"
    assert owner_of([], Plain, [one, other]) is None, "of two, nobody can tell"
    assert owner_of([], print, [one, other]) is None

    def inside(plugin: PluginBase) -> FrameType:
        return sys._getframe()

    unfilled = SimpleNamespace(__closure__=(CellType(),))
    assert owner_of([], unfilled, [one, other]) is None

    frames = [inside(one), inside(other)]  # the innermost first
    assert owner_of(frames, print, [one, other]) is other, "who was called first"
    assert owner_of(frames[:1], print, [other, one]) is one

    def outside() -> FrameType:
        return sys._getframe()

    assert owner_of([outside()], print, [one]) is one, "it is code of the module of this plugin only"
    assert owner_of([outside()], print, [one, other]) is None


def test_for_which_plugin_a_thread_works() -> None:
    one, other = Plain("a", {}), Plain("b", {})
    kept: list[Any] = []

    def frame_in(module: str, **variables: Any) -> FrameType:
        """The frame of a function of this module with these local variables, which nobody has called."""
        where: dict[str, Any] = {"__name__": module}
        exec(f"def function({', '.join(variables)}):\n    yield", where)
        kept.append(where["function"](**variables))
        frame: FrameType = kept[-1].gi_frame
        return frame

    def works(frame: FrameType | None, alone: bool = False, born: bool = False) -> bool:
        return runner._works_for(one, frame, "theirs", alone, born)

    assert works(frame_in("elsewhere", it=one))
    assert works(frame_in("theirs", it=other), alone=True, born=True) is False, "it is another's"
    for module in ("theirs", "theirs.part"):
        assert works(frame_in(module), alone=True)
        assert not works(frame_in(module)), "two plugins share the module"
    assert not works(frame_in("theirstoo"), alone=True)
    assert works(frame_in("elsewhere"), born=True), "who else has started it?"
    assert not works(frame_in("elsewhere"))
    assert not works(frame_in("fixgw.kit.shared"), born=True), "others may use it later"
    assert not works(None, born=True), "it has ended"


@pytest.mark.parametrize(("how", "why"), [("dies", "gps has failed"), ("stops", "gps has stopped"), ("is done", "")])
def test_only_the_last_word_of_one_that_is_done_stays_good(bench: Bench, how: str, why: str) -> None:
    item = bench.db.item("POWER_FAIL")
    bench.start()
    item.write(False, "gps", flags=0)
    if how == "dies":
        bench.die()
    elif how == "stops":
        bench.runner.stop(5.0)
    else:
        bench.plugin.done()
        bench.after()
    join("gps: release")
    assert (item.reading.reason(OLD), item.reading.good) == (why, not why)


# -- threads that are left ---------------------------------------------------------------------------------------------


def lingering(bench: Bench, *names: str) -> Callable[[Any], None]:
    """A `run` that starts threads of these names, which the plugin does not keep."""

    def run(plugin: PluginBase) -> None:
        for name in names:
            threading.Thread(target=bench.release.wait, args=(10,), name=name, daemon=True).start()

    return run


def test_threads_that_do_not_end_with_the_plugin_are_named(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "THREADS_GRACE_S", 0.0)
    for names, words in (
        ("r", "1 thread still running: r"),
        ("badfec", "6 threads still running: a, b, c, d, e"),
    ):
        bench = make()
        bench.does["run"] = lingering(bench, *names)
        bench.start()
        bench.runner.stop(5.0)
        assert bench.runner.hung == [f"stop() raised PluginFail: stop() has returned, but {words}"]
        bench.release.set()


@pytest.mark.parametrize(("takes", "left"), [(1.0, 0), (1.25, 0), (1.5, 1)])
def test_threads_that_end_within_a_second_of_the_stop_are_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, takes: float, left: int
) -> None:
    waits: list[float] = []

    def passed() -> float:
        return 0.25 * len(waits)

    thread = SimpleNamespace(name="reader", join=waits.append)
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=passed))
    monkeypatch.setattr(runner, "threads_at_work", lambda plugin, born: [thread] if passed() < takes else [])
    assert len(bench.runner._threads_left(Plain("gps", {}))) == left
    assert passed() >= 1.0
    assert all(0.01 <= wait <= 0.25 for wait in waits), "it looks again soon, but not all the time"


def test_nothing_is_started_beside_a_thread_of_a_failed_run(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither if its stop() says that something is stuck, nor if it raises while a thread of its own still runs."""
    for error in (PluginFail("stuck"), AttributeError("port")):
        bench = make(restart_delay=1.0)
        bench.start()
        plugin: Any = bench.plugin
        if not isinstance(error, PluginFail):
            plugin.thread = threading.Thread(target=bench.release.wait, args=(10,), daemon=True)
            plugin.thread.start()
        bench.fail("stop", error)
        assert bench.die() is State.WAITING
        assert bench.report["reason"] == f"it stopped running; stop() raised {type(error).__name__}: {error}"
        assert bench.after(1.0) is State.FAILED
        assert bench.report["reason"] == f"stop() raised {type(error).__name__}: {error}"
        assert bench.plugin is plugin
        assert bench.started == [plugin]
        bench.does["stop"] = bench.stopped.append
        bench.release.set()
        for thread in threads_of(plugin):
            thread.join(5)
        assert bench.after() is State.WAITING
        assert bench.after(2.0) is State.RUNNING
        assert bench.plugin is not plugin


def test_which_threads_are_at_work_for_a_plugin(bench: Bench) -> None:
    wait: dict[str, Any] = {"target": bench.release.wait, "args": (10,), "daemon": True}
    plugin: Any = Plain("gps", {})
    plugin.kept = threading.Thread(**wait)
    born, timer, ours, stranger = (
        threading.Thread(**wait),
        threading.Timer(10.0, lambda: None),
        runner._Call(**wait),
        threading.Thread(**wait),
    )
    found: list[list[threading.Thread]] = []

    def look(plugin: PluginBase) -> None:
        found.append(runner.threads_at_work(plugin, weakref.WeakSet((born, timer, ours, threading.main_thread()))))

    look_elsewhere = threading.Thread(target=look, args=(plugin,))
    threads = [plugin.kept, born, timer, ours, stranger, look_elsewhere]
    for thread in threads:
        thread.start()
    look_elsewhere.join(10)
    look(plugin)
    bench.release.set()
    timer.cancel()
    for thread in threads:
        thread.join(10)
    assert [set(each) for each in found] == [{plugin.kept, born}] * 2


# -- being done --------------------------------------------------------------------------------------------------------


def test_one_that_is_done_is_stopped_and_well(bench: Bench) -> None:
    bench.start()
    bench.plugin.done("all is sent")
    bench.runner.tick()
    assert bench.runner.state is State.STOPPING
    assert bench.settle() is State.STOPPED
    assert (bench.report["health"], bench.report["reason"]) == ("ok", "done: all is sent")
    assert bench.runner.done
    assert len(bench.stopped) == 1
    assert bench.after(1e6) is State.STOPPED


def test_one_that_is_done_but_does_not_stop_is_not_well(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(stop_timeout=2.0)
    bench.start()
    bench.block("stop")
    bench.plugin.done("all is sent")
    assert bench.after() is State.STOPPING
    assert bench.after(2.0) is State.STOPPING
    assert bench.after(0.1) is State.STOPPED
    assert bench.runner.hung == ["stop() has not returned"]
    assert bench.report["health"] == "stopped: done: all is sent; stop() has not returned"
    assert caplog.messages == ["gps: stop() has not returned"]
    assert not bench.runner.done


def test_a_stop_that_raises_when_it_is_done_is_told(bench: Bench) -> None:
    bench.start()
    bench.fail("stop", PluginFail("its thread is stuck"))
    bench.plugin.done()
    bench.runner.tick()
    assert bench.settle() is State.STOPPED
    assert bench.report["reason"] == "done: its work is done; stop() raised PluginFail: its thread is stuck"


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_a_stop_while_one_that_is_done_is_being_stopped(bench: Bench) -> None:
    bench.start()
    bench.block("stop")
    bench.plugin.done()
    bench.runner.tick()
    assert bench.report["state"] == "stopping"
    bench.runner.stop(0.05)
    assert bench.report["state"] == "stopped"
    assert bench.runner.hung == ["stop() has not returned"]


def test_a_stop_in_any_state(make: Callable[..., Bench]) -> None:
    def failed(bench: Bench) -> None:
        bench.fail("run", DeviceError("no port"))
        assert bench.start() is State.FAILED

    def waiting(bench: Bench) -> None:
        failed(bench)
        assert bench.after() is State.WAITING

    ways: list[tuple[Callable[[Bench], object], int]] = [
        (lambda bench: None, 0),
        (Bench.start, 1),
        (failed, 1),
        (waiting, 1),
    ]
    for reach, stops in ways:
        bench = make()
        reach(bench)
        bench.runner.stop(5.0)
        bench.runner.stop(5.0)
        assert (bench.runner.state, bench.runner.hung) == (State.STOPPED, [])
        assert len(bench.stopped) == stops
        assert bench.report["health"] == "stopped"
        assert bench.runner.plugin is None


def test_what_does_not_stop_is_named(make: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    bench = make()
    bench.start()
    bench.block("stop")
    bench.runner.stop(0.02)
    assert bench.runner.hung == ["stop() has not returned within 0.02 s"]
    assert bench.report["health"] == "stopped: stop() has not returned within 0.02 s"
    assert caplog.messages == ["gps: stop() has not returned within 0.02 s"]

    bench = make()
    bench.block("run")
    bench.start()
    bench.runner.stop(0.02)
    assert bench.runner.hung == ["run() has not returned"]

    bench = make()
    bench.fail("run", DeviceError("no port"))
    bench.block("stop")
    bench.start()
    bench.after()
    bench.runner.stop(0.02)
    assert bench.runner.hung == ["stop() has not returned"], "it is not called a second time"

    bench = make()
    bench.start()
    bench.fail("stop", PluginFail("its thread is stuck"))
    bench.runner.stop(5.0)
    assert bench.runner.hung == ["stop() raised PluginFail: its thread is stuck"]


@pytest.mark.parametrize(("given", "waited"), [(5.0, 1.0), (0.25, 0.25)])
def test_a_stop_does_not_wait_long_for_a_clean_up_that_is_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, given: float, waited: float
) -> None:
    bench.start()
    bench.runner._fail("it stopped running")
    waits: list[float] = []
    thread = SimpleNamespace(join=waits.append)
    monkeypatch.setattr(bench.runner, "_task", SimpleNamespace(thread=thread, finished=False, kind="stop"))
    bench.runner.stop(given)
    assert (waits, bench.runner.hung) == ([waited], ["stop() has not returned"])


def test_a_stop_waits_for_one_that_is_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    bench.plugin.done()
    bench.runner._enter(State.STOPPING)
    waits: list[float] = []
    thread = SimpleNamespace(join=waits.append)
    monkeypatch.setattr(bench.runner, "_task", SimpleNamespace(thread=thread, finished=True, error=None))
    bench.runner.stop(3.0)
    assert (waits, bench.runner.state, bench.runner.hung) == ([3.0], State.STOPPED, [])


def test_an_error_in_stop_matters_unless_the_plugin_had_failed(make: Callable[..., Bench]) -> None:
    for fails, hung in ((False, ["stop() raised ValueError: x"]), (True, [])):
        bench = make()
        if fails:
            bench.fail("run", DeviceError("no port"))
        bench.start()
        bench.fail("stop", ValueError("x"))
        bench.runner.stop(5.0)
        assert bench.runner.hung == hung


# -- asking ------------------------------------------------------------------------------------------------------------


def test_only_plugins_that_may_block_are_asked_on_a_thread(clock: Clock, make: Callable[..., Bench]) -> None:
    plain, scripted = Bench(clock, Plain), make()
    asked: list[threading.Thread] = []

    def health(plugin: PluginBase) -> str:
        asked.append(threading.current_thread())
        return "dry"

    scripted.does["health"] = health
    for bench in (plain, scripted):
        bench.start()
    assert plain.runner.health() == ""
    assert plain.runner._health._thread is None, "a summary of fifty connections starts no threads"
    assert scripted.runner.health() == "dry"
    assert asked != [threading.current_thread()]
    assert scripted.runner.health_now() == "dry"
    assert asked[1:] == [threading.current_thread()]


def test_a_question_that_takes_long_is_waited_for_once() -> None:
    release = threading.Event()

    def ask() -> str:
        release.wait(10)
        return "well"

    question = runner.Question("health", ask, "not asked")
    assert (question.ask(0.05), question.answer, question.fresh) == (True, "not asked", False), "it may still answer"
    began = time.monotonic()
    assert not question.ask(), "not within half a second"
    assert 0.3 < time.monotonic() - began < 0.9
    began = time.monotonic()
    assert not question.ask()
    assert time.monotonic() - began < 0.3, "it is not waited for again"
    release.set()
    assert question._thread is not None
    question._thread.join(5)
    assert question.fresh
    assert question.ask()
    assert question.answer == "well"


def test_a_plugin_that_has_stopped_is_forgotten_and_others_are_not(make: Callable[..., Bench]) -> None:
    benches = [make(), make(), make()]
    collected = weakref.ref(PluginBase("gps", {}))
    for bench in benches:
        runner._alive.append(collected)
        bench.start()
        assert collected not in runner._alive
    plugins = [bench.plugin for bench in benches]
    benches[1].runner.stop(5.0)
    assert [plugin for ref in runner._alive if (plugin := ref()) in plugins] == [plugins[0], plugins[2]]


def test_the_status_of_a_plugin_is_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.runner.plugin_status() == ({}, 0.0)
    bench.start()
    monkeypatch.setattr(bench.plugin, "get_status", lambda: {"satellites": 8})
    answer, used = bench.runner.plugin_status()
    assert (answer, used > 0.0) == ({"satellites": 8}, True)
    monkeypatch.setattr(bench.plugin, "get_status", lambda: 8)
    assert bench.runner.plugin_status()[0] == {"status": 8}
    monkeypatch.setattr(bench.plugin, "get_status", lambda: 1 // 0)
    assert bench.runner.plugin_status() == (
        {"unavailable": "get_status() raised ZeroDivisionError: integer division or modulo by zero"},
        0.0,
    )


def test_the_health_of_a_plugin_that_does_not_tell_it_has_its_last_word(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ANSWER_TIMEOUT_S", 0.01)
    bench.start()
    answer = ""

    def health(plugin: PluginBase) -> str:
        bench.release.wait(10)
        return answer

    for answer, words in (("dry", ""), ("", "; before that: dry")):
        bench.release.clear()
        bench.does["health"] = health
        bench.runner.health()
        assert bench.runner.health() == f"health() has not returned{words}"
        bench.release.set()
        join("gps: health")
        assert bench.runner.health() == answer


def test_the_status_of_a_plugin_that_does_not_return_it_is_the_last_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ANSWER_TIMEOUT_S", 0.01)
    silent, told = {"unavailable": "get_status() has not returned"}, threading.Event()

    def status() -> dict[str, int]:
        told.wait(10)
        return {"satellites": 8}

    bench.start()
    monkeypatch.setattr(bench.plugin, "get_status", status)
    bench.runner.plugin_status()
    assert bench.runner.plugin_status() == (silent, 0.0)
    told.set()
    assert bench.runner._status._thread is not None
    bench.runner._status._thread.join(5)
    assert bench.runner.plugin_status()[0] == {"satellites": 8}
    told.clear()
    bench.runner.plugin_status()
    answer, used = bench.runner.plugin_status()
    assert (answer, used > 0.0) == ({**silent, "satellites": 8}, True)
    told.set()


def test_a_defect_in_health_is_its_answer(bench: Bench) -> None:
    bench.start()
    bench.fail("health", ValueError("defect"))
    assert bench.report["health"] == "health() raised ValueError('defect')"
