"""A skeleton for your own plugin: copy it, rename it, and make it do something useful.

It counts seconds on a thread, writes the count to an item if one is configured, and listens to another item. A driver
for a device is shorter if it derives from `fixgw.plugin.Poller`, which provides the thread, the stop flag, reconnecting
and health.

    connections:
      example:
        load: yes
        module: fixgw.plugins.skel
        interval: 1.0
        write: FTIME
        listen: IAS
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

import fixgw.plugin as plugin
from fixgw.database import Database


class Options(plugin.Options, frozen=True, kw_only=True):
    """The options of a connection. Any other option is an error, which suggests the nearest of these."""

    interval: Annotated[float, msgspec.Meta(description="Seconds between rounds.", gt=0)] = 1.0
    write: Annotated[str, msgspec.Meta(description="Key of an item to write the count to.")] = ""
    listen: Annotated[str, msgspec.Meta(description="Key of an item whose changes to count.")] = ""


class MainThread(threading.Thread):
    """The thread that does the work. Its parent is the plugin."""

    def __init__(self, parent: "Plugin") -> None:
        super().__init__(name=parent.name)
        self.parent = parent
        self.getout = threading.Event()  # set to stop the thread
        self.count = 0

    def run(self) -> None:
        options = self.parent.options
        # Wait for the flag instead of sleeping, so that stop() ends the thread at once.
        while not self.getout.wait(options.interval):
            self.count += 1
            if options.write:
                self.parent.db_write(options.write, self.count)
            self.parent.log.debug("round %d", self.count)

    def stop(self) -> None:
        self.getout.set()


class Plugin(plugin.PluginBase[Options]):
    """The gateway looks for a class of this name in the module."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.thread = MainThread(self)
        self.changes = 0

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        """Report what is wrong with the options beyond their types: here, keys that do not exist."""
        for option in ("write", "listen"):
            key = getattr(options, option)
            if key and key not in db:
                yield option, f"no item {key!r}"

    def run(self) -> None:
        """Called once. Set up callbacks, start threads and return at once."""
        if self.options.listen:
            self.db_callback_add(self.options.listen, self.changed)
        self.thread.start()

    def changed(self, key: str, value: Any, udata: Any) -> None:
        """Called on the thread that wrote the item. Be quick; leave longer work to your own thread."""
        self.changes += 1

    def stop(self) -> None:
        """Called once. Return when everything has stopped, or raise PluginFail if something did not stop."""
        if self.options.listen:
            self.db_callback_del(self.options.listen, self.changed)
        self.thread.stop()
        if self.thread.is_alive():
            self.thread.join(1.0)
        if self.thread.is_alive():
            raise plugin.PluginFail(f"{self.name}: the thread did not stop")

    def get_status(self) -> Mapping[str, Any]:
        """The facts that the status shows about this plugin, in this order."""
        return OrderedDict([("count", self.thread.count), ("changes", self.changes)])
