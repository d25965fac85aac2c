"""YAML with positions, under the names that existing plugins use. See `fixgw.configuration.reader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

from fixgw.configuration.reader import Positions, Reader, described
from fixgw.errors import ConfigurationError

__all__ = ["from_yaml", "message"]


@overload
def from_yaml(file: Path | str, metadata: Literal[False] = False) -> dict[Any, Any]: ...
@overload
def from_yaml(file: Path | str, metadata: Literal[True]) -> tuple[dict[Any, Any], Positions]: ...
@overload
def from_yaml(file: Path | str, metadata: bool) -> dict[Any, Any] | tuple[dict[Any, Any], Positions]: ...
def from_yaml(file: Path | str, metadata: bool = False) -> dict[Any, Any] | tuple[dict[Any, Any], Positions]:
    """Read the mapping in a YAML file, with its includes. With `metadata`, also returns its `Positions`, for `message`.

    Raises `ConfigurationError` with all problems.
    """
    reader = Reader(file)
    value, positions = reader.read(reader.main)
    if value is None and not reader.problems:
        value = {}
    if not isinstance(value, dict) and not positions.partial:
        reader.report(positions, f"expected a mapping, got {described(value)}")
    if reader.problems:
        raise ConfigurationError(reader.sorted_problems())
    return (value, positions) if metadata else value


def message(text: str, meta: Positions, key: Any, value: bool = False) -> str:
    """``"file:line:column: text"`` for `key` of the mapping at `meta`; with `value`, the position of its value."""
    at = meta.at([key]) if value or key not in meta.keys else meta.keys[key]
    return f"{at}: {text}"
