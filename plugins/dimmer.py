"""The brightness of a screen follows DIM.

connections:
  dimmer: {module: fixgw.plugins.dimmer, DimmerDevice: /sys/class/backlight/a/brightness, Multiplier: 2.55}
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from fixgw import plugin
from fixgw.backoff import Backoff
from fixgw.database import Reading
from fixgw.plugin import Device, Follower

KEY = "DIM"
#: What helps if a file may not be written.
HINTS = {
    errno.EACCES: ": a udev rule may give it to the group 'video' (docs/plugins/dimmer.md)",
    errno.EROFS: ": the service may not write there unless its unit says so (docs/plugins/dimmer.md)",
}


class Options(plugin.Options, frozen=True):
    """Options of the `dimmer` plugin."""

    DimmerDevice: Annotated[
        str, Meta(min_length=1, description="File to write the brightness to, below /sys/class/backlight")
    ]
    Multiplier: Annotated[float, Meta(ge=0, description="Brightness for each percent of DIM")] = 1.0


class Plugin(Follower[Options]):
    """Writes round(DIM x Multiplier) and a newline at each change; at most what `max_brightness` beside it says."""

    FOLLOWS = (KEY,)
    tick_interval: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wanted: int | None = None
        self._written: int | None = None  # the wanted brightness that was written last,
        self._brightness: int | None = None  # what was written for it,
        self._file: tuple[int, int] | None = None  # and into which file
        self._backoff = Backoff(0.5, 10.0)
        self._retry_at = float("-inf")

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device]:
        yield Device(options.DimmerDevice, "video")

    def changed(self, readings: dict[str, Reading]) -> None:
        reading = readings[KEY]
        if reading.good:
            wanted = float(reading.value) * self.options.Multiplier
            self._wanted = max(1, round(wanted)) if wanted > 0 else 0  # dark only if DIM is 0
            self._apply()

    def tick(self, now: float) -> None:
        self._apply()

    def _apply(self) -> None:
        """Write the brightness, unless that is done or failed a moment ago."""
        if self._wanted is None or self.clock() < self._retry_at:
            return
        path = self.options.DimmerDevice
        if self._wanted == self._written and self._file == _identify(path):
            return  # otherwise the device was away, and may have come back with a brightness of its own
        brightness = min(max(self._wanted, 0), self._find_limit())
        try:
            # Never creates the file, and does not wait for the reader of a pipe.
            number = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)
            try:
                os.write(number, f"{brightness}\n".encode())
            finally:
                os.close(number)
        except OSError as error:
            self._written = None
            self._trouble = f"{path}: {error.strerror or error}{HINTS.get(error.errno or 0, '')}"
            self._retry_at = self.clock() + self._backoff.next()
            self.count("failed writes")
            self.complain("%s", self._trouble)
            return
        self._written, self._brightness, self._file, self._trouble = self._wanted, brightness, _identify(path), ""
        self._backoff.reset()
        self._retry_at = float("-inf")
        self.count("writes")

    def _find_limit(self) -> int:
        try:
            with open(os.path.join(os.path.dirname(self.options.DimmerDevice), "max_brightness"), "rb") as file:
                return int(file.read(20))
        except (OSError, ValueError):
            return 2**31

    def get_status(self) -> Mapping[str, Any]:
        return {"brightness": self._brightness, **super().get_status()}


def _identify(path: str) -> tuple[int, int] | None:
    """What distinguishes the file from a later one at `path`; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
