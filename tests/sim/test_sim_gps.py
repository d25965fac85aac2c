"""The virtual GPS: it sends valid NMEA 0183 with the aircraft's position, at the speed of its line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.devices.nmea0183 import Gps, epoch, sentence
from fixgw.hw_sim.pty import VirtualPort

FRAMED = re.compile(rb"\$([^*$\r\n]{1,76})\*([0-9A-F]{2})\r\n")


class Wire:
    """A line that records its data."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True

    def sentences(self) -> list[list[str]]:
        """Fields of every complete sentence with a right checksum."""
        found = []
        for body, checksum in FRAMED.findall(self.data):
            total = 0
            for byte in body:
                total ^= byte
            if total == int(checksum, 16):
                found.append(body.decode().split(","))
        return found


def fly(gps: Gps, aircraft: Aircraft, seconds: float, step: float = 0.025) -> None:
    for i in range(round(seconds / step)):
        aircraft.step(step)
        gps.tick(aircraft, i * step)


def degrees(text: str, hemisphere: str) -> float:
    point = text.index(".") - 2
    value = int(text[:point]) + float(text[point:]) / 60.0
    return -value if hemisphere in "SW" else value


def aircraft_at(**values: float) -> list[list[str]]:
    told = {**Aircraft().values(), **values}
    return [body.split(",") for body in epoch(told, datetime(2025, 7, 21, 15, 4, 5, 670_000, UTC))]


def by_name(sentences: list[list[str]]) -> dict[str, list[str]]:
    return {s[0][2:]: s for s in sentences}


def test_a_known_sentence_gets_its_published_checksum() -> None:
    body = "GPGLL,4916.45,N,12311.12,W,225444,A"
    assert sentence(body) == b"$GPGLL,4916.45,N,12311.12,W,225444,A*31\r\n"


def test_an_epoch_gives_the_position_of_the_aircraft() -> None:
    wire, aircraft = Wire(), Aircraft()
    fly(Gps(wire), aircraft, 2.0)
    names = [s[0] for s in wire.sentences()]
    assert set(names) == {"GPRMC", "GPVTG", "GPGGA", "GPGSA", "GPGSV", "GPGST", "GPZDA"}
    rmc = by_name(wire.sentences())["RMC"]
    assert rmc[2] == "A"
    assert degrees(rmc[3], rmc[4]) == pytest.approx(aircraft.lat, abs=0.001)
    assert degrees(rmc[5], rmc[6]) == pytest.approx(aircraft.lon, abs=0.001)
    assert float(rmc[7]) == pytest.approx(float(aircraft.values()["GS"]), abs=3)
    assert rmc[9] == "210725"


@given(
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    track=st.floats(0, 360, exclude_max=True),
)
def test_every_position_is_written_within_a_centimetre(lat: float, lon: float, track: float) -> None:
    told = by_name(aircraft_at(LAT=lat, LONG=lon, TRACK=track, TRACKM=(track + 3.5) % 360.0))
    for fields in (told["RMC"][3:], told["GGA"][2:]):
        assert degrees(fields[0], fields[1]) == pytest.approx(lat, abs=1e-7)
        assert degrees(fields[2], fields[3]) == pytest.approx(lon, abs=1e-7)
        assert float(fields[0][2:]) < 60.0
        assert float(fields[2][3:]) < 60.0
    assert told["RMC"][10:12] == ["3.5", "W"]


def test_altitudes_are_in_metres_and_the_geoid_is_named() -> None:
    gga = by_name(aircraft_at(TALT=3000.0, GPS_ELLIPSOID_ALT=2887.0))["GGA"]
    assert float(gga[9]) == pytest.approx(914.4)
    assert float(gga[11]) == pytest.approx(-34.4)


def test_time_and_date_are_those_of_the_aircraft() -> None:
    told = by_name(aircraft_at())
    assert told["RMC"][1] == told["GGA"][1] == told["ZDA"][1] == "150405.67"
    assert told["ZDA"][2:5] == ["21", "07", "2025"]


def test_satellites_in_view_fill_as_many_sentences_as_needed() -> None:
    views = [s for s in aircraft_at(GPS_SATS_VISIBLE=9, GPS_SATS_TRACKED=5) if s[0] == "GPGSV"]
    assert [s[1:4] for s in views] == [["3", str(n), "09"] for n in (1, 2, 3)]
    assert sum((len(s) - 4) / 4 for s in views) == 9
    gsa = by_name(aircraft_at(GPS_SATS_VISIBLE=9, GPS_SATS_TRACKED=5))["GSA"]
    assert len(gsa) == 18
    assert sum(bool(s) for s in gsa[3:15]) == 5


def test_without_a_fix_it_sends_the_time_but_no_position() -> None:
    wire, aircraft = Wire(), Aircraft()
    gps = Gps(wire)
    gps.fix = False
    fly(gps, aircraft, 2.0)
    told = by_name(wire.sentences())
    assert told["RMC"][2] == "V"
    assert told["RMC"][3:9] == [""] * 6
    assert told["GGA"][6] == "0"
    assert told["GSA"][2] == "1"
    assert told["ZDA"][1]


def test_corrupted_sentences_all_have_a_wrong_checksum() -> None:
    wire = Wire()
    gps = Gps(wire)
    gps.spoiled = True
    fly(gps, Aircraft(), 2.0)
    assert len(FRAMED.findall(wire.data)) > 5
    assert wire.sentences() == []


def test_it_can_be_silenced_and_resumed() -> None:
    wire, aircraft = Wire(), Aircraft()
    gps = Gps(wire)
    gps.silent = True
    fly(gps, aircraft, 3.0)
    assert wire.data == b""
    gps.silent = False
    fly(gps, aircraft, 2.0)
    assert wire.sentences()


@pytest.mark.parametrize(("rate", "baud"), [(1, 9600), (5, 38400), (10, 115200)])
def test_complete_epochs_are_sent_at_their_rate(rate: int, baud: int) -> None:
    wire, aircraft = Wire(), Aircraft()
    gps = Gps(wire, rate=rate, baud=baud)
    fly(gps, aircraft, 10.0)
    assert gps.epochs == pytest.approx(10 * rate, abs=2)
    assert gps.skipped == 0
    assert len(wire.sentences()) == pytest.approx(8 * gps.epochs, abs=8)
    assert {len(s[1]) for s in wire.sentences() if s[0] == "GPRMC"} == {9}


def test_a_slow_line_can_carry_fewer_sentences() -> None:
    wire = Wire()
    gps = Gps(wire, baud=4800, sentences=("RMC", "GGA"))
    fly(gps, Aircraft(), 10.0)
    assert gps.skipped == 0
    assert {s[0] for s in wire.sentences()} == {"GPRMC", "GPGGA"}


def test_the_line_never_carries_more_than_its_baud_rate() -> None:
    wire, aircraft = Wire(), Aircraft()
    gps = Gps(wire, rate=10, baud=4800)
    aircraft.step(0.5)
    for i in range(400):
        before = len(wire.data)
        aircraft.step(0.025)
        gps.tick(aircraft, i * 0.025)
        assert len(wire.data) - before <= 0.025 * 480 + 1
    assert gps.skipped > 50
    assert len(wire.data) <= 480 * 10.0
    assert wire.data.count(b"$") == len(wire.sentences()) + (not wire.data.endswith(b"\n"))


def test_other_talkers_are_a_parameter() -> None:
    wire = Wire()
    fly(Gps(wire, talker="GN"), Aircraft(), 2.0)
    assert all(s[0].startswith("GN") for s in wire.sentences())


def test_the_date_is_right_across_new_year() -> None:
    wire, aircraft = Wire(), Aircraft(datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC))
    fly(Gps(wire), aircraft, 4.0)
    dates = [s[9] for s in wire.sentences() if s[0] == "GPRMC"]
    assert dates[0] == "311225"
    assert dates[-1] == "010126"
    assert aircraft.time - datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC) == pytest.approx(
        timedelta(seconds=4), abs=timedelta(milliseconds=1)
    )


@pytest.mark.slow
def test_it_sends_through_a_virtual_port_and_closes_it() -> None:
    port, aircraft = VirtualPort(), Aircraft()
    gps = Gps(port, baud=115200)
    with open(port.path, "rb", buffering=0) as device:
        fly(gps, aircraft, 2.0)
        assert device.read(6) == b"$GPRMC"
    gps.close()
    assert not port.plugged
