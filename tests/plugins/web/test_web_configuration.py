"""The configuration by the page: shown, checked, applied and taken back; by admins only."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.plugins.web import outside

from .conftest import HERE, Gateway

pytestmark = pytest.mark.slow
Serve = Callable[..., Gateway]

TEXT = """\
# mine
connections:
  average:
    module: fixgw.plugins.annunciate
  more:
    include: parts/more.yaml
database file: database.yaml
"""
MORE = "module: fixgw.plugins.netfix\nport: 0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "parts").mkdir(parents=True)
    (folder / "database.yaml").write_text("entries: [{key: IAS, type: float}]\n")
    (folder / "default.yaml").write_text(TEXT)
    (folder / "parts" / "more.yaml").write_text(MORE)
    return folder


@pytest.fixture
def gateway(serve: Serve, folder: Path) -> Gateway:
    gateway = serve(admin=HERE)
    loaded = [configuration.load(folder / "default.yaml")]
    gateway.reloads = 0

    def reload() -> str:
        loaded.append(configuration.load(folder / "default.yaml"))
        gateway.reloads += 1
        return ""

    gateway.world.configuration = lambda: loaded[-1]
    gateway.world.reload = reload
    return gateway


def open_file(gateway: Gateway, name: str) -> dict[str, str]:
    answer = gateway.ask("GET", f"/api/v1/config/files/{name}")
    assert answer.status == 200, answer.body
    return dict(answer.json)


def test_the_files_and_the_effective_tree(gateway: Gateway) -> None:
    found = gateway.ask("GET", "/api/v1/config").json
    names = {each["name"]: each for each in found["files"]}
    assert names["default.yaml"] == {"name": "default.yaml", "editable": True, "main": True, "backup": False}
    assert names["parts/more.yaml"]["editable"] is True
    assert found["effective"]["connections"]["more"]["port"] == 0
    assert open_file(gateway, "parts/more.yaml")["text"].startswith("module: ")


def test_files_are_named_by_the_list_and_never_by_a_path(gateway: Gateway) -> None:
    for name in ("../web.json", "/etc/passwd", "%2fetc%2fpasswd", "parts/../default.yaml", "default.yaml~", "."):
        for method in ("GET", "PUT"):
            answer = gateway.ask(method, f"/api/v1/config/files/{name}", {"text": TEXT} if method == "PUT" else None)
            assert answer.status == 404
        assert gateway.ask("POST", "/api/v1/config/check", {"file": name, "text": TEXT}).code == "file"


def test_a_check_saves_nothing_and_shows_problems_at_their_lines(gateway: Gateway, folder: Path) -> None:
    text = TEXT.replace("annunciate", "annunciato")
    found = gateway.ask("POST", "/api/v1/config/check", {"file": "default.yaml", "text": text}).json
    (problem,) = found["problems"]
    assert (problem["file"], problem["line"]) == ("default.yaml", 4)
    assert "annunciate" in problem["message"]
    found = gateway.ask(
        "POST", "/api/v1/config/check", {"file": "parts/more.yaml", "text": "port: x\nmodule: fixgw.plugins.netfix\n"}
    ).json
    assert {(p["file"], p["line"]) for p in found["problems"]} >= {("parts/more.yaml", 1)}
    found = gateway.ask("POST", "/api/v1/config/check", {"file": "default.yaml", "text": "{"}).json
    assert found["problems"]
    assert (folder / "default.yaml").read_text() == TEXT
    assert gateway.reloads == 0
    assert not list(folder.glob("*~"))


def test_a_check_says_which_connections_change(gateway: Gateway) -> None:
    text = TEXT.replace("  average:", "  mean:")
    found = gateway.ask("POST", "/api/v1/config/check", {"file": "default.yaml", "text": text}).json
    assert (found["problems"], sorted(found["connections"])) == ([], ["average", "mean"])
    more = {"file": "parts/more.yaml", "text": "module: fixgw.plugins.netfix\nport: 3491\n"}
    assert gateway.ask("POST", "/api/v1/config/check", more).json["connections"] == ["more"]


def test_apply_replaces_keeps_the_old_text_and_reloads(gateway: Gateway, folder: Path) -> None:
    os.chmod(folder / "default.yaml", 0o640)
    opened = open_file(gateway, "default.yaml")
    text = TEXT.replace("  average:", "  mean:")
    answer = gateway.ask("PUT", "/api/v1/config/files/default.yaml", {"text": text, "revision": opened["revision"]})
    assert answer.status == 200, answer.body
    assert sorted(answer.json["connections"]) == ["average", "mean"]
    assert (folder / "default.yaml").read_text() == text
    assert (folder / "default.yaml~").read_text() == TEXT
    assert os.stat(folder / "default.yaml").st_mode & 0o777 == 0o640
    assert gateway.reloads == 1
    assert open_file(gateway, "default.yaml")["revision"] == answer.json["revision"]
    taken = gateway.ask("POST", "/api/v1/config/take-back", {"file": "default.yaml"}).json
    assert taken["text"] == TEXT == (folder / "default.yaml").read_text()
    assert gateway.reloads == 2
    gateway.ask("POST", "/api/v1/config/take-back", {"file": "default.yaml"})
    assert (folder / "default.yaml").read_text() == text


def test_problems_are_not_applied(gateway: Gateway, folder: Path) -> None:
    opened = open_file(gateway, "default.yaml")
    body = {"text": TEXT + "nonsense: 5\n", "revision": opened["revision"]}
    answer = gateway.ask("PUT", "/api/v1/config/files/default.yaml", body)
    assert (answer.status, answer.code) == (400, "problems")
    assert answer.json["problems"][0]["line"] == 8
    assert (folder / "default.yaml").read_text() == TEXT
    assert gateway.reloads == 0


def test_a_file_that_somebody_else_has_changed_is_not_overwritten(gateway: Gateway, folder: Path) -> None:
    opened = open_file(gateway, "default.yaml")
    (folder / "default.yaml").write_text(TEXT + "# theirs\n")
    for revision in (opened["revision"], None):
        body = {"text": TEXT + "# mine\n", "revision": revision}
        answer = gateway.ask("PUT", "/api/v1/config/files/default.yaml", body)
        assert (answer.status, answer.code) == (409, "changed")
    assert "theirs" in (folder / "default.yaml").read_text()


def test_files_of_the_package_are_not_changed(gateway: Gateway) -> None:
    loaded = configuration.load(configuration.packaged() / "default.yaml")
    gateway.world.configuration = lambda: loaded
    found = gateway.ask("GET", "/api/v1/config").json["files"]
    assert len(found) > 5
    assert not any(each["editable"] for each in found)
    name = "database/engine.yaml"
    opened = open_file(gateway, name)
    answer = gateway.ask("PUT", f"/api/v1/config/files/{name}", {"text": "x", "revision": opened["revision"]})
    assert (answer.status, answer.code) == (409, "disk")


def test_nothing_is_applied_in_flight_unless_confirmed(gateway: Gateway, folder: Path) -> None:
    gateway.db.write("IAS", 80.0, "adc")
    opened = open_file(gateway, "default.yaml")
    body = {"text": TEXT + "# new\n", "revision": opened["revision"]}
    assert gateway.ask("PUT", "/api/v1/config/files/default.yaml", body).code == "in-flight"
    assert (folder / "default.yaml").read_text() == TEXT
    assert gateway.ask("PUT", "/api/v1/config/files/default.yaml", {**body, "force": True}).status == 200


def test_a_link_to_a_file_stays_a_link(gateway: Gateway, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(TEXT)
    (folder / "default.yaml").unlink()
    (folder / "default.yaml").symlink_to(tmp_path / "real.yaml")
    opened = open_file(gateway, "default.yaml")
    body = {"text": TEXT + "# new\n", "revision": opened["revision"]}
    assert gateway.ask("PUT", "/api/v1/config/files/default.yaml", body).status == 200
    assert (folder / "default.yaml").is_symlink()
    assert "# new" in (tmp_path / "real.yaml").read_text()
    gateway.ask("POST", "/api/v1/config/take-back", {"file": "default.yaml"})
    assert (tmp_path / "real.yaml").read_text() == TEXT


def test_secrets_are_not_in_the_effective_tree(gateway: Gateway, folder: Path) -> None:
    loaded = configuration.load(folder / "default.yaml")
    loaded.connections[0].options["password"] = "hunter22"
    gateway.world.configuration = lambda: loaded
    answer = gateway.ask("GET", "/api/v1/config")
    assert "hunter22" not in answer.body.decode()
    assert answer.json["effective"]["connections"]["average"]["password"] == "***"


def test_only_admins_see_the_configuration(serve: Serve) -> None:
    gateway = serve(write=HERE, bench=True)
    for path in ("config", "config/files/default.yaml", "config/modules"):
        assert gateway.ask("GET", f"/api/v1/{path}").code == "role"
    for path in ("config/check", "config/take-back"):
        assert gateway.ask("POST", f"/api/v1/{path}", {}).code == "role"
    assert gateway.ask("PUT", "/api/v1/config/files/default.yaml", {}).code == "role"
    assert gateway.ask("PUT", "/api/v1/log/level", {}).code == "role"


def test_other_commands_answer_for_the_gateway(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def printed(*words: str) -> bytes:
        asked.append(words)
        return b"[]"

    monkeypatch.setattr(outside, "printed", printed)
    assert gateway.ask("GET", "/api/v1/config/modules").json == []
    assert gateway.ask("GET", "/api/v1/doctor").json == []
    assert asked == [("plugins", "--json"), ("doctor", "--json", str(gateway.world.configuration().file))]  # type: ignore[union-attr]


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="no recording 'nothing'"):
        outside.printed("export", "nothing", "--to", "csv")


def test_the_level_of_a_connections_log(gateway: Gateway) -> None:
    assert gateway.ask("PUT", "/api/v1/log/level", {"connection": "average", "level": "DEBUG"}).json == {}
    logger = logging.getLogger("fixgw.plugins.average")
    assert logger.level == logging.DEBUG
    logger.setLevel(logging.NOTSET)
    assert gateway.ask("PUT", "/api/v1/log/level", {"connection": "nope", "level": "DEBUG"}).status == 404
    assert gateway.ask("PUT", "/api/v1/log/level", {"connection": "average", "level": "LOUD"}).status == 400
