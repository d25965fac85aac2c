"""Logging as a service: fields for the systemd journal, a limit on the records of one place in the code, and a memory.

Call `set_up` after configuring logging. If stderr goes to the journal, handlers for stderr write to the journal in its
native protocol instead (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/), with fields to search for:

    journalctl -u fixgw FIXGW_CONNECTION=canfix
    journalctl -u fixgw FIXGW_KEY=IAS -o verbose

`FIXGW_CONNECTION` is the connection, from the name of its logger. `FIXGW_KEY` is the key of an error among the
arguments. Any attribute of a record with such a name becomes a field: ``log.warning("...", extra={"FIXGW_NODE": 12})``.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from fixgw import logqueue
from fixgw.kit.complaints import INTERVAL_S
from fixgw.logmemory import PLUGINS, memory, message_of

__all__ = ["JournalHandler", "Limit", "set_up"]

SOCKET = "/run/systemd/journal/socket"
#: Records that one line of code may write for one logger in `INTERVAL_S` seconds.
MAX_RECORDS = 100
MAX_PLACES = 1000  # counted at a time
MAX_FIELD_CHARS = 1 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def set_up(environ: Mapping[str, str] = os.environ, address: str = SOCKET) -> None:
    """Limit and queue every handler; make those whose stderr is the journal use its native protocol."""
    native = _is_stderr(environ.get("JOURNAL_STREAM", ""))
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for logger in (logging.root, *loggers):
        for handler in list(logger.handlers):
            if native and type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
                logger.removeHandler(handler)
                better = JournalHandler(address)
                better.setLevel(handler.level)
                better.filters = handler.filters
                logger.addHandler(better)
                handler = better
            if not any(isinstance(f, Limit) for f in handler.filters):
                handler.addFilter(Limit())
    logqueue.queue_all()
    if memory not in logging.root.handlers:
        memory.addFilter(Limit())
        logging.root.addHandler(memory)


def _is_stderr(stream: str) -> bool:
    """Whether `stream`, systemd's ``device:inode`` of the journal's input, is our stderr, and not a parent's."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return stream == f"{about.st_dev}:{about.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records to journald's socket at `address`. Any thread; never waits.

    Without journald, lines go to stderr, marked with their priority (sd-daemon(3)). If journald is too busy, the
    handler drops and counts records, and reports the count with the next one.
    """

    def __init__(self, address: str = SOCKET) -> None:
        super().__init__()
        self.dropped = 0
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if self.dropped:
            text += f" ({self.dropped} lines before this one were lost: the journal was too busy)"
        try:
            self._send(b"".join(_field(name, value) for name, value in fields(record, text)))
            self.dropped = 0
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                self.dropped += 1
            else:
                self._say(record, text)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._address)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            file = os.memfd_create("fixgw-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                with open(file, "wb", closefd=False) as stream:
                    stream.write(data)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)  # otherwise journald refuses it
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
                self._socket.sendmsg([], [rights], 0, self._address)
            finally:
                os.close(file)

    def _say(self, record: logging.LogRecord, text: str) -> None:
        mark = f"<{priority(record.levelno)}>"
        with suppress(OSError, ValueError, AttributeError):  # there is no stderr either
            sys.stderr.write("".join(f"{mark}{line}\n" for line in text.splitlines()))
            sys.stderr.flush()

    def close(self) -> None:
        self._socket.close()
        super().close()


def priority(level: int) -> int:
    """The syslog priority of a Python log level."""
    for bound, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= bound:
            return number
    return 7


def fields(record: logging.LogRecord, message: str) -> Iterator[tuple[str, str]]:
    """The journal's fields for a record with the text `message`."""
    yield "MESSAGE", message
    yield "PRIORITY", str(priority(record.levelno))
    yield "SYSLOG_IDENTIFIER", "fixgw"
    yield "LOGGER", record.name
    yield "THREAD_NAME", str(record.threadName)
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", record.funcName or ""
    own = {name: str(value) for name, value in record.__dict__.items() if name.startswith("FIXGW_")}
    if record.name.startswith(PLUGINS):
        own.setdefault("FIXGW_CONNECTION", record.name.removeprefix(PLUGINS))
    arguments = getattr(record, "arguments", record.args)
    for argument in arguments if isinstance(arguments, tuple) else ():
        if isinstance(argument, Exception) and isinstance(key := getattr(argument, "key", None), str):
            own.setdefault("FIXGW_KEY", key)
    yield from own.items()


def _field(name: str, value: str) -> bytes:
    data = value[:MAX_FIELD_CHARS].encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


class Limit:
    """The last resort against a flood: one line of code may write `most` records for one logger in `interval` seconds.

    It counts suppressed records, and reports the count with the next record from there. Debug records are not limited.
    Any thread.
    """

    def __init__(
        self, most: int = MAX_RECORDS, interval: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str, int], list[float]] = {}  # -> end of the interval, records so far

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        place = record.name, record.pathname, record.lineno
        now = self._clock()
        with self._lock:
            state, left_out = self._places.get(place), 0
            if state is None and len(self._places) >= MAX_PLACES:
                self._places.clear()
            if state is None or now >= state[0]:
                if state is not None:
                    left_out = max(0, int(state[1]) - self._most)
                state = self._places[place] = [now + self._interval, 0]
            state[1] += 1
            if state[1] > self._most:
                return False
        if left_out and not hasattr(record, "left_out"):  # unless another handler has reported it
            record.left_out = left_out
            record.msg = f"{message_of(record)} ({left_out} more records from there were suppressed)"
            record.args = None
        return True
