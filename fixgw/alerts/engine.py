"""The engine that judges alerts: conditions, delays, levels, acknowledgement, shelving, soundings and records.

A pure state machine: no I/O, no thread, and the caller gives the time in monotonic seconds. `Look` returns the present
value of a key, a flag or a limit, or None if it is not known. What is not known neither raises nor clears an alert, and
never inhibits one.

    engine = Engine(look)
    low = Beyond("OILP1", "lowAlarm", is_low=True, hysteresis=2.0)
    engine.add(Alert("oil-pressure", text="OIL PRESSURE LOW", key="OILP1", levels=[Level("warning", [low])]))
    engine.judge(now)
    engine.shown()      # what the crew should see, the most important first
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from fixgw.alerts.states import FACES, TRANSITIONS, Event, State
from fixgw.errors import did_you_mean
from fixgw.kit.expression import Expression, Look, Reference
from fixgw.kit.phases import Phase
from fixgw.kit.update import Value
from fixgw.notices import LEVELS
from fixgw.notices import Level as LevelName

__all__ = ["Alert", "Always", "Beyond", "Change", "Condition", "Engine", "Level", "NoData", "Total", "When"]

EPSILON_S = 1e-6  # differences of clock readings are not exact
SOUND_EVERY_S = 3.0  # while a warning is not acknowledged
MUTE_S = 60.0
FLAPPING = 5  # more occurrences than this within `FLAPPING_S` are intermittent
FLAPPING_S = 60.0
GAP_S = 3.0  # a condition that is not known for longer breaks a delay
MAX_CHANGES = 500  # that wait to be recorded
MAX_TONE = 9999
WARNING = LEVELS.index("warning")
ALL_PHASES = frozenset[Phase]()

#: Shown states with attention first.
ATTENTION = frozenset(state for state, face in FACES.items() if face.attention)
LASTING = frozenset((State.ACTIVE, State.ACKNOWLEDGED))
SHOWN = frozenset(state for state, face in FACES.items() if face.shown)


class Condition(Protocol):
    """Something that is true, false or not known."""

    #: What it looks at.
    references: Sequence[Reference]

    def __call__(self, look: Look, raised: bool) -> bool | None:
        """Evaluate it; None if it is not known. `raised` says whether its level is on, for hysteresis."""


class Beyond:
    """A value below, or above, its limit: `limit` is a number or the name of an aux value of the key.

    A limit that is not set is never exceeded. While the level is raised, the value must come back by `hysteresis`.
    """

    def __init__(self, key: str, limit: float | str, is_low: bool, hysteresis: float = 0.0) -> None:
        self.value = Reference(key)
        self.limit = limit
        self.is_low = is_low
        self.hysteresis = hysteresis
        self.on = False
        self.references: Sequence[Reference] = (self.value,)
        if isinstance(limit, str):
            self._limit = Reference(key, limit)
            self.references = (self.value, self._limit)

    def at(self, look: Look) -> float | None:
        """The limit at present; None if it is not set."""
        limit = look(self._limit) if isinstance(self.limit, str) else self.limit
        return limit if isinstance(limit, (int, float)) else None

    def __call__(self, look: Look, raised: bool) -> bool | None:
        limit = self.at(look)
        if limit is None:
            self.on = False
            return False
        value = look(self.value)
        if not isinstance(value, (int, float)):
            return None
        margin = self.hysteresis if self.on and raised else 0.0
        self.on = value < limit + margin if self.is_low else value > limit - margin
        return self.on


class When:
    """An expression."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self.references: Sequence[Reference] = expression.references

    def __call__(self, look: Look, raised: bool = False) -> bool | None:
        value = self._expression(look)
        return None if value is None else bool(value)


class NoData:
    """A key whose value is not known: old, failed, or never written."""

    def __init__(self, key: str) -> None:
        self._value = Reference(key)
        self.references: Sequence[Reference] = (self._value,)

    def __call__(self, look: Look, raised: bool) -> bool | None:
        return look(self._value) is None


class Always:
    """A condition that somebody else decides."""

    references: Sequence[Reference] = ()

    def __init__(self, met: bool = True) -> None:
        self.met = met

    def __call__(self, look: Look, raised: bool) -> bool | None:
        return self.met


class Level:
    """One level of an alert: raised when any of its conditions has been true for `on_delay`, until all have been false
    for `off_delay`. Times in seconds. What is not known neither raises nor clears it, and no delay ends then. One that
    was not known for longer than `GAP_S` begins anew with the next value: nobody saw what happened meanwhile.
    """

    def __init__(
        self, name: LevelName, conditions: Sequence[Condition], on_delay: float = 0.0, off_delay: float = 0.0
    ) -> None:
        self.name: LevelName = name
        self.severity = LEVELS.index(name)
        self.conditions = conditions
        self.on_delay = on_delay
        self.off_delay = off_delay
        self.raised = False
        self.pending = False
        self.known = False
        self._since: float | None = None
        self._unknown_since: float | None = None

    def judge(self, now: float, look: Look, held: bool) -> None:
        """Evaluate it. `held`: it must not be raised now."""
        if held and not self.raised:
            self.pending, self._since, self._unknown_since = False, None, None
            return
        met: bool | None = False
        for condition in self.conditions:
            each = condition(look, self.raised)
            if each:
                met = True
            elif each is None and not met:
                met = None
        self.known = met is not None
        if met is None:
            if self._unknown_since is None:
                self._unknown_since = now
            return
        if self._unknown_since is not None:
            if now - self._unknown_since > GAP_S + EPSILON_S:
                self._since = None
            self._unknown_since = None
        if met is self.raised:
            self.pending, self._since = False, None
        else:
            if self._since is None:
                self._since = now
            self.pending = met
            if now >= self.due - EPSILON_S:
                self.raised, self.pending, self._since = met, False, None

    @property
    def due(self) -> float:
        """When a delay ends; infinity if none runs."""
        if self._since is None:
            return float("inf")
        return self._since + (self.off_delay if self.raised else self.on_delay)

    def reset(self) -> None:
        self.raised = self.pending = self.known = False
        self._since = self._unknown_since = None
        for condition in self.conditions:
            if isinstance(condition, Beyond):
                condition.on = False


class Change(NamedTuple):
    """One change of an alert's state, for the record.

    `value` and `limit` are those of its key, if it has one. `seconds` is how long the condition lasted and `worst` the
    worst value meanwhile, when an occurrence ends. `news` says whether it is a new occurrence. The changes of an
    alert that has become `intermittent` are not recorded until it has calmed down.
    """

    at: float
    id: str
    text: str
    level: LevelName
    before: State
    after: State
    phase: str
    value: Value | None = None
    limit: float | None = None
    seconds: float | None = None
    worst: float | None = None
    news: bool = False
    intermittent: bool = False


class Total(NamedTuple):
    """What happened over the life of the engine: seconds in each level, occurrences, and the worst value."""

    seconds: dict[str, float]
    times: int = 0
    worst: float | None = None


class Alert:
    """An alert. The engine alone changes it; others may read it."""

    def __init__(
        self,
        id: str,
        *,
        text: str = "",
        levels: Sequence[Level],
        key: str = "",
        group: str = "",
        latch: bool = False,
        inhibit: When | None = None,
        phases: frozenset[Phase] = ALL_PHASES,
        armed_above: float | str | None = None,
        shelve_s: float = float("inf"),
        voice: str = "",
    ) -> None:
        self.id = id
        self.text = text
        self.key = key
        #: The id that several alerts have in common, which were made from one pattern.
        self.group = group or id
        self.voice = voice
        self.latch = latch
        #: The longest time for which somebody may shelve it, in seconds.
        self.shelve_s = shelve_s
        self.levels = sorted(levels, key=lambda level: level.severity)
        self.inhibit = inhibit
        #: The phases in which it is presented; all if empty.
        self.phases = phases
        self.state = State.NORMAL
        self.level: LevelName = self.levels[-1].name
        #: When the present occurrence began, and when it last asked for attention.
        self.since = float("-inf")
        self.attention_at = float("-inf")
        self.shelved_until = float("-inf")
        self.intermittent = False
        self.silent = False  # its changes are not recorded
        self.worst: float | None = None
        self._occurrences: deque[float] = deque(maxlen=FLAPPING + 1)
        self._acknowledged = -1  # the severity that was acknowledged
        self._peak = -1  # the highest severity since then
        self._armed_above = None if armed_above is None or not key else Beyond(key, armed_above, is_low=False)
        self._judged_at = 0.0
        self._side = next((c for level in self.levels for c in level.conditions if isinstance(c, Beyond)), None)
        self._value = Reference(key) if key else None

    @property
    def references(self) -> Iterator[Reference]:
        """Everything that it looks at."""
        if self._value is not None:
            yield self._value  # for the record
        for level in self.levels:
            for condition in level.conditions:
                yield from condition.references
        if self.inhibit is not None:
            yield from self.inhibit.references
        if self._armed_above is not None:
            yield from self._armed_above.references

    @property
    def severity(self) -> int:
        return LEVELS.index(self.level)

    @property
    def raised(self) -> bool:
        return any(level.raised for level in self.levels)

    @property
    def shown(self) -> bool:
        return self.state in SHOWN

    @property
    def needs_attention(self) -> bool:
        return self.state in ATTENTION

    @property
    def flagged(self) -> bool:
        """Whether its key is annunciated."""
        return FACES[self.state].flagged and (self.state is not State.SHELVED or self.raised)

    @property
    def words(self) -> str:
        """Its text as it is shown."""
        return f"{self.text} (WAS)" if self.state is State.LATCHED else self.text

    @property
    def busy(self) -> bool:
        """Whether it is shown or annunciated, or time alone may change it."""
        return (
            self.state in (State.SHELVED, State.LATCHED)
            or self.intermittent
            or self.raised
            or any(level.due != float("inf") for level in self.levels)
        )

    def is_calm(self, now: float) -> bool:
        """Whether it is not on, and has not been for so long that nobody needs to remember it."""
        recent = self._occurrences and now - self._occurrences[-1] <= FLAPPING_S
        return not self.busy and not recent

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, now: float, engine: Engine) -> None:
        """Evaluate it, and change its state."""
        look = engine.look
        before = next((level for level in reversed(self.levels) if level.raised and level.known), None)
        armed = self._is_armed(look)
        if self.state is State.SHELVED and now >= self.shelved_until - EPSILON_S:
            self._happen(Event.UNSHELVE, now, engine)
        if (self.inhibit is not None and self.inhibit(look)) or (self.phases and engine.phase not in self.phases):
            for level in self.levels:
                level.reset()
            self._happen(Event.INHIBIT, now, engine)
        else:
            self._happen(Event.RELEASE, now, engine)
            for level in self.levels:
                held = not armed or (level.severity < WARNING and engine.phase in engine.hold_back)
                level.judge(now, look, held)
            if self.state is not State.SHELVED:
                self._follow_levels(now, engine)
            self._note_worst(look)
        if before is not None and before.known:
            engine.add_time(self, before.name, now - self._judged_at)
        self._judged_at = now
        if self.intermittent and now - self._occurrences[0] > FLAPPING_S:
            self.intermittent = self.silent = False

    def _is_armed(self, look: Look) -> bool:
        """Whether the value has once exceeded the limit that it must exceed first, if there is one."""
        side = self._armed_above
        if side is None or side.at(look) is None:
            return True
        if side(look, raised=False):
            self._armed_above = None
            return True
        return False

    def _follow_levels(self, now: float, engine: Engine) -> None:
        """Change the state as the levels demand."""
        top = max((level.severity for level in self.levels if level.raised), default=-1)
        if top < 0:
            if self.state is State.ACTIVE and self.latch:
                self.level = LEVELS[self._peak]
                self._happen(Event.LEFT, now, engine)
            elif self.state in (State.ACTIVE, State.ACKNOWLEDGED):
                self._happen(Event.CLEARED, now, engine)
            else:
                pending = [level for level in self.levels if level.pending]
                if self.state in (State.NORMAL, State.PENDING):
                    self.level = (pending or self.levels)[-1].name
                self._happen(Event.MET if pending else Event.BROKEN, now, engine)
            return
        before, self.level = self.severity, LEVELS[top]
        if self.state is State.ACKNOWLEDGED:
            higher, self._acknowledged = top > self._acknowledged, min(self._acknowledged, top)
            if higher:
                self._happen(Event.HIGHER, now, engine)
        elif self.state is State.ACTIVE:
            if top > before:
                self._occur(now, engine)
                engine.record(self, State.ACTIVE, now, news=True)
            elif top <= self._acknowledged and not self.latch:
                self._happen(Event.LOWER, now, engine)
        else:
            self._happen(Event.RAISED, now, engine)
        self._peak = max(self._peak, top)

    def acknowledge(self, now: float, engine: Engine) -> bool:
        """Acknowledge it. Returns whether there was anything to acknowledge."""
        if not self.needs_attention:
            return False
        self._acknowledged = self.severity
        self._happen(Event.ACKNOWLEDGE, now, engine)
        self._peak = self.severity
        return True

    def shelve(self, seconds: float, now: float, engine: Engine) -> None:
        """Shelve it for `seconds`; 0 takes it back."""
        self.shelved_until = now + seconds
        if seconds > 0:
            self._happen(Event.SHELVE, now, engine)

    def _happen(self, event: Event, now: float, engine: Engine) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            return
        before, self.state = self.state, after
        news = after is State.ACTIVE
        if news:
            if before is not State.ACKNOWLEDGED:
                self._acknowledged, self._peak = -1, -1
                self.worst = None
                self.since = now
            self._occur(now, engine)
            self._note_worst(engine.look)
        ended = before in LASTING and after not in LASTING and after is not State.SHELVED
        engine.record(self, before, now, seconds=now - self.since if ended else None, news=news)

    def _occur(self, now: float, engine: Engine) -> None:
        """A new occurrence: it asks for attention."""
        self.attention_at = now
        self._occurrences.append(now)
        was = self.intermittent
        self.intermittent = len(self._occurrences) > FLAPPING and now - self._occurrences[0] <= FLAPPING_S
        if not was:
            engine.sound(self, now)
        engine.count(self)

    # -- the record ----------------------------------------------------------------------------------------------------

    @property
    def side(self) -> Beyond | None:
        """The limit that is exceeded, or was exceeded last; None if it has none."""
        return self._side

    def value(self, look: Look) -> Value | None:
        return None if self._value is None else look(self._value)

    def _note_worst(self, look: Look) -> None:
        for level in self.levels:
            if level.raised:
                self._side = next((c for c in level.conditions if isinstance(c, Beyond) and c.on), self._side)
        side = self._side
        if side is None or not self.raised:
            return
        value = self.value(look)
        if isinstance(value, (int, float)):
            self.worst = float(value if self.worst is None else (min if side.is_low else max)(self.worst, value))


class Engine:
    """Judges alerts. One thread at a time.

    `may_count` says whether the value of a key is real, so that it counts in the totals.
    """

    def __init__(self, look: Look, may_count: Callable[[str], bool] = lambda key: True) -> None:
        self.look = look
        self.alerts: dict[str, Alert] = {}
        #: The phase of flight; empty if nobody follows it.
        self.phase = ""
        #: The phases in which no new alert below a warning is raised.
        self.hold_back: frozenset[str] = frozenset()
        #: Changes every time that a sound should be heard.
        self.tone = 0
        self.muted_until = float("-inf")
        #: Changes that have not been taken (`take_changes`), and how many were lost because nobody did.
        self.lost_changes = 0
        self.totals: dict[str, Total] = {}
        self._changes: deque[Change] = deque()
        self._may_count = may_count
        self._by_key: dict[str, list[Alert]] = {}
        #: Alerts that look at nothing, or at the age of a value: judged every time.
        self._always: list[Alert] = []
        self._busy: dict[Alert, None] = {}
        self._sound_at = float("-inf")

    def add(self, alert: Alert) -> None:
        """Add an alert. Raises ValueError if its id is taken."""
        if alert.id in self.alerts:
            raise ValueError(f"there are two alerts {alert.id}")
        self.alerts[alert.id] = alert
        keys = dict.fromkeys(reference.key for reference in alert.references)
        for key in keys:
            self._by_key.setdefault(key, []).append(alert)
        if not keys or any(isinstance(c, NoData) for level in alert.levels for c in level.conditions):
            self._always.append(alert)

    def remove(self, alert: Alert) -> None:
        """Remove an alert that looks at nothing."""
        del self.alerts[alert.id]
        self._always.remove(alert)
        self._busy.pop(alert, None)

    @property
    def keys(self) -> Iterable[str]:
        """The keys that the alerts look at."""
        return self._by_key.keys()

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, now: float, keys: Iterable[str] | None = None) -> None:
        """Judge the alerts that look at `keys`, and those that time alone may change; all if `keys` is None.

        Call it at least every tenth of a second.
        """
        if keys is None:
            due = dict.fromkeys(self.alerts.values())
        else:
            due = dict.fromkeys(alert for key in keys for alert in self._by_key.get(key, ()))
            due |= self._busy
            due |= dict.fromkeys(self._always)
        for alert in due:
            self._judge(alert, now)
        self._repeat_sound(now)

    def _judge(self, alert: Alert, now: float) -> None:
        alert.judge(now, self)
        if alert.busy:
            self._busy[alert] = None
        else:
            self._busy.pop(alert, None)

    @property
    def busy(self) -> bool:
        """Whether any alert is shown or annunciated, or may change with time alone."""
        return bool(self._busy)

    def enter_phase(self, phase: str, now: float) -> None:
        if phase != self.phase:
            self.phase = phase
            self.judge(now)

    # -- people --------------------------------------------------------------------------------------------------------

    def acknowledge(self, what: str, now: float, seen: float | None = None) -> str:
        """Acknowledge `what`: an id, the common id of a pattern, ``level:LEVEL`` or ``all``.

        Alerts that asked for attention after `seen` are left, because whoever acknowledges cannot have seen them.
        Returns why nothing was acknowledged; empty if something was.
        """
        alerts = self._named(what)
        if isinstance(alerts, str):
            return alerts
        seen = now if seen is None else seen
        done = [alert.acknowledge(now, self) for alert in alerts if alert.attention_at <= seen]
        if any(done):
            return ""
        if what in self.alerts:
            return f"{what} is {alerts[0].state.value}: there is nothing to acknowledge"
        return "there is nothing to acknowledge"

    def acknowledge_highest(self, now: float, seen: float | None = None) -> None:
        """Acknowledge what is shown of the highest level that is not acknowledged."""
        seen = now if seen is None else seen
        waiting = [alert for alert in self.alerts.values() if alert.needs_attention and alert.attention_at <= seen]
        if waiting:
            level = max(alert.severity for alert in waiting)
            for alert in waiting:
                if alert.severity == level:
                    alert.acknowledge(now, self)

    def shelve(self, what: str, seconds: float, now: float) -> str:
        """Shelve `what` (see `acknowledge`) for `seconds`; 0 takes it back. Returns why not, or an empty text."""
        alerts = self._named(what)
        if isinstance(alerts, str):
            return alerts
        for alert in alerts:
            if seconds > alert.shelve_s + EPSILON_S:
                return f"{alert.id} is a warning: it can be shelved for at most {alert.shelve_s:g} s"
        for alert in alerts:
            alert.shelve(seconds, now, self)
            self._judge(alert, now)
        return ""

    def mute(self, now: float) -> None:
        """No sound for `MUTE_S`."""
        self.muted_until = now + MUTE_S

    def _named(self, what: str) -> list[Alert] | str:
        if what == "all":
            return list(self.alerts.values())
        if what.startswith("level:"):
            level = what.removeprefix("level:")
            if level not in LEVELS:
                return f"there is no level {level!r}: the levels are {', '.join(LEVELS)}"
            return [alert for alert in self.alerts.values() if alert.level == level]
        if what in self.alerts:
            return [self.alerts[what]]
        if found := [alert for alert in self.alerts.values() if alert.group == what]:
            return found
        return f"there is no alert {what!r}{did_you_mean(what, self.alerts)}"

    # -- results -------------------------------------------------------------------------------------------------------

    def shown(self) -> list[Alert]:
        """The alerts that are shown: by level, then those that are not acknowledged, then the newest first."""
        shown = [alert for alert in self._busy if alert.shown]
        return sorted(shown, key=lambda alert: (-alert.severity, not alert.needs_attention, -alert.attention_at))

    def flags(self) -> dict[str, str]:
        """The keys to annunciate, and why."""
        reasons: dict[str, dict[str, None]] = {}
        for alert in self._busy:
            if alert.key and alert.flagged:
                reasons.setdefault(alert.key, {})[alert.text] = None
        return {key: "; ".join(texts) for key, texts in reasons.items()}

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown or annunciated, and nothing has changed since `take_changes`."""
        return not self._busy and not self._changes

    def take_changes(self) -> list[Change]:
        """The changes since the last call."""
        changes = list(self._changes)
        self._changes.clear()
        return changes

    def record(self, alert: Alert, before: State, now: float, seconds: float | None = None, news: bool = False) -> None:
        if alert.silent:
            return
        alert.silent = alert.intermittent
        side = alert.side
        if len(self._changes) >= MAX_CHANGES:
            self._changes.popleft()
            self.lost_changes += 1
        self._changes.append(
            Change(
                now,
                alert.id,
                alert.text,
                alert.level,
                before,
                alert.state,
                self.phase,
                alert.value(self.look),
                None if side is None else side.at(self.look),
                seconds,
                alert.worst if seconds is not None else None,
                news,
                alert.intermittent,
            )
        )

    # -- totals --------------------------------------------------------------------------------------------------------

    def count(self, alert: Alert) -> None:
        """Count an occurrence."""
        if alert.key and alert.side is not None and self._may_count(alert.key):
            total = self.totals.get(alert.id, Total({}))
            self.totals[alert.id] = total._replace(times=total.times + 1)

    def add_time(self, alert: Alert, level: LevelName, seconds: float) -> None:
        """Add time beyond a limit."""
        side = alert.side
        if side is None or seconds <= 0 or not self._may_count(alert.key):
            return
        total = self.totals.get(alert.id, Total({}))
        worst = total.worst
        if alert.worst is not None:
            worst = alert.worst if worst is None else (min if side.is_low else max)(worst, alert.worst)
        spent = {**total.seconds, level: total.seconds.get(level, 0.0) + seconds}
        self.totals[alert.id] = total._replace(seconds=spent, worst=worst)

    # -- sounds --------------------------------------------------------------------------------------------------------

    def sound(self, alert: Alert, now: float) -> None:
        """Sound for a new occurrence: a warning or a caution."""
        if alert.severity > 0 and now >= self.muted_until:
            self.tone = self.tone % MAX_TONE + 1
            self._sound_at = now

    def _repeat_sound(self, now: float) -> None:
        if now < max(self._sound_at + SOUND_EVERY_S, self.muted_until):
            return
        if any(a.needs_attention and a.severity == WARNING and not a.intermittent for a in self._busy):
            self.tone = self.tone % MAX_TONE + 1
            self._sound_at = now
