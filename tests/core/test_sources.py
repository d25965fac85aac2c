"""Marks in the names of sources: simulated, replayed or overridden."""

from __future__ import annotations

import pytest

from fixgw.configuration import Connection
from fixgw.kit.sources import derived_source, mark_of, mark_simulated, may_leave, simulated
from fixgw.plugin import PluginBase


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


def test_what_a_simulator_writes_is_marked_whatever_it_is_called() -> None:
    assert [mark_simulated(each) for each in ("gps", "sim/gps", "replay/gps")] == ["sim/gps", "sim/gps", "replay/gps"]

    class Simulator(PluginBase):
        simulates = True

    assert Simulator("gps", {}).source == "sim/gps"
    for given, source in (("", "sim/x"), ("gps", "sim/gps"), ("sim/gps", "sim/gps")):
        assert Connection(name="x", module="m", plugin=Simulator, options={}, source=given).source == source
