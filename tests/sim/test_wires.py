"""What a scenario says of the wires: which device a connection finds, and what a converter measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.errors import ConfigurationError
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.rig import Rig
from fixgw.hw_sim.scenario import Scenario, load
from fixgw.hw_sim.scenario.forms import Sender

CONFIGURATION = """\
connections:
  engine: {module: fixgw.drivers.mgl_rdac, channel: can1}
  receiver: {module: fixgw.drivers.stratux}
  float:
    module: fixgw.drivers.i2c_ads1115
    channels: [{input: 1, key: FUELQ1, curve: {points: [[0.5, 0], [2.5, 20]]}}]
"""


def scenario(directory: Path, text: str) -> Scenario:
    path = directory / "flight.yaml"
    path.write_text(text)
    return load(path)


def test_a_sender_is_a_line_through_its_points() -> None:
    aircraft = Aircraft()
    volts = Sender("ALT", [(20.0, 2.0), (0.0, 1.0), (40.0, 2.5)]).volts
    for feet, expected in ((-5.0, 1.0), (0.0, 1.0), (10.0, 1.5), (20.0, 2.0), (30.0, 2.25), (99.0, 2.5)):
        aircraft.holds = (("ALT", feet),)
        assert volts(aircraft) == pytest.approx(expected)


def test_a_scenario_wires_connections_and_converters(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(CONFIGURATION)
    flight = """\
wires: {engine: rdac}
senders:
  ads1115: [{key: OILP1, points: [[0, 0], [1, 1]]}, {key: FUELQ1, points: [[0, 0.5], [20, 2.5]]}]
events:
  - {at: 0, set: FUELQ1, to: 12}
  - {at: 0, set: VOLT, to: 13.1}
"""
    with Rig(configuration.load(tmp_path / "default.yaml"), scenario(tmp_path, flight)) as rig:
        rig.fly(3.0)
        assert rig.db.read("FUELQ1").good
        assert rig.db.read("FUELQ1").value == pytest.approx(12.0, abs=0.01)
        assert rig.db.read("VOLT").value == pytest.approx(13.1, abs=0.02)
        assert rig.db.read("LAT").good  # a datagram is whole, although its line is slow


def test_wires_to_nothing_are_reported(tmp_path: Path) -> None:
    text = """\
wires: {engine: rdca}
senders:
  ads115: [{key: ALT, points: [[0, 1], [1, 2]]}]
  mcp3008: [{key: ALT, points: [[0, 1], [0, 2]]}]
events: []
"""
    with pytest.raises(ConfigurationError) as found:
        scenario(tmp_path, text)
    assert [str(each).partition("flight.yaml:")[2] for each in found.value.problems] == [
        "1:17: wires.engine: no device 'rdca' (did you mean 'rdac'?)",
        "3:3: senders: no converter 'ads115' (did you mean 'ads1115'?)",
        "4:32: senders.mcp3008[0].points: a value has two voltages",
    ]
