"""The incumbent's recordings: `Incumbent` reads one of its files, `header` and `line` write the same layout.

A file holds an hour, ``YYYY/MM/DD/YYYY-MM-DD.HH.json`` in local time: UTF-8, one JSON object a line. Each start begins
with a header, ``{"frequency":"500","starttime":"2024-02-08T19:03:11.123456"}`` (milliseconds between two lines, and
local time without a zone), and a line with all keys. Each further line has the keys written since the one before:
``{"IAS":[101.5,0,0,0,0,0]}``, the value and the flags annunciate, old, bad, fail, secfail. The time of a line is that
of its header + n * frequency.

Files end in the middle of a line after a loss of power, and the next start continues that line: whatever cannot be read
is left out and counted. Source of the layout: the incumbent's documentation, and files of installations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from fixgw.kit.update import FAIL, FLAG_NAMES, Value
from fixgw.recording import About, Alert, Change, RecordingError

__all__ = ["Incumbent", "header", "hour_file", "hours_from", "line"]

LONGEST_LINE = 1 << 20  # bytes; 500 keys take about 16,000
USUAL_INTERVAL_S = 0.5
INTERVALS_S = 0.001, 3600.0  # others are not believed
MAX_KEYS, LONGEST_KEY = 10_000, 100
LARGEST = 1e300
PUT_BACK_S = 5.0  # a start that lies further before the lines above it was made after the clocks were put back
#: A file without anything that can be read in its first lines or bytes is something else.
PATIENCE_LINES, PATIENCE_BYTES = 1000, 16 << 20
EARLIEST_START = datetime(2000, 1, 1, tzinfo=UTC).timestamp()  # a computer that shows less has no clock

_HOUR_NAME = re.compile(r"(\d{4})-(\d\d)-(\d\d)\.(\d\d)\.json")
_FLAG_BITS = tuple(FLAG_NAMES)
_FIELDS = [tuple(int(bool(bits & bit)) for bit in _FLAG_BITS) for bits in range(2 * max(_FLAG_BITS))]


# -- writing -----------------------------------------------------------------------------------------------------------


def header(start: datetime, interval_ms: int) -> bytes:
    """The header of a start at this local time."""
    local = start.replace(tzinfo=None).isoformat(timespec="microseconds")
    return _line({"frequency": str(interval_ms), "starttime": local})


def line(items: Mapping[str, tuple[Value | None, int]]) -> bytes:
    """A line with these keys: value (None, NaN and infinity become null) and the bits of its flags."""
    return _line({key: (value, *_FIELDS[flags]) for key, (value, flags) in items.items()})


def _line(what: object) -> bytes:
    data = msgspec.json.encode(what)
    if not data.isascii():
        data = json.dumps(msgspec.json.decode(data), separators=(",", ":")).encode()
    return data + b"\n"


def hour_file(folder: Path, local: datetime) -> Path:
    """The file for what is recorded at this local time."""
    return folder / local.strftime("%Y/%m/%d/%Y-%m-%d.%H.json")


def hours_from(folder: Path, start: datetime) -> list[Path]:
    """The file of the hour of `start`, in local time if it has no zone, and the files of the hours that follow without
    a gap; empty if there is none."""
    at, found = start.astimezone(UTC), dict[Path, None]()
    while (path := hour_file(folder, at.astimezone(start.tzinfo))).is_file():
        found[path] = None  # one file twice, when the clocks are put back
        at += timedelta(hours=1)
    return list(found)


# -- reading -----------------------------------------------------------------------------------------------------------


class _Start(NamedTuple):
    """A header: the local or zoned time and the seconds between two lines; None where that is missing or unusable."""

    time: datetime | None
    interval_s: float | None


Entries = dict[str, tuple[Value | None, int]]


@dataclass
class _Tally:
    """What a pass through a file has found so far."""

    lost: int = 0
    starts: int = 0
    lines: int = 0
    complete: bool = True
    understood: bool = False
    keys: set[str] = field(default_factory=set)
    interval_s: float | None = None  # of the first header
    first: tuple[float, float] | None = None  # the date of the first header that has one, and of the walk at that point
    end: float | None = None  # of the last line
    ident: str = ""


class Incumbent:
    """One of the incumbent's files, as a `fixgw.recording.Recording`. Reads it once to count, and again each time.

    `zone` is that of the aircraft's computer; None: the zone of this computer, at that date. When the clocks are put
    back, the second pass through the hour is recognised by a start that would lie before the lines above it. A start
    that lies before them for any other reason, because a clock was wrong, is taken to follow them at once.

    Lines before the first header end where it begins. Without any header the hour in the name of the file counts;
    without that, the recording is not dated. Raises `RecordingError` if nothing in the file can be understood, and
    OSError.
    """

    def __init__(self, path: Path, zone: tzinfo | None = None) -> None:
        self._path, self._zone = path, zone
        self._origin, self._interval_s = 0.0, USUAL_INTERVAL_S
        tally = _Tally()
        for _ in self._walk(tally):
            pass
        if not tally.understood:
            size = path.stat().st_size
            raise RecordingError(f"{path} is not a recording: {'it is empty' if not size else 'no line can be read'}")
        named = self._named_hour()
        if tally.first is not None:
            date, at = tally.first
            self._origin = date - at
        elif named is not None:
            self._origin = named
        self._interval_s = tally.interval_s or USUAL_INTERVAL_S
        end = tally.end if tally.end is not None and tally.first is not None else self._origin + (tally.end or 0.0)
        self.about = About(
            path.stem,
            path,
            self._origin,
            max(self._origin, end),
            dated=self._origin >= EARLIEST_START,
            complete=tally.complete,
            lost=tally.lost,
            ident=tally.ident,
            more={"starts": tally.starts, "lines": tally.lines},
        )

    def changes(
        self, keys: Collection[str] | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[Change]:
        state: Entries = {}
        waiting = since is not None
        for time, entries in self._walk(_Tally()):
            if until is not None and time > until:
                break
            if since is not None and time < since:
                state |= entries
                continue
            if waiting and since is not None:
                waiting = False
                yield from _changes(since, state, keys)
            yield from _changes(time, entries, keys)
        if since is not None and waiting and (until is None or since <= until):
            yield from _changes(since, state, keys)

    def alerts(self) -> list[Alert]:
        return []

    def close(self) -> None: ...

    def _walk(self, tally: _Tally) -> Iterator[tuple[float, Entries]]:
        """The lines with their times, from the beginning; `tally` counts what is found."""
        at, interval_s = self._origin, self._interval_s
        with self._path.open("rb") as file:
            for part in _parts(file, tally):
                if isinstance(part, _Start):
                    if tally.starts == 1 and part.interval_s:
                        at = self._origin + (at - self._origin) * part.interval_s / interval_s
                        tally.interval_s = part.interval_s
                    interval_s = part.interval_s or interval_s
                    date = None if part.time is None else self._date(part.time, at)
                    if date is not None:
                        tally.first = tally.first or (date, at)
                        at = max(at, date)
                    tally.end = at
                    continue
                if part is not None:
                    yield at, part
                    tally.end = at
                at += interval_s

    def _date(self, time: datetime, at: float) -> float | None:
        """The seconds since 1970 of a header's time, if lines go before it until `at`."""
        if time.tzinfo is not None:
            return time.timestamp()
        try:
            date = time.replace(tzinfo=self._zone).timestamp()
            if at - date > PUT_BACK_S:
                date = max(date, time.replace(tzinfo=self._zone, fold=1).timestamp())
        except (ValueError, OverflowError, OSError):
            return None
        return date

    def _named_hour(self) -> float | None:
        """When the hour in the name of the file began."""
        match = _HOUR_NAME.fullmatch(self._path.name)
        try:
            return self._date(datetime.strptime(match[0], "%Y-%m-%d.%H.json"), 0.0) if match else None
        except ValueError:
            return None


def _changes(time: float, entries: Entries, keys: Collection[str] | None) -> Iterator[Change]:
    for key, (value, flags) in entries.items():
        if keys is None or key in keys:
            yield Change(time, key, value, flags, "")


def _parts(file: BinaryIO, tally: _Tally) -> Iterator[_Start | Entries | None]:
    """The headers and the lines of a file; None for a line that was there but cannot be read."""
    read = tried = 0
    for raw, whole in _raw_lines(file):
        read, tried = read + len(raw), tried + 1
        if not tally.understood and (tried > PATIENCE_LINES or read > PATIENCE_BYTES):
            return
        text = raw.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            continue
        what = _decode(text) if whole else None
        if what is None:
            tally.lost += 1
            tally.complete = raw.endswith(b"\n")
            if text.startswith(b'{"') or not whole:
                yield None
            # The next start continues a line that was cut; the end of the line may be whole.
            what = _decode(text[text.rfind(b"{") :])
            if what is None:
                continue
        start = _start(what)
        if start is not None:
            tally.starts += 1
            tally.understood |= any(start)
            yield start
        else:
            tally.lines += 1
            entries = _entries(what, tally)
            tally.understood |= bool(entries)
            yield entries


def _raw_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, each with its line end, and whether it is whole; of one that is too long the end."""
    while piece := file.readline(LONGEST_LINE):
        before, whole = b"", True
        while len(piece) == LONGEST_LINE and not piece.endswith(b"\n"):
            before, whole = piece, False
            if not (piece := file.readline(LONGEST_LINE)):
                break
        yield (piece, True) if whole else ((before + piece)[-LONGEST_LINE:], False)


def _decode(text: bytes) -> dict[str, Any] | None:
    try:
        what = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        if b"N" not in text and b"I" not in text:  # NaN or Infinity, which are not JSON
            return None
        try:
            what = json.loads(text.decode())
        except (ValueError, RecursionError):
            return None
    return what if isinstance(what, dict) else None


def _start(what: dict[str, Any]) -> _Start | None:
    """The header that a line is; None if it is not one."""
    given = [what.get(name) for name in ("starttime", "frequency")]
    if all(value is None or isinstance(value, list) for value in given):
        return None
    time = interval_s = None
    try:
        time = datetime.fromisoformat(str(given[0]).strip())
        time = time if 1970 <= time.year < 2200 else None
    except ValueError:
        pass
    try:
        interval_s = float(str(given[1])) / 1000.0
        low, high = INTERVALS_S
        interval_s = interval_s if low <= interval_s <= high else None
    except ValueError:
        pass
    return _Start(time, interval_s)


def _entries(what: dict[str, Any], tally: _Tally) -> Entries:
    """The keys of a line that can be understood."""
    entries: Entries = {}
    for key, fields in what.items():
        if key not in tally.keys and len(tally.keys) < MAX_KEYS and key.isprintable() and len(key) <= LONGEST_KEY:
            tally.keys.add(key)
        entry = _entry(fields) if key in tally.keys else None
        if entry is None:
            tally.lost += 1
            continue
        entries[key] = entry
        if key == "ACID" and isinstance(entry[0], str):
            tally.ident = entry[0]
    return entries


def _entry(fields: Any) -> tuple[Value | None, int] | None:
    """The value and the bits of the flags in the six fields of a key. What is not a number has failed."""
    if not isinstance(fields, list) or len(fields) != 1 + len(_FLAG_BITS):
        return None
    value, *flags = fields
    if any(flag not in (0, 1) for flag in flags) or not isinstance(value, (float, int, str, type(None))):
        return None
    bits = sum(bit for bit, flag in zip(_FLAG_BITS, flags, strict=True) if flag)
    if isinstance(value, str):
        return (value if value.isascii() else value.encode(errors="replace").decode()), bits
    if value is None or (isinstance(value, float) and not isfinite(value)) or abs(value) > LARGEST:
        return None, bits | FAIL
    return value, bits
