"""The drivers that pass the contract suite: one line each, in the order of their names.

A line names the driver, its virtual device, and the keys that must be good in flight and tell the aircraft's values.
What a driver needs beyond its device's place goes into `options`; `within` says how coarse a key is on the wire, if
coarser than a hundredth of its value; `truth`, what a key must show that is not the aircraft's; ``checksum=False``,
that the protocol cannot tell a frame with wrong bytes.
"""

from __future__ import annotations

from fixgw.hw_sim.eis import Eis
from fixgw.hw_sim.nmea0183 import Gps
from tests.contract.bench import SerialBench, Subject


def serial(driver: str, device: type, keys: str, **more: object) -> Subject:
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
    serial("nmea0183", Gps, "LAT LONG GS TRACK TRACKM TALT GPS_SATS_TRACKED TIMEZ", within={"GS": 0.1}),
)
