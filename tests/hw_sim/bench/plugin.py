"""The pytest plugin (entry point ``pytest11``): fixtures for benches, and readable failures of the contract suite.

It does not affect other tests: a fixture imports what it needs when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw.hw_sim.bench.clock import Clock

pytest.register_assert_rewrite("fixgw.hw_sim.bench.base", "fixgw.hw_sim.bench.contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fixgw", "benches of FIX Gateway")
    group.addoption("--golden-update", action="store_true", help="write the outcomes of golden captures anew")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: uses sockets, devices or processes, or takes long")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test advances it."""
    return Clock()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare what drivers make of a capture with what they made of it before.

    golden("co.mcap") compares with co.txt; `pytest --golden-update` writes it. Paths are those of the test's folder.
    golden("gps.nmea", "gps.txt", config="gps.yaml", connection="gps") replays a file that has no configuration.
    """
    from fixgw.hw_sim.bench.golden import check

    folder = request.path.parent
    update: bool = request.config.getoption("golden_update")

    def compare(
        capture: str | Path, expected: str | Path = "", *, config: str | Path = "", connection: str = ""
    ) -> None:
        __tracebackhide__ = True
        check(
            folder / capture,
            folder / expected if expected else None,
            folder / config if config else None,
            connection,
            update,
        )

    return compare
