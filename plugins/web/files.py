"""The files of the configuration, as the page shows and changes them. Everything here may wait for the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fixgw import configuration, state
from fixgw.configuration import Configuration
from fixgw.configuration.reader import instead
from fixgw.errors import Advice, ConfigurationError, FixgwError, Problem

MAX_BYTES = 512 * 1024  # of a file that can be changed: the JSON of a request must have room for it


class Changed(FixgwError):
    """The file is not what the browser believes: somebody has changed it meanwhile."""


class File(NamedTuple):
    """A file that belongs to a configuration; `name` is what clients call it."""

    name: str
    path: Path
    packaged: bool

    @property
    def backup(self) -> Path:
        """Where the content from before the last change is kept."""
        real = self.path.resolve()  # a link to it stays a link
        return real.with_name(f"{real.name}~")

    @property
    def is_editable(self) -> bool:
        """Whether it can be replaced: files of the package come back with the next installation."""
        return not self.packaged and os.access(self.path.parent, os.W_OK) and os.path.isfile(self.path)

    def facts(self, main: Path) -> dict[str, Any]:
        return {
            "name": self.name,
            "editable": self.is_editable,
            "main": self.path == main,
            "backup": self.backup.is_file(),
        }

    def text(self) -> str:
        """Raises OSError, and ValueError for what is no text."""
        data = self.path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ValueError(f"{self.name} is too large to be shown: {len(data):,} bytes")
        return data.decode("utf-8-sig")

    def replace(self, text: str, revision: str | None) -> None:
        """Write the whole file or nothing, and keep what it was. Raises `Changed` and OSError."""
        before = self.path.read_bytes()
        if revision is not None and revision != _revision(before):
            raise Changed(f"{self.name} has changed since you have opened it: open it again")
        mode = os.stat(self.path).st_mode & 0o7777
        state.replace(self.backup, before, mode)
        state.replace(self.path.resolve(), text.encode(), mode)

    def take_back(self) -> None:
        """Exchange the file and what it was before its last change. Raises OSError."""
        self.replace(self.backup.read_bytes().decode("utf-8-sig"), None)


def revision(text: str) -> str:
    """What distinguishes one content of a file from another."""
    return _revision(text.encode())


def _revision(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def files_of(loaded: Configuration) -> dict[str, File]:
    """The files of a configuration, by the names that clients use."""
    package = configuration.packaged()
    found = {}
    for each in dict.fromkeys((str(loaded.file), *loaded.files)):
        path = Path(each)
        is_packaged = path.resolve().is_relative_to(package.resolve())
        name = each
        for folder, prefix in ((loaded.directory, ""), (package, "{PACKAGE}/")):
            if path.is_relative_to(folder):
                name = f"{prefix}{path.relative_to(folder).as_posix()}"
                break
        if path.exists():
            found[name] = File(name, path, is_packaged)
    return found


class Verdict(NamedTuple):
    """What a check says: problems, or else which connections would be changed."""

    problems: list[dict[str, Any]]
    advice: list[dict[str, Any]]
    connections: list[str]


def check(loaded: Configuration, file: File, text: str) -> Verdict:
    """Check the configuration as if `file` had this text. Nothing is saved."""
    names = {str(each.path): each.name for each in files_of(loaded).values()}
    with instead({file.path: text}):
        try:
            found = configuration.load(loaded.file, loaded.variables)
        except ConfigurationError as error:
            return Verdict(_places(error.problems, names), _places(error.advice, names), [])
    before = {c.name: c for c in loaded.connections}
    after = {c.name: c for c in found.connections}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Verdict([], _places(found.advice, names), changed)


def _places(found: Iterable[Problem | Advice], names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"file": names.get(p.file, p.file), "line": p.line, "column": p.column, "message": p.message} for p in found
    ]
