"""The table of the gateway's costs: ratios, budgets, and the modules that run."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import benchmarks.__main__ as table
from benchmarks import Row, _against, latency, netfix

pytestmark = pytest.mark.slow

RECORDED: dict[str, Any] = {"value": 2.0, "unit": "µs", "calibration": 300.0}


@pytest.mark.parametrize(
    ("row", "calibration", "recorded", "expected"),
    [
        (("x", 3.0, "µs", 9, "lower"), 300.0, RECORDED, 1.5),
        (("x", 3.0, "µs", 9, "lower"), 450.0, RECORDED, 1.0),
        (("x", 1e5, "writes/s", 9, "higher"), 600.0, {**RECORDED, "value": 2e5, "unit": "writes/s"}, 1.0),
        (("x", 1e5, "writes/s", 9, "higher"), 300.0, {**RECORDED, "value": 2e5, "unit": "writes/s"}, 2.0),
        (("x", 26.0, "MiB", 9, "lower"), 900.0, {**RECORDED, "value": 13.0, "unit": "MiB"}, 2.0),
        (("x", 3.0, "ms", 9, "lower"), 300.0, RECORDED, None),
        (("x", 3.0, "µs", 9, "lower"), 300.0, None, None),
        (("x", 0.0, "µs", 9, "higher"), 300.0, RECORDED, None),
    ],
    ids=["slower", "slower machine", "rate on a slower machine", "lower rate", "memory", "unit", "new", "nought"],
)
def test_ratios_are_corrected_for_the_speed_of_the_machine(
    row: Row, calibration: float, recorded: dict[str, Any] | None, expected: float | None
) -> None:
    assert table.ratio(row, calibration, recorded) == (None if expected is None else pytest.approx(expected))


def test_a_budget_is_an_upper_or_lower_limit() -> None:
    assert table.met(("x", 1.0, "µs", 1.0, "lower"))
    assert not table.met(("x", 1.1, "µs", 1.0, "lower"))
    assert table.met(("x", 100.0, "%", 100.0, "higher"))
    assert not table.met(("x", 99.9, "%", 100.0, "higher"))


def test_a_run_prints_a_table_and_records_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"one": 2.0, "two": 5.0}

    def load(name: str) -> ModuleType:
        module = ModuleType(name)
        module.rows = lambda: ((n, v, "MiB", 3.0, "lower") for n, v in measured.items())  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr(importlib, "import_module", load)
    monkeypatch.setattr(table, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(table, "modules", lambda: ["some"])
    assert table.main(["--record"]) == 1  # a budget was exceeded
    assert "1 budget not met" in capsys.readouterr().out
    measured["two"] = 3.0
    assert table.main([]) == 0
    measured["two"] = 5.0
    table.main(["--record"])
    assert json.loads((tmp_path / "baseline.json").read_text())["some: two"]["value"] == 5.0
    capsys.readouterr()
    measured["one"] = 3.0
    assert table.main(["some"]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:-1]]
    assert lines == [["one", "3", "MiB", "≤", "3", "met", "1.50"], ["two", "5", "MiB", "≤", "3", "NOT", "1.00"]]


def test_a_broken_module_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "modules", lambda: ["nonesuch"])
    assert table.main([]) == 1
    assert "ModuleNotFoundError" in capsys.readouterr().out


@pytest.mark.parametrize("name", table.modules())
def test_every_module_is_run(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_the_recorded_baseline_is_valid() -> None:
    for name, recorded in json.loads(table.BASELINE.read_text()).items():
        assert recorded["calibration"] > 0, name
        assert recorded["value"] >= 0, name


def test_any_gateway_can_be_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_against, "SECONDS", 0.2)
    with netfix.gateway() as (_, plugin), _against.Gateway("127.0.0.1", plugin.port, os.getpid()) as gateway:
        rows = dict(row[:2] for row in gateway.fan_out(2, burst=10))
    assert rows["100 keys x 20 Hz in bursts of 10, 2 clients: delivered"] >= 100.0
    assert rows["100 keys x 20 Hz in bursts of 10, 2 clients: wake-ups"] > 0.0
    assert table.main(["--against", f"127.0.0.1:{plugin.port}"]) == 1, "it is gone"
    assert "refused" in capsys.readouterr().out


def test_the_way_of_a_value_is_divided_into_stages() -> None:
    ways = [latency.Way(1.0, 1.001 + n * 1e-6, None, 1.003, 1.003, 1.004, 1.005) for n in range(100)]
    read, decoded, written, notified, sent, received, whole = latency.stages(ways)
    assert decoded is None, "what is not known is left out"
    assert notified == (0.0, 0.0)
    assert read == pytest.approx((1.0495, 1.099), abs=0.002)
    assert written == pytest.approx((1.95, 2.0), abs=0.01), "since it was read"
    assert sent == pytest.approx((1.0, 1.0))
    assert received == pytest.approx((1.0, 1.0))
    assert whole == pytest.approx((5.0, 5.0))
    assert latency.stages([way._replace(wire=None) for way in ways])[-1] == pytest.approx((3.95, 4.0), abs=0.01)


def test_a_line_is_found_when_it_goes_by() -> None:
    lines = latency.Lines()
    for at in (1.0, 2.0, 5.0):
        lines.add(at, b"IAS;100.0;00000\nALT;5000.0;00000")
    assert lines.first("IAS;100.0;00000", 1.5) == 2.0
    assert lines.first("ALT;5000.0;00000", 2.0) == 2.0
    assert lines.first("ALT;5000.0;00000", 3.0) is None, "too late to be the same"
    assert lines.first("ALT;5001.0;00000", 0.0) is None
