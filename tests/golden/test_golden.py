"""Every capture in this folder still has its outcome: see README.md."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from fixgw.recording import golden
from fixgw.recording.capture import open_capture
from tests.golden.make import outcome

HERE = Path(__file__).parent
CAPTURES = sorted(HERE.glob("*.mcap"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_the_outcome_is_as_before(path: Path) -> None:
    known = path.with_suffix(".txt").read_text().splitlines()
    with closing(open_capture(path)) as capture:
        now = outcome(capture)
    difference = golden.compare(list(golden.read(known)), now, golden.tolerances_in(known))
    assert difference.equal, "\n".join(difference.words())


def test_every_driver_has_a_capture() -> None:
    drivers = {path.parent.name for path in (HERE.parents[1] / "drivers").glob("*/__init__.py")} - {"links"}
    without = {
        "serial_bridge",
        "gdl90_out",
        "dump1090",
    }  # they write nothing to the database, so that no replay runs them
    assert {path.stem.partition("-")[0] for path in CAPTURES} == drivers - without
