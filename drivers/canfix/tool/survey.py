"""The nodes on a CAN-FIX bus and their health, worked out from received frames: `Survey`. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.path import is_announcement
from fixgw.drivers.canfix.table import Parameter
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame, decode_error
from fixgw.kit.phases import FLYING_KT

AIRSPEED, GROUNDSPEED = 0x183, 0x1C5
SILENT_AFTER_S = 2.0  # every node must send something within this time


class Heard(NamedTuple):
    """A received frame and its meaning. `time` is in monotonic seconds, or the log's own; so is `channel`."""

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


class Member:
    """What a survey knows about one node. Times are those of the frames."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.first = self.last = now
        self.frames = 0
        self.identity: cf.NodeIdentity | None = None
        self.description = ""
        #: Its latest status messages, by type.
        self.status: dict[int, cf.NodeStatus] = {}
        self.alarms: Counter[int] = Counter()
        #: How many times it sent each parameter, meta data included.
        self.parameters: Counter[int] = Counter()
        #: Values that carried the failure flag when last sent: (identifier, index).
        self.failed: set[tuple[int, int]] = set()
        #: Two different devices identify as this node, or one identified itself twice.
        self.twins = False

    def health(self, now: float) -> str:
        """A summary in words; empty when the node sends no status and nothing is wrong."""
        status = self.status.get(0)
        parts = [] if status is None else [words.describe_status(status)]
        if self.failed:
            parts.append(f"{len(self.failed)} value{'s' * (len(self.failed) > 1)} failed")
        parts += [f"alarm {code}" for code in self.alarms]
        if now - self.last > SILENT_AFTER_S:
            parts.append(f"silent for {now - self.last:.0f} s")
        if self.twins:
            parts.append("two devices with this id")
        return ", ".join(parts)


class Survey:
    """The nodes on a bus, worked out from received frames. `us` is our own node id."""

    def __init__(self, us: int = 0) -> None:
        self.us = us
        self.nodes: dict[int, Member] = {}
        self.frames = 0
        #: The bus state that the controller last reported: "passive", "bus off" ...
        self.controller = ""
        #: Whether we asked the nodes to identify themselves; each then answers once.
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
        number = cf.sender_of(outcome)
        if not number:
            return
        member = self.nodes.get(number)
        if member is None:
            member = self.nodes[number] = Member(number, now)
        member.last = now
        member.frames += 1
        if isinstance(outcome, cf.ParameterUpdate):
            self._take_parameter(member, outcome)
        elif isinstance(outcome, cf.NodeIdentity):
            self._take_identity(member, outcome)
        elif isinstance(outcome, cf.NodeDescription):
            text = self._descriptions.feed(outcome)
            if text is not None:
                member.description = "".join(c if c.isprintable() else "?" for c in text)
        elif isinstance(outcome, cf.NodeStatus) and not is_announcement(outcome):
            member.status[outcome.type] = outcome
        elif isinstance(outcome, cf.NodeAlarm):
            member.alarms[outcome.code] += 1

    def _take_parameter(self, member: Member, update: cf.ParameterUpdate) -> None:
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

    def _take_identity(self, member: Member, identity: cf.NodeIdentity) -> None:
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
        """The time from the first frame to the last."""
        return 0.0 if self._first is None else self._last - self._first

    @property
    def now(self) -> float:
        """The time of the last frame."""
        return self._last

    def rate(self, frames: int) -> float:
        """`frames` in this survey as frames per second."""
        return frames / self.seconds if self.seconds else 0.0

    def conflicts(self) -> dict[Parameter, list[int]]:
        """The parameters that more than one node sends."""
        return {
            self._parameters[identifier]: sorted(nodes)
            for identifier, nodes in sorted(self._senders.items())
            if len(nodes) > 1
        }

    def signs_of_flight(self) -> list[str]:
        """The speeds above `FLYING_KT`, as clauses for a message."""
        return [
            f"{'IAS' if identifier == AIRSPEED else 'GS'} is {speed:.0f} knots according to "
            f"node {words.format_node(number)}"
            for identifier, (speed, number) in sorted(self._speeds.items())
            if speed > FLYING_KT
        ]

    @property
    def knows_speed(self) -> bool:
        """Whether any node has sent a valid airspeed or ground speed."""
        return bool(self._speeds)


def survey_of(heard: Iterable[Heard]) -> Survey:
    """A survey of recorded frames."""
    survey = Survey()
    for one in heard:
        survey.feed(one)
    return survey
