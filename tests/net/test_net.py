"""`fixgw.net` by itself: allowed networks, limits, URLs, vanished peers and datagrams."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fixgw.errors import DeviceError
from fixgw.kit.complaints import Complaints
from fixgw.net import access, tcp, udp
from fixgw.net.access import Address, Networks, address_of, network
from fixgw.net.endpoint import Endpoint, parse, scheme_of
from fixgw.net.listener import Caller, Listener, claim
from fixgw.net.udp import (
    MAX_DATAGRAM_BYTES,
    MAX_DATAGRAMS_PER_S,
    SENDER_SILENT_S,
    Datagrams,
    UdpLink,
    UdpSender,
)

pytestmark = pytest.mark.slow

LOG = logging.getLogger("test")


# -- allowed networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.168.1.0/24", "192.168.1.0/24"),
        ("192.168.1.7/24", "192.168.1.0/24"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("::1", "::1/128"),
        ("fe80::/10", "fe80::/10"),
        ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
        ("::ffff:127.1.2.3/104", "127.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_networks_are_parsed_as_intended(text: str, meant: str) -> None:
    assert network(text) == ip_network(meant)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not appear to be"),
        ("tablet", "does not appear to be"),
        ("192.168.1.0/33", "does not appear to be"),
        ("192.168.1", "does not appear to be"),
        ("::ffff:127.0.0.0/64", "mixes IPv4 and IPv6"),
        ("::ffff:0:0/95", "mixes IPv4 and IPv6"),
    ],
)
def test_an_invalid_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        network(text)
    assert [*access.problems("allow", ["::1", text])] == [("allow.1", str(refused.value))]


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
        ("", False), ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("panel.local", False),
    ],
)  # fmt: skip
def test_only_this_computer_reaches_what_listens_on_loopback(host: str, only_here: bool) -> None:
    assert access.is_loopback(host) is only_here


def test_clients_are_known_by_their_ipv4_address_on_any_socket() -> None:
    allowed = Networks(["::ffff:127.0.0.0/104", "fe80::/10"])
    assert address_of("::ffff:127.0.0.1") in allowed
    assert address_of("127.0.0.1") in allowed
    assert address_of("fe80::1%eth0") in allowed
    assert address_of("10.0.0.1") not in allowed
    assert ip_address("::1") not in allowed


#: As long as a name may be (RFC 1035): 253 characters.
LONG_NAME = ".".join(["x" * 63] * 3 + ["x" * 61])


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("tcp://10.0.0.1:4001", Endpoint("tcp", "10.0.0.1", 4001)),
        ("TCP://gps.local:1", Endpoint("tcp", "gps.local", 1)),
        ("udp://[ff02::1%lo]:65535", Endpoint("udp", "ff02::1%lo", 65535)),
        ("udp://0.0.0.0:4000", Endpoint("udp", "0.0.0.0", 4000)),
        ("tcp://my_pi-2:80", Endpoint("tcp", "my_pi-2", 80)),
        (f"tcp://{LONG_NAME}:80", Endpoint("tcp", LONG_NAME, 80)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(url: str, endpoint: Endpoint) -> None:
    assert parse(url) == endpoint
    assert parse(str(endpoint)) == endpoint
    assert str(endpoint.address) == endpoint.host.partition("%")[0] or endpoint.address is None
    assert (endpoint.address is None) is (endpoint.host in ("gps.local", "my_pi-2", LONG_NAME))


@pytest.mark.parametrize(
    ("why", "urls"),
    [
        (
            "only a host and a port may follow tcp://: write tcp://HOST:PORT",
            ["tcp://host:80/path", "tcp://host:80?x=1", "tcp://me@host:80"],
        ),
        ("no host: write tcp://HOST:PORT", ["tcp://", "tcp://:80", "tcp://[]:80"]),
        ("no port: write tcp://HOST:PORT", ["tcp://host", "tcp://host:"]),
        (
            "the port must be a number from 1 to 65535",
            ["tcp://host:0", "tcp://host:65536", "tcp://host:x", "tcp://host:000080"],
        ),
        (
            "is neither an address nor a host name",
            [
                "tcp://300.1.2.3:80", "tcp://-x:80", "tcp://a..b:80", "tcp://a b:80", "tcp://[::x]:80",
                f"tcp://{LONG_NAME}x:80", f"tcp://{'x' * 64}:80", f"tcp://{LONG_NAME}..:80",
            ],
        ),
    ],
)  # fmt: skip
def test_an_invalid_endpoint_is_refused_with_the_reason(why: str, urls: list[str]) -> None:
    for url in urls:
        with pytest.raises(ValueError, match=why):
            parse(url)


def test_the_scheme_of_a_url_is_in_lower_case_and_a_device_has_none() -> None:
    assert [scheme_of(text) for text in ("TCP://x:1", "udp://", "/dev/ttyS0", "COM3")] == ["tcp", "udp", "", ""]


# -- listening ---------------------------------------------------------------------------------------------------------


class Server:
    """A listener, the clients that it has admitted, and a clock that the test controls."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.poll = select.epoll()
        settings = {"allow": ["127.0.0.0/8"], "most": 3, **options}
        self.listener = Listener("127.0.0.1", 0, complain=Complaints(LOG, self.clock), clock=self.clock, **settings)
        self.listener.open()
        self.listener.watch(self.poll)
        self.callers: list[Caller] = []
        self.clients: list[socket.socket] = []

    def clock(self) -> float:
        return self.now

    def connect(self, source: str = "127.0.0.1", make_room: Callable[[Address], bool] = lambda caller: False) -> bool:
        """Whether a client from `source` is admitted."""
        self.clients.append(socket.create_connection(("127.0.0.1", self.listener.port), source_address=(source, 0)))
        assert self.poll.poll(5)
        if admitted := list(self.listener.accept(make_room)):
            self.callers += admitted
            return True
        self.clients[-1].settimeout(5)
        assert self.clients[-1].recv(1) == b""
        return False

    def leave(self) -> None:
        caller = self.callers.pop()
        caller.sock.close()
        self.listener.left(caller.address)

    def close(self) -> None:
        for sock in (*self.clients, *(caller.sock for caller in self.callers)):
            sock.close()
        self.listener.close()
        self.listener.close()
        self.poll.close()


@pytest.fixture
def listening() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(**options: Any) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def test_clients_are_limited_and_places_become_free(listening: Callable[..., Server]) -> None:
    server = listening()
    assert [server.connect() for _ in range(5)] == [True, True, True, False, False]
    server.leave()
    assert server.connect()
    assert not server.connect()
    assert server.listener.counts == {
        "clients": 4,
        "clients not allowed": 0,
        "clients too many": 3,
        "clients too many from one host": 0,
    }
    assert server.listener.refused == 3


def test_an_admitted_connection_neither_waits_nor_outlives_its_peer(listening: Callable[..., Server]) -> None:
    server = listening()
    assert server.connect()
    (caller,) = server.callers
    assert str(caller) == f"127.0.0.1 port {server.clients[0].getsockname()[1]}"
    assert caller.sock.gettimeout() == 0.0
    assert caller.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert caller.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_buffer_for_sending_is_as_large_as_asked_for_or_as_the_system_likes(listening: Callable[..., Server]) -> None:
    def size(server: Server) -> int:
        assert server.connect()
        return server.callers[0].sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    assert size(listening(send_buffer=30_000)) == 60_000  # Linux doubles it, for its own needs
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        socket.create_connection(plain.getsockname()),
        plain.accept()[0] as usual,
    ):
        assert size(listening()) == usual.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def test_refusals_are_logged_and_told_apart(listening: Callable[..., Server], caplog: pytest.LogCaptureFixture) -> None:
    server = listening(most=2, most_per_host=1, allow=["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.4"):
        server.connect(source)
    assert caplog.messages == [
        "127.0.0.1 turned away: it has 1 connections already",
        "127.0.0.3 turned away: 2 clients are connected already",
        "127.0.0.4 may not connect",
    ]


def test_what_is_wrong_with_one_connection_does_not_hold_up_the_next(
    listening: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comes from a host that is not allowed, one has hung up already, one is reset while we look at it."""
    server = listening(allow=["127.0.0.1"])
    real = server.listener._socket
    assert real is not None
    troubles: list[OSError | None] = [OSError(errno.ECONNABORTED, "aborted"), None, None, None]

    class Hasty(socket.socket):
        def accept(self) -> Any:
            if troubles and (trouble := troubles.pop(0)):
                raise trouble
            return super().accept()

    server.listener._socket = Hasty(fileno=real.detach())
    kept_alive: list[socket.socket] = []

    def keep_alive(sock: socket.socket) -> None:
        kept_alive.append(sock)
        if len(kept_alive) == 1:
            raise OSError(errno.EINVAL, "reset")

    monkeypatch.setattr("fixgw.net.listener.keep_alive", keep_alive)
    there = "127.0.0.1", server.listener.port
    for source in ("127.0.0.2", "127.0.0.1", "127.0.0.1"):
        server.clients.append(socket.create_connection(there, source_address=(source, 0)))
    server.callers += server.listener.accept()
    assert [caller.port for caller in server.callers] == [server.clients[-1].getsockname()[1]]
    assert [sock.fileno() == -1 for sock in kept_alive] == [True, False]
    assert server.listener.counts["clients"] == 1


def test_a_flood_of_callers_is_accepted_by_portions(
    listening: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.net.listener.ACCEPTS", 2)
    server = listening()
    for _ in range(3):
        server.clients.append(socket.create_connection(("127.0.0.1", server.listener.port)))
    for admitted in (2, 1, 0):
        before = len(server.callers)
        server.callers += server.listener.accept()
        assert len(server.callers) - before == admitted


def test_a_closed_listener_accepts_nobody_and_its_port_is_free_at_once(listening: Callable[..., Server]) -> None:
    """Although the system remembers the connections that it closed."""
    server = listening()
    server.connect()
    server.leave()
    server.listener.close()
    assert [*server.listener.accept()] == []
    with contextlib.closing(
        Listener("127.0.0.1", server.listener.port, allow=[], most=1, complain=Complaints(LOG, server.clock))
    ) as next_one:
        next_one.open()


def test_one_host_cannot_shut_out_the_others(listening: Callable[..., Server]) -> None:
    server = listening(most_per_host=2)
    assert [server.connect("127.0.0.2") for _ in range(4)] == [True, True, False, False]
    assert server.connect("127.0.0.3")
    assert server.listener.counts["clients too many from one host"] == 2


@pytest.mark.parametrize(("most", "reserved"), [(20, 2), (19, 1)])
def test_places_are_reserved_for_privileged_hosts(listening: Callable[..., Server], most: int, reserved: int) -> None:
    """A tenth of the places is reserved for one host, and a tenth for it and another. Each refusal asks for room."""
    server = listening(most=most, reserved=[["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
    asked: list[str] = []

    def refuse(caller: Address) -> bool:
        asked.append(str(caller))
        return False

    def admitted(source: str) -> int:
        count = 0
        while server.connect(source, refuse):
            count += 1
        return count

    assert [admitted(f"127.0.0.{n}") for n in (9, 8, 2, 1, 2)] == [most - 2 * reserved, 0, reserved, reserved, 0]
    assert asked == ["127.0.0.9", "127.0.0.8", "127.0.0.2", "127.0.0.1", "127.0.0.2"]
    assert server.listener.counts["clients too many"] == 5


def test_room_is_made_only_when_it_is_needed(listening: Callable[..., Server]) -> None:
    server = listening(most=1)
    asked = []

    def make_room(caller: Address) -> bool:
        asked.append(True)
        server.leave()
        return True

    assert server.connect(make_room=make_room)
    assert not asked
    server.connect(make_room=make_room)
    assert asked
    assert len(server.callers) == 1


def test_hosts_that_are_not_allowed_are_disconnected_at_once(listening: Callable[..., Server]) -> None:
    server = listening(allow=["127.0.0.2"])
    assert not server.connect("127.0.0.3")
    assert server.connect("127.0.0.2")
    assert server.listener.counts["clients not allowed"] == 1


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_or_memory_it_pauses_and_continues(
    listening: Callable[..., Server], caplog: pytest.LogCaptureFixture, lack: int
) -> None:
    server = listening()
    broke = True

    class Exhausted(socket.socket):
        def accept(self) -> Any:
            if broke:
                raise OSError(lack, "there is no more")
            return super().accept()

    real = server.listener._socket
    assert real is not None
    server.listener._socket = Exhausted(fileno=real.detach())
    with socket.create_connection(("127.0.0.1", server.listener.port)):
        assert server.poll.poll(5)
        assert not list(server.listener.accept())
        assert server.poll.poll(0) == [], "it would spin"
        assert caplog.messages == ["cannot accept connections: there is no more"]
        broke = False
        server.listener.resume()
        server.now += 0.9
        server.listener.resume()
        assert server.poll.poll(0) == []
        server.now = 101.0
        server.listener.resume()
        server.listener.resume()
        assert server.poll.poll(5)
        server.callers += server.listener.accept()
        assert len(server.callers) == 1


def test_an_address_in_use_is_reported(listening: Callable[..., Server]) -> None:
    server = listening()
    with pytest.raises(DeviceError, match=f"cannot listen on .* port {server.listener.port}"):
        Listener("127.0.0.1", server.listener.port, allow=[], most=1, complain=Complaints(LOG, server.clock)).open()
    for host in ("no.such.host.invalid", "flügel.invalid"):
        with pytest.raises(DeviceError, match=f"cannot listen on {host} port 0: "):
            Listener(host, 0, allow=[], most=1, complain=Complaints(LOG, server.clock)).open()


@pytest.mark.parametrize(("host", "asked"), [("localhost", b"localhost"), ("", None), ("flügel.local", "flügel.local")])
def test_of_the_addresses_of_a_name_it_listens_on_the_first_of_ipv4(
    monkeypatch: pytest.MonkeyPatch, host: str, asked: object
) -> None:
    """An ASCII name is looked up as bytes: a text loads the tables of international names, half a megabyte."""
    entries = [
        (family, socket.SOCK_STREAM, 6, "", address)
        for family, address in (
            (socket.AF_INET6, ("::1", 0, 0, 0)),
            (socket.AF_INET, ("127.0.0.7", 0)),
            (socket.AF_INET, ("127.0.0.8", 0)),
        )
    ]
    names: list[object] = []

    def getaddrinfo(name: object, *args: Any, **how: Any) -> list[Any]:
        names.append(name)
        return entries

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with contextlib.closing(Listener(host, 0, allow=[], most=1, complain=Complaints(LOG, time.monotonic))) as listener:
        listener.open()
        assert listener._socket is not None
        assert listener._socket.getsockname() == ("127.0.0.7", listener.port)
    assert names == [asked]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_two_colons_are_every_interface_and_ipv4_callers_are_ipv4() -> None:
    listener = Listener("::", 0, allow=["127.0.0.1"], most=1, complain=Complaints(LOG, time.monotonic))
    listener.open()
    try:
        with socket.create_connection(("127.0.0.1", listener.port)):
            callers: list[Caller] = []
            while not callers:
                callers += listener.accept()
            with callers[0].sock:
                assert callers[0].address == ip_address("127.0.0.1")
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "TCP port 5 of 127.0.0.1"),
        ("0.0.0.0", "TCP port 5"),
        ("::", "TCP port 5"),
        ("panel.local", "TCP port 5"),
    ],
)
def test_a_port_is_claimed_on_one_address_or_on_all(host: str, name: str) -> None:
    assert claim(host, 5) == name


def test_the_networks_of_this_computer_are_those_of_its_interfaces_with_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interfaces = {
        "lo": ("127.0.0.1", "255.0.0.0"),
        "eth0": ("192.168.7.4", "255.255.255.0"),
        "down0": None,
        "ppp0": ("93.184.216.34", "255.255.0.0"),
        "wlan-of-15-char": ("10.1.2.3", "255.255.0.0"),
    }

    def ioctl(sock: socket.socket, what: int, request: bytes) -> bytes:
        has = interfaces[request.rstrip(b"\0").decode()]
        if has is None:
            raise OSError(errno.EADDRNOTAVAIL, "no address")
        wanted = {0x8915: 0, 0x891B: 1}[what]  # linux/sockios.h: SIOCGIFADDR, SIOCGIFNETMASK
        return request[:20] + socket.inet_aton(has[wanted]) + request[24:]

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(interfaces, 1)))
    assert access.own_addresses() == ["192.168.7.4", "93.184.216.34", "10.1.2.3"]
    assert access.own_networks() == ["192.168.7.0/24", "10.1.0.0/16"]


# -- peers that vanish -------------------------------------------------------------------------------------------------


def test_the_socket_options_notice_a_vanished_peer_within_15_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, tcp.connect(*server.getsockname()) as sock:
        idle, interval, probes, unacknowledged = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT
            )
        )  # fmt: skip
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert idle + interval * probes == 12
        assert unacknowledged == 10_000


def test_a_system_without_these_options_keeps_connections_alive_as_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    monkeypatch.delattr(socket, "TCP_INFO")
    with socket.socket() as sock:
        tcp.keep_alive(sock, give_up=True)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == tcp.KEEPALIVE_IDLE_S
        assert tcp.vanished(sock) is False


def test_a_connection_that_cannot_be_watched_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sock: socket.socket, *, give_up: bool) -> None:
        refused.append(sock)
        raise OSError(errno.EINVAL, "no such option")

    refused: list[socket.socket] = []
    monkeypatch.setattr(tcp, "keep_alive", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="no such option"):
        tcp.connect(*server.getsockname())
    assert [sock.fileno() for sock in refused] == [-1]


@pytest.mark.parametrize(
    ("retransmits", "probes", "silent_ms", "gone"),
    [(2, 0, 10_001, True), (0, 2, 10_001, True), (2, 0, 10_000, False), (1, 1, 60_000, False)],
)
def test_a_peer_has_vanished_that_acknowledged_nothing_of_what_was_sent_twice(
    retransmits: int, probes: int, silent_ms: int, gone: bool
) -> None:
    class Unanswered(socket.socket):
        def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
            return struct.pack("=4B52xI44x", 1, 0, retransmits, probes, silent_ms)[:size]  # tcp_info of linux/tcp.h

    with Unanswered() as sock:
        assert tcp.vanished(sock) is gone


def test_a_peer_of_which_the_system_tells_nothing_has_not_vanished() -> None:
    class OldSystem(socket.socket):
        def getsockopt(self, *asked: Any) -> Any:
            return bytes(8)

    with OldSystem() as sock:
        assert tcp.vanished(sock) is False
    assert tcp.vanished(sock) is False  # closed


def test_a_link_is_a_line_to_and_from_a_server_and_never_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        link = tcp.TcpLink(Endpoint("tcp", "localhost", port))
        assert link.port == f"tcp://localhost:{port}"
        assert link.described == f"TCP connection to 127.0.0.1:{port}"
        with contextlib.closing(link), server.accept()[0] as other:
            assert link.read(100) == b""
            other.sendall(b"hello")
            assert select.select([link], [], [], 5)[0]
            assert (link.read(2), link.read(100)) == (b"he", b"llo")
            assert link.write(b"answer") == 6
            assert other.recv(100) == b"answer"
            while link.write(bytes(1 << 20)):
                pass
            assert link.write(b"x") == 0
            other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            while select.select([other], [], [], 0.01)[0]:
                other.recv(1 << 20)
            other.shutdown(socket.SHUT_WR)
            assert select.select([link], [], [], 5)[0]
            with pytest.raises(ConnectionError, match="the other end closed the connection"):
                link.read(100)
        assert link.fileno() == -1


def test_the_system_does_not_drop_a_slow_client_of_a_server() -> None:
    with socket.socket() as sock:
        tcp.keep_alive(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# In separate network namespaces: a cable, which is cut, connects `near` and `far`.
CABLE = """
set -e
ip netns add far$1 2>/dev/null || exit 77
trap 'ip netns del far$1' EXIT
ip link set lo up
ip link add near type veth peer name far netns far$1
ip address add 10.99.0.1/24 dev near
ip link set near up
ip -n far$1 address add 10.99.0.2/24 dev far
ip -n far$1 link set far up
ip -n far$1 link set lo up
"$2" "$3" "far$1"
"""

TWO_HOSTS = """
import socket, subprocess, sys, time
from fixgw.net import tcp
from fixgw.net.endpoint import parse

tcp.KEEPALIVE_IDLE_S = tcp.KEEPALIVE_INTERVAL_S = tcp.UNACKNOWLEDGED_S = 1
tcp.KEEPALIVE_PROBES = 2
far = '''
import socket, sys
with socket.create_server(("10.99.0.2", 4001)) as server:
    print("listening", flush=True)
    kept = [server.accept() for _ in range(4)]
    sys.stdin.read()
'''
process = subprocess.Popen(["ip", "netns", "exec", sys.argv[1], sys.executable, "-c", far],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
process.stdout.readline()
idle, sending = (tcp.TcpLink(parse("tcp://10.99.0.2:4001")) for _ in range(2))
served, talking = (socket.create_connection(("10.99.0.2", 4001)) for _ in range(2))
for sock in served, talking:
    tcp.keep_alive(sock)
    sock.setblocking(False)
# A peer that is alive and does not read has not vanished, however long it takes.
try:
    while True:
        served.send(bytes(65536))
except BlockingIOError:
    pass
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    assert not tcp.vanished(served)
    assert idle.read(100) == b"" and sending.read(100) == b""
    time.sleep(0.05)
subprocess.run(["ip", "link", "set", "near", "down"], check=True)
cut = time.monotonic()
sending.write(b"x")
talking.send(b"x")
waiting = {"idle": idle, "sending": sending}
while waiting and time.monotonic() - cut < 15:
    for name, link in list(waiting.items()):
        try:
            link.read(100)
        except OSError as error:
            print(name, round(time.monotonic() - cut, 1), error)
            del waiting[name]
    time.sleep(0.02)
assert not waiting, waiting
while not tcp.vanished(talking):
    assert time.monotonic() - cut < 15
    time.sleep(0.02)
print("talking", round(time.monotonic() - cut, 1))
process.kill()
process.wait()
"""


def test_a_cut_cable_is_noticed(tmp_path: Any) -> None:
    """Two network namespaces and a cable between them, which is cut without closing the connection."""
    (tmp_path / "cable").write_text(CABLE)
    (tmp_path / "hosts.py").write_text(TWO_HOSTS)
    command = ["unshare", "--net", "sh", str(tmp_path / "cable"), str(tmp_path.name)[-8:], sys.executable]
    try:
        result = subprocess.run(
            [*command, str(tmp_path / "hosts.py")], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        pytest.skip("no unshare")
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no network namespaces here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "idle" in result.stdout
    assert "sending" in result.stdout
    assert "talking" in result.stdout


# -- datagrams ---------------------------------------------------------------------------------------------------------


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Ear:
    """A link, the datagrams that it has refused, and a clock that the test controls."""

    def __init__(self, host: str = "127.0.0.1", allow: Networks | None = None, whole: bool = False) -> None:
        self.now = 100.0
        self.refused: list[tuple[str, str]] = []
        self.endpoint = Endpoint("udp", host, free_udp_port())
        self.link = UdpLink(
            self.endpoint,
            lambda why, sender: self.refused.append((why, str(sender))),
            lambda: self.now,
            allow=allow,
            whole=whole,
        )

    def say(self, data: bytes, source: str = "127.0.0.1") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(data, ("127.0.0.1", self.endpoint.port))

    def hear(self, size: int = 4096) -> bytes:
        select.select([self.link], [], [], 5)
        return self.link.read(size)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.link.close()


def test_datagrams_arrive_as_bytes_in_order(ear: Ear) -> None:
    assert ear.link.read(4096) == b""
    assert ear.link.port == f"udp://127.0.0.1:{ear.endpoint.port}"
    assert ear.link.described == "UDP: no datagram yet"
    for data in (b"$GP", b"", b"RMC\r\n"):
        ear.say(data)
    assert ear.hear() == b"$GPRMC\r\n"
    assert ear.link.described == "UDP datagrams from 127.0.0.1"
    assert ear.link.write(b"x") == 0
    ear.link.close()
    ear.link.close()


def test_what_has_arrived_is_read_as_far_as_there_is_room_for_the_longest_datagram(ear: Ear) -> None:
    for data in (b"abc", b"defg", b"hi"):
        ear.say(data)
    assert ear.hear(MAX_DATAGRAM_BYTES + 3) == b"abcdefg"
    assert ear.hear(MAX_DATAGRAM_BYTES) == b"hi"


def test_datagrams_come_from_one_host_until_it_is_silent(ear: Ear) -> None:
    for data, source in (b"a", "127.0.0.2"), (b"b", "127.0.0.3"), (b"c", "127.0.0.2"):
        ear.say(data, source)
    assert ear.hear() == b"ac"
    assert ear.refused == [("datagrams of other hosts", "127.0.0.3")]
    ear.now += SENDER_SILENT_S - 0.1
    ear.say(b"c", "127.0.0.2")
    assert ear.hear() == b"c"
    ear.now += SENDER_SILENT_S
    ear.say(b"d", "127.0.0.3")
    assert ear.hear() == b"d"
    ear.say(b"e", "127.0.0.2")
    assert ear.hear() == b""
    assert str(ear.link.sender) == "127.0.0.3"


def test_a_flood_of_one_host_takes_no_more_than_its_share_of_each_second() -> None:
    ear = Ear(whole=True)
    with contextlib.closing(ear.link), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        for _ in range(2):
            taken = 0
            for _ in range(MAX_DATAGRAMS_PER_S + 20):
                flood.sendto(b"x", ("127.0.0.1", ear.endpoint.port))
                taken += len(ear.hear())
            assert taken == 1000
            assert ear.link.trouble == "more than 1000 datagrams a second: not all are read"
            ear.now += 1.0
        assert ear.refused == [("datagrams too many", "127.0.0.1")] * 40
        ear.now -= 1.0
        for _ in range(10):
            flood.sendto(b"x", ("127.0.0.1", ear.endpoint.port))
        assert ear.hear() == b""
        assert len(ear.refused) == 50, "what is too much does not wait for the next read"
        ear.now += SENDER_SILENT_S - 0.1
        assert ear.link.trouble
        ear.now += 0.1
        assert ear.link.trouble == ""


def test_two_programs_of_a_host_that_send_by_turns_are_noticed_and_one_that_restarts_is_not(ear: Ear) -> None:
    with contextlib.ExitStack() as stack:
        old, new = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for program, trouble in (old, ""), (old, ""), (new, ""), (new, ""), (old, "two programs send by turns"):
            program.sendto(b"x", ("127.0.0.1", ear.endpoint.port))
            assert ear.hear() == b"x"
            assert ear.link.trouble.partition(":")[0] == trouble
        ear.now += SENDER_SILENT_S
        assert ear.link.trouble == ""


def test_what_this_process_sends_itself_is_refused_and_does_not_keep_others_away() -> None:
    """A broadcast of an output comes back to the drivers that listen at its port."""
    ear = Ear(host="0.0.0.0")
    there = "127.255.255.255", ear.endpoint.port
    with contextlib.closing(ear.link), contextlib.closing(Datagrams(Endpoint("udp", "0.0.0.0", 0))) as output:
        with contextlib.closing(UdpSender(Endpoint("udp", *there))) as sender:
            assert output.send(b"ours", there)
            assert sender.send(b"ours")
            ear.say(b"theirs", "127.0.0.2")
            assert ear.hear() == b"theirs"
        assert [why for why, _ in ear.refused] == ["datagrams of our own"] * 2
        ear.now += SENDER_SILENT_S
        port = output._socket.getsockname()[1]
        output.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # the port belongs to another program now
            other.bind(("127.0.0.1", port))
            other.sendto(b"x", ("127.0.0.1", ear.endpoint.port))
        assert ear.hear() == b"x"


@pytest.mark.parametrize(
    ("family", "address", "here"),
    [
        (socket.AF_INET, ("127.0.0.9", 4000), True),
        (socket.AF_INET, ("192.0.2.1", 4000), False),
        (socket.AF_INET6, ("::1", 4000, 0, 0), True),
        (socket.AF_INET6, ("2001:db8::1", 4000, 0, 0), False),
    ],
)
def test_a_host_with_a_port_like_ours_is_another_host(family: int, address: Any, here: bool) -> None:
    assert udp._is_here(family, address) is here


def test_a_datagram_that_cannot_be_sent_is_reported(ear: Ear) -> None:
    assert ear.link.send(b"x" * 70_000, ("127.0.0.1", 4000)) is False
    with contextlib.closing(UdpSender(Endpoint("udp", "127.0.0.1", 4000))) as sender:
        assert (sender.port, sender.described) == ("udp://127.0.0.1:4000", "UDP datagrams")
        with pytest.raises(DeviceError, match=r"^udp://127\.0\.0\.1:4000: Message too long$"):
            sender.send(b"x" * 70_000)


def test_long_datagrams_are_refused_as_a_whole(ear: Ear) -> None:
    ear.say(b"x" * (MAX_DATAGRAM_BYTES + 1))
    ear.say(b"y" * MAX_DATAGRAM_BYTES)
    assert ear.hear() == b"y" * MAX_DATAGRAM_BYTES
    assert ear.refused == [("datagrams too long", "127.0.0.1")]


def test_only_allowed_networks_are_heard_and_answered() -> None:
    ear = Ear(allow=Networks(["127.0.0.2"]))
    with contextlib.closing(ear.link), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
        friend.bind(("127.0.0.2", 0))
        friend.settimeout(5)
        assert ear.link.write(b"to nobody") == 0
        ear.say(b"forged", "127.0.0.3")
        friend.sendto(b"ask", ("127.0.0.1", ear.endpoint.port))
        assert ear.hear() == b"ask"
        assert ear.refused == [("datagrams not allowed", "127.0.0.3")]
        assert ear.link.write(b"answer") == 6
        assert friend.recv(100) == b"answer"
        assert ear.link.write(b"x" * 70_000) == 0


def test_datagrams_can_stay_whole() -> None:
    ear = Ear(whole=True)
    with contextlib.closing(ear.link):
        for data in (b"first", b"", b"second"):
            ear.say(data)
        assert [ear.hear(), ear.hear(), ear.link.read(4096)] == [b"first", b"second", b""]


@pytest.mark.parametrize(("host", "shared"), [("0.0.0.0", True), ("255.255.255.255", False)])
def test_several_can_listen_to_one_port_if_they_share_it_or_for_broadcasts(host: str, shared: bool) -> None:
    endpoint = Endpoint("udp", host, free_udp_port())
    with contextlib.closing(Datagrams(endpoint, shared=shared)), contextlib.closing(Datagrams(endpoint, shared=shared)):
        pass


def test_a_port_that_is_not_shared_has_one_listener() -> None:
    endpoint = Endpoint("udp", "0.0.0.0", free_udp_port())
    with contextlib.closing(Datagrams(endpoint)), pytest.raises(OSError, match="in use"):
        Datagrams(endpoint)


def test_a_group_is_joined_on_every_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    group, port = "239.255.77.7", free_udp_port()
    with contextlib.closing(Datagrams(Endpoint("udp", "0.0.0.0", port), shared=True)) as link:
        link.join(group)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
            speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            speaker.sendto(b"here", (group, port))
        assert select.select([link], [], [], 5.0)[0]
        assert [datagram for datagram, _, _ in link.receive()] == [b"here"]
        with pytest.raises(OSError, match="argument"):
            link.join("10.0.0.1")  # not a group
        monkeypatch.setattr(socket, "if_nameindex", lambda: [(999_999, "gone0"), (1, "lo")])
        link.join("239.255.77.8")  # one interface is enough
        monkeypatch.setattr(socket, "if_nameindex", list)
        with pytest.raises(OSError, match="there is no network interface"):
            link.join(group)


def test_a_flood_is_read_in_bounded_chunks(ear: Ear) -> None:
    for _ in range(100):
        ear.say(b"x" * 1000)
        ear.say(b"", "127.0.0.2")
    for _ in range(5):
        assert len(ear.hear()) <= 4096
    assert len(ear.refused) < 100


def test_a_port_in_use_cannot_be_opened(ear: Ear) -> None:
    with pytest.raises(OSError, match="in use"):
        UdpLink(ear.endpoint)


def test_a_group_is_joined_and_can_have_several_listeners() -> None:
    endpoint = Endpoint("udp", "239.255.77.1", free_udp_port())
    try:
        first, second = UdpLink(endpoint), UdpLink(endpoint)
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")
    with contextlib.closing(first), contextlib.closing(second), contextlib.closing(UdpSender(endpoint)) as ours:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            try:
                other.sendto(b"hello", (endpoint.host, endpoint.port))
            except OSError as error:
                pytest.skip(f"no route for multicast: {error}")
        assert ours.send(b"from this process")
        for link in (first, second):
            select.select([link], [], [], 5)
            assert link.read(4096) == b"hello"


def test_a_group_is_not_heard_where_only_others_have_joined_it() -> None:
    """Else what a driver hears would depend on what else runs here."""
    group = Endpoint("udp", "239.255.77.2", free_udp_port())
    loopback = socket.inet_aton("127.0.0.1")
    with contextlib.ExitStack() as stack:
        other, speaker = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        other.bind((group.host, group.port))
        other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group.host) + loopback)
        try:
            link = stack.enter_context(contextlib.closing(UdpLink(group)))
            speaker.sendto(b"outside", (group.host, group.port))
        except OSError as error:
            pytest.skip(f"no multicast but on the loopback interface: {error}")
        speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        speaker.sendto(b"inside", (group.host, group.port))
        while other.recv(100) != b"inside":
            pass
        assert link.read(4096) == b"outside"


def ipv6_interface() -> str:
    """An interface with multicast of IPv6; skips the test if there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as speaker:
        for index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                speaker.sendto(b"?", ("ff02::77", 9, 0, index))
                return name
    pytest.skip("no multicast of IPv6 here")


def test_a_group_of_ipv6_is_joined_on_its_interface() -> None:
    interface = ipv6_interface()
    endpoint = Endpoint("udp", f"ff02::77%{interface}", free_udp_port())
    with contextlib.closing(UdpLink(endpoint)) as first, contextlib.closing(UdpLink(endpoint)) as second:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as speaker:
            speaker.sendto(b"hello", ("ff02::77", endpoint.port, 0, socket.if_nametoindex(interface)))
        for link in (first, second):
            assert select.select([link], [], [], 5)[0]
            assert link.read(4096) == b"hello"
            assert link._socket.getsockopt(socket.IPPROTO_IPV6, 29) == 0  # IPV6_MULTICAST_ALL of linux/in6.h


def test_a_sender_needs_no_listener() -> None:
    sender = UdpSender(Endpoint("udp", "127.0.0.1", free_udp_port()))
    assert sender.send(b"x")
    assert not all(sender.send(b"x") for _ in range(20))
    sender.close()


def test_a_sender_that_cannot_reach_its_network_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    def unreachable(self: socket.socket, address: object) -> None:
        made.append(self)
        raise OSError(errno.ENETUNREACH, "no route")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(OSError, match="no route"):
        UdpSender(Endpoint("udp", "127.0.0.1", 4000))
    assert [(sock.fileno(), sock.gettimeout()) for sock in made] == [(-1, 0.0)]
