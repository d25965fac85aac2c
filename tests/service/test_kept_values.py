"""A gateway as a real process that is killed or held up: settings are restored, and no overdue value looks fresh."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixgw.errors import NotConnected
from fixgw.netfix import Client

pytestmark = pytest.mark.slow

CONFIGURATION = """\
database file: "{CONFIG}/database.yaml"
connections:
  netfix: {load: yes, module: fixgw.plugins.netfix, port: %d}
"""
DATABASE = """\
entries:
  - {key: BARO, min: 20, max: 35, initial: 29.92, setting: yes, keep: yes}
  - {key: DIM, type: int, setting: yes}
  - {key: IAS, tol: 300}
"""


class Life:
    """Successive gateways with the same configuration and state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        (directory / "default.yaml").write_text(CONFIGURATION % self.port)
        (directory / "database.yaml").write_text(DATABASE)
        self.state = directory / "state"
        self.process: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "STATE_DIRECTORY": str(self.state), "HOME": str(self.directory)}

    def start(self) -> Client:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--config-file", str(self.directory / "default.yaml")],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        process = self.process
        client = Client("127.0.0.1", self.port, timeout=10.0)

        def connects() -> bool:
            try:
                client.connect()
            except NotConnected:
                assert process.poll() is None, process.communicate()[0]
                return False
            return True

        until(connects)
        return client

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def hold_up(self) -> None:
        self.signal(signal.SIGSTOP)
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        until(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()))

    def end(self, number: int) -> str:
        self.signal(number)
        assert self.process is not None
        output, _ = self.process.communicate(timeout=30)
        return output

    def saved(self) -> Path:
        """The file of settings, once it exists."""
        until(lambda: list(self.state.glob("settings-*.json")))
        (path,) = self.state.glob("settings-*.json")
        return path


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    if life.process is not None and life.process.poll() is None:
        life.process.kill()
        life.process.communicate()


def test_a_setting_comes_back_after_a_kill(life: Life) -> None:
    with life.start() as client:
        assert client.read("BARO").value == 29.92
        client.write("BARO", 30.12)
        client.write("DIM", 40)
    until(lambda: "30.12" in life.saved().read_text())
    life.end(signal.SIGKILL)
    with life.start() as client:
        sample = client.read("BARO")
        assert (sample.value, sample.flags) == (30.12, 0)
        assert client.read("DIM").value == 0, "this one is not kept"
        facts = client.explain("BARO")
        assert facts["source"] == "kept"
        assert client.status()["settings"]["restored"] == 1
    said = subprocess.run(
        [sys.executable, "-m", "fixgw", "explain", "--port", str(life.port), "BARO"],
        env=life.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "From before the restart, not set since (kept)" in said.stdout


def test_a_setting_that_was_just_made_is_saved_at_a_stop(life: Life) -> None:
    with life.start() as client:
        for n in range(100):
            client.write("BARO", 30 + n / 100)
    life.end(signal.SIGTERM)
    with life.start() as client:
        assert client.read("BARO").value == 30.99


def test_a_damaged_file_is_refused_and_the_gateway_starts(life: Life) -> None:
    with life.start() as client:
        client.write("BARO", 30.12)
    path = life.saved()
    life.end(signal.SIGKILL)
    path.write_bytes(b"\0" * 4096)
    with life.start() as client:
        assert client.explain("BARO")["source"] != "kept"
        assert client.status()["health"] == "ok"
    assert "is unusable, starting without it" in life.end(signal.SIGTERM)


def test_a_failure_to_save_is_shown_in_health(life: Life) -> None:
    life.state.write_text("a file, where the directory should be")
    with life.start() as client:
        client.write("BARO", 30.12)
        until(lambda: "settings: state is not saved" in client.status()["summary"])
        status = client.status()
        assert status["health"] == "degraded"
        assert status["settings"]["saving failed"] >= 1
        assert client.read("BARO").value == 30.12


def test_after_a_hold_up_no_overdue_value_is_served_as_fresh(life: Life) -> None:
    """Requests made during the hold-up are answered before any thread has marked a value as old."""
    for _ in range(5):
        with life.start() as client, socket.create_connection(("127.0.0.1", life.port)) as asker:
            client.write("IAS", 100.0)
            assert not client.read("IAS").old
            client.write("IAS", 101.0)
            life.hold_up()
            asker.sendall(b"@rIAS\n")
            time.sleep(0.4)
            life.signal(signal.SIGCONT)
            asker.settimeout(10.0)
            assert asker.recv(100) == b"@rIAS;101.0;01000\n"
        life.end(signal.SIGTERM)
