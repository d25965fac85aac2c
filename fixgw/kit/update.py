"""What a protocol produces, `Update`, and the types of values and flags."""

from __future__ import annotations

from typing import Literal, NamedTuple

Value = float | int | bool | str
TypeName = Literal["float", "int", "bool", "str"]

# Flags are bits in the order in which NetFIX sends them: "aobfs".
ANNUNCIATE = 16
OLD = 8
BAD = 4
FAIL = 2
SECFAIL = 1
WRITABLE = ANNUNCIATE | BAD | FAIL | SECFAIL  # only the clock sets OLD
FLAG_NAMES = {ANNUNCIATE: "annunciate", OLD: "old", BAD: "bad", FAIL: "fail", SECFAIL: "secfail"}
FLAG_LETTERS = {"a": ANNUNCIATE, "o": OLD, "b": BAD, "f": FAIL, "s": SECFAIL}

NEVER = float("-inf")  # the time stamp of an item that has never been written
# What stands for a truth value, in any case.
TRUE_WORDS = frozenset(("true", "t", "yes", "y", "on", "1"))
FALSE_WORDS = frozenset(("false", "f", "no", "n", "off", "0"))


class Update(NamedTuple):
    """A write to a key. With a value of None only the flags are set; the item keeps its value."""

    key: str
    value: Value | None
    flags: int = 0
    reason: str = ""


def begin_counting(counts: dict[str, int] | None, *names: str) -> dict[str, int]:
    """Return `counts`, or a new dict, with a counter for each of `names`, in that order."""
    counts = {} if counts is None else counts
    for name in names:
        counts.setdefault(name, 0)
    return counts
