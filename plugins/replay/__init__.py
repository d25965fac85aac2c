"""Plays recordings into the database, marked as replayed: for displays, for training, to look at a flight again.

connections:
  replay: {module: fixgw.plugins.replay, files: ["~/flights/20260516-140000-1.mcap"], loop: yes}
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from fixgw import plugin
from fixgw.clock import LATE_S
from fixgw.database import FAIL, FLAG_NAMES, OLD, WRITABLE, Database, Item
from fixgw.errors import BadValue, counted
from fixgw.kit.sources import path_of, simulated
from fixgw.plugin import Finding, Worker
from fixgw.plugins.replay.player import BREAK_S, Player, moment
from fixgw.recording import Change, Recording, RecordingError, flight, open_recording

MARK = "replay"
LONGEST_STEP_S, SHORTEST_STEP_S = 0.5, 0.005
RETRY_S = 5.0  # while no recording can be read
QUIT_S = 5.0  # after the end
SPEEDS = 0.01, 1000.0
MAX_UNKNOWN = MAX_SOURCES = 1000
ENDED = "the recording has ended"
IN_RECORDING = "in the recording"


class Options(plugin.Options, frozen=True, kw_only=True):
    """Options of the `replay` plugin."""

    files: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...] | str,
        Meta(
            description="The recordings to play, in this order: files of the recorder, or of the incumbent's recorder"
        ),
    ]
    loop: Annotated[bool, Meta(description="Begin again at the end, for ever")] = False
    quit: Annotated[bool, Meta(description="Stop the gateway 5 s after the end")] = False
    speed: Annotated[float, Meta(ge=SPEEDS[0], le=SPEEDS[1], description="How fast it plays; 2 is twice as fast")] = 1.0
    start: Annotated[
        str,
        Meta(description="Where to begin: 2026-05-16T14:00:00 in local time, or 10:00, minutes from the beginning"),
    ] = ""
    longest_gap: Annotated[
        float, Meta(gt=0, le=86400, description="Seconds. A gap in the recording that is longer is shortened to this")
    ] = 10.0
    utc_offset: Annotated[
        Annotated[float, Meta(ge=-14, le=14)] | None,
        Meta(
            description="Hours that the local time of a recording of the incumbent is ahead of UTC; by default it is "
            "the local time of this computer",
        ),
    ] = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.files,) if isinstance(self.files, str) else self.files

    @property
    def zone(self) -> timezone | None:
        return None if self.utc_offset is None else timezone(timedelta(hours=self.utc_offset))


class Plugin(Worker[Options]):
    """Plays in real time by the gateway's clock. Commands and the status: `fixgw playback`."""

    join_timeout: ClassVar[float] = 10.0  # going to a place in a long recording may take seconds
    initial_trouble = "opening the recording"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts |= dict.fromkeys(("values", "refused values"), 0)
        self.clock = self.db.clock
        self._zone = self.options.zone
        self._folder = Path(self.config.get(plugin.CONFIGPATH, ""))
        self._player = Player(self.options.names, self._open_recording, self.options.longest_gap)
        self._state: Literal["opening", "playing", "paused", "ended"] = "opening"
        self._paused = False
        self._speed = self.options.speed
        self._wanted: list[Callable[[], None]] = []  # commands for the plugin's thread
        self._wake = threading.Event()
        self._last = self._planned_s = 0.0
        self._retry_at, self._quit_at = float("-inf"), float("inf")
        self._shown: dict[str, tuple[Change, Item]] = {}  # what the recording says now, by key
        self._unknown: set[str] = set()
        self._sources: dict[str, str] = {}
        self._ranked: list[Item] = []
        self._mark = MARK
        self._ended_at: float | None = None

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if not options.names:
            yield "files", "there is nothing to play: name at least one recording"
        if options.loop and options.quit:
            yield "quit", "with `loop` the recording never ends"
        if options.start:
            try:
                moment(options.start, 0.0, 0.0, options.zone)
            except ValueError as error:
                yield "start", str(error)

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Finding]:
        for name in options.names:
            path = Path(name).expanduser()
            try:
                missing = path.is_absolute() and not path.exists()
                if len(path.parts) == 1 and not path.suffix:
                    flight.find(name, flight.directories)
            except RecordingError as error:
                yield Finding("problem", str(error))
            else:
                if missing:
                    yield Finding("problem", f"{name} does not exist")

    def run(self) -> None:
        self.begin()
        super().run()

    def wake(self) -> None:
        self._wake.set()

    def get_status(self) -> Mapping[str, Any]:
        about = self._player.about
        return {
            "state": self._state,
            "file": str(about.path) if about else None,
            "position": self._shown_time(self._player.position) if about else None,
            "end": self._shown_time(about.end) if about else None,
            "speed": self._speed,
            "keys": len(self._shown),
            "unknown keys": len(self._unknown),
            **({"lost pieces": about.lost} if about and about.lost else {}),
            **({"unreadable": list(self._player.trouble.values())} if self._player.trouble else {}),
            **self.counts,
        }

    # -- commands, on any thread ---------------------------------------------------------------------------------------

    def command(self, words: str) -> str:
        """Do what a client asks: ``pause``, ``resume``, ``speed 2``, ``seek +30``. Returns why not, or empty text."""
        verb, _, rest = words.strip().partition(" ")
        rest = rest.strip()
        if verb in ("pause", "resume") and not rest:
            self._wanted.append(self._pause if verb == "pause" else self._resume)
        elif verb == "speed":
            try:
                speed = float(rest)
            except ValueError:
                return f"{rest!r} is not a number"
            if not SPEEDS[0] <= speed <= SPEEDS[1]:
                return f"the speed is {SPEEDS[0]:g} to {SPEEDS[1]:g}"
            self._speed = speed
        elif verb == "seek":
            if self._state == "opening":
                return "the recording is not open yet"
            try:
                time = moment(rest, self._player.begin, self._player.position, self._zone)
            except ValueError as error:
                return str(error)
            self._wanted[:] = [lambda: self._seek(time)]
        else:
            return "expected `pause`, `resume`, `speed N` or `seek TIME`"
        self._wake.set()
        return ""

    def _pause(self) -> None:
        self._paused = True

    def _resume(self) -> None:
        self._paused = False
        if self._state == "ended":
            self._seek(None)

    # -- playing, on the plugin's thread -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Get ready to play. `run` calls this."""
        if not simulated(self.source):
            self.source = f"{MARK}/{self.source}"
        self._mark = self.source.partition("/")[0]
        self._last = self.clock()
        self.offer("playback", self.command)

    def work(self) -> None:
        while not self.stopping.is_set():
            wait = self.step()
            self.show_life()
            self._wake.wait(wait)
            self._wake.clear()

    def step(self) -> float:
        """Play what is due. Returns the seconds until the next step. `work` calls this repeatedly; a test may."""
        now = self.clock()
        passed, self._last = now - self._last, now
        if passed > self._planned_s + LATE_S:  # the process was held up: go on where it was
            self.count("held up")
            passed = self._planned_s
        if self._state == "opening":
            self._open(now)
        while self._wanted:
            self._wanted.pop(0)()
        if self._state not in ("opening", "ended"):
            self._play(0.0 if self._paused else passed * self._speed)
        if self._state == "ended" and self.options.quit and now >= self._quit_at:
            self._quit_at = float("inf")
            self.quit()
        self._planned_s = self._plan()
        return self._planned_s

    def _open_recording(self, name: str) -> Recording:
        """Open a file, beside the configuration if its path is not absolute, or a recording of `fixgw flights`."""
        path = self._folder / Path(name).expanduser()
        if not path.exists():
            path = flight.find(name, flight.directories)
        return open_recording(path, self._zone)

    def _plan(self) -> float:
        if self._state == "opening":
            return RETRY_S if self._retry_at > self.clock() else SHORTEST_STEP_S
        wait = LONGEST_STEP_S
        if self._state == "playing":
            wait = min(wait, max(self._player.due_in / self._speed, SHORTEST_STEP_S))
        if self._held and self._shown:
            wait = min(wait, max(min(item.tolerance or 1.0 for _, item in self._shown.values()) / 3, 0.02))
        return wait

    @property
    def _held(self) -> bool:
        """Whether the recording's time passes slower than the gateway's, which would let good values become old."""
        return self._paused or self._speed < 1.0

    def _open(self, now: float) -> None:
        if now >= self._retry_at:
            start = self.options.start
            self._seek(None)
            if start and self._state != "opening":
                self._seek(moment(start, self._player.begin, self._player.begin, self._zone))

    def _seek(self, time: float | None) -> None:
        """Go to `time`, or to the beginning."""
        self.alive = None  # a long recording takes a while: that is no hung thread
        longest = max((item.tolerance for item in self.db.items()), default=0.0)
        try:
            state = self._player.seek(time, longest + 1.0)
        except RecordingError as error:
            self._state, self._retry_at = "opening", self.clock() + RETRY_S
            self._trouble = str(error)
            self.complain("%s; trying again", error)
            self._let_go(str(error))
            return
        finally:
            self._last = self.clock()
            self.show_life()
        for reason in self._player.trouble.values():
            self.log.warning("left out: %s", reason)
        self._ended_at = None
        at = self._player.position
        with self.db.batch:
            self._let_go("not in the recording at this time", state)
            self._write_all(state, at)
        self._settle()

    def _play(self, seconds: float) -> None:
        changes = self._player.advance(seconds)
        now = self.clock()
        with self.db.batch:
            self._write_all(changes)
            if self._held:
                self._hold(now)
        if not self._player.ended:
            self._ended_at = None
        elif self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= BREAK_S:
            if self.options.loop:
                self._seek(None)
            else:
                self._quit_at = self._ended_at + QUIT_S
                self._let_go(ENDED)
        self._settle()

    def _settle(self) -> None:
        """Say how it is."""
        ended = self._ended_at is not None and not self._shown and not self.options.loop
        self._state = "ended" if ended else "paused" if self._paused else "playing"
        troubles = list(self._player.trouble.values())
        self._trouble = (
            ENDED
            if ended
            else f"paused at {self._shown_time(self._player.position)}"
            if self._paused
            else f"left out: {'; '.join(troubles)}"
            if troubles
            else ""
        )

    def _shown_time(self, time: float) -> str:
        about = self._player.about
        if about is None or not about.dated:
            return f"{time:.1f} s"
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    # -- the database --------------------------------------------------------------------------------------------------

    def _write_all(self, changes: Mapping[str, Change], at: float | None = None) -> None:
        """Write changes; with `at`, as they were at that time."""
        unknown = []
        for key, change in changes.items():
            if key not in self.db:
                if key not in self._unknown and len(self._unknown) < MAX_UNKNOWN:
                    self._unknown.add(key)
                    unknown.append(key)
                continue
            item = self.db.item(key)
            overdue = at is not None and item.tolerance > 0 and at - change.time >= item.tolerance
            self._shown[key] = change, item
            self._write(change, item, "old in the recording" if overdue else "")
        if unknown:
            names = ", ".join(unknown[:10]) + (" ..." if len(unknown) > 10 else "")
            self.log.warning("%s of the recording not defined here: %s", counted(len(unknown), "key"), names)

    def _write(self, change: Change, item: Item, old: str = "") -> None:
        source, flags = self._source_of(change), change.flags
        reasons = {bit: change.reasons.get(name) or IN_RECORDING for bit, name in FLAG_NAMES.items() if bit & flags}
        old = old or reasons.get(OLD, "")
        said = item.said
        if change.value is None or (old and said.source == source and said.value == change.value):
            # Not written again: that would make it younger than it is.
            if change.value is None and not flags & (OLD | FAIL):
                old = "no value in the recording"
            if said.source in ("", source) or item.rank(source) is not None:
                item.flag(flags & WRITABLE, WRITABLE, source, IN_RECORDING)
                if old:
                    item.flag(OLD, OLD, source, old)
        else:
            if item.ranked and item.rank(source) is None:  # a real source goes first
                item.rank_sources((*item.sources, self._mark))
                self._ranked.append(item)
            try:
                item.write(change.value, source, flags, IN_RECORDING, old=old)
            except BadValue as error:
                self.count("refused values")
                self.complain("%s", error, about=item.key)
                item.fail(str(error), source)
                return
            self.count("values")
        for bit, text in reasons.items():
            if text != IN_RECORDING and bit != OLD:
                item.flag(bit, bit, source, text)

    def _hold(self, now: float) -> None:
        """Write again what is not old in the recording's time, but would become old in the gateway's."""
        position = self._player.position
        for change, item in self._shown.values():
            if (
                item.tolerance
                and change.value is not None
                and not change.flags & OLD
                and position - change.time < item.tolerance
                and item.said.age(now) >= item.tolerance / 3
            ):
                self._write(change, item)

    def _let_go(self, reason: str, but: Container[str] = ()) -> None:
        """Make old what the recording says no more: all keys that were shown, but not those."""
        for key in [key for key in self._shown if key not in but]:
            change, item = self._shown.pop(key)
            source = self._source_of(change)
            if item.said.source == source or item.rank(source) is not None:
                item.flag(OLD, OLD, source, reason)

    def _source_of(self, change: Change) -> str:
        """The source of what is replayed. Without the gateways that it came through: it may be sent to them."""
        if not change.source:
            return self.source
        known = self._sources.get(change.source)
        if known is None:
            parts = [part for part in change.source.split("/") if not path_of(part)]
            known = "/".join(parts if parts[:1] == [self._mark] else [self._mark, *parts])
            if len(self._sources) < MAX_SOURCES:
                self._sources[change.source] = known
        return known

    def finish(self) -> None:
        self._let_go("the replay was stopped")
        for item in self._ranked:
            item.rank_sources(source for source in item.sources if source != self._mark)
        self._player.close()
