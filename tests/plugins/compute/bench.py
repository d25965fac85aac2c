"""A gateway with a compute connection, on a clock that the test winds: configuration text, loaded plugin, database.

Its definition has just the items that a case needs, as the packaged one defines them, because loading that for each
case takes long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fixgw import configuration
from fixgw.database import BAD, FAIL, FLAG_LETTERS, SECFAIL, Database, Definition
from fixgw.errors import Problem
from fixgw.gateway import Gateway
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.compute import Plugin

LETTERS = {**FLAG_LETTERS}


@cache
def packaged() -> Mapping[str, Definition]:
    loaded = configuration.load(configuration.packaged() / configuration.NAME)
    return {definition.key: definition for definition in loaded.definitions}


def entry(key: str, **changes: Any) -> dict[str, Any]:
    """The entry of a definition file for `key`, with some fields changed."""
    definition = packaged().get(key) or Definition(key=key)
    fields = {
        "type": definition.type,
        "units": definition.units,
        "min": definition.min,
        "max": definition.max,
        "initial": definition.initial,
        "tol": definition.tolerance,
        "aux": list(definition.aux),
        "setting": definition.setting,
        "wrap": definition.wrap,
        "sources": list(definition.sources),
        **changes,
    }
    return {"key": key, **{name: value for name, value in fields.items() if value not in (None, [], "")}}


def write_tree(
    directory: Path,
    functions: list[dict[str, Any]],
    keys: Iterable[str] = (),
    items: Iterable[dict[str, Any]] = (),
    **options: Any,
) -> Path:
    """A configuration with these functions, and an item for each key that they name or that is in `keys`."""
    named = dict.fromkeys(keys)
    for function in functions:
        output = function.get("output", [])
        for key in [*function.get("inputs", []), *([output] if isinstance(output, str) else output)]:
            if isinstance(key, str):
                named[key] = None
    changes = {item["key"]: item for item in items}
    entries = [entry(key, **{k: v for k, v in changes.get(key, {}).items() if k != "key"}) for key in named]
    (directory / "database.yaml").write_text(json.dumps({"entries": entries}))
    connection = {"load": True, "module": "fixgw.plugins.compute", "functions": functions, **options}
    main = {
        "database file": "{CONFIG}/database.yaml",
        "initialization files": [],
        "connections": {"compute": connection},
    }
    path = directory / "default.yaml"
    path.write_text(json.dumps(main))
    return path


class Flight:
    """A running gateway."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self.gateway = gateway
        self.clock = clock
        self.db: Database = gateway.database

    @property
    def plugin(self) -> Plugin:
        plugin = self.gateway.runners["compute"].plugin
        assert isinstance(plugin, Plugin)
        return plugin

    def advance(self, seconds: float) -> None:
        """Wind the clock; what is overdue ages, and what is due by the clock is done."""
        self.clock.now += seconds
        self.db.age()
        self.plugin.look()

    def write(self, key: str, value: Any, letters: str | None = None, source: str = "test") -> None:
        flags = None if letters is None else sum(LETTERS[letter] for letter in letters)
        self.db.item(key).write(value, source, flags, "for the test")

    def flag(self, key: str, letters: str, source: str = "test") -> None:
        flags = sum(LETTERS[letter] for letter in letters)
        self.db.item(key).flag(flags, BAD | FAIL | SECFAIL, source, "for the test")

    def read(self, key: str) -> tuple[Any, str]:
        """Value, and the letters of the flags in the order aobfs."""
        reading = self.db.read(key)
        return reading.value, "".join(letter for letter, bit in LETTERS.items() if reading.flags & bit)

    def reason(self, key: str) -> str:
        return "; ".join(dict.fromkeys(reason for _, reason in self.db.read(key).reasons))


@contextmanager
def flying(path: Path, clock: Clock | None = None, aux: Mapping[str, Any] | None = None) -> Iterator[Flight]:
    """Run the gateway of the configuration `path`. `aux` values are set before it starts."""
    clock = clock or Clock()
    gateway = Gateway(configuration.load(path), clock=clock)
    for key, value in (aux or {}).items():
        gateway.database.write(key, value)
    gateway.start()
    # The clock stands still: only `advance` ages items and does what is due.
    runner = gateway.runners["compute"]
    assert runner.state.value == "running", runner.health(1.0)
    try:
        yield Flight(gateway, clock)
    finally:
        gateway.stop()


def findings(path: Path) -> list[Problem]:
    return configuration.check(path)
