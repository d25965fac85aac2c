"""Power and leaning of a piston engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fixgw.kit import airdata
from fixgw.kit.units import ZERO_CELSIUS_K
from fixgw.plugins.compute.air import PRESSURE_ALTITUDE, TEMPERATURE
from fixgw.plugins.compute.entry import Entry, Function, Input, Option, Output, PowerTable, Setup
from fixgw.plugins.compute.evaluation import Computation, Formula, Moment, Process, Result
from fixgw.plugins.compute.lines import between, place

HANDBOOK = "the engine's handbook"


# -- power -------------------------------------------------------------------------------------------------------------


def power_lean_of_peak(flow_gph: float, compression_ratio: float, rated_hp: float) -> tuple[float, float]:
    """Percent of rated power, and hp, on the lean side of the peak, where all fuel burns."""
    hp = flow_gph * (1.1604 * compression_ratio + 5.030)
    return hp / rated_hp * 100.0, hp


def power_table(table: PowerTable, rpm: float, map_inhg: float) -> float:
    """Percent of rated power at the standard temperature."""
    row, column = place(table.rpm, rpm), place(table.map, map_inhg)
    return between([between(values, column) for values in table.percent], row)


def power_temperature_correction(percent_isa: float, palt_ft: float, oat_c: float) -> float:
    """Percent of rated power at a temperature other than the standard one."""
    if not oat_c > -ZERO_CELSIUS_K:
        raise ValueError(f"no air has {oat_c:g} degC")
    standard = airdata.isa_temperature(palt_ft) + ZERO_CELSIUS_K
    return percent_isa * math.sqrt(standard / (oat_c + ZERO_CELSIUS_K))


def _lean(setup: Setup) -> Computation:
    ratio, rated = setup.option("compression_ratio"), setup.option("rated_hp")
    return Formula(setup, lambda flow: power_lean_of_peak(flow, ratio, rated))


def _by_table(setup: Setup) -> Computation:
    table = setup.option("table")

    def percent(rpm: float, map_inhg: float, *air: float) -> float:
        standard = power_table(table, rpm, map_inhg)
        return power_temperature_correction(standard, *air) if air else standard

    return Formula(setup, percent)


def _power(setup: Setup) -> Computation:
    table, ratio, rated = (setup.option(name) for name in ("table", "compression_ratio", "rated_hp"))

    def percent(rpm: float, map_inhg: float, flow: float, *air: float) -> float:
        rich = power_table(table, rpm, map_inhg)
        if air:
            rich = power_temperature_correction(rich, *air)
        return min(rich, power_lean_of_peak(flow, ratio, rated)[0])

    return Formula(setup, percent)


def _check_table(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    found = []
    if not isinstance(entry.table, PowerTable):
        found.append(("table", "expected a mapping of rpm, map and percent"))
    if len(entry.inputs) == setup.function.fewest_inputs + 1:
        found.append(("inputs", "the correction for the temperature needs both pressure altitude and air temperature"))
    return found


# -- leaning -----------------------------------------------------------------------------------------------------------


class Peak:
    """The maximum of one cylinder's EGT while the mixture is leaned."""

    def __init__(self) -> None:
        self.highest = -math.inf
        self.flow = 0.0  # at the maximum
        self.found = False

    def add(self, egt: float, flow: float, drop: float) -> None:
        if egt > self.highest:
            self.highest, self.flow, self.found = egt, flow, False
        elif egt <= self.highest - drop and flow < self.flow:  # otherwise it was enriched again
            self.found = True


class LeanFind:
    """Finds the peaks of all cylinders while the switch is on. They stay until the next time."""

    def __init__(self, cylinders: Sequence[str], drop: float) -> None:
        self.cylinders = tuple(cylinders)
        self._drop = drop
        self._on = False
        self.forget()

    def forget(self) -> None:
        """Forget the peaks."""
        self.peaks = [Peak() for _ in self.cylinders]

    def update(self, on: bool, flow: float, egts: Sequence[float], new: Sequence[bool]) -> Result:
        """The spread of the flows at the peaks, None until all are found, and each EGT minus its maximum."""
        if on and not self._on:
            self.forget()
        self._on = on
        if on:
            for peak, egt, is_new in zip(self.peaks, egts, new, strict=True):
                if is_new:
                    peak.add(egt, flow, self._drop)
        below = [
            min(egt - peak.highest, 0.0) if peak.highest > -math.inf else None
            for egt, peak in zip(egts, self.peaks, strict=True)
        ]
        return (self.spread, *below)

    @property
    def spread(self) -> float | None:
        """Flow at the first peak minus flow at the last."""
        if not all(peak.found for peak in self.peaks):
            return None
        flows = [peak.flow for peak in self.peaks]
        return max(flows) - min(flows)

    def facts(self) -> dict[str, Any]:
        """The peaks that were found, in their order, for the status."""
        found = [(peak, name) for peak, name in zip(self.peaks, self.cylinders, strict=True) if peak.found]
        found.sort(key=lambda each: -each[0].flow)
        return {
            f"peak of {name}": f"{peak.highest:.0f} at {peak.flow:.2f} gal/hr{' (the first)' * (n == 0)}"
            for n, (peak, name) in enumerate(found)
        }


class LeanFinding(Process):
    def __init__(self, setup: Setup) -> None:
        self.finder = LeanFind([item.key for item in setup.items[2:]], setup.option("drop"))
        super().__init__(setup, self._calculate)

    def start_afresh(self) -> None:
        self.finder.forget()

    def _calculate(self, moment: Moment, on: Any, flow: float, *egts: float) -> Result:
        new = moment.written[2:] if moment.good else [False] * len(egts)
        return self.finder.update(bool(on), flow, egts, new)

    def facts(self) -> dict[str, Any]:
        return self.finder.facts()


def _check_lean(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    cylinders = len(setup.items) - 2
    if len(setup.outputs) not in (1, 1 + cylinders):
        return [("output", f"expected the spread alone, or the spread and {cylinders} keys, one for each cylinder")]
    return []


AIR = (PRESSURE_ALTITUDE._replace(optional=True), TEMPERATURE._replace(optional=True))
RPM, MAP = Input("crankshaft speed", "rpm"), Input("manifold pressure", "inHg")
FLOW = Input("fuel flow", "gal/hr")
PERCENT = Output("percent of rated power", "%")
RATIO, RATED = Option("compression_ratio", required=True), Option("rated_hp", required=True)
LEAN = "hp = flow · (1.1604 · compression ratio + 5.030)"
TABLE = "the table (bilinear), × √(standard temperature / temperature) if the air is given"

FUNCTIONS = (
    Function(
        name="power_lean_of_peak",
        inputs=(FLOW,),
        outputs=(PERCENT, Output("power in hp", optional=True)),
        formula=f"{LEAN}; too much on the rich side of the peak",
        origin="14.9 hp per gal/hr at 8.5:1, 13.7 at 7.5:1, 13.5 at 7.3:1",
        options=(RATIO, RATED),
        build=_lean,
    ),
    Function(
        name="power_table",
        inputs=(RPM, MAP, *AIR),
        outputs=(PERCENT,),
        formula=f"{TABLE}; too much on the lean side of the peak",
        origin=HANDBOOK,
        options=(Option("table", required=True),),
        build=_by_table,
        check=_check_table,
    ),
    Function(
        name="power_temperature_correction",
        inputs=(Input("percent at standard temperature", "%"), PRESSURE_ALTITUDE, TEMPERATURE),
        outputs=(PERCENT,),
        formula="percent · √(standard temperature / temperature), in kelvins",
        origin=HANDBOOK,
        build=lambda setup: Formula(setup, power_temperature_correction),
    ),
    Function(
        name="power",
        inputs=(RPM, MAP, FLOW, *AIR),
        outputs=(PERCENT,),
        formula="the smaller one of `power_table` and `power_lean_of_peak`: the one that is right on this side of the "
        "peak",
        origin=HANDBOOK,
        options=(Option("table", required=True), RATIO, RATED),
        build=_power,
        check=_check_table,
    ),
    Function(
        name="lean_find",
        inputs=(Input("leaning", kind="switch"), FLOW, Input("EGT", many=True)),
        outputs=(Output("spread of the flows", "gal/hr"), Output("EGT − peak", many=True, optional=True)),
        formula="while the switch is on, the maximum of each EGT from which it has fallen by `drop` while the flow "
        "fell; greatest − least flow at these peaks (GAMI spread), when all are found; and each EGT minus its maximum",
        origin="good below 0.5 gal/hr",
        options=(Option("drop", 8.0),),
        build=LeanFinding,
        check=_check_lean,
    ),
)
