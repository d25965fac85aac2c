"""After a hold-up a process publishes no data that waited meanwhile: serial lines, TCP, UDP and CAN."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from fixgw import database
from fixgw.database import FAIL, Database
from fixgw.drivers.links.can.bus import open_tap
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.nmea0183 import Plugin
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.network import TcpServer, UdpSource
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.devices.nmea0183 import sentence
from fixgw.hw_sim.pty import VirtualPort

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], what: str = "it did not happen", seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def db() -> Iterator[Database]:
    db, before = packaged_database(), database.current()
    database.bind(db)
    yield db
    database.bind(before)


class Suspended(Clock):
    """A clock that blocks its readers while `held` is set; then time advances by a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.holding = False

    def __call__(self) -> float:
        if self.held:
            self.holding = True
            while self.held:
                time.sleep(0.002)
            self.holding = False
            self.now += 60.0
        return self.now


def rmc(minute: int, second: int) -> bytes:
    return sentence(f"GPRMC,12{minute:02}{second:02},A,4800.{minute:03},N,01100.000,E,120.0,090.0,210725,3.0,E,A")


@pytest.mark.parametrize("line", [VirtualPort, TcpServer, UdpSource])
def test_data_that_waited_on_a_line_is_discarded_and_later_data_is_not(db: Database, line: Any) -> None:
    port, clock = line(), Suspended()
    gps = Plugin("gps", {"port": port.path, **({"baud": 9600} if line is VirtualPort else {})})
    gps.hold_up.clock = clock
    seen: list[object] = []
    try:
        gps.start()
        until(lambda: gps.connected)
        until(lambda: port.write(rmc(0, 1)) and db.read("LAT").good)
        clock.held = True
        until(lambda: clock.holding)
        time.sleep(0.05)
        db.subscribe("LAT", lambda key, reading: seen.append(reading.value) if reading.good else None)
        for second in range(20):
            port.write(rmc(5, second))
        before = gps.counts["used"]
        clock.held = False
        until(lambda: gps.counts.get("old bytes discarded", 0) >= 15 * len(rmc(5, 0)))
        until(lambda: gps.counts["bytes"] == port.written)
        assert gps.counts["used"] <= before + 1, "data read before the hold-up is not old"
        assert 48.0 + 0.005 / 60 not in [round(float(value), 9) for value in seen]  # type: ignore[arg-type]
        until(lambda: port.write(rmc(6, 1)) and db.read("LAT").value == pytest.approx(48.0 + 0.006 / 60))
    finally:
        clock.held = False
        gps.shutdown()
        port.close()


def test_a_device_that_died_during_a_hold_up_is_not_shown_as_good(db: Database) -> None:
    clock = Suspended()
    with VirtualPort() as port:
        gps = Plugin("gps", {"port": port.path, "baud": 9600})
        gps.hold_up.clock = clock
        try:
            gps.start()
            until(lambda: gps.connected)
            port.write(rmc(0, 1))
            until(lambda: db.read("LAT").good)
            clock.held = True
            until(lambda: clock.holding)
            time.sleep(0.05)
            for second in range(20):
                port.write(rmc(5, second))
            clock.held = False
            until(lambda: gps.counts.get("old bytes discarded"))
            until(lambda: db.read("LAT").flags & FAIL, "the receiver is silent")
        finally:
            clock.held = False
            gps.shutdown()


def test_frames_that_waited_are_discarded() -> None:
    clock, frames = Suspended(), list[Frame]()

    def received(more: Sequence[Frame]) -> None:
        frames.extend(more)

    with Segment() as segment, VirtualSlcan(segment) as adapter:
        node = segment.attach("node", depth=4096)
        tap = open_tap(BusOptions(interface="slcan", channel=adapter.path, bitrate=500000), received)
        try:
            until(lambda: tap.bus.connected and adapter.opened)
            tap.bus.hold_up.clock = clock
            tap.bus.hold_up.reset()
            node.send(SimFrame(0x100, b"before"))
            until(lambda: [f.data for f in frames] == [b"before"])
            clock.held = True
            until(lambda: clock.holding)
            for _ in range(30):
                node.send(SimFrame(0x100, b"stale"))
            until(lambda: node.sent == 31)
            time.sleep(0.2)
            clock.held = False
            until(lambda: tap.bus.counts.get("old frames discarded", 0) == 30)
            node.send(SimFrame(0x100, b"after"))
            until(lambda: [f.data for f in frames] == [b"before", b"after"])
        finally:
            clock.held = False
            tap.close()
