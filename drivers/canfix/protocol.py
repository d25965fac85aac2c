"""CAN-FIX 0.7 messages, as objects and as CAN frames. No thread, socket or clock.

    codec = Codec()                                            # or Codec(table.load(2023))
    outcome = codec.decode(0x183, b"\\x0c\\x00\\x00\\xd2\\x04")     # Value: Indicated Airspeed 123.4 from node 12
    update(codec.table["Indicated Airspeed"], 123.4, node=12).encode()   # Frame(0x183, ...)

`Codec.decode` turns any frame into an outcome, a `Message` or a `Dropped` with the reason, and never raises. Each
outcome has a `kind`, one of `KINDS`, and is counted under it. Every message has ``encode()``, which raises `BadValue`
for a message that the protocol does not allow. Numbers are little-endian. Nodes are 1..255; 0 addresses all of them.

Where the specification contradicts itself, we decide: identifiers 0x600..0x6E0 are reserved; extra bytes are tolerated,
missing ones are not; the reserved bit of the function code is ignored on reception and sent as 0; trailing NULs and
spaces are removed from text; a FLOAT that is NaN or infinite counts as failed; a parameter from node 0 is accepted, any
other message from node 0 is dropped. A frame that could be either a request or an answer is taken as a request; see
`Request.as_answer`.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from typing import ClassVar, NamedTuple

import msgspec

from fixgw.drivers.canfix.table import Data, Field, Parameter, Payload, Table, load
from fixgw.errors import BadValue

__all__ = [
    "KINDS",
    "Answer",
    "BitRateSet",
    "Codec",
    "ConfigurationQuery",
    "ConfigurationSet",
    "ControlMessage",
    "Descriptions",
    "DisableParameter",
    "Dropped",
    "EnableParameter",
    "Frame",
    "Message",
    "Meta",
    "NodeAlarm",
    "NodeDescription",
    "NodeIdSet",
    "NodeIdentification",
    "NodeIdentity",
    "NodeReport",
    "NodeSpecific",
    "NodeStatus",
    "ParameterSet",
    "ParameterUpdate",
    "Request",
    "TwoWay",
    "TwoWayConnection",
    "UndefinedMeta",
    "UnknownParameterSet",
    "UpdateFirmware",
    "Value",
    "sender_of",
    "split_description",
    "update",
]

# The ranges of identifiers. They are the protocol's own; the "groups" of a table do not change them.
PARAMETERS = range(0x100, 0x600)
NODE_SPECIFIC = 0x6E0
TWO_WAY = 0x7E0

# The function code: flags below, meta index above. Bit 3 is reserved.
ANNUNCIATE = 0x01
QUALITY = 0x02
FAILURE = 0x04
LAST_VALUE_CODE = 0x0F  # above, the frame carries meta data instead of the value
_CODE_BITS = 0xF7  # all but the reserved bit

#: The possible outcomes of decoding a frame.
KINDS = (
    "value",
    "meta",
    "undefined-meta",
    "node-specific",
    "alarm",
    "two-way",
    "unknown",
    "short",
    "reserved",
    "not-for-us",
)


class Frame(NamedTuple):
    """A classic base frame: identifier 0..0x7FF and up to 8 bytes."""

    arbitration_id: int
    data: bytes


def _check(what: str, number: int, low: int, high: int) -> int:
    if not isinstance(number, int) or not low <= number <= high:
        raise BadValue(what, f"{number!r} is not a whole number from {low} to {high}", "range")
    return number


def _check_size(what: str, data: bytes, size: int) -> bytes:
    if len(data) > size:
        raise BadValue(what, f"{len(data)} bytes are too many; at most {size} fit", "range")
    return bytes(data)


class Message(msgspec.Struct, frozen=True, gc=False):
    """The meaning of a frame. Immutable; equal when its fields are equal."""

    kind: ClassVar[str]

    @abstractmethod
    def encode(self) -> Frame:
        """The frame for this message. Raises `BadValue` when the protocol does not allow it."""


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """A frame without a meaning for us. `reason` says why; `parameter` is set if the identifier belongs to one."""

    kind: str
    reason: str
    parameter: Parameter | None = None


Outcome = Message | Dropped


def sender_of(outcome: Outcome) -> int:
    """The node that sent a message; 0 when the frame does not say."""
    if isinstance(outcome, NodeSpecific):
        return outcome.source
    if isinstance(outcome, (ParameterUpdate, NodeAlarm)):
        return outcome.node
    return 0


# -- parameters --------------------------------------------------------------------------------------------------------


class ParameterUpdate(Message, frozen=True, gc=False):
    """A parameter sent by `node`: `value` in the parameter's units, and its function code.

    `index` distinguishes the instances of one parameter (cylinder 0 is the first).
    """

    parameter: Parameter
    node: int
    index: int
    code: int
    value: Payload

    @property
    def annunciate(self) -> bool:
        return bool(self.code & ANNUNCIATE)

    @property
    def quality(self) -> bool:
        """The value is suspect: show it flagged."""
        return bool(self.code & QUALITY)

    @property
    def failure(self) -> bool:
        """The value has failed: do not show it."""
        return bool(self.code & FAILURE)

    @property
    def meta(self) -> int:
        """0 for the value itself, otherwise the index of a set-point or limit."""
        return self.code >> 4

    @property
    def meta_name(self) -> str | None:
        return self.parameter.metas.get(self.meta)

    def encode(self, strict: bool = True) -> Frame:
        """The frame for this message.

        Raises `BadValue` for undefined meta data, and for a value that the wire type cannot carry. A value outside the
        parameter's own range also raises, unless the failure flag is set or `strict` is False.
        """
        parameter, meta = self.parameter, self.meta
        if type(self) is UndefinedMeta or type(self) is not _update_type(parameter, meta):
            raise BadValue(parameter.name, f"meta index {meta} cannot be sent as {self.kind}", "range")
        _check("node", self.node, 1, 255)
        _check("index", self.index, 0, 255)
        head = bytes((self.node, self.index, self.code & _CODE_BITS))
        return Frame(parameter.identifier, head + parameter.write(self.value, strict and not self.failure))


class Value(ParameterUpdate, frozen=True, gc=False):
    """The live value."""

    kind: ClassVar[str] = "value"


class Meta(ParameterUpdate, frozen=True, gc=False):
    """A set-point or limit of the value, in the same units."""

    kind: ClassVar[str] = "meta"


class UndefinedMeta(ParameterUpdate, frozen=True, gc=False):
    """Meta data with an index that the parameter does not define. Never treat it as the value."""

    kind: ClassVar[str] = "undefined-meta"


def _update_type(parameter: Parameter, meta: int) -> type[ParameterUpdate]:
    if not meta:
        return Value
    return Meta if meta in parameter.metas else UndefinedMeta


def update(
    parameter: Parameter,
    value: Payload,
    node: int,
    *,
    index: int = 0,
    meta: int | str = 0,
    annunciate: bool = False,
    quality: bool = False,
    failure: bool = False,
) -> Value | Meta:
    """A message in which `node` sends `parameter`; `meta` is an index or a name ("Vne").

    Raises `BadValue` for undefined meta data.
    """
    number = parameter.meta_index(meta)
    code = number << 4 | annunciate * ANNUNCIATE | quality * QUALITY | failure * FAILURE
    return (Meta if number else Value)(parameter, node, index, code, value)


# -- alarms and two-way channels ---------------------------------------------------------------------------------------


class NodeAlarm(Message, frozen=True, gc=False):
    """An alarm from `node`. The manufacturer defines `code` (0..65535) and `data` (up to 6 bytes)."""

    kind: ClassVar[str] = "alarm"
    node: int
    code: int
    data: bytes = b""

    def encode(self) -> Frame:
        _check("code", self.code, 0, 0xFFFF)
        code = self.code.to_bytes(2, "little")
        return Frame(_check("node", self.node, 1, 255), code + _check_size("data", self.data, 6))


class TwoWay(Message, frozen=True, gc=False):
    """Up to 8 free bytes on two-way channel 0..15.

    A `response` comes from the node that was asked to open the channel, any other message from the node that asked.
    """

    kind: ClassVar[str] = "two-way"
    channel: int
    response: bool
    data: bytes = b""

    def encode(self) -> Frame:
        identifier = TWO_WAY + 2 * _check("channel", self.channel, 0, 15) + bool(self.response)
        return Frame(identifier, _check_size("data", self.data, 8))


# -- node-specific messages --------------------------------------------------------------------------------------------


class NodeSpecific(Message, frozen=True, gc=False):
    """A message from node `source`."""

    kind: ClassVar[str] = "node-specific"
    source: int

    def _frame(self, control: int, body: bytes) -> Frame:
        return Frame(NODE_SPECIFIC + _check("source", self.source, 1, 255), bytes((control,)) + body)


class Request(NodeSpecific, frozen=True, gc=False):
    """A request from `source` to `destination`, which is 0 for all nodes if `broadcast` allows it."""

    control: ClassVar[int]
    #: Whether the request may be sent to all nodes at once.
    broadcast: ClassVar[bool] = False
    #: The fields after the destination: their struct format, and the range of each.
    layout: ClassVar[struct.Struct] = struct.Struct("<")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = ()

    destination: int

    def is_for(self, node: int) -> bool:
        """Whether `node` must answer."""
        return self.destination == node or (self.destination == 0 and self.broadcast)

    def as_answer(self) -> Answer:
        """The meaning of the same frame if it answers a request of ours.

        Some answers look like requests: one byte of configuration, a refused bit rate in the old style (error 1), and
        the answers of devices that pad their frames. Use this when you expect an answer from `source`.
        """
        return _answer(self.source, self.destination, self.control, self._body())

    def _body(self) -> bytes:
        values = [getattr(self, name) for name in self.__struct_fields__[2 : 2 + len(self.ranges)]]
        return self.layout.pack(*values)

    def encode(self) -> Frame:
        lowest = 0 if self.broadcast else 1
        _check("destination", self.destination, lowest, 255)
        for name, limits in zip(self.__struct_fields__[2:], self.ranges, strict=False):
            _check(name, getattr(self, name), *limits)
        return self._frame(self.control, bytes((self.destination,)) + self._body())

    @classmethod
    def _decode(cls, source: int, data: Data) -> NodeSpecific:
        return cls(source, data[1], *cls.layout.unpack_from(data, 2))

    @classmethod
    def _answers(cls, data: Data) -> bool:
        """Whether `data`, of at least two bytes, is an answer."""
        return len(data) == 3


_BYTE = (0, 0xFF)
_WORD = (0, 0xFFFF)
_IDENTIFIER = (PARAMETERS.start, PARAMETERS.stop - 1)


class NodeIdentification(Request, frozen=True, gc=False):
    """Ask a node to identify itself. The answer is a `NodeIdentity`."""

    control: ClassVar[int] = 0
    broadcast: ClassVar[bool] = True

    @classmethod
    def _decode(cls, source: int, data: Data) -> NodeSpecific:
        if not any(data[2:]):
            return cls(source, data[1])
        body = bytes(data[2:]).ljust(6, b"\0")
        return NodeIdentity(source, data[1], body[1], body[2], int.from_bytes(body[3:], "little"), body[0])


class BitRateSet(Request, frozen=True, gc=False):
    """Change to the bit rate with this `code`.

    The answer comes a second later at the new rate, or at once with error 0xFF. Never obey without the operator's
    permission: an old-style refusal looks the same.
    """

    RATES: ClassVar[dict[int, int]] = {1: 125, 2: 250, 3: 500, 4: 1000}
    control: ClassVar[int] = 1
    broadcast: ClassVar[bool] = True
    layout: ClassVar[struct.Struct] = struct.Struct("<B")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = ((1, 4),)
    code: int

    @property
    def kbps(self) -> int | None:
        """The bit rate in kbit/s; None for an unknown code."""
        return self.RATES.get(self.code)

    @classmethod
    def _answers(cls, data: Data) -> bool:
        return len(data) == 2 or data[2] == 0xFF


class NodeIdSet(Request, frozen=True, gc=False):
    """Change the node id to `node`. The answer comes from the new id; a node that cannot change does not answer."""

    control: ClassVar[int] = 2
    layout: ClassVar[struct.Struct] = struct.Struct("<B")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = ((1, 255),)
    node: int

    @classmethod
    def _answers(cls, data: Data) -> bool:
        return len(data) == 2 or data[2] == 0


class DisableParameter(Request, frozen=True, gc=False):
    """Stop sending a parameter. Error 1: unknown parameter."""

    control: ClassVar[int] = 3
    broadcast: ClassVar[bool] = True
    layout: ClassVar[struct.Struct] = struct.Struct("<H")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = (_IDENTIFIER,)
    parameter_id: int


class EnableParameter(Request, frozen=True, gc=False):
    """Send a parameter again. Error 1: unknown parameter."""

    control: ClassVar[int] = 4
    layout: ClassVar[struct.Struct] = struct.Struct("<H")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = (_IDENTIFIER,)
    parameter_id: int


class NodeReport(Request, frozen=True, gc=False):
    """Send every enabled parameter with its meta data now. There is no answer."""

    control: ClassVar[int] = 5
    broadcast: ClassVar[bool] = True


class UpdateFirmware(Request, frozen=True, gc=False):
    """Prepare for a firmware update to `version` over two-way `channel` 0..15."""

    control: ClassVar[int] = 7
    layout: ClassVar[struct.Struct] = struct.Struct("<HB")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = (_WORD, (0, 15))
    version: int
    channel: int


class TwoWayConnection(Request, frozen=True, gc=False):
    """Open two-way `channel` 0..15 with `source`. The manufacturer defines `type`."""

    control: ClassVar[int] = 8
    layout: ClassVar[struct.Struct] = struct.Struct("<BH")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = ((0, 15), _WORD)
    channel: int
    type: int


class ConfigurationSet(Request, frozen=True, gc=False):
    """Set configuration `key` to `data`, up to 4 bytes.

    Errors: 1 unknown key, 2 read-only, 3 out of range, 4 wrong type.
    """

    control: ClassVar[int] = 9
    layout: ClassVar[struct.Struct] = struct.Struct("<H")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = (_WORD,)
    key: int
    data: bytes

    def _body(self) -> bytes:
        return super()._body() + _check_size("data", self.data, 4)

    @classmethod
    def _decode(cls, source: int, data: Data) -> NodeSpecific:
        return cls(source, data[1], data[2] | data[3] << 8, bytes(data[4:8]))


class ConfigurationQuery(Request, frozen=True, gc=False):
    """Read configuration `key`. The answer is its data, or error 1 (unknown key) or 2 (bad value)."""

    control: ClassVar[int] = 10
    layout: ClassVar[struct.Struct] = struct.Struct("<H")
    ranges: ClassVar[tuple[tuple[int, int], ...]] = (_WORD,)
    key: int

    @classmethod
    def _answers(cls, data: Data) -> bool:
        return len(data) == 3 or (len(data) > 4 and data[2] <= 2)


class NodeIdentity(NodeSpecific, frozen=True, gc=False):
    """The answer to `NodeIdentification`: device type and firmware 0..255, model 0..0xFFFFFF, specification number."""

    destination: int
    device: int
    firmware: int
    model: int
    specification: int = 1

    def encode(self) -> Frame:
        _check("destination", self.destination, 1, 255)
        for name in ("device", "firmware", "specification"):
            _check(name, getattr(self, name), *_BYTE)
        _check("model", self.model, 0, 0xFFFFFF)
        head = bytes((self.destination, self.specification, self.device, self.firmware))
        return self._frame(0, head + self.model.to_bytes(3, "little"))


class Answer(NodeSpecific, frozen=True, gc=False):
    """The answer to a request with `control` code: `error` 0 for success, and `data` for a configuration query."""

    destination: int
    control: int
    error: int = 0
    data: bytes = b""

    @property
    def success(self) -> bool:
        return not self.error

    def encode(self) -> Frame:
        control, error = self.control, self.error
        _check("destination", self.destination, 1, 255)
        _check("error", error, *_BYTE)
        if control not in _ANSWERED:
            raise BadValue("control", f"control code {control} has no such answer", "range")
        if control == NodeIdSet.control and error:
            raise BadValue("error", "a node that cannot change its id does not answer", "range")
        body = bytes((error,))
        if control == BitRateSet.control:
            body = b"\xff" if error else b""
        if control == ConfigurationQuery.control and not error:
            body += _check_size("data", self.data, 4)
        elif self.data:
            raise BadValue("data", "only the answer to a successful configuration query has data", "range")
        return self._frame(control, bytes((self.destination,)) + body)


QUORUM = 9  # the type of a status report that is a vote for a leader


class NodeStatus(NodeSpecific, frozen=True, gc=False):
    """A status report of `source`.

    `FIELDS` has types 0..9. The manufacturer defines types 256..65535, for which `value` is up to 5 bytes.
    """

    FIELDS: ClassVar[dict[int, Field]] = {
        0: Field("Node Status", "WORD"),
        1: Field("Internal Temperature", "INT", 10, "°C"),
        2: Field("Supply Voltage", "INT", 10, "V"),
        3: Field("CAN Transmit Frame Counter", "UDINT"),
        4: Field("CAN Receive Frame Counter", "UDINT"),
        5: Field("CAN Transmit Error Counter", "UDINT"),
        6: Field("CAN Receive Error Counter", "UDINT"),
        7: Field("CAN Receive Overrun Counter", "UDINT"),
        8: Field("Serial Number", "UDINT"),
        QUORUM: Field("Quorum", "UINT"),
    }
    control: ClassVar[int] = 6
    type: int
    value: Payload | bytes

    @property
    def name(self) -> str:
        field = self.FIELDS.get(self.type)
        return field.name if field else f"{'reserved' if self.type < 256 else 'device'} {self.type}"

    def encode(self) -> Frame:
        field = self.FIELDS.get(self.type)
        if field is not None:
            body = field.write(self.value)  # type: ignore[arg-type]  # it refuses bytes
        else:
            _check("type", self.type, 256, 0xFFFF)
            if not isinstance(self.value, bytes):
                raise BadValue(self.name, f"{self.value!r} is not bytes", "type")
            body = _check_size("value", self.value, 5)
        return self._frame(self.control, self.type.to_bytes(2, "little") + body)

    @classmethod
    def _decode(cls, source: int, data: Data) -> NodeStatus | None:
        if len(data) < 3:
            return None
        type = data[1] | data[2] << 8
        field = cls.FIELDS.get(type)
        if field is None:
            return cls(source, type, bytes(data[3:]))
        return cls(source, type, field.read(data)) if len(data) >= 3 + field.size else None


class NodeDescription(NodeSpecific, frozen=True, gc=False):
    """Packet `packet` of a description: 4 bytes of `text`. See `split_description` and `Descriptions`."""

    control: ClassVar[int] = 11
    destination: int
    packet: int
    text: bytes

    def encode(self) -> Frame:
        _check("destination", self.destination, 1, 255)
        _check("packet", self.packet, *_WORD)
        if len(self.text) != 4:
            raise BadValue("text", f"a packet has 4 bytes, not {len(self.text)}", "range")
        head = bytes((self.destination,)) + self.packet.to_bytes(2, "little")
        return self._frame(self.control, head + bytes(self.text))

    @classmethod
    def _decode(cls, source: int, data: Data) -> NodeDescription | None:
        return cls(source, data[1], data[2] | data[3] << 8, bytes(data[4:8])) if len(data) == 8 else None


class ParameterSet(NodeSpecific, frozen=True, gc=False):
    """A request from `source` that the owner of `parameter` adopt `value`; the owner confirms by sending it."""

    controls: ClassVar[range] = range(12, 20)
    parameter: Parameter
    index: int
    value: Payload

    def encode(self, strict: bool = True) -> Frame:
        """The frame for this message. Unless `strict`, the value may be outside the parameter's own range."""
        _check("index", self.index, 0, 255)
        # The index has 8 bits: five above the identifier, three in the control code.
        word = self.parameter.identifier | (self.index & 31) << 11
        body = word.to_bytes(2, "little") + self.parameter.write(self.value, strict)
        return self._frame(self.controls.start + (self.index >> 5), body)


class UnknownParameterSet(NodeSpecific, frozen=True, gc=False):
    """A `ParameterSet` for a parameter that is not in the table or has no type there; `data` is as received."""

    kind: ClassVar[str] = "unknown"
    parameter_id: int
    index: int
    data: bytes

    def encode(self) -> Frame:
        raise BadValue("parameter_id", f"0x{self.parameter_id:03X} is not in the table, so it cannot be sent", "range")


class ControlMessage(NodeSpecific, frozen=True, gc=False):
    """A control code without a defined meaning: 20..127 are reserved, 128..255 are free for users. Up to 7 bytes."""

    control: int
    data: bytes = b""

    @property
    def reserved(self) -> bool:
        return self.control < 128

    def encode(self) -> Frame:
        return self._frame(_check("control", self.control, 20, 255), _check_size("data", self.data, 7))


_REQUESTS: tuple[type[Request], ...] = (
    NodeIdentification,
    BitRateSet,
    NodeIdSet,
    DisableParameter,
    EnableParameter,
    NodeReport,
    UpdateFirmware,
    TwoWayConnection,
    ConfigurationSet,
    ConfigurationQuery,
)
_ANSWERED = {r.control for r in _REQUESTS} - {NodeIdentification.control, NodeReport.control}


def _exchange(request: type[Request]) -> Callable[[int, Data], NodeSpecific | None]:
    """The decoder for a control code with requests and answers. It returns None for a frame that is too short."""
    control, shortest = request.control, 2 + request.layout.size
    answered = control in _ANSWERED

    def decode(source: int, data: Data) -> NodeSpecific | None:
        if len(data) < 2:
            return None
        if answered and request._answers(data):
            return _answer(source, data[1], control, bytes(data[2:]))
        return request._decode(source, data) if len(data) >= shortest else None

    return decode


def _answer(source: int, destination: int, control: int, rest: bytes) -> Answer:
    """Decode an answer; `rest` are the bytes after its destination."""
    error = rest[0] if rest else 0
    data = rest[1:5] if control == ConfigurationQuery.control and not error else b""
    return Answer(source, destination, control, error, data)


# -- node descriptions -------------------------------------------------------------------------------------------------

MAX_DESCRIPTION_LENGTH = 4 * 0x10000 - 1


def split_description(text: str, source: int, destination: int) -> Iterator[NodeDescription]:
    """Split `text` into the packets that follow a `NodeIdentity`. Raises `BadValue` unless it is printable ASCII."""
    if not (text.isascii() and (text.isprintable() or not text)):
        raise BadValue("text", f"{text!r} is not printable ASCII", "text")
    if len(text) > MAX_DESCRIPTION_LENGTH:
        raise BadValue(
            "text", f"{len(text)} characters are too many; at most {MAX_DESCRIPTION_LENGTH} can be sent", "range"
        )
    raw = text.encode() + b"\0"
    for packet, at in enumerate(range(0, len(raw), 4)):
        yield NodeDescription(source, destination, packet, raw[at : at + 4].ljust(4, b"\0"))


class Descriptions:
    """Assembles descriptions from their packets.

    It assembles at most `max_count` at a time and then drops the oldest. It cuts descriptions after `max_length`
    characters.
    """

    def __init__(self, max_length: int = 1024, max_count: int = 255) -> None:
        self.max_length = max_length
        self.max_count = max_count
        #: Packets that were out of order, or came after the end.
        self.stray = 0
        self._parts: dict[tuple[int, int], bytearray] = {}

    def feed(self, message: NodeDescription) -> str | None:
        """Take a packet. Returns the description if this was its last packet."""
        key = (message.source, message.destination)
        if message.packet == 0:
            self._parts.pop(key, None)
            while len(self._parts) >= self.max_count:
                del self._parts[next(iter(self._parts))]
            self._parts[key] = bytearray()
        text = self._parts.get(key)
        if text is None or message.packet * 4 != len(text):
            if text is None or message.packet * 4 != len(text) - 4 or message.text != text[-4:]:  # not a repetition
                self._parts.pop(key, None)
                self.stray += 1
            return None
        text += message.text
        if 0 not in message.text and len(text) < self.max_length:
            return None
        del self._parts[key]
        return text.partition(b"\0")[0][: self.max_length].decode("ascii", "replace")


# -- the codec ---------------------------------------------------------------------------------------------------------


class Codec:
    """Decodes frames with one parameter table, using one prepared decoder per identifier.

    `counts` holds the number of frames of each kind. Use a separate codec in each thread.
    """

    def __init__(self, table: Table | None = None) -> None:
        self.table = load() if table is None else table
        self.counts = dict.fromkeys(KINDS, 0)
        self._controls = self._make_controls()
        self._decoders: list[Callable[[Data], Outcome]] = [
            lambda data: _RESERVED,
            *(partial(_alarm, node) for node in range(1, 256)),
            *[lambda data: _UNKNOWN] * len(PARAMETERS),
            *[lambda data: _RESERVED] * (NODE_SPECIFIC + 1 - PARAMETERS.stop),
            *(partial(self._node_specific, source) for source in range(1, 256)),
            *(partial(_two_way, channel, bool(response)) for channel in range(16) for response in (0, 1)),
        ]
        for parameter in self.table:
            self._decoders[parameter.identifier] = _parameter_decoder(parameter)

    def decode(
        self,
        arbitration_id: int,
        data: Data,
        extended: bool = False,
        remote: bool = False,
        error: bool = False,
        fd: bool = False,
    ) -> Outcome:
        """The meaning of a frame. Never raises, whatever the identifier, data and flags."""
        if extended or remote or error or fd or arbitration_id >> 11 or len(data) > 8:
            outcome: Outcome = _FOREIGN[
                "error" if error else "extended" if extended or arbitration_id >> 11 else "remote" if remote else "FD"
            ]
        else:
            outcome = self._decoders[arbitration_id](data)
        self.counts[outcome.kind] += 1
        return outcome

    def _make_controls(self) -> list[Callable[[int, Data], NodeSpecific | None]]:
        controls: list[Callable[[int, Data], NodeSpecific | None]] = [
            lambda source, data: ControlMessage(source, data[0], bytes(data[1:]))
        ] * 256
        for request in _REQUESTS:
            controls[request.control] = _exchange(request)
        controls[NodeStatus.control] = NodeStatus._decode
        controls[NodeDescription.control] = NodeDescription._decode
        for control in ParameterSet.controls:
            controls[control] = self._parameter_set
        return controls

    def _node_specific(self, source: int, data: Data) -> Outcome:
        message = self._controls[data[0]](source, data) if data else None
        return _SHORT if message is None else message

    def _parameter_set(self, source: int, data: Data) -> NodeSpecific | None:
        if len(data) < 4:
            return None
        word = data[1] | data[2] << 8
        identifier = word & 0x7FF
        index = (data[0] - ParameterSet.controls.start) << 5 | word >> 11
        parameter = self.table.get(identifier)
        if parameter is None or not parameter.type:
            return UnknownParameterSet(source, identifier, index, bytes(data[3:]))
        if len(data) < 3 + parameter.size:
            return None
        return ParameterSet(source, parameter, index, parameter.read(data))


_RESERVED = Dropped("reserved", "reserved identifier")
_UNKNOWN = Dropped("unknown", "no such parameter")
_SHORT = Dropped("short", "node-specific message cut short")
_ALARM_SHORT = Dropped("short", "alarm without its code")
_FOREIGN = {what: Dropped("not-for-us", f"{what} frame") for what in ("error", "extended", "remote", "FD")}


def _alarm(node: int, data: Data) -> Outcome:
    return NodeAlarm(node, data[0] | data[1] << 8, bytes(data[2:])) if len(data) >= 2 else _ALARM_SHORT


def _two_way(channel: int, response: bool, data: Data) -> Outcome:
    return TwoWay(channel, response, bytes(data))


def _parameter_decoder(parameter: Parameter) -> Callable[[Data], Outcome]:
    if not parameter.type:
        untyped = Dropped("unknown", f"{parameter.name} has no type", parameter)
        return lambda data: untyped
    size, read = 3 + parameter.size, parameter.read
    short = Dropped("short", f"{parameter.name} cut short: it needs {size} bytes", parameter)
    # Chosen by meta index, so that undefined meta data can never be taken for a value.
    classes = tuple(_update_type(parameter, meta) for meta in range(16))

    def decode(data: Data) -> Outcome:
        if len(data) < size:
            return short
        code = data[2]
        return classes[code >> 4](parameter, data[0], data[1], code, read(data))

    def decode_float(data: Data) -> Outcome:
        if len(data) < size:
            return short
        code, value = data[2], read(data)
        if not isfinite(value):  # type: ignore[arg-type]
            code |= FAILURE
        return classes[code >> 4](parameter, data[0], data[1], code, value)

    return decode_float if parameter.type == "FLOAT" else decode
