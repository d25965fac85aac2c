"""Recordings are listed, and fetched whole, in part, and as a table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.errors import FixgwError
from fixgw.plugins.web import outside
from fixgw.plugins.web.series import series
from fixgw.recording import open_recording

from .conftest import Gateway
from .recorded import UTC, record

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
    monkeypatch.setattr(
        outside, "printed", lambda *words, **more: known.get(words) or known.setdefault(words, printed(*words, **more))
    )
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


# -- as points for a chart ---------------------------------------------------------------------------------------------


def points(path: Path, *patterns: str, since: float = 0.0, until: float | None = None, points: int = 10) -> Any:
    recording = open_recording(path)
    try:
        return series(recording, patterns, since, until, points)
    finally:
        recording.close()


def egt(path: Path, **stretch: Any) -> tuple[list[Any], list[Any], list[int]]:
    found = points(path, "EGT11", **stretch)["keys"]["EGT11"]
    return found["low"], found["high"], found["gaps"]


def test_a_spike_and_a_moment_that_was_not_good_stay_however_long_a_point_is(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    spike: list[Any] = [(51.0, "/engine", {"EGT11": 900.0}), (51.02, "/engine", {"EGT11": 700.0})]
    drop: list[Any] = [(62.0, "/engine", {"EGT11": -5.0}), (62.02, "/engine", {"EGT11": 700.0})]
    failed: list[Any] = [(75.0, "/flags", {"EGT11": "00010"}), (75.1, "/flags", {"EGT11": "00000"})]
    steady: list[Any] = [(float(n), "/flight", {"IAS": float(n)}) for n in range(101)]
    told = sorted([(0.0, "/engine", {"EGT11": 700.0}), *spike, *drop, *failed, *steady], key=lambda each: each[0])
    record(path, *told)
    low, high, gaps = egt(path)
    assert low == [700.0] * 6 + [-5.0] + [700.0] * 3
    assert high == [700.0] * 5 + [900.0] + [700.0] * 4
    assert gaps == [7]
    # The shorter the stretch, the better it is told.
    low, high, gaps = egt(path, since=74.5, until=75.5)
    assert low == high == [700.0] * 5 + [None] + [700.0] * 4
    assert gaps == [5]
    answer = points(path, "EGT1?", "NONE", since=40.0, until=60.0)
    assert {key: facts and facts["units"] for key, facts in answer["keys"].items()} == {"EGT11": "degC", "NONE": None}
    assert (answer["recorded"], answer["start"], answer["length"]) == (["EGT11", "IAS"], UTC, 100.0)
    assert (answer["from"], answer["until"], answer["step"]) == (40.0, 60.0, 2.0)


@pytest.mark.parametrize("flag", ["01000", "00100", "00010"])
def test_what_was_flagged_or_not_recorded_is_never_a_value(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "a.mcap"
    record(
        path,
        *((float(n), "/flight", {"IAS": 90.0}) for n in range(20)),
        (20.0, "/engine", {"EGT11": 700.0}),
        (30.0, "/flags", {"EGT11": flag}),
        (35.0, "/engine", {"EGT11": 650.0}),  # while it is flagged
        (40.0, "/flags", {"EGT11": "00001"}),
        (90.0, "/engine", {"EGT11": 600.0}),  # 10 s after the message before, nothing is known
        (100.0, "/engine", {"EGT11": None}),
        (101.0, "/engine", {"EGT11": "hot"}),
        (102.0, "/engine", {"EGT11": True}),
        (110.0, "/flight", {"IAS": 90.0}),
    )
    seen = [None, None, 700.0, None, 650.0, *[None] * 4, 600.0, None]
    assert egt(path, points=11) == (seen, seen, [n for n, value in enumerate(seen) if value is None])
    # It does not look as if something had been recorded at the beginning of a stretch.
    assert egt(path, since=60.0, until=80.0) == ([None] * 10, [None] * 10, [*range(10)])
    assert egt(path, since=45.0, until=55.0)[0] == [650.0] * 5 + [None] * 5
    # Nor after the end of the recording.
    assert egt(path, since=95.0, until=115.0, points=4)[0] == [600.0, None, None, None]


def test_the_points_say_what_the_recording_says(tmp_path: Path) -> None:
    recording = open_recording(FLIGHT)
    since, until, count = 1.3, 6.1, 7
    answer = series(recording, ["IAS", "PITCH", "TACH1"], since, until, count)
    step = (until - since) / count
    for key, found in answer["keys"].items():
        changes = [c for c in recording.changes([key]) if not c.flags & 0b01110]
        times = [c.time - recording.about.start - since for c in changes]
        for n in range(count):
            # What lasted during the point: the last value before it, and those that began in it.
            meant: list[Any] = [
                c.value
                for c, t, end in zip(changes, times, [*times[1:], 99.0], strict=True)
                if t < (n + 1) * step - 1e-5 and end > n * step + 1e-5
            ]
            assert (found["low"][n], found["high"][n]) == (min(meant), max(meant)), (key, n)
        assert found["gaps"] == []
    recording.close()


def test_too_many_keys_and_a_stretch_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FixgwError, match="more than 40 keys"):
        points(FLIGHT, "*")
    with pytest.raises(FixgwError, match=r"flight lasts 7\.\d s: there is nothing after 60 s"):
        points(FLIGHT, "IAS", since=60.0)


def test_a_chart_of_a_recording(gateway: Gateway, tmp_path: Path) -> None:
    told: list[Any] = [(n / 10, "/engine", {"EGT11": 700.0 + n}) for n in range(20)]
    record(tmp_path / "flights/cut.mcap", *told, sources="sim/eis", finish=False)
    (tmp_path / "flights/foreign.mcap").write_bytes(b"PNG, or so")
    address = "/api/v1/recordings/flight/series"
    answer = gateway.ask("GET", f"{address}?keys=IAS,EGT1*&from=2&until=5&points=30")
    assert answer.status == 200, answer.body
    meant = points(FLIGHT, "IAS", "EGT1*", since=2.0, until=5.0, points=30)
    assert answer.json == meant
    assert len(answer.json["keys"]["IAS"]["low"]) == 30
    assert (answer.json["simulated"], answer.json["notes"]) == (False, [])
    cut = gateway.ask("GET", "/api/v1/recordings/cut/series?keys=EGT11").json
    assert len(cut["keys"]["EGT11"]["low"]) == 600
    assert cut["simulated"]
    assert [note.partition(":")[0] for note in cut["notes"]] == [
        "Values of this flight are simulated, replayed or overridden.",
        "The recording was not finished",
    ]
    foreign = gateway.ask("GET", "/api/v1/recordings/foreign/series")
    assert (foreign.status, foreign.code) == (400, "value")
    assert "foreign.mcap" in foreign.json["error"]
    for query in ("from=-1", "from=nan", "until=x", "from=5&until=5.5", "points=2001", "points=0.5", "from=inf"):
        assert gateway.ask("GET", f"{address}?{query}").code == "value", query
    assert gateway.ask("GET", f"{address}?keys={','.join(map(str, range(41)))}").code == "value"
    for name in ("secret", "..%2fsecret", "flight.mcap"):
        assert gateway.ask("GET", f"/api/v1/recordings/{name}/series").code == "file"
