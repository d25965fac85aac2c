"""What belongs to a gateway and not to the process: database, quorum, notices, history, status, and a way to stop it.

A process may run several gateways. Each has its own `World`, and a plugin acts on that of the gateway that runs it.
Calls that name no gateway (`fixgw.database.read`, `fixgw.status.get_dict`, `fixgw.quorum.leader` ...) act on the first
gateway, which is the running one that started first. When it stops, they act on the next. While none is running, they
act on a world without a gateway; `fixgw.database.bind` gives that world its database.

All gateways in a process share some things: modules and their search path, logging, signals, the service manager's
watchdog, the directory of `fixgw.state`, where connections with the same name share a file, and hardware. Connections
that name the same CAN bus share it, in one gateway or in several.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from fixgw.clock import now
from fixgw.history import History
from fixgw.notices import Notices

if TYPE_CHECKING:
    from fixgw.configuration import Configuration
    from fixgw.database import Database
    from fixgw.plugin import Worker

__all__ = ["LeadChanged", "Quorum", "Way", "World", "alone", "begin", "end", "first", "new_plugins_world"]

log = logging.getLogger(__name__)

Command = Callable[[str], str]

FOREVER = float("inf")


class Way:
    """A way by which this gateway's vote reaches other gateways: a connection such as a CAN bus.

    The gateway makes one for each connection that carries votes, before any connection starts. The connection's plugin
    fills it in; the plugin that elects the leader reads it. Times are those of the gateway's clock.
    """

    def __init__(self) -> None:
        #: Sends a vote with this number, and returns whether it went out. None if the connection follows the vote's key
        #: instead, or does not run. Must not block.
        self.send: Callable[[int], bool] | None = None
        #: Whether a vote sent now would arrive, as far as is known. Must not block.
        self.works: Callable[[], bool] = _never
        #: When the vote last went out.
        self.sent_at = float("-inf")
        #: The number with which the connection sends it, if it has one: the node on a CAN bus.
        self.sender = 0
        #: Whether to note in `heard_at` when anything of another node last came.
        self.listens = False
        self.heard_at = float("-inf")

    def close(self) -> None:
        """The connection's plugin stops."""
        self.send, self.works = None, _never


def _never() -> bool:
    return False


#: Called with whether this gateway now leads, and whether that is said in time: False if its lease had already run out,
#: so that another gateway may lead. Called on the thread that says so; must only take note.
LeadChanged = Callable[[bool, bool], object]


class Quorum:
    """Which gateway leads when several serve one aircraft. A plugin that elects it sets this. A lone gateway leads."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._leads = True
        self._until = FOREVER
        self._told = True
        self._subscribers: tuple[LeadChanged, ...] = ()
        self._lock = threading.Lock()
        self.enabled = False
        self.nodeid: int | None = None
        self.total_nodes = 1
        self.vote_key: str | None = None
        #: By the names of their connections.
        self.ways: dict[str, Way] = {}

    @property
    def leader(self) -> bool:
        """Whether this gateway leads. False as soon as its lease has run out, whether or not a thread has noticed."""
        return self._leads and self._clock() < self._until

    @leader.setter
    def leader(self, leads: bool) -> None:
        self._set(bool(leads), FOREVER)

    def lead(self, until: float) -> None:
        """Lead until then, in seconds of the gateway's clock, unless this is called again."""
        self._set(True, until)

    @property
    def lapsed(self) -> bool:
        """Whether the lease has run out and nobody has said so."""
        return self._leads and not self.leader

    def subscribe(self, callback: LeadChanged) -> Callable[[], None]:
        """Call `callback` at each change. Returns a function that ends the subscription."""
        with self._lock:
            self._subscribers += (callback,)

        def close() -> None:
            with self._lock:
                self._subscribers = tuple(c for c in self._subscribers if c is not callback)

        return close

    def _set(self, leads: bool, until: float) -> None:
        with self._lock:
            in_time = not self.lapsed
            if leads:
                self._until = until
            self._leads = leads
            changed, self._told = leads is not self._told, leads
        for callback in self._subscribers if changed else ():
            try:
                callback(leads, in_time)
            except Exception:
                log.exception("%r failed", callback)


class World:
    """A gateway as its plugins see it. A test can use a world without a gateway, to run a plugin on a database:

        with World(database).hosting():
            plugin = Plugin("gps", {"port": "/dev/ttyUSB0"})

    `quit` is called with the name of the plugin that asks the gateway to stop, `status` returns the status tree, and
    `restart` restarts a connection and `reload` reads the configuration again, or they return why they cannot; any
    thread may call them. `thread_died` is called on a thread that ends with an exception, and returns whether it
    belonged to one of this gateway's plugins. `poke` makes the gateway check its connections soon. `configuration`
    returns what the gateway runs. `clock` returns monotonic seconds, `utc` the date and time of the computer.

    If `adopt` is given, workers start no threads: it is called with each `Worker` that runs, and whoever takes it calls
    its `turn` and waits for nothing in it. This is how a replay works.
    """

    def __init__(
        self,
        database: Database | None = None,
        *,
        quit: Callable[[str], None] = lambda who: None,
        status: Callable[[], dict[str, Any]] = dict,
        restart: Callable[[str], str] = lambda name: "there is no gateway",
        reload: Callable[[], str] = lambda: "there is no gateway",
        thread_died: Callable[[threading.ExceptHookArgs], bool] = lambda args: False,
        poke: Callable[[], None] = lambda: None,
        configuration: Callable[[], Configuration | None] = lambda: None,
        clock: Callable[[], float] = now,
        utc: Callable[[], datetime] | None = None,
        adopt: Callable[[Worker[Any]], object] | None = None,
    ) -> None:
        if database is None:
            from fixgw.database import Database

            database = Database()
        self.database = database
        self.quorum = Quorum(database.clock)
        self.notices = Notices(database.clock)
        #: The values of the last minutes, once somebody has called its `start`.
        self.history = History(database)
        self._offers: dict[str, tuple[str, Command]] = {}
        self.quit = quit
        self.status = status
        self.restart = restart
        self.reload = reload
        self.thread_died = thread_died
        self.poke = poke
        self.configuration = configuration
        #: Called with each change of an alert's state: monotonic seconds, and the entry for the record. On the thread
        #: of the alert logic; must only take note.
        self.alert_listeners: dict[Callable[[float, dict[str, Any]], object], None] = {}
        self.clock = clock
        self.utc: Callable[[], datetime] = utc or partial(datetime.now, UTC)
        self.adopt = adopt

    def offer(self, owner: str, name: str, command: Command) -> None:
        """Offer a command to clients that may write: ``command(words)`` returns why not, or an empty text.

        NetFIX can call those whose name is one word. The others are for the web page, which knows what they return.

        `owner` is the connection's name. Any thread may call the command, which must return at once. The last who
        offers a name gets it. The gateway withdraws the offers of a connection that stops or fails.
        """
        self._offers[name] = owner, command

    def withdraw(self, owner: str) -> None:
        """Withdraw what `owner` offers."""
        for name, (who, _) in list(self._offers.items()):
            if who == owner:
                self._offers.pop(name, None)

    def offered(self, name: str) -> Command | None:
        """The command `name` of a connection; None if no connection offers it."""
        offer = self._offers.get(name)
        return None if offer is None else offer[1]

    @contextmanager
    def hosting(self) -> Iterator[World]:
        """Within this context, plugins that this thread creates belong to this world; others to the first gateway's."""
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
_alone: World | None = None  # used while no gateway is running
_first: World | None = None  # the first that is running, because every `database.write` needs it
_previous_hook = threading.excepthook


def begin(world: World) -> None:
    """Note that a gateway has started."""
    global _first, _previous_hook
    with _lock:
        _running.append(world)
        _first = _running[0]
        if len(_running) == 1:
            _previous_hook = threading.excepthook
            threading.excepthook = _thread_died


def end(world: World) -> None:
    """Note that a gateway has stopped. Does nothing if it had not started."""
    global _first
    with _lock:
        if world in _running:
            _running.remove(world)
            _first = _running[0] if _running else None
            if not _running:
                threading.excepthook = _previous_hook


def first() -> World:
    """The world of the running gateway that started first; `alone` if none is running."""
    return _first or alone()


def alone() -> World:
    """The world without a gateway, which is used while none is running."""
    global _alone
    if _alone is None:
        with _lock:
            _alone = _alone or World()
    return _alone


def new_plugins_world() -> World:
    """The world that a plugin belongs to if this thread creates it now."""
    return _making.world or first()


def _thread_died(args: threading.ExceptHookArgs) -> None:
    """Tell the gateway whose plugin lost a thread. Called on the thread that ends."""
    if args.thread is None or args.exc_value is None or args.exc_type is SystemExit:
        return
    log.error("thread %s died", args.thread.name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
    for world in _running:
        if world.thread_died(args):
            return
