"""What `fixgw canfix` does, without its arguments and its printing: a hand on the bus, and a survey of who is on it.

    with Bus(BusOptions(interface="slcan", channel="/dev/ttyACM0", bitrate=250000)) as bus:
        found = bus.survey(3.0)                  # found.nodes, found.conflicts(), found.flight()
        answer = bus.ask(cf.DisableParameter(bus.node, 64, 0x500), 1.0)

For one thread. Errors of the bus are `DeviceError`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import TracebackType

import msgspec

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.tool.survey import Heard, Survey, decode
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can.frame import Frame, validate
from fixgw.drivers.links.can.port import BusOptions, Port
from fixgw.drivers.links.can.ports import open_port
from fixgw.errors import DeviceError

__all__ = ["CONFIGURATOR", "Bus", "set_bitrate"]

CONFIGURATOR = 0xFF  # the node id that CAN-FIX suggests for configuration software
NO_ROOM = 1.0  # seconds to try to send
SLICE = 0.25  # seconds of one wait for frames
REFUSALS = 0.5  # seconds within which a node that cannot change its bit rate says so, at the old one


class Bus:
    """A CAN bus, on which this program is the node `node`, 1 to 255."""

    def __init__(
        self,
        options: BusOptions,
        codec: cf.Codec | None = None,
        node: int = CONFIGURATOR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self.codec = codec or cf.Codec()
        self.node = node
        self._clock = clock
        self._port: Port | None = None
        self._waiting: deque[Frame] = deque()

    def open(self) -> None:
        for _, problem in can_bus.check(self.options):
            raise DeviceError(problem)
        self._port = open_port(self.options, lambda *_: None)

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def __enter__(self) -> Bus:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def change_rate(self, bitrate: int) -> bool:
        """Go on at another bit rate; False when that is not ours to do: the system's, or there is none."""
        if self.options.interface == "socketcan" or self.options.bitrate is None:
            return False
        self.close()
        self.options = msgspec.structs.replace(self.options, bitrate=bitrate)
        self.open()
        return True

    # -- frames --------------------------------------------------------------------------------------------------------

    def send(self, frame: cf.Frame | Frame) -> None:
        """Send it now. ValueError for a frame that no bus can carry."""
        frame = Frame(*frame) if isinstance(frame, cf.Frame) else frame
        validate(frame)
        if self.options.listen_only:
            raise DeviceError(f"{self.options.channel} is configured to listen only")
        port, deadline = self._opened(), self._clock() + NO_ROOM
        for attempt in (partial(port.write, frame), port.flush):
            while not attempt():
                if self._clock() > deadline:
                    raise DeviceError("nothing can be sent: is anybody else on the bus, at the same bit rate?")
                self._waiting.extend(port.read(0.005))

    def listen(self, seconds: float | None = None) -> Iterator[Heard]:
        """What comes within so long, or for ever."""
        port, until = self._opened(), None if seconds is None else self._clock() + seconds
        while True:
            while self._waiting:  # whoever listens next gets the rest
                yield decode(self.codec, self._waiting.popleft())
            left = SLICE if until is None else until - self._clock()
            if left <= 0:
                return
            self._waiting.extend(port.read(min(left, SLICE)))

    def _opened(self) -> Port:
        if self._port is None:
            raise DeviceError("the bus is not open")
        return self._port

    # -- requests ------------------------------------------------------------------------------------------------------

    def ask(self, request: cf.Request, timeout: float, answers_as: int = 0) -> cf.Answer | None:
        """Send a request to one node; its answer, or None for silence. `answers_as` is the id that it answers with, if
        that is another."""
        self.send(request.encode())
        wanted = answers_as or request.destination
        return next((a for a in self.answers(request, timeout) if a.source == wanted), None)

    def ask_all(self, request: cf.Request, timeout: float) -> dict[int, cf.Answer]:
        """Send a request to all nodes; their answers within `timeout`."""
        self.send(request.encode())
        return {answer.source: answer for answer in self.answers(request, timeout)}

    def answers(self, request: cf.Request, timeout: float) -> Iterator[cf.Answer]:
        """What nodes answer to a request of ours."""
        for heard in self.listen(timeout):
            outcome = heard.outcome
            if isinstance(outcome, type(request)):  # some answers look like requests
                outcome = outcome.as_answer()
            if isinstance(outcome, cf.Answer) and (outcome.control, outcome.destination) == (
                request.control,
                self.node,
            ):
                yield outcome

    def survey(self, seconds: float, ask: int | None = 0) -> Survey:
        """Listen for so long, after asking a node (0: all; None: nobody) who it is."""
        survey = Survey(self.node)
        if ask is not None and not self.options.listen_only:
            self.send(cf.NodeIdentification(self.node, ask).encode())
            survey.asked = True
        for heard in self.listen(seconds):
            survey.feed(heard)
        return survey


def set_bitrate(
    bus: Bus, destination: int, kbps: int, seconds: float, expected: Collection[int] = ()
) -> tuple[bool, dict[int, cf.Answer]]:
    """Tell one node or all of them (0) to change the bit rate, and go along; 125, 250, 500 or 1000 kbit/s.

    Whether our own interface went along, and the answers, at the old rate or at the new one, within `seconds` or until
    all that are `expected` have come.
    """
    code = next(code for code, rate in cf.BitRateSet.RATES.items() if rate == kbps)
    request = cf.BitRateSet(bus.node, destination, code)
    found = bus.ask_all(request, REFUSALS)
    changed = bus.change_rate(kbps * 1000)
    for answer in bus.answers(request, seconds):
        found[answer.source] = answer
        if expected and found.keys() >= set(expected):
            break
    return changed, found
