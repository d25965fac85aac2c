"""The base of serial instruments: a `Protocol` turns bytes into updates, an `Instrument` writes them.

A driver then consists of its protocol and a class that names it:

    class Plugin(Instrument[EisOptions]):
        KEYS = protocol.KEYS

        def protocol(self) -> Protocol:
            return protocol.Decoder(self.counts)
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, field

from fixgw.drivers.links.serial import LinkOptions, SerialOptions, SerialPoller
from fixgw.kit.anonymous import PRIVATE
from fixgw.kit.majority import FOREIGN, Majority
from fixgw.kit.publish import Publisher, check_changes, check_keys
from fixgw.kit.update import Update
from fixgw.kit.update import begin_counting as begin_counting  # where drivers look for it
from fixgw.plugin import TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database
    from fixgw.kit.anonymous import Shift
    from fixgw.kit.raw import Heard

Keys = dict[str, str | None]

KEYS_OPTION = Meta(
    description="Other items to write to: `{TACH1: TACH2}` for a second engine, `{OAT: null}` to leave an item out "
    "because another source is better"
)


ChangesWithin = Annotated[
    dict[str, Annotated[float, Meta(gt=0.0, le=3600.0)]],
    Meta(
        description="Items that always fluctuate a little, and seconds: `{OILP1: 30}` fails OILP1 if it stays exactly "
        "the same for longer, because the instrument then hangs although it still sends"
    ),
]


class InstrumentOptions(SerialOptions, frozen=True, kw_only=True):
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)


class Protocol(typing.Protocol):
    """Decodes the data of an instrument, without I/O: bytes in, cut anywhere; updates out. Never raises on input.

    `counts` has the number of frames ``received``. Each of them is ``used``, ``ignored`` (of no interest) or refused
    for one of the `REFUSALS`; these add up to ``received``. ``absurd values`` counts single fields that cannot be true.
    """

    REFUSALS: ClassVar[Sequence[str]]
    counts: dict[str, int]

    @property
    def refused(self) -> str:
        """The last refused frame, and the reason, for people to read."""

    @property
    def trouble(self) -> str:
        """What is wrong with the instrument although it sends data; empty if nothing is."""

    def feed(self, data: bytes) -> list[Update]:
        """Decode the frames that `data` completes into updates, in order."""

    # Optional, for protocols that know the time: `tick`, called a few times a second, returns the updates that are due
    # because data stopped; `interrupt` forgets an unfinished frame because bytes were lost (a protocol without it is
    # created anew). `SELF_EVIDENT` is True if no other kind of device can send such frames: then the first one is
    # trusted, whatever came before it.


OptionsT = TypeVar("OptionsT", bound=LinkOptions, default=InstrumentOptions)


class Instrument(SerialPoller[OptionsT]):
    """One instrument on one line. Its values are written as they arrive, and fail when the line is lost."""

    #: The keys that the driver may write.
    KEYS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.publisher = Publisher(
            self, self.counts, self.complain, getattr(options, "keys", None), getattr(options, "changes_within", None)
        )
        self._new_protocol()

    def _new_protocol(self) -> None:
        self._protocol = self.protocol()
        self._majority = Majority()
        self._tick: Callable[[], list[Update]] | None = getattr(self._protocol, "tick", None)

    def protocol(self) -> Protocol:
        """Create a protocol that counts in `counts`. Called at every opening, as the device may be another one."""
        raise NotImplementedError

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from check_keys(getattr(options, "keys", {}), cls.KEYS, db)
        yield from check_changes(getattr(options, "changes_within", {}), cls.writes(options))

    @classmethod
    def writes(cls, options: OptionsT) -> Iterable[str]:
        keys: Keys = getattr(options, "keys", {})
        return [name for key in cls.KEYS if (name := keys.get(key, key)) is not None]

    @classmethod
    def anonymise(cls, options: OptionsT, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return None if PRIVATE & {*cls.KEYS, *cls.writes(options)} else entries

    def open(self) -> None:
        self._new_protocol()
        super().open()

    def poll(self, timeout: float) -> None:
        super().poll(timeout)
        if self._tick is not None and (updates := self._tick()):
            self.publisher.publish(updates)

    def received(self, data: bytes) -> bool:
        return self.take(lambda: self._protocol.feed(data))

    def take(self, feed: Callable[[], list[Update]]) -> bool:
        """Publish the updates that the protocol returns, if its frames are the instrument's; whether any made sense."""
        counts = self.counts
        before, refused = counts["received"], self._count_refused()
        updates = [*feed()]  # other people's protocols may yield them
        refused_now = self._count_refused() - refused
        taken = counts["received"] - before - refused_now
        trusted = self._majority.trusted
        if self._majority.count(taken, refused_now) or getattr(self._protocol, "SELF_EVIDENT", False):
            self.publisher.publish(updates)
        elif trusted:
            self.publisher.fail(FOREIGN)
        if refused_now:
            self.complain("refused %d frames so far; the last: %s", self._count_refused(), self._protocol.refused)
        return taken > 0

    def flushed(self) -> None:
        """Bytes were discarded: an unfinished frame will not be completed."""
        interrupt: Callable[[], object] | None = getattr(self._protocol, "interrupt", None)
        if interrupt is not None:
            interrupt()
        else:
            trusted = self._majority
            self._new_protocol()
            self._majority = trusted

    def lost(self, reason: str) -> None:
        self.publisher.fail(reason)

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        if self._majority.foreign and not getattr(self._protocol, "SELF_EVIDENT", False):
            return FOREIGN
        return self._protocol.trouble or self.publisher.trouble

    def _count_refused(self) -> int:
        return sum(map(self.counts.__getitem__, self._protocol.REFUSALS))
