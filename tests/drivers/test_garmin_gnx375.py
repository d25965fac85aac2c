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
from fixgw.drivers.garmin import ABSURD, MAX_FRAME, NO_FIX, NO_GUIDANCE, NOT_MAGNETIC, UNKNOWN
from fixgw.drivers.garmin_gnx375 import NavigatorOptions, Plugin
from fixgw.drivers.garmin_gnx375.protocol import KEYS, Receiver
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices import nmea0183
from fixgw.hw_sim.devices.g3x import Gnx
from fixgw.kit.anonymous import Shift
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


# -- values ------------------------------------------------------------------------------------------------------------


def test_cdi_is_negative_to_fly_left() -> None:
    assert decoded(FULL)["CDI"].value == pytest.approx(0.12 / 5.0)
    assert decoded(FULL, full_scale=0.1)["CDI"].value == 1.0
    assert decoded(STREAMS["t1.right"])["CDI"].value == pytest.approx(-3.5 / 5.0)


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
    updates = decoded(FULL.replace(b"QE144", b"QE001") + zero)
    assert updates["TRACKM"].value == updates["TRACK"].value == 257.0


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
    assert inactive["WPLAT"].flags == FAIL


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
    assert decoder.trouble
    decoder.feed(FULL.replace(b"2482", b"2483"))
    assert not decoder.trouble
    clock.now += 5.0
    assert {"LAT", "GS", "XTRACK"} <= {u.key for u in decoder.tick() if u.flags & FAIL}


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
