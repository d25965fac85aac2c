"""Writes values as YAML, as `reader` reads it: what is written is read back as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["block", "flow"]

_LINE_LENGTH = 120
_PLAIN = re.compile(r"[A-Za-z_/][\w./+-]*( [A-Za-z][\w./+-]*)*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "include"}
_UNPRINTABLE = re.compile(r"[^ -~\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")


def block(value: Any, indent: str) -> Iterator[str]:
    """A mapping, one line per member; nested mappings that are too long take several lines."""
    if not isinstance(value, dict):
        yield f"{indent}{flow(value)}"
        return
    for key, member in value.items():
        line = f"{indent}{flow(key)}: {flow(member)}"
        if len(line) <= _LINE_LENGTH or not member or not isinstance(member, (dict, list)):
            yield line
            continue
        yield f"{indent}{flow(key)}:"
        if isinstance(member, dict):
            yield from block(member, indent + "  ")
        else:
            yield from (f"{indent}  - {flow(entry)}" for entry in member)


def flow(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    if isinstance(value, int):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))
