"""The virtual aircraft as a source of data, for all values that no virtual instrument measures.

It writes the values of the flight in the simulators' current world, or in a world that it creates. Its source name
begins with ``sim/``, so that its values cannot pass for real ones. It writes settings - altimeter setting,
trims, buttons - only once, and only if they have not been set. The indicated altitude follows the altimeter setting, as
that of an altimeter does.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from fixgw import plugin
from fixgw.database import NEVER, Database, Item, Value
from fixgw.errors import BadValue, DeviceError

if TYPE_CHECKING:
    from fixgw.hw_sim.world import World

TICK_S = 0.05
#: Seconds between writes of a key, unless its tolerance requires more of them. Other keys have `DEFAULT_PERIOD_S`.
PERIODS_S = {
    0.05: ("PITCH", "ROLL", "YAW", "ROT", "AOA", "ANORM", "ALAT", "ALONG"),
    0.1: ("IAS", "CAS", "TAS", "ALT", "PALT", "VS", "HEAD", "AIRPRESS", "DIFFAIRPRESS", "CDI", "GSI"),
    0.2: ("TACH*", "PROP*", "MAP*", "THR*", "MIX*", "OILP*", "FUELF*", "FUELP*", "VOLT", "CURRNT", "GS", "TRACK*"),
    0.5: ("EGT*", "CHT*", "OILT*", "H2OT*"),
}
DEFAULT_PERIOD_S = 1.0
WRITES_PER_TOLERANCE = 3
STANDSTILL_S = 1.0  # a flight whose values have not changed for longer has stopped

#: Values that belong to the flight but do not change.
CONSTANT_VALUES: dict[str, Value] = {
    "PITCHSET": 0.0,
    "MAVSTATE": "READY",
    "MAVMODE": "AUTO",
    "MAVMSG": "Simulated flight",
    "MAVADJ": False,
    "MAVWPVALID": True,
    "BAT_REMAINING": 100,
    "BAT_VOLTAGE": 4.1,
    "BAT_CHARGING": False,
    "POWER_FAIL": False,
    **{f"TIREP{wheel}": 34.0 for wheel in (1, 2, 3)},
    **{f"TIRET{wheel}": 18.0 for wheel in (1, 2, 3)},
    **{f"TIREB{wheel}": True for wheel in (1, 2, 3)},
}


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


class Options(plugin.Options, frozen=True, kw_only=True):
    except_: Annotated[
        tuple[str, ...], msgspec.Meta(description="Keys, or patterns such as GPS_*, to leave to other connections.")
    ] = msgspec.field(name="except", default=())


class Plugin(plugin.Poller[Options]):
    """Writes everything once before `run` returns, then each key at its own pace."""

    simulates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._world: World | None = None
        self._own_world: World | None = None
        self._items: dict[int, list[Item]] = {}  # ticks between writes -> the items
        self._ticks = 0
        self._began = self._next = 0.0
        self._values: Mapping[str, Value] = {}
        self._values_since = 0.0

    @classmethod
    def check(cls, options: Options, db: Database) -> list[tuple[str, str]]:
        keys = db.keys()
        return [
            (f"except.{i}", f"no item matches {pattern!r}")
            for i, pattern in enumerate(options.except_)
            if pattern not in db and not any(fnmatchcase(key, pattern) for key in keys)
        ]

    def run(self) -> None:
        from fixgw.hw_sim import world

        self._world = world.current()
        if self._world is None:
            self._world = self._own_world = world.World()
            self._own_world.start()
        self._began = self._next = self._values_since = self.clock()
        try:
            self._write_settings()
            self._write_flight()
        except BaseException:
            self.stop()
            raise
        super().run()

    def stop(self) -> None:
        super().stop()
        if self._own_world is not None:
            self._own_world.stop()

    def get_status(self) -> Mapping[str, Any]:
        return {"keys": sum(map(len, self._items.values())), **super().get_status()}

    def poll(self, timeout: float) -> None:
        if self.stopping.wait(max(0.0, min(timeout, self._next - self.clock()))) or self.clock() < self._next:
            return
        now = self.clock()
        self._next = max(self._next + TICK_S, now)
        before, self._ticks = self._ticks, int((now - self._began) / TICK_S + 1e-6)
        values = self._current_values()
        with self.db.batch:
            for every, items in self._items.items():
                if self._ticks // every != before // every:
                    for item in items:
                        self._write(item, values[item.key])
                    self.count("writes", len(items))

    def poll_by(self) -> float:
        return self._next

    # -- at the start --------------------------------------------------------------------------------------------------

    def _write_settings(self) -> None:
        """Write the settings that have not been set; those of the pilot get the values of the flight."""
        assert self._world is not None
        offset = self._world.aircraft.time.astimezone().utcoffset()
        wanted: dict[str, Value] = {
            "BARO": self._world.aircraft.qnh,
            "TZONE": offset.total_seconds() / 3600.0 if offset else 0.0,
            "ACID": "SIM",
            "COMACTNAME1": "Tower",
            "COMSTDNAME1": "Emergency",
        }
        for item in self.db.items():
            if item.definition.setting and not item.tolerance and not _matches(item.key, self.options.except_):
                if item.key in wanted:
                    self._write(item, wanted[item.key])
                elif item.reading.stamp == NEVER:
                    item.write(item.reading.value, self.source)

    def _write_flight(self) -> None:
        """Write every value that has an item, and decide how often to write it."""
        for key, value in self._current_values().items():
            if key not in self.db or _matches(key, self.options.except_):
                continue
            item = self.db.item(key)
            try:
                self._write(item, value)
            except BadValue as error:
                self.log.warning("not written: %s", error)
                continue
            period = next((p for p, patterns in PERIODS_S.items() if _matches(key, patterns)), DEFAULT_PERIOD_S)
            if item.tolerance:
                period = min(period, item.tolerance / WRITES_PER_TOLERANCE)
            self._items.setdefault(max(1, int(period / TICK_S + 1e-6)), []).append(item)

    # -- in flight -----------------------------------------------------------------------------------------------------

    def _current_values(self) -> Mapping[str, Value]:
        """The values at this moment. Raises `DeviceError` if the flight has stopped, as they would be stale."""
        assert self._world is not None
        values, now = self._world.values, self.clock()
        if values is not self._values:
            self._values, self._values_since = values, now
        elif now - self._values_since > STANDSTILL_S:
            raise DeviceError("the virtual aircraft has stopped")
        return {**values, **CONSTANT_VALUES, **self._cockpit_values(values)}

    def _cockpit_values(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The values that depend on the altimeter's setting and on the clock's time zone."""
        from fixgw.hw_sim.aircraft import indicated_altitude

        assert self._world is not None
        shown: dict[str, Value] = {"TIMEL": self._world.aircraft.time.astimezone().strftime("%H:%M:%S")}
        if "BARO" in self.db:
            shown["ALT"] = indicated_altitude(float(values["PALT"]), float(self.db.read("BARO").value))
        return shown

    def _write(self, item: Item, value: Value) -> None:
        """Write `value`, unless the item is a setting that someone else has set."""
        if item.definition.setting:
            reading = item.reading
            if not reading.old and reading.source not in ("", "initial", self.source):
                return
        item.write(value, self.source)
