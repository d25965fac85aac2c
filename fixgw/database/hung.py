"""`Lookout` finds subscribers that hang.

It costs a healthy delivery nothing, because calls are not recorded. Instead, the lookout regularly examines the
frames of all threads. If it finds the same call of a subscriber, by the same delivery, three times in a row, the
call has not returned. It counts looks instead of seconds, because a subscriber is not to blame if the whole process was
suspended.
"""

from __future__ import annotations

from operator import is_
from types import FrameType
from typing import Any, NamedTuple

from fixgw.database.item import Item
from fixgw.database.reading import Reading
from fixgw.frames import frames_of_threads

LOOK_INTERVAL_S = 0.4  # the time between looks while a call is under way
QUIET_LOOK_S = 1.0  # the time between looks that see none
MAX_LOOKS = 3  # a call seen in this many looks is given up, after 0.8 to 1.8 s

_DELIVER = Item._deliver.__code__
_WRITE_AUX = Item.write_aux.__code__


class Hung(NamedTuple):
    """A call of a subscriber that has not returned.

    `frames` are the subscriber's, innermost first. `held` has the deliveries that wait for it, with their items and
    readings: the one that made the call, and those further out on the same stack.
    """

    item: Item
    callback: Any
    thread: int
    frames: list[FrameType]
    held: list[tuple[Item, Any, Any]]


class Lookout:
    """Finds calls of subscribers that hang. One thread at a time may use it."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[FrameType, Any, int]] = {}
        self._given_up: dict[int, FrameType] = {}

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        return LOOK_INTERVAL_S if self._seen else QUIET_LOOK_S

    def look(self) -> list[Hung]:
        """Return the calls that hang, each only once."""
        hung = []
        seen: dict[int, tuple[FrameType, Any, int]] = {}
        given_up: dict[int, FrameType] = {}
        for thread, top in frames_of_threads().items():
            frames: list[FrameType] = []
            frame: FrameType | None = top
            while frame is not None and frame.f_code is not _DELIVER and frame.f_code is not _WRITE_AUX:
                frames.append(frame)
                frame = frame.f_back
            if frame is None:
                continue
            if self._given_up.get(thread) is frame:
                given_up[thread] = frame
                continue
            names = frame.f_locals
            call = names.get("callback"), names.get("reading", names.get("told"))
            before = self._seen.get(thread)
            same = before is not None and before[0] is frame and all(map(is_, before[1], call))
            seen[thread] = frame, call, before[2] + 1 if before is not None and same else 1
            if seen[thread][2] >= MAX_LOOKS:
                hung.append(Hung(names["self"], call[0], thread, frames, _held(frame)))
                given_up[thread] = frame
        self._seen, self._given_up = seen, given_up
        return hung


def _held(frame: FrameType | None) -> list[tuple[Item, Any, Any]]:
    """The deliveries in `frame` and its callers: (item, reading, iterator over the remaining callbacks)."""
    held = []
    while frame is not None:
        if frame.f_code is _DELIVER or frame.f_code is _WRITE_AUX:
            names = frame.f_locals
            reading = names.get("reading")
            held.append((names["self"], reading if isinstance(reading, Reading) else None, names.get("callbacks")))
        frame = frame.f_back
    return held
