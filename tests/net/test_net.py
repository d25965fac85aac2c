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
from fixgw.net import access, tcp
from fixgw.net.access import Address, Networks, address_of, network
from fixgw.net.endpoint import Endpoint, parse
from fixgw.net.listener import PAUSE_S, Caller, Listener, claim
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
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_networks_are_parsed_as_intended(text: str, meant: str) -> None:
    assert network(text) == ip_network(meant)


@pytest.mark.parametrize("text", ["", "tablet", "192.168.1.0/33", "192.168.1", "::ffff:127.0.0.0/64", "::ffff:0:0/95"])
def test_an_invalid_network_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        network(text)
    assert [option for option, _ in access.problems("allow", ["::1", text])] == ["allow.1"]


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


@pytest.mark.parametrize(
    "url",
    [
        "tcp://", "tcp://:80", "tcp://host", "tcp://host:", "tcp://host:0", "tcp://host:65536", "tcp://host:x",
        "tcp://host:80/path", "tcp://host:80?x=1", "tcp://me@host:80", "tcp://300.1.2.3:80", "tcp://-x:80",
        f"tcp://{LONG_NAME}x:80", "tcp://a..b:80", "tcp://a b:80", "tcp://[::x]:80", f"tcp://{'x' * 64}:80",
    ],
)  # fmt: skip
def test_an_invalid_endpoint_is_refused_with_the_reason(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(url)


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
    assert server.callers[-1].sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not server.connect()
    assert server.listener.counts == {
        "clients": 4,
        "clients not allowed": 0,
        "clients too many": 3,
        "clients too many from one host": 0,
    }
    assert server.listener.refused == 3


def test_one_host_cannot_shut_out_the_others(listening: Callable[..., Server]) -> None:
    server = listening(most_per_host=2)
    assert [server.connect("127.0.0.2") for _ in range(4)] == [True, True, False, False]
    assert server.connect("127.0.0.3")
    assert server.listener.counts["clients too many from one host"] == 2


def test_places_are_reserved_for_privileged_hosts(listening: Callable[..., Server]) -> None:
    """Two of twenty places are reserved for one host, and two more for it and another. Each refusal asks for room."""
    server = listening(most=20, reserved=[["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
    asked: list[str] = []

    def refuse(caller: Address) -> bool:
        asked.append(str(caller))
        return False

    def admitted(source: str) -> int:
        count = 0
        while server.connect(source, refuse):
            count += 1
        return count

    assert [admitted(f"127.0.0.{n}") for n in (9, 8, 2, 1, 2)] == [16, 0, 2, 2, 0]
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


def test_without_descriptors_it_pauses_and_continues(listening: Callable[..., Server]) -> None:
    server = listening()
    broke = True

    class Exhausted(socket.socket):
        def accept(self) -> Any:
            if broke:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    real = server.listener._socket
    assert real is not None
    server.listener._socket = Exhausted(fileno=real.detach())
    with socket.create_connection(("127.0.0.1", server.listener.port)):
        assert server.poll.poll(5)
        assert not list(server.listener.accept())
        assert server.poll.poll(0) == [], "it would spin"
        broke = False
        server.listener.resume()
        assert server.poll.poll(0) == []
        server.now += PAUSE_S
        server.listener.resume()
        assert server.poll.poll(5)
        server.callers += server.listener.accept()
        assert len(server.callers) == 1


def test_an_address_in_use_is_reported(listening: Callable[..., Server]) -> None:
    server = listening()
    with pytest.raises(DeviceError, match=f"cannot listen on .* port {server.listener.port}"):
        Listener("127.0.0.1", server.listener.port, allow=[], most=1, complain=Complaints(LOG, server.clock)).open()
    with pytest.raises(DeviceError, match=r"cannot listen on no\.such"):
        Listener("no.such.host.invalid", 0, allow=[], most=1, complain=Complaints(LOG, server.clock)).open()


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
        "wlan0": ("10.1.2.3", "255.255.0.0"),
    }

    def ioctl(sock: socket.socket, what: int, request: bytes) -> bytes:
        has = interfaces[request.rstrip(b"\0").decode()]
        if has is None:
            raise OSError(errno.EADDRNOTAVAIL, "no address")
        return request[:20] + socket.inet_aton(has[what == access.SIOCGIFNETMASK]) + request[24:]

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
        assert idle + interval * probes <= 13
        assert 0 < unacknowledged <= 12_000


@pytest.mark.parametrize(
    ("retransmits", "probes", "silent_ms", "gone"),
    [(2, 0, 10_001, True), (0, 2, 10_001, True), (2, 0, 10_000, False), (1, 1, 60_000, False)],
)
def test_a_peer_has_vanished_that_acknowledged_nothing_of_what_was_sent_twice(
    retransmits: int, probes: int, silent_ms: int, gone: bool
) -> None:
    class Unanswered(socket.socket):
        def getsockopt(self, *asked: Any) -> Any:
            return struct.pack("=4B52xI44x", 1, 0, retransmits, probes, silent_ms)  # tcp_info of linux/tcp.h

    with Unanswered() as sock:
        assert tcp.vanished(sock) is gone


def test_a_link_says_whom_it_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with contextlib.closing(tcp.TcpLink(Endpoint("tcp", "localhost", port))) as link:
            assert link.described == f"TCP connection to 127.0.0.1:{port}"


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

    def hear(self) -> bytes:
        select.select([self.link], [], [], 5)
        return self.link.read(4096)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.link.close()


def test_datagrams_arrive_as_bytes_in_order(ear: Ear) -> None:
    assert ear.link.read(4096) == b""
    for data in (b"$GP", b"", b"RMC\r\n"):
        ear.say(data)
    assert ear.hear() == b"$GPRMC\r\n"
    assert ear.link.described == "UDP datagrams from 127.0.0.1"
    assert ear.link.write(b"x") == 0


def test_datagrams_come_from_one_host_until_it_is_silent(ear: Ear) -> None:
    ear.say(b"a", "127.0.0.2")
    ear.say(b"b", "127.0.0.3")
    assert ear.hear() == b"a"
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
            assert taken == MAX_DATAGRAMS_PER_S
            assert ear.link.trouble == "more than 1000 datagrams a second: not all are read"
            ear.now += 1.0
        assert ear.refused == [("datagrams too many", "127.0.0.1")] * 40
        ear.now += SENDER_SILENT_S
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


def test_datagrams_can_stay_whole() -> None:
    ear = Ear(whole=True)
    with contextlib.closing(ear.link):
        for data in (b"first", b"", b"second"):
            ear.say(data)
        assert [ear.hear(), ear.hear(), ear.link.read(4096)] == [b"first", b"second", b""]


def test_several_can_listen_to_one_port_if_they_share_it() -> None:
    endpoint = Endpoint("udp", "0.0.0.0", free_udp_port())
    with contextlib.closing(Datagrams(endpoint, shared=True)), contextlib.closing(Datagrams(endpoint, shared=True)):
        pass


def test_a_group_is_joined_on_every_interface() -> None:
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
