"""fixgw replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixgw.cli import main

GOLDEN = Path(__file__).parents[1] / "golden"
EIS = GOLDEN / "eis.mcap"


def test_the_outcome_is_printed_and_the_rest_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(EIS)]) == 0
    out, err = capsys.readouterr()
    assert out == EIS.with_suffix(".txt").read_text()
    assert err.splitlines()[-1].endswith("s, by eis")


def test_a_golden_file_is_written_kept_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "eis.txt"
    args = ["replay", str(EIS), "--golden", str(path)]
    assert main(args) == 1, "there is none"
    assert main([*args, "--update"]) == 0
    assert main(args) == 0
    text = path.read_text()
    path.write_text("# mine\n# tolerance TACH1 0.5\n" + text.replace("TACH1 2436", "TACH1 2000"))
    assert main(args) == 0, "within the tolerance in the file"
    path.write_text(path.read_text().replace("# tolerance TACH1 0.5\n", ""))
    capsys.readouterr()
    assert main(args) == 1
    out = capsys.readouterr().out
    assert "golden: 0.223100 TACH1 2000 00000 eis\n  now:    0.223100 TACH1 2436 00000 eis" in out
    assert main([*args, "--tolerance", "TACH?=0.5"]) == 0
    assert main([*args, "--update"]) == 0
    assert path.read_text().startswith("# mine\n")
    assert main(args) == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["replay", "nothing.mcap"], "nothing.mcap"),
        (["replay", str(EIS.with_suffix(".txt"))], "is no capture"),
        (["replay", str(EIS), "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["replay", str(EIS), "--golden", str(EIS)], "is not a golden file"),
        (["replay", str(EIS), "--golden", str(GOLDEN / "README.md")], "README.md: line 3 is not a line of an outcome"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_a_configuration_that_reads_other_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "default.yaml"
    path.write_text("connections: {gps: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB0}}")
    assert main(["replay", str(EIS), "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "gps: the capture has no data of it" in err
    assert "eis: the configuration does not read it (75 entries)" in err


@pytest.mark.parametrize(
    "args", [["replay"], ["replay", str(EIS), "--update"], ["replay", str(EIS), "--tolerance", "much"]]
)
def test_wrong_usage(args: list[str]) -> None:
    assert main(args) == 2
