"""FlightGear's generic protocol and its HTTP interface, without I/O.

A protocol file, XML that FlightGear and we both read, says what is in a record: ``<output>`` what FlightGear sends,
``<input>`` what we send. A ``<chunk>`` is a field; its key stands before the colon of its ``<name>``. FlightGear sends
the property × factor + offset, in the chunk's format, so what comes is in the key's unit.

`parse` reads such a file, `Generic` records, `record` makes them, and `Properties` reads ``/json/PATH`` of
FlightGear's web server.

Source: README.protocol of FlightGear 2020.3, and what that version sends.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isclose, isfinite
from typing import Any, ClassVar, NamedTuple
from xml.parsers import expat

from fixgw.drivers.simulator import LOADING, Loading
from fixgw.errors import did_you_mean
from fixgw.kit.update import FAIL, FALSE_WORDS, TRUE_WORDS, TypeName, Update, Value, begin_counting

MAX_FILE_BYTES = 262_144
MAX_DEPTH = 16
MAX_CHUNKS = 500
MAX_RECORD_BYTES = 8192
MAX_TEXT = 200
#: JSBSim, which sends such lines by itself, begins with one of names.
LABELS = "<LABELS>"

TOO_LONG, BAD_FIELDS, BAD_LENGTH = "too long", "wrong numbers of fields", "wrong lengths"
BAD_ANSWER = "wrong answers"

_SEPARATORS = {
    "newline": "\n",
    "lf": "\n",
    "cr": "\r",
    "carriagereturn": "\r",
    "crlf": "\r\n",
    "tab": "\t",
    "space": " ",
    "formfeed": "\f",
    "verticaltab": "\v",
    "none": "",
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "\\": "\\"}
#: The types of chunks, their formats, and their struct codes in binary mode.
_TYPES = {
    "int": ("%d", "i"),
    "integer": ("%d", "i"),
    "bool": ("%d", "b"),
    "float": ("%f", "f"),
    "double": ("%f", "d"),
    "fixed": ("%f", ""),
    "string": ("%s", ""),
}
_CONVERSION = re.compile(r"%([-+ #0]*)(\d{0,3})(?:\.(\d{1,2}))?(?:hh|h|ll|l|L)?([diufFeEgGs])", re.ASCII)


class BadFile(ValueError):
    """A protocol file that cannot be used, and why."""


# -- protocol files ----------------------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """One field. `key` is empty for a constant, whose text is `before`.

    `before` and `after` are the text around the number; `conversion` is Python's, such as ``.2f``; `code` is that of
    `struct`. `offset` is what FlightGear sends for a property of 0.
    """

    key: str
    before: str = ""
    conversion: str = "f"
    after: str = ""
    code: str = "f"
    offset: float = 0.0

    def is_zero(self, value: float) -> bool:
        """Whether FlightGear may have sent `value` for a property of 0, rounded as `conversion` and `code` say."""
        _, point, digits = self.conversion[:-1].rpartition(".")
        places = 0 if self.conversion.endswith("d") else int(digits) if point else 6
        return isclose(value, self.offset, rel_tol=1e-5, abs_tol=0.51 * 10.0**-places)


class Layout(NamedTuple):
    """What is in a record. In binary mode `form` is the record's structure, and `magic` ends it (None: nothing does;
    "length": its length)."""

    chunks: tuple[Chunk, ...]
    between: str = ","
    end: str = "\n"
    preamble: str = ""
    postamble: str = ""
    form: struct.Struct | None = None
    magic: int | str | None = None

    @property
    def keys(self) -> list[str]:
        return [chunk.key for chunk in self.chunks if chunk.key]


class _Element:
    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line
        self.text = ""
        self.children: list[_Element] = []

    def find(self, name: str) -> _Element | None:
        return next((child for child in self.children if child.name == name), None)

    def get(self, name: str, default: str = "") -> str:
        found = self.find(name)
        return default if found is None else found.text

    def word(self, name: str, default: str = "") -> str:
        return self.get(name, default).strip() or default


def parse(data: bytes) -> tuple[Layout | None, Layout | None]:
    """The layouts of ``<output>`` and ``<input>``; None for one that the file does not have. Raises `BadFile`."""
    root = _tree(data)
    generic = root.find("generic") if root.name == "PropertyList" else None
    if generic is None:
        raise BadFile("not a protocol file: it has no <PropertyList><generic>")
    output, given = (generic.find(name) for name in ("output", "input"))
    if output is None and given is None:
        raise BadFile("it has neither <output> nor <input>")
    return _layout(output), _layout(given)


def _tree(data: bytes) -> _Element:
    """The elements of a document. Attributes do not matter; nothing outside the file is ever read."""
    if len(data) > MAX_FILE_BYTES:
        raise BadFile(f"more than {MAX_FILE_BYTES} bytes")
    parser = expat.ParserCreate()
    document = _Element("", parser.CurrentLineNumber)
    stack = [document]

    def refuse(*facts: object) -> None:
        raise BadFile(f"line {parser.CurrentLineNumber}: a DTD or entities are not allowed")

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            raise BadFile(f"line {parser.CurrentLineNumber}: elements are nested too deeply")
        if "include" in attributes:
            raise BadFile(f"line {parser.CurrentLineNumber}: include is not supported: write the contents here")
        element = _Element(name, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(name: str) -> None:
        stack.pop()

    def text(words: str) -> None:
        stack[-1].text += words

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadFile(f"line {error.lineno}: {expat.ErrorString(error.code)}") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise error if isinstance(error, BadFile) else BadFile(str(error)) from None
    (root,) = document.children
    return root


def _layout(block: _Element | None) -> Layout | None:
    if block is None:
        return None
    binary = block.word("binary_mode", "false").lower() in TRUE_WORDS
    found = [child for child in block.children if child.name == "chunk"]
    if len(found) > MAX_CHUNKS:
        raise BadFile(f"line {found[MAX_CHUNKS].line}: more than {MAX_CHUNKS} chunks")
    if not found:
        raise BadFile(f"line {block.line}: <{block.name}> has no <chunk>")
    chunks = tuple(_chunk(element, binary) for element in found)
    if binary:
        order = ">" if block.word("byte_order").lower() == "network" else "<"
        form = struct.Struct(order + "".join(chunk.code for chunk in chunks))
        return Layout(chunks, form=form, magic=_footer(block))
    between, end = _separator(block, "var_separator"), _separator(block, "line_separator")
    if not between and len(chunks) > 1:
        raise BadFile(f"line {block.line}: without a <var_separator> the fields cannot be told apart")
    preamble, postamble = (_unescape(block.get(name)) for name in ("preamble", "postamble"))
    return Layout(chunks, between, end, preamble, postamble)


def _chunk(element: _Element, binary: bool) -> Chunk:
    def bad(what: str) -> BadFile:
        return BadFile(f"line {element.line}: {what}")

    kind = element.word("type", "int").lower()
    if kind not in _TYPES:
        raise bad(f"unknown type {kind!r}{did_you_mean(kind, _TYPES)}")
    form, code = _TYPES[kind]
    if binary and not code:
        raise bad(f"binary mode has no {kind}")
    if element.word("relative").lower() in TRUE_WORDS:
        raise bad("a relative chunk cannot be used: it would add up")
    name = element.word("name").partition(":")[0].strip()
    text = element.get("format") or form
    conversions = list(_CONVERSION.finditer(text.replace("%%", "\0\0")))
    rest = _CONVERSION.sub("", text.replace("%%", "\0\0"))
    if "%" in rest or len(conversions) > 1:
        raise bad(f"the format {text!r} is not understood")
    if not conversions:
        return Chunk("", text.replace("%%", "%"), code=code)
    (found,) = conversions
    before, after = (part.replace("%%", "%") for part in (text[: found.start()], text[found.end() :]))
    flags, width, digits, letter = found.groups()
    letter = "d" if letter in "diu" else letter
    precision = "" if digits is None or letter == "d" else f".{digits}"
    # As in C: "+" is stronger than a blank, "-" than "0", and text stands at the right.
    without = (" " if "+" in flags else "") + ("0" if "-" in flags else "")
    padding = "".join(flag for flag in "+ #0" if flag in flags and flag not in without)
    side = "<" if "-" in flags else ">" if letter == "s" else ""
    conversion = f"{side}{padding if letter != 's' else ''}{width}{precision}{letter}"
    try:
        offset = float(element.word("offset", "0"))
        float(element.word("factor", "1"))
        format("" if letter == "s" else 0, conversion)
    except ValueError as error:
        raise bad(str(error)) from None
    return Chunk(name, before, conversion, after, code, offset)


def _separator(block: _Element, name: str) -> str:
    text = block.get(name)
    return _SEPARATORS.get(text.strip().lower(), _unescape(text))


def _unescape(text: str) -> str:
    return re.sub(r"\\([nrtfv\\])", lambda match: _ESCAPES[match[1]], text)


def _footer(block: _Element) -> int | str | None:
    words = block.word("binary_footer", "none").lower()
    kind, _, number = words.partition(",")
    if kind in ("none", "length"):
        return None if kind == "none" else kind
    try:
        if kind != "magic":
            raise ValueError
        return int(number, 0) & 0xFFFFFFFF
    except ValueError:
        raise BadFile(f"line {block.line}: the footer {words!r} is not understood") from None


# -- records -----------------------------------------------------------------------------------------------------------


class _Source:
    """What both ways to read FlightGear share: counters, and values that must be neither text nor zeros of loading."""

    REFUSALS: ClassVar[Sequence[str]] = ()

    def __init__(self, counts: dict[str, int] | None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS)
        self.refused = ""
        self._loading = Loading()

    @property
    def trouble(self) -> str:
        return LOADING if self._loading.loading else ""

    def _refuse(self, why: str, what: str) -> None:
        self.counts["received"] += 1
        self.counts[why] += 1
        self.refused = f"{what[:40]!r}: {why}"

    def _judge(self, updates: Iterable[Update], numbers: Mapping[str, float]) -> list[Update] | None:
        """What to write in place of `updates`; None if they are to be written. `numbers` are the same as FlightGear's
        properties have them, as far as they are numbers."""
        instead = self._loading.judge(numbers)
        if instead is None:
            self._loading.known.update(update.key for update in updates if update.value is not None)
        return instead


class Generic(_Source):
    """Records of a layout. `types` are those of the items, by key; other keys are skipped. Give it whole datagrams."""

    REFUSALS: ClassVar[Sequence[str]] = (TOO_LONG, BAD_FIELDS, BAD_LENGTH)

    def __init__(self, layout: Layout, types: Mapping[str, TypeName], counts: dict[str, int] | None = None) -> None:
        super().__init__(counts)
        self._layout = layout
        self._types = types
        self._rest = ""
        self._too_long = False
        self._end = "\n" if layout.end == "\r\n" else layout.end  # a line may come without the CR

    def interrupt(self) -> None:
        """Forget an unfinished line."""
        self._rest = ""
        self._too_long = False

    def feed(self, datagram: bytes) -> list[Update]:
        """Decode the records that a datagram completes."""
        if self._layout.form is not None:
            return [update for fields in self._unpack(datagram) for update in self._take(fields)]
        return [update for line in self._lines(datagram.decode("latin-1")) for update in self._take_line(line)]

    def _lines(self, text: str) -> Iterator[str]:
        layout = self._layout
        text = text.removeprefix(layout.preamble)
        if layout.postamble and text == layout.postamble:
            return
        if not layout.end or layout.end == layout.between:  # a record is a datagram
            yield text[: -len(layout.end)] if layout.end and text.endswith(layout.end) else text
            return
        *lines, rest = (self._rest + text).split(self._end)
        for line in lines:
            if self._too_long or len(line) > MAX_RECORD_BYTES:
                self._too_long = False
                self._refuse(TOO_LONG, line)
            else:
                yield line
        if len(rest) > MAX_RECORD_BYTES:
            self._too_long, rest = True, ""
        self._rest = rest

    def _take_line(self, line: str) -> list[Update]:
        layout = self._layout
        line = line.removesuffix("\r") if self._end == "\n" else line
        if len(line) > MAX_RECORD_BYTES:
            self._refuse(TOO_LONG, line)
            return []
        if not line:
            return []
        if line.startswith(LABELS):
            self.counts["received"] += 1
            self.counts["ignored"] += 1
            return []
        fields = line.split(layout.between) if layout.between else [line]
        if len(fields) != len(layout.chunks):
            self._refuse(BAD_FIELDS, line)
            return []
        return self._take(list(map(_number_in, layout.chunks, fields)))

    def _unpack(self, datagram: bytes) -> Iterator[Sequence[float]]:
        form, magic = self._layout.form, self._layout.magic
        assert form is not None
        size = form.size + (4 if magic is not None else 0)
        if not datagram or len(datagram) % size:
            self._refuse(BAD_LENGTH, datagram[:40].decode("latin-1"))
            return
        for start in range(0, len(datagram), size):
            if magic is not None:
                (footer,) = struct.unpack_from(form.format[0] + "I", datagram, start + form.size)
                if footer not in ((form.size, size) if magic == "length" else (magic,)):
                    self._refuse(BAD_LENGTH, datagram[:40].decode("latin-1"))
                    continue
            yield form.unpack_from(datagram, start)

    def _take(self, fields: Sequence[str | float]) -> list[Update]:
        updates: list[Update] = []
        numbers: dict[str, float] = {}
        for chunk, field in zip(self._layout.chunks, fields, strict=True):
            kind = self._types.get(chunk.key)
            if kind is None:
                continue
            update = update_of(chunk.key, field, kind)
            updates.append(update)
            if isinstance(update.value, float):
                numbers[chunk.key] = 0.0 if chunk.is_zero(update.value) else update.value
        self.counts["received"] += 1
        instead = self._judge(updates, numbers)
        self.counts["used" if instead is None else "ignored"] += 1
        return updates if instead is None else instead


def update_of(key: str, field: str | float, kind: TypeName) -> Update:
    """The update for a field. One that is not of the item's type fails the key."""
    value: Value | None
    if kind == "str":
        text = str(field)
        value = text if text.isprintable() and len(text) <= MAX_TEXT else None
    elif kind == "bool":
        word = str(field).lower()
        word = word.removesuffix(".0")
        value = True if word in TRUE_WORDS else False if word in FALSE_WORDS else None
    else:
        value = number(field)
    if value is None:
        return Update(key, None, FAIL, f"FlightGear sends {str(field)[:20]!r}")
    return Update(key, value)


def number(field: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(field, str) and ("_" in field or not field.isascii()):
        return None
    try:
        value = float(field)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if isfinite(value) else None


def record(layout: Layout, values: Mapping[str, Value | None]) -> bytes | None:
    """A record with `values` by key; None if one is missing: a field cannot be left out, and zero is no substitute."""
    fields: list[Any] = []
    for chunk in layout.chunks:
        value = values.get(chunk.key) if chunk.key else 0
        if value is None:
            return None
        whole = chunk.code in ("i", "b") if layout.form else chunk.conversion.endswith("d")
        if whole and not isinstance(value, str):
            value = round(value)
        fields.append(value)
    try:
        if layout.form is not None:
            data = layout.form.pack(*fields)
            if layout.magic is not None:
                footer = len(data) if layout.magic == "length" else layout.magic
                data += struct.pack(layout.form.format[0] + "I", footer)
            return data
        texts = list(map(_field, layout.chunks, fields))
    except (ValueError, TypeError, struct.error, OverflowError):  # text in place of a number, or too large a number
        return None
    if any(mark and mark in text for text in texts for mark in (layout.between, layout.end)):
        return None
    return (layout.between.join(texts) + layout.end).encode("latin-1", "replace")


def _number_in(chunk: Chunk, field: str) -> str:
    """A field without the text around its number."""
    return field.removeprefix(chunk.before).removesuffix(chunk.after).strip()


def _field(chunk: Chunk, value: Value) -> str:
    if not chunk.key:
        return chunk.before
    if chunk.conversion.endswith("s") and not isinstance(value, str):
        value = f"{value:.15g}"  # FlightGear reads as many digits as there are
    return f"{chunk.before}{value:{chunk.conversion}}{chunk.after}"


# -- HTTP --------------------------------------------------------------------------------------------------------------


class Property(NamedTuple):
    """A property to read, and what to do with its number: multiply it, and add."""

    path: str
    key: str
    factor: float = 1.0
    offset: float = 0.0


class Properties(_Source):
    """Reads properties one after the other, in rounds, `rate` a second; a round is used as a whole.

    `due` returns the path to ask for now, if any; `feed` takes answers, each a line ``STATUS PATH BODY``.
    """

    REFUSALS: ClassVar[Sequence[str]] = (TOO_LONG, BAD_ANSWER)

    def __init__(
        self,
        clock: Callable[[], float],
        properties: Sequence[Property],
        types: Mapping[str, TypeName],
        rate: float = 10.0,
        counts: dict[str, int] | None = None,
    ) -> None:
        super().__init__(counts)
        self._clock = clock
        self._properties = properties
        self._types = types
        self._period = 1.0 / rate
        self._next = float("-inf")
        self._answers: list[tuple[Property, str | float | None, str]] = []
        #: When the round that is not complete was begun; None between rounds.
        self.begun_at: float | None = None
        self._waiting = False
        self._rest = b""

    def due(self) -> str | None:
        """The path to ask for now; None while an answer is missing, or between rounds."""
        now = self._clock()
        if self._waiting or (self.begun_at is None and now < self._next):
            return None
        if self.begun_at is None:
            self.begun_at, self._next = now, now + self._period
        self._waiting = True
        return self._properties[len(self._answers)].path

    def feed(self, data: bytes) -> list[Update]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_RECORD_BYTES:
            self._rest = b""
            self._refuse(TOO_LONG, "an answer")
        return [update for line in lines for update in self._take_line(line)]

    def _take_line(self, line: bytes) -> list[Update]:
        status, _, rest = line.decode("utf-8", "replace").partition(" ")
        path, _, body = rest.partition(" ")
        wanted = self._properties[len(self._answers)]
        if not self._waiting or path != wanted.path:
            self._refuse(BAD_ANSWER, rest)
            return []
        self._waiting = False
        value, why = None, f"FlightGear answers {status[:20]} for {path[:100]}"
        try:
            if status == "200":
                value = json.loads(body)["value"]
            elif status == "404":
                why = f"FlightGear has no property {path[:100]}"
            self.counts["received"] += 1
            self.counts["used"] += 1
        except (ValueError, TypeError, KeyError, RecursionError):
            self._refuse(BAD_ANSWER, rest)
            why = f"FlightGear's answer for {path[:100]} is not understood"
        self._answers.append((wanted, value, why))
        if len(self._answers) < len(self._properties):
            return []
        answers, self._answers, self.begun_at = self._answers, [], None
        return self._round(answers)

    def _round(self, answers: Iterable[tuple[Property, Any, str]]) -> list[Update]:
        updates: list[Update] = []
        numbers: dict[str, float] = {}
        for (_, key, factor, offset), value, why in answers:
            if value is None:
                updates.append(Update(key, None, FAIL, why))
                continue
            update = update_of(key, value, self._types[key])
            if isinstance(update.value, float):
                numbers[key] = update.value
                update = Update(key, update.value * factor + offset)
            updates.append(update)
        instead = self._judge(updates, numbers)
        return updates if instead is None else instead
