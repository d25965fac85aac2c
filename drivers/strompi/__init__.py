"""Joy-IT StromPi 3 uninterruptible power supply, on a serial port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from fixgw.database import FAIL
from fixgw.drivers import ups
from fixgw.drivers.links.instrument import KEYS_OPTION, Instrument, Keys
from fixgw.drivers.links.serial import SerialOptions
from fixgw.drivers.strompi.protocol import REQUEST, Decoder
from fixgw.kit.update import Update
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database

MAX_UNANSWERED = 4  # requests without an answer before the board counts as lost


class Options(SerialOptions, frozen=True, kw_only=True):
    """Options for a StromPi 3."""

    baud: Annotated[Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"], Meta(description="Bits per second")] = (
        38400
    )
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    every: Annotated[float, Meta(ge=1.0, le=60.0, description="Seconds between requests")] = 2.0
    shutdown: ups.ShutdownOption = None


class Plugin(Instrument[Options]):
    """One board, polled for its status."""

    KEYS: ClassVar[frozenset[str]] = ups.KEYS

    def __post_init__(self) -> None:
        super().__post_init__()
        self._due = 0.0
        self._asked = self._used_before = 0
        self.patience_s = MAX_UNANSWERED * self.options.every  # type: ignore[misc]
        self._shutdown = None
        if self.options.shutdown is not None and not self.replaying:
            self._shutdown = ups.Shutdown(self.options.shutdown, lambda: self.db, self.log)

    def protocol(self) -> Decoder:
        self.decoder = Decoder(self.counts)
        return self.decoder

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from ups.check_shutdown(options.shutdown, db)

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        yield Feeds(tuple(name for key in sorted(ups.KEYS) if (name := options.keys.get(key, key))))

    def health(self) -> str:
        return super().health() or (self._shutdown.trouble if self._shutdown else "")

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "firmware": self.decoder.firmware or "not known yet"}

    def open(self) -> None:
        super().open()
        self._due = self.clock()
        self._asked = 0

    def lost(self, reason: str) -> None:
        """Fail the board's keys, including those that still have their initial values."""
        self.publisher.publish([Update(key, None, FAIL, reason) for key in sorted(ups.KEYS)])

    def close(self) -> None:
        super().close()
        if self.stopping.is_set():  # these keys never age
            self.lost("stopped")

    def poll_by(self) -> float:
        return self._due

    def poll(self, timeout: float) -> None:
        now = self.clock()
        if now >= self._due:
            self._due = now + self.options.every
            self._ask()
        super().poll(timeout)
        if self._shutdown is not None and self.decoder.lost is not None:
            self._shutdown.update(self.decoder.lost, self.decoder.remaining, self.clock())

    def _ask(self) -> None:
        used = self.counts["used"]
        self._asked = 0 if used != self._used_before else self._asked + 1
        self._used_before = used
        if self._asked == MAX_UNANSWERED:  # the port is there, but the board is missing or hangs
            self.lost("the board does not answer")
        self.decoder.start_report()
        self.send(REQUEST)
