"""From the database to the bus: writes are sent as parameters or as Parameter Set messages. Thread-safe."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, Clock, Database, Item, Reading, Subscription, Value
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.inputs import SET
from fixgw.drivers.canfix.node import Node
from fixgw.drivers.canfix.path import Path, encode_gateway, encode_path
from fixgw.drivers.canfix.table import Parameter, Payload, Table
from fixgw.errors import BadValue
from fixgw.identity import identity
from fixgw.kit.sources import LONGEST_PATH, START, digits_of, may_leave, path_of
from fixgw.kit.update import NEVER as UNWRITTEN
from fixgw.world import Quorum

__all__ = ["Output", "Outputs"]

RETRY_S = 1.0  # between attempts to send a setting that the bus did not accept
LAST_WORD_S = 0.5  # later, another gateway may lead, and must not be contradicted
LISTEN_S = 1.0  # after an outage of the bus: how long we wait for others to send a setting before we do
CROSSING_S = 0.25  # two nodes that set within this time have not received each other's value; time to confirm ours
CROSSED_S = 3.0  # a value sent this long before another arrives may have crossed it, if a node was held up
INSISTENCE = 3  # how often a setting is sent again because another node has contradicted it
NOTED_FRAMES = 256
DEFAULT_RATE_HZ = 20.0  # the rate limit of measurements, unless the map sets another
NEVER = float("inf")
AuxValues = dict[tuple[str, str], "Value | None"]


class Outputs:
    """All outputs of one map. A write is sent on the writer's thread; `tick` sends what had to wait."""

    def __init__(
        self,
        found: mapping.Map,
        table: Table,
        database: Database,
        source: str,
        node: Node,
        heard: AuxValues,
        send: Callable[[cf.Frame], bool],
        can_send: Callable[[], bool],
        wake: Callable[[], None],
        quorum: Quorum,
        clock: Clock,
        simulated_too: bool = False,
    ) -> None:
        self.aux_name = found.aux_name
        self.database = database
        self.prefix = source + "/"
        self.node = node
        self.heard = heard
        self.send = send
        self.can_send = can_send
        self.wake = wake
        self.quorum = quorum
        self.clock = clock
        self.counts = dict.fromkeys(("sent", "held back by the bus", "unsendable", "simulated, not sent"), 0)
        self._simulated_too = simulated_too
        self.source = source
        self._digits = digits_of(identity(database))
        #: The reason why the last unsendable value could not be sent.
        self.trouble = ""
        self._noted: deque[tuple[int, bytes]] = deque(maxlen=NOTED_FRAMES)
        self._lead_changes: deque[tuple[bool, bool, float]] = deque(maxlen=16)
        self.outputs = []
        for entry in found.outputs:
            items = [database.item(key) if key in database else None for key in entry.keys]
            if any(items):
                self.outputs.append(Output(self, entry, entry.parameter(table), items))

    @property
    def produced(self) -> set[int]:
        """The identifiers of the parameters that we send as their owner."""
        return {output.parameter.identifier for output in self.outputs if output.entry.owner}

    def open(self) -> None:
        for output in self.outputs:
            output.open()

    def close(self) -> None:
        for output in self.outputs:
            output.close()

    @property
    def settings(self) -> set[int]:
        """The identifiers of the parameters that we own and that a person sets."""
        return {o.parameter.identifier for o in self.outputs if o.entry.owner and o.setting}

    def announce(self) -> None:
        """Say that we are a gateway, and which gateways our measurements have passed through."""
        measured = [output for output in self.outputs if not output.setting]
        if measured:
            self.send(encode_gateway(self.node.id, self._digits))
            for output in measured:
                output.announce()

    def report(self) -> None:
        """Send every parameter that we own, with its meta data, and the settings without an owner. Leave out start
        values."""
        self.announce()
        for output in self.outputs:
            output.report()

    def report_settings(self) -> None:
        """Send the settings that we own: a node has appeared that does not know them."""
        for output in self.outputs:
            output.remind()

    def reopened(self) -> None:
        """The bus is open: send settings made here during the outage at once. Listen for changes by other nodes before
        the other parameters are sent."""
        for output in self.outputs:
            output.reopened()

    def judge(self, key: str, value: Value, source: str) -> bool | None:
        """Whether our value of the setting `key` counts although a node sends this one; see `Output.judge`."""
        verdicts = [output.judge(value, source) for output in self.outputs if output.judges(key)]
        return True if True in verdicts else False if False in verdicts else None

    def note_unsent(self, identifier: int, data: bytes) -> None:
        """The bus has not sent this frame of ours. Takes no lock."""
        self._noted.append((identifier, data))
        self.wake()

    def lead_changed(self, leads: bool, in_time: bool) -> None:
        """This gateway leads now, or no longer. Only takes note; `tick` sends what follows from it."""
        self._lead_changes.append((leads, in_time, self.clock()))
        self.wake()

    def follow_lead(self) -> None:
        """Send what follows from `lead_changed`. Only on the thread that calls `tick`."""
        while self._lead_changes:
            leads, in_time, when = self._lead_changes.popleft()
            for output in self.outputs:
                if leads:
                    output.lead()
                elif in_time and self.clock() - when < LAST_WORD_S:
                    output.say_last_word()

    def health(self) -> str:
        """The values that cannot be sent unchanged."""
        troubles = [trouble for output in self.outputs for trouble in output.troubles()]
        more = f" and {len(troubles) - 1} more" if len(troubles) > 1 else ""
        return f"cannot send {troubles[0]}{more}" if troubles else ""

    def node_of(self, source: str) -> int:
        """The node that a source on this bus names; 0 if none."""
        return next((int(part) for part in reversed(source.split("/")) if part.isdecimal()), 0)

    def may_send(self, sources: Iterable[str]) -> bool:
        """Whether values of these `sources` may be sent: none is simulated, or the bus is. Counts refusals."""
        if all(may_leave(source, self.source, self._simulated_too) for source in sources):
            return True
        self.counts["simulated, not sent"] += 1
        return False

    def tick(self) -> float:
        """Send what is due. Returns when to call again, in monotonic seconds."""
        self.follow_lead()
        while self._noted:
            frame = self._noted.popleft()
            for output in self.outputs:
                output.unsent(frame)
        return min((output.tick() for output in self.outputs), default=NEVER)


class Output:
    """One parameter, sent from one key or from several switches."""

    def __init__(self, outputs: Outputs, entry: mapping.Output, parameter: Parameter, items: list[Item | None]) -> None:
        self.entry = entry
        self.parameter = parameter
        self._all = outputs
        self._items = items
        self._switches = mapping.is_switches(parameter) and any(i is not None and i.type == "bool" for i in items)
        self._convert = _make_converter(entry, parameter, next(item for item in items if item is not None))
        discrete = parameter.text or mapping.is_switches(parameter)
        rate = (0.0 if discrete else DEFAULT_RATE_HZ) if entry.rate_limit is None else entry.rate_limit
        self._interval = 1 / rate if rate else 0.0
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._free_at = float("-inf")  # when the rate limit allows the next message
        self._repeat_at = NEVER
        self._waiting = False  # whether a value waits for the rate limit
        self._unsent: dict[str, Reading] = {}  # by key; values from the bus do not replace these
        self._last: bytes | None = None  # the last content sent, without the node
        self._sent: cf.Frame | None = None
        self._payload: Payload | None = None  # the last that could be sent
        self.trouble = ""  # why the value cannot be sent unchanged; empty if it can
        #: By aux value sent before: why the new one cannot be sent; empty if it can.
        self._meta_troubles: dict[str, str] = {}
        #: Whether the value is a setting: it is not measured again, so the last message must arrive.
        self.setting = all(item.definition.setting for item in items if item is not None)
        self._owed_at = NEVER  # when to send a setting that has not been sent
        self._listen_until = float("-inf")  # other nodes may have a newer setting
        self._mine: Reading | None = None  # a setting made here, neither contradicted nor confirmed yet
        self._mine_at = NEVER  # when it was sent
        self._sent_at = float("-inf")  # when the last message was sent, and its value
        self._sent_value: bytes | None = None
        self._told: deque[tuple[float, bytes | None]] = deque(maxlen=16)  # when values were sent, and which
        self._insisted = 0
        #: When another node's value won over ours, the message that ours was sent in, and ours.
        self._overruled: tuple[float, cf.Frame | None, Reading] | None = None
        self._owner_heard = False
        self._node_said: dict[str, bytes | None] = {}  # of a setting: what each node has said last, by source
        self._path: Path = ()  # the gateways that the measurement sent last has passed through
        self._has_announced = False
        self._metas: set[int] = set()  # the meta indices to be sent
        self._aux: dict[str, int] = {}
        first = items[0]
        if entry.owner and first is not None and not self._switches:
            self._aux = {aux: n for n, meta in parameter.metas.items() if (aux := outputs.aux_name(meta)) in first.aux}

    def troubles(self) -> list[str]:
        """Why the value, or meta data that was sent before, cannot be sent unchanged."""
        return list(filter(None, (self.trouble, *list(self._meta_troubles.values()))))

    def judges(self, key: str) -> bool:
        """Whether it sends the setting `key`, so that it may insist."""
        return self.setting and not self._switches and any(item is not None and item.key == key for item in self._items)

    def open(self) -> None:
        for item in filter(None, self._items):
            self._subscriptions.append(
                self._all.database.subscribe(item.key, self._written, self._aux_written if self._aux else None)
            )

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()

    def report(self) -> None:
        if self.entry.owner or (self.setting and not self._owner_heard):
            with self._lock:
                self._last = None
                self._add_metas()
                listening = self.setting and self._all.clock() < self._listen_until
                self._waiting = self._has_news and not listening
            self._all.wake()

    def announce(self) -> None:
        """Say again which gateways the measurement has passed through, if we have ever said so."""
        with self._lock:
            if self._has_announced:
                self._announce()

    def _announce(self) -> None:
        self._has_announced = True
        for frame in encode_path(self._all.node.id, (self.parameter.identifier, self.entry.index), self._path):
            self._all.send(frame)

    def reopened(self) -> None:
        with self._lock:
            if self._owed_at != NEVER:
                self._owed_at = self._all.clock()
            elif self.setting:
                self._listen_until = self._all.clock() + LISTEN_S
                self._say_later()
            elif self.entry.owner:
                self._last = None
                self._waiting = self._has_news
            self._add_metas()
        self._all.wake()

    def lead(self) -> None:
        """This gateway leads now: send the current value."""
        if self.entry.require_leader:
            with self._lock:
                self._last = None
                self._waiting = self._has_news

    def say_last_word(self) -> None:
        """This gateway has just lost the lead: send the value that the map names for that, if any."""
        word, node = self.entry.on_lost_lead, self._all.node
        if word == mapping.NO_LAST_WORD or not self.entry.require_leader or self._all.quorum.leader:
            return
        with self._lock:
            self._last = self._mine = None
            if not node.may_send(self.parameter.identifier if self.entry.owner else 0):
                return
            now, source = self._all.clock(), self._all.source
            readings = [Reading(i.convert(word), 0, now, source) if i is not None else None for i in self._items]
            try:
                frame = self._frame(readings, node.id)
            except (BadValue, ValueError) as error:
                self._all.counts["unsendable"] += 1
                self._all.trouble = str(error)
                return
            if frame is not None:
                self._all.counts["sent" if self._all.send(frame) else "held back by the bus"] += 1

    def remind(self) -> None:
        """Send a setting that we own, unless another node sends it soon."""
        if self.setting:
            with self._lock:
                self._say_later()
            self._all.wake()

    def _say_later(self) -> None:
        if self.entry.owner and self._has_news:
            self._owed_at = min(self._owed_at, self._all.clock() + LISTEN_S)

    def unsent(self, frame: tuple[int, bytes]) -> None:
        """Send a setting again if `frame` was its last message, even if another node's value has just won over it."""
        with self._lock:
            if self.setting and frame == self._sent:
                self._owe()
            if self._overruled is None or frame != self._overruled[1]:
                return
            (when, _, mine), self._overruled = self._overruled, None
        item = self._items[0]
        assert item is not None
        if self._all.clock() - when < CROSSING_S and item.said.source.startswith(self._all.prefix):
            item.write(mine.value, mine.source, mine.flags & ~OLD)

    def _owe(self) -> None:
        """Send the setting later; held: the lock."""
        self._last = self._sent = None
        self._mine_at = NEVER
        self._owed_at = min(self._owed_at, self._all.clock() + RETRY_S)

    @property
    def _has_news(self) -> bool:
        return any(item is not None and _is_news(item.reading) for item in self._items)

    def _add_metas(self) -> None:
        if self._aux:
            self._metas.update(n for aux, n in self._aux.items() if self._items[0].aux[aux] is not None)  # type: ignore[union-attr]

    @property
    def _permitted(self) -> bool:
        leads = self._all.quorum.leader or not self.entry.require_leader
        return leads and self._all.node.may_send(self.parameter.identifier if self.entry.owner else 0)

    # -- in the writer's thread ----------------------------------------------------------------------------------------

    def _written(self, key: str, reading: Reading) -> None:
        if reading.source.startswith(self._all.prefix):
            is_set = reading.source.endswith(SET)
            if not is_set:
                self._owner_heard = True
            if not (is_set and self.entry.owner):
                first = self._items[0]
                if first is not None and self.setting and not self._switches:
                    self._take_over(reading, is_set)
                if self.entry.on_change:
                    self._heard()
                return  # it came from this bus
        with self._lock:
            self._unsent[key] = reading
            mine = self._mine
            new = mine is None or mine.stamp != reading.stamp
            if new and self.setting and not self._switches and _is_news(reading):
                if mine is None or mine.value != reading.value:
                    self._insisted = 0
                self._mine, self._mine_at, self._overruled = reading, NEVER, None
                self._listen_until = float("-inf")
            self._send_soon()

    def _send_soon(self) -> None:
        """Send, as soon as the rate limit allows. The caller holds the lock."""
        if self._all.clock() >= self._free_at:
            self._send()
        elif not self._waiting:
            self._waiting = True
            self._all.wake()

    def judge(self, value: Value, source: str) -> bool | None:
        """Whether our value of a setting counts although a node sends this one. If so, ours is sent again.

        None if we do not tell the node, because another gateway leads or because a node has disabled our output.

        All nodes receive the messages on the bus in the same order, but ours may have been sent before the other
        node's message, or not yet. So if two nodes set at the same instant, the value of the lower id wins. Our value
        also wins if it has not been sent yet, or if the owner has not confirmed it, up to INSISTENCE times. What the
        owner says within CROSSING_S may have crossed ours, which is sent again only after that: the owner may take it
        meanwhile, and somebody may then turn its knob, which a second message would turn back. An owner that says what
        it has not said before, nor been told just now, has not missed ours: somebody has turned its knob.
        """
        is_set = source.endswith(SET)
        with self._lock:
            self._owner_heard |= not is_set
            theirs, before = self._bytes(value), self._node_said.get(source)
            self._node_said[source] = theirs
            if is_set and self.entry.owner:
                return False
            if not self._permitted:
                return None
            mine, now = self._mine, self._all.clock()
            if mine is None:
                return False
            ours = self._bytes(mine.value)
            by_owner = not self.entry.owner and not is_set
            echoes = any(value == theirs and now - at < CROSSING_S for at, value in self._told)
            turned = before is not None and theirs != before and not echoes
            if by_owner and (turned or theirs == ours) and self._mine_at != NEVER:
                self._owed_at = NEVER  # no second message
            if theirs == ours:
                return False
            if by_owner:  # it may not have heard us, or not yet
                if turned:
                    self._insisted = INSISTENCE
                stays = self._insisted < (1 if ours == self._sent_value else INSISTENCE)
                otherwise = None
            else:
                crossed = now - self._mine_at < CROSSING_S and self._all.node.id < self._all.node_of(source)
                stays = self._insisted < INSISTENCE and (self._mine_at == NEVER or crossed)
                otherwise = False
            if not stays:
                return otherwise
            self._insisted += 1
            if by_owner and self._mine_at != NEVER:
                self._owed_at = max(now, self._mine_at + CROSSING_S)
                self._all.wake()
            else:
                self._last = None
                self._send_soon()
            return True

    def _take_over(self, reading: Reading, is_set: bool) -> None:
        """Another node's value of a setting has been published."""
        with self._lock:
            mine, now = self._mine, self._all.clock()
            confirmed = mine is not None and self._bytes(reading.value) == self._bytes(mine.value)
            if mine is not None and not confirmed:
                self._overruled = now, self._sent, mine
            if not confirmed or (not is_set and not self.entry.owner):
                self._mine = None
            if not confirmed:
                self._unsent.clear()
                self._waiting = False
            self._owed_at = NEVER
            self._sent = None
            # If two messages crossed, each node has taken the other's value. The node with the higher id says again
            # what it has taken.
            crossed = now - self._sent_at < CROSSED_S and self._bytes(reading.value) != self._sent_value
            if crossed and (self.entry.owner or is_set) and self._all.node.id > self._all.node_of(reading.source):
                self._owed_at = now + CROSSING_S
                self._all.wake()

    def _bytes(self, value: Value) -> bytes | None:
        try:
            return self.parameter.write(self._convert(value), strict=False)
        except (ValueError, OverflowError):
            return None

    def _heard(self) -> None:
        """If the bus now has another value than the one we last sent, let the same value be sent again."""
        with self._lock:
            try:
                frame = self._frame(
                    [item.reading if item is not None else None for item in self._items], self._all.node.id
                )
            except ValueError:
                frame = None
            if self._content(frame) != self._last:
                self._last = None

    def _aux_written(self, key: str, name: str, value: Value | None) -> None:
        number = self._aux.get(name)
        if number is None or value is None or self._all.heard.get((key, name)) == value:
            return
        with self._lock:
            self._metas.add(number)
        self._all.wake()

    # -- sending -------------------------------------------------------------------------------------------------------

    def tick(self) -> float:
        now = self._all.clock()
        with self._lock:
            owed_at = self._owed_at
            if now < self._free_at:
                return min(self._free_at if self._waiting or self._metas else NEVER, self._repeat_at, owed_at)
            if now >= owed_at:
                if self._all.can_send():
                    self._last = None
                    self._send()
                else:
                    self._owed_at = now + RETRY_S
            elif self._waiting or now >= self._repeat_at:
                self._last = None if now >= self._repeat_at else self._last
                self._send()
            metas, self._metas = self._metas, set()
            for number in metas:
                self._send_meta(number)
            return min(self._repeat_at, self._owed_at)

    def _send(self) -> None:
        """Send the unsent readings, otherwise the current ones. The caller holds the lock."""
        self._waiting = False
        self._owed_at = NEVER
        unsent, self._unsent = self._unsent, {}
        entry = self.entry
        now = self._all.clock()
        self._repeat_at = now + entry.repeat if entry.repeat else NEVER
        if not self._permitted:
            self._last = self._mine = None
            if self.setting:
                self._owe()
            return
        readings = [item.aged(unsent.get(item.key, item.reading)) if item is not None else None for item in self._items]
        try:
            frame = self._frame(readings, self._all.node.id)
            self.trouble = ""
        except (BadValue, ValueError) as error:
            self._all.counts["unsendable"] += 1
            self._all.trouble = self.trouble = str(error)
            frame = self._failed_frame(self._all.node.id)
            self._mine = None
        if frame is None or not self._all.may_send(r.source for r in readings if r is not None):
            self._mine = None
            return
        if not self.setting:
            path = tuple(dict.fromkeys(digits for r in readings if r is not None for digits in path_of(r.source)))
            if len(path) > LONGEST_PATH:
                return
            if path != self._path:
                self._path = path
                self._announce()
        content = self._content(frame)
        if entry.on_change and content == self._last:
            self._mine = None
            return
        self._free_at = now + self._interval
        if self._all.send(frame):
            self._all.counts["sent"] += 1
            self._last, self._sent = content, frame
            self._mine_at = self._sent_at = now
            first = readings[0]
            if self.setting and first is not None:
                self._sent_value = self._bytes(first.value)
                self._told.append((now, self._sent_value))
        else:
            self._all.counts["held back by the bus"] += 1
            self._last = None
            if self.setting:
                self._owe()

    def _content(self, frame: cf.Frame | None) -> bytes | None:
        """The content of a frame, without the node that sends it."""
        return frame and (frame.data[1:] if self.entry.owner else frame.data)

    def _frame(self, readings: list[Reading | None], node: int) -> cf.Frame | None:
        """The frame for these readings; None when there is nothing to send. Raises `BadValue`."""
        first = next(r for r in readings if r is not None)
        if not any(r is not None and _is_news(r) for r in readings):
            return None
        if self._switches:
            flags = 0
            bits = 0
            for number, reading in enumerate(readings):
                if reading is not None:
                    flags |= reading.flags & ~OLD  # a button that has not been pressed for a while is not suspect
                    bits |= (bool(reading.value) != self.entry.invert) << number
            payload: Payload = _pack_bits(bits, self.parameter.parts)
        else:
            flags = first.flags
            payload = self._convert(first.value)
        if not self.entry.owner:
            if flags & (BAD | FAIL | OLD):
                return None
            return cf.ParameterSet(node, self.parameter, self.entry.index, payload).encode()
        frame = cf.update(
            self.parameter,
            payload,
            node,
            index=self.entry.index,
            annunciate=bool(flags & ANNUNCIATE),
            quality=bool(flags & (BAD | OLD)),
            failure=bool(flags & FAIL),
        ).encode()
        self._payload = payload
        return frame

    def _failed_frame(self, node: int) -> cf.Frame | None:
        """The frame that reports an unsendable value: the previous value, failed. None for the parameter of another
        node, which keeps its value."""
        if not self.entry.owner:
            return None
        parts = self.parameter.parts
        nothing: Payload = "" if self.parameter.text else (0,) * len(parts) if len(parts) > 1 else 0
        payload = nothing if self._payload is None else self._payload
        return cf.update(self.parameter, payload, node, index=self.entry.index, failure=True).encode()

    def _send_meta(self, number: int) -> None:
        item = self._items[0]
        node = self._all.node
        assert item is not None
        aux = next((aux for aux, n in self._aux.items() if n == number), "")
        value = item.aux.get(aux)
        if value is None or not self._permitted or not self._all.may_send((item.aux_sources.get(aux, ""),)):
            return
        try:
            meta = cf.update(self.parameter, self._convert(value), node.id, index=self.entry.index, meta=number)
            sent = self._all.send(meta.encode())
        except (BadValue, ValueError) as error:
            self._all.counts["unsendable"] += 1
            self._all.trouble = f"{item.key}.{aux}: {error}"
            if aux in self._meta_troubles:
                self._meta_troubles[aux] = self._all.trouble
        else:
            self._meta_troubles[aux] = ""
            self._all.counts["sent" if sent else "held back by the bus"] += 1


def _is_news(reading: Reading) -> bool:
    """Whether the reading was written since the start: another gateway may have a newer value than a start value."""
    return bool(reading.source or reading.stamp != UNWRITTEN) and reading.source not in START


def _pack_bits(bits: int, parts: tuple[str, ...]) -> Payload:
    sizes = [16 if part == "WORD" else 8 for part in parts]
    numbers = []
    for size in sizes:
        numbers.append(bits & (1 << size) - 1)
        bits >>= size
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _make_converter(entry: mapping.Output, parameter: Parameter, item: Item) -> Callable[[Any], Payload]:
    """The function that converts the item's value to the parameter's. It may raise ValueError."""
    if item.type == "str":
        if parameter.text:
            return lambda value: value[: parameter.size]
        count = len(parameter.parts)
        return lambda text: _parse_parts(text, count)
    if item.type == "bool":
        return lambda value: int(value) ^ entry.invert
    scale, offset, _ = mapping.conversion(entry, parameter, item)
    if mapping.is_full_circle(parameter):
        return lambda value: (value - offset) / scale % 360.0
    if (scale, offset) == (1.0, 0.0):
        return lambda value: value
    return lambda value: (value - offset) / scale


def _parse_parts(text: str, count: int) -> tuple[int, ...]:
    """The numbers in a time or a date; missing parts are 0."""
    try:
        numbers = [int(part) for part in text.replace("-", ":").split(":")]
    except ValueError:
        raise ValueError(f"{text!r} is neither a time nor a date") from None
    return tuple((numbers + [0] * count)[:count])
