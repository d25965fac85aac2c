"""The skeleton to start a plugin from: copy it, rename it, make it do something useful.

It counts seconds on a thread of its own, writes the count to an item if one is configured, and listens to another.
A driver for a device is shorter when it derives from `fixgw.plugin.Poller`, which brings the thread, the stop flag,
the reconnecting and the health with it.

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
    """What the configuration may say. An option that is not declared here is an error that names the nearest."""

    interval: Annotated[float, msgspec.Meta(description="Seconds between two rounds.", gt=0)] = 1.0
    write: Annotated[str, msgspec.Meta(description="Key of an item to write the count to.")] = ""
    listen: Annotated[str, msgspec.Meta(description="Key of an item whose changes are counted.")] = ""


class MainThread(threading.Thread):
    """The part that runs all the time. The plugin is its parent."""

    def __init__(self, parent: "Plugin") -> None:
        super().__init__(name=parent.name)
        self.parent = parent
        self.getout = threading.Event()  # set when it is time to stop
        self.count = 0

    def run(self) -> None:
        options = self.parent.options
        # Waiting on the flag rather than sleeping lets stop() end the thread at once.
        while not self.getout.wait(options.interval):
            self.count += 1
            if options.write:
                self.parent.db_write(options.write, self.count)
            self.parent.log.debug("round %d", self.count)

    def stop(self) -> None:
        self.getout.set()


class Plugin(plugin.PluginBase[Options]):
    """What the gateway looks for in the module: a class of this name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.thread = MainThread(self)
        self.changes = 0

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        """What `fixgw check` finds wrong beyond the types: here, keys that do not exist."""
        for option in ("write", "listen"):
            key = getattr(options, option)
            if key and key not in db:
                yield option, f"no item {key!r}"

    def run(self) -> None:
        """Called once, must return at once: set up callbacks, start threads."""
        if self.options.listen:
            self.db_callback_add(self.options.listen, self.changed)
        self.thread.start()

    def changed(self, key: str, value: Any, udata: Any) -> None:
        """Called in the thread of whoever wrote the item: be quick, and hand longer work to your own thread."""
        self.changes += 1

    def stop(self) -> None:
        """Called once: return when everything has stopped, raise PluginFail when it could not be."""
        if self.options.listen:
            self.db_callback_del(self.options.listen, self.changed)
        self.thread.stop()
        if self.thread.is_alive():
            self.thread.join(1.0)
        if self.thread.is_alive():
            raise plugin.PluginFail(f"{self.name}: the thread did not stop")

    def get_status(self) -> Mapping[str, Any]:
        """What to show of this plugin, in this order."""
        return OrderedDict([("count", self.thread.count), ("changes", self.changes)])
