"""MAVLink without I/O: shared vectors, table, framing, what is trusted, and pymavlink as a second opinion."""

from __future__ import annotations

import csv
import json
import math
import random
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fixgw.database import BAD, FAIL, Reading
from fixgw.drivers.mavlink import Plugin, modes, protocol
from fixgw.drivers.mavlink.anonymous import hide
from fixgw.drivers.mavlink.frames import Framer, build
from fixgw.drivers.mavlink.messages import BY_NAME, MESSAGES
from fixgw.drivers.mavlink.protocol import Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.mavlink import MavlinkAutopilot
from fixgw.kit import traffic
from fixgw.kit.anonymous import Shift
from fixgw.kit.units import KNOTS_PER_MPS
from fixgw.kit.update import Update
from fixgw.world import World

DATA = Path(__file__).parents[1] / "data" / "mavlink"
VECTORS = {vector["name"]: vector for vector in json.loads((DATA / "vectors.json").read_text())["vectors"]}
DECODED = [name for name, vector in VECTORS.items() if vector.get("direction", "decode") == "decode"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def frame(name: str, seq: int = 0, system: int = 1, component: int = 1, version: int = 2, **fields: float) -> bytes:
    message = BY_NAME[name]
    return build(message, message.encode(fields), system, component, seq, version)


def heartbeat(mode: int = 0, armed: bool = False, **more: Any) -> bytes:
    fields = {"type": 1, "autopilot": 3, "base_mode": 0x51 | 0x80 * armed, "custom_mode": mode, "system_status": 4}
    kept = {key: more.pop(key) for key in ("seq", "system", "component", "version") if key in more}
    return frame("HEARTBEAT", **kept, **{**fields, **more})


def data_of(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["bytes"])


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def latest(updates: list[Update]) -> dict[str, Update]:
    return {update.key: update for update in updates}


# -- shared vectors and tables -----------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_definitions() -> None:
    rows = list(csv.DictReader((DATA / "messages.csv").read_text().splitlines()))
    assert {int(row["id"]) for row in rows} == MESSAGES.keys()
    sizes = {"float": 4, "uint64": 8, "uint32": 4, "int32": 4, "uint16": 2, "int16": 2}
    offsets = dict.fromkeys(MESSAGES, 0)
    for row in rows:
        message = MESSAGES[int(row["id"])]
        assert message.name == row["message"]
        assert message.crc_extra == int(row["crc_extra"])
        assert (message.length_v1, message.length) == (int(row["length_v1"]), int(row["length_max"]))
        field = message.fields[row["field"]]
        kind, _, length = row["type"].rstrip("]").partition("[")
        assert field.length == int(length or 0)
        assert field.extension is bool(row["extension"])
        assert offsets[message.id] == int(row["offset"]), row
        offsets[message.id] += sizes.get(kind, 1) * (field.length or 1)
        markers = {"UINT16_MAX": 65535, "UINT8_MAX": 255, "INT16_MAX": 32767, "INT32_MAX": 2**31 - 1, "-1": -1}
        assert field.invalid == markers.get(row["invalid"].strip("[]")), row


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_the_frames_of_the_vectors(name: str, cut: int) -> None:
    vector, data = VECTORS[name], data_of(name)
    framer = Framer()
    found = [frame for at in range(0, len(data), cut) for frame in framer.feed(data[at : at + cut])]
    assert len(found) == len(vector["frames"])
    for got, expected in zip(found, vector["frames"], strict=True):
        assert (got.id, got.system, got.component, got.seq) == tuple(
            expected[key] for key in ("id", "system", "component", "seq")
        )
        assert (got.message.name if got.message else "unknown") == expected["message"]
        if got.message is not None:
            fields = got.message.decode(got.payload)
            shown = {k: "NaN" if isinstance(v, float) and math.isnan(v) else v for k, v in fields.items()}
            assert {key: shown[key] for key in expected["fields"]} == expected["fields"]


@pytest.mark.parametrize("name", DECODED)
def test_the_keys_of_the_vectors(name: str) -> None:
    vector = VECTORS[name]
    decoder = Decoder(Clock())
    updates = latest(decoder.feed(data_of(name)))
    assert adds_up(decoder)
    assert decoder.counts["lost"] == vector.get("lost", 0)
    for key, expected in (vector.get("keys") or {}).items():
        if expected == "fail":
            assert updates[key].flags == FAIL
            assert updates[key].value is None
        elif isinstance(expected, str):
            assert updates[key].value == expected
        elif expected is not None:
            assert updates[key].value == pytest.approx(expected, rel=1e-4, abs=1e-9)
            assert not updates[key].flags


def test_a_gps_position_of_zero_is_none() -> None:
    updates = latest(Decoder(Clock()).feed(data_of("position_zero")))
    assert {update.flags for update in updates.values()} == {FAIL}


def test_version_1_has_no_extensions() -> None:
    assert (
        not {"GPS_ELLIPSOID_ALT", "GPS_ACCURACY_HORIZ"} & latest(Decoder(Clock()).feed(data_of("gps_raw_3d.v1"))).keys()
    )


# -- framing -----------------------------------------------------------------------------------------------------------

GOOD = [data_of(name) for name in ("attitude.v2", "scaled_imu.v1", "heartbeat.gcs", "frame.signed", "frame.unknown_id")]


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([*GOOD, b"\xfd", b"\xfe"])), max_size=12))
def test_no_input_raises_and_all_of_it_is_counted(chunks: list[bytes]) -> None:
    decoder, whole = Decoder(Clock()), Decoder(Clock())
    updates = [update for chunk in chunks for update in decoder.feed(chunk)]
    assert updates == whole.feed(b"".join(chunks))
    assert decoder.counts == whole.counts
    assert adds_up(decoder)
    assert {update.key for update in updates} <= protocol.KEYS


@given(st.sampled_from([data_of("attitude.v2"), data_of("scaled_imu.v1")]), st.data())
def test_a_flipped_bit_is_noticed(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    spoiled = bytearray(whole)
    spoiled[at // 8] ^= 1 << at % 8
    frames = list(Framer().feed(bytes(spoiled) + data_of("heartbeat.gcs") * 20))
    assert not [frame for frame in frames if frame.id in (26, 30)]


def test_one_frame_after_much_noise_is_enough() -> None:
    db = packaged_database()
    with World(db).hosting():
        plugin = Plugin("autopilot", {"port": "/dev/null"})
    plugin._new_protocol()
    plugin.received(b"\xfe\x20\x01\x01\x01\x00" * 50)
    plugin.received(heartbeat() + data_of("attitude.v2"))
    assert db.read("ROLL").good


def test_wrong_flags_and_wrong_lengths_do_not_make_the_next_frame_wait() -> None:
    framer = Framer()
    assert len(list(framer.feed(b"\xfd\xfe\x22" + data_of("attitude.v2")))) == 1
    assert len(list(framer.feed(b"\xfe\x20\x01\x01\x01\x00" + data_of("attitude.v2")))) == 1
    assert (framer.counts["unknown flags"], framer.counts["wrong length"]) == (1, 2)


@pytest.mark.slow
def test_messages_of_pymavlink_decode_alike() -> None:
    mavlink2 = pytest.importorskip("pymavlink.dialects.v20.ardupilotmega")
    theirs = mavlink2.MAVLink(None, srcSystem=1, srcComponent=1)
    dice = random.Random(7)
    for message in MESSAGES.values():
        for _ in range(3):
            payload = bytes(dice.randrange(256) for _ in range(message.length))
            (found,) = Framer().feed(build(message, payload, 1, 1, 3))
            assert found.message is message
            decoded = theirs.parse_buffer(build(message, payload, 1, 1, 3))[0]
            fields = message.decode(payload)
            for name, value in fields.items():
                other = getattr(decoded, name)
                if isinstance(other, str):
                    continue  # it replaces characters differently
                assert repr(value) == repr(other), (message.name, name)


# -- whose data is trusted ---------------------------------------------------------------------------------------------


def attitude(ms: int, roll: float = 0.1, **more: Any) -> bytes:
    return frame("ATTITUDE", time_boot_ms=ms, roll=roll, **more)


def test_a_ground_station_is_not_the_vehicle() -> None:
    decoder = Decoder(Clock())
    assert decoder.feed(data_of("heartbeat.gcs") + heartbeat(type=27, component=156)) == []
    assert decoder.vehicle is None
    assert decoder.feed(heartbeat(type=6, autopilot=8, system=9) + attitude(5, system=9)) == []
    assert decoder.trouble == protocol.LOST


@pytest.mark.parametrize("other", [{"type": 6}, {"type": 27}, {"autopilot": 8}, {"component": 156}])
def test_only_an_autopilot_is_the_vehicle(other: dict[str, Any]) -> None:
    decoder = Decoder(Clock())
    assert decoder.feed(heartbeat(**other)) == []
    assert decoder.vehicle is None
    assert decoder.feed(heartbeat(system=2))


def test_other_components_and_other_vehicles_are_ignored() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    assert decoder.feed(heartbeat() + attitude(5))
    assert decoder.feed(attitude(6, component=100) + attitude(6, system=2) + heartbeat(system=2, armed=True)) == []
    assert "system 2" in decoder.trouble
    assert decoder.counts["other vehicles"] == 1
    clock.now += 4.0
    decoder.feed(heartbeat(seq=1))
    clock.now += 2.0
    assert not decoder.trouble


def test_another_autopilot_is_told_of_until_it_has_been_silent_for_five_seconds() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + heartbeat(system=2))
    for now, told in ((104.9, True), (105.0, False)):
        clock.now = now
        assert ("system 2" in decoder.trouble) is told


def test_the_option_chooses_the_vehicle() -> None:
    decoder = Decoder(Clock(), system=2)
    assert decoder.feed(heartbeat() + attitude(5)) == []
    assert latest(decoder.feed(heartbeat(system=2, armed=True) + attitude(5, 0.2, system=2)))[
        "ROLL"
    ].value == pytest.approx(math.degrees(0.2))


def test_the_vehicle_with_heartbeats_replaces_something_without() -> None:
    decoder = Decoder(Clock())
    assert "ROLL" in latest(decoder.feed(attitude(5, system=9)))
    updates = decoder.feed(heartbeat())
    assert updates[0].key == "PITCH"
    assert updates[0].flags == FAIL
    assert decoder.vehicle is not None
    assert decoder.vehicle.system == 1


def test_without_heartbeats_everything_fails_until_there_is_one() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat())
    for n in range(60):
        clock.now += 0.1
        updates = decoder.feed(attitude(1000 + 100 * n)) + decoder.tick()
    assert decoder.vehicle is None
    assert updates == []
    assert decoder.trouble == protocol.LOST
    updates = decoder.feed(heartbeat() + attitude(6900))
    assert latest(updates)["ROLL"].flags == 0


def test_data_is_not_taken_for_longer_than_five_seconds_without_a_first_heartbeat() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    assert "ROLL" in latest(decoder.feed(attitude(5)))
    clock.now += 5.0
    assert decoder.tick() == []
    clock.now += 0.1
    assert latest(decoder.tick())["ROLL"] == Update("ROLL", None, FAIL, protocol.LOST)
    assert decoder.feed(attitude(5105)) == []
    assert latest(decoder.feed(heartbeat() + attitude(5106)))["ROLL"].flags == 0


def test_a_lost_vehicle_fails_what_it_said() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + attitude(5))
    clock.now += 5.0
    assert decoder.tick() == []
    clock.now += 0.1
    failed = latest(decoder.tick())
    assert {"MAVMODE", "MAVSTATE", "ROLL", "PITCH", "YAW", "ROT"} == failed.keys()
    assert {u.reason for u in failed.values()} == {protocol.LOST}
    assert decoder.tick() == []


def test_a_vehicle_that_repeats_itself_is_not_trusted() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    said: list[Update] = []
    for n in range(60):
        clock.now += 0.1
        hung = min(n, 10)
        said = (
            decoder.feed(attitude(1000 + 100 * hung) + frame("VFR_HUD", airspeed=50.0) + heartbeat()) + decoder.tick()
        )
    assert said == []
    assert decoder.trouble == protocol.FROZEN
    assert decoder.counts["late or repeated"] > 40
    assert latest(decoder.feed(attitude(7000)))["ROLL"].flags == 0
    assert not decoder.trouble


def test_a_clock_may_stand_still_for_two_seconds() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + attitude(1000))
    clock.now += 2.0
    decoder.feed(attitude(1000))
    assert decoder.tick() == []
    clock.now += 0.1
    assert {update.reason for update in decoder.tick()} == {protocol.FROZEN}
    assert decoder.tick() == [], "once"


def test_data_that_stops_does_not_stand_still() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + attitude(1000))
    for later_s, repeated in ((1.9, attitude(1000)), (1.0, b""), (2.0, b"")):
        clock.now += later_s
        decoder.feed(heartbeat() + repeated)
        assert decoder.tick() == []


def test_a_vehicle_that_stood_still_and_was_lost_begins_anew() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + attitude(1000) + frame("COMMAND_ACK", command=511))
    clock.now += 2.1
    decoder.feed(attitude(1000))
    assert latest(decoder.tick())["ROLL"].reason == protocol.FROZEN
    clock.now += 3.0
    assert latest(decoder.tick())["ROLL"].reason == protocol.LOST
    assert latest(decoder.feed(heartbeat())).keys() == {"MAVSTATE", "MAVMODE"}
    assert not decoder.trouble
    assert not decoder.arrived
    assert not decoder.acknowledged
    assert latest(decoder.feed(attitude(7)))["ROLL"].flags == 0


def test_a_frame_that_was_overtaken_is_left_out() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + attitude(5000))
    assert decoder.feed(attitude(4900)) == []
    assert decoder.counts["late or repeated"] == 1
    assert decoder.counts["restarts"] == 0


@pytest.mark.parametrize(
    ("first", "later_s", "then", "is_new", "restarts"),
    [
        (5000, 0.0, 4000, False, 0),
        (5000, 0.0, 3999, False, 1),
        (5000, 0.0, 10_000, True, 0),
        (5000, 0.0, 10_001, False, 1),
        (5000, 2.0, 12_000, True, 0),
        (5000, 2.0, 12_001, False, 1),
        (5000, 2.0, 6002, True, 0),  # the clocks may drift apart by 1 ms a second
        (5000, 2.0, 5997, False, 0),
    ],
)
def test_what_the_clock_of_the_vehicle_tells(
    first: int, later_s: float, then: int, is_new: bool, restarts: int
) -> None:
    clock = Clock()
    decoder = Decoder(clock)
    decoder.feed(heartbeat() + attitude(first))
    clock.now += later_s
    said = latest(decoder.feed(attitude(then)))
    assert ("ROLL" in said and said["ROLL"].flags == 0) is is_new
    assert decoder.counts["restarts"] == restarts
    assert decoder.counts["late or repeated"] == (not is_new and not restarts)
    assert (decoder.trouble == protocol.LATE) is (then == 5997)


def test_data_that_waited_on_the_way_is_not_taken_for_fresh() -> None:
    clock = Clock()
    decoder = Decoder(clock)
    hud = frame("VFR_HUD", airspeed=50.0)
    assert "IAS" in latest(decoder.feed(heartbeat() + attitude(50_000) + hud))
    clock.now += 4.0
    waited = b"".join(attitude(50_000 + 100 * n) + hud + heartbeat(5, armed=True) for n in range(1, 30))
    assert decoder.feed(waited) == []
    assert decoder.trouble == protocol.LATE
    assert decoder.vehicle is not None
    assert not decoder.vehicle.armed
    updates = latest(decoder.feed(attitude(54_000) + hud + heartbeat(5, armed=True)))
    assert updates.keys() >= {"ROLL", "IAS", "MAVMODE"}
    assert not decoder.trouble


@pytest.mark.parametrize("ppm", [-500, 500])
def test_clocks_may_drift_apart(ppm: int) -> None:
    clock = Clock()
    decoder = Decoder(clock)
    for n in range(1, 1000):  # 14 hours
        clock.now = 100.0 + 50.0 * n
        decoder.feed(heartbeat() + attitude(round(50_000 * n * (1.0 + ppm * 1e-6))))
    assert decoder.counts["late or repeated"] == decoder.counts["restarts"] == 0


def test_after_a_restart_data_counts_from_the_next_heartbeat() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + attitude(500_000))
    failed = latest(decoder.feed(attitude(1200)))
    assert failed["ROLL"].flags == FAIL
    assert failed["ROLL"].reason == protocol.RESTARTED
    assert decoder.feed(attitude(1300)) == []
    assert latest(decoder.feed(heartbeat() + attitude(1400)))["ROLL"].flags == 0
    assert decoder.counts["restarts"] == 1


@pytest.mark.parametrize("other", [40_000, 900_000])
def test_two_autopilots_with_the_same_number_are_soon_not_taken_for_one(other: int) -> None:
    clock = Clock()
    decoder = Decoder(clock)
    said: list[list[Update]] = []
    for n in range(200):
        clock.now += 0.05
        both = attitude(500_000 + 50 * n) + attitude(other + 50 * n, 0.7)
        said.append(decoder.feed((heartbeat() if n % 20 == 0 else b"") + both) + decoder.tick())
    assert decoder.counts["restarts"] == protocol.RESTARTS
    assert decoder.trouble == protocol.CONFUSED
    assert said[-100:] == [[]] * 100
    clock.now += protocol.CONFUSED_S
    assert latest(decoder.feed(heartbeat() + attitude(530_000)))["ROLL"].flags == 0
    assert not decoder.trouble


@pytest.mark.parametrize(("within_s", "confused"), [(9.9, True), (10.0, False)])
def test_three_restarts_within_ten_seconds_are_too_many(within_s: float, confused: bool) -> None:
    clock = Clock()
    decoder = Decoder(clock)
    begin = clock.now
    for after_s in (0.0, 1.0, within_s):
        clock.now = begin + after_s
        decoder.feed(heartbeat() + attitude(50_000) + attitude(1000))
    assert decoder.counts["restarts"] == 3
    assert (decoder.trouble == protocol.CONFUSED) is confused
    clock.now += protocol.CONFUSED_S - 0.1
    assert bool(decoder.feed(heartbeat())) is not confused
    clock.now += 0.1
    assert decoder.feed(heartbeat())


def test_sequence_numbers_of_each_sender_are_followed_and_bounded() -> None:
    decoder = Decoder(Clock())
    decoder.feed(
        heartbeat(seq=250) + heartbeat(seq=2) + heartbeat(seq=2) + heartbeat(seq=1) + heartbeat(seq=2, system=3)
    )
    assert decoder.counts["lost"] == 7
    for system in range(4, 256):
        decoder.feed(heartbeat(system=system, type=6, seq=5) + heartbeat(system=system, type=6, seq=7))
    assert decoder.counts["lost"] == 7 + protocol.MAX_SENDERS - 2
    assert len(decoder._sequences) == len(decoder._not_vehicles) == protocol.MAX_SENDERS


@pytest.mark.parametrize(
    ("sequence", "lost"), [((0, 1, 2), 0), ((0, 2, 3), 1), ((0, 128, 129), 127), ((0, 129, 1), 0), ((0, 0, 1), 0)]
)
def test_a_large_gap_in_the_sequence_is_a_frame_that_was_overtaken(sequence: tuple[int, ...], lost: int) -> None:
    decoder = Decoder(Clock())
    decoder.feed(b"".join(heartbeat(seq=n) for n in sequence))
    assert decoder.counts["lost"] == lost


def test_acknowledgements_for_us_are_kept_and_no_others() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat())
    for target, component in ((255, 1), (0, 1), (254, 1), (255, 2)):
        decoder.feed(frame("COMMAND_ACK", command=511, result=target % 4, target_system=target, component=component))
    assert [*decoder.acknowledged] == [(511, 3), (511, 0)]
    assert decoder.counts["used"] == 3
    for n in range(40):
        decoder.feed(frame("COMMAND_ACK", command=n))
    assert [*decoder.acknowledged] == [(n, 0) for n in range(24, 40)]


def test_after_lost_bytes_the_rest_of_a_frame_is_not_read() -> None:
    decoder = Decoder(Clock())
    whole = heartbeat() + attitude(5)
    decoder.feed(whole[:-5])
    decoder.interrupt()
    assert decoder.feed(whole[-5:]) == []
    assert decoder.refused == ""
    decoder.feed(attitude(5)[:-1] + b"\0" + heartbeat())
    assert decoder.refused.startswith("bad checksum: fd 08")
    assert "ROLL" in latest(decoder.feed(attitude(6)))


def test_the_answers_have_the_version_of_the_heartbeats() -> None:
    decoder = Decoder(Clock())
    decoder.feed(attitude(5))
    assert decoder.vehicle is not None
    assert decoder.vehicle.version == 2
    assert not decoder.vehicle.is_arduplane
    for version in (1, 2):
        decoder.feed(heartbeat(version=version))
        assert decoder.vehicle.version == version
        assert decoder.vehicle.is_arduplane


# -- what is bad or failed ---------------------------------------------------------------------------------------------


def position(ms: int, **more: Any) -> bytes:
    fields = {"lat": 440000000, "lon": -880000000, "alt": 1000000, "hdg": 9000, "vx": 5000}
    return frame("GLOBAL_POSITION_INT", time_boot_ms=ms, **{**fields, **more})


def test_without_a_fix_there_is_no_position() -> None:
    decoder = Decoder(Clock())
    no_fix = frame("GPS_RAW_INT", fix_type=1, lat=440000000, lon=-880000000, satellites_visible=3)
    updates = latest(decoder.feed(heartbeat() + no_fix + position(100) + frame("VFR_HUD", groundspeed=50.0)))
    for key in ("LAT", "LONG", "GS", "TRACK", "GPS_ELLIPSOID_ALT"):
        assert updates[key] == Update(key, None, FAIL, protocol.NO_FIX)
    assert updates["GPS_FIX_TYPE"].value == 1
    assert updates["HEAD"].value == 90.0
    fixed = frame("GPS_RAW_INT", fix_type=3, lat=440000000, lon=-880000000, satellites_visible=7)
    assert latest(decoder.feed(fixed + position(200)))["LAT"].value == 44.0


def test_without_a_position_the_estimate_still_has_a_heading() -> None:
    for more, keys in (({"hdg": 9000}, {"HEAD": 90.0}), ({"alt": 1}, {"HEAD": 0.0}), ({}, {})):
        nowhere = {"lat": 0, "lon": 0, "alt": 0, "hdg": 0, **more}
        updates = latest(Decoder(Clock()).feed(position(100, **nowhere)))
        assert {key: update.value for key, update in updates.items() if not update.flags} == keys
        assert updates.keys() == {"LAT", "LONG", "TRACK", "TALT", "HEAD"}
        assert {update.reason for update in updates.values() if update.flags} == {protocol.NO_POSITION}
    for lat, lon in ((0, 1), (1, 0)):
        assert latest(Decoder(Clock()).feed(position(100, lat=lat, lon=lon)))["LAT"].flags == 0


@pytest.mark.parametrize("fix", range(9))
def test_the_kinds_of_fixes(fix: int) -> None:
    updates = latest(Decoder(Clock()).feed(gps(fix, alt_ellipsoid=3048, h_acc=3048, v_acc=6096, vel_acc=1000)))
    assert updates["GPS_FIX_TYPE"].value == (0, 1, 2, 3, 4, 5, 5, 3, 3)[fix]
    assert (updates["GPS_SATS_TRACKED"].value, updates["GPS_SATS_VISIBLE"].value) == (9, 9)
    accuracies = {"GPS_ACCURACY_HORIZ": 10.0, "GPS_ACCURACY_VERTICAL": 20.0, "GPS_ACCURACY_SPEED": 3600 / 1852}
    for key, value in {"LAT": 45.0, "LONG": -87.0, "TRACK": 90.0, **accuracies}.items():
        assert updates[key] == Update(key, *((None, FAIL, protocol.NO_FIX) if fix < 2 else (pytest.approx(value),)))
    reason = protocol.NO_FIX if fix < 2 else protocol.NO_2D_HEIGHT if fix == 2 else ""
    height = updates["GPS_ELLIPSOID_ALT"]
    assert (height.value, height.reason) == (None if reason else pytest.approx(10.0), reason)


def test_a_fix_of_a_later_definition_and_unknown_satellites() -> None:
    updates = latest(Decoder(Clock()).feed(gps(9, satellites_visible=255)))
    assert updates["GPS_FIX_TYPE"].value == 3
    assert updates["GPS_SATS_TRACKED"] == Update("GPS_SATS_TRACKED", None, FAIL, protocol.UNKNOWN)
    assert updates["GPS_ACCURACY_HORIZ"].reason == protocol.UNKNOWN


@pytest.mark.parametrize("fix", [1, 2])
def test_the_estimate_has_a_position_and_a_speed_from_a_two_dimensional_fix_on(fix: int) -> None:
    flight = position(100) + frame("VFR_HUD", groundspeed=50.0)
    updates = latest(Decoder(Clock()).feed(gps(fix) + flight))
    assert {updates[key].flags for key in ("LAT", "LONG", "TRACK", "GS")} == {FAIL if fix == 1 else 0}
    assert updates["TALT"].flags == updates["HEAD"].flags == 0


@pytest.mark.parametrize(
    ("course", "speed", "track"),
    [
        *((0, 50, 0.0), (9000, 50, 90.0), (27130, 5366, 271.3), (18000, 65535, 180.0)),
        *((9000, 49, protocol.SLOW), (65535, 5000, protocol.UNKNOWN)),
    ],
)
def test_the_track_of_the_receiver(course: int, speed: int, track: float | str) -> None:
    update = latest(Decoder(Clock()).feed(gps(cog=course, vel=speed)))["TRACK"]
    assert update.reason or update.value == (track if isinstance(track, str) else pytest.approx(track))
    assert (update.value is None) is isinstance(track, str)


@pytest.mark.parametrize(
    ("vx", "vy", "track"),
    [(50, 0, 0.0), (0, -50, 270.0), (30, 40, 53.130), (-300, -300, 225.0), (49, 0, None), (0, -49, None)],
)
def test_the_track_of_the_estimate(vx: int, vy: int, track: float | None) -> None:
    update = latest(Decoder(Clock()).feed(position(100, vx=vx, vy=vy)))["TRACK"]
    assert update.value == (None if track is None else pytest.approx(track, abs=0.001))
    assert update.reason == ("" if track is not None else protocol.SLOW)


def test_a_fix_at_zero_zero_is_none() -> None:
    decoder = Decoder(Clock())
    somewhere, nowhere = (frame("GPS_RAW_INT", fix_type=3, lat=lat, lon=lat, alt_ellipsoid=1) for lat in (440000000, 0))
    assert latest(decoder.feed(heartbeat() + somewhere))["LAT"].value == 44.0
    updates = latest(decoder.feed(nowhere))
    assert updates["LAT"].flags & updates["LONG"].flags & FAIL


def gps(fix: int = 3, **more: Any) -> bytes:
    fields = {"lat": 450000000, "lon": -870000000, "vel": 5000, "cog": 9000, "satellites_visible": 9}
    version = more.pop("version", 2)
    return frame("GPS_RAW_INT", version=version, fix_type=fix, **{**fields, **more})


ESTIMATE, RECEIVER = [44.0, -88.0, 0.0], [45.0, -87.0, 90.0]


def test_the_receiver_gives_the_position_while_the_estimate_does_not_come_steadily() -> None:
    clock = Clock()
    decoder = Decoder(clock)

    def fly(rounds: int, every: int, receiver: bytes = gps()) -> list[Any]:
        """What LAT, LONG and TRACK were in so many rounds of 0.25 s, with the estimate in every so many of them."""
        said: list[Any] = []
        for n in range(1, rounds + 1):
            clock.now += 0.25
            estimate = position(round(clock.now * 1000)) if every and not n % every else b""
            updates = decoder.feed(heartbeat() + receiver + estimate)
            said += [u.value for u in updates if u.key in ("LAT", "LONG", "TRACK")]
            assert (latest(updates).keys() >= {"HEAD", "TALT"}) is bool(estimate), "which has no other source"
        return said

    assert fly(5, 0) == pytest.approx(RECEIVER * 5)
    assert fly(5, 1) == pytest.approx(RECEIVER * 2 + ESTIMATE * 4), "the second one shows that it comes"
    assert fly(10, 5) == pytest.approx(ESTIMATE * 2), "once in 1.25 s"
    assert fly(9, 0) == [], "the position must not jump at every gap"
    assert fly(3, 0) == pytest.approx(RECEIVER * 3), "and must not become old"
    assert fly(33, 10) == pytest.approx(RECEIVER * 33), "every 2.5 s is not steadily"
    assert fly(8, 0) == pytest.approx(RECEIVER * 8)
    assert fly(41, 1) == pytest.approx(RECEIVER * 41 + ESTIMATE), "after a gap it has to come for 10 s"
    assert fly(8, 1) == pytest.approx(ESTIMATE * 8)
    assert fly(12, 0) == pytest.approx(RECEIVER * 3)
    for _ in range(10):
        assert fly(2, 1) + fly(14, 0) == pytest.approx(RECEIVER * 16), "two in quick succession are not steadily"
    assert fly(60, 20, b"") == pytest.approx(ESTIMATE * 3), "but better than none"
    assert fly(9, 1) == pytest.approx(ESTIMATE * 9), "nor does it jump when the receiver is back"


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        (0x33F & ~1, "ROLL PITCH YAW ROT HEAD"),
        (0x33F & ~2, "GS TRACK"),
        (0x33F & ~16, "LAT LONG"),
        (0x33F & ~32, "TALT"),
        (0x33F | 128, "LAT LONG GS TRACK"),
        (0x33F | 1024, "ROLL PITCH YAW ROT HEAD GS TRACK VS LAT LONG TALT"),
        (0, "ROLL PITCH YAW ROT HEAD GS TRACK VS LAT LONG TALT"),
        (0x33F, ""),
    ],
)
def test_what_the_estimator_does_not_trust_is_bad(flags: int, keys: str) -> None:
    decoder = Decoder(Clock())
    flight = attitude(100) + position(100) + frame("VFR_HUD", groundspeed=50.0, climb=1.0, airspeed=50.0)
    updates = latest(decoder.feed(heartbeat() + frame("EKF_STATUS_REPORT", flags=flags) + flight))
    assert {key for key, update in updates.items() if update.flags == BAD} == set(keys.split())
    assert all(update.reason for update in updates.values() if update.flags)
    assert bool(decoder.trouble) is bool(keys)


def sys_status(present: int, health: int) -> bytes:
    names = (f"onboard_control_sensors_{what}" for what in ("present", "enabled", "health"))
    fields: dict[str, Any] = dict(zip(names, (present, present, health), strict=True))
    return frame("SYS_STATUS", **fields)


def test_a_sensor_that_is_missing_or_off_is_not_unhealthy() -> None:
    for present, enabled in ((0, 0x20003F), (0x20003F, 0x10)):
        fields = {f"onboard_control_sensors_{what}": n for what, n in (("present", present), ("enabled", enabled))}
        decoder = Decoder(Clock())
        decoder.feed(heartbeat() + frame("SYS_STATUS", **fields))
        assert ("airspeed sensor" in decoder.trouble) is (present > 0)
        decoder.feed(frame("SYS_STATUS", **fields, onboard_control_sensors_health=0x10))
        assert not decoder.trouble


@pytest.mark.parametrize("variance", [1.0, 1.1, math.nan])
@pytest.mark.parametrize(
    ("field", "keys"),
    [("velocity", "GS TRACK VS"), ("pos_horiz", "LAT LONG"), ("pos_vert", "TALT VS"), ("compass", "HEAD YAW")],
)
def test_measurements_that_contradict_the_estimate_are_bad(field: str, keys: str, variance: float) -> None:
    flight = attitude(100) + position(100) + frame("VFR_HUD", groundspeed=50.0, climb=1.0)
    doubt: dict[str, Any] = {f"{field}_variance": variance}
    report = frame("EKF_STATUS_REPORT", flags=0x33F, **doubt)
    updates = latest(Decoder(Clock()).feed(heartbeat() + report + flight))
    assert {key for key, u in updates.items() if u.flags == BAD} == set(() if variance == 1.0 else keys.split())


@pytest.mark.parametrize(
    ("bit", "keys"),
    [
        (0x01, "ROLL PITCH YAW ROT HEAD"),
        (0x02, "ROLL PITCH ALAT ALONG ANORM"),
        (0x04, "HEAD YAW"),
        (0x08, "AIRPRESS PALT VS TALT"),
        (0x10, "IAS DIFFAIRPRESS"),
        (0x20, "LAT LONG GS TRACK"),
        (0x200000, "ROLL PITCH YAW ROT HEAD"),
    ],
)
def test_what_a_sensor_measures_is_bad_while_it_is_not_healthy(bit: int, keys: str) -> None:
    flight = attitude(100) + position(100) + frame("VFR_HUD", airspeed=50.0, groundspeed=50.0, climb=1.0)
    flight += frame("SCALED_IMU", time_boot_ms=100, zacc=-1000)
    flight += frame("SCALED_PRESSURE", time_boot_ms=100, press_abs=1000.0, press_diff=1.0)
    every = 0x20003F
    updates = latest(Decoder(Clock()).feed(heartbeat() + sys_status(every, every & ~bit) + flight))
    assert {key for key, u in updates.items() if u.flags == BAD} == set(keys.split())


def test_an_unhealthy_or_missing_airspeed_sensor_makes_the_airspeed_bad() -> None:
    decoder = Decoder(Clock())
    hud = frame("VFR_HUD", airspeed=50.0)
    assert latest(decoder.feed(heartbeat() + sys_status(0x3F, 0x3F) + hud))["IAS"].flags == 0
    assert latest(decoder.feed(sys_status(0x3F, 0x2F) + hud))["IAS"].flags == BAD
    assert "estimate" in latest(decoder.feed(sys_status(0x2F, 0x2F) + hud))["IAS"].reason


@pytest.mark.parametrize(
    ("sensors", "status", "armed", "state"),
    [
        (0x10000000, 3, False, "ERROR"),
        (0x10000000, 4, True, "ARMED"),
        (0x10000000, 2, False, "INIT"),
        (0, 0, False, "INIT"),
        (0, 2, False, "INIT"),
        (0, 3, False, "DISARMED"),
        (0, 1, False, "INIT"),
        (0, 4, True, "ARMED"),
        (0, 5, True, "ERROR"),
        (0, 8, False, "ERROR"),
    ],
)
def test_the_state(sensors: int, status: int, armed: bool, state: str) -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + sys_status(sensors, 0))
    assert latest(decoder.feed(heartbeat(system_status=status, armed=armed)))["MAVSTATE"].value == state
    disarmed = latest(decoder.feed(sys_status(sensors, sensors) + heartbeat(system_status=4)))
    assert disarmed["MAVSTATE"].value == "DISARMED", "it never goes away"


@pytest.mark.parametrize(
    ("status", "trouble"), [(4, ""), (5, "critical"), (6, "emergency"), (7, "powering off"), (8, "terminating")]
)
def test_distress_is_told(status: int, trouble: str) -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat(system_status=status))
    assert decoder.trouble == (trouble and f"the autopilot reports: {trouble}")
    assert decoder.vehicle is not None
    assert decoder.vehicle.state == ("ERROR" if trouble else "DISARMED")


def test_before_the_first_heartbeat_the_vehicle_is_in_no_state() -> None:
    decoder = Decoder(Clock())
    decoder.feed(attitude(5))
    assert decoder.vehicle is not None
    assert (decoder.vehicle.state, decoder.vehicle.mode, decoder.vehicle.armed) == ("INIT", "", False)


def test_impossible_and_unknown_values_fail() -> None:
    decoder = Decoder(Clock())
    spoiled = attitude(100, roll=900.0) + position(100, hdg=65535, lat=2_000_000_000)
    spoiled += frame("VFR_HUD", airspeed=math.nan, groundspeed=1e9, climb=math.inf)
    spoiled += frame("SCALED_PRESSURE", time_boot_ms=5, press_abs=0.0, press_diff=1.0)
    updates = latest(decoder.feed(heartbeat() + spoiled))
    failed = {key for key, update in updates.items() if update.flags == FAIL}
    assert failed == {"ROLL", "HEAD", "LAT", "IAS", "GS", "VS", "AIRPRESS", "PALT"}
    assert decoder.counts["absurd values"] == 4


def test_slow_speeds() -> None:
    slow = frame("VFR_HUD", airspeed=5.0, groundspeed=1.0)
    updates = latest(Decoder(Clock()).feed(slow + position(100, vx=10)))
    assert (updates["IAS"].value, updates["GS"].value) == (0.0, 0.0)
    assert updates["TRACK"].reason == protocol.SLOW
    for least in (5.0, 5.0 * KNOTS_PER_MPS):
        updates = latest(Decoder(Clock(), min_airspeed=least).feed(slow))
        assert updates["IAS"].value == pytest.approx(9.72, abs=0.01)
    faster = latest(Decoder(Clock()).feed(frame("VFR_HUD", airspeed=5.2, groundspeed=1.6)))
    assert (faster["IAS"].value, faster["GS"].value) == pytest.approx((10.11, 3.11), abs=0.01)
    assert latest(Decoder(Clock()).feed(frame("VFR_HUD", groundspeed=1.5)))["GS"].value == 0.0


def test_the_rate_of_turn_comes_from_the_gyroscopes() -> None:
    for roll, pitch, q, r, turn in (
        (0.0, 0.0, 0.3, 0.1, 0.1),
        (math.pi / 2, 0.0, 0.3, 0.1, 0.3),
        (math.pi / 6, math.pi / 3, 0.2, 0.1, (0.1 + 0.0866025) * 2),
        (0.0, math.pi / 2, 0.0, 0.1, 1.0),  # straight up there is no heading that turns
    ):
        updates = latest(Decoder(Clock()).feed(attitude(5, roll, pitch=pitch, pitchspeed=q, yawspeed=r)))
        assert updates["ROT"].value == pytest.approx(math.degrees(turn), rel=1e-5)
    unknown = latest(Decoder(Clock()).feed(attitude(5, pitchspeed=math.nan)))
    assert {key: update.reason for key, update in unknown.items() if update.flags} == {"ROT": protocol.UNKNOWN}


def test_the_pressure_is_corrected() -> None:
    updates = latest(
        Decoder(Clock(), pascal_offset=-150.0).feed(frame("SCALED_PRESSURE", time_boot_ms=5, press_abs=1000.0))
    )
    assert updates["AIRPRESS"].value == 99850.0
    assert updates["PALT"].value == pytest.approx(405.2, abs=0.1)
    standard = frame("SCALED_PRESSURE", time_boot_ms=5, press_abs=1013.25, press_diff=math.nan)
    updates = latest(Decoder(Clock()).feed(standard))
    assert (updates["AIRPRESS"].value, updates["PALT"].value) == pytest.approx((101_325.0, 0.0))
    assert updates["DIFFAIRPRESS"].reason == protocol.UNKNOWN
    unknown = frame("SCALED_PRESSURE", time_boot_ms=5, press_abs=math.nan)
    failed = latest(Decoder(Clock()).feed(unknown))
    assert {failed[key].reason for key in ("AIRPRESS", "PALT")} == {protocol.UNKNOWN}


def test_only_the_groups_that_are_on_are_written() -> None:
    decoder = Decoder(Clock(), keys=protocol.GROUPS["accel"])
    updates = decoder.feed(heartbeat() + attitude(100) + position(100) + data_of("scaled_imu.v2"))
    assert latest(updates).keys() == {"ALAT", "ALONG", "ANORM", "MAVSTATE", "MAVMODE"}
    assert decoder.counts["ignored"] == 1, "the attitude; the position has the altitude for waypoints"
    assert decoder.arrived.keys() == {26, 33}


def test_what_says_more_than_its_keys_is_always_read() -> None:
    decoder = Decoder(Clock(), keys=protocol.GROUPS["accel"])
    servos = frame("SERVO_OUTPUT_RAW", servo1_raw=1500) + frame("SERVO_OUTPUT_RAW", port=1, servo1_raw=1600)
    updates = decoder.feed(heartbeat() + gps(2) + position(100, alt=7) + servos + sys_status(0x3F, 0x3E))
    assert latest(updates).keys() == {"MAVSTATE", "MAVMODE"}
    vehicle = decoder.vehicle
    assert vehicle is not None
    assert (vehicle.fix, vehicle.altitude_mm) == (2, (7, 100.0))
    assert vehicle.servos is not None
    assert vehicle.servos["servo1_raw"] == 1500
    assert decoder.trouble == "the autopilot's gyroscopes: not healthy"
    decoder.feed(sys_status(0x3F, 0x3F) + frame("EKF_STATUS_REPORT", flags=0x33E))
    assert decoder.trouble == "the autopilot does not trust its attitude"


#: How often to ask for each message, in hertz, and the groups whose keys it has.
ASKED = {
    1: (1.0, set(protocol.GROUPS)),
    24: (5.0, {"gps", "groundspeed"}),
    26: (5.0, {"accel"}),
    29: (5.0, {"pressure", "ahrs"}),
    30: (10.0, {"ahrs"}),
    33: (5.0, {"gps", "ahrs"}),
    36: (2.5, set()),
    62: (2.0, {"navigation"}),
    74: (5.0, {"airspeed", "groundspeed", "ahrs"}),
    132: (5.0, {"rangefinder"}),
    147: (1.0, {"battery"}),
    173: (5.0, {"rangefinder"}),
    193: (1.0, {"ahrs", "gps", "groundspeed"}),
    225: (5.0, {"engine"}),
    226: (2.0, {"engine"}),
    11020: (10.0, {"aoa"}),
}


@pytest.mark.parametrize("group", protocol.GROUPS)
def test_each_group_asks_for_the_messages_with_its_keys(group: str) -> None:
    asked = protocol.intervals(protocol.GROUPS[group])
    assert {message: 1e6 / us for message, us in asked.items()} == {
        message: rate for message, (rate, groups) in ASKED.items() if group in groups
    }


def test_trims_and_every_key_ask_for_what_they_need() -> None:
    assert protocol.intervals(("TRIMP",)) == protocol.intervals(("TRIMY",)) == {36: 400_000}
    assert protocol.intervals(()) == {}
    assert protocol.intervals(protocol.KEYS).keys() | {36} == ASKED.keys()


@pytest.mark.parametrize(
    ("key", "better", "other"),
    [
        ("VOLT", ("BATTERY_STATUS", {}), ("SYS_STATUS", {"voltage_battery": 12_600})),
        ("TACH1", ("EFI_STATUS", {"health": 1, "rpm": 2400.0}), ("RPM", {"rpm1": 2390.0})),
    ],
)
def test_when_the_better_of_two_messages_stops_the_other_is_used(key: str, better: Any, other: Any) -> None:
    clock = Clock()
    decoder = Decoder(clock)
    (name, fields), (other_name, other_fields) = better, other
    assert key in latest(decoder.feed(heartbeat() + frame(name, **fields)))
    clock.now += 1.0
    assert key not in latest(decoder.feed(frame(other_name, **other_fields)))
    clock.now += protocol.BETTER_LIMIT_S
    assert latest(decoder.feed(heartbeat() + frame(other_name, **other_fields)))[key].flags == 0


def test_batteries_and_engines_are_read_in_the_units_of_the_keys() -> None:
    updates = latest(Decoder(Clock()).feed(data_of("battery.status") + data_of("efi") + data_of("nav_controller.v2")))
    fields = VECTORS["nav_controller.v2"]["frames"][0]["fields"]
    assert {key: update.value for key, update in updates.items()} == pytest.approx(
        {
            "VOLT": 4.150 + 4.148 + 4.151,
            "CURRNT": 15.3,
            "TACH1": 2412.0,
            "MAP1": 78.5 / 3.386389,
            "CHT11": 178.0,
            "EGT11": 702.0,
            "FUELF1": 380.0 * 60 / 3785.411784,
            "XTRACK": fields["xtrack_error"] / 1852.0,
        }
    )
    sick = latest(Decoder(Clock()).feed(frame("EFI_STATUS", health=0, rpm=2400.0)))
    assert {update.flags for update in sick.values()} == {FAIL}
    assert sick.keys() == {"TACH1", "MAP1", "CHT11", "EGT11", "FUELF1"}


def test_the_supply_of_the_autopilot() -> None:
    system, unknown = (latest(Decoder(Clock()).feed(data_of(name))) for name in ("sys_status.v1", "battery.unknown"))
    assert (system["VOLT"].value, system["CURRNT"].value) == pytest.approx((12.587, 15.3))
    assert unknown["VOLT"].reason == unknown["CURRNT"].reason == protocol.UNKNOWN
    many = bytearray(BY_NAME["BATTERY_STATUS"].encode({"current_battery": -1}))
    for cells, at, count in ((4000, 10, 10), (3000, 41, 4)):  # the first ten and the rest
        struct.pack_into(f"<{count}H", many, at, *[cells] * count)
    updates = latest(Decoder(Clock()).feed(build(BY_NAME["BATTERY_STATUS"], bytes(many), 1, 1, 0)))
    assert updates["VOLT"].value == pytest.approx(52.0)
    assert updates["CURRNT"].reason == protocol.UNKNOWN
    none = latest(Decoder(Clock()).feed(frame("BATTERY_STATUS", current_battery=100)))
    assert none["VOLT"].reason == protocol.UNKNOWN


def test_a_revolution_counter_that_is_missing_or_stands() -> None:
    for rpm, value in ((-1.0, None), (0.0, 0.0), (2412.0, 2412.0)):
        update = latest(Decoder(Clock()).feed(frame("RPM", rpm1=rpm)))["TACH1"]
        assert (update.value, update.reason) == (value, protocol.UNKNOWN if value is None else "")


def test_a_second_battery_does_not_hide_the_first() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + frame("BATTERY_STATUS", id=1))
    assert latest(decoder.feed(frame("SYS_STATUS", voltage_battery=12_600)))["VOLT"].value == pytest.approx(12.6)


def test_a_sensor_that_looks_sideways_or_out_of_range_is_no_height() -> None:
    fields = {"min_distance": 20, "max_distance": 5000, "current_distance": 3140, "orientation": 25}
    changes: list[tuple[dict[str, int], int]] = [({}, 0), ({"signal_quality": 1}, FAIL), ({"signal_quality": 2}, 0)]
    changes += [({"current_distance": cm}, flags) for cm, flags in ((19, FAIL), (20, 0), (5000, 0), (5001, FAIL))]
    for change, flags in changes:
        updates = latest(Decoder(Clock()).feed(frame("DISTANCE_SENSOR", **{**fields, **change})))
        assert updates["AGL"].flags == flags
    decoder, range_finder = Decoder(Clock()), frame("RANGEFINDER", distance=30.48)
    assert not decoder.feed(frame("DISTANCE_SENSOR", **{**fields, "orientation": 0}))
    assert latest(decoder.feed(range_finder))["AGL"].value == pytest.approx(100.0)
    assert latest(decoder.feed(frame("DISTANCE_SENSOR", **fields)))["AGL"].value == pytest.approx(103.018, abs=0.001)
    assert decoder.feed(range_finder) == [], "it does not know its limits"


def test_a_text_in_parts_is_joined() -> None:
    autopilot = MavlinkAutopilot(Line())
    words = "PreArm: " + "the quick brown fox jumps over the lazy dog " * 3
    autopilot.say(words)
    decoder = Decoder(Clock())
    (*_, last) = [update for part in autopilot._answers for update in decoder.feed(part)]
    assert last == Update("MAVMSG", words.strip())
    assert decoder.feed(autopilot._answers[2])[0:] == [], "without the part before it"


def text_part(number: int, part: int, text: str) -> bytes:
    payload = struct.pack("<B50sHB", 6, text.encode(), number, part)
    return build(BY_NAME["STATUSTEXT"], payload, 1, 1, 0)


def test_the_parts_of_different_texts_are_not_mixed_up() -> None:
    decoder = Decoder(Clock())

    def said(number: int, part: int, text: str) -> list[Any]:
        return [update.value for update in decoder.feed(text_part(number, part, text))]

    assert said(1, 1, "no beginning") == said(1, 0, "") == []
    assert said(3, 0, "one ") == ["one"]
    assert said(0, 0, "short\n\x07\x7f!") == ["short   !"]
    assert said(3, 1, "text") == ["one text"]
    assert said(4, 2, "of another") == said(3, 3, "too far") == said(0, 0, " \t") == []
    assert said(3, 2, "!") == ["one text!"]
    for part in range(6):
        (text,) = said(9, part, "x" * 50)
        assert len(text) == min(50 * (part + 1), 200)


def report(**more: Any) -> traffic.Target | None:
    (vector,) = VECTORS["adsb"]["frames"]
    message = BY_NAME["ADSB_VEHICLE"]
    return protocol.target_of(message, {**vector["fields"], **more})


def test_an_aircraft_of_the_adsb_receiver_becomes_a_target() -> None:
    decoder = Decoder(Clock())
    assert decoder.feed(data_of("adsb")) == []
    ((target, age_s),) = decoder.traffic
    assert target == report()
    assert age_s == VECTORS["adsb"]["frames"][0]["fields"]["tslc"]
    assert target.address == 0xA9704D
    assert (target.callsign, target.squawk, target.emitter) == ("DAL1253", "1200", 3)
    assert target.lat == pytest.approx(39.4)
    assert target.lon == pytest.approx(-106.0)
    assert target.altitude_ft == pytest.approx(30_000.0)
    assert target.ground_speed_kt == pytest.approx(279.9, abs=0.1)
    assert target.vertical_speed_fpm == pytest.approx(-500.0)
    assert target.track_deg == pytest.approx(271.3)


def test_what_is_not_valid_of_a_target_is_not_zero() -> None:
    nothing = report(flags=0)
    assert nothing is not None
    known = {name for name, value in nothing._asdict().items() if value not in (None, "", b"", traffic.NEVER)}
    assert known == {"address", "address_type", "emitter"}
    markers = report(lat=2**31 - 1, altitude=2**31 - 1, heading=65535, hor_velocity=65535, ver_velocity=32767)
    assert markers is not None
    assert markers.lat is markers.lon is markers.altitude_ft is markers.track_deg is None
    assert markers.ground_speed_kt is markers.vertical_speed_fpm is None
    geometric, level = report(altitude_type=1), report(ver_velocity=0)
    assert geometric is not None
    assert geometric.altitude_ft is None
    assert level is not None
    assert level.vertical_speed_fpm is None
    assert (report(tslc=5) is None, report(tslc=6) is None) == (False, True)
    decoder = Decoder(Clock())
    assert decoder.feed(frame("ADSB_VEHICLE", tslc=6) + frame("ADSB_VEHICLE", tslc=5, system=9, component=156)) == []
    assert [age_s for _, age_s in decoder.traffic] == [5.0]
    assert (decoder.counts["used"], decoder.counts["ignored"]) == (1, 1)
    nowhere = report(lat=0, lon=0)
    assert nowhere is not None
    assert nowhere.lat is nowhere.lon is None
    for place in ({"lat": 900000001}, {"lon": -1800000001}, {"lon": 2**31 - 1}, {"flags": 62}):
        beyond = report(**place)
        assert beyond is not None
        assert beyond.lat is beyond.lon is None
    simulated = report(flags=127)
    assert simulated is not None
    assert simulated.source == "sim/"


@pytest.mark.parametrize(
    ("flags", "known"),
    [
        (1, {"lat", "lon"}),
        (2, {"altitude_ft"}),
        (4, {"track_deg"}),
        (8, {"ground_speed_kt", "vertical_speed_fpm"}),  # as older senders do
        (16, {"callsign"}),
        (32, {"squawk"}),
        (128, {"vertical_speed_fpm"}),
    ],
)
def test_the_flags_say_what_is_known_of_a_target(flags: int, known: set[str]) -> None:
    target, nothing = report(flags=flags), report(flags=0)
    assert target is not None
    assert nothing is not None
    assert {name for name, value in target._asdict().items() if value != getattr(nothing, name)} == known


@pytest.mark.parametrize(
    ("field", "sent", "name", "value"),
    [
        ("ICAO_address", 0x3A9704D, "address", 0xA9704D),
        ("callsign", "N12 3AB\u00e9~", "callsign", "N123AB"),
        ("callsign", " ", "callsign", None),
        ("squawk", 21, "squawk", "0021"),
        ("heading", 0, "track_deg", 0.0),
        ("altitude", -304800, "altitude_ft", -1000.0),
    ],
)
def test_the_numbers_of_a_target(field: str, sent: Any, name: str, value: Any) -> None:
    target = report(**{field: sent})
    assert target is not None
    assert getattr(target, name) == (pytest.approx(value) if isinstance(value, float) else value)
    level = report(flags=128, ver_velocity=0)
    assert level is not None
    assert level.vertical_speed_fpm == 0.0


def test_a_capture_for_others_has_other_positions_and_no_texts() -> None:
    autopilot = MavlinkAutopilot(Line())
    autopilot.say("N123AB")
    aircraft = Aircraft()
    sent = b"".join(autopilot.frames(aircraft, 0.0)) + autopilot._answers[0] + data_of("adsb") + data_of("frame.signed")
    clean = hide(b"\x00here" + sent + b"and there", Shift(-10, 200))
    assert len(clean) == len(sent) + 14
    assert not {b"here", b"N123AB", b"DAL1253"} & {clean[at : at + n] for at in range(len(clean)) for n in (4, 6, 7)}
    found = [frame for frame in Framer().feed(clean) if frame.message is not None]
    assert len(found) == 11
    places = [f.message.decode(f.payload) for f in found if f.message and "lat" in f.message.fields]
    assert len(places) == 2
    for place in places:
        assert place["lat"] / 1e7 == pytest.approx(aircraft.lat - 10.0, abs=1e-6)
        assert place["lon"] / 1e7 == pytest.approx(aircraft.lon + 200.0, abs=1e-6)


@pytest.mark.parametrize("kind", [0, 1, 2, 12, 20])
@pytest.mark.parametrize("autopilot", [0, 3, 12])
def test_every_mode_has_a_name_of_its_own(autopilot: int, kind: int) -> None:
    names = [modes.mode_name(autopilot, kind, number) for number in range(300)]
    assert len(set(names)) == len(names) or autopilot == modes.PX4
    assert not any(name.strip() == "" for name in names)


# -- the virtual autopilot ---------------------------------------------------------------------------------------------


class Line:
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("version", [1, 2])
def test_the_virtual_autopilot_reports_the_aircraft(version: int) -> None:
    aircraft = Aircraft(datetime(2025, 7, 21, 15, 0, tzinfo=UTC))
    for _ in range(600):
        aircraft.step(0.1)
    sent = b"".join(MavlinkAutopilot(Line(), version=version).frames(aircraft, 0.0))
    decoder = Decoder(Clock())
    updates = latest(decoder.feed(sent))
    assert decoder.counts["used"] == decoder.counts["received"] == 10
    truth = {**aircraft.values(), "HEAD": aircraft.heading}
    near = {"HEAD": 0.01, "TRACK": 0.3, "LAT": 1e-7, "LONG": 1e-7, "ALAT": 1e-3, "ROT": 0.05}
    checked = [key for key in updates if key in truth and key not in ("YAW", "GPS_SATS_VISIBLE", "CURRNT")]
    assert len(checked) >= 15
    for key in checked:
        assert updates[key].value == pytest.approx(truth[key], rel=1e-3, abs=near.get(key, 1e-2)), key


def test_the_virtual_autopilot_heads_where_a_scenario_says() -> None:
    aircraft = Aircraft()
    aircraft.holds = (("HEAD", 123.0),)
    updates = latest(Decoder(Clock()).feed(b"".join(MavlinkAutopilot(Line()).frames(aircraft, 0.0))))
    assert updates["HEAD"].value == pytest.approx(123.0 + aircraft.variation, abs=0.01)


class AutopilotBench(SerialBench):
    """Two messages have the track, that of the receiver in hundredths of a degree."""

    def _note(self, key: str, reading: Reading) -> None:
        if key == "TRACK":
            reading = structs.replace(reading, value=round(float(reading.value), 2))
        super()._note(key, reading)


class TestContract(Contract):
    subject = AutopilotBench.of(
        "fixgw.drivers.mavlink",
        MavlinkAutopilot,
        "ROLL PITCH ROT IAS GS VS LAT LONG TRACK TALT PALT AIRPRESS ANORM ALAT GPS_SATS_TRACKED GPS_FIX_TYPE"
        " GPS_ELLIPSOID_ALT GPS_ACCURACY_HORIZ",
        within={"LAT": 0.001, "LONG": 0.001, "TRACK": 0.5, "ROT": 0.1, "ALAT": 0.01, "GPS_ACCURACY_HORIZ": 0.1},
        absurd={"IAS": 5000.0},
        unknown=("IAS", "GPS_SATS_TRACKED"),
        repeats=True,
    )
