"""The choice of a leader: every parting and rejoining of up to four nodes, by the clock of the test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw.plugins.quorum.election import HOLD_S, LEASE_S, LIVE_S, VOTE_INTERVAL_S, Election

CASES = json.loads((Path(__file__).parents[2] / "data" / "redundancy.json").read_text())["quorum"]
TICK_S = 0.1
Parts = tuple[frozenset[int], ...]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vectors(case: dict[str, Any]) -> None:
    election = Election(case["nodeid"], case["total_nodes"], "witness" in case)
    now = 0.0
    steps = iter(case["steps"])
    step = next(steps)
    while True:
        due = step["t"] <= now + 1e-6
        if due:
            current = step
        election.update(
            now,
            dict.fromkeys(current["live"], now),
            witness=current.get("witness", False),
            duplicate="can0/0x91" if current.get("duplicate") else "",
        )
        if due:
            assert election.leads is step["leader"], (step, election.reason)
            if (step := next(steps, None)) is None:
                return
        now = round(now + TICK_S, 6)


class Node:
    """A node that votes and decides by the rules, with the phase of its clock."""

    def __init__(self, number: int, total: int, witness: bool, phase: int) -> None:
        self.election = Election(number, total, witness)
        self.number, self.phase = number, phase
        self.heard: dict[int, float] = {}
        self.leads_until = float("-inf")
        self.asleep = False

    def leads(self, now: float) -> bool:
        return self.election.leads and now < self.leads_until


class Fleet:
    """Nodes and the parts that their bus is cut into. The witness is heard in the part of `with_witness`."""

    def __init__(self, total: int, witness: bool = False, phases: tuple[int, ...] = (0, 1, 2, 0)) -> None:
        self.nodes = {n: Node(n, total, witness, phases[n - 1]) for n in range(1, total + 1)}
        self.ticks = 0
        self.two_led = self.longest_two = self.led = 0
        self.ever_two = False

    @property
    def now(self) -> float:
        return self.ticks * TICK_S

    def run(self, seconds: float, parts: Parts, dead: frozenset[int] = frozenset(), with_witness: int = 0) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.ticks += 1
            now = self.now
            part = {n: p for p in parts for n in p}
            for node in self.nodes.values():
                if node.number not in dead and not node.asleep and (self.ticks + node.phase) % 3 == 0:
                    for other in part[node.number] - {node.number} - dead:
                        self.nodes[other].heard[node.number] = now
            for node in self.nodes.values():
                if node.number in dead or node.asleep:
                    continue
                live = {n: at for n, at in node.heard.items() if now - at < LIVE_S}
                if node.election.update(now, live, witness=with_witness in part[node.number]):
                    node.leads_until = now + LEASE_S
            leaders = [n for n, node in self.nodes.items() if n not in dead and node.leads(now)]
            self.two_led = self.two_led + 1 if len(leaders) > 1 else 0
            self.longest_two = max(self.longest_two, self.two_led)
        self.leaders = leaders


def partitions(nodes: list[int]) -> Iterator[Parts]:
    """Every way to part the nodes."""
    if not nodes:
        yield ()
        return
    first, rest = nodes[0], nodes[1:]
    for parts in partitions(rest):
        yield (frozenset([first]), *parts)
        for i, part in enumerate(parts):
            yield (*parts[:i], part | {first}, *parts[i + 1 :])


def expected_leader(parts: Parts, total: int, with_witness: int) -> list[int]:
    """The highest number of the part that has a majority, or, of two parted nodes, of the one with the witness."""
    if total == 2 and len(parts) == 2:
        return [with_witness]
    return [max(part) for part in parts if 2 * len(part) > total]


@pytest.mark.parametrize("total", [2, 3, 4])
def test_every_parting_and_rejoining(total: int) -> None:
    """From every parting to every other: at most one leader, but for a tick, and the right one in the end."""
    every = list(partitions(list(range(1, total + 1))))
    whole = (frozenset(range(1, total + 1)),)
    for before, after in itertools.product(every, repeat=2):
        for with_witness in (1, 2) if total == 2 else (0,):
            fleet = Fleet(total, total == 2)
            for parts in (before, after, whole):
                fleet.run(3.0, parts, with_witness=with_witness)
                assert fleet.leaders == expected_leader(parts, total, with_witness), (before, after, parts)
            assert fleet.longest_two * TICK_S <= LEASE_S, (before, after)


@settings(max_examples=40)
@given(
    st.integers(2, 4),
    st.data(),
    st.tuples(*[st.integers(0, 2)] * 4),
)
def test_there_are_never_two_leaders_for_longer_than_the_lease(
    total: int, data: st.DataObject, phases: tuple[int, ...]
) -> None:
    """Partings of any length, deaths and hold-ups, in any order."""
    every = list(partitions(list(range(1, total + 1))))
    fleet = Fleet(total, total == 2, phases)
    for _ in range(data.draw(st.integers(1, 12))):
        dead = data.draw(st.frozensets(st.integers(1, total), max_size=1))
        sleeper = fleet.nodes[data.draw(st.integers(1, total))]
        sleeper.asleep = data.draw(st.booleans())
        fleet.run(
            data.draw(st.integers(1, 30)) * TICK_S,
            data.draw(st.sampled_from(every)),
            dead,
            data.draw(st.sampled_from([1, 2])) if total == 2 else 0,
        )
    # Those who are asleep lead no longer than their lease.
    assert fleet.longest_two * TICK_S <= LEASE_S


@pytest.mark.parametrize("total", [3, 4])
def test_the_next_takes_over_within_one_and_a_half_seconds(total: int) -> None:
    for phases in itertools.product(range(3), repeat=total):
        fleet = Fleet(total, phases=(*phases, 0))
        whole = (frozenset(range(1, total + 1)),)
        fleet.run(5.0, whole)
        assert fleet.leaders == [total]
        fleet.run(1.5, whole, dead=frozenset([total]))
        assert fleet.leaders == [total - 1]


def test_the_hold_is_longer_than_what_the_former_leader_may_still_have() -> None:
    assert HOLD_S >= LEASE_S + VOTE_INTERVAL_S
    assert HOLD_S >= LIVE_S + VOTE_INTERVAL_S - 1e-9


def test_a_leader_that_was_held_up_starts_afresh() -> None:
    election = Election(3, 3)
    for tick in range(20):
        election.update(tick * TICK_S, {1: tick * TICK_S})
    assert election.leads
    assert not election.update(5.0, {1: 5.0})
    for tick in range(1, 13):
        assert not election.update(5.0 + tick * TICK_S, {1: 5.0 + tick * TICK_S})
    assert election.update(6.3, {1: 6.3})
    assert election.term == 2


def test_a_vote_that_cannot_be_sent_ends_the_lead_at_once() -> None:
    election = Election(2, 2)
    for tick in range(20):
        election.update(tick * TICK_S, {})
    assert election.leads
    assert not election.update(2.0, {}, can_send=False)
    assert election.obstacle == "its own vote cannot be sent"
    assert not election.update(2.1, {}), "and the hold begins anew"


def test_a_lone_node_leads_whether_or_not_its_vote_can_be_sent() -> None:
    assert Election(1, 1).update(0.0, {}, can_send=False)


def test_a_higher_vote_every_now_and_then_keeps_the_lower_node_waiting() -> None:
    election = Election(1, 2)
    for tick in range(200):
        now = tick * TICK_S
        heard = now - now % 1.2  # each time long enough to be gone for 0.2 s
        assert not election.update(now, {2: heard} if now - heard < LIVE_S else {}), now
