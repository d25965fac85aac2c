"""Grand Rapids EIS engine monitors, models 2004, 4000 and 6000: engine, fuel, temperatures; air data on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from fixgw.drivers.eis.protocol import KEYS, MAX_CYLINDERS, Decoder, Speed, Unit, beyond
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.errors import did_you_mean
from fixgw.kit.curve import Curve, CurveSpec, Linear, raw_readings

if TYPE_CHECKING:
    from fixgw.database import Database

AS_SENT = CurveSpec(linear=Linear(factor=1.0))


class Aux(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is connected to an auxiliary input."""

    key: Annotated[str, Meta(description="Item to write")]
    curve: Annotated[
        CurveSpec | None,
        Meta(description="Converts the number that the EIS sends to the value; default: the number is the value"),
    ] = None

    def build(self) -> Curve:
        return Curve(self.curve or AS_SENT)


class EisOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for an EIS."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second; every EIS uses 9600"),
    ] = 9600
    cylinders: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_CYLINDERS,
            description="Number of cylinders with CHT and EGT probes; the other fields are ignored",
        ),
    ] = MAX_CYLINDERS
    temperature: Annotated[Unit, Meta(description="Unit in which the EIS shows and sends temperatures")] = "F"
    air_data: Annotated[
        bool | Literal["auto"],
        Meta(
            description="Whether the EIS has an airspeed indicator and altimeter, for IAS, ALT, VS, BARO. Without them "
            "it sends 0: `auto` writes IAS once it is above 0 in three frames in a row, and ALT, VS, BARO once the "
            "altitude is"
        ),
    ] = "auto"
    airspeed: Annotated[Speed, Meta(description="Unit in which the EIS shows and sends airspeed")] = "knots"
    tach2: Annotated[
        str | None,
        Meta(
            description="Item for the second tachometer, such as `PROP1`; older models send something else in its place"
        ),
    ] = None
    aux: Annotated[
        dict[Annotated[int, Meta(ge=1, le=6)], Aux],
        Meta(description="What is connected to the auxiliary inputs, by number (a 2004 has two, the others six)"),
    ] = field(default_factory=dict)


class Plugin(Instrument[EisOptions]):
    """One EIS on one line."""

    KEYS = KEYS

    _protocol: Decoder

    def __post_init__(self) -> None:
        self._curves = {number: aux.build() for number, aux in self.options.aux.items()}
        super().__post_init__()

    def protocol(self) -> Decoder:
        options = self.options
        return Decoder(
            self.counts,
            cylinders=options.cylinders,
            aux={number: (aux.key, self._curves[number]) for number, aux in options.aux.items()},
            air_data=None if options.air_data == "auto" else options.air_data,
            tach2=options.tach2,
            temperature=options.temperature,
            airspeed=options.airspeed,
        )

    def idle(self) -> None:
        if self.take(self._protocol.pause):
            self.valid_at = self.clock()

    @classmethod
    def writes(cls, options: EisOptions) -> Iterable[str]:
        absent = {options.keys.get(key, key) for key in beyond(options.cylinders)}
        more = [options.tach2] if options.tach2 else []
        return [*(set(super().writes(options)) - absent), *more, *(aux.key for aux in options.aux.values())]

    @classmethod
    def check(cls, options: EisOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        if options.tach2 in KEYS:
            yield "tach2", f"the EIS already sends {options.tach2} in a separate field"
        elif options.tach2 is not None and options.tach2 not in db:
            yield "tach2", f"the database has no item {options.tach2!r}{did_you_mean(options.tach2, db)}"
        for number, aux in options.aux.items():
            at = f"aux.{number}"
            if aux.key in KEYS:
                yield f"{at}.key", f"the EIS already sends {aux.key} in a separate field"
            elif aux.key not in db:
                yield f"{at}.key", f"the database has no item {aux.key!r}{did_you_mean(aux.key, db)}"
            elif aux.curve is not None:
                for problem in aux.curve.check_units(db.item(aux.key).definition.units):
                    yield f"{at}.curve", problem

    def get_status(self) -> Mapping[str, Any]:
        model = self._protocol.model
        status = {**super().get_status(), "model": model.name if model else "not known yet"}
        if self._curves and self.connected:
            keys = {self.options.aux[number].key: curve for number, curve in self._curves.items()}
            status["readings"] = raw_readings(keys, "")
        return status
