"""A capture for others says neither who nor where the aircraft was, and still replays."""

from __future__ import annotations

import re
import struct
from contextlib import closing
from functools import reduce
from operator import xor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers import canfix, g3x, i2c_bmp, lines, mgl_rdac, nmea0183, nmea0183_out, serial_bridge
from fixgw.drivers.g3x.protocol import without_place
from fixgw.kit.anonymous import Shift, across, clean_stream, sentences
from fixgw.kit.raw import Event, Heard
from fixgw.rawreplay import load, replay
from fixgw.recording import anonymous
from fixgw.recording.capture import Outside, open_capture, write_capture
from fixgw.recording.golden import Line
from fixgw.recording.raw import CanFrame
from tests.golden import make

SHIFT = Shift(-25, 130)


def seal(body: str) -> bytes:
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n".encode()


def clean(body: str) -> str:
    """The sentence as it comes out, whose checksum is right and whose length is the same."""
    before = seal(body)
    after = sentences(before, SHIFT)
    assert len(after) == len(before)
    match = re.fullmatch(rb"\$(.*)\*([0-9A-F]{2})\r\n", after)
    assert match is not None, after
    assert reduce(xor, match[1]) == int(match[2], 16)
    return match[1].decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "GPRMC,120000,A,4358.4247,N,08834.7142,W,069.3,234.4,,003.5,W",
            "GPRMC,120000,A,1858.4247,N,04125.2858,E,069.3,234.4,,003.5,W",
        ),
        ("GPGLL,1030.0000,N,17959.9999,E,120000,A", "GPGLL,1430.0000,S,05000.0001,W,120000,A"),
        (
            "GPRMB,A,0.00,R,HOME,ALFA2,4354.0000,N,08843.2000,W,007.5,234.1,069.3,V",
            "GPRMB,A,0.00,R,XXXX,XXXX0,1854.0000,N,04116.8000,E,007.5,234.1,069.3,V",
        ),
        ("GPGSV,1,1,02,07,45,120,40,11,10,300,30", "GPGSV,1,1,02,07,00,000,40,11,00,000,30"),
        ("GPTXT,01,01,02,u-blox SN 12345", "GPTXT,00,00,00,X-XXXX XX 00000"),
        ("GPWPL,4354.0000,N,08843.2000,W,ALFA", "GPWPL,0000.0000,X,00000.0000,X,XXXX"),
        ("PGRMZ,3437,f,3", "PGRMZ,3437,f,3"),
    ],
)
def test_sentences(body: str, expected: str) -> None:
    assert clean(body) == expected


def test_what_is_no_sentence_is_blanked() -> None:
    binary = b"\xb5b\x01\x07" + bytes(range(0x20, 0x60))
    broken = seal("GPGLL,4354.0000,N,08843.2000,W,120000,A").replace(b"4354", b"4355")
    after = sentences(binary + broken + b"$GPGLL,4354.0000,N,088", SHIFT)
    assert not re.search(rb"[1-9A-Za-z]", after), after


@given(st.binary(max_size=200), st.integers(0, 89), st.integers(0, 599999), st.booleans())
def test_sentences_never_change_their_length_or_raise(junk: bytes, degrees: int, minutes: int, north: bool) -> None:
    text = f"{minutes:06d}"
    body = f"GPGLL,{degrees:02d}{text[:2]}.{text[2:]},{'SN'[north]},00000.0000,E,120000,A"
    data = junk + seal(body) + junk
    assert len(sentences(data, SHIFT)) == len(data)


@given(st.floats(-80, 80), st.floats(-179.9, 179.9))
def test_text_and_numbers_are_shifted_alike(lat: float, lon: float) -> None:
    minutes = round(abs(lat) * 60e4) % 600000
    text = f"{minutes:06d}"
    degrees, shown, side = SHIFT.latitude_text(
        f"{round(abs(lat) * 60e4) // 600000:02d}", f"{text[:2]}.{text[2:]}", "NS"[lat < 0]
    )
    back = (int(degrees) + float(shown) / 60) * (-1 if side == "S" else 1)
    assert back == pytest.approx(SHIFT.latitude(lat), abs=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "after"),
    [
        *[("LAT", 44.0, 19.0), ("WPLAT", 44, 19.0), ("LONG", -88.0, 42.0), ("WPLON", 60.0, -170.0), ("LAT", -80, -90)],
        *[
            ("ACID", "N1", ""),
            ("WPNAME", "HOME", ""),
            ("ACID", 5, 5),
            ("IAS", 100.0, 100.0),
            ("TIMEZ", "12:00", "12:00"),
        ],
        *[("LAT", "44", "44"), ("LONG", True, True), ("LAT", None, None)],
    ],
)
def test_values_of_items(key: str, value: Any, after: Any) -> None:
    assert SHIFT.value(key, value) == after
    assert Shift(25, 0).value("LAT", 80.0) == 90.0, "no further than the pole"


def test_a_shift_keeps_away_from_the_poles() -> None:
    random = Random(1)
    for latitude in (-75.0, 0.0, 44.0, 82.0):
        for _ in range(50):
            shift = Shift.random(random, latitude)
            assert abs(shift.latitude(latitude)) <= 61
            assert shift.lat
            assert shift.lon


def test_a_shift_is_neither_small_nor_out_of_the_way() -> None:
    class Ends(Random):
        def choice(self, seq: Any) -> Any:
            choices.append(list(seq))
            return seq[0]

        def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
            ranges.add((start, stop))
            return start

    choices: list[list[int]] = []
    ranges: set[tuple[int, int | None]] = set()
    for latitude in (0.0, 50.4):
        assert 20 <= Shift.random(Ends(), latitude).lon < 340
    assert choices == [[*range(-40, -4), *range(5, 41)], [*range(10, 46), *range(55, 61)]]
    assert ranges == {(20, 340)}, "to the east or to the west"


def test_pieces_are_cut_as_before() -> None:
    whole = seal("GPGLL,4354.0000,N,08843.2000,W,120000,A")
    pieces = [whole[:11], whole[11:25], whole[25:]]
    after = across(pieces, lambda data: sentences(data, SHIFT))
    assert list(map(len, after)) == list(map(len, pieces))
    assert b"".join(after) == sentences(whole, SHIFT)


def test_what_a_link_wrote_is_left_out_and_what_it_read_keeps_its_time() -> None:
    whole = seal("GPGLL,4354.0000,N,08843.2000,W,120000,A")
    opened = Heard("gps", 0.0, "in", Event("serial", "opened"))
    heard = [
        opened,
        Heard("gps", 1.0, "in", whole[:11]),
        Heard("gps", 2.0, "out", b"$PSRF103*00"),
        Heard("gps", 3.0, "discarded", whole[11:]),
    ]
    after = sentences(whole, SHIFT)
    assert clean_stream(heard, lambda data: sentences(data, SHIFT)) == [
        opened,
        heard[1]._replace(data=after[:11]),
        heard[3]._replace(data=after[11:]),
    ]


def test_the_gps_of_a_g3x() -> None:
    text = b"=1112\r\n@260516140000N4354000W08843200G003+00300E0010N0010U0000\r\n@26N4354000\r\n"
    assert without_place(text, SHIFT) == (
        b"=1112\r\n@260516140000N1854000E04116800G003+00300E0010N0010U0000\r\n@00X0000000\r\n"
    )
    navigator = [Heard("gnx", 1.0, "in", b"\x02AN 43 5400\r")]
    options: Any = None
    assert g3x.Plugin.anonymise(options, navigator, SHIFT, True) is None


def test_frames() -> None:
    def frame(identifier: int, data: bytes) -> CanFrame:
        return CanFrame(identifier, data, 0, 1.0)

    speed = frame(0x183, b"\7\0\0\x0a\0")
    heard = [
        speed,
        frame(0x1C3, b"\7\0\0" + struct.pack("<f", 43.9)),
        frame(0x1C4, b"\7\0\0" + struct.pack("<f", -88.5)),
        frame(0x587, b"\7\0\0N123A"),
        frame(0x1D8, b"\7\0\0N123A"),
        frame(0x6E7, bytes([12, 0xC3, 1, 0, 0, 0, 0])),
    ]
    options: Any = None
    found = canfix.Plugin.anonymise(options, [Heard("can0", 1.0, "in", heard)], SHIFT, True)
    assert found is not None
    (after,) = found
    assert after.data[0] == speed
    assert [f.arbitration_id for f in after.data] == [0x183, 0x1C3, 0x1C4, 0x587]
    assert struct.unpack("<f", after.data[1].data[3:]) == pytest.approx((18.9,), abs=1e-5)
    assert struct.unpack("<f", after.data[2].data[3:]) == pytest.approx((41.5,), abs=1e-5)
    assert after.data[3].data == b"\7\0\0X000X"


def test_a_driver_without_a_hook_is_left_out_if_it_has_positions() -> None:
    entries = [Heard("x", 1.0, "in", b"x")]
    plain: Any = lines.LinesOptions(port="/dev/x", lines=[lines.LineOptions(fields={"CAT": lines.FieldOptions()})])
    assert lines.Plugin.anonymise(plain, entries, SHIFT, True) == entries
    for key in ("LAT", "LONG", "WPLAT", "WPLON", "ACID", "WPNAME"):
        told: Any = lines.LinesOptions(port="/dev/x", lines=[lines.LineOptions(fields={key: lines.FieldOptions()})])
        assert lines.Plugin.anonymise(told, entries, SHIFT, True) is None
    options: Any = None
    assert serial_bridge.Plugin.anonymise(options, entries, SHIFT, True) is None, "nobody knows what it carries"
    assert nmea0183_out.Plugin.anonymise(options, entries, SHIFT, True) == []
    chip = [Heard("x", 1.0, "in", (0, b"x"))]
    assert i2c_bmp.Plugin.anonymise(i2c_bmp.Options(), chip, SHIFT, True) == chip


def test_an_instrument_on_a_bus_keeps_only_its_own_frames() -> None:
    options = mgl_rdac.RdacOptions()
    own = make.CAPTURES["mgl_rdac"]()[1]
    others = [Heard("can0", 1.0, "in", [CanFrame(0x1C3, bytes(7), 0, 1.0)]), *own]
    assert mgl_rdac.Plugin.anonymise(options, others, SHIFT, True) == [others[0]._replace(data=[]), *own]
    assert mgl_rdac.Plugin.anonymise(options, own, SHIFT, False) is None, "it cannot tell what others need"


def test_a_whole_capture(tmp_path: Path) -> None:
    """It replays to the same changes, but elsewhere; what is left out is named."""
    _, entries = make.CAPTURES["nmea0183"]()
    entries = sorted(
        [*entries, Heard("radar", make.START_S + 1.0, "in", b"secret"), *make.CAPTURES["eis"]()[1]],
        key=lambda heard: heard.stamp,
    )
    configuration = {"default.yaml": b"connections: {nmea0183: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB0}}"}
    state = [
        Outside(make.START_S, "ACID", "N424BS", 0, "kept"),
        Outside(make.START_S, "WPLAT", 43.9, 0, "netfix/panel"),
        Outside(make.START_S, "BARO", 29.7, 0, "kept"),
    ]
    source, target = tmp_path / "a.mcap", tmp_path / "b.mcap"
    about = {"ident": "N424BS", "host": "myplane"}
    write_capture(source, entries, configuration, make.START_S, about, state, offset=make.OFFSET)
    hooks: dict[str, list[anonymous.Hook]] = {
        "nmea0183": [lambda heard, shift, alone: nmea0183.Plugin.anonymise(None, heard, shift, alone)],  # type: ignore[arg-type]
        "eis": [lambda heard, shift, alone: heard],
        "radar": [lambda heard, shift, alone: None],
    }
    assert anonymous.anonymise(source, target, hooks, SHIFT) == ["radar"]
    outcomes = []
    for path in (source, target):
        with closing(open_capture(path)) as capture:
            assert capture.start == make.START_S
            lines: list[Line] = []
            (tmp_path / path.stem).mkdir()
            replay(load(None, capture, tmp_path / path.stem), capture, lines.append, sent=False)
            outcomes.append(lines)
            if path == target:
                assert [(each.key, each.value) for each in capture.state] == [
                    ("ACID", ""),
                    ("WPLAT", pytest.approx(18.9)),
                    ("BARO", 29.7),
                ]
    true, moved = outcomes
    places = {"LAT", "LONG"}
    assert [each for each in moved if each.key not in places] == [each for each in true if each.key not in places]
    found = {key: [float(each.value) for each in moved if each.key == key] for key in places}
    real = {key: [float(each.value) for each in true if each.key == key] for key in places}
    assert found["LAT"] == pytest.approx([each - 25 for each in real["LAT"]], abs=1e-9)
    assert found["LONG"] == pytest.approx([each + 130 for each in real["LONG"]], abs=1e-9)
    content = target.read_bytes()
    with closing(open_capture(target)) as capture:
        whole = repr([*capture.entries()]).encode()
    for secret in (b"N424BS", b"myplane", b"secret", b"radar"):
        assert secret not in content
        assert secret not in whole
