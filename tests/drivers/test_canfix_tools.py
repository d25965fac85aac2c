"""The parts of `fixgw canfix` that need no bus: CAN-FIX as text, candump logs, the survey of a bus."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.canfix.tool.survey import Survey, decode
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, FD_LENGTHS, REMOTE, Frame
from fixgw.errors import BadValue

pytestmark = pytest.mark.slow

TABLE = table.load()
TYPED = [parameter for parameter in TABLE if parameter.type]

# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.sampled_from([0, EXTENDED, REMOTE, ERROR, FD]))
def test_any_frame_can_be_shown_as_text_and_as_json(identifier: int, data: bytes, flags: int) -> None:
    heard = decode(cf.Codec(), Frame(identifier, data, flags))
    assert words.describe_message(TABLE, heard.outcome)
    assert words.describe_bus_error(heard.frame)
    found = json.loads(json.dumps(words.as_dict(TABLE, heard.outcome), allow_nan=False))
    assert found["kind"] == heard.outcome.kind


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("6E1#0000", "identify yourself, to all"),
        ("720#0001014001400101", "engine data (type 0x40), model 0x010140, firmware 1, to node 1 (0x01)"),
        ("6E1#010002", "change to 250 kbit/s, to all"),
        ("720#0101", "bit rate: done, to node 1 (0x01)"),
        ("720#0101FF", "bit rate: error 255, to node 1 (0x01)"),
        ("6E1#024041", "change id to 65 (0x41), to node 64 (0x40)"),
        ("6E1#03408301", "disable 0x183 Indicated Airspeed, to node 64 (0x40)"),
        ("6E1#04408301", "enable 0x183 Indicated Airspeed, to node 64 (0x40)"),
        ("720#030101", "disable: not one of its parameters, or not permitted, to node 1 (0x01)"),
        ("6E1#0540", "report all parameters, to node 64 (0x40)"),
        ("720#0600000000", "good"),
        ("720#0600000400", "errors 0x0004"),
        ("720#0602008A00", "Supply Voltage 13.8 V"),
        ("720#0600010A0B", "device 256: 0a 0b"),
        ("6E1#0740030002", "prepare for a firmware update to 3 on channel 2, to node 64 (0x40)"),
        ("6E1#0840020500", "open channel 2, type 5, to node 64 (0x40)"),
        ("6E1#094002001E00", "set key 2 to 1e 00, to node 64 (0x40)"),
        ("720#090102", "configuration: read-only, to node 1 (0x01)"),
        ("6E1#0A400200", "read key 2, to node 64 (0x40)"),
        ("720#0A01001E00", "configuration: done 1e 00, to node 1 (0x01)"),
        ("720#0B01030056697200", "description, part 3: 'Vir', to node 1 (0x01)"),
        ("6E1#0C90013A75", "set Altimeter Setting to 30.010 inHg"),
        ("6E1#0C01060102", "set unknown parameter 0x601, index 0 to 01 02"),
        ("6E1#8001", "control code 128: 01"),
        ("040#02010203", "ALARM 258 02 03"),
        ("7E2#0102", "channel 1, request: 01 02"),
        ("500#400200" + "7007", "Cylinder Head Temperature #1, cylinder 3: 190.4 °C"),
        ("183#320D57" + "2C06", "Indicated Airspeed, index 13, Vne: 158.0 knots, annunciate, bad, fail"),
        ("183#3200D0" + "2C06", "Indicated Airspeed, undefined meta data 13: 158.0 knots"),
        ("580#C10000" + "0F0405A602", "Time: 15:04:05.678"),
        ("581#C10000" + "E9070715", "Date: 2025-07-21"),
        ("308#D00000" + "0100000080", "Generic Switches #1: 00000001 00000000 00000000 00000000 10000000"),
        ("300#D00000" + "FDFF010005", "Encoder Input #1: -3 1 5"),
        ("480#C10000" + "414C464100", "Next Waypoint Identifier: 'ALFA'"),
        ("600#00", "reserved identifier"),
    ],
)
def test_messages_are_described_in_words(frame: str, text: str) -> None:
    recorded = can_log.parse(f"(0.0) can0 {frame}")
    assert recorded is not None
    assert words.describe_message(TABLE, decode(cf.Codec(), recorded.frame).outcome) == text


@given(st.sampled_from([p for p in TYPED if not p.text and p.type != "FLOAT"]), st.binary(min_size=5, max_size=5))
def test_values_can_be_typed_as_they_are_shown(parameter: table.Parameter, raw: bytes) -> None:
    value = parameter.read(bytes(3) + raw)
    assume(parameter.name != "Time" or (isinstance(value, tuple) and value[3] < 1000))
    assert words.parse_value(parameter, words.format_value(parameter, value, units=False)) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Indicated Airspeed", "101.55", 101.55),
        ("Aircraft Position Latitude", "-43.985", -43.985),
        ("Indicated Altitude", "-0x10", -16),
        ("Flap Control Switches #1", "0b101", 5),
        ("Flap Control Switches #1", "101", 101),
        ("Next Waypoint ETA", "15:04:05", (15, 4, 5)),
        ("Time", "15:04:05.5", (15, 4, 5, 500)),
        ("Time", "15 4 5 7", (15, 4, 5, 7)),
        ("Date", "2025-07-21", (2025, 7, 21)),
        ("Encoder Input #1", "-3, 0, 0b1", (-3, 0, 1)),
        ("Next Waypoint Identifier", " A,B ", " A,B "),
    ],
)
def test_values_are_parsed_as_people_write_them(name: str, text: str, value: object) -> None:
    assert words.parse_value(TABLE[name], text) == value


@pytest.mark.parametrize(
    ("word", "identifier", "index"),
    [
        ("0x183", 0x183, 0),
        ("387", 0x183, 0),
        ("indicated  AIRSPEED", 0x183, 0),
        ("ias", 0x183, 0),
        ("GS", 0x1C5, 0),
        ("GSPEED", 0x1C5, 0),
        ("CHT13", 0x500, 2),
        ("CHT21", 0x501, 0),
        ("Oil Pressure #2", 0x221, 0),
        ("ACNOR", 0x18A, 0),
    ],
)
def test_parameters_are_found_by_identifier_name_and_key(word: str, identifier: int, index: int) -> None:
    assert words.find_parameter(TABLE, word) == (TABLE[identifier], index)


def test_an_ambiguous_name_is_refused() -> None:
    with pytest.raises(
        BadValue, match="it could be 0x500 Cylinder Head Temperature #1, 0x501 Cylinder Head Temperature #2"
    ):
        words.find_parameter(TABLE, "CHT")
    with pytest.raises(table.UnknownParameter, match="did you mean 'Indicated Airspeed'"):
        words.find_parameter(TABLE, "Indicated Airspeet")
    with pytest.raises(table.UnknownParameter, match="0x602"):
        words.find_parameter(TABLE, "0x602")


@pytest.mark.parametrize(
    ("type", "name"), [(0x32, "air data"), (0x30, "flight data"), (0xB6, "CAN-FIX router"), (0x50, "unknown")]
)
def test_device_types_have_names(type: int, name: str) -> None:
    assert words.describe_device(type) == name


# -- logs --------------------------------------------------------------------------------------------------------------

classic = st.builds(
    lambda extended, identifier, remote, data: Frame(
        identifier if extended else identifier & 0x7FF,
        bytes(len(data)) if remote else data,
        extended * EXTENDED | remote * REMOTE,
    ),
    st.booleans(),
    st.integers(0, 0x1FFFFFFF),
    st.booleans(),
    st.binary(max_size=8),
)
fd = st.builds(
    lambda identifier, flags, length, byte: Frame(identifier, bytes([byte]) * length, FD | flags),
    st.integers(0, 0x7FF),
    st.sampled_from([0, BRS, ESI, BRS | ESI]),
    st.sampled_from(FD_LENGTHS),
    st.integers(0, 255),
)
errors = st.builds(lambda identifier: Frame(identifier, bytes(8), ERROR), st.integers(0, 0x1FFFFFFF))


@given(classic | fd | errors, st.integers(0, 2_000_000_000_000_000))
def test_a_frame_survives_a_log(frame: Frame, microseconds: int) -> None:
    recorded = can_log.parse(can_log.line(frame, "can0", microseconds / 1e6))
    assert recorded is not None
    assert recorded.channel == "can0"
    assert recorded.frame.timestamp == pytest.approx(microseconds / 1e6, abs=1e-6)
    assert (recorded.frame.arbitration_id, recorded.frame.data, recorded.frame.flags) == (
        frame.arbitration_id,
        frame.data,
        frame.flags,
    )


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("  can0  183   [5]  32 00 00 D2 04", Frame(0x183, bytes.fromhex("320000d204"))),
        (" (12.5)  can0  183   [5]  32 00 00 D2 04   '2....'", Frame(0x183, bytes.fromhex("320000d204"), 0, 12.5)),
        ("  can0  RX - -  00000183   [0] ", Frame(0x183, b"", EXTENDED)),
        ("  can0  183   [2]  remote request", Frame(0x183, bytes(2), REMOTE)),
        ("  can0  183  [12]  " + " ".join(["00"] * 12), Frame(0x183, bytes(12), FD)),
        (
            "  can0  20000004   [8]  00 04 00 00 00 00 00 00   ERRORFRAME",
            Frame(4, bytes.fromhex("0004000000000000"), ERROR),
        ),
    ],
)
def test_candumps_screen_output_is_read_too(text: str, frame: Frame) -> None:
    assert can_log.parse(text) == can_log.Recorded("can0", frame)


@given(st.text(max_size=60))
def test_any_line_of_a_log_is_tolerated(text: str) -> None:
    recorded = can_log.parse(text)
    assert recorded is None or recorded.frame.data is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(1.0) can0 FFF#00",
        "(1.0) can0 183#112233445566778899",
        "(1.0) can0 183#1",
        " can0 183 [3] 00 00",
        "# remark",
    ],
)
def test_lines_without_a_frame_are_skipped(text: str) -> None:
    assert list(can_log.read([text, "(1.0) can1 183#"], "can0")) == []


# -- the survey --------------------------------------------------------------------------------------------------------


class Listener:
    """Feeds frames to a survey, each 0.1 s after the last."""

    def __init__(self, us: int = 0xFF) -> None:
        self.survey = Survey(us)
        self.now = 100.0
        self._codec = cf.Codec()

    def hears(self, *frames: cf.Frame | Frame) -> None:
        for frame in frames:
            self.now += 0.1
            whole = Frame(frame.arbitration_id, frame.data, getattr(frame, "flags", 0), self.now)
            self.survey.feed(decode(self._codec, whole))


def speed(value: float, node: int = 50, **flags: bool) -> cf.Frame:
    return cf.update(TABLE["Indicated Airspeed"], value, node, **flags).encode()


def test_rates_are_over_the_time_listened() -> None:
    listener = Listener()
    listener.hears(*[speed(0.0)] * 11)
    member = listener.survey.nodes[50]
    assert listener.survey.seconds == pytest.approx(1.0)
    assert listener.survey.rate(member.parameters[0x183]) == pytest.approx(11.0)


def test_flight_begins_above_thirty_knots_and_counts_the_fastest() -> None:
    listener = Listener()
    listener.hears(speed(30.0))
    assert listener.survey.signs_of_flight() == []
    listener.hears(speed(80.0, node=51), speed(20.0))
    assert listener.survey.signs_of_flight() == ["IAS is 80 knots according to node 51 (0x33)"]


def test_failed_speeds_and_limits_are_no_signs_of_flight() -> None:
    listener = Listener()
    limit = cf.update(TABLE["Indicated Airspeed"], 158.0, 50, meta="Vne").encode()
    listener.hears(speed(80.0, failure=True), limit)
    assert listener.survey.signs_of_flight() == []
    assert not listener.survey.knows_speed
    listener.hears(speed(80.0, quality=True))
    assert listener.survey.signs_of_flight() != []


def test_a_value_that_recovers_no_longer_counts_as_failed() -> None:
    listener = Listener()
    listener.hears(speed(80.0, failure=True))
    member = listener.survey.nodes[50]
    assert member.health(listener.now) == "1 value failed"
    listener.hears(speed(80.0))
    assert member.health(listener.now) == ""


def test_health_reports_silence_alarms_and_errors() -> None:
    listener = Listener()
    listener.hears(cf.NodeStatus(50, 0, 0x0004).encode(), cf.NodeAlarm(50, 7).encode())
    listener.hears(*[speed(0.0, node=51)] * 31)
    assert listener.survey.nodes[50].health(listener.now) == "errors 0x0004, alarm 7, silent for 3 s"


def test_two_answers_to_one_question_are_two_devices() -> None:
    listener = Listener()
    listener.survey.asked = True
    identity = cf.NodeIdentity(50, 0xFF, 0x32, 1, 5).encode()
    to_another = cf.NodeIdentity(50, 0x91, 0x32, 1, 5).encode()
    listener.hears(to_another, identity, to_another)
    assert not listener.survey.nodes[50].twins
    listener.hears(identity)
    assert listener.survey.nodes[50].twins


def test_different_devices_with_one_id_are_twins() -> None:
    listener = Listener()
    listener.hears(cf.NodeIdentity(50, 1, 0x32, 1, 5).encode(), cf.NodeIdentity(50, 1, 0x31, 1, 5).encode())
    assert listener.survey.nodes[50].twins


def test_control_characters_in_descriptions_are_replaced() -> None:
    listener = Listener()
    for packet, text in enumerate((b"EFIS", b"\x1b[2J", b" ok\0")):
        listener.hears(cf.NodeDescription(50, 0xFF, packet, text).encode())
    assert listener.survey.nodes[50].description == "EFIS?[2J ok"


def test_the_survey_keeps_the_controllers_state() -> None:
    listener = Listener()
    listener.hears(Frame(0x04, bytes.fromhex("0020000000000000"), ERROR), speed(0.0))
    assert (listener.survey.controller, listener.survey.frames) == ("passive", 1)


def test_nan_and_infinity_are_null_in_json() -> None:
    assert words.to_json(math.nan) is None
    assert words.to_json(math.inf) is None
    assert words.to_json(1.5) == 1.5
