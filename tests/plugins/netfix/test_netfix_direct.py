"""An idle gateway with few clients sends from the writer's own thread; this changes nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fixgw.plugins.netfix import fanout

from .conftest import RawClient, TestGateway

pytestmark = pytest.mark.slow


@pytest.fixture
def flushed_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the threads that send updates."""
    names: list[str] = []
    flush = fanout.FanOut._flush

    def noting(self: fanout.FanOut) -> None:
        names.append(threading.current_thread().name)
        flush(self)

    monkeypatch.setattr(fanout.FanOut, "_flush", noting)
    return names


def subscribed(gateway: TestGateway, *keys: str) -> RawClient:
    client = gateway.connect()
    for key in keys:
        assert client.ask(f"@s{key}") == f"@s{key}"
    return client


def test_the_writer_sends_while_the_server_sleeps(gateway: TestGateway, flushed_by: list[str]) -> None:
    client = subscribed(gateway, "IAS")
    for value in range(20):
        time.sleep(0.02)  # the test is about an idle gateway
        gateway.db.write("IAS", value, "me", flags=0)
        assert client.line() == f"IAS;{float(value)};00000"
    assert flushed_by.count(threading.current_thread().name) >= 15


def test_a_batch_is_sent_once_at_its_end(gateway: TestGateway, flushed_by: list[str]) -> None:
    keys = ("IAS", "ALT", "FREE", "MARK")
    client = subscribed(gateway, *keys)
    flushed_by.clear()
    for value in range(20):
        time.sleep(0.02)  # the test is about an idle gateway
        with gateway.db.batch:
            for key in keys:
                gateway.db.write(key, value, "me", flags=0)
        assert [client.line().split(";")[0] for _ in keys] == list(keys)
    assert 15 <= flushed_by.count(threading.current_thread().name) <= 20
    assert len(flushed_by) <= 25


def test_the_values_of_a_burst_are_sent_together(gateway: TestGateway, flushed_by: list[str]) -> None:
    keys = ("IAS", "ALT", "FREE", "MARK")
    client = subscribed(gateway, *keys)
    for value in range(20):
        time.sleep(0.02)  # the test is about bursts after a pause
        for key in keys:
            gateway.db.write(key, value, "me", flags=0)
        assert [client.line().split(";")[0] for _ in keys] == list(keys)
    assert len(flushed_by) <= 50, "80 updates"


def test_the_values_of_a_batch_that_does_not_end_arrive_too(gateway: TestGateway) -> None:
    client = subscribed(gateway, "IAS", "ALT")
    hung, over = threading.Event(), threading.Event()

    def hang() -> None:
        with gateway.db.batch:
            gateway.db.write("IAS", 1, "me", flags=0)
            hung.set()
            over.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    hung.wait(20)
    assert client.line() == "IAS;1.0;00000", "the server finds it by itself"
    gateway.db.write("ALT", 2, "you", flags=0)
    assert client.line() == "ALT;2.0;00000"
    over.set()
    thread.join()


def test_with_many_clients_the_server_sends(gateway: TestGateway, flushed_by: list[str]) -> None:
    clients = [subscribed(gateway, "IAS") for _ in range(fanout.DIRECT_CLIENTS + 1)]
    gateway.db.write("IAS", 1, "me", flags=0)
    for client in clients:
        assert client.line() == "IAS;1.0;00000"
    assert threading.current_thread().name not in flushed_by


def test_all_updates_of_many_writers_arrive_in_order_for_each_key(gateway: TestGateway, flushed_by: list[str]) -> None:
    keys = ("IAS", "ALT", "FREE", "MARK")
    client = subscribed(gateway, *keys)

    def write(key: str) -> None:
        for value in range(300):
            gateway.db.write(key, value, key, flags=0)
            time.sleep(0.0001 if value % 3 else 0.003)

    threads = [threading.Thread(target=write, args=(key,), name="writer") for key in keys]
    for thread in threads:
        thread.start()
    heard: dict[str, list[float]] = {key: [] for key in keys}
    while any(len(values) < 300 for values in heard.values()):
        key, value, flags = client.line().split(";")
        assert flags == "00000"
        heard[key].append(float(value))
    for thread in threads:
        thread.join()
    assert all(values == list(range(300)) for values in heard.values())
    assert "writer" in flushed_by


def test_a_disconnected_client_does_not_disturb_the_writer(
    gateway: TestGateway, wait_for: Callable[[Callable[[], object]], None]
) -> None:
    client = subscribed(gateway, "IAS")
    other = subscribed(gateway, "IAS")
    client.close()
    for value in range(50):
        gateway.db.write("IAS", value, "me", flags=0)
        time.sleep(0.002)
    assert [other.line() for _ in range(50)][-1] == "IAS;49.0;00000"
    assert gateway.db.callback_errors == 0
    wait_for(lambda: gateway.plugin.get_status()["clients"] == 1)
