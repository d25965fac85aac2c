"""The wheel contains the files of the tree, under the same import names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LINKS = {
    "drivers": "drivers",
    "plugins": "plugins",
    "config": "config",
    "systemd": "systemd",
    "tests/hw_sim": "hw_sim",
    "examples/aircraft": "aircraft",
}
KINDS = {".py", ".yaml", ".ini", ".csv", ".service", ".log", ".typed", ".in", ".html", ".js", ".css", ".svg"}


def tracked() -> list[str]:
    if (ROOT / ".git").exists():
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return listing.splitlines()
    return [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]


def packed_as(name: str) -> str | None:
    """The path that the file `name` of the tree must have in the wheel; None if it is not needed there."""
    if Path(name).suffix not in KINDS:
        return None
    for folder, inside in LINKS.items():
        if name.startswith(folder + "/"):
            return f"fixgw/{inside}/{name[len(folder) + 1 :]}"
    return name if name.startswith("fixgw/") else None


@pytest.mark.timeout(300)
def test_the_wheel_contains_the_tree(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {packed for name in tracked() if (packed := packed_as(name)) and (ROOT / name).is_file()}
    assert "fixgw/plugins/skel.py" in expected
    assert "fixgw/config/default.yaml" in expected
    assert "fixgw/hw_sim/aircraft.py" in expected
    assert "fixgw/aircraft/vw-single-seater/limits.ini" in expected
    assert "fixgw/plugins/web/pages/index.html" in expected
    assert expected - held == set()
    tops = {name.partition("/")[0] for name in held}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"fixgw"}


@pytest.mark.timeout(300)
def test_the_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and first on the path, the wheel finds its own configuration and modules."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import fixgw, fixgw.drivers.nmea0183, fixgw.plugins.netfix, fixgw.hw_sim.aircraft;"
        "from fixgw import configuration as c; print(fixgw.__file__); print(len(c.load(c.find(None)).definitions))"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert result.returncode == 0, result.stderr
    where, count = result.stdout.splitlines()
    assert where.startswith(str(tmp_path))
    assert int(count) > 150


def test_the_version_is_in_one_place(wheel: Path) -> None:
    from fixgw import __version__

    assert wheel.name.startswith(f"fixgw-{__version__}-")
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "ERROR: subprocess-exited-with-error\\nFailed to establish a new connection: [Errno -2]",
            "The first run needs the network, to fetch libraries from PyPI: connect and run this again.\n",
        ),
        ("ERROR: No space left on device", "ERROR: No space left on device\n"),
    ],
)
def test_a_first_run_that_fails_says_why(tmp_path: Path, said: str, shown: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintf '{said}\\n'\nexit 1\n")
    python.chmod(0o755)
    command = ["sh", str(ROOT / "tests/install.sh"), str(python), "--editable", "."]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, shown)


def test_a_moved_clone_runs(tmp_path: Path) -> None:
    """Scripts in .venv/bin contain the path at which they were installed; the Python there does not."""
    here, there = tmp_path / "fixgw", tmp_path / "renamed"
    here.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        (here / name).write_bytes((ROOT / name).read_bytes())
    (here / "fixgw").mkdir()
    (here / "fixgw/__main__.py").write_text("print('flies')")
    (here / ".venv/bin").mkdir(parents=True)
    (here / ".venv/bin/python").symlink_to(sys.executable)
    (here / ".venv/bin/fixgw").write_text(f"#!{here}/.venv/bin/python\n")
    for mark in (".run", ".dev"):
        (here / ".venv" / mark).write_text(f"{here}\n")
    here.rename(there)
    result = subprocess.run(["make", "-s", "demo"], cwd=there, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("flies\n", "")
    assert not (there / ".venv/.dev").exists()  # the development dependencies are installed again
