"""Versions show which of two gateways set a setting last: a count, and the name of the gateway that set it.

Each setting and each change of an aux value, except by another gateway, gets a version: a count greater than every
count that this gateway has seen, and its `identity`. The version travels with the value. Every gateway keeps the
greater of two versions, by count and then by name, in whatever order they arrive. So gateways that set at the same
instant finally agree, even in a ring, and a setting made while a link was down wins over earlier ones. No wall clock
is involved. A start value has no version, and gives way to any.

Who writes the same value again sets nothing, and neither does a device that reports its own setting (`Item.report`).
The former keeps its version. The latter, and the repetition of a value that ages, counts on from the version that it
follows, below the next multiple of `STRIDE`, which is the count of the next setting: so it loses to what somebody has
set elsewhere in the meantime.

The greatest count survives a restart, so that settings made afterwards are newer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fixgw.database import ANNUNCIATE, BAD, FAIL, NEVER, Database, Item, Reading, Value
from fixgw.kit.sources import START, mark_of, unmarked
from fixgw.netfix import sentence
from fixgw.netfix.sentence import NO_VERSION, Version
from fixgw.plugins.netfix.peer import Topic
from fixgw.state import Keeper

SAID = ANNUNCIATE | BAD | FAIL  # the flags that belong to a value
STRIDE = 1 << 20  # from one setting's count to the next; those between are of devices' reports
MARGIN = 1000 * STRIDE  # counts that may have been used and not saved before a kill
REASON = "flagged by another gateway"
MOST_LOOKS = 100  # at a value that is being written all the time: the next change is sent, too
HIGHEST = 1 << 53  # more than a lifetime of counting; a greater count is an error


class _Setting(NamedTuple):
    """What was set."""

    version: Version
    value: Value | None
    flags: int


class _Write(NamedTuple):
    """One write of a value. For an aux value, without its time."""

    value: Value | None
    flags: int
    stamp: float
    source: str

    @property
    def words(self) -> tuple[Value | None, int]:
        return self.value, self.flags

    def like(self, other: _Write) -> bool:
        """Whether it says the same: a simulated value does not say what a real one does."""
        return self.words == other.words and mark_of(self.source) == mark_of(other.source)


class _Known(NamedTuple):
    """What was set last and what was said last when we last looked, and the version of the latter."""

    last_set: _Write
    said: _Write
    version: Version


class Versions:
    """The versions of the settings and aux values of one database, whose gateway is `identity`. Any thread."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._count = 0
        self._known: dict[Topic, _Known] = {}
        self._latest: dict[Topic, _Setting] = {}  # the newest that was set here or taken
        # Versions being written now, by topic and source: two links may deliver one version at the same instant.
        self._expected: dict[tuple[Topic, str], Version] = {}
        self._keeper: Keeper | None = None
        #: Called with key and aux name when an item gets another version without being written.
        self.listeners: set[Callable[[str, str], object]] = set()

    def restore(self, path: Path, log: logging.Logger) -> None:
        """Continue counting from the file `path`, and save the count there."""
        with self._lock:
            if self._keeper is None:
                self._keeper = Keeper(path, log)
                text = (self._keeper.load() or b"").strip()
                if text.isdigit() and int(text) < HIGHEST - MARGIN:
                    self._count = max(self._count, int(text) + MARGIN)

    def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()

    @staticmethod
    def has(item: Item, name: str) -> bool:
        """Whether the item, or its aux value `name`, has versions: it is set, not measured."""
        return bool(name) or item.definition.setting

    def of(self, item: Item, name: str = "") -> Version:
        """The version of the current value of the item, or of its aux value."""
        with self._lock:
            return self._version(item, name)

    def line(self, item: Item, name: str = "") -> str:
        """The sentence for another gateway with the current value of the item, or of its aux value; empty if not sent.

        It carries the flags that belong to the value, without those of this gateway's alert logic.
        """
        with self._lock:
            for _ in range(MOST_LOOKS):  # the version must be that of the value, which may be written while we look
                said, value = item.said, item.aux[name] if name else None
                version = self._version(item, name)
                after = item.said
                same = (said.stamp, *_words(said)) == (after.stamp, *_words(after))
                if same and (not name or item.aux[name] is value):
                    break
            if name:
                line = sentence.aux_update(item.key, name, value)
                return sentence.versioned(line, version) if version != NO_VERSION else ""
        line = sentence.for_gateway(sentence.update(item.key, said), said.source)
        return line if said.old or version == NO_VERSION else sentence.versioned(line, version)

    def take(self, item: Item, name: str, text: str, flags: int, source: str, version: Version) -> bool:
        """Write a value from another gateway, if it is newer than ours.

        Returns whether ours is newer: then the other gateway must get it. Raises `BadValue`.
        """
        topic = item.key, name
        value = None if name and text == "None" else item.convert(text)
        with self._lock:
            known = self._version(item, name)
            if version[0] >= HIGHEST:
                return False
            self._see(version[0])
            newest = max(known, self._latest[topic].version) if topic in self._latest else known
            if version <= newest:
                return version < newest
            ours = _look(item, name)[0]
            same_words = ours.like(_Write(value, 0 if name else flags & SAID, 0.0, ours.source if name else source))
            # If another bus joins the same gateways, writing the same value again would only make it circulate; but it
            # keeps a value fresh that its gateway repeats.
            refreshes = not name and item.tolerance > 0 and version[1] == known[1]
            written = known == NO_VERSION or not same_words or refreshes
            if written:
                self._latest[topic] = _Setting(version, value, flags)
                self._expected[topic, unmarked(source)] = version
            else:  # both gateways have the same value
                said, last_set = _look(item, name)
                self._known[topic] = _Known(last_set, said, version)
        if not written:
            for passed_on in tuple(self.listeners):  # it is not written, but others must learn the version
                passed_on(*topic)
            return False
        self._write(item, name, _Setting(version, value, flags), source)
        return False

    def _write(self, item: Item, name: str, setting: _Setting, source: str) -> None:
        """Write what was taken from `source`.

        Another thread may have taken a newer one since, or the item may have been set. That is then written again, for
        it may have been written before this.
        """
        topic, next = (item.key, name), setting
        while True:
            version, value, flags = next
            try:
                if name:
                    item.write_aux(name, value, source)
                else:
                    item.write(value, source, flags, REASON)
                with self._lock:
                    latest = self._latest.get(topic, next)
                    if latest.version > version:
                        next = latest
                        self._expected[topic, unmarked(source)] = latest.version
                    elif source == (last_set := _look(item, name)[1]).source:
                        self._known[topic] = _Known(last_set, last_set, version)  # it has not been set again meanwhile
            finally:
                with self._lock:
                    if next.version == version:
                        self._expected.pop((topic, unmarked(source)), None)
            if next.version == version:
                return

    def _version(self, item: Item, name: str) -> Version:
        """The version of the current value; a new one if it is not from a gateway. The caller holds the lock."""
        topic = item.key, name
        known = self._known.get(topic)
        said, last_set = _look(item, name)
        if last_set.source in START or (last_set.value is None and known is None) or last_set.stamp == NEVER:
            if said == last_set:  # nobody has set it since the start
                self._known.pop(topic, None)
                self._latest.pop(topic, None)
                return NO_VERSION
            if known is None or known.last_set != last_set:
                known = _Known(last_set, last_set, NO_VERSION)
        elif known is None or known.last_set != last_set:
            version = self._expected.get((topic, unmarked(last_set.source)), NO_VERSION)
            if version == NO_VERSION:
                if known is not None and known.version != NO_VERSION and known.said.like(last_set):
                    version = self._again(item, name, known.version)
                else:
                    version = (self._count // STRIDE + 1) * STRIDE, self._identity
                self._latest[topic] = _Setting(version, *last_set.words)
            known = _Known(last_set, last_set, version)
        if known.said != said:
            version = known.version
            if version == NO_VERSION or not known.said.like(said):
                version = version[0] + 1, self._identity
            else:
                version = self._again(item, name, version)
            self._latest[topic] = _Setting(version, *said.words)
            known = _Known(last_set, said, version)
        self._known[topic] = known
        self._see(known.version[0])
        return known.version

    def _again(self, item: Item, name: str, version: Version) -> Version:
        """The version of a value that has been written again: the same, unless the copies of other gateways age."""
        return (version[0] + 1, self._identity) if item.tolerance and not name else version

    def _see(self, count: int) -> None:
        if count > self._count:
            saves = count // STRIDE > self._count // STRIDE
            self._count = count
            if saves and self._keeper is not None:
                self._keeper.keep(lambda: str(self._count).encode())


def _look(item: Item, name: str) -> tuple[_Write, _Write]:
    """What is said, and what was set last."""
    if name:
        write = _Write(item.aux[name], 0, 0.0, item.aux_sources.get(name, ""))
        return write, write
    said, last_set = (_Write(*_words(r), r.stamp, r.source) for r in item.said_and_set())
    return said, last_set


def _words(reading: Reading) -> tuple[Value, int]:
    return reading.value, reading.flags & SAID


_versions: WeakKeyDictionary[Database, Versions] = WeakKeyDictionary()


def versions_of(database: Database, identity: str) -> Versions:
    """The `Versions` of a database; there is only one."""
    return _versions.setdefault(database, Versions(identity))
