"""Benches of instruments on a network, which send over TCP or UDP."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from fixgw.hw_sim.bench.base import Bench, Subject, until
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.plugin import PluginBase


class TcpServer:
    """Serves the bytes of an instrument to one client at a time, like a `VirtualPort` for a serial line."""

    def __init__(self) -> None:
        self.written = 0
        self._client: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._port = 0
        self.plug()
        self.path = f"tcp://127.0.0.1:{self._port}"

    @property
    def plugged(self) -> bool:
        return self._listener is not None

    def plug(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]

    def unplug(self) -> None:
        for sock in (self._client, self._listener):
            if sock is not None:
                sock.close()
        self._client = self._listener = None

    def read(self, timeout: float = 0.0) -> bytes:
        """What the client has sent; does not wait."""
        self._accept()
        if self._client is None:
            return b""
        try:
            return self._client.recv(4096, socket.MSG_DONTWAIT)
        except OSError:  # nothing, or the client has gone
            return b""

    def write(self, data: bytes) -> int:
        """Send `data` to the client, if there is one."""
        self._accept()
        if self._client is None:
            return 0
        try:
            self._client.sendall(data)
        except OSError:  # the client has disconnected
            return 0
        self.written += len(data)
        return len(data)

    def _accept(self) -> None:
        if self._listener is None:
            return
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            if self._client is not None:
                self._client.close()
            self._client = client

    def close(self) -> None:
        self.unplug()


class UdpSource:
    """An instrument that sends datagrams."""

    plugged = True

    def __init__(self) -> None:
        self.written = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._address = free.getsockname()
        self.path = f"udp://127.0.0.1:{self._address[1]}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def write(self, data: bytes) -> int:
        """Send `data` in datagrams of at most 500 bytes."""
        for start in range(0, len(data), 500):
            self._socket.sendto(data[start : start + 500], self._address)
        self.written += len(data)
        return len(data)

    def close(self) -> None:
        self._socket.close()


class NetworkBench(SerialBench):
    """An instrument on a network, reached by `LINE`."""

    LINE: Any = TcpServer

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port.close()
        self.port = self.LINE()
        self.device.line = self.port

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path}


class TcpBench(NetworkBench):
    CAN = SerialBench.CAN - {"baud"}


class UdpBench(NetworkBench):
    """Datagrams: a lost device is only silent, and a flood may lose some."""

    CAN = SerialBench.CAN - {"baud", "late", "vanish", "exchange", "flood"}
    LINE = UdpSource


class DatagramBench(Bench):
    """A program that exchanges datagrams: the subject's `device` creates a `NetworkInstrument` on a host and port."""

    CAN = frozenset({"silence", "counters"})
    measures = False  # it computes

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.device = subject.device("127.0.0.1", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            #: The port at which the driver is to receive.
            self.here: int = free.getsockname()[1]
        self._base = 0

    def start(self) -> PluginBase:
        plugin = super().start()
        until(lambda: self.plugin.connected, "the driver does not open its socket")
        self._base = self.device.sent
        return plugin

    def act(self) -> None:
        self.device.tick(self.aircraft, self.clock.now)

    def taken(self) -> bool:
        return self.plugin is None or bool(self.plugin.counts["received"] >= self.device.sent - self._base)

    def silence(self) -> None:
        self.device.unplug()

    def speak(self) -> None:
        self.device.plug()

    def hold_up(self) -> None:
        """Let datagrams wait while the gateway is held up, until it has discarded them."""
        counts = self.plugin.counts
        self.plugin.hold_up.noticed = lambda allowed_s: "old bytes discarded" not in counts
        self.device.tick(self.aircraft, self.clock.now + 1.0)
        until(lambda: "old bytes discarded" in counts, "a backlog is taken for fresh")
        self._base = self.device.sent - counts["received"]

    def hammer(self) -> None:
        for n in range(100):
            self.device.send(b"DATA*" + bytes([n]) * 36, ("127.0.0.1", self.here))

    def close(self) -> None:
        super().close()
        self.device.close()
