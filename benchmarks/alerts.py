"""What alerts cost: the packaged set, while the virtual aircraft flies.

The values arrive as the demonstration's instruments send them, on a wound clock. The cost is that of the plugin alone,
as a share of a core over the time that the flight would take.
"""

from __future__ import annotations

import logging
import time
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import yaml

from benchmarks import Rows
from fixgw import configuration
from fixgw.database import Database
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.alerts import Plugin
from fixgw.plugins.demo import DEFAULT_PERIOD_S, PERIODS_S
from fixgw.world import World

SECONDS = 60.0  # of flight
GATHER_S = Plugin.gather
EXCEEDED = ("CHT1?", "EGT1?", "OILT1", "VOLT", "CURRNT", "FUELP1")  # 12 alerts


def packaged_set() -> dict[str, Any]:
    options: dict[str, Any] = yaml.safe_load((configuration.packaged() / "alerts.yaml").read_text(encoding="utf-8"))
    del options["module"]
    return options


@cache
def period(key: str) -> float:
    return next(
        (s for s, patterns in PERIODS_S.items() if any(fnmatchcase(key, p) for p in patterns)), DEFAULT_PERIOD_S
    )


def share(exceeded: tuple[str, ...] = ()) -> float:
    """The share of a core in percent; the keys that match `exceeded` are beyond every high limit."""
    clock = Clock()
    db: Database = configuration.load(configuration.packaged() / configuration.NAME).make_database(clock)
    with World(db).hosting():
        plugin = Plugin("alerts", packaged_set())
    plugin.log.setLevel(logging.ERROR)
    aircraft = Aircraft()
    values = {key: value for key, value in aircraft.values().items() if key in db}
    for key, value in values.items():
        db.write(key, value, "aircraft")
    plugin.follow()
    plugin.step(0.0)
    due = {key: clock.now + n * 0.001 for n, key in enumerate(values)}
    beyond = {key for key in values if any(fnmatchcase(key, pattern) for pattern in exceeded)}
    spent = 0.0
    end = clock.now + SECONDS
    while clock.now < end:
        clock.now += GATHER_S
        for key, at in due.items():
            if at <= clock.now:
                db.write(key, db.item(key).max if key in beyond else values[key], "aircraft")
                due[key] = at + period(key)
        db.age()
        began = time.thread_time()
        plugin.step(0.0)
        spent += time.thread_time() - began
        if clock.now % 1.0 < GATHER_S:
            aircraft.step(1.0)
            values = {key: value for key, value in aircraft.values().items() if key in due}
    plugin.stop()
    return 100 * spent / SECONDS


def rows() -> Rows:
    yield "alerts: the packaged set, all quiet", share(), "% of a core", 1.0, "lower"
    yield "alerts: the packaged set, with 12 alerts", share(EXCEEDED), "% of a core", 2.0, "lower"
