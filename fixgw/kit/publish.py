"""`Publisher`: writes a protocol's updates to the database on behalf of its plugin. `DerivingPublisher` adds those that
depend on other items, too.

A protocol names the keys that it knows. For every driver alike, the publisher decides which items they go to, and fails
them when the device is lost so that its last values do not stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fixgw.errors import BadValue, UnknownKey, did_you_mean
from fixgw.kit.airdata import indicated_altitude
from fixgw.kit.sources import START, derived_source, unmarked
from fixgw.kit.update import BAD, FAIL, Update, Value

if TYPE_CHECKING:
    from fixgw.database import Item
    from fixgw.plugin import PluginBase

SPOILT = BAD | FAIL


class Publisher:
    """Writes updates under the plugin's source. Used only by the plugin's own thread.

    `keys` maps the protocol's names to items: ``{"TACH1": "TACH2", "OAT": None}`` sends the first to another item and
    leaves the second out. A value that an item cannot take is counted as one of the ``misfits`` in `counts` and passed
    to `complain`.

    `changes_within` gives seconds for items that always fluctuate: an item that stays exactly the same for longer
    fails, because the instrument hangs although it still sends. The time of an outage does not count.
    """

    def __init__(
        self,
        plugin: PluginBase,
        counts: dict[str, int],
        complain: Callable[..., object],
        keys: Mapping[str, str | None] | None = None,
        changes_within: Mapping[str, float] | None = None,
    ) -> None:
        self._plugin = plugin
        self._counts = counts
        self._complain = complain
        self._keys = keys or {}
        self._items: dict[str, Item | None] = {}
        self._changes_within = changes_within or {}
        self._changed: dict[str, tuple[Value, float]] = {}  # by item: its last value, and since when
        self._stand_still: dict[str, float] = {}
        #: The keys written so far, by the protocol's names, in this order.
        self.written: dict[str, None] = {}

    def publish(self, updates: Iterable[Update], source: str = "") -> None:
        """Write `updates` in order, as one batch. Never raises, whatever they contain.

        `source` is the source to write with, if it is not the plugin's own (see `fixgw.kit.sources.derived_source`).
        """
        with self._plugin.db.batch:
            self._write(updates, source or self._plugin.source)

    def _write(self, updates: Iterable[Update], source: str) -> None:
        items, written, changes_within = self._items, self.written, self._changes_within
        for key, value, flags, reason in updates:
            try:
                item = items[key]
            except KeyError:
                item = items[key] = self._find(key)
            if item is None:
                continue
            if value is None:
                # Do not flag another source's value; a ranked item keeps each source's reading apart.
                theirs = item.said.source
                if unmarked(theirs) in (unmarked(source), "") or theirs in START or item.rank(source) is not None:
                    item.flag(flags, SPOILT, source, reason)
                continue
            written[key] = None
            if changes_within and item.key in changes_within and (still := self._standing_still(item, value)):
                flags, reason = flags | FAIL, still
            if flags & SPOILT and self._would_spoil(item, source):
                continue
            try:
                # An instrument repeats its settings: it may not have heard yet of what somebody has set since.
                write = item.report if item.definition.setting else item.write
                write(value, source, flags, reason, SPOILT)
            except BadValue as error:  # the item is defined with another type
                self._counts["misfits"] = self._counts.get("misfits", 0) + 1
                self._complain("%s", error)

    def fail(self, reason: str) -> None:
        """Fail every key written so far: the device is gone."""
        self._changed.clear()
        self._stand_still.clear()
        self.publish([Update(key, None, FAIL, reason) for key in self.written])

    @property
    def trouble(self) -> str:
        """The values that should change but do not; empty if there are none. Any thread."""
        still = list(self._stand_still)
        return f"{', '.join(still)}: does not change: does the instrument hang?" if still else ""

    def _standing_still(self, item: Item, value: Value) -> str:
        """Say why `value` is not trusted, if it has been the same for too long."""
        now = self._plugin.db.clock()
        last, since = self._changed.get(item.key, (None, now))
        if value != last:
            since = now
        self._changed[item.key] = value, since
        within = self._changes_within[item.key]
        if now - since <= within:
            self._stand_still.pop(item.key, None)
            return ""
        self._stand_still[item.key] = since
        return f"the value has not changed for more than {within:g} s"

    def _would_spoil(self, item: Item, source: str) -> bool:
        """Whether a value that we know to be wrong would replace a good one of another unranked source."""
        reading = item.said
        if item.ranked or not reading.good or reading.source in START:
            return False
        return unmarked(reading.source) not in (unmarked(source), "")

    def _find(self, key: str) -> Item | None:
        name = self._keys.get(key, key)
        if name is None:
            return None
        try:
            return self._plugin.db.item(name)
        except UnknownKey:
            self._plugin.log.info("the database has no item %s; it is left out", name)
            return None


class Derived(NamedTuple):
    """Calculates `key` from a value and that of the item `other`, which `called` names for people."""

    key: str
    other: str
    called: str
    calculate: Callable[[float, float], float]


#: The indicated altitude for instruments that know no altimeter setting.
ALTIMETER = {"PALT": Derived("ALT", "BARO", "the altimeter setting", indicated_altitude)}


class DerivingPublisher(Publisher):
    """Writes with each update of a key in `derived` what is calculated from it and another item, under a source that
    says so; in its place, if that is the same key. It is bad while the other item is not good."""

    derived: Mapping[str, Derived] = ALTIMETER

    def publish(self, updates: Iterable[Update], source: str = "") -> None:
        updates = list(updates)
        deriving = [(update, derived) for update in updates if (derived := self.derived.get(update.key)) is not None]
        if any(derived.key == update.key for update, derived in deriving):  # that is written in its place
            updates = [u for u in updates if (derived := self.derived.get(u.key)) is None or derived.key != u.key]
        with self._plugin.db.batch:
            super().publish(updates, source)
            for update, derived in deriving:
                self._publish_derived(update, derived, source)

    def _publish_derived(self, update: Update, derived: Derived, source: str) -> None:
        _, value, flags, reason = update
        if value is None:
            super().publish([Update(derived.key, None, flags, reason)], source)
            return
        try:
            other = self._plugin.db.read(derived.other)
        except UnknownKey:
            return
        if not other.good:
            flags, reason = flags | BAD, reason or f"{derived.called} is not good"
        try:
            result = Update(derived.key, derived.calculate(float(value), float(other.value)), flags, reason)
        except ValueError:
            result = Update(derived.key, None, FAIL, f"{derived.called} is impossible")
        super().publish([result], derived_source([other.source], source or self._plugin.source))


def check_keys(keys: Mapping[str, str | None], known: Iterable[str], db: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Describe what is wrong with a driver's ``keys`` option, given the protocol's `known` keys: for
    `PluginBase.check`."""
    known, items = set(known), set(db)
    for key, name in keys.items():
        if key not in known:
            yield f"keys.{key}", f"this driver does not write {key}{did_you_mean(key, known)}"
        elif name is not None and name not in items:
            yield f"keys.{key}", f"the database has no item {name!r}{did_you_mean(name, items)}"


def check_changes(changes_within: Mapping[str, float], writes: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Describe what is wrong with a driver's ``changes_within`` option, given the items that it writes."""
    writes = set(writes)
    for name in changes_within:
        if name not in writes:
            yield f"changes_within.{name}", f"this connection does not write {name}{did_you_mean(name, writes)}"
