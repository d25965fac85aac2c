"""The CAN-FIX codec against worked frames (tests/data/canfix.json), and cases that these do not cover."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table
from fixgw.errors import BadValue, FixgwError

pytestmark = pytest.mark.slow

CODEC = cf.Codec()
TABLE = CODEC.table
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "canfix.json").read_text())["vectors"]

REQUESTS: dict[str, type[cf.Request]] = {
    "node_identification": cf.NodeIdentification,
    "bit_rate_set": cf.BitRateSet,
    "node_id_set": cf.NodeIdSet,
    "disable_parameter": cf.DisableParameter,
    "enable_parameter": cf.EnableParameter,
    "node_report": cf.NodeReport,
    "update_firmware": cf.UpdateFirmware,
    "two_way_connection": cf.TwoWayConnection,
    "configuration_set": cf.ConfigurationSet,
    "configuration_query": cf.ConfigurationQuery,
}
NAMES = {cls: kind for kind, cls in REQUESTS.items()}
CONTROLS = {cls.control: kind for kind, cls in REQUESTS.items()}
# The names in the vectors of fields that have shorter names here.
FIELDS = {"code": "rate_code", "type": "connection_type", "destination": "dest"}
DROPPED = {
    "invalid": {"short", "reserved"},
    "ignored": {"not-for-us"},
    "unknown_parameter": {"unknown"},
    "untyped_parameter": {"unknown"},
}


def plain(value: Any) -> Any:
    """`value` in the form of the vectors."""
    if isinstance(value, tuple):
        return list(value)
    return value.hex() if isinstance(value, bytes) else value


def meaning_of(outcome: cf.Outcome) -> dict[str, Any]:
    """`outcome` in the form of the vectors."""
    match outcome:
        case cf.ParameterUpdate():
            return {
                "kind": "parameter",
                "parameter": outcome.parameter.name,
                "node": outcome.node,
                "index": outcome.index,
                "annunciate": outcome.annunciate,
                "quality": outcome.quality,
                "failure": outcome.failure,
                "reserved_bit": bool(outcome.code & 8),
                "meta": outcome.meta,
                "meta_name": outcome.meta_name,
                "type": outcome.parameter.type,
                "units": outcome.parameter.units or None,
                "value": plain(outcome.value),
                **({"undefined_meta": True} if outcome.kind == "undefined-meta" else {}),
            }
        case cf.NodeAlarm():
            return {"kind": "node_alarm", "node": outcome.node, "code": outcome.code, "data": outcome.data.hex()}
        case cf.TwoWay():
            role = "response" if outcome.response else "request"
            return {"kind": "two_way_data", "channel": outcome.channel, "role": role, "data": outcome.data.hex()}
        case cf.NodeIdentity():
            fields = {"spec": outcome.specification, "device": outcome.device, "firmware": outcome.firmware}
            about = {"source": outcome.source, "dest": outcome.destination, "role": "response"}
            return {"kind": "node_identification", **about, **fields, "model": outcome.model}
        case cf.Answer():
            about = {"source": outcome.source, "dest": outcome.destination, "role": "response"}
            result = {"success": outcome.success, "error": outcome.error, "data": outcome.data.hex()}
            return {"kind": CONTROLS[outcome.control], **about, **result}
        case cf.Request():
            named = {FIELDS.get(f, f): plain(getattr(outcome, f)) for f in outcome.__struct_fields__}
            rate = {"kbps": outcome.kbps} if isinstance(outcome, cf.BitRateSet) else {}
            return {"kind": NAMES[type(outcome)], "role": "request", **named, **rate}
        case cf.NodeStatus():
            field = outcome.FIELDS.get(outcome.type)
            datatype = field.type if field else None
            facts = {"type": outcome.type, "name": outcome.name, "datatype": datatype, "value": plain(outcome.value)}
            return {"kind": "node_status", "source": outcome.source, **facts}
        case cf.NodeDescription():
            about = {"source": outcome.source, "dest": outcome.destination}
            return {"kind": "node_description", **about, "packet": outcome.packet, "chars": outcome.text.hex()}
        case cf.ParameterSet():
            p = outcome.parameter
            what = {"parameter_id": p.identifier, "index": outcome.index, "parameter": p.name, "type": p.type}
            return {"kind": "parameter_set", "source": outcome.source, **what, "value": plain(outcome.value)}
        case cf.UnknownParameterSet():
            what = {"parameter_id": outcome.parameter_id, "index": outcome.index, "data": outcome.data.hex()}
            return {"kind": "parameter_set", "source": outcome.source, "unknown": True, **what}
        case cf.ControlMessage():
            kind = "reserved_control" if outcome.reserved else "user_defined"
            return {"kind": kind, "source": outcome.source, "control": outcome.control, "data": outcome.data.hex()}
    raise AssertionError(outcome)


def message_of(meaning: dict[str, Any]) -> cf.Message:
    """The message for a vector's `meaning`."""
    m = dict(meaning)
    kind = m["kind"]
    value: Any = m.get("value")
    if isinstance(value, list):
        value = tuple(value)
    source, destination = m.get("source", 0), m.get("dest", 0)
    if kind == "parameter":
        flags = {flag: m[flag] for flag in ("annunciate", "quality", "failure")}
        return cf.update(TABLE[m["parameter"]], value, m["node"], index=m["index"], meta=m["meta"], **flags)
    if kind == "parameter_set":
        return cf.ParameterSet(source, TABLE[m["parameter_id"]], m["index"], value)
    if kind == "node_alarm":
        return cf.NodeAlarm(m["node"], m["code"], bytes.fromhex(m["data"]))
    if kind == "two_way_data":
        return cf.TwoWay(m["channel"], m["role"] == "response", bytes.fromhex(m["data"]))
    if kind == "node_status":
        return cf.NodeStatus(source, m["type"], bytes.fromhex(value) if isinstance(value, str) else value)
    if kind == "node_description":
        return cf.NodeDescription(source, destination, m["packet"], bytes.fromhex(m["chars"]))
    if kind in ("reserved_control", "user_defined"):
        return cf.ControlMessage(source, m["control"], bytes.fromhex(m["data"]))
    if kind == "node_identification" and m["role"] == "response":
        return cf.NodeIdentity(source, destination, m["device"], m["firmware"], m["model"], m["spec"])
    cls = REQUESTS[kind]
    if m["role"] == "response":
        error = m.get("error", 0 if m["success"] else 255)
        return cf.Answer(source, destination, cls.control, error, bytes.fromhex(m.get("data", "")))
    fields = [m[FIELDS.get(name, name)] for name in cls.__struct_fields__[2:]]
    return cls(source, destination, *[bytes.fromhex(f) if isinstance(f, str) else f for f in fields])


def agrees(outcome: cf.Outcome, expected: dict[str, Any]) -> bool:
    """Whether `outcome` matches everything that a vector specifies."""
    kind = expected["kind"]
    if kind in DROPPED or isinstance(outcome, cf.Dropped):
        return outcome.kind in DROPPED.get(kind, ())
    if expected.get("role") == "ambiguous":
        assert isinstance(outcome, cf.ConfigurationQuery)
        assert outcome.key == expected["as_request"]["key"]
        answer = outcome.as_answer()
        return answer.success and answer.data.hex() == expected["as_response"]["data"]
    got = meaning_of(outcome)
    return all(same(got.get(key), value) for key, value in expected.items() if key != "raw")


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(got, (int, float)):
        return math.isnan(got) if math.isnan(expected) else math.isclose(got, expected, rel_tol=1e-9)
    return bool(got == expected)


def decode(frame: dict[str, Any]) -> cf.Outcome:
    flags = {flag: frame.get(flag, False) for flag in ("extended", "remote")}
    return CODEC.decode(frame["id"], bytes.fromhex(frame["data"]), **flags)


def vectors(*directions: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in VECTORS if v["direction"] in directions]


@pytest.mark.parametrize("vector", vectors("both", "decode"))
def test_a_worked_frame_decodes_to_its_meaning(vector: dict[str, Any]) -> None:
    outcome = decode(vector["frame"])
    expected = dict(vector["meaning"])
    if expected["kind"] in ("parameter", "parameter_set") and isinstance(expected.get("value"), str):
        if expected["type"] == "FLOAT":  # "NaN", "Infinity": the specification does not say, we treat it as a failure
            expected |= {"value": float(expected["value"]), "failure": True}
        else:
            expected["value"] = expected["value"].rstrip("\0 ")
    meanings = [expected, *vector.get("alternatives", ())]
    assert any(agrees(outcome, m) for m in meanings), (outcome, meanings)


@pytest.mark.parametrize("vector", vectors("both", "encode"))
def test_a_meaning_encodes_to_its_worked_frame(vector: dict[str, Any]) -> None:
    meaning = vector["meaning"]
    if vector.get("expect") == "encode_error":
        with pytest.raises(BadValue):
            message_of(meaning).encode()
        return
    if meaning.get("type") == "FLOAT":
        meaning = meaning | {"value": float(meaning["value"])}
    message = message_of(meaning)
    # Some worked frames use the whole range of the wire type, beyond the parameter's own range.
    loose = {"strict": False} if isinstance(message, (cf.ParameterUpdate, cf.ParameterSet)) else {}
    assert message.encode(**loose) == (vector["frame"]["id"], bytes.fromhex(vector["frame"]["data"]))


# -- decoding ----------------------------------------------------------------------------------------------------------

IAS = TABLE["Indicated Airspeed"]
IAS_100 = bytes.fromhex("0c0000e803")


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"extended": True}, "extended frame"),
        ({"remote": True}, "remote frame"),
        ({"error": True}, "error frame"),
        ({"fd": True}, "FD frame"),
        ({"extended": True, "error": True}, "error frame"),
    ],
)
def test_frames_that_are_not_base_data_frames_are_not_for_us(flags: dict[str, bool], reason: str, length: int) -> None:
    codec = cf.Codec()
    for identifier in (0, 7, 0x183, 0x600, 0x6E1, 0x7E0, 0x7FF):
        assert codec.decode(identifier, bytes(length), **flags) == cf.Dropped("not-for-us", reason)
    assert codec.counts["not-for-us"] == sum(codec.counts.values()) == 7


def test_impossible_base_frames_are_not_for_us_either() -> None:
    for identifier in (0x800, 0x1FFFFFFF, -1):
        assert CODEC.decode(identifier, IAS_100) == cf.Dropped("not-for-us", "extended frame")
    for length in (9, 64):
        assert CODEC.decode(0x183, bytes(length)) == cf.Dropped("not-for-us", "FD frame")


def test_every_outcome_is_counted_under_its_kind() -> None:
    codec = cf.Codec()
    frames = {
        "value": (0x183, IAS_100),
        "meta": (0x183, bytes.fromhex("0c0050e803")),
        "undefined-meta": (0x183, bytes.fromhex("0c00d0e803")),
        "node-specific": (0x6E1, bytes((5, 0))),
        "alarm": (7, bytes(2)),
        "two-way": (0x7E0, b""),
        "unknown": (0x192, IAS_100),
        "short": (0x183, IAS_100[:4]),
        "reserved": (0x600, IAS_100),
        "not-for-us": (0x800, IAS_100),
    }
    assert tuple(frames) == cf.KINDS
    for kind, frame in frames.items():
        assert codec.decode(*frame).kind == kind
    assert codec.counts == dict.fromkeys(cf.KINDS, 1)


@pytest.mark.parametrize("identifier", [0, *range(0x600, 0x6E1)])
def test_reserved_identifiers_are_dropped(identifier: int) -> None:
    assert CODEC.decode(identifier, bytes(8)).kind == "reserved"


def test_every_identifier_belongs_to_its_class() -> None:
    kinds = [CODEC.decode(identifier, bytes(8)).kind for identifier in range(0x800)]
    assert set(kinds[1:0x100]) == {"alarm"}
    assert set(kinds[0x100:0x600]) == {"value", "unknown"}
    assert kinds[0x100:0x600].count("value") == sum(1 for p in TABLE if p.type)
    assert set(kinds[0x6E1:0x7E0]) == {"node-specific"}
    assert set(kinds[0x7E0:]) == {"two-way"}


def test_a_dropped_frame_of_a_parameter_says_which_and_why() -> None:
    short = cf.Dropped("short", "Indicated Airspeed cut short: it needs 5 bytes", IAS)
    latitude = TABLE["Aircraft Position Latitude"]
    assert CODEC.decode(0x183, IAS_100[:4]) == short
    assert CODEC.decode(latitude.identifier, IAS_100) == cf.Dropped(
        "short", "Aircraft Position Latitude cut short: it needs 7 bytes", latitude
    )
    assert CODEC.decode(0x192, IAS_100) == cf.Dropped("unknown", "no such parameter")
    assert CODEC.decode(7, b"\1") == cf.Dropped("short", "alarm without its code")
    assert CODEC.decode(0x6E1, b"") == cf.Dropped("short", "node-specific message cut short")


@pytest.mark.parametrize(
    ("outcome", "sender"),
    [
        (cf.update(IAS, 100, 12), 12),
        (cf.update(IAS, 100, 12, meta="Vne"), 12),
        (cf.NodeAlarm(7, 1), 7),
        (cf.NodeStatus(5, 0, 0), 5),
        (cf.NodeReport(6, 9), 6),
        (cf.TwoWay(3, True), 0),
        (cf.Dropped("short", "cut short", IAS), 0),
    ],
)
def test_a_message_says_which_node_sent_it(outcome: cf.Outcome, sender: int) -> None:
    assert cf.sender_of(outcome) == sender


@pytest.mark.parametrize("parameter", [p for p in TABLE if p.type], ids=lambda p: f"{p.identifier:03X}")
def test_a_parameter_needs_all_its_bytes_and_no_more(parameter: table.Parameter) -> None:
    size = 3 + parameter.size
    for length in range(9):
        kind = CODEC.decode(parameter.identifier, bytes(length)).kind
        assert kind == ("value" if length >= size else "short")


@pytest.mark.parametrize("parameter", [p for p in TABLE if p.type], ids=lambda p: f"{p.identifier:03X}")
def test_only_meta_index_0_is_the_value(parameter: table.Parameter) -> None:
    for code in range(256):
        outcome = CODEC.decode(parameter.identifier, bytes((12, 0, code, 0, 0, 0, 0, 0)))
        meta = code >> 4
        assert outcome.kind == ("value" if not meta else "meta" if meta in parameter.metas else "undefined-meta")


@pytest.mark.parametrize("parameter", [p for p in TABLE if not p.type], ids=lambda p: f"{p.identifier:03X}")
def test_a_parameter_without_a_type_is_never_decoded_or_sent(parameter: table.Parameter) -> None:
    for length in range(9):
        outcome = CODEC.decode(parameter.identifier, bytes(length))
        assert isinstance(outcome, cf.Dropped)
        assert (outcome.kind, outcome.parameter) == ("unknown", parameter)
    with pytest.raises(BadValue, match="no type"):
        cf.update(parameter, 0, 1).encode()


def test_numbers_are_divided_to_the_nearest_float() -> None:
    for raw in range(65536):
        outcome = CODEC.decode(0x183, bytes((12, 0, 0)) + raw.to_bytes(2, "little"))
        assert isinstance(outcome, cf.Value)
        assert outcome.value == float(f"{raw // 10}.{raw % 10}")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_not_finite_has_failed(number: float) -> None:
    outcome = CODEC.decode(0x1C3, bytes(3) + struct.pack("<f", number))
    assert isinstance(outcome, cf.Value)
    assert outcome.failure


def test_each_flag_is_decoded_and_the_reserved_bit_is_ignored() -> None:
    for bits in range(16):
        outcome = CODEC.decode(0x183, bytes((12, 0, bits)) + IAS_100[3:])
        assert isinstance(outcome, cf.Value)
        flags = (outcome.annunciate, outcome.quality, outcome.failure)
        assert flags == (bool(bits & 1), bool(bits & 2), bool(bits & 4))
        assert outcome.encode().data[2] == bits & 7


def test_padding_is_removed_from_text() -> None:
    for raw in (b"OAK\0\0", b"OAK  ", b"OAK \0"):
        outcome = CODEC.decode(0x480, bytes((12, 0, 0)) + raw)
        assert isinstance(outcome, cf.Value)
        assert outcome.value == "OAK"


def test_any_bytes_like_data_is_decoded() -> None:
    expected = CODEC.decode(0x183, IAS_100)
    assert CODEC.decode(0x183, bytearray(IAS_100)) == CODEC.decode(0x183, memoryview(IAS_100)) == expected
    for identifier, raw in ((7, b"\1\2\3"), (0x6E1, b"\x09\x05\x02\x00\x01"), (0x7E3, b"\1\2")):
        assert CODEC.decode(identifier, bytearray(raw)) == CODEC.decode(identifier, raw)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_older_devices_use_other_identifiers() -> None:
    old = table.load(2023)
    assert old.revision == 2023
    names = {i: p.name for p in old if (i := p.identifier) not in TABLE or TABLE[i].name != p.name}
    assert names == {
        0x40A: "Wind Speed",
        0x40B: "Wind Direction",
        0x540: "Tire Pressure #1",
        0x541: "Tire Pressure #2",
        0x542: "Tire Pressure #3",
        0x543: "Tire Pressure #4",
        0x544: "Strut Pressure #1",
        0x545: "Flight Time",
        0x546: "Strut Pressure #3",
        0x547: "Strut Pressure #4",
    }
    assert [p.identifier for p in TABLE if p.identifier not in old] == [0x40C, 0x53E, 0x53F]
    assert cf.Codec(old).decode(0x40C, bytes(8)).kind == "unknown"


def test_the_current_table_matches_the_specification() -> None:
    assert table.load() is TABLE
    assert TABLE.revision == 2024
    assert len(TABLE) == 411
    assert sum(1 for p in TABLE if not p.type) == 46
    assert [TABLE[i].name for i in (0x40A, 0x53E, 0x545, 0x546)] == [
        "GPS Altitude",
        "Tire Pressure #1",
        "Strut Pressure #4",
        "Flight Time",
    ]
    assert all(p.identifier in cf.PARAMETERS for p in TABLE)
    assert all(p.size <= 5 for p in TABLE)


def test_parameters_are_found_by_identifier_and_by_name() -> None:
    assert TABLE[0x221] is TABLE["oil  pressure #2"]
    assert TABLE["Exhaust Gas Temp. Rate of Change #1"].identifier == 0x508
    with pytest.raises(KeyError, match="did you mean 'Oil Pressure #2'"):
        TABLE["Oil Presure #2"]
    with pytest.raises(table.UnknownParameter, match="0x700"):
        TABLE[0x700]


def test_an_unknown_revision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadValue, match="2023, 2024"):
        table.load(2022)


# -- encoding ----------------------------------------------------------------------------------------------------------


def refused(message: cf.Message) -> str:
    """The reason that `message` cannot be sent."""
    with pytest.raises(FixgwError) as caught:
        message.encode()
    assert isinstance(caught.value, BadValue)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Indicated Airspeed", 6553.6, "range"),
        ("Indicated Airspeed", -0.1, "range"),
        ("Indicated Airspeed", 1000.0, "range"),  # the wire could
        ("Indicated Airspeed", math.nan, "number"),
        ("Indicated Airspeed", math.inf, "number"),
        ("Indicated Airspeed", 10**400, "range"),
        ("Indicated Airspeed", "100", "type"),
        ("Indicated Airspeed", (100,), "type"),
        ("Pitch Angle", 90.01, "range"),
        ("Indicated Altitude", 2**31, "range"),
        ("Aircraft Position Latitude", 90.5, "range"),
        ("Aircraft Position Latitude", math.nan, "number"),
        ("Aircraft Position Latitude", 1e300, "range"),
        ("Time", (12, 0, 0), "type"),
        ("Time", (12, 0, 256, 0), "range"),
        ("Time", 12, "type"),
        ("Aircraft Identifier", "N12345", "range"),
        ("Aircraft Identifier", "N€", "text"),
        ("Aircraft Identifier", 5, "type"),
        ("Flap Control Switches #1", 256, "range"),
        ("Flap Control Switches #1", -1, "range"),
    ],
)
def test_values_that_cannot_be_sent_are_refused(name: str, value: Any, reason: str) -> None:
    assert refused(cf.update(TABLE[name], value, 12)) == reason
    assert refused(cf.ParameterSet(12, TABLE[name], 0, value)) == reason


def test_a_refusal_gives_the_range() -> None:
    with pytest.raises(BadValue, match=r"Indicated Airspeed: 1000 knots is outside its range, 0 to 999\.9"):
        cf.update(IAS, 1000, 12).encode()
    with pytest.raises(BadValue, match=r"6553\.6 knots is outside what UINT can carry, 0 to 6553\.5"):
        cf.update(IAS, 6553.6, 12).encode(strict=False)


def test_a_failed_value_need_not_be_in_range() -> None:
    assert cf.update(IAS, 6553.5, 12, failure=True).encode().data == b"\x0c\x00\x04\xff\xff"
    frame = cf.update(TABLE[0x1C3], math.nan, 12, failure=True).encode()
    assert frame.data == bytes.fromhex("0c00040000c07f")


def test_a_heading_just_short_of_north_is_sent_as_north() -> None:
    for name in ("Heading", "True Ground Track", "Selected Course"):
        assert cf.update(TABLE[name], 359.97, 12).encode().data[3:] == b"\0\0"
        assert cf.update(TABLE[name], 359.94, 12).encode().data[3:] == (3599).to_bytes(2, "little")
        assert refused(cf.update(TABLE[name], 360.0, 12)) == "range"


def test_meta_data_is_named_or_numbered_and_must_be_defined() -> None:
    assert cf.update(IAS, 140, 12, meta="vne") == cf.update(IAS, 140, 12, meta=5)
    assert cf.update(IAS, 140, 12, meta=5).encode() == (0x183, bytes.fromhex("0c00507805"))
    for meta in (13, "Vle", 16, -1):
        with pytest.raises(BadValue, match="no meta data"):
            cf.update(IAS, 140, 12, meta=meta)
    assert refused(cf.Value(IAS, 12, 0, 0x50, 140)) == "range"
    assert refused(cf.Meta(IAS, 12, 0, 0, 140)) == "range"
    assert refused(cf.UndefinedMeta(IAS, 12, 0, 0xD0, 140)) == "range"


@pytest.mark.parametrize(
    "message",
    [
        cf.update(IAS, 100, 0),
        cf.update(IAS, 100, 256),
        cf.update(IAS, 100, 12, index=256),
        cf.NodeAlarm(0, 1),
        cf.NodeAlarm(256, 1),
        cf.NodeAlarm(1, 65536),
        cf.NodeAlarm(1, 1, bytes(7)),
        cf.TwoWay(16, False),
        cf.TwoWay(0, False, bytes(9)),
        cf.NodeIdentification(0, 5),
        cf.NodeIdentification(256, 5),
        cf.NodeIdentification(1, 256),
        cf.BitRateSet(1, 5, 0),
        cf.BitRateSet(1, 5, 5),
        cf.NodeIdSet(1, 5, 0),
        cf.NodeIdSet(1, 5, 256),
        cf.NodeIdSet(1, 0, 6),  # all nodes with one id
        cf.DisableParameter(1, 5, 0xFF),
        cf.DisableParameter(1, 5, 0x600),
        cf.EnableParameter(1, 0, 0x183),
        cf.UpdateFirmware(1, 5, 65536, 0),
        cf.UpdateFirmware(1, 5, 1, 16),
        cf.TwoWayConnection(1, 5, 16, 0),
        cf.TwoWayConnection(1, 5, 1, -1),
        cf.ConfigurationSet(1, 5, 65536, b""),
        cf.ConfigurationSet(1, 5, 1, bytes(5)),
        cf.ConfigurationQuery(1, 5, -1),
        cf.NodeIdentity(1, 0, 1, 1, 1),
        cf.NodeIdentity(1, 5, 256, 1, 1),
        cf.NodeIdentity(1, 5, 1, 1, 1 << 24),
        cf.Answer(1, 0, 3),
        cf.Answer(1, 5, 0),
        cf.Answer(1, 5, 5),
        cf.Answer(1, 5, 6),
        cf.Answer(1, 5, 20),
        cf.Answer(1, 5, 3, 256),
        cf.Answer(1, 5, 2, 1),
        cf.Answer(1, 5, 3, 0, b"x"),
        cf.Answer(1, 5, 10, 1, b"x"),
        cf.Answer(1, 5, 10, 0, bytes(5)),
        cf.NodeStatus(1, 0, 65536),
        cf.NodeStatus(1, 2, 4000.0),
        cf.NodeStatus(1, 10, b""),
        cf.NodeStatus(1, 255, b""),
        cf.NodeStatus(1, 65536, b""),
        cf.NodeStatus(1, 256, bytes(6)),
        cf.NodeDescription(1, 5, 65536, bytes(4)),
        cf.NodeDescription(1, 5, 0, bytes(3)),
        cf.NodeDescription(1, 0, 0, bytes(4)),
        cf.ParameterSet(1, IAS, 256, 100),
        cf.UnknownParameterSet(1, 0x192, 0, b""),
        cf.ControlMessage(1, 19),
        cf.ControlMessage(1, 256),
        cf.ControlMessage(1, 20, bytes(8)),
    ],
    ids=repr,
)
def test_messages_that_the_protocol_does_not_allow_are_refused(message: cf.Message) -> None:
    assert refused(message) == "range"


ANY, BYTES = (0, 255), (0, 0xFFFF)  # a byte, and two of them
SOURCE, SOME, ALL = {"source": (1, 255)}, {"destination": (1, 255)}, {"destination": ANY}
DATA = b"\1\2\3\4\5\6\7\x08"


LIMITS = pytest.mark.parametrize(
    ("message", "limits"),
    [
        (cf.update(IAS, 100, 12), {"node": (1, 255), "index": ANY}),
        (cf.update(IAS, 100, 12, meta="Vne"), {"node": (1, 255), "index": ANY}),
        (cf.NodeAlarm(1, 1), {"node": (1, 255), "code": BYTES, "data": (DATA[:0], DATA[:6])}),
        (cf.TwoWay(1, False), {"channel": (0, 15), "response": (False, True), "data": (DATA[:0], DATA)}),
        (cf.NodeIdentification(1, 5), SOURCE | ALL),
        (cf.BitRateSet(1, 5, 2), SOURCE | ALL | {"code": (1, 4)}),
        (cf.NodeIdSet(1, 5, 6), SOURCE | SOME | {"node": (1, 255)}),
        (cf.DisableParameter(1, 5, 0x183), SOURCE | ALL | {"parameter_id": (0x100, 0x5FF)}),
        (cf.EnableParameter(1, 5, 0x183), SOURCE | SOME | {"parameter_id": (0x100, 0x5FF)}),
        (cf.NodeReport(1, 5), SOURCE | ALL),
        (cf.UpdateFirmware(1, 5, 1, 1), SOURCE | SOME | {"version": BYTES, "channel": (0, 15)}),
        (cf.TwoWayConnection(1, 5, 1, 1), SOURCE | SOME | {"channel": (0, 15), "type": BYTES}),
        (cf.ConfigurationSet(1, 5, 1, b"x"), SOURCE | SOME | {"key": BYTES, "data": (DATA[:0], DATA[:4])}),
        (cf.ConfigurationQuery(1, 5, 1), SOURCE | SOME | {"key": BYTES}),
        (
            cf.NodeIdentity(1, 5, 1, 1, 1),
            SOURCE | SOME | {"device": ANY, "firmware": ANY, "specification": ANY, "model": (0, 0xFFFFFF)},
        ),
        (cf.Answer(1, 5, 9), SOURCE | SOME | {"error": ANY}),
        (cf.Answer(1, 5, 10), SOURCE | SOME | {"data": (DATA[:0], DATA[:4])}),
        (cf.NodeStatus(1, 300, b"x"), SOURCE | {"type": (256, 0xFFFF), "value": (DATA[:0], DATA[:5])}),
        *((cf.NodeStatus(1, kind, 1), SOURCE | {"value": (0, 0xFFFFFFFF)}) for kind in (3, 4, 5, 6, 7, 8)),
        *((cf.NodeStatus(1, kind, 1.0), {"value": (-3276.8, 3276.7)}) for kind in (1, 2)),
        (cf.NodeStatus(1, 9, 1), {"value": BYTES}),
        (cf.NodeDescription(1, 5, 1, b"abcd"), SOURCE | SOME | {"packet": BYTES}),
        (cf.ParameterSet(1, IAS, 1, 100.0), SOURCE | {"index": ANY, "value": (0.0, 999.9)}),
        (cf.ControlMessage(1, 200, b"x"), SOURCE | {"control": (20, 255), "data": (DATA[:0], DATA[:7])}),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, cf.Message) else "",
)


def beyond(low: Any, high: Any) -> tuple[Any, ...]:
    """What is just outside these limits."""
    if isinstance(high, bytes):
        return ((DATA + b"\t")[: len(high) + 1],)
    step = 0.1 if isinstance(high, float) else 1
    return () if isinstance(high, bool) else (low - step, high + step)


@LIMITS
def test_what_is_just_beyond_the_limits_of_the_protocol_is_refused(
    message: cf.Message, limits: dict[str, tuple[Any, Any]]
) -> None:
    for field, ends in limits.items():
        for value in beyond(*ends):
            assert refused(msgspec.structs.replace(message, **{field: value})) == "range", (field, value)


@LIMITS
def test_what_the_protocol_allows_arrives_as_it_was_sent(
    message: cf.Message, limits: dict[str, tuple[Any, Any]]
) -> None:
    for field, ends in limits.items():
        for value in ends:
            sent = msgspec.structs.replace(message, **{field: value})
            frame = sent.encode()
            assert CODEC.decode(frame.arbitration_id, frame.data) == sent


def test_node_status_takes_numbers_or_bytes_according_to_its_type() -> None:
    assert refused(cf.NodeStatus(1, 0, b"\0\0")) == "type"
    assert refused(cf.NodeStatus(1, 256, 5)) == "type"


@pytest.mark.parametrize(
    ("type", "name", "datatype", "divisor", "units"),
    [
        (0, "Node Status", "WORD", 1, ""),
        (1, "Internal Temperature", "INT", 10, "°C"),
        (2, "Supply Voltage", "INT", 10, "V"),
        (3, "CAN Transmit Frame Counter", "UDINT", 1, ""),
        (4, "CAN Receive Frame Counter", "UDINT", 1, ""),
        (5, "CAN Transmit Error Counter", "UDINT", 1, ""),
        (6, "CAN Receive Error Counter", "UDINT", 1, ""),
        (7, "CAN Receive Overrun Counter", "UDINT", 1, ""),
        (8, "Serial Number", "UDINT", 1, ""),
        (9, "Quorum", "UINT", 1, ""),
    ],
)
def test_a_node_status_is_the_one_of_the_specification(
    type: int, name: str, datatype: str, divisor: int, units: str
) -> None:
    field = cf.NodeStatus.FIELDS[type]
    assert cf.NodeStatus(1, type, 0).name == name
    assert (field.type, field.divisor, field.units) == (datatype, divisor, units)


def test_a_node_status_without_a_name_says_who_defines_it() -> None:
    names = {type: cf.NodeStatus(1, type, b"").name for type in (10, 255, 256, 0xFFFF)}
    assert names == {10: "reserved 10", 255: "reserved 255", 256: "device 256", 0xFFFF: "device 65535"}


# -- node-specific messages --------------------------------------------------------------------------------------------


def nsm(source: int, data: str) -> cf.Outcome:
    return CODEC.decode(0x6E0 + source, bytes.fromhex(data))


def test_a_broadcast_must_be_answered_only_where_the_protocol_says_so() -> None:
    obliged = {cls.control for cls in REQUESTS.values() if cls(1, 0, *[1] * (len(cls.__struct_fields__) - 2)).is_for(9)}
    assert obliged == {0, 1, 3, 5}
    assert cf.NodeIdSet(1, 9, 3).is_for(9)
    assert not cf.NodeReport(1, 8).is_for(9)


def test_an_ambiguous_frame_is_a_request_that_can_be_read_as_an_answer() -> None:
    refusal = nsm(5, "010101")  # as some devices refuse a bit rate
    assert refusal == cf.BitRateSet(5, 1, 1)
    assert refusal.as_answer() == cf.Answer(5, 1, 1, 1)
    query = nsm(5, "0a010012")
    assert query == cf.ConfigurationQuery(5, 1, 0x1200)
    assert query.as_answer() == cf.Answer(5, 1, 10, 0, b"\x12")
    padded = nsm(5, "0301000000000000")
    assert padded == cf.DisableParameter(5, 1, 0)
    assert padded.as_answer() == cf.Answer(5, 1, 3, 0)


@pytest.mark.parametrize("request_", [r for r in REQUESTS.values() if r.control not in (0, 5)])
@pytest.mark.parametrize("error", [0, 2, 0xFF])
def test_an_answer_padded_to_eight_bytes_can_be_read_as_one(request_: type[cf.Request], error: int) -> None:
    frame = nsm(5, bytes((request_.control, 1, error)).ljust(8, b"\0").hex())
    answer = frame if isinstance(frame, cf.Answer) else frame.as_answer()  # type: ignore[union-attr]
    assert (answer.source, answer.destination, answer.control, answer.error) == (5, 1, request_.control, error)
    assert answer.success is (error == 0)


def test_each_code_of_a_bit_rate_has_its_rate() -> None:
    rates = [cf.BitRateSet(1, 5, code).kbps for code in (0, 1, 2, 3, 4, 5)]
    assert rates == [None, 125, 250, 500, 1000, None]


def test_users_may_define_the_control_codes_from_128() -> None:
    assert [cf.ControlMessage(1, control).reserved for control in (20, 127, 128, 255)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("0101", cf.Answer(5, 1, 1, 0)),
        ("0101ff", cf.Answer(5, 1, 1, 0xFF)),
        ("010109", cf.BitRateSet(5, 1, 9)),
        ("0201", cf.Answer(5, 1, 2, 0)),  # without its zero
        ("020100", cf.Answer(5, 1, 2, 0)),
        ("020107", cf.NodeIdSet(5, 1, 7)),
        ("0000000000000000", cf.NodeIdentification(5, 0)),  # padded
        ("0001010203", cf.NodeIdentity(5, 1, 2, 3, 0)),  # not padded
        ("0001010203040506", cf.NodeIdentity(5, 1, 2, 3, 0x060504)),
        ("0501000000", cf.NodeReport(5, 1)),
        ("0703341205", cf.UpdateFirmware(5, 3, 0x1234, 5)),
        ("070300", cf.Answer(5, 3, 7, 0)),
        ("0a0102", cf.Answer(5, 1, 10, 2)),
        ("0a0100", cf.Answer(5, 1, 10, 0)),
        ("0a01000102030400", cf.Answer(5, 1, 10, 0, b"\1\2\3\4")),
        ("0a01010000", cf.Answer(5, 1, 10, 1)),
        ("0a01020000", cf.Answer(5, 1, 10, 2)),
        ("0a01030000", cf.ConfigurationQuery(5, 1, 3)),  # there is no error 3
        ("0a01341200000000", cf.ConfigurationQuery(5, 1, 0x1234)),
        ("060001aabb", cf.NodeStatus(5, 256, b"\xaa\xbb")),
        ("060a00", cf.NodeStatus(5, 10, b"")),
        ("14", cf.ControlMessage(5, 20)),
        ("ff", cf.ControlMessage(5, 255)),
    ],
)
def test_odd_frames_of_real_devices_are_understood(data: str, expected: cf.Message) -> None:
    assert nsm(5, data) == expected


CUT_SHORT = """
    00 01 02 03 0301 04 0401 05 06 0600 060000 06000000 060300000000 07 0701 07010203 08 0801 08010203 09 0901 0a 0a01
    0b 0b010000 0b010000414243 0c 0c9001 0c9001e1 0c9201 13c0fc94
"""


@pytest.mark.parametrize("data", CUT_SHORT.split())
def test_node_specific_messages_cut_short_are_dropped(data: str) -> None:
    assert nsm(5, data).kind == "short"


def test_the_index_of_a_parameter_set_is_packed() -> None:
    vhf = TABLE[0x4C0]
    assert cf.ParameterSet(2, vhf, 33, 118.0).encode() == (0x6E2, bytes.fromhex("0dc00c182e"))
    for index in range(256):
        message = cf.ParameterSet(2, vhf, index, 118.0)
        assert CODEC.decode(*message.encode()) == message


def test_a_parameter_set_for_a_parameter_without_a_type_is_unknown() -> None:
    for identifier in (0x192, 0x494, 0x600, 0x7FF, 0):
        outcome = CODEC.decode(0x6E5, bytes((12, *identifier.to_bytes(2, "little"), 1, 2)))
        assert outcome == cf.UnknownParameterSet(5, identifier, 0, b"\1\2")
        assert outcome.kind == "unknown"


# -- descriptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "A", "ABC", "ABCD", "MakerPlane EFIS 7.0", "x" * 1000])
def test_a_description_arrives_as_it_was_sent(text: str) -> None:
    packets = list(cf.split_description(text, 5, 1))
    descriptions = cf.Descriptions()
    results = [descriptions.feed(CODEC.decode(*packet.encode())) for packet in packets]  # type: ignore[arg-type]
    assert results == [None] * (len(packets) - 1) + [text]
    assert descriptions.stray == 0


def test_descriptions_may_be_interleaved_and_packets_may_repeat() -> None:
    descriptions = cf.Descriptions()
    done = []
    for pair in zip(
        cf.split_description("one two three", 5, 1), cf.split_description("four five six", 6, 1), strict=True
    ):
        for packet in pair:
            done += [descriptions.feed(packet), descriptions.feed(packet)]
    assert [text for text in done if text] == ["one two three", "four five six"]
    assert descriptions.stray == 2, "the last packet of each, which came again after the end"


def test_another_packet_with_the_same_number_spoils_the_description() -> None:
    descriptions = cf.Descriptions()
    packets = list(cf.split_description("one two three", 5, 1))
    other = cf.NodeDescription(5, 1, 1, b"what")
    assert [descriptions.feed(p) for p in (*packets[:2], other, *packets[2:])] == [None] * 5
    assert descriptions.stray == 3


def test_a_description_starts_again_with_its_first_packet() -> None:
    descriptions = cf.Descriptions()
    begun, packets = cf.split_description("a long name", 5, 1), list(cf.split_description("one two", 5, 1))
    assert [descriptions.feed(p) for p in (next(begun), next(begun), *packets)] == [None, None, None, "one two"]
    assert descriptions.stray == 0


def test_letters_that_are_not_ascii_are_marked() -> None:
    assert cf.Descriptions().feed(cf.NodeDescription(5, 1, 0, b"a\xffb\0")) == "a\ufffdb"


def test_a_description_with_a_packet_missing_never_arrives() -> None:
    descriptions = cf.Descriptions()
    packets = list(cf.split_description("one two three", 5, 1))
    assert [descriptions.feed(p) for p in (*packets[:1], *packets[2:])] == [None] * 3
    assert descriptions.stray == 2
    assert [descriptions.feed(p) for p in packets][-1] == "one two three"


def test_descriptions_cost_bounded_memory() -> None:
    descriptions = cf.Descriptions(max_length=10, max_count=3)
    endless = [cf.NodeDescription(5, 1, n, b"abcd") for n in range(1000)]
    assert [text for p in endless if (text := descriptions.feed(p))] == ["abcdabcdab"]
    for source in range(1, 256):
        descriptions.feed(cf.NodeDescription(source, 1, 0, b"abcd"))
    assert len(descriptions._parts) == 3


def test_a_description_ends_with_the_packet_that_fills_it() -> None:
    descriptions = cf.Descriptions(max_length=8)
    assert [descriptions.feed(cf.NodeDescription(5, 1, n, b"abcd")) for n in (0, 1)] == [None, "abcdabcd"]


def test_the_oldest_of_too_many_descriptions_is_dropped() -> None:
    descriptions = cf.Descriptions(max_count=2)
    split = [list(cf.split_description(f"node {source}", source, 1)) for source in (5, 6, 7)]
    first, last = zip(*split, strict=True)
    assert [descriptions.feed(packet) for packet in (*first, *last)] == [None] * 4 + ["node 6", "node 7"]


def test_a_description_that_starts_again_drops_no_other() -> None:
    descriptions = cf.Descriptions(max_count=2)
    other, packets = (list(cf.split_description(f"node {source}", source, 1)) for source in (5, 6))
    assert [descriptions.feed(p) for p in (other[0], packets[0], packets[0], other[1])] == [None] * 3 + ["node 5"]


def test_every_node_of_a_bus_may_describe_itself_at_once_in_a_thousand_characters() -> None:
    """More is not shown to anybody; it is only what a broken node may occupy."""
    descriptions = cf.Descriptions()
    text = "x" * 1100
    done = [
        whole
        for packets in zip(*(cf.split_description(text, node, 1) for node in range(1, 256)), strict=True)
        for packet in packets
        if (whole := descriptions.feed(packet))
    ]
    assert done == ["x" * 1024] * 255


def test_text_that_cannot_be_sent_is_refused() -> None:
    longest = list(cf.split_description("x" * 262143, 1, 2))  # with its end, all that 65536 packets hold
    assert (longest[0].text, longest[-1].packet, longest[-1].text) == (b"xxxx", 65535, b"xxx\0")
    for text in ("é", "a\0b", "a\nb", "x" * 262144):
        with pytest.raises(BadValue):
            list(cf.split_description(text, 5, 1))
