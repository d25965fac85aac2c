"""The base of serial instruments: a `Protocol` turns bytes into updates, an `Instrument` writes them.

A driver then consists of its protocol and a class that names it:

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
    description="Write to other items: `{TACH1: TACH2}` for a second engine, `{OAT: null}` to leave an item out "
    "because something else measures it better"
)


class InstrumentOptions(SerialOptions, frozen=True, kw_only=True):
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)


class Protocol(typing.Protocol):
    """Decodes what an instrument sends, without I/O: bytes in, cut anywhere; updates out. Never raises on input.

    `counts` has the number of frames ``received``. Each of them is ``used``, ``ignored`` (of no interest) or refused
    for one of the `REFUSALS`; these add up to ``received``. ``absurd values`` counts single fields that cannot be true.
    """

    REFUSALS: ClassVar[Sequence[str]]
    counts: dict[str, int]

    @property
    def refused(self) -> str:
        """The frame that was refused last, and why, for people to read."""

    @property
    def trouble(self) -> str:
        """What is wrong with the instrument although it sends data; empty if nothing is."""

    def feed(self, data: bytes) -> list[Update]:
        """Decode the frames that `data` completes into updates, in order."""


OptionsT = TypeVar("OptionsT", bound=SerialOptions, default=InstrumentOptions)


class Instrument(SerialPoller[OptionsT]):
    """One instrument on one line. Its values are written as they arrive, and fail when the line is lost."""

    #: The keys that the driver may write.
    KEYS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publisher = Publisher(self, self.counts, self.complain, getattr(self.options, "keys", None))
        self._protocol = self.protocol()

    def protocol(self) -> Protocol:
        """Create a protocol that counts in `counts`. Called at every opening, as the device may be another one."""
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
        before, refused = counts["received"], self._count_refused()
        self.publisher.publish(protocol.feed(data))
        refused_now = self._count_refused() - refused
        if refused_now:
            self.complain("refused %d frames so far; the last: %s", self._count_refused(), protocol.refused)
        return counts["received"] - before > refused_now

    def lost(self, reason: str) -> None:
        self.publisher.fail(reason)

    def health(self) -> str:
        return super().health() or self._protocol.trouble

    def _count_refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)


def begin_counting(counts: dict[str, int] | None, *names: str) -> dict[str, int]:
    """Add a counter at zero for each of the `names`, in order, to `counts` or to a new dict. Returns the dict."""
    counts = {} if counts is None else counts
    for name in names:
        counts.setdefault(name, 0)
    return counts
