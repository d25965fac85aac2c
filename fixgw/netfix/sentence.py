"""NetFIX sentences: bytes to lines, lines to commands, readings to text. Without I/O, for both ends of a connection.

A sentence is a line of UTF-8 text of at most `MAX_LINE_BYTES`. Nothing here raises on input from the other end:
invalid input becomes `Garbage`, an unknown `Command`, or None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL
from fixgw.database.reading import FLAG_TEXTS
from fixgw.kit.sources import INITIAL, KEPT, LONGEST_PATH, SIMULATED, mark_of

if TYPE_CHECKING:
    from fixgw.database import Definition, Reading, Value

PORT = 3490
MAX_LINE_BYTES = 4096
#: We skip this much of an overlong line before we give up the connection.
MAX_SKIPPED_BYTES = 1 << 20
#: The most bytes of an invalid line that its refusal repeats.
ECHO_BYTES = 40

UNKNOWN_KEY = "001"
WRONG_SUBSCRIPTION = WRONG_FLAG = "002"
WRONG_VALUE = "003"
UNKNOWN_COMMAND = "004"
NOT_PERMITTED = "005"

# -- values ------------------------------------------------------------------------------------------------------------

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Make `text` fit for a sentence: ``;`` becomes ``,``, control characters and line ends become spaces."""
    if text.isprintable() and ";" not in text:
        return text
    return _UNFIT.sub(" ", text).replace(";", ",")


def text_of(value: Value | None) -> str:
    """Format a value: shortest decimal, ``True`` or ``False``, bare text, or ``None`` for an unset aux value."""
    return clean(value) if isinstance(value, str) else repr(value)


def value_of(text: str, kind: str = "") -> Value | None:
    """Parse a value of type `kind` (``"float"`` ...), or of the type that `text` looks like.

    Returns text that does not fit the type as it is.
    """
    if text == "None" and kind != "str":
        return None
    if kind in ("", "bool") and text in ("True", "False"):
        return text == "True"
    for name, convert in (("int", int), ("float", float)):
        if kind in ("", name) and text.isascii() and "_" not in text:
            try:
                number = convert(text)
            except ValueError:
                continue
            if isinstance(number, int) or math.isfinite(number):  # an int may be too large for a float
                return number
    return text


def whole_number(text: str) -> int:
    """Parse a count; 0 if `text` is none, or has more digits than any count."""
    return int(text) if text.isdecimal() and len(text) < 16 else 0


_LAYOUTS = ((ANNUNCIATE, BAD, FAIL), (ANNUNCIATE, BAD, FAIL, SECFAIL), (ANNUNCIATE, OLD, BAD, FAIL, SECFAIL))
_FLAGS = {
    "".join(bits): (
        sum(flag for flag, bit in zip(layout, bits, strict=True) if bit == "1" and flag != OLD),
        sum(layout) & ~OLD,
    )
    for layout in _LAYOUTS
    for bits in product("01", repeat=len(layout))
}


def flags_of(text: str) -> tuple[int, int] | None:
    """Parse a client's ``abf``, ``abfs`` or ``aobfs`` characters into (flags, mask); None if they are invalid.

    Ignores old, which only the clock sets.
    """
    return _FLAGS.get(text)


def flag_bits(text: str) -> int:
    """Parse the five ``aobfs`` characters of a server into bits. Missing characters count as not set."""
    return sum(flag for flag, bit in zip(_LAYOUTS[2], text, strict=False) if bit == "1")


def flag_text(bits: int) -> str:
    """The flags as five ``aobfs`` characters."""
    return FLAG_TEXTS[bits]


def update(key: str, reading: Reading) -> str:
    """``KEY;value;aobfs``."""
    value = reading.value
    return f"{key};{clean(value) if isinstance(value, str) else repr(value)};{FLAG_TEXTS[reading.flags]}"


def aux_update(key: str, name: str, value: Value | None) -> str:
    """``KEY.aux;value``."""
    return f"{key}.{name};{text_of(value)}"


# -- between gateways --------------------------------------------------------------------------------------------------

MARKS = (KEPT, *(mark[:-1] for mark in SIMULATED))


def for_gateway(line: str, source: str) -> str:
    """The value or update sentence `line` as we send it to another gateway, with a mark if `source` calls for one.

    ``@xsim IAS;100.0;00000`` is simulated, and stays so on the other gateway. ``@xkept`` is from before a restart; the
    other gateway uses it only if it has nothing better. A start value of the configuration is not sent: empty.
    """
    if source == INITIAL:
        return ""
    mark = KEPT if source == KEPT else mark_of(source)[:-1]
    return f"@x{mark} {line}" if mark else line


def split_mark(line: str) -> tuple[str, str]:
    """Split a line that `for_gateway` made into its mark, one of `MARKS` or empty, and the line without it."""
    mark, space, rest = line[2:].partition(" ")
    return (mark, rest) if space and rest and line.startswith("@x") and mark in MARKS else ("", line)


_PATH = re.compile(rf"@xvia ([0-9a-f]{{6}}(?:,[0-9a-f]{{6}}){{0,{LONGEST_PATH - 1}}}) (.+)")


def with_path(line: str, path: Sequence[str]) -> str:
    """``@xvia 4d5e6f OILT;90.0;00000``: the line for a gateway, and the gateways that had the value before us.

    Empty if they are too many.
    """
    if not line or len(path) > LONGEST_PATH:
        return ""
    return f"@xvia {','.join(path)} {line}" if path else line


def split_path(line: str) -> tuple[tuple[str, ...], str]:
    """The path on a line that `with_path` made, empty for none, and the line without it."""
    match = _PATH.fullmatch(line) if line.startswith("@xvia ") else None
    return (tuple(match[1].split(",")), match[2]) if match else ((), line)


#: When a setting was set, in a count that all gateways share, and the gateway that set it. The greater one is newer.
Version = tuple[int, str]
NO_VERSION: Version = (0, "")
_VERSIONED = re.compile(
    rf"@xset (\d{{1,16}}) ([A-Za-z0-9-]{{1,64}}) ((?:@x(?:{'|'.join(mark[:-1] for mark in SIMULATED)}) )?[^@ ].*)",
    re.ASCII,
)


def versioned(line: str, version: Version) -> str:
    """``@xset 7 panel-1a2b3c BARO;29.92;00000``: the sentence `line` with the version of the setting.

    The mark of a simulated one stands between: ``@xset 7 panel-1a2b3c @xsim BARO;29.92;00000``. An older gateway, which
    does not understand that, ignores it; it would take one without a mark for real.
    """
    return f"@xset {version[0]} {version[1]} {line}"


def split_version(line: str) -> tuple[Version | None, str]:
    """The version on what `versioned` made, None for none, and the line without it."""
    match = _VERSIONED.fullmatch(line) if line.startswith("@xset ") else None
    return ((int(match[1]), match[2]), match[3]) if match else (None, line)


# -- lines -------------------------------------------------------------------------------------------------------------


class Garbage(msgspec.Struct, frozen=True, gc=False):
    """A line that is not a sentence: overlong, with a NUL, or not UTF-8. `echo` is its beginning, cleaned."""

    echo: str


def sanitize(text: str) -> str:
    """Replace control characters and line ends by replacement characters."""
    return text if text.isprintable() else _UNFIT.sub("\ufffd", text)


class LineSplitter:
    """Splits bytes into lines, in bounded memory. Lines end with ``\\n`` or ``\\r\\n``; empty ones are dropped.

    An overlong line is reported once, as soon as it is too long, and skipped to its end. `hopeless` is True when more
    than `max_skipped` bytes of it have been skipped.
    """

    def __init__(self, max_line: int = MAX_LINE_BYTES, max_skipped: int = MAX_SKIPPED_BYTES) -> None:
        self._max_line = max_line
        self._max_skipped = max_skipped
        self._tail = bytearray()
        self._skipped = 0  # bytes of an overlong line; 0 if the line is not (yet) too long

    @property
    def hopeless(self) -> bool:
        return self._skipped > self._max_skipped

    def feed(self, data: bytes) -> list[str | Garbage]:
        """Return the lines that `data` completes."""
        lines: list[str | Garbage] = []
        if self._skipped:
            _, newline, rest = data.partition(b"\n")
            if not newline:
                self._skipped += len(data)
                return lines
            self._skipped = 0
            data = rest
        self._tail += data
        if b"\n" in data:
            lines += self._split_plain() or self._split()
        if len(self._tail) > self._max_line:
            lines.append(self._line(self._tail))
            self._skipped = len(self._tail)
            self._tail = bytearray()
        return lines

    def _split(self) -> list[str | Garbage]:
        """Take the complete lines."""
        lines = []
        *complete, self._tail = self._tail.split(b"\n")
        for raw in complete:
            if raw.endswith(b"\r"):
                del raw[-1]
            if raw:
                lines.append(self._line(raw))
        return lines

    def _split_plain(self) -> list[str]:
        """Take the complete lines if none needs a closer look, in a tenth of the time; otherwise none."""
        end = self._tail.rindex(b"\n")
        try:
            text = self._tail[: end + 1].decode().replace("\r\n", "\n")
        except UnicodeDecodeError:
            return []
        lines = [line for line in text.split("\n") if line]
        overlong = end > self._max_line and any(4 * len(line) > self._max_line for line in lines)
        if overlong or "\0" in text:
            return []
        del self._tail[: end + 1]
        return lines

    def _line(self, raw: bytearray) -> str | Garbage:
        if len(raw) <= self._max_line and 0 not in raw:
            try:
                return raw.decode()
            except UnicodeDecodeError:
                pass
        if raw.startswith(b"@l") and len(raw) <= self._max_line:
            return "@l"  # one client sends garbage after it
        return Garbage(sanitize(raw[:ECHO_BYTES].decode("utf-8", "replace")))


# -- other protocols ---------------------------------------------------------------------------------------------------

#: The first byte of a TLS connection. No sentence begins with it.
TLS_HANDSHAKE = b"\x16"
_METHODS = "GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI"
_HEADERS = r"Host|Origin|Referer|User-Agent|Cookie|Connection|Transfer-Encoding|Content-\w+|Accept[\w-]*|Sec-[\w-]+"
_HTTP = re.compile(rf"\s*(?:(?:{_METHODS})\s|\S+\s+\S.*\sHTTP/\d|(?:{_HEADERS})\s*:)", re.IGNORECASE)


def is_http(line: str) -> bool:
    """Whether a line is a request line or a header of HTTP: a web page in a browser has sent it.

    No sentence looks like that, because no key contains a blank or a colon.
    """
    return _HTTP.match(line) is not None


# -- commands ----------------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, gc=False):
    """A line from a client.

    `letter` is the command's (``"r"`` for ``@r``), ``"="`` for a value sentence, and empty for anything else. `key` is
    what follows; in ``@w``, ``@f`` and value sentences it ends at the first ``;``. `rest` is what follows the ``;``,
    None if there is none.
    """

    letter: str
    key: str
    rest: str | None
    line: str

    def error(self, code: str) -> str:
        """The reply that refuses the command: the command's beginning, and the code."""
        start = self.line if self.letter in ("", "x") else f"@{self.letter}{self.key}"
        return f"{sanitize(start)}!{code}"


_WITH_KEY = frozenset("rsuqlx")
_WITH_VALUE = frozenset("wf")


def parse(line: str) -> Command:
    """Parse a line, which must not be empty, into a command."""
    if line[0] != "@":
        key, semicolon, rest = line.partition(";")
        return Command("=" if semicolon else "", key, rest, line)
    letter = line[1:2]
    if letter in _WITH_KEY:
        return Command(letter, line[2:], None, line)
    if letter in _WITH_VALUE:
        key, semicolon, rest = line[2:].partition(";")
        return Command(letter, key, rest if semicolon else None, line)
    return Command("", "", None, line)


# -- replies -----------------------------------------------------------------------------------------------------------


def key_list(keys: Iterable[str]) -> str:
    """The answer to ``@l``, a single line. ``ZZLOADER`` comes last, because displays wait for it."""
    ordered = sorted(keys, key="ZZLOADER".__eq__)
    return f"@l{len(ordered)};0;{','.join(ordered)}"


def report(definition: Definition) -> str:
    """The answer to ``@q``, which always has eight fields. A number without limits shows the limits of its type."""
    kind = definition.type
    if kind == "bool":
        low, high = "False", "False"
    elif kind == "str":
        low, high = "None", "None"
    else:
        convert, (lowest, highest) = _WIDEST[kind]
        low = repr(convert(lowest if definition.min is None else definition.min))
        high = repr(convert(highest if definition.max is None else definition.max))
    return (
        f"@q{definition.key};{clean(definition.description)};{kind};{low};{high};{clean(definition.units)};"
        f"{definition.tolerance};{','.join(definition.aux)}"
    )


_WIDEST: dict[str, tuple[type[float] | type[int], tuple[float, float]]] = {
    "float": (float, (-1.7976931348623157e308, 1.7976931348623157e308)),
    "int": (int, (-(2**63), 2**63 - 1)),
}
