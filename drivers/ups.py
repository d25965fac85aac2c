"""What drivers of uninterruptible power supplies share: when and how to shut the computer down."""

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
COMMAND_LIMIT_S = 20.0
RETRY_AFTER_S = 60.0  # a computer that is still up after this long is not shutting down
#: The file in the service's runtime directory that fixgw-poweroff.path waits for.
REQUEST = "poweroff"


class ShutdownOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after: Annotated[
        float, Meta(ge=1.0, le=86400.0, description="Seconds of uninterrupted supply failure before the shutdown")
    ]
    below: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Shut down only when less than this percentage of the battery is left; 100: at any charge",
        ),
    ] = 100
    unless: Annotated[
        str,
        Meta(
            description="Never shut down while this expression is true, such as `IAS > 30`. It uses the last values of "
            "its keys, even if old or failed, because their sources may have lost power too. While one of its keys has "
            "never been written, the computer is not shut down"
        ),
    ] = ""
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="Command to run instead of asking systemd. By default the installed service asks systemd "
            "(`fixgw-poweroff.path`), and without the service `systemctl poweroff` is run"
        ),
    ] = ()


#: The `shutdown` option of every such driver.
ShutdownOption = Annotated[
    ShutdownOptions | None, Meta(description="Shut the computer down when the supply is lost; default: never")
]


def check_shutdown(options: ShutdownOptions | None, db: Database) -> Iterable[tuple[str, str]]:
    """Describe what is wrong with the options, for `PluginBase.check`."""
    if options is not None and options.unless:
        yield from (("shutdown.unless", text) for text in dict.fromkeys(expression.check(options.unless, db)))


class Shutdown:
    """Decides when to shut down, and does so on its own thread. `update` and `trouble` are for the driver's thread.

    The service's user may not power the computer off, so it leaves a request in its runtime directory on which systemd
    acts. `before` is called repeatedly, with the time, until it returns True: it can notify a board first.
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
        """`lost`: the supply is lost; `remaining`: battery charge in %; `now`: monotonic seconds. Never raises."""
        if self._committed:
            self._proceed(now)
        elif not lost:
            if self._since is not None:
                self._log.warning("the supply is back")
            self._since, self.trouble = None, ""
        elif self._since is None:
            self._since = now
            self._log.warning("the supply is lost; shutdown after %g s on battery", self.options.after)
            self.trouble = "on battery"
        elif now - self._since >= self.options.after and remaining < self.options.below + (self.options.below == 100):
            if why := self._reason_to_wait():
                self.trouble = f"on battery; shutdown withheld: {why}"
            elif now >= self._next:
                self._committed = True
                self._proceed(now)

    def _reason_to_wait(self) -> str:
        if self._unless is None:
            return ""
        value = self._unless(self._look)
        if value is None:
            return f"cannot evaluate {self.options.unless}"
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
            self._log.warning("on battery for %g s; shutting the computer down", self.options.after)
            self._thread = threading.Thread(target=self._run, name="shutdown", daemon=True)
            self._next = now + RETRY_AFTER_S
            self._thread.start()
        elif self._thread is not None and not self._thread.is_alive() and now >= self._next:
            self._committed, self._thread = False, None
            self._log.error("the computer is still up %g s after the shutdown began", RETRY_AFTER_S)

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
                timeout=COMMAND_LIMIT_S,
                check=False,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._log.error("the shutdown failed: %s", error)
            return
        if done.returncode:
            said = done.stderr[-300:].decode(errors="replace").strip()
            self._log.error("the shutdown failed: exit code %d: %s", done.returncode, said)
