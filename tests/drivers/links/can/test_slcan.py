"""slcan adapters: the protocol without a line, and the line on a pseudo-terminal with a virtual adapter."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.links.can import slcan
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, FD_LENGTHS, REMOTE, Frame, decode_error
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.can.slcan import Parser, SlcanPort, encode
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.can import slcan as virtual

pytestmark = pytest.mark.slow


class Fed(Parser):
    """A parser at second 100 that counts in a Counter."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        super().__init__(self._tally, lambda: 100.0)

    def _tally(self, what: str, n: int = 1) -> None:
        self.counts[what] += n


def parsed(data: bytes) -> list[Frame]:
    return Fed().feed(data)


# -- the protocol ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        (b"t1830\r", Frame(0x183, b"", 0, 100.0)),
        (b"t18350c0000d204\r", Frame(0x183, b"\x0c\0\0\xd2\x04", 0, 100.0)),
        (b"T1FFFFFFF2BEEF\r", Frame(0x1FFFFFFF, b"\xbe\xef", EXTENDED, 100.0)),
        (b"r7FF8\r", Frame(0x7FF, bytes(8), REMOTE, 100.0)),
        (b"R000000000\r", Frame(0, b"", REMOTE | EXTENDED, 100.0)),
        (b"t7FF8" + b"12" * 8 + b"\r", Frame(0x7FF, b"\x12" * 8, 0, 100.0)),
        (b"D123456780\r", Frame(0x12345678, b"", FD | EXTENDED, 100.0)),
        (b"b123A" + b"01" * 16 + b"\r", Frame(0x123, b"\x01" * 16, FD | BRS, 100.0)),
        (b"d1239" + b"AB" * 12 + b"\r", Frame(0x123, b"\xab" * 12, FD, 100.0)),
        (b"B12345678F" + b"00" * 64 + b"\r", Frame(0x12345678, bytes(64), FD | BRS | EXTENDED, 100.0)),
    ],
)
def test_a_message_is_a_frame(line: bytes, frame: Frame) -> None:
    assert parsed(line) == [frame]


@pytest.mark.parametrize(
    "line",
    [
        b"t8000",  # more than 11 bits
        b"T200000000",  # more than 29
        b"t1239" + b"00" * 9,
        b"t123",
        b"t",
        b"t1232AB",  # cut short
        b"t1231ABC",  # half a byte too much
        b"t1231AB00",  # half a time stamp
        b"t1231AB000000",  # one and a half
        b"t+121AB",
        b"t 121AB",
        b"t12G0",
        b"t123x",
        b"t1231GG",
        b"r123F",
        b"dxyz0",
        b"F",
        b"FXY",
        b"sx000000",
        b"sa00000",
        b"e2a",
        b"\xff\xfe\xfd",
        b"z123",
        b"$GPRMC,123519,A",
    ],
)
def test_nonsense_is_counted_and_the_next_message_is_read(line: bytes) -> None:
    parser = Fed()
    assert parser.feed(line + b"\rt1230\r") == [Frame(0x123, b"", 0, 100.0)]
    assert parser.counts == {"garbage": 1}


def test_answers_are_not_frames() -> None:
    parser = Fed()
    assert parser.feed(b"\r\rz\rZ\r\at1230\r\a") == [Frame(0x123, b"", 0, 100.0)]
    assert (parser.refused, parser.counts) == (2, {})


def test_a_refusal_in_the_middle_of_a_message_loses_only_that_one() -> None:
    parser = Fed()
    assert parser.feed(b"t12\at4560\r") == [Frame(0x456, b"", 0, 100.0)]
    assert (parser.refused, parser.counts) == (1, {"garbage": 1})


def test_an_endless_line_takes_bounded_memory_and_counts_once() -> None:
    parser = Fed()
    for _ in range(1000):
        assert parser.feed(b"t" * 100) == []
        assert len(parser._rest) <= slcan.MAX_LINE_BYTES
    for data, identifier in (b"tt\rt1230\r", 0x123), (b"t1240\r", 0x124):
        assert parser.feed(data) == [Frame(identifier, b"", 0, 100.0)]
    assert parser.counts == {"garbage": 1}
    parser.feed(b"t" * 300)
    assert parser.counts == {"garbage": 2}


def test_time_stamps_separate_frames_that_arrived_together() -> None:
    frames = parsed(b"t1230EA50\rt12300008\rt1230000A\r")  # the adapter's time stamp wraps around between the first two
    assert [f.timestamp for f in frames] == pytest.approx([100 - 0.026, 100 - 0.002, 100])


@pytest.mark.parametrize(("stamp", "waited_s"), [(b"0001", 0.001), (b"03E8", 1.0), (b"03E9", 0.0), (b"2710", 0.0)])
def test_a_frame_waits_in_the_adapter_for_a_second_at_most(stamp: bytes, waited_s: float) -> None:
    """What says that it waited longer is not plausible."""
    assert [f.timestamp for f in parsed(b"t12300000\rt1230" + stamp + b"\r")] == [100.0 - waited_s, 100.0]


def test_time_stamps_of_one_chunk_do_not_count_for_the_next() -> None:
    parser = Fed()
    for data, stamps in ((b"t12300000\rt1230000A\r", [99.99, 100.0]), (b"t1230\rt12300064\r", [100.0, 100.0])):
        assert [f.timestamp for f in parser.feed(data)] == pytest.approx(stamps)


def test_status_flags_are_reported_once_as_error_frames() -> None:
    parser = Fed()
    assert parser.feed(b"F00\r") == []
    (passive,) = parser.feed(b"F20\r")
    assert passive.flags == ERROR
    assert decode_error(passive.arbitration_id, passive.data).state == "passive"
    assert parser.feed(b"F20\r") == []
    (overrun,) = parser.feed(b"F8C\r")
    report = decode_error(overrun.arbitration_id, overrun.data)
    assert (report.state, report.events) == ("warning", ("bus error", "receive overflow"))
    (well,) = parser.feed(b"F00\r")
    assert decode_error(well.arbitration_id, well.data).state == "active"


@pytest.mark.parametrize(
    ("status", "state", "event"),
    [
        (0x01, "active", "receive overflow"),
        (0x02, "active", "transmit overflow"),
        (0x04, "warning", ""),
        (0x08, "active", "receive overflow"),
        (0x20, "passive", ""),
        (0x40, "active", "arbitration lost"),
        (0x80, "active", "bus error"),
    ],
)
def test_each_status_flag_has_its_meaning(status: int, state: str, event: str) -> None:
    frame = slcan._make_status_frame(status, 0.0)
    error = decode_error(frame.arbitration_id, frame.data)
    assert (error.state, error.events) == (state, (event,) if event else ())


def test_unsolicited_controller_status_of_an_adapter_is_understood() -> None:
    """As Linux's driver slcan understands it: state, errors while receiving and while sending."""
    for line, reported in {
        b"sa000001": ("active", 0, 1),
        b"sw096000": ("warning", 96, 0),
        b"sp128007": ("passive", 128, 7),
        b"sb000300": ("bus off", 0, 255),
        b"sw999000": ("warning", 255, 0),
    }.items():
        (state,) = parsed(line + b"\r")
        report = decode_error(state.arbitration_id, state.data)
        assert (report.state, report.rx_errors, report.tx_errors) == reported


@pytest.mark.parametrize(
    ("letters", "events"),
    [
        (b"a", ("no acknowledgement",)),
        (b"b", ("bit 0 error",)),
        (b"B", ("bit 1 error",)),
        (b"f", ("form error",)),
        (b"s", ("stuff error",)),
        (b"o", ("receive overflow",)),
        (b"O", ("transmit overflow",)),
        (b"c", ("bus error",)),  # and whatever else there may be
        (b"as", ("no acknowledgement", "stuff error")),
        (b"oOf", ("receive overflow", "transmit overflow", "form error")),
    ],
)
def test_each_letter_of_an_error_has_its_meaning(letters: bytes, events: tuple[str, ...]) -> None:
    (error,) = parsed(b"e%d%b\r" % (len(letters), letters))
    assert error.flags == ERROR
    report = decode_error(error.arbitration_id, error.data)
    assert (report.events, report.state, report.tx_errors) == (events, "", None)


def test_an_error_of_which_nothing_more_is_known_has_no_details() -> None:
    (error,) = parsed(b"e1c\r")
    assert error.data == bytes(8)


classic = st.one_of(
    st.builds(Frame, st.integers(0, 0x7FF), st.binary(max_size=8)),
    st.builds(Frame, st.integers(0, 0x1FFFFFFF), st.binary(max_size=8), st.just(EXTENDED)),
    st.builds(Frame, st.integers(0, 0x7FF), st.integers(0, 8).map(bytes), st.just(REMOTE)),
    st.builds(
        Frame,
        st.integers(0, 0x1FFFFFFF),
        st.sampled_from(FD_LENGTHS).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
        st.sampled_from([FD | EXTENDED, FD | EXTENDED | BRS]),
    ),
)


@given(st.lists(classic, max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_encoded_frames_are_read_back_from_any_pieces(frames: list[Frame], sizes: list[int]) -> None:
    data = b"".join(map(encode, frames))
    parser, back, place = Fed(), list[Frame](), 0
    while data[place:]:
        size = sizes[place % len(sizes)]
        back += parser.feed(data[place : place + size])
        place += size
    assert [(f.arbitration_id, f.data, f.flags) for f in back] == [(f.arbitration_id, f.data, f.flags) for f in frames]
    assert not parser.counts


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    parser = Fed()
    for chunk in chunks:
        parser.feed(chunk)
    parser.feed(b"\r")
    assert parser.feed(b"t1230\r") == [Frame(0x123, b"", 0, 100.0)]


def test_an_error_frame_has_no_command() -> None:
    with pytest.raises(ValueError, match="no command"):
        encode(Frame(0, b"", ERROR))
    assert encode(Frame(1, b"", FD | ESI)) == b"d0010\r"


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        *(
            ({"bitrate": rate}, [f"S{n}".encode()])
            for n, rate in enumerate((10000, 20000, 50000, 100000, 125000, 250000, 500000, 800000, 1000000, 83300))
        ),
        ({"bitrate": 750000}, [b"S7"]),
        *(({"bitrate": 500000, "extra": {"data_bitrate": n * 1000000}}, [b"S6", b"Y%d" % n]) for n in (1, 2, 4, 5)),
        ({"bitrate": 1000000, "extra": {"timestamps": False}}, [b"S8", b"Z0"]),
        ({"bitrate": 1000000, "extra": {"timestamps": True}}, [b"S8", b"Z1"]),
        ({"extra": {"btr": "031c"}}, [b"s031C"]),
    ],
)
def test_an_adapter_is_set_up_with_the_right_commands(options: dict[str, object], commands: list[bytes]) -> None:
    assert slcan.setup_commands(BusOptions(interface="slcan", **options)) == commands  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs a bitrate"),
        ({"bitrate": 123456}, "supports the bit rates 10000"),
        ({"bitrate": 125000, "extra": {"data_bitrate": 3}}, "data bit rates"),
        ({"bitrate": 125000, "extra": {"baud": 3}}, "unknown option of slcan 'baud'"),
        ({"extra": {"btr": "xx"}}, "exadecimal"),
    ],
)
def test_an_impossible_set_up_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        slcan.setup_commands(BusOptions(interface="slcan", **options))  # type: ignore[arg-type]


# -- the line, by hand -------------------------------------------------------------------------------------------------


class Line:
    """A line without a file descriptor, and the clock, which only moves when there is nothing to read."""

    port = "rfc2217://x"
    timeout = 0.0
    out_waiting = 0

    def __init__(self) -> None:
        self.now = 100.0
        self.gives: list[bytes] = []
        self.answers: dict[bytes, bytes] = {}
        self.written: list[bytes] = []
        self.closed = False

    @property
    def in_waiting(self) -> int:
        return len(self.gives[0]) if self.gives else 0

    def read(self, size: int) -> bytes:
        if not self.gives:
            self.now += self.timeout
            return b""
        data, rest = self.gives[0][:size], self.gives[0][size:]
        self.gives[:1] = [rest] if rest else []
        return data

    def write(self, data: bytes) -> int:
        if self.closed:
            raise OSError("closed")
        self.written.append(data)
        if answer := self.answers.get(data.strip(b"\r")):
            self.gives.append(answer)
        return len(data)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(slcan, "clock_now", lambda: line.now)
    return line


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def port(line: Line, counts: Counter[str]) -> SlcanPort:
    def tally(what: str, n: int = 1) -> None:
        counts[what] += n

    return SlcanPort(line, tally)  # type: ignore[arg-type]


def test_an_adapter_is_asked_who_it_is_and_how_it_is(line: Line, port: SlcanPort) -> None:
    line.answers = {b"C": b"\r", b"S5": b"\r", b"V": b"V1013\r", b"N": b"N\x01A\r", b"O": b"\rt1230\r", b"F": b"F00\r"}
    line.gives = [b"t0010\r"]  # it was open
    port.begin([b"S5"])
    assert line.written == [b"\r\r\rC\r", b"S5\r", b"V\r", b"N\r", b"O\r", b"F\r"]
    assert port.facts() == {"adapter": "V1013 NA"}
    assert [frame.arbitration_id for frame in port.read(0.0)] == [0x123]
    assert line.now < 101.0
    line.now = 100.0 + 1.0
    asked_at = port._asked_at
    for seconds, asks in (1.0, 0), (1.1, 1), (1.2, 1), (2.0, 1), (2.2, 2):
        line.now = asked_at + seconds
        line.answers = {}
        port.read(0.0)
        assert line.written[6:] == [b"F\r"] * asks
    port.close()
    assert line.written[-1] == b"\rC\r"
    assert line.closed
    port.close()


def test_an_adapter_that_never_answers_is_given_0_3_seconds_each_time(line: Line, port: SlcanPort) -> None:
    port.begin([b"S5"], listen_only=True)
    assert line.written == [b"\r\r\rC\r", b"S5\r", b"L\r"], "it is not asked more"
    assert line.now == pytest.approx(100.65)
    assert port.facts() == {"adapter": "slcan"}
    line.now += 10.0
    port.read(0.0)
    assert len(line.written) == 3


@pytest.mark.parametrize(
    ("refuses", "words"),
    [
        (b"S5", "rfc2217://x: the adapter refused the command 'S5'"),
        (b"O", "rfc2217://x: the adapter refused to open its channel"),
    ],
)
def test_what_an_adapter_refuses_is_named(line: Line, port: SlcanPort, refuses: bytes, words: str) -> None:
    line.answers = {refuses: b"\a"}
    with pytest.raises(DeviceError) as raised:
        port.begin([b"S5"])
    assert str(raised.value) == words


@pytest.mark.parametrize(
    ("extra", "slept"), [({}, 0.0), ({"sleep_after_open": 2}, 2.0), ({"sleep_after_open": 60}, 10.0)]
)
def test_an_adapter_that_restarts_when_it_is_opened_is_given_time(
    line: Line, monkeypatch: pytest.MonkeyPatch, extra: dict[str, object], slept: float
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(slcan, "_open_line", lambda options: line)
    monkeypatch.setattr("time.sleep", naps.append)
    options = BusOptions(interface="slcan", bitrate=250000, fd=bool(extra), listen_only=True, extra=extra)
    port = SlcanPort.open(options, lambda what, n=1: None)
    assert naps == [slept]
    assert line.written[1:] == [b"S5\r", b"L\r"]
    assert port.fd is bool(extra)
    assert not line.closed
    line.answers = {b"S5": b"\a"}
    with pytest.raises(DeviceError, match="refused the command"):
        SlcanPort.open(options, lambda what, n=1: None)
    assert line.closed


def test_who_an_adapter_says_it_is_is_fit_to_show(line: Line, port: SlcanPort) -> None:
    line.answers = {b"S5": b"\r", b"V": b"\rV\xff\x1b[31m" + b"x" * 100 + b"\r", b"N": b"\a", b"O": b"\r", b"F": b"\a"}
    port.begin([b"S5"])
    assert port.facts() == {"adapter": "V\N{REPLACEMENT CHARACTER}[31m" + "x" * 54}
    assert port.read(0.0) == []


def test_three_seconds_of_garbage_alone_are_reported(line: Line, port: SlcanPort, counts: Counter[str]) -> None:
    for after, data, said in (
        *((0.0, b"$GP\r", False), (3.0, b"$GP\r", False), (3.1, b"$GP\r", True), (3.2, b"", True)),
        *((3.3, b"$GP\rt1230\r", False), (6.0, b"$GP\r", False), (9.0, b"$GP\r", False), (9.1, b"$GP\r", True)),
    ):
        line.now = 100.0 + after
        line.gives = [data] if data else []
        port.read(0.0)
        assert bool(port.trouble()) is said, after
    assert port.trouble() == "only garbage: is this an slcan adapter, and is its serial rate right?"
    assert counts == {"garbage": 7}


def test_refused_frames_are_counted_once(line: Line, port: SlcanPort, counts: Counter[str]) -> None:
    line.gives = [b"\a\a", b"z\r"]
    for _ in range(3):
        port.read(0.0)
    assert counts == {"refused": 2}


def test_no_more_than_a_few_frames_are_under_way(line: Line, port: SlcanPort) -> None:
    assert port.blocking
    for waiting, written in (256, True), (257, False):
        line.out_waiting = waiting
        assert port.write(Frame(1)) is written
    assert line.written == [b"t0010\r"]
    line.close()
    with pytest.raises(DeviceError, match=r"^rfc2217://x went away$"):
        port._put(b"x")


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("closed"), TypeError("closed by another thread")])
def test_whatever_a_line_raises_means_that_the_adapter_is_gone(line: Line, port: SlcanPort, error: Exception) -> None:
    def fail(data: object) -> int:
        raise error

    line.write = fail  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"^rfc2217://x went away$"):
        port.write(Frame(1))
    line.read = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(DeviceError, match=r"^rfc2217://x went away$"):
        port.read(0.0)


def test_without_pyserial_an_adapter_on_a_network_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    monkeypatch.setattr(slcan, "TcpLink", str)
    assert slcan._open_line(BusOptions(interface="slcan", channel="tcp://pi:4000")) == "tcp://pi:4000"
    with pytest.raises(MissingLibrary, match="pyserial"):
        slcan._open_line(BusOptions(interface="slcan", channel="/dev/ttyACM0"))


@pytest.mark.parametrize(
    ("channel", "extra", "expected"),
    [
        ("loop://", {}, (115200, False)),
        ("loop://@9600", {"tty_baudrate": 57600}, (9600, False)),
        ("loop://", {"tty_baudrate": 57600, "rtscts": True}, (57600, True)),
    ],
)
def test_the_line_is_opened_as_configured(channel: str, extra: dict[str, object], expected: tuple[int, bool]) -> None:
    line = slcan._open_line(BusOptions(interface="slcan", channel=channel, extra=extra))
    with line:
        assert (line.baudrate, line.rtscts) == expected
        assert line.timeout == line.write_timeout == 0.2


@pytest.mark.parametrize(
    ("channel", "path", "rate"),
    [
        ("/dev/ttyACM0", "/dev/ttyACM0", ""),
        ("/dev/ttyACM0@115200", "/dev/ttyACM0", "115200"),
        ("@115200", "@115200", ""),
        ("/dev/a@b", "/dev/a@b", ""),
    ],
)
def test_a_channel_may_name_the_rate(channel: str, path: str, rate: str) -> None:
    assert slcan.split_channel(BusOptions(interface="slcan", channel=channel)) == (path, rate)


# -- the line ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(bitrate=1000000) as segment:
        yield segment


@pytest.fixture
def adapter(segment: Segment) -> Iterator[VirtualSlcan]:
    with VirtualSlcan(segment) as adapter:
        yield adapter


class Link:
    """An open port, and the frames received through it."""

    def __init__(self, adapter: VirtualSlcan, **options: object) -> None:
        self.counts = Counter[str]()
        settings = {"interface": "slcan", "channel": adapter.path, "bitrate": 1000000} | options
        self.port = SlcanPort.open(BusOptions(**settings), self._tally)  # type: ignore[arg-type]
        self.frames: list[Frame] = []

    def _tally(self, what: str, n: int = 1) -> None:
        self.counts[what] += n

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.frames[-3:], self.counts)
            self.frames += self.port.read(0.02)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()


def test_an_adapter_is_closed_set_up_and_opened(adapter: VirtualSlcan) -> None:
    with Link(adapter) as link:
        assert adapter.opened
        assert [c for c in adapter.commands if c] == [b"C", b"S8", b"V", b"N", b"O", b"F"]
        assert link.port.facts() == {"adapter": "V1013 NSIM1"}
        assert not link.counts
    link_closed = time.monotonic() + 5
    while adapter.opened and time.monotonic() < link_closed:
        time.sleep(0.01)
    assert not adapter.opened


def test_an_adapter_left_open_and_sending_is_opened_all_the_same(segment: Segment, adapter: VirtualSlcan) -> None:
    node, stopping = segment.attach("babbler"), threading.Event()

    def babble() -> None:
        while not stopping.wait(0.001):
            node.send(SimFrame(0x123, bytes(8)))

    adapter.bitrate, adapter.opened = 1000000, True
    thread = threading.Thread(target=babble)
    thread.start()
    try:
        with Link(adapter) as link:
            link.until(lambda: len(link.frames) > 10)
            frames = [
                f for f in link.frames if not f.flags & ERROR
            ]  # a slow machine lets the adapter's buffer overflow
            assert {f.arbitration_id for f in frames} == {0x123}
            assert not link.counts
    finally:
        stopping.set()
        thread.join()


def test_listen_only_is_set_in_the_adapter_too(adapter: VirtualSlcan) -> None:
    with Link(adapter, listen_only=True):
        assert adapter.listen_only


def test_an_adapter_that_never_answers_is_used_all_the_same(segment: Segment) -> None:
    node = segment.attach("node")
    with VirtualSlcan(segment, mute=True) as adapter, Link(adapter) as link:
        deadline = time.monotonic() + 5
        while not adapter.opened and time.monotonic() < deadline:
            time.sleep(0.01)
        node.send(SimFrame(0x123))
        link.until(lambda: link.frames)


def test_an_adapter_that_refuses_a_setting_is_an_error(adapter: VirtualSlcan) -> None:
    with Link(adapter) as link, pytest.raises(DeviceError, match="refused the command 'Z7'"):
        link.port.begin([b"Z7"])


def test_frames_of_every_kind_pass_both_ways(segment: Segment, adapter: VirtualSlcan) -> None:
    heard: list[SimFrame] = []
    node = segment.attach("node", heard.append)
    sim = [
        SimFrame(0x123, b"\x01\x02"),
        SimFrame(0x12345678, bytes(8), extended=True),
        SimFrame(0x7FF, bytes(3), remote=True),
        SimFrame(0x001, bytes(range(64)), fd=True),
        SimFrame(0x1ABCDEF0, bytes(12), extended=True, fd=True, brs=True),
    ]
    ours = [
        Frame(0x123, b"\x01\x02"),
        Frame(0x12345678, bytes(8), EXTENDED),
        Frame(0x7FF, bytes(3), REMOTE),
        Frame(0x001, bytes(range(64)), FD),
        Frame(0x1ABCDEF0, bytes(12), EXTENDED | FD | BRS),
    ]
    with Link(adapter, fd=True) as link:
        for frame in sim:
            node.send(frame)
        link.until(lambda: len(link.frames) == len(sim))
        assert [(f.arbitration_id, f.data, f.flags) for f in link.frames] == [
            (f.arbitration_id, f.data, f.flags) for f in ours
        ]
        for own in ours:
            assert link.port.write(own)
        link.until(lambda: len(heard) == len(ours))
        assert heard == sim
        assert not link.counts


def test_a_refused_frame_is_counted(adapter: VirtualSlcan) -> None:
    adapter.jammed = True
    with Link(adapter) as link:
        assert link.port.write(Frame(0x123))
        link.until(lambda: link.counts["refused"] == 1)


def test_status_flags_are_polled_if_the_adapter_answers(adapter: VirtualSlcan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slcan, "STATUS_INTERVAL_S", 0.05)
    with Link(adapter) as link:
        adapter.flags = virtual.PASSIVE | virtual.OVERRUN
        link.until(lambda: link.frames)
        report = decode_error(link.frames[0].arbitration_id, link.frames[0].data)
        assert (report.state, report.events) == ("passive", ("receive overflow",))


def test_garbage_alone_is_reported(adapter: VirtualSlcan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slcan, "GARBAGE_LIMIT_S", 0.05)
    node = adapter._segment.attach("node")
    with Link(adapter) as link:

        def garbage_is_said() -> bool:
            adapter.tell(b"$GPRMC,123519,A,4807.038\r")
            return "slcan adapter" in link.port.trouble()

        assert link.port.trouble() == ""
        link.until(garbage_is_said)
        assert link.counts["garbage"] > 0

        def all_is_well() -> bool:
            node.send(SimFrame(1))
            return link.port.trouble() == ""

        link.until(all_is_well)


def test_reading_from_an_unplugged_adapter_is_an_error(adapter: VirtualSlcan) -> None:
    with Link(adapter) as link:
        adapter.unplug()
        with pytest.raises(DeviceError, match="went away"):
            link.until(lambda: False)


def test_a_missing_adapter_is_reported_once(tmp_path: Path) -> None:
    options = BusOptions(interface="slcan", channel=str(tmp_path / "ttyACM0"))
    with pytest.raises(DeviceError) as refused:
        SlcanPort.open(options, lambda what, more=1: None)
    assert str(refused.value) == f"there is no {options.channel}"


def test_writing_to_an_unplugged_adapter_is_an_error(adapter: VirtualSlcan) -> None:
    with Link(adapter) as link:

        def write() -> None:
            for _ in range(5000):
                link.port.write(Frame(0x123))
                time.sleep(0.001)

        adapter.unplug()
        with pytest.raises(DeviceError, match="went away"):
            write()


def test_an_adapter_that_does_not_read_fills_up_without_blocking(adapter: VirtualSlcan) -> None:
    with Link(adapter) as link:
        adapter._stopping.set()
        adapter._thread.join()
        since = time.monotonic()
        written = 0
        while link.port.write(Frame(0x123, bytes(8))) and written < 100000:
            written += 1
        assert 0 < written < 100000
        assert time.monotonic() - since < 10
        assert len(link.port._unsent) < 30


def test_nine_thousand_frames_a_second_are_received(segment: Segment, adapter: VirtualSlcan) -> None:
    segment.bitrate = None
    node, total = segment.attach("node", depth=20000), 18000
    with Link(adapter) as link:
        since = time.process_time()

        def feed() -> None:
            for serial in range(total):
                node.send(SimFrame(0x100 + serial % 400, serial.to_bytes(4, "big")))
                while serial - len(link.frames) - adapter.overruns > 150:  # a pseudo-terminal holds only 4 kB
                    time.sleep(0.0005)

        thread = threading.Thread(target=feed)
        thread.start()
        link.until(lambda: len(link.frames) + adapter.overruns >= total, 120)
        elapsed = time.process_time() - since
        thread.join()
    assert [int.from_bytes(f.data, "big") for f in link.frames] == sorted(
        int.from_bytes(f.data, "big") for f in link.frames
    )
    assert not link.counts["garbage"]
    assert len(link.frames) > total * 0.9
    assert len(link.frames) / elapsed > 9000 * 0.25  # per second of CPU time; the benchmark has the figure
