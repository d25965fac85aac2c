"""MAVLink without I/O: shared vectors, table, framing, what is trusted, and pymavlink as a second opinion."""

from __future__ import annotations

import csv
import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL
from fixgw.drivers.mavlink import modes, protocol
from fixgw.drivers.mavlink.anonymous import hide
from fixgw.drivers.mavlink.frames import Framer, build
from fixgw.drivers.mavlink.messages import BY_NAME, MESSAGES
from fixgw.drivers.mavlink.protocol import Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.mavlink import MavlinkAutopilot
from fixgw.kit import traffic
from fixgw.kit.anonymous import Shift
from fixgw.kit.update import Update

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


def test_a_frame_that_was_overtaken_is_left_out() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + attitude(5000))
    assert decoder.feed(attitude(4900)) == []
    assert decoder.counts["late or repeated"] == 1
    assert decoder.counts["restarts"] == 0


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


def test_sequence_numbers_of_each_sender_are_followed_and_bounded() -> None:
    decoder = Decoder(Clock())
    decoder.feed(
        heartbeat(seq=250) + heartbeat(seq=2) + heartbeat(seq=2) + heartbeat(seq=1) + heartbeat(seq=2, system=3)
    )
    assert decoder.counts["lost"] == 7
    for system in range(1, 256):
        decoder.feed(heartbeat(system=system, component=9))
    assert len(decoder._sequences) <= protocol.MAX_SENDERS
    assert len(decoder._not_vehicles) <= protocol.MAX_SENDERS


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


def test_a_fix_at_zero_zero_is_none() -> None:
    decoder = Decoder(Clock())
    somewhere, nowhere = (frame("GPS_RAW_INT", fix_type=3, lat=lat, lon=lat, alt_ellipsoid=1) for lat in (440000000, 0))
    assert latest(decoder.feed(heartbeat() + somewhere))["LAT"].value == 44.0
    updates = latest(decoder.feed(nowhere))
    assert updates["LAT"].flags & updates["LONG"].flags & FAIL


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
        (0, 3, False, "DISARMED"),
        (0, 1, False, "INIT"),
        (0, 4, True, "ARMED"),
        (0, 5, True, "ERROR"),
    ],
)
def test_the_state(sensors: int, status: int, armed: bool, state: str) -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + sys_status(sensors, 0))
    assert latest(decoder.feed(heartbeat(system_status=status, armed=armed)))["MAVSTATE"].value == state
    disarmed = latest(decoder.feed(sys_status(sensors, sensors) + heartbeat(system_status=4)))
    assert disarmed["MAVSTATE"].value == "DISARMED", "it never goes away"


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
    assert latest(Decoder(Clock(), min_airspeed=5.0).feed(slow))["IAS"].value == pytest.approx(9.72, abs=0.01)


def test_the_pressure_is_corrected() -> None:
    updates = latest(
        Decoder(Clock(), pascal_offset=-150.0).feed(frame("SCALED_PRESSURE", time_boot_ms=5, press_abs=1000.0))
    )
    assert updates["AIRPRESS"].value == 99850.0
    assert updates["PALT"].value == pytest.approx(405.2, abs=0.1)


def test_only_the_groups_that_are_on_are_written() -> None:
    decoder = Decoder(Clock(), keys=protocol.GROUPS["accel"])
    updates = decoder.feed(heartbeat() + attitude(100) + position(100) + data_of("scaled_imu.v2"))
    assert latest(updates).keys() == {"ALAT", "ALONG", "ANORM", "MAVSTATE", "MAVMODE"}


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


def test_a_second_battery_does_not_hide_the_first() -> None:
    decoder = Decoder(Clock())
    decoder.feed(heartbeat() + frame("BATTERY_STATUS", id=1))
    assert latest(decoder.feed(frame("SYS_STATUS", voltage_battery=12_600)))["VOLT"].value == pytest.approx(12.6)


def test_a_sensor_that_looks_sideways_or_out_of_range_is_no_height() -> None:
    fields = {"min_distance": 20, "max_distance": 5000, "current_distance": 3140, "orientation": 25}
    for change, flags in (({}, 0), ({"current_distance": 6000}, FAIL), ({"signal_quality": 1}, FAIL)):
        updates = latest(Decoder(Clock()).feed(frame("DISTANCE_SENSOR", **{**fields, **change})))
        assert updates["AGL"].flags == flags
    assert not Decoder(Clock()).feed(frame("DISTANCE_SENSOR", **{**fields, "orientation": 0}))


def test_a_text_in_parts_is_joined() -> None:
    autopilot = MavlinkAutopilot(Line())
    words = "PreArm: " + "the quick brown fox jumps over the lazy dog " * 3
    autopilot.say(words)
    decoder = Decoder(Clock())
    (*_, last) = [update for part in autopilot._answers for update in decoder.feed(part)]
    assert last == Update("MAVMSG", words.strip())
    assert decoder.feed(autopilot._answers[2])[0:] == [], "without the part before it"


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
    nowhere = report(lat=0, lon=0)
    assert nowhere is not None
    assert nowhere.lat is nowhere.lon is None
    simulated = report(flags=127)
    assert simulated is not None
    assert simulated.source == "sim/"


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


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.mavlink",
        MavlinkAutopilot,
        "ROLL PITCH ROT IAS GS VS LAT LONG TRACK TALT PALT AIRPRESS ANORM ALAT GPS_SATS_TRACKED GPS_FIX_TYPE"
        " GPS_ELLIPSOID_ALT GPS_ACCURACY_HORIZ",
        within={"LAT": 0.001, "LONG": 0.001, "TRACK": 0.5, "ROT": 0.1, "ALAT": 0.01, "GPS_ACCURACY_HORIZ": 0.1},
        absurd={"IAS": 5000.0},
        unknown=("IAS", "GPS_SATS_TRACKED"),
        repeats=True,
    )
