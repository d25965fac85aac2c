"""The long run: coverage-guided, with Atheris, one target after the other in a process of its own; see CONTRIBUTING.md.

    make fuzz MINUTES=30                        # all targets, which share the time
    make fuzz MINUTES=5 ARGS="eis nmea0183"

What it finds goes to ``build/fuzz/<target>``: inputs that reach new code, and in ``defects`` those that break
something, cut down to what matters. A defect that is mended leaves its input in the corpus.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parents[2] / "build" / "fuzz"
FOUND = 77  # exit code of a target's process: an input breaks something
HANGS_S = 20  # an input that takes longer
SHORTEST_S = 2.0  # the least time for a target, which takes
STARTS_S = 0.5  # to start


def main() -> int:
    began = time.monotonic()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("There is no Atheris for this Python and processor: only the short run in `make test` fuzzes here.")
        return 1
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    with atheris.instrument_imports(include=["fixgw"]), Quiet(os.devnull):
        from .targets import TARGETS
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz the parsers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, if none is named: {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=10.0, help="altogether (default: %(default)g)")
    args = parser.parse_args()
    names = args.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    random.shuffle(names)  # after many short runs all had their time
    end, broken = began + args.minutes * 60, []
    while names and (left := end - time.monotonic()) >= SHORTEST_S:
        name = names.pop()
        if not run(atheris, name, max(SHORTEST_S, left / (len(names) + 1))):
            broken.append(name)
    if names:
        print(f"no time was left for {', '.join(sorted(names))}")
    print(f"defects in {', '.join(sorted(broken))}" if broken else "no defect")
    return int(bool(broken))


def run(atheris: Any, name: str, seconds: float) -> bool:
    """Fuzz a target for `seconds`, or up to the first defect; returns whether there was none.

    An input that takes long, or breaks something and is cut down, may take `HANGS_S` longer.
    """
    (BUILD / name / "defects").mkdir(parents=True, exist_ok=True)
    said = BUILD / f"{name}.log"
    child = os.fork()
    if not child:
        with Quiet(said):
            fuzz(atheris, name, max(1, int(seconds - STARTS_S)))
    status = wait(child, seconds, said)
    log = said.read_text(encoding="utf-8", errors="replace")
    inputs = max(map(int, re.findall(r"^#(\d+)", log, re.MULTILINE)), default=0)
    print(f"{name}: {inputs} inputs, {'a defect' if status else 'no defect'}", flush=True)
    if status:
        print(log[log.rfind("\n#") + 1 :].partition("\n")[2], flush=True)
    return not status


def wait(child: int, seconds: float, said: Path) -> int:
    """The exit status of the process, which keeps its time once it has read the corpus. It is ended if it does not."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        late = time.monotonic() - end
        if late > 2 * HANGS_S or (late > 0 and b"INITED" not in said.read_bytes()):
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return status if late > HANGS_S else 0
        time.sleep(0.05)


def fuzz(atheris: Any, name: str, seconds: int) -> None:
    """Fuzz a target in this process, and end it."""
    from .oracle import MAX_INPUT_BYTES
    from .targets import CORPUS, TARGETS

    target = TARGETS[name]
    defects = BUILD / name / "defects"
    words = BUILD / f"{name}.words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))

    def attempt(data: bytes) -> None:
        try:
            target.check(data)
            return
        except Exception as error:
            small = smallest(target.check, data, type(error))
        path = defects / f"{time.time_ns():x}"
        path.write_bytes(small)
        print(f"{small[:1000]!r}\nin {path}")
        try:
            target.check(small)
        except Exception:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(FOUND)

    options = {
        "max_total_time": seconds,
        "max_len": MAX_INPUT_BYTES,
        "timeout": HANGS_S,
        "rss_limit_mb": 2048,
        "artifact_prefix": f"{defects}/",
        **({"dict": words} if target.words else {}),
    }
    folders = [str(BUILD / name), str(CORPUS / name)]
    atheris.Setup([sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), *folders], attempt)
    atheris.Fuzz()


def smallest(check: Callable[[bytes], None], data: bytes, kind: type[Exception]) -> bytes:
    """The input without all that it can do without and still raise an exception of this kind."""
    size = len(data) // 2
    deadline = time.monotonic() + HANGS_S / 2
    while size:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            shorter = data[:at] + data[at + size :]
            try:
                check(shorter)
            except kind:
                data = shorter
                continue
            except Exception:
                pass
            at += size
        size //= 2
    return data


class Quiet:
    """What this process prints goes to a file, even what the fuzzer in C++ prints."""

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        sys.stdout.flush()
        self._saved = [os.dup(fd) for fd in (1, 2)]
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for fd in (1, 2):
            os.dup2(file, fd)
        os.close(file)

    def __exit__(self, *exc: object) -> None:
        sys.stdout.flush()
        for fd, saved in enumerate(self._saved, 1):
            os.dup2(saved, fd)
            os.close(saved)


if __name__ == "__main__":
    sys.exit(main())
