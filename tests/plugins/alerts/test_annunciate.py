"""The plugin `annunciate`: the cases in tests/data/annunciate.json, and what the page promises beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.database import BAD, FAIL
from fixgw.errors import ConfigurationError
from tests.plugins.alerts.conftest import Flight, letters

CASES = json.loads((Path(__file__).parents[2] / "data" / "annunciate.json").read_text())["cases"]
Fly = Callable[[dict[str, Any] | str], Flight]


def annunciate(**options: Any) -> dict[str, Any]:
    return {"annunciate": {"load": True, "module": "fixgw.plugins.annunciate", **options}}


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_case(case: dict[str, Any], fly: Fly) -> None:
    flight = fly(annunciate(**case["annunciate"]))
    for key, item in ((item.key, item) for item in flight.db.items()):
        for name in item.aux:
            item.write_aux(name, case.get("aux", {}).get(f"{key}.{name}"))
    for key, value in case.get("pre", {}).items():
        flight.write(key, value)
    flight.begin()
    for step in case["steps"]:
        flight.at(step.get("t", 0))
        for _ in range(step.get("repeat", 1)):
            for key, value in step.get("write", {}).items():
                flight.write(key, value)
        for name, value in step.get("aux", {}).items():
            flight.db.write(name, value)
        flight.step()
        for key, (value, flags) in step["expect"].items():
            reading = flight.db.read(key)
            assert reading.value == pytest.approx(value)
            assert letters(reading) == flags, step


def test_what_is_known_of_its_options_is_the_default(fly: Fly) -> None:
    flight = fly(annunciate(items=[{"key": "OILP1"}]))
    flight.begin()
    flight.write("OILP1", 24)
    flight.step()
    assert flight.db.read("OILP1").annunciate, "the packaged lowAlarm is 25"
    assert flight.db.item("OILP1").annunciators == {"annunciate": "beyond lowAlarm or highAlarm"}


@pytest.mark.parametrize("options", [{}, {"defaults": {}}, {"items": []}])
def test_nothing_to_annunciate_is_no_trouble(fly: Fly, options: dict[str, Any]) -> None:
    flight = fly(annunciate(**options))
    flight.begin()
    assert flight.plugins["annunciate"].get_status()["items"] == 0


def test_an_item_with_a_problem_is_left_out_and_the_rest_flies(fly: Fly) -> None:
    flight = fly(
        """
        connections:
          annunciate:
            load: yes
            module: fixgw.plugins.annunciate
            defaults: {cond_bypass: TACHO < 500}
            items:
              - {key: OILPP1, cond_bypass: None}
              - {key: OILT1, cond_bypass: TACH1 < slow}
              - {key: CHT11, cond_bypass: TACH1}
              - {key: CHT12}
              - {key: CHT14}
              - {key: CHT13, cond_bypass: None, deadband: ten%}
              - {key: ACID, cond_bypass: None}
              - {key: OILP1, cond_bypass: null}
        """
    )
    advice = [f"{a.line}:{a.column} {a.message}" for a in flight.configuration.advice]
    assert advice == [
        "6:29 defaults.cond_bypass: the database has no item 'TACHO' (did you mean 'TACH1'?); left out",
        "8:15 items[0].key: the database has no item 'OILPP1' (did you mean 'OILP1'?); left out",
        "9:35 items[1].cond_bypass: TACH1: 'slow' is not a whole number; left out",
        "10:35 items[2].cond_bypass: 'TACH1' is not `KEY OP VALUE` with one of < <= = == != > >=; left out",
        "13:51 items[5].deadband: 'ten%' is neither a number nor a share of the range such as 1%; left out",
        "14:15 items[6].key: ACID is not a number; left out",
    ]
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    assert flight.db.read("OILP1").annunciate
    plugin = flight.plugins["annunciate"]
    status = plugin.get_status()
    assert (status["items"], status["annunciated"], len(status["left out"])) == (1, ["OILP1"], 7)


def test_a_misspelt_limit_is_pointed_out(fly: Fly) -> None:
    """It would be no limit, and the item never annunciated."""
    items = [{"key": "OILP1", "low_aux_point": "lowAlrm"}, {"key": "CHT11"}, {"key": "CHT12"}]
    advice = fly(annunciate(items=items, defaults={"high_aux_point": "highAlrm"})).configuration.advice
    assert [a.message for a in advice] == [
        "defaults.high_aux_point: OILP1 has no aux value 'highAlrm' (did you mean 'highAlarm'?): "
        "there is no limit on this side",
        "items[0].low_aux_point: OILP1 has no aux value 'lowAlrm' (did you mean 'lowAlarm'?): "
        "there is no limit on this side",
    ]


def test_a_misspelt_option_is_a_problem(fly: Fly) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option 'deadbnd' \(did you mean 'deadband'\?\)"):
        fly(annunciate(items=[{"key": "OILP1", "deadbnd": 3}]))


def test_the_condition_is_not_known(fly: Fly) -> None:
    flight = fly(annunciate(items=[{"key": "OILT1", "cond_bypass": "TACH1 < 500"}]))
    flight.begin()
    flight.write("OILT1", 130)
    flight.step()
    assert flight.db.read("OILT1").annunciate, "a tachometer that was never written does not bypass"
    flight.write("TACH1", 0)
    flight.step()
    assert not flight.db.read("OILT1").annunciate
    flight.at(1.5)
    flight.write("OILT1", 130)
    flight.at(2.5)
    assert flight.db.read("TACH1").old
    assert flight.db.read("OILT1").annunciate, "nor does one that has fallen silent"


def test_an_old_value_stays_as_it_was(fly: Fly) -> None:
    flight = fly(annunciate(items=[{"key": "OILP1", "cond_bypass": "None"}]))
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    flight.at(3)
    reading = flight.db.read("OILP1")
    assert (reading.old, reading.annunciate) == (True, True)
    flight.write("OILP1", 60)
    flight.step()
    assert letters(flight.db.read("OILP1")) == ""


def test_the_node_s_own_flag_and_ours_are_apart(fly: Fly) -> None:
    flight = fly(annunciate(items=[{"key": "OILP1"}]))
    flight.begin()
    flight.write("OILP1", [60, "a"])
    flight.step()
    assert letters(flight.db.read("OILP1")) == "a"
    flight.write("OILP1", [10, "b"])
    assert letters(flight.db.read("OILP1")) == "b", "until it is judged"
    flight.step()
    assert letters(flight.db.read("OILP1")) == "ab"
    flight.db.item("OILP1").write(11, "node", FAIL, mask=BAD | FAIL)
    assert letters(flight.db.read("OILP1")) == "af"


def test_two_sections_share_the_flag(fly: Fly) -> None:
    flight = fly(
        {
            "engine": {"load": True, "module": "fixgw.plugins.annunciate", "items": [{"key": "OILP1"}]},
            "low": {
                "load": True,
                "module": "fixgw.plugins.annunciate",
                "items": [{"key": "OILP1", "low_aux_point": "lowWarn"}],
            },
        }
    )
    flight.begin()
    for value, owners in ((40, {"low"}), (10, {"low", "engine"}), (40, {"low"}), (90, set())):
        flight.write("OILP1", value)
        flight.step()
        assert flight.db.item("OILP1").annunciators.keys() == owners, value


def test_a_jump_over_the_good_range_hands_over_from_one_side_to_the_other(fly: Fly) -> None:
    flight = fly(annunciate(items=[{"key": "OILP1", "deadband": 10}]))
    flight.begin()
    for value, announced in ((10, True), (95, False), (101, True), (95, True), (34, False), (20, True)):
        flight.write("OILP1", value)
        flight.step()
        assert flight.db.read("OILP1").annunciate is announced, value


def test_the_stock_section_flies(tmp_path: Path) -> None:
    stock = Path(__file__).parents[2] / "data" / "incumbent" / "connections" / "later.yaml"
    text = stock.read_text().partition("system:")[0].partition("annunciate:")[2].replace("ANNUNCIATE", "yes")
    (tmp_path / "default.yaml").write_text(f"connections:\n annunciate:{text}")
    assert [c.name for c in configuration.load(tmp_path / "default.yaml").connections] == ["annunciate"]
