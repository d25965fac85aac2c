"""The stream: what a page sees, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.database import BAD, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.web.guard import encode
from fixgw.plugins.web.outbox import MOST_SOURCES, MOST_WILD, Feed, Outbox

from .conftest import HERE, Gateway

Serve = Callable[..., Gateway]


@pytest.mark.slow
def test_a_page_gets_all_values_soon_after_it_has_opened(serve: Serve) -> None:
    gateway = serve()
    gateway.db.write("IAS", 77.5, "adc/1", BAD)
    begun = time.monotonic()
    page = gateway.page()
    message = page.until(lambda m: m["v"])
    assert time.monotonic() - begun < 1.0
    value, flags, source, age = message["v"]["IAS"]
    assert (value, flags, message["sources"][source]) == (77.5, 4, "adc/1")
    assert 0 <= age < 1.0
    assert message["v"]["GS"] == [None, 2, message["sources"].index(""), None]
    assert set(message["v"]) == {"IAS", "GS", "ALT", "BARO", "ACID"}


@pytest.mark.slow
def test_a_message_comes_at_each_tick_even_if_nothing_changes(serve: Serve) -> None:
    page = serve().page("*", 20)
    first = page.until(lambda m: m["v"])["n"]
    begun = time.monotonic()
    assert [page.message()["n"] for _ in range(6)] == list(range(first + 1, first + 7))
    assert 0.2 < time.monotonic() - begun < 1.0


@pytest.mark.slow
def test_a_page_follows_the_keys_that_it_names(serve: Serve) -> None:
    gateway = serve()
    page = gateway.page(["IAS", "A*", "FOO"])
    message = page.until(lambda m: m["v"])
    assert set(message["v"]) == {"IAS", "ALT", "ACID"}
    assert message["unknown"] == ["FOO"]
    page.want(keys=["BARO"])
    assert page.value("BARO")[0] is None
    gateway.db.write("IAS", 90.0, "adc")
    gateway.db.write("BARO", 30.0, "knob")
    assert page.until(lambda m: m["v"])["v"].keys() == {"BARO"}


@pytest.mark.slow
def test_what_is_not_understood_is_said_and_the_stream_goes_on(serve: Serve) -> None:
    page = serve().page(["IAS"])
    wild = json.dumps({"keys": ["*"] * (MOST_WILD + 1)}).encode()
    for text in (b"{", b"[]", b'{"keys": 1}', b'{"keys": [1]}', b'{"rate": "fast"}', b"[" * 60000, wild):
        page.frame(text)
        assert "not understood" in page.until(lambda m: "error" in m)["error"]


@pytest.mark.slow
def test_definitions_and_limits_that_change_are_announced(serve: Serve) -> None:
    gateway = serve()
    page = gateway.page()
    gateway.db.item("IAS").write_aux("Vne", 180.0)
    revision = page.until(lambda m: "items" in m)["items"]
    facts = gateway.ask("GET", "/api/v1/items").json
    assert facts["revision"] == revision
    assert facts["items"]["IAS"]["aux"] == {"Vs": None, "Vne": 180.0}
    gateway.db.define(Definition(key="NEW"))
    assert page.value("NEW")[0] is None
    page.until(lambda m: m.get("items", 0) > revision)


@pytest.mark.slow
def test_the_verdict_comes_by_itself_and_the_tree_on_demand(serve: Serve) -> None:
    gateway = serve()
    page = gateway.page()
    message = page.until(lambda m: "verdict" in m)
    unreal = {"simulated": 0, "replayed": 0, "overridden": 0}
    assert message["verdict"] == {"health": "ok", "summary": "all well", "uptime": 1.0, **unreal}
    assert "status" not in message
    page.want(status=True)
    assert page.until(lambda m: "status" in m)["status"] == gateway.status


@pytest.mark.slow
def test_the_21st_page_is_refused(serve: Serve) -> None:
    gateway = serve(clients=2)
    gateway.page()
    gateway.page()
    client = gateway.connect()
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    headers |= {"Sec_WebSocket_Version": "13", "Origin": f"http://{client.host}"}
    answer = client.ask("GET", "/api/v1/stream", **headers)
    assert (answer.status, answer.code) == (503, "full")


@pytest.mark.slow
def test_it_stops_at_once_while_pages_are_open_and_starts_again(serve: Serve) -> None:
    gateway = serve(write=HERE)
    for _ in range(3):
        page = gateway.page()
        begun = time.monotonic()
        gateway.plugin.shutdown()
        assert time.monotonic() - begun < 1.0
        with pytest.raises(EOFError) as end:
            page.until(lambda m: False)
        assert end.value.args == (1001,)
        with gateway.world.hosting():
            gateway.plugin = type(gateway.plugin)("web", {"port": 0, "rate": 50})
        gateway.plugin.start()


# -- the outbox alone --------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database([Definition(key="A"), Definition(key="B", tolerance=1000)], clock)


@pytest.fixture
def feed(db: Database) -> Feed:
    return Feed(db)


def take(outbox: Outbox, clock: Clock) -> dict[str, Any]:
    """What the next message has, a tick later."""
    clock.now += 0.1
    found: dict[str, Any] = json.loads(encode(outbox.take()))
    return found


def follow(feed: Feed, *keys: str) -> Outbox:
    outbox = Outbox(feed)
    outbox.subscribe(keys or ["*"])
    return outbox


def test_an_outbox_holds_the_newest_of_each_key_only(db: Database, feed: Feed, clock: Clock) -> None:
    outbox = follow(feed)
    assert take(outbox, clock)["v"].keys() == {"A", "B"}
    for n in range(1000):
        db.write("A", n, "x")
    assert take(outbox, clock) == {"v": {"A": [999.0, 0, 1, 0.1]}, "sources": ["", "x"]}
    assert take(outbox, clock) == {"v": {}}


def test_clients_that_look_at_different_times_each_get_everything(db: Database, feed: Feed, clock: Clock) -> None:
    fast, slow, other = follow(feed), follow(feed), follow(feed, "B")
    for n in range(11):
        db.write("A", n, "x")
        assert take(fast, clock)["v"]["A"][0] == n
        if n % 3 == 0:
            assert take(slow, clock)["v"]["A"][0] == n
    db.write("B", 5.0, "y")
    assert take(slow, clock)["v"].keys() == {"A", "B"}
    assert take(other, clock)["v"].keys() == {"B"}
    assert take(fast, clock)["v"].keys() == {"B"}


def test_clients_that_look_at_the_same_time_share_it(db: Database, feed: Feed, clock: Clock) -> None:
    outboxes = [follow(feed) for _ in range(3)]
    for _ in range(3):
        db.write("A", 1.0, "x")
        clock.now += 0.1
        values = [outbox.take()["v"] for outbox in outboxes]
        assert bytes(values[0]) == bytes(values[1]) == bytes(values[2])
        assert len(feed._encoded) == 1
    newcomer = follow(feed)
    assert json.loads(bytes(newcomer.take()["v"])).keys() == {"A", "B"}


def test_a_value_that_became_old_unnoticed_leaves_old(db: Database, feed: Feed, clock: Clock) -> None:
    db.write("B", 5.0, "x")
    clock.now += 1.9  # nothing ages the items here
    assert take(follow(feed, "B"), clock)["v"] == {"B": [5.0, 2, 0, 2.0]}


def test_keys_that_are_defined_later_are_followed(db: Database, feed: Feed, clock: Clock) -> None:
    outbox, one = follow(feed), follow(feed, "C")
    take(outbox, clock)
    assert take(one, clock)["v"] == {}
    db.define(Definition(key="C"))
    assert take(outbox, clock)["v"].keys() == {"C"}
    assert take(one, clock)["v"].keys() == {"C"}


def test_the_list_of_sources_is_bounded_and_stays_right(db: Database, feed: Feed, clock: Clock) -> None:
    outbox, rare = follow(feed), follow(feed)
    db.write("B", 1.0, "steady")
    known: list[str] = []
    rarely: list[str] = []
    for n in range(3 * MOST_SOURCES):
        db.write("A", n, f"netfix/10.0.0.2:{n}")
        parts = take(outbox, clock)
        known = parts.get("sources", known)
        assert known[parts["v"]["A"][2]] == f"netfix/10.0.0.2:{n}"
        if "B" in parts["v"]:
            assert known[parts["v"]["B"][2]] == "steady"
        assert len(known) <= MOST_SOURCES + 2
        if n % 70 == 0:
            parts = take(rare, clock)
            rarely = parts.get("sources", rarely)
            assert rarely[parts["v"]["A"][2]] == f"netfix/10.0.0.2:{n}"
