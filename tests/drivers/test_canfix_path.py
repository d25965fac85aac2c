"""Announcements of gateways on CAN-FIX: what measurements have passed through."""

from __future__ import annotations

import pytest

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.path import Paths, Topic, encode_gateway, encode_path
from fixgw.drivers.canfix.table import load

CODEC = cf.Codec(load())
IAS: Topic = (0x183, 0)
LONG = tuple(f"{n:06x}" for n in range(1, 9))


class Heard:
    def __init__(self) -> None:
        self.changes: list[tuple[int, Topic | None]] = []
        self.paths = Paths({IAS, (0x183, 2)}.__contains__, lambda node, topic: self.changes.append((node, topic)))

    def hear(self, *frames: cf.Frame, pad: bytes = b"") -> None:
        for frame in frames:
            status = CODEC.decode(frame.arbitration_id, frame.data + pad)
            assert isinstance(status, cf.NodeStatus)
            self.paths.take(status)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.mark.parametrize("path", [(), ("1a2b3c",), ("1a2b3c", "ffffff"), LONG])
def test_a_path_arrives(heard: Heard, path: tuple[str, ...]) -> None:
    for _ in range(2):
        heard.hear(*encode_path(5, IAS, path))
    assert heard.paths.of(5, IAS) == path
    assert heard.changes == ([(5, IAS)] if path else [])
    assert heard.paths.of(6, IAS) == heard.paths.of(5, (0x183, 2)) == ()


def test_a_gateway_is_first_on_its_paths(heard: Heard) -> None:
    heard.hear(*encode_path(5, IAS, ["1a2b3c"]), encode_gateway(5, "00000a"))
    assert heard.paths.of(5, IAS) == ("00000a", "1a2b3c")
    assert heard.changes == [(5, IAS), (5, None)]
    heard.hear(*encode_path(5, IAS, []))
    assert heard.paths.of(5, IAS) == ("00000a",)
    heard.hear(encode_gateway(5, "00000b"))  # it was restarted
    assert heard.paths.of(5, IAS) == ("00000b",)


def test_a_path_with_a_hole_changes_nothing(heard: Heard) -> None:
    heard.hear(*encode_path(5, IAS, ["1a2b3c"]))
    first, second, third = encode_path(5, IAS, LONG[:3])
    heard.hear(first, third)
    heard.hear(second, third)
    assert heard.paths.of(5, IAS) == ("1a2b3c",)
    heard.hear(first, second, third)
    assert heard.paths.of(5, IAS) == LONG[:3]


@pytest.mark.parametrize("value", ["", "00", "0000", "000f1a2b3c", "00111a2b3c", "00011a", "09011a2b3c"])
def test_other_devices_may_use_the_same_types_for_anything(heard: Heard, value: str) -> None:
    for type in (0xF16A, 0xF800 | 0x183, 0xF800 | 0x7FF, 0xF000):
        heard.hear(cf.NodeStatus(5, type, bytes.fromhex(value)).encode())
    assert heard.paths.of(5, IAS) in ((), (bytes.fromhex(value)[:3].hex(),))


def test_padding_is_ignored(heard: Heard) -> None:
    heard.hear(encode_gateway(5, "1a2b3c"), pad=bytes(2))
    heard.hear(*encode_path(5, IAS, []), pad=bytes(4))
    assert heard.paths.of(5, IAS) == ("1a2b3c",)


def test_only_parameters_that_are_received_take_memory(heard: Heard) -> None:
    for identifier in range(0x800):
        for index in range(0, 256, 5):
            heard.hear(encode_path(5, (identifier, index), LONG[:2])[0])
    assert len(heard.paths._partial) == 1
