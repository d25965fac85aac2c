"""Turns the steps of a file into single events: parameters, loops, played files, and faults at random.

Nothing here knows what an event means. Everything is bounded: `forms.MAX_STEPS`, `MAX_DEPTH` and `MAX_ROUNDS`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, NamedTuple

from fixgw.configuration.options import problems
from fixgw.configuration.reader import Positions, Reader
from fixgw.errors import FixgwError, Problem, did_you_mean
from fixgw.hw_sim.scenario import forms
from fixgw.hw_sim.scenario.forms import BLOCKS, FAULTS_OF, MAX_DEPTH, MAX_STEPS, Condition
from fixgw.kit.expression import BadExpression, Expression
from fixgw.kit.update import FALSE_WORDS, TRUE_WORDS

Scalar = float | bool | str
Values = Mapping[str, Scalar]

TRIGGERS = ("after", "when", "whenever")
FAULTY = ("gps", "eis")  # the instruments that random faults happen to, unless the block names others
_REFERENCE = re.compile(r"\$(\$|\w+)")


class Block(NamedTuple):
    """Where steps stand: `offset` is what their `at` counts from, after the beginning of the scenario or after what
    begins the block; `names` are those of the steps in it."""

    file: str
    values: Values
    offset: float = 0.0
    after: tuple[str, Block] | None = None
    when: Condition | None = None
    names: dict[str, int] = {}
    outer: Block | None = None
    depth: int = 0
    playing: tuple[str, ...] = ()

    @property
    def triggered(self) -> bool:
        return self.after is not None or self.when is not None


class Step(NamedTuple):
    """An event as it is written, with its values in place of parameters. `at` counts from `after` or `when`."""

    entry: dict[str, Any]
    place: Positions
    label: str
    at: float
    after: tuple[str, Block] | None
    when: Condition | None


class Expansion:
    """The steps of a scenario. `nodes` are those to which random faults may happen; `seed` None is drawn if needed."""

    def __init__(self, reader: Reader, nodes: Mapping[str, str], seed: int | None) -> None:
        self.reader = reader
        self.steps: list[Step] = []
        self.seed: int | None = None
        self._wanted_seed = seed
        self._nodes = nodes
        self._random: Random | None = None
        self._files: dict[str, tuple[Any, Positions]] = {}
        self._full = False

    @property
    def found(self) -> list[Problem]:
        return self.reader.problems

    # -- parameters ----------------------------------------------------------------------------------------------------

    def substitute(self, value: Any, at: Positions, values: Values) -> Any:
        """`value` with the parameters' values in it; an unknown one is reported."""
        if isinstance(value, dict):
            return {key: self.substitute(member, at.at([key]), values) for key, member in value.items()}
        if isinstance(value, list):
            return [self.substitute(member, at.at([n]), values) for n, member in enumerate(value)]
        if not isinstance(value, str) or "$" not in value:
            return value
        for name in _REFERENCE.findall(value):
            if name != "$" and name not in values:
                self.found.append(at.problem(f"no parameter {name!r}{did_you_mean(name, values)}"))
        whole = _REFERENCE.fullmatch(value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return _REFERENCE.sub(lambda m: "$" if m[1] == "$" else _text(values.get(m[1], "")), value)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def expand(self, events: Any, at: Positions, label: str, block: Block) -> None:
        """Add the steps of `events`, which are at `at`."""
        for number, written in enumerate(events if isinstance(events, list) else ()):
            if not isinstance(written, dict):  # reported with the file's form
                continue
            here, name = at.at([number]), f"{label}[{number}]"
            kind = next((kind for kind in BLOCKS if kind in written), "")
            inner = {key: value for key, value in written.items() if key != "events"}
            known = len(self.found)
            entry = self.substitute(inner, here, block.values)
            if len(self.found) > known:
                continue
            if kind and "events" in written:
                entry["events"] = written["events"]
            if kind:
                self._expand_block(kind, entry, here, name, block)
            elif len(self.steps) < MAX_STEPS:
                self._add(entry, here, name, block)
            else:
                self._full = True
                self.found.append(Positions(self.reader.files[0]).problem(f"more than {MAX_STEPS} events"))
            if self._full:
                return

    def _add(self, entry: dict[str, Any], here: Positions, label: str, block: Block) -> None:
        timed = self._timed(entry, here, label, block)
        if timed is None:
            return
        if isinstance(name := entry.get("name"), str):
            if name in block.names:
                self.found.append(here.at(["name"]).problem(f"{label}: there is already an event {name!r}"))
            block.names[name] = len(self.steps)
        self.steps.append(Step(entry, here, label, timed.offset, timed.after, timed.when))

    def _timed(self, entry: Mapping[str, Any], here: Positions, label: str, block: Block) -> Block | None:
        """The block, as if it began when `entry` does; None if that cannot be understood, which is reported."""
        entry = {word: value for word, value in entry.items() if value is not None}
        given = [word for word in TRIGGERS if word in entry]
        at = entry.get("at", 0.0)
        trouble = ""
        if len(given) > 1:
            trouble = f"{label}: expected only one of {' and '.join(given)}"
        elif given and block.triggered:
            trouble = f"{label}: the steps around this one already wait for something: expected at:"
        elif not given and "at" not in entry:
            trouble = f"{label}: 'at' is missing"
        elif "deadline" in entry and given not in (["when"], ["whenever"]):
            trouble = f"{label}: only what waits for a condition (when:) has a deadline"
        if trouble:
            self.found.append(here.problem(trouble))
            return None
        if any(problems({w: entry[w] for w in ("at", "deadline", *given) if w in entry}, forms.Timed, here, label)):
            return block  # reported with the form of the step
        if not given:
            return block._replace(offset=block.offset + at)
        if given == ["after"]:
            return block._replace(after=(entry["after"], block), offset=at)
        try:
            expression = Expression(entry[given[0]])
        except BadExpression as error:
            self.found.append(here.at(given).problem(f"{label}.{given[0]}: {error}"))
            return None
        deadline = entry.get("deadline")
        if deadline is not None:
            deadline += block.offset
        condition = Condition(expression, given == ["whenever"], block.offset, deadline)
        return block._replace(when=condition, offset=at)

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _expand_block(self, kind: str, entry: dict[str, Any], here: Positions, label: str, block: Block) -> None:
        entry = {"at": 0.0} | {key: value for key, value in entry.items() if key != "at" or value is not None}
        wrong = list(problems({**entry, **({"events": []} if "events" in entry else {})}, BLOCKS[kind], here, label))
        self.found.extend(wrong)
        if wrong:
            return
        if block.depth >= MAX_DEPTH:
            self.found.append(here.problem(f"{label}: more than {MAX_DEPTH} blocks within one another"))
            return
        begun = self._timed(entry, here, label, block)
        if begun is None:
            return
        begun = begun._replace(outer=block, depth=block.depth + 1)
        if kind == "play":
            self._play(entry, here, label, begun)
        elif kind == "random":
            self._draw(entry, here, label, begun)
        else:
            rounds = entry["each"] if kind == "each" else range(1, entry.get("repeat", 1) + 1)
            for number, value in enumerate(rounds):
                values = {**block.values, entry["as"]: value} if "as" in entry else block.values
                offset = begun.offset + number * entry.get("every", 0.0)
                round_ = begun._replace(values=values, offset=offset, names={})
                self.expand(entry["events"], here.at(["events"]), f"{label}.events", round_)
                if self._full:
                    return

    def _play(self, entry: Mapping[str, Any], here: Positions, label: str, block: Block) -> None:
        """Add the events of another file; nothing else of it counts."""
        name, where = entry["play"], here.at(["play"])
        try:
            path = forms.find(name, Path(block.file).parent)
        except FixgwError as error:
            self.found.append(where.problem(f"{label}: {error}"))
            return
        real = os.path.realpath(path)
        if real in block.playing:
            loop = " -> ".join(os.path.basename(file) for file in (*block.playing, real))
            self.found.append(where.problem(f"{label}: it plays itself: {loop}"))
            return
        if real not in self._files:
            value, at = self._files[real] = self.reader.read(path, where)
            if value is not None:
                self.found.extend(problems(value, forms.File, at))
        value, at = self._files[real]
        if not isinstance(value, dict):
            return
        known = Parameters(value.get("parameters"), at.at(["parameters"]), self.found)
        values = known.values(entry.get("with", {}), here.at(["with"]), self.found, f"{label}.with: ")
        inner = block._replace(file=str(path), values=values, names={}, outer=None, playing=(*block.playing, real))
        self.expand(value.get("events"), at.at(["events"]), "events", inner)

    def _draw(self, entry: Mapping[str, Any], here: Positions, label: str, block: Block) -> None:
        """Add faults at random."""
        if self._random is None:
            self.seed = SystemRandom().randrange(1_000_000) if self._wanted_seed is None else self._wanted_seed
            self._random = Random(self.seed)
        chosen = "nodes" in entry or "instruments" in entry
        targets = [("node", name) for name in entry.get("nodes", () if chosen else self._nodes)]
        targets += [("instrument", name) for name in entry.get("instruments", () if chosen else FAULTY)]
        faults = entry.get("faults")
        for fault in faults or ():
            if not any(fault in of for of in FAULTS_OF.values()):
                known = {name for of in FAULTS_OF.values() for name in of}
                self.found.append(
                    here.at(["faults"]).problem(f"{label}: no fault {fault!r}{did_you_mean(fault, known)}")
                )
                return
        pairs = [(t, fault) for t in targets for fault in FAULTS_OF[t[0]] if faults is None or fault in faults]
        if not pairs and entry["random"]:
            self.found.append(here.problem(f"{label}: none of these faults can happen to any of these"))
            return
        low, high = sorted(entry.get("for", (1.0, 5.0)))
        times = sorted(round(self._random.uniform(0.0, entry["during"]), 2) for _ in range(entry["random"]))
        busy: dict[tuple[str, str], float] = {}
        for at in times:
            at = max(at, min(busy.get(target, 0.0) for target, _ in pairs))
            (kind, name), fault = self._random.choice([pair for pair in pairs if busy.get(pair[0], 0.0) <= at])
            lasting = round(self._random.uniform(low, high), 2)
            busy[kind, name] = at + lasting
            step = {"at": at, kind: name, "fault": fault, "for": lasting}
            if "seed" in forms.form_of(FAULTS_OF[kind][fault]).__struct_fields__:
                step["seed"] = self._random.randrange(1_000_000)
            self.expand([step], _Same(here), label, block)


class _Same(Positions):
    """The place of a step that is not written anywhere: that of the block that makes it."""

    def __init__(self, here: Positions) -> None:
        super().__init__(here.file, here.line, here.column)

    def at(self, path: Any) -> Positions:
        return self


class Parameters:
    """The parameters that a file declares. What is wrong with the declaration is appended to `found`."""

    def __init__(self, declared: Any, at: Positions, found: list[Problem]) -> None:
        self.all: dict[str, forms.Parameter] = {}
        for name, form in declared.items() if isinstance(declared, dict) else ():
            where, label = at.at([name]), f"parameters.{name}"
            written = form if isinstance(form, dict) else {"default": form}
            wrong = list(problems(written, forms.Parameter, where, label))
            if not str(name).isidentifier():
                wrong.append(at.keys[name].problem(f"{label}: expected a name of letters, digits and _"))
            found.extend(wrong)
            if wrong:
                continue
            parameter = self.all[name] = forms.Parameter(**written)
            if trouble := _unfit(parameter, parameter.default):
                found.append(where.problem(f"{label}: its default {trouble}"))

    def values(self, given: Mapping[str, Any], at: Positions, found: list[Problem], label: str) -> dict[str, Scalar]:
        """The values: those that are `given` at `at`, and else the defaults. Texts are converted."""
        values: dict[str, Scalar] = {name: parameter.default for name, parameter in self.all.items()}
        for name, value in given.items():
            if name not in self.all:
                found.append(
                    at.keys.get(name, at).problem(f"{label}no parameter {name!r}{did_you_mean(str(name), self.all)}")
                )
                continue
            value = _converted(value, self.all[name].default)
            if trouble := _unfit(self.all[name], value):
                found.append(at.at([name]).problem(f"{label}{name}: {value!r} {trouble}"))
            else:
                values[name] = value
        return values


def _converted(value: Scalar, like: Scalar) -> Scalar:
    """A text from the command line as a value of the type of `like`, if it can be one."""
    if not isinstance(value, str) or isinstance(like, str):
        return str(value) if isinstance(like, str) else value
    if isinstance(like, bool):
        word = value.lower()
        return word in TRUE_WORDS if word in TRUE_WORDS | FALSE_WORDS else value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _unfit(parameter: forms.Parameter, value: Scalar) -> str:
    """Why a parameter cannot have this value, or an empty text."""
    like = parameter.default
    if isinstance(like, bool) is not isinstance(value, bool) or isinstance(like, str) is not isinstance(value, str):
        return f"is not {'a text' if isinstance(like, str) else 'yes or no' if isinstance(like, bool) else 'a number'}"
    if parameter.choices is not None and value not in parameter.choices:
        return f"is not one of {', '.join(map(_text, parameter.choices))}"
    if isinstance(value, str | bool):
        return ""
    if not math.isfinite(value):
        return "is not a number"
    if parameter.min is not None and value < parameter.min:
        return f"is less than {parameter.min:g}"
    if parameter.max is not None and value > parameter.max:
        return f"is more than {parameter.max:g}"
    return ""


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.15g}"


def resolve(name: str, block: Block | None) -> int | None:
    """The number of the step that `name` means where `block` is, or None."""
    while block is not None:
        if name in block.names:
            return block.names[name]
        block = block.outer
    return None


def names_in(block: Block | None) -> Iterator[str]:
    """The names of the steps that can be seen where `block` is."""
    while block is not None:
        yield from block.names
        block = block.outer
