"""Recordings as MCAP files: written, cut, damaged, read and recovered. The library's own reader is the oracle."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from fixgw.kit.update import OLD
from fixgw.recording import Change, RecordingError, layout, open_recording
from fixgw.recording.container import McapRecording, Writer, locked, recover
from fixgw.recording.flight import summarize

DATA = Path(__file__).parents[1] / "data" / "recording"
SAMPLE = DATA / "flight.mcap"
CUTS = json.loads((DATA / "flight-cuts.json").read_text())
START = 1_778_940_300.0  # UTC


@pytest.fixture
def read() -> Iterator[Callable[[Path], McapRecording]]:
    """Opens a recording, and closes it after the test."""
    opened = []

    def open_it(path: Path) -> McapRecording:
        opened.append(McapRecording(path))
        return opened[-1]

    yield open_it
    for recording in opened:
        recording.close()


Read = Callable[[Path], McapRecording]


def count(path: Path) -> int:
    recording = McapRecording(path)
    try:
        return sum(1 for _ in recording.messages())
    finally:
        recording.close()


def write(path: Path, seconds: int, utc: float | None = START, finish: bool = True) -> Path:
    """A recording of `seconds` chunks, each with ten values of IAS and one of EGT11."""
    writer = Writer(path / "20260516-140500-1.mcap.part", {"ident": "N123", "version": "1"}, {"a.yaml": b"a: 1\n"})
    writer.write_time(100.0, utc, "boot")
    writer.write(layout.SOURCES, b'{"IAS":"adc"}', 100_000_000_000, None)
    for n in range(seconds * 10):
        stamp = 100_000_000_000 + n * 100_000_000
        when = None if utc is None else round(utc * 1e9) + n * 100_000_000
        if n % 10 == 0:
            writer.write("/engine", b'{"EGT11":%d}' % n, stamp, when)
        writer.write("/flight", b'{"IAS":%d.5}' % n, stamp, when)
        if n % 10 == 9:
            writer.flush()
    if finish:
        return writer.finish()
    writer.flush()
    writer.abandon()
    return writer.path


# -- other people's files ----------------------------------------------------------------------------------------------


def test_the_sample_is_read_whole() -> None:
    recording = open_recording(SAMPLE)
    about = recording.about
    assert (about.name, about.complete, about.lost, about.dated) == ("flight", True, 0, True)
    assert (about.start, about.end) == (1_778_940_300.05, 1_778_940_307.9)
    changes = list(recording.changes(["IAS", "LAT"]))
    assert changes[0] == Change(1_778_940_300.05, "LAT", 43.926934967347705, 0, "")
    with SAMPLE.open("rb") as file:
        values = [json.loads(m.data) for _, _, m in make_reader(file).iter_messages()]
    assert len(list(recording.changes())) == sum(map(len, values))
    assert len([c for c in changes if c.key == "IAS"]) == sum("IAS" in v for v in values)
    assert [c.time for c in changes] == sorted(c.time for c in changes)
    recording.close()


@pytest.mark.parametrize("cut", CUTS["cuts"], ids=lambda cut: str(cut["bytes"]))
def test_a_cut_sample_has_every_whole_chunk(cut: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap.part"
    path.write_bytes(SAMPLE.read_bytes()[: cut["bytes"]])
    recording = McapRecording(path)
    messages = list(recording.messages())
    recording.close()
    assert len(messages) == cut["messages"]
    assert not recording.about.complete
    assert recording.about.lost == 0
    if messages:
        assert round(max(m.time for m in messages) * 1e3) == cut["last_log_time"] // 10**6
        assert count(recover(path)) == cut["messages"]
    else:
        with pytest.raises(RecordingError, match="no data"):
            recover(path)


@pytest.mark.parametrize("compression", CompressionType)
def test_other_programs_files(compression: CompressionType, tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    for chunks in (True, False):
        with path.open("wb") as file:
            writer = McapWriter(file, compression=compression, use_chunking=chunks)
            writer.start()
            odd = writer.register_channel("/camera", "protobuf", 0)
            ours = writer.register_channel("/values", "json", 0)
            writer.add_message(odd, 5, b"\xff\x00", 5)
            writer.add_message(ours, 2_000_000_000, b'{"IAS": 2, "LIST": [1], "NAN": null}', 0)
            writer.add_message(ours, 1_000_000_000, b'{"IAS": 1}', 0)
            writer.finish()  # type: ignore[no-untyped-call]
        recording = McapRecording(path)
        assert not recording.about.dated
        found = list(recording.changes(["IAS"]))
        recording.close()
        assert sorted(found) == [Change(1.0, "IAS", 1, 0, ""), Change(2.0, "IAS", 2, 0, "")]


@pytest.mark.parametrize("content", [b"", b"x", b"\x89MCAP0\r", b'{"frequency": 1}\n' * 10])
def test_what_is_not_a_recording_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError):
        McapRecording(path)


# -- ours --------------------------------------------------------------------------------------------------------------


def test_our_files_are_read_by_others_and_by_us(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    assert path.name == "20260516-140500-1.mcap"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        messages = [(c.topic, m.log_time, m.publish_time, json.loads(m.data)) for _, c, m in reader.iter_messages()]
        assert [a.name for a in reader.iter_attachments()] == ["a.yaml"]
        assert next(m.metadata for m in reader.iter_metadata() if m.name == "fixgw")["ident"] == "N123"
    assert ("/flight", round(START * 1e9), 100 * 10**9, {"IAS": 0.5}) in messages
    assert len(messages) == 35
    recording = McapRecording(path)
    about = recording.about
    assert (about.ident, about.start, about.end) == ("N123", START, START + 2.9)
    assert recording.attachments == {"a.yaml": b"a: 1\n"}
    first = next(recording.changes(["IAS"]))
    assert first == Change(START, "IAS", 0.5, 0, "adc")
    recording.close()


def test_what_came_before_the_clock_was_set_is_dated_afterwards(tmp_path: Path, read: Read) -> None:
    writer = Writer(tmp_path / "a.mcap.part", {}, {})
    writer.write_time(10.0, None, "b")
    writer.write("/flight", b'{"IAS":1}', 10 * 10**9, None)
    writer.write("/flight", b'{"IAS":2}', 20 * 10**9, None)
    writer.flush()
    assert not read(writer.path).about.dated
    assert next(read(writer.path).changes()).time == 10.0
    writer.write_time(30.0, START - 7200, "b")  # that of the last shutdown
    writer.write("/flight", b'{"IAS":3}', 30 * 10**9, round((START - 7200) * 1e9))
    writer.write_time(40.0, START + 40, "b")  # that of the GPS
    writer.write("/flight", b'{"IAS":4}', 40 * 10**9, round((START + 40) * 1e9))
    recording = read(writer.finish())
    assert recording.about.dated
    assert [(c.time - START, c.value) for c in recording.changes()] == [(10, 1), (20, 2), (30, 3), (40, 4)]


def test_flags_and_sources_come_with_the_values_of_the_same_instant(tmp_path: Path, read: Read) -> None:
    writer = Writer(tmp_path / "a.mcap.part", {}, {})
    writer.write_time(1.0, START, "b")
    for second, topic, data in (
        (1, "/flight", b'{"IAS":null,"ALT":5}'),
        (1, "/flags", b'{"IAS":"01010"}'),
        (1, "/sources", b'{"ALT":"sim/adc"}'),
        (2, "/flight", b'{"IAS":7}'),
        (2, "/flags", b'{"IAS":"00000"}'),
        (3, "/flags", b'{"IAS":"01000"}'),
        (3, "/reasons", b'{"IAS":{"old":"no data for 2 s"}}'),
    ):
        writer.write(topic, data, second * 10**9, None)
    recording = read(writer.finish())
    assert [(c.time - START + 1, *c[1:]) for c in recording.changes()] == [
        (1, "IAS", None, 10, "", {}),
        (1, "ALT", 5, 0, "sim/adc", {}),
        (2, "IAS", 7, 0, "", {}),
        (3, "IAS", 7, OLD, "", {"old": "no data for 2 s"}),
    ]
    assert recording.about.simulated
    assert [c.value for c in recording.changes(["IAS"], since=START + 0.5, until=START + 1)] == [None, 7]
    assert [c.time - START for c in recording.changes(["IAS"], since=START + 9)] == [9]
    assert [dict(c.reasons) for c in recording.changes(["IAS"])] == [{}, {}, {"old": "no data for 2 s"}]


def test_alerts_and_raw_messages(tmp_path: Path, read: Read) -> None:
    writer = Writer(tmp_path / "a.mcap.part", {}, {})
    writer.write(layout.ALERTS, b'{"id":"oil","to":"active","level":"warning","text":"OIL"}', 10**9, None)
    writer.write("/raw/gps", b"\x00\xff", 2 * 10**9, None, "bytes")
    recording = read(writer.finish())
    assert [tuple(a) for a in recording.alerts()] == [(1.0, "oil", "active", "warning", "OIL")]
    assert [(m.topic, m.stamp, m.data) for m in recording.messages("/raw/")] == [("/raw/gps", 2 * 10**9, b"\x00\xff")]
    assert recording.topics()["/raw/gps"] == "bytes"
    assert list(recording.changes()) == []


# -- cut and damaged ---------------------------------------------------------------------------------------------------


def test_cuts_anywhere_lose_only_what_was_not_whole(tmp_path: Path) -> None:
    part = write(tmp_path, 30, finish=False)
    whole = part.read_bytes()
    ends = chunk_ends(whole)
    dice = random.Random(1)
    places = {end + d for end in ends for d in (-1, 0, 1, 9)} | {dice.randrange(9, len(whole)) for _ in range(100)}
    for place in sorted(p for p in places if p <= len(whole)):
        part.write_bytes(whole[:place])
        chunks = sum(end <= place for end in ends)
        assert count(part) == (2 if chunks else 0) + 11 * chunks, place


def test_a_hole_of_zeros_or_of_garbage_costs_the_chunks_in_it(tmp_path: Path) -> None:
    """After a loss of power a block that was never written reads as zeros, or as what was there before."""
    path = write(tmp_path, 300)
    whole = path.read_bytes()
    starts = [0, *chunk_ends(whole)]
    dice = random.Random(2)
    for _ in range(20):
        at = dice.randrange(starts[1], starts[-1] - 6000)
        size = dice.choice((1, 100, 4096))
        garbage = bytes(size) if dice.random() < 0.5 else dice.randbytes(size)
        if whole[at : at + size] == garbage:
            continue
        path.write_bytes(whole[:at] + garbage + whole[at + size :])
        hit = [n for n in range(len(starts) - 1) if starts[n] < at + size and at < starts[n + 1]]
        recording = McapRecording(path)
        found = [m for m in recording.messages() if m.topic == "/flight"]
        recording.close()
        assert len(found) == 3000 - 10 * len(hit), (at, size)
        assert 1 <= recording.about.lost <= len(hit)
        assert recording.about.complete


def test_the_channels_are_known_even_without_the_chunk_that_defines_them(tmp_path: Path, read: Read) -> None:
    path = write(tmp_path, 3, finish=False)
    whole = bytearray(path.read_bytes())
    whole[chunk_ends(bytes(whole))[0] - 5] ^= 0xFF
    path.write_bytes(whole)
    recording = read(path)
    assert recording.about.lost == 1
    assert [c.value for c in recording.changes(["IAS"])] == [n + 0.5 for n in range(10, 30)]


def test_hostile_sizes_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    magic = b"\x89MCAP0\r\n"
    chunk = struct.pack("<QQQI", 0, 0, 2**60, 0) + b"\x04\0\0\0zstd" + struct.pack("<Q", 4) + b"\x28\xb5\x2f\xfd"
    for record in (
        struct.pack("<BQ", 6, 2**62),
        struct.pack("<BQ", 6, len(chunk)) + chunk,
        struct.pack("<BQ", 9, 20) + bytes(16) + b"\xff\xff\xff\xff",
        struct.pack("<BQ", 12, 4) + b"\xff\xff\xff\x7f",
        bytes(100),
    ):
        path.write_bytes(magic + record * 3)
        recording = McapRecording(path)
        assert list(recording.messages()) == []
        assert not recording.about.complete
        recording.close()


def test_no_contents_raise_anything_else(tmp_path: Path, read: Read) -> None:
    """Without checksums and compression, damage and malice reach every part of the reader."""
    path = tmp_path / "20260516-140500-1.mcap"
    buffer = io.BytesIO()
    writer = McapWriter(buffer, compression=CompressionType.NONE, enable_crcs=False)
    writer.start()
    writer.add_metadata("fixgw", {"ident": "N123"})
    writer.add_attachment(0, 0, "definitions.json", "x", b'{"IAS":{"units":["knots"]},"ALT":5}')
    for topic, data in (
        ("/time", b'{"monotonic":1e300,"utc":-1e300}'),
        ("/flight", b'{"IAS":{"a":1},"ALT":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        ("/flight", b'{"IAS":1.5,"TACH1":true}'),
        ("/flags", b'{"IAS":"0100x","ALT":7}'),
        ("/reasons", b'{"IAS":[1],"ALT":{"old":5}}'),
        ("/sources", b'{"IAS":[]}'),
        ("/alerts", b'{"id":[],"to":"active","level":"warning"}'),
    ):
        writer.add_message(writer.register_channel(topic, "json", 0), 5, data, 2**64 - 1)
    writer.finish()  # type: ignore[no-untyped-call]
    whole = buffer.getvalue()
    dice = random.Random(3)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(dice.choice((0, 1, 3))):
            at = dice.randrange(8, len(damaged))
            damaged[at : at + dice.choice((1, 8))] = dice.choice((b"", b"\0", b"\xff" * 8, dice.randbytes(1)))
        path.write_bytes(damaged)
        summarize(path)
        recording = McapRecording(path)
        list(recording.changes())
        recording.alerts()
        recording.close()


def test_recovering(tmp_path: Path, read: Read) -> None:
    part = write(tmp_path, 5, finish=False)
    part.write_bytes(part.read_bytes()[:-3])
    whole = recover(part)
    assert (whole.name, part.exists()) == ("20260516-140500-1.mcap", True)
    with whole.open("rb") as file:
        assert sum(1 for _ in make_reader(file, validate_crcs=True).iter_messages()) == 46
    recording = read(whole)
    about = recording.about
    assert (about.complete, about.lost, about.ident, about.start) == (True, 0, "N123", START)
    assert about.more["recovered"] == "true"
    assert recording.attachments == {"a.yaml": b"a: 1\n"}
    before = read(part)
    assert list(recording.changes()) == list(before.changes())
    with pytest.raises(FileExistsError):
        recover(part)


def test_a_recording_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.mcap.part", {}, {})
    writer.write("/flight", b'{"IAS":1}', 1, None)
    writer.flush()
    assert locked(writer.path)
    with pytest.raises(RecordingError, match="being written"):
        recover(writer.path)
    with pytest.raises(FileExistsError):
        Writer(writer.path, {}, {})
    assert count(writer.path) == 1  # but it can be read
    writer.abandon()
    assert not locked(writer.path)
    assert recover(writer.path).exists()


def test_what_a_full_disk_did_not_take_is_written_later(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    writer = Writer(tmp_path / "a.mcap.part", {}, {})
    real, room = os.write, [10]

    def scarce(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(fd, data[: room[0]])
        room[0] -= written
        return written

    writer.write("/flight", b'{"IAS":1}', 1, None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", scarce)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                writer.flush()
        assert writer.pending
        assert writer.size == 10
        writer.write("/flight", b'{"IAS":2}', 2, None)
        with pytest.raises(OSError, match="No space"):
            writer.finish()
    recording = read(writer.finish())
    assert recording.about.complete
    assert [c.value for c in recording.changes()] == [1, 2]


def chunk_ends(content: bytes) -> list[int]:
    """Where the chunks end, found without our reader."""
    file = io.BytesIO(content)
    file.seek(8)
    ends = []
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack("<BQ", head)
        file.seek(length, 1)
        if opcode == 6:
            ends.append(file.tell())
    return ends
