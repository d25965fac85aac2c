"""A plugin hangs when a client writes to an item: the server continues, and the client gets its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw.database import Definition
from fixgw.plugins.netfix import writer

from .conftest import TestGateway

pytestmark = pytest.mark.slow

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """An event that releases all hung subscribers."""
    event = threading.Event()
    yield event
    event.set()


def hang(gateway: TestGateway, key: str, go_on: threading.Event) -> threading.Event:
    """Let a plugin hang when `key` is written; the event is set when it does."""
    hanging = threading.Event()

    def callback(*args: object) -> None:
        hanging.set()
        go_on.wait(30)

    gateway.db.subscribe(key, callback, callback)
    return hanging


@pytest.mark.parametrize("write", ["@wBARO;30.1", "@wBARO.x;1", "BARO;30.1;0000", "@fBARO;b;1", "BARO;29.92;0100"])
def test_other_clients_are_served_meanwhile(
    serve: Callable[..., TestGateway], go_on: threading.Event, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 20.0)
    gateway = serve(
        [Definition(key="BARO", setting=True, initial=29.92, aux=("x",)), Definition(key="MARK", type="int")]
    )
    other, one = gateway.connect(), gateway.connect()
    other.send("@sMARK\n@sBARO\n")
    other.lines(2)
    hanging = hang(gateway, "BARO", go_on)
    one.send(f"{write}\n@rMARK\n")
    assert hanging.wait(5)
    if write != "@fBARO;b;1":
        assert other.line().startswith("BARO"), "a subscriber that is notified before the hung one"
    else:
        other.line()
    assert gateway.heard(other) == [], "an unrelated update"
    assert other.ask("@rBARO").startswith("@rBARO;")
    late = gateway.connect()
    assert late.ask("@wMARK;5") == "@wMARK;5;00000"
    one.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        one.line()  # its own commands stay in order
    one.sock.settimeout(5)
    go_on.set()
    if write[0] == "@":
        assert one.line().startswith(write[:6])
    assert one.line() == "@rMARK;5;00000"


def test_the_client_gets_its_answer_and_another_thread_continues(
    gateway: TestGateway, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    hang(gateway, "BARO", go_on)
    hang(gateway, "IAS", go_on)
    one, two = gateway.connect(), gateway.connect()
    started = time.monotonic()
    assert one.ask("@wBARO;30.1") == "@wBARO;30.1;00000"
    assert two.ask("@wIAS;100") == "@wIAS;100.0;00000"
    assert one.ask("@wBARO;30.2") == "@wBARO;30.2;00000"
    assert time.monotonic() - started < 2.0
    assert gateway.plugin.get_status()["writes not waited for"] >= 2
    assert "BARO: a subscriber hangs" in caplog.text


def test_too_many_hung_writes_end_only_writing(
    gateway: TestGateway, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    monkeypatch.setattr(writer, "MOST_HUNG", 1)
    hang(gateway, "BARO", go_on)
    hang(gateway, "IAS", go_on)
    client = gateway.connect()
    assert client.ask("@wBARO;30.1") == "@wBARO;30.1;00000"
    assert client.ask("@wIAS;100") == "@wIAS;0.0;01000", "the answer says what is stored"
    assert client.ask("@wALT;100") == "@wALT;100.0;00000", "without notification"
    go_on.set()


def test_it_stops_while_a_subscriber_hangs(serve: Callable[..., TestGateway], go_on: threading.Event) -> None:
    gateway = serve()
    hanging = hang(gateway, "BARO", go_on)
    client = gateway.connect()
    client.send("@wBARO;30.1\n")
    assert hanging.wait(5)
    started = time.monotonic()
    gateway.plugin.shutdown()
    assert time.monotonic() - started < 1.0
    assert client.closed()


def test_answers_and_updates_keep_their_order_while_plugins_are_notified(gateway: TestGateway) -> None:
    told: list[Any] = []
    gateway.db.subscribe("FREE", lambda key, reading: told.append(reading.value))
    writing, other = gateway.connect(), gateway.connect()
    for client in (writing, other):
        client.send("@sFREE\n@sMARK\n")
        client.lines(2)
    writing.send("".join(f"@wFREE;{n}\n@rFREE\nFREE;{n}.5;000\n@rFREE\n" for n in range(200)))
    expected = []
    for n in range(200):
        expected += [f"@wFREE;{n}.0;00000", f"@rFREE;{n}.0;00000", f"@rFREE;{n}.5;00000"]
    assert writing.lines(600) == expected
    assert told == [n / 2 for n in range(400)]
    assert gateway.heard(writing) == [], "it does not receive its own writes"
    assert other.lines(400) == [f"FREE;{n / 2};00000" for n in range(400)]


def test_a_write_without_other_subscribers_is_done_at_once(gateway: TestGateway) -> None:
    client = gateway.connect()
    client.ask("@sALT")
    with gateway.db.mailbox(["ALT"]) as mailbox:
        assert client.ask("@wALT;5") == "@wALT;5.0;00000"
        assert mailbox.wait(1)["ALT"].value == 5.0
    assert gateway.plugin.server._writer._worker is None  # type: ignore[union-attr]
