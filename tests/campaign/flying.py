"""Flies plans on the rig, judges them, and makes failing ones smaller."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from fixgw.configuration import Configuration
from fixgw.hw_sim import scenario
from fixgw.hw_sim.bench.rig import Rig, demo_configuration

from .judge import Finding, Judge, compare
from .plans import Plan

#: The most that the product may still keep, at the end of a flight, of what it has allocated in its last part: the
#: latest reading of each source, and little else.
MOST_BYTES = 1_000_000


class Verdict(NamedTuple):
    plan: Plan
    findings: list[Finding]
    cpu_s: float


@cache
def _everything() -> Configuration:
    return demo_configuration(True)


@cache
def _derived() -> Mapping[str, frozenset[str]]:
    """The inputs of each computed key, as the packaged functions say."""
    inputs: dict[str, frozenset[str]] = {}
    path = Path(_everything().file).with_name("compute.yaml")
    for item in yaml.safe_load(path.read_text())["items"]:
        outputs = item["output"] if isinstance(item["output"], list) else [item["output"]]
        for output in outputs:
            inputs[output] = frozenset(item["inputs"])
    return inputs


def configuration_for(plan: Plan) -> Configuration:
    """The demonstration of everything, of which only the connections of the plan are left."""
    whole = _everything()
    return replace(whole, connections=tuple(c for c in whole.connections if c.name in plan.connections), refused={})


def scenario_for(plan: Plan) -> scenario.Scenario:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "campaign.yaml"
        file.write_text(yaml.safe_dump(plan.contents(), sort_keys=False))
        return scenario.load(file)


def fly(plan: Plan, memory: bool = False) -> Judge:
    """Fly a plan and judge it; with `memory`, also what the product keeps."""
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    rig = Rig(configuration_for(plan), scenario_for(plan), keep=0, step=plan.step)
    judge = Judge(rig, plan, plan.seconds)
    try:
        with rig:
            rig.db.write("BARO", rig.aircraft.qnh, "campaign")
            if memory:
                rig.fly(plan.seconds * 0.6)
                tracemalloc.start()
                rig.fly(plan.seconds * 0.4)
                if (kept := _kept()) > MOST_BYTES:
                    judge.find("memory", "gateway", f"it keeps {kept} bytes of what came last")
            else:
                rig.fly(plan.seconds)
            judge.finish()
    except Exception as error:
        judge.find("defect", "rig", f"{type(error).__name__}: {error}")
        raise
    finally:
        tracemalloc.stop()
        judge.close()
    more = threading.active_count() - threads, len(os.listdir("/proc/self/fd")) - descriptors
    if any(n > 0 for n in more):
        judge.find("memory", "gateway", f"{more[0]} threads and {more[1]} descriptors are left")
    return judge


def _kept() -> int:
    """Bytes that the product's own code has allocated since tracing began, and not released."""
    ours = [tracemalloc.Filter(True, f"*/{folder}/*") for folder in ("fixgw", "drivers", "plugins")]
    simulators = tracemalloc.Filter(False, "*/hw_sim/*")
    snapshot = tracemalloc.take_snapshot().filter_traces([*ours, simulators])
    return sum(trace.size for trace in snapshot.traces)


_quiet: dict[str, Judge] = {}


def fly_quietly(plan: Plan) -> Judge:
    """The flight of a plan without its faults; the last few are remembered."""
    which = repr(replace(plan.quiet, seed=0))
    if which not in _quiet:
        if len(_quiet) > 3:
            _quiet.clear()
        _quiet[which] = fly(plan.quiet)
    return _quiet[which]


def judge(plan: Plan, memory: bool = False) -> list[Finding]:
    """Fly a plan with and without its faults; everything that must not happen."""
    quiet = fly_quietly(plan)
    disturbed = fly(plan, memory)
    return [*quiet.findings, *disturbed.findings, *compare(plan, disturbed, quiet, _derived())]


def verdict(plan: Plan, memory: bool = False) -> Verdict:
    """The findings of a plan, and the CPU time that they took."""
    began = time.process_time()
    findings = judge(plan, memory=memory)
    return Verdict(plan, findings, time.process_time() - began)


def smallest(plan: Plan, findings: Sequence[Finding], most: int = 40) -> Plan:
    """The plan with as few events as still lead to a finding of the same rule and key; `most` flights."""
    wanted = {(f.rule, f.key) for f in findings}

    def fails(smaller: Plan) -> bool:
        return any((f.rule, f.key) in wanted for f in judge(smaller))

    events = [*plan.events]
    size = max(1, len(events) // 2)
    while size and most > 0:
        for start in range(0, len(events), size):
            fewer = events[:start] + events[start + size :]
            most -= 1
            if most >= 0 and fails(plan.only(fewer)):
                events = fewer
                break
        else:
            size //= 2
    return plan.only(events)
