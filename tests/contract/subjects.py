"""The drivers that pass the contract suite: one line each, in the order of their names; chips are in `chips`.

A line names the driver, its virtual device, and the keys that must be good in flight and tell the aircraft's values.
What a driver needs beyond its device's place goes into `options`; `within` says how coarse a key is on the wire, if
coarser than a hundredth of its value; `truth`, what a key must show that is not the aircraft's; ``checksum=False``,
that the protocol cannot tell a frame with wrong bytes; `absurd`, values that the wire carries and that cannot be true;
`unknown`, what the device says that it does not know; ``repeats=True``, that the driver notices a device that hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fixgw.hw_sim.devices.autopilot import Autopilot
from fixgw.hw_sim.devices.dynon_d10 import D10, STALL_ANGLE
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.g3x import G3x, Gnx
from fixgw.hw_sim.devices.lines import READ_WITH, Arduino
from fixgw.hw_sim.devices.megasquirt import Megasquirt
from fixgw.hw_sim.devices.mgl_rdac import Rdac
from fixgw.hw_sim.devices.mgl_serial import Tp3
from fixgw.hw_sim.devices.nmea0183 import Gps, Navigator
from fixgw.hw_sim.devices.shadin import Shadin
from fixgw.hw_sim.devices.skyview import SkyView
from tests.contract.bench import Bench, CanBench, SerialBench, Subject
from tests.contract.chips import CHIPS
from tests.contract.links import TcpBench, UdpBench
from tests.contract.outputs import AutopilotBench, BridgeBench, BytesBench, CanFixBench, CanFixNode
from tests.contract.pins import PinBench


def serial(driver: str, device: Callable[..., Any], keys: str, **more: object) -> Subject:
    return Subject(driver, SerialBench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


def can(driver: str, device: Callable[..., Any], keys: str, **more: object) -> Subject:
    return Subject(driver, CanBench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


def other(bench: type[Bench], driver: str, device: Callable[..., Any], keys: str, **more: object) -> Subject:
    return Subject(driver, bench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


SUBJECTS: tuple[Subject, ...] = (
    *CHIPS,
    other(BridgeBench, "can_bridge", Rdac, ""),
    other(
        CanFixBench,
        "canfix",
        CanFixNode,
        "TACH1 PROP1 OILP1 OILT1 VOLT CHT11 CHT14 EGT11 EGT14",
        absurd={"OILP1": 400.0},
    ),
    serial(
        "dynon_d10",
        D10,
        "PITCH ROLL HEAD IAS ALT PALT ROT VS ALAT ANORM AOA",
        options={"stall_angle": STALL_ANGLE},
        within={"HEAD": 0.5, "VS": 3.0, "AOA": 0.08, "ANORM": 0.05},
        absurd={"PITCH": 95.0, "ROLL": 190.0},
        repeats=True,
    ),
    serial(
        "eis",
        Eis,
        "TACH1 CHT11 CHT14 EGT11 EGT14 OILT1 OILP1 H2OT1 VOLT FUELF1 FUELQT OAT HOBBS1 FUELP1 MAP1",
        options={
            "aux": {n: {"key": k, "curve": {"linear": {"factor": 0.1}}} for n, k in enumerate(("FUELP1", "MAP1"), 1)}
        },
        within={"OAT": 0.3, "FUELF1": 0.06},
        absurd={"TACH1": 30_000, "CHT11": 1500.0, "VOLT": 90.0},
        unknown=("CHT11", "EGT14"),
    ),
    serial(
        "g3x",
        partial(G3x, gps=False),
        "PITCH ROLL HEAD IAS ALT PALT ROT ANORM ALAT VS OAT OILP1 OILT1 TACH1 MAP1 FUELF1 FUELP1 FUELQ1 FUELQT VOLT"
        " CURRNT HOBBS1 CHT11 CHT14 EGT11 EGT14 H2OT1",
        within={"HEAD": 0.5, "OAT": 0.5, "ANORM": 0.05},
        absurd={"PITCH": 95.0, "ROLL": 190.0, "CHT11": 900.0},
        unknown=("IAS", "OILP1", "EGT11"),
        name="g3x display",
    ),
    serial(
        "g3x",
        Gnx,
        "LAT LONG TALT TRACK TRACKM GS XTRACK COURSE WPNAME",
        checksum=False,
        absurd={"LAT": 95.0},
        name="g3x navigator",
    ),
    other(
        PinBench,
        "gpio",
        object,
        "FUELF1 BTN33",
        options={
            "pulses": [{"pin": 4, "key": "FUELF1", "pulses": 29000, "per": "gallon", "window": 2}],
            "buttons": [{"pin": 17, "key": "BTN33"}],
            "encoders": [{"a": 5, "b": 6, "key": "ENC3"}],
            "outputs": [{"pin": 20, "when": "OILP1 < 25"}],
            "dimmers": [{"pin": 18, "key": "DIM"}],
        },
        truth={"BTN33": False},
        within={"FUELF1": 0.4},
    ),
    serial(
        "lines",
        Arduino,
        "TACH1 OILP1 OILT1 FUELQ1 OAT CAT VOLT COMSTDRX1",
        options=READ_WITH,
        absurd={"OILT1": 500.0},
        unknown=("OAT", "VOLT"),
    ),
    can(
        "megasquirt",
        Megasquirt,
        "TACH1 MAP1 H2OT1 THR1 VOLT FUELF1 EGT11 EGT14",
        options={"probes": 4},
        absurd={"TACH1": 30_000, "H2OT1": 900.0, "VOLT": 90.0},
    ),
    can(
        "mgl_rdac",
        Rdac,
        "TACH1 VOLT RAT OILT1 OILP1 FUELF1 CHT11 EGT14",
        options={
            "channels": {
                "rpm_1": {"key": "TACH1"},
                "voltage": {"key": "VOLT"},
                "temperature": {"key": "RAT"},
                "thermocouple_1": {"key": "CHT11"},
                "thermocouple_8": {"key": "EGT14"},
                "oil_temperature": {"key": "OILT1", "curve": {"points": [[500, 0.0], [3500, 150.0]]}},
                "oil_pressure": {"key": "OILP1", "curve": {"points": [[400, 0.0], [3600, 100.0]]}},
                "fuel_flow_1": {"key": "FUELF1", "curve": {"linear": {"factor": 0.02}}},
            }
        },
        within={"RAT": 0.5},
        absurd={"CHT11": 2000.0, "VOLT": 90.0},
        unknown=("CHT11", "OILT1", "FUELF1"),
    ),
    serial(
        "mgl_serial",
        Tp3,
        "OILP1 OILT1 VOLT FUELQ1",
        options={"keys": {"input1": "OILP1", "input2": "OILT1", "input3": "VOLT", "input4": "FUELQ1"}},
        within={"FUELQ1": 0.5},
        absurd={"OILP1": 2000.0, "OILT1": 2000.0},
        unknown=("VOLT",),
    ),
    serial(
        "nmea0183",
        Gps,
        "LAT LONG GS TRACK TRACKM TALT GPS_SATS_TRACKED TIMEZ",
        within={"GS": 0.1},
        absurd={"LAT": 95.0},
        repeats=True,
    ),
    serial(
        "nmea0183",
        Navigator,
        "LAT LONG XTRACK CDI COURSE WPLAT WPLON WPNAME WPHEAD",
        within={"XTRACK": 0.011, "CDI": 0.011},
        absurd={"GS": 5000.0},
        name="nmea0183 navigator",
    ),
    other(AutopilotBench, "nmea0183_out", Autopilot, ""),
    other(BytesBench, "serial_bridge", Gps, "", options={"tcp_port": 0}),
    serial(
        "shadin",
        partial(Shadin, format="G"),
        "IAS TAS PALT DALT OAT VS FUELF1 FUELQT ALT",
        within={"OAT": 0.5, "FUELF1": 0.06},
        absurd={"IAS": 5000.0, "OAT": 300.0},
        unknown=("OAT", "FUELF1"),
    ),
    serial(
        "skyview",
        SkyView,
        "PITCH ROLL HEAD IAS TAS ALT PALT DALT ROT VS ALAT ANORM OAT COURSE CDI GSI TIMEZ TACH1 OILP1 OILT1 MAP1 FUELF1"
        " FUELP1 FUELQ1 FUELQ2 VOLT CURRNT HOBBS1 CHT11 CHT14 EGT11 EGT14 H2OT1",
        options={"inputs": {12: "H2OT1"}},
        within={"HEAD": 0.5, "VS": 5.0, "OAT": 0.5, "GSI": 0.011, "ANORM": 0.05},
        absurd={"PITCH": 95.0, "ROLL": 190.0, "OILT1": 500.0},
        unknown=("IAS", "OILP1", "EGT11"),
        repeats=True,
    ),
)

#: One protocol, any link: what some of them say comes over a network, too.
SUBJECTS += tuple(
    replace(subject, bench=bench, name=f"{subject} over {link}")
    for subject in SUBJECTS
    if str(subject) in ("eis", "nmea0183", "skyview")
    for link, bench in (("TCP", TcpBench), ("UDP", UdpBench))
)
