"""Connections as installations have them, and what they must give, through a gateway."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.compute.bench import Flight, flying, write_tree

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data/compute/connections.json").read_text(encoding="utf-8")
)["cases"]


def keys_of(case: dict[str, Any]) -> set[str]:
    keys = {name.partition(".")[0] for name in case.get("aux", {})}
    for step in case["steps"]:
        for part in ("write", "flag", "aux", "expect"):
            keys |= {name.partition(".")[0] for name in step.get(part, {})}
    return keys


def take(step: dict[str, Any], flight: Flight, start: float) -> None:
    if "t" in step:
        flight.advance(start + step["t"] - flight.clock.now)
    if "leader" in step:
        flight.gateway.world.quorum.leader = step["leader"]
    for _ in range(step.get("repeat", 1)):
        for key, value in step.get("write", {}).items():
            flight.write(key, *(value if isinstance(value, list) else (value,)))
    for key, letters in step.get("flag", {}).items():
        flight.flag(key, letters)
    for key, value in step.get("aux", {}).items():
        flight.db.write(key, value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_connection_gives_what_it_must(case: dict[str, Any], tmp_path: Path) -> None:
    path = write_tree(tmp_path, case["compute"]["functions"], keys_of(case), case.get("items", ()))
    with flying(path, aux=case.get("aux")) as flight:
        start = flight.clock.now
        for step in case["steps"]:
            take(step, flight, start)
            tolerance = step.get("tol", case.get("tol", 1e-6))
            for key, expected in step.get("expect", {}).items():
                if "." in key:
                    assert flight.db.read_aux(key) == pytest.approx(expected), key
                    continue
                value, letters = flight.read(key)
                assert math.isclose(value, expected[0], rel_tol=0, abs_tol=tolerance), (key, value, letters, step)
                assert letters == expected[1], (key, value, flight.reason(key), step)
