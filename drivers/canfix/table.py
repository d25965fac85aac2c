"""The CAN-FIX parameter table: the meaning of each identifier, and the encoding of its value.

The data is in ``parameters.csv``, explained in its first lines. Two assignments of identifiers are in use, named by
year: `CURRENT`, and 2023 for older devices.
"""

from __future__ import annotations

import csv
import functools
import math
import pkgutil
import re
import struct
from collections.abc import Callable, Iterable, Iterator

from fixgw.errors import BadValue, UnknownKey, did_you_mean

Payload = float | int | str | tuple[int, ...]
Data = bytes | bytearray | memoryview

CURRENT = 2024
REVISIONS = (2023, CURRENT)

# The offset of the value in every message that carries a typed value.
VALUE_AT = 3

#: Wire type -> format of `struct`.
WIRE_CODES = {
    "CHAR": "s",
    "BYTE": "B",
    "WORD": "H",
    "SHORT": "b",
    "USHORT": "B",
    "INT": "h",
    "UINT": "H",
    "DINT": "i",
    "UDINT": "I",
    "FLOAT": "f",
}
_PART = re.compile(r"([A-Z]+)(?:\[([1-9])\])?")


class UnknownParameter(UnknownKey):
    """The table has no such parameter; `key` is the one requested."""

    def __str__(self) -> str:
        return f"no CAN-FIX parameter {self.key!r}{did_you_mean(self.key, self.known)}"


class Field:
    """A named value on the wire: its type, scale and range.

    `type` is the specification's (``"UINT"``, ``"USHORT[3],UINT"``). It is empty when the specification gives none;
    such a field can be neither read nor written. The integer on the wire divided by `divisor` is the value in `units`.
    `min` and `max` are in `units` as well; None means that only the wire type limits the value. `size` is in bytes.

    Values are float (scaled, or FLOAT), int (unscaled, and sets of bits), str (CHAR) or a tuple of int (several parts).
    """

    __slots__ = (
        "_codes",
        "_limits",
        "_pack",
        "_turn",
        "divisor",
        "max",
        "min",
        "name",
        "read",
        "size",
        "type",
        "units",
    )

    #: ``read(data)``: the value in a frame's data, which must be long enough.
    read: Callable[[Data], Payload]

    def __init__(
        self,
        name: str,
        type: str,
        divisor: int = 1,
        units: str = "",
        min: float | None = None,
        max: float | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.divisor = divisor
        self.units = units
        self.min = min
        self.max = max
        self._codes = _codes(type)
        wire = struct.Struct("<" + self._codes)
        self.size = wire.size
        self._pack = wire.pack
        self.read = _reader(self._codes, divisor)
        #: A full turn on the wire, for angles whose range ends below 360°: 359.97° is sent as 0.0°.
        self._turn = 360 * divisor if units == "°" and min == 0 and max is not None and 359 <= max < 360 else None
        self._limits = [_limits(code) for code in self._codes if code not in "sf0123456789"]

    @property
    def text(self) -> bool:
        """Whether values are text."""
        return self._codes.endswith("s")

    @property
    def parts(self) -> tuple[str, ...]:
        """The wire type of each number in the value; one CHAR for each character."""
        return tuple(base for base, count in _split(self.type) for _ in range(count))

    def write(self, value: Payload, strict: bool = True) -> bytes:
        """Encode `value`, rounded to the nearest step (half to even); text is padded with NUL.

        Raises `BadValue` with the reason "type", "number" (NaN or infinite), "range" or "text". Unless `strict`, the
        field's own range does not matter and NaN is allowed for FLOAT: anything that the wire type can carry is
        written.
        """
        if not self.type:
            raise BadValue(self.name, "the table gives it no type, so it cannot be sent", "type")
        if self.text:
            return self._write_text(value)
        if self._codes == "f":
            return self._write_float(value, strict)
        if len(self._limits) == 1:
            return self._pack(self._whole(value, *self._limits[0], strict))
        if not isinstance(value, (tuple, list)) or len(value) != len(self._limits):
            raise BadValue(self.name, f"{value!r} is not {len(self._limits)} whole numbers ({self.type})", "type")
        parts = zip(value, self._limits, strict=True)
        return self._pack(*(self._whole(part, *limits, strict) for part, limits in parts))

    def _number(self, value: object, finite: bool = True) -> float | int:
        if not isinstance(value, (int, float)):
            raise BadValue(self.name, f"{value!r} is not a number", "type")
        if isinstance(value, float) and not math.isfinite(value):
            if finite:
                raise BadValue(self.name, f"{value} is not a finite number", "number")
        elif not -1e100 < value < 1e100:  # prevents overflow in the arithmetic that follows
            raise BadValue(self.name, f"a number of this size is outside what {self.type} can carry", "range")
        return value

    def _outside(self, value: float, low: float, high: float, what: str) -> BadValue:
        units = f" {self.units}" if self.units else ""
        return BadValue(self.name, f"{value:.12g}{units} is outside {what}, {low:.12g} to {high:.12g}", "range")

    def _within(self, value: float, scale: int = 1) -> None:
        """Raise unless `value`, in units of 1 / `scale`, is in the field's own range."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        if not round(low * scale, 6) <= value <= round(high * scale, 6):
            raise self._outside(value / scale, low, high, "its range")

    def _whole(self, value: object, low: int, high: int, strict: bool) -> int:
        number = self._number(value)
        scale = self.divisor
        raw = round(number * scale)
        if raw == self._turn and number < 360:
            raw = 0
        if not low <= raw <= high:
            raise self._outside(number, low / scale, high / scale, f"what {self.type} can carry")
        if strict:
            self._within(raw, scale)
        return raw

    def _write_float(self, value: object, strict: bool) -> bytes:
        number = self._number(value, finite=strict)
        if strict:
            self._within(number)
        try:
            return self._pack(number)
        except OverflowError:
            raise BadValue(self.name, f"{value} is too large for FLOAT", "range") from None

    def _write_text(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise BadValue(self.name, f"{value!r} is not text", "type")
        try:
            raw = value.encode("latin-1")
        except UnicodeEncodeError:
            raise BadValue(self.name, f"{value!r} has characters beyond 8 bits", "text") from None
        if len(raw) > self.size:
            raise BadValue(self.name, f"{value!r} is longer than {self.size} characters", "range")
        return raw.ljust(self.size, b"\0")


class Parameter(Field):
    """One identifier of the table.

    When several identifiers have the same meaning, `name` ends in ``#1``, ``#2`` ... and `number` is that number
    (otherwise 0). `index_name` says what the index counts (empty: the index is always 0). `metas` maps the defined meta
    indices, which are not 0, to their names (limits, speeds). `fix_ids` are the specification's short names.
    """

    __slots__ = ("fix_ids", "format", "identifier", "index_name", "metas", "number")

    def __init__(self, row: dict[str, str], number: int) -> None:
        name = row["name"] if row["count"] == "1" else f"{row['name']} #{number}"
        low, high = (float(row[limit]) if row[limit] else None for limit in ("min", "max"))
        super().__init__(name, row["type"], int(row["divisor"]), row["units"], low, high)
        self.identifier = int(row["id"], 16) + number - 1
        self.number = 0 if row["count"] == "1" else number
        self.format = row["format"]
        self.index_name = row["index"]
        self.fix_ids = tuple(row["fix_id"].split())
        pairs = (pair.split("=") for pair in row["meta"].split(";") if pair)
        self.metas = {int(index): meta for index, meta in pairs}

    def meta_index(self, meta: int | str) -> int:
        """The index of the meta data called `meta`; 0 is the value itself. Raises `BadValue` when it is undefined."""
        if meta == 0:
            return 0
        for index, name in self.metas.items():
            if meta == index or (isinstance(meta, str) and meta.lower() == name.lower()):
                return index
        raise BadValue(
            self.name, f"it has no meta data {meta!r}{did_you_mean(str(meta), self.metas.values())}", "range"
        )

    def __repr__(self) -> str:
        return f"<Parameter 0x{self.identifier:03X} {self.name}>"


class Table:
    """The parameters of one revision, by identifier or by name. Iterates in order of identifier. Immutable."""

    def __init__(self, revision: int, parameters: Iterable[Parameter]) -> None:
        self.revision = revision
        found = {p.identifier: p for p in parameters}
        self._by_identifier = dict(sorted(found.items()))
        self._by_name = {_folded(p.name): p for p in self}

    def __getitem__(self, key: int | str) -> Parameter:
        """Look up by identifier, or by name ignoring case and spacing. Raises `UnknownParameter`."""
        parameter = self.get(key)
        if parameter is None:
            raise UnknownParameter(key if isinstance(key, str) else f"0x{key:03X}", [p.name for p in self])
        return parameter

    def get(self, key: int | str) -> Parameter | None:
        return self._by_name.get(_folded(key)) if isinstance(key, str) else self._by_identifier.get(key)

    def __contains__(self, key: int | str) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._by_identifier.values())

    def __len__(self) -> int:
        return len(self._by_identifier)


@functools.cache
def load(revision: int = CURRENT) -> Table:
    """The table of `revision`, one of `REVISIONS`. Raises `BadValue` for any other revision."""
    if revision not in REVISIONS:
        raise BadValue("table", f"{revision!r} is not one of {', '.join(map(str, REVISIONS))}", "range")
    text = (pkgutil.get_data(__name__, "parameters.csv") or b"").decode()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return Table(
        revision,
        (
            Parameter(row, number)
            for row in rows
            if row["revision"] in ("", str(revision))
            for number in range(1, int(row["count"]) + 1)
        ),
    )


def _folded(name: str) -> str:
    return " ".join(name.lower().split())


def _split(type: str) -> Iterator[tuple[str, int]]:
    """``"INT[2],BYTE"`` as ``("INT", 2), ("BYTE", 1)``."""
    for part in filter(None, type.split(",")):
        match = _PART.fullmatch(part)
        if match is None or match[1] not in WIRE_CODES:
            raise BadValue("type", f"{part!r} is not a CAN-FIX type{did_you_mean(part, WIRE_CODES)}", "text")
        yield match[1], int(match[2] or 1)


def _codes(type: str) -> str:
    """The struct format of `type`, without the byte order."""
    return "".join(f"{n}s" if base == "CHAR" else WIRE_CODES[base] * n for base, n in _split(type))


def _limits(code: str) -> tuple[int, int]:
    bits = 8 * struct.calcsize("<" + code)
    return (0, (1 << bits) - 1) if code.isupper() else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _reader(codes: str, divisor: int) -> Callable[[Data], Payload]:
    unpack = struct.Struct("<" + codes).unpack_from
    if codes.endswith("s"):
        return lambda data: unpack(data, VALUE_AT)[0].decode("latin-1").rstrip("\0 ")
    if len(codes) != 1:
        return lambda data: unpack(data, VALUE_AT)
    # Divide rather than multiply: 3 / 10 is 0.3, but 3 * 0.1 is 0.30000000000000004.
    if divisor > 1:
        return lambda data: unpack(data, VALUE_AT)[0] / divisor
    return lambda data: unpack(data, VALUE_AT)[0]
