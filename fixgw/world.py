"""What belongs to one gateway and not to the process: its database, its quorum, its status, the way to stop it.

A process may run several gateways, each with a `World` of its own; a plugin acts on that of the gateway that runs it.
The calls that name no gateway (`fixgw.database.read`, `fixgw.status.get_dict`, `fixgw.quorum.leader` ...) act on the
first gateway: of those that run, the one that started first. When it stops they act on the next. While none runs, they
act on a world without a gateway; `fixgw.database.bind` gives that one its database.

Of some things a process has but one, however many gateways it runs: modules and where they are looked for, logging,
signals, the service manager's watchdog, the directory of `fixgw.state`, in which connections of one name share a file,
and hardware, CAN buses included: connections that name the same bus share it, in one gateway or in several.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fixgw.database import Database

__all__ = ["Quorum", "World", "alone", "begin", "end", "first", "new_plugins_world"]

log = logging.getLogger(__name__)


class Quorum:
    """Who leads when several gateways serve one aircraft; set by whoever decides it. A gateway that is alone leads."""

    def __init__(self) -> None:
        self.leader = True
        self.enabled = False
        self.nodeid: int | None = None
        self.total_nodes = 1
        self.vote_key: str | None = None


class World:
    """One gateway as its plugins see it. Without a gateway, as in a test, it is a database to run a plugin on:

        with World(database).hosting():
            plugin = Plugin("gps", {"port": "/dev/ttyUSB0"})

    `quit` is called with the name of whoever asks the gateway to stop, `status` returns the status tree, `restart`
    starts a connection again, or returns why not; all from any thread. `thread_died` is called in a thread that ends
    with an exception, and returns whether the thread was one of this gateway's plugins.
    """

    def __init__(
        self,
        database: Database | None = None,
        *,
        quit: Callable[[str], None] = lambda who: None,
        status: Callable[[], dict[str, Any]] = dict,
        restart: Callable[[str], str] = lambda name: "there is no gateway",
        thread_died: Callable[[threading.ExceptHookArgs], bool] = lambda args: False,
    ) -> None:
        if database is None:
            from fixgw.database import Database

            database = Database()
        self.database = database
        self.quorum = Quorum()
        self.quit = quit
        self.status = status
        self.restart = restart
        self.thread_died = thread_died

    @contextmanager
    def hosting(self) -> Iterator[World]:
        """Plugins that this thread makes inside belong to this world; others to the first gateway's."""
        before, _making.world = _making.world, self
        try:
            yield self
        finally:
            _making.world = before


class _Making(threading.local):
    world: World | None = None


_making = _Making()
_lock = threading.Lock()
_running: list[World] = []
_alone: World | None = None  # stands in while no gateway runs
_previous_hook = threading.excepthook


def begin(world: World) -> None:
    """A gateway has started."""
    global _previous_hook
    with _lock:
        _running.append(world)
        if len(_running) == 1:
            _previous_hook = threading.excepthook
            threading.excepthook = _thread_died


def end(world: World) -> None:
    """It has stopped; harmless when it had not started."""
    with _lock:
        if world in _running:
            _running.remove(world)
            if not _running:
                threading.excepthook = _previous_hook


def first() -> World:
    """The world of the gateway that started first of those that run; `alone` when none runs."""
    try:
        return _running[0]
    except IndexError:
        return alone()


def alone() -> World:
    """The world without a gateway, which stands in for one while none runs."""
    global _alone
    with _lock:
        if _alone is None:
            _alone = World()
        return _alone


def new_plugins_world() -> World:
    """The world of a plugin that is made now, on this thread."""
    return _making.world or first()


def _thread_died(args: threading.ExceptHookArgs) -> None:
    """Tell the gateway whose plugin has lost a thread. Called in the thread that ends."""
    if args.thread is None or args.exc_value is None or args.exc_type is SystemExit:
        return
    log.error("thread %s died", args.thread.name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
    for world in _running:
        if world.thread_died(args):
            return
