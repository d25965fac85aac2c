"""Virtual devices, one file each. The folder is the registry: a class with a `NAME` and a `WHAT` is an instrument.

`instruments` finds those with a serial line, which `fixgw sim serial NAME` runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from fixgw.hw_sim.serial import SerialInstrument


@cache
def instruments() -> dict[str, type[SerialInstrument]]:
    """All virtual instruments with a serial line, by name, sorted. Imports every device."""
    found: list[type[SerialInstrument]] = []
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        found += [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, SerialInstrument) and kind.__module__ == module.__name__
        ]
    return {kind.NAME: kind for kind in sorted(found, key=lambda kind: kind.NAME) if kind.NAME}
