"""The packaged configuration: complete, sensible, and suitable for displays."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.configuration import Configuration
from fixgw.configuration.tree import copy_tree
from fixgw.database import Database, Definition

pytestmark = pytest.mark.slow

# The keys that pyEfis requires to start.
PYEFIS = (Path(__file__).parents[1] / "data" / "pyefis-keys.txt").read_text().split()
SPEEDS = ("Vs", "Vs0", "Vno", "Vne", "Vfe")
# The smallest aircraft: one engine with four cylinders, three tanks. The displays of existing installations read forty
# buttons and four radios; pyEfis does not start without TSBTN127.
FEWEST = {"e": 1, "c": 4, "a": 1, "b": 3, "r": 3, "t": 3, "n": 5, "s": 40, "d": 4, "w": 3, "g": 4}
# Deliberately shorter than in the table, in milliseconds: at 150 kt, 20 s are 0.8 nautical miles.
SHORTER_MS = {"LAT": 3000, "LONG": 3000, "WPLAT": 10000, "WPLON": 10000, "WPNAME": 10000, "WPHEAD": 10000}
UNITS = {
    "A", "MHz", "Mach", "Pa", "V", "W", "deg", "deg/s", "degC", "degC/min", "fraction", "ft", "ft/min", "g", "gal",
    "gal/hr", "h", "inHg", "kHz", "knots", "level", "min", "nmi", "psi", "pulses", "ratio", "rpm", "s", "satellites",
    "votes", "alerts", "sounds", "%",
}  # fmt: skip


@pytest.fixture(scope="module")
def packaged() -> Configuration:
    return configuration.load(configuration.packaged() / "default.yaml")


@pytest.fixture(scope="module")
def database(packaged: Configuration) -> Database:
    return packaged.make_database()


def key_table() -> list[dict[str, str]]:
    with (Path(__file__).parents[1] / "data" / "fix-keys.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def expanded(template: str) -> list[str]:
    base = template.rstrip("abcdefghijklmnopqrstuvwxyz")
    counts = (range(1, FEWEST[letter] + 1) for letter in template[len(base) :])
    return [base + "".join(map(str, numbers)) for numbers in itertools.product(*counts)]


def test_every_key_of_the_table_exists_with_its_type_and_aux_values(database: Database) -> None:
    for row in key_table():
        for key in expanded(row["key"]):
            definition = database.item(key).definition
            assert definition.type == row["type"], key
            assert definition.tolerance == SHORTER_MS.get(row["key"], int(row["tol_ms"])), key
            assert set(definition.aux) == set(row["aux"].split()), key


def test_the_keys_come_in_the_order_of_the_table(database: Database) -> None:
    wanted = [key for row in key_table() for key in expanded(row["key"])]
    places = {key: place for place, key in enumerate(database.keys())}
    assert wanted == sorted(wanted, key=places.__getitem__)


def test_no_range_is_narrower_than_the_table_without_a_reason(database: Database) -> None:
    for row in key_table():
        for key in expanded(row["key"]):
            definition = database.item(key).definition
            if row["min"]:
                assert definition.min is not None
                assert definition.min <= float(row["min"]) or key == "BARO", key
            if row["max"]:
                assert definition.max is not None
                assert definition.max >= float(row["max"]), key


@pytest.mark.parametrize("key", PYEFIS)
def test_pyefis_finds_its_keys(database: Database, key: str) -> None:
    assert key in database


@pytest.mark.parametrize("speed", SPEEDS)
def test_pyefis_finds_the_speed(database: Database, speed: str) -> None:
    assert database.read_aux(f"IAS.{speed}") is not None


def test_zzloader_is_last_and_good_from_the_start(database: Database) -> None:
    assert database.keys()[-1] == "ZZLOADER"
    assert database.item("ZZLOADER").definition.initial == "Loaded"


def test_every_item_has_a_description(packaged: Configuration) -> None:
    descriptions: dict[str, str] = {}
    for definition in packaged.definitions:
        assert len(definition.description) > 10, definition.key
        assert "%" not in definition.description, definition.key
        assert definition.description not in descriptions, (definition.key, descriptions[definition.description])
        descriptions[definition.description] = definition.key


def test_every_float_has_decimals(packaged: Configuration) -> None:
    assert [d.key for d in packaged.definitions if (d.type == "float") != (d.decimals is not None)] == []
    shown = {d.key: d.decimals for d in packaged.definitions}
    assert (shown["EGT11"], shown["LAT"], shown["BARO"], shown["ALT"], shown["COMACTFREQ1"]) == (0, 6, 2, 0, 3)


def test_every_number_has_a_range_and_units(packaged: Configuration) -> None:
    for definition in packaged.definitions:
        if definition.type in ("float", "int"):
            assert definition.min is not None, definition.key
            assert definition.max is not None, definition.key
            assert definition.min < definition.max, definition.key
            assert definition.units in UNITS, definition.key
        else:
            assert definition.units == "", definition.key


def test_known_defects_of_older_definitions_are_absent(database: Database) -> None:
    assert "bearing" not in database.item("TRACK").description.lower()
    assert "true airspeed" not in database.item("CAS").description.lower()
    for key in ("HEAD", "TRACK", "TRACKM", "COURSE"):
        assert database.item(key).max == 360.0
    assert database.item("DIFFAIRPRESS").reading.value == 0.0
    assert database.item("TSBTN112").description == "Touch-screen button 12 of display node 1"


@pytest.mark.parametrize("key", ["OILT1", "CHT11", "EGT11", "H2OT1", "DALT", "CURRNT"])
def test_frost_is_within_the_temperature_ranges(packaged: Configuration, key: str) -> None:
    assert packaged.make_database().item(key).write(-15.0, "test").good


def test_settings_and_measurements_are_told_apart(packaged: Configuration) -> None:
    settings = {d.key for d in packaged.definitions if d.setting}
    for key in ("BARO", "COURSE", "TRIMP", "ENC1", "BTN1", "TSBTN11", "EGTBTN1", "DIM", "ACID", "HIDEBUTTON", "TZONE"):
        assert key in settings, key
    for key in ("IAS", "ALT", "OILP1", "LAT", "CDI", "TIMEZ", "LEADER", "COMACTFREQ1", "GATEWAY_VERSION", "CTLPTCH"):
        assert key not in settings, key
    assert all(key in settings for key in database_keys(packaged, r"(TS|EGT)?BTN\d+|ENC\d+|MAVREQ\w+|TRIM\w"))


def database_keys(packaged: Configuration, pattern: str) -> list[str]:
    keys = [d.key for d in packaged.definitions if re.fullmatch(pattern, d.key)]
    assert keys
    return keys


def test_only_measurements_age(packaged: Configuration) -> None:
    def ages(definition: Definition) -> bool:
        return definition.tolerance > 0

    assert {d.key for d in packaged.definitions if d.setting and ages(d)} == {
        "COURSE",
        "FUELREM",
        "FUELUSED",
        "PITCHSET",
    }


def test_settings_are_good_from_the_start(database: Database) -> None:
    assert database.read("BARO").value == 29.92
    for key in ("BARO", "DIM", "HIDEBUTTON", "TSBTN112", "EGTBTN4", "BTN3", "ENC3", "TRIMP", "MAVREQAUTO"):
        reading = database.read(key)
        assert reading.good, key
        assert reading.source == "initial"


def test_measurements_are_old_until_they_are_written(database: Database) -> None:
    for key in ("IAS", "ALT", "LAT", "OILT1", "FUELQT"):
        assert database.read(key).old, key


def test_limits_are_in_ascending_order(database: Database) -> None:
    order = ("Min", "lowAlarm", "lowWarn", "highWarn", "highAlarm", "Max")
    for item in database.items():
        limits = [item.aux[name] for name in order[1:5] if item.aux.get(name) is not None]
        assert limits == sorted(limits), item.key  # type: ignore[type-var]
        low, high = item.aux.get("Min"), item.aux.get("Max")
        if low is not None and high is not None:
            assert low < high, item.key  # type: ignore[operator]
    speeds = [float(database.read_aux(f"IAS.{v}") or 0) for v in ("Vs0", "Vs", "Vx", "Vy", "Vfe", "Va", "Vno", "Vne")]
    assert speeds == sorted(speeds)
    assert 0 not in speeds


def test_every_gauge_of_pyefis_has_a_range(database: Database) -> None:
    for key in PYEFIS:
        item = database.item(key)
        if "Max" in item.aux:
            assert item.aux["Min"] is not None, key
            assert item.aux["Max"] is not None, key


NOT_LOADED = {"alerts", "compare", "gps", "canfix", "quorum", "recorder", "demo"}


def test_a_fresh_installation_serves_only_this_computer(packaged: Configuration) -> None:
    assert [c.name for c in packaged.connections] == ["netfix", "compute", "system"]
    assert packaged.connections[0].options["host"] == "127.0.0.1"
    assert packaged.connections[0].options["port"] == 3490
    assert set(packaged.unloaded) == NOT_LOADED


def test_the_examples_would_run_if_they_were_loaded(tmp_path: Path) -> None:
    for path, _ in copy_tree(tmp_path):
        if path.name == "default.yaml":
            text = path.read_text()
            assert text.count("load: no\n") == len(NOT_LOADED)
            path.write_text(text.replace("load: no\n", "load: yes\n"))
    loaded = configuration.load(tmp_path / "default.yaml")
    assert {c.name for c in loaded.connections} == {"netfix", "system", "compute"} | NOT_LOADED


@pytest.mark.parametrize("name", ["demo.yaml", "demo-everything.yaml"])
def test_the_configuration_of_the_demo_is_right(name: str) -> None:
    loaded = configuration.load(
        configuration.packaged() / name, {"SIM": "/nowhere", "GPS": "sim/gps", "HOST": "127.0.0.2"}
    )
    assert [c.name for c in loaded.connections][:7] == ["can", "gps", "eis", "panel", "demo", "compute", "alerts"]
    silent = ("netfix", "web", "autopilot", "tablets", "raw", "bridge")  # they do not write to the database
    assert all(c.source.startswith("sim/") for c in loaded.connections if c.name not in silent)
    assert len(loaded.definitions) == len(configuration.load(configuration.packaged() / "default.yaml").definitions)
