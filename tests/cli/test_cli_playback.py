"""`fixgw playback`, and `fixgw run --playback-start-time`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.cli import main
from fixgw.configuration.playback import playback
from fixgw.errors import FixgwError
from fixgw.hw_sim.bench.clock import Clock
from fixgw.netfix import Client
from fixgw.plugins.netfix import Plugin as NetFix
from fixgw.recording import incumbent
from tests.cli.conftest import Bench, Result
from tests.plugins.by_hand import gateway, plugin_of

pytestmark = pytest.mark.slow

Run = Callable[..., Result]
T = datetime(2024, 2, 10, 19, 59, 50)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def record(path: Path, start: datetime, n: int, interval_ms: int = 500) -> None:
    """IAS counts the lines, ALT is bad, NOSUCH is a key that the gateway does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        incumbent.header(start, interval_ms)
        + b"".join(incumbent.line({"IAS": (i % 1000.0, 0), "ALT": (100.0, 4), "NOSUCH": (1, 0)}) for i in range(n))
    )


def shows(bench: Bench, ias: float) -> bool:
    return bench.db.read("IAS").value == ias


@pytest.fixture
def playing(bench: Bench) -> Bench:
    """A gateway that plays a recording of a thousand seconds, IAS from 0."""
    record(bench.directory / "fdr.json", T, 1000, 1000)
    bench.stop()
    bench.connection_options = "\n  tape: {module: fixgw.plugins.replay, files: fdr.json, utc_offset: 0}\n"
    bench.start()
    until(lambda: bench.db.read("IAS").source)
    return bench


def test_the_commands(playing: Bench, cli: Run) -> None:
    assert cli("playback", "pause") == Result(0, "", "")
    status = json.loads(cli("playback", "--json").out)
    assert status["file"] == str(playing.directory / "fdr.json")
    assert status["unknown keys"] == 1
    until(lambda: json.loads(cli("playback", "--json").out)["state"] == "paused")
    for where, expected in (("10:00", 600), ("-1:00", 540), ("+30", 570), ("2024-02-10T20:00:50Z", 60), ("-5", 55)):
        assert cli("playback", "seek", where).code == 0
        until(partial(shows, playing, expected))
    assert cli("playback", "resume").code == 0
    assert cli("playback", "speed", "1000").code == 0
    until(lambda: "ended" in cli("playback").out)
    assert "2024-02-10T20:16:29Z" in cli("playback").out
    until(lambda: playing.db.read("IAS").old)
    assert "the recording has ended" in cli("status").out


def test_what_cannot_be_done(playing: Bench, cli: Run) -> None:
    for words, why in (
        ("speed fast", "'fast' is not a number"),
        ("speed 0", "the speed is 0.01 to 1000"),
        ("seek noon", "'noon' is not a time such as"),
        ("speed", "speed needs a number"),
        ("seek", "seek needs a TIME"),
        ("pause 5", "pause needs no more words"),
        ("stop", "invalid choice: 'stop'"),
    ):
        result = cli("playback", *words.split())
        assert result.code in (1, 2)
        assert why in result.err


def test_a_gateway_that_plays_nothing(bench: Bench, cli: Run) -> None:
    for words in ((), ("pause",)):
        result = cli("playback", *words)
        assert (result.code, result.out) == (1, "")
        assert "the gateway plays no recording" in result.err


def test_a_client_sees_that_values_are_replayed(playing: Bench) -> None:
    client = Client("127.0.0.1", playing.port)
    client.connect()
    try:
        assert client.explain("IAS")["source"] == "replay/tape"
        assert client.read("ALT").bad
        assert not client.read("ALT").old
    finally:
        client.disconnect()


# -- fixgw run --playback-start-time -----------------------------------------------------------------------------------

CONFIGURATION = """
connections:
  netfix: {module: fixgw.plugins.netfix, port: 0}
  system: {module: fixgw.plugins.system, time: {enable: yes}}
  data_recorder: {load: no, module: fixgw.plugins.data_recorder, filepath: "{CONFIG}/../fdr", key_prefixes: all}
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The main file of a gateway that recorded 19:30 to 19:59:59 and 20:00 to 20:00:10; there is more from 22:00 on."""
    for start, n in ((T.replace(minute=30, second=0), 3600), (T + timedelta(seconds=10), 20), (T.replace(hour=22), 5)):
        record(incumbent.hour_file(tmp_path / "fdr", start), start, n)
    (tmp_path / "config").mkdir()
    main_file = tmp_path / "config" / "default.yaml"
    main_file.write_text(CONFIGURATION)
    return main_file


def test_it_plays_from_that_time_with_a_server_and_ends(
    recorded: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = playback(recorded, T)
    assert [c.name for c in loaded.connections] == ["netfix", "data_playback"]
    with gateway(CONFIGURATION, recorded.parent, clock, monkeypatch, loaded) as running:
        plugin = plugin_of(running, "data_playback")
        quits: list[str] = []
        monkeypatch.setattr(plugin, "quit", lambda: quits.append("quit"))
        plugin._last = clock.now
        plugin.step()
        db = running.database
        reading = db.read("IAS")
        assert (reading.value, reading.source) == (580.0, "replay/data_playback")
        end = clock.now + 40
        while clock.now < end and not quits:
            clock.now += 0.05
            plugin.step()
            if clock.now == pytest.approx(end - 30):
                assert db.read("IAS").value in (0.0, 1.0), "the next hour follows without a gap"
        assert db.read("IAS").value == 19.0
        # Ten seconds of each hour, the last line, and five seconds.
        assert clock.now == pytest.approx(end - 40 + 9.5 + 0.5 + 9.5 + 5.0, abs=0.2)
        assert isinstance(plugin_of(running, "netfix"), NetFix)


@pytest.mark.parametrize("start", [T.replace(hour=18), T.replace(hour=21), T.replace(year=1999)])
def test_a_time_that_was_not_recorded(recorded: Path, start: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        FixgwError, match=f"no recording of {start:%Y-%m-%d %H:%M}: .*{start:%Y-%m-%d.%H}.json does not"
    ):
        playback(recorded, start)
    assert main(["run", "--config-file", str(recorded), "--playback-start-time", start.isoformat()]) == 1
    assert "no recording of" in capsys.readouterr().err


@pytest.mark.parametrize("filepath", [None, '""', "5"])
def test_a_configuration_without_a_recorder(recorded: Path, filepath: str | None) -> None:
    text = CONFIGURATION.replace('"{CONFIG}/../fdr"', filepath) if filepath else "connections: {}\n"
    recorded.write_text(text)
    with pytest.raises(FixgwError, match=r"no connection with the module fixgw\.plugins.data_recorder"):
        playback(recorded, T)


def test_without_a_server_the_packaged_one_serves(recorded: Path) -> None:
    recorded.write_text("\n".join(line for line in CONFIGURATION.splitlines() if "netfix:" not in line))
    names = [c.name for c in playback(recorded, T).connections]
    assert names == ["netfix", "data_playback"]


@pytest.mark.parametrize("word", ["yesterday", "2024-13-01", "", "0001-01-01"])
def test_a_time_that_is_none(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--playback-start-time", word]) == 2
    assert "is not a time such as 2024-02-10T19:59:50" in capsys.readouterr().err


def test_the_incumbents_playback_runs_unchanged(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "a.json", T, 3)
    text = """\
        connections:
          data_playback:
            load: yes
            module: fixgw.plugins.data_playback
            frequency: 500
            files: ["{CONFIG}/a.json"]
        """
    with gateway(text, tmp_path, clock, monkeypatch) as running:
        (advice,) = {a.message for a in running.configuration.advice if "frequency" in a.message}
        assert advice.startswith("frequency: has no effect")
        plugin = plugin_of(running, "data_playback")
        seen: list[Any] = []
        running.database.subscribe("IAS", lambda key, reading: seen.append(reading.value))
        for _ in range(200):
            plugin.step()
            clock.now += 0.05
        assert seen[:9] == [0.0, 1.0, 2.0] * 3
        assert running.database.read("IAS").source == "replay/data_playback"
        assert plugin.health() == ""
    assert configuration.check(tmp_path / "default.yaml") == []
