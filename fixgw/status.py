"""The status tree: what every plugin says of itself, merged with what the gateway knows of it.

`get_dict` is the tree, `get_string` the same for people. Both may be called from any thread, return within about a
second whatever the plugins do, and hold nothing but what JSON can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from fixgw import world

DEEPEST = 8
MOST_ENTRIES = 1000  # of one mapping or list
LONGEST_TEXT = 2000
MOST_VALUES = 10_000  # of one tree, and
MOST_TEXT = 1_000_000  # characters of it, keys included
CUT = "…"


def get_dict() -> dict[str, Any]:
    """The status tree of the process's first gateway, in the order to show it; empty when no gateway runs."""
    return world.first().status()


def get_string() -> str:
    """The status tree as indented lines."""
    return "\n".join(_lines(get_dict(), 0))


def _lines(tree: Any, depth: int) -> list[str]:
    lines = []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)):
            lines.append(f"{'  ' * depth}{key}:")
            lines.extend(_lines(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{key}: {'' if value is None else value}")
    return lines


class Budget:
    """What a tree may still hold; `plain` takes from it."""

    def __init__(self, values: int = MOST_VALUES, text: int = MOST_TEXT) -> None:
        self.given = values, text
        self.values = values
        self.text = text

    @property
    def used(self) -> float:
        """The greater of the shares of values and text that are used up, 0 to 1."""
        values, text = self.given
        return max(1 - self.values / values, 1 - self.text / text) if values and text else 1.0

    @property
    def spent(self) -> bool:
        return self.values <= 0 or self.text <= 0

    def cut(self, text: str) -> str:
        """`text`, as far as it may be told."""
        most = min(LONGEST_TEXT, max(self.text, 0))
        told = text if len(text) <= most else text[:most] + CUT
        self.text -= len(told)
        return told


def plain(value: Any, budget: Budget | None = None) -> Any:
    """`value` as JSON can hold it, within `budget`; what it cannot hold becomes text.

    A mapping or list that contains itself, or more than the budget has left, is cut there, which ``…`` tells.
    """
    return _plain(value, budget or Budget(), ())


def _plain(value: Any, budget: Budget, around: tuple[int, ...]) -> Any:
    budget.values -= 1
    if value is None or (isinstance(value, int) and value.bit_length() <= 64):
        return value
    if isinstance(value, int):  # Python refuses to write out thousands of digits
        return "a huge number"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return budget.cut(value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if id(value) in around:
            return CUT
        if len(around) < DEEPEST:
            inside = (*around, id(value))
            if not isinstance(value, Mapping):
                return [CUT if v is CUT else _plain(v, budget, inside) for v in _entries(value, budget)]
            found = {}
            for entry in _entries(value.items(), budget):
                if entry is CUT:
                    found[CUT] = CUT
                else:
                    found[budget.cut(str(entry[0]))] = _plain(entry[1], budget, inside)
            return found
    return budget.cut(str(value))


def _entries(of: Any, budget: Budget) -> Iterator[Any]:
    """The entries `of` a mapping or list, and `CUT` where the rest is left out."""
    entries: list[Any] = []
    for _ in range(3):  # another thread may change it meanwhile
        try:
            entries = list(islice(iter(of), MOST_ENTRIES))
            break
        except RuntimeError:
            continue
    else:
        entries = [CUT]
    for entry in entries:
        if budget.spent:
            yield CUT
            return
        yield entry


def share(trees: dict[str, tuple[dict[str, Any], float]]) -> dict[str, dict[str, Any]]:
    """Several trees, each with the share of a whole budget that it has used (`Budget.used`), within one budget.

    Those that use less than an equal share stay as they are; the others are cut to an equal share of the rest.
    """
    left, told = 1.0, {}
    waiting = sorted(trees, key=lambda name: trees[name][1])
    for n, name in enumerate(waiting):
        tree, used = trees[name]
        equal = left / (len(waiting) - n)
        if used > equal:
            tree = plain(tree, Budget(int(MOST_VALUES * equal), int(MOST_TEXT * equal)))
            used = equal
        told[name] = tree
        left -= used
    return {name: told[name] for name in trees}
