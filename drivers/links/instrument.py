"""What all serial instruments have in common: a `Protocol` makes updates of bytes, and an `Instrument` writes them.

A driver is then its protocol, and a class that says which:

    class Plugin(Instrument[EisOptions]):
        KEYS = protocol.KEYS

        def protocol(self) -> Protocol:
            return protocol.Decoder(self.counts)
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, field

from fixgw.drivers.links.serial import SerialOptions, SerialPoller
from fixgw.kit.publish import Publisher, check_keys
from fixgw.kit.update import Update
from fixgw.plugin import TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database

Keys = dict[str, str | None]

KEYS_OPTION = Meta(
    description="Other items for what the driver writes: `{TACH1: TACH2}` for a second engine, `{OAT: null}` to leave "
    "one out because something else measures it better"
)


class InstrumentOptions(SerialOptions, frozen=True, kw_only=True):
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)


class Protocol(typing.Protocol):
    """What an instrument says, without I/O: bytes in, cut anywhere; updates out. Never raises on input.

    `counts` has ``received`` frames, which are ``used``, ``ignored`` (of no interest), or refused, each for one of the
    `REFUSALS`: the first is the sum of the others. ``absurd values`` counts single fields that cannot be true.
    """

    REFUSALS: ClassVar[Sequence[str]]
    counts: dict[str, int]

    @property
    def refused(self) -> str:
        """The last refused frame and why, for people."""

    @property
    def trouble(self) -> str:
        """What is wrong with the instrument though it talks; empty when nothing is."""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""


OptionsT = TypeVar("OptionsT", bound=SerialOptions, default=InstrumentOptions)


class Instrument(SerialPoller[OptionsT]):
    """One instrument on one line: what it says is written as it comes, and fails when the line is lost."""

    #: The keys that the driver may write.
    KEYS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publisher = Publisher(self, self.counts, self.complain, getattr(self.options, "keys", None))
        self._protocol = self.protocol()

    def protocol(self) -> Protocol:
        """A new protocol that counts in `counts`, for every opening: the device may be another one."""
        raise NotImplementedError

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from check_keys(getattr(options, "keys", {}), cls.KEYS, db)

    def open(self) -> None:
        self._protocol = self.protocol()
        super().open()

    def received(self, data: bytes) -> bool:
        counts, protocol = self.counts, self._protocol
        before, refused = counts["received"], self._refused()
        self.publisher.publish(protocol.feed(data))
        refused_now = self._refused() - refused
        if refused_now:
            self.complain("%d frames refused; the last: %s", self._refused(), protocol.refused)
        return counts["received"] - before > refused_now

    def lost(self, reason: str) -> None:
        self.publisher.fail(reason)

    def health(self) -> str:
        return super().health() or self._protocol.trouble

    def _refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)


def begin_counting(counts: dict[str, int] | None, *names: str) -> dict[str, int]:
    """`counts` itself, or a new one, with an entry for each of the `names`: a protocol's counters, in their order."""
    counts = {} if counts is None else counts
    for name in names:
        counts.setdefault(name, 0)
    return counts
