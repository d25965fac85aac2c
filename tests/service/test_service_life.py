"""Signs of life: if any thread of a plugin hangs, the supervisor notices, and the watchdog is not fed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import can
import pytest

from fixgw import configuration, database
from fixgw.drivers import canfix, nmea0183
from fixgw.drivers.canfix.node import Node
from fixgw.gateway import Gateway
from fixgw.hw_sim.pty import VirtualPort
from fixgw.plugins.netfix import commands
from fixgw.service import Notifier

pytestmark = pytest.mark.slow


class Counting(Notifier):
    """A watchdog that counts its pings."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "100000"})
        self.pings = 0

    def watchdog(self) -> None:
        self.pings += 1


class Bench:
    """A gateway of which a part hangs while `hanging` is set, until `release`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hanging = threading.Event()
        self.release = threading.Event()
        self.notifier = Counting()

    def hang(self, *_: Any) -> Any:
        if self.hanging.is_set():
            self.release.wait()
        return []

    def start(self, connection: str) -> None:
        file = self.directory / "default.yaml"
        file.write_text(f"connections: {{it: {{{connection}}}}}\n")
        self.gateway = Gateway(configuration.load(file), notifier=self.notifier)
        self._thread = threading.Thread(target=self.gateway.run_forever, args=(False,))
        self._thread.start()
        self.until(lambda: "it" in self.gateway.runners and self.gateway.runners["it"].state.value == "running")

    @property
    def plugin(self) -> Any:
        return self.gateway.runners["it"].plugin

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.gateway.summary()
            time.sleep(0.01)

    def is_seen_to_hang(self, poke: Callable[[], object] = lambda: None) -> None:
        """Check that it is alive, then hangs, and then sends no more pings."""
        runner = self.gateway.runners["it"]
        before = self.notifier.pings
        self.until(lambda: self.notifier.pings > before + 3)
        assert "no sign of life" not in runner.health()
        self.hanging.set()

        def dead() -> bool:
            poke()
            return "no sign of life" in runner.health()

        self.until(dead)
        before = self.notifier.pings
        time.sleep(0.5)  # wait to observe the silence
        assert self.notifier.pings == before
        self.release.set()
        self.until(lambda: self.notifier.pings > before)

    def stop(self) -> None:
        self.release.set()
        self.gateway.request_stop()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("fixgw.runner.SILENT_S", 1.5)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    before = database.current()
    bench = Bench(tmp_path)
    yield bench
    bench.stop()
    database.bind(before)


def test_a_hung_serial_driver_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nmea0183.Plugin, "received", lambda plugin, data: bench.hang())
    with VirtualPort() as port:
        bench.start(f"module: fixgw.drivers.nmea0183, port: {port.path}, baud: 9600")
        bench.until(lambda: bench.plugin.connected)
        bench.is_seen_to_hang(lambda: port.write(b"$GPGGA"))


def test_a_hung_receiving_thread_of_a_can_bus_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canfix.Plugin, "received", bench.hang)
    bench.start("module: fixgw.drivers.canfix, interface: virtual, channel: life")
    bench.until(lambda: bench.plugin.bus.bus.connected)
    with can.Bus(interface="virtual", channel="life") as bus:
        bench.is_seen_to_hang(
            lambda: bus.send(can.Message(arbitration_id=0x183, data=b"\x01\0\0\x10\0", is_extended_id=False))
        )


def test_a_hung_thread_of_a_can_driver_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "tick", bench.hang)
    bench.start("module: fixgw.drivers.canfix, interface: virtual, channel: life")
    bench.is_seen_to_hang()


def test_a_hung_netfix_server_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.Commands, "handle", bench.hang)
    bench.start("module: fixgw.plugins.netfix, port: 0")
    with socket.create_connection(("127.0.0.1", bench.plugin.port)) as client:
        bench.is_seen_to_hang(lambda: client.sendall(b"@rIAS\n"))
