"""What one client of the stream has not seen yet: `Outbox`. No sockets here."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, NEVER, OLD, SECFAIL, Database, Reading

MOST_SOURCES = 500  # in a client's list; then it begins anew
MOST_PATTERNS = 1000

#: The bits of the stream, for each combination of flags: 1 annunciate, 2 old, 4 bad, 8 fail, 16 secfail.
_ORDER = (ANNUNCIATE, OLD, BAD, FAIL, SECFAIL)
BITS = tuple(sum(1 << n for n, flag in enumerate(_ORDER) if flags & flag) for flags in range(32))

Entry = tuple[Any, int, int, float | None]


class Outbox:
    """The readings that a client has not got yet. Use it from one thread only.

    A look at all readings compares them with those that were sent, so a client that takes them rarely gets only the
    newest ones, writers pay nothing for any client, and the memory is that of one reading for each key.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._patterns: Sequence[str] = ()
        self._length = -1
        self._keys: list[tuple[int, str]] = []  # with the position among all readings
        self._sent: list[Reading | None] = []
        self._sources: dict[str, int] = {}

    def subscribe(self, patterns: Sequence[str]) -> list[str]:
        """Follow the keys that match `patterns`, and send all of them again. Returns the patterns that match none."""
        self._patterns = patterns
        self._sent = []
        self._match()
        keys = self._database.keys()
        return [p for p in patterns if p not in self._database and not any(fnmatchcase(k, p) for k in keys)]

    def _match(self) -> None:
        keys = self._database.keys()
        self._length = len(keys)
        exact = frozenset(self._patterns)
        wild = [p for p in self._patterns if p not in self._database]
        self._keys = [(n, key) for n, key in enumerate(keys) if key in exact or any(fnmatchcase(key, p) for p in wild)]
        self._sent += [None] * (self._length - len(self._sent))

    def take(self) -> dict[str, Any]:
        """The parts of the next message: `v`, and `sources` if the client does not know all of them."""
        if len(self._database) != self._length:
            self._match()
        known = len(self._sources)
        if known > MOST_SOURCES:
            self._sources, known = {}, 0
            self._sent = [None] * self._length
        now = self._database.clock()
        readings = self._database.readings()
        sent, sources, item = self._sent, self._sources, self._database.item
        values: dict[str, Entry] = {}
        for n, key in self._keys:
            reading = readings[n]
            if reading is sent[n]:
                continue
            sent[n] = reading
            reading = item(key).aged(reading)
            index = sources.setdefault(reading.source, len(sources))
            if reading.stamp == NEVER:
                values[key] = (None, BITS[reading.flags], index, None)
            else:
                age = int((now - reading.stamp) * 1000) / 1000
                values[key] = (reading.value, BITS[reading.flags], index, age)
        parts: dict[str, Any] = {"v": values}
        if len(sources) != known:
            parts["sources"] = list(sources)
        return parts
