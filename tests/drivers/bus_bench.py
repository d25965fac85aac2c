"""What the tests of chips on virtual buses share: a database with the packaged items, a started plugin, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from fixgw import configuration, database
from fixgw.database import Database
from fixgw.plugin import Poller

SOURCE = "bench"
#: Buses that no other test has.
numbers = count(100)


def until(condition: Callable[[], object], what: str = "it did not happen", seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@contextmanager
def packaged_database() -> Iterator[Database]:
    """The packaged items, with their real tolerances, as the current database."""
    db = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    before = database.current()
    database.bind(db)
    db.start()
    try:
        yield db
    finally:
        db.stop()
        database.bind(before)


@contextmanager
def running(plugin_class: type[Any], **options: Any) -> Iterator[Any]:
    """A started plugin, stopped at the end within a second."""
    plugin: Poller = plugin_class(SOURCE, options)
    plugin.start()
    try:
        yield plugin
    finally:
        begin = time.monotonic()
        plugin.shutdown()
        assert time.monotonic() - begin < 1.0
        assert plugin._thread is not None
        assert not plugin._thread.is_alive()


def adds_up(counts: dict[str, int], *refused: str) -> bool:
    """Whether every poll is accounted for; the last one may still be going on."""
    return counts["polls"] - sum(counts[name] for name in ("used", "read errors", *refused)) in (0, 1)
