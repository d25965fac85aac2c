"""Runs the plugins of a configuration on one thread, on a clock that the caller sets: `Stepper`.

    stepper = Stepper(configuration, 1000.0)
    stepper.start()
    gps = stepper.feed("gps")
    gps.trouble = ""                                                     # the device is there ...
    gps.entries.append(Heard("gps", stepper.now, "in", b"$GPRMC,..."))   # ... and sends
    stepper.turn("gps")
    stepper.pass_until(1010.0)                                           # polls, ticks and ageing, when they are due
    stepper.db.read("LAT")
    stepper.stop()

The plugins are loaded and started as in a gateway, but in a `fixgw.world.World` that adopts their workers instead of
starting threads, and whose links take data from `fixgw.kit.raw.Feed`s in place of devices. Nobody waits, and nothing is
loaded from the state directory or saved there. So the same calls have the same outcome, on any machine. A plugin that
fails is not started again.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fixgw import identity, loader, state
from fixgw.configuration import Configuration, Connection
from fixgw.database import Database
from fixgw.errors import FixgwError
from fixgw.kit import raw
from fixgw.kit.raw import Feed
from fixgw.plugin import PluginBase, Worker
from fixgw.world import World

__all__ = ["Stepper", "Task", "WoundClock", "explain", "may_replay"]

log = logging.getLogger(__name__)

MAX_TURNS = 100  # of all workers at one instant
LEAST_S = 1e-6  # between two instants
MAX_RESTLESS = 100  # instants in a row at which a worker takes all these turns; one that goes on would do so for ever

NOTHING_THERE = "nothing is connected"


class WoundClock:
    """Shows the time to which it is set, in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Task:
    """A worker, and when its next turn is due."""

    def __init__(self, worker: Worker[Any], due: float) -> None:
        self.worker = worker
        self.due = due
        self.may_wait = type(worker).is_waiting is not Worker.is_waiting
        self.restless = 0  # instants in a row at which it took `MAX_TURNS`
        self.restless_at = due  # the last of them


class _Timer:
    def __init__(self, period_s: float, due: float, call: Callable[[], object]) -> None:
        self.period_s = period_s
        self.due = due
        self.call = call


def may_replay(connection: Connection) -> str:
    """Why a connection has no part in a replay; empty if it has."""
    return "" if connection.plugin.replays else f"{connection.module} is no part of a replay"


class Stepper:
    """The plugins of one configuration, their database and their clock. One thread; several in a process are apart.

    `start_s` is the first time of the clock, in monotonic seconds, and `utc` returns the date and time (default: the
    clock, in seconds since 1970). `refuse` returns why a connection is not to run; empty if it runs. A connection that
    runs must reach devices only through the links that all drivers share, wait only for `Worker.stopping`, and take the
    time from `clock` and `utc`.

    `link` returns the feed of a link, by the name under which recorders hear it, or None: then it opens its real
    device. By default every link has the feed that `feed` returns. `sent` is called with a link's name and what it
    sends, and may return False: there was no room. `may_turn` says whether a turn of a worker makes sense now.
    """

    def __init__(
        self,
        configuration: Configuration,
        start_s: float,
        *,
        utc: Callable[[], datetime] | None = None,
        refuse: Callable[[Connection], str] = may_replay,
        link: Callable[[str], Feed | None] | None = None,
        sent: Callable[[str, Any], object] = lambda name, data: None,
        may_turn: Callable[[Worker[Any]], bool] = lambda worker: True,
        name: str = "stepped",
        absent: str = NOTHING_THERE,
    ) -> None:
        self.configuration = configuration
        self.clock = WoundClock(start_s)
        self.db: Database = configuration.make_database(self.clock)
        identity.assign(self.db, f"{name}-000000")
        self._adopted: list[Worker[Any]] = []
        self.world = World(self.db, clock=self.clock, utc=utc or self._utc, adopt=self._adopt)
        raw.point(self.db).feeds = link or self.feed
        #: The workers that run, by name. A CAN bus has its own.
        self.tasks: dict[str, Task] = {}
        #: The plugins that have started, by connection.
        self.plugins: dict[str, PluginBase] = {}
        #: Connections that do not run, and why.
        self.left_out: dict[str, str] = {}
        #: Plugins that failed, and the error.
        self.failed: dict[str, str] = {}
        #: Called before the clock moves on.
        self.moving: Callable[[], object] = lambda: None
        self._refuse = refuse
        self._sent = sent
        self._may_turn = may_turn
        self._absent = absent
        self._feeds: dict[str, Feed] = {}
        self._timers: list[_Timer] = []
        self._age_due = float("inf")

    @property
    def now(self) -> float:
        """The time, in monotonic seconds."""
        return self.clock.now

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now, UTC)

    def _adopt(self, worker: Worker[Any]) -> None:
        self._adopted.append(worker)
        self.tasks[worker.name] = Task(worker, self.clock.now)

    @property
    def feeds(self) -> dict[str, Feed]:
        """The feeds that `feed` has made, by link."""
        return self._feeds

    def feed(self, link: str) -> Feed:
        """What a link takes in place of its device; made at the first call. At first the device is absent: set
        `trouble` to an empty text when it is there."""
        feed = self._feeds.get(link)
        if feed is None:
            feed = self._feeds[link] = Feed(lambda data: self._sent(link, data))
            feed.trouble = self._absent
        return feed

    # -- life ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def hosting(self) -> Iterator[None]:
        """Within this context, plugins that this thread creates belong here, and neither load nor save state."""
        with self.world.hosting(), state.detached():
            yield

    def start(self) -> None:
        """Start all connections of the configuration that may run. What goes wrong is in `left_out` and `failed`."""
        unloaded = self.configuration.unloaded.items()
        self.left_out = {name: why for name, why in unloaded if not why.startswith("load:")}
        for name, problems in self.configuration.refused.items():
            self.left_out[name] = str(problems[0]) if problems else "it has a problem"
        with self.hosting():
            for connection in self.configuration.connections:
                if why := self._refuse(connection):
                    self.left_out[connection.name] = why
                else:
                    self._start_one(connection)

    def _start_one(self, connection: Connection) -> None:
        name = connection.name
        try:
            plugin = loader.make_plugin(connection.plugin, name, dict(connection.options), connection.meta)
            plugin.source = connection.source
            self.plugins[name] = plugin
            plugin.start()
        except (Exception, SystemExit) as error:
            self.failed[name] = explain(error)

    def stop(self) -> None:
        """Stop all plugins, in reverse order. Those that had stopped before, or fail now, are in `failed`."""
        for name, plugin in self.plugins.items():
            if not plugin.running and name not in self.failed:
                self.failed[name] = getattr(plugin, "_trouble", "") or "it has stopped"
        with self.hosting():
            for plugin in reversed(self.plugins.values()):
                try:
                    plugin.shutdown()
                except (Exception, SystemExit) as error:  # a defect, which must not keep the others from stopping
                    self.failed.setdefault(plugin.name, f"stop: {explain(error)}")
            for worker in self._adopted:  # as its thread would: a device that it keeps is missing for the next user
                try:
                    worker.finish()
                except (Exception, SystemExit) as error:
                    self.failed.setdefault(worker.name, f"stop: {explain(error)}")
        raw.forget(self.db)

    def every(self, period_s: float, call: Callable[[], object]) -> None:
        """Call `call` every `period_s` seconds of the clock, before the workers' turns."""
        self._timers.append(_Timer(period_s, self.clock.now + period_s, call))

    # -- time ----------------------------------------------------------------------------------------------------------

    def pass_until(self, at: float) -> None:
        """Do all that is due before `at`, in the order of time, and set the clock to it. What is due at that instant
        is left to `settle`."""
        while True:
            due = min([self._age_due, *(timer.due for timer in self._timers)])
            for task in self.tasks.values():
                if task.due < due and self._has_turns(task):
                    due = task.due
            # In whole microseconds, so that a worker's instants do not depend on those of the others.
            due = max(math.ceil(due * 1e6) / 1e6, round(self.clock.now + LEAST_S, 6)) if due < at else at
            if due >= at:
                break
            self.set_clock(due)
            for timer in self._timers:
                if due >= timer.due:
                    timer.due = self.clock.now + timer.period_s
                    timer.call()
            self.settle()
        self.set_clock(at)

    def set_clock(self, now: float) -> None:
        """Set the clock, and do nothing else. It never goes back."""
        if now > self.clock.now:
            self.moving()
            self.clock.now = now

    def settle(self) -> None:
        """Give all workers their turns until nothing is left to do at this instant, and let values age."""
        for _ in range(MAX_TURNS):
            now = self.clock.now
            ready = [
                task
                for task in self.tasks.values()
                if (task.due <= now or (task.may_wait and task.worker.is_waiting())) and self._has_turns(task)
            ]
            if not ready:
                break
            for task in ready:
                self._turn(task)
        else:
            for task in ready:
                task.due = max(task.due, now + LEAST_S)
                task.restless = task.restless + 1 if now < task.restless_at + 1.5 * LEAST_S else 1
                task.restless_at = now
                if task.restless > MAX_RESTLESS:
                    self._fail(task.worker, "it has something to do without an end: see `poll_by` and `is_waiting`")
        self._age_due = self.clock.now + self.db.age()

    def turn(self, name: str) -> None:
        """Give a worker its turn now, if it runs, for example because its device has sent something."""
        if (task := self.tasks.get(name)) is not None:
            self._turn(task)

    def _has_turns(self, task: Task) -> bool:
        return not task.worker.stopping.is_set() and self._may_turn(task.worker)

    def _turn(self, task: Task) -> None:
        worker = task.worker
        try:
            task.due = worker.turn()
        except (Exception, SystemExit) as error:  # a defect, at which a gateway restarts the plugin
            log.debug("%s failed", worker.name, exc_info=error)
            self._fail(worker, explain(error))

    def _fail(self, worker: Worker[Any], why: str) -> None:
        self.failed[worker.name] = why
        self.tasks.pop(worker.name, None)
        self.db.disown(worker.source, f"{worker.name} has failed")


def explain(error: BaseException) -> str:
    """An error in one line: the message of one of our own, and for a defect also where it was raised."""
    if isinstance(error, FixgwError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
