"""Tyre pressures and other radio sensors that rtl_433 receives with an RTL-SDR dongle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fixgw.database import Database
from fixgw.drivers.links.child import ChildOptions, ChildPoller
from fixgw.drivers.rtl_433.protocol import Decoder, Field, Sensor
from fixgw.errors import did_you_mean
from fixgw.kit.anonymous import PRIVATE, Shift
from fixgw.kit.majority import Majority
from fixgw.kit.publish import Publisher
from fixgw.kit.raw import Heard
from fixgw.kit.sources import SIMULATED, derived_source
from fixgw.kit.units import conversion
from fixgw.plugin import Device, Feeds, Finding

#: The units of fields, by the end of their names.
UNITS = {"kPa": "kPa", "PSI": "psi", "bar": "bar", "hPa": "hPa", "C": "degC", "F": "degF"}
SIMULATE_EVERY_S = 2.0
#: What simulated sensors send, by the beginning of the field.
SIMULATED_FIELDS = {"pressure_kPa": 220.0, "pressure_PSI": 32.0, "temperature_C": 25.0, "temperature_F": 77.0}


class MappingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Annotated[
        str, Meta(min_length=1, description="Field of rtl_433, such as `pressure_kPa`, `temperature_C`, `battery_ok`")
    ]
    scale: Annotated[float, Meta(description="Factor that converts the field to the key's units")] = 1.0
    offset: Annotated[float, Meta(description="Offset added after `scale`")] = 0.0
    round: Annotated[
        Annotated[int, Meta(ge=0, le=4)] | None, Meta(description="Digits after the point to round to")
    ] = None
    threshold: Annotated[
        float | None, Meta(description="Makes the value 1 if the field is greater, otherwise 0; replaces all others")
    ] = None
    type: Annotated[
        Literal["float", "int", "bool", "string", "str"], Meta(description="What the value becomes; `int` cuts")
    ] = "float"


class SensorOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sensor_id: Annotated[
        int | str,
        Meta(description="Its id as rtl_433 prints it; put quotes around one of hexadecimal digits"),
    ]
    decoder: Annotated[int, Meta(ge=1, description="Number of rtl_433's decoder (`rtl_433 -R help` lists them)")]
    mappings: Annotated[dict[str, MappingOptions], Meta(description="The keys, and where each finds its value")] = (
        msgspec.field(default_factory=dict)
    )


class RtlOptions(ChildOptions, frozen=True, kw_only=True):
    """Options for rtl_433."""

    program: Annotated[str, Meta(min_length=1, description="Name or path of rtl_433")] = "rtl_433"
    frequency: Annotated[
        Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^\d+(\.\d+)?[kMG]?$")],
        Meta(description="Hz, or `433.92M`; American sensors often send on 315 MHz"),
    ] = 433_920_000
    rtl_device: Annotated[int | str, Meta(description="Number of the dongle, or `:SERIAL` if there are several")] = 0
    simulate: Annotated[
        bool, Meta(description="Run without a dongle: plausible values with a simulated source, for benches")
    ] = False
    sensors: Annotated[list[SensorOptions], Meta(description="The sensors to use")] = msgspec.field(
        default_factory=list
    )


class Plugin(ChildPoller[RtlOptions]):
    """One dongle and its rtl_433."""

    PACKAGE = "rtl-433"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publisher = Publisher(self, self.counts, self.complain)
        self._protocol = self.protocol()
        self._majority = Majority()
        self._simulate_at = float("-inf")

    def protocol(self) -> Decoder:
        """Create a decoder that counts in `counts`."""
        sensors = [
            Sensor(str(s.sensor_id), s.decoder, [self._field(key, m) for key, m in s.mappings.items()])
            for s in self.options.sensors
        ]
        return Decoder(self.clock, sensors, self.counts)

    def _field(self, key: str, options: MappingOptions) -> Field:
        item = self.db.item(key) if key in self.db else None
        return Field(
            key,
            options.source,
            options.scale,
            options.offset,
            options.round,
            options.threshold,
            options.type,
            "float" if item is None else item.type,
            "" if item is None else _mismatch(options, item.units),
        )

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: RtlOptions, db: Database) -> Iterable[tuple[str, str]]:
        for number, sensor in enumerate(options.sensors):
            for key in sensor.mappings:
                if key not in db:
                    yield f"sensors.{number}.mappings.{key}", f"no item {key!r}{did_you_mean(key, db)}"

    @classmethod
    def advise(cls, options: RtlOptions, db: Database) -> Iterable[tuple[str, str]]:
        if not options.sensors:
            yield "", "no sensors: the status lists those that are heard"
        known: set[tuple[str, int]] = set()
        for number, sensor in enumerate(options.sensors):
            at = f"sensors.{number}"
            who = (str(sensor.sensor_id).lower(), sensor.decoder)
            if who in known:
                yield at, "the same sensor is above already, and only the first counts"
            known.add(who)
            for key, mapping in sensor.mappings.items():
                if key in db and (wrong := _mismatch(mapping, db.item(key).units)):
                    yield f"{at}.mappings.{key}", f"{wrong}: the value will be bad"

    @classmethod
    def writes(cls, options: RtlOptions) -> Iterable[str]:
        return dict.fromkeys(key for sensor in options.sensors for key in sensor.mappings)

    @classmethod
    def preflight(cls, options: RtlOptions) -> Iterable[Device | Feeds | Finding]:
        return () if options.simulate else super().preflight(options)

    @classmethod
    def anonymise(cls, options: RtlOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return None if PRIVATE & {*cls.writes(options)} else entries

    def arguments(self) -> Sequence[str]:
        options = self.options
        decoders = dict.fromkeys(sensor.decoder for sensor in options.sensors)
        return [
            *("-c", "/dev/null"),  # no file of options, which could change the output
            *("-d", str(options.rtl_device), "-f", str(options.frequency), "-F", "json", "-M", "protocol"),
            *(word for decoder in decoders for word in ("-R", str(decoder))),
        ]

    def open(self) -> None:
        self._protocol.reopen()
        self._majority = Majority()
        if not self.options.simulate:
            super().open()

    def poll(self, timeout: float) -> None:
        if not self.options.simulate:
            super().poll(timeout)
            return
        self.stopping.wait(timeout)
        if self.clock() >= self._simulate_at:
            self._simulate_at = self.clock() + SIMULATE_EVERY_S
            self.received(b"".join(_simulated(sensor) for sensor in self.options.sensors), fresh=True)

    def received(self, data: bytes, fresh: bool) -> None:
        before, received = self._count_refused(), self.counts["received"]
        updates = self._protocol.feed(data)
        refused = self._count_refused()
        self._majority.count(self.counts["received"] - received - (refused - before), refused - before)
        if fresh:
            self.publisher.publish(updates, derived_source(SIMULATED[: self.options.simulate], self.source))
        if refused > before:
            self.complain("refused %d lines so far; the last: %s", refused, self._protocol.refused)

    def _count_refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)

    def health(self) -> str:
        return super().health() or ("what it prints is not JSON" if self._majority.foreign else "")

    def lost(self, reason: str) -> None:
        self.publisher.fail(reason)

    def get_status(self) -> Mapping[str, Any]:
        protocol, now = self._protocol, self.clock()
        idents = [str(sensor.sensor_id) for sensor in self.options.sensors]
        heard = {ident: protocol.heard.get(ident) for ident in idents}
        return {
            **super().get_status(),
            "heard": {ident: "not yet" if at is None else f"{now - at:.0f} s ago" for ident, at in heard.items()},
            "missing fields": dict(protocol.missing),
            "other sensors": dict(protocol.seen),
        }


def _mismatch(options: MappingOptions, unit: str) -> str:
    """Why the field, taken as it is, cannot be a value in `unit`; empty if it can."""
    sent = UNITS.get(options.source.rpartition("_")[2], "")
    if not sent or not unit or options.threshold is not None or (options.scale, options.offset) != (1.0, 0.0):
        return ""
    numbers = conversion(sent, unit)
    if numbers == (1.0, 0.0):
        return ""
    how = "" if numbers is None else f": set `scale: {numbers[0]:.7g}`"
    return f"{options.source} is in {sent}, the key in {unit}{how}" + (
        f" and `offset: {numbers[1]:.7g}`" if numbers is not None and numbers[1] else ""
    )


def _simulated(sensor: SensorOptions) -> bytes:
    """A line of a sensor that is not there."""
    fields = {m.source: SIMULATED_FIELDS.get(m.source, 1.0) for m in sensor.mappings.values()}
    return json.dumps({"protocol": sensor.decoder, "id": sensor.sensor_id, **fields}).encode() + b"\n"
