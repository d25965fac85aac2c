"""Votes for a leader on a CAN bus: real gateways among themselves, and with hand-made frames of the incumbent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import can
import pytest

from fixgw import configuration
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can.bus import BusOptions, SharedBus
from fixgw.gateway import Gateway

pytestmark = pytest.mark.slow

CHANNEL = "votes"
#: The incumbent's frame for the vote of node 2 on CAN node 145, and that of another node that measures oil pressure.
VOTE_OF_2 = (0x771, bytes.fromhex("0609000200"))
MEASURED = (0x220, bytes.fromhex("0c00001027"))
TEXT = """\
database file: "{{CONFIG}}/database.yaml"
connections:
  can0:
    {{module: fixgw.plugins.canfix, interface: virtual, channel: votes, node: {node}, mapfile: "{{CONFIG}}/map.yaml"}}
  quorum: {{module: fixgw.plugins.quorum, nodeid: {nodeid}, total_nodes: 2{more}}}
"""
ITEMS = """\
entries:
  - {key: QVOTE1, type: int, max: 500, tol: 1000}
  - {key: QVOTE2, type: int, max: 500, tol: 1000}
  - {key: LEADER, type: bool}
  - {key: IAS, tol: 2000, max: 1000}
"""
MAP = """\
outputs:
  - {fixid: IAS, canid: 0x183, owner: yes, require_leader: yes, rate_limit: 0, on_lost_lead: 0}
"""


@contextmanager
def running(directory: Path, nodeid: int, node: int = 0xB6, more: str = "") -> Iterator[Gateway]:
    directory.mkdir()
    (directory / "default.yaml").write_text(TEXT.format(nodeid=nodeid, node=node, more=more))
    (directory / "database.yaml").write_text(ITEMS)
    (directory / "map.yaml").write_text(MAP)
    gateway = Gateway(configuration.load(directory / "default.yaml"))
    thread = threading.Thread(target=gateway.run_forever, args=(False,))
    thread.start()
    try:
        until(lambda: "quorum" in gateway.runners and gateway.runners["quorum"].state.value == "running")
        yield gateway
    finally:
        gateway.request_stop()
        thread.join(20)
        assert not thread.is_alive()
        assert not gateway.world.quorum.leader


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Others:
    """What else is on the bus: repeats its frames every 0.1 s, and notes what it hears."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.heard: list[tuple[int, str]] = []
        self._bus = can.Bus(CHANNEL, interface="virtual", ignore_config=True)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._ending.wait(0.1):
            for identifier, data in self.frames:
                self._bus.send(can.Message(arbitration_id=identifier, data=data, is_extended_id=False))
            while (message := self._bus.recv(0)) is not None:
                self.heard.append((message.arbitration_id, bytes(message.data).hex()))

    def close(self) -> None:
        self._ending.set()
        self._thread.join(5)
        self._bus.shutdown()


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Others]:
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    others = Others()
    yield others
    others.close()
    assert not can_bus._buses


def test_with_the_incumbent_and_a_witness_on_the_bus(tmp_path: Path, others: Others) -> None:
    others.frames = [VOTE_OF_2, MEASURED]
    with running(tmp_path / "1", 1, more=", witness: can") as gateway:
        db, quorum = gateway.database, gateway.world.quorum
        until(lambda: db.read("QVOTE2").good)
        assert db.read("QVOTE2").source == "can0/145"
        until(lambda: (0x796, "0609000100") in others.heard)
        time.sleep(0.5)
        assert not quorum.leader
        others.frames = [MEASURED]
        began = time.monotonic()
        until(lambda: quorum.leader)
        assert 1.0 < time.monotonic() - began < 2.5, "1.5 s and what a busy computer adds"
        db.write("IAS", 100.0, "pitot", flags=0)
        until(lambda: (0x183, "b60000e803") in others.heard)
        others.frames = []
        until(lambda: not quorum.leader)
        assert "neither the other node nor a witness is heard" in gateway.summary()
        until(lambda: (0x183, "b600000000") in others.heard)
        db.write("IAS", 101.0, "pitot", flags=0)
        others.frames = [(0x771, bytes.fromhex("0609000100"))]  # a node with our number
        until(lambda: "node 1 is also at can0/0x91" in gateway.summary())
        assert (0x183, "b60000f203") not in others.heard
        others.frames = [(0x771, bytes.fromhex("0609004d00")), (0x771, bytes.fromhex("060900ffff"))]
        plugin: Any = gateway.runners["can0"].plugin
        until(lambda: plugin.counts.get("votes without a key", 0) > 1 and plugin.counts["misfits"] > 1)
        assert gateway.runners["can0"].state.value == "running"


def test_two_gateways_take_over_from_each_other(tmp_path: Path, others: Others) -> None:
    with running(tmp_path / "1", 1) as one:
        with running(tmp_path / "2", 2, node=0xB7) as two:
            until(lambda: two.world.quorum.leader and not one.world.quorum.leader)
            assert one.database.read("LEADER").value is False
            assert "node 2" in one.get_status()["connections"]["quorum"]["status"]["seen"]
        began = time.monotonic()
        until(lambda: one.world.quorum.leader)
        assert 0.5 < time.monotonic() - began < 2.5, "1.5 s and what a busy computer adds"


@pytest.mark.parametrize(
    ("state", "counters", "acknowledged"),
    [
        ("active", None, True),
        ("warning", (100, 0), True),
        ("passive", (128, 0), False),
        ("passive", None, False),
        ("passive", (20, 140), True),
        ("bus off", (255, 0), False),
    ],
)
def test_what_a_controller_says_about_acknowledgement(
    state: str, counters: tuple[int, int] | None, acknowledged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = SharedBus(BusOptions(interface="virtual", channel="votes"))
    monkeypatch.setattr(bus, "_port", object())
    bus.state, bus.error_counters = state, counters
    assert bus.acknowledged is acknowledged


def test_a_gateway_with_two_connections_to_one_bus_has_no_duplicate(tmp_path: Path, others: Others) -> None:
    """Connections that share a bus hear each other, as separate nodes do."""
    with ExitStack() as stack:
        more = ', witness: ""}\n  can1: {module: fixgw.plugins.canfix, interface: virtual, channel: votes, node: 9'
        gateway = stack.enter_context(running(tmp_path / "2", 2, more=more))
        until(lambda: (0x6E9, "0609000200") in others.heard and (0x796, "0609000200") in others.heard)
        until(lambda: gateway.world.quorum.leader)
        assert "also at" not in gateway.summary()
