"""Constants for converting units, the names of units, and the units that people prefer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
    "degF/min": ("°f/min", "deg f/min"),
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


#: What one of the unit is in the base unit of its kind, and what 0 of it is there.
_SCALES: dict[str, tuple[str, float, float]] = {
    "degC": ("temperature", 1.8, 32.0),
    "degF": ("temperature", 1.0, 0.0),
    "K": ("temperature", 1.8, 32.0 - 1.8 * ZERO_CELSIUS_K),
    "degC/min": ("rate of temperature", 1.8, 0.0),
    "degF/min": ("rate of temperature", 1.0, 0.0),
    "knots": ("speed", 1.0, 0.0),
    "mph": ("speed", KNOTS_PER_MPH, 0.0),
    "km/h": ("speed", KNOTS_PER_KMH, 0.0),
    "m/s": ("speed", KNOTS_PER_MPS, 0.0),
    "ft/min": ("speed", KNOTS_PER_MPS * 0.3048 / 60, 0.0),
    "ft": ("length", 0.3048, 0.0),
    "m": ("length", 1.0, 0.0),
    "km": ("length", 1000.0, 0.0),
    "nmi": ("length", 1852.0, 0.0),
    "mi": ("length", 1609.344, 0.0),
    "Pa": ("pressure", 1.0, 0.0),
    "hPa": ("pressure", 100.0, 0.0),
    "kPa": ("pressure", 1000.0, 0.0),
    "bar": ("pressure", 100000.0, 0.0),
    "psi": ("pressure", 6894.757293168, 0.0),
    "inHg": ("pressure", PASCALS_PER_INHG, 0.0),
    "gal": ("volume", LITRES_PER_GALLON, 0.0),
    "l": ("volume", 1.0, 0.0),
    "gal/hr": ("flow", LITRES_PER_GALLON, 0.0),
    "l/h": ("flow", 1.0, 0.0),
    "lb": ("mass", 0.45359237, 0.0),
    "kg": ("mass", 1.0, 0.0),
    "deg": ("angle", 1.0, 0.0),
    "rad": ("angle", 57.29577951308232, 0.0),
    "fraction": ("part", 1.0, 0.0),
    "%": ("part", 0.01, 0.0),
    "h": ("time", 3600.0, 0.0),
    "min": ("time", 60.0, 0.0),
    "s": ("time", 1.0, 0.0),
    "Hz": ("frequency", 1.0, 0.0),
    "kHz": ("frequency", 1e3, 0.0),
    "MHz": ("frequency", 1e6, 0.0),
}


def conversion(unit: str, wanted: str) -> tuple[float, float] | None:
    """The factor and the summand that turn a number of `unit` into one of `wanted`; None if there are none.

    A unit that is not given, or that is another word for `wanted`, needs no conversion.

    >>> conversion("degC", "degF")
    (1.8, 32.0)
    >>> conversion("lb", "gal") is None
    True
    """
    ours, other = known_unit(unit), known_unit(wanted)
    if not unit or unit == wanted or (ours is not None and ours == other):
        return 1.0, 0.0
    kind, factor, zero = _SCALES.get(ours or "", ("", 1.0, 0.0))
    other_kind, other_factor, other_zero = _SCALES.get(other or "", ("none", 1.0, 0.0))
    if kind != other_kind:
        return None
    return factor / other_factor, (zero - other_zero) / other_factor


#: What people choose units for, with the choice.
QUANTITIES: dict[str, tuple[str, ...]] = {
    "temperature": ("degC", "degF", "K"),
    "speed": ("knots", "mph", "km/h"),
    "vertical speed": ("ft/min", "m/s"),
    "height": ("ft", "m"),
    "distance": ("nmi", "mi", "km"),
    "air pressure": ("inHg", "hPa"),
    "pressure": ("psi", "bar", "kPa"),
    "volume": ("gal", "l"),
    "flow": ("gal/hr", "l/h"),
    "mass": ("lb", "kg"),
}
#: Units that go together: those of American cockpits, those of most others, and those of gliders and the ground.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "us": ("degF", "knots", "ft/min", "ft", "nmi", "inHg", "psi", "gal", "gal/hr", "lb"),
    "aviation": ("degC", "knots", "ft/min", "ft", "nmi", "hPa", "bar", "l", "l/h", "kg"),
    "metric": ("degC", "km/h", "m/s", "m", "km", "hPa", "bar", "l", "l/h", "kg"),
}
_QUANTITY_OF = {unit: quantity for quantity, units in QUANTITIES.items() for unit in units}
_DIFFERENCE = re.compile(r"(?:EGTSPAN|EGTDT|EGTPK|CHTDT)[0-9]*\Z")


def preferences(words: str) -> dict[str, str]:
    """The unit of each quantity, from words such as ``us`` or ``us,mph``: systems and units, of which later ones win.

    Raises ValueError for a word that is neither.

    >>> preferences("degF,mph")
    {'temperature': 'degF', 'speed': 'mph'}
    """
    chosen: dict[str, str] = {}
    for word in filter(None, (word.strip() for word in words.split(","))):
        unit = known_unit(word) or ""
        units = SYSTEMS.get(word.lower(), (unit,) if unit in _QUANTITY_OF else ())
        if not units:
            known = ", ".join([*SYSTEMS, *_QUANTITY_OF])
            raise ValueError(f"{word!r} is neither a system of units nor a unit to choose: {known}")
        chosen.update((_QUANTITY_OF[each], each) for each in units)
    return chosen


def preferred(key: str, unit: str, chosen: Mapping[str, str]) -> tuple[str, float, float]:
    """The unit in which to show the item `key` to people who have `chosen` units, and the factor and the summand that
    convert its values.

    >>> preferred("OILT1", "degC", {"temperature": "degF"}), preferred("EGTSPAN1", "degC", {"temperature": "degF"})
    (('degF', 1.8, 32.0), ('degF', 1.8, 0.0))
    """
    base, rate, _ = unit.partition("/min")
    per_minute = bool(rate) and _QUANTITY_OF.get(base) == "temperature"
    wanted = chosen.get(_QUANTITY_OF.get(base if per_minute else known_unit(unit) or "", ""), "") + rate * per_minute
    numbers = conversion(unit, wanted) if known_unit(wanted) else None
    if numbers is None or numbers == (1.0, 0.0):
        return unit, 1.0, 0.0
    factor, summand = numbers
    return wanted, factor, 0.0 if _DIFFERENCE.match(key) else summand


def choices(units: Iterable[str]) -> dict[str, object]:
    """What a page needs to show values in preferred units, as JSON.

    `quantities` and `systems` are what people choose from. `conversions` has, for each of `units` that there is a
    choice for, its quantity, and what `preferred` says for each choice. Keys that match `differences` take the factor
    only.

    >>> choices(["degC", "V"])["conversions"]
    {'degC': {'quantity': 'temperature', 'to': {'degF': ('degF', 1.8, 32.0), 'K': ('K', 1.0, 273.15)}}}
    """
    conversions = {}
    for unit in dict.fromkeys(units):
        for quantity, names in QUANTITIES.items():
            to = {name: numbers for name in names if (numbers := preferred("", unit, {quantity: name}))[0] != unit}
            if to:
                conversions[unit] = {"quantity": quantity, "to": to}
    differences = f"^{_DIFFERENCE.pattern}".replace(r"\Z", "$")
    return {"quantities": QUANTITIES, "systems": SYSTEMS, "conversions": conversions, "differences": differences}
