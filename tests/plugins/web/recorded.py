"""Recordings that a test tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixgw.recording.container import Writer
from fixgw.recording.layout import encode

MONOTONIC, UTC = 1000.0, 1_778_940_300.0  # when `record` begins


def record(path: Path, *told: tuple[float, str, dict[str, Any]], sources: str = "eis", finish: bool = True) -> None:
    """Write a recording of what is told: seconds from the beginning, channel, contents."""
    writer = Writer(path.with_suffix(".mcap.part"), {}, {"definitions.json": encode({"EGT11": {"units": "degC"}})})
    writer.write_time(MONOTONIC, UTC, "boot")
    messages = [(0.0, "/sources", {"EGT11": sources}), *told]
    for at, topic, content in messages:
        writer.write(topic, encode(content), round((MONOTONIC + at) * 1e9), round((UTC + at) * 1e9))
    if finish:
        writer.finish()
    else:
        writer.sync()
        writer.abandon()
