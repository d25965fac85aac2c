"""`Batch`: whoever writes several values in a row says when it is done, so that subscribers can send them together."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import final

__all__ = ["Batch"]

Ended = Callable[[], object]


@final
class Batch:
    """``with database.batch:`` around several writes of one frame, read or poll. Any thread; batches may be nested.

    Every write is published at once, as always. Only subscribers that send values elsewhere use it: they may wait for
    the end of the batch, and then send once. So do nothing in a batch that waits. `failed` is called with what one of
    them raises, which goes no further.
    """

    __slots__ = ("_depths", "_ended", "_failed")

    def __init__(self, failed: Callable[[Exception], object]) -> None:
        self._failed = failed
        self._depths: dict[int, int] = {}  # by thread
        self._ended: tuple[Ended, ...] = ()

    def __enter__(self) -> None:
        me = get_ident()
        self._depths[me] = self._depths.get(me, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        me = get_ident()
        depth = self._depths.pop(me) - 1
        if depth:
            self._depths[me] = depth
            return
        for ended in self._ended:
            try:
                ended()
            except Exception as failure:  # the writer is not to blame
                self._failed(failure)

    @property
    def is_open(self) -> bool:
        """Whether the calling thread is in a batch."""
        return get_ident() in self._depths

    def on_end(self, ended: Ended) -> None:
        """Call `ended` at the end of every batch, on its thread. It must return at once."""
        self._ended += (ended,)

    def off_end(self, ended: Ended) -> None:
        self._ended = tuple(e for e in self._ended if e != ended)
