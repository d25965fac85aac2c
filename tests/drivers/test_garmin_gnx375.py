"""Garmin navigators: the shared vectors of the aviation output, framing, NMEA 0183 on the same port."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw.database import FAIL
from fixgw.drivers.garmin import (
    ABSURD,
    MAX_FRAME,
    NO_FIX,
    NO_GUIDANCE,
    NOT_MAGNETIC,
    SILENT,
    STANDS_STILL,
    UNKNOWN,
)
from fixgw.drivers.garmin_gnx375 import NavigatorOptions, Plugin
from fixgw.drivers.garmin_gnx375.protocol import KEYS, Receiver
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices import nmea0183
from fixgw.hw_sim.devices.g3x import Gnx
from fixgw.kit.anonymous import Shift
from fixgw.kit.place import JUMPED, NOWHERE
from fixgw.kit.raw import Heard
from fixgw.kit.update import Update

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "garmin_aviation.json").read_text())["vectors"]
STREAMS = {vector["name"]: bytes.fromhex(vector["bytes"]) for vector in VECTORS}
FULL = STREAMS["t1.full"]
RMC = STREAMS["t1.nmea_instead"].replace(b"*36", b"*14")  # whose checksum is wrong


def receiver(clock: Clock | None = None, **options: Any) -> Receiver:
    return Receiver(clock or Clock(), **{"full_scale": 5.0, **options})


def decoded(data: bytes, **options: Any) -> dict[str, Update]:
    return {update.key: update for update in receiver(**options).feed(data)}


def adds_up(decoder: Receiver) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def saying(frame: bytes = FULL, **sentences: bytes | None) -> bytes:
    """The frame with other data in the sentences of these letters; None leaves a sentence out."""
    lines = []
    for line in frame.splitlines(keepends=True):
        letter = line.lstrip(b"\x02")[:1].decode()
        data = sentences.get(letter, line.strip(b"\x02\r\n")[1:])
        if data is not None:
            lines.append(
                line
                if letter not in sentences
                else line.partition(letter.encode())[0] + letter.encode() + data + b"\r\n"
            )
    return b"".join(lines)


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_vector(vector: dict[str, Any]) -> None:
    decoder = receiver()
    updates = {update.key: update for update in decoder.feed(STREAMS[vector["name"]])}
    for key, expected in vector["keys"].items():
        update = updates[key]
        if expected in ("fail", "refused"):
            assert (update.value, update.flags) == (None, FAIL), key
        else:
            within = 1e-5 if key in ("LAT", "LONG", "WPLAT", "WPLON") else 0.05
            assert update.value == (expected if isinstance(expected, str) else pytest.approx(expected, abs=within)), key
            assert not update.flags, key
    assert {*updates} - {"CDI"} == {*vector["keys"]}
    assert adds_up(decoder)


def test_nmea_on_the_same_port_is_read() -> None:
    decoder = receiver()
    updates = {update.key: update for update in decoder.feed(FULL + RMC)}
    assert updates["TIMEZ"].value == "12:00:09"
    assert decoder.format == "NMEA 0183"
    decoder.feed(FULL)
    assert decoder.format == "aviation"
    assert decoder.counts["used"] == decoder.counts["received"] == 3


def test_trouble_and_refusals_are_those_of_the_format_that_comes() -> None:
    decoder = receiver()
    assert (decoder.format, decoder.trouble, decoder.refused) == ("", "no position yet", "")
    assert decoder.counts["truncated"] == 0
    decoder.feed(STREAMS["t1.nmea_instead"])  # with a wrong checksum
    assert decoder.format == ""
    assert "GPRMC" in decoder.refused
    decoder.feed(saying(A=b"---------"))
    assert (decoder.format, decoder.trouble, decoder.refused) == ("aviation", NO_FIX, "")
    decoder.feed(b"\x02A" + b"x" * 12 + b"\x02")
    assert decoder.refused == "truncated: b'\\x02Axxxxxxxxxxxx'"
    assert (decoder.counts["truncated"], adds_up(decoder)) == (1, True)
    long = b"\x02" + b"p12\r\n" * 60
    decoder.feed(long[1:] + b"$")
    assert decoder.refused == f"truncated: {long[:200]!r}"
    decoder.interrupt()
    decoder.feed(saying(D=b"x"))
    assert decoder.refused.startswith("malformed: 'Dx' in ")
    decoder.feed(RMC)
    assert (decoder.format, decoder.trouble) == ("NMEA 0183", "")
    assert "GPRMC" in decoder.refused


def test_a_frame_that_is_refused_before_any_is_good_is_shown() -> None:
    """To whoever set the wrong baud rate, it is all that there is to see."""
    decoder = receiver()
    decoder.feed(b"\x02A" + b"x" * 12 + b"\x02")
    assert (decoder.format, decoder.counts["truncated"]) == ("", 1)
    assert decoder.refused == "truncated: b'\\x02Axxxxxxxxxxxx'"


def test_what_is_unfinished_is_forgotten_after_an_interruption() -> None:
    for whole in (FULL, RMC):
        decoder = receiver()
        decoder.feed(whole[:30])
        decoder.interrupt()
        assert decoder.feed(whole[30:]) == []


def test_a_receiver_of_nmea_that_is_silent_is_lost() -> None:
    clock = Clock()
    decoder = receiver(clock)
    assert decoder.feed(RMC)
    for _ in range(20):
        clock.now += 0.5
        if failed := decoder.tick():
            break
    assert {"LAT", "GS"} <= {u.key for u in failed if u.flags & FAIL}


# -- values ------------------------------------------------------------------------------------------------------------


def test_cdi_is_negative_to_fly_left() -> None:
    assert decoded(FULL)["CDI"].value == pytest.approx(0.12 / 5.0)
    assert decoded(FULL, full_scale=0.1)["CDI"].value == 1.0
    assert decoded(STREAMS["t1.right"])["CDI"].value == pytest.approx(-3.5 / 5.0)
    assert decoded(STREAMS["t1.right"], full_scale=3.0)["CDI"].value == -1.0
    for side in (b"L0000", b"R0000"):
        centred = decoded(saying(G=side))
        assert (str(centred["CDI"].value), str(centred["XTRACK"].value)) == ("0.0", "0.0")
    unknown = decoded(saying(G=b"-----"))
    for key in ("CDI", "XTRACK"):
        assert unknown[key] == Update(key, None, FAIL, UNKNOWN)
    assert not {"CDI", "XTRACK"} & decoded(saying(G=None)).keys()


@pytest.mark.parametrize(
    ("letter", "key", "accepted", "refused"),
    [
        ("z", "TALT", {b"-1500": -1500, b"60000": 60000, b"+0100": 100, b"0": 0}, (b"-1501", b"60001")),
        ("D", "GS", {b"000": 0, b"999": 999}, ()),
        ("C", "TRACKM", {b"000": 0, b"359": 359, b"360": 0}, (b"361",)),
        ("I", "COURSE", {b"0000": 0, b"3599": 359.9, b"3600": 0}, (b"3601",)),
        ("L", "WPHEAD", {b"0000": "000", b"3594": "359", b"3596": "000", b"3600": "000", b"0995": "100"}, (b"3601",)),
    ],
)
def test_numbers_up_to_their_limits(letter: str, key: str, accepted: dict[bytes, Any], refused: tuple[bytes]) -> None:
    for text, value in accepted.items():
        wanted: Any = value if isinstance(value, str) else pytest.approx(value)
        assert decoded(saying(**{letter: text}))[key] == Update(key, wanted)
    for text in refused:
        decoder = receiver()
        updates = {u.key: u for u in decoder.feed(saying(**{letter: text}))}
        assert updates[key] == Update(key, None, FAIL, f"{ABSURD}: {text.decode()!r}")
        assert decoder.counts["absurd values"] == 1
    unknown = decoded(saying(**{letter: b"---"}))
    assert unknown[key] == Update(key, None, FAIL, UNKNOWN)
    without: dict[str, Any] = {letter: None}
    assert key not in decoded(saying(**without))


@pytest.mark.parametrize("name", [b"-----", b"     ", b""])
def test_a_waypoint_without_a_name_is_not_known(name: bytes) -> None:
    assert decoded(saying(K=name))["WPNAME"] == Update("WPNAME", None, FAIL, UNKNOWN)


@pytest.mark.parametrize(
    ("lat", "lon", "known"),
    [
        (b"N 90 0000", b"E 180 0000", True),
        (b"S 90 0000", b"W 180 0000", True),
        (b"N 90 0001", b"E 011 0000", False),
        (b"N 48 0000", b"E 180 0001", False),
        (b"N 48 5999", b"E 011 5999", True),
        (b"N 48 6000", b"E 011 0000", False),
        (b"N 48 0000", b"E 011 6000", False),
    ],
)
def test_a_position_up_to_its_limits(lat: bytes, lon: bytes, known: bool) -> None:
    decoder = receiver()
    updates = {u.key: u for u in decoder.feed(saying(A=lat, B=lon))}
    assert decoder.counts["absurd values"] == (not known)
    assert decoder.trouble == ""
    if not known:
        for key in ("LAT", "LONG"):
            assert updates[key] == Update(key, None, FAIL, ABSURD)
        return
    signs = (1 if lat[:1] == b"N" else -1, 1 if lon[:1] == b"E" else -1)
    for key, text, sign in zip(("LAT", "LONG"), (lat, lon), signs, strict=True):
        _, degrees, hundredths = text.split()
        assert updates[key].value == pytest.approx(sign * (int(degrees) + int(hundredths) / 6000))


@pytest.mark.parametrize("missing", ["A", "B"])
def test_half_a_position_is_none(missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    updates = decoded(saying(**without))
    assert not {"LAT", "LONG"} & updates.keys()
    assert updates["GS"].value == 104.0
    decoder = receiver()
    updates = {u.key: u for u in decoder.feed(saying(**{missing: b"-" * 9}))}
    for key in ("LAT", "LONG"):
        assert updates[key] == Update(key, None, FAIL, UNKNOWN)
    assert decoder.trouble == NO_FIX
    assert updates["XTRACK"] == Update("XTRACK", None, FAIL, NO_FIX)
    assert decoder.counts["absurd values"] == 0


@pytest.mark.parametrize(
    ("lat", "lon", "doubt"), [(b"N 45 2482", b"W 121 1885", JUMPED), (b"N 00 0000", b"E 000 0000", NOWHERE)]
)
def test_a_position_that_cannot_be_fails_all_that_depends_on_it(lat: bytes, lon: bytes, doubt: str) -> None:
    decoder = receiver()
    written = {u.key for u in decoder.feed(STREAMS["t2.south_east"])}
    decoder = receiver()
    decoder.feed(saying(STREAMS["t2.south_east"], A=b"N 44 2482"))
    failed = decoder.feed(saying(STREAMS["t2.south_east"], A=lat, B=lon))
    assert {*failed} == {Update(key, None, FAIL, doubt) for key in written}
    assert decoder.trouble == doubt
    (decoder := receiver()).feed(FULL)
    keys = {u.key for u in decoder.feed(saying(A=lat, B=lon))}
    assert not {"WPLAT", "WPLON"} & keys, "they never had a value"


def test_a_navigator_set_to_true_directions_gives_magnetic_ones_by_the_variation() -> None:
    updates = decoded(FULL, true_directions=True)
    assert updates["TRACK"].value == 257.0
    assert updates["TRACKM"].value == pytest.approx(242.6)
    assert updates["COURSE"].value == pytest.approx(242.7)
    assert updates["WPHEAD"].value == "244"
    unknown = decoded(FULL.replace(b"QE144", b"Q----"), true_directions=True)
    assert unknown["TRACK"].value == 257.0
    assert unknown["COURSE"] == Update("COURSE", None, FAIL, NOT_MAGNETIC)


def test_a_variation_of_zero_means_true_directions_unless_it_was_nearly_none() -> None:
    zero = FULL.replace(b"QE144", b"QE000")
    updates = decoded(zero)
    assert updates["TRACK"].value == 257.0
    for key in ("TRACKM", "COURSE", "WPHEAD"):
        assert updates[key] == Update(key, None, FAIL, NOT_MAGNETIC)
    for before, magnetic in ((b"E001", True), (b"W005", True), (b"E005", True), (b"E006", False), (b"W006", False)):
        updates = decoded(saying(Q=before) + zero)
        assert updates["TRACK"].value == 257.0
        assert updates["TRACKM"].value == (257.0 if magnetic else None)
        assert decoded(saying(Q=before) + saying(Q=b"----") + zero)["TRACKM"].value is None, "forgotten"


@pytest.mark.parametrize(
    ("variation", "track"), [(b"E1800", 77.0), (b"W1800", 77.0), (b"E1801", None), (b"W1801", None)]
)
def test_a_variation_up_to_half_a_circle(variation: bytes, track: float | None) -> None:
    decoder = receiver()
    updates = {u.key: u for u in decoder.feed(saying(Q=variation))}
    assert updates["TRACK"].value == track
    assert updates["TRACK"].reason == ("" if track is not None else "the variation is not known")
    assert updates["TRACKM"].value == 257.0
    assert decoder.counts["absurd values"] == (track is None)


@pytest.mark.parametrize("variation", [None, b"----", b"E1801"])
@pytest.mark.parametrize("true", [False, True])
def test_without_a_variation_directions_are_only_what_they_are_set_to(variation: bytes | None, true: bool) -> None:
    updates = decoded(saying(Q=variation), true_directions=true)
    unknown = {key: u.reason for key, u in updates.items() if u.flags}
    assert unknown == (
        dict.fromkeys(("TRACKM", "COURSE", "WPHEAD"), NOT_MAGNETIC) if true else {"TRACK": "the variation is not known"}
    )


def test_dashes_in_the_position_are_no_fix() -> None:
    decoder = receiver()
    updates = {u.key: u for u in decoder.feed(FULL.replace(b"AN 44 2482", b"A---------"))}
    assert updates["LAT"] == Update("LAT", None, FAIL, UNKNOWN)
    assert updates["LONG"].flags == updates["XTRACK"].flags == FAIL
    assert decoder.trouble == NO_FIX


def test_flagged_guidance_fails_the_waypoint_too() -> None:
    decoder = receiver()
    decoder.feed(STREAMS["t2.binary_cr"])
    updates = {u.key: u for u in decoder.feed(STREAMS["t2.binary_cr"].replace(b"S-----", b"S----N"))}
    for key in ("XTRACK", "CDI", "COURSE", "WPNAME", "WPHEAD", "WPLAT", "WPLON"):
        assert updates[key] == Update(key, None, FAIL, NO_GUIDANCE)


def test_a_waypoint_of_another_name_or_place_is_not_the_active_one() -> None:
    stream = STREAMS["t2.south_east"]
    decoder = receiver()
    decoder.feed(stream)
    updates = {u.key: u for u in decoder.feed(stream.replace(b"KYSSY ", b"KYMML "))}
    assert updates["WPLAT"].flags == updates["WPLON"].flags == FAIL
    absurd = {u.key: u for u in decoder.feed(stream.replace(b"\xa1\x38\x4d", b"\xa1\x3c\x4d"))}  # 60 minutes
    assert absurd["WPLAT"].reason.startswith(ABSURD)
    assert absurd["WPLON"].value is None
    inactive = {u.key: u for u in decoder.feed(stream.replace(b"w01a", b"w01A"))}
    for key in ("WPLAT", "WPLON"):
        assert inactive[key] == Update(key, None, FAIL, UNKNOWN)
    assert not {"WPLAT", "WPLON"} & decoded(stream.replace(b"w01a", b"w01A")).keys(), "they never had a value"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (b"\x21\x38\x4d\x00\x97\x0a\x3f", (33.946167, 151.1771667)),
        (b"\x5a\x00\x00\x80\xb4\x00\x00", (90.0, -180.0)),
        (b"\xda\x00\x00\x00\xb4\x00\x00", (-90.0, 180.0)),
        (b"\x21\x3b\x63\x00\x97\x3b\x63", (33.9998333, 151.9998333)),
        (b"\x5a\x00\x01\x00\x97\x0a\x3f", None),
        (b"\x21\x38\x64\x00\x97\x0a\x3f", None),  # 100 hundredths
        (b"\x21\x38\x4d\x00\x97\x0a\x64", None),
        (b"\x21\x38\x4d\x00\xb4\x00\x01", None),
        (b"\x21\x38\x4d\x00\x97\x3c\x00", None),  # 60 minutes
    ],
)
def test_the_place_of_a_waypoint_up_to_its_limits(place: bytes, value: tuple[float, float] | None) -> None:
    stream = STREAMS["t2.south_east"].replace(b"\xa1\x38\x4d\x00\x97\x0a\x3f", place)
    updates = decoded(stream)
    for n, key in enumerate(("WPLAT", "WPLON")):
        if value is not None:
            assert updates[key] == Update(key, pytest.approx(value[n]))  # type: ignore[arg-type]
        else:
            assert updates[key] == Update(key, None, FAIL, f"{ABSURD}: 'YSSY'")


def test_a_second_kind_of_aviation_output_has_no_altitude_and_no_line_feeds() -> None:
    updates = decoded(FULL.replace(b"z03500\r\n", b"").replace(b"\r\n", b"\r"))
    assert "TALT" not in updates
    assert updates["GS"].value == 104.0


@pytest.mark.parametrize("line", [b"D1x4", b"C2570", b"GX0012", b"IN571", b"D"])
def test_a_sentence_that_cannot_be_spoils_the_frame(line: bytes) -> None:
    decoder = receiver()
    letter = line[:1]
    whole = b"".join(line + b"\r\n" if part[:1] == letter else part for part in FULL.splitlines(keepends=True))
    updates = decoder.feed(whole)
    if line == b"D":  # nothing at all is as good as dashes
        assert {u.key: u for u in updates}["GS"].flags == FAIL
    else:
        assert updates == []
        assert decoder.counts["malformed"] == 1
        assert line.decode() in decoder.refused


# -- a navigator that hangs or is silent -------------------------------------------------------------------------------


def test_a_navigator_that_moves_but_never_arrives_has_hung_and_one_that_is_silent_is_lost() -> None:
    clock = Clock()
    decoder = receiver(clock)
    failed: set[str] = set()
    for _ in range(8):
        failed |= {u.key for u in decoder.feed(FULL) if u.flags & FAIL}
        clock.now += 1.0
    assert {"LAT", "GS", "XTRACK", "WPNAME"} <= failed
    assert decoder.trouble == STANDS_STILL
    decoder.feed(FULL.replace(b"2482", b"2483"))
    assert not decoder.trouble
    clock.now += 4.0
    assert decoder.tick() == []
    clock.now += 0.01
    lost = {u.key: u for u in decoder.tick()}
    assert {"LAT", "GS", "XTRACK"} <= lost.keys()
    assert {(u.value, u.flags, u.reason) for u in lost.values()} == {(None, FAIL, SILENT)}
    assert decoder.trouble == SILENT
    assert decoder.tick() == [], "once is enough"


@pytest.mark.parametrize(("speed", "moves"), [(b"015", False), (b"016", True), (b"---", False), (None, False)])
def test_a_navigator_above_15_kt_moves_within_six_seconds(speed: bytes | None, moves: bool) -> None:
    clock = Clock()
    decoder = receiver(clock)
    frame = saying(D=speed)
    decoder.feed(frame)
    for _ in range(3):
        clock.now += 2.0
        decoder.feed(frame)
    assert decoder.trouble == ""
    clock.now += 0.01
    failed = [u for u in decoder.feed(frame) if u.reason == STANDS_STILL]
    assert (decoder.trouble, bool(failed)) == ((STANDS_STILL, True) if moves else ("", False))


# -- framing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t2.binary_cr", "t2.binary_stx_etx", "t2.no_route"])
def test_a_stream_can_be_cut_anywhere(name: str) -> None:
    stream = STREAMS[name] + RMC + FULL
    whole = receiver().feed(stream)
    for cut in range(len(stream)):
        decoder = receiver()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == whole


def test_a_frame_without_its_end_hides_neither_a_frame_nor_a_sentence() -> None:
    stream = STREAMS["t2.south_east"]
    alone = receiver().feed(FULL)
    for length in range(1, len(stream), 3):
        for more in (FULL, RMC + FULL):
            decoder = receiver()
            assert decoder.feed(stream[:length] + more)[-len(alone) :] == alone, length
            assert adds_up(decoder)


@pytest.mark.parametrize(("length", "used"), [(40, True), (41, False)])
def test_a_sentence_has_up_to_40_characters(length: int, used: bool) -> None:
    """With its end."""
    long = b"p".ljust(length - 1, b"x") + b"\r"
    decoder = receiver()
    decoder.feed(b"\x02" + long + FULL[1:])
    assert decoder.counts["used"] == used
    assert decoder.counts["truncated"] == (not used)
    pieces = receiver()
    for byte in b"\x02" + long + FULL[1:]:
        pieces.feed(bytes((byte,)))
    assert pieces.counts == decoder.counts


@pytest.mark.parametrize(("length", "used"), [(1026, True), (1027, False)])
def test_a_frame_has_up_to_a_kilobyte(length: int, used: bool) -> None:
    route = b"w01ALFA  1234567..\r"
    frame = FULL[:-1] + route * ((length - len(FULL)) // len(route))
    frame = frame.ljust(length - 1, b"\n") + b"\x03"
    assert len(frame) == length
    decoder = receiver()
    decoder.feed(frame)
    assert decoder.counts["used"] == used
    assert decoder.counts["truncated"] == (not used)
    assert decoder.feed(FULL) == receiver().feed(FULL)


@pytest.mark.parametrize("begin", [b"\x02", b"$", b"=", b"@", b"\x00", b"\xff"])
def test_a_frame_that_lost_its_end_ends_where_another_begins(begin: bytes) -> None:
    decoder = receiver()
    decoder.feed(b"\x02A123" + begin + b"\r\n" + FULL)
    assert decoder.counts["truncated"] == 1 + (begin == b"\x02")
    assert decoder.counts["used"] == 1
    assert decoder.refused.startswith("truncated: b'\\x02A123'") or begin == b"\x02"


def test_an_end_in_the_middle_of_a_sentence_is_no_end_of_a_frame() -> None:
    decoder = receiver()
    assert decoder.feed(b"\x02D104\x03" + FULL) == receiver().feed(FULL)
    assert (decoder.counts["truncated"], decoder.refused) == (1, "truncated: b'\\x02D104\\x03'")


def test_a_frame_of_what_nobody_needs_is_ignored() -> None:
    decoder = receiver()
    assert decoder.feed(b"\x02T---------\r\np1\r\n\x03") == []
    assert decoder.feed(b"\x02\x03") == []
    assert (decoder.counts["ignored"], decoder.counts["received"]) == (2, 2)


def test_nothing_is_used_before_the_end_of_a_frame() -> None:
    decoder = receiver()
    assert decoder.feed(FULL[:-1]) == []
    assert decoder.feed(FULL[-1:]) != []
    decoder.feed(FULL[:-1])
    decoder.interrupt()
    assert decoder.feed(b"\x03") == []


@settings(max_examples=30)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([*STREAMS.values()]), st.just(b"\x02w01"))))
def test_no_input_raises_and_all_of_it_is_counted(chunks: list[bytes]) -> None:
    decoder = receiver()
    for chunk in chunks:
        for update in decoder.feed(chunk):
            assert update.key in KEYS
        assert len(decoder._buffer) <= MAX_FRAME + 100
    assert adds_up(decoder)


# -- captures for others -----------------------------------------------------------------------------------------------


def test_a_capture_with_a_route_is_not_given_away() -> None:
    options = NavigatorOptions(port="x")
    shift = Shift.random(Random(1), 44.0)
    assert Plugin.anonymise(options, [Heard("n", 0.0, "in", FULL)], shift, True) is None
    clean = Plugin.anonymise(options, [Heard("n", 0.0, "in", RMC)], shift, True)
    assert clean is not None
    assert b"4424.8200" not in clean[0].data


# -- the virtual navigator ---------------------------------------------------------------------------------------------


def test_the_virtual_navigator_guides_the_aircraft() -> None:
    class Line:
        def write(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    aircraft = Aircraft(datetime(2025, 7, 21, 15, 0, tzinfo=UTC))
    for _ in range(120):
        aircraft.step(1.0)
    updates = decoded(b"".join(Gnx(Line()).frames(aircraft, 0.0)))
    truth = aircraft.values()
    for key in ("LAT", "LONG", "WPLAT", "WPLON"):
        assert updates[key].value == pytest.approx(truth[key], abs=1e-4), key
    for key, within in {"TRACKM": 0.6, "TRACK": 0.6, "XTRACK": 0.006, "COURSE": 0.06, "GS": 0.6}.items():
        assert updates[key].value == pytest.approx(truth[key], abs=within), key
    assert updates["WPNAME"].value == str(truth["WPNAME"])[:5]


class TestContractWithAviationOutput(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.garmin_gnx375",
        Gnx,
        "LAT LONG TALT TRACK TRACKM GS XTRACK CDI COURSE WPNAME WPLAT WPLON",
        checksum=False,
        within={"CDI": 0.001},
        truth={"CDI": -0.05},
        absurd={"LAT": 95.0},
        repeats=True,
    )


class TestContractWithNmea(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.garmin_gnx375",
        nmea0183.Navigator,
        "LAT LONG TALT TRACK GS XTRACK WPNAME",
        absurd={"LAT": 95.0},
        repeats=True,
    )
