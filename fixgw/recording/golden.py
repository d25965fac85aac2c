"""The outcome of a replay as text, one change a line, and the comparison of two outcomes.

    12.345678 IAS 101.5 01000 eis
    12.345678 ACID "N123" 00000 -

Seconds since the beginning of the capture, key (or ``KEY.aux``), value (numbers as Python writes them, text as JSON),
flags (annunciate, old, bad, fail, secfail; ``-`` for an aux value) and source (``-``: none). What a connection sends
has the key ``NAME>``. Lines that begin with ``#`` are comments; ``# tolerance KEY 1e-6`` lets the numbers of a key, or
of all keys that match a pattern, differ by that share of the greater one. No I/O.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from math import isclose
from typing import NamedTuple

from fixgw.kit.update import Value

__all__ = ["TOLERANCE", "Comparison", "Line", "compare", "line", "read", "text", "tolerances_in"]

TOLERANCE = 1e-9
TINY = 1e-12  # numbers this close to each other are equal whatever the tolerance
CONTEXT_S = 1.0
TITLE = "# The outcome of `fixgw replay`: seconds, key, value, flags (annunciate old bad fail secfail), source.\n"
MAX_CONTEXT = 40  # lines


class Line(NamedTuple):
    """One change. All but the time as text."""

    time: float
    key: str
    value: str
    flags: str
    source: str

    def __str__(self) -> str:
        return f"{self.time:.6f} {self.key} {self.value} {self.flags} {self.source}"


def line(time: float, key: str, value: Value | None, flags: str, source: str) -> Line:
    """The line of a change."""
    text = json.dumps(value) if isinstance(value, str) or value is None else repr(value)
    return Line(round(time, 6), key, text, flags, source or "-")


def read(text: Iterable[str]) -> Iterator[Line]:
    """The lines in a text. Raises ValueError for one that is neither a line nor a comment."""
    for number, each in enumerate(text, 1):
        if not each.strip() or each.startswith("#"):
            continue
        try:
            time, key, rest = each.rstrip("\n").split(" ", 2)
            value, flags, source = rest.rsplit(" ", 2)
            yield Line(round(float(time), 6), key, value, flags, source)
        except ValueError:
            raise ValueError(f"line {number} is not a line of an outcome: {each.strip()[:80]!r}") from None


def text(lines: Iterable[Line], known: str = "") -> str:
    """The golden file of an outcome, with the comments at the head of the one `known` so far."""
    head = takewhile(lambda each: each.startswith("#"), known.splitlines(keepends=True))
    return ("".join(head) or TITLE) + "".join(f"{each}\n" for each in lines)


def tolerances_in(text: Iterable[str]) -> dict[str, float]:
    """The tolerances that the comments in a text give, by key or pattern. Raises ValueError."""
    found = {}
    for each in text:
        words = each.split()
        if words[:2] == ["#", "tolerance"]:
            try:
                _, _, key, share = words
                found[key] = float(share)
            except ValueError:
                raise ValueError(f"write `# tolerance KEY SHARE`, not {each.strip()[:80]!r}") from None
    return found


@dataclass
class Comparison:
    """How an outcome differs from the golden one."""

    #: Differing lines by key.
    counts: Counter[str] = field(default_factory=Counter)
    #: The first difference: the golden line and the new one; None where there is none.
    first: tuple[Line | None, Line | None] | None = None
    #: The lines within a second of it: the golden ones and the new ones.
    around: tuple[list[Line], list[Line]] = field(default_factory=lambda: ([], []))

    @property
    def equal(self) -> bool:
        return self.first is None

    def words(self) -> list[str]:
        """For people."""
        if self.first is None:
            return []
        before, after = self.first
        found = [
            "the first difference:",
            f"  golden: {before or 'nothing'}",
            f"  now:    {after or 'nothing'}",
            f"differing lines: {sum(self.counts.values())}, by key:",
            *(f"  {key}: {n}" for key, n in self.counts.most_common()),
            f"within {CONTEXT_S:g} s of the first (- golden, + now):",
        ]
        old, new = set(self.around[0]), set(self.around[1])
        lines = [(each, " " if each in new else "-") for each in self.around[0]]
        lines += [(each, "+") for each in self.around[1] if each not in old]
        lines.sort(key=lambda pair: (pair[0].time, pair[0].key))
        found += [f"  {sign} {each}" for each, sign in lines[:MAX_CONTEXT]]
        if len(lines) > MAX_CONTEXT:
            found.append(f"  ... and {len(lines) - MAX_CONTEXT} more")
        return found


def compare(golden: Sequence[Line], now: Sequence[Line], tolerances: Mapping[str, float] | None = None) -> Comparison:
    """Compare outcomes: the lines of each key, in order. The order of different keys at one instant does not matter."""
    result = Comparison()
    old, new = _by_key(golden), _by_key(now)
    differences: list[tuple[float, str, tuple[Line | None, Line | None]]] = []
    for key in old.keys() | new.keys():
        found = list(_differences(old[key], new[key], _tolerance(key, tolerances or {})))
        if found:
            result.counts[key] = len(found)
            before, after = found[0]
            differences.append((min(each.time for each in found[0] if each is not None), key, (before, after)))
    if differences:
        at, _, result.first = min(differences, key=lambda each: each[:2])
        result.around = _near(golden, at), _near(now, at)
    return result


def _by_key(lines: Iterable[Line]) -> defaultdict[str, list[Line]]:
    found = defaultdict(list)
    for each in lines:
        found[each.key].append(each)
    return found


def _near(lines: Iterable[Line], at: float) -> list[Line]:
    return [each for each in lines if abs(each.time - at) <= CONTEXT_S]


def _tolerance(key: str, tolerances: Mapping[str, float]) -> float:
    if key in tolerances:
        return tolerances[key]
    return next((share for pattern, share in tolerances.items() if fnmatchcase(key, pattern)), TOLERANCE)


def _differences(old: list[Line], new: list[Line], tolerance: float) -> Iterator[tuple[Line | None, Line | None]]:
    """Pairs of lines at the same time that differ, and lines at a time at which the other outcome has none."""
    i = j = 0
    while i < len(old) or j < len(new):
        if j == len(new) or (i < len(old) and old[i].time < new[j].time):
            yield old[i], None
            i += 1
        elif i == len(old) or new[j].time < old[i].time:
            yield None, new[j]
            j += 1
        else:
            if not _agree(old[i], new[j], tolerance):
                yield old[i], new[j]
            i, j = i + 1, j + 1


def _agree(old: Line, new: Line, tolerance: float) -> bool:
    if old == new:
        return True
    if old.flags != new.flags or old.source != new.source:
        return False
    try:
        return isclose(float(old.value), float(new.value), rel_tol=tolerance, abs_tol=TINY)
    except ValueError:
        return False
