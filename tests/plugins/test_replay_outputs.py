"""A replayed value does not leave the gateway as a real one: not on a CAN bus, not as NMEA, not to the settings."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import can
import pytest

from fixgw import configuration, database
from fixgw.gateway import Gateway
from fixgw.netfix import Client
from fixgw.recording import incumbent

pytestmark = pytest.mark.slow

CONFIGURATION = """
connections:
  netfix: {module: fixgw.plugins.netfix, port: 0}
  replay: {module: fixgw.plugins.replay, files: flight.json, loop: yes, utc_offset: 0}
  bus: {module: fixgw.drivers.canfix, interface: virtual, channel: replayed, mapfile: map.yaml}
  autopilot: {module: fixgw.drivers.nmea0183_out, port: "udp://127.0.0.1:%d", sentences: {RMC: 20, HDM: 20}}
"""
MAP = """
outputs:
  - {fixid: IAS, canid: 0x183, owner: yes}
  - {fixid: ALT, canid: 0x184, owner: yes}
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_replayed_values_do_not_pass_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(10)
    flight = {"IAS": (100.0, 0), "LAT": (48.0, 0), "LONG": (11.0, 0), "HEAD": (90.0, 0), "BARO": (30.5, 0)}
    lines = [incumbent.header(datetime(2026, 5, 16), 100), *[incumbent.line(flight)] * 50]
    (tmp_path / "flight.json").write_bytes(b"".join(lines))
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "default.yaml").write_text(CONFIGURATION % receiver.getsockname()[1])
    before = database.current()
    other = can.Bus("replayed", interface="virtual", ignore_config=True)
    gateway = Gateway(configuration.load(tmp_path / "default.yaml"))
    gateway.start()
    thread = threading.Thread(target=gateway.run_forever, args=(False,))
    thread.start()
    client = Client("127.0.0.1", gateway.runners["netfix"].plugin.port)  # type: ignore[union-attr]
    try:
        until(lambda: gateway.database.read("IAS").value == 100.0)
        until(lambda: gateway.database.read("LAT").good)
        heard: set[int] = set()

        def hears_real_altitude() -> bool:
            gateway.database.write("ALT", 5000.0, "static")
            while (message := other.recv(0)) is not None:
                if message.data[2:3] < b"\x10":  # the value, not one of its limits
                    heard.add(message.arbitration_id)
            return 0x184 in heard

        until(hears_real_altitude)
        assert 0x183 not in heard
        for _ in range(4):
            sentence = receiver.recv(1000)
            if sentence.startswith(b"$GPRMC"):
                assert sentence.split(b",")[2:7] == [b"V", b"", b"", b"", b""]
            assert b"90.0" not in sentence
        client.connect()
        assert client.explain("IAS")["source"] == "replay/replay"
        assert gateway.database.read("BARO").source == "replay/replay"
    finally:
        client.disconnect()
        gateway.request_stop()
        thread.join(10)
        other.shutdown()
        receiver.close()
        database.bind(before)
    assert "30.5" not in "".join(path.read_text() for path in (tmp_path / "state").glob("settings*"))
