"""`fixgw restart` and ``@xrestart``, with a gateway in a separate process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixgw.cli import main
from fixgw.errors import Refused

from .lives import Life, until

pytestmark = pytest.mark.slow

CONFIGURATION = """\
plugin path: "{CONFIG}"
connections:
  netfix: {load: yes, module: fixgw.plugins.netfix, port: PORTADMIN}
  mine: {load: yes, module: mine_of_one_day}
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


class Restarted(Life):
    """A gateway with a plugin whose code changes."""

    def __init__(self, directory: Path, admin: bool = True) -> None:
        super().__init__(directory, CONFIGURATION.replace("ADMIN", ", admin: [127.0.0.1]" if admin else ""))
        self.write(CODE.format(annunciates=True, value=100.0))
        self.client = self.start()
        until(self._flies)

    def _flies(self) -> bool:
        """Whether the gateway has started everything: until then it is too busy to restart anything."""
        return bool(self.client.status()["connections"].get("mine", {}).get("state") == "running")

    def write(self, code: str) -> None:
        (self.directory / "mine_of_one_day.py").write_text(code)

    def restart(self, name: str) -> int:
        return main(["restart", name, "--port", str(self.port)])

    def end(self, number: int = signal.SIGTERM) -> str:
        self.client.disconnect()
        return super().end(number)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Restarted]:
    life = Restarted(tmp_path)
    yield life
    life.end()


def test_a_connection_restarts_with_its_current_code(life: Restarted, capsys: pytest.CaptureFixture[str]) -> None:
    client = life.client
    until(lambda: client.read("IAS").value == 100.0 and client.read("IAS").annunciate)
    life.write(CODE.format(annunciates=False, value=120.0))
    assert life.restart("mine") == 0
    assert capsys.readouterr().out.startswith("mine: running, with its current code and the options that")
    until(lambda: client.read("IAS").value == 120.0)
    assert not client.read("IAS").annunciate, "the alert logic that has ended has released the flag"
    facts = client.status()["connections"]
    assert (facts["mine"]["state"], facts["mine"]["health"]) == ("running", "ok")
    assert facts["netfix"]["for"] > facts["mine"]["for"], "no other connection was restarted"


def test_unreadable_code_is_reported_and_can_be_corrected(life: Restarted, capsys: pytest.CaptureFixture[str]) -> None:
    life.write("class Plugin(:\n")
    assert life.restart("mine") != 0
    assert "has an error in line 1" in "".join(capsys.readouterr())
    assert life.client.read("IAS").key == "IAS", "other clients are served"
    life.write(CODE.format(annunciates=False, value=130.0))
    until(lambda: life.restart("mine") == 0)  # not while it is still busy
    until(lambda: life.client.read("IAS").value == 130.0)


def test_the_connection_that_answers_can_be_restarted(life: Restarted) -> None:
    assert life.restart("netfix") == 0
    until(lambda: life.client.connected or life.connects(life.client))
    until(lambda: life.client.read("IAS").value == 100.0)


def test_an_unknown_connection_is_refused(life: Restarted, capsys: pytest.CaptureFixture[str]) -> None:
    assert life.restart("Mine") != 0
    assert "did you mean 'mine'?" in capsys.readouterr().err
    assert life.client.restart("no such thing").startswith("there is no connection")


def test_no_client_can_restart_a_connection_unless_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Restarted(tmp_path, admin=False)
    try:
        with pytest.raises(Refused, match="not permitted"):
            life.client.restart("mine")
        assert life.restart("mine") != 0
        assert "set the option `admin`" in capsys.readouterr().err
    finally:
        life.end()
