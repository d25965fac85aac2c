"""The plugin in real gateways, on the test's clock: what counts as a vote, as sent, as a witness, as a duplicate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.database import FAIL, Database
from fixgw.gateway import Gateway
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import Options, PluginBase
from fixgw.plugins.quorum import Plugin
from fixgw.world import Quorum
from tests.plugins.by_hand import gateway, plugin_of

CASES = json.loads((Path(__file__).parents[2] / "data" / "redundancy.json").read_text())["quorum"]
TEXT = """\
    connections:
      votes: {{module: fixgw.plugins.quorum, nodeid: {nodeid}, total_nodes: {total_nodes}{more}}}
    database file: "{{CONFIG}}/database.yaml"
    """


OWN_ITEMS = 'database file: "{CONFIG}/database.yaml"\n'
ITEMS = """\
variables: {n: 9}
entries:
  - {key: QVOTEn, type: int, min: 0, max: 500, tol: 1000}
  - {key: LEADER, type: bool}
  - {key: WIRE, type: bool, tol: 1000}
  - {key: IAS, tol: 2000}
"""


class Carrier(PluginBase[Options]):
    """A connection that sends votes, as a CAN bus does. The test decides what arrives."""

    delivers = True
    sent: list[int]

    @classmethod
    def carries_votes(cls, options: Options) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sent = []
        self.way = self.quorum.ways[self.name]
        self.way.send = self.send
        self.way.works = lambda: self.delivers

    def send(self, number: int) -> bool:
        self.sent.append(number)
        return self.delivers


class Node:
    """A gateway with its plugin, driven by the test."""

    def __init__(self, running: Gateway, clock: Clock) -> None:
        self.gateway, self.clock = running, clock
        self.db: Database = running.database
        self.plugin: Plugin = plugin_of(running, "votes")
        self.quorum: Quorum = running.world.quorum

    def vote(self, *numbers: int, source: str = "can0/145") -> None:
        for number in numbers:
            self.db.write(f"QVOTE{number}", number, source, flags=0)

    def run(self, seconds: float, *heard: int) -> bool:
        """Let time pass, in which others vote. Returns whether the node leads."""
        for _ in range(round(seconds * 10)):
            self.clock.now = round(self.clock.now + 0.1, 6)
            self.vote(*heard)
            self.plugin.step()
        assert self.db.read("LEADER").value is self.quorum.leader
        return self.quorum.leader


Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(nodeid: int = 2, total_nodes: int = 2, more: str = "") -> Node:
            directory = tmp_path / str(nodeid)
            directory.mkdir()
            (directory / "database.yaml").write_text(ITEMS)
            text = TEXT.format(nodeid=nodeid, total_nodes=total_nodes, more=more)
            return Node(stack.enter_context(gateway(text, directory, clock, monkeypatch)), clock)

        yield start


@pytest.fixture
def with_bus(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Node, Carrier]]:
    """A node with a `Carrier`."""

    def make(*arguments: Any, **options: Any) -> tuple[Node, Carrier]:
        monkeypatch.setattr("fixgw.plugins.skel.Plugin", Carrier)
        text = TEXT.replace("    database", "      can0: {{module: fixgw.plugins.skel}}\n    database")
        monkeypatch.setitem(globals(), "TEXT", text)
        node = start(*arguments, **options)
        return node, plugin_of(node.gateway, "can0")

    return make


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vectors(case: dict[str, Any], start: Start, clock: Clock) -> None:
    """A vote that is not live is flagged at that moment."""
    node = start(case["nodeid"], case["total_nodes"], ", witness: WIRE" if "witness" in case else "")
    began = clock.now
    for number, step in enumerate(case["steps"]):
        node.db.write("WIRE", step.get("witness", False), "wire")
        before = set(case["steps"][max(number - 1, 0)]["live"])
        while clock.now < began + step["t"] - 1e-6:
            clock.now = round(clock.now + 0.1, 6)
            if clock.now < began + step["t"] - 1e-6:
                node.vote(*before)
                if step.get("duplicate"):
                    node.vote(case["nodeid"])
                node.db.write("WIRE", case["steps"][number - 1].get("witness", False), "wire")
                node.plugin.step()
        node.db.write("WIRE", step.get("witness", False), "wire")
        node.vote(*step["live"])
        if step.get("duplicate"):
            node.vote(case["nodeid"])
        for gone in before - set(step["live"]):
            node.db.item(f"QVOTE{gone}").flag(FAIL, FAIL, "can0/145")
        node.plugin.step()
        assert node.quorum.leader is step["leader"], (step, node.plugin.get_status())


def test_nobody_leads_before_the_first_connection_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "default.yaml"
    path.write_text("connections:\n  q: {module: fixgw.plugins.quorum, nodeid: 1, total_nodes: 2}\n")
    seen = []
    it = Gateway(configuration.load(path))
    look = lambda connection: seen.append((it.world.quorum.leader, it.database.read("LEADER")))  # noqa: E731
    monkeypatch.setattr(it, "_launch", look)
    it.start()
    it.stop()
    ((leads, reading),) = seen
    assert leads is False
    assert reading.good
    assert reading.value is False


def test_without_the_plugin_the_gateway_leads(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text("connections: {}\n")
    it = Gateway(configuration.load(path))
    it.start()
    try:
        assert it.world.quorum.leader
        assert it.database.read("LEADER").value is True
    finally:
        it.stop()


def test_a_vote_counts_while_it_is_fresh_and_good(start: Start) -> None:
    node = start(1, 2)
    assert not node.run(3.0, 2)
    node.db.item("QVOTE2").flag(FAIL, FAIL, "can0/145")
    assert not node.run(1.2)
    assert node.run(0.2)
    assert not node.run(0.1, 2), "steps down at once"
    assert not node.run(1.0), "the last vote came 1.0 s ago"
    assert node.run(0.5), "and the hold counts from it"


def test_the_kept_and_the_wrong_do_not_count(start: Start) -> None:
    node = start(1, 2)
    node.db.write("QVOTE2", 2, "kept", flags=0)
    node.db.write("QVOTE3", 7, "can0/145", flags=0)
    assert node.run(1.5)
    assert node.plugin.get_status()["seen"] == "no other node"


def test_two_without_a_witness_say_so(start: Start) -> None:
    node = start(2, 2)
    assert "two nodes without a witness: both lead when the link is cut" in node.plugin.health()


def test_two_with_a_wire(start: Start) -> None:
    node = start(2, 2, ", witness: WIRE")
    assert not node.run(5.0)
    assert node.plugin.health().endswith("neither the other node nor a witness is heard")
    for _ in range(20):
        node.db.write("WIRE", True, "gpio", flags=0)
        node.run(0.1)
    assert node.quorum.leader
    assert not node.run(1.1), "the wire's value has become old"


def test_a_vote_that_is_not_sent_does_not_count(with_bus: Callable[..., tuple[Node, Carrier]]) -> None:
    node, bus = with_bus(3, 3)
    bus.delivers = False
    assert not node.run(3.0, 1, 2)
    assert "its own vote cannot be sent" in node.plugin.health()
    bus.delivers = True
    assert not node.run(1.2, 1, 2)
    assert node.run(0.4, 1, 2)
    assert node.plugin.get_status()["sent by"] == "can0"
    bus.delivers = False
    assert not node.run(0.1, 1, 2), "bus-off, and it steps down at once"


def test_votes_go_out_three_times_a_second(with_bus: Callable[..., tuple[Node, Carrier]]) -> None:
    node, bus = with_bus(3, 3)
    node.run(3.0)
    assert bus.sent == [3] * 10
    assert node.db.item("QVOTE3").reading.value == 3


def test_a_chosen_way_that_is_not_there_is_no_way(with_bus: Callable[..., tuple[Node, Carrier]]) -> None:
    node, _ = with_bus(1, 2, ", ways: [can0]")
    assert node.run(2.0)
    del node.quorum.ways["can0"]
    assert "can0 carries no votes" in node.plugin.health()


def test_a_stopped_carrier_ends_the_lead(with_bus: Callable[..., tuple[Node, Carrier]]) -> None:
    node, bus = with_bus(3, 3)
    assert node.run(2.0, 1, 2)
    bus.way.close()
    assert not node.run(0.1, 1, 2)


def test_the_witness_on_the_bus(with_bus: Callable[..., tuple[Node, Carrier]], clock: Clock) -> None:
    node, bus = with_bus(2, 2, ", witness: can")
    assert not node.run(3.0)
    assert bus.way.listens
    for _ in range(15):
        bus.way.heard_at = clock.now
        node.run(0.1)
    assert node.quorum.leader
    assert node.run(0.8)
    assert not node.run(0.3)


def test_the_own_number_from_elsewhere(start: Start) -> None:
    node = start(2, 3)
    assert node.run(2.0, 1)
    node.vote(2, source="can0/145")
    assert not node.run(0.1, 1)
    assert node.plugin.health().startswith("no connection carries the votes; node 2 is also at can0/0x91")
    node.run(1.0, 1)
    assert not node.quorum.leader
    assert node.run(1.4, 1), "and once it has been quiet for the hold, all is well"
    assert node.plugin.election.term == 2


def test_who_was_held_up_does_not_lead_on_waking(start: Start, clock: Clock) -> None:
    """Nobody must ask the plugin's thread: outputs read `leader` before it runs again."""
    node = start(2, 2)
    assert node.run(2.0)
    changes: list[tuple[bool, bool]] = []
    node.quorum.subscribe(lambda leads, in_time: changes.append((leads, in_time)))
    clock.now += 0.8
    assert node.quorum.leader
    clock.now += 4.2
    assert not node.quorum.leader
    node.gateway._step(0.0)
    assert node.db.read("LEADER").value is False, "and the supervisor says so if the thread hangs"
    assert changes == [(False, False)], "too late for a last word"
    assert not node.run(1.2, 1)
    assert node.run(0.2, 1)


def test_who_was_held_up_while_it_sent_its_vote_does_not_lead(
    with_bus: Callable[..., tuple[Node, Carrier]], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vote is as old as the hold-up, although it has just been sent."""
    node, bus = with_bus(3, 3)
    assert node.run(2.0, 1, 2)

    def held_up(number: int) -> bool:
        clock.now += 5.0
        return True

    monkeypatch.setattr(bus.way, "send", held_up)
    for _ in range(5):
        before = clock.now
        clock.now += 0.1
        node.plugin.step()
        if clock.now > before + 1:
            break
    else:
        raise AssertionError("it did not vote")
    assert not node.quorum.leader
    bus.way.send = bus.send
    assert not node.run(1.2, 1, 2)


def test_an_election_that_a_reload_adds_finds_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that were there before are not restarted."""
    monkeypatch.setattr("fixgw.plugins.skel.Plugin", Carrier)
    (tmp_path / "database.yaml").write_text(ITEMS)
    path = tmp_path / "default.yaml"
    before = f"{OWN_ITEMS}connections:\n  can0: {{module: fixgw.plugins.skel}}\n"
    path.write_text(before)
    it = Gateway(configuration.load(path))
    it.start()
    try:
        assert it.world.quorum.leader
        carrier = plugin_of(it, "can0")
        path.write_text(f"{before}  votes: {{module: fixgw.plugins.quorum, nodeid: 3, total_nodes: 3}}\n")
        it.adopt(configuration.load(path))
        assert plugin_of(it, "can0") is carrier
        assert not it.world.quorum.leader
        assert it.database.read("LEADER").value is False
        deadline = time.monotonic() + 10
        while not carrier.sent:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        path.write_text(before)
        it.adopt(configuration.load(path))
        assert it.world.quorum.leader
        assert it.database.read("LEADER").value is True
    finally:
        it.stop()


def test_a_dead_thread_does_not_lead(start: Start) -> None:
    node = start(2, 2)
    assert node.run(2.0)
    node.plugin.finish()
    assert not node.quorum.leader
    assert node.db.read("LEADER").value is False


def test_three_gateways_on_one_bus(start: Start, clock: Clock) -> None:
    """Each hears the others through its database; the link of one is cut and mended."""
    nodes = {n: start(n, 3) for n in (1, 2, 3)}
    cut: set[int] = set()

    def run(seconds: float) -> list[int]:
        for _ in range(round(seconds * 10)):
            clock.now = round(clock.now + 0.1, 6)
            for n, node in nodes.items():
                before = node.plugin.counts.get("votes", 0)
                node.plugin.step()
                if node.plugin.counts["votes"] > before:
                    for other in nodes.keys() - {n} if n not in cut else ():
                        if other not in cut:
                            nodes[other].vote(n, source=f"can0/{144 + n}")
            leaders = [n for n, node in nodes.items() if node.quorum.leader]
            assert len(leaders) <= 1
        return leaders

    assert run(2.0) == [3]
    cut.add(3)
    assert run(1.6) == [2]
    cut.clear()
    assert run(0.4) == []
    assert run(1.5) == [3]
    assert nodes[1].plugin.get_status()["seen"].keys() == {"node 2", "node 3"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("nodeid: 12, total_nodes: 2", "nodeid: no item 'QVOTE12'"),
        ("nodeid: 1, total_nodes: 2, witness: IAS", "witness: IAS is not True or False"),
        ("nodeid: 1, total_nodes: 2, witness: cam", "witness: expected `can` or a key"),
        ("nodeid: 1, total_nodes: 2, ways: [gsp]", "ways[0]: no connection 'gsp' (did you mean 'gps'?)"),
        ("nodeid: 1", "total_nodes"),
        ("nodeid: 0, total_nodes: 2", "nodeid"),
    ],
)
def test_findings(options: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text(
        f"connections:\n  quorum: {{module: fixgw.plugins.quorum, {options}}}\n"
        "  gps: {module: fixgw.drivers.nmea0183, port: /dev/null}\n"
        f"{OWN_ITEMS}"
    )
    (tmp_path / "database.yaml").write_text(ITEMS)
    (problem,) = configuration.check(path)
    assert expected in str(problem)
    assert "default.yaml:2:" in str(problem)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("nodeid: 2, total_nodes: 2", "two nodes without a witness"),
        ("nodeid: 3, total_nodes: 2, witness: can", "2 is less than this gateway's number, 3"),
        ("nodeid: 1, total_nodes: 3, witness: can", "has no effect with total_nodes: 3"),
    ],
)
def test_advice_is_also_the_doctors(options: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text(f"connections:\n  quorum: {{module: fixgw.plugins.quorum, {options}}}\n{OWN_ITEMS}")
    (tmp_path / "database.yaml").write_text(ITEMS)
    loaded = configuration.load(path)
    assert any(expected in str(advice) for advice in loaded.advice)
    connection = loaded.connections[0]
    own = {k: v for k, v in connection.options.items() if k != "CONFIGPATH"}
    declared = Plugin("q", own).options
    assert any(expected in finding.message for finding in Plugin.preflight(declared))
