"""Which gateways a measurement on the bus has passed through, in status messages of types that devices define.

A frame with a value has no room for that. So a gateway announces that it is one, with the digits of its identity
(`fixgw.kit.sources.path_of`), and the path of each parameter that it has from another gateway, again every few seconds
and when another node asks for a report. Other nodes ignore these types.

========  =======================  =======================================================================
gateway   0xF16A                   3 bytes of digits
path      0xF800 + identifier      index; then, if there is a path, place and length of one gateway on it in
                                   the high and low half of a byte, and 3 bytes of digits
========  =======================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fixgw.drivers.canfix import protocol as cf
from fixgw.kit.sources import LONGEST_PATH

__all__ = ["ANNOUNCE_S", "Path", "Paths", "Topic", "encode_gateway", "encode_path", "is_announcement"]

ANNOUNCE_S = 3.0  # between two announcements
GATEWAY = 0xF16A
PATH = 0xF800
Path = tuple[str, ...]
Topic = tuple[int, int]  # identifier and index


def encode_gateway(node: int, digits: str) -> cf.Frame:
    """The message that `node` is the gateway with these digits."""
    return cf.NodeStatus(node, GATEWAY, bytes.fromhex(digits)).encode()


def encode_path(node: int, topic: Topic, path: Sequence[str]) -> list[cf.Frame]:
    """The messages that the parameter has passed through the gateways `path` before it came to `node`."""
    identifier, index = topic
    contents = [bytes((place << 4 | len(path),)) + bytes.fromhex(digits) for place, digits in enumerate(path)]
    return [cf.NodeStatus(node, PATH | identifier, bytes((index,)) + content).encode() for content in contents or [b""]]


def is_announcement(status: cf.NodeStatus) -> bool:
    return status.type == GATEWAY or status.type >= PATH


class Paths:
    """What the other nodes have announced. `changed` is called with a node, and a topic or None for all of them.

    `wanted` says whether we receive a parameter: only such are kept. Use it from one thread.
    """

    def __init__(self, wanted: Callable[[Topic], bool], changed: Callable[[int, Topic | None], object]) -> None:
        self._wanted = wanted
        self._changed = changed
        self._gateways: dict[int, str] = {}  # by node
        self._paths: dict[tuple[int, Topic], Path] = {}
        self._partial: dict[tuple[int, Topic], Path] = {}

    def take(self, status: cf.NodeStatus) -> None:
        """Take a status message. One that is no announcement, or makes no sense, is ignored."""
        value = status.value
        if not is_announcement(status) or not isinstance(value, bytes):
            return
        if status.type == GATEWAY:
            digits = value[:3].hex()
            if len(value) >= 3 and self._gateways.get(status.source) != digits:
                self._gateways[status.source] = digits
                self._changed(status.source, None)
        elif value and self._wanted(topic := (status.type & ~PATH, value[0])):
            self._take_part((status.source, topic), value[1:])

    def _take_part(self, key: tuple[int, Topic], part: bytes) -> None:
        path: Path = ()
        if part and part[0]:
            place, length = part[0] >> 4, part[0] & 15
            before = self._partial.pop(key, ()) if place else ()
            if len(part) < 4 or len(before) != place or not place < length <= LONGEST_PATH:
                return
            path = (*before, part[1:4].hex())
            if len(path) < length:
                self._partial[key] = path
                return
        if self._paths.get(key, ()) != path:
            self._paths[key] = path
            self._changed(*key)

    def of(self, node: int, topic: Topic) -> Path:
        """The gateways that the parameter of a node has passed through, the node first if it is one."""
        own = self._gateways.get(node)
        path = self._paths.get((node, topic), ())
        return (own, *path) if own else path
