"""Records flights: every value with its flags and source, alerts and status, in files that survive a loss of power.

connections:
  recorder: {module: fixgw.plugins.recorder, directory: /var/lib/fixgw/recordings}
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from fixgw import __version__, plugin
from fixgw.clock import EARLIEST_YEAR, now
from fixgw.database import NEVER, Database
from fixgw.errors import PluginFail, UnknownKey
from fixgw.identity import identity
from fixgw.kit.phases import Phases
from fixgw.plugin import Finding, Worker
from fixgw.plugins.recorder.batch import Batch, Entry, Queue
from fixgw.plugins.recorder.capture import Capture
from fixgw.plugins.recorder.disk import PATIENCE_S, Disk, recover_all
from fixgw.plugins.recorder.gathering import Gatherer, Summary
from fixgw.plugins.recorder.settings import readable
from fixgw.recording import flight, layout
from fixgw.recording.container import DEFINITIONS, VARIABLES

PIECE_S = 20.0  # of what is kept in memory while the engine is off; each piece begins with the state of all keys
PIECE_BYTES = 1 << 20  # a piece that is larger is ended earlier,
PIECES = 6  # and more are not kept: raw data may be plenty
BEFORE_S = 60.0  # before the engine starts
AFTER_S = 60.0  # after it stops
PHASE_S = 1.0  # between two looks at the phase of flight
CLOCK_S = 5.0  # between two looks at the wall clock
TIME_S = 10.0  # between two notes of what UTC it is,
TIME_STEP_S = 0.1  # or whenever the clock has gone wrong by this much
RECOVERY_PAUSE_S = 0.01  # between two chunks
DISK_STOP_S = 2.0  # for the disk to take the rest


class Options(plugin.Options, frozen=True, kw_only=True):
    """Options of the `recorder` plugin."""

    directory: Annotated[
        str, Meta(description="Where the recordings go; default: `recordings` in the state directory")
    ] = ""
    keys: Annotated[tuple[str, ...], Meta(min_length=1, description="Keys, or patterns of keys, to record")] = ("*",)
    always: Annotated[bool, Meta(description="Record all the time, not only while the engine runs")] = False
    engine: Annotated[str, Meta(description="Key that says in rpm whether the engine runs")] = "TACH1"
    batch: Annotated[float, Meta(ge=0.02, le=1.0, description="Seconds between two values of a key, at least")] = 0.25
    sync: Annotated[float, Meta(ge=1.0, le=60.0, description="Seconds that a loss of power may cost")] = 5.0
    max_minutes: Annotated[float, Meta(ge=1.0, le=600.0, description="After this time a new file begins")] = 60.0
    raw: Annotated[bool, Meta(description="Record the bytes and frames that the drivers read, too")] = False


class Piece(NamedTuple):
    """A part of what is kept in memory: the state when it began, and the changes since."""

    began: float
    whole: list[Entry]
    changes: list[Entry]


class Plugin(Worker[Options]):
    """Gathers on its own thread. Another, the `Disk`, writes, so that nothing here ever waits for one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = self.db.clock
        given = self.options.directory
        base = Path(self.config.get(plugin.CONFIGPATH, ""))
        self.directory = base / Path(given).expanduser() if given else flight.default_directory()
        #: Set when nothing more will be gathered.
        self.finished = threading.Event()
        self.queue = Queue()
        self.disk = Disk(self, self.directory, self.queue)
        #: A file with the raw data of all links, on request.
        self.capture = Capture(self)
        self._gatherer: Gatherer | None = None
        self._phases = Phases()
        self._pieces: deque[Piece] = deque()
        self._piece_size = 0  # bytes of the changes in the last piece
        self._flight = 0  # the number of the recording; 0 while there is none
        self._flights = 0
        self._began = 0.0
        self._stopped_at: float | None = None
        self._phase_due = self._time_due = NEVER
        #: UTC minus the monotonic time, in seconds; None while nobody knows it.
        self.offset: float | None = None
        self._look_at = NEVER  # when we looked at the wall clock
        self._noted_offset: float | None = None
        self._summaries: dict[int, Summary] = {}
        #: What distinguishes this run of the computer from others.
        self.boot = _boot()
        self._recovery: Mapping[str, int] = {}
        self._threads: list[threading.Thread] = []

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        for n, pattern in enumerate(options.keys):
            try:
                db.matching(pattern)
            except UnknownKey as error:
                yield f"keys.{n}", str(error)
        if options.engine in db and db.item(options.engine).type not in ("float", "int"):
            yield "engine", f"{options.engine} has the type {db.item(options.engine).type}; expected a number"

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if options.engine not in db and not options.always:
            yield "engine", f"{UnknownKey(options.engine, db)}: it is recorded all the time"

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Finding]:
        if util.find_spec("mcap") is None:
            yield Finding("problem", "the library mcap is not installed", "fixgw install-extra record")

    def run(self) -> None:
        if self.replaying:
            self.done("a replay is not recorded")
            return
        self.begin()
        self.offer("capture", self.capture.command)
        self._threads = [
            threading.Thread(target=self.disk.work, name=f"{self.name} disk", daemon=True),
            threading.Thread(target=self._recover, name=f"{self.name} recovery", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        super().run()

    def begin(self) -> None:
        """Gather from now on. `run` calls this."""
        keys = self.db.matching(*self.options.keys)
        self._gatherer = Gatherer(self.db, keys, self.options.engine, self.options.raw, self.log)
        self._gateway.alert_listeners[self._gatherer.heard_alert] = None

    def work(self) -> None:
        due = self.clock()
        while not self.stopping.is_set():
            self.step()
            self.show_life()
            due += self.options.batch
            late = self.clock() - due
            if late > 0:
                due += late
            self.stopping.wait(max(0.001, -late))

    def finish(self) -> None:
        """Pass on the rest. The gathering thread calls this last."""
        gatherer = self._gatherer
        try:
            if gatherer is not None:
                self._gateway.alert_listeners.pop(gatherer.heard_alert, None)
                if self._flight:
                    self.step()
                    self._end()
                gatherer.close()
        finally:
            self.finished.set()
            self.queue.wake()

    def stop(self) -> None:
        self.capture.stop()
        super().stop()
        self.finished.set()
        self.queue.wake()
        if self._threads and not self.disk.closed.wait(DISK_STOP_S):
            raise PluginFail(f"{self.disk.last or self.directory}: the disk does not answer; the end is not recorded")

    def health(self) -> str:
        since = self.disk.busy_since
        troubles = [super().health()]
        if self.running and since is not None and (seconds := self.clock() - since) > PATIENCE_S:
            troubles.append(f"the disk has not answered for {seconds:.0f} s")
        troubles.append(self.disk.trouble)
        if self._gatherer is not None and (why := self._gatherer.raw_trouble):
            troubles.append(f"raw data is not recorded: {why}")
        return "; ".join(filter(None, troubles))

    def get_status(self) -> Mapping[str, Any]:
        disk, gatherer = self.disk, self._gatherer
        status: dict[str, Any] = {
            "recording": disk.last if self._flight else "waits for the engine",
            "flight phase": self._phases.phase,
            "bytes": disk.size,
            "recordings completed": disk.written,
            "batches lost": self.queue.lost + disk.lost,
            "recordings deleted": disk.deleted,
            **{f"{what} after a loss of power": n for what, n in self._recovery.items() if n},
            **self.counts,
        }
        if capture := self.capture.status():
            status["capture"] = capture
        if gatherer is not None and self.options.raw:
            status["raw reads lost"] = gatherer.raw_lost
        return status

    # -- gathering -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Gather what has changed, and pass it on. `work` calls this repeatedly; a test may, with its own clock."""
        gatherer = self._gatherer
        assert gatherer is not None
        now = self.clock()
        entries = [*self._note_time(now), *gatherer.gather(now)]
        self._note_summary(now, entries)
        if self._is_wanted(now):
            rotate = now - self._began >= 60.0 * self.options.max_minutes
            if not self._flight or rotate:
                self._enter_flight(now, entries, gatherer)
            else:
                whole, self.disk.wants_whole = self.disk.wants_whole, False
                if whole:
                    entries += [self._time_entry(now), *gatherer.whole(now)]
                self._pass_on(Batch(self._flight, now, self.offset, entries, whole))
        elif self._flight:
            self._pass_on(Batch(self._flight, now, self.offset, entries))
            self._end()
        else:
            self._keep_in_memory(now, entries, gatherer)

    def _is_wanted(self, now: float) -> bool:
        """Whether to record now."""
        assert self._gatherer is not None
        if now >= self._phase_due or now < self._phase_due - PHASE_S:
            self._phase_due = now + PHASE_S
            self._phases.step(now, self._gatherer.flight())
        if self._phases.phase != "off":
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = now if self._flight else NEVER
        return self.options.always or self._stopped_at is None or now - self._stopped_at < AFTER_S

    def _enter_flight(self, now: float, entries: list[Entry], gatherer: Gatherer) -> None:
        """Begin a recording: with what is in memory, or else with the state of all keys now."""
        if self._flight:
            self._pass_on(Batch(self._flight, now, self.offset, entries))
            entries = []
        if self._pieces:
            begin = self._pieces[0].whole + [e for piece in self._pieces for e in piece.changes] + entries
        else:
            begin = [*gatherer.whole(now), *entries]
        self._pieces.clear()
        self._flights += 1
        self._flight, self._began = self._flights, now
        self._summaries[self._flight] = Summary(lambda: gatherer.simulated, self._phases.phase)
        self._summaries.pop(self._flight - 5, None)
        self._pass_on(Batch(self._flight, now, self.offset, [self._time_entry(now), *begin], True))

    def _end(self) -> None:
        self._flight = 0
        self._pass_on(Batch(0, self.clock(), self.offset, []))
        self.queue.wake()

    def _pass_on(self, batch: Batch) -> None:
        if self.queue.put(batch):
            self.disk.wants_whole = True
            self.complain("the disk is too slow: %d batches are lost", self.queue.lost, about="queue")

    def _keep_in_memory(self, now: float, entries: list[Entry], gatherer: Gatherer) -> None:
        """Keep the last minute, and a little more, because it is dropped a piece at a time."""
        pieces = self._pieces
        if pieces:
            pieces[-1].changes.extend(entries)
            self._piece_size += sum(len(entry.data) for entry in entries)
        if not pieces or not 0 <= now - pieces[-1].began < PIECE_S or self._piece_size > PIECE_BYTES:
            pieces.append(Piece(now, gatherer.whole(now), []))
            self._piece_size = 0
        while len(pieces) > PIECES or (len(pieces) > 1 and not 0 <= now - pieces[1].began < BEFORE_S):
            pieces.popleft()

    def _note_time(self, now: float) -> list[Entry]:
        """Look at the wall clock. Returns a message now and then, and when the clock was set or stepped."""
        if self._look_at <= now < self._look_at + CLOCK_S:
            return []
        self._look_at = now
        utc = self._gateway.utc()
        self.offset = utc.timestamp() - now if utc.year >= EARLIEST_YEAR else None
        before, after = self._noted_offset, self.offset
        stepped = before is not after and (before is None or after is None or abs(after - before) > TIME_STEP_S)
        if not stepped and self._time_due - TIME_S <= now < self._time_due:
            return []
        return [self._time_entry(now)]

    def _time_entry(self, now: float) -> Entry:
        self._time_due, self._noted_offset = now + TIME_S, self.offset
        utc = None if self.offset is None else now + self.offset
        return Entry(layout.TIME, layout.encode({"monotonic": now, "utc": utc, "boot": self.boot}), round(now * 1e9))

    def _note_summary(self, now: float, entries: list[Entry]) -> None:
        summary = self._summaries.get(self._flight)
        if summary is not None:
            summary.note_phase(self._phases.phase, now)
            for entry in entries:
                if entry.topic == layout.ALERTS:
                    summary.note_alert(layout.decode(entry.data))

    # -- for the disk --------------------------------------------------------------------------------------------------

    def about(self) -> dict[str, str]:
        """Facts for the beginning of a recording."""
        facts = {
            "version": __version__,
            "host": socket.gethostname(),
            "boot": self.boot,
            "gateway": identity(self.db),
            "ident": _text(self.db, "ACID"),
            "engine hours": _text(self.db, "HOBBS1"),
            "simulated": "true" if self._gatherer is not None and self._gatherer.simulated else "false",
        }
        return {name: text for name, text in facts.items() if text}

    def attachments(self) -> dict[str, bytes]:
        """The definitions of the keys, and the files of the configuration."""
        definitions = {
            item.key: {
                "units": item.units,
                "description": item.description,
                "type": item.type,
                "min": item.min,
                "max": item.max,
            }
            for item in self.db.items()
        }
        files = {DEFINITIONS: layout.encode(definitions)}
        if configuration := self._gateway.configuration():
            files = {**readable(configuration.files), **files}
            if configuration.variables:
                files[VARIABLES] = layout.encode(dict(configuration.variables))
        return files

    def status_message(self) -> tuple[str, bytes, int]:
        """The status tree of the gateway."""
        return layout.STATUS, layout.encode(self._gateway.status()), round(self.clock() * 1e9)

    def summary_of(self, flight: int) -> dict[str, str]:
        summary = self._summaries.get(flight)
        return {} if summary is None else summary.facts()

    # -- after a loss of power -----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Complete what was cut, at the lowest priority."""
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        try:
            self._recovery = recover_all(self.directory, self._give_way)
        except _Stopped:
            return
        except Exception as error:  # the recording goes on, whatever it is
            self.log.warning("what a loss of power has cut cannot be completed: %s", error)
        if self._recovery.get("recovered"):
            self.log.info("completed %d recordings that were cut", self._recovery["recovered"])

    def _give_way(self) -> None:
        if self.stopping.wait(RECOVERY_PAUSE_S):
            raise _Stopped


class _Stopped(BaseException):
    """The gateway stops."""


def _text(db: Database, key: str) -> str:
    if key not in db:
        return ""
    reading = db.read(key)
    return "" if reading.stamp == NEVER else str(reading.value)


def _boot() -> str:
    """What distinguishes this run of the computer from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{socket.gethostname()} {now():.0f}"
