"""The codec against python-canfix 0.3.0, over every identifier.

The tests use only the documented classes of python-canfix. It knows the identifiers of 2023, so we compare the table of
2023. The tests also assert each of its known errors, so that we notice when one is corrected.
"""

from __future__ import annotations

import importlib
import math
import random
import struct
from typing import Any

import can
import pytest

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table

pytestmark = pytest.mark.slow

canfix: Any = importlib.import_module("canfix")

CODEC = cf.Codec(table.load(2023))
TABLE = CODEC.table
FRAMES_EACH = 40


def theirs(identifier: int, raw: bytes | str, **flags: Any) -> Any:
    """A frame as decoded by python-canfix."""
    data = bytes.fromhex(raw) if isinstance(raw, str) else raw
    return canfix.parseMessage(can.Message(arbitration_id=identifier, is_extended_id=False, data=data, **flags))


def ours(identifier: int, raw: bytes | str) -> Any:
    return CODEC.decode(identifier, bytes.fromhex(raw) if isinstance(raw, str) else raw)


def plain(value: Any) -> Any:
    """Convert their value to ours: bits to a number, lists to tuples, text without padding."""
    if isinstance(value, str):
        return value.rstrip("\0 ")
    if isinstance(value, (list, tuple)):
        if value and all(type(bit) is bool for bit in value):
            return sum(bit << n for n, bit in enumerate(value))
        return tuple(plain(part) for part in value)
    return value


def random_frame(random_: random.Random, parameter: table.Parameter) -> bytes:
    code = random_.randrange(8) | random_.choice([0, *parameter.metas]) << 4
    value = random_.randbytes(parameter.size)
    if parameter.text:  # their codec raises on other characters than ASCII
        value = bytes(byte & 0x7F for byte in value)
    return bytes((random_.randint(1, 255), random_.randrange(256), code)) + value


@pytest.mark.parametrize("parameter", [p for p in TABLE if p.type], ids=lambda p: f"{p.identifier:03X}")
def test_parameters_decode_alike(parameter: table.Parameter) -> None:
    random_ = random.Random(parameter.identifier)
    for _ in range(FRAMES_EACH):
        raw = random_frame(random_, parameter)
        a, b = ours(parameter.identifier, raw), theirs(parameter.identifier, raw)
        assert isinstance(a, (cf.Value, cf.Meta))
        assert (a.parameter.name, a.parameter.units) == (b.name, b.units or "")
        assert (a.node, a.index, a.meta_name) == (b.node, b.index, b.meta)
        assert (a.annunciate, a.quality) == (b.annunciate, b.quality)
        if isinstance(a.value, float):
            # They multiply, so they are up to an ulp off; and only we treat NaN as a failure.
            assert math.isclose(a.value, b.value, rel_tol=1e-15) or not math.isfinite(b.value)
            assert a.failure == (b.failure or not math.isfinite(b.value))
        else:
            assert a.value == plain(b.value)
            assert a.failure == b.failure


@pytest.mark.parametrize("parameter", [p for p in TABLE if p.type], ids=lambda p: f"{p.identifier:03X}")
def test_parameters_encode_alike(parameter: table.Parameter) -> None:
    random_ = random.Random(parameter.identifier)
    for _ in range(FRAMES_EACH):
        raw = random_frame(random_, parameter)
        a, b = ours(parameter.identifier, raw), theirs(parameter.identifier, raw)
        if isinstance(a.value, float) and not math.isfinite(a.value):
            continue
        again = canfix.Parameter()
        again.identifier = parameter.identifier
        again.node, again.index, again.meta = b.node, b.index, b.meta
        again.annunciate, again.quality, again.failure = b.annunciate, b.quality, b.failure
        again.value = b.value
        padded = raw[:3] + raw[3:].rstrip(b"\0 ").ljust(parameter.size, b"\0") if parameter.text else raw
        assert a.encode(strict=False) == (parameter.identifier, padded)
        assert bytes(again.msg.data) == raw


@pytest.mark.parametrize("identifier", [i for i in cf.PARAMETERS if i not in TABLE or not TABLE[i].type])
def test_they_raise_for_identifiers_that_are_unknown_to_us(identifier: int) -> None:
    with pytest.raises(KeyError):
        theirs(identifier, bytes(8))
    assert ours(identifier, bytes(8)).kind == "unknown"


NODE_SPECIFIC = {
    "0032": ("NodeIdentification", cf.NodeIdentification(5, 50)),
    "0001013201040506": ("NodeIdentification", cf.NodeIdentity(5, 1, 50, 1, 0x060504)),
    "010503": ("BitRateSet", cf.BitRateSet(5, 5, 3)),
    "0101ff": ("BitRateSet", cf.Answer(5, 1, 1, 0xFF)),
    "020507": ("NodeIDSet", cf.NodeIdSet(5, 5, 7)),
    "03058301": ("DisableParameter", cf.DisableParameter(5, 5, 0x183)),
    "030101": ("DisableParameter", cf.Answer(5, 1, 3, 1)),
    "04058301": ("EnableParameter", cf.EnableParameter(5, 5, 0x183)),
    "0505": ("NodeReport", cf.NodeReport(5, 5)),
    "0600000180": ("NodeStatus", cf.NodeStatus(5, 0, 0x8001)),
    "06040001020304": ("NodeStatus", cf.NodeStatus(5, 4, 0x04030201)),
    "0705341203": ("UpdateFirmware", cf.UpdateFirmware(5, 5, 0x1234, 3)),
    "0805033412": ("TwoWayConnection", cf.TwoWayConnection(5, 5, 3, 0x1234)),
    "09050200e803": ("NodeConfigurationSet", cf.ConfigurationSet(5, 5, 2, b"\xe8\x03")),
    "0a053412": ("NodeConfigurationQuery", cf.ConfigurationQuery(5, 5, 0x1234)),
    "0dc00c182e": ("ParameterSet", cf.ParameterSet(5, TABLE[0x4C0], 33, 118.0)),
}


@pytest.mark.parametrize("raw", NODE_SPECIFIC)
def test_node_specific_messages_are_of_one_class_and_come_from_one_node(raw: str) -> None:
    name, message = NODE_SPECIFIC[raw]
    b = theirs(0x6E5, raw)
    assert ours(0x6E5, raw) == message
    assert (type(b).__name__, b.sendNode, b.controlCode) == (name, 5, int(raw[:2], 16))
    assert b.msg.arbitration_id == 0x6E5
    assert bytes(b.msg.data) == bytes.fromhex(raw) == message.encode().data


def test_parameter_sets_decode_alike() -> None:
    random_ = random.Random(1)
    for parameter in TABLE:
        if not parameter.type:
            continue
        index = random_.randrange(256)
        value = random_frame(random_, parameter)[3:]
        word = parameter.identifier | index % 32 << 11
        raw = bytes((12 + index // 32, word & 0xFF, word >> 8)) + value
        a, b = ours(0x6E2, raw), theirs(0x6E2, raw)
        assert isinstance(a, cf.ParameterSet)
        assert (a.parameter.identifier, a.index) == (b.parameter, b.index)
        if parameter.divisor == 1 and not parameter.text and parameter.type not in ("BYTE", "WORD", "BYTE[5]"):
            with pytest.raises(TypeError):  # they cannot set a number that has no multiplier
                _ = b.value
        elif isinstance(a.value, float):
            assert math.isclose(a.value, b.value, rel_tol=1e-15)
        else:
            assert a.value == plain(b.value)


# -- where python-canfix is wrong --------------------------------------------------------------------------------------


def test_they_multiply_where_we_divide() -> None:
    assert theirs(0x183, "0c00000300").value == 0.30000000000000004
    assert ours(0x183, "0c00000300").value == 0.3


def test_they_treat_undefined_meta_data_as_the_value() -> None:
    undefined, live = theirs(0x184, "0c001060ea0000"), theirs(0x184, "0c000060ea0000")
    assert (undefined.meta, undefined.value) == (live.meta, live.value) == (None, 60000)
    assert ours(0x184, "0c001060ea0000").kind == "undefined-meta"


@pytest.mark.parametrize("raw", ["", "0c", "0c0000"])
def test_they_invent_a_parameter_from_a_frame_without_a_value(raw: str) -> None:
    assert (theirs(0x183, raw).identifier, theirs(0x183, raw).value) == (0, 0)
    assert ours(0x183, raw).kind == "short"


def test_they_give_short_values_as_none_or_raise() -> None:
    assert theirs(0x184, "0c00000000").value is None
    assert ours(0x184, "0c00000000").kind == "short"
    with pytest.raises(IndexError):
        theirs(0x102, "0c000001")
    assert ours(0x102, "0c000001").kind == "short"


def test_they_read_text_that_is_too_short_and_raise_beyond_ascii() -> None:
    assert theirs(0x480, "0c00004b4c4158").value == "KLAX"
    assert ours(0x480, "0c00004b4c4158").kind == "short"
    with pytest.raises(UnicodeDecodeError):
        theirs(0x480, "0c00004b4c4158ff")
    assert ours(0x480, "0c00004b4c4158ff").value == "KLAXÿ"


def test_they_treat_a_float_nan_as_good() -> None:
    raw = bytes((12, 0, 0)) + struct.pack("<f", math.nan)
    assert not theirs(0x1C3, raw).failure
    assert ours(0x1C3, raw).failure


def test_they_invent_a_parameter_from_a_remote_frame() -> None:
    assert theirs(0x183, "", is_remote_frame=True).value == 0
    assert CODEC.decode(0x183, b"", remote=True).kind == "not-for-us"


@pytest.mark.parametrize("identifier", [0x600, 0x650, 0x6DF])
def test_they_see_nodes_with_negative_numbers_in_reserved_identifiers(identifier: int) -> None:
    assert theirs(identifier, "0032").sendNode == identifier - 0x6E0 < 0
    assert ours(identifier, "0032").kind == "reserved"


def test_they_accept_messages_from_node_0() -> None:
    assert theirs(0x6E0, "0001").sendNode == 0
    assert ours(0x6E0, "0001").kind == "reserved"


@pytest.mark.parametrize("raw", ["", "05"])
def test_they_raise_for_node_specific_messages_cut_short(raw: str) -> None:
    with pytest.raises(IndexError):
        theirs(0x6E1, raw)
    assert ours(0x6E1, raw).kind == "short"


def test_they_add_a_byte_to_short_alarms_and_raise_without_a_code() -> None:
    assert bytes(theirs(12, "09b104050607").data) == bytes.fromhex("0405060700")
    assert ours(12, "09b104050607").data == bytes.fromhex("04050607")
    with pytest.raises(ValueError, match="missing alarm code"):
        theirs(7, "01")
    assert ours(7, "01").kind == "short"


@pytest.mark.parametrize("raw", ["0609000500", "061000ff", "0600015566"])
def test_they_raise_for_node_status_types_they_do_not_know(raw: str) -> None:
    with pytest.raises(AttributeError):
        theirs(0x6E5, raw)
    assert isinstance(ours(0x6E5, raw), cf.NodeStatus)


@pytest.mark.parametrize("raw", ["0600000000000000", "000101", "0201"])
def test_they_raise_for_messages_of_another_length(raw: str) -> None:
    with pytest.raises(canfix.MsgSizeError):
        theirs(0x6E5, raw)
    assert ours(0x6E5, raw).kind == "node-specific"


def test_they_do_not_scale_node_status() -> None:
    assert theirs(0x6E5, "060100fa00").value == 250
    assert ours(0x6E5, "060100fa00").value == 25.0


def test_they_cannot_set_an_unknown_parameter() -> None:
    with pytest.raises(KeyError):
        _ = theirs(0x6E2, "0c9201e274").value
    assert ours(0x6E2, "0c9201e274").kind == "unknown"


def description(packet: int) -> Any:
    message = canfix.NodeDescription()
    message.sendNode, message.destNode, message.packetnumber, message.chars = 5, 1, packet, "abcd"
    return message


def test_they_misnumber_description_packets_from_256_on() -> None:
    assert bytes(description(255).msg.data) == cf.NodeDescription(5, 1, 255, b"abcd").encode().data
    with pytest.raises(ValueError, match="byte must be in range"):
        _ = description(256).msg
    assert bytes(description(265).msg.data) != cf.NodeDescription(5, 1, 265, b"abcd").encode().data


def test_they_cannot_send_a_description_packet_as_received() -> None:
    with pytest.raises(TypeError):
        _ = theirs(0x6E5, "0b0101004d616b65").msg
    assert ours(0x6E5, "0b0101004d616b65").encode().data == bytes.fromhex("0b0101004d616b65")


def test_their_frames_say_that_they_are_empty() -> None:
    alarm = canfix.NodeAlarm()
    alarm.node, alarm.alarm, alarm.data = 12, 45321, [4, 5, 6, 7]
    assert (alarm.msg.dlc, len(alarm.msg.data)) == (0, 6)
