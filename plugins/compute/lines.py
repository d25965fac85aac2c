"""Points that are joined by straight lines, as handbooks have them. Beyond the ends, the ends hold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise


def place(xs: Sequence[float], x: float) -> tuple[int, float]:
    """The number of the point before `x`, and the share of the way from there to the next, 0 to 1."""
    if x <= xs[0] or len(xs) == 1:
        return 0, 0.0
    if x >= xs[-1]:
        return len(xs) - 2, 1.0
    after = bisect_left(xs, x)
    return after - 1, (x - xs[after - 1]) / (xs[after] - xs[after - 1])


def between(values: Sequence[float], at: tuple[int, float]) -> float:
    """The value at a `place`."""
    number, share = at
    if not share:
        return values[number]
    return values[number] * (1.0 - share) + values[number + 1] * share


def interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    return between(ys, place(xs, x))


def rises(xs: Sequence[float]) -> bool:
    return len(xs) > 0 and all(a < b for a, b in pairwise(xs))


def by_setting(table: Mapping[float, Sequence[float]], setting: float) -> list[float]:
    """The rows of a table between two flap settings."""
    settings = sorted(table)
    at = place(settings, setting)
    columns = zip(*(table[s] for s in settings), strict=True)
    return [between(column, at) for column in columns]
