"""What `fixgw check` finds in the options of `alerts`."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.errors import ConfigurationError

HEAD = """\
connections:
  alerts:
    load: yes
    module: fixgw.plugins.alerts
    alerts:
"""

FOUND = {
    "{id: a, key: OILPP1, below: 3}": "6:22: alerts[0].key: the database has no item 'OILPP1' (did you mean 'OILP1'?)",
    "{id: a, key: OILP1, below: lowAlrm}": (
        "6:36: alerts[0].below: OILP1 has no aux value 'lowAlrm' (did you mean 'lowAlarm'?)"
    ),
    "{id: a, each: CHT2*, above: 3}": "6:23: alerts[0].each: no item matches 'CHT2*'",
    "{id: a, key: VOLT, each: VO*, above: 3}": "6:34: alerts[0].each: give either `key` or `each`",
    "{id: a, when: OATT < 3}": "6:23: alerts[0].when: the database has no item 'OATT' (did you mean 'OAT'?)",
    "{id: a, when: sqrt(OAT) < 3}": (
        "6:23: alerts[0].when: allowed are and, or, not, comparisons, + - * / %, abs, min, max and keys (column 1)"
    ),
    "{id: a, key: OAT, below: 3, inhibit: OAT <}": "6:46: alerts[0].inhibit: not a valid expression (column 5)",
    "{id: a, when: OAT < 3, phases: [grund]}": "alerts[0].phases",
    "{id: a, when: OAT < 3}, {id: a, when: OAT < 4}": "6:14: alerts[1].id: another alert has the id a",
    "{id: a, each: 'CHT1[12]', above: 5}, {id: a.CHT12, key: CHT12, above: 5}": (
        "6:14: alerts[1].id: another alert makes one with the id a.CHT12"
    ),
    "{id: a, key: OAT, above: 5, no_data: caution}, {id: a.no-data, when: OAT < 3}": (
        "6:14: alerts[1].id: another alert makes one with the id a.no-data"
    ),
    "{id: all, when: OAT < 3}": "6:14: alerts[0].id: `all` stands for all alerts in commands: choose another id",
    "{id: a b, when: OAT < 3}": "alerts[0].id",
    "{id: a, key: OILP1, below: 90, above: 20}": (
        "6:36: alerts[0].below: 90 is above `above`, 20: it would always be on"
    ),
    "{id: a, key: OILP1, below: 20, above: 90, hysteresis: 80}": (
        "6:63: alerts[0].hysteresis: 80 is more than lies between the limits of OILP1"
    ),
    "{id: a, key: OILP1, below: 20, hysteresis: -1}": "6:52: alerts[0].hysteresis: -1 is not 0 or more",
    "{id: a, key: OILP1, below: 20, hysteresis: 190}": (
        "6:52: alerts[0].hysteresis: OILP1 would have to come back to 210: its range ends at 200"
    ),
    "{id: a, key: OILP1, below: 0}": "6:36: alerts[0].below: OILP1 can never be below 0: its range ends at 0",
    "{id: a, key: OILP1, above: 500}": "6:36: alerts[0].above: OILP1 can never be above 500: its range ends at 200",
    "{id: a, key: OILP1, below: .nan}": "6:36: alerts[0].below: expected a number, got the number nan",
    "{id: a, key: ACID, above: 5}": "6:35: alerts[0].above: ACID is not a number: use `when`",
    "{id: a, below: 5}": "6:24: alerts[0].below: it needs a `key` to compare",
    "{id: a, when: OAT < 5, no_data: caution}": "6:41: alerts[0].no_data: it needs a `key`",
    "{id: a, key: OAT}": "6:9: alerts[0]: it has no condition: `below`, `above` or `when`",
    "{id: a, key: OAT, below: 5, when: BTN1}": (
        "6:43: alerts[0].when: give either `when` or `below`; `inhibit` excludes situations"
    ),
    "{id: a, key: OAT, below: 5, levels: [{level: caution, below: 4}]}": (
        "6:34: alerts[0].below: give it in `levels`, or leave `levels` out"
    ),
    "{id: a, key: OAT, levels: [{level: caution, below: -200}]}": (
        "6:60: alerts[0].levels[0].below: OAT can never be below -200: its range ends at -100"
    ),
    "{id: a, key: OAT, levels: [{level: warning, above: 40}, {level: caution, above: 50}]}": (
        "6:89: alerts[0].levels[1].above: OAT is never caution above 50: it is warning above 40 before"
    ),
    "{id: a, key: OAT, levels: [{level: hot, below: 4}]}": "alerts[0].levels[0].level",
    "{id: a, each: CHT1*, above: 5, text: '{number}'}": ("6:46: alerts[0].text: {number}: {key} and {n} are allowed"),
    "{id: a, key: OAT, above: 5, text: '{n}'}": "6:43: alerts[0].text: {n}: allowed only with `each`",
    "{id: a, key: OAT, abve: 5}": "unknown option 'abve' (did you mean 'above'?)",
}


def check(tmp_path: Path, alerts: str, more: str = "") -> list[str]:
    """Problems, without the name of the file."""
    file = tmp_path / "default.yaml"
    file.write_text(f"{HEAD}     [{alerts}]\n{more}")
    return [str(problem).partition("default.yaml:")[2] for problem in configuration.check(file)]


def test_everything_is_found_at_once_with_its_place(tmp_path: Path) -> None:
    """Every entry of `FOUND` in one file, each in its own line."""
    lines: list[str] = []
    expected: list[str] = []
    for given, message in FOUND.items():
        first, letter = len(lines), string.ascii_letters[len(expected)]
        entries = re.findall(r"\{(?:[^{}]|\{[^{}]*\})*\}", given)
        lines += [re.sub(r"id: a\b", f"id: {letter}", entry) for entry in entries]
        words = re.sub(r"alerts\[(\d)\]", lambda m: f"alerts[{first + int(m[1])}]", message)  # noqa: B023
        place = re.match(r"6:(\d+): ", words)
        if place:
            words = f"{6 + first + len(entries) - 1}:{place[1]}: {words[place.end() :]}"
        expected.append(re.sub(r"the id a\b", f"the id {letter}", words))
    file = tmp_path / "default.yaml"
    file.write_text(HEAD + "".join(f"      - {line}\n" for line in lines))
    found = [str(problem).partition("default.yaml:")[2] for problem in configuration.check(file)]
    for words in expected:
        assert [line for line in found if words in line], words + " not in\n" + "\n".join(found)
    assert len(found) == len(expected)


def test_speeds_and_engine(tmp_path: Path) -> None:
    found = check(tmp_path, "", "    phases: {takeoff_speed: 30, engine: TACH}\n")
    assert [line.partition(": ")[2] for line in found] == [
        "phases: the speeds must ascend: landed_speed, takeoff_speed, airborne_speed",
        "phases.engine: the database has no item 'TACH' (did you mean 'TACH1'?)",
    ]


def test_two_connections_would_fight_for_the_keys(tmp_path: Path) -> None:
    found = check(tmp_path, "", "  more: {load: yes, module: fixgw.plugins.alerts}\n")
    assert len(found) == 1
    assert "alerts: ALERTMSG is already used by connection 'alerts', at" in found[0]


def test_too_many(tmp_path: Path) -> None:
    many = ", ".join(f"{{id: a{n}, each: TSBTN*, when: '{{key}}'}}" for n in range(6))
    assert "these are 1200 alerts, at most 1000" in check(tmp_path, many)[0]


def test_advice(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    (tmp_path / "own.ini").write_text("OILT1.highAlarm = 120\nVOLT.highAlarm = 15.2\n")  # 15.2 is that of the package
    file.write_text(
        f"{HEAD}     [{{id: oil, key: OILP1, below: lowAlarm, above: highAlarm, hysteresis: 90}}]\n"
        'initialization files: ["{PACKAGE}/initial.ini", own.ini]\n'
    )
    (missing, hysteresis) = configuration.load(file).advice
    assert hysteresis.message == "alerts[0].id: 90 is more than lies between the limits of OILP1"
    assert missing.message == "alerts: OILT1: you have set lowAlarm or highAlarm, but no alert looks at them"
    file.write_text(f"{HEAD}     [{{id: fuel, key: FUELQ3, below: lowAlarm}}]\n")
    assert (
        configuration.load(file).advice[-1].message
        == "alerts[0].id: FUELQ3.lowAlarm is not set, so that it is never below that"
    )


def test_advice_about_limits_in_expressions(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text(f"{HEAD}     [{{id: cold, when: FUELQ3 < FUELQ3.lowWarn or FUELQ3.old}}]\n")
    words = "alerts[0].id: FUELQ3.lowWarn is not set, so that `FUELQ3 < FUELQ3.lowWarn or FUELQ3.old` is not known"
    assert words in [advice.message for advice in configuration.load(file).advice]


def test_without_alerts_it_presents_notices_alone(tmp_path: Path) -> None:
    assert check(tmp_path, "") == []
    with pytest.raises(ConfigurationError):
        configuration.load(tmp_path / "nothing.yaml")


def test_advice_about_levels_that_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    levels = "[{level: caution, below: lowAlarm}, {level: warning, below: lowWarn}]"
    file.write_text(f"{HEAD}     [{{id: a, key: OILP1, levels: {levels}}}]\n")
    words = "alerts[0].id: OILP1 is never caution below 25: it is warning below 55 before"
    assert words in [advice.message for advice in configuration.load(file).advice]
