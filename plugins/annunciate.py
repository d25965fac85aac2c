"""Annunciates items beyond their limits: it sets the annunciate flag, which displays paint red.

For configurations of existing installations. An item is an alert of the engine in `fixgw.alerts`, of the level warning,
without text, delay or acknowledgement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, field

from fixgw.alerts.engine import Alert, Beyond, Level, When
from fixgw.alerts.judge import Judge, margin_of
from fixgw.database import Database, Item
from fixgw.errors import BadValue, did_you_mean
from fixgw.kit.expression import BadExpression, Expression
from fixgw.plugin import Options as PluginOptions

OPERATORS = {"<": "<", "<=": "<=", "=": "==", "==": "==", "!=": "!=", ">": ">", ">=": ">="}
NO_CONDITION = (None, "", "None")

Deadband = float | str
DEADBAND = Meta(
    description="How far a value must come back: a number in the key's units, or a share of its range such as `1%`"
)
START_BYPASS = Meta(description="Silent until the value first exceeds the low limit; no effect without a low limit")
COND_BYPASS = Meta(description="Silent while this is true: `KEY OP VALUE`, with one of `< <= = != > >=`")
LOW = Meta(description="Aux value that is the low limit; one that the item lacks, or that is not set, is no limit")
HIGH = Meta(description="Aux value that is the high limit; one that the item lacks, or that is not set, is no limit")


class Defaults(PluginOptions, frozen=True, kw_only=True):
    """The options of items that do not give their own."""

    low_aux_point: Annotated[str, LOW] = "lowAlarm"
    high_aux_point: Annotated[str, HIGH] = "highAlarm"
    deadband: Annotated[Deadband, DEADBAND] = "1%"
    start_bypass: Annotated[bool, START_BYPASS] = False
    cond_bypass: Annotated[str | None, COND_BYPASS] = None


class Entry(PluginOptions, frozen=True, kw_only=True):
    """An item to annunciate. What it does not give is taken from `defaults`."""

    key: Annotated[str, Meta(min_length=1, description="Key to annunciate")]
    low_aux_point: Annotated[str | None, LOW] = None
    high_aux_point: Annotated[str | None, HIGH] = None
    deadband: Annotated[Deadband | None, DEADBAND] = None
    start_bypass: Annotated[bool | None, START_BYPASS] = None
    cond_bypass: Annotated[str | None, COND_BYPASS] = ""

    def completed(self, defaults: Defaults) -> Defaults:
        """The options of this item, with those of `defaults` that it does not give."""
        given = {name: value for name in Defaults.__struct_fields__ if (value := getattr(self, name)) is not None}
        if self.cond_bypass != "":
            given["cond_bypass"] = self.cond_bypass
        else:
            del given["cond_bypass"]
        return Defaults(**{**{name: getattr(defaults, name) for name in Defaults.__struct_fields__}, **given})


class Options(PluginOptions, frozen=True, kw_only=True):
    defaults: Annotated[Defaults, Meta(description="Options of all items that do not give their own")] = field(
        default_factory=Defaults
    )
    items: Annotated[tuple[Entry, ...], Meta(description="Items to annunciate")] = ()


class Plugin(Judge[Options]):
    """An item that cannot be annunciated is left out; `advise` says why."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._left_out: dict[str, str] = {}

    def build(self) -> None:
        for index, entry in enumerate(self.options.items):
            found = list(problems(entry, self.options.defaults, self.db))
            if found:
                self._left_out[entry.key] = found[0][1]
                self.log.warning("%s is not annunciated: %s", entry.key, found[0][1])
            else:
                self.engine.add(alert_for(f"{index}.{entry.key}", entry, self.options.defaults, self.db))

    def health(self) -> str:
        left_out = "; ".join(f"{key} is not annunciated: {why}" for key, why in self._left_out.items())
        return super().health() or left_out

    def get_status(self) -> Mapping[str, Any]:
        with self.lock:
            annunciated = sorted({alert.key for alert in self.engine.alerts.values() if alert.flagged})
        return {"items": len(self.engine.alerts), "annunciated": annunciated, "left out": dict(self._left_out)}

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterator[tuple[str, str]]:
        keys: dict[str, int] = {}
        said: set[tuple[str, str]] = set()
        for index, entry in enumerate(options.items):
            for option, message in problems(entry, options.defaults, db):
                ours = not option or getattr(entry, option) not in (None, "")
                where = f"items.{index}.{option or 'key'}" if ours else f"defaults.{option}"
                if (where, message) not in said:
                    said.add((where, message))
                    yield where, f"{message}; left out"
            for option, name in missing_limits(entry, options.defaults, db):
                where = f"items.{index}.{option}" if getattr(entry, option) else f"defaults.{option}"
                if (where, name) not in said:
                    said.add((where, name))
                    nearest = did_you_mean(name, db.item(entry.key).aux)
                    yield where, f"{entry.key} has no aux value {name!r}{nearest}: there is no limit on this side"
            if keys.setdefault(entry.key, index) != index:
                yield f"items.{index}.key", f"{entry.key} is listed twice: it is annunciated when either entry says so"


def problems(entry: Entry, defaults: Defaults, db: Database) -> Iterator[tuple[str, str]]:
    """Say why `entry` cannot be annunciated, as pairs (option, message); the option is empty for the key."""
    options = entry.completed(defaults)
    if entry.key not in db:
        yield "", f"the database has no item {entry.key!r}{did_you_mean(entry.key, db)}"
        return
    item = db.item(entry.key)
    if item.type not in ("float", "int"):
        yield "", f"{entry.key} is not a number"
        return
    try:
        margin_of(options.deadband, item)
    except ValueError as error:
        yield "deadband", str(error)
    try:
        condition(options.cond_bypass, db)
    except ValueError as error:
        yield "cond_bypass", str(error)


def missing_limits(entry: Entry, defaults: Defaults, db: Database) -> Iterator[tuple[str, str]]:
    """The limits that somebody has named, but the item lacks, as pairs (option, name)."""
    if entry.key in db:
        for option in ("low_aux_point", "high_aux_point"):
            name = getattr(entry.completed(defaults), option)
            if name not in db.item(entry.key).aux and name != getattr(Defaults(), option):
                yield option, name


def alert_for(id: str, entry: Entry, defaults: Defaults, db: Database) -> Alert:
    """The alert for an entry without problems."""
    options = entry.completed(defaults)
    item = db.item(entry.key)
    margin = margin_of(options.deadband, item)
    low = Beyond(entry.key, options.low_aux_point, is_low=True, hysteresis=margin)
    high = Beyond(entry.key, options.high_aux_point, is_low=False, hysteresis=margin)
    bypass = condition(options.cond_bypass, db)
    return Alert(
        id,
        text=f"beyond {options.low_aux_point} or {options.high_aux_point}",
        key=entry.key,
        levels=[Level("warning", [low, high])],
        inhibit=When(bypass) if bypass is not None else None,
        armed_above=options.low_aux_point if options.start_bypass else None,
    )


def condition(text: str | None, db: Database) -> Expression | None:
    """The expression for ``KEY OP VALUE``; None for none. Raises ValueError."""
    if text in NO_CONDITION or text is None:
        return None
    words = text.split(maxsplit=2)
    if len(words) != 3 or words[1] not in OPERATORS:
        raise ValueError(f"{text!r} is not `KEY OP VALUE` with one of {' '.join(OPERATORS)}")
    key, operator, value = words
    if key not in db:
        raise ValueError(f"the database has no item {key!r}{did_you_mean(key, db)}")
    item: Item = db.item(key)
    try:
        return Expression(f"{key} {OPERATORS[operator]} {item.convert(value)!r}")
    except BadValue as error:
        raise ValueError(str(error)) from None
    except BadExpression:
        raise ValueError(f"{text!r} cannot be evaluated") from None
