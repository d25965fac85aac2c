"""What a plugin is made of: `PluginBase` (the contract), `Options` (its configuration), and three bases with a thread.

A `Worker` has a thread and nothing else, a `Poller` polls a device, a `Follower` follows items of the database.

`Device`, `Feeds` and `Finding` are what its `PluginBase.preflight` tells the doctor.

A plugin is a module with a class ``Plugin`` derived from `PluginBase`. The gateway makes it, calls `run` once, asks for
`get_status` whenever somebody looks, and calls `stop` once; each on a thread of its own choosing, never two of `run`
and `stop` at the same time. A restarted plugin is a new object.
"""

from __future__ import annotations

import logging
import threading
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, cast

import msgspec

from fixgw import database
from fixgw.backoff import Backoff
from fixgw.clock import now
from fixgw.database.legacy import RawItem
from fixgw.errors import Advice, PluginFail, Problem, UnknownKey
from fixgw.kit.complaints import Complaints
from fixgw.kit.options import convert
from fixgw.world import Quorum, new_plugins_world

if TYPE_CHECKING:
    from typing_extensions import TypeVar
else:

    def TypeVar(name, *, bound=None, default=Any):
        """A type variable with a default, as Python has them from 3.13 on; before, the default is kept as the bound."""
        return typing.TypeVar(name, bound=default)


__all__ = [
    "Device",
    "Feeds",
    "Finding",
    "Follower",
    "Options",
    "PluginBase",
    "PluginFail",
    "Poller",
    "TypeVar",
    "Worker",
]

#: The declared options of a plugin.
OptionsT = TypeVar("OptionsT", default=Any)

# What the gateway takes from a connection for itself; plugins see it in `config` only as far as they ask for it.
CONFIGPATH = "CONFIGPATH"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plugin's declared options: a msgspec struct, one field an option.

    Describe a field with ``Annotated[int, msgspec.Meta(description="...", ge=1)]``: `fixgw check`, `fixgw plugins`,
    the JSON schema and the documentation's table are made from it. ``__post_init__`` may raise ValueError.

    An option whose Meta has ``extra={"file": True}`` names a YAML file of the plugin's own. It reaches the plugin as an
    absolute path, and when the file, or one that it includes, has changed, SIGHUP restarts the connection.

    One whose Meta has ``extra={"pattern": ...}`` stands for all options whose names fit; see `fixgw.kit.options`.
    """


class Finding(NamedTuple):
    """One thing that `fixgw doctor` has found. `fix` is the exact command, or commands, that put it right, or nothing.

    ``ok`` is well; ``skipped`` could not be looked at here; ``warning`` flies, but look at it; ``problem`` does not.
    """

    level: Literal["ok", "skipped", "warning", "problem"]
    message: str
    fix: str = ""


class Device(NamedTuple):
    """A file in /dev that a connection needs to read and write, say ``Device("/dev/i2c-1", "i2c")``.

    `group` is the group that gives access to it, `enable` the command that makes it appear, for what the system has
    switched off by default; the doctor looks whether it is there and permitted to whom the gateway runs as.
    """

    path: str
    group: str = ""
    enable: str = ""


class Feeds(NamedTuple):
    """Keys that a connection writes when all is well: those that its options name, not all that a device might send."""

    keys: tuple[str, ...]


class PluginBase(Generic[OptionsT]):
    """Base of every plugin. `Plugin(name, config)`, or with the configuration's positions as third argument.

    ``class Plugin(PluginBase[EgtOptions])`` declares the options: `self.options`, and what `check`, `claims` and
    `preflight` are given, is then an ``EgtOptions``. ``Options = EgtOptions`` in the class does the same untyped.
    """

    #: The declared options; None takes the configuration as it is, unchecked.
    Options: ClassVar[type[Options] | None] = None
    #: A thread of its own turns `running` False when it dies: so it is True before `run` makes that thread.
    runs_by_itself: ClassVar[bool] = False

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
        #: `fixgw.clock.now` of the last sign of life of the plugin's thread, or None if it gives none. One that
        #: falls silent is reported as hung, and the service manager's watchdog is no longer fed.
        self.alive: float | None = None
        #: What belongs to the gateway that runs the plugin.
        self._gateway = new_plugins_world()
        #: The name that writes of this plugin carry; the connection's `source`, by default its name.
        self.source: str = name
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
        """Give the plugin the state that it begins with; the options are there. The end of the constructor."""

    def run(self) -> None:
        """Start working, and return at once. What raises here leaves `running` False."""

    def stop(self) -> None:
        """Return when everything has stopped; raise `PluginFail` when something could not be stopped."""

    def get_status(self) -> Mapping[str, Any]:
        """Statistics for people, in the order to show them. Called from any thread, at any time; must not block."""
        return {}

    @classmethod
    def check(cls, options: OptionsT, db: database.Database) -> Iterable[Problem | tuple[str, str]]:
        """What is wrong with `options`, as far as can be told without hardware: pairs (option, message).

        The option may be a path into a nested one, ``"outputs.2.key"``. Called by ``fixgw check`` with a database
        that holds every item and no thread.
        """
        return ()

    @classmethod
    def advise(cls, options: OptionsT, db: database.Database) -> Iterable[Advice | tuple[str, str]]:
        """What `options` allow that may not be meant, as `check` returns it: the configuration is used all the same."""
        return ()

    @classmethod
    def claims(cls, options: OptionsT) -> Iterable[tuple[str, str]]:
        """What nobody else can use at the same time: pairs (resource, option that asks for it).

        Resources are plain names that drivers agree on: ``"GPIO17"``, ``"i2c-1 0x28"``, ``"/dev/ttyUSB0"``. One that
        is claimed twice, by two connections or by two entries of one, is reported with both positions.
        """
        return ()

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        """What `options` need of this machine, for `fixgw doctor`: devices and keys, which it looks at, and findings.

        Cheap, read-only, never blocking, opens no device and imports no hardware library (``find_spec`` tells whether
        it is there): the gateway may be running, and have it. Called with options that have passed `check`.
        """
        return ()

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """`run`, then `running`: what the gateway calls."""
        self.running = self.runs_by_itself
        try:
            self.run()
        except BaseException:
            self.running = False
            raise
        if not self.runs_by_itself:
            self.running = True

    def shutdown(self) -> None:
        """`stop`, and what the plugin forgot to undo: what the gateway calls. Raises what `stop` raises."""
        try:
            self.stop()
        finally:
            self.running = False
            for key, function, udata in self._callbacks:
                database.callback_del(self.name, key, function, udata, db=self.db)
            self._callbacks.clear()

    def is_running(self) -> bool:
        return self.running

    def is_complete(self) -> bool:
        """Whether `PluginBase`'s constructor has been called."""
        return "_callbacks" in self.__dict__

    def done(self, what: str = "") -> None:
        """Say that the work is done, and `what` it was: the gateway stops the plugin, and takes that for neither a
        failure nor a reason to start it again. Returns at once; any thread."""
        self.done_with = what or "its work is done"

    def quit(self) -> None:
        """Ask the gateway to stop, with exit code 0. Returns at once; any thread."""
        self._gateway.quit(self.name)

    def health(self) -> str:
        """Empty when all is well; otherwise what is not, in a few words. Any thread.

        It must not block. One that does becomes the connection's trouble itself, and holds up nobody.
        """
        return ""

    # -- the database --------------------------------------------------------------------------------------------------

    @property
    def db(self) -> database.Database:
        return self._gateway.database

    @property
    def quorum(self) -> Quorum:
        return self._gateway.quorum

    def db_list(self) -> list[str]:
        """All keys, in the order of their definition."""
        return self.db.keys()

    def db_read(self, key: str) -> Any:
        """``(value, annunciate, old, bad, fail, secfail)``, or the scalar of ``"KEY.aux"``. KeyError when unknown."""
        return database.read(key, db=self.db)

    def db_write(self, key: str, value: Any) -> None:
        """Write a scalar (flags stay), or ``(value, annunciate, bad, fail[, secfail])``, or a tuple as it is read."""
        database.write(key, value, self.source, db=self.db)

    def db_get_item(self, key: str) -> RawItem:
        """The item, with attributes to get and set. KeyError when unknown."""
        return database.get_raw_item(key, self.source, db=self.db)

    def db_callback_add(self, key: str, function: database.LegacyCallback, udata: Any = None) -> None:
        """Call ``function(key, value, udata)`` in the writer's thread on every change; ``"*"`` for every item."""
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
    """The options among the type arguments of `cls`; of a base that is generic itself, the default."""
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


class Worker(PluginBase[OptionsT]):
    """A plugin with a thread of its own. Override `work`, which that thread runs.

    `running` turns False when the thread ends, whatever ended it, and `health` says why; the gateway then restarts the
    plugin. `counts` is for counters, shown in the status in the order of their first use.
    """

    runs_by_itself: ClassVar[bool] = True
    #: Seconds that `stop` waits for the thread.
    join_timeout: ClassVar[float] = 2.0
    #: What `health` says until `work` has said something else.
    begins_as: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts: dict[str, int] = {}
        #: Set when it is time to end: look at it at least a few times a second, or wait on it.
        self.stopping = threading.Event()
        #: Monotonic seconds; a test may put a clock of its own here.
        self.clock: Callable[[], float] = now
        #: Logs a warning about what goes wrong again and again, unless it has just logged one.
        self.complain = Complaints(self.log, lambda: self.clock())
        self.alive = now()
        self._trouble = "not started"
        self._thread: threading.Thread | None = None

    # -- to override ---------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Do the work, on the plugin's thread, until `stopping` is set. Call `show_life` every second or so."""
        raise NotImplementedError

    def finish(self) -> None:
        """Release what `work` held: the last that the plugin's thread does, whatever ended `work`."""

    def wake(self) -> None:
        """Let `work` notice `stopping` if it waits for something else. Any thread."""

    # -- what is there for the plugin ----------------------------------------------------------------------------------

    def count(self, what: str, n: int = 1) -> None:
        """Count `n` more of `what`."""
        self.counts[what] = self.counts.get(what, 0) + n

    def show_life(self) -> None:
        """Tell the gateway that the thread does not hang."""
        self.alive = now()

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._trouble = self.begins_as
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
            self.finish()


class Poller(Worker[OptionsT]):
    """A plugin that polls a device on a thread of its own.

    Override three methods, all called on that thread only:

    - `open` opens the device, and raises OSError (`DeviceError`) when it is not there;
    - `poll` waits for the device, at most `timeout` seconds, and deals with what came; OSError means that it is gone;
    - `close` closes the device, and may be called when it is not open.

    A missing or vanished device is opened again with back-off, for as long as the plugin runs, and `health` says so. An
    outage is over when `poll` has come back once: a device that opens and then fails at once is still out.
    Anything else that `open` or `poll` raises is a defect, and ends the thread.
    """

    #: Seconds that `poll` may wait; with it, how long a stop may take.
    poll_timeout: ClassVar[float] = 0.2
    #: Seconds between attempts to open the device: the first, and the longest.
    reopen_delay: ClassVar[float] = 0.25
    reopen_delay_max: ClassVar[float] = 5.0
    begins_as: ClassVar[str] = "connecting"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._connected = False

    # -- to override ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the device. Raises OSError when that cannot be done now."""

    def poll(self, timeout: float) -> None:
        """Wait for the device, at most `timeout` seconds, and deal with what came. Raises OSError when it is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the device, if it is open."""

    def lost(self, reason: str) -> None:
        """The device has gone, or could not be opened: called on the polling thread once per outage, and again when it
        could be opened and was gone before `poll` came back, which may have written something."""

    # -- what is there for the driver ----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connected

    # -- the contract --------------------------------------------------------------------------------------------------

    def get_status(self) -> Mapping[str, Any]:
        return {"connected": self._connected, **self.counts}

    def work(self) -> None:
        backoff = Backoff(self.reopen_delay, self.reopen_delay_max)
        outage = False
        while not self.stopping.is_set():
            try:
                self.open()
                self._connected = True
                while not self.stopping.is_set():
                    self.poll(self.poll_timeout)
                    self.show_life()
                    if self._trouble:
                        if outage:
                            self.log.info("connected again")
                        self._trouble, outage = "", False
                        backoff.reset()
            except OSError as error:
                if self.stopping.is_set():
                    break  # what a stop interrupts is no outage
                self._trouble = str(error) or type(error).__name__  # first: not connected is never well
                opened, self._connected = self._connected, False
                self._close()
                self.count("failed attempts" if outage else "outages")
                if not outage:
                    self.log.warning("%s; trying again", self._trouble)
                if opened or not outage:
                    self.lost(self._trouble)
                outage = True
                self.show_life()
                self.stopping.wait(backoff.next())

    def finish(self) -> None:
        self._connected = False
        self._close()

    def _close(self) -> None:
        """`close`, whatever it raises: the device may be gone."""
        try:
            self.close()
        except Exception as error:
            self.log.debug("closing failed: %r", error)


class Follower(Worker[OptionsT]):
    """A plugin that follows items of the database and computes, judges or passes on what they say.

    Override `changed`, or `tick`, or both: the gateway calls them on a thread that this class runs. `FOLLOWS`, or
    `follows` for what the options decide, says which items. However fast these change, the thread gets no more than
    the newest reading of each, and never falls behind. Whatever `changed` or `tick` raises is a defect, and ends it.

        class Plugin(Follower):
            FOLLOWS = ("EGT1?",)

            def changed(self, readings):
                for key, reading in readings.items():
                    ...
    """

    #: Keys, or patterns such as ``EGT1?`` (`fnmatch`, in the case given).
    FOLLOWS: ClassVar[Sequence[str]] = ()
    #: Seconds from one `tick` to the next; the first comes when so much time has passed.
    tick_interval: ClassVar[float] = 1.0
    #: Seconds after a `changed` in which further changes gather for the next.
    gather: ClassVar[float] = 0.02
    #: Seconds that the thread waits for a change before it looks at the clock; with it, how long a stop may take.
    look_interval: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        #: What `changed` was given last of each item, in the order of `follows`. The plugin's thread.
        self.readings: dict[str, database.Reading] = {}
        self.counts |= dict.fromkeys(("batches", "updates", "conflated"), 0)
        self._keys: list[str] = []
        self._mailbox: database.Mailbox | None = None
        self._tick_at = 0.0

    # -- to override ---------------------------------------------------------------------------------------------------

    def follows(self) -> Iterable[str]:
        """The keys, or patterns, to follow; asked once, by `run`. One that no item has is an error."""
        return self.FOLLOWS

    def changed(self, readings: dict[str, database.Reading]) -> None:
        """The readings of the items that have been written, or have changed their flags, since the last call; the first
        time, those of all. They include what the plugin itself writes, if it follows that."""

    def tick(self, now: float) -> None:
        """Called every `tick_interval` seconds, also while nothing changes; `now` is what `clock` says."""

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
        """Begin to follow. Raises `UnknownKey`."""
        self._keys = self.db.matching(*self.follows())
        self._mailbox = self.db.mailbox(self._keys)
        self._tick_at = self.clock() + self.tick_interval

    def work(self) -> None:
        while not self.stopping.is_set():
            if self.step(self.look_interval):
                self.stopping.wait(self.gather)
            self.show_life()

    def step(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for changes, hand them on, and tick if it is time; whether there were any.

        `work` does it again and again. A test may do so itself, after `follow`, with the time in its own hands.
        """
        assert self._mailbox is not None
        changed: Iterable[str] = self._keys  # the first time, all
        if self.readings or not changed:
            changed = self._mailbox.wait(min(timeout, max(0.0, self._tick_at - self.clock())))
            self.counts["conflated"] = self._mailbox.conflated
        readings = {key: self.db.read(key) for key in changed}  # what waited may be older than what was read before
        if readings:
            self.counts["batches"] += 1
            self.counts["updates"] += len(readings)
            self.readings |= readings
            self.changed(readings)
        now = self.clock()
        if now >= self._tick_at:
            self._tick_at += self.tick_interval
            if self._tick_at <= now:  # held up for longer than that: what was missed is not made up for
                self._tick_at = now + self.tick_interval
            self.tick(now)
        return bool(readings)

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
