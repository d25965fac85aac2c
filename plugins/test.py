"""Writes random values to one key, to try out a display.

connections:
  test: {module: fixgw.plugins.test, key: IAS, low: 60, high: 120}
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from fixgw import plugin
from fixgw.database import Database
from fixgw.errors import UnknownKey
from fixgw.kit.sources import SIMULATED, simulated
from fixgw.plugin import Worker


class Options(plugin.Options, frozen=True):
    """Options of the `test` plugin."""

    key: Annotated[str, Meta(description="Key to write")]
    low: Annotated[float, Meta(description="Least value")] = 0.0
    high: Annotated[float, Meta(description="Greatest value")] = 1.0
    delay: Annotated[float, Meta(ge=0.01, le=3600, description="Seconds between two values")] = 1.0

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"high ({self.high:g}) is less than low ({self.low:g})")


class Plugin(Worker[Options]):
    """Writes a random value every `delay` seconds, marked as simulated."""

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if options.key not in db:
            yield "key", str(UnknownKey(options.key, db))
        elif db.item(options.key).type == "str":
            yield "key", f"{options.key} is text; expected a number, or True or False"

    def work(self) -> None:
        item, o = self.db.item(self.options.key), self.options
        source = self.source if simulated(self.source) else SIMULATED[0] + self.source
        while not self.stopping.is_set():
            value = random.uniform(o.low, o.high)
            whole = round(value) if item.type == "int" else value
            item.write(value > (o.low + o.high) / 2 if item.type == "bool" else whole, source, flags=0)
            self.count("values")
            self.show_life()
            deadline = self.clock() + o.delay
            while (left := deadline - self.clock()) > 0 and not self.stopping.wait(min(left, 1.0)):
                self.show_life()
