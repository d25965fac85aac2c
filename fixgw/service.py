"""The gateway as a service: exit codes, and the notifications that systemd understands (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

EXIT_OK = 0  #: stopped cleanly on request
EXIT_CONFIG = 1  #: the configuration has problems; nothing was started
EXIT_USAGE = 2  #: the command line was wrong
EXIT_HUNG = 3  #: a plugin could not stop; hard exit
EXIT_FAILURE = 4  #: a connection with ``on_failure: stop`` failed
EXIT_DEFECT = 5  #: a bug; the log has the details
MAX_STATUS_CHARS = 800
MEANINGS = {
    EXIT_CONFIG: "the configuration has problems; `fixgw check` lists them",
    EXIT_USAGE: "the command line was wrong",
    EXIT_HUNG: "a plugin could not be stopped",
    EXIT_FAILURE: "a connection with `on_failure: stop` failed",
    EXIT_DEFECT: "a bug; see the log",
}


class Notifier:
    """Sends state changes to the service manager, if there is one. Any thread; never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        #: Seconds between watchdog pings, half of what the manager allows; 0 = no watchdog.
        self.watchdog_interval = 0.0
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            microseconds = environ.get("WATCHDOG_USEC", "")
            self.watchdog_interval = int(microseconds) / 2e6 if microseconds.isdecimal() else 0.0
        self._status = ""

    @property
    def wanted(self) -> bool:
        """Whether there is a service manager."""
        return self._socket is not None

    def send(self, *assignments: str) -> bool:
        """Send them in one message; True if that succeeded, or if there is no service manager."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)
        except OSError as error:
            log.debug("cannot reach the service manager: %s", error)
            return False
        return True

    def ready(self, status: str) -> None:
        self.send("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self.send("STOPPING=1", "STATUS=stopping")

    def watchdog(self) -> None:
        self.send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Send the one-line summary, if it has changed."""
        if text != self._status and self.send(f"STATUS={_line(text)}"):
            self._status = text

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _line(text: str) -> str:
    """`text` on one line, shortened: systemd ignores messages of more than 4096 bytes."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_STATUS_CHARS else line[: MAX_STATUS_CHARS - 1] + "…"


def why_safe(environ: Mapping[str, str] = os.environ) -> str:
    """The reason for safe mode, from the variables that systemd sets for a unit started by ``OnFailure=``."""
    unit, result = environ.get("MONITOR_UNIT", ""), environ.get("MONITOR_SERVICE_RESULT", "")
    if not unit or not result:
        return "safe mode: requested"
    status = environ.get("MONITOR_EXIT_STATUS", "")
    last = f"exit code {status}" if environ.get("MONITOR_EXIT_CODE") == "exited" else f"signal {status}"
    meaning = MEANINGS.get(int(status), "") if status.isdecimal() else ""
    if result == "watchdog":
        last = "a watchdog timeout"
    # systemd restarts the unit after any other exit than these two.
    again = "ended" if status in (str(EXIT_CONFIG), str(EXIT_USAGE)) else "failed repeatedly, the last time"
    return f"safe mode: {unit} {again} with {last}" + (f": {meaning}" if meaning else "")


def lock_memory() -> None:
    """Keep all present and future pages of this process in memory, once they are used (mlockall(2)).

    Raises OSError if the limit does not permit it.
    """
    import ctypes

    flags = 0b111  # MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT
    if ctypes.CDLL(None, use_errno=True).mlockall(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def leave(code: int) -> None:
    """End the process with `code`: with a hard exit if a plugin hung, or left a thread that keeps the process alive."""
    from fixgw import logqueue

    strays = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    for thread in strays:
        log.error("thread %s is still running; exiting anyway", thread.name)
    if not logqueue.finish():  # a thread that is stuck there holds locks that an orderly exit needs
        os._exit(code)
    if code == EXIT_HUNG or strays:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(code)
    sys.exit(code)
