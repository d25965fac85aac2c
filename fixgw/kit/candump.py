"""Lines of recorded CAN traffic, in the formats that candump writes to a file or pipe (``-l``, ``-L``) and to a screen.
No I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

__all__ = ["Line", "parse"]

# Flags of a frame, as in SocketCAN.
EXTENDED, REMOTE, ERROR, FD, BRS, ESI = 0x80000000, 0x40000000, 0x20000000, 0x04, 0x01, 0x02

# (1700000000.123456) can0 183#320000D204; #R marks a remote frame, ##<flags> a CAN FD frame
_FILE = re.compile(
    r"\((?P<time>\d{1,15}\.\d+)\)\s+(?P<channel>\S+)\s+(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"#(?:R(?P<asked>[0-8])?|(?:#(?P<flags>[0-9A-Fa-f]))?(?P<data>(?:[0-9A-Fa-f]{2}\.?)*))(?:\s+[RT])?",
    re.ASCII,
)
#  can0  183   [5]  32 00 00 D2 04; there may be a time before and text after it
_SCREEN = re.compile(
    r"(?:\((?P<time>\d{1,15}\.\d+)\)\s+)?(?P<channel>\S+)\s+(?:[RT]X [-B] [-E]\s+)?"
    r"(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"\s+\[0?(?P<length>\d{1,2})\](?:\s+(?:(?P<remote>remote request)|(?P<data>[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2})*)))?"
    r"(?:\s+(?:'.*'|ERRORFRAME))?",
    re.ASCII,
)


class Line(NamedTuple):
    """A line. `time` is in seconds since an unknown start; 0 if it has none."""

    channel: str
    identifier: int
    data: bytes
    flags: int
    time: float


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # candump -c
_DATE = re.compile(r"\((\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+)\)")  # candump -t A


def _seconds(date: re.Match[str]) -> str:
    try:
        return f"({datetime.fromisoformat(date[1]).replace(tzinfo=UTC).timestamp():.6f})"
    except ValueError:
        return date[0]


def parse(text: str) -> Line | None:
    """Parse a line. Returns None if it is none."""
    text = _DATE.sub(_seconds, _COLOUR.sub("", text)).strip()
    match = _FILE.fullmatch(text) or _SCREEN.fullmatch(text)
    if match is None:
        return None
    found = match.groupdict()
    identifier, flags = int(found["id"], 16), EXTENDED if len(found["id"]) == 8 else 0
    if flags and identifier & ERROR:
        identifier, flags = identifier & 0x1FFFFFFF, ERROR
    data = bytes.fromhex(re.sub(r"[ .]", "", found["data"] or ""))
    if found.get("flags"):
        flags |= FD | int(found["flags"], 16) & (BRS | ESI)
    elif "length" in found:
        if found["remote"]:
            flags, data = flags | REMOTE, bytes(min(int(found["length"]), 8))
        elif int(found["length"]) != len(data):
            return None
        elif len(data) > 8:
            flags |= FD
    elif found["data"] is None:
        flags, data = flags | REMOTE, bytes(int(found["asked"] or 0))
    return Line(found["channel"], identifier, data, flags, float(found["time"] or 0.0))
