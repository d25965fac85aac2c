"""Votes for a leader over NetFIX: the incumbent's configuration, and its sentences by hand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.gateway import Gateway

pytestmark = pytest.mark.slow

TEXT = """\
database file: "{{CONFIG}}/database.yaml"
connections:
  netfix:
    module: fixgw.plugins.netfix
    type: both
    host: 127.0.0.1
    port: 0
    buffer_size: 1024
    timeout: 1.0
    clients: [{{host: 127.0.0.1, port: {port}}}]
    outputs: [QVOTE1]
  quorum: {{module: fixgw.plugins.quorum, nodeid: 1, total_nodes: 2}}
"""
ITEMS = """\
entries:
  - {key: QVOTE1, type: int, max: 500, tol: 1000}
  - {key: QVOTE2, type: int, max: 500, tol: 1000}
  - {key: LEADER, type: bool}
"""


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_a_pair_with_the_incumbent(tmp_path: Path) -> None:
    """The other gateway is two sockets: it listens for our vote, and writes its own to our server."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    (tmp_path / "default.yaml").write_text(TEXT.format(port=listener.getsockname()[1]))
    (tmp_path / "database.yaml").write_text(ITEMS)
    gateway = Gateway(configuration.load(tmp_path / "default.yaml"))
    thread = threading.Thread(target=gateway.run_forever, args=(False,))
    thread.start()
    try:
        until(lambda: "quorum" in gateway.runners and gateway.runners["quorum"].state.value == "running")
        db, quorum = gateway.database, gateway.world.quorum
        theirs, _ = listener.accept()
        theirs.settimeout(10)
        lines = theirs.makefile("r")
        introduction = lines.readline()
        theirs.sendall(f"{introduction.strip()}!001\n".encode())  # the incumbent does not know the command
        votes = [line for line in (lines.readline() for _ in range(8)) if line.startswith("QVOTE1;")]
        assert votes[-1] == "QVOTE1;1;0000\n"
        until(lambda: quorum.leader)

        netfix: Any = gateway.runners["netfix"].plugin
        vote = socket.create_connection(("127.0.0.1", netfix.port))
        vote.sendall(b"QVOTE2;2;0000\n")
        until(lambda: not quorum.leader)
        assert db.read("QVOTE2").good
        vote.sendall(b"QVOTE1;1;0000\n")
        until(lambda: "node 1 is also at netfix/127.0.0.1" in gateway.summary())
        vote.close()
        until(lambda: quorum.leader)

        theirs.close()
        lines.close()
        listener.close()
        until(lambda: not quorum.leader, 5)
        assert "its own vote cannot be sent" in gateway.summary()
    finally:
        gateway.request_stop()
        thread.join(20)
        listener.close()
    assert not thread.is_alive()
