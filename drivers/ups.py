"""What drivers of uninterruptible supplies have in common: when, and how, the computer is shut down."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from logging import Logger
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fixgw.database import NEVER, Database, Value
from fixgw.errors import UnknownKey
from fixgw.kit import expression
from fixgw.kit.expression import Expression, Reference

KEYS = frozenset(("BAT_VOLTAGE", "BAT_REMAINING", "BAT_CHARGING", "POWER_FAIL"))
COMMAND_LIMIT = 20.0  # s
AGAIN = 60.0  # s after which a computer that is still up is not going down
#: In the service's runtime directory: what fixgw-poweroff.path waits for.
REQUEST = "poweroff"


class ShutdownOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after: Annotated[
        float, Meta(ge=1.0, le=86400.0, description="Seconds without supply, uninterrupted, before it is shut down")
    ]
    below: Annotated[
        int, Meta(ge=1, le=100, description="Only when the battery has less than this, in %; 100: whatever it has")
    ] = 100
    unless: Annotated[
        str,
        Meta(
            description="Never while this expression is true, such as `IAS > 30`; goes by what its keys said "
            "last, for they may have lost their supply too. With keys that never said anything, it is not shut down"
        ),
    ] = ""
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="What to run instead of asking systemd, which does it for the installed service "
            "(`fixgw-poweroff.path`); without the service it is `systemctl poweroff`"
        ),
    ] = ()


#: The option `shutdown` of every such driver.
ShutdownOption = Annotated[
    ShutdownOptions | None, Meta(description="Shut the computer down when the supply is lost; by default it never is")
]


def problems(options: ShutdownOptions | None, db: Database) -> Iterable[tuple[str, str]]:
    """What is wrong with it, for `PluginBase.check`."""
    if options is not None and options.unless:
        yield from (("shutdown.unless", text) for text in dict.fromkeys(expression.problems(options.unless, db)))


class Shutdown:
    """Decides, and switches off on a thread of its own. `update` and `trouble` are for the driver's thread.

    The service's user may switch nothing off: it leaves a request in its runtime directory, on which systemd acts.
    `before` is called with the time until it says that it is done: a board that has to be told first.
    """

    def __init__(
        self,
        options: ShutdownOptions,
        db: Callable[[], Database],
        log: Logger,
        before: Callable[[float], bool] = lambda now: True,
    ) -> None:
        self.options = options
        self._db = db
        self._log = log
        self._before = before
        self._unless = Expression(options.unless) if options.unless else None
        self._since: float | None = None
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self._committed = False
        self.trouble = ""

    def update(self, lost: bool, remaining: float, now: float) -> None:
        """`lost`: there is no supply; `remaining`: % of the battery; `now`: monotonic seconds. Never raises."""
        if self._committed:
            self._proceed(now)
        elif not lost:
            if self._since is not None:
                self._log.warning("the supply is back")
            self._since, self.trouble = None, ""
        elif self._since is None:
            self._since = now
            self._log.warning("the supply is lost: shutting down after %g s", self.options.after)
            self.trouble = "on battery"
        elif now - self._since >= self.options.after and remaining < self.options.below + (self.options.below == 100):
            if why := self._held_back():
                self.trouble = f"on battery, and not shut down: {why}"
            elif now >= self._next:
                self._committed = True
                self._proceed(now)

    def _held_back(self) -> str:
        if self._unless is None:
            return ""
        value = self._unless(self._look)
        if value is None:
            return f"{self.options.unless} is not known"
        return self.options.unless if value else ""

    def _look(self, reference: Reference) -> Value | None:
        try:
            reading = self._db().read(reference.key)
            if reference.is_flag:
                return bool(getattr(reading, reference.attribute))
            if reference.attribute:
                return self._db().read_aux(str(reference))
        except UnknownKey:
            return None
        return None if reading.stamp == NEVER else reading.value

    def _proceed(self, now: float) -> None:
        self.trouble = "shutting down"
        if self._thread is None and self._before(now):
            self._log.warning("on battery for %g s: switching the computer off", self.options.after)
            self._thread = threading.Thread(target=self._run, name="shutdown", daemon=True)
            self._next = now + AGAIN
            self._thread.start()
        elif self._thread is not None and not self._thread.is_alive() and now >= self._next:
            self._committed, self._thread = False, None
            self._log.error("the computer is still up %g s after the shutdown began", AGAIN)

    def _run(self) -> None:
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        try:
            if runtime and not self.options.command:
                Path(runtime, REQUEST).touch()
                return
            done = subprocess.run(
                self.options.command or ("systemctl", "poweroff"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=COMMAND_LIMIT,
                check=False,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._log.error("the shutdown failed: %s", error)
            return
        if done.returncode:
            said = done.stderr[-300:].decode(errors="replace").strip()
            self._log.error("the shutdown failed: exit code %d: %s", done.returncode, said)
