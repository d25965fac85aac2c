"""The configuration that plays a recording of the incumbent's recorder: `playback`."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from fixgw import loader
from fixgw.configuration import NAME, Configuration, Connection, load, packaged
from fixgw.configuration.reader import Reader
from fixgw.errors import FixgwError
from fixgw.plugin import CONFIGPATH
from fixgw.recording.incumbent import hour_file, hours_from

__all__ = ["playback"]

RECORDER = "fixgw.plugins.data_recorder"
PLAYER = "fixgw.plugins.replay"


def playback(path: Path, start: datetime) -> Configuration:
    """The configuration at `path` with two kinds of connections: its NetFIX servers, and one that plays the recordings
    of its recorder from `start` on, in local time if it has no zone, and then stops the gateway.

    The recorder need not be loaded. Raises `ConfigurationError`, and `FixgwError` if there is no such recording.
    """
    loaded = load(path)
    folder = _folder(path, loaded)
    files = hours_from(folder, start)
    if not files:
        raise FixgwError(f"there is no recording of {start:%Y-%m-%d %H:%M}: {hour_file(folder, start)} does not exist")
    options = {
        "files": [str(file) for file in files],
        "start": start.isoformat(),
        "quit": True,
        CONFIGPATH: str(loaded.directory),
    }
    player = Connection(name="data_playback", module=PLAYER, plugin=loader.load_plugin(PLAYER), options=options)
    servers = [c for c in loaded.connections if c.plugin.safe]
    servers = servers or [c for c in load(packaged() / NAME).connections if c.plugin.safe]
    return replace(loaded, connections=(*servers, player), unloaded={}, advice=())


def _folder(path: Path, loaded: Configuration) -> Path:
    """The directory of the recordings."""
    content, _ = (reader := Reader(os.fspath(path), {"PACKAGE": str(packaged())})).read(reader.main)
    connections = content.get("connections") if isinstance(content, dict) else None
    for section in connections.values() if isinstance(connections, dict) else ():
        if isinstance(section, dict) and section.get("module") == RECORDER:
            filepath = section.get("filepath")
            if isinstance(filepath, str) and filepath:
                return Path(loaded.directory, Path(filepath).expanduser())
    raise FixgwError(f"{path} has no connection with the module {RECORDER}: its `filepath` says where recordings are")
