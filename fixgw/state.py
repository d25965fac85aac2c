"""What has to survive a restart, a kill or a power loss: small files that are whole at every instant, old or new.

    path = state.path("fuel")                     # in the service's state directory, else in the user's
    keeper = Keeper(path, self.log)
    known = keeper.load()                         # bytes, or None when there is nothing that is whole
    keeper.keep(b"...")                           # any thread, at once; a thread of the keeper's writes it
    keeper.keep(make)                             # the same with what make() returns when it is written
    keeper.close()                                # the last word is on the disk

A file is what was saved and one line with its checksum, so that JSON stays readable for people. `save` writes it
beside the old one, syncs it, and only then gives it the name; the one before stays as ``NAME~``, for a card that loses
sectors.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["LONGEST", "Keeper", "load", "path", "replace", "save"]

LONGEST = 65536  # bytes that a file may hold
RETRY = 30.0  # seconds until what could not be written is tried again
_SEAL = b"\n# crc32 %08x\n"  # at the end of every file


def path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state called `name` is kept: in $STATE_DIRECTORY of a service, else in the user's state directory."""
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory:
        directory = os.path.join(environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "fixgw")
    safe = "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):02x}" for c in name)
    return Path(directory) / f"{safe}.json"


def load(path: Path) -> bytes | None:
    """What was saved last; what was saved before that when the file is damaged; None when nothing ever was.

    Raises ValueError when something was saved and nothing of it is whole, OSError when it cannot be read.
    """
    found = False
    for file in (path, _backup(path)):
        try:
            return _read(file)
        except FileNotFoundError:
            continue
        except ValueError:
            found = True
    if found:
        raise ValueError(f"{path} is damaged")
    return None


def save(path: Path, data: bytes) -> None:
    """Replace the file, all or nothing; when this returns it has reached the disk. One thread at a time for each path.

    Raises ValueError for more than `LONGEST` bytes, and OSError; then what was saved before still holds.
    """
    if len(data) > LONGEST:
        raise ValueError(f"{len(data)} bytes are too much for {path}")
    replace(path, data + _SEAL % zlib.crc32(data), keep=True)


def replace(path: Path, content: bytes, mode: int | None = None, keep: bool = False) -> None:
    """Write the whole file or nothing of it, whenever the power goes; its directory is made if need be.

    Without a `mode` it has that of any new file. With `keep`, the file of `save` that was there before becomes the one
    to fall back on. Raises OSError.
    """
    os.makedirs(path.parent, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            if mode is not None:
                os.fchmod(file, mode)
            rest = content
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        if keep:
            with suppress(ValueError, FileNotFoundError):  # what is damaged must not take the place of what is not
                _read(path)
                os.replace(path, _backup(path))
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the new name too
    finally:
        os.close(directory)


def _backup(path: Path) -> Path:
    return path.with_name(f"{path.name}~")


def _read(file: Path) -> bytes:
    """What the file holds. Raises ValueError when that is damaged, OSError."""
    with open(file, "rb") as opened:
        content = opened.read(LONGEST + 100)
    size = len(content) - len(_SEAL % 0)
    if size < 0 or content[size:] != _SEAL % zlib.crc32(content[:size]):
        raise ValueError(f"{file} is damaged")
    return content[:size]


class Keeper:
    """Keeps one file up to date from a thread of its own, so that a slow, full or dead disk holds up nobody.

    Only the newest state is written. The first `burst` go to the disk at once; from then on, so that nobody wears the
    card out, one in `interval` seconds. What could not be written is tried again, and `trouble` says so meanwhile.
    """

    def __init__(
        self,
        path: Path,
        log: logging.Logger,
        interval: float = 1.0,
        burst: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        #: Why the newest state is not on the disk, in words; empty when all is well. Any thread.
        self.trouble = ""
        #: Times that it was written, and that it could not be.
        self.saved = self.failures = 0
        self._log = log
        self._interval = interval
        self._clock = clock
        self._times = [float("-inf")] * burst  # of the last attempts
        self._newest: bytes | Callable[[], bytes] | None = None
        self._wanted = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def load(self) -> bytes | None:
        """What was saved last; None when there is nothing, or nothing of use. What is damaged is logged."""
        try:
            data = load(self.path)
        except (OSError, ValueError) as error:
            self._log.warning("%s is of no use, starting afresh: %s", self.path, error)
            return None
        try:
            _read(self.path)
        except ValueError as error:
            self._log.warning("%s: using what was saved before it", error)
        except OSError:
            pass  # there was none, or the power went while it took the place of the one before
        return data

    def keep(self, data: bytes | Callable[[], bytes]) -> None:
        """Have `data` written, or what it returns when it is called then, on the keeper's thread.

        Any thread; never waits for the disk.
        """
        with self._wanted:
            self._newest = data
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._work, name=f"saving {self.path.name}", daemon=True)
                self._thread.start()
            self._wanted.notify()

    def close(self, timeout: float = 1.0) -> bool:
        """Write what is still to be written, in at most `timeout` seconds; whether that was done."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self.trouble = self.trouble or "the disk does not answer"
        if self.trouble:
            self._log.warning("%s was not saved: %s", self.path, self.trouble)
        return not self.trouble

    def _work(self) -> None:
        failed = False
        while True:
            with self._wanted:
                while not self._closing:
                    pause = self._pause(failed) if self._newest is not None else None
                    if pause is not None and pause <= 0:
                        break
                    self._wanted.wait(pause)
                data, self._newest = self._newest, None
            if data is None:
                return
            self._times = [*self._times[1:], self._clock()]
            failed = not self._save(data)
            if failed:
                with self._wanted:
                    if self._closing:
                        return
                    if self._newest is None:
                        self._newest = data

    def _pause(self, failed: bool) -> float:
        """Seconds until the next attempt."""
        now = self._clock()
        if failed:
            return self._times[-1] + RETRY - now
        return self._times[0] + len(self._times) * self._interval - now

    def _save(self, data: bytes | Callable[[], bytes]) -> bool:
        try:
            save(self.path, data() if callable(data) else data)
        except (OSError, ValueError) as error:
            self.failures += 1
            text = f"state is not saved: {(isinstance(error, OSError) and error.strerror) or error}"
            if text != self.trouble:  # once an outage
                self.trouble = text
                self._log.warning("%s: %s; trying again every %g s", self.path, text, RETRY)
            return False
        self.saved += 1
        if self.trouble:
            self.trouble = ""
            self._log.info("%s: saved again", self.path)
        return True
