"""The name of a gateway: that of its host, and digits that nothing else has."""

from __future__ import annotations

import re
import socket

import pytest

from fixgw.database import Database
from fixgw.identity import assign, identity


@pytest.mark.parametrize(
    ("host", "name"),
    [("panel.local.net", "panel"), ("Left_panel 2", "Left-panel-2"), ("x" * 41, "x" * 40), ("a-9Z", "a-9Z"), ("", "")],
)
def test_it_begins_with_the_name_of_the_host(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert re.fullmatch(re.escape(name) + "-[0-9a-f]{6}", identity(Database()))


def test_each_gateway_has_its_own_and_keeps_it() -> None:
    one, other = Database(), Database()
    assert identity(one) == identity(one) != identity(other)
    assign(one, "given")
    assert identity(one) == "given"
