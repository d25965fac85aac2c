"""A real gateway, from configuration text to database, whose plugins' threads only work when the test says so."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.gateway import Gateway
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugin import Worker


@contextmanager
def gateway(
    text: str,
    directory: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    loaded: configuration.Configuration | None = None,
) -> Iterator[Gateway]:
    """Run the gateway that `text` configures, or one with the configuration `loaded`, on `clock`. Workers wait, so that
    the test can call their `step`."""
    path = directory / "default.yaml"
    path.write_text(textwrap.dedent(text))

    def wait(plugin: Worker[Any]) -> None:
        plugin.stopping.wait()

    running = Gateway(loaded or configuration.load(path), clock=clock)
    with monkeypatch.context() as patch:
        for connection in running.configuration.connections:
            if issubclass(connection.plugin, Worker):
                patch.setattr(connection.plugin, "work", wait)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def plugin_of(running: Gateway, name: str) -> Any:
    """The plugin that runs the connection."""
    return running.runners[name].plugin
