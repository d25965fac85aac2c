"""The JSON of rtl_433 without I/O: lines in, updates of database keys out (`Decoder`).

Facts: rtl_433's DATA_FORMAT.md; rtl_433 22.11 and 25.02. It never raises, whatever the input; it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, NamedTuple

import msgspec

from fixgw.kit.lines import Lines
from fixgw.kit.update import BAD, FAIL, TypeName, Update, Value, begin_counting

MAX_LINE = 8192
#: Sensors of others that the status shows.
MAX_SEEN = 20
#: Longest text of an id, a model or a value.
MAX_TEXT = 60


class Field(NamedTuple):
    """How a key gets its value from the field `source`.

    A `threshold` makes it 1 above and 0 otherwise. Without one it is the number times `scale` plus `offset`, rounded to
    `digits` if given. Then it becomes a `type`, and `into` is that of the key. `wrong` says why it cannot be right.
    """

    key: str
    source: str
    scale: float = 1.0
    offset: float = 0.0
    digits: int | None = None
    threshold: float | None = None
    type: str = "float"
    into: TypeName = "float"
    wrong: str = ""

    def convert(self, sent: float) -> Value | None:
        """The value; None if it is no number that a key can have."""
        number: float
        if self.threshold is not None:
            number = 1 if sent > self.threshold else 0
        else:
            number = sent * self.scale + self.offset
            if not isfinite(number):
                return None
            if self.digits is not None:
                number = round(number, self.digits)
        value = TYPES[self.type](number)
        return str(value) if self.into == "str" else TYPES[self.into](float(value))


TYPES: Mapping[str, Callable[[float], Value]] = {"float": float, "int": int, "bool": bool, "string": str, "str": str}


class Sensor(NamedTuple):
    """A sensor: its id as rtl_433 prints it, the number of its decoder, and what is taken from it."""

    id: str
    decoder: int
    mappings: Sequence[Field]


class Decoder:
    """Decodes the lines of rtl_433. `clock` returns monotonic seconds. The first sensor that fits a line counts."""

    REFUSALS: ClassVar[Sequence[str]] = ("malformed", "too long")

    def __init__(
        self, clock: Callable[[], float], sensors: Sequence[Sensor], counts: dict[str, int] | None = None
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._clock = clock
        self._sensors: dict[tuple[str, int], Sensor] = {}
        for sensor in sensors:
            self._sensors.setdefault((sensor.id.lower(), sensor.decoder), sensor)
        #: When each of the sensors was last heard, by id.
        self.heard: dict[str, float] = {}
        #: What sensors that are not configured sent last, by model and id.
        self.seen: dict[str, str] = {}
        #: Fields that a sensor does not send, by id.
        self.missing: dict[str, str] = {}
        self._said: set[str] = set()  # the keys of all values so far
        self._lines = Lines(MAX_LINE)

    def feed(self, data: bytes) -> list[Update]:
        """Decode the lines that `data` completes."""
        return [update for line in self._lines.feed(data) for update in self._line(line.strip())]

    def reopen(self) -> None:
        """Forget an unfinished line: rtl_433 begins anew."""
        self._lines.restart()

    def _refuse(self, why: str, line: bytes) -> None:
        self.counts[why] += 1
        self.refused = f"{why}: {line[:200]!r}"

    def _line(self, line: bytes) -> list[Update]:
        if not line:
            return []
        self.counts["received"] += 1
        if len(line) > MAX_LINE:
            self._refuse("too long", line)
            return []
        try:
            said = _decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._refuse("malformed", line)
            return []
        ident, decoder = said.get("id"), said.get("protocol")
        if not isinstance(ident, int | str) or isinstance(ident, bool) or not isinstance(decoder, int):
            self.counts["ignored"] += 1  # a log message, or no sensor
            return []
        sensor = self._sensors.get((str(ident).lower(), decoder))
        if sensor is None:
            self.counts["ignored"] += 1
            self._note(said, str(ident), decoder)
            return []
        self.counts["used"] += 1
        self.heard[sensor.id] = self._clock()
        self.missing.pop(sensor.id, None)
        return list(self._updates(sensor, said))

    def _note(self, said: Mapping[str, Any], ident: str, decoder: int) -> None:
        """Keep what another sensor sent: it may be one to configure."""
        name = f"{str(said.get('model'))[:MAX_TEXT]} {ident[:MAX_TEXT]} (decoder {decoder})"
        self.seen.pop(name, None)
        if len(self.seen) >= MAX_SEEN:
            del self.seen[next(iter(self.seen))]
        fields = [f"{k} {v}" for k, v in said.items() if k.startswith(("pressure", "temperature", "battery"))]
        self.seen[name] = ", ".join(fields)[:200]

    def _updates(self, sensor: Sensor, said: Mapping[str, Any]) -> Iterator[Update]:
        missing = [mapping.source for mapping in sensor.mappings if mapping.source not in said]
        if missing:
            self.missing[sensor.id] = ", ".join(missing)
        for mapping in sensor.mappings:
            sent = said.get(mapping.source)
            if mapping.source not in said:
                continue
            value = mapping.convert(sent) if isinstance(sent, int | float) and abs(sent) < 1e15 else None
            if value is not None:
                self._said.add(mapping.key)
                yield Update(mapping.key, value, BAD if mapping.wrong else 0, mapping.wrong)
                continue
            self.counts["absurd values"] += 1
            if mapping.key in self._said:
                yield Update(mapping.key, None, FAIL, f"the sensor sends {str(sent)[:MAX_TEXT]!r}")


_decode = msgspec.json.Decoder(dict[str, Any]).decode
