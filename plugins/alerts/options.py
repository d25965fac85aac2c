"""The options of `alerts`, what may be wrong with them, and the alerts that they make."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Annotated, NamedTuple

from msgspec import Meta, field

from fixgw import configuration
from fixgw.alerts.engine import Alert, Beyond, Condition, Level, NoData, When
from fixgw.alerts.judge import margin_of
from fixgw.database import Database, Item
from fixgw.errors import UnknownKey, did_you_mean
from fixgw.kit import expression
from fixgw.kit.phases import Phase
from fixgw.notices import LEVELS
from fixgw.notices import Level as LevelName
from fixgw.plugin import Options as PluginOptions

MAX_ALERTS = 1000
SHELVE_WARNING_S = 60.0  # without `shelve: yes`
LIMITS = ("lowAlarm", "highAlarm")
_WILDCARD = re.compile(r"[*?\[]")
_PLACE = re.compile(r"\{(\w*)\}")

Seconds = Annotated[float, Meta(ge=0.0, le=3600.0)]
BELOW = Meta(description="True below this: a number, or the name of an aux value of the key")
ABOVE = Meta(description="True above this: a number, or the name of an aux value of the key")
WHEN = Meta(description="True while this expression is, such as `OAT < 5 and IAS > 40`")


class LevelOptions(PluginOptions, frozen=True, kw_only=True):
    """One of several levels of an alert."""

    level: Annotated[LevelName, Meta(description="How urgent it is")]
    below: Annotated[float | str | None, BELOW] = None
    above: Annotated[float | str | None, ABOVE] = None
    when: Annotated[str, WHEN] = ""


class AlertOptions(PluginOptions, frozen=True, kw_only=True):
    """An alert."""

    id: Annotated[str, Meta(pattern=r"^[!-9<-~]{1,64}$", description="Its name, for commands and the status")]
    text: Annotated[str, Meta(max_length=200, description="What the crew reads; default: the id in capitals")] = ""
    level: Annotated[LevelName, Meta(description="How urgent it is")] = "caution"
    key: Annotated[str, Meta(description="Key that it judges and annunciates")] = ""
    each: Annotated[
        str,
        Meta(
            description="Instead of `key`: one alert for each key that matches this pattern. `text`, `voice`, "
            "`when` and `inhibit` may hold `{key}`, and `{n}` for what stands where the wildcards are"
        ),
    ] = ""
    below: Annotated[float | str | None, BELOW] = None
    above: Annotated[float | str | None, ABOVE] = None
    when: Annotated[str, WHEN] = ""
    levels: Annotated[
        tuple[LevelOptions, ...], Meta(description="Instead of `level`, `below`, `above` and `when`: several levels")
    ] = ()
    hysteresis: Annotated[
        float | str,
        Meta(description="How far the value must come back: a number in the key's units, or `1%` of its range"),
    ] = 0.0
    on_delay: Annotated[Seconds, Meta(description="Seconds for which the condition must be true without a break")] = 0.0
    off_delay: Annotated[Seconds, Meta(description="Seconds for which it must be false without a break")] = 0.0
    inhibit: Annotated[str, Meta(description="Not presented while this expression is true")] = ""
    phases: Annotated[tuple[Phase, ...], Meta(description="Presented in these phases only; none named: in all")] = ()
    latch: Annotated[bool, Meta(description="Whether it stays until somebody acknowledges it")] = False
    no_data: Annotated[
        LevelName | None, Meta(description="Level of an alert of its own while the key is old, failed or never written")
    ] = None
    no_data_delay: Annotated[Seconds, Meta(description="Seconds without data before that")] = 3.0
    shelve: Annotated[bool, Meta(description="Whether a warning may be shelved for more than a minute")] = False
    voice: Annotated[str, Meta(max_length=200, description="What to speak")] = ""

    @property
    def all_levels(self) -> tuple[LevelOptions, ...]:
        if self.levels:
            return self.levels
        return (LevelOptions(level=self.level, below=self.below, above=self.above, when=self.when),)


class PhaseOptions(PluginOptions, frozen=True, kw_only=True):
    """The phases of flight."""

    takeoff_speed: Annotated[float, Meta(gt=0, description="Knots above which the take-off run has begun")] = 40.0
    airborne_speed: Annotated[float, Meta(gt=0, description="Knots above which the aircraft can fly")] = 50.0
    landed_speed: Annotated[float, Meta(gt=0, description="Knots below which the aircraft is on the ground")] = 35.0
    engine: Annotated[str | None, Meta(description="Key of the engine's speed; null for an aircraft without one")] = (
        "TACH1"
    )


class Options(PluginOptions, frozen=True, kw_only=True):
    alerts: Annotated[tuple[AlertOptions, ...], Meta(description="The alerts")] = ()
    phases: Annotated[PhaseOptions, Meta(description="What decides the phase of flight")] = field(
        default_factory=PhaseOptions
    )
    hold_back: Annotated[
        tuple[Phase, ...], Meta(description="Phases in which no new caution or advisory is raised; warnings always are")
    ] = ()


class One(NamedTuple):
    """One of the keys of an alert, and what stands for the wildcards of its pattern."""

    key: str
    n: str

    def fill(self, text: str) -> str:
        return text.replace("{key}", self.key).replace("{n}", self.n)


def ones(option: AlertOptions, db: Database) -> list[One]:
    """The keys of an alert. Raises `UnknownKey`."""
    if not option.each:
        return [One(option.key, "")]
    found = _WILDCARD.search(option.each)
    head = option.each[: found.start()] if found else option.each
    tail = re.split(r"[*?\]]", option.each)[-1] if found else ""
    return [One(key, key[len(head) : len(key) - len(tail)]) for key in db.matching(option.each)]


# -- problems ----------------------------------------------------------------------------------------------------------


def problems(options: Options, db: Database) -> Iterator[tuple[str, str]]:
    """What is wrong, as pairs (option, message)."""
    ids: dict[str, int] = {}
    made: dict[str, int] = {}
    total = 0
    for index, option in enumerate(options.alerts):
        at = f"alerts.{index}"
        if ids.setdefault(option.id, index) != index:
            yield f"{at}.id", f"another alert has the id {option.id}"
        elif option.id == "all":
            yield f"{at}.id", "`all` stands for all alerts in commands: choose another id"
        else:
            clash = next((id for id in _ids(option, db) if made.setdefault(id, index) != index), "")
            if clash:
                yield f"{at}.id", f"another alert makes one with the id {clash}"
        count = yield from _problems_of(option, at, db)
        total += count
    if total > MAX_ALERTS:
        yield "alerts", f"these are {total} alerts, at most {MAX_ALERTS}"
    engine = options.phases.engine
    if engine and engine != "TACH1" and engine not in db:
        yield "phases.engine", f"the database has no item {engine!r}{did_you_mean(engine, db)}"
    speeds = options.phases
    if not speeds.landed_speed < speeds.takeoff_speed <= speeds.airborne_speed:
        yield "phases", "the speeds must ascend: landed_speed, takeoff_speed, airborne_speed"


def _ids(option: AlertOptions, db: Database) -> list[str]:
    """The ids of all alerts that an option makes."""
    try:
        keys = ones(option, db)
    except UnknownKey:
        return []
    return [id for one in keys for id in ids_of(option, one)[: 2 if option.no_data else 1]]


def _problems_of(option: AlertOptions, at: str, db: Database) -> Generator[tuple[str, str], None, int]:
    """What is wrong with one alert. Returns how many alerts it makes."""
    if option.key and option.each:
        yield f"{at}.each", "give either `key` or `each`"
    try:
        keys = ones(option, db)
    except UnknownKey:
        yield f"{at}.each", f"no item matches {option.each!r}{did_you_mean(option.each, db)}"
        return 0
    unknown = [one.key for one in keys if one.key and one.key not in db]
    if unknown:
        yield f"{at}.key", f"the database has no item {unknown[0]!r}{did_you_mean(unknown[0], db)}"
    names = {"key", "n"} if option.each else set()
    for name in ("text", "voice", "when", "inhibit"):
        for place in _PLACE.findall(getattr(option, name)):
            if place not in names:
                allowed = "{key} and {n} are allowed" if names else "allowed only with `each`"
                yield f"{at}.{name}", f"{{{place}}}: {allowed}"
    has_key = bool(keys and keys[0].key)
    if option.no_data and not has_key:
        yield f"{at}.no_data", "it needs a `key`"
    if option.levels:
        for name in ("below", "above", "when"):
            if getattr(option, name) not in (None, ""):
                yield f"{at}.{name}", "give it in `levels`, or leave `levels` out"
    for n, level in enumerate(option.all_levels):
        where = f"{at}.levels.{n}" if option.levels else at
        sides = [name for name in ("below", "above") if getattr(level, name) is not None]
        if not sides and not level.when:
            if not (option.no_data and not option.levels):
                yield where, "it has no condition: `below`, `above` or `when`"
        elif sides and level.when:
            yield f"{where}.when", f"give either `when` or `{sides[0]}`; `inhibit` excludes situations"
        elif sides and not has_key:
            yield f"{where}.{sides[0]}", "it needs a `key` to compare"
        if not unknown:
            for one in keys:
                found = list(_problems_with(option, level, one, at, where, db))
                yield from found
                if found:
                    break  # the other keys of a pattern have the same
    if has_key and not unknown:
        covered = _never_shown(option, db.item(keys[0].key))
        yield from ((f"{at}.{name}", text) for name, text, fixed in covered if fixed)
    return len(keys) * (2 if option.no_data else 1)


def _problems_with(
    option: AlertOptions, level: LevelOptions, one: One, at: str, where: str, db: Database
) -> Iterator[tuple[str, str]]:
    """What is wrong with a level of an alert for one of its keys."""
    for name, text in ((f"{where}.when", level.when), (f"{at}.inhibit", option.inhibit)):
        if text:
            yield from ((name, problem) for problem in expression.check(one.fill(text), db))
    if not one.key or (level.below is None and level.above is None):
        return
    item = db.item(one.key)
    if item.type not in ("float", "int"):
        yield f"{where}.{'above' if level.below is None else 'below'}", f"{one.key} is not a number: use `when`"
        return
    for name in ("below", "above"):
        limit = getattr(level, name)
        if isinstance(limit, str) and limit not in item.aux:
            yield f"{where}.{name}", f"{one.key} has no aux value {limit!r}{did_you_mean(limit, item.aux)}"
    try:
        margin_of(option.hysteresis, item)
    except ValueError as error:
        yield f"{at}.hysteresis", str(error)
        return
    found = _contradictions(option, level, item)
    yield from ((f"{at if name == 'hysteresis' else where}.{name}", text) for name, text, fixed in found if fixed)


def _contradictions(option: AlertOptions, level: LevelOptions, item: Item) -> Iterator[tuple[str, str, bool]]:
    """Say why limits make no sense at present, as triples (option, message, whether aux values cannot change that)."""
    limits: dict[str, float] = {}
    fixed = not isinstance(level.below, str) and not isinstance(level.above, str)
    for name in ("below", "above"):
        limit = getattr(level, name)
        present = _present(limit, item)
        if present is None:
            continue
        limits[name] = present
        end = item.min if name == "below" else item.max
        if end is not None and (present <= end if name == "below" else present >= end):
            text = f"{item.key} can never be {name} {present:g}: its range ends at {end:g}"
            yield name, text, not isinstance(limit, str)
    margin = margin_of(option.hysteresis, item)
    for name, limit in limits.items():
        back = limit + margin if name == "below" else limit - margin
        end = item.max if name == "below" else item.min
        if end is not None and (back > end if name == "below" else back < end):
            text = f"{item.key} would have to come back to {back:g}: its range ends at {end:g}"
            yield "hysteresis", text, not isinstance(getattr(level, name), str)
    if len(limits) == 2:
        if limits["below"] > limits["above"]:
            yield "below", f"{limits['below']:g} is above `above`, {limits['above']:g}: it would always be on", fixed
        elif margin > limits["above"] - limits["below"]:
            yield "hysteresis", f"{margin:g} is more than lies between the limits of {item.key}", fixed


def _never_shown(option: AlertOptions, item: Item) -> Iterator[tuple[str, str, bool]]:
    """Say which levels a higher one always covers, as triples (option, message, whether aux values can't change it)."""
    for n, level in enumerate(option.levels):
        for higher in option.levels:
            for name in ("below", "above"):
                limits = (getattr(level, name), getattr(higher, name))
                first, then = (_present(limit, item) for limit in limits)
                if LEVELS.index(higher.level) <= LEVELS.index(level.level) or first is None or then is None:
                    continue
                if first <= then if name == "below" else first >= then:
                    before = f"it is {higher.level} {name} {then:g} before"
                    text = f"{item.key} is never {level.level} {name} {first:g}: {before}"
                    yield f"levels.{n}.{name}", text, not any(isinstance(limit, str) for limit in limits)


def _present(limit: float | str, item: Item) -> float | None:
    """The limit at present; None if it is not set."""
    value = item.aux.get(limit) if isinstance(limit, str) else limit
    return float(value) if isinstance(value, (int, float)) else None


def _has_own_limits(item: Item) -> bool:
    """Whether somebody has set an alarm limit: the packaged ones are those of no particular aircraft."""
    packaged = configuration.packaged_values()
    limits = ((_present(name, item), packaged.get(f"{item.key}.{name}")) for name in LIMITS)
    return any(limit is not None and (not text or limit != float(text)) for limit, text in limits)


def advice(options: Options, db: Database) -> Iterator[tuple[str, str]]:
    """What may not be meant."""
    judged: set[str] = set()
    for index, option in enumerate(options.alerts):
        for one in ones(option, db):
            if not one.key:
                continue
            judged.add(one.key)
            item = db.item(one.key)
            for _, text, fixed in _never_shown(option, item):
                if not fixed:
                    yield f"alerts.{index}.id", text
            for level in option.all_levels:
                for name in ("below", "above"):
                    limit = getattr(level, name)
                    if isinstance(limit, str) and item.aux.get(limit) is None:
                        yield f"alerts.{index}.id", f"{one.key}.{limit} is not set, so that it is never {name} that"
                if level.below is not None or level.above is not None:
                    for _, text, fixed in _contradictions(option, level, item):
                        if not fixed:
                            yield f"alerts.{index}.id", text
        for text in (option.inhibit, option.when, *(level.when for level in option.levels)):
            if text and not option.each:
                references = expression.Expression(text).references
                judged |= {reference.key for reference in references}
                for reference in references:
                    name = "" if reference.is_flag else reference.attribute
                    if name and db.item(reference.key).aux[name] is None:
                        yield f"alerts.{index}.id", f"{reference} is not set, so that `{text}` is not known"
    missing = [item.key for item in db.items() if item.key not in judged and _has_own_limits(item)]
    if missing:
        few = ", ".join(missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        yield "alerts", f"{few}{more}: you have set lowAlarm or highAlarm, but no alert looks at them"


# -- alerts ------------------------------------------------------------------------------------------------------------


def alerts(options: Options, db: Database) -> Iterator[Alert]:
    """The alerts that these options make. They must have no problems."""
    for option in options.alerts:
        for one in ones(option, db):
            yield from _alerts_for(option, one, db)


def ids_of(option: AlertOptions, one: One) -> tuple[str, str]:
    """The ids of the alert for one of its keys, and of the one that says that there is no data."""
    id = f"{option.id}.{one.key}" if option.each else option.id
    return id, f"{id}.no-data"


def _alerts_for(option: AlertOptions, one: One, db: Database) -> Iterator[Alert]:
    id, id_no_data = ids_of(option, one)
    text = one_line(one.fill(option.text)) or option.id.upper().replace("-", " ")
    voice = one_line(one.fill(option.voice))
    inhibit = When(expression.Expression(one.fill(option.inhibit))) if option.inhibit else None
    phases = frozenset(option.phases)
    levels = [
        Level(level.level, conditions, option.on_delay, option.off_delay)
        for level in option.all_levels
        if (conditions := _conditions(option, level, one, db))
    ]
    if levels:
        patient = option.shelve or all(level.name != "warning" for level in levels)
        yield Alert(
            id,
            text=text,
            levels=levels,
            key=one.key,
            group=option.id,
            latch=option.latch,
            inhibit=inhibit,
            phases=phases,
            shelve_s=float("inf") if patient else SHELVE_WARNING_S,
            voice=voice,
        )
    if option.no_data:
        subject = re.sub(r" (LOW|HIGH)$", "", text)
        yield Alert(
            id_no_data,
            text=f"{subject} NO DATA",
            levels=[Level(option.no_data, [NoData(one.key)], option.no_data_delay)],
            key=one.key,
            group=f"{option.id}.no-data",
            inhibit=When(expression.Expression(one.fill(option.inhibit))) if option.inhibit else None,
            phases=phases,
            shelve_s=float("inf") if option.shelve or option.no_data != "warning" else SHELVE_WARNING_S,
        )


def _conditions(option: AlertOptions, level: LevelOptions, one: One, db: Database) -> list[Condition]:
    if level.when:
        return [When(expression.Expression(one.fill(level.when)))]
    if level.below is None and level.above is None:
        return []
    margin = margin_of(option.hysteresis, db.item(one.key))
    sides = ((level.below, True), (level.above, False))
    return [Beyond(one.key, limit, is_low, margin) for limit, is_low in sides if limit is not None]


def one_line(text: str) -> str:
    """`text` without control characters, for a key."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
