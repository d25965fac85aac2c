"""Properties of the CAN-FIX codec: it decodes what it encodes, and no frame on a bus makes it raise."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table
from fixgw.errors import BadValue

pytestmark = pytest.mark.slow

CODECS = {revision: cf.Codec(table.load(revision)) for revision in table.REVISIONS}
CODEC = CODECS[table.CURRENT]

nodes = st.integers(1, 255)
destinations = st.integers(0, 255)
bytes_ = st.integers(0, 255)
words = st.integers(0, 65535)
identifiers = st.integers(0x100, 0x5FF)


def data(most: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=most)


parameters = st.sampled_from([p for codec in CODECS.values() for p in codec.table if p.type])

LIMITS = {
    "BYTE": (0, 255),
    "WORD": (0, 65535),
    "SHORT": (-128, 127),
    "USHORT": (0, 255),
    "INT": (-32768, 32767),
    "UINT": (0, 65535),
    "DINT": (-(2**31), 2**31 - 1),
    "UDINT": (0, 2**32 - 1),
}


def values(field: table.Field) -> st.SearchStrategy[table.Payload]:
    """Values of `field` within its own range."""
    if field.text:
        return st.text(st.characters(max_codepoint=255), max_size=field.size).map(lambda t: t.rstrip("\0 "))
    if field.type == "FLOAT":
        return st.floats(field.min, field.max, width=32)
    if len(field.parts) > 1:
        return st.tuples(*(st.integers(*LIMITS[part]) for part in field.parts))
    low, high = LIMITS[field.type]
    low = low if field.min is None else round(field.min * field.divisor)
    high = high if field.max is None else round(field.max * field.divisor)
    raws = st.integers(low, high)
    return raws.map(lambda raw: raw / field.divisor) if field.divisor > 1 else raws


@st.composite
def updates(draw: st.DrawFn) -> cf.Message:
    parameter = draw(parameters)
    return cf.update(
        parameter,
        draw(values(parameter)),
        draw(nodes),
        index=draw(bytes_),
        meta=draw(st.sampled_from([0, *parameter.metas])),
        annunciate=draw(st.booleans()),
        quality=draw(st.booleans()),
        failure=draw(st.booleans()),
    )


@st.composite
def parameter_sets(draw: st.DrawFn) -> cf.Message:
    parameter = draw(parameters)
    return cf.ParameterSet(draw(nodes), parameter, draw(bytes_), draw(values(parameter)))


@st.composite
def statuses(draw: st.DrawFn) -> cf.Message:
    type = draw(st.sampled_from([*cf.NodeStatus.FIELDS, 256, 0xFFFF]))
    field = cf.NodeStatus.FIELDS.get(type)
    return cf.NodeStatus(draw(nodes), type, draw(values(field) if field else data(5)))


other_messages = st.one_of(
    st.builds(cf.NodeAlarm, nodes, words, data(6)),
    st.builds(cf.TwoWay, st.integers(0, 15), st.booleans(), data(8)),
    st.builds(cf.NodeIdentification, nodes, destinations),
    st.builds(cf.NodeIdentity, nodes, nodes, bytes_, bytes_, st.integers(0, 0xFFFFFF)),
    st.builds(cf.BitRateSet, nodes, destinations, st.integers(1, 4)),
    st.builds(cf.NodeIdSet, nodes, nodes, nodes),
    st.builds(cf.DisableParameter, nodes, destinations, identifiers),
    st.builds(cf.EnableParameter, nodes, nodes, identifiers),
    st.builds(cf.NodeReport, nodes, destinations),
    st.builds(cf.UpdateFirmware, nodes, nodes, words, st.integers(0, 15)),
    st.builds(cf.TwoWayConnection, nodes, nodes, st.integers(0, 15), words),
    st.builds(cf.ConfigurationSet, nodes, nodes, words, data(4)),
    st.builds(cf.ConfigurationQuery, nodes, nodes, words),
    st.builds(cf.Answer, nodes, nodes, st.sampled_from([3, 4, 7, 8, 9]), bytes_),
    st.builds(cf.Answer, nodes, nodes, st.just(1), st.sampled_from([0, 0xFF])),
    st.builds(cf.Answer, nodes, nodes, st.just(2)),
    st.builds(cf.Answer, nodes, nodes, st.just(10), st.just(0), st.sampled_from([b"", b"ab", b"abc", b"abcd"])),
    st.builds(cf.Answer, nodes, nodes, st.just(10), st.integers(1, 255)),
    statuses(),
    st.builds(cf.NodeDescription, nodes, nodes, words, st.binary(min_size=4, max_size=4)),
    st.builds(cf.ControlMessage, nodes, st.integers(20, 255), data(7)),
)


def codec_of(message: Any) -> cf.Codec:
    """The codec with the table that `message` comes from."""
    parameter = getattr(message, "parameter", None)
    if parameter is None:
        return CODEC
    return next(codec for codec in CODECS.values() if codec.table.get(parameter.identifier) is parameter)


@settings(max_examples=1000)
@given(st.one_of(updates(), parameter_sets(), other_messages))
def test_an_encoded_message_decodes_to_itself(message: cf.Message) -> None:
    frame = message.encode()
    assert 0 < frame.arbitration_id < 0x800
    assert len(frame.data) <= 8
    assert codec_of(message).decode(*frame) == message


@settings(max_examples=1000)
@given(st.integers(0, 0x7FF), st.binary(max_size=8))
def test_a_decoded_message_can_be_encoded_or_is_refused(identifier: int, raw: bytes) -> None:
    outcome = CODEC.decode(identifier, raw)
    if isinstance(outcome, cf.Dropped):
        return
    loose: dict[str, bool] = {"strict": False} if isinstance(outcome, (cf.ParameterUpdate, cf.ParameterSet)) else {}
    try:
        frame = outcome.encode(**loose)
    except BadValue:
        return  # a sender that is not a node, undefined meta data, a reserved type, ...
    again = CODEC.decode(*frame)
    assert again.kind == outcome.kind
    assert again.encode(**loose) == frame  # type: ignore[union-attr]


@given(updates())
def test_bytes_after_a_value_do_not_change_it(message: cf.Message) -> None:
    identifier, raw = message.encode()
    assert codec_of(message).decode(identifier, raw.ljust(8, b"\xff")) == message


@given(parameters, st.one_of(st.floats(), st.integers(), st.text(max_size=6), st.lists(st.integers(), max_size=6)))
def test_any_value_is_sent_or_refused_with_a_reason(parameter: table.Parameter, value: Any) -> None:
    reason = ""
    try:
        frame = cf.update(parameter, value, 12).encode()
    except BadValue as error:
        reason = error.reason
    assert reason in ("", "type", "number", "range", "text")
    assert reason or len(frame.data) == 3 + parameter.size


@given(st.sampled_from([p for p in CODEC.table if p.type in LIMITS]), st.floats(-1e5, 1e5))
def test_a_number_is_rounded_to_the_nearest_step(parameter: table.Parameter, value: float) -> None:
    try:
        raw = parameter.write(value)
    except BadValue:
        return
    error = abs(parameter.read(bytes(3) + raw) - value)  # type: ignore[operator]
    assert min(error, abs(error - 360)) <= 0.5 / parameter.divisor + 1e-9


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300), nodes, nodes)
def test_a_description_arrives_as_it_was_sent(text: str, source: int, destination: int) -> None:
    descriptions = cf.Descriptions()
    *before, last = [descriptions.feed(packet) for packet in cf.split_description(text, source, destination)]
    assert last == text
    assert not any(before)


@given(st.lists(st.builds(cf.NodeDescription, st.integers(1, 3), st.just(1), st.integers(0, 3), st.binary(max_size=4))))
def test_descriptions_survive_any_packets(packets: list[cf.NodeDescription]) -> None:
    descriptions = cf.Descriptions(max_length=8, max_count=2)
    for packet in packets:
        text = descriptions.feed(packet)
        assert text is None or len(text) <= 8
    assert len(descriptions._parts) <= 2


@pytest.mark.parametrize("codec", CODECS.values(), ids=map(str, CODECS))
def test_a_million_random_frames_raise_nothing(codec: cf.Codec) -> None:
    random_ = random.Random(20240401)
    block = random_.randbytes(1 << 16)
    lengths = (0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 12, 16, 32, 64)
    before = sum(codec.counts.values())
    for n in range(1_000_000):
        dice = random_.getrandbits(32)
        at = dice >> 16
        length = lengths[dice & 15]
        flags = dice >> 4 & 0xFFF
        if flags < 0xF00:  # most frames are base frames, of any identifier
            codec.decode(n & 0x7FF, block[at : at + length])
        else:
            codec.decode(
                random_.getrandbits(29), block[at : at + length], *(bool(flags >> bit & 1) for bit in range(4))
            )
    assert sum(codec.counts.values()) - before == 1_000_000
    assert all(codec.counts.values())  # every kind of outcome was met
