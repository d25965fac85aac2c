"""What recording costs: the virtual aircraft at the rates of its instruments, for a flight on a wound clock.

The cost is that of the thread that gathers, of the one that writes, and of the writers' threads for the mailbox, as a
share of a core over the time that the flight would take. Memory is what the process grows by, in a process of its own.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
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

SECONDS = 300.0
TICK_S = 0.02
FASTER = 0.59  # the demonstration's instruments repeat values more often: 709 values a second


def fly(recording: bool, directory: str, seconds: float = SECONDS) -> tuple[float, float, int, float]:
    """Seconds of processor time for the writes and for the recorder, bytes of the recording, and values a second."""
    clock = Clock()
    db: Database = configuration.load(configuration.packaged() / configuration.NAME).make_database(clock)
    world = World(db, clock=clock)
    with world.hosting():
        plugin = Plugin("recorder", {"directory": directory})
    plugin.log.setLevel(logging.ERROR)
    aircraft = Aircraft()
    values: dict[str, Any] = {key: value for key, value in aircraft.values().items() if key in db}
    for key, value in values.items():
        db.write(key, value, "aircraft", flags=0)
    if recording:
        plugin.begin()
    due = {key: clock.now + n * 0.001 for n, key in enumerate(values)}
    began = clock.now
    writing = recorded = 0.0
    written = ticks = 0
    while clock.now < began + seconds:
        clock.now += TICK_S
        ticks += 1
        aircraft.step(TICK_S)
        values = aircraft.values()
        writes = [key for key, at in due.items() if at <= clock.now]
        start = time.thread_time()
        for key in writes:
            db.write(key, values[key], "aircraft", flags=0)
        writing += time.thread_time() - start
        written += len(writes)
        for key in writes:
            due[key] += period(key) * FASTER
        db.age()
        if recording:
            start = time.thread_time()
            if ticks % round(plugin.options.batch / TICK_S) == 0:
                plugin.step()
            if ticks % round(0.9 / TICK_S) == 0:
                plugin.disk.step(0.0)
            recorded += time.thread_time() - start
    size = 0
    if recording:
        start = time.thread_time()
        plugin.finish()
        plugin.disk.step(0.0)
        plugin.disk.close()
        recorded += time.thread_time() - start
        size = sum(path.stat().st_size for path in Path(directory).iterdir())
    return writing, recorded, size, written / seconds


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
    with tempfile.TemporaryDirectory() as directory:
        plain, *_ = fly(False, directory)
        writing, recorded, size, rate = fly(True, directory)
    cost = 100 * (recorded + max(0.0, writing - plain)) / SECONDS
    yield "recorder: values a second", rate, "values/s", 709.0, "higher"
    yield "recorder: cost", cost, "% of a core", 0.1, "lower"
    yield "recorder: an hour of flight", size * 3600 / SECONDS / 1e6, "MB", 20.0, "lower"
    yield "recorder: memory", memory(True) - memory(False), "MiB", 12.0, "lower"
