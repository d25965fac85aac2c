"""Each aircraft of the gallery has a configuration without problems, and its flight shows what its page promises."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixgw import configuration, loader
from fixgw.cli import trials
from fixgw.configuration.tree import aircraft, copy_tree
from fixgw.hw_sim import scenario
from fixgw.hw_sim.bench.rig import VARIABLES
from fixgw.netfix import Client

pytestmark = pytest.mark.slow

GALLERY = Path(__file__).parents[2] / "examples" / "aircraft"
AIRCRAFT = sorted(path.name for path in GALLERY.iterdir() if path.is_dir())
#: Coarser than that of `fixgw bench run`, which takes three times as long.
STEP_S = 0.1
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
    for file in tmp_path.glob("*.yaml"):
        if re.search(r"^connections:", file.read_text(), re.MULTILINE):
            loaded = configuration.load(file)
            assert [str(each) for each in loaded.advice] == []


@pytest.mark.parametrize("name", AIRCRAFT)
def test_the_page_names_every_file(name: str) -> None:
    page = (GALLERY / name / "README.md").read_text()
    files = {path.name for path in GALLERY.joinpath(name).iterdir()} - {"README.md"}
    assert {file for file in files if f"({file})" not in page} == set()


@pytest.mark.parametrize("name", AIRCRAFT)
def test_it_flies_as_promised(name: str) -> None:
    flight = scenario.load(GALLERY / name / "flight.yaml")
    flown = trials.fly_virtually(flight, trials.configuration_for(flight, "", VARIABLES), step=STEP_S)
    assert len(flown.verdicts) > 10
    assert [f"{each.title}: {each.words} ({each.place})" for each in flown.verdicts if not each.met] == []


def test_one_flies_for_displays() -> None:
    """`fixgw demo --example NAME`: NetFIX clients see it in real time, with the status of its connections."""
    command = [sys.executable, "-m", "fixgw", "demo", "--example", "vw-single-seater"]
    arguments = ["--port", "0", "--web-port", "0", "--duration", "60"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if line.startswith("NetFIX listens on port "))
            with Client("127.0.0.1", int(said.removeprefix("NetFIX listens on port ").partition(":")[0])) as client:
                deadline = time.monotonic() + 20.0
                while client.read("OILP1").flags or client.read("OILP1").value != 48.0:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                connections = client.status()["connections"]
                assert connections["engine"]["health"] == "ok"
                assert connections["alerts"]["status"]["oil-pressure"]["state"] == "normal"
        finally:
            process.terminate()
            assert process.stderr is not None
            errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["motor-glidr"],
            "no aircraft 'motor-glidr' (did you mean 'motor-glider'?): give a folder with a flight.yaml, ",
        ),
        (["motor-glider", "--everything"], "--example has a flight and instruments of its own: leave out --everything"),
    ],
)
def test_what_cannot_be_flown_is_reported(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "fixgw", "demo", "--example", *arguments, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"fixgw: {words}")


def test_nearly_everything_is_aboard_somewhere() -> None:
    text = "".join((GALLERY / name / "default.yaml").read_text() + _alerts(name) for name in AIRCRAFT)
    used = set(re.findall(r"module: fixgw\.(?:drivers|plugins)\.(\w+)", text))
    known = {info.name for info in loader.available() if not info.distribution}
    assert known - used == UNUSED


def _alerts(name: str) -> str:
    return (GALLERY / name / "alerts.yaml").read_text()
