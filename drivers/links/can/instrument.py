"""The base of instruments on a CAN bus: a `Protocol` turns frames into updates, a `CanInstrument` writes them.

class Plugin(CanInstrument[RdacOptions]):
    def protocol(self) -> Protocol:
        return protocol.Decoder(self.counts)
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import field

from fixgw.drivers.links.can.bus import CanPlugin
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.instrument import ChangesWithin
from fixgw.errors import Problem
from fixgw.kit.anonymous import PRIVATE
from fixgw.kit.majority import FOREIGN, Majority
from fixgw.kit.publish import Publisher, check_changes
from fixgw.kit.update import Update
from fixgw.plugin import TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database
    from fixgw.kit.anonymous import Shift
    from fixgw.kit.raw import Heard


class Protocol(typing.Protocol):
    """Decodes what an instrument sends, without I/O: frames in, updates out. Never raises on input.

    `counts` has the number of frames ``received``. Each of them is ``used``, ``ignored`` (of no interest) or refused
    for one of the `REFUSALS`; these add up to ``received``. ``absurd values`` counts single values that cannot be true.
    """

    REFUSALS: ClassVar[Sequence[str]]
    counts: dict[str, int]

    @property
    def ids(self) -> frozenset[int]:
        """The identifiers that the protocol decodes."""

    @property
    def refused(self) -> str:
        """The frame that was refused last, and why, for people to read."""

    @property
    def trouble(self) -> str:
        """What is wrong with the instrument although it sends data; empty if nothing is."""

    def feed(self, frames: Iterable[Frame]) -> list[Update]:
        """Decode `frames` into updates, in order. Does not count frames with other identifiers."""


class CanInstrumentOptions(BusOptions, frozen=True, kw_only=True):
    changes_within: ChangesWithin = field(default_factory=dict)


OptionsT = TypeVar("OptionsT", bound=CanInstrumentOptions, default=CanInstrumentOptions)


class CanInstrument(CanPlugin[OptionsT]):
    """One instrument on a bus. Its values are written as they arrive, age when it is silent, and fail with the bus."""

    #: The keys that the driver may write, if they do not depend on its options.
    KEYS: ClassVar[frozenset[str]] = frozenset()
    #: `health` reports an instrument that has been silent for longer, in seconds.
    patience_s: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.publisher = Publisher(
            self, self.counts, self.complain, getattr(options, "keys", None), options.changes_within
        )
        self._protocol = self.protocol()
        self._majority = Majority()
        #: When the last valid frame of the instrument arrived, in monotonic seconds.
        self.heard_at = float("-inf")

    def protocol(self) -> Protocol:
        """Create a protocol that counts in `counts`. Called at the start and whenever the bus is lost."""
        raise NotImplementedError

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[Problem | tuple[str, str]]:
        yield from super().check(options, db)
        yield from check_changes(options.changes_within, cls.writes(options))

    @classmethod
    def writes(cls, options: OptionsT) -> Iterable[str]:
        return cls.KEYS

    @classmethod
    def anonymise(cls, options: OptionsT, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        """Only what the instrument sends."""
        if not alone or PRIVATE & {*cls.writes(options)}:
            return None
        ids = cls("", msgspec.to_builtins(options))._protocol.ids
        return [
            entry._replace(data=[frame for frame in entry.data if frame.arbitration_id in ids])
            if isinstance(entry.data, list)
            else entry
            for entry in entries
        ]

    def run(self) -> None:
        self.tap(self.options, self.received, self._protocol.ids)

    def received(self, frames: Sequence[Frame]) -> None:
        counts, protocol = self.counts, self._protocol
        before, refused = counts["received"], self._count_refused()
        updates = [*protocol.feed(frames)]  # other people's may yield them
        refused_now = self._count_refused() - refused
        taken = counts["received"] - before - refused_now
        trusted = self._majority.trusted
        if self._majority.count(taken, refused_now):
            self.publisher.publish(updates)
        elif trusted:
            self.publisher.fail(FOREIGN)
        if taken:
            self.heard_at = self.clock()
        if refused_now:
            self.complain("refused %d frames so far; the last: %s", self._count_refused(), protocol.refused)

    def lost(self, reason: str) -> None:
        self._protocol = self.protocol()
        self._majority = Majority()
        self.heard_at = float("-inf")
        self.publisher.fail(reason)

    @property
    def connected(self) -> bool:
        return all(tap.bus.connected for tap in self.taps)

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        if self.clock() - self.heard_at > self.patience_s:
            return "no data"
        if self._majority.foreign:
            return FOREIGN
        return self._protocol.trouble or self.publisher.trouble

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "frames": dict(self.counts)}

    def _count_refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)
