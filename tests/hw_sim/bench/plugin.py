"""What pytest finds through its entry point ``pytest11``: the fixture `clock`, and readable failures of the suite.

It does nothing to tests that do not ask for it.
"""

from __future__ import annotations

import pytest

from fixgw.hw_sim.bench.clock import Clock

pytest.register_assert_rewrite("fixgw.hw_sim.bench.base", "fixgw.hw_sim.bench.contract")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test winds it on."""
    return Clock()
