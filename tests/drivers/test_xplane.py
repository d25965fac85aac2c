"""X-Plane: the shared vectors, what is asked for and when, what is sent and what is not, and the virtual simulator."""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import configuration
from fixgw.database import BAD, FAIL
from fixgw.drivers.simulator import LOADING
from fixgw.drivers.xplane import Plugin, make_plan, protocol
from fixgw.drivers.xplane.protocol import NOTHING, Channel, Client
from fixgw.hw_sim.bench.base import Subject, packaged_database, until
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import DatagramBench
from fixgw.hw_sim.devices.xplane import Xplane
from fixgw.kit.update import Update

#: Only looked at.
ITEMS = packaged_database()
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "xplane.json").read_text())["vectors"]


def vectors(*kinds: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in VECTORS if v["class"] in kinds]


def number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def same(ours: Any, theirs: Any) -> bool:
    return bool(ours == pytest.approx(number(theirs), rel=1e-6, nan_ok=True))


def adds_up(client: Client) -> bool:
    counts = client.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in client.REFUSALS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("rref_request"))
def test_request(vector: dict[str, Any]) -> None:
    message = vector["message"]
    made = protocol.request_dataref(message["dataref"], message["rate"], message["index"])
    assert made.hex() == vector["datagram"]


@pytest.mark.parametrize("vector", vectors("rref"))
def test_datarefs(vector: dict[str, Any], clock: Clock) -> None:
    datagram = bytes.fromhex(vector["datagram"])
    pairs = protocol.read_datarefs(datagram)
    assert len(pairs) == len(vector["message"]["values"])
    for (index, value), (wanted_index, wanted) in zip(pairs, vector["message"]["values"], strict=True):
        assert index == wanted_index
        assert same(value, wanted)


@pytest.mark.parametrize("vector", vectors("data"))
def test_rows(vector: dict[str, Any], clock: Clock) -> None:
    datagram = bytes.fromhex(vector["datagram"])
    client = Client(clock)
    updates = {update.key: update for update in client.feed(datagram)}
    assert adds_up(client)
    if vector["message"]["type"] == "rejected":
        assert sum(client.counts[r] for r in client.REFUSALS) == 1
        assert not updates
        return
    for (row, values), (wanted_row, wanted) in zip(
        protocol.read_rows(datagram), vector["message"]["rows"], strict=True
    ):
        assert row == wanted_row
        assert all(map(same, values, wanted))
    if "keys" in vector:
        assert {key: update.value for key, update in updates.items()} == pytest.approx(vector["keys"], rel=1e-6)
        assert not any(update.flags for update in updates.values())


@pytest.mark.parametrize("vector", vectors("data_send"))
def test_rows_sent(vector: dict[str, Any]) -> None:
    ((row, values),) = vector["message"]["rows"]
    made = protocol.send_row(row, [None if value == -999 else value for value in values])
    assert made.hex() == vector["datagram"]


@pytest.mark.parametrize("vector", vectors("dref"))
def test_dataref_by_name(vector: dict[str, Any]) -> None:
    datagram, message = bytes.fromhex(vector["datagram"]), vector["message"]
    read = protocol.read_dataref(datagram)
    assert (read.name, same(read.value, message["value"])) == (message["dataref"], True)
    if vector["direction"] == "both":
        assert protocol.send_dataref(message["dataref"], message["value"]) == datagram


@pytest.mark.parametrize("vector", vectors("becn"))
def test_beacon(vector: dict[str, Any]) -> None:
    datagram, message = bytes.fromhex(vector["datagram"]), vector["message"]
    if message["type"] == "rejected":
        with pytest.raises(protocol.Refused):
            protocol.read_beacon(datagram)
        return
    beacon = protocol.read_beacon(datagram)
    assert beacon is not None
    assert {name: getattr(beacon, name) for name in ("major", "minor", "version", "port", "name")} == {
        name: message[name] for name in ("major", "minor", "version", "port", "name")
    }
    assert beacon.is_simulator == (message["application"] == "X-Plane" and message["role"] == "master")


@pytest.mark.parametrize("other", [{"major": 2}, {"application": 2}, {"role": 2}, {"role": 3}])
def test_only_the_master_whose_beacon_is_understood_is_asked(other: dict[str, int]) -> None:
    beacon = protocol.Beacon(1, 2, 1, 115501, 1, 49000, "")
    assert beacon.is_simulator
    assert beacon._replace(minor=7, version=1, port=2).is_simulator
    assert not beacon._replace(**other).is_simulator  # type: ignore[arg-type]


def test_another_datagram_is_no_beacon() -> None:
    assert protocol.read_beacon(b"BECN") is None
    assert protocol.read_beacon(b"RREF," + bytes(40)) is None


def test_a_beacon_may_have_an_empty_name() -> None:
    plain = b"BECN\0" + struct.pack("<BBiiIH", 1, 2, 1, 115501, 1, 49000)
    assert protocol.read_beacon(plain) == protocol.Beacon(1, 2, 1, 115501, 1, 49000, "")
    with pytest.raises(protocol.Refused):
        protocol.read_beacon(plain[:-1])


def test_a_place_that_is_left_alone_and_the_greatest_numbers() -> None:
    _, *numbers = struct.unpack("<i8f", protocol.send_row(3, [None, 1.0, 3.4e38, 3.5e38])[5:])
    assert numbers == pytest.approx([-999.0, 1.0, 3.4e38, *[-999.0] * 5])
    for value in (-3.5e38, 3.5e38, 1.5):
        sent = protocol.read_dataref(protocol.send_dataref("a", value)).value
        assert sent == pytest.approx(max(-3.4e38, min(value, 3.4e38)))


@pytest.mark.parametrize("vector", vectors("rpos"))
def test_position(vector: dict[str, Any], clock: Clock) -> None:
    datagram, message = bytes.fromhex(vector["datagram"]), dict(vector["message"])
    if message.pop("type") == "rpos_request":
        assert protocol.request_position(message["rate"]) == datagram
        return
    assert protocol.read_position(datagram)._asdict() == pytest.approx(message, rel=1e-6)
    client = Client(clock, position=True)
    updates = {update.key: update.value for update in client.feed(datagram)}
    assert updates["LAT"] == message["lat"]  # exact
    assert updates["LONG"] == message["lon"]
    assert updates["AGL"] == pytest.approx(message["agl_m"] / 0.3048)
    assert (updates["PITCH"], updates["ROLL"]) == (message["pitch"], message["roll"])
    assert updates["TALT"] == pytest.approx(message["elevation_m"] / 0.3048)
    assert updates["GS"] == pytest.approx(math.hypot(message["east"], message["south"]) * 3600 / 1852)
    assert updates["TRACK"] == pytest.approx(math.degrees(math.atan2(message["east"], -message["south"])) % 360)


@pytest.mark.parametrize(("east", "south", "track"), [(1, 0, 90), (0, 1, 180), (-1, 0, 270), (0, -1, 0), (-3, -3, 315)])
def test_the_track_is_where_the_aircraft_goes(clock: Clock, east: float, south: float, track: float) -> None:
    datagram = b"RPOS4" + struct.pack("<3d10f", 11.0, 48.0, 500.0, *(20, 1, 2, 3), *(east, 9, south), *(0, 0, 0))
    updates = {update.key: update.value for update in Client(clock, position=True).feed(datagram)}
    assert updates["TRACK"] == pytest.approx(track)
    assert updates["GS"] == pytest.approx(math.hypot(east, south) * 3600 / 1852), "climbing is no ground speed"
    assert Client(clock).feed(datagram) == [], "nobody asked for it"


#: What "Exchanging Data with X-Plane" and its Data Output page say, by the keys of the places; - is of no interest.
ROWS = {
    3: "IAS - TAS GS",
    4: "- - VS - ANORM",
    17: "PITCH ROLL - HEAD",
    18: "AOA",
    20: "LAT LONG TALT AGL - ALT",
    37: "TACH1 TACH2 TACH3 TACH4 TACH5 TACH6 TACH7 TACH8",
    43: "MAP1 MAP2 MAP3 MAP4 MAP5 MAP6 MAP7 MAP8",
    45: "FUELF1 FUELF2 FUELF3 FUELF4 FUELF5 FUELF6 FUELF7 FUELF8",
    47: "EGT11 EGT21 EGT31 EGT41 EGT51 EGT61 EGT71 EGT81",
    48: "CHT11 CHT21 CHT31 CHT41 CHT51 CHT61 CHT71 CHT81",
    49: "OILP1 OILP2 OILP3 OILP4 OILP5 OILP6 OILP7 OILP8",
    50: "OILT1 OILT2 OILT3 OILT4 OILT5 OILT6 OILT7 OILT8",
    54: "VOLT",
    62: "FUELQ1 FUELQ2 FUELQ3 FUELQ4 FUELQ5 FUELQ6 FUELQ7 FUELQ8",
}
#: Which options they need.
TEMPERATURES, FUEL = (47, 48, 50), (45, 62)


@pytest.mark.parametrize("row", ROWS)
def test_each_place_of_a_row_has_its_key(row: int, clock: Clock) -> None:
    client = Plugin("x", {"temperatures": "degC", "fuel_density": 5.0}).protocol()
    updates = client.feed(protocol.send_row(row, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]))
    factor = 0.2 if row in FUEL else 1.0
    assert {update.key: update.value for update in updates} == pytest.approx(
        {key: 10.0 * n * factor for n, key in enumerate(ROWS[row].split(), 1) if key != "-"}
    )
    plain = Client(clock).feed(protocol.send_row(row, [1.0] * 8))
    assert bool(plain) == (row not in (*TEMPERATURES, *FUEL)), "without options their unit is not known"


def test_a_row_for_each_engine_is_expected_for_the_first_one() -> None:
    """An aircraft rarely has eight of them."""
    (feeds,) = Plugin.preflight(Plugin("x", {"read": [20, 37, 43, 47], "temperatures": "degC"}).options)
    assert {*feeds.keys} == {"LAT", "LONG", "TALT", "AGL", "ALT", "TACH1", "MAP1", "EGT11"}


@pytest.mark.parametrize("vector", vectors("other", "cmnd"))
def test_other_datagrams(vector: dict[str, Any], clock: Clock) -> None:
    client = Client(clock)
    assert client.feed(bytes.fromhex(vector["datagram"])) == []
    assert adds_up(client)
    assert client.counts["ignored"] == (vector["message"]["type"] != "rejected")


# -- the client --------------------------------------------------------------------------------------------------------

IAS = ("sim/cockpit2/gauges/indicators/airspeed_kts_pilot", Channel("IAS"))
GS = ("sim/flightmodel/position/groundspeed", Channel("GS", 3600 / 1852))
PLACE = (("sim/flightmodel/position/latitude", Channel("LAT")), ("sim/flightmodel/position/longitude", Channel("LONG")))


def asked(request: bytes) -> tuple[int, int, str]:
    """The rate, the index and the name of a request."""
    assert (request[:5], len(request)) == (b"RREF\0", 413)
    rate, index = struct.unpack_from("<ii", request, 5)
    return rate, index, request[13:].partition(b"\0")[0].decode()


def answer(client: Client, **values: float) -> bytes:
    """An RREF datagram with the values of keys."""
    indices = {channel.key: client._base + n for n, (_, channel) in enumerate(client._datarefs)}
    return b"RREF," + b"".join(struct.pack("<if", indices[key], value) for key, value in values.items())


def test_values_are_converted_and_what_nobody_asked_for_is_counted(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS, GS])
    updates = client.feed(answer(client, IAS=104.25, GS=60.0) + struct.pack("<if", 77, 5.0))
    assert {update.key: update.value for update in updates} == pytest.approx({"IAS": 104.25, "GS": 116.6307}, rel=1e-6)
    assert client.counts["values not asked for"] == 1
    assert client.feed(b"RREF," + struct.pack("<if", 77, 5.0)) == []
    assert (client.counts["used"], client.counts["ignored"]) == (1, 1)


def test_what_is_no_number_fails_its_key(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS, GS])
    nan, infinite = client.feed(answer(client, IAS=math.nan, GS=math.inf))
    assert (nan.value, nan.flags, infinite.value, infinite.flags) == (None, FAIL, None, FAIL)
    assert (nan.reason, infinite.reason) == ("the simulator sends nan", "the simulator sends inf")


@pytest.mark.parametrize(
    ("datagram", "reason", "refused"),
    [
        (b"RREF", "too short", "b'RREF', 4 bytes: too short"),
        (b"R", "too short", "b'R', 1 bytes: too short"),
        (b"RREF,1234567", "wrong lengths", "b'RREF', 12 bytes: wrong lengths"),
        (b"DATA*" + bytes(35), "wrong lengths", "b'DATA', 40 bytes: wrong lengths"),
        (b"RPOS4" + bytes(63), "wrong lengths", "b'RPOS', 68 bytes: wrong lengths"),
        (b"DREF\0" + bytes(503), "wrong lengths", "b'DREF', 508 bytes: wrong lengths"),
        (b"DREF\0" + bytes(505), "wrong lengths", "b'DREF', 510 bytes: wrong lengths"),
    ],
)
def test_a_datagram_of_another_length_is_refused(clock: Clock, datagram: bytes, reason: str, refused: str) -> None:
    client = Client(clock, datarefs=[IAS], position=True)
    assert client.feed(datagram) == []
    assert (client.counts[reason], client.refused) == (1, refused)
    assert adds_up(client)
    for whole in (b"RREF,", b"RREF,12345678"):
        client.feed(whole)
    assert client.counts["ignored"] == 2


def test_a_newer_position_may_have_more(clock: Clock) -> None:
    longer = b"RPOS4" + struct.pack("<3d10f", 11.0, 48.0, 500.0, *[0.0] * 10) + b"more"
    assert {u.key: u.value for u in Client(clock, position=True).feed(longer)}["LONG"] == 11.0


def test_a_place_without_a_value_fails_only_what_had_one(clock: Clock) -> None:
    client = Client(clock)

    def engine(rpm: float) -> bytes:
        return protocol.send_row(37, [rpm])

    assert client.feed(engine(2400.0)) == [Update("TACH1", 2400.0)]
    (failed,) = client.feed(engine(-999.0))
    assert failed == Update("TACH1", None, FAIL, "the simulator has no value")


def test_requests_are_repeated_until_they_are_answered(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS, GS], rate=10)
    assert client.farewell() == [], "nothing to end"
    assert client.unanswered == [], "nothing was asked for"
    first = client.due()
    assert [asked(request)[::2] for request in first] == [(10, IAS[0]), (10, GS[0])]
    clock.now += 1.0
    assert client.due() == []
    client.feed(answer(client, IAS=100.0))
    clock.now += 2.0
    assert (client.due(), client.unanswered) == ([], []), "3 s"
    clock.now += 0.5
    assert client.due() == first[1:], "only what did not come"
    assert client.unanswered == [GS[0]]
    clock.now += 3.1
    assert client.due() == first, "silence: the simulator may have been restarted"
    assert client.unanswered == [IAS[0], GS[0]]
    assert [asked(request)[0] for request in client.farewell()] == [0, 0]
    client.feed(answer(client, IAS=100.0))
    assert client.unanswered == [GS[0]]


def test_everything_that_comes_is_an_answer(clock: Clock) -> None:
    """By whichever way, in whichever datagram."""
    client = Client(clock, datarefs=[IAS, GS], ask_rows=[3, 20], position=True)
    requests = client.due()
    assert [request[:5] for request in requests] == [b"RREF\0", b"RREF\0", b"RPOS\0", b"DSEL\0"]
    assert requests[2] == b"RPOS\x0020\0"
    assert requests[3] == b"DSEL\0" + struct.pack("<ii", 3, 20)
    assert [end[:5] for end in client.farewell()] == [b"RREF\0", b"RREF\0", b"RPOS\0"]
    assert client.farewell()[2] == b"RPOS\x000\0"
    answers = [
        answer(client, IAS=100.0),
        protocol.send_dataref(GS[0], 60.0),
        b"RPOS4" + struct.pack("<3d10f", *[1.0] * 13),
        protocol.send_row(20, [1.0] * 8),
    ]
    for n, datagram in enumerate(answers):
        clock.now += 2.0
        client.feed(protocol.send_row(4, [1.0]))  # of a row that was switched on by hand
        client.feed(datagram)
        clock.now += 2.0
        assert client.due() == [request for m, request in enumerate(requests) if m != n]
        clock.now += 1.5  # now that one, too
        assert client.due() == [requests[n]]


def test_a_request_has_a_rate_of_20_hz_unless_the_option_says_otherwise(clock: Clock) -> None:
    assert asked(Client(clock, datarefs=[IAS]).due()[0])[0] == 20


def test_many_requests_come_in_bursts(clock: Clock) -> None:
    client = Client(clock, datarefs=[(f"sim/x[{n}]", Channel("IAS")) for n in range(230)])
    bursts = []
    for _ in range(4):
        began = clock.now
        bursts.append(len(client.due()))
        clock.now = began + 0.09
        assert client.due() == []
        clock.now = began + 0.1
    assert bursts == [100, 100, 30, 0]


def test_other_datarefs_have_other_indices(clock: Clock) -> None:
    """Answers to requests of an earlier run, which has crashed, are not taken for those of this run."""
    before, now = Client(clock, datarefs=[IAS, GS]), Client(clock, datarefs=[GS, IAS])
    assert now.feed(answer(before, IAS=100.0, GS=60.0)) == []
    again = Client(clock, datarefs=[IAS, GS])
    assert again.feed(answer(before, IAS=100.0)) == [Update("IAS", 100.0)]
    lists = [[(f"sim/{n}", Channel("IAS"))] * 3 for n in range(64)]
    indices = [asked(request)[1] for each in lists for request in Client(clock, datarefs=each).due()]
    assert len({*indices}) == len(indices)
    assert all(0 <= index < 2**31 for index in indices), "X-Plane takes 32 bits with a sign"


def test_an_index_that_nobody_has_given_is_no_value(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS, GS])
    (index,) = {asked(request)[1] for request in client.due() if asked(request)[2] == IAS[0]}
    for unknown in (index - 1, index + 2):
        assert client.feed(b"RREF," + struct.pack("<if", unknown, 100.0)) == []
    assert client.counts["values not asked for"] == 2


def test_a_dataref_that_comes_by_name_is_taken(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS])
    assert client.feed(protocol.send_dataref(IAS[0], 99.0)) == [Update("IAS", 99.0)]
    assert client.feed(protocol.send_dataref("sim/other", 99.0)) == []
    assert adds_up(client)
    spaces = protocol.send_dataref(IAS[0], 98.0).replace(b"\0 ", b"  ")
    assert client.feed(spaces) == [Update("IAS", 98.0)], "blanks in place of a NUL"


def test_a_dataref_has_509_bytes_and_blanks_after_its_name() -> None:
    sent = protocol.send_dataref("sim/x", 1.5)
    assert sent == b"DREF\0" + struct.pack("<f", 1.5) + b"sim/x\0" + b" " * 494


def test_zeros_while_it_loads_are_no_values(clock: Clock) -> None:
    client = Client(clock, datarefs=[IAS, GS, *PLACE])
    assert client.feed(answer(client, IAS=0.0, GS=0.0, LAT=0.0, LONG=0.0)) == []
    assert client.trouble == LOADING
    assert len(client.feed(answer(client, IAS=0.0, GS=0.0, LAT=44.0, LONG=-121.0))) == 4
    assert client.trouble == ""
    failed = client.feed(answer(client, IAS=7.0, LAT=0.0, LONG=0.0))  # another flight is loaded
    assert {(update.key, update.value, update.reason) for update in failed} == {
        (key, None, LOADING) for key in ("IAS", "GS", "LAT", "LONG")
    }
    assert client.feed(answer(client, IAS=80.0)) == [], "not before the position has come"
    assert adds_up(client)


def test_without_a_position_a_message_of_zeros_says_nothing(clock: Clock) -> None:
    client = Client(clock)
    assert client.feed(protocol.send_row(3, [0.0] * 8)) == []
    assert client.feed(protocol.send_row(3, [0.1] + [0.0] * 7))
    assert client.feed(protocol.send_row(54, [0.0])) == [Update("VOLT", 0.0)], "the battery is off"
    assert client.feed(protocol.send_row(3, [0.0] * 8)) == [], "it says nothing of the battery either"


@given(st.binary(max_size=600) | st.binary(max_size=300).map(lambda tail: b"RREF," + tail))
def test_any_datagram_is_counted_once(data: bytes) -> None:
    client = Client(Clock(), datarefs=[IAS, *PLACE], position=True)
    for head in (b"", b"DATA*", b"RPOS4", b"DREF\0", b"RREF,"):
        client.feed(head + data)
    assert client.counts["received"] == 5
    assert adds_up(client)


@given(st.integers(0, 199), st.lists(st.none() | st.floats(-(2.0**90), 2.0**90, width=32), min_size=8, max_size=8))
def test_a_row_comes_back(row: int, values: list[float | None]) -> None:
    ((n, read),) = protocol.read_rows(protocol.send_row(row, values))
    assert n == row
    assert list(read) == [protocol.NOTHING if value is None else value for value in values]


#: As read in other people's plugins; they are confirmed by nothing else.
UNITS = {
    "knots": "airspeed_kts_pilot",
    "ft": "altitude_ft_pilot",
    "ft/min": "vvi_fpm_pilot",
    "deg": "slip_deg true_phi true_theta mag_psi latitude longitude hpath",
    "m/s": "groundspeed true_airspeed",
    "rpm": "engine_speed_rpm[0]",
    "inHg": "MPR_in_hg[1] barometer_setting_in_hg_pilot",
    "psi": "oil_pressure_psi[0]",
    "degC": "oil_temperature_deg_C[0] EGT_deg_C[0] CHT_deg_C[0] temperature_ambient_c"
    " oil_temperature_deg_cel[0] EGT_deg_cel[0] CHT_deg_cel[7]",
    "kg/s": "fuel_flow_kg_sec[0]",
    "": "wind_speed_kt[0] EGT_deg_F",
}
FOLDERS = {
    "sim/cockpit2/gauges/indicators/": "airspeed_kts_pilot altitude_ft_pilot vvi_fpm_pilot slip_deg",
    "sim/flightmodel/position/": "true_phi true_theta mag_psi latitude longitude hpath groundspeed true_airspeed",
    "sim/cockpit2/gauges/actuators/": "barometer_setting_in_hg_pilot",
    "sim/weather/": "temperature_ambient_c wind_speed_kt",
}


@pytest.mark.parametrize(("unit", "names"), UNITS.items())
def test_units_of_datarefs(unit: str, names: str) -> None:
    for name in names.split():
        plain = name.partition("[")[0]
        found = (folder for folder, others in FOLDERS.items() if plain in others.split())
        folder = next(found, "sim/cockpit2/engine/indicators/")
        assert protocol.unit_of(folder + name) == unit, name
        assert protocol.unit_of(f"sim/elsewhere/{name}") == "", name


# -- options -----------------------------------------------------------------------------------------------------------

STOCK = """\
connections:
  xplane:
    load: yes
    module: fixgw.plugins.xplane
    ipaddress: 127.0.0.1
    udp_in: 49001
    udp_out: 49002
    idx8: CTLPTCH, CTLROLL, x, x, x, x, x, x
    idx25: THR1, THR2, x, x, x, x, x, x
    idx29: MIX1, MIX2, x, x, x, x, x, x
database overlay: {variables: {e: 1}}
"""


def test_a_stock_file_with_two_engines_starts_with_one(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text(STOCK)
    loaded = configuration.load(path)
    (connection,) = loaded.connections
    assert connection.source == "sim/xplane"
    advice = [str(each) for each in loaded.advice]
    assert [each.split(":")[1] for each in advice] == ["7", "9", "10"]
    assert "udp_out: X-Plane receives at port 49000" in advice[0]
    assert "idx25: the database has no item THR2, but THR1: it is left alone (-999 is sent)" in advice[1]


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"idx25": "THR1, THORTTLE"}, "idx25", "the database has no item 'THORTTLE'"),
        ({"idx25": "THR1, THR9"}, "", ""),
        ({"idx25": ", ".join(["THR1"] * 9)}, "idx25", "a row has 8 places"),
        ({"idx25": "ACID"}, "idx25", "ACID is text"),
        ({"write": {"BAROO": "sim/x"}}, "write.BAROO", "did you mean 'BARO'?"),
        ({"read": [3, 20]}, "", ""),
        ({"read": [3, 99]}, "read.1", "nothing is read of row 99: say what it holds"),
        ({"read": {"THR1": "sim/x"}, "idx25": "THR1"}, "read.THR1", "can only go one way"),
        ({"read": [99], "row99": "x, OILT1"}, "", ""),
        ({"read": [47]}, "read.0", "say in which unit"),
        ({"read": [47], "temperatures": "degF"}, "", ""),
        ({"read": [45]}, "read.0", "say how heavy the fuel is"),
        ({"row4": "x, VSI"}, "row4", "the database has no item 'VSI'"),
        ({"read": {"IASS": "sim/x"}}, "read.IASS", "did you mean 'IAS'?"),
        ({"read": {"GS": "sim/flightmodel/position/groundspeed"}}, "", ""),
        ({"read": {"ALAT": "sim/cockpit2/gauges/indicators/slip_deg"}}, "read.ALAT", "is in deg, ALAT in g"),
        (
            {"read": {"FUELF1": "sim/cockpit2/engine/indicators/fuel_flow_kg_sec[0]"}},
            "read.FUELF1",
            "say how to convert",
        ),
        ({"read": {"LAT": "sim/x"}, "position": True}, "read.LAT", "`position` gives this key, too"),
        ({"row25": "THR1", "idx25": "THR1"}, "row25", "can only go one way"),
        ({"udp_out": 49001}, "udp_out", "X-Plane receives at port 49000"),
        ({"udp_out": 49002}, "udp_out", "X-Plane receives at port 49000"),
        ({"udp_out": 49003}, "", ""),
        ({"ipaddress": "auto", "udp_out": 49002}, "", ""),
        ({"read": {"IAS": "x" * 399}}, "", ""),
        ({"ipaddress": "a b"}, "ipaddress", "neither an address nor a host name"),
        ({"allow": ["home"]}, "allow.0", "home"),
        ({"changes_within": {"OILP1": 5}, "read": [3]}, "changes_within.OILP1", "does not write OILP1"),
    ],
)
def test_wrong_options_are_found(options: dict[str, Any], option: str, message: str) -> None:
    plugin = Plugin("x", options)  # wrong ones are left out
    found = [*Plugin.check(plugin.options, ITEMS), *Plugin.advise(plugin.options, ITEMS)]
    found = [each for each in found if "THR9" not in each[1]]
    assert [name for name, _ in found] == ([option] if option else [])
    assert message in "".join(text for _, text in found)


def test_known_datarefs_are_converted_to_the_unit_of_the_key() -> None:
    read = {
        "GS": "sim/flightmodel/position/groundspeed",
        "EGT11": "sim/cockpit2/engine/indicators/EGT_deg_cel[0]",
        "FUELF1": "sim/cockpit2/engine/indicators/fuel_flow_kg_sec[0]",
        "OILT1": {"dataref": "sim/mine/oil_F", "factor": 1 / 1.8, "offset": -32 / 1.8},
    }
    options = {"read": read, "fuel_density": 6.02}
    plan = make_plan(Plugin("x", options).options, ITEMS)
    assert not plan.problems
    channels = {channel.key: channel for _, channel in plan.datarefs}
    assert channels["GS"].factor == pytest.approx(3600 / 1852)
    assert channels["EGT11"][1:] == (1.0, 0.0)
    assert channels["FUELF1"].factor == pytest.approx(3600 / 0.45359237 / 6.02)
    assert channels["OILT1"].factor * 212 + channels["OILT1"].summand == pytest.approx(100.0)


def test_the_exact_position_replaces_that_of_rows() -> None:
    client = Plugin("x", {"position": True}).protocol()
    assert [u.key for u in client.feed(protocol.send_row(20, [44.0, -121.0, 3500.0, 820.0, 0.0, 3512.0]))] == ["ALT"]


def test_rows_with_units_are_converted() -> None:
    plugin = Plugin("x", {"read": [45, 47], "temperatures": "degF", "fuel_density": 6.02})
    client = plugin.protocol()
    rows = protocol.send_row(45, [60.2])[5:] + protocol.send_row(47, [1350.0])[5:]
    values = {update.key: update.value for update in client.feed(b"DATA*" + rows)}
    assert values == pytest.approx({"FUELF1": 10.0, "EGT11": 732.2222}, rel=1e-6)


# -- with the virtual simulator ----------------------------------------------------------------------------------------

READ = {
    "IAS": "sim/cockpit2/gauges/indicators/airspeed_kts_pilot",
    "ALT": "sim/cockpit2/gauges/indicators/altitude_ft_pilot",
    "VS": "sim/cockpit2/gauges/indicators/vvi_fpm_pilot",
    "HEAD": "sim/flightmodel/position/mag_psi",
    "TAS": "sim/flightmodel/position/true_airspeed",
    "TACH1": "sim/cockpit2/engine/indicators/engine_speed_rpm[0]",
    "FUELF1": "sim/cockpit2/engine/indicators/fuel_flow_kg_sec[0]",
    "EGT11": "sim/cockpit2/engine/indicators/EGT_deg_C[0]",
}


class XplaneBench(DatagramBench):
    def options(self) -> dict[str, Any]:
        return {"ipaddress": "127.0.0.1", "udp_in": self.here, "udp_out": self.device.port}


class TestContract(Contract):
    subject = XplaneBench.of(
        "fixgw.drivers.xplane",
        Xplane,
        "LAT LONG GS TRACK PITCH ROLL TALT " + " ".join(READ),
        options={"read": READ, "position": True, "fuel_density": 6.02},
        within={"TACH1": 1, "LAT": 1e-9, "LONG": 1e-9, "VS": 0.1},
    )


Fly = Any


@pytest.fixture
def fly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fly]:
    """Creates benches, with the driver's options, and starts them."""
    made: list[XplaneBench] = []

    def start(**options: Any) -> XplaneBench:
        bench = XplaneBench(Subject("fixgw.drivers.xplane", XplaneBench, Xplane, (), options))
        made.append(bench)
        monkeypatch.setattr(bench.plugin_class, "poll_timeout", 0.02)
        bench.device.output = ("127.0.0.1", bench.here)
        bench.start()
        return bench

    yield start
    for bench in made:
        bench.close()


@pytest.mark.slow
def test_rows_are_switched_on_and_read(fly: Fly) -> None:
    bench = fly(read=[3, 17, 20, 37])
    bench.fly_until(lambda: bench.db.read("TACH1").good, "no rows")
    assert bench.device.page == {3, 17, 20, 37}
    truth = bench.aircraft.values()
    for key in ("IAS", "TAS", "GS", "PITCH", "ROLL", "HEAD", "TALT", "ALT"):
        assert bench.db.read(key).value == pytest.approx(truth[key], rel=1e-5), key


@pytest.mark.slow
def test_without_options_what_comes_is_read(fly: Fly) -> None:
    bench = fly()
    bench.device.page = {3, 20}
    bench.fly(1.0)
    assert {key for key in ("IAS", "TAS", "LAT", "LONG", "ALT") if bench.db.read(key).good} == {
        *("IAS", "TAS", "LAT", "LONG", "ALT")
    }
    assert not bench.device.asked
    assert not bench.device.rows_set


def sent(bench: XplaneBench, key: str, value: float | None, flags: int = 0, source: str = "levers") -> None:
    """Write a key, and let the driver send once or twice."""

    def has_sent() -> bool:
        return bool(bench.plugin._send_at > bench.clock.now)

    until(has_sent, "nothing is sent")
    if value is not None:
        bench.db.write(key, value, source, flags)
    bench.device.tick(bench.aircraft, bench.clock.now)
    bench.device.rows_set.clear()
    bench.device.datarefs_set.clear()
    bench.clock.now += 0.1
    until(has_sent, "nothing is sent")
    bench.device.tick(bench.aircraft, bench.clock.now)


@pytest.mark.slow
def test_only_good_values_of_others_are_sent(fly: Fly) -> None:
    bench = fly(idx25="THR1, THR9, x", read={"OAT": "sim/weather/temperature_ambient_c"})
    sent(bench, "THR1", 0.65)
    nothing = [NOTHING] * 7
    assert bench.device.rows_set[25] == pytest.approx([0.65, *nothing], rel=1e-6)
    for flags in (BAD, FAIL):
        sent(bench, "THR1", 0.65, flags)
        assert bench.device.rows_set[25] == [NOTHING, *nothing]
    sent(bench, "THR1", 0.4)
    assert bench.device.rows_set[25][0] == pytest.approx(0.4)
    bench.clock.now += 2.0  # old
    sent(bench, "THR1", None)
    assert bench.device.rows_set[25] == [NOTHING, *nothing]
    sent(bench, "THR1", 0.5, source=bench.plugin.source)  # its own
    assert bench.device.rows_set[25] == [NOTHING, *nothing]


@pytest.mark.slow
def test_a_setting_is_set_as_a_dataref(fly: Fly) -> None:
    dataref = "sim/cockpit2/gauges/actuators/barometer_setting_in_hg_pilot"
    bench = fly(idx25="THR1", write={"BARO": dataref})
    sent(bench, "BARO", 30.02)
    assert bench.device.datarefs_set == {dataref: pytest.approx(30.02)}
    bench.clock.now += 100.0  # a setting does not age
    sent(bench, "BARO", None)
    assert bench.device.datarefs_set


@pytest.mark.slow
def test_a_stop_ends_the_answers(fly: Fly) -> None:
    bench = fly(read={"OAT": "sim/weather/temperature_ambient_c"}, position=True)
    bench.fly_until(lambda: bench.db.read("OAT").good and bench.device.positions, "no values")
    bench.stop()
    bench.device.tick(bench.aircraft, bench.clock.now)
    assert not bench.device.asked
    assert not bench.device.positions


@pytest.mark.slow
def test_a_simulator_that_loads_says_nothing(fly: Fly) -> None:
    names = ("latitude", "longitude")
    read = dict(zip(("LAT", "LONG"), (f"sim/flightmodel/position/{name}" for name in names), strict=True))
    bench = fly(read={**read, "IAS": READ["IAS"]})
    bench.fly_until(lambda: bench.db.read("LAT").good, "no position")
    bench.device.loading = True
    bench.fly_until(lambda: bench.plugin.health() == LOADING, "zeros are taken for values")
    assert all(bench.db.read(key).fail for key in ("LAT", "LONG", "IAS"))
    assert bench.db.read("LAT").value != 0.0
    bench.device.loading = False
    bench.fly_until(lambda: bench.db.read("LAT").good and not bench.plugin.health(), "it does not recover")


@pytest.mark.slow
def test_what_waited_while_the_gateway_was_held_up_is_discarded(fly: Fly) -> None:
    bench = fly()
    bench.device.page = {3}
    bench.fly(0.5)
    counts = bench.plugin.counts
    used, before = counts["used"], bench.db.read("IAS").stamp
    bench.hold_up()
    assert (counts["used"], bench.db.read("IAS").stamp) == (used, before)
    bench.fly_until(lambda: counts["used"] > used, "it does not recover")


@pytest.mark.slow
def test_datarefs_that_do_not_come_are_named(fly: Fly) -> None:
    bench = fly(read={"IAS": READ["IAS"], "OAT": "sim/nowhere"})
    bench.fly_until(lambda: bench.db.read("IAS").good, "no values")
    bench.device.asked = {k: v for k, v in bench.device.asked.items() if v[0] != "sim/nowhere"}

    def named() -> bool:
        bench.device.asked = {k: v for k, v in bench.device.asked.items() if v[0] != "sim/nowhere"}
        return bool(bench.plugin.health() == "X-Plane does not send sim/nowhere")

    bench.fly_until(named, "nothing says that a dataref is missing")
    assert bench.plugin.get_status()["unanswered"] == "sim/nowhere"


@pytest.mark.slow
def test_a_second_sender_is_refused(fly: Fly) -> None:
    bench = fly()
    bench.device.page = {3}
    bench.fly(0.5)
    forged = protocol.send_row(3, [300.0] * 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.9", 0))
        other.sendto(forged, ("127.0.0.1", bench.here))
    until(lambda: bench.plugin.counts.get("datagrams not allowed"), "it is accepted")
    assert bench.db.read("IAS").value < 200.0


@pytest.mark.slow
def test_the_simulator_is_found_by_its_beacon(fly: Fly) -> None:
    bench = fly(ipaddress="auto", read={"OAT": "sim/weather/temperature_ambient_c"})
    until(lambda: "no X-Plane found" in bench.plugin.health())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # PlaneMaker, and garbage
        for text in ("0102020000006 6e4010001000000 68bf00", "0102", ""):
            other.sendto(b"BECN\0" + bytes.fromhex(text.replace(" ", "")), ("127.0.0.1", protocol.BEACON_PORT))
    bench.device.beacon = True
    bench.fly_until(lambda: bench.db.read("OAT").good, "the beacon is not heard")
    assert bench.plugin.health() == ""
    assert bench.plugin.port.to == ("127.0.0.1", bench.device.port)
