"""The CAN bus that drivers share: reading, sending, sharing, outages and stopping, over each available interface."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import can
import pytest

from fixgw.database import Database
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.bus import BusConflict, CanPlugin, Tap, open_tap
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.port import BATCH_FRAMES, BusOptions, Port
from fixgw.drivers.links.can.socketcan import SocketCanPort
from fixgw.drivers.links.gather import Gather
from fixgw.errors import DeviceError, MissingLibrary, PluginFail
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.pty import VirtualPort
from fixgw.net import tcp
from fixgw.runner import threads_of

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def plain(frames: Sequence[Frame]) -> list[tuple[int, bytes, int]]:
    """The frames without their time stamps."""
    return [(f.arbitration_id, f.data, f.flags) for f in frames]


class User:
    """A user of a bus, and the frames that it received."""

    def __init__(self, ids: Collection[int] | None = None, **options: Any) -> None:
        self.frames: list[Frame] = []
        self.failures: list[str] = []
        self.tap = open_tap(BusOptions(**options), self.received, ids, self.failures.append)
        self.bus = self.tap.bus

    def received(self, frames: Sequence[Frame]) -> None:
        self.frames += frames

    def status(self, what: str) -> Any:
        return self.bus.get_status().get(what, 0)


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., User]]:
    """Create users, wait until their bus is healthy, and close all at the end; no bus may stay open."""
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    users: list[User] = []

    def make(*ids: int, wait: bool = True, **options: Any) -> User:
        users.append(User(ids or None, **options))
        if wait:
            until(lambda: users[-1].bus.health() == "")
        return users[-1]

    yield make
    for user in users:
        user.tap.close()
    assert not can_bus._buses


Join = Callable[..., User]

VIRTUAL: dict[str, Any] = {"interface": "virtual", "channel": "test"}


@pytest.fixture
def other() -> Iterator[can.BusABC]:
    """Another node on the virtual bus."""
    with can.Bus("test", interface="virtual", ignore_config=True) as bus:
        yield bus


def message(arbitration_id: int, data: bytes = b"", **more: Any) -> can.Message:
    return can.Message(arbitration_id=arbitration_id, data=data, is_extended_id=False, **more)


# -- one user ----------------------------------------------------------------------------------------------------------


def test_frames_are_received_and_sent(join: Join, other: can.BusABC) -> None:
    user = join(**VIRTUAL)
    before = time.monotonic()
    other.send(message(0x123, b"\x01\x02"))
    other.send(can.Message(arbitration_id=0x1ABCDEF0, is_extended_id=True, is_remote_frame=True, dlc=3))
    until(lambda: len(user.frames) == 2)
    assert plain(user.frames) == [(0x123, b"\x01\x02", 0), (0x1ABCDEF0, bytes(3), EXTENDED | REMOTE)]
    assert before <= user.frames[0].timestamp <= time.monotonic()

    assert user.tap.send(0x321, b"\xaa")
    assert user.tap.send(0x12345678, bytes(12), EXTENDED | FD | BRS)
    first, second = other.recv(5), other.recv(5)
    assert first is not None
    assert second is not None
    assert (first.arbitration_id, bytes(first.data), first.is_extended_id, first.is_fd) == (
        0x321,
        b"\xaa",
        False,
        False,
    )
    assert (second.arbitration_id, second.dlc, second.is_extended_id, second.is_fd) == (0x12345678, 12, True, True)
    assert (user.status("received"), user.status("sent"), user.status("dropped")) == (2, 2, 0)


def test_a_frame_that_no_bus_can_carry_is_the_senders_error(join: Join) -> None:
    user = join(**VIRTUAL)
    with pytest.raises(ValueError, match="does not fit into 11 bits"):
        user.tap.send(0x800)


def test_a_listen_only_user_sends_nothing(join: Join, other: can.BusABC) -> None:
    user = join(**VIRTUAL, listen_only=True)
    assert not user.tap.send(0x123)
    assert user.status("dropped") == 1
    assert other.recv(0.05) is None


def test_a_user_receives_the_identifiers_that_it_wants(join: Join, other: can.BusABC) -> None:
    user, everything = join(0x100, 0x200 | EXTENDED, **VIRTUAL), join(**VIRTUAL)
    for identifier in (0x100, 0x200, 0x300):
        other.send(message(identifier))
        other.send(can.Message(arbitration_id=identifier, is_extended_id=True))
    until(lambda: len(everything.frames) == 6)
    assert plain(user.frames) == [(0x100, b"", 0), (0x200, b"", EXTENDED)]
    user.tap.accept({0x300})
    other.send(message(0x100))
    other.send(message(0x300))
    until(lambda: len(everything.frames) == 8)
    assert plain(user.frames)[2:] == [(0x300, b"", 0)]


# -- several users -----------------------------------------------------------------------------------------------------


def test_users_of_one_channel_share_its_handle(join: Join, other: can.BusABC) -> None:
    one, two, elsewhere = join(**VIRTUAL), join(**VIRTUAL), join(interface="virtual", channel="another")
    assert one.bus is two.bus
    assert elsewhere.bus is not one.bus
    assert one.status("users") == 2
    other.send(message(0x123))
    until(lambda: one.frames and two.frames)
    bus = one.bus
    one.tap.close()
    other.send(message(0x124))
    until(lambda: len(two.frames) == 2)
    assert len(one.frames) == 1
    two.tap.close()
    assert not bus.running
    assert not any(thread.is_alive() for thread in bus.threads)


def test_other_users_of_the_handle_receive_what_one_user_sends(join: Join, other: can.BusABC) -> None:
    one, two, three = join(**VIRTUAL), join(**VIRTUAL), join(0x7FF, **VIRTUAL)
    assert one.tap.send(0x123, b"x")
    until(lambda: two.frames)
    assert plain(two.frames) == [(0x123, b"x", 0)]
    assert one.frames == three.frames == []
    assert other.recv(5) is not None


def test_two_buses_can_be_bridged_both_ways_from_the_receiving_threads(join: Join) -> None:
    users = [join(interface="virtual", channel=channel) for channel in "ab"]
    taps: list[Tap] = []

    def forward_to(n: int) -> Callable[[Sequence[Frame]], object]:
        return lambda frames: [taps[n].forward(f) for f in frames]

    taps += [open_tap(user.bus.options, forward_to(1 - n)) for n, user in enumerate(users)]
    with can.Bus("a", interface="virtual", ignore_config=True) as a, can.Bus("b", interface="virtual") as b:
        for n in range(200):
            a.send(message(0x100, bytes([n])))
            b.send(message(0x200, bytes([n])))
        until(lambda: len(users[0].frames) == len(users[1].frames) == 400)
        for bus, identifier in ((a, 0x200), (b, 0x100)):
            heard = list(iter(lambda bus=bus: bus.recv(0.2), None))  # type: ignore[misc]
            assert [(m.arbitration_id, m.data[0]) for m in heard] == [(identifier, n) for n in range(200)]
    for tap in taps:
        tap.close()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"bitrate": 250000}, {"bitrate": 500000}, "in use with bitrate 250000, but this connection asks for 500000"),
        ({}, {"listen_only": True}, "listen_only"),
        ({"listen_only": True}, {}, "listen_only"),
        ({}, {"extra": {"receive_own_messages": True}}, "extra"),
    ],
)
def test_users_with_different_options_cannot_share(join: Join, first: Any, second: Any, words: str) -> None:
    join(**VIRTUAL, **first)
    with pytest.raises(BusConflict, match=words):
        User(**VIRTUAL, **second)


def test_unset_options_never_conflict(join: Join) -> None:
    one = join(**VIRTUAL, bitrate=250000, send_queue=7)
    assert join(**VIRTUAL).bus is one.bus


@pytest.mark.parametrize("name", ["host", "port", "bus", "address"])
def test_the_same_channel_on_different_servers_or_adapters_is_different_buses(name: str) -> None:
    options = [BusOptions(interface="some", channel="can0", extra={name: value}) for value in (1, 2)]
    assert can_bus._key(options[0]) != can_bus._key(options[1])
    assert can_bus._key(options[0]) == can_bus._key(BusOptions(interface="some", extra={name: 1, "other": 2}))


def test_a_channel_is_the_same_as_a_number_and_as_text(join: Join) -> None:
    one = join(interface="virtual", channel=0)
    assert join(interface="virtual", channel="0").bus is one.bus


@pytest.mark.filterwarnings("error")
def test_a_user_that_raises_is_dropped_and_the_others_are_not_affected(
    join: Join, other: can.BusABC, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = join(**VIRTUAL), join(**VIRTUAL)
    calls: list[int] = []

    def fail(frames: Sequence[Frame]) -> None:
        calls.append(len(frames))
        raise KeyError("oops")

    def fail_again(reason: str) -> None:
        bad.failures.append(reason)
        raise ValueError("whoever is told fails, too")

    bad.tap.received, bad.tap.failed = fail, fail_again
    for n in range(3):
        other.send(message(n))
    until(lambda: len(good.frames) == 3)
    assert len(calls) == 1
    assert bad.failures == [bad.tap.failure] == ["KeyError: 'oops'"]
    assert good.bus.health() == ""
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "'oops'",
        "whoever is told fails, too",
    ]


def test_closing_waits_for_the_receiver_to_return(join: Join, other: can.BusABC) -> None:
    user, _ = join(**VIRTUAL), join(**VIRTUAL)
    started, finished = threading.Event(), []

    def slow(frames: Sequence[Frame]) -> None:
        started.set()
        time.sleep(0.2)
        finished.append(True)

    user.tap.received = slow
    other.send(message(1))
    assert started.wait(5)
    user.tap.close()
    assert finished


def test_a_user_can_close_while_it_receives(join: Join, other: can.BusABC) -> None:
    user, witness = join(**VIRTUAL), join(**VIRTUAL)
    heard: list[Frame] = []

    def last(frames: Sequence[Frame]) -> None:
        heard.extend(frames)
        user.tap.close()

    user.tap.received = last
    other.send(message(1))
    until(lambda: witness.frames)
    other.send(message(2))
    until(lambda: len(witness.frames) == 2)
    assert len(heard) == 1


# -- an interface that follows a script --------------------------------------------------------------------------------


class Scripted(Port):
    """An interface without a bus: reads the frames it is given, and writes as long as there is room."""

    def __init__(self) -> None:
        self.given: list[Frame | Exception] = []
        self.written: list[Frame] = []
        self.room = 1_000_000
        self.error: Exception | None = None
        self.closed = threading.Event()
        self.accepted: Any = ()
        self.gate = threading.Event()  # if `blocking`, writing blocks until it is set
        self.gate.set()

    def read(self, timeout: float) -> list[Frame]:
        if not self.given:
            time.sleep(min(timeout, 0.01))
            return []
        item = self.given.pop(0)
        if isinstance(item, Exception):
            raise item
        return [item]

    def write(self, frame: Frame) -> bool:
        self.gate.wait()
        if self.closed.is_set():
            raise OSError("closed")
        if self.error is not None:
            raise self.error
        if self.room <= 0:
            return False
        self.room -= 1
        self.written.append(frame)
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        self.accepted = ids

    def close(self) -> None:
        self.closed.set()
        self.gate.set()


class Script:
    """The successive results of `open_port`; the last one repeats."""

    def __init__(self) -> None:
        self.ports: list[Scripted | Exception] = [Scripted()]
        self.opened = 0
        self.gate = threading.Event()  # opening blocks until it is set
        self.gate.set()

    @property
    def port(self) -> Scripted:
        port = self.ports[0]
        assert isinstance(port, Scripted)
        return port

    def open(self, options: BusOptions, count: Any) -> Port:
        self.opened += 1
        self.gate.wait(20)
        port = self.ports[min(self.opened, len(self.ports)) - 1]
        if isinstance(port, Exception):
            raise port
        return port


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(ports, "open_port", script.open)
    monkeypatch.setattr(can_bus.SharedBus, "reopen_delay", 0.01)
    return script


SCRIPTED: dict[str, Any] = {"interface": "virtual", "channel": "scripted"}


@pytest.mark.parametrize(
    ("options", "at_once", "rests"),
    [({}, False, [0.005]), ({"gather": 12}, False, [0.012]), ({"gather": 0}, False, []), ({}, True, [])],
)
def test_frames_gather_only_while_they_arrive_in_quick_succession(
    options: dict[str, Any], at_once: bool, rests: list[float]
) -> None:
    now = [100.0]
    bus = can_bus.SharedBus(BusOptions(**SCRIPTED, **options))
    bus._gather = Gather(0.0, lambda: now[0])
    received: list[Frame] = []
    bus.add(can_bus.Tap(bus, received.extend, None, at_once=at_once))
    bus._port = port = Scripted()
    waited: list[float | None] = []
    bus.stopping.wait = lambda timeout=None: waited.append(timeout) or False  # type: ignore[method-assign, func-returns-value]

    def poll(*frames: int, after: float = 0.0) -> None:
        def read(timeout: float) -> list[Frame]:
            now[0] += after
            return [Frame(n, b"") for n in frames]

        port.read = read  # type: ignore[method-assign]
        bus.poll(0.0)

    poll(1, after=0.050)
    poll(2, after=0.050)  # not in quick succession
    poll(3, after=0.002)
    assert waited == []
    poll(4, 5)
    assert waited == rests
    poll(6)
    assert waited == rests * 2, "more had gathered"
    poll(after=0.200)  # silence
    assert waited == rests * 3
    poll(7, after=0.002)
    assert waited == rests * 3, "the first frame after a pause is not delayed"
    assert [frame.arbitration_id for frame in received] == [1, 2, 3, 4, 5, 6, 7]
    poll(*range(127))
    assert waited == rests * 4
    poll(*range(128))
    assert waited == rests * 5
    poll(8)
    assert waited == rests * 5, "where so many wait, more than a batch would gather"


def test_frames_gather_unless_a_user_cannot_wait(join: Join) -> None:
    class Waiting(CanPlugin):
        def run(self) -> None:
            self.tap(self.options, print)

    user = join(**VIRTUAL)
    plugin = Waiting("waiting", dict(VIRTUAL))
    plugin.start()
    assert user.bus._gather.seconds == 0.005
    hasty = open_tap(user.bus.options, print, at_once=True)
    assert user.bus._gather.seconds == 0.0
    hasty.close()
    assert user.bus._gather.seconds == 0.005
    plugin.shutdown()


def test_a_frame_is_sent_at_once_unless_that_may_take_time() -> None:
    bus = can_bus.SharedBus(BusOptions(**SCRIPTED))
    bus._port = port = Scripted()

    def sent_at_once(identifier: int) -> bool:
        bus.submit(Frame(identifier, b"", timestamp=bus.clock()))
        return [frame.arbitration_id for frame in port.written][-1:] == [identifier]

    assert sent_at_once(1)
    assert not bus._wake.is_set()
    port.room = 0
    assert not sent_at_once(2)
    port.room = 100
    assert not sent_at_once(3), "the thread that writes may be waiting for room"
    assert bus._wake.is_set()
    bus._port = port = Scripted()
    bus._stuck_since = None
    port.blocking = True
    assert not sent_at_once(4)


def test_an_interface_with_filters_gets_the_filters_of_all_users(join: Join, script: Script) -> None:
    one = join(1, 2, **SCRIPTED)
    until(lambda: script.port.accepted == {1, 2})
    two = join(2, 3, **SCRIPTED)
    until(lambda: script.port.accepted == {1, 2, 3})
    one.tap.close()
    until(lambda: script.port.accepted == {2, 3})
    two.tap.accept(None)
    until(lambda: script.port.accepted is None)


def test_when_sending_stalls_the_highest_priority_is_kept_and_the_rest_counted(join: Join, script: Script) -> None:
    user = join(**SCRIPTED, send_queue=4)
    script.port.room = 0
    for identifier in (5, 3, 8, 1, 9, 2):
        user.tap.send(identifier)
    assert not user.tap.send(10)
    until(lambda: user.status("dropped") == 3)
    assert user.status("waiting") <= 4
    script.port.room = 100
    until(lambda: len(script.port.written) == 4)
    assert [f.arbitration_id for f in script.port.written] == [1, 2, 3, 5]


def test_senders_on_many_threads_lose_nothing_and_keep_the_order_of_each_identifier(join: Join, script: Script) -> None:
    user, total = join(**SCRIPTED, send_queue=10000), 500
    script.port.room = 0

    def send(identifier: int) -> None:
        for n in range(total):
            user.tap.send(identifier, n.to_bytes(2, "big"))
            script.port.room += n % 3

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    script.port.room = 1_000_000
    until(lambda: len(script.port.written) == 4 * total)
    for identifier in range(4):
        serials = [int.from_bytes(f.data, "big") for f in script.port.written if f.arbitration_id == identifier]
        assert serials == list(range(total))
    assert user.status("sent") == 4 * total


@pytest.mark.parametrize("when", ["while it is being written", "as soon as it was written", "late"])
def test_a_frame_that_the_interface_refuses_is_reported_whenever_we_read_of_it(when: str) -> None:
    now = [100.0]
    bus = can_bus.SharedBus(BusOptions(**SCRIPTED), clock=lambda: now[0])
    unsent: list[Frame] = []
    tap = Tap(bus, lambda frames: None, None)
    tap.unsent = unsent.append
    bus.add(tap)
    bus._port = port = Scripted()
    bus.hold_up.clock = lambda: 0.0

    def read_refusal() -> None:  # on the polling thread, another one than the sender's
        bus.count("refused")
        bus.poll(0.0)

    if when == "while it is being written":
        port.written = type("Reading", (list,), {"append": lambda self, frame: read_refusal()})()
    port.room = 0
    tap.send(0x190, b"\1")
    now[0] += 0.9  # there is room at last
    port.room = 10
    bus._send_waiting(1)
    if when != "while it is being written":
        now[0] += 1.5 if when == "late" else 0.0
        read_refusal()
    assert [frame.arbitration_id for frame in unsent] == [0x190]
    read_refusal()
    assert len(unsent) == 1


def test_a_frame_that_the_interface_never_took_cannot_be_refused_later() -> None:
    bus = can_bus.SharedBus(BusOptions(**SCRIPTED))
    unsent: list[Frame] = []
    tap = Tap(bus, lambda frames: None, None)
    tap.unsent = unsent.append
    bus.add(tap)
    bus._port = port = Scripted()
    port.room = 0
    tap.send(0x190)
    bus.count("refused")
    bus.poll(0.0)
    assert unsent == []
    port.error = ValueError("no such frame")
    bus._send_waiting(1)
    bus.count("refused")
    bus.poll(0.0)
    assert unsent == []


def test_a_frame_that_the_interface_cannot_send_is_counted(join: Join, script: Script) -> None:
    user = join(**SCRIPTED)
    script.port.error = ValueError("no such frame")
    user.tap.send(1)
    until(lambda: user.status("unsendable") == 1)
    script.port.error = None
    user.tap.send(2)
    until(lambda: script.port.written)
    assert not user.tap.send(3, bytes(12), FD)  # it has no CAN FD


def test_a_sender_never_waits_for_a_blocking_interface(join: Join, script: Script) -> None:
    script.port.blocking = True
    user = join(**SCRIPTED)
    script.port.gate.clear()
    since = time.monotonic()
    for n in range(100):
        assert user.tap.send(n)
    assert time.monotonic() - since < 1.0
    script.port.gate.set()
    until(lambda: len(script.port.written) == 100)


@pytest.mark.parametrize("how", ["reading", "writing"])
def test_a_lost_interface_is_reopened(join: Join, script: Script, how: str) -> None:
    script.ports = [Scripted(), DeviceError("not yet"), Scripted()]
    user = join(**SCRIPTED)
    assert user.status("connected")
    if how == "reading":
        script.port.given.append(DeviceError("can0 is down"))
    else:
        script.port.error = OSError(19, "No such device")
        user.tap.send(1)
    again = script.ports[2]
    assert isinstance(again, Scripted)
    until(lambda: script.opened == 3 and user.bus.health() == "")
    assert script.port.closed.is_set()
    assert (user.status("outages"), user.status("failed attempts")) == (1, 1)
    assert user.tap.send(2)
    until(lambda: [f.arbitration_id for f in again.written] == [2])


def test_each_outage_is_reported_once_to_users_that_ask_for_it(join: Join, script: Script) -> None:
    reasons: list[str] = []

    def defective(reason: str) -> None:
        raise RuntimeError(reason)

    script.ports = [Scripted(), DeviceError("not yet"), DeviceError("not yet"), Scripted()]
    user = join(**SCRIPTED)
    broken = open_tap(BusOptions(**SCRIPTED), user.received, lost=defective)
    listener = open_tap(BusOptions(**SCRIPTED), user.received, lost=reasons.append)
    try:
        script.port.given.append(DeviceError("can0 is down"))
        until(lambda: script.opened == 4 and user.bus.health() == "")
        assert reasons == ["can0 is down"]
        script.ports[3].given.append(DeviceError("can0 has gone"))  # type: ignore[union-attr]
        until(lambda: len(reasons) == 2)
        assert reasons[1] == "can0 has gone"
        assert broken.failure == "RuntimeError: can0 is down"
        assert not listener.failure
    finally:
        broken.close()
        listener.close()


def test_during_an_outage_health_says_why_and_frames_are_dropped(join: Join, script: Script) -> None:
    script.ports = [DeviceError("can0 is down")]
    user = join(**SCRIPTED, wait=False)
    until(lambda: user.bus.health() == "can0 is down")
    assert not user.tap.send(1)
    assert (user.status("dropped"), user.status("connected")) == (1, False)


def test_error_frames_are_shown_and_counted_but_not_delivered(
    join: Join, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    user = join(**SCRIPTED)
    script.port.given += [Frame(0x204, b"\0\x20\0\0\0\0\x80\x05", ERROR), Frame(0x123)]
    until(lambda: user.frames)
    assert plain(user.frames) == [(0x123, b"", 0)]
    assert "error-passive" in user.bus.health()
    assert (user.status("controller"), user.status("error counters")) == ("passive", "sending 128, receiving 5")
    script.port.given.append(Frame(0x40, b"", ERROR))
    until(lambda: "bus off" in user.bus.health())
    assert (user.status("bus off"), user.status("error frames")) == (1, 2)
    script.port.given.append(Frame(0x100, b"", ERROR))
    until(lambda: user.bus.health() == "")
    assert user.status("controller") == "active"
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("state", ["opening", "out", "idle", "stuck", "blocked", "flooded"])
def test_a_bus_stops_within_a_second_in_any_state(script: Script, state: str) -> None:
    script.ports = [DeviceError("gone")] if state == "out" else [Scripted()]
    if state == "opening":
        script.gate.clear()
    user = User(**SCRIPTED)
    if state == "opening":
        until(lambda: script.opened)
    elif state == "out":
        until(lambda: user.bus.health() == "gone")
    else:
        until(lambda: user.bus.health() == "")
        if state == "stuck":
            script.port.room = 0
            user.tap.send(1)
        elif state == "blocked":
            script.port.blocking = True
            script.port.gate.clear()
            user.tap.send(1)
        elif state == "flooded":
            script.port.given += [Frame(1)] * 1_000_000
    since = time.monotonic()
    user.tap.close()
    assert time.monotonic() - since < 1.0
    script.gate.set()
    if state in ("opening", "idle"):
        until(script.port.closed.is_set)  # even if it was opened too late
    assert not can_bus._buses


def test_a_user_that_does_not_return_raises_plugin_fail(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(can_bus.SharedBus, "join_timeout", 0.1)
    user, release, started = User(**SCRIPTED), threading.Event(), threading.Event()

    def hang(frames: Sequence[Frame]) -> None:
        started.set()
        release.wait(10)

    user.tap.received = hang
    script.port.given.append(Frame(1))
    assert started.wait(5)
    try:
        with pytest.raises(PluginFail, match="still processing"):
            user.tap.close()
    finally:
        release.set()
        monkeypatch.setattr(can_bus.SharedBus, "join_timeout", 10.0)
    user.tap.close()
    user.bus.stop()


# -- plugins -----------------------------------------------------------------------------------------------------------


class Plugin(CanPlugin):
    """The shortest possible plugin."""

    def run(self) -> None:
        self.frames: list[Frame] = []
        self.bus = self.tap(self.options, self.received, ids={0x123})

    def received(self, frames: Sequence[Frame]) -> None:
        self.frames += frames
        for frame in frames:
            self.bus.send(frame.arbitration_id + 1, frame.data)
            if frame.data == b"bad":
                raise RuntimeError("a defect")


class TwoBuses(CanPlugin):
    Options = None

    def run(self) -> None:
        for channel in ("a", "b"):
            self.tap(BusOptions(interface="virtual", channel=channel), print)


def test_a_plugin_takes_a_few_lines(other: can.BusABC) -> None:
    plugin = Plugin("canfix", dict(VIRTUAL))
    plugin.start()
    until(lambda: plugin.health() == "")
    other.send(message(0x123, b"x"))
    answer = other.recv(5)
    assert answer is not None
    assert answer.arbitration_id == 0x124
    assert plugin.get_status()["received"] == 1
    assert plugin.alive is not None
    assert time.monotonic() - plugin.alive < 5
    plugin.shutdown()
    assert not plugin.running
    assert not can_bus._buses


def test_a_plugin_that_has_stopped_has_no_threads_though_others_use_the_bus() -> None:
    first, second = Plugin("first", dict(VIRTUAL)), Plugin("second", dict(VIRTUAL))
    for plugin in (first, second):
        plugin.start()
    until(lambda: second.health() == "")
    first.shutdown()
    assert not list(threads_of(first))
    assert len(list(threads_of(second))) == 2
    assert all(thread.is_alive() for thread in threads_of(second))
    second.shutdown()


def test_a_plugin_with_a_defect_stops_running_and_says_why(other: can.BusABC) -> None:
    plugin = Plugin("canfix", dict(VIRTUAL))
    plugin.start()
    until(lambda: plugin.health() == "")
    other.send(message(0x123, b"bad"))
    until(lambda: not plugin.running)
    assert plugin.health() == "RuntimeError: a defect"
    plugin.shutdown()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_reader_is_noticed_and_the_next_user_gets_a_new_one(script: Script) -> None:
    script.ports = [Scripted(), Scripted()]
    plugin = Plugin("canfix", dict(SCRIPTED))
    plugin.start()
    until(lambda: plugin.health() == "")
    script.port.given.append(RuntimeError("a defect of the reader"))
    threads = [value for value in vars(plugin).values() if isinstance(value, list) and value]
    until(lambda: not all(t.is_alive() for t in threads[-1] if isinstance(t, threading.Thread)))
    assert plugin.health() == "RuntimeError: a defect of the reader"
    again = Plugin("canfix", dict(SCRIPTED))
    again.start()
    until(lambda: again.health() == "")
    plugin.shutdown()
    assert again.health() == ""
    again.shutdown()


def test_a_plugin_with_two_buses_distinguishes_them() -> None:
    plugin = TwoBuses("bridge", {})
    asked = [TwoBuses.heard_as("bridge", None), TwoBuses.check(None, Database()), TwoBuses.preflight(None)]  # type: ignore[arg-type]
    assert [[*each] for each in asked] == [[], [], []], "it has to answer itself"
    plugin.start()
    until(lambda: plugin.health() == "")
    assert list(plugin.get_status()) == ["a", "b"]
    plugin.taps[0].bus.state = "bus off"
    assert plugin.health().startswith("a: bus off")
    plugin.shutdown()


def test_a_configuration_is_checked_without_hardware() -> None:
    assert not list(can_bus.check(BusOptions()))
    assert not list(can_bus.check(BusOptions(interface="slcan", channel="/dev/ttyACM0", bitrate=250000)))
    wrong = {
        "buses.0.interface": BusOptions(interface="sockectan"),
        "buses.0.bitrate": BusOptions(interface="slcan"),
        "buses.0.extra": BusOptions(interface="socketcand"),
    }
    for option, options in wrong.items():
        assert [where for where, _ in can_bus.check(options, "buses.0.")] == [option]
    assert [m for _, m in can_bus.check(BusOptions(interface="sockectan"))] == [
        "there is no CAN interface 'sockectan' (did you mean 'socketcan'?)"
    ]
    assert list(can_bus.check(BusOptions(extra={"baud": 1}))) == [("extra", "SocketCAN has no option baud")]


def test_python_can_is_needed_only_for_interfaces_that_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "can", None)
    ports.require("socketcan")
    ports.require("slcan")
    with pytest.raises(MissingLibrary, match="python-can"):
        ports.require("virtual")


def test_a_missing_library_is_reported_with_the_extra_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match="pip install 'msgpack"):
        User(interface="udp_multicast", channel="239.74.163.2")
    assert not can_bus._buses


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_is_received_without_loss(join: Join, other: can.BusABC) -> None:
    user, total = join(**VIRTUAL), 20000
    for n in range(total):
        other.send(message(0x100 + n % 256, n.to_bytes(4, "big")))
    until(lambda: len(user.frames) == total, 30)
    assert [int.from_bytes(f.data, "big") for f in user.frames] == list(range(total))


def test_a_flood_that_is_not_handled_takes_bounded_memory(join: Join, other: can.BusABC) -> None:
    user, release = join(**VIRTUAL, receive_buffer=65536), threading.Event()
    user.tap.received = lambda frames: release.wait(20)
    refused = 0
    for n in range(2000):
        try:
            other.send(message(n % 0x700), timeout=0)
        except can.CanOperationError:
            refused += 1
    assert 2000 - refused <= 65536 // 512 + BATCH_FRAMES
    release.set()


# -- SocketCAN ---------------------------------------------------------------------------------------------------------


class Kernel:
    """The other end of a socket that stands in for a raw CAN socket."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.counts: dict[str, int] = {}
        self.port = SocketCanPort(ours, "can0", self._count, fd=True)

    def _count(self, what: str, n: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + n


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.port.close()
    kernel.socket.close()


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        ("23010000 02 000000 0102000000000000", (0x123, b"\x01\x02", 0)),
        ("785634 92 00 000000 0000000000000000", (0x12345678, b"", EXTENDED)),
        ("ff070040 03 000000 0000000000000000", (0x7FF, bytes(3), REMOTE)),
        ("23010000 0c 05 0000" + "ab" * 12 + "00" * 52, (0x123, b"\xab" * 12, FD | BRS)),
    ],
)
def test_the_kernels_frames_are_read_and_written(kernel: Kernel, raw: str, frame: tuple[int, bytes, int]) -> None:
    data = bytes.fromhex(raw)
    kernel.socket.send(data)
    assert plain(kernel.port.read(1.0)) == [frame]
    assert kernel.port.write(Frame(*frame))
    written = kernel.socket.recv(100)
    assert written[:5] == data[:5]
    assert written[8:] == data[8:]
    assert len(written) == len(data)


def test_error_frames_keep_their_classes(kernel: Kernel) -> None:
    kernel.socket.send(struct.pack("=IB3x8s", 0x20000004, 8, b"\0\x10"))
    assert plain(kernel.port.read(1.0)) == [(4, b"\0\x10" + bytes(6), ERROR)]
    kernel.socket.send(struct.pack("=IBBxx64s", 1, 1, 6, b"x"))
    assert plain(kernel.port.read(1.0)) == [(1, b"x", FD | ESI)]


def test_the_kernel_is_given_no_more_filters_than_it_takes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    class Told:
        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            given.append(value)

    monkeypatch.setattr(kernel.port, "_socket", Told())
    apart = [n for n in range(0x800) if n.bit_count() % 2]  # no two share a filter
    for wanted in (512, 513):  # CAN_RAW_FILTER_MAX in linux/can.h
        kernel.port.accept(apart[:wanted])
    assert [len(value) for value in given] == [512 * 8, 8]
    assert given[1] == bytes(8), "everything"


def test_a_burst_is_read_at_once_and_an_empty_socket_returns_at_once(kernel: Kernel) -> None:
    for n in range(10):
        kernel.socket.send(struct.pack("=IB3x8s", n, 0, b""))
    assert [f.arbitration_id for f in kernel.port.read(1.0)] == list(range(10))
    assert kernel.port.read(0.0) == []


def test_data_that_is_not_a_frame_is_skipped(kernel: Kernel) -> None:
    kernel.socket.send(b"abc")
    assert kernel.port.read(1.0) == []


def test_a_full_transmit_buffer_means_no_room(kernel: Kernel) -> None:
    written = 0
    while kernel.port.write(Frame(1, bytes(8))):
        written += 1
        assert written < 1_000_000
    kernel.socket.recv(100)
    assert kernel.port.write(Frame(1))


def test_a_vanished_interface_is_an_error_after_its_last_frames(kernel: Kernel) -> None:
    class Down(socket.socket):
        """Says once that the network is down, when there are no more frames; so does the kernel."""

        told = False

        def recv(self, size: int, flags: int = 0) -> bytes:
            return bytes(self.recvmsg(size)[0])

        def recvmsg(self, *sizes: int) -> Any:
            try:
                return super().recvmsg(*sizes)
            except BlockingIOError:
                if self.told:
                    raise
                self.told = True
                raise OSError(100, "Network is down") from None

    kernel.port._socket = Down(fileno=kernel.port._socket.detach())
    kernel.port._socket.setblocking(False)
    kernel.socket.send(struct.pack("=IB3x8s", 1, 0, b""))
    assert [frame.arbitration_id for frame in kernel.port.read(0.0)] == [1]
    with pytest.raises(DeviceError, match="can0 is down"):
        kernel.port.read(0.0)
    kernel.socket.close()
    with pytest.raises(DeviceError, match="can0: Connection refused"):
        kernel.port.write(Frame(1))


def test_the_kernels_drops_are_counted(kernel: Kernel) -> None:
    for total in (0, 5, 5, 7):
        kernel.port._see_overflow([(socket.SOL_SOCKET, 40, struct.pack("=I", total))])
    assert kernel.counts == {"lost": 7}


def test_it_waits_for_an_interface_that_does_not_exist_yet(join: Join) -> None:
    user = join(interface="socketcan", channel="can99", wait=False)
    until(lambda: user.bus.health() != "connecting")
    assert user.bus.health() in ("this system does not support SocketCAN", "there is no CAN interface can99")


# -- slcan -------------------------------------------------------------------------------------------------------------


def test_an_slcan_adapter_can_be_unplugged_and_plugged_in_again(join: Join) -> None:
    heard: list[SimFrame] = []
    with Segment() as segment, VirtualSlcan(segment) as adapter:
        node = segment.attach("node", heard.append)
        user = join(interface="slcan", channel=adapter.path, bitrate=250000)
        for round in (1, 2):
            node.send(SimFrame(0x100 + round))
            user.tap.send(0x200 + round)
            until(lambda n=round: len(heard) == len(user.frames) == n)  # type: ignore[misc]
            if round == 1:
                adapter.unplug()
                until(lambda: not user.bus.connected)
                assert user.bus.health().endswith(("went away", "No such file or directory", adapter.path))
                adapter.plug()
                until(lambda: user.bus.health() == "" and adapter.opened)
        assert [f.arbitration_id for f in heard] == [0x201, 0x202]
        assert user.status("outages") == 1
        assert user.status("adapter") == "V1013 NSIM1"


# -- interfaces of python-can ------------------------------------------------------------------------------------------


def multicast_port() -> int:
    """A free port. Skips the test if this machine does not receive its own multicasts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        group = socket.inet_aton("239.74.163.2")
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("0.0.0.0"))
            sock.settimeout(1.0)
            sock.sendto(b"?", ("239.74.163.2", port))
            sock.recv(10)
        except OSError:
            pytest.skip("no multicast here")
    return port


@pytest.fixture
def udp() -> dict[str, Any]:
    return {"interface": "udp_multicast", "channel": "239.74.163.2", "extra": {"port": multicast_port()}}


ECHO = """
import can, sys
with can.Bus("239.74.163.2", interface="udp_multicast", port=int(sys.argv[1]), ignore_config=True) as bus:
    print("ready", flush=True)
    while (got := bus.recv(20)) is not None and got.arbitration_id != 0x7FF:
        if got.arbitration_id == 0x100:
            bus.send(can.Message(arbitration_id=0x101, data=got.data, is_extended_id=False))
"""


def test_two_processes_talk_over_udp_without_hearing_themselves(join: Join, udp: dict[str, Any]) -> None:
    user = join(**udp)
    port = str(udp["extra"]["port"])
    with subprocess.Popen([sys.executable, "-c", ECHO, port], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for n in range(100):
                assert user.tap.send(0x100, bytes([n]))
            until(lambda: len(user.frames) == 100 and user.status("own echoes") == 100)
            assert plain(user.frames) == [(0x101, bytes([n]), 0) for n in range(100)]
        finally:
            user.tap.send(0x7FF)
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a group is nobody else's anyway")
def test_two_groups_on_one_port_are_two_buses(join: Join, udp: dict[str, Any]) -> None:
    one, other = join(**udp), join(**{**udp, "channel": "239.74.163.3"})
    one.tap.send(0x100, b"one")
    other.tap.send(0x200, b"other")
    third = join(**{**udp, "channel": "239.74.163.4"})
    with can.Bus(udp["channel"], interface="udp_multicast", ignore_config=True, **udp["extra"]) as bus:
        bus.send(can.Message(arbitration_id=0x300, is_extended_id=False))
        until(lambda: one.frames)
    assert plain(one.frames) == [(0x300, b"", 0)]
    assert other.frames == third.frames == []


def test_garbage_from_the_network_is_counted(join: Join, udp: dict[str, Any]) -> None:
    import msgpack  # type: ignore[import-untyped]

    user, fields = join(**udp), {"is_extended_id": False, "dlc": 1, "data": b"x"}
    garbage = [
        b"",
        b"garbage",
        bytes(2000),
        msgpack.packb([1, 2, 3]),
        msgpack.packb({"what": 1}),
        msgpack.packb({**fields, "arbitration_id": 1.5}),
        msgpack.packb({**fields, "arbitration_id": "x"}),
        msgpack.packb({**fields, "arbitration_id": -1}),
        msgpack.packb({**fields, "arbitration_id": 1, "dlc": 100000, "is_remote_frame": True, "data": b""}),
        msgpack.packb({**fields, "arbitration_id": 1, "data": bytes(3000), "dlc": 3000}),
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in garbage * 20:
            sock.sendto(datagram, (udp["channel"], udp["extra"]["port"]))
        sock.sendto(msgpack.packb({**fields, "arbitration_id": 0x123}), (udp["channel"], udp["extra"]["port"]))
    until(lambda: user.frames)
    assert plain(user.frames) == [(0x123, b"x", 0)]
    assert user.status("garbled") == len(garbage) * 20
    assert (user.status("outages"), user.bus.health()) == (0, "")


class Socketcand:
    """A server for a bus that does not exist."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            try:
                connection.sendall(b"< hi >")
                for request in (b"< open can0 >", b"< rawmode >"):
                    if connection.recv(100) != request:
                        raise OSError
                    connection.sendall(b"< ok >")
            except OSError:  # a probe that connects and leaves at once
                connection.close()
            else:
                self.connections.append(connection)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()
        self.thread.join(5)


def test_socketcand_gives_access_to_a_bus_on_another_machine(join: Join) -> None:
    server = Socketcand()
    user = join(interface="socketcand", channel="can0", extra={"host": "127.0.0.1", "port": server.port})
    connection = server.connections[0]
    connection.sendall(b"< frame 123 1.5 0102 >< frame 12345678 1.6 FF >")
    until(lambda: len(user.frames) == 2)
    assert plain(user.frames) == [(0x123, b"\x01\x02", 0), (0x12345678, b"\xff", EXTENDED)]
    assert user.tap.send(0x321, b"\x0a\x0b")
    assert connection.recv(100) == b"< send 321 2 a b >"
    connection.close()
    until(lambda: len(server.connections) == 2 and user.bus.health() == "")
    assert user.status("outages") == 1
    server.close()
    until(lambda: "onnection" in user.bus.health())


def test_the_serial_protocol_of_python_can_works(join: Join) -> None:
    with VirtualPort() as line:
        user = join(interface="serial", channel=line.path)
        head = struct.pack("<BIB", 0xAA, 0, 2)
        line.write(b"garbage" + head + struct.pack("<I", 0x123) + b"\x01\x02\xbb")
        line.write(head + struct.pack("<I", 0x12345678 | 1 << 31) + b"\x03\x04\xbb")
        until(lambda: len(user.frames) == 2)
        assert plain(user.frames) == [(0x123, b"\x01\x02", 0), (0x12345678, b"\x03\x04", EXTENDED)]
        user.tap.send(0x321, b"\xff")
        sent = b""

        def complete() -> bool:
            nonlocal sent
            sent += line.read(0.05)
            return sent.endswith(b"\xbb")

        until(complete)
        assert sent[5:] == b"\x01" + struct.pack("<I", 0x321) + b"\xff\xbb"
        line.unplug()
        until(lambda: not user.bus.connected)


def vanish(connection: socket.socket) -> None:
    """Close the connection silently, like a power cut: no FIN, and no RST until a packet arrives."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
    except PermissionError:
        pytest.skip("only root may make a connection vanish")
    connection.close()


def test_a_socketcand_that_vanishes_without_a_word_is_opened_again(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "KEEPALIVE_IDLE_S", 1)
    server = Socketcand()
    extra = {"host": "127.0.0.1", "port": server.port}
    user = join(interface="socketcand", channel="can0", listen_only=True, extra=extra)
    vanish(server.connections.pop())
    until(lambda: len(server.connections) == 1 and user.bus.health() == "")
    server.connections[0].sendall(b"< frame 123 1.5 0102 >")
    until(lambda: len(user.frames) == 1)
    server.close()


@pytest.mark.parametrize("scheme", ["tcp", "socket"])
def test_an_adapter_that_vanishes_without_a_word_is_opened_again(
    join: Join, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(tcp, "KEEPALIVE_IDLE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        channel = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        user = join(interface="slcan", channel=channel, bitrate=250000, listen_only=True)
        connection, _ = listener.accept()
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:  # otherwise unacknowledged data would reveal the loss
                connection.recv(100)
        vanish(connection)
        again, _ = listener.accept()
        with again:
            until(lambda: user.bus.health() == "")
            again.sendall(b"t1832AB01\r")
            until(lambda: len(user.frames) == 1)
