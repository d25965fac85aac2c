"""Other commands of ours, each in a process of its own: what they import and compute does not burden the gateway."""

from __future__ import annotations

import subprocess
import sys
from typing import IO

SECONDS = 60.0  # the longest time for one
NICENESS = 10


def printed(*words: str) -> bytes:
    """The JSON that ``fixgw WORDS`` prints. Raises ValueError with what it complains about."""
    done = _run(subprocess.PIPE, *words)
    if done.stdout[:1] not in (b"{", b"["):
        raise ValueError(_complaint(done))
    return done.stdout


def write(out: IO[bytes], *words: str) -> None:
    """Write what ``fixgw WORDS`` prints to the file `out`. Raises ValueError with what it complains about."""
    done = _run(out, *words)
    if done.returncode:
        raise ValueError(_complaint(done))


def _run(out: IO[bytes] | int, *words: str) -> subprocess.CompletedProcess[bytes]:
    # The interpreter lowers its own priority: code between fork and exec is not safe in a process with threads.
    start = f"import os, sys; os.nice({NICENESS}); from fixgw.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, *words]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"`fixgw {words[0]}` takes too long") from None


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode("utf-8", "replace").strip()[:500] or "it has failed"
