"""Angle of attack, from the lift that the wing makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from fixgw.database import BAD
from fixgw.kit.airdata import aoa_lift, lift_constant
from fixgw.kit.navigation import difference
from fixgw.plugins.compute.entry import Entry, Function, Input, Output, Setup
from fixgw.plugins.compute.evaluation import Computation, Moment, Outcome, Process, Result

KEYS = ("PITCH", "IAS", "ANORM", "HEAD", "VS")
LEAST_G = 0.5  # with less lift, no K is learnt
GAP_S = 5.0  # after a longer one, the samples before it say nothing
FILTER = 0.1  # share of a new K
MOST_SAMPLES = 10_000


class Calm(NamedTuple):
    """When the flight is level and steady: the plain numbers behind the keys."""

    incidence: float
    samples: int
    vs_mean: float
    vs_deviation: float
    vs_trend: float
    head_deviation: float
    head_trend: float
    pitch_deviation: float
    pitch_trend: float


class Sample(NamedTuple):
    time: float
    pitch: float
    ias: float
    g: float
    head: float
    vs: float


class Lift:
    """The angle of attack in any flight, from the constant K of the wing, which is learnt in steady level flight."""

    def __init__(self, setup: Setup) -> None:
        incidence, samples, *rest = setup.constants
        self._calm = Calm(incidence, max(2, int(samples)), *rest)
        self._ias = setup.items[1]
        self._aoa = setup.outputs[0]
        self._samples: deque[Sample] = deque(maxlen=self._calm.samples)
        self._unlearnt = 0  # samples since K was last computed
        self.k: float | None = None

    def __call__(self, moment: Moment, pitch: float, ias: float, g: float, head: float, vs: float) -> Result | Outcome:
        flown = pitch + self._calm.incidence
        stall = self._ias.aux.get("Vs")
        if not isinstance(stall, (int, float)) or not stall > 0.0 or ias < stall:
            self.forget()
            return flown
        given = self._aoa.aux.get("0g")
        if not isinstance(given, (int, float)):
            return Outcome(flown, BAD, f"{self._aoa.key}.0g is not set")
        zero = -abs(float(given))  # people write it with either sign
        if not moment.good:
            self._samples.clear()
        elif moment.written[4]:
            self._learn(Sample(moment.now, pitch, ias, g, head, vs), zero)
        if self.k is None:
            return Outcome(flown, BAD, "it has not yet been learnt in steady level flight")
        return aoa_lift(self.k, zero, ias, g)

    def forget(self) -> None:
        self._samples.clear()
        self._unlearnt = 0
        self.k = None

    def _learn(self, sample: Sample, zero: float) -> None:
        samples = self._samples
        if samples and not 0.0 <= sample.time - samples[-1].time <= GAP_S:
            samples.clear()
        samples.append(sample)
        self._unlearnt += 1
        if len(samples) < self._calm.samples or self._unlearnt < self._calm.samples // 10:
            return
        self._unlearnt = 0
        count = len(samples)
        g = sum(s.g for s in samples) / count
        if g < LEAST_G or not self._steady():
            return
        pitch, ias = sum(s.pitch for s in samples) / count, sum(s.ias for s in samples) / count
        k = lift_constant(pitch + self._calm.incidence, zero, ias, g)
        if k > 0.0:
            self.k = k if self.k is None else self.k * (1.0 - FILTER) + k * FILTER

    def _steady(self) -> bool:
        calm, samples = self._calm, self._samples
        vs = [s.vs for s in samples]
        north = samples[0].head
        return (
            abs(sum(vs)) / len(vs) < calm.vs_mean
            and steady(vs, calm.vs_deviation, calm.vs_trend)
            and steady([difference(s.head, north) for s in samples], calm.head_deviation, calm.head_trend)
            and steady([s.pitch for s in samples], calm.pitch_deviation, calm.pitch_trend)
        )


def steady(values: Sequence[float], deviation: float, trend: float) -> bool:
    """Whether no value is further than `deviation` from the mean, and the last tenth is within `trend` of the first."""
    middle = sum(values) / len(values)
    tenth = max(1, len(values) // 10)
    moved = sum(values[-tenth:]) / tenth - sum(values[:tenth]) / tenth
    return max(values) - middle <= deviation and middle - min(values) <= deviation and abs(moved) < trend


def _build(setup: Setup) -> Computation:
    """The keys are told by their names, wherever they stand."""
    items = {item.key: item for item in setup.items}
    if set(items) == set(KEYS):
        setup = setup._replace(items=tuple(items[key] for key in KEYS))
    lift = Lift(setup)
    return Process(setup, lift, lift.forget)


def _check(entry: Entry, setup: Setup) -> list[tuple[str, str]]:
    found = []
    samples = setup.constants[1]
    if not 2 <= samples <= MOST_SAMPLES:
        found.append(("inputs.6", f"samples: expected 2 to {MOST_SAMPLES:,}, got {samples:g}"))
    for name, item in (("Vs", setup.items[1]), ("0g", setup.outputs[0])):
        if name not in item.aux and {i.key for i in setup.items} == set(KEYS):
            item = next(i for i in setup.items if i.key == "IAS") if name == "Vs" else item
        if name not in item.aux:
            found.append(("output" if name == "0g" else "inputs.1", f"{item.key} has no aux value {name!r}"))
    return found


FUNCTIONS = (
    Function(
        name="aoa",
        aliases=("aoa_lift",),
        inputs=(
            Input("PITCH", "deg"),
            Input("IAS", "knots"),
            Input("ANORM", "g"),
            Input("HEAD", "deg"),
            Input("VS", "ft/min"),
            Input("incidence", kind="constant"),
            Input("samples", kind="constant"),
            Input("greatest mean VS", kind="constant"),
            Input("VS deviation", kind="constant"),
            Input("VS trend", kind="constant"),
            Input("HEAD deviation", kind="constant"),
            Input("HEAD trend", kind="constant"),
            Input("PITCH deviation", kind="constant"),
            Input("PITCH trend", kind="constant"),
        ),
        outputs=(Output("AOA", "deg"),),
        formula="K · ANORM / IAS² + α0, with α0 = −|AOA.0g| and K = (PITCH + incidence − α0) · IAS² / ANORM, the mean "
        "of `samples` of steady level flight; below IAS.Vs: PITCH + incidence",
        origin="lift ∝ (α − α0) · IAS², at constant weight and flaps",
        build=_build,
        check=_check,
    ),
)
