"""Recordings are listed, and fetched whole, in part, and as a table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.plugins.web import outside

from .conftest import Gateway

pytestmark = pytest.mark.slow
FLIGHT = Path(__file__).parents[2] / "data/recording/flight.mcap"


@pytest.fixture
def gateway(serve: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    (tmp_path / "flights").mkdir()
    shutil.copy(FLIGHT, tmp_path / "flights")
    (tmp_path / "secret.mcap").write_text("no")
    (tmp_path / "database.yaml").write_text("entries: [{key: IAS, type: float}]\n")
    text = (
        "connections: {recorder: {module: fixgw.plugins.recorder, directory: flights}}\ndatabase file: database.yaml\n"
    )
    (tmp_path / "default.yaml").write_text(text)
    loaded = configuration.load(tmp_path / "default.yaml")
    gateway = serve()
    gateway.world.configuration = lambda: loaded
    known: dict[tuple[str, ...], bytes] = {}
    printed = outside.printed
    monkeypatch.setattr(outside, "printed", lambda *words: known.get(words) or known.setdefault(words, printed(*words)))
    return gateway


def test_recordings(gateway: Gateway) -> None:
    data = FLIGHT.read_bytes()
    (found,) = gateway.ask("GET", "/api/v1/recordings").json["recordings"]
    assert (found["name"], found["size"]) == ("flight", len(data))
    assert "path" not in found
    whole = gateway.ask("GET", "/api/v1/recordings/flight")
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''flight.mcap"
    for asked, part in (("0-9", data[:10]), ("10-", data[10:]), ("-5", data[-5:]), (f"5-{len(data) * 2}", data[5:])):
        answer = gateway.ask("GET", "/api/v1/recordings/flight", Range=f"bytes={asked}")
        assert (answer.status, answer.body) == (206, part)
        start = data.rindex(part)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(data)}"
    assert gateway.ask("GET", "/api/v1/recordings/flight", Range=f"bytes={len(data)}-").code == "range"
    for asked in ("bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=" + "9" * 19 + "-"):
        assert gateway.ask("GET", "/api/v1/recordings/flight", Range=asked).status == 200
    head = gateway.ask("HEAD", "/api/v1/recordings/flight")
    assert (head.status, head.headers["content-length"]) == (200, str(len(data)))
    for name in ("secret", "..%2fsecret", "flight.mcap", "%2fetc%2fpasswd"):
        assert gateway.ask("GET", f"/api/v1/recordings/{name}").code == "file"


def test_a_recording_as_a_table(gateway: Gateway) -> None:
    table = gateway.ask("GET", "/api/v1/recordings/flight?to=csv")
    assert table.status == 200, table.body
    assert table.headers["content-type"].startswith("text/csv")
    lines = table.body.decode().splitlines()
    assert len(lines) > 5
    assert "IAS" in lines[0].split(",")


def test_a_recording_that_is_no_table_says_why(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "flights" / "flight.mcap").write_bytes(FLIGHT.read_bytes()[:50])
    answer = gateway.ask("GET", "/api/v1/recordings/flight?to=csv")
    assert (answer.status, answer.code) == (400, "value")
