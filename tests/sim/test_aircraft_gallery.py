"""Each aircraft of the gallery has a configuration without problems, and its flight shows what its page promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixgw import configuration, loader
from fixgw.cli import trials
from fixgw.configuration.tree import aircraft, copy_tree
from fixgw.hw_sim import scenario
from fixgw.hw_sim.bench.rig import VARIABLES

pytestmark = pytest.mark.slow

GALLERY = Path(__file__).parents[2] / "examples" / "aircraft"
AIRCRAFT = sorted(path.name for path in GALLERY.iterdir() if path.is_dir())
#: What no aircraft of the gallery needs: another make of what they have, and what is not for aircraft.
UNUSED = {"shadin", "demo", "skel", "test"}


def test_there_are_six() -> None:
    assert len(AIRCRAFT) == 6
    page = (GALLERY / "README.md").read_text()
    assert re.findall(r"\]\(([\w-]+)/README.md\)", page) == AIRCRAFT


@pytest.mark.parametrize("name", AIRCRAFT)
def test_the_configuration_has_no_problems_and_needs_no_advice(name: str, tmp_path: Path) -> None:
    """As `fixgw config init DIR --example NAME` copies it."""
    copy_tree(tmp_path, aircraft()[name])
    for main in tmp_path.glob("*.yaml"):
        if re.search(r"^connections:", main.read_text(), re.MULTILINE):
            loaded = configuration.load(main)
            assert [str(each) for each in loaded.advice] == []


@pytest.mark.parametrize("name", AIRCRAFT)
def test_the_page_names_every_file(name: str) -> None:
    page = (GALLERY / name / "README.md").read_text()
    files = {path.name for path in GALLERY.joinpath(name).iterdir()} - {"README.md"}
    assert {file for file in files if f"({file})" not in page} == set()


@pytest.mark.parametrize("name", AIRCRAFT)
def test_it_flies_as_promised(name: str) -> None:
    flight = scenario.load(GALLERY / name / "flight.yaml")
    flown = trials.fly_virtually(flight, trials.configuration_for(flight, "", VARIABLES))
    assert len(flown.verdicts) > 10
    assert [f"{each.title}: {each.words} ({each.place})" for each in flown.verdicts if not each.met] == []


def test_nearly_everything_is_aboard_somewhere() -> None:
    text = "".join((GALLERY / name / "default.yaml").read_text() + _alerts(name) for name in AIRCRAFT)
    used = set(re.findall(r"module: fixgw\.(?:drivers|plugins)\.(\w+)", text))
    known = {info.name for info in loader.available() if not info.distribution}
    assert known - used == UNUSED


def _alerts(name: str) -> str:
    return (GALLERY / name / "alerts.yaml").read_text()
