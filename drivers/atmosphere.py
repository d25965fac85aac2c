"""The standard atmosphere, as far as drivers need it: ICAO Doc 7488, below the tropopause."""

from __future__ import annotations

import math

INHG = 3386.389  # Pa
FEET = 1 / 0.3048  # in a metre


def pressure_altitude(pascals: float) -> float:
    """Feet above the level of 1013.25 hPa."""
    return 288.15 / 0.0065 * (1.0 - math.pow(pascals / 101_325.0, 1.0 / 5.25588)) * FEET


def indicated_altitude(feet: float, setting: float) -> float:
    """What an altimeter shows at a pressure altitude, with a setting in inHg (more than 0)."""
    return feet - pressure_altitude(setting * INHG)
