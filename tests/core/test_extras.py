"""The command that installs an optional library, for every kind of installation."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fixgw import extras
from fixgw.cli import main
from fixgw.errors import FixgwError, MissingLibrary

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def installed(monkeypatch: pytest.MonkeyPatch, writable: bool = True, **where: Any) -> None:
    """Pretend another installation."""
    for name in ("prefix", "base_prefix", "executable"):
        if name in where:
            monkeypatch.setattr(sys, name, where[name])
    if "file" in where:
        monkeypatch.setattr(extras, "__file__", where["file"])
    if "paths" in where:
        monkeypatch.setattr(sysconfig, "get_path", lambda name: where["paths"])
    monkeypatch.setattr(os, "access", lambda *_: writable)


def test_the_extras_are_those_of_the_project() -> None:
    found = extras.extras()
    assert {name: needs for name, needs in found.items() if name} == {
        name: needs for name, needs in DECLARED.items() if name not in extras.NOT_FOR_USERS
    }
    assert set(extras.DEBIAN) <= set(found)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found[""] == project["dependencies"]


def test_a_clone_that_was_never_installed_has_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def missing(name: str) -> list[str]:
        asked.append(name)
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    extras.extras.cache_clear()
    try:
        assert extras.extras() == extras.extras() == {}
        assert asked == ["fixgw"], "it is looked up once"
        assert extras.install_hint("pyserial") == ""
        monkeypatch.setattr(metadata, "requires", lambda name: None)
        extras.extras.cache_clear()
        assert extras.extras() == {}
    finally:
        extras.extras.cache_clear()


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("PyYAML", "pyyaml"),
        ("python_can[serial]>=4.3", "python-can"),
        ("zope.interface ~= 6", "zope-interface"),
        ("rpi-lgpio==0.6", "rpi-lgpio"),
        ("smbus2<1", "smbus2"),
    ],
)
def test_a_library_has_its_name_before_its_version(requirement: str, name: str) -> None:
    assert extras.name(requirement) == name


def test_a_virtual_environment_uses_its_own_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, prefix="/home/pilot/fix", base_prefix="/usr", executable="/home/pilot/fix/bin/python")
    assert extras.command("i2c") == ["/home/pilot/fix/bin/python", "-m", "pip", "install", *DECLARED["i2c"]]


def test_opt_fixgw_belongs_to_root(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, False, prefix="/opt/fixgw", base_prefix="/usr", executable="/opt/fixgw/bin/python")
    assert extras.command("spi")[:3] == ["sudo", "/opt/fixgw/bin/python", "-m"]


def test_a_debian_package_uses_the_library_of_debian_or_bundles_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    home = "/opt/fixgw/lib/python3.13"
    installed(monkeypatch, False, prefix="/usr", base_prefix="/usr", file=f"{home}/fixgw/extras.py")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert extras.command("i2c") == ["sudo", "apt-get", "install", "python3-smbus2"]
    assert extras.command("can-usb") == [
        *("sudo", "/usr/bin/python3", "-m", "pip", "install", "--target", home),
        *DECLARED["can-usb"],
    ]


def test_a_python_that_debian_manages_is_overridden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    installed(monkeypatch, prefix="/usr", base_prefix="/usr", executable="/usr/bin/python3", paths=str(tmp_path))
    assert "--break-system-packages" in extras.command("i2c")
    monkeypatch.setattr(sys, "prefix", "/home/pilot/fix")
    assert "--break-system-packages" not in extras.command("i2c"), "an environment is one's own"
    monkeypatch.setattr(sys, "prefix", "/usr")
    (tmp_path / "EXTERNALLY-MANAGED").unlink()
    assert "--break-system-packages" not in extras.command("i2c")


def test_an_environment_without_pip_uses_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, prefix="/home/pilot/fix", base_prefix="/usr", executable="/home/pilot/fix/bin/python")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv")
    assert extras.command("i2c")[0] == "/home/pilot/fix/bin/python", "it has pip"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert extras.command("i2c")[:5] == ["/usr/bin/uv", "pip", "install", "--python", "/home/pilot/fix/bin/python"]


def test_a_library_that_is_not_ours_gets_no_command() -> None:
    assert extras.install_hint("some_library") == MissingLibrary("some_library").fix == ""
    assert extras.install_hint("x", "no-such-extra") == ""
    assert "pyserial" in extras.install_hint("pyserial")
    assert "python-can" in extras.install_hint("python_can")


def test_an_unknown_extra_is_an_error() -> None:
    for name in ("", "dev", "ic2"):
        with pytest.raises(FixgwError, match="choose one of"):
            extras.command(name)
    with pytest.raises(FixgwError, match=r"\(did you mean 'i2c'\?\)"):
        extras.command("i2")


def test_the_command_line_lists_prints_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def runs(code: int) -> Callable[..., subprocess.CompletedProcess[bytes]]:
        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
            asked.append(command)
            return subprocess.CompletedProcess(command, code)

        return run

    monkeypatch.setattr(subprocess, "run", runs(0))
    assert main(["install-extra"]) == 0
    assert "smbus2" in capsys.readouterr().out
    assert main(["install-extra", "--print", "i2c"]) == 0
    assert capsys.readouterr().out == extras.install_hint("smbus2", "i2c") + "\n"
    assert asked == []
    assert main(["install-extra", "i2c"]) == 0
    assert asked == [extras.command("i2c")]
    monkeypatch.setattr(subprocess, "run", runs(2))
    assert main(["install-extra", "i2c"]) == 1
    assert main(["install-extra", "nosuch"]) == 1
