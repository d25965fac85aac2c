"""Requests: what they answer, who may make them, and what is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import BAD
from fixgw.plugins.web.access import Tokens

from .conftest import HERE, Gateway

pytestmark = pytest.mark.slow
Serve = Callable[..., Gateway]


def test_an_item_is_explained(serve: Serve) -> None:
    gateway = serve()
    gateway.db.write("ALT", 5000.0, "gps", BAD, reason="no fix")
    found = gateway.ask("GET", "/api/v1/items/ALT").json
    assert (found["value"], found["source"], found["flags"]["bad"]) == (5000.0, "gps", "no fix")
    assert (found["type"], found["setting"], found["decimals"]) == ("float", False, 0)
    answer = gateway.ask("GET", "/api/v1/items/ATL")
    assert (answer.status, answer.code) == (404, "key")
    assert "ALT" in answer.json["error"]


def test_a_write_says_what_is_stored_and_published(serve: Serve) -> None:
    gateway = serve(write=HERE)
    answer = gateway.ask("PUT", "/api/v1/items/BARO", {"value": 40, "flags": ["bad"]})
    assert answer.json == {
        "stored": {"value": 35.0, "flags": ["bad"], "source": "web/127.0.0.1"},
        "published": True,
    }
    assert gateway.db.read("BARO").value == 35.0


def test_a_write_that_a_better_source_overrules_says_so(serve: Serve) -> None:
    gateway = serve(write=HERE)
    gateway.db.write("ALT", 5000.0, "adc")
    answer = gateway.ask("PUT", "/api/v1/items/ALT", {"value": 99})
    assert answer.json["published"] is False
    assert answer.json["stored"]["value"] == 99.0
    assert answer.json["by"] == {"value": 5000.0, "flags": ["secfail"], "source": "adc"}
    assert answer.json["why"] == "adc ranks above web/127.0.0.1"
    assert gateway.db.read("ALT").value == 5000.0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "value"),
        ({"value": "high"}, "value"),
        ({"value": None}, "value"),
        ({"value": True}, "value"),
        ({"value": 5, "flags": ["green"]}, "flags"),
        ({"value": 5, "flags": ["old"]}, "flags"),
        ({"value": 5, "flags": 4}, "flags"),
        ([], "json"),
        (5, "json"),
    ],
)
def test_values_that_are_refused(shared: Gateway, body: Any, code: str) -> None:
    answer = shared.ask("PUT", "/api/v1/items/GS", body)
    assert (answer.status, answer.code) == (400, code)
    assert shared.db.item("GS").writes == 0


def test_nobody_writes_by_default(serve: Serve) -> None:
    gateway = serve(bench=True)
    for method, path, body in (
        ("PUT", "/api/v1/items/IAS", {"value": 5}),
        ("PUT", "/api/v1/overrides/IAS", {"value": 5}),
        ("DELETE", "/api/v1/overrides", {}),
        ("POST", "/api/v1/alarms", {"command": "mute"}),
        ("POST", "/api/v1/reload", {}),
        ("POST", "/api/v1/connections/web/restart", {}),
    ):
        answer = gateway.ask(method, path, body)
        assert (answer.status, answer.code) == (403, "role"), path
    assert gateway.db.item("IAS").writes == 0
    assert gateway.db.overridden() == {}


def test_get_changes_nothing(serve: Serve) -> None:
    gateway = serve(write=HERE, admin=HERE, bench=True)
    for path in ("alarms", "reload", "pair", "connections/web/restart", "overrides/IAS"):
        assert gateway.ask("GET", f"/api/v1/{path}").status == 405
    assert gateway.ask("GET", "/api/v1/items/IAS?value=5").status == 200
    assert gateway.db.item("IAS").writes == 0


def test_foreign_pages_and_names_are_refused(serve: Serve) -> None:
    gateway = serve(write=HERE)
    path, body = "/api/v1/items/IAS", {"value": 5}
    for headers, status, code in (
        ({"Origin": "http://evil.example"}, 403, "origin"),
        ({"Origin": "null"}, 403, "origin"),
        ({"Origin": ""}, 403, "origin"),
        ({"Host": "evil.example"}, 403, "host"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403, "host"),
        ({"Content_Type": ""}, 415, "type"),
        ({"Content_Type": "text/plain"}, 415, "type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "type"),
    ):
        answer = gateway.ask("PUT", path, body, **headers)
        assert (answer.status, answer.code) == (status, code), headers
    assert gateway.ask("GET", path, Host="evil.example").code == "host"
    assert gateway.ask("GET", "/", Host="evil.example").code == "host"
    assert gateway.db.item("IAS").writes == 0
    assert not [name for name in gateway.ask("GET", path).headers if name.startswith("access-control")]
    assert gateway.ask("OPTIONS", path).status == 405


def test_the_headers_of_the_page(serve: Serve) -> None:
    gateway = serve()
    for path in ("/", "/index.html", "/nothing", "/api/v1/status", "/api/v1/nothing"):
        headers = gateway.ask("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert gateway.ask("GET", "/api/v1/status").headers["cache-control"] == "no-store"
    page = gateway.ask("GET", "/")
    assert b"<html" in page.body
    assert gateway.ask("GET", "/", If_None_Match=page.headers["etag"]).status == 304


@pytest.mark.parametrize(
    "path",
    ["/../__init__.py", "/..%2f__init__.py", "/%2e%2e/api.py", "//etc/passwd", "/./../api.py", "/\\..\\api.py", "/%00"],
)
def test_files_by_name_from_a_list_only(shared: Gateway, path: str) -> None:
    assert shared.ask("GET", path).status in (400, 403, 404)


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_overrides_are_listed_and_released(serve: Serve) -> None:
    gateway = serve(write=HERE, bench=True)
    answer = gateway.ask("PUT", "/api/v1/overrides/ALT", {"value": 9000, "flags": ["bad"], "seconds": 60})
    assert answer.status == 200, answer.body
    found = answer.json["overrides"]["ALT"]
    assert 50 < found.pop("seconds") <= 60
    assert found == {"value": 9000.0, "flags": ["bad"], "source": "override/web/127.0.0.1"}
    assert gateway.ask("PUT", "/api/v1/items/ALT", {"value": 1}).json["why"] == "ALT is overridden"
    gateway.ask("PUT", "/api/v1/overrides/IAS", {"value": 90})
    assert set(gateway.ask("GET", "/api/v1/overrides").json["overrides"]) == {"ALT", "IAS"}
    assert set(gateway.ask("DELETE", "/api/v1/overrides/ALT", {"force": True}).json["overrides"]) == {"IAS"}
    assert gateway.ask("DELETE", "/api/v1/overrides", {}).json == {"overrides": {}}
    assert gateway.db.overridden() == {}


def test_overrides_need_the_bench(serve: Serve) -> None:
    gateway = serve(write=HERE, admin=HERE)
    assert gateway.ask("PUT", "/api/v1/overrides/ALT", {"value": 9000}).code == "role"


@pytest.mark.parametrize(
    "body",
    [{}, {"value": "x"}, {"value": 5, "seconds": 0}, {"value": 5, "seconds": 3601}, {"value": 5, "seconds": "1"}],
)
def test_overrides_that_are_refused(shared: Gateway, body: Any) -> None:
    answer = shared.ask("PUT", "/api/v1/overrides/ALT", body)
    assert (answer.status, answer.code) == (400, "value")
    assert shared.db.overridden() == {}


# -- in flight ---------------------------------------------------------------------------------------------------------


def test_nothing_dangerous_happens_in_flight_unless_confirmed(serve: Serve) -> None:
    gateway = serve(admin=HERE, bench=True)
    calls: list[str] = []
    gateway.world.restart = lambda name: calls.append(name) or ""  # type: ignore[func-returns-value]
    gateway.world.reload = lambda: calls.append("reload") or ""  # type: ignore[func-returns-value]
    gateway.db.write("GS", 31.0, "gps")
    for method, path, body in (
        ("POST", "/api/v1/connections/can/restart", {}),
        ("POST", "/api/v1/reload", {}),
        ("PUT", "/api/v1/overrides/ALT", {"value": 5}),
    ):
        before = list(calls)
        answer = gateway.ask(method, path, body)
        assert (answer.status, answer.code) == (409, "in-flight")
        assert answer.json["error"] == "the aircraft appears to be flying: GS is 31 knots"
        assert calls == before
        assert gateway.ask(method, path, {**body, "force": True}).status == 200
    assert calls == ["can", "reload"]
    gateway.ask("PUT", "/api/v1/overrides/GS", {"value": 0, "force": True})  # which hides nothing
    assert gateway.ask("POST", "/api/v1/reload", {}).code == "in-flight"
    gateway.ask("DELETE", "/api/v1/overrides", {})
    gateway.db.write("GS", 29.0, "gps")
    assert gateway.ask("POST", "/api/v1/reload", {}).status == 200


def test_a_refusal_of_the_gateway_is_passed_on(serve: Serve) -> None:
    gateway = serve(admin=HERE)
    answer = gateway.ask("POST", "/api/v1/connections/nope/restart", {})
    assert (answer.status, answer.json["error"]) == (409, "there is no gateway")


def test_alarms_are_acknowledged(serve: Serve) -> None:
    gateway = serve(write=HERE)
    assert gateway.ask("POST", "/api/v1/alarms", {"command": "mute"}).code == "absent"
    words: list[str] = []
    gateway.world.offer("alerts", "alerts", lambda w: "no alert 'x'" if "x" in w else words.append(w) or "")  # type: ignore[func-returns-value]
    assert gateway.ask("POST", "/api/v1/alarms", {"command": "ack oil"}).json == {}
    assert gateway.ask("POST", "/api/v1/alarms", {"command": "ack x"}).json["error"] == "no alert 'x'"
    assert words == ["ack oil"]


def test_what_waited_while_the_gateway_was_held_up_is_not_done(serve: Serve) -> None:
    gateway = serve(write=HERE)
    assert gateway.plugin.server is not None
    hub = gateway.plugin.server.hub
    hub.looked_at -= 10.0  # as if it had been stopped since then
    answer = gateway.ask("PUT", "/api/v1/items/IAS", {"value": 80})
    assert (answer.status, answer.code) == (503, "late")
    assert gateway.db.item("IAS").writes == 0
    deadline = time.monotonic() + 5
    while hub.is_late:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert gateway.ask("PUT", "/api/v1/items/IAS", {"value": 80}).status == 200


# -- pairing -----------------------------------------------------------------------------------------------------------


def pair(gateway: Gateway, role: str, name: str = "") -> str:
    """Pair a browser, and return its cookie."""
    code = Tokens().pair(role, name)  # type: ignore[arg-type]
    answer = gateway.ask("POST", "/api/v1/pair", {"code": code})
    assert answer.status == 200, answer.body
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    return cookie.partition(";")[0]


def test_a_paired_browser_may_do_what_its_role_says(serve: Serve) -> None:
    gateway = serve()
    cookie = pair(gateway, "write", "My tablet-abc123")
    answer = gateway.ask("PUT", "/api/v1/items/IAS", {"value": 5}, Cookie=cookie)
    assert answer.json["stored"]["source"] == "web/My_tablet_abc123"
    assert gateway.ask("POST", "/api/v1/reload", {}, Cookie=cookie).code == "role"
    assert gateway.ask("PUT", "/api/v1/items/IAS", {"value": 5}, Cookie=cookie[:-1]).code == "role"
    Tokens().revoke("My tablet-abc123")
    assert gateway.ask("PUT", "/api/v1/items/IAS", {"value": 5}, Cookie=cookie).code == "role"


def test_a_revoked_browser_loses_its_stream_at_once(serve: Serve) -> None:
    gateway = serve()
    page = gateway.page(headers={"Cookie": pair(gateway, "write")})
    page.until(lambda m: m["v"])
    begun = time.monotonic()
    Tokens().revoke("browser 1")
    with pytest.raises(EOFError) as end:
        page.until(lambda m: False)
    assert end.value.args == (4401,)
    assert time.monotonic() - begun < 2.0


def test_wrong_codes_are_limited(serve: Serve) -> None:
    gateway = serve()
    client = gateway.connect()
    answers = [client.ask("POST", "/api/v1/pair", {"code": "AAAA-AAAA"}) for _ in range(11)]
    assert [(a.status, a.code) for a in answers] == [(403, "code")] * 10 + [(429, "too-many")]


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_the_past_has_the_bits_of_the_stream(serve: Serve) -> None:
    gateway = serve()
    gateway.world.history.stop()
    gateway.db.write("IAS", 77.0, "sim/adc", BAD)
    gateway.world.history.sample()
    answer = gateway.ask("GET", "/api/v1/history?keys=IAS,ACID&seconds=60")
    assert answer.status == 200, answer.body
    keys = answer.json["keys"]
    assert keys["ACID"] is None
    assert (keys["IAS"]["values"][-1], keys["IAS"]["flags"][-1]) == (77.0, 4 + 32)
    assert gateway.ask("GET", "/api/v1/history?keys=NOPE").code == "key"
    assert gateway.ask("GET", f"/api/v1/history?keys={'*,' * 5000}").code == "value"
    assert gateway.ask("GET", "/api/v1/history?keys=IAS&seconds=-1").code == "value"
    assert gateway.ask("GET", "/api/v1/history?keys=IAS&seconds=nan").code == "value"


def test_metrics_are_for_prometheus(serve: Serve) -> None:
    gateway = serve()
    gateway.db.write("IAS", 77.5, 'a"d\\c')
    gateway.db.write("ALT", 5000.0, "gps", BAD)
    report = {
        "module": "m",
        "running": True,
        "health": "ok",
        "restarts": 2,
        "status": {"frames": {"ok": 5}, "up": True},
    }
    gateway.status = {"version": "1.0", "health": "ok", "uptime": 12.5, "connections": {"can": report}}
    answer = gateway.ask("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    assert 'fixgw_value{key="IAS",units="knots",source="a\\"d\\\\c"} 77.5' in lines
    assert not [line for line in lines if line.startswith('fixgw_value{key="ALT"')]
    assert 'fixgw_flag{key="ALT",flag="bad"} 1.0' in lines
    assert 'fixgw_status{connection="can",what="frames.ok"} 5.0' in lines
    assert 'fixgw_connection_up{connection="can",module="m"} 1.0' in lines
    assert "fixgw_uptime_seconds 12.5" in lines
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="(\\.|[^"\\])*",?)*\})? [-+.\deinfa]+', line), line


def test_the_log_is_read_from_a_line_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    from fixgw import logmemory

    memory = logmemory.LogMemory()
    monkeypatch.setattr(logmemory, "memory", memory)
    logger = logging.getLogger("fixgw.plugins.gps")
    for n in range(150):
        memory.handle(logger.makeRecord(logger.name, logging.WARNING, "", 0, f"line {n}", (), None))
    gateway = serve()
    answer = gateway.ask("GET", "/api/v1/log").json
    assert answer["more"] is True
    assert answer["lines"][0]["text"] == "line 0"
    assert answer["lines"][0]["connection"] == "gps"
    last = gateway.ask("GET", f"/api/v1/log?after={answer['lines'][-1]['number']}&connection=gps").json
    assert (len(last["lines"]), last["more"]) == (50, False)
    assert gateway.ask("GET", "/api/v1/log?after=x").status == 400
    page = gateway.page()
    page.want(log=148)
    assert [line["text"] for line in page.until(lambda m: "log" in m)["log"]] == ["line 148", "line 149"]
    memory.handle(logger.makeRecord(logger.name, logging.WARNING, "", 0, "<img onerror=x>", (), None))
    assert page.until(lambda m: "log" in m)["log"][0]["text"] == "<img onerror=x>"


def test_the_state_directory_that_cannot_be_written_is_said(serve: Serve, tmp_path: Path) -> None:
    gateway = serve()
    (tmp_path / "web.json").mkdir()
    answer = gateway.ask("POST", "/api/v1/pair", {"code": "AAAA-AAAA"})
    assert (answer.status, answer.code) == (503, "disk")


# -- the monitor of a bus ----------------------------------------------------------------------------------------------


def test_the_monitor_of_a_can_bus_is_passed_on(serve: Serve) -> None:
    gateway = serve()  # it may read
    answers = ['{"rows":[],"left out":0}', ""]
    gateway.world.offer("can", "monitor can", lambda words: answers.pop(0))
    assert gateway.ask("GET", "/api/v1/can/can/monitor").json == {"rows": [], "left out": 0}
    for path in ("can/can/monitor", "can/nmea/monitor"):  # its bus is not in use just now; it has none
        answer = gateway.ask("GET", f"/api/v1/{path}")
        assert (answer.status, answer.code) == (404, "absent")
    gateway.world.withdraw("can")
    assert gateway.ask("GET", "/api/v1/can/can/monitor").code == "absent"
    assert gateway.ask("GET", "/api/v1/can/can/monitor", Host="elsewhere.example").code == "host"
