"""Geekworm X728: the registers of its fuel gauge (a MAX17040). No I/O.

Voltage and charge as read in the vendor's description; register names as in Maxim's data sheet 19-5210.
"""

from __future__ import annotations

from fixgw.kit.update import Update

VOLTAGE, CHARGE = 0x02, 0x04
FULL = 99  # %: above, nothing flows into the battery that is worth the word


def battery(voltage: bytes, charge: bytes) -> tuple[float, float] | None:
    """(volts, %) of the two registers; None when no lithium cell can be so. Never raises."""
    if len(voltage) != 2 or len(charge) != 2:
        return None
    volts = int.from_bytes(voltage, "big") * 1.25 / 1000.0 / 16.0
    percent = int.from_bytes(charge, "big") / 256.0
    # The gauge may count past 100 % when the cells are larger than it believes.
    return (volts, min(percent, 100.0)) if 2.0 <= volts <= 5.0 and percent <= 130.0 else None


def updates(volts: float, percent: float, lost: bool) -> list[Update]:
    """What the database hears; `lost`: there is no supply."""
    return [
        Update("BAT_VOLTAGE", volts),
        Update("BAT_REMAINING", round(percent)),
        # The board does not say: a battery with a supply that is not full is being charged.
        Update("BAT_CHARGING", not lost and percent < FULL),
        Update("POWER_FAIL", lost),
    ]
