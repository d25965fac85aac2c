"""Directions, positions and the wind."""

from __future__ import annotations

from fixgw.database import NEVER
from fixgw.kit import navigation
from fixgw.kit.airdata import Undefined
from fixgw.plugins.compute.air import TAS, formula
from fixgw.plugins.compute.entry import Function, Input, Option, Output, Setup
from fixgw.plugins.compute.evaluation import Computation, Moment, Process
from fixgw.plugins.compute.trend import Trend

LEAST_TAS_KT = 30.0  # for a wind
MOST_TURN_DEG_S = 1.0
TURN_WINDOW_S = 2.0
PACE_S = 0.2
SPHERE = "great circle on a sphere of 3440.065 nmi"
HERE = (Input("latitude", "deg"), Input("longitude", "deg"))
WAYPOINT = (Input("waypoint latitude", "deg"), Input("waypoint longitude", "deg"))
VECTORS = (Input("ground speed", "knots"), Input("track", "deg"), TAS, Input("heading", "deg"))
VARIATION = Input("variation", "deg")
SPEED, FROM = Output("wind speed", "knots"), Output("direction it comes from", "deg")


class Wind:
    """The mean wind of the last `window` seconds. In turns and at low speed it is held, for `hold` seconds at most."""

    def __init__(self, setup: Setup) -> None:
        window = setup.option("window")
        self._hold: float = setup.option("hold")
        self._north, self._east = Trend(window), Trend(window)
        self._heading = Trend(TURN_WINDOW_S, wraps=True)
        self._taken = NEVER  # when the last sample was

    def __call__(
        self, moment: Moment, gs: float, track: float, tas: float, heading: float, turn_rate: float | None = None
    ) -> tuple[float, float | None]:
        if moment.good:
            self._heading.add(moment.now, heading)
        if moment.good and tas >= LEAST_TAS_KT and not self._turns(turn_rate):
            north, east = navigation.wind_vector(gs, track, tas, heading)
            self._north.add(moment.now, north)
            self._east.add(moment.now, east)
            self._taken = moment.now
        if moment.now - self._taken > self._hold:
            raise Undefined(f"turning or slow for more than {self._hold:g} s")
        if not self._north.covered:
            raise Undefined("there are not enough samples yet")
        return navigation.wind_of(self._north.mean(), self._east.mean())

    def _turns(self, turn_rate: float | None) -> bool:
        try:
            rate = self._heading.slope() if turn_rate is None else turn_rate
        except Undefined:
            return False
        return abs(rate) > MOST_TURN_DEG_S

    def forget(self) -> None:
        for trend in (self._north, self._east, self._heading):
            trend.clear()


def _wind(setup: Setup) -> Computation:
    wind = Wind(setup)
    return Process(setup, wind, wind.forget, PACE_S)


FUNCTIONS = (
    Function(
        name="xte",
        aliases=("cross_track",),
        inputs=(*HERE, *WAYPOINT, Input("true course", "deg")),
        outputs=(Output("cross-track error", "nmi"),),
        formula="R · asin(sin(distance/R) · sin(bearing − course)), seen from the waypoint; right positive",
        origin=SPHERE,
        build=formula(navigation.cross_track),
    ),
    Function(
        name="bearing",
        aliases=("bearing_distance",),
        inputs=(*HERE, *WAYPOINT),
        outputs=(Output("true bearing", "deg"), Output("distance", "nmi", optional=True)),
        formula="initial bearing to the waypoint, true, and distance",
        origin=SPHERE,
        build=formula(navigation.bearing_distance),
    ),
    Function(
        name="wind_triangle",
        inputs=VECTORS,
        outputs=(SPEED, FROM),
        formula="ground vector − air vector, at each moment; track and heading in one and the same north, "
        "that of the result; below 0.5 knots there is no direction",
        origin="vectors",
        build=formula(navigation.wind),
    ),
    Function(
        name="wind_components",
        inputs=(Input("wind speed", "knots"), Input("wind direction", "deg"), Input("heading", "deg")),
        outputs=(Output("headwind", "knots"), Output("wind from the right", "knots", optional=True)),
        formula="w · cos(from − heading), w · sin(from − heading)",
        origin="vectors",
        build=formula(navigation.wind_components),
    ),
    Function(
        name="wind",
        inputs=(*VECTORS, Input("rate of turn", "deg/s", optional=True)),
        outputs=(SPEED, FROM),
        formula="as `wind_triangle`, mean of the last `window` seconds; while turning faster than 1 deg/s, or below 30 "
        "knots, the last result, for at most `hold` seconds",
        origin="vectors",
        options=(Option("window", 20.0), Option("hold", 60.0)),
        build=_wind,
    ),
    Function(
        name="distance",
        inputs=(*HERE, *WAYPOINT),
        outputs=(Output("distance", "nmi"),),
        formula="distance to the waypoint",
        origin=SPHERE,
        build=formula(lambda *places: navigation.bearing_distance(*places)[1]),
    ),
    Function(
        name="magnetic_from_true",
        inputs=(Input("true direction", "deg"), VARIATION),
        outputs=(Output("magnetic direction", "deg"),),
        formula="true − variation, which is positive to the east",
        origin="",
        build=formula(navigation.magnetic_from_true),
    ),
    Function(
        name="true_from_magnetic",
        inputs=(Input("magnetic direction", "deg"), VARIATION),
        outputs=(Output("true direction", "deg"),),
        formula="magnetic + variation, which is positive to the east",
        origin="",
        build=formula(navigation.true_from_magnetic),
    ),
)
