"""Check sequences of 16 bits for virtual instruments: tables of what a byte does to one."""

from __future__ import annotations


def _ccitt(value: int) -> int:
    value <<= 8
    for _ in range(8):
        value = value << 1 & 0xFFFF ^ (0x1021 if value & 0x8000 else 0)
    return value


def _reflected(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return value


#: The polynomial of CCITT, 0x1021: the highest bit of a byte first, and the lowest first.
CCITT = tuple(map(_ccitt, range(256)))
REFLECTED = tuple(map(_reflected, range(256)))
