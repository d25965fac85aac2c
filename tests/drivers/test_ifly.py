"""iFly EFB: NMEA 0183 in datagrams, at an address that may not be there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from fixgw import database
from fixgw.database import Database
from fixgw.drivers.ifly import IflyOptions, Plugin
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import UdpBench
from fixgw.hw_sim.devices.ifly import Ifly
from fixgw.hw_sim.devices.nmea0183 import sentence
from fixgw.kit.anonymous import Shift
from fixgw.kit.raw import Heard

RMB = sentence("GPRMB,A,0.66,L,KBEGIN,KBDNXYZ,4917.24,N,12309.57,W,001.3,052.5,000.5,V")
APB = sentence("GPAPB,A,A,0.66,L,N,V,V,050.0,M,KBDNXYZ,052.5,M,052.5,M")
VOID = sentence("GPRMB,V,0.66,L,KBEGIN,KBDNXYZ,4917.24,N,12309.57,W,001.3,052.5,000.5,V")


@pytest.fixture
def db() -> Iterator[Database]:
    db = packaged_database()
    before = database.current()
    database.bind(db)
    yield db
    database.bind(before)


class Tablet:
    """Sends datagrams to the plugin."""

    def __init__(self, plugin: Plugin, port: int) -> None:
        self.plugin = plugin
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.sendto(datagram, self._to)

    def until(self, condition: Callable[[], object], *datagrams: bytes) -> None:
        deadline = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < deadline, self.plugin.health()
            self.send(*datagrams)
            time.sleep(0.01)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def serving(**given: Any) -> Iterator[Tablet]:
    """A plugin with these options, and its tablet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options: dict[str, Any] = {"port": port, "host": "127.0.0.1", **given}
    plugin = Plugin("ifly", options)
    plugin.start()
    tablet = Tablet(plugin, port)
    yield tablet
    tablet.close()
    began = time.monotonic()
    plugin.shutdown()
    assert time.monotonic() - began < 1.0


@pytest.fixture
def tablet(db: Database, request: pytest.FixtureRequest) -> Iterator[Tablet]:
    with serving(**getattr(request, "param", {})) as tablet:
        yield tablet


def test_without_options_it_listens_where_the_app_sends_to() -> None:
    options = IflyOptions()
    assert options.url == "udp://192.168.1.1:2000"
    assert "192.168.1.0/24" in options.allow


@pytest.mark.slow
def test_several_sentences_in_a_datagram_whose_last_has_no_end(tablet: Tablet, db: Database) -> None:
    tablet.until(lambda: db.read("COURSE").good, (RMB + APB).rstrip())
    assert db.read("WPNAME").value == "KBDNXYZ", "as long as it is"
    assert db.read("WPLAT").value == pytest.approx(49 + 17.24 / 60)
    assert db.read("WPHEAD").value == "052"
    assert db.read("XTRACK").value == pytest.approx(0.66)
    tablet.until(lambda: not tablet.plugin.health(), RMB)


@pytest.mark.slow
def test_a_void_sentence_fails_the_waypoint(tablet: Tablet, db: Database) -> None:
    tablet.until(lambda: db.read("WPLAT").good, RMB)
    tablet.until(lambda: db.read("WPLAT").fail, VOID)
    assert db.read("XTRACK").fail


@pytest.mark.slow
def test_an_address_that_this_computer_lacks_is_replaced_by_every_address(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(host="203.0.113.9") as tablet:  # in no fixture: what a thread logs between set-up and test is not seen
        tablet.until(lambda: db.read("WPLAT").good, RMB)
    assert "this computer does not have the address 203.0.113.9: listening on every address" in caplog.messages


@pytest.mark.slow
@pytest.mark.parametrize("tablet", [{"allow": ["192.0.2.77"]}], indirect=True)
def test_other_hosts_are_refused(tablet: Tablet, db: Database) -> None:
    tablet.until(lambda: tablet.plugin.counts.get("datagrams not allowed"), RMB)
    assert not db.read("WPLAT").good


def test_a_capture_for_others_names_no_waypoint() -> None:
    clean = Plugin.anonymise(IflyOptions(), [Heard("ifly", 0.0, "in", RMB)], Shift.random(Random(1), 49.0), True)
    assert clean is not None
    assert b"KBDN" not in clean[0].data
    assert b"4917.24" not in clean[0].data


class TestContract(Contract):
    subject = UdpBench.of(
        "fixgw.drivers.ifly",
        Ifly,
        "XTRACK CDI COURSE WPNAME WPLAT WPLON",
        absurd={"COURSE": 400.0},
    )
