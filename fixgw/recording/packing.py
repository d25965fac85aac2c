"""`Packer`: the records of an MCAP file, in the order in which they are written.

The library's own writer takes four times as long for a message, and more memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

from fixgw.errors import MissingLibrary
from fixgw.recording import MCAP_MAGIC

__all__ = ["Packer", "missing"]

CHUNK_BYTES = 4 << 20  # a chunk is ended at this size, if nobody has ended it earlier
LEVEL = 1  # of compression; higher ones gain nothing here
MESSAGE = struct.Struct("<BQHIQQ")
MESSAGE_BYTES = MESSAGE.size - 9  # without opcode and length
FOOTER = struct.Struct("<BQQQ")
FOOTER_BYTES = 20


class Output(Protocol):
    """Where the records go. `write` does not fail."""

    def write(self, data: bytes) -> int: ...
    def tell(self) -> int: ...


def missing(error: ImportError) -> MissingLibrary:
    """What to say when a library is not installed."""
    return MissingLibrary(error.name or "mcap", "record")


class Packer:
    """Packs messages in chunks, compressed and with checksums. One thread. Raises `MissingLibrary`."""

    def __init__(self, output: Output) -> None:
        try:
            import zstandard
            from mcap import records
            from mcap.data_stream import RecordBuilder
        except ImportError as error:
            raise missing(error) from error
        self._output = output
        self._records = records
        self._builder = RecordBuilder
        self._compress = zstandard.ZstdCompressor(LEVEL).compress
        self._chunk: list[bytes] = []
        self._chunk_size = 0
        self._times: tuple[int, int] | None = None  # the first and the last in the chunk
        self._all_times: tuple[int, int] | None = None
        self._counts: dict[int, int] = {}  # messages by channel
        self._schemas: list[Any] = []
        self._channels: list[Any] = []
        self._chunks: list[Any] = []  # the indexes
        self._attachments: list[Any] = []
        self._metadata: list[Any] = []
        output.write(MCAP_MAGIC)
        self._put(records.Header("fixgw", "fixgw"))

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Add a schema, and return its number."""
        schema = self._records.Schema(id=len(self._schemas) + 1, name=name, encoding=encoding, data=data)
        self._schemas.append(schema)
        self._append(self._packed(schema))
        return schema.id

    def add_channel(self, topic: str, encoding: str, schema: int) -> int:
        """Add a channel, and return its number. `schema` is 0 if there is none."""
        channel = self._records.Channel(
            id=len(self._channels) + 1, topic=topic, message_encoding=encoding, metadata={}, schema_id=schema
        )
        self._channels.append(channel)
        self._append(self._packed(channel))
        return channel.id

    def add_message(self, channel: int, log_ns: int, data: bytes, publish_ns: int) -> None:
        """Add a message to the chunk."""
        if self._times is None:
            self._times = log_ns, log_ns
        elif not self._times[0] <= log_ns <= self._times[1]:
            self._times = min(log_ns, self._times[0]), max(log_ns, self._times[1])
        self._counts[channel] = self._counts.get(channel, 0) + 1
        self._append(MESSAGE.pack(5, MESSAGE_BYTES + len(data), channel, 0, log_ns, publish_ns))
        self._append(data)
        if self._chunk_size > CHUNK_BYTES:
            self.end_chunk()

    def add_attachment(self, name: str, kind: str, data: bytes) -> None:
        times = {"create_time": 0, "log_time": 0}
        attachment = self._records.Attachment(**times, name=name, media_type=kind, data=data)
        offset, length = self._put(attachment)
        index = self._records.AttachmentIndex(
            offset=offset, length=length, data_size=len(data), name=name, media_type=kind, **times
        )
        self._attachments.append(index)

    def add_metadata(self, name: str, facts: Mapping[str, str]) -> None:
        offset, length = self._put(self._records.Metadata(name=name, metadata=dict(facts)))
        self._metadata.append(self._records.MetadataIndex(offset=offset, length=length, name=name))

    def end_chunk(self) -> None:
        """Write the chunk, if there are any messages in it."""
        if self._times is None:
            return
        content = b"".join(self._chunk)
        first, last = self._times
        self._chunk, self._chunk_size, self._times = [], 0, None
        packed = self._compress(content)
        facts: dict[str, Any] = {
            "compression": "zstd",
            "message_start_time": first,
            "message_end_time": last,
            "uncompressed_size": len(content),
        }
        offset, length = self._put(
            self._records.Chunk(data=packed, uncompressed_crc=zlib.crc32(content), **facts),
        )
        index = self._records.ChunkIndex(
            chunk_start_offset=offset,
            chunk_length=length,
            compressed_size=len(packed),
            message_index_offsets={},
            message_index_length=0,
            **facts,
        )
        self._chunks.append(index)
        before = self._all_times or (first, last)
        self._all_times = min(first, before[0]), max(last, before[1])

    def finish(self) -> None:
        """Write the rest, and the summary."""
        self.end_chunk()
        self._put(self._records.DataEnd(data_section_crc=0))
        start = self._output.tell()
        first, last = self._all_times or (0, 0)
        statistics = self._records.Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_start_time=first,
            message_end_time=last,
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )
        summary, offsets = b"", b""
        for group in (
            self._schemas,
            self._channels,
            [statistics],
            self._chunks,
            self._attachments,
            self._metadata,
        ):
            packed = b"".join(map(self._packed, group))
            if packed:
                place = self._records.SummaryOffset(
                    group_opcode=packed[0], group_start=start + len(summary), group_length=len(packed)
                )
                offsets += self._packed(place)
                summary += packed
        footer = FOOTER.pack(2, FOOTER_BYTES, start, start + len(summary))
        whole = summary + offsets + footer
        self._output.write(whole + struct.pack("<I", zlib.crc32(whole)) + MCAP_MAGIC)

    def _append(self, data: bytes) -> None:
        self._chunk.append(data)
        self._chunk_size += len(data)

    def _put(self, record: Any) -> tuple[int, int]:
        """Write a record; return where, and its length."""
        packed = self._packed(record)
        offset = self._output.tell()
        self._output.write(packed)
        return offset, len(packed)

    def _packed(self, record: Any) -> bytes:
        builder = self._builder()
        record.write(builder)
        packed: bytes = builder.end()  # type: ignore[no-untyped-call]
        return packed
