"""The CAN broadcast of MegaSquirt engine computers without I/O: frames in, updates out (`Decoder`).

Group n of the "advanced real-time data" is a frame of eight bytes whose arbitration id is the base plus n; numbers are
sent high byte first. Source: "Megasquirt-2 and Megasquirt-3 CAN realtime data broadcasting format", 2016-02-17;
docs/drivers/megasquirt.md says what the document does not confirm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fixgw.kit.units import INHG_PER_KPA
from fixgw.kit.update import FAIL, Update, begin_counting

if TYPE_CHECKING:
    from fixgw.drivers.links.can.frame import Frame

BASE = 1520
GROUPS = 64
PROBES = 8

GAL_HR = 60.0 / 3785.411784  # gallons an hour in 1 cm³/min
CELSIUS, FREEZING = 5.0 / 9.0, -32.0 * 5.0 / 9.0


class Field(NamedTuple):
    """Where a number is, and its units per unit sent."""

    group: int
    at: int
    number: Struct
    factor: float


_U8, _U16, _S16 = Struct(">B"), Struct(">H"), Struct(">h")

#: By its name in the document. Pressures are in kPa, temperatures in °F.
FIELDS: Mapping[str, Field] = {
    "rpm": Field(0, 6, _U16, 1.0),
    "adv_deg": Field(1, 0, _S16, 0.1),
    "baro": Field(2, 0, _S16, 0.1),
    "map": Field(2, 2, _S16, 0.1),
    "mat": Field(2, 4, _S16, 0.1),
    "clt": Field(2, 6, _S16, 0.1),
    "tps": Field(3, 0, _S16, 0.1),
    "batt": Field(3, 2, _S16, 0.1),
    "airtemp": Field(11, 6, _S16, 0.1),
    **{f"sensors{n + 1}": Field(13 + n // 4, 2 * (n % 4), _S16, 0.1) for n in range(16)},
    **{f"egt{n + 1}": Field(22 + n // 4, 2 * (n % 4), _S16, 0.1) for n in range(PROBES)},
    **{f"AFR{n + 1}": Field(31, n, _U8, 0.1) for n in range(8)},
    "fuelflow": Field(52, 4, _U16, 1.0),
    "fuel_press1": Field(53, 0, _S16, 0.1),
    "fuel_press2": Field(53, 2, _S16, 0.1),
    "fuel_temp1": Field(53, 4, _S16, 0.1),
    "fuel_temp2": Field(53, 6, _S16, 0.1),
    "batt_cur": Field(54, 0, _S16, 0.1),
}


class Target(NamedTuple):
    """The key that a field goes to: ``value = number * scale + add``, and the possible range in the key's units."""

    key: str
    scale: float = 1.0
    add: float = 0.0
    low: float = float("-inf")
    high: float = float("inf")


#: The fields that are written for every computer.
TARGETS: Mapping[str, Target] = {
    "rpm": Target("TACH1", high=20_000.0),
    "map": Target("MAP1", INHG_PER_KPA, low=1.0, high=120.0),
    "clt": Target("H2OT1", CELSIUS, FREEZING, -60.0, 300.0),
    "tps": Target("THR1", 0.01, low=-0.05, high=1.05),
    "batt": Target("VOLT", low=0.0, high=60.0),
    "fuelflow": Target("FUELF1", GAL_HR, low=0.0, high=300.0),
    **{f"egt{n}": Target(f"EGT1{n}", CELSIUS, FREEZING, -60.0, 1300.0) for n in range(1, PROBES + 1)},
}
KEYS = frozenset(target.key for target in TARGETS.values())


class Decoder:
    """Decodes the broadcast. `targets` are the wanted fields; `base` is the identifier of group 0."""

    REFUSALS: ClassVar[Sequence[str]] = ("wrong length", "not a data frame")

    #: The broadcast has no reliable information on the computer's own health.
    trouble = ""

    def __init__(
        self,
        counts: dict[str, int] | None = None,
        targets: Mapping[str, Target] = TARGETS,
        base: int = BASE,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self.ids = frozenset(range(base, base + GROUPS))
        self._groups: dict[int, list[tuple[str, Field, Target]]] = {}
        for name, target in targets.items():
            self._groups.setdefault(base + FIELDS[name].group, []).append((name, FIELDS[name], target))

    def feed(self, frames: Iterable[Frame]) -> list[Update]:
        """Return the updates from `frames`, in order. Frames with other identifiers are not counted."""
        counts, updates = self.counts, []
        for frame in frames:
            identifier, data = frame.arbitration_id, frame.data
            if identifier not in self.ids:
                continue
            counts["received"] += 1
            if frame.flags or len(data) != 8:
                reason = "not a data frame" if frame.flags else "wrong length"
                counts[reason] += 1
                self.refused = f"{reason}: {identifier} {data.hex(' ')}"
                continue
            wanted = self._groups.get(identifier)
            counts["ignored" if wanted is None else "used"] += 1
            for name, field, target in wanted or ():
                (raw,) = field.number.unpack_from(data, field.at)
                updates.append(self._update(name, raw * field.factor, target))
        return updates

    def _update(self, name: str, number: float, target: Target) -> Update:
        value = number * target.scale + target.add
        if not target.low <= value <= target.high:
            self.counts["absurd values"] += 1
            return Update(target.key, None, FAIL, f"the engine computer sends an absurd value: {name} is {number:g}")
        if name == "tps":  # no calibration is exact
            value = min(max(value, 0.0), 1.0)
        return Update(target.key, value)
