"""Runs the raw data of a capture through the real drivers of a configuration, and gives the list of changes.

One thread, no waiting, and no clock but that of the capture: the same capture has the same outcome, on any machine. The
plugins are loaded and started as in a gateway, but in a `World` that adopts their workers instead of starting threads,
and whose links take recorded data in place of devices (`fixgw.kit.raw.Feed`). Plugins that could affect anything
besides the database are left out. Nothing is loaded from the state directory or saved there.
"""

from __future__ import annotations

import logging
import math
import shutil
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fixgw import configuration as configurations
from fixgw import identity, loader, state
from fixgw.configuration import Configuration, Connection
from fixgw.database import OLD, WRITABLE, Database, Reading, Value
from fixgw.errors import FixgwError, UnknownKey
from fixgw.kit import raw
from fixgw.kit.raw import Event, Feed, Heard, PinLevel
from fixgw.kit.sources import unmarked
from fixgw.plugin import PluginBase, Poller, Worker
from fixgw.recording.capture import Capture, Outside, unpack_configuration
from fixgw.recording.golden import Line, line
from fixgw.world import World

__all__ = ["Outcome", "load", "replay"]

log = logging.getLogger(__name__)

MAX_TURNS = 100  # of all workers at one instant
LEAST_S = 1e-6  # between two instants
REFRESH_S = 0.1  # between two looks at values that others have set

NO_DATA = "the capture has no data of it"


class WoundClock:
    """Shows the time to which it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Outcome:
    """What a replay did, besides the changes."""

    changes: int = 0
    #: Seconds of the capture.
    seconds: float = 0.0
    #: Connections that were replayed, and those that were not, and why.
    replayed: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    #: Plugins that failed, and the error.
    failed: dict[str, str] = field(default_factory=dict)
    #: Entries of connections that the configuration does not have.
    unknown: Counter[str] = field(default_factory=Counter)
    #: Connections and buses of the configuration of which the capture has no data.
    silent: list[str] = field(default_factory=list)


def replay(
    configuration: Configuration, capture: Capture, emit: Callable[[Line], object], sent: bool = False
) -> Outcome:
    """Replay `capture`, and call `emit` with each change, in the order of time, changes of one instant by key.

    With `sent`, what the connections send is among them. Raises `FixgwError` if the capture cannot be read.
    """
    return _Replay(configuration, capture, emit, sent).run()


def load(config: str | None, capture: Capture, directory: Path) -> Configuration:
    """Load the configuration to replay with: `config`, or the capture's own, unpacked into `directory`.

    Raises `ConfigurationError`, and `RecordingError` if the capture has none.
    """
    if config is not None:
        return configurations.load(configurations.find(config))
    # A capture leaves out what is packaged.
    ignored = shutil.ignore_patterns("*.py*")
    shutil.copytree(configurations.packaged(), directory, ignore=ignored, dirs_exist_ok=True)
    return configurations.load_foreign(unpack_configuration(capture, directory), capture.variables)


class _Task:
    """A worker, and when its next turn is due."""

    def __init__(self, worker: Worker[Any], due: float) -> None:
        self.worker = worker
        self.due = due


class _Replay:
    def __init__(
        self, configuration: Configuration, capture: Capture, emit: Callable[[Line], object], sent: bool
    ) -> None:
        self.configuration = configuration
        self.capture = capture
        self.outcome = Outcome()
        self._emit = emit
        self._sent = sent
        self._start = capture.start
        self.clock = clock = WoundClock(capture.start)
        self.db: Database = configuration.make_database(clock)
        identity.assign(self.db, "replay-000000")
        self.world = World(self.db, clock=clock, utc=self._utc, adopt=self._adopt)
        self.world.quorum.leader = True
        point = raw.point(self.db)
        point.feeds = self._feed
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[str, _Task] = {}
        self._gathered: defaultdict[str, deque[Heard]] = defaultdict(deque)  # the transfers of a poll so far
        self._lines: list[Line] = []  # of this instant
        self._last: dict[str, tuple[Value, int, str]] = {}
        self._sources: set[str] = set()
        self._others: dict[str, Outside] = {}  # what others have set, by keys that age
        self._age_due = self._refresh_due = float("inf")

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now + (self.capture.offset or 0.0), UTC)

    def _feed(self, connection: str) -> Feed:
        feed = self._feeds.get(connection)
        if feed is None:
            feed = self._feeds[connection] = Feed(lambda data: self._note_sent(connection, data))
            feed.trouble = NO_DATA
        return feed

    def _adopt(self, worker: Worker[Any]) -> None:
        self._tasks[worker.name] = _Task(worker, self.clock.now)

    # -- life ----------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        plugins: list[PluginBase] = []
        with self.world.hosting(), state.detached():
            unloaded = self.configuration.unloaded.items()
            self.outcome.left_out = {name: why for name, why in unloaded if not why.startswith("load:")}
            for name, problems in self.configuration.refused.items():
                self.outcome.left_out[name] = str(problems[0]) if problems else "it has a problem"
            try:
                for connection in self.configuration.connections:
                    self._start_one(connection, plugins)
                self._set_state()
                self._note_start()
                self._play()
            finally:
                for plugin in plugins:
                    if not plugin.running and plugin.name not in self.outcome.failed:
                        self.outcome.failed[plugin.name] = getattr(plugin, "_trouble", "") or "it has stopped"
                for plugin in reversed(plugins):
                    with suppress(Exception):  # its work is done
                        plugin.shutdown()
        self.outcome.silent = sorted(name for name, feed in self._feeds.items() if feed.trouble == NO_DATA)
        return self.outcome

    def _start_one(self, connection: Connection, plugins: list[PluginBase]) -> None:
        outcome, name = self.outcome, connection.name
        if not connection.plugin.replays:
            outcome.left_out[name] = f"{connection.module} is no part of a replay"
            return
        try:
            plugin = loader.make_plugin(connection.plugin, name, dict(connection.options), connection.meta)
            plugin.source = connection.source
            plugins.append(plugin)
            plugin.start()
        except Exception as error:
            outcome.failed[name] = _explain(error)
            return
        outcome.replayed.append(name)
        links = set(connection.plugin.heard_as(name, plugin.options))
        if not links or links & {*self.capture.links}:  # otherwise its values are all that there is of it
            self._sources.add(_root(connection.source))

    def _set_state(self) -> None:
        """Set what was set before the capture began, and by whom no connection of this replay is."""
        for change in self.capture.state:
            self._set(change)

    def _set(self, change: Outside) -> None:
        if _root(change.source) in self._sources or change.value is None:
            return
        self._others.pop(change.key, None)
        with suppress(UnknownKey, FixgwError, ValueError):
            if "." in change.key:
                self.db.write(change.key, change.value, change.source)
            elif not change.flags & OLD:
                self.db.write(change.key, change.value, change.source, flags=change.flags & WRITABLE)
                if self.db.item(change.key).tolerance:
                    self._others[change.key] = change

    def _refresh(self) -> None:
        """Write what others have set again before it ages: they did so, but a recording has only changes."""
        now = self._refresh_due = self.clock.now
        self._refresh_due += REFRESH_S
        for key, change in self._others.items():
            item = self.db.item(key)
            reading = item.reading
            if reading.source == change.source and reading.age(now) > item.tolerance / 2:
                item.write(change.value, change.source, change.flags & WRITABLE)

    def _note_start(self) -> None:
        """Take what has been written so far as given, and note changes from now on."""
        for item in self.db.items():
            reading = item.reading
            self._last[item.key] = reading.value, reading.flags, reading.source
        self.db.subscribe("*", self._note, self._note_aux, quick=True)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _play(self) -> None:
        end = self._start
        self._refresh_due = end + REFRESH_S
        for entry in self.capture.entries():
            at = max(entry.stamp, self._start)
            self._pass_until(at)
            self._take(entry)
            self._settle()
            end = max(end, at)
        self._pass_until(max(end, self.capture.end or end))
        self._flush()
        self.outcome.seconds = self.clock.now - self._start

    def _pass_until(self, at: float) -> None:
        """Do all that is due before `at`, and set the clock to it."""
        while True:
            due = min(
                [self._age_due, self._refresh_due, *(task.due for task in self._tasks.values() if self._may_turn(task))]
            )
            due = max(math.ceil(due * 1e6) / 1e6, self.clock.now + LEAST_S) if due < at else at
            if due >= at:
                break
            self._set_clock(due)
            if due >= self._refresh_due:
                self._refresh()
            self._settle()
        self._set_clock(at)

    def _set_clock(self, now: float) -> None:
        if now > self.clock.now:
            self._flush()
            self.clock.now = now

    def _may_turn(self, task: _Task) -> bool:
        """Whether a turn makes sense: not if the device is not there, and nothing has changed."""
        worker = task.worker
        if worker.stopping.is_set():
            return False
        feed = self._feeds.get(worker.name)
        return feed is None or not feed.trouble or not isinstance(worker, Poller) or worker.connected

    def _settle(self) -> None:
        """Give all workers their turns until nothing is left to do at this instant."""
        for _ in range(MAX_TURNS):
            ready = [
                task
                for task in list(self._tasks.values())
                if self._may_turn(task) and (task.due <= self.clock.now or task.worker.is_waiting())
            ]
            if not ready:
                break
            for task in ready:
                self._turn(task)
        else:
            for task in self._tasks.values():
                task.due = max(task.due, self.clock.now + LEAST_S)
        self._age_due = self.clock.now + self.db.age()

    def _turn(self, task: _Task) -> None:
        worker = task.worker
        try:
            task.due = worker.turn()
        except Exception as error:  # a defect, at which a gateway restarts the plugin
            log.debug("%s failed", worker.name, exc_info=error)
            self.outcome.failed[worker.name] = _explain(error)
            self._tasks.pop(worker.name, None)

    # -- what was recorded ---------------------------------------------------------------------------------------------

    def _take(self, entry: Heard | Outside) -> None:
        if isinstance(entry, Outside):
            self._set(entry)
            return
        connection, _, direction, data = entry
        feed = self._feeds.get(connection)
        task = self._tasks.get(connection)
        if feed is None:
            self.outcome.unknown[connection] += 1
            return
        if isinstance(data, Event):
            self._take_event(entry, feed, task, data)
        elif isinstance(data, PinLevel):
            feed.levels[data.pin] = data.high
            if data.edge and (callback := feed.callbacks.get(data.pin)) is not None:
                callback()
        elif isinstance(data, tuple):  # a transfer with a chip, or one that failed
            self._gathered[connection].append(entry)
        elif direction != "out":
            if feed.trouble == NO_DATA:  # the capture does not say when the link was opened
                feed.trouble = ""
                self._turn_now(task)
            feed.held_up = direction == "discarded"
            feed.entries.append(entry)
            self._turn_now(task)

    def _take_event(self, entry: Heard, feed: Feed, task: _Task | None, event: Event) -> None:
        gathered = self._gathered.pop(entry.connection, None) if event.link == "chip" else None
        if event.what == "polled" or event.what == "opened":
            if event.link == "pins":
                feed.polled = frozenset(int(pin) for pin in event.detail.split(",") if pin.isdigit())
            if event.what == "opened" and task is not None and _connected(task):
                return  # told again
            feed.trouble = ""
            feed.entries.extend(gathered or ())
            self._turn_now(task)
        elif event.what == "lost":
            if gathered and task is not None and _connected(task):
                feed.entries.extend(gathered)
                self._turn_now(task)
            feed.trouble = event.detail or "lost"
            feed.entries.clear()
            if task is not None and (_connected(task) or not getattr(task.worker, "_outage", False)):
                self._turn_now(task)

    def _turn_now(self, task: _Task | None) -> None:
        if task is not None and task.worker.name in self._tasks:
            self._turn(task)

    # -- the outcome ---------------------------------------------------------------------------------------------------

    def _note(self, key: str, reading: Reading) -> None:
        facts = reading.value, reading.flags, reading.source
        last = self._last.get(key)
        if facts == last and type(facts[0]) is type(last[0]):
            return
        self._last[key] = facts
        self._add(key, reading.value, reading.flag_text, reading.source)

    def _note_aux(self, key: str, name: str, value: Value | None) -> None:
        self._add(f"{key}.{name}", value, "-", self.db.item(key).aux_sources.get(name, ""))

    def _note_sent(self, connection: str, data: Any) -> None:
        if self._sent:
            self._add(f"{connection.replace(' ', ':')}>", _words(data), "-", "")

    def _add(self, key: str, value: Value | None, flags: str, source: str) -> None:
        self._lines.append(line(self.clock.now - self._start, key, value, flags, source))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        lines.sort(key=lambda each: each.key)
        self.outcome.changes += len(lines)
        for each in lines:
            self._emit(each)


def _connected(task: _Task) -> bool:
    return isinstance(task.worker, Poller) and task.worker.connected


def _root(source: str) -> str:
    """The connection that wrote."""
    return unmarked(source).partition("/")[0]


def _words(data: Any) -> str:
    """What a link sent, as text."""
    if isinstance(data, bytes):
        return data.decode("latin-1")
    if isinstance(data, tuple):
        return f"{data[0]:02X}: {data[1].hex().upper()}"
    if isinstance(data, str):
        return data
    return f"{data.arbitration_id:03X}#{data.data.hex().upper()}"


def _explain(error: BaseException) -> str:
    if isinstance(error, FixgwError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
