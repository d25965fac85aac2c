"""Instruments over a network: the link in status, health and check, and links that recover."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration, database
from fixgw.database import Database
from fixgw.drivers import nmea0183, nmea0183_out
from fixgw.drivers.links.can.bus import check, open_tap
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.serial import NetworkOptions, NetworkPort, SerialOptions, SerialPoller
from fixgw.net import tcp
from tests.drivers.bus_bench import until

pytestmark = pytest.mark.slow


class Near(NetworkOptions, frozen=True, kw_only=True):
    port: NetworkPort = 4000


class Ear(SerialPoller):
    """Keeps all lines; a line that begins with ``ok`` is valid."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__(name, config)
        self.heard_all = b""

    def received(self, data: bytes) -> bool:
        self.heard_all += data
        return data.startswith(b"ok")


@pytest.fixture(autouse=True)
def db() -> Iterator[Database]:
    before = database.current()
    database.bind(Database())
    yield database.current()
    database.bind(before)


@contextmanager
def listening(port: str, **options: Any) -> Iterator[Ear]:
    ear = Ear("ear", {"port": port, **options})
    ear.start()
    try:
        yield ear
    finally:
        begin = time.monotonic()
        ear.shutdown()
        assert time.monotonic() - begin < 1.0


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("scheme", ["tcp", "socket"])
def test_the_link_reconnects_to_a_restarted_server(scheme: str) -> None:
    number = free_port(socket.SOCK_STREAM)
    with listening(f"{scheme}://127.0.0.1:{number}", baud=9600) as ear:
        until(
            lambda: ear.health() == f"{scheme}://127.0.0.1:{number}: Connection refused",
            "the server is missing, and health does not say so",
        )
        for part in (b"ok1", b"ok2"):
            with socket.create_server(("127.0.0.1", number)) as server:
                server.settimeout(20)
                connection, _ = server.accept()
                with connection:
                    connection.sendall(part)
                    until(lambda wanted=part: ear.heard_all.endswith(wanted))  # type: ignore[misc]
                    until(lambda: ear.health() == "")
                    assert ear.get_status()["link"] == f"TCP connection to 127.0.0.1:{number}"
            until(lambda: not ear.connected, "the end of the connection was not noticed")
        until(lambda: ear.counts["outages"] == 3)
        assert ear.get_status()["link"] == "none"


def test_a_connection_works_both_ways_and_is_kept_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        with listening(f"tcp://127.0.0.1:{server.getsockname()[1]}") as ear:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                until(lambda: ear.connected)
                assert ear.port is not None
                assert ear.port._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
                assert ear.send(b"hello") == 5
                assert connection.recv(5) == b"hello"
                while ear.send(b"x" * 65536):
                    pass
                assert ear.send(b"x") == 0, "it must not wait for a peer that does not read"


def test_datagrams_of_one_host_are_accepted_and_silence_is_reported() -> None:
    number = free_port(socket.SOCK_DGRAM)
    with listening(f"udp://127.0.0.1:{number}") as ear, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        until(lambda: ear.health() == "no data")
        assert "no datagram yet" in ear.get_status()["link"]
        sender.sendto(b"ok", ("127.0.0.1", number))
        until(lambda: ear.health() == "")
        assert ear.heard_all == b"ok"
        assert ear.get_status()["link"] == "UDP datagrams from 127.0.0.1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.2", 0))
            other.sendto(b"no", ("127.0.0.1", number))
        until(lambda: ear.counts.get("datagrams of other hosts") == 1)
        assert ear.heard_all == b"ok"
        assert ear.send(b"x") == 0
        ear.patience_s = 0.05  # type: ignore[misc]
        until(lambda: ear.health() == "no data")


def test_the_health_says_that_two_programs_send_by_turns() -> None:
    number = free_port(socket.SOCK_DGRAM)
    with listening(f"udp://127.0.0.1:{number}") as ear, ExitStack() as stack:
        first, second = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for n, program in enumerate((first, second, first), 1):
            until(lambda: ear.connected)
            program.sendto(b"ok", ("127.0.0.1", number))
            until(lambda n=n: ear.heard_all == b"ok" * n)  # type: ignore[misc]
        until(lambda: ear.health() == "two programs send by turns: their values mix")


def test_a_flood_of_another_host_does_not_crowd_out_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system keeps only some hundred datagrams for us: a pause between reads would lose the sender's."""
    number = free_port(socket.SOCK_DGRAM)
    ear = Ear("ear", {"port": f"udp://127.0.0.1:{number}"})
    ear.open()
    paused: list[float] = []
    monkeypatch.setattr(ear.stopping, "wait", lambda seconds: paused.append(seconds))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.2", 0))
        sender.sendto(b"ok 1", ("127.0.0.1", number))
        ear.poll(1.0)
        for _ in range(130):
            other.sendto(b"no", ("127.0.0.1", number))
        sender.sendto(b"ok 2", ("127.0.0.1", number))
        for _ in range(3):
            ear.poll(1.0)
    ear.close()
    assert ear.heard_all == b"ok 1ok 2"
    assert sum(paused) < 0.025, "at 10,000 a second there would be more than the system keeps"


def test_garbage_over_a_network_is_not_blamed_on_the_baud_rate() -> None:
    number = free_port(socket.SOCK_DGRAM)
    with listening(f"udp://127.0.0.1:{number}") as ear, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        ear.patience_s = 0.3  # type: ignore[misc]

        def garbage() -> bool:
            sender.sendto(b"xx", ("127.0.0.1", number))
            return ear.health() == "only garbage: is this the right instrument?"

        until(garbage)
        assert "baud" not in ear.get_status()


def test_a_udp_port_in_use_by_another_program_is_reported() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with listening(f"udp://127.0.0.1:{taken.getsockname()[1]}") as ear:
            until(lambda: "in use" in ear.health())


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("tcp://10.0.0.1:4001", ""),
        ("udp://0.0.0.0:4000", ""),
        ("udp://239.1.2.3:4000", ""),
        ("tcp://gps.local:4001", ""),
        ("tcp://gps.local", "no port"),
        ("udp://:4000", "no host"),
        ("socket://300.1.1.1:80", "neither an address nor a host name"),
    ],
)
def test_urls_are_checked(db: Database, port: str, said: str) -> None:
    problems = list(SerialPoller.check(SerialOptions(port=port, baud=4800), db))
    assert [option for option, _ in problems] == (["port"] if said else [])
    assert said in "".join(message for _, message in problems)
    assert len(list(SerialPoller.claims(SerialOptions(port=port)))) == (port.startswith("udp") and not said)
    if not said:
        assert list(SerialPoller.preflight(SerialOptions(port=port))) == []


def test_two_connections_on_one_udp_port_are_reported(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text(
        "connections:\n"
        "  a: {module: fixgw.drivers.nmea0183, port: 'udp://0.0.0.0:4000'}\n"
        "  b: {module: fixgw.drivers.eis, port: 'UDP://239.1.2.3:4000'}\n"
        "  c: {module: fixgw.drivers.nmea0183_out, port: 'udp://10.0.0.1:4000'}\n"
    )
    problems = [str(problem) for problem in configuration.check(tmp_path / "main.yaml")]
    assert [("UDP port 4000 is already used by connection 'a'" in problem) for problem in problems] == [True]


def test_an_output_can_send_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        plugin = nmea0183_out.Plugin(
            "out", {"port": f"tcp://127.0.0.1:{server.getsockname()[1]}", "sentences": {"HDM": 20}}
        )
        plugin.start()
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                assert connection.recv(6) == b"$GPHDM"
        finally:
            plugin.shutdown()


def test_an_instrument_without_a_network_needs_no_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    plugin = nmea0183.Plugin("gps", {"port": f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"})
    plugin.start()
    try:
        until(lambda: plugin.connected)
    finally:
        plugin.shutdown()


def test_a_can_adapter_can_be_on_a_network() -> None:
    heard: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        tap = open_tap(BusOptions(interface="slcan", channel=url, bitrate=250000), heard.extend)
        try:
            connection, _ = server.accept()
            with connection:
                until(lambda: tap.bus.connected)
                connection.sendall(b"t1832AB01\r")
                until(lambda: heard)
                assert heard[0].data == b"\xab\x01"
            until(lambda: not tap.bus.connected)
            assert "tcp://" in tap.bus.health()
        finally:
            tap.close()
    assert [option for option, _ in check(BusOptions(interface="slcan", channel="tcp://x", bitrate=250000))] == [
        "channel"
    ]


@pytest.mark.parametrize("scheme", ["tcp", "socket"])
def test_a_server_that_vanishes_without_a_word_is_connected_to_again(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Lose the power or the network: nothing is sent, so nothing is missing."""
    monkeypatch.setattr(tcp, "KEEPALIVE_IDLE_S", 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        listening(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", baud=9600) as ear,
    ):
        server.settimeout(20)
        connection, _ = server.accept()
        connection.sendall(b"ok1")
        until(lambda: ear.heard_all == b"ok1")
        time.sleep(0.2)  # until it has been acknowledged
        try:
            connection.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: closed without FIN or RST
        except PermissionError:
            pytest.skip("only root may make a connection vanish")
        finally:
            connection.close()
        again, _ = server.accept()
        with again:
            again.sendall(b"ok2")
            until(lambda: ear.heard_all == b"ok1ok2")


def test_a_port_number_is_one_of_a_host() -> None:
    assert Near().url == "udp://127.0.0.1:4000"
    assert Near(host="::1", port=5).url == "udp://[::1]:5"
    assert Near(port="/dev/ttyUSB0").url == "/dev/ttyUSB0"
    assert list(SerialPoller.claims(Near())) == [("UDP port 4000", "port")]
    problems = dict(SerialPoller.check(Near(host="a b", allow=("10.0.0.0/8", "home")), Database()))
    assert sorted(problems) == ["allow.1", "port"]
