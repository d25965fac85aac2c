"""`Outward`: the rules for values that leave the gateway unmarked, to devices, tablets, autopilots and simulators.

Whoever receives such a value takes it for true, and cannot see flags or sources. So nothing old, bad or failed leaves,
nothing older than `max_age`, and nothing simulated, replayed or overridden unless the option says so.

An output's options have `max_age: MaxAge = 3.0` and `simulated: SendSimulated = False`. It makes one `Outward`, and
reads the database through nothing else:

    self.outward = Outward(
        self.db.read, lambda: self.db.clock(), lambda: self.source, options.max_age, options.simulated
    )
    ...
    if (fix := self.outward.fix()) is not None and (speed := self.outward.number("GS")) is not None:
        send(...)

None means "not known": send the protocol's marker for that, or nothing; never zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

from msgspec import Meta

from fixgw.errors import UnknownKey
from fixgw.kit.sources import may_leave
from fixgw.kit.update import NEVER, Value

if TYPE_CHECKING:
    from fixgw.database import Reading

MaxAge = Annotated[
    float,
    Meta(
        gt=0.0,
        le=60.0,
        description="Seconds after which a value is no longer sent, whatever the tolerance of its key",
    ),
]
SendSimulated = Annotated[
    bool,
    Meta(
        description="Send simulated, replayed and overridden values as if they were real: for benches, never in "
        "flight. An output whose own `source` is simulated sends them anyway"
    ),
]

#: Values of GPS_FIX_TYPE.
FIX_2D, FIX_3D = 2, 3


class Position(NamedTuple):
    """A position that may be sent, in degrees. `kind` is that of GPS_FIX_TYPE, 2 or more."""

    latitude: float
    longitude: float
    kind: int


class Outward:
    """Reads what may leave the gateway through one connection.

    `read` returns the reading of a key, and raises UnknownKey if there is no such item. `clock` returns monotonic
    seconds, as in the readings' stamps. `own` returns the connection's own source. `max_age` is in seconds.
    """

    def __init__(
        self,
        read: Callable[[str], Reading],
        clock: Callable[[], float],
        own: Callable[[], str] = str,
        max_age: float = 3.0,
        simulated: bool = False,
    ) -> None:
        self._read = read
        self._clock = clock
        self._own = own
        self._max_age = max_age
        self._simulated = simulated

    def allows(self, source: str) -> bool:
        """Whether values of `source` may leave."""
        return may_leave(source, self._own(), self._simulated)

    def reading(self, key: str, max_age: float | None = None) -> Reading | None:
        """The reading of `key`; None if it may not be sent, or if there is no such item.

        `max_age` replaces the output's. It is infinite for what is set once and holds until its key ages.
        """
        reading = self._find(key)
        if reading is None or not reading.good:
            return None
        if reading.age(self._clock()) > (self._max_age if max_age is None else max_age):
            return None
        return reading if self.allows(reading.source) else None

    def value(self, key: str, max_age: float | None = None) -> Value | None:
        """The value of `key`; None if it may not be sent."""
        reading = self.reading(key, max_age)
        return None if reading is None else reading.value

    def number(self, key: str, max_age: float | None = None) -> float | None:
        """The value of `key` as a finite number; None if it may not be sent or is none."""
        value = self.value(key, max_age)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def lasting(self, key: str) -> float | None:
        """A number that is set once and holds until its key ages, such as a waypoint."""
        return self.number(key, math.inf)

    def fix(self) -> Position | None:
        """The position; None unless it is good and the receiver, if it reports its fix type, has a fix."""
        latitude, longitude = self.number("LAT"), self.number("LONG")
        told = self._find("GPS_FIX_TYPE")
        kind = FIX_3D if told is None or told.stamp == NEVER else self.number("GPS_FIX_TYPE")
        if latitude is None or longitude is None or kind is None or kind < FIX_2D:
            return None
        return Position(latitude, longitude, int(kind))

    def _find(self, key: str) -> Reading | None:
        try:
            return self._read(key)
        except UnknownKey:
            return None
