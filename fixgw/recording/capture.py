"""Captures, the raw data of links in a file: `open_capture` reads them, `write_capture` writes one, and
`CaptureWriter` writes one bit by bit.

A capture is a recording with raw data (`fixgw.recording.raw`), and usually the configuration that it was made with. The
log of a CAN bus as candump writes it, and the bytes of a serial line in a file, are captures of one link.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from fixgw.kit import candump
from fixgw.kit.raw import Event, Heard
from fixgw.kit.update import Value
from fixgw.recording import MCAP_MAGIC, RecordingError, layout, raw

__all__ = ["Capture", "CaptureWriter", "Entry", "Outside", "open_capture", "unpack_configuration", "write_capture"]

#: Messages are written when this much has gathered at most, so that entries may be this much out of order.
DISORDER_S = 5.0
#: The attachments with the files of the configuration begin with this; the main file is the first.
CONFIGURATION = "configuration/"
MAX_TEXT_BYTES = 64 << 20  # of a log or a file of bytes
BATCH_S = 0.2  # of entries in a message
PIECE_S = 0.1  # between the lines of a file of bytes without times


class Outside(NamedTuple):
    """A value, or an aux value (``KEY.aux``), that somebody other than a recorded link has set."""

    stamp: float
    key: str
    value: Value | None
    flags: int
    source: str


Entry = Heard | Outside


class Capture(Protocol):
    """What a replay needs. Times are in seconds of the recording gateway's monotonic clock."""

    path: Path
    #: When the capture began and ended; `end` 0 if that is not known before the last entry.
    start: float
    end: float
    #: What to add to a time for UTC; None if nobody knew.
    offset: float | None
    #: The values at the start.
    state: list[Outside]
    #: The names of the links of which it has data.
    links: Collection[str]
    #: The files of the configuration by name, the main file first; empty if the capture has none.
    configuration: Mapping[str, bytes]
    #: What ``{NAME}`` in it stands for.
    variables: Mapping[str, str]

    def entries(self) -> Iterator[Entry]:
        """All entries in the order of time. Those before `start` say what was exchanged when links were opened."""

    def close(self) -> None: ...


def open_capture(path: Path, connection: str = "") -> Capture:
    """Open the capture at `path`. For a file with the data of one link, `connection` names the connection or the bus.

    Raises `RecordingError` if it is none, and OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    if head.startswith(MCAP_MAGIC):
        return McapCapture(path)
    if os.stat(path).st_size > MAX_TEXT_BYTES:
        raise RecordingError(f"{path} is too long for a log: more than {MAX_TEXT_BYTES >> 20} MiB")
    content = path.read_bytes()
    if not content.strip():
        raise RecordingError(f"{path} is empty")
    if any(candump.parse(line) for line in head.decode("latin-1").splitlines()[:20]):
        return TextCapture(path, _candump(content.decode("latin-1").splitlines(), connection))
    if b"$" not in head:
        raise RecordingError(f"{path} is no capture: neither an MCAP file, nor a log of candump, nor NMEA sentences")
    if not connection:
        raise RecordingError(f"{path} has the bytes of one line: name the connection that reads it with --connection")
    return TextCapture(path, _sentences(content, connection))


class McapCapture:
    """A recording with raw data."""

    def __init__(self, path: Path) -> None:
        from fixgw.recording.container import VARIABLES, McapRecording

        self.path = path
        self.recording = recording = McapRecording(path)
        if not any(raw.is_raw(topic) for topic in recording.topics()):
            recording.close()
            raise RecordingError(f"{path} has no raw data: record with `raw: yes`, or `fixgw record --raw`")
        self.links: Collection[str] = frozenset(filter(None, map(raw.is_raw, recording.topics())))
        self.offset = recording.offset
        self.start, self.end = self._times()
        self.state: list[Outside] = []
        self._later: list[Outside] = []
        self._read_values()
        self.configuration: Mapping[str, bytes] = {
            name.removeprefix(CONFIGURATION): data
            for name, data in recording.attachments.items()
            if name.startswith(CONFIGURATION)
        }
        self.variables: Mapping[str, str] = {}
        with suppress(ValueError):
            self.variables = msgspec.json.decode(recording.attachments.get(VARIABLES, b"{}"), type=dict[str, str])

    def close(self) -> None:
        self.recording.close()

    def _times(self) -> tuple[float, float]:
        first, last = float("inf"), float("-inf")
        for message in self.recording.messages():
            at = message.stamp / 1e9
            first, last = min(first, at), max(last, at)
        return (first, last) if first <= last else (0.0, 0.0)

    def _read_values(self) -> None:
        """Values are few beside raw data, so they may be held."""
        flags: dict[str, int] = {}
        sources: dict[str, str] = {}
        batch: dict[str, Any] = {}
        stamp: int | None = None
        for message in self.recording.messages():
            topic = message.topic
            if message.stamp != stamp:
                self._add_values(stamp, batch, flags, sources)
                stamp, batch = message.stamp, {}
            if topic not in (layout.FLAGS, layout.SOURCES, layout.AUX) and not layout.holds_values(topic):
                continue
            try:
                content = msgspec.json.decode(message.data, type=dict[str, Any])
            except msgspec.MsgspecError:
                continue
            if topic == layout.FLAGS:
                for key, text in content.items():
                    with suppress(ValueError):
                        flags[key] = layout.flag_bits(text)
            elif topic == layout.SOURCES:
                sources |= {key: text for key, text in content.items() if isinstance(text, str)}
            else:
                batch |= {key: v for key, v in content.items() if isinstance(v, bool | int | float | str)}
        self._add_values(stamp, batch, flags, sources)

    def _add_values(
        self, stamp: int | None, batch: Mapping[str, Any], flags: Mapping[str, int], sources: Mapping[str, str]
    ) -> None:
        if stamp is None or not batch:
            return
        found = [
            Outside(stamp / 1e9, key, value, flags.get(key, 0), sources.get(key, "")) for key, value in batch.items()
        ]
        if not self.state:
            self.state = found
        else:
            self._later += [each for each in found if each.source or "." in each.key]

    def entries(self) -> Iterator[Entry]:
        """All entries, sorted with a bounded buffer."""
        order = count()
        # By time, but all that happened before the start together, in its order.
        waiting = [(each.stamp, each.stamp, next(order), each) for each in list[Entry](self._later)]
        heapq.heapify(waiting)
        newest = last = float("-inf")
        for message in self.recording.messages(*layout.RAW):
            newest = max(newest, message.stamp / 1e9)
            for heard in raw.decode(raw.is_raw(message.topic), message.data):
                heapq.heappush(waiting, (max(heard.stamp, self.start), heard.stamp, next(order), heard))
            while waiting and waiting[0][0] < newest - DISORDER_S:
                stamp, _, _, entry = heapq.heappop(waiting)
                if stamp >= last:  # else a new file or piece begins, and tells again which links are open
                    last = stamp
                    yield entry
        while waiting:
            yield heapq.heappop(waiting)[3]


class TextCapture:
    """The data of one link, or of several buses."""

    def __init__(self, path: Path, entries: Iterable[Heard]) -> None:
        self.path = path
        self._entries = sorted(entries, key=lambda heard: heard.stamp)
        if not self._entries:
            raise RecordingError(f"{path} has no data")
        self.start, self.end = self._entries[0].stamp, self._entries[-1].stamp
        self.links: Collection[str] = frozenset(heard.connection for heard in self._entries)
        self.offset: float | None = 0.0 if self.start > 1e9 else None
        self.state: list[Outside] = []
        self.configuration: Mapping[str, bytes] = {}
        self.variables: Mapping[str, str] = {}

    def entries(self) -> Iterator[Entry]:
        return iter(self._entries)

    def close(self) -> None: ...


def write_capture(
    path: Path,
    entries: Iterable[Heard],
    configuration: Mapping[str, bytes],
    start: float,
    about: Mapping[str, str] | None = None,
    state: Iterable[Outside] = (),
    offset: float | None = None,
) -> None:
    """Write a capture to `path`, which must not exist; `entries` in the order of time.

    Raises OSError, FileExistsError among them, and `MissingLibrary`.
    """
    writer = CaptureWriter(path, configuration, start, about, state, offset)
    try:
        writer.write(entries)
        writer.close()
    except BaseException:
        writer.abandon()
        raise


class CaptureWriter:
    """Writes a capture to `path`, which must not exist, while it is being recorded. One thread.

    `variables` is what ``{NAME}`` in the configuration stands for, `offset` what to add to a time for UTC. Raises
    OSError, FileExistsError among them, and `MissingLibrary`.
    """

    def __init__(
        self,
        path: Path,
        configuration: Mapping[str, bytes],
        start: float,
        about: Mapping[str, str] | None = None,
        state: Iterable[Outside] = (),
        offset: float | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        from fixgw.recording.container import PART, SUFFIX, VARIABLES, Writer

        self._part = path.with_name(path.name.removesuffix(SUFFIX) + PART)
        attachments = {CONFIGURATION + name: data for name, data in configuration.items()}
        if variables:
            attachments[VARIABLES] = layout.encode(dict(variables))
        self._writer = Writer(self._part, dict(about or {}), attachments)
        self._at = start
        self._writer.write_time(start, None if offset is None else start + offset, "")
        _write_state(self._writer, start, state)

    def write(self, entries: Iterable[Heard]) -> None:
        """Write entries, in the order of time."""
        self._at = write_raw(self._writer, entries, self._at)

    def close(self) -> None:
        """Complete the capture."""
        self._writer.finish()

    def abandon(self) -> None:
        """Remove what has been written."""
        self._writer.abandon()
        self._part.unlink(missing_ok=True)


def write_raw(writer: Any, entries: Iterable[Heard], start: float) -> float:
    """Write `entries`, in the order of time, as messages from `start` on. Returns the time of the last message: a later
    call begins with it."""
    batch: dict[str, list[Heard]] = {}
    due = start
    for heard in entries:
        if heard.stamp >= due:
            _write_batch(writer, batch, due)
            due = heard.stamp + BATCH_S
        batch.setdefault(raw.topic(heard), []).append(heard)
    _write_batch(writer, batch, due)
    return due


def _write_state(writer: Any, start: float, state: Iterable[Outside]) -> None:
    groups: dict[str, dict[str, Any]] = {}
    for each in state:
        aux = "." in each.key
        groups.setdefault(layout.AUX if aux else layout.topic_of(each.key), {})[each.key] = each.value
        if not aux:
            groups.setdefault(layout.FLAGS, {})[each.key] = f"{each.flags:05b}"
            groups.setdefault(layout.SOURCES, {})[each.key] = each.source
    for topic, content in groups.items():
        writer.write(topic, layout.encode(content), round(start * 1e9), None)


def _write_batch(writer: Any, batch: dict[str, list[Heard]], now: float) -> None:
    for topic, entries in batch.items():
        writer.write(topic, raw.encode(entries), round(now * 1e9), None, raw.ENCODING)
    batch.clear()


def unpack_configuration(capture: Capture, directory: Path) -> Path:
    """Write the files of the capture's configuration below `directory`, and return the main file.

    Raises `RecordingError` if it has none, or if a name leads out of the directory.
    """
    main: Path | None = None
    root = directory.resolve()
    for name, data in capture.configuration.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root) or path == root:
            raise RecordingError(f"{capture.path}: the configuration has a file {name!r}, which is not below it")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        main = main or path
    if main is None:
        raise RecordingError(f"{capture.path} has no configuration: name one with --config")
    return main


# -- other people's files ----------------------------------------------------------------------------------------------


def _candump(lines: Iterable[str], bus: str) -> Iterator[Heard]:
    """The frames of a log; `bus` replaces the name of its interfaces."""
    for text in lines:
        found = candump.parse(text)
        if found is not None and not found.flags & candump.ERROR:
            frame = raw.CanFrame(found.identifier, found.data, found.flags, found.time)
            yield Heard(bus or f"socketcan {found.channel}", found.time, "in", [frame])


_TIME = re.compile(
    rb"\$[A-Z]{2}(?:RMC,|GGA,|ZDA,|GNS,|GLL,[\d.]*,[NS]?,[\d.]*,[EW]?,)(\d\d)(\d\d)(\d\d(?:\.\d+)?)(?=[,*])"
)


def _sentences(content: bytes, connection: str) -> Iterator[Heard]:
    """The lines of a file, at the times in their sentences; a line without one comes with the line before."""
    at, day = 1000.0, None
    yield Heard(connection, at, "in", Event("serial", "opened"))
    for text in content.splitlines(keepends=True):
        match = _TIME.search(text)
        if match is not None:
            seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            if day is not None:
                step = (seconds - day + 43200.0) % 86400.0 - 43200.0
                at += step if 0.0 <= step <= 10.0 else 1.0
            day = seconds
        elif day is None:
            at += PIECE_S
        yield Heard(connection, at, "in", text)
