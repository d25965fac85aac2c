"""`Capture`: a file with the raw data of all links, made on request, besides the recordings of flights."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw.errors import FixgwError
from fixgw.plugins.recorder.gathering import Gatherer
from fixgw.recording.container import PART, Writer

if TYPE_CHECKING:
    from fixgw.plugins.recorder import Plugin

MAX_S = 3600.0
STEP_S = 0.1
FLUSH_S = 1.0
MAX_BYTES = 200_000_000
MAX_NUMBER = 1000  # of captures that begin in the same second
STOP_S = 2.0
WORDS = "say `start SECONDS`, at most 3600, or `stop`"


class Capture:
    """Writes on its own thread, which may wait for the disk. `command` and `status` are for any thread."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._until = 0.0
        self._file = ""
        self._trouble = ""

    @property
    def running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def command(self, words: str) -> str:
        """``start SECONDS`` or ``stop``. Returns why not, or an empty text."""
        what, _, rest = words.partition(" ")
        if what == "stop" and not rest:
            self._stopping.set()
            return ""
        try:
            seconds = float(rest)
        except ValueError:
            return WORDS
        if what != "start" or not 0.0 < seconds <= MAX_S:
            return WORDS
        with self._lock:
            if self.running:
                return f"a capture is being made: {self._file}"
            self._stopping.clear()
            self._file = self._trouble = ""
            self._until = self._plugin.clock() + seconds
            self._thread = threading.Thread(target=self._work, name=f"{self._plugin.name} capture", daemon=True)
            self._thread.start()
        return ""

    def status(self) -> Mapping[str, Any]:
        """Where the last capture is, and for how long it goes on; empty if there is none."""
        if self._thread is None:
            return {}
        left = max(0.0, self._until - self._plugin.clock()) if self.running else 0.0
        return {"file": self._file, "running": self.running, "seconds left": round(left), "trouble": self._trouble}

    def stop(self) -> None:
        """Complete the file."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._write()
        except (OSError, FixgwError) as error:
            self._trouble = str(error)
            self._plugin.log.warning("the capture failed: %s", error)

    def _new_path(self) -> Path:
        base = f"capture-{self._plugin.utc():%Y%m%d-%H%M%S}"
        for number in range(1, MAX_NUMBER):
            path = self._plugin.directory / f"{base}-{number}{PART}"
            if not path.exists() and not path.with_suffix("").exists():
                return path
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    def _write(self) -> None:
        plugin = self._plugin
        plugin.directory.mkdir(parents=True, exist_ok=True)
        writer = Writer(self._new_path(), plugin.about(), plugin.attachments())
        self._file = str(writer.path)
        gatherer = Gatherer(plugin.db, plugin.db.keys(), plugin.options.engine, True, plugin.log)
        try:
            now = flushed = plugin.clock()
            entries = gatherer.whole(now)
            offset = plugin.offset
            writer.write_time(now, None if offset is None else now + offset, plugin.boot)
            while True:
                if plugin.offset != offset:  # the clock was set
                    offset = plugin.offset
                    writer.write_time(now, None if offset is None else now + offset, plugin.boot)
                for topic, data, stamp, encoding in entries:
                    utc = None if offset is None else stamp + round(offset * 1e9)
                    writer.write(topic, data, stamp, utc, encoding)
                if now - flushed >= FLUSH_S:
                    flushed = now
                    writer.flush()
                if self._stopping.is_set() or now >= self._until or writer.size > MAX_BYTES:
                    break
                self._stopping.wait(min(STEP_S, max(0.0, self._until - now)))
                now = plugin.clock()
                entries = gatherer.gather(now)
            self._file = str(writer.finish())
        except BaseException:
            with suppress(OSError):
                writer.abandon()
            raise
        finally:
            gatherer.close()
        if why := gatherer.raw_trouble:
            self._trouble = f"raw data is missing: {why}"
        elif gatherer.raw_lost:
            self._trouble = f"{gatherer.raw_lost} reads and writes are missing"
