"""Hung subscribers: who waits for them, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fixgw.database import Database, Definition, Reading
from fixgw.database.hung import LOOK_INTERVAL_S, MAX_LOOKS, QUIET_LOOK_S, Hung

pytestmark = pytest.mark.slow

PROMISE_S = 2.0
MARGIN_S = 3.0  # for a busy machine


class Hanger:
    """A subscriber that hangs while `closed` is clear, if `when` says so."""

    def __init__(self, when: Callable[[Reading], bool] = lambda reading: True) -> None:
        self.when = when
        self.opened = threading.Event()
        self.inside = threading.Event()
        self.calls = 0

    def __call__(self, key: str, reading: Reading) -> None:
        self.calls += 1
        if self.when(reading):
            self.inside.set()
            self.opened.wait()

    def on_aux(self, key: str, name: str, value: object) -> None:
        self.calls += 1
        self.inside.set()
        self.opened.wait()


@pytest.fixture
def hanger() -> Iterator[Hanger]:
    hanger = Hanger()
    yield hanger
    hanger.opened.set()


@pytest.fixture
def db() -> Iterator[Database]:
    db = Database(
        [
            Definition(key="IAS", tolerance=100),
            Definition(key="ALT", tolerance=100, aux=("Max",)),
            Definition(key="BARO"),
        ]
    )
    db.start()
    yield db
    db.stop()


def until(condition: Callable[[], object], seconds: float = PROMISE_S + MARGIN_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def in_background(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_the_patience_is_within_the_promise() -> None:
    assert LOOK_INTERVAL_S * (MAX_LOOKS - 1) >= 0.8, "a slow one is not given up"
    assert LOOK_INTERVAL_S * MAX_LOOKS < PROMISE_S * 0.75
    assert QUIET_LOOK_S + LOOK_INTERVAL_S * (MAX_LOOKS - 1) < PROMISE_S, "also if it begins just after a look"


def test_a_call_is_given_up_at_the_third_look(hanger: Hanger) -> None:
    db = Database([Definition(key="BARO")])  # nobody else looks
    db.subscribe("BARO", hanger)

    def found_in(looks: int) -> list[int]:
        found = []
        for _ in range(looks):
            db.look_for_hung()
            found.append(db.hung_subscribers)
        return found

    assert db._lookout.interval == QUIET_LOOK_S
    for _ in range(2):
        writer = in_background(lambda: db.write("BARO", 30.1))
        assert hanger.inside.wait(5)
        assert found_in(2) == [0, 0], "another call is counted anew"
        assert db._lookout.interval == LOOK_INTERVAL_S
        hanger.opened.set()
        writer.join(5)
        hanger.opened.clear()
        hanger.inside.clear()
    writer = in_background(lambda: db.write("BARO", 30.1))
    assert hanger.inside.wait(5)
    assert found_in(9) == [0, 0, *[1] * 7], "once"
    hanger.opened.set()
    writer.join(5)
    assert found_in(1) == [1]
    assert db._lookout.interval == QUIET_LOOK_S


def test_a_call_that_has_been_given_up_hides_no_other(hanger: Hanger) -> None:
    db = Database([Definition(key=key) for key in ("IAS", "ALT", "BARO")])
    inside, begin = {key: threading.Event() for key in db}, threading.Event()

    def hang(key: str, reading: Reading) -> None:
        inside[key].set()
        hanger.opened.wait()

    for key in db:
        db.subscribe(key, hang)
    # Its thread is neither the first nor the last.
    early = in_background(lambda: begin.wait(5) and db.write("IAS", 1.0))
    in_background(lambda: db.write("ALT", 1.0))
    assert inside["ALT"].wait(5)
    for _ in range(3):
        db.look_for_hung()
    assert db.hung_subscribers == 1
    late = in_background(lambda: db.write("BARO", 1.0))
    begin.set()
    assert inside["IAS"].wait(5)
    assert inside["BARO"].wait(5)
    for _ in range(3):
        db.look_for_hung()
    assert db.hung_subscribers == 3
    hanger.opened.set()
    early.join(5)
    late.join(5)


def test_ageing_continues_while_a_subscriber_hangs(db: Database, hanger: Hanger) -> None:
    told: list[tuple[str, bool]] = []
    hanger.when = lambda reading: reading.old
    db.subscribe("IAS", hanger)
    db.subscribe("*", lambda key, reading: told.append((key, reading.old)))
    db.write("IAS", 100.0)
    assert hanger.inside.wait(5)
    db.write("ALT", 5000.0)
    until(lambda: db.item("ALT")._reading.old, 1.0)  # as stored, not as read
    until(lambda: ("ALT", True) in told)
    until(lambda: ("IAS", True) in told)
    assert db.alive
    assert db.hung_subscribers == 1
    db.write("IAS", 101.0)
    until(lambda: told.count(("IAS", True)) >= 2)
    assert hanger.calls == 2, "its subscription has ended"


def test_one_writer_waits_once_and_the_others_never(
    db: Database, hanger: Hanger, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[Hung] = []
    told: list[float] = []
    db.on_hung = reported.append
    db.subscribe("BARO", hanger)
    db.subscribe("BARO", lambda key, reading: told.append(reading.value))  # type: ignore[arg-type]
    writer = in_background(lambda: db.write("BARO", 30.1))
    assert hanger.inside.wait(5)
    db.write("BARO", 30.2)
    until(lambda: reported and told == [30.2])
    assert [h.callback for h in reported] == [hanger]
    assert reported[0].frames[-1].f_code is Hanger.__call__.__code__
    assert reported[0].frames[0].f_code is threading.Condition.wait.__code__, "the innermost first"
    assert "Hanger does not return after a change of BARO" in caplog.text
    db.write("BARO", 30.3)
    assert told == [30.2, 30.3]
    assert writer.is_alive()
    hanger.opened.set()
    writer.join(5)
    db.write("BARO", 30.4)
    assert told == [30.2, 30.3, 30.4], "the thread that finally returned delivers nothing stale"
    assert hanger.calls == 1


def test_a_subscriber_that_hangs_on_an_aux_value_is_given_up_too(db: Database, hanger: Hanger) -> None:
    told: list[object] = []
    db.subscribe("ALT", on_aux=hanger.on_aux)
    db.subscribe("ALT", on_aux=lambda key, name, value: told.append(value))
    writer = in_background(lambda: db.write("ALT.Max", 1.0))
    assert hanger.inside.wait(5)
    until(lambda: db.hung_subscribers)
    db.write("ALT.Max", 2.0)
    assert told == [2.0]
    hanger.opened.set()
    writer.join(5)
    assert told[-1] == 2.0


def test_only_the_innermost_subscriber_is_given_up(db: Database, hanger: Hanger) -> None:
    told: list[float] = []
    db.subscribe("BARO", lambda key, reading: db.write("ALT", reading.value))
    db.subscribe("BARO", lambda key, reading: told.append(reading.value))  # type: ignore[arg-type]
    db.subscribe("ALT", hanger)
    in_background(lambda: db.write("BARO", 30.1))
    until(lambda: told == [30.1])
    db.write("BARO", 30.2)
    assert told[-1] == 30.2
    assert db.read("ALT").value == 30.2
    assert (hanger.calls, db.hung_subscribers) == (1, 1)


def test_a_call_into_c_that_hangs_is_found(db: Database) -> None:
    lock = threading.Lock()
    lock.acquire()
    db.subscribe("BARO", lock.acquire)  # type: ignore[arg-type]  # blocking, timeout
    writer = in_background(lambda: db.write("BARO", 1.0))
    until(lambda: db.hung_subscribers or not writer.is_alive())
    lock.release()


def test_two_hung_subscribers_are_both_given_up(db: Database, hanger: Hanger) -> None:
    hanger.when = lambda reading: reading.old
    told: list[bool] = []
    for key in ("IAS", "ALT"):
        db.subscribe(key, hanger)
    db.subscribe("ALT", lambda key, reading: told.append(reading.old))
    db.write("IAS", 1.0)
    db.write("ALT", 1.0)
    until(lambda: True in told, 2 * (PROMISE_S + MARGIN_S))
    assert db.hung_subscribers == 2
    assert threading.active_count() < 12


def test_a_slow_subscriber_is_not_given_up(db: Database) -> None:
    calls = 0

    def slow(key: str, reading: Reading) -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.3)

    db.subscribe("BARO", slow)
    deadline = time.monotonic() + LOOK_INTERVAL_S * (MAX_LOOKS + 1)
    written = 0
    while time.monotonic() < deadline:
        db.write("BARO", float(written))
        written += 1
    assert calls == written
    assert db.hung_subscribers == 0


@pytest.mark.parametrize(("seconds", "ended"), [(1.5, True), (60.0, False)])
def test_stopping_waits_two_seconds_for_a_subscriber(db: Database, hanger: Hanger, seconds: float, ended: bool) -> None:
    hanger.when = lambda reading: reading.old
    db.subscribe("IAS", hanger)
    db.write("IAS", 1.0)
    assert hanger.inside.wait(5)
    thread = db._deliverer
    assert thread is not None
    timer = threading.Timer(seconds, hanger.opened.set)
    timer.start()
    began = time.monotonic()
    db.stop()
    took = time.monotonic() - began
    timer.cancel()
    assert thread.is_alive() is not ended
    assert took < 2.75


# -- the ageing thread -------------------------------------------------------------------------------------------------


def test_an_error_in_the_ageing_thread_is_counted_and_ageing_continues(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def broken() -> None:
        looks.append(1)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(db, "look_for_hung", broken)
    began = time.monotonic()
    until(lambda: db.ageing_errors >= 8)
    assert time.monotonic() - began > 0.5, "it rests between two attempts"
    db.write("IAS", 1.0)
    until(lambda: db.item("IAS")._reading.old)
    assert db.alive
    assert caplog.text.count("ageing failed; continuing") == 1
    db.stop()
    assert db.statistics()["ageing errors"] == len(looks)


def test_an_error_in_the_delivery_thread_is_logged_and_delivery_continues(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver, told = db._deliver_pending, []

    def broken() -> None:
        deliver()
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(db, "_deliver_pending", broken)
    db.subscribe("*", lambda key, reading: told.append((key, reading.old)))
    for key in ("IAS", "ALT"):
        db.write(key, 1.0)
        until(lambda: (key, True) in told)  # noqa: B023
    assert caplog.messages == ["delivery failed"], "once per interval"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_replaced(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly() -> None:
        raise SystemExit

    assert db.ageing_runs
    monkeypatch.setattr(db, "look_for_hung", deadly)
    until(lambda: not db.alive)
    assert not db.ageing_runs
    monkeypatch.undo()
    db.start()
    assert db.ageing_runs
    db.write("IAS", 1.0)
    until(lambda: db.item("IAS")._reading.old)
    assert db.alive
