"""Shadin air data and fuel computers without I/O: bytes in, updates out (`Decoder`).

A frame is STX, lines of a format letter (G, S or Z), an identifier, data and CR LF, and ETX. The last line is the
checksum, as three decimal digits: the sum modulo 256 of everything before it, including STX; or, as Garmin describes
it, of everything up to the error indicator (Q). ``-`` fills unknown fields; some computers put a blank where they know
no sign. A real fuel computer (FC-10, format Z) settles what the checksum counts: STX is part of it. Sources: Garmin
190-00356-08 Rev. G, appendix E (formats G and Z), UPS Aviation Technologies' Apollo GX50/60/65 installation manual,
table 12 (format S).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from fixgw.kit.update import FAIL, Update, begin_counting

MAX_FRAME = 512  # bytes

UNKNOWN = "the computer does not know it"
SENSOR = "the computer reports a fault in its temperature sensor"


class Field(NamedTuple):
    """The contents of a line: the key, its units per unit sent, and the possible range in units of the key."""

    key: str
    factor: float
    low: float
    high: float


#: By identifier.
FIELDS = {
    "A": Field("IAS", 1, 0, 999),
    "B": Field("TAS", 1, 0, 999),
    "D": Field("PALT", 10, -2000, 60000),
    "E": Field("DALT", 10, -10000, 60000),
    "F": Field("OAT", 1, -99, 99),
    "G": Field("OAT", 1, -99, 99),
    "J": Field("ROT", 1, -99, 99),
    "K": Field("VS", 10, -9990, 9990),
    "L": Field("HEAD", 1, 0, 360),
    "M": Field("FUELF2", 0.1, 0, 300),
    "O": Field("FUELF1", 0.1, 0, 300),
    "R": Field("FUELQT", 1, 0, 1000),
    "a": Field("ALT", 10, -2000, 60000),
    "b": Field("BARO", 1, 25, 33),
}
#: Every key that may be written.
KEYS = frozenset(field.key for field in FIELDS.values())

_END = re.compile(rb"[^ -~\r\n]")
_LINE = re.compile(r"[GSZ][A-Za-z]", re.ASCII)
# In Garmin's description of format Z, R is the checksum; elsewhere R is the fuel remaining, with a decimal point.
_CHECKSUM = re.compile(rb"[GSZ][*R](\d{3})\r\n\Z")
_ERROR = re.compile(rb"[GSZ]Q[-\d]{3}\r\n")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


class Decoder:
    """Decodes the stream. Holds at most one unfinished frame. With `heading`, HEAD is written: it is magnetic."""

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "no checksum", "truncated", "malformed", "too long")

    def __init__(self, counts: dict[str, int] | None = None, heading: bool = False) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        #: The error that the computer reports, in words.
        self.trouble = ""
        self._heading = heading
        self._buffer = b""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""
        buffer = self._buffer + data
        updates: list[Update] = []
        while (start := buffer.find(2)) >= 0:
            buffer = buffer[start:]
            end = _END.search(buffer, 1)
            if end is None and len(buffer) <= MAX_FRAME:
                break
            self.counts["received"] += 1
            if end is None or end.start() > MAX_FRAME:
                self._refuse("too long", buffer)
                buffer = buffer[MAX_FRAME:]
            elif end[0] == b"\x03":
                updates += self._frame(buffer[: end.start()])
                buffer = buffer[end.end() :]
            else:  # the start of another frame, or not text
                self._refuse("truncated", buffer[: end.start()])
                buffer = buffer[end.start() :]
        else:
            buffer = b""
        self._buffer = buffer
        return updates

    def _refuse(self, reason: str, raw: bytes) -> None:
        self.counts[reason] += 1
        self.refused = f"{reason}: {raw[:MAX_FRAME]!r}"

    def _frame(self, raw: bytes) -> list[Update]:
        checksum = _CHECKSUM.search(raw)
        if checksum is None:
            self._refuse("no checksum", raw)
            return []
        body = raw[: checksum.start()]
        error_line = _ERROR.search(body)
        summed = [body] if error_line is None else [body, body[: error_line.end()]]
        if int(checksum[1]) not in (sum(part) % 256 for part in summed):
            self._refuse("bad checksum", raw)
            return []
        *text, rest = body[1:].decode("ascii").split("\r\n")
        if rest or not all(map(_LINE.match, text)) or len({line[0] for line in text}) != 1:
            self._refuse("malformed", raw)
            return []
        self.counts["used"] += 1
        return list(self._updates({line[1]: line[2:] for line in text}))

    def _updates(self, lines: dict[str, str]) -> Iterator[Update]:
        error = lines.get("Q", "000")
        self.trouble = SENSOR if error == "001" else f"the computer reports error {error}" if error.strip("-0 ") else ""
        if "F" in lines and ("G" not in lines or _NUMBER.fullmatch(lines["F"])):
            lines.pop("G", None)
        else:  # G, the true air temperature, replaces F: they differ by the ram rise
            lines.pop("F", None)
        for identifier, data in lines.items():
            field = FIELDS.get(identifier)
            if field is None or (field.key == "HEAD" and not self._heading):
                continue
            if field.key == "OAT" and self.trouble == SENSOR:
                yield Update("OAT", None, FAIL, SENSOR)
            else:
                yield self._number(field, data)

    def _number(self, field: Field, data: str) -> Update:
        if _NUMBER.fullmatch(data):
            value = float(data) * field.factor
            if field.low <= value <= field.high:
                return Update(field.key, value)
        elif not data.strip("-+. "):
            return Update(field.key, None, FAIL, UNKNOWN)
        self.counts["absurd values"] += 1
        return Update(field.key, None, FAIL, f"the computer sends an absurd value: {data[:20]!r}")
