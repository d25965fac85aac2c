"""Shared by drivers of analog-to-digital converters: a channel has a key, a curve and a filter."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from fixgw.database import FAIL
from fixgw.errors import did_you_mean
from fixgw.kit import curve
from fixgw.kit.curve import CurveSpec
from fixgw.kit.update import Update

if TYPE_CHECKING:
    from fixgw.database import Database


class Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, description="Key that this channel writes")]
    curve: Annotated[CurveSpec, Meta(description="Converts the reading in volts to the value")]
    median: Annotated[
        int, Meta(ge=1, le=31, description="Number of readings in a median filter, which removes spikes; 1: no filter")
    ] = 3
    smooth: Annotated[
        float,
        Meta(ge=0.0, le=60.0, description="Time constant in seconds of a low-pass filter on the value; 0: no filter"),
    ] = 0.0


class Input:
    """One channel at run time. Used by one thread."""

    def __init__(self, channel: Channel, full_scale: float) -> None:
        self.channel = channel
        self.curve = channel.curve.curve(full_scale)
        self._recent: deque[float] = deque(maxlen=channel.median)
        self._value: float | None = None
        self._when = 0.0

    def begin(self) -> None:
        """Forget earlier readings: the converter may have been replaced."""
        self.curve.reading = None
        self._recent.clear()
        self._value = None

    def update(self, reading: float, now: float) -> Update:
        """Convert `reading` to an update of the key; `now` is in monotonic seconds. Never raises.

        An open or shorted sensor is detected before the low-pass filter, which would otherwise let the value drift
        through plausible numbers on its way to the limit.
        """
        self._recent.append(reading)
        middle = median(self._recent)
        value = self.curve(middle)
        if value is None:
            self._value = None
            return Update(self.channel.key, None, FAIL, f"open, shorted or off its curve: the reading is {middle:.4g}")
        if self._value is not None and self.channel.smooth:
            share = 1.0 - math.exp(-max(now - self._when, 0.0) / self.channel.smooth)
            value = self._value + (value - self._value) * share
        self._value, self._when = value, now
        return Update(self.channel.key, value)


def raw_readings(inputs: Iterable[Input]) -> dict[str, dict[str, Any]]:
    """The readings in volts by key, for the status."""
    return curve.raw_readings({each.channel.key: each.curve for each in inputs}, "V")


def check_channels(channels: Sequence[Any], db: Database, option: str = "channels") -> Iterable[tuple[str, str]]:
    """Describe what is wrong with `channels`, for `PluginBase.check`."""
    seen: set[str] = set()
    for i, channel in enumerate(channels):
        if channel.key not in db:
            yield f"{option}.{i}.key", f"the database has no item {channel.key!r}{did_you_mean(channel.key, db)}"
            continue
        if channel.key in seen:
            yield f"{option}.{i}.key", f"{channel.key} is written by two channels"
        seen.add(channel.key)
        item = db.item(channel.key)
        if item.type != "float":
            yield f"{option}.{i}.key", f"{channel.key} is not of type float"
        for problem in channel.curve.check_units(item.units):
            yield f"{option}.{i}.curve", problem
