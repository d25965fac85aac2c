"""Sensors that send lines of text (an Arduino, a serial thermometer), described in the configuration without code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fixgw.database import Database, TypeName
from fixgw.drivers.lines import pattern
from fixgw.drivers.lines.protocol import Checksum, Decoder, Field, Format
from fixgw.drivers.links.instrument import ChangesWithin, Instrument
from fixgw.drivers.links.serial import SerialOptions
from fixgw.errors import did_you_mean
from fixgw.kit.curve import Curve, CurveSpec, Linear, raw_readings
from fixgw.plugin import Feeds

#: What common sensors and libraries send when they have no value.
INVALID = ("", "-", "--", "---", "?", "nan", "inf", "-inf", "ovf", "none", "null", "n/a", "err", "error")


class FieldOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    from_: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | str | None,
        Meta(description="Its column, from 1, or the name of its pair or group; default: the name of the key"),
    ] = msgspec.field(name="from", default=None)
    factor: Annotated[float, Meta(description="Factor that converts the number in the line to the key's units")] = 1.0
    offset: Annotated[float, Meta(description="Offset added after `factor`")] = 0.0
    curve: Annotated[
        CurveSpec | None, Meta(description="Converts the number to the value; replaces `factor` and `offset`")
    ] = None
    full_scale: Annotated[
        float, Meta(gt=0.0, description="Number that corresponds to the supply of the curve's pull-up")
    ] = 1023.0
    min: Annotated[float | None, Meta(description="Lowest possible value; a lower one fails the key")] = None
    max: Annotated[float | None, Meta(description="Highest possible value; a higher one fails the key")] = None
    invalid: Annotated[
        list[str],
        Meta(
            description="What the sensor sends when it has no value; the key then fails. Upper and lower case "
            "are the same"
        ),
    ] = msgspec.field(default_factory=lambda: list(INVALID))

    def build(self, key: str, kind: TypeName) -> Field:
        return Field(
            key=key,
            place=key if self.from_ is None else self.from_,
            type=kind,
            curve=(self.curve or CurveSpec(linear=Linear(factor=self.factor, offset=self.offset))).curve(
                self.full_scale
            ),
            low=float("-inf") if self.min is None else self.min,
            high=float("inf") if self.max is None else self.max,
            invalid=frozenset(text.lower() for text in self.invalid),
        )


class LineOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    form: Annotated[
        Literal["columns", "pairs", "pattern"],
        Meta(
            description="How the values are found: in `columns`, in `pairs` such as `OAT=21.5` or `OAT: 21.5`, "
            "or by a `pattern`"
        ),
    ] = "columns"
    prefix: Annotated[
        str, Meta(max_length=50, description="Only lines that begin with this text are used; it is removed first")
    ] = ""
    separator: Annotated[
        str, Meta(max_length=10, description="Text between columns or pairs; empty: any white space")
    ] = ","
    columns: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(
            description="Number of columns in a complete line; other lines are refused. Set it wherever there is "
            "no checksum"
        ),
    ] = None
    pattern: Annotated[
        str,
        Meta(
            description="Regular expression that matches the whole line after the prefix, with a named group for "
            "each key"
        ),
    ] = ""
    fields: Annotated[
        dict[str, FieldOptions], Meta(min_length=1, description="The keys, and where each finds its value")
    ]

    def build(self, db: Database) -> Format:
        """Raises ValueError if the pattern is wrong."""
        kinds = {key: db.item(key).type for key in self.fields if key in db}
        return Format(
            fields=[field.build(key, kinds.get(key, "float")) for key, field in self.fields.items()],
            prefix=self.prefix,
            separator=self.separator,
            pairs=self.form == "pairs",
            pattern=pattern.compile_safely(self.pattern) if self.form == "pattern" else None,
            columns=self.columns,
        )


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: Annotated[
        str,
        Meta(
            min_length=1, max_length=200, description='Text to send, with its line ending: `"?\\r\\n"` in double quotes'
        ),
    ]
    every: Annotated[float, Meta(ge=0.05, le=3600.0, description="Seconds between two requests")] = 1.0


class LinesOptions(SerialOptions, frozen=True, kw_only=True):
    """Options for a sensor that sends lines."""

    checksum: Annotated[
        Checksum,
        Meta(
            description="Checksum at the end of every line, after a `*`, in hexadecimal: `nmea-xor` (exclusive or of "
            "everything before the `*`, without a leading `$`), `sum8` (sum modulo 256) or `crc16` (CCITT, "
            "initial value FFFF), both of everything before the `*`"
        ),
    ] = "none"
    lines: Annotated[
        list[LineOptions],
        Meta(min_length=1, description="The kinds of lines; the first one that matches a line decodes it"),
    ]
    ask: Annotated[Ask | None, Meta(description="Request to send, for sensors that send only on request")] = None
    changes_within: ChangesWithin = msgspec.field(default_factory=dict)


class Plugin(Instrument[LinesOptions]):
    """One sensor that sends lines."""

    _ask_at = float("-inf")
    #: The kinds of lines, since the line was opened last.
    _formats: Sequence[Format] = ()

    def protocol(self) -> Decoder:
        self._formats = [line.build(self.db) for line in self.options.lines]
        return Decoder(self._formats, self.options.checksum, self.counts)

    def get_status(self) -> Mapping[str, Any]:
        fields = [field for line in self._formats for field in line.fields if field.type in ("float", "int")]
        curves = {field.key: field.curve for field in fields if isinstance(field.curve, Curve)}
        return {**super().get_status(), "readings": raw_readings(curves, "") if self.connected else {}}

    @classmethod
    def check(cls, options: LinesOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        for number, line in enumerate(options.lines):
            yield from ((f"lines.{number}.{place}", message) for place, message in _check_line(line, db))

    @classmethod
    def writes(cls, options: LinesOptions) -> Iterable[str]:
        return dict.fromkeys(key for line in options.lines for key in line.fields)

    @classmethod
    def preflight(cls, options: LinesOptions) -> Iterable[Any]:
        yield from super().preflight(options)
        yield Feeds(tuple(cls.writes(options)))

    def open(self) -> None:
        super().open()
        self._ask_at = float("-inf")

    def poll_by(self) -> float:
        return super().poll_by() if self.options.ask is None else max(self._ask_at, self.clock())

    def poll(self, timeout: float) -> None:
        ask = self.options.ask
        if ask is not None:
            now = self.clock()
            if now >= self._ask_at:
                self._ask_at = now + ask.every
                question = ask.text.encode()
                self.count("asked" if self.send(question) == len(question) else "not asked")
            timeout = min(timeout, max(self._ask_at - now, 0.0))
        super().poll(timeout)


def _check_line(line: LineOptions, db: Database) -> Iterable[tuple[str, str]]:
    groups: Iterable[str] = ()
    if (line.form == "pattern") != bool(line.pattern):
        yield "pattern", "`form: pattern` needs a pattern, and other forms take none"
    elif line.pattern:
        try:
            groups = pattern.compile_safely(line.pattern).groupindex
        except ValueError as error:
            yield "pattern", str(error)
            return
    if line.columns is not None and line.form != "columns":
        yield "columns", "allowed only with `form: columns`"
    for key, field in line.fields.items():
        at = f"fields.{key}"
        place = key if field.from_ is None else field.from_
        if key not in db:
            yield at, f"the database has no item {key!r}{did_you_mean(key, db)}"
        elif field.curve is not None:
            for problem in field.curve.check_units(db.item(key).definition.units):
                yield f"{at}.curve", problem
        if field.curve is not None and (field.factor, field.offset) != (1.0, 0.0):
            yield f"{at}.curve", "give either a curve, or factor and offset"
        if line.form == "columns":
            if not isinstance(place, int):
                yield at if field.from_ is None else f"{at}.from", "give the number of the column, from 1"
            elif line.columns is not None and place > line.columns:
                yield f"{at}.from", f"a line has only {line.columns} columns"
        elif not isinstance(place, str):
            yield f"{at}.from", "give the name of the pair" if line.form == "pairs" else "give the name of the group"
        elif line.form == "pattern" and place not in groups and line.pattern:
            yield f"{at}.from" if field.from_ else at, f"the pattern has no group (?P<{place}>...)"
