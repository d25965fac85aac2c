"""The map between CAN-FIX parameters and database keys: the file, its validation, and the default map.

    ignore_fixid_missing: no                  # yes: ignore keys that the database does not have
    meta replacements: {Low Warn: lowWarn}    # CAN-FIX meta data -> aux name; `METAS` are the defaults
    inputs:
      - {canid: 0x183, index: 0, fixid: IAS}
    encoders:
      - {canid: 0x300, index: 0, fixid: "ENC1,ENC2,BTN1,BTN2", sum: yes}
    switches:
      - {canid: 0x308, index: 0, fixid: "BTN3,BTN4", toggle: BTN4}
    outputs:
      - {fixid: BARO, canid: 0x190, index: 0, owner: yes, on_change: yes}

``fixgw canfix map`` prints the default map as a starting point.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fixgw.configuration import options
from fixgw.configuration.reader import Positions, Reader, described
from fixgw.database import Database, Item
from fixgw.drivers.canfix.carry_over import carry_over
from fixgw.drivers.canfix.table import REVISIONS, Parameter, Table, load
from fixgw.errors import Advice, BadValue, Problem, UnknownKey, did_you_mean
from fixgw.kit.units import PASCALS_PER_INHG

__all__ = [
    "Encoder",
    "Entry",
    "Input",
    "Map",
    "Output",
    "Switches",
    "build_default",
    "conversion",
    "rank_sources",
    "read",
]

Keys = Annotated[str | list[str], Meta(description="One key, several separated by commas, or a list")]


Priority = Annotated[
    list[Annotated[int, Meta(ge=1, le=255)]] | int | None,
    Meta(
        description="Nodes, best first: the best live node is published. Or a number, if several parameters feed "
        "one key: the lowest is published while it is live"
    ),
]
Toggle = Annotated[str | list[str], Meta(description="Keys that toggle each time their switch closes")]
NodeSpecific = Annotated[bool, Meta(description="Accept Parameter Set messages as well")]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parameter, by identifier or by name, and its keys."""

    canid: Annotated[int | str, Meta(description="Identifier, or the parameter's name")]
    index: Annotated[int, Meta(ge=0, le=255, description="Which instance: cylinder 0 is the first")] = 0
    fixid: Keys

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in order; an empty key leaves out that part of the value."""
        return split_keys(self.fixid)

    def parameter(self, table: Table) -> Parameter:
        """The parameter in `table`. Raises `UnknownKey`."""
        canid = self.canid
        if isinstance(canid, str):
            try:
                canid = int(canid, 0)
            except ValueError:
                return table[canid]
        return table[canid]


class Scaled(Entry, frozen=True, kw_only=True):
    """The key's value is the parameter's value times `scale` plus `offset`."""

    scale: Annotated[float | None, Meta(description="Default: converts between the units if they differ, else 1")] = (
        None
    )
    offset: float = 0.0
    invert: Annotated[bool, Meta(description="True on the bus is False in the database")] = False
    wrap: Annotated[
        bool | None,
        Meta(description="Angles above 180° become negative: 350 is -10. Default: yes if the key can be negative"),
    ] = None


class Input(Scaled, frozen=True, kw_only=True):
    priority: Priority = None
    nodespecific: NodeSpecific = False


class Encoder(Entry, frozen=True, kw_only=True):
    priority: Priority = None
    nodespecific: NodeSpecific = False
    sum: Annotated[bool, Meta(description="Accumulate the steps instead of writing those of each message")] = False
    toggle: Toggle = ""


class Switches(Entry, frozen=True, kw_only=True):
    priority: Priority = None
    nodespecific: NodeSpecific = False
    toggle: Toggle = ""
    invert: bool = False


NO_LAST_WORD = "nothing"


class Output(Scaled, frozen=True, kw_only=True):
    owner: Annotated[bool, Meta(description="Send the parameter itself instead of Parameter Set messages")] = False
    on_change: Annotated[bool, Meta(description="Send only when the value has changed, not on every write")] = False
    require_leader: Annotated[bool, Meta(description="Send only while this gateway is the leader")] = False
    on_lost_lead: Annotated[
        bool | float | str,
        Meta(description="The last value to send when this gateway loses the lead, in the key's units; or `nothing`"),
    ] = NO_LAST_WORD
    rate_limit: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None,
        Meta(description="Messages per second at most, 0 = no limit; default: 20, no limit for switches and text"),
    ] = None
    repeat: Annotated[float, Meta(ge=0, le=3600, description="Send again after this many seconds; 0 = never")] = 0.0


SECTIONS: dict[str, type[Entry]] = {"inputs": Input, "encoders": Encoder, "switches": Switches, "outputs": Output}
Received = Input | Encoder | Switches


class Map(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a map file."""

    ignore_fixid_missing: bool = False
    meta_replacements: dict[str, str] = msgspec.field(name="meta replacements", default_factory=dict)
    inputs: list[Input] = []
    encoders: list[Encoder] = []
    switches: list[Switches] = []
    outputs: list[Output] = []

    def aux_name(self, meta: str) -> str:
        """The aux name for the meta data called `meta`."""
        for name, aux in self.meta_replacements.items():
            if name.lower() == meta.lower():
                return aux
        return METAS.get(meta, meta)


#: The meta data whose aux name differs from their own.
METAS = {"Low Warn": "lowWarn", "Low Alarm": "lowAlarm", "High Warn": "highWarn", "High Alarm": "highAlarm"}


def split_keys(keys: str | list[str]) -> tuple[str, ...]:
    """The keys of an option that takes one, several separated by commas, or a list."""
    return tuple(key.strip() for key in (keys.split(",") if isinstance(keys, str) else keys))


# -- conversion of values ----------------------------------------------------------------------------------------------

#: Full-scale deflection in degrees: of a VOR (2.5 for a localizer), and of a glide slope.
FULL_SCALE_DEG = {"VORDEV": 10.0, "GSDEV": 0.7}


def conversion(entry: Scaled, parameter: Parameter, item: Item) -> tuple[float, float, bool]:
    """The (scale, offset, wrap) that convert the parameter's value to the item's."""
    scale = entry.scale
    if scale is None:
        scale = 1.0
        if item.max == 1.0 and item.type == "float":
            if parameter.units == "%":
                scale = 0.01
            for name in parameter.fix_ids:
                scale = 1 / FULL_SCALE_DEG[name] if name in FULL_SCALE_DEG else scale
        elif (parameter.units, item.units) == ("inHg", "Pa"):
            scale = PASCALS_PER_INHG
    wrap = entry.wrap
    if wrap is None:
        wrap = is_full_circle(parameter) and item.min is not None and item.min < 0
    return scale, entry.offset, wrap


def _without_change(entry: Entry) -> Entry:
    """`entry` without the fields that do not matter when looking for duplicates."""
    if isinstance(entry, Output):
        entry = msgspec.structs.replace(entry, on_change=False)
    return msgspec.structs.replace(entry, canid=0, fixid=list(entry.keys))


def is_full_circle(parameter: Parameter) -> bool:
    """Whether the values are angles from 0° to a full turn."""
    return parameter.units == "°" and parameter.min == 0 and (parameter.max or 0) >= 359


def is_switches(parameter: Parameter) -> bool:
    """Whether the value is a set of bits."""
    return bool(parameter.parts) and set(parameter.parts) <= {"BYTE", "WORD"}


def is_time(parameter: Parameter) -> bool:
    """Whether the value is a time of day, a duration or a date."""
    return parameter.format.startswith(("Hour", "Year"))


def switch_count(parameter: Parameter) -> int:
    """The number of switches in the value."""
    return sum({"BYTE": 8, "WORD": 16}.get(part, 0) for part in parameter.parts)


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], table: Table, database: Database) -> tuple[Map, list[Problem]]:
    """Read a map file. Returns the map and its problems; the map is empty if there are any."""
    found, reader = _read(path, table, database)
    return found, reader.sorted_problems()


def advice(path: str | os.PathLike[str], table: Table, database: Database) -> list[Advice]:
    """Advice on the parts of a map file that are read differently, or not at all."""
    return _read(path, table, database)[1].sorted_advice()


def _read(path: str | os.PathLike[str], table: Table, database: Database) -> tuple[Map, Reader]:
    reader = Reader(Path(path), directory=_configuration_directory(Path(path)))
    value, at = reader.read(reader.main)
    found = Map()
    if isinstance(value, dict):
        value = {section: entries for section, entries in value.items() if entries is not None}
        fields = {section: [f.name for f in msgspec.structs.fields(kind)] for section, kind in SECTIONS.items()}
        reader.advice += carry_over(value, at, fields)
        reader.problems += options.problems(value, Map, at)
        checks = _Checks(value, at, table, database)
        reader.problems += checks.problems()
        reader.advice += checks.advice
        if not reader.problems:
            entries: dict[str, Any] = {s: [entry for entry, _, _ in rows] for s, rows in checks.entries.items()}
            found = msgspec.structs.replace(msgspec.convert(value, Map), **entries)
    elif value is not None:
        reader.report(at, f"expected a mapping with inputs: or outputs:, got {described(value)}")
    return found, reader


def _configuration_directory(path: Path) -> Path:
    """The configuration that a map belongs to: the nearest directory with preferences, or else the map's own."""
    parents = path.absolute().parents
    return next((p for p in parents if os.path.exists(p / "preferences.yaml")), parents[0])


class _Checks:
    """Checks the entries of a map that are well-formed: identifiers, keys, types, and contradictions between them."""

    def __init__(self, value: dict[Any, Any], at: Positions, table: Table, database: Database) -> None:
        self.at = at
        self.table = table
        self.database = database
        self.ignore_missing = value.get("ignore_fixid_missing") is True
        replacements = value.get("meta replacements")
        self.replacements = replacements if isinstance(replacements, dict) else {}
        self.advice: list[Advice] = []
        #: Section -> its well-formed entries, each with its position and its name in messages.
        self.entries: dict[str, list[tuple[Any, Positions, str]]] = {}
        for section, kind in SECTIONS.items():
            rows = self.entries[section] = []
            entries = value.get(section)
            for number, entry in enumerate(entries if isinstance(entries, list) else ()):
                with suppress(msgspec.ValidationError):
                    entry_at, name = at[section][number], f"{section}[{number}]"
                    rows.append((self._moved(msgspec.convert(entry, kind), entry_at, name), entry_at, name))

    def problems(self) -> Iterator[Problem]:
        yield from self._check_meta_replacements()
        for section, entries in self.entries.items():
            first: dict[Any, tuple[Positions, Entry]] = {}
            for row in list(entries):
                entry, at, name = row
                yield from (
                    at.at([field]).problem(f"{name}: {field}: {text}") for field, text in self._check_entry(entry)
                )
                # One parameter may feed several keys, but each parameter may be sent from one entry only.
                same = (*self._identity(entry), entry.keys if section == "inputs" else ())
                there, other = first.setdefault(same, (at, entry))
                if there is at:
                    continue
                words = f"{name}: the same as in line {there.line}"
                if _without_change(entry) == _without_change(other):
                    self.advice.append(at.advice(f"{words}, and not used"))
                    entries.remove(row)
                else:
                    yield at.problem(words)
        yield from self._check_priorities()

    def _moved(self, entry: Any, at: Positions, name: str) -> Any:
        """`entry` with its key's identifier in this table, if it has the one of another revision."""
        try:
            parameter = entry.parameter(self.table)
        except UnknownKey:
            return entry
        key = next(filter(None, entry.keys), "")
        if key in {k for k, _ in keys_of(parameter)}:
            return entry
        for revision in REVISIONS:
            other = load(revision).get(parameter.identifier)
            if other is None or other.name == parameter.name or key not in {k for k, _ in keys_of(other)}:
                continue
            here = next((p for p in self.table if key in {k for k, _ in keys_of(p)}), None)
            if here is not None:
                was = f"{name}: 0x{parameter.identifier:03X} is {parameter.name} in the table of {self.table.revision}"
                now = f"{key} is read as 0x{here.identifier:03X}; for the table of {revision} say `table: {revision}`"
                self.advice.append(at.at(["canid"]).advice(f"{was}: {now}"))
                return msgspec.structs.replace(entry, canid=here.identifier)
        return entry

    def _identity(self, entry: Entry) -> tuple[Any, int]:
        try:
            return entry.parameter(self.table).identifier, entry.index
        except UnknownKey:
            return entry.canid, entry.index

    def _check_meta_replacements(self) -> Iterator[Problem]:
        metas = {meta.lower(): meta for parameter in self.table for meta in parameter.metas.values()}
        names = {name for item in self.database.items() for name in item.aux}
        section = self.at.at(["meta replacements"])
        for meta, aux in self.replacements.items():
            if str(meta).lower() not in metas:
                known = did_you_mean(str(meta), metas.values())
                yield section.keys.get(meta, section).problem(f"no parameter has meta data {meta!r}{known}")
            if isinstance(aux, str) and aux not in names and not self.ignore_missing:
                yield section.at([meta]).problem(f"no item has an aux value {aux!r}{did_you_mean(aux, names)}")

    def _check_priorities(self) -> Iterator[Problem]:
        kinds: dict[str, set[type]] = {}
        for entry, at, name in (row for section, rows in self.entries.items() if section != "outputs" for row in rows):
            priority = entry.priority
            if priority is None:
                continue
            at = at.at(["priority"])
            if isinstance(priority, list) and len(set(priority)) < len(priority):
                yield at.problem(f"{name}: priority: the same node appears twice")
            for key in filter(None, entry.keys):
                if key in self.database and self.database.item(key).definition.sources:
                    ranked = "the database definition already ranks its sources; rank the nodes there"
                    yield at.problem(f"{name}: priority: {key}: {ranked}")
                kinds.setdefault(key, set()).add(type(priority))
                if len(kinds[key]) > 1:
                    yield at.problem(f"{name}: priority: {key}: a list of nodes in one entry, a number in another")

    # -- checks of one entry: they yield pairs (field, message) --------------------------------------------------------

    def _check_entry(self, entry: Entry) -> Iterator[tuple[str, str]]:
        try:
            parameter = entry.parameter(self.table)
        except UnknownKey as error:
            yield "canid", f"{error}{self._other_revision(entry)}"
            return
        if not parameter.type:
            yield "canid", f"{parameter.name} has no type in the table, so it cannot be decoded"
            return
        items = []
        for key in entry.keys:
            if not key:
                continue
            if key in self.database:
                items.append(self.database.item(key))
                yield from self._check_revision(entry, parameter, key)
            elif not self.ignore_missing:
                yield "fixid", f"{UnknownKey(key, self.database.keys())}"
        if not any(entry.keys):
            yield "fixid", "it has no key"
        for key, times in Counter(filter(None, entry.keys)).items():
            if times > 1:
                yield "fixid", f"{key} appears twice"
        if isinstance(entry, (Encoder, Switches)):
            for key in filter(None, split_keys(entry.toggle)):
                if key not in entry.keys:
                    yield "toggle", f"{key!r} is not among the keys of fixid{did_you_mean(key, entry.keys)}"
        if isinstance(entry, Encoder):
            yield from self._check_encoder(parameter, items)
        elif isinstance(entry, Switches):
            yield from self._check_switches(entry, parameter, items)
        elif isinstance(entry, Scaled):
            yield from self._check_scaled(entry, parameter, items)
        if isinstance(entry, Output):
            yield from self._check_last_word(entry, items)

    def _other_revision(self, entry: Entry) -> str:
        for revision in REVISIONS:
            try:
                other = entry.parameter(load(revision))
            except UnknownKey:
                continue
            if revision != self.table.revision:
                return f"; it is {other.name} in the table of {revision} (option `table`)"
        return ""

    def _check_revision(self, entry: Entry, parameter: Parameter, key: str) -> Iterator[tuple[str, str]]:
        """Report an identifier that stands for `key` in the other revision of the table, but not in this one."""
        if key in {k for k, _ in keys_of(parameter)}:
            return
        for revision in REVISIONS:
            other = load(revision).get(parameter.identifier)
            if other is None or other.name == parameter.name or key not in {k for k, _ in keys_of(other)}:
                continue
            here = next((f"0x{p.identifier:03X}" for p in self.table if key in {k for k, _ in keys_of(p)}), None)
            yield (
                "canid",
                f"0x{parameter.identifier:03X} is {parameter.name} in the table of {self.table.revision}; "
                f"it is {other.name} in the table of {revision} (option `table`)"
                + (f"; {key} is now {here}" if here else ""),
            )

    def _check_last_word(self, entry: Output, items: list[Item]) -> Iterator[tuple[str, str]]:
        if entry.on_lost_lead == NO_LAST_WORD:
            return
        if not entry.require_leader:
            yield "on_lost_lead", "has no effect without `require_leader: yes`"
        for item in items:
            try:
                item.convert(entry.on_lost_lead)
            except BadValue as error:
                yield "on_lost_lead", f"{error}, and not `{NO_LAST_WORD}`"

    def _check_encoder(self, parameter: Parameter, items: list[Item]) -> Iterator[tuple[str, str]]:
        if parameter.parts != ("INT", "INT", "BYTE"):
            yield "canid", f"{parameter.name} is not an encoder (0x300..0x307, 0x11A, 0x11B)"
        kinds = [item.type == "bool" for item in items]
        encoders = kinds.index(True) if True in kinds else len(kinds)
        if not 0 < encoders <= 2 or not all(kinds[encoders:]) or len(kinds) - encoders > 8:
            yield "fixid", "expected one or two encoders (numbers), then up to eight buttons (True or False)"
        yield from ((("fixid", f"{i.key} is text")) for i in items[:encoders] if i.type == "str")

    def _check_switches(
        self, entry: Switches | Output, parameter: Parameter, items: list[Item]
    ) -> Iterator[tuple[str, str]]:
        if not is_switches(parameter):
            yield "canid", f"{parameter.name} is not a set of switches"
        elif len(entry.keys) > switch_count(parameter):
            yield "fixid", f"{len(entry.keys)} keys, but {parameter.name} has {switch_count(parameter)} switches"
        yield from (("fixid", f"{i.key} is not True or False") for i in items if i.type != "bool")

    def _check_scaled(self, entry: Scaled, parameter: Parameter, items: list[Item]) -> Iterator[tuple[str, str]]:
        several = len(entry.keys) > 1
        if is_switches(parameter) and (several or (items and items[0].type == "bool" and len(parameter.parts) > 1)):
            if isinstance(entry, Output):
                yield from self._check_switches(entry, parameter, items)
            else:
                yield "fixid", f"{parameter.name} is a set of switches: it belongs under switches"
            return
        if len(parameter.parts) > 1 and not parameter.text:
            if isinstance(entry, Output):
                if several or not is_time(parameter) or (items and items[0].type != "str"):
                    yield "fixid", f"{parameter.name} ({parameter.type}) can be sent from one text key only, like TIMEZ"
            elif len([i for i in items if i.type != "str"]) > len(parameter.parts):
                yield "fixid", f"{parameter.name} has {len(parameter.parts)} numbers ({parameter.type})"
            return
        if several:
            yield "fixid", f"{parameter.name} is a single value: expected one key"
        for item in items:
            if parameter.text != (item.type == "str"):
                what = "text" if parameter.text else "a number"
                yield "fixid", f"{parameter.name} is {what}, but {item.key} has the type {item.type}"
            elif entry.invert and item.type != "bool":
                yield "invert", f"{item.key} is not True or False; for numbers use scale: -1"
            elif item.type not in ("float", "int") and (entry.scale is not None or entry.offset or entry.wrap):
                yield "fixid", f"{item.key} is not a number: scale, offset and wrap do not apply"
        if entry.scale is not None and not 1e-9 <= abs(entry.scale) <= 1e9:
            yield "scale", "expected a magnitude from 1e-9 to 1e9"
        if not abs(entry.offset) <= 1e9:
            yield "offset", "expected a magnitude of at most 1e9"


# -- ranking -----------------------------------------------------------------------------------------------------------


def rank_sources(found: Map, table: Table) -> dict[str, list[str]]:
    """The keys whose sources the map ranks, each with its sources below the connection's own, best first.

    Nodes are named by number. Parameters, if several feed one key, are named by `parameter_source`.
    """
    entries: list[Received] = [*found.inputs, *found.encoders, *found.switches]
    ranked: dict[str, list[str]] = {}
    numbered: dict[str, list[tuple[int, int, str]]] = {}
    for order, entry in enumerate(entries):
        for key in filter(None, entry.keys):
            if isinstance(entry.priority, list):
                nodes = ranked.setdefault(key, [])
                nodes += [str(node) for node in entry.priority if str(node) not in nodes]
            elif isinstance(entry, Input):
                name = parameter_source(entry, table)
                rank = 1_000_000 if entry.priority is None else entry.priority
                numbered.setdefault(key, []).append((rank, order, name))
    for key, rows in numbered.items():
        if len(rows) > 1 and key not in ranked and any(rank < 1_000_000 for rank, _, _ in rows):
            ranked[key] = [name for _, _, name in sorted(rows)]
    return ranked


def parameter_source(entry: Entry, table: Table) -> str:
    """The name of an entry's parameter in a source: ``"0x1C7"``, or ``"0x500.3"`` with an index."""
    return f"0x{entry.parameter(table).identifier:03X}" + (f".{entry.index}" if entry.index else "")


# -- the default -------------------------------------------------------------------------------------------------------

#: The specification's short names that differ from our keys.
NAMES = {
    "ACLAT": "ALAT",
    "ACLON": "ALONG",
    "ACNOR": "ANORM",
    "CTLMIX": "MIX",
    "CTLTHR": "THR",
    "GSDEV": "GSI",
    "GSPEED": "GS",
    "ID": "ACID",
    "RALT": "AGL",
    "VORDEV": "CDI",
}
#: The keys of parameters without a short name.
UNNAMED = {
    "Cabin Temperature": "CAT",
    "Generic Analog Measurement": "ANLG",
    "Next Waypoint Identifier": "WPNAME",
    "Next Waypoint Latitude": "WPLAT",
    "Next Waypoint Longitude": "WPLON",
    "Pitch Trim Control Position": "TRIMP",
    "Roll Trim Control Position": "TRIMR",
    "Static Pressure": "AIRPRESS",
    "Tire Pressure": "TIREP",
    "Turn Rate": "ROT",
    "Yaw Trim Control Position": "TRIMY",
}
CYLINDERS = 18


def keys_of(parameter: Parameter) -> Iterator[tuple[str, int]]:
    """The keys that a parameter can feed by default, each with its index, whether or not they exist."""
    number = parameter.number or ""
    base = parameter.name.partition(" #")[0]
    names = [NAMES.get(name, name) for name in parameter.fix_ids] + [n for n in (UNNAMED.get(base),) if n]
    for name in names:
        if parameter.index_name == "Cylinder":
            yield from ((f"{name}{number}{cylinder + 1}", cylinder) for cylinder in range(CYLINDERS))
            continue
        yield f"{name}{number}", 0
        if number == 1:
            yield name, 0
    if base == "VHF Com Frequency":
        yield f"COMACTFREQ{number}", 0
        yield f"COMSTDFREQ{number}", 1


def keys_in(path: str | os.PathLike[str]) -> list[str]:
    """The keys that a valid map writes, in its order."""
    reader = Reader(Path(path), directory=_configuration_directory(Path(path)))
    value: dict[str, Any] = reader.read(reader.main)[0] or {}
    entries = (entry for section in ("inputs", "encoders", "switches") for entry in value.get(section) or ())
    return [key for entry in entries for key in split_keys(entry["fixid"]) if key]


def build_default(table: Table, database: Database) -> dict[str, Any]:
    """The contents of a map file for every key that the table and the database have in common."""
    inputs: list[dict[str, Any]] = []
    encoders: list[dict[str, Any]] = []
    switches: list[dict[str, Any]] = []
    for parameter in table:
        canid = parameter.identifier
        if parameter.name == "Time":
            keys = [key if key in database else "" for key in ("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS")]
            if any(keys):
                inputs.append({"canid": canid, "index": 0, "fixid": ",".join(keys)})
        elif parameter.name.startswith("Encoder Input #"):
            keys = _known_keys(database, (f"ENC{2 * parameter.number - 1}", f"ENC{2 * parameter.number}"))
            if keys:
                encoders.append({"canid": canid, "index": 0, "fixid": ",".join(keys)})
        elif parameter.name.startswith("Generic Switches #"):
            count = switch_count(parameter)
            first = (parameter.number - 1) * count + 1
            keys = _known_keys(database, (f"BTN{n}" for n in range(first, first + count)))
            if keys:
                switches.append({"canid": canid, "index": 0, "fixid": ",".join(keys)})
        else:
            for key, index in keys_of(parameter):
                if key in database and _is_compatible(parameter, database.item(key)):
                    inputs.append({"canid": canid, "index": index, "fixid": key})
    return {"inputs": inputs, "encoders": encoders, "switches": switches}


def _known_keys(database: Database, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key in database]


def _is_compatible(parameter: Parameter, item: Item) -> bool:
    if not parameter.type or (len(parameter.parts) > 1 and not parameter.text):
        return False
    return item.type == "str" if parameter.text else item.type in ("float", "int")


def format_default(table: Table, database: Database) -> str:
    """The default map as the text of a map file."""
    lines = [f"# CAN-FIX parameters and keys, by the table of {table.revision}."]
    for section, entries in build_default(table, database).items():
        lines.append(f"{section}:")
        for entry in entries:
            keys = entry["fixid"] if "," not in entry["fixid"] else f'"{entry["fixid"]}"'
            where = f"canid: 0x{entry['canid']:03X}, index: {entry['index']}, fixid: {keys}"
            lines.append(f"  - {{{where}}}  # {table[entry['canid']].name}")
    return "\n".join(lines) + "\n"
