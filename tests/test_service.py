"""The gateway as a process: signals, exit codes, and what a service manager is told, over a real notify socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixgw.service import EXIT_CONFIG, EXIT_FAILURE, EXIT_HUNG, EXIT_OK, Notifier

STUCK = """
    import threading
    import fixgw.plugin as plugin

    class Plugin(plugin.PluginBase):
        def run(self):
            self.thread = threading.Thread(target=threading.Event().wait)   # not a daemon: keeps a process alive
            self.thread.start()

        def stop(self):
            raise plugin.PluginFail("stuck")
"""


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.heard: list[str] = []

    def until(self, message: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not any(m.startswith(message) for m in self.heard):
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                pytest.fail(f"{message} was not sent; heard {self.heard}")

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


class Process:
    def __init__(self, directory: Path, configuration: str, **environment: str) -> None:
        self.file = directory / "default.yaml"
        self.configure(configuration)
        (directory / "stuck.py").write_text(textwrap.dedent(STUCK))
        environment = {**os.environ, "PYTHONPATH": str(directory), "HOME": str(directory), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--config-file", str(self.file), "--verbose"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def configure(self, text: str) -> None:
        self.file.write_text(textwrap.dedent(text))

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        if number is not None:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


SKELETON = "connections: {a: {load: yes, module: fixgw.plugins.skel}}"


@pytest.fixture
def run(tmp_path: Path, manager: Manager) -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for each in processes:
        each.process.kill()
        each.process.communicate()


def start(run: list[Process], tmp_path: Path, manager: Manager, text: str, **environment: str) -> Process:
    run.append(Process(tmp_path, text, NOTIFY_SOCKET=manager.path, **environment))
    return run[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds_with_code_0(
    run: list[Process], tmp_path: Path, manager: Manager, number: int
) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    started = time.monotonic()
    code, output = process.end(number)
    assert code == EXIT_OK
    assert time.monotonic() - started < 2.0
    assert "Traceback" not in output
    manager.until("STOPPING=1")


def test_a_stuck_plugin_gives_a_hard_exit_with_its_code(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    process = start(run, tmp_path, manager, "connections: {a: {load: yes, module: stuck}}")
    manager.until("READY=1")
    code, output = process.end()
    assert code == EXIT_HUNG
    assert "stuck" in output


def test_a_failure_that_must_stop_the_gateway_has_its_code(
    run: list[Process], tmp_path: Path, manager: Manager
) -> None:
    text = """
        connections:
          a: {load: yes, module: fixgw.plugins.skel}
          n: {load: yes, module: fixgw.plugins.netfix, host: 203.0.113.1, port: 0, on_failure: stop}
        """
    code, _ = start(run, tmp_path, manager, text).end(None)
    assert code == EXIT_FAILURE


def test_a_broken_configuration_is_not_started(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    code, output = start(run, tmp_path, manager, "connections: {a: {load: yes, module: fixgw.plugins.skle}}").end(None)
    assert code == EXIT_CONFIG
    assert f"{tmp_path}/default.yaml:1:" in output
    assert "skel" in output


def test_reload_over_sighup_tells_the_manager(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    manager.heard.clear()
    process.configure("connections: {a: {load: yes, module: nonsense}}")
    process.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    manager.until("MONOTONIC_USEC=")
    manager.until("READY=1")
    manager.until("STATUS=1 of 1 connections well; configuration: 1 problem")
    manager.heard.clear()
    process.configure(SKELETON.replace("}}", ", interval: 0.5}}"))
    process.process.send_signal(signal.SIGHUP)
    manager.until("STATUS=1 of 1 connections well")
    code, output = process.end()
    assert code == EXIT_OK
    assert "stopped ['a'], started ['a']" in output


def test_the_watchdog_is_fed_while_all_is_well(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    start(run, tmp_path, manager, SKELETON, WATCHDOG_USEC="400000")
    manager.until("READY=1")
    for _ in range(3):
        manager.heard.clear()
        manager.until("WATCHDOG=1", 5.0)


def test_an_abstract_socket_works_too() -> None:
    name = f"fixgw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name, "WATCHDOG_USEC": "3000000"})
        notifier.ready("all\nwell")
        assert listener.recv(100) == b"READY=1\nSTATUS=all well"
        assert notifier.watchdog_interval == 1.5
        notifier.close()


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    notifier.watchdog()
    assert notifier.watchdog_interval == 0
    notifier.close()


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_interval == 0


def test_nothing_is_left_behind_in_the_home_directory(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    process.end()
    left = {p.name for p in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"default.yaml", "stuck.py", "notify"}, json.dumps(sorted(left))
