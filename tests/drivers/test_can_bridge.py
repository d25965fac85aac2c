"""The CAN bridge on real buses: python-can's virtual bus, datagrams between two processes, a slow serial adapter."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import can
import pytest

from fixgw import configuration, database
from fixgw.drivers import canfix
from fixgw.drivers.can_bridge import Plugin
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can.bus import BusConflict, open_tap
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.hw_sim.bench.base import Subject, packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import CanBench
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.devices.mgl_rdac import Rdac

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def virtual(channel: str, **more: Any) -> dict[str, Any]:
    return {"interface": "virtual", "channel": channel, **more}


class Node:
    """Another user of a python-can bus. It does not receive its own frames."""

    def __init__(self, channel: str, interface: str = "virtual", **more: Any) -> None:
        self.bus = can.Bus(channel, interface=interface, ignore_config=True, **more)
        self.heard: list[tuple[int, bytes]] = []

    def send(self, identifier: int, data: bytes = b"", **more: Any) -> None:
        more.setdefault("is_extended_id", False)
        self.bus.send(can.Message(arbitration_id=identifier, data=data, **more))

    def hears(self) -> list[tuple[int, bytes]]:
        """All frames received so far."""
        while (message := self.bus.recv(0)) is not None:
            self.heard.append((message.arbitration_id, bytes(message.data)))
        return self.heard


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(*arguments: Any, **more: Any) -> Node:
        nodes.append(Node(*arguments, **more))
        return nodes[-1]

    yield make
    for one in nodes:
        one.bus.shutdown()


Join = Callable[..., Node]
Bridge = Callable[..., Plugin]


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    """Start bridges, wait until their buses are healthy, and stop them at the end; nothing may stay open."""
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    plugins: list[Plugin] = []

    def start(*routes: dict[str, Any], buses: dict[str, Any] | None = None, **more: Any) -> Plugin:
        buses = buses or {name: virtual(name) for name in "ab"}
        plugins.append(Plugin(f"bridge{len(plugins)}", {"buses": buses, "routes": list(routes), **more}))
        plugins[-1].start()
        until(lambda: plugins[-1].health() == "")
        return plugins[-1]

    yield start
    for plugin in plugins:
        plugin.shutdown()
    assert not can_bus._buses
    assert not [t for t in threading.enumerate() if t.name.startswith("bridge")]


def settled(value: Callable[[], int]) -> int:
    """The result of `value` once it has not changed for 0.3 s."""
    since, before = time.monotonic(), value()
    deadline = since + 15.0
    while time.monotonic() < since + 0.3:
        if (now := value()) != before:
            since, before = time.monotonic(), now
        assert since < deadline, f"it keeps changing: {before}"
        time.sleep(0.01)
    return before


BOTH = {"from": "a", "to": "b", "both": True}


def direction(plugin: Plugin, name: str) -> dict[str, int]:
    found: dict[str, int] = plugin.get_status()["directions"][name]
    return found


def serials(heard: list[tuple[int, bytes]], identifier: int) -> list[int]:
    return [int.from_bytes(data[:4], "big") for i, data in heard if i == identifier]


# -- between buses -----------------------------------------------------------------------------------------------------


def test_frames_go_from_one_bus_to_the_other_and_back(bridge: Bridge, node: Join) -> None:
    a, b = node("a"), node("b")
    plugin = bridge(BOTH)
    a.send(0x100, b"1")
    b.send(0x200, b"2", is_fd=True)
    b.send(0x18FEF100, b"3", is_extended_id=True)
    until(lambda: (len(a.hears()), len(b.hears())) == (2, 1))
    assert (a.heard, b.heard) == ([(0x200, b"2"), (0x18FEF100, b"3")], [(0x100, b"1")])
    assert direction(plugin, "a to b")["forwarded"] == 1
    assert direction(plugin, "b to a")["forwarded"] == 2


def test_routes_filter_and_remap_in_one_direction(bridge: Bridge, node: Join) -> None:
    a, b, c = node("a"), node("b"), node("c")
    bridge(
        {"from": "a", "to": ["b", "c"], "ids": ["0x100-0x1FF"], "except": [0x180], "remap": {0x120: 0x520}},
        {"from": "c", "to": "a", "ids": [0x300]},
        buses={name: virtual(name) for name in "abc"},
    )
    for identifier in (0x100, 0x120, 0x180, 0x200):
        a.send(identifier)
    b.send(0x150)
    c.send(0x200)
    c.send(0x300)
    until(lambda: len(b.hears()) == 2 and len(c.hears()) == 2 and a.hears())
    assert b.heard == c.heard == [(0x100, b""), (0x520, b"")]
    assert a.heard == [(0x300, b"")]


def test_another_user_of_the_same_handle_sends_and_receives_through_the_bridge(bridge: Bridge, node: Join) -> None:
    b, heard = node("b"), list[Frame]()
    plugin = bridge(BOTH)
    tap = open_tap(BusOptions(**virtual("a")), heard.extend)
    try:
        assert tap.bus is plugin.taps[0].bus
        assert tap.send(0x123, b"\x01")
        until(b.hears)
        b.send(0x124)
        until(lambda: heard)
        assert (b.heard, [f.arbitration_id for f in heard]) == ([(0x123, b"\x01")], [0x124])
    finally:
        tap.close()


def test_the_can_fix_driver_works_through_a_bridge_on_the_same_bus(
    bridge: Bridge, node: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    db = packaged_database()
    before = database.current()
    database.bind(db)
    far, gateway = node("b"), canfix.Plugin("canfix", virtual("a"))
    try:
        bridge(BOTH)
        gateway.start()
        far.send(0x183, b"\x0c\x00\x00\xd2\x04")  # node 12: 123.4 knots
        until(lambda: db.read("IAS").value == 123.4)
        far.send(0x6E0 + 12, b"\x00\xb6")  # ask 0xB6 to identify itself
        until(lambda: any(i == 0x6E0 + 0xB6 and data[:2] == b"\x00\x0c" for i, data in far.hears()))
    finally:
        gateway.shutdown()
        database.bind(before)


def test_a_rate_limit_forwards_the_newest_value_as_soon_as_it_may(bridge: Bridge, node: Join) -> None:
    a, b = node("a"), node("b")
    plugin = bridge({"from": "a", "to": "b", "rate": 20})
    start = time.monotonic()
    for n in range(200):
        a.send(0x100, n.to_bytes(4, "big"))
    until(lambda: 199 in serials(b.hears(), 0x100))
    found = serials(b.heard, 0x100)
    assert found == sorted(found)
    assert len(found) <= (time.monotonic() - start) * 20 + 2
    counts = direction(plugin, "a to b")
    assert counts["forwarded"] + counts["thinned"] == 200


@pytest.mark.slow
def test_a_flood_passes_without_loss_and_each_identifier_in_order(bridge: Bridge, node: Join) -> None:
    a, b = node("a"), node("b")
    plugin = bridge(BOTH)
    total = 6000
    for n in range(total):
        a.send(0x100 + n % 7, n.to_bytes(4, "big"))
    until(lambda: len(b.hears()) == total, 30)
    for identifier in range(0x100, 0x107):
        assert serials(b.heard, identifier) == list(range(identifier - 0x100, total, 7))
    assert a.hears() == []
    assert direction(plugin, "a to b")["refused"] == 0


# -- slow and missing buses --------------------------------------------------------------------------------------------


class SlowAdapter:
    """An slcan adapter that accepts `chunk` bytes, about one frame, every `pause` seconds."""

    def __init__(self, pause: float = 0.001, chunk: int = 22) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path, self._slave = os.ttyname(slave), slave
        self.pause, self.chunk = pause, chunk
        self.frames: list[tuple[int, int]] = []  # identifier, serial number
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        while not self._stopping.wait(self.pause):
            if not select.select([self.master], [], [], 0.05)[0]:
                continue
            *commands, rest = (rest + os.read(self.master, self.chunk)).split(b"\r")
            for command in commands:
                if match := re.fullmatch(rb"t(...)4(.{8})", command):
                    self.frames.append((int(match[1], 16), int(match[2], 16)))
                os.write(self.master, b"F00\r" if command == b"F" else b"\r")

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def slow() -> Iterator[SlowAdapter]:
    adapter = SlowAdapter()
    yield adapter
    adapter.close()


@pytest.mark.slow
def test_a_slower_bus_gets_the_highest_priorities_and_memory_stays_bounded(
    bridge: Bridge, node: Join, slow: SlowAdapter
) -> None:
    a = node("a")
    buses = {
        "a": virtual("a"),
        "b": {"interface": "slcan", "channel": slow.path, "bitrate": 500000, "send_queue": 100},
    }
    plugin = bridge({"from": "a", "to": "b"}, buses=buses)
    to_slow = plugin.taps[1].bus
    rounds, waiting, urgent, idle = 300, 0, 0x080, range(0x300, 0x31E)
    for n in range(rounds):
        for identifier in (*idle, urgent):
            a.send(identifier, n.to_bytes(4, "big"))
        waiting = max(waiting, to_slow.get_status()["waiting"])
        time.sleep(0.002)
    until(lambda: "b: too slow for the traffic" in plugin.health())
    until(lambda: to_slow.get_status()["waiting"] == 0 and (urgent, rounds - 1) in slow.frames)
    assert waiting <= 100
    assert [serial for identifier, serial in slow.frames if identifier == urgent] == list(range(rounds))
    for identifier in idle:
        found = [serial for i, serial in slow.frames if i == identifier]
        assert found == sorted(set(found))
    status = to_slow.get_status()
    assert status["dropped"] + status["too old to send"] >= len(idle) * rounds - len(slow.frames) > 0
    assert direction(plugin, "a to b")["forwarded"] == rounds * (len(idle) + 1)


def test_a_missing_bus_does_not_disturb_the_others(bridge: Bridge, node: Join, tmp_path: Path) -> None:
    a, b = node("a"), node("b")
    plugin = bridge(BOTH)
    missing = {"interface": "slcan", "channel": str(tmp_path / "missing"), "bitrate": 500000}
    other = Plugin("bridge", {"buses": {"b": virtual("b"), "c": missing}, "routes": [{"from": "b", "to": "c"}]})
    other.start()
    try:
        until(lambda: "c: " in other.health() and "missing" in other.health())
        a.send(0x100)
        until(b.hears)
        until(lambda: direction(other, "b to c")["refused"] == 1)
        assert plugin.health() == ""
    finally:
        other.shutdown()


@pytest.mark.slow
def test_frames_dropped_before_a_bus_connects_do_not_count_as_too_slow(
    node: Join, slow: SlowAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(can_bus.SharedBus, "reopen_delay_max", 0.1)
    a, place = node("a"), tmp_path / "adapter"
    buses = {"a": virtual("a"), "b": {"interface": "slcan", "channel": str(place), "bitrate": 500000}}
    plugin = Plugin("bridge", {"buses": buses, "routes": [{"from": "a", "to": "b"}]})
    plugin.start()
    try:
        until(lambda: "b: " in plugin.health() and "a: " not in plugin.health())
        a.send(0x100, bytes(4))
        until(lambda: direction(plugin, "a to b")["refused"] == 1)
        place.symlink_to(slow.path)
        until(lambda: plugin.taps[1].bus.health() == "")
        assert plugin.health() == ""
        assert plugin.get_status()["buses"]["b"]["dropped"] == 1
    finally:
        plugin.shutdown()


def test_odd_frames_do_no_harm(bridge: Bridge, node: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(can_bus, "MAX_AGE_S", 60.0)  # a busy machine may take longer to forward them
    a, b = node("a"), node("b")
    plugin = bridge(BOTH)
    for n in range(2000):
        a.send(n * 269 % 0x20000000, is_extended_id=True, is_remote_frame=n % 2 == 0)
        a.bus.send(can.Message(arbitration_id=n % 0x800, is_extended_id=False, is_error_frame=True))
    a.send(0x7FF, b"end")
    until(lambda: (0x7FF, b"end") in b.hears())
    assert len(b.heard) == 2001
    assert plugin.get_status()["buses"]["a"]["error frames"] == 2000
    assert direction(plugin, "a to b")["forwarded"] == 2001


# -- rings -------------------------------------------------------------------------------------------------------------


def test_two_bridges_in_a_ring_report_and_stop_it(bridge: Bridge, node: Join, caplog: pytest.LogCaptureFixture) -> None:
    a, b = node("a"), node("b")
    plugins = [bridge(BOTH), bridge(BOTH)]
    for n in range(50):
        a.send(0x100 + n % 10, n.to_bytes(4, "big"))
    until(lambda: any("a ring" in plugin.health() for plugin in plugins))
    until(lambda: {n for i in range(10) for n in serials(b.hears(), 0x100 + i)} == set(range(50)))
    assert any(plugin.get_status()["ring"] for plugin in plugins)
    until(lambda: any("a ring: " in record.getMessage() for record in list(caplog.records)))
    assert settled(lambda: len(a.hears()) + len(b.hears())) < 1000


def test_two_one_way_bridges_in_a_ring_stop_it_too(bridge: Bridge, node: Join) -> None:
    a, b = node("a"), node("b")
    bridge({"from": "a", "to": "b"})
    closing = bridge({"from": "b", "to": "a"})
    for n in range(20):
        a.send(0x100, n.to_bytes(4, "big"))
    until(lambda: "a ring" in closing.health())
    until(lambda: set(serials(b.hears(), 0x100)) == set(range(20)))
    assert settled(lambda: len(a.hears()) + len(b.hears())) < 500


def test_the_same_frame_on_both_buses_counts_as_a_ring_only_with_a_window(bridge: Bridge, node: Join) -> None:
    a, b = node("a"), node("b")
    plugin = bridge(BOTH, loop_window=0)
    for n in range(20):
        a.send(0x100)
        until(lambda n=n: len(b.hears()) == n + 1)  # type: ignore[misc]
        b.send(0x100)
        until(lambda n=n: len(a.hears()) == n + 1)  # type: ignore[misc]
    assert plugin.health() == ""


# -- two processes -----------------------------------------------------------------------------------------------------


def multicast(ports: int) -> list[dict[str, Any]]:
    """Multicast buses on free ports. Skips the test if this machine does not receive its own multicasts."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(ports)]
    try:
        for sock in socks:
            sock.bind(("", 0))
            group = socket.inet_aton("239.74.163.2")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("0.0.0.0"))
            sock.settimeout(1.0)
            sock.sendto(b"?", ("239.74.163.2", sock.getsockname()[1]))
            sock.recv(10)
        found = [sock.getsockname()[1] for sock in socks]
    except OSError:
        pytest.skip("no multicast here")
    finally:
        for sock in socks:
            sock.close()
    return [{"interface": "udp_multicast", "channel": "239.74.163.2", "extra": {"port": port}} for port in found]


CHILD = """
import json, sys, time
from fixgw.drivers.can_bridge import Plugin
plugin = Plugin("child", json.loads(sys.argv[1]))
plugin.start()
while plugin.health():
    time.sleep(0.01)
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps([plugin.health(), plugin.get_status()]), flush=True)
plugin.shutdown()
print("stopped", flush=True)
"""


class Child:
    """A bridge in a child process."""

    def __init__(self, buses: dict[str, Any], *routes: dict[str, Any]) -> None:
        config = json.dumps({"buses": buses, "routes": routes})
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self) -> tuple[str, dict[str, Any]]:
        """The bridge's health and status."""
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        health, status = json.loads(self.line())
        return health, status

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        ending = self.line()
        if self.process.wait(10) != 0 or ending != "stopped":
            raise AssertionError(f"it ended with {self.process.returncode} and {ending!r}")
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.slow
def test_a_bridge_in_another_process_joins_two_udp_buses_and_sends_nothing_back(node: Join) -> None:
    first, second = multicast(2)
    with Child({"a": first, "b": second}, BOTH) as child:
        a = node(first["channel"], "udp_multicast", **first["extra"])
        b = node(second["channel"], "udp_multicast", **second["extra"])
        total = 500
        for n in range(total):
            a.send(0x100 + n % 5, n.to_bytes(4, "big"))
            b.send(0x200 + n % 5, n.to_bytes(4, "big"))
            if n % 50 == 49:  # the sockets' buffers are small
                until(lambda n=n: len(a.hears()) > 2 * n and len(b.hears()) > 2 * n)  # type: ignore[misc]
        until(lambda: len(a.hears()) >= 2 * total and len(b.hears()) >= 2 * total)
        for who, crossed in ((a, range(0x200, 0x205)), (b, range(0x100, 0x105))):
            for identifier in crossed:
                assert serials(who.heard, identifier) == list(range(identifier & 0xF, total, 5))
            assert len(who.hears()) == 2 * total  # it receives its own frames only from python-can
        until(lambda: [child.ask()[1]["buses"][bus]["own echoes"] for bus in "ab"] == [total, total])
        health, status = child.ask()
        assert health == ""
        assert status["directions"]["a to b"]["forwarded"] == status["directions"]["b to a"]["forwarded"] == total
        assert status["directions"]["a to b"]["came back"] == 0


@pytest.mark.slow
def test_a_network_leg_joins_the_buses_of_two_gateways(bridge: Bridge, node: Join) -> None:
    (leg,) = multicast(1)
    with Child({"a": virtual("there"), "b": leg}, BOTH) as child:
        here = node("here")
        bridge(BOTH, buses={"a": virtual("here"), "b": leg})
        here.send(0x123, b"\x01")
        until(lambda: child.ask()[1]["directions"]["b to a"]["forwarded"] == 1)
        assert child.ask()[1]["buses"]["a"]["sent"] == 1
        assert here.hears() == []


@pytest.mark.slow
def test_two_processes_in_a_ring_report_and_stop_it(bridge: Bridge, node: Join) -> None:
    first, second = multicast(2)
    with Child({"a": first, "b": second}, BOTH) as child:
        plugin = bridge(BOTH, buses={"a": first, "b": second})
        a = node(first["channel"], "udp_multicast", **first["extra"])
        for n in range(30):
            a.send(0x100 + n % 3, n.to_bytes(4, "big"))
            time.sleep(0.005)
        until(lambda: "a ring" in plugin.health() or "a ring" in child.ask()[0])

        def forwarded() -> int:
            statuses = plugin.get_status(), child.ask()[1]
            return sum(d["forwarded"] for status in statuses for d in status["directions"].values())

        assert settled(forwarded) < 1000


# -- starting and stopping ---------------------------------------------------------------------------------------------


def test_two_names_for_one_bus_are_refused_and_nothing_stays_open() -> None:
    buses = {"a": virtual("a"), "b": virtual("a")}
    plugin = Plugin("bridge", {"buses": buses, "routes": [BOTH]})
    with pytest.raises(ValueError, match="b and a are the same bus"):
        plugin.start()
    plugin.shutdown()
    assert not can_bus._buses


def test_a_bus_in_use_with_other_options_is_refused(bridge: Bridge) -> None:
    bridge(BOTH, buses={"a": virtual("a", send_queue=10), "b": virtual("b")})
    buses = {"c": virtual("c"), "a": virtual("a", send_queue=20)}
    plugin = Plugin("bridge", {"buses": buses, "routes": [{"from": "c", "to": "a"}]})
    with pytest.raises(BusConflict):
        plugin.start()
    assert not plugin.running
    plugin.shutdown()
    assert {key[1] for key in can_bus._buses} == {"a", "b"}


def test_a_bridge_can_be_stopped_while_frames_arrive_and_wait(bridge: Bridge, node: Join) -> None:
    a = node("a")
    plugin = bridge({**BOTH, "rate": 1})
    stopping = threading.Event()

    def send() -> None:
        n = 0
        while not stopping.is_set():
            a.send(n % 0x800, b"x")
            n += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        until(lambda: direction(plugin, "a to b")["thinned"] > 100)
        start = time.monotonic()
        plugin.shutdown()
        assert time.monotonic() - start < 2.0
    finally:
        stopping.set()
        sender.join()
    counted = direction(plugin, "a to b")
    assert direction(plugin, "a to b") == counted


def test_the_bridge_is_alive_only_if_its_slowest_bus_is(bridge: Bridge) -> None:
    plugin = bridge(BOTH)
    assert plugin.alive is not None
    before = plugin.alive
    until(lambda: plugin.alive is not None and plugin.alive > before)


# -- the configuration -------------------------------------------------------------------------------------------------

WRONG = """\
connections:
  bridge:
    load: yes
    module: fixgw.drivers.can_bridge
    buses:
      a: {interface: virtual, channel: one}
      b: {interface: virtuel, channel: two}
      c: {interface: virtual, channel: one}
      d: {interface: virtual, channel: three, listen_only: yes}
    routes:
      - {from: a, to: aa}
      - {from: a, to: a}
      - {from: a, to: [b, b]}
      - {from: a, to: d}
      - {from: d, to: a, both: yes}
      - from: a
        to: b
        ids: [0x100, 0x700-0x900, -1]
        except: [x]
        rate_bytes: 3
        remap:
          0x100: 0x200
          0x0F0-0x10F: 0x300
          0x300: 0x200
          0x400/0x7F0: 0x500
      - {from: a, to: b}
      - {from: a, to: b, ids: [1]}
      - {from: b, to: a, both: yes}
      - {from: a, to: []}
"""


def test_every_problem_is_reported_with_its_position(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(WRONG)
    found = [(p.line, p.column, p.message) for p in configuration.check(tmp_path / "default.yaml")]
    expected = [
        (7, 22, "buses.b.interface: there is no CAN interface 'virtuel' (did you mean 'virtual'?)"),
        (8, 40, "buses.c.channel: c and a are the same bus"),
        (11, 23, "routes[0].to: there is no bus 'aa' (did you mean 'a'?)"),
        (12, 23, "routes[1].to: a is the source bus: frames are never sent back to it"),
        (13, 27, "routes[2].to[1]: b appears twice"),
        (14, 23, "routes[3].to: d is listen_only: frames cannot be sent there"),
        (15, 32, "routes[4].both: d is listen_only: frames cannot be sent there"),
        (18, 22, "routes[5].ids[1]: 0x700-0x900 begins with an identifier of 11 bits and ends with one of 29: put ext"),
        (18, 35, "routes[5].ids[2]: -0x1 is not an identifier of 11 or 29 bits"),
        (19, 18, "routes[5].except[0]: 'x' is not an identifier, a range"),
        (20, 21, "routes[5].rate_bytes: it has no effect without a rate"),
        (23, 24, "routes[5].remap.0x0F0-0x10F: 0x100 is remapped twice"),
        (24, 18, "routes[5].remap.768: another identifier is already remapped to 0x200"),
        (25, 24, "routes[5].remap.0x400/0x7F0: 0x400/0x7F0: a mask cannot be remapped, only an identifier or a range"),
        (27, 9, "routes[7]: an earlier route accepts everything between these buses"),
        (29, 23, "routes[9].to: expected at least one bus"),
    ]
    assert [(line, column) for line, column, _ in found] == [(line, column) for line, column, _ in expected]
    for (_, _, message), (_, _, beginning) in zip(found, expected, strict=True):
        assert beginning in message


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("buses: {a: {}}, routes: [{from: a, to: b}]", "at least 2 long"),
        ("buses: {a: {}, b: {}}, routes: []", "at least 1 long"),
        ("buses: {a: {}, b.c: {}}, routes: [{from: a, to: b}]", "of the form"),
        ("buses: {a: {}, b: {}}, routes: [{to: b}]", "'from' is missing"),
        ("buses: {a: {}, b: {}}, routes: [{from: a, to: b, id: 1}]", "did you mean 'ids'?"),
        ("buses: {a: {}, b: {}}, routes: [{from: a, to: b, rate: 0}]", "rate"),
    ],
)
def test_wrong_options_are_reported(options: str, complaint: str, tmp_path: Path) -> None:
    module = "load: yes, module: fixgw.drivers.can_bridge"
    (tmp_path / "default.yaml").write_text(f"connections:\n  bridge: {{{module}, {options}}}\n")
    (problem,) = configuration.check(tmp_path / "default.yaml")
    assert complaint in problem.message
    assert problem.line == 2


def test_a_good_configuration_has_no_problems(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text("""\
connections:
  bridge:
    load: yes
    module: fixgw.drivers.can_bridge
    buses:
      a: {interface: virtual, channel: one}
      b: {interface: virtual, channel: two}
    routes:
      - {from: a, to: b, ids: [0x100, ext 0x100, 0x200/0x7F0], remap: {0x100: 0x101, 0x101: 0x100}}
      - {from: b, to: a, both: yes, rate: 5, rate_bytes: 3}
""")
    assert configuration.check(tmp_path / "default.yaml") == []


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class BridgeBench(CanBench):
    """A CAN bridge from the device's bus to another bus; it is good while frames arrive there."""

    CAN = frozenset({"late", "vanish"})

    def other_half(self) -> None:
        """The bridge forwards every frame, whole or not."""

    def __init__(self, subject: Subject) -> None:
        self._fresh = float("-inf")
        self._far = Segment()
        self._far_adapter = VirtualSlcan(self._far)
        super().__init__(subject)
        self._far.attach("listener", self._arrived)

    def _connected(self) -> None:
        super()._connected()
        until(lambda: self._far_adapter.opened)

    def _arrived(self, frame: SimFrame) -> None:
        self._fresh = self.clock.now

    def options(self) -> dict[str, Any]:
        far = {"interface": "slcan", "channel": self._far_adapter.path, "bitrate": self.device.BITRATE}
        return {
            "buses": {"near": super().options(), "far": far},
            "routes": [{"from": "near", "to": "far"}],
        }

    def good(self) -> bool:
        return self.clock.now - self._fresh < 2.0 and not self.plugin.health()

    def close(self) -> None:
        super().close()
        self._far_adapter.close()
        self._far.close()


class TestContract(Contract):
    subject = BridgeBench.of("fixgw.drivers.can_bridge", Rdac)
