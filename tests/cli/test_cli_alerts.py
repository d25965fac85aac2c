"""`fixgw alerts`, and the line at the foot of `fixgw watch`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.cli.alerts import in_status
from fixgw.cli.feed import alert_words
from fixgw.cli.terminal import Row
from fixgw.database import FAIL, OLD
from tests.cli.conftest import Bench, Result

pytestmark = pytest.mark.slow

Run = Callable[..., Result]
KEYS = """
  - {key: ALERTLEVEL, type: int, min: 0, max: 3, tol: 5000}
  - {key: ALERTS, type: int, min: 0, max: 2000, tol: 5000}
  - {key: ALERTMSG, type: str, tol: 5000}
"""
ALERTS = """
  alerts:
    load: yes
    module: fixgw.plugins.alerts
    alerts:
      - {id: slow, key: IAS, below: 50, level: warning, text: TOO SLOW}
      - {id: gear, when: GEAR, level: advisory, text: GEAR IS DOWN}
"""


@pytest.fixture
def flying(bench: Bench) -> Bench:
    """A gateway that judges alerts, with an aircraft that is too slow."""
    bench.stop()
    bench.entries += KEYS
    bench.connection_options = ALERTS
    bench.start()
    bench.db.write("IAS", 40.0, "test")
    deadline = time.monotonic() + 10
    while bench.db.read("ALERTLEVEL").value != 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return bench


def test_listing_acknowledging_and_shelving(flying: Bench, cli: Run) -> None:
    listed = cli("alerts")
    assert listed.code == 0
    assert "warning" in listed.out
    assert "active for" in listed.out
    assert "TOO SLOW" in listed.out
    assert "gear" not in listed.out
    assert "gear" in cli("alerts", "list", "--all").out
    assert cli("alerts", "ack", "slow") == Result(0, "slow: acknowledged\n", "")
    assert json.loads(cli("alerts", "list", "--json").out)["slow"]["state"] == "acknowledged"
    again = cli("alerts", "ack", "slow")
    assert (again.code, again.err) == (1, "fixgw: slow is acknowledged: there is nothing to acknowledge\n")
    assert "did you mean 'slow'" in cli("alerts", "ack", "slo").err
    assert "at most 60 s" in cli("alerts", "shelve", "slow", "10m").err
    assert cli("alerts", "shelve", "slow", "60s").out == "slow: shelved for 60 s\n"
    assert "shelved for" in cli("alerts").out
    assert cli("alerts", "shelve", "slow", "0").out == "slow: taken back\n"
    assert cli("alerts", "mute").out == "no sounds for a minute\n"
    log = cli("alerts", "log").out
    assert "normal → active" in log
    assert "active → acknowledged" in log
    assert [e["to"] for e in json.loads(cli("alerts", "log", "--json").out)][:2] == ["active", "acknowledged"]


@pytest.mark.parametrize("words", [("ack",), ("ack", "slow", "60s"), ("shelve", "slow"), ("list", "slow"), ("dance",)])
def test_wrong_usage(flying: Bench, cli: Run, words: tuple[str, ...]) -> None:
    assert cli("alerts", *words).code == 2


def test_a_gateway_without_alerts(bench: Bench, cli: Run) -> None:
    for words in (("list",), ("log",), ("ack", "all")):
        result = cli("alerts", *words)
        assert result.code == 1
        assert "no connection with the module fixgw.plugins.alerts" in result.err


def test_acknowledging_needs_the_permission_to_write(flying: Bench, cli: Run) -> None:
    flying.stop()
    flying.connection_options = f"write: []{ALERTS}"
    flying.start()
    assert cli("alerts").code == 0
    assert "does not allow writes" in cli("alerts", "ack", "all").err


def test_watch_shows_the_first_alert_at_its_foot(flying: Bench, terminal: Callable[..., Any]) -> None:
    it = terminal("watch", "IAS", "--port", str(flying.port))
    it.wait_for("WARNING TOO SLOW")


# -- watch -------------------------------------------------------------------------------------------------------------


def rows(level: Any, count: Any, message: Any, flags: int = 0) -> list[Row]:
    made = []
    for key, value in (("ALERTLEVEL", level), ("ALERTS", count), ("ALERTMSG", message)):
        row = Row(key, "", "")
        row.show(value, flags, 0.0)
        made.append(row)
    return made


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (rows(0, 0, ""), "no alerts"),
        (rows(3, 1, "OIL PRESSURE LOW"), "WARNING OIL PRESSURE LOW"),
        (rows(2, 3, "LOW VOLTS"), "CAUTION LOW VOLTS and 2 more"),
        (rows(1, 1, "DOOR \x1b[2J"), "ADVISORY DOOR \\x1b[2J"),
        (rows(0, 0, "", FAIL), "ALERTS ARE NOT JUDGED: the alert logic has stopped"),
        (rows(3, 1, "OIL", OLD), "ALERTS ARE NOT JUDGED: the alert logic has stopped"),
        ([], ""),
        ([Row(key, "", "") for key in ("ALERTLEVEL", "ALERTS", "ALERTMSG")], ""),
    ],
)
def test_the_line_at_the_foot(given: list[Row], line: str) -> None:
    for row in given if line == "" else ():
        row.flags = OLD
    assert alert_words(*given)[0] == line


def test_an_alert_may_have_the_name_of_a_fact() -> None:
    alert = {"state": "active", "level": "caution", "text": "STATE"}
    assert list(in_status({"state": alert, "beyond limits": {"state": {"times": 1}}})) == ["state"]
