"""NMEA 0183 to autopilots and transponders: sentences, void sentences, and receivers that do not read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixgw import database
from fixgw.database import BAD, FAIL, Database, Definition
from fixgw.drivers.nmea import Receiver
from fixgw.drivers.nmea0183_out import OutOptions, Plugin
from fixgw.drivers.nmea0183_out.protocol import KINDS, MAX_SENTENCE, Talker
from fixgw.hw_sim.aircraft import Aircraft, track_and_distance
from fixgw.hw_sim.bench.base import OutwardBench, Subject, packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.autopilot import Autopilot
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.navigation import bearing_distance
from fixgw.kit.outward import Outward
from fixgw.world import World

NOON = datetime(2025, 7, 21, 12, 0, 0, tzinfo=UTC)
FLYING: dict[str, Any] = {
    "LAT": 48.1173,
    "LONG": 11.516666,
    "GS": 122.4,
    "TRACK": 84.4,
    "TRACKM": 81.3,
    "TALT": 1789.4,
    "GPS_ELLIPSOID_ALT": 1943.2,
    "GPS_SATS_TRACKED": 8,
    "GPS_FIX_TYPE": 3,
    "TIMEZ": "12:00:00",
    "HEAD": 78.0,
    "XTRACK": 0.4,
    "COURSE": 80.0,
    "WPLAT": 48.1173,
    "WPLON": 12.0,
    "WPNAME": "MUNICH",
}
KEYS = [
    Definition(key=key, type={float: "float", int: "int", str: "str"}[type(value)], tolerance=20_000)  # type: ignore[arg-type]
    for key, value in {**FLYING, "CDI": 0.1, "WPHEAD": ""}.items()
]


class Bench:
    """A talker, its database, and an autopilot that receives its sentences."""

    def __init__(self, source: str = "", max_age: float = 3.0, simulated: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.utc = NOON
        self.db = Database(KEYS, self.clock)
        outward = Outward(lambda key: self.db.read(key), self.clock, lambda: source, max_age, simulated)
        self.talker = Talker(outward, lambda: self.utc, **options)
        self.autopilot = Autopilot()
        self.write(**FLYING)

    def write(self, source: str = "gps", **values: Any) -> None:
        for key, value in values.items():
            self.db.write(key, value, source, 0)

    def say(self, kind: str) -> str:
        """The fields of a sentence, which the autopilot must accept."""
        data, valid = self.talker.sentence(kind)
        self.autopilot.hear(data, self.clock())
        assert self.autopilot.complaints == [], data
        if kind in ("RMC", "GGA", "GLL", "VTG", "RMB", "APB", "XTE"):
            assert (self.autopilot.latest(kind, self.clock()) is not None) == valid
        return data.decode()[3:-5]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- sentences ---------------------------------------------------------------------------------------------------------


def test_a_sentence_is_framed_as_in_the_manuals() -> None:
    """The textbook example GPGLL: 49 degrees 16.45 minutes north, 123 degrees 11.12 minutes west; checksum by hand."""
    bench = Bench()
    bench.write(LAT=49 + 16.45 / 60, LONG=-(123 + 11.12 / 60))
    data, _ = bench.talker.sentence("GLL")
    assert data.startswith(b"$GPGLL,4916.4500,N,12311.1200,W,120000,A,A*")
    body, checksum = data[1:].rstrip().split(b"*")
    total = 0
    for byte in body:
        total ^= byte
    assert int(checksum, 16) == total
    assert MAX_SENTENCE == 82
    assert data.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("RMC", "RMC,120000,A,4807.0380,N,01131.0000,E,122.4,084.4,210725,003.1,E,A"),
        ("GGA", "GGA,120000,4807.0380,N,01131.0000,E,1,08,,545.4,M,46.9,M,,"),
        ("GLL", "GLL,4807.0380,N,01131.0000,E,120000,A,A"),
        ("VTG", "VTG,084.4,T,081.3,M,122.4,N,226.7,K,A"),
        ("GSA", "GSA,A,3,,,,,,,,,,,,,,,"),
        ("ZDA", "ZDA,120000,21,07,2025,00,00"),
        ("XTE", "XTE,A,A,0.40,L,N,A"),
        ("BOD", "BOD,083.1,T,080.0,M,MUNICH,"),
        ("HDG", "HDG,078.0,,,003.1,E"),
        ("HDM", "HDM,078.0,M"),
        ("HDT", "HDT,081.1,T"),
    ],
)
def test_sentences_match_the_database(bench: Bench, kind: str, text: str) -> None:
    assert bench.say(kind) == text


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("GLL", {"LAT": -0.0, "LONG": -0.5}, "GLL,0000.0000,N,00030.0000,W,120000,A,A"),
        ("GLL", {"LAT": -33.99999999, "LONG": 179.999999}, "GLL,3400.0000,S,17959.9999,E,120000,A,A"),
        ("GSA", {"GPS_FIX_TYPE": 2}, "GSA,A,2,,,,,,,,,,,,,,,"),
        ("GSA", {"GPS_FIX_TYPE": 5}, "GSA,A,3,,,,,,,,,,,,,,,"),
        ("HDM", {"HEAD": 359.96}, "HDM,000.0,M"),
        ("HDM", {"HEAD": 0.04}, "HDM,000.0,M"),
        ("HDT", {"TRACK": 2.0, "TRACKM": 358.0, "HEAD": 359.0}, "HDT,003.0,T"),
        ("HDG", {"TRACK": 355.0, "TRACKM": 7.5}, "HDG,078.0,,,012.5,W"),
        ("HDG", {"TRACK": 7.5, "TRACKM": 7.5}, "HDG,078.0,,,000.0,E"),
        ("BOD", {"COURSE": 358.0}, "BOD,001.1,T,358.0,M,MUNICH,"),
        ("ZDA", {"TIMEZ": "23:59:60"}, "ZDA,235960,,,,,"),
        ("ZDA", {"TIMEZ": "24:00:00"}, "ZDA,,,,,,"),
        ("GLL", {"TIMEZ": "12:60:00"}, "GLL,4807.0380,N,01131.0000,E,,A,A"),
        ("GLL", {"TIMEZ": "12:00:61"}, "GLL,4807.0380,N,01131.0000,E,,A,A"),
    ],
)
def test_numbers_at_the_ends_of_their_ranges(bench: Bench, kind: str, values: dict[str, Any], text: str) -> None:
    bench.write(**values)
    assert bench.say(kind) == text


def test_rmb_and_apb_lead_to_the_waypoint(bench: Bench) -> None:
    bearing, distance = track_and_distance(48.1173, 11.516666, 48.1173, 12.0)
    rmb = bench.say("RMB").split(",")
    assert rmb[1:10] == ["A", "0.40", "L", "", "MUNICH", "4807.0380", "N", "01200.0000", "E"]
    assert float(rmb[10]) == pytest.approx(distance / 1852.0, abs=0.1)
    assert float(rmb[11]) == pytest.approx(bearing, abs=0.1)
    assert float(rmb[12]) == pytest.approx(122.4, abs=0.5)
    assert rmb[13:] == ["V", "A"]
    apb = bench.say("APB").split(",")
    assert apb[1:11] == ["A", "A", "0.40", "L", "N", "V", "V", "080.0", "M", "MUNICH"]
    assert float(apb[11]) == pytest.approx(bearing - 3.1, abs=0.1)
    assert apb[11:13] == apb[13:15]
    assert apb[15] == "A"


@pytest.mark.parametrize(("off", "steer"), [(0.4, "L"), (-0.4, "R"), (0.0, "R")])
def test_right_of_the_track_the_sentence_says_steer_left(bench: Bench, off: float, steer: str) -> None:
    bench.write(XTRACK=off)
    assert bench.say("XTE").split(",")[4] == steer
    guidance = bench.say("APB") and bench.autopilot.guidance(bench.clock())
    assert guidance
    assert guidance.off == off


def test_the_needle_replaces_a_missing_cross_track_error_if_its_scale_is_known() -> None:
    for full_scale, field in ((None, ""), (2.0, "0.50")):
        bench = Bench(full_scale=full_scale)
        bench.db.item("XTRACK").fail("no sender")
        bench.write(CDI=-0.25)  # fly left: it is right of the track
        assert bench.say("XTE").split(",")[3:5] == [field, "L" if field else ""]
        bench.write(XTRACK=-0.4)
        assert bench.say("XTE").split(",")[3:5] == ["0.40", "R"]


def test_a_large_error_and_a_long_distance_are_clamped_to_the_fields(bench: Bench) -> None:
    bench.write(XTRACK=-40.0, WPLAT=-48.0)
    rmb = bench.say("RMB").split(",")
    assert (rmb[2], rmb[3], rmb[10]) == ("9.99", "R", "999.9")


@pytest.mark.parametrize(
    ("speed", "track", "closing"), [(122.4, 84.4, 121.9), (122.4, 149.8, 61.2), (122.4, 270.0, 0.0), (0.0, 90.0, 0.0)]
)
def test_the_closing_speed_is_the_part_towards_the_waypoint(
    bench: Bench, speed: float, track: float, closing: float
) -> None:
    bench.write(GS=speed, TRACK=track)
    assert float(bench.say("RMB").split(",")[12]) == pytest.approx(closing, abs=0.1)
    for key in ("GS", "TRACK"):
        bench.db.item(key).fail("unknown")
        assert bench.say("RMB").split(",")[12] == ""
        bench.write(GS=speed)


def test_the_waypoint_is_reached_within_the_circle_or_abeam(bench: Bench) -> None:
    bench.write(WPLON=11.52)
    assert bench.say("RMB").split(",")[13] == "A"
    assert bench.say("APB").split(",")[6:8] == ["A", "V"]
    bench.write(WPLON=11.40)  # behind
    assert bench.say("RMB").split(",")[13] == "A"
    assert bench.say("APB").split(",")[6:8] == ["V", "A"]


@pytest.mark.parametrize(
    ("arrival", "miles", "arrived"),
    [({}, 0.29, "A"), ({}, 0.31, "V"), ({"arrival": 1.5}, 1.49, "A"), ({"arrival": 1.5}, 1.51, "V")],
)
def test_the_size_of_the_circle(arrival: dict[str, Any], miles: float, arrived: str) -> None:
    bench = Bench(**arrival)
    bench.write(WPLAT=FLYING["LAT"] + miles / 60.04, WPLON=FLYING["LONG"], COURSE=0.0)
    assert bench.say("RMB").split(",")[13] == bench.say("APB").split(",")[6] == arrived


def test_the_edge_of_the_circle_is_part_of_it() -> None:
    here, there = (FLYING["LAT"], FLYING["LONG"]), (FLYING["LAT"] + 0.01, FLYING["LONG"])
    bench = Bench(arrival=bearing_distance(*here, *there)[1])
    bench.write(WPLAT=there[0], WPLON=there[1])
    assert bench.say("RMB").split(",")[13] == bench.say("APB").split(",")[6] == "A"


@pytest.mark.parametrize(("course", "passed"), [(340.0, "V"), (329.0, "A"), (140.0, "V"), (152.0, "A")])
def test_abeam_is_told_by_the_magnetic_course(bench: Bench, course: float, passed: str) -> None:
    bench.write(TRACK=90.0, TRACKM=60.0, COURSE=course)  # the waypoint is in the east, at 060 magnetic
    assert bench.say("APB").split(",")[7] == passed
    for key in ("TRACKM", "TRACK"):
        bench.db.item(key).fail("unknown")
        assert bench.say("APB").split(",")[7] == "V"


def test_a_bearing_without_a_variation_is_true_or_from_the_navigator(bench: Bench) -> None:
    bench.db.item("TRACKM").fail("unknown")
    assert bench.say("APB").split(",")[12] == "T"
    for said, bearing in (("086", "086.0"), ("360", "000.0"), ("0", "000.0")):
        bench.write(WPHEAD=said)
        bench.clock.now += 10.0
        bench.write(**{key: value for key, value in FLYING.items() if key not in ("TRACKM", "WPHEAD")})
        assert bench.say("APB").split(",")[11:15] == [bearing, "M"] * 2, "it holds as long as the waypoint"
    for nonsense in ("361", "N", "", "-86", "8.6", "\u0663"):
        bench.write(WPHEAD=nonsense)
        assert bench.say("APB").split(",")[12] == "T"


def test_a_course_may_be_followed_without_a_waypoint(bench: Bench) -> None:
    for key in ("WPLAT", "WPLON"):
        bench.db.item(key).fail("none")
        assert bench.say("APB").split(",")[6:15] == ["V", "V", "080.0", "M", "MUNICH", "", "", "", ""]
        bench.write(WPHEAD="086")
        assert bench.say("APB").split(",")[11:13] == ["086.0", "M"]
        bench.write(WPHEAD="", WPLAT=FLYING["WPLAT"])


@pytest.mark.parametrize(
    ("name", "sent"),
    [("a,b*c$d", "abcd"), ("TOOLONGNAME", "TOOLON"), ("Zürich", "Zrich"), ("", ""), (" A  B ! ", "A  B")],
)
def test_a_name_cannot_break_a_sentence(bench: Bench, name: str, sent: str) -> None:
    bench.write(WPNAME=name)
    assert bench.say("RMB").split(",")[5] == sent


@pytest.mark.parametrize(("kind", "quality", "mode"), [(2, "1", "A"), (3, "1", "A"), (4, "2", "D"), (5, "4", "D")])
def test_the_quality_of_the_fix_is_that_of_the_receiver(bench: Bench, kind: int, quality: str, mode: str) -> None:
    bench.write(GPS_FIX_TYPE=kind)
    assert bench.say("GGA").split(",")[6] == quality
    assert bench.say("RMC").split(",")[12] == mode


def test_the_talker_is_an_option() -> None:
    assert Bench(talker="IN").talker.sentence("HDM")[0].startswith(b"$INHDM,")


def test_the_date_comes_from_the_computer_only_if_its_clock_agrees_with_the_gps(bench: Bench) -> None:
    bench.utc = NOON + timedelta(hours=3)
    assert bench.say("RMC").split(",")[9] == ""
    assert bench.say("ZDA") == "ZDA,120000,,,,,"
    bench.utc = datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC)
    bench.write(TIMEZ="00:00:01")
    assert bench.say("RMC").split(",")[9] == "010126"
    for hour, minute, second in ((0, 0, 1), (10, 17, 43), (23, 59, 59)):
        bench.write(TIMEZ=f"{hour:02}:{minute:02}:{second:02}")
        for seconds, date in ((-11, ""), (-10, "010126"), (10, "010126"), (11, "")):
            bench.utc = datetime(2026, 1, 1, hour, minute, second, tzinfo=UTC) + timedelta(seconds=seconds)
            assert bench.say("RMC").split(",")[9] == date
    bench.db.item("TIMEZ").fail("unknown")
    assert bench.say("RMC").startswith("RMC,,A,")
    assert bench.say("RMC").split(",")[9] == ""


# -- void sentences ----------------------------------------------------------------------------------------------------

SPOILED: dict[str, Callable[[Bench, str], object]] = {
    "failed": lambda bench, key: bench.db.item(key).fail("broken", "gps"),
    "bad": lambda bench, key: bench.db.item(key).flag(BAD, BAD, "gps"),
    "old": lambda bench, key: bench.db.item(key).flag(database.OLD, database.OLD),
}
NEEDED = [
    *[(kind, key) for kind in ("RMC", "GGA", "GLL", "VTG", "RMB") for key in ("LAT", "LONG", "GPS_FIX_TYPE")],
    *[("VTG", "GS"), ("RMB", "XTRACK"), ("RMB", "WPLAT"), ("RMB", "WPLON")],
    *[("APB", "XTRACK"), ("APB", "COURSE"), ("XTE", "XTRACK"), ("APB", "LAT"), ("XTE", "LAT")],
]
#: What is sent if nothing is good: as many fields as ever, and no number.
VOID = {
    "RMC": "RMC,,V,,,,,,,,,,N",
    "GGA": "GGA,,,,,,0,,,,M,,M,,",
    "GLL": "GLL,,,,,,V,N",
    "VTG": "VTG,,T,,M,,N,,K,N",
    "GSA": "GSA,A,1,,,,,,,,,,,,,,,",
    "ZDA": "ZDA,,,,,,",
    "RMB": "RMB,V,,,,,,,,,,,,V,N",
    "APB": "APB,V,V,,,N,V,V,,,,,,,,N",
    "XTE": "XTE,V,V,,,N,N",
    "BOD": "BOD,,T,,M,,",
    "HDG": "HDG,,,,,",
    "HDM": "HDM,,M",
    "HDT": "HDT,,T",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_void_sentence_has_no_numbers(bench: Bench, kind: str) -> None:
    full = bench.say(kind)
    for key in FLYING:
        bench.db.item(key).fail("broken", "gps")
    assert bench.say(kind) == VOID[kind]
    assert not bench.talker.sentence(kind)[1]
    assert full.count(",") == VOID[kind].count(",")


@pytest.mark.parametrize(
    ("kind", "key"),
    [*(("BOD", key) for key in ("COURSE", "XTRACK", "LAT")), ("HDT", "TRACKM"), ("ZDA", "TIMEZ"), ("GSA", "LAT")],
)
def test_without_what_it_is_about_a_sentence_is_void(bench: Bench, kind: str, key: str) -> None:
    assert bench.talker.sentence(kind)[1]
    bench.db.item(key).fail("broken", "gps")
    assert bench.say(kind) == VOID[kind]
    assert not bench.talker.sentence(kind)[1]


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize(("kind", "key"), NEEDED)
def test_a_sentence_is_void_if_an_essential_value_is_not_good(bench: Bench, kind: str, key: str, how: str) -> None:
    bench.say(kind)
    SPOILED[how](bench, key)
    bench.say(kind)  # it rejects values in a void sentence
    assert bench.autopilot.voids[kind] == 1


def test_a_silent_source_makes_sentences_void_long_before_its_keys_are_old(bench: Bench) -> None:
    bench.clock.now += 3.1
    assert bench.db.read("LAT").good
    for kind in KINDS:
        bench.say(kind)
        assert not bench.talker.sentence(kind)[1]
    assert bench.autopilot.position(bench.clock()) is None
    assert bench.autopilot.guidance(bench.clock()) is None


def test_a_waypoint_that_was_written_once_stays_valid(bench: Bench) -> None:
    bench.clock.now += 10.0
    bench.write(**{key: value for key, value in FLYING.items() if not key.startswith("WP")})
    assert bench.say("RMB").startswith("RMB,A")


@pytest.mark.parametrize("kind", [0, 1])
def test_there_is_no_position_without_a_fix(bench: Bench, kind: int) -> None:
    bench.write(GPS_FIX_TYPE=kind)
    assert bench.say("RMC") == "RMC,120000,V,,,,,,,210725,,,N"
    assert bench.say("GGA") == "GGA,120000,,,,,0,,,,M,,M,,"
    assert bench.say("GSA").startswith("GSA,A,1,")


def test_a_source_that_never_gives_the_quality_of_its_fix_is_trusted(bench: Bench) -> None:
    bench = Bench()
    bench.db = Database([d for d in KEYS if d.key != "GPS_FIX_TYPE"], bench.clock)
    bench.write(LAT=1.0, LONG=2.0)
    assert bench.say("GLL").startswith("GLL,0100.0000,N")
    assert bench.say("GGA").split(",")[6] == "1"


def test_only_the_part_that_is_not_good_is_left_out(bench: Bench) -> None:
    bench.db.item("TALT").flag(BAD, BAD, "gps")
    bench.db.item("TRACK").fail("standing", "gps")
    assert bench.say("GGA") == "GGA,120000,4807.0380,N,01131.0000,E,1,08,,,M,,M,,"
    assert bench.say("RMC") == "RMC,120000,A,4807.0380,N,01131.0000,E,122.4,,210725,,,A"
    assert bench.say("VTG") == "VTG,,T,081.3,M,122.4,N,226.7,K,A"
    assert bench.say("HDG") == "HDG,078.0,,,,"
    assert bench.say("BOD") == "BOD,,T,080.0,M,MUNICH,"
    bench.db.item("GPS_ELLIPSOID_ALT").fail("unknown", "gps")
    bench.write(TALT=1789.4)
    assert bench.say("GGA") == "GGA,120000,4807.0380,N,01131.0000,E,1,08,,545.4,M,,M,,"


def test_simulated_values_never_pass_for_real_ones_unless_configured() -> None:
    for simulated in (False, True):
        bench = Bench(simulated=simulated)
        bench.write("sim/gps", LAT=48.0)
        assert bench.say("RMC").split(",")[2] == ("A" if simulated else "V")


def test_an_output_whose_own_source_is_simulated_sends_simulated_values() -> None:
    bench = Bench(source="sim/bench")
    bench.write("sim/gps", LAT=48.0)
    assert bench.say("RMC").split(",")[2] == "A"


def test_the_source_of_an_output_is_the_one_that_the_gateway_gives_it() -> None:
    db = Database(KEYS)
    with World(db).hosting():
        plugin = Plugin("out", {"port": "/dev/null"})
    plugin.source = "sim/bench"  # after the constructor, as the gateway does it
    for key in ("LAT", "LONG"):
        db.write(key, 1.0, "sim/gps", 0)
    assert plugin.talker.sentence("GLL")[1]


READABLE = st.one_of(st.none(), st.floats(-1e4, 1e4))
FLAGS = st.sampled_from([0, 0, 0, BAD, FAIL])
WILD = {d.key: st.tuples(st.floats(-400, 400), FLAGS) for d in KEYS if d.type == "float"}


@pytest.mark.slow
@settings(max_examples=60)
@given(st.fixed_dictionaries(WILD), st.sampled_from(KINDS), st.text(max_size=12), st.text(max_size=9))
def test_every_sentence_is_valid_and_short_enough_for_any_readings(
    values: dict[str, tuple[float, int]], kind: str, name: str, clock: str
) -> None:
    bench = Bench()
    for key, (value, flags) in values.items():
        limit = {"LAT": 89.99, "WPLAT": 89.99, "LONG": 179.99, "WPLON": 179.99}.get(key, 400.0)
        low = 0.0 if key == "GS" else -limit
        bench.db.write(key, max(low, min(value, limit)), "gps", flags)
    for key, text in (("WPNAME", name), ("WPHEAD", clock), ("TIMEZ", clock)):
        if text.isprintable():
            bench.write(**{key: text})
    data, valid = bench.talker.sentence(kind)
    assert len(data) <= MAX_SENTENCE
    bench.say(kind)
    if valid and kind in ("RMC", "GGA", "GLL"):
        assert not values["LAT"][1]
        assert not values["LONG"][1]


@settings(max_examples=40)
@given(st.floats(-89.99, 89.99), st.floats(-179.99, 179.99), st.floats(0, 359.9), st.floats(-9, 9))
def test_sent_values_are_decoded_unchanged(lat: float, lon: float, track: float, off: float) -> None:
    assume(abs(lat) > 1e-5 or abs(lon) > 1e-5)  # receivers without a fix send 0/0
    bench = Bench()
    bench.write(LAT=lat, LONG=lon, TRACK=track, TRACKM=(track - 4.0) % 360.0, XTRACK=off)
    receiver = Receiver(lambda: 0.0)
    sentences = b"".join(bench.talker.sentence(kind)[0] for kind in ("RMC", "APB"))
    back = {u.key: u.value for u in receiver.feed(sentences)}
    assert back["LAT"] == pytest.approx(lat, abs=1e-6)
    assert back["LONG"] == pytest.approx(lon, abs=1e-6)
    assert back["XTRACK"] == pytest.approx(off, abs=0.006)
    assert back["COURSE"] == 80.0


# -- the plugin --------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def db() -> Iterator[Database]:
    before, db = database.current(), Database(KEYS)
    database.bind(db)
    yield db
    database.bind(before)


@contextmanager
def sending(**options: Any) -> Iterator[Plugin]:
    plugin = Plugin("autopilot", options)
    plugin.start()
    try:
        yield plugin
    finally:
        begin = time.monotonic()
        plugin.shutdown()
        assert time.monotonic() - begin < 1.0


def write(db: Database, **values: Any) -> None:
    for key, value in {**FLYING, **values}.items():
        db.write(key, value, "gps", 0)


@pytest.mark.slow
def test_an_autopilot_follows_the_sentences_and_disengages_when_the_navigator_fails(db: Database) -> None:
    write(db)
    with VirtualPort() as port:
        autopilot = Autopilot(port)
        with sending(port=port.path, sentences={"RMC": 20, "APB": 20}) as plugin:

            def heard(condition: Callable[[], object]) -> None:
                def look() -> object:
                    write(db)
                    autopilot.tick(Aircraft.__new__(Aircraft), time.monotonic())
                    return condition()

                until(look)

            heard(lambda: autopilot.accepted["APB"] >= 5 and autopilot.accepted["RMC"] >= 5)
            assert autopilot.guidance(time.monotonic()) is not None
            assert autopilot.position(time.monotonic()) == pytest.approx((48.1173, 11.516666), abs=1e-5)
            until(lambda: plugin.health() == "")
            db.item("XTRACK").fail("no signal", "nav")
            db.item("LAT").fail("no signal", "nav")
            until(
                lambda: autopilot.tick(Aircraft.__new__(Aircraft), time.monotonic()) or autopilot.voids["APB"]  # type: ignore[func-returns-value]
            )
            until(lambda: plugin.get_status()["void now"] == "RMC, APB")
            assert autopilot.guidance(time.monotonic()) is None
        assert autopilot.complaints == []
        assert plugin.counts["sent"] > 0


@pytest.mark.slow
def test_each_sentence_keeps_its_own_rate(db: Database) -> None:
    write(db)
    clock = Clock()
    with VirtualPort() as port:
        plugin = Plugin("out", {"port": port.path, "sentences": {"XTE": 5, "HDM": 1}})
        plugin.clock = clock
        plugin.poll_timeout = 0.002  # type: ignore[misc]
        plugin.start()
        try:
            for _ in range(101):
                before = plugin.alive
                until(lambda before=before: plugin.alive != before and plugin.connected)  # type: ignore[misc]
                clock.now += 0.1
                port.read()
            told = plugin.counts["sent"] + plugin.counts["void"]
        finally:
            plugin.shutdown()
    assert told == pytest.approx(5 * 10.1 + 10.1, abs=8)


@pytest.mark.slow
def test_an_unplugged_port_is_used_again_when_it_is_back(db: Database) -> None:
    write(db)
    with VirtualPort() as port, sending(port=port.path, sentences={"HDM": 20}) as plugin:
        until(lambda: port.read())
        port.unplug()
        until(lambda: not plugin.connected and "no such device" in plugin.health())
        port.plug()
        until(lambda: port.read())
        until(lambda: plugin.health() == "")


@pytest.mark.slow
def test_a_receiver_that_does_not_read_causes_no_delay_and_gets_nothing_old(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.drivers.nmea0183_out.STALLED_S", 0.2)
    write(db)
    options = {"sentences": dict.fromkeys(KINDS, 20), "baud": 115200}
    with VirtualPort() as port, sending(port=port.path, **options) as plugin:
        until(lambda: plugin.counts["left out"])
        until(lambda: plugin.counts.get("outages"), "the outage was not noticed")
        until(lambda: "the receiver takes nothing" in plugin.health() or plugin.connected)
        write(db, TIMEZ="13:00:00")
        until(lambda: b"130000" in port.read(), "it never came back")


@pytest.mark.slow
def test_tcp_receivers_can_disconnect_and_return(db: Database) -> None:
    write(db)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with sending(port=url, sentences={"HDM": 20}) as plugin:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(10)
                    assert connection.recv(6) == b"$GPHDM"
                until(lambda: not plugin.connected or plugin.counts.get("outages"))


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_tcp_receiver_that_does_not_read(db: Database) -> None:
    write(db)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with sending(port=url, sentences={"HDM": 20}) as plugin:
            until(lambda: plugin.counts["sent"])


@pytest.mark.slow
def test_udp_works_without_a_listener(db: Database) -> None:
    write(db)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        port = receiver.getsockname()[1]
        with sending(port=f"udp://127.0.0.1:{port}", sentences={"HDM": 20}) as plugin:
            assert receiver.recv(200).startswith(b"$GPHDM,078.0,M*")
            receiver.close()
            until(lambda: plugin.counts["left out"])
            assert plugin.health() == ""
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(("127.0.0.1", port))
                again.settimeout(10)
                assert again.recv(200).endswith(b"\r\n")


# -- options -----------------------------------------------------------------------------------------------------------


def problems(db: Database, **options: Any) -> list[tuple[str, str]]:
    return list(Plugin.check(Plugin("out", options).options, db))


def test_a_line_that_is_too_slow_is_a_configuration_problem(db: Database) -> None:
    many = dict.fromkeys(KINDS, 1.0)
    assert problems(db, port="/dev/x") == []
    assert problems(db, port="/dev/x", sentences=many)[0][0] == "sentences"
    assert problems(db, port="/dev/x", sentences=many, baud=38400) == []
    assert problems(db, port="udp://127.0.0.1:4000", sentences=many) == []


def test_udp_accepts_only_addresses(db: Database) -> None:
    assert problems(db, port="udp://tablet:4000")[0][0] == "port"
    assert problems(db, port="udp://127.0.0.1")[0][0] == "port"


@pytest.mark.parametrize("options", [{"sentences": {}}, {"sentences": {"XYZ": 1}}, {"talker": "gps"}, {"baud": "auto"}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Plugin("out", {"port": "/dev/x", **options})


def test_every_key_that_is_read_is_in_the_packaged_database() -> None:
    db = packaged_database()
    for definition in KEYS:
        assert db.item(definition.key).type == definition.type
    assert OutOptions(port="/dev/x").sentences


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class AutopilotBench(OutwardBench):
    """A listener on a pseudo-terminal; the database has the aircraft's position from a receiver."""

    CAN = frozenset({"late", "vanish"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = Autopilot(self.port)

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path}

    def pull(self) -> None:
        self.port.unplug()

    def plug(self) -> None:
        self.port.plug()
        until(lambda: self.plugin.connected)

    def close(self) -> None:
        super().close()
        self.port.close()


class TestContract(Contract):
    subject = AutopilotBench.of("fixgw.drivers.nmea0183_out", Autopilot)
