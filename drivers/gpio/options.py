"""The options of the GPIO driver, and their checks."""

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

#: (the unit that pulses measure, the key's units) -> the key's value at one such unit per second.
RATES = {
    ("revolution", "rpm"): 60.0,
    ("gallon", "gal/hr"): 3600.0,
    ("gallon", "l/hr"): 3600.0 * LITRES_PER_GALLON,
    ("liter", "l/hr"): 3600.0,
    ("liter", "gal/hr"): 3600.0 / LITRES_PER_GALLON,
}
#: (the unit that pulses measure, the totaliser's units) -> the total for one such unit.
TOTALS = {
    ("gallon", "gal"): 1.0,
    ("gallon", "l"): LITRES_PER_GALLON,
    ("liter", "l"): 1.0,
    ("liter", "gal"): 1.0 / LITRES_PER_GALLON,
}

Key = Annotated[str, Meta(min_length=1)]
Active = Annotated[
    Literal["low", "high"],
    Meta(description="Level when the contact is closed: low if it connects to ground, high if to 3.3 V"),
]
OwnPull = Annotated[
    Literal["auto", "up", "down", "none"],
    Meta(description="Internal resistor; `auto`: the opposite of `active`, so that the pin never floats"),
]
Debounce = Annotated[float, Meta(ge=0.0, le=1.0, description="Seconds that a level must last to be accepted")]


class Contact(PluginOptions, frozen=True, kw_only=True):
    """One or several contacts to ground or to 3.3 V."""

    active: Active = "low"
    pull: OwnPull = "auto"

    @property
    def resistor(self) -> Pull:
        if self.pull == "auto":
            return "up" if self.active == "low" else "down"
        return self.pull


class Button(Contact, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key to write, True or False")]
    mode: Annotated[
        Literal["momentary", "toggle"],
        Meta(description="`momentary`: True while pressed; `toggle`: changes with each press"),
    ] = "momentary"
    debounce: Debounce = 0.02
    repeat: Annotated[
        float,
        Meta(
            ge=0.0, le=60.0, description="While the button is held, seconds between repeated presses; 0: no repetition"
        ),
    ] = 0.0
    repeat_after: Annotated[float, Meta(gt=0.0, le=60.0, description="Seconds before the first repetition")] = 0.5
    long_key: Annotated[
        str,
        Meta(description="Key that becomes True, instead of `key`, while the button is held longer than `long_after`"),
    ] = ""
    long_after: Annotated[float, Meta(gt=0.0, le=60.0, description="Seconds after which a press is long")] = 1.0

    def __post_init__(self) -> None:
        if self.repeat and self.long_key:
            raise ValueError("repeat and long_key cannot be used together")
        if 0.0 < self.repeat < 0.1:
            raise ValueError("repeat must be 0 or at least 0.1 s")


class Encoder(Contact, frozen=True, kw_only=True):
    a: Pin
    b: Pin
    key: Annotated[
        Key, Meta(description="Key that increases when the knob is turned clockwise; if it decreases, swap `a` and `b`")
    ]
    step: Annotated[float, Meta(description="Change of the key per detent")] = 1.0
    wrap: Annotated[bool, Meta(description="Continue at the other end of the key's range")] = False
    acceleration: Annotated[
        float, Meta(ge=1.0, le=1000.0, description="Steps per detent when the knob is turned fast")
    ] = 1.0
    steps: Annotated[Literal[1, 2, 4], Meta(description="Number of contact changes from one detent to the next")] = 4
    button: Annotated[Button | None, Meta(description="The knob's push button")] = None


class Selector(Contact, frozen=True, kw_only=True):
    pins: Annotated[tuple[Pin, ...], Meta(min_length=1, max_length=24, description="Pins of the contacts, in order")]
    key: Annotated[Key, Meta(description="Key that is set to the value of the closed contact")]
    values: Annotated[
        tuple[int | float | str, ...], Meta(description="Values of the contacts, in order; default: 1, 2, 3 ...")
    ] = ()
    none: Annotated[
        int | float | str | None, Meta(description="Value while no contact is closed; default: the key fails")
    ] = None
    debounce: Debounce = 0.1

    def __post_init__(self) -> None:
        if self.values and len(self.values) != len(self.pins):
            raise ValueError(f"there are {len(self.pins)} pins, but {len(self.values)} values")

    @property
    def positions(self) -> tuple[int | float | str, ...]:
        return self.values or tuple(range(1, len(self.pins) + 1))


class Output(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    when: Annotated[
        str, Meta(min_length=1, description="Key or expression that switches the output on, such as `OILP1 < 20`")
    ]
    active: Annotated[Literal["high", "low"], Meta(description="Level when the output is on")] = "high"
    safe: Annotated[
        bool,
        Meta(
            description="Whether the output is on at start, after a stop, and while a key that it depends on is old, "
            "failed or simulated"
        ),
    ] = False
    blink: Annotated[
        float, Meta(ge=0.0, le=5.0, description="Blinking frequency in hertz while the output is on; 0: steady")
    ] = 0.0


class Dimmer(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key whose range corresponds to dark to bright")]
    frequency: Annotated[float, Meta(ge=10.0, le=2000.0, description="Pulses a second")] = 200.0
    gamma: Annotated[
        float, Meta(ge=0.1, le=5.0, description="1: the current follows the key; 2.2: the perceived brightness does")
    ] = 2.2
    safe: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="Duty cycle in percent at start and while the key is old, failed or simulated; from 50 up, the "
            "output stays on when the gateway stops",
        ),
    ] = 0.0


class Pulses(PluginOptions, frozen=True, kw_only=True):
    pin: Pin
    key: Annotated[Key, Meta(description="Key that is set to the rate")]
    pulses: Annotated[float, Meta(gt=0.0, description="Pulses per revolution, gallon, litre or second: the K factor")]
    per: Annotated[
        Literal["revolution", "gallon", "liter", "second"],
        Meta(description="What `pulses` are counted per; the key's units must then be rpm, gal/hr or l/hr, or any"),
    ]
    window: Annotated[float, Meta(ge=0.1, le=60.0, description="Seconds over which the rate is averaged")] = 1.0
    timeout: Annotated[
        float, Meta(ge=0.1, le=60.0, description="Seconds without a pulse after which the rate is zero")
    ] = 2.0
    shortest: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="Shortest possible time in seconds between pulses; a pulse that comes sooner is interference",
        ),
    ] = 0.0
    total_key: Annotated[str, Meta(description="Key to which the flow is added, in gal or l")] = ""
    edge: Annotated[Literal["falling", "rising"], Meta(description="Edge to count")] = "falling"
    pull: Annotated[Pull, Meta(description="Internal resistor")] = "up"


class Options(PinOptions, frozen=True, kw_only=True):
    """Options for the GPIO driver."""

    buttons: Annotated[tuple[Button, ...], Meta(description="Push buttons and switches")] = ()
    encoders: Annotated[tuple[Encoder, ...], Meta(description="Rotary encoders")] = ()
    selectors: Annotated[
        tuple[Selector, ...], Meta(description="Rotary switches that close one of several contacts")
    ] = ()
    outputs: Annotated[tuple[Output, ...], Meta(description="Lamps and relays")] = ()
    dimmers: Annotated[tuple[Dimmer, ...], Meta(description="Lamps whose brightness follows a key")] = ()
    pulses: Annotated[tuple[Pulses, ...], Meta(description="Sensors that send pulses: tachometers, flow meters")] = ()
    simulated: Annotated[
        bool,
        Meta(
            description="Let simulated, replayed and overridden values switch outputs and dim lamps: for benches, "
            "never in flight. A connection whose own `source` is simulated does so anyway"
        ),
    ] = False


def all_buttons(options: Options) -> Iterator[tuple[str, Button]]:
    """Every button, including those of knobs, and where it is configured."""
    yield from ((f"buttons.{n}", button) for n, button in enumerate(options.buttons))
    for n, encoder in enumerate(options.encoders):
        if encoder.button is not None:
            yield f"encoders.{n}.button", encoder.button


def claims(options: Options) -> Iterator[tuple[str, str]]:
    """Every pin, and where it is configured."""
    for at, button in all_buttons(options):
        yield resource(button.pin), f"{at}.pin"
    for n, encoder in enumerate(options.encoders):
        yield resource(encoder.a), f"encoders.{n}.a"
        yield resource(encoder.b), f"encoders.{n}.b"
    for n, selector in enumerate(options.selectors):
        yield from ((resource(pin), f"selectors.{n}.pins.{m}") for m, pin in enumerate(selector.pins))
    for name in ("outputs", "dimmers", "pulses"):
        yield from ((resource(entry.pin), f"{name}.{n}.pin") for n, entry in enumerate(getattr(options, name)))


def fed_keys(options: Options) -> Iterator[str]:
    """The keys that follow pins. Those of knobs and toggles are left out: they change only when someone uses them."""
    for _, button in all_buttons(options):
        yield from ([button.key] if button.mode == "momentary" else []) + ([button.long_key] if button.long_key else [])
    yield from (selector.key for selector in options.selectors)
    for pulses in options.pulses:
        yield from (key for key in (pulses.key, pulses.total_key) if key)


def check(options: Options, db: Database) -> Iterator[tuple[str, str]]:
    """Describe what is wrong with the options, as (option, message)."""
    if not any(getattr(options, f.name) for f in structs.fields(Options) if f.name not in ("library", "simulated")):
        yield "", "no pin is configured: add buttons, encoders, selectors, outputs, dimmers or pulses"
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
            yield f"dimmers.{n}.key", f"{dimmer.key} has no range, so nothing defines dark and bright"
    for n, pulses in enumerate(options.pulses):
        yield from _pulses(db, f"pulses.{n}", pulses)


def _key(db: Database, at: str, key: str, *types: str) -> Iterator[tuple[str, str]]:
    if key not in db:
        yield at, f"the database has no item {key!r}{did_you_mean(key, db)}"
    elif types and db.item(key).type not in types:
        yield at, f"{key} is of type {db.item(key).type}, not {' or '.join(types)}"


def _encoder(db: Database, at: str, encoder: Encoder) -> Iterator[tuple[str, str]]:
    yield from _key(db, f"{at}.key", encoder.key, "float", "int")
    item = db.item(encoder.key) if encoder.key in db else None
    if item is not None and item.type == "int" and encoder.step != int(encoder.step):
        yield f"{at}.step", f"{encoder.key} is an int and takes whole numbers only"
    if item is not None and encoder.wrap and (item.min is None or item.max is None):
        yield f"{at}.wrap", f"{encoder.key} has no range within which to wrap"


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
            yield where, f"{value} is outside {item.key}'s range"


def _pulses(db: Database, at: str, pulses: Pulses) -> Iterator[tuple[str, str]]:
    for option, key, table in (("key", pulses.key, RATES), ("total_key", pulses.total_key, TOTALS)):
        if not key:
            continue
        yield from _key(db, f"{at}.{option}", key, "float", "int")
        if key not in db or (pulses.per == "second" and option == "key"):
            continue
        units = [units for per, units in table if per == pulses.per]
        if db.item(key).units not in units:
            expected = f"it must be in {' or '.join(units)}" if units else "there is no total"
            yield f"{at}.{option}", f"{key} is in {db.item(key).units or 'no units'}; per {pulses.per} {expected}"
    if pulses.total_key in db and db.item(pulses.total_key).type != "float":
        yield f"{at}.total_key", f"{pulses.total_key} is an int, but a total needs fractions"
