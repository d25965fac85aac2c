"""The CAN-FIX codec against worked frames (tests/data/canfix.json), and what those do not say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fixgw.drivers.canfix import protocol as cf
from fixgw.errors import BadValue

CODEC = cf.Codec()
TABLE = CODEC.table
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "canfix.json").read_text())["vectors"]

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
# How the vectors call fields that have shorter names here.
FIELDS = {"code": "rate_code", "type": "connection_type", "destination": "dest", "new_node": "node"}
DROPPED = {
    "invalid": {"short", "reserved"},
    "ignored": {"not-for-us"},
    "unknown_parameter": {"unknown"},
    "untyped_parameter": {"unknown"},
}


def plain(value: Any) -> Any:
    """`value` as the vectors write it."""
    if isinstance(value, tuple):
        return list(value)
    return value.hex() if isinstance(value, bytes) else value


def meaning_of(outcome: cf.Outcome) -> dict[str, Any]:
    """`outcome` in the words of the vectors."""
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
            fields = {FIELDS.get(f, f): plain(getattr(outcome, f)) for f in outcome.__struct_fields__}
            if isinstance(outcome, cf.BitRateSet):
                fields["kbps"] = outcome.kbps
            return {"kind": NAMES[type(outcome)], "role": "request", **fields}
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
    """The message that means `meaning`."""
    m = dict(meaning)
    kind, value = m["kind"], m.get("value")
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
    """Whether `outcome` says what a vector expects, as far as the vector goes."""
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
        if expected["type"] == "FLOAT":  # "NaN", "Infinity": the specification is silent, here it is a failure
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
    # Some of the worked frames go to the ends of the wire type, beyond the parameter's own range.
    loose = {"strict": False} if isinstance(message, (cf.ParameterUpdate, cf.ParameterSet)) else {}
    assert message.encode(**loose) == (vector["frame"]["id"], bytes.fromhex(vector["frame"]["data"]))
