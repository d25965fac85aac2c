"""Where computed values could look right and be wrong: late, held up, restarted, written by two, hung, disk full."""

from __future__ import annotations

import errno
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration, state
from fixgw.cli import text
from fixgw.database import Reading
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.compute import totals
from fixgw.plugins.compute.places import Slow
from tests.plugins.compute.bench import Flight, flying, write_tree

EGTS = ["EGT11", "EGT12", "EGT13", "EGT14"]
AVERAGE = {"function": "average", "inputs": EGTS, "output": "EGTAVG1"}
TANKS = {"function": "sum", "inputs": ["FUELQ1", "FUELQ2"], "output": "FUELQT"}
FUEL = {"function": "fuel_used", "inputs": ["FUELF1"], "output": ["FUELUSED", "FUELREM"]}


def feed(flight: Flight, *values: float, source: str = "eis") -> None:
    for key, value in zip(EGTS, values, strict=False):
        flight.write(key, value, "", source)


# -- flags -------------------------------------------------------------------------------------------------------------


def test_each_change_is_one_update_and_none_is_wrong(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [AVERAGE])) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        seen: list[Reading] = []
        flight.db.subscribe("EGTAVG1", lambda key, reading: seen.append(reading))
        flight.write("EGT11", 304.0, "")
        flight.write("EGT12", 0.0, "f")
        flight.write("EGT12", 320.0, "b")
        flight.write("EGT12", 320.0, "")
        assert [(r.value, r.flag_text) for r in seen] == [
            (331.0, "00000"),
            (0.0, "00010"),
            (331.0, "00100"),
            (331.0, "00000"),
        ]
        assert seen[1].reasons[0][1] == "EGT12 failed"


def test_an_old_input_makes_the_output_old_in_one_update_without_new_age(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [AVERAGE])) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        flight.clock.now += 1.5
        feed(flight, 300.0, 320.0, 340.0)
        stamp = flight.db.read("EGTAVG1").stamp
        seen: list[Reading] = []
        flight.db.subscribe("EGTAVG1", lambda key, reading: seen.append(reading))
        flight.advance(0.6)
        (only,) = seen
        assert only.old
        assert only.stamp == stamp
        assert flight.reason("EGTAVG1") == "EGT14 is old"
        flight.write("EGT14", 360.0, "")
        assert flight.read("EGTAVG1") == (330.0, "")


def test_after_a_hold_up_no_overdue_input_counts_as_fresh(tmp_path: Path) -> None:
    """The process was stopped: one input is written before the ageing thread has marked the others."""
    with flying(write_tree(tmp_path, [AVERAGE])) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        flight.clock.now += 10.0
        flight.write("EGT11", 300.0, "")
        assert flight.read("EGTAVG1")[1] == "o"
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        assert flight.read("EGTAVG1") == (330.0, "")


def test_a_result_that_is_no_number_fails(tmp_path: Path) -> None:
    path = write_tree(
        tmp_path, [{"function": "sum", "inputs": ["A1", "A2"], "output": "A3"}], items=[{"key": "A3", "type": "int"}]
    )
    with flying(path) as flight:
        flight.write("A1", 1.7e308)
        flight.write("A2", 1.7e308)
        assert flight.read("A3") == (0, "f")
        flight.write("A2", -1.7e308)
        flight.write("A1", 2.6)
        flight.write("A2", 0.0)
        assert flight.read("A3") == (3, "")


def test_simulated_inputs_make_a_simulated_output(tmp_path: Path) -> None:
    functions: list[dict[str, Any]] = [
        AVERAGE,
        {"function": "max", "inputs": ["EGTAVG1", "CHT11"], "output": "EGTMAX1"},
    ]
    with flying(write_tree(tmp_path, functions)) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        flight.write("CHT11", 1.0, "", "eis")
        assert flight.db.read("EGTMAX1").source == "compute"
        flight.write("EGT12", 320.0, "", "sim/eis")
        assert flight.db.read("EGTAVG1").source == flight.db.read("EGTMAX1").source == "sim/compute"
        flight.write("EGT12", 320.0, "", "eis")
        assert flight.db.read("EGTMAX1").source == "compute"


def test_not_written_is_old_at_once_where_nothing_ages(tmp_path: Path) -> None:
    endurance = {"function": "endurance", "inputs": ["FUELREM", "FUELF1"], "output": "ENDUR", "window": 1}
    path = write_tree(tmp_path, [endurance], items=[{"key": "ENDUR", "tol": 0}])
    with flying(path) as flight:
        flight.write("FUELREM", 20.0)
        flight.write("FUELF1", 10.0)
        assert flight.read("ENDUR") == (2.0, "")
        flight.advance(1.5)
        flight.write("FUELF1", 0.0)
        assert flight.read("ENDUR") == (2.0, "o")
        assert flight.reason("ENDUR") == "no fuel flows"


def test_an_encoder_turned_beneath_an_override_goes_on_from_what_was_set(tmp_path: Path) -> None:
    encoder = {"function": "encoder", "inputs": ["ENC1"], "output": "BARO", "multiplier": 0.01}
    with flying(write_tree(tmp_path, [encoder])) as flight:
        flight.write("BARO", 29.92)
        flight.db.item("BARO").override(31.0, 0, "override/netfix/127.0.0.1", "", 60.0)
        flight.write("ENC1", 3)
        flight.db.item("BARO").end_override()
        assert flight.read("BARO") == (29.95, "")
        assert flight.db.read("BARO").source == "compute"


def test_what_has_no_result_beneath_an_override_is_old_after_it(tmp_path: Path) -> None:
    endurance = {"function": "endurance", "inputs": ["FUELREM", "FUELF1"], "output": "ENDUR", "window": 1}
    with flying(write_tree(tmp_path, [endurance], items=[{"key": "ENDUR", "tol": 0}])) as flight:
        flight.write("FUELREM", 20.0)
        flight.write("FUELF1", 10.0)
        flight.advance(1.5)
        flight.db.item("ENDUR").override(5.0, 0, "override/netfix/127.0.0.1", "", 60.0)
        flight.write("FUELF1", 0.0)
        flight.db.item("ENDUR").end_override()
        assert flight.read("ENDUR") == (2.0, "o")


def test_beyond_the_tropopause_there_is_no_density_altitude(tmp_path: Path) -> None:
    altd = {"function": "density_altitude", "inputs": ["PALT", "OAT"], "output": "DALT"}
    with flying(write_tree(tmp_path, [altd])) as flight:
        flight.write("OAT", -56.0)
        flight.write("PALT", 40000.0)
        assert flight.read("DALT")[1] == "o"
        flight.write("PALT", 36000.0)
        assert flight.read("DALT")[1] == ""


# -- who leads ---------------------------------------------------------------------------------------------------------


def test_outputs_are_old_while_another_gateway_leads(tmp_path: Path) -> None:
    encoder = {"function": "encoder", "inputs": ["ENC1"], "output": "BARO", "multiplier": 0.01}
    with flying(write_tree(tmp_path, [AVERAGE, encoder])) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        flight.write("BARO", 29.92)
        flight.gateway.world.quorum.leader = False
        flight.write("ENC1", 1)
        flight.advance(0.1)
        assert flight.read("EGTAVG1") == (330.0, "o")
        assert flight.reason("EGTAVG1") == "this gateway does not lead"
        assert flight.read("BARO") == (29.92, "")
        feed(flight, 310.0)
        assert flight.read("EGTAVG1") == (330.0, "o")
        flight.gateway.world.quorum.leader = True
        flight.advance(0.1)
        assert flight.read("EGTAVG1") == (332.5, "")
        assert flight.read("BARO") == (29.92, "")


def test_totals_are_counted_while_another_gateway_leads(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [FUEL])) as flight:
        flight.gateway.world.quorum.leader = False
        for _ in range(11):
            flight.write("FUELF1", 36.0)
            flight.advance(1.0)
        assert flight.read("FUELUSED")[1] == "o"
        flight.gateway.world.quorum.leader = True
        flight.advance(0.1)
        assert flight.read("FUELUSED")[0] == pytest.approx(0.1)


# -- two writers -------------------------------------------------------------------------------------------------------


def test_what_is_computed_yields_to_what_is_measured(tmp_path: Path) -> None:
    altp = {"function": "altp", "inputs": ["BARO", "ALT"], "output": "PALT"}
    with flying(write_tree(tmp_path, [altp])) as flight:
        flight.write("BARO", 29.42)
        flight.write("PALT", 5460.0, "", "adc")
        flight.write("ALT", 5000.0)
        assert flight.db.read("PALT").source == "adc"
        assert flight.db.item("PALT").conflicts == 0
        flight.advance(2.5)
        flight.write("ALT", 5000.0)
        assert flight.db.read("PALT").source == "compute"
        assert flight.read("PALT") == (pytest.approx(5466.8, abs=0.1), "")
        flight.write("PALT", 5460.0, "", "sim/adc")
        flight.write("ALT", 5000.0)
        assert flight.db.read("PALT").source == "compute", "real values do not yield to simulated ones"


def test_two_threads_that_write_inputs_leave_the_right_output(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [AVERAGE, {**TANKS, "output": "EGTMAX1"}])) as flight:
        feed(flight, 300.0, 300.0, 300.0, 300.0)
        begin = threading.Barrier(4)

        def write(key: str) -> None:
            begin.wait()
            for n in range(300):
                flight.write(key, 300.0 + n, None, key)
                flight.write("FUELQ1" if key < "EGT13" else "FUELQ2", float(n % 50), None, "tanks")

        threads = [threading.Thread(target=write, args=(key,)) for key in EGTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert flight.read("EGTAVG1") == (599.0, "")
        tanks = float(flight.read("FUELQ1")[0]) + float(flight.read("FUELQ2")[0])
        assert flight.read("EGTMAX1")[0] == tanks


def test_a_subscriber_of_the_output_that_hangs_does_not_stop_the_function(tmp_path: Path) -> None:
    path = write_tree(tmp_path, [{"function": "wrap360", "inputs": ["HEAD", "MAGVAR"], "output": "TRACK"}])
    with flying(path) as flight:
        flight.write("MAGVAR", 10.0)
        hanging, release = threading.Event(), threading.Event()

        def hang(key: str, reading: Reading) -> None:
            hanging.set()
            release.wait(20)

        subscription = flight.db.subscribe("TRACK", hang)
        thread = threading.Thread(target=flight.write, args=("HEAD", 90.0))
        thread.start()
        assert hanging.wait(20)
        subscription.close()
        flight.write("MAGVAR", 11.0)  # the other thread has the function
        assert flight.read("TRACK") == (100.0, "")
        flight.clock.now += 1.5
        flight.write("MAGVAR", 12.0)
        assert flight.read("TRACK")[0] == 102.0
        flight.write("MAGVAR", 13.0)
        assert flight.read("TRACK")[0] == 103.0
        release.set()
        thread.join()
        assert flight.read("TRACK")[0] == 103.0


def test_an_encoder_counts_each_write_once(tmp_path: Path) -> None:
    encoder = {"function": "encoder", "inputs": ["ENC1"], "output": "BARO", "multiplier": 0.01}
    with flying(write_tree(tmp_path, [encoder], items=[{"key": "ENC1", "tol": 500}])) as flight:
        flight.write("BARO", 29.92)
        flight.write("ENC1", 2)
        flight.advance(1.0)  # it becomes old
        flight.flag("ENC1", "b")
        flight.flag("ENC1", "")
        assert flight.read("BARO") == (29.94, "")
        flight.write("ENC1", 2)
        flight.write("ENC1", 2)
        assert flight.read("BARO") == (29.98, "")


# -- directions --------------------------------------------------------------------------------------------------------


def test_turning_through_north(tmp_path: Path) -> None:
    functions: list[dict[str, Any]] = [
        {"function": "turn_rate", "inputs": ["HEAD"], "output": "ROT", "window": 1},
        {"function": "wrap360", "inputs": ["HEAD", "MAGVAR"], "output": "TRACK"},
        {"function": "magnetic_from_true", "inputs": ["TRACK", "MAGVAR"], "output": "TRACKM"},
    ]
    with flying(write_tree(tmp_path, functions)) as flight:
        flight.write("MAGVAR", 3.0)
        for n in range(11):
            flight.advance(0.1)
            flight.write("HEAD", (358.5 + 0.3 * n) % 360.0)
        assert flight.read("ROT") == (pytest.approx(3.0, abs=1e-6), "")
        assert flight.read("TRACK") == (pytest.approx(4.5), "")
        assert flight.read("TRACKM") == (pytest.approx(1.5), "")


def test_the_wind_is_held_in_a_turn_but_not_for_ever(tmp_path: Path) -> None:
    wind = {"function": "wind", "inputs": ["GS", "TRACKM", "TAS", "HEAD", "ROT"], "output": ["WINDSPD", "WINDDIR"]}
    with flying(write_tree(tmp_path, [wind], items=[{"key": "ROT", "tol": 2000}])) as flight:

        def fly(seconds: int, **values: float) -> None:
            for _ in range(seconds):
                flight.advance(1.0)
                for key, value in {
                    "ROT": 0.0,
                    "GS": 130.0,
                    "TRACKM": 95.0,
                    "TAS": 120.0,
                    "HEAD": 85.0,
                    **values,
                }.items():
                    flight.write(key, value)

        fly(5)
        assert flight.read("WINDSPD")[1] == "o"
        fly(10)
        assert flight.read("WINDSPD") == (pytest.approx(23.958, abs=0.001), "")
        assert flight.read("WINDDIR") == (pytest.approx(335.43, abs=0.01), "")
        fly(30, ROT=3.0, GS=90.0)
        assert flight.read("WINDSPD") == (pytest.approx(23.958, abs=0.001), "")
        fly(40, ROT=3.0)
        assert flight.read("WINDSPD")[1] == "o"
        fly(15)
        assert flight.read("WINDSPD") == (pytest.approx(23.958, abs=0.001), "")


def test_a_change_of_the_altimeter_setting_is_no_climb(tmp_path: Path) -> None:
    functions: list[dict[str, Any]] = [
        {"function": "altp", "inputs": ["BARO", "ALT"], "output": "PALT"},
        {"function": "vertical_speed", "inputs": ["PALT"], "output": "VS"},
    ]
    with flying(write_tree(tmp_path, functions)) as flight:
        for n in range(31):
            flight.advance(0.1)
            if n == 20:
                flight.write("BARO", 29.42)
            else:
                flight.write("BARO", 29.92 if n < 20 else 29.42)
            flight.write("ALT", 5000.0 if n < 20 else 5000.0 - 465.6)
        assert abs(float(flight.read("VS")[0])) < 5000.0
        assert flight.read("VS")[1] == ""


# -- fuel --------------------------------------------------------------------------------------------------------------


def burn(flight: Flight, seconds: int, flow: float = 36.0) -> None:
    for _ in range(seconds):
        flight.write("FUELF1", flow, "", "eis")
        flight.advance(1.0)


def saved(flight: Flight) -> None:
    """Wait until the totals are on the disk."""
    flight.plugin.kept.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path, [FUEL])


def test_fuel_is_filled_by_writing_what_remains(tree: Path) -> None:
    with flying(tree) as flight:
        burn(flight, 11)
        assert flight.read("FUELREM")[1] == "o"
        assert flight.read("FUELUSED") == (pytest.approx(0.1), "")
        flight.write("FUELREM", 20.0, None, "netfix/127.0.0.1")
        assert flight.db.read("FUELREM").source == "compute"
        burn(flight, 10)
        assert flight.read("FUELREM") == (pytest.approx(19.9), "")
        flight.write("FUELUSED", 0.0, None, "netfix/127.0.0.1")
        burn(flight, 10)
        assert flight.read("FUELUSED") == (pytest.approx(0.1), "")
        assert flight.read("FUELREM") == (pytest.approx(19.8), "")


def test_a_gap_is_not_bridged_and_makes_the_totals_bad_until_they_are_set(tree: Path) -> None:
    with flying(tree) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 5)
        before = flight.read("FUELUSED")[0]
        flight.advance(1.0)
        flight.advance(1.0)
        flight.advance(5.0)
        assert flight.read("FUELUSED") == (before, "b")
        burn(flight, 2)
        value, flags = flight.read("FUELREM")
        assert flags == "b"
        assert "not known for" in flight.reason("FUELREM")
        assert value == pytest.approx(20.0 - 0.05)
        flight.write("FUELREM", 18.0)
        burn(flight, 2)
        assert flight.read("FUELREM")[1] == ""
        assert flight.read("FUELUSED")[1] == "b"


def test_a_short_silence_is_bridged(tree: Path) -> None:
    with flying(tree) as flight:
        burn(flight, 5)
        flight.advance(2.5)
        assert flight.read("FUELUSED")[1] == "b"
        burn(flight, 2)
        assert flight.read("FUELUSED") == (pytest.approx(0.01 * (4 + 3.5 + 1)), "")


def test_a_failed_flow_makes_the_totals_bad(tree: Path) -> None:
    with flying(tree) as flight:
        burn(flight, 5)
        flight.flag("FUELF1", "f", "eis")
        burn(flight, 2)
        assert flight.read("FUELUSED")[1] == "b"


def test_totals_survive_a_restart_in_flight(tree: Path) -> None:
    clock = Clock()
    with flying(tree, clock) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 11)
        used = flight.read("FUELUSED")[0]
    clock.now += 1.0
    with flying(tree, clock) as flight:
        assert flight.read("FUELUSED") == (pytest.approx(used), "o"), "the flow is not known yet"
        burn(flight, 3)
        assert flight.read("FUELUSED") == (pytest.approx(used + 0.01 * 4), "")
        assert flight.read("FUELREM")[0] == pytest.approx(20.0 - flight.read("FUELUSED")[0] + 0.0)


def test_a_long_restart_in_flight_makes_the_totals_bad(tree: Path) -> None:
    clock = Clock()
    with flying(tree, clock) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 5)
    clock.now += 60.0
    with flying(tree, clock) as flight:
        burn(flight, 3)
        assert flight.read("FUELREM")[1] == "b"
        assert flight.reason("FUELREM") == "the gateway was off while fuel flowed"
    with flying(tree, clock) as flight:
        burn(flight, 3)
        assert flight.read("FUELREM")[1] == "b", "a second restart does not make it better"


def test_a_power_cut_in_flight_makes_the_totals_bad(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with flying(tree) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 5)
    monkeypatch.setattr(totals, "boot_id", lambda: "another")
    with flying(tree) as flight:
        burn(flight, 3)
        assert flight.read("FUELREM")[1] == "b"


def test_the_next_flight_begins_where_the_last_one_ended(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with flying(tree) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 5)
        burn(flight, 3, 0.0)
    monkeypatch.setattr(totals, "boot_id", lambda: "another")
    with flying(tree) as flight:
        value, flags = flight.read("FUELREM")
        assert value == pytest.approx(20.0 - 0.045)
        assert flags == "o", "the flow was not yet written"
        burn(flight, 3, 0.0)
        assert flight.read("FUELREM") == (pytest.approx(20.0 - 0.045), "")


def test_simulated_fuel_is_not_saved(tree: Path) -> None:
    with flying(tree) as flight:
        flight.write("FUELREM", 20.0)
        burn(flight, 3)
    with flying(tree) as flight:
        for _ in range(30):
            flight.write("FUELF1", 36.0, "", "sim/eis")
            flight.advance(1.0)
        assert flight.db.read("FUELREM").source == "sim/compute"
        flight.write("FUELF1", 36.0, "", "eis")
        assert flight.db.read("FUELREM").source == "sim/compute", "it still contains simulated fuel"
    with flying(tree) as flight:
        assert flight.read("FUELREM")[0] == pytest.approx(20.0 - 0.02, abs=0.011)
        assert flight.db.read("FUELREM").source == "compute"


def test_a_full_disk_is_said_and_hurts_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def full(*arguments: Any) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save", full)
    with flying(tree) as flight:
        burn(flight, 3)
        assert tried.wait(20)
        flight.plugin.kept.close()
        assert flight.plugin.health() == "state is not saved: No space left on device"
        burn(flight, 2)
        assert flight.read("FUELUSED") == (pytest.approx(0.04), "")


def test_a_damaged_file_is_no_end(tree: Path) -> None:
    path = state.path("compute-compute")
    state.save(path, b'{"totals": {"FUELUSED": {"used": "much"}}}')
    with flying(tree) as flight:
        burn(flight, 2)
        assert flight.read("FUELUSED") == (pytest.approx(0.01), "")


def test_hours_never_go_down(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, [{"function": "hours", "inputs": ["TACH1"], "output": ["HOBBS1", "TACHTM1"]}])
    with flying(tree) as flight:
        flight.write("HOBBS1", 1200.5, None, "netfix/127.0.0.1")
        for _ in range(11):
            flight.write("TACH1", 2400)
            flight.advance(1.0)
        hours = flight.read("HOBBS1")[0]
        assert hours == pytest.approx(1200.5 + 10 / 3600)
        flight.write("HOBBS1", 3.0, None, "netfix/127.0.0.1")
        assert flight.read("HOBBS1")[0] >= hours
    with flying(tree) as flight:
        assert flight.read("HOBBS1")[0] >= hours


# -- for people --------------------------------------------------------------------------------------------------------


def test_explain_goes_down_to_the_sources(tmp_path: Path) -> None:
    functions: list[dict[str, Any]] = [
        {"function": "altp", "inputs": ["BARO", "ALT"], "output": "PALT"},
        {"function": "tas", "inputs": ["IAS", "PALT", "OAT"], "output": "TAS"},
    ]
    with flying(write_tree(tmp_path, functions)) as flight:
        flight.write("BARO", 29.92, None, "netfix")
        flight.write("ALT", 8000.0, None, "adc")
        flight.write("OAT", 5.0, "b", "eis")
        flight.write("IAS", 120.0, None, "adc")
        facts = flight.db.item("TAS").explain()
        lines = text.derivation(facts, lambda key: flight.db.item(key).explain())
        assert lines[0].startswith("compute computes it with the function true_airspeed: 661.48")
        found = "\n".join(lines[1:])
        assert "IAS" in found
        assert "= altp of" in found
        assert "from netfix" in found
        assert "bad" in found
        flight.plugin.shutdown()
        assert flight.db.item("TAS").explain()["computed"] == []


def test_the_status_says_what_is_not_good_and_why(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [TANKS])) as flight:
        flight.write("FUELQ1", 10.0)
        status = flight.plugin.get_status()
        assert status["functions"] == 1
        assert status["not good"] == {"FUELQT": "FUELQ2 was never written"}


def test_the_status_says_what_has_no_result_and_why(tmp_path: Path) -> None:
    functions: list[dict[str, Any]] = [
        {"function": "variation", "inputs": ["LAT", "LONG"], "output": "MAGVAR"},
        {"function": "density_altitude", "inputs": ["PALT", "OAT"], "output": "DALT"},
    ]
    with flying(write_tree(tmp_path, functions)) as flight:
        for computation in flight.plugin.computations:
            if isinstance(computation, Slow):
                computation.today = lambda: None
        flight.write("PALT", 40000.0)
        assert flight.plugin.get_status()["not good"]["DALT"] == "waits for OAT"
        flight.write("OAT", -56.0)
        flight.write("LAT", 44.0)
        flight.write("LONG", -88.0)
        flight.advance(1.0)
        assert flight.plugin.get_status()["not good"] == {
            "MAGVAR": "the date is not known: the clock has not been set",
            "DALT": "40000 ft is above the tropopause",
        }


def test_what_is_no_longer_computed_is_old(tmp_path: Path) -> None:
    with flying(write_tree(tmp_path, [AVERAGE])) as flight:
        feed(flight, 300.0, 320.0, 340.0, 360.0)
        flight.plugin.shutdown()
        assert flight.read("EGTAVG1") == (330.0, "o")


# -- more of the same --------------------------------------------------------------------------------------------------


def test_bad_values_are_not_remembered(tmp_path: Path) -> None:
    climb = {"function": "vertical_speed", "inputs": ["PALT"], "output": "VS"}
    with flying(write_tree(tmp_path, [climb])) as flight:
        for n in range(21):
            flight.advance(0.1)
            flight.write("PALT", 1000.0 + n, "")
        assert flight.read("VS") == (pytest.approx(600.0), "")
        flight.advance(0.1)
        flight.write("PALT", 30000.0, "b")
        assert flight.read("VS") == (pytest.approx(600.0), "b")
        flight.advance(0.1)
        flight.write("PALT", 1022.0, "")
        assert flight.read("VS") == (pytest.approx(600.0, abs=1.0), "")


def test_filling_with_real_fuel_does_not_make_simulated_use_real(tree: Path) -> None:
    with flying(tree) as flight:
        for _ in range(3):
            flight.write("FUELF1", 36.0, "", "sim/eis")
            flight.advance(1.0)
        flight.write("FUELREM", 20.0, None, "netfix/127.0.0.1")
        burn(flight, 3)
        assert flight.db.read("FUELREM").source == "compute"
        assert flight.db.read("FUELUSED").source == "sim/compute"


def test_endurance_with_doubtful_totals_is_bad_and_not_missing(tmp_path: Path) -> None:
    endurance = {"function": "endurance", "inputs": ["FUELREM", "FUELF1"], "output": "ENDUR"}
    with flying(write_tree(tmp_path, [endurance])) as flight:
        flight.write("FUELREM", 20.0, "b")
        flight.write("FUELF1", 10.0, "")
        assert flight.read("ENDUR") == (2.0, "b")


def test_flight_time_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree(tmp_path, [{"function": "flight_time", "inputs": ["IAS"], "output": "FTIME"}])
    with flying(tree) as flight:
        for _ in range(11):
            flight.write("IAS", 100.0)
            flight.advance(1.0)
        assert flight.read("FTIME")[0] == pytest.approx(10 / 3600, abs=0.5 / 3600)
    monkeypatch.setattr(totals, "boot_id", lambda: "another")
    with flying(tree) as flight:
        for _ in range(11):
            flight.write("IAS", 100.0)
            flight.advance(1.0)
        assert flight.read("FTIME")[0] == pytest.approx(20 / 3600, abs=0.5 / 3600)


def test_two_connections_that_compute_one_key_are_found(tmp_path: Path) -> None:
    path = write_tree(tmp_path, [AVERAGE])
    main = json.loads(path.read_text())
    main["connections"]["more"] = {
        "load": True,
        "module": "fixgw.plugins.compute",
        "functions": [{**AVERAGE, "function": "max"}],
    }
    path.write_text(json.dumps(main))
    (problem,) = configuration.check(path)
    assert "the output EGTAVG1 is already used by connection 'compute'" in problem.message


# -- what must not be remembered, or waited for ------------------------------------------------------------------------


def test_what_was_learnt_from_simulated_data_is_forgotten_when_real_data_come(tmp_path: Path) -> None:
    calm = [2, 10, 100, 100, 50, 5, 5, 3, 3]
    function = {"function": "aoa", "inputs": ["PITCH", "IAS", "ANORM", "HEAD", "VS", *calm], "output": "AOA"}

    def fly(flight: Flight, pitch: float, source: str) -> None:
        for key, value in {"PITCH": pitch, "IAS": 120.0, "ANORM": 1.0, "HEAD": 90.0, "VS": 0.0}.items():
            flight.write(key, value, "", source)
        flight.advance(0.1)

    with flying(write_tree(tmp_path, [function]), aux={"IAS.Vs": 45.0, "AOA.0g": -3.0}) as flight:
        for _ in range(15):
            fly(flight, 10.0, "sim/ahrs")
        assert flight.read("AOA") == (pytest.approx(12.0), "")
        assert flight.db.read("AOA").source == "sim/compute"
        fly(flight, 1.0, "ahrs")
        assert flight.read("AOA") == (pytest.approx(3.0), "b")
        assert flight.db.read("AOA").source == "compute"


def test_a_simulated_wind_is_forgotten_when_real_data_come(tmp_path: Path) -> None:
    function = {"function": "wind", "inputs": ["GS", "TRACK", "TAS", "HEAD"], "output": ["WINDSPD", "WINDDIR"]}

    def fly(flight: Flight, gs: float, source: str) -> None:
        for key, value in {"GS": gs, "TRACK": 90.0, "TAS": 100.0, "HEAD": 90.0}.items():
            flight.write(key, value, "", source)
        flight.advance(0.5)

    with flying(write_tree(tmp_path, [function])) as flight:
        for _ in range(80):
            fly(flight, 150.0, "sim/gps")
        assert flight.read("WINDSPD")[0] == pytest.approx(50.0)
        for _ in range(10):
            fly(flight, 100.0, "gps")
            reading = flight.db.read("WINDSPD")
            assert reading.source != "compute" or not reading.good or abs(float(reading.value)) < 0.1


def test_simulated_peaks_are_forgotten_when_real_data_come(tmp_path: Path) -> None:
    function = {"function": "lean_find", "inputs": ["LEAN", "FUELF1", "EGT11", "EGT12"], "output": "GAMI"}
    items: list[dict[str, Any]] = [{"key": "LEAN", "type": "bool"}, {"key": "GAMI", "max": 10, "units": "gal/hr"}]
    with flying(write_tree(tmp_path, [function], items=items)) as flight:
        flight.write("LEAN", True)
        for flow, egt in ((12.0, 700.0), (11.0, 760.0), (10.0, 740.0), (9.5, 700.0)):
            for key, value in {"FUELF1": flow, "EGT11": egt, "EGT12": egt + 5.0}.items():
                flight.write(key, value, "", "sim/ems")
            flight.advance(0.5)
        assert flight.db.read("GAMI").source == "sim/compute"
        assert flight.read("GAMI") == (pytest.approx(0.0), "")
        for key, value in {"FUELF1": 10.0, "EGT11": 600.0, "EGT12": 600.0}.items():
            flight.write(key, value, "", "ems")
        flight.advance(0.5)
        assert not flight.db.read("GAMI").good, "no peak of the real engine has been found"


def test_the_variation_at_a_simulated_place_is_not_shown_for_a_real_one(tmp_path: Path) -> None:
    pytest.importorskip("pygeomag", reason="a dependency of the default installation")
    with flying(
        write_tree(tmp_path, [{"function": "variation", "inputs": ["LAT", "LONG"], "output": "MAGVAR"}])
    ) as flight:
        (slow,) = flight.plugin.computations
        assert isinstance(slow, Slow)
        slow.today = lambda: datetime(2026, 6, 1, tzinfo=UTC)
        flight.write("LAT", 44.0, "", "sim/gps")
        flight.write("LONG", -88.0, "", "sim/gps")
        flight.advance(1.0)
        assert flight.db.read("MAGVAR").good
        flight.write("LAT", 44.01, "", "gps")
        flight.write("LONG", -88.0, "", "gps")
        assert flight.db.read("MAGVAR").source == "sim/compute", "the real one has not been computed yet"
        flight.advance(1.0)
        reading = flight.db.read("MAGVAR")
        assert reading.good
        assert reading.source == "compute"


@pytest.mark.parametrize("letters", [None, "f"])
def test_extremes_do_not_wait_for_the_reset(tmp_path: Path, letters: str | None) -> None:
    function = {"function": "g_memory", "inputs": ["ANORM", "RESET"], "output": ["GMAX", "GMIN"]}
    with flying(write_tree(tmp_path, [function], items=[{"key": "RESET", "type": "bool"}])) as flight:
        if letters is not None:
            flight.write("RESET", False, letters)
        flight.write("ANORM", 3.5, "")
        flight.write("ANORM", 1.0, "")
        flight.advance(0.1)
        assert flight.read("GMAX") == (3.5, "")
        assert flight.read("GMIN") == (1.0, "")
