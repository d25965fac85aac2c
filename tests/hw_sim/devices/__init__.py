"""Virtual devices, one file each. The folder is the registry: a class with a `NAME` is an instrument.

`instruments` finds those with a serial line, which `fixgw sim serial NAME` runs; `can_instruments` those on a CAN bus;
`network_instruments` those that exchange datagrams, which `fixgw sim network NAME` runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import TypeVar

from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.network import NetworkInstrument
from fixgw.hw_sim.serial import SerialInstrument

Kind = TypeVar("Kind", type[SerialInstrument], type[CanInstrument], type[NetworkInstrument])


@cache
def instruments() -> dict[str, type[SerialInstrument]]:
    """All virtual instruments with a serial line, by name, sorted. Imports every device."""
    return _found(SerialInstrument)


@cache
def can_instruments() -> dict[str, type[CanInstrument]]:
    """All virtual instruments on a CAN bus of their own, by name, sorted. Imports every device."""
    return _found(CanInstrument)


@cache
def network_instruments() -> dict[str, type[NetworkInstrument]]:
    """All virtual programs that exchange datagrams, by name, sorted. Imports every device."""
    return _found(NetworkInstrument)


def instrument(name: str) -> type[SerialInstrument]:
    """The instrument called `name`, or the user's instrument in the module `name` or ``NAME.simulator``.

    Raises ModuleNotFoundError if there is neither, and LookupError if the module has no such class, or several.
    """
    if name in instruments():
        return instruments()[name]
    for module in (f"{name}.simulator", name):
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        kinds = _in(loaded, SerialInstrument)
        if len(kinds) != 1:
            raise LookupError(
                f"{module} has {len(kinds)} classes with a NAME that are SerialInstrument, instead of one"
            )
        return next(iter(kinds.values()))
    raise ModuleNotFoundError(f"no instrument {name!r}", name=name)


def _in(module: ModuleType, base: Kind) -> dict[str, Kind]:
    """The devices that a module defines, by name."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    return {kind.NAME: kind for kind in kinds if issubclass(kind, base) and kind.NAME}


def _found(base: Kind) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for entry in pkgutil.iter_modules(__path__):
        found |= _in(importlib.import_module(f"{__name__}.{entry.name}"), base)
    return dict(sorted(found.items()))
