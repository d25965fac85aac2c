"""A gateway as a real process that is killed or held up: settings are restored, and no overdue value looks fresh."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lives import Life, until

pytestmark = pytest.mark.slow

CONFIGURATION = """\
database file: "{CONFIG}/database.yaml"
connections:
  netfix: {load: yes, module: fixgw.plugins.netfix, port: PORT}
"""
DATABASE = """\
entries:
  - {key: BARO, min: 20, max: 35, initial: 29.92, setting: yes, keep: yes}
  - {key: DIM, type: int, setting: yes}
  - {key: IAS, tol: 300}
"""


def saved(life: Life) -> Path:
    """The file of settings, once it exists."""
    until(lambda: list(life.state.glob("settings-*.json")))
    (path,) = life.state.glob("settings-*.json")
    return path


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    (tmp_path / "database.yaml").write_text(DATABASE)
    life = Life(tmp_path, CONFIGURATION)
    yield life
    life.clean_up()


def test_a_setting_comes_back_after_a_kill(life: Life) -> None:
    with life.start() as client:
        assert client.read("BARO").value == 29.92
        client.write("BARO", 30.12)
        client.write("DIM", 40)
    until(lambda: "30.12" in saved(life).read_text())
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
    path = saved(life)
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
