"""The link to a simulator: whom it hears, when it sends, and what it says of one that is silent."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from fixgw.database import FAIL, Database
from fixgw.drivers.links.serial import SerialOptions
from fixgw.drivers.links.simulator import SILENT, SimulatorLink, SimulatorPoller, check_host
from fixgw.kit.update import Update
from fixgw.net import endpoint
from fixgw.net.access import Address
from tests.drivers.bus_bench import packaged_database

HERE = "127.0.0.1"


class Line:
    """A port that gives `pieces`, and takes what is sent while it has room."""

    described = "a simulator"

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.written: list[bytes] = []
        self.room = True
        self.in_waiting = 0

    def read(self, size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def write(self, data: bytes) -> int:
        self.written += [data] * self.room
        return len(data) * self.room

    def close(self) -> None:
        pass


class Protocol:
    """What it is fed is of no interest: it gives `updates`."""

    REFUSALS: ClassVar[tuple[str, ...]] = ()
    SELF_EVIDENT = True
    refused = trouble = ""
    updates: list[Update]

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        counts.setdefault("received", 0)
        self.updates = []

    def feed(self, data: bytes) -> list[Update]:
        self.counts["received"] += 1
        return self.updates


class Simulator(SimulatorPoller[SerialOptions]):
    KEYS = frozenset({"IAS", "TACH1"})

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__("fs", {"port": f"udp://{HERE}:4000"})
        self.now = 100.0
        self.clock = lambda: self.now
        self.send_rate = rate
        self.line = Line()
        self.asks: list[bytes] = []
        self.step(0.0)
        self.hold_up.clock = lambda: 0.0
        self.hold_up.reset()

    def _open(self) -> Any:
        return self.line

    def protocol(self) -> Any:
        return Protocol(self.counts)

    def requests(self) -> Iterable[bytes]:
        return [self.asks.pop()] if self.asks else ()

    def outgoing(self) -> Iterable[bytes]:
        return (b"out",)

    def hear(self, *updates: Update) -> None:
        self._protocol.updates = [*updates]  # type: ignore[attr-defined]
        self.line.pieces.append(b"x")
        self.step(0.0)


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_values_are_sent_at_their_rate_and_requests_when_they_are_due(db: Database) -> None:
    it = Simulator(rate=2.0)
    assert it.line.written == [b"out"], "the first at once"
    it.asks.append(b"ask")
    it.step(0.0)
    assert it.line.written == [b"out", b"ask"]
    it.now += 0.49
    it.step(0.0)
    assert it.line.written[2:] == []
    assert it.poll_by() == 100.5
    it.now += 0.01
    it.step(0.0)
    assert it.line.written[2:] == [b"out"]
    assert it.poll_by() == 101.0
    it.now += 10.0
    for _ in range(3):
        it.step(0.0)
    assert it.line.written[3:] == [b"out"] * 2, "what was missed is made up for by one"
    it.line.room = False
    it.now += 1.0
    it.step(0.0)
    assert (it.counts["sent"], it.counts["not sent"]) == (4, 1)


def test_a_poll_ends_when_values_are_to_be_sent(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Simulator(rate=10.0)
    waits: list[float] = []

    def read(timeout: float) -> bytes:
        waits.append(timeout)
        return b""

    monkeypatch.setattr(it, "_read", read)
    it.now += 0.04
    it.poll(0.2)
    it.poll(0.01)
    it.now += 1.0
    it.poll(0.2)
    assert waits == [pytest.approx(0.06), 0.01, 0.0]


def test_nothing_is_sent_without_a_rate(db: Database) -> None:
    it = Simulator()
    it.now += 1000.0
    it.step(0.0)
    assert it.line.written == []
    assert it.poll_by() == math.inf


def test_what_the_simulator_said_is_not_sent_back_to_it(db: Database) -> None:
    it = Simulator()
    assert it.source == "sim/fs"
    it.hear(Update("IAS", 100.0))
    assert db.read("IAS").value == 100.0
    assert it.value("IAS") is None
    assert it.value("ALT") is None, "nobody has said"
    db.write("BARO", 30.02, source="panel")
    assert it.value("BARO") == 30.02
    assert it.value("NO_SUCH_ITEM") is None


def test_a_setting_holds_until_it_is_set_again(db: Database) -> None:
    db.write("BARO", 30.02, source="panel")
    db.clock = lambda: 1e9
    assert Simulator().value("BARO") == 30.02


# -- what is heard -----------------------------------------------------------------------------------------------------


def test_whole_numbers_are_rounded_and_others_are_not(db: Database) -> None:
    assert db.item("TACH1").type == "int"
    it = Simulator()
    it.hear(Update("TACH1", 2399.6), Update("IAS", 99.6))
    assert (db.read("TACH1").value, db.read("IAS").value) == (2400, 99.6)
    fitted = [it._fit(Update("TACH1", value)) for value in (math.inf, 3, 2.5)]
    assert [update.value for update in fitted] == [math.inf, 3, 2]
    assert it._fit(Update("NO_SUCH_ITEM", 0.5)).value == 0.5


def test_a_simulator_that_falls_silent_fails_its_keys_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Simulator()
    it.hear(Update("IAS", 100.0))
    it.now += 3.0
    it.step(0.0)
    assert not db.read("IAS").fail
    it.now += 0.1
    it.step(0.0)
    assert db.read("IAS").reason(FAIL) == SILENT
    failed: list[str] = []
    monkeypatch.setattr(it.publisher, "fail", failed.append)
    it.step(0.0)
    assert failed == []
    it.hear(Update("IAS", 101.0))
    it.now += 3.1
    it.step(0.0)
    assert failed == [SILENT], "it has been heard since"


# -- datagrams ---------------------------------------------------------------------------------------------------------


class Rig:
    """A link, and programs on several hosts that send to it."""

    def __init__(self, stack: ExitStack, to: tuple[str, int] | None, *allow: str, here: str = HERE) -> None:
        self.refused = Counter[str]()
        self.link = SimulatorLink(endpoint.Endpoint("udp", here, 0), to, self.refuse, lambda: 100.0, allow)
        stack.callback(self.link.close)
        self.port = self.link._socket.getsockname()[1]
        self._stack = stack

    def refuse(self, why: str, sender: Address) -> None:
        self.refused[why] += 1

    def program(self, host: str) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((host, 0))
        sock.settimeout(5)
        return sock

    def hear(self, sender: socket.socket, data: bytes) -> bytes:
        sender.sendto(data, (HERE, self.port))
        return self.link.read(65536)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
def test_the_simulator_may_send_though_no_other_host_may(stack: ExitStack) -> None:
    at = Rig(stack, None, "127.0.0.0/8").program("127.0.0.9")
    rig = Rig(stack, at.getsockname())
    assert rig.link.write(b"ask") == 3
    assert at.recv(10) == b"ask"
    assert rig.hear(at, b"one") == b"one"
    assert rig.hear(rig.program("127.0.0.8"), b"two") == b""
    assert rig.refused == {"datagrams not allowed": 1}


@pytest.mark.slow
def test_a_simulator_that_is_to_be_found_is_the_only_one_from_then_on(stack: ExitStack) -> None:
    rig = Rig(stack, None, "127.0.0.0/8")
    assert rig.link.write(b"ask") == 0, "nobody knows where it is"
    first, second = rig.program("127.0.0.8"), rig.program("127.0.0.9")
    rig.link.aim(second.getsockname())
    assert rig.hear(first, b"one") == b""
    assert rig.hear(second, b"two") == b"two"
    assert rig.refused == {"datagrams of other hosts": 1}
    assert rig.link.write(b"ask") == 3
    assert second.recv(10) == b"ask"


@pytest.mark.slow
def test_a_datagram_may_have_16_kib_and_stays_whole(stack: ExitStack) -> None:
    rig = Rig(stack, None, "127.0.0.0/8")
    at = rig.program("127.0.0.9")
    for size, read in (16_384, 16_384), (16_385, 0):
        assert len(rig.hear(at, bytes(size))) == read
    assert rig.refused == {"datagrams too long": 1}
    at.sendto(b"one", (HERE, rig.port))
    assert rig.hear(at, b"two") == b"one"
    assert rig.link.read(65536) == b"two"


@pytest.mark.slow
def test_a_simulator_is_looked_for_by_the_addresses_of_the_socket(stack: ExitStack) -> None:
    assert Rig(stack, ("localhost", 4000)).link.to == ("127.0.0.1", 4000)
    if socket.has_ipv6:
        try:
            rig = Rig(stack, ("localhost", 4000), here="::1")
        except OSError:
            pytest.skip("no IPv6 here")
        assert rig.link.to[:2] == ("::1", 4000)


@pytest.mark.parametrize(
    ("host", "problem"),
    [("192.168.1.5", ""), ("::1", ""), ("sim.local", ""), ("a b", "'a b' is neither an address nor a host name")],
)
def test_a_host_is_checked_without_asking_for_it(host: str, problem: str) -> None:
    assert [*check_host("send_host", host, 4000)] == ([("send_host", problem)] if problem else [])
