"""The standard atmosphere, and what static and impact pressure, temperature and attitude say about the flight.

The atmosphere is that of ICAO Doc 7488, up to the tropopause. Each function says what it takes in the names of its
arguments: feet, knots, pascals, degrees Celsius. ValueError means that an argument cannot be right, `Undefined` that
the arguments may be right but there is no result.
"""

from __future__ import annotations

import math

from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS, PASCALS_PER_INHG, ZERO_CELSIUS_K

P0_PA = 101_325.0
T0_K = 288.15
LAPSE_K_PER_M = 0.0065
GRAVITY_MPS2 = 9.80665
GAS_CONSTANT = 287.05287  # of dry air, J/(kg K)
GAMMA = 1.4  # ratio of the specific heats of air
TROPOPAUSE_FT = 36_089.0
COLDEST_C, HOTTEST_C = -100.0, 100.0  # of air that we believe

PRESSURE_EXPONENT = GRAVITY_MPS2 / (GAS_CONSTANT * LAPSE_K_PER_M)  # 5.25588
DENSITY_EXPONENT = 1.0 / (PRESSURE_EXPONENT - 1.0)  # 0.234969
FEET_TO_ZERO_K = T0_K / LAPSE_K_PER_M * FEET_PER_METRE  # 145,442 ft
SPEED_OF_SOUND_KT = math.sqrt(GAMMA * GAS_CONSTANT * T0_K) * KNOTS_PER_MPS  # 661.48, at sea level


class Undefined(ValueError):
    """There is no result, although the arguments may be right; the message says why."""


def _below_the_tropopause(feet: float) -> float:
    if not feet <= TROPOPAUSE_FT:
        raise Undefined(f"{feet:.0f} ft is above the tropopause")
    return feet


def _kelvins(celsius: float) -> float:
    if not COLDEST_C <= celsius <= HOTTEST_C:
        raise ValueError(f"no air has {celsius:g} degC")
    return celsius + ZERO_CELSIUS_K


# -- altitudes ---------------------------------------------------------------------------------------------------------


def pressure_altitude(static_pa: float) -> float:
    """Pressure altitude in feet, from the static pressure in pascals, more than 0."""
    if not static_pa > 0.0:
        raise ValueError(f"{static_pa:g} Pa is no pressure of air")
    return float(FEET_TO_ZERO_K * (1.0 - (static_pa / P0_PA) ** (1.0 / PRESSURE_EXPONENT)))


def static_pressure(palt_ft: float) -> float:
    """Static pressure in pascals at a pressure altitude in feet."""
    return float(P0_PA * (1.0 - _below_the_tropopause(palt_ft) / FEET_TO_ZERO_K) ** PRESSURE_EXPONENT)


def setting_altitude(baro_inhg: float) -> float:
    """The feet by which an altimeter with this setting shows less than one set to 29.92 inHg."""
    return pressure_altitude(baro_inhg * PASCALS_PER_INHG)


def pressure_altitude_from_indicated(alt_ft: float, baro_inhg: float) -> float:
    """Pressure altitude in feet, from an altimeter's reading and its setting in inHg, more than 0."""
    return alt_ft + setting_altitude(baro_inhg)


def indicated_altitude(palt_ft: float, baro_inhg: float) -> float:
    """What an altimeter shows in feet, at a pressure altitude in feet, with a setting in inHg, more than 0."""
    return palt_ft - setting_altitude(baro_inhg)


def isa_temperature(palt_ft: float) -> float:
    """The standard temperature in degrees Celsius at a pressure altitude in feet."""
    return T0_K - ZERO_CELSIUS_K - LAPSE_K_PER_M * _below_the_tropopause(palt_ft) / FEET_PER_METRE


def density_altitude(palt_ft: float, oat_c: float) -> float:
    """Density altitude of dry air in feet: where the standard atmosphere is as dense."""
    density = static_pressure(palt_ft) / P0_PA / (_kelvins(oat_c) / T0_K)
    return float(FEET_TO_ZERO_K * (1.0 - density**DENSITY_EXPONENT))


# -- speeds ------------------------------------------------------------------------------------------------------------


def impact_pressure(cas_kt: float) -> float:
    """Impact pressure (pitot minus static) in pascals at a calibrated airspeed in knots."""
    return float(P0_PA * ((1.0 + 0.2 * (cas_kt / SPEED_OF_SOUND_KT) ** 2) ** 3.5 - 1.0))


def calibrated_airspeed(qc_pa: float) -> float:
    """Calibrated airspeed in knots, from the impact pressure in pascals; 0 if that is negative."""
    return SPEED_OF_SOUND_KT * _mach(max(qc_pa, 0.0) / P0_PA)


def mach_number(cas_kt: float, palt_ft: float) -> float:
    """Mach number, from the calibrated airspeed in knots and the pressure altitude in feet."""
    return _mach(impact_pressure(cas_kt) / static_pressure(palt_ft))


def _mach(ratio: float) -> float:
    """The Mach number at which the impact pressure is `ratio` times the static pressure."""
    return math.sqrt(5.0 * ((ratio + 1.0) ** (2.0 / 7.0) - 1.0))


def true_airspeed(cas_kt: float, palt_ft: float, oat_c: float) -> float:
    """True airspeed in knots, from calibrated airspeed, pressure altitude and static air temperature."""
    return airspeed_of_mach(mach_number(cas_kt, palt_ft), oat_c)


def airspeed_of_mach(mach: float, oat_c: float) -> float:
    """True airspeed in knots, from the Mach number and the static air temperature."""
    return SPEED_OF_SOUND_KT * mach * math.sqrt(_kelvins(oat_c) / T0_K)


def static_from_total_temperature(tat_c: float, mach: float, recovery: float = 1.0) -> float:
    """Static air temperature in degrees Celsius, from that of a probe in the airstream, whose `recovery` is 0 to 1."""
    return _kelvins(tat_c) / (1.0 + 0.2 * recovery * mach * mach) - ZERO_CELSIUS_K


# -- turns -------------------------------------------------------------------------------------------------------------


def turn(bank_deg: float, tas_kt: float) -> tuple[float, float, float]:
    """A coordinated level turn: its rate in degrees a second (right positive), load factor, radius in metres to 0.1.

    The radius of straight flight is infinite.
    """
    speed = tas_kt / KNOTS_PER_MPS
    if not speed > 0.0 or not abs(bank_deg) < 90.0:
        raise Undefined(f"no turn at {tas_kt:g} knots and {bank_deg:g} deg of bank")
    bank = math.radians(bank_deg)
    rate = GRAVITY_MPS2 * math.tan(bank) / speed
    radius = round(abs(speed / rate), 1) if rate else math.inf
    return math.degrees(rate), 1.0 / math.cos(bank), radius


def standard_rate_bank(tas_kt: float) -> float:
    """The bank in degrees that turns 3 degrees a second at a true airspeed in knots."""
    return math.degrees(math.atan(math.radians(3.0) * tas_kt / KNOTS_PER_MPS / GRAVITY_MPS2))


# -- angle of attack ---------------------------------------------------------------------------------------------------


def lift_constant(level_aoa_deg: float, zero_lift_deg: float, level_ias_kt: float, level_g: float) -> float:
    """K of a wing, from an angle of attack in level flight: `aoa_lift` extrapolates from it."""
    return (level_aoa_deg - zero_lift_deg) * level_ias_kt**2 / level_g


def aoa_lift(k: float, zero_lift_deg: float, ias_kt: float, g: float) -> float:
    """Angle of attack in degrees at an indicated airspeed and normal acceleration, the weight and flaps being those
    with which `k` was learnt."""
    return k * g / ias_kt**2 + zero_lift_deg


def lift_fraction(aoa_deg: float, zero_lift_deg: float, stall_deg: float) -> float:
    """The lift as a fraction of the most that the wing has: 0 without lift, 1 at the stall."""
    return (aoa_deg - zero_lift_deg) / (stall_deg - zero_lift_deg)
