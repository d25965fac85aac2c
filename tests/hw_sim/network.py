"""The base of virtual programs on a network: `NetworkInstrument`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.faults import Fault


def own_host() -> str:
    """A loopback address that no other process uses, so that ports of several benches do not clash."""
    if not sys.platform.startswith("linux"):  # others have only one
        return "127.0.0.1"
    n = os.getpid()
    return f"127.{1 + (n >> 16) % 254}.{(n >> 8) & 255}.{n & 255}"


class NetworkInstrument:
    """A program that exchanges datagrams, as an instrument of the `World`: it listens on `host` and `port`.

    `unplug` is a crash of the program or the loss of its network, `plug` a restart. Any thread may call them, one at a
    time; all else belongs to the world's thread.
    """

    #: Its name among the instruments, a description for people, and its usual port.
    NAME: ClassVar[str] = ""
    WHAT: ClassVar[str] = ""
    PORT: ClassVar[int] = 0

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        self.host = host
        self.port = self.PORT if port is None else port
        #: Where it sends what nobody asks for; None = nowhere.
        self.output: Any = None
        self.socket: Any = None
        #: Datagrams sent and received.
        self.sent = self.received = 0
        self.plug()

    def send_to(self, address: Any) -> None:
        """Send all that it can send unasked to `address`."""
        self.output = address

    def begin(self, fault: Fault) -> None:
        """Datagrams are whole or lost: only its network can be unplugged."""
        fault.begin(self)

    def end(self, fault: Fault) -> None:
        fault.end(self)

    def restart(self) -> None:
        """Forget everything that a restart forgets. It may be in the middle of a `tick` on another thread."""

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Answer, and send what is due at `now`, in monotonic seconds."""
        raise NotImplementedError

    def open(self) -> Any:
        """A socket at `host` and `port`. Raises OSError."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((self.host, self.port))
        except (OSError, OverflowError):
            made.close()
            raise
        made.setblocking(False)
        return made

    def plug(self) -> None:
        if self.socket is None:
            self.socket = self.open()
            self.port = self.socket.getsockname()[1]

    def unplug(self) -> None:
        opened, self.socket = self.socket, None
        if opened is not None:
            opened.close()
            self.restart()

    close = unplug

    def send(self, data: bytes, to: Any) -> None:
        """Send a datagram, if the program runs and the network takes it."""
        if (opened := self.socket) is not None:
            try:
                opened.sendto(data, to)
            except OSError:
                return
            self.sent += 1

    def receive(self) -> Iterator[tuple[bytes, Any]]:
        """The datagrams that have arrived, each with its sender."""
        while (opened := self.socket) is not None:
            try:
                data, sender = opened.recvfrom(65536)
            except OSError:
                return
            self.received += 1
            yield data, sender
