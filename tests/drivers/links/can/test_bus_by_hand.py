"""The CAN bus without its threads, by a clock that is wound by hand: limits, what is counted and what is said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.bus import CanPlugin, SharedBus, Tap
from fixgw.drivers.links.can.frame import (
    ACTIVE,
    BUS_OFF,
    CONTROLLER,
    COUNTERS,
    ERROR,
    FD,
    NO_ACK,
    TX_PASSIVE,
    TX_WARNING,
    Frame,
)
from fixgw.drivers.links.can.port import BusOptions, Port
from fixgw.errors import DeviceError, PluginFail
from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event
from tests.drivers.links.can.test_bus import SCRIPTED, Scripted

NO_NODE = "cannot send: is another node on the bus, at the same bit rate?"
PASSIVE = "error-passive: is another node on the bus, at the same bit rate, and is the bus terminated?"


class Rig:
    """A bus with one user, over an interface that follows a script."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.port = Scripted()
        self.trouble: OSError | None = None  # in place of the interface
        self.bus = SharedBus(BusOptions(**SCRIPTED, **options), clock=lambda: self.now)
        self.bus.hold_up.clock = lambda: 0.0
        self.heard: list[int] = []
        self.unsent: list[int] = []
        self.losses: list[str] = []
        self.tap = self.user(self.heard)
        self.tap.lost = self.losses.append
        self.tap.unsent = lambda frame: self.unsent.append(frame.arbitration_id)

    def open_port(self, options: BusOptions, count: Any) -> Port:
        if self.trouble is not None:
            raise self.trouble
        self.port.closed.clear()
        return self.port

    def user(self, heard: list[int]) -> Tap:
        tap = Tap(self.bus, lambda frames: heard.extend(frame.arbitration_id for frame in frames), None)
        self.bus.add(tap)
        return tap

    def step(self) -> None:
        self.bus.step(0.0)

    def receive(self, *frames: Frame) -> None:
        self.port.given += frames
        for _ in frames:
            self.step()

    def written(self) -> list[int]:
        return [frame.arbitration_id for frame in self.port.written]

    def status(self, *names: str) -> tuple[Any, ...]:
        status = self.bus.get_status()
        return tuple(status.get(name) for name in names)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    def make(**options: Any) -> Rig:
        rig = Rig(**options)
        monkeypatch.setattr(ports, "open_port", rig.open_port)
        rig.step()
        assert rig.bus.health() == ""
        return rig

    return make


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    return make()


def error(classes: int, controller: int = 0, tx_errors: int = 0, rx_errors: int = 0) -> Frame:
    return Frame(classes, bytes([0, controller, 0, 0, 0, 0, tx_errors, rx_errors]), ERROR)


def test_the_status_of_a_new_bus_and_of_one_that_works(rig: Rig) -> None:
    counters = ("sent", "waiting", "dropped", "too old to send", "unsendable", "not heard by other users")
    zeros = {**dict.fromkeys(counters, 0), "lost": 0, "error frames": 0, "bus off": 0, "own echoes": 0}
    new = SharedBus(BusOptions(**SCRIPTED)).get_status()
    assert new == {
        "interface": "virtual",
        "channel": "scripted",
        "bit rate": None,
        "connected": False,
        "users": 0,
        "controller": "unknown",
        "received per second": 0,
        "sent per second": 0,
        "received": 0,
        **zeros,
    }
    rig.receive(Frame(1), Frame(2))
    rig.tap.send(3)
    assert rig.bus.get_status() == {**new, "connected": True, "users": 1, "received": 2, "sent": 1}
    assert rig.heard == [1, 2]
    rig.now += 0.9
    rig.step()
    assert rig.status("received per second", "sent per second") == (0, 0), "over a second, or it would jump about"
    rig.now += 0.1
    rig.step()
    assert rig.status("received per second", "sent per second") == (2, 1)
    rig.now += 2.0
    rig.receive(Frame(4))
    assert rig.status("received per second", "sent per second") == (0, 0)
    rig.port.given.append(OSError("gone"))
    rig.step()
    assert rig.status("connected", "received per second") == (False, 0)


def test_what_the_interface_says_of_itself_is_in_the_status_and_the_health(rig: Rig) -> None:
    rig.port.state = lambda: "passive"  # type: ignore[method-assign]
    rig.port.facts = lambda: {"adapter": "a script"}  # type: ignore[method-assign]
    rig.port.given.append(OSError("gone"))
    rig.step()
    assert rig.status("controller", "adapter") == ("unknown", None)
    rig.step()
    assert rig.status("controller", "adapter") == ("passive", "a script")
    assert rig.bus.health() == PASSIVE
    rig.port.trouble = lambda: "can0 is set to another bit rate"  # type: ignore[method-assign]
    assert rig.bus.health() == "can0 is set to another bit rate", "the reason for all else"


def test_a_bus_without_room_is_reported_after_two_seconds_until_a_frame_is_sent(rig: Rig) -> None:
    assert rig.bus.can_send
    assert rig.bus.acknowledged
    rig.port.room = 0
    assert rig.tap.send(1)
    assert not rig.bus.can_send
    assert not rig.bus.acknowledged
    rig.now += 2.0
    assert rig.bus.health() == ""
    rig.now += 0.1
    assert rig.bus.health() == NO_NODE
    rig.port.room = 10
    assert not rig.bus._send_waiting(32)
    assert rig.status("too old to send", "waiting", "sent") == (1, 0, 0)
    assert rig.unsent == [1]
    assert rig.bus.health() == NO_NODE, "nothing has been sent yet"
    rig.tap.send(2)
    assert not rig.bus._send_waiting(32)
    assert rig.bus.health() == ""
    assert rig.bus.can_send
    assert rig.written() == [2]


def test_a_bus_that_has_room_again_is_well_although_nothing_is_left_to_send(rig: Rig) -> None:
    rig.port.room = 0
    rig.tap.send(1)
    rig.bus._queue.pop()
    assert not rig.bus._send_waiting(32)
    assert rig.bus.can_send


def test_a_frame_may_wait_for_a_second(rig: Rig) -> None:
    for wait, sent in (1.0, True), (1.01, False):
        rig.port.written.clear()
        rig.port.room = 0
        rig.tap.send(1)
        rig.now += wait
        rig.port.room = 10
        rig.bus._send_waiting(32)
        assert bool(rig.port.written) is sent


def test_frames_are_sent_by_portions(rig: Rig) -> None:
    rig.port.blocking = True
    for n in range(40):
        assert rig.tap.send(n)
    assert rig.written() == []
    assert rig.bus._send_waiting(32)
    assert rig.written() == [*range(32)]
    assert not rig.bus._send_waiting(32)
    assert rig.status("sent", "waiting") == (40, 0)


def test_without_threads_a_turn_sends_all_that_waits_and_passes_it_on(rig: Rig) -> None:
    heard: list[int] = []
    rig.user(heard)
    rig.port.blocking = True
    for n in range(100):
        rig.tap.send(n)
    assert rig.bus.is_waiting()
    assert rig.bus.turn() == rig.now + rig.bus.poll_timeout
    assert rig.written() == heard == [*range(100)]
    assert not rig.bus.is_waiting()


def test_what_the_interface_has_not_passed_on_yet_leaves_no_room(rig: Rig) -> None:
    rig.port.flush = lambda: False  # type: ignore[method-assign]
    assert rig.tap.send(1)
    assert rig.written() == []
    assert rig.status("waiting") == (1,)
    assert not rig.bus.can_send


@pytest.mark.parametrize(("case", "flags"), [("listen only", 0), ("no interface", 0), ("no CAN FD", FD)])
def test_a_frame_that_cannot_be_sent_is_dropped_at_once(make: Callable[..., Rig], case: str, flags: int) -> None:
    rig = make(listen_only=case == "listen only")
    if case == "no interface":
        rig.port.given.append(OSError("gone"))
        rig.step()
    assert not rig.tap.send(1, b"", flags)
    assert rig.status("dropped", "waiting", "sent") == (1, 0, 0)
    assert rig.bus.can_send is (case == "no CAN FD")


def test_a_full_queue_tells_whose_frame_was_dropped(make: Callable[..., Rig]) -> None:
    rig = make(send_queue=2)
    rig.port.room = 0
    assert [rig.tap.send(n) for n in (5, 6, 7, 4)] == [True, True, False, True]
    assert rig.unsent == [6], "whoever gets False knows already"
    assert rig.status("dropped", "waiting") == (2, 2)


def test_when_the_interface_is_lost_the_queue_is_dropped_and_the_last_frames_are_doubted(rig: Rig) -> None:
    rig.tap.send(1)
    rig.now += 0.15
    rig.tap.send(2)
    rig.now += 0.1
    rig.port.room = 0
    rig.tap.send(3)
    rig.port.given.append(OSError("gone"))
    rig.step()
    assert rig.unsent == [2, 3], "the first is on the bus since 250 ms"
    assert rig.status("dropped", "waiting") == (1, 0)
    assert rig.losses == ["gone"]
    assert rig.bus.health() == "gone"
    rig.step()
    assert rig.bus.health() == ""
    assert rig.bus.can_send
    assert rig.losses == ["gone"]


@pytest.mark.parametrize("blocking", [False, True])
def test_a_lost_interface_is_closed_whether_or_not_a_write_may_hang(rig: Rig, blocking: bool) -> None:
    rig.port.blocking = blocking
    rig.port.given.append(OSError("gone"))
    rig.step()
    assert rig.port.closed.is_set()


def test_a_write_that_fails_opens_the_interface_again(rig: Rig) -> None:
    rig.port.error = OSError("No such device")
    rig.tap.send(1)
    assert rig.unsent == [1]
    rig.port.error = None
    rig.tap.send(2)
    assert rig.written() == [], "a broken interface is left alone"
    rig.step()
    assert rig.bus.health() == "No such device"
    assert rig.unsent == [1, 2]
    rig.step()
    rig.tap.send(3)
    assert rig.written() == [3]
    assert rig.bus.health() == ""


def test_a_refusal_is_read_within_two_seconds(rig: Rig) -> None:
    rig.tap.send(1)
    rig.now += 0.1
    rig.tap.send(2)
    rig.now += 2.0
    rig.bus.count("refused")
    rig.step()
    assert rig.unsent == [2]


def test_a_frame_that_the_interface_does_not_know_is_complained_about(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.port.error = ValueError("no such frame")
    rig.tap.send(0x123)
    assert rig.status("unsendable", "sent", "waiting") == (1, 0, 0)
    assert caplog.messages == ["could not send 0x123: no such frame"]


@pytest.mark.parametrize(
    ("report", "state", "health"),
    [
        (error(CONTROLLER, TX_WARNING), "warning", "error warning: the controller has seen many errors"),
        (error(CONTROLLER, TX_PASSIVE), "passive", PASSIVE),
        (error(BUS_OFF), "bus off", "bus off: a short circuit, no terminators, or the wrong bit rate?"),
    ],
)
def test_the_state_of_the_controller_is_told_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, report: Frame, state: str, health: str
) -> None:
    rig.receive(report)
    assert rig.bus.health() == health
    assert rig.status("controller", "error frames", "received") == (state, 1, 0)
    rig.receive(report)
    assert caplog.messages == [health]
    assert rig.bus.can_send is (state != "bus off")
    rig.now += 20.0
    rig.receive(error(CONTROLLER, ACTIVE))
    assert caplog.messages == [health, "the controller has recovered"]
    assert rig.bus.health() == ""
    assert rig.heard == []


def test_bus_off_doubts_the_last_frames(rig: Rig) -> None:
    rig.tap.send(1)
    rig.now += 0.15
    rig.tap.send(2)
    rig.now += 0.1
    rig.receive(error(NO_ACK), Frame(9), error(BUS_OFF))
    assert rig.unsent == [2]
    assert rig.status("no acknowledgement", "bus off", "error frames", "received") == (1, 1, 2, 1)


def test_a_passive_controller_with_many_errors_while_sending_is_not_heard(rig: Rig) -> None:
    assert "error counters" not in rig.bus.get_status()
    rig.receive(error(CONTROLLER, TX_PASSIVE))
    assert not rig.bus.acknowledged, "the controller does not say why it is passive"
    for tx_errors, heard in (127, True), (128, False):
        rig.receive(error(CONTROLLER | COUNTERS, TX_PASSIVE, tx_errors, 200))
        assert rig.bus.acknowledged is heard
        assert rig.status("error counters") == (f"sending {tx_errors}, receiving 200",)
    rig.receive(error(CONTROLLER | COUNTERS, ACTIVE, 128, 0))
    assert rig.bus.acknowledged
    rig.port.given.append(OSError("gone"))
    rig.step()
    rig.step()
    assert rig.status("controller", "error counters") == ("unknown", None), "it is another controller now"


def test_users_hear_each_other_and_what_nobody_has_time_for_is_counted(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(can_bus, "LOCAL_FRAMES", 2)
    rig = make()
    rig.tap.send(1)
    rig.bus._deliver_local()
    other: list[int] = []
    tap = rig.user(other)
    for n in 2, 3, 4:
        rig.tap.send(n)
    tap.send(5)
    rig.bus._deliver_local()
    assert (rig.heard, other) == ([5], [4])
    assert rig.status("not heard by other users", "users") == (2, 2)
    assert not rig.bus.remove(tap)
    assert rig.bus.remove(rig.tap)


def test_a_listener_hears_everything_also_what_its_own_user_sends(rig: Rig) -> None:
    rig.tap.accept({5})
    heard: list[int] = []
    listener = rig.tap.listen(lambda frames: heard.extend(frame.arbitration_id for frame in frames))
    rig.receive(Frame(1), Frame(5))
    rig.tap.send(3)
    rig.bus._deliver_local()
    assert (rig.heard, heard) == ([5], [1, 5, 3])
    assert listener.point is rig.tap.point


def test_recorders_of_a_gateway_hear_of_a_bus_once_however_many_use_it(make: Callable[..., Rig]) -> None:
    class Db:
        pass

    gateways = [Db(), Db()]
    buffers = [Buffer(100), Buffer(100)]
    points = [raw.point(db) for db in gateways]
    for db, buffer in zip(gateways, buffers, strict=True):
        raw.listen(db, buffer, logging.getLogger("recorder"))
    rig = make(bitrate=250_000)

    def heard(n: int) -> list[Any]:
        return [(h.connection, h.stamp, h.direction, h.data) for h in buffers[n].take()]

    def event(what: Any, detail: str = "") -> Any:
        return "virtual scripted", rig.now, "in", Event("can", what, detail)

    taps = [Tap(rig.bus, lambda frames: None, None, point=points[n]) for n in (0, 0, 1)]
    for tap in taps:
        rig.bus.add(tap)
    assert (heard(0), heard(1)) == ([event("opened", "250000")], [event("opened", "250000")])
    rig.now += 1.0
    rig.receive(Frame(1))
    rig.tap.send(2)
    frames = [("virtual scripted", rig.now, way, [frame]) for way, frame in (("in", Frame(1)), ("out", Frame(2)))]
    frames[1] = (*frames[1][:3], [rig.port.written[-1]])
    assert heard(0) == heard(1) == frames
    rig.bus.remove(taps[0])
    assert heard(0) == [], "another connection of this gateway uses the bus"
    rig.bus.remove(taps[1])
    assert (heard(0), heard(1)) == ([event("lost", "stopped")], [])
    rig.port.given.append(OSError("gone"))
    rig.step()
    rig.step()
    assert (heard(0), heard(1)) == ([], [event("lost", "gone"), event("opened", "250000")])


def test_a_plugin_is_as_alive_as_its_slowest_thread(make: Callable[..., Rig]) -> None:
    plugin = CanPlugin("plugin", SCRIPTED)
    assert plugin.alive is None
    assert plugin.get_status() == {}
    plugin.taps = [make().tap for _ in range(2)]
    for tap, sign in zip(plugin.taps, (7.0, 5.0), strict=True):
        tap.bus.alive = sign
    plugin.alive = 3.0
    assert plugin.alive == 5.0, "it has no thread of its own"
    plugin._thread = threading.current_thread()
    assert plugin.alive == 3.0
    plugin.alive = 9.0
    assert plugin.alive == 5.0
    plugin.taps[0].bus.alive = None
    assert plugin.alive == 0.0, "a bus that has never shown a sign"
    plugin._thread = None
    assert [*CanPlugin.heard_as("plugin", plugin.options)] == ["virtual scripted"]


def test_a_stuck_bus_is_tried_again_after_growing_pauses(rig: Rig) -> None:
    pauses: list[float] = []
    frames = iter((1, 2))

    def send_one() -> None:
        rig.port.room = 0
        rig.tap.send(next(frames))

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 7:
            rig.port.room = 1
        if len(pauses) == 9:
            rig.bus.stopping.set()
        return False

    rig.bus._wake.wait = send_one  # type: ignore[method-assign, assignment]
    rig.bus.stopping.wait = wait  # type: ignore[method-assign, assignment]
    rig.bus._write_loop()
    assert pauses == [0.0005, 0.001, 0.002, 0.004, 0.008, 0.01, 0.01, 0.0005, 0.001]
    assert rig.written() == [1]


def test_an_opening_that_takes_long_is_reported(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def patiently(name: str, open: Any, close: Any, stopping: Any, waiting: Callable[[], None]) -> None:
        for seconds in 10.0, 0.6:
            rig.now += seconds
            waiting()
            said.append(rig.bus._trouble)
            assert rig.bus.alive == rig.now

    monkeypatch.setattr(can_bus, "open_patiently", patiently)
    assert rig.bus._open() is None
    assert said == ["", "still opening after 11 s"]


def test_what_waited_while_the_process_was_held_up_is_discarded(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    at = 0.0
    waits: list[float] = []

    def read(timeout: float) -> list[Frame]:
        nonlocal at
        at += 0.45
        waits.append(timeout)
        return [Frame(1), Frame(2)]

    rig.bus.hold_up.clock = lambda: at
    rig.bus.hold_up.reset()
    at += 5.0
    usual, rig.port.read = rig.port.read, read  # type: ignore[method-assign]
    rig.step()
    assert waits == [0.0, *[0.005] * 3], "for a second, though there is always more"
    assert rig.heard == []
    assert rig.status("old frames discarded", "received") == (8, 8)
    assert caplog.messages == ["held up: discarded 8 old frames"]
    rig.port.read = usual  # type: ignore[method-assign]
    rig.receive(Frame(3))
    assert rig.heard == [3], "the time that this took was no hold-up"
    at += 5.0
    rig.step()
    assert len(caplog.messages) == 1, "nothing had waited"


def test_the_time_without_an_interface_is_no_hold_up(rig: Rig) -> None:
    at = 0.0
    rig.bus.hold_up.clock = lambda: at
    rig.port.given.append(OSError("gone"))
    rig.step()
    at += 60.0
    rig.receive(Frame(1))
    assert rig.heard == [1]


def test_a_writer_that_does_not_stop_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedBus, "join_timeout", 0.02)
    bus = SharedBus(BusOptions(**SCRIPTED))
    release = threading.Event()
    bus._writer = threading.Thread(target=release.wait)
    bus._writer.start()
    with pytest.raises(PluginFail, match=r"^virtual scripted: its writer thread did not stop within 0\.02 s$"):
        bus.stop()
    release.set()
    bus._writer.join()
    bus.stop()
    bus._writer = threading.current_thread()
    bus.stop()  # by a user that closes its tap while it receives


def test_a_plugin_closes_all_its_buses_and_reports_all_that_do_not_stop(make: Callable[..., Rig]) -> None:
    plugin = CanPlugin("plugin", SCRIPTED)
    plugin.taps = [make().tap for _ in range(3)]
    troubles = iter(("a: hangs", "", "c: hangs"))
    closed: list[str] = []

    def close() -> None:
        closed.append(trouble := next(troubles))
        if trouble:
            raise PluginFail(trouble)

    for tap in plugin.taps:
        tap.close = close  # type: ignore[method-assign]
    with pytest.raises(PluginFail, match=r"^a: hangs; c: hangs$"):
        plugin.stop()
    assert len(closed) == 3


def test_an_interface_that_is_not_there_is_looked_for_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.trouble = DeviceError("can0 does not exist")
    rig.port.given.append(OSError("gone"))
    assert [rig.bus.step(0.0) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert rig.bus.health() == "can0 does not exist"
    assert rig.losses == ["gone"]
    assert rig.status("outages", "failed attempts") == (1, 5)
    rig.trouble = None
    rig.step()
    assert rig.bus.health() == ""
