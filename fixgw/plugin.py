"""The parts of a plugin: `PluginBase` (the contract), `Options` (its configuration), and three bases with a thread.

A `Worker` has just a thread, a `Poller` polls a device, a `Follower` follows items of the database.

`Device`, `Feeds` and `Finding` are what a plugin's `preflight` reports to the doctor.

A plugin is a module with a class ``Plugin`` derived from `PluginBase`. The gateway creates it, calls `run` once,
`get_status` whenever someone asks for it, and `stop` once. It may use any thread for each call, but never calls `run`
and `stop` at the same time. A restarted plugin is a new object.
"""

from __future__ import annotations

import logging
import threading
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, cast

import msgspec

from fixgw import database
from fixgw.backoff import Backoff
from fixgw.clock import now
from fixgw.database.legacy import RawItem
from fixgw.errors import Advice, PluginFail, Problem, UnknownKey
from fixgw.kit.complaints import Complaints
from fixgw.kit.options import convert
from fixgw.kit.sources import mark_simulated
from fixgw.notices import Notices
from fixgw.world import Quorum, new_plugins_world

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from fixgw.kit.anonymous import Shift
    from fixgw.kit.raw import Heard
else:

    def TypeVar(name, *, bound=None, default=Any):
        """A type variable with a default, which Python has since 3.13. Before that, the bound holds the default."""
        return typing.TypeVar(name, bound=default)


__all__ = [
    "Device",
    "Feeds",
    "Finding",
    "Follower",
    "Function",
    "Options",
    "PluginBase",
    "PluginFail",
    "Poller",
    "TypeVar",
    "Worker",
]

#: The declared options of a plugin.
OptionsT = TypeVar("OptionsT", default=Any)

# The name under which `config` has the directory of the configuration.
CONFIGPATH = "CONFIGPATH"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plugin's declared options: a msgspec struct with a field for each option.

    Describe a field with ``Annotated[int, msgspec.Meta(description="...", ge=1)]``. `fixgw check`, `fixgw plugins`, the
    JSON schema and the tables in the documentation use it. ``__post_init__`` may raise ValueError.

    An option whose Meta has ``extra={"file": True}`` names a YAML file that belongs to the plugin. The plugin gets its
    absolute path. If the file, or one that it includes, has changed, SIGHUP restarts the connection.

    An option whose Meta has ``extra={"pattern": ...}`` stands for all options whose names match; see
    `fixgw.kit.options`.
    """


class Finding(NamedTuple):
    """Something that `fixgw doctor` found. `fix` is the exact command or commands that fix it; empty if none can.

    ``ok``: all is well. ``skipped``: it cannot be checked here. ``warning``: it works, but look at it. ``problem``: it
    does not work.
    """

    level: Literal["ok", "skipped", "warning", "problem"]
    message: str
    fix: str = ""


class Device(NamedTuple):
    """A file in /dev that a connection reads and writes, for example ``Device("/dev/i2c-1", "i2c")``.

    `group` is the group that has access to it. `enable` is the command that makes it appear, if the system disables it
    by default. The doctor checks that it exists and that the gateway's user has access to it.
    """

    path: str
    group: str = ""
    enable: str = ""


class Feeds(NamedTuple):
    """The keys that a connection writes when all is well: those that its options name, not all a device may send."""

    keys: tuple[str, ...]


class Function(NamedTuple):
    """Something that a plugin's options may name, as `fixgw plugins NAME --functions` and the documentation show it."""

    name: str
    inputs: str
    outputs: str
    formula: str
    options: str
    origin: str


class PluginBase(Generic[OptionsT]):
    """Base of all plugins: `Plugin(name, config)`, or with the positions of the configuration as third argument.

    ``class Plugin(PluginBase[EgtOptions])`` declares the options: `self.options`, and the argument of `check`, `claims`
    and `preflight`, is then an ``EgtOptions``. ``Options = EgtOptions`` in the class does the same without types.
    """

    #: The declared options; None means that the configuration is not checked.
    Options: ClassVar[type[Options] | None] = None
    #: Whether the plugin's thread sets `running` to False when it ends; `running` is then True before `run` starts it.
    runs_by_itself: ClassVar[bool] = False
    #: Whether the plugin elects the leader among several gateways. If so, this one does not lead before it says so.
    elects: ClassVar[bool] = False
    #: Whether its values are those of a simulator. The source of such a connection begins with ``sim/``.
    simulates: ClassVar[bool] = False
    #: Whether safe mode runs it.
    safe: ClassVar[bool] = False
    #: Whether a replay of raw data runs it. It must then reach devices only through the links that all drivers share,
    #: affect nothing but the database, and take the time from `clock` and `utc`.
    replays: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "Options" not in cls.__dict__ and (declared := _declared_options(cls)) is not None:
            cls.Options = declared

    def __init__(self, name: str, config: dict[str, Any], config_meta: Any = None) -> None:
        self.name = name
        self.config = config
        self.config_meta = config_meta
        self.log = logging.getLogger(f"fixgw.plugins.{name}")
        self.running = False
        #: When the plugin's thread last gave a sign of life (`fixgw.clock.now`); None if it gives none. A thread that
        #: falls silent is reported as hung, and the gateway then stops feeding the service manager's watchdog.
        self.alive: float | None = None
        #: The gateway that runs the plugin.
        self._gateway = new_plugins_world()
        #: The source name of this plugin's writes: the connection's `source`, by default its name.
        self.source: str = mark_simulated(name) if self.simulates else name
        options = None
        if self.Options is not None:
            given = {k: v for k, v in config.items() if k != CONFIGPATH}
            options = convert(given, self.Options)
        self.options = cast(OptionsT, options)
        self._callbacks: list[tuple[str, Any, Any]] = []
        #: Why there is nothing left to do, once `done` was called.
        self.done_with: str | None = None
        self.__post_init__()

    # -- to override ---------------------------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        """Set up the plugin's initial state. The constructor calls this last, when the options are set."""

    def run(self) -> None:
        """Start to work, and return at once. If this raises, `running` stays False."""

    def stop(self) -> None:
        """Stop everything. Return when that is done, or raise `PluginFail` if something did not stop."""

    def get_status(self) -> Mapping[str, Any]:
        """Statistics for people, in the order to show them. Any thread may call this at any time. Must not block."""
        return {}

    @classmethod
    def check(cls, options: OptionsT, db: database.Database) -> Iterable[Problem | tuple[str, str]]:
        """Report what is wrong with `options`, without using hardware, as pairs (option, message).

        The option may be a path into a nested one, ``"outputs.2.key"``. ``fixgw check`` calls this with a database that
        has all items but no thread.
        """
        return ()

    @classmethod
    def advise(cls, options: OptionsT, db: database.Database) -> Iterable[Advice | tuple[str, str]]:
        """What `options` allow that may not be meant, as `check` returns it: the configuration is used all the same."""
        return ()

    @classmethod
    def claims(cls, options: OptionsT) -> Iterable[tuple[str, str]]:
        """The resources that the plugin must have to itself, as pairs (resource, option that names it).

        Resources are plain names that drivers agree on: ``"GPIO17"``, ``"i2c-1 0x28"``, ``"/dev/ttyUSB0"``, or part
        of one: ``"TCP port 3490 of 127.0.0.1"``. A resource that is claimed twice, by two connections or within one,
        is reported with both positions.
        """
        return ()

    @classmethod
    def references(cls, options: OptionsT) -> Iterable[tuple[str, str]]:
        """The other connections that `options` name, as pairs (name, option). Those that do not exist are reported."""
        return ()

    @classmethod
    def writes(cls, options: OptionsT) -> Iterable[str]:
        """The keys that the plugin may write with `options`. `fixgw explain` names the connection for a key that is
        missing. May read the plugin's own files, but no device. Without this, the `Feeds` of `preflight` do."""
        return ()

    @classmethod
    def carries_votes(cls, options: OptionsT) -> bool:
        """Whether the connection sends this gateway's vote to others. It then has a `fixgw.world.Way` to fill in."""
        return False

    @classmethod
    def heard_as(cls, name: str, options: OptionsT) -> Iterable[str]:
        """The names under which recorders hear the links of the connection `name`; none if it has no links."""
        return ()

    @classmethod
    def anonymise(cls, options: OptionsT, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        """What a link has read and written, without positions and names (`fixgw.kit.anonymous`).

        `alone`: no other connection uses the link. None if the driver cannot tell what is private in all of it. A
        capture for others does without a link that none of its connections can clean.
        """
        return None

    @classmethod
    def functions(cls) -> Iterable[Function]:
        """The functions that the options may name, for people."""
        return ()

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        """What `options` need on this computer, for `fixgw doctor`: devices and keys for it to check, and findings.

        Must be quick and read-only, must not block, and must not open devices or import hardware libraries, because the
        gateway may be running and using them (``find_spec`` tells whether a library is installed). Called with options
        that have passed `check`.
        """
        return ()

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call `run` and set `running`. The gateway calls this."""
        self.running = self.runs_by_itself
        try:
            self.run()
        except BaseException:
            self.running = False
            raise
        if not self.runs_by_itself:
            self.running = True

    def shutdown(self) -> None:
        """Call `stop`, and remove callbacks that it left. The gateway calls this. Raises what `stop` raises."""
        try:
            self.stop()
        finally:
            self.running = False
            self._gateway.withdraw(self.name)
            for key, function, udata in self._callbacks:
                database.callback_del(self.name, key, function, udata, db=self.db)
            self._callbacks.clear()

    def is_running(self) -> bool:
        return self.running

    def is_complete(self) -> bool:
        """Whether the constructor of `PluginBase` has been called."""
        return "_callbacks" in self.__dict__

    def done(self, what: str = "") -> None:
        """Tell the gateway that the work is done, and what it was. The gateway then stops the plugin.

        This counts neither as a failure nor as a reason to restart. Returns at once. Any thread may call this.
        """
        self.done_with = what or "its work is done"
        self._gateway.poke()

    def quit(self) -> None:
        """Ask the gateway to stop with exit code 0. Returns at once. Any thread may call this."""
        self._gateway.quit(self.name)

    def health(self) -> str:
        """What is wrong, in a few words; empty if nothing is. Any thread may call this.

        Must not block. If it does, that is reported as the connection's trouble, and holds up nothing else.
        """
        return ""

    # -- the database --------------------------------------------------------------------------------------------------

    @property
    def db(self) -> database.Database:
        return self._gateway.database

    @property
    def quorum(self) -> Quorum:
        return self._gateway.quorum

    def utc(self) -> datetime:
        """The date and time by the computer's clock, which may be wrong. Measure no ages with it."""
        return self._gateway.utc()

    @property
    def replaying(self) -> bool:
        """Whether this is a replay of raw data, so that nothing outside the database may be affected."""
        return self._gateway.adopt is not None

    @property
    def notices(self) -> Notices:
        """The board for what the crew should know; see `fixgw.notices`. `self.name` is the owner of this plugin's."""
        return self._gateway.notices

    def offer(self, name: str, command: Callable[[str], str]) -> None:
        """Offer a command to clients that may write; see `fixgw.world.World.offer`."""
        self._gateway.offer(self.name, name, command)

    def db_list(self) -> list[str]:
        """All keys, in the order in which they are defined."""
        return self.db.keys()

    def db_read(self, key: str) -> Any:
        """``(value, annunciate, old, bad, fail, secfail)``, or the scalar of ``"KEY.aux"``. Raises KeyError."""
        return database.read(key, db=self.db)

    def db_write(self, key: str, value: Any) -> None:
        """Write a scalar (flags stay), ``(value, annunciate, bad, fail[, secfail])``, or a tuple from `db_read`."""
        database.write(key, value, self.source, db=self.db)

    def db_get_item(self, key: str) -> RawItem:
        """The item, with attributes to get and set. Raises KeyError."""
        return database.get_raw_item(key, self.source, db=self.db)

    def db_callback_add(self, key: str, function: database.LegacyCallback, udata: Any = None) -> None:
        """Call ``function(key, value, udata)`` on the writer's thread at every change; ``"*"`` means every item."""
        database.callback_add(self.name, key, function, udata, db=self.db)
        self._callbacks.append((key, function, udata))

    def db_callback_del(self, key: str, function: database.LegacyCallback, udata: Any = None) -> None:
        """Undo `db_callback_add`; ``"*"`` undoes it for `function` whichever keys it was added for."""
        database.callback_del(self.name, key, function, udata, db=self.db)
        self._callbacks = [
            c
            for c in self._callbacks
            if not (key in ("*", c[0]) and c[1] == function and (udata is None or c[2] is udata or c[2] == udata))
        ]


def _declared_options(cls: type[PluginBase]) -> type[Options] | None:
    """The options among the type arguments of `cls`; if a base is generic itself, its default."""
    for base in cls.__dict__.get("__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, type) and issubclass(origin, PluginBase):
            argument = typing.get_args(base)[0]
            bound = getattr(argument, "__bound__", argument)
            if isinstance(bound, type) and issubclass(bound, Options):
                return bound
            if argument is bound and argument is not Any:
                raise TypeError(f"{cls.__qualname__}: the options {argument!r} are not derived from {Options!r}")
    return None


class Unhurried(threading.Event):
    """An event for which nobody waits: in a replay, time passes only between the turns of workers."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class Worker(PluginBase[OptionsT]):
    """A plugin with its own thread. Override `work`, which that thread runs.

    When the thread ends, for any reason, `running` becomes False and `health` says why; the gateway then restarts the
    plugin. `counts` has counters, which the status shows in the order of their first use.
    """

    runs_by_itself: ClassVar[bool] = True
    #: How long `stop` waits for the thread, in seconds.
    join_timeout: ClassVar[float] = 2.0
    #: What `health` reports at first, until `work` changes it.
    initial_trouble: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts: dict[str, int] = {}
        #: Set when the thread has to end. Check it at least a few times a second, or wait for it.
        self.stopping = Unhurried() if self.replaying else threading.Event()
        #: Returns monotonic seconds. A test may replace it.
        self.clock: Callable[[], float] = self._gateway.clock
        #: Logs warnings about what goes wrong repeatedly, at a limited rate.
        self.complain = Complaints(self.log, lambda: self.clock())
        self.alive = now()
        self._trouble = "not started"
        self._thread: threading.Thread | None = None

    # -- to override ---------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Do the plugin's work on its thread until `stopping` is set. Call `show_life` about once a second."""
        raise NotImplementedError

    def finish(self) -> None:
        """Release what `work` used. The plugin's thread calls this last, whatever ended `work`."""

    def wake(self) -> None:
        """Make `work` notice `stopping` if it waits for something else. Any thread may call this."""

    def turn(self) -> float:
        """Do what is due, without waiting. Returns when to do this again, in seconds of `clock`.

        A replay calls this in place of `work`.
        """
        raise NotImplementedError

    def is_waiting(self) -> bool:
        """Whether a turn is due earlier, because something has happened."""
        return False

    # -- for plugins to call -------------------------------------------------------------------------------------------

    def count(self, what: str, n: int = 1) -> None:
        """Add `n` to the counter `what`."""
        self.counts[what] = self.counts.get(what, 0) + n

    def show_life(self) -> None:
        """Tell the gateway that the thread is not hung."""
        self.alive = now()

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._trouble = self.initial_trouble
        if self._gateway.adopt is not None:
            self._gateway.adopt(self)
            return
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.join_timeout)
            if thread.is_alive():
                raise PluginFail(f"{self.name}: its thread did not stop within {self.join_timeout} s")

    def health(self) -> str:
        return self._trouble

    def get_status(self) -> Mapping[str, Any]:
        return dict(self.counts)

    def _work(self) -> None:
        try:
            self.work()
            self._trouble = "stopped" if self.stopping.is_set() else self.done_with or "its thread ended"
        except BaseException as error:
            self._trouble = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.running = False
            try:
                self.finish()
            finally:
                self._gateway.poke()


class Poller(Worker[OptionsT]):
    """A plugin that polls a device on its own thread.

    Override three methods, which only that thread calls:

    - `open` opens the device, and raises OSError (`DeviceError`) if it is not there;
    - `poll` waits for the device, at most `timeout` seconds, and handles what it sent; it raises OSError if the device
      is gone;
    - `close` closes the device, and may be called when it is not open.

    As long as the plugin runs, it tries to reopen a missing or lost device, with growing delays, and `health` says so.
    An outage is over when `poll` has returned once: a device that opens but then fails at once is still out. Any other
    exception from `open` or `poll` is a defect, and ends the thread.
    """

    #: How long `poll` may wait, in seconds. A stop may take as long.
    poll_timeout: ClassVar[float] = 0.2
    #: The first and the longest delay between attempts to open the device, in seconds.
    reopen_delay: ClassVar[float] = 0.25
    reopen_delay_max: ClassVar[float] = 5.0
    initial_trouble: ClassVar[str] = "connecting"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._connected = False
        self._outage = False
        self._backoff = Backoff(self.reopen_delay, self.reopen_delay_max)

    # -- to override ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the device. Raises OSError if that is not possible now."""

    def poll(self, timeout: float) -> None:
        """Wait for the device, at most `timeout` seconds, and handle what it sent. Raises OSError if it is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the device, if it is open."""

    def lost(self, reason: str) -> None:
        """Called on the polling thread when the device is lost or cannot be opened, once per outage.

        Called again if the device could be opened but was lost before `poll` returned, as `poll` may have written
        something.
        """

    def poll_by(self) -> float:
        """When `poll` has something to do although its device says nothing, in seconds of `clock`; infinity: at no
        certain time. For `turn`."""
        return float("inf")

    # -- for drivers to call -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connected

    # -- the contract --------------------------------------------------------------------------------------------------

    def get_status(self) -> Mapping[str, Any]:
        return {"connected": self._connected, **self.counts}

    def work(self) -> None:
        while not self.stopping.is_set():
            if pause := self.step(self.poll_timeout):
                self.stopping.wait(pause)

    def step(self, timeout: float) -> float:
        """Open the device if it is not open, and poll it once. Returns how many seconds to wait before the next step.

        `work` calls this repeatedly.
        """
        try:
            if not self._connected:
                self.open()
                self._connected = True
            if not self.stopping.is_set():
                self.poll(timeout)
                self.show_life()
                if self._trouble:
                    if self._outage:
                        self.log.info("connected again")
                    self._trouble, self._outage = "", False
                    self._backoff.reset()
        except OSError as error:
            if self.stopping.is_set():
                return 0.0  # an error that a stop causes is not an outage
            self._trouble = str(error) or type(error).__name__  # set first: a lost device must never look healthy
            opened, self._connected = self._connected, False
            self._close()
            self.count("failed attempts" if self._outage else "outages")
            if not self._outage:
                self.log.warning("%s; trying again", self._trouble)
            self.note_loss(self._trouble)
            if opened or not self._outage:
                self.lost(self._trouble)
            self._outage = True
            self.show_life()
            return self._backoff.next()
        return 0.0

    def turn(self) -> float:
        pause = self.step(0.0)
        now = self.clock()
        return min(now + self.poll_timeout, self.poll_by()) if self._connected else now + (pause or self.poll_timeout)

    def note_loss(self, reason: str) -> None:
        """For links, to tell recorders: the device is lost or closed, or an attempt to open it has failed."""

    def finish(self) -> None:
        if self._connected:
            self.note_loss("stopped")
        self._connected = False
        self._close()

    def _close(self) -> None:
        """Call `close`, and ignore what it raises: the device may be gone."""
        try:
            self.close()
        except Exception as error:
            self.log.debug("closing failed: %r", error)


class Follower(Worker[OptionsT]):
    """A plugin that follows items of the database, to compute, judge or pass on their values.

    Override `changed` or `tick` or both; this class calls them on its thread. `FOLLOWS` names the items; override
    `follows` if the options decide. However fast the items change, the thread gets only the newest reading of each, so
    it never falls behind. An exception from `changed` or `tick` is a defect, and ends the thread.

        class Plugin(Follower):
            FOLLOWS = ("EGT1?",)

            def changed(self, readings):
                for key, reading in readings.items():
                    ...
    """

    #: Keys, or patterns such as ``EGT1?`` (`fnmatch`, case-sensitive).
    FOLLOWS: ClassVar[Sequence[str]] = ()
    #: Seconds between calls of `tick`, and before the first.
    tick_interval: ClassVar[float] = 1.0
    #: Seconds to wait after a call of `changed`, while changes gather for the next.
    gather: ClassVar[float] = 0.02
    #: How long the thread waits for a change before it shows a sign of life, in seconds.
    look_interval: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        #: The last reading of each item that `changed` got, in the order of `follows`. For the plugin's thread only.
        self.readings: dict[str, database.Reading] = {}
        self.counts |= dict.fromkeys(("batches", "updates", "conflated"), 0)
        self._keys: list[str] = []
        self._mailbox: database.Mailbox | None = None
        self._gathering_until = float("-inf")  # in a replay

    # -- to override ---------------------------------------------------------------------------------------------------

    def follows(self) -> Iterable[str]:
        """The keys or patterns to follow. `run` calls this once. A pattern that no item matches is an error."""
        return self.FOLLOWS

    def changed(self, readings: dict[str, database.Reading]) -> None:
        """Handle the readings of all items that were written, or whose flags changed, since the last call.

        The first call gets the readings of all items. Includes the plugin's own writes, if it follows those items. The
        call is a batch (`Database.batch`): clients may get what it writes when it returns.
        """

    def tick(self, now: float) -> None:
        """Called every `tick_interval` seconds, even if nothing changes; `now` is the time of `clock`."""

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: OptionsT, db: database.Database) -> Iterable[Problem | tuple[str, str]]:
        for pattern in cls.FOLLOWS:
            try:
                db.matching(pattern)
            except UnknownKey as error:
                yield "", str(error)

    def run(self) -> None:
        self.follow()
        super().run()

    def follow(self) -> None:
        """Start to follow. Raises `UnknownKey`."""
        self._keys = self.db.matching(*self.follows())
        self._mailbox = self.db.mailbox(self._keys)
        self._tick_at = self.clock() + self.tick_interval

    def work(self) -> None:
        while not self.stopping.is_set():
            if self.step(self.look_interval):
                self.stopping.wait(self.gather)
            self.show_life()

    def step(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for changes, pass them on, and tick if it is time.

        Returns whether there were any changes. `work` calls this repeatedly. A test may call it instead, after
        `follow`, with its own clock.
        """
        assert self._mailbox is not None
        changed: Iterable[str] = self._keys  # all of them the first time
        if self.readings or not changed:
            changed = self._mailbox.wait(min(timeout, max(0.0, self._tick_at - self.clock())))
            self.counts["conflated"] = self._mailbox.conflated
        readings = {key: self.db.read(key) for key in changed}  # newer than those in the mailbox
        if readings:
            self.counts["batches"] += 1
            self.counts["updates"] += len(readings)
            self.readings |= readings
            with self.db.batch:
                self.changed(readings)
        now = self.clock()
        if now >= self._tick_at:
            self._tick_at += self.tick_interval
            if self._tick_at <= now:  # we were delayed for longer than that; do not make up for missed ticks
                self._tick_at = now + self.tick_interval
            self.tick(now)
        return bool(readings)

    def turn(self) -> float:
        if self.step(0.0):
            self._gathering_until = self.clock() + self.gather
            return min(self._tick_at, self._gathering_until)
        return self._tick_at

    def is_waiting(self) -> bool:
        return self._mailbox is not None and self._mailbox.filled and self.clock() >= self._gathering_until

    def wake(self) -> None:
        if self._mailbox is not None:
            self._mailbox.wake()

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            if self._mailbox is not None:
                self._mailbox.close()

    def get_status(self) -> Mapping[str, Any]:
        trouble = self.health()
        status: dict[str, Any] = {"keys": len(self._keys), **self.counts}
        return {**status, "last error": trouble} if trouble and not self.running else status
