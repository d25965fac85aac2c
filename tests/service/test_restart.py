"""`fixgw restart` and ``@xrestart``, with a gateway in a separate process."""

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

from fixgw.cli import main
from fixgw.errors import NotConnected, Refused
from fixgw.netfix import Client

pytestmark = pytest.mark.slow

CONFIGURATION = """\
plugin path: "{{CONFIG}}"
connections:
  netfix: {{load: yes, module: fixgw.plugins.netfix, port: {port}{admin}}}
  mine: {{load: yes, module: mine_of_one_day}}
"""
CODE = """\
from fixgw.plugin import Worker

class Plugin(Worker):
    def work(self):
        if {annunciates}:
            self.db.item("IAS").annunciate(True, "too slow", self.source)
        while not self.stopping.wait(0.1):
            self.db_write("IAS", {value})
"""


class Life:
    def __init__(self, directory: Path, admin: bool = True) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        main_file = directory / "default.yaml"
        main_file.write_text(CONFIGURATION.format(port=self.port, admin=", admin: [127.0.0.1]" if admin else ""))
        self.write(CODE.format(annunciates=True, value=100.0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--config-file", str(main_file)],
            env={**os.environ, "STATE_DIRECTORY": str(directory / "state"), "HOME": str(directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.client = Client("127.0.0.1", self.port, timeout=10.0)
        until(self._connects)
        until(self._flies)

    def _flies(self) -> bool:
        """Whether the gateway has started everything: until then it is too busy to restart anything."""
        return bool(self.client.status()["connections"].get("mine", {}).get("state") == "running")

    def write(self, code: str) -> None:
        (self.directory / "mine_of_one_day.py").write_text(code)

    def _connects(self) -> bool:
        try:
            self.client.connect()
        except NotConnected:
            assert self.process.poll() is None, self.process.communicate()[0]
            return False
        return True

    def restart(self, name: str) -> int:
        return main(["restart", name, "--port", str(self.port)])

    def end(self) -> None:
        self.client.disconnect()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.end()


def test_a_connection_restarts_with_its_current_code(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    client = life.client
    until(lambda: client.read("IAS").value == 100.0 and client.read("IAS").annunciate)
    life.write(CODE.format(annunciates=False, value=120.0))
    assert life.restart("mine") == 0
    assert capsys.readouterr().out == "mine: running\n"
    until(lambda: client.read("IAS").value == 120.0)
    assert not client.read("IAS").annunciate, "the alert logic that has ended has released the flag"
    facts = client.status()["connections"]
    assert (facts["mine"]["state"], facts["mine"]["health"]) == ("running", "ok")
    assert facts["netfix"]["for"] > facts["mine"]["for"], "no other connection was restarted"


def test_unreadable_code_is_reported_and_can_be_corrected(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    life.write("class Plugin(:\n")
    assert life.restart("mine") != 0
    assert "has an error in line 1" in "".join(capsys.readouterr())
    assert life.client.read("IAS").key == "IAS", "other clients are served"
    life.write(CODE.format(annunciates=False, value=130.0))
    until(lambda: life.restart("mine") == 0)  # not while it is still busy
    until(lambda: life.client.read("IAS").value == 130.0)


def test_the_connection_that_answers_can_be_restarted(life: Life) -> None:
    assert life.restart("netfix") == 0
    until(lambda: life.client.connected or life._connects())
    until(lambda: life.client.read("IAS").value == 100.0)


def test_an_unknown_connection_is_refused(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    assert life.restart("Mine") != 0
    assert "did you mean 'mine'?" in capsys.readouterr().err
    assert life.client.restart("no such thing").startswith("there is no connection")


def test_no_client_can_restart_a_connection_unless_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life(tmp_path, admin=False)
    try:
        with pytest.raises(Refused, match="not permitted"):
            life.client.restart("mine")
        assert life.restart("mine") != 0
        assert "set the option `admin`" in capsys.readouterr().err
    finally:
        life.end()
