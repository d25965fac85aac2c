"""All functions, by name and by alias."""

from __future__ import annotations

from collections.abc import Iterator

from fixgw import plugin
from fixgw.configuration.options import format_value
from fixgw.plugins.compute import air, aoa, basic, direction, engine, places, totals
from fixgw.plugins.compute.entry import Function, Input

GROUPS = (basic, air, aoa, direction, places, engine, totals)
FUNCTIONS: tuple[Function, ...] = tuple(function for group in GROUPS for function in group.FUNCTIONS)
BY_NAME = {name: function for function in FUNCTIONS for name in (function.name, *function.aliases)}


def find(name: str) -> Function | None:
    """The function of this name, in any case."""
    return BY_NAME.get(name.strip().lower())


def for_people() -> Iterator[plugin.Function]:
    for function in FUNCTIONS:
        options = (
            f"{o.name} (required)" if o.required else f"{o.name} ({format_value(o.default)})" for o in function.options
        )
        yield plugin.Function(
            ", ".join((function.name, *function.aliases)),
            ", ".join(map(_place, function.inputs)),
            ", ".join(
                f"{o.name}{f' {o.units}' if o.units else ''}{' (optional)' if o.optional else ''}"
                for o in function.outputs
            ),
            function.formula,
            ", ".join(options),
            function.origin,
        )


def _place(expected: Input) -> str:
    text = f"{expected.name} {expected.units}" if expected.units else expected.name
    if expected.kind == "constant":
        text += " (number)"
    if expected.optional:
        text += " (optional)"
    return f"{text} ..." if expected.many else text
