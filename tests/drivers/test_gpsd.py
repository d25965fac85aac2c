"""gpsd's JSON: the shared vectors, silence, requests, the virtual gpsd, and the real one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw import database
from fixgw.clock import now
from fixgw.database import BAD, FAIL
from fixgw.drivers.gpsd import GpsdOptions, Plugin
from fixgw.drivers.gpsd.protocol import (
    ABSURD,
    ASK_S,
    ATTITUDE,
    FIX_KEYS,
    KEYS,
    MAX_LINE,
    NO_FIX,
    SILENCE_S,
    STANDING,
    STATUS,
    TWO_DIMENSIONAL,
    Client,
    without_place,
)
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import TcpBench
from fixgw.hw_sim.devices.gpsd import DEVICE, Gpsd
from fixgw.hw_sim.devices.nmea0183 import epoch, sentence
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.anonymous import Shift
from fixgw.kit.place import JUMPED, NOWHERE
from fixgw.kit.raw import Heard
from fixgw.kit.update import Update
from fixgw.world import World

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "gpsd.json").read_text())["vectors"]
FULL = next(v["line"] for v in VECTORS if v["name"] == "tpv.full_3d")
WATCH = b'?WATCH={"enable":true,"json":true};\n'
POLL = b"?POLL;\n"


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\r\n"


def tpv(second: float = 9.0, **fields: Any) -> bytes:
    """FULL at another second of its minute, with other fields."""
    report = {**json.loads(FULL), "time": f"2026-07-15T12:00:{second:06.3f}Z", **fields}
    return line(**{name: value for name, value in report.items() if value is not None})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Clock) -> Client:
    return Client(clock)


def last(updates: list[Update]) -> dict[str, Update]:
    return {update.key: update for update in updates}


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_vector(vector: dict[str, Any], clock: Clock) -> None:
    client = Client(clock, attitude="PITCH" in vector["expect"])
    updates = last(client.feed(vector["line"].encode() + b"\n"))
    for key, expected in vector["expect"].items():
        update = updates.get(key)
        if expected in ("fail", "refused"):
            assert update is None or (update.value is None and update.flags == FAIL), update
            assert update is not None or vector["class"] == "protocol"  # there is nothing to fail yet
        else:
            assert update is not None, key
            assert update.value == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-6)), key
            assert not update.flags & FAIL
    assert {*updates} <= {*KEYS, *ATTITUDE}
    extra = {"TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS", *(FIX_KEYS if "fail" in vector["expect"].values() else ())}
    assert {*updates} - extra <= {*vector["expect"]}
    counts = client.counts
    assert counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in client.REFUSALS)
    if vector["class"] == "garbage":
        assert sum(counts[r] for r in client.REFUSALS) == 1


# -- the fix -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "flags"), [(0, 0), (1, 0), (2, 0), (3, 0), (5, BAD), (6, 0), (7, BAD), (8, FAIL)])
def test_the_status_decides_whether_the_position_is_good(status: int, flags: int, client: Client) -> None:
    updates = last(client.feed(tpv(status=status)))
    for key in ("LAT", "LONG", "GS", "TALT"):
        assert (updates[key].value is not None, updates[key].flags) == (True, flags)
    assert updates["GPS_FIX_TYPE"].flags == (BAD if flags else 0)
    assert bool(client.trouble) is bool(flags)


@pytest.mark.parametrize(
    ("mode", "status", "kind"),
    [(3, 1, 3), (3, 2, 4), (3, 3, 5), (3, 4, 5), (3, 6, 3), (2, 2, 2), (2, 3, 2), (1, 2, 1), (0, 3, 0)],
)
def test_the_kind_of_the_fix(mode: int, status: int, kind: int, client: Client) -> None:
    update = last(client.feed(tpv(mode=mode, status=status)))["GPS_FIX_TYPE"]
    assert (update.value, update.flags) == (kind, BAD if mode < 2 else 0)


@pytest.mark.parametrize("mode", [-1, 4])
def test_a_kind_of_fix_that_does_not_exist_is_refused(mode: int, client: Client) -> None:
    assert client.refused == ""
    assert client.feed(tpv(mode=mode)) == []
    assert client.counts["malformed"] == 1


def test_a_first_report_with_two_dimensions_leaves_the_altitude_alone(clock: Clock, client: Client) -> None:
    client.feed(tpv(1))
    clock.now += 1.0
    assert "TALT" not in last(client.feed(tpv(2, mode=2, altMSL=None, alt=None, altHAE=None)))
    assumed = last(client.feed(tpv(3, mode=2)))
    for key in ("TALT", "GPS_ELLIPSOID_ALT"):
        assert (assumed[key].flags, assumed[key].reason) == (BAD, TWO_DIMENSIONAL)
    assert client.trouble == ""
    assert assumed["LAT"].flags == 0
    assert last(client.feed(tpv(2)))["TALT"].flags == 0


def test_what_is_no_longer_reported_fails_though_all_else_is(clock: Clock, client: Client) -> None:
    client.feed(tpv(1))
    failed: dict[str, Update] = {}
    for second in range(2, 6):
        clock.now += 1.0
        client.feed(tpv(second, altMSL=None, alt=None, altHAE=None))
        failed |= last(client.tick())
    assert {"TALT", "GPS_ELLIPSOID_ALT"} == {*failed}
    assert all(update.flags == FAIL for update in failed.values())


def test_satellites_may_be_reported_seldom_but_not_never_a_fix(clock: Clock) -> None:
    client = Client(clock, attitude=True)
    client.feed(line(**{"class": "SKY", "nSat": 7, "uSat": 5}))
    client.feed(line(**{"class": "ATT", "pitch": 2.5}))
    for second in range(1, 6):
        client.feed(tpv(second))
        assert [update.key for update in client.tick()] == (["PITCH"] if second == 4 else [])
        clock.now += 1.0


def test_an_attitude_without_positions_fails_when_it_stops(clock: Clock) -> None:
    client = Client(clock, attitude=True)
    client.feed(line(**{"class": "ATT", "pitch": 2.5}))
    clock.now += SILENCE_S
    assert client.tick() == []
    clock.now += 0.1
    assert client.tick() == [Update("PITCH", None, FAIL, "gpsd no longer reports it")]


def test_the_magnetic_track_fails_with_the_true_one(client: Client) -> None:
    client.feed(tpv(1))
    updates = last(client.feed(tpv(2, track=None, magtrack=None)))
    assert updates["TRACK"].flags == updates["TRACKM"].flags == FAIL
    assert updates["TRACK"].reason == STANDING
    assert "TRACKM" not in last(client.feed(tpv(3, track=None, magtrack=None))), "it has failed already"
    compass = last(client.feed(tpv(4, track=None)))
    assert (compass["TRACK"].flags, compass["TRACKM"].flags) == (FAIL, 0)
    assert "TRACK" not in last(client.feed(tpv(5, track=None, speed=None))), "as long as it does not stand"


@pytest.mark.parametrize(
    ("fields", "feet"),
    [
        ({"eph": 3.048, "epx": 30.48, "epy": 40.64}, 10.0),
        ({"eph": None, "epx": 30.48, "epy": 40.64}, 500 / 3),
        ({"eph": None, "epx": None}, None),
        ({"eph": None, "epy": None}, None),
    ],
)
def test_the_horizontal_error(fields: dict[str, Any], feet: float | None, client: Client) -> None:
    update = last(client.feed(tpv(**fields))).get("GPS_ACCURACY_HORIZ")
    assert (update and update.value) == (feet and pytest.approx(feet))


def test_an_altitude_above_the_sea_is_preferred_to_one_of_old_gpsds(client: Client) -> None:
    assert last(client.feed(tpv(altMSL=304.8, alt=1.0)))["TALT"].value == pytest.approx(1000.0)


def test_a_position_of_zero_is_none(client: Client) -> None:
    client.feed(tpv(1))
    updates = last(client.feed(tpv(2, lat=0.0, lon=0.0)))
    assert updates["LAT"] == Update("LAT", None, FAIL, NOWHERE)
    assert client.trouble == NOWHERE
    assert updates["GS"].flags == FAIL
    assert updates["TIMEZ"].flags == BAD, "the receiver has restarted, and so has its clock"
    for zero in ({"lat": 0.0}, {"lon": 0.0}):
        assert last(Client(Clock()).feed(tpv(**zero)))["LAT"].flags == 0


def test_a_position_out_of_reach_is_doubted(clock: Clock, client: Client) -> None:
    client.feed(tpv(1))
    clock.now += 1.0
    assert last(client.feed(tpv(2, lat=45.4)))["LAT"] == Update("LAT", 45.4, BAD, JUMPED)
    assert last(client.feed(tpv(2, lat=45.4, status=5)))["LAT"].reason == STATUS[5][1]
    assert last(client.feed(tpv(2, lat=90.0)))["LAT"].flags == BAD
    assert last(client.feed(tpv(2, lon=180.0)))["LAT"].flags == BAD


@pytest.mark.parametrize("absurd", [{"lat": 90.1}, {"lat": -95.0}, {"lon": 180.1}, {"lon": -181.0}, {"lat": None}])
def test_from_an_impossible_position_nothing_jumps(absurd: dict[str, Any], client: Client) -> None:
    updates = last(client.feed(tpv(1, **absurd)))
    assert updates.keys() & {"LAT", "LONG"} == ({"LAT", "LONG"} if absurd != {"lat": None} else {"LONG"})
    assert {updates[key].value for key in updates.keys() & {"LAT", "LONG"}} <= {None, -121.314166667}
    assert client.counts["absurd values"] == (absurd != {"lat": None})
    assert updates["GS"].flags == 0
    assert last(client.feed(tpv(2)))["LAT"].flags == 0


def test_how_far_an_aircraft_gets_is_told_by_the_receivers_time(client: Client) -> None:
    """So that a recording may be played fast."""
    client.feed(tpv(1))
    assert last(client.feed(tpv(31, lat=44.46)))["LAT"].flags == 0
    assert last(client.feed(tpv(lat=44.51, time=None)))["LAT"].flags == BAD


def test_satellites_without_a_fix_are_bad(client: Client) -> None:
    sky = line(**{"class": "SKY", "nSat": 7, "uSat": 0})
    assert last(client.feed(sky))["GPS_SATS_VISIBLE"] == Update("GPS_SATS_VISIBLE", 7)
    client.feed(tpv(mode=1))
    assert last(client.feed(sky))["GPS_SATS_VISIBLE"] == Update("GPS_SATS_VISIBLE", 7, BAD, NO_FIX)
    assert last(client.feed(tpv(mode=1)))["GPS_SATS_TRACKED"] == Update("GPS_SATS_TRACKED", None, BAD, NO_FIX)
    assert client.feed(line(**{"class": "SKY", "hdop": 0.9})) == []
    assert "GPS_SATS_VISIBLE" not in last(Client(Clock()).feed(tpv(mode=1)))


def test_satellites_are_as_late_as_the_fix(clock: Clock, client: Client) -> None:
    sky = line(**{"class": "SKY", "nSat": 7})
    client.feed(tpv(1))
    clock.now += 10.0
    client.feed(tpv(1))
    assert last(client.feed(sky))["GPS_SATS_VISIBLE"] == Update(
        "GPS_SATS_VISIBLE", 7, BAD, "gpsd's reports are 10 s late"
    )
    clock.now += SILENCE_S + 0.1
    assert last(client.tick())["GPS_SATS_VISIBLE"].flags == FAIL
    assert last(client.feed(sky))["GPS_SATS_VISIBLE"].flags == 0, "that was long ago"


def test_satellites_of_a_list_are_counted_unless_gpsd_has(client: Client) -> None:
    listed = [{"used": True}, {"used": False}, {}]
    for more, counts in (({}, [3, 1]), ({"nSat": 9}, [9, 1]), ({"uSat": 2}, [3, 2]), ({"nSat": -1}, [None, 1])):
        updates = client.feed(line(**{"class": "SKY", "satellites": listed, **more}))
        assert [update.value for update in updates] == counts
        assert updates[0].flags == (0 if counts[0] else FAIL)
    assert client.counts["absurd values"] == 1


def test_the_time_is_bad_until_the_first_fix(client: Client) -> None:
    assert last(client.feed(tpv(1, mode=1)))["TIMEZ"] == Update(
        "TIMEZ", "12:00:01", BAD, "no fix yet: the receiver's own clock"
    )
    client.feed(tpv(2))
    updates = last(client.feed(tpv(time="2026-07-15T23:59:58.7Z", mode=1)))
    times = [updates[key].value for key in ("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS")]
    assert times == ["23:59:58", 23, 59, 58]
    assert updates["TIMEZS"].flags == 0


def test_the_time_is_as_good_as_the_fix(clock: Clock, client: Client) -> None:
    simulated = last(client.feed(tpv(1, status=8)))["TIMEZ"]
    assert (simulated.flags, simulated.reason) == (FAIL, STATUS[8][1])
    client.feed(tpv(1))
    clock.now += 2.5
    late = last(client.feed(tpv(1)))["TIMEZS"]
    assert late == Update("TIMEZS", 1, BAD, "gpsd's reports are 2 s late")
    assert last(client.feed(tpv(4, status=5)))["TIMEZ"].flags == 0


@pytest.mark.parametrize(
    "time", ["2026-02-30T12:00:00Z", "2026-07-15T12:60:00.000Z", "2026-07-15T12:00:61Z", "now", 5.0, "2026-07-15"]
)
def test_an_impossible_time_is_none(time: str | float, client: Client) -> None:
    updates = last(client.feed(tpv(time=time)))
    assert "TIMEZ" not in updates
    assert updates["LAT"].flags == 0


# -- options -----------------------------------------------------------------------------------------------------------


def test_climb_and_attitude_are_only_written_if_asked_for(clock: Clock) -> None:
    attitude = line(**{"class": "ATT", "pitch": 2.5, "roll": -12.0, "roll_st": "M", "heading": 100.0})
    assert Client(clock).feed(attitude) == []
    asked = Client(clock, climb=True, attitude=True, heading="magnetic")
    assert asked.feed(attitude) == [
        Update("HEAD", 100.0),
        Update("PITCH", 2.5),
        Update("ROLL", -12.0, BAD, "the sensor reports 'M'"),
    ]
    assert last(asked.feed(tpv(climb=1.0)))["VS"].value == pytest.approx(60 / 0.3048)
    assert last(asked.feed(tpv(mode=1)))["VS"].flags == FAIL


def test_a_true_heading_needs_the_variation(clock: Clock) -> None:
    client = Client(clock, heading="true")
    heading = line(**{"class": "ATT", "heading": 10.0})
    assert client.feed(heading) == []
    client.feed(tpv())
    assert last(client.feed(heading))["HEAD"].value == pytest.approx(355.6)
    for variation, degrees in ((None, 355.6), (181.0, 355.6), (-180.0, 190.0), (-181.0, 190.0), (180.0, 190.0)):
        client.feed(tpv(magvar=variation))
        assert last(client.feed(heading))["HEAD"].value == pytest.approx(degrees)


@pytest.mark.parametrize(("key", "field"), [("HEAD", "mag"), ("PITCH", "pitch"), ("ROLL", "roll")])
def test_a_sensor_of_attitude_says_whether_it_is_well(key: str, field: str, clock: Clock) -> None:
    client = Client(clock, attitude=True, heading="magnetic")
    angles = {"class": "ATT", "heading": 1.0, "pitch": 1.0, "roll": 1.0}
    assert client.feed(line(**angles)) == [Update("HEAD", 1.0), Update("PITCH", 1.0), Update("ROLL", 1.0)]
    updates = last(client.feed(line(**angles, **{f"{field}_st": "C"})))
    assert {name for name, update in updates.items() if update.flags} == {key}
    assert updates[key] == Update(key, 1.0, BAD, "the sensor reports 'C'")
    name = "heading" if key == "HEAD" else field
    assert last(client.feed(line(**{**angles, name: 400.0})))[key] == Update(key, None, FAIL, ABSURD)
    assert client.counts["absurd values"] == 1


def test_one_receiver_of_several_is_used(clock: Clock, client: Client) -> None:
    client.feed(tpv(1))
    assert client.feed(tpv(1, device="/dev/ttyUSB1", lat=10.0)) == []
    assert client.counts["reports of other receivers"] == 1
    chosen = Client(clock, device="/dev/ttyUSB1")
    assert chosen.requests() == [b'?WATCH={"enable":true,"json":true,"device":"/dev/ttyUSB1"};\n']
    assert chosen.feed(tpv(1)) == []
    assert last(chosen.feed(tpv(1, device="/dev/ttyUSB1", lat=10.0)))["LAT"].value == 10.0
    chosen.feed(line(**{"class": "DEVICE", "path": DEVICE, "activated": 0}))
    assert last(chosen.feed(tpv(2, device="/dev/ttyUSB1", lat=10.0)))["LAT"].flags == 0
    chosen.feed(line(**{"class": "DEVICES", "devices": [{"path": DEVICE}]}))
    assert chosen.trouble == "gpsd reports no position: it has no receiver /dev/ttyUSB1, but /dev/ttyUSB0"


def test_a_report_that_names_no_receiver_is_of_the_one_that_is_used(client: Client) -> None:
    for device, known in ((None, ""), (DEVICE, DEVICE), (None, DEVICE)):
        assert last(client.feed(tpv(device=device)))["LAT"].flags == 0
        assert client.device == known
    assert client.counts["used"] == 3
    client.feed(line(**{"class": "DEVICES", "devices": [{"path": "/dev/other"}]}))
    assert client.trouble == "", "any will do"


def test_another_receiver_is_used_once_the_first_is_silent(clock: Clock, client: Client) -> None:
    client.feed(tpv(1))
    clock.now += SILENCE_S + 0.1
    client.tick()
    assert last(client.feed(tpv(5, device="/dev/ttyUSB1")))["LAT"].flags == 0


# -- silence -----------------------------------------------------------------------------------------------------------


def test_silence_fails_everything_within_three_seconds_and_asks_why(clock: Clock, client: Client) -> None:
    assert client.requests() == [WATCH]
    client.feed(tpv(1))
    client.feed(line(**{"class": "SKY", "nSat": 7, "uSat": 5}))
    clock.now += SILENCE_S
    assert client.tick() == []
    assert client.requests() == []
    clock.now += 0.2
    updates = last(client.tick())
    assert {"LAT", "LONG", "GS", "TALT", "TIMEZ", "GPS_FIX_TYPE", "GPS_SATS_VISIBLE"} <= {*updates}
    assert all(update.flags == FAIL for update in updates.values())
    assert client.tick() == []
    assert client.requests() == [POLL]
    assert client.requests() == []
    client.feed(line(**{"class": "POLL", "active": 1, "tpv": [json.loads(FULL)]}))
    assert client.trouble == "gpsd reports no position: its receiver is silent"
    clock.now += ASK_S
    assert client.requests() == [POLL]
    assert client.feed(line(**{"class": "POLL", "active": 0, "tpv": [], "sky": []})) == []
    assert client.trouble == "gpsd reports no position: it has no receiver"
    assert client.requests() == []
    assert last(client.feed(tpv(8)))["LAT"].flags == 0
    assert client.trouble == ""


def test_a_receiver_that_is_gone_loses_its_fix_at_once(client: Client) -> None:
    client.feed(tpv(1))
    for activated in ("2026-07-15T12:00:00.000Z", None):
        assert client.feed(line(**{"class": "DEVICE", "path": DEVICE, "activated": activated})) == []
    assert client.feed(line(**{"class": "DEVICE", "path": "/dev/other", "activated": 0})) == []
    updates = client.feed(line(**{"class": "DEVICE", "path": DEVICE, "activated": 0}))
    assert {"LAT", "LONG", "GPS_FIX_TYPE"} <= {update.key for update in updates}
    assert {update.flags for update in updates} == {FAIL}
    assert client.trouble == f"gpsd reports no position: its receiver {DEVICE} is gone"
    assert last(client.feed(tpv(2, device="/dev/ttyUSB1")))["LAT"].flags == 0, "any receiver will do"


def test_before_the_first_report_any_receiver_that_goes_is_missed(client: Client) -> None:
    client.feed(line(**{"class": "DEVICE", "path": DEVICE, "activated": 0}))
    assert client.trouble == f"gpsd reports no position: its receiver {DEVICE} is gone"


def test_of_many_receivers_five_are_named(clock: Clock) -> None:
    client = Client(clock, device="/dev/nope")
    client.feed(line(**{"class": "DEVICES", "devices": [{"path": f"/dev/{n}"} for n in range(9)]}))
    assert client.trouble.endswith("no receiver /dev/nope, but /dev/0, /dev/1, /dev/2, /dev/3, /dev/4")


def test_the_positions_of_a_poll_are_not_current(client: Client) -> None:
    poll = line(**{"class": "POLL", "active": 1, "tpv": [json.loads(FULL)]})
    assert client.feed(poll) == []
    client.feed(tpv(1))
    assert client.feed(poll + line(**{"class": "ERROR", "message": "no"})) == []
    assert client.trouble == "", "while it reports there is nothing to ask"
    client.feed(line(**{"class": "POLL"}))
    assert client.trouble == "gpsd reports no position: it has no receiver"


def test_a_receiver_that_gpsd_never_had_is_asked_for(clock: Clock, client: Client) -> None:
    client.requests()
    client.feed(line(**{"class": "DEVICES", "devices": []}))
    assert client.trouble == "gpsd reports no position: it has no receiver"
    clock.now += SILENCE_S
    assert client.requests() == [POLL]


def test_the_answer_error_is_shown(client: Client) -> None:
    client.feed(line(**{"class": "ERROR", "message": "No such device as /dev/nope\n"}))
    assert client.trouble == "gpsd reports no position: it answers 'No such device as /dev/nope'"
    client.feed(line(**{"class": "ERROR", "message": "x" * 300}))
    assert client.trouble == f"gpsd reports no position: it answers {'x' * 200!r}"
    client.feed(tpv(mode=1))
    assert client.trouble == NO_FIX


def test_a_receiver_whose_time_stands_still_is_bad(clock: Clock, client: Client) -> None:
    flags = []
    for _ in range(20):
        flags.append(last(client.feed(tpv(1)))["LAT"].flags)
        clock.now += 0.5
    assert flags[:5] == [0] * 5
    assert flags[5:] == [BAD] * 15
    assert "late" in client.trouble


def test_what_was_held_up_is_not_served_as_fresh(clock: Clock, client: Client) -> None:
    for second in range(5):
        assert last(client.feed(tpv(second)))["LAT"].flags == 0
        clock.now += 1.0
    clock.now += 20.0
    client.tick()
    for second in range(5, 23):  # all at once
        assert last(client.feed(tpv(second)))["LAT"].flags == BAD
    assert last(client.feed(tpv(25)))["LAT"].flags == 0


def test_a_receiver_may_set_its_clock_back(clock: Clock, client: Client) -> None:
    client.feed(tpv(30))
    for second in range(10, 16):
        clock.now += 1.0
        assert last(client.feed(tpv(second)))["LAT"].flags == 0


@pytest.mark.parametrize(
    ("lags", "flags"),
    [
        ((0.0, 2.0, 2.0), 0),
        ((0.0, 2.1), BAD),
        ((3.0, 0.0, 2.1), BAD),  # the quickest counts
        ((0.0, 1.5, 2.5), BAD),  # what is usual changes slowly
        ((5.0, 5.0), 0),
    ],
)
def test_a_report_is_late_if_others_were_two_seconds_quicker(
    lags: tuple[float, ...], flags: int, clock: Clock, client: Client
) -> None:
    for second, lag in enumerate(lags, 1):
        clock.now = 1000.0 + 10 * second + lag
        updates = last(client.feed(tpv(10 * second)))
    assert updates["LAT"].flags == flags
    assert last(client.feed(tpv(10 * second, status=5)))["LAT"].reason == STATUS[5][1]


def test_clocks_may_drift(clock: Clock, client: Client) -> None:
    for second in range(600):
        clock.now += 1.01
        minutes, rest = divmod(second, 60)
        report = tpv(rest).replace(b"12:00:", b"12:%02d:" % minutes)
        assert last(client.feed(report))["LAT"].flags == 0, second


# -- lines -------------------------------------------------------------------------------------------------------------


def test_a_sky_of_ten_kilobytes_is_read(client: Client) -> None:
    satellites = [{"PRN": n, "az": 1.0, "el": 2.0, "ss": 30.0, "used": n % 2 == 0, "gnssid": 0} for n in range(140)]
    report = line(**{"class": "SKY", "satellites": satellites})
    assert len(report) > 10_000
    cut = [update for n in range(0, len(report), 1000) for update in client.feed(report[n : n + 1000])]
    assert cut == [Update("GPS_SATS_VISIBLE", 140), Update("GPS_SATS_TRACKED", 70)]


def test_a_line_without_an_end_is_given_up(client: Client) -> None:
    for _ in range(0, MAX_LINE * 3, 4096):
        client.feed(b"x" * 4096)
    assert client.counts["too long"] == client.counts["received"] == 1
    client.feed(b"\n")
    assert last(client.feed(b"\n \r\n" + tpv(1)))["LAT"].flags == 0
    assert client.counts["received"] == 2, "an empty line is none"
    assert client.refused == f"too long: {b'x' * 200!r}"
    for length, why in ((MAX_LINE, "malformed"), (MAX_LINE + 1, "too long")):
        client.feed(b"y" * length + b"\n")
        assert client.refused == f"{why}: {b'y' * 200!r}"


def test_after_lost_bytes_the_rest_of_a_line_is_not_read(client: Client) -> None:
    client.feed(tpv(1)[:50])
    client.interrupt()
    assert client.feed(tpv(1)[60:]) == []
    assert last(client.feed(tpv(2)))["LAT"].flags == 0


fields = st.dictionaries(
    st.sampled_from(
        ["mode", "status", "time", "lat", "lon", "speed", "track", "eph", "nSat", "satellites", "activated"]
    ),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers())),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["TPV", "SKY", "ATT", "DEVICE", "DEVICES", "POLL", "ERROR"]), fields)))
def test_whatever_gpsd_reports_nothing_raises_and_the_counters_add_up(
    reports: list[tuple[str, dict[str, Any]]],
) -> None:
    client = Client(Clock(), climb=True, attitude=True, heading="true")
    for kind, more in reports:
        for update in client.feed(json.dumps({**more, "class": kind}).encode() + b"\n"):
            assert update.value is None or update.value == update.value
    counts = client.counts
    assert counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in client.REFUSALS)


def test_one_report_after_much_garbage_is_enough() -> None:
    db = packaged_database()
    with World(db).hosting():
        plugin = Plugin("gps", {})
    plugin._new_protocol()
    plugin.received(b"garbage\n" * 50)
    plugin.received(tpv())
    assert db.read("LAT").good


# -- captures for others -----------------------------------------------------------------------------------------------


def test_a_capture_for_others_has_shifted_positions_and_as_many_bytes() -> None:
    data = tpv(1) + line(**{"class": "AIS", "shipname": "TITANIC", "lat": 50.5}) + b'{"class":"TPV","lat":1}\n'
    shift = Shift(-20, 100)
    clean = without_place(data, shift)
    assert len(clean) == len(data)
    first, second, third, _ = clean.split(b"\n")
    report = json.loads(first)
    assert (report["lat"], report["lon"]) == pytest.approx((24.413666667, -21.314166667))
    assert report["speed"] == 53.657
    assert b"TITANIC" not in second
    assert b"50.5" not in second
    assert json.loads(third)["lat"] == 0


def test_what_else_tells_the_place_is_blanked_and_what_does_not_is_kept() -> None:
    sky = b'{"class":"SKY","satellites":[{"PRN":1,"el":53.0,"az" : 280.0,"ss":36.0}],"ecefx":-2500000.12}'
    kept = b'{"class" : "VERSION","release":"3.22"}\n{"class":"WATCH","enable":true}\n{"class":"SKY","hdop":0.9}'
    assert without_place(kept, Shift(-20, 100)) == kept
    clean = without_place(sky + b"\n" + b'{"no":"class"}', Shift(-20, 100))
    report, rest = clean.split(b"\n")
    assert len(clean) == len(sky) + 15
    satellite = {"PRN": 1, "el": 0.0, "az": 0.0, "ss": 36.0}
    assert json.loads(report) == {"class": "SKY", "satellites": [satellite], "ecefx": 0.0}
    assert b"no" not in rest
    (wide,) = (json.loads(without_place(b'{"class":"TPV","lat":1,"lon":-9.5}', Shift(-20, -100))),)
    assert (wide["lat"], wide["lon"]) == (0, -110), "as far as there is room"


def test_the_plugin_cleans_its_captures() -> None:
    options = GpsdOptions()
    pieces = [tpv(1)[:100], tpv(1)[100:]]
    entries = [Heard("gps", float(n), "in", piece) for n, piece in enumerate(pieces)] + [
        Heard("gps", 2.0, "out", WATCH)
    ]
    clean = Plugin.anonymise(options, entries, Shift.random(Random(1), 44.0), True)
    assert clean is not None
    assert [len(entry.data) for entry in clean] == [len(piece) for piece in pieces]
    assert b"44.41" not in b"".join(entry.data for entry in clean)


# -- the virtual gpsd --------------------------------------------------------------------------------------------------


def test_the_virtual_gpsd_speaks_as_the_real_one(clock: Clock, client: Client) -> None:
    class Line:
        def write(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    gpsd = Gpsd(Line())
    aircraft = Aircraft(datetime(2026, 7, 15, 12, tzinfo=UTC), turbulence=0.0)
    assert gpsd.frames(aircraft, 0.0) == []
    assert all(b'"class":"ERROR"' in answer for answer in gpsd.answers(WATCH + POLL))
    for answer in gpsd.answers(client.requests()[0]):
        client.feed(answer)
    found = last([update for frame in gpsd.frames(aircraft, 0.0) for update in client.feed(frame)])
    truth = aircraft.values()
    for key in (*FIX_KEYS, "GPS_SATS_TRACKED", "GPS_SATS_VISIBLE", "GPS_FIX_TYPE"):
        assert found[key].value == pytest.approx(truth[key], rel=1e-3, abs=1e-2), key
    assert client.trouble == ""


class GpsdBench(TcpBench):
    """TCP delivers every byte, and no other."""

    CAN = TcpBench.CAN - {"garbage"}


class TestContract(Contract):
    subject = GpsdBench.of(
        "fixgw.drivers.gpsd",
        Gpsd,
        "LAT LONG GS TRACK TRACKM TALT GPS_ELLIPSOID_ALT GPS_FIX_TYPE GPS_SATS_TRACKED GPS_SATS_VISIBLE TIMEZ "
        "GPS_ACCURACY_HORIZ GPS_ACCURACY_VERTICAL GPS_ACCURACY_SPEED",
        checksum=False,
        within={"LAT": 0.001, "LONG": 1e-6, "TALT": 1.0, "GPS_ELLIPSOID_ALT": 1.0, "GS": 0.01, "GPS_FIX_TYPE": 0.0},
        absurd={"LAT": 95.0, "GS": 4000.0, "TRACK": 400.0},
        repeats=True,
    )


# -- the real gpsd -----------------------------------------------------------------------------------------------------

GPSD = shutil.which("gpsd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class RealGpsd:
    """gpsd of the distribution, with a receiver on a pseudo-terminal."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.tcp_port: int = free.getsockname()[1]
        self.receiver = VirtualPort()
        self.aircraft = Aircraft(datetime.now(UTC), turbulence=0.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._sent = 0.0

    def start(self) -> None:
        assert GPSD is not None
        command = [GPSD, "-N", "-n", "-b", "-S", str(self.tcp_port), self.receiver.path]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(5.0)
            self._process = None

    def send(self) -> None:
        """An epoch of the receiver, five times a second."""
        if time.monotonic() - self._sent > 0.2:
            self._sent = time.monotonic()
            self.aircraft.time = datetime.now(UTC)
            for body in epoch(self.aircraft.values(), self.aircraft.time):
                self.receiver.write(sentence(body))

    def close(self) -> None:
        self.stop()
        self.receiver.close()


@pytest.fixture
def real() -> Iterator[RealGpsd]:
    gpsd = RealGpsd()
    yield gpsd
    gpsd.close()


@pytest.mark.slow
@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_the_real_gpsd_comes_reports_falls_silent_restarts_and_goes(real: RealGpsd) -> None:
    db = packaged_database()
    before = database.current()
    database.bind(db)
    plugin = Plugin("gpsd", {"port": real.tcp_port})
    skipped = 0.0  # seconds that the test does not wait for
    plugin.clock = lambda: now() + skipped

    def until(condition: Callable[[], object], sending: bool = True) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, (plugin.health(), db.read("LAT").reasons)
            if sending:
                real.send()
            time.sleep(0.02)

    plugin.start()
    try:
        until(lambda: "refused" in plugin.health())
        real.start()
        until(lambda: db.read("TALT").good and db.read("GPS_SATS_VISIBLE").good and not plugin.health())
        truth = real.aircraft.values()
        for key in ("LAT", "LONG", "GS", "TRACK", "TALT"):
            assert db.read(key).value == pytest.approx(truth[key], rel=1e-4), key
        assert db.read("GPS_FIX_TYPE").value == 3
        assert plugin.get_status()["receiver"] == real.receiver.path
        real.receiver.unplug()  # and gpsd says nothing
        skipped += SILENCE_S
        until(lambda: db.read("LAT").fail, sending=False)
        until(lambda: "its receiver is silent" in plugin.health(), sending=False)
        assert plugin.counts["malformed"] == 0
        real.stop()
        until(lambda: "refused" in plugin.health(), sending=False)
        real.receiver.plug()
        real.start()
        until(lambda: db.read("LAT").good and not plugin.health())
    finally:
        began = time.monotonic()
        plugin.shutdown()
        database.bind(before)
        db.stop()
    assert time.monotonic() - began < 1.0


@pytest.mark.slow
@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_the_real_gpsd_names_a_receiver_that_it_does_not_have(real: RealGpsd) -> None:
    real.start()
    client = Client(now, device="/dev/nope")
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection(("127.0.0.1", real.tcp_port), 10.0)
        except OSError:
            time.sleep(0.02)
            continue
        break
    with connection:
        connection.sendall(client.requests()[0])
        while "No such device" not in client.trouble and time.monotonic() < deadline:
            client.feed(connection.recv(4096))
    assert client.trouble == "gpsd reports no position: it answers 'No such device as /dev/nope'"
