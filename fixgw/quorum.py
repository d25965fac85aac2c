"""Which gateway leads when several serve one aircraft: attributes of this module that plugins read and set.

They belong to the process's first gateway (`fixgw.world.first`). A plugin finds those of its own gateway in
`self.quorum`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from fixgw import world

leader: bool
enabled: bool
nodeid: int | None
total_nodes: int
vote_key: str | None


def _firsts(name: str) -> property:
    def get(module: ModuleType) -> Any:
        return getattr(world.first().quorum, name)

    def put(module: ModuleType, value: Any) -> None:
        setattr(world.first().quorum, name, value)

    return property(get, put)


class _Module(ModuleType):
    """The type of this module, whose attributes are those of the first gateway."""


for _name in ("leader", "enabled", "nodeid", "total_nodes", "vote_key"):
    setattr(_Module, _name, _firsts(_name))

sys.modules[__name__].__class__ = _Module
