"""What `fixgw check` finds in a compute connection, with positions."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixgw import configuration
from fixgw.cli import main
from fixgw.errors import ConfigurationError
from fixgw.plugins.compute import table
from fixgw.plugins.compute.check import ONLY_HERE
from fixgw.plugins.compute.entry import Entry
from tests.plugins.compute.bench import packaged, write_tree

HEAD = "connections:\n  compute:\n    load: yes\n    module: fixgw.plugins.compute\n    functions:\n"
DEFINITION = """\
entries:
  - {key: EGT11, units: degC}
  - {key: EGT12, units: degC}
  - {key: EGTAVG1, units: degC}
  - {key: EGTSPAN1, units: degC}
  - {key: ALT, units: ft}
  - {key: PALT, units: ft}
  - {key: BARO, units: inHg, min: 20, max: 35, setting: yes}
  - {key: TALT, units: ft}
  - {key: DALT, units: ft}
  - {key: OAT, units: degC}
  - {key: LAT, units: deg}
  - {key: LONG, units: deg}
  - {key: WPLAT, units: deg}
  - {key: WPLON, units: deg}
  - {key: COURSE, units: deg}
  - {key: XTRACK, units: nmi}
  - {key: FUELQ1}
  - {key: FUELQ2}
  - {key: FUELQ3}
  - {key: FUELQT}
  - {key: BTN1, type: bool, setting: yes}
  - {key: ENC1, type: int, setting: yes}
  - {key: TIMEZ, type: str}
"""


def check_lines(directory: Path, *lines: str) -> tuple[list[str], list[str]]:
    """Problems and advice, as ``line:column: message``."""
    (directory / "database.yaml").write_text(DEFINITION)
    text = 'database file: "{CONFIG}/database.yaml"\ninitialization files: []\n' + HEAD
    path = directory / "default.yaml"
    path.write_text(text + "".join(f"      - {{{line}}}\n" for line in lines))
    try:
        advice = configuration.load(path).advice
        problems = []
    except ConfigurationError as error:
        problems, advice = error.problems, tuple(error.advice)
    shown = [[f"{p.line}:{p.column}: {p.message}" for p in found] for found in (problems, advice)]
    return shown[0], shown[1]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "function: avrage, inputs: [EGT11], output: EGTAVG1",
            "8:20: functions[0].function: there is no function 'avrage' (did you mean 'average'?)",
        ),
        (
            "function: average, inputs: [EGT11, EGT21], output: EGTAVG1",
            "8:45: functions[0].inputs[1]: the database has no item 'EGT21' (did you mean 'EGT12'?)",
        ),
        (
            "function: average, inputs: [EGT11], output: EGTAVG",
            "8:54: functions[0].output: the database has no item 'EGTAVG' (did you mean 'EGTAVG1'?)",
        ),
        (
            "function: encoder, inputs: [ENC1], output: BARO",
            "8:9: functions[0]: encoder needs the option 'multiplier'",
        ),
        ("function: set, inputs: [BTN1], output: BARO", "8:9: functions[0]: set needs the option 'value'"),
        ("function: remap, inputs: [ENC1], output: BARO", "8:9: functions[0]: remap needs the option 'table'"),
        (
            "function: set, inputs: [BTN1], output: BARO, value: high",
            "8:62: functions[0].value: BARO: 'high' is not a number",
        ),
        (
            "function: set, inputs: [BTN1], output: BARO, value: 1013",
            "8:62: functions[0].value: 1013 is outside the range of BARO, 20.0 to 35.0",
        ),
        (
            "function: altp, inputs: [BARO], output: PALT",
            "8:34: functions[0].inputs: altp takes 2 inputs (altimeter setting, altitude), got 1",
        ),
        (
            "function: average, inputs: [], output: EGTAVG1",
            "8:37: functions[0].inputs: average takes at least 1 input (number), got 0",
        ),
        (
            "function: average, inputs: [EGT11, TIMEZ], output: EGTAVG1",
            "8:45: functions[0].inputs[1]: number: TIMEZ is text, and a number is expected",
        ),
        (
            "function: average, inputs: [EGT11, yes], output: EGTAVG1",
            "8:45: functions[0].inputs[1]: expected text or whole number or number, got yes or no",
        ),
        (
            "function: average, inputs: [EGT11, 5], output: EGTAVG1",
            "8:45: functions[0].inputs[1]: expected a key, for the number, got 5",
        ),
        (
            "function: average, inputs: [EGT11], output: BTN1",
            "8:54: functions[0].output: BTN1 is a switch, and average gives a number",
        ),
        (
            "function: set, inputs: [EGT11], output: BARO, value: 30",
            "8:34: functions[0].inputs[0]: switch: EGT11 is a number, and a switch (yes or no) is expected",
        ),
        (
            "function: average, inputs: [EGT11], output: EGTAVG1, multiplier: 3",
            "8:75: functions[0].multiplier: average has no option 'multiplier': it has failed, missing",
        ),
        (
            "function: average, inputs: [EGT11], output: [EGTAVG1, EGTSPAN1]",
            "8:54: functions[0].output: average has 1 output (average), got 2",
        ),
        (
            "function: average, inputs: [EGT11], output: EGTAVG1, mising: ignore",
            "8:63: functions[0]: unknown option 'mising' (did you mean 'missing'?)",
        ),
        (
            "function: average, inputs: [EGT11, EGTAVG1], output: EGTAVG1",
            "8:45: functions[0].inputs[1]: a circle: EGTAVG1 from EGTAVG1",
        ),
    ],
)
def test_a_problem_has_its_position(line: str, found: str, tmp_path: Path) -> None:
    problems, _ = check_lines(tmp_path, line)
    assert len(problems) == 1
    assert problems[0].startswith(found.partition("expected text")[0])
    assert "expected text" in found or problems == [found]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    problems, _ = check_lines(
        tmp_path,
        "function: averag, inputs: [EGT91], output: EGTAVG1",
        "function: span, inputs: [EGT11, EGT12], output: EGTSPAN1",
        "function: max, inputs: [EGT11, EGT12], output: EGTSPAN1",
        "function: altp, inputs: [BARO, DALT], output: PALT",
        "function: altd, inputs: [PALT, ALT, OAT], output: DALT",
    )
    assert problems == [
        "8:20: functions[0].function: there is no function 'averag' (did you mean 'average'?)",
        "8:37: functions[0].inputs[0]: the database has no item 'EGT91' (did you mean 'EGT12'?)",
        "10:57: functions[2].output: EGTSPAN1 is already the output of functions[1]",
        "12:35: functions[4].inputs[0]: a circle: PALT from DALT from PALT",
    ]


def test_advice_about_what_may_not_be_meant(tmp_path: Path) -> None:
    problems, advice = check_lines(
        tmp_path,
        "function: sum, inputs: [FUELQ1, FUELQ2, FUELQ3], output: FUELQT",
        "function: altp, inputs: [BARO, TALT], output: PALT",
        "function: altd, inputs: [PALT, TALT, OAT], output: DALT",
        "function: xte, inputs: [LAT, LONG, WPLAT, WPLON, COURSE], output: XTRACK",
    )
    assert problems == []
    assert [line.partition(": ")[0] for line in advice] == ["8:50", "9:41", "10:41", "11:59"]
    assert "missing: ignore" in advice[0]
    assert "indicated" in advice[1]
    assert "magnetic" in advice[3]


def test_units_that_differ_give_advice(tmp_path: Path) -> None:
    problems, advice = check_lines(tmp_path, "function: altp, inputs: [ALT, BARO], output: PALT")
    assert problems == []
    assert advice == [
        "8:35: functions[0].inputs[0]: ALT is in ft, and the altimeter setting is expected in inHg",
        "8:40: functions[0].inputs[1]: BARO is in inHg, and the altitude is expected in ft",
    ]


def test_a_definition_without_our_keys_costs_only_their_functions(tmp_path: Path) -> None:
    problems, advice = check_lines(
        tmp_path,
        "function: max, inputs: [EGT11], output: GMAX",
        "function: average, inputs: [EGT11, EGT12], output: EGTAVG1",
    )
    assert problems == []
    assert [line.rpartition(": the")[2] for line in advice] == [
        " database has no item GMAX, so this is not computed: define it"
    ]


def test_each_function_is_described() -> None:
    names = [name for function in table.FUNCTIONS for name in (function.name, *function.aliases)]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)
    for function in table.FUNCTIONS:
        assert function.formula
        assert function.inputs
        assert not any(i.optional or i.many for i in function.inputs[:-1] if i.many)
        assert all(hasattr(Entry, option.name) for option in function.options)


def test_the_packaged_definition_has_every_key_that_only_it_has() -> None:
    lacking = [p for p in ONLY_HERE if not any(fnmatchcase(key, p) for key in packaged())]
    assert lacking == []


def test_the_examples_of_the_page_have_no_problems(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/plugins/compute.md").read_text(encoding="utf-8")
    functions: dict[str, dict[str, Any]] = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        found = yaml.safe_load(block)
        for function in found if isinstance(found, list) else found["connections"]["compute"]["functions"]:
            functions[str(function["output"])] = function
    assert len(functions) > 20
    ports = [{"key": "AOAFWD", "units": "Pa"}, {"key": "AOA45", "units": "Pa"}]
    names = [
        set(function["output"]) if isinstance(function["output"], list) else {function["output"]}
        for function in functions.values()
    ]
    once = [f for n, f in enumerate(functions.values()) if not any(names[n] & other for other in names[:n])]
    connection = {"load": True, "module": "fixgw.plugins.compute", "functions": once}
    tree = {"connections": {"compute": connection}, "database overlay": {"entries": ports}}
    path = tmp_path / "default.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert configuration.check(path) == []


def test_the_command_line_lists_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "compute", "--functions"]) == 0
    out = capsys.readouterr().out
    assert "altp, pressure_altitude_from_indicated: altimeter setting inHg, altitude ft -> pressure altitude ft" in out
    assert main(["plugins", "compute", "--functions", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(table.FUNCTIONS)
    assert main(["plugins", "netfix", "--functions"]) == 1
    assert "name no functions" in capsys.readouterr().err


def test_an_output_that_one_function_names_twice(tmp_path: Path) -> None:
    function = {"function": "wind", "inputs": ["GS", "TRACKM", "TAS", "HEAD"], "output": ["WINDSPD", "WINDSPD"]}
    (problem,) = configuration.check(write_tree(tmp_path, [function]))
    assert "WINDSPD is named twice" in str(problem)
