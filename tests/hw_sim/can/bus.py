"""A virtual CAN bus with the nodes of a scenario, as an instrument of a world, and its connections to other programs.

    scenario = load("scenario.yaml")
    with World(scenario.aircraft()) as world:
        world.attach(CanBus(scenario, "bench/can0"))
        ...

A program that opens ``bench/can0`` finds an slcan adapter. `CanBus.join` connects the bus to one of python-can's.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fixgw.hw_sim.aircraft import Aircraft, Value
from fixgw.hw_sim.can.nodes import BIT_RATES
from fixgw.hw_sim.can.replay import Entry, replay
from fixgw.hw_sim.can.segment import Leg, Segment, SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.scenario import Play, Scenario

if TYPE_CHECKING:
    import can

DEPTH = 1024  # frames that a node may queue: more than its whole report


class CanBus:
    """The bus, its nodes, and a virtual slcan adapter at the path `adapter`, or what `adapter` makes for the bus.

    The bus has the scenario's bit rate. When every node has been told to change to another rate, the bus changes too; a
    node that has changed alone is lost to it. `tell` is called with every event: its time in seconds, and words. Events
    of instruments beside the bus happen to the `instruments`, by name.
    """

    def __init__(
        self,
        scenario: Scenario,
        adapter: str | Callable[[Segment], Any] | None = None,
        tell: Callable[[float, str], object] | None = None,
        instruments: Mapping[str, Any] | None = None,
        segment: Segment | None = None,
    ) -> None:
        self.segment = segment or Segment(scenario.bit_rate)
        self._closing: list[Callable[[], None]] = [self.segment.close]
        try:
            if isinstance(adapter, str):
                adapter = partial(VirtualSlcan, path=adapter)
            self.adapter: Any = adapter(self.segment) if adapter else None
        except OSError:
            self.segment.close()
            raise
        if self.adapter:
            self._closing.append(self.adapter.close)
        self.play = Play(scenario, self.adapter, tell, instruments)
        #: Set when the scenario has ended; then every node is silent.
        self.over = threading.Event()
        self._nodes = {
            name: self.segment.attach(name, station.received, DEPTH) for name, station in self.play.stations.items()
        }

    def join(self, interface: str, channel: str, **options: Any) -> None:
        """Join the bus, until it is closed, to one of python-can's, which takes the `options`.

        Raises OSError if that cannot be opened.
        """
        bus = open_bus(interface, channel, **options)
        leg = Leg(self.segment, bus)
        self._closing += [bus.shutdown, leg.close]

    def replay(self, entries: Iterable[Entry], speed: float | None = 1.0) -> int:
        """Put recorded frames on the bus, at `speed` times their pace, or as fast as possible (None).

        Returns the number of frames sent, when all are sent or the scenario is `over`.
        """
        node = self.segment.attach("replay")

        def send(frame: SimFrame) -> None:
            while not node.send(frame) and not self.over.wait(0.001):
                pass

        replayed = replay(entries, send, speed, self.over)
        while node.sent < replayed and not self.over.wait(0.001):
            pass
        return replayed

    @property
    def holds(self) -> tuple[tuple[str, Value], ...]:
        """What single nodes see at another value than the aircraft has."""
        return tuple(hold for station in self.play.stations.values() for hold in station.holds)

    def tick(self, aircraft: Aircraft, now: float) -> None:
        if self.play.over(now):
            self.over.set()
            return
        for name, sent in self.play.due(now, aircraft):
            node = self._nodes[name]
            for frame in sent:
                node.send(frame)
        self._keep_to_the_bit_rate()

    def close(self) -> None:
        """May be called twice."""
        while self._closing:
            self._closing.pop()()

    def _keep_to_the_bit_rate(self) -> None:
        rates = {name: BIT_RATES[station.node.memory.bit_rate] for name, station in self.play.stations.items()}
        if len(common := set(rates.values())) == 1:
            self.segment.bitrate = common.pop()
        for name, rate in rates.items():
            self._nodes[name].on = rate == self.segment.bitrate


def open_bus(interface: str, channel: str, **options: Any) -> can.BusABC:
    """Open a bus of python-can, which takes the `options`. Raises OSError if that is not possible."""
    import can

    try:
        bus = can.Bus(interface=interface, channel=channel, **options)
    except Exception as error:  # every interface raises its own kinds
        raise OSError(f"cannot open {interface} {channel}: {error}") from error
    if interface == "udp_multicast":
        _keep_to_the_group(bus.fileno())
    return bus


def _keep_to_the_group(fileno: int) -> None:
    """Let a socket receive only the groups that it has joined itself; by default, Linux adds those of other
    programs."""
    with socket.socket(fileno=os.dup(fileno)) as sock:
        for option in ((socket.IPPROTO_IP, 49), (socket.IPPROTO_IPV6, 29)):  # the socket module lacks them
            with suppress(OSError):
                sock.setsockopt(*option, 0)
