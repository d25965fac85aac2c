"""The CAN-FIX map: the file, its problems and their places, and the default map."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import msgspec
import pytest

from fixgw import configuration
from fixgw.database import Database, Definition
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix.mapping import Map
from fixgw.drivers.canfix.table import Table, load
from fixgw.errors import ConfigurationError, Problem
from fixgw.hw_sim.bench.base import packaged_database

TABLE = load()


@pytest.fixture(scope="module")
def database() -> Database:
    """Every item of the packaged definition."""
    return packaged_database()


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "map.yaml"


def read(path: Path, text: str, database: Database, table: Table = TABLE) -> tuple[Map, list[Problem]]:
    path.write_text(textwrap.dedent(text))
    return mapping.read(path, table, database)


def good(path: Path, text: str, database: Database, table: Table = TABLE) -> Map:
    found, problems = read(path, text, database, table)
    assert not problems, "\n".join(map(str, problems))
    return found


def wrong(path: Path, text: str, database: Database, table: Table = TABLE) -> list[str]:
    """The problems as "line:column: message"."""
    _, problems = read(path, text, database, table)
    assert all(problem.file == str(path) for problem in problems)
    return [f"{p.line}:{p.column}: {p.message}" for p in problems]


def test_a_typical_map_has_no_problems(write: Path, database: Database) -> None:
    found = good(
        write,
        """\
        ignore_fixid_missing: True
        meta replacements:
          Low Warn: lowWarn
          Low Alarm: lowAlarm
          High Warn: highWarn
          High Alarm: highAlarm
        inputs:
          - {canid: 0x180, index: 0, fixid: PITCH, priority: 1}
          - canid: 0x190
            index: 0
            fixid: BARO
            nodespecific: True
          - {canid: 0x500, index: 3, fixid: CHT14}
        outputs:
          - {fixid: BARO, canid: 0x190, index: 0, owner: True, on_change: True}
          - {fixid: "BTN1,BTN2", canid: 0x309, index: 1, owner: True, on_change: False, require_leader: True}
        encoders:
          - {canid: 0x300, index: 0, fixid: "ENC1,ENC2,BTN17,BTN18", sum: True}
          - {canid: 0x301, index: 0, fixid: "ENC3,BTN19"}
        switches:
          - {canid: 0x308, index: 0, fixid: "BTN1,BTN2,BTN3", toggle: "BTN2,BTN3"}
        """,
        database,
    )
    assert found.inputs[1].nodespecific
    assert found.outputs[0].owner
    assert found.outputs[0].on_change
    assert found.encoders[0].keys == ("ENC1", "ENC2", "BTN17", "BTN18")
    assert found.aux_name("low warn") == "lowWarn"


def test_a_parameter_can_be_named_and_keys_can_be_a_list(write: Path, database: Database) -> None:
    found = good(
        write,
        """\
        inputs:
          - {canid: indicated airspeed, fixid: IAS}
          - {canid: "0x184", fixid: [ALT]}
        """,
        database,
    )
    assert [entry.parameter(TABLE).identifier for entry in found.inputs] == [0x183, 0x184]
    assert found.inputs[1].keys == ("ALT",)


def test_an_empty_file_and_empty_sections_map_nothing(write: Path, database: Database) -> None:
    assert good(write, "inputs:\noutputs: []\n", database).inputs == []
    assert good(write, "# nothing\n", database).inputs == []


def test_every_problem_is_reported_at_its_place(write: Path, database: Database) -> None:
    assert wrong(
        write,
        """\
        inputs:
          - {canid: 0x183, fixid: IASS}
          - {canid: 0x600, fixid: ALT}
          - {canid: Indicated Airspede, fixid: IAS}
          - {canid: 0x1D7, fixid: IAS}
          - {canid: 0x183, fixid: IAS, index: 300}
          - {canid: 0x183, fixid: IAS, prioritty: 1}
          - {canid: 0x587, fixid: ALT}
          - {canid: 0x183, fixid: ACID}
          - {canid: 0x580, fixid: [TIMEZ, TIMEZH, TIMEZM, TIMEZS, ALT, IAS]}
          - {canid: 0x308, fixid: "BTN1,BTN2"}
          - {canid: 0x183, fixid: "IAS,TAS"}
          - {canid: 0x183, fixid: IAS, invert: yes}
          - {canid: 0x183, fixid: IAS, scale: 0}
        """,
        database,
    ) == [
        "2:27: inputs[0]: fixid: no item 'IASS' (did you mean 'IAS'?)",
        "3:13: inputs[1]: canid: no CAN-FIX parameter '0x600'",
        "4:13: inputs[2]: canid: no CAN-FIX parameter 'Indicated Airspede' (did you mean 'Indicated Airspeed'?)",
        "5:13: inputs[3]: canid: ADS-B ES Status has no type in the table, so it cannot be decoded",
        "6:39: inputs[4].index: expected whole number, 0 to 255, got the number 300",
        "7:32: inputs[5]: unknown option 'prioritty' (did you mean 'priority'?)",
        "8:27: inputs[6]: fixid: Aircraft Identifier is text, but ALT has the type float",
        "9:27: inputs[7]: fixid: Indicated Airspeed is a number, but ACID has the type str",
        "10:27: inputs[8]: fixid: Time has 4 numbers (USHORT[3],UINT)",
        "11:27: inputs[9]: fixid: Generic Switches #1 is a set of switches: it belongs under switches",
        "12:27: inputs[10]: fixid: Indicated Airspeed is a single value: expected one key",
        "13:40: inputs[11]: invert: IAS is not True or False; for numbers use scale: -1",
        "14:5: inputs[12]: the same as in line 13",
        "14:39: inputs[12]: scale: expected a magnitude from 1e-9 to 1e9",
    ]


def test_switches_and_encoders_are_checked(write: Path, database: Database) -> None:
    buttons = ",".join(f"BTN{n}" for n in range(1, 10))
    assert wrong(
        write,
        f"""\
        switches:
          - {{canid: 0x300, fixid: "BTN1"}}
          - {{canid: 0x100, fixid: "{buttons}"}}
          - {{canid: 0x308, fixid: "BTN1,IAS", toggle: BTN2}}
        encoders:
          - {{canid: 0x308, fixid: ENC1}}
          - {{canid: 0x300, fixid: "BTN1,ENC1"}}
          - {{canid: 0x301, fixid: "ENC1,ENC1"}}
        """,
        database,
    ) == [
        "2:13: switches[0]: canid: Encoder Input #1 is not a set of switches",
        "3:27: switches[1]: fixid: 9 keys, but Flap Control Switches #1 has 8 switches",
        "4:27: switches[2]: fixid: IAS is not True or False",
        "4:47: switches[2]: toggle: 'BTN2' is not among the keys of fixid (did you mean 'BTN1'?)",
        "6:13: encoders[0]: canid: Generic Switches #1 is not an encoder (0x300..0x307, 0x11A, 0x11B)",
        "7:27: encoders[1]: fixid: expected one or two encoders (numbers), then up to eight buttons (True or False)",
        "8:27: encoders[2]: fixid: ENC1 appears twice",
    ]


def test_outputs_are_checked(write: Path, database: Database) -> None:
    assert wrong(
        write,
        """\
        outputs:
          - {fixid: TIMEZH, canid: 0x580}
          - {fixid: TIMEZ, canid: 0x580}
          - {fixid: "IAS,BTN1", canid: 0x308}
          - {fixid: IAS, canid: 0x183, rate_limit: 5}
        """,
        database,
    ) == [
        "2:13: outputs[0]: fixid: Time (USHORT[3],UINT) can be sent from one text key only, like TIMEZ",
        "3:5: outputs[1]: the same as in line 2",
        "4:13: outputs[2]: fixid: IAS is not True or False",
    ]


def test_unknown_keys_can_be_ignored(write: Path, database: Database) -> None:
    text = """\
        ignore_fixid_missing: yes
        meta replacements: {Low Warn: sometimes}
        inputs:
          - {canid: 0x183, fixid: NOSUCH}
        """
    assert good(write, text, database).inputs
    assert wrong(write, text.replace("yes", "no"), database) == [
        "2:31: no item has an aux value 'sometimes'",
        "4:27: inputs[0]: fixid: no item 'NOSUCH'",
    ]


def test_unknown_meta_data_and_aux_names_are_reported(write: Path, database: Database) -> None:
    assert wrong(write, "meta replacements: {Low Wran: lowWarn, Vne: Vnee}", database) == [
        "1:21: no parameter has meta data 'Low Wran' (did you mean 'Low Warn'?)",
        "1:45: no item has an aux value 'Vnee' (did you mean 'Vne'?)",
    ]


def advice(path: Path, text: str, database: Database, table: Table = TABLE) -> list[str]:
    path.write_text(textwrap.dedent(text))
    return [f"{a.line}:{a.column}: {a.message}" for a in mapping.advice(path, table, database)]


def test_an_identifier_of_the_other_revision_is_translated_to_this_one(write: Path, database: Database) -> None:
    text = "inputs:\n  - {canid: 0x545, fixid: FTIME}\n"
    assert advice(write, text, database) == [
        "2:13: inputs[0]: 0x545 is Strut Pressure #4 in the table of 2024: FTIME is read as 0x546; for the table of "
        "2023 say `table: 2023`",
    ]
    (entry,) = good(write, text, database).inputs
    assert entry.parameter(TABLE).identifier == 0x546
    (entry,) = good(write, text, database, load(2023)).inputs
    assert entry.parameter(load(2023)).identifier == 0x545
    assert advice(write, text, database, load(2023)) == []
    assert wrong(write, text.replace("0x545", "0x547"), database) == [
        "2:13: inputs[0]: canid: no CAN-FIX parameter '0x547'; it is Strut Pressure #4 in the table of 2023 "
        "(option `table`)",
    ]


def test_fields_that_do_not_apply_in_a_section_are_left_out_with_advice(write: Path, database: Database) -> None:
    text = """\
        inputs:
          - {canid: 0x183, fixid: IAS, owner: False}
        switches:
          - {canid: 0x308, fixid: "BTN3,BTN4", owner: yes, toggle: BTN4}
        outputs:
          - {canid: 0x190, fixid: BARO, owner: no, priority: 3}
    """
    assert advice(write, text, database) == [
        "2:32: inputs[0]: owner has no effect in inputs",
        "4:40: switches[0]: owner has no effect in switches",
        "6:44: outputs[0]: priority has no effect in outputs",
    ]
    assert good(write, text, database).switches[0].toggle == "BTN4"


@pytest.mark.parametrize(("written", "read"), [("on_change:False", False), ("on_change:yes", True)])
def test_a_missing_blank_after_a_colon_is_tolerated_with_advice(
    write: Path, database: Database, written: str, read: bool
) -> None:
    text = f"outputs:\n  - {{canid: 0x190, fixid: BARO, {written}}}\n"
    (found,) = advice(write, text, database)
    assert found.startswith(f"2:33: outputs[0]: a blank is missing: read as `on_change: {written[10:]}`")
    assert good(write, text, database).outputs[0].on_change is read


def test_a_duplicate_entry_is_used_once(write: Path, database: Database) -> None:
    text = """\
        inputs:
          - {canid: 0x183, fixid: IAS}
          - {canid: Indicated Airspeed, index: 0, fixid: [IAS]}
        outputs:
          - {canid: 0x190, fixid: BARO}
          - {canid: 0x190, fixid: BARO, on_change: yes}
    """
    assert advice(write, text, database) == [
        "3:5: inputs[1]: the same as in line 2, and not used",
        "6:5: outputs[1]: the same as in line 5, and not used",
    ]
    found = good(write, text, database)
    assert (len(found.inputs), len(found.outputs), found.outputs[0].on_change) == (1, 1, False)
    assert wrong(write, text.replace("fixid: [IAS]", "fixid: [IAS], scale: 2"), database) == [
        "3:5: inputs[1]: the same as in line 2"
    ]


def test_invalid_yaml_and_a_missing_file_are_problems(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "map.yaml"
    assert wrong(path, "inputs: [", database)[0].startswith("2:1: not YAML")
    assert wrong(path, "- a list\n", database) == [
        "1:1: expected a mapping with inputs: or outputs:, got a list of 1",
    ]
    assert "cannot be read" in str(mapping.read(tmp_path / "none.yaml", TABLE, database)[1][0])


def test_a_map_can_include_files_of_the_configuration(tmp_path: Path, database: Database) -> None:
    (tmp_path / "preferences.yaml").write_text("includes: {ENGINE: canfix/engine.yaml}\n")
    (tmp_path / "canfix").mkdir()
    (tmp_path / "canfix" / "engine.yaml").write_text("items:\n  - {canid: 0x220, fixid: OILP1}\n")
    found = good(
        tmp_path / "canfix" / "map.yaml", "inputs:\n  - {canid: 0x183, fixid: IAS}\n  - include: ENGINE\n", database
    )
    assert [entry.keys for entry in found.inputs] == [("IAS",), ("OILP1",)]


# -- priority ----------------------------------------------------------------------------------------------------------


def test_priority_ranks_nodes(write: Path, database: Database) -> None:
    found = good(write, "inputs:\n  - {canid: 0x183, fixid: IAS, priority: [12, 13]}\n", database)
    assert mapping.rank_sources(found, TABLE) == {"IAS": ["12", "13"]}


def test_a_number_as_priority_ranks_parameters_that_feed_one_key(write: Path, database: Database) -> None:
    found = good(
        write,
        """\
        inputs:
          - {canid: 0x40A, fixid: TALT, priority: 2}
          - {canid: 0x409, fixid: TALT, priority: 1}
          - {canid: 0x183, fixid: IAS, priority: 1}
        """,
        database,
    )
    assert mapping.rank_sources(found, TABLE) == {"TALT": ["0x409", "0x40A"]}


def test_contradicting_priorities_are_reported(write: Path) -> None:
    ranked = Database([Definition(key="IAS", sources=("a", "b")), Definition(key="TALT")])
    assert wrong(
        write,
        """\
        inputs:
          - {canid: 0x183, fixid: IAS, priority: [12, 12]}
          - {canid: 0x409, fixid: TALT, priority: [12]}
          - {canid: 0x40A, fixid: TALT, priority: 1}
        """,
        ranked,
    ) == [
        "2:42: inputs[0]: priority: the same node appears twice",
        "2:42: inputs[0]: priority: IAS: the database definition already ranks its sources; rank the nodes there",
        "4:43: inputs[2]: priority: TALT: a list of nodes in one entry, a number in another",
    ]


# -- the default -------------------------------------------------------------------------------------------------------


def default_keys(database: Database, revision: int = 2024) -> dict[str, tuple[int, int]]:
    found = msgspec.convert(mapping.build_default(load(revision), database), Map)
    entries: list[mapping.Entry] = [*found.inputs, *found.encoders, *found.switches]
    return {key: (int(entry.canid), entry.index) for entry in entries for key in entry.keys}


def test_the_default_map_has_every_key_of_the_table(database: Database) -> None:
    keys = default_keys(database)
    named = {
        mapping.NAMES.get(fix_id, fix_id) + (str(parameter.number or ""))
        for parameter in TABLE
        for fix_id in parameter.fix_ids
    }
    assert {key for key in named if key in database} <= set(keys)
    assert keys["IAS"] == (0x183, 0)
    assert keys["CHT16"] == (0x500, 5)
    assert keys["FUELQ4"] == (0x229, 0)
    assert keys["VOLT"] == (0x50E, 0)
    assert keys["COMSTDFREQ2"] == (0x4C1, 1)
    assert keys["ENC16"] == (0x307, 0)
    assert keys["BTN40"] == (0x308, 0)
    assert keys["TIMEZS"] == (0x580, 0)


def test_the_default_map_follows_the_revision_of_the_table(database: Database) -> None:
    assert default_keys(database)["FTIME"] == (0x546, 0)
    assert default_keys(database, 2023)["FTIME"] == (0x545, 0)
    assert default_keys(database)["TIREP1"] == (0x53E, 0)
    assert default_keys(database, 2023)["TIREP1"] == (0x540, 0)


@pytest.mark.parametrize("revision", [2023, 2024])
def test_the_default_map_as_text_has_no_problems(write: Path, database: Database, revision: int) -> None:
    table = load(revision)
    found = good(write, mapping.format_default(table, database), database, table)
    assert found == msgspec.convert(mapping.build_default(table, database), Map)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canid", "key", "expected"),
    [
        (0x183, "IAS", (1.0, 0.0, False)),
        (0x185, "HEAD", (1.0, 0.0, False)),
        (0x124, "CTLPTCH", (0.01, 0.0, False)),
        (0x1C0, "CDI", (0.1, 0.0, True)),
        (0x1C1, "GSI", (1 / 0.7, 0.0, False)),
        (0x404, "AIRPRESS", (3386.389, 0.0, False)),
    ],
)
def test_units_that_differ_are_converted(
    database: Database, canid: int, key: str, expected: tuple[float, float, bool]
) -> None:
    entry = mapping.Input(canid=canid, fixid=key)
    assert mapping.conversion(entry, TABLE[canid], database.item(key)) == expected


def test_scale_and_wrap_in_the_map_override_the_defaults(database: Database) -> None:
    entry = mapping.Input(canid=0x1C0, fixid="CDI", scale=0.4, offset=0.1, wrap=False)
    assert mapping.conversion(entry, TABLE[0x1C0], database.item("CDI")) == (0.4, 0.1, False)


# -- as part of the configuration --------------------------------------------------------------------------------------


def configured(directory: Path, text: str) -> configuration.Configuration:
    (directory / "default.yaml").write_text(
        textwrap.dedent("""\
        connections:
          can:
            module: fixgw.drivers.canfix
            interface: virtual
            mapfile: canfix/map.yaml
        """)
    )
    (directory / "canfix").mkdir(exist_ok=True)
    (directory / "canfix" / "map.yaml").write_text(text)
    return configuration.load(directory / "default.yaml")


def test_a_changed_map_changes_the_connection_but_a_changed_comment_does_not(tmp_path: Path) -> None:
    text = "inputs:\n  - {canid: 0x183, fixid: IAS}\n"
    before = configured(tmp_path, text)
    assert str(tmp_path / "canfix" / "map.yaml") in before.files
    assert configured(tmp_path, f"# airspeed\n{text}").connections == before.connections
    assert configured(tmp_path, text.replace("IAS", "TAS")).connections != before.connections


def test_problems_in_the_map_are_problems_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured(tmp_path, "inputs:\n  - {canid: 0x183, fixid: IASS}\n")
    assert [(problem.file, problem.line) for problem in refused.value.problems] == [
        (str(tmp_path / "canfix" / "map.yaml"), 2)
    ]


def test_the_map_in_the_documentation_has_no_problems(write: Path, database: Database) -> None:
    page = (Path(__file__).parents[2] / "docs" / "drivers" / "canfix.md").read_text()
    (text,) = re.findall(r"^```yaml\n(ignore_fixid_missing:.*?)^```", page, re.MULTILINE | re.DOTALL)
    found = good(write, text, database)
    assert {entry.keys[0] for entry in found.outputs} == {"BARO", "DIM", "BTN11"}
