"""Benches of drivers that hand on what others say: what counts is what arrives at the other end."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.devices import DEVICES, look
from fixgw.hw_sim.can.faults import Station
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.devices.autopilot import Autopilot
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import PluginBase
from tests.contract.bench import CanBench, SerialBench, Subject, until
from tests.contract.pins import LookedAtBench


class CanFixNode(CanInstrument):
    """One of the virtual CAN-FIX nodes, as an instrument."""

    NAME = "engine"
    RATE = 40.0

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment)
        self.station = Station(DEVICES[self.NAME]())

    def frames(self, aircraft: Aircraft, now: float) -> list[SimFrame]:
        return self.station.due(now, look(aircraft))


class CanFixBench(CanBench):
    """A node among others that may come and go: the driver complains about none that is missing."""

    CAN = frozenset({"late", "vanish", "exchange", "silence"})
    expects = False
    wound = False

    def half_a_frame(self) -> None:
        self.adapter.tell(b"t2018AABB")

    def other_half(self) -> None:
        """It may say anything."""

    def refused(self) -> int:
        """It takes what fits the wire; the database then says that it is out of range."""
        return sum(self.db.read(key).bad for key in self.subject.absurd)

    def counters_add_up(self) -> None:
        """They are its own tests' affair."""


class AutopilotBench(LookedAtBench):
    """A listener on a pseudo-terminal; the database has the aircraft's position from a receiver."""

    CAN = frozenset({"late", "vanish"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = Autopilot(self.port)

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path}

    def act(self) -> None:
        for key, value in self.aircraft.values().items():
            if key in self.db and not self.db.item(key).definition.setting:
                self.db.write(key, value, "gps")
        super().act()

    def good(self) -> bool:
        assert self.device.complaints == []
        return self.device.position(self.clock.now) is not None and not self.plugin.health()

    def pull(self) -> None:
        self.port.unplug()

    def plug(self) -> None:
        self.port.plug()
        until(lambda: self.plugin.connected)

    def close(self) -> None:
        super().close()
        self.port.close()


class BytesBench(SerialBench):
    """A serial bridge with a client on the network; good is while the client gets what the device sends."""

    CAN = frozenset({"late", "vanish"})

    def other_half(self) -> None:
        """Every byte is handed on."""

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


class BridgeBench(CanBench):
    """A CAN bridge from the device's bus to another; good is while frames arrive there."""

    CAN = frozenset({"late", "vanish"})

    def other_half(self) -> None:
        """Every frame is handed on."""

    def __init__(self, subject: Subject) -> None:
        self._fresh = float("-inf")
        self._far = Segment()
        self._far_adapter = VirtualSlcan(self._far)
        super().__init__(subject)
        self._far.attach("listener", self._arrived)

    def _connected(self) -> None:
        super()._connected()
        until(lambda: self._far_adapter.opened, "the driver does not open the other adapter")

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
