"""What a device says of a setting again and again is no news; what somebody sets is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fixgw.database import BAD, FAIL, INITIAL, KEPT, OLD, Database, Definition, Item
from fixgw.errors import BadValue

HEARSAY_S = 3.0  # as long may a device not have heard what was set


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., Item]


@pytest.fixture
def make(clock: Clock) -> Make:
    def make(**definition: Any) -> Item:
        return Database([Definition(**{"key": "BARO", "setting": True, **definition})], clock).item("BARO")

    return make


def wind(item: Item, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    item._database.age()


def test_a_repetition_waits_while_the_device_may_not_have_heard(make: Make, clock: Clock) -> None:
    item = make()
    item.report(29.92, "can/1")
    item.write(30.10, "panel")
    seen: list[object] = []
    item._database.subscribe("BARO", lambda key, reading: seen.append(reading.value))
    assert item.report(29.92, "can/1") is None
    assert item.report(29.95, "can/1") is None, "the echo of what was set before"
    assert [(r.source, r.value) for r in item.readings()] == [("panel", 30.10), ("can/1", 29.95)]
    wind(item, clock, 1.0)
    assert item.report(30.10, "can/1")
    wind(item, clock, 2 * HEARSAY_S)
    assert (item.said.value, item.said.source, seen) == (30.10, "can/1", [30.10])


def test_a_device_that_does_not_take_what_was_set_is_believed(make: Make, clock: Clock) -> None:
    item = make()
    item.report(29.92, "can/1")
    item.write(30.10, "panel")
    item.report(29.92, "can/1")
    wind(item, clock, HEARSAY_S - 0.1)
    item.write(30.20, "panel")
    wind(item, clock, 0.2)
    assert item.said.value == 30.20, "what is set meanwhile has its own time"
    wind(item, clock, HEARSAY_S)
    assert (item.said.value, item.said.source) == (29.92, "can/1")
    assert item.said_and_set()[1].value == 30.20
    item.write(30.30, "panel")
    wind(item, clock, 2 * HEARSAY_S)
    assert item.said.value == 30.30, "the device has said nothing since"


@pytest.mark.parametrize("tolerance", [0, 4000])
@pytest.mark.parametrize(("repeats", "ends_with"), [(True, 29.92), (False, 30.10)])
def test_of_two_devices_the_one_that_goes_on_speaking_is_believed(
    make: Make, clock: Clock, repeats: bool, ends_with: float, tolerance: int
) -> None:
    item = make(tolerance=tolerance)
    item.write(30.10, "panel")
    item.report(30.10, "can/1")
    assert item.report(29.92, "efis") is None
    wind(item, clock, 2.0)
    item.report(30.10, "can/1")
    if repeats:
        assert item.report(29.92, "efis") is None
    wind(item, clock, 1.0)
    assert item.said.value == 30.10, "which can/1 has just confirmed"
    wind(item, clock, 2.0)
    assert item.said.value == ends_with
    wind(item, clock, 2.0)
    assert item.said.value == ends_with, "whether it becomes old or not"


def test_a_report_ages(make: Make, clock: Clock) -> None:
    item = make(tolerance=2000)
    seen: list[bool] = []
    item._database.subscribe("BARO", lambda key, reading: seen.append(reading.old))
    item.report(29.92, "can/1")
    wind(item, clock, 2.0)
    assert seen == [False, True]


@pytest.mark.parametrize(("after", "is_news"), [(HEARSAY_S - 0.125, False), (HEARSAY_S, True)])
def test_a_repetition_is_believed_as_soon_as_the_device_must_have_heard(
    make: Make, clock: Clock, after: float, is_news: bool
) -> None:
    item = make()
    item.report(29.92, "can/1")
    item.write(30.10, "panel")
    clock.now += after
    assert (item.report(29.92, "can/1") is not None) is is_news
    assert [r.value for r in item.said_and_set()] == [29.92 if is_news else 30.10, 30.10]


@pytest.mark.parametrize(("after", "turned"), [(HEARSAY_S - 0.125, False), (HEARSAY_S, True)])
def test_another_value_is_news_as_soon_as_the_device_must_have_heard(
    make: Make, clock: Clock, after: float, turned: bool
) -> None:
    item = make()
    item.report(29.92, "can/1")
    item.write(30.10, "panel")
    clock.now += after
    assert (item.report(29.50, "can/1") is not None) is turned
    wind(item, clock, HEARSAY_S)
    assert item.said.value == 29.50
    assert item.said_and_set()[1].value == (29.50 if turned else 30.10)


def test_of_two_devices_the_one_that_was_set_last_stays(make: Make, clock: Clock) -> None:
    item = make()
    item.report(29.92, "can/1")
    item.report(29.92, "efis")
    item.write(30.10, "panel")
    for _ in range(20):
        wind(item, clock, 0.5)
        item.report(30.10, "can/1")
        item.report(29.92, "efis")
        assert item.said.value == 30.10
    item.report(29.50, "efis")
    assert item.said.value == 29.50, "its knob was turned"
    item.fail("no more", "efis")
    item.report(30.10, "can/1")
    assert item.said.value == 30.10, "what has failed protects nothing"


def test_without_waiting_it_is_published_but_not_as_set(make: Make, clock: Clock) -> None:
    item = make()
    item.write(30.10, "panel")
    assert item.report(29.92, "can/1", wait=False)
    said, last_set = item.said_and_set()
    assert (said.value, last_set.value) == (29.92, 30.10)
    item.flag(FAIL, FAIL, "can/1")
    assert item.said_and_set()[1].value == 30.10


def test_who_sets_the_same_as_the_device_says_has_set_it(make: Make, clock: Clock) -> None:
    item = make()
    item.write(30.10, "panel")
    item.report(29.92, "can/1", wait=False)
    item.write(29.92, "panel")
    assert {(r.value, r.source) for r in item.said_and_set()} == {(29.92, "panel")}
    item.report(29.90, "can/1", wait=False)
    item.write(29.80, "can/1")
    assert {r.value for r in item.said_and_set()} == {29.80}, "at the same instant"
    item.report(29.70, "can/1", wait=False)
    clock.now += 1
    item.write(29.70, "can/1")
    assert item.said_and_set()[1].stamp == clock.now


def test_a_device_that_rounds_confirms(make: Make, clock: Clock) -> None:
    item = make(wrap=360, min=0, max=360)
    item.write(359.96, "panel")
    reading = item.report(0.0, "can/1", step=0.1)
    assert reading is not None
    assert reading.value == 359.96
    assert item.report(0.1, "can/1", step=0.1), "its own source"
    assert item.said.value == 0.1


@pytest.mark.parametrize(("said", "is_confirmation"), [(10.5, True), (9.5, True), (10.75, False), (9.25, False)])
def test_what_is_within_half_of_the_smallest_step_confirms(make: Make, said: float, is_confirmation: bool) -> None:
    item = make(min=0, max=100)
    item.write(10.0, "panel")
    item.report(10.0, "can/1", step=1.0)
    item.report(said, "can/1", step=1.0)
    assert item.said.value == (10.0 if is_confirmation else said)


@pytest.mark.parametrize(("ulps", "is_confirmation"), [(0.9, True), (-0.9, True), (1.5, False), (-1.5, False)])
def test_what_a_float_of_four_bytes_cannot_tell_apart_confirms(make: Make, ulps: float, is_confirmation: bool) -> None:
    item = make()
    item.write(1000.0, "panel")
    item.report(1000.0, "can/1")
    said = 1000.0 * (1 + ulps * 2.0**-23)
    item.report(said, "can/1")
    assert item.said.value == (1000.0 if is_confirmation else said)


@pytest.mark.parametrize(("start", "is_set"), [(INITIAL, False), (KEPT, True)])
def test_the_first_word_of_a_device_is_news_if_it_differs_from_what_was_kept(
    make: Make, start: str, is_set: bool
) -> None:
    item = make()
    item.write(29.92, start)
    item.report(30.10, "can/1")
    assert (item.said_and_set()[1].value == 30.10) is is_set
    assert item.said.value == 30.10


def test_a_button_that_is_pressed_does_not_wait(make: Make) -> None:
    item = make(type="bool")
    item.report(False, "can/1")
    item.write(True, "display")
    assert item.report(False, "can/1") is None, "it only repeats"
    item.write(False, "display")
    assert item.report(True, "can/1")
    assert item.report(False, "can/1")


def test_what_waits_is_published_when_the_other_value_becomes_old(make: Make, clock: Clock) -> None:
    item = make(tolerance=2000)
    item.write(30.10, "panel")
    wind(item, clock, 1.0)
    item.report(29.92, "can/1")
    wind(item, clock, 1.5)
    assert (item.said.value, item.said.flags & OLD) == (29.92, 0)


def test_it_has_only_the_flags_that_it_speaks_of(make: Make) -> None:
    item = make()
    item.write(30.10, "panel", BAD, "no node")
    reading = item.report(30.10, "can/1", FAIL | OLD, "unplugged", FAIL | OLD)
    assert reading is not None
    assert dict(reading.reasons) == {BAD: "no node", FAIL: "unplugged"}
    assert item.writes == 2


def test_others_are_simply_written(make: Make) -> None:
    for other in ({"setting": False}, {"sources": ("panel", "can")}):
        item = make(**other)
        item.write(30.10, "panel")
        assert item.report(29.92, "can/1")
    with pytest.raises(BadValue):
        make().report("x", "can/1")
