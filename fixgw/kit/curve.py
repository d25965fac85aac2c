"""Calibration as data: a driver's options describe what a sensor's raw readings mean.

    curve: {points: [[410, 0.0], [3700, 150.0]]}
    curve: {thermistor: {r25: 10000, beta: 3950, pull_up: 10000}}
    curve: {sender: {table: european-level, pull_up: 240}, scale: 20}

A driver has an option of type `CurveSpec`, builds a `Curve` from it once, and calls that for every reading. The
driver's page says what its raw readings are: counts, volts, or a fraction of the reference.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from fixgw.errors import did_you_mean
from fixgw.kit.units import ZERO_CELSIUS_K

T25_K = 298.15
#: A divider whose output is within this fraction of either end of its supply is shorted or open.
DEAD_END = 0.005

Point = tuple[float, float]
Beyond = Literal["fail", "clamp", "extend"]
Positive = Annotated[float, Meta(gt=0.0)]
PullUp = Annotated[float, Meta(gt=0.0, description="Resistance in ohms between the supply and the input")]


class Linear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    factor: Annotated[float, Meta(description="Change in the value per unit of the reading")]
    offset: Annotated[float, Meta(description="Value when the reading is zero")] = 0.0


class Thermistor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An NTC thermistor, in degrees Celsius: 1/T = 1/T25 + ln(R/r25)/beta, or 1/T = a + b ln R + c (ln R)³ (Steinhart
    and Hart)."""

    pull_up: PullUp
    r25: Annotated[float | None, Meta(description="Resistance in ohms at 25 °C; goes with `beta`")] = None
    beta: Annotated[float | None, Meta(description="Kelvin")] = None
    a: Annotated[
        float | None, Meta(description="Steinhart-Hart coefficient; `a`, `b` and `c` replace `r25` and `beta`")
    ] = None
    b: Annotated[float | None, Meta(description="Steinhart-Hart coefficient")] = None
    c: Annotated[float | None, Meta(description="Steinhart-Hart coefficient")] = None


class Sender(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pull_up: PullUp
    table: Annotated[str, Meta(description="Name of a table supplied with the gateway; replaces `ohms`")] = ""
    ohms: Annotated[list[Point], Meta(description="Pairs of resistance in ohms and value")] = []


class CurveSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `points`, `linear`, `thermistor` and `sender`; otherwise reading the options raises ValueError."""

    points: Annotated[list[Point], Meta(description="Pairs of reading and value, joined by straight lines")] = []
    linear: Annotated[Linear | None, Meta(description="A straight line")] = None
    thermistor: Annotated[
        Thermistor | None,
        Meta(description="NTC thermistor between the input and ground, with a pull-up; the value is in °C"),
    ] = None
    sender: Annotated[
        Sender | None, Meta(description="Resistive sender between the input and ground, with a pull-up")
    ] = None
    supply: Annotated[
        Positive | None,
        Meta(description="Reading that corresponds to the pull-up's supply; default: the driver's full scale"),
    ] = None
    limits: Annotated[
        Point | None,
        Meta(
            description="Lowest and highest reading (for a thermistor or sender: resistance in ohms) of a healthy "
            "sensor; beyond them it is shorted or open, and the key fails"
        ),
    ] = None
    beyond: Annotated[
        Beyond | None,
        Meta(
            description="What to do beyond the first and last points: `fail` the key, `clamp` to the nearest point, "
            "or `extend` the nearest line; default: `fail`, or `clamp` for named tables"
        ),
    ] = None
    scale: Annotated[
        float, Meta(description="Factor applied to the value: the tank's capacity if the table gives a fraction")
    ] = 1.0
    add: Annotated[float, Meta(description="Offset added to the value after `scale`")] = 0.0

    def __post_init__(self) -> None:
        if wrong := "; ".join(self._wrong()):
            raise ValueError(wrong)

    def curve(self, full_scale: float = 1.0) -> Curve:
        """Build the curve. `full_scale` is the reading at a pull-up's supply: 4095 counts, 3.3 volts, a ratio of
        1.0."""
        return Curve(self, full_scale)

    def check_units(self, units: str) -> Iterable[str]:
        """Describe why the curve may not suit a key in `units`, for `PluginBase.check`."""
        given = "degC" if self.thermistor else self._named().get("units", "")
        if given and given != units and self.scale == 1.0 and self.add == 0.0:
            yield f"the curve gives {given}, but the key is in {units or 'no unit'}: set `scale` (and `add`) to convert"

    def _named(self) -> Mapping[str, Any]:
        return tables()[self.sender.table] if self.sender and self.sender.table else {}

    def _table(self) -> Sequence[Point]:
        """The points, sorted by rising reading or resistance."""
        found = self.points
        if self.sender is not None:
            found = self.sender.ohms or [(ohm, value) for ohm, value in self._named()["ohms"]]
        return sorted(found)

    def _wrong(self) -> Iterable[str]:
        kinds = [k for k in ("points", "linear", "thermistor", "sender") if getattr(self, k)]
        if len(kinds) != 1:
            yield "choose exactly one of points, linear, thermistor and sender" + f", not {' and '.join(kinds)}" * bool(
                kinds
            )
            return
        if (sender := self.sender) is not None:
            if bool(sender.table) == bool(sender.ohms):
                yield "a sender takes either table or ohms"
                return
            if sender.table and sender.table not in tables():
                yield f"there is no table {sender.table!r}{did_you_mean(sender.table, tables())}"
                return
        if self.points or sender:
            table = self._table()
            if len(table) < 2:
                yield "a curve needs at least two points"
            given = self.points or (sender.ohms if sender else [])
            rising = [raw for raw, _ in given]
            if rising not in (sorted(rising), sorted(rising, reverse=True)) or len(set(rising)) < len(rising):
                yield "the readings must rise or fall throughout: one is out of place or repeated"
        if (ntc := self.thermistor) is not None:
            simple, steinhart = (ntc.r25, ntc.beta), (ntc.a, ntc.b, ntc.c)
            used, other = (simple, steinhart) if steinhart == (None,) * 3 else (steinhart, simple)
            if None in used or other != (None,) * len(other):
                yield "a thermistor needs either r25 and beta, or a, b and c"
            elif used is simple and not all(x is not None and x > 0.0 for x in simple):
                yield "r25 and beta must be greater than zero"
        if self.limits is not None and self.limits[0] >= self.limits[1]:
            yield "limits: give the lower one first"
        if self.beyond == "extend" and not self.points and not sender:
            yield "beyond: extend applies only to points and senders"
        if self.scale == 0.0:
            yield "scale: must not be zero"


class Curve:
    """``curve(reading)`` returns the value, or None if no healthy sensor gives that reading. Never raises; any
    thread."""

    def __init__(self, spec: CurveSpec, full_scale: float = 1.0) -> None:
        self.spec = spec
        #: The last reading, and how many there were: what does not grow is not fresh.
        self.reading: float | None = None
        self.number = 0
        self._supply = spec.supply if spec.supply is not None else full_scale
        self._limits = spec.limits
        self._value: Callable[[float], float | None]
        divider = spec.thermistor or spec.sender
        self._pull_up = divider.pull_up if divider else 0.0
        if spec.thermistor is not None:
            self._value = _thermistor(spec.thermistor)
        elif spec.linear is not None:
            factor, offset = spec.linear.factor, spec.linear.offset
            self._value = lambda reading: factor * reading + offset
        else:
            named = spec._named()
            table = spec._table()
            if named and self._limits is None:
                self._limits = tuple(named["limits"])
            self._value = _interpolation(table, spec.beyond or ("clamp" if named else "fail"))
        # Without limits, a reading close to either end of a divider is shorted or open. A table that starts at 0 ohms
        # has no short.
        self._dead_end = 0.0 if self._limits else DEAD_END
        self._short = 0.0 if spec.sender and spec._table()[0][0] <= 0.0 else self._dead_end

    def __call__(self, reading: float) -> float | None:
        self.reading = reading
        self.number += 1
        try:
            if self._pull_up:
                ratio = reading / self._supply
                if not self._short <= ratio <= 1.0 - self._dead_end:
                    return None
                reading = _ohms(self._pull_up, ratio)
            if self._limits is not None and not self._limits[0] <= reading <= self._limits[1]:
                return None
            value = self._value(reading)
            if value is None:
                return None
            value = value * self.spec.scale + self.spec.add
        except (ArithmeticError, ValueError):  # the logarithm of zero, or an overflow
            return None
        return value if math.isfinite(value) else None

    def ohms(self) -> float | None:
        """The resistance that the last reading means; None without a reading or a pull-up, or when the sensor is
        open."""
        reading = self.reading
        if reading is None or not self._pull_up or not 0.0 <= reading / self._supply < 1.0:
            return None
        return _ohms(self._pull_up, reading / self._supply)


def raw_readings(curves: Mapping[str, Curve], units: str) -> dict[str, dict[str, Any]]:
    """The last reading of each key's sensor as a driver shows it in its status, ``readings``; `fixgw calibrate` writes
    a curve from them. `units` are those of the readings, ``V`` or ``counts``. Any thread."""
    shown = {}
    for key, curve in curves.items():
        facts: dict[str, Any] = {"reading": curve.reading, "units": units, "number": curve.number}
        if (ohms := curve.ohms()) is not None:
            facts["ohms"] = ohms
        shown[key] = facts
    return shown


@cache
def tables() -> Mapping[str, Any]:
    """The tables supplied with the gateway, by name: description, units, source, certainty, limits, ohms."""
    import yaml

    text = resources.files(__package__).joinpath("curves.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def _ohms(pull_up: float, ratio: float) -> float:
    """The resistance to ground of a divider that gives `ratio` of its supply."""
    return pull_up * ratio / (1.0 - ratio)


def _thermistor(ntc: Thermistor) -> Callable[[float], float | None]:
    if ntc.r25 is not None and ntc.beta is not None:
        a, b, c = 1.0 / T25_K - math.log(ntc.r25) / ntc.beta, 1.0 / ntc.beta, 0.0
    else:
        a, b, c = cast("tuple[float, float, float]", (ntc.a, ntc.b, ntc.c))  # all three are given

    def celsius(ohms: float) -> float | None:
        log = math.log(ohms)
        inverse = a + b * log + c * log**3
        return 1.0 / inverse - ZERO_CELSIUS_K if inverse > 0.0 else None

    return celsius


def _interpolation(table: Sequence[Point], beyond: Beyond) -> Callable[[float], float | None]:
    raws = [raw for raw, _ in table]
    values = [value for _, value in table]

    def interpolate(reading: float) -> float | None:
        if math.isnan(reading):
            return None
        if not raws[0] <= reading <= raws[-1] and beyond != "extend":
            return None if beyond == "fail" else values[0] if reading < raws[0] else values[-1]
        after = min(max(bisect_left(raws, reading), 1), len(raws) - 1)
        low, high = raws[after - 1], raws[after]
        share = (reading - low) / (high - low)
        return values[after - 1] * (1.0 - share) + values[after] * share

    return interpolate
