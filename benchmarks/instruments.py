"""The cost of serial instruments, pins and the whole demonstration.

``python -m benchmarks instruments``. The bytes are those of a virtual instrument in a minute of flight. Decoding and
writing to the database, without subscribers, is the driver's own code. The demonstrations run as users run them, in a
child process, with their virtual instruments.
"""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import Rows
from fixgw import configuration, database, loader
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.devices.skyview import SkyView
from fixgw.hw_sim.gpio import BANK
from fixgw.hw_sim.serial import SerialInstrument

ROUNDS = 5
SECONDS = 60  # of flight
FLOWN = 10.0  # s for which the demonstration is observed
#: driver -> its virtual instrument
LINES: dict[str, Callable[[Any], SerialInstrument]] = {
    "eis": lambda line: Eis(line),
    "nmea0183": lambda line: Gps(line, rate=5.0, baud=115200),
    "skyview": lambda line: SkyView(line),
}


class _Recorder:
    """A line that stores everything sent."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        """Nothing to close."""


def spoken(make: Callable[[Any], SerialInstrument]) -> bytes:
    """The output of an instrument in a minute."""
    line, aircraft = _Recorder(), Aircraft()
    instrument = make(line)
    for tick in range(SECONDS * 40):
        aircraft.step(0.025)
        instrument.tick(aircraft, tick / 40)
    return line.sent


def decoding(driver: str) -> tuple[float, float]:
    """Microseconds for a frame, from bytes to the database; and percent of a core at the instrument's pace."""
    data = spoken(LINES[driver])
    chunks = [data[i : i + 64] for i in range(0, len(data), 64)]
    plugin: Any = loader.load_plugin(f"fixgw.drivers.{driver}")("bench", {"port": "loop://"})
    plugin.log.setLevel(logging.ERROR)  # where the recording starts again, a frame is cut
    plugin.received(data[:4096])  # looks its items up, once
    best = math.inf
    for _ in range(ROUNDS):
        before, start = plugin.counts["received"], time.perf_counter()
        for chunk in chunks:
            plugin.received(chunk)
        elapsed = time.perf_counter() - start
        best = min(best, elapsed)
        frames = plugin.counts["received"] - before
    return best / frames * 1e6, best / SECONDS * 100.0


def edges() -> float:
    """Microseconds for an edge on a pulse input, from the virtual pin through its thread to the rate."""
    options = {"library": "fixgw.hw_sim.gpio", "pulses": [{"pin": 4, "key": "TACH1", "pulses": 2, "per": "revolution"}]}
    plugin: Any = loader.load_plugin("fixgw.drivers.gpio")("bench", options)
    BANK.reset()
    plugin.start()
    try:
        while not BANK.watched(4):
            time.sleep(0.001)
        number, best = 2000, math.inf
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(number):
                BANK.drive(4, False)
                BANK.drive(4, True)
            BANK.flush()
            best = min(best, time.process_time() - start)
        return best / number / 2 * 1e6
    finally:
        plugin.shutdown()
        BANK.reset()


def demonstration(*arguments: str) -> tuple[float, float, float]:
    """Percent of a core, MiB, and seconds to the banner, of `fixgw demo`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "fixgw", "demo", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            banner = time.perf_counter() - start
            time.sleep(1.0)
            before = _used(process.pid)
            time.sleep(FLOWN)
            spent = _used(process.pid) - before
            with open(f"/proc/{process.pid}/status") as status:
                resident = int(re.findall(r"VmRSS:\s+(\d+)", status.read())[0]) / 1024
        finally:
            process.terminate()
    return spent / FLOWN * 100.0, resident, banner


def _used(pid: int) -> float:
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows() -> Rows:
    made = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    before = database.current()
    database.bind(made)
    try:
        for driver in LINES:
            frame, share = decoding(driver)
            yield f"{driver}: a frame from bytes to the database", frame, "µs", 200.0, "lower"
            yield f"{driver}: its line at full pace", share, "% of a core", 1.0, "lower"
        yield "gpio: an edge of a pulse input", edges(), "µs", 50.0, "lower"
    finally:
        database.bind(before)
        made.stop()
    for arguments in ((), ("--everything",)):
        name = " ".join(("demo", *arguments))
        share, memory, banner = demonstration(*arguments)
        yield f"{name}, instruments included", share, "% of a core", 60.0 if arguments else 20.0, "lower"
        yield f"{name}: resident memory", memory, "MiB", 45.0, "lower"
        yield f"{name}: seconds to its banner", banner, "s", 2.0, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["instruments"]))
