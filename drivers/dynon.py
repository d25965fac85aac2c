"""What Dynon's displays have in common on a serial line: lines of fixed-width text, as `Decoder`.

A line is fields, the sum of all characters before it modulo 256 as two hexadecimal digits, CR LF. A field is a number
with a fixed width, or filled with ``X`` when the display does not know it. Every line begins with the display's time of
day, down to a fraction of a second: one that stands still comes from a display that hangs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta

from fixgw.kit.update import FAIL, Update, begin_counting

#: Seconds after which a display that repeats the same time of day is taken for hung.
STUCK = 5.0

UNKNOWN = "the display does not know it"
STANDS_STILL = "the display's clock stands still"

#: The option that says what the display's percents are percents of.
StallAngle = Annotated[
    Annotated[float, Meta(gt=0.0, le=45.0)] | None,
    Meta(
        description="Angle of attack in degrees at which the wing stalls. The display sends percents of it, which "
        "make AOA; without it, AOA is not written"
    ),
]

_END = re.compile(rb"[\r\n]+")
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


class Field(NamedTuple):
    """A number in a line: its first character, counted from 1 as Dynon does, the key's units per unit sent, and what is
    possible, in the key's units."""

    key: str
    at: int
    width: int
    factor: float
    low: float
    high: float
    offset: float = 0.0

    def text(self, line: str) -> str:
        return line[self.at - 1 : self.at - 1 + self.width]


def angle_of_attack(at: int, stall_angle: float | None) -> tuple[Field, ...]:
    """The field with percents of the stall angle, if that is known."""
    return () if stall_angle is None else (Field("AOA", at, 2, stall_angle / 100, 0, stall_angle),)


class Decoder:
    """The receiving end. Holds at most one unfinished line. `clock` gives monotonic seconds.

    To derive from: `frames` finds in a line what may be frames, `fields` tells those of one with the right checksum.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length")
    LONGEST: ClassVar[int]

    def __init__(self, clock: Callable[[], float], counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._clock = clock
        self._buffer = b""
        self._times: dict[str, tuple[str, float]] = {}  # last time of day, and since when, by kind of frame
        self._stuck: set[str] = set()
        self._told_of: set[str] = set()  # the keys of all values so far

    @property
    def trouble(self) -> str:
        return STANDS_STILL if self._stuck else ""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the lines that `data` completes, in order."""
        *lines, rest = _END.split(self._buffer + data)
        self._buffer = rest[-self.LONGEST - 1 :]  # too long stays too long
        updates = [update for line in lines for raw in self.frames(line) for update in self._frame(raw)]
        self._told_of.update(update.key for update in updates if update.value is not None)
        return updates

    def frames(self, line: bytes) -> Iterable[bytes]:
        """What may be frames in a line, without its end."""
        raise NotImplementedError

    def length(self, raw: bytes) -> int:
        """How long the frame should be, going by its beginning."""
        raise NotImplementedError

    def decode(self, line: str) -> Iterator[Update] | None:
        """The updates of a frame that is whole; None when it is of no interest."""
        raise NotImplementedError

    def _frame(self, raw: bytes) -> Iterable[Update]:
        self.counts["received"] += 1
        if len(raw) != self.length(raw):
            reason = "wrong length"
        elif raw[-2:].upper() != b"%02X" % (sum(raw[:-2]) % 256):
            reason = "bad checksum"
        else:
            updates = self.decode(raw.decode("latin-1"))
            self.counts["ignored" if updates is None else "used"] += 1
            return updates or ()
        self.counts[reason] += 1
        self.refused = f"{reason}: {raw!r}"
        return ()

    # -- what there is for decoding ------------------------------------------------------------------------------------

    def numbers(self, line: str, fields: Iterable[Field], kind: str, time: str) -> Iterator[Update]:
        """The fields of a line, or their failure if the `time` of lines of this `kind` stands still."""
        now = self._clock()
        last, since = self._times.get(kind, ("", now))
        if time != last or "-" in time:  # before it has heard of a GPS, a SkyView has no time
            since = now
        self._times[kind] = (time, since)
        if now - since > STUCK:
            # What lines of other kinds have said is no better: they come from the same display.
            others = sorted(self._told_of) if kind not in self._stuck else []
            self._stuck.add(kind)
            for key in dict.fromkeys([*others, *(field.key for field in fields)]):
                yield Update(key, None, FAIL, STANDS_STILL)
            return
        self._stuck.discard(kind)
        for field in fields:
            yield self.number(field, field.text(line))

    def number(self, field: Field, text: str) -> Update:
        if _NUMBER.fullmatch(text):
            value = round(int(text) * field.factor + field.offset, 3) + 0.0  # never -0.0
            if field.low <= value <= field.high:
                return Update(field.key, value)
        elif set(text) & {"X", "Z"}:
            return Update(field.key, None, FAIL, UNKNOWN)
        self.counts["absurd values"] += 1
        return Update(field.key, None, FAIL, f"the display sends {text!r}: impossible")
