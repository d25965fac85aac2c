"""wait, against a real gateway: it holds a display back until there are values to show."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from fixgw.cli import wait

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]


def test_it_ends_at_once_if_the_values_are_usable(bench: Bench, cli: Cli) -> None:
    bench.db.write("IAS", 90.0, "test")
    bench.db.write("EGT11", 700.0, "test")
    bench.db.write("EGT12", 700.0, "test")
    assert cli("wait", "IAS", "EGT*") == (0, "", "")


def test_it_waits_for_a_bad_or_failed_value(bench: Bench, cli: Cli) -> None:
    bench.db.write("EGT11", 700.0, "test")
    bench.db.write("EGT11", float("nan"), "test")
    bench.db.write("ALT", 99999.0, "test")
    words = "fixgw: after 0.3 s still: EGT11 (failed), ALT (bad)\n"
    assert cli("wait", "EGT11", "ALT", "--timeout", "0.3") == (1, "", words)


def test_it_waits_for_all_values(bench: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "INTERVAL_S", 0.02)
    bench.db.write("EGT11", 700.0, "test")
    answers: list[Result] = []
    waiting = threading.Thread(target=lambda: answers.append(cli("wait", "EGT11", "ALT")))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive(), "ALT is missing"
    bench.db.write("ALT", 1000.0, "test")
    waiting.join(10)
    assert answers == [(0, "", "")]


def test_it_waits_for_the_gateway_too(bench: Bench) -> None:
    bench.stop()
    command = [sys.executable, "-m", "fixgw", "wait", "BARO", "--port", str(bench.port), "--timeout", "60"]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1.5)
    bench.start()
    bench.db.write("BARO", 30.0, "test")
    assert waiting.communicate(timeout=30)[0] == b""
    assert waiting.returncode == 0


def test_after_the_time_limit_it_reports_the_missing_values(bench: Bench, cli: Cli) -> None:
    bench.db.write("ALT", 1000.0, "test")
    words = "fixgw: after 0.3 s still: IAS (old), GEAR (old)\n"
    assert cli("wait", "ALT", "IAS", "GEAR", "--timeout", "0.3") == (1, "", words)


def test_a_missing_gateway_is_reported_after_the_time_limit(bench: Bench, cli: Cli) -> None:
    bench.stop()
    words = f"fixgw: after 0.3 s still: no gateway at 127.0.0.1:{bench.port}\n"
    assert cli("wait", "IAS", "--timeout", "0.3") == (1, "", words)
    bench.start()


def test_it_does_not_wait_for_an_unknown_key(bench: Bench, cli: Cli) -> None:
    assert cli("wait", "IASS") == (1, "", "fixgw: no item 'IASS' (did you mean 'IAS'?)\n")
    assert cli("wait", "FUEL*") == (1, "", "fixgw: no item matches 'FUEL*'\n")
