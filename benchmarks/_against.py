"""Rows that any NetFIX gateway can be asked for: ``python -m benchmarks --against HOST:PORT [--pid PID]``.

All data comes and goes through clients of the gateway, so that nobody has to trust a harness: one writes float keys
that the gateway lists, at their mid-range; others subscribe to them. With its process on this computer, CPU, wake-ups
and memory are measured too. A gateway that others use is disturbed: the keys are really written.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

from benchmarks import Row, Rows
from benchmarks.netfix import RATE, Readers, asking, flood, percentiles, round_trips

KEYS = 100
SECONDS = 4.0
REST_S = 10.0
BURST = 10
FLOODS = ("reads", "lists", "writes", "nonsense")


class Process:
    """CPU and wake-ups of a process and its threads; nothing without a `pid`."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._cpu, self._wakeups = self._used()

    def _used(self) -> tuple[float, int]:
        if self._pid is None:
            return 0.0, 0
        stat = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        wakeups = 0
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            try:
                wakeups += int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text())[1])  # type: ignore[index]
            except FileNotFoundError:  # the thread has ended
                continue
        return cpu, wakeups

    def rows(self, name: str) -> Rows:
        """What it has used since this object was made."""
        if self._pid is None:
            return
        cpu, wakeups = self._used()
        elapsed = time.monotonic() - self._began
        yield f"{name}: CPU", 100 * (cpu - self._cpu) / elapsed, "% of a core", inf, "lower"
        yield f"{name}: wake-ups", (wakeups - self._wakeups) / elapsed, "/s", inf, "lower"

    def memory(self) -> Rows:
        if self._pid is None:
            return
        text = Path(f"/proc/{self._pid}/smaps_rollup").read_text()
        for name, field in (("resident", "Rss"), ("anonymous", "Anonymous")):
            kilobytes = int(re.search(rf"\n{field}:\s*(\d+)", text)[1])  # type: ignore[index]
            yield f"at rest: {name} memory", kilobytes / 1024, "MiB", inf, "lower"


class Gateway:
    """The gateway to measure, and `KEYS` of its float keys, each with a value in the middle of its range."""

    def __init__(self, host: str, port: int, pid: int | None) -> None:
        self.host, self.port, self.pid = host, port, pid
        self._sock = socket.create_connection((host, port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._sock.makefile("r", encoding="utf-8", newline="\n")
        self.values: dict[str, float] = {}
        for key in self._list():
            _, _, kind, low, high, *_ = self._ask(f"@q{key}").split(";")
            if kind == "float" and len(self.values) < KEYS:
                self.values[key] = (float(low) + float(high)) / 2
        if not self.values:
            raise ConnectionError("the gateway has no float keys")

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()
        self._sock.close()

    def _ask(self, command: str) -> str:
        self._sock.sendall(f"{command}\n".encode())
        return self._answer(command)

    def _answer(self, command: str) -> str:
        for line in self._lines:
            if line.startswith(command):
                return line.strip()
        raise ConnectionError(f"no answer to {command}")

    def _list(self) -> list[str]:
        keys: list[str] = []
        answer = self._ask("@l")
        while True:  # some gateways answer in several lines
            total, _, more = answer.removeprefix("@l").split(";", 2)
            keys += more.split(",")
            if len(keys) >= int(total):
                return keys
            answer = self._answer("@l")

    def write(self, seconds: float, burst: int, but: str = "") -> int:
        """Write every key `RATE` times a second, `burst` of them at a time. Returns the number of rounds."""
        pairs = [(key, value) for key, value in self.values.items() if key != but]
        groups = [pairs[at : at + burst] for at in range(0, len(pairs), burst)]
        start, rounds = time.monotonic(), int(seconds * RATE)
        for n in range(rounds * len(groups)):
            delay = start + n / (RATE * len(groups)) - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            group = groups[n % len(groups)]
            self._sock.sendall("".join(f"{key};{value + n % 2 * 1e-3};000\n" for key, value in group).encode())
        return rounds

    def fan_out(self, clients: int, burst: int) -> Rows:
        name = f"{len(self.values)} keys x {RATE} Hz in bursts of {burst}, {clients} client{'s' * (clients > 1)}"
        readers = Readers(self.port, clients, list(self.values), self.host)
        process = Process(self.pid)
        rounds = self.write(SECONDS, burst)
        yield from process.rows(name)
        delivered = readers.stop() / (rounds * len(self.values) * clients)
        yield f"{name}: delivered", 100 * delivered, "%", 0.0, "higher"

    def round_trips(self, clients: int) -> Rows:
        """From one client's write to another client, with `clients` that get all keys."""
        context = multiprocessing.get_context("spawn")
        key, value = next(reversed(self.values.items()))
        readers = Readers(self.port, clients, list(self.values)[:-1], self.host) if clients else None
        pipe, theirs = context.Pipe()
        process = context.Process(target=round_trips, args=(self.port, 300, theirs, self.host, key, value), daemon=True)
        process.start()
        pipe.recv()
        while not pipe.poll():
            if clients:
                self.write(0.5, BURST, but=key)
            else:
                time.sleep(0.05)
        p50, p99 = percentiles(pipe.recv())
        process.join()
        if readers is not None:
            readers.stop()
        name = f"client -> gateway -> client, {clients} clients with {len(self.values)} keys x {RATE} Hz"
        yield f"{name}: p50", p50 / 1000, "ms", inf, "lower"
        yield f"{name}: p99", p99 / 1000, "ms", inf, "lower"

    def flooded(self, what: str) -> Rows:
        """A client's requests while five others send requests as fast as the gateway takes them."""
        key = next(iter(self.values))
        text = {
            "reads": "".join(f"@r{each}\n" for each in self.values),
            "lists": "@l\n" * 100,
            "writes": "".join(f"{each};{value};000\n" for each, value in self.values.items()),
            "nonsense": "?\n" * 1000,
        }[what]
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        attacker = context.Process(target=flood, args=(self.port, text, 5, theirs, self.host), daemon=True)
        attacker.start()
        ours.recv()
        pipe, other = context.Pipe()
        process = context.Process(target=asking, args=(self.port, 300, other, self.host, key), daemon=True)
        process.start()
        pipe.recv()
        p50, p99 = percentiles(pipe.recv())
        process.join()
        ours.send("stop")
        attacker.join()
        yield f"a client asks while 5 others flood, {what}: p50", p50 / 1000, "ms", inf, "lower"
        yield f"a client asks while 5 others flood, {what}: p99", p99 / 1000, "ms", inf, "lower"

    def rows(self) -> Iterator[Row]:
        process = Process(self.pid)
        time.sleep(REST_S if self.pid is not None else 0.0)
        yield from process.rows("at rest")
        yield from process.memory()
        yield from self.round_trips(0)
        for clients in (1, 2, 10, 50):
            yield from self.fan_out(clients, BURST)
        for clients in (10, 50):
            yield from self.round_trips(clients)
        for what in FLOODS:
            yield from self.flooded(what)
