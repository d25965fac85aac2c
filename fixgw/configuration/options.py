"""Checks options against their declaration, with messages that a builder understands, and lists them in tables.

A plugin declares its options as a msgspec struct (`fixgw.plugin.Options`). msgspec reports only the first problem; here
we find them all.
"""

from __future__ import annotations

import enum
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from fixgw.configuration.reader import Positions, described
from fixgw.errors import Problem, did_you_mean
from fixgw.kit.options import Family, convert, families, family_of

__all__ = ["Row", "files", "fitting", "problems", "rows"]


def problems(value: Any, kind: Any, at: Positions, name: str = "", also_known: Iterable[str] = ()) -> Iterator[Problem]:
    """Report everything in `value` that does not fit the type `kind`.

    `at` is the position of the value, and `name` its name in the messages (empty: the connection itself). `also_known`
    are more names that a misspelt field may have meant.
    """
    try:
        if _is_struct(kind) and isinstance(value, dict):
            convert(value, kind)
        else:
            msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        first = error
    else:
        yield from _not_finite(value, at, name)
        return
    bare = _bare(kind, value)
    found = list(_members(value, bare, at, name, also_known))
    yield from found
    # Otherwise the problem is the value as a whole: its type, its range, or what its __post_init__ says. A missing
    # field may be in a part that could not be read.
    if not found and not (at.partial and str(first).startswith("Object missing")):
        yield _problem(str(first), value, kind, at, name)


def _not_finite(value: Any, at: Positions, name: str) -> Iterator[Problem]:
    """Report NaN and infinity, which YAML can write and no option means."""
    if isinstance(value, float) and not isfinite(value):
        yield at.problem(f"{name}: expected a number, got {described(value)}")
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _not_finite(key, at.keys.get(key, at), f"{name}: the key {key}")
            yield from _not_finite(member, at.at([key]), f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _not_finite(member, at.at([index]), f"{name}[{index}]")


def without_blanks(value: dict[Any, Any], kind: type[msgspec.Struct]) -> dict[Any, Any]:
    """`value` without the options that are written with nothing after them, unless nothing means something there."""
    return {
        name: member
        for name, member in value.items()
        if member is not None or name not in (known := _options(kind)) or _takes_nothing(known[name].type)
    }


def _takes_nothing(kind: Any) -> bool:
    try:
        msgspec.convert(None, kind)
    except msgspec.ValidationError:
        return False
    return True


def fitting(value: dict[Any, Any], kind: type[msgspec.Struct]) -> tuple[dict[Any, Any], dict[str, list[int]]]:
    """Those members of `value` that are options of the struct `kind` and fit their types.

    Of a list or mapping with wrong entries, the others are kept: the second result has the places that they had in
    such a list, by option.
    """
    fits: dict[Any, Any] = {}
    places: dict[str, list[int]] = {}
    fields = _options(kind)
    keys: set[tuple[str, Any]] = set()
    for name, member in value.items():
        if name in fields:
            if any(problems(member, fields[name].type, Positions(""), name)):
                member, places[name] = _fitting_entries(member, fields[name].type)
                if not member or any(problems(member, fields[name].type, Positions(""), name)):
                    continue
        elif (family := family_of(name, kind)) is not None:
            if any(_family_problems(name, member, family, keys, Positions(""))):
                continue
        else:
            continue
        fits[name] = member
    return fits, places


def _fitting_entries(value: Any, kind: Any) -> tuple[Any, list[int]]:
    """The entries of a list or mapping that fit by themselves, and their places in the list; else nothing."""
    bare = _bare(kind, value)
    origin, arguments = get_origin(bare), get_args(bare)
    if isinstance(value, list) and origin in (list, tuple) and arguments and arguments[-1] in (arguments[0], ...):
        places = [i for i, v in enumerate(value) if not any(problems(v, arguments[0], Positions("")))]
        return [value[i] for i in places], places
    if isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return {k: v for k, v in value.items() if not any(problems({k: v}, bare, Positions("")))}, []
    return None, []


def _options(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The options of a struct by name, without those that are declared by pattern."""
    by_pattern = {family.field for family in families(kind)}
    return {f.encode_name: f for f in msgspec.structs.fields(kind) if f.encode_name not in by_pattern}


def _family_problems(
    name: str, member: Any, family: Family, keys: set[tuple[str, Any]], at: Positions
) -> Iterator[Problem]:
    """Report what is wrong with an option that is declared by pattern; `keys` are those already seen."""
    key = family.key_of(name)
    yield from problems(key, family.key, at.keys.get(name, at), name)
    yield from problems(member, family.value, at.at([name]), name)
    if (family.field, key) in keys:
        yield at.keys.get(name, at).problem(f"{name} is given twice")
    keys.add((family.field, key))


def _members(value: Any, kind: Any, at: Positions, name: str, also_known: Iterable[str]) -> Iterator[Problem]:
    if _is_struct(kind) and isinstance(value, dict):
        fields = _options(kind)
        patterns = families(kind)
        seen: set[tuple[str, Any]] = set()
        for key, member in value.items():
            if (family := family_of(key, kind)) is not None:
                yield from _family_problems(key, member, family, seen, at)
            elif key in fields:
                yield from problems(member, fields[key].type, at.at([key]), f"{name}.{key}" if name else str(key))
            elif kind.__struct_config__.forbid_unknown_fields:
                what = f"{name}: unknown option" if name else "unknown option"
                known = [*fields, *also_known, *(pattern.like(str(key)) for pattern in patterns)]
                yield at.keys.get(key, at).problem(f"{what} {key!r}{did_you_mean(str(key), known)}")
        needed = [key for key, field in fields.items() if field.required and key not in value]
        needed += [p.form for p in patterns if p.required and not any(field == p.field for field, _ in seen)]
        for key in needed if not at.partial else ():
            yield at.problem(f"{name}: {key!r} is missing" if name else f"{key!r} is missing")
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, list) and origin in (list, tuple, set, frozenset) and arguments:
        if origin is tuple and arguments[-1] is not Ellipsis:
            if len(arguments) != len(value):
                return
            kinds = list(arguments)
        else:
            kinds = [arguments[0]] * len(value)
        for index, (member, member_kind) in enumerate(zip(value, kinds, strict=True)):
            yield from problems(member, member_kind, at.at([index]), f"{name}[{index}]")
    elif isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        for key, member in value.items():
            yield from problems(key, arguments[0], at.keys.get(key, at), f"{name}: the key {_key(key)}")
            yield from problems(member, arguments[1], at.at([key]), f"{name}.{key}")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _bare(kind: Any, value: Any) -> Any:
    """`kind` without annotations. Of a union, the only member that a mapping or list `value` can fit."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType) and isinstance(value, (dict, list)):
        members = [_bare(m, value) for m in get_args(kind)]
        if isinstance(value, dict):
            fitting = [m for m in members if _is_struct(m) or get_origin(m) is dict]
        else:
            fitting = [m for m in members if get_origin(m) in (list, tuple, set, frozenset)]
        if len(fitting) == 1:
            return fitting[0]
    return kind


_PATH = re.compile(r" - at (?:`key` in )?`\$([^`]*)`\Z")


def _problem(text: str, value: Any, kind: Any, at: Positions, name: str) -> Problem:
    """Reword msgspec's message about `value`."""
    nested = _PATH.search(text)
    if nested:  # deep in something that may have several types: we know the place but not the value
        text = _PATH.sub("", text)
        if isinstance(value, (dict, list)):
            name = (name + nested.group(1)).lstrip(".")
    elif text.startswith(("Expected ", "Invalid enum value ")):
        wanted = _describe_type(kind)[0]
        text = f"expected {wanted}, got {described(value)}"
        if isinstance(value, str):
            text += did_you_mean(value, _choices(kind))
        elif isinstance(value, bool) and ("text" in wanted or _choices(kind)):
            text += " (YAML reads yes, no, on and off as switches): put it in quotes"
    return at.problem(f"{name}: {text}" if name else text)


def _key(key: Any) -> str:
    return described(key) if isinstance(key, bool) else repr(key)


def _choices(kind: Any) -> list[str]:
    """The words that a type allows, if it allows only some."""
    if get_origin(kind) is Literal:
        return [c for c in get_args(kind) if isinstance(c, str)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [m.value for m in kind if isinstance(m.value, str)]
    return [c for member in get_args(kind) for c in _choices(member)]


def _join_choices(choices: Iterable[Any]) -> str:
    *front, last = (str(c) for c in choices)
    return f"{', '.join(front)} or {last}" if front else last


def files(options: type[msgspec.Struct]) -> list[str]:
    """The options that name a YAML file, which is part of the configuration: ``Meta(extra={"file": True})``."""
    return [
        field.encode_name
        for field in msgspec.structs.fields(options)
        for meta in (get_args(field.type)[1:] if get_origin(field.type) is Annotated else ())
        if isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("file")
    ]


# -- tables ------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One option, for people to read: `default` is written as in YAML, or ``"required"`` if there is none."""

    name: str
    type: str
    default: str
    description: str


def rows(options: type[msgspec.Struct], prefix: str = "") -> list[Row]:
    """A row for every option that a struct declares. Those of nested structs have names like ``outputs[].key``."""
    table: list[Row] = []
    patterns = {family.field: family for family in families(options)}
    for field in msgspec.structs.fields(options):
        name, kind = field.encode_name, field.type
        if family := patterns.get(name):
            name, kind = family.form, family.value
        words, nested = _describe_type(kind)
        if field.required:
            default = "required"
        elif family:
            default = "none"
        elif field.default_factory is not msgspec.NODEFAULT:
            default = format_value(field.default_factory())
        else:
            default = format_value(field.default)
        table.append(Row(prefix + name, words, default, _description(field.type)))
        for suffix, struct in nested:
            if prefix.count(".") < 5:  # a struct may contain itself
                table += rows(struct, f"{prefix}{name}{suffix}.")
    return table


def format_value(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if plain is None:
        return "none"
    return plain if isinstance(plain, str) and plain else json.dumps(plain, ensure_ascii=False)


def _description(kind: Any) -> str:
    if get_origin(kind) is not Annotated:
        return ""
    found = [m.description for m in get_args(kind)[1:] if isinstance(m, msgspec.Meta) and m.description]
    return found[-1] if found else ""


def _describe_type(kind: Any) -> tuple[str, list[tuple[str, type[msgspec.Struct]]]]:
    """Describe a type in words. Also returns the structs in it, and the paths to them."""
    if get_origin(kind) is Annotated:
        inner, *extra = get_args(kind)
        words, nested = _describe_type(inner)
        return words + "".join(_limits(m) for m in extra if isinstance(m, msgspec.Meta)), nested
    origin, arguments = get_origin(kind), [a for a in get_args(kind) if a is not Ellipsis]
    if origin is Literal:
        return _join_choices(arguments), []
    if origin in (Union, types.UnionType):
        members = [_describe_type(a) for a in arguments if a is not type(None)]
        return " or ".join(w for w, _ in members), [n for _, nested in members for n in nested]
    if _is_struct(kind):
        return "mapping", [("", kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _join_choices(m.value for m in kind), []
    if origin in (list, tuple, set, frozenset) or kind in (list, tuple, set, frozenset):
        members = [_describe_type(a) for a in arguments]
        words = "list" if not members else f"list of {' and '.join(w for w, _ in members)}"
        return words, [("[]" + s, n) for _, nested in members for s, n in nested]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if len(arguments) < 2 or arguments[1] is Any:
            return "mapping", []
        words, nested = _describe_type(arguments[1])
        return f"mapping of name to {words}", [(".*" + s, n) for s, n in nested]
    words = {int: "whole number", float: "number", bool: "yes/no", str: "text", dict: "mapping"}.get(kind, "anything")
    return words, []


def _plain(limit: float | None) -> float | None:
    """Drop a useless ``.0``. Python keeps one of two equal annotations, so ``gt=0`` may turn into ``gt=0.0``."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _limits(meta: msgspec.Meta) -> str:
    low = _plain(meta.ge if meta.ge is not None else meta.gt)
    high = _plain(meta.le if meta.le is not None else meta.lt)
    words = ""
    if low is not None and high is not None and meta.gt is None and meta.lt is None:
        words = f", {low} to {high}"
    elif low is not None or high is not None:
        parts = []
        if low is not None:
            parts.append(f"{'at least' if meta.gt is None else 'more than'} {low}")
        if high is not None:
            parts.append(f"{'at most' if meta.lt is None else 'less than'} {high}")
        words = ", " + " and ".join(parts)
    if meta.min_length is not None or meta.max_length is not None:
        least, most = meta.min_length or 0, meta.max_length
        words += f", {least} to {most} long" if most is not None else f", at least {least} long"
    if meta.pattern:
        words += f", of the form {meta.pattern}"
    return words
