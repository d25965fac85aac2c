"""Air data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fixgw.kit import airdata
from fixgw.plugins.compute.entry import Function, Input, Output, Setup
from fixgw.plugins.compute.evaluation import Computation, Formula

ICAO = "ICAO Doc 7488"

SETTING = Input("altimeter setting", "inHg")
ALTITUDE = Input("altitude", "ft")
PRESSURE_ALTITUDE = Input("pressure altitude", "ft")
TEMPERATURE = Input("air temperature", "degC")


def formula(calculate: Callable[..., Any], copies_aux: bool = False) -> Callable[[Setup], Computation]:
    return lambda setup: Formula(setup, calculate, copies_aux=copies_aux)


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
        name="altd",
        inputs=(PRESSURE_ALTITUDE, ALTITUDE, TEMPERATURE),
        outputs=(Output("density altitude", "ft"),),
        formula="145442 · (1 − σ^0.234969) of dry air, σ = (p/p0) / ((OAT + 273.15) / 288.15); the second input only "
        "lends its flags",
        origin=ICAO,
        build=formula(lambda palt, alt, oat: airdata.density_altitude(palt, oat), True),
    ),
)
