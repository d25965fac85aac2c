"""A gateway as a real process, which is started, killed, held up and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGSTOP, SIGTERM

from fixgw.errors import NotConnected
from fixgw.netfix import Client


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Life:
    """Successive gateways with one configuration, in which ``PORT`` stands for a free port, and one state directory."""

    def __init__(self, directory: Path, configuration: str) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        (directory / "default.yaml").write_text(configuration.replace("PORT", str(self.port)))
        self.state = directory / "state"
        self.process: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "STATE_DIRECTORY": str(self.state), "HOME": str(self.directory)}

    def start(self) -> Client:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--config-file", str(self.directory / "default.yaml")],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        client = Client("127.0.0.1", self.port, timeout=10.0)
        until(lambda: self.connects(client))
        return client

    def connects(self, client: Client) -> bool:
        try:
            client.connect()
        except NotConnected:
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()[0]
            return False
        return True

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def hold_up(self) -> None:
        self.signal(SIGSTOP)
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        until(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()))

    def end(self, number: int = SIGTERM) -> str:
        """What the process has printed."""
        self.signal(number)
        assert self.process is not None
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == (0 if number == SIGTERM else -number)
        return output

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
