"""Sunrise, sunset and civil twilight, by the equations of NOAA's solar calculator."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import NamedTuple

SUNRISE_DEG = -0.833  # elevation of the sun's centre: refraction, and half its diameter
CIVIL_DEG = -6.0
DAY_MIN = 1440.0


class Sun(NamedTuple):
    """Minutes after 00:00 UTC, 0 <= x < 1440; None for what does not happen on this day."""

    sunrise: float | None
    sunset: float | None
    civil_dawn: float | None
    civil_dusk: float | None


def sun(lat: float, lon: float, day: date) -> Sun:
    """The sun at a place, in degrees, on the day there."""
    sunrise, sunset = _crossings(lat, lon, day, SUNRISE_DEG)
    dawn, dusk = _crossings(lat, lon, day, CIVIL_DEG)
    return Sun(sunrise, sunset, dawn, dusk)


def _crossings(lat: float, lon: float, day: date, elevation: float) -> tuple[float | None, float | None]:
    return _crossing(lat, lon, day, elevation, -1.0), _crossing(lat, lon, day, elevation, 1.0)


def _crossing(lat: float, lon: float, day: date, elevation: float, side: float) -> float | None:
    """When the sun passes the elevation, before noon (`side` -1) or after it (1)."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() / 86400.0 + 2440587.5
    minutes = 720.0 - 4.0 * lon
    for _ in range(3):  # with the sun where it is then
        declination, equation = _position(noon + (minutes - 720.0) / DAY_MIN)
        phi = math.radians(lat)
        cosine = (math.sin(math.radians(elevation)) - math.sin(phi) * math.sin(declination)) / (
            math.cos(phi) * math.cos(declination)
        )
        if not -1.0 <= cosine <= 1.0:
            return None
        minutes = 720.0 - 4.0 * lon - equation + side * 4.0 * math.degrees(math.acos(cosine))
    return minutes % DAY_MIN


def _position(julian_day: float) -> tuple[float, float]:
    """The declination of the sun in radians, and the equation of time in minutes."""
    century = (julian_day - 2451545.0) / 36525.0
    longitude = math.radians((280.46646 + century * (36000.76983 + 0.0003032 * century)) % 360.0)
    anomaly = math.radians(357.52911 + century * (35999.05029 - 0.0001537 * century))
    eccentricity = 0.016708634 - century * (0.000042037 + 0.0000001267 * century)
    centre = (
        math.sin(anomaly) * (1.914602 - century * (0.004817 + 0.000014 * century))
        + math.sin(2 * anomaly) * (0.019993 - 0.000101 * century)
        + math.sin(3 * anomaly) * 0.000289
    )
    node = math.radians(125.04 - 1934.136 * century)
    apparent = longitude + math.radians(centre - 0.00569 - 0.00478 * math.sin(node))
    obliquity = 23.0 + (26.0 + (21.448 - century * (46.815 + century * (0.00059 - century * 0.001813))) / 60.0) / 60.0
    tilt = math.radians(obliquity + 0.00256 * math.cos(node))
    declination = math.asin(math.sin(tilt) * math.sin(apparent))
    y = math.tan(tilt / 2.0) ** 2
    equation = 4.0 * math.degrees(
        y * math.sin(2 * longitude)
        - 2 * eccentricity * math.sin(anomaly)
        + 4 * eccentricity * y * math.sin(anomaly) * math.cos(2 * longitude)
        - 0.5 * y * y * math.sin(4 * longitude)
        - 1.25 * eccentricity * eccentricity * math.sin(2 * anomaly)
    )
    return declination, equation
