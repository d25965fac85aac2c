"""Checks a ``logging:`` section without setting up any logging, so it opens no file or socket."""

from __future__ import annotations

import inspect
import logging
import logging.config
import os
from collections.abc import Callable, Iterator
from typing import Any

from fixgw.configuration.reader import Positions, described
from fixgw.errors import Problem, did_you_mean

__all__ = ["problems"]

_SECTIONS = (
    "version",
    "formatters",
    "filters",
    "handlers",
    "loggers",
    "root",
    "incremental",
    "disable_existing_loggers",
)
_HANDLER_KEYS = ("class", "level", "formatter", "filters", "()", ".")


def problems(value: dict[str, Any], at: Positions) -> Iterator[Problem]:
    """Report all problems in the dictionary `value`, which is meant for `logging.config.dictConfig`."""
    for key in value:
        if key not in _SECTIONS:
            yield at.keys[key].problem(f"logging: unknown key {key!r}{did_you_mean(str(key), _SECTIONS)}")
    if value.get("version") != 1 or isinstance(value["version"], bool):
        yield at.at(["version"]).problem("logging: 'version: 1' is missing")
    sections: dict[str, dict[str, Any]] = {}
    for name in ("formatters", "filters", "handlers", "loggers"):
        members = value.get(name) or {}
        if not isinstance(members, dict):
            yield at[name].problem(f"logging: {name}: expected a mapping, got {described(members)}")
            members = {}
        sections[name] = {}
        for key, member in members.items():
            if isinstance(key, str) and isinstance(member, dict):
                sections[name][key] = member
            else:
                wrong = member if isinstance(key, str) else key
                yield at[name][key].problem(f"logging: {name}.{key}: expected a mapping, got {described(wrong)}")
    configurator = logging.config.DictConfigurator({})
    for name, make in (
        ("formatters", configurator.configure_formatter),
        ("filters", configurator.configure_filter),
    ):
        for key, member in sections[name].items():
            yield from _attempt(make, member, at[name].entry(key), f"{name}.{key}")
    for key, member in sections["handlers"].items():
        yield from _handler(configurator, member, at["handlers"].entry(key), f"handlers.{key}", sections)
    for key, member in sections["loggers"].items():
        yield from _logger(member, at["loggers"].entry(key), f"loggers.{key}", sections)
    root = value.get("root")
    if isinstance(root, dict):
        yield from _logger(root, at.entry("root"), "root", sections)
    elif root is not None:
        yield at["root"].problem(f"logging: root: expected a mapping, got {described(root)}")


def _attempt(make: Callable[[Any], object], member: dict[str, Any], at: Positions, name: str) -> Iterator[Problem]:
    try:
        make(dict(member))
    except Exception as error:
        yield at.problem(f"logging: {name}: {_describe_error(error)}")


def _describe_error(error: BaseException) -> str:
    """The error and its causes, without repetition."""
    text = ""
    cause: BaseException | None = error
    while cause is not None:
        words = " ".join(str(cause).split()) or type(cause).__name__
        if words not in text:
            text += f": {words}" if text else words
        cause = cause.__cause__
    return text


def _handler(
    configurator: Any, member: dict[str, Any], at: Positions, name: str, sections: dict[str, dict[str, Any]]
) -> Iterator[Problem]:
    yield from _level(member, at, name)
    yield from _known(member.get("filters"), at.at(["filters"]), f"{name}: filter", sections["filters"])
    formatter = member.get("formatter")
    if formatter is not None:
        yield from _known([formatter], at.at(["formatter"]), f"{name}: formatter", sections["formatters"])
    if "()" in member:
        return  # a custom factory
    if "class" not in member:
        if not at.partial:
            yield at.problem(f"logging: {name}: 'class' is missing")
        return
    try:
        handler = configurator.resolve(member["class"]) if isinstance(member["class"], str) else None
    except Exception as error:
        yield at["class"].problem(f"logging: {name}: {_describe_error(error)}")
        return
    if not (isinstance(handler, type) and issubclass(handler, logging.Handler)):
        yield at["class"].problem(f"logging: {name}: {described(member['class'])} is not a handler class")
        return
    arguments = {k: v for k, v in member.items() if k not in _HANDLER_KEYS}
    if handler.__name__ != "QueueHandler":  # takes names that are looked up
        signature = inspect.signature(handler)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        for key in arguments:
            if key not in signature.parameters and not open_ended:
                known = [*signature.parameters, *_HANDLER_KEYS[:4]]
                yield at.keys[key].problem(f"logging: {name}: unknown key {key!r}{did_you_mean(str(key), known)}")
        for parameter in signature.parameters.values():
            if parameter.default is parameter.empty and parameter.name not in arguments and not open_ended:
                yield at.problem(f"logging: {name}: {parameter.name!r} is missing")
    filename = arguments.get("filename")
    if isinstance(filename, str) and not os.path.isdir(os.path.dirname(os.path.abspath(filename))):
        yield at["filename"].problem(f"logging: {name}: the directory {os.path.dirname(filename)} does not exist")


def _logger(member: dict[str, Any], at: Positions, name: str, sections: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    for key in member:
        if key not in ("level", "handlers", "filters", "propagate"):
            known = ("level", "handlers", "filters", "propagate")
            yield at.keys[key].problem(f"logging: {name}: unknown key {key!r}{did_you_mean(str(key), known)}")
    yield from _level(member, at, name)
    yield from _known(member.get("handlers"), at.at(["handlers"]), f"{name}: handler", sections["handlers"])
    yield from _known(member.get("filters"), at.at(["filters"]), f"{name}: filter", sections["filters"])


def _level(member: dict[str, Any], at: Positions, name: str) -> Iterator[Problem]:
    level = member.get("level")
    names = logging.getLevelNamesMapping()
    if level is not None and type(level) is not int and not (isinstance(level, str) and level in names):
        hint = did_you_mean(level, names) if isinstance(level, str) else ""
        yield at["level"].problem(f"logging: {name}: level: no level {level!r}{hint}")


def _known(names: Any, at: Positions, what: str, known: dict[str, Any]) -> Iterator[Problem]:
    if names is not None and not isinstance(names, list):
        yield at.problem(f"logging: {what}s: expected a list of names, got {described(names)}")
        return
    for index, name in enumerate(names or ()):
        if not isinstance(name, str) or name not in known:
            here = at.at([index])
            yield here.problem(f"logging: {what} {name!r} is not defined{did_you_mean(str(name), known)}")
