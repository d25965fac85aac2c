"""The drivers that pass the contract suite: one line each, in the order of their names.

A line names the driver, its virtual device, and the keys that must be good in flight and tell the aircraft's values.
What a driver needs beyond its device's place goes into `options`; `within` says how coarse a key is on the wire, if
coarser than a hundredth of its value; `truth`, what a key must show that is not the aircraft's; ``checksum=False``,
that the protocol cannot tell a frame with wrong bytes.
"""

from __future__ import annotations

from fixgw.hw_sim.nmea0183 import Gps
from tests.contract.bench import SerialBench, Subject


def serial(driver: str, device: type, keys: str, **more: object) -> Subject:
    return Subject(driver, SerialBench, tuple(keys.split()), device, **more)  # type: ignore[arg-type]


SUBJECTS: tuple[Subject, ...] = (
    serial("nmea0183", Gps, "LAT LONG GS TRACK TRACKM TALT GPS_SATS_TRACKED TIMEZ", within={"GS": 0.1}),
)
