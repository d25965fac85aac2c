"""Reads fields of the incumbent's map files that ours do not have, as they are intended, and gives advice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fixgw.configuration.reader import Positions
from fixgw.errors import Advice

#: Fields that its maps contain in sections where they do not apply.
FIELDS = ("priority", "nodespecific", "toggle", "sum", "owner", "on_change", "require_leader")


def carry_over(value: dict[Any, Any], at: Positions, sections: Mapping[str, Collection[str]]) -> Iterator[Advice]:
    """Correct the entries in `value`; `sections` are the names of the fields in each section."""
    for section, fields in sections.items():
        entries = value.get(section)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                name = f"{section}[{number}]"
                yield from _blanks(entry, at[section][number], name, fields)
                yield from _fields(entry, at[section][number], name, section, fields)


def _blanks(entry: dict[Any, Any], at: Positions, name: str, fields: Collection[str]) -> Iterator[Advice]:
    """Correct ``on_change:False``, which YAML reads as a key without a value."""
    for key in [key for key, content in entry.items() if content is None and isinstance(key, str) and ":" in key]:
        field, _, text = key.partition(":")
        if field in (*fields, *FIELDS) and field not in entry:
            word = text.strip().lower()
            del entry[key]
            entry[field] = {"true": True, "yes": True, "false": False, "no": False}.get(word, _number(text.strip()))
            yield at.keys[key].advice(f"{name}: a blank is missing: read as `{field}: {text}`")


def _number(text: str) -> int | str:
    return int(text, 0) if re.fullmatch(r"0[xX][0-9a-fA-F]+|[1-9]\d*|0", text) else text


def _fields(entry: dict[Any, Any], at: Positions, name: str, section: str, fields: Collection[str]) -> Iterator[Advice]:
    for field in [field for field in entry if field in FIELDS and field not in fields]:
        del entry[field]
        yield at.keys.get(field, at).advice(f"{name}: {field} has no effect in {section}")
