"""Records the values of keys in the incumbent's files: lines of JSON, a file for each hour.

connections:
  fdr: {module: fixgw.plugins.data_recorder, key_prefixes: all, frequency: 500, filepath: "{CONFIG}/../fdr"}
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from fixgw import plugin
from fixgw.backoff import Backoff
from fixgw.clock import EARLIEST_YEAR
from fixgw.database import NEVER, Database, Mailbox, Reading
from fixgw.errors import did_you_mean
from fixgw.plugin import Worker
from fixgw.recording.incumbent import header, hour_file, line

ALL = "all"
STEP_S = 2.0  # the wall clock may differ by this much from the lines; beyond that, a new start has the right time
FILLED = 10  # so many missed intervals are filled with empty lines; after more of them, a new start follows
LEAST_FREE = 10_000_000  # bytes that stay free for others
PATIENCE_S = 2.0  # a disk that takes longer is in trouble
NO_CLOCK = "the clock has not been set"


class Options(plugin.Options, frozen=True):
    """Options of the `data_recorder` plugin."""

    filepath: Annotated[str, Meta(min_length=1, description="Directory of the files YYYY/MM/DD/YYYY-MM-DD.HH.json")]
    key_prefixes: Annotated[
        str | tuple[str, ...],
        Meta(description="`all`, or the beginnings of the keys to record: CHT records CHT11 and CHTMAX1"),
    ] = ALL
    frequency: Annotated[int, Meta(ge=10, le=3_600_000, description="Milliseconds between two lines")] = 500
    sync: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds of recording that a loss of power may cost; 0 syncs each line")
    ] = 5.0


class Plugin(Worker[Options]):
    """Writes a line at each interval, with the last value of each key that was written in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts |= dict.fromkeys(("starts", "lines", "failed writes"), 0)
        #: The time of day with its zone. A test may replace it.
        self.wall: Callable[[], datetime] = lambda: self.utc().astimezone()
        self.clock = self.db.clock
        self.folder = Path(self.config.get(plugin.CONFIGPATH, ""), Path(self.options.filepath).expanduser())
        self._interval_s = self.options.frequency / 1000.0
        self._keys: list[str] = []
        self._mailbox: Mailbox | None = None
        self._file: _File | None = None
        self._began = datetime.min  # the time of the last header,
        self._n = 0  # and the number of lines since then
        self._due = self._sync_due = self._retry_due = NEVER
        self._backoff = Backoff(1.0, 10.0)
        self._busy_since: float | None = None

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if isinstance(options.key_prefixes, str):
            prefixes = {"key_prefixes": options.key_prefixes} if options.key_prefixes != ALL else {}
        else:
            prefixes = {f"key_prefixes.{n}": prefix for n, prefix in enumerate(options.key_prefixes)}
            if not prefixes:
                yield "key_prefixes", "nothing is recorded: the list is empty"
        for where, prefix in prefixes.items():
            if not any(key.startswith(prefix) for key in db):
                yield where, f"no key begins with {prefix}{did_you_mean(prefix, list(db))}"

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        return [(f"the recordings in {os.path.normpath(options.filepath)}", "filepath")]

    def run(self) -> None:
        self.begin()
        super().run()

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            if self._mailbox is not None:
                self._mailbox.close()

    def health(self) -> str:
        since = self._busy_since
        if self.running and since is not None and (seconds := self.clock() - since) > PATIENCE_S:
            return f"the disk has not answered for {seconds:.0f} s"
        return super().health()

    def get_status(self) -> Mapping[str, Any]:
        file = self._file
        return {"keys": len(self._keys), "file": str(file.path) if file else None, **self.counts}

    # -- recording -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Gather from now on. `run` calls this."""
        prefixes = self.options.key_prefixes
        prefixes = (prefixes,) if isinstance(prefixes, str) else prefixes
        self._keys = [key for key in self.db if prefixes == (ALL,) or key.startswith(prefixes)]
        self._mailbox = self.db.mailbox(self._keys)

    def work(self) -> None:
        while not self.stopping.is_set():
            self.step()
            self.show_life()
            self.stopping.wait(min(1.0, max(0.0, self._due - self.clock())))
        if self._file is not None:
            self._attempt(self._write_last)

    def step(self) -> None:
        """Write what is due. `work` calls this repeatedly; a test may, with its own clock."""
        now = self.clock()
        if now < self._due or now < self._retry_due:
            return
        self._attempt(self._write_due)

    def _attempt(self, write: Callable[[], None]) -> None:
        """Call `write`; if the disk is in trouble, say so, and try again later. A slow disk is no hung thread."""
        self._busy_since, self.alive = self.clock(), None
        try:
            write()
        except OSError as error:
            self._close()
            path = getattr(error, "filename", None) or self.folder
            self._trouble = f"nothing is recorded: {path}: {error.strerror or error}"
            self.count("failed writes")
            self.complain("%s", self._trouble)
            self._retry_due = self.clock() + self._backoff.next()
        else:
            self._backoff.reset()
        finally:
            self._busy_since = None

    def _write_due(self) -> None:
        assert self._mailbox is not None
        now, wall = self.clock(), self.wall()
        missed = int((now - self._due) / self._interval_s) if self._file is not None else 0
        shown = self._began + timedelta(seconds=(self._n + missed) * self._interval_s)
        if (
            self._file is None
            or missed > FILLED
            or self._file.hour != _hour(wall)
            or abs((wall - shown).total_seconds()) > STEP_S
        ):
            self._start(now, wall)
        else:
            readings = self._mailbox.wait(0.0)
            for _ in range(missed):
                self._write({})
            self._write(readings)
            self._n += missed + 1
            self._due += (missed + 1) * self._interval_s
        self._trouble = NO_CLOCK if wall.year < EARLIEST_YEAR else ""
        if now >= self._sync_due:
            self._sync()
            self._sync_due = now + self.options.sync

    def _write_last(self) -> None:
        assert self._mailbox is not None
        if readings := self._mailbox.wait(0.0):
            self._write(readings)
        self._sync()
        self._close()

    def _start(self, now: float, wall: datetime) -> None:
        """Write a header and a line with all keys, into the file of this hour."""
        assert self._mailbox is not None
        path = hour_file(self.folder, wall)
        if self._file is None or self._file.path != path:
            self._close()
            self._file = _File(path)
        self._file.hour = _hour(wall)
        self._file.write(header(wall, self.options.frequency))
        self._mailbox.wait(0.0)
        self._write({key: self.db.read(key) for key in self._keys})
        self._began, self._n, self._due = wall, 1, now + self._interval_s
        self.count("starts")

    def _write(self, readings: Mapping[str, Reading]) -> None:
        assert self._file is not None
        self._file.write(line({key: (reading.value, reading.flags) for key, reading in readings.items()}))
        self.count("lines")

    def _sync(self) -> None:
        assert self._file is not None
        self._file.sync()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def finish(self) -> None:
        self._close()


def _hour(wall: datetime) -> tuple[int, ...]:
    """What is the same for all lines of an hour. In autumn an hour comes twice, with another offset."""
    offset = wall.utcoffset()
    return wall.year, wall.month, wall.day, wall.hour, int(offset.total_seconds()) if offset else 0


class _File:
    """An open file of an hour, which no other process writes. Raises OSError, with the name of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hour: tuple[int, ...] = ()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = os.fstat(self._number).st_size
            # A loss of power may have cut the last line.
            self._torn = self._size > 0 and os.pread(self._number, 1, self._size - 1) != b"\n"
            self._check()
            _sync_folders(path)
        except BlockingIOError:
            os.close(self._number)
            raise OSError(errno.EBUSY, "another process records into it", str(path)) from None
        except OSError as error:
            os.close(self._number)
            raise OSError(error.errno, error.strerror, str(path)) from None

    def write(self, data: bytes) -> None:
        """Append a line, all of it or nothing."""
        data = b"\n" + data if self._torn else data
        try:
            written = os.write(self._number, data)
            if written < len(data):
                os.ftruncate(self._number, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._torn = False
        self._size += written

    def sync(self) -> None:
        """Bring all lines to the disk, and see whether the file is still there."""
        try:
            os.fsync(self._number)
            self._check()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _check(self) -> None:
        here, there = os.fstat(self._number), os.stat(self.path)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise OSError(errno.ENOENT, "the file has been replaced")
        space = os.fstatvfs(self._number)
        if space.f_bavail * space.f_frsize < LEAST_FREE:
            raise OSError(errno.ENOSPC, f"less than {LEAST_FREE // 1_000_000} MB are free")

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._number)


def _sync_folders(path: Path) -> None:
    """Bring the names of a new file and of its folders YYYY, MM and DD to the disk."""
    for folder in list(path.parents)[:4]:
        number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)
