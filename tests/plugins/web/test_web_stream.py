"""The stream: what a page sees, and when."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fixgw.database import BAD, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.web.outbox import MOST_SOURCES, Outbox

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
    for text in (b"{", b"[]", b'{"keys": 1}', b'{"keys": [1]}', b'{"rate": "fast"}', b"[" * 60000):
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


def test_an_outbox_holds_the_newest_of_each_key_only() -> None:
    db = Database([Definition(key="A"), Definition(key="B")], Clock())
    outbox = Outbox(db)
    outbox.subscribe(["*"])
    assert outbox.take()["v"].keys() == {"A", "B"}
    for n in range(1000):
        db.write("A", n, "x")
    assert outbox.take() == {"v": {"A": (999.0, 0, 1, 0.0)}, "sources": ["", "x"]}
    assert outbox.take() == {"v": {}}


def test_a_value_that_became_old_unnoticed_leaves_old() -> None:
    clock = Clock()
    db = Database([Definition(key="A", tolerance=1000)], clock)
    db.write("A", 5.0, "x")
    clock.now += 2.0  # nothing ages the items here
    outbox = Outbox(db)
    outbox.subscribe(["A"])
    assert outbox.take()["v"] == {"A": (5.0, 2, 0, 2.0)}


def test_the_list_of_sources_is_bounded_and_stays_right() -> None:
    db = Database([Definition(key="A"), Definition(key="B")], Clock())
    outbox = Outbox(db)
    outbox.subscribe(["*"])
    db.write("B", 1.0, "steady")
    known: list[str] = []
    for n in range(3 * MOST_SOURCES):
        db.write("A", n, f"netfix/10.0.0.2:{n}")
        parts = outbox.take()
        known = parts.get("sources", known)
        assert known[parts["v"]["A"][2]] == f"netfix/10.0.0.2:{n}"
        if "B" in parts["v"]:
            assert known[parts["v"]["B"][2]] == "steady"
        assert len(known) <= MOST_SOURCES + 2
