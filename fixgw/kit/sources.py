"""The meaning of the names of sources.

A source is the name of a connection, often with more behind a slash: ``canfix/12``. Two kinds of values were
neither measured by an instrument nor set by a person just now:

- a start value, from the configuration (`INITIAL`) or from before the restart (`KEPT`). It is good to fly with, but
  another gateway, which may have a newer one, must not take it for new;
- a simulated, replayed or overridden value. Its source begins with one of `SIMULATED`, and so does the source of
  values derived from it.

A value that another gateway has sent names all gateways that it has passed through, the nearest first, with the last
six digits of their identities: ``netfix/10.0.0.2:3490/panel-1a2b3c/via-4d5e6f`` came from the panel, which had it from
another. No gateway takes a measurement that it has already had, or sends it to one that has: otherwise it would go
round a ring of gateways, and stay fresh after its sensor has died.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

INITIAL = "initial"  # the source of values that come from the configuration
KEPT = "kept"  # the source of settings restored after a restart
START = frozenset((INITIAL, KEPT))  # the sources of start values

#: The prefixes of sources whose values are not real; the first is the strongest.
OVERRIDE = "override/"
SIMULATED = ("sim/", "replay/", OVERRIDE)


def mark_of(source: str) -> str:
    """The one of `SIMULATED` that `source` begins with; empty for a real one."""
    return next((mark for mark in SIMULATED if source.startswith(mark)), "")


def simulated(source: str) -> bool:
    """Whether values of `source` are simulated, replayed or overridden, or derived from such: not to pass for real."""
    return source.startswith(SIMULATED)


def mark_simulated(source: str) -> str:
    """`source` as that of a simulator.

    >>> mark_simulated("xplane"), mark_simulated("replay/gps")
    ('sim/xplane', 'replay/gps')
    """
    return source if simulated(source) else SIMULATED[0] + source


def may_leave(source: str, own: str, simulated_too: bool = False) -> bool:
    """Whether a value with this `source` may leave the gateway through the connection whose own source is `own`.

    The only check for values that leave the gateway unmarked. Simulated values pass only if the connection itself is
    simulated, or if its options permit them (`simulated_too`). NetFIX links send the mark along instead.
    """
    return simulated_too or not simulated(source) or simulated(own)


def unmarked(source: str) -> str:
    """`source` without its mark."""
    return source[len(mark_of(source)) :]


#: A measurement that has passed through more gateways goes no further.
LONGEST_PATH = 8
_GATEWAY = re.compile(r"[A-Za-z0-9-]+-([0-9a-f]{6})")


def digits_of(identity: str) -> str:
    """The digits that distinguish the gateway `identity`; empty if it has none."""
    match = _GATEWAY.fullmatch(identity)
    return match[1] if match else ""


@lru_cache(1024)
def path_of(source: str) -> tuple[str, ...]:
    """The gateways that a value from `source` has passed through, the nearest first, by their digits.

    >>> path_of("netfix/10.0.0.2:3490/panel-1a2b3c/via-4d5e6f")
    ('1a2b3c', '4d5e6f')
    """
    return tuple(filter(None, map(digits_of, source.split("/"))))


def with_path(source: str, path: Iterable[str]) -> str:
    """`source` for a value that had passed through the gateways `path` before."""
    return "/".join((source, *(f"via-{digits}" for digits in path)))


def derived_source(sources: Iterable[str], own: str) -> str:
    """The source of a value that the connection `own` derives from these `sources`: simulated if any of them is.

    >>> derived_source(["canfix/12", "sim/gps"], "compute")
    'sim/compute'
    """
    if simulated(own):
        return own
    marks = {mark_of(source) for source in sources}
    return next((mark for mark in SIMULATED if mark in marks), "") + own
