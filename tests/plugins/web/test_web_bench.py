"""The bench: the virtual panel, and the scenarios of a virtual aircraft."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixgw.hw_sim.everything import bench
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.panel import BUTTONS, Panel
from fixgw.hw_sim.panel_server import PanelServer
from fixgw.hw_sim.scenario import everything

from .conftest import HERE, Gateway

pytestmark = pytest.mark.slow
Serve = Callable[..., Gateway]


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    panel = Panel(Bank())
    with PanelServer(tmp_path / "panel", panel, panel.bank):
        yield panel


def test_the_panel_is_shown_and_operated(serve: Serve, panel: Panel, tmp_path: Path) -> None:
    gateway = serve(write=HERE, bench=True, panel=str(tmp_path / "panel"))
    found = gateway.ask("GET", "/api/v1/bench").json
    assert found["panel"]["panel"]["buttons"] == list(BUTTONS)
    assert "press" in found["commands"]
    answer = gateway.ask("POST", "/api/v1/panel", {"command": "press 1"})
    assert answer.json["panel"]["pins"][str(BUTTONS[1])]["driven"] == 0
    assert panel.down(1)
    gateway.ask("POST", "/api/v1/panel", {"command": "release 1"})
    assert panel.bank.state(BUTTONS[1]).driven is None
    for command, words in (("press", "usage"), ("press 9", "press"), ("launch", "no command"), ("a\nb", "one line")):
        answer = gateway.ask("POST", "/api/v1/panel", {"command": command})
        assert (answer.status, answer.code) == (400, "value")
        assert words in answer.json["error"]


def test_without_a_panel_or_an_aircraft(serve: Serve, tmp_path: Path) -> None:
    gateway = serve(write=HERE, bench=True, panel=str(tmp_path / "none"))
    found = gateway.ask("GET", "/api/v1/bench").json
    assert (found["panel"], found["scenarios"], found["playing"]) == (None, {}, None)
    assert gateway.ask("POST", "/api/v1/panel", {"command": "press 1"}).code == "absent"
    assert gateway.ask("POST", "/api/v1/scenario", {"name": "misbehaving"}).code == "absent"


def test_the_bench_needs_the_option(serve: Serve) -> None:
    gateway = serve(write=HERE, admin=HERE)
    assert gateway.ask("GET", "/api/v1/bench").code == "role"
    assert gateway.ask("POST", "/api/v1/panel", {"command": "press 1"}).code == "role"
    assert gateway.ask("POST", "/api/v1/scenario", {}).code == "role"


def test_a_scenario_begins_and_ends(serve: Serve, tmp_path: Path) -> None:
    gateway = serve(write=HERE, bench=True, panel=str(tmp_path / "none"))
    (tmp_path / "devices").mkdir()
    with bench(tmp_path / "devices", None, everything(), None, Panel(Bank())) as flying:
        assert flying.play is not None
        found = gateway.ask("GET", "/api/v1/bench").json
        assert found["playing"] is None
        assert "oil-pressure" in found["scenarios"]
        assert gateway.ask("POST", "/api/v1/scenario", {"name": "../x"}).code == "file"
        assert gateway.ask("POST", "/api/v1/scenario", {"name": "oil-pressure"}).status == 200
        play = flying.play
        wait_until(lambda: play.current is not None)
        assert gateway.ask("GET", "/api/v1/bench").json["playing"] == "oil-pressure"
        gateway.ask("POST", "/api/v1/scenario", {"name": None})
        wait_until(lambda: play.current is None)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)
