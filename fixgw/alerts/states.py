"""The states of an alert, and what changes them: `TRANSITIONS`. The tables in the documentation are drawn from here."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["FACES", "TRANSITIONS", "Event", "Face", "State"]


class State(enum.Enum):
    """The states of an alert."""

    NORMAL = "normal"
    PENDING = "pending"
    ACTIVE = "active"
    ACKNOWLEDGED = "acknowledged"
    LATCHED = "latched"
    INHIBITED = "inhibited"
    SHELVED = "shelved"


class Event(enum.Enum):
    """What happens to an alert, in words."""

    MET = "its condition is true"
    BROKEN = "its condition is false"
    RAISED = "its condition has been true for `on_delay`"
    HIGHER = "a higher level is reached"
    LOWER = "it falls back to a level that was acknowledged"
    CLEARED = "its condition has been false for `off_delay`"
    LEFT = "its condition has been false for `off_delay`, and `latch: yes`"
    ACKNOWLEDGE = "somebody acknowledges it"
    INHIBIT = "`inhibit` is true, or the phase is not one of `phases`"
    RELEASE = "the inhibition ends; delays begin anew"
    SHELVE = "somebody shelves it"
    UNSHELVE = "the time is over, or somebody takes it back"


class Face(NamedTuple):
    """How a state presents itself: in the list of what is shown, with attention, and with its key annunciated."""

    shown: bool = False
    attention: bool = False
    flagged: bool = False


FACES: dict[State, Face] = {
    State.NORMAL: Face(),
    State.PENDING: Face(),
    State.ACTIVE: Face(shown=True, attention=True, flagged=True),
    State.ACKNOWLEDGED: Face(shown=True, flagged=True),
    State.LATCHED: Face(shown=True, attention=True),
    State.INHIBITED: Face(),
    State.SHELVED: Face(flagged=True),  # while its condition lasts
}

#: All changes of state. An event that has no entry for a state changes nothing.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NORMAL, Event.MET): State.PENDING,
    (State.NORMAL, Event.RAISED): State.ACTIVE,
    (State.PENDING, Event.BROKEN): State.NORMAL,
    (State.PENDING, Event.RAISED): State.ACTIVE,
    (State.ACTIVE, Event.ACKNOWLEDGE): State.ACKNOWLEDGED,
    (State.ACTIVE, Event.LOWER): State.ACKNOWLEDGED,
    (State.ACTIVE, Event.CLEARED): State.NORMAL,
    (State.ACTIVE, Event.LEFT): State.LATCHED,
    (State.ACKNOWLEDGED, Event.HIGHER): State.ACTIVE,
    (State.ACKNOWLEDGED, Event.CLEARED): State.NORMAL,
    (State.LATCHED, Event.ACKNOWLEDGE): State.NORMAL,
    (State.LATCHED, Event.RAISED): State.ACTIVE,
    (State.INHIBITED, Event.RELEASE): State.NORMAL,
    (State.SHELVED, Event.UNSHELVE): State.NORMAL,
}
for _state in State:
    if _state not in (State.INHIBITED, State.SHELVED):
        TRANSITIONS[_state, Event.INHIBIT] = State.INHIBITED
    if _state is not State.SHELVED:
        TRANSITIONS[_state, Event.SHELVE] = State.SHELVED
