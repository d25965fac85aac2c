"""An item as plugins written for other gateways see it: attributes to get and to set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, PYTHON_TYPES, SECFAIL, Item, Value


def _flag_property(bit: int) -> Any:
    def get(self: RawItem) -> bool:
        return bool(self.item.reading.flags & bit)

    def put(self: RawItem, setting: Any) -> None:
        self.item.flag(bit if setting else 0, bit, self.source)

    return property(get, put)


def _fact(name: str) -> Any:
    get: Callable[[RawItem], Any] = lambda self: getattr(self.item.definition, name)  # noqa: E731
    return property(get)


class RawItem:
    """View of an `Item` for one writer; `source` is the name that its writes carry. Any thread."""

    __slots__ = ("item", "source")

    def __init__(self, item: Item, source: str = "") -> None:
        self.item = item
        self.source = source

    annunciate = _flag_property(ANNUNCIATE)
    old = _flag_property(OLD)
    bad = _flag_property(BAD)
    fail = _flag_property(FAIL)
    secfail = _flag_property(SECFAIL)

    key = _fact("key")
    description = _fact("description")
    units = _fact("units")
    min = _fact("min")
    max = _fact("max")
    tol = _fact("tolerance")
    typestring = _fact("type")

    @property
    def dtype(self) -> type:
        return PYTHON_TYPES[self.item.type]

    @property
    def aux(self) -> dict[str, Value | None]:
        return self.item.aux

    @property
    def age(self) -> float:
        """Milliseconds since the value was written; infinite before the first."""
        return self.item.reading.age(self.item._clock()) * 1000.0

    @property
    def value(self) -> Any:
        """``(value, annunciate, old, bad, fail, secfail)``.

        Set a scalar to leave the flags alone, ``(value, annunciate, bad, fail[, secfail])`` to set them, or a
        6-tuple as it is read (its old is ignored). Any other length is a ValueError.
        """
        return self.item.reading.as_tuple()

    @value.setter
    def value(self, value: Any) -> None:
        if not isinstance(value, tuple):
            self.item.write(value, self.source)
            return
        if len(value) == 6:
            value = (value[0], value[1], value[3], value[4], value[5])
        if len(value) not in (4, 5):
            raise ValueError(
                f"{self.key}: a tuple of {len(value)}; (value, annunciate, bad, fail[, secfail]) is needed"
            )
        bits = (ANNUNCIATE, BAD, FAIL, SECFAIL)[: len(value) - 1]
        flags = sum(bit for bit, setting in zip(bits, value[1:], strict=True) if setting)
        self.item.write(value[0], self.source, flags, mask=sum(bits))

    def get_aux_value(self, name: str) -> Value | None:
        return self.item.aux[name]

    def set_aux_value(self, name: str, value: Any) -> None:
        self.item.write_aux(name, value)

    def get_aux_list(self) -> list[str]:
        return list(self.item.aux)
