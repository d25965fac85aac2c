"""Benches of instruments that send unasked, on a serial line or a CAN bus."""

from __future__ import annotations

import time
from typing import Any

from fixgw.hw_sim.bench.base import Subject, WiredBench, until
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugin import PluginBase


class SerialBench(WiredBench):
    """An instrument on a pseudo-terminal; the subject's `device` creates a `SerialInstrument` for a line."""

    CAN = frozenset({"late", "vanish", "exchange", "wire", "garbage", "flip", "flood", "silence", "baud", "counters"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = subject.device(self.port)
        self._stranger = False
        self._written = 0

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path, "baud": self.device.BAUD}

    def start(self) -> PluginBase:
        plugin = super().start()
        self._connected()
        return plugin

    def _connected(self) -> None:
        """Wait for the driver to open the port, which empties its buffer."""
        if self.port.plugged:
            until(lambda: self.plugin.connected, "the driver does not open the port")
            self._written = self.port.written - self.plugin.counts["bytes"]

    def act(self) -> None:
        if self._stranger:
            self.port.write(b"Debian GNU/Linux 12 raspberrypi ttyUSB0\r\n\r\nraspberrypi login: \r\n")
        else:
            self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        return bool(self.port.written - self._written <= self.plugin.counts["bytes"]) if self.plugin else True

    def unplug(self) -> None:
        self.port.unplug()
        if self.plugin is not None:
            until(lambda: not self.plugin.connected, "the driver does not notice the loss of the device")

    def plug(self) -> None:
        self.port.plug()
        self._connected()

    def exchange(self) -> None:
        self._stranger = True

    def half_a_frame(self) -> None:
        frame = self.device.frames(self.aircraft, self.clock.now)[0]
        self.port.write(frame[: len(frame) // 2])
        self._rest = frame[len(frame) // 2 :]
        until(self.taken)

    def other_half(self) -> None:
        used = self.plugin.counts["used"]
        self.port.write(self._rest)
        until(self.taken)
        assert self.plugin.counts["used"] == used, (
            "a frame joined from two halves, before and after the outage, is trusted"
        )

    def hurry(self) -> None:
        self.device.baud *= 10

    def hammer(self) -> None:
        self.port.write(b"".join(self.device.frames(self.aircraft, self.clock.now)))

    def close(self) -> None:
        super().close()
        self.device.close()


class CanBench(WiredBench):
    """An instrument on a CAN bus behind an slcan adapter; the `device` creates a `CanInstrument` on a segment."""

    # The CAN bus has its own checksums, so no bit is ever wrong. But an instrument can send too few bytes.
    CAN = frozenset({"late", "vanish", "exchange", "wire", "flood", "silence", "counters"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.segment = Segment()
        self.adapter = VirtualSlcan(self.segment)
        self.port = self.adapter.port
        self.device = subject.device(self.segment)
        self._watch = self.segment.attach("watch", self._delivered)
        self._stranger = self.segment.attach("stranger")
        self._strange = False
        self._seen = self._from_driver = self._for_driver = self._base = 0

    def _delivered(self, frame: SimFrame) -> None:
        if self.adapter.sent > self._from_driver:  # the segment counts a frame before it delivers it
            self._from_driver += 1
            return
        self._seen += 1
        self._for_driver += self.adapter.opened

    def options(self) -> dict[str, Any]:
        return {"interface": "slcan", "channel": self.adapter.path, "bitrate": self.device.BITRATE}

    def start(self) -> PluginBase:
        plugin = super().start()
        self._connected()
        return plugin

    def _connected(self) -> None:
        if self.port.plugged:
            until(lambda: self.connected and self.adapter.opened, "the driver does not open the adapter")
            self._for_driver, self._base = 0, self._received()

    @property
    def connected(self) -> bool:
        return bool(self.plugin.taps[0].bus.connected)

    def _received(self) -> int:
        received: int = self.plugin.taps[0].bus.get_status()["received"]
        return received

    def act(self) -> None:
        if self._strange:
            self._stranger.send(SimFrame(0x123, b"not ours"))
        else:
            self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        if self._seen < self.device.sent + self._stranger.sent:
            return False
        return self.plugin is None or self._received() - self._base >= self._for_driver - self.adapter.overruns

    def unplug(self) -> None:
        self.adapter.unplug()
        if self.plugin is not None:
            until(lambda: not self.connected, "the driver does not notice the loss of the adapter")
        self._for_driver, self._base = 0, self._received() if self.plugin else 0

    def plug(self) -> None:
        self.adapter.plug()
        self._connected()

    def exchange(self) -> None:
        self._strange = True

    def half_a_frame(self) -> None:
        identifier, data = self.device.frames(self.aircraft, self.clock.now)[0][:2]
        line = b"t%03X%d%s\r" % (identifier, len(data), data.hex().upper().encode())
        self.adapter.tell(line[:9])
        self._rest = line[9:]

    def other_half(self) -> None:
        received = self._received()
        self.adapter.tell(self._rest)
        time.sleep(0.05)
        assert self._received() == received, "a frame joined from two halves, before and after the outage, is trusted"

    def hurry(self) -> None:
        """A bus without a bit rate carries everything."""

    def hammer(self) -> None:
        for frame in self.device.frames(self.aircraft, self.clock.now):
            self._stranger.send(frame)

    def close(self) -> None:
        super().close()
        self.adapter.close()
        self.segment.close()
