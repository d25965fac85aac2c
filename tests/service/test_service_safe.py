"""Safe mode: real processes and a real notify socket, with configurations that prevent a normal start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixgw.netfix import Client
from fixgw.service import EXIT_CONFIG, EXIT_OK, why_safe

pytestmark = pytest.mark.slow

AFTER_A_CRASH_LOOP = {
    "MONITOR_UNIT": "fixgw.service",
    "MONITOR_SERVICE_RESULT": "signal",
    "MONITOR_EXIT_CODE": "killed",
    "MONITOR_EXIT_STATUS": "SEGV",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Safe:
    """``fixgw run --safe`` as a service manager starts it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"fixgw-test-{uuid4()}"
        self.manager.bind(f"\0{name}")
        self.heard: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--safe", "--config-file", str(directory / "default.yaml")],
            env={**os.environ, "NOTIFY_SOCKET": f"@{name}", "HOME": str(directory), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, message: str, seconds: float = 20.0) -> str:
        deadline = time.monotonic() + seconds
        while not (found := [m for m in self.heard if m.startswith(message)]):
            self.manager.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.heard += self.manager.recv(4096).decode().splitlines()
            except TimeoutError:
                pytest.fail(f"{message} was not sent; heard {self.heard}")
        return found[0]

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[list[Safe]]:
    started: list[Safe] = []
    yield started
    for each in started:
        each.process.kill()
        each.process.communicate()
        each.manager.close()


def status_at(port: int) -> dict[str, object]:
    with Client("127.0.0.1", port, timeout=10.0) as client:
        return client.status()


BROKEN = {
    "another connection's module": "  bad: {load: yes, module: no_such_module}\n",
    "another connection's options": "  bad: {load: yes, module: fixgw.plugins.skel, intervall: 3}\n",
    "a module that ends the process": "  bad: {load: yes, module: deadly}\nplugin path: '{CONFIG}'\n",
    "the database": "database file: missing.yaml\n",
    "a misspelt section": "conections: {}\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_it_serves_netfix_as_configured_even_if_the_rest_is_broken(kind: str, safe: list[Safe], tmp_path: Path) -> None:
    port = free_port()
    text = f"connections:\n  netfix: {{load: yes, module: fixgw.plugins.netfix, port: {port}}}\n{BROKEN[kind]}"
    (tmp_path / "default.yaml").write_text(text)
    (tmp_path / "deadly.py").write_text("import os\nos._exit(9)\n")
    safe.append(Safe(tmp_path, **AFTER_A_CRASH_LOOP))
    safe[0].until("READY=1")
    said = safe[0].until("STATUS=")
    assert said.startswith("STATUS=safe mode: fixgw.service failed repeatedly, the last time with signal SEGV; 1 of 1")
    status = status_at(port)
    assert status["health"] == "degraded"
    assert str(status["summary"]).startswith("safe mode: ")
    connections = status["connections"]
    assert isinstance(connections, dict)
    assert list(connections) == ["netfix"]
    with Client("127.0.0.1", port, timeout=10.0) as client:
        assert client.read("LEADER").value is False, "another gateway may lead"
    code, output = safe[0].end()
    assert code == EXIT_OK
    assert "safe mode: fixgw.service failed repeatedly" in output


def test_the_watchdog_is_fed_in_safe_mode_too(safe: list[Safe], tmp_path: Path) -> None:
    text = f"connections: {{netfix: {{load: yes, module: fixgw.plugins.netfix, port: {free_port()}}}}}"
    (tmp_path / "default.yaml").write_text(text)
    safe.append(Safe(tmp_path, WATCHDOG_USEC="400000"))
    safe[0].until("READY=1")
    for _ in range(3):
        safe[0].heard.clear()
        safe[0].until("WATCHDOG=1")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, "safe mode: requested"),
        (
            {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_CODE": "exited", "MONITOR_EXIT_STATUS": "1"},
            "safe mode: fixgw.service ended with exit code 1: the configuration has problems; `fixgw check` lists them",
        ),
        ({"MONITOR_SERVICE_RESULT": ""}, "safe mode: requested"),
        (
            {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_CODE": "exited", "MONITOR_EXIT_STATUS": "2"},
            "safe mode: fixgw.service ended with exit code 2: the command line was wrong",
        ),
        (
            {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_CODE": "exited", "MONITOR_EXIT_STATUS": "77"},
            "safe mode: fixgw.service failed repeatedly, the last time with exit code 77",
        ),
        (
            {"MONITOR_SERVICE_RESULT": "watchdog", "MONITOR_EXIT_CODE": "killed", "MONITOR_EXIT_STATUS": "ABRT"},
            "safe mode: fixgw.service failed repeatedly, the last time with a watchdog timeout",
        ),
        (
            {"MONITOR_SERVICE_RESULT": "start-limit-hit", "MONITOR_EXIT_CODE": "exited", "MONITOR_EXIT_STATUS": "3"},
            "safe mode: fixgw.service failed repeatedly, the last time with exit code 3: a plugin could not be stopped",
        ),
    ],
)
def test_it_gives_the_reason(told: dict[str, str], expected: str) -> None:
    assert why_safe({**told, "MONITOR_UNIT": "fixgw.service"} if told else {}) == expected


def test_a_defect_is_not_taken_for_a_configuration_problem(tmp_path: Path) -> None:
    """The exit code lets the service manager try again."""
    (tmp_path / "default.yaml").write_text("connections: {}")
    code = (
        "import sys; from fixgw import gateway, cli;"
        "gateway.Gateway.start = lambda self: 1 / 0;"
        f"sys.exit(cli.main(['run', '--config-file', {str(tmp_path / 'default.yaml')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ZeroDivisionError" in result.stderr
    assert result.returncode not in (EXIT_OK, EXIT_CONFIG)


def test_the_memory_can_be_locked_or_it_says_why_not() -> None:
    code = (
        "from fixgw.service import lock_memory\n"
        "try:\n    lock_memory()\nexcept OSError as error:\n    print('refused', error.errno)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmLck')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("refused" in result.stdout) == ("VmLck:\t       0 kB" in result.stdout)
