"""Life cycle and supervision: real plugins, real threads, the gateway on its own thread."""

from __future__ import annotations

import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration, database, status
from fixgw.gateway import TRANSITIONS, Gateway, State
from fixgw.service import EXIT_FAILURE, EXIT_HUNG, EXIT_OK

pytestmark = pytest.mark.slow

PLUGINS = {
    "good": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            made = []

            def __init__(self, name, config):
                super().__init__(name, config)
                Plugin.made.append(self)
                self.out = threading.Event()
                self.thread = threading.Thread(target=self.work)

            def work(self):
                while not self.out.wait(0.02):
                    self.db_write("IAS", 100.0)

            def run(self):
                self.thread.start()

            def stop(self):
                self.out.set()
                self.thread.join(1.0)

            def get_status(self):
                return {"zebra": 1, "apple": 2, "name": self.name}
    """,
    "crashes": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            made = []
            go = threading.Event()

            def __init__(self, name, config):
                super().__init__(name, config)
                self.made.append(self)
                self.thread = threading.Thread(target=self.work)

            def work(self):
                if len(self.made) <= self.config.get("times", 1):
                    self.go.wait(5)
                    raise ZeroDivisionError("on purpose")
                self.out = threading.Event()
                self.out.wait(5)

            def run(self):
                self.thread.start()

            def stop(self):
                if hasattr(self, "out"):
                    self.out.set()
                self.thread.join(1.0)
    """,
    "quiet_end": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            def run(self):
                self.thread = threading.Thread(target=lambda: None)
                self.thread.start()
    """,
    "gives_up": """
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            last = None
            def run(self):
                Plugin.last = self
    """,
    "raises": """
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            def run(self):
                raise ValueError("no such device here")
    """,
    "blocks": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            release = threading.Event()
            def run(self):
                self.release.wait(20)
    """,
    "raises_late": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            release = threading.Event()
            def run(self):
                self.release.wait(20)
                raise ValueError("no such device here, as it turned out")
    """,
    "hangs": """
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            def stop(self):
                raise plugin.PluginFail("my thread is stuck")
    """,
    "hangs_for_good": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            release = threading.Event()
            def stop(self):
                self.release.wait(20)
    """,
    "three_arguments": """
        from fixgw import plugin

        class Plugin(plugin.PluginBase):
            seen = []
            def __init__(self, name, config, config_meta):
                super().__init__(name, config, config_meta)
                self.seen.append((name, config, config_meta))
    """,
    "bad_status": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            release = threading.Event()
            def get_status(self):
                if self.config.get("how") == "raise":
                    raise KeyError("oops")
                self.release.wait(20)
    """,
    "quits": """
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            def run(self):
                self.quit()
    """,
    "out_of_sight": """
        import threading
        import fixgw.plugin as plugin

        class Helper:
            def __init__(self, target):
                self.thread = threading.Thread(target=target)
                self.thread.start()

        class Plugin(plugin.PluginBase):
            go = threading.Event()

            def run(self):
                if self.config["thread"] == "of a helper":
                    self.helper = Helper(self.work)
                else:
                    threading.Thread(target=self.work).start()

            def work(self):
                self.go.wait(5)
                if self.config["dies"]:
                    raise ZeroDivisionError("on purpose")

            def stop(self):
                self.go.set()
    """,
    "half_made": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            plugged_in = False

            def run(self):
                if not self.plugged_in:
                    raise RuntimeError("no device")
                self.out = threading.Event()
                self.thread = threading.Thread(target=self.out.wait, args=(5,))
                self.thread.start()

            def stop(self):
                self.out.set()
                self.thread.join()
    """,
    "deaf": """
        import threading
        import fixgw.plugin as plugin

        class Plugin(plugin.Poller):
            asleep = threading.Event()

            def poll(self, timeout):
                if self.asleep.is_set():
                    self.stopping.wait()
                else:
                    self.stopping.wait(0.01)
    """,
    "order": """
        import fixgw.plugin as plugin

        class Plugin(plugin.PluginBase):
            log_of = []
            def run(self):
                self.log_of.append("run " + self.name)
            def stop(self):
                self.log_of.append("stop " + self.name)
    """,
}


class Bench:
    """A gateway under test, on a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "default.yaml"
        self.gateway: Gateway
        self.thread: threading.Thread
        self.code: int | None = None

    def configure(self, text: str) -> None:
        self.file.write_text(textwrap.dedent(text))

    def load(self) -> configuration.Configuration:
        return configuration.load(self.file)

    def start(self, text: str) -> Gateway:
        self.configure(text)
        self.gateway = Gateway(self.load(), reload=self.load)
        self.thread = threading.Thread(target=self._run, name="gateway under test")
        self.thread.start()
        return self.gateway

    def reload(self, text: str) -> None:
        """Reload with another configuration, and wait until that is done."""
        self.configure(text)
        before = self.gateway.reloads
        self.gateway.request_reload()
        self.until(lambda: self.gateway.reloads > before and not self.gateway._changing)

    def _run(self) -> None:
        self.code = self.gateway.run_forever(handle_signals=False)

    def state(self, name: str) -> State:
        return self.gateway.runners[name].state if name in self.gateway.runners else State.LOADED

    def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, status.get_string()
            time.sleep(0.005)

    def stop(self) -> int:
        self.gateway.request_stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.code is not None
        return self.code


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, text in PLUGINS.items():
        (tmp_path / f"t_{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(threading.enumerate())
    previous = database.current()
    bench = Bench(tmp_path)
    yield bench
    if hasattr(bench, "thread") and bench.thread.is_alive():
        bench.stop()
    for name in PLUGINS:
        module = sys.modules.pop(f"t_{name}", None)
        release = getattr(getattr(module, "Plugin", None), "release", None)
        if release is not None:
            release.set()
    database.bind(previous)
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
        assert not thread.is_alive(), f"{thread.name} was left behind"


def made(module: str) -> Any:
    return sys.modules[f"t_{module}"].Plugin


def test_a_gateway_runs_a_plugin_and_stops_it(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_good}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    bench.until(lambda: database.read("IAS")[:3] == (100.0, False, False))
    assert bench.gateway.database.read("IAS").source == "a"
    assert bench.stop() == EXIT_OK
    assert not made("good").made[0].thread.is_alive()
    assert not made("good").made[0].running


def test_status_merges_every_plugin_and_keeps_the_order(bench: Bench) -> None:
    bench.start("connections: {b: {load: yes, module: t_good}, a: {load: yes, module: t_order}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    tree = status.get_dict()
    assert list(tree)[:3] == ["version", "health", "summary"]
    assert tree["health"] == "ok"
    assert list(tree["connections"]) == ["b", "a"]
    assert list(tree["connections"]["b"]["status"].items()) == [("zebra", 1), ("apple", 2), ("name", "b")]
    assert "zebra: 1" in status.get_string()


def test_it_starts_plugins_in_order_and_stops_them_in_reverse(bench: Bench) -> None:
    names = ("c", "a", "b")
    bench.start("connections:\n" + "".join(f"  {n}: {{load: yes, module: t_order}}\n" for n in names))
    bench.until(lambda: bench.state("b") is State.RUNNING)
    bench.stop()
    assert made("order").log_of == ["run c", "run a", "run b", "stop b", "stop a", "stop c"]


def test_a_dead_thread_is_noticed_within_a_second_and_restarted_as_a_fresh_instance(bench: Bench) -> None:
    bench.start("""
        connections:
          good: {load: yes, module: t_good}
          bad: {load: yes, module: t_crashes, restart_delay: 0.2}
        """)
    bench.until(lambda: bench.state("bad") is State.RUNNING)
    made("crashes").go.set()
    started = time.monotonic()
    bench.until(lambda: bench.state("bad") in (State.FAILED, State.WAITING))
    assert time.monotonic() - started < 1.0
    assert "ZeroDivisionError: on purpose" in bench.gateway.runners["bad"].reason
    assert "ZeroDivisionError" in status.get_dict()["connections"]["bad"]["reason"]
    bench.until(lambda: bench.state("bad") is State.RUNNING)
    first, second = made("crashes").made
    assert first is not second
    assert bench.gateway.runners["bad"].restarts == 1
    assert len(made("good").made) == 1  # the other one never noticed
    assert bench.stop() == EXIT_OK


@pytest.mark.slow
def test_restarts_are_delayed_more_and_more(bench: Bench) -> None:
    bench.start("connections: {bad: {load: yes, module: t_crashes, times: 3, restart_delay: 0.1}}")
    bench.until(lambda: bench.state("bad") is State.RUNNING)
    began = time.monotonic()
    made("crashes").go.set()
    bench.until(lambda: len(made("crashes").made) == 4)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4


def test_a_thread_that_ends_without_an_error_counts_as_dead_too(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_quiet_end, on_failure: ignore}}")
    bench.until(lambda: bench.state("a") is State.FAILED)
    assert bench.gateway.runners["a"].reason == "its thread ended"


@pytest.mark.parametrize(
    ("thread", "dies", "reason"),
    [
        ("of a helper", "yes", "its thread died: ZeroDivisionError: on purpose"),
        ("of a helper", "no", "its thread ended"),
        ("that nobody keeps", "yes", "its thread died: ZeroDivisionError: on purpose"),
    ],
)
def test_a_thread_need_not_be_an_attribute_of_the_plugin(bench: Bench, thread: str, dies: str, reason: str) -> None:
    bench.start(f"""
        connections:
          good: {{load: yes, module: t_good}}
          bad: {{load: yes, module: t_out_of_sight, thread: {thread}, dies: {dies}, on_failure: ignore}}
          lucky: {{load: yes, module: t_good}}
        """)
    bench.until(lambda: bench.state("lucky") is State.RUNNING)
    made("out_of_sight").go.set()
    bench.until(lambda: bench.state("bad") is State.FAILED, 4.0)  # the next quiet tick comes after a second
    assert bench.gateway.runners["bad"].reason == reason
    assert bench.state("good") is bench.state("lucky") is State.RUNNING


def test_running_set_to_false_is_a_failure(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_gives_up, on_failure: ignore}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    made("gives_up").last.running = False
    bench.until(lambda: bench.state("a") is State.FAILED, 4.0)
    assert status.get_dict()["health"] == "failed"


def test_a_run_that_raises_leaves_running_false_and_the_others_running(bench: Bench) -> None:
    bench.start("""
        connections:
          bad: {load: yes, module: t_raises, on_failure: ignore}
          good: {load: yes, module: t_good}
        """)
    bench.until(lambda: bench.state("good") is State.RUNNING)
    report = status.get_dict()["connections"]["bad"]
    assert report["running"] is False
    assert report["reason"] == "run() raised ValueError: no such device here"
    assert status.get_dict()["health"] == "degraded"


def test_a_plugin_whose_stop_fails_after_a_failed_run_is_still_restarted(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_half_made, restart_delay: 0.05, restart_delay_max: 0.05}}")
    bench.until(lambda: bench.gateway.runners and bench.gateway.runners["a"].restarts > 1)
    assert bench.gateway.runners["a"].reason in ("", "run() raised RuntimeError: no device")
    made("half_made").plugged_in = True
    bench.until(lambda: bench.state("a") is State.RUNNING)
    assert bench.stop() == EXIT_OK


def test_a_missing_library_gives_one_sentence_and_no_traceback(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.start("connections: {a: {load: yes, module: fixgw.drivers.i2c_bmp, library: nosuch, on_failure: ignore}}")
    bench.until(lambda: bench.state("a") is State.FAILED)
    assert bench.stop() == EXIT_OK
    (said,) = [r for r in caplog.records if "nosuch is not installed" in r.getMessage() and r.levelname == "ERROR"]
    assert said.exc_info is None


def test_a_plugin_that_never_started_does_not_disturb_the_stop(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_half_made, on_failure: ignore}}")
    bench.until(lambda: bench.state("a") is State.FAILED)
    assert bench.stop() == EXIT_OK


def test_on_failure_stop_ends_the_gateway_with_its_code(bench: Bench) -> None:
    bench.start("connections: {bad: {load: yes, module: t_raises, on_failure: stop}}")
    bench.thread.join(5)
    assert bench.code == EXIT_FAILURE


@pytest.mark.slow
def test_a_run_that_blocks_is_reported_by_name_and_limited_in_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start("""
        connections:
          stuck: {load: yes, module: t_blocks, start_timeout: 1.5}
          good: {load: yes, module: t_good}
        """)
    bench.until(lambda: any("stuck: run() has not returned after" in m for m in caplog.messages))
    assert bench.state("stuck") is State.STARTING
    bench.until(lambda: bench.state("good") is State.RUNNING)
    assert [bench.gateway.runners[name].report()["running"] for name in ("stuck", "good")] == [False, True]
    assert bench.gateway.runners["stuck"].reason == "run() has not returned within 1.5 s"
    made("blocks").release.set()
    bench.until(lambda: bench.state("stuck") is State.RUNNING)
    assert bench.stop() == EXIT_OK


def test_a_run_that_fails_after_its_time_is_tried_again(bench: Bench) -> None:
    bench.start("connections: {it: {load: yes, module: t_raises_late, start_timeout: 0.1, restart_delay: 60}}")
    bench.until(lambda: bench.state("it") is State.FAILED)
    made("raises_late").release.set()
    bench.until(lambda: bench.state("it") is not State.FAILED)
    assert bench.state("it") is State.WAITING
    assert bench.stop() == EXIT_OK


def test_stopping_while_a_run_blocks_raises_plugin_fail_in_time(bench: Bench) -> None:
    bench.start("connections: {stuck: {load: yes, module: t_blocks, start_timeout: 20, stop_timeout: 0.5}}")
    bench.until(lambda: bench.state("stuck") is State.STARTING)
    started = time.monotonic()
    assert bench.stop() == EXIT_HUNG
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("module", ["t_hangs", "t_hangs_for_good"])
def test_a_plugin_that_cannot_stop_gives_the_error_code_after_everything_else_has_stopped(
    bench: Bench, module: str
) -> None:
    bench.start(f"""
        connections:
          good: {{load: yes, module: t_good}}
          bad: {{load: yes, module: {module}, stop_timeout: 0.3}}
        """)
    bench.until(lambda: bench.state("bad") is State.RUNNING)
    assert bench.stop() == EXIT_HUNG
    assert not made("good").made[0].thread.is_alive()


def test_a_constructor_with_a_third_argument_gets_the_positions(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_three_arguments, port: 5}}")
    bench.until(lambda: bench.state("a") is State.RUNNING)
    name, config, meta = made("three_arguments").seen[0]
    assert name == "a"
    assert config == {"port": 5, "CONFIGPATH": str(bench.directory)}
    assert meta is not None


@pytest.mark.parametrize("how", ["raise", "block"])
def test_a_faulty_get_status_affects_only_its_own_part(bench: Bench, how: str) -> None:
    bench.start(f"""
        connections:
          bad: {{load: yes, module: t_bad_status, how: {how}}}
          good: {{load: yes, module: t_good}}
        """)
    bench.until(lambda: bench.state("good") is State.RUNNING)
    started = time.monotonic()
    for _ in range(2):
        tree = status.get_dict()
        assert "get_status()" in tree["connections"]["bad"]["status"]["unavailable"]
        assert tree["connections"]["good"]["status"]["zebra"] == 1
    assert time.monotonic() - started < 3


def test_quit_stops_the_gateway_cleanly(bench: Bench) -> None:
    bench.start("connections: {a: {load: yes, module: t_quits}}")
    bench.thread.join(5)
    assert bench.code == EXIT_OK


def test_reload_restarts_only_what_changed(bench: Bench) -> None:
    bench.start("""
        connections:
          same: {load: yes, module: t_order, x: 1}
          changed: {load: yes, module: t_order, x: 1}
          gone: {load: yes, module: t_order}
        """)
    bench.until(lambda: bench.state("gone") is State.RUNNING)
    bench.configure("""
        # a comment that moves every line
        connections:
          new: {load: yes, module: t_order}
          same: {load: yes, module: t_order, x: 1}
          changed: {load: yes, module: t_order, x: 2}
        """)
    bench.gateway.request_reload()
    bench.until(lambda: bench.gateway.reloads == 1 and bench.state("changed") is State.RUNNING)
    bench.until(lambda: list(bench.gateway.runners) == ["new", "same", "changed"])
    assert made("order").log_of[3:] == ["stop gone", "stop changed", "run new", "run changed"]


def test_a_reload_waits_until_all_plugins_have_started(bench: Bench) -> None:
    text = """
        connections:
          first: {{load: yes, module: t_order, x: {x}}}
          slow: {{load: yes, module: t_blocks, start_timeout: 20}}
          last: {{load: yes, module: t_order, x: {x}}}
        """
    bench.start(text.format(x=1))
    bench.until(lambda: bench.state("slow") is State.STARTING)
    bench.configure(text.format(x=2))
    read = threading.Event()

    def noticed() -> configuration.Configuration:
        read.set()
        return bench.load()

    bench.gateway._reload = noticed
    bench.gateway.request_reload()
    assert not read.wait(0.3)
    made("blocks").release.set()
    bench.until(lambda: bench.gateway.reloads == 1 and bench.gateway.configuration is not bench.gateway._at_start)
    assert bench.stop() == EXIT_OK
    started = ["run first", "run last"]
    assert made("order").log_of == [*started, "stop last", "stop first", *started, "stop last", "stop first"]


def test_a_reload_requested_during_another_is_not_forgotten(bench: Bench) -> None:
    text = """
        connections:
          changing: {{load: yes, module: t_order, x: {x}}}
        """
    bench.start(text.format(x=1))
    bench.until(lambda: bench.state("changing") is State.RUNNING)
    reading, go_on = threading.Event(), threading.Event()

    def read_slowly() -> configuration.Configuration:
        loaded = bench.load()
        reading.set()
        go_on.wait(5)
        return loaded

    bench.gateway._reload = read_slowly
    bench.configure(text.format(x=2))
    bench.gateway.request_reload()
    assert reading.wait(5)
    bench.configure(text.format(x=3))
    bench.gateway.request_reload()
    go_on.set()
    bench.until(lambda: [c.options["x"] for c in bench.gateway.configuration.connections] == [3])


def test_a_broken_configuration_is_refused_and_the_old_one_stays_in_use(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start("connections: {same: {load: yes, module: t_order}}")
    bench.until(lambda: bench.state("same") is State.RUNNING)
    bench.configure("""
        connections:
          same: {load: yes, module: t_ordre}
          other: {load: yes, module: t_order, on_failure: explode}
        """)
    bench.gateway.request_reload()
    bench.until(lambda: status.get_dict()["configuration"]["problems"])
    problems = status.get_dict()["configuration"]["problems"]
    assert len(problems) == 2
    assert all(str(bench.file) in p for p in problems)
    assert bench.state("same") is State.RUNNING
    assert status.get_dict()["health"] == "degraded"
    assert made("order").log_of == ["run same"]


def test_changes_that_need_a_restart_are_reported_until_then(bench: Bench) -> None:
    (bench.directory / "mine.ini").write_text("BARO = 30.1")
    connection = "connections: {a: {load: yes, module: t_order, x: 1}}"
    bench.start(connection)
    bench.until(lambda: bench.state("a") is State.RUNNING)
    changed = """
        database overlay: [{key: OAT, min: -60}]
        initialization files: [mine.ini]
        logging: {version: 1}
        """
    for x in (2, 3):
        bench.reload(textwrap.dedent(changed) + f"connections: {{a: {{load: yes, module: t_order, x: {x}}}}}")
        assert status.get_dict()["configuration"]["problems"] == [
            "the database definition changed: restart the gateway to apply it",
            "an initial value changed: restart the gateway to apply it",
            "logging changed: restart the gateway to apply it",
        ]
    bench.reload(connection)
    bench.until(lambda: status.get_dict()["health"] == "ok")


@pytest.mark.slow
def test_a_hung_worker_is_reported_and_the_watchdog_is_not_fed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, short_path: Path
) -> None:
    monkeypatch.setattr("fixgw.runner.SILENT_S", 0.5)
    monkeypatch.setattr("fixgw.runner.SURE_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_path / "notify"))
        manager.settimeout(2.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        bench.start("connections: {a: {load: yes, module: t_deaf}}")
        heard = b""
        while b"WATCHDOG=1" not in heard:
            heard = manager.recv(4096)
        lasting = bench.gateway.database.item("POWER_FAIL")
        lasting.write(False, "a")
        made("deaf").asleep.set()
        bench.until(lambda: "no sign of life" in status.get_dict()["connections"]["a"]["health"])
        bench.until(lambda: lasting.reading.reason(database.OLD) == "a hangs")
        manager.setblocking(False)
        try:  # pings sent before the hang was noticed
            while manager.recv(4096):
                pass
        except BlockingIOError:
            pass
        time.sleep(0.5)  # wait to observe the silence
        heard = b""
        try:
            while True:
                heard += manager.recv(4096) + b"\n"
        except BlockingIOError:
            pass
        assert b"WATCHDOG=1" not in heard
        assert bench.stop() == EXIT_OK


def test_every_transition_starts_and_ends_in_a_state_that_can_be_left_or_is_final() -> None:
    sources = {a for a, _ in TRANSITIONS}
    targets = {b for _, b in TRANSITIONS}
    assert targets - sources == {State.STOPPED}
    assert sources | targets == set(State)


OLD_STYLE = Path(__file__).parents[1] / "data" / "old_style_plugin.py"


def test_a_plugin_in_the_old_style_with_import_plugin_runs_unmodified(bench: Bench) -> None:
    (bench.directory / "t_old_style.py").write_text(OLD_STYLE.read_text())
    bench.start("connections: {old: {load: yes, module: t_old_style}}")
    bench.until(lambda: bench.state("old") is State.RUNNING)
    bench.until(lambda: status.get_dict()["connections"]["old"]["status"]["Count"] >= 1)
    assert bench.stop() == EXIT_OK
    sys.modules.pop("t_old_style")


def test_our_skeleton_runs(bench: Bench) -> None:
    bench.start("""
        connections:
          skel: {load: yes, module: fixgw.plugins.skel, interval: 0.05, write: FTIME, listen: IAS}
          good: {load: yes, module: t_good}
        """)
    bench.until(lambda: bench.state("good") is State.RUNNING)
    bench.until(lambda: database.read("FTIME")[0] >= 2)
    report = status.get_dict()["connections"]["skel"]["status"]
    assert list(report) == ["count", "changes"]
    assert report["count"] >= 2
    assert report["changes"] > 0
    assert bench.stop() == EXIT_OK


def test_a_connection_that_is_gone_feeds_nothing(bench: Bench) -> None:
    gateway = bench.start("connections:\n  gps: {module: fixgw.drivers.nmea0183, port: /dev/nowhere7}\n")
    bench.until(lambda: "LAT" in gateway.database.feeders.get("gps", ()))
    bench.reload("connections: {}\n")
    assert gateway.database.feeders == {}
