"""Microchip MCP3008 (and the MCP3004, with four inputs): one conversion. No I/O.

Source: data sheet DS21295, 6.1 (segmented in bytes, figure 6-1).
"""

from __future__ import annotations

STEPS = 1024  # per reference voltage; the last count is one step below it
NULL_BIT = 0x04

SINGLE_ENDED = tuple(str(i) for i in range(8))
#: Inputs by name: single-ended, or differential against the neighbour.
INPUTS = {
    **{name: 0x80 | i << 4 for i, name in enumerate(SINGLE_ENDED)},
    **{f"{i}-{i ^ 1}": i << 4 for i in range(8)},
}


def request(inputs: str) -> tuple[int, int, int]:
    """The three bytes that start and clock one conversion."""
    return 0x01, INPUTS[inputs], 0x00


def counts(answer: bytes) -> int | None:
    """Return 0 to 1023, or None if no chip answered: a chip drives the bit before the result low. Never raises.

    An undriven line that a resistor pulls low also gives 0: the caller must tell it from 0 V.
    """
    if len(answer) != 3 or answer[1] & NULL_BIT:
        return None
    return (answer[1] & 0x03) << 8 | answer[2]
