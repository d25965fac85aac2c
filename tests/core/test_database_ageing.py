"""Ageing: what becomes old, and when its subscribers are notified."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw import database
from fixgw.database import BAD, NEVER, OLD, SECFAIL, Database, Definition, Reading
from fixgw.hw_sim.bench.clock import Clock

INFINITY = float("inf")
PROMISE = 0.020  # allowed delay in seconds of a change to old, for tolerances up to 200 ms
MARGIN = 0.080  # for a busy machine


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database(
        [
            Definition(key="FAST", tolerance=200),
            Definition(key="SLOW", tolerance=2000),
            Definition(key="NEVER"),
            Definition(key="LAT", tolerance=1000, sources=("gps1", "gps2")),
            Definition(key="BUG", tolerance=5000, setting=True),
        ],
        clock,
    )


# -- with a controlled clock -------------------------------------------------------------------------------------------


def test_a_value_becomes_old_exactly_after_its_tolerance(db: Database, clock: Clock) -> None:
    fast = db.item("FAST")
    fast.write(1.0, "adc")
    clock.now += 0.199
    db.age()
    assert not fast.reading.old
    clock.now += 0.002
    db.age()
    assert fast.reading.flags == OLD
    assert fast.reading.value == 1.0
    assert fast.reading.reason(OLD) == "nothing from adc within 200 ms"


def test_being_old_keeps_the_other_flags_and_the_stamp(db: Database, clock: Clock) -> None:
    stamp = db.item("FAST").write(1.0, flags=BAD, reason="ice").stamp
    clock.now += 1
    db.age()
    assert dict(db.read("FAST").reasons) == {OLD: "nothing from its source within 200 ms", BAD: "ice"}
    assert db.read("FAST").stamp == stamp


def test_a_rewrite_in_time_keeps_a_value_fresh(db: Database, clock: Clock) -> None:
    heard: list[Reading] = []
    db.subscribe("FAST", lambda k, r: heard.append(r))
    for _ in range(50):
        db.write("FAST", 1.0)
        clock.now += 0.15
        db.age()
    assert not any(r.old for r in heard)
    clock.now += 0.06
    db.age()
    assert heard[-1].old


def test_subscribers_are_notified_of_ageing_once(db: Database, clock: Clock) -> None:
    heard: list[bool] = []
    db.subscribe("FAST", lambda k, r: heard.append(r.old))
    db.write("FAST", 1.0)
    for _ in range(5):
        clock.now += 1
        db.age()
        assert db.read("FAST").old, "reading it does not suppress the notification"
    assert heard == [False, True]


def test_an_old_value_that_is_written_again_ages_again(db: Database, clock: Clock) -> None:
    for _ in range(3):
        db.write("FAST", 1.0)
        assert not db.read("FAST").old
        db.age()
        clock.now += 0.3
        db.age()
        assert db.read("FAST").old


def test_a_rewrite_at_the_last_moment_postpones_ageing(db: Database, clock: Clock) -> None:
    db.write("FAST", 1.0)
    clock.now += 0.25  # overdue, but not yet aged
    db.write("FAST", 2.0)
    assert db.age() == pytest.approx(0.2)
    assert not db.read("FAST").old


def test_a_tolerance_of_zero_means_never(db: Database, clock: Clock) -> None:
    assert [item.measured for item in db.items()] == [True, True, False, True, False]
    db.write("NEVER", 1.0)
    clock.now += 1e9
    assert db.age() == INFINITY
    assert not db.read("NEVER").old


def held_up(db: Database, clock: Clock, key: str = "FAST", seconds: float = 0.3) -> Reading:
    """A value that was fresh when written; then the process stood still, and nothing has been aged since."""
    written = db.item(key).write(1.0, "adc", BAD, "ice")
    assert not written.old
    clock.now += seconds
    return written


def test_a_value_read_late_is_old_although_it_has_not_been_aged(db: Database, clock: Clock) -> None:
    held_up(db, clock)
    item = db.item("FAST")
    for reading in (db.read("FAST"), item.reading, item.said, item.readings()[0]):
        assert reading.flags == OLD | BAD
        assert reading.reason(OLD) == "nothing from adc within 200 ms"
        assert reading.reason(BAD) == "ice"
    assert item.explain()["flags"] == {"old": "nothing from adc within 200 ms", "bad": "ice"}
    assert item.explain()["sources"][0]["flags"] == item.explain()["flags"]
    assert db.statistics()["old"] == 1


def test_it_is_old_from_the_very_instant(db: Database, clock: Clock) -> None:
    slow, heard = db.item("SLOW"), []
    db.subscribe("SLOW", lambda k, r: heard.append(r.old))
    with db.mailbox(["SLOW"]) as mailbox:
        slow.write(1.0)
        clock.now += 2.0
        seen = [slow.reading, slow.said, *slow.readings(), *mailbox.wait(0).values()]
    assert [r.old for r in seen] == [True] * 4
    assert db.age() == INFINITY
    assert heard == [False, True]


def test_a_value_read_in_time_is_fresh(db: Database, clock: Clock) -> None:
    held_up(db, clock, seconds=0.199)
    item = db.item("FAST")
    assert not any(r.old for r in (db.read("FAST"), item.reading, item.said, item.readings()[0]))
    assert db.read("FAST") is db.read("FAST"), "no reading is created for it"
    held_up(db, clock, "NEVER", 1e9)
    assert not db.read("NEVER").old


def test_third_party_plugins_read_it_as_old_too(db: Database, clock: Clock) -> None:
    database.bind(db)
    held_up(db, clock)
    raw = database.get_raw_item("FAST")
    assert raw.old
    assert raw.value == database.read("FAST") == (1.0, False, True, True, False, False)


def test_a_value_in_a_mailbox_becomes_old(db: Database, clock: Clock) -> None:
    with db.mailbox(["FAST", "SLOW"]) as mailbox:
        held_up(db, clock)
        db.write("SLOW", 2.0)
        readings = mailbox.wait(0)
    assert {key: r.old for key, r in readings.items()} == {"FAST": True, "SLOW": False}


def test_reading_an_overdue_value_notifies_no_one_until_it_is_aged(db: Database, clock: Clock) -> None:
    heard: list[bool] = []
    db.subscribe("FAST", lambda k, r: heard.append(r.old))
    held_up(db, clock)
    assert db.read("FAST").old
    assert heard == [False]
    db.age()
    assert heard == [False, True]


def test_setting_a_flag_does_not_refresh_an_overdue_value(db: Database, clock: Clock) -> None:
    heard: list[str] = []
    db.subscribe("FAST", lambda k, r: heard.append(r.flag_text))
    held_up(db, clock)
    db.item("FAST").flag(0, BAD | OLD, "adc")
    db.age()
    assert heard == ["00100", "01000"]


def test_an_overdue_source_gives_way_before_it_is_aged(db: Database, clock: Clock) -> None:
    lat = db.item("LAT")
    lat.write(48.0, "gps1")
    clock.now += 1.5
    lat.write(49.0, "gps2")
    assert (lat.reading.value, lat.reading.source, lat.reading.old) == (49.0, "gps2", False)
    assert {r.source: r.old for r in lat.readings()} == {"gps2": False, "gps1": True}
    clock.now += 0.5
    lat.write(48.5, "gps1")
    assert lat.reading.source == "gps2", "it must be good for the hold time first"


def test_a_source_that_has_just_become_old_when_it_writes_has_to_wait_anew(db: Database, clock: Clock) -> None:
    lat = db.item("LAT")
    for source in ("gps1", "gps2"):
        lat.write(48.0, source)
    lat.fail("no antenna", "gps1")
    lat.write(48.0, "gps1", 0)
    clock.now += 0.5
    lat.write(49.0, "gps2")
    for _ in range(6):
        clock.now += 0.5
        for source in ("gps1", "gps2"):
            lat.write(48.0, source)
        assert lat.reading.source == "gps2"
    clock.now += 0.5
    lat.write(48.0, "gps1")
    assert lat.reading.source == "gps1"


@pytest.mark.parametrize("late", [0.0, 0.2])
def test_an_overdue_source_gives_way_to_a_backup_that_has_long_been_good(
    db: Database, clock: Clock, late: float
) -> None:
    lat = db.item("LAT")
    lat.write(48.0, "gps1")
    clock.now += 0.75
    lat.write(49.0, "gps2")
    clock.now += 0.25 + late  # gps1 is overdue, but not yet aged
    lat.write(49.1, "gps2")
    assert (lat.reading.value, lat.reading.source, lat.reading.flags) == (49.1, "gps2", SECFAIL)


def test_reading_old_in_one_thread_while_another_writes(db: Database, clock: Clock) -> None:
    item = db.item("FAST")
    wrong: list[Reading] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            reading = item.reading
            if reading.old and reading.value == 2.0:
                wrong.append(reading)

    held_up(db, clock)
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2000):
        item.write(2.0, "adc", 0)
    stop.set()
    reader.join()
    assert wrong == []
    assert not db.read("FAST").old


def test_what_another_thread_has_delivered_already_is_not_delivered_again(db: Database, clock: Clock) -> None:
    """A delivery thread that was held up may meet the one that replaced it."""
    heard: list[str] = []

    def hear(key: str, reading: Reading) -> None:
        if reading.old:
            heard.append(key)
            db._deliver_pending()

    db.subscribe("*", hear)
    db.write("FAST", 1.0)
    db.write("SLOW", 1.0)
    clock.now += 5
    db.age()
    assert heard == ["FAST", "SLOW"]


def test_age_returns_the_time_until_the_next_value_can_become_old(db: Database, clock: Clock) -> None:
    assert db.age() == INFINITY
    db.write("SLOW", 1)
    assert db.age() == pytest.approx(2.0)
    clock.now += 1.5
    assert db.age() == pytest.approx(0.5)
    db.write("FAST", 1)
    assert db.age() == pytest.approx(0.2)
    db.write("BUG", 1)
    clock.now += 0.3
    assert db.age() == pytest.approx(0.2), "SLOW, before BUG"
    clock.now += 10
    assert db.age() == INFINITY


def test_an_item_is_queued_only_once_however_often_it_is_written(db: Database, clock: Clock) -> None:
    for n in range(1000):
        db.write("FAST", 1.0)
        db.item("FAST").flag(n % 2 * BAD, BAD)
        db.write("LAT", 1.0, "gps1")
        db.write("LAT", 1.0, "gps2")
        db.item("BUG").report(float(n), "can/1")
        db.item("NEVER").flag(n % 2 * BAD, BAD)
        if n == 500:
            db.write("BUG", -1.0, "panel")
    assert db.item("BUG").said.source == "panel", "the report waits"
    db.age()
    assert sorted(item.key for due in db._due for _, _, item in due) == ["BUG", "BUG", "FAST", "LAT"], (
        "BUG also for when it becomes old"
    )


def test_a_check_that_was_brought_forward_loses_no_other(clock: Clock) -> None:
    db = Database([Definition(key="A", tolerance=200), Definition(key="B", tolerance=200)], clock)
    db.write("A", 1.0)
    db.item("A").override(2.0, 0, "override/test", "a test", 0.125)  # it is due earlier
    clock.now += 0.125
    db.age()
    db.write("B", 1.0)
    clock.now += 5
    db.age()
    assert [item._reading.old for item in db.items()] == [True, True]


def test_a_value_whose_old_flag_was_cleared_by_hand_still_ages(db: Database, clock: Clock) -> None:
    fast = db.item("FAST")
    fast.write(1.0)
    clock.now += 0.15
    fast.write(2.0)
    fast.flag(OLD, OLD)
    clock.now += 0.1
    assert db.age() == INFINITY, "all is old: nothing to wait for"
    clock.now += 0.05
    assert not fast.flag(0, OLD).flags
    assert db.age() == pytest.approx(0.05)
    clock.now += 0.051
    db.age()
    assert fast.reading.old


def test_each_source_of_a_ranked_item_ages_separately(db: Database, clock: Clock) -> None:
    lat = db.item("LAT")
    lat.write(1.0, "gps1")
    clock.now += 0.5
    lat.write(2.0, "gps2")
    assert db.age() == pytest.approx(0.5)
    clock.now += 0.6
    assert db.age() == pytest.approx(0.4)
    assert (lat.reading.source, lat.reading.old) == ("gps2", False)
    clock.now += 0.5
    assert db.age() == INFINITY
    assert (lat.reading.source, lat.reading.old) == ("gps2", True)


def test_the_first_source_to_become_old_determines_the_next_check(db: Database, clock: Clock) -> None:
    lat = db.item("LAT")
    lat.write(1.0, "gps1")
    clock.now += 0.5
    lat.write(2.0, "gps2")
    clock.now += 0.1
    lat.write(1.0, "gps1")
    clock.now += 0.45
    assert db.age() == pytest.approx(0.45)


def test_a_backup_that_returns_is_watched_again(db: Database, clock: Clock) -> None:
    lat = db.item("LAT")
    lat.write(1.0, "gps1")
    clock.now += 5
    db.age()
    lat.write(2.0, "gps2")
    assert db.age() == pytest.approx(1.0)
    clock.now += 1.1
    db.age()
    assert lat.reading.old


def test_items_due_at_the_same_instant_are_not_compared(clock: Clock) -> None:
    db = Database([Definition(key=f"K{n}", tolerance=100) for n in range(200)], clock)
    for key in db:
        db.write(key, 1.0)
    clock.now += 1
    db.age()
    assert all(db.read(key).old for key in db)


# -- how often the thread looks ----------------------------------------------------------------------------------------


def looks_of(db: Database, clock: Clock, seconds: float, writes: list[tuple[float, str]]) -> int:
    """How often the ageing thread would look while `writes` (times from now, keys) are made."""
    begun, looks = clock.now, 0
    db._look_due = INFINITY

    def look() -> None:
        nonlocal looks
        looks += 1
        db.age()

    for at, key in [*sorted((begun + at, key) for at, key in writes), (begun + seconds, "")]:
        while (due := db._next_look()) < at:
            clock.now = due
            look()
        clock.now = at
        if key:
            db.write(key, 1.0)
        if db._arrivals:
            look()
    return looks


@pytest.mark.parametrize(("tolerance", "most"), [(300, 5.0), (1000, 2.5), (2000, 1.5)])
def test_items_that_are_written_in_time_are_looked_at_together(clock: Clock, tolerance: int, most: float) -> None:
    db = Database([Definition(key=f"K{n}", tolerance=tolerance) for n in range(20)], clock)
    writes = [(n / 20 + k * 0.0021, f"K{k}") for n in range(200) for k in range(20)]
    assert (looks_of(db, clock, 9.99, writes) - 20) / 9.99 <= most, "looks a second, after the first write of each"
    assert not any(db.read(key).old for key in db)


@pytest.mark.parametrize(("tolerance", "promise"), [(50, 0.02), (300, 0.02), (999, 0.02), (1000, 0.1), (5000, 0.1)])
def test_what_is_not_written_again_is_marked_within_the_promise(clock: Clock, tolerance: int, promise: float) -> None:
    db = Database([Definition(key=f"K{n}", tolerance=tolerance) for n in range(40)], clock)
    late: dict[str, float] = {}
    db.subscribe("*", lambda key, r: late.setdefault(key, clock.now - r.stamp - tolerance / 1000) if r.old else None)
    looks_of(db, clock, 1.0 + tolerance / 1000, [(n * 0.0137, f"K{n}") for n in range(40)])
    assert len(late) == 40
    assert min(late.values()) >= 0.0
    assert max(late.values()) <= promise + 1e-6


@pytest.mark.parametrize("what", ["a write", "a stop"])
def test_the_thread_does_not_sleep_over_what_happens_during_a_round(
    db: Database, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing wakes it then, because it is awake."""
    slept: list[float] = []
    monkeypatch.setattr(db._wake, "wait", slept.append)
    look = db._next_look

    def meanwhile() -> float:
        at = look()
        if what == "a stop":
            db._stopping = True
        else:
            db.write("FAST", 1.0)
        return at

    db._age_once()
    assert len(slept) == 1
    monkeypatch.setattr(db, "_next_look", meanwhile)
    db._wakes_at = NEVER
    db._age_once()
    assert len(slept) == 1


# -- with the real clock and the real thread ---------------------------------------------------------------------------


@pytest.fixture
def running() -> Iterator[Callable[..., Database]]:
    started: list[Database] = []

    def start(*definitions: Definition) -> Database:
        db = Database(definitions)
        started.append(db)
        db.start()
        return db

    yield start
    for db in started:
        db.stop()
        assert not db.alive


class Lateness:
    """The delay in seconds after which each item was reported as old."""

    def __init__(self, db: Database) -> None:
        self.seconds: dict[str, float] = {}
        self.due: dict[str, float] = {}
        self._all = threading.Event()
        for item in db.items():
            self.due[item.key] = item.tolerance
        db.subscribe("*", self.hear)

    def hear(self, key: str, reading: Reading) -> None:
        if reading.old:
            self.seconds[key] = time.monotonic() - reading.stamp - self.due[key]
            if len(self.seconds) == len(self.due):
                self._all.set()

    def wait(self) -> dict[str, float]:
        assert self._all.wait(10)
        return self.seconds


def test_the_first_write_wakes_an_idle_thread(running: Callable[..., Database]) -> None:
    db = running(Definition(key="FAST", tolerance=200))
    late = Lateness(db)
    threading.Event().wait(0.05)  # let the thread go to sleep
    db.write("FAST", 1.0)
    (seconds,) = late.wait().values()
    assert 0 <= seconds <= PROMISE + MARGIN


def test_a_short_tolerance_is_kept_while_the_thread_sleeps_for_a_long_one(running: Callable[..., Database]) -> None:
    db = running(Definition(key="LONG", tolerance=3_600_000), Definition(key="FAST", tolerance=20))
    db.write("LONG", 1.0)
    late = Lateness(db)
    late.due.pop("LONG")
    threading.Event().wait(0.05)
    db.write("FAST", 1.0)
    assert 0 <= late.wait()["FAST"] <= PROMISE + MARGIN


def test_a_tolerance_can_be_years(running: Callable[..., Database]) -> None:
    db = running(Definition(key="LONG", tolerance=2**62), Definition(key="FAST", tolerance=20))
    db.write("LONG", 1.0)
    late = Lateness(db)
    late.due.pop("LONG")
    db.write("FAST", 1.0)
    late.wait()
    assert not db.read("LONG").old


def test_many_items_that_stop_together_are_all_reported_in_time(running: Callable[..., Database]) -> None:
    db = running(*(Definition(key=f"K{n}", tolerance=100 + n % 100) for n in range(600)))
    late = Lateness(db)
    for _ in range(3):
        for item in db.items():
            item.write(1.0)
        threading.Event().wait(0.03)
    seconds = sorted(late.wait().values())
    assert seconds[0] >= 0
    assert seconds[300] <= PROMISE + MARGIN / 2
    assert seconds[-1] <= PROMISE + 2 * MARGIN


def test_the_threads_cost_little_with_600_items_at_20_hz(running: Callable[..., Database]) -> None:
    db = running(*(Definition(key=f"K{n}", tolerance=(200, 1000, 2000)[n % 3]) for n in range(600)))
    items = db.items()
    db._redeliver(items[0])  # so that the other thread has been awake, too
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in (db._thread, db._deliverer)
        if thread is not None and thread.ident is not None
    ]
    assert len(clocks) == 2
    begun, before = time.monotonic(), [time.clock_gettime(spent) for spent in clocks]
    while (elapsed := time.monotonic() - begun) < 1.0:
        for item in items:
            item.write(1.0)
        threading.Event().wait(0.05)
    ageing, delivery = [(time.clock_gettime(c) - b) / elapsed for c, b in zip(clocks, before, strict=True)]
    assert not any(db.read(key).old for key in db)
    assert ageing < 0.05, "of a core; 0.01 measured"
    assert delivery < 0.05


@pytest.mark.slow
def test_stopping_at_any_moment_is_quick() -> None:
    for n in range(200):
        db = Database([Definition(key="FAST", tolerance=1)])
        db.start()
        if n % 2:
            db.write("FAST", 1.0)
        begun = time.monotonic()
        db.stop()
        assert time.monotonic() - begun < 1.0
        assert not db.alive


def test_it_is_well_from_the_start_and_ill_when_nothing_was_looked_at_for_five_seconds(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, begin = Database(clock=clock), threading.Event()
    monkeypatch.setattr(db, "_age_forever", begin.wait)  # the thread does not begin
    db.start()
    assert db.alive
    clock.now += 4.875
    assert db.alive
    clock.now += 0.125
    assert not db.alive
    begin.set()
    db.stop()


def test_starting_and_stopping_twice_is_harmless() -> None:
    db = Database([Definition(key="FAST", tolerance=20)])
    assert db.ageing_runs, "it is not meant to"
    db.stop()
    before = threading.active_count()
    db.start()
    db.start()
    assert threading.active_count() == before + 2
    ours = [thread for thread in threading.enumerate() if thread.name in ("ageing", "delivery")]
    assert all(thread.daemon for thread in ours), "if one hangs, the process ends all the same"
    db.stop()
    db.stop()
    db.start()
    late = Lateness(db)
    db.write("FAST", 1.0)
    late.wait()
    db.stop()
    assert threading.active_count() == before


def test_no_exception_of_a_subscriber_ends_the_ageing(running: Callable[..., Database]) -> None:
    db = running(Definition(key="A", tolerance=20), Definition(key="B", tolerance=40))

    def broken(key: str, reading: Reading) -> None:
        if reading.old:
            raise BaseException("not even an Exception")

    db.subscribe("A", broken)
    late = Lateness(db)
    db.write("A", 1.0)
    db.write("B", 1.0)
    late.wait()
    assert db.alive


def test_a_defect_in_the_ageing_is_logged_and_does_not_end_it(
    running: Callable[..., Database], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expire = database.Item._expire
    errors = iter([RuntimeError("defect")])

    def broken(item: Any, now: float) -> float | None:
        for error in errors:
            raise error
        return expire(item, now)

    monkeypatch.setattr(database.Item, "_expire", broken)
    db = running(Definition(key="A", tolerance=20), Definition(key="B", tolerance=40))
    late = Lateness(db)
    db.write("A", 1.0)
    db.write("B", 1.0)
    late.wait()
    assert caplog.messages == ["ageing of A failed"]
    assert vars(caplog.records[0])["FIXGW_KEY"] == "A"
    assert db.ageing_errors == 1
    assert db.read("A").old, "the item at which it happened is not forgotten"


def test_a_subscriber_that_delays_the_thread_is_reported(
    running: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = running(Definition(key="A", tolerance=1))
    caught, release = threading.Event(), threading.Event()

    def slow(key: str, reading: Reading) -> None:
        if reading.old:
            caught.set()
            release.wait(10)

    db.subscribe("A", slow)
    assert db.alive
    db.write("A", 1.0)
    assert caught.wait(5)
    monkeypatch.setattr(database, "AGEING_SILENT_S", 0.0)  # as if it had taken that long
    try:
        assert not db.alive
    finally:
        release.set()
