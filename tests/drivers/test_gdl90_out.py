"""GDL 90 output: what a tablet shows, by an independent decoder; who gets it, and what must not leave."""

from __future__ import annotations

import errno
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL, Database, Definition
from fixgw.drivers.efb_text import parse
from fixgw.drivers.gdl90 import (
    AttitudeForeFlight,
    AttitudeLE,
    GeometricAltitude,
    Heartbeat,
    Identity,
    Message,
    Report,
    StratuxHeartbeat,
    decode,
    encode,
    frame,
)
from fixgw.drivers.gdl90_out import FORGET_TABLET_S, LISTEN_AGAIN_S, MAX_TABLETS, UNREACHABLE_S, OutOptions, Plugin
from fixgw.drivers.gdl90_out.protocol import UNASSIGNED, Own, Speaker, Turns, read_announcement
from fixgw.errors import DeviceError
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import OutwardBench, Subject, packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.tablet import Seen, Tablet
from fixgw.kit import traffic
from fixgw.kit.outward import Outward
from fixgw.kit.traffic import Target
from fixgw.world import World

pytestmark = pytest.mark.slow

FLYING: dict[str, Any] = {
    "LAT": 48.1173,
    "LONG": 11.516666,
    "GS": 122.4,
    "TRACK": 84.4,
    "TRACKM": 81.3,
    "TALT": 1789.4,
    "PALT": 1700.0,
    "VS": -300.0,
    "GPS_ELLIPSOID_ALT": 1943.2,
    "GPS_ACCURACY_HORIZ": 20.0,
    "GPS_FIX_TYPE": 3,
    "TIMEZ": "12:00:00",
    "HEAD": 78.0,
    "ROLL": -12.5,
    "PITCH": 7.3,
    "IAS": 104.0,
    "TAS": 112.4,
    "ACID": "D-EABC",
}
KLM = Target(
    0x40621D,
    callsign="KLM1023",
    lat=48.2,
    lon=11.6,
    altitude_ft=38000.0,
    ground_speed_kt=420.0,
    track_deg=90.0,
    vertical_speed_fpm=-640.0,
    source="sbs",
)


class Bench:
    """An output on a wound clock, and a tablet."""

    def __init__(self, source: str = "efb", announces: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.db = packaged_database(self.clock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.ears: int = free.getsockname()[1]
        self.tablet = Tablet(("127.0.0.1", self.ears))
        there = {"allow": ["127.0.0.0/8"], "announcement_port": self.ears}
        if not announces and "text_targets" not in options:
            there["targets"] = [f"127.0.0.1:{self.tablet.port}"]
        with World(self.db, clock=self.clock).hosting():
            self.plugin = Plugin("efb", {**there, **options})
        self.plugin.source = source
        self.write(**FLYING)

    def write(self, source: str = "gps", **values: Any) -> None:
        for key, value in values.items():
            self.db.write(key, value, source, 0)

    def fly(self, seconds: float = 1.0, fresh: bool = True) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.now += 0.1
            if fresh:
                for key in FLYING.keys() - {"ACID"}:
                    reading = self.db.read(key)
                    if not reading.fail and not reading.bad:
                        self.db.write(key, reading.value, reading.source, 0)
            self.plugin.step(0.0)
            self.tablet.hear(self.clock.now)
        assert self.tablet.complaints == []

    def position(self) -> Seen | None:
        return self.tablet.position(self.clock.now)

    def close(self) -> None:
        self.plugin.close()
        self.tablet.close()


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[Bench] = []

    def bench(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield bench
    for each in made:
        each.close()


@pytest.fixture
def bench(make: Any) -> Bench:
    made: Bench = make()
    return made


@pytest.mark.parametrize(
    ("metres", "nic", "nacp"),
    [
        *[(2.9, 8, 11), (3.1, 8, 10), (9.9, 8, 10), (10.1, 8, 9), (29.9, 8, 9), (30.1, 8, 8), (74.0, 8, 8)],
        *[(74.2, 7, 8), (92.5, 7, 8), (92.7, 7, 7), (148.1, 7, 7), (148.3, 6, 7), (444.4, 6, 6), (444.6, 5, 6)],
        *[(185.1, 6, 7), (185.3, 6, 6), (555.5, 5, 6), (555.7, 5, 5), (925.9, 4, 5), (926.1, 4, 4), (1851.9, 3, 4)],
        *[(1852.1, 3, 3), (3703.9, 2, 3), (3704.1, 2, 2), (7407.9, 1, 2), (7408.1, 1, 1)],
        *[(740.7, 5, 5), (740.9, 4, 5), (1481.5, 4, 4), (1481.7, 3, 4), (2963.1, 3, 3), (2963.3, 2, 3)],
        *[
            (5926.3, 2, 2),
            (5926.5, 1, 2),
            (14815.9, 1, 1),
            (14816.1, 0, 1),
            (18519.0, 0, 1),
            (18521.0, 0, 0),
            (None, 6, 0),
        ],
    ],
)
def test_how_good_a_position_is(clock: Clock, metres: float | None, nic: int, nacp: int) -> None:
    db = Database([Definition(key=key, type="float") for key in ("LAT", "LONG", "GPS_ACCURACY_HORIZ")], clock)
    known = {"LAT": 48.0, "LONG": 11.0} | ({} if metres is None else {"GPS_ACCURACY_HORIZ": metres / 0.3048})
    for key, value in known.items():
        db.write(key, value, "gps", 0)
    messages = Speaker(Outward(db.read, clock), clock, Own()).second()
    (own,) = (said for message in messages if isinstance(said := decode(message), Report))
    assert (own.nic, own.nacp) == (nic, nacp)


class Spoken:
    """A speaker, and what its messages say. It knows all values but those of the keys that are `unknown`."""

    def __init__(self, own: Own | None = None, unknown: str = "", **values: Any) -> None:
        self.clock = Clock()
        known = {**FLYING, "ALAT": 0.1, "ROT": -2.5, "ANORM": 1.2, "GPS_ACCURACY_VERTICAL": 19.7} | values
        self.db = db = packaged_database(self.clock)
        for key in known.keys() - unknown.split():
            db.write(key, known[key], "gps", 0)
        self.speaker = Speaker(Outward(db.read, self.clock), self.clock, own or Own())

    def second(self, kind: type[Message], as_stratux: bool = False) -> Any:
        """The message of a kind, of those once a second; None if there is none."""
        messages = [message for each in self.speaker.second(as_stratux) if (message := decode(each)) is not None]
        (*found,) = (message for message in messages if isinstance(message, kind))
        return found[0] if found else None


def test_the_report_of_this_aircraft() -> None:
    assert Spoken().second(Report) == Report(
        own=True,
        address=0xF00000,  # as other senders without an address have it
        address_type=1,
        lat=pytest.approx(48.1173, abs=2e-5),  # type: ignore[arg-type]
        lon=pytest.approx(11.516666, abs=2e-5),  # type: ignore[arg-type]
        altitude_ft=1700,
        airborne=True,
        track_kind="true_track",
        track_deg=84.375,
        nic=8,
        nacp=10,
        ground_speed_kt=122,
        vertical_speed_fpm=-320,
        emitter=1,  # light
        callsign="DEABC",
    )
    known = Spoken(Own(0x3C1234)).second(Report)
    assert (known.address, known.address_type) == (0x3C1234, 0)


def test_without_a_position_nothing_vouches_for_one() -> None:
    report = Spoken(unknown="LAT").second(Report)
    assert (report.lat, report.lon, report.nic, report.nacp) == (None, None, 0, 0)
    assert (report.altitude_ft, report.ground_speed_kt, report.callsign) == (1700, 122, "DEABC")


@pytest.mark.parametrize(("knots", "flies"), [(0.0, False), (35.0, False), (35.01, True), (None, False)])
def test_an_aircraft_flies_above_35_kt(knots: float | None, flies: bool) -> None:
    spoken = Spoken(unknown="GS") if knots is None else Spoken(GS=knots)
    assert spoken.second(Report).airborne is flies
    assert Spoken(Own(airborne_above_kt=34.0), GS=35.0).second(Report).airborne


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ("D-EABC", "DEABC"),
        ("n123ab", "N123AB"),
        ("KLM 1023", "KLM 1023"),
        ("KLM1023XYZ", "KLM1023X"),
        ("\u00d6E.1", "E1"),
    ],
)
def test_a_call_sign_has_eight_letters_digits_and_blanks(said: str, call: str) -> None:
    assert Spoken(ACID=said).second(Report).callsign == call
    assert Spoken(Own(no_call=said), ACID=said).second(Report).callsign == ""
    assert Spoken(Own(no_call="N1"), ACID=said).second(Report).callsign == call


def test_a_call_sign_does_not_age() -> None:
    spoken = Spoken()
    spoken.clock.now += 3600.0
    report = spoken.second(Report)
    assert (report.callsign, report.ground_speed_kt) == ("DEABC", None)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("12:00:01", 43201),
        ("00:00:00", 0),
        ("09:59:59", 35999),
        ("23:59:59", 86399),
        ("23:59:60", 86399),  # a leap second
        ("24:00:00", None),
        ("12:60:00", None),
        ("12:00:61", None),
        ("12:00", None),
        ("12:00:01.5", None),
        (None, None),
    ],
)
def test_the_heartbeat_has_the_time_of_day_and_says_whether_it_is_utc(time: str | None, seconds: int | None) -> None:
    spoken = Spoken(unknown="TIMEZ") if time is None else Spoken(TIMEZ=time)
    spoken.clock.now += 0.5 - spoken.clock.now % 1 + 2 * 86400
    own = int(spoken.clock.now) % 86400
    for key in ("LAT", "LONG", "GPS_FIX_TYPE", *(["TIMEZ"] if time is not None else [])):
        spoken.db.write(key, time if key == "TIMEZ" else FLYING[key], "gps", 0)
    assert spoken.second(Heartbeat) == Heartbeat(
        True, utc_ok=seconds is not None, seconds=own if seconds is None else seconds
    )
    assert not Spoken(unknown="LONG").second(Heartbeat).gps_valid


@pytest.mark.parametrize(("feet", "metres"), [(19.7, 7), (19.6, 6), (0.0, 0), (None, None)])
def test_the_height_has_its_error_rounded_up(feet: float | None, metres: int | None) -> None:
    spoken = Spoken(unknown="GPS_ACCURACY_VERTICAL") if feet is None else Spoken(GPS_ACCURACY_VERTICAL=feet)
    assert spoken.second(GeometricAltitude) == GeometricAltitude(1945, vfom_m=metres)


def test_a_height_that_does_not_fit_or_has_no_position_is_not_sent() -> None:
    assert Spoken(unknown="GPS_ELLIPSOID_ALT").second(GeometricAltitude) is None
    assert Spoken(unknown="LAT").second(GeometricAltitude) is None

    for feet, sent in ((163_834.0, 163_835), (163_835.0, None), (-163_834.0, -163_835), (-163_835.0, None)):
        spoken = Spoken()
        spoken.speaker._number = lambda key, feet=feet: feet if key == "GPS_ELLIPSOID_ALT" else None  # type: ignore[assignment]
        said = spoken.second(GeometricAltitude)
        assert (said and said.altitude_ft) == sent


def test_the_device_has_a_name() -> None:
    assert Spoken().second(Identity) == Identity("fixgw", "FIX Gateway")


@pytest.mark.parametrize(("unknown", "gps", "ahrs"), [("", True, True), ("LAT", False, True), ("PITCH", True, False)])
def test_the_heartbeat_of_a_stratux(unknown: str, gps: bool, ahrs: bool) -> None:
    spoken = Spoken(unknown=unknown)
    assert not any(isinstance(decode(message), StratuxHeartbeat) for message in spoken.speaker.second())
    assert spoken.second(StratuxHeartbeat, as_stratux=True) == StratuxHeartbeat(gps, ahrs)


def test_attitude_in_both_formats() -> None:
    foreflight, stratux = map(decode, Spoken().speaker.attitude(stratux=True))
    assert foreflight == AttitudeForeFlight(-12.5, 7.3, 78.0, True, 104, 112)
    # to the right 0.1 g: the ball is 5.7 degrees to the left
    assert stratux == AttitudeLE(-12.5, 7.3, 78.0, -5.7, -2.5, 1.2, None, 1700, -300)
    assert [*map(decode, Spoken().speaker.attitude())] == [foreflight]
    assert [*map(decode, Spoken().speaker.attitude(foreflight=False, stratux=True))] == [stratux]
    (unknown,) = map(decode, Spoken(unknown="HEAD IAS").speaker.attitude())
    assert unknown == AttitudeForeFlight(-12.5, 7.3, None, None, None, 112)
    (unknown,) = map(decode, Spoken(unknown="ALAT VS").speaker.attitude(False, True))
    assert unknown == AttitudeLE(-12.5, 7.3, 78.0, None, -2.5, 1.2, None, 1700, None)


@pytest.mark.parametrize(("side", "slip"), [(0.0, 0.0), (1.0, -90.0), (-1.0, 90.0), (1.01, None), (-0.5, 30.0)])
def test_slip_is_where_the_ball_is(side: float, slip: float | None) -> None:
    (said,) = map(decode, Spoken(ALAT=side).speaker.attitude(False, True))
    assert isinstance(said, AttitudeLE)
    assert said.slip_deg == slip


def test_attitude_needs_roll_and_pitch() -> None:
    for unknown in ("ROLL", "PITCH"):
        assert Spoken(unknown=unknown).speaker.attitude() == []
    spoken = Spoken()
    assert spoken.speaker.attitude(False, False) == []
    spoken.clock.now += 10.0
    assert [*map(decode, spoken.speaker.attitude())] == [AttitudeForeFlight()], "it is lost"


def test_what_is_not_known_of_another_aircraft_is_not_said() -> None:
    target = Target(0xABCDEF, 3, lat=48.0, lon=-11.0, on_ground=True, emitter=14, emergency=True, source="sbs")
    made = Spoken().speaker.report(target)
    assert made is not None
    report = decode(made)
    assert isinstance(report, Report)
    assert (report.own, report.address, report.address_type, report.nic, report.nacp) == (False, 0xABCDEF, 3, 6, 0)
    assert (report.altitude_ft, report.track_kind, report.track_deg) == (None, None, None)
    assert (report.ground_speed_kt, report.vertical_speed_fpm) == (None, None)
    assert (report.airborne, report.emitter, report.callsign, report.emergency) == (False, 14, "", 1)
    for nowhere in (target._replace(lat=None), target._replace(lon=None)):
        assert Spoken().speaker.report(nowhere) is None


@pytest.mark.parametrize("unknown", ["LAT", "LONG", "TALT", "TRACK", "GS"])
def test_a_line_of_the_position_needs_all_of_it(unknown: str) -> None:
    assert Spoken().speaker.gps_line() == b"XGPSFIX Gateway,11.516666,48.117300,545.4,84.40,62.97"
    for track, said in ((359.5, b",359.50,"), (360.0, b",0.00,")):
        line = Spoken(TRACK=track).speaker.gps_line()
        assert line is not None
        assert said in line
    assert Spoken(unknown=unknown).speaker.gps_line() is None


@pytest.mark.parametrize("unknown", ["ROLL", "PITCH", "HEAD", "TRACK", "TRACKM"])
def test_a_line_of_the_attitude_needs_all_of_it(unknown: str) -> None:
    assert Spoken().speaker.attitude_line() == b"XATTFIX Gateway,81.10,7.30,-12.50"
    assert Spoken(HEAD=359.0).speaker.attitude_line() == b"XATTFIX Gateway,2.10,7.30,-12.50"
    assert Spoken(TRACK=1.0, TRACKM=358.0, HEAD=2.0).speaker.attitude_line() == b"XATTFIX Gateway,5.00,7.30,-12.50"
    assert Spoken(unknown=unknown).speaker.attitude_line() is None


@pytest.mark.parametrize(
    "unknown", ["lat", "lon", "altitude_ft", "vertical_speed_fpm", "track_deg", "ground_speed_kt", "source"]
)
def test_a_line_of_another_aircraft_needs_all_of_it(unknown: str) -> None:
    speaker = Spoken().speaker
    assert speaker.traffic_line(KLM._replace(on_ground=True, callsign=None)) == (
        b"XTRAFFICFIX Gateway,4219421,48.200000,11.600000,38000,-640,0,90.0,420,"
    )
    other: dict[str, Any] = {unknown: "sim/sbs" if unknown == "source" else None}
    assert speaker.traffic_line(KLM._replace(**other)) is None


# -- what the tablet shows ---------------------------------------------------------------------------------------------


def test_a_tablet_shows_the_flight(bench: Bench) -> None:
    bench.fly(2.0)
    seen = bench.position()
    assert seen is not None
    assert seen.lat == pytest.approx(48.1173, abs=3e-5)
    assert seen.lon == pytest.approx(11.516666, abs=3e-5)
    assert (seen.altitude, seen.knots, seen.climb, seen.call, seen.airborne) == (1700, 122, -320, "DEABC", True)
    assert seen.track == pytest.approx(84.4, abs=0.71)
    assert (seen.nic, seen.nacp, seen.address) == (8, 10, UNASSIGNED)
    attitude = bench.tablet.attitude(bench.clock.now)
    assert attitude == (-12.5, 7.3, 78.0, 104, 112)
    assert bench.tablet.height(bench.clock.now) == 1945
    assert bench.tablet.name == "FIX Gateway"


def test_the_rates_are_those_of_the_specification(bench: Bench) -> None:
    bench.fly(1.0)
    before = bench.tablet.datagrams, bench.tablet.heartbeats
    bench.fly(10.0)
    assert bench.tablet.heartbeats - before[1] == 10
    assert bench.tablet.datagrams - before[0] == 10 * (4 + 5)


@pytest.mark.parametrize("key", ["LAT", "LONG", "GPS_FIX_TYPE"])
@pytest.mark.parametrize("how", ["fail", "bad", "old", "simulated", "overridden"])
def test_no_position_leaves_that_is_not_good_and_real(bench: Bench, key: str, how: str) -> None:
    bench.fly()
    assert bench.position() is not None
    if how == "fail":
        bench.db.item(key).flag(FAIL, FAIL, "gps")
    elif how == "bad":
        bench.db.item(key).flag(BAD, BAD, "gps")
    elif how == "old":
        bench.db.item(key).fail("silent", "gps")
    else:
        bench.write("sim/gps" if how == "simulated" else "override/me", **{key: FLYING[key]})
    bench.fly(1.2)
    assert bench.position() is None
    assert bench.tablet.connected(bench.clock.now), "it still says that it is there"


def test_what_is_older_than_max_age_is_not_sent(make: Any) -> None:
    bench = make(max_age=0.5)
    bench.fly()
    assert bench.position() is not None
    bench.fly(1.4, fresh=False)
    assert bench.db.read("LAT").good
    assert bench.position() is None
    assert bench.tablet.attitude(bench.clock.now) is None
    assert bench.tablet.pressure_altitude(bench.clock.now) is None


def test_zero_zero_is_never_sent_as_a_position(bench: Bench) -> None:
    """The virtual tablet complains about a position in the Gulf of Guinea."""
    bench.write(LAT=0.00001, LONG=-0.000001)
    bench.fly()
    assert bench.position() is None
    bench.write(LAT=0.0, LONG=6.0)
    bench.fly()
    assert bench.position() is not None


def test_without_a_fix_everything_else_is_still_there(bench: Bench) -> None:
    bench.write(GPS_FIX_TYPE=1)
    bench.fly()
    assert bench.position() is None
    assert bench.tablet.pressure_altitude(bench.clock.now) == 1700
    assert bench.tablet.attitude(bench.clock.now) is not None


def test_no_altitude_replaces_a_missing_pressure_altitude(bench: Bench) -> None:
    bench.db.item("PALT").fail("no sensor", "adc")
    bench.write(ALT=1500.0)
    bench.fly()
    seen = bench.position()
    assert seen is not None
    assert seen.altitude is None


def test_unknown_values_are_marked_and_not_zero(bench: Bench) -> None:
    for key in ("GS", "TRACK", "VS", "HEAD", "IAS", "TAS", "GPS_ACCURACY_HORIZ"):
        bench.db.item(key).fail("lost", "gps")
    bench.fly()
    seen = bench.position()
    assert seen is not None
    assert (seen.knots, seen.track, seen.climb, seen.airborne, seen.nacp) == (None, None, None, False, 0)
    assert bench.tablet.attitude(bench.clock.now) == (-12.5, 7.3, None, None, None)


def test_attitude_that_is_lost_is_sent_as_not_known_and_one_that_never_was_is_not_sent(make: Any) -> None:
    bench = make()
    bench.db.item("ROLL").fail("lost", "ahrs")
    bench.fly()
    sent = bench.tablet.datagrams
    bench.fly()
    assert bench.tablet.datagrams - sent == 4
    bench.write(ROLL=1.0)
    bench.fly()
    assert bench.tablet.attitude(bench.clock.now) is not None
    bench.db.item("ROLL").fail("lost", "ahrs")
    bench.fly(0.3)
    assert bench.tablet.attitude(bench.clock.now) is None


def test_a_call_sign_that_nobody_has_set_is_not_sent(bench: Bench) -> None:
    bench.write(ACID="N12345")
    bench.fly()
    seen = bench.position()
    assert seen is not None
    assert seen.call == ""


@pytest.mark.parametrize(("options", "source"), [({"simulated": True}, "efb"), ({}, "sim/efb")])
def test_a_bench_sends_simulated_values_if_it_is_told_so(make: Any, options: dict[str, Any], source: str) -> None:
    bench = make(source=source, **options)
    bench.write("sim/gps", LAT=48.0, LONG=11.0)
    bench.fly()
    assert bench.position() is not None


def test_formats_of_a_stratux_are_sent_on_request(make: Any) -> None:
    bench = make(attitude=["foreflight", "stratux"], attitude_rate=10.0, as_stratux=True)
    bench.fly(1.0)
    before = bench.tablet.datagrams
    bench.fly(2.0)
    assert bench.tablet.datagrams - before == 2 * (5 + 20)


# -- traffic -----------------------------------------------------------------------------------------------------------


def table(bench: Bench) -> traffic.Table:
    return traffic.table(bench.db)


def test_reports_are_forwarded_unchanged_and_others_are_made(bench: Bench) -> None:
    report = Report(False, 0x3C6444, lat=48.0, lon=11.0, nic=9, nacp=9, callsign="DLH5", emitter=3, emergency=1)
    table(bench).put(Target(0x3C6444, lat=48.0, lon=11.0, source="stratux", report=encode(report)))
    table(bench).put(KLM)
    heard: list[bytes] = []
    bench.plugin._send = lambda datagrams, targets: heard.extend(datagrams)  # type: ignore[method-assign]
    bench.fly(0.3)
    assert frame(encode(report)) in heard
    made = [decode(each) for each in map(unframed, heard) if each[:1] == b"\x14" and each != encode(report)]
    assert made == [
        Report(
            False,
            0x40621D,
            lat=pytest.approx(48.2, abs=2e-5),  # type: ignore[arg-type]
            lon=pytest.approx(11.6, abs=2e-5),  # type: ignore[arg-type]
            altitude_ft=38000,
            airborne=True,
            track_kind="true_track",
            track_deg=90.0,
            nic=6,
            ground_speed_kt=420,
            vertical_speed_fpm=-640,
            callsign="KLM1023",
        )
    ]


def unframed(datagram: bytes) -> bytes:
    from fixgw.drivers.gdl90 import unframe

    return unframe(datagram[1:-1]) or b""


def test_a_target_is_sent_once_for_each_news_and_at_most_once_a_second(bench: Bench) -> None:
    for _ in range(20):
        table(bench).put(KLM)
        bench.fly(0.1)
    assert bench.plugin.counts["traffic"] == 2
    assert list(bench.tablet.traffic(bench.clock.now)) == [0x40621D]
    bench.fly(10.0)
    assert bench.plugin.counts["traffic"] <= 3
    assert bench.tablet.traffic(bench.clock.now) == {}


@pytest.mark.parametrize(
    "target",
    [
        KLM._replace(source="sim/other"),
        KLM._replace(lat=None),
        KLM._replace(address=0x3C1234),
    ],
    ids=["simulated", "no position", "ourselves"],
)
def test_traffic_that_must_not_leave(make: Any, target: Target) -> None:
    bench = make(address="3C1234")
    table(bench).put(target)
    bench.fly()
    assert bench.tablet.traffic(bench.clock.now) == {}
    seen = bench.position()
    assert seen is not None
    assert seen.address == 0x3C1234


def test_traffic_of_before_a_hold_up_is_not_sent(bench: Bench) -> None:
    bench.fly()
    table(bench).put(KLM)
    bench.clock.now += 10.0
    bench.fly()
    assert bench.tablet.traffic(bench.clock.now) == {}


def test_turns_forget_targets_that_are_gone(clock: Clock) -> None:
    turns = Turns(clock)
    (first, second) = (KLM._replace(placed_at=clock.now), KLM._replace(placed_at=clock.now + 0.94))
    assert [*turns.due([first])] == [first]
    clock.now += 0.94
    assert [*turns.due([second])] == [], "each once a second"
    clock.now += 0.02
    assert [*turns.due([second])] == [second]
    for address in range(1000):
        assert list(turns.due([KLM._replace(address=address, placed_at=clock.now)]))
    assert len(turns._sent) == 1


def test_a_target_has_a_turn_a_second_and_only_with_news(clock: Clock) -> None:
    turns, began = Turns(clock, 1.0), clock.now
    sent = []
    for tenths in range(35):
        clock.now = began + tenths / 8
        placed_at = began + min(tenths, 20) / 8  # no news after the 20th
        if list(turns.due([KLM._replace(placed_at=placed_at)])):
            sent.append(tenths)
    assert sent == [0, 8, 16, 24]


# -- text --------------------------------------------------------------------------------------------------------------


def test_programs_without_gdl90_get_lines_of_text(make: Any) -> None:
    bench = make(text_targets=["127.0.0.1:4"])
    bench.plugin._text = [("127.0.0.1", bench.tablet.port)]
    table(bench).put(KLM)
    bench.fly(1.2)
    lines = {line[:4]: line for line in bench.tablet.lines}
    assert lines["XGPS"] == "XGPSFIX Gateway,11.516666,48.117300,545.4,84.40,62.97"
    assert lines["XATT"] == "XATTFIX Gateway,81.10,7.30,-12.50"
    assert lines["XTRA"] == "XTRAFFICFIX Gateway,4219421,48.200000,11.600000,38000,-640,1,90.0,420,KLM1023"
    assert all(not isinstance(parse(line.encode()), str) for line in bench.tablet.lines)


def test_a_line_that_would_need_an_unknown_value_is_not_sent(make: Any) -> None:
    bench = make(text_targets=["127.0.0.1:4"])
    bench.plugin._text = [("127.0.0.1", bench.tablet.port)]
    table(bench).put(KLM._replace(vertical_speed_fpm=None))
    for key in ("TALT", "TRACKM"):
        bench.db.item(key).fail("lost", "gps")
    bench.fly(4.5)
    assert bench.tablet.lines == []
    assert bench.plugin.health() == ""


# -- who gets it -------------------------------------------------------------------------------------------------------


def test_a_tablet_that_announces_itself_gets_it_until_it_falls_silent(make: Any) -> None:
    bench = make(announces=True)
    bench.fly(0.2)
    assert bench.tablet.datagrams == 0
    bench.tablet.tick(Aircraft(), bench.clock.now)
    bench.fly(1.2)
    assert bench.position() is not None
    assert list(bench.plugin.get_status()["tablets"].values()) == ["ForeFlight, 1 s ago"]
    bench.fly(FORGET_TABLET_S)
    sent = bench.tablet.datagrams
    bench.fly(2.0)
    assert bench.tablet.datagrams == sent
    assert bench.plugin.tablets == {}
    assert bench.plugin.health() == ""


def test_strangers_are_not_heard(make: Any) -> None:
    bench = make(announces=True, allow=["127.0.0.2"])
    bench.fly(0.2)
    bench.tablet.tick(Aircraft(), bench.clock.now)
    bench.fly(1.2)
    assert bench.tablet.datagrams == 0
    assert bench.plugin.counts["announcements refused"] == 1


def test_only_so_many_tablets_get_it(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench = make(announces=True)
    bench.fly(0.1)
    tablets = [Tablet(("127.0.0.1", bench.ears), host=f"127.0.0.{n}") for n in range(2, 4 + MAX_TABLETS)]
    try:
        with caplog.at_level(logging.WARNING):
            for tablet in tablets:
                tablet.tick(Aircraft(), bench.clock.now)
                bench.fly(0.1)
    finally:
        for tablet in tablets:
            tablet.close()
    assert len(bench.plugin.tablets) == MAX_TABLETS
    assert bench.plugin.counts["announcements refused"] == 2
    assert len(caplog.messages) == 1


def test_without_allow_nobody_is_heard(make: Any) -> None:
    bench = make(allow=[])
    bench.fly(0.2)
    assert bench.plugin._ears is None
    assert bench.position() is not None


@pytest.mark.parametrize(
    ("data", "port"),
    [
        (b'{"App":"ForeFlight","GDL90":{"port":4000}}', 4000),
        (b'{"App":"FF\\u0007\\n","GDL90":{"port":1},"more":[1]}', 1),
        (b'{"App":"ForeFlight","GDL90":{"port":65535}}', 65535),
        (b'{"App":"ForeFlight","GDL90":{"port":65536}}', None),
        (b'{"App":"ForeFlight","GDL90":{"port":4000}}'.ljust(2000), 4000),
        (b'{"App":"ForeFlight","GDL90":{"port":4000}}'.ljust(2001), None),
        (b'{"App":"ForeFlight","GDL90":{"port":-1}}', None),
        (b'{"App":"ForeFlight","GDL90":{"port":0}}', None),
        (b'{"App":"ForeFlight","GDL90":{"port":true}}', None),
        (b'{"App":"ForeFlight","GDL90":{"port":"4000"}}', None),
        (b'{"App":7,"GDL90":{"port":4000}}', None),
        (b'{"App":"ForeFlight"}', None),
        (b"[" * 100_000, None),
        (b"[" * 1_900, None),
        (b"null", None),
        (b"", None),
    ],
)
def test_announcements(data: bytes, port: int | None) -> None:
    said = read_announcement(data)
    assert (said and said.port) == port
    assert said is None or said.app in ("ForeFlight", "FF")


def test_the_name_of_an_app_is_cut() -> None:
    said = read_announcement(b'{"App":"%s","GDL90":{"port":4000}}' % (b"x" * 41))
    assert said is not None
    assert said.app == "x" * 40


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_announcement_is_read_or_refused(data: bytes | str) -> None:
    read_announcement(data if isinstance(data, bytes) else data.encode())


def test_an_app_that_sleeps_is_no_error_and_an_unreachable_network_is_reported(make: Any) -> None:
    bench = make(targets=["127.0.0.1:9"])
    bench.fly(5.0)
    assert bench.plugin.health() == ""
    bench.plugin._senders[False].send = lambda data, address: False
    bench.fly(UNREACHABLE_S + 1.0)
    assert bench.plugin.health() == "nothing can be sent to 127.0.0.1"
    assert bench.plugin.counts["not sent"]


def test_a_target_that_needs_ipv6_does_not_stop_the_others_on_a_computer_without_it(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def socket_without_ipv6(family: int, *more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *more)

    bench, real = make(allow=[]), socket.socket
    bench.plugin._fixed.append(("fd00::1", 4000))
    monkeypatch.setattr("fixgw.net.udp.socket.socket", socket_without_ipv6)
    bench.fly(UNREACHABLE_S + 1.0)
    assert bench.position() is not None
    assert bench.plugin.health() == "nothing can be sent to fd00::1"
    bench.plugin._fixed.remove(("127.0.0.1", bench.tablet.port))
    bench.plugin.close()
    with pytest.raises(DeviceError, match="no socket to send from: Address family not supported"):
        bench.plugin.open()


def test_named_tablets_get_it_although_announcements_cannot_be_heard(make: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        bench = make(announcement_port=other.getsockname()[1])
        bench.fly(2.0)
        assert bench.position() is not None
        assert bench.plugin.health().startswith("tablets that announce themselves are not heard: UDP port ")
    bench.fly(LISTEN_AGAIN_S + 1.0)
    assert bench.plugin.health() == ""


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "targets"),
        ({"targets": ["192.168.1.20:4000"]}, None),
        ({"targets": ["[fd00::1]:4000"]}, None),
        ({"targets": ["[fe80::1]:4000"]}, "targets.0"),
        ({"allow": ["192.168.1.0/24"]}, None),
        ({"targets": ["192.168.1.20"]}, "targets.0"),
        ({"targets": ["10.0.0.1:4000", "tablet:4000"]}, "targets.1"),
        ({"text_targets": ["10.0.0.1:70000"]}, "text_targets.0"),
        ({"allow": ["home"]}, "allow.0"),
    ],
)
def test_wrong_targets_are_configuration_problems(options: dict[str, Any], problem: str | None) -> None:
    found = list(Plugin.check(msgspec.convert(options, OutOptions), Database()))
    assert [option for option, _ in found] == ([] if problem is None else [problem])


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TabletBench(OutwardBench):
    """A tablet that announces itself; the database has the values of an aircraft."""

    CAN = frozenset()

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._ears: int = free.getsockname()[1]
        self.device = Tablet(("127.0.0.1", self._ears))

    def options(self) -> dict[str, Any]:
        return {"allow": ["127.0.0.0/8"], "announcement_port": self._ears}

    def close(self) -> None:
        super().close()
        self.device.close()


class TestContract(Contract):
    subject = TabletBench.of("fixgw.drivers.gdl90_out", Tablet)
