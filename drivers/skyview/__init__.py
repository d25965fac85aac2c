"""Dynon SkyView: attitude, air data, time, guidance, and its engine monitor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, field

from fixgw.drivers.dynon import StallAngle
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.drivers.skyview.protocol import HARNESS, INPUTS, KEYS, LETTERS, THERMOCOUPLES, Decoder
from fixgw.errors import did_you_mean

if TYPE_CHECKING:
    from fixgw.database import Database


class SkyviewOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a SkyView."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second, as set for the port in the SkyView"),
    ] = 115200
    thermocouples: Annotated[
        dict[Annotated[int, Meta(ge=1, le=THERMOCOUPLES)], str],
        Meta(
            description="Items for the thermocouples, by number: `{1: CHT16}`. Empty: as in Dynon's harness, with "
            "CHT11 on 11, EGT11 on 12, CHT12 on 9, EGT12 on 10, and so on"
        ),
    ] = field(default_factory=dict)
    inputs: Annotated[
        dict[Annotated[int, Meta(ge=1, le=INPUTS)], str],
        Meta(description="Items for the general purpose inputs, by number: `{12: H2OT1}`"),
    ] = field(default_factory=dict)
    return_flow: Annotated[
        bool,
        Meta(description="The second fuel flow sensor measures the return flow to the tank; FUELF1 is the difference"),
    ] = False
    stall_angle: StallAngle = None


class Plugin(Instrument[SkyviewOptions]):
    """One SkyView on one line."""

    KEYS = KEYS

    def protocol(self) -> Decoder:
        options = self.options
        return Decoder(
            self.clock,
            self.counts,
            stall_angle=options.stall_angle,
            thermocouples=options.thermocouples or HARNESS,
            inputs={number: (key, self.db.item(key).definition.units) for number, key in options.inputs.items()},
            return_flow=options.return_flow,
        )

    @classmethod
    def writes(cls, options: SkyviewOptions) -> Iterable[str]:
        return [*super().writes(options), *options.thermocouples.values(), *options.inputs.values()]

    @classmethod
    def check(cls, options: SkyviewOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        for option, items in ("thermocouples", options.thermocouples), ("inputs", options.inputs):
            for number, key in items.items():
                at = f"{option}.{number}"
                if key not in db:
                    yield at, f"the database has no item {key!r}{did_you_mean(key, db)}"
                elif option == "inputs" and (units := db.item(key).definition.units) not in LETTERS:
                    yield at, f"{key} is in {units or 'no unit'}, which no input of a SkyView uses"
