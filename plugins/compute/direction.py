"""Directions, positions and the wind."""

from __future__ import annotations

from fixgw.kit import navigation
from fixgw.plugins.compute.air import formula
from fixgw.plugins.compute.entry import Function, Input, Output

SPHERE = "great circle on a sphere of 3440.065 nmi"
HERE = (Input("latitude", "deg"), Input("longitude", "deg"))
WAYPOINT = (Input("waypoint latitude", "deg"), Input("waypoint longitude", "deg"))
SPEED, FROM = Output("wind speed", "knots"), Output("direction it comes from", "deg")

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
        inputs=(
            Input("ground speed", "knots"),
            Input("track", "deg"),
            Input("true airspeed", "knots"),
            Input("heading", "deg"),
        ),
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
)
