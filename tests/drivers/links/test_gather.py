"""When a reader rests so that input can gather, by a clock that is wound by hand."""

from __future__ import annotations

import threading

import pytest

from fixgw.drivers.links.gather import Gather


class Reader:
    def __init__(self, seconds: float) -> None:
        self.now = 100.0
        self.rests: list[float] = []
        self.gather = Gather(seconds, lambda: self.now)
        self.stopping = threading.Event()
        self.stopping.wait = self.wait  # type: ignore[method-assign, assignment]

    def wait(self, seconds: float) -> bool:
        self.rests.append(seconds)
        self.now += seconds
        return False

    def read(self, after: float, arrived: bool = True) -> list[float]:
        """Read what arrives `after` so many seconds. Returns how long it has rested before."""
        self.rests.clear()
        self.gather.rest(self.stopping)
        self.now += after
        self.gather.note(arrived)
        return self.rests[:]


@pytest.mark.parametrize(("after", "rests"), [(0.0, [0.005]), (0.0099, [0.005]), (0.0101, [])])
def test_a_reader_rests_if_input_has_come_within_twice_that_time(after: float, rests: list[float]) -> None:
    reader = Reader(0.005)
    assert reader.read(after) == [], "the first is read at once"
    assert reader.read(1.0) == rests
    assert reader.read(0.0) == [], "what comes after a pause is read at once"


def test_the_rest_itself_is_part_of_that_time() -> None:
    reader = Reader(0.005)
    reader.read(0.0)
    assert reader.read(0.0049) == [0.005]
    assert reader.read(0.0051) == [0.005]
    assert reader.read(0.0) == []


def test_without_input_or_without_seconds_there_is_no_rest() -> None:
    reader = Reader(0.005)
    reader.read(0.0, arrived=False)
    assert reader.read(0.0) == []
    never = Reader(0.0)
    assert [never.read(0.0) for _ in range(3)] == [[]] * 3
