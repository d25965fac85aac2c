"""Pins of a Raspberry Pi: buttons, knobs, selectors, lamps, relays, dimmers, and sensors that send pulses."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fixgw import state
from fixgw.database import Database, Subscription
from fixgw.drivers.gpio import options as declared
from fixgw.drivers.gpio.functions import Common, Following, Function, Totals, all_functions
from fixgw.drivers.links import pins
from fixgw.errors import DeviceError
from fixgw.kit import raw
from fixgw.kit.anonymous import Shift
from fixgw.plugin import Device, Feeds, Finding, Poller
from fixgw.state import Keeper


class Plugin(Poller[declared.Options]):
    """The pins of one connection, on one thread. The library's own thread only records edges."""

    reopen_delay_max: ClassVar[float] = 5.0
    #: Seconds in which to collect a burst of edges, so that a bouncing contact does not wake the thread for each edge.
    gather: ClassVar[float] = 0.001
    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wake = threading.Event()
        self._pins = pins.Pins(self.options.library)
        self._functions: list[Function] = []
        self._totals: Totals | None = None
        self._subscriptions: list[Subscription] = []

    @classmethod
    def check(cls, options: declared.Options, db: Database) -> Iterable[tuple[str, str]]:
        return declared.check(options, db)

    @classmethod
    def claims(cls, options: declared.Options) -> Iterable[tuple[str, str]]:
        return declared.claims(options)

    @classmethod
    def heard_as(cls, name: str, options: declared.Options) -> Iterable[str]:
        return (name,)

    @classmethod
    def anonymise(
        cls, options: declared.Options, entries: list[raw.Heard], shift: Shift, alone: bool
    ) -> list[raw.Heard] | None:
        return entries

    @classmethod
    def writes(cls, options: declared.Options) -> Iterable[str]:
        return declared.fed_keys(options)

    @classmethod
    def preflight(cls, options: declared.Options) -> Iterable[Device | Feeds | Finding]:
        yield from pins.preflight(options.library)
        yield Feeds(tuple(cls.writes(options)))

    def run(self) -> None:
        self._pins.tie(raw.point(self.db), self.name, self.clock)
        self._pins.require()
        self._tie()
        super().run()

    def _tie(self) -> None:
        if any(pulses.total_key for pulses in self.options.pulses):
            self._totals = Totals(Keeper(state.path(f"gpio-{self.name}"), self.log), self.log)
        common = Common(
            self._pins,
            self.db,
            self.source,
            self.clock,
            self.count,
            self._wake.set,
            self._totals,
            self.options.simulated,
        )
        self._functions = all_functions(self.options, common)
        self._subscriptions = [
            self.db.subscribe(key, function.follow, function.follow, quick=True)
            for function in self._functions
            if isinstance(function, Following)
            for key in function.keys
        ]

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            for subscription in self._subscriptions:
                subscription.close()
            if self._totals is not None:
                self._totals.keeper.close(0.5)

    def health(self) -> str:
        troubles = [f.trouble for f in self._functions] + [self._totals.keeper.trouble if self._totals else ""]
        return super().health() or "; ".join(dict.fromkeys(trouble for trouble in troubles if trouble))

    def get_status(self) -> Mapping[str, Any]:
        pins = (pin for function in self._functions for pin in function.status())
        return {"library": self.options.library, **super().get_status(), **{f"GPIO{pin}": what for pin, what in pins}}

    def open(self) -> None:
        self._pins.open()
        now = self.clock()
        for function in self._functions:
            function.open(now)
        self._pins.set_up()

    def poll(self, timeout: float) -> None:
        due = min((function.due for function in self._functions), default=float("inf"))
        if self._wake.wait(min(timeout, max(0.0, due - self.clock()))):
            self.stopping.wait(self.gather)
            self._wake.clear()
        now = self.clock()
        for function in self._functions:
            if function.due <= now or function.is_waiting():
                function.poll(now)

    def poll_by(self) -> float:
        return min((function.due for function in self._functions), default=float("inf"))

    def is_waiting(self) -> bool:
        return self._wake.is_set()

    def note_loss(self, reason: str) -> None:
        self._pins.lost(reason)

    def close(self) -> None:
        if self.stopping.is_set():
            for function in self._functions:
                try:
                    function.rest()
                except DeviceError:
                    self.log.debug("could not set an output to its safe state: the chip is gone")
        self._pins.close(lost=not self.stopping.is_set())
        if self.stopping.is_set():
            self.lost("stopped")

    def lost(self, reason: str) -> None:
        for function in self._functions:
            function.lost(reason)
