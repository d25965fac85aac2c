"""A stepper runs the plugins of a configuration on one thread, on a clock that its caller sets."""

from __future__ import annotations

import gc
import json
import textwrap
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fixgw import configuration
from fixgw.configuration import Configuration, Connection
from fixgw.errors import FixgwError, Problem
from fixgw.identity import identity
from fixgw.kit.raw import Heard
from fixgw.plugin import Worker
from fixgw.stepper import NOTHING_THERE, Stepper, explain, may_replay

MAX_TURNS = MAX_RESTLESS = 100

SENSOR = """\
connections:
  sensor:
    module: fixgw.drivers.lines
    port: /dev/ttyUSB7
    lines: [{fields: {OILT1: {from: 1}}}]
  compute:
    module: fixgw.plugins.compute
    functions: [{function: sum, inputs: [OILT1, OILT1], output: FUELQT}]
  netfix: {module: fixgw.plugins.netfix}
"""


@pytest.fixture
def stepper(tmp_path: Path) -> Any:
    path = tmp_path / "default.yaml"
    path.write_text(textwrap.dedent(SENSOR))
    made = Stepper(configuration.load(path), 1000.0)
    made.start()
    yield made
    made.stop()


def say(stepper: Stepper, text: bytes) -> None:
    stepper.feed("sensor").entries.append(Heard("sensor", stepper.now, "in", text))
    stepper.turn("sensor")
    stepper.settle()


def test_nothing_is_connected_until_somebody_connects_it(stepper: Stepper) -> None:
    stepper.settle()
    sensor: Any = stepper.plugins["sensor"]
    assert NOTHING_THERE in sensor.health()
    assert stepper.failed == {}
    assert stepper.left_out == {"netfix": "fixgw.plugins.netfix is no part of a replay"}


def test_a_stepper_leads_under_a_name_that_is_always_the_same(stepper: Stepper) -> None:
    assert stepper.world.quorum.leader is True
    assert identity(stepper.db) == "stepped-000000"
    assert identity(Stepper(stepper.configuration, 0.0, name="panel").db) == "panel-000000"


def test_a_link_has_one_feed_which_takes_what_is_sent() -> None:
    sent: list[tuple[str, Any]] = []

    def take(link: str, data: Any) -> bool:
        sent.append((link, data))
        return len(sent) < 2

    stepper = noted(sent=take, absent="not here")
    assert stepper.feeds == {}
    feed = stepper.feed("gps")
    assert feed.trouble == "not here"
    feed.trouble = ""
    assert stepper.feed("gps") is feed
    assert stepper.feed("gps").trouble == ""
    assert [feed.sent(b"a"), feed.sent(b"b")] == [True, False]
    assert sent == [("gps", b"a"), ("gps", b"b")]
    assert stepper.feeds == {"gps": feed}
    assert noted().feed("gps").sent(b"a") is None, "by default, whoever asks learns nothing"


def test_a_plugin_has_options_of_its_own() -> None:
    stepper = noted("a:finish")
    stepper.start()
    plugin: Any = stepper.plugins["a"]
    plugin.config["more"] = 1
    assert stepper.configuration.connections[0].options == {"finish": True}


def test_the_date_is_that_of_the_clock_unless_another_is_given(stepper: Stepper) -> None:
    assert stepper.world.utc() == datetime(1970, 1, 1, 0, 16, 40, tzinfo=UTC)
    then = datetime(2026, 5, 4, tzinfo=UTC)
    assert Stepper(stepper.configuration, 1000.0, utc=lambda: then).world.utc() == then


def test_values_come_are_computed_with_and_age_when_they_are_due(stepper: Stepper) -> None:
    threads = threading.active_count()
    aged: list[float] = []
    stepper.db.subscribe("OILT1", lambda key, reading: aged.append(stepper.now) if reading.old else None)
    stepper.settle()
    stepper.feed("sensor").trouble = ""
    stepper.pass_until(1001.0)  # the driver tries again
    say(stepper, b"\n90\n")
    stepper.pass_until(1001.1)
    assert stepper.db.read("OILT1").value == 90
    assert stepper.db.read("FUELQT").value == 180
    tolerance = stepper.db.item("OILT1").tolerance
    stepper.pass_until(1001.0 + tolerance - 0.01)
    assert stepper.db.read("OILT1").good
    stepper.pass_until(1001.0 + tolerance + 0.01)
    assert stepper.db.read("OILT1").old
    assert aged == [pytest.approx(1001.0 + tolerance, abs=2e-6)], "and whoever follows it is told at that time"
    assert threading.active_count() == threads


def test_a_timer_comes_before_the_workers_and_time_never_goes_back(stepper: Stepper) -> None:
    times: list[float] = []
    stepper.every(0.25, lambda: times.append(stepper.now))
    stepper.pass_until(1001.0)
    assert times == [1000.25, 1000.5, 1000.75]
    stepper.set_clock(1000.5)
    assert stepper.now == 1001.0


@pytest.mark.parametrize("defect", [ZeroDivisionError, SystemExit])
def test_a_defect_is_noted_and_the_others_continue(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch, defect: type[BaseException]
) -> None:
    def fail(data: bytes) -> bool:
        raise defect

    stepper.settle()
    stepper.feed("sensor").trouble = ""
    stepper.pass_until(1001.0)
    monkeypatch.setattr(stepper.plugins["sensor"], "received", fail)
    stepper.db.write("POWER_FAIL", False, "sensor")  # which never ages
    say(stepper, b"\n90\n")
    assert defect.__name__ in stepper.failed["sensor"]
    assert stepper.db.read("POWER_FAIL").old
    stepper.pass_until(1010.0)
    assert "compute" not in stepper.failed


def test_a_driver_that_always_has_something_to_do_fails_instead_of_holding_up_the_clock(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper.feed("sensor").trouble = ""
    monkeypatch.setattr(stepper.plugins["sensor"], "poll_by", lambda: 0.0)
    stepper.pass_until(1000.1)
    assert "poll_by" in stepper.failed["sensor"]


def test_a_plugin_that_cannot_stop_is_noted_and_the_others_stop(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepper.plugins["compute"], "stop", lambda: 1 // 0)
    stepper.stop()
    assert "stop: ZeroDivisionError" in stepper.failed["compute"]
    assert not stepper.plugins["sensor"].running


class Noted(Worker):
    """Notes what is done with it; `options` say what fails."""

    acts: ClassVar[list[str]] = []

    def run(self) -> None:
        if "run" in self.config:
            raise FixgwError("it cannot run")
        self.acts.append(f"{self.name} runs")
        super().run()

    def turn(self) -> float:
        self.acts.append(f"{self.name} turns")
        return self.clock() + 1.0

    def stop(self) -> None:
        self.acts.append(f"{self.name} stops")
        super().stop()

    def finish(self) -> None:
        self.acts.append(f"{self.name} finishes")
        if "finish" in self.config:
            raise SystemExit("unfinished")


def noted(*names: str, **more: Any) -> Stepper:
    """A stepper with these connections, ``b:run`` for one whose `run` fails."""
    Noted.acts.clear()
    pairs = [name.partition(":")[::2] for name in names]
    made = tuple(Connection(name=n, module="m", plugin=Noted, options={f: True} if f else {}) for n, f in pairs)
    whole = Configuration(file=Path("x"), directory=Path("."), connections=made, unloaded=more.pop("unloaded", {}))
    whole = replace(whole, refused=more.pop("refused", {}))
    return Stepper(whole, 1000.0, refuse=more.pop("refuse", lambda connection: ""), **more)


def test_the_life_of_all_plugins_in_its_order() -> None:
    stepper = noted("a", "b:run", "c:finish")
    stepper.start()
    assert stepper.failed == {"b": "it cannot run"}
    assert list(stepper.tasks) == ["a", "c"]
    stepper.settle()
    stepper.turn("a")
    stepper.turn("b")
    stepper.stop()
    assert Noted.acts == [
        *("a runs", "c runs", "a turns", "c turns", "a turns"),
        *("c stops", "b stops", "a stops", "a finishes", "c finishes"),
    ]
    assert stepper.failed["b"] == "it cannot run"
    assert stepper.failed["c"].startswith("stop: SystemExit: unfinished at test_stepper.py:")
    assert "a" not in stepper.failed


def test_one_that_ended_by_itself_is_told_with_its_reason() -> None:
    stepper = noted("a", "b", "c")
    stepper.start()
    stepper.settle()
    for name, trouble in (("a", "its thread ended"), ("b", "")):
        plugin: Any = stepper.plugins[name]
        plugin.running, plugin._trouble = False, trouble
    stepper.stop()
    assert stepper.failed == {"a": "its thread ended", "b": "it has stopped"}


def test_what_does_not_run_is_told_with_its_reason() -> None:
    problem = Problem("f", 1, 2, "no port")
    stepper = noted(
        "a",
        "b",
        unloaded={"c": "load: no", "d": "safe mode"},
        refused={"e": (problem, Problem("f", 3, 4, "x")), "g": ()},
        refuse=lambda connection: "not today" if connection.name == "b" else "",
    )
    stepper.start()
    assert stepper.left_out == {"d": "safe mode", "e": str(problem), "g": "it has a problem", "b": "not today"}
    assert list(stepper.plugins) == ["a"]


def test_only_who_says_so_may_take_part_in_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    (connection,) = noted("a").configuration.connections
    assert may_replay(connection) == "m is no part of a replay"
    monkeypatch.setattr(Noted, "replays", True)
    assert may_replay(connection) == ""


def test_only_a_turn_that_makes_sense_is_given() -> None:
    stepper = noted("a", "b", may_turn=lambda worker: worker.name == "b")
    stepper.start()
    stepper.pass_until(1002.5)
    assert [done for done in Noted.acts if "turns" in done] == ["b turns"] * 3


class Paced(Worker):
    """Has its turns when `next` says; notes their times."""

    next: Callable[[float], float]

    def turn(self) -> float:
        self.times.append(self.clock())
        return self.next(self.clock())

    def __post_init__(self) -> None:
        super().__post_init__()
        self.times: list[float] = []


def paced(next_turn: Any) -> tuple[Stepper, Paced]:
    connection = Connection(name="a", module="m", plugin=Paced, options={})
    whole = Configuration(file=Path("x"), directory=Path("."), connections=(connection,))
    stepper = Stepper(whole, 1000.0, refuse=lambda connection: "")
    stepper.start()
    worker: Any = stepper.plugins["a"]
    worker.next = next_turn
    return stepper, worker


def test_a_turn_is_at_its_time_in_whole_microseconds() -> None:
    stepper, worker = paced(lambda now: now + 0.0000014)
    stepper.settle()
    stepper.pass_until(1000.0000061)
    assert worker.times == [1000.0, 1000.000002, 1000.000004, 1000.000006]
    assert stepper.now == 1000.0000061
    stepper, worker = paced(lambda now: 1000.5 if now < 1000.5 else float("inf"))
    stepper.settle()
    stepper.pass_until(1000.5)
    assert worker.times == [1000.0], "what is due at the end is left to `settle`"
    stepper.settle()
    assert worker.times == [1000.0, 1000.5]


def test_a_worker_has_so_many_turns_at_an_instant_and_so_many_instants_in_a_row() -> None:
    stepper, worker = paced(lambda now: now)
    for _ in range(2):
        stepper.settle()
        assert len(worker.times) == MAX_TURNS
    stepper.pass_until(1000.0001)
    assert stepper.failed == {}
    assert len(worker.times) == MAX_TURNS * MAX_RESTLESS
    stepper.settle()
    assert len(worker.times) == MAX_TURNS * (MAX_RESTLESS + 1)
    assert stepper.failed == {"a": "it has something to do without an end: see `poll_by` and `is_waiting`"}
    assert stepper.tasks == {}


def test_who_rests_in_between_may_be_busy_again() -> None:
    stepper, worker = paced(lambda now: now if now % 1.0 < 0.00006 else float(int(now + 1)))
    stepper.settle()
    stepper.pass_until(1004.5)
    assert stepper.failed == {}
    assert len(worker.times) > 4 * 50 * MAX_TURNS


def test_the_instants_are_counted_from_the_last_rest() -> None:
    stepper, worker = paced(lambda now: 1001.0 if now < 1001.0 else now)
    stepper.settle()
    stepper.pass_until(1001.5)
    assert [*stepper.failed] == ["a"]
    assert len(worker.times) == 1 + MAX_TURNS * (MAX_RESTLESS + 1)


def test_who_rests_for_a_microsecond_is_not_restless() -> None:
    """It is as busy as it may be at every second microsecond."""
    stepper, worker = paced(lambda now: now if round(now * 1e6) % 2 == 0 else now + 0.000001)
    stepper.settle()
    stepper.pass_until(1000.0004)
    assert stepper.failed == {}
    assert len(worker.times) > MAX_TURNS * MAX_RESTLESS


def test_a_worker_for_which_something_waits_has_its_turn_at_once() -> None:
    waiting: list[int] = []
    looks: list[float] = []

    class Waiting(Paced):
        def is_waiting(self) -> bool:
            looks.append(self.clock())
            return bool(waiting)

        def turn(self) -> float:
            waiting.clear()
            return super().turn()

    connection = Connection(name="a", module="m", plugin=Waiting, options={})
    whole = Configuration(file=Path("x"), directory=Path("."), connections=(connection,))
    stepper = Stepper(whole, 1000.0, refuse=lambda connection: "")
    stepper.start()
    worker: Any = stepper.plugins["a"]
    worker.next = lambda now: now + 10.0
    stepper.settle()
    stepper.set_clock(1001.0)
    stepper.settle()
    assert worker.times == [1000.0]
    assert looks.count(1001.0) == 1, "an instant at which nothing is to do costs one look"
    waiting.append(1)
    stepper.settle()
    assert worker.times == [1000.0, 1001.0]


def test_timers_are_called_at_their_times_and_the_clock_is_told_of() -> None:
    stepper, worker = paced(lambda now: now + 0.5)
    seen: list[tuple[str, float]] = []
    stepper.moving = lambda: seen.append(("moving", stepper.now))
    stepper.every(0.5, lambda: seen.append(("timer", stepper.now)))
    stepper.settle()
    stepper.pass_until(1000.75)
    assert seen == [("moving", 1000.0), ("timer", 1000.5), ("moving", 1000.5)]
    assert worker.times == [1000.0, 1000.5]
    stepper.set_clock(1000.75)
    assert len(seen) == 3, "it has not moved"


@pytest.mark.parametrize(
    ("error", "words"),
    [(FixgwError("no port"), "no port"), (ValueError("a defect"), "ValueError: a defect")],
)
def test_an_error_that_was_never_raised_is_explained_too(error: Exception, words: str) -> None:
    assert explain(error) == words


def test_one_that_has_stopped_is_forgotten(tmp_path: Path) -> None:
    """A campaign makes hundreds of them in one process."""
    path = tmp_path / "default.yaml"
    path.write_text(textwrap.dedent(SENSOR))
    stepper = Stepper(configuration.load(path), 1000.0)
    stepper.start()
    stepper.feed("sensor").trouble = ""
    stepper.pass_until(1001.0)
    stepper.stop()
    database = weakref.ref(stepper.db)
    del stepper
    gc.collect()
    assert database() is None


def test_what_was_due_before_the_clock_was_set_comes_at_the_next_whole_microsecond() -> None:
    stepper, worker = paced(lambda now: 1000.1 if now < 1000.1 else float("inf"))
    stepper.settle()
    stepper.set_clock(1000.5000003)
    stepper.pass_until(1001.0)
    assert worker.times == [1000.0, 1000.500001]


def test_timers_have_periods_of_their_own_whatever_else_is_due() -> None:
    stepper, worker = paced(lambda now: now + 0.25)
    seen: list[tuple[str, float]] = []
    stepper.every(0.5, lambda: seen.append(("often", stepper.now)))
    stepper.every(0.75, lambda: seen.append(("seldom", stepper.now)))
    stepper.settle()
    stepper.pass_until(1001.75)
    assert seen == [
        ("often", 1000.5),
        ("seldom", 1000.75),
        ("often", 1001.0),
        *(("often", 1001.5), ("seldom", 1001.5)),
    ]
    assert worker.times == [1000.0 + n / 4 for n in range(7)]


def test_one_that_is_stopping_has_no_more_turns() -> None:
    stepper = noted("a", "b")
    stepper.start()
    stepper.tasks["a"].worker.stopping.set()
    stepper.pass_until(1001.5)
    assert [done for done in Noted.acts if "turns" in done] == ["b turns"] * 2


def test_a_plugin_has_the_meta_and_the_source_of_its_connection() -> None:
    stepper = noted()
    (connection,) = noted("a").configuration.connections
    meta: Any = object()
    connection = replace(connection, meta=meta, source="sim/a")
    stepper.configuration = replace(stepper.configuration, connections=(connection,))
    stepper.start()
    plugin: Any = stepper.plugins["a"]
    assert plugin.config_meta is meta
    assert plugin.source == "sim/a"


@pytest.mark.parametrize("defect", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("act", ["run", "stop", "finish"])
def test_whatever_a_plugin_raises_keeps_no_other_from_its_life(
    monkeypatch: pytest.MonkeyPatch, defect: type[BaseException], act: str
) -> None:
    stepper = noted("a", "b")
    usual = getattr(Noted, act)

    def fail(self: Noted) -> None:
        if self.name == "a":
            raise defect
        usual(self)

    monkeypatch.setattr(Noted, act, fail)
    stepper.start()
    stepper.stop()
    assert list(stepper.failed) == ["a"]
    assert ("stop: " in stepper.failed["a"]) == (act != "run")
    assert defect.__name__ in stepper.failed["a"]
    assert {"b runs", "b stops", "b finishes"} <= {*Noted.acts}


def test_the_first_failure_of_a_plugin_is_the_one_that_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "fixgw.stepper")
    for act in ("stop", "finish"):
        monkeypatch.setattr(Noted, act, lambda self: 1 // 0)
    monkeypatch.setattr(Noted, "turn", lambda self: [].pop())
    stepper = noted("a")
    stepper.start()
    stepper.settle()
    (record,) = caplog.records
    assert record.getMessage() == "a failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is IndexError
    stepper.stop()
    assert list(stepper.failed) == ["a"]
    assert stepper.failed["a"].startswith("IndexError: ")


def test_a_defect_is_explained_with_the_line_that_raised_it() -> None:
    def fail() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as caught:
        fail()
    line = fail.__code__.co_firstlineno + 1
    assert explain(caught.value) == f"ValueError: here at test_stepper.py:{line}"
    with pytest.raises(json.JSONDecodeError) as deep:
        json.loads("x")
    assert explain(deep.value).endswith(f" at decoder.py:{deep.traceback[-1].lineno + 1}")
