"""GDL 90: each number of a message up to its limits, what lies beyond them, and frames in a stream.

The vectors of the messages as a whole are those of test_stratux.
"""

from __future__ import annotations

from typing import Any

import pytest

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


def again(said: Message) -> Any:
    """What a message says after it was sent."""
    return decode(encode(said))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("address", 0, 0),
        ("address", 0xABCDEF, 0xABCDEF),
        ("address_type", 15, 15),
        ("alert", 1, 1),
        ("airborne", True, True),
        ("extrapolated", True, True),
        ("emitter", 39, 39),
        ("emergency", 6, 6),
        ("nic", 11, 11),
        ("nacp", 11, 11),
        ("altitude_ft", -1000, -1000),
        ("altitude_ft", -1012, -1000),
        ("altitude_ft", -1013, None),
        ("altitude_ft", 1234, 1225),
        ("altitude_ft", 101_350, 101_350),
        ("altitude_ft", 101_363, None),
        ("ground_speed_kt", 0, 0),
        ("ground_speed_kt", -1, 0),
        ("ground_speed_kt", 4094, 4094),
        ("ground_speed_kt", 4095, 4094),
        ("ground_speed_kt", None, None),
        ("vertical_speed_fpm", -64, -64),
        ("vertical_speed_fpm", 32_576, 32_576),
        ("vertical_speed_fpm", 40_000, 32_640),
        ("vertical_speed_fpm", -40_000, -32_640),
        ("vertical_speed_fpm", None, None),
        ("callsign", "N123ABCDE", "N123ABCD"),
        ("callsign", "N\u00e9 1", "N? 1"),
        ("lat", 90.0, 90.0),
        ("lat", -90.0, -90.0),
        ("lon", -180.0, -180.0),
        ("lon", 179.99998, pytest.approx(179.99998, abs=2.2e-5)),
    ],
)
def test_each_number_of_a_report(own: bool, field: str, sent: Any, read: Any) -> None:
    said = Report(own, 0x123456, lat=45.0, lon=90.0, nic=8)
    assert again(said._replace(**{field: sent})) == said._replace(**{field: read})


@pytest.mark.parametrize("kind", [None, "true_track", "magnetic_heading", "true_heading"])
@pytest.mark.parametrize(("sent", "read"), [(0.0, 0.0), (90.0, 90.0), (359.0, 358.59375), (359.4, 0.0), (None, None)])
def test_the_track_of_a_report(kind: Any, sent: float | None, read: float | None) -> None:
    known = kind is not None and sent is not None
    report = again(Report(True, 1, track_kind=kind, track_deg=sent))
    assert (report.track_kind, report.track_deg) == ((kind, read) if known else (None, None))


@pytest.mark.parametrize(
    ("place", "placed"),
    [
        ((0.0, 0.0, 0), False),
        ((0.0, 0.0, 8), True),
        ((1.0, 0.0, 0), True),
        ((0.0, 1.0, 0), True),
        ((None, 1.0, 8), False),
    ],
)
def test_a_position_of_nothing_but_zeros_is_none(place: tuple[float, float, int], placed: bool) -> None:
    lat, lon, nic = place
    report = again(Report(True, 1, lat=lat, lon=lon, nic=nic))
    assert (report.lat is not None) == (report.lon is not None) == placed
    assert report.nic == (nic if placed else 0)


def test_a_climb_that_is_reserved_is_not_known() -> None:
    message = bytearray(encode(Report(True, 1, vertical_speed_fpm=32_640)))
    assert message[15:17] == b"\xf1\xfe"
    for climb, read in ((b"\xf1\xff", None), (b"\xf8\x00", None), (b"\xfe\x02", -32_640), (b"\xfe\x01", None)):
        message[15:17] = climb
        report = decode(bytes(message))
        assert isinstance(report, Report)
        assert report.vertical_speed_fpm == read


@pytest.mark.parametrize("field", Heartbeat._fields[:10])
def test_each_bit_of_a_heartbeat(field: str) -> None:
    none: Any = dict.fromkeys(Heartbeat._fields[:10], False)
    said = Heartbeat(**none | {field: True})
    assert again(said) == said
    assert (
        encode(said)[:3].hex()
        == {
            "gps_valid": "008000",
            "maintenance": "004000",
            "ident": "002000",
            "address_talkback": "001000",
            "battery_low": "000800",
            "ratcs": "000400",
            "initialised": "000100",
            "csa_requested": "000040",
            "csa_not_available": "000020",
            "utc_ok": "000001",
        }[field]
    )


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("seconds", 65_535, 65_535),
        ("seconds", 65_536, 65_536),
        ("seconds", 86_399, 86_399),
        ("uplinks", 31, 31),
        ("uplinks", 32, 31),
        ("messages_received", 1023, 1023),
        ("messages_received", 1024, 1023),
        ("messages_received", 257, 257),
    ],
)
def test_each_number_of_a_heartbeat(field: str, sent: int, read: int) -> None:
    said: Any = {field: sent}
    assert again(Heartbeat(True, **said)) == Heartbeat(True)._replace(**said | {field: read})


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (GeometricAltitude(1943), GeometricAltitude(1945)),
        (GeometricAltitude(163_835), GeometricAltitude(163_835)),
        (GeometricAltitude(200_000), GeometricAltitude(163_835)),
        (GeometricAltitude(-163_840), GeometricAltitude(-163_840)),
        (GeometricAltitude(-200_000), GeometricAltitude(-163_840)),
        (GeometricAltitude(0, True, 0), GeometricAltitude(0, True, 0)),
        (GeometricAltitude(0, vfom_m=-1), GeometricAltitude(0, vfom_m=0)),
        (GeometricAltitude(0, vfom_m=32_765), GeometricAltitude(0, vfom_m=32_765)),
        (GeometricAltitude(0, vfom_m=40_000), GeometricAltitude(0, False, 32_766, True)),
        (GeometricAltitude(0, True, 5, True), GeometricAltitude(0, True, 32_766, True)),
    ],
)
def test_heights(sent: GeometricAltitude, read: GeometricAltitude) -> None:
    assert again(sent) == read


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("roll_deg", 180.0, 180.0),
        ("roll_deg", -180.0, -180.0),
        ("roll_deg", 180.1, None),
        ("pitch_deg", -180.1, None),
        ("heading_deg", 360.0, 0.0),
        ("heading_deg", 360.1, None),
        ("slip_deg", -180.0, -180.0),
        ("slip_deg", 180.1, None),
        ("yaw_rate_dps", 3276.6, 3276.6),
        ("yaw_rate_dps", 3276.7, None),
        ("g", -3276.6, -3276.6),
        ("g", 3276.7, None),
        ("ias_raw", 104, 104),
        ("pressure_altitude_ft", -5000, -5000),
        ("pressure_altitude_ft", 60_534, 60_534),
        ("pressure_altitude_ft", 60_535, None),
        ("vertical_speed_fpm", 32_766, 32_766),
        ("vertical_speed_fpm", -32_766, -32_766),
        ("vertical_speed_fpm", 32_767, None),
        ("vertical_speed_fpm", -32_767, None),
    ],
)
def test_each_number_of_an_attitude_of_stratux(field: str, sent: Any, read: Any) -> None:
    assert again(AttitudeLE()._replace(**{field: sent})) == AttitudeLE()._replace(**{field: read})


def test_the_heading_of_a_gyro_is_reduced_to_a_circle() -> None:
    message = encode(AttitudeLE(heading_deg=10.0))
    for raw, heading in ((3700, 10.0), (-100, 350.0), (0x7FFF, None)):
        said = decode(message[:8] + (raw & 0xFFFF).to_bytes(2, "big") + message[10:])
        assert isinstance(said, AttitudeLE)
        assert said.heading_deg == heading


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("roll_deg", -180.0, -180.0),
        ("roll_deg", 180.1, None),
        ("pitch_deg", 180.0, 180.0),
        ("pitch_deg", -180.1, None),
        ("ias_kt", 0, 0),
        ("ias_kt", 65_534, 65_534),
        ("ias_kt", 65_535, None),
        ("tas_kt", -1, None),
        ("tas_kt", 256, 256),
    ],
)
def test_each_number_of_an_attitude_of_foreflight(field: str, sent: Any, read: Any) -> None:
    assert again(AttitudeForeFlight()._replace(**{field: sent})) == AttitudeForeFlight()._replace(**{field: read})


@pytest.mark.parametrize("magnetic", [True, False])
@pytest.mark.parametrize(("sent", "read"), [(0.0, 0.0), (359.9, 359.9), (359.96, 0.0), (360.0, 0.0), (-10.0, 350.0)])
def test_the_heading_of_an_attitude_of_foreflight(magnetic: bool, sent: float, read: float) -> None:
    assert again(AttitudeForeFlight(heading_deg=sent, heading_magnetic=magnetic)) == AttitudeForeFlight(
        heading_deg=read, heading_magnetic=magnetic
    )
    assert again(AttitudeForeFlight(heading_deg=sent)).heading_magnetic is False


@pytest.mark.parametrize(
    ("at", "most", "beyond"),
    [(2, 1800, 1801), (2, -1800, -1801), (4, 1800, 1801), (6, 3600, 3601), (6, 0x8E10, 0x8E11)],
)
def test_angles_beyond_a_circle_are_refused(at: int, most: int, beyond: int) -> None:
    message = encode(AttitudeForeFlight())
    for raw, kind in ((most, AttitudeForeFlight), (beyond, Rejected)):
        said = decode(message[:at] + (raw & 0xFFFF).to_bytes(2, "big") + message[at + 2 :])
        assert isinstance(said, kind)
    assert said == Rejected(0x65)


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("serial", 0, 0),
        ("serial", 2**64 - 2, 2**64 - 2),
        ("serial", None, None),
        ("name", "Flug\u00fc\u00fc", "Flug\u00fc\u00fc"),
        ("name", "Fluggg\u00fc\u00fc", "Fluggg\u00fc"),
        ("name", "\x07", "?"),
        ("name", " a\0b", "a"),
        ("long_name", "x" * 17, "x" * 16),
        ("geometric_altitude_is_msl", True, True),
        ("internet_policy", 2, 2),
        ("version", 7, 7),
    ],
)
def test_each_part_of_an_identity(field: str, sent: Any, read: Any) -> None:
    said = Identity("fixgw", "FIX Gateway", 1, internet_policy=1)
    assert again(said._replace(**{field: sent})) == said._replace(**{field: read})


def test_an_identity_byte_by_byte() -> None:
    assert encode(Identity("ab", "cd", 258, True, 2, 1)).hex() == (
        "650001" + "0000000000000102" + "6162000000000000" + "63640000000000000000000000000000" + "00000005"
    )
    assert encode(Identity("", ""))[3:11] == b"\xff" * 8


@pytest.mark.parametrize(
    ("gps", "ahrs", "protocol", "sent"), [(True, True, 1, "cc07"), (True, False, 1, "cc06"), (False, True, 2, "cc09")]
)
def test_the_heartbeat_of_a_stratux(gps: bool, ahrs: bool, protocol: int, sent: str) -> None:
    said = StratuxHeartbeat(gps, ahrs, protocol)
    assert encode(said).hex() == sent
    assert again(said) == said


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("00" * 6, None),
        ("00" * 8, None),
        ("0a" + "00" * 26, None),
        ("14" + "00" * 28, None),
        ("0b" + "00" * 3, None),
        ("0b" + "00" * 5, None),
        ("cc", None),
        ("cc0000", None),
        ("4c", None),
        ("4c45", Unknown(0x4C)),
        ("4c450201" + "00" * 20, Unknown(0x4C)),
        ("4c450101" + "00" * 19, None),
        ("4c450101" + "00" * 21, None),
        ("65", None),
        ("6500" + "00" * 36, None),
        ("6501" + "00" * 11, None),
        ("6502", Unknown(0x65)),
        ("6500" + "00" * 10, Unknown(0x65)),  # SkyRadar's
        ("6501" + "00" * 19, Unknown(0x65)),
        ("5358", Unknown(0x53)),
        ("07", Unknown(0x07)),
    ],
)
def test_a_message_of_another_length_or_kind(message: str, said: Message | None) -> None:
    assert decode(bytes.fromhex(message)) == said


def test_what_nobody_knows_cannot_be_sent() -> None:
    with pytest.raises(TypeError):
        encode(Unknown(1))


# -- frames ------------------------------------------------------------------------------------------------------------

BEAT = encode(StratuxHeartbeat(True, True))


@pytest.mark.parametrize("stuffed", [b"", b"\xcc", b"\xcc\x07", b"\xcc\x07\x7d", b"\xcc\x07\x00\x00", b"\0\0"])
def test_what_is_no_frame(stuffed: bytes) -> None:
    assert unframe(stuffed) is None


def test_frames_begin_and_end_with_a_flag_which_two_may_share() -> None:
    one, framer = frame(BEAT)[1:-1], Framer()
    assert framer.feed(b"noise") == []
    assert framer.feed(b"~" + one) == []
    assert framer.feed(b"~" + one + b"~~") == [one, one]
    assert framer.feed(one + b"~" + one[:2]) == [one]
    framer.interrupt()
    assert framer.feed(one[2:] + b"~") == [], "begins in the middle"
    assert framer.feed(one + b"~") == [one]


@pytest.mark.parametrize(("length", "kept"), [(876, True), (877, False)])
def test_a_frame_has_up_to_876_bytes(length: int, kept: bool) -> None:
    """A weather uplink of 436 bytes and its check sequence, all of them stuffed."""
    for first in (b"~", b"~~x~"):
        framer = Framer()
        long = b"x" * length
        found = framer.feed(first + long)
        assert (long in found) is not kept
        assert framer.feed(b"~") == ([long] if kept else [])
    framer = Framer()
    framer.feed(b"~")
    assert framer.feed(b"x" * length) == ([] if kept else [b"x" * length])
    assert framer.feed(b"~" + BEAT) == ([b"x" * length] if kept else [])
