"""`Publisher`: writes a protocol's updates to the database on behalf of its plugin.

A protocol names the keys that it knows. For every driver alike, the publisher decides which items they go to, and fails
them when the device is lost so that its last values do not stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from fixgw.errors import BadValue, UnknownKey, did_you_mean
from fixgw.kit.sources import START, unmarked
from fixgw.kit.update import BAD, FAIL, Update

if TYPE_CHECKING:
    from fixgw.database import Item
    from fixgw.plugin import PluginBase


class Publisher:
    """Writes updates under the plugin's source. Used only by the plugin's own thread.

    `keys` maps the protocol's names to items: ``{"TACH1": "TACH2", "OAT": None}`` sends the first to another item and
    leaves the second out. A value that an item cannot take is counted as one of the ``misfits`` in `counts` and passed
    to `complain`.
    """

    def __init__(
        self,
        plugin: PluginBase,
        counts: dict[str, int],
        complain: Callable[..., object],
        keys: Mapping[str, str | None] | None = None,
    ) -> None:
        self._plugin = plugin
        self._counts = counts
        self._complain = complain
        self._keys = keys or {}
        self._items: dict[str, Item | None] = {}
        #: The keys written so far, by the protocol's names.
        self.written: set[str] = set()

    def publish(self, updates: Iterable[Update], source: str = "") -> None:
        """Write `updates` in order. Never raises, whatever they contain.

        `source` names what they are derived from (`fixgw.kit.sources.derived_source`), if it is not the plugin's own.
        """
        source = source or self._plugin.source
        for key, value, flags, reason in updates:
            try:
                item = self._items[key]
            except KeyError:
                item = self._items[key] = self._find(key)
            if item is None:
                continue
            if value is None:
                # Do not flag another source's value; a ranked item keeps each source's reading apart.
                theirs = item.reading.source
                if unmarked(theirs) in (unmarked(source), "") or theirs in START or item.rank(source) is not None:
                    item.flag(flags, BAD | FAIL, source, reason)
                continue
            self.written.add(key)
            try:
                item.write(value, source, flags, reason, mask=BAD | FAIL)
            except BadValue as error:  # the item is defined with another type
                self._counts["misfits"] = self._counts.get("misfits", 0) + 1
                self._complain("%s", error)

    def fail(self, reason: str) -> None:
        """Fail every key written so far: the device is gone."""
        self.publish([Update(key, None, FAIL, reason) for key in self.written])

    def _find(self, key: str) -> Item | None:
        name = self._keys.get(key, key)
        if name is None:
            return None
        try:
            return self._plugin.db.item(name)
        except UnknownKey:
            self._plugin.log.info("the database has no item %s; it is left out", name)
            return None


def check_keys(keys: Mapping[str, str | None], known: Iterable[str], db: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Describe what is wrong with a driver's ``keys`` option, given the protocol's `known` keys: for
    `PluginBase.check`."""
    known, items = set(known), set(db)
    for key, name in keys.items():
        if key not in known:
            yield f"keys.{key}", f"this driver does not write {key}{did_you_mean(key, known)}"
        elif name is not None and name not in items:
            yield f"keys.{key}", f"the database has no item {name!r}{did_you_mean(name, items)}"
