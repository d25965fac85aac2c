"""``fixgw demo --example NAME``: an aircraft of the gallery in real time, for displays.

Its drivers and virtual devices are those of a `fixgw.hw_sim.bench.rig.Rig`, which flies at the pace of the clock;
beside it, servers of NetFIX and of the page have threads of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw import __version__, loader, status
from fixgw.cli import stop_on_signal
from fixgw.cli.sim import print_event
from fixgw.errors import FixgwError, did_you_mean

if TYPE_CHECKING:
    from fixgw.hw_sim.bench.rig import Rig
    from fixgw.plugin import PluginBase

FLIGHT = "flight.yaml"
MAX_BEHIND_S = 1.0  # after a longer hold-up the flight continues where it was


def find(name: str) -> Path:
    """The folder of an aircraft: one of the gallery, or of the user. Raises FixgwError."""
    from fixgw.configuration.tree import aircraft

    gallery = aircraft()
    if name in gallery:
        return gallery[name]
    if Path(name, FLIGHT).is_file():
        return Path(name)
    meant = did_you_mean(name, gallery)
    raise FixgwError(f"no aircraft {name!r}{meant}: give a folder with a {FLIGHT}, or one of {', '.join(gallery)}")


def fly(folder: Path, servers: Mapping[str, Mapping[str, Any]], duration: float | None) -> None:
    """Fly until Ctrl-C or SIGTERM, or for `duration` seconds, with these `servers`: options by the plugin's name.

    Raises FixgwError if there are problems.
    """
    from fixgw import configuration
    from fixgw.hw_sim import scenario as scenarios
    from fixgw.hw_sim.bench.rig import VARIABLES, Rig

    flight = scenarios.load(folder / FLIGHT)
    # Nobody judges here, and it goes on after the last event.
    flight = flight._replace(duration=None, events=tuple(e for e in flight.events if e.kind != "expect"))
    loaded = configuration.load(folder / configuration.NAME, VARIABLES)
    with (
        stop_on_signal() as over,
        Rig(loaded, flight, tell=print_event, keep=0) as rig,
        _serving(rig, servers) as running,
    ):
        print(_describe(folder, rig, running), flush=True)
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())) and (duration is None or rig.now < duration):
            rig.fly(rig.step)
            due = max(due + rig.step, time.monotonic() - MAX_BEHIND_S)


@contextmanager
def _serving(rig: Rig, servers: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    world = rig.stepper.world
    adopt, world.adopt = world.adopt, None
    world.status = lambda: _status(rig)
    running: dict[str, PluginBase] = {}
    try:
        with world.hosting():
            for name, options in servers.items():
                running[name] = loader.make_plugin(
                    loader.load_plugin(f"fixgw.plugins.{name}"), name, dict(options), None
                )
                running[name].start()
        yield running
    finally:
        for server in running.values():
            server.shutdown()
        world.adopt = adopt


def _status(rig: Rig) -> dict[str, Any]:
    """The status tree, as far as there is one. Any thread."""
    troubles = rig.health()
    modules = {connection.name: connection.module for connection in rig.configuration.connections}
    connections = {
        name: {
            "module": modules[name],
            "state": "running" if plugin.running else "failed",
            "for": rig.now,
            "running": bool(plugin.running),
            "health": troubles.get(name, "ok"),
            "reason": "",
            "restarts": 0,
            "next start in": None,
            "status": status.plain(plugin.get_status()),
        }
        for name, plugin in rig.plugins.items()
    }
    return {
        "version": __version__,
        "health": "degraded" if troubles else "ok",
        "summary": f"{len(connections) - len(troubles)} of {len(connections)} connections well",
        "uptime": rig.now,
        "configuration": {"file": str(rig.configuration.file), "reloads": 0, "problems": []},
        "database": rig.db.statistics(),
        "overrides": {},
        "connections": connections,
    }


def _describe(folder: Path, rig: Rig, running: Mapping[str, Any]) -> str:
    left_out = ", ".join(sorted(name for name in rig.left_out if name not in running))
    port = running["netfix"].port
    where = "" if port == 3490 else f" --port {port}"
    lines = [f"{folder.resolve().name} is flying, without devices: {', '.join(rig.plugins)}."]
    if left_out:
        lines.append(f"Left out here: {left_out}.")
    if "web" in running and running["web"].is_running():
        lines.append(f"The page for browsers: {running['web'].address}")
    lines.append(f"NetFIX listens on port {port}: `fixgw watch{where}`, `fixgw alerts{where}`, or a display.")
    return "\n".join([*lines, "Press Ctrl-C to stop."])
