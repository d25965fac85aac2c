"""Lines of text without I/O: bytes in, updates out, by formats that somebody has described.

A line ends with CR or LF. Without a checksum its beginning must be certain too: what comes before the first end of line
may be the tail of one, and "23.4" the tail of "123.4".
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

LONGEST = 250  # bytes of a line, without its end
LONGEST_TEXT = 100  # characters of a value

Checksum = Literal["none", "nmea-xor", "sum8", "crc16"]

#: What each kind makes of the bytes before the ``*``, and how many hexadecimal digits follow it.
CHECKSUMS: Mapping[str, tuple[Callable[[bytes], int], int]] = {
    "nmea-xor": (lambda data: reduce(xor, data.removeprefix(b"$"), 0), 2),
    "sum8": (lambda data: sum(data) & 0xFF, 2),
    "crc16": (lambda data: binascii.crc_hqx(data, 0xFFFF), 4),  # CRC-16/CCITT-FALSE: x^16 + x^12 + x^5 + 1
}

_ENDS = re.compile(rb"[\r\n]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)

_TRUE = {word.lower() for word in TRUE_WORDS} | {"on", "y"}
_FALSE = {word.lower() for word in FALSE_WORDS} | {"off", "n", "f"}


@dataclass(frozen=True)
class Field:
    """A value in a line: where it is, and what its text means. `place` is a column from 1, or a name."""

    key: str
    place: int | str
    type: TypeName = "float"
    #: From the number in the text to the key's; None when no sensor in order says so.
    curve: Callable[[float], float | None] = float
    low: float = float("-inf")
    high: float = float("inf")
    #: What the sensor says when it cannot tell, in lower case.
    invalid: frozenset[str] = frozenset()

    def value(self, text: str) -> Value | None:
        """None for what cannot be true. The text is not one of the `invalid`."""
        if self.type == "str":
            return text if len(text) <= LONGEST_TEXT else None
        if self.type == "bool":
            word = text.lower()
            return True if word in _TRUE else False if word in _FALSE else None
        if not _NUMBER.fullmatch(text):
            return None
        value = self.curve(float(text))
        if value is None or not self.low <= value <= self.high or abs(value) == float("inf"):
            return None
        return round(value) if self.type == "int" else value


@dataclass(frozen=True)
class Format:
    """A kind of line: it begins with `prefix`, and what follows has a pattern, pairs, or columns.

    `separator` stands between columns or pairs; an empty one is any white space. `columns` is how many there are; None:
    as many as are asked for, or more.
    """

    fields: Sequence[Field]
    prefix: str = ""
    separator: str = ","
    pairs: bool = False
    pattern: re.Pattern[str] | None = None
    columns: int | None = None

    def texts(self, line: str) -> Mapping[int | str, str] | str:
        """The texts by place; or why there are none: empty when the line is of another format."""
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
            return f"{len(parts)} columns"
        return dict(enumerate(parts, 1))


def _pair(text: str) -> tuple[str, str, str]:
    return text.partition("=") if "=" in text else text.partition(":")


class Decoder:
    """Makes updates of lines. The first of the `formats` that a line has decides; of none: it is ignored.

    A key of a format that is not among a line's pairs is left alone: a sender may tell one thing at a time.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("cut off", "too long", "garbage", "no checksum", "bad checksum", "malformed")

    #: Lines in a row of which none could be used, after which there is trouble.
    PATIENCE: ClassVar[int] = 20

    def __init__(
        self, formats: Iterable[Format], checksum: Checksum = "none", counts: dict[str, int] | None = None
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._strange = 0
        self._formats = tuple(formats)
        self._checksum = CHECKSUMS.get(checksum)
        self._dollars = checksum == "nmea-xor"  # where a $ can only be a beginning, and what is before it junk
        self._buffer = b""
        #: Why what is gathering up to the next end of line is no line; empty when it is one.
        self._spoiled = "" if self._checksum else "cut off"

    @property
    def trouble(self) -> str:
        return "" if self._strange < self.PATIENCE else "lines come, but none that could be used"

    def feed(self, data: bytes) -> list[Update]:
        *lines, rest = _ENDS.split(self._buffer + data)
        updates: list[Update] = []
        for line in lines:
            if line or self._spoiled:
                updates += self._line(line)
        if len(rest) > LONGEST and not self._spoiled:
            self._spoiled = "too long"
        self._buffer = rest[:LONGEST]
        return updates

    def _line(self, raw: bytes) -> Iterable[Update]:
        self.counts["received"] += 1
        self._strange += 1
        spoiled, self._spoiled = self._spoiled, ""
        if spoiled or len(raw) > LONGEST:
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
                self._strange = 0
                return [u for f in form.fields if f.place in texts for u in self._update(f, texts[f.place].strip())]
            wrong = wrong or texts
        if wrong:
            return self._refuse("malformed", raw, wrong)
        self.counts["ignored"] += 1
        return ()

    def _update(self, field: Field, text: str) -> Iterable[Update]:
        if text.lower() in field.invalid:
            return [Update(field.key, None, FAIL, "the sensor gives no value")]
        value = field.value(text)
        if value is None:
            self.counts["absurd values"] += 1
            return [Update(field.key, None, FAIL, f"the sensor says {text[:20]!r}, which cannot be")]
        return [Update(field.key, value)]

    def _refuse(self, reason: str, raw: bytes, why: str = "") -> Iterable[Update]:
        self.counts[reason] += 1
        self.refused = f"{why or reason}: {raw[:LONGEST]!r}"
        return ()
