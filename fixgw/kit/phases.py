"""The phase of flight, by a small state machine: `Phases`. No I/O, and the caller gives the time.

    phases = Phases()
    phases.step(clock(), Inputs(rpm=900.0, ias=45.0, gs=44.0, altitude=800.0))     # "ground"

`TRANSITIONS` holds every change of phase, with its condition and how long that must last. An input that is not good is
None. If a condition depends on one that is None, the phase stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

__all__ = ["PHASES", "TRANSITIONS", "Inputs", "Phase", "Phases", "Speeds", "Transition"]

Phase = Literal["off", "ground", "takeoff", "air", "landing"]
PHASES: tuple[Phase, ...] = get_args(Phase)

RUNNING_RPM = 300.0
STOPPED_RPM = 100.0
FLYING_KT = 30.0  # nothing that is dangerous in flight is done when GS or IAS is higher
ROLLING_KT = 20.0  # over the ground; below, wind blows into the pitot tube of an aircraft that stands
TAKEOFF_S = 20.0  # after which, or above which height, the take-off is over
TAKEOFF_FT = 400.0
APPROACH_KT = 60.0  # if the stalling speed is not known
APPROACH = 1.3  # times the stalling speed
GO_AROUND = 1.4
GO_AROUND_FT_MIN = 200.0
LOW_FT = 200.0  # above ground
EPSILON_S = 1e-6  # differences of clock readings are not exact


class Inputs(NamedTuple):
    """What the phase depends on; None for what is not good.

    `rpm` of the engine, or None; `has_engine` says whether there is a key for it. `ias` and `gs` in knots, `altitude`
    in ft (only its changes count), `height` above ground in ft, `climb` in ft/min, `vs0` the stalling speed in landing
    configuration in knots.
    """

    rpm: float | None = None
    ias: float | None = None
    gs: float | None = None
    altitude: float | None = None
    height: float | None = None
    climb: float | None = None
    vs0: float | None = None
    has_engine: bool = True

    @property
    def speed(self) -> float | None:
        """IAS, or GS if IAS is not good."""
        return self.gs if self.ias is None else self.ias


class Speeds(NamedTuple):
    """The speeds at which the phase changes, in knots."""

    takeoff: float = 40.0
    airborne: float = 50.0
    landed: float = 35.0


class Moment(NamedTuple):
    """Everything that a condition may look at."""

    inputs: Inputs
    speeds: Speeds
    in_phase: float  # seconds in the phase
    climbed: float | None  # ft since the phase began


class Transition(NamedTuple):
    """A change of phase, when `condition` has held for `seconds`; `words` describe it."""

    before: Phase
    after: Phase
    condition: Callable[[Moment], bool | None]
    seconds: float
    words: str


def _starts(m: Moment) -> bool | None:
    return m.inputs.rpm is not None and m.inputs.rpm > RUNNING_RPM


def _has_no_engine(m: Moment) -> bool | None:
    return not m.inputs.has_engine


def _moves_without_a_tachometer(m: Moment) -> bool | None:
    return m.inputs.rpm is None and _is_above(m, m.speeds.takeoff) and (m.inputs.gs or 0.0) > ROLLING_KT


def _stops(m: Moment) -> bool | None:
    return m.inputs.rpm is not None and m.inputs.rpm < STOPPED_RPM


def _takes_off(m: Moment) -> bool | None:
    return _is_above(m, m.speeds.takeoff) and (m.inputs.gs is None or m.inputs.gs > ROLLING_KT)


def _flies(m: Moment) -> bool | None:
    high = m.climbed is not None and m.climbed > TAKEOFF_FT
    return _is_above(m, m.speeds.airborne) and (high or m.in_phase >= TAKEOFF_S - EPSILON_S)


def _is_slow(m: Moment) -> bool | None:
    return m.inputs.speed is not None and m.inputs.speed < m.speeds.landed


def _approaches(m: Moment) -> bool | None:
    inputs = m.inputs
    limit = APPROACH * inputs.vs0 if inputs.vs0 else APPROACH_KT
    sinks = inputs.climb is not None and inputs.climb < 0
    slow = inputs.speed is not None and inputs.speed < limit
    return (slow and sinks) or (inputs.height is not None and inputs.height < LOW_FT)


def _goes_around(m: Moment) -> bool | None:
    return _is_fast(m) and m.inputs.climb is not None and m.inputs.climb >= GO_AROUND_FT_MIN


def _is_fast(m: Moment) -> bool | None:
    return _is_above(m, GO_AROUND * (m.inputs.vs0 or APPROACH_KT / APPROACH))


def _is_above(m: Moment, speed: float) -> bool:
    return m.inputs.speed is not None and m.inputs.speed > speed


#: All changes of phase. The first of a phase whose time has come wins. The documentation's table is drawn from this.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("off", "ground", _starts, 1.0, "the engine turns faster than 300 rpm"),
    Transition("off", "ground", _has_no_engine, 0.0, "there is no key for an engine"),
    Transition(
        "off",
        "ground",
        _moves_without_a_tachometer,
        1.0,
        "the engine's speed is not known, and the aircraft moves: above `takeoff_speed`, and GS above 20 kt",
    ),
    Transition("ground", "takeoff", _takes_off, 1.0, "above `takeoff_speed`, and GS above 20 kt or not known"),
    Transition("ground", "off", _stops, 5.0, "the engine turns slower than 100 rpm"),
    Transition(
        "takeoff",
        "air",
        _flies,
        0.0,
        "above `airborne_speed`, and 20 s after the take-off began or 400 ft above the height where it did",
    ),
    Transition("takeoff", "ground", _is_slow, 3.0, "below `landed_speed`: a rejected take-off"),
    Transition("air", "ground", _is_slow, 3.0, "below `landed_speed`"),
    Transition(
        "air",
        "landing",
        _approaches,
        3.0,
        "slower than 1.3 times IAS.Vs0 (60 kt if that is not set) and sinking, or below 200 ft AGL",
    ),
    Transition("landing", "ground", _is_slow, 3.0, "below `landed_speed`"),
    Transition(
        "landing",
        "air",
        _goes_around,
        5.0,
        "faster than 1.4 times IAS.Vs0 and climbing at 200 ft/min or more: a go-around",
    ),
    Transition("landing", "air", _is_fast, 60.0, "faster than 1.4 times IAS.Vs0: it was no landing"),
)


class Phases:
    """Follows the phase of flight. One thread at a time.

    It starts in ``air`` if the aircraft is fast, because the gateway may have been restarted in flight; otherwise in
    ``ground`` if the engine turns or has no key, or else in ``off``. Until the speed is known for the first time, this
    is decided again with every step.
    """

    def __init__(self, speeds: Speeds | None = None) -> None:
        self.speeds = speeds or Speeds()
        self.phase: Phase = "off"
        #: When the phase began, by the caller's clock; None before the first step.
        self.since: float | None = None
        self._altitude: float | None = None  # where the phase began
        self._met: dict[int, float] = {}  # index of a transition -> since when its condition has held
        self._started = False

    def step(self, now: float, inputs: Inputs) -> Phase:
        """The phase at `now`. Call it about five times a second, and whenever an input has changed."""
        if not self._started:
            self._begin(now, inputs)
        if self._altitude is None:
            self._altitude = inputs.altitude
        climbed = None if inputs.altitude is None or self._altitude is None else inputs.altitude - self._altitude
        moment = Moment(inputs, self.speeds, now - (now if self.since is None else self.since), climbed)
        for index, transition in enumerate(TRANSITIONS):
            if transition.before != self.phase:
                continue
            if not transition.condition(moment):
                self._met.pop(index, None)
            elif now - self._met.setdefault(index, now) >= transition.seconds - EPSILON_S:
                self._enter(transition.after, now, inputs)
                break
        return self.phase

    def _begin(self, now: float, inputs: Inputs) -> None:
        """Decide in which phase to start."""
        speed = inputs.speed
        self._started = speed is not None
        if speed is not None and speed > self.speeds.airborne:
            phase: Phase = "air"
        elif not inputs.has_engine or (inputs.rpm is not None and inputs.rpm > RUNNING_RPM):
            phase = "ground"
        else:
            phase = "off"
        if self.since is None or phase != self.phase:
            self._enter(phase, now, inputs)

    def _enter(self, phase: Phase, now: float, inputs: Inputs) -> None:
        self.phase, self.since = phase, now
        self._altitude = inputs.altitude
        self._met.clear()
