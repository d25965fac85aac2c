"""The cost of computed values: an average of four for each write of an input, and the packaged functions in flight."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from timeit import repeat

from benchmarks import Rows
from fixgw import configuration
from fixgw.clock import now
from fixgw.database import Database
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.plugins.compute import Plugin
from fixgw.plugins.demo import DEFAULT_PERIOD_S, PERIODS_S
from fixgw.world import World

EGTS = ("EGT11", "EGT12", "EGT13", "EGT14")
LOOPS = 100
REPEATS = 2000
TICK_S = 0.05
FLIGHT_S = 40.0  # of the aircraft's time
#: What the functions compute: nothing writes it here.
COMPUTED = ("EGTAVG1", "EGTSPAN1", "EGTMAX1", "CHTMAX1", "FUELQT", "PALT", "DALT", "TAS", "TRACKM")


@contextmanager
def computing(db: Database, functions: list[dict[str, object]]) -> Iterator[Plugin]:
    with World(db).hosting():
        plugin = Plugin("compute", {"functions": functions})
    plugin.start()
    try:
        yield plugin
    finally:
        plugin.shutdown()


def packaged() -> configuration.Configuration:
    return configuration.load(configuration.packaged() / configuration.NAME)


def write_cost(db: Database) -> float:
    """Microseconds of one write of EGT11, in the best of many short runs."""
    for key in EGTS:
        db.write(key, 700.0, "eis")
    write = db.item("EGT11").write
    times = []
    for _ in range(4):
        for key in EGTS:
            db.write(key, 700.0, "eis")
        times += repeat("write(701.0, 'eis')", globals={"write": write}, number=LOOPS, repeat=REPEATS // 4)
    return min(times) / LOOPS * 1e6


def average_cost() -> float:
    """Microseconds that an average of four adds to the write of an input."""
    loaded = packaged()
    alone = write_cost(loaded.make_database())
    db = loaded.make_database()
    with computing(db, [{"function": "average", "inputs": list(EGTS), "output": "EGTAVG1"}]):
        return write_cost(db) - alone


def flight_cost(functions: bool) -> float:
    """Processor seconds of writing a flight's values at their rates, with the packaged functions or without."""
    loaded = packaged()
    aircraft = Aircraft(datetime(2026, 7, 21, 15, 0, tzinfo=UTC), turbulence=0.0)
    time_now = [now()]
    db = loaded.make_database(lambda: time_now[0])
    (listed,) = (c.options["functions"] for c in loaded.connections if c.name == "compute")
    items = {
        key: item
        for key in aircraft.values()
        if key in db and key not in COMPUTED and not (item := db.item(key)).definition.setting
    }
    every = {key: max(1, round(_period(key, item.tolerance) / TICK_S)) for key, item in items.items()}
    spent = 0.0
    with computing(db, listed if functions else []):
        for tick in range(int(FLIGHT_S / TICK_S)):
            time_now[0] += TICK_S
            aircraft.step(TICK_S)
            values = aircraft.values()
            began = time.thread_time()
            for key, item in items.items():
                if tick % every[key] == 0:
                    item.write(values[key], "sensors")
            spent += time.thread_time() - began
    return spent


def _period(key: str, tolerance: float) -> float:
    from fnmatch import fnmatchcase

    period = next((p for p, keys in PERIODS_S.items() if any(fnmatchcase(key, k) for k in keys)), DEFAULT_PERIOD_S)
    return min(period, tolerance / 3.0) if tolerance else period


def rows() -> Rows:
    yield "average of four, on top of the write of an input", average_cost(), "µs", 1.5, "lower"
    share = 100.0 * (min(flight_cost(True) for _ in range(3)) - min(flight_cost(False) for _ in range(3))) / FLIGHT_S
    yield "the packaged functions in flight", share, "% of a core", 0.5, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["compute"]))
