"""`Reading`, the value of an item at one moment, and `Definition`, the fixed facts about an item."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from fixgw.kit.update import ANNUNCIATE, BAD, FAIL, FLAG_NAMES, OLD, SECFAIL, TypeName, Value

Clock = Callable[[], float]

_FLAG_TUPLES = tuple(tuple(bool(bits & flag) for flag in FLAG_NAMES) for bits in range(32))
#: The flags as ``aobfs`` characters, by their bits.
FLAG_TEXTS = tuple("".join("1" if bits & flag else "0" for flag in FLAG_NAMES) for bits in range(32))

LONGEST_TEXT = 1000  # the most characters of a text item


class Flags:
    """Names for the bits of `flags`. A base class."""

    __slots__ = ()
    flags: int

    @property
    def annunciate(self) -> bool:
        return bool(self.flags & ANNUNCIATE)

    @property
    def old(self) -> bool:
        return bool(self.flags & OLD)

    @property
    def bad(self) -> bool:
        return bool(self.flags & BAD)

    @property
    def fail(self) -> bool:
        return bool(self.flags & FAIL)

    @property
    def secfail(self) -> bool:
        return bool(self.flags & SECFAIL)

    @property
    def good(self) -> bool:
        """Not old, bad or failed."""
        return not self.flags & (OLD | BAD | FAIL)


class Reading(Flags, msgspec.Struct, frozen=True, gc=False):
    """The value of an item at one moment. Immutable.

    `flags` are bits (`ANNUNCIATE` ... `SECFAIL`). `stamp` is when the value was stored, in monotonic seconds (`NEVER`
    before the first). `source` names the writer. `reasons` has a reason in words for each flag that is set. `checked`
    are the flags that the database's own checks set; the next valid write clears them.
    """

    value: Value
    flags: int
    stamp: float
    source: str
    reasons: tuple[tuple[int, str], ...] = ()
    checked: int = 0

    @property
    def flag_text(self) -> str:
        """The flags as ``aobfs`` characters, ``"01000"`` for old."""
        return FLAG_TEXTS[self.flags]

    def as_tuple(self) -> tuple[Value, bool, bool, bool, bool, bool]:
        """The tuple ``(value, annunciate, old, bad, fail, secfail)`` that existing plugins expect."""
        if not self.flags:
            return (self.value, False, False, False, False, False)
        return (self.value, *_FLAG_TUPLES[self.flags])  # type: ignore[return-value]

    def reason(self, flag: int) -> str:
        """Why `flag` is set, in words; empty if it is not."""
        return next((text for bit, text in self.reasons if bit == flag), "")

    def age(self, now: float) -> float:
        """Seconds since the value was stored; infinite if none was."""
        return now - self.stamp


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of an item.

    `tolerance` is in milliseconds, 0 = never ages. A `setting` (altimeter setting, bug, trim, encoder, button) is only
    clamped to its range; a measurement out of range is also flagged bad. `keep` makes the value survive a restart
    (`fixgw.settings`). `wrap` is the size of a full circle, 360 for degrees: -1 is then 359 and not out of range.
    `sources` ranks the sources, best first: an entry stands for itself and for everything below it (``canfix`` covers
    ``canfix/12``). A better source that returns is published again when it has been good for `return_after` seconds; 0
    = at once. Displays show a float with `decimals` digits after the point; None leaves that to them.
    """

    key: str
    type: TypeName = "float"
    description: str = ""
    units: str = ""
    min: float | int | None = None
    max: float | int | None = None
    initial: Value | None = None
    tolerance: int = 0
    aux: tuple[str, ...] = ()
    setting: bool = False
    keep: bool = False
    wrap: float | None = None
    sources: tuple[str, ...] = ()
    return_after: float = 3.0
    decimals: int | None = None


class Derivation(NamedTuple):
    """How the connection `by` derives an item from its `inputs`, which are keys: with a `function`, and its `formula`
    for people."""

    by: str
    function: str
    formula: str
    inputs: tuple[str, ...]


PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str}
WIDEST: dict[str, tuple[Any, Any]] = {
    "float": (-sys.float_info.max, sys.float_info.max),
    "int": (-(2**63), 2**63 - 1),
    "bool": (False, True),
}
