"""Plugins that hang in health, stop or a callback: nothing else waits for them."""

from __future__ import annotations

import collections
import json
import sys
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import database, loader, runner, status
from fixgw.errors import BadPlugin
from fixgw.gateway import Gateway, State
from fixgw.plugin import PluginBase
from fixgw.runner import threads_of
from fixgw.service import EXIT_HUNG, EXIT_OK
from tests.core.test_gateway import Bench

pytestmark = pytest.mark.slow

PLUGINS = {
    "sick": """
        import threading
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            release = threading.Event()
            ill = threading.Event()

            def health(self):
                if self.ill.is_set():
                    self.release.wait()
                return "a little cold"
    """,
    "lives_on": """
        import threading, time
        from fixgw.plugin import PluginBase

        def work(release):
            while not release.wait(0.05):
                pass

        class Plugin(PluginBase):
            release = threading.Event()

            def run(self):
                how = self.config["how"]
                if how == "function":
                    threading.Thread(target=work, args=(self.release,), daemon=True).start()
                elif how == "method":
                    threading.Thread(target=self.work, daemon=True).start()
                elif how == "foreign":
                    threading.Thread(target=self.release.wait, daemon=True).start()
                elif how == "timer":
                    threading.Timer(1000, print).start()
                elif how == "late":
                    threading.Thread(target=self.release.wait, args=(0.3,), daemon=True).start()

            def work(self):
                work(self.release)

            def stop(self):
                for thread in threading.enumerate():
                    if isinstance(thread, threading.Timer):
                        self.timer = thread
    """,
    "done": """
        import threading
        from fixgw.plugin import PluginBase, Worker

        class Plugin(Worker):
            stopped = []

            go = threading.Event()

            def work(self):
                if self.config.get("wait"):
                    self.stopping.wait()
                if self.config.get("go"):
                    self.go.wait()
                if self.config.get("end"):
                    return
                self.db_write("POWER_FAIL", False)
                self.done("the calibration has been written")

            def stop(self):
                super().stop()
                self.stopped.append(self.name)
    """,
    "forgets": """
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            def __init__(self, name, config):
                self.port = config.get("port")
    """,
    "takes_none": """
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            def __init__(self):
                super().__init__("x", {})
    """,
    "hangs": """
        import threading
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            release = threading.Event()

            def run(self):
                release = self.release
                self.db.subscribe("IAS", lambda key, reading: release.wait() if reading.old else None)
    """,
    "alerts": """
        import threading
        from fixgw.plugin import Worker

        class Plugin(Worker):
            runs = 0
            crash = threading.Event()

            def work(self):
                Plugin.runs += 1
                if self.runs == 1:
                    self.db.item("IAS").annunciate(True, "too slow", self.source)
                    self.db_get_item("IAS").annunciate = True
                    self.notices.put(self.name, "ias", "caution", "IAS MISCOMPARE")
                    self.offer("mind", str.upper)
                while not self.stopping.wait(0.01):
                    if self.runs == 1 and self.crash.is_set():
                        raise ValueError("a defect")
    """,
    "asked": """
        import threading
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            by = []

            def health(self):
                self.by.append(threading.current_thread().name)
                return "asked"
    """,
    "good": """
        from fixgw.plugin import PluginBase

        class Plugin(PluginBase):
            pass
    """,
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, text in PLUGINS.items():
        (tmp_path / f"s_{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    previous = database.current()
    bench = Bench(tmp_path)
    yield bench
    for name in [n for n in sys.modules if n.startswith("s_")]:
        module = sys.modules.pop(name)
        if release := getattr(getattr(module, "Plugin", None), "release", None):
            release.set()
    if hasattr(bench, "thread") and bench.thread.is_alive():
        bench.stop()
    database.bind(previous)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def module(name: str) -> Any:
    return sys.modules[f"s_{name}"].Plugin


# -- health() ----------------------------------------------------------------------------------------------------------


def test_a_hung_health_delays_no_one(bench: Bench) -> None:
    gateway = bench.start("connections: {sick: {load: yes, module: s_sick}, a: {load: yes, module: s_good}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    assert gateway.troubles() == {"sick": "a little cold"}
    module("sick").ill.set()
    began = time.monotonic()
    words = "health() has not returned; before that: a little cold"
    assert gateway.troubles() == {"sick": words}
    assert gateway.get_status()["connections"]["sick"]["health"] == words
    assert time.monotonic() - began < 3
    began = time.monotonic()
    for _ in range(20):
        gateway.summary()
    assert time.monotonic() - began < 1, "a hung plugin is waited for once"
    assert bench.stop() == EXIT_OK


def test_a_health_that_finally_returns_is_used(bench: Bench) -> None:
    gateway = bench.start("connections: {sick: {load: yes, module: s_sick}}")
    bench.until(lambda: bench.state("sick") is State.RUNNING)
    module("sick").ill.set()
    bench.until(lambda: "has not returned" in gateway.summary())
    module("sick").ill.clear()
    module("sick").release.set()
    bench.until(lambda: gateway.summary() == "0 of 1 connections well; sick: a little cold")


# -- subscribers -------------------------------------------------------------------------------------------------------


def test_a_plugin_with_a_hung_subscriber_fails_by_name(bench: Bench) -> None:
    gateway = bench.start("connections: {a: {load: yes, module: s_good}, b: {load: yes, module: s_hangs}}")
    bench.until(lambda: bench.state("b") is State.RUNNING)
    began = time.monotonic()
    gateway.database.write("IAS", 100.0, "test")
    bench.until(lambda: gateway.runners["b"].state is not State.RUNNING, 10)
    assert time.monotonic() - began < 2 + 2 + 2  # the tolerance, the promised delay, a margin
    assert "does not return after a change of IAS" in gateway.troubles()["b"]
    assert bench.state("a") is State.RUNNING
    bench.until(lambda: "still running" in gateway.runners["b"].reason, 10)
    module("hangs").release.set()
    bench.until(lambda: bench.state("b") is State.RUNNING, 10)


@pytest.mark.parametrize("how", ["removed", "crashed, restart", "crashed, ignore", "stopped"])
def test_a_plugin_that_ends_lets_go_of_its_flags_notices_and_values(bench: Bench, how: str) -> None:
    on_failure = "ignore" if how == "crashed, ignore" else "restart"
    entry = f"load: yes, module: s_alerts, source: minder, restart_delay: 0.1, on_failure: {on_failure}"
    gateway = bench.start(f"connections: {{alerts: {{{entry}}}, a: {{load: yes, module: s_good}}}}")
    item = gateway.database.item("IAS")
    item.annunciate(True, "not theirs", "other")
    gateway.world.notices.put("other", "ias", "advisory", "not theirs")
    lasting = gateway.database.item("POWER_FAIL")
    lasting.write(False, "minder")
    bench.until(lambda: "minder" in item.annunciators and len(gateway.world.notices.all()) == 2)
    offered = gateway.world.offered("mind")
    assert offered is not None
    assert offered("well") == "WELL"
    if how == "removed":
        bench.reload("connections: {a: {load: yes, module: s_good}}")
    elif how == "stopped":
        assert bench.stop() == EXIT_OK
    else:
        module("alerts").crash.set()
    bench.until(lambda: "minder" not in item.annunciators)
    assert item.annunciators == {"other": "not theirs"}
    bench.until(lambda: [n.owner for n in gateway.world.notices.all()] == ["other"])
    bench.until(lambda: gateway.world.offered("mind") is None)
    bench.until(lambda: lasting.reading.old)
    assert lasting.reading.reason(database.OLD) == f"alerts has {'failed' if 'crashed' in how else 'stopped'}"
    if how == "crashed, restart":
        bench.until(lambda: module("alerts").runs == 2)
        assert "minder" not in item.annunciators


def test_a_dead_ageing_thread_is_restarted(bench: Bench) -> None:
    gateway = bench.start("connections: {a: {load: yes, module: s_good}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    gateway.database._stopping = True
    gateway.database._wake.set()
    dead = gateway.database._thread
    assert dead is not None
    dead.join(5)
    gateway.database._stopping = False
    bench.until(lambda: gateway.database.alive)
    assert gateway.database._thread is not dead


# -- threads left after stop() -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["function", "method", "foreign"])
def test_a_plugin_with_live_threads_was_not_stopped(bench: Bench, how: str) -> None:
    gateway = bench.start(
        f"connections: {{a: {{load: yes, module: s_good}}, b: {{load: yes, module: s_lives_on, how: {how}}}}}"
    )
    bench.until(lambda: bench.state("b") is State.RUNNING)
    assert bench.stop() == EXIT_HUNG
    (reason,) = gateway.runners["b"].hung
    assert "stop() has returned, but 1 thread still running" in reason
    assert gateway.runners["a"].hung == []


@pytest.mark.parametrize("how", ["timer", "late", "none"])
def test_threads_that_end_by_design_or_soon_count_as_stopped(bench: Bench, how: str) -> None:
    bench.start(f"connections: {{b: {{load: yes, module: s_lives_on, how: {how}}}}}")
    bench.until(lambda: bench.state("b") is State.RUNNING)
    assert bench.stop() == EXIT_OK


def test_the_threads_of_another_connection_of_the_same_plugin_do_not_count(bench: Bench) -> None:
    gateway = bench.start(
        "connections: {a: {load: yes, module: s_lives_on, how: method}, b: {load: yes, module: s_lives_on, how: none}}"
    )
    bench.until(lambda: bench.state("b") is State.RUNNING)
    assert bench.stop() == EXIT_HUNG
    assert gateway.runners["b"].hung == []


LONE = """
import threading
from fixgw.plugin import PluginBase

class Lone(PluginBase):
    pass

def work(end):
    end.wait(20)
"""


def test_a_thread_in_the_module_of_a_plugin_works_for_it_if_no_other_plugin_shares_the_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home: Any = types.ModuleType("lone_module")
    exec(LONE, home.__dict__)
    end = threading.Event()
    thread = threading.Thread(target=home.work, args=(end,), daemon=True)  # not started by run()
    thread.start()
    try:
        plugin, twin = home.Lone("a", {}), home.Lone("b", {})
        for living, found in (([plugin], [thread]), ([plugin, twin], [])):
            monkeypatch.setattr(runner, "_alive", [weakref.ref(each) for each in living])
            assert runner.threads_at_work(plugin, weakref.WeakSet()) == found
    finally:
        end.set()
        thread.join()


class Kept(list[Any]):
    """Notices that somebody goes through it."""

    walked = 0

    def __iter__(self) -> Iterator[Any]:
        Kept.walked += 1
        return super().__iter__()


def test_supervision_does_not_go_through_the_many_values_that_a_plugin_keeps() -> None:
    class Recorder(PluginBase):
        def __init__(self) -> None:
            self.thread = threading.Thread()
            self.threads = [threading.Thread()]
            self.values = Kept(range(100_000))

    recorder = Recorder()
    assert list(threads_of(recorder)) == [recorder.thread, *recorder.threads]
    assert Kept.walked == 0


# -- the end of the work -----------------------------------------------------------------------------------------------


def test_a_plugin_that_is_done_is_stopped_and_healthy(bench: Bench) -> None:
    gateway = bench.start("connections: {once: {load: yes, module: s_done, restart_delay: 0.01}}")
    bench.until(lambda: bench.state("once") is State.STOPPED)
    assert module("done").stopped == ["once"]
    tree = gateway.get_status()
    assert tree["health"] == "ok"
    facts = tree["connections"]["once"]
    assert (facts["state"], facts["reason"], facts["health"], facts["restarts"]) == (
        "stopped",
        "done: the calibration has been written",
        "ok",
        0,
    )
    assert gateway.database.read("POWER_FAIL").good  # its last word
    assert bench.stop() == EXIT_OK


@pytest.mark.parametrize(("how", "then"), [("done", State.STOPPED), ("end", State.FAILED)])
def test_the_end_of_a_worker_is_noticed_at_once_although_the_supervision_rests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, then: State
) -> None:
    monkeypatch.setattr("fixgw.gateway.QUIET_TICK_S", 3600.0)
    bench.start(f"connections: {{it: {{load: yes, module: s_done, go: 1, {how}: 1, on_failure: ignore}}}}")
    bench.until(lambda: bench.state("it") is State.RUNNING)
    module("done").go.set()
    bench.until(lambda: bench.state("it") is then)
    assert bench.stop() == EXIT_OK


def test_one_thread_asks_all_for_their_health(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.gateway.ASK_ALL_S", 20.0)  # on a busy machine, each is asked by itself
    gateway = bench.start("connections: {a: {load: yes, module: s_asked}, b: {load: yes, module: s_asked}}")
    bench.until(lambda: bench.state("b") is State.RUNNING)
    module("asked").by.clear()
    assert gateway.troubles() == {"a": "asked", "b": "asked"}
    assert set(module("asked").by) == {"health"}
    assert bench.stop() == EXIT_OK


def test_a_gateway_stops_while_a_plugin_is_working_or_done(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: s_done, wait: 1}, b: {load: yes, module: s_done}}")
    bench.until(lambda: bench.state("a") is State.RUNNING and bench.state("b") is not State.LOADED)
    assert bench.stop() == EXIT_OK


# -- constructors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("forgets", "does not call its parent's: super().__init__(name, config)"),
        ("takes_none", "takes (); the gateway calls it with (name, config)"),
    ],
)
def test_a_wrong_constructor_is_reported_in_one_sentence(
    bench: Bench, name: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = bench.start(f"connections: {{a: {{load: yes, module: s_{name}}}}}")
    bench.until(lambda: words in gateway.summary())
    assert "Traceback" not in caplog.text
    assert not any(r.exc_info for r in caplog.records)
    assert bench.stop() == EXIT_OK


def test_make_plugin_reports_it_too(bench: Bench) -> None:
    with pytest.raises(BadPlugin, match="does not call its parent"):
        loader.make_plugin(loader.load_plugin("s_forgets"), "a", {})


# -- code that has changed ---------------------------------------------------------------------------------------------

EDITED = """
    from fixgw.plugin import PluginBase
    from s_edited import part

    class Plugin(PluginBase):
        def get_status(self):
            return {"version": part.VERSION, "x": self.config.get("x")}
"""


@pytest.fixture
def edited(bench: Bench) -> Path:
    package = bench.directory / "s_edited"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(EDITED))
    (package / "part.py").write_text("VERSION = 'one'\n")
    return package / "part.py"


def version(gateway: Gateway) -> tuple[Any, Any]:
    facts = gateway.get_status()["connections"]["e"]["status"]
    return facts.get("version"), facts.get("x")


def test_a_restart_reloads_the_code(bench: Bench, edited: Path) -> None:
    gateway = bench.start("connections: {e: {load: yes, module: s_edited, x: 1}}")
    bench.until(lambda: bench.state("e") is State.RUNNING)
    assert version(gateway) == ("one", 1)
    edited.write_text("VERSION = 'two'\n")
    assert "did you mean 'e'?" in gateway.request_restart("E")
    assert gateway.request_restart("e") == ""
    bench.until(lambda: version(gateway) == ("two", 1))
    bench.reload("connections: {e: {load: yes, module: s_edited, x: 1}, a: {load: yes, module: s_good}}")
    assert bench.state("a") is State.RUNNING
    assert gateway.runners["e"].plugin is not None


def test_unreadable_code_is_reported_in_one_sentence_and_can_be_corrected(bench: Bench, edited: Path) -> None:
    gateway = bench.start("connections: {e: {load: yes, module: s_edited, on_failure: ignore}}")
    bench.until(lambda: bench.state("e") is State.RUNNING)
    edited.write_text("VERSION = 'two\n")
    bench.until(lambda: gateway.request_restart("e") == "")  # not while it is still busy
    bench.until(lambda: "has an error in line 1" in gateway.summary())
    edited.write_text("VERSION = 'three'\n")
    bench.until(lambda: gateway.request_restart("e") == "")  # not while it is still busy
    bench.until(lambda: version(gateway)[0] == "three")


def test_a_changed_option_reloads_changed_code(bench: Bench, edited: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    gateway = bench.start("connections: {e: {load: yes, module: s_edited, x: 1}}")
    bench.until(lambda: bench.state("e") is State.RUNNING)
    bench.reload("connections: {e: {load: yes, module: s_edited, x: 2}}")
    bench.until(lambda: version(gateway) == ("one", 2))
    assert "has changed on disk" not in caplog.text
    edited.write_text("VERSION = 'two'\n")
    bench.reload("connections: {e: {load: yes, module: s_edited, x: 2}}")
    assert "the code of e has changed on disk, but the old code still runs: `fixgw restart e`" in caplog.text
    assert version(gateway) == ("one", 2)
    bench.reload("connections: {e: {load: yes, module: s_edited, x: 3}}")
    bench.until(lambda: version(gateway) == ("two", 3))
    assert "the code of e has changed on disk: read again" in caplog.text


# -- the status tree ---------------------------------------------------------------------------------------------------


def test_a_tree_that_contains_itself_is_cut() -> None:
    tree: dict[str, Any] = {}
    for n in range(30):
        tree[str(n)] = tree
    assert status.plain(tree) == {str(n): "…" for n in range(30)}


def test_a_deep_tree_of_shared_branches_is_cut_before_it_becomes_text() -> None:
    tree: Any = {"leaf": 1}
    for _ in range(60):  # written out, it would have more leaves than any memory
        tree = {"a": tree, "b": [tree]}
    assert len(json.dumps(status.plain(tree))) < 1_200_000


@pytest.mark.parametrize(
    "wide",
    [collections.deque(range(10**6)), dict.fromkeys(range(10**6)).keys(), range(10**12), b"x" * 10**7],
    ids=lambda wide: type(wide).__name__,
)
def test_a_wide_value_is_cut_before_it_becomes_text(wide: Any) -> None:
    began = time.monotonic()
    assert len(json.dumps(status.plain(dict.fromkeys(range(100), wide)))) < 1_200_000
    assert time.monotonic() - began < 2


def test_a_tree_that_is_wide_on_every_level_is_cut() -> None:
    words = "x" * 2000
    tree = {n: dict.fromkeys(range(1000), words) for n in range(1000)}
    budget = status.Budget()
    text = json.dumps(status.plain(tree, budget))
    assert len(text) < 1_200_000
    assert budget.used >= 1
    wide = {n: {m: dict.fromkeys(range(50), 1) for m in range(50)} for n in range(50)}
    assert json.dumps(status.plain(wide)).count(": 1") <= status.MAX_TREE_VALUES


def test_a_mapping_that_changes_while_it_is_read_is_shown_in_part() -> None:
    class Restless(collections.UserDict[int, int]):
        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("dictionary changed size during iteration")

    assert status.plain({"a": 1, "b": Restless({1: 1})}) == {"a": 1, "b": {"…": "…"}}


def test_all_connections_share_one_budget_and_small_ones_are_kept_whole() -> None:
    trees: dict[str, tuple[dict[str, Any], float]] = {}
    for name, count in (("wide", 9000), ("small", 10), ("wider", 9900)):
        budget = status.Budget()
        tree: dict[str, Any] = {str(n): list(range(900)) for n in range(count // 900)} or {"a": 1}
        trees[name] = status.plain(tree, budget), budget.used
    shared = status.share(trees)
    assert list(shared) == ["wide", "small", "wider"]
    assert shared["small"] == {"a": 1}
    assert json.dumps(shared).count(",") < status.MAX_TREE_VALUES * 1.1
    assert len(shared["wide"]) > 4
    assert len(shared["wider"]) > 4
