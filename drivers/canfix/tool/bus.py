"""Access to a CAN-FIX bus for command-line tools: send, listen, make requests, survey the nodes.

    with Bus(BusOptions(interface="slcan", channel="/dev/ttyACM0", bitrate=250000)) as bus:
        found = bus.survey(3.0)                  # found.nodes, found.conflicts(), found.signs_of_flight()
        answer = bus.ask(cf.DisableParameter(bus.node, 64, 0x500), 1.0)

Use each `Bus` from one thread only. Bus errors raise `DeviceError`.
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
SEND_TIMEOUT_S = 1.0  # how long to wait for room in a full transmit queue
POLL_S = 0.25  # the longest single wait for frames
REFUSAL_TIMEOUT_S = 0.5  # a node that cannot change its bit rate answers within this time, at the old rate


class Bus:
    """A CAN bus on which this program is node `node`, 1 to 255."""

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
        self._pending: deque[Frame] = deque()

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
        """Reopen the bus at another bit rate. False when we cannot: SocketCAN, or an interface without a bit rate."""
        if self.options.interface == "socketcan" or self.options.bitrate is None:
            return False
        self.close()
        self.options = msgspec.structs.replace(self.options, bitrate=bitrate)
        self.open()
        return True

    # -- frames --------------------------------------------------------------------------------------------------------

    def send(self, frame: cf.Frame | Frame) -> None:
        """Send `frame` now. Raises ValueError for a frame that no bus can carry."""
        frame = Frame(*frame) if isinstance(frame, cf.Frame) else frame
        validate(frame)
        if self.options.listen_only:
            raise DeviceError(f"{self.options.channel} is configured as listen-only")
        port, deadline = self._require_port(), self._clock() + SEND_TIMEOUT_S
        for attempt in (partial(port.write, frame), port.flush):
            while not attempt():
                if self._clock() > deadline:
                    raise DeviceError("cannot send: is another node on the bus, at the same bit rate?")
                self._pending.extend(port.read(0.005))

    def listen(self, seconds: float | None = None) -> Iterator[Heard]:
        """Yield the frames received within `seconds`, or without end."""
        port, until = self._require_port(), None if seconds is None else self._clock() + seconds
        while True:
            while self._pending:  # frames that the caller leaves stay for the next call
                yield decode(self.codec, self._pending.popleft())
            left = POLL_S if until is None else until - self._clock()
            if left <= 0:
                return
            self._pending.extend(port.read(min(left, POLL_S)))

    def _require_port(self) -> Port:
        if self._port is None:
            raise DeviceError("the bus is not open")
        return self._port

    # -- requests ------------------------------------------------------------------------------------------------------

    def ask(self, request: cf.Request, timeout: float, answers_as: int = 0) -> cf.Answer | None:
        """Send a request to one node and return its answer, or None if it does not answer within `timeout` seconds.

        `answers_as` is the node id to expect the answer from, when it differs from the request's destination.
        """
        self.send(request.encode())
        wanted = answers_as or request.destination
        return next((a for a in self.answers(request, timeout) if a.source == wanted), None)

    def ask_all(self, request: cf.Request, timeout: float) -> dict[int, cf.Answer]:
        """Send a request to all nodes and return the answers received within `timeout` seconds, by node."""
        self.send(request.encode())
        return {answer.source: answer for answer in self.answers(request, timeout)}

    def answers(self, request: cf.Request, timeout: float) -> Iterator[cf.Answer]:
        """Yield the answers to `request` received within `timeout` seconds."""
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
        """Ask node `ask` (0: all, None: none) to identify itself, then listen for `seconds`."""
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
    """Tell one node, or all (0), to change to 125, 250, 500 or 1000 kbit/s, and change our own interface too.

    Returns whether our interface changed, and the answers received at the old and the new rate. Stops waiting after
    `seconds`, or once every `expected` node has answered.
    """
    code = next(code for code, rate in cf.BitRateSet.RATES.items() if rate == kbps)
    request = cf.BitRateSet(bus.node, destination, code)
    found = bus.ask_all(request, REFUSAL_TIMEOUT_S)
    changed = bus.change_rate(kbps * 1000)
    for answer in bus.answers(request, seconds):
        found[answer.source] = answer
        if expected and found.keys() >= set(expected):
            break
    return changed, found
