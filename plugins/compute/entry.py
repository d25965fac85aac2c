"""`Entry`, one function as a configuration names it; `Function`, what there is to name; `Setup`, the two together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from fixgw.database import Item
from fixgw.plugin import PluginBase

if TYPE_CHECKING:
    from fixgw.plugins.compute.evaluation import Computation

Positive = Annotated[float, Meta(gt=0.0)]
Point = tuple[float, float]


class PowerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power by rpm and manifold pressure, from the engine's handbook, at the standard temperature."""

    rpm: Annotated[list[float], Meta(description="Rising", min_length=2)]
    map: Annotated[list[float], Meta(description="inHg, rising", min_length=2)]
    percent: Annotated[
        list[list[float]], Meta(description="A row for each rpm: percent of rated power at each manifold pressure")
    ]

    def __post_init__(self) -> None:
        for name in ("rpm", "map"):
            values = getattr(self, name)
            if any(a >= b for a, b in pairwise(values)):
                raise ValueError(f"{name} must rise throughout")
        if len(self.percent) != len(self.rpm) or any(len(row) != len(self.map) for row in self.percent):
            raise ValueError(f"percent needs {len(self.rpm)} rows of {len(self.map)} numbers")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function, with its inputs, its output, and the options that it has."""

    function: Annotated[str, Meta(description="The function, in any case; the table above lists them")]
    inputs: Annotated[list[str | int | float], Meta(description="Keys, in the order that the function expects")]
    output: Annotated[str | list[str], Meta(description="The key to write, or the keys")]
    require_leader: Annotated[
        bool, Meta(description="Write only while this gateway leads (`quorum`); a lone gateway does")
    ] = True
    failed: Annotated[
        Literal["fail", "skip"] | None,
        Meta(description="A failed input: `fail` the output (default), or `skip` the input and flag the output bad"),
    ] = None
    missing: Annotated[
        Literal["old", "ignore"] | None,
        Meta(
            description="An input that was never written is left out, and the output is `old` (default); `ignore`: "
            "without that flag"
        ),
    ] = None
    multiplier: Annotated[float | None, Meta(description="What one count adds to the output")] = None
    value: Annotated[bool | int | float | str | None, Meta(description="The value to write")] = None
    table: Annotated[
        list[float] | PowerTable | None, Meta(description="The values to choose from; the table of the handbook")
    ] = None
    window: Annotated[Positive | None, Meta(description="Seconds to look back")] = None
    hold: Annotated[Positive | None, Meta(description="Seconds for which a held result is good")] = None
    wrap: Annotated[bool | None, Meta(description="Whether the input is a direction in degrees")] = None
    recovery: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)] | None, Meta(description="Recovery factor of the probe")
    ] = None
    points: Annotated[
        list[Point] | dict[float, list[Point]] | None,
        Meta(description="Pairs of IAS and CAS, joined by straight lines; or such a list for each flap setting"),
    ] = None
    calibration: Annotated[
        dict[float, tuple[float, float, float, float]] | None,
        Meta(description="For each flap setting four coefficients, the constant first"),
    ] = None
    zero_lift: Annotated[float | None, Meta(description="Angle of zero lift; default: −|AOA.0g|")] = None
    stall: Annotated[float | None, Meta(description="Angle of attack at the stall; default: AOA.Stall")] = None
    compression_ratio: Annotated[
        Annotated[float, Meta(ge=5.0, le=15.0)] | None, Meta(description="Of the engine, such as 8.5")
    ] = None
    rated_hp: Annotated[Positive | None, Meta(description="Rated power of the engine in hp")] = None
    drop: Annotated[
        Positive | None, Meta(description="Fall of an EGT, in degrees, after which its maximum is a peak")
    ] = None
    longest_gap: Annotated[Positive | None, Meta(description="Seconds without data that are bridged")] = None
    on_above: Annotated[float | None, Meta(description="Count while the input is greater")] = None
    tach_rpm: Annotated[Positive | None, Meta(description="Rpm at which tachometer time runs like a clock")] = None


class Input(NamedTuple):
    """What a function expects at one place: a key of that `kind`, or a plain number (`constant`).

    `units` are those of the formula; empty if it does not matter. The last input of a function may be repeated
    (`many`) or left out (`optional`).
    """

    name: str
    units: str = ""
    kind: Literal["number", "switch", "text", "constant"] = "number"
    many: bool = False
    optional: bool = False


class Output(NamedTuple):
    """What a function writes at one place. The last may be repeated."""

    name: str
    units: str = ""
    optional: bool = False
    kind: Literal["number", "switch", "any"] = "number"
    many: bool = False


class Option(NamedTuple):
    """An option that a function has. Without a default it must be given."""

    name: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Function:
    """One row of the table of functions, from which the documentation, the command line and the checks come."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    #: For people: the formula, or what is done.
    formula: str
    #: Where the formula comes from.
    origin: str
    build: Callable[[Setup], Computation]
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    #: Says what is wrong with an entry, as pairs of a path below the entry and a message.
    check: Callable[[Entry, Setup], list[tuple[str, str]]] | None = None

    def option(self, entry: Entry, name: str) -> Any:
        """The option `name` of the entry, or its default."""
        given = getattr(entry, name)
        if given is not None:
            return given
        return next(option.default for option in self.options if option.name == name)

    @property
    def fewest_inputs(self) -> int:
        return sum(not i.optional for i in self.inputs)

    @property
    def most_inputs(self) -> int | None:
        return None if any(i.many for i in self.inputs) else len(self.inputs)

    def input_at(self, index: int) -> Input | None:
        """What the function expects at this place; None if nothing."""
        if index < len(self.inputs):
            return self.inputs[index]
        return self.inputs[-1] if self.inputs and self.inputs[-1].many else None

    def every_output(self, count: int) -> list[Output]:
        """What each of `count` outputs is; fewer if there are not as many."""
        outputs = list(self.outputs[:count])
        if outputs and outputs[-1].many:
            outputs += [outputs[-1]] * (count - len(outputs))
        return outputs


class Setup(NamedTuple):
    """A function, the entry that names it, and the items that it is about."""

    plugin: PluginBase
    function: Function
    entry: Entry
    items: tuple[Item, ...]
    constants: tuple[float, ...]
    outputs: tuple[Item, ...]

    def option(self, name: str) -> Any:
        return self.function.option(self.entry, name)
