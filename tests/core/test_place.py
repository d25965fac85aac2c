"""Which positions of a receiver are believed."""

from __future__ import annotations

import pytest

from fixgw.kit.place import JUMPED, NOWHERE, STAYS_S, Places, distance_nmi, is_possible

DAY_S = 86400.0


@pytest.mark.parametrize(
    ("latitude", "longitude", "possible"),
    [
        (90.0, 180.0, True),
        (-90.0, -180.0, True),
        (90.5, 0.0, False),
        (-90.5, 7.0, False),
        (47.0, 180.5, False),
        (0.0, 7.0, True),
        (47.0, 0.0, True),
        (0.0, 0.0, False),
    ],
)
def test_an_aircraft_is_somewhere_on_the_globe_but_not_where_receivers_without_a_fix_are(
    latitude: float, longitude: float, possible: bool
) -> None:
    assert is_possible(latitude, longitude) is possible


def test_a_minute_of_latitude_is_a_nautical_mile_and_east_goes_on_to_west() -> None:
    assert distance_nmi(47.0, 8.0, 48.0, 8.0) == pytest.approx(60.0, rel=0.01)
    assert distance_nmi(60.0, 8.0, 60.0, 9.0) == pytest.approx(30.0, rel=0.01)
    assert distance_nmi(0.0, 179.75, 0.0, -179.75) == pytest.approx(30.0, rel=0.01)


class Receiver:
    def __init__(self) -> None:
        self.now = 100.0
        self.places = Places(lambda: self.now)
        self.latitude = 47.0

    def say(self, later: float, north_nmi: float, time_of_day: float | None = None) -> str:
        self.now += later
        return self.places.judge(self.latitude + north_nmi / 60.0, 8.0, time_of_day)


def test_a_position_within_reach_of_the_last_is_believed() -> None:
    receiver = Receiver()
    assert receiver.say(0, 0) == ""
    assert receiver.places.judge(0.0, 0.0) == NOWHERE
    assert receiver.say(36.0, 10.0) == ""  # 1000 kt
    assert receiver.say(0.0, 10.1) == ""
    assert receiver.say(0.0, 11.0) == JUMPED
    assert receiver.say(36.0, 0.0) == ""


@pytest.mark.parametrize(
    ("later", "north", "doubt"),
    [
        (0.0, 0.195, ""),
        (0.0, 0.205, JUMPED),
        (36.0, 10.18, ""),
        (36.0, 10.21, JUMPED),
        (3600.0, 999.4, ""),
        (3600.0, 999.6, JUMPED),
    ],
)
def test_a_receiver_wanders_and_no_aircraft_is_faster_than_a_thousand_knots(
    later: float, north: float, doubt: str
) -> None:
    receiver = Receiver()
    receiver.say(0, 0)
    assert receiver.say(later, north) == doubt


def test_where_a_receiver_stays_it_is() -> None:
    assert STAYS_S == 3.0
    receiver = Receiver()
    receiver.say(0, 0)
    for _ in range(3):
        assert receiver.say(STAYS_S / 3, 60.0) == JUMPED
    assert receiver.say(STAYS_S / 3, 60.0) == ""
    assert receiver.say(0.1, 0.0) == JUMPED


def test_a_receiver_that_jumps_about_stays_nowhere() -> None:
    receiver = Receiver()
    receiver.say(0, 0)
    for n in range(20):
        assert receiver.say(STAYS_S / 2, 60.0 + 30.0 * (n % 2)) == JUMPED


def test_a_recording_may_be_played_faster_than_it_was_made() -> None:
    receiver = Receiver()
    assert receiver.say(0, 0, DAY_S - 18.0) == ""
    assert receiver.say(1.0, 10.0, 18.0) == ""  # past midnight
    assert receiver.say(1.0, 20.0, 18.0) == JUMPED  # a time of day that stands still does not help
    assert receiver.say(1.0, 20.0, 18.0 + STAYS_S) == ""
    assert receiver.say(36.0, 30.0, 17.0) == ""  # one that goes backwards does not harm
