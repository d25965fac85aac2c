"""The aircraft that JSBSim flies: the same steps, the same flight; a flight that makes sense; drivers that read it."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fixgw import database
from fixgw.drivers.fgfs import OWN_FILE, Plugin, protocol
from fixgw.drivers.xplane.protocol import Client
from fixgw.hw_sim import scenario
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database, until
from fixgw.hw_sim.devices.fgfs import Fgfs
from fixgw.hw_sim.devices.xplane import Xplane, rows

pytest.importorskip("jsbsim", reason="JSBSim has wheels for x86-64 only")

from fixgw.hw_sim.jsbsim_aircraft import JsbsimAircraft

NOON = datetime(2025, 7, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def flown() -> tuple[Aircraft, list[Mapping[str, Any]]]:
    """A minute of flight, and the values of each second."""
    aircraft = JsbsimAircraft(NOON)
    seconds = []
    for _ in range(60):
        for _ in range(40):
            aircraft.step(0.025)
        seconds.append(aircraft.values())
    return aircraft, seconds


def test_the_same_steps_give_the_same_flight() -> None:
    one, other = JsbsimAircraft(NOON), JsbsimAircraft(NOON)
    for dt in (0.025, 0.1, 0.3, 0.007) * 5:
        one.step(dt)
        other.step(dt)
    assert one.values() == other.values()


def test_it_has_all_values_of_the_simple_one_within_the_ranges_of_the_items(
    flown: tuple[Aircraft, list[Mapping[str, Any]]],
) -> None:
    _, seconds = flown
    db, simple = packaged_database(), Aircraft(NOON).values()
    for values in (seconds[0], seconds[-1]):
        assert values.keys() == simple.keys()
        for key, value in values.items():
            assert type(value) is type(simple[key]), key
            reading = db.write(key, value, "test") if key in db else None
            assert reading is None or reading.good, (key, value)


def test_it_climbs_along_the_first_leg(flown: tuple[Aircraft, list[Mapping[str, Any]]]) -> None:
    _, seconds = flown
    first, last = seconds[0], seconds[-1]
    assert 200.0 < last["ALT"] - first["ALT"] < 700.0
    assert 70.0 < last["IAS"] < 95.0
    assert abs(last["XTRACK"]) < 0.3
    assert abs(last["ROLL"]) < 10.0
    assert 2000.0 < last["TACH1"] < 2900.0
    assert seconds[-1]["FUELQT"] < seconds[0]["FUELQT"]


def test_its_values_agree_with_each_other(flown: tuple[Aircraft, list[Mapping[str, Any]]]) -> None:
    _, seconds = flown
    for before, after in pairwise(seconds[10:]):
        north = (after["LAT"] - before["LAT"]) * 60.0 * 3600.0  # knots
        east = (after["LONG"] - before["LONG"]) * 60.0 * 3600.0 * math.cos(math.radians(after["LAT"]))
        assert math.hypot(north, east) == pytest.approx(after["GS"], rel=0.02)
        assert after["TALT"] - before["TALT"] == pytest.approx((before["VS"] + after["VS"]) / 120.0, abs=0.5)
        assert after["TAS"] == pytest.approx(after["GS"], rel=0.03), "the air is calm"
    assert after["ALT"] == pytest.approx(after["TALT"], abs=30.0), "and standard"


def test_fuel_can_be_set(flown: tuple[Aircraft, list[Mapping[str, Any]]]) -> None:
    aircraft, _ = flown
    aircraft.fuel = [10.0, 12.0]
    aircraft.step(0.1)
    assert aircraft.values()["FUELQ2"] == pytest.approx(12.0, abs=0.01)


def test_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    JsbsimAircraft(NOON).step(0.5)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_scenario_may_choose_it() -> None:
    made = scenario.everything()._replace(flight=scenario.Flight(model="jsbsim")).aircraft()
    assert isinstance(made, JsbsimAircraft)


@pytest.mark.slow
def test_both_simulators_show_it(flown: tuple[Aircraft, list[Mapping[str, Any]]]) -> None:
    """What the drivers decode is what the flight model says."""
    aircraft, _ = flown
    truth = aircraft.values()
    flightgear, plane = Fgfs(port=0), Xplane(port=0)
    try:
        flightgear.tick(aircraft, 0.0)
        line = flightgear.blocks["output"].line(flightgear.properties)
        client, sent = Client(lambda: 0.0), list[bytes]()
        plane.send = lambda data, to: sent.append(data)  # type: ignore[method-assign]
        plane.send_to(("127.0.0.1", 1))
        plane.tick(aircraft, 0.0)
    finally:
        flightgear.close()
        plane.close()
    output, _ = protocol.parse(Path(protocol.__file__).with_name(OWN_FILE).read_bytes())
    assert output is not None
    read = {u.key: u.value for u in protocol.Generic(output, dict.fromkeys(output.keys, "float")).feed(line)}
    assert len(read) == 25
    rows_read = {u.key: u.value for data in sent for u in client.feed(data)}
    assert len(rows(aircraft)) == len(plane.page)
    for key, value in {**rows_read, **read}.items():
        assert value == pytest.approx(truth[key], rel=1e-3, abs=0.06), key


LAYOUT = b"""<PropertyList><generic><output>
<line_separator>newline</line_separator><var_separator>,</var_separator>
<chunk><name>time</name><type>double</type></chunk>
<chunk><name>LAT:</name><type>double</type></chunk>
<chunk><name>LONG:</name><type>double</type></chunk>
<chunk><name>IAS:</name><type>double</type></chunk>
<chunk><name>TACH1:</name><type>double</type></chunk>
</output></generic></PropertyList>"""


@pytest.mark.slow
def test_the_driver_reads_what_jsbsim_sends_by_itself(tmp_path: Path) -> None:
    """A partner that is not ours: the lines, their spaces and their first line of names are JSBSim's own."""
    (tmp_path / "read.xml").write_bytes(LAYOUT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("position/lat-geod-deg", "position/long-gc-deg", "velocities/vc-kts", "propulsion/engine/engine-rpm")
    properties = "".join(f"<property>{name}</property>" for name in names)
    (tmp_path / "send.xml").write_text(
        f'<output name="127.0.0.1" type="SOCKET" protocol="UDP" port="{port}" rate="20">{properties}</output>'
    )
    db, before = packaged_database(), database.current()
    database.bind(db)
    plugin = Plugin("fgfs", {"xml_file": str(tmp_path / "read.xml"), "recv_port": port})
    try:
        plugin.start()
        until(lambda: plugin.connected)
        aircraft = JsbsimAircraft(NOON)
        fdm = aircraft._fdm
        fdm.set_output_directive(str(tmp_path / "send.xml"))
        fdm.enable_output()
        fdm.run_ic()
        aircraft.step(1.0)
        until(lambda: plugin.counts["used"] >= 10)
        assert plugin.counts["ignored"] == 1
        assert plugin.counts["wrong numbers of fields"] == 0

        def agrees(key: str, name: str) -> bool:
            return db.read(key).good and bool(db.read(key).value == pytest.approx(fdm[name], rel=1e-2))

        for key, name in zip(("LAT", "LONG", "IAS", "TACH1"), names, strict=True):
            until(partial(agrees, key, name))
        assert db.read("IAS").source == "sim/fgfs"
    finally:
        plugin.shutdown()
        database.bind(before)
