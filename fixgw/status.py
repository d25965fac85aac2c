"""The status tree: what every plugin says of itself, merged with what the gateway knows of it.

`get_dict` is the tree, `get_string` the same for people. Both may be called from any thread, return within about a
second whatever the plugins do, and hold nothing but what JSON can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fixgw import world

DEEPEST = 8
MOST_ENTRIES = 1000
LONGEST_TEXT = 2000


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


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it, bounded in depth and size; what it cannot hold becomes text."""
    if value is None or (isinstance(value, int) and value.bit_length() <= 64):
        return value
    if isinstance(value, int):  # Python refuses to write out thousands of digits
        return "a huge number"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "…"
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            return {str(k): plain(v, depth + 1) for k, v in list(value.items())[:MOST_ENTRIES]}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [plain(v, depth + 1) for v in list(value)[:MOST_ENTRIES]]
    return plain(str(value))
