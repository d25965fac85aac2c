"""The options of the GPIO driver, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, structs

from fixgw.database import Database, Item
from fixgw.drivers.links.pins import Pin, PinOptions, Pull, resource
from fixgw.errors import BadValue, did_you_mean
from fixgw.kit import expression
from fixgw.kit.units import LITRES_PER_GALLON
from fixgw.plugin import Options as PluginOptions

#: (what a pulse is a part of, the key's units) -> the key's value for one of it in a second.
RATES = {
    ("revolution", "rpm"): 60.0,
    ("gallon", "gal/hr"): 3600.0,
    ("gallon", "l/hr"): 3600.0 * LITRES_PER_GALLON,
    ("liter", "l/hr"): 3600.0,
    ("liter", "gal/hr"): 3600.0 / LITRES_PER_GALLON,
}
#: (what a pulse is a part of, the totaliser's units) -> the total for one of it.
TOTALS = {
    ("gallon", "gal"): 1.0,
    ("gallon", "l"): LITRES_PER_GALLON,
    ("liter", "l"): 1.0,
    ("liter", "gal"): 1.0 / LITRES_PER_GALLON,
}

Key = Annotated[str, Meta(min_length=1)]
Active = Annotated[
    Literal["low", "high"], Meta(description="Level of the closed contact: low if it goes to ground, high if to 3.3 V")
]
OwnPull = Annotated[
    Literal["auto", "up", "down", "none"],
    Meta(description="Internal resistor; `auto`: the one opposite to `active`, so that nothing floats"),
]
Debounce = Annotated[float, Meta(ge=0.0, le=1.0, description="Seconds that a level must last to count")]


class Contact(PluginOptions, frozen=True, kw_only=True):
    """A contact, or several, to ground or to 3.3 V."""

    active: Active = "low"
    pull: OwnPull = "auto"

    @property
    def resistor(self) -> Pull:
        if self.pull == "auto":
            return "up" if self.active == "low" else "down"
        return self.pull


class Button(Contact, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key, True or False")]
    mode: Annotated[
        Literal["momentary", "toggle"],
        Meta(description="True while pressed, or the other value with each press"),
    ] = "momentary"
    debounce: Debounce = 0.02
    repeat: Annotated[
        float, Meta(ge=0.0, le=60.0, description="Held, it is pressed again every so many seconds; 0: it is not")
    ] = 0.0
    repeat_after: Annotated[float, Meta(gt=0.0, le=60.0, description="Seconds before the first repetition")] = 0.5
    long_key: Annotated[str, Meta(description="Key that is True instead while it is held longer than `long_after`")] = (
        ""
    )
    long_after: Annotated[float, Meta(gt=0.0, le=60.0, description="Seconds that make a long press")] = 1.0

    def __post_init__(self) -> None:
        if self.repeat and self.long_key:
            raise ValueError("repeat and long_key exclude each other")
        if 0.0 < self.repeat < 0.1:
            raise ValueError("repeat is 0, or at least 0.1 s")


class Encoder(Contact, frozen=True, kw_only=True):
    a: Pin
    b: Pin
    key: Annotated[Key, Meta(description="Key to which turning clockwise adds; the wrong way round: swap `a` and `b`")]
    step: Annotated[float, Meta(description="What a detent adds")] = 1.0
    wrap: Annotated[bool, Meta(description="Beyond the end of the key's range it goes on at the other end")] = False
    acceleration: Annotated[
        float, Meta(ge=1.0, le=1000.0, description="How many steps a detent is worth when turned fast")
    ] = 1.0
    steps: Annotated[Literal[1, 2, 4], Meta(description="Changes of the contacts from detent to detent")] = 4
    button: Annotated[Button | None, Meta(description="The knob's push button")] = None


class Selector(Contact, frozen=True, kw_only=True):
    pins: Annotated[tuple[Pin, ...], Meta(min_length=1, max_length=24, description="Pins of the contacts, in order")]
    key: Annotated[Key, Meta(description="Key that gets the value of the closed contact")]
    values: Annotated[
        tuple[int | float | str, ...], Meta(description="The values, in order; default: 1, 2, 3 ...")
    ] = ()
    none: Annotated[
        int | float | str | None, Meta(description="The value while no contact is closed; default: the key is failed")
    ] = None
    debounce: Debounce = 0.1

    def __post_init__(self) -> None:
        if self.values and len(self.values) != len(self.pins):
            raise ValueError(f"{len(self.pins)} pins, but {len(self.values)} values")

    @property
    def positions(self) -> tuple[int | float | str, ...]:
        return self.values or tuple(range(1, len(self.pins) + 1))


class Output(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    when: Annotated[
        str, Meta(min_length=1, description="Key, or an expression on keys, that switches it on: `OILP1 < 20`")
    ]
    active: Annotated[Literal["high", "low"], Meta(description="Level that is on")] = "high"
    safe: Annotated[
        bool, Meta(description="Whether it is on at start, on stop, and while what it depends on is old or failed")
    ] = False
    blink: Annotated[float, Meta(ge=0.0, le=5.0, description="Hertz, when it is on; 0: steady")] = 0.0


class Dimmer(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key whose range, from end to end, is dark to bright")]
    frequency: Annotated[float, Meta(ge=10.0, le=2000.0, description="Pulses a second")] = 200.0
    gamma: Annotated[
        float, Meta(ge=0.1, le=5.0, description="1: the current goes with the key; 2.2: brightness as the eye sees it")
    ] = 2.2
    safe: Annotated[
        float,
        Meta(ge=0.0, le=100.0, description="Percent of the time on at start and while the key is old or failed; "
        "from 50 on, the output stays on when the gateway stops"),
    ] = 0.0  # fmt: skip


class Pulses(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key that gets the rate")]
    pulses: Annotated[float, Meta(gt=0.0, description="Pulses per revolution, gallon, liter or second: the K factor")]
    per: Annotated[
        Literal["revolution", "gallon", "liter", "second"],
        Meta(description="What `pulses` make; the key's units are then rpm, gal/hr or l/hr, or any"),
    ]
    window: Annotated[float, Meta(ge=0.1, le=60.0, description="Seconds over which the rate is averaged")] = 1.0
    timeout: Annotated[float, Meta(ge=0.1, le=60.0, description="Seconds without a pulse that mean zero")] = 2.0
    shortest: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Seconds; a pulse that comes sooner after the last is taken for interference"),
    ] = 0.0
    total_key: Annotated[str, Meta(description="Key to which what has passed is added, in gal or l")] = ""
    edge: Annotated[Literal["falling", "rising"], Meta(description="Edge that is counted")] = "falling"
    pull: Annotated[Pull, Meta(description="Internal resistor")] = "up"


class Options(PinOptions, frozen=True, kw_only=True):
    """Options of the GPIO driver."""

    buttons: Annotated[tuple[Button, ...], Meta(description="Push buttons and switches")] = ()
    encoders: Annotated[tuple[Encoder, ...], Meta(description="Rotary encoders")] = ()
    selectors: Annotated[tuple[Selector, ...], Meta(description="Rotary switches, one contact of several closed")] = ()
    outputs: Annotated[tuple[Output, ...], Meta(description="Lamps and relays")] = ()
    dimmers: Annotated[tuple[Dimmer, ...], Meta(description="Lamps of which the brightness follows a key")] = ()
    pulses: Annotated[tuple[Pulses, ...], Meta(description="Sensors that give pulses: tachometers, flow meters")] = ()


def all_buttons(options: Options) -> Iterator[tuple[str, Button]]:
    """Every button and where it is written, those of knobs too."""
    yield from ((f"buttons.{n}", button) for n, button in enumerate(options.buttons))
    for n, encoder in enumerate(options.encoders):
        if encoder.button is not None:
            yield f"encoders.{n}.button", encoder.button


def claims(options: Options) -> Iterator[tuple[str, str]]:
    """Every pin, and where it is asked for."""
    for at, button in all_buttons(options):
        yield resource(button.pin), f"{at}.pin"
    for n, encoder in enumerate(options.encoders):
        yield resource(encoder.a), f"encoders.{n}.a"
        yield resource(encoder.b), f"encoders.{n}.b"
    for n, selector in enumerate(options.selectors):
        yield from ((resource(pin), f"selectors.{n}.pins.{m}") for m, pin in enumerate(selector.pins))
    for name in ("outputs", "dimmers", "pulses"):
        yield from ((resource(entry.pin), f"{name}.{n}.pin") for n, entry in enumerate(getattr(options, name)))


def fed(options: Options) -> Iterator[str]:
    """Keys that say what pins are like now; those that knobs and toggles set change only when somebody does."""
    for _, button in all_buttons(options):
        yield from ([button.key] if button.mode == "momentary" else []) + ([button.long_key] if button.long_key else [])
    yield from (selector.key for selector in options.selectors)
    for pulses in options.pulses:
        yield from (key for key in (pulses.key, pulses.total_key) if key)


def problems(options: Options, db: Database) -> Iterator[tuple[str, str]]:
    """What is wrong with the options, as (option, message)."""
    if not any(getattr(options, f.name) for f in structs.fields(Options) if f.name != "library"):
        yield "", "no pin is used: add buttons, encoders, selectors, outputs, dimmers or pulses"
    for at, button in all_buttons(options):
        yield from _key(db, f"{at}.key", button.key, "bool")
        if button.long_key:
            yield from _key(db, f"{at}.long_key", button.long_key, "bool")
    for n, encoder in enumerate(options.encoders):
        yield from _encoder(db, f"encoders.{n}", encoder)
    for n, selector in enumerate(options.selectors):
        yield from _key(db, f"selectors.{n}.key", selector.key)
        if selector.key in db:
            yield from _values(db.item(selector.key), f"selectors.{n}", selector)
    for n, output in enumerate(options.outputs):
        yield from ((f"outputs.{n}.when", text) for text in expression.check(output.when, db))
    for n, dimmer in enumerate(options.dimmers):
        yield from _key(db, f"dimmers.{n}.key", dimmer.key, "float", "int")
        if dimmer.key in db and (db.item(dimmer.key).min is None or db.item(dimmer.key).max is None):
            yield f"dimmers.{n}.key", f"{dimmer.key} has no range: there is no knowing what is bright"
    for n, pulses in enumerate(options.pulses):
        yield from _pulses(db, f"pulses.{n}", pulses)


def _key(db: Database, at: str, key: str, *types: str) -> Iterator[tuple[str, str]]:
    if key not in db:
        yield at, f"no item {key!r}{did_you_mean(key, db)}"
    elif types and db.item(key).type not in types:
        yield at, f"{key} is of type {db.item(key).type}, not {' or '.join(types)}"


def _encoder(db: Database, at: str, encoder: Encoder) -> Iterator[tuple[str, str]]:
    yield from _key(db, f"{at}.key", encoder.key, "float", "int")
    item = db.item(encoder.key) if encoder.key in db else None
    if item is not None and item.type == "int" and encoder.step != int(encoder.step):
        yield f"{at}.step", f"{encoder.key} takes whole numbers only"
    if item is not None and encoder.wrap and (item.min is None or item.max is None):
        yield f"{at}.wrap", f"{encoder.key} has no range"


def _values(item: Item, at: str, selector: Selector) -> Iterator[tuple[str, str]]:
    named = [(f"{at}.values.{n}" if selector.values else f"{at}.key", v) for n, v in enumerate(selector.positions)]
    if selector.none is not None:
        named.append((f"{at}.none", selector.none))
    for where, value in named:
        try:
            whole = item.convert(value)
        except BadValue as error:
            yield where, str(error)
            continue
        if not isinstance(whole, str) and (
            (item.min is not None and whole < item.min) or (item.max is not None and whole > item.max)
        ):
            yield where, f"{value} is out of {item.key}'s range"


def _pulses(db: Database, at: str, pulses: Pulses) -> Iterator[tuple[str, str]]:
    for option, key, table in (("key", pulses.key, RATES), ("total_key", pulses.total_key, TOTALS)):
        if not key:
            continue
        yield from _key(db, f"{at}.{option}", key, "float", "int")
        if key not in db or (pulses.per == "second" and option == "key"):
            continue
        units = [units for per, units in table if per == pulses.per]
        if db.item(key).units not in units:
            wanted = " or ".join(units) or "no total"
            yield f"{at}.{option}", f"{key} is in {db.item(key).units or 'no units'}; per {pulses.per} makes {wanted}"
    if pulses.total_key in db and db.item(pulses.total_key).type != "float":
        yield f"{at}.total_key", f"{pulses.total_key} takes whole numbers only"
