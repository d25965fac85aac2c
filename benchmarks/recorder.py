"""What recording costs: the virtual aircraft at the rates of its instruments, for a flight on a wound clock.

The cost is that of the thread that gathers and of the one that writes, as a share of a core over the time that the
flight would take; those who write values pay nothing, as nobody subscribes. The same flight is flown a few times, and
for each step the least time counts, so that other work on the machine hardly matters. Memory is what the process grows
by, in a process of its own.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from benchmarks import Rows
from benchmarks.alerts import period
from fixgw import configuration
from fixgw.database import Database
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.recorder import Plugin
from fixgw.world import World

SECONDS = 100.0
FLIGHTS = 3
TICK_S = 0.02
FASTER = 0.658  # the demonstration's instruments repeat values more often: 709 values a second
LATEST = 0.8  # of its tolerance, after which a value is repeated: none becomes old


def fly(recording: bool, directory: str, seconds: float = SECONDS) -> tuple[list[float], int, float]:
    """Seconds of processor time of each step of the recorder, bytes of the recording, and values a second."""
    clock = Clock()
    db: Database = configuration.load(configuration.packaged() / configuration.NAME).make_database(clock)
    world = World(db, clock=clock)
    with world.hosting():
        plugin = Plugin("recorder", {"directory": directory})
    plugin.log.setLevel(logging.ERROR)
    aircraft = Aircraft()
    values: Mapping[str, Any] = {key: value for key, value in aircraft.values().items() if key in db}
    for key, value in values.items():
        db.write(key, value, "aircraft", flags=0)
    if recording:
        plugin.begin()
    periods = {key: min(period(key) * FASTER, LATEST * db.item(key).tolerance or inf) for key in values}
    due = {key: clock.now + n * 0.001 for n, key in enumerate(values)}
    began = clock.now
    steps: list[float] = []

    def measured(step: Callable[..., object], *arguments: float) -> None:
        start = time.thread_time()
        step(*arguments)
        steps.append(time.thread_time() - start)

    written = ticks = 0
    while clock.now < began + seconds:
        clock.now += TICK_S
        ticks += 1
        aircraft.step(TICK_S)
        values = aircraft.values()
        writes = [key for key, at in due.items() if at <= clock.now]
        for key in writes:
            db.write(key, values[key], "aircraft", flags=0)
            due[key] += periods[key]
        written += len(writes)
        db.age()
        if recording:
            if ticks % round(plugin.options.batch / TICK_S) == 0:
                measured(plugin.step)
            if ticks % round(plugin.disk.period / TICK_S) == 0:
                measured(plugin.disk.step, 0.0)
    if recording:
        measured(plugin.finish)
        measured(plugin.disk.step, 0.0)
        measured(plugin.disk.close)
    return steps, sum(path.stat().st_size for path in Path(directory).iterdir()), written / seconds


def memory(recording: bool) -> float:
    """MiB of resident memory of a process that has flown two minutes."""
    code = (
        "import sys, tempfile, resource; from benchmarks.recorder import fly\n"
        "with tempfile.TemporaryDirectory() as directory: fly(sys.argv[1] == 'yes', directory, 120.0)\n"
        "print(int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "yes" if recording else "no"], capture_output=True, text=True, check=True
    )
    return int(answer.stdout) / 2**20


def rows() -> Rows:
    flights = []
    for _ in range(FLIGHTS):
        with tempfile.TemporaryDirectory() as directory:
            steps, size, rate = fly(True, directory)
            flights.append(steps)
    cost = 100 * sum(map(min, zip(*flights, strict=True))) / SECONDS
    yield "recorder: values a second", rate, "values/s", 709.0, "higher"
    yield "recorder: cost", cost, "% of a core", 0.1, "lower"
    yield "recorder: an hour of flight", size * 3600 / SECONDS / 1e6, "MB", 20.0, "lower"
    yield "recorder: memory", memory(True) - memory(False), "MiB", 12.0, "lower"
