"""Golden captures: what the drivers make of recorded data is what it was before.

    check(Path("co_guard.mcap"), Path("co_guard.txt"))

`check` raises AssertionError, with the first difference and what surrounds it. The format of captures and outcomes is
that of `fixgw replay`.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from fixgw import state
from fixgw.rawreplay import load, replay
from fixgw.recording import golden
from fixgw.recording.capture import Capture, open_capture
from fixgw.recording.golden import Line


def outcome(capture: Capture, config: Path | None = None) -> list[Line]:
    """Every change of a value, and everything sent. `config` is the configuration, if the capture has none or another.

    Raises AssertionError if a plugin fails, or if the configuration and the capture do not fit.
    """
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="fixgw-golden-") as directory:
        loaded = load(None if config is None else str(config), capture, Path(directory))
        done = replay(loaded, capture, lines.append, sent=True)
    assert not done.failed, f"a plugin failed: {done.failed}"
    assert done.replayed, f"nothing was replayed: {done.left_out}"
    assert not done.silent, f"{capture.path} has no data of {', '.join(done.silent)}"
    assert not done.unknown, f"no connection reads {', '.join(done.unknown)}"
    assert lines, f"the data in {capture.path} change nothing"
    return lines


def check(
    capture: Path, expected: Path | None = None, config: Path | None = None, connection: str = "", update: bool = False
) -> None:
    """Compare the outcome of `capture` with the one in `expected` (default: beside it, with the suffix ``.txt``).

    `connection` names the connection or bus of a file with the data of one link. `update` writes `expected` anew.
    """
    expected = expected or capture.with_suffix(".txt")
    with closing(open_capture(capture, connection)) as opened:
        now = outcome(opened, config)
    known = expected.read_text("utf-8") if expected.exists() else ""
    if update:
        state.replace(expected, golden.text(now, known).encode())
        return
    assert expected.exists(), f"there is no {expected}: run pytest with --golden-update, and read what it writes"
    lines = known.splitlines()
    difference = golden.compare(list(golden.read(lines)), now, golden.tolerances_in(lines))
    assert difference.equal, "\n".join([f"{expected.name}:", *difference.words()])
