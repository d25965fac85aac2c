"""What a process has once, and a rig for itself: virtual buses and pins, and the current world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

T = TypeVar("T")

_of_the_process: dict[str, Any] = {}
_here: ContextVar[dict[str, Any] | None] = ContextVar("own", default=None)


def own(what: str, make: Callable[[], T]) -> T:
    """The thing called `what`, that of the process or, within `apart`, another; made at the first call."""
    things = _here.get()
    if things is None:
        things = _of_the_process
    if what not in things:
        things.setdefault(what, make())
    return cast(T, things[what])


@contextmanager
def apart(things: dict[str, Any]) -> Iterator[None]:
    """Within this context, this thread has `things` in place of those of the process."""
    token = _here.set(things)
    try:
        yield
    finally:
        _here.reset(token)
