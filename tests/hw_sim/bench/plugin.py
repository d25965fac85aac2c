"""The pytest plugin (entry point ``pytest11``): the fixture `clock`, and readable failures of the suite.

It does not affect other tests.
"""

from __future__ import annotations

import pytest

from fixgw.hw_sim.bench.clock import Clock

pytest.register_assert_rewrite("fixgw.hw_sim.bench.base", "fixgw.hw_sim.bench.contract")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: uses sockets, devices or processes, or takes long")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test advances it."""
    return Clock()
