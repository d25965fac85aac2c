"""Random writes, flags, ages and changes of the leader: the output is what the rules say of the present inputs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import ANNUNCIATE, BAD, FAIL, NEVER, OLD, SECFAIL, Reading
from tests.plugins.compute.bench import Flight, flying, write_tree

PASSED = OLD | BAD | FAIL | SECFAIL
INPUTS = ("EGT11", "EGT12", "EGT13", "CHT11", "BARO")
STEPS = 300


def expected(inputs: list[Reading], failed: str, missing: str) -> tuple[float | None, int]:
    """The value and the flags of the average by the rules; no value if nothing is to be written."""
    values: list[float] = []
    flags = 0
    skipped = False
    for reading in inputs:
        given = reading.flags & PASSED
        if given & FAIL and failed == "skip":
            skipped = True
        elif reading.stamp == NEVER and not given & FAIL:
            flags |= OLD if missing == "old" else 0
        else:
            flags |= given
            values.append(float(reading.value))
    if skipped:
        flags |= BAD if values else FAIL
    if flags & FAIL:
        return 0.0, flags
    return (sum(values) / len(values), flags) if values else (None, 0)


def disturb(chance: random.Random, flight: Flight) -> bool:
    """Do something to the inputs. Returns False if the process is held up: nothing has aged yet."""
    item = flight.db.item(chance.choice(INPUTS))
    what = chance.random()
    if what < 0.6:
        value = chance.choice([float("nan"), 5.0, float(chance.randint(0, 900)), -1e9, 28.0])
        flags = chance.choice([None, 0, 0, 0, BAD, FAIL, SECFAIL, ANNUNCIATE])
        item.write(value, chance.choice(["a", "sim/b"]), flags)
    elif what < 0.75:
        item.flag(chance.choice([0, BAD, FAIL, OLD, SECFAIL]), chance.choice([BAD, FAIL, OLD, BAD | FAIL]), "a", "x")
    elif what < 0.95:
        flight.clock.now += chance.choice([0.01, 0.5, 2.1, 10.0])
        if chance.random() < 0.3:
            return False
    else:
        quorum = flight.gateway.world.quorum
        quorum.leader = not quorum.leader
    flight.advance(0.0)
    return flight.gateway.world.quorum.leader


@pytest.mark.parametrize("missing", ["old", "ignore"])
@pytest.mark.parametrize("failed", ["fail", "skip"])
def test_the_output_follows_the_rules(failed: str, missing: str, tmp_path: Path) -> None:
    function: dict[str, Any] = {"function": "average", "inputs": list(INPUTS), "output": "EGTAVG1"}
    path = write_tree(tmp_path, [{**function, "failed": failed, "missing": missing}])
    for seed in range(3):
        chance = random.Random(seed)
        with flying(path) as flight:
            output = flight.db.item("EGTAVG1")
            for step in range(STEPS):
                if not disturb(chance, flight):
                    continue
                inputs = [flight.db.read(key) for key in INPUTS]
                value, flags = expected(inputs, failed, missing)
                reading = output.reading
                where = (seed, step, reading, inputs)
                if value is None:
                    assert reading.old, where
                    continue
                assert output.min is not None
                assert reading.value == pytest.approx(max(value, output.min)), where
                assert reading.flags & PASSED & ~reading.checked == flags & ~reading.checked, where
                simulated = any(each.source.startswith("sim/") for each in inputs)
                assert reading.source == ("sim/compute" if simulated else "compute"), where
