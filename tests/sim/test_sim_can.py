"""The virtual CAN: a segment and its nodes, an slcan adapter as python-can sees it, and recorded traffic."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import can
import pytest

from fixgw.cli import main
from fixgw.drivers.links.can import log as can_log
from fixgw.hw_sim.can import Leg, Segment, SimFrame, VirtualSlcan, read_log, replay
from fixgw.hw_sim.can.replay import parse
from fixgw.hw_sim.can.segment import from_message, to_message

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


# -- the segment -------------------------------------------------------------------------------------------------------


def test_frames_of_one_node_reach_the_others(segment: Segment) -> None:
    heard: dict[str, list[SimFrame]] = {"a": [], "b": [], "c": []}
    nodes = {name: segment.attach(name, frames.append) for name, frames in heard.items()}
    assert nodes["a"].send(SimFrame(0x123, b"x"))
    until(lambda: heard["b"] and heard["c"])
    assert heard == {"a": [], "b": [SimFrame(0x123, b"x")], "c": [SimFrame(0x123, b"x")]}
    assert (nodes["a"].sent, nodes["b"].received, segment.frames) == (1, 1, 1)


def test_the_lowest_waiting_identifier_wins(segment: Segment) -> None:
    heard: list[int] = []
    started, go = threading.Event(), threading.Event()

    def listen(frame: SimFrame) -> None:
        heard.append(frame.arbitration_id)
        started.set()
        go.wait(5)

    segment.attach("listener", listen)
    nodes = [segment.attach(str(n)) for n in range(3)]
    nodes[0].send(SimFrame(0x7FF))  # keeps the bus busy while the others queue
    assert started.wait(5)
    nodes[0].send(SimFrame(0x300))
    nodes[1].send(SimFrame(0x100 << 18, b"", extended=True))
    nodes[1].send(SimFrame(0x001))
    nodes[2].send(SimFrame(0x100))
    go.set()
    until(lambda: len(heard) == 5)
    assert heard == [0x7FF, 0x100, 0x100 << 18, 0x001, 0x300]


def test_a_frame_takes_the_time_of_its_bit_rate() -> None:
    with Segment(bitrate=125000) as segment:
        heard: list[SimFrame] = []
        segment.attach("listener", heard.append)
        node = segment.attach("node", depth=100)
        since = time.monotonic()
        for _ in range(100):
            node.send(SimFrame(0x100, bytes(8)))
        until(lambda: len(heard) == 100)
        assert time.monotonic() - since > 0.9 * 100 * 111 / 125000


def test_a_node_that_is_off_neither_sends_nor_receives(segment: Segment) -> None:
    heard: list[SimFrame] = []
    off, on = segment.attach("off", heard.append), segment.attach("on")
    listener: list[SimFrame] = []
    segment.attach("listener", listener.append)
    off.on = False
    assert not off.send(SimFrame(1))
    on.send(SimFrame(2))
    until(lambda: listener)
    assert (heard, listener, off.dropped) == ([], [SimFrame(2)], 1)


def test_a_detached_node_receives_nothing(segment: Segment) -> None:
    heard: list[SimFrame] = []
    node, other = segment.attach("node", heard.append), segment.attach("other")
    last: list[SimFrame] = []
    segment.attach("last", last.append)
    node.detach()
    other.send(SimFrame(1))
    until(lambda: last)
    assert not heard
    assert not node.send(SimFrame(2))


def test_a_node_that_raises_does_not_disturb_the_others(segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    def fail(frame: SimFrame) -> None:
        raise RuntimeError("no")

    heard: list[SimFrame] = []
    bad, node = segment.attach("bad", fail), segment.attach("node")
    segment.attach("good", heard.append)
    node.send(SimFrame(1))
    node.send(SimFrame(2))
    until(lambda: len(heard) == 2)
    assert bad.errors == 2
    assert len(caplog.records) == 1


def test_a_node_has_a_bounded_queue() -> None:
    with Segment(bitrate=1000) as segment:
        node = segment.attach("node", depth=5)
        taken = [node.send(SimFrame(1, bytes(8))) for _ in range(10)]
        assert 5 <= sum(taken) <= 6
        assert node.dropped == taken.count(False)


# -- other programs ----------------------------------------------------------------------------------------------------


def test_a_segment_can_be_joined_to_python_can(segment: Segment) -> None:
    heard: list[SimFrame] = []
    node = segment.attach("node", heard.append)
    with (
        can.Bus("sim-leg", interface="virtual", ignore_config=True) as bus,
        can.Bus("sim-leg", interface="virtual", ignore_config=True) as other,
        Leg(segment, bus) as leg,
    ):
        node.send(SimFrame(0x12345678, b"\x01", extended=True))
        message = other.recv(5)
        assert message is not None
        assert from_message(message) == SimFrame(0x12345678, b"\x01", extended=True)
        other.send(to_message(SimFrame(0x123, bytes(4), remote=True)))
        until(lambda: heard)
        assert heard == [SimFrame(0x123, bytes(4), remote=True)]
        assert leg.failed == 0


@pytest.fixture
def adapter(segment: Segment) -> Iterator[VirtualSlcan]:
    with VirtualSlcan(segment) as adapter:
        yield adapter


def slcan_bus(adapter: VirtualSlcan) -> can.BusABC:
    return can.Bus(adapter.path, interface="slcan", bitrate=250000, sleep_after_open=0, ignore_config=True)


def test_the_slcan_interface_of_python_can_works_with_the_adapter(segment: Segment, adapter: VirtualSlcan) -> None:
    heard: list[SimFrame] = []
    node = segment.attach("node", heard.append)
    with slcan_bus(adapter) as bus:
        until(lambda: adapter.opened)
        bus.send(to_message(SimFrame(0x123, b"\x0c\0\0")))
        bus.send(to_message(SimFrame(0x12345678, bytes(2), extended=True, remote=True)))
        until(lambda: len(heard) == 2)
        assert heard == [SimFrame(0x123, b"\x0c\0\0"), SimFrame(0x12345678, bytes(2), extended=True, remote=True)]
        node.send(SimFrame(0x321, b"\xff" * 8))
        deadline = time.monotonic() + 5
        while (message := bus.recv(0.1)) is None:
            assert time.monotonic() < deadline
        assert from_message(message) == SimFrame(0x321, b"\xff" * 8)
    until(lambda: not adapter.opened)


class Terminal:
    """A terminal with typed commands."""

    def __init__(self, adapter: VirtualSlcan) -> None:
        self.fd = os.open(adapter.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def ask(self, command: bytes) -> bytes:
        os.write(self.fd, command)
        answer = b""

        def answered() -> bool:
            nonlocal answer
            try:
                answer += os.read(self.fd, 1)
            except BlockingIOError:
                return False
            return answer[-1:] in (b"\r", b"\a")

        until(answered)
        return answer


@pytest.fixture
def terminal(adapter: VirtualSlcan) -> Iterator[Terminal]:
    terminal = Terminal(adapter)
    yield terminal
    os.close(terminal.fd)


@pytest.mark.parametrize(
    "conversation",
    [
        [(b"O\r", b"\a"), (b"S6\r", b"\r"), (b"O\r", b"\r"), (b"O\r", b"\a"), (b"S5\r", b"\a"), (b"C\r", b"\r")],
        [(b"C\r", b"\a"), (b"V\r", b"V1013\r"), (b"N\r", b"NSIM1\r"), (b"F\r", b"\a")],
        [(b"s031C\r", b"\r"), (b"L\r", b"\r"), (b"t1230\r", b"\a"), (b"F\r", b"F00\r")],
        [(b"S9\r", b"\a"), (b"Sx\r", b"\a"), (b"?\r", b"\a"), (b"\r", b"\r")],
        [(b"S6\r", b"\r"), (b"O\r", b"\r"), (b"t1230\r", b"z\r"), (b"T000001230\r", b"Z\r"), (b"t1239\r", b"\a")],
        [(b"S6\r", b"\r"), (b"O\r", b"\r"), (b"t8000\r", b"\a"), (b"t1232AB\r", b"\a"), (b"tx\r", b"\a")],
    ],
)
def test_the_adapter_answers_according_to_the_protocol(
    terminal: Terminal, conversation: list[tuple[bytes, bytes]]
) -> None:
    for command, answer in conversation:
        assert terminal.ask(command) == answer, command


def test_time_stamps_are_milliseconds_within_a_minute(segment: Segment) -> None:
    node = segment.attach("node")
    with VirtualSlcan(segment, clock=lambda: 61.234) as adapter:
        terminal = Terminal(adapter)
        for command in (b"S6\r", b"Z1\r", b"O\r"):
            assert terminal.ask(command) == b"\r"
        node.send(SimFrame(0x123, b"\xab"))
        assert terminal.ask(b"") == b"t1231AB04D2\r"
        os.close(terminal.fd)


def test_an_adapter_at_another_bit_rate_sees_only_bus_errors() -> None:
    with Segment(bitrate=250000) as segment, VirtualSlcan(segment) as adapter:
        node = segment.attach("node")
        terminal = Terminal(adapter)
        for command in (b"S6\r", b"O\r"):
            assert terminal.ask(command) == b"\r"
        node.send(SimFrame(0x123))
        until(lambda: adapter.flags)
        assert terminal.ask(b"F\r") == b"F80\r"
        assert terminal.ask(b"t1230\r") == b"\a"
        os.close(terminal.fd)


def test_unplugging_resets_the_adapter(adapter: VirtualSlcan, terminal: Terminal) -> None:
    terminal.ask(b"S6\r")
    terminal.ask(b"O\r")
    adapter.unplug()
    assert not Path(adapter.path).exists()
    adapter.plug()
    again = Terminal(adapter)
    assert again.ask(b"O\r") == b"\a"
    os.close(again.fd)


# -- recorded traffic --------------------------------------------------------------------------------------------------

LOG = """\
(1436509052.249713) can0 183#0C0000D204
(1436509052.349713) can0 12345678#
(1436509052.449713) vcan1 7FF#R8 R
this is no frame
(1436509052.549713) can0 123##1AABBCC
(1436509052.649713) can0 20000080#0000000000000000
(1436509052.749713) can0 6F1#06.00.00 T
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "candump.log"
    path.write_text(LOG)
    return path


def test_candump_logs_are_read(log: Path) -> None:
    entries = list(read_log(log))
    assert [e.frame for e in entries] == [
        SimFrame(0x183, b"\x0c\0\0\xd2\x04"),
        SimFrame(0x12345678, b"", extended=True),
        SimFrame(0x7FF, bytes(8), remote=True),
        SimFrame(0x123, b"\xaa\xbb\xcc", fd=True, brs=True),
        SimFrame(0x6F1, b"\x06\0\0"),
    ]
    assert entries[0].time == 1436509052.249713
    assert [e.frame.arbitration_id for e in read_log(log, "vcan1")] == [0x7FF]


def test_logs_of_python_can_are_read(tmp_path: Path) -> None:
    path = tmp_path / "python-can.log"
    frames = [SimFrame(0x123, b"\x01\x02"), SimFrame(0x1ABCDEF0, bytes(8), extended=True)]
    with can.CanutilsLogWriter(path) as writer:
        for frame in frames:
            writer.on_message_received(to_message(frame))
    assert [e.frame for e in read_log(path)] == frames


@pytest.mark.parametrize(
    "line", ["", "(1.0) can0 800#", "(1.0) can0 123#ABC", "(1.0) can0 123#" + "00" * 9, "(x) can0 1#"]
)
def test_a_line_that_is_not_a_frame_gives_none(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(("speed", "expected"), [(10.0, 0.05), (5.0, 0.1)])
def test_a_log_can_be_replayed_at_another_speed(log: Path, speed: float, expected: float) -> None:
    sent: list[SimFrame] = []
    since = time.monotonic()
    assert replay(read_log(log), sent.append, speed) == 5
    assert time.monotonic() - since >= expected
    assert len(sent) == 5


def test_a_log_can_be_replayed_as_fast_as_possible(log: Path) -> None:
    sent: list[SimFrame] = []
    assert replay(list(read_log(log)) * 1000, sent.append, None) == 5000


def test_a_replay_can_be_stopped(log: Path) -> None:
    stopping = threading.Event()
    since = time.monotonic()
    assert replay(read_log(log), lambda frame: stopping.set(), 0.001, stopping) == 1
    assert time.monotonic() - since < 5


# -- logs of candump ---------------------------------------------------------------------------------------------------

FRAME = SimFrame(0x183, bytes.fromhex("320000D204"))


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ("(1700000000.123456) can0 183#320000D204", 1700000000.123456),
        (" (2023-11-14 22:13:20.123456)  can0  183   [5]  32 00 00 D2 04", 1700000000.123456),
        (" (1700000000.123456)  can0  183   [5]  32 00 00 D2 04   '2....'", 1700000000.123456),
        ("  can0  183   [5]  32 00 00 D2 04", 0.0),
        ("\x1b[31m (1700000000.123456)  can0  183   [5]  32 00 00 D2 04\x1b[0m", 1700000000.123456),
        ("  \x1b[32mcan0\x1b[0m  183   [5]  32 00 00 D2 04", 0.0),
    ],
)
def test_logs_of_candump_are_read_whatever_its_options(line: str, time: float) -> None:
    entry = parse(line)
    assert entry is not None
    assert (entry.channel, entry.frame) == ("can0", FRAME)
    assert entry.time == pytest.approx(time)
    recorded = can_log.parse(line)
    assert recorded is not None
    assert recorded.frame.data == FRAME.data
    assert recorded.frame.timestamp == pytest.approx(time)


SWAPPED = "  can0  183   [5]  04`D2`00`00`32\n"


def test_the_lines_of_a_log_that_were_not_understood_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"# a comment\n\n{SWAPPED}  can0  183   [5]  32 00 00 D2 04\n{SWAPPED}")
    log = read_log(path)
    assert len(list(log)) == len(list(log)) == 1
    assert log.skipped == 2


def test_a_log_without_any_valid_line_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text(SWAPPED * 7)
    assert main(["sim", "can", "--slcan", str(tmp_path / "can"), "--replay", str(path)]) != 0
    assert "7 lines were not understood" in capsys.readouterr().err


def test_lines_that_were_not_understood_are_reported_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text("  can0  183   [5]  32 00 00 D2 04\n" + SWAPPED)
    assert main(["sim", "can", "--slcan", str(tmp_path / "can"), "--replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1 lines of" in out
    assert "1 frames in" in out
