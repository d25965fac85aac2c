"""Raw bytes of a serial port over TCP: several clients, slow and writing ones, and a device that comes and goes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from fixgw import database
from fixgw.database import Database
from fixgw.drivers.serial_bridge import Plugin
from fixgw.errors import DeviceError
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import PluginBase

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def port() -> Iterator[VirtualPort]:
    before = database.current()
    database.bind(Database())
    with VirtualPort() as virtual:
        yield virtual
    database.bind(before)


@contextmanager
def bridging(port: VirtualPort, **options: Any) -> Iterator[Plugin]:
    plugin = Plugin("bridge", {"port": port.path, "tcp_port": 0, **options})
    plugin.start()
    try:
        until(lambda: plugin.connected and port.opened)
        yield plugin
    finally:
        begin = time.monotonic()
        plugin.shutdown()
        assert time.monotonic() - begin < 1.0


def client(plugin: Plugin, slow: bool = False) -> socket.socket:
    """Connect a client, and wait until the server knows it; a slow one has a small buffer."""
    before = plugin.counts["clients"]
    sock = socket.socket()
    if slow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", plugin.tcp_port))
    until(lambda: plugin.counts["clients"] > before)
    return sock


def read(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := sock.recv(length - len(data))):
        data += more
    return data


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except ConnectionError:
        return True


EVERY_BYTE = bytes(range(256))


def test_every_client_gets_every_byte(port: VirtualPort) -> None:
    with bridging(port) as plugin, ExitStack() as stack:
        clients = [stack.enter_context(client(plugin)) for _ in range(3)]
        port.write(EVERY_BYTE)
        for sock in clients:
            assert read(sock, 256) == EVERY_BYTE
        until(lambda: plugin.counts["sent"] == 3 * 256)
        until(lambda: plugin.health() == "")
        assert len(plugin.get_status()["connections"]) == 3


def test_a_client_that_leaves_does_not_disturb_the_others(port: VirtualPort) -> None:
    with bridging(port) as plugin, client(plugin) as stays:
        client(plugin).close()
        until(lambda: len(plugin.get_status()["connections"]) == 1)
        port.write(b"hello")
        assert read(stays, 5) == b"hello"


def test_clients_stay_while_the_device_is_unplugged(port: VirtualPort) -> None:
    with bridging(port, write="all") as plugin, client(plugin) as sock:
        port.write(b"before")
        assert read(sock, 6) == b"before"
        port.unplug()
        until(lambda: not plugin.connected)
        sock.sendall(b"a command of long ago")
        until(lambda: plugin.counts["discarded"] == 21)
        port.plug()
        until(lambda: plugin.connected and port.opened)
        port.write(b"after")
        assert read(sock, 5) == b"after"
        sock.sendall(b"now")
        assert port.read(10) == b"now"


def test_no_client_may_write_unless_allowed(port: VirtualPort) -> None:
    with bridging(port) as plugin, client(plugin) as sock:
        sock.sendall(b"rm -rf")
        until(lambda: plugin.counts["not allowed"] == 6)
        assert port.read() == b""
        assert plugin.counts["written"] == 0


def test_one_client_may_write_and_the_next_when_it_leaves(port: VirtualPort) -> None:
    with bridging(port, write="one") as plugin, client(plugin) as first, client(plugin) as second:
        second.sendall(b"second")
        until(lambda: plugin.counts["not allowed"] == 6)
        first.sendall(b"first")
        assert port.read(10) == b"first"
        first.close()
        until(lambda: len(plugin.get_status()["connections"]) == 1)
        second.sendall(b"again")
        assert port.read(10) == b"again"


def test_all_clients_may_write(port: VirtualPort) -> None:
    with bridging(port, write="all") as plugin, client(plugin) as first, client(plugin) as second:
        first.sendall(b"1")
        second.sendall(b"2")
        got = b""

        def both() -> bool:
            nonlocal got
            got += port.read()
            return sorted(got) == sorted(b"12")

        until(both)
        until(lambda: plugin.counts["written"] == 2)


def test_a_client_that_writes_too_fast_waits_and_loses_nothing(port: VirtualPort) -> None:
    whole = EVERY_BYTE * 400
    with bridging(port, write="one") as plugin, client(plugin) as sock:
        sock.settimeout(20)
        got = b""
        sock.setblocking(False)
        left = whole

        def all_there() -> bool:
            nonlocal got, left
            try:
                left = left[sock.send(left) :] if left else left
            except BlockingIOError:
                pass
            assert plugin._server is not None
            assert len(plugin._server._outgoing) < 20_000
            while data := port.read():
                got += data
            return len(got) >= len(whole)

        until(all_there)
        assert got == whole


def test_only_a_slow_client_loses_bytes(port: VirtualPort) -> None:
    with bridging(port, buffer=4096) as plugin, client(plugin) as quick, client(plugin, slow=True):
        quick.settimeout(20)
        sent = 0

        def lost() -> bool:
            nonlocal sent
            taken = port.write(EVERY_BYTE * 16)
            assert len(read(quick, taken)) == taken
            sent += taken
            return plugin.counts["lost"] > 10_000

        until(lost)
        waiting = plugin.get_status()["connections"]
        assert waiting[0]["lost"] == 0
        assert waiting[1]["lost"] == plugin.counts["lost"]
        assert waiting[1]["waiting"] <= 4096


def test_a_client_that_does_not_read_is_dropped(port: VirtualPort) -> None:
    with bridging(port, buffer=1024, stall_timeout=1) as plugin, client(plugin, slow=True):
        until(lambda: port.write(EVERY_BYTE * 16) and plugin.counts["stalled"])
        until(lambda: plugin.get_status()["connections"] == [])


def test_the_number_of_clients_is_limited(port: VirtualPort) -> None:
    with bridging(port, clients=1) as plugin, client(plugin) as first:
        with socket.create_connection(("127.0.0.1", plugin.tcp_port), timeout=10) as second:
            assert ended(second)
        assert plugin.counts["clients too many"] == 1
        port.write(b"x")
        assert read(first, 1) == b"x"


def test_hosts_that_are_not_allowed_are_disconnected(port: VirtualPort) -> None:
    with bridging(port, allow=["192.0.2.0/24"]) as plugin:
        with socket.create_connection(("127.0.0.1", plugin.tcp_port), timeout=10) as stranger:
            assert ended(stranger)
        assert plugin.counts["clients not allowed"] == 1


def test_a_stop_disconnects_clients_and_frees_the_port(port: VirtualPort) -> None:
    with bridging(port) as plugin:
        sock = client(plugin)
        number = plugin.tcp_port
    with sock:
        assert ended(sock)
    with bridging(port, tcp_port=number) as again, client(again):
        pass


def test_a_port_in_use_is_reported_with_an_explanation(port: VirtualPort) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        plugin = Plugin("bridge", {"port": port.path, "tcp_port": taken})
        with pytest.raises(DeviceError, match=f"cannot listen on 127.0.0.1 port {taken}"):
            plugin.start()
        plugin.shutdown()


def test_clients_can_connect_without_a_device(port: VirtualPort) -> None:
    port.unplug()
    plugin = Plugin("bridge", {"port": port.path, "tcp_port": 0})
    plugin.start()
    try:
        with client(plugin) as sock:
            until(lambda: "no such device" in plugin.health())
            port.plug()
            until(lambda: plugin.connected and port.opened)
            port.write(b"hello")
            assert read(sock, 5) == b"hello"
    finally:
        plugin.shutdown()


def test_wrong_networks_are_a_configuration_problem() -> None:
    options = Plugin("bridge", {"port": "/dev/x", "tcp_port": 4000, "allow": ["::1", "lan"]}).options
    assert [place for place, _ in Plugin.check(options, Database())] == ["allow.1"]
    assert ("TCP port 4000 of 127.0.0.1", "tcp_port") in Plugin.claims(options)


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class BytesBench(SerialBench):
    """A serial bridge with a client on the network; it is good while the client gets what the device sends."""

    CAN = frozenset({"late", "vanish"})

    def other_half(self) -> None:
        """The bridge forwards every byte, whole frame or not."""

    def start(self) -> PluginBase:
        plugin = super().start()
        self._client = socket.create_connection(("127.0.0.1", plugin.tcp_port), timeout=10.0)  # type: ignore[attr-defined]
        self._client.setblocking(False)
        self._fresh = float("-inf")
        return plugin

    def act(self) -> None:
        super().act()
        if self.plugin is not None:
            with suppress(BlockingIOError):
                if self._client.recv(65536):
                    self._fresh = self.clock.now

    def good(self) -> bool:
        return self.clock.now - self._fresh < 2.0 and not self.plugin.health()

    def stop(self) -> float:
        if self.plugin is not None:
            self._client.close()
        return super().stop()


class TestContract(Contract):
    subject = BytesBench.of("fixgw.drivers.serial_bridge", Gps, options={"tcp_port": 0})
