"""The gateway in a virtual machine, when that is asked for: it takes minutes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run")
UNAVAILABLE = 77


@pytest.mark.skipif(os.environ.get("FIXGW_VM") != "1", reason="takes minutes: FIXGW_VM=1, or tests/vm/run by itself")
@pytest.mark.timeout(1800)
def test_it_runs_under_systemd_on_a_small_debian() -> None:
    done = subprocess.run([RUN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
