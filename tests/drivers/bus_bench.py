"""Shared by the tests of chips on virtual buses: a database with the packaged items, a started plugin, a wait loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fixgw import database
from fixgw.database import Database
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench import base
from fixgw.hw_sim.bench.base import until
from fixgw.hw_sim.bench.chips import numbers
from fixgw.plugin import Poller

__all__ = ["SENDERS", "SOURCE", "adds_up", "numbers", "packaged_database", "running", "until", "with_senders"]

SOURCE = "bench"
#: Channels of a converter; a healthy sender gives at most 3 volts.
SENDERS = [
    {"input": "0", "key": "OILP1", "curve": {"linear": {"factor": 50.0}, "limits": [0.0, 3.0]}},
    {"input": "1", "key": "VOLT", "curve": {"linear": {"factor": 10.0}}},
]


def with_senders(chip: Any) -> Any:
    """The converter with senders wired to its inputs, as `SENDERS` says."""

    def sender(key: str, factor: float) -> Callable[[Aircraft], float]:
        return lambda aircraft: float(aircraft.values()[key]) / factor

    chip.senders += (sender("OILP1", 50.0), sender("VOLT", 10.0))
    return chip


@contextmanager
def packaged_database() -> Iterator[Database]:
    """The packaged items, with their real tolerances, as the current database."""
    db = base.packaged_database()
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
    """Start a plugin, and stop it at the end within a second."""
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
    """Whether every poll is accounted for; the last one may still be in progress."""
    return counts["polls"] - sum(counts[name] for name in ("used", "read errors", *refused)) in (0, 1)
