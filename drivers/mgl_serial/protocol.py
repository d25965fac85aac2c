"""The serial output of MGL Avionics' TP-3 without I/O: bytes in, updates out (`Decoder`).

A frame is STX, the unit's address, a message type (8), the length of the payload, the payload, a checksum, and ETX. The
checksum is the exclusive or of A5 and everything from the address on. The payload of a TP-3: two bytes with the types
of four inputs, four bits each, the fourth first; four signed 16-bit numbers, high byte first. Source of the frame: Vega
TP-3 operating manual, 4.3.1; docs/drivers/mgl_serial.md says how certain the payload is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import xor
from typing import ClassVar, NamedTuple

from fixgw.kit.update import FAIL, Update, begin_counting

STX, ETX, SEED = 0x02, 0x03, 0xA5
MESSAGE = 8
PAYLOAD = struct.Struct(">BB4h")
LENGTH = PAYLOAD.size + 6

INPUTS = ("input1", "input2", "input3", "input4")
KEYS = frozenset(INPUTS)


class Kind(NamedTuple):
    """A type of input: its units (as in the database), units per unit sent, and the possible range."""

    name: str
    units: str
    factor: float
    low: float
    high: float


KINDS = {
    1: Kind("a pressure", "psi", 0.1, -15.0, 1000.0),
    2: Kind("a temperature", "degC", 1.0, -60.0, 1300.0),
    3: Kind("a current", "A", 0.1, -1000.0, 1000.0),
    4: Kind("a fuel level", "", 1.0, 0.0, 10_000.0),
    5: Kind("a voltage", "V", 0.1, 0.0, 100.0),
}
LEVEL = 4
OFF = "the input is switched off in the instrument"


class Decoder:
    """Decodes the stream. Holds at most one unfinished frame. `feed` returns updates of `INPUTS`.

    `units` are those of the keys, for the inputs in use; an input of another type fails its key. `address` selects one
    unit if several share a line. `level` is the key's units per unit of a fuel level.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length", "no end")

    def __init__(
        self,
        counts: dict[str, int] | None = None,
        *,
        units: Mapping[str, str] | None = None,
        address: int | None = None,
        level: float = 1.0,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        #: The instrument does not report its own health; this says only if it is another one.
        self.trouble = ""
        self._units = dict.fromkeys(INPUTS, "") if units is None else units
        self._address = address
        self._level = level
        self._buffer = b""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""
        buffer = self._buffer + data
        updates: list[Update] = []
        while (start := buffer.find(STX)) >= 0:
            buffer = buffer[start:]
            if len(buffer) > 3 and buffer[3] != PAYLOAD.size:
                reason = "wrong length"
            elif len(buffer) < LENGTH:
                break
            else:
                reason = self._find_fault(buffer)
            self.counts["received"] += 1
            if reason:  # the STX may have been data, and the true start may follow
                self.counts[reason] += 1
                self.refused = f"{reason}: {buffer[:LENGTH].hex(' ')}"
                buffer = buffer[1:]
            else:
                updates += self._decode(buffer[:LENGTH])
                buffer = buffer[LENGTH:]
        else:
            buffer = b""
        self._buffer = buffer
        return updates

    def _find_fault(self, frame: bytes) -> str:
        if reduce(xor, frame[1 : LENGTH - 2], SEED) != frame[LENGTH - 2]:
            return "bad checksum"
        return "" if frame[LENGTH - 1] == ETX else "no end"

    def _decode(self, frame: bytes) -> Iterator[Update]:
        ours = self._address in (None, frame[1])
        known = frame[2] == MESSAGE
        if ours:
            self.trouble = "" if known else f"messages have type {frame[2]} instead of {MESSAGE}: this is not a TP-3"
        self.counts["used" if ours and known else "ignored"] += 1
        if not (ours and known):
            return iter(())
        high, low, *values = PAYLOAD.unpack_from(frame, 4)
        types = (low & 15, low >> 4, high & 15, high >> 4)
        inputs = zip(INPUTS, types, values, strict=True)
        return (self._input(*each) for each in inputs if each[0] in self._units)

    def _input(self, name: str, type_: int, raw: int) -> Update:
        if type_ == 0:
            return Update(name, None, FAIL, OFF)
        kind = KINDS.get(type_)
        if kind is None:
            return self._absurd(name, f"an input of unknown type {type_}")
        units = self._units[name]
        if type_ != LEVEL and units and units != kind.units:
            return Update(name, None, FAIL, f"the input is {kind.name}, but the key is in {units}")
        value = raw * kind.factor
        if not kind.low <= value <= kind.high:
            return self._absurd(name, f"{kind.name} of {value:g} {kind.units}")
        return Update(name, value * self._level if type_ == LEVEL else value)

    def _absurd(self, name: str, what: str) -> Update:
        self.counts["absurd values"] += 1
        return Update(name, None, FAIL, f"the instrument sends an absurd value: {what}")
