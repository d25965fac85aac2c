"""What the name of a source says about the values that carry it.

A source is the name of a connection, often with more behind a slash: ``canfix/12``. Two kinds of values are not what
an instrument measures or a person sets now:

- a start value, from the configuration (`INITIAL`) or from before the restart (`KEPT`). It is good to fly with, and no
  news to another gateway, which may know better;
- a simulated, replayed or overridden value. Its source begins with one of `SIMULATED`, and so does the source of
  whatever is derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable

INITIAL = "initial"  # the source of values that come from the configuration
KEPT = "kept"  # the source of settings that are as they were before the restart
START = frozenset((INITIAL, KEPT))  # the sources of start values

#: How the sources of values begin that are not the aircraft's; the first is the strongest.
SIMULATED = ("sim/", "replay/", "override/")


def mark_of(source: str) -> str:
    """The one of `SIMULATED` that `source` begins with; empty for a real one."""
    return next((mark for mark in SIMULATED if source.startswith(mark)), "")


def simulated(source: str) -> bool:
    """True for what is simulated, replayed or overridden, or derived from such: it must not pass for real."""
    return source.startswith(SIMULATED)


def may_leave(source: str, own: str, simulated_too: bool = False) -> bool:
    """Whether a value with this `source` may go out to the world through the connection whose own source is `own`.

    The one check for everything that leaves the gateway unmarked. Simulated values pass only where everything is
    simulated, or where the options say so (`simulated_too`). NetFIX links send the mark along instead.
    """
    return simulated_too or not simulated(source) or simulated(own)


def unmarked(source: str) -> str:
    """`source` without its mark: who said it, whatever it is worth."""
    return source[len(mark_of(source)) :]


def derived_source(sources: Iterable[str], own: str) -> str:
    """The source of what the connection `own` derives from readings with these `sources`: simulated if one of them is.

    >>> derived_source(["canfix/12", "sim/gps"], "compute")
    'sim/compute'
    """
    if simulated(own):
        return own
    marks = {mark_of(source) for source in sources}
    return next((mark for mark in SIMULATED if mark in marks), "") + own
