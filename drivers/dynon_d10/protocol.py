"""Dynon's EFIS-D6, D10, D10A, D60 and D100 without I/O: bytes in, updates out (`Decoder`).

A line has 51 characters, and nothing marks its beginning. Source: "EFIS Serial Data Output" in Dynon's EFIS-D10A and
EFIS-D100 Pilot's User Guides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fixgw.drivers import dynon
from fixgw.drivers.dynon import Field
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS
from fixgw.kit.update import Update

LENGTH = 51
HEIGHTS_FT = -3000, 33_000

ALWAYS = (
    Field("PITCH", 9, 4, 0.1, -90, 90),
    Field("ROLL", 13, 5, 0.1, -180, 180),
    Field("HEAD", 18, 3, 1, 0, 360),
    Field("IAS", 21, 4, 0.1 * KNOTS_PER_MPS, 0, 1000),
    Field("ALAT", 34, 3, -0.01, low=-0.99),  # positive is leftward on the line
    Field("ANORM", 37, 3, 0.1, high=9.9),
)
#: Fields when the lowest bit of the status is 0, and when it is 1.
ALTERNATING = (
    (Field("ALT", 25, 5, FEET_PER_METRE, *HEIGHTS_FT), Field("ROT", 30, 4, 0.1, high=99.9)),
    # VS in tenths of a foot per second
    (Field("PALT", 25, 5, FEET_PER_METRE, *HEIGHTS_FT), Field("VS", 30, 4, 6, high=6 * 999)),
)

KEYS = frozenset({"AOA", *(field.key for fields in (ALWAYS, *ALTERNATING) for field in fields)})


class Decoder(dynon.Decoder):
    """Decodes the display's lines. `stall_angle` is in degrees; if None, AOA is left out."""

    MAX_FRAME = LENGTH

    def __init__(
        self, clock: Callable[[], float], counts: dict[str, int] | None = None, stall_angle: float | None = None
    ) -> None:
        super().__init__(clock, counts)
        self._always = ALWAYS + dynon.angle_of_attack(40, stall_angle)

    def frames(self, line: bytes) -> Iterable[bytes]:
        """A frame ends with its line; anything before it is a frame that has lost its end."""
        return [part for part in (line[:-LENGTH], line[-LENGTH:]) if part]

    def shorten(self, line: bytes) -> bytes:
        return line[-2 * LENGTH - 1 :]

    def length(self, raw: bytes) -> int:
        return LENGTH

    def decode(self, line: str) -> Iterator[Update] | None:
        try:
            status = int(line[41:47], 16)
        except ValueError:
            return None
        return self.numbers(line, self._always + ALTERNATING[status & 1], "", line[:8])
