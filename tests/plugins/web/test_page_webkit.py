"""The page in WebKitGTK, the engine of Safari's family: the same rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw.kit.update import BAD

from .browsing import HOSTILE, Served

pytestmark = pytest.mark.slow

MINIBROWSER = next(iter(sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), reverse=True)), None)
DRIVER = shutil.which("WebKitWebDriver")
XVFB = shutil.which("Xvfb")
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    if XVFB is None or DRIVER is None or MINIBROWSER is None:
        pytest.skip("there is no WebKitGTK: apt-get install webkit2gtk-driver xvfb xauth")
    read, write = os.pipe()
    with subprocess.Popen([XVFB, "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        try:
            number = os.read(read, 16).decode().strip()
            assert number, "Xvfb does not start"
            yield f":{number}"
        finally:
            os.close(read)
            server.terminate()


@pytest.fixture(scope="module")
def driver(display: str) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(MINIBROWSER)
    options.add_argument("--automation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", display)
        patch.setenv("WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS", "1")
        service = webdriver.WebKitGTKService(executable_path=DRIVER)
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # of selenium, for its own call
            started = webdriver.WebKitGTK(options=options, service=service)
        started.set_window_size(1000, 800)
        yield started
        started.quit()


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    served = Served()
    yield served
    served.close()


def text(driver: Any, selector: str) -> str:
    """The text of the first match; empty if there is none."""
    script = "return document.querySelector(arguments[0])?.textContent ?? ''"
    return str(driver.execute_script(script, selector))


def until(driver: Any, selector: str, said: Callable[[str], bool]) -> None:
    """Wait until the element says so."""
    began = time.monotonic()
    while not said(found := text(driver, selector)):
        assert time.monotonic() - began < PATIENCE_S, f"{selector} says {found!r}"
        time.sleep(0.05)


def visible(driver: Any, selector: str) -> bool:
    script = "const e = document.querySelector(arguments[0]); return !!e && getComputedStyle(e).display !== 'none'"
    return bool(driver.execute_script(script, selector))


def test_the_page_works_in_webkit(gateway: Served, driver: Any) -> None:
    gateway.put("ALT", 1234.4)
    gateway.put("OILP1", 70.0)
    gateway.put("WPNAME", HOSTILE)
    driver.get(f"{gateway.url}#data")
    until(driver, "#r-ALT .value", lambda found: found == "1234")
    until(driver, "#r-WPNAME .value", lambda found: found == HOSTILE)
    assert driver.execute_script("return document.images.length") == 0
    driver.execute_script("document.querySelector('#r-ALT .open').click()")
    until(driver, ".reasons", lambda found: "Good" in found)
    gateway.put("ALT", 1234.4, BAD)
    until(driver, "#r-ALT .flags", lambda found: "BAD" in found)
    until(driver, ".reasons", lambda found: "Bad" in found)

    driver.get(f"{gateway.url}#engine")
    until(driver, "[data-key=OILP1] .value", lambda found: found == "70")
    assert visible(driver, "[data-key=OILP1] .needle")
    gateway.db.item("OILP1").fail("the sensor is unplugged", "eis")
    until(driver, "[data-key=OILP1] .state", lambda found: "FAILED" in found)
    assert not visible(driver, "[data-key=OILP1] .needle")
    assert visible(driver, "[data-key=OILP1] .cross")

    driver.get(f"{gateway.url}#trends?keys=ALT&night")
    until(driver, ".legend", lambda found: "ALT" in found)
    assert driver.execute_script("return document.documentElement.dataset.theme") == "night"


def test_webkit_covers_the_page_when_the_gateway_is_gone(gateway: Served, driver: Any) -> None:
    driver.get(f"{gateway.url}#health")
    until(driver, ".light", lambda found: found == "LIVE")
    gateway.close()
    until(driver, "#cover", lambda found: "Nothing on this page is current" in found)
    assert text(driver, ".light") == "NO LINK"
