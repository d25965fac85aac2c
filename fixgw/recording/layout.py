"""The messages of a recording: in which channel a key is recorded, and what the messages contain. No files.

Every message is JSON. A channel of values has those of its keys that changed, ``{"IAS": 101.5}``, null for an item that
was never written. The channels with a meaning of their own are the constants below; their messages are

- `FLAGS` ``{"IAS": "01000"}``, annunciate, old, bad, fail, secfail, when they change;
- `REASONS` ``{"IAS": {"old": "no data for 2 s"}}``, when they change;
- `SOURCES` ``{"IAS": "eis"}``, when they change;
- `AUX` ``{"IAS.Vne": 150.0}``, when they change;
- `ALERTS`, one change of an alert: ``id``, ``text``, ``level``, ``from``, ``to``, ``phase`` and more;
- `STATUS`, the status tree of the gateway, once a minute;
- `TIME` ``{"monotonic": 12.5, "utc": 1778940300.2, "boot": "..."}``, seconds; ``utc`` is null while nobody knows it.

Raw data of the connections is in channels whose names begin with one of `RAW`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import msgspec

__all__ = [
    "ALERTS",
    "AUX",
    "FLAGS",
    "GROUPS",
    "MEANINGS",
    "RAW",
    "REASONS",
    "SOURCES",
    "STATUS",
    "TIME",
    "TOPICS",
    "decode",
    "encode",
    "flag_bits",
    "holds_values",
    "topic_of",
]

FLAGS = "/flags"
REASONS = "/reasons"
SOURCES = "/sources"
AUX = "/aux"
ALERTS = "/alerts"
STATUS = "/status"
TIME = "/time"
MEANINGS = (TIME, FLAGS, REASONS, SOURCES, AUX, ALERTS, STATUS)
RAW = ("/raw/", "/can/")

#: The channels of values, each with the keys in it. The first that fits wins.
GROUPS: dict[str, tuple[str, ...]] = {
    "/controls": ("*BTN*", "ENC*", "CTL*", "TRIM*", "DIM", "HIDEBUTTON", "PITCHSET"),
    "/radio": ("COM*",),
    "/tires": ("TIRE*",),
    "/autopilot": ("MAV*",),
    "/system": (
        *("ALERT*", "MASTER*", "FLTPHASE", "QVOTE*", "LEADER", "TIME*", "TZONE", "*VERSION", "ZZLOADER", "ACID"),
        *("BAT_*", "POWER_FAIL"),
    ),
    "/gps": ("LAT", "LONG", "GS", "TRACK", "TRACKM", "TALT", "GPS_*"),
    "/navigation": ("COURSE", "CDI", "GSI", "XTRACK", "WP*", "MAGVAR", "SUNRISE", "SUNSET"),
    "/engine": (
        *("TACH*", "PROP*", "MAP*", "FUEL*", "OIL*", "H2OT*", "EGT*", "CHT*", "VOLT", "CURRNT", "THR*", "MIX*"),
        *("POWER*", "LEAN*", "GAMI*", "CAT", "HOBBS*", "ENDUR", "RANGE", "FTIME"),
    ),
    "/flight": ("*",),
}

#: All of these channels, with the encoding of their messages.
TOPICS = dict.fromkeys((*MEANINGS, *GROUPS), "json")

encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(dict[str, Any])


def decode(data: bytes) -> dict[str, Any]:
    """The contents of a message. Raises ValueError for one that is not ours."""
    try:
        return _decoder.decode(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@lru_cache(4096)
def topic_of(key: str) -> str:
    """The channel in which the values of `key` are recorded.

    >>> topic_of("EGT11"), topic_of("IAS")
    ('/engine', '/flight')
    """
    return next(topic for topic, patterns in GROUPS.items() if any(fnmatchcase(key, p) for p in patterns))


def holds_values(topic: str) -> bool:
    """Whether the messages of `topic` are values of keys, in our recordings or another's."""
    return topic not in MEANINGS and not topic.startswith(RAW)


def flag_bits(text: Any) -> int:
    """The bits of flags that are written as ``"01000"``. Raises ValueError.

    >>> flag_bits("01000")
    8
    """
    if not isinstance(text, str) or len(text) != 5 or set(text) - {"0", "1"}:
        raise ValueError(f"{text!r} are not flags")
    return int(text, 2)
