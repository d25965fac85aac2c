"""The status tree: any status of a plugin becomes valid JSON of limited size."""

from __future__ import annotations

import datetime
import enum
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import status, world
from fixgw.world import World

MAX_ENTRIES, MAX_TEXT_LENGTH, MAX_DEPTH = 1000, 2000, 8  # of each mapping or list, text, and tree
MAX_TREE_VALUES, MAX_TREE_TEXT = 10_000, 1_000_000  # so that a status fits into one answer


class Mode(enum.IntEnum):
    CRUISE = 3


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
)


@pytest.mark.slow
@given(ANYTHING)
def test_any_status_of_a_plugin_becomes_valid_json(value: Any) -> None:
    plain = status.plain(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        pytest.param(10**5000, "a huge number", id="huge"),
        (2**64 - 1, 2**64 - 1),
        (2**64, "a huge number"),
        (True, True),
        (bytearray(b"x"), "bytearray(b'x')"),
        (math.nan, None),
        (Mode.CRUISE, 3),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ({1: {2.5}}, {"1": [2.5]}),
        (int, "<class 'int'>"),
    ],
)
def test_values_that_json_cannot_hold_are_approximated(value: Any, plain: Any) -> None:
    assert status.plain(value) == plain


def test_the_order_of_a_status_is_kept() -> None:
    assert list(status.plain(OrderedDict(z=1, a=2, m=3))) == ["z", "a", "m"]


def test_the_size_of_a_status_is_limited() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    assert len(json.dumps(status.plain(endless))) < 1000
    assert len(status.plain("x" * 100_000)) == MAX_TEXT_LENGTH + 1
    assert len(status.plain(range(100_000))) < MAX_TEXT_LENGTH
    for size in (MAX_ENTRIES, MAX_ENTRIES + 1, 100_000):
        cut = [status.CUT] if size > MAX_ENTRIES else []
        kept = list(range(min(size, MAX_ENTRIES)))
        assert status.plain(list(range(size))) == kept + cut
        assert list(status.plain(dict.fromkeys(range(size)))) == [*map(str, kept), *cut]


@pytest.fixture
def provided() -> Iterator[None]:
    running = World(status=lambda: {"health": "ok", "connections": {"gps": {"fix": None, "used": [3, {"snr": 40}]}}})
    world.begin(running)
    yield
    world.end(running)


@pytest.mark.usefixtures("provided")
def test_a_status_is_printed_as_indented_lines() -> None:
    assert status.get_string().split("\n") == [
        "health: ok",
        "connections:",
        "  gps:",
        "    fix: ",
        "    used:",
        "      0: 3",
        "      1:",
        "        snr: 40",
    ]
    assert status.get_string({}) == ""
    assert status.get_string({"a": [None]}) == "a:\n  0: "


def test_without_a_gateway_there_is_no_status() -> None:
    assert status.get_dict() == {}
    assert status.get_string() == ""


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"a": {}},
        {"a": {"b": {"c": {"d": [1, 2.5, None, "ä\n"]}}}, "b": True},
        {1: {"a": 2}},
        {"a": {None: 1}},
        [{}],
    ],
)
def test_a_status_that_is_written_branch_by_branch_is_the_same(tree: Any) -> None:
    assert status.dump(tree) == json.dumps(tree)
    assert status.dump({"when": Path("x")}) == '{"when": "x"}'


def test_trees_that_need_more_than_their_part_share_what_the_others_leave() -> None:
    text = {"long": ["x" * MAX_TEXT_LENGTH] * 500}
    shared = status.share({"text": (text, 1.0), "small": ({"a": 1}, 0.1), "more text": (text, 1.0)})
    assert shared["small"] == {"a": 1}
    for name in ("text", "more text"):
        size = len(json.dumps(shared[name]))
        assert size == pytest.approx(0.45 * MAX_TREE_TEXT, rel=0.05), name
    values = {"many": [[0] * 999] * 9}
    shared = status.share({"values": (values, 0.9), "text": (text, 1.0)})
    assert json.dumps(shared["values"]).count("0,") == pytest.approx(0.5 * MAX_TREE_VALUES, rel=0.05)
    assert status.share({"alone": (values, 0.9)}) == {"alone": values}


# -- collecting it for clients -----------------------------------------------------------------------------------------


class Pauses:
    """Stands for the event of a `Collector` that stops, and notes how long it waits."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.stopped = False

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def is_set(self) -> bool:
        return self.stopped

    def set(self) -> None:
        self.stopped = True


def test_collecting_rests_for_a_hundred_times_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([1.0, 1.004, 2.0, 2.5])
    monkeypatch.setattr(time, "thread_time", lambda: next(costs))
    done = threading.Event()
    trees: Iterator[dict[str, Any]] = iter([{"n": 1}])
    collector = status.Collector(lambda: next(trees), done.set)
    collector._stopping = pauses = Pauses()  # type: ignore[assignment]
    for number, answer in ((1, {"n": 1}), (2, {"health": "failed"})):
        assert collector.ask() == number
        assert done.wait(10)
        done.clear()
        assert collector.answered == number
        assert answer.items() <= collector.tree.items()
        assert json.loads(collector.result) == collector.tree
    assert collector.tree["summary"] == "cannot collect the status: StopIteration()"
    collector.stop()
    assert collector._thread is not None
    collector._thread.join(10)
    assert pauses.seconds == pytest.approx([0.4, 1.0])


def test_those_who_ask_meanwhile_get_the_next_tree_together() -> None:
    entered, gate, done = threading.Event(), threading.Event(), threading.Semaphore(0)

    def collect() -> dict[str, Any]:
        entered.set()
        assert gate.wait(10)
        return {}

    collector = status.Collector(collect, done.release)
    collector.stop()
    assert collector._thread is None
    collector = status.Collector(collect, done.release)
    assert (collector.tree, collector.result, collector.answered) == ({}, "", 0)
    assert collector.ask() == 1
    thread = collector._thread
    assert thread is not None
    assert thread.daemon, "a plugin that hangs does not keep the process alive"
    assert entered.wait(10)
    assert [collector.ask(), collector.ask()] == [2, 3]
    assert collector._thread is thread
    gate.set()
    assert done.acquire(timeout=10)
    assert done.acquire(timeout=10)
    assert collector.answered == 3
    collector.stop()
    thread.join(10)
    assert not thread.is_alive()


# -- how much a tree may contain ---------------------------------------------------------------------------------------


def test_what_a_budget_has_spent() -> None:
    budget = status.Budget(10, 100)
    assert (budget.used, budget.spent) == (0.0, False)
    assert status.Budget().given == (MAX_TREE_VALUES, MAX_TREE_TEXT)
    budget.values, budget.text = 5, 90
    assert budget.used == 0.5
    budget.text = 20
    assert budget.used == pytest.approx(0.8)
    budget.values, budget.text = 1, 1
    assert not budget.spent
    budget.values = 0
    assert budget.spent
    budget.values, budget.text = 1, 0
    assert budget.spent
    assert status.Budget(0, 5).used == status.Budget(5, 0).used == 1.0


def test_text_is_cut_when_the_budget_ends() -> None:
    budget = status.Budget(10, 5)
    assert [budget.cut("abc"), budget.cut("de"), budget.cut(""), budget.cut("f"), budget.cut("long")] == [
        *("abc", "de", "", "…", "…")
    ]
    assert status.Budget(10, 5).cut("abcdef") == "abcde…"
    assert status.Budget().cut("x" * MAX_TEXT_LENGTH) == "x" * MAX_TEXT_LENGTH
    assert status.plain(b"x" * 3000) == ("b'" + "x" * 3000)[:MAX_TEXT_LENGTH] + "…"


def test_a_tree_ends_where_its_values_are_spent() -> None:
    assert status.plain([1, 2, 3], status.Budget(3)) == [1, 2, "…"]
    assert status.plain({"a": 1, "b": 2, "c": 3}, status.Budget(3)) == {"a": 1, "b": 2, "…": "…"}
    assert status.plain([1, 2], status.Budget(4)) == [1, 2]
    assert status.plain({"abc": 1, "de": 2}, status.Budget(9, 3)) == {"abc": 1, "…": "…"}


def test_a_tree_is_at_most_eight_deep() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert status.plain(deep) == deep
    assert json.dumps(status.plain([deep]), ensure_ascii=False) == "[" * 8 + '"…"' + "]" * 8
    twice = [1]
    assert status.plain([twice, twice]) == [[1], [1]], "beside itself, not in itself"


@pytest.mark.parametrize(("failures", "found"), [(2, [1, 2]), (3, ["…"])])
def test_what_another_thread_changes_is_looked_at_three_times(failures: int, found: list[Any]) -> None:
    class Changing(list[int]):
        left = failures

        def __iter__(self) -> Iterator[int]:
            if self.left:
                self.left -= 1
                raise RuntimeError("changed size during iteration")
            return super().__iter__()

    assert status.plain(Changing([1, 2])) == found


def test_trees_that_share_stay_in_their_order() -> None:
    trees = {"b": ({"n": 1}, 0.4), "a": ({"n": 2}, 0.1), "c": ({"n": 3}, 0.5)}
    assert list(status.share(trees).items()) == [("b", {"n": 1}), ("a", {"n": 2}), ("c", {"n": 3})]
    assert status.share({}) == {}


def test_a_tree_that_has_its_share_is_not_cut_again() -> None:
    full = {"texts": ["x" * MAX_TEXT_LENGTH] * 600}
    assert status.share({"alone": (full, 1.0)})["alone"] is full
    halves = status.share({"a": (full, 0.5), "b": (full, 0.5)})
    assert halves["a"] is halves["b"] is full


def test_a_branch_below_the_third_level_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[Any] = []
    rests: list[float] = []
    dumps = json.dumps
    monkeypatch.setattr(time, "sleep", rests.append)

    def noted(value: Any, **options: Any) -> str:
        if isinstance(value, dict):
            whole.append(value)
        return dumps(value, **options)

    monkeypatch.setattr(json, "dumps", noted)
    assert status.dump({"a": {"b": {"c": {"d": {"e": 1}}}}}) == '{"a": {"b": {"c": {"d": {"e": 1}}}}}'
    assert whole == [{"d": {"e": 1}}]
    assert status.dump({"a": {"b": 1, "c": [2]}, "d": 3}) == '{"a": {"b": 1, "c": [2]}, "d": 3}'
    assert rests == [0] * 4, "between branches, other threads may run"
