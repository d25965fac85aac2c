"""`Follower`, which follows the database on its own thread, and `Worker`, the base of all plugins with a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from fixgw.database import Database, Definition, Reading
from fixgw.errors import UnknownKey
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import Follower, PluginFail, Worker
from fixgw.world import World

EGTS = ("EGT11", "EGT12", "EGT13", "EGT14")


# The average of four exhaust gas temperatures, as the author of a plugin would write it.
class Average(Follower):
    """The average EGT of four cylinders; writes EGTAVG1."""

    FOLLOWS = ("EGT1[1-4]",)

    def changed(self, readings: dict[str, Reading]) -> None:
        average = self.db.item("EGTAVG1")
        bad = [key for key, reading in self.readings.items() if not reading.good]
        if bad:
            average.fail(f"{', '.join(bad)} not good", self.source)
        else:
            average.write(sum(float(egt.value) for egt in self.readings.values()) / 4, self.source, flags=0)


class Notes(Follower):
    """Records its calls; waits in `changed` while `held` is clear."""

    FOLLOWS: ClassVar[tuple[str, ...]] = ("EGT1?", "OAT")
    gather: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heard: list[dict[str, Any]] = []
        self.ticks: list[float] = []
        self.threads: set[threading.Thread] = set()
        self.held = threading.Event()
        self.held.set()
        self.in_it = threading.Event()

    def changed(self, readings: dict[str, Reading]) -> None:
        self.threads.add(threading.current_thread())
        self.in_it.set()
        self.held.wait(10)
        self.heard.append({key: reading.value for key, reading in readings.items()})

    def tick(self, now: float) -> None:
        self.threads.add(threading.current_thread())
        self.ticks.append(now)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


@pytest.fixture
def db(clock: Clock) -> Database:
    keys = (*EGTS, "EGT21", "EGTAVG1")
    items = [Definition(key=key, min=0.0, max=1000.0, tolerance=2000) for key in keys]
    return Database([*items, Definition(key="OAT", min=-60.0, max=60.0)], clock)


Make = Callable[..., Any]


@pytest.fixture
def make(db: Database, clock: Clock) -> Iterator[Make]:
    """Create plugins on the database, and stop them at the end."""
    made: list[Worker] = []

    def make(kind: type[Worker], name: str = "it", **options: Any) -> Worker:
        with World(db).hosting():
            plugin = kind(name, options)
        plugin.clock = clock
        made.append(plugin)
        return plugin

    yield make
    for plugin in made:
        plugin.shutdown()


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exceptions that ended threads, instead of tracebacks on stderr."""
    died: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(f"{args.thread.name}: {args.exc_value}"))
    return died


# -- the example -------------------------------------------------------------------------------------------------------


def test_it_can_average_four_egts(make: Make, db: Database) -> None:
    plugin = make(Average, "average")
    plugin.start()
    until(lambda: db.read("EGTAVG1").fail)
    for key, value in zip(EGTS, (600.0, 610.0, 620.0, 650.0), strict=True):
        db.write(key, value, "eis", flags=0)
    until(lambda: db.read("EGTAVG1").good)
    assert (db.read("EGTAVG1").value, db.read("EGTAVG1").source) == (620.0, "average")
    db.item("EGT13").fail("probe open", "eis")
    until(lambda: db.read("EGTAVG1").fail)
    assert plugin.health() == ""
    status = plugin.get_status()
    assert list(status) == ["keys", "batches", "updates", "conflated"]
    assert status["keys"] == 4


def test_the_average_fails_with_its_egts(make: Make, db: Database, clock: Clock) -> None:
    plugin = make(Average, "average")
    for key in EGTS:
        db.write(key, 600.0, "eis", flags=0)
    plugin.follow()
    plugin.step(0.0)
    assert db.read("EGTAVG1").good
    clock.now += 3.0
    db.age()
    plugin.step(0.0)
    assert db.read("EGTAVG1").fail


# -- following ---------------------------------------------------------------------------------------------------------


def test_it_starts_with_the_current_readings(make: Make, db: Database) -> None:
    db.write("EGT12", 500.0, "x", flags=0)
    plugin = make(Notes)
    plugin.follow()
    assert plugin.step(0.0)
    assert plugin.heard == [{"EGT11": 0.0, "EGT12": 500.0, "EGT13": 0.0, "EGT14": 0.0, "OAT": 0.0}]
    assert list(plugin.readings) == [*EGTS, "OAT"]


def test_afterwards_it_gets_only_changes(make: Make, db: Database) -> None:
    plugin = make(Notes)
    plugin.follow()
    plugin.step(0.0)
    assert not plugin.step(0.0)
    db.write("EGT21", 1.0, "x")
    assert not plugin.step(0.0)
    db.write("OAT", 7.0, "x", flags=0)
    assert plugin.step(0.0)
    db.item("OAT").fail("probe open", "x")
    assert plugin.step(0.0), "changed flags count too"
    assert plugin.heard[1:] == [{"OAT": 7.0}, {"OAT": 7.0}]
    assert plugin.readings["OAT"].fail


def test_it_gets_the_newest_reading_however_fast_it_changes(make: Make, db: Database) -> None:
    plugin = make(Notes)
    plugin.start()
    until(lambda: len(plugin.heard) == 1)
    plugin.held.clear()
    plugin.in_it.clear()
    db.write("EGT11", 1.0, "x")
    assert plugin.in_it.wait(5)
    for value in range(2, 101):
        db.write("EGT11", float(value), "x")
    db.write("OAT", 5.0, "x")
    plugin.held.set()
    until(lambda: len(plugin.heard) == 3)
    assert plugin.heard[1:] == [{"EGT11": 1.0}, {"EGT11": 100.0, "OAT": 5.0}]
    assert plugin.get_status() == {"keys": 5, "batches": 3, "updates": 8, "conflated": 98}
    assert plugin.threads == {plugin._thread}


def test_a_reading_that_is_overdue_on_delivery_is_old(make: Make, db: Database, clock: Clock) -> None:
    plugin = make(Notes)
    plugin.follow()
    plugin.step(0.0)
    db.write("EGT11", 600.0, "x", flags=0)
    clock.now += 10.0
    plugin.step(0.0)
    assert plugin.readings["EGT11"].old


def test_ticks_follow_the_clock_with_or_without_changes(make: Make, db: Database, clock: Clock) -> None:
    plugin = make(Notes)
    start = clock.now
    plugin.follow()
    plugin.step(0.0)
    assert plugin.ticks == []
    for passed in (0.5, 1.0, 1.5, 2.1, 5.0, 5.5, 6.1):
        clock.now = start + passed
        db.write("OAT", passed, "x")
        plugin.step(0.0)
    assert [now - start for now in plugin.ticks] == pytest.approx([1.0, 2.1, 5.0, 6.1]), (
        "and missed ticks are not made up"
    )


def test_it_waits_no_longer_than_until_its_tick(make: Make, clock: Clock) -> None:
    waits: list[float] = []

    class Silent:
        conflated = 0

        def wait(self, seconds: float) -> list[str]:
            waits.append(seconds)
            return []

        def wake(self) -> None: ...

        def close(self) -> None: ...

    plugin = make(Notes)
    plugin.follow()
    plugin.step(0.0)
    plugin._mailbox = Silent()
    for passed, timeout in ((0.0, 10.0), (0.75, 10.0), (0.0, 0.125), (1.0, 10.0)):
        clock.now += passed
        plugin.step(timeout)
    assert waits == pytest.approx([1.0, 0.25, 0.125, 0.0])


def test_a_tick_that_comes_late_delays_no_other(make: Make, clock: Clock) -> None:
    notes, began = make(Notes), clock.now
    notes.follow()
    for passed in (1.25, 1.75, 2.0, 5.5, 6.0, 6.5):
        clock.now = began + passed
        notes.step(0.0)
    assert [at - began for at in notes.ticks] == [1.25, 2.0, 5.5, 6.5], "those that were missed are not made up for"


def test_changes_gather_before_they_are_passed_on(make: Make, db: Database) -> None:
    class Gathering(Notes):
        gather = 0.1

    notes = make(Gathering)
    notes.start()
    began = time.monotonic()
    while time.monotonic() < began + 0.35:
        db.write("OAT", 1.0)
        time.sleep(0.001)
    assert notes.counts["batches"] <= 6
    assert notes.counts["conflated"] > 0


def test_in_a_replay_it_has_its_turn_when_changes_have_gathered(db: Database, clock: Clock) -> None:
    class Gathering(Notes):
        gather = 0.125

    adopted: list[Worker[Any]] = []
    with World(db, adopt=adopted.append, clock=clock).hosting():
        notes = Gathering("it", {})
    assert not notes.is_waiting()
    notes.start()
    assert adopted == [notes]
    began = clock.now
    waits: list[float] = []
    mailbox: Any = notes._mailbox
    wait = mailbox.wait

    def waiting(seconds: float) -> Any:
        waits.append(seconds)
        return wait(seconds)

    mailbox.wait = waiting
    assert notes.turn() == began + 0.125, "the first time with all readings"
    assert notes.turn() == began + 1.0, "its next tick"
    assert not notes.is_waiting()
    db.write("OAT", 1.0)
    assert not notes.is_waiting(), "others may follow"
    clock.now += 0.125
    assert notes.is_waiting()
    clock.now += 0.8125
    assert notes.turn() == began + 1.0
    assert not notes.is_waiting()
    assert waits == [0.0, 0.0], "nobody waits"
    notes.shutdown()


def test_it_ticks_without_following_any_key(make: Make, clock: Clock) -> None:
    class Ticks(Notes):
        FOLLOWS = ()
        tick_interval = 0.01
        look_interval = 0.005

    plugin = make(Ticks)
    plugin.clock = time.monotonic
    plugin.start()
    until(lambda: len(plugin.ticks) >= 3)
    assert plugin.heard == []


def test_the_options_can_determine_the_keys_that_it_follows(make: Make, db: Database) -> None:
    class Chosen(Notes):
        def follows(self) -> list[str]:
            return [self.config["key"], "EGT2*", self.config["key"]]

    plugin = make(Chosen, key="OAT")
    plugin.follow()
    plugin.step(0.0)
    assert plugin.heard == [{"OAT": 0.0, "EGT21": 0.0}], "each once"


def test_keys_that_do_not_exist_are_an_error_that_names_the_nearest(make: Make, db: Database) -> None:
    class Misspelt(Notes):
        FOLLOWS = ("OAT", "EGT1l", "CHT*")

    plugin = make(Misspelt)
    with pytest.raises(UnknownKey, match=r"no item .EGT1l. \(did you mean .EGT"):
        plugin.start()
    assert not plugin.running
    first, second = Misspelt.check(None, db)
    assert (first[0], second[0]) == ("", "")
    assert "EGT1l" in str(first[1])
    assert "CHT*" in str(second[1])
    assert list(Notes.check(None, db)) == []


def test_after_a_stop_it_receives_nothing(make: Make, db: Database) -> None:
    plugin = make(Notes)
    plugin.start()
    until(lambda: plugin.heard)
    begun = time.monotonic()
    plugin.shutdown()
    assert time.monotonic() - begun < 1.0
    assert all(not item._subscriptions for item in db.items())
    assert plugin.health() == "stopped"


@pytest.mark.parametrize("where", ["changed", "tick"])
def test_a_defect_ends_its_thread_and_is_reported(
    make: Make, db: Database, crashes: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plugin = make(Notes)
    monkeypatch.setattr(plugin, where, lambda *_: 1 / 0)
    monkeypatch.setattr(plugin, "tick_interval", 0.0)
    plugin.start()
    until(lambda: crashes)
    assert crashes == ["it: division by zero"]
    assert not plugin.running
    assert plugin.health() == plugin.get_status()["last error"] == "ZeroDivisionError: division by zero"


def test_it_gives_signs_of_life_while_idle(make: Make) -> None:
    plugin = make(Notes)
    plugin.look_interval = 0.01
    plugin.start()
    first = plugin.alive
    until(lambda: plugin.alive > first)


class Timed(threading.Event):
    """Records for how long it is waited for, does not wait, and is set after `limit` times."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) >= self.limit:
            self.set()
        return self.is_set()


def test_unless_a_plugin_says_otherwise_it_gathers_for_20_ms_and_shows_life_each_second(make: Make) -> None:
    looked: list[float] = []

    class Plain(Follower):
        def step(self, timeout: float) -> bool:
            looked.append(timeout)
            return len(looked) != 2

    plugin = make(Plain)
    plugin.stopping = Timed(2)
    plugin.work()
    assert plugin.stopping.waits == [0.02, 0.02], "only after changes"
    assert looked == [1.0, 1.0, 1.0]
    assert list(plugin.follows()) == []


def test_without_any_key_it_waits_for_its_tick(make: Make, clock: Clock) -> None:
    class Ticks(Notes):
        FOLLOWS = ()

    waits: list[float] = []

    def wait(seconds: float) -> tuple[()]:
        waits.append(seconds)
        return ()

    plugin = make(Ticks)
    plugin.follow()
    mailbox = plugin._mailbox
    mailbox.wait = wait
    for _ in range(2):
        assert not plugin.step(0.5)
    assert waits == [0.5, 0.5]


def test_a_tick_is_due_once_at_an_instant_at_which_two_would_be(make: Make, clock: Clock) -> None:
    notes, began = make(Notes), clock.now
    notes.follow()
    for passed in (2.0, 2.5, 2.75, 3.0):
        clock.now = began + passed
        notes.step(0.0)
    assert [at - began for at in notes.ticks] == [2.0, 3.0]


def test_what_it_writes_at_a_change_is_one_batch(make: Make, db: Database) -> None:
    ended: list[str] = []

    class Writes(Follower):
        FOLLOWS = ("OAT",)

        def changed(self, readings: dict[str, Reading]) -> None:
            assert self.db.batch.is_open
            ended.append("changed")

        def tick(self, now: float) -> None:
            assert not self.db.batch.is_open

    db.batch.on_end(lambda: ended.append("end"))
    plugin = make(Writes)
    plugin.tick_interval = 0.0
    plugin.follow()
    plugin.step(0.0)
    plugin.step(0.0)
    assert ended == ["changed", "end"]


def test_its_status_has_all_counters_from_the_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = make(Notes)
    counters = {"keys": 0, "batches": 0, "updates": 0, "conflated": 0}
    assert plugin.get_status() == {**counters, "last error": "not started"}
    monkeypatch.setattr(plugin, "running", True)
    assert plugin.get_status() == counters, "while it runs, the connection's health has it"


def test_a_stop_waits_neither_for_a_change_nor_for_a_tick(make: Make) -> None:
    class Patient(Notes):
        tick_interval = 600.0
        look_interval = 600.0

    plugin = make(Patient)
    plugin.start()
    until(lambda: plugin.heard)
    plugin.shutdown()
    assert not plugin._thread.is_alive()


def test_a_follower_that_hangs_receives_nothing_more(make: Make, db: Database) -> None:
    class Hangs(Notes):
        join_timeout = 0.05

    plugin = make(Hangs)
    plugin.held.clear()
    plugin.start()
    assert plugin.in_it.wait(5)
    with pytest.raises(PluginFail):
        plugin.stop()
    assert all(not item._subscriptions for item in db.items())
    plugin.held.set()


def test_in_a_replay_a_change_before_the_first_turn_does_not_wait(db: Database, clock: Clock) -> None:
    with World(db, adopt=lambda worker: None, clock=clock).hosting():
        notes = Notes("it", {})
    notes.start()
    db.write("OAT", 1.0)
    assert notes.is_waiting()
    notes.shutdown()


# -- workers -----------------------------------------------------------------------------------------------------------


class Worked(Worker):
    join_timeout: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls: list[str] = []
        self.go_on = threading.Event()
        self.error: BaseException | None = None

    def work(self) -> None:
        self.calls.append(threading.current_thread().name)
        self.count("rounds")
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        self.calls.append("finish")

    def wake(self) -> None:
        self.go_on.set()


def test_the_end_of_a_worker_is_told_to_its_gateway(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(Worker):
        def work(self) -> None:
            pass

    world, told, running = World(db), threading.Event(), [True]

    def poke() -> None:
        running[:] = [worker.running]
        told.set()

    monkeypatch.setattr(world, "poke", poke)
    with world.hosting():
        worker = Short("short", {})
    worker.start()
    assert told.wait(5)
    assert running == [False], "or the gateway would see nothing new"
    worker.shutdown()


def test_a_worker_that_cannot_release_what_it_used_has_ended_all_the_same(db: Database, crashes: list[str]) -> None:
    class Stuck(Worker):
        def work(self) -> None:
            assert self.running

        def finish(self) -> None:
            raise ValueError("it is stuck")

    told = threading.Event()
    with World(db, poke=told.set).hosting():
        worker = Stuck("stuck", {})
    worker.start()
    assert told.wait(5)
    worker.shutdown()
    assert not worker.running
    assert crashes == ["stuck: it is stuck"]


def test_a_worker_whose_work_is_done_says_what_it_was(make: Make) -> None:
    class Once(Worker):
        def work(self) -> None:
            self.done("the file is read")

    plugin = make(Once)
    assert plugin.alive is not None
    plugin.run()
    plugin._thread.join(5)
    assert plugin.health() == "the file is read"


def test_a_stop_waits_two_seconds_for_the_thread(make: Make) -> None:
    class Thread:
        waits: ClassVar[list[float]] = []

        def join(self, timeout: float) -> None:
            self.waits.append(timeout)

        def is_alive(self) -> bool:
            return not self.waits

    plugin = make(Worker)
    plugin._thread = Thread()
    plugin.stop()
    assert Thread.waits == [2.0]


def test_a_worker_complains_at_a_rate_limited_by_its_own_clock(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = make(Worked)
    for passed in (0.0, 9.0, 1.0):
        clock.now += passed
        plugin.complain("it hums")
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("fixgw.plugins.it", "it hums")] * 2


def test_the_status_of_a_worker_is_not_changed_by_what_it_counts_later(make: Make) -> None:
    plugin = make(Worked)
    plugin.count("rounds", 3)
    status = plugin.get_status()
    plugin.count("rounds")
    assert (status, plugin.get_status()) == ({"rounds": 3}, {"rounds": 4})


def test_in_a_replay_a_worker_has_no_thread_and_nobody_waits(db: Database) -> None:
    with World(db, adopt=lambda worker: None).hosting():
        plugin = Worked("replayed", {})
    plugin.start()
    assert plugin.running
    assert "replayed" not in {thread.name for thread in threading.enumerate()}
    begun = time.monotonic()
    assert plugin.stopping.wait(60.0) is False
    assert time.monotonic() - begun < 30.0
    plugin.shutdown()
    assert plugin.stopping.wait(60.0) is True
    assert plugin.calls == []


def test_a_worker_has_to_say_what_it_does() -> None:
    worker: Any = Worker("it", {})
    for missing in (worker.work, worker.turn):
        with pytest.raises(NotImplementedError):
            missing()
    assert worker.is_waiting() is False


def test_a_worker_that_hangs_keeps_no_process_alive(make: Make) -> None:
    worker = make(Notes, "hanging")
    worker.start()
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "hanging"] == [True]


def test_a_worker_runs_until_it_is_stopped(make: Make) -> None:
    plugin = make(Worked)
    assert plugin.health() == "not started"
    plugin.start()
    until(lambda: plugin.calls)
    assert (plugin.running, plugin.health(), plugin.get_status()) == (True, "", {"rounds": 1})
    plugin.shutdown()
    assert plugin.calls == ["it", "finish"]
    assert (plugin.running, plugin.health()) == (False, "stopped")
    plugin.stop()


def test_a_worker_whose_work_returns_is_not_running(make: Make) -> None:
    plugin = make(Worked)
    plugin.start()
    plugin.go_on.set()
    until(lambda: not plugin.running)
    assert plugin.health() == "its thread ended"


def test_a_worker_that_dies_at_once_never_counts_as_running(make: Make, crashes: list[str]) -> None:
    for number in range(50):
        plugin = make(Worked)
        plugin.error = ValueError(f"number {number}")
        plugin.go_on.set()
        plugin.start()
        until(lambda n=number: len(crashes) == n + 1)  # type: ignore[misc]
        assert not plugin.running
        assert plugin.health() == f"ValueError: number {number}"
        assert plugin.calls[-1] == "finish"


def test_a_worker_that_does_not_end_raises_plugin_fail(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = make(Worked)
    monkeypatch.setattr(plugin, "wake", lambda: None)
    plugin.start()
    with pytest.raises(PluginFail, match=r"it: its thread did not stop within 0\.2 s"):
        plugin.stop()
    plugin.go_on.set()


def test_a_worker_that_never_ran_is_stopped_at_once(make: Make) -> None:
    make(Worked).shutdown()
