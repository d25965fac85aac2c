"""Database definitions and initial values: templates, overlays, and all their errors."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixgw.configuration import items
from fixgw.configuration.reader import Reader
from fixgw.database import Database, Definition

DATA = Path(__file__).parents[1] / "data"


class Read:
    """The result of reading some documents, and optionally initial values."""

    def __init__(self, directory: Path, *documents: str, initial: str | None = None, lenient: bool = False) -> None:
        self.reader = Reader(directory / "main.yaml")
        read = []
        for number, text in enumerate(documents):
            path = directory / f"d{number}.yaml"
            path.write_text(text)
            read.append(self.reader.read(path))
        self.items = items.read_definitions(self.reader, read)
        self.database = Database(self.items.definitions)
        self.initial: list[tuple[str, str]] = []
        if initial is not None:
            path = directory / "values.ini"
            path.write_text(initial)
            self.initial = items.read_initial(self.reader, [(path, None)], self.items, self.database, *[True] * lenient)
            items.apply_initial(self.database, self.initial)
        self.problems = [str(p).replace(f"{directory}/", "") for p in self.reader.sorted_problems()]

    @property
    def keys(self) -> list[str]:
        return [d.key for d in self.items.definitions]

    def __getitem__(self, key: str) -> Definition:
        return next(d for d in self.items.definitions if d.key == key)


def entry(directory: Path, text: str) -> list[str]:
    """The problems of a definition with one entry."""
    read = Read(directory, f"variables: {{e: 1, c: 2}}\nentries:\n  - {{{text}}}\n")
    return [p.removeprefix("d0.yaml:3:") for p in read.problems]


# -- definitions -------------------------------------------------------------------------------------------------------


def test_an_entry_becomes_an_item_with_all_its_fields(tmp_path: Path) -> None:
    read = Read(
        tmp_path,
        "entries:\n  - key: IAS\n    description: Indicated airspeed\n    type: float\n    min: 0\n    max: 1000\n"
        "    units: knots\n    initial: 0\n    tol: 2000\n    aux: [Min, 0g]\n    setting: no\n"
        "    sources: [canfix, sim/backup]\n",
    )
    assert read.problems == []
    assert read["IAS"] == Definition(
        key="IAS",
        description="Indicated airspeed",
        type="float",
        min=0.0,
        max=1000.0,
        units="knots",
        initial=0.0,
        tolerance=2000,
        aux=("Min", "0g"),
        sources=("canfix", "sim/backup"),
    )
    assert type(read["IAS"].max) is float


def test_omitted_fields_have_their_defaults(tmp_path: Path) -> None:
    read = Read(tmp_path, "entries: [{key: X}, {key: Y_2, type: int, max: 5.0}, {key: Z, type: bool, initial: 1}]")
    assert read.items.definitions == [
        Definition(key="X"),
        Definition(key="Y_2", type="int", max=5),
        Definition(key="Z", type="bool", initial=True),
    ]


def test_a_template_expands_to_every_combination(tmp_path: Path) -> None:
    read = Read(
        tmp_path,
        "variables: {e: 2, c: 3, z: 0}\n"
        "entries:\n  - {key: EGTec, description: 'EGT %c of engine %e, %%, %x'}\n  - {key: NONEz}\n  - {key: OIL}\n",
    )
    assert read.keys == ["EGT11", "EGT12", "EGT13", "EGT21", "EGT22", "EGT23", "OIL"]
    assert read["EGT23"].description == "EGT 3 of engine 2, %%, %x"


def test_entries_come_from_included_files(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("items:\n  - key: B\n  - key: C\n")
    assert Read(tmp_path, "entries:\n  - key: A\n  - include: more.yaml\n  - key: D\n").keys == ["A", "B", "C", "D"]


def test_a_later_document_changes_only_the_fields_that_it_names(tmp_path: Path) -> None:
    read = Read(
        tmp_path,
        "variables: {c: 2}\nentries:\n  - {key: CHTc, description: 'CHT %c', max: 900, tol: 2000, aux: [Min, Max]}\n"
        "  - {key: OAT, units: degC}\n",
        "variables: {c: 3}\nentries:\n  - {key: CHTc, max: 500}\n  - {key: CHT2, tol: 100, aux: ~}\n",
        "- {key: OAT, units: degF}\n- {key: NEW}\n",
    )
    assert read.problems == []
    assert read.keys == ["CHT1", "CHT2", "CHT3", "OAT", "NEW"]
    assert read["CHT1"] == Definition(key="CHT1", description="CHT 1", max=500.0, tolerance=2000, aux=("Min", "Max"))
    assert read["CHT2"] == Definition(key="CHT2", description="CHT 2", max=500.0, tolerance=100)
    assert read["OAT"].units == "degF"


def test_a_plain_entry_can_follow_its_template_in_the_same_file(tmp_path: Path) -> None:
    read = Read(tmp_path, "variables: {c: 2}\nentries:\n  - {key: CHTc, max: 900}\n  - {key: CHT2, max: 950}\n")
    assert read.problems == []
    assert (read["CHT1"].max, read["CHT2"].max) == (900.0, 950.0)


def test_shared_fields_under_other_names_are_distinguished(tmp_path: Path) -> None:
    read = Read(
        tmp_path, "entries:\n  - {key: A, min: &a 1, max: &b 2}\n  - {key: B, max: *a}\n  - {key: C, min: *a}\n"
    )
    assert (read["B"].min, read["B"].max, read["C"].min, read["C"].max) == (None, 1.0, 1.0, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key: A, descripton: x", "14: unknown field 'descripton' (did you mean 'description'?)"),
        ("min: 1", "5: this item has no key"),
        ("key: ias", "11: a key consists of capital letters, digits and _, followed by variables (lower-case"),
        ("key: 5A", "11: a key consists of"),
        ("key: A-B", "11: a key consists of"),
        ("key: AeB", "11: a key consists of"),
        ("key: 17", "11: a key consists of capital letters"),
        ("key: EGTex", "11: EGTex: the variable 'x' is not declared (declared: c, e)"),
        ("key: EGTee", "11: EGTee: a variable occurs twice (declared: c, e)"),
        ("key: A, type: flaot", "20: type: expected float, int, bool or str, got text 'flaot' (did you mean 'float'?)"),
        ("key: A, type: [x]", "20: type: expected float, int, bool or str, got a list of 1"),
        ("key: A, min: low", "19: min: expected a number, got text 'low'"),
        (f"key: A, min: {'9' * 400}", "19: min: expected a number, got the number 999"),
        ("key: A, min: yes", "19: min: expected a number, got yes"),
        ("key: A, max: .nan", "19: max: expected a number, got the number nan"),
        ("key: A, max: .inf", "19: max: expected a number, got the number inf"),
        ("key: A, type: int, max: 2.5", "30: max: expected a whole number, got the number 2.5"),
        ("key: A, type: str, max: 2", "30: max: an item of type str has no range"),
        ("key: A, min: 5, max: 4", "19: min: 5.0 is more than max, 4.0"),
        ("key: A, min: 5, initial: 4", "31: initial: 4.0 is outside the range, 5.0 to any"),
        ("key: A, max: 5, initial: 6", "31: initial: 6.0 is outside the range, any to 5.0"),
        ("key: A, initial: x", "23: initial: expected a number, got text 'x'"),
        ("key: A, type: bool, initial: 2", "35: initial: expected yes or no, got the number 2"),
        ("key: A, type: str, initial: [2]", "34: initial: expected text in one line, got a list of 1"),
        ('key: A, type: str, initial: "a\\nb"', "34: initial: expected text in one line, got text 'a\\nb'"),
        (f"key: A, type: str, initial: {'x' * 1001}", "34: initial: expected text in one line, got text 'xxx"),
        ("key: A, tol: -1", "19: tol: expected milliseconds, a whole number, 0 = never ages, got the number -1"),
        ("key: A, tol: 1.5", "19: tol: expected milliseconds"),
        ("key: A, tol: yes", "19: tol: expected milliseconds"),
        ("key: A, aux: Min", "19: aux: expected a list of names, got text 'Min'"),
        ("key: A, aux: [Min, 5]", "25: aux: expected a name of letters, digits and _, got the number 5"),
        ("key: A, aux: [a b]", "20: aux: expected a name of letters, digits and _, got text 'a b'"),
        ("key: A, aux: [Min, Min]", "25: aux: Min is listed twice"),
        ("key: A, sources: [canfix, 5]", "32: sources: expected the name of a source, got the number 5"),
        ("key: A, sources: [a, '']", "27: sources: expected the name of a source, got text ''"),
        ("key: A, sources: [a, a]", "27: sources: a is listed twice"),
        ("key: A, keep: 1", "20: keep: expected yes or no, got the number 1"),
        ("key: A, setting: maybe", "23: setting: expected yes or no, got text 'maybe'"),
        ("key: A, units: 5", "21: units: expected text in one line, got the number 5"),
        ('key: A, description: "a\\nb"', "27: description: expected text in one line, got text 'a\\nb'"),
    ],
)
def test_a_wrong_entry_is_reported_with_the_expectation_and_position(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = entry(tmp_path, text)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", "d0.yaml:1:1: expected a mapping with variables: and entries:, got the number 5"),
        ("variable: {e: 1}", "d0.yaml:1:1: unknown key 'variable' (did you mean 'variables'?)"),
        ("entries: {a: 1}", "d0.yaml:1:10: entries: expected a list, got a mapping"),
        ("entries: [5]", "d0.yaml:1:11: expected an item (a mapping with a key), got the number 5"),
        ("variables: [e]", "d0.yaml:1:12: variables: expected a mapping of letter to count, got a list of 1"),
        ("variables: {E: 1}", "d0.yaml:1:13: a variable must be one lower-case letter, not text 'E'"),
        ("variables: {e: many}", "d0.yaml:1:16: e: expected a count, 0 to 99, got text 'many'"),
        ("variables: {e: 100}", "d0.yaml:1:16: e: expected a count, 0 to 99, got the number 100"),
        ("variables: {e: yes}", "d0.yaml:1:16: e: expected a count, 0 to 99, got yes"),
        ("variables: {e: many}\nentries: [{key: Ae}]", "d0.yaml:1:16: e: expected a count, 0 to 99, got text 'many'"),
        ("", "d0.yaml:1:1: expected a mapping with variables: and entries:, got nothing"),
        ("entries: [{key: A}, {key: A}]", "d0.yaml:1:27: A is defined twice; the first is in line 1"),
        (
            "variables: {e: 1, c: 11}\nentries: [{key: TEMPec}, {key: TEMPce}]",
            "",
        ),
        (
            "variables: {e: 11, c: 11}\nentries: [{key: EGTec}]",
            "d0.yaml:2:17: EGTec stands for EGT111 twice, because the numbers of its variables run together",
        ),
        (
            "variables: {e: 99, c: 99, t: 99}\nentries: [{key: EGTect}]",
            "d0.yaml:2:17: EGTect stands for more than 10,000 items",
        ),
    ],
)
def test_a_wrong_definition_is_reported_with_the_expectation_and_position(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert Read(tmp_path, text).problems == ([expected] if expected else [])


def test_a_fault_in_a_template_is_reported_once_and_its_items_are_placeholders(tmp_path: Path) -> None:
    read = Read(tmp_path, "variables: {c: 4}\nentries:\n  - {key: CHTc, min: x}\n  - {key: OAT}\n")
    assert read.problems == ["d0.yaml:3:22: min: expected a number, got text 'x'"]
    assert read.keys == ["CHT1", "CHT2", "CHT3", "CHT4", "OAT"]
    assert read.items.doubtful == {"CHT1", "CHT2", "CHT3", "CHT4"}
    assert read.items.complete


@pytest.mark.parametrize(
    "text",
    [
        "entries: [{min: 1}]",
        "entries: [5]",
        "entries: [{key: a}]",
        "entries: [{key: Ax}]",
        "variables: {a: 99, b: 99, c: 99}\nentries: [{key: Aabc}]",
        "variables: {a: 11, b: 11}\nentries: [{key: Aab}]",
        "entries: 5",
        "entries:\n  - include: gone.yaml\n",
        "entries:\n  - include: [more.yaml]\n",
        "entries:\n  - {include: gone.yaml, min: 1}\n",
        "include: gone.yaml",
        "[",
    ],
)
def test_a_definition_with_unreadable_items_is_incomplete(tmp_path: Path, text: str) -> None:
    (tmp_path / "more.yaml").write_text("items:\n  - include: gone.yaml\n")
    for documents in ((text,), ("entries: [{key: FIRST}]", text), (text, "entries: [{key: LAST}]")):
        read = Read(tmp_path, *documents)
        assert len(read.problems) == 1
        assert read.items.complete is False
    assert "LAST" in read.keys


def test_the_tree_of_an_existing_installation_loads_without_problems(tmp_path: Path) -> None:
    variables = {"e": 1, "c": 4, "a": 8, "b": 16, "r": 3, "t": 2, "n": 1, "s": 24, "d": 2, "w": 3, "g": 4}
    groups: dict[str, list[dict[str, Any]]] = {}
    with open(DATA / "fix-keys.csv", newline="") as file:
        for row in csv.DictReader(file):
            item: dict[str, Any] = {"key": row["key"], "description": "of engine %e", "type": row["type"]}
            for name in ("min", "max", "initial"):
                if row[name] and row["type"] in ("float", "int"):
                    item[name] = float(row[name]) if row["type"] == "float" else int(row[name])
                elif row[name]:
                    item[name] = row[name] == "True" if row["type"] == "bool" else row[name]
            item |= {"units": row["units"], "tol": int(row["tol_ms"]), "aux": row["aux"].split()}
            groups.setdefault(row["group"], []).append(item)
    (tmp_path / "database").mkdir()
    for group, members in groups.items():
        (tmp_path / "database" / f"{group}.yaml").write_text(yaml.safe_dump({"items": members}, sort_keys=False))
    includes = [{"include": f"database/{group}.yaml"} for group in groups]
    read = Read(tmp_path, yaml.safe_dump({"variables": variables, "entries": includes}, sort_keys=False))
    assert read.problems == []
    assert {"EGT14", "TSBTN124", "IAS", "ZZLOADER"} <= set(read.keys)
    assert read["EGT13"].description == "of engine 1"
    assert read["AOA"].aux == ("Min", "Max", "0g", "Warn", "Stall")


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from(items.FIELDS), YAML_VALUES | st.sampled_from(["int", "str", "A", "Be"]))


@pytest.mark.slow
@given(st.lists(FIELDS | YAML_VALUES, max_size=4), YAML_VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_definition_makes_the_reader_raise(tmp_path: Path, entries: list[Any], variables: Any) -> None:
    text = yaml.safe_dump({"variables": variables, "entries": entries})
    read = Read(tmp_path, text)
    assert read.problems or read.items.complete


# -- initial values ----------------------------------------------------------------------------------------------------

ITEMS = """
variables: {c: 3}
entries:
  - {key: IAS, min: 0, max: 500, tol: 2000, aux: [Min, Vne]}
  - {key: BARO, min: 20, max: 35, setting: yes}
  - {key: ACID, type: str}
  - {key: BTNc, type: bool, setting: yes}
  - {key: CHTc, max: 900, aux: [Max]}
  - {key: COUNT, type: int}
"""


def test_initial_values_are_written_with_their_source(tmp_path: Path) -> None:
    read = Read(
        tmp_path,
        ITEMS,
        initial='# settings\n  # more\n\nBARO = 29.92  # today\nACID="N 1#2"\nBTN* = yes\nBTN2 = no\nCHT*.Max = 450\n'
        "IAS.Vne = 160\nIAS.Vne = 170\nIAS.Min = None\nIAS = 12\nCOUNT = 5 # five\nACID = D-EF#G # call sign\n",
    )
    assert read.problems == []
    assert ("IAS.Vne", "170") in read.initial
    database = read.database
    baro = database.read("BARO")
    assert (baro.value, baro.source, baro.flag_text) == (29.92, "initial", "00000")
    assert [database.read(f"BTN{n}").value for n in (1, 2, 3)] == [True, False, True]
    assert database.read("ACID").value == "D-EF#G"
    assert database.read("COUNT").value == 5
    assert [database.read_aux(f"CHT{n}.Max") for n in (1, 2, 3)] == [450.0] * 3
    assert (database.read_aux("IAS.Vne"), database.read_aux("IAS.Min")) == (170.0, None)


def test_initial_values_of_measurements_stay_old(tmp_path: Path) -> None:
    ias = Read(tmp_path, ITEMS, initial="IAS = 12\n").database.read("IAS")
    assert (ias.value, ias.flag_text, ias.reasons) == (12.0, "01000", ((8, "initial value"),))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a # b"  # c', "a # b"),
        ('"a"b" # c', '"a"b"'),
        ('"a # c', '"a'),
        ("a#b #c #d", "a#b"),
        ("# nothing", ""),
        ('""', ""),
    ],
)
def test_quotes_protect_comment_characters(tmp_path: Path, text: str, value: str) -> None:
    assert Read(tmp_path, ITEMS, initial=f"ACID = {text}\n").initial == [("ACID", value)]


@pytest.mark.parametrize("value", ["", "a # b", "N 1", "a#b", 'say "hi"'])
def test_a_line_that_we_write_is_read_back(tmp_path: Path, value: str) -> None:
    assert Read(tmp_path, ITEMS, initial=items.format_initial("ACID", value)).initial == [("ACID", value)]


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("BTN? = yes", ["BTN1", "BTN2", "BTN3"]),
        ("BTN[13] = yes", ["BTN1", "BTN3"]),
        ("B*1 = yes", ["BTN1"]),
        ("CHT?.Max = 1", ["CHT1.Max", "CHT2.Max", "CHT3.Max"]),
        ("*.Min = 1", ["IAS.Min"]),
        ("# BTN1 = yes", []),
        ("  #BTN1 = yes", []),
    ],
)
def test_a_pattern_stands_for_the_keys_that_it_matches(tmp_path: Path, line: str, keys: list[str]) -> None:
    read = Read(tmp_path, ITEMS, initial=line)
    assert read.problems == []
    assert [key for key, _ in read.initial] == keys


def test_an_aux_value_may_be_none(tmp_path: Path) -> None:
    read = Read(tmp_path, ITEMS, initial="IAS.Vne = 5\nIAS.Vne =\nIAS.Min = None\n")
    assert read.initial == [("IAS.Vne", ""), ("IAS.Min", "None")]
    assert (read.database.read_aux("IAS.Vne"), read.database.read_aux("IAS.Min")) == (None, None)


def test_a_wrong_line_does_not_hide_the_next(tmp_path: Path) -> None:
    read = Read(tmp_path, ITEMS, initial="= 5\nBARO\nBARO = x\nGONE = 1\nBA#RO = 5\nBARO = 30\n")
    assert [p.partition(" ")[0] for p in read.problems] == [
        f"values.ini:{place}:" for place in ("1:1", "2:1", "3:8", "4:1", "5:1")
    ]
    assert read.initial == [("BARO", "30")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("BAR = 29.92", "1:1: no item 'BAR' (did you mean 'BARO'?)"),
        ("  IAS.Vno = 5", "1:3: IAS has no aux value 'Vno' (did you mean 'Vne'?)"),
        ("IAS.Vne.x = 5", "1:1: IAS has no aux value 'Vne.x' (did you mean 'Vne'?)"),
        ("BARO 29.92", "1:1: expected KEY = value, or KEY.aux = value"),
        ("BARO", "1:1: expected KEY = value"),
        ("IAS Vne = 5", "1:1: expected KEY = value"),
        ("[section]", "1:1: expected KEY = value"),
        ("= 5", "1:1: this value has no key"),
        ("BARO = high", "1:8: BARO: 'high' is not a number"),
        ("BARO =", "1:7: BARO: '' is not a number"),
        ("BARO = nan", "1:8: BARO: 'nan' is not"),
        ("COUNT = 1.5", "1:9: COUNT: '1.5' is not a whole number"),
        ("IAS.Vne = fast", "1:11: IAS: 'fast' is not a number"),
        ("TSBTN* = no", "1:1: TSBTN* matches no item"),
        ("BTN*.Max = 1", "1:1: BTN*.Max matches no aux value"),
    ],
)
def test_a_wrong_line_is_reported_with_the_expectation_and_position(tmp_path: Path, line: str, expected: str) -> None:
    (found,) = Read(tmp_path, ITEMS, initial=line).problems
    assert found.startswith(f"values.ini:{expected}")


@pytest.mark.parametrize(
    ("line", "taken", "expected"),
    [
        ("BARO = 36", ("BARO", "35.0"), "1:8: advice: BARO: 36 is outside the range, 20.0 to 35.0; taken as 35.0"),
        ("IAS.Vne = -1", ("IAS.Vne", "0.0"), "1:11: advice: IAS.Vne: -1 is outside the range, 0.0 to 500.0; taken as"),
    ],
)
def test_values_beyond_the_range_are_clamped(tmp_path: Path, line: str, taken: tuple[str, str], expected: str) -> None:
    read = Read(tmp_path, ITEMS, initial=line)
    assert read.problems == []
    assert read.initial == [taken]
    (found,) = read.reader.advice
    assert str(found).endswith(expected) or expected in str(found)
    assert found.instead == taken[1]


@pytest.mark.parametrize("text", ["20", "35", "20.0"])
def test_a_value_at_the_end_of_the_range_is_taken_as_it_is(tmp_path: Path, text: str) -> None:
    read = Read(tmp_path, ITEMS, initial=f"BARO = {text}\n")
    assert (read.initial, read.reader.advice) == ([("BARO", text)], [])


@pytest.mark.parametrize(("text", "taken"), [("3.0", "3"), ("-2.", "-2"), ("7", "7"), ("5.00", "5")])
def test_a_whole_number_may_have_a_point(tmp_path: Path, text: str, taken: str) -> None:
    items = "entries:\n  - {key: COUNT, type: int, aux: [Max]}\n"
    read = Read(tmp_path, items, initial=f"COUNT = {text}\nCOUNT.Max = {text}\n")
    assert (read.problems, read.initial) == ([], [("COUNT", taken), ("COUNT.Max", taken)])


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("type: str, initial: 17", "initial", "17"),
        ("type: str, initial: 1.5", "initial", "1.5"),
        ("type: bool, initial: 'False'", "initial", False),
        ("type: bool, initial: T", "initial", True),
        ("tol: 2000.0", "tolerance", 2000),
    ],
)
def test_what_can_only_mean_one_thing_is_taken_as_that(tmp_path: Path, text: str, field: str, value: Any) -> None:
    read = Read(tmp_path, f"entries:\n  - {{key: A, {text}}}\n")
    assert read.problems == []
    found = getattr(read["A"], field)
    assert (found, type(found)) == (value, type(value))


def test_packaged_values_for_missing_items_are_ignored(tmp_path: Path) -> None:
    read = Read(tmp_path, ITEMS, initial="GONE = 1\nGONE* = 1\nIAS.Gone = 1\nBARO = 30\n", lenient=True)
    assert read.problems == []
    assert read.initial == [("BARO", "30")]


def test_a_fault_in_an_item_is_not_reported_again_for_its_initial_value(tmp_path: Path) -> None:
    read = Read(tmp_path, "entries:\n  - {key: ACID, type: txt}\n", initial="ACID = N1\nACID.x = 5\nACI* = 7\n")
    assert read.problems == ["d0.yaml:2:23: type: expected float, int, bool or str, got text 'txt'"]
    assert read.initial == []


@pytest.mark.slow
@given(st.text("ABIASCHT*[]?!.=# \"'\n-5", max_size=80))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_makes_the_reader_of_initial_values_raise(tmp_path: Path, text: str) -> None:
    read = Read(tmp_path, ITEMS, initial=text)
    assert all("=" in line or line.strip() == "" or line.strip()[0] == "#" for line in text.splitlines()) or (
        read.problems
    )


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("decimals: 0", "decimals: 9"),
        ("tol: 0", "tol: 1000000000"),
        ("return_after: 0", "return_after: 3600"),
        ("min: 5, initial: 5", "max: 5, initial: 5"),
        ("min: 5, max: 5", "type: int, min: 5, max: 5"),
        ("wrap: 0.1", "type: int, wrap: 360"),
        ("type: str, initial: ''", f"type: str, initial: {'x' * 1000}"),
    ],
)
def test_a_field_is_accepted_up_to_its_limits(tmp_path: Path, low: str, high: str) -> None:
    assert entry(tmp_path, f"key: A, {low}") == entry(tmp_path, f"key: A, {high}") == []


@pytest.mark.parametrize(
    "field",
    ["tol: 1000000001", "return_after: 3600.1", "return_after: -0.1", "wrap: 0", "wrap: x", "type: str, wrap: 1"],
)
def test_a_field_is_refused_beyond_its_limits(tmp_path: Path, field: str) -> None:
    (problem,) = entry(tmp_path, f"key: A, {field}")
    assert f"{field.split(',')[-1].partition(':')[0].strip()}: expected" in problem


def test_the_number_of_items_of_a_template_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "variables: {a: 10, b: 10}\nentries: [{key: Aab}]"
    monkeypatch.setattr(items, "MAX_ITEMS", 100)
    assert len(Read(tmp_path, text).keys) == 100
    monkeypatch.setattr(items, "MAX_ITEMS", 99)
    assert Read(tmp_path, text).problems == ["d0.yaml:2:17: Aab stands for more than 99 items"]


def test_the_number_of_items_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "variables: {a: 0, c: 99}\nentries: [{key: Ac}, {key: Ba}, {key: C}]"
    assert items.MAX_ITEMS == 10_000
    monkeypatch.setattr(items, "MAX_ITEMS", 100)
    assert len(Read(tmp_path, text).keys) == 100
    read = Read(tmp_path, text.replace("{key: C}", "{key: C}, {key: D}"))
    assert read.problems == ["d0.yaml:2:43: more than 100 items"]
    assert (read.keys, read.items.complete) == ([], False)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("decimals: 10", "decimals: expected a whole number, 0 to 9"),
        ("decimals: -1", "decimals: expected a whole number, 0 to 9"),
        ("decimals: 1.5", "decimals: expected a whole number, 0 to 9"),
        ("decimals: many", "decimals: expected a whole number, 0 to 9"),
        ("type: int, decimals: 0", "decimals: an item of type int has none"),
    ],
)
def test_wrong_decimals_are_reported(tmp_path: Path, field: str, words: str) -> None:
    (problem,) = entry(tmp_path, f"key: IAS, {field}")
    assert words in problem


def test_decimals_are_optional(tmp_path: Path) -> None:
    read = Read(tmp_path, "entries: [{key: IAS, decimals: 1}, {key: ALT, decimals: 0}, {key: VS}]")
    assert read.problems == []
    assert [read[key].decimals for key in ("IAS", "ALT", "VS")] == [1, 0, None]
