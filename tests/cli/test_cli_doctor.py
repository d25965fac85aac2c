"""``fixgw doctor`` with a real gateway: the sources and rates of keys, and exit codes for scripts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw import doctor
from fixgw.cli.doctor import lines
from fixgw.doctor import Result
from fixgw.plugin import Finding
from tests.cli.conftest import Bench
from tests.cli.conftest import Result as Done

pytestmark = pytest.mark.slow

FEEDER = """
from fixgw.plugin import Feeds, Poller

class Plugin(Poller):
    '''Writes IAS often, ALT never, and says of OAT that it has failed.'''

    trouble = ""

    @classmethod
    def preflight(cls, options):
        yield Feeds(("IAS", "ALT", "VS"))

    def poll(self, timeout):
        self.stopping.wait(0.05)
        self.db.write("IAS", 90.0, f"{self.source}/7", flags=0)

    def health(self):
        return self.trouble

    def get_status(self):
        return {"left": {"controller": self.config["controller"], "error frames": 3}}
"""
ITEMS = """
entries:
  - {key: IAS, description: Airspeed, type: float, min: 0, max: 999, units: knots, tol: 1000}
  - {key: ALT, description: Altitude, type: float, min: 0, max: 60000, units: ft, tol: 2000}
  - {key: VS, description: Climb, type: float, min: -9000, max: 9000, units: fpm, tol: 0}
  - {key: OAT, description: Air, type: float, min: -60, max: 60, units: degC, tol: 0}
"""


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without findings, so that the computer that runs the tests does not matter."""
    monkeypatch.setattr(doctor, "_machine", lambda machine, loaded: iter(()))


@pytest.fixture
def fed(bench: Bench) -> Bench:
    bench.stop()
    (bench.directory / "feeder.py").write_text(FEEDER)
    bench.entries = ITEMS
    bench.connection_options = "\n  feed: {module: feeder, controller: active}"
    bench.start()
    return bench


def found(done: Done) -> dict[str, list[tuple[str, str]]]:
    tree: dict[str, Any] = json.loads(done.out)
    grouped: dict[str, list[tuple[str, str]]] = {}
    for finding in tree["findings"]:
        grouped.setdefault(finding["about"], []).append((finding["level"], finding["message"]))
    return grouped


def test_it_lists_the_sources_of_keys_and_the_keys_without_values(fed: Bench, cli: Callable[..., Done]) -> None:
    done = cli("doctor", str(fed.file), "--json", "--seconds", "1.1")
    levels = dict(found(done)["feed"][::-1])
    assert set(levels) == {"ok", "warning"}, done.out
    messages = [message for _, message in found(done)["feed"]]
    assert any(m.startswith("feeds 1 key, ") and "IAS" in m and " of 1 needed to stay fresh" in m for m in messages)
    assert "mapped, but never written: ALT" in messages  # VS never ages: it is written only when it changes
    assert "left: error frames: 3" in messages
    assert found(done)["gateway"][0][0] == "ok"
    assert done.code == 0
    assert cli("doctor", str(fed.file), "--seconds", "0.2", "--strict").code == 1


def test_keys_that_fail_or_age_are_problems(fed: Bench, cli: Callable[..., Done]) -> None:
    fed.db.write("VS", 100.0, "feed", flags=0)
    fed.db.item("OAT").write(12.0, "feed", 0)
    fed.db.item("OAT").fail("sensor open", "feed")
    fed.db.write("ALT", 1000.0, "feed", flags=0)
    done = cli("doctor", str(fed.file), "--json", "--seconds", "0.3")
    assert ("problem", "OAT: fail: sensor open") in found(done)["feed"]
    assert done.code == 1
    deadline = time.monotonic() + 10
    while not fed.db.read("ALT").old:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any(
        level == "problem" and message.startswith("ALT: old")
        for level, message in found(cli("doctor", str(fed.file), "--json", "--seconds", "0.1"))["feed"]
    )


@pytest.mark.parametrize(
    ("writes", "watched", "tolerance", "slow"),
    [
        (3, 4.0, 0.2, True),
        (18, 4.0, 0.2, True),
        (19, 4.0, 0.2, False),  # the twentieth arrives at once
        (0, 4.0, 2.0, True),
        (1, 4.0, 2.0, False),
        (0, 4.0, 50.0, False),  # four seconds are too short to tell
        (0, 4.0, 0.0, False),  # never ages
    ],
)
def test_a_slow_key_is_distinguished_from_one_that_is_not_due_yet(
    writes: int, watched: float, tolerance: float, slow: bool
) -> None:
    assert doctor.Fed("OAT", writes, watched, tolerance).slow is slow


def test_a_slow_key_is_a_warning(fed: Bench, cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.Fed, "slow", property(lambda self: True))
    messages = [message for _, message in found(cli("doctor", str(fed.file), "--json", "--seconds", "0.2"))["feed"]]
    assert any(
        m.startswith("written too seldom to stay fresh (values a second, of those needed): IAS ") for m in messages
    )


def test_a_port_that_accepts_but_does_not_answer_is_a_problem(cli: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text("connections: {}\n")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = str(mute.getsockname()[1])
        done = cli("doctor", str(tmp_path / "default.yaml"), "--json", "--port", port, "--timeout", "0.2")
    ((level, message),) = found(done)["gateway"]
    assert level == "problem"
    assert message.startswith("something listens there but does not answer: ")
    assert done.code == 1


def test_it_does_not_wait_for_a_slow_gateway(
    fed: Bench, cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.0)
    done = cli("doctor", str(fed.file), "--json")
    assert found(done)["keys"] == [("problem", "the gateway stopped answering: it explained only 0 keys in 0 s")]


def test_it_leaves_no_files_beside_plugins(fed: Bench, cli: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(FEEDER)
    (tmp_path / "default.yaml").write_text("plugin path: '{CONFIG}'\nconnections: {o: {load: yes, module: other}}\n")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "fixgw", "doctor", str(tmp_path / "default.yaml"), "--port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 connection, " in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unhealthy_connection_and_a_bus_in_trouble_are_problems(fed: Bench, cli: Callable[..., Done]) -> None:
    plugin: Any = fed.gateway.runners["feed"].plugin
    plugin.trouble = "no data"
    plugin.config["controller"] = "passive"
    done = cli("doctor", str(fed.file), "--json", "--seconds", "0.1")
    problems = [message for level, message in found(done)["feed"] if level == "problem"]
    assert problems[0] == "not well: no data"
    assert problems[1].startswith("left: the controller is passive: check the wiring")
    assert found(done)["gateway"][0][0] == "warning"
    assert done.code == 1


def test_it_says_when_the_running_gateway_uses_another_configuration(
    fed: Bench, cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(fed), "file", fed.directory / "of two words.yaml")
    fed.stop()
    fed.start()
    other = tmp_path / "other.yaml"
    other.write_text("connections: {gps: {module: fixgw.plugins.skel}}\n")
    done = cli("doctor", str(other), "--json", "--seconds", "0.1")
    grouped = found(done)
    assert any("it runs another configuration" in message for _, message in grouped["gateway"])
    assert f"fixgw doctor '{fed.file}'" in done.out
    assert grouped["gps"] == [("warning", "it is configured, but the running gateway does not have it")]


def test_a_gateway_that_disappears_during_the_check_is_a_problem(
    fed: Bench, cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Time:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            fed.stop()

    monkeypatch.setattr(doctor, "time", Time)
    done = cli("doctor", str(fed.file), "--json", "--timeout", "0.5")
    assert found(done)["keys"][0][1].startswith("the gateway stopped answering")
    assert done.code == 1
    monkeypatch.undo()
    fed.start()


def test_without_a_gateway_it_says_so_and_checks_the_rest(cli: Callable[..., Done], tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text("connections: {gps: {module: fixgw.drivers.nmea0183, port: /dev/not-there}}\n")
    done = cli("doctor", str(file), "--port", "1")
    assert "gps\n  problem  there is no /dev/not-there" in done.out
    assert "gateway\n  skipped  no gateway answers" in done.out
    assert "\n1 problem, 0 warnings\n" in done.out
    assert done.code == 1
    file.write_text("connections: {gps: {module: fixgw.plugins.skel}}\n")
    done = cli("doctor", str(file), "--port", "1")
    assert done.out.endswith("\nnothing is wrong, but no instrument is configured yet\n")
    assert done.code == 0
    file.write_text("connections: {gps: {module: nonsense}}\n")
    assert cli("doctor", str(file), "--port", "1").code == 1


def test_wrong_usage_has_its_exit_code(cli: Callable[..., Done]) -> None:
    assert cli("doctor", "--nonsense").code == 2
    done = cli("doctor", "--user", "nobody-of-that-name", "--port", "1")
    assert (done.code, done.err) == (1, "fixgw: there is no user 'nobody-of-that-name'\n")


def test_it_checks_this_computer(child: Callable[..., Done]) -> None:
    done = child("doctor", "--port", "1", "--json")
    about = {finding["about"] for finding in json.loads(done.out)["findings"]}
    assert {"configuration", "clock", "power", "temperature", "disk", "gateway"} <= about
    assert done.err == ""


def test_results_are_grouped_by_subject_with_their_fixes() -> None:
    results = [
        Result("a", Finding("ok", "well")),
        Result("b", Finding("problem", "word " * 40, "do it")),
        Result("a", Finding("warning", "hm")),
    ]
    shown = lines(results)
    assert shown[:3] == ["a", "  ok       well", "  warning  hm"]
    assert shown[3] == "b"
    assert shown[4].startswith("  problem  word word")
    assert shown[5].startswith(" " * 11 + "word")
    assert shown[-1] == "           > do it"
