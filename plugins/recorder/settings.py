"""The files of the configuration, as a recording has them: without passwords."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fixgw import configuration
from fixgw.configuration.secrets import mask_yaml

PREFIX = "configuration/"
MAX_FILE_BYTES = 1 << 20
MAX_BYTES = 4 << 20


def readable(files: Iterable[str]) -> dict[str, bytes]:
    """The contents of `files`, the main file first, by their names relative to it. What is packaged is left out, unless
    it is the main file: the version tells it."""
    found: dict[str, bytes] = {}
    paths = [Path(file) for file in files]
    packaged = configuration.packaged()
    room = MAX_BYTES
    for path in paths:
        if path.is_relative_to(packaged) and path != paths[0]:
            continue
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if len(content) > min(MAX_FILE_BYTES, room):
            continue
        room -= len(content)
        here = path.is_relative_to(paths[0].parent)
        name = str(path.relative_to(paths[0].parent)) if here else str(path).lstrip("/")
        found[PREFIX + name] = mask_yaml(content.decode("utf-8", "replace"))[0].encode()
    return found
