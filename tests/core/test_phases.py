"""The phases of flight, by the cases in tests/data/alerts.json and their edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixgw.kit.phases import FLYING_KT, PHASES, TRANSITIONS, Inputs, Phase, Phases

CASES = json.loads((Path(__file__).parents[1] / "data" / "alerts.json").read_text())["phases"]


def inputs(step: dict[str, Any]) -> Inputs:
    names = {"rpm": "rpm", "ias": "ias", "gs": "gs", "palt": "altitude", "agl": "height", "vs": "climb", "vs0": "vs0"}
    given: dict[str, Any] = {ours: step.get(name) for name, ours in names.items()}
    return Inputs(**given)


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_case(case: dict[str, Any]) -> None:
    phases = Phases()
    for step in case["steps"]:
        assert phases.step(step["t"], inputs(step)) == step["phase"], step


def test_what_is_dangerous_in_flight_is_not_done_above_30_knots() -> None:
    assert FLYING_KT == 30.0, "docs/decisions/0023-in-flight-above-30-knots.md"


def test_every_phase_can_be_entered_and_left() -> None:
    assert {t.after for t in TRANSITIONS} | {"off"} == set(PHASES) == {t.before for t in TRANSITIONS}


def test_a_restart_in_flight_waits_for_the_speed() -> None:
    phases = Phases()
    assert phases.step(0, Inputs()) == "off"
    assert phases.step(1, Inputs(rpm=2400)) == "ground"
    assert phases.step(2, Inputs(rpm=2400, ias=100)) == "air"


def test_without_an_engine_it_starts_on_the_ground() -> None:
    assert Phases().step(0, Inputs(ias=0, has_engine=False)) == "ground"


def test_a_phase_stands_while_the_speed_is_not_known() -> None:
    phases = Phases()
    assert phases.step(0, Inputs(rpm=2400, ias=100)) == "air"
    for now in range(1, 100):
        assert phases.step(now, Inputs(rpm=2400)) == "air"
    assert phases.step(100, Inputs(rpm=2400, gs=20)) == "air"
    assert phases.step(102, Inputs(rpm=2400)) == "air", "a break starts the time anew"
    assert phases.step(103, Inputs(rpm=2400, gs=20)) == "air"
    assert phases.step(106, Inputs(rpm=2400, gs=20)) == "ground", "GS replaces IAS"


def test_a_tachometer_that_never_answers_does_not_leave_the_aircraft_off() -> None:
    phases = Phases()
    phases.step(0, Inputs(ias=0, gs=0))
    assert phases.step(10, Inputs(ias=45, gs=44)) == "off"
    assert phases.step(11, Inputs(ias=45, gs=44)) == "ground"
    phases.step(12, Inputs(ias=45, gs=44))
    assert phases.step(13, Inputs(ias=45, gs=44)) == "takeoff"


@pytest.mark.parametrize(
    ("before", "after", "seconds", "holds", "edges"),
    [
        ("off", "ground", 1.0, {"rpm": 301.0}, [{"rpm": 300.0}]),
        ("off", "ground", 1.0, {"ias": 40.1, "gs": 20.1}, [{"ias": 40.0}, {"gs": 20.0}, {"gs": None}]),
        ("ground", "off", 5.0, {"rpm": 99.0}, [{"rpm": 100.0}, {"rpm": None}]),
        ("ground", "takeoff", 1.0, {"ias": 40.1, "gs": 20.1}, [{"ias": 40.0}, {"gs": 20.0}]),
        ("takeoff", "ground", 3.0, {"ias": 34.9}, [{"ias": 35.0}]),
        ("air", "ground", 3.0, {"ias": 34.9}, [{"ias": 35.0}]),
        ("air", "landing", 3.0, {"ias": 77.9, "climb": -0.1, "vs0": 60.0}, [{"ias": 78.0}, {"climb": 0.0}]),
        ("air", "landing", 3.0, {"ias": 59.9, "climb": -0.1}, [{"ias": 60.0}, {"climb": None}]),
        ("air", "landing", 3.0, {"ias": 90.0, "height": 199.9}, [{"height": 200.0}]),
        ("landing", "ground", 3.0, {"ias": 34.9}, [{"ias": 35.0}]),
        ("landing", "air", 5.0, {"ias": 70.1, "climb": 200.0, "vs0": 50.0}, [{"ias": 70.0}, {"climb": 199.9}]),
        ("landing", "air", 60.0, {"ias": 70.1, "climb": 199.9, "vs0": 50.0}, [{"ias": 70.0}]),
        ("landing", "air", 60.0, {"ias": 64.7}, [{"ias": 64.6}]),
    ],
)
def test_a_change_needs_its_condition_for_its_time(
    before: Phase, after: Phase, seconds: float, holds: dict[str, Any], edges: list[dict[str, Any]]
) -> None:
    def begun() -> Phases:
        phases = Phases()
        phases.step(0, Inputs(rpm=0.0, ias=0.0))
        phases.phase = before
        return phases

    phases = begun()
    assert phases.step(10, Inputs(**holds)) == before
    assert phases.step(10 + seconds - 0.01, Inputs(**holds)) == before
    assert phases.step(10 + seconds, Inputs(**holds)) == after
    for edge in edges:
        phases = begun()
        phases.step(10, Inputs(**{**holds, **edge}))
        assert phases.step(10 + seconds, Inputs(**{**holds, **edge})) == before, edge


def test_the_first_step_decides_where_to_start() -> None:
    for first, phase in (
        (Inputs(rpm=300.0, ias=50.0), "off"),
        (Inputs(rpm=300.1, ias=50.0), "ground"),
        (Inputs(rpm=0.0, ias=50.1), "air"),
        (Inputs(gs=50.1), "air"),
    ):
        assert Phases().step(0, first) == phase


def test_take_off_by_height() -> None:
    phases = Phases()
    phases.step(0, Inputs(rpm=900, ias=0))
    phases.step(10, Inputs(rpm=2600, ias=45, altitude=990.0))
    assert phases.step(11, Inputs(rpm=2600, ias=50.1, altitude=1000.0)) == "takeoff"
    assert phases.step(12, Inputs(rpm=2600, ias=50.1, altitude=1400.0)) == "takeoff"
    assert phases.step(13, Inputs(rpm=2600, ias=50.0, altitude=1400.1)) == "takeoff"
    assert phases.step(14, Inputs(rpm=2600, ias=50.1, altitude=1400.1)) == "air"


def test_take_off_by_time() -> None:
    phases = Phases()
    phases.step(0, Inputs(rpm=900, ias=0))
    phases.step(10, Inputs(rpm=2600, ias=45))
    assert phases.step(11, Inputs(rpm=2600, ias=60)) == "takeoff"
    assert phases.step(30.9, Inputs(rpm=2600, ias=60)) == "takeoff"
    assert phases.step(31, Inputs(rpm=2600, ias=60)) == "air"


def test_slow_flight_is_not_taken_for_a_landing_for_ever() -> None:
    phases = Phases()
    phases.step(0, Inputs(rpm=2400, ias=100, climb=0))
    phases.step(10, Inputs(rpm=1500, ias=50, climb=-100))
    assert phases.step(13, Inputs(rpm=1500, ias=50, climb=-100)) == "landing"
    phases.step(20, Inputs(rpm=2400, ias=90, climb=0))
    assert phases.step(79, Inputs(rpm=2400, ias=90, climb=0)) == "landing"
    assert phases.step(80, Inputs(rpm=2400, ias=90, climb=0)) == "air"


def test_low_over_the_ground_is_landing() -> None:
    phases = Phases()
    phases.step(0, Inputs(rpm=2400, ias=100, height=1000, climb=0))
    phases.step(1, Inputs(rpm=2400, ias=100, height=150, climb=0))
    assert phases.step(4, Inputs(rpm=2400, ias=100, height=150, climb=0)) == "landing"
