"""The recorder makes a capture of the raw data on request."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fixgw.configuration import Configuration
from fixgw.database import Database, Definition
from fixgw.kit import raw
from fixgw.kit.raw import Event, Heard
from fixgw.plugins import recorder
from fixgw.recording.capture import open_capture
from fixgw.world import World


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    db = Database([Definition(key="IAS", max=300.0), Definition(key="BARO", max=32.0), Definition(key="TACH1")])
    configuration = Configuration(file=tmp_path / "default.yaml", directory=tmp_path, variables={"SIM": "/run/sim"})
    with World(db, configuration=lambda: configuration).hosting():
        return recorder.Plugin("recorder", {"directory": str(tmp_path / "recordings")})


def until_done(plugin: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while plugin.capture.running:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return dict(plugin.capture.status())


def test_a_capture_has_the_state_the_open_links_and_what_they_read(plugin: Any) -> None:
    db = plugin.db
    db.write("BARO", 29.5, "kept", flags=0)
    point = raw.point(db)
    point.opened("serial", "gps", lambda: [Heard("gps", db.clock() - 100.0, "in", Event("serial", "opened", "9600"))])
    assert plugin.capture.command("start 30") == ""
    while not point.taps:
        time.sleep(0.001)
    assert plugin.capture.command("start 5").startswith("a capture is being made: ")
    assert 25 <= plugin.capture.status()["seconds left"] <= 30
    point.pass_on("gps", db.clock(), "in", b"hello")
    db.write("IAS", 100.0, "netfix/somebody", flags=0)
    assert plugin.capture.command("stop") == ""
    status = until_done(plugin)
    assert not point.taps
    assert status["trouble"] == ""
    assert Path(status["file"]).name.startswith("capture-")
    with closing(open_capture(Path(status["file"]))) as capture:
        heard = [entry for entry in capture.entries() if isinstance(entry, Heard)]
        assert [entry.data for entry in heard] == [Event("serial", "opened", "9600"), b"hello"]
        assert capture.variables == {"SIM": "/run/sim"}
        assert [(e.key, e.value, e.source) for e in capture.state if e.value] == [("BARO", 29.5, "kept")]
        others = [entry for entry in capture.entries() if not isinstance(entry, Heard)]
        assert [(e.key, e.value, e.source) for e in others] == [("IAS", 100.0, "netfix/somebody")]
    assert plugin.capture.command("start 0.01") == "", "another one"
    assert until_done(plugin)["trouble"] == ""


@pytest.mark.parametrize("words", ["", "start", "start x", "start 0", "start 3601", "start nan", "stop now", "go 5"])
def test_nonsense_is_answered_with_what_to_say(plugin: Any, words: str) -> None:
    assert plugin.capture.command(words).startswith("say `start SECONDS`")
    assert not plugin.capture.running


def test_a_directory_that_cannot_be_written_is_trouble_and_nothing_else(plugin: Any, tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("a file")
    assert plugin.capture.command("start 5") == ""
    status = until_done(plugin)
    assert "recordings" in status["trouble"]
    assert status["file"] == ""


def test_a_gateway_that_stops_completes_the_capture(plugin: Any) -> None:
    assert plugin.capture.command("start 60") == ""
    while not raw.point(plugin.db).taps:
        time.sleep(0.001)
    plugin.capture.stop()
    status = plugin.capture.status()
    assert not status["running"]
    assert status["file"].endswith(".mcap")
