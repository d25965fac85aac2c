"""Functions of any numbers: averages and the like, choices, switches, encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fixgw.database import BAD, FAIL, NEVER, OLD, SECFAIL, Reading
from fixgw.errors import BadValue
from fixgw.kit.navigation import wrap
from fixgw.kit.sources import derived_source
from fixgw.plugins.compute.entry import Entry, Function, Input, Option, Output, Setup
from fixgw.plugins.compute.evaluation import PASSED, Aggregate, Computation, Events, Formula, failing, mean

DECIMALS = 6  # of a sum of encoder steps: 29.92 + 0.01 is 29.93


def span(values: Sequence[float]) -> float:
    return max(values) - min(values)


def deviation(values: Sequence[float]) -> float:
    middle = mean(values)
    return max(max(values) - middle, middle - min(values))


class Select(Computation):
    """Copies the source that the selector chooses, with its flags."""

    def evaluate(self) -> None:
        if not self.leads:
            return
        selector, *sources = self.items
        chooses = selector.reading
        if chooses.stamp == NEVER and not chooses.flags & FAIL:
            return
        chosen = sources[max(0, min(round(float(chooses.value)), len(sources) - 1))]
        reading = chosen.reading
        source = self.source_of((chooses, reading))
        flags = (chooses.flags | reading.flags) & PASSED
        inputs = ((selector, chooses), (chosen, reading))
        reason = ", ".join(failing(item, r) for item, r in inputs if r.flags & PASSED)
        if flags & FAIL or reading.stamp == NEVER:
            self.put_failure(flags & ~OLD if reading.stamp == NEVER else flags, reason, source)
        else:
            self.put(0, reading.value, flags, reason, source)


class Encoder(Events):
    """Adds what was turned to the output."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._step: float = setup.option("multiplier")

    def happened(self, reading: Reading) -> None:
        output = self.outputs[0]
        before = output.said
        value = round(float(before.value) + float(reading.value) * self._step, DECIMALS)
        self.put(0, value, 0, "", derived_source((reading.source, before.source), self.own))


class Set(Events):
    """Writes a value when a switch is true."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._value = setup.option("value")

    def happened(self, reading: Reading) -> None:
        if reading.value:
            source = derived_source((reading.source,), self.own)
            self.outputs[0].write(self._value, source, 0, "", BAD | FAIL | SECFAIL)


def _remap(setup: Setup) -> Computation:
    table = setup.option("table")
    return Formula(setup, lambda number: table[max(0, min(round(number), len(table) - 1))])


def _check_table(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    fits = isinstance(entry.table, list) and bool(entry.table)
    return [] if fits else [("table", "expected a list of numbers")]


def _check_value(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    value: Any = entry.value
    try:
        for output in setup.outputs:
            converted = output.convert(value)
            low, high = output.min, output.max
            if (low is not None and converted < low) or (high is not None and converted > high):  # type: ignore[operator]
                return [("value", f"{value} is outside the range of {output.key}, {low} to {high}")]
    except BadValue as error:
        return [("value", str(error))]
    return []


def _aggregate(
    name: str, formula: str, reduce: Callable[[list[Any]], float], copies_aux: bool = False, **more: Any
) -> Function:
    return Function(
        name=name,
        inputs=(Input("number", many=True),),
        outputs=(Output(name),),
        formula=formula,
        origin="",
        options=(Option("failed", "fail"), Option("missing", "old")),
        build=lambda setup: Aggregate(setup, reduce, copies_aux=copies_aux),
        **more,
    )


FUNCTIONS = (
    _aggregate("average", "mean of the inputs", mean, True),
    _aggregate("sum", "sum of the inputs", sum),
    _aggregate("max", "greatest of the inputs", max, True),
    _aggregate("min", "least of the inputs", min, True),
    _aggregate("span", "greatest − least", span),
    _aggregate("deviation", "greatest distance of one input from the mean of all", deviation),
    Function(
        name="encoder",
        inputs=(Input("counts", many=True),),
        outputs=(Output("setting"),),
        formula="output + count × multiplier, with each write of a count",
        origin="",
        options=(Option("multiplier", required=True),),
        build=Encoder,
    ),
    Function(
        name="set",
        inputs=(Input("switch", kind="switch", many=True),),
        outputs=(Output("setting", kind="any"),),
        formula="`value`, with each write of true to a switch",
        origin="",
        options=(Option("value", required=True),),
        build=Set,
        check=_check_value,
    ),
    Function(
        name="select",
        inputs=(Input("selector"), Input("source", many=True)),
        outputs=(Output("chosen"),),
        formula="the source whose number, from 0, is the selector rounded and held to the ends; value and flags",
        origin="",
        build=Select,
    ),
    Function(
        name="remap",
        inputs=(Input("number"),),
        outputs=(Output("entry"),),
        formula="the entry of `table` whose number, from 0, is the input rounded and held to the ends",
        origin="",
        options=(Option("table", required=True),),
        build=_remap,
        check=_check_table,
    ),
    Function(
        name="wrap360",
        inputs=(Input("angle", "deg", many=True),),
        outputs=(Output("angle", "deg"),),
        formula="sum of the inputs modulo 360",
        origin="",
        build=lambda setup: Formula(setup, lambda *angles: wrap(sum(angles))),
    ),
)
