"""`anonymise`: writes a capture without what says who and where the aircraft was, to give it to others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from fixgw.kit.anonymous import LATITUDES, Shift
from fixgw.kit.raw import Heard
from fixgw.recording import layout, raw
from fixgw.recording.capture import McapCapture, write_raw
from fixgw.recording.container import PART, SUFFIX, McapRecording, Writer

__all__ = ["Hook", "anonymise", "latitude_in"]

#: Returns the entries of a link without what is private, or None if that is not possible; see `PluginBase.anonymise`.
Hook = Callable[[list[Heard], Shift, bool], list[Heard] | None]
#: The channels that are kept besides those of values; what they say is not private.
KEPT = (layout.FLAGS, layout.SOURCES, layout.AUX)
FACTS = ("version", "simulated", "engine hours")


def latitude_in(recording: McapRecording) -> float | None:
    """A latitude in the values of a recording, for `Shift.random`; None if there is none."""
    for message in recording.messages(*layout.GROUPS):
        for key, value in _content(message.data).items():
            if key in LATITUDES and isinstance(value, (int, float)) and value:
                return float(value)
    return None


def anonymise(source: Path, target: Path, hooks: Mapping[str, Sequence[Hook]], shift: Shift) -> list[str]:
    """Write `source` to `target` without positions and names. Returns the names of the links that are left out.

    `hooks` are those of each link, by the name under which it was recorded; one that returns something suffices. Raises
    `RecordingError`, and OSError, FileExistsError among them.
    """
    with closing(McapCapture(source)) as capture:
        recording = capture.recording
        facts = {k: str(recording.about.more[k]) for k in FACTS if recording.about.more.get(k)}
        part = target.with_name(target.name.removesuffix(SUFFIX) + PART)
        writer = Writer(part, {**facts, "anonymised": "true"}, recording.attachments)
        try:
            left_out = _copy(recording, writer, hooks, shift, capture.start)
            writer.finish(None, target)
        except BaseException:
            writer.abandon()
            part.unlink(missing_ok=True)
            raise
        return left_out


def _copy(
    recording: McapRecording, writer: Writer, hooks: Mapping[str, Sequence[Hook]], shift: Shift, start: float
) -> list[str]:
    links: dict[str, list[Heard]] = {}
    for message in recording.messages():
        if name := raw.is_raw(message.topic):
            links.setdefault(name, []).extend(raw.decode(name, message.data))
        elif message.topic == layout.TIME:
            content = _content(message.data)
            if isinstance(content.get("monotonic"), (int, float)):
                utc = content.get("utc")
                writer.write_time(content["monotonic"], utc if isinstance(utc, (int, float)) else None, "")
        elif message.topic in KEPT:
            writer.write(message.topic, message.data, message.stamp, None)
        elif layout.holds_values(message.topic):
            content = {key: shift.value(key, value) for key, value in _content(message.data).items()}
            writer.write(message.topic, layout.encode(content), message.stamp, None)
    left_out, entries = [], []
    for name, heard in links.items():
        users = hooks.get(name, ())
        clean = next((c for hook in users if (c := hook(heard, shift, len(users) == 1)) is not None), None)
        if clean is None:
            left_out.append(name)
        else:
            entries += clean
    entries.sort(key=lambda heard: heard.stamp)
    write_raw(writer, entries, start)
    return sorted(left_out)


def _content(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}
