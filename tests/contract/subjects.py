"""The drivers that pass the contract suite: one line each, in the order of their names.

A line names the driver, its virtual device, and the keys that must be good in flight and tell the aircraft's values.
What a driver needs beyond its device's place goes into `options`; `within` says how coarse a key is on the wire, if
coarser than a hundredth of its value; `truth`, what a key must show that is not the aircraft's; ``checksum=False``,
that the protocol cannot tell a frame with wrong bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fixgw.hw_sim.eis import Eis
from fixgw.hw_sim.g3x import G3x, Gnx
from fixgw.hw_sim.mgl_serial import Tp3
from fixgw.hw_sim.nmea0183 import Gps
from fixgw.hw_sim.shadin import Shadin
from tests.contract.bench import SerialBench, Subject


def serial(driver: str, device: Callable[..., Any], keys: str, **more: object) -> Subject:
    return Subject(driver, SerialBench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


SUBJECTS: tuple[Subject, ...] = (
    serial(
        "eis",
        Eis,
        "TACH1 CHT11 CHT14 EGT11 EGT14 OILT1 OILP1 H2OT1 VOLT FUELF1 FUELQT OAT HOBBS1 FUELP1 MAP1",
        options={
            "aux": {n: {"key": k, "curve": {"linear": {"factor": 0.1}}} for n, k in enumerate(("FUELP1", "MAP1"), 1)}
        },
        within={"OAT": 0.3, "FUELF1": 0.06},
    ),
    serial(
        "g3x",
        partial(G3x, gps=False),
        "PITCH ROLL HEAD IAS PALT ROT ANORM ALAT VS OAT OILP1 OILT1 TACH1 MAP1 FUELF1 FUELP1 FUELQ1 FUELQT VOLT CURRNT"
        " HOBBS1 CHT11 CHT14 EGT11 EGT14 H2OT1",
        within={"HEAD": 0.5, "OAT": 0.5, "CHT": 0.5},
        name="g3x display",
    ),
    serial(
        "g3x",
        Gnx,
        "LAT LONG TALT TRACK TRACKM GS XTRACK COURSE WPNAME",
        checksum=False,
        name="g3x navigator",
    ),
    serial(
        "mgl_serial",
        Tp3,
        "OILP1 OILT1 VOLT FUELQ1",
        options={"keys": {"input1": "OILP1", "input2": "OILT1", "input3": "VOLT", "input4": "FUELQ1"}},
        within={"FUELQ1": 0.5},
    ),
    serial("nmea0183", Gps, "LAT LONG GS TRACK TRACKM TALT GPS_SATS_TRACKED TIMEZ", within={"GS": 0.1}),
    serial(
        "shadin",
        partial(Shadin, format="G"),
        "IAS TAS PALT DALT OAT VS FUELF1 FUELQT ALT",
        within={"OAT": 0.5, "FUELF1": 0.06},
    ),
)
