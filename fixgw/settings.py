"""Settings that survive a restart, a kill or a power cut: the items that are defined with ``keep: yes``.

Settings are saved to a small file (`fixgw.state`). A separate thread writes it soon after the change, at most
once a second on average, so that neither the database nor the writer ever waits for a disk. When the gateway starts, it
restores each setting, with the source ``kept``, before it starts any connection. A restored setting is a start value:
good to fly with, but not new to another gateway, which may have a newer one. An item that ages is restored as old.

Start values are not saved, so that a change in the configuration applies until someone sets the item. Values that are
simulated, replayed, overridden, old, bad or failed are not saved either; the previous value stays in the file.
"""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path
from typing import Any

from fixgw import state
from fixgw.clock import now as clock_now
from fixgw.database import BAD, FAIL, KEPT, OLD, Clock, Database, Item, Reading, Subscription, Value
from fixgw.errors import BadValue, counted
from fixgw.kit.sources import START, simulated

__all__ = ["Settings", "path_for"]

log = logging.getLogger(__name__)


def path_for(configuration: Path) -> Path:
    """The file for the settings of a gateway that runs this configuration. Each configuration has its own."""
    absolute = configuration.absolute()
    return state.path(f"settings-{absolute.stem}-{zlib.crc32(str(absolute).encode()):08x}")


class Settings:
    """Saves the settings of `database` in the file `path`. One thread calls `open` and `close`, any the rest."""

    def __init__(self, database: Database, path: Path, clock: Clock = clock_now) -> None:
        self._items = {item.key: item for item in database.items() if item.definition.keep}
        self._database = database
        self._keeper = state.Keeper(path, log, clock=clock)
        self._values: dict[str, tuple[Value, str]] = {}  # key -> value, and the source that set it
        self._subscriptions: list[Subscription] = []
        #: The number of settings that were restored.
        self.restored = 0

    def open(self) -> None:
        """Restore the saved settings, and save changes from now on. Never raises, whatever the file contains."""
        if not self._items:
            return
        for key, said in self._load().items():
            if (item := self._items.get(key)) is not None:
                self._restore(item, said)
        if self.restored:
            log.info("restored %s from before the restart", counted(self.restored, "setting"))
        self._subscriptions = [self._database.subscribe(key, self._changed, quick=True) for key in self._items]

    def close(self) -> None:
        """Stop saving. Waits at most a second until the last change is on the disk."""
        for subscription in self._subscriptions:
            subscription.close()
            item = self._items[subscription.key]
            self._changed(item.key, item.said)  # another subscriber that hangs may have held up the last change
        self._keeper.close()

    @property
    def trouble(self) -> str:
        """Why the newest settings are not on the disk; empty if they are."""
        return self._keeper.trouble

    def status(self) -> dict[str, Any]:
        return {
            "kept": len(self._items),
            "restored": self.restored,
            "saved": self._keeper.saved,
            "saving failed": self._keeper.failures,
            "file": str(self._keeper.path),
        }

    def _load(self) -> dict[str, Any]:
        data = self._keeper.load()
        if data is None:
            return {}
        try:
            found = json.loads(data)["settings"]
            if isinstance(found, dict):
                return found
            reason = "its settings are not a mapping"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
        log.warning("%s is unusable, starting without it: %s", self._keeper.path, reason)
        return {}

    def _restore(self, item: Item, said: Any) -> None:
        try:
            value: Any = item.convert(said["value"])
            source = str(said["source"])
            if (item.min is not None and value < item.min) or (item.max is not None and value > item.max):
                raise BadValue(item.key, f"{value} is outside its range", "range")
        except (BadValue, KeyError, TypeError) as error:
            log.warning("%s: its saved value is not usable: %s", item.key, error)
            return
        item.write(value, KEPT)
        if item.tolerance:
            item.flag(OLD, OLD, KEPT, "kept from before the restart")
        self._values[item.key] = value, source
        self.restored += 1

    def _changed(self, key: str, reading: Reading) -> None:
        """Save a change. Runs on the writer's thread."""
        source = reading.source
        if reading.flags & (OLD | BAD | FAIL) or source in START or simulated(source):
            return
        if (known := self._values.get(key)) is None or known[0] != reading.value:
            self._values[key] = reading.value, source
            self._keeper.keep(self._document)

    def _document(self) -> bytes:
        """The contents of the file. Runs on the keeper's thread."""
        settings = {key: {"value": value, "source": source} for key, (value, source) in self._values.copy().items()}
        return json.dumps({"settings": settings}, indent=1).encode()
