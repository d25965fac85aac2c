"""What is wrong with configured functions, and what may not be meant: pairs of a path in the options and a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fixgw.database import Database, Item
from fixgw.errors import counted, did_you_mean
from fixgw.kit.units import known_unit
from fixgw.plugins.compute.entry import Entry, Function, Input, Output, Setup
from fixgw.plugins.compute.table import BY_NAME, find

Found = tuple[str, str]

#: Keys that definitions of other origin lack. A function that needs one is left out there.
ONLY_HERE = (
    "MACH", "MAGVAR", "WINDSPD", "WINDDIR", "HWIND", "XWIND", "POWER?", "TACHTM?", "CHTROC??", "EGTDT?", "CHTDT?",
    "LEAN?", "EGTPK??", "GAMI?", "FUELUSED", "FUELREM", "ENDUR", "RANGE", "FUELDEST", "WPDIST", "GMAX", "GMIN",
    "SUNRISE", "SUNSET",
)  # fmt: skip
COMMON = frozenset(("function", "inputs", "output", "require_leader"))
TYPES = {"number": ("float", "int"), "switch": ("bool", "int"), "text": ("str",)}
WORDS = {"number": "a number", "switch": "a switch (yes or no)", "text": "text", "constant": "a plain number"}


class Resolved(NamedTuple):
    """The items of an entry; `lacking` are keys that a definition need not have."""

    items: tuple[Item, ...]
    constants: tuple[float, ...]
    outputs: tuple[Item, ...]
    lacking: tuple[str, ...]


def outputs_of(entry: Entry) -> list[str]:
    return [entry.output] if isinstance(entry.output, str) else entry.output


def keys_of(entry: Entry) -> list[str]:
    return [key for key in entry.inputs if isinstance(key, str)]


def problems(entries: Sequence[Entry], db: Database) -> Iterator[Found]:
    writers: dict[str, int] = {}
    for number, entry in enumerate(entries):
        here = f"functions.{number}"
        for path, text in entry_problems(entry, db):
            yield f"{here}.{path}" if path else here, text
        for index, key in enumerate(outputs_of(entry)):
            if key in outputs_of(entry)[:index]:
                yield f"{here}.output.{index}", f"{key} is named twice"
        for key in dict.fromkeys(outputs_of(entry)):
            if key in writers:
                yield f"{here}.output", f"{key} is already the output of functions[{writers[key]}]"
            else:
                writers[key] = number
    yield from _circles(entries, writers)


def entry_problems(entry: Entry, db: Database) -> Iterator[Found]:
    function = find(entry.function)
    if function is None:
        yield "function", f"there is no function {entry.function!r}{did_you_mean(entry.function, BY_NAME)}"
        for path, key in _named(entry):
            if key not in db and not _only_here(key):
                yield path, _no_item(key, db)
        return
    found = [*_inputs(function, entry, db), *_outputs(function, entry, db), *_options(function, entry)]
    yield from found
    if not found and function.check is not None:
        resolved = resolve(entry, function, db)
        if not resolved.lacking:
            yield from function.check(entry, Setup(None, function, entry, *resolved[:3]))  # type: ignore[arg-type]


def resolve(entry: Entry, function: Function, db: Database) -> Resolved:
    """The items of an entry without problems."""
    lacking = [key for _, key in _named(entry) if key not in db]
    keys = [key for key in keys_of(entry) if key not in lacking]
    constants = tuple(float(value) for value in entry.inputs if not isinstance(value, str))
    outputs = [key for key in outputs_of(entry) if key not in lacking]
    return Resolved(tuple(map(db.item, keys)), constants, tuple(map(db.item, outputs)), tuple(dict.fromkeys(lacking)))


def _named(entry: Entry) -> Iterator[Found]:
    """The keys that an entry names, each with its path."""
    for index, key in enumerate(entry.inputs):
        if isinstance(key, str):
            yield f"inputs.{index}", key
    for index, key in enumerate(outputs_of(entry)):
        yield "output" if isinstance(entry.output, str) else f"output.{index}", key


def _only_here(key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in ONLY_HERE)


def _no_item(key: str, db: Database) -> str:
    return f"the database has no item {key!r}{did_you_mean(key, db)}"


def _inputs(function: Function, entry: Entry, db: Database) -> Iterator[Found]:
    most = function.most_inputs
    count = len(entry.inputs)
    if count < function.fewest_inputs or (most is not None and count > most):
        least = function.fewest_inputs
        wanted = f"at least {counted(least, 'input')}" if most is None else _range(least, most, "input")
        named = ", ".join(i.name for i in function.inputs)
        yield "inputs", f"{function.name} takes {wanted} ({named}), got {count}"
    for index, given in enumerate(entry.inputs):
        path = f"inputs.{index}"
        expected = function.input_at(index)
        if expected is None:
            continue
        if isinstance(given, str):
            if expected.kind == "constant":
                yield path, f"expected {WORDS['constant']}, the {expected.name}, got {given!r}"
            elif given in db:
                item = db.item(given)
                if item.type not in TYPES[expected.kind]:
                    yield path, f"{expected.name}: {given} is {_type(item)}, and {WORDS[expected.kind]} is expected"
            elif not _only_here(given):
                yield path, _no_item(given, db)
        elif expected.kind != "constant":
            yield path, f"expected a key, for the {expected.name}, got {given}"


def _outputs(function: Function, entry: Entry, db: Database) -> Iterator[Found]:
    keys = outputs_of(entry)
    least, most = sum(not o.optional for o in function.outputs), len(function.outputs)
    if function.outputs[-1].many:
        if len(keys) < least:
            yield "output", f"{function.name} has at least {counted(least, 'output')}, got {len(keys)}"
    elif not least <= len(keys) <= most:
        named = ", ".join(o.name for o in function.outputs)
        yield "output", f"{function.name} has {_range(least, most, 'output')} ({named}), got {len(keys)}"
    for (path, key), expected in zip(_output_paths(entry), function.every_output(len(keys)), strict=False):
        if key in db:
            item = db.item(key)
            if expected.kind != "any" and item.type not in TYPES[expected.kind]:
                yield path, f"{key} is {_type(item)}, and {function.name} gives {WORDS[expected.kind]}"
        elif not _only_here(key):
            yield path, _no_item(key, db)


def _output_paths(entry: Entry) -> list[Found]:
    return [(path, key) for path, key in _named(entry) if path.startswith("output")]


def _range(least: int, most: int, what: str) -> str:
    return counted(least, what) if least == most else f"{least} to {counted(most, what)}"


def _type(item: Item) -> str:
    return {"float": "a number", "int": "a whole number", "bool": "a switch", "str": "text"}[item.type]


def _options(function: Function, entry: Entry) -> Iterator[Found]:
    known = {option.name for option in function.options}
    for name in Entry.__struct_fields__:
        if name not in COMMON and name not in known and getattr(entry, name) is not None:
            has = f": it has {', '.join(sorted(known))}" if known else ""
            yield name, f"{function.name} has no option {name!r}{has}"
    for option in function.options:
        if option.required and getattr(entry, option.name) is None:
            yield "", f"{function.name} needs the option {option.name!r}"


def _circles(entries: Sequence[Entry], writers: Mapping[str, int]) -> Iterator[Found]:
    """Outputs that are computed from themselves, each circle once, at the function that closes it."""
    finished: set[str] = set()

    def visit(key: str, way: list[str]) -> Iterator[Found]:
        if key in way:
            circle = [*way[way.index(key) :], key]
            finished.update(circle)
            last = max(writers[k] for k in circle)
            here = next(i for i, k in enumerate(entries[last].inputs) if k in circle)
            yield f"functions.{last}.inputs.{here}", f"a circle: {' from '.join(circle)}"
        elif key in writers and key not in finished:
            for source in keys_of(entries[writers[key]]):
                yield from visit(source, [*way, key])
            finished.add(key)

    for key in writers:
        yield from visit(key, [])


# -- advice ------------------------------------------------------------------------------------------------------------


def advice(entries: Sequence[Entry], db: Database) -> Iterator[Found]:
    for number, entry in enumerate(entries):
        function = find(entry.function)
        if function is None:
            continue
        here = f"functions.{number}"
        for path, key in _named(entry):
            if key not in db:
                yield f"{here}.{path}", f"the database has no item {key}, so this is not computed: define it"
        for path, text in (*_meant(function, entry), *_units(function, entry, db)):
            yield f"{here}.{path}", text


def _meant(function: Function, entry: Entry) -> Iterable[Found]:
    """Stock configurations that do not do what their keys suggest."""
    inputs = entry.inputs
    if function.name == "altp" and inputs[1:2] == ["TALT"]:
        yield "inputs.1", "TALT is the true altitude, and the formula is for the indicated one: ALT"
    if function.name == "altd" and inputs[1:2] == ["TALT"]:
        yield "inputs.1", "TALT has no part in the density altitude; but without a GPS this is not computed: ALT"
    if function.name == "sum" and "FUELQ3" in inputs and entry.missing is None:
        text = "with two tanks, FUELQ3 is never written and the sum is old: leave it out, or set `missing: ignore`"
        yield f"inputs.{inputs.index('FUELQ3')}", text
    if function.name in ("wind", "wind_triangle") and inputs[1:4:2] == ["TRACK", "HEAD"]:
        yield (
            "inputs.1",
            "TRACK is true, HEAD magnetic: the wind would be wrong by the variation; use TRACKM",
        )
    if function.name == "wrap360" and "MAGVAR" in inputs:
        yield f"inputs.{inputs.index('MAGVAR')}", "MAGVAR is positive to the east here: use `magnetic_from_true`"
    if function.name == "xte" and inputs[4:5] == ["COURSE"]:
        yield "inputs.4", "COURSE is magnetic in most navigators, and the formula takes it as true"


def _units(function: Function, entry: Entry, db: Database) -> Iterator[Found]:
    outputs = function.every_output(len(outputs_of(entry)))
    places: list[tuple[Found, Input | Output | None]] = [
        *((named, function.input_at(int(named[0][7:]))) for named in _named(entry) if named[0].startswith("inputs")),
        *zip(_output_paths(entry), outputs, strict=False),
    ]
    if function.name == "aoa":  # its keys are told by their names
        return
    for (path, key), expected in places:
        if expected is None or not expected.units or key not in db:
            continue
        given: Any = known_unit(db.item(key).units)
        if given is not None and given != known_unit(expected.units):
            yield path, f"{key} is in {given}, and the {expected.name} is expected in {expected.units}"
