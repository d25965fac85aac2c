"""Hosts share the places and the time of the server: none keeps others out, and none is dropped for many requests."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from fixgw.database import Definition
from fixgw.net.listener import Caller
from fixgw.plugins.netfix import server, turns
from fixgw.plugins.netfix.peer import Peer
from fixgw.plugins.netfix.turns import Turns

from .conftest import RawClient, TestGateway

pytestmark = pytest.mark.slow

Wait = Callable[[Callable[[], object]], None]
ANSWER = "@rIAS;0.0;01000"


# -- places ------------------------------------------------------------------------------------------------------------


def talking(gateway: TestGateway, source: str, count: int) -> list[RawClient]:
    clients = [gateway.connect(source) for _ in range(count)]
    for client in clients:
        assert client.ask("@rIAS") == ANSWER
    return clients


def test_the_longest_idle_client_of_the_busiest_host_makes_room(serve: Callable[..., TestGateway]) -> None:
    gateway = serve(clients=6)
    (other,) = talking(gateway, "127.0.0.9", 1)
    held = talking(gateway, "127.0.0.5", 5)
    assert held[0].ask("@sALT") == "@sALT"
    assert held[1].ask("@rIAS") == ANSWER
    display = gateway.connect()
    assert display.ask("@rIAS") == ANSWER
    assert held[2].closed(), "the others have subscribed, or have sent something since"
    for client in (held[0], held[1], held[3], held[4], other, display):
        assert client.ask("@rIAS") == ANSWER


def test_a_host_with_its_share_does_not_take_the_share_of_others(
    serve: Callable[..., TestGateway], wait_for: Wait
) -> None:
    gateway = serve(clients=4)
    one, two = talking(gateway, "127.0.0.5", 2), talking(gateway, "127.0.0.6", 2)
    assert gateway.connect("127.0.0.5").closed()
    assert gateway.connect("127.0.0.6").closed()
    assert [client.ask("@rIAS") for client in one + two] == [ANSWER] * 4
    assert talking(gateway, "127.0.0.7", 1)[0].ask("@rIAS") == ANSWER


def test_a_client_that_connects_floods_and_leaves_keeps_no_place(serve: Callable[..., TestGateway]) -> None:
    gateway = serve(clients=3)
    stop = threading.Event()

    def hurry() -> None:
        while not stop.is_set():
            try:
                client = RawClient(gateway.port, "127.0.0.5")
                client.send("?\n" * 4096)
                client.close()
            except OSError:
                pass

    threads = [threading.Thread(target=hurry) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            display = gateway.connect()
            assert display.ask("@rIAS") == ANSWER
            display.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_client_that_leaves_at_the_last_moment_makes_room(
    serve: Callable[..., TestGateway], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = serve(clients=3)
    held = talking(gateway, "127.0.0.5", 2)
    (display,) = talking(gateway, "127.0.0.1", 1)
    server_ = gateway.plugin.server
    make_room = server_._make_room  # type: ignore[union-attr]

    def leave_first(caller: object) -> bool:
        display.close()  # after the events have been fetched, before one is dropped
        return make_room(caller)  # type: ignore[arg-type]

    monkeypatch.setattr(server_, "_make_room", leave_first)
    assert gateway.connect("127.0.0.1").ask("@rIAS") == ANSWER
    assert [client.ask("@rIAS") for client in held] == [ANSWER] * 2


def test_a_disconnect_is_noticed_before_all_data_has_been_read(
    gateway: TestGateway, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Turns, "next", lambda self: None)  # no client gets a turn
    client = gateway.connect()
    client.send("@rIAS\n" * 10_000)
    client.sock.shutdown(1)
    peers = gateway.plugin.server._peers  # type: ignore[union-attr]
    wait_for(lambda: [p.leaving for p in peers.values()] == [True])
    (peer,) = peers.values()
    assert not peer.ended


# -- time --------------------------------------------------------------------------------------------------------------


class NoSocket:
    def fileno(self) -> int:
        return -1


def asking(queue: Turns, address: str, debt: float) -> Peer:
    peer = Peer(Caller(NoSocket(), ip_address(address), 1), "", 0.0)  # type: ignore[arg-type]
    peer.debt, peer.debt_at = debt, time.monotonic()
    queue.queue(peer)
    return peer


def test_hosts_take_turns_and_quiet_ones_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Turns()
    a1, a2, a3 = (asking(queue, "10.0.0.1", 100.0) for _ in range(3))
    b1 = asking(queue, "10.0.0.2", 100.0)
    modest = asking(queue, "10.0.0.3", 0.0)
    order = []
    for _ in range(7):
        peer = queue.next()
        assert peer is not None
        order.append(peer)
        if peer is not modest:
            queue.queue(peer)
    assert order == [modest, a1, b1, a2, b1, a3, b1]
    for peer in (a1, a2, a3, b1, b1):
        queue.leave(peer)
    assert queue.next() is None
    assert queue.rest() == float("inf")


def test_busy_clients_leave_time_for_the_others() -> None:
    queue = Turns()
    peers = [asking(queue, f"10.0.0.{n}", 100.0) for n in range(5)]
    assert queue.rest() == 0.0
    queue.spent(peers[0], turns.BUSY_S)
    assert 3 * turns.BUSY_S < queue.rest() <= 5 * turns.BUSY_S
    assert queue.next() is None
    modest = asking(queue, "10.0.0.9", 0.0)
    assert queue.rest() == 0.0
    assert queue.next() is modest
    time.sleep(6 * turns.BUSY_S)
    assert queue.next() is not None


def test_past_activity_is_forgotten_with_time() -> None:
    queue = Turns()
    peer = asking(queue, "10.0.0.1", turns.ALLOWANCE_S + 1.0)
    assert not queue.is_modest(peer)
    peer.debt_at -= 1.0 / turns.PAYBACK
    assert queue.is_modest(peer)


@pytest.mark.parametrize("flood", ["@rIAS\n", "@l\n", "IAS;5;000\n", "?\n", "@xexplain IAS\n", "@xstatus\n"])
def test_clients_that_flood_delay_no_one_and_are_not_dropped(serve: Callable[..., TestGateway], flood: str) -> None:
    gateway = serve()
    stop = threading.Event()
    flooding = [gateway.connect("127.0.0.5") for _ in range(5)]

    def pour(client: RawClient) -> None:
        client.sock.settimeout(0.05)
        while not stop.is_set():
            try:
                client.send(flood * 100)
            except TimeoutError:
                pass
            try:
                while client.sock.recv(1 << 20):
                    pass
            except TimeoutError:
                pass

    threads = [threading.Thread(target=pour, args=(client,)) for client in flooding]
    for thread in threads:
        thread.start()
    client = gateway.connect()
    times = []
    for _ in range(60):
        started = time.monotonic()
        assert client.ask("@rMARK") == "@rMARK;0;01000"
        times.append(time.monotonic() - started)
        time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert gateway.plugin.get_status()["dropped"] == 0
    assert gateway.plugin.get_status()["clients"] == 6
    assert statistics.median(times) < 0.05  # `python -m benchmarks netfix` measures it on a quiet computer


def test_long_answers_are_sent_in_small_portions(
    serve: Callable[..., TestGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    portions: list[int] = []
    send = Peer.send

    def sending(peer: Peer, data: bytes) -> None:
        portions.append(len(data))
        send(peer, data)

    monkeypatch.setattr(Peer, "send", sending)
    gateway = serve([Definition(key=f"A_KEY_WITH_A_LONG_NAME_{n}") for n in range(200)])
    client = gateway.connect()
    client.send("@l\n" * 300)
    answers = client.lines(300)
    assert set(answers) == {answers[0]}
    assert max(portions) <= server.SLICE_BYTES + len(answers[0]) + 1
    assert sum(portions) == 300 * (len(answers[0]) + 1)


def test_every_request_in_a_burst_is_answered(gateway: TestGateway) -> None:
    client = gateway.connect()
    sender = threading.Thread(target=client.send, args=("@rIAS\n" * 20_000 + "@rMARK\n",))
    sender.start()
    assert client.until("@rMARK;0;01000") == [ANSWER] * 20_000
    sender.join()


def test_the_most_silent_connection_gives_way_first(
    serve: Callable[..., TestGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENT_S", 0.0)
    gateway = serve(clients=3)
    held = talking(gateway, "127.0.0.5", 2)
    silent = gateway.connect("127.0.0.9")
    assert gateway.connect().ask("@rIAS") == ANSWER
    assert silent.closed()
    assert [client.ask("@rIAS") for client in held] == [ANSWER] * 2
