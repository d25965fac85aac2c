"""Data that clients and gateways sent while this process was held up is old, and must not pass for new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.clock import LATE_S
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.netfix.server import HOUSEKEEPING_S, SETTLE_S

pytestmark = pytest.mark.slow

Gateway = Any  # TestGateway of conftest.py
Serve = Callable[..., Gateway]
Wait = Callable[[Callable[[], object]], None]


class Held:
    """Simulates a hold-up of a gateway's server with its clock."""

    def __init__(self, gateway: Gateway) -> None:
        self.server = gateway.plugin.server
        self.clock = Clock()
        with self.server._fanout.working:
            self.server._hold_up.clock = self.clock
            self.server._hold_up.reset()

    def __enter__(self) -> None:
        self.server._fanout.working.acquire()
        self.clock.now += HOUSEKEEPING_S + LATE_S + 10.0

    def __exit__(self, *exc: object) -> None:
        self.server._fanout.working.release()


def test_only_measurements_that_waited_are_ignored(gateway: Gateway, wait_for: Wait) -> None:
    client, held = gateway.connect(), Held(gateway)
    client.send("IAS;100;0000\n")
    wait_for(lambda: gateway.db.read("IAS").value == 100.0)
    with held:
        for n in range(300):
            client.send(f"IAS;{101 + n};0000\nALT;{n};0000\n@wALT;{n}\n")
    assert client.lines(300)[-1] == "@wALT;0.0;01000", "what it is now"
    assert gateway.db.read("IAS").value == 100.0
    assert gateway.plugin.get_status()["ignored after a hold-up"] == 900
    time.sleep(SETTLE_S)
    client.send("IAS;500;0000\nALT;5000;0000\n")
    wait_for(lambda: gateway.db.read("ALT").value == 5000.0)
    assert gateway.db.read("IAS").value == 500.0
    assert gateway.db.read("IAS").good


def test_settings_and_requests_that_waited_are_obeyed(gateway: Gateway) -> None:
    client, held = gateway.connect(), Held(gateway)
    with held:
        client.send("BARO;30.1;0000\nBTN1;True;0000\nFREE;7;0000\nIAS.Vne;150\n@rBARO\n@wBARO;30.2\n")
    assert client.lines(2) == ["@rBARO;30.1;00000", "@wBARO;30.2;00000"]
    assert gateway.db.read("BTN1").value is True
    assert gateway.db.read("FREE").value == 7.0, "it never ages"
    assert gateway.db.read_aux("IAS.Vne") == 150.0


def test_measurements_of_clients_that_connected_meanwhile_are_ignored_too(gateway: Gateway) -> None:
    held = Held(gateway)
    with held:
        client = gateway.connect()
        client.send("IAS;100;0000\n")
    assert client.ask("@rIAS") == "@rIAS;0.0;01000"


def test_a_client_that_sent_nothing_meanwhile_is_trusted_at_once(gateway: Gateway) -> None:
    client, other, held = gateway.connect(), gateway.connect(), Held(gateway)
    client.ask("@rIAS")
    with held:
        other.send("@rALT\n")
    other.line()
    client.send("IAS;100;0000\n")
    assert client.ask("@rIAS") == "@rIAS;100.0;00000"


def test_a_short_delay_is_not_a_hold_up(gateway: Gateway) -> None:
    client, held = gateway.connect(), Held(gateway)
    with held:
        held.clock.now -= 10.5
        client.send("IAS;100;0000\n")
    assert client.ask("@rIAS") == "@rIAS;100.0;00000"


def test_values_that_waited_on_a_link_are_ignored(serve: Serve, wait_for: Wait) -> None:
    there = serve()
    output = {"host": "127.0.0.1", "port": there.port, "send": [], "receive": ["IAS", "BARO", "FREE"]}
    here = serve(type="both", outputs=[output])
    wait_for(lambda: here.plugin.health() == "")
    there.db.write("IAS", 100.0, "pitot", 0)
    wait_for(lambda: here.db.read("IAS").value == 100.0)
    (link,) = here.plugin.links
    clock = link._client._hold_up.clock = Clock()
    link._client._hold_up.reset()

    def held_up(value: float) -> bool:
        clock.now += 60.0  # unless the link polls between this and the next line, and finds no waiting data
        there.db.write("IAS", value, "pitot", 0)
        wait_for(lambda: link.late or here.db.read("IAS").value == value)
        return bool(link.late)

    value = 101.0
    while not held_up(value):
        value += 1.0
    before = here.db.read("IAS").stamp
    there.db.write("BARO", 30.1, "panel")
    there.db.write("FREE", 3.0, "panel")
    wait_for(lambda: here.db.read("BARO").value == 30.1 and here.db.read("FREE").value == 3.0)
    assert here.db.read("IAS").stamp == before, "it has not been refreshed"
    assert link.status()["ignored after a hold-up"] >= 1  # the value may also have come twice, read and sent
    clock.now += SETTLE_S
    there.db.write("IAS", 90.0, "pitot", 0)
    wait_for(lambda: here.db.read("IAS").value == 90.0)


@pytest.mark.parametrize("silence_s", [1.2])
def test_a_silent_link_was_not_held_up(serve: Serve, wait_for: Wait, silence_s: float) -> None:
    there = serve()
    output = {"host": "127.0.0.1", "port": there.port, "send": [], "receive": ["IAS"]}
    here = serve(type="both", outputs=[output])
    wait_for(lambda: here.plugin.health() == "")
    time.sleep(silence_s)
    there.db.write("IAS", 100.0, "pitot", 0)
    wait_for(lambda: here.db.read("IAS").value == 100.0)
