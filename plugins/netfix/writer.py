"""Writes to items with subscribers that may hang: `Writer`.

Such writes run on a separate thread, one after the other. A client has at most one of them at a time, and its next
command waits for it, so its commands keep their order. If a write takes longer than `PATIENCE_S`, a new thread takes
over. The client then gets its answer, because the value was stored before any subscriber was called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from fixgw.clock import now as clock_now
from fixgw.kit.complaints import Complaints
from fixgw.plugins.netfix.peer import Peer

PATIENCE_S = 0.5
MOST_HUNG = 32  # if this many threads hang, such writes are no longer done


class Job:
    """One write. `write` runs on the writer's thread; then `then` gets its result on the server's thread."""

    __slots__ = ("begun", "error", "key", "peer", "result", "then", "write")

    def __init__(self, peer: Peer, key: str, write: Callable[[], Any], then: Callable[[Any], object]) -> None:
        self.peer = peer
        self.key = key
        self.write = write
        self.then = then
        self.result: Any = None
        self.begun = float("inf")  # when the write began
        self.error: BaseException | None = None


class _Worker:
    """A thread with its queue. It ends when it takes None from the queue."""

    def __init__(self, done: deque[Job], wake: Callable[[], None]) -> None:
        self.queue: SimpleQueue[Job | None] = SimpleQueue()
        self.current: Job | None = None
        self._done = done
        self._wake = wake
        self.thread = threading.Thread(target=self._work, name="netfix writer", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (job := self.queue.get()) is not None:
            job.begun = clock_now()
            self.current = job
            try:
                job.result = job.write()
            except Exception as error:
                job.error = error
            self.current = None
            self._done.append(job)
            self._wake()


class Writer:
    """Runs `Job`s on a separate thread. Only the server's thread may use it; `wake` wakes that thread."""

    def __init__(self, wake: Callable[[], None], complain: Complaints) -> None:
        self._wake = wake
        self._complain = complain
        self._done: deque[Job] = deque()
        self._waiting: set[Job] = set()
        self._worker: _Worker | None = None
        self._hung: list[threading.Thread] = []
        #: The number of writes that took too long, or were not done because too many threads hang.
        self.given_up = 0

    def do(self, job: Job) -> None:
        """Run the job soon. `finished` returns it afterwards."""
        self._waiting.add(job)
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            self._give_up(job)
            return
        if self._worker is None:
            self._worker = _Worker(self._done, self._wake)
        self._worker.queue.put(job)

    def rest(self) -> float:
        """Seconds until `finished` has to be called again, unless a finished job wakes the server before."""
        if not self._waiting:
            return float("inf")
        current = self._worker.current if self._worker is not None else None
        if self._done:
            return 0.0
        return PATIENCE_S if current is None else max(0.0, current.begun + PATIENCE_S - clock_now())

    def finished(self) -> list[Job]:
        """The jobs done or given up since the last call."""
        if not self._waiting:
            return []
        worker = self._worker
        if worker is not None:
            current = worker.current
            if current is not None and clock_now() - current.begun > PATIENCE_S:
                self._replace(worker, current)
        finished = []
        while self._done:
            job = self._done.popleft()
            if job in self._waiting:  # else it was given up before it was done
                self._waiting.remove(job)
                finished.append(job)
        return finished

    def stop(self) -> None:
        """Let the thread end, without waiting for it."""
        if self._worker is not None:
            self._worker.queue.put(None)
            self._worker = None

    def _replace(self, worker: _Worker, job: Job) -> None:
        """Abandon the thread with the job on which it hangs, and let a new one do the other jobs."""
        self._hung.append(worker.thread)
        self._worker = _Worker(self._done, self._wake)
        try:
            while True:
                self._worker.queue.put(worker.queue.get_nowait())
        except Empty:
            worker.queue.put(None)
        self._give_up(job)

    def _give_up(self, job: Job) -> None:
        self.given_up += 1
        self._done.append(job)
        self._complain(
            "%s: a subscriber hangs; %s wrote the item, and no longer waits for the subscriber",
            job.key,
            job.peer.name,
            about=f"write {job.key}",
            extra={"FIXGW_KEY": job.key},
        )
