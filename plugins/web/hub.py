"""What the handlers of requests share: `Hub`."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fixgw.clock import now as clock_now
from fixgw.kit.complaints import Complaints
from fixgw.kit.sources import SIMULATED, mark_of
from fixgw.plugins.web.access import Access, Tokens
from fixgw.plugins.web.outbox import Feed
from fixgw.status import Collector
from fixgw.world import World

if TYPE_CHECKING:
    from fixgw.plugins.web import Options
    from fixgw.plugins.web.stream import Stream

MOST_THREADS = 8  # that do at the same time what may take long
MARKS = ("simulated", "replayed", "overridden")  # what each of `SIMULATED` means
LATE_S = 3.0  # what is due each second may be this late
GRACE_S = 0.5  # after that, what is received has waited
STATUS_S = 3.0  # the longest wait for the status tree
T = TypeVar("T")


class TooBusy(Exception):
    """`MOST_THREADS` are at work already."""


class Hub:
    """What the handlers of requests share. Everything here happens on the loop's thread, unless it says otherwise."""

    def __init__(
        self, world: World, options: Options, name: str, source: str, log: logging.Logger, counts: dict[str, int]
    ) -> None:
        self.world = world
        self.db = world.database
        self.options = options
        self.name = name
        self.source = source
        self.log = log
        self.counts = counts
        self.complain = Complaints(log, clock_now)
        self.access = Access(
            options.allow,
            options.write,
            options.admin,
            open=options.open,
            bench=options.bench,
            names=options.names,
        )
        self.tokens = Tokens()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.collector = Collector(world.status, self._collected)
        self.feed = Feed(self.db)
        self.streams: set[Stream] = set()
        self.revision = 1  # of the definitions and aux values
        self.answered = 0  # the last request that `collector` has answered
        self.marks: dict[str, int] = {}  # how many values were not real then, by why
        self.recordings: dict[str, Path] = {}  # by name, when they were listed last
        self.looked_at = clock_now()
        self._late_until = 0.0
        self._length = len(self.db)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._threads = 0

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- status --------------------------------------------------------------------------------------------------------

    async def status(self) -> None:
        """Wait until `collector` has a status tree that is newer than this call. Raises TimeoutError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.collector.ask(), future))
        await asyncio.wait_for(future, STATUS_S)

    def _collected(self) -> None:
        """Called on the collector's thread."""
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop has been closed
                self.loop.call_soon_threadsafe(self._answer)

    def note_alert(self, *_: object) -> None:
        """An alert has changed. Any thread."""
        if self.streams and self.loop is not None:
            with suppress(RuntimeError):  # the loop has been closed
                self.loop.call_soon_threadsafe(self.collector.ask)

    def _answer(self) -> None:
        marks = [mark_of(reading.source) for reading in self.db.readings()]
        self.marks = {what: marks.count(mark) for what, mark in zip(MARKS, SIMULATED, strict=True)}
        self.answered = answered = self.collector.answered
        for number, future in self._waiting:
            if number <= answered and not future.done():
                future.set_result(None)
        self._waiting = [(number, future) for number, future in self._waiting if not future.done()]

    def note_aux(self, *_: object) -> None:
        """An aux value has changed. Any thread."""
        self.revision += 1

    def look(self) -> None:
        """What is due once a second."""
        if self.is_late:
            self._late_until = clock_now() + GRACE_S
        self.looked_at = clock_now()
        if len(self.db) != self._length:
            self._length = len(self.db)
            self.revision += 1
        if self.streams:
            self.collector.ask()
        for stream in list(self.streams):
            stream.look()

    @property
    def is_late(self) -> bool:
        """Whether this process was held up just now: then requests that have waited are not what people want now."""
        now = clock_now()
        return now - self.looked_at > LATE_S or now < self._late_until

    # -- what may take long --------------------------------------------------------------------------------------------

    async def in_thread(self, work: Callable[[], T], seconds: float = 10.0) -> T:
        """Call `work` on a thread of its own, which is left alone if it hangs. Raises TimeoutError and `TooBusy`."""
        loop = asyncio.get_running_loop()
        if self._threads >= MOST_THREADS:
            raise TooBusy
        future: asyncio.Future[T] = loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            self._threads -= 1
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = work()
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(done, result, error)

        self._threads += 1
        threading.Thread(target=run, name=f"{self.name} work", daemon=True).start()
        return await asyncio.wait_for(future, seconds)
