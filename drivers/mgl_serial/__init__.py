"""MGL Avionics TP-3: four inputs for pressure, temperature, current, fuel level or voltage, on a serial line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta

from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.drivers.mgl_serial.protocol import KEYS, Decoder
from fixgw.plugin import Device, Feeds, Finding


class MglOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a TP-3."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second, as set in the instrument"),
    ] = 57600
    keys: Annotated[
        dict[str, str | None],
        Meta(min_length=1, description="The keys that the inputs measure: `{input1: OILP1, input2: OILT1}`"),
    ]
    address: Annotated[
        Annotated[int, Meta(ge=0, le=255)] | None,
        Meta(description="Address of the instrument, if several share a line"),
    ] = None
    level: Annotated[
        float, Meta(gt=0.0, description="Gallons per unit of the fuel level that the instrument sends")
    ] = 1.0


class Plugin(Instrument[MglOptions]):
    """One instrument on one line."""

    KEYS = KEYS

    @classmethod
    def preflight(cls, options: MglOptions) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        yield Feeds(tuple(key for key in options.keys.values() if key is not None))

    def protocol(self) -> Decoder:
        options, db = self.options, self.db
        units = {name: db.item(key).units for name, key in options.keys.items() if key is not None and key in db}
        return Decoder(self.counts, units=units, address=options.address, level=options.level)
