"""Directions and distances on the earth, taken as a sphere, and the wind. Angles are in degrees, 0 <= x < 360.

Distances on it are within about 0.5 % of those on WGS 84.
"""

from __future__ import annotations

import math

EARTH_RADIUS_NMI = 3440.065  # mean
CALM_KT = 0.5  # a weaker wind has no direction


def wrap(degrees: float) -> float:
    """The same direction from 0 to less than 360."""
    turned = degrees % 360.0
    return 0.0 if turned == 360.0 else turned  # -1e-20 % 360 is 360


def difference(degrees: float, other: float = 0.0) -> float:
    """The shortest way from the direction `other` to `degrees`: -180 to less than 180, right positive."""
    return (degrees - other + 180.0) % 360.0 - 180.0


def bearing_distance(lat1: float, lon1: float, lat2: float, lon2: float) -> tuple[float, float]:
    """The great circle from one position to another: its true bearing at the first, and its length in nautical miles.

    The bearing of a position from itself is 0.
    """
    phi1, phi2, turned = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    east = math.sin(turned) * math.cos(phi2)
    north = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(turned)
    up = math.sin(phi1) * math.sin(phi2) + math.cos(phi1) * math.cos(phi2) * math.cos(turned)
    return wrap(math.degrees(math.atan2(east, north))), EARTH_RADIUS_NMI * math.atan2(math.hypot(east, north), up)


def cross_track(lat: float, lon: float, wp_lat: float, wp_lon: float, course_deg: float) -> float:
    """Nautical miles from the great circle that passes the waypoint at this true course; right of it is positive."""
    bearing, distance = bearing_distance(wp_lat, wp_lon, lat, lon)
    off = math.sin(distance / EARTH_RADIUS_NMI) * math.sin(math.radians(bearing - course_deg))
    return EARTH_RADIUS_NMI * math.asin(max(-1.0, min(1.0, off)))


def wind_vector(gs_kt: float, track_deg: float, tas_kt: float, heading_deg: float) -> tuple[float, float]:
    """Where the wind blows to, north and east, in knots. Track and heading must be of the same north."""
    track, heading = math.radians(track_deg), math.radians(heading_deg)
    return (
        gs_kt * math.cos(track) - tas_kt * math.cos(heading),
        gs_kt * math.sin(track) - tas_kt * math.sin(heading),
    )


def wind_of(north: float, east: float) -> tuple[float, float | None]:
    """Speed of a wind that blows to there, and the direction that it comes from; None if it is too weak to have one."""
    speed = math.hypot(north, east)
    return speed, wrap(math.degrees(math.atan2(-east, -north))) if speed >= CALM_KT else None


def wind(gs_kt: float, track_deg: float, tas_kt: float, heading_deg: float) -> tuple[float, float | None]:
    """Speed of the wind in knots, and the direction that it comes from, in the north of track and heading."""
    return wind_of(*wind_vector(gs_kt, track_deg, tas_kt, heading_deg))


def wind_components(speed_kt: float, from_deg: float, axis_deg: float) -> tuple[float, float]:
    """The wind from ahead and from the right, in knots, as seen along the axis."""
    angle = math.radians(from_deg - axis_deg)
    return speed_kt * math.cos(angle), speed_kt * math.sin(angle)


def magnetic_from_true(true_deg: float, variation_east_deg: float) -> float:
    """A magnetic direction, from the true one and the variation, east positive."""
    return wrap(true_deg - variation_east_deg)


def true_from_magnetic(magnetic_deg: float, variation_east_deg: float) -> float:
    """A true direction, from the magnetic one and the variation, east positive."""
    return wrap(magnetic_deg + variation_east_deg)
