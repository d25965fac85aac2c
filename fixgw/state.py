"""State that must survive a restart, a kill or a power loss: small files that are complete at every instant.

    path = state.path("fuel")                     # in the service's state directory, or else in the user's
    keeper = Keeper(path, self.log)
    known = keeper.load()                         # bytes, or None if there is no usable state
    keeper.keep(b"...")                           # any thread; returns at once: a separate thread writes it
    keeper.keep(make)                             # the same, with the result of make() at the time of writing
    keeper.close()                                # the latest state is on the disk

A file contains the saved bytes and one line with their checksum, so that people can still read JSON. `save` writes a
new file beside the old one, syncs it, and only then renames it. The previous file remains as ``NAME~``, in case the
card loses sectors.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fixgw.clock import now as clock_now

__all__ = ["MAX_BYTES", "Keeper", "detached", "load", "path", "replace", "save"]

MAX_BYTES = 65536  # in one file
RETRY_S = 30.0  # after a failed write
_SEAL = b"\n# crc32 %08x\n"  # at the end of every file


def path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file for the state `name`: in $STATE_DIRECTORY of a service, or else in the user's state directory."""
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory:
        directory = os.path.join(environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "fixgw")
    safe = "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):02x}" for c in name)
    return Path(directory) / f"{safe}.json"


def load(path: Path) -> bytes | None:
    """The state saved last, or the one before it if the file is damaged; None if nothing was ever saved.

    Raises ValueError if all files are damaged, and OSError if one cannot be read.
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
    """Replace the file, all or nothing; on return it has reached the disk. One thread at a time for each path.

    Raises ValueError for more than `MAX_BYTES`, and OSError; the previous state then remains.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes are too many for {path}")
    replace(path, data + _SEAL % zlib.crc32(data), keep=True)


def replace(path: Path, content: bytes, mode: int | None = None, keep: bool = False) -> None:
    """Write the whole file or nothing, even if the power fails. Creates its directory if necessary.

    Without a `mode` the file has the default mode. With `keep`, the previous file of `save` becomes the backup. Raises
    OSError.
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
            with suppress(ValueError, FileNotFoundError):  # a damaged file must not replace a good backup
                _read(path)
                os.replace(path, _backup(path))
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the rename must reach the disk too
    finally:
        os.close(directory)


def _backup(path: Path) -> Path:
    return path.with_name(f"{path.name}~")


def _read(file: Path) -> bytes:
    """The saved bytes in the file. Raises ValueError if they are damaged, and OSError."""
    with open(file, "rb") as opened:
        content = opened.read(MAX_BYTES + 100)
    size = len(content) - len(_SEAL % 0)
    if size < 0 or content[size:] != _SEAL % zlib.crc32(content[:size]):
        raise ValueError(f"{file} is damaged")
    return content[:size]


class _Making(threading.local):
    detached = False


_making = _Making()


@contextmanager
def detached() -> Iterator[None]:
    """Within this context, keepers that this thread creates load nothing and save nothing."""
    before, _making.detached = _making.detached, True
    try:
        yield
    finally:
        _making.detached = before


class Keeper:
    """Keeps one file up to date on its own thread, so that a slow, full or dead disk delays no other thread.

    It writes only the newest state. The first `burst` writes go to the disk at once; after that, to spare the card, one
    every `interval` seconds. It retries a failed write; until that succeeds, `trouble` has the reason.
    """

    def __init__(
        self,
        path: Path,
        log: logging.Logger,
        interval: float = 1.0,
        burst: int = 8,
        clock: Callable[[], float] = clock_now,
    ) -> None:
        self.path = path
        self._detached = _making.detached
        #: Why the newest state is not on the disk; empty when all is well. Any thread.
        self.trouble = ""
        #: Successful and failed writes.
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
        """The state saved last; None if there is none, or if it is unusable. Logs damage."""
        if self._detached:
            return None
        try:
            data = load(self.path)
        except (OSError, ValueError) as error:
            self._log.warning("%s is unusable, starting without it: %s", self.path, error)
            return None
        try:
            _read(self.path)
        except ValueError as error:
            self._log.warning("%s: using the previous state", error)
        except OSError:
            pass  # it was never saved, or the power failed just before the rename
        return data

    def keep(self, data: bytes | Callable[[], bytes]) -> None:
        """Write `data` soon, or what it returns on the keeper's thread. Any thread; never waits for the disk."""
        if self._detached:
            return
        with self._wanted:
            self._newest = data
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._work, name=f"saving {self.path.name}", daemon=True)
                self._thread.start()
            self._wanted.notify()

    def close(self, timeout: float = 1.0) -> bool:
        """Write what is pending, in at most `timeout` seconds; return whether that succeeded."""
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
            return self._times[-1] + RETRY_S - now
        return self._times[0] + len(self._times) * self._interval - now

    def _save(self, data: bytes | Callable[[], bytes]) -> bool:
        try:
            save(self.path, data() if callable(data) else data)
        except (OSError, ValueError) as error:
            self.failures += 1
            text = f"state is not saved: {(isinstance(error, OSError) and error.strerror) or error}"
            if text != self.trouble:  # once per outage
                self.trouble = text
                self._log.warning("%s: %s; retrying every %g s", self.path, text, RETRY_S)
            return False
        self.saved += 1
        if self.trouble:
            self.trouble = ""
            self._log.info("%s: saved again", self.path)
        return True
