"""The gateway as a node on a CAN-FIX bus: its duties, and its knowledge of the other nodes.

Sans-I/O: it takes messages and the time of an injected clock, and returns frames. A `Node` answers identification, bit
rate, node id, disable, enable, report and configuration messages, sends its status once a second, and keeps a table of
the nodes that it hears. Answers and memory are bounded, whatever a babbling node sends.

`load_state` and `save_state` convert the state that survives a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.path import is_announcement
from fixgw.drivers.canfix.table import CURRENT, Field

__all__ = ["Command", "Identity", "Node", "Seen", "State", "load_state", "save_state"]

#: The commands of other nodes that the configuration can allow.
Command = Literal["disable", "report", "node-id", "bit-rate", "configuration", "disable-settings"]

HEARTBEAT_MS = 1000  # between two node status messages, unless another node changes it
SURVEY_S = 2.0  # the time over which rates are measured
GONE_S = 4.0  # a node that is silent for this long is gone, and appears again with its next frame
SILENT_S = 10.0  # a node, conflict or alarm expires after this time
MAX_ANSWERS_PER_S = 50.0  # also the largest burst
REPORT_INTERVAL_S = 1.0  # the minimum time between two reports
DESCRIPTION_INTERVAL_S = 2.0  # the minimum time between two transmissions of our description
MAX_QUESTIONS = 3  # how many times to ask a node to identify itself
QUESTION_INTERVAL_S = 2.0  # the minimum time between two questions to a node
RATE_CHANGE_PAUSE_S = 1.0  # how long to stay silent after changing the bit rate
MAX_RATES = 4096  # pairs of parameter and node
MAX_STATUS_TYPES = 16  # per node
MAX_CONFLICTS = 64


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """This node's identity: numbers as in `protocol.NodeIdentity`, description in printable ASCII."""

    device: int = 0xB6
    model: int = 0
    firmware: int = 0
    description: str = ""
    table: int = CURRENT


class State(msgspec.Struct, kw_only=True):
    """The state that survives a restart.

    `disabled_by` says which node disabled a parameter, `silenced_by` which one switched off sending altogether.
    `node` and `bitrate` (bits per second) are those set over the bus, None if they are as configured. They expire when
    the configuration changes.
    """

    node: int | None = None
    bitrate: int | None = None
    disabled: frozenset[int] = frozenset()
    disabled_by: dict[int, int] = {}
    silenced_by: int = 0
    heartbeat: int = HEARTBEAT_MS
    sending: bool = True
    configured_node: int | None = None
    configured_bitrate: int | None = None


class Seen(msgspec.Struct, kw_only=True):
    """What we know about another node. Times are in monotonic seconds; `rates` are messages per second by parameter."""

    node: int
    first: float
    last: float
    identity: cf.NodeIdentity | None = None
    description: str = ""
    status: dict[str, Any] = {}
    alarms: int = 0
    alarm: int | None = None
    alarm_at: float = float("-inf")
    rates: dict[int, float] = {}
    asked: int = 0
    asked_at: float = float("-inf")


#: Our configuration keys: the field, and whether other nodes may set it.
SETTINGS: dict[int, tuple[Field, bool]] = {
    0: (Field("Revision of the parameter table", "UINT"), False),
    1: (Field("Time between node status messages", "UINT", 1, "ms", 200, 2000), True),
    2: (Field("Send parameters", "BYTE", 1, "", 0, 1), True),
    3: (Field("Time since the start", "UDINT", 1, "s"), False),
    4: (Field("Nodes on the bus", "USHORT"), False),
}
UNKNOWN_KEY, READ_ONLY, OUT_OF_RANGE, WRONG_TYPE = 1, 2, 3, 4


class Node:
    """This node. Call its methods from any thread, but `count` only from the receiving thread.

    `bitrate` is the configured bit rate in bits per second, or None if it cannot be changed. `refuses` returns the
    reason not to obey an allowed command now, or an empty text. `settings` are the produced parameters that a person
    sets: no node can disable them, unless "disable-settings" is obeyed. `names` are their names for people. `log`
    reports what other nodes disable. After each call, check and reset `changed` (save the state), `appeared`,
    `report_due` and `new_bitrate`.
    """

    def __init__(
        self,
        number: int,
        identity: Identity,
        clock: Callable[[], float],
        state: State | None = None,
        obey: Collection[str] = ("disable", "report"),
        produced: Collection[int] = (),
        bitrate: int | None = None,
        refuses: Callable[[Command], str] = lambda command: "",
        settings: Collection[int] = (),
        names: Mapping[int, str] | None = None,
        log: Callable[[str, int], object] = lambda text, node: None,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.state = state or State()
        self.obey = frozenset(obey)
        #: The identifiers of the parameters that we send as their owner.
        self.produced = produced
        if self.state.configured_node != number:
            self.state.node = None
        if self.state.configured_bitrate != bitrate:
            self.state.bitrate = None
        self.state.configured_node, self.state.configured_bitrate = number, bitrate
        self.id = self.state.node or number
        self.bitrate = self.state.bitrate or bitrate
        self.nodes: dict[int, Seen] = {}
        #: Identifier -> the nodes that send it concurrently, and when we last noticed.
        self.settings = settings
        #: Names of our parameters for people.
        self.names = names or {}
        self._log = log
        #: Whether a node has appeared, or reappeared after `GONE_S`.
        self.appeared = False
        self._report_at = float("inf")
        self.conflicts: dict[int, tuple[tuple[int, ...], float]] = {}
        self.counts = dict.fromkeys(
            ("requests", "requests refused", "requests ignored", "answers of others", "from our own id"), 0
        )
        self.changed = False
        self.report_due = False
        #: The requesting node and the bit rate to change to, in bits per second; call `rate_changed` afterwards.
        self.new_bitrate: tuple[int, int] | None = None
        #: The number of frames since the last survey, by identifier << 8 | node.
        self.frames: dict[int, int] = {}
        self._refuses = refuses
        self._lock = threading.Lock()
        self._descriptions = cf.Descriptions(max_length=256, max_count=32)
        now = clock()
        self._started = now
        self._heartbeat_at = now
        self._surveyed = now
        self._suspects: dict[int, tuple[int, ...]] = {}
        self._budget = MAX_ANSWERS_PER_S
        self._budgeted = now
        self._reported = self._described = self._twin = float("-inf")
        self._handlers: dict[type, Callable[[Any, float], list[cf.Frame]]] = {
            cf.NodeIdentification: self._identify,
            cf.BitRateSet: self._set_bit_rate,
            cf.NodeIdSet: self._set_id,
            cf.DisableParameter: self._disable,
            cf.EnableParameter: self._disable,
            cf.NodeReport: self._report,
            cf.UpdateFirmware: self._refuse,
            cf.TwoWayConnection: self._refuse,
            cf.ConfigurationQuery: self._read_setting,
            cf.ConfigurationSet: self._change_setting,
        }
        self._remember()

    def _remember(self) -> None:
        """Log what other nodes disabled before the restart, and enable the settings that they may not disable."""
        kept = self.state.disabled
        if "disable-settings" not in self.obey:
            kept = kept.difference(self.settings)
        for identifier in sorted(self.state.disabled - kept):
            self._log(
                f"{self._name(identifier)} was disabled before the restart; a person sets it, so it is sent again",
                self.state.disabled_by.get(identifier, 0),
            )
            self.changed = True
        self.state.disabled = kept
        if silenced := self.silenced():
            self._log(f"before the restart, {silenced}", 0)

    def _name(self, identifier: int) -> str:
        return self.names.get(identifier) or f"0x{identifier:03X}"

    # -- state ---------------------------------------------------------------------------------------------------------

    def may_send(self, identifier: int) -> bool:
        """Whether sending is switched on and the parameter is not disabled."""
        return self.state.sending and identifier not in self.state.disabled

    def trouble(self) -> str:
        """A problem with the nodes on the bus; empty when there is none."""
        now = self.clock()
        if now - self._twin < SILENT_S:
            return f"another node has our id, {self.id}"
        alarms = [seen for seen in list(self.nodes.values()) if now - seen.alarm_at < SILENT_S]
        if alarms:
            return f"alarm from node {alarms[0].node}: code {alarms[0].alarm}"
        return ""

    def silenced(self) -> str:
        """The parameters that other nodes have disabled, as text; empty if there are none."""
        state = self.state
        if not state.sending:
            return f"{_who(state.silenced_by)} told us to send no parameters"
        by: dict[int, list[str]] = {}
        for identifier in sorted(state.disabled):
            by.setdefault(state.disabled_by.get(identifier, 0), []).append(self._name(identifier))
        return "; ".join(f"{_who(node)} told us to stop sending {', '.join(names)}" for node, names in by.items())

    def status(self) -> dict[str, Any]:
        """All facts about the nodes, for the plugin's status."""
        now = self.clock()
        nodes: dict[str, Any] = {}
        for seen in sorted(self.nodes.values(), key=lambda s: s.node):
            identity = seen.identity
            facts: dict[str, Any] = {"last seen": round(now - seen.last, 1)}
            if identity is not None:
                facts |= {"type": f"0x{identity.device:02X}", "model": identity.model, "firmware": identity.firmware}
            facts["description"] = seen.description
            facts |= seen.status
            if seen.alarms:
                facts |= {"alarms": seen.alarms, "alarm": seen.alarm}
            facts["rates"] = {f"0x{identifier:03X}": rate for identifier, rate in sorted(seen.rates.items())}
            nodes[str(seen.node)] = facts
        conflicts = {
            f"0x{identifier:03X}": f"nodes {' and '.join(map(str, senders))}"
            for identifier, (senders, at) in sorted(self.conflicts.copy().items())
            if now - at < SILENT_S
        }
        return {
            "node": self.id,
            "disabled": [f"0x{identifier:03X}" for identifier in sorted(self.state.disabled)],
            **({"silenced": silenced} if (silenced := self.silenced()) else {}),
            "sending": self.state.sending,
            **self.counts,
            "conflicts": conflicts,
            "nodes": nodes,
        }

    # -- receiving -----------------------------------------------------------------------------------------------------

    def count(self, identifier: int, node: int) -> None:
        """Count a parameter received from `node`."""
        frames, key = self.frames, identifier << 8 | node
        try:
            frames[key] += 1
        except KeyError:
            if len(frames) < MAX_RATES:
                frames[key] = 1

    def receive(self, message: cf.Outcome) -> list[cf.Frame]:
        """Take any message but a parameter's value, and return the frames to send in answer."""
        node = cf.sender_of(message)
        if not node:
            return []
        with self._lock:
            now = self.clock()
            if node == self.id:
                self.counts["from our own id"] += 1
                self._twin = now
                return []
            seen = self._see(node, now)
            handler = self._handlers.get(type(message))
            if handler is not None:
                if not message.is_for(self.id):  # type: ignore[union-attr]
                    return []
                self.counts["requests"] += 1
                earned = (now - self._budgeted) * MAX_ANSWERS_PER_S
                self._budget = min(MAX_ANSWERS_PER_S, self._budget + earned)
                self._budgeted = now
                if self._budget < 1:
                    self.counts["requests ignored"] += 1
                    return []
                self._budget -= 1
                return handler(message, now)
            self._note(seen, message)
            return []

    def _see(self, node: int, now: float) -> Seen:
        seen = self.nodes.get(node)
        if seen is None or now - seen.last > GONE_S:
            self.appeared = True
        if seen is None:
            seen = self.nodes[node] = Seen(node=node, first=now, last=now)
        seen.last = now
        return seen

    def _note(self, seen: Seen, message: cf.Outcome) -> None:
        """Note what a node reports about itself."""
        if isinstance(message, cf.NodeIdentity):
            seen.identity = message
        elif isinstance(message, cf.NodeDescription):
            text = self._descriptions.feed(message)
            if text is not None:
                seen.description = "".join(c if c.isprintable() else "?" for c in text)
        elif isinstance(message, cf.NodeStatus):
            if is_announcement(message):
                return
            if message.name in seen.status or len(seen.status) < MAX_STATUS_TYPES:
                value = message.value
                seen.status[message.name] = value.hex() if isinstance(value, bytes) else value
        elif isinstance(message, cf.NodeAlarm):
            seen.alarms += 1
            seen.alarm, seen.alarm_at = message.code, seen.last
        elif isinstance(message, cf.Answer):
            self.counts["answers of others"] += 1

    # -- time ----------------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When to call `tick` next, in monotonic seconds."""
        return min(self._heartbeat_at, self._surveyed + SURVEY_S, self._report_at)

    def tick(self) -> list[cf.Frame]:
        """The frames to send now."""
        with self._lock:
            now = self.clock()
            frames: list[cf.Frame] = []
            if now >= self._report_at:
                self._report_at = float("inf")
                self._reported = now
                self.report_due = True
            if now >= self._heartbeat_at:
                interval = self.state.heartbeat / 1000
                self._heartbeat_at += interval
                if self._heartbeat_at <= now:  # late: send one, not all that were missed
                    self._heartbeat_at = now + interval
                frames.append(cf.NodeStatus(self.id, 0, 0).encode())
            if now - self._surveyed >= SURVEY_S:
                self._survey(now)
                frames += self._ask(now)
            return frames

    def _survey(self, now: float) -> None:
        """Compute rates from the counts, and find parameters with more than one sender."""
        counted, self.frames = self.frames, {}
        elapsed, self._surveyed = now - self._surveyed, now
        senders: dict[int, list[int]] = {}
        rates: dict[int, dict[int, float]] = {}
        for key, times in list(counted.items()):
            identifier, node = key >> 8, key & 255
            senders.setdefault(identifier, []).append(node)
            rates.setdefault(node, {})[identifier] = round(times / elapsed, 1)
        for node in rates:
            if node:
                self._see(node, now)
        for seen in self.nodes.values():
            seen.rates = rates.get(seen.node, {})
        # Report a conflict only if seen in two surveys in a row: one node may have taken over from another.
        suspects = {identifier: tuple(sorted(nodes)) for identifier, nodes in senders.items() if len(nodes) > 1}
        for identifier, nodes in suspects.items():
            if identifier in self._suspects and (identifier in self.conflicts or len(self.conflicts) < MAX_CONFLICTS):
                self.conflicts[identifier] = nodes, now
        self._suspects = suspects
        for identifier in [i for i, (_, at) in self.conflicts.items() if now - at > SILENT_S]:
            del self.conflicts[identifier]

    def _ask(self, now: float) -> list[cf.Frame]:
        """Ask a few of the nodes on the bus that have not identified themselves."""
        unknown = [
            seen
            for seen in self.nodes.values()
            if seen.identity is None
            and seen.asked < MAX_QUESTIONS
            and now - seen.last < SILENT_S
            and now - seen.asked_at >= QUESTION_INTERVAL_S
        ][:4]
        for seen in unknown:
            seen.asked += 1
            seen.asked_at = now
        return [cf.NodeIdentification(self.id, seen.node).encode() for seen in unknown]

    # -- requests; the caller holds the lock ---------------------------------------------------------------------------

    def _obeys(self, command: Command) -> bool:
        if command in self.obey and not self._refuses(command):
            return True
        self.counts["requests refused"] += 1
        return False

    def _answer(self, request: cf.Request, error: int = 0, data: bytes = b"") -> list[cf.Frame]:
        return [cf.Answer(self.id, request.source, request.control, error, data).encode()]

    def _identify(self, request: cf.NodeIdentification, now: float) -> list[cf.Frame]:
        me = self.identity
        frames = [cf.NodeIdentity(self.id, request.source, me.device, me.firmware, me.model).encode()]
        if me.description and now - self._described >= DESCRIPTION_INTERVAL_S:
            self._described = now
            frames += [packet.encode() for packet in cf.split_description(me.description, self.id, request.source)]
        return frames

    def _set_bit_rate(self, request: cf.BitRateSet, now: float) -> list[cf.Frame]:
        kbps = request.kbps
        if kbps is None or self.bitrate is None or self.new_bitrate or not self._obeys("bit-rate"):
            return self._answer(request, 0xFF)
        if kbps * 1000 == self.bitrate:
            return self._answer(request)
        self.new_bitrate = request.source, kbps * 1000
        return []

    def rate_changed(self, destination: int, bitrate: int, error: bool) -> list[cf.Frame]:
        """The answer to the request for `new_bitrate`.

        Send it `RATE_CHANGE_PAUSE_S` after the change to `bitrate`, or after the return to the old rate (`error`).
        """
        with self._lock:
            self.new_bitrate = None
            if not error:
                self.bitrate = self.state.bitrate = bitrate
                self.changed = True
            return [cf.Answer(self.id, destination, cf.BitRateSet.control, 0xFF if error else 0).encode()]

    def _set_id(self, request: cf.NodeIdSet, now: float) -> list[cf.Frame]:
        taken = self.nodes.get(request.node)
        if not self._obeys("node-id") or request.node == 0 or (taken is not None and now - taken.last < SILENT_S):
            return []
        self.id = self.state.node = request.node
        self.changed = True
        return self._answer(request)

    def _disable(self, request: cf.DisableParameter | cf.EnableParameter, now: float) -> list[cf.Frame]:
        identifier = request.parameter_id
        if identifier not in self.produced:
            return self._answer(request, 1)
        name = self._name(identifier)
        if isinstance(request, cf.EnableParameter):
            if identifier in self.state.disabled:
                self.state.disabled -= {identifier}
                self.state.disabled_by.pop(identifier, None)
                self.changed = self.report_due = True
                self._log(f"node {request.source} told us to send {name} again", request.source)
            return self._answer(request)
        reason = self._refusal(identifier)
        if reason:
            self.counts["requests refused"] += 1
            self._log(f"node {request.source} told us to stop sending {name}: refused, {reason}", request.source)
            return self._answer(request, 1)
        if identifier not in self.state.disabled:
            self.state.disabled |= {identifier}
            self.state.disabled_by[identifier] = request.source
            self.changed = True
            self._log(f"node {request.source} told us to stop sending {name}", request.source)
        return self._answer(request)

    def _refusal(self, identifier: int) -> str:
        """Why a parameter is not disabled; empty if it may be."""
        if "disable" not in self.obey:
            return "the option `obey` does not name disable"
        if identifier in self.settings and "disable-settings" not in self.obey:
            return "a person sets it"
        return self._refuses("disable")

    def _report(self, request: cf.NodeReport, now: float) -> list[cf.Frame]:
        if now < self._report_at < float("inf") or not self._obeys("report"):
            return []  # it will be answered
        if now - self._reported >= REPORT_INTERVAL_S:
            self._reported = now
            self.report_due = True
        else:
            self._report_at = self._reported + REPORT_INTERVAL_S
        return []

    def _refuse(self, request: cf.Request, now: float) -> list[cf.Frame]:
        self.counts["requests refused"] += 1
        return self._answer(request, 1)

    def _read_setting(self, request: cf.ConfigurationQuery, now: float) -> list[cf.Frame]:
        if request.key not in SETTINGS:
            return self._answer(request, UNKNOWN_KEY)
        values = (
            self.identity.table,
            self.state.heartbeat,
            int(self.state.sending),
            int(now - self._started),
            sum(now - seen.last < SILENT_S for seen in self.nodes.values()),
        )
        return self._answer(request, data=SETTINGS[request.key][0].write(values[request.key]))

    def _change_setting(self, request: cf.ConfigurationSet, now: float) -> list[cf.Frame]:
        if request.key not in SETTINGS:
            return self._answer(request, UNKNOWN_KEY)
        field, writable = SETTINGS[request.key]
        if not writable or not self._obeys("configuration"):
            return self._answer(request, READ_ONLY)
        if len(request.data) < field.size or any(request.data[field.size :]):
            return self._answer(request, WRONG_TYPE)
        value = int.from_bytes(request.data[: field.size], "little")
        if not (field.min or 0) <= value <= (field.max or 0):
            return self._answer(request, OUT_OF_RANGE)
        if request.key == 1:
            self.state.heartbeat = value
        else:
            was, self.state.sending = self.state.sending, bool(value)
            self.state.silenced_by = 0 if value else request.source
            self.report_due |= bool(value) and not was
            if bool(value) != was:
                what = "parameters again" if value else "no parameters"
                self._log(f"node {request.source} told us to send {what}", request.source)
        self.changed = True
        return self._answer(request)


def _who(node: int) -> str:
    return f"node {node}" if node else "another node"


# -- saved state -------------------------------------------------------------------------------------------------------


def load_state(data: bytes) -> State:
    """Decode the bytes of `save_state`. Raises ValueError for an invalid state."""
    state = msgspec.json.decode(data, type=State)
    if not (state.node is None or 1 <= state.node <= 255) or not 200 <= state.heartbeat <= 2000:
        raise ValueError("node id or heartbeat out of range")
    if state.bitrate not in (None, 125_000, 250_000, 500_000, 1_000_000):
        raise ValueError(f"{state.bitrate} is not a CAN-FIX bit rate")
    return state


def save_state(state: State) -> bytes:
    return msgspec.json.encode(state)
