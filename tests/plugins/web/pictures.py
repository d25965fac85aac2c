"""The pictures of the page in the documentation: `make pictures` takes them anew from a demo, in two minutes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
IMAGES = Path(__file__).parents[3] / "docs/images"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1180, "height": 760}
TABLET = {"width": 1024, "height": 940}
FLOWN_S = 65.0  # before the first picture, so that trends show something
SCENARIO = """\
description: The engine monitor is unplugged
events:
  - {at: 85, instrument: eis, fault: unplug, for: 60}
"""

#: Before the engine monitor is unplugged, and afterwards: name, page, size, theme.
BEFORE = [
    ("web-data", "data?search=oil&open=OILP1", DESK, "dark"),
    ("web-engine", "engine", TABLET, "dark"),
    ("web-trends", "trends?seconds=60&keys=EGT11,EGT12,EGT13,EGT14,OILP1", DESK, "day"),
    ("web-night", "engine", PHONE, "night"),
]
AFTER = [
    ("web-health", "health", PHONE, "day"),
    ("web-why", "data?search=OILP1&open=OILP1", PHONE, "dark"),
]


def take(browser: Any, url: str, name: str, page: str, size: dict[str, int], theme: str) -> None:
    context = browser.new_context(viewport=size, color_scheme="light" if theme == "day" else "dark")
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    tab = context.new_page()
    tab.goto(f"{url}#{page}")
    tab.locator(".light", has_text="LIVE").wait_for()
    tab.wait_for_timeout(2500)
    tab.screenshot(path=IMAGES / f"{name}.png")
    context.close()


def main() -> None:
    if CHROMIUM is None:
        sys.exit("there is no chromium-headless-shell: apt-get install chromium-headless-shell")
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        scenario = Path(directory) / "unplugged.yaml"
        scenario.write_text(SCENARIO)
        command = [sys.executable, "-m", "fixgw", "demo", "--port", "0", "--web-port", str(port)]
        environment = {**os.environ, "TMPDIR": "/dev/shm"}  # where the virtual devices are
        demo = subprocess.Popen(
            [*command, "--scenario", str(scenario)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        began = time.monotonic()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM)
                for pictures, at in ((BEFORE, FLOWN_S), (AFTER, 95.0)):
                    time.sleep(max(0.0, began + at - time.monotonic()))
                    for picture in pictures:
                        take(browser, f"http://127.0.0.1:{port}/", *picture)
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(10)


if __name__ == "__main__":
    main()
