"""The documentation is right: generated parts are current, samples work, links have targets."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw import configuration, database, loader
from fixgw.database import Database, Definition
from fixgw.plugin import Poller

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_generated_parts_are_current() -> None:
    """`make docs` updates them."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("kind", ["drivers", "plugins"])
def test_every_plugin_and_driver_has_a_page(kind: str) -> None:
    """The page of a driver must also name its evidence, or `docs/generate.py` fails."""
    names = {info.name for info in loader.available() if info.module.startswith(f"fixgw.{kind}.")}
    assert names
    assert {name for name in names if not (ROOT / "docs" / kind / f"{name}.md").exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)", there.read_text(), re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, section


@pytest.mark.slow
def test_the_plugin_has_fifteen_lines_and_survives_odd_readings(tmp_path: Path) -> None:
    (text,) = blocks("README.md", "python")
    assert len([line for line in text.splitlines() if line.strip()]) <= 15
    sensor = tmp_path / "temperature"
    sensor.write_text("-1500\n")
    namespace: dict[str, type[Poller]] = {}
    exec(re.sub(r'open\("/sys.*?"\)', f"open({str(sensor)!r})", text), namespace)
    previous = database.current()
    database.bind(Database([Definition(key="OAT", min=-100.0, max=100.0, tolerance=2000)]))
    plugin = namespace["Plugin"]("oat", {})

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    try:
        plugin.start()
        until(lambda: plugin.db.read("OAT").good)
        assert plugin.db.read("OAT").value == -1.5
        for odd in ("", "85000\n", "?\n"):
            sensor.write_text(odd)
            until(lambda: plugin.db.read("OAT").fail)
            sensor.write_text("21500\n")
            until(lambda: plugin.db.read("OAT").good)
        assert plugin.db.read("OAT").value == 21.5
        assert plugin.counts["odd readings"] >= 3
        assert plugin.is_running()
        sensor.unlink()
        until(lambda: plugin.db.read("OAT").fail)
    finally:
        plugin.shutdown()
        database.bind(previous)


@pytest.mark.slow
def test_the_drivers_of_the_tutorial_pass_their_own_tests(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "writing-plugins.md").read_text()
    files = dict(re.findall(r"<!-- tutorial: (\S+) -->\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    tests = [name for name in files if name.startswith("test_")]
    assert tests == ["test_thermometer.py", "test_on_the_bases.py"]
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *tests]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def whole(text: str) -> bool:
    # docs/testing.md configures the driver that its reader writes; `test_path.py` runs it.
    return text.startswith("connections:") and "module: co_guard" not in text


@pytest.mark.parametrize(
    ("page", "text"),
    [(str(p.relative_to(ROOT)), t) for p in PAGES for t in blocks(str(p.relative_to(ROOT)), "yaml") if whole(t)],
)
def test_sample_configurations_have_no_problems(page: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(text)
    for limits in blocks(page, "ini"):  # the part that the page puts into a separate file
        (tmp_path / "limits.ini").write_text(limits)
    assert configuration.check(tmp_path / "default.yaml") == []


def test_a_custom_gauge_has_its_limits(tmp_path: Path) -> None:
    (text,), (limits,) = blocks("docs/own-gauge.md", "yaml"), blocks("docs/own-gauge.md", "ini")
    (tmp_path / "default.yaml").write_text(text)
    (tmp_path / "limits.ini").write_text(limits)
    item = configuration.load(tmp_path / "default.yaml").make_database().item("MFLDT")
    assert item.aux["highAlarm"] == 75.0
    assert item.definition.units == "degC"


def test_the_curve_on_the_calibration_page_is_written_by_the_command() -> None:
    import yaml

    from fixgw.cli.calibrate import Point, curve_lines

    (text,) = [t for t in blocks("docs/calibrate.md", "yaml") if t.startswith("curve:")]
    points = [Point(*point) for point in yaml.safe_load(text)["curve"]["points"]]
    assert text.splitlines() == curve_lines(points)


def test_the_sample_overlay_has_no_problems(tmp_path: Path) -> None:
    (text,) = [t for t in blocks("docs/configuration.md", "yaml") if t.startswith("database overlay:")]
    (tmp_path / "default.yaml").write_text("connections: {}\n" + text)
    assert configuration.check(tmp_path / "default.yaml") == []
    loaded = configuration.load(tmp_path / "default.yaml")
    items = {d.key: d for d in loaded.definitions}
    assert items["IAS"].tolerance == 500
    assert items["IAS"].units == "knots"
    assert "EGT21" in items
    assert items["SMOKE"].setting
