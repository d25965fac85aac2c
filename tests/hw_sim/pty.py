"""A virtual serial port: one end is a device path that any program can open, the other belongs to a virtual instrument.

It behaves like a UART with a plug: bytes that nobody reads are lost, and the device can be unplugged and plugged in
again. It does not model baud rates, modem lines or line errors.
"""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
import tty
from pathlib import Path
from types import TracebackType


class VirtualPort:
    """A pseudo-terminal in raw mode, behind a symbolic link at `path` that stays the same across unplugging.

    Without a `path` the link is made in a temporary directory, and `path` tells where. An existing link is replaced;
    anything else at `path` raises FileExistsError. The port is plugged in from the start. Any thread.
    """

    def __init__(self, path: str | None = None) -> None:
        self._directory = None if path else tempfile.TemporaryDirectory(prefix="fixgw-port-")
        self.path: str = path or str(Path(self._directory.name) / "port")  # type: ignore[union-attr]
        #: Bytes that the device's reader (or its buffer) took, and bytes that nobody took.
        self.written = 0
        self.dropped = 0
        self._lock = threading.Lock()
        self._master = -1
        self.plug()

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    def plug(self) -> None:
        """Plug the device in; harmless if it is plugged in."""
        with self._lock:
            if self._master >= 0:
                return
            master, slave = os.openpty()
            # Raw settings last as long as the master does. The slave is closed at once: from then on a hang-up on the
            # master shows that nobody has the device open.
            tty.setraw(slave)
            os.set_blocking(master, False)
            link = Path(self.path)
            if link.is_symlink():
                link.unlink()
            try:
                link.symlink_to(os.ttyname(slave))
            except OSError:
                os.close(master)
                raise
            finally:
                os.close(slave)
            self._master = master

    def unplug(self) -> None:
        """Unplug the device: its path disappears, and programs that have it open get an error. Harmless if it is
        unplugged."""
        with self._lock:
            if self._master < 0:
                return
            Path(self.path).unlink(missing_ok=True)
            os.close(self._master)
            self._master = -1

    @property
    def opened(self) -> bool:
        """Whether any program has the device open."""
        with self._lock:
            return self._master >= 0 and not self._hung_up()

    def write(self, data: bytes) -> int:
        """Send `data` to the program that has the device open. Never blocks; drops what is not taken, and returns the
        number of bytes taken."""
        taken = 0
        with self._lock:
            if self._master >= 0 and not self._hung_up():
                try:
                    while taken < len(data):
                        taken += os.write(self._master, data[taken:])
                except OSError:  # the buffer is full, or the device has just been closed
                    pass
        self.written += taken
        self.dropped += len(data) - taken
        return taken

    def read(self, timeout: float = 0.0) -> bytes:
        """Return what was sent to the device, at most 4096 bytes; empty after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                if self._master >= 0:
                    try:
                        return os.read(self._master, 4096)
                    except OSError:  # no data, or nobody has it open
                        pass
            left = deadline - time.monotonic()
            if left <= 0:
                return b""
            master = self._master if self.opened else -1
            if master < 0 or not _ready(master, select.POLLIN, min(left, 0.1)) & select.POLLIN:
                time.sleep(min(left, 0.005))

    def close(self) -> None:
        """Unplug for good and leave nothing behind; may be called twice."""
        self.unplug()
        if self._directory is not None:
            self._directory.cleanup()

    def __enter__(self) -> VirtualPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hung_up(self) -> bool:
        return bool(_ready(self._master, 0, 0.0) & select.POLLHUP)


def _ready(fd: int, events: int, timeout: float) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return next((event for _, event in poll.poll(timeout * 1000)), 0)
