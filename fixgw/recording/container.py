"""Recordings as MCAP files: `Writer`, `McapRecording`, which reads finished, cut and damaged ones, and `recover`.

While it is written, a recording has the name ``NAME.mcap.part`` and is locked, so that nobody takes it for one that a
loss of power cut. `Writer.flush` ends a chunk, which is compressed and has a checksum: after a cut, every chunk that
has reached the disk can be read, whatever happened to the others.

In an MCAP message, ``publish_time`` is the gateway's monotonic clock. ``log_time`` is UTC as far as it was known, or
else the monotonic time. The messages of the channel `TIME` relate the two, and the reader dates all messages by the
last of them, because a clock that is stepped was wrong before. A recording without that channel, which another program
has written, is dated by ``log_time``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from fixgw.errors import MissingLibrary
from fixgw.kit.sources import simulated
from fixgw.recording import MCAP_MAGIC as MAGIC
from fixgw.recording import About, Alert, Change, RecordingError, layout
from fixgw.recording.packing import Packer, missing

__all__ = [
    "DEFINITIONS",
    "KEEP",
    "PART",
    "SUFFIX",
    "Busy",
    "McapRecording",
    "Message",
    "NothingRecorded",
    "Writer",
    "facts_of",
    "locked",
    "name_of",
    "recover",
]

SUFFIX = ".mcap"
PART = ".mcap.part"
KEEP = ".keep"  # the suffix of an empty file beside a recording that must not be deleted

ABOUT = "fixgw"  # the metadata record at the beginning
CHANNELS = "fixgw.channels"  # the names of the channels by their numbers, outside of the chunks
END = "fixgw.end"  # the metadata record at the end of a finished recording
DEFINITIONS = "definitions.json"  # the attachment with units and more, by key
VARIABLES = "variables.json"  # the attachment with what ``{NAME}`` in the configuration stands for

MAX_RECORD_BYTES = 64 << 20
MAX_CHUNK_BYTES = 64 << 20  # uncompressed
MAX_CHANNELS = 10_000
SEARCH_BYTES = 1 << 20  # read at a time when looking for the next whole chunk
SCHEMA = b'{"type":"object","additionalProperties":{"type":["number","string","boolean","null"]}}'
SHORTEST_MESSAGE = 22  # bytes of a message without data
RATE = 1_000_000_000  # nanoseconds in a second

# Records of MCAP.
HEADER, FOOTER, CHANNEL, MESSAGE, CHUNK, ATTACHMENT, METADATA, METADATA_INDEX = 1, 2, 4, 5, 6, 9, 12, 13
# In a chunk's record, this precedes the data: start, end, uncompressed size, checksum, then the compression.
COMPRESSIONS = (b"\x04\0\0\0zstd", b"\x03\0\0\0lz4")
BEFORE_COMPRESSION = 9 + 28
FOOTER_BYTES = 9 + 20 + len(MAGIC)


class Busy(RecordingError):
    """The recording is being written or recovered."""


class NothingRecorded(RecordingError):
    """There is no data in the file."""


class Message(NamedTuple):
    """One message. `time` as in `Change`; `stamp` is its monotonic time in ns."""

    time: float
    stamp: int
    topic: str
    data: bytes


# -- writing -----------------------------------------------------------------------------------------------------------


class Writer:
    """Writes a new recording. One thread at a time. It knows no clock: the caller says when to `flush` and to `sync`.

    `path`, by custom ``NAME.mcap.part``, must not exist, unless this is not `exclusive`. `about` are facts for people,
    and for `About` if they are called ``ident`` or ``version``. `topics` are the channels known now, with the encodings
    of their messages. Raises OSError, `FileExistsError` among them, and `MissingLibrary`.

    After an OSError of `flush`, `sync` or `finish` nothing is lost: what could not be written waits in memory
    (`pending` bytes), and the next call continues where this one ended.
    """

    def __init__(
        self,
        path: Path,
        about: Mapping[str, str],
        attachments: Mapping[str, bytes],
        topics: Mapping[str, str] = layout.TOPICS,
        exclusive: bool = True,
    ) -> None:
        self.path = path
        self._file = _Output(path, exclusive)
        try:
            self._packer = Packer(self._file)
        except MissingLibrary:
            self._file.close()
            path.unlink()
            raise
        self._channels: dict[str, int] = {}
        self._schema = self._packer.add_schema("fixgw.values", "jsonschema", SCHEMA)
        self.first = 0  # the monotonic time of the first message, in ns
        self._last = 0
        self._offset: float | None = None
        self.finished = False
        self.messages = 0
        self._packer.add_metadata(ABOUT, about)
        for name, data in attachments.items():
            kind = "application/json" if name.endswith(".json") else "text/plain"
            self._packer.add_attachment(name, kind, data)
        self._declare(topics)

    @property
    def pending(self) -> int:
        """Bytes that could not be written so far."""
        return self._file.pending

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.tell() - self._file.pending

    def write(self, topic: str, data: bytes, monotonic_ns: int, utc_ns: int | None, encoding: str = "json") -> None:
        """Add a message. It is on the disk after the next `sync`. `utc_ns` is None while the clock is not set."""
        channel = self._channels.get(topic)
        if channel is None:
            self._declare({topic: encoding})
            channel = self._channels[topic]
        if not self.messages:
            self.first = monotonic_ns
        self._last = max(self._last, monotonic_ns)
        self.messages += 1
        self._packer.add_message(channel, utc_ns if utc_ns is not None else monotonic_ns, data, monotonic_ns)

    def write_time(self, monotonic: float, utc: float | None, boot: str) -> None:
        """Record what UTC it is, in seconds, as far as that is known."""
        self.relate(None if utc is None else utc - monotonic)
        data = layout.encode({"monotonic": monotonic, "utc": utc, "boot": boot})
        self.write(layout.TIME, data, round(monotonic * RATE), None if utc is None else round(utc * RATE))

    def relate(self, offset: float | None) -> None:
        """Note the difference of UTC and the monotonic time, in seconds, if it is known."""
        if offset is not None:
            self._offset = offset

    def flush(self) -> None:
        """End the chunk, and pass everything to the operating system."""
        self._packer.end_chunk()
        self._file.flush()

    def sync(self) -> None:
        """`flush`, and wait until all is on the disk."""
        self.flush()
        self._file.sync()

    def finish(self, more: Mapping[str, str] | None = None, final: Path | None = None) -> Path:
        """Complete the recording, and give it the name `final`, by default its own without ``.part``; returns that.

        `more` are facts that are known only now. If this raises OSError, it may be called again.
        """
        if not self.finished:
            self._packer.add_metadata(END, {**self._end(), **(more or {})})
            self._packer.finish()
            self.finished = True
        self.sync()
        final = _publish(self.path, final)
        self.abandon()
        return final

    def abandon(self) -> None:
        """Close the file as it is. It can be recovered."""
        self._file.close()

    def _end(self) -> dict[str, str]:
        end = {"first": str(self.first), "last": str(self._last), "messages": str(self.messages)}
        if self._offset is not None:
            end["offset"] = repr(self._offset)
        return end

    def _declare(self, topics: Mapping[str, str]) -> None:
        """Register channels, and name them outside of the chunks too: the chunk that has them may get lost."""
        for topic, encoding in topics.items():
            schema = self._schema if layout.holds_values(topic) and encoding == "json" else 0
            self._channels[topic] = self._packer.add_channel(topic, encoding, schema)
        self._packer.add_metadata(CHANNELS, {str(self._channels[topic]): topic for topic in topics})


class _Output:
    """What the library writes to: it keeps in memory what the disk does not take."""

    def __init__(self, path: Path, exclusive: bool) -> None:
        self._fd = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if exclusive else os.O_TRUNC)
        self._fd = os.open(path, flags, 0o666)
        self._waiting: list[bytes] = []
        self._count = 0
        self.pending = 0
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise
        except OSError:  # a file system without locks
            pass

    def write(self, data: bytes | memoryview) -> int:
        self._waiting.append(bytes(data))
        self._count += len(data)
        self.pending += len(data)
        return len(data)

    def tell(self) -> int:
        return self._count

    def flush(self) -> None:
        if not self._waiting:
            return
        rest = b"".join(self._waiting)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        finally:
            self._waiting = [rest] if rest else []
            self.pending = len(rest)

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


def _publish(part: Path, final: Path | None = None) -> Path:
    """Rename a finished recording, unless that would replace another. Returns its new name."""
    final = final or part.with_name(part.name.removesuffix(".part"))
    if final.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
    os.rename(part, final)
    _sync_directory(final.parent)
    return final


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- reading -----------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A record outside of the chunks, or a chunk's contents."""

    opcode: int
    data: bytes


class _Pieces:
    """The records of a file, in order, without what is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.lost = 0
        self.complete = False

    def __iter__(self) -> Iterator[_Piece]:
        file = self._file
        size = os.fstat(file.fileno()).st_size
        at = file.seek(len(MAGIC))
        self.lost, self.complete = 0, False
        while True:
            file.seek(at)
            head = file.read(9)
            if len(head) < 9:
                return
            opcode, length = struct.unpack("<BQ", head)
            end = at + 9 + length
            data = file.read(length) if 0 < opcode < 16 and length <= MAX_RECORD_BYTES and end <= size else None
            if data is None or len(data) < length:
                found = self._find_chunk(at + 1, size)
                if found is None:  # cut here, if this is a record at all
                    self.lost += data is None and not 0 < opcode < 16
                    return
                self.lost += 1
                at = found
                continue
            if opcode == CHUNK:
                try:
                    data = _unpack_chunk(data)
                except _DAMAGE:
                    self.lost += 1
                    found = self._find_chunk(at + 9, end)
                    at = end if found is None else found  # the length may be damaged, too
                    continue
            yield _Piece(opcode, data)
            at = end
            if opcode == FOOTER:
                self.complete = file.read(len(MAGIC)) == MAGIC
                return

    def _find_chunk(self, start: int, end: int) -> int | None:
        """The position of the next record that looks like a chunk and begins before `end`; None if there is none."""
        overlap = BEFORE_COMPRESSION + max(map(len, COMPRESSIONS))
        for base in range(start, end, SEARCH_BYTES):
            self._file.seek(base)
            block = self._file.read(SEARCH_BYTES + overlap)
            found = []
            for sign in COMPRESSIONS:
                place = block.find(sign, BEFORE_COMPRESSION)
                while place >= 0:
                    begin = place - BEFORE_COMPRESSION
                    opcode, length = struct.unpack_from("<BQ", block, begin)
                    if opcode == CHUNK and 28 + len(sign) + 8 <= length <= MAX_RECORD_BYTES and base + begin < end:
                        found.append(base + begin)
                        break
                    place = block.find(sign, place + 1)
            if found:
                return min(found)
        return None


_DAMAGE = (ValueError, OverflowError, IndexError, struct.error, EOFError, MemoryError, RuntimeError)


def _unpack_chunk(data: bytes) -> bytes:
    """The contents of a chunk's record. Raises one of `_DAMAGE` unless they are intact."""
    _, _, size, checksum = struct.unpack_from("<QQQI", data)
    name, at = _text(data, 28)
    (length,) = struct.unpack_from("<Q", data, at)
    packed = data[at + 8 : at + 8 + length]
    if len(packed) != length or size > MAX_CHUNK_BYTES:
        raise ValueError("the sizes do not fit")
    content = _decompress(name, packed, size)
    if len(content) != size or (checksum and zlib.crc32(content) != checksum):
        raise ValueError("the checksum is wrong")
    return content


def _decompress(name: str, packed: bytes, size: int) -> bytes:
    if name == "":
        return packed
    try:
        if name == "zstd":
            import zstandard

            try:
                with zstandard.ZstdDecompressor().stream_reader(packed) as reader:  # bounded, whatever the frame says
                    return reader.read(size + 1)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
        if name == "lz4":
            import lz4.frame  # type: ignore[import-untyped]

            return lz4.frame.LZ4FrameDecompressor().decompress(packed, size + 1)  # type: ignore[no-any-return]
    except ImportError as error:
        raise missing(error) from error
    raise ValueError(f"unknown compression {name!r}")


def _text(data: bytes, at: int) -> tuple[str, int]:
    """The text at `at`, and where it ends."""
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise ValueError("a text is cut")
    return data[at + 4 : end].decode(), end


def _mapping(data: bytes, at: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    at += 4
    found = {}
    while at < end:
        name, at = _text(data, at)
        found[name], at = _text(data, at)
    return found


class _Raw(NamedTuple):
    """A message as it is in the file; times in ns."""

    channel: int
    logged: int
    stamp: int
    data: bytes


def _messages(piece: _Piece) -> Iterator[tuple[int, bytes] | _Raw]:
    """The records in a piece: messages, and the others with their numbers."""
    if piece.opcode == MESSAGE:
        if len(piece.data) >= SHORTEST_MESSAGE:
            yield _message(piece.data, 0, len(piece.data))
    elif piece.opcode != CHUNK:
        yield piece.opcode, piece.data
    else:
        data, at, size = piece.data, 0, len(piece.data)
        while at + 9 <= size:
            opcode, length = struct.unpack_from("<BQ", data, at)
            end = at + 9 + length
            if end > size:
                return
            if opcode == MESSAGE and length >= SHORTEST_MESSAGE:
                yield _message(data, at + 9, end)
            elif opcode == CHANNEL:
                yield opcode, data[at + 9 : end]
            at = end


def _message(data: bytes, at: int, end: int) -> _Raw:
    channel, _, logged, stamp = struct.unpack_from("<HIQQ", data, at)
    return _Raw(channel, logged, stamp, data[at + SHORTEST_MESSAGE : end])


def name_of(path: Path) -> str:
    """The name of the recording in the file `path`."""
    return path.name.removesuffix(".part").removesuffix(SUFFIX)


def locked(path: Path) -> bool:
    """Whether a recording is being written or recovered now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def facts_of(path: Path) -> dict[str, str] | None:
    """What a finished recording of ours says about itself, found without reading it; None for any other file.

    ``first`` and ``last`` are monotonic, in ns; ``offset`` is UTC minus the monotonic time, in seconds. Raises OSError.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - FOOTER_BYTES))
            tail = file.read()
            if tail[-len(MAGIC) :] != MAGIC or tail[:1] != bytes([FOOTER]):
                return None
            (summary,) = struct.unpack_from("<Q", tail, 9)
            if not 0 < summary < size or size - summary > MAX_RECORD_BYTES:
                return None
            file.seek(summary)
            content, at, facts = file.read(size - summary), 0, dict[str, str]()
            while at + 9 <= len(content):
                opcode, length = struct.unpack_from("<BQ", content, at)
                if opcode == METADATA_INDEX:
                    offset, whole = struct.unpack_from("<QQ", content, at + 9)
                    name, _ = _text(content, at + 25)
                    if name in (ABOUT, END) and whole < MAX_RECORD_BYTES:
                        file.seek(offset + 9)
                        record = file.read(whole - 9)
                        facts |= _mapping(record, _text(record, 0)[1])
                at += 9 + length
    except _DAMAGE:
        return None
    return facts if "first" in facts else None


class McapRecording:
    """Reads an MCAP file, chunk by chunk; see `fixgw.recording.Recording`. Raises `RecordingError` and OSError.

    `each` is called after each chunk of the first reading, which finds out what is in the file; it may wait or raise.
    """

    def __init__(self, path: Path, each: Callable[[], object] = bool) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            head = self._file.read(len(MAGIC))
            if not head:
                raise NothingRecorded(f"{path} is empty")
            if head != MAGIC:
                raise RecordingError(f"{path} is not an MCAP file")
            self.channels: dict[int, tuple[str, str]] = {}  # topic and encoding by number
            self.pieces = _Pieces(self._file)
            #: The contents of the attachments by name.
            self.attachments: dict[str, bytes] = {}
            self.offset: float | None = None
            self._own = False  # there is a channel `TIME`, so that `publish_time` is monotonic
            self.about = self._survey(path, each)
        except BaseException:
            self._file.close()
            raise

    # -- what `Recording` promises -------------------------------------------------------------------------------------

    def changes(
        self, keys: Collection[str] | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[Change]:
        wanted = None if keys is None else frozenset(keys)
        state: dict[str, list[Any]] = {}  # value, flags, source, reasons
        begun = since is None
        touched: dict[str, None] = {}
        at = float("-inf")
        for message in self._merged(lambda topic: topic in _FOLDED or layout.holds_values(topic)):
            if message.time != at:
                if begun:
                    yield from _emit(at, touched, state)
                    touched = {}
                elif since is not None and message.time > since:
                    yield from _emit(since, touched, state)
                    begun, touched = True, {}
                at = message.time
                if until is not None and at > until:
                    return
            try:
                content = layout.decode(message.data)
                for key, found in content.items():
                    if wanted is None or key in wanted:
                        _fold(state, key, message.topic, found)
                        touched[key] = None
            except ValueError:
                continue  # another program's message, or nonsense
        if touched:
            yield from _emit(at if begun or since is None else since, touched, state)

    def alerts(self) -> list[Alert]:
        found = []
        for message in self._merged(lambda topic: topic == layout.ALERTS):
            with suppress(ValueError):
                content = layout.decode(message.data)
                words = (str(content.get(name, "")) for name in ("id", "to", "level", "text"))
                found.append(Alert(message.time, *words))
        return found

    def close(self) -> None:
        self._file.close()

    # -- more ----------------------------------------------------------------------------------------------------------

    def messages(self, *topics: str, since: float | None = None, until: float | None = None) -> Iterator[Message]:
        """The messages of the channels whose names are one of `topics`, or begin with one that ends with ``/``; all if
        there are none. In the order of time."""

        def wanted(topic: str) -> bool:
            return not topics or any(topic == t or (t.endswith("/") and topic.startswith(t)) for t in topics)

        for message in self._merged(wanted):
            if until is not None and message.time > until:
                return
            if since is None or message.time >= since:
                yield message

    def topics(self) -> dict[str, str]:
        """The channels and the encodings of their messages."""
        return dict(self.channels.values())

    # -- reading -------------------------------------------------------------------------------------------------------

    def _merged(self, wanted: Any) -> Iterator[Message]:
        """The messages of the channels that are `wanted`, those of each chunk in the order of time."""
        numbers = {number: topic for number, (topic, _) in self.channels.items() if wanted(topic)}
        offset = self.offset
        for piece in self.pieces:
            if piece.opcode not in (CHUNK, MESSAGE):
                continue
            found = [
                Message(self._time(record, offset), record.stamp, numbers[record.channel], record.data)
                for record in _messages(piece)
                if type(record) is _Raw and record.channel in numbers
            ]
            found.sort(key=_by_time)
            yield from found

    def _time(self, record: _Raw, offset: float | None) -> float:
        if not self._own:
            return record.logged / RATE
        return record.stamp / RATE + (offset or 0.0)

    def _survey(self, path: Path, each: Callable[[], object]) -> About:
        """Read the whole file once, for what it says about itself."""
        more: dict[str, Any] = {}
        unknown: set[int] = set()
        logged = [2**64, 0]
        stamps = [2**64, 0]
        count = 0
        any_simulated = False
        for piece in self.pieces:
            if piece.opcode == CHUNK:
                each()
            if piece.opcode == METADATA:
                with suppress(*_DAMAGE):
                    name, at = _text(piece.data, 0)
                    facts = _mapping(piece.data, at)
                    if name == CHANNELS:
                        for number, topic in facts.items():
                            self.channels.setdefault(int(number), (topic, "json"))
                    elif name in (ABOUT, END):
                        more |= facts
                    else:
                        more[name] = facts
            elif piece.opcode == ATTACHMENT:
                with suppress(*_DAMAGE):
                    name, content = _attachment(piece.data)
                    self.attachments[name] = content
            for record in _messages(piece):
                if not isinstance(record, _Raw):
                    opcode, content = record
                    if opcode == CHANNEL:
                        with suppress(*_DAMAGE):
                            self._add_channel(content)
                    continue
                count += 1
                logged = [min(logged[0], record.logged), max(logged[1], record.logged)]
                stamps = [min(stamps[0], record.stamp), max(stamps[1], record.stamp)]
                topic = self.channels.get(record.channel, ("", ""))[0]
                if topic == layout.TIME:
                    self._note_time(record.data)
                elif topic == layout.SOURCES and not any_simulated:
                    any_simulated = _names_simulated(record.data)
                elif not topic:
                    unknown.add(record.channel)
        lost = self.pieces.lost + len(unknown - self.channels.keys())
        times = [s / RATE + (self.offset or 0.0) for s in stamps] if self._own else [t / RATE for t in logged]
        definitions = _definitions(self.attachments.get(DEFINITIONS, b"{}"))
        return About(
            name=name_of(path),
            path=path,
            start=times[0] if count else 0.0,
            end=times[1] if count else 0.0,
            dated=self.offset is not None if self._own else logged[0] / RATE >= EARLIEST_S,
            complete=self.pieces.complete,
            lost=lost,
            ident=str(more.get("ident", "")),
            version=str(more.get("version", "")),
            simulated=any_simulated or more.get("simulated") == "true",
            keep=path.with_name(path.name.removesuffix(".part") + KEEP).exists(),
            units={key: units for key, f in definitions.items() if isinstance(units := f.get("units"), str) and units},
            more={**more, "messages": count, "definitions": definitions, "shift": times[0] - stamps[0] / RATE},
        )

    def _note_time(self, data: bytes) -> None:
        self._own = True
        with suppress(ValueError):
            pair = msgspec.json.decode(data, type=_Pair)
            if pair.utc is not None:
                self.offset = pair.utc - pair.monotonic

    def _add_channel(self, data: bytes) -> None:
        number, _ = struct.unpack_from("<HH", data)
        topic, at = _text(data, 4)
        encoding, _ = _text(data, at)
        if len(self.channels) < MAX_CHANNELS:
            self.channels[number] = topic, encoding


EARLIEST_S = 946_684_800.0  # 2000-01-01: an earlier time is not a date, but seconds since some start
_FOLDED = (layout.FLAGS, layout.SOURCES, layout.REASONS)


_NO_REASONS: Mapping[str, str] = {}


class _Pair(msgspec.Struct):
    monotonic: float
    utc: float | None = None


def _by_time(message: Message) -> float:
    return message.time


def _fold(state: dict[str, list[Any]], key: str, topic: str, found: Any) -> None:
    now = state.setdefault(key, [None, 0, "", _NO_REASONS])
    if topic == layout.FLAGS:
        now[1] = layout.flag_bits(found)
    elif topic == layout.SOURCES:
        now[2] = str(found)
    elif topic == layout.REASONS:
        now[3] = {str(flag): str(why) for flag, why in found.items()} if isinstance(found, dict) else _NO_REASONS
    elif found is None or isinstance(found, (float, int, bool, str)):
        now[0] = found


def _emit(time: float, keys: Collection[str], state: Mapping[str, list[Any]]) -> Iterator[Change]:
    for key in keys:
        if key in state:
            yield Change(time, key, *state[key])


def _attachment(data: bytes) -> tuple[str, bytes]:
    name, at = _text(data, 16)
    _, at = _text(data, at)
    (length,) = struct.unpack_from("<Q", data, at)
    content = data[at + 8 : at + 8 + length]
    (checksum,) = struct.unpack_from("<I", data, at + 8 + length)
    if checksum and zlib.crc32(data[: at + 8 + length]) != checksum:
        raise ValueError("the checksum is wrong")
    return name, content


def _definitions(data: bytes) -> dict[str, dict[str, Any]]:
    with suppress(ValueError):
        return {key: facts for key, facts in layout.decode(data).items() if isinstance(facts, dict)}
    return {}


def _names_simulated(data: bytes) -> bool:
    with suppress(ValueError):
        return any(simulated(str(source)) for source in layout.decode(data).values())
    return False


# -- recovering --------------------------------------------------------------------------------------------------------


def recover(path: Path, each: Callable[[], object] = bool) -> Path:
    """Write a whole recording beside the cut or damaged one at `path`, and return its path. `path` stays.

    `each` is called after each chunk, and may wait or raise.

    ``NAME.mcap.part`` becomes ``NAME.mcap``, and another ``NAME.mcap`` becomes ``NAME-recovered.mcap``. Raises
    `RecordingError` if there is nothing to recover or it is still being written, `FileExistsError` if there is such a
    file already, and OSError.
    """
    if path.name.endswith(".part"):
        final = path.with_name(name_of(path) + SUFFIX)
    else:
        final = path.with_name(f"{name_of(path)}-recovered{SUFFIX}")
    if final.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{path} is still being written") from None
        except OSError:
            pass
        recording = McapRecording(path, each)
        try:
            if not recording.about.more["messages"]:
                raise NothingRecorded(f"{path} has no data that could be recovered")
            return _rewrite(recording, final, each)
        finally:
            recording.close()
    finally:
        os.close(lock)


def _rewrite(recording: McapRecording, final: Path, each: Callable[[], object]) -> Path:
    new = final.with_name(f".{final.name}.new")
    facts = {k: v for k, v in recording.about.more.items() if isinstance(v, str)}
    writer = Writer(new, {**facts, "recovered": "true"}, recording.attachments, recording.topics(), exclusive=False)
    writer.relate(recording.offset)
    try:
        for piece in recording.pieces:
            for record in _messages(piece):
                if type(record) is _Raw and record.channel in recording.channels:
                    topic, encoding = recording.channels[record.channel]
                    writer.write(topic, record.data, record.stamp, record.logged, encoding)
            if piece.opcode == CHUNK:
                writer.flush()
                each()
        return writer.finish(_story(recording, each), final)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        writer.abandon()


def _story(recording: McapRecording, each: Callable[[], object]) -> dict[str, str]:
    """What the list of flights says, as the recorder notes it at the end: times are monotonic."""
    from fixgw.recording.flight import story

    told, shift = story(recording, each), recording.about.more["shift"]
    times = {"takeoff": told.takeoff, "landing": told.landing}
    facts = {name: repr(at - shift) for name, at in times.items() if at is not None}
    if told.level:
        facts |= {"alert level": told.level, "alert": told.alert}
    return facts | ({"simulated": "true"} if recording.about.simulated else {})
