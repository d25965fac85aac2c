"""A gateway as its plugins see it, and the one that calls without a gateway go to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fixgw import clock as clocks
from fixgw import world
from fixgw.database import Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import PluginBase
from fixgw.world import World


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    assert world.first() is world.alone()
    yield
    assert world.first() is world.alone()


def test_a_plugin_belongs_to_the_world_in_which_it_is_created() -> None:
    a, b = World(Database([Definition(key="A")])), World(Database([Definition(key="B")]))
    made: list[PluginBase] = []
    with a.hosting():
        with b.hosting():
            made.append(PluginBase("x", {}))
        made.append(PluginBase("x", {}))
        other = threading.Thread(target=lambda: made.append(PluginBase("x", {})))
        other.start()
        other.join()
    assert [plugin._gateway for plugin in made] == [b, a, world.first()]
    assert made[0].db_list() == ["B"]


def test_of_the_worlds_that_run_the_one_that_knows_the_thread_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def mine(args: threading.ExceptHookArgs) -> bool:
        told.append(str(args.exc_value))
        return True

    bystander, concerned, later = World(), World(thread_died=mine), World(thread_died=mine)
    for each in (bystander, concerned, later):
        world.begin(each)
    try:
        for error in (RuntimeError("enough"), SystemExit("as it wished")):
            thread = threading.Thread(target=_raise, args=(error,), name="the one")
            thread.start()
            thread.join()
    finally:
        for each in (later, concerned, bystander):
            world.end(each)
    assert told == ["enough"]
    assert caplog.text.count("the one died") == 1


def _raise(error: BaseException) -> None:
    raise error


def test_calls_without_a_gateway_go_to_the_running_one_that_began_first() -> None:
    one, two = World(), World()
    hook = threading.excepthook
    world.end(one)  # it has not begun
    for act, which, first in (
        *((world.begin, one, one), (world.begin, two, one), (world.end, one, two), (world.end, one, two)),
        *((world.begin, one, two), (world.end, one, two), (world.end, two, world.alone())),
    ):
        act(which)
        assert world.first() is world.new_plugins_world() is first
        assert (threading.excepthook is hook) == (first is world.alone()), "as long as one runs"


@pytest.mark.parametrize(
    ("error", "thread"), [(None, threading.Thread()), (ValueError("x"), None), (SystemExit(), threading.Thread())]
)
def test_a_thread_that_nobody_knows_or_that_ended_as_it_wished_is_not_told(
    error: BaseException | None, thread: threading.Thread | None, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[threading.ExceptHookArgs] = []

    def note(args: threading.ExceptHookArgs) -> bool:
        told.append(args)
        return True

    running = World(thread_died=note)
    world.begin(running)
    try:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, None, thread)))
    finally:
        world.end(running)
    assert told == []
    assert caplog.messages == []


def test_a_world_has_the_clocks_that_it_is_given(clock: Clock) -> None:
    usual, database = World(), Database([Definition(key="A")], clock)
    assert usual.clock is clocks.now
    given = World(database, clock=clock)
    assert given.clock is clock
    assert given.history.read(["A"]).newest == pytest.approx(clock.now, abs=0.5)
