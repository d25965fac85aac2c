"""What instruments on a CAN bus have in common: a `Protocol` makes updates of frames, a `CanInstrument` writes them.

class Plugin(CanInstrument[RdacOptions]):
    def protocol(self) -> Protocol:
        return protocol.Decoder(self.counts)
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from fixgw.drivers.links.can.bus import CanPlugin
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.kit.publish import Publisher
from fixgw.kit.update import Update
from fixgw.plugin import TypeVar


class Protocol(typing.Protocol):
    """What an instrument says, without I/O: frames in, updates out. Never raises on input.

    `counts` has ``received`` frames, which are ``used``, ``ignored`` (of no interest), or refused, each for one of the
    `REFUSALS`: the first is the sum of the others. ``absurd values`` counts single values that cannot be true.
    """

    REFUSALS: ClassVar[Sequence[str]]
    counts: dict[str, int]

    @property
    def ids(self) -> frozenset[int]:
        """The identifiers that it wants to hear."""

    @property
    def refused(self) -> str:
        """The last refused frame and why, for people."""

    @property
    def trouble(self) -> str:
        """What is wrong with the instrument though it talks; empty when nothing is."""

    def feed(self, frames: Iterable[Frame]) -> list[Update]:
        """The updates of the `frames`, in order; those of other identifiers are not for us, and not counted."""


OptionsT = TypeVar("OptionsT", bound=BusOptions, default=BusOptions)


class CanInstrument(CanPlugin[OptionsT]):
    """One instrument on a bus: what it says is written as it comes, ages when it is silent, fails with the bus."""

    #: Seconds without a frame of the instrument's after which `health` says so.
    patience_s: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publisher = Publisher(self, self.counts, self.complain, getattr(self.options, "keys", None))
        self._protocol = self.protocol()
        #: Monotonic seconds of the last frame of the instrument's that made sense.
        self.heard = float("-inf")

    def protocol(self) -> Protocol:
        """A new protocol that counts in `counts`, at the start and whenever the bus is gone."""
        raise NotImplementedError

    def run(self) -> None:
        self.tap(self.options, self.received, self._protocol.ids)

    def received(self, frames: Sequence[Frame]) -> None:
        counts, protocol = self.counts, self._protocol
        before, refused = counts["received"], self._refused()
        self.publisher.publish(protocol.feed(frames))
        refused_now = self._refused() - refused
        if counts["received"] - before > refused_now:
            self.heard = self.clock()
        if refused_now:
            self.complain("%d frames refused; the last: %s", self._refused(), protocol.refused)

    def lost(self, reason: str) -> None:
        self._protocol = self.protocol()
        self.heard = float("-inf")
        self.publisher.fail(reason)

    @property
    def connected(self) -> bool:
        return all(tap.bus.connected for tap in self.taps)

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        if self.clock() - self.heard > self.patience_s:
            return "no data"
        return self._protocol.trouble

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "frames": dict(self.counts)}

    def _refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)
