"""Simulators that send lines of text: their lines, what cannot be true, and a virtual one as a partner."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL
from fixgw.drivers.efb_text import (
    MAX_LINE_BYTES,
    Attitude,
    Gps,
    Traffic,
    attitude_line,
    gps_line,
    parse,
    traffic_line,
)
from fixgw.drivers.xgps import Plugin
from fixgw.drivers.xgps.protocol import KEYS, NO_POSITION, POSITION, Decoder
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import UdpBench
from fixgw.hw_sim.devices.xgps import Xgps
from fixgw.kit import traffic
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS
from fixgw.world import World

XPLANE = b"XATTX-Plane,180.2,0.1,-0.2,0.0,0.1,0.0,0.0,0.0,1.0,0.0,0.0,0.0"
GPS = b"XGPSMy Sim,-80.11,34.55,1200.1,359.05,55.6"
OTHER = b"XTRAFFICMy Sim,168,33.85397,-118.32486,3749.9,-213.0,1,68.2,126.0,KS6"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GPS, Gps("My Sim", 34.55, -80.11, 1200.1 * FEET_PER_METRE, 359.05, 55.6 * KNOTS_PER_MPS)),
        (XPLANE, Attitude("X-Plane", 180.2, 0.1, -0.2)),
        (OTHER, Traffic("My Sim", 168, 33.85397, -118.32486, 3749.9, -213.0, True, 68.2, 126.0, "KS6")),
        (b"XATTa,1,2,3\r\n", Attitude("a", 1.0, 2.0, 3.0)),
        (b"XFOO,1", "unknown"),
        (b"\xffXATTa,1,XATTb,1,2,3", Attitude("b", 1.0, 2.0, 3.0)),
        (b"login:", "malformed"),
        (b"", "malformed"),
        (b"XGPSa,1,2,3,4", "malformed"),
        (b"XGPSa,1,2,3,4,5,6", "malformed"),
        (b"XATTa,1,2,nan", "malformed"),
        (b"XATTa,1,2,1_0", "malformed"),
        (b"XATTa,1,2", "malformed"),
        (b"XATT\xff,1,2,3", "malformed"),
        (b"XTRAFFICa,0,1,2,3,4,1,5,6,x", "malformed"),
        (b"XTRAFFICa,5,1,2,3,4,7,5,6,x", "malformed"),
        (b"XTRAFFICa,5,1,2", "malformed"),
    ],
)
def test_lines(line: bytes, said: Any) -> None:
    assert parse(line) == said


def test_every_line_is_counted_once() -> None:
    decoder = Decoder(Clock())
    lines = (GPS, XPLANE, OTHER, b"XFOO,1", b"login:", b"\r", b"XATT" + b"x" * MAX_LINE_BYTES, b"XGPSa,0,95,0,0,0")
    decoder.feed(b"\n".join(lines) + b"\n")
    assert decoder.counts == {
        "received": 7,
        "used": 4,
        "ignored": 1,
        "malformed": 1,
        "too long": 1,
        "absurd values": 1,
        "traffic": 1,
    }


NUMBERS = st.floats(-1000.0, 1000.0)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_lines_can_be_read_again(one: float, two: float, three: float) -> None:
    assert parse(gps_line(Gps("a b", one, two, three, one, two))) == Gps(
        "a b",
        *(pytest.approx(value, abs=tolerance) for value, tolerance in ((one, 1e-5), (two, 1e-5), (three, 0.4))),  # type: ignore[arg-type]
        *(pytest.approx(value, abs=0.011) for value in (one, two)),
    )
    assert isinstance(parse(attitude_line(Attitude("a", one, two, three))), Attitude)
    assert isinstance(parse(traffic_line(Traffic("a", 5, one, two, three, one, True, two, three, "X"))), Traffic)


# -- the decoder -------------------------------------------------------------------------------------------------------


def told(decoder: Decoder, *lines: bytes) -> dict[str, object]:
    updates = decoder.feed(b"".join(line + b"\n" for line in lines))
    assert {update.key for update in updates} <= KEYS
    return {update.key: "failed" if update.flags & FAIL else update.value for update in updates}


def test_position_and_attitude(clock: Clock) -> None:
    decoder = Decoder(clock, variation=-10.0)
    assert told(decoder, GPS, XPLANE) == {
        "LAT": 34.55,
        "LONG": -80.11,
        "TALT": pytest.approx(3937.3, abs=0.1),
        "TRACK": 359.05,
        "GS": pytest.approx(108.08, abs=0.01),
        "GPS_FIX_TYPE": 3,
        "ROLL": -0.2,
        "PITCH": 0.1,
        "HEAD": pytest.approx(190.2),
    }
    assert "HEAD" not in told(Decoder(clock), XPLANE), "a true heading is not HEAD"
    assert told(decoder, b"XATTa,355,0,0", b"XGPSa,1,1,0,-1,0").items() >= {("HEAD", 5.0), ("TRACK", 359.0)}
    most = told(decoder, b"XGPSa,180,-90,30480.000000000004,360,1028.888888888889")
    assert (most["TALT"], most["GS"]) == (100_000.0, 2000.0)
    assert told(decoder, b"XATTa,360,90,180", b"XGPSa,180,-90,0,360,0").items() >= {
        *(("HEAD", 10.0), ("PITCH", 90.0), ("ROLL", 180.0), ("TRACK", 0.0), ("LAT", -90.0), ("LONG", 180.0))
    }


def test_other_aircraft_are_passed_on_if_they_are_somewhere(clock: Clock) -> None:
    heard: list[Traffic] = []
    decoder = Decoder(clock, traffic=heard.append)
    for place in (b"0,0", b"91,5", b"0,5"):
        assert told(decoder, b"XTRAFFICa,5,%b,3,4,1,5,6,x" % place) == {}
    assert [(said.address, said.lat, said.lon) for said in heard] == [(5, 0.0, 5.0)]
    assert decoder.counts["traffic"] == 3


def test_what_is_refused_is_shown(clock: Clock) -> None:
    decoder = Decoder(clock)
    told(decoder, b" \0\r")
    assert (decoder.counts["received"], decoder.refused) == (0, "")
    for length, why in ((MAX_LINE_BYTES, "malformed"), (MAX_LINE_BYTES + 1, "too long")):
        told(decoder, b"x" * length)
        assert decoder.refused == f"{why}: {b'x' * 80!r}"
    assert decoder.trouble == ""


@pytest.mark.parametrize(
    "line",
    [
        b"XGPSa,0,0,0,0,0",
        b"XGPSa,181,5,0,0,0",
        b"XGPSa,1,91,0,0,0",
        b"XGPSa,1,2,99999999,0,0",
        b"XGPSa,1,2,3,720,0",
        b"XGPSa,1,2,3,4,-5",
        b"XGPSa,1,2,3,4,1029",
        b"XGPSa,1,2,-610,4,5",
        b"XGPSa,1,2,3,-361,5",
    ],
)
def test_an_impossible_position_fails_as_a_whole(clock: Clock, line: bytes) -> None:
    decoder = Decoder(clock)
    assert told(decoder, line) == dict.fromkeys(("LAT", "LONG", "TALT", "TRACK", "GS", "GPS_FIX_TYPE"), "failed")
    clock.now += 10.0
    assert decoder.tick() == [], "there was none"
    assert decoder.counts["absurd values"] == 1


@pytest.mark.parametrize("line", [b"XATTa,1,91,3", b"XATTa,1,-91,3", b"XATTa,1,2,-181", b"XATTa,361,2,3"])
def test_an_impossible_attitude_fails_as_a_whole(clock: Clock, line: bytes) -> None:
    decoder = Decoder(clock)
    assert told(decoder, line) == dict.fromkeys(("ROLL", "PITCH", "HEAD"), "failed")
    assert decoder.counts["absurd values"] == 1


def test_a_position_that_stops_fails_although_attitude_still_comes(clock: Clock) -> None:
    decoder = Decoder(clock)
    told(decoder, GPS)
    clock.now += 3.0
    assert decoder.tick() == []
    clock.now += 0.1
    told(decoder, XPLANE)
    decoder.interrupt()  # this process was held up: what came before is still known
    assert {update.key: update.reason for update in decoder.tick()} == dict.fromkeys(POSITION, NO_POSITION)
    assert decoder.tick() == []


def test_an_endless_line_is_refused_and_not_kept(clock: Clock) -> None:
    decoder = Decoder(clock)
    for _ in range(100):
        decoder.feed(b"x" * 400)
        assert len(decoder._lines._rest) <= MAX_LINE_BYTES
    told(decoder, b"")
    assert decoder.counts["too long"] == 1
    assert told(decoder, GPS)["LAT"] == 34.55


# -- the plugin --------------------------------------------------------------------------------------------------------


def test_it_is_a_simulator_and_never_passes_for_real(clock: Clock) -> None:
    with World(packaged_database(clock), clock=clock).hosting():
        plugin = Plugin("xplane", {})
    assert plugin.source == "sim/xplane"
    plugin.received(XPLANE)
    plugin.received(OTHER)
    assert plugin.db.read("ROLL").source == "sim/xplane"
    assert [target.source for target in traffic.table(plugin.db).heard_within()] == ["sim/xplane"]
    assert list(plugin.get_status()["targets"]) == ["0000A8"]
    assert plugin.options.allow == ("127.0.0.0/8", "::1")


class TestContract(Contract):
    subject = UdpBench.of(
        "fixgw.drivers.xgps",
        Xgps,
        "LAT LONG TALT TRACK GS GPS_FIX_TYPE ROLL PITCH",
        checksum=False,
        within={"LAT": 0.0005, "LONG": 0.0001, "ROLL": 0.06, "PITCH": 0.06},
        absurd={"PITCH": 95.0, "ROLL": 190.0},
    )
