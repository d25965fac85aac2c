"""What a protocol says: `Update`; and what values and flags are."""

from __future__ import annotations

from typing import Literal, NamedTuple

Value = float | int | bool | str
TypeName = Literal["float", "int", "bool", "str"]

# Flags are bits in the order of the wire's "aobfs".
ANNUNCIATE = 16
OLD = 8
BAD = 4
FAIL = 2
SECFAIL = 1
WRITABLE = ANNUNCIATE | BAD | FAIL | SECFAIL  # OLD belongs to the clock, not to the writer
FLAG_NAMES = {ANNUNCIATE: "annunciate", OLD: "old", BAD: "bad", FAIL: "fail", SECFAIL: "secfail"}
FLAG_LETTERS = {"a": ANNUNCIATE, "o": OLD, "b": BAD, "f": FAIL, "s": SECFAIL}

NEVER = float("-inf")  # the time stamp of an item that has never been written
TRUE_WORDS = frozenset(("True", "true", "T", "yes", "1"))
FALSE_WORDS = frozenset(("False", "false", "F", "no", "0"))


class Update(NamedTuple):
    """What to write to a key; a value of None leaves the value alone, and only sets the flags."""

    key: str
    value: Value | None
    flags: int = 0
    reason: str = ""


def begin_counting(counts: dict[str, int] | None, *names: str) -> dict[str, int]:
    """`counts` itself, or a new one, with an entry for each of the `names`: a protocol's counters, in their order."""
    counts = {} if counts is None else counts
    for name in names:
        counts.setdefault(name, 0)
    return counts
