"""Tyre pressures through rtl_433: the shared vectors, the child process, and the real rtl_433."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw import database
from fixgw.database import BAD, FAIL, Database
from fixgw.drivers.rtl_433 import Plugin, RtlOptions
from fixgw.drivers.rtl_433.protocol import MAX_LINE, MAX_SEEN, Decoder, Field, Sensor
from fixgw.hw_sim.bench.base import Subject, packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.tyres import DECODER, IDS, Tyres
from fixgw.kit.update import Update

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "rtl433.json").read_text())["vectors"]
GM = VECTORS[0]["line"].encode() + b"\n"
KPA = {"source": "pressure_kPa", "scale": 0.1450377}
SENSORS = [
    {
        "sensor_id": ident,
        "decoder": DECODER,
        "mappings": {
            f"TIREP{wheel}": KPA,
            f"TIRET{wheel}": {"source": "temperature_C"},
            f"TIREB{wheel}": {"source": "battery_ok", "type": "bool"},
        },
    }
    for wheel, ident in enumerate(IDS, 1)
]


@pytest.fixture
def db() -> Iterator[Database]:
    db = packaged_database()
    before = database.current()
    database.bind(db)
    yield db
    database.bind(before)
    db.stop()


def plugin(**options: Any) -> Plugin:
    return Plugin("tyres", {"sensors": SENSORS, **options})


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_vector(vector: dict[str, Any], db: Database) -> None:
    decoder = plugin(sensors=[vector["config"]])._protocol
    updates = {update.key: update.value for update in decoder.feed(vector["line"].encode() + b"\n")}
    assert updates == {
        key: value if isinstance(value, bool) else pytest.approx(value, abs=0.051)
        for key, value in vector["expect"].items()
    }
    counts = decoder.counts
    assert counts["received"] == 1 == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def test_other_sensors_and_missing_fields_are_in_the_status(db: Database) -> None:
    tyres = plugin(sensors=[{**SENSORS[0], "sensor_id": 1}])
    tyres.received(GM, fresh=True)
    status = tyres.get_status()
    assert list(status["other sensors"]) == ["GM-Aftermarket 2018052400 (decoder 275)"]
    assert "pressure_kPa 228.25" in status["other sensors"]["GM-Aftermarket 2018052400 (decoder 275)"]
    assert status["heard"] == {"1": "not yet"}
    other = plugin()
    other.received(GM.replace(b"battery_ok", b"battery"), fresh=True)
    assert other.get_status()["missing fields"] == {"2018052400": "battery_ok"}
    assert other.get_status()["heard"]["2018052400"] == "0 s ago"


def test_ids_are_texts_whatever_the_configuration_makes_of_them(db: Database) -> None:
    line = b'{"protocol":60,"id":"%b","pressure_kPa":100}\n'
    mappings = {"TIREP1": KPA}
    for configured, sent in ((1234567, b"1234567"), ("03a38b2", b"03A38B2")):
        decoder = plugin(sensors=[{"sensor_id": configured, "decoder": 60, "mappings": mappings}])._protocol
        assert len(decoder.feed(line % sent)) == 1
    decoder = plugin(sensors=[{"sensor_id": 123, "decoder": 60, "mappings": mappings}])._protocol
    assert decoder.feed(line % b"0000123") == []


def test_the_first_sensor_that_fits_counts(db: Database) -> None:
    twice = [SENSORS[0], {**SENSORS[0], "mappings": {"TIREP2": KPA}}]
    assert {u.key for u in plugin(sensors=twice)._protocol.feed(GM)} == {"TIREP1", "TIRET1", "TIREB1"}
    assert [where for where, _ in Plugin.advise(msgspec.convert({"sensors": twice}, RtlOptions), db)] == ["sensors.1"]


def test_kilopascals_taken_for_psi_are_bad_and_pointed_out(db: Database) -> None:
    """A tyre with 120 kPa must not look like one with 120 psi."""
    sensors = [{"sensor_id": IDS[0], "decoder": 275, "mappings": {"TIREP1": {"source": "pressure_kPa"}}}]
    reason = "pressure_kPa is in kPa, the key in psi: set `scale: 0.1450377`"
    assert plugin(sensors=sensors)._protocol.feed(GM) == [Update("TIREP1", 228.25, BAD, reason)]
    options = msgspec.convert({"sensors": sensors}, RtlOptions)
    assert list(Plugin.advise(options, db)) == [("sensors.0.mappings.TIREP1", f"{reason}: the value will be bad")]
    fahrenheit = {"sensor_id": 1, "decoder": 1, "mappings": {"TIRET1": {"source": "temperature_F"}}}
    ((_, advice),) = Plugin.advise(msgspec.convert({"sensors": [fahrenheit]}, RtlOptions), db)
    assert "set `scale: 0.5555556` and `offset: -17.77778`" in advice


def test_unknown_keys_are_found(db: Database) -> None:
    options = msgspec.convert({"sensors": [{"sensor_id": 1, "decoder": 999, "mappings": {"TIREPP1": KPA}}]}, RtlOptions)
    ((where, what),) = Plugin.check(options, db)
    assert where == "sensors.0.mappings.TIREPP1"
    assert "did you mean 'TIREP1'" in what


def test_old_output_is_decoded_and_not_published(db: Database) -> None:
    tyres = plugin()
    tyres.received(GM[:50], fresh=False)
    tyres.received(GM[50:], fresh=False)
    assert db.read("TIREP1").old
    assert tyres.counts["used"] == 1


@pytest.mark.parametrize(
    ("field", "sent", "value"),
    [
        ({}, 2, 2.0),
        ({"scale": 0.5, "offset": 3.0}, 4.0, 5.0),
        ({"digits": 0}, 2.6, 3.0),
        ({"digits": 1}, 2.345, 2.3),
        ({"threshold": 2.0, "scale": 9.0, "type": "bool", "into": "bool"}, 2.0, False),
        ({"threshold": 2.0, "type": "bool", "into": "bool"}, 2.1, True),
        ({"threshold": 2.0}, 2.1, 1.0),
        ({"type": "int", "into": "int"}, 2.6, 2),
        ({"type": "int"}, 2.6, 2.0),
        ({"type": "bool"}, 0.5, 1.0),
        ({"type": "int", "into": "str"}, 2.6, "2"),
        ({"into": "str"}, 2, "2.0"),
        ({"type": "string", "into": "float"}, 2, 2.0),
        ({"scale": 1e300}, 1e14, None),
    ],
)
def test_how_a_number_becomes_a_value(field: dict[str, Any], sent: float, value: object) -> None:
    found = Field("TIREP1", "pressure_kPa", **field).convert(sent)
    assert (found, type(found)) == (value, type(value))


def test_a_value_that_is_none_fails_its_key_once_it_had_one() -> None:
    clock = Clock()
    decoder = Decoder(clock, [Sensor("1", 60, [Field("TIREP1", "kPa"), Field("TIRET1", "C", wrong="in kelvin")])])

    def says(**fields: Any) -> list[Update]:
        return decoder.feed(json.dumps({"id": 1, "protocol": 60, **fields}).encode() + b"\n")

    assert says(kPa="low") == []
    assert decoder.missing == {"1": "C"}
    clock.now += 5.0
    assert says(kPa=100, C=300) == [Update("TIREP1", 100.0), Update("TIRET1", 300.0, BAD, "in kelvin")]
    assert decoder.missing == {}
    assert decoder.heard == {"1": clock.now}
    for nonsense, reason in (("x" * 99, repr("x" * 60)), (None, "'None'"), (-1e15, "'-1000000000000000.0'")):
        assert says(kPa=nonsense) == [Update("TIREP1", None, FAIL, f"the sensor sends {reason}")]
    assert says(kPa=9e14) == [Update("TIREP1", 9e14)]
    assert decoder.counts["absurd values"] == 4
    assert says() == []
    assert decoder.missing == {"1": "kPa, C"}
    assert decoder.counts["used"] == 7


@pytest.mark.parametrize(
    "line", [b'{"id":true,"protocol":1}', b'{"id":[1],"protocol":1}', b'{"id":1}', b'{"time":"x"}']
)
def test_a_line_without_an_id_and_a_decoder_is_of_no_sensor(line: bytes) -> None:
    decoder = Decoder(Clock(), [])
    decoder.feed(line + b"\n \n")
    assert (decoder.counts["received"], decoder.counts["ignored"], decoder.seen) == (1, 1, {})


def test_the_status_shows_what_may_be_a_tyre_the_latest_last() -> None:
    decoder = Decoder(Clock(), [])
    for number in (*range(21), 1):
        said = {"protocol": 1, "model": "m", "id": number, "battery_ok": 1, "temperature_C": 20, "rssi": 3}
        decoder.feed(json.dumps({**said, "pressure_x": "y" * 300}).encode() + b"\n")
    assert [*decoder.seen] == [f"m {number} (decoder 1)" for number in (*range(2, 21), 1)]
    shown = decoder.seen["m 1 (decoder 1)"]
    assert shown.startswith("battery_ok 1, temperature_C 20, pressure_x yyy")
    assert len(shown) == 200
    decoder.feed(b'{"protocol":1,"id":"%b","model":"%b"}\n' % (b"i" * 99, b"m" * 99))
    assert [*decoder.seen][-1] == f"{'m' * 60} {'i' * 60} (decoder 1)"


def test_what_is_refused_is_shown() -> None:
    decoder = Decoder(Clock(), [])
    assert decoder.refused == ""
    for length, why in ((8192, "malformed"), (8193, "too long")):
        decoder.feed(b"x" * length + b"\n")
        assert decoder.refused == f"{why}: {b'x' * 200!r}"
    decoder.feed(b'{"id":')
    decoder.reopen()
    decoder.feed(GM)
    assert decoder.counts["ignored"] == 1


def test_everything_is_bounded() -> None:
    decoder = Decoder(Clock(), [])
    for number in range(100):
        decoder.feed(b'{"protocol":1,"model":"%b","id":%d}\n' % (b"x" * 500, number))
    assert len(decoder.seen) == MAX_SEEN == 20
    assert all(len(name) < 160 for name in decoder.seen)
    for _ in range(10):
        decoder.feed(b"x" * MAX_LINE)
    assert decoder.counts["too long"] == 1
    decoder.feed(b"\n" + GM)
    assert decoder.counts["ignored"] == 101


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.lists(st.integers()))


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["id", "protocol", "model", "pressure_kPa", "battery_ok"]), values),
    st.floats(allow_nan=False),
    st.sampled_from(["float", "int", "bool", "str"]),
    st.sampled_from(["float", "int", "bool", "str"]),
)
def test_whatever_a_sensor_sends_nothing_raises(said: dict[str, Any], scale: float, kind: str, into: Any) -> None:
    field = Field("TIREP1", "pressure_kPa", scale, type=kind, into=into)
    decoder = Decoder(Clock(), [Sensor("1", 60, [field])])
    for update in decoder.feed(json.dumps({"id": 1, "protocol": 60, **said}).encode() + b"\n"):
        assert type(update.value).__name__ == into


# -- the child ---------------------------------------------------------------------------------------------------------


def script(path: Path, text: str) -> str:
    """A program in place of rtl_433."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class running:
    """Starts a plugin; stops it at the end."""

    def __init__(self, plugin: Plugin, limit_s: float = 1.0) -> None:
        plugin.settle_s = 0.1
        plugin._backoff.first = plugin._backoff._next = 0.05
        self.plugin = plugin
        self.limit_s = limit_s

    def __enter__(self) -> Plugin:
        self.plugin.start()
        return self.plugin

    def __exit__(self, *exc: object) -> None:
        process = self.plugin._child
        began = time.monotonic()
        self.plugin.shutdown()
        assert time.monotonic() - began < self.limit_s
        assert process is None or process.poll() is not None, "the child goes on"


def until(condition: Callable[[], object], what: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + 15.0
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


@pytest.mark.slow
def test_the_child_is_called_as_it_should_be_and_its_lines_are_published(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", f"echo \"called $*\" >&2; echo '{GM.decode().strip()}'; sleep 60 & wait")
    with running(plugin(program=program, rtl_device=":77", frequency="315M")) as tyres:
        until(lambda: db.read("TIREB1").good, tyres.health)
        assert db.read("TIREP1").value == pytest.approx(33.105, abs=0.01)
        assert db.read("TIREB1").value is True
        until(lambda: tyres.get_status()["last words"])
        assert tyres.get_status()["last words"] == "called -c /dev/null -d :77 -f 315M -F json -M protocol -R 275"
        until(lambda: tyres.health() == "")
    assert "stopped" in tyres.health()


@pytest.mark.slow
def test_a_child_that_ends_at_once_is_started_again_and_says_why(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", f"echo x >> {tmp_path}/starts; echo No supported devices found. >&2; exit 2")
    with running(plugin(program=program)) as tyres:
        until(lambda: tyres.health() == f"{program} ended with code 2: No supported devices found.", tyres.health)
        until(lambda: (tmp_path / "starts").read_text().count("x") >= 3)
        assert tyres.counts["outages"] == 1, "one complaint, however often it is tried"


@pytest.mark.slow
def test_what_a_child_prints_before_it_ends_at_once_is_used(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", f"echo '{GM.decode().strip()}'")
    with running(plugin(program=program)) as tyres:
        until(lambda: db.read("TIREP1").value)
        until(lambda: db.read("TIREP1").fail)
        assert tyres.health() == f"{program} ended with code 0"


@pytest.mark.slow
def test_a_child_without_standard_error_costs_nothing(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", "exec 2>&-; exec sleep 60")
    with running(plugin(program=program)) as tyres:
        until(lambda: tyres.health() == "", tyres.health)
        began = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - began < 0.1


@pytest.mark.slow
def test_what_a_script_has_started_ends_with_it(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with running(plugin(program=program)) as tyres:
        until(lambda: tyres.health() == "" and (tmp_path / "pid").exists(), tyres.health)
        started = int((tmp_path / "pid").read_text())
    until(lambda: not is_running(started))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_child_that_dies_fails_its_values_and_comes_back(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", f"echo '{GM.decode().strip()}'; exec sleep 60")
    with running(plugin(program=program)) as tyres:
        until(lambda: db.read("TIREP1").good and tyres.health() == "")
        assert tyres._child is not None
        os.kill(tyres._child.pid, signal.SIGKILL)
        until(lambda: db.read("TIREP1").fail)
        until(lambda: db.read("TIREP1").good and tyres.health() == "", tyres.health)


@pytest.mark.slow
def test_a_child_that_does_not_obey_is_killed_after_a_second(db: Database, tmp_path: Path) -> None:
    program = script(tmp_path / "rtl_433", "trap '' TERM; while true; do sleep 0.1; done")
    with running(plugin(program=program), limit_s=1.8) as tyres:
        until(lambda: tyres.health() == "", tyres.health)
    assert tyres.counts["killed"] == 1


@pytest.mark.slow
def test_a_child_that_complains_without_end_does_not_hang(db: Database, tmp_path: Path) -> None:
    lines = "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done"
    program = script(tmp_path / "rtl_433", f"{lines}; echo '{GM.decode().strip()}'; exec sleep 60")
    with running(plugin(program=program)):
        until(lambda: db.read("TIREP1").good)


def test_a_child_that_never_pauses_is_current_again_after_a_hold_up(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tyres = plugin()
    seconds, output = iter(range(20)), iter([GM] * 100)
    monkeypatch.setattr(tyres.hold_up, "clock", lambda: float(next(seconds)))
    monkeypatch.setattr(tyres.hold_up, "noticed", lambda allowed_s: True)
    monkeypatch.setattr(tyres, "_read", lambda timeout: next(output))
    tyres.poll(0.2)
    assert tyres.counts["old bytes discarded"]
    monkeypatch.setattr(tyres.hold_up, "noticed", lambda allowed_s: False)
    tyres.poll(0.2)
    assert db.read("TIREP1").good


@pytest.mark.slow
def test_a_missing_program_is_missed(db: Database) -> None:
    with running(plugin(program="rtl_433-that-is-not-there")) as tyres:
        until(lambda: "is not installed: sudo apt install rtl-433" in tyres.health(), tyres.health)
    options = msgspec.convert({"program": "rtl_433-that-is-not-there"}, RtlOptions)
    (finding,) = Plugin.preflight(options)
    assert getattr(finding, "fix", "") == "sudo apt install rtl-433"
    assert not list(Plugin.preflight(msgspec.convert({"simulate": True}, RtlOptions)))


@pytest.mark.slow
def test_simulated_sensors_are_marked(db: Database) -> None:
    with running(plugin(simulate=True, program="not-there")):
        until(lambda: db.read("TIREB3").good)
    assert db.read("TIREP1").source == "sim/tyres"
    assert db.read("TIREP1").value == pytest.approx(31.9, abs=0.1)


# -- the real rtl_433 --------------------------------------------------------------------------------------------------

RTL_433 = shutil.which("rtl_433")
#: A row of the Schrader decoder: 7, F, flags 2, id 7, pressure, temperature, CRC, 0 (half bytes).
SCHRADER = "{68}7f6703a38b25a4bc90"


@pytest.mark.slow
@pytest.mark.skipif(RTL_433 is None, reason="rtl_433 is not installed")
def test_the_real_rtl_433_decodes_a_row_of_bits(db: Database, tmp_path: Path) -> None:
    # The options, but instead of a dongle a row; rtl_433 ends after it.
    program = script(tmp_path / "rtl_433", f'shift 6; {RTL_433} -c /dev/null "$@" -y "{SCHRADER}"; exec sleep 60')
    mappings = {"TIREP1": {**KPA, "round": 1}, "TIRET1": {"source": "temperature_C"}}
    sensors = [{"sensor_id": "03A38B2", "decoder": 60, "mappings": mappings}]
    with running(plugin(program=program, sensors=sensors)) as tyres:
        until(lambda: db.read("TIRET1").good, tyres.health)
    assert (db.read("TIREP1").value, db.read("TIRET1").value) == (32.6, 25.0)


@pytest.mark.slow
@pytest.mark.skipif(RTL_433 is None, reason="rtl_433 is not installed")
def test_the_real_rtl_433_without_a_dongle_says_so(db: Database) -> None:
    schrader = [{"sensor_id": "03A38B2", "decoder": 60}]
    with running(plugin(rtl_device=":no-such-dongle", sensors=schrader)) as tyres:
        until(lambda: "No supported devices found" in tyres.health() or "No matching" in tyres.health(), tyres.health)


@pytest.mark.slow
@pytest.mark.skipif(RTL_433 is None, reason="rtl_433 is not installed")
def test_the_real_rtl_433_says_what_it_does_not_decode(db: Database) -> None:
    with running(plugin(sensors=[{"sensor_id": 1, "decoder": 9999}])) as tyres:
        until(lambda: "Protocol number specified (9999) is larger" in tyres.health(), tyres.health)


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class ChildBench(SerialBench):
    """A program that prints what the virtual sensors send, and ends without them."""

    CAN = SerialBench.CAN - {"baud", "silence", "garbage"}  # sensors may be silent; pipes lose nothing

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._program = Path(self.port.path + "-rtl_433")
        script(self._program, f"[ -e {self.port.path} ] || exit 2; exec cat {self.port.path}")
        self._settle_s = Plugin.settle_s
        Plugin.settle_s = 0.05

    def options(self) -> dict[str, Any]:
        return {"program": str(self._program), "sensors": SENSORS}

    def _connected(self) -> None:
        super()._connected()
        if self.port.plugged:
            until(lambda: self.port.opened)

    def close(self) -> None:
        super().close()
        Plugin.settle_s = self._settle_s
        self._program.unlink(missing_ok=True)


class TestContract(Contract):
    subject = ChildBench.of(
        "fixgw.drivers.rtl_433",
        Tyres,
        "TIREP1 TIREP2 TIREP3 TIRET1 TIREB1 TIREB3",
        checksum=False,
        truth={"TIREP1": 33.105, "TIREP2": 32.905, "TIREP3": 26.125, "TIRET1": 21.0, "TIREB1": True, "TIREB3": True},
        absurd={"temperature": 1e16},
    )
