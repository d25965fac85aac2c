"""Judges whether a position is possible: `Places` knows the previous positions of the receiver."""

from __future__ import annotations

import math
from collections.abc import Callable

from fixgw.kit.navigation import EARTH_RADIUS_NMI, difference

#: None of our aircraft is faster; a position may also wander by `WANDER_NMI` from one fix to the next.
FASTEST_KT = 1000.0
WANDER_NMI = 0.2
#: After a jump the new position is trusted once the receiver has stayed near it for this long.
STAYS_S = 3.0

DAY_S = 86400.0

NOWHERE = "the receiver's position is 0/0: it has no fix"
JUMPED = "the receiver's position has jumped"


def distance_nmi(lat1: float, long1: float, lat2: float, long2: float) -> float:
    """Nautical miles between two positions in degrees, within a percent as long as they are not far apart."""
    north = lat2 - lat1
    east = difference(long2, long1) * math.cos(math.radians((lat1 + lat2) / 2.0))
    return math.radians(math.hypot(north, east)) * EARTH_RADIUS_NMI


def is_possible(latitude: float, longitude: float) -> bool:
    """Whether an aircraft can be there, in degrees: senders without a position send 0/0."""
    return abs(latitude) <= 90.0 and abs(longitude) <= 180.0 and not (latitude == 0.0 and longitude == 0.0)


class Places:
    """Judges one receiver's positions as they arrive. `clock` returns monotonic seconds.

    A receiver without a fix may send 0/0, and a disturbed memory or line gives a wrong position. No aircraft moves
    faster than `FASTEST_KT`, so a position beyond its reach is doubted until the receiver has stayed near it for
    `STAYS_S`: then the earlier position was wrong.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._trusted: tuple[float, float, float, float | None] | None = None
        self._stray: tuple[float, float, float, float | None] | None = None
        self._strayed: tuple[float, float | None]  # since when, by the clock and by the receiver's

    def judge(self, latitude: float, longitude: float, time_of_day: float | None = None) -> str:
        """Why the position, in degrees, cannot be trusted; empty if it can. `time_of_day` is the receiver's, in
        seconds: with it, a recording may be played faster than it was made."""
        if latitude == 0.0 and longitude == 0.0:
            return NOWHERE
        now = self._clock()
        here = (latitude, longitude, now, time_of_day)
        if self._trusted is None or _within_reach(self._trusted, here):
            self._trusted, self._stray = here, None
            return ""
        if self._stray is None or not _within_reach(self._stray, here):
            self._strayed = now, time_of_day
        self._stray = here
        if _elapsed(*self._strayed, now, time_of_day) >= STAYS_S:
            self._trusted, self._stray = here, None
            return ""
        return JUMPED


def _within_reach(
    there: tuple[float, float, float, float | None], here: tuple[float, float, float, float | None]
) -> bool:
    reach = WANDER_NMI + FASTEST_KT * _elapsed(there[2], there[3], here[2], here[3]) / 3600.0
    return distance_nmi(there[0], there[1], here[0], here[1]) <= reach


def _elapsed(since: float, since_time: float | None, now: float, time_of_day: float | None) -> float:
    """Seconds by our clock or by the receiver's, whichever says more; its time of day may have passed midnight."""
    elapsed = now - since
    if since_time is not None and time_of_day is not None:
        theirs = (time_of_day - since_time) % DAY_S
        if theirs < DAY_S / 2:
            elapsed = max(elapsed, theirs)
    return elapsed
