"""What `fixgw canfix` does, without its arguments and its printing: a hand on the bus, and a survey of who is on it.

    with Bus(BusOptions(interface="slcan", channel="/dev/ttyACM0", bitrate=250000)) as bus:
        found = bus.survey(3.0)                  # found.nodes, found.conflicts(), found.flight()
        answer = bus.ask(cf.DisableParameter(bus.node, 64, 0x500), 1.0)

For one thread. Errors of the bus are `DeviceError`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import NamedTuple

import msgspec

from fixgw.drivers import can_link
from fixgw.drivers.can_frame import ERROR, EXTENDED, FD, REMOTE, Frame, decode_error, validate
from fixgw.drivers.can_link import BusOptions
from fixgw.drivers.can_ports import Port, open_port
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import words
from fixgw.drivers.canfix.table import Parameter
from fixgw.errors import DeviceError

__all__ = ["CONFIGURATOR", "Bus", "Heard", "Member", "Survey", "decode", "set_bitrate"]

CONFIGURATOR = 0xFF  # the node id that CAN-FIX suggests for configuration software
FLYING = 30.0  # knots of IAS or GS above which an aircraft flies
AIRSPEED, GROUNDSPEED = 0x183, 0x1C5
NO_ROOM = 1.0  # seconds to try to send
SLICE = 0.25  # seconds of one wait for frames
SILENT = 2.0  # seconds within which every node has to say something
REFUSALS = 0.5  # seconds within which a node that cannot change its bit rate says so, at the old one


class Heard(NamedTuple):
    """A frame and what it says. `time` is monotonic seconds, or a log's own; so is `channel`."""

    time: float
    frame: Frame
    outcome: cf.Outcome
    channel: str = ""


def decode(codec: cf.Codec, frame: Frame, channel: str = "") -> Heard:
    flags = frame.flags
    outcome = codec.decode(
        frame.arbitration_id,
        frame.data,
        bool(flags & EXTENDED),
        bool(flags & REMOTE),
        bool(flags & ERROR),
        bool(flags & FD),
    )
    return Heard(frame.timestamp, frame, outcome, channel)


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
        for _, problem in can_link.check(self.options):
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


# -- who is there ------------------------------------------------------------------------------------------------------


class Member:
    """What a survey knows of one node. Times are those of the frames."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.first = self.last = now
        self.frames = 0
        self.identity: cf.NodeIdentity | None = None
        self.description = ""
        #: What it said of itself, by type of node status.
        self.status: dict[int, cf.NodeStatus] = {}
        self.alarms: Counter[int] = Counter()
        #: How often it sent each parameter, meta data included.
        self.parameters: Counter[int] = Counter()
        #: Values that it marked as failed when it last sent them: (identifier, index).
        self.failed: set[tuple[int, int]] = set()
        #: Different devices say that they are this node, or one says so twice.
        self.twins = False

    def health(self, now: float) -> str:
        """In words; empty when it says nothing of itself and there is nothing to be said."""
        said = self.status.get(0)
        told = [] if said is None else [words.status(said)]
        if self.failed:
            told.append(f"{len(self.failed)} value{'s' * (len(self.failed) > 1)} failed")
        told += [f"alarm {code}" for code in self.alarms]
        if now - self.last > SILENT:
            told.append(f"silent for {now - self.last:.0f} s")
        if self.twins:
            told.append("two devices with this id")
        return ", ".join(told)


class Survey:
    """Who is on a bus, from what is heard there. `us` is our own id, whose frames do not count."""

    def __init__(self, us: int = 0) -> None:
        self.us = us
        self.nodes: dict[int, Member] = {}
        self.frames = 0
        #: What the controller last said of the bus: "passive", "bus off" ...
        self.controller = ""
        #: Whether the nodes have been asked who they are: each then answers once.
        self.asked = False
        self._senders: dict[int, set[int]] = {}
        self._parameters: dict[int, Parameter] = {}
        self._speeds: dict[int, tuple[float, int]] = {}
        self._first: float | None = None
        self._last = 0.0
        self._answered: set[int] = set()
        self._descriptions = cf.Descriptions()

    def feed(self, heard: Heard) -> None:
        now, frame, outcome, _ = heard
        self._first = now if self._first is None else self._first
        self._last = now
        if frame.flags & ERROR:
            self.controller = decode_error(frame.arbitration_id, frame.data).state or self.controller
            return
        self.frames += 1
        number = words.sender(outcome)
        if not number:
            return
        member = self.nodes.get(number)
        if member is None:
            member = self.nodes[number] = Member(number, now)
        member.last = now
        member.frames += 1
        if isinstance(outcome, cf.ParameterUpdate):
            self._parameter(member, outcome)
        elif isinstance(outcome, cf.NodeIdentity):
            self._identity(member, outcome)
        elif isinstance(outcome, cf.NodeDescription):
            text = self._descriptions.feed(outcome)
            if text is not None:
                member.description = "".join(c if c.isprintable() else "?" for c in text)
        elif isinstance(outcome, cf.NodeStatus):
            member.status[outcome.type] = outcome
        elif isinstance(outcome, cf.NodeAlarm):
            member.alarms[outcome.code] += 1

    def _parameter(self, member: Member, update: cf.ParameterUpdate) -> None:
        identifier = update.parameter.identifier
        member.parameters[identifier] += 1
        self._parameters[identifier] = update.parameter
        self._senders.setdefault(identifier, set()).add(member.number)
        if not isinstance(update, cf.Value):
            return
        place = (identifier, update.index)
        (member.failed.add if update.failure else member.failed.discard)(place)
        if identifier in (AIRSPEED, GROUNDSPEED) and not update.failure and isinstance(update.value, float):
            fastest = self._speeds.get(identifier, (0.0, 0))
            self._speeds[identifier] = max(fastest, (update.value, member.number))

    def _identity(self, member: Member, identity: cf.NodeIdentity) -> None:
        known = member.identity
        if known is not None and (known.device, known.model, known.firmware) != (
            identity.device,
            identity.model,
            identity.firmware,
        ):
            member.twins = True
        if identity.destination == self.us and self.asked:
            member.twins |= member.number in self._answered
            self._answered.add(member.number)
        member.identity = identity

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return 0.0 if self._first is None else self._last - self._first

    @property
    def now(self) -> float:
        """When the last frame came."""
        return self._last

    def rate(self, frames: int) -> float:
        """So many frames in this survey, as frames a second."""
        return frames / self.seconds if self.seconds else 0.0

    def conflicts(self) -> dict[Parameter, list[int]]:
        """Parameters that several nodes send."""
        return {
            self._parameters[identifier]: sorted(nodes)
            for identifier, nodes in sorted(self._senders.items())
            if len(nodes) > 1
        }

    def flight(self) -> list[str]:
        """What speaks for it that the aircraft flies."""
        return [
            f"{'IAS' if identifier == AIRSPEED else 'GS'} is {speed:.0f} knots, says node {words.node(number)}"
            for identifier, (speed, number) in sorted(self._speeds.items())
            if speed > FLYING
        ]

    @property
    def speeds(self) -> bool:
        """Whether anybody has said how fast it is."""
        return bool(self._speeds)


def surveyed(heard: Iterable[Heard]) -> Survey:
    """A survey of what has been recorded."""
    survey = Survey()
    for one in heard:
        survey.feed(one)
    return survey
