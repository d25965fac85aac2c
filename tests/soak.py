"""A soak test: hours of the demonstration of everything, with faults, and clients that come, go, stall or babble.

    make soak HOURS=2

Prints memory, descriptors, threads and CPU every minute, and their drift at the end. The exit code is 1 if the gateway
died, kept a client waiting, logged a traceback, did not recover from the faults, or grew.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from fixgw.errors import NetfixError
from fixgw.hw_sim.everything import NAMES
from fixgw.netfix import Client

SAMPLE_S = 60.0
QUIET_S = 90.0  # without faults, at the end: everything must recover
ANSWER_S = 5.0  # within which the gateway answers, even on a busy machine
NODES = ("air", "ahrs", "engine", "fuel", "gps", "controls", "panel")
NODE_FAULTS = (
    "silent",
    "power-off",
    "bus-off",
    "deaf",
    "frozen",
    "failed",
    "suspect",
    "wrong-length",
    "bit-flips",
    "stuck",
)
WIRE_FAULTS = ("truncate", "unplug", "silent", "bit-flips", "drop", "garbage", "stuck")
#: Growth per hour that indicates a leak.
MOST_MIB, MOST_DESCRIPTORS, MOST_THREADS = 2.0, 2.0, 2.0


class Sample(NamedTuple):
    at: float  # s
    mib: float
    descriptors: int
    threads: int
    cpu: float  # s used so far


def scenario(seconds: float, seed: int) -> str:
    """Faults of nodes and instruments, one every ten seconds or so, the last of them over before `QUIET_S`."""
    dice = random.Random(seed)
    lines = [f"description: soak, seed {seed}", "events:"]
    at = 20.0
    while at < seconds - QUIET_S - 10.0:
        lasts = dice.choice((2, 3, 5, 8))
        if dice.random() < 0.5:
            lines.append(
                f"  - {{at: {at:.1f}, node: {dice.choice(NODES)}, fault: {dice.choice(NODE_FAULTS)}, for: {lasts}}}"
            )
        else:
            name = dice.choice(
                [name for name in NAMES if name in ("gnx", "skyview", "tp3", "shadin", "arduino", "g3x")]
            )
            lines.append(f"  - {{at: {at:.1f}, instrument: {name}, fault: {dice.choice(WIRE_FAULTS)}, for: {lasts}}}")
        at += dice.uniform(5.0, 20.0)
    return "\n".join(lines) + "\n"


def sample(pid: int, since: float) -> Sample:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    threads, descriptors = len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(time.monotonic() - since, resident / 2**20, descriptors, threads, cpu)


def drift(samples: list[Sample], field: str) -> float:
    """Growth per hour: the slope of the best line through the samples, the first tenth left out."""
    settled = samples[len(samples) // 10 :]
    if len(settled) < 3:
        return 0.0
    line = statistics.linear_regression([s.at / 3600.0 for s in settled], [float(getattr(s, field)) for s in settled])
    return line.slope


class Visitors:
    """Clients of all kinds, on their own threads, until `stop`."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.stopping = threading.Event()
        self.troubles: list[str] = []
        self.served = 0
        kinds = (self._display, self._display, self._reader, self._vanisher, self._staller, self._babbler)
        self._threads = [
            threading.Thread(target=self._again, args=(kind, random.Random(seed + n)), daemon=True)
            for n, kind in enumerate(kinds)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(30.0)

    def _again(self, kind: object, dice: random.Random) -> None:
        while not self.stopping.wait(dice.uniform(0.1, 3.0)):
            try:
                kind(dice)  # type: ignore[operator]
            except (NetfixError, OSError) as error:
                self.troubles.append(f"{getattr(kind, '__name__', kind)}: {error}")

    def _display(self, dice: random.Random) -> None:
        with Client("127.0.0.1", self.port, timeout=ANSWER_S) as client:
            for key in dice.sample(client.list(), 60):
                client.subscribe(key, lambda sample: None)
            self.stopping.wait(dice.uniform(5.0, 60.0))
            client.read("IAS")
            self.served += 1

    def _reader(self, dice: random.Random) -> None:
        with Client("127.0.0.1", self.port, timeout=ANSWER_S) as client:
            keys = client.list()
            for _ in range(50):
                client.read(dice.choice(keys))
                self.served += 1
            client.write("BARO", round(dice.uniform(29.0, 31.0), 2))
            client.status()

    def _vanisher(self, dice: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_S) as sock:
            sock.sendall(b"@sIAS\n@sALT\n@l\n" * dice.randrange(1, 20))
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # a reset instead of a normal close

    def _staller(self, dice: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_S) as sock:
            sock.sendall(
                b"".join(b"@s%s\n" % key for key in (b"IAS", b"ALT", b"PITCH", b"ROLL", b"HEAD")) + b"@l\n" * 50
            )
            self.stopping.wait(dice.uniform(10.0, 90.0))

    def _babbler(self, dice: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_S) as sock:
            sock.sendall(dice.randbytes(dice.randrange(1, 20_000)) + b"\n")
            self.stopping.wait(dice.uniform(0.0, 1.0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    seconds = args.hours * 3600.0
    print(f"{args.hours:g} hours, seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "soak.yaml"
        file.write_text(scenario(seconds, args.seed))
        command = [
            sys.executable,
            "-m",
            "fixgw",
            "demo",
            "--everything",
            "--port",
            "0",
            "--scenario",
            str(file),
            "--verbose",
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        try:
            return soak(process, seconds, args.seed)
        finally:
            process.kill()
            process.wait()


def soak(process: subprocess.Popen[str], seconds: float, seed: int) -> int:
    log: list[str] = []
    port = 0
    assert process.stdout is not None
    output = iter(process.stdout.readline, "")
    for line in output:
        log.append(line)
        if found := re.search(r"watch --port (\d+)", line):
            port = int(found[1])
            break
    if not port:
        print("".join(log), "the demonstration did not start", sep="\n")
        return 1
    threading.Thread(target=lambda: log.extend(output), daemon=True).start()
    visitors = Visitors(port, seed)
    since = time.monotonic()
    samples: list[Sample] = []
    while (now := time.monotonic() - since) < seconds and process.poll() is None:
        if now > seconds - QUIET_S:
            visitors.stop()
        samples.append(sample(process.pid, since))
        print(
            f"{samples[-1].at / 60:6.1f} min  {samples[-1].mib:6.1f} MiB  {samples[-1].descriptors:4} descriptors  "
            f"{samples[-1].threads:3} threads  {samples[-1].cpu:8.1f} s CPU  {visitors.served} answers",
            flush=True,
        )
        del log[:-20_000]
        time.sleep(max(0.0, min(SAMPLE_S, seconds - now)))
    wrong = verdicts(process, port, visitors, samples, log)
    print(
        *(f"{field}: {drift(samples, field):+.2f} an hour" for field in ("mib", "descriptors", "threads")),
        f"CPU: {100 * samples[-1].cpu / max(samples[-1].at, 1.0):.1f} % of a core",
        *(f"WRONG: {text}" for text in wrong),
        sep="\n",
    )
    return 1 if wrong else 0


def verdicts(
    process: subprocess.Popen[str], port: int, visitors: Visitors, samples: list[Sample], log: list[str]
) -> list[str]:
    if process.poll() is not None:
        return [f"the gateway ended with {process.returncode}", *log[-20:]]
    wrong = [f"a client: {trouble}" for trouble in visitors.troubles[:10]]
    with Client("127.0.0.1", port, timeout=ANSWER_S) as client:
        status = client.status()
    if status["health"] != "ok":
        wrong.append(f"after the faults: {status['summary']}")
    if tracebacks := sum("Traceback" in line for line in log):
        wrong.append(f"{tracebacks} tracebacks in the log")
    for field, most in (("mib", MOST_MIB), ("descriptors", MOST_DESCRIPTORS), ("threads", MOST_THREADS)):
        if len(samples) >= 30 and drift(samples, field) > most:
            wrong.append(f"{field} grew by {drift(samples, field):.2f} an hour")
    process.send_signal(signal.SIGTERM)
    try:
        if code := process.wait(20):
            wrong.append(f"it ended with {code}")
    except subprocess.TimeoutExpired:
        wrong.append("SIGTERM was not obeyed within 20 s")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
