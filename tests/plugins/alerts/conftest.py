"""A connection as a configuration declares it, on a wound clock and in the test's own thread."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from fixgw import configuration, loader
from fixgw.alerts.judge import Judge
from fixgw.database import FLAG_LETTERS, WRITABLE, Database, Reading
from fixgw.hw_sim.bench.clock import Clock
from fixgw.world import World

PluginT = TypeVar("PluginT", bound=Judge[Any])


class Flight:
    """A configuration, its database, and its connections of this page."""

    def __init__(self, path: Path, connections: dict[str, Any] | str) -> None:
        file = path / "default.yaml"
        if isinstance(connections, str):
            text = textwrap.dedent(connections)
        else:
            text = yaml.safe_dump({"connections": connections})
        file.write_text(text, encoding="utf-8")
        self.configuration = configuration.load(file)
        self.clock = Clock()
        self.db: Database = self.configuration.make_database(self.clock)
        self.world = World(self.db)
        self.plugins: dict[str, Judge[Any]] = {}

    def begin(self) -> None:
        """Start the connections, but leave their work to `step`."""
        for connection in self.configuration.connections:
            with self.world.hosting():
                plugin = loader.make_plugin(
                    connection.plugin, connection.name, dict(connection.options), connection.meta
                )
            assert isinstance(plugin, Judge)
            plugin.source = connection.source
            plugin.follow()
            self.plugins[connection.name] = plugin
        self.step()

    def step(self) -> None:
        """Let the connections work until nothing changes any more."""
        for plugin in self.plugins.values():
            plugin.step(0.0)
            while plugin.step(0.0):
                pass

    def at(self, seconds: float) -> None:
        """Go to a time since the beginning, and let items age."""
        self.clock.now = 1000.0 + seconds
        self.db.age()
        self.step()

    def write(self, key: str, given: Any) -> None:
        """Write a value, or ``[value, letters]`` with flags."""
        if isinstance(given, list):
            flags = sum(FLAG_LETTERS[letter] for letter in given[1])
            self.db.item(key).write(given[0], "test", flags, mask=WRITABLE)
        else:
            self.db.write(key, given, "test")

    def close(self) -> None:
        for plugin in self.plugins.values():
            plugin.stop()
            plugin.finish()
            plugin.shutdown()


@pytest.fixture
def fly(tmp_path: Path) -> Iterator[Callable[[dict[str, Any] | str], Flight]]:
    """Load a configuration."""
    flights: list[Flight] = []

    def load(connections: dict[str, Any] | str) -> Flight:
        flights.append(Flight(tmp_path, connections))
        return flights[-1]

    yield load
    for flight in flights:
        flight.close()


def letters(reading: Reading) -> str:
    return "".join(letter for letter, bit in FLAG_LETTERS.items() if reading.flags & bit)
