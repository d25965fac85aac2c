"""What the page costs: five browsers that follow 365 keys, each written and sent twenty times a second.

Two processes write the same values, one of them with the page and its browsers. They take turns, and the median of the
differences of their processor time counts, so that other work on the machine hardly matters. The browsers are sockets
of this process, which reads and forgets.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from statistics import median

from benchmarks import Rows

KEYS, RATE_HZ, BROWSERS = 365, 20.0, 5
TURNS, TURN_S = 7, 2.0


def gateway(with_page: bool) -> None:
    """Write values for `TURN_S` for each line of the input, and print the seconds of processor time that this took."""
    from fixgw import world
    from fixgw.database import Database, Definition

    import_module("fixgw.gateway")  # with all that a gateway has
    db = Database(Definition(key=f"KEY{n}", tolerance=2000, max=1e9) for n in range(KEYS))
    db.start()
    port = 0
    if with_page:
        from fixgw.plugins.web import Plugin

        with world.World(db).hosting():
            page = Plugin("web", {"port": 0, "rate": 50})
        page.start()
        port = page.port
    print(port, flush=True)
    items = db.items()
    n = 0
    while sys.stdin.readline():
        began, cost = time.monotonic(), time.process_time()
        for turn in range(int(TURN_S * RATE_HZ)):
            for item in items:
                n += 1
                item.write(n * 0.1, "adc/1", 0)
            time.sleep(max(0.0, began + (turn + 1) / RATE_HZ - time.monotonic()))
        print(time.process_time() - cost, flush=True)
    os._exit(0)


class Browsers:
    """Sockets that follow everything, read by a thread."""

    def __init__(self, port: int, count: int) -> None:
        self.first_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._ends = False
        for _ in range(count):
            began = time.monotonic()
            sock = self._open(port)
            while len(sock.recv(65536)) < 2000:  # the first values
                pass
            self.first_s = max(self.first_s, time.monotonic() - began)
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _open(self, port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), 10)
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"127.0.0.1:{port}"
        lines = (
            "GET /api/v1/stream HTTP/1.1",
            f"Host: {host}",
            f"Origin: http://{host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        )
        sock.sendall("\r\n".join((*lines, "", "")).encode())
        text = json.dumps({"keys": "*", "rate": RATE_HZ}).encode()
        sock.sendall(struct.pack("!BB4x", 0x81, 0x80 | len(text)) + text)
        return sock

    def _read(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(0.2):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                sock.recv(1 << 20)

    def close(self) -> None:
        self._ends = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@contextmanager
def process(with_page: bool) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway in a process of its own, and the port of its page."""
    with tempfile.TemporaryDirectory() as directory:
        code = f"from benchmarks.web import gateway; gateway({with_page})"
        running = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "STATE_DIRECTORY": directory},
        )
        try:
            assert running.stdout is not None
            yield running, int(running.stdout.readline())
        finally:
            running.kill()
            running.communicate()


def turn(running: subprocess.Popen[str]) -> float:
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.flush()
    return float(running.stdout.readline())


def rows() -> Rows:
    with process(False) as (without, _), process(True) as (within, port):
        turn(without)
        turn(within)
        alone = memory_of(within) - memory_of(without)
        browsers = Browsers(port, BROWSERS)
        turn(within)
        costs = [100 * (turn(within) - turn(without)) / TURN_S for _ in range(TURNS)]
        grown = memory_of(within) - memory_of(without)
        first = browsers.first_s
        browsers.close()
    yield "web: five browsers, 365 keys, 20 Hz", median(costs), "% of a core", 5.0, "lower"
    yield "web: from opening to the first values", 1e3 * first, "ms", 1000.0, "lower"
    # Of which up to 3 MiB are the values of the last 15 minutes.
    yield "web: memory without a browser", alone, "MiB", 15.0, "lower"
    yield "web: memory with five", grown, "MiB", 17.0, "lower"


def memory_of(running: subprocess.Popen[str]) -> float:
    """MiB of resident memory."""
    with open(f"/proc/{running.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
