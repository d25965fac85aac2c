"""The incumbent's files: what is read of them, whatever happened to them, and that the same layout is written."""

from __future__ import annotations

import json
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw.kit.update import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, Value
from fixgw.recording import Change, RecordingError, open_recording
from fixgw.recording import incumbent as format
from fixgw.recording.incumbent import Incumbent

DATA = Path(__file__).parents[1] / "data" / "recording"
BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 5, 16, 14, tzinfo=UTC).timestamp() + 0.000123
HEADER = b'{"frequency":"500","starttime":"2026-05-16T14:00:00.000000"}\n'
NOON = datetime(2026, 5, 16, 14, tzinfo=UTC).timestamp()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fdr.json"


def read(path: Path, *lines: bytes) -> Incumbent:
    path.write_bytes(b"".join(lines))
    return Incumbent(path, UTC)


def values(recording: Incumbent, key: str = "IAS") -> list[tuple[float, object]]:
    return [(round(c.time - NOON, 3), c.value) for c in recording.changes([key])]


def test_a_file_as_it_should_be() -> None:
    path = DATA / "fdr.json"
    recording = Incumbent(path, UTC)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    about = recording.about
    assert (about.name, about.dated, about.complete, about.lost, about.simulated) == ("fdr", True, True, 0, False)
    assert about.start == pytest.approx(START, abs=1e-6)
    assert about.end == pytest.approx(START + 0.5 * (len(lines) - 2), abs=1e-6)
    expected = [
        (round(0.5 * n, 3), key, fields[0], "".join(map(str, fields[1:])))
        for n, line in enumerate(lines[1:])
        for key, fields in line.items()
    ]
    assert any(flags == "10000" for *_, flags in expected)
    assert {} in lines
    assert [(round(c.time - START, 3), c.key, c.value, f"{c.flags:05b}") for c in recording.changes()] == expected
    assert {c.source for c in recording.changes()} == {""}
    assert not recording.alerts()


def test_two_starts_with_different_intervals() -> None:
    recording = Incumbent(DATA / "fdr-two-starts.json", UTC)
    times = [c.time - START for c in recording.changes(["IAS"])]
    assert times == pytest.approx([0, 0.5, 1.0, 1.5, 2.0, 1800.0, 1800.25, 1800.5, 1800.75], abs=1e-6)
    assert recording.about.more["starts"] == 2


def test_a_cut_last_line_is_dropped_and_counted() -> None:
    recording = Incumbent(DATA / "fdr-cut.json", UTC)
    whole = (DATA / "fdr-cut.json").read_bytes().splitlines()[1:-1]
    assert (recording.about.lost, recording.about.complete) == (1, False)
    assert len(list(recording.changes())) == sum(len(json.loads(line)) for line in whole)


def test_the_first_file_can_be_cut_anywhere(path: Path) -> None:
    data = (DATA / "fdr.json").read_bytes()
    every = list(Incumbent(DATA / "fdr.json", UTC).changes())
    for cut in range(len(HEADER), len(data), 97):
        recording = read(path, data[:cut])
        got = list(recording.changes())
        assert got == every[: len(got)]
        whole = data[:cut].count(b"\n") + data[:cut].endswith(b"]}") - 1
        assert recording.about.more["lines"] == whole
        assert recording.about.lost == (not data[:cut].endswith((b"\n", b"]}", b"{}")))


def test_flags_are_the_six_fields_in_their_order(path: Path) -> None:
    single = {OLD: 1, BAD: 2, FAIL: 3, SECFAIL: 4, ANNUNCIATE: 0}
    for bit, place in single.items():
        flags = [0] * 5
        flags[place] = 1
        (change,) = read(path, HEADER, json.dumps({"IAS": [1.5, *flags]}).encode()).changes()
        assert (change.value, change.flags) == (1.5, bit)
    (change,) = read(path, HEADER, b'{"IAS":[1.5,true,false,true,false,false]}').changes()
    assert change.flags == ANNUNCIATE | BAD


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "null", "1e999", "9" * 400])
def test_what_is_not_a_number_has_failed(path: Path, word: str) -> None:
    recording = read(path, HEADER, f'{{"IAS":[{word},0,0,1,0,0],"ALT":[100,0,0,0,0,0]}}\n'.encode())
    ias, alt = recording.changes()
    assert (ias.value, ias.flags) == (None, BAD | FAIL)
    assert (alt.value, alt.flags, recording.about.lost) == (100, 0, 0)


def test_text_keeps_its_letters(path: Path) -> None:
    recording = read(path, HEADER, rb'{"ACID":["D-\u00c4\u20ac",0,0,0,0,0],"MSG":["\ud800",0,0,0,0,0]}' + b"\n")
    acid, message = recording.changes()
    assert acid.value == "D-Ä€" == recording.about.ident
    assert str(message.value).encode()  # half of a surrogate pair could not be sent or written


LINE = b'{"IAS":[%d,0,0,0,0,0]}\n'


def test_damage_takes_its_own_time_only(path: Path) -> None:
    recording = read(path, HEADER, LINE % 0, b'{"IAS":[1,0,0,\n', LINE % 2, b"{}\n", b"\n", LINE % 4)
    assert values(recording) == [(0, 0), (1, 2), (2, 4)]
    assert recording.about.lost == 1


@pytest.mark.parametrize(
    "entry",
    ["5", "[]", "[5]", "[5,0,0,0,0]", "[5,0,0,0,0,0,0]", "[5,0,0,2,0,0]", '[5,0,"x",0,0,0]', "[5,0,null,0,0,0]",
     "[[5],0,0,0,0,0]", "[{},0,0,0,0,0]", "[5,[],0,0,0,0]", '"5"', "null", "{}"],
)  # fmt: skip
def test_an_entry_of_another_form_is_left_out(path: Path, entry: str) -> None:
    recording = read(path, HEADER, f'{{"IAS":{entry},"ALT":[100,0,0,0,0,0]}}\n'.encode())
    assert [(c.key, c.value) for c in recording.changes()] == [("ALT", 100)]
    assert recording.about.lost == 1


def test_a_start_continues_the_line_that_the_power_cut(path: Path) -> None:
    later = HEADER.replace(b"14:00", b"14:30")
    for cut in (b'{"LAT":[43.9,0,0', b'{"AC', b"{", b'{"frequency":"5', b"\0" * 5000):
        recording = read(path, HEADER, LINE % 0, cut, later, LINE % 1)
        assert values(recording) == [(0, 0), (1800, 1)], cut
        assert (recording.about.lost, recording.about.complete) == (1, True)


def test_a_header_may_come_late_or_not_at_all(path: Path) -> None:
    recording = read(path, LINE % 0, LINE % 1, HEADER.replace(b'"500"', b'"250"'), LINE % 2, LINE % 3)
    assert values(recording) == [(-0.5, 0), (-0.25, 1), (0, 2), (0.25, 3)]
    assert recording.about.start == NOON - 0.5

    recording = read(path, LINE % 0, LINE % 1)
    assert [c.time for c in recording.changes()] == [0, 0.5]
    assert (recording.about.dated, recording.about.start, recording.about.end) == (False, 0, 0.5)

    named = path.with_name("2026-05-16.14.json")
    recording = read(named, LINE % 0, LINE % 1)
    assert values(recording) == [(0, 0), (0.5, 1)]
    assert recording.about.dated
    assert recording.about.end == NOON + 0.5

    recording = read(path, HEADER)
    assert list(recording.changes()) == []
    assert recording.about.end == NOON


@pytest.mark.parametrize("word", ['"250"', "250", "250.0", '"250.0"', '" 250 "'])
def test_the_frequency_may_be_a_number(path: Path, word: str) -> None:
    recording = read(path, HEADER.replace(b'"500"', word.encode()), LINE % 0, LINE % 1)
    assert values(recording) == [(0, 0), (0.25, 1)]


@pytest.mark.parametrize("word", ['"0"', "-5", '"NaN"', "1e300", '"fast"', "null", "true", "{}"])
def test_a_frequency_that_cannot_be_is_taken_for_the_usual_one(path: Path, word: str) -> None:
    recording = read(path, HEADER.replace(b'"500"', word.encode()), LINE % 0, LINE % 1)
    assert values(recording) == [(0, 0), (0.5, 1)]


@pytest.mark.parametrize(
    "start", ["", "yesterday", "2026-13-45T99:99:99", "0001-01-01T00:00:00", "9999-12-31T23:59:59"]
)
def test_a_start_without_a_usable_time_follows_the_lines_above(path: Path, start: str) -> None:
    second = json.dumps({"frequency": "1000", "starttime": start}).encode() + b"\n"
    recording = read(path, HEADER, LINE % 0, LINE % 1, second, LINE % 2, LINE % 3)
    assert values(recording) == [(0, 0), (0.5, 1), (1.0, 2), (2.0, 3)]


def test_a_start_with_a_zone_needs_no_guess(path: Path) -> None:
    path.write_bytes(HEADER.replace(b"000000", b"000000+02:00") + LINE % 0)
    assert Incumbent(path, BERLIN).about.start == NOON - 7200


def test_the_zone_is_an_option_or_that_of_this_computer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(path, HEADER, LINE % 0)
    assert Incumbent(path, BERLIN).about.start == NOON - 7200
    local = datetime(2026, 5, 16, 14).timestamp()
    assert open_recording(path).about.start == local


def test_a_clock_that_was_wrong_does_not_turn_time_back(path: Path) -> None:
    early = HEADER.replace(b"14:00", b"13:20")
    recording = read(path, HEADER, LINE % 0, LINE % 1, early, LINE % 2, LINE % 3)
    assert values(recording) == [(0, 0), (0.5, 1), (1.0, 2), (1.5, 3)]


def test_the_hour_that_comes_twice_in_autumn(path: Path) -> None:
    first = b'{"frequency":"500","starttime":"2026-10-25T02:40:00.000000"}\n'
    second = b'{"frequency":"500","starttime":"2026-10-25T02:10:00.000000"}\n'
    path.write_bytes(first + LINE % 0 + LINE % 1 + second + LINE % 2)
    at = [datetime.fromtimestamp(c.time, BERLIN) for c in Incumbent(path, BERLIN).changes()]
    assert [t.isoformat() for t in at] == [
        "2026-10-25T02:40:00+02:00",
        "2026-10-25T02:40:00.500000+02:00",
        "2026-10-25T02:10:00+01:00",
    ]


def test_a_computer_without_a_clock_leaves_a_recording_without_a_date(path: Path) -> None:
    recording = read(path, b'{"frequency":"500","starttime":"1970-01-01T00:00:12.5"}\n', LINE % 0)
    assert not recording.about.dated
    assert [c.time for c in recording.changes()] == [12.5]


def test_the_state_at_an_instant_comes_first(path: Path) -> None:
    recording = read(path, HEADER, b'{"IAS":[1,0,0,0,0,0],"ALT":[10,0,1,0,0,0]}\n', LINE % 2, LINE % 3, LINE % 4)
    at = NOON + 0.7
    assert list(recording.changes(since=at, until=NOON + 1.2)) == [
        Change(at, "IAS", 2, 0, ""),
        Change(at, "ALT", 10, OLD, ""),
        Change(NOON + 1.0, "IAS", 3, 0, ""),
    ]
    assert [c.key for c in recording.changes(["ALT"], since=NOON + 100)] == ["ALT"]
    assert list(recording.changes(since=NOON - 5)) == list(recording.changes())
    assert list(recording.changes(until=NOON - 5)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\0" * 100_000, random.Random(1).randbytes(200_000), b"[1, 2]\n", b'{"IAS": 5}\n',
     b"{}\n{}\n", b'"frequency"\n',
     b"GIF89a" + bytes(range(256)) * 20, b"{" * 100_000, b"[" * 100_000,
     b'{"a":' * 50_000, b"\xef\xbb\xbf", b"hello\n" * 5000],
)  # fmt: skip
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"fdr\.json is not a recording"):
        open_recording(path)


def test_the_editors_mark_at_the_beginning_does_not_hurt(path: Path) -> None:
    assert values(read(path, b"\xef\xbb\xbf", HEADER.replace(b"\n", b"\r\n"), LINE % 0)) == [(0, 0)]


def test_lines_of_megabytes_do_not_fill_the_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.write(HEADER + LINE % 0)
        for _ in range(40):
            file.write(b'{"IAS":[' + b"1" * 1_000_000)
        file.write(b"\n" + LINE % 1 + b'"' * 3_000_000 + HEADER.replace(b"14:00", b"14:30") + LINE % 2)
    tracemalloc.start()
    try:
        recording = Incumbent(path, UTC)
        got = values(recording)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == [(0, 0), (1.0, 1), (1800, 2)]
    assert recording.about.lost == 2
    assert peak < 10 << 20


def test_a_file_of_endless_keys_is_limited(path: Path) -> None:
    rows = [
        json.dumps({f"K{n}": [n, 0, 0, 0, 0, 0] for n in range(i, i + 1000)}).encode() + b"\n"
        for i in range(0, 12000, 1000)
    ]
    recording = read(path, HEADER, *rows, json.dumps({"x" * 5000: [1, 0, 0, 0, 0, 0]}).encode())
    assert len({c.key for c in recording.changes()}) == 10_000
    assert recording.about.lost == 2001


@given(
    st.lists(
        st.sampled_from([HEADER, LINE % 7, b'{"IAS"', b"\0", b"\xff", b"{}", b"\n", b'":[NaN', b"]}", b"1e999,"]),
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_it_holds_time_does_not_go_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    try:
        recording = read(path, HEADER, *pieces)
    except RecordingError:
        pytest.fail("its header is there")
    times = [c.time for c in recording.changes()]
    assert times == sorted(times)
    assert all(recording.about.start <= t <= recording.about.end for t in times)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_the_layout_to_the_letter() -> None:
    for text in (DATA / "fdr.json").read_bytes().splitlines(keepends=True):
        what = json.loads(text)
        if "frequency" in what:
            start = datetime.fromisoformat(what["starttime"]).replace(tzinfo=BERLIN)
            assert format.header(start, int(what["frequency"])) == text
        else:
            items = {key: (v, sum(b << i for i, b in enumerate(reversed(flags)))) for key, (v, *flags) in what.items()}
            assert format.line(items) == text


def test_a_line_is_json_whatever_the_value() -> None:
    items: dict[str, tuple[Value | None, int]] = {
        "A": (float("nan"), FAIL),
        "B": (float("inf"), 0),
        "C": ("Ä", 0),
        "D": (True, 0),
        "E": (None, OLD),
    }
    assert format.line(items) == (
        b'{"A":[null,0,0,0,1,0],"B":[null,0,0,0,0,0],"C":["\\u00c4",0,0,0,0,0],"D":[true,0,0,0,0,0],"E":[null,0,1,0,0,0]}\n'
    )


def test_the_file_of_an_hour() -> None:
    assert format.hour_file(Path("fdr"), datetime(2024, 2, 8, 9, 5)) == Path("fdr/2024/02/08/2024-02-08.09.json")


def test_the_hours_that_follow_without_a_gap(tmp_path: Path) -> None:
    def hours(*names: str) -> None:
        for name in names:
            path = format.hour_file(tmp_path, datetime.fromisoformat(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def found(start: str) -> list[str]:
        return [p.name for p in format.hours_from(tmp_path, datetime.fromisoformat(start).replace(tzinfo=BERLIN))]

    hours("2024-12-31T22", "2024-12-31T23", "2025-01-01T00", "2025-01-01T02")
    assert found("2024-12-31T22:59:50") == ["2024-12-31.22.json", "2024-12-31.23.json", "2025-01-01.00.json"]
    assert found("2025-01-01T01:00") == []
    hours("2026-10-25T01", "2026-10-25T02", "2026-10-25T03", "2026-03-29T01", "2026-03-29T03")
    assert found("2026-10-25T01:30") == ["2026-10-25.01.json", "2026-10-25.02.json", "2026-10-25.03.json"]
    assert found("2026-03-29T01:30") == ["2026-03-29.01.json", "2026-03-29.03.json"]
