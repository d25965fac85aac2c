"""Runs what the host asks for, inside the machine.

Lines of JSON on a virtio port: {"id": 1, "run": "shell script", "timeout": 60} is answered with
{"id": 1, "status": 0, "output": "..."}; {"id": 2, "tcp": 3490, "send": [...], "until": "regex", "timeout": 60} with
the first line that matches. Every request has a thread of its own. The first line says hello.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from typing import Any

PORT = "/dev/virtio-ports/fixgw.vm"
ENVIRONMENT = {"PATH": "/opt/fixgw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def run(script: str, timeout: float) -> dict[str, object]:
    process = subprocess.Popen(
        ["/bin/bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        cwd="/run",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = 124
    return {"status": status, "output": output.decode(errors="replace")}


def tcp(port: int, send: list[str], until: str, timeout: float) -> dict[str, object]:
    """Connects to a port of the machine, again and again until somebody listens, and waits for a line."""
    deadline = time.monotonic() + timeout
    pattern = re.compile(until)
    last = ""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                connection.sendall("".join(f"{line}\n" for line in send).encode())
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                for line in connection.makefile(errors="replace"):
                    last = line.strip()
                    if pattern.search(last):
                        return {"status": 0, "output": last}
                    if time.monotonic() > deadline:
                        break
        except OSError:
            pass
        time.sleep(0.1)
    return {"status": 124, "output": last}


def main() -> None:
    while not os.path.exists(PORT):
        time.sleep(0.05)
    port = os.open(PORT, os.O_RDWR)
    lock = threading.Lock()

    def say(message: dict[str, object]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(port, data) :]

    def serve(request: dict[str, Any]) -> None:
        number = request.pop("id")
        try:
            if "tcp" in request:
                answer = tcp(request["tcp"], request["send"], request["until"], request["timeout"])
            else:
                answer = run(request["run"], request["timeout"])
        except Exception as error:
            answer = {"status": 125, "output": repr(error)}
        say({"id": number, **answer})

    say({"hello": time.clock_gettime(time.CLOCK_BOOTTIME)})
    rest = b""
    while True:
        data = os.read(port, 65536)
        if not data:  # the host has hung up
            time.sleep(0.05)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


if __name__ == "__main__":
    main()
