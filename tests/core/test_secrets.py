"""Secrets in configurations are masked, whatever the form in which they are written."""

from __future__ import annotations

import pytest

from fixgw.configuration.secrets import MASK, is_secret, mask_text, mask_tree, mask_yaml


@pytest.mark.parametrize(
    "name",
    ["password", "Password", "mqtt_password", "wifi-passphrase", "passwd", "token", "accessToken", "api key", "apikey",
     "client_secret", "private_key", "tls_key_file", "keyfile", "psk", "credentials", "db.password", "authorization",
     "pasword", "mqtt_passwort", "wifipassword"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["key", "keys", "pin", "port", "compass", "author", "bypass", "monkey", "on_lost_lead", "pass-through"]
)
def test_other_names(name: str) -> None:
    assert is_secret(name) == (name == "pass-through")  # in doubt it is masked


def test_a_key_is_a_secret_only_in_tls() -> None:
    assert is_secret("key", ["web", "tls"])
    assert not is_secret("key", ["outputs"])


@pytest.mark.parametrize(
    "text",
    [
        "password: Hunter22",
        "web: {host: a, password: Hunter22, port: 1}",
        "  - token: 'Hunter22'",
        "password: |\n  Hunter22\n  Hunter22\nport: 1",
        "password: >-\n\n  Hunter22\nport: 1",
        "tokens:\n- Hunter22\n- x: Hunter22\nport: 1",
        "a: &pw Hunter22\nb: {password: *pw}",
        '"password" : "Hunter22"',
        "# password: Hunter22",
        "port: 1  # the password = Hunter22",
        "url: mqtt://joe:Hunter22@host:1883/x",
        "url: https://Hunter22@host/",
        "tls: {cert: a.pem, key: Hunter22}",
        "x: {{ broken\npassword: Hunter22\n",
        "x: {{ broken\npassword:\n  Hunter22\n",
        "x: {{ broken\npassword: |\n    Hunter22\n    Hunter22 more\nport: 1",
        "x: {{ broken\ntokens:\n- Hunter22\n- Hunter22\n",
        "x: [{{ broken, password: Hunter22, y: 1",
        "a: 1\n---\npassword: Hunter22\n",
        "text: |\n  -----BEGIN RSA PRIVATE KEY-----\n  Hunter22\n  -----END RSA PRIVATE KEY-----\nport: 1",
        "other: Hunter22\npassword: Hunter22",
        "\ufeffpassword: Hunter22",
        "pässword: 1\nnäme: ü\npassword: Hunter22\n",
        "password:\tHunter22",
        "password: Hunter22\r\nport: 1\r\n",
    ],
)
def test_secrets_in_any_form(text: str) -> None:
    masked, _ = mask_yaml(text)
    assert "Hunter22" not in masked
    assert MASK in masked
    assert ("port" in masked) == ("port" in text)


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = "connections:\n  gps: {module: fixgw.drivers.nmea0183, key: IAS, pin: 4}  # the key\n\n  # note: x\n"
    assert mask_yaml(text) == (text.removesuffix("\n"), set())
    text = "x: {{ broken\nport:  # not the password\n  4711"
    assert mask_yaml(text) == (text, set())


def test_depth_and_rubbish_are_survived() -> None:
    for text in ("[" * 3000 + "\npassword: Hunter22", "\0password: Hunter22", "- " * 500 + "a\npassword: Hunter22"):
        assert "Hunter22" not in mask_yaml(text)[0]


def test_a_known_secret_is_masked_elsewhere_but_not_within_words() -> None:
    assert mask_text("sent abcd, not abcdef", {"abcd", "f"}) == f"sent {MASK}, not abcdef"


def test_trees() -> None:
    web = {"token": "x", "tls": {"key": "y", "port": 1}, "password": ""}
    tree = {"web": web, "list": [{"secret": 1}], "key": "IAS"}
    assert mask_tree(tree) == {
        "web": {"token": MASK, "tls": {"key": MASK, "port": 1}, "password": ""},
        "list": [{"secret": MASK}],
        "key": "IAS",
    }
