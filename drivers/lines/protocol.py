"""Lines of text without I/O: bytes in, updates out, according to formats described in the configuration.

A line ends with CR or LF. Without a checksum its beginning must be certain too: whatever precedes the first line ending
may be the end of a longer line, and "23.4" may be the end of "123.4".
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import ClassVar, Literal

from fixgw.kit.update import FAIL, FALSE_WORDS, TRUE_WORDS, TypeName, Update, Value, begin_counting

MAX_LINE = 250  # bytes, without the line ending
MAX_TEXT = 100  # characters in a value

Checksum = Literal["none", "nmea-xor", "sum8", "crc16"]

#: The checksum of the bytes before the ``*``, and the number of hexadecimal digits after it, by name.
CHECKSUMS: Mapping[str, tuple[Callable[[bytes], int], int]] = {
    "nmea-xor": (lambda data: reduce(xor, data.removeprefix(b"$"), 0), 2),
    "sum8": (lambda data: sum(data) & 0xFF, 2),
    "crc16": (lambda data: binascii.crc_hqx(data, 0xFFFF), 4),  # CRC-16/CCITT-FALSE: x^16 + x^12 + x^5 + 1
}

_ENDS = re.compile(rb"[\r\n]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Field:
    """Where a value is in a line, and what its text means. `place` is a column, from 1, or a name."""

    key: str
    place: int | str
    type: TypeName = "float"
    #: Converts the number in the text to the key's value; returns None if no healthy sensor sends it.
    curve: Callable[[float], float | None] = float
    low: float = float("-inf")
    high: float = float("inf")
    #: What the sensor sends when it has no value, in lower case.
    invalid: frozenset[str] = frozenset()

    def value(self, text: str) -> Value | None:
        """Convert `text`, which is not one of `invalid`; None if the value is impossible."""
        if self.type == "str":
            return text if len(text) <= MAX_TEXT else None
        if self.type == "bool":
            word = text.lower()
            return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None
        if not _NUMBER.fullmatch(text):
            return None
        value = self.curve(float(text))
        if value is None or not self.low <= value <= self.high or abs(value) == float("inf"):
            return None
        return round(value) if self.type == "int" else value


@dataclass(frozen=True)
class Format:
    """A kind of line: it begins with `prefix`, followed by a pattern, pairs, or columns.

    `separator` stands between columns or pairs; if empty, they are separated by white space. `columns` is the number of
    columns; None: at least as many as the fields need.
    """

    fields: Sequence[Field]
    prefix: str = ""
    separator: str = ","
    pairs: bool = False
    pattern: re.Pattern[str] | None = None
    columns: int | None = None

    def texts(self, line: str) -> Mapping[int | str, str] | str:
        """The texts by place, or the reason why there are none; the reason is empty if the line has another format."""
        if not line.startswith(self.prefix):
            return ""
        line = line[len(self.prefix) :]
        if self.pattern is not None:
            match = self.pattern.fullmatch(line)
            return {name: text or "" for name, text in match.groupdict().items()} if match else ""
        parts = [part.strip() for part in (line.split(self.separator) if self.separator else line.split())]
        if self.pairs:
            return {name.strip(): text.strip() for name, sign, text in map(_pair, parts) if sign}
        least = max((f.place for f in self.fields if isinstance(f.place, int)), default=1)
        if len(parts) < least or (self.columns is not None and len(parts) != self.columns):
            return f"it has {len(parts)} columns"
        return dict(enumerate(parts, 1))


def _pair(text: str) -> tuple[str, str, str]:
    return text.partition("=") if "=" in text else text.partition(":")


class Decoder:
    """Decodes lines. The first of `formats` that matches a line decodes it; a line that matches none is ignored.

    If a line of pairs lacks a key of its format, that key is left alone: a sensor may send one value at a time.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("cut off", "too long", "garbage", "no checksum", "bad checksum", "malformed")

    #: After this many lines in a row without a usable one, there is `trouble`.
    BAD_LINES_BEFORE_TROUBLE: ClassVar[int] = 20

    def __init__(
        self, formats: Iterable[Format], checksum: Checksum = "none", counts: dict[str, int] | None = None
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._unusable = 0
        self._formats = tuple(formats)
        self._checksum = CHECKSUMS.get(checksum)
        self._dollars = checksum == "nmea-xor"  # a $ can only begin a line; anything before it is junk
        self._buffer = b""
        #: Why the bytes collected up to the next line ending are not a line; empty if they are.
        self._spoiled = "" if self._checksum else "cut off"

    @property
    def trouble(self) -> str:
        return "" if self._unusable < self.BAD_LINES_BEFORE_TROUBLE else "lines arrive, but none of them is usable"

    def feed(self, data: bytes) -> list[Update]:
        *lines, rest = _ENDS.split(self._buffer + data)
        updates: list[Update] = []
        for line in lines:
            if line or self._spoiled:
                updates += self._line(line)
        if len(rest) > MAX_LINE and not self._spoiled:
            self._spoiled = "too long"
        self._buffer = rest[:MAX_LINE]
        return updates

    def _line(self, raw: bytes) -> Iterable[Update]:
        self.counts["received"] += 1
        self._unusable += 1
        spoiled, self._spoiled = self._spoiled, ""
        if spoiled or len(raw) > MAX_LINE:
            return self._refuse(spoiled or "too long", raw)
        if self._checksum is not None:
            sum_of, digits = self._checksum
            if self._dollars:
                raw = raw[max(raw.rfind(b"$"), 0) :]
            body, star, tail = raw.rpartition(b"*")
            if not star:
                return self._refuse("no checksum", raw)
            if tail.strip().upper() != b"%0*X" % (digits, sum_of(body)):
                return self._refuse("bad checksum", raw)
            raw = body
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            return self._refuse("garbage", raw)
        if not line.replace("\t", " ").isprintable():
            return self._refuse("garbage", raw)
        return self._read(line.strip(), raw)

    def _read(self, line: str, raw: bytes) -> Iterable[Update]:
        wrong = ""
        for form in self._formats:
            texts = form.texts(line)
            if not isinstance(texts, str):
                self.counts["used"] += 1
                self._unusable = 0
                return [u for f in form.fields if f.place in texts for u in self._update(f, texts[f.place].strip())]
            wrong = wrong or texts
        if wrong:
            return self._refuse("malformed", raw, wrong)
        self.counts["ignored"] += 1
        return ()

    def _update(self, field: Field, text: str) -> Iterable[Update]:
        if text.lower() in field.invalid:
            return [Update(field.key, None, FAIL, "the sensor has no value")]
        value = field.value(text)
        if value is None:
            self.counts["absurd values"] += 1
            return [Update(field.key, None, FAIL, f"the sensor sends {text[:20]!r}, which is impossible")]
        return [Update(field.key, value)]

    def _refuse(self, reason: str, raw: bytes, why: str = "") -> Iterable[Update]:
        self.counts[reason] += 1
        self.refused = f"{why or reason}: {raw[:MAX_LINE]!r}"
        return ()
