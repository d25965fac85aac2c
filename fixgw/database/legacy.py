"""The interface for plugins that were written for other gateways: module-level functions, and items with attributes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from math import inf, isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw import world
from fixgw.database.item import Item, Subscription
from fixgw.database.reading import PYTHON_TYPES, Reading
from fixgw.kit.update import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, WRITABLE, Value

if TYPE_CHECKING:
    from fixgw.database import Database


def adapt(item: Item, value: Any) -> Any:
    """Adapt `value` to `item`, for plugins that are used to less strict items.

    Drops the fraction for an int, converts a number to text, None to empty text, and any number or None to a bool.
    Leaves anything else as it is, for the item to refuse.
    """
    kind = item.type
    if kind == "str":
        if value is None:
            return ""
        return str(value) if isinstance(value, Real) else value
    if kind == "bool":
        if value is None:
            return False
        return bool(value) if isinstance(value, Real) and value == value and value not in (inf, -inf) else value
    if kind == "int":
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return value
        return int(number) if isfinite(number) and not number.is_integer() else value
    return value


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
    """A view of an `Item` for one writer; `source` is the source of its writes. Any thread may use it."""

    __slots__ = ("item", "source")

    def __init__(self, item: Item, source: str = "") -> None:
        self.item = item
        self.source = source

    @property
    def annunciate(self) -> bool:
        """Whether the item's source or any alert logic annunciates it.

        If the item's source sets this, it sets its own flag. If another source does, it acts as alert logic
        (`Item.annunciate`): the source's writes do not clear this flag, and it does not clear the source's flag.
        """
        return self.item.reading.annunciate

    @annunciate.setter
    def annunciate(self, setting: Any) -> None:
        ours = self.item.said.source == self.source
        if ours:
            self.item.flag(ANNUNCIATE if setting else 0, ANNUNCIATE, self.source)
        if not (ours and setting):
            self.item.annunciate(bool(setting), owner=self.source)

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
        """Milliseconds since the value was written; infinite if it never was."""
        return self.item.reading.age(self.item._clock()) * 1000.0

    @property
    def value(self) -> Any:
        """``(value, annunciate, old, bad, fail, secfail)``.

        Set a scalar to keep the flags, ``(value, annunciate, bad, fail[, secfail])`` to set them, or a 6-tuple as it
        is read (its old is ignored, and so is its annunciate while alert logic holds that flag). Raises ValueError for
        any other length.
        """
        return self.item.reading.as_tuple()

    @value.setter
    def value(self, value: Any) -> None:
        if not isinstance(value, tuple):
            self.item.write(adapt(self.item, value), self.source)
            return
        mask = WRITABLE
        if len(value) == 6:
            if value[1] and self.item.annunciators:  # the tuple does not tell whose flag it is
                mask &= ~ANNUNCIATE
            value = (value[0], value[1], value[3], value[4], value[5])
        if len(value) not in (4, 5):
            raise ValueError(
                f"{self.key}: expected (value, annunciate, bad, fail[, secfail]), got a tuple of {len(value)}"
            )
        bits = (ANNUNCIATE, BAD, FAIL, SECFAIL)[: len(value) - 1]
        flags = sum(bit for bit, setting in zip(bits, value[1:], strict=True) if setting)
        self.item.write(adapt(self.item, value[0]), self.source, flags, mask=sum(bits) & mask)

    def get_aux_value(self, name: str) -> Value | None:
        return self.item.aux[name]

    def set_aux_value(self, name: str, value: Any) -> None:
        """Set an aux value; None clears it."""
        self.item.write_aux(name, value if value is None else adapt(self.item, value))

    def get_aux_list(self) -> list[str]:
        return list(self.item.aux)


# -- the calls that existing plugins use -------------------------------------------------------------------------------

LegacyCallback = Callable[[str, Any, Any], object]


class Added(NamedTuple):
    """A callback that `callback_add` has added."""

    name: str
    key: str
    function: LegacyCallback
    udata: Any
    subscription: Subscription


def bind(database: Database) -> None:
    """While no gateway is running, use `database` for the module-level functions and for plugins that are created."""
    world.alone().database = database


def current() -> Database:
    """The database of the process's first gateway. If none is running, the one that was bound last, or an empty one."""
    return world.first().database


# These act on the first gateway's database, unless `db` is given, as `PluginBase` does.


def read(key: str, *, db: Database | None = None) -> Any:
    """``(value, annunciate, old, bad, fail, secfail)`` of an item, or the scalar of ``"KEY.aux"``."""
    db = current() if db is None else db
    if "." in key:
        return db.read_aux(key)
    return db.read(key).as_tuple()


def write(key: str, value: Any, source: str = "", *, db: Database | None = None) -> None:
    """Write a scalar, or a tuple like `RawItem.value`."""
    if db is None:
        db = world.first().database
    item = db._items.get(key)
    if item is not None and type(value) is item._fast_type:
        item.write(value, source)
        return
    base, dot, _ = key.partition(".")
    item = db.item(base)
    if not dot:
        RawItem(item, source).value = value
    else:
        db.write(key, value if value is None else adapt(item, value), source)


def listkeys() -> list[str]:
    return current().keys()


def get_raw_item(key: str, source: str = "", *, db: Database | None = None) -> RawItem:
    """The item, with attributes to get and set. Raises `UnknownKey`, which is a KeyError."""
    return RawItem((current() if db is None else db).item(key), source)


def callback_add(
    name: str, key: str, function: LegacyCallback, udata: Any = None, *, db: Database | None = None
) -> None:
    """Call ``function(key, value, udata)`` on the writer's thread. `value` is the 6-tuple, or the scalar of an aux
    value with key ``"KEY.aux"``. `key` ``"*"`` means every item. Adding the same callback again changes nothing."""
    db = current() if db is None else db
    if any(entry.udata is udata or entry.udata == udata for entry in _added(db, name, key, function)):
        return

    def on_reading(key: str, reading: Reading) -> None:
        function(key, reading.as_tuple(), udata)

    def on_aux(key: str, aux: str, value: Value | None) -> None:
        function(f"{key}.{aux}", value, udata)

    # The log uses this name if the callback fails.
    on_reading.__qualname__ = on_aux.__qualname__ = f"{getattr(function, '__qualname__', function)} of {name}"
    db.legacy_callbacks.append(Added(name, key, function, udata, db.subscribe(key, on_reading, on_aux)))


def callback_del(
    name: str, key: str, function: LegacyCallback, udata: Any = None, *, db: Database | None = None
) -> None:
    """Undo `callback_add`. Does nothing if there is no such callback. No `udata` means any, and key ``"*"`` means all
    keys that it was added for."""
    db = current() if db is None else db
    for entry in [e for e in db.legacy_callbacks if (e.name, e.function) == (name, function) and key in ("*", e.key)]:
        if udata is None or entry.udata is udata or entry.udata == udata:
            entry.subscription.close()
            with contextlib.suppress(ValueError):  # another thread was faster
                db.legacy_callbacks.remove(entry)


def _added(db: Database, name: str, key: str, function: LegacyCallback) -> list[Added]:
    return [entry for entry in db.legacy_callbacks if entry[:3] == (name, key, function)]
