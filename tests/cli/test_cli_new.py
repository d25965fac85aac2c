"""`fixgw new`: the new files pass their tests, mypy and ruff, in any folder and in a clone; refusals."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

ROOT = Path(__file__).parents[2]


def passes(directory: Path, path: Path | str, *module: str) -> None:
    """Run a Python module in `directory`, with `path` first on the Python path and for mypy."""
    environment = {**os.environ, "PYTHONPATH": str(path), "MYPYPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_new_files_pass_tests_type_checks_and_style_checks(cli: Cli, tmp_path: Path) -> None:
    for kind, name in (("driver", "oil_watch"), ("plugin", "hottest")):
        code, out, err = cli("new", kind, name, "--to", str(tmp_path / kind))
        assert (code, err) == (0, "")
        *files, _, _, _ = out.splitlines()
        assert {Path(file) for file in files} == {path for path in (tmp_path / kind).rglob("*") if path.is_file()}
        assert not [path for path in files if re.search(r"@\w+@", Path(path).read_text())]
        passes(tmp_path / kind, ROOT, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
        style = ("--no-cache", "--config", str(ROOT / "pyproject.toml"), ".")
        passes(tmp_path / kind, ROOT, "ruff", "check", *style)
        passes(tmp_path / kind, ROOT, "ruff", "format", "--check", *style)
    path = f"{ROOT}:{tmp_path / 'driver'}:{tmp_path / 'plugin'}"
    passes(tmp_path, path, "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--explicit-package-bases", ".")


@pytest.mark.timeout(300)
def test_in_a_clone_the_files_go_to_the_existing_folders(cli: Cli, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("fixgw", "drivers", "plugins", "config", "systemd", "tests", "docs"):
        ignore = shutil.ignore_patterns("__pycache__", "captures", "vm")
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", clone)
    for kind, name in (("driver", "oil_watch"), ("plugin", "hottest")):
        assert cli("new", kind, name, "--to", str(clone)).code == 0
    passes(clone, clone, "docs.generate")
    assert "[oil_watch](oil_watch.md) | `oil_watch` |" in (clone / "docs/drivers/index.md").read_text()
    assert "| `port` |" in (clone / "docs/drivers/oil_watch.md").read_text()
    tests = ["tests/drivers/test_oil_watch.py", "tests/plugins/test_hottest.py"]
    passes(clone, clone, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    passes(
        clone,
        clone,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/house/test_rooms.py",
        "-k",
        "oil_watch or hottest",
    )
    written = [str(p) for name in ("oil_watch", "hottest") for p in clone.rglob("*.py") if name in str(p)]
    assert len(written) == 6
    passes(clone, clone, "ruff", "check", "--no-cache", *written)
    passes(clone, clone, "ruff", "format", "--no-cache", "--check", *written)


@pytest.mark.parametrize("name", ["Thermo", "9volt", "a-b", "a.b", "../x", "", "class", "json", "fixgw"])
def test_an_invalid_module_name_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    code, _, err = cli("new", "driver", name, "--to", str(tmp_path))
    assert code == 2
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "test_thermo.py"
    mine.write_text("mine")
    code, _, err = cli("new", "driver", "thermo", "--to", str(tmp_path))
    assert code == 1
    assert f"{mine} already exists" in err
    assert list(tmp_path.iterdir()) == [mine]
    assert mine.read_text() == "mine"
