"""`Poller`, the base of drivers that poll a device on their own thread."""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from fixgw.errors import DeviceError
from fixgw.plugin import PluginFail, Poller
from fixgw.world import World

Step = Callable[[], None]


def gone() -> None:
    raise DeviceError("/dev/gps went away")


def defect() -> None:
    raise ZeroDivisionError("a defect")


class Device(Poller):
    """A driver for a device that performs `steps`, one per poll, and then stays quiet."""

    poll_timeout: ClassVar[float] = 0.05
    reopen_delay: ClassVar[float] = 0.01
    reopen_delay_max: ClassVar[float] = 0.04

    def __init__(self, name: str = "gps", config: dict[str, Any] | None = None) -> None:
        super().__init__(name, config or {})
        self.steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self.openings: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self.log_of_calls: list[str] = []
        self.threads: set[threading.Thread] = set()

    def _called(self, what: str) -> None:
        self.log_of_calls.append(what)
        self.threads.add(threading.current_thread())

    def open(self) -> None:
        self._called("open")
        if not self.openings.empty():
            self.openings.get()()

    def poll(self, timeout: float) -> None:
        if not self.steps.empty():
            self._called("poll")
            self.steps.get()()
        else:
            self.stopping.wait(timeout)

    def close(self) -> None:
        self._called("close")

    def lost(self, reason: str) -> None:
        self._called(f"lost: {reason}")


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.shutdown()


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of threads ended by an exception, instead of tracebacks on stderr."""
    names: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: names.append(args.thread.name))
    return names


def test_before_it_runs_health_says_so(device: Device) -> None:
    assert device.health() == "not started"
    assert not device.connected
    assert not device.running


def test_it_opens_the_device_and_is_healthy(device: Device) -> None:
    device.start()
    assert device.running
    eventually(lambda: device.health() == "")
    assert device.connected
    assert device.log_of_calls == ["open"]
    assert device.get_status() == {"connected": True}
    assert threading.current_thread() not in device.threads


@pytest.mark.parametrize("opened", [True, False])
def test_recorders_are_told_when_it_stops_with_an_open_device(opened: bool) -> None:
    class Recorded(Device):
        def note_loss(self, reason: str) -> None:
            self._called(f"note: {reason}")

    device = Recorded()
    if opened:
        device.step(0.0)
    device.finish()
    assert ("note: stopped" in device.log_of_calls) is opened
    assert not device.connected
    device.shutdown()


def test_after_a_step_without_an_error_the_next_follows_at_once(device: Device) -> None:
    assert device.step(0.0) == 0.0
    assert device.connected
    device.steps.put(gone)
    device.alive = None
    assert device.step(0.0) == pytest.approx(0.01)
    assert not device.connected
    assert device.alive is not None, "it is not hung"


def test_counts_are_shown_in_the_order_of_their_first_use(device: Device) -> None:
    for what in ("sentences", "errors", "sentences"):
        device.count(what)
    device.count("bytes", 70)
    assert list(device.get_status().items()) == [("connected", False), ("sentences", 2), ("errors", 1), ("bytes", 70)]


def test_it_tries_to_open_a_missing_device_until_it_appears(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    there = threading.Event()

    def missing() -> None:
        if not there.is_set():
            device.openings.put(missing)
            raise FileNotFoundError(errno.ENOENT, "No such device", "/dev/gps")

    device.openings.put(missing)
    device.start()
    eventually(lambda: device.counts.get("failed attempts", 0) >= 3)
    assert device.running, "it keeps trying"
    assert device.health() == "[Errno 2] No such device: '/dev/gps'"
    assert not device.connected
    there.set()
    eventually(lambda: device.health() == "")
    assert device.connected
    assert device.counts["outages"] == 1
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "[Errno 2] No such device: '/dev/gps'; trying again")
    ], "one outage, one line"
    assert [c for c in device.log_of_calls if c.startswith("lost")] == ["lost: [Errno 2] No such device: '/dev/gps'"], (
        "reported once"
    )


def test_a_device_that_goes_away_is_closed_and_opened_again(device: Device) -> None:
    device.start()
    eventually(lambda: device.connected)
    device.steps.put(gone)
    eventually(lambda: device.log_of_calls.count("open") == 2 and device.health() == "")
    assert device.log_of_calls == ["open", "poll", "close", "lost: /dev/gps went away", "open"]
    assert device.counts == {"outages": 1}
    device.steps.put(gone)
    eventually(lambda: device.counts == {"outages": 2} and device.health() == "")
    assert device.running


def test_values_written_before_the_device_fails_again_are_failed(device: Device) -> None:
    """During an outage the device opens, `poll` writes, then fails: the outage lasts, and the value must not stay."""
    written: list[str] = []

    def writes_and_goes() -> None:
        written.append("good")
        gone()

    device.lost = lambda reason: written.append(reason)  # type: ignore[method-assign]
    device.openings.put(gone)
    device.steps.put(writes_and_goes)
    device.start()
    eventually(lambda: device.counts.get("failed attempts") == 1 and device.health() == "")
    assert written == ["/dev/gps went away", "good", "/dev/gps went away"]
    assert device.counts["outages"] == 1


def test_a_device_that_opens_and_fails_at_once_is_one_outage_with_growing_delays(device: Device) -> None:
    device.start()
    eventually(lambda: device.connected)
    for _ in range(5):
        device.steps.put(gone)
    eventually(lambda: device.steps.empty() and device.health() == "")
    assert device.counts == {"outages": 1, "failed attempts": 4}
    assert sum(c.startswith("lost") for c in device.log_of_calls) == 5, (
        "each time, because it may have written something"
    )


def test_an_error_without_a_message_is_named(device: Device) -> None:
    def silent() -> None:
        raise TimeoutError

    never = threading.Event()

    def stay_away() -> None:
        device.openings.put(stay_away)
        if not never.is_set():
            raise TimeoutError

    device.openings.put(stay_away)
    device.steps.put(silent)
    device.start()
    eventually(lambda: device.health() == "TimeoutError")


@pytest.mark.parametrize("error", [OSError("already gone"), ValueError("of the library")])
def test_closing_can_fail_too(device: Device, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken_close() -> None:
        raise error

    monkeypatch.setattr(device, "close", broken_close)
    device.start()
    device.steps.put(gone)
    eventually(lambda: device.counts.get("outages") == 1 and device.health() == "")
    assert device.running


def test_a_defect_ends_the_thread_and_says_so(device: Device, crashes: list[str]) -> None:
    device.start()
    eventually(lambda: device.connected)
    device.steps.put(defect)
    eventually(lambda: crashes)
    assert not device.running
    assert not device.connected
    assert device.health() == "ZeroDivisionError: a defect"
    assert device.log_of_calls[-1] == "close"
    assert crashes == ["gps"]


@pytest.mark.parametrize("where", ["open", "poll"])
def test_an_immediate_defect_is_not_hidden_by_the_start(crashes: list[str], where: str) -> None:
    for _ in range(50):
        device = Device()
        (device.openings if where == "open" else device.steps).put(defect)
        device.start()
        eventually(lambda d=device: not d._thread.is_alive())  # type: ignore[misc]
        assert not device.running
        device.shutdown()


def test_lost_runs_on_the_same_thread_and_its_defects_are_reported(
    device: Device, crashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "lost", lambda reason: defect())
    device.steps.put(gone)
    device.start()
    eventually(lambda: crashes)
    assert not device.running


def test_a_run_that_raises_leaves_running_false(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "run", defect)
    with pytest.raises(ZeroDivisionError):
        device.start()
    assert not device.running


def stopped_within(device: Device, seconds: float) -> None:
    begun = time.monotonic()
    device.shutdown()
    assert time.monotonic() - begun < seconds
    assert not device.running
    assert not device.connected
    if device._thread is not None:
        assert not device._thread.is_alive()
        assert device.log_of_calls[-1] == "close"


def test_it_stops_quickly_when_it_never_ran() -> None:
    stopped_within(Device(), 0.5)


def test_it_stops_quickly_while_polling(device: Device) -> None:
    device.start()
    eventually(lambda: device.connected)
    stopped_within(device, 1.0)
    assert device.health() == "stopped"


def test_it_stops_quickly_while_waiting_to_open_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "reopen_delay", 60.0)
    device.openings.put(gone)
    device.start()
    eventually(lambda: device.health() == "/dev/gps went away")
    stopped_within(device, 1.0)


def test_it_stops_quickly_after_a_defect(device: Device, crashes: list[str]) -> None:
    device.steps.put(defect)
    device.start()
    eventually(lambda: crashes)
    stopped_within(device, 1.0)


def test_it_can_be_stopped_twice_and_from_its_own_thread(device: Device) -> None:
    device.steps.put(device.stop)
    device.start()
    eventually(lambda: not device.running)
    assert device.health() == "stopped", "it does not wait for itself"
    device.stop()
    device.stop()


def test_an_open_that_blocks_raises_plugin_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "join_timeout", 0.1)
    device = Device()
    opening, release = threading.Event(), threading.Event()

    def block() -> None:
        opening.set()
        release.wait(10)

    device.openings.put(block)
    device.start()
    assert opening.wait(5)
    assert device.health() == "connecting"
    with pytest.raises(PluginFail, match=r"gps: its thread did not stop within 0\.1 s"):
        device.shutdown()
    release.set()
    eventually(lambda: not device._thread.is_alive())  # type: ignore[union-attr]
    assert device.log_of_calls == ["open", "close"], "what was opened too late is closed again"


def test_a_new_object_starts_afresh(device: Device) -> None:
    device.steps.put(gone)
    device.start()
    eventually(lambda: device.counts)
    device.shutdown()
    again = Device()
    again.start()
    eventually(lambda: again.connected and again.health() == "")
    assert again.counts == {}
    again.shutdown()


def test_polling_and_waiting_are_signs_of_life(device: Device) -> None:
    def alive() -> float:
        assert device.alive is not None
        return device.alive

    device.start()
    first = alive()
    eventually(lambda: alive() > first)
    device.openings.put(gone)
    device.steps.put(gone)
    eventually(lambda: device.counts.get("failed attempts"))
    second = alive()
    eventually(lambda: alive() > second)


def test_what_it_does_unless_a_driver_says_otherwise() -> None:
    """It looks for a lost device after a quarter of a second, then less and less often, and every five seconds."""
    there = False
    timeouts: list[float] = []

    class Plain(Poller):
        def open(self) -> None:
            if not there:
                gone()

        def poll(self, timeout: float) -> None:
            timeouts.append(timeout)
            self.stopping.set()

    poller = Plain("gps", {})
    assert [poller.step(0.0) for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    there = True
    poller.work()
    assert timeouts == [0.2], "a stop may take as long"
    assert poller.poll_by() == float("inf")


def test_a_lost_device_looks_lost_to_all_who_are_told(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    seen: list[tuple[str, bool]] = []

    def look(*_: str) -> None:
        seen.append((device.health(), device.connected))

    device.step(0.0)
    assert caplog.messages == [], "it was not lost before"
    for told in ("close", "note_loss", "lost"):
        setattr(device, told, look)
    device.steps.put(gone)
    device.step(0.0)
    assert seen == [("/dev/gps went away", False)] * 3
    device.openings.put(gone)
    device.step(0.0)
    assert len(seen) == 5, "recorders hear of each attempt"
    for _ in range(2):
        device.step(0.0)
    assert caplog.messages == ["/dev/gps went away; trying again", "connected again"]


@pytest.mark.parametrize("where", ["openings", "steps"])
def test_an_error_that_a_stop_causes_is_no_outage(device: Device, caplog: pytest.LogCaptureFixture, where: str) -> None:
    def stopped() -> None:
        device.stopping.set()
        gone()

    getattr(device, where).put(stopped)
    assert device.step(0.0) == 0.0
    assert (device.counts, caplog.messages, device.health()) == ({}, [], "not started")
    assert device.log_of_calls == (["open"] if where == "openings" else ["open", "poll"])


def test_a_device_that_is_opened_while_it_stops_is_not_polled(device: Device) -> None:
    device.openings.put(device.stopping.set)
    device.steps.put(defect)
    assert device.step(0.0) == 0.0
    device.finish()
    assert device.log_of_calls == ["open", "close"]


def test_it_waits_as_long_as_a_step_says(device: Device) -> None:
    waits: list[float | None] = []

    class Timed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return self.is_set()

    device.stopping = Timed()
    for step in (gone, gone, lambda: None):
        device.openings.put(step)
    for step in (lambda: None, device.stopping.set):
        device.steps.put(step)
    device.work()
    assert waits == [0.01, 0.02], "and does not wait after a poll"


def test_a_driver_must_override_poll() -> None:
    with pytest.raises(NotImplementedError):
        Poller("gps", {}).poll(0)


def test_in_a_replay_its_next_turn_is_due_when_it_has_something_to_do() -> None:
    class Replayed(Device):
        by = float("inf")

        def poll(self, timeout: float) -> None:
            assert timeout == 0.0, "nobody waits"
            super().poll(timeout)

        def poll_by(self) -> float:
            return self.by

    with World(adopt=lambda worker: None, clock=lambda: 100.0).hosting():
        device = Replayed()
    device.openings.put(gone)
    assert device.turn() == pytest.approx(100.01), "it is not there: look again after the first delay"
    device.openings.put(gone)
    assert device.turn() == pytest.approx(100.02)
    assert device.turn() == pytest.approx(100.05)
    device.by = 100.03
    assert device.turn() == 100.03
    device.steps.put(gone)
    assert device.turn() == pytest.approx(100.01)
    device.stopping.set()
    device.openings.put(gone)
    assert device.turn() == pytest.approx(100.05)
