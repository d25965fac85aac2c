"""Serial ports: a 16550 at ttyS1, with a virtual GPS of the host at its other end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.world import World

from ..bench import Bench, check


class Line:
    """The host's end of a serial port, for a virtual instrument."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def write(self, data: bytes, /) -> None:
        self._end.sendall(data)

    def close(self) -> None:
        pass  # the machine's


@contextmanager
def gps(bench: Bench) -> Iterator[World]:
    with World() as world:
        world.attach(Gps(Line(bench.machine.serial[0]), baud=9600))
        yield world


@check("a GPS of the host on a 16550: position and speed are good, and the host's")
def position(bench: Bench) -> str:
    with gps(bench) as world:
        latitude = float(bench.good("LAT", 60.0))
        expected = world.values["LAT"]
        assert isinstance(expected, float)
        assert abs(latitude - expected) < 0.01, (latitude, expected)
        bench.good("GS")
        status = bench.connection("gps")
        assert status["health"] == "ok", status
        rate = bench.machine.run("stty -F /dev/ttyS1 speed")
        assert rate == "9600"
    return f"LAT {latitude}"


@check("the GPS falls silent: its keys age; noise on the line: nothing but counters")
def silence(bench: Bench) -> None:
    bench.flagged("LAT", ".1...")
    bench.when(lambda: bench.connection("gps")["health"] != "ok", "silence is in the status")
    pid = bench.show("MainPID", "NRestarts")
    for _ in range(5):
        bench.machine.serial[0].sendall(bytes(range(256)))
        time.sleep(0.2)
    with gps(bench):
        bench.good("LAT", 60.0)
    assert bench.show("MainPID", "NRestarts") == pid
