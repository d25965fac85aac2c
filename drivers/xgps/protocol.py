"""What a simulator says in lines of text (XGPS, XATT, XTRAFFIC), as updates. See `drivers/efb_text.py`.

The lines have no checksum, so that only their ranges tell what cannot be true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from fixgw.drivers.efb_text import MAX_LINE_BYTES, Attitude, Gps, Traffic, parse
from fixgw.kit.lines import Lines
from fixgw.kit.place import is_possible
from fixgw.kit.update import FAIL, NEVER, Update, begin_counting

POSITION = ("LAT", "LONG", "TALT", "TRACK", "GS", "GPS_FIX_TYPE")
ATTITUDE = ("ROLL", "PITCH", "HEAD")
KEYS = frozenset((*POSITION, *ATTITUDE))

MAX_HEIGHT_FT = 100_000.0
MIN_HEIGHT_FT = -2_000.0
MAX_SPEED_KT = 2_000.0
#: Without a line XGPS for this long there is no position. Simulators send one every second.
POSITION_PATIENCE_S = 3.0

NO_POSITION = "no position has come for three seconds"
IMPOSSIBLE = "the simulator sends what is impossible"


class Decoder:
    """Decodes the lines of one simulator. Holds at most one unfinished line. `clock` returns monotonic seconds.

    `variation` is the magnetic variation in degrees, east positive; without it, HEAD is not known. Each line about
    another aircraft goes to `traffic`.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("malformed", "too long")
    trouble = ""

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        variation: float | None = None,
        traffic: Callable[[Traffic], object] = lambda said: None,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values", "traffic")
        self.refused = ""
        self._clock = clock
        self._variation = variation
        self._traffic = traffic
        self._placed_at = NEVER
        self._lines = Lines(MAX_LINE_BYTES)

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the lines that `data` completes, in order."""
        return [update for line in self._lines.feed(data) for update in self._line(line)]

    def interrupt(self) -> None:
        """Forget an unfinished line: bytes have been lost."""
        self._lines.restart()

    def tick(self) -> list[Update]:
        """What is due because positions have stopped."""
        if self._placed_at == NEVER or self._clock() - self._placed_at <= POSITION_PATIENCE_S:
            return []
        self._placed_at = NEVER
        return [Update(key, None, FAIL, NO_POSITION) for key in POSITION]

    def _line(self, line: bytes) -> Iterator[Update]:
        if not line.strip(b"\r\0 "):
            return
        self.counts["received"] += 1
        said = parse(line) if len(line) <= MAX_LINE_BYTES else "too long"
        if isinstance(said, str):
            if said == "unknown":
                self.counts["ignored"] += 1
                return
            self.counts[said] += 1
            self.refused = f"{said}: {line[:80]!r}"
            return
        self.counts["used"] += 1
        if isinstance(said, Gps):
            yield from self._position(said)
        elif isinstance(said, Attitude):
            yield from self._attitude(said)
        else:
            self.counts["traffic"] += 1
            if is_possible(said.lat, said.lon):
                self._traffic(said)

    def _position(self, said: Gps) -> Iterator[Update]:
        if not (
            is_possible(said.lat, said.lon)
            and MIN_HEIGHT_FT <= said.altitude_ft <= MAX_HEIGHT_FT
            and -360.0 <= said.track_deg <= 360.0
            and 0.0 <= said.ground_speed_kt <= MAX_SPEED_KT
        ):
            self.counts["absurd values"] += 1
            yield from (Update(key, None, FAIL, IMPOSSIBLE) for key in POSITION)
            return
        self._placed_at = self._clock()
        numbers = (said.lat, said.lon, said.altitude_ft, said.track_deg % 360.0, said.ground_speed_kt)
        yield from map(Update, POSITION, numbers)
        yield Update("GPS_FIX_TYPE", 3)

    def _attitude(self, said: Attitude) -> Iterator[Update]:
        if abs(said.roll_deg) > 180.0 or abs(said.pitch_deg) > 90.0 or abs(said.heading_deg) > 360.0:
            self.counts["absurd values"] += 1
            yield from (Update(key, None, FAIL, IMPOSSIBLE) for key in ATTITUDE)
            return
        yield Update("ROLL", said.roll_deg)
        yield Update("PITCH", said.pitch_deg)
        if self._variation is not None:
            yield Update("HEAD", (said.heading_deg - self._variation) % 360.0)
