"""The command export: which file it writes, when it refuses, and the times that people type."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fixgw import cli
from fixgw.cli import reading
from fixgw.cli.reading import Bar, instant, new_file, offset, span_of
from fixgw.errors import FixgwError
from fixgw.recording import About, Recording
from fixgw.recording.sampling import Span
from tests.recording.flights import START, recording, sample_flight

Export = Callable[..., int]


@pytest.fixture
def flight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Recording]:
    """Replaces the flight that the command reads; at first it is the sample."""
    monkeypatch.chdir(tmp_path)

    def use(of: Recording) -> Recording:
        monkeypatch.setattr(reading, "open_recording", lambda _: of)
        return of

    use(sample_flight())
    return use


@pytest.fixture
def export(flight: object) -> Export:
    return lambda *words: cli.main(["export", "flight.mcap", *map(str, words)])


def test_the_file_has_the_usual_name(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--to", "g3x", "--utc-offset", "-5") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log_20260516_090500_N12345.csv"]
    assert capsys.readouterr().out == "log_20260516_090500_N12345.csv: 30 rows\n"


def test_a_directory_gets_a_file_with_the_usual_name(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export("--to", "gpx", "-o", tmp_path / "out") == 0
    assert (tmp_path / "out/flight_20260516_140500_N12345.gpx").exists()


def test_no_file_is_replaced_unless_forced(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("mine")
    assert export("--to", "csv", "-o", "a.csv") == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert export("--to", "csv", "-o", "a.csv", "--force") == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 31
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(FixgwError, match="exists already"), new_file(path, force=False):
        path.write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("there_is_one", [False, True])
def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_is_one: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    if not there_is_one:
        with new_file(tmp_path / "a", force=False) as out:
            out.write(b"ours")
    else:
        with pytest.raises(FixgwError, match="exists already"), new_file(tmp_path / "a", force=False):
            (tmp_path / "a").write_text("ours")
    assert (tmp_path / "a").read_text() == "ours"


def test_a_failure_leaves_nothing_behind(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--to", "igc", "--rate", 5) == 1
    assert "whole seconds" in capsys.readouterr().err
    assert export("--to", "igc", "-o", "no/such/place.igc") == 1
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed_and_a_device_is_written_to(export: Export, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert export("--to", "csv", "-o", "link.csv", "--force") == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() != "old"
    assert export("--to", "csv", "-o", os.devnull) == 0
    assert not Path(os.devnull).is_file()


def test_stdout_has_the_flight_and_nothing_else(export: Export, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert export("--to", "igc", "-o", "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"AXFGFIXGW\r\n")


def test_what_is_wrong_with_the_recording_is_said(
    flight: Callable[..., Recording], export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    flight(sample_flight(simulated=True, complete=False, lost=2))
    assert export("--to", "csv") == 0
    said = capsys.readouterr()
    assert "SIMULATED" in said.out
    assert all(words in said.err for words in ("not finished", "2 pieces could not be read", "simulated"))


def test_a_recording_without_a_date(
    flight: Callable[..., Recording], export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flight(recording([(50.0 + t, "LAT", 1.0) for t in range(5)], dated=False))
    assert export("--to", "gpx") == 1
    assert "no date" in capsys.readouterr().err
    assert export("--to", "csv", "-o", "a.csv", "--from", "14:05") == 1
    assert export("--to", "csv", "-o", "a.csv", "--from", "+0.05") == 0
    assert (tmp_path / "a.csv").read_text() == "seconds,LAT\n3.000,1.0\n4.000,1.0\n"
    assert export("--to", "csv", "-o", "b.csv", "--start", "2026-05-16T14:05", "--until", "14:05:01") == 0
    assert (tmp_path / "b.csv").read_text() == "utc,LAT\n2026-05-16T14:05:00Z,1.0\n2026-05-16T14:05:01Z,1.0\n"
    flight(sample_flight())
    assert export("--to", "csv", "--start", "2026-05-16T14:05") == 1


NIGHT = About("night", Path("n"), start=START + 9 * 3600, end=START + 11 * 3600)  # 23:05 to 01:05


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("23:35", 0.5),
        ("00:05", 1.0),
        ("0:05:00.0Z", 1.0),
        ("+30", 0.5),
        ("2026-05-17T00:05", 1.0),
        ("2026-05-17T02:05+02:00", 1.0),
        ("2026-05-17 00:05:00Z", 1.0),
    ],
)
def test_times_that_people_type(text: str, hours: float) -> None:
    assert span_of(NIGHT, instant(text), None, None) == Span(NIGHT.start + hours * 3600, NIGHT.end)


def test_times_outside_of_the_flight_are_its_ends_or_an_error() -> None:
    assert span_of(NIGHT, instant("22:00"), instant("02:00"), None) == Span(NIGHT.start, NIGHT.end)
    with pytest.raises(FixgwError, match="from 2026-05-16 23:05:00 to 01:05:00 UTC"):
        span_of(NIGHT, instant("02:00"), None, None)
    with pytest.raises(FixgwError, match="nothing between"):
        span_of(NIGHT, instant("+60"), instant("+30"), None)


@pytest.mark.parametrize("text", ["", "noon", "25:00", "12:60", "+", "+nan", "+1h", "2026-13-01", "12:00:99"])
def test_nonsense_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        instant(text)


def test_what_to_add_to_utc() -> None:
    assert offset("-09:30") == offset("-9.5") == timedelta(minutes=-570)
    assert offset("+2") == offset("2") == timedelta(hours=2)
    with pytest.raises(argparse.ArgumentTypeError):
        offset("CET")


@pytest.mark.parametrize("words", [("--rate", "0"), ("--rate", "x"), ("--to", "dynon"), ("--utc-offset", "25:00")])
def test_wrong_usage(export: Export, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--to", "csv", *words) == 2
    assert "--help" in capsys.readouterr().err


def test_a_bar_is_drawn_on_a_terminal_for_what_takes_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", drawn := Terminal())
    now = [0.0]
    bar = Bar(lambda: now[0])
    for now[0] in (0.5, 0.9):
        bar(0.1)
    assert not drawn.getvalue()
    now[0] = 2.0
    bar(0.5)
    assert "[###############...............]  50 %, 2 s left" in drawn.getvalue()
    bar.close()
    assert drawn.getvalue().endswith("\r\x1b[K")
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    Bar(lambda: 0.0)(0.5)
    assert not plain.getvalue()
