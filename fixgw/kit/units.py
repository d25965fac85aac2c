"""Constants for converting units, and the names of units."""

from __future__ import annotations

FEET_PER_METRE = 1 / 0.3048
KMH_PER_KNOT = 1.852
KNOTS_PER_KMH = 1 / 1.852
KNOTS_PER_MPS = 3600 / 1852
KNOTS_PER_MPH = 1.609344 / 1.852
LITRES_PER_GALLON = 3.785411784  # US gallon, by definition
PASCALS_PER_INHG = 3386.389
INHG_PER_KPA = 0.295299830714
ZERO_CELSIUS_K = 273.15

#: Other names of units, in lower case, by the name that the packaged definition uses or would use.
SYNONYMS = {
    "deg": ("degree", "degrees", "°"),
    "deg/s": ("deg/sec", "deg/second", "degrees/s", "degrees/second", "°/s", "dps"),
    "degC": ("c", "°c", "deg c", "celsius"),
    "degF": ("f", "°f", "deg f", "fahrenheit"),
    "degC/min": ("°c/min", "deg c/min"),
    "K": ("kelvin", "kelvins"),
    "rad": ("radian", "radians"),
    "knots": ("knot", "kt", "kts", "kn"),
    "Mach": (),
    "mph": ("mi/h",),
    "km/h": ("kmh", "kph", "kmph"),
    "m/s": ("mps",),
    "ft": ("feet", "foot"),
    "m": ("metre", "metres", "meter", "meters"),
    "km": ("kilometre", "kilometres", "kilometer", "kilometers"),
    "nmi": ("nm", "nautical mile", "nautical miles"),
    "mi": ("mile", "miles", "sm"),
    "ft/min": ("fpm", "feet/min", "ft/minute"),
    "inHg": ("in hg", "in.hg", "inches hg", "inches of mercury"),
    "hPa": ("mbar", "mb", "millibar", "millibars"),
    "Pa": ("pascal", "pascals"),
    "kPa": ("kilopascal", "kilopascals"),
    "psi": ("lb/in2", "lbs/in2"),
    "bar": (),
    "gal": ("gallon", "gallons", "us gal", "usgal"),
    "l": ("litre", "litres", "liter", "liters"),
    "lb": ("lbs", "pound", "pounds"),
    "kg": ("kilogram", "kilograms"),
    "gal/hr": ("gph", "gal/h", "gallons/hour", "gallons per hour"),
    "l/h": ("lph", "l/hr", "litres/hour", "liters/hour"),
    "lb/h": ("pph", "lb/hr", "lbs/hr", "lbs/h"),
    "rpm": ("1/min", "rev/min"),
    "V": ("volt", "volts"),
    "A": ("amp", "amps", "ampere", "amperes"),
    "W": ("watt", "watts"),
    "h": ("hr", "hrs", "hour", "hours"),
    "min": ("minute", "minutes"),
    "s": ("sec", "secs", "second", "seconds"),
    "g": ("gs",),
    "fraction": ("%/100",),
    "%": ("percent",),
    "Hz": ("hertz",),
    "kHz": ("kilohertz",),
    "MHz": ("megahertz",),
    "level": ("warninglevel", "warning level"),
    "pulses": ("pulse",),
}
_NAMES = {other: name for name, others in SYNONYMS.items() for other in (name.lower(), *others)}


def known_unit(text: str) -> str | None:
    """The usual name of the unit that `text` means; None when we do not know it.

    >>> known_unit("kts"), known_unit("furlongs")
    ('knots', None)
    """
    return _NAMES.get(" ".join(text.lower().split()))
