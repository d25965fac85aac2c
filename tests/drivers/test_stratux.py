"""Stratux and its like: the shared vectors, what a receiver says and does not say, and a virtual one as a partner."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL
from fixgw.drivers.gdl90 import (
    AttitudeForeFlight,
    AttitudeLE,
    Framer,
    GeometricAltitude,
    Heartbeat,
    Identity,
    Message,
    Rejected,
    Report,
    StratuxHeartbeat,
    Unknown,
    decode,
    encode,
    frame,
    unframe,
)
from fixgw.drivers.stratux import Plugin
from fixgw.drivers.stratux.protocol import (
    ESTIMATED,
    HEIGHT,
    KEYS,
    NO_FIX,
    NO_HEARTBEAT,
    NOT_A_TRACK,
    NOT_KNOWN,
    POSITION,
    STUCK,
    STUCK_AFTER_S,
    Decoder,
)
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import UdpBench
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.stratux import Stratux
from fixgw.kit import traffic
from fixgw.kit.place import NOWHERE
from fixgw.kit.update import Update
from fixgw.world import World

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "gdl90.json").read_text())["vectors"]
TYPES: dict[str, Any] = {
    "heartbeat": Heartbeat,
    "ownship": Report,
    "traffic": Report,
    "geometric_altitude": GeometricAltitude,
    "ahrs_le": AttitudeLE,
    "ahrs_foreflight": AttitudeForeFlight,
    "id_foreflight": Identity,
    "heartbeat_stratux": StratuxHeartbeat,
    "unknown": Unknown,
    "rejected": Rejected,
}
#: Its track field is not valid but not zero either, which the message does not keep.
ONE_WAY = {"track.none_nonzero_tt"}


def message_of(said: dict[str, Any]) -> Message:
    fields = {name: value for name, value in said.items() if name != "type"}
    if said["type"] in ("ownship", "traffic"):
        fields["own"] = said["type"] == "ownship"
    message: Message = TYPES[said["type"]](**fields)
    return message


def same(one: Message, other: Message) -> bool:
    return type(one) is type(other) and all(
        a == pytest.approx(b, abs=2.4e-5) if isinstance(a, float) and isinstance(b, float) else a == b
        for a, b in zip(one, other, strict=True)
    )


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_datagrams_are_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    messages = [unframe(stuffed) for stuffed in Framer().feed(bytes.fromhex(vector["datagram"]))]
    decoded = [None if message is None else decode(message) for message in messages]
    known = [said for said in decoded if said is not None]
    expected = [message_of(said) for said in vector["messages"]]
    assert len(known) == len(expected)
    assert all(map(same, known, expected)), (known, expected)
    errors = vector.get("errors", 0)
    assert errors is None or decoded.count(None) == errors


BOTH_WAYS = [v for v in VECTORS if v["direction"] == "both" and v["name"] not in ONE_WAY]


@pytest.mark.parametrize("vector", BOTH_WAYS, ids=lambda vector: vector["name"])
def test_messages_are_written_as_the_vectors_say(vector: dict[str, Any]) -> None:
    assert b"".join(frame(encode(message_of(said))) for said in vector["messages"]).hex() == vector["datagram"]


def test_the_counters_of_the_decoder_agree() -> None:
    for vector in VECTORS:
        decoder = Decoder(Clock())
        decoder.feed(bytes.fromhex(vector["datagram"]))
        ignored = sum(said["type"] == "unknown" for said in vector["messages"])
        rejected = sum(said["type"] == "rejected" for said in vector["messages"])
        counts = decoder.counts
        assert counts["used"] == len(vector["messages"]) - ignored - rejected, vector["name"]
        assert counts["ignored"] == ignored, vector["name"]
        assert counts["forbidden values"] == rejected, vector["name"]
        assert counts["received"] == counts["used"] + ignored + sum(counts[r] for r in Decoder.REFUSALS), vector["name"]


# -- the codec ---------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=60))
def test_every_message_survives_its_frame(message: bytes) -> None:
    framed = frame(message)
    assert framed.count(b"\x7e") == 2
    assert [unframe(stuffed) for stuffed in Framer().feed(framed)] == [message]


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.data())
def test_a_stream_may_be_cut_anywhere(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    framer, found, at = Framer(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 20))
        found += framer.feed(stream[at : at + size])
        at += size
    assert [unframe(stuffed) for stuffed in found] == messages


@given(st.binary(max_size=80))
def test_whatever_is_decoded_can_be_encoded_again(rest: bytes) -> None:
    for kind in (b"\x00", b"\x0a", b"\x14", b"\x0b", b"LE\x01\x01", b"\x65\x00", b"\x65\x01", b"\xcc"):
        size = {0: 7, 10: 28, 20: 28, 11: 5, 0x4C: 24, 0xCC: 2, 0x65: 39 if kind[1:] == b"\0" else 12}[kind[0]]
        said = decode((kind + rest)[:size].ljust(size, b"\1"))
        assert said is not None
        if not isinstance(said, Rejected | Unknown | AttitudeLE | Identity):  # values out of range, names in part
            again = decode(encode(said))
            assert again is not None
            assert same(said, again)


def test_values_that_do_not_fit_are_sent_as_not_known() -> None:
    report = decode(encode(Report(True, 1, altitude_ft=200_000, lat=1.0, lon=None, nic=8, nacp=9, track_deg=5.0)))
    assert isinstance(report, Report)
    assert (report.altitude_ft, report.lat, report.lon, report.nic, report.track_deg) == (None,) * 3 + (0, None)
    attitude = decode(encode(AttitudeLE(roll_deg=500.0, pressure_altitude_ft=-9000, vertical_speed_fpm=40_000)))
    assert attitude == AttitudeLE()
    assert decode(encode(AttitudeForeFlight(roll_deg=181.0, ias_kt=-3))) == AttitudeForeFlight()


def test_a_name_is_not_cut_within_a_character() -> None:
    assert decode(encode(Identity("Flügzeüg", "x" * 40))) == Identity("Flügze", "x" * 16)


def test_an_endless_frame_is_refused_and_not_kept() -> None:
    framer = Framer()
    assert framer.feed(b"\x7e") == []
    found = [cut for _ in range(100) for cut in framer.feed(b"x" * 500)]
    assert 1 <= len(found) <= 100
    assert framer.feed(frame(b"\xcc\x07")) == [frame(b"\xcc\x07")[1:-1]]


# -- what a receiver says ----------------------------------------------------------------------------------------------


class Talk:
    """A decoder, and what has become of its keys."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.reports: list[tuple[Report, bytes]] = []
        self.decoder = Decoder(self.clock, traffic=lambda *report: self.reports.append(report), **options)
        self.keys: dict[str, Update] = {}

    def say(self, *messages: Message) -> dict[str, Update]:
        return self._note(self.decoder.feed(b"".join(frame(encode(message)) for message in messages)))

    def wait(self, seconds: float) -> dict[str, Update]:
        self.clock.now += seconds
        return self._note(self.decoder.tick())

    def _note(self, updates: list[Update]) -> dict[str, Update]:
        found = {update.key: update for update in updates}
        self.keys |= found
        assert set(found) <= KEYS
        return found

    def value(self, key: str) -> object:
        update = self.keys[key]
        return "failed" if update.flags & FAIL else update.value


BEAT = Heartbeat(gps_valid=True)
HERE = Report(
    True, 0xF00000, 1, lat=48.0, lon=-11.0, nic=8, nacp=9, ground_speed_kt=100, track_kind="true_track", track_deg=90.0
)
LEVEL = AttitudeLE(1.0, 2.0, 3.0, 0.0, 0.0, 1.0, None, 3000, 0)


def test_a_position_needs_a_heartbeat_that_vouches_for_it() -> None:
    talk = Talk()
    assert talk.say(Identity("a", "b"), HERE, GeometricAltitude(1000)) == {}
    talk.say(BEAT, HERE)
    assert (talk.value("LAT"), talk.value("LONG"), talk.value("GS")) == (
        *(pytest.approx(degrees, abs=1e-5) for degrees in (48.0, -11.0)),
        100.0,
    )
    assert talk.value("GPS_ACCURACY_HORIZ") == pytest.approx(98.4, abs=0.1)
    talk.say(Heartbeat(gps_valid=False), HERE)
    assert {talk.value(key) for key in ("LAT", "LONG", "GS", "TRACK")} == {"failed"}
    assert talk.value("GPS_FIX_TYPE") == 1
    assert talk.decoder.trouble == NO_FIX
    talk.say(BEAT, HERE)
    assert talk.value("GS") == 100.0
    assert talk.decoder.trouble == ""


def test_without_a_heartbeat_the_position_fails_within_its_patience_and_attitude_does_not() -> None:
    talk = Talk()
    talk.say(BEAT, HERE, LEVEL)
    assert talk.wait(3.0) == {}
    talk.say(HERE, LEVEL)
    talk.wait(0.1)
    assert talk.value("LAT") == "failed"
    assert talk.keys["LAT"].reason == NO_HEARTBEAT
    assert talk.say(HERE) == {}
    talk.say(LEVEL)
    assert talk.value("ROLL") == 1.0
    assert talk.wait(1.0) == {}
    talk.say(BEAT, HERE)
    assert talk.value("GS") == 100.0


def test_a_receiver_that_never_sends_heartbeats_has_no_position() -> None:
    talk = Talk()
    assert talk.wait(10.0) == {}
    assert talk.decoder.trouble == "", "nothing has come"
    talk.say(LEVEL)
    assert talk.decoder.trouble == NO_FIX
    assert talk.wait(3.0) == {}
    assert talk.wait(0.1)["LAT"] == Update("LAT", None, FAIL, NO_HEARTBEAT)
    assert talk.decoder.trouble == NO_HEARTBEAT
    assert talk.say(HERE) == {}


def test_a_receiver_without_a_fix_that_falls_silent_has_no_heartbeat_either() -> None:
    talk = Talk()
    assert talk.say(BEAT._replace(gps_valid=False))["LAT"].reason == NO_FIX
    assert talk.say(BEAT._replace(gps_valid=False)).keys() == {"GPS_FIX_TYPE"}, "once"
    talk.wait(3.1)
    assert talk.decoder.trouble == talk.keys["GPS_FIX_TYPE"].reason == NO_HEARTBEAT
    talk.say(BEAT)
    assert talk.decoder.trouble == NO_FIX


@pytest.mark.parametrize("stratux", [True, False])
def test_the_heartbeat_of_a_stratux_can_only_take_the_position_away(stratux: bool) -> None:
    talk = Talk()
    talk.say(BEAT, StratuxHeartbeat(stratux, True), BEAT, HERE)
    assert (talk.keys.get("LAT", Update("LAT", None, FAIL)).flags == 0) == stratux
    talk.say(StratuxHeartbeat(True, True), BEAT, HERE)
    assert talk.keys["LAT"].flags == 0
    assert talk.decoder.trouble == ""


@pytest.mark.parametrize(
    "place",
    [
        {"lat": None, "lon": None, "nic": 0},
        {"lat": 0.0, "lon": 0.0, "nic": 8},
        {"lat": 91.0, "lon": 5.0},
    ],
)
def test_a_report_without_a_possible_position_has_none(place: dict[str, Any]) -> None:
    talk = Talk()
    talk.say(BEAT, HERE)
    talk.say(HERE._replace(**place))
    assert talk.value("LAT") == talk.value("GS") == "failed"
    assert talk.decoder.trouble == NO_FIX
    assert talk.decoder.counts["absurd values"] == (place["lat"] is not None)
    reasons = {0.0: NOWHERE, 91.0: "latitude 91.0 is impossible", None: NO_FIX}
    assert talk.keys["LAT"].reason == reasons[place["lat"]]
    fix = talk.keys["GPS_FIX_TYPE"]
    assert fix == (Update("GPS_FIX_TYPE", 1) if place["lat"] is None else fix._replace(value=None, flags=FAIL))


@pytest.mark.parametrize("lat", [90.0, -90.0])
def test_the_poles_are_places(lat: float) -> None:
    talk = Talk()
    talk.say(BEAT, HERE._replace(lat=lat))
    assert talk.value("LAT") == pytest.approx(lat)


def test_a_position_that_jumps_is_doubted_until_the_receiver_stays_there() -> None:
    talk = Talk()
    talk.say(BEAT, HERE)
    there = HERE._replace(lat=50.0)
    talk.say(there)
    assert talk.value("LAT") == "failed"
    for _ in range(4):
        talk.clock.now += 1.0
        talk.say(BEAT, there)
    assert talk.value("LAT") == pytest.approx(50.0, abs=1e-4)


def test_what_a_report_does_not_know_fails_and_a_heading_is_no_track() -> None:
    talk = Talk()
    talk.say(BEAT, HERE._replace(ground_speed_kt=None, track_kind=None, nacp=0))
    assert {talk.value(key) for key in ("GS", "TRACK", "GPS_ACCURACY_HORIZ")} == {"failed"}
    assert talk.keys["GS"].reason == NOT_KNOWN
    assert talk.keys["TRACK"].reason == NOT_KNOWN
    talk.say(HERE._replace(track_kind="magnetic_heading", ground_speed_kt=4094))
    assert {talk.value(key) for key in ("GS", "TRACK")} == {"failed"}
    assert talk.keys["TRACK"].reason == NOT_A_TRACK
    talk.say(HERE._replace(track_kind="true_heading", ground_speed_kt=4093))
    assert (talk.value("GS"), talk.value("TRACK")) == (4093.0, "failed")
    assert "IAS" not in talk.keys


def test_the_geometric_altitude_is_what_the_identity_says() -> None:
    talk = Talk()
    height = GeometricAltitude(1000, vfom_m=10)
    talk.say(BEAT, height)
    assert "GPS_ELLIPSOID_ALT" not in talk.keys, "it may yet say that it means sea level"
    talk.say(Identity("x", "Levil", geometric_altitude_is_msl=True), height)
    assert talk.value("TALT") == 1000.0
    assert talk.value("GPS_ACCURACY_VERTICAL") == pytest.approx(32.8, abs=0.1)
    assert "GPS_ELLIPSOID_ALT" not in talk.keys
    talk.say(Identity("x", "y"), height)
    assert (talk.value("TALT"), talk.value("GPS_ELLIPSOID_ALT")) == ("failed", 1000.0)
    assert talk.decoder.name == "y"


def test_a_receiver_without_an_identity_means_the_ellipsoid() -> None:
    talk = Talk()
    talk.say(BEAT)
    talk.wait(2.4)
    height = GeometricAltitude(1000, vfom_m=32766, vfom_saturated=True)
    talk.say(BEAT, height, HERE)
    assert "GPS_ELLIPSOID_ALT" not in talk.keys
    assert talk.value("GPS_FIX_TYPE") == 2
    talk.clock.now = 1002.5
    talk.say(height, HERE)
    assert talk.value("GPS_ELLIPSOID_ALT") == 1000.0
    assert talk.value("GPS_ACCURACY_VERTICAL") == "failed"
    for later_s, fix in ((0.0, 3), (2.9, 3), (3.0, 2)):
        talk.clock.now = 1002.5 + later_s
        talk.say(BEAT, HERE)
        assert talk.value("GPS_FIX_TYPE") == fix


def test_attitude_of_a_stratux_is_preferred_to_foreflights() -> None:
    talk = Talk()
    other = AttitudeForeFlight(10.0, 20.0, 30.0, True, 104, 112)
    talk.say(LEVEL, other)
    assert [talk.value(key) for key in ("ROLL", "PITCH", "HEAD", "IAS", "TAS")] == [1.0, 2.0, 3.0, 104.0, 112.0]
    talk.clock.now += 1.0
    assert talk.say(other).keys() == {"IAS", "TAS"}
    talk.clock.now += 0.1
    talk.say(other)
    assert [talk.value(key) for key in ("ROLL", "PITCH", "HEAD")] == [10.0, 20.0, 30.0]
    talk.say(other._replace(heading_magnetic=False))
    assert talk.value("HEAD") == "failed", "a true heading is not HEAD"
    assert talk.say(AttitudeForeFlight()).keys() == {"ROLL", "PITCH", "HEAD"}
    assert {talk.keys[key].reason for key in ("ROLL", "PITCH", "HEAD")} == {NOT_KNOWN}


@pytest.mark.parametrize("unknown", [{"roll_deg": None}, {"pitch_deg": None}])
def test_half_an_attitude_is_none(unknown: dict[str, None]) -> None:
    other = AttitudeForeFlight(10.0, 20.0, 30.0, True)
    talk = Talk()
    talk.say(LEVEL._replace(**unknown), other)
    assert (talk.value("ROLL"), talk.value("PITCH")) == (10.0, 20.0)
    talk = Talk()
    talk.say(other._replace(**unknown), LEVEL._replace(roll_deg=None))
    assert (talk.value("ROLL"), talk.value("PITCH")) == ("failed", 2.0)


def test_what_an_attitude_report_says() -> None:
    talk = Talk()
    talk.say(AttitudeLE(-12.0, 2.5, 271.0, 10.0, -3.0, 1.2, None, 3000, -500))
    assert {key: talk.value(key) for key in talk.keys} == pytest.approx(
        {"ROLL": -12.0, "PITCH": 2.5, "HEAD": 271.0, "ROT": -3.0, "ANORM": 1.2, "PALT": 3000.0, "VS": -500.0}
        | {"ALAT": -0.1736482}
    )
    talk.say(LEVEL)
    assert str(talk.value("ALAT")) == "0.0", "not -0.0"


def test_unknown_attitude_fails_and_is_never_zero() -> None:
    talk = Talk()
    talk.say(AttitudeLE())
    assert {talk.value(key) for key in ("ROLL", "PITCH", "HEAD", "ALAT", "ANORM", "ROT", "VS", "PALT")} == {"failed"}
    assert "IAS" not in talk.keys


def test_impossible_attitude_is_absurd() -> None:
    talk = Talk()
    talk._note(talk.decoder.feed(frame(bytes.fromhex("4c450101" + "0709" + "0385" + "7fff" * 5 + "ffff7fff7fff"))))
    assert talk.value("ROLL") == talk.value("PITCH") == "failed"
    assert talk.keys["ROLL"].reason == "the receiver sends 180.1 degrees, which is impossible"
    assert talk.decoder.counts["absurd values"] == 2


@pytest.mark.parametrize(("airspeed", "knots"), [("knots", 100.0), ("tenths", 10.0), ("ignored", None)])
def test_the_airspeed_of_an_attitude_report_is_as_configured(airspeed: str, knots: float | None) -> None:
    talk = Talk(airspeed=airspeed)
    talk.say(AttitudeLE(ias_raw=100))
    assert (talk.keys["IAS"].value if "IAS" in talk.keys else None) == knots


def test_a_receiver_whose_clock_has_stopped_is_not_believed() -> None:
    talk = Talk()
    beat = BEAT._replace(utc_ok=True, seconds=5)
    for _ in range(6):
        talk.say(beat, HERE, LEVEL)
        assert talk.value("LAT") != "failed"
        talk.clock.now += 1.0
    stuck = talk.say(beat, HERE, LEVEL)
    assert stuck == {key: Update(key, None, FAIL, STUCK) for key in KEYS}
    assert talk.say(beat, StratuxHeartbeat(False, True)) == {}, "once"
    assert talk.decoder.trouble == STUCK
    assert talk.say(GeometricAltitude(1000), HERE, AttitudeForeFlight(1.0, 2.0, 3.0)) == {}
    assert talk.wait(10.0) == {}  # the reason stays
    assert talk.decoder.trouble == STUCK
    talk.say(beat._replace(seconds=6), StratuxHeartbeat(True, True), HERE, LEVEL)
    assert talk.value("ROLL") == 1.0
    assert talk.decoder.trouble == ""


def test_a_clock_that_is_not_set_may_stand_still_and_a_day_begins_at_zero() -> None:
    for beat in (BEAT._replace(utc_ok=True, seconds=0), BEAT._replace(seconds=5)):
        talk = Talk()
        talk.say(beat, HERE)
        assert talk.value("GS") == 100.0
        for _ in range(10):
            talk.clock.now += 1.0
            talk.say(beat, HERE)
        assert (talk.decoder.trouble == STUCK) is beat.utc_ok


def test_a_clock_that_goes_on_is_believed_whether_or_not_there_is_a_position() -> None:
    """As of a receiver that has restarted, and looks for satellites for minutes."""
    talk = Talk()
    beat = BEAT._replace(utc_ok=True, seconds=5)
    for _ in range(round(STUCK_AFTER_S) + 2):
        talk.say(beat, HERE, LEVEL)
        talk.clock.now += 1.1
    assert talk.value("ROLL") == "failed"
    talk.say(beat._replace(seconds=6, gps_valid=False), LEVEL)
    assert talk.value("ROLL") == 1.0
    assert talk.value("LAT") == "failed"
    assert talk.decoder.trouble == NO_FIX


def test_a_report_of_an_unknown_attitude_does_not_silence_the_other_format() -> None:
    talk = Talk()
    talk.say(AttitudeForeFlight(10.0, 20.0, 30.0, True, 104, 112), AttitudeLE())
    talk.say(AttitudeForeFlight(11.0, 21.0, 31.0, True, 104, 112))
    assert [talk.value(key) for key in ("ROLL", "PITCH", "HEAD")] == [11.0, 21.0, 31.0]
    talk.clock.now += 1.0
    assert "ROLL" not in talk.say(AttitudeLE())
    talk.clock.now += 0.1
    talk.say(AttitudeLE())
    assert talk.value("ROLL") == "failed"


def test_without_a_position_there_is_no_height() -> None:
    talk = Talk()
    talk.say(BEAT, Identity("a", "b"), HERE, GeometricAltitude(1000, vfom_m=10))
    assert talk.value("GPS_ELLIPSOID_ALT") == 1000.0
    talk.say(BEAT, HERE._replace(lat=None, lon=None, nic=0), GeometricAltitude(1000, vfom_m=10))
    assert talk.value("GPS_ELLIPSOID_ALT") == talk.value("GPS_ACCURACY_VERTICAL") == "failed"
    talk.say(BEAT, HERE, GeometricAltitude(1000, vfom_m=10))
    assert talk.value("GPS_ELLIPSOID_ALT") == 1000.0


def test_a_position_that_the_receiver_estimates_is_bad() -> None:
    talk = Talk()
    talk.say(BEAT, HERE._replace(extrapolated=True, ground_speed_kt=None))
    assert {talk.keys[key].flags for key in ("LAT", "LONG", "TRACK", "GPS_FIX_TYPE")} == {BAD}
    assert talk.value("GS") == "failed"
    assert talk.decoder.trouble == ESTIMATED
    talk.say(HERE)
    assert talk.keys["LAT"].flags == 0
    assert talk.decoder.trouble == ""


def test_a_position_that_is_no_longer_reported_fails_although_heartbeats_vouch_for_it() -> None:
    talk = Talk()
    talk.say(BEAT, HERE)
    talk.wait(2.5)
    talk.say(BEAT)
    assert talk.wait(0.5) == {}
    assert talk.wait(0.1).keys() == {*POSITION, *HEIGHT, "GPS_ACCURACY_VERTICAL", "GPS_FIX_TYPE"}
    assert talk.value("LAT") == talk.value("GPS_FIX_TYPE") == "failed"
    assert talk.decoder.trouble == NO_FIX
    assert talk.wait(0.5) == {}
    talk.say(BEAT, HERE)
    assert talk.value("GS") == 100.0


def test_a_receiver_that_hangs_reports_no_other_aircraft() -> None:
    talk = Talk()
    beat, other = BEAT._replace(utc_ok=True, seconds=5), HERE._replace(own=False, address=0x40621D)
    for _ in range(round(STUCK_AFTER_S) + 1):
        talk.say(beat, other)
        talk.clock.now += 1.1
    passed_on = len(talk.reports)
    talk.say(beat, other)
    assert len(talk.reports) == passed_on
    talk.say(beat._replace(seconds=6), other)
    assert len(talk.reports) == passed_on + 1


def test_traffic_is_passed_on_with_the_message_that_it_came_in() -> None:
    talk = Talk()
    other = HERE._replace(own=False, address=0x40621D, address_type=0)
    assert talk.say(other) == {}
    [(said, message)] = talk.reports
    assert said.address == 0x40621D
    assert message == encode(other)
    assert talk.decoder.counts["traffic"] == 1


def test_what_is_refused_is_shown() -> None:
    talk = Talk()
    assert (talk.decoder.refused, talk.decoder.name) == ("", "")
    talk.decoder.feed(b"~" + bytes(range(60)) + b"~")
    assert talk.decoder.refused == f"bad checksum: {bytes(range(40)).hex()}"
    talk.decoder.feed(frame(b"\x0a\x01"))
    assert talk.decoder.refused == "wrong length: 0a01"


# -- the plugin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(clock: Clock) -> Plugin:
    db = packaged_database(clock)
    with World(db, clock=clock).hosting():
        return Plugin("stratux", {})


def test_without_options_it_works_in_the_network_of_a_stratux(plugin: Plugin) -> None:
    assert plugin.options.url == "udp://0.0.0.0:4000"
    assert "192.168.10.0/24" in plugin.options.allow
    assert list(Plugin.check(plugin.options, plugin.db)) == []
    assert list(Plugin.claims(plugin.options)) == [("UDP port 4000", "port")]


def test_alt_goes_through_the_altimeter_setting_and_is_as_good(plugin: Plugin) -> None:
    db = plugin.db
    db.write("BARO", 29.92, "knob", 0)
    plugin.received(frame(encode(LEVEL)) * 2)
    assert db.read("ALT").value == pytest.approx(3000.0, abs=2.0)
    assert db.read("ALT").good
    db.write("BARO", 30.92, "sim/knob", 0)
    plugin.received(frame(encode(LEVEL)))
    assert db.read("ALT").value == pytest.approx(3911.4, abs=1.0)
    assert db.read("ALT").source == "sim/stratux", "it is no more real than the setting"
    assert db.read("PALT").source == "stratux"
    db.item("BARO").fail("lost", "knob")
    plugin.received(frame(encode(LEVEL)))
    assert db.read("ALT").bad
    plugin.received(frame(encode(AttitudeLE())))
    assert db.read("ALT").fail


def test_targets_are_in_the_status_and_the_own_address_is_not(plugin: Plugin) -> None:
    other = HERE._replace(own=False, address=0x40621D, address_type=0, callsign="KLM1023")
    own = HERE._replace(address=0x3C1234, address_type=0)
    plugin.received(frame(encode(other)) + frame(encode(own)) + frame(encode(own._replace(own=False))))
    targets = plugin.get_status()["targets"]
    assert list(targets) == ["40621D"]
    assert targets["40621D"]["call sign"] == "KLM1023"
    assert [t.report for t in traffic.table(plugin.db).heard_within() if t.address == 0x40621D] == [encode(other)]


@pytest.mark.parametrize("lat", [0.0, 95.0])
def test_an_impossible_position_of_another_aircraft_goes_nowhere(plugin: Plugin, lat: float) -> None:
    plugin.received(frame(encode(HERE._replace(own=False, address=5, lat=lat, lon=0.0))))
    (target,) = traffic.table(plugin.db).heard_within()
    assert (target.lat, target.lon, target.report) == (None, None, b"")


def test_a_frame_does_not_go_on_in_the_next_datagram(plugin: Plugin) -> None:
    whole = frame(encode(LEVEL))
    plugin.received(whole)
    plugin.received(whole[:10])
    plugin.received(whole[10:])
    assert plugin.counts["received"] == plugin.counts["used"] == 1


# -- a virtual Stratux -------------------------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.stratux",
        Stratux,
        "LAT LONG GS TRACK GPS_FIX_TYPE GPS_ELLIPSOID_ALT ROLL PITCH HEAD ALAT ANORM ROT VS PALT ALT",
        within={
            "LAT": 0.0005,
            "LONG": 0.0001,
            "GS": 0.51,
            "TRACK": 0.71,
            "ROLL": 0.06,
            "PITCH": 0.06,
            "HEAD": 0.06,
            "ALAT": 0.001,
            "ANORM": 0.06,
            "ROT": 0.06,
            "VS": 0.6,
            "GPS_ELLIPSOID_ALT": 2.6,
            "ALT": 2.0,
        },
        truth={"ALT": 2880.0},  # the gateway's altimeter setting is the standard one, not the aircraft's
        absurd={"PITCH": 95.0, "ROLL": 190.0},
        unknown=("LAT", "LONG", "GS", "TRACK", "GPS_ELLIPSOID_ALT", "ROLL", "PALT", "ALT"),
        repeats=True,
    )


class TestContractOverUdp(Contract):
    subject = replace(TestContract.subject, bench=UdpBench)
