"""What clients of the stream have not seen yet. No sockets here; one thread.

A look at all readings, which all clients share that look at the same time, is compared with the look that a client was
sent before. So a client that looks rarely gets only the newest readings; writers pay nothing for any client; clients
that follow the same keys at the same rate cost hardly more than one; and what is kept is bounded by the number of keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fixgw.database import ANNUNCIATE, BAD, FAIL, NEVER, OLD, SECFAIL, Database, Item, Reading

MOST_SOURCES = 500  # in the list that clients get; then it begins anew
MOST_PATTERNS = 1000  # of one client
MOST_WILD = 100  # among them, with *, ? or [: each is compared with every key, while all clients wait
SHARED_S = 0.003  # looks within this time are one

#: The bits of the stream, for each combination of flags: 1 annunciate, 2 old, 4 bad, 8 fail, 16 secfail.
_ORDER = (ANNUNCIATE, OLD, BAD, FAIL, SECFAIL)
BITS = tuple(sum(1 << n for n, flag in enumerate(_ORDER) if flags & flag) for flags in range(32))

_encode = msgspec.json.Encoder().encode


Pattern = Annotated[str, Meta(max_length=100)]


class Wanted(msgspec.Struct, frozen=True):
    """A message from a client: see `fixgw.plugins.web.api`."""

    keys: Literal["*"] | Annotated[list[Pattern], Meta(max_length=MOST_PATTERNS)] | UnsetType = UNSET
    rate: float | UnsetType = UNSET
    status: bool | UnsetType = UNSET
    log: bool | Annotated[int, Meta(ge=0)] | UnsetType = UNSET

    @property
    def patterns(self) -> list[str]:
        """Those of `keys`. Raises ValueError for too many."""
        patterns = self.keys if isinstance(self.keys, list) else ["*"]
        if sum(map(_is_wild, patterns)) > MOST_WILD:
            raise ValueError(f"at most {MOST_WILD} keys with *, ? or [")
        return patterns


_decode = msgspec.json.Decoder(Wanted).decode


def wanted(message: str | bytes) -> Wanted:
    """What a client says. Raises ValueError for anything else."""
    try:
        return _decode(message)
    except RecursionError as error:
        raise ValueError(error) from None


def _is_wild(pattern: str) -> bool:
    return any(c in pattern for c in "*?[")


class Look(NamedTuple):
    """All readings at a time, in the order of the database."""

    number: int
    at: float
    readings: Sequence[Reading]


class Selection:
    """The keys that match some patterns, with their positions in a `Look`."""

    def __init__(self, patterns: tuple[str, ...], database: Database) -> None:
        self.patterns = patterns
        items = database.items()
        self.length = len(items)
        exact = frozenset(patterns)
        wild = [p for p in patterns if _is_wild(p)]
        self.items: list[tuple[int, str, Item]] = [
            (n, item.key, item)
            for n, item in enumerate(items)
            if item.key in exact or any(fnmatchcase(item.key, p) for p in wild)
        ]
        keys = database.keys() if wild else []
        self.unknown = [
            p for p in patterns if p not in database and not (_is_wild(p) and any(fnmatchcase(key, p) for key in keys))
        ]


class Feed:
    """What the clients of one database share."""

    def __init__(self, database: Database) -> None:
        self.database = database
        #: The sources that clients know, by their index. `renewals` counts how often the list began anew.
        self.sources: dict[str, int] = {}
        self.renewals = 0
        self._selections: WeakValueDictionary[tuple[str, ...], Selection] = WeakValueDictionary()
        self._look = Look(0, NEVER, ())
        self._encoded: dict[tuple[int, int], bytes] = {}  # of the present look

    def look(self) -> Look:
        now = self.database.clock()
        if not 0 <= now - self._look.at < SHARED_S:
            self._look = Look(self._look.number + 1, now, self.database.readings())
            self._encoded.clear()
            if len(self.sources) > MOST_SOURCES:
                self.sources = {}
                self.renewals += 1
        return self._look

    def select(self, patterns: tuple[str, ...]) -> Selection:
        """The keys that match `patterns` now."""
        found = self._selections.get(patterns)
        if found is None or found.length != len(self.database):
            found = self._selections[patterns] = Selection(patterns, self.database)
        return found

    def changes(self, selection: Selection, since: Look | None, look: Look) -> bytes:
        """The readings of the `selection` that are not those of the look `since`, as JSON."""
        which = id(selection), -1 if since is None else since.number
        found = self._encoded.get(which)
        if found is None:
            found = self._encoded[which] = _encode(self._entries(selection, since, look))
        return found

    def _entries(self, selection: Selection, since: Look | None, look: Look) -> dict[str, tuple[Any, ...]]:
        sources, now, readings = self.sources, look.at, look.readings
        before: Sequence[Reading] = () if since is None else since.readings
        known = len(before)
        entries: dict[str, tuple[Any, ...]] = {}
        for n, key, item in selection.items:
            if n >= len(readings):
                break  # it has been defined since
            reading = readings[n]
            if n < known and reading is before[n]:
                continue
            if item.tolerance:
                reading = item.aged(reading)
            index = sources.setdefault(reading.source, len(sources))
            if reading.stamp == NEVER:
                entries[key] = (None, BITS[reading.flags], index, None)
            else:
                age = int((now - reading.stamp) * 1000) / 1000 if reading.stamp < now else 0.0
                entries[key] = (reading.value, BITS[reading.flags], index, age)
        return entries


class Outbox:
    """What one client has not got yet."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._selection = feed.select(())
        self._seen: Look | None = None
        self._known = self._renewals = 0  # sources

    def subscribe(self, patterns: Sequence[str]) -> list[str]:
        """Follow the keys that match `patterns`, and send all of them again. Returns the patterns that match none."""
        self._selection = self._feed.select(tuple(patterns))
        self._seen = None
        return self._selection.unknown

    def take(self) -> dict[str, Any]:
        """The parts of the next message: `v`, and `sources` if the client does not know all of them."""
        feed = self._feed
        look = feed.look()
        if feed.renewals != self._renewals:
            self._renewals, self._known, self._seen = feed.renewals, 0, None
        if self._selection.length != len(look.readings):
            self._selection = feed.select(self._selection.patterns)
        parts: dict[str, Any] = {"v": msgspec.Raw(feed.changes(self._selection, self._seen, look))}
        self._seen = look
        if len(feed.sources) > self._known:
            parts["sources"] = list(feed.sources)
            self._known = len(feed.sources)
        return parts
