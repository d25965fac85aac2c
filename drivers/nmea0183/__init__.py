"""GPS receivers that speak NMEA 0183: position, ground speed, track, altitude, time and satellites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fixgw.database import BAD, FAIL, Item
from fixgw.drivers.nmea0183.protocol import Decoder, Framer, Update
from fixgw.drivers.serial_link import SerialOptions, SerialPoller
from fixgw.errors import BadValue, UnknownKey
from fixgw.plugin import Options as PluginOptions


class Options(SerialOptions, frozen=True, kw_only=True):
    """Options of an NMEA 0183 receiver."""


class Plugin(SerialPoller):
    """One receiver on one line. What it says is written as it comes; what it cannot say is failed, or left to age."""

    Options: ClassVar[type[PluginOptions] | None] = Options

    def __init__(self, name: str, config: dict[str, Any], config_meta: Any = None) -> None:
        super().__init__(name, config, config_meta)
        self._items: dict[str, Item | None] = {}
        self._written: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """Forget the receiver, which may be another one; the counters go on."""
        self._framer = Framer(self.counts)
        self._decoder = Decoder(self.clock, self.counts)

    def open(self) -> None:
        self._begin()
        super().open()

    def received(self, data: bytes) -> bool:
        refused = self._refused()
        sentences = self._framer.feed(data)
        for sentence in sentences:
            for update in self._decoder.decode(sentence):
                self._publish(update)
        if self._refused() > refused:
            self.complain("%d sentences refused; the last: %s", self._refused(), self._framer.refused)
        return bool(sentences)

    def lost(self, reason: str) -> None:
        for key in self._written:
            self._publish(Update(key, None, FAIL, reason))

    def health(self) -> str:
        return super().health() or self._decoder.trouble

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "fix": self._decoder.trouble or "good"}

    def _refused(self) -> int:
        return sum(self.counts[reason] for reason in Framer.REFUSALS)

    def _publish(self, update: Update) -> None:
        key, value, flags, reason = update
        try:
            item = self._items[key]
        except KeyError:
            item = self._items[key] = self._find(key)
        if item is None:
            return
        if value is None:
            # Only what is ours can be failed: another source of the same key may be well.
            if key in self._written:
                item.flag(flags, BAD | FAIL, self.source, reason)
            return
        self._written.add(key)
        try:
            item.write(value, self.source, flags, reason, mask=BAD | FAIL)
        except BadValue as error:  # the database's definition has another type
            self.count("misfits")
            self.complain("%s", error)

    def _find(self, key: str) -> Item | None:
        try:
            return self.db.item(key)
        except UnknownKey:
            self.log.info("the database has no %s: left out", key)
            return None
