"""Texas Instruments ADS1115 (and the ADS1015, with four bits fewer): configuration and result. No I/O.

Source: data sheet SBAS444, 8.6 (register map).
"""

from __future__ import annotations

RESULT, CONFIG = 0, 1
READY = 0x8000  # written: start a conversion; read: no conversion is in progress
SINGLE_SHOT = 0x0100
NO_COMPARATOR = 0x0003
ECHOED = 0x7FFF

#: The multiplexer's bits, by the name of the input.
INPUTS = {"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}
#: Ranges in volts, positive and negative.
RANGES = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)
#: Conversions a second.
RATES = (8, 16, 32, 64, 128, 250, 475, 860)


def config(inputs: str, range_: float, rate: int) -> int:
    """The register value that starts one conversion."""
    mux, gain, speed = INPUTS[inputs], RANGES.index(range_), RATES.index(rate)
    return READY | mux << 12 | gain << 9 | SINGLE_SHOT | speed << 5 | NO_COMPARATOR


def volts(raw: bytes, range_: float) -> float | None:
    """Convert a result; None if it is out of range, or not a result. Never raises."""
    if len(raw) != 2:
        return None
    value = int.from_bytes(raw, "big", signed=True)
    return value * range_ / 32768.0 if -32768 < value < 32752 else None  # 32752: full scale of the ADS1015's 12 bits
