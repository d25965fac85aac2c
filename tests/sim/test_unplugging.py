"""A device may be unplugged on one thread while it is at work on another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from fixgw.hw_sim.adapters import RealPort
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.datagrams import DatagramLine
from fixgw.hw_sim.devices.xplane import Xplane
from fixgw.hw_sim.pty import VirtualPort


class Interrupted:
    """A socket or port; whatever it is asked to do, `unplug` comes first."""

    def __init__(self, real: Any, unplug: Callable[[], None]) -> None:
        self._real = real
        self._unplug = unplug

    def __getattr__(self, name: str) -> Any:
        if name not in ("close", "getsockname"):
            self._unplug()
        return getattr(self._real, name)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def test_a_crash_in_the_middle_of_the_answers() -> None:
    simulator = Xplane(port=0)
    with closing(simulator):
        for n in (1, 2):
            simulator.take(b"RPOS\0" + b"20\0", ("127.0.0.1", n))
        answers: list[Any] = []

        def send(data: bytes, to: Any) -> None:
            answers.append(to)
            simulator.unplug()

        simulator.send = send  # type: ignore[method-assign]
        simulator.tick(Aircraft(datetime(2025, 6, 1, 12, tzinfo=UTC)), 1.0)
        assert answers[0] == ("127.0.0.1", 1)
        assert simulator.positions == {}


@pytest.mark.parametrize("act", [lambda line: line.write(b"x"), lambda line: line.read()], ids=["write", "read"])
def test_a_line_that_is_unplugged_meanwhile(act: Callable[[Any], object], listener: socket.socket) -> None:
    line: Any = DatagramLine(listener.getsockname(), "127.0.0.1")
    with closing(line):
        line._socket = Interrupted(line._socket, line.unplug)
        assert not act(line)
        line.plug()
        assert line.write(b"back") == 4
        assert listener.recv(100) == b"back"
    with closing(VirtualPort()) as other:
        port: Any = RealPort(other.path, 9600)
        with closing(port):
            port._port = Interrupted(port._port, port.unplug)
            assert not act(port)
            port.plug()
            assert port.write(b"back") == 4
            assert other.read(5.0) == b"back"
    assert not os.path.exists(other.path)
