"""Runs the raw data of a capture through the real drivers of a configuration, and gives the list of changes.

One thread, no waiting, and no clock but that of the capture: the same capture has the same outcome, on any machine. A
`fixgw.stepper.Stepper` runs the plugins, whose links take recorded data in place of devices. Plugins that could affect
anything besides the database are left out.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fixgw import configuration as configurations
from fixgw.configuration import Configuration
from fixgw.database import OLD, WRITABLE, Database, Reading, Value
from fixgw.errors import FixgwError, UnknownKey
from fixgw.kit.raw import Event, Feed, Heard, PinLevel
from fixgw.kit.sources import unmarked
from fixgw.plugin import Poller, Worker
from fixgw.recording.capture import Capture, Outside, unpack_configuration
from fixgw.recording.golden import Line, line
from fixgw.stepper import Stepper, Task

__all__ = ["Outcome", "load", "replay"]

REFRESH_S = 0.1  # between two looks at values that others have set

NO_DATA = "the capture has no data of it"


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


def replay(configuration: Configuration, capture: Capture, emit: Callable[[Line], object], sent: bool) -> Outcome:
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
        self.stepper = Stepper(
            configuration,
            capture.start,
            utc=self._utc,
            sent=self._note_sent,
            may_turn=self._may_turn,
            name="replay",
            absent=NO_DATA,
        )
        self.stepper.moving = self._flush
        self.db: Database = self.stepper.db
        self._gathered: defaultdict[str, deque[Heard]] = defaultdict(deque)  # the transfers of a poll so far
        self._lines: list[Line] = []  # of this instant
        self._last: dict[str, tuple[Value, int, str]] = {}
        self._sources: set[str] = set()
        self._others: dict[str, Outside] = {}  # what others have set, by keys that age

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self.stepper.now + (self.capture.offset or 0.0), UTC)

    # -- life ----------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        stepper, outcome = self.stepper, self.outcome
        with stepper.hosting():
            try:
                stepper.start()
                self._note_sources()
                self._set_state()
                self._note_start()
                self._play()
            finally:
                stepper.stop()
        outcome.left_out, outcome.failed = stepper.left_out, stepper.failed
        outcome.silent = sorted(name for name, feed in stepper.feeds.items() if feed.trouble == NO_DATA)
        return outcome

    def _note_sources(self) -> None:
        for connection in self.configuration.connections:
            name = connection.name
            if name not in self.stepper.plugins or name in self.stepper.failed:
                continue
            self.outcome.replayed.append(name)
            links = set(connection.plugin.heard_as(name, self.stepper.plugins[name].options))
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
        now = self.stepper.now
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
        stepper, end = self.stepper, self._start
        stepper.every(REFRESH_S, self._refresh)
        for entry in self.capture.entries():
            at = max(entry.stamp, self._start)
            stepper.pass_until(at)
            self._take(entry)
            stepper.settle()
            end = max(end, at)
        stepper.pass_until(max(end, self.capture.end or end))
        self._flush()
        self.outcome.seconds = stepper.now - self._start

    def _may_turn(self, worker: Worker[Any]) -> bool:
        """Whether a turn makes sense: not if the device is not there, and nothing has changed."""
        feed = self.stepper.feeds.get(worker.name)
        return feed is None or not feed.trouble or not isinstance(worker, Poller) or worker.connected

    # -- what was recorded ---------------------------------------------------------------------------------------------

    def _take(self, entry: Heard | Outside) -> None:
        if isinstance(entry, Outside):
            self._set(entry)
            return
        connection, _, direction, data = entry
        feed = self.stepper.feeds.get(connection)
        task = self.stepper.tasks.get(connection)
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
                self.stepper.turn(connection)
            feed.held_up = direction == "discarded"
            feed.entries.append(entry)
            self.stepper.turn(connection)

    def _take_event(self, entry: Heard, feed: Feed, task: Task | None, event: Event) -> None:
        gathered = self._gathered.pop(entry.connection, None) if event.link == "chip" else None
        if event.what == "polled" or event.what == "opened":
            if event.link == "pins":
                feed.polled = frozenset(int(pin) for pin in event.detail.split(",") if pin.isdigit())
            if event.what == "opened" and task is not None and _connected(task):
                return  # told again
            feed.trouble = ""
            feed.entries.extend(gathered or ())
            self.stepper.turn(entry.connection)
        elif event.what == "lost":
            if gathered and task is not None and _connected(task):
                feed.entries.extend(gathered)
                self.stepper.turn(entry.connection)
            feed.trouble = event.detail or "lost"
            feed.entries.clear()
            if task is not None and (_connected(task) or not getattr(task.worker, "_outage", False)):
                self.stepper.turn(entry.connection)

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
        self._lines.append(line(self.stepper.now - self._start, key, value, flags, source))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        lines.sort(key=lambda each: each.key)
        self.outcome.changes += len(lines)
        for each in lines:
            self._emit(each)


def _connected(task: Task) -> bool:
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
