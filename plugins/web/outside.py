"""Other commands of ours, each in a process of its own: what they import and compute does not burden the gateway."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import IO

from fixgw.plugins.web.hub import TooBusy

SECONDS = 60.0  # the longest time for one
NICENESS = 10
MOST = 2  # at the same time

_running: set[subprocess.Popen[bytes]] = set()


def printed(*words: str, program: str = "fixgw.cli") -> bytes:
    """The JSON that ``fixgw WORDS``, or the function `main` of another module, prints.

    Raises ValueError with what it complains about, and `TooBusy`.
    """
    said, complaint, _ = _run(subprocess.PIPE, *words, program=program)
    if said[:1] not in (b"{", b"["):
        raise ValueError(complaint)
    return said


def write(out: IO[bytes], *words: str) -> None:
    """Write what ``fixgw WORDS`` prints to the file `out`. Raises the same."""
    _, complaint, code = _run(out, *words)
    if code:
        raise ValueError(complaint)


def end_all() -> None:
    """Kill what is still running, so that nothing waits for it. Any thread."""
    for process in [*_running]:
        with suppress(OSError):
            process.kill()


def _run(out: IO[bytes] | int, *words: str, program: str = "fixgw.cli") -> tuple[bytes, str, int]:
    # The interpreter lowers its own priority: code between fork and exec is not safe in a process with threads.
    start = f"import os, sys; os.nice({NICENESS}); from {program} import main; sys.exit(main(sys.argv[1:]))"
    if len(_running) >= MOST:
        raise TooBusy
    process = subprocess.Popen(
        [sys.executable, "-c", start, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE
    )
    _running.add(process)
    try:
        said, complaint = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it takes longer than {SECONDS:.0f} s, and was ended") from None
    finally:
        _running.discard(process)
        process.kill()
        process.wait()
    return said or b"", complaint.decode("utf-8", "replace").strip()[:500] or "it has failed", process.returncode
