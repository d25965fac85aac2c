"""A flight from the recorder to the pilot's tools: recorded, cut by SIGKILL, recovered, read in every way, replayed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import gpxpy
import pytest

from fixgw.cli import main
from fixgw.database import Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.replay import Plugin
from fixgw.recording import open_recording
from fixgw.world import World

pytestmark = pytest.mark.slow

MINUTES = 10
FLY = f"""
import signal, sys
from datetime import UTC, datetime, timedelta
from fixgw import configuration
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.recorder import Plugin
from fixgw.world import World

start, clock = datetime(2026, 5, 16, 12, tzinfo=UTC), Clock()
began = clock.now
db = configuration.load(configuration.packaged() / "default.yaml").make_database(clock)
world = World(db, clock=clock, utc=lambda: start + timedelta(seconds=clock.now - began))
with world.hosting():
    recorder = Plugin("recorder", {{"directory": sys.argv[1]}})
recorder.begin()
aircraft = Aircraft(start)
items = [(db.item(key), 1 if key in ("PITCH", "ROLL", "IAS", "ALT") else 5) for key in aircraft.values() if key in db]
for step in range({MINUTES} * 60 * 5):
    clock.now += 0.2
    aircraft.step(0.2)
    values = aircraft.values()
    for item, every in items:
        if step % every == 0:
            item.write(values[item.key], "sim/aircraft")
    db.age()
    recorder.step()
    if step % 5 == 4:
        recorder.disk.step(0.0)
print(repr(db.read("ALT").value), flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a gateway that was killed in the air has left, completed."""
    directory = tmp_path_factory.mktemp("flight")
    with subprocess.Popen([sys.executable, "-c", FLY, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    (part,) = directory.iterdir()
    assert part.name == "20260516-120000-1.mcap.part"
    assert main(["record", "recover", str(part)]) == 0
    return part.with_suffix("")


def test_it_is_listed_with_what_could_be_saved(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flights", "--directory", str(flight.parent), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "20260516-120000-1"
    lost = MINUTES * 60 - (found["end"] - found["start"])
    assert 0 <= lost <= 5.3  # the sync interval, and a batch


@pytest.mark.parametrize("format", ["g3x", "g1000", "cloudahoy", "gpx", "kml", "igc", "csv", "parquet"])
def test_it_is_exported(flight: Path, format: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(flight), "--to", format, "--output", str(out)]) == 0
    text = out.read_bytes()
    if format == "gpx":
        points = gpxpy.parse(text.decode()).tracks[0].segments[0].points
        assert MINUTES * 60 - 6 <= len(points) <= MINUTES * 60 + 1
    elif format == "kml":
        ElementTree.fromstring(text)
    elif format == "parquet":
        assert text.startswith(b"PAR1")
    else:
        assert text.count(b"\n") > MINUTES * 60 - 6


def test_it_is_reported_and_drawn(flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(flight)]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    page = tmp_path / "flight.html"
    assert main(["plot", str(flight), "--output", str(page)]) == 0
    assert "SIMULATED" in page.read_text(encoding="utf-8")


def test_it_is_replayed_as_it_was(flight: Path, clock: Clock) -> None:
    db = Database([Definition(key="ALT", max=60000, tolerance=2000), Definition(key="IAS", max=500)], clock)
    with World(db, clock=clock).hosting():
        replay = Plugin("replay", {"files": [str(flight)]})
    replay.begin()
    replay.step()
    recording = open_recording(flight)
    began = clock.now
    for seconds in (30.0, 300.0, 590.0):
        while clock.now < began + seconds - 1e-9:
            clock.now = min(began + seconds, clock.now + 0.5)
            replay.step()
            db.age()
        then = [c.value for c in recording.changes(["ALT"], until=recording.about.start + seconds)][-1]
        assert db.read("ALT").value == pytest.approx(then, abs=30.0)
        assert db.read("ALT").source == "replay/sim/aircraft"
        assert db.read("ALT").good
    recording.close()
    replay.finish()
