"""The NMEA 0183 driver on a virtual serial port: real pyserial, real thread, real database."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixgw import database
from fixgw.database import Database, Reading
from fixgw.drivers.nmea0183 import Plugin
from fixgw.errors import PluginFail
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import TcpBench, UdpBench
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.pty import VirtualPort

CAPTURES = Path(__file__).parents[1] / "captures" / "nmea0183"
SOURCE = "gps"


def framed(body: str) -> bytes:
    checksum = 0
    for character in body.encode():
        checksum ^= character
    return f"${body}*{checksum:02X}\r\n".encode()


def rmc(second: int, status: str = "A", latitude: str = "4807.038") -> bytes:
    return framed(f"GPRMC,1235{second:02},{status},{latitude},N,01131.324,E,022.4,084.4,230394,003.1,W")


def until(condition: Callable[[], object], what: str = "", seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def port() -> Iterator[VirtualPort]:
    with VirtualPort() as virtual:
        yield virtual


@pytest.fixture
def db() -> Iterator[Database]:
    """The packaged items, with their real tolerances."""
    db = packaged_database()
    before = database.current()
    database.bind(db)
    db.start()
    yield db
    db.stop()
    database.bind(before)


@pytest.fixture
def gps(db: Database, port: VirtualPort) -> Iterator[Plugin]:
    with running(port=port.path) as plugin:
        yield plugin


class running:
    """Start a plugin, and stop it at the end within a second."""

    def __init__(self, **options: Any) -> None:
        self.plugin = Plugin(SOURCE, options)

    def __enter__(self) -> Plugin:
        self.plugin.start()
        return self.plugin

    def __exit__(self, *exc: object) -> None:
        begin = time.monotonic()
        self.plugin.shutdown()
        assert time.monotonic() - begin < 1.0
        assert self.plugin._thread is not None
        assert not self.plugin._thread.is_alive()


def connect(gps: Plugin, port: VirtualPort) -> None:
    until(lambda: gps.connected and port.opened, "the port was not opened")


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_data_of_the_receiver_carries_the_source_of_the_connection(
    gps: Plugin, port: VirtualPort, db: Database
) -> None:
    connect(gps, port)
    port.write(rmc(19))
    until(lambda: db.read("TRACKM").good)
    assert db.read("LAT").value == pytest.approx(48.1173)
    assert db.read("GS").value == 22.4
    assert db.read("TIMEZ").value == "12:35:19"
    assert db.read("LAT").source == SOURCE
    until(lambda: gps.health() == "")
    assert gps.get_status()["used"] == 1
    assert gps.get_status()["fix"] == "good"


@pytest.mark.slow
def test_a_replay_is_marked_by_its_source(port: VirtualPort, db: Database) -> None:
    plugin = Plugin("gps", {"port": port.path})
    plugin.source = "sim/gps"
    plugin.start()
    try:
        connect(plugin, port)
        port.write(rmc(19))
        until(lambda: db.read("LAT").source == "sim/gps")
    finally:
        plugin.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("log", ["nmea-fuzzy-cases.log", "et-332.log"])
def test_every_position_of_a_capture_arrives_through_a_real_port(
    gps: Plugin, port: VirtualPort, db: Database, log: str
) -> None:
    seen: list[tuple[Any, Any]] = []

    def note(key: str, reading: Reading) -> None:
        seen.append((db.read("LAT").value, reading.value))

    db.subscribe("LONG", note)
    connect(gps, port)
    raw = (CAPTURES / log).read_bytes()
    for start in range(0, len(raw), 113):
        port.write(raw[start : start + 113])
        until(lambda: gps.counts["bytes"] == port.written, "bytes were lost")
    assert port.dropped == 0
    reports = [json.loads(line) for line in (CAPTURES / f"{log}.chk").read_text().splitlines() if line.startswith("{")]
    positions = [(r["lat"], r["lon"]) for r in reports if r["class"] == "TPV" and "lat" in r]
    assert len(positions) > 10
    for lat, lon in positions:
        assert any(abs(a - lat) < 1e-6 and abs(b - lon) < 1e-6 for a, b in seen), (lat, lon)


@pytest.mark.slow
def test_a_loss_of_the_fix_fails_position_speed_and_track_at_once(gps: Plugin, port: VirtualPort, db: Database) -> None:
    connect(gps, port)
    port.write(rmc(19))
    until(lambda: db.read("TRACKM").good)
    port.write(rmc(20, "V"))
    until(lambda: db.read("GPS_FIX_TYPE").value == 1)
    for key in ("LAT", "LONG", "GS", "TRACK", "TRACKM"):
        assert db.read(key).fail
        assert db.read(key).reason(database.FAIL) == "no fix"
    assert db.read("TIMEZ").good
    assert gps.health() == "no fix"
    port.write(rmc(21))
    until(lambda: db.read("TRACKM").good)
    assert db.read("LAT").good


@pytest.mark.slow
def test_the_items_of_a_silent_receiver_age_and_health_says_so(gps: Plugin, port: VirtualPort, db: Database) -> None:
    gps.patience_s = 0.3  # type: ignore[misc]
    connect(gps, port)
    port.write(rmc(19))
    until(lambda: db.read("GS").good)
    assert not db.read("GS").old
    until(lambda: gps.health() == "no data")
    until(lambda: db.read("GS").old, "GS has a tolerance of 2 s")
    assert not db.read("GS").fail


@pytest.mark.slow
def test_the_flag_of_an_annunciator_is_not_touched(gps: Plugin, port: VirtualPort, db: Database) -> None:
    connect(gps, port)
    port.write(rmc(19))
    until(lambda: db.read("GS").good)
    db.item("GS").flag(database.ANNUNCIATE, database.ANNUNCIATE)
    port.write(rmc(20))
    until(lambda: db.read("TIMEZS").value == 20)
    assert db.read("GS").annunciate


@pytest.mark.slow
def test_a_receiver_without_a_fix_does_not_fail_the_value_of_another_source(
    gps: Plugin, port: VirtualPort, db: Database
) -> None:
    db.write("LAT", 1.0, "other")
    connect(gps, port)
    port.write(rmc(20, "V"))
    until(lambda: gps.counts["used"] == 1 and db.read("GPS_FIX_TYPE").value == 1)
    assert db.read("LAT").good


@pytest.mark.slow
def test_keys_that_the_database_lacks_are_skipped(port: VirtualPort) -> None:
    before = database.current()
    small = Database([database.Definition(key="LAT"), database.Definition(key="GS", type="bool")])
    database.bind(small)
    try:
        with running(port=port.path) as gps:
            connect(gps, port)
            port.write(rmc(19))
            until(lambda: small.read("LAT").value != 0 and gps.counts.get("misfits"))
            assert gps.is_running()
    finally:
        database.bind(before)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_garbage_is_counted_and_logged_once(
    gps: Plugin, port: VirtualPort, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    connect(gps, port)
    with caplog.at_level(logging.WARNING):
        for n in range(50):
            port.write(rmc(19).replace(b"4807", b"4817") + bytes(range(128, 256)))
            until(lambda n=n: gps.counts["bad checksum"] == n + 1)  # type: ignore[misc]
    assert len([r for r in caplog.records if "refused" in r.message]) == 1
    assert db.read("LAT").stamp == database.NEVER
    port.write(rmc(20))
    until(lambda: db.read("LAT").good)


@pytest.mark.slow
def test_health_names_a_wrong_baud_rate(port: VirtualPort, db: Database) -> None:
    with running(port=port.path, baud=4800) as gps:
        gps.patience_s = 0.1  # type: ignore[misc]
        connect(gps, port)
        until(lambda: port.write(b"\x80\xf8\x00junk") and "check the baud rate" in gps.health())
        assert gps.health() == "only garbage at 4800 baud: check the baud rate"


@pytest.mark.slow
def test_automatic_baud_tries_rates_until_the_data_is_valid(gps: Plugin, port: VirtualPort, db: Database) -> None:
    gps.patience_s = 0.05  # type: ignore[misc]
    connect(gps, port)
    seen = set()

    def rate(data: bytes) -> object:
        port.write(data)
        assert gps.port is not None
        seen.add(gps.port.baudrate)
        return gps.get_status()["baud"]

    until(lambda: rate(b"\x80\xf8") and len(seen) == 6)
    assert seen == {4800, 9600, 19200, 38400, 57600, 115200}
    gps.patience_s = 60.0  # type: ignore[misc]
    until(lambda: rate(rmc(19)) and gps.counts["used"])  # the first may be lost with a change of the rate
    stays = gps.get_status()["baud"]
    for second in range(20, 40):
        assert rate(b"\x80" + rmc(second)) == stays


@pytest.mark.slow
def test_a_flood_at_ten_times_the_fastest_rate_ends_with_the_latest_value(
    gps: Plugin, port: VirtualPort, db: Database
) -> None:
    connect(gps, port)
    flood = b"".join(rmc(second % 60) for second in range(30)) + b"\xffjunk$"
    begin = time.monotonic()
    while time.monotonic() - begin < 1.0:
        port.write(flood)  # what does not fit the buffer is lost, as on a UART
        time.sleep(len(flood) / 115200)
    until(lambda: gps.counts["bytes"] == port.written)
    assert gps.counts["used"] > 100
    port.write(b"\r\n" + rmc(59, latitude="1234.500"))
    until(lambda: db.read("LAT").value == pytest.approx(12.575))
    assert gps.is_running()


# -- the device --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_device_that_is_missing_at_the_start_is_found_later(port: VirtualPort, db: Database) -> None:
    port.unplug()
    with running(port=port.path) as gps:
        until(lambda: "no such device" in gps.health())
        assert gps.running
        port.plug()
        connect(gps, port)
        port.write(rmc(19))
        until(lambda: db.read("LAT").good)
        until(lambda: gps.health() == "")


@pytest.mark.slow
def test_an_unplugged_device_fails_its_items_and_works_again_when_it_is_back(
    gps: Plugin, port: VirtualPort, db: Database
) -> None:
    for round_ in range(2):
        connect(gps, port)
        port.write(rmc(19 + round_))
        until(lambda: db.read("LAT").good and db.read("TIMEZ").good)
        port.unplug()
        until(lambda: db.read("LAT").fail and db.read("TIMEZ").fail)
        assert db.read("LAT").reason(database.FAIL).endswith("went away")
        assert not gps.connected
        until(lambda: "no such device" in gps.health())
        port.plug()


@pytest.mark.slow
def test_waiting_for_a_missing_device_costs_almost_nothing(port: VirtualPort, db: Database) -> None:
    port.unplug()
    with running(port=port.path) as gps:
        until(lambda: "no such device" in gps.health())
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.25
        assert gps.counts["failed attempts"] < 5


@pytest.mark.slow
@pytest.mark.parametrize("state", ["missing", "silent", "busy", "pulled"])
def test_a_stop_takes_less_than_a_second_in_every_state(port: VirtualPort, db: Database, state: str) -> None:
    if state == "missing":
        port.unplug()
    stop = threading.Event()
    with running(port=port.path) as gps:  # which checks the time
        if state == "missing":
            until(lambda: "no such device" in gps.health())
        else:
            connect(gps, port)
        if state == "pulled":
            port.unplug()
        if state == "busy":
            thread = threading.Thread(target=lambda: [port.write(rmc(19)) for _ in iter(stop.is_set, True)])
            thread.start()
            until(lambda: gps.counts["used"] > 10)
    stop.set()
    if state == "busy":
        thread.join()


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_host_that_does_not_answer(db: Database) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        clients = []
        try:
            for _ in range(3):  # fill the queue: further connections hang
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(full.getsockname())
                clients.append(client)
            with running(port=f"socket://127.0.0.1:{full.getsockname()[1]}"):
                time.sleep(0.2)
        finally:
            for client in clients:
                client.close()


@pytest.mark.slow
def test_a_port_can_be_a_socket(db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        with running(port=f"socket://127.0.0.1:{server.getsockname()[1]}") as gps:
            for second in (19, 20):
                connection, _ = server.accept()
                with connection:
                    until(lambda: gps.connected)
                    connection.sendall(rmc(second) * 100)
                    until(lambda s=second: db.read("TIMEZS").value == s)  # type: ignore[misc]
                until(lambda: db.read("LAT").fail, "the end of the connection was not noticed")


@pytest.mark.slow
def test_a_port_in_use_by_another_program_is_reported(gps: Plugin, port: VirtualPort, db: Database) -> None:
    connect(gps, port)
    with running(port=port.path) as second:
        until(lambda: "in use by another program" in second.health())


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"port": ""}, {"port": 3}, {"port": "/dev/x", "baud": "fast"}, {"port": "/dev/x", "baud": 1}, {"prot": "x"}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Plugin("gps", options)


def test_an_unknown_kind_of_url_is_a_configuration_problem(db: Database) -> None:
    def problems(port: str) -> list[str]:
        return [message for _, message in Plugin.check(Plugin("gps", {"port": port}).options, db)]

    assert problems("/dev/ttyUSB7") == []
    assert problems("socket://localhost:4711") == []
    assert "protocol 'sockte' not known" in problems("sockte://localhost:4711")[0]


def test_a_stop_without_a_start_is_harmless(db: Database) -> None:
    try:
        Plugin("gps", {"port": "/dev/x"}).shutdown()
    except PluginFail:  # pragma: no cover
        pytest.fail("nothing was running")


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.nmea0183",
        Gps,
        "LAT LONG GS TRACK TRACKM TALT GPS_SATS_TRACKED TIMEZ",
        within={"GS": 0.1},
        absurd={"LAT": 95.0},
        repeats=True,
    )


class TestContractOverTcp(Contract):
    subject = replace(TestContract.subject, bench=TcpBench)


class TestContractOverUdp(Contract):
    subject = replace(TestContract.subject, bench=UdpBench)
