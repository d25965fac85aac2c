"""`fixgw new`: the new files pass their tests, mypy and ruff, in any folder and in a clone; refusals."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote
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
    cache = tmp_path / "cache"
    with suppress(FileNotFoundError, shutil.Error):  # of `make lint`: then the gateway need not be checked once more
        shutil.copytree(ROOT / ".mypy_cache", cache)
    settings = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache))
    passes(tmp_path, path, "mypy", *settings, "--strict", "--explicit-package-bases", ".")


def test_the_next_steps_work_where_they_are_typed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, third = cli("new", "plugin", "hottest").out.splitlines()[-3:]
    assert first.startswith(f"1. {quote(sys.executable)} -m pytest test_hottest.py "), "no `cd .`"
    assert f"plugin path: {tmp_path}`" in second
    assert third.startswith("3. fixgw check my.yaml && fixgw run --config-file my.yaml ")
    page = (tmp_path / "hottest.md").read_text()
    Path("my.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    assert cli("check", "my.yaml").code == 0

    there = tmp_path / "a b"
    first, _, third = cli("new", "driver", "oil_watch", "--to", str(there)).out.splitlines()[-3:]
    assert first.startswith(f"1. cd '{there}' && {quote(sys.executable)} -m pytest test_oil_watch.py ")
    assert third.startswith(f"3. cd '{there}' && fixgw check my.yaml ")
    page = (there / "oil_watch.md").read_text()
    (there / "my.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    assert cli("check", str(there / "my.yaml")).code == 0

    monkeypatch.setattr("fixgw.cli.new.find_spec", lambda name: None)
    first = cli("new", "plugin", "coldest").out.splitlines()[-3]
    assert "fixgw install-extra testing && " in first
    monkeypatch.setattr("fixgw.extras.is_debian_package", lambda: True)
    first = cli("new", "plugin", "warmest").out.splitlines()[-3]
    assert f"PYTHONPATH={quote(str(ROOT))} {quote(sys.executable)} -m pytest" in first, (
        "the system's Python does not know the package"
    )


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
    # What the suite says does not depend on the folder.
    passes(clone, clone, "pytest", "-q", "-p", "no:cacheprovider", "-k", "not Contract", *tests)
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
