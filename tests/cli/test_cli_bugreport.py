"""fixgw report without arguments, with and without a gateway."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixgw import __version__, logmemory
from fixgw.cli import bugreport
from fixgw.netfix import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the command."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(bugreport, "DOCTOR_S", 0.05)
    return place


def section(report: str, title: str) -> str:
    return report.partition(f"== {title} ==")[2].partition("\n== ")[0]


def test_of_a_running_gateway(place: Path, bench: Bench, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.file.write_text(bench.file.read_text() + "    on_failure: restart  # password: Hunter22\n")
    memory = logmemory.LogMemory()
    monkeypatch.setattr(logmemory, "memory", memory)
    logging.getLogger("fixgw").addHandler(memory)
    logging.getLogger("fixgw.plugins.netfix").warning("refused Hunter22\nmore\x1b[31m")
    logging.getLogger("fixgw").removeHandler(memory)
    result = cli("report")
    (path,) = place.iterdir()
    assert result.code == 0, result.err
    assert result.out.startswith(f"{path.name}: look it through")
    assert re.fullmatch(r"fixgw-report-\d{8}-\d{6}\.txt", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = path.read_text()
    assert re.search(rf"fixgw +{re.escape(__version__)} in ", section(report, "Versions"))
    assert re.search(r"msgspec +\d", section(report, "Versions"))
    assert "netfix      running  ok" in section(report, "Gateway")
    assert f"-- {bench.file}\n" in section(report, "Configuration")
    assert "key: IAS, description: Indicated airspeed" in section(report, "Configuration")
    assert "version" in section(report, "Doctor")
    assert "WARNING netfix: refused ***\n    more\\x1b[31m\n" in section(report, "Log")
    assert "Hunter22" not in report


def test_without_a_gateway_and_with_a_broken_configuration(
    place: Path, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "default.yaml").write_text("connections:\n  gps: {module: fixgw.drivers.nmea0183\n  password: Hunter22\n")
    monkeypatch.setenv("FIXGW_CONFIG", str(place / "default.yaml"))
    result = cli("report", "--port", "1")
    assert result.code == 0
    report = (place / result.out.partition(":")[0]).read_text()
    assert "no gateway answers" in section(report, "Gateway")
    assert "journalctl" in section(report, "Log")
    assert "problem: " in section(report, "Configuration")
    assert "problem " in section(report, "Doctor")
    assert "Hunter22" not in report


def test_a_part_that_fails_costs_no_other(
    place: Path, bench: Bench, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Client) -> dict[str, object]:
        raise ValueError("nonsense")

    monkeypatch.setattr(Client, "status", fail)
    monkeypatch.setattr(bugreport, "_libraries", lambda: 1 / 0)
    report = (place / cli("report").out.partition(":")[0]).read_text()
    assert "This part failed: ValueError: nonsense" in section(report, "Gateway")
    assert "This part failed: ZeroDivisionError" in section(report, "Versions")
    assert "Configuration" in report


def test_of_a_gateway_elsewhere(place: Path, bench: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bugreport, "LOCAL", ())
    report = (place / cli("report").out.partition(":")[0]).read_text()
    assert "run `fixgw report` there" in section(report, "Configuration")
    assert "netfix      running  ok" in section(report, "Gateway")


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    now = datetime(2026, 5, 16, 14, 5, 9, tzinfo=UTC)
    (tmp_path / "fixgw-report-20260516-140509.txt").symlink_to(tmp_path / "elsewhere")
    assert bugreport.save("b", tmp_path, now).name == "fixgw-report-20260516-140509-1.txt"
    assert bugreport.save("c", tmp_path, now).name == "fixgw-report-20260516-140509-2.txt"
    assert (tmp_path / "fixgw-report-20260516-140509-1.txt").read_text() == "b"
    assert not (tmp_path / "elsewhere").exists()


def test_json_is_for_keys_and_flights(place: Path, cli: Cli) -> None:
    assert cli("report", "--json").err == "fixgw: --json is for keys and flights: name them\n"
    assert list(place.iterdir()) == []
