"""The pytest plugin (entry point ``pytest11``): fixtures for benches, and readable failures of the contract suite.

It does not affect other tests: a fixture imports what it needs when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixgw.hw_sim.bench.clock import Clock

if TYPE_CHECKING:
    from fixgw.hw_sim.bench.gateways import Airplane, Bed, CanBus, Tested
    from fixgw.hw_sim.bench.words import Expect, Latencies
    from fixgw.hw_sim.gpio import Bank
    from fixgw.hw_sim.pty import VirtualPort
    from fixgw.hw_sim.scenario import Scenario
    from fixgw.netfix.client import Client

pytest.register_assert_rewrite("fixgw.hw_sim.bench.base", "fixgw.hw_sim.bench.contract")

CLOCKS = ("wound", "real")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fixgw", "benches of FIX Gateway")
    group.addoption("--golden-update", action="store_true", help="write the outcomes of golden captures anew")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: uses sockets, devices or processes, or takes long")
    config.addinivalue_line(
        "markers",
        'clock("wound", "real"): the clock of the gateways in the test: wound by the test (the default), or real; '
        "with both, the test runs twice",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("clock")
    if mark is not None and "_bed" in metafunc.fixturenames:
        if not mark.args or set(mark.args) - set(CLOCKS):  # without any, pytest would skip the test
            named = ", ".join(map(str, mark.args)) or "nothing"
            pytest.fail(f"{metafunc.definition.nodeid}: the clock is wound or real, not {named}", pytrace=False)
        kinds = [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "real")) for kind in mark.args]
        metafunc.parametrize("_bed", kinds, indirect=True)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test advances it."""
    return Clock()


@pytest.fixture
def _bed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    from fixgw.hw_sim.bench.gateways import Bed

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    bed = Bed(tmp_path / "gateways", getattr(request, "param", "wound") == "real", request.path.parent)
    try:
        yield bed
    finally:
        bed.close()
    if forgotten := bed.forgotten():
        pytest.fail(f"{forgotten} was never judged: end it with now(), by(...) or throughout(...)", pytrace=False)


@pytest.fixture
def gateway(_bed: Bed) -> Callable[..., Tested]:
    """Start a gateway with virtual devices: gateway("default.yaml", engine=Eis, gps=Gps).

    The first argument is the file of a configuration, beside the test, or its connections with their options. The
    others are the virtual devices, by connection, wherever its options look for them. A second argument is a scenario.
    Several gateways of one test fly together. Its clock is wound by the test, or real: see the mark `clock`.
    """
    return _bed.gateway


@pytest.fixture
def expect(_bed: Bed) -> Expect:
    """Expect something of the gateway: expect("OILP1").within(2, of=62).by(3 * s); see fixgw.hw_sim.bench.words.

    If there are several gateways, say which: left.expect("OILP1").
    """
    return _bed.expect


@pytest.fixture
def no_other_key_changed(_bed: Bed) -> Callable[..., AbstractContextManager[None]]:
    """Expect that only some keys or patterns change: `with no_other_key_changed("OIL*"):`."""
    return lambda *but: _bed.only.no_other_key_changed(*but)


@pytest.fixture
def latency(_bed: Bed) -> Callable[..., Latencies]:
    """Measure how long a value takes from the aircraft to the database: assert latency("OILP1", 50, 60).p99 < 0.3."""
    return lambda *args, **more: _bed.only.latency(*args, **more)


@pytest.fixture
def fly(_bed: Bed) -> Callable[[float], None]:
    """Let so many seconds pass, on the clock of the test."""
    return _bed.fly


@pytest.fixture
def aircraft(_bed: Bed) -> Airplane:
    """What the virtual devices measure, by key: aircraft["OILP1"] = 12.0, del aircraft["OILP1"]."""
    return _bed.aircraft


@pytest.fixture
def fault(_bed: Bed) -> Callable[..., AbstractContextManager[Any]]:
    """Something is wrong with a device meanwhile: `with fault("truncate", on="engine", rate=0.5):`.

    The faults are those of scenarios, by the same names. `on` may be left out if there is only one device.
    """
    return _bed.fault


@pytest.fixture
def scenario(_bed: Bed) -> Callable[[str], Scenario]:
    """Read a scenario for a gateway: the name of a file beside the test, a packaged one, or the text itself (YAML)."""
    return _bed.scenario


@pytest.fixture
def can_bus(_bed: Bed) -> CanBus:
    """A CAN bus for connections of several gateways: gateway({...}, canfix=can_bus). `can_bus.segment` takes nodes."""
    return _bed.bus


@pytest.fixture
def pins(_bed: Bed) -> Callable[[], Bank]:
    """The virtual pins of the gateway, if its connection has `library: fixgw.hw_sim.gpio`: pins().press(17)."""
    return lambda: _bed.only.pins


@pytest.fixture
def netfix(_bed: Bed) -> Callable[[], Client]:
    """Connect a NetFIX client to the gateway: netfix().read("IAS"). With several gateways: left.netfix()."""
    return lambda: _bed.only.netfix()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[VirtualPort]:
    """A virtual serial port, for a test that sends the bytes itself: port.write(b"..."), at port.path."""
    from fixgw.hw_sim.pty import VirtualPort

    with VirtualPort(str(tmp_path / "port")) as made:
        yield made


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
