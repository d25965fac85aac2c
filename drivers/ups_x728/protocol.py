"""Geekworm X728: the registers of its fuel gauge (a MAX17040). No I/O.

Sources: the vendor's description for voltage and charge, Maxim's data sheet 19-5210 for the names of the registers.
"""

from __future__ import annotations

from fixgw.kit.update import Update

VOLTAGE, CHARGE = 0x02, 0x04
FULL = 99  # %: above this, the battery is no longer charged noticeably


def battery(voltage: bytes, charge: bytes) -> tuple[float, float] | None:
    """(volts, %) from the two registers; None if no lithium cell can have such a state. Never raises."""
    if len(voltage) != 2 or len(charge) != 2:
        return None
    volts = int.from_bytes(voltage, "big") * 1.25 / 1000.0 / 16.0
    percent = int.from_bytes(charge, "big") / 256.0
    # The gauge may exceed 100 % if the cells are larger than it assumes.
    return (volts, min(percent, 100.0)) if 2.0 <= volts <= 5.0 and percent <= 130.0 else None


def updates(volts: float, percent: float, lost: bool) -> list[Update]:
    """The updates for the database; `lost`: the supply is lost."""
    return [
        Update("BAT_VOLTAGE", volts),
        Update("BAT_REMAINING", round(percent)),
        # The board does not report charging. With supply, a battery that is not full is being charged.
        Update("BAT_CHARGING", not lost and percent < FULL),
        Update("POWER_FAIL", lost),
    ]
