"""Short flights with every device and every fault; `make campaign` has random ones. And the judge itself is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fixgw.hw_sim import faults
from fixgw.hw_sim.can import faults as can_faults
from fixgw.hw_sim.everything import NAMES, SMALL
from fixgw.hw_sim.scenario import ADAPTER as ADAPTERS

from . import flying, judge
from .flying import scenario_for, smallest, verdict
from .plans import ADAPTER, INSTRUMENTS, NODE, NODES, RECOVERY_S, WIRE, Plan, cover_everything, make_plan, spans

pytestmark = pytest.mark.slow

#: What the rig cannot join to a driver.
ELSEWHERE = {"raw", "can1"}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a flight with a defect was like is not remembered."""
    yield
    flying._quiet.clear()


def test_nothing_that_must_not_happen_happens() -> None:
    for plan in cover_everything():
        found = [*map(str, verdict(plan).findings)]
        assert not found, f"{found}: {plan.contents()}"


def test_every_device_and_every_fault_may_take_part() -> None:
    assert set(INSTRUMENTS) == {*NAMES, *SMALL} - ELSEWHERE
    assert set(WIRE) == set(faults.FAULTS)
    assert set(NODE) == set(can_faults.FAULTS)
    assert set(ADAPTER) == set(ADAPTERS)
    plans = [make_plan(seed) for seed in range(300)]
    for several in plans, cover_everything():
        events = [event for plan in several for event in plan.events]
        assert {event.get("instrument") for event in events} >= {*INSTRUMENTS}
        assert {event.get("node") for event in events} >= {*NODES}
        assert {event.get("fault") for event in events if "instrument" in event} >= {*WIRE}
        assert {event.get("fault") for event in events if "node" in event} >= {*NODE}
        assert {event.get("adapter") for event in events} >= {*ADAPTER}
    for plan in plans[:20]:
        scenario_for(plan)
        assert all(span.end <= plan.seconds - RECOVERY_S for span in spans(plan))
        assert plan == make_plan(plan.seed)


def plan_of(*events: Mapping[str, Any]) -> Plan:
    return Plan(0, ("eis", "gps"), (), events, 11.5, 0.1, flight={"start": "2026-08-01 15:00:00", "seed": 1})


SILENT = {"at": 6.0, "instrument": "eis", "fault": "silent", "for": 4.2}


def test_it_finds_values_that_stay_good_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gets through a silence stands for what a driver repeats. The event that matters is found."""
    monkeypatch.setattr(faults.Silent, "carry", lambda self, frames, now: frames)
    plan = plan_of({"at": 2.0, "instrument": "gps", "fault": "duplicate", "for": 0.1}, SILENT)
    findings = verdict(plan).findings
    assert {f.key for f in findings if f.rule == "stale"} >= {"OILP1", "EGT11"}
    assert smallest(plan, [f for f in findings if f.rule == "stale"][:1]).events == (SILENT,)


def test_it_finds_values_that_the_aircraft_never_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.hw_sim.devices.eis.fahrenheit", lambda celsius: round(celsius * 1.9 + 32.0))
    findings = verdict(plan_of(SILENT)).findings
    assert {f.key for f in findings if f.rule == "wrong"} >= {"OILT1", "EGT11", "CHT14"}


def test_it_finds_what_the_fault_of_another_device_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that says that the fault is the GPS's."""
    monkeypatch.setattr(judge, "concerns", lambda event: "sim/gps")
    findings = verdict(plan_of(SILENT)).findings
    assert {f.key for f in findings if f.rule == "others"} >= {"OILP1", "EGT11"}


def test_it_finds_what_does_not_recover() -> None:
    endless = plan_of({**SILENT, "for": 100.0})
    assert {f.key for f in verdict(endless).findings if f.rule == "recovery"} >= {"OILP1", "eis"}


def test_it_finds_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, data: bytes) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("fixgw.drivers.eis.protocol.Decoder.feed", fail)
    findings = verdict(plan_of(SILENT)).findings
    assert any(f.rule == "defect" and "a defect" in f.words for f in findings)


def test_it_finds_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flying, "MOST_BYTES", 1000)
    plan = plan_of(SILENT)
    (finding,) = flying.fly(plan, memory=True).findings
    assert finding.rule == "memory"
    assert int(finding.words.split()[2]) < 500_000
