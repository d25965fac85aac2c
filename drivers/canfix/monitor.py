"""What goes over a CAN-FIX bus just now, in words: the latest frame of each kind from each node. For people.

It hears the bus only while somebody looks: the plugin makes a `Monitor` at the first question, and closes it when none
has come for a while. Frames are only sorted as they come; whoever asks has them decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.table import Table
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.canfix.tool.survey import decode
from fixgw.drivers.links.can.frame import ERROR, Frame

PATIENCE_S = 10.0  # without a question for so long, nobody looks
MAX_ROWS = 500
RATE_S = 2.0  # rates are those of this time
QUIET_S = 10.0  # when all rows are taken, those that were not heard for so long make room
FIRST_UNDEFINED = bytes([20])  # the first control code whose data may mean anything

#: Identifier, flags, the bytes that tell frames with one identifier apart, and the index of meta data.
Place = tuple[int, int, bytes, int]


class Row:
    """The latest frame of its kind. `rate` is in frames per second, None until it is known."""

    __slots__ = ("before", "count", "frame", "rate")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.count = self.before = 0
        self.rate: float | None = None


class Monitor:
    """Call `take` with the frames of a bus, and `ask` for what they were. Any thread may call any method.

    `name` says how a node is called, as far as known. Times are those of `clock`, which is that of the frames.
    """

    def __init__(self, table: Table, clock: Callable[[], float], name: Callable[[int], str]) -> None:
        self._codec = cf.Codec(table)
        self._clock = clock
        self._name = name
        self._lock = threading.Lock()
        self._rows: dict[Place, Row] = {}
        self._rated = clock()
        #: Frames that found no room.
        self.left_out = 0
        #: When nobody looks any more, unless somebody asks before.
        self.until = self._rated + PATIENCE_S

    def take(self, frames: Sequence[Frame]) -> None:
        with self._lock:
            self._rate()
            rows = self._rows
            for frame in frames:
                place = _place(frame)
                row = rows.get(place)
                if row is None:
                    if len(rows) >= MAX_ROWS:
                        self.left_out += 1
                        continue
                    row = rows[place] = Row(frame)
                row.frame = frame
                row.count += 1

    def ask(self) -> dict[str, Any]:
        """The rows, as data for JSON: see `fixgw.plugins.web.api`. From now on somebody looks, for a while."""
        now = self._clock()
        with self._lock:
            self.until = now + PATIENCE_S
            self._rate()
            found = [(place, row.frame, row.count, row.rate) for place, row in self._rows.items()]
            left_out = self.left_out
        found.sort(key=lambda each: each[0])
        names: dict[int, str] = {}
        rows = []
        for _, frame, count, rate in found:
            row = self._describe(frame)
            node = row["node"]
            if node is not None and node not in names:
                names[node] = self._name(node)
            age = max(0.0, now - frame.timestamp)
            rows.append({**row, "name": names.get(node, ""), "count": count, "rate": rate, "age": round(age, 3)})
        return {"rows": rows, "left out": left_out}

    def _rate(self) -> None:
        """Work out the rates if it is time. The caller holds the lock."""
        now = self._clock()
        elapsed = now - self._rated
        if elapsed < RATE_S:
            return
        self._rated = now
        for row in self._rows.values():
            row.rate = round((row.count - row.before) / elapsed, 1)
            row.before = row.count
        if len(self._rows) >= MAX_ROWS:
            self._rows = {p: row for p, row in self._rows.items() if now - row.frame.timestamp < QUIET_S}

    def _describe(self, frame: Frame) -> dict[str, Any]:
        table, outcome = self._codec.table, decode(self._codec, frame).outcome
        update = outcome if isinstance(outcome, cf.ParameterUpdate) else None
        if update is not None:
            parameter = update.parameter
            about = words.title_of(parameter, update.index, update.meta)
            value = words.format_value(parameter, update.value)
        else:
            error = frame.flags & ERROR
            about = words.describe_bus_error(frame) if error else words.describe_message(table, outcome)
            value = ""
        return {
            "id": words.format_identifier(frame),
            "kind": "error" if frame.flags & ERROR else outcome.kind,
            "node": cf.sender_of(outcome) or None,
            "key": words.name_of(table, outcome),
            "about": about,
            "index": None if update is None else update.index,
            "meta": None if update is None or not update.meta else update.meta_name or str(update.meta),
            "value": value,
            "flags": [] if update is None else words.flag_names(update.code),
            "data": frame.data.hex(" "),
        }


def _place(frame: Frame) -> Place:
    """Where a frame belongs: a new one of the same place replaces it."""
    identifier, data = frame.arbitration_id, frame.data
    if frame.flags:
        return identifier, frame.flags, b"", 0
    if identifier in cf.PARAMETERS:  # node, index, function code
        return identifier, 0, data[:2], data[2] >> 4 if len(data) > 2 else 0
    if cf.NODE_SPECIFIC < identifier < cf.TWO_WAY:  # control code; type of the status, parameter or packet
        return identifier, 0, data[:3] if data[:1] < FIRST_UNDEFINED else data[:1], 0
    return identifier, 0, b"", 0
