"""The names of an autopilot's modes, which differ between firmwares and kinds of aircraft.

Facts from the message definitions of mavlink/mavlink (July 2026): MAV_AUTOPILOT, MAV_TYPE, PLANE_MODE, COPTER_MODE; and
PX4's custom modes.
"""

from __future__ import annotations

ARDUPILOT, NO_AUTOPILOT, PX4 = 3, 8, 12
GROUND_STATION, ADSB_RECEIVER = 6, 27
NOT_VEHICLES = frozenset((GROUND_STATION, ADSB_RECEIVER))
#: Aeroplanes, with and without rotors to take off: ArduPlane flies them.
AEROPLANES = frozenset((1, *range(19, 26)))
COPTERS = frozenset((2, 3, 4, 13, 14, 15, 29))

#: The modes that displays know and that may be asked for, by the name that displays use, with ArduPlane's number.
REQUESTABLE = {"TRIM": 0, "CRUISE": 7, "AUTOTUNE": 8, "AUTO": 10, "GUIDED": 15}

_PLANE = (
    *("TRIM", "CIRCLE", "STABILIZE", "TRAINING", "ACRO", "FBWA", "FBWB", "CRUISE", "AUTOTUNE", "", "AUTO", "RTL"),
    *("LOITER", "TAKEOFF", "AVOID_ADSB", "GUIDED", "INITIALISING", "QSTABILIZE", "QHOVER", "QLOITER", "QLAND"),
    *("QRTL", "QAUTOTUNE", "QACRO", "THERMAL", "LOITER_ALT_QLAND", "AUTOLAND"),
)
_COPTER = (
    *("STABILIZE", "ACRO", "ALT_HOLD", "AUTO", "GUIDED", "LOITER", "RTL", "CIRCLE", "", "LAND", "", "DRIFT", ""),
    *("SPORT", "FLIP", "AUTOTUNE", "POSHOLD", "BRAKE", "THROW", "AVOID_ADSB", "GUIDED_NOGPS", "SMART_RTL"),
    *("FLOWHOLD", "FOLLOW", "ZIGZAG", "SYSTEMID", "AUTOROTATE", "AUTO_RTL"),
)
_PX4_MAIN = ("", "MANUAL", "ALTITUDE", "POSITION", "AUTO", "ACRO", "OFFBOARD", "STABILIZED", "RATTITUDE")
_PX4_AUTO = ("", "READY", "TAKEOFF", "LOITER", "MISSION", "RTL", "LAND", "", "FOLLOW", "PRECLAND")


def is_arduplane(autopilot: int, kind: int) -> bool:
    """Whether ArduPlane's numbers of modes are valid; `kind` is a MAV_TYPE."""
    return autopilot == ARDUPILOT and kind in AEROPLANES


def mode_name(autopilot: int, kind: int, custom_mode: int) -> str:
    """The mode's name, or its number if it has no name here.

    >>> mode_name(3, 1, 7), mode_name(3, 2, 0), mode_name(12, 1, 0x03040000), mode_name(3, 10, 4)
    ('CRUISE', 'STABILIZE', 'AUTO LOITER', 'MODE 4')
    """
    if is_arduplane(autopilot, kind):
        name = _named(_PLANE, custom_mode)
    elif autopilot == ARDUPILOT and kind in COPTERS:
        name = _named(_COPTER, custom_mode)
    elif autopilot == PX4:
        main, sub = custom_mode >> 16 & 0xFF, custom_mode >> 24 & 0xFF
        name = _named(_PX4_MAIN, main)
        if name == "AUTO" and sub:
            name += " " + (_named(_PX4_AUTO, sub) or str(sub))
    else:
        name = ""
    return name or f"MODE {custom_mode}"


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else ""
