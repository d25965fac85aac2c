"""A release agrees with the change log, and its archives depend on nothing but their files (`tests/release.py`)."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixgw import __version__
from fixgw.cli import client, demo

ROOT = Path(__file__).parents[2]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / "tests/release.py"))


@pytest.mark.parametrize(
    ("version", "unreleased", "newest", "trouble"),
    [
        ("0.2.0", "", "0.2.0 - 2026-12-01", ""),
        ("0.3.0.dev0", "- news", "0.2.0 - 2026-12-01", ""),
        ("0.2.0", "- news", "0.2.0 - 2026-12-01", "unreleased entries"),
        ("0.2.0", "", "0.1.0 - 2026-12-01", "the newest section of CHANGELOG.md is 0.1.0"),
        ("0.2.0", "", "0.2.0", "has no date"),
        ("0.3.0.dev0", "", "0.2.0 - 2026-12-01", "nothing is unreleased"),
        ("0.10.0.dev0", "- news", "0.9.0", ""),
        ("0.2.0.dev0", "- news", "0.2.0 - 2026-12-01", "does not come after 0.2.0"),
        ("0.2", "", "0.2.0 - 2026-12-01", "is neither like"),
        ("0.2.0", "", "next", "needs a section"),
    ],
)
def test_the_version_and_the_change_log_agree(version: str, unreleased: str, newest: str, trouble: str) -> None:
    log = f"# Changelog\n\n## Unreleased\n\n{unreleased}\n\n## {newest}\n\n- more\n"
    reason = RELEASE["disagreement"](version, log)
    assert trouble in reason if trouble else not reason


def test_this_version_and_its_change_log_agree() -> None:
    assert RELEASE["disagreement"](__version__, (ROOT / "CHANGELOG.md").read_text()) == ""


def test_an_archive_depends_only_on_what_is_in_it(tmp_path: Path) -> None:
    for name, stamp in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").write_text("#!/bin/sh\n")
        (tmp_path / name / "run").chmod(0o755 if name == "one" else 0o775)
        os.utime(tmp_path / name / "run", (stamp, stamp))
        RELEASE["pack"](tmp_path / f"{name}.tar.gz", RELEASE["tree"](tmp_path / name, "fixgw-1"), 1000)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    shutil.unpack_archive(tmp_path / "one.tar.gz", tmp_path / "out", filter="data")
    assert os.access(tmp_path / "out/fixgw-1/run", os.X_OK)


def test_the_image_is_not_roots_and_starts_commands_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"(?m)^USER (.+)$", text) == ["1000"]
    assert re.findall(r"(?m)^ENTRYPOINT (.+)$", text) == ['["fixgw"]']
    (started,) = re.findall(r"(?m)^CMD (.+)$", text)
    (check,) = re.findall(r"(?m)^HEALTHCHECK .* CMD (.+)$", text)
    assert json.loads(check)[0] == "fixgw"
    for words, module in ((json.loads(started), demo), (json.loads(check)[1:], client)):
        parser = argparse.ArgumentParser()
        module.add_parser(parser.add_subparsers())
        parser.parse_args(words)  # exits if it does not know them


def test_the_image_is_built_from_all_that_the_wheel_has() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    links = {os.path.normpath(p.parent / p.readlink()) for p in (ROOT / "fixgw").iterdir() if p.is_symlink()}
    assert {os.path.relpath(p, ROOT) for p in links} | {"fixgw", "pyproject.toml", "README.md", "LICENSE"} <= kept
    assert all((ROOT / name).exists() for name in kept)
