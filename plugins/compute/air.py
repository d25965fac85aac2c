"""Air data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fixgw.kit import airdata
from fixgw.kit.airdata import Undefined
from fixgw.plugins.compute.entry import Entry, Function, Input, Option, Output, Setup
from fixgw.plugins.compute.evaluation import Computation, Formula, Moment, Process, Result
from fixgw.plugins.compute.lines import by_setting, interpolate, place, rises
from fixgw.plugins.compute.trend import Trend

ICAO = "ICAO Doc 7488"
IMPACT = "compressible flow of air, γ = 1.4"
LEAST_IMPACT_PA = 65.0  # about 20 knots: with less, two pressure ports say nothing about the angle of attack

SETTING = Input("altimeter setting", "inHg")
ALTITUDE = Input("altitude", "ft")
PRESSURE_ALTITUDE = Input("pressure altitude", "ft")
TEMPERATURE = Input("air temperature", "degC")
CAS = Input("calibrated airspeed", "knots")
TAS = Input("true airspeed", "knots")


def formula(calculate: Callable[..., Any], copies_aux: bool = False) -> Callable[[Setup], Computation]:
    return lambda setup: Formula(setup, calculate, copies_aux=copies_aux)


# -- airspeed ----------------------------------------------------------------------------------------------------------


def _points(entry: Entry) -> dict[float, list[tuple[float, float]]]:
    """The points by flap setting; a single list holds for all."""
    points = entry.points or []
    return points if isinstance(points, dict) else {0.0: points}


def _position_error(setup: Setup) -> Computation:
    tables = _points(setup.entry)
    settings = sorted(tables)
    lines = [([ias for ias, _ in tables[s]], [cas - ias for ias, cas in tables[s]]) for s in settings]

    def calibrated(ias: float, flaps: float = 0.0) -> float:
        number, share = place(settings, flaps)
        correction = interpolate(*lines[number], ias)
        if share:
            correction += share * (interpolate(*lines[number + 1], ias) - correction)
        return ias + correction

    return Formula(setup, calibrated)


def _check_points(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    tables = _points(entry)
    if not tables or not all(rises([ias for ias, _ in points]) for points in tables.values()):
        return [("points", "each list needs points whose IAS rises")]
    if len(tables) > 1 and len(setup.items) < 2:
        return [("points", "lists for several flap settings need the flaps as second input")]
    return []


# -- rates -------------------------------------------------------------------------------------------------------------


def _rate(per: float, wraps: bool | None = None) -> Callable[[Setup], Computation]:
    """The change of the input in `per` seconds. `wraps` None leaves it to the options."""

    def build(setup: Setup) -> Computation:
        trend = Trend(setup.option("window"), bool(setup.option("wrap") if wraps is None else wraps))

        def change(moment: Moment, value: float) -> float:
            if moment.written[0] and moment.good:
                trend.add(moment.now, value)
            return trend.slope() * per

        return Process(setup, change, trend.clear)

    return build


# -- angle of attack ---------------------------------------------------------------------------------------------------


def aoa_pressure(coefficients: Sequence[float], pfwd_pa: float, p45_pa: float) -> float:
    """Angle of attack in degrees, from the pressures at two ports; `coefficients` from the constant up."""
    if pfwd_pa < LEAST_IMPACT_PA:
        raise Undefined("it is too slow")
    ratio = p45_pa / pfwd_pa
    return sum(c * ratio**power for power, c in enumerate(coefficients))


def _pressure_ports(setup: Setup) -> Computation:
    calibration = setup.option("calibration")
    return Formula(setup, lambda pfwd, p45, flaps=0.0: aoa_pressure(by_setting(calibration, flaps), pfwd, p45))


def _check_calibration(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    if not entry.calibration:
        return [("calibration", "there is no flap setting")]
    if len(entry.calibration) > 1 and len(setup.items) < 3:
        return [("calibration", "several flap settings need the flaps as third input")]
    return []


def _lift_fraction(setup: Setup) -> Computation:
    aux = setup.items[0].aux
    zero, stall = setup.option("zero_lift"), setup.option("stall")

    def fraction(aoa: float) -> float:
        zero_lift = zero if zero is not None else _number(aux.get("0g"))
        at_stall = stall if stall is not None else _number(aux.get("Stall"))
        if zero_lift is None or at_stall is None:
            raise Undefined("the angles of zero lift and of the stall are not set")
        return airdata.lift_fraction(aoa, zero_lift if zero is not None else -abs(zero_lift), at_stall)

    return Formula(setup, fraction)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _true_airspeed(cas: float, palt: float, oat: float) -> Result:
    mach = airdata.mach_number(cas, palt)
    return airdata.airspeed_of_mach(mach, oat), mach


def _turn(bank: float, tas: float) -> Result:
    rate, load, radius = airdata.turn(bank, tas)
    return rate, load, radius if radius < 1e6 else None


FUNCTIONS = (
    Function(
        name="altp",
        aliases=("pressure_altitude_from_indicated",),
        inputs=(SETTING, ALTITUDE),
        outputs=(Output("pressure altitude", "ft"),),
        formula="ALT + 145442 · (1 − (BARO / 29.9213)^0.190263); exact for the indicated altitude",
        origin=ICAO,
        build=formula(lambda baro, alt: airdata.pressure_altitude_from_indicated(alt, baro), True),
    ),
    Function(
        name="pressure_altitude",
        inputs=(Input("static pressure", "Pa"),),
        outputs=(Output("pressure altitude", "ft"),),
        formula="145442 · (1 − (p / 101325)^0.190263)",
        origin=ICAO,
        build=formula(airdata.pressure_altitude),
    ),
    Function(
        name="static_pressure",
        inputs=(PRESSURE_ALTITUDE,),
        outputs=(Output("static pressure", "Pa"),),
        formula="101325 · (1 − PALT / 145442)^5.25588, below 36,089 ft",
        origin=ICAO,
        build=formula(airdata.static_pressure),
    ),
    Function(
        name="isa_temperature",
        inputs=(PRESSURE_ALTITUDE,),
        outputs=(Output("standard temperature", "degC"),),
        formula="15 − 0.0019812 · PALT, below 36,089 ft",
        origin=ICAO,
        build=formula(airdata.isa_temperature),
    ),
    Function(
        name="altd",
        inputs=(PRESSURE_ALTITUDE, ALTITUDE, TEMPERATURE),
        outputs=(Output("density altitude", "ft"),),
        formula="145442 · (1 − σ^0.234969) of dry air, σ = (p/p0) / ((OAT + 273.15) / 288.15); the second input only "
        "lends its flags",
        origin=ICAO,
        build=formula(lambda palt, alt, oat: airdata.density_altitude(palt, oat), True),
    ),
    Function(
        name="density_altitude",
        inputs=(PRESSURE_ALTITUDE, TEMPERATURE),
        outputs=(Output("density altitude", "ft"),),
        formula="as `altd`",
        origin=ICAO,
        build=formula(airdata.density_altitude),
    ),
    Function(
        name="impact_pressure",
        inputs=(CAS,),
        outputs=(Output("impact pressure", "Pa"),),
        formula="101325 · ((1 + 0.2 (CAS / 661.48)²)^3.5 − 1)",
        origin=IMPACT,
        build=formula(airdata.impact_pressure),
    ),
    Function(
        name="calibrated_airspeed",
        aliases=("cas",),
        inputs=(Input("impact pressure", "Pa"),),
        outputs=(Output("calibrated airspeed", "knots"),),
        formula="661.48 · √(5 ((qc / 101325 + 1)^(2/7) − 1)); 0 for a negative pressure",
        origin=IMPACT,
        build=formula(airdata.calibrated_airspeed),
    ),
    Function(
        name="cas_from_ias",
        inputs=(Input("indicated airspeed", "knots"), Input("flaps", optional=True)),
        outputs=(Output("calibrated airspeed", "knots"),),
        formula="IAS + the correction at this IAS and flap setting: straight lines between the points, the ends hold",
        origin="the aircraft's handbook",
        options=(Option("points", required=True),),
        build=_position_error,
        check=_check_points,
    ),
    Function(
        name="mach",
        inputs=(CAS, PRESSURE_ALTITUDE),
        outputs=(Output("Mach number", "Mach"),),
        formula="√(5 ((qc/p + 1)^(2/7) − 1)), with qc from CAS and p from PALT",
        origin=IMPACT,
        build=formula(airdata.mach_number),
    ),
    Function(
        name="true_airspeed",
        aliases=("tas",),
        inputs=(CAS, PRESSURE_ALTITUDE, TEMPERATURE),
        outputs=(Output("true airspeed", "knots"), Output("Mach number", "Mach", optional=True)),
        formula="661.48 · Mach · √((OAT + 273.15) / 288.15); IAS may stand in for CAS",
        origin=IMPACT,
        build=formula(_true_airspeed),
    ),
    Function(
        name="static_from_total_temperature",
        aliases=("sat",),
        inputs=(Input("temperature at the probe", "degC"), Input("Mach number", "Mach")),
        outputs=(Output("static air temperature", "degC"),),
        formula="(T + 273.15) / (1 + 0.2 · recovery · Mach²) − 273.15",
        origin=IMPACT,
        options=(Option("recovery", 1.0),),
        build=lambda setup: Formula(
            setup, lambda tat, mach: airdata.static_from_total_temperature(tat, mach, setup.option("recovery"))
        ),
    ),
    Function(
        name="vertical_speed",
        inputs=(PRESSURE_ALTITUDE,),
        outputs=(Output("vertical speed", "ft/min"),),
        formula="slope over the last `window` seconds, by least squares; nothing before there are three samples in "
        "half of it. Of PALT, because a change of the altimeter setting is no climb",
        origin="linear regression",
        options=(Option("window", 2.0),),
        build=_rate(60.0, wraps=False),
    ),
    Function(
        name="rate",
        aliases=("rate_per_minute",),
        inputs=(Input("value"),),
        outputs=(Output("change per minute"),),
        formula="slope over the last `window` seconds as in `vertical_speed`, per minute",
        origin="linear regression",
        options=(Option("window", 60.0), Option("wrap", False)),
        build=_rate(60.0),
    ),
    Function(
        name="turn_rate",
        inputs=(Input("heading", "deg"),),
        outputs=(Output("rate of turn", "deg/s"),),
        formula="slope over the last `window` seconds as in `vertical_speed`, of a direction",
        origin="linear regression",
        options=(Option("window", 2.0),),
        build=_rate(1.0, wraps=True),
    ),
    Function(
        name="turn",
        inputs=(Input("bank", "deg"), TAS),
        outputs=(
            Output("rate of turn", "deg/s"),
            Output("load factor", "g", optional=True),
            Output("radius in metres", optional=True),
        ),
        formula="g · tan(bank) / TAS, 1 / cos(bank), TAS² / (g · tan(bank)): a coordinated level turn",
        origin="mechanics",
        build=formula(_turn),
    ),
    Function(
        name="standard_rate_bank",
        inputs=(TAS,),
        outputs=(Output("bank", "deg"),),
        formula="the bank for 3 deg/s: atan(ω · TAS / g)",
        origin="mechanics",
        build=formula(airdata.standard_rate_bank),
    ),
    Function(
        name="aoa_pressure",
        inputs=(Input("pressure at the front port", "Pa"), Input("pressure at the 45° port", "Pa"),
                Input("flaps", optional=True)),
        outputs=(Output("angle of attack", "deg"),),
        formula="a0 + a1·Cp + a2·Cp² + a3·Cp³, Cp = p45/pfwd; straight lines between flap settings, the ends hold; "
        "nothing below 65 Pa",
        origin="calibration in flight",
        options=(Option("calibration", required=True),),
        build=_pressure_ports,
        check=_check_calibration,
    ),
    Function(
        name="lift_fraction",
        inputs=(Input("angle of attack", "deg"),),
        outputs=(Output("fraction of the greatest lift", "fraction"),),
        formula="(AOA − α0) / (αstall − α0)",
        origin="",
        options=(Option("zero_lift"), Option("stall")),
        build=_lift_fraction,
    ),
)  # fmt: skip
