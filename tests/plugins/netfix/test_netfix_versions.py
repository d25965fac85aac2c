"""Settings of gateways that mirror each other: restarts, outages, rings, and two that set at the same instant."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import FAIL, INITIAL, KEPT, Database, Definition
from fixgw.kit.sources import simulated
from fixgw.netfix.sentence import NO_VERSION, split_version, versioned
from fixgw.plugins.netfix.versions import MOST_LOOKS, STRIDE, Versions, versions_of

pytestmark = pytest.mark.slow

Gateway = Any  # TestGateway of conftest.py
Serve = Callable[..., Gateway]
Wait = Callable[[Callable[[], object]], None]

KEYS = [
    Definition(key="BARO", min=20, max=35, setting=True),
    Definition(key="TRIMP", min=-100, max=100, setting=True),
    Definition(key="TSBTN11", type="bool", setting=True),
    Definition(key="DIM", type="int", min=0, max=100, setting=True),
    Definition(key="IAS", min=0, max=1000, tolerance=2000, aux=("Vne",)),
]
START = {"BARO": 29.92, "TRIMP": 0.0, "TSBTN11": False, "DIM": 100}
SET = {"BARO": 30.20, "TRIMP": 0.5, "TSBTN11": True, "DIM": 40}


def values(gateway: Gateway) -> dict[str, Any]:
    return {key: gateway.db.read(key).value for key in START}


def start(gateway: Gateway) -> Gateway:
    for key, value in START.items():
        gateway.db.write(key, value, INITIAL)
    return gateway


def set_all(gateway: Gateway, what: dict[str, Any]) -> None:
    for key, value in what.items():
        gateway.db.write(key, value, "panel")


def output(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "send": ["*"], "receive": ["*"]}


def mirror(serve: Serve, wait_for: Wait, count: int = 2) -> list[Gateway]:
    """Gateways that each mirror all keys with the next, the last one with the first: two, or a ring."""
    last = start(serve(KEYS))
    gateways = [last]
    for _ in range(count - 1):
        gateways.append(start(serve(KEYS, type="both", outputs=[output(gateways[-1].port)])))
    if count > 2:
        last.plugin.shutdown()
        port = last.port
        gateways[0] = start(serve(KEYS, type="both", port=port, outputs=[output(gateways[-1].port)]))
    wait_for(lambda: all(g.plugin.health() == "" for g in gateways))
    return gateways


def agree(wait_for: Wait, what: dict[str, Any], *gateways: Gateway) -> None:
    wait_for(lambda: all(values(g) == what for g in gateways))
    time.sleep(0.2)
    assert [values(g) for g in gateways] == [what] * len(gateways)


def test_a_setting_made_while_the_link_was_down_wins_but_a_start_value_never_does(serve: Serve, wait_for: Wait) -> None:
    there, here = mirror(serve, wait_for)
    set_all(there, SET)
    agree(wait_for, SET, here, there)
    there.plugin.shutdown()
    here.db.write("BARO", 29.60, "panel")
    again = start(serve(KEYS, port=there.port))
    agree(wait_for, SET | {"BARO": 29.60}, here, again)


def test_a_setting_made_at_the_server_while_the_link_was_down_wins_too(serve: Serve, wait_for: Wait) -> None:
    there, here = mirror(serve, wait_for)
    set_all(here, SET)
    agree(wait_for, SET, here, there)
    there.plugin.shutdown()
    there.db.write("TRIMP", 0.9, "panel")
    with there.world.hosting():
        there.plugin = type(there.plugin)("netfix", {"port": there.port})
    there.plugin.start()
    agree(wait_for, SET | {"TRIMP": 0.9}, here, there)


def test_a_setting_made_after_a_restart_and_before_the_link_is_up_wins(
    serve: Serve, wait_for: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    there, here = mirror(serve, wait_for)
    for n in range(5):
        here.db.write("BARO", 29 + n / 10, "panel")
        agree(wait_for, START | {"BARO": 29 + n / 10}, here, there)
    there.plugin.shutdown()
    again = start(serve(KEYS, port=0))
    again.db.write("BARO", 30.70, KEPT)
    again.db.write("BARO", 30.75, "panel")
    again.plugin.shutdown()
    with again.world.hosting():
        again.plugin = type(again.plugin)("netfix", {"port": there.port})
    again.plugin.start()
    agree(wait_for, START | {"BARO": 30.75}, here, again)


@pytest.mark.parametrize("count", [2, 3])
def test_gateways_that_set_at_the_same_instant_agree_in_the_end(count: int, serve: Serve, wait_for: Wait) -> None:
    gateways = mirror(serve, wait_for, count)
    for round in range(10):
        barrier = threading.Barrier(count)

        def turn(n: int, gateway: Gateway, barrier: threading.Barrier = barrier, round: int = round) -> None:
            barrier.wait()
            gateway.db.write("BARO", 28 + n + round / 100, "panel")
            gateway.db.write("IAS.Vne", 100 + n + round / 100)

        threads = [threading.Thread(target=turn, args=(n, g)) for n, g in enumerate(gateways)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len({g.db.read("BARO").value for g in gateways}) == 1)
        wait_for(lambda: len({g.db.read_aux("IAS.Vne") for g in gateways}) == 1)
        time.sleep(0.05)
        assert len({(g.db.read("BARO").value, g.db.read_aux("IAS.Vne")) for g in gateways}) == 1


def test_a_ring_settles(serve: Serve, wait_for: Wait) -> None:
    gateways = mirror(serve, wait_for, 3)
    for n, gateway in enumerate(gateways):
        set_all(gateway, SET | {"BARO": 29 + n})
        gateway.db.write("IAS.Vne", 150 + n)
        agree(wait_for, SET | {"BARO": 29 + n}, *gateways)
        wait_for(lambda: all(g.db.read_aux("IAS.Vne") == 150 + n for g in gateways))  # noqa: B023
    writes = [g.db.item(key).writes for g in gateways for key in START]
    time.sleep(0.2)
    assert [g.db.item(key).writes for g in gateways for key in START] == writes


def test_the_latest_simulated_setting_wins_in_a_ring_and_stays_simulated(serve: Serve, wait_for: Wait) -> None:
    gateways = mirror(serve, wait_for, 3)
    for n in range(8):
        for value in (28 + n / 10, 29 + n / 10):
            gateways[n % 3].db.write("BARO", value, "sim/panel")
        wait_for(lambda: all(g.db.read("BARO").value == 29 + n / 10 for g in gateways))  # noqa: B023
    time.sleep(0.2)
    assert {g.db.read("BARO").value for g in gateways} == {29.7}
    assert all(simulated(g.db.read("BARO").source) for g in gateways)
    gateways[1].db.write("BARO", 29.7, "panel")
    wait_for(lambda: not any(simulated(g.db.read("BARO").source) for g in gateways))


def test_a_setting_of_a_display_counts_like_one_of_a_panel_and_flags_are_mirrored(serve: Serve, wait_for: Wait) -> None:
    there, here = mirror(serve, wait_for)
    display = there.connect()
    assert display.ask("@wBARO;30.11") == "@wBARO;30.11;00000"
    wait_for(lambda: here.db.read("BARO").value == 30.11)
    there.db.item("BARO").fail("no knob", "panel")
    wait_for(lambda: here.db.read("BARO").fail)
    here.db.write("BARO", 30.12, "panel", 0)
    wait_for(lambda: there.db.read("BARO").value == 30.12 and there.db.read("BARO").good)


def test_the_gateway_with_the_older_setting_gets_the_newer_one(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("@xmirror elsewhere-1\n")
    client.line()
    gateway.db.write("BARO", 30.0, "panel")
    client.send("@rBARO\n")
    assert client.line() == "@rBARO;30.0;01000"
    version, line = split_version(client.line())
    assert version is not None
    assert line == "BARO;30.0;00000"
    client.send(versioned("BARO;29.0;00000", (version[0] + 5, "elsewhere-1")) + "\n@l\n")
    client.line()
    assert gateway.db.read("BARO").value == 29.0
    client.send(versioned("BARO;28.0;00000", version) + "\n")
    assert client.line() == versioned("BARO;29.0;00000", (version[0] + 5, "elsewhere-1"))
    errors = gateway.plugin.get_status()["ignored sentences"]
    for bad in ("BARO;x;00000", "NO;1;0000", "BARO;1;9", "IAS.No;1"):
        client.send(versioned(bad, (version[0] + 9, "elsewhere-1")) + "\n")
    client.send("@xset 99999999999999999999 a BARO;1;0000\n@xset -1 a BARO;1;0000\n@xset 1 a @l\n")
    assert [line[-4:] for line in client.lines(3)] == ["!004"] * 3
    assert gateway.plugin.get_status()["ignored sentences"] == errors + 4
    assert gateway.db.read("BARO").value == 29.0


def test_an_ordinary_client_cannot_set_a_version(gateway: Gateway) -> None:
    client = gateway.connect()
    assert client.ask("@xset 1 a BARO;30.0;0000").endswith("!004")


def test_an_absurd_version_is_ignored(tmp_path: Path) -> None:
    db = Database(KEYS)
    versions = Versions("here")
    item = db.item("BARO")
    assert versions.of(item) == NO_VERSION
    assert not versions.take(item, "", "30.0", 0, "netfix/a", (1 << 53, "a"))
    assert item.reading.source == ""
    assert not versions.take(item, "", "30.0", FAIL, "netfix/a", (7, "a"))
    assert (item.reading.fail, versions.of(item)) == (True, (7, "a"))
    item.write(31.0, "knob", 0)
    assert versions.of(item) == versions.of(item) == (STRIDE, "here")
    assert versions.take(item, "", "30.0", 0, "netfix/a", (STRIDE, "a")), "older by name"
    assert not versions.take(item, "", "30.5", 0, "netfix/z", (STRIDE, "z")), "newer by name"
    assert item.reading.value == 30.5
    versions.restore(tmp_path / "count", logging.getLogger())
    item.write(31.0, "knob")
    assert versions.of(item) == (2 * STRIDE, "here")
    versions.close()
    again = Versions("again")
    again.restore(tmp_path / "count", logging.getLogger())
    assert again.of(item)[0] > 2 * STRIDE
    again.close()


def test_only_what_is_set_gets_a_count_that_beats_others() -> None:
    now = 100.0
    db = Database(
        [Definition(key="BARO", setting=True), Definition(key="COURSE", setting=True, tolerance=2000)], lambda: now
    )
    versions = Versions("here")
    baro, course = db.item("BARO"), db.item("COURSE")
    baro.report(29.92, "can/1")
    assert versions.of(baro) == (1, "here"), "what a device says first loses to all that is set"
    for _ in range(3):
        now += 5
        baro.write(30.0, "panel", 0)
        course.write(90.0, "gps", 0)
        assert versions.of(baro) == (STRIDE, "here")
    first = versions.of(course)
    now += 1
    course.write(90.0, "gps", 0)
    assert versions.of(course) == (first[0] + 1, "here"), "others' copies must not become old"
    now += 5
    baro.report(30.0, "can/1")
    assert versions.of(baro) == (STRIDE, "here")
    baro.report(30.1, "can/1")
    assert versions.of(baro)[0] // STRIDE > 1, "somebody has turned the knob of the device"
    turned = versions.of(baro)
    now += 1
    baro.report(30.2, "can/1")
    assert versions.of(baro)[0] // STRIDE > turned[0] // STRIDE


def test_a_bus_between_the_same_gateways_makes_nothing_circulate(serve: Serve, wait_for: Wait) -> None:
    there, here = mirror(serve, wait_for)

    def owner(key: str, reading: Any) -> None:
        """Repeat what is written to `here` on a bus that `there` reads."""
        if not reading.source.startswith("canfix/"):
            there.db.write(key, reading.value, "canfix/10")

    here.db.subscribe("BARO", owner)
    for value in (30.10, 30.20):
        here.db.write("BARO", value + 0.05, "panel")
        wait_for(lambda: len({versions_of(g.db, "").of(g.db.item("BARO")) for g in (here, there)}) == 1)
        assert there.db.read("BARO").value == value + 0.05
        there.db.write("BARO", value, "panel")
        agree(wait_for, START | {"BARO": value}, here, there)
    writes = [gateway.db.item("BARO").writes for gateway in (here, there)]
    time.sleep(0.3)
    assert [gateway.db.item("BARO").writes for gateway in (here, there)] == writes


class Slow:
    """An item of which the write of 29 waits until `older` is set."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.held, self.older = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.item, name)

    def write(self, *args: Any) -> Any:
        if args[0] == 29.0:
            self.held.set()
            self.older.wait()
        return self.item.write(*args)


def test_an_older_setting_that_is_written_late_does_not_stay() -> None:
    """Two links bring two versions, and the thread with the older one is held up before it writes."""
    db = Database(KEYS)
    versions, item = Versions("here"), db.item("BARO")
    slow: Any = Slow(item)
    thread = threading.Thread(target=versions.take, args=(slow, "", "29.0", 0, "netfix/a", (5, "a")))
    thread.start()
    slow.held.wait()
    assert not versions.take(item, "", "30.0", 0, "netfix/b", (6, "b"))
    assert item.reading.value == 30.0
    slow.older.set()
    thread.join()
    assert (item.reading.value, versions.of(item)) == (30.0, (6, "b"))
    item.write(30.5, "panel", 0)
    assert versions.of(item) == (STRIDE, "here")


def test_a_setting_of_the_panel_outlasts_an_older_one_that_is_written_late() -> None:
    db = Database(KEYS)
    versions, item = Versions("here"), db.item("BARO")
    assert not versions.take(item, "", "28.0", 0, "netfix/a", (4, "a"))
    slow: Any = Slow(item)
    thread = threading.Thread(target=versions.take, args=(slow, "", "29.0", 0, "netfix/a", (5, "a")))
    thread.start()
    slow.held.wait()
    item.write(30.0, "panel", 0)
    assert versions.of(item) == (STRIDE, "here")
    slow.older.set()
    thread.join()
    assert (item.reading.value, versions.of(item)) == (30.0, (STRIDE, "here"))


def test_a_setting_that_is_written_all_the_time_does_not_hold_up_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(KEYS)
    versions, item = Versions("here"), db.item("BARO")
    look, looks = versions._version, []

    def write_meanwhile(*args: Any) -> Any:
        looks.append(1)
        item.write(29.0 + len(looks) / 1000.0, "panel", 0)
        return look(*args)

    monkeypatch.setattr(versions, "_version", write_meanwhile)
    assert versions.line(item)
    assert len(looks) == MOST_LOOKS


def test_an_update_from_before_the_introduction_is_not_taken(serve: Serve, wait_for: Wait) -> None:
    """Until the other side knows that we are a gateway, its updates have no version, and look like new settings."""
    answers = {"@r": "@r{0};29.0;01000\n@xset 9 other-1 {0};30.0;00000\n", "@s": "@s{0}\n{0};29.0;00000\n"}

    def other(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("r", encoding="ascii") as lines:
            for line in lines:
                command, argument = line[:2], line[2:].strip()
                answer = f"{line.strip()};other-1\n" if command == "@x" else answers.get(command, "")
                connection.sendall(answer.replace("{0}", argument).encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=other, args=(listener,))
        thread.start()
        to = {"host": "127.0.0.1", "port": listener.getsockname()[1], "send": [], "receive": ["BARO"]}
        here = serve(KEYS, type="both", outputs=[to])
        heard: list[Any] = []
        here.db.subscribe("BARO", lambda key, reading: heard.append(reading.value))
        wait_for(lambda: here.db.read("BARO").value == 30.0)
        assert 29.0 not in heard
        assert versions_of(here.db, "").of(here.db.item("BARO")) == (9, "other-1")
        here.plugin.shutdown()
        thread.join()
