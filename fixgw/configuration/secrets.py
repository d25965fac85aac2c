"""Masks secrets in a configuration, and in texts about it: what people show to others must not contain passwords.

A name such as ``password``, ``token`` or ``api_key`` makes its value a secret, and so does ``key`` within ``tls``, for
elsewhere a key is that of an item. When in doubt, mask: a report with a mask too many is still of use.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

__all__ = ["MASK", "is_secret", "mask_text", "mask_tree", "mask_yaml"]

MASK = "***"
MIN_LENGTH = 4  # of a secret that is masked wherever it occurs

_WORDS = (
    r"pas{1,3}(?:w\w*|phrase|code)?s?|pwd|secrets?|tokens?|credentials?|psk|auth(?:orization)?|bearer|cookies?"
    r"|(?:api|access|private|public|secret|shared|host|client|server|session|signing|encryption|tls|ssl|wpa"
    r"|cert(?:ificate)?|auth)[ _-]?key(?:s|[ _-]?file|[ _-]?data)?|key[ _-]?(?:file|data)|keyfile"
)
#: The words stand alone, or at either end of a name in which other words stand before or behind them.
_NAME = re.compile(rf"(?:.*[^a-z0-9])?(?:{_WORDS})(?:[^a-z0-9].*)?\Z|.*(?:pas{{1,3}}w\w*|secret|token|apikey)s?\Z")
_HOLDERS = re.compile(r"(?:.*[^a-z0-9])?(?:tls|ssl|https?|certs?|certificates?)\Z")
#: ``name: value`` or ``name = value`` anywhere in a line.
_SETTING = re.compile(r"([A-Za-z][\w .-]*?)([\"']?\s*[:=]\s*)(?=\S)(?!\*\*\*)(.*)\Z")
_URL = re.compile(r"(\w+://)[^\s/@:]*(?::[^\s/@]*)?@")
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*-----|\Z)", re.DOTALL)


def is_secret(name: str, holders: Collection[str] = ()) -> bool:
    """Whether the value of an option with this name is a secret; `holders` are the names of what it is in.

    >>> is_secret("MQTT_Password"), is_secret("key"), is_secret("key", ["tls"]), is_secret("pin")
    (True, False, True, False)
    """
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    if _NAME.match(snake):
        return True
    return snake == "key" and any(_HOLDERS.match(holder.lower()) for holder in holders)


def mask_tree(tree: Any, holders: tuple[str, ...] = ()) -> Any:
    """A status tree or the like without its secrets."""
    if isinstance(tree, Mapping):
        return {
            name: MASK
            if is_secret(str(name), holders) and value not in (None, "")
            else mask_tree(value, (*holders, str(name)))
            for name, value in tree.items()
        }
    return [mask_tree(entry, holders) for entry in tree] if isinstance(tree, list | tuple) else tree


def mask_yaml(text: str) -> tuple[str, set[str]]:
    """The text of a YAML file without its secrets, and these. Never raises; masks by lines what is not YAML."""
    secrets: set[str] = set()
    try:
        documents = list(yaml.compose_all(text, yaml.SafeLoader))
        found = [node for document in documents for node in _secret_nodes(document, (), set())]
    except (yaml.YAMLError, RecursionError, ValueError):
        found = []
    spans = sorted({(n.start_mark.index, n.end_mark.index) for n in found}, reverse=True)
    for node in found:
        secrets.update(_scalars(node))
    for start, end in spans:
        kept = text[start:end]
        tail = kept[len(kept.rstrip()) :]  # a block ends behind its last line
        text = text[:start] + MASK + tail + text[end:]
    lines, masked = text.splitlines(), []
    deeper = -1  # the indent of a secret whose value stands in the next lines
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        if deeper >= 0 and line.strip() and (indent > deeper or (indent == deeper and line.lstrip().startswith("- "))):
            secrets.add(line.strip().removeprefix("- ").strip("\"'"))
            line = " " * indent + MASK
        elif line.strip():
            deeper = -1
            opened = re.match(r"\s*(?:- )?[\"']?([\w .-]+)[\"']?\s*:\s*(?:[|>][0-9+-]*|&\w+)?\s*(?:#.*)?\Z", line)
            if opened and is_secret(opened[1].strip()):
                deeper = indent
            line, said = _mask_setting(line)
            secrets |= said
        masked.append(line)
    return mask_text("\n".join(masked), secrets), secrets


def mask_text(text: str, secrets: Collection[str] = ()) -> str:
    """Lines of any text without what looks like a secret, and without `secrets`, which are known."""
    text = _URL.sub(rf"\1{MASK}@", _PEM.sub(rf"\1 {MASK} \2", text))
    for secret in sorted((s for s in secrets if len(s) >= MIN_LENGTH), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return "\n".join(_mask_setting(line)[0] for line in text.split("\n"))


def _mask_setting(line: str) -> tuple[str, set[str]]:
    """Mask the rest of the line behind the first name of a secret in it."""
    at = 0
    while match := _SETTING.search(line, at):
        if is_secret(match[1].strip()):
            secret = match[3].strip().strip("\"'")
            return line[: match.start(3)] + MASK, {secret}
        at = match.start(3)
    return line, set()


def _secret_nodes(node: yaml.Node | None, holders: tuple[str, ...], seen: set[int]) -> Iterator[yaml.Node]:
    """The nodes that are values of secrets. An alias is the node itself, where its anchor is."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if is_secret(name, holders):
                if not (isinstance(value, yaml.ScalarNode) and value.value == ""):
                    yield value
            else:
                yield from _secret_nodes(value, (*holders, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _secret_nodes(entry, holders, seen)


def _scalars(node: yaml.Node) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        yield node.value.strip()
        return
    for each in node.value:
        for part in each if isinstance(each, tuple) else (each,):
            yield from _scalars(part)
