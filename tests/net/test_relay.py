"""The relay, between real sockets."""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from random import Random
from typing import Any

import pytest

from fixgw.errors import DeviceError
from fixgw.kit.complaints import Complaints
from fixgw.net import relay as module
from fixgw.net.access import LOOPBACK
from fixgw.net.relay import BUFFER_BYTES, Relay, Side

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Notes:
    """What the relay has told."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.times: list[float] = []  # of all that was told
        self.heard: dict[Side, bytes] = {"client": b"", "server": b""}

    def opened(self, number: int, at: float, name: str) -> None:
        self._note(at, "opened", number, name)

    def reached(self, number: int, at: float) -> None:
        self._note(at, "reached", number)

    def passed(self, number: int, at: float, sender: Side, data: bytes) -> None:
        self.heard[sender] += data
        self.times.append(at)

    def hung(self, number: int, at: float, side: Side, waiting: int) -> None:
        self._note(at, "hung", number, side, waiting > 0)

    def closed(self, number: int, at: float, by: Side | None, why: str) -> None:
        self._note(at, "closed", number, by, why)

    def _note(self, at: float, *event: object) -> None:
        self.times.append(at)
        self.events.append(event)

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return sorted(event for event in self.events if event[0] == kind)


class Bench:
    """A gateway's socket, a relay that leads to it, and clients."""

    def __init__(self) -> None:
        self.gateway = socket.create_server(("127.0.0.1", 0))
        self.gateway.settimeout(PATIENCE_S)
        self.now: float | None = None  # the time stands still, unless it is None
        self.looked_at = 0.0  # when the relay has looked after its connections last
        self.notes = Notes()
        self.open: list[socket.socket] = [self.gateway]
        self.relay = self.start()

    def start(
        self, allow: tuple[str, ...] = LOOPBACK, clients: int = 100, target: tuple[str, int] | None = None
    ) -> Relay:
        self.relay = Relay(
            "127.0.0.1",
            0,
            target or self.gateway.getsockname(),
            self.notes,
            Complaints(logging.getLogger("relay"), time.monotonic),
            allow=allow,
            clients=clients,
            clock=self.clock,
        )
        self.connections = 0
        look_after = self.relay._look_after

        def tick(now: float) -> None:
            look_after(now)
            self.looked_at = now

        self.relay._look_after = tick  # type: ignore[method-assign]
        self.relay.open()
        self.thread = threading.Thread(target=self.relay.run)
        self.thread.start()
        return self.relay

    def stop(self) -> None:
        self.relay.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def clock(self) -> float:
        return time.monotonic() if self.now is None else self.now

    def wind(self, seconds: float) -> None:
        """Let the time pass until the relay has looked after its connections, and stand still from then on."""
        self.now = now = self.clock() + seconds
        until(lambda: self.looked_at == now)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client, and the gateway's end of its connection."""
        client = socket.create_connection(("127.0.0.1", self.relay.port), PATIENCE_S)
        self.open.append(client)
        server, _ = self.gateway.accept()
        server.settimeout(PATIENCE_S)
        self.open.append(server)
        self.connections += 1
        until(lambda: ("reached", self.connections) in self.notes.events)
        return client, server


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()
    for sock in bench.open:
        sock.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(module, "TICK_S", 0.01)
    monkeypatch.setattr(module, "HUNG_S", 0.05)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay looks at its clock all the time."""
    monkeypatch.setattr(module, "TICK_S", 0.001)


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_bytes_pass_unchanged_in_both_directions(bench: Bench) -> None:
    client, server = bench.connect()
    data = Random(1).randbytes(1_000_000)
    for a, b in ((client, server), (server, client)):
        sending = threading.Thread(target=a.sendall, args=(data,))
        sending.start()
        assert receive(b, len(data)) == data
        sending.join()
    until(lambda: min(map(len, bench.notes.heard.values())) == len(data))
    assert bench.notes.heard == {"client": data, "server": data}


def test_a_connection_waits_for_no_more_bytes_and_holds_few(bench: Bench) -> None:
    client, _ = bench.connect()
    assert bench.notes.events[0] == ("opened", 1, f"127.0.0.1:{client.getsockname()[1]}")
    (pair,) = set(bench.relay._pairs.values())
    for end in pair.client, pair.server:
        assert end.sock.gettimeout() == 0.0
        assert end.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for buffer in socket.SO_RCVBUF, socket.SO_SNDBUF:  # Linux doubles it, for its own needs
            assert end.sock.getsockopt(socket.SOL_SOCKET, buffer) == 2 * BUFFER_BYTES


def test_several_clients_have_a_connection_each(bench: Bench) -> None:
    pairs = [bench.connect() for _ in range(3)]
    for n, (client, _) in enumerate(pairs):
        client.sendall(b"%d" % n)
    assert [receive(server, 1) for _, server in pairs] == [b"0", b"1", b"2"]


def test_a_half_closed_connection_still_answers(bench: Bench) -> None:
    client, server = bench.connect()
    client.sendall(b"@rIAS\n")
    client.shutdown(socket.SHUT_WR)
    assert receive(server, 100) == b"@rIAS\n"
    server.sendall(b"@rIAS;1.0;00000\n")
    server.close()
    assert receive(client, 100) == b"@rIAS;1.0;00000\n"
    until(lambda: ("closed", 1, "client", "") in bench.notes.events)


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_end_is_passed_on(bench: Bench, who: Side) -> None:
    client, server = bench.connect()
    (client if who == "client" else server).close()
    other = server if who == "client" else client
    assert other.recv(10) == b""
    other.close()
    until(lambda: ("closed", 1, who, "") in bench.notes.events)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on(bench: Bench, who: Side) -> None:
    client, server = bench.connect()
    reset(client if who == "client" else server)
    with pytest.raises(ConnectionResetError):
        (server if who == "client" else client).recv(10)
    until(lambda: ("closed", 1, who, "Connection reset by peer") in bench.notes.events)


def test_without_a_gateway_the_client_is_closed(bench: Bench) -> None:
    bench.gateway.close()
    client = socket.create_connection(("127.0.0.1", bench.relay.port), PATIENCE_S)
    bench.open.append(client)
    assert client.recv(10) == b""
    until(lambda: ("closed", 1, "server", "cannot be reached: Connection refused") in bench.notes.events)


@pytest.mark.parametrize("trouble", ["socket", "option"])
def test_without_a_way_to_the_gateway_the_client_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    bench.stop()
    bench.start(clients=1)
    if trouble == "socket":
        bench.relay._address = 9999, ()
        why = "Address family not supported by protocol"
    else:

        def refuse(sock: socket.socket) -> None:
            refused.append(sock)
            raise OSError("no such option")

        monkeypatch.setattr(module, "keep_alive", refuse)
        why = "no such option"
    refused: list[socket.socket] = []
    for number in 1, 2:
        with socket.create_connection(("127.0.0.1", bench.relay.port), PATIENCE_S) as client:
            assert client.recv(10) == b""
        until(lambda: bench.notes.events[-1] == ("closed", number, "server", f"cannot be reached: {why}"))  # noqa: B023
    assert all(sock.fileno() == -1 for sock in refused)
    assert not bench.relay._pairs


def test_a_gateway_that_does_not_answer_is_given_five_seconds(bench: Bench) -> None:
    bench.stop()
    with socket.socket() as busy, ExitStack() as stack:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(4):  # until the system takes no more
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(busy.getsockname())
        bench.relay = bench.start(target=busy.getsockname())
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", bench.relay.port))) for _ in range(2)]
        until(lambda: len(bench.notes.of("opened")) == 2)
        bench.wind(4.5)
        assert len(bench.notes.events) == 2
        bench.wind(0.6)
        why = "cannot be reached: no answer within 5 s"
        assert bench.notes.of("closed") == [("closed", 1, "server", why), ("closed", 2, "server", why)]
        for client in clients:
            client.settimeout(PATIENCE_S)
            with pytest.raises(ConnectionResetError):
                client.recv(10)


def fill(bench: Bench, number: int, sender: socket.socket, receiver: Side) -> int:
    """Send until the relay holds what it may for the receiver, and nothing more goes for a while. Returns how many
    bytes that were."""
    pair = next(pair for pair in set(bench.relay._pairs.values()) if pair.number == number)
    end = pair.client if receiver == "client" else pair.server
    sender.setblocking(False)
    sent, still = 0, time.monotonic()
    while len(end.out) < BUFFER_BYTES or time.monotonic() - still < 0.1:
        try:
            sent += sender.send(b"x" * 65536)
            still = time.monotonic()
        except BlockingIOError:
            time.sleep(0.002)
    return sent


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_side_that_takes_nothing_for_five_seconds_is_reported_once(bench: Bench, side: Side) -> None:
    quiet, _ = bench.connect()
    client, server = bench.connect()
    bench.wind(60.0)  # nothing waits for anybody
    sent = fill(bench, 2, server if side == "client" else client, side)
    bench.wind(4.9)
    assert not bench.notes.of("hung")
    bench.wind(0.2)
    bench.wind(60.0)
    assert bench.notes.of("hung") == [("hung", 2, side, True)]
    assert len(receive(client if side == "client" else server, sent)) == sent
    until(lambda: len(bench.notes.of("hung")) == 2)
    assert bench.notes.of("hung")[0] == ("hung", 2, side, False)
    bench.wind(60.0)
    assert len(bench.notes.of("hung")) == 2
    assert bench.notes.times[-1] == (bench.now or 0.0) - 60.0
    quiet.sendall(b"still here")


@pytest.mark.usefixtures("ticking")
def test_a_side_has_five_seconds_from_when_something_waits_for_it(bench: Bench) -> None:
    class Full:
        """A socket whose system has no room left, as that of a side that hung before."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def send(self, data: bytes) -> int:
            raise BlockingIOError

    _, server = bench.connect()
    (pair,) = set(bench.relay._pairs.values())
    pair.client.sock = Full(pair.client.sock)  # type: ignore[assignment]
    bench.wind(60.0)
    server.sendall(b"x")
    until(lambda: pair.client.out)
    bench.wind(4.9)
    assert not bench.notes.of("hung")
    bench.wind(0.2)
    assert bench.notes.of("hung") == [("hung", 1, "client", True)]


@pytest.mark.usefixtures("ticking")
def test_a_side_that_takes_little_at_a_time_does_not_hang(bench: Bench) -> None:
    client, server = bench.connect()
    (pair,) = set(bench.relay._pairs.values())
    pair.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the system takes it in parts
    fill(bench, 1, server, "client")
    for _ in range(12):
        passed = len(bench.notes.heard["server"])
        while len(bench.notes.heard["server"]) == passed:
            client.recv(4096)
        bench.wind(4.0)
    assert not bench.notes.of("hung")


@pytest.mark.usefixtures("ticking")
def test_a_side_that_has_vanished_is_dropped_if_something_waits_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [bench.connect() for _ in range(3)]
    fill(bench, 1, ends[0][0], "server")
    fill(bench, 2, ends[1][1], "client")
    monkeypatch.setattr(module, "vanished", lambda sock: True)
    bench.wind(1.0)
    why = "vanished without closing the connection"
    assert bench.notes.of("closed") == [("closed", 1, "server", why), ("closed", 2, "client", why)]
    with pytest.raises(ConnectionResetError):
        ends[0][0].recv(10)
    ends[2][0].sendall(b"still here")
    assert receive(ends[2][1], 10) == b"still here"


@pytest.mark.usefixtures("ticking")
def test_a_connection_of_which_one_side_has_gone_is_dropped_after_a_minute_of_silence(bench: Bench) -> None:
    ends = [bench.connect() for _ in range(4)]
    ends[0][0].shutdown(socket.SHUT_WR)
    ends[1][1].shutdown(socket.SHUT_WR)
    fill(bench, 4, ends[3][1], "client")  # the last client reads nothing, but both sides are there
    assert (ends[0][1].recv(1), ends[1][0].recv(1)) == (b"", b"")
    bench.wind(30.0)
    ends[1][0].sendall(b"not silent")
    assert receive(ends[1][1], 10) == b"not silent"
    bench.wind(29.5)
    assert not bench.notes.of("closed")
    bench.wind(1.0)
    why = "one side has gone, and the other neither takes nor sends anything"
    assert bench.notes.of("closed") == [("closed", 1, None, why)]
    with pytest.raises(ConnectionResetError):
        ends[0][0].recv(10)
    bench.wind(60.0)  # since the clock was wound last: the relay may have looked at it after it had passed the bytes on
    assert bench.notes.of("closed")[1:] == [("closed", 2, None, why)]
    ends[2][0].sendall(b"still here")
    assert receive(ends[2][1], 10) == b"still here"


def test_a_client_that_has_left_makes_room_for_another(bench: Bench) -> None:
    bench.stop()
    bench.start(clients=1)
    for number in (1, 2):
        for end in bench.connect():
            end.close()
        until(lambda: bench.notes.events[-1][:2] == ("closed", number))  # noqa: B023


@pytest.mark.usefixtures("ticking")
def test_without_descriptors_it_goes_on_with_the_clients_that_it_has(bench: Bench) -> None:
    class Exhausted:
        """The socket on which the relay listens, while the process has no descriptors left."""

        def __init__(self, sock: Any) -> None:
            self._sock = sock
            self.asked = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def accept(self) -> Any:
            self.asked += 1
            raise OSError(errno.EMFILE, "Too many open files")

    client, server = bench.connect()
    bench.wind(1.0)
    listener, listening = bench.relay._listener, bench.relay._listener._socket
    listener._socket = exhausted = Exhausted(listening)  # type: ignore[assignment]
    bench.open.append(socket.create_connection(("127.0.0.1", bench.relay.port), PATIENCE_S))
    until(lambda: exhausted.asked)
    for _ in range(3):
        client.sendall(b"still here")
        assert receive(server, 10) == b"still here"
    assert exhausted.asked == 1, "it is no use before a second has passed"
    listener._socket = listening
    bench.wind(1.0)
    until(lambda: ("reached", 2) in bench.notes.events)


def test_a_name_with_addresses_of_both_kinds_means_the_ipv4_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.stop()
    known = socket.getaddrinfo

    def of_both_kinds(host: str, port: int, *args: Any, **how: Any) -> list[Any]:
        other = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))
        return [*[other] * (port == bench.gateway.getsockname()[1]), *known(host, port, *args, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", of_both_kinds)
    bench.start()
    bench.connect()


def test_others_may_not_connect(bench: Bench) -> None:
    bench.stop()
    bench.start(allow=("192.0.2.0/24",))
    client = socket.create_connection(("127.0.0.1", bench.relay.port), PATIENCE_S)
    bench.open.append(client)
    with suppress(ConnectionError):
        assert client.recv(10) == b""
    assert bench.notes.events == []


@pytest.mark.usefixtures("hasty")
def test_a_client_that_hangs_holds_up_the_gateway_and_no_memory(bench: Bench) -> None:
    client, server = bench.connect()
    sent = fill(bench, 1, server, "client")
    assert sent < 12 << 20  # the system's buffers; the relay has one piece
    until(lambda: ("hung", 1, "client", True) in bench.notes.events)
    (pair,) = set(bench.relay._pairs.values())
    assert len(pair.client.out) <= BUFFER_BYTES

    other, others_server = bench.connect()
    other.sendall(b"hello")
    assert receive(others_server, 5) == b"hello"

    assert len(receive(client, sent)) == sent
    until(lambda: ("hung", 1, "client", False) in bench.notes.events)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("size", [1000, 200_000, 20_000_000])
def test_a_client_that_hangs_is_dropped_when_the_gateway_has_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """However much of what the gateway has sent is still on its way."""
    client, server = bench.connect()
    server.settimeout(0.1)
    with suppress(TimeoutError):
        server.sendall(b"x" * size)
    client.shutdown(socket.SHUT_WR)
    if size > 1_000_000:  # what the gateway's system still holds goes, too
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    clock = time.pthread_getcpuclockid(bench.thread.ident or 0)
    before = time.clock_gettime(clock)
    time.sleep(0.2)
    assert time.clock_gettime(clock) - before < 0.1, "it must not turn in circles"
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    until(lambda: any(event[0] == "closed" for event in bench.notes.events))


def test_a_name_that_does_not_exist_is_an_error() -> None:
    for name in "no-such-host.invalid", "x" * 64 + ".invalid":  # the second is longer than the tables of names allow
        relay = Relay("127.0.0.1", 0, (name, 1), Notes(), Complaints(logging.getLogger("relay"), time.monotonic))
        with pytest.raises(DeviceError, match=rf"^{name}: .+"):
            relay.open()
        relay.close()
        relay.close()
        relay.stop()
        assert relay._poll.closed


def test_the_end_of_the_relay_ends_all_connections(bench: Bench) -> None:
    client, server = bench.connect()
    bench.stop()
    assert client.recv(10) == server.recv(10) == b""
    assert bench.notes.events[-1] == ("closed", 1, None, "the proxy ends")
    assert select.select([client], [], [], 0)[0]
    bench.start()
