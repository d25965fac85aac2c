"""Whether a gateway leads, and who is told; and what connections offer."""

from __future__ import annotations

import pytest

from fixgw import quorum
from fixgw.hw_sim.bench.clock import Clock
from fixgw.world import Quorum, Way, World, first


@pytest.fixture
def leading(clock: Clock) -> Quorum:
    return Quorum(clock)


def test_a_lone_gateway_leads(leading: Quorum, clock: Clock) -> None:
    clock.now += 1e9
    assert leading.leader
    assert not leading.lapsed
    assert (leading.enabled, leading.nodeid, leading.total_nodes, leading.vote_key) == (False, None, 1, None)
    assert leading.ways == {}


def test_a_lease_runs_out_at_its_time_whether_or_not_anybody_says_so(leading: Quorum, clock: Clock) -> None:
    leading.lead(clock.now + 2.0)
    clock.now += 1.999
    assert (leading.leader, leading.lapsed) == (True, False)
    clock.now += 0.001
    assert (leading.leader, leading.lapsed) == (False, True)
    leading.leader = False
    assert not leading.lapsed
    leading.lead(clock.now + 2.0)
    assert leading.leader


def test_subscribers_hear_of_changes_only_and_whether_they_were_said_in_time(leading: Quorum, clock: Clock) -> None:
    heard: list[tuple[bool, bool]] = []
    close = leading.subscribe(lambda leads, in_time: heard.append((leads, in_time)))
    leading.subscribe(lambda leads, in_time: None)
    leading.leader = True
    leading.lead(clock.now + 2.0)
    assert heard == [], "it has led from the beginning"
    leading.leader = False
    leading.leader = False
    leading.lead(clock.now + 2.0)
    clock.now += 1.0
    leading.lead(clock.now + 2.0)
    clock.now += 2.0
    leading.leader = False
    assert heard == [(False, True), (True, True), (False, False)], "another may have led before the last"
    close()
    leading.leader = True
    assert len(heard) == 3


def test_a_subscriber_that_fails_does_not_keep_it_from_the_others(
    leading: Quorum, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bool] = []

    def fail(leads: bool, in_time: bool) -> None:
        raise ValueError("defect")

    leading.subscribe(fail)
    leading.subscribe(lambda leads, in_time: heard.append(leads))
    leading.leader = False
    assert heard == [False]
    assert "failed" in caplog.text


def test_the_module_stands_for_the_first_gateway() -> None:
    theirs, before = first().quorum, (first().quorum.leader, first().quorum.nodeid)
    quorum.leader, quorum.nodeid = False, 7
    assert (theirs.leader, theirs.nodeid) == (quorum.leader, quorum.nodeid) == (False, 7)
    quorum.leader, quorum.nodeid = before


def test_a_way_carries_nothing_before_its_connection_fills_it_in_and_after_that_stops() -> None:
    way = Way()
    assert (way.send, way.works(), way.listens, way.sender) == (None, False, False, 0)
    assert way.sent_at == way.heard_at == float("-inf")
    way.send, way.works = lambda number: True, lambda: True
    way.close()
    assert (vars(way)["send"], way.works()) == (None, False)


def test_offers_end_with_their_connection() -> None:
    world = World()
    world.offer("fuel", "full", lambda words: f"fuel: {words}")
    world.offer("fuel", "empty", lambda words: "")
    world.offer("alerts", "ack", lambda words: "no alert")
    world.offer("other", "empty", lambda words: "taken over")
    command = world.offered("full")
    assert command is not None
    assert command("20") == "fuel: 20"
    world.withdraw("fuel")
    assert [world.offered(name) is None for name in ("full", "empty", "ack", "nonsense")] == [True, False, False, True]


def test_a_world_without_a_gateway_says_so() -> None:
    world = World()
    assert world.restart("gps") == world.reload() == "there is no gateway"
    assert world.status() == {}
    assert world.configuration() is None
    world.quit("gps")
    world.poke()
