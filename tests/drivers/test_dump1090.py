"""Traffic from dump1090: the shared vectors, its file in two dialects, a virtual one, and the real program."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.dump1090 import FILE_PATIENCE_S, Dump1090Options, Plugin
from fixgw.drivers.dump1090.protocol import MAX_LINE_BYTES, Decoder, Said, read_aircraft, read_sbs
from fixgw.hw_sim.bench.base import packaged_database, until
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import TcpBench
from fixgw.hw_sim.devices.dump1090 import CIRCLING, Dump1090
from fixgw.kit import traffic
from fixgw.kit.traffic import TISB_TRACK, Target
from fixgw.world import World

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "sbs_traffic.json").read_text())["vectors"]
WHOLE = "MSG,3,1,1,40621D,1,,,,,KLM,1000,100,90,52,4,0,7000,0,0,0,0"
LINE = VECTORS[0]["line"].encode() + b"\r\n"


def known(target: Target) -> dict[str, Any]:
    """What a target says, in the words of the vectors."""
    said = {name: value for name, value in target._asdict().items() if value is not None}
    for name in ("address_type", "source", "report", "stamp", "placed_at", "levelled_at", "moved_at"):
        del said[name]
    if said.get("emergency") is False:
        del said["emergency"]
    return said


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_lines_are_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    target = read_sbs(vector["line"])
    assert (None if target is None else known(target)) == vector["target"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_counters_agree(vector: dict[str, Any]) -> None:
    decoder = Decoder()
    heard = decoder.feed(vector["line"].encode() + b"\r\n")
    assert len(heard) == decoder.counts["used"] == (vector["target"] is not None)
    assert decoder.counts["ignored"] == (vector["class"] == "skip")
    assert decoder.counts["received"] == sum(decoder.counts.values()) / 2


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *((11, text) for text in ("-9999", "1e9", "inf", "0x10", "1_000", "9" * 40)),
        *((12, text) for text in ("-1", "5000")),
        *((13, text) for text in ("361", "-1")),
        *((14, text) for text in ("91", "")),
        *((17, text) for text in ("7800", "77", "77777")),
        (10, "<b>"),
    ],
)
def test_what_cannot_be_true_is_left_out(field: int, text: str) -> None:
    fields = WHOLE.split(",")
    whole = read_sbs(",".join(fields))
    assert whole is not None
    fields[field] = text
    target = read_sbs(",".join(fields))
    assert target is not None
    assert known(target).keys() < known(whole).keys()


@pytest.mark.parametrize(
    "line",
    [
        "MSG,9" + ",1" * 20,
        "MSG,12,1,1,40621D" + "," * 17,
        "MSG," + ",1" * 20,
        "MSG,3,1,1,40621D",
        "MSG,3,1,1,000000" + "," * 17,
        "MSG,0,1,1,40621D" + "," * 17,
        "MSG,9,1,1,40621D" + "," * 17,
        "MSG,3,1,1,40621D" + "," * 16,
        "STA,3,1,1,40621D" + "," * 17,
    ],
)
def test_lines_that_are_refused(line: str) -> None:
    assert read_sbs(line) is None


@pytest.mark.parametrize("kind", "12345678")
def test_all_kinds_of_messages_are_read_and_later_versions_may_have_more_fields(kind: str) -> None:
    for more in ("", ",9", ",9,9"):
        target = read_sbs(f"MSG,{kind}" + WHOLE[5:] + more)
        assert target is not None
        assert (target.altitude_ft, target.squawk) == (1000.0, "7000")


def test_a_number_that_is_none_makes_the_others_suspect() -> None:
    for field in (11, 12, 13, 14, 15, 16):
        fields = WHOLE.split(",")
        fields[field] = "7x"
        target = read_sbs(",".join(fields))
        assert target is not None
        assert known(target).keys() == {"address", "callsign", "squawk", "on_ground"}


@pytest.mark.parametrize(("text", "flag"), [("-1", True), ("1", True), ("0", False), ("", None), ("2", None)])
def test_flags(text: str, flag: bool | None) -> None:
    fields = WHOLE.split(",")
    fields[19] = fields[21] = text
    target = read_sbs(",".join(fields))
    assert target is not None
    assert (target.emergency, target.on_ground) == (flag, flag)


def test_a_number_may_have_thirty_characters() -> None:
    for text, altitude in (("1000." + "0" * 25, 1000.0), ("1000." + "0" * 26, None)):
        fields = WHOLE.split(",")
        fields[11] = text
        target = read_sbs(",".join(fields))
        assert target is not None
        assert target.altitude_ft == altitude


@pytest.mark.parametrize("kind", ["SEL", "ID", "AIR", "STA", "CLK"])
def test_lines_of_no_interest_are_ignored(kind: str) -> None:
    decoder = Decoder()
    assert decoder.feed(f"{kind},,5,1\n \n".encode()) == []
    assert (decoder.counts["ignored"], decoder.counts["received"], decoder.refused) == (1, 1, "")


def test_what_is_refused_is_shown() -> None:
    decoder = Decoder()
    for length, why in ((1_000_000, "malformed"), (1_000_001, "too long")):
        decoder.feed(b"x" * length + b"\n")
        assert decoder.refused == f"{why}: {b'x' * 80!r}"
    decoder.feed(b"STA,\xff\n")
    assert decoder.counts["malformed"] == 2
    decoder.feed(LINE[:9])
    decoder.interrupt()
    assert len(decoder.feed(LINE)) == 1


def test_zero_zero_is_no_position() -> None:
    target = read_sbs("MSG,3,1,1,40621D,1,,,,,,1000,,,0,0,,,,,,0")
    assert target is not None
    assert target.lat is None


@given(st.lists(st.integers(1, 40)))
def test_a_stream_may_be_cut_anywhere(sizes: list[int]) -> None:
    decoder, stream, heard = Decoder(), LINE * 3, list[Said]()
    for size in sizes:
        heard += decoder.feed(stream[:size])
        stream = stream[size:]
    heard += decoder.feed(stream)
    assert len(heard) == 3


def test_an_endless_line_is_refused_and_not_kept() -> None:
    decoder = Decoder()
    for _ in range(30):
        decoder.feed(b"x" * 100_000)
        assert len(decoder._lines._rest) <= MAX_LINE_BYTES
    decoder.feed(b"\n" + LINE)
    assert decoder.counts["too long"] == decoder.counts["used"] == 1


# -- the file ----------------------------------------------------------------------------------------------------------

OLD = {"hex": "4840d6", "flight": "KLM1023 ", "lat": 52.2, "lon": 3.9, "altitude": 38000, "speed": 420, "track": 90}
OLD |= {"vert_rate": -64, "squawk": "7000", "seen": 0.4, "seen_pos": 2.1}
NEW = {
    "hex": "~abcdef",
    "flight": "X",
    "alt_baro": "ground",
    "gs": 12.5,
    "baro_rate": 0,
    "emergency": "none",
    "seen": 1,
}


def file(*aircraft: Any) -> bytes:
    return json.dumps({"now": 1.0, "aircraft": aircraft}).encode()


def test_both_dialects_of_the_file_are_read() -> None:
    said = read_aircraft(file(OLD, NEW))
    assert said is not None
    old, new = said
    assert (old.age_s, old.position_age_s, old.whole) == (0.4, 2.1, True)
    assert known(old.target) == {
        "address": 0x4840D6,
        "callsign": "KLM1023",
        "lat": 52.2,
        "lon": 3.9,
        "altitude_ft": 38000.0,
        "ground_speed_kt": 420.0,
        "track_deg": 90.0,
        "vertical_speed_fpm": -64.0,
        "squawk": "7000",
        "on_ground": False,
    }
    assert (new.target.address, new.target.address_type) == (0xABCDEF, TISB_TRACK)
    assert (new.target.on_ground, new.target.altitude_ft, new.target.emergency) == (True, None, False)
    assert (new.age_s, new.position_age_s) == (1.0, 1.0)
    (line,) = Decoder().feed(LINE)
    assert (line.age_s, line.position_age_s, line.whole) == (0.0, 0.0, False)


@pytest.mark.parametrize(
    ("more", "name", "value"),
    [
        ({"alt_baro": 1000}, "altitude_ft", 1000.0),
        ({"alt_baro": 1000}, "on_ground", False),
        ({"gs": 50}, "ground_speed_kt", 50.0),
        ({"baro_rate": 640}, "vertical_speed_fpm", 640.0),
        ({"altitude": True}, "altitude_ft", None),
        ({"altitude": "1500"}, "altitude_ft", 1500.0),
        ({"lat": 0.0, "lon": 0.0}, "lat", None),
        ({"lon": None}, "lat", None),
        ({"lat": 91}, "lon", None),
        ({"flight": None}, "callsign", None),
        ({"squawk": 7000}, "squawk", "7000"),
        ({"squawk": None}, "squawk", None),
        ({"emergency": "general"}, "emergency", True),
        ({"emergency": True}, "emergency", None),
        ({}, "emergency", None),
        ({"hex": " 4840d6 "}, "address", 0x4840D6),
    ],
)
def test_a_field_of_the_file(more: dict[str, Any], name: str, value: object) -> None:
    (said,) = read_aircraft(file({**OLD, **more})) or []
    assert getattr(said.target, name) == value


def test_aircraft_whose_age_is_not_said_are_heard_now() -> None:
    (said,) = read_aircraft(file({"hex": "4840d6", "lat": 1, "lon": 1})) or []
    assert (said.age_s, said.position_age_s, said.target.lat) == (0.0, 0.0, 1.0)


def test_a_file_may_have_two_thousand_aircraft() -> None:
    assert len(read_aircraft(file(*[OLD] * 2001)) or []) == 2000


@pytest.mark.parametrize(
    "aircraft",
    [
        {},
        {"hex": 5},
        {"hex": "xyz"},
        {"hex": "4840d6", "seen": 500},
        {"hex": "4840d6", "seen": "long"},
        [],
        None,
    ],
)
def test_aircraft_that_are_left_out(aircraft: Any) -> None:
    assert read_aircraft(file(aircraft)) == []


def test_an_old_position_in_the_file_is_none() -> None:
    (said,) = read_aircraft(file({**OLD, "seen_pos": 500})) or []
    assert said.target.lat is None
    assert said.position_age_s == 0.0


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"aircraft": 5}', b"[" * 100_000, b'{"aircraft": [{"hex": "4840d6"']
)
def test_what_is_no_such_file(data: bytes) -> None:
    assert read_aircraft(data) is None


# -- the plugin --------------------------------------------------------------------------------------------------------


def plugin_of(clock: Clock, **options: Any) -> Plugin:
    with World(packaged_database(clock), clock=clock).hosting():
        return Plugin("adsb", options)


def test_without_options_it_reads_port_30003_of_this_computer(clock: Clock) -> None:
    options = plugin_of(clock).options
    assert options.url == "tcp://127.0.0.1:30003"
    assert list(Plugin.check(options, packaged_database())) == []
    assert list(Plugin.preflight(Dump1090Options(port="/run/dump1090/aircraft.json"))) == []


def test_lines_add_up_to_a_target(clock: Clock) -> None:
    plugin = plugin_of(clock)
    for vector in VECTORS:
        plugin.received(vector["line"].encode() + b"\r\n")
    targets = plugin.get_status()["targets"]
    assert targets["4CA123"]["pressure altitude ft"] == 3500
    assert targets["40621D"]["latitude"] == 52.2572
    assert {target.source for target in traffic.table(plugin.db).heard_within()} == {"adsb"}


def test_silence_is_no_trouble_but_garbage_is(clock: Clock) -> None:
    plugin = plugin_of(clock)
    plugin._trouble, plugin._searching_since = "", clock.now
    clock.now += 1000.0
    assert plugin.health() == ""
    for _ in range(10):
        plugin.heard_at = clock.now = clock.now + 1.0
        assert not plugin.received(b"login:\r\n")
    assert "garbage" in plugin.health()
    plugin.received(LINE)
    plugin.valid_at = clock.now
    assert plugin.health() == ""


@pytest.mark.slow
def test_the_file_is_read_when_it_has_changed_and_its_standstill_is_reported(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "aircraft.json"
    plugin = plugin_of(clock, port=str(path))
    plugin.poll_timeout = 0.001  # type: ignore[misc]
    assert plugin.step(0.0) > 0
    assert "aircraft.json" in plugin.health()
    path.write_bytes(file(NEW))
    for _ in range(3):
        plugin.step(0.0)
    assert plugin.get_status()["targets"] == {}, "what is there at first may be of yesterday"
    new = tmp_path / "new"
    new.write_bytes(file(OLD).replace(b"{", b"{\n"))
    os.replace(new, path)
    for _ in range(3):
        plugin.step(0.0)
    assert list(plugin.get_status()["targets"]) == ["4840D6"]
    assert plugin.get_status()["targets"]["4840D6"]["seconds ago"] == 0.4
    clock.now += FILE_PATIENCE_S + 0.1
    assert "does not change" in plugin.health()
    path.unlink()
    assert plugin.step(0.0) > 0
    assert plugin.health()
    plugin.close()


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class SbsBench(TcpBench):
    """There are no keys: good means that both aircraft are in the table, with their positions."""

    CAN = TcpBench.CAN - {"silence"}
    expects = False
    measures = False

    def good(self) -> bool:
        targets = traffic.table(self.db).heard_within(2.0)
        assert all(target.source == "bench" for target in targets)
        seen = {f"{target.address:06X}" for target in targets if target.lat is not None}
        return seen == {other.address for other in CIRCLING} and not self.plugin.health()


class TestContract(Contract):
    subject = SbsBench.of("fixgw.drivers.dump1090", Dump1090, checksum=False)


# -- the real program --------------------------------------------------------------------------------------------------

#: Mode S frames whose contents are published: an even and an odd position of one aircraft, and a call sign.
FRAMES = (
    "8D40621D58C382D690C8AC2863A7",
    "8D40621D58C386435CC412692AD6",
    "8D4840D6202CC371C32CE0576098",
)


@contextmanager
def dump1090(directory: Path) -> Iterator[tuple[int, int]]:
    """The real program; the ports of its input and of its SBS output."""
    program = shutil.which("dump1090-mutability")
    if program is None:
        pytest.skip("dump1090-mutability is not installed (tests/partners.sh)")
    ports = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    names = zip(("ri", "sbs", "bo"), ports, strict=True)
    more = [word for name, port in names for word in (f"--net-{name}-port", str(port))]
    command = [
        program,
        "--net-only",
        "--net-bind-address",
        "127.0.0.1",
        *more,
        "--write-json",
        str(directory),
        "--quiet",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield ports[0], ports[1]
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.slow
def test_the_real_program_by_text_and_by_its_file(tmp_path: Path) -> None:
    with dump1090(tmp_path) as (raw, sbs):
        with World(packaged_database()).hosting():
            by_text = Plugin("text", {"port": sbs})
        with World(packaged_database()).hosting():
            by_file = Plugin("file", {"port": str(tmp_path / "aircraft.json")})
        for plugin in by_text, by_file:
            plugin.start()
        try:
            until(lambda: by_text.connected and by_file.connected, "it does not serve")
            with socket.create_connection(("127.0.0.1", raw), 5) as receiver:
                again = 0.0

                def there() -> bool:
                    nonlocal again
                    if time.monotonic() > again:
                        again = time.monotonic() + 0.5
                        receiver.sendall("".join(f"*{frame};\n" for frame in FRAMES).encode())
                    both = [plugin.get_status()["targets"] for plugin in (by_text, by_file)]
                    return all(
                        targets.get("40621D", {}).get("latitude") is not None
                        and targets.get("4840D6", {}).get("call sign") == "KLM1023"
                        for targets in both
                    )

                until(there, "the aircraft do not arrive")
            for plugin in by_text, by_file:
                found = plugin.get_status()["targets"]["40621D"]
                assert found["latitude"] == pytest.approx(52.2658, abs=1e-4)
                assert found["longitude"] == pytest.approx(3.93891, abs=1e-4)
                assert found["pressure altitude ft"] == 38000
                assert plugin.health() == ""
        finally:
            for plugin in by_text, by_file:
                plugin.shutdown()
