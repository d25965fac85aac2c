"""The raw data of links (`fixgw.kit.raw.Heard`) as messages of a recording.

`encode` packs what a recorder heard of one connection, `decode` unpacks it; `topic` names the channel. A message
consists of runs. A run begins with u8 its kind, u8 its direction (bits 0 and 1; bits 2 to 3 and 4 to 5: the widths of
the numbers of the next two columns, 0 = u8, 1 = u16, 2 = u32), u32 the number n of its entries and i64 the time of the
first, in microseconds. Then follow columns, because they compress better than rows, all numbers little-endian:

    every kind   [n] microseconds since the entry before, [n] sizes
    bytes        the bytes; a size is their number
    frames       a size is the number of frames that were read at once; for each frame of all entries u8 milliseconds
                 from its own time stamp to the entry; then row by row, which compresses better here, each frame: u16
                 identifier, u8 number of data bytes, the data. A frame with flags has `FLAGGED` instead of the
                 identifier, then u32 identifier with the upper flags, as in SocketCAN, u8 lower flags
    transfers    u16[n] register, with bit 15 for a write; then the data. `POLL_END` marks the end of a poll
    pins         a size is 1; u8[n] pin, u8[n] level (bit 0) and whether an edge was reported (bit 1)
    others       JSON: [link, what, detail] of an event, or [register, error number, text] of a failed transfer

Entries keep their times to the microsecond, frames theirs to the millisecond. `decode` raises on no input.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from itertools import accumulate, pairwise
from math import isfinite
from typing import Any, NamedTuple, cast, get_args

from fixgw.kit.raw import DIRECTIONS, POLLED, REGISTERS, Direction, Event, Failure, Heard, PinLevel, What

__all__ = ["ENCODING", "SCHEMA", "CanFrame", "decode", "encode", "is_raw", "topic"]

#: The encoding of the messages, as the recording names it.
ENCODING = "fixgw-raw-1"
#: The name of their schema; its text is the docstring of this module.
SCHEMA = "fixgw.raw"

BYTES, FRAMES, TRANSFERS, PINS, OTHERS = range(1, 6)
FLAGGED = 0x8000
POLL_END = REGISTERS  # in place of a register
WRITE = 0x8000
WIDTHS = "BHI"
MAX_GAP_US = 0xFFFFFFFF
OLDEST_MS = 255  # before the entry
UPPER_FLAGS = 0xE0000000  # of an identifier
LONGEST_TEXT = 500

_HEAD = struct.Struct("<BBIq")
_PLAIN = struct.Struct("<HB")
_FLAGGED = struct.Struct("<HIBB")


class CanFrame(NamedTuple):
    """A CAN frame; `flags` and `timestamp` (monotonic seconds) as in `fixgw.drivers.links.can.frame.Frame`."""

    arbitration_id: int
    data: bytes
    flags: int
    timestamp: float


def topic(heard: Heard) -> str:
    """The channel of an entry: ``/can/<bus>`` or ``/raw/<connection>``."""
    data = heard.data
    bus = isinstance(data, list) or (isinstance(data, Event) and data.link == "can")
    return f"/{'can' if bus else 'raw'}/{heard.connection}"


def is_raw(topic: str) -> str:
    """The connection of a channel with raw data; empty for any other channel."""
    return topic[5:] if topic.startswith(("/can/", "/raw/")) else ""


# -- encoding ----------------------------------------------------------------------------------------------------------


def encode(entries: Iterable[Heard]) -> bytes:
    """Pack `entries` of one connection, in their order. Leaves out what no link passes on."""
    runs: list[bytes] = []
    shape: tuple[int, int] = (0, 0)
    times: list[int] = []
    run: list[Any] = []
    for _, stamp, direction, data in entries:
        kind = _kind(data)
        if not kind or not isfinite(stamp):
            continue
        at = round(stamp * 1e6)
        here = kind, 0 if kind == TRANSFERS else DIRECTIONS.index(direction)
        if here != shape or not 0 <= at - times[-1] <= MAX_GAP_US:
            if run:
                runs.append(_run(*shape, times, run))
            shape, times, run = here, [], []
        if kind == TRANSFERS:
            data = (POLL_END, b"") if data is POLLED else (data[0] | WRITE * (direction == "out"), data[1])
        times.append(at)
        run.append(data)
    if run:
        runs.append(_run(*shape, times, run))
    return b"".join(runs)


def _kind(data: Any) -> int:
    if isinstance(data, bytes):
        return BYTES
    if isinstance(data, list):
        return FRAMES
    if data is POLLED:
        return TRANSFERS
    if isinstance(data, PinLevel):
        return PINS
    if isinstance(data, Event | Failure):
        return OTHERS
    transfer = isinstance(data, tuple) and len(data) == 2 and 0 <= data[0] < POLL_END
    return TRANSFERS if transfer else 0


def _run(kind: int, direction: int, times: list[int], data: list[Any]) -> bytes:
    n = len(data)
    columns: list[bytes]
    if kind == BYTES:
        sizes, columns = list(map(len, data)), data
    elif kind == FRAMES:
        sizes, columns = list(map(len, data)), _pack_frames(times, data)
    elif kind == TRANSFERS:
        sizes = [len(got) for _, got in data]
        columns = [struct.pack(f"<{n}H", *[register for register, _ in data]), *[got for _, got in data]]
    elif kind == PINS:
        sizes = [1] * n
        columns = [bytes([p.pin & 0xFF for p in data]), bytes([p.high | p.edge << 1 for p in data])]
    else:
        columns = [_text(each) for each in data]
        sizes = list(map(len, columns))
    gaps = [0, *[b - a for a, b in pairwise(times)]]
    (wide, packed_gaps), (long, packed_sizes) = _pack(gaps), _pack(sizes)
    head = _HEAD.pack(kind, direction | wide << 2 | long << 4, n, times[0])
    return b"".join((head, packed_gaps, packed_sizes, *columns))


def _pack(numbers: list[int]) -> tuple[int, bytes]:
    """The width of the numbers, and the numbers."""
    most = max(numbers)
    width = 0 if most < 1 << 8 else 1 if most < 1 << 16 else 2
    return width, struct.pack(f"<{len(numbers)}{WIDTHS[width]}", *numbers)


def _pack_frames(times: list[int], data: list[list[Any]]) -> list[bytes]:
    ages, rows = bytearray(), [b""]
    for us, batch in zip(times, data, strict=True):
        at = us / 1e6
        for frame in batch:
            payload, flags = frame.data, frame.flags
            ages.append(max(0, min(OLDEST_MS, int((at - frame.timestamp) * 1e3))))
            if flags:
                identifier = frame.arbitration_id & ~UPPER_FLAGS | flags & UPPER_FLAGS
                rows.append(_FLAGGED.pack(FLAGGED, identifier, flags & 0xFF, len(payload)))
            else:
                rows.append(_PLAIN.pack(frame.arbitration_id, len(payload)))
            rows.append(payload)
    rows[0] = bytes(ages)
    return rows


def _text(data: Event | Failure) -> bytes:
    parts = [data.link, data.what, data.detail[:LONGEST_TEXT]] if isinstance(data, Event) else [*data]
    return json.dumps(parts, separators=(",", ":")).encode()


# -- decoding ----------------------------------------------------------------------------------------------------------


class _Spoilt(Exception):
    """The rest of a message cannot be read."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise _Spoilt
        self.at += length
        return self.data[self.at - length : self.at]

    def numbers(self, code: str, n: int) -> tuple[int, ...]:
        return struct.unpack(f"<{n}{code}", self.take(n * struct.calcsize(f"<{code}")))

    def pieces(self, sizes: Iterable[int]) -> list[bytes]:
        return [self.take(size) for size in sizes]


def decode(connection: str, message: bytes) -> list[Heard]:
    """Unpack a message. Never raises: a damaged one yields what can be read before the damage."""
    reader, found = _Reader(message), []
    try:
        while reader.at < len(message):
            found += _decode_run(connection, reader)
    except _Spoilt:
        pass
    return found


def _decode_run(connection: str, reader: _Reader) -> list[Heard]:
    kind, how, n, first = _HEAD.unpack(reader.take(_HEAD.size))
    direction, wide, long = how & 3, how >> 2 & 3, how >> 4
    if not BYTES <= kind <= OTHERS or direction >= len(DIRECTIONS) or max(wide, long) >= len(WIDTHS):
        raise _Spoilt
    times = [first + gap for gap in accumulate(reader.numbers(WIDTHS[wide], n))]
    sizes = reader.numbers(WIDTHS[long], n)
    ways: list[Direction] = [DIRECTIONS[direction]] * n
    data: list[Any]
    if kind == BYTES:
        data = reader.pieces(sizes)
    elif kind == FRAMES:
        data = _unpack_frames(times, sizes, reader)
    elif kind == TRANSFERS:
        registers = reader.numbers("H", n)
        data = [
            POLLED if register == POLL_END else (register & ~WRITE, got)
            for register, got in zip(registers, reader.pieces(sizes), strict=True)
        ]
        ways = ["out" if register & WRITE else "in" for register in registers]
    elif kind == PINS:
        pins, levels = reader.take(n), reader.take(n)
        data = [PinLevel(p, bool(level & 1), bool(level & 2)) for p, level in zip(pins, levels, strict=True)]
    else:
        data = [_other(text) for text in reader.pieces(sizes)]
    return [
        Heard(connection, at / 1e6, way, each)
        for at, way, each in zip(times, ways, data, strict=True)
        if each is not None
    ]


def _unpack_frames(times: list[int], sizes: tuple[int, ...], reader: _Reader) -> list[list[CanFrame]]:
    ages = iter(reader.take(sum(sizes)))
    return [
        [_unpack_frame(at / 1e6 - next(ages) / 1e3, reader) for _ in range(size)]
        for at, size in zip(times, sizes, strict=True)
    ]


def _unpack_frame(stamp: float, reader: _Reader) -> CanFrame:
    identifier, size = _PLAIN.unpack(reader.take(_PLAIN.size))
    flags = 0
    if identifier == FLAGGED:
        reader.at -= _PLAIN.size
        _, identifier, lower, size = _FLAGGED.unpack(reader.take(_FLAGGED.size))
        identifier, flags = identifier & ~UPPER_FLAGS, identifier & UPPER_FLAGS | lower
    return CanFrame(identifier, reader.take(size), flags, round(stamp, 6))


def _other(text: bytes) -> Event | Failure | None:
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(parts, list) and len(parts) == 3:
        a, b, c = parts
        if isinstance(a, str) and b in get_args(What) and isinstance(c, str):
            return Event(a, cast(What, b), c)
        if type(a) is int and type(b) is int and isinstance(c, str):
            return Failure(a, b, c)
    return None
