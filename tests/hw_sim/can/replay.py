"""Recorded CAN traffic: logs written by ``candump -l``, and what candump shows on a screen with any of its kinds of
time stamps (``-t a``, ``-t A``), in colour or not (``-c``); replayed at their own pace, at another, or without delays.

    with Segment() as segment:
        node = segment.attach("replay", depth=4096)
        log = read_log("flight.log")
        replay(log, node.send, speed=10)
        print(log.skipped)                                      # lines that are no frames

For an interface of python-can: ``replay(read_log(path), lambda frame: bus.send(to_message(frame)))``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fixgw.hw_sim.can.segment import SimFrame

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DATE = re.compile(r"\((\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+)\)")
_SCREEN = re.compile(
    r"(?:\((?P<time>\d{1,15}\.\d+)\)\s+)?(?P<channel>\S+)\s+(?:[RT]X [-B] [-E]\s+)?"
    r"(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"\s+\[0?(?P<length>\d{1,2})\](?:\s+(?:(?P<remote>remote request)|(?P<data>[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2})*)))?"
    r"(?:\s+'.*')?",
    re.ASCII,
)
_LINE = re.compile(
    r"\((?P<time>\d{1,15}\.\d+)\)\s+(?P<channel>\S+)\s+(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"#(?:R(?P<asked>[0-9])?|(?:#(?P<flags>[0-9A-Fa-f]))?(?P<data>(?:[0-9A-Fa-f]{2}\.?)*))(?:\s+[RT])?\s*",
    re.ASCII,
)


class Entry(NamedTuple):
    """A line of a log; `time` is in seconds since an arbitrary moment."""

    time: float
    channel: str
    frame: SimFrame


def parse(line: str) -> Entry | None:
    """Parse one line; None if it is not a frame, or is an error frame, which cannot be sent."""
    line = _DATE.sub(_seconds, _COLOUR.sub("", line)).strip()
    match = _LINE.fullmatch(line)
    if match is None:
        return _parse_screen(line)
    identifier, extended = int(match["id"], 16), len(match["id"]) == 8
    if identifier > (0x1FFFFFFF if extended else 0x7FF):
        return None
    fd, remote = match["flags"] is not None, match["data"] is None
    data = bytes(int(match["asked"] or "0")) if remote else bytes.fromhex(match["data"].replace(".", ""))
    if len(data) > (64 if fd else 8):
        return None
    brs = fd and bool(int(match["flags"], 16) & 1)
    return Entry(float(match["time"]), match["channel"], SimFrame(identifier, data, extended, remote, fd, brs))


def _seconds(date: re.Match[str]) -> str:
    try:
        return f"({datetime.fromisoformat(date[1]).replace(tzinfo=UTC).timestamp():.6f})"
    except ValueError:
        return date[0]


def _parse_screen(line: str) -> Entry | None:
    """What candump shows on a screen; without a time stamp all frames are sent at once."""
    match = _SCREEN.fullmatch(line)
    if match is None:
        return None
    identifier, extended = int(match["id"], 16), len(match["id"]) == 8
    data, length = bytes.fromhex(match["data"] or ""), int(match["length"])
    if identifier > (0x1FFFFFFF if extended else 0x7FF) or length > 64:
        return None
    remote = bool(match["remote"])
    if remote:
        data = bytes(min(length, 8))
    elif len(data) != length:
        return None
    frame = SimFrame(identifier, data, extended, remote, len(data) > 8, False)
    return Entry(float(match["time"] or 0.0), match["channel"], frame)


class Log:
    """The frames in a log, of one `channel` or of all, each time that it is gone through. Other lines are skipped."""

    def __init__(self, path: str | Path, channel: str | None = None) -> None:
        self._path = Path(path)
        self._channel = channel
        #: Lines of the last time through that are no frames; empty lines and comments do not count.
        self.skipped = 0

    def __iter__(self) -> Iterator[Entry]:
        self.skipped = 0
        with self._path.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                entry = parse(line)
                if entry is None:
                    self.skipped += not line.lstrip().startswith("#") and not line.isspace()
                elif self._channel in (None, entry.channel):
                    yield entry


def read_log(path: str | Path, channel: str | None = None) -> Log:
    """The frames in a log, of one `channel` or of all."""
    return Log(path, channel)


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
