"""A recorder on the raw tap receives everything, in order, without disturbing the links."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from fixgw import database
from fixgw.database import Database
from fixgw.drivers import i2c_bmp
from fixgw.drivers.links import serial
from fixgw.drivers.links.can.bus import CanPlugin
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.serial import SerialPoller
from fixgw.hw_sim import i2c
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event, Heard
from tests.drivers.bus_bench import SOURCE, numbers, packaged_database, running, until

LOG = logging.getLogger("recorder")


class Ear(SerialPoller):
    def received(self, data: bytes) -> bool:
        return True


class Node(CanPlugin):
    options: BusOptions

    def run(self) -> None:
        self.heard: list[Any] = []
        self.bus = self.tap(self.options, self.heard.extend)


@pytest.fixture
def db() -> Iterator[Database]:
    before = database.current()
    database.bind(Database())
    yield database.current()
    database.bind(before)


def test_a_tap_receives_serial_bytes_in_both_directions(db: Database) -> None:
    buffer = Buffer(1000)
    ear = Ear("gps", {"port": "loop://", "baud": 9600})
    ear.start()
    try:
        until(lambda: ear.connected)
        tap = raw.listen(db, buffer, LOG)
        assert ear.send(b"hello") == 5
        until(lambda: ear.counts["bytes"] == 5)
        tap.close()
        tap.close()
        ear.send(b"unheard")
        until(lambda: ear.counts["bytes"] == 12)
    finally:
        ear.shutdown()
    first, *heard = buffer.take()
    assert raw.point(db).facts() == []
    assert first[0::2] == ("gps", "in"), "the link was open already"
    assert first.data == Event("serial", "opened", "9600")
    assert {(h.connection, h.direction) for h in heard} == {("gps", "in"), ("gps", "out")}
    assert b"".join(h.data for h in heard if h.direction == "in") == b"hello"
    assert [h.data for h in heard if h.direction == "out"] == [b"hello"]
    assert buffer.take() == []


@pytest.mark.slow
def test_a_tap_that_fails_is_closed_without_disturbing_anything(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*heard: object) -> None:
        raise RuntimeError("disk full")

    buffer = Buffer(1000)
    bad = raw.listen(db, broken, LOG)
    raw.listen(db, buffer, LOG)
    with VirtualPort() as port:
        ear = Ear("gps", {"port": port.path, "baud": 9600})
        ear.start()
        try:
            until(lambda: ear.connected)
            for n in range(1, 4):
                port.write(b"x")
                until(lambda wanted=n: ear.counts["bytes"] == wanted)  # type: ignore[misc]
        finally:
            ear.shutdown()
    assert bad.failure == "RuntimeError: disk full"
    assert [record.message for record in caplog.records if record.name == "recorder"] == [
        "recording of gps failed, and has stopped: RuntimeError: disk full"
    ]
    opened, closed = Event("serial", "opened", "9600"), Event("serial", "lost", "stopped")
    assert [heard.data for heard in buffer.take()] == [opened, b"x", b"x", b"x", closed]
    assert list(raw.point(db).taps) != [], "the other one continues"


def test_a_tap_receives_only_the_data_of_its_gateway(db: Database) -> None:
    mine, theirs = Buffer(10), Buffer(10)
    elsewhere = Database()
    raw.listen(db, mine, LOG)
    raw.listen(elsewhere, theirs, LOG)
    raw.point(db).pass_on("gps", 1.0, "in", b"x")
    assert mine.take() == [Heard("gps", 1.0, "in", b"x")]
    assert theirs.take() == []


def test_a_buffer_that_is_never_emptied_is_bounded() -> None:
    buffer = Buffer(3)
    for n in range(5):
        buffer("gps", float(n), "in", b"")
    assert [heard.stamp for heard in buffer.take()] == [2.0, 3.0, 4.0]
    assert buffer.lost == 2


@pytest.mark.slow
def test_a_tap_receives_frames_once_under_the_name_of_their_bus(db: Database) -> None:
    buffer = Buffer(1000)
    taken: list[Heard] = []

    def is_lost() -> bool:
        taken.extend(buffer.take())
        return bool(taken) and isinstance(taken[-1].data, Event) and taken[-1].data.what == "lost"

    raw.listen(db, buffer, LOG)
    with Segment() as segment, VirtualSlcan(segment) as adapter:
        options = {"interface": "slcan", "channel": adapter.path, "bitrate": 250000}
        nodes = [Node(name, dict(options)) for name in ("a", "b")]
        for node in nodes:
            node.start()
        other = segment.attach("other")
        try:
            until(lambda: not nodes[0].health())
            other.send(SimFrame(0x183, b"\x01"))
            until(lambda: all(node.heard for node in nodes))
            assert nodes[0].bus.send(0x184, b"\x02")
            until(lambda: len(nodes[1].heard) == 2)
            adapter.unplug()
            until(is_lost)
        finally:
            for node in nodes:
                node.shutdown()
    opened, *heard, closed = taken
    assert opened.data == Event("can", "opened", "250000")
    assert isinstance(closed.data, Event)
    assert adapter.path in closed.data.detail
    assert raw.point(db).facts() == []
    frames = [(h.direction, frame.arbitration_id) for h in heard for frame in h.data]
    assert [pair for pair in frames if pair[1] in (0x183, 0x184)] == [("in", 0x183), ("out", 0x184)]


def test_a_tap_receives_the_samples_of_chips() -> None:
    buffer = Buffer(1000)
    bus = i2c.bus(next(numbers))
    bus.attach(0x77, Bmp280())
    with packaged_database() as db:
        raw.listen(db, buffer, LOG)
        with running(i2c_bmp.Plugin, bus=bus.number, address=0x77, library="fixgw.hw_sim.i2c") as plugin:
            until(lambda: plugin.counts["used"] >= 2)
    *heard, closed = buffer.take()
    assert closed.data == Event("chip", "lost", "stopped")
    assert {h.connection for h in heard} == {SOURCE}
    assert {h.direction for h in heard} == {"in", "out"}
    whole = [n for n, h in enumerate(heard) if h.data == raw.POLLED]
    opened = [n for n, h in enumerate(heard) if h.data == Event("chip", "opened")]
    assert len(whole) >= 2
    assert len(opened) == 1
    assert opened < whole
    others = [h for n, h in enumerate(heard) if n not in (*whole, *opened)]
    assert all(isinstance(h.data[0], int) and isinstance(h.data[1], bytes) for h in others)


@pytest.mark.slow
def test_a_late_tap_receives_what_is_needed_to_understand_a_chip() -> None:
    early, late = Buffer(10000), Buffer(10000)
    bus = i2c.bus(next(numbers))
    bus.attach(0x77, Bmp280())
    with packaged_database() as db:
        raw.listen(db, early, LOG)
        with running(i2c_bmp.Plugin, bus=bus.number, address=0x77, library="fixgw.hw_sim.i2c") as plugin:
            until(lambda: plugin.counts["used"] >= 2)
            raw.listen(db, late, LOG)
            heard = late.take()
            bus.unplug(0x77)
            until(lambda: not plugin.connected and not raw.point(db).facts())
    opened = [h for h in heard if h.data == Event("chip", "opened")]
    assert len(opened) == 1
    begin = heard[: heard.index(opened[0]) + 1]
    assert len(begin) > 5
    lost = early.take()
    assert lost[: len(begin)] == begin, "all transfers since the gateway began to open the chip"
    assert {h.data for h in lost if isinstance(h.data, Event) and h.data.what == "lost"} == {
        Event("chip", "lost", f"i2c-{bus.number} 0x77: no answer")  # again at each attempt to open it
    }


@pytest.mark.slow
def test_a_transfer_that_fails_is_heard() -> None:
    buffer = Buffer(10000)
    bus = i2c.bus(next(numbers))
    bus.attach(0x77, Bmp280())
    with packaged_database() as db:
        raw.listen(db, buffer, LOG)
        with running(i2c_bmp.Plugin, bus=bus.number, address=0x77, library="fixgw.hw_sim.i2c") as plugin:
            until(lambda: plugin.counts["used"] >= 2)
            bus.unplug(0x77)
            until(lambda: not plugin.connected)
    failures = [h.data for h in buffer.take() if isinstance(h.data, raw.Failure)]
    assert failures
    assert all(failure.errno for failure in failures)


def test_bytes_that_are_discarded_are_heard_as_such(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer(10)
    raw.listen(db, buffer, LOG)
    ear = Ear("gps", {"port": "loop://", "baud": 9600})
    ear._raw = raw.point(db)
    ear.open()
    assert ear.port is not None
    ear.port.write(b"old")
    monkeypatch.setattr(serial, "CHUNK_BYTES", 2)
    ear.hold_up.clock = lambda: 0.0
    ear.hold_up.reset()
    ear.hold_up.clock = lambda: 1000.0
    ear.poll(0.0)
    ear.close()
    _, *discarded = buffer.take()
    assert [(h.direction, h.data) for h in discarded] == [("discarded", b"ol"), ("discarded", b"d")]
    assert ear.counts["old bytes discarded"] == 3
