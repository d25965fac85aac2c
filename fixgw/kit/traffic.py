"""The other aircraft around: one bounded `Table` in each gateway. Receivers fill it, outputs to tablets and the status
read it. The database has no keys for traffic.

    targets = traffic.table(self.db)
    targets.put(Target(address=0x40621D, lat=52.2, lon=3.9, source=self.source))      # all that is known of it
    targets.merge(Target(address=0x40621D, callsign="KLM1023", source=self.source))   # None: not said now, keep it
    ...
    for target in targets.heard_within(15.0): ...

Any thread may use a table. It has no lock: if two receivers report the same aircraft at the same instant, one of the
reports may be lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, ref

from fixgw.errors import UnknownKey
from fixgw.kit.navigation import difference
from fixgw.kit.sources import simulated

if TYPE_CHECKING:
    from fixgw.database import Database

MAX_TARGETS: Final = 64
FORGET_S: Final = 60.0
#: A position, altitude or movement of which nothing has been heard for this long is no longer given.
FRESH_S: Final = 15.0
#: As long as one source reports a target, reports of others are ignored; until it has been silent for this long, or has
#: not known the position although another source does.
HANDOVER_S: Final = 5.0

#: Address types of GDL 90. Both ICAO addresses are those of the same aircraft.
ICAO, SELF_ASSIGNED, TISB_ICAO, TISB_TRACK = 0, 1, 2, 3

NEVER = float("-inf")


class Target(NamedTuple):
    """What is known of another aircraft; None is not known. `altitude_ft` is pressure altitude.

    `stamp` is when the target was last heard, `placed_at` when its position was, `levelled_at` when its altitude was,
    and `moved_at` when its speeds and track were, in seconds of the table's clock.
    `report` is the GDL 90 message that says all this, to be forwarded unchanged; empty if none came.
    """

    address: int
    address_type: int = ICAO
    callsign: str | None = None
    lat: float | None = None
    lon: float | None = None
    altitude_ft: float | None = None
    ground_speed_kt: float | None = None
    track_deg: float | None = None
    vertical_speed_fpm: float | None = None
    on_ground: bool | None = None
    squawk: str | None = None
    emergency: bool | None = None
    emitter: int | None = None
    source: str = ""
    report: bytes = b""
    stamp: float = NEVER
    placed_at: float = NEVER
    levelled_at: float = NEVER
    moved_at: float = NEVER

    @property
    def id(self) -> tuple[int, int]:
        """What tells targets apart."""
        return ICAO if self.address_type == TISB_ICAO else self.address_type, self.address


class Table:
    """The targets of one gateway. `clock` returns monotonic seconds; `here` the own position, if it is known."""

    def __init__(
        self, clock: Callable[[], float], here: Callable[[], tuple[float, float] | None] = lambda: None
    ) -> None:
        self._clock = clock
        self._here = here
        self._targets: dict[tuple[int, int], Target] = {}
        self._own: dict[str, int] = {}
        #: Reports that were ignored because another source reports the target, and those that found no place.
        self.duplicates = self.crowded_out = 0

    def put(self, target: Target, age_s: float = 0.0, position_age_s: float = 0.0) -> bool:
        """Note all that is known of a target now. Returns False if it was ignored.

        `age_s` is how long ago the receiver heard of it, and `position_age_s` of its position.
        """
        now = self._clock()
        known = self._targets.get(target.id)
        if known is not None and not self._takes_over(target, known, now):
            self.duplicates += 1
            return False
        placed_at = NEVER if target.lat is None or target.lon is None else now - position_age_s
        stamp = now - age_s
        return self._store(target._replace(stamp=stamp, placed_at=placed_at, levelled_at=stamp, moved_at=stamp), now)

    def merge(self, said: Target) -> bool:
        """Note what a source says about a target in addition to what it has said. Returns False if it was ignored."""
        now = self._clock()
        known = self._targets.get(said.id)
        if known is None or now - known.stamp > FORGET_S or known.source != said.source:
            return self.put(said)
        news: dict[str, Any] = {
            name: value for name, value in zip(said._fields, said, strict=True) if value is not None
        }
        placed = said.lat is not None and said.lon is not None
        moved = not {"ground_speed_kt", "track_deg", "vertical_speed_fpm"}.isdisjoint(news)
        news |= {"stamp": now, "report": b""}
        news |= {"placed_at": now if placed else known.placed_at, "moved_at": now if moved else known.moved_at}
        news["levelled_at"] = known.levelled_at if said.altitude_ft is None else now
        return self._store(known._replace(**news), now)

    def heard_within(self, seconds: float = FORGET_S) -> list[Target]:
        """The targets that were heard in the last `seconds`, the newest first. A position, altitude or movement
        that is older than `FRESH_S` is left out of them."""
        now = self._clock()
        found = []
        for key, target in list(self._targets.items()):
            if now - target.stamp > FORGET_S:
                self._targets.pop(key, None)
            elif now - target.stamp <= seconds:
                if now - target.placed_at > FRESH_S:
                    target = target._replace(lat=None, lon=None, report=b"")
                if now - target.levelled_at > FRESH_S:
                    target = target._replace(altitude_ft=None, report=b"")
                if now - target.moved_at > FRESH_S:
                    target = target._replace(ground_speed_kt=None, track_deg=None, vertical_speed_fpm=None, report=b"")
                found.append(target)
        found.sort(key=lambda target: -target.stamp)
        return found

    def own(self, source: str, address: int | None) -> None:
        """Note the address that `source` gives for this aircraft: a receiver also hears our own transponder."""
        if address is None:
            self._own.pop(source, None)
        else:
            self._own[source] = address

    def is_own(self, target: Target) -> bool:
        """Whether the target is this aircraft."""
        return target.address in list(self._own.values())  # another thread may change it

    def status(self, source: str) -> dict[str, dict[str, Any]]:
        """The targets that `source` reports, for people and programs: by address, with plain values."""
        now = self._clock()
        return {
            f"{target.address:06X}": {
                "call sign": target.callsign or "",
                "latitude": None if target.lat is None else round(target.lat, 5),
                "longitude": None if target.lon is None else round(target.lon, 5),
                "pressure altitude ft": target.altitude_ft,
                "ground speed kt": target.ground_speed_kt,
                "track": target.track_deg,
                "vertical speed ft/min": target.vertical_speed_fpm,
                "on ground": target.on_ground,
                "seconds ago": round(now - target.stamp, 1),
            }
            for target in self.heard_within()
            if target.source == source and not self.is_own(target)
        }

    def _takes_over(self, target: Target, known: Target, now: float) -> bool:
        if target.source == known.source or now - known.stamp > HANDOVER_S:
            return True
        if simulated(known.source) != simulated(target.source):
            return simulated(known.source)
        return target.lat is not None and now - known.placed_at > HANDOVER_S

    def _store(self, target: Target, now: float) -> bool:
        targets = self._targets
        if target.id not in targets and len(targets) >= MAX_TARGETS:
            here = self._here()
            last = max([*targets.values(), target], key=lambda other: self._remoteness(other, here, now))
            self.crowded_out += 1
            if last is target:
                return False
            targets.pop(last.id, None)
        targets[target.id] = target
        return True

    @staticmethod
    def _remoteness(target: Target, here: tuple[float, float] | None, now: float) -> tuple[bool, float, float]:
        """Large for a target that others may replace: long silent, without a position, or far away."""
        age = now - target.stamp
        if here is None or target.lat is None or target.lon is None:
            return age > FORGET_S, math.inf, age
        east = difference(target.lon, here[1]) * math.cos(math.radians(here[0]))
        return age > FORGET_S, math.hypot(target.lat - here[0], east), age


_tables: WeakKeyDictionary[object, Table] = WeakKeyDictionary()


def table(database: Database) -> Table:
    """The table of the gateway that owns `database`."""
    try:
        return _tables[database]
    except KeyError:
        pass
    its = ref(database)

    def clock() -> float:
        db = its()
        return math.inf if db is None else db.clock()

    def here() -> tuple[float, float] | None:
        db = its()
        try:
            lat, lon = (db.read("LAT"), db.read("LONG")) if db is not None else (None, None)
        except UnknownKey:
            return None
        return (float(lat.value), float(lon.value)) if lat and lon and lat.good and lon.good else None

    return _tables.setdefault(database, Table(clock, here))
