"""The meaning of edges, without pins, threads or clocks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.gpio.protocol import (
    SHORT_PRESS_S,
    Acceleration,
    Action,
    Button,
    Contacts,
    Debouncer,
    Knob,
    KnobEdge,
    PulseRate,
    Quadrature,
    add_within,
    duty,
    position,
)

# -- debouncing --------------------------------------------------------------------------------------------------------


def test_a_level_counts_once_it_has_been_stable() -> None:
    debouncer = Debouncer(0.02, False)
    debouncer.feed(1.0, True)
    assert debouncer.due == pytest.approx(1.02)
    assert not debouncer.tick(1.019)
    assert debouncer.tick(1.021)
    assert debouncer.level is True
    assert debouncer.due is None
    assert not debouncer.tick(9.0)


def test_a_level_that_is_reported_again_does_not_restart_the_wait() -> None:
    debouncer = Debouncer(0.25, 7)
    for now in (1.0, 1.125, 1.2):
        debouncer.feed(now, 8)
    assert debouncer.due == 1.25
    assert debouncer.tick(1.25), "it has been stable for as long as it must be"
    assert debouncer.level == 8


def test_every_bounce_restarts_the_wait() -> None:
    debouncer = Debouncer(0.02, False)
    for now, level in [(1.0, True), (1.01, False), (1.015, True)]:
        debouncer.feed(now, level)
    assert not debouncer.tick(1.03)
    assert debouncer.tick(1.036)


def test_a_shorter_spike_changes_nothing() -> None:
    debouncer = Debouncer(0.02, False)
    debouncer.feed(1.0, True)
    debouncer.feed(1.01, False)
    assert debouncer.due is None
    assert not debouncer.tick(2.0)
    assert debouncer.level is False


@given(st.lists(st.tuples(st.floats(0.0001, 0.1), st.booleans()), max_size=60))
def test_accepted_levels_alternate_and_each_was_stable(changes: list[tuple[float, bool]]) -> None:
    debouncer, now, raw, since, level = Debouncer(0.02, False), 0.0, False, 0.0, False
    for pause, new in changes:
        now += pause
        if debouncer.tick(now):
            assert debouncer.level is not level
            assert debouncer.level is raw
            assert now - since >= 0.02 - 1e-9
            level = debouncer.level
        debouncer.feed(now, new)
        if new != raw:
            raw, since = new, now
    debouncer.tick(now + 1.0)
    assert debouncer.level is raw


# -- buttons -----------------------------------------------------------------------------------------------------------


def test_a_plain_button_is_pressed_and_released() -> None:
    button = Button()
    assert list(button.change(1.0, True)) == [Action.PRESS]
    assert button.due is None
    assert list(button.change(2.0, False)) == [Action.RELEASE]


def test_a_held_button_is_pressed_repeatedly() -> None:
    button = Button(repeat=0.2, repeat_after=0.5)
    assert list(button.change(1.0, True)) == [Action.PRESS]
    assert list(button.tick(1.4)) == []
    assert list(button.tick(1.51)) == [Action.RELEASE]
    assert list(button.tick(1.60)) == []
    assert list(button.tick(1.62)) == [Action.PRESS]
    assert list(button.tick(1.73)) == [Action.RELEASE]
    assert list(button.change(1.75, False)) == []
    assert button.due is None


def test_a_button_released_while_a_repetition_is_on_is_released() -> None:
    button = Button(repeat=0.25)
    list(button.change(1.0, True))
    assert button.due == 1.5, "by default it repeats after half a second"
    assert list(button.tick(1.5)) == [Action.RELEASE]
    assert list(button.tick(1.625)) == [Action.PRESS]
    assert list(button.change(1.7, False)) == [Action.RELEASE]
    assert list(button.tick(9.0)) == []


@pytest.mark.parametrize("long_after", [None, 1.0])
def test_a_button_that_was_held_before_we_looked_is_not_pressed_when_released(long_after: float | None) -> None:
    button = Button(long_after)
    assert not button.pressed
    assert list(button.change(1.0, False)) == []
    assert button.due is None
    assert list(button.tick(9.0)) == []


def test_a_short_press_is_reported_when_it_is_over() -> None:
    button = Button(long_after=1.0)
    assert list(button.change(1.0, True)) == []
    assert list(button.change(1.3, False)) == [Action.PRESS]
    assert not button.pressed
    assert button.due == pytest.approx(1.3 + SHORT_PRESS_S) == pytest.approx(1.4)
    assert list(button.tick(1.39)) == []
    assert list(button.tick(1.41)) == [Action.RELEASE]
    assert button.due is None


def test_pressing_again_at_once_ends_the_short_press() -> None:
    button = Button(long_after=1.0)
    list(button.change(1.0, True))
    list(button.change(1.1, False))
    assert list(button.change(1.15, True)) == [Action.RELEASE]
    assert list(button.tick(2.2)) == [Action.LONG_PRESS]


def test_a_long_press_lasts_until_the_release() -> None:
    button = Button(long_after=1.0)
    list(button.change(1.0, True))
    assert list(button.tick(1.99)) == []
    assert list(button.tick(2.0)) == [Action.LONG_PRESS]
    assert list(button.tick(5.0)) == []
    assert list(button.change(6.0, False)) == [Action.LONG_RELEASE]
    assert list(button.tick(9.0)) == []
    list(button.change(10.0, True))
    assert list(button.change(10.5, False)) == [Action.PRESS], "the next one is short again"


# -- knobs -------------------------------------------------------------------------------------------------------------

CYCLE: list[Contacts] = [(False, False), (True, False), (True, True), (False, True)]


def quarters(start: int, moves: list[int]) -> list[Contacts]:
    """The contacts after each quarter step, forward or back."""
    states, phase = [], start
    for move in moves:
        phase += move
        states.append(CYCLE[phase % 4])
    return states


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("direction", [1, -1])
def test_whole_turns_count_every_detent(steps: int, direction: int) -> None:
    decoder = Quadrature(steps)
    turned = [decoder.feed(contacts) for contacts in quarters(0, [direction] * 24)]
    assert sum(turned) == direction * 24 // steps
    assert decoder.missed == 0
    assert all(abs(detents) <= 1 for detents in turned)


def test_half_a_detent_and_back_counts_nothing() -> None:
    decoder = Quadrature(4)
    assert [decoder.feed(c) for c in quarters(0, [1, 1, -1, -1, -1, -1, 1, 1])] == [0] * 8


@given(st.sampled_from([1, 2, 4]), st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(0, 4)), max_size=40))
def test_bounces_add_nothing_at_any_position(steps: int, turns: list[tuple[int, int]]) -> None:
    decoder, turned, place = Quadrature(steps), 0, 0
    for direction, bounces in turns:
        for _ in range(steps):
            for contacts in quarters(place, [direction, -direction] * bounces + [direction]):
                turned += decoder.feed(contacts)
            place += direction
    assert turned == sum(direction for direction, _ in turns)
    assert decoder.missed == 0


@given(st.integers(0, 3), st.sampled_from([2, 4]))
def test_a_knob_between_two_detents_counts_for_the_nearest(start: int, steps: int) -> None:
    decoder = Quadrature(steps, CYCLE[start])
    home = (-start) % steps
    states = quarters(start, [1] * (home + steps))
    turned = [decoder.feed(contacts) for contacts in states]
    assert sum(turned) in (1, 2)
    assert sum(turned[home:]) == 1


@pytest.mark.parametrize(
    ("start", "moves", "detents"),
    [(1, [-1], 0), (1, [1, 1, 1], 1), (3, [1], 0), (3, [-1, -1, -1], -1)],
)
def test_a_knob_that_begins_beside_a_detent_turns_when_it_reaches_the_other(
    start: int, moves: list[int], detents: int
) -> None:
    decoder = Quadrature(4, CYCLE[start])
    assert sum(decoder.feed(contacts) for contacts in quarters(start, moves)) == detents


def test_two_quarters_at_once_continue_in_the_same_direction() -> None:
    for direction in (1, -1):
        decoder = Quadrature(4)
        states = quarters(0, [direction] * 12)
        seen = [state for n, state in enumerate(states) if n not in (4, 9)]
        assert sum(decoder.feed(contacts) for contacts in seen) == 3 * direction
        assert decoder.missed == 2


@pytest.mark.parametrize("direction", [1, -1])
def test_a_click_whose_first_two_edges_were_lost_is_counted_in_the_direction_of_the_others(direction: int) -> None:
    decoder = Quadrature(4)
    assert [decoder.feed(contacts) for contacts in quarters(2, [0, direction, direction])] == [0, 0, direction]
    assert decoder.missed == 1
    assert decoder.from_home == 0


def edges_of(states: list[Contacts], late: int = 0) -> list[KnobEdge]:
    """The edges that lead through `states`, each reported with the contacts as they are `late` edges later."""
    edges: list[KnobEdge] = []
    before = (False, False)
    for n, state in enumerate(states):
        edges.append((0 if state[0] != before[0] else 1, states[min(n + late, len(states) - 1)]))
        before = state
    return edges


@given(st.lists(st.sampled_from([1, -1]), max_size=60), st.integers(0, 3), st.integers(1, 12))
def test_edges_give_the_direction_even_if_their_levels_were_read_late(moves: list[int], late: int, chunk: int) -> None:
    """Edges come in batches of `chunk`."""
    states = quarters(0, moves)
    truth, knob, turned = Quadrature(4), Knob(4, (False, False)), 0
    for begin in range(0, len(states), chunk):
        end = min(begin + chunk, len(states))
        batch = edges_of(states[:end], late)[begin:end]
        turned += knob.poll(0.0, batch, states[end - 1])
    assert turned == sum(truth.feed(state) for state in states)
    assert knob.missed == 0
    assert not knob.waiting


def at(times: list[float], states: list[Contacts], now: float) -> Contacts:
    """The contacts at `now`, if they became `states` at `times`."""
    return next((s for t, s in zip(reversed(times), reversed(states), strict=True) if t <= now), (False, False))


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, -1]), st.floats(0.003, 0.04), st.floats(0.0, 0.0029)), max_size=60),
    st.lists(st.floats(0.001, 0.06), min_size=1, max_size=40),
)
def test_an_edge_that_arrives_after_the_levels_were_read_does_not_reverse_the_count(
    moves: list[tuple[int, float, float]], pauses: list[float]
) -> None:
    """Moves after arbitrary pauses, reported after arbitrary delays, polled after arbitrary pauses."""
    states = quarters(0, [move for move, _, _ in moves])
    times = list(itertools.accumulate(pause for _, pause, _ in moves))
    told = [time + delay for time, (_, _, delay) in zip(times, moves, strict=True)]
    edges = [(edge[0], at(times, states, when)) for edge, when in zip(edges_of(states), told, strict=True)]
    knob, turned, now, done = Knob(4, (False, False)), 0, 0.0, 0
    for pause in itertools.chain(itertools.islice(itertools.cycle(pauses), 400), [0.1, 0.1, 0.1]):
        now += pause if done < len(edges) else 0.1
        arrived = sum(when <= now for when in told)
        turned += knob.poll(now, edges[done:arrived], at(times, states, now))
        done = arrived
    if done == len(edges):
        truth = Quadrature(4)
        assert turned == sum(truth.feed(state) for state in states)


def test_an_edge_that_was_not_reported_is_found_in_the_levels_after_a_while() -> None:
    knob = Knob(4, (False, False))
    states = quarters(0, [1, 1, 1, 1])
    assert knob.poll(0.0, [(1, states[1]), (0, states[2])], states[2]) == 0, "the first is missing"
    assert knob.waiting
    assert knob.poll(0.06, [], states[2]) == 0
    assert knob.contacts == states[2]
    assert knob.poll(0.1, [], states[3]) == 0
    assert knob.poll(0.2, [], states[3]) == 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 1), st.tuples(st.booleans(), st.booleans())), max_size=30))
def test_any_sequence_of_reports_ends_with_the_actual_levels(edges: list[KnobEdge]) -> None:
    for contacts in CYCLE:
        knob = Knob(4, (False, False))
        knob.poll(0.0, edges, contacts)
        knob.poll(0.1, [], contacts)
        assert knob.contacts == contacts
        assert not knob.waiting


@pytest.mark.parametrize(("steps", "rests"), [(4, 0), (4, 1), (4, 2), (4, 3), (2, 0), (2, 1), (1, 0)])
@pytest.mark.parametrize("learns", [False, True])
def test_a_knob_loses_no_click_wherever_its_detents_are(steps: int, rests: int, learns: bool) -> None:
    """Three clicks up, three down, then up and down; with `learns` the knob is between two detents at the start."""
    begins = (rests + steps // 2) % 4 if learns else rests
    knob, place, now, shown = Knob(steps, CYCLE[begins]), rests, 0.0, []

    def click(direction: int) -> int:
        nonlocal place, now
        turned = 0
        for contacts in quarters(place, [direction] * steps):
            now += 0.01
            turned += knob.poll(now, [], contacts) or knob.poll(now + 0.06, [], contacts)
        place += direction * steps
        now += 1.0
        return turned + knob.poll(now, [], CYCLE[place % 4])

    if learns:
        for direction in (1, -1):
            click(direction)
    value = 0
    for direction in (1, 1, 1, -1, -1, -1, 1, -1, 1, -1):
        value += click(direction)
        shown.append(value)
    assert shown == [1, 2, 3, 2, 1, 0, 1, 0, 1, 0]
    assert knob.home == rests % steps


@pytest.mark.parametrize(
    ("rests", "home"),
    [([1], 0), ([1, 1], 1), ([1, 0, 1], 0), ([1, 2], 0), ([1, 2, 2], 2), ([1, 1, 2], 1), ([1, 1, 2, 2], 2)],
)
def test_a_knob_that_rests_elsewhere_twice_in_a_row_has_its_detents_there(rests: list[int], home: int) -> None:
    knob, place, now = Knob(4, CYCLE[0], patience=0.0), 0, 0.0
    for rest in rests:
        for contacts in quarters(place, [1] * ((rest - place) % 4 or 4)):
            now += 0.01
            knob.poll(now, [], contacts)
        place = rest
        for _ in range(5):
            now += 0.31
            knob.poll(now, [], CYCLE[place])
    assert knob.home == home


@pytest.mark.parametrize(("pause", "home"), [(0.29, 0), (0.31, 1)])
def test_a_knob_rests_when_it_has_not_moved_for_three_tenths_of_a_second(pause: float, home: int) -> None:
    knob, now = Knob(4, CYCLE[0], patience=0.0), 0.0
    for _ in range(3):
        knob.poll(now, [], CYCLE[1])
        knob.poll(now + pause, [], CYCLE[1])
        knob.poll(now + pause + 0.1, [], CYCLE[0])
        now += 1.0
    assert knob.home == home


def test_a_missing_edge_is_waited_for_as_long_as_it_may_take() -> None:
    knob = Knob(4, (False, False), patience=0.25)
    knob.poll(1.0, [], CYCLE[1])
    knob.poll(1.125, [], CYCLE[1])
    assert (knob.waiting, knob.contacts) == (True, CYCLE[0])
    knob.poll(1.25, [], CYCLE[1])
    assert (knob.waiting, knob.contacts) == (False, CYCLE[1])


@pytest.mark.parametrize(
    ("rate", "steps"), [(5.0, 1), (6.0, 1), (12.0, 26), (18.0, 51), (24.0, 76), (30.0, 101), (60.0, 101)]
)
def test_between_six_and_thirty_detents_a_second_the_steps_grow_in_proportion(rate: float, steps: int) -> None:
    acceleration = Acceleration(101)
    acceleration.factor(0.0, 1)
    assert acceleration.factor(1 / rate, 1) == steps
    acceleration.factor(100.0, 1)
    assert acceleration.factor(100.0 + 4 / rate, 4) == steps, "four at once"


def test_detents_at_the_same_instant_are_fast() -> None:
    acceleration = Acceleration(10)
    acceleration.factor(1.0, 1)
    assert acceleration.factor(1.0, 1) == 10


def test_a_fast_turn_counts_more() -> None:
    acceleration = Acceleration(10)
    assert acceleration.factor(0.0, 1) == 1
    assert acceleration.factor(0.5, 1) == 1, "two a second"
    assert acceleration.factor(0.52, 1) == 10, "fifty a second"
    assert 1 < acceleration.factor(0.52 + 1 / 18, 1) < 10
    assert acceleration.factor(0.6, -1) == 1, "the other way"
    plain = Acceleration(1)
    assert [plain.factor(n / 100, 5) for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "change", "wrap", "whole", "expected"),
    [
        (29.92, 0.01, False, False, 29.93),
        (34.99, 0.05, False, False, 35.0),
        (20.01, -1.0, False, False, 20.0),
        (34.0, 2.0, True, False, 21.0),
        (35.0, 1.0, True, True, 20.0),
        (20.0, -1.0, True, True, 35.0),
    ],
)
def test_sums_stay_in_the_range(value: float, change: float, wrap: bool, whole: bool, expected: float) -> None:
    assert add_within(value, change, 20.0, 35.0, wrap, whole) == expected


def test_a_range_may_have_one_end_or_none() -> None:
    assert add_within(1.0, -5.0, 0.0, None, False, False) == 0.0
    assert add_within(1.0, 5.0, None, 3.0, False, False) == 3.0
    assert add_within(1.0, 5.0, None, None, True, False) == 6.0
    assert add_within(1.0, -5.0, None, 3.0, True, False) == -4.0
    assert add_within(1.0, 5.0, 0.0, None, True, False) == 6.0


@pytest.mark.parametrize(
    ("value", "change", "sum_"),
    [(359.9, 0.2, 0.1), (0.1, -0.2, 359.9), (0.123456788, 1e-9, 0.123456789), (-0.1, 0.0, 359.9)],
)
def test_sums_are_rounded_to_nine_decimals(value: float, change: float, sum_: float) -> None:
    assert add_within(value, change, 0.0, 360.0, True, False) == sum_


def test_a_large_sum_shows_no_rounding_error() -> None:
    assert add_within(1234567.1, 0.1, None, None, False, False) == 1234567.2


# -- selectors, rates, lamps -------------------------------------------------------------------------------------------


def test_a_selector_has_one_contact_closed() -> None:
    assert position([False, True, False]) == 1
    assert position([False, False]) is None
    with pytest.raises(ValueError, match="several"):
        position([True, False, True])


@given(st.floats(0.5, 2000.0))
def test_any_steady_rate_is_measured(hertz: float) -> None:
    rate, now = PulseRate(100.0, window=1.0, timeout=5.0), 100.0
    for _ in range(max(3, int(2 * hertz))):
        now += 1.0 / hertz
        rate.feed(now)
    assert rate.rate(now) == pytest.approx(hertz, rel=1e-6)


def fed(*stamps: float, **options: float) -> PulseRate:
    rate = PulseRate(0.0, **options)
    for stamp in stamps:
        rate.feed(stamp)
    return rate


def test_there_is_no_rate_before_two_pulses_and_zero_after_the_timeout() -> None:
    rate = PulseRate(100.0)
    assert rate.rate(101.0) is None
    assert rate.rate(102.0) is None
    assert rate.rate(102.1) == 0.0
    rate.feed(103.0)
    assert rate.rate(103.1) is None, "one pulse gives no rate"
    rate.feed(103.5)
    assert rate.rate(103.5) == pytest.approx(2.0)


def test_only_the_periods_of_the_window_count() -> None:
    times = [n / 8 for n in range(17)] + [2.0 + n / 16 for n in range(1, 17)]  # eight a second, then sixteen
    assert fed(*times).rate(3.0) == 16.0
    assert fed(*times[:25]).rate(2.5) == 12.0
    assert fed(*times, window=2.0).rate(3.0) == 12.0


def test_a_period_longer_than_the_window_counts() -> None:
    assert fed(0.0, 1.5).rate(1.5) == pytest.approx(1 / 1.5)
    assert fed(0.0, 1.0, 1.5).rate(1.75) == 2.0, "the first is older than the window"


def test_a_pulse_after_the_timeout_says_nothing_about_the_rate_before() -> None:
    rate = fed(0.0, 0.5)
    assert rate.rate(5.0) == 0.0
    rate.feed(5.5)
    assert rate.rate(5.5) is None
    rate.feed(5.75)
    assert rate.rate(5.75) == 4.0


def test_after_pulses_were_missed_there_is_no_rate_until_two_have_come() -> None:
    rate = fed(0.0, 0.5, 1.0)
    rate.restart(1.5)
    assert rate.rate(3.5) is None
    assert rate.rate(3.6) == 0.0
    rate.restart(10.0)
    rate.feed(10.5)
    assert rate.rate(10.5) is None
    rate.feed(10.75)
    assert rate.rate(10.75) == 4.0


def test_pulses_at_one_instant_or_out_of_order_give_no_rate() -> None:
    assert fed(1.0, 1.0).rate(1.0) is None
    rate = fed(1.0, 0.9)
    assert (rate.used, rate.glitches) == (1, 1)


def test_pulses_later_than_now_are_measured_alike() -> None:
    """They came after the caller read its clock."""
    assert fed(10.0, 10.5).rate(10.25) == 2.0


def test_a_flood_of_pulses_takes_no_memory() -> None:
    rate = PulseRate(0.0, window=60.0, shortest=0.001)
    for n in range(10_000):
        assert rate.feed(n / 500)
        assert not rate.feed(n / 500 + 0.0005)
    assert len(rate._stamps) == len(rate._refused) == 4096
    assert rate.rate(9_999 / 500) == pytest.approx(500.0)


def test_the_rate_falls_while_no_pulse_arrives() -> None:
    rate = PulseRate(0.0, timeout=2.0)
    for n in range(101):
        rate.feed(n / 100)
    rates = [rate.rate(1.0 + n / 10) for n in range(22)]
    assert rates[0] == pytest.approx(100.0)
    known = [r for r in rates if r is not None]
    assert known == sorted(known, reverse=True)
    assert rates[5] is not None
    assert rates[5] < 70
    assert rates[12] is not None
    assert rates[12] < 2
    assert rates[21] == 0.0


def test_interference_is_ignored_and_counted() -> None:
    rate = PulseRate(0.0, window=1.0, shortest=0.005)
    for n in range(100):
        rate.feed(n / 50)
        rate.feed(n / 50 + 0.001)
    assert rate.rate(2.0) == pytest.approx(50.0, rel=0.03)
    assert (rate.used, rate.glitches) == (100, 100)
    assert not rate.noisy(2.0)
    for n in range(60):
        rate.feed(1.98 + n / 60000)
    assert rate.noisy(2.0)
    assert not rate.noisy(9.0), "that was long ago"


def test_a_pulse_is_interference_if_it_comes_sooner_than_any_can() -> None:
    rate = PulseRate(0.0, shortest=0.25)
    assert [rate.feed(stamp) for stamp in (1.0, 1.24, 1.25, 1.4, 1.5)] == [True, False, True, False, True]


def test_a_rate_is_noisy_while_more_pulses_of_the_window_are_refused_than_used() -> None:
    rate = fed(1.0, 1.0625, 1.5, 1.5625, 1.625, shortest=0.25)
    assert (rate.used, rate.glitches) == (2, 3)
    assert rate.noisy(1.75)
    assert rate.noisy(2.0625), "the first has been refused just one window ago"
    assert not rate.noisy(2.125)


def test_a_dimmer_follows_the_sensitivity_of_the_eye() -> None:
    assert duty(0, 0, 100, 2.2) == 0.0
    assert duty(100, 0, 100, 2.2) == 1.0
    assert duty(50, 0, 100, 2.2) == pytest.approx(0.2176, abs=1e-4)
    assert duty(50, 0, 100, 1.0) == 0.5
    assert duty(150, 0, 100, 2.2) == 1.0
    assert [duty(value, 10, 20, 1.0) for value in (5, 10, 15, 20)] == [0.0, 0.0, 0.5, 1.0]
