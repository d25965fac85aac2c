"""fixgw record --raw, from a gateway with instruments to a replay of what it recorded."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixgw import configuration
from fixgw.cli import main
from fixgw.gateway import Gateway
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.raw import Event, Heard
from fixgw.recording.capture import open_capture
from tests.golden import make

pytestmark = pytest.mark.slow


@contextmanager
def flying(directory: Path, recorder: bool = True) -> Iterator[tuple[str, Gateway]]:
    """A gateway with a GPS, an engine monitor and a line of somebody's own; its NetFIX port."""
    with (
        VirtualPort(str(directory / "gps")) as gps,
        VirtualPort(str(directory / "eis")) as eis,
        VirtualPort(str(directory / "own")) as own,
    ):
        connections: dict[str, Any] = {
            "netfix": {"module": "fixgw.plugins.netfix", "port": 0},
            "gps": {"module": "fixgw.drivers.nmea0183", "port": gps.path, "baud": 9600},
            "eis": {"module": "fixgw.drivers.eis", "port": eis.path},
            "own": {
                "module": "fixgw.drivers.lines",
                "port": own.path,
                "baud": 9600,
                "lines": [{"fields": {"WPLAT": {"from": 1}}}],
            },
        }
        if recorder:
            connections["recorder"] = {"module": "fixgw.plugins.recorder", "directory": str(directory / "recordings")}
        path = directory / "default.yaml"
        path.write_text(yaml.safe_dump({"connections": connections}))
        gateway = Gateway(configuration.load(path))
        gateway.start()
        thread = threading.Thread(target=gateway.run_forever, args=(False,))
        thread.start()
        over = threading.Event()

        def fly() -> None:
            aircraft, devices = make.aircraft(), [Gps(gps), Eis(eis)]
            while not over.wait(0.05):
                aircraft.step(0.05)
                for device in devices:
                    device.tick(aircraft, time.monotonic())
                own.write(b"43.9\n")

        world = threading.Thread(target=fly)
        world.start()
        try:
            yield str(gateway.runners["netfix"].plugin.port), gateway  # type: ignore[union-attr]
        finally:
            gateway.request_stop()
            thread.join(10.0)
            over.set()
            world.join()


def test_from_the_gateway_to_a_replay_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, public = tmp_path / "whole.mcap", tmp_path / "public.mcap"
    with flying(tmp_path) as (port, gateway):
        deadline = time.monotonic() + 20
        while not (gateway.database.read("LAT").good and gateway.database.read("TACH1").good):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert main(["record", "--raw", "--minutes", "0.03", "-o", str(whole), "--port", port]) == 0
        out = capsys.readouterr().out
        assert out == f"{whole}: replay it with `fixgw replay {whole}`\n"
        assert main(["status", "recorder", "--json", "--port", port]) == 0
        status = json.loads(capsys.readouterr().out)
        assert "capture" in json.dumps(status)
    with closing(open_capture(whole)) as capture:
        entries = [entry for entry in capture.entries() if isinstance(entry, Heard)]
        assert {entry.connection for entry in entries} == {"gps", "eis", "own"}
        opened = {e.connection for e in entries if isinstance(e.data, Event) and e.data.what == "opened"}
        assert opened == {"gps", "eis", "own"}, "the capture says what was open when it began"
        assert 1.5 < capture.end - capture.start < 4.0
    assert main(["replay", str(whole)]) == 0
    changes, notes = capsys.readouterr()
    assert {line.split()[4] for line in changes.splitlines()} >= {"gps", "eis", "own"}
    assert "by eis, gps, own" in notes

    assert main(["record", "anonymise", str(whole), "-o", str(public)]) == 0
    assert "own is left out: its raw data cannot be cleaned" in capsys.readouterr().out
    assert main(["replay", str(public)]) == 0
    moved = capsys.readouterr().out
    first = {line.split()[1]: line.split()[2] for line in reversed(changes.splitlines())}
    there = {line.split()[1]: line.split()[2] for line in reversed(moved.splitlines())}
    assert there["TACH1"] == first["TACH1"]
    assert abs(float(there["LAT"]) - float(first["LAT"])) > 4.9
    assert main(["record", "anonymise", str(whole), "-o", str(public)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_gateway_without_a_recorder_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with flying(tmp_path, recorder=False) as (port, _):
        assert main(["record", "--raw", "--port", port]) == 1
    assert "add `recorder: {module: fixgw.plugins.recorder}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["record"],
        ["record", "recover"],
        ["record", "recover", "x.mcap.part", "--minutes", "2"],
        ["record", "recover", "x.mcap.part", "-o", "y.mcap"],
        ["record", "--raw", "--minutes", "0"],
        ["record", "--raw", "--minutes", "61"],
        ["record", "--raw", "recover", "x"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    assert main(args) == 2
