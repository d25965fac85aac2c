"""The page of a whole gateway: it restarts, reloads and stops while browsers are there."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fixgw.plugins.web
from fixgw import configuration
from fixgw.gateway import Gateway
from fixgw.plugins.web import outside

from .conftest import Answer, Page, Raw

pytestmark = pytest.mark.slow

TEXT = """\
connections:
  web: {module: fixgw.plugins.web, port: 0, rate: 50, admin: [127.0.0.0/8], write: [127.0.0.0/8]}
  alerts:
    module: fixgw.plugins.alerts
    alerts: [{id: oil, key: OILP1, text: OIL PRESSURE, level: warning, below: 25}]
database file: database.yaml
"""


class Running:
    def __init__(self, folder: Path) -> None:
        (folder / "database.yaml").write_text("entries: [{key: OILP1, type: float, min: 0, max: 200, tol: 0}]\n")
        self.file = folder / "default.yaml"
        self.file.write_text(TEXT)
        self.gateway = Gateway(configuration.load(self.file), reload=lambda: configuration.load(self.file))
        self.thread = threading.Thread(target=self.gateway.run_forever, args=(False,))
        self.thread.start()
        self.until(lambda: self.port > 0)

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @property
    def port(self) -> int:
        runner = self.gateway.runners.get("web")
        return getattr(runner.plugin, "port", 0) if runner is not None and runner.settled else 0

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        client = Raw(self.port)
        try:
            return client.ask(method, path, body)
        finally:
            client.close()

    def page(self) -> Page:
        page = Page(self.port)
        assert page.open().status == 101
        page.message()
        page.want(keys="*", rate=50)
        return page

    def stop(self) -> float:
        begun = time.monotonic()
        self.gateway.request_stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return time.monotonic() - begun


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    running = Running(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def own_modules() -> Iterator[None]:
    """A restart reads the code again; other tests know the modules of before."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("fixgw.plugins.web")}
    yield
    sys.modules.update(before)
    fixgw.plugins.web = before["fixgw.plugins.web"]


@pytest.mark.usefixtures("own_modules")
def test_a_restart_of_the_page_itself(running: Running) -> None:
    page, before = running.page(), running.port
    # While the gateway is still starting, it refuses.
    running.until(lambda: running.ask("POST", "/api/v1/connections/web/restart", {}).status == 200)
    with pytest.raises(EOFError):
        page.until(lambda m: False)
    page.close()
    running.until(lambda: running.port not in (0, before))
    page = running.page()
    assert page.until(lambda m: "verdict" in m)["verdict"]["health"] == "ok"
    page.close()


def test_a_change_is_applied_and_taken_back(running: Running) -> None:
    opened = running.ask("GET", "/api/v1/config/files/default.yaml").json
    text = TEXT.replace("OIL PRESSURE", "OIL")
    answer = running.ask("PUT", "/api/v1/config/files/default.yaml", {"text": text, "revision": opened["revision"]})
    assert answer.json["connections"] == ["alerts"]
    running.until(lambda: running.gateway.reloads == 1)
    assert running.ask("POST", "/api/v1/config/take-back", {"file": "default.yaml"}).status == 200
    running.until(lambda: running.gateway.reloads == 2)
    assert running.file.read_text() == TEXT


def test_alarms_come_by_themselves_and_are_acknowledged(running: Running) -> None:
    page = running.page()
    running.gateway.database.write("OILP1", 10.0, "eis", 0)
    (alarm,) = page.until(lambda m: m.get("alarms"))["alarms"]
    assert (alarm["id"], alarm["level"], alarm["state"], alarm["connection"]) == ("oil", "warning", "active", "alerts")
    assert running.ask("POST", "/api/v1/alarms", {"command": "ack oil"}).status == 200
    page.until(lambda m: m.get("alarms") and m["alarms"][0]["state"] == "acknowledged")
    page.close()


def test_it_stops_within_a_second_whatever_goes_on(running: Running) -> None:
    pages = [running.page() for _ in range(3)]
    busy = Raw(running.port)
    busy.send(f"GET /api/v1/doctor HTTP/1.1\r\nHost: {busy.host}\r\n\r\n")
    running.until(lambda: outside._running)
    assert running.stop() < 2.0
    assert running.gateway.exit_code == 0
    for client in (busy, *pages):
        client.close()
