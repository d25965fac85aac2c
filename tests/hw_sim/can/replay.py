"""Recorded CAN traffic: logs written by ``candump -l``, replayed at their own pace, at another, or without delays.

    with Segment() as segment:
        node = segment.attach("replay", depth=4096)
        replay(read_log("flight.log"), node.send, speed=10)

For an interface of python-can: ``replay(read_log(path), lambda frame: bus.send(to_message(frame)))``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fixgw.hw_sim.can.segment import SimFrame

_LINE = re.compile(
    r"\((?P<time>\d+\.\d+)\)\s+(?P<channel>\S+)\s+(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"#(?:R(?P<asked>[0-9])?|(?:#(?P<flags>[0-9A-Fa-f]))?(?P<data>(?:[0-9A-Fa-f]{2}\.?)*))(?:\s+[RT])?\s*"
)


class Entry(NamedTuple):
    """A line of a log; `time` is in seconds since an arbitrary moment."""

    time: float
    channel: str
    frame: SimFrame


def parse(line: str) -> Entry | None:
    """Parse one line; None if it is not a frame, or is an error frame, which cannot be sent."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        return None
    identifier, extended = int(match["id"], 16), len(match["id"]) == 8
    if identifier > (0x1FFFFFFF if extended else 0x7FF):
        return None
    fd, remote = match["flags"] is not None, match["data"] is None
    data = bytes(int(match["asked"] or "0")) if remote else bytes.fromhex(match["data"].replace(".", ""))
    if len(data) > (64 if fd else 8):
        return None
    brs = fd and bool(int(match["flags"], 16) & 1)
    return Entry(float(match["time"]), match["channel"], SimFrame(identifier, data, extended, remote, fd, brs))


def read_log(path: str | Path, channel: str | None = None) -> Iterator[Entry]:
    """The frames in a log, of one `channel` or of all. Other lines are skipped."""
    with Path(path).open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            entry = parse(line)
            if entry is not None and channel in (None, entry.channel):
                yield entry


def replay(
    entries: Iterable[Entry],
    send: Callable[[SimFrame], object],
    speed: float | None = 1.0,
    stopping: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Send every frame when it is due, `speed` times as fast as recorded, or at once (None). Returns the number sent.

    Ends early if `stopping` is set. Where the log's clock was set back, it continues without a pause.
    """
    stopping = stopping or threading.Event()
    sent = 0
    due = clock()
    before: float | None = None
    for entry in entries:
        if speed is not None:
            due += max(0.0, entry.time - (entry.time if before is None else before)) / speed
            before = entry.time
            if (wait := due - clock()) > 0:
                stopping.wait(wait)
        if stopping.is_set():
            break
        send(entry.frame)
        sent += 1
    return sent
