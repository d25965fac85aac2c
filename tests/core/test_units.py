"""Units are fixed: drivers write in those of the packaged definition, whatever a definition says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.errors import ConfigurationError
from fixgw.kit.units import SYNONYMS, known_unit


def problems(directory: Path, text: str, definition: str = "") -> list[str]:
    (directory / "gateway.yaml").write_text(f"connections: {{}}\n{text}")
    if definition:
        (directory / "database.yaml").write_text(definition)
    try:
        configuration.load(directory / "gateway.yaml")
    except ConfigurationError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("key", "units"),
    [
        ("OAT", "degF"),
        ("OAT", "F"),
        ("OAT", "Kelvins"),
        ("IAS", "mph"),
        ("ALT", "m"),
        ("EGT11", "degF"),
        ("IAS", "whit"),
    ],
)
def test_an_overlay_with_another_unit_is_refused_at_its_position(tmp_path: Path, key: str, units: str) -> None:
    found = problems(tmp_path, f"database overlay:\n  - {{key: {key}, units: {units}}}\n")
    assert len(found) == 1
    assert "gateway.yaml:3:" in found[0]
    assert f"drivers write {key} in" in found[0]
    assert "leave `units` out" in found[0]


@pytest.mark.parametrize(
    ("key", "units"),
    [
        ("OAT", "C"),
        ("IAS", "kts"),
        ("ALT", "feet"),
        ("ROT", "Deg/sec"),
        ("XTRACK", "nM"),
        ("TACH1", "RPM"),
        ("VOLT", "v"),
    ],
)
def test_a_synonym_of_the_unit_is_accepted(tmp_path: Path, key: str, units: str) -> None:
    assert problems(tmp_path, f"database overlay:\n  - {{key: {key}, units: {units}}}\n") == []


def test_a_template_is_refused_once_and_a_custom_item_can_have_any_unit(tmp_path: Path) -> None:
    overlay = (
        "database overlay:\n  - {key: EGTec, units: degF}\n  - {key: SMOKE, units: pt}\n  - {key: OAT, min: -80}\n"
    )
    assert len(problems(tmp_path, overlay)) == 1


def test_a_custom_definition_can_reword_units_but_not_change_them(tmp_path: Path) -> None:
    own = "variables: {e: 2, c: 8}\nentries:\n  - {key: OAT, units: degF}\n  - {key: IAS, units: speedy}\n"
    found = problems(tmp_path, "database file: '{CONFIG}/database.yaml'\n", own + "  - {key: EGTec, units: F}\n")
    assert len(found) == 2
    assert "OAT" in found[0]
    assert "EGT11" in found[1]


def test_a_copy_of_the_packaged_definition_is_compared_only_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "config"
    shutil.copytree(configuration.packaged(), tree)
    with monkeypatch.context() as patch:
        patch.setattr(configuration, "_packaged_units", lambda: pytest.fail("read the packaged definition again"))
        configuration.load(tree / "default.yaml")
    ahrs = tree / "database" / "ahrs.yaml"
    ahrs.write_text(ahrs.read_text().replace("units: knots", "units: mph"))
    with pytest.raises(ConfigurationError) as error:
        configuration.load(tree / "default.yaml")
    assert "drivers write IAS in knots" in str(error.value)


def test_every_name_means_one_unit() -> None:
    for name, others in SYNONYMS.items():
        for other in (name, *others):
            assert known_unit(other.upper()) == name, other
