"""Shared by the serial outputs of Dynon's displays: lines of fixed-width text, and the `Decoder` for them.

A line consists of fields, a checksum and CR LF. The checksum is the sum of all characters before it modulo 256, as two
hexadecimal digits. A field is a number of fixed width, or filled with ``X`` when the display does not know it. Every
line begins with the display's time of day, to a fraction of a second: if the time stands still, the display hangs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta

from fixgw.kit.update import FAIL, Update, begin_counting

#: A display that repeats the same time of day for this long has hung.
STUCK_AFTER_S = 5.0

UNKNOWN = "the display does not know it"
CLOCK_STOPPED = "the display's clock has stopped"

#: The option that gives the angle of attack that the display calls 100 %.
StallAngle = Annotated[
    Annotated[float, Meta(gt=0.0, le=45.0)] | None,
    Meta(
        description="Angle of attack in degrees at which the wing stalls. The display sends a percentage of it, from "
        "which AOA is computed; without this option, AOA is not written"
    ),
]

_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


class Field(NamedTuple):
    """A number in a line: its first character (counted from 1, as Dynon does), the key's units per unit sent, and the
    possible range in the key's units; without `low` or `high`, its width is the limit."""

    key: str
    at: int
    width: int
    factor: float
    low: float = -math.inf
    high: float = math.inf
    offset: float = 0.0

    def text(self, line: str) -> str:
        return line[self.at - 1 : self.at - 1 + self.width]


def angle_of_attack(at: int, stall_angle: float | None) -> tuple[Field, ...]:
    """The field with the percentage of the stall angle; empty if the stall angle is unknown."""
    return () if stall_angle is None else (Field("AOA", at, 2, stall_angle / 100, 0),)


class Decoder:
    """Decodes the bytes of one display. Holds at most one unfinished line. `clock` returns monotonic seconds.

    Subclasses define what ends a line (`END`), how to find frames in one (`frames`), what to keep of one that is too
    long (`shorten`), and how to decode a frame with a correct checksum (`decode`).
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length")
    MAX_FRAME: ClassVar[int]
    END: ClassVar[re.Pattern[bytes]] = re.compile(rb"[\r\n]+")

    def __init__(self, clock: Callable[[], float], counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._clock = clock
        self._buffer = b""
        self._times: dict[str, tuple[str, float]] = {}  # by kind of frame: the last time of day, and since when
        self._stuck: set[str] = set()
        self._written: set[str] = set()  # the keys of all values so far

    @property
    def trouble(self) -> str:
        return CLOCK_STOPPED if self._stuck else ""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the lines that `data` completes, in order."""
        *lines, rest = self.END.split(self._buffer + data)
        self._buffer = self.shorten(rest)
        updates = [update for line in lines for raw in self.frames(line) for update in self._frame(raw)]
        self._written.update(update.key for update in updates if update.value is not None)
        return updates

    def frames(self, line: bytes) -> Iterable[bytes]:
        """Find the candidate frames in a line, given without its line ending."""
        raise NotImplementedError

    def shorten(self, line: bytes) -> bytes:
        """As much of an unfinished line as its frames need; those that are too long stay so."""
        raise NotImplementedError

    def length(self, raw: bytes) -> int:
        """The expected length of the frame, judged by its beginning."""
        raise NotImplementedError

    def decode(self, line: str) -> Iterator[Update] | None:
        """Decode a complete frame; None if it is of no interest."""
        raise NotImplementedError

    def _frame(self, raw: bytes) -> Iterable[Update]:
        self.counts["received"] += 1
        if len(raw) > self.MAX_FRAME or len(raw) != self.length(raw):
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

    # -- helpers for subclasses ----------------------------------------------------------------------------------------

    def numbers(self, line: str, fields: Iterable[Field], kind: str, time: str) -> Iterator[Update]:
        """Decode the fields of a line, or fail them if the `time` in lines of this `kind` has stopped."""
        now = self._clock()
        last, since = self._times.get(kind, ("", now))
        if time != last or "-" in time:  # a SkyView without a GPS has no time
            since = now
        self._times[kind] = (time, since)
        if now - since > STUCK_AFTER_S:
            # Fail the values from other kinds of lines too: they come from the same display.
            others = sorted(self._written) if kind not in self._stuck else []
            self._stuck.add(kind)
            for key in dict.fromkeys([*others, *(field.key for field in fields)]):
                yield Update(key, None, FAIL, CLOCK_STOPPED)
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
        return Update(field.key, None, FAIL, f"the display sends {text!r}, which is impossible")
