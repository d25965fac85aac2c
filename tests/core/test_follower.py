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
    assert len(list(Misspelt.check(None, db))) == 2
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

    world, told = World(db), threading.Event()
    monkeypatch.setattr(world, "poke", told.set)
    with world.hosting():
        worker = Short("short", {})
    worker.start()
    assert told.wait(5)
    worker.shutdown()


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
