"""Recorded CAN traffic as text, in the formats of candump (`fixgw.kit.candump`).

for recorded in read(open("candump-2025-07-21.log")): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Frame, validate
from fixgw.kit import candump

__all__ = ["Recorded", "line", "parse", "read"]


class Recorded(NamedTuple):
    """A line of a log. The frame's time stamp is the log's, in seconds since an unknown start; 0 if it has none."""

    channel: str
    frame: Frame


def parse(text: str) -> Recorded | None:
    """Parse a line. Returns None if it is not a frame that can have been on a bus."""
    found = candump.parse(text)
    if found is None:
        return None
    frame = Frame(found.identifier, found.data, found.flags, found.time)
    if not frame.flags & ERROR:
        try:
            validate(frame)
        except ValueError:
            return None
    return Recorded(found.channel, frame)


def read(lines: Iterable[str], channel: str | None = None) -> Iterator[Recorded]:
    """Yield the frames in `lines`, of one channel or of all. Skips other lines."""
    for text in lines:
        recorded = parse(text)
        if recorded is not None and channel in (None, recorded.channel):
            yield recorded


def line(frame: Frame, channel: str, time: float) -> str:
    """Format `frame` as candump writes it to a file; `time` is in seconds since 1970."""
    flags = frame.flags
    identifier = frame.arbitration_id | flags & ERROR
    head = f"({time:.6f}) {channel} {identifier:0{8 if flags & (EXTENDED | ERROR) else 3}X}#"
    if flags & REMOTE:
        return f"{head}R{len(frame.data) or ''}"
    return head + (f"#{flags & (BRS | ESI):X}" if flags & FD else "") + frame.data.hex().upper()
