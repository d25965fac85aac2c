"""Frames of CAN-FIX without positions and names, for captures that are given to others. No I/O.

Source: the parameters of CAN-FIX 0.7 (`parameters.csv`): positions are floats in degrees, identifiers have five
characters.
"""

from __future__ import annotations

import struct
from typing import Any

from fixgw.kit.anonymous import Shift, blank
from fixgw.kit.raw import Heard

LATITUDES = frozenset((0x1C3, 0x481, 0x487, 0x496))
LONGITUDES = frozenset((0x1C4, 0x482, 0x488, 0x497))
#: Waypoints, the destination, VOR stations, the aircraft.
NAMES = frozenset((0x480, 0x486, 0x495, *range(0x4C8, 0x4CC), 0x587))
#: ADS-B, and everything between two nodes only: no replay needs it.
LEFT_OUT = frozenset((*range(0x1D0, 0x1E0), *range(0x7E0, 0x800)))
#: Control codes with which a node sets a parameter of others.
PARAMETER_SET = range(12, 20)


def without_places(entries: list[Heard], shift: Shift) -> list[Heard]:
    """What a bus carried, with all positions shifted and names blanked."""
    found = []
    for entry in entries:
        if isinstance(entry.data, list):
            entry = entry._replace(data=[f for frame in entry.data if (f := _clean(frame, shift)) is not None])
        found.append(entry)
    return found


def _clean(frame: Any, shift: Shift) -> Any:
    identifier, data = frame.arbitration_id, frame.data
    if identifier in LEFT_OUT:
        return None
    if 0x6E0 < identifier < 0x7E0 and data and data[0] in PARAMETER_SET:
        return None  # it may be any parameter, in its own packing
    if len(data) < 3:
        return frame
    if identifier in NAMES:
        return _with(frame, data[:3] + blank(data[3:]))
    if identifier in LATITUDES or identifier in LONGITUDES:
        if len(data) != 7 or data[2] >> 4:
            return None
        (degrees,) = struct.unpack_from("<f", data, 3)
        moved = shift.latitude(degrees) if identifier in LATITUDES else shift.longitude(degrees)
        return _with(frame, data[:3] + struct.pack("<f", moved))
    return frame


def _with(frame: Any, data: bytes) -> Any:
    return type(frame)(frame.arbitration_id, data, frame.flags, frame.timestamp)
