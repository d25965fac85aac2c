"""The name that distinguishes a gateway from all others: `identity`."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from fixgw.database import Database

_identities: WeakKeyDictionary[Database, str] = WeakKeyDictionary()


def identity(database: Database) -> str:
    """The name of the gateway of `database`, new with each start: ``panel-1a2b3c``, a host and six random digits.

    The digits alone distinguish it, too: `fixgw.kit.sources.path_of`. Any thread.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])
    return _identities.setdefault(database, f"{host[:40]}-{os.urandom(3).hex()}")


def assign(database: Database, name: str) -> None:
    """Give a gateway this name: in a replay, nothing may be random."""
    _identities[database] = name
