"""NMEA 0183 sentences: framing, meaning and refusals."""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL
from fixgw.drivers.nmea import (
    FIX_KEYS,
    GUIDANCE_KEYS,
    MAX_SENTENCE,
    STOPPED,
    Decoder,
    Framer,
    Sentence,
)
from fixgw.kit.update import Update


def framed(body: str, end: str = "\r\n") -> bytes:
    checksum = reduce(xor, body.encode("latin-1"), 0)
    return f"${body}*{checksum:02X}{end}".encode("latin-1")


class Receiver:
    """Sentences in, the last update of each key out."""

    def __init__(self) -> None:
        self.time = 0.0
        self.counts: dict[str, int] = {}
        self.framer = Framer(self.counts)
        self.decoder = Decoder(lambda: self.time, self.counts)
        self.updates: dict[str, Update] = {}

    def say(self, *bodies: str) -> dict[str, Update]:
        """The updates that the sentences cause."""
        changes = {
            update.key: update
            for body in bodies
            for sentence in self.framer.feed(framed(body))
            for update in self.decoder.decode(sentence)
        }
        self.updates.update(changes)
        return changes

    def value(self, key: str) -> Any:
        update = self.updates[key]
        assert not update.flags, update
        return update.value


@pytest.fixture
def gps() -> Receiver:
    return Receiver()


RMC = "GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W"
RMC_VOID = "GPRMC,123520,V,,,,,,,230394,,"
GGA = "GPGGA,123519,4807.038,N,01131.324,E,1,08,0.9,545.4,M,46.9,M,,"


def ends(body: str) -> list[Sentence]:
    return Framer().feed(framed(body))


# -- framing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n", "$", " \x00junk\r\n", "\xff\xfe\n"])
def test_a_sentence_with_a_right_checksum_is_accepted_with_any_line_end(end: str) -> None:
    assert Framer().feed(framed(RMC, end)) == ends(RMC) != []


def test_a_sentence_is_split_into_talker_kind_and_fields() -> None:
    assert ends("GNZDA,1,,3") == [Sentence("GN", "ZDA", ("1", "", "3"))]
    assert ends("PGRME,9.1,M") == [Sentence("P", "GRME", ("9.1", "M"))]


def test_a_checksum_can_be_in_lower_case() -> None:
    assert Framer().feed(b"$GPRMC,205150.00,V,,,,,,,,,,,V*4a\r\n")


def test_two_sentences_without_a_line_end_between_them_are_both_read() -> None:
    assert [s.kind for s in Framer().feed(framed(RMC, "") + framed(GGA))] == ["RMC", "GGA"]


def test_binary_junk_around_sentences_is_skipped() -> None:
    framer = Framer()
    junk = bytes(range(256))
    assert [s.kind for s in framer.feed(junk + b"\n" + framed(RMC) + junk + framed(GGA))] == ["RMC", "GGA"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (framed(RMC).replace(b"4807", b"4817"), "bad checksum"),
        (framed(RMC)[:30] + b"\r\n", "no checksum"),
        (framed(RMC)[:-4] + b"\r\n", "bad checksum"),
        (framed("gprmc,1"), "malformed"),
        (framed("GP"), "malformed"),
        (framed("GPTXT,\x01"), "malformed"),
        (framed("GPTXT,\xe9"), "malformed"),
        (framed("GPTXT," + "x" * MAX_SENTENCE), "too long"),
    ],
)
def test_a_broken_sentence_is_counted_by_its_reason(data: bytes, reason: str) -> None:
    framer = Framer()
    framer.feed(framed(GGA))  # this device sends checksums
    assert framer.feed(data) == []
    assert {k: n for k, n in framer.counts.items() if n} == {"received": 2, reason: 1}
    assert framer.refused == f"{reason}: {data[1:].strip()[:250]!r}"


@pytest.mark.parametrize("kind", ["GPTXT", "PTXT"])
def test_a_sentence_has_up_to_250_characters(kind: str) -> None:
    """Between the dollar and the end of the line. One longer is ignored if it is proprietary, for those may be."""
    for length, outcome in ((250, ""), (251, "ignored" if kind == "PTXT" else "too long")):
        data = framed(f"{kind},".ljust(length - 3, "x"))
        assert len(data.strip()) == length + 1
        for pieces in ([data], [data[:-2], b"\r\n"]):
            framer = Framer()
            found = [sentence for piece in pieces for sentence in framer.feed(piece)]
            assert len(found) == (not outcome)
            assert {k: n for k, n in framer.counts.items() if n} == {"received": 1} | ({outcome: 1} if outcome else {})


def test_an_unfinished_sentence_is_forgotten_after_an_interruption() -> None:
    framer = Framer()
    framer.feed(framed(RMC)[:30])
    framer.interrupt()
    assert framer.feed(framed(RMC)[30:]) == []
    assert len(framer.feed(framed(RMC))) == 1
    assert (framer.counts["received"], framer.refused) == (1, "")


def test_a_device_that_never_sends_a_checksum_is_accepted() -> None:
    bare = RMC.encode() + b"\r\n"
    framer = Framer()
    assert len(framer.feed(b"$" + bare + b"$" + bare)) == 2
    assert framer.feed(b"$GPRMC,1235$GPGGA\r\n")[0].kind == "GGA"  # the first one lost its end
    assert framer.counts["no checksum"] == 1


def test_once_a_checksum_has_been_seen_every_sentence_needs_one() -> None:
    framer = Framer()
    framer.feed(framed(GGA))
    assert framer.feed(b"$" + RMC.encode() + b"\r\n") == []
    assert framer.counts["no checksum"] == 1


def test_a_flood_without_an_end_of_line_takes_no_memory() -> None:
    framer = Framer()
    for _ in range(1000):
        framer.feed(b"$" + b"x" * 1000)
        assert len(framer._buffer) <= MAX_SENTENCE + 1
    assert framer.feed(b"\r\n" + framed(RMC)) == ends(RMC)


noise = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([framed(RMC), framed(GGA), framed(RMC, ""), b"$", b"\r", b"\n", b"*", b"$GPRMC,", b"x" * 300]),
    st.text("$*,\r\nGPRMCAVNSEW0123456789.-", max_size=60).map(str.encode),
)


@pytest.mark.slow
@given(st.lists(noise, max_size=20).map(b"".join), st.data())
def test_a_stream_can_be_cut_anywhere(stream: bytes, data: st.DataObject) -> None:
    whole = Framer()
    expected = whole.feed(stream)
    cut = Framer()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += cut.feed(stream[:size])
        stream = stream[size:]
        assert len(cut._buffer) <= MAX_SENTENCE + 1
    assert found == expected
    assert cut.counts == whole.counts


field = st.one_of(
    st.text("0123456789.-+ANSEWMVTKN", max_size=12),
    st.sampled_from(["", "A", "V", "123519", "4807.038", "N", "01131.324", "E", "1", "nan", "inf", "1e9", "9" * 400]),
)
KINDS = [kind if kind.startswith("P") else "GP" + kind for kind in Decoder._KINDS]


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.lists(field, max_size=22)), max_size=8))
def test_no_sentence_raises_or_gives_a_value_that_no_item_can_hold(
    sentences: list[tuple[str, list[str]]],
) -> None:
    decoder = Decoder(clock=lambda: 0.0)
    for kind, fields in sentences:
        talker, rest = (kind[:1], kind[1:]) if kind.startswith("P") else (kind[:2], kind[2:])
        for key, value, _, _ in decoder.decode(Sentence(talker, rest, tuple(fields))):
            if key in ("LAT", "LONG", "GS", "TRACK", "TRACKM", "HEAD") and value is not None:
                assert isinstance(value, float)
                assert -180.0 <= value <= 2000.0
            if key == "TIMEZ":
                assert len(str(value)) == 8


@given(st.binary(max_size=300))
def test_no_bytes_make_the_framer_raise(data: bytes) -> None:
    framer = Framer()
    for sentence in framer.feed(data):
        Decoder(clock=lambda: 0.0).decode(sentence)


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from(["GP", "GN", "GL", "GA", "GB", "BD", "GQ", "GI"]))
def test_a_position_is_read_back_exactly_for_any_talker(lat: float, lon: float, talker: str) -> None:
    assume(max(abs(lat), abs(lon)) > 0.01)  # a receiver without a fix sends 0/0

    def written(degrees: float, digits: int, letters: str) -> str:
        whole, minutes = divmod(round(abs(degrees) * 60, 7), 60)
        return f"{int(whole):0{digits}}{minutes:010.7f},{letters[degrees < 0]}"

    assume((round(lat, 9), round(lon, 9)) != (0.0, 0.0))  # receivers without a fix send this
    gps = Receiver()
    gps.say(f"{talker}GLL,{written(lat, 2, 'NS')},{written(lon, 3, 'EW')},000000.00,A,A")
    assert gps.value("LAT") == pytest.approx(lat, abs=2e-9)
    assert gps.value("LONG") == pytest.approx(lon, abs=2e-9)


# -- meaning -----------------------------------------------------------------------------------------------------------


def test_rmc_gives_position_speed_track_and_time(gps: Receiver) -> None:
    gps.say(RMC)
    assert gps.value("LAT") == pytest.approx(48.1173)
    assert gps.value("LONG") == pytest.approx(11.522067, abs=1e-6)
    assert gps.value("GS") == 22.4
    assert gps.value("TRACK") == 84.4
    assert gps.value("TIMEZ") == "12:35:19"
    assert [gps.value(key) for key in ("TIMEZH", "TIMEZM", "TIMEZS")] == [12, 35, 19]


def test_gga_gives_altitude_and_height_in_feet_and_the_satellites_used(gps: Receiver) -> None:
    gps.say(GGA)
    assert gps.value("TALT") == pytest.approx(1789.370, abs=1e-3)
    assert gps.value("GPS_ELLIPSOID_ALT") == pytest.approx(1943.241, abs=1e-3)
    assert gps.value("GPS_SATS_TRACKED") == 8


def test_gns_counts_as_its_best_constellation(gps: Receiver) -> None:
    gps.say("GNGNS,224749.00,3333.4268304,N,11153.3538273,W,NDN,19,0.6,406.110,-26.294,6.0,0138,V")
    assert gps.value("LAT") == pytest.approx(33.55711384)
    assert gps.value("GPS_FIX_TYPE") == 4
    assert gps.value("GPS_SATS_TRACKED") == 19
    assert gps.say("GNGNS,224750.00,,,,,NNN,00,99.9,,,,,V")["LAT"].flags == FAIL


@pytest.mark.parametrize(
    ("body", "latitude"),
    [
        ("PGRMF,290,293895,160305,093802,13,5213.1439,N,02100.6511,E,A,2,0,226,2,1", 52.219065),
        ("PASHR,POS,0,08,235842.00,4016.3,N,11123.4,W,1500.0,,120.5,10.5,0.1,1.8,1.0,1.2,1.1,", 40.271667),
        ("PSTI,030,212409.000,A,2447.0895,N,12100.5211,E,100.0,0.0,0.0,0.0,280316,A,0.0,0.0", 24.784825),
    ],
)
def test_proprietary_sentences_give_positions_too(gps: Receiver, body: str, latitude: float) -> None:
    gps.say(body)
    assert gps.value("LAT") == pytest.approx(latitude, abs=1e-6)


GARMIN = "PGRMF,290,293895,160305,093802,13,5213.1439,N,02100.6511,E,A,{},{},226,2,1"
ASHTECH = "PASHR,POS,{},08,235842.00,4016.3,N,11123.4,W,1500.0,,120.5,{},0.1,1.8,1.0,1.2,1.1,"


@pytest.mark.parametrize(("kind", "fix", "flags"), [("0", 1, FAIL), ("1", 2, 0), ("2", 3, 0), ("", 1, FAIL)])
def test_garmins_own_sentence_has_the_speed_in_km_h(gps: Receiver, kind: str, fix: int, flags: int) -> None:
    for _ in range(2):  # the dimensions are those of the last second
        gps.say(GARMIN.format(kind, "185.2").replace("093802", "093801"))
        changes = gps.say(GARMIN.format(kind, "185.2"))
    assert changes["LAT"].flags == flags
    assert (changes["GPS_FIX_TYPE"].value, changes["GPS_FIX_TYPE"].flags) == (fix, BAD if flags else 0)
    if not flags:
        assert changes["GS"].value == pytest.approx(100.0)
        assert changes["TRACK"].value == 226.0
        slowly = gps.say(GARMIN.format(kind, "9999"))
        assert not {"GS", "TRACK"} & slowly.keys()


@pytest.mark.parametrize(("quality", "fix"), [("0", 3), ("1", 4), ("2", 5), ("3", 5), ("4", None), ("", None)])
def test_ashtechs_own_sentence(gps: Receiver, quality: str, fix: int | None) -> None:
    changes = gps.say(ASHTECH.format(quality, "10.5"))
    if fix is None:
        assert changes["LAT"].flags == changes["GS"].flags == FAIL
        return
    assert changes["GPS_FIX_TYPE"].value == fix
    assert changes["LONG"].value == pytest.approx(-111.39)
    assert (changes["GS"].value, changes["TRACK"].value) == (10.5, 120.5)
    assert gps.say(ASHTECH.format(quality, "10.5").replace("POS", "SA4")) == {}


@pytest.mark.parametrize(
    ("status", "mode", "flags", "fix"),
    [
        ("A", "A", 0, 2),
        ("A", "R", 0, 5),
        ("A", "E", BAD, 1),
        ("A", "N", FAIL, 1),
        ("V", "A", FAIL, 1),
        ("V", "S", FAIL, 1),
    ],
)
def test_skytraqs_own_sentence(gps: Receiver, status: str, mode: str, flags: int, fix: int) -> None:
    body = f"PSTI,030,212409.000,{status},2447.0895,N,12100.5211,E,100.0,0.0,0.0,0.0,280316,{mode},0.0,0.0"
    changes = gps.say(body)
    assert (changes["LAT"].flags, changes["GPS_FIX_TYPE"].value) == (flags, fix)
    assert gps.decoder.trouble == changes["LAT"].reason
    assert gps.say(body.replace("030", "031")) == {}


@pytest.mark.parametrize(
    ("status", "flags", "fix"),
    [
        *[("G2", 0, 2), ("G3", 0, 3), ("D2", 0, 2), ("D3", 0, 4), ("RK", 0, 3), ("DR", BAD, 1)],
        *[("NF", FAIL, 1), ("TT", FAIL, 1), ("", FAIL, 1)],
    ],
)
def test_the_status_of_u_blox(gps: Receiver, status: str, flags: int, fix: int) -> None:
    for second in (52, 53):  # the dimensions are those of the last second
        changes = gps.say(
            f"PUBX,00,1553{second}.40,4128.55351,N,09026.41639,W,185.677,{status},2.1,2.0,100.0,45.00,0,,0.9,1.1,0.8,8,0,0"
        )
    assert (changes["LAT"].flags, changes["GPS_FIX_TYPE"].value) == (flags, fix)
    assert changes["GS"].flags == changes["GPS_ACCURACY_HORIZ"].flags == flags


@pytest.mark.parametrize(
    ("mode", "flags", "fix"),
    [
        *[
            ("R", 0, 5),
            ("F", 0, 5),
            ("D", 0, 4),
            ("P", 0, 3),
            ("A", 0, 3),
            ("E", BAD, 1),
            ("M", FAIL, 1),
            ("S", FAIL, 1),
        ],
        *[("N", FAIL, 1), ("", FAIL, 1), ("AD", 0, 4), ("NR", 0, 5), ("NA", 0, 3), ("AE", 0, 3)],
    ],
)
def test_the_mode_of_gns_and_rmc(gps: Receiver, mode: str, flags: int, fix: int) -> None:
    changes = gps.say(f"GNGNS,224749.00,3333.4268304,N,11153.3538273,W,{mode},19,0.6,406.110,-26.294,6.0,0138,V")
    assert (changes["LAT"].flags, changes["GPS_FIX_TYPE"].value) == (flags, fix)
    if len(mode) == 1:
        rmc = f"GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,,,{mode}"
        assert Receiver().say(rmc)["LAT"].flags == flags
        assert Receiver().say(f"GPGLL,4807.038,N,01131.324,E,123519,A,{mode}")["LAT"].flags == flags


@pytest.mark.parametrize(
    ("quality", "flags", "reason"),
    [
        ("0", FAIL, "no fix"),
        ("9", FAIL, "no fix"),
        ("02", 0, ""),
        ("6", BAD, "the receiver estimates its position (dead reckoning)"),
        ("7", FAIL, "the receiver's position was entered by hand"),
        ("8", FAIL, "the receiver is in simulator mode"),
    ],
)
def test_why_a_fix_is_not_good(gps: Receiver, quality: str, flags: int, reason: str) -> None:
    changes = gps.say(GGA.replace("E,1,", f"E,{quality},"))
    assert (changes["LAT"].flags, changes["LAT"].reason) == (flags, reason)
    assert (changes["TALT"].flags, changes["TALT"].reason) == (flags, reason)
    assert gps.decoder.trouble == reason


def test_a_differential_rmc_of_old_receivers(gps: Receiver) -> None:
    gps.say(
        RMC.replace(",A,", ",D,"), "GPGSA,A,3,1,2,3,,,,,,,,,,3.1,3.1,", RMC.replace(",A,", ",D,").replace("19", "20")
    )
    assert gps.value("GPS_FIX_TYPE") == 4


def test_before_anything_has_come_there_is_no_position(gps: Receiver) -> None:
    assert gps.decoder.trouble == "no position yet"
    gps.time = 100.0
    assert gps.decoder.tick() == []
    gps.say("GPZDA,000017.9,26,01,2020,,")
    assert gps.decoder.trouble == "no position yet"


def test_the_magnetic_track_is_true_minus_easterly_variation(gps: Receiver) -> None:
    gps.say(RMC)  # 3.1 west
    assert gps.value("TRACKM") == pytest.approx(87.5)
    gps.say("GPRMC,123520,A,4807.038,N,01131.324,E,022.4,002.0,230394,003.1,E")
    assert gps.value("TRACKM") == pytest.approx(358.9)


def test_the_receivers_own_magnetic_track_is_taken_from_vtg(gps: Receiver) -> None:
    gps.say(GGA, "GPVTG,054.7,T,034.4,M,005.5,N,010.2,K")
    assert (gps.value("TRACK"), gps.value("TRACKM"), gps.value("GS")) == (54.7, 34.4, 5.5)


@pytest.mark.parametrize("variation", ["0.0,E", ",", "0.0,W"])
def test_without_a_variation_there_is_no_magnetic_track(gps: Receiver, variation: str) -> None:
    assert "TRACKM" not in gps.say(f"GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,{variation}")


def test_gst_and_pgrme_give_the_accuracy_in_feet(gps: Receiver) -> None:
    gps.say(GGA, "GPGST,123519,1.0,,,,3.0,4.0,6.096")
    assert gps.value("GPS_ACCURACY_HORIZ") == pytest.approx(16.404, abs=1e-3)
    assert gps.value("GPS_ACCURACY_VERTICAL") == pytest.approx(20.0)
    gps.say("PGRME,3.048,M,6.096,M,12.0,M")
    assert gps.value("GPS_ACCURACY_HORIZ") == pytest.approx(10.0)


def test_a_compass_gives_the_magnetic_heading(gps: Receiver) -> None:
    gps.say("HCHDG,101.1,1.0,W,7.1,W")
    assert gps.value("HEAD") == pytest.approx(100.1)
    gps.say("HCHDM,238.5,M")
    assert gps.value("HEAD") == 238.5


def test_a_true_heading_is_made_magnetic_once_the_variation_is_known(gps: Receiver) -> None:
    assert gps.say("HEHDT,101.1,T") == {}
    gps.say("GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W")
    gps.say("HEHDT,101.1,T")
    assert gps.value("HEAD") == pytest.approx(104.2)
    gps.say("HCHDG,200.0,,,7.0,E", "HEHDT,001.0,T")
    assert gps.value("HEAD") == pytest.approx(354.0), "the compass knows the variation too"


def test_a_compass_without_a_heading_fails_only_its_own(gps: Receiver) -> None:
    gps.say("HCHDG,101.1,,,,", "GPHDT,,T")
    assert gps.value("HEAD") == pytest.approx(101.1)
    assert gps.say("HCHDG,,,,,")["HEAD"].flags == FAIL
    gps.say("HCHDM,238.5,M")
    assert gps.value("HEAD") == 238.5


def test_other_sentences_are_counted_as_ignored(gps: Receiver) -> None:
    assert gps.say("GPTXT,01,01,02,hello", "PUBX,00") == {}
    assert gps.counts["ignored"] == 2


def test_a_track_of_360_is_0(gps: Receiver) -> None:
    gps.say("GPRMC,123519,A,4807.038,N,01131.324,E,022.4,360.0,230394,,")
    assert gps.value("TRACK") == 0.0


# -- trust -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        RMC_VOID,
        "GPGGA,123520,,,,,0,00,99.9,,M,,M,,",
        "GPGGA,123520,4807.038,N,01131.324,E,0,03,9.9,545.4,M,46.9,M,,",
        "GPGGA,123520,4807.038,N,01131.324,E,,03,9.9,545.4,M,46.9,M,,",
        "GPGLL,4807.038,N,01131.324,E,123520,V",
        "GPGLL,,,,,123520,A",
        "GPRMC,123520,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W,N",
        "GPRMC,,V,,,,,,,,,,N",
    ],
)
def test_no_fix_fails_everything_that_depends_on_it_at_once(gps: Receiver, body: str) -> None:
    gps.say(RMC, GGA)
    changes = gps.say(body)
    for key in FIX_KEYS:
        assert changes[key].flags == FAIL
        assert changes[key].reason
        assert changes[key].value is None
    assert changes["GPS_FIX_TYPE"].value == 1
    assert gps.decoder.trouble


def test_time_continues_without_a_fix_but_is_suspect_before_the_first(gps: Receiver) -> None:
    assert gps.say("GPZDA,000017.9,26,01,2020,,")["TIMEZ"] == Update(
        "TIMEZ", "00:00:17", BAD, "no fix yet: the receiver's own clock"
    )
    gps.say(RMC, RMC_VOID)
    assert gps.value("TIMEZ") == "12:35:20"


def test_the_fix_comes_back_with_the_next_good_sentence(gps: Receiver) -> None:
    gps.say(RMC, RMC_VOID, "GPRMC,123521,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W")
    assert gps.value("LAT") == pytest.approx(48.1173)
    assert gps.decoder.trouble == ""


def test_the_old_form_of_vtg_has_no_letters(gps: Receiver) -> None:
    said = gps.say(GGA, "GPVTG,054.7,034.4,005.5,010.2")
    assert (said["TRACK"].value, said["TRACKM"].value, said["GS"].value) == (54.7, 34.4, 5.5)


def test_a_vtg_without_knots_is_read_in_kilometres_per_hour(gps: Receiver) -> None:
    assert gps.say(GGA, "GPVTG,054.7,T,,M,,N,018.52,K,A")["GS"].value == pytest.approx(10.0)
    assert "GS" not in gps.say(GGA, "GPVTG,054.7,T,,M,,N,,K,A")


def test_vtg_is_not_trusted_without_a_fix(gps: Receiver) -> None:
    assert gps.say(RMC_VOID, "GPVTG,054.7,T,034.4,M,005.5,N,010.2,K").get("GS") == Update("GS", None, FAIL, "no fix")


def test_a_simulator_is_never_taken_for_a_receiver(gps: Receiver) -> None:
    changes = gps.say("GPGGA,125106,3854.5087,N,07726.4523,W,8,10,2.0,268.8,M,-33.9,M,,")
    assert changes["LAT"].value == pytest.approx(38.908478, abs=1e-6)
    assert changes["LAT"].flags == changes["LONG"].flags == FAIL
    assert "simulator" in changes["LAT"].reason
    assert changes["TALT"].value is None


def test_dead_reckoning_is_suspect(gps: Receiver) -> None:
    changes = gps.say("GNRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,,,E")
    assert {changes[key].flags for key in ("LAT", "LONG", "GS", "TRACK")} == {BAD}


def test_no_track_at_standstill_fails_the_track_only(gps: Receiver) -> None:
    gps.say(RMC)
    changes = gps.say("GNRMC,123520,A,4807.038,N,01131.324,E,0.012,,230394,,,A")
    assert (changes["TRACK"].flags, changes["TRACKM"].flags) == (FAIL, FAIL)
    assert gps.value("GS") == 0.012


def test_one_constellation_without_a_fix_does_not_fail_another(gps: Receiver) -> None:
    gps.say(GGA, "GLGGA,123519,,,,,0,00,,,M,,M,,")
    assert gps.value("LAT") == pytest.approx(48.1173)
    assert gps.decoder.trouble == ""
    gps.say("GPGGA,123520,,,,,0,00,,,M,,M,,")
    assert gps.updates["LAT"].flags == FAIL


def test_the_estimate_of_one_constellation_is_that_of_the_receiver(gps: Receiver) -> None:
    gps.say(GGA)
    changes = gps.say(GGA.replace("GP", "GL").replace("E,1,", "E,6,"))
    assert changes["LAT"].flags == changes["GPS_FIX_TYPE"].flags == BAD
    assert "dead reckoning" in gps.decoder.trouble


def test_a_receiver_whose_time_stands_still_has_no_fix(gps: Receiver) -> None:
    gps.say(RMC)
    gps.time = 4.0
    gps.say(RMC)
    assert not gps.updates["LAT"].flags
    gps.time = 4.01
    assert gps.say(RMC)["LAT"].reason == "the receiver's time has stopped"


def test_the_altitude_of_a_2d_fix_is_suspect(gps: Receiver) -> None:
    gps.say("GPGSA,A,2,1,2,3,,,,,,,,,,3.1,3.1,", GGA)
    assert gps.updates["TALT"].flags == BAD
    assert gps.value("GPS_FIX_TYPE") == 2


def test_a_fix_without_an_altitude_fails_the_altitude(gps: Receiver) -> None:
    gps.say(GGA)
    assert gps.say("GPGGA,123520,4807.038,N,01131.324,E,1,08,0.9,,M,,M,,")["TALT"].flags == FAIL


@pytest.mark.parametrize(
    ("gga_quality", "gsa_mode", "fix_type"),
    [(0, 1, 1), (1, 2, 2), (1, 3, 3), (2, 3, 4), (2, 2, 2), (3, 3, 3), (4, 3, 5), (5, 3, 5), (6, 3, 1), (8, 3, 1)],
)
def test_the_fix_type(gps: Receiver, gga_quality: int, gsa_mode: int, fix_type: int) -> None:
    gps.say(f"GPGSA,A,{gsa_mode},1,2,3,,,,,,,,,,3.1,3.1,", GGA.replace("E,1,", f"E,{gga_quality},"))
    update = gps.updates["GPS_FIX_TYPE"]
    assert (update.value, update.flags) == (fix_type, BAD if fix_type == 1 else 0)


def test_the_fix_of_a_receiver_that_only_sends_rmc_is_2d(gps: Receiver) -> None:
    gps.say(RMC)
    assert gps.value("GPS_FIX_TYPE") == 2


def test_rmc_does_not_change_the_fix_type_of_gga(gps: Receiver) -> None:
    gps.say(GGA.replace("E,1,", "E,4,"))
    assert "GPS_FIX_TYPE" not in gps.say(RMC)


def test_satellites_of_all_constellations_are_added_up(gps: Receiver) -> None:
    gps.say("GPGSV,2,1,08,1,,,,2,,,,3,,,,4,,,", "GPGSV,2,2,08,5,,,,6,,,,7,,,,8,,,", "GLGSV,1,1,03,65,,,,66,,,,67,,,")
    assert gps.value("GPS_SATS_VISIBLE") == 11
    place = "4807.038,N,01131.324,E"
    gps.say(f"GPGGA,123519,{place},1,08", f"GLGGA,123519,{place},1,02")
    assert gps.value("GPS_SATS_TRACKED") == 10
    gps.say(f"GNGGA,123520,{place},1,12")
    assert gps.value("GPS_SATS_TRACKED") == 12


def test_a_satellite_received_on_two_signals_counts_once(gps: Receiver) -> None:
    gps.say("GPGSV,1,1,03,1,,,,2,,,,3,,,,1", "GPGSV,1,1,02,1,,,,2,,,,6")
    assert gps.value("GPS_SATS_VISIBLE") == 3


def test_a_constellation_that_is_no_longer_reported_is_not_counted(gps: Receiver) -> None:
    gps.say("GPGSV,1,1,03", "GLGSV,1,1,02")
    for _ in range(3):
        gps.say("GPGSV,1,1,03")
    assert gps.value("GPS_SATS_VISIBLE") == 3


@pytest.mark.parametrize(
    "absurd",
    [
        "GPGLL,9507.038,N,01131.324,E,123520,A",
        "GPGLL,4875.038,N,01131.324,E,123520,A",
        "GPGLL,4807.038,X,01131.324,E,123520,A",
        "GPGLL,4807.038,N,18131.324,E,123520,A",
        "GPGLL,-4807.038,N,01131.324,E,123520,A",
        "GPGLL,nan,N,01131.324,E,123520,A",
        "GPGLL,4807.038,N,72000.0000,E,123520,A",
    ],
)
def test_an_absurd_position_is_refused_and_counted(gps: Receiver, absurd: str) -> None:
    gps.say(RMC)
    assert gps.say(absurd)["LAT"] == Update("LAT", None, FAIL, "the receiver's position is missing or absurd")
    assert gps.counts["absurd values"] == 1


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ("GPRMC,253519,A,4807.038,N,01131.324,E,022.4,084.4,230394,,", "TIMEZ"),
        ("GPRMC,123519,A,4807.038,N,01131.324,E,1000000000,084.4,230394,,", "GS"),
        ("GPRMC,123519,A,4807.038,N,01131.324,E,-3,084.4,230394,,", "GS"),
        ("GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,275.0,W", "TRACKM"),
        ("GPGGA,123519,4807.038,N,01131.324,E,1,9000,0.9,545.4,M,46.9,M,,", "GPS_SATS_TRACKED"),
        ("GPGGA,123519,4807.038,N,01131.324,E,1,08,0.9,545.4,M,1e9,M,,", "GPS_ELLIPSOID_ALT"),
    ],
)
def test_any_other_absurd_field_is_counted_and_only_it_is_left_out(gps: Receiver, body: str, key: str) -> None:
    changes = gps.say(body)
    assert key not in changes
    assert changes["LAT"].value == pytest.approx(48.1173)
    assert gps.counts["absurd values"] == 1


@pytest.mark.parametrize(
    ("body", "key", "highest", "beyond", "meant"),
    [
        ("GPRMC,123519,A,4807.038,N,01131.324,E,{},084.4,230394,,", "GS", "2000", "2000.1", 2000.0),
        ("GPRMC,123519,A,4807.038,N,01131.324,E,022.4,{},230394,,", "TRACK", "359.9", "360.1", 359.9),
        ("GPGGA,123519,4807.038,N,01131.324,E,1,{},0.9,545.4,M,46.9,M,,", "GPS_SATS_TRACKED", "200", "201", 200),
        ("GPGGA,123519,4807.038,N,01131.324,E,1,08,0.9,0,M,{},M,,", "GPS_ELLIPSOID_ALT", "100000", "100001", 328083.99),
        ("GPGSV,1,1,{},1,,,,2,,,,3,,,", "GPS_SATS_VISIBLE", "200", "201", 200),
        ("GPGST,123519,1.0,,,,3.0,4.0,{}", "GPS_ACCURACY_VERTICAL", "100000", "100001", 328083.99),
        ("GPGST,123519,1.0,,,,0,{},1", "GPS_ACCURACY_HORIZ", "100000", "100001", 328083.99),
        ("PGRME,{},M,6.096,M,12.0,M", "GPS_ACCURACY_HORIZ", "100000", "100001", 328083.99),
        ("HCHDM,{},M", "HEAD", "359.9", "360.1", 359.9),
        ("GPVTG,054.7,T,{},M,005.5,N,010.2,K", "TRACKM", "359.9", "360.1", 359.9),
        ("GPVTG,054.7,T,034.4,M,,N,{},K", "GS", "3704", "3704.1", 2000.0),
    ],
)
def test_numbers_up_to_their_limits(
    gps: Receiver, body: str, key: str, highest: str, beyond: str, meant: float
) -> None:
    gps.say(GGA)
    assert gps.say(body.format(highest))[key].value == pytest.approx(meant)
    before = gps.counts["absurd values"]
    changes = gps.say(body.format(beyond))
    assert key not in changes or changes[key].value is None
    assert gps.counts["absurd values"] == before + 1
    assert key not in gps.say(body.format("")) or gps.updates[key].value is None
    assert gps.counts["absurd values"] == before + 1, "what is missing is not absurd"


@pytest.mark.parametrize(
    ("body", "feet"), [("-2000,F,2", -2000.0), ("60000,f,2", 60000.0), ("-2001,F,2", None), ("60001,F,2", None)]
)
def test_a_pressure_altitude_up_to_its_limits(gps: Receiver, body: str, feet: float | None) -> None:
    reason = "" if feet is not None else "the receiver sends no pressure altitude, or an absurd one"
    assert gps.say(f"PGRMZ,{body}")["PALT"] == Update("PALT", feet, 0 if feet is not None else FAIL, reason)


@pytest.mark.parametrize("body", ["2963,M,2", "2963,F,", "2963,,2"])
def test_an_altitude_in_another_unit_or_of_another_kind_is_not_taken(gps: Receiver, body: str) -> None:
    assert gps.say(f"PGRMZ,{body}") == {}


@pytest.mark.parametrize("units", ["F,46.9,M", "M,46.9,F"])
def test_heights_in_another_unit_are_not_taken(gps: Receiver, units: str) -> None:
    changes = gps.say(f"GPGGA,123519,4807.038,N,01131.324,E,1,08,0.9,545.4,{units},,")
    assert not {"TALT", "GPS_ELLIPSOID_ALT"} & changes.keys()
    assert "TALT" in gps.say("GPGGA,123520,4807.038,N,01131.324,E,1,08,0.9,545.4,,,,,")
    assert "GPS_ACCURACY_HORIZ" not in gps.say("PGRME,9.1,F,6.096,M")


@pytest.mark.parametrize(
    ("time", "known"),
    [("000000", True), ("235959", True), ("240000", False), ("126000", False), ("123461", False), ("1235", False)],
)
def test_a_time_up_to_its_limits(gps: Receiver, time: str, known: bool) -> None:
    gps.say(RMC)
    changes = gps.say(f"GPZDA,{time},31,12,2016,,")
    assert ("TIMEZ" in changes) is known
    assert gps.counts["absurd values"] == (not known)


def test_a_time_is_told_once(gps: Receiver) -> None:
    gps.say(RMC)
    assert not {"TIMEZ", "TIMEZS"} & gps.say(GGA, "GPZDA,123519.00,31,12,2016,,").keys()
    assert gps.say("GPZDA,123519.50,31,12,2016,,")["TIMEZS"] == Update("TIMEZS", 19)


def test_a_leap_second_is_a_valid_time(gps: Receiver) -> None:
    gps.say(RMC, "GPZDA,235960.00,31,12,2016,,")
    assert gps.value("TIMEZ") == "23:59:60"


# -- false positions ---------------------------------------------------------------------------------------------------


def fly(gps: Receiver, second: int, *more: str, place: str = "4807.038,N,01131.324,E") -> dict[str, Update]:
    """An epoch of a receiver at this second of our time, and of its own."""
    gps.time = float(second)
    clock = f"12{second // 60:02}{second % 60:02}"
    return gps.say(
        f"GPRMC,{clock},A,{place},022.4,084.4,230394,003.1,W",
        f"GPGGA,{clock},{place},1,08,0.9,545.4,M,46.9,M,,",
        *more,
    )


RMB = "GPRMB,A,0.25,L,,ALFA,4800.000,N,01130.000,E,020.0,090.0,120.0,V,A"
APB = "GPAPB,A,A,0.25,L,N,V,V,087.0,M,ALFA,087.0,M,087.0,M,A"
GSV = "GPGSV,1,1,03,1,,,,2,,,,3,,,"
ALL = {*FIX_KEYS, *GUIDANCE_KEYS, "GPS_SATS_TRACKED", "GPS_SATS_VISIBLE", "GPS_FIX_TYPE", "TIMEZ"} - {
    "GPS_ACCURACY_HORIZ",
    "GPS_ACCURACY_VERTICAL",
}


def test_when_its_time_stands_still_all_values_of_a_receiver_fail(gps: Receiver) -> None:
    for second in range(3):
        fly(gps, second, RMB, APB, GSV, "HCHDM,101.0,M")
    assert not any(gps.updates[key].flags for key in ALL)
    for tenth in range(30, 100):
        gps.time = tenth / 10
        clock = "120002"
        gps.say(f"GPRMC,{clock},A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W", RMB, APB, GSV, "HCHDM,101.0,M")
    assert {key for key in ALL if gps.updates[key].flags != FAIL} == set()
    assert {gps.updates[key].reason for key in ALL} == {STOPPED}
    assert gps.decoder.trouble == STOPPED
    assert gps.value("HEAD") == 101.0, "the compass on the same line is another device"
    fly(gps, 11, RMB, APB, GSV)
    assert not any(gps.updates[key].flags for key in ALL)


def test_a_receiver_that_stops_sending_its_position_fails_within_five_seconds(gps: Receiver) -> None:
    fly(gps, 1, RMB, APB)
    gps.time = 5.0
    gps.say(RMB, GSV)
    assert gps.decoder.tick() == []
    gps.time = 5.01
    failed = gps.decoder.tick()
    assert {u.key for u in failed} >= {"LAT", "LONG", "XTRACK", "WPLAT", "GPS_FIX_TYPE"}
    assert {(u.value, u.flags, u.reason) for u in failed} == {(None, FAIL, "no position for 4 seconds")}
    assert gps.decoder.trouble == "no position for 4 seconds"
    assert gps.decoder.tick() == [], "once is enough"
    assert {u.flags for u in gps.say(RMB, GSV).values()} == {FAIL}
    assert not any(u.flags for u in fly(gps, 6).values())


@pytest.mark.parametrize(
    "frozen",
    [
        ["GPRMC,120002,A,{place},022.4,084.4,230394,003.1,W", "GPZDA,1200{second:02}.00,23,03,1994,00,00"],
        ["GPRMC,120002.80,A,{place},022.4,084.4,230394,003.1,W", "GPGLL,{place},120002.60,A"],
        ["GPGGA,120002.00,{place},1,08,0.9,545.4,M,46.9,M,,", "GPGLL,{place},120002,A"],
    ],
    ids=["only the clock runs on", "two times in turn", "the same time in two forms"],
)
def test_a_position_whose_time_stands_still_fails_whatever_else_is_sent(gps: Receiver, frozen: list[str]) -> None:
    for second in range(3):
        fly(gps, second, RMB, APB)
    for second in range(3, 12):
        gps.time = float(second)
        gps.say(*(text.format(place="4807.038,N,01131.324,E", second=second) for text in frozen), RMB, APB)
    assert gps.decoder.trouble == STOPPED
    assert {gps.updates[key].flags for key in ("LAT", "GS", "XTRACK", "CDI", "WPLAT")} == {FAIL}
    fly(gps, 12, RMB)
    assert not gps.updates["LAT"].flags


def test_the_guidance_of_a_silent_navigator_without_a_position_fails(gps: Receiver) -> None:
    gps.say(RMB)
    assert gps.value("XTRACK") == 0.25
    gps.time = 8.0
    assert gps.decoder.tick() == []
    gps.time = 8.01
    assert {*gps.decoder.tick()} == {
        Update(key, None, FAIL, "the navigator is silent") for key in ("XTRACK", "CDI", "WPNAME", "WPLAT", "WPLON")
    }
    assert gps.decoder.tick() == []
    gps.say(RMB)
    assert gps.value("XTRACK") == 0.25


def test_guidance_satellites_and_fix_type_are_lost_with_the_fix(gps: Receiver) -> None:
    fly(gps, 1, RMB, APB, GSV)
    changes = gps.say("GPRMC,120002,V,,,,,,,230394,,", RMB, APB, GSV, "GPBOD,087.0,T,087.0,M,ALFA,")
    assert {changes[key].flags for key in GUIDANCE_KEYS} == {FAIL}
    # Bad but not failed: the number is true, but the fix of another receiver is better.
    assert {changes[key].flags for key in ("GPS_SATS_TRACKED", "GPS_SATS_VISIBLE", "GPS_FIX_TYPE")} == {BAD}


def test_a_position_of_zero_zero_is_no_position(gps: Receiver) -> None:
    fly(gps, 1)
    changes = gps.say("GPRMC,000000.00,A,0000.000,N,00000.000,E,0.0,0.0,060180,,,A")
    assert {changes[key].flags for key in ("LAT", "LONG", "GS", "TRACK", "TIMEZ")} <= {FAIL, BAD}
    assert changes["LAT"].value is None
    assert "0/0" in gps.decoder.trouble
    gps.say("GPRMB,A,0.25,L,,ALFA,0000.000,N,00000.000,E,020.0,090.0,120.0,V,A")
    assert gps.updates["WPLAT"].flags == FAIL


def test_a_position_on_the_equator_is_valid(gps: Receiver) -> None:
    fly(gps, 1, place="0000.000,N,01131.324,E")
    assert gps.value("LAT") == 0.0


def test_a_position_that_jumps_is_trusted_only_if_the_receiver_stays_there(gps: Receiver) -> None:
    for second in range(3):
        fly(gps, second)
    elsewhere = "4907.038,N,01131.324,E"
    changes = fly(gps, 3, place=elsewhere)
    assert {changes[key].flags for key in ("LAT", "LONG", "GS", "TRACK", "GPS_FIX_TYPE")} == {BAD}
    assert fly(gps, 4)["LAT"].flags == 0, "it is back"
    for second in (5, 6, 7):
        assert fly(gps, second, place=elsewhere)["LAT"].flags == BAD
    assert fly(gps, 8, place=elsewhere)["LAT"].flags == 0, "it was wrong before"
    assert fly(gps, 600, place="4807.038,N,01131.324,E")["LAT"].flags == 0, "in ten minutes it can be anywhere nearby"


def test_a_recording_can_be_played_fast(gps: Receiver) -> None:
    fly(gps, 1)
    assert not gps.say("GPRMC,121000,A,4907.038,N,01131.324,E,022.4,084.4,230394,003.1,W")["LAT"].flags


def test_pubx_00_of_u_blox_is_read(gps: Receiver) -> None:
    gps.say(
        "PUBX,00,155352.40,4128.55351,N,09026.41639,W,185.677,G3,2.1,2.0,100.000,45.00,0.000,,0.9,1.1,0.8,8,0,0",
        "PUBX,00,155353.40,4128.55351,N,09026.41639,W,185.677,G3,2.1,2.0,100.000,45.00,0.000,,0.9,1.1,0.8,8,0,0",
    )
    assert gps.value("LAT") == pytest.approx(41.4758918)
    assert gps.value("LONG") == pytest.approx(-90.4402732)
    assert gps.value("GS") == pytest.approx(54.0, abs=0.01)
    assert gps.value("TRACK") == 45.0
    assert gps.value("GPS_ACCURACY_HORIZ") == pytest.approx(6.89, abs=0.01)
    assert gps.value("GPS_ACCURACY_VERTICAL") == pytest.approx(6.56, abs=0.01)
    assert gps.value("GPS_SATS_TRACKED") == 8
    assert gps.value("GPS_FIX_TYPE") == 3
    assert not {"TALT", "GPS_ELLIPSOID_ALT"} & gps.updates.keys()
    lost = "PUBX,00,155354.40,0000.00000,N,00000.00000,E,0.000,NF,5303302,3750001,0.0,0.0,0.0,,99.99,99.99,99.99,0,0,0"
    changes = gps.say(lost)
    assert changes["LAT"].flags == FAIL


def test_overlong_proprietary_sentences_are_silently_ignored() -> None:
    satellites = "".join(f",{n},e,123,45,40,064" for n in range(1, 25))
    data = framed(f"PUBX,03,24{satellites}")
    assert len(data) > MAX_SENTENCE
    for size in (len(data), 100):
        framer = Framer()
        for start in range(0, len(data), size):
            assert framer.feed(data[start : start + size]) == []
        assert {k: n for k, n in framer.counts.items() if n} == {"received": 1, "ignored": 1}


@pytest.mark.parametrize(
    ("variation", "trackm"), [("-10.8,W", 95.2), ("10.8,W", 95.2), ("10.8,E", 73.6), ("-10.8,E", None)]
)
def test_a_variation_with_a_sign_and_a_letter(gps: Receiver, variation: str, trackm: float | None) -> None:
    gps.say(f"GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,{variation}")
    assert trackm is None or gps.value("TRACKM") == pytest.approx(trackm)
    assert (trackm is None) == ("TRACKM" not in gps.updates)
    assert gps.counts["absurd values"] == (trackm is None)


def test_a_variation_of_zero_is_valid_if_it_was_nearly_zero_before(gps: Receiver) -> None:
    rmc = "GPRMC,{},A,4807.038,N,01131.324,E,022.4,084.4,230394,{}"
    assert "TRACKM" not in gps.say(rmc.format("123519", "0.0,E"))
    gps.say(rmc.format("123520", "0.1,E"))
    assert gps.say(rmc.format("123521", "0.0,E"))["TRACKM"].value == pytest.approx(84.4)
    gps.say(rmc.format("123522", "0.5,W"))
    assert "TRACKM" in gps.say(rmc.format("123523", "0.0,E"))
    gps.say(rmc.format("123524", "0.6,W"))
    assert "TRACKM" not in gps.say(rmc.format("123525", "0.0,E"))


def test_no_cross_track_error_needs_no_side(gps: Receiver) -> None:
    gps.say("GPXTE,A,A,0.00,,N,A")
    assert gps.value("XTRACK") == 0.0


def test_a_talker_can_contain_digits(gps: Receiver) -> None:
    gps.say("24HDG,182.1,00.0,E,00.0,E")
    assert gps.value("HEAD") == 182.1


@pytest.mark.parametrize(("body", "feet"), [("2963,F,2", 2963.0), ("93,f,3", None), (",F,2", "failed")])
def test_pgrmz_gives_the_pressure_altitude(gps: Receiver, body: str, feet: float | str | None) -> None:
    changes = gps.say(f"PGRMZ,{body}")
    if feet is None:
        assert changes == {}, "the altitude of the GPS"
    elif feet == "failed":
        assert changes["PALT"].flags == FAIL
    else:
        assert gps.value("PALT") == feet
