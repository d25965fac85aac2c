"""What takes the place of devices in a replay."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import astuple

from fixgw.drivers.links.can.bus import RecordedPort
from fixgw.drivers.links.can.frame import EXTENDED, Frame
from fixgw.drivers.links.recorded import RecordedDatagrams, RecordedHoldUp, RecordedLine, RecordedPins
from fixgw.errors import DeviceError
from fixgw.hw_sim import gpio
from fixgw.kit.raw import Feed, Heard

HOST = ("127.0.0.9", 4000)


@pytest.fixture
def sent() -> list[Any]:
    return []


@pytest.fixture
def feed(sent: list[Any]) -> Feed:
    feed = Feed(sent.append)
    feed.trouble = ""
    return feed


def give(feed: Feed, *pieces: Any) -> None:
    feed.entries.extend(Heard("it", 0.0, "in", piece) for piece in pieces)


@pytest.mark.parametrize("kind", [RecordedLine, RecordedDatagrams, RecordedPins])
def test_a_device_that_was_not_there_cannot_be_opened(feed: Feed, kind: Any) -> None:
    feed.trouble = "/dev/ttyS0: no such device"
    with pytest.raises(DeviceError, match=r"^/dev/ttyS0: no such device$"):
        kind(feed)


def test_a_line_is_read_by_the_pieces_of_the_recording(feed: Feed, sent: list[Any]) -> None:
    line = RecordedLine(feed)
    assert (line.baudrate, line.timeout, line.in_waiting, line.read(10)) == (0, 0.0, 0, b"")
    give(feed, b"hello", b"!")
    assert (line.read(2), line.in_waiting, line.read(10), line.read(10), line.read(10)) == (b"he", 3, b"llo", b"!", b"")
    assert line.write(b"ask") == 3
    assert sent == [b"ask"]
    give(feed, b"rest")
    line.read(1)
    line.close()
    assert line.in_waiting == 0
    feed.trouble = "it went away"
    for act in (lambda: line.read(1), lambda: line.write(b"x")):
        with pytest.raises(DeviceError, match="it went away"):
            act()


def test_datagrams_come_from_the_recorded_hosts(feed: Feed, sent: list[Any]) -> None:
    datagrams = RecordedDatagrams(feed)
    give(feed, (b"one", HOST), (b"two", ("::ffff:10.0.0.1", 1)))
    assert [(data, str(host)) for data, host, _ in datagrams.receive()] == [(b"one", "127.0.0.9"), (b"two", "10.0.0.1")]
    assert [*datagrams.receive()] == []
    assert datagrams.send(b"answer", HOST)
    assert sent == [(b"answer", HOST)]
    feed.sent = lambda what: False
    assert not datagrams.send(b"answer", HOST)


def test_pins_have_the_interface_of_the_virtual_ones(feed: Feed) -> None:
    names = "BCM", "IN", "OUT", "LOW", "HIGH", "PUD_OFF", "PUD_DOWN", "PUD_UP", "RISING", "FALLING", "BOTH"
    assert [getattr(RecordedPins, name) for name in names] == [getattr(gpio, name) for name in names]


def test_pins_have_the_recorded_levels_and_only_changes_of_outputs_are_sent(feed: Feed, sent: list[Any]) -> None:
    pins = RecordedPins(feed)
    feed.levels[17] = True
    pins.setup(17, pins.IN)
    assert (pins.input(17), pins.input(27)) == (True, False)
    assert sent == []
    pins.setup(22, pins.OUT, initial=pins.LOW)
    for level in pins.LOW, pins.HIGH, pins.HIGH, pins.LOW:
        pins.output(22, level)
    assert sent == ["GPIO22 0", "GPIO22 1", "GPIO22 0"]
    assert pins.input(22) is False
    pulses = pins.PWM(18, 200.0)
    pulses.start(12.5)
    pulses.ChangeDutyCycle(100.0)
    pulses.stop()
    assert sent[3:] == ["GPIO18 12.5 %", "GPIO18 100 %"]
    feed.trouble = "the chip is gone"
    for act in (lambda: pins.input(17), lambda: pins.setup(17, pins.IN)):
        with pytest.raises(DeviceError, match="the chip is gone"):
            act()


def test_edges_come_from_the_recording_unless_it_had_none(feed: Feed) -> None:
    pins = RecordedPins(feed)
    edges: list[int] = []
    feed.polled = frozenset({27})
    pins.add_event_detect(17, pins.BOTH, edges.append)
    feed.callbacks[17]()
    assert edges == [17]
    with pytest.raises(RuntimeError, match="no edge detection"):
        pins.add_event_detect(27, pins.BOTH, edges.append)
    for _ in range(2):
        pins.remove_event_detect(17)
    assert feed.callbacks == {}


def test_the_process_was_held_up_when_the_recording_says_so(feed: Feed) -> None:
    hold_up = RecordedHoldUp(feed)
    hold_up.reset()
    feed.held_up = True
    assert [hold_up.noticed(0.0), hold_up.noticed(0.0)] == [True, False]


def test_a_bus_has_the_recorded_frames(feed: Feed, sent: list[Any]) -> None:
    counted: list[str] = []
    port = RecordedPort(feed, counted.append)
    assert port.fd
    assert port.read(1.0) == []
    frames = [Frame(1, b"\1", 0, 5.0), Frame(2, b"", EXTENDED, 6.0)]
    give(feed, [astuple(frame) for frame in frames], [])
    assert [port.read(0.0), port.read(0.0)] == [frames, []]
    assert port.write(frames[0])
    assert (sent, counted) == ([frames[0]], [])
    feed.sent = lambda what: False
    assert port.write(frames[1])
    assert counted == ["refused"]
    feed.trouble = "can0 is down"
    for act in (lambda: port.read(0.0), lambda: port.write(frames[0])):
        with pytest.raises(DeviceError, match="can0 is down"):
            act()
