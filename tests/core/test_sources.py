"""Marks in the names of sources: simulated, replayed or overridden."""

from __future__ import annotations

import pytest

from fixgw.kit.sources import derived_source, mark_of, may_leave, simulated


@pytest.mark.parametrize(
    ("sources", "own", "derived"),
    [
        ([], "compute", "compute"),
        (["canfix/12", "initial", ""], "compute", "compute"),
        (["canfix/12", "sim/gps"], "compute", "sim/compute"),
        (["replay/flight 7"], "compute", "replay/compute"),
        (["override/IAS"], "compute", "override/compute"),
        (["override/IAS", "sim/gps", "replay/x"], "compute", "sim/compute"),
        (["replay/x"], "sim/compute", "sim/compute"),
        (["simulator", "sim", "my/sim/gps"], "compute", "compute"),
    ],
)
def test_a_derived_value_is_simulated_if_its_inputs_are(sources: list[str], own: str, derived: str) -> None:
    assert derived_source(sources, own) == derived
    assert simulated(derived) == any(map(simulated, [*sources, own]))


def test_a_source_is_marked_by_its_prefix() -> None:
    assert mark_of("replay/gps") == "replay/"
    assert mark_of("gps") == mark_of("") == mark_of("mirror/sim/gps") == ""


@pytest.mark.parametrize(
    ("source", "own", "too", "leaves"),
    [
        ("gps", "can", False, True),
        ("initial", "can", False, True),
        ("sim/gps", "can", False, False),
        ("replay/gps", "can", False, False),
        ("override/IAS", "can", False, False),
        ("sim/gps", "sim/can", False, True),
        ("replay/gps", "can", True, True),
    ],
)
def test_what_is_simulated_leaves_only_where_all_is_or_the_options_say_so(
    source: str, own: str, too: bool, leaves: bool
) -> None:
    assert may_leave(source, own, too) is leaves
