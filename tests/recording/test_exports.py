"""Exports: the samples field by field, what independent readers read, and what is never exported."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aerofiles  # type: ignore[import-untyped]
import gpxpy
import pytest
from mcap.reader import make_reader

from fixgw import __version__
from fixgw.kit.update import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL
from fixgw.recording import Alert, Recording, RecordingError, open_recording
from fixgw.recording.container import Writer
from fixgw.recording.exports import FORMATS, export, file_name
from fixgw.recording.sampling import Span, span_of
from tests.recording.flights import SAMPLES, START, recording, sample_flight

CDT = timedelta(hours=-5)
ALL = pytest.mark.parametrize("name", FORMATS)
HOSTILE = 'N1"2\n<b>&,;\x1b[31m=\u2028x'


def exported(flight: Recording, name: str, span: Span | None = None, **options: Any) -> bytes:
    out = io.BytesIO()
    export(flight, name, out, span or span_of(flight), **{"offset": CDT, **options})
    return out.getvalue()


def text(flight: Recording, name: str, span: Span | None = None, **options: Any) -> str:
    return exported(flight, name, span, **options).decode()


def table(flight: Recording, name: str, **options: Any) -> list[dict[str, str]]:
    """The rows of an exported table, by an independent reader."""
    lines = text(flight, name, **options).splitlines()
    if name == "cloudahoy":
        lines = lines[lines.index("DATA,") + 1 :]
    elif name in ("g3x", "g1000"):
        lines = lines[2:]
    return list(csv.DictReader(lines, skipinitialspace=True))


# -- the samples -------------------------------------------------------------------------------------------------------


def test_the_g3x_log_is_the_sample_except_for_the_software() -> None:
    ours, sample = text(sample_flight(), "g3x").splitlines(), (SAMPLES / "g3x.csv").read_text().splitlines()
    assert ours[1:] == sample[1:]
    fields = dict(re.findall(r'(\w+)="([^"]*)"', ours[0]))
    assert list(fields) == re.findall(r'(\w+)="', sample[0])
    assert fields["product"] == "GDU 460"
    assert fields["aircraft_ident"] == "N12345"
    assert (fields["unit_software_part_number"], fields["software_version"]) == ("fixgw", __version__)
    assert fields["engine_hours"] == ""
    assert ',engine_hours="14.7"\n' in text(sample_flight(more={"engine hours": "14.7"}), "g3x")


@pytest.mark.parametrize(("name", "sample"), [("g1000", "g1000.csv"), ("cloudahoy", "cloudahoy.csv")])
def test_the_table_is_the_sample(name: str, sample: str) -> None:
    flight = sample_flight(simulated=name == "cloudahoy")
    assert text(flight, name) == (SAMPLES / sample).read_text().replace("0.1.0", __version__)


@pytest.mark.parametrize("name", ["gpx", "kml", "igc"])
def test_the_track_is_the_sample(name: str) -> None:
    sample = (SAMPLES / f"track.{name}").read_bytes().decode()
    assert text(sample_flight(), name).split("\n") == sample.replace("0.1.0", __version__).split("\n")


def test_the_table_of_all_keys_is_what_was_recorded() -> None:
    ours, sample = table(sample_flight(), "csv"), list(csv.DictReader((SAMPLES / "input.csv").read_text().splitlines()))
    assert [row.pop("BARO") for row in ours] == ["30.02"] * 30
    for row, expected in zip(ours, sample, strict=True):
        row.pop("GPS_FIX_TYPE")
        assert row.pop("utc") == expected.pop("utc")
        assert {k: float(v) for k, v in row.items()} == {k: float(v) for k, v in expected.items()}


# -- independent readers -----------------------------------------------------------------------------------------------


def test_gpxpy_reads_positions_heights_and_times() -> None:
    flight = sample_flight()
    (track,) = gpxpy.parse(text(flight, "gpx")).tracks
    (segment,) = track.segments
    lat = [c.value for c in flight.everything if c.key == "LAT"]
    height = [float(c.value or 0) for c in flight.everything if c.key == "TALT"]
    assert [p.latitude for p in segment.points] == lat
    assert [p.elevation for p in segment.points] == pytest.approx([h * 0.3048 for h in height], abs=0.05)
    assert segment.points[7].time == datetime.fromtimestamp(START + 7, UTC)


def test_aerofiles_reads_the_fixes() -> None:
    flight = sample_flight()
    read = aerofiles.igc.Reader().read(io.StringIO(text(flight, "igc")))
    assert not [error for records in read.values() for error in records[0] if isinstance(records, tuple)]
    fixes = read["fix_records"][1]
    lat = [c.value for c in flight.everything if c.key == "LAT"]
    assert [f["lat"] for f in fixes] == pytest.approx(lat, abs=1e-5)
    assert fixes[0]["gps_alt"] == 1711
    assert fixes[0]["pressure_alt"] == 1639
    assert (fixes[0]["GSP"], fixes[0]["IAS"]) == (187, 194)
    assert fixes[3]["datetime"].replace(tzinfo=UTC) == datetime.fromtimestamp(START + 3, UTC)


def test_parquet_has_the_values_with_their_types_and_units() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    flight = recording(
        [(0, "IAS", 101.5), (0, "TACH1", 2500), (0, "MASTERW", True), (0, "WPNAME", "KOSH"), (1, "IAS", 1, OLD)],
        units={"IAS": "knots"},
        simulated=True,
    )
    read = parquet.read_table(io.BytesIO(exported(flight, "parquet")))
    assert read.column("IAS").to_pylist() == [101.5, None]
    assert read.column("TACH1").to_pylist() == [2500, 2500]
    assert read.column("MASTERW").to_pylist() == [True, True]
    assert read.column("WPNAME").to_pylist() == ["KOSH", "KOSH"]
    assert read.column("time").to_pylist()[1] == datetime.fromtimestamp(START + 1, UTC)
    assert read.schema.metadata[b"simulated"] == b"yes"
    assert read.schema.field("IAS").metadata == {b"unit": b"knots"}


KML = {"k": "http://www.opengis.net/kml/2.2", "gx": "http://www.google.com/kml/ext/2.2"}


def test_kml_has_as_many_of_everything() -> None:
    root = ElementTree.fromstring(text(sample_flight(), "kml"))
    tracks = root.findall(".//gx:Track", KML)
    assert len(tracks) == 1
    assert not root.findall(".//gx:MultiTrack", KML)
    counts = {len(tracks[0].findall(path, KML)) for path in ("k:when", "gx:coord", "gx:angles")}
    assert counts == {30}
    assert len(tracks[0].findall(".//gx:value", KML)) == 60


# -- what was not good -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [OLD, BAD, FAIL, OLD | ANNUNCIATE])
@pytest.mark.parametrize(
    ("name", "column"), [("g3x", "IAS"), ("g1000", "IAS"), ("cloudahoy", "knots/IAS"), ("csv", "IAS")]
)
def test_what_was_not_good_is_empty(name: str, column: str, flag: int) -> None:
    flight = recording([(0, "IAS", 90.0), (1, "IAS", 91.0, flag), (2, "IAS", 92.0, ANNUNCIATE | SECFAIL), (3, "X", 1)])
    assert [row[column].rstrip("0").rstrip(".") for row in table(flight, name)] == ["90", "", "92", "92"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "ninety"])
def test_what_is_no_number_is_empty(value: Any) -> None:
    flight = recording([(0, "GS", 90.0), (0, "IAS", value), (1, "GS", 90.0)])
    assert [row["IAS"] for row in table(flight, "g3x")] == ["", ""]
    assert all(row["GndSpd"] == "90.0" for row in table(flight, "g3x"))


def gap() -> Recording:
    """Thirty seconds of flight; in the middle the position is old for five, and the heights are for another two."""
    changes: list[tuple[Any, ...]] = []
    for t in range(30):
        old = OLD if 10 <= t < 15 else 0
        changes += [(t, "LAT", 43.0 + t / 1e3, old), (t, "LONG", -88.0, old), (t, "GS", 100.0)]
        no_height = OLD if 20 <= t < 22 else 0
        changes += [(t, "TALT", 5000.0, no_height), (t, "PALT", -403.0, no_height)]
    return recording(changes)


def test_a_gap_begins_a_new_segment() -> None:
    segments = gpxpy.parse(text(gap(), "gpx")).tracks[0].segments
    assert [len(segment.points) for segment in segments] == [10, 15]
    assert [p.elevation for p in segments[1].points][4:8] == [1524.0, None, None, 1524.0]


def test_a_gap_begins_a_new_track() -> None:
    root = ElementTree.fromstring(text(gap(), "kml"))
    tracks = root.findall(".//gx:MultiTrack/gx:Track", KML)
    assert [len(track.findall("gx:coord", KML)) for track in tracks] == [10, 5, 8]
    assert [track.find("k:when", KML).text for track in tracks] == [  # type: ignore[union-attr]
        "2026-05-16T14:05:00Z",
        "2026-05-16T14:05:15Z",
        "2026-05-16T14:05:22Z",
    ]


def test_a_second_without_a_position_has_no_b_record() -> None:
    records = [line for line in text(gap(), "igc").splitlines() if line.startswith("B")]
    assert [int(r[5:7]) for r in records] == [*range(10), *range(15, 20), *range(22, 30)]
    assert all(r[24:] == "A-012301524185---" for r in records)


def test_without_any_gps_height_the_fixes_are_two_dimensional() -> None:
    flight = recording([(0, "LAT", -33.5), (0, "LONG", 151.0), (1, "PALT", 10.0), (2, "PALT", 20.0)])
    out = text(flight, "igc")
    assert "HFALGALTGPS:NIL" in out
    assert "B1405013330000S15100000EV0000300000------" in out
    assert out.count("\r\nB") == 2


def test_without_any_height_the_track_lies_on_the_ground() -> None:
    out = text(recording([(0, "LAT", -33.5), (0, "LONG", 151.0), (1, "X", 1)]), "kml")
    assert "clampToGround" in out
    assert "<gx:coord>151.0000000 -33.5000000</gx:coord>" in out
    assert "<ele>" not in text(recording([(0, "LAT", 1.0), (0, "LONG", 2.0)]), "gpx")


def test_while_nothing_was_recorded_nothing_is_known() -> None:
    flight = recording([(0, "IAS", 90.0), (1, "IAS", 91.0), (100, "IAS", 92.0), (101, "IAS", 93.0)])
    times = [row["utc"][14:19] for row in table(flight, "csv")]
    assert times == [*(f"05:{s:02d}" for s in range(12)), "06:40", "06:41"]


def test_a_jump_of_the_clock_does_not_make_a_row_for_each_second() -> None:
    flight = recording([(0, "IAS", 90.0), (1, "IAS", 91.0), (START + 3e8, "IAS", 92.0)])
    assert len(table(flight, "csv")) == 12 + 1


# -- conversions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "value", "degrees"),
    [
        ("degC", 100.0, "212"),
        ("degF", 212.0, "212"),
        ("°F", 212.0, "212"),
        ("K", 373.15, "212"),
        ("", 100.0, "212"),
        ("furlongs", 1.0, ""),
    ],
)
def test_units_are_those_of_the_recording(unit: str, value: float, degrees: str) -> None:
    flight = recording([(0, "OILT1", value), (0, "IAS", 1.0)], units={"OILT1": unit})
    assert table(flight, "g3x")[0]["E1 OilT"] == degrees


@pytest.mark.parametrize(
    ("degrees", "encoded"),
    [
        (43.9999999, "4400000N"),
        (-0.5, "0030000S"),
        (89.99999999, "9000000N"),
        (12.0166666, "1201000N"),
        (0.0, "0000000N"),
    ],
)
def test_thousandths_of_a_minute_carry(degrees: float, encoded: str) -> None:
    flight = recording([(0, "LAT", degrees), (0, "LONG", -179.99999999), (0, "TALT", 0.0)])
    assert f"B140500{encoded}18000000WA0000000000" in text(flight, "igc")


@pytest.mark.parametrize(("feet", "encoded"), [(-403.0, "-0123"), (-1.0, "00000"), (32808.4, "10000"), (1e9, "99999")])
def test_heights_below_the_sea_have_a_sign(feet: float, encoded: str) -> None:
    flight = recording([(0, "LAT", 1.0), (0, "LONG", 2.0), (0, "PALT", feet), (0, "TALT", feet)])
    assert f"A{encoded}{encoded}------" in text(flight, "igc")


@pytest.mark.parametrize(
    ("minutes", "words", "clock"),
    [(345, "+05:45", "19:50:00"), (-570, "-09:30", "04:35:00"), (0, "+00:00", "14:05:00")],
)
def test_local_time_has_an_offset(minutes: int, words: str, clock: str) -> None:
    row = table(sample_flight(), "g3x", offset=timedelta(minutes=minutes))[0]
    assert (row["UTCOfst"], row["Lcl Time"], row["UTC Time"]) == (words, clock, "14:05:00")


def test_the_fix_is_named_only_in_three_dimensions() -> None:
    flight = recording([(t, "GPS_FIX_TYPE", t) for t in range(6)])
    assert [row["GPSfix"] for row in table(flight, "g3x")] == ["", "", "", "3D-", "3D-", "3D-"]


def test_the_waypoint_has_a_distance_and_a_bearing() -> None:
    flight = recording(
        [(0, k, v) for k, v in {"LAT": 0.0, "LONG": 0.0, "WPLAT": 0.0, "WPLON": 1.0, "WPNAME": "A,B"}.items()]
    )
    row = table(flight, "g3x")[0]
    assert (row["NavIdent"], row["NavBrg"], row["NavDist"]) == ("A,B", "90.0", "60.0")


def test_cylinders_five_and_six_and_the_radio_are_there_if_they_were_recorded() -> None:
    assert "E1 CHT5" not in table(sample_flight(), "g1000")[0]
    row = table(recording([(0, "CHT15", 100.0), (0, "COMACTFREQ1", 122.8)]), "g1000")[0]
    assert (row["E1 CHT5"], row["E1 CHT1"], row["COM1"]) == ("212.0", "", "122.800")
    assert "E1 EGT5" not in row


def test_alerts_are_in_the_g3x_log_while_they_are_shown() -> None:
    states = [(1.5, "oil", "active", "OIL;LOW"), (2.5, "volts", "latched", "VOLTS"), (3.2, "oil", "normal", "OIL;LOW")]
    alerts = [Alert(START + t, name, state, "warning", words) for t, name, state, words in states]
    flight = recording([(t, "IAS", 90.0) for t in range(5)], alerts)
    assert [row["CAS Alert"] for row in table_by_long_names(flight)] == ["", "", "OIL,LOW", "OIL,LOW;VOLTS", "VOLTS"]


def table_by_long_names(flight: Recording) -> list[dict[str, str]]:
    return list(csv.DictReader(text(flight, "g3x").splitlines()[1:]))[1:]


# -- times -------------------------------------------------------------------------------------------------------------


def test_rows_have_what_was_known_at_their_instant() -> None:
    changes = [(0.05, "IAS", 1.0), (0.95, "IAS", 2.0), (1.0, "IAS", 3.0), (1.05, "IAS", 4.0), (2.45, "IAS", 5.0)]
    assert [(r["utc"], r["IAS"]) for r in table(recording(changes), "csv", rate=2.0)] == [
        ("2026-05-16T14:05:00.500Z", "1.0"),
        ("2026-05-16T14:05:01Z", "3.0"),
        ("2026-05-16T14:05:01.500Z", "4.0"),
        ("2026-05-16T14:05:02Z", "4.0"),
    ]


def test_a_part_begins_with_the_state_at_its_beginning() -> None:
    flight = sample_flight()
    rows = table(flight, "csv", span=Span(START + 10.5, START + 12.5))
    assert [row["utc"][17:19] for row in rows] == ["11", "12"]
    assert rows[0]["BARO"] == "30.02"


def test_a_day_ends_within_a_flight() -> None:
    midnight = 1_778_976_000.0
    flight = recording([(midnight - 1 + t, k, v) for t in range(3) for k, v in (("LAT", 1.0), ("LONG", 2.0))])
    rows = table(flight, "g3x", offset=timedelta())
    assert [(r["Lcl Date"], r["Lcl Time"]) for r in rows][:2] == [
        ("2026-05-16", "23:59:59"),
        ("2026-05-17", "00:00:00"),
    ]
    read = aerofiles.igc.Reader().read(io.StringIO(text(flight, "igc")))
    assert [f["datetime"].day for f in read["fix_records"][1]] == [16, 17, 17]


@ALL
def test_a_recording_without_a_date_needs_a_beginning(name: str) -> None:
    changes = [(500.2 + t, k, v) for t in range(3) for k, v in (("LAT", 1.0), ("LONG", 2.0), ("IAS", 90.0))]
    flight = recording(changes, dated=False)
    if FORMATS[name].dated:
        with pytest.raises(RecordingError, match="--start"):
            text(flight, name)
    elif name == "csv":
        assert [row["seconds"] for row in table(flight, name)] == ["0.000", "1.000", "2.000"]
    begun = Span(500.2, 502.2, START - 500.2)
    if name == "csv":
        assert text(flight, name, begun).splitlines()[1].startswith("2026-05-16T14:05:00Z,")
    assert exported(flight, name, begun)
    assert "20260516" in file_name(flight.about, name, begun)
    assert "undated" in file_name(flight.about, name, span_of(flight))


@ALL
def test_times_beyond_all_dates_are_refused(name: str) -> None:
    flight = recording([(1e15, "LAT", 1.0), (1e15, "LONG", 1.0)])
    with pytest.raises(RecordingError, match="beyond all dates"):
        text(flight, name)


@pytest.mark.parametrize("name", ["g3x", "g1000", "igc"])
def test_whole_seconds_only(name: str) -> None:
    with pytest.raises(RecordingError, match="whole seconds"):
        text(sample_flight(), name, rate=5.0)
    assert len(text(sample_flight(), name, rate=0.5).splitlines()) > 15


@ALL
def test_nothing_is_an_error(name: str) -> None:
    with pytest.raises(RecordingError, match="nothing"):
        text(sample_flight(), name, Span(START + 0.2, START + 0.8))


# -- texts -------------------------------------------------------------------------------------------------------------


@ALL
def test_hostile_texts_stay_texts(name: str) -> None:
    flight = recording(
        [(t, k, v) for t in range(2) for k, v in (("LAT", 1.0), ("LONG", 2.0), ("IAS", 90.0), ("WPNAME", HOSTILE))],
        [Alert(START, "x", "active", "warning", HOSTILE)],
        ident=HOSTILE,
        more={"engine hours": HOSTILE},
    )
    out = exported(flight, name)
    assert b"\x1b" not in out or name in ("csv", "parquet")  # these have the text as it was
    if name in ("gpx", "kml"):
        root = ElementTree.fromstring(out.decode())
        assert not root.findall(".//b")
        assert 'N1"2 <b>&,;' in "".join(root.itertext())
    elif name == "igc":
        assert all(re.fullmatch(rb"[ABHIL][ -~]*", line) for line in out.splitlines())
    elif name in ("g3x", "cloudahoy", "g1000"):
        lines = out.decode().split("\n")
        head = {"g3x": 1, "g1000": 2, "cloudahoy": 6}[name]
        separator = ", " if name == "g1000" else ","
        assert len({len(next(csv.reader([line]))) for line in lines[head:-1]}) == 1, separator
        assert len(lines) == {"g3x": 6, "g1000": 6, "cloudahoy": 9}[name]
    elif name == "csv":
        assert next(csv.DictReader(io.StringIO(out.decode(), newline="")))["WPNAME"] == HOSTILE


def test_a_file_s_name_has_no_path_and_no_command() -> None:
    about = recording([(0, "X", 1)], ident="../-N1;rm -rf $HOME/é\n").about
    assert file_name(about, "gpx", Span(START, START)) == "flight_20260516_140500_N1rm-rfHOME.gpx"
    assert file_name(about, "g3x", Span(START, START), CDT) == "log_20260516_090500_N1rm-rfHOME.csv"


@ALL
def test_a_simulated_flight_says_so(name: str) -> None:
    flight = sample_flight(simulated=True)
    assert "_SIMULATED." in file_name(flight.about, name, span_of(flight))
    out = exported(flight, name)
    assert (b"ISSIM,1" if name == "cloudahoy" else b"simulated" if name == "parquet" else b"SIMULATED") in out
    if name not in ("parquet", "cloudahoy"):
        assert b"SIMULATED" not in exported(sample_flight(), name)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_of_another_program_has_the_values_that_its_own_library_reads() -> None:
    path = SAMPLES.parent / "recording/flight.mcap"
    known: dict[int, dict[str, Any]] = {}  # by whole seconds, what every key was
    state: dict[str, Any] = {}
    with path.open("rb") as file:
        for _, _, message in make_reader(file).iter_messages(log_time_order=True):
            second = -(-message.log_time // 1_000_000_000)
            state.update(json.loads(message.data))
            known[second] = dict(state)
    opened = open_recording(path)
    rows = table(opened, "csv")
    opened.close()
    assert [row["utc"][17:19] for row in rows] == ["01", "02", "03", "04", "05", "06", "07"]
    for row in rows:
        expected = known[round(datetime.fromisoformat(row.pop("utc")).timestamp())]
        assert {k: v for k, v in row.items() if v} == {k: _as_csv(v) for k, v in expected.items()}


def _as_csv(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def test_a_recording_of_ours_brings_flags_units_sources_and_alerts(tmp_path: Path) -> None:
    definitions = json.dumps({"OILT1": {"units": "degF"}, "IAS": {"units": "knots"}}).encode()
    writer = Writer(tmp_path / "a.mcap.part", {"ident": "N12345"}, {"definitions.json": definitions})
    seconds: tuple[dict[str, dict[str, Any]], ...] = (
        {"/flight": {"IAS": 90.0}, "/engine": {"OILT1": 212.0}, "/sources": {"IAS": "eis", "OILT1": "sim/eis"}},
        {"/flight": {"IAS": 91.0}, "/flags": {"OILT1": "01000"}},
        {"/flight": {"IAS": 92.0}, "/alerts": {"id": "oil", "to": "active", "level": "warning", "text": "OIL"}},
        {"/flags": {"OILT1": "00000", "IAS": "00010"}},
    )
    for second, content in enumerate(seconds):
        monotonic, utc = 100.0 + second, START + second
        writer.write_time(monotonic, utc, "boot")
        for topic, values in content.items():
            writer.write(topic, json.dumps(values).encode(), round(monotonic * 1e9), round(utc * 1e9))
    opened = open_recording(writer.finish())
    rows = table_by_long_names(opened)
    assert [row["Indicated Airspeed (kt)"] for row in rows] == ["90.0", "91.0", "92.0", ""]
    assert [row["Oil Temp (deg F)"] for row in rows] == ["212", "", "", "212"]
    assert [row["CAS Alert"] for row in rows] == ["", "", "OIL", "OIL"]
    assert "SIMULATED" in file_name(opened.about, "g3x", span_of(opened))
    opened.close()


def test_an_hour_s_file_of_the_incumbent() -> None:
    opened = open_recording(SAMPLES.parent / "recording/fdr.json", UTC)
    rows = table(opened, "csv", rate=2.0)
    opened.close()
    assert [(row["utc"][17:], row["IAS"], row["TACH1"]) for row in rows[:2]] == [  # lines are at .000123 and .500123
        ("00.500Z", "103.83990396701326", "2598"),
        ("01Z", "104.10667839127917", "2599"),
    ]
