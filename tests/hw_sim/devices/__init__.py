"""Virtual devices, one file each. The folder is the registry: a class with a `NAME` is an instrument.

`instruments` finds those with a serial line, which `fixgw sim serial NAME` runs; `can_instruments` those on a CAN bus.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TypeVar

from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.serial import SerialInstrument

Kind = TypeVar("Kind", type[SerialInstrument], type[CanInstrument])


@cache
def instruments() -> dict[str, type[SerialInstrument]]:
    """All virtual instruments with a serial line, by name, sorted. Imports every device."""
    return _found(SerialInstrument)


@cache
def can_instruments() -> dict[str, type[CanInstrument]]:
    """All virtual instruments on a CAN bus of their own, by name, sorted. Imports every device."""
    return _found(CanInstrument)


def _found(base: Kind) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__ and kind.NAME:
                found[kind.NAME] = kind
    return dict(sorted(found.items()))
