"""Formulas through a gateway: configuration, loaded plugin, database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixgw.database import BAD, FAIL, OLD, SECFAIL, Reading
from fixgw.kit.airdata import aoa_lift, lift_constant
from fixgw.plugins.compute.places import Slow
from tests.plugins.compute.bench import Flight, flying, write_tree

Case = dict[str, Any]
CASES: list[Case] = json.loads((Path(__file__).parents[2] / "data/compute/formulas.json").read_text(encoding="utf-8"))[
    "cases"
]


class Row(NamedTuple):
    """The function for a formula, the names of its inputs and outputs in their order, and those of its options."""

    function: str
    inputs: str
    outputs: str
    options: dict[str, str] = {}


POSITIONS = "lat1 lon1 lat2 lon2"
AT_ONCE = {
    "pressure_altitude": Row("pressure_altitude", "static_pa", "palt_ft"),
    "static_pressure": Row("static_pressure", "palt_ft", "static_pa"),
    "pressure_altitude_from_indicated": Row("altp", "baro_inhg alt_ft", "palt_ft"),
    "isa_temperature": Row("isa_temperature", "palt_ft", "c"),
    "density_altitude": Row("density_altitude", "palt_ft oat_c", "dalt_ft"),
    "impact_pressure": Row("impact_pressure", "cas_kt", "qc_pa"),
    "calibrated_airspeed": Row("calibrated_airspeed", "qc_pa", "cas_kt"),
    "true_airspeed": Row("true_airspeed", "cas_kt palt_ft oat_c", "tas_kt mach"),
    "static_from_total_temperature": Row("sat", "tat_c mach", "sat_c", {"recovery": "recovery"}),
    "wind": Row("wind_triangle", "gs_kt track_deg tas_kt heading_deg", "speed_kt from_deg"),
    "wind_components": Row("wind_components", "speed_kt from_deg axis_deg", "head_kt right_kt"),
    "bearing_distance": Row("bearing", POSITIONS, "bearing_deg distance_nm"),
    "cross_track": Row("xte", "lat lon wp_lat wp_lon course_deg", "nm"),
    "magnetic_from_true": Row("magnetic_from_true", "true_deg variation_east_deg", "magnetic_deg"),
    "turn": Row("turn", "bank_deg tas_kt", "rate_deg_s load_factor radius_m"),
    "standard_rate_bank": Row("standard_rate_bank", "tas_kt", "bank_deg"),
    "aoa_pressure": Row("aoa_pressure", "pfwd_pa p45_pa flaps_deg", "aoa_deg", {"calibration": "calibration"}),
    "lift_fraction": Row("lift_fraction", "aoa_deg", "fraction", {"zero_lift": "zero_lift_deg", "stall": "stall_deg"}),
    "power_lean_of_peak": Row(
        "power_lean_of_peak",
        "flow_gph",
        "percent hp",
        {"compression_ratio": "compression_ratio", "rated_hp": "rated_hp"},
    ),
    "power_temperature_correction": Row("power_temperature_correction", "percent_isa palt_ft oat_c", "percent"),
    "power_table": Row("power_table", "rpm map_inhg", "percent", {"table": "table"}),
}


def named(case: Case) -> str:
    return f"{case['formula']}-{'-'.join(str(v) for v in case['input'].values() if not isinstance(v, (list, dict)))}"


def key(case: Case, side: str, number: int) -> str:
    return f"C{CASES.index(case)}_{side}{number}"


def function_of(case: Case) -> dict[str, Any]:
    row = AT_ONCE[case["formula"]]
    options = {name: case["input"][given] for name, given in row.options.items()}
    if "calibration" in options:
        options["calibration"] = {f"{float(k):g}": v for k, v in options["calibration"].items()}
    return {
        "function": row.function,
        "inputs": [key(case, "I", n) for n in range(len(row.inputs.split()))],
        "output": [key(case, "O", n) for n in range(len(row.outputs.split()))],
        **options,
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    """A gateway that computes all of them."""
    functions = [function_of(case) for case in CASES if case["formula"] in AT_ONCE]
    text = json.dumps(functions)
    for setting in ("0", "20", "40"):  # YAML's keys are numbers
        text = text.replace(f'"{setting}": [', f"{setting}: [")
    path = write_tree(tmp_path_factory.mktemp("formulas"), functions)
    main = path.read_text()
    path.write_text(main.replace(json.dumps(functions), text))
    with flying(path) as flight:
        yield flight


@pytest.mark.parametrize("case", [c for c in CASES if c["formula"] in AT_ONCE], ids=named)
def test_a_formula_gives_its_result(case: Case, everything: Flight) -> None:
    row = AT_ONCE[case["formula"]]
    for number, name in enumerate(row.inputs.split()):
        everything.write(key(case, "I", number), float(case["input"][name]))
    for number, name in enumerate(row.outputs.split()):
        value, flags = everything.read(key(case, "O", number))
        expected = case["output"][name]
        if expected is None:
            assert flags == "o", name
        else:
            assert math.isclose(value, expected, abs_tol=case["tol"]), (name, value)
            assert flags == "", name


@pytest.mark.parametrize("formula", AT_ONCE)
def test_a_flag_of_any_input_is_that_of_every_output_in_one_update(formula: str, everything: Flight) -> None:
    case = next(c for c in CASES if c["formula"] == formula and None not in c["output"].values())
    row = AT_ONCE[formula]
    names = row.inputs.split()
    inputs = [key(case, "I", n) for n in range(len(names))]
    outputs = [key(case, "O", n) for n in range(len(row.outputs.split()))]
    given = [float(case["input"][name]) for name in names]

    for each, value in zip(inputs, given, strict=True):
        everything.write(each, value, "")
    good = [everything.db.read(output) for output in outputs]
    seen: list[tuple[str, Reading]] = []
    subscriptions = [
        everything.db.subscribe(output, lambda k, reading: seen.append((k, reading))) for output in outputs
    ]
    try:
        for each, value in zip(inputs, given, strict=True):
            for letters, flags in (("b", BAD), ("s", SECFAIL), ("f", FAIL), ("bs", BAD | SECFAIL)):
                seen.clear()
                everything.write(each, value, letters)
                assert [k for k, _ in seen] == outputs, (each, letters)
                for before, (_, after) in zip(good, seen, strict=True):
                    assert after.flags == flags
                    assert all(each in text for _, text in after.reasons), after.reasons
                    assert after.value == (0.0 if flags & FAIL else before.value)
                seen.clear()
                everything.write(each, value, "")
                assert [(r.value, r.flags) for _, r in seen] == [(r.value, 0) for r in good], (each, letters)
            everything.db.item(each).flag(OLD, OLD, "test", "for the test")
            assert [everything.read(output) for output in outputs] == [(r.value, "o") for r in good], each
            everything.write(each, value, "", "sim/test")
            assert {everything.db.read(output).source for output in outputs} == {"sim/compute"}, each
            everything.write(each, value, "")
            assert {everything.db.read(output).source for output in outputs} == {"compute"}, each
    finally:
        for subscription in subscriptions:
            subscription.close()


def test_every_formula_is_tested() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {case["formula"] for case in CASES} - AT_ONCE.keys() <= here


# -- in the course of time ---------------------------------------------------------------------------------------------


def cases(formula: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [c for c in CASES if c["formula"] == formula], ids=str)


def play(flight: Flight, case: Case, **series: list[float]) -> None:
    """Write the values of each key at the times of the case."""
    last = 0.0
    for number, time in enumerate(case["input"]["t_s"]):
        flight.clock.now += time - last
        last = time
        for name, values in series.items():
            flight.write(name, float(values[number]))


@cases("vertical_speed")
def test_vertical_speed(case: Case, tmp_path: Path) -> None:
    path = write_tree(tmp_path, [{"function": "vertical_speed", "inputs": ["PALT"], "output": "VS", "window": 2}])
    with flying(path) as flight:
        play(flight, case, PALT=case["input"]["alt_ft"])
        assert flight.read("VS") == (pytest.approx(case["output"]["vs_fpm"], abs=case["tol"]), "")


@cases("rate_per_minute")
def test_rate_per_minute(case: Case, tmp_path: Path) -> None:
    path = write_tree(
        tmp_path, [{"function": "rate_per_minute", "inputs": ["CHT11"], "output": "CHTROC11", "window": 60}]
    )
    with flying(path) as flight:
        play(flight, case, CHT11=case["input"]["value"])
        assert flight.read("CHTROC11") == (pytest.approx(case["output"]["per_min"], abs=case["tol"]), "")


@cases("fuel_used")
def test_fuel_used(case: Case, tmp_path: Path) -> None:
    path = write_tree(tmp_path, [{"function": "fuel_used", "inputs": ["FUELF1"], "output": "FUELUSED"}])
    with flying(path) as flight:
        play(flight, case, FUELF1=case["input"]["flow_gph"])
        assert flight.read("FUELUSED") == (pytest.approx(case["output"]["gal"], abs=case["tol"]), "")


@cases("hours")
def test_hours(case: Case, tmp_path: Path) -> None:
    path = write_tree(tmp_path, [{"function": "hours", "inputs": ["RPM"], "output": ["HOBBS1", "TACHTM1"]}])
    with flying(path) as flight:
        play(flight, case, RPM=case["input"]["rpm"])
        assert flight.read("HOBBS1")[0] * 3600 == pytest.approx(case["output"]["hobbs_s"], abs=case["tol"])
        assert flight.read("TACHTM1")[0] * 3600 == pytest.approx(case["output"]["tach_s"], abs=case["tol"])


@cases("g_memory")
def test_g_memory(case: Case, tmp_path: Path) -> None:
    path = write_tree(tmp_path, [{"function": "g_memory", "inputs": ["ANORM", "BTN1"], "output": ["GMAX", "GMIN"]}])
    with flying(path) as flight:
        flight.write("BTN1", False)
        for g in case["input"]["g"]:
            flight.write("ANORM", float(g))
        assert flight.read("GMAX") == (case["output"]["max_g"], "")
        assert flight.read("GMIN") == (case["output"]["min_g"], "")
        flight.write("BTN1", True)
        assert flight.read("GMAX")[0] == flight.read("GMIN")[0] == case["input"]["g"][-1]


@cases("endurance")
def test_endurance(case: Case, tmp_path: Path) -> None:
    given, expected = case["input"], case["output"]
    path = write_tree(
        tmp_path,
        [
            {"function": "endurance", "inputs": ["FUELREM", "FUELF1"], "output": "ENDUR"},
            {"function": "range", "inputs": ["ENDUR", "GS"], "output": "RANGE"},
            {"function": "fuel_at_destination", "inputs": ["FUELREM", "DIST", "GS", "FUELF1"], "output": "FUELDEST"},
        ],
    )
    with flying(path) as flight:
        flight.write("FUELREM", float(given["remaining_gal"]))
        flight.write("DIST", float(given["distance_nm"]))
        flight.write("GS", float(given["gs_kt"]))
        flight.write("FUELF1", float(given["flow_gph"]))
        assert flight.read("ENDUR") == (pytest.approx(expected["hours"], abs=case["tol"]), "")
        assert flight.read("RANGE") == (pytest.approx(expected["range_nm"], abs=case["tol"]), "")
        assert flight.read("FUELDEST") == (pytest.approx(expected["at_destination_gal"], abs=case["tol"]), "")


@cases("lean_find")
def test_lean_find(case: Case, tmp_path: Path) -> None:
    egts = case["input"]["egt_c"]
    below = [f"EGTPK{name[-2:]}" for name in egts]
    path = write_tree(
        tmp_path, [{"function": "lean_find", "inputs": ["LEAN1", "FUELF1", *egts], "output": ["GAMI1", *below]}]
    )
    with flying(path) as flight:
        flight.write("LEAN1", True)
        for number, flow in enumerate(case["input"]["flow_gph"]):
            flight.write("FUELF1", flow)
            for name, values in egts.items():
                flight.write(name, float(values[number]))
        assert flight.read("GAMI1") == (pytest.approx(case["output"]["spread_gph"], abs=case["tol"]), "")
        peaks = {name: values[case["output"]["peak_index"][name]] for name, values in egts.items()}
        assert [flight.read(key)[0] for key in below] == [egts[name][-1] - peak for name, peak in peaks.items()]
        status = list(flight.plugin.get_status().items())
        found = [text for text in status if text[0].startswith("peak of")]
        assert found[0][0] == f"peak of {case['output']['first']}"
        assert found[-1][0] == f"peak of {case['output']['last']}"


@cases("aoa_lift")
def test_aoa_lift(case: Case) -> None:
    given = case["input"]
    k = lift_constant(given["level_aoa_deg"], given["zero_lift_deg"], given["level_ias_kt"], given["level_g"])
    assert k == pytest.approx(case["output"]["K"])
    aoa = aoa_lift(k, given["zero_lift_deg"], given["ias_kt"], given["g"])
    assert aoa == pytest.approx(case["output"]["aoa_deg"], abs=case["tol"])


# -- place and date ----------------------------------------------------------------------------------------------------


def date_is(flight: Flight, today: datetime | None) -> None:
    for computation in flight.plugin.computations:
        if isinstance(computation, Slow):
            computation.today = lambda: today


def at(year: float) -> datetime:
    first = datetime(int(year), 1, 1, tzinfo=UTC)
    return first + timedelta(days=round((year - int(year)) * 365))


@cases("variation")
def test_variation(case: Case, tmp_path: Path) -> None:
    pytest.importorskip("pygeomag", reason="a dependency of the default installation")
    given = case["input"]
    path = write_tree(tmp_path, [{"function": "variation", "inputs": ["LAT", "LONG", "HEIGHT"], "output": "MAGVAR"}])
    with flying(path) as flight:
        date_is(flight, at(given["year"]))
        flight.write("LAT", float(given["lat"]))
        flight.write("LONG", float(given["lon"]))
        flight.write("HEIGHT", given["alt_km"] / 0.0003048)
        assert flight.read("MAGVAR")[1] == "o"
        flight.advance(1.0)
        value, flags = flight.read("MAGVAR")
        assert value == pytest.approx(case["output"]["east_deg"], abs=case["tol"])
        assert flags == ""


@cases("sun")
def test_sun(case: Case, tmp_path: Path) -> None:
    names = {"sunrise_utc_min": "SUNRISE", "sunset_utc_min": "SUNSET", "civil_dawn_utc_min": "DAWN"}
    names["civil_dusk_utc_min"] = "DUSK"
    path = write_tree(tmp_path, [{"function": "sun", "inputs": ["LAT", "LONG"], "output": list(names.values())}])
    noon = datetime.fromisoformat(f"{case['input']['date']}T12:00:00+00:00")
    with flying(path) as flight:
        date_is(flight, noon - timedelta(minutes=4 * case["input"]["lon"]))
        flight.write("LAT", float(case["input"]["lat"]))
        flight.write("LONG", float(case["input"]["lon"]))
        flight.advance(1.0)
        for name, key in names.items():
            value, flags = flight.read(key)
            expected = case["output"][name]
            if expected is None:
                assert flags == "o", name
            else:
                off = (value - expected + 720) % 1440 - 720
                assert abs(off) <= case["tol"], (name, value, expected)
                assert flags == "", name
