"""`fixgw web`: codes, paired browsers, and the addresses of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fixgw.cli import main
from fixgw.plugins.web.access import Tokens

CONFIGURATION = """\
connections:
  web: {module: fixgw.plugins.web, host: 0.0.0.0, port: 8081, names: [panel.local], allow: [192.168.1.0/24]}
database file: database.yaml
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state" / "web.json"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str, code: int = 0) -> str:
        assert main(["web", *words]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def test_a_code_and_where_to_type_it(said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.net.access.own_addresses", lambda: ["192.168.1.5"])
    (tmp_path / "database.yaml").write_text("entries: [{key: IAS, type: float}]\n")
    (tmp_path / "default.yaml").write_text(CONFIGURATION)
    text = said("pair", "--role", "write", "--name", "Tablet", "--config-file", str(tmp_path / "default.yaml"))
    match = re.search(r"^Code: (\S{4}-\S{4}) ", text)
    assert match
    assert f"  http://panel.local:8081/#pair={match[1]}\n  http://192.168.1.5:8081/#pair={match[1]}\n" in text
    paired = Tokens().redeem(match[1])
    assert (paired.name, paired.role) == ("Tablet", "write")
    assert "Tablet  write  since 20" in said("list")
    assert json.loads(said("list", "--json"))[0].keys() == {"name", "role", "paired"}
    assert said("revoke", "Tablet") == "Tablet: revoked\n"
    assert said("list") == "no browser is paired\n"


def test_without_a_configuration_the_code_is_enough(said: Callable[..., str], tmp_path: Path) -> None:
    text = said("pair", "--config-file", str(tmp_path / "none.yaml"))
    assert "Type it into the page" in text
    assert Tokens().redeem(text.split()[1]).role == "read"


def test_what_is_wrong_is_said(said: Callable[..., str], state: Path) -> None:
    assert "no browser 'x' is paired" in said("revoke", "x", code=1)
    said("pair", "--name", "Tablet")
    assert "paired already" in said("pair", "--name", "Tablet", code=1)
    state.unlink()
    state.parent.rmdir()
    state.parent.write_text("")
    assert "cannot write" in said("pair", code=1)


def test_the_code_is_shown_for_a_camera_too(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database.yaml").write_text("entries: [{key: IAS, type: float}]\n")
    (tmp_path / "default.yaml").write_text(CONFIGURATION)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "▄" in said("pair", "--config-file", str(tmp_path / "default.yaml"))
