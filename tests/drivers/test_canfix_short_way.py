"""The short way of a value from a frame to the database leads to the same as the long one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.drivers.canfix import Plugin
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame
from fixgw.hw_sim.bench.clock import Clock
from fixgw.world import World

pytestmark = pytest.mark.slow


@contextmanager
def receiver(name: str, clock: Clock) -> Iterator[Plugin]:
    """The driver with its default map, on a database and a silent bus of its own."""
    db = configuration.load(configuration.packaged() / configuration.NAME).make_database(clock)
    with World(db).hosting():
        plugin = Plugin("can", {"interface": "virtual", "channel": f"silent {name}", "node": 200})
    plugin.start()
    yield plugin
    plugin.shutdown()


def test_every_frame_has_the_same_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    clock = Clock()
    with receiver("short", clock) as short, receiver("long", clock) as long:
        assert len(short.inputs.direct) > 80
        long.inputs.direct.clear()
        dice = random.Random(1)
        identifiers = sorted(short.inputs.values)
        for _ in range(20_000):
            identifier = dice.choice(identifiers) if dice.random() < 0.98 else dice.randrange(0x800)
            index = dice.choice((0, 0, 0, 1, 2, 3, dice.randrange(256)))
            code = dice.choice((0, 0, 0, 1, 2, 4, 7, 8, 0x10, dice.randrange(256)))
            size = dice.choice((8, 8, 5, 4, dice.randrange(9)))
            data = bytes((dice.choice((12, 13, short.node.id)), index, code)) + dice.randbytes(8)
            flags = dice.choice((0,) * 30 + (EXTENDED, REMOTE, ERROR, FD))
            frame = Frame(identifier, data[:size], flags)
            clock.now += 0.001
            short.received([frame])
            long.received([frame])
        assert short.counts["used"] > 2000
        assert (short.counts, short.codec.counts) == (long.counts, long.codec.counts)
        for key in short.db:
            assert short.db.read(key) == long.db.read(key), key
            assert short.db.item(key).aux == long.db.item(key).aux
            assert short.db.item(key).writes == long.db.item(key).writes
