"""MegaSquirt engine computers by their CAN broadcast: rpm, manifold pressure, coolant, throttle, voltage, fuel, EGT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, field

from fixgw.drivers.links.can.instrument import CanInstrument, CanInstrumentOptions
from fixgw.drivers.links.instrument import KEYS_OPTION, Keys
from fixgw.drivers.megasquirt.protocol import (
    BASE,
    FIELDS,
    GROUPS,
    KEYS,
    PROBES,
    TARGETS,
    Decoder,
    Target,
)
from fixgw.errors import Problem, did_you_mean
from fixgw.kit.publish import check_keys

if TYPE_CHECKING:
    from fixgw.database import Database


class Extra(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another field of the broadcast: the value is the number in the document's units, times `scale`, plus `add`."""

    key: Annotated[str, Meta(description="Item to write")]
    scale: Annotated[float, Meta(description="Factor that converts the field to the item's units")] = 1.0
    add: Annotated[float, Meta(description="Offset added after `scale`")] = 0.0


class MegasquirtOptions(CanInstrumentOptions, frozen=True, kw_only=True):
    """Options for a MegaSquirt."""

    base: Annotated[
        int, Meta(ge=0, le=0x7FF - GROUPS + 1, description="CAN identifier of group 0, as set in the engine computer")
    ] = BASE
    probes: Annotated[
        int, Meta(ge=0, le=PROBES, description="Number of connected EGT probes, counted from the first")
    ] = 0
    fields: Annotated[
        dict[str, Extra],
        Meta(description="Other fields by their names in the document, such as `sensors1`, and the items for them"),
    ] = field(default_factory=dict)
    items: Annotated[
        dict[str, str],
        Meta(
            description="Only these fields, by their names in the document, each with its item: `{rpm: TACH1, clt: "
            "H2OT1}`; empty: all that have an item by default"
        ),
    ] = field(default_factory=dict)
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)


class Plugin(CanInstrument[MegasquirtOptions]):
    """One engine computer on one bus."""

    def protocol(self) -> Decoder:
        options = self.options
        unused = {f"egt{n}" for n in range(options.probes + 1, PROBES + 1)}
        targets = {name: target for name, target in TARGETS.items() if name not in unused}
        if options.items:
            targets = {name: TARGETS.get(name, Target(""))._replace(key=key) for name, key in options.items.items()}
        targets |= {name: Target(extra.key, extra.scale, extra.add) for name, extra in options.fields.items()}
        return Decoder(self.counts, targets, options.base)

    @classmethod
    def writes(cls, options: MegasquirtOptions) -> Iterable[str]:
        targets = [*KEYS, *(extra.key for extra in options.fields.values())]
        return [name for key in targets if (name := options.keys.get(key, key)) is not None]

    @classmethod
    def check(cls, options: MegasquirtOptions, db: Database) -> Iterable[Problem | tuple[str, str]]:
        yield from super().check(options, db)
        yield from check_keys(options.keys, KEYS, db)
        for name, key in options.items.items():
            if name not in FIELDS:
                yield f"items.{name}", f"the broadcast has no usable field {name!r}{did_you_mean(name, FIELDS)}"
            if key not in db:
                yield f"items.{name}", f"the database has no item {key!r}{did_you_mean(key, db)}"
        for name, extra in options.fields.items():
            if name not in FIELDS:
                yield f"fields.{name}", f"the broadcast has no usable field {name!r}{did_you_mean(name, FIELDS)}"
            if extra.key not in db:
                yield f"fields.{name}.key", f"the database has no item {extra.key!r}{did_you_mean(extra.key, db)}"
