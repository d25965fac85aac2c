"""`fixgw flights` and `fixgw record recover`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixgw import cli
from fixgw.recording import RecordingError
from fixgw.recording.container import Writer
from fixgw.recording.flight import find

START = 1_778_940_300.0  # 2026-05-16 14:05 UTC


def record(directory: Path, name: str, finish: bool = True, utc: float | None = START) -> Path:
    """An hour of flight, in three messages."""
    writer = Writer(directory / f"{name}.mcap.part", {"ident": "N123"}, {})
    writer.write_time(10.0, utc, "boot")
    writer.write("/flight", b'{"IAS":1}', 10 * 10**9, None)
    writer.flush()
    writer.write("/flight", b'{"IAS":2}', 3610 * 10**9, None)
    writer.write("/alerts", b'{"id":"a","to":"active","level":"caution","text":"\\u001b[2JCHT"}', 3610 * 10**9, None)
    if finish:
        facts = {"takeoff": "610.0", "landing": "3010.0", "alert level": "caution", "alert": "CHT \x1b[2J"}
        return writer.finish(facts)
    writer.flush()
    writer.abandon()
    return writer.path


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, "20260516-140500-1")
    record(tmp_path, "20260516-160500-1", finish=False)
    record(tmp_path, "20260516-180500-1", utc=None)
    (tmp_path / "20260516-190500-1.mcap").write_bytes(b"no recording\n")
    (tmp_path / "20260516-200500-1.mcap").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "b\x1b[2J.mcap").write_bytes(b"")
    assert cli.main(["flights", "--directory", str(tmp_path), "--keep", str(tmp_path / "20260516-140500-1.mcap")]) == 0
    assert cli.main(["flights", "--directory", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "NAME DATE DURATION TAKE-OFF LANDING WORST ALERT SIZE"
    assert lines[1].startswith("20260516-140500-1 2026-05-16 14:05 60 min 14:15 14:55 caution CHT")
    assert lines[1].endswith("MB keep")
    assert "cut" in lines[2]
    assert lines[3].startswith("20260516-180500-1 no date 60 min +10 min +50 min")
    assert "neither" in lines[4] or "not" in lines[4]
    assert "\x1b" not in out
    assert len(lines) == 6
    assert cli.main(["flights", "--directory", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["name"] for f in found][:3] == ["20260516-140500-1", "20260516-160500-1", "20260516-180500-1"]
    assert (found[0]["takeoff"], found[0]["keep"], found[1]["complete"]) == (START + 600, True, False)
    assert cli.main(["flights", "--directory", str(tmp_path), "--no-keep", "20260516-140500-1"]) == 0
    assert not list(tmp_path.glob("*.keep"))


def test_no_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["flights", "--directory", str(tmp_path / "none")]) == 0
    assert "no recordings" in capsys.readouterr().out


def test_recovering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = record(tmp_path, "20260516-140500-1", finish=False)
    assert cli.main(["record", "recover", str(part)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/20260516-140500-1.mcap: 60 min recovered\n"
    assert cli.main(["record", "recover", str(part)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["record", "recover", str(tmp_path / "missing.mcap.part")]) == 1
    assert cli.main(["flights", "--directory", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2  # the cut one is not shown twice


def test_a_flight_is_found_by_its_name(tmp_path: Path) -> None:
    path = record(tmp_path, "20260516-140500-1")
    assert find("20260516-140500-1", lambda: [tmp_path / "none", tmp_path]) == path
    assert find(str(path), list) == path
    with pytest.raises(RecordingError, match="20260516-140500-1"):
        find("20260516-140501-1", lambda: [tmp_path])
