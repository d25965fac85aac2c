"""CAN-FIX: instruments, engine monitors, switches and displays on a CAN bus, and the gateway as a node among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fixgw import state
from fixgw.database import Database
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.anonymous import without_places
from fixgw.drivers.canfix.inputs import Inputs
from fixgw.drivers.canfix.node import (
    RATE_CHANGE_PAUSE_S,
    Command,
    Identity,
    Node,
    State,
    load_state,
    save_state,
)
from fixgw.drivers.canfix.outputs import Outputs
from fixgw.drivers.canfix.path import ANNOUNCE_S
from fixgw.drivers.canfix.table import Table, load
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can.bus import CanPlugin, Tap
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.errors import Advice, ConfigurationError, PluginFail, Problem
from fixgw.kit.anonymous import Shift
from fixgw.kit.phases import FLYING_KT
from fixgw.kit.raw import Heard
from fixgw.plugin import Device, Feeds, Finding
from fixgw.state import Keeper
from fixgw.world import Way

if TYPE_CHECKING:
    from fixgw.drivers.canfix.monitor import Monitor


class CanfixOptions(BusOptions, frozen=True, kw_only=True):
    """Options of a CAN-FIX bus."""

    mapfile: Annotated[
        str,
        Meta(
            extra={"file": True},
            description="The map between parameters and keys; empty: read every parameter that has a key",
        ),
    ] = ""
    table: Annotated[
        Literal[2023, 2024],
        Meta(description="Year of the parameter identifiers; 2023 for older devices (wind, tires, struts)"),
    ] = 2024
    node: Annotated[int, Meta(ge=1, le=255, description="The gateway's node id, which no other node may use")] = 0xB6
    device: Annotated[int, Meta(ge=0, le=255, description="Device type that the gateway reports")] = 0xB6
    model: Annotated[int, Meta(ge=0, le=0xFFFFFF, description="Model number that the gateway reports")] = 0
    firmware: Annotated[int, Meta(ge=0, le=255, description="Firmware revision that the gateway reports")] = 1
    description: Annotated[
        str, Meta(pattern="^[ -~]*$", max_length=60, description="Name that the gateway reports, in printable ASCII")
    ] = "FIX Gateway"
    simulated: Annotated[
        bool,
        Meta(
            description="Send simulated, replayed and overridden values as if they were real: for benches, never in "
            "flight. A bus whose own `source` is simulated carries them anyway"
        ),
    ] = False
    obey: Annotated[
        list[Command],
        Meta(
            description="Commands to accept from other nodes: disable (measurements), disable-settings "
            "(settings, too), report, node-id, bit-rate, configuration"
        ),
    ] = msgspec.field(default_factory=lambda: ["disable", "report"])


QUESTIONS_S = (2.0, 5.0)  # when to ask again for settings that no node has sent
MAX_VOTE = 99  # the highest number of a gateway that votes
QUESTION_INTERVAL_S = 0.5  # the shortest interval between requests on an unstable bus


class Plugin(CanPlugin[CanfixOptions]):
    """One CAN-FIX bus. Frames are handled on the bus's threads, timed work on the plugin's own thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.table: Table = load(self.options.table)
        self.codec = cf.Codec(self.table)
        self.counts = dict.fromkeys(("used", "not mapped", "misfits"), 0)
        self.keeper = Keeper(state.path(f"canfix-{self.name}"), self.log)
        self._wake = threading.Event()
        self._opened = False
        self._asked = self._announce_at = float("-inf")
        self._discarded = 0
        #: When to ask, and whether only for settings that no node has sent.
        self._questions: list[tuple[float, bool]] = []
        self._silent = False  # while the bit rate changes
        self._way: Way | None = None  # if this gateway votes for a leader
        self._hears_all = False
        self._unfollow: Callable[[], None] = lambda: None
        self._monitor: tuple[Monitor, Tap] | None = None  # while somebody looks
        self._monitoring = threading.Lock()  # guards it, but not the look whether it is there
        self._may_monitor = False
        self._began = False  # `run` has come to its end

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: CanfixOptions, db: Database) -> Iterable[Problem | tuple[str, str]]:
        yield from can_bus.check(options)
        if options.mapfile:
            yield from mapping.read(options.mapfile, load(options.table), db)[1]

    @classmethod
    def anonymise(cls, options: CanfixOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return without_places(entries, shift)

    @classmethod
    def carries_votes(cls, options: CanfixOptions) -> bool:
        return not options.listen_only

    @classmethod
    def advise(cls, options: CanfixOptions, db: Database) -> Iterable[Advice]:
        if options.mapfile:
            yield from mapping.advice(options.mapfile, load(options.table), db)

    @classmethod
    def writes(cls, options: CanfixOptions) -> Iterable[str]:
        if options.mapfile:
            return mapping.keys_in(options.mapfile)
        return [key for parameter in load(options.table) for key, _ in mapping.keys_of(parameter)]

    @classmethod
    def preflight(cls, options: CanfixOptions) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        if options.mapfile:
            yield Feeds(tuple(mapping.keys_in(options.mapfile)))

    def run(self) -> None:
        options, db = self.options, self.db
        if options.mapfile:
            found, problems = mapping.read(options.mapfile, self.table, db)
            if problems:
                raise ConfigurationError(problems)
        else:
            found = msgspec.convert(mapping.build_default(self.table, db), mapping.Map)
        self.node = Node(
            options.node,
            Identity(
                device=options.device,
                model=options.model,
                firmware=options.firmware,
                description=options.description,
                table=options.table,
            ),
            self.clock,
            self._load_state(),
            options.obey,
            {e.parameter(self.table).identifier for e in found.outputs if e.owner},
            None if options.interface == "socketcan" else options.bitrate,  # the system sets the bit rate of SocketCAN
            self._refuses,
            {e.parameter(self.table).identifier for e in found.outputs if e.owner and self._is_setting(e)},
            {e.parameter(self.table).identifier: ", ".join(filter(None, e.keys)) for e in found.outputs if e.owner},
            lambda text, node: self.log.warning("%s", text, extra={"FIXGW_NODE": node} if node else None),
        )
        self.inputs = Inputs(found, self.table, db, self.source)
        self.outputs = Outputs(
            found,
            self.table,
            db,
            self.source,
            self.node,
            self.inputs.heard,
            self._send,
            lambda: not self._silent and self.bus.bus.can_send,
            self._wake.set,
            self.quorum,
            self.clock,
            options.simulated,
        )
        self.inputs.judge = self.outputs.judge
        self._open(self.node.bitrate or options.bitrate)
        if options.mapfile:
            self.inputs.doubt_start_values()
        self.inputs.open()
        self.outputs.open()
        self._unfollow = self.quorum.subscribe(self.outputs.lead_changed)
        self._way = way = self.quorum.ways.get(self.name)
        if way is not None:
            way.send = self._send_vote
            way.works = lambda: not self._silent and self.bus.bus.acknowledged
        self._may_monitor = True
        self.offer(f"monitor {self.name}", self._show_traffic)
        self._began = True
        super().run()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._may_monitor = False
        self._end_monitor()
        if not self._began:  # run() failed early
            super().stop()
            return
        self._unfollow()
        if self._way is not None:
            self._way.close()
        self.outputs.close()
        try:
            super().stop()
        finally:
            self.inputs.close()
            if self.node.changed:
                self._save_state()
            self.keeper.close()

    def health(self) -> str:
        trouble = super().health()
        if not self._began:
            return trouble or "not started"
        troubles = (trouble or self.node.trouble(), self.node.silenced(), self.outputs.health(), self.keeper.trouble)
        return "; ".join(filter(None, troubles))

    def get_status(self) -> Mapping[str, Any]:
        if not self._began:
            return {}
        return {
            **super().get_status(),
            "frames": dict(self.codec.counts),
            **self.counts,
            "saving failed": self.keeper.failures,
            "came back": self.inputs.returned,
            "keys missing": sorted(self.inputs.missing),
            "outputs": {**self.outputs.counts, **({"last": self.outputs.trouble} if self.outputs.trouble else {})},
            **self.node.status(),
        }

    # -- the bus -------------------------------------------------------------------------------------------------------

    def _open(self, bitrate: int | None) -> None:
        """Open the bus, for mapped parameters, alarms and node-specific messages."""
        self._hears_all = False
        ids = self.inputs.identifiers | set(range(1, 256)) | set(range(cf.NODE_SPECIFIC + 1, cf.TWO_WAY))
        options = msgspec.structs.replace(self.options, bitrate=bitrate)
        self.bus: Tap = self.tap(options, self.received, ids)
        self.bus.unsent = self._unsent

    def received(self, frames: Sequence[Frame]) -> None:
        """Handle received frames. Called on one of the bus's threads, one call at a time."""
        with self.db.batch:
            self._receive(frames)

    def _receive(self, frames: Sequence[Frame]) -> None:
        if self._hears_all:
            self._note_others(frames)
        direct, seen, own, used = self.inputs.direct, self.node.frames, self.node.id, 0
        for frame in frames:
            identifier, data = frame.arbitration_id, frame.data
            route = direct.get(identifier)
            if route is None or frame.flags or not route[0] <= len(data) <= 8:
                self._receive_any(frame)
                continue
            node = data[0]
            take = route[1].get(data[1])
            if take is None or node == own or data[2] > cf.LAST_VALUE_CODE:
                self._receive_any(frame)
                continue
            used += 1
            try:
                seen[identifier << 8 | node] += 1
            except KeyError:
                self.node.count(identifier, node)
            try:
                take(data)
            except ValueError as error:
                self.counts["used"] -= 1
                self._count_misfit(error, node)
        self.codec.counts["value"] += used
        self.counts["used"] += used

    def _receive_any(self, frame: Frame) -> None:
        """Receive a frame that needs more than one step."""
        identifier, flags = frame.arbitration_id, frame.flags
        outcome = self.codec.decode(
            identifier,
            frame.data,
            bool(flags & EXTENDED),
            bool(flags & REMOTE),
            bool(flags & ERROR),
            bool(flags & FD),
        )
        if not isinstance(outcome, cf.Value):
            self._receive_other(outcome)
            return
        node = outcome.node
        if node == self.node.id:
            self.node.receive(outcome)
            return
        self.node.count(identifier, node)
        try:
            take = self.inputs.values[identifier][outcome.index]
        except KeyError:
            self.counts["not mapped"] += 1
            return
        try:
            take(outcome.value, outcome.code, node)
            self.counts["used"] += 1
        except ValueError as error:
            self._count_misfit(error, node)

    def _receive_other(self, outcome: cf.Outcome) -> None:
        """Handle anything but the value of a parameter."""
        try:
            if isinstance(outcome, cf.Meta) and outcome.node != self.node.id:
                self.inputs.meta(outcome)
            elif isinstance(outcome, cf.ParameterSet) and outcome.source != self.node.id:
                self.inputs.set(outcome)
            elif isinstance(outcome, cf.NodeStatus) and outcome.type == cf.QUORUM:
                self._take_vote(outcome)
            elif isinstance(outcome, cf.NodeStatus) and outcome.source != self.node.id:
                self.inputs.paths.take(outcome)
        except ValueError as error:
            self._count_misfit(error, cf.sender_of(outcome))
        for answer in self.node.receive(outcome):
            self._send(answer)
        if self.node.report_due or self.node.changed or self.node.new_bitrate:
            self._wake.set()

    def _take_vote(self, vote: cf.NodeStatus) -> None:
        """Write a vote for a leader. Our own number, too: then another gateway has it by mistake."""
        number = vote.value
        if not isinstance(number, int) or not 1 <= number <= MAX_VOTE:
            raise ValueError(f"{number!r} is no number of a gateway that votes (1 to {MAX_VOTE})")
        key = f"QVOTE{number}"
        if number == self.quorum.nodeid and vote.source != self.node.id and self._is_ours(vote.source):
            return
        if key in self.db:
            self.db.write(key, number, f"{self.source}/{vote.source}", flags=0)
        elif self.quorum.enabled:
            self.counts["votes without a key"] = self.counts.get("votes without a key", 0) + 1
            self.complain("node %d votes as %s, which the database lacks", vote.source, key, about=key)

    def _is_ours(self, node: int) -> bool:
        """Whether another connection of this gateway is this node."""
        return any(way.sender == node for way in self.quorum.ways.values())

    def _send_vote(self, number: int) -> bool:
        """Send this gateway's vote for a leader. Called on the thread of the plugin that votes."""
        assert self._way is not None
        self._way.sender = self.node.id
        return self._send(cf.NodeStatus(self.node.id, cf.QUORUM, number).encode())

    def _note_others(self, frames: Sequence[Frame]) -> None:
        """Note when another node was last heard: it is a witness that the bus is not cut."""
        assert self._way is not None
        own = self.node.id
        for frame in frames:
            identifier = frame.arbitration_id
            sender = identifier - cf.NODE_SPECIFIC if identifier >= cf.NODE_SPECIFIC else (frame.data or b"\0")[0]
            if frame.flags or sender != own:
                self._way.heard_at = self.db.clock()
                return

    def _count_misfit(self, error: ValueError, node: int) -> None:
        """Count a value from `node` that the database refused."""
        self.counts["misfits"] += 1
        self.complain("node %d: %s", node, error, extra={"FIXGW_NODE": node})

    def _send(self, frame: cf.Frame) -> bool:
        return not self._silent and self.bus.send(frame.arbitration_id, frame.data)

    def _unsent(self, frame: Frame) -> None:
        self.outputs.note_unsent(frame.arbitration_id, frame.data)

    def lost(self, reason: str) -> None:
        self.inputs.lost(f"the bus was lost: {reason}")

    # -- timed work ----------------------------------------------------------------------------------------------------

    def work(self) -> None:
        while not self.stopping.is_set():
            self.show_life()
            due = self.turn()
            self._wake.wait(max(0.0, due - self.clock()))
        self.outputs.follow_lead()  # the election stops first

    def is_waiting(self) -> bool:
        return self._wake.is_set()

    def turn(self) -> float:
        self._wake.clear()
        now = self.clock()
        monitor = self._monitor
        if monitor is not None and now >= monitor[0].until:
            self._end_monitor(unless_asked=True)
        if self._way is not None and self._way.listens and not self._hears_all:
            self.bus.accept(None)
            self._hears_all = True
        connected = self.bus.bus.connected
        if connected is not self._opened:
            self._opened = connected
            if connected:
                self._announce_at = now
                self._announce(now)
                self.outputs.reopened()
                self.outputs.tick()  # first the settings made during the outage
                self._questions = [(self._asked + QUESTION_INTERVAL_S, False)]
                self._questions += [(now + delay, True) for delay in QUESTIONS_S]
        discarded = self.bus.bus.counts.get("old frames discarded", 0)
        if discarded != self._discarded:  # settings may have been among them
            self._discarded = discarded
            self._questions.insert(0, (now, False))
        if connected and self._questions and now >= self._questions[0][0]:
            self._ask(now, self._questions.pop(0)[1])
        for frame in self.node.tick():
            if connected:
                self._send(frame)
        if connected:
            self._announce(now)
        if self.node.appeared:
            self.node.appeared = False
            self.outputs.report_settings()
        if self.node.report_due:
            self.node.report_due = False
            self.outputs.report()
        if self.node.new_bitrate:
            self._change_bit_rate(*self.node.new_bitrate)
        if self.node.changed:
            self._save_state()
        return min(self.node.due, self.outputs.tick(), now + 0.2)

    def _announce(self, now: float) -> None:
        """Say again, if it is time, which gateways our measurements have passed through."""
        if now >= self._announce_at:
            self._announce_at = now + ANNOUNCE_S
            self.outputs.announce()

    def _ask(self, now: float, if_unsaid: bool) -> None:
        """Ask all nodes for a report: they may have changed settings while we did not receive."""
        if not self.options.listen_only and (self.inputs.unsaid or not if_unsaid):
            self._asked = now
            self._send(cf.NodeReport(self.node.id, 0).encode())

    def _change_bit_rate(self, destination: int, bitrate: int) -> None:
        """Reopen the bus at another bit rate, or at the old one if other plugins use the bus."""
        before = self.node.bitrate
        self.log.warning(
            "changing to %d bit/s, as requested by node %d", bitrate, destination, extra={"FIXGW_NODE": destination}
        )
        self._silent = True
        self._end_monitor()  # it holds the bus
        error = False
        try:
            self._reopen(bitrate)
        except can_bus.BusConflict as conflict:
            error = True
            self.log.warning("cannot change the bit rate: %s", conflict)
            self._reopen(before)
        self.stopping.wait(RATE_CHANGE_PAUSE_S)
        self._silent = False
        for frame in self.node.rate_changed(destination, bitrate, error):
            self._send(frame)

    def _reopen(self, bitrate: int | None) -> None:
        if self.bus in self.taps:
            self.taps.remove(self.bus)
            self.bus.close()
        self._open(bitrate)

    def _is_setting(self, entry: mapping.Output) -> bool:
        db = self.db
        return all(db.item(key).definition.setting for key in entry.keys if key in db)

    def _refuses(self, command: Command) -> str:
        if command == "report":
            return ""
        db = self.db
        for key in ("GS", "IAS"):
            reading = db.read(key) if key in db else None
            if reading is not None and reading.good and float(reading.value) > FLYING_KT:
                return f"in flight: {key} is {reading.value}"
        return ""

    # -- the monitor ---------------------------------------------------------------------------------------------------

    def _show_traffic(self, words: str = "") -> str:
        """What goes over the bus, as JSON; empty while the bus is not in use. Any thread."""
        with self._monitoring:
            if self._silent or not self._may_monitor:
                return ""
            if self._monitor is None:
                from fixgw.drivers.canfix.monitor import Monitor

                monitor = Monitor(self.table, self.clock, self._name_of)
                self._monitor = monitor, self.bus.listen(monitor.take)
            answer = self._monitor[0].ask()
        return msgspec.json.encode(answer).decode()

    def _name_of(self, node: int) -> str:
        """What a node is: as it describes itself, otherwise by its type."""
        if node == self.node.id:
            return "this gateway"
        seen = self.node.nodes.get(node)
        if seen is None or seen.description or seen.identity is None:
            return "" if seen is None else seen.description
        from fixgw.drivers.canfix.tool.text import describe_device

        return describe_device(seen.identity.device)

    def _end_monitor(self, unless_asked: bool = False) -> None:
        """Hear only what the driver needs; `unless_asked`: unless somebody has asked lately."""
        with self._monitoring:
            if self._monitor is None or (unless_asked and self.clock() < self._monitor[0].until):
                return
            (_, tap), self._monitor = self._monitor, None
            with suppress(PluginFail):  # a driver on the bus hangs, which is not ours
                tap.close()

    # -- saved state ---------------------------------------------------------------------------------------------------

    def _load_state(self) -> State:
        data = self.keeper.load()
        try:
            return State() if data is None else load_state(data)
        except ValueError as error:
            self.log.warning("ignoring the invalid saved state in %s: %s", self.keeper.path, error)
            return State()

    def _save_state(self) -> None:
        self.node.changed = False
        self.keeper.keep(save_state(self.node.state))
