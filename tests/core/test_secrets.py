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


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("password: Hunter22", {"Hunter22"}),
        ("a: {tokens: [one, {two: three}], port: 1}", {"one", "two", "three"}),
        ("tls: [{key: Hunter22}]", {"Hunter22"}),
        ("? [password]\n: {token: Hunter22}", {"Hunter22"}),
        ("token:\nport: 1\n", set()),
        ("x: {{ broken\npassword: 'Hunter22'\n", {"Hunter22"}),
        ("x: {{ broken\ntokens:\n- 'Hunter22'\n- \"other\"\n", {"Hunter22", "other"}),
        ("x: {{ broken\npassword: |2-\n  Hunter22\n\n  more\nport: 1\n  - 2\n", {"Hunter22", "more"}),
        ("x: {{ broken\na:\n  password: &p\n    Hunter22\n  port: 1\n", {"Hunter22"}),
    ],
)
def test_the_secrets_are_known_so_that_they_can_be_masked_elsewhere(text: str, secrets: set[str]) -> None:
    masked, found = mask_yaml(text)
    assert found - {"|2-", "&p"} == secrets  # what stands before a block is masked, too
    assert not any(secret in masked for secret in secrets if len(secret) > 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\npassword: one1\nb: 2\ntoken: two2\nc: 3", "a: 1\npassword: ***\nb: 2\ntoken: ***\nc: 3"),
        ("password: |\n  one1\n  one2\nport: 1", "password: ***\nport: 1"),
        ("x: {{ broken\npassword:\n  one1\nport: 1", "x: {{ broken\npassword:\n  ***\nport: 1"),
        ("x: {{ broken\n  - ab\n  - c: d", "x: {{ broken\n  - ab\n  - c: d"),
        ("x: {{ broken\ntokens:\n- one1\nport:\n- two2", "x: {{ broken\ntokens:\n***\nport:\n- two2"),
        ("x: {{ broken\ntoken: one1\n  two2: 3", "x: {{ broken\ntoken: ***\n  two2: 3"),
        ("  a: {{ broken\n  - b\n", "  a: {{ broken\n  - b"),
        ("a: &a {b: *a, password: one1}", "a: &a {b: *a, password: ***}"),
    ],
)
def test_all_but_the_secrets_stays(text: str, expected: str) -> None:
    assert mask_yaml(text)[0] == expected


def test_a_long_secret_is_masked_before_one_that_it_contains() -> None:
    assert mask_text("say abcd-efgh, abcd, abc", {"abcd", "abcd-efgh", "abc"}) == f"say {MASK}, {MASK}, abc"


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
    assert mask_tree({"TLS": [{"key": "y"}], "http": ({"Key": "y"},), "token": None, "n": 5}) == {
        "TLS": [{"key": MASK}],
        "http": [{"Key": MASK}],
        "token": None,
        "n": 5,
    }
    tree = {"web": web, "list": [{"secret": 1}], "key": "IAS"}
    assert mask_tree(tree) == {
        "web": {"token": MASK, "tls": {"key": MASK, "port": 1}, "password": ""},
        "list": [{"secret": MASK}],
        "key": "IAS",
    }
