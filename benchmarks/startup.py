"""The time until `fixgw run` serves clients, and its memory then, with the packaged configuration on a free port."""

from __future__ import annotations

import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from benchmarks import Rows

STARTS = 7
START_LIMIT_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def gateway(everything: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """`fixgw run` in a separate process, and the seconds from its start until NetFIX accepts a client.

    `everything` loads every connection of the configuration, even those whose devices are missing.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("fixgw.config")) as packaged:
        tree = Path(folder) / "config"
        shutil.copytree(packaged, tree)
        main = tree / "default.yaml"
        text = main.read_text().replace("port: 3490", f"port: {port}")
        main.write_text(text.replace("load: no", "load: yes") if everything else text)
        command = [sys.executable, "-m", "fixgw", "run", "--config-file", str(main)]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not accepts(port):
                if process.poll() is not None or time.perf_counter() - begun > START_LIMIT_S:
                    raise RuntimeError(f"the gateway does not accept clients (exit code {process.returncode})")
                time.sleep(0.001)
            yield process, time.perf_counter() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def start_time() -> float:
    """Seconds: the median of several starts, after one to warm the caches."""
    times = []
    for _ in range(1 + STARTS):
        with gateway() as (_, seconds):
            times.append(seconds)
    return statistics.median(times[1:])


def resident(everything: bool = False, settle: float = 1.0) -> float:
    """MiB of resident memory `settle` seconds after the start."""
    with gateway(everything) as (process, _):
        time.sleep(settle)
        status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def rows() -> Rows:
    yield "start to serving, default configuration", start_time(), "s", 0.35, "lower"
    yield "resident memory, default configuration", resident(), "MiB", 28.0, "lower"
    yield "resident memory, every connection loaded", resident(everything=True), "MiB", 45.0, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["startup"]))
