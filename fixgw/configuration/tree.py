"""Copies the packaged configuration, or that of an aircraft of the gallery, for the user to edit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from fixgw import state
from fixgw.configuration import NAME, packaged

MANIFEST = ".packaged.sha256"  # the files that were copied, in the format of sha256sum
GALLERY = Path(__file__).parents[1] / "aircraft"
SCHEMA = "fixgw.schema.json"  # the first line of default.yaml names it, for editors


def aircraft() -> dict[str, Path]:
    """The folders of the gallery (``examples/aircraft``), by name."""
    return {path.parent.name: path.parent for path in sorted(GALLERY.glob(f"*/{NAME}"))}


def copy_tree(directory: str | os.PathLike[str], source: Path | None = None) -> list[tuple[Path, str]]:
    """Copy the packaged configuration, or another `source`, into `directory`, which is created if necessary. Never
    changes existing files.

    Returns each file with what was done: ``"written"``, ``"the same"`` or ``"kept, yours differs"``, with a note if the
    packaged file has changed since it was copied. Raises OSError if it cannot write.
    """
    source, target = source or packaged(), Path(directory).expanduser()
    copied = _manifest(target / MANIFEST)
    report: list[tuple[Path, str]] = []
    digests: dict[str, str] = {}
    for path in _data_files(source):
        name = path.relative_to(source).as_posix()
        data, destination = path.read_bytes(), target / name
        digest = hashlib.sha256(data).hexdigest()
        if not os.path.lexists(destination):
            state.replace(destination, data)
            digests[name] = digest
            action = "written"
        elif destination.is_file() and destination.read_bytes() == data:
            digests[name] = digest
            action = "the same"
        else:
            digests[name] = copied.get(name, "")
            action = "kept, yours differs"
            if copied.get(name, digest) != digest:
                action += "; the packaged one has changed since it was copied"
        report.append((destination, action))
    state.replace(target / MANIFEST, "".join(f"{d}  {n}\n" for n, d in sorted(digests.items()) if d).encode())
    return report


def write_schema(directory: str | os.PathLike[str]) -> tuple[Path, str]:
    """Write the JSON schema of the main file beside it. Replaces an older one, because it is not meant to be edited.

    Returns the file with what was done: ``"written"`` or ``"the same"``. Raises OSError if it cannot write.
    """
    from fixgw.configuration.schema import schema  # imports every driver

    path, data = Path(directory).expanduser() / SCHEMA, json.dumps(schema(), indent=1).encode()
    if path.is_file() and path.read_bytes() == data:
        return path, "the same"
    state.replace(path, data)
    return path, "written"


def _data_files(directory: Path) -> Iterable[Path]:
    for path in sorted(directory.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(directory).parts)
        if path.is_file() and not hidden and path.suffix not in (".py", ".pyc"):
            yield path


def _manifest(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
