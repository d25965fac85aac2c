"""Options by pattern, such as ``idx<number>``: many in the configuration, one mapping in the declaration.

    class XplaneOptions(Options, frozen=True, kw_only=True):
        items: Annotated[
            dict[Annotated[int, Meta(ge=0, le=199)], str],
            Meta(extra={"pattern": r"idx(\\d+)"}, description="Item of a data set, by its number"),
        ] = field(default_factory=dict)

``idx3: IAS`` and ``idx17: HEAD`` in the configuration make ``items`` {3: "IAS", 17: "HEAD"}. The pattern is a regular
expression for the whole name; the key is what its first group matches, or the name if it has no group. ``items`` itself
is no option. A pattern may stand in a plugin's options, but not in a struct within them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

__all__ = ["Family", "convert", "families", "family_of"]

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Family(NamedTuple):
    """The options of one pattern: the `field` that holds them all, and the types of its keys and values."""

    field: str
    required: bool
    pattern: re.Pattern[str]
    key: Any
    value: Any

    @property
    def form(self) -> str:
        """The pattern for people: ``idx<number>``."""
        text = re.sub(r"\((?:\?:|\?P<\w+>)?\\d[^()]*\)|\\d[+*]?", "<number>", self.pattern.pattern)
        return re.sub(r"\([^()]*\)", "<name>", text).replace("\\", "")

    def key_of(self, name: str) -> int | str:
        """The key for the option `name`, which fits the pattern."""
        match = self.pattern.fullmatch(name)
        assert match is not None
        text: str = match[1] if self.pattern.groups else name
        kind = get_args(self.key)[0] if get_origin(self.key) is Annotated else self.key
        return int(text) if kind is int and text.isdecimal() else text

    def like(self, name: str) -> str:
        """The option of this pattern that a misspelt `name` may have meant."""
        number = re.search(r"\d+", name)
        return self.form.replace("<number>", number[0]) if number else self.form


@cache
def families(options: type[msgspec.Struct]) -> tuple[Family, ...]:
    """The patterns that a struct declares. Raises TypeError for one that does not declare a mapping."""
    found = []
    for field in msgspec.structs.fields(options):
        kind, *more = get_args(field.type) if get_origin(field.type) is Annotated else (field.type,)
        for meta in more:
            if isinstance(meta, msgspec.Meta) and meta.extra and "pattern" in meta.extra:
                if get_origin(kind) is not dict:
                    raise TypeError(f"{options.__name__}.{field.name}: options by pattern need a dict to be in")
                pattern = re.compile(meta.extra["pattern"])
                found.append(Family(field.encode_name, field.required, pattern, *get_args(kind)))
    return tuple(found)


def family_of(name: Any, options: type[msgspec.Struct]) -> Family | None:
    """The pattern that the option `name` fits, if it is no option of its own."""
    if not isinstance(name, str) or name in _own_names(options):
        return None
    return next((family for family in families(options) if family.pattern.fullmatch(name)), None)


@cache
def _own_names(options: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(options))


def convert(given: Mapping[Any, Any], options: type[StructT]) -> StructT:
    """The options that a configuration gives. Raises msgspec.ValidationError."""
    if families(options):
        given = _gathered(given, options)
    return msgspec.convert(given, options, strict=True)


def _gathered(given: Mapping[Any, Any], options: type[msgspec.Struct]) -> dict[Any, Any]:
    """`given` with the options of each pattern in one mapping."""
    gathered: dict[Any, Any] = {}
    fields = {family.field for family in families(options)}
    for name, value in given.items():
        family = family_of(name, options)
        if family is None:
            if name in fields:
                raise msgspec.ValidationError(f"Object contains unknown field `{name}`")
            gathered[name] = value
            continue
        mapping = gathered.setdefault(family.field, {})
        key = family.key_of(name)
        if key in mapping:
            raise msgspec.ValidationError(f"{name} is given twice")
        mapping[key] = value
    return gathered
