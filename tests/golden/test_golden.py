"""Every capture in this folder still has its outcome: see README.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CAPTURES = sorted(HERE.glob("*.mcap"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_the_outcome_is_as_before(path: Path, golden: Callable[[Path], None]) -> None:
    golden(path)


def test_every_driver_has_a_capture() -> None:
    drivers = {path.parent.name for path in (HERE.parents[1] / "drivers").glob("*/__init__.py")} - {"links"}
    without = {
        "serial_bridge",
        "gdl90_out",
        "dump1090",
    }  # they write nothing to the database, so that no replay runs them
    assert {path.stem.partition("-")[0] for path in CAPTURES} == drivers - without
