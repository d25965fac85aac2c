"""CAN-FIX as text: parameter names, messages in words, values to text and back. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.table import Field, Parameter, Payload, Table, UnknownParameter
from fixgw.drivers.links.can.frame import EXTENDED, Frame, decode_error
from fixgw.errors import BadValue

__all__ = [
    "as_dict",
    "describe_bus_error",
    "describe_device",
    "describe_error",
    "describe_message",
    "describe_status",
    "find_parameter",
    "flag_names",
    "format_destination",
    "format_identifier",
    "format_node",
    "format_value",
    "key_of",
    "matches_identifier",
    "matches_parameter",
    "name_of",
    "parse_number",
    "parse_value",
    "title_of",
    "to_json",
]

#: The meaning of each device type. Where the specification defines only a range, the meaning of the range.
_DEVICES: tuple[tuple[range, str], ...] = (
    (range(0x31, 0x32), "AHRS"),
    (range(0x32, 0x33), "air data"),
    (range(0x37, 0x38), "air data"),
    (range(0x35, 0x36), "angle of attack"),
    (range(0x36, 0x37), "magnetometer"),
    (range(0x38, 0x39), "outside air temperature"),
    (range(0x39, 0x3A), "radar altimeter"),
    (range(0x91, 0x92), "primary flight display"),
    (range(0x95, 0x96), "annunciator"),
    (range(0xB5, 0xB6), "USB adapter"),
    (range(0xB6, 0xB7), "CAN-FIX router"),
    (range(0xC1, 0xC2), "GPS"),
    (range(0xC4, 0xC5), "ADS-B"),
    (range(0xFE, 0xFF), "simulation"),
    (range(0xFF, 0x100), "configuration software"),
    (range(0x09), "flight control inputs"),
    (range(0x10, 0x14), "engine control inputs"),
    (range(0x20, 0x24), "system inputs"),
    (range(0x30, 0x3A), "flight data"),
    (range(0x40, 0x4D), "engine data"),
    (range(0x60, 0x70), "flight controls or servos"),
    (range(0x80, 0x85), "engine controls"),
    (range(0x90, 0xA0), "display"),
    (range(0xA0, 0xA6), "device interface"),
    (range(0xB0, 0xB7), "protocol converter"),
    (range(0xC0, 0xC5), "navigation"),
    (range(0xD0, 0xD9), "miscellaneous I/O"),
)


def describe_device(type: int) -> str:
    """The kind of device that reports `type`, 0..255."""
    return next((name for types, name in _DEVICES if type in types), "unknown")


def format_identifier(frame: Frame) -> str:
    """The identifier in hexadecimal, with as many digits as its kind has."""
    return f"{frame.arbitration_id:0{8 if frame.flags & EXTENDED else 3}X}"


def format_node(number: int) -> str:
    return f"{number} (0x{number:02X})"


def format_destination(number: int) -> str:
    """A destination, as part of a sentence."""
    return f"node {format_node(number)}" if number else "all"


# -- parameters --------------------------------------------------------------------------------------------------------


@cache
def _names(table: Table) -> tuple[dict[str, tuple[Parameter, int]], dict[tuple[int, int], str]]:
    """Maps keys in lower case to parameter and index, and identifier and index back to keys."""
    found: dict[str, tuple[Parameter, int]] = {}
    back: dict[tuple[int, int], str] = {}
    for parameter in table:
        for name, index in mapping.keys_of(parameter):
            found.setdefault(name.lower(), (parameter, index))
            back.setdefault((parameter.identifier, index), name)
    return found, back


def key_of(table: Table, parameter: Parameter, index: int = 0) -> str:
    """The gateway's key for a parameter, such as ``"EGT13"``; empty when there is none."""
    return _names(table)[1].get((parameter.identifier, index), "")


def title_of(parameter: Parameter, index: int = 0, meta: int = 0) -> str:
    """The parameter's full name, with instance and meta data."""
    name = parameter.name
    if index or parameter.index_name == "Cylinder":
        name += f", cylinder {index + 1}" if parameter.index_name == "Cylinder" else f", index {index}"
    return f"{name}, {parameter.metas.get(meta, f'undefined meta data {meta}')}" if meta else name


def name_of(table: Table, outcome: cf.Outcome) -> str:
    """The key, or key and aux name (``"IAS.Vne"``), that a parameter update sets; empty when there is none."""
    if not isinstance(outcome, cf.ParameterUpdate):
        return ""
    found = key_of(table, outcome.parameter, outcome.index)
    if not found or not outcome.meta:
        return found
    meta = outcome.meta_name or str(outcome.meta)
    return f"{found}.{mapping.METAS.get(meta, meta)}"


def find_parameter(table: Table, word: str) -> tuple[Parameter, int]:
    """The parameter that `word` names, and its index.

    `word` is an identifier (``0x183``), a name from the table, a database key (``EGT13``), or one of the
    specification's short names if only one parameter has it. Raises `UnknownParameter`, or `BadValue` when `word` is
    ambiguous.
    """
    number = _number(word)
    if number is not None:
        parameter = table.get(number)
        if parameter is None and word.isdecimal() and (guess := table.get(int(word, 16))):
            raise BadValue(word, f"not a CAN-FIX parameter; 0x{guess.identifier:03X} is {guess.name}", "range")
        return table[number] if parameter is None else parameter, 0
    parameter = table.get(word)
    if parameter is not None:
        return parameter, 0
    keys = _names(table)[0]
    if word.lower() in keys:
        return keys[word.lower()]
    several = [p for p in table if word.upper() in p.fix_ids]
    if len(several) == 1:
        return several[0], 0
    if several:
        listed = ", ".join(f"0x{p.identifier:03X} {p.name}" for p in several)
        raise BadValue(word, f"ambiguous: it could be {listed}", "range")
    raise UnknownParameter(word, [*(p.name for p in table), *_names(table)[1].values()])


def _number(word: str) -> int | None:
    try:
        return int(word, 0)
    except ValueError:
        return None


def _range(pattern: str) -> range | None:
    """The identifiers of a numeric pattern; None for other patterns."""
    low, _, high = pattern.partition("-")
    first, last = _number(low), _number(high or low)
    return None if first is None or last is None else range(first, last + 1)


def matches_identifier(pattern: str, identifier: int) -> bool:
    """Whether a numeric pattern includes `identifier`, of any kind of message."""
    return identifier in (_range(pattern) or ())


def matches_parameter(table: Table, parameter: Parameter, index: int, pattern: str) -> bool:
    """Whether a parameter matches `pattern`.

    A pattern is an identifier, a range of identifiers (0x200-0x27F), a name or key with wildcards, or part of a name or
    key.
    """
    if identifiers := _range(pattern):
        return parameter.identifier in identifiers
    wanted = pattern.lower()
    names = [n.lower() for n in (parameter.name, key_of(table, parameter, index), *parameter.fix_ids)]
    if any(c in wanted for c in "*?["):
        return any(fnmatchcase(name, wanted) for name in names)
    return any(wanted in name for name in names)


def check_pattern(table: Table, pattern: str) -> None:
    """Raise `UnknownParameter` when `pattern` is not numeric and matches nothing in the table."""
    if _range(pattern):
        return
    keys = _names(table)[1]
    places = keys.keys() | {(parameter.identifier, 0) for parameter in table}
    if not any(matches_parameter(table, table[identifier], index, pattern) for identifier, index in places):
        raise UnknownParameter(pattern, [*(p.name for p in table), *keys.values()])


# -- values ------------------------------------------------------------------------------------------------------------

_FLAGS = ((cf.ANNUNCIATE, "annunciate"), (cf.QUALITY, "bad"), (cf.FAILURE, "fail"))


def flag_names(code: int) -> list[str]:
    """The flags set in a function code, by the gateway's names."""
    return [name for bit, name in _FLAGS if code & bit]


def format_value(parameter: Parameter, content: Payload, units: bool = True) -> str:
    """`content` as text, to the wire's resolution; times as 15:04:05.678, dates as 2025-07-21, switches as bits."""
    if isinstance(content, str):
        return repr(content)
    if parameter.format.startswith("Year") and isinstance(content, tuple):
        return "{:04}-{:02}-{:02}".format(*content)
    if parameter.format.startswith("Hour") and isinstance(content, tuple):
        return ":".join(f"{part:02}" for part in content[:3]) + "".join(f".{part:03}" for part in content[3:])
    if parameter.parts and set(parameter.parts) <= {"BYTE", "WORD"}:
        numbers = content if isinstance(content, tuple) else (content,)
        return " ".join(f"{n:0{8 if t == 'BYTE' else 16}b}" for n, t in zip(numbers, parameter.parts, strict=True))
    if isinstance(content, tuple):
        return " ".join(map(str, content))
    if isinstance(content, float):
        text = f"{content:.{len(str(parameter.divisor)) - 1}f}" if parameter.divisor > 1 else f"{content:.7g}"
    else:
        text = str(content)
    return f"{text} {parameter.units}" if units and parameter.units else text


def parse_value(parameter: Parameter, text: str) -> Payload:
    """Parse a value as typed by a person. Raises `BadValue`.

    Commas, spaces or colons separate several numbers; bits may be written as 0b101.
    """
    if parameter.text:
        return text
    if not parameter.type:
        parameter.write(0)  # raises
    parts = re.split(r"[,:\s]+", text.strip())
    if parameter.format.startswith("Year") and re.fullmatch(r"\d+-\d+-\d+", text.strip()):
        parts = text.strip().split("-")
    elif parameter.format.startswith("Hour") and len(parameter.parts) == 4 and len(parts) == 3:
        seconds, _, fraction = parts[2].partition(".")
        parts[2:] = [seconds, fraction[:3].ljust(3, "0")]
    if len(parts) != len(parameter.parts):
        raise BadValue(parameter.name, f"{text!r} is not {_amount(parameter)} ({parameter.type})")
    return (
        parse_number(parameter, parts[0])
        if len(parts) == 1
        else tuple(int(parse_number(parameter, part)) for part in parts)
    )


def _amount(parameter: Parameter) -> str:
    return "one number" if len(parameter.parts) == 1 else f"{len(parameter.parts)} numbers"


def parse_number(field: Field, text: str) -> int | float:
    """Parse one number of a field as typed by a person. Raises `BadValue`."""
    whole = field.divisor == 1 and field.type != "FLOAT"
    if re.fullmatch(r"[01]{8}|[01]{16}", text) and set(field.parts) & {"BYTE", "WORD"}:  # as `format_value` shows it
        return int(text, 2)
    try:
        return (int(text) if text.isdecimal() else int(text, 0)) if whole else float(text)
    except ValueError:
        raise BadValue(field.name, f"{text!r} is not a {'whole ' * whole}number") from None


# -- messages ----------------------------------------------------------------------------------------------------------

#: The meaning of error codes in answers, by control code.
ERRORS: dict[int, dict[int, str]] = {
    cf.DisableParameter.control: {1: "not one of its parameters, or not permitted"},
    cf.EnableParameter.control: {1: "not one of its parameters, or not permitted"},
    cf.ConfigurationSet.control: {1: "unknown key", 2: "read-only", 3: "out of range", 4: "wrong type"},
    cf.ConfigurationQuery.control: {1: "unknown key", 2: "bad value"},
}
_ANSWERED = {
    cf.BitRateSet.control: "bit rate",
    cf.NodeIdSet.control: "node id",
    cf.DisableParameter.control: "disable",
    cf.EnableParameter.control: "enable",
    cf.UpdateFirmware.control: "firmware update",
    cf.TwoWayConnection.control: "two-way connection",
    cf.ConfigurationSet.control: "configuration",
    cf.ConfigurationQuery.control: "configuration",
}


def describe_error(answer: cf.Answer) -> str:
    """The reason that a request failed."""
    return ERRORS.get(answer.control, {}).get(answer.error, f"error {answer.error}")


def describe_status(status: cf.NodeStatus) -> str:
    content = status.value
    if status.type == 0 and isinstance(content, int):
        return f"errors 0x{content:04X}" if content else "good"
    if isinstance(content, bytes):
        return f"{status.name}: {_hex(content)}"
    return f"{status.name} {content!s} {status.FIELDS[status.type].units}".rstrip()


def describe_message(table: Table, outcome: cf.Outcome) -> str:
    """The meaning of any frame in one line, without its sender."""
    if isinstance(outcome, cf.ParameterUpdate):
        words = format_value(outcome.parameter, outcome.value)
        return ", ".join(
            [f"{title_of(outcome.parameter, outcome.index, outcome.meta)}: {words}", *flag_names(outcome.code)]
        )
    if isinstance(outcome, cf.Request):
        return f"{_describe_request(table, outcome)}, to {format_destination(outcome.destination)}"
    if isinstance(outcome, cf.Answer):
        result = describe_error(outcome) if outcome.error else f"done {_hex(outcome.data)}".rstrip()
        return f"{_ANSWERED.get(outcome.control, 'answer')}: {result}, to {format_destination(outcome.destination)}"
    if isinstance(outcome, cf.NodeSpecific):
        return _describe_announcement(outcome)
    if isinstance(outcome, cf.NodeAlarm):
        return f"ALARM {outcome.code} {_hex(outcome.data)}".rstrip()
    if isinstance(outcome, cf.TwoWay):
        return f"channel {outcome.channel}, {'response' if outcome.response else 'request'}: {_hex(outcome.data)}"
    assert isinstance(outcome, cf.Dropped)
    return outcome.reason


def describe_bus_error(frame: Frame) -> str:
    """The meaning of an error frame."""
    error = decode_error(frame.arbitration_id, frame.data)
    state = f"the bus is {error.state}" if error.state else ""
    return ", ".join(filter(None, (state, *error.events))) or "error frame"


def _describe_request(table: Table, request: cf.Request) -> str:
    match request:
        case cf.NodeIdentification():
            return "identify yourself"
        case cf.BitRateSet():
            if request.kbps is None:
                return f"change to unknown bit rate code {request.code}"
            return f"change to {request.kbps} kbit/s"
        case cf.NodeIdSet():
            return f"change id to {format_node(request.node)}"
        case cf.DisableParameter() | cf.EnableParameter():
            parameter = table.get(request.parameter_id)
            name = f"0x{request.parameter_id:03X}" + (f" {parameter.name}" if parameter else "")
            return f"{'disable' if isinstance(request, cf.DisableParameter) else 'enable'} {name}"
        case cf.NodeReport():
            return "report all parameters"
        case cf.UpdateFirmware():
            return f"prepare for a firmware update to {request.version} on channel {request.channel}"
        case cf.TwoWayConnection():
            return f"open channel {request.channel}, type {request.type}"
        case cf.ConfigurationSet():
            return f"set key {request.key} to {_hex(request.data)}"
        case cf.ConfigurationQuery():
            return f"read key {request.key}"
    raise AssertionError(request)


def _describe_announcement(message: cf.NodeSpecific) -> str:
    match message:
        case cf.NodeIdentity():
            return (
                f"{describe_device(message.device)} (type 0x{message.device:02X}), model 0x{message.model:06X},"
                f" firmware {message.firmware}, to {format_destination(message.destination)}"
            )
        case cf.NodeStatus():
            return describe_status(message)
        case cf.NodeDescription():
            text = message.text.partition(b"\0")[0].decode("ascii", "replace")
            return f"description, part {message.packet}: {text!r}, to {format_destination(message.destination)}"
        case cf.ParameterSet():
            value = format_value(message.parameter, message.value)
            return f"set {title_of(message.parameter, message.index)} to {value}"
        case cf.UnknownParameterSet():
            return f"set unknown parameter 0x{message.parameter_id:03X}, index {message.index} to {_hex(message.data)}"
        case cf.ControlMessage():
            return f"control code {message.control}: {_hex(message.data)}"
    raise AssertionError(message)


def as_dict(table: Table, outcome: cf.Outcome) -> dict[str, Any]:
    """The meaning of any frame as JSON data; bytes in hexadecimal."""
    found: dict[str, Any] = {"kind": outcome.kind, "node": cf.sender_of(outcome) or None}
    if isinstance(outcome, cf.ParameterUpdate):
        parameter = outcome.parameter
        return found | {
            "key": key_of(table, parameter, outcome.index) or None,
            "name": parameter.name,
            "index": outcome.index,
            "meta": parameter.metas.get(outcome.meta, outcome.meta) if outcome.meta else None,
            "value": to_json(outcome.value),
            "units": parameter.units,
            "flags": flag_names(outcome.code),
        }
    if isinstance(outcome, cf.Dropped):
        return found | {"reason": outcome.reason}
    found["message"] = type(outcome).__name__
    return found | dict(_fields(outcome))


def to_json(content: Payload) -> Payload | None:
    """A value for JSON: None instead of NaN or infinity."""
    return None if isinstance(content, float) and not abs(content) < float("inf") else content


def _fields(outcome: cf.Message) -> Iterator[tuple[str, Any]]:
    for name in outcome.__struct_fields__:
        content = getattr(outcome, name)
        if name == "node" and isinstance(outcome, cf.NodeIdSet):
            name = "new"
        if name not in ("source", "node"):
            if isinstance(content, Parameter):
                content = content.name
            yield name, _hex(content) if isinstance(content, bytes) else to_json(content)


def _hex(data: bytes) -> str:
    return data.hex(" ")
