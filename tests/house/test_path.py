"""What a stranger does in an empty folder with the wheel: the blocks of docs/testing.md, without access to the tree."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:^<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

OPTIONS = "-q -p no:cacheprovider"
#: The suite with drivers on other kinds of links.
OTHER_LINKS = """
from dataclasses import replace
from fixgw.hw_sim.bench.chips import I2cBench
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import UdpBench
from fixgw.hw_sim.bench.wired import CanBench
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.devices.bmp import Bmp280
from test_co_guard import TestContract as Serial

class TestUdp(Contract):
    subject = replace(Serial.subject, bench=UdpBench)

class FlowMeter(CanInstrument):
    NAME = "flow_meter"

    def frames(self, aircraft, now):
        return [SimFrame(0x321, b"%04d" % round(aircraft.values()["FUELF1"] * 100))]

class TestCan(Contract):
    subject = CanBench.of("flow_meter", FlowMeter, "FUELF1", absurd={"FUELF1": 99.0}, within={"FUELF1": 0.01})

class TestChip(Contract):
    subject = I2cBench.of("fixgw.drivers.i2c_bmp", Bmp280, "AIRPRESS", absurd={"AIRPRESS": 40.0})
"""

FLOW_METER = """
from fixgw.drivers.links.can.instrument import CanInstrument
from fixgw.kit.update import FAIL, Update, begin_counting

class Decoder:
    REFUSALS = ("malformed",)
    ids = (0x321,)
    trouble = refused = ""

    def __init__(self, counts):
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")

    def feed(self, frames):
        for frame in frames:
            self.counts["received"] += 1
            if len(frame.data) != 4 or not frame.data.isdigit():
                self.counts["malformed"] += 1
            else:
                self.counts["used"] += 1
                yield Update("FUELF1", int(frame.data) / 100)

class Plugin(CanInstrument):
    KEYS = frozenset({"FUELF1"})

    def protocol(self):
        return Decoder(self.counts)
"""
#: What comes of it is shown on the page.
TOO_EARLY = """
from co_guard.simulator import CoGuard

def test_too_early(gateway, expect, fly):
    gateway("co_guard.yaml", co=CoGuard).devices["co"].failed.add("CO")
    fly(1)
    expect("CO").within(1, of=4).by(2)
"""


class Block(NamedTuple):
    file: str
    language: str
    text: str


@pytest.mark.timeout(300)
def test_a_stranger_comes_from_an_empty_folder_to_a_tested_driver(wheel: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/testing.md").read_text()
    blocks = [Block(*found) for found in BLOCK.findall(page)]
    assert {block.language for block in blocks} == {"sh", "yaml", "python"}
    assert [block for block in blocks if bool(block.file) is (block.language == "sh")] == []
    # The libraries are those of this environment; the gateway is that of the wheel.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    environment |= {"PYTHONWARNINGS": "error", "PYTEST_ADDOPTS": f"{OPTIONS} -k 'not Contract'", "HOME": str(tmp_path)}
    path, folder = environment["PATH"], tmp_path / "mine"
    folder.mkdir()

    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    for file, language, text in blocks:
        if language != "sh":
            (folder / file).write_text(text)
            continue
        if "pip install" in text:
            environment |= {"PYTHONWARNINGS": ""}
        said = run(text)
        if "pip install" in text:
            (site,) = (folder / ".venv").glob("lib/python*/site-packages")
            (site / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
            environment |= {"PATH": f"{folder}/.venv/bin:{path}", "PYTHONWARNINGS": "error"}
        if "fixgw new" in text:  # whose suite passes is tested elsewhere
            assert int(said.rpartition(" passed")[0].split()[-1]) > 3
            environment["PYTEST_ADDOPTS"] = OPTIONS
        elif "pytest" in text:
            assert int(said.rpartition(" passed")[0].split()[-1]) > 3
    (folder / "test_other_links.py").write_text(OTHER_LINKS)
    (folder / "flow_meter.py").write_text(FLOW_METER)
    run("python -m pytest test_other_links.py -k 'true or vanishes or starts'")
    (folder / "test_too_early.py").write_text(TOO_EARLY)
    said = run("! python -m pytest test_too_early.py")
    (shown,) = re.findall(r"^```\n(expected: .*?)```", page, re.MULTILINE | re.DOTALL)
    for line in shown.splitlines():
        assert re.search(f"^E +(AssertionError: )?{re.escape(line)}$", said, re.MULTILINE), said
    where = run("python -c 'import fixgw.hw_sim.bench.contract as c; print(c.__file__)'")
    assert Path(where).is_relative_to(folder)
    assert "expect -- " in run("python -m pytest --fixtures test_aircraft.py")
