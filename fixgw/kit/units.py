"""Constants for converting units, and the standard atmosphere."""

from __future__ import annotations

import math

FEET_PER_METRE = 1 / 0.3048
KMH_PER_KNOT = 1.852
KNOTS_PER_KMH = 1 / 1.852
KNOTS_PER_MPS = 3600 / 1852
KNOTS_PER_MPH = 1.609344 / 1.852
LITRES_PER_GALLON = 3.785411784  # US gallon, by definition
PASCALS_PER_INHG = 3386.389
INHG_PER_KPA = 0.295299830714
ZERO_CELSIUS_K = 273.15


def pressure_altitude(pascals: float) -> float:
    """Pressure altitude in feet, below the tropopause (ICAO Doc 7488)."""
    return 288.15 / 0.0065 * (1.0 - math.pow(pascals / 101_325.0, 1.0 / 5.25588)) * FEET_PER_METRE


def indicated_altitude(feet: float, setting: float) -> float:
    """Indicated altitude in feet, from the pressure altitude in feet and the altimeter setting in inHg (above 0)."""
    return feet - pressure_altitude(setting * PASCALS_PER_INHG)
