"""The gateway's clock, and how a thread notices that it was held up."""

from __future__ import annotations

import time
from functools import partial

from fixgw import clock as clocks
from fixgw.clock import HoldUp
from fixgw.hw_sim.bench.clock import Clock


def test_it_counts_while_the_computer_is_suspended() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clocks.now() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert isinstance(clocks.now, partial)
    assert clocks.now.args == (time.CLOCK_BOOTTIME,)


def test_a_hold_up_is_noticed_once(clock: Clock) -> None:
    hold_up = HoldUp(clock)
    assert not hold_up.noticed(0.2), "the first round"
    for late, noticed in ((0.2, False), (1.19, False), (1.21, True), (0.2, False), (60.0, True)):
        clock.now += late
        assert hold_up.noticed(0.2) is noticed, late
    clock.now += 1.5
    assert not hold_up.noticed(0.5), "much more is more than a second more"


def test_no_data_can_have_waited_on_a_line_that_has_just_been_opened(clock: Clock) -> None:
    hold_up = HoldUp(clock)
    hold_up.noticed(0.2)
    clock.now += 60.0
    hold_up.reset()
    clock.now += 1.0
    assert not hold_up.noticed(0.2)
