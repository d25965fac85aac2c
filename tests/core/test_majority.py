"""Whether a stream comes from the expected instrument."""

from __future__ import annotations

import pytest

from fixgw.kit.majority import Majority


def test_one_valid_line_in_seventy_is_not_trusted() -> None:
    majority = Majority()
    trusted = 0
    for line in range(7000):
        trusted += majority.count(*((1, 0) if line % 70 == 35 else (0, 1)))
    assert trusted == 0
    assert majority.foreign


@pytest.mark.parametrize(("good", "bad"), [(1, 0), (1, 1), (30, 20)])
def test_a_stream_of_the_instrument_is_trusted_at_once(good: int, bad: int) -> None:
    assert Majority().count(good, bad)


def test_a_change_to_another_stream_and_back_is_noticed() -> None:
    majority = Majority()
    majority.count(1000, 0)
    lines = next(n for n in range(1, 100) if not majority.count(0, 1))
    assert lines == 23  # 20 frames count
    assert next(n for n in range(1, 100) if majority.count(1, 0)) < 25


def test_a_third_of_good_frames_keeps_the_trust_and_half_of_them_wins_it() -> None:
    majority = Majority()
    assert majority.count(1, 0)
    assert majority.count(0, 2)
    assert not majority.count(0, 1)
    assert not majority.count(1, 0)
    assert majority.count(1, 0)


def test_three_bad_frames_are_those_of_another_instrument() -> None:
    majority = Majority()
    assert not majority.foreign
    majority.count(0, 2)
    assert not majority.foreign
    majority.count(0, 1)
    assert majority.foreign


def test_every_other_frame_may_be_damaged() -> None:
    majority = Majority()
    assert all(majority.count(1, 1) for _ in range(100))
    assert not majority.foreign
