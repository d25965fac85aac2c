"""Roles, origins, codes and tokens: without sockets, and on a wound clock."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fixgw.hw_sim.bench.clock import Clock
from fixgw.net.access import address_of
from fixgw.plugins.web.access import CODE_S, MOST_CODES, Access, PairingError, Role, Tokens, is_same_origin

LAN = ["192.168.1.0/24"]
HERE = ["127.0.0.0/8", "::1"]


@pytest.mark.parametrize(
    ("host", "token", "role"),
    [
        ("127.0.0.1", None, "read"),
        ("::1", None, "read"),
        ("::ffff:127.0.0.1", None, "read"),
        ("127.0.0.1", "write", "write"),  # a browser on this computer was paired
        ("127.0.0.1", "admin", "admin"),
        ("192.168.1.7", None, None),  # others need both
        ("192.168.1.7", "read", "read"),
        ("192.168.1.7", "write", "write"),
        ("192.168.1.7", "admin", "write"),
        ("192.168.2.7", "admin", None),
    ],
)
def test_the_role_of_a_browser(host: str, token: Role | None, role: Role | None) -> None:
    access = Access([*HERE, *LAN], LAN, [])
    assert access.role(address_of(host), token) == role


def test_nobody_may_write_unless_the_options_say_so() -> None:
    access = Access(HERE, [], [])
    assert access.permissions(access.role(address_of("127.0.0.1"), None)) == ["read"]
    assert access.permissions(None) == []


def test_open_lets_others_read_and_no_more() -> None:
    access = Access(LAN, LAN, LAN, open=True)
    assert access.role(address_of("192.168.1.7"), None) == "read"
    assert access.role(address_of("192.168.2.7"), None) is None


def test_there_is_a_bench_only_with_the_option() -> None:
    without, within = Access(HERE, HERE, []), Access(HERE, HERE, [], bench=True)
    here = address_of("127.0.0.1")
    assert without.permissions(without.role(here, "bench")) == ["read", "write"]
    assert without.permissions("admin") == ["read", "write", "admin"]
    assert within.permissions(within.role(here, None)) == ["read", "write", "bench"]


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("10.0.0.5:8080", True),  # the address that was called
        ("panel.local:8080", True),
        ("10.0.0.6:8080", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@127.0.0.1", True),  # the host is what stands behind the @
        ("127.0.0.1@evil.example", False),
        ("", False),
        ("[", False),
        ("127.1", False),
    ],
)
def test_the_hosts_that_are_ours(host: str, ours: bool) -> None:
    assert Access(HERE, [], [], names=["panel.local"]).is_our_host(host, "10.0.0.5") is ours


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://127.0.0.1:8080", True),
        ("https://127.0.0.1:8080", True),
        ("http://127.0.0.1", False),
        ("http://127.0.0.1:8081", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
        (None, False),
        ("file://127.0.0.1:8080", False),
        ("127.0.0.1:8080", False),
    ],
)
def test_the_origins_that_are_ours(origin: str | None, same: bool) -> None:
    assert is_same_origin(origin, "127.0.0.1:8080") is same


# -- pairing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> Tokens:
    return Tokens(tmp_path / "state" / "web.json", clock)


def test_a_code_is_good_once(tokens: Tokens) -> None:
    code = tokens.pair("write", "Tablet")
    paired = tokens.redeem(code.lower().replace("-", " "))
    assert (paired.name, paired.role) == ("Tablet", "write")
    found = tokens.find(paired.token)
    assert found is not None
    assert found.role == "write"
    with pytest.raises(PairingError, match="wrong, used or older"):
        tokens.redeem(code)


def test_a_code_is_good_for_five_minutes(tokens: Tokens, clock: Clock) -> None:
    early, late = tokens.pair("read"), tokens.pair("read")
    clock.now += CODE_S - 1
    tokens.redeem(early)
    clock.now += 1
    with pytest.raises(PairingError):
        tokens.redeem(late)


def test_a_code_does_not_survive_a_restart_of_the_computer(tokens: Tokens, clock: Clock) -> None:
    code = tokens.pair("admin")
    tokens._boot = "another"
    with pytest.raises(PairingError):
        tokens.redeem(code)


def test_ten_wrong_codes_a_minute(tokens: Tokens, clock: Clock) -> None:
    code = tokens.pair("read")
    for _ in range(10):
        with pytest.raises(PairingError, match="wrong"):
            tokens.redeem("AAAA-AAAA")
    with pytest.raises(PairingError, match="too many") as error:
        tokens.redeem(code)
    assert error.value.too_many
    clock.now += 60
    tokens.redeem(code)


def test_the_file_has_no_secrets_and_is_for_its_owner_only(tokens: Tokens) -> None:
    code = tokens.pair("admin", "Tablet")
    token = tokens.redeem(code).token
    other = tokens.pair("read")
    text = tokens.path.read_text()
    assert "Tablet" in text
    for secret in (code, code.replace("-", ""), other, other.replace("-", ""), token):
        assert secret not in text
    assert os.stat(tokens.path).st_mode & 0o777 == 0o600


def test_what_another_process_does_counts_at_once(tokens: Tokens, clock: Clock) -> None:
    command = Tokens(tokens.path, clock)
    paired = tokens.redeem(command.pair("read"))
    other = tokens.redeem(command.pair("read"))
    assert [token.name for token in command.all()] == ["browser 1", "browser 2"]
    assert command.revoke("browser 1")
    assert tokens.find(paired.token) is None
    assert tokens.find(other.token) is not None
    assert not command.revoke("browser 1")
    tokens.path.unlink()
    assert tokens.find(other.token) is None


def test_names_are_unique_and_short(tokens: Tokens) -> None:
    tokens.pair("read", "a\nb" + 100 * "x")
    with pytest.raises(ValueError, match="paired already"):
        tokens.pair("read", "a\nb" + 100 * "x")
    assert tokens.redeem(tokens.pair("read", "")).name == "browser 1"


def test_codes_are_bounded(tokens: Tokens) -> None:
    for _ in range(3 * MOST_CODES):
        tokens.pair("read")
    assert len(json.loads(tokens.path.read_text())["codes"]) == MOST_CODES


def test_while_the_disk_is_full_nobody_is_paired_and_wrong_codes_count(tokens: Tokens, clock: Clock) -> None:
    code = tokens.pair("write", "Tablet")
    before = tokens.path.read_bytes()
    blocked = tokens.path.with_name(f".{tokens.path.name}.new")
    blocked.mkdir()  # so that it cannot be written
    with pytest.raises(OSError):
        tokens.redeem(code)
    with pytest.raises(OSError):
        tokens.pair("read")
    assert tokens.path.read_bytes() == before
    assert tokens.all() == []
    blocked.rmdir()
    assert tokens.redeem(code).name == "Tablet"

    tokens.pair("read")
    blocked.mkdir()
    clock.now += CODE_S  # so that an attempt would remove the code
    for _ in range(10):
        with pytest.raises(OSError):
            tokens.redeem("AAAA-AAAA")
    with pytest.raises(PairingError, match="too many"):
        tokens.redeem("AAAA-AAAA")


@pytest.mark.parametrize("text", ["", "{", '{"tokens": 5}', '{"tokens": [{"role": "god"}]}', "\0"])
def test_a_damaged_file_lets_nobody_in(tokens: Tokens, text: str) -> None:
    token = tokens.redeem(tokens.pair("read")).token
    tokens.path.write_text(text)
    assert tokens.find(token) is None
    assert tokens.find(tokens.redeem(tokens.pair("read")).token) is not None
