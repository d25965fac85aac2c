"""What holds for all tests."""

from __future__ import annotations

import itertools
import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# A busy computer generates examples slowly, which says nothing about the tests.
settings.register_profile("fixgw", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixgw")

_states = tempfile.TemporaryDirectory(prefix="fixgw-tests-")
_tests = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What gateways keep over a restart, no test leaves to another, nor to the person who runs them."""
    os.environ["XDG_STATE_HOME"] = os.path.join(_states.name, str(next(_tests)))
