"""The driver with another MAVLink stack, the autopilot side of MAVSDK: its callback for arming must never be called."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from fixgw import loader, state
from fixgw.drivers.mavlink.frames import Framer, build
from fixgw.drivers.mavlink.messages import BY_NAME
from fixgw.drivers.mavlink.modes import REQUESTABLE
from fixgw.hw_sim.bench.base import packaged_database, until
from fixgw.world import World

pytestmark = pytest.mark.slow

mavsdk = pytest.importorskip("mavsdk")

CALLBACKS = ("arm_disarm", "reboot", "shutdown", "terminate", "takeoff", "land")


def frame(name: str, system: int, component: int, **fields: float) -> bytes:
    message = BY_NAME[name]
    return build(message, message.encode(fields), system, component, 0)


class Between:
    """Carries datagrams between MAVSDK and the gateway. MAVSDK is no ArduPlane, so its heartbeats are replaced by those
    of an armed one in the mode that it was last told."""

    def __init__(self, gateway_port: int) -> None:
        self.inner, self.outer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.inner, self.outer):
            each.bind(("127.0.0.1", 0))
            each.settimeout(0.05)
        self.outer.connect(("127.0.0.1", gateway_port))
        self.port = self.inner.getsockname()[1]
        self.mode = 0
        #: Messages and commands that the gateway sent, and commands that MAVSDK acknowledged.
        self.sent: set[tuple[str, int]] = set()
        self.acknowledged: set[int] = set()
        self._autopilot: Any = None
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._inward, self._outward)]
        for thread in self._threads:
            thread.start()

    def arm(self) -> None:
        """Tell MAVSDK to arm, which the gateway never does."""
        arming = {"command": 400, "param1": 1.0, "target_system": 1, "target_component": 1}
        self.inner.sendto(frame("COMMAND_LONG", 255, 190, **arming), self._autopilot)

    def _outward(self) -> None:
        framer = Framer()
        while not self._stopping.is_set():
            with suppress(TimeoutError, ConnectionRefusedError):
                data, self._autopilot = self.inner.recvfrom(2048)
                for found in framer.feed(data):
                    if found.message is not None and found.message.name == "COMMAND_ACK":
                        self.acknowledged.add(found.message.decode(found.payload)["command"])
                    if found.id == 0:
                        plane = {
                            "type": 1,
                            "autopilot": 3,
                            "base_mode": 0xD1,
                            "system_status": 4,
                            "custom_mode": self.mode,
                        }
                        data = frame("HEARTBEAT", 1, 1, **plane)
                self.outer.send(data)

    def _inward(self) -> None:
        framer = Framer()
        while not self._stopping.is_set():
            with suppress(TimeoutError, ConnectionRefusedError):
                data = self.outer.recv(2048)
                for found in framer.feed(data):
                    assert found.message is not None
                    fields = found.message.decode(found.payload)
                    self.sent.add((found.message.name, fields.get("command", 0)))
                    if fields.get("command") == 176:
                        self.mode = int(fields["param2"])
                self.inner.sendto(data, self._autopilot)

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.inner.close()
        self.outer.close()


@pytest.fixture
def between() -> Iterator[tuple[Between, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    link = Between(port)
    yield link, port
    link.close()


def test_mavsdk_is_read_and_obeys_but_is_never_armed(between: tuple[Between, int]) -> None:
    from mavsdk.plugins.action_server.action_server import ActionServer  # type: ignore[import-untyped]
    from mavsdk.plugins.telemetry_server import telemetry_server  # type: ignore[import-untyped]

    link, port = between
    db = packaged_database()
    with World(db).hosting(), state.detached():
        plugin: Any = loader.load_plugin("fixgw.drivers.mavlink")(
            "mav", {"type": "udp", "port": port, "write": ["trims", "modes", "waypoint"]}
        )
    plugin.start()
    autopilot = mavsdk.Mavsdk(mavsdk.Configuration.create_with_component_type(mavsdk.ComponentType.AUTOPILOT))
    try:
        autopilot.add_any_connection(f"udpout://127.0.0.1:{link.port}")
        component = autopilot.server_component_by_type(mavsdk.ComponentType.AUTOPILOT)
        actions, telemetry = ActionServer(component), telemetry_server.TelemetryServer(component)
        called: list[str] = []
        for name in CALLBACKS:
            getattr(actions, f"subscribe_{name}")(lambda *told, name=name: called.append(name))
        actions.set_armable(True, True)
        actions.set_disarmable(True, True)

        attitude = telemetry_server.EulerAngle(5.0, 2.0, 90.0, 0)
        rates = telemetry_server.AngularVelocityBody(0.0, 0.0, 0.0)
        place = telemetry_server.Position(44.0, -88.5, 1000.0, 700.0)
        speed, heading = telemetry_server.VelocityNed(0.0, 50.0, 0.0), telemetry_server.Heading(90.0)

        published_at = float("-inf")

        def flies(condition: Any) -> Any:
            def check() -> bool:
                nonlocal published_at
                if time.monotonic() - published_at > 0.02:  # more often is a flood, which would hide its heartbeats
                    published_at = time.monotonic()
                    telemetry.publish_attitude(attitude, rates)
                    with suppress(telemetry_server.TelemetryServerError):
                        telemetry.publish_position(place, speed, heading)
                return bool(condition())

            return check

        until(flies(lambda: db.read("MAVSTATE").value == "ARMED" and db.read("LAT").good), "it is not heard")
        assert db.read("ROLL").value == pytest.approx(5.0, abs=1e-5)
        assert db.read("LAT").value == pytest.approx(44.0, abs=1e-6)
        assert db.read("TALT").value == pytest.approx(1000.0 / 0.3048, abs=0.1)
        assert db.read("TRACK").value == pytest.approx(90.0)

        for key in ("TRIMP", "TRIMR", "TRIMY"):
            db.write(key, 100.0, "panel", flags=0)
        until(flies(lambda: ("MANUAL_CONTROL", 0) in link.sent), "no trims")
        db.write("WPLAT", 44.1, "gps", flags=0)
        db.write("WPLON", -88.2, "gps", flags=0)
        for mode in ("CRUISE", "GUIDED"):
            db.write(f"MAVREQ{mode}", True, "panel", flags=0)
            until(flies(lambda mode=mode: db.read("MAVMODE").value == mode), f"no {mode}")
        db.write("MAVREQADJ", True, "panel", flags=0)
        until(flies(lambda: ("COMMAND_INT", 192) in link.sent), "no waypoint")
        until(flies(lambda: {511, 176} <= link.acknowledged), "MAVSDK does not understand our commands")
        for mode in REQUESTABLE:
            db.write(f"MAVREQ{mode}", True, "panel", flags=0)
        until(flies(lambda: not any(db.read(f"MAVREQ{mode}").value for mode in REQUESTABLE)))
        assert called == []
        assert {name for name, _ in link.sent} <= {
            *("HEARTBEAT", "COMMAND_LONG", "COMMAND_INT", "MANUAL_CONTROL", "REQUEST_DATA_STREAM")
        }
        assert {command for _, command in link.sent} <= {0, 511, 176, 192}

        link.arm()
        until(lambda: "arm_disarm" in called, "the callback for arming does not work")
    finally:
        plugin.shutdown()
        autopilot.destroy()
