"""MegaSquirt engine computers by their CAN broadcast: rpm, manifold pressure, coolant, throttle, voltage, fuel, EGT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, field

from fixgw.drivers.links.can.instrument import CanInstrument
from fixgw.drivers.links.can.port import BusOptions
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
    """A further field of the broadcast: the value is the number as the document gives it, times `scale`, plus `add`."""

    key: Annotated[str, Meta(description="Item that it is written to")]
    scale: Annotated[float, Meta(description="Units of the key per unit of the field")] = 1.0
    add: Annotated[float, Meta(description="Added to it")] = 0.0


class MegasquirtOptions(BusOptions, frozen=True, kw_only=True):
    """Options of a MegaSquirt."""

    base: Annotated[
        int, Meta(ge=0, le=0x7FF - GROUPS + 1, description="Identifier of group 0, as set in the engine computer")
    ] = BASE
    probes: Annotated[int, Meta(ge=0, le=PROBES, description="EGT probes that are connected, from the first")] = 0
    fields: Annotated[
        dict[str, Extra],
        Meta(description="Further fields by the document's names, such as `sensors1`, and where they go"),
    ] = field(default_factory=dict)
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)


class Plugin(CanInstrument[MegasquirtOptions]):
    """One engine computer on one bus."""

    def protocol(self) -> Decoder:
        options = self.options
        unused = {f"egt{n}" for n in range(options.probes + 1, PROBES + 1)}
        targets = {name: target for name, target in TARGETS.items() if name not in unused}
        targets |= {name: Target(extra.key, extra.scale, extra.add) for name, extra in options.fields.items()}
        return Decoder(self.counts, targets, options.base)

    @classmethod
    def check(cls, options: MegasquirtOptions, db: Database) -> Iterable[Problem | tuple[str, str]]:
        yield from super().check(options, db)
        yield from check_keys(options.keys, KEYS, db)
        for name, extra in options.fields.items():
            if name not in FIELDS:
                yield f"fields.{name}", f"the broadcast has no field {name!r} of use here{did_you_mean(name, FIELDS)}"
            if extra.key not in db:
                yield f"fields.{name}.key", f"the database has no item {extra.key!r}{did_you_mean(extra.key, db)}"
