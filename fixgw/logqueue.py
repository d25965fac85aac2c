"""Logging that never blocks: each handler writes on its own thread, behind a bounded queue.

If a terminal is stopped (Ctrl-S), a pipe has no reader or an SD card stalls, only the handler's thread waits. Records
that do not fit into the queue are dropped and counted; the count is logged as soon as the handler can write again.
Records that the handler fails to write, as on a full disk, are counted, too. `trouble` names handlers that are stuck.
`finish` writes what is left before the process ends, within a time limit.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

from fixgw.kit.complaints import Complaints
from fixgw.logmemory import message_of

__all__ = ["QueuedHandler", "dropped", "finish", "queue_all", "trouble"]

MAX_QUEUED = 1000  # the most records that wait for one handler
STUCK_S = 2.0  # a handler that takes longer to write one record is stuck
FINISH_S = 1.0  # for all handlers together, at the end of the process

_handlers: list[QueuedHandler] = []


class QueuedHandler(logging.Handler):
    """Queues records for `target`, whose level and filters it takes over. Any thread may log; none ever waits, and no
    error of a handler or a filter reaches it."""

    def __init__(
        self, target: logging.Handler, size: int = MAX_QUEUED, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(target.level)
        self.target = target
        self.filters, target.filters = target.filters, []
        target.handleError = self._note_failure  # type: ignore[method-assign]
        #: The number of records dropped because the queue was full.
        self.dropped = 0
        self._reported = 0
        #: The number of records that a filter or the target has failed at.
        self.failed = 0
        self._size = size
        self._clock = clock
        self._complain = Complaints(logging.getLogger(__name__), clock)
        self._records: deque[logging.LogRecord] = deque()
        self._wake = threading.Event()
        self._since: float | None = None  # when the target began to write the present record
        self._stopping = False
        self._thread: threading.Thread | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            return bool(super().handle(record))
        except Exception as error:  # a custom filter may raise anything; whoever logs must not suffer
            self.failed += 1
            if self._complain.due("filter"):
                self.emit(_warning(f"{self._title} does not log what a filter fails at: {error!r}"))
            return False

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._records) >= self._size:
            self.dropped += 1
            return
        queued = copy.copy(record)
        # Format it now, because its arguments may change before it is written. Keep them for the journal's fields.
        queued.msg, queued.args = message_of(record), None
        queued.arguments = record.args
        self._records.append(queued)
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"log {type(self.target).__name__}", daemon=True)
            self._thread.start()

    @property
    def stuck_s(self) -> float:
        """For how long the target has been writing one record; 0 if it is not writing. Any thread may use this."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def join(self, timeout: float) -> bool:
        """Write what is queued, and no more after that. Returns whether this took less than `timeout` seconds."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def close(self) -> None:
        if self.join(0.0):
            self.target.close()
        super().close()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._records:
                self._write(self._records.popleft())
                if self.dropped != self._reported:
                    self._write(self._report_dropped())
            if self._stopping:
                return

    def _write(self, record: logging.LogRecord) -> None:
        self._since = self._clock()
        try:
            self.target.handle(record)
        except Exception:  # a custom handler may raise anything; continue with the next record
            self._note_failure(record)
        finally:
            self._since = None

    def _note_failure(self, record: logging.LogRecord) -> None:
        """Say so at times, instead of a traceback for each record: otherwise a log file on a full disk would fill the
        journal."""
        self.failed += 1
        if self._complain.due():
            with suppress(OSError, ValueError, AttributeError):  # there may be no stderr
                sys.stderr.write(f"<4>{self._title} cannot log: {sys.exc_info()[1]}\n")

    def _report_dropped(self) -> logging.LogRecord:
        lost, self._reported = self.dropped - self._reported, self.dropped
        return _warning(f"{lost} log lines were dropped: {self._title} was too slow")

    @property
    def _title(self) -> str:
        return type(self.target).__name__


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


def queue_all() -> None:
    """Put a queue in front of each handler that has none. Loggers that share a handler share its queue."""
    fronts: dict[logging.Handler, QueuedHandler] = {}
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in (logging.root, *loggers):
        for number, handler in enumerate(logger.handlers):
            if not isinstance(handler, QueuedHandler):
                if handler not in fronts:
                    fronts[handler] = QueuedHandler(handler)
                    _handlers.append(fronts[handler])
                logger.handlers[number] = fronts[handler]


def trouble() -> str:
    """Which handlers are stuck, in words; empty if none is. Any thread may call this."""
    return "; ".join(
        f"the log is stuck: {type(each.target).__name__} has been writing one line for {each.stuck_s:.0f} s"
        + (f", {each.dropped} dropped" if each.dropped else "")
        for each in _handlers
        if each.stuck_s > STUCK_S
    )


def dropped() -> dict[str, int]:
    """The number of lines that were not written, by handler, without those that wrote all. Any thread may call this."""
    lost = Counter[str]()
    for each in _handlers:
        lost[type(each.target).__name__] += each.dropped + each.failed
    return dict(+lost)


def finish(timeout: float = FINISH_S) -> bool:
    """Write what is queued. Returns False if that takes too long; then only a hard exit ends the process."""
    deadline = time.monotonic() + timeout
    written = [each.join(max(0.0, deadline - time.monotonic())) for each in _handlers]
    return all(written)
