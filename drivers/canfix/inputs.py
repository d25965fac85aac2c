"""From the bus to the database: one prepared function for each mapped parameter and index."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

from fixgw.database import ANNUNCIATE, BAD, FAIL, INITIAL, OLD, Database, Item, Value
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.path import Paths, Topic
from fixgw.drivers.canfix.table import VALUE_AT, WIRE_CODES, Data, Parameter, Payload, Table
from fixgw.identity import identity
from fixgw.kit.sources import digits_of, with_path

__all__ = ["Inputs", "Take"]

#: Writes a received value to its keys: ``take(value, function code, node)``. Raises `BadValue`.
Take = Callable[[Any, int, int], object]
#: Decides about a node's value of a setting, by key, value and source: ``True`` if ours counts, ``False`` if the node's
#: does, None if the node may not have heard of ours yet: its value has to wait.
Judge = Callable[[str, Value, str], bool | None]
#: The same for the data of a frame that carries the value.
TakeData = Callable[[Data], object]
Convert = Callable[[Any], Value]
Write = Callable[[Any, str, int, str, int], object]
Nodes = set[int]

MASK = ANNUNCIATE | BAD | FAIL
#: The database flags for each function code, and the reason given for them.
FLAGS = tuple(
    ANNUNCIATE * bool(code & cf.ANNUNCIATE) | BAD * bool(code & cf.QUALITY) | FAIL * bool(code & cf.FAILURE)
    for code in range(256)
)
REASON = "flagged by the node"
SET = "/set"  # ends the source of a value from a Parameter Set message


class Inputs:
    """Writes the messages of one bus to the database according to a map.

    Use it from one thread; `close` and `lost` may be called from others. The source of a write is
    ``<source>/<node>``, or ``<source>/<node>/set`` for a Parameter Set message. The source of a measurement from
    another gateway also names the gateways that it has passed through; one that has been here before is not taken.
    """

    def __init__(self, found: mapping.Map, table: Table, database: Database, source: str) -> None:
        #: Identifier -> index -> the function that takes the value of a parameter, or of a Parameter Set message.
        self.values: dict[int, dict[int, Take]] = {}
        self.sets: dict[int, dict[int, Take]] = {}
        #: Identifier -> the length of the data, and index -> the function that takes it: the short way for values.
        self.direct: dict[int, tuple[int, dict[int, TakeData | None]]] = {}
        #: Identifier -> index -> the targets of meta data.
        self.metas: dict[int, dict[int, list[_Limits]]] = {}
        #: The aux values last received from the bus, by key and name.
        self.heard: dict[tuple[str, str], Value | None] = {}
        #: Keys of the map that are not in the database.
        self.missing: set[str] = set()
        self._map = found
        self._table = table
        self._database = database
        self._items: dict[str, Item] = {}
        self._ranked: list[Item] = []
        self._prefix = source + "/"
        self._me = digits_of(identity(database))
        self.judge: Judge = lambda key, value, source: None
        self._names: dict[Topic, list[_Names]] = {}  # of the sources of measurements
        self._returning: dict[Topic, Nodes] = {}  # the nodes whose measurements have been here before
        self.returned = 0  # the number of such
        self.paths = Paths(self._names.__contains__, self._note_path)
        self._rankings = rankings = mapping.rank_sources(found, table)
        entries: list[mapping.Received] = [*found.inputs, *found.encoders, *found.switches]
        for entry in entries:
            parameter = entry.parameter(table)
            items = [self._item(key) for key in entry.keys]
            if not any(items):
                continue
            name = mapping.parameter_source(entry, table)
            of_parameter = any(name in rankings.get(key, ()) for key in entry.keys)
            stem = f"{source}/{name}" if of_parameter else source
            sources = self._name(entry, parameter, items, stem)
            take = _take(entry, parameter, items, sources, self._writer(entry, parameter, items))
            self._add(self.values, entry, take)
            take_data = _take_data(entry, parameter, items, sources) or _read_and_take(parameter, take)
            self._add_direct(parameter, entry.index, take_data)
            if entry.nodespecific:
                sources = self._name(entry, parameter, items, stem, SET)
                self._add(
                    self.sets,
                    entry,
                    _take(entry, parameter, items, sources, self._writer(entry, parameter, items, True)),
                )
            if isinstance(entry, mapping.Input) and parameter.metas and items[0] is not None:
                limits = _Limits(entry, parameter, items[0], found, self.heard)
                self.metas.setdefault(parameter.identifier, {}).setdefault(entry.index, []).append(limits)

    @property
    def identifiers(self) -> Nodes:
        return set(self.values)

    def set(self, message: cf.ParameterSet) -> bool:
        """Obey a Parameter Set message. False when the map does not accept it. Raises `BadValue`."""
        take = self.sets.get(message.parameter.identifier, {}).get(message.index)
        if take is not None:
            take(message.value, 0, message.source)
        return take is not None

    def meta(self, message: cf.Meta) -> bool:
        """Set aux values from meta data. False when there is no aux value for it. Raises `BadValue`."""
        limits = self.metas.get(message.parameter.identifier, {}).get(message.index, ())
        return sum(limit.take(message) for limit in limits) > 0

    def _name(
        self, entry: mapping.Entry, parameter: Parameter, items: list[Item | None], stem: str, tail: str = ""
    ) -> Sequence[str]:
        """The sources of an entry by node; `_note_path` changes those of measurements."""
        if any(item is not None and item.definition.setting for item in items):
            return _sources(stem, tail)
        names = _Names(list(_sources(stem, tail)), stem, tail)
        self._names.setdefault((parameter.identifier, entry.index), []).append(names)
        return names.sources

    def _writer(
        self, entry: mapping.Entry, parameter: Parameter, items: list[Item | None], is_set: bool = False
    ) -> Write:
        """The function that writes a single value. `is_set`: of a Parameter Set message, which nobody repeats."""
        item = next(item for item in items if item is not None)
        if not item.definition.setting:
            return item.write
        scale = mapping.conversion(entry, parameter, item)[0] if isinstance(entry, mapping.Scaled) else 1.0
        step = 0.0 if parameter.text or parameter.type == "FLOAT" else abs(scale) / parameter.divisor

        def write(value: Any, source: str, flags: int, reason: str, mask: int) -> None:
            ours = self.judge(item.key, value, source)
            if ours:
                return
            if is_set:
                item.write(value, source, flags, reason, mask)
            else:
                item.report(value, source, flags, reason, mask, step, wait=ours is None)

        return write

    def _note_path(self, node: int, topic: Topic | None) -> None:
        """Name the gateways that the measurements of a node, or one of them, have passed through."""
        for each in self._names if topic is None else (topic,):
            path = self.paths.of(node, each)
            for names in self._names[each]:
                names.sources[node] = with_path(f"{names.stem}/{node}", path) + names.tail
            if self._me in path:
                self._returns(each).add(node)
            elif each in self._returning:
                self._returning[each].discard(node)

    def _returns(self, topic: Topic) -> Nodes:
        """The nodes whose measurements of this parameter are not taken, because they have been here before."""
        if topic not in self._returning:
            nodes = self._returning[topic] = Nodes()
            for routes in (self.values, self.sets):
                takes = routes.get(topic[0], {})
                if topic[1] in takes:
                    takes[topic[1]] = self._guard(takes[topic[1]], nodes)
            if topic[0] in self.direct:
                self.direct[topic[0]][1][topic[1]] = None  # the short way has no guard
        return self._returning[topic]

    def _guard(self, take: Take, nodes: Nodes) -> Take:
        def guarded(value: Any, code: int, node: int) -> None:
            if node in nodes:
                self.returned += 1
            else:
                take(value, code, node)

        return guarded

    def lost(self, reason: str) -> None:
        """Fail the measurements that came from this bus; settings keep their value."""
        for item in self._items.values():
            if item.definition.setting:
                continue
            for reading in item.readings()[: None if item.ranked else 1]:
                ours = reading.source.startswith(self._prefix)
                if ours and (not item.ranked or item.rank(reading.source) is not None):
                    item.flag(FAIL, FAIL, reading.source, reason)

    @property
    def unsaid(self) -> list[Item]:
        """The settings that the map's `inputs` name and that have only the configuration's start value."""
        keys = {key for entry in self._map.inputs for key in entry.keys}
        items = [item for key, item in self._items.items() if key in keys and item.definition.setting]
        return [item for item in items if item.said.source == INITIAL]

    def doubt_start_values(self) -> None:
        """Mark the start values of settings as old: another node may have a newer value, and has not sent it yet."""
        for item in self.unsaid:
            item.flag(OLD, OLD, INITIAL, "a start value: no node on the bus has sent it yet")

    def open(self) -> None:
        """Rank the sources of the items according to the map."""
        for key, names in self._rankings.items():
            item = self._items.get(key)
            if item is not None and not item.sources:  # another bus may have ranked them already
                item.rank_sources([self._prefix + name for name in names])
                self._ranked.append(item)

    def close(self) -> None:
        """Undo the ranking."""
        for item in self._ranked:
            item.rank_sources()

    def _item(self, key: str) -> Item | None:
        if not key:
            return None
        if key not in self._database:
            self.missing.add(key)
            return None
        return self._items.setdefault(key, self._database.item(key))

    def _add(self, routes: dict[int, dict[int, Take]], entry: mapping.Entry, take: Take) -> None:
        """Add a function, in addition to any for the same parameter and index."""
        indices = routes.setdefault(entry.parameter(self._table).identifier, {})
        there = indices.get(entry.index)
        indices[entry.index] = take if there is None else _both(there, take)

    def _add_direct(self, parameter: Parameter, index: int, take: TakeData | None) -> None:
        """Add the short way, unless several entries take the value."""
        _, takes = self.direct.setdefault(parameter.identifier, (VALUE_AT + parameter.size, {}))
        takes[index] = take if index not in takes else None


def _both(first: Take, second: Take) -> Take:
    def take(value: Any, code: int, node: int) -> None:
        try:
            first(value, code, node)
        finally:
            second(value, code, node)

    return take


class _Names(NamedTuple):
    """The sources of an entry by node, and what their names begin and end with."""

    sources: list[str]
    stem: str
    tail: str


@lru_cache(64)
def _sources(stem: str, tail: str = "") -> tuple[str, ...]:
    return tuple(f"{stem}/{node}{tail}" for node in range(256))


def _take(
    entry: mapping.Received, parameter: Parameter, items: list[Item | None], sources: Sequence[str], write: Write
) -> Take:
    if isinstance(entry, mapping.Encoder):
        return _Encoder(entry, items, sources).take
    if isinstance(entry, mapping.Switches):
        return _Switches(items, mapping.split_keys(entry.toggle), entry.invert, sources, parameter).take
    if len(parameter.parts) > 1 and not parameter.text:
        return _Parts(parameter, items, sources).take
    item = next(item for item in items if item is not None)
    convert = make_converter(entry, parameter, item)
    if parameter.type == "FLOAT":

        def take_float(value: float, code: int, node: int) -> None:
            if not isfinite(value):
                code &= ~cf.FAILURE  # the database fails the value itself, with a better reason
            write(convert(value) if convert else value, sources[node], FLAGS[code], REASON, MASK)

        return take_float
    if convert is None:
        return lambda value, code, node: write(value, sources[node], FLAGS[code], REASON, MASK)
    return lambda value, code, node: write(convert(value), sources[node], FLAGS[code], REASON, MASK)


def _read_and_take(parameter: Parameter, take: Take) -> TakeData:
    read = parameter.read
    return lambda data: take(read(data), data[2], data[0])


def _take_data(
    entry: mapping.Received, parameter: Parameter, items: list[Item | None], sources: Sequence[str]
) -> TakeData | None:
    """The shortest way, for a single whole number; None if there is none."""
    item = items[0]
    code = WIRE_CODES.get(parameter.type, "s")
    if code in "sf" or item is None or item.definition.setting or not isinstance(entry, mapping.Input):
        return None
    unpack = struct.Struct(f"<{VALUE_AT}x{code}").unpack_from
    write, divisor = item.write, parameter.divisor
    if make_converter(entry, parameter, item) is not None:
        return None
    if divisor == 1:
        return lambda data: write(unpack(data)[0], sources[data[0]], FLAGS[data[2]], REASON, MASK)
    return lambda data: write(unpack(data)[0] / divisor, sources[data[0]], FLAGS[data[2]], REASON, MASK)


def make_converter(entry: mapping.Scaled, parameter: Parameter, item: Item) -> Convert | None:
    """The function that converts the parameter's value to the item's; None when no conversion is needed."""
    if item.type == "str":
        return None
    if item.type == "bool":
        return (lambda value: not value) if entry.invert else bool
    scale, offset, wrap = mapping.conversion(entry, parameter, item)
    scaled: Callable[[Any], float]
    if wrap:
        scaled = lambda value: ((value + 180.0) % 360.0 - 180.0) * scale + offset  # noqa: E731
    elif (scale, offset) != (1.0, 0.0):
        scaled = lambda value: value * scale + offset  # noqa: E731
    elif parameter.divisor > 1 or parameter.type == "FLOAT":
        return None if item.type == "float" else _whole
    else:
        return float if item.type == "float" else None
    return scaled if item.type == "float" else lambda value: _whole(scaled(value))


def _whole(value: float) -> Value:
    return round(value) if isfinite(value) else value


class _Limits:
    """Writes the meta data of one parameter to aux values."""

    def __init__(
        self,
        entry: mapping.Input,
        parameter: Parameter,
        item: Item,
        found: mapping.Map,
        heard: dict[tuple[str, str], Value | None],
    ) -> None:
        names = {index: found.aux_name(meta) for index, meta in parameter.metas.items()}
        self._names = {index: name for index, name in names.items() if name in item.aux}
        self._convert = make_converter(entry, parameter, item) or (lambda value: value)
        self._item = item
        self._heard = heard
        self._said: dict[tuple[int, str], Value] = {}  # by node and name: the last that it has said

    def take(self, message: cf.Meta) -> bool:
        name = self._names.get(message.meta)
        if name is None or message.failure:
            return False
        value = self._convert(message.value)
        # What the node only repeats does not replace what somebody has set since.
        if self._item.aux[name] != value and self._said.get((message.node, name)) != value:
            # Note it before writing: the write notifies an output of the same key, which must recognise its origin.
            self._heard[self._item.key, name] = value
            self._heard[self._item.key, name] = self._item.write_aux(name, value)
        self._said[message.node, name] = value
        return True


class _Parts:
    """Writes a time or a date: as a whole to text keys, and part by part, in order, to number keys."""

    def __init__(self, parameter: Parameter, items: list[Item | None], sources: Sequence[str]) -> None:
        self._sources = sources
        self._format = parameter.format.partition(",")[0]
        self._targets: list[tuple[Item, int]] = []  # item and part; -1 for the whole
        part = 0
        for item in items:
            if item is None or item.type != "str":
                if item is not None:
                    self._targets.append((item, part))
                part += 1
            else:
                self._targets.append((item, -1))

    def take(self, value: tuple[int, ...], code: int, node: int) -> None:
        text = self._as_text(value)
        flags = FLAGS[code]
        reason = REASON
        if not text:
            flags |= FAIL
            reason = f"{', '.join(map(str, value))} is not a {'date' if self._format == 'Year' else 'time'}"
        source = self._sources[node]
        for item, part in self._targets:
            new = (text if part < 0 else value[part]) if text else item.said.value
            item.write(new, source, flags, reason, MASK)

    def _as_text(self, value: tuple[int, ...]) -> str:
        """The time or date as text; empty when it is impossible."""
        if self._format == "Hour":
            hour, minute, second, *_ = value
            return f"{hour:02}:{minute:02}:{second:02}" if hour < 24 and minute < 60 and second <= 60 else ""
        if self._format == "Year":
            year, month, day = value
            return f"{year:04}-{month:02}-{day:02}" if 1 <= month <= 12 and 1 <= day <= 31 else ""
        return "".join(map(str, value))


class _Switches:
    """Up to 40 switches, the first in the lowest bit of the first byte.

    A switch is written when it changes, so a button that another source has pressed stays pressed. A toggling switch
    inverts its key each time it closes. The first message from a node gives the positions of its switches, and toggles
    nothing.
    """

    def __init__(
        self,
        items: list[Item | None],
        toggle: Collection[str],
        invert: bool,
        sources: Sequence[str],
        parameter: Parameter | None = None,
    ) -> None:
        self._sources = sources
        self._ages = 0  # the switches whose keys age: write them with every message
        self._toggles = 0
        self._used = 0
        self._items = items
        for number, item in enumerate(items):
            if item is not None:
                self._used |= 1 << number
                if item.key in toggle:
                    self._toggles |= 1 << number
                elif item.tolerance:
                    self._ages |= 1 << number
        self._invert = self._used if invert else 0
        self._words = parameter is not None and parameter.parts == ("WORD",) * len(parameter.parts)
        self._last: dict[int, tuple[int, int]] = {}  # node -> bits, flags

    def take(self, value: Payload, code: int, node: int) -> None:
        bits = 0
        if isinstance(value, tuple):
            for number, part in enumerate(value):
                bits |= part << number * (16 if self._words else 8)
        else:
            bits = int(value)
        self.set(bits, code, node)

    def set(self, bits: int, code: int, node: int) -> None:
        flags = FLAGS[code]
        bits = (bits ^ self._invert) & self._used
        before, flags_before = self._last.get(node, (None, flags))
        if flags & FAIL and before is not None:
            bits = before  # do not use a failed value
        self._last[node] = bits, flags
        if flags != flags_before or before is None:
            changed = self._used & ~(self._toggles if before is None else 0)
        else:
            changed = (bits ^ before | self._ages) & self._used
        closed = self._toggles & bits & ~before if before is not None else 0
        source = self._sources[node]
        while changed:
            bit = changed & -changed
            changed ^= bit
            item = self._items[bit.bit_length() - 1]
            assert item is not None
            if not bit & self._toggles:
                item.write(bool(bits & bit), source, flags, REASON, MASK)
            elif bit & closed:
                item.write(not item.said.value, source, flags, REASON, MASK)
            elif flags != flags_before:
                item.flag(flags, MASK, source, REASON)


class _Encoder:
    """One or two encoders, and up to eight buttons."""

    def __init__(self, entry: mapping.Encoder, items: list[Item | None], sources: Sequence[str]) -> None:
        buttons_at = (n for n, item in enumerate(items) if item is not None and item.type == "bool")
        count = next(buttons_at, min(len(items), 2))
        self._encoders = items[:count]
        buttons = items[count:]
        self._buttons = _Switches(buttons, mapping.split_keys(entry.toggle), False, sources) if buttons else None
        self._sum = entry.sum
        self._sources = sources

    def take(self, value: tuple[int, int, int], code: int, node: int) -> None:
        source, flags = self._sources[node], FLAGS[code]
        for item, steps in zip(self._encoders, value, strict=False):
            if item is None:
                continue
            if flags & FAIL:
                item.flag(flags, MASK, source, REASON)
            elif steps or flags != item.said.flags & MASK or (item.said.value and not self._sum):
                total = self._add(item, steps) if self._sum else steps
                item.write(total if item.type == "int" else float(total), source, flags, REASON, MASK)
        if self._buttons is not None:
            self._buttons.set(value[2], code, node)

    @staticmethod
    def _add(item: Item, steps: int) -> int:
        """The item's value plus `steps`, wrapped around at the ends of its range."""
        total = int(item.said.value) + steps
        if item.min is None or item.max is None:
            return total
        low, high = int(item.min), int(item.max)
        return low + (total - low) % (high - low + 1)
