"""MGL Avionics RDAC engine monitors on a CAN bus, and the gateway acting as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.instrument import CanInstrument, CanInstrumentOptions
from fixgw.drivers.mgl_rdac.protocol import CHANNELS, FULL_SCALE, Decoder, Encoder, Target
from fixgw.errors import Problem, did_you_mean
from fixgw.kit.curve import Curve, CurveSpec, raw_readings
from fixgw.kit.sources import may_leave
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database, Reading

RIVAL_MEMORY_S = 5.0  # another sender of our messages is reported for this long


class Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is connected to a channel of the RDAC."""

    key: Annotated[str, Meta(description="Item that is written, or from which the value is sent")]
    curve: Annotated[
        CurveSpec | None,
        Meta(description="Converts the raw reading to the value; when sending, converts the value to the raw reading"),
    ] = None

    def calibration(self) -> Curve | None:
        return None if self.curve is None else self.curve.curve(FULL_SCALE)


def default_channels() -> dict[str, Channel]:
    return {
        "rpm_1": Channel(key="TACH1"),
        "voltage": Channel(key="VOLT"),
        "temperature": Channel(key="RAT"),
    }


class RdacOptions(CanInstrumentOptions, frozen=True, kw_only=True):
    """Options for an RDAC."""

    rdac: Annotated[int, Meta(ge=1, le=16, description="Number of the RDAC, as set on the unit")] = 1
    role: Annotated[
        Literal["listen", "send"],
        Meta(description="Listen to the RDAC, or act as one and send its messages to displays"),
    ] = "listen"
    channels: Annotated[
        dict[str, Channel],
        Meta(
            min_length=1,
            description="What is connected, by the name of the channel; default: the first tachometer, the voltage and "
            "the RDAC's own temperature",
        ),
    ] = field(default_factory=default_channels)
    interval: Annotated[float, Meta(ge=0.05, le=5.0, description="Seconds between messages when sending")] = 0.2
    simulated: Annotated[
        bool,
        Meta(
            description="Send simulated, replayed and overridden values as if they were real: for benches, never in "
            "flight. A bus whose own `source` is simulated carries them anyway"
        ),
    ] = False


class Plugin(CanInstrument[RdacOptions]):
    """One RDAC on one bus: listens to it, or acts as one."""

    def __post_init__(self) -> None:
        self._curves = {name: channel.calibration() for name, channel in self.options.channels.items()}
        super().__post_init__()
        self._rival = float("-inf")
        self._encoder = Encoder(self.options.rdac, self._curves)
        self._begun = False
        #: Channels without a good value; their messages are withheld.
        self._missing: list[str] = []
        if self.sending:
            self.counts = dict.fromkeys(("sent", "not sent", "rivals"), 0)

    @property
    def sending(self) -> bool:
        return self.options.role == "send"

    def protocol(self) -> Decoder:
        options = self.options
        return Decoder(
            options.rdac,
            {name: Target(channel.key, self._curves[name]) for name, channel in options.channels.items()},
            self.counts,
        )

    @classmethod
    def writes(cls, options: RdacOptions) -> Iterable[str]:
        return [channel.key for channel in options.channels.values()] if options.role == "listen" else []

    @classmethod
    def check(cls, options: RdacOptions, db: Database) -> Iterable[Problem | tuple[str, str]]:
        yield from super().check(options, db)
        keys: dict[str, str] = {}
        for name, channel in options.channels.items():
            at, known = f"channels.{name}", CHANNELS.get(name)
            if known is None:
                yield at, f"an RDAC has no channel {name!r}{did_you_mean(name, CHANNELS)}"
            elif known.raw and channel.curve is None:
                yield at, f"{name} is a raw reading and needs a `curve`"
            if channel.key not in db:
                yield f"{at}.key", f"the database has no item {channel.key!r}{did_you_mean(channel.key, db)}"
            elif channel.curve is not None and options.role == "listen":
                yield from (
                    (f"{at}.curve", problem) for problem in channel.curve.check_units(db.item(channel.key).units)
                )
            if options.role == "listen" and (other := keys.setdefault(channel.key, name)) != name:
                yield f"{at}.key", f"{other} already writes {channel.key}"

    @classmethod
    def preflight(cls, options: RdacOptions) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        if options.role == "listen":
            yield Feeds(tuple(channel.key for channel in options.channels.values()))

    def get_status(self) -> Mapping[str, Any]:
        channels = self.options.channels
        curves = {channels[name].key: curve for name, curve in self._curves.items() if curve is not None}
        if self.sending or not curves:
            return super().get_status()
        return {**super().get_status(), "readings": raw_readings(curves, "counts")}

    def run(self) -> None:
        if self.sending:
            self._items = {name: self.db.item(channel.key) for name, channel in self.options.channels.items()}
        super().run()
        if self.sending:
            super(CanInstrument, self).run()

    def received(self, frames: Sequence[Frame]) -> None:
        if not self.sending:
            super().received(frames)
            return
        self.counts["rivals"] += len(frames)
        self._rival = self.clock()
        self.complain("another RDAC %d is on the bus; its messages conflict with ours", self.options.rdac)

    def lost(self, reason: str) -> None:
        if not self.sending:
            super().lost(reason)

    def health(self) -> str:
        if not self.sending:
            return super().health()
        if trouble := super(CanInstrument, self).health():
            return trouble
        if self.clock() - self._rival < RIVAL_MEMORY_S:
            return f"another RDAC {self.options.rdac} is on the bus"
        return f"messages withheld, no good value for: {', '.join(self._missing)}" if self._missing else ""

    def work(self) -> None:
        """Send."""
        while not self.stopping.wait(self.options.interval):
            self.show_life()
            self._send()

    def turn(self) -> float:
        if self._begun:
            self._send()
        self._begun = True  # as `work` does, send first after an interval
        return self.clock() + self.options.interval

    def _send(self) -> None:
        may_send = partial(may_leave, own=self.source, simulated_too=self.options.simulated)
        messages, self._missing = self._encoder.encode(
            {name: _value(item.reading, may_send) for name, item in self._items.items()}
        )
        sent = sum(self.taps[0].send(identifier, data) for identifier, data in messages)
        self.counts["sent"] += sent
        self.counts["not sent"] += len(messages) - sent


def _value(reading: Reading, may_send: Callable[[str], bool]) -> float | None:
    """The value, if it may be sent."""
    if not reading.good or not isinstance(reading.value, int | float) or not may_send(reading.source):
        return None
    return float(reading.value)
