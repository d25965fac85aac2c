"""`Disk`: writes batches to files, and copes with whatever a disk may do. It runs on a thread of its own."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fixgw.backoff import Backoff
from fixgw.clock import EARLIEST_YEAR
from fixgw.errors import MissingLibrary
from fixgw.plugins.recorder.batch import Batch, Entry, Queue
from fixgw.recording import RecordingError, container
from fixgw.recording.container import KEEP, PART, SUFFIX, Busy, NothingRecorded, Writer

if TYPE_CHECKING:
    from fixgw.plugins.recorder import Plugin

STEP_S = 1.8  # between two writes, each of which ends a chunk, or half of `sync` if that is less
LOOK_S = 10.0  # between looks at the free space
LEAST_FREE = 10_000_000  # bytes that stay free for others,
LEAST_FREE_SHARE = 0.05  # and this part of the disk
PATIENCE_S = 2.0  # a disk that takes longer is in trouble
STATUS_S = 60.0
OURS = re.compile(r"\d{8}-\d{6}-\d+\.mcap")
FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_NUMBER = 10_000  # of recordings that begin in the same second


class Disk:
    """Takes batches from `queue`. `step` is for one thread; `wanted` and `trouble` are for any."""

    def __init__(self, plugin: Plugin, directory: Path, queue: Queue) -> None:
        self._plugin = plugin
        self._options = plugin.options
        self._clock = plugin.clock
        self._log = plugin.log
        self.directory = directory
        self.queue = queue
        #: Seconds between two steps.
        self.period = min(STEP_S, plugin.options.sync / 2)
        #: What is wrong, in a few words.
        self.trouble = ""
        #: Since when the disk has been busy; None if it is not.
        self.busy_since: float | None = None
        #: Whether the next batch must be whole, because something was lost.
        self.wants_whole = False
        self.lost = 0  # batches that could not be written
        self.written = 0  # recordings
        self.deleted = 0
        self.last = ""  # the path of the recording
        self._writer: Writer | None = None
        self._flight = 0
        self._offset: float | None = None
        self._inode = 0
        self._sync_due = self._look_due = self._retry_due = self._status_due = float("-inf")
        self._full = False
        self._backoff = Backoff(1.0, 10.0)
        self.closed = threading.Event()

    @property
    def size(self) -> int:
        writer = self._writer
        return 0 if writer is None else writer.size

    def work(self) -> None:
        """Write until `Plugin.stopping`, then complete what is open."""
        try:
            while not self._plugin.finished.is_set():
                self.step(self.period)
            self.step(0.0)
            self.close()
        finally:
            self.closed.set()

    def step(self, timeout: float) -> None:
        """Wait for batches, and write what is due."""
        for batch in self.queue.take(timeout):
            self._guard(self._take, batch)
        if self._writer is not None:
            self._guard(self._keep_up)

    def close(self) -> None:
        """Complete the recording."""
        self._guard(self._finish)
        self._abandon()

    # -- errors --------------------------------------------------------------------------------------------------------

    def _guard(self, do: Callable[..., None], *arguments: Batch) -> None:
        """Call `do`; whatever the disk answers costs only the recording."""
        self.busy_since = self._clock()
        try:
            do(*arguments)
        except OSError as error:
            self._failed(error)
        except MissingLibrary as error:
            self._complain(str(error))
            self._retry_due = self._clock() + 60.0
        finally:
            self.busy_since = None

    def _failed(self, error: OSError) -> None:
        path = error.filename or self.last or self.directory
        self._complain(f"nothing is recorded: {path}: {error.strerror or error}")
        self.wants_whole = True
        if error.errno in FULL and self._writer is not None:
            self._full = True
            self._look_due = self._clock() + 1.0
        else:
            self._abandon()
            self._retry_due = self._clock() + self._backoff.next()

    def _complain(self, text: str) -> None:
        if text != self.trouble:
            self._plugin.complain("%s", text, about="disk")
        self.trouble = text

    def _well(self) -> None:
        self._backoff.reset()
        if self.trouble:
            self._log.info("recording again")
            self.trouble = ""

    # -- writing -------------------------------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        now = self._clock()
        if self._writer is not None and batch.flight != self._flight:
            self._finish()
        self._offset = batch.offset
        if not batch.flight:
            return
        if self._writer is None:
            if not batch.whole or now < self._retry_due:
                self.wants_whole = self.wants_whole or now >= self._retry_due
                self.lost += 1
                return
            self._open(batch)
        if self._full:
            self.lost += 1
            self.wants_whole = True
            return
        self._add(batch.entries, batch.offset)

    def _add(self, entries: list[Entry], offset: float | None) -> None:
        writer = self._writer
        assert writer is not None
        writer.relate(offset)
        shift = None if offset is None else round(offset * 1e9)
        for topic, data, stamp, encoding in entries:
            writer.write(topic, data, stamp, None if shift is None else stamp + shift, encoding)

    def _open(self, batch: Batch) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._full = not self._make_room()
        if self._full:
            self._retry_due = self._clock() + LOOK_S
            raise OSError(errno.ENOSPC, "the disk is full: 10 MB and 5 % stay free", str(self.directory))
        about, attachments = self._plugin.about(), self._plugin.attachments()
        begin = min((entry.stamp for entry in batch.entries), default=round(batch.at * 1e9)) / 1e9
        for path in self._names(begin):
            try:
                writer = Writer(path, about, attachments)
            except FileExistsError:
                continue
            if path.with_name(path.name.removesuffix(".part")).exists():  # another gateway has just completed it
                writer.abandon()
                path.unlink()
                continue
            break
        else:
            raise OSError(errno.EEXIST, "too many recordings that begin at this second", str(self.directory))
        self._writer, self._flight, self.last = writer, batch.flight, str(path)
        self._inode = path.stat().st_ino
        now = self._clock()
        self._look_due = now + LOOK_S
        self._sync_due = now  # the name must reach the disk, too
        self._status_due = now + STATUS_S
        directory = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._log.info("recording to %s", path)

    def _names(self, begin: float) -> Iterator[Path]:
        stem = self._stem(begin)
        for n in range(1, MAX_NUMBER):
            if not (self.directory / f"{stem}-{n}{SUFFIX}").exists():
                yield self.directory / f"{stem}-{n}{PART}"

    def _stem(self, begin: float) -> str:
        """The date and time of `begin`, which is monotonic; 1970 and the time since the start while the clock is not
        set."""
        try:
            return f"{datetime.fromtimestamp(begin + (self._offset or 0.0), UTC):%Y%m%d-%H%M%S}"
        except (ValueError, OverflowError, OSError):
            return "19700101-000000"

    def _keep_up(self) -> None:
        """Flush, sync and look at the free space, as far as that is due."""
        writer, now = self._writer, self._clock()
        assert writer is not None
        if now >= self._look_due:
            self._look_due = now + LOOK_S
            self._look()
        if self._writer is None or self._full:
            return
        if now >= self._status_due:
            self._status_due = now + STATUS_S
            self._add([Entry(*self._plugin.status_message())], self._offset)
        if now >= self._sync_due:
            self._sync_due = now + self._options.sync - self.period  # we may be late by a step
            writer.sync()
            self._well()
        else:
            writer.flush()

    def _look(self) -> None:
        """Whether there is room, and the file still is where it was."""
        writer = self._writer
        assert writer is not None
        if os.stat(writer.path).st_ino != self._inode:
            raise FileNotFoundError(errno.ENOENT, "the recording has been replaced", str(writer.path))
        room = self._make_room()
        if self._full and room:
            self._full = False
            if writer.finished:
                self._finish()
                return
            writer.sync()
            self.wants_whole = True
            self._well()
        elif not room:
            self._full, self.wants_whole = True, True
            self._complain("nothing is recorded: the disk is full: 10 MB and 5 % stay free")

    def _make_room(self) -> bool:
        """Delete the oldest recordings that are not kept until enough is free; return whether it is."""
        while not self._has_room():
            oldest = next(iter(deletable(self.directory)), None)
            if oldest is None:
                return False
            oldest.unlink(missing_ok=True)
            self.deleted += 1
            self._log.warning("%s was deleted, because the disk is full", oldest)
        return True

    def _has_room(self) -> bool:
        facts = os.statvfs(self.directory)
        return facts.f_bavail * facts.f_frsize >= max(LEAST_FREE, LEAST_FREE_SHARE * facts.f_blocks * facts.f_frsize)

    def _finish(self) -> None:
        writer = self._writer
        if writer is None:
            return
        final = writer.path.with_name(writer.path.name.removesuffix(".part"))
        if self._offset is not None and writer.path.name < str(EARLIEST_YEAR):  # the clock was set meanwhile
            final = self._dated(writer) or final
        self.last = str(writer.finish(self._plugin.summary_of(self._flight), final))
        self._writer, self._full = None, False
        self.written += 1
        self._log.info("recorded %s", self.last)
        self._well()

    def _dated(self, writer: Writer) -> Path | None:
        stem = self._stem(writer.first / 1e9)
        names = (self.directory / f"{stem}-{n}{SUFFIX}" for n in range(1, MAX_NUMBER))
        return next((path for path in names if not path.exists()), None)

    def _abandon(self) -> None:
        writer, self._writer, self._full = self._writer, None, False
        if writer is None:
            return
        empty = not writer.size
        writer.abandon()
        if empty:
            with suppress(OSError):
                writer.path.unlink()


def recordings(directory: Path) -> list[Path]:
    """The finished recordings in `directory`, the oldest first; other people's files are none. Raises OSError."""
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if OURS.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names, key=_order)]


def _order(name: str) -> tuple[str, int]:
    stem, _, number = name.removesuffix(SUFFIX).rpartition("-")
    return stem, int(number)


def deletable(directory: Path) -> list[Path]:
    """The recordings that may be deleted to make room, the oldest first."""
    return [path for path in recordings(directory) if not path.with_name(path.name + KEEP).exists()]


def cut(directory: Path) -> list[Path]:
    """The recordings that nobody is writing, and that are not complete: a loss of power, or a killed gateway."""
    found = []
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            ours = entry.name.endswith(PART) and OURS.fullmatch(entry.name.removesuffix(".part"))
            if ours and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    if not container.locked(directory / entry.name):
                        found.append(directory / entry.name)
    return sorted(found)


def recover_all(directory: Path, each: Callable[[], object]) -> Mapping[str, int]:
    """Complete the recordings that were cut. `each` is called between chunks, and may raise to end this."""
    counts = dict.fromkeys(("recovered", "empty", "not recovered"), 0)
    for part in cut(directory):
        whole = part.with_name(part.name.removesuffix(".part"))
        try:
            if not whole.exists():  # otherwise the power failed after it was recovered
                container.recover(part, each)
            what = "recovered"
            part.unlink()
        except NothingRecorded:
            what = "empty"
            with suppress(OSError):
                part.unlink()
        except Busy:
            continue
        except (RecordingError, OSError):
            what = "not recovered"
        counts[what] += 1
    return counts
