"""The computer's time of day, as keys.

connections:
  system: {module: fixgw.plugins.system, time: {enable: yes}}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fixgw import plugin
from fixgw.clock import EARLIEST_YEAR
from fixgw.database import Database, Item
from fixgw.errors import BadValue, UnknownKey
from fixgw.kit.sources import START
from fixgw.plugin import Worker

NOT_SET = "the clock has not been set"
RECEIVER_S = 2.0  # a key that another source has written within this time is left to it
Key = str | None


class Keys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys to write; null: none."""

    gmt_seconds: Annotated[Key, Meta(description="Seconds of the time in UTC")] = None
    gmt_minutes: Annotated[Key, Meta(description="Minutes of the time in UTC")] = None
    gmt_hours: Annotated[Key, Meta(description="Hours of the time in UTC")] = None
    gmt_string: Annotated[Key, Meta(description="The time in UTC as text")] = None
    local_seconds: Annotated[Key, Meta(description="Seconds of the local time")] = None
    local_minutes: Annotated[Key, Meta(description="Minutes of the local time")] = None
    local_hours: Annotated[Key, Meta(description="Hours of the local time")] = None
    local_string: Annotated[Key, Meta(description="The local time as text")] = None


#: The keys to write if the options name none: those of them that the database has.
USUAL = Keys(gmt_seconds="TIMEZS", gmt_minutes="TIMEZM", gmt_hours="TIMEZH", gmt_string="TIMEZ", local_string="TIMEL")


class Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to write of the time of day."""

    enable: Annotated[bool, Meta(description="Write the time")] = False
    keys: Annotated[
        Keys | None, Meta(description="The keys to write; by default TIMEZ, TIMEZH, TIMEZM, TIMEZS and TIMEL")
    ] = None
    gmt_format: Annotated[str, Meta(description="Format of the text in UTC, as for strftime")] = "%H:%M:%S Z"
    local_format: Annotated[str, Meta(description="Format of the local text, as for strftime")] = "%H:%M:%S %Z"


class Options(plugin.Options, frozen=True):
    """Options of the `system` plugin."""

    time: Annotated[Time, Meta(description="The time of day")] = Time()


class Plugin(Worker[Options]):
    """Writes the time once a second, on the second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        #: Returns seconds since 1970. A test may replace it.
        self.wall_clock: Callable[[], float] = time.time  # noqa: TID251 - the time of day is what it writes
        self.clock = self.db.clock

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        for name, key in _wanted(options, db):
            if key not in db:
                yield f"time.keys.{name}", str(UnknownKey(key, db))
            elif db.item(key).type != (expected := "str" if name.endswith("string") else "int"):
                yield f"time.keys.{name}", f"{key} has the type {db.item(key).type}; expected {expected}"
            elif expected == "str":
                zone = name.partition("_")[0]
                try:
                    db.item(key).convert(datetime.now(UTC).strftime(getattr(options.time, f"{zone}_format")))
                except (BadValue, ValueError) as error:
                    yield f"time.{zone}_format", str(error)

    def run(self) -> None:
        if not self.options.time.enable:
            self.done("time is not enabled")
        super().run()

    def work(self) -> None:
        while not self.stopping.is_set():
            if self.options.time.enable:
                self.write_time()
            self.show_life()
            self.stopping.wait(1.0 - self.wall_clock() % 1.0)

    def write_time(self) -> None:
        """Write the time that it is now; fail the keys while the clock is known to be wrong."""
        options = self.options.time
        utc = datetime.fromtimestamp(self.wall_clock(), UTC)
        local = utc.astimezone()
        wrong = utc.year < EARLIEST_YEAR
        self._trouble = NOT_SET if wrong else ""
        for name, key in _wanted(self.options, self.db):
            moment, form = (utc, options.gmt_format) if name.startswith("gmt") else (local, options.local_format)
            what = name.partition("_")[2]
            value = moment.strftime(form) if what == "string" else getattr(moment, what.removesuffix("s"))
            item = self.db.item(key)
            if self._belongs_to_another(item):
                self.count("left to a receiver")
            elif wrong:
                item.fail(NOT_SET, self.source)
            else:
                item.write(value, self.source, flags=0)
        self.count("seconds")

    def _belongs_to_another(self, item: Item) -> bool:
        """Whether a GPS receiver, or another better clock, writes the item. If sources are ranked, the rank decides."""
        reading = item.said
        other = reading.source not in ("", self.source, *START)
        return other and not item.ranked and reading.good and reading.age(self.clock()) < RECEIVER_S

    def get_status(self) -> Mapping[str, Any]:
        return {"time": datetime.fromtimestamp(self.wall_clock(), UTC).strftime("%Y-%m-%d %H:%M:%S Z"), **self.counts}


def _wanted(options: Options, db: Database) -> list[tuple[str, str]]:
    """The pairs (what, key) to write."""
    if not options.time.enable:
        return []
    keys = options.time.keys or USUAL
    pairs = [(name, key) for name in Keys.__struct_fields__ if (key := getattr(keys, name))]
    return [(name, key) for name, key in pairs if keys is not USUAL or key in db]
