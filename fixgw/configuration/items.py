"""Reads and checks the definitions of the database's items, and their initial values.

A definition is a mapping with ``variables:`` (letter -> count) and ``entries:`` (list). An entry has a `key` and these
fields: `description`, `type` (float, int, bool or str), `min`, `max`, `units`, `initial`, `tol` (milliseconds, 0 =
never ages), `aux` (list of names), `setting` and `keep` (yes or no), `wrap` (360 for directions), `sources` (ranking,
best first), `return_after` (seconds that a better source must have been good before it is published again) and
`decimals` (how many of them displays show).
Lower-case letters at the end of a key are variables, and the entry stands for every combination: ``EGTec`` for EGT11,
EGT12 ...; ``%e`` in the description is the number.

Later definitions overlay earlier ones field by field: another entry for a key changes only the fields that it names
(null removes one), and the item keeps its place in the order. The same key twice in one file is an error, because it
must be a mistake.

Initial values are lines ``KEY = value`` or ``KEY.aux = value``. ``#`` begins a comment, the key may be a pattern
(``TSBTN* = False``), and later lines win. A value beyond the item's range is clamped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from fixgw.configuration.reader import Positions, Reader, described
from fixgw.database import INITIAL, LONGEST_TEXT, OLD, Database, Definition
from fixgw.errors import BadValue, did_you_mean
from fixgw.kit.units import known_unit
from fixgw.kit.update import FALSE_WORDS, TRUE_WORDS

__all__ = ["Initial", "apply_initial", "format_initial", "read_definitions", "read_initial", "units_by_key"]

MAX_COUNT = 99  # of one variable
MAX_ITEMS = 10_000
MAX_RETURN_AFTER_S = 3600
MAX_DECIMALS = 9

FIELDS = (
    "key",
    "description",
    "type",
    "min",
    "max",
    "units",
    "initial",
    "tol",
    "aux",
    "setting",
    "keep",
    "wrap",
    "sources",
    "return_after",
    "decimals",
)
TYPES = ("float", "int", "bool", "str")

#: Key or ``KEY.aux``, and value as text.
Initial = tuple[str, str]

_KEY = re.compile(r"([A-Z][A-Z0-9_]*)([a-z]*)\Z")
_AUX = re.compile(r"[A-Za-z0-9_]+\Z")

_Fields = dict[str, tuple[Any, Positions]]


class Items(NamedTuple):
    """`definitions`, in order. Those in `doubtful` have problems and are only placeholders. If not `complete`, some
    items could not be read."""

    definitions: list[Definition]
    doubtful: set[str]
    complete: bool


class _Entry:
    """An item that is not yet complete: the numbers of its variables, and its fields with their positions."""

    __slots__ = ("fields", "numbers")

    def __init__(self, fields: _Fields, numbers: dict[str, int]) -> None:
        self.fields = fields
        self.numbers = numbers


def read_definitions(
    reader: Reader,
    documents: Iterable[tuple[Any, Positions]],
    units: Callable[[], Mapping[str, str]] | None = None,
    packaged: str = "",
) -> Items:
    """Read the items that `documents` define, each overlaying those before it: definitions, or bare lists of entries.

    `units` returns the units that drivers write, by key, as in the definition below the directory `packaged`: another
    unit would be another label on the same number. Reports problems to `reader`.
    """
    complete = True
    lists: list[tuple[list[Any], Positions]] = []
    counts: dict[str, int] = {}
    for index, (value, at) in enumerate(documents):
        if index and value is None and not at.partial:
            continue  # an overlay that says nothing
        document = {"entries": value} if isinstance(value, list) else value
        if not isinstance(document, dict):
            complete = False
            if not at.partial:
                reader.report(at, f"expected a mapping with variables: and entries:, got {described(value)}")
            continue
        complete = complete and not at.partial
        for name, member in document.items():
            member_at = at if document is not value else at[name]
            if name == "variables":
                counts.update(_counts(reader, member, member_at))
            elif name not in ("entries", "items"):  # included lists are called items, too
                reader.report(at.keys[name], f"unknown key {name!r}{did_you_mean(str(name), ('variables', 'entries'))}")
            elif isinstance(member, list):
                complete = complete and not member_at.partial
                lists.append((member, member_at))
            elif member is not None:
                complete = False
                reader.report(member_at, f"{name}: expected a list, got {described(member)}")
    entries: dict[str, _Entry] = {}
    seen: dict[tuple[str, str], Positions] = {}
    for items, items_at in lists:
        for index, item in enumerate(items):
            complete = _enter(reader, entries, seen, counts, item, items_at[index]) and complete
            if len(entries) > MAX_ITEMS:
                reader.report(items_at[index], f"more than {MAX_ITEMS:,} items")
                return Items([], set(), False)
    doubtful: set[str] = set()
    if units is not None:
        _check_units(reader, entries, units, packaged)
    return Items(list(_finished(reader, entries, doubtful)), doubtful, complete)


def units_by_key(definitions: Iterable[Definition]) -> dict[str, str]:
    """The units of `definitions`, by key, and for keys that end in numbers without these: there may be more of them."""
    units = {definition.key: definition.units for definition in definitions}
    return {key.rstrip("0123456789"): unit for key, unit in units.items()} | units


def _check_units(
    reader: Reader, entries: dict[str, _Entry], units: Callable[[], Mapping[str, str]], packaged: str
) -> None:
    """Units are fixed: drivers write numbers in those of the packaged definition, whatever the definition says."""
    seen: set[int] = set()
    unchanged: dict[str, bool] = {}  # files
    for key, entry in entries.items():
        given, at = entry.fields.get("units", (None, None))
        if at is None or not isinstance(given, str) or id(at) in seen:
            continue
        if at.file not in unchanged:
            unchanged[at.file] = _is_packaged(Path(at.file), Path(packaged))
        if unchanged[at.file]:
            continue
        seen.add(id(at))
        known = units()
        numbers = "".join(map(str, entry.numbers.values()))
        written = known.get(key) or known.get(key.removesuffix(numbers), "")
        if not written or given == written or known_unit(given) == known_unit(written):
            continue
        ours = any(where.file.startswith(packaged) for _, where in entry.fields.values())
        if known_unit(given) is not None or ours:  # a complete custom definition may use other words
            reader.report(
                at,
                f"units: drivers write {key} in {written}, and {given} would be a wrong label on the same number: "
                "leave `units` out, and let the display convert",
            )


def _is_packaged(file: Path, packaged: Path) -> bool:
    """Whether `file` belongs to the packaged definition, or is an unchanged copy of such a file."""
    if file.is_relative_to(packaged):
        return True
    original = packaged.joinpath(*file.parts[-2:] if file.parent.name == "database" else file.parts[-1:])
    try:
        return original.read_bytes() == file.read_bytes()
    except OSError:
        return False


def _counts(reader: Reader, value: Any, at: Positions) -> Iterator[tuple[str, int]]:
    if not isinstance(value, dict):
        if value is not None:
            reader.report(at, f"variables: expected a mapping of letter to count, got {described(value)}")
        return
    for letter, count in value.items():
        if not (isinstance(letter, str) and re.fullmatch("[a-z]", letter)):
            reader.report(at.keys[letter], f"a variable must be one lower-case letter, not {described(letter)}")
        elif type(count) is not int or not 0 <= count <= MAX_COUNT:
            reader.report(at[letter], f"{letter}: expected a count, 0 to {MAX_COUNT}, got {described(count)}")
            yield letter, 1
        else:
            yield letter, count


def _enter(
    reader: Reader,
    entries: dict[str, _Entry],
    seen: dict[tuple[str, str], Positions],
    counts: dict[str, int],
    item: Any,
    at: Positions,
) -> bool:
    """Expand an entry and overlay the items it stands for. Returns False if it is not clear which these are."""
    if not isinstance(item, dict):
        reader.report(at, f"expected an item (a mapping with a key), got {described(item)}")
        return False
    fields: _Fields = {}
    for name, value in item.items():
        if name in FIELDS:
            fields[name] = value, at[name]
        else:
            reader.report(at.keys[name], f"unknown field {name!r}{did_you_mean(str(name), FIELDS)}")
    if "key" not in fields:
        if not at.partial:
            reader.report(at, "this item has no key")
        return False
    key, key_at = fields.pop("key")
    match = _KEY.match(key) if isinstance(key, str) else None
    if match is None:
        words = "capital letters, digits and _, followed by variables (lower-case letters)"
        reader.report(key_at, f"a key consists of {words}; got {described(key)}")
        return False
    first = seen.setdefault((key_at.file, key), key_at)
    if first is not key_at:
        reader.report(key_at, f"{key} is defined twice; the first is in line {first.line}")
    base, letters = match.groups()
    unknown = [letter for letter in letters if letter not in counts]
    if unknown or len(set(letters)) < len(letters):
        wrong = f"the variable {unknown[0]!r} is not declared" if unknown else "a variable occurs twice"
        declared = ", ".join(sorted(counts)) or "none"
        reader.report(key_at, f"{key}: {wrong} (declared: {declared})")
        return False
    if math.prod(counts[letter] for letter in letters) > MAX_ITEMS:
        reader.report(key_at, f"{key} stands for more than {MAX_ITEMS:,} items")
        return False
    made: set[str] = set()
    for numbers in product(*(range(1, counts[letter] + 1) for letter in letters)):
        name = base + "".join(map(str, numbers))
        if name in made:
            reader.report(key_at, f"{key} stands for {name} twice, because the numbers of its variables run together")
            return False
        made.add(name)
        values = dict(zip(letters, numbers, strict=True))
        earlier = entries.get(name)
        if earlier is None:
            entries[name] = _Entry(fields, values)
        else:
            entries[name] = _Entry({**earlier.fields, **fields}, {**earlier.numbers, **values})
    return True


def _finished(reader: Reader, entries: dict[str, _Entry], doubtful: set[str]) -> Iterator[Definition]:
    checked: dict[tuple[tuple[str, int], ...], dict[str, Any] | None] = {}
    for key, entry in entries.items():
        # Items of one template share their fields, which are checked only once.
        identity = tuple((name, id(at)) for name, (_, at) in entry.fields.items())
        if identity not in checked:
            checked[identity] = _checked(reader, entry)
        facts = checked[identity]
        if facts is None:
            doubtful.add(key)
            yield Definition(key=key)
            continue
        description = facts.get("description", "")
        if entry.numbers and "%" in description:
            for letter, number in entry.numbers.items():
                description = description.replace(f"%{letter}", str(number))
            facts = {**facts, "description": description}
        yield Definition(key=key, **facts)


def _checked(reader: Reader, entry: _Entry) -> dict[str, Any] | None:
    """Check the fields and convert them for `Definition`. Reports problems, and returns None if there are any."""
    before = len(reader.problems)
    fields = {name: (value, at) for name, (value, at) in entry.fields.items() if value is not None}

    def wrong(name: str, words: str) -> None:
        value, at = fields[name]
        reader.report(at, f"{name}: expected {words}, got {described(value)}")

    facts: dict[str, Any] = {}
    kind = fields["type"][0] if "type" in fields else "float"
    if kind not in TYPES:
        reader.report(
            fields["type"][1],
            f"type: expected float, int, bool or str, got {described(kind)}{did_you_mean(str(kind), TYPES)}",
        )
        return None
    facts["type"] = kind
    for name in ("description", "units"):
        if name in fields:
            facts[name] = fields[name][0]
            if not (isinstance(facts[name], str) and facts[name].isprintable()):
                wrong(name, "text in one line")
    for name in ("min", "max"):
        if name in fields:
            if kind in ("bool", "str"):
                reader.report(fields[name][1], f"{name}: an item of type {kind} has no range")
            elif (number := _number(kind, fields[name][0])) is None:
                wrong(name, _A[kind])
            else:
                facts[name] = number
    low, high = facts.get("min"), facts.get("max")
    if low is not None and high is not None and low > high:
        reader.report(fields["min"][1], f"min: {low} is more than max, {high}")
    if "initial" in fields:
        value, value_at = fields["initial"]
        initial: Any
        if kind == "bool":
            initial = _truth(value)
        elif kind == "str":
            text = value if isinstance(value, str) else str(value) if type(value) in (int, float) else None
            fit = text is not None and text.isprintable() and len(text) <= LONGEST_TEXT
            initial = text if fit else None
        else:
            initial = _number(kind, value)
        if initial is None:
            wrong("initial", _A[kind])
        elif (low is not None and initial < low) or (high is not None and initial > high):
            reader.report(value_at, f"initial: {initial} is outside the range, {_range(low, high)}")
        facts["initial"] = initial
    if "tol" in fields:
        facts["tolerance"] = tolerance = _number("int", fields["tol"][0])
        if tolerance is None or not 0 <= tolerance <= 10**9:
            wrong("tol", "milliseconds, a whole number, 0 = never ages")
    if "return_after" in fields:
        seconds = _number("float", fields["return_after"][0])
        if seconds is None or not 0 <= seconds <= MAX_RETURN_AFTER_S:
            wrong("return_after", f"seconds, 0 to {MAX_RETURN_AFTER_S}, 0 = at once")
        else:
            facts["return_after"] = seconds
    if "decimals" in fields:
        facts["decimals"] = decimals = _number("int", fields["decimals"][0])
        if kind != "float":
            reader.report(fields["decimals"][1], f"decimals: an item of type {kind} has none")
        elif decimals is None or not 0 <= decimals <= MAX_DECIMALS:
            wrong("decimals", f"a whole number, 0 to {MAX_DECIMALS}")
    for name in ("setting", "keep"):
        if name in fields:
            facts[name] = fields[name][0]
            if not isinstance(facts[name], bool):
                wrong(name, "yes or no")
    if "wrap" in fields:
        facts["wrap"] = wrap = fields["wrap"][0]
        if kind not in ("float", "int") or type(wrap) not in (int, float) or not wrap > 0:
            wrong("wrap", "the full circle, such as 360, for a number")
    for name in ("aux", "sources"):
        if name in fields:
            facts[name] = _names(reader, name, *fields[name])
    return facts if len(reader.problems) == before else None


_A = {"float": "a number", "int": "a whole number", "bool": "yes or no", "str": "text in one line"}


def _number(kind: str, value: Any) -> float | int | None:
    """Convert `value` to a number of type `kind`; None if it is not one."""
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)
        if not math.isfinite(number):
            return None
        return number if kind == "float" else int(value) if number.is_integer() else None
    except OverflowError:
        return None


def _truth(value: Any) -> bool | None:
    """What `value` says, as a bool; None if it says neither."""
    word = str(value).lower() if type(value) in (bool, int, str) else ""
    return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None


def _range(low: Any, high: Any) -> str:
    return f"{'any' if low is None else low} to {'any' if high is None else high}"


def _names(reader: Reader, field: str, value: Any, at: Positions) -> tuple[str, ...]:
    if not isinstance(value, list):
        reader.report(at, f"{field}: expected a list of names, got {described(value)}")
        return ()
    names: list[str] = []
    for index, name in enumerate(value):
        if not isinstance(name, str) or not (_AUX.match(name) if field == "aux" else name and name.isprintable()):
            words = "a name of letters, digits and _" if field == "aux" else "the name of a source"
            reader.report(at.at([index]), f"{field}: expected {words}, got {described(name)}")
        elif name in names:
            reader.report(at.at([index]), f"{field}: {name} is listed twice")
        else:
            names.append(name)
    return tuple(names)


# -- initial values ----------------------------------------------------------------------------------------------------


def read_initial(
    reader: Reader,
    files: Sequence[tuple[Path, Positions | None]],
    items: Items,
    database: Database,
    lenient: bool = False,
) -> list[Initial]:
    """Read the initial values in `files`. Expands patterns, and keeps the last value of each key.

    Checks them against `items`, which `database` contains. Reports problems to `reader`; with `lenient`, it ignores
    keys that do not exist.
    """
    found: dict[str, str] = {}
    for path, at in files:
        text = reader.text(path, at)
        for number, line in enumerate((text or "").splitlines(), 1):
            name, equals, value = line.partition("=")
            here = Positions(str(path), number, len(line) - len(line.lstrip()) + 1)
            if not name.strip() or name.lstrip().startswith("#"):
                if equals and not name.strip():
                    reader.report(here, "this value has no key")
                continue
            name = name.strip()
            if not equals or not name or any(c.isspace() or c == "#" for c in name):
                reader.report(here, "expected KEY = value, or KEY.aux = value")
                continue
            value_at = Positions(str(path), number, line.index("=") + 2 + len(value) - len(value.lstrip()))
            value = _value(value)
            for key in _matching(reader, name, items, database, here, lenient):
                if (fitting := _fitting(reader, database, key, value, value_at)) is not None:
                    found[key] = fitting
    return list(found.items())


def format_initial(key: str, text: str) -> str:
    """The line of a file with initial values that gives `key` the value `text`."""
    return f'{key} = "{text}"' if '"' not in text else f"{key} = {text}"


def _value(text: str) -> str:
    """Strip comment and quotes from the text that follows an equals sign."""
    text = text.strip()
    if text[:1] == '"' and (quoted := re.match(r'"([^"]*)"\s*(?:#.*)?\Z', text)):
        return quoted.group(1)
    return re.split(r"(?:^|\s)#", text)[0].rstrip()


def _matching(reader: Reader, name: str, items: Items, database: Database, at: Positions, lenient: bool) -> list[str]:
    """The keys that match `name`, except doubtful ones."""
    base, dot, aux = name.partition(".")
    if "*" in base or "?" in base or "[" in base:
        pattern = re.compile(translate(base))
        keys = [key for key in database if pattern.match(key)]
        if dot:
            keys = [key for key in keys if aux in database.item(key).aux or key in items.doubtful]
        trouble = "" if keys else f"{name} matches no {'aux value' if dot else 'item'}"
    elif base not in database:
        keys, trouble = [], f"no item {base!r}{did_you_mean(base, database)}"
    elif dot and aux not in (known := database.item(base).aux) and base not in items.doubtful:
        keys, trouble = [], f"{base} has no aux value {aux!r}{did_you_mean(aux, known)}"
    else:
        keys, trouble = [base], ""
    if trouble and not lenient:
        reader.report(at, trouble)
    return [f"{key}.{aux}" if dot else key for key in keys if key not in items.doubtful]


def _fitting(reader: Reader, database: Database, key: str, text: str, at: Positions) -> str | None:
    """`text`, or the end of the item's range if it lies beyond it; None if it is not a valid value for the item."""
    base, dot, _ = key.partition(".")
    item = database.item(base)
    if dot and text in ("None", ""):
        return text
    if item.type == "int" and re.fullmatch(r"[-+]?\d+\.0*", text):
        text = text.partition(".")[0]
    try:
        value: Any = item.convert(text)
    except BadValue as error:
        reader.report(at, str(error))
        return None
    low, high = item.min, item.max
    end = low if low is not None and value < low else high if high is not None and value > high else None
    if end is None:
        return text
    reader.advice.append(
        at.advice(f"{key}: {text} is outside the range, {_range(low, high)}; taken as {end}", str(end))
    )
    return str(end)


def apply_initial(database: Database, initial: Iterable[Initial]) -> None:
    """Write the initial values with the source ``initial``. Items that age stay old, because nobody measured them."""
    for key, text in initial:
        base, dot, aux = key.partition(".")
        item = database.item(base)
        if dot:
            item.write_aux(aux, None if text in ("None", "") else text, INITIAL)
            continue
        item.write(text, INITIAL)
        if item.tolerance:
            item.flag(OLD, OLD, INITIAL, "initial value")
