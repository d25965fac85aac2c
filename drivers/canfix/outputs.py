"""From the database to the bus: writes are sent as parameters or as Parameter Set messages. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, Clock, Database, Item, Reading, Subscription, Value
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.inputs import SET
from fixgw.drivers.canfix.node import Node
from fixgw.drivers.canfix.table import Parameter, Payload, Table
from fixgw.errors import BadValue
from fixgw.kit.sources import START, simulated
from fixgw.kit.update import NEVER as UNWRITTEN
from fixgw.world import Quorum

__all__ = ["Output", "Outputs"]

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
        self.wake = wake
        self.quorum = quorum
        self.clock = clock
        self.counts = dict.fromkeys(("sent", "held back by the bus", "unsendable", "simulated, not sent"), 0)
        self._simulated = simulated_too or simulated(source)  # a simulated bus is made for it
        #: The reason why the last unsendable value could not be sent.
        self.trouble = ""
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

    def report(self) -> None:
        """Send every parameter that we own, with its meta data. Leave out start values."""
        for output in self.outputs:
            output.report()

    def may_send(self, readings: Iterable[Reading | None]) -> bool:
        """True unless one of them is simulated, and the bus is not: that is counted."""
        if self._simulated or not any(r is not None and simulated(r.source) for r in readings):
            return True
        self.counts["simulated, not sent"] += 1
        return False

    def tick(self) -> float:
        """Send what is due. Returns when to call again, in monotonic seconds."""
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
        self._unsent: dict[str, Reading] = {}  # by key; what the bus says meanwhile does not replace it
        self._last: bytes | None = None  # the last content sent, without the node
        self._metas: set[int] = set()  # the meta indices to be sent
        self._aux: dict[str, int] = {}
        first = items[0]
        if entry.owner and first is not None and not self._switches:
            self._aux = {aux: n for n, meta in parameter.metas.items() if (aux := outputs.aux_name(meta)) in first.aux}

    def open(self) -> None:
        for item in filter(None, self._items):
            self._subscriptions.append(
                self._all.database.subscribe(item.key, self._written, self._aux_written if self._aux else None)
            )

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()

    def report(self) -> None:
        if self.entry.owner:
            with self._lock:
                self._last = None
                self._metas.update(n for aux, n in self._aux.items() if self._items[0].aux[aux] is not None)  # type: ignore[union-attr]
                self._waiting = any(item is not None and _is_news(item.reading) for item in self._items)
            self._all.wake()

    @property
    def _permitted(self) -> bool:
        leads = self._all.quorum.leader or not self.entry.require_leader
        return leads and self._all.node.may_send(self.parameter.identifier if self.entry.owner else 0)

    # -- in the writer's thread ----------------------------------------------------------------------------------------

    def _written(self, key: str, reading: Reading) -> None:
        if reading.source.startswith(self._all.prefix) and not (self.entry.owner and reading.source.endswith(SET)):
            if self.entry.on_change:
                self._heard()
            return  # it came from this bus
        with self._lock:
            self._unsent[key] = reading
            if self._all.clock() >= self._free_at:
                self._send()
            elif not self._waiting:
                self._waiting = True
                self._all.wake()

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
            if now < self._free_at:
                return min(self._free_at if self._waiting or self._metas else NEVER, self._repeat_at)
            if self._waiting or now >= self._repeat_at:
                self._last = None if now >= self._repeat_at else self._last
                self._send()
            metas, self._metas = self._metas, set()
            for number in metas:
                self._send_meta(number)
            return self._repeat_at

    def _send(self) -> None:
        """Send what has been written, else what there is; held: the lock."""
        self._waiting = False
        unsent, self._unsent = self._unsent, {}
        entry = self.entry
        now = self._all.clock()
        self._repeat_at = now + entry.repeat if entry.repeat else NEVER
        if not self._permitted:
            self._last = None
            return
        try:
            readings = [
                item.aged(unsent.get(item.key, item.reading)) if item is not None else None for item in self._items
            ]
            frame = self._frame(readings, self._all.node.id)
        except (BadValue, ValueError) as error:
            self._all.counts["unsendable"] += 1
            self._all.trouble = str(error)
            return
        if frame is None or not self._all.may_send(readings):
            return
        content = self._content(frame)
        if entry.on_change and content == self._last:
            return
        self._free_at = now + self._interval
        if self._all.send(frame):
            self._all.counts["sent"] += 1
            self._last = content
        else:
            self._all.counts["held back by the bus"] += 1
            self._last = None

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
        return cf.update(
            self.parameter,
            payload,
            node,
            index=self.entry.index,
            annunciate=bool(flags & ANNUNCIATE),
            quality=bool(flags & (BAD | OLD)),
            failure=bool(flags & FAIL),
        ).encode()

    def _send_meta(self, number: int) -> None:
        item = self._items[0]
        node = self._all.node
        assert item is not None
        value = next((item.aux[aux] for aux, n in self._aux.items() if n == number), None)
        if value is None or not self._permitted:
            return
        try:
            meta = cf.update(self.parameter, self._convert(value), node.id, index=self.entry.index, meta=number)
            sent = self._all.send(meta.encode())
        except (BadValue, ValueError) as error:
            self._all.counts["unsendable"] += 1
            self._all.trouble = str(error)
        else:
            self._all.counts["sent" if sent else "held back by the bus"] += 1


def _is_news(reading: Reading) -> bool:
    """False for what nobody has said since the start: another gateway may know better."""
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
            return lambda value: value
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
